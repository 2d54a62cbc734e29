//! Who is speaking: SCRAM-SHA-256 (RFC 5802, RFC 7677) on both sides of the proxy, a certificate, a token → Principal. No I/O.
//!
//! The client proves its password to us against a stored verifier; the client key that its proof reveals is what we log
//! in upstream with, so that no password is ever known here. But a server that has the same verifier learns that key, too, by each
//! log-in (RFC 5802, section 9), and could then log in here. For those of whom it shall learn nothing (a password that it does not
//! know, a certificate, a token) a credential is kept, which logs in upstream as the role that the configuration names. Guarantees: an unknown user sees exactly
//! what a wrong password sees; comparisons are constant-time; parsing is total; the principal is always who the client proved to be,
//! whatever role it gets upstream. Deliberately absent: sockets, files, policy.

pub mod otp;
pub mod scram;
pub mod token;

use crate::policy::Principal;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// PostgreSQL's stored form, `SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey` (pg_authid.rolpassword). No `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Verifier {
    pub iterations: u32,
    pub salt: Vec<u8>,
    pub stored_key: [u8; 32],
    pub server_key: [u8; 32],
}

/// Who may log in, by name.
pub type Verifiers = BTreeMap<String, Verifier>;

/// PostgreSQL's default (`SCRAM_SHA_256_DEFAULT_ITERATIONS`).
pub const ITERATIONS_DEFAULT: u32 = 4096;

/// PostgreSQL's own (`SCRAM_DEFAULT_SALT_LEN`), in bytes.
pub const SALT_BYTES: usize = 16;

impl Verifier {
    /// Reads the stored form; `None` for any other (md5, plain text, another mechanism).
    pub fn parse(text: &str) -> Option<Verifier> {
        let rest = text.strip_prefix("SCRAM-SHA-256$")?;
        let (parameters, keys) = rest.split_once('$')?;
        let (iterations, salt) = parameters.split_once(':')?;
        let (stored, server) = keys.split_once(':')?;
        let key = |text: &str| <[u8; 32]>::try_from(STANDARD.decode(text).ok()?).ok();
        let iterations = iterations.parse().ok().filter(|iterations| *iterations > 0)?;
        let salt = STANDARD.decode(salt).ok()?;
        Some(Verifier { iterations, salt, stored_key: key(stored)?, server_key: key(server)? })
    }

    /// The stored form, as PostgreSQL takes it in `ALTER ROLE … PASSWORD`.
    pub fn text(&self) -> String {
        format!(
            "SCRAM-SHA-256${}:{}${}:{}",
            self.iterations,
            STANDARD.encode(&self.salt),
            STANDARD.encode(self.stored_key),
            STANDARD.encode(self.server_key)
        )
    }

    /// The verifier of a password. Prepared with SASLprep where that accepts it, as PostgreSQL does.
    pub fn from_password(password: &str, salt: &[u8], iterations: u32) -> Verifier {
        let keys = scram::Keys::derive(password, salt, iterations);
        Verifier {
            iterations,
            salt: salt.to_vec(),
            stored_key: scram::sha256(keys.client_key.as_ref()),
            server_key: keys.server_key,
        }
    }
}

/// How someone logs in for whom pgveil logs in to the database by a credential of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// A password that the database does not know.
    Password,
    /// A client certificate in the user's name.
    Certificate,
    /// A token of the OpenID provider that names the user.
    Token,
}

impl Method {
    /// As it stands in configuration, messages and records.
    pub fn name(self) -> &'static str {
        match self {
            Method::Password => "password",
            Method::Certificate => "certificate",
            Method::Token => "token",
        }
    }
}

/// How such a user logs in, in no other way than this.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogIn {
    pub method: Method,
    /// The role that it gets in the database, whose credential is kept.
    pub upstream: String,
}

/// Who logs in so, by name.
pub type LogIns = BTreeMap<String, LogIn>;

/// The passwords of roles in the database that are kept here, by role.
pub type Credentials = BTreeMap<String, Arc<scram::Credential>>;

/// Whom the name on a certificate, or a claim of a token, names (as `pg_ident.conf` does).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Naming {
    /// What it says without this end, which it must have: `@example.org`.
    Suffix(String),
    /// As this table says, each one or several; what is not in it names nobody.
    Table(BTreeMap<String, BTreeSet<String>>),
}

/// It does not name the user that is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unnamed {
    Nobody,
    Another,
}

impl Naming {
    /// Whether `said` names `user`.
    ///
    /// # Errors
    /// It does not.
    pub fn names(&self, said: &str, user: &str) -> Result<(), Unnamed> {
        let named = match self {
            Naming::Suffix(suffix) => {
                let named = said.strip_suffix(suffix.as_str()).filter(|named| !named.is_empty());
                named.ok_or(Unnamed::Nobody)? == user
            }
            Naming::Table(table) => table.get(said).ok_or(Unnamed::Nobody)?.contains(user),
        };
        if named { Ok(()) } else { Err(Unnamed::Another) }
    }
}

/// A name of its own is everybody's.
impl Default for Naming {
    fn default() -> Naming {
        Naming::Suffix(String::new())
    }
}

/// Who has shown that it is who it says, by other means than the database knows: only checking them makes one.
pub struct Named(String);

impl Named {
    /// Whether the common name of a certificate that the TLS handshake has verified is `user`'s.
    ///
    /// # Errors
    /// It is not.
    pub fn certified(user: &str, common_name: &str, naming: &Naming) -> Result<Named, Unnamed> {
        naming.names(common_name, user).map(|()| Named(user.to_owned()))
    }

    /// `proved` can only come from a successful [`scram::ServerFinal::finish`]; its keys are good for nothing else.
    pub fn proved(user: &str, _proved: scram::Proved) -> Named {
        Named(user.to_owned())
    }
}

/// What a successful exchange leaves: what to log in upstream with, and who it is.
pub struct LoggedIn {
    pub principal: Principal,
    pub secret: scram::Secret,
}

impl LoggedIn {
    /// `proved` can only come from a successful [`scram::ServerFinal::finish`].
    pub fn by_password(user: &str, database_roles: BTreeSet<String>, proved: scram::Proved) -> LoggedIn {
        LoggedIn {
            principal: Principal::authenticated(user.to_owned(), database_roles),
            secret: scram::Secret::Proved(proved.into_keys()),
        }
    }

    /// Whoever logs in upstream, the principal is the one that was named.
    pub fn by_name(
        named: Named,
        database_roles: BTreeSet<String>,
        credential: Arc<scram::Credential>,
    ) -> LoggedIn {
        LoggedIn {
            principal: Principal::authenticated(named.0, database_roles),
            secret: scram::Secret::Kept(credential),
        }
    }
}

#[cfg(test)]
mod tests;

//! Who is speaking: SCRAM-SHA-256 (RFC 5802, RFC 7677) on both sides of the proxy → Principal. No I/O.
//!
//! The client proves its password to us against a stored verifier; the client key that its proof reveals is what we log
//! in upstream with, so that no password is ever known here. Guarantees: an unknown user sees exactly what a wrong
//! password sees; comparisons are constant-time; parsing is total. Deliberately absent: sockets, files, policy.

pub mod otp;
pub mod scram;

use crate::policy::Principal;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::collections::{BTreeMap, BTreeSet};

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

/// What a successful exchange leaves: the keys to log in upstream with, and who it is.
pub struct LoggedIn {
    pub principal: Principal,
    pub keys: scram::Keys,
}

impl LoggedIn {
    /// `proved` can only come from a successful [`scram::ServerFinal::finish`].
    pub fn new(user: &str, database_roles: BTreeSet<String>, proved: scram::Proved) -> LoggedIn {
        LoggedIn {
            principal: Principal::authenticated(user.to_owned(), database_roles),
            keys: proved.into_keys(),
        }
    }
}

#[cfg(test)]
mod tests;

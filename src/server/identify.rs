//! Whether a client is who it says, in the one way that the configuration has for this user: the proof of a password, a certificate, or
//! a token.
//!
//! Guarantees: no way stands in for another, and of a password that the database is not to know it learns nothing; who logs in by a certificate is not asked for a password, and whose token does not hold is
//! not asked again; every way is held off alike after too many failures; a token is asked for within TLS only. Deliberately absent: what
//! the client may do (policy), and what it becomes in the database (`upstream`).

use super::Prepared;
use super::listener::{Origin, Shared};
use super::settings::AuthSource;
use super::startup::{self, Rejection, fatal, unproved};
use super::stream::Peer;
use super::upstream::cannot_log_in;
use crate::audit::InsteadOfPassword;
use crate::auth::scram::Credential;
use crate::auth::{LogIn, LoggedIn, Method, Named, Unnamed, Verifier};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

/// Who it is, as what it logs in upstream, and how it came in where that was not by the keys that log in upstream, too.
pub(super) struct Identified {
    pub(super) logged_in: LoggedIn,
    pub(super) upstream: String,
    pub(super) method: Option<Method>,
}

impl Identified {
    /// What the audit log says of it.
    pub(super) fn instead(&self) -> Option<InsteadOfPassword> {
        let method = self.method?.name().to_owned();
        Some(InsteadOfPassword { method, upstream: self.upstream.clone() })
    }
}

/// Has the client show who it is. AuthenticationOk has not been sent.
///
/// # Errors
/// [`Rejection`].
pub(super) async fn identify(
    client: &mut Peer,
    user: &str,
    encrypted: bool,
    origin: Origin,
    shared: &Shared,
) -> Result<Identified, Rejection> {
    // All of one configuration, whatever comes meanwhile.
    let prepared = shared.worlds.prepared();
    let door = Door { user, origin, shared };
    match prepared.settings.log_ins.get(user) {
        None => {
            let verifier = verifier(user, shared, &prepared).await?;
            let allowed = || door.allows();
            let proved = startup::prove(client, user, verifier, &shared.mock_secret, &allowed).await?;
            door.let_in();
            let logged_in = LoggedIn::by_password(user, roles(user, shared, &prepared).await?, proved);
            Ok(Identified { logged_in, upstream: user.to_owned(), method: None })
        }
        Some(LogIn { method, upstream }) => {
            let named = match method {
                Method::Password => door.password(client, &prepared).await?,
                Method::Certificate => door.certificate(client, &prepared)?,
                Method::Token => door.token(client, encrypted, &prepared).await?,
            };
            door.let_in();
            let credential = credential(upstream, &prepared)?;
            let logged_in = LoggedIn::by_name(named, roles(user, shared, &prepared).await?, credential);
            Ok(Identified { logged_in, upstream: upstream.clone(), method: Some(*method) })
        }
    }
}

/// One user at one address, before whom failures count.
struct Door<'a> {
    user: &'a str,
    origin: Origin,
    shared: &'a Shared,
}

impl Door<'_> {
    /// Whether this guess may be judged.
    fn allows(&self) -> bool {
        let most = self.shared.rim.load().settings.listen.failures_per_minute;
        let allowed = self.shared.throttle.guess(self.origin.address(), self.user, most, Instant::now());
        if !allowed {
            let address = self.origin.text();
            tracing::warn!(user = self.user, address, "held off: too many failed log-ins");
        }
        allowed
    }

    /// The guess was right.
    fn let_in(&self) {
        self.shared.throttle.succeeded(self.origin.address(), self.user);
    }

    /// A password of users.toml, wherever else users are looked up: the database is not to know it.
    async fn password(&self, client: &mut Peer, prepared: &Prepared) -> Result<Named, Rejection> {
        let verifier = prepared.users.get(self.user).cloned();
        let allowed = || self.allows();
        let proved = startup::prove(client, self.user, verifier, &self.shared.mock_secret, &allowed).await?;
        Ok(Named::proved(self.user, proved))
    }

    fn certificate(&self, client: &Peer, prepared: &Prepared) -> Result<Named, Rejection> {
        // PostgreSQL's words, which say nothing of the certificate.
        let refused = |why: &str| {
            let message = format!("certificate authentication failed for user \"{}\"", self.user);
            startup::undisclosed("28000", &message, why)
        };
        if !self.allows() {
            return Err(refused(HELD_OFF));
        }
        let Some(name) = &client.certified else {
            return Err(refused("no certificate with a name was shown"));
        };
        let naming = &prepared.settings.certificate_names;
        Named::certified(self.user, name, naming).map_err(|unnamed| match unnamed {
            Unnamed::Nobody => refused("the certificate is in nobody's name"),
            Unnamed::Another => refused("the certificate is in another name"),
        })
    }

    async fn token(
        &self,
        client: &mut Peer,
        encrypted: bool,
        prepared: &Prepared,
    ) -> Result<Named, Rejection> {
        if !encrypted {
            return Err(fatal(
                "28000",
                &format!("user \"{}\" logs in by a token, which needs an encrypted connection", self.user),
                Some("Connect by TCP with sslmode=require or stricter."),
            ));
        }
        let token = startup::token(client).await?;
        if !self.allows() {
            return Err(unproved(self.user, &HELD_OFF));
        }
        let Some(settings) = &prepared.settings.token else {
            // Reading the configuration makes sure of one.
            return Err(unproved(self.user, &"there is no provider of tokens"));
        };
        let judged = self.shared.token_keys.judge(settings, self.user, token.as_bytes()).await;
        judged.map_err(|unfit| unproved(self.user, &unfit))
    }
}

const HELD_OFF: &str = "too many failed log-ins";

/// What to log in to the database as `role` with.
fn credential(role: &str, prepared: &Prepared) -> Result<Arc<Credential>, Rejection> {
    prepared.credentials.get(role).cloned().ok_or_else(|| {
        tracing::error!(role, "there is no credential for this role; run: pgveil upstream set {role}");
        cannot_log_in(role)
    })
}

/// The user's verifier, from `users.toml` or the database's look-up function.
async fn verifier(user: &str, shared: &Shared, prepared: &Prepared) -> Result<Option<Verifier>, Rejection> {
    match prepared.settings.auth {
        AuthSource::File => Ok(prepared.users.get(user).cloned()),
        AuthSource::Database => {
            let settings = &prepared.settings.database;
            let unavailable = |error| {
                tracing::error!(%error, "the look-up of users failed");
                fatal("57P03", "users cannot be looked up now", None)
            };
            shared.service.verifier(settings, user).await.map_err(unavailable)
        }
    }
}

/// The user's roles in PostgreSQL, where policy counts them: those of its own name, whatever role it gets upstream.
async fn roles(user: &str, shared: &Shared, prepared: &Prepared) -> Result<BTreeSet<String>, Rejection> {
    if !prepared.policy.trust_database_roles {
        return Ok(BTreeSet::new());
    }
    let unavailable = |error| {
        tracing::error!(%error, "the look-up of roles failed");
        fatal("57P03", "roles cannot be looked up now", None)
    };
    shared.service.roles_of(&prepared.settings.database, user).await.map_err(unavailable)
}

//! What all proxies of a database share: which one-time codes were used, and how often someone tried.
//!
//! Kept in schema `pgveil` of the service database, behind functions that `init` makes and only the service user may call.
//! Guarantees: a code counts once, whichever proxies it is given to, and only after that was committed; what cannot be looked
//! up or written down does not count. The database's administrators can change what is kept there, so each proxy also
//! remembers what it has seen itself: with their help a code may count once more at another proxy, never at this one.
//! Deliberately absent: who has which secret (`users.toml`), and what follows from a code that counts (the relay).

use super::listener::Shared;
use super::service::{self, ServiceError};
use super::settings::DatabaseSettings;
use crate::auth::otp::SecondFactors;
use crate::relay::ledger::{Answer, Asker, Question, Tried};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::oneshot;
use tokio_postgres::Client;

/// Longest wait for the database's answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// Wrong codes in a row after which none is looked at for a while; the database's function has the same number.
pub const TRIES: u32 = 5;
/// How long at first; it doubles with each time, as long as no right code comes between.
pub const LOCK_SECONDS: u64 = 15 * 60;

/// The connection, and what this proxy has seen.
#[derive(Default)]
pub struct Ledger {
    client: tokio::sync::Mutex<Option<Arc<Client>>>,
    seen: Mutex<HashMap<String, Seen>>,
}

/// What this proxy saw of one user's codes.
#[derive(Default)]
struct Seen {
    /// The newest step that counted.
    last: u64,
    wrong: u32,
    locked_until: Option<Instant>,
}

impl Seen {
    /// Seconds for which no code is looked at.
    fn locked(&self) -> Option<u64> {
        let left = self.locked_until?.checked_duration_since(Instant::now())?;
        Some(left.as_secs().max(1))
    }

    fn failed(&mut self) {
        self.wrong += 1;
        if self.wrong >= TRIES {
            self.wrong = 0;
            self.locked_until = Some(Instant::now() + Duration::from_secs(LOCK_SECONDS));
        }
    }
}

/// Answers a question, unless nobody waits for it any more.
pub async fn answer(shared: &Shared, question: Question, to: oneshot::Sender<Answer>) {
    let prepared = shared.worlds.prepared();
    let settings = &prepared.settings.database;
    let answer = match question {
        Question::Code { user, code } => {
            Answer::Code(shared.ledger.try_code(settings, &prepared.factors, &user, &code).await)
        }
    };
    // The connection may be gone.
    let _ = to.send(answer);
}

/// What is answered where the ledger itself did not.
pub fn unavailable(asker: Asker) -> Answer {
    match asker {
        Asker::Client => Answer::Code(Tried::Unavailable),
    }
}

impl Ledger {
    /// Tries a one-time code of `user`.
    pub async fn try_code(
        &self,
        settings: &DatabaseSettings,
        factors: &SecondFactors,
        user: &str,
        code: &str,
    ) -> Tried {
        let Some(totp) = factors.get(user) else { return Tried::Unknown };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let step = totp.step(code, now);
        if let Some(seconds) = self.with(user, |seen| seen.locked()) {
            return Tried::Locked(seconds);
        }
        // Of one that this proxy saw before, the database is told that it is wrong.
        let step = step.filter(|step| self.with(user, |seen| *step > seen.last));
        let tried = match self.judge(settings, user, step).await {
            Ok(tried) => tried,
            Err(error) => {
                tracing::error!(%error, "a one-time code cannot be checked: the ledger does not answer");
                return Tried::Unavailable;
            }
        };
        self.with(user, |seen| match (tried, step) {
            (Tried::Given, Some(step)) => *seen = Seen { last: step, ..Seen::default() },
            (Tried::Wrong | Tried::Used, _) => seen.failed(),
            _ => {}
        });
        let was_right = step.is_none() && totp.step(code, now).is_some();
        if tried == Tried::Wrong && was_right { Tried::Used } else { tried }
    }

    fn with<R>(&self, user: &str, work: impl FnOnce(&mut Seen) -> R) -> R {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        work(seen.entry(user.to_owned()).or_default())
    }

    /// The database's verdict; `step` is `None` for a code that is of no step about now.
    async fn judge(
        &self,
        settings: &DatabaseSettings,
        user: &str,
        step: Option<u64>,
    ) -> Result<Tried, ServiceError> {
        let client = self.client(settings).await?;
        let step = step.map(|step| i64::try_from(step).unwrap_or(i64::MAX));
        let answer = service::in_time(ANSWER_TIMEOUT, async {
            let row = client
                .query_one("SELECT verdict, seconds FROM pgveil.second_factor($1, $2)", &[&user, &step])
                .await?;
            Ok((row.try_get::<_, String>(0)?, row.try_get::<_, i64>(1)?))
        })
        .await;
        if answer.as_ref().is_err_and(|error| error.sqlstate.is_none()) {
            *self.client.lock().await = None;
        }
        let (verdict, seconds) = answer?;
        match verdict.as_str() {
            "given" if step.is_some() => Ok(Tried::Given),
            "used" => Ok(Tried::Used),
            "wrong" => Ok(Tried::Wrong),
            "locked" => Ok(Tried::Locked(u64::try_from(seconds).unwrap_or(LOCK_SECONDS))),
            _ => Err(ServiceError { sqlstate: None, message: "the ledger gave no verdict".to_owned() }),
        }
    }

    async fn client(&self, settings: &DatabaseSettings) -> Result<Arc<Client>, ServiceError> {
        let mut kept = self.client.lock().await;
        if let Some(client) = kept.as_ref().filter(|client| !client.is_closed()) {
            return Ok(client.clone());
        }
        let client = Arc::new(service::ledger(settings).await?);
        *kept = Some(client.clone());
        Ok(client)
    }

    /// The next question is asked over a new connection: the settings may be others.
    pub async fn forget(&self) {
        *self.client.lock().await = None;
    }
}

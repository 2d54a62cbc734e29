//! What all proxies of a database share: which one-time codes were used, how often someone tried, and how many rows of an hour or
//! a day are given out.
//!
//! Kept in schema `pgveil` of the service database, behind functions that `init` makes and only the service user may call.
//! Guarantees: a code counts once, whichever proxies it is given to, and only after that was committed; what cannot be looked
//! up or written down does not count. Rows are leased in blocks and counted before they are used; what was not used within
//! seconds is returned, and a proxy that is killed takes with it what it held. The database's administrators can change what is kept there, so each proxy also
//! remembers what it has seen itself, before it asks: with their help a code may count once more at another proxy, never at this one,
//! and a wrong one counts as a try whatever the database says of it, or does not say.
//! Deliberately absent: who has which secret (`users.toml`), and what follows from a code that counts (the relay).

use super::listener::Shared;
use super::service::{self, ServiceError};
use super::settings::DatabaseSettings;
use crate::auth::otp::SecondFactors;
use crate::policy::RowLimits;
use crate::policy::budget::{Budgets, Floor, Rest, Span};
use crate::relay::ledger::{Answer, Asker, Leased, Question, Tried};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::oneshot;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row};

/// Longest wait for the database's answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// Wrong codes in a row after which none is looked at for a while; the database's function has the same number.
pub const TRIES: u32 = 5;
/// How long at first; it doubles with each time, as long as no right code comes between.
pub const LOCK_SECONDS: u64 = 15 * 60;

/// Rows that a lease brings beyond those that are wanted, where the limit has that many and more.
pub const LEASE_ROWS: u64 = 1000;

const SECOND_FACTOR: &str = "SELECT verdict, seconds FROM pgveil.second_factor($1, $2)";
const LEASE: &str = "SELECT leased, at_minute, short_of FROM pgveil.lease($1, $2, $3, $4, $5, $6)";
const GIVE_BACK: &str = "SELECT pgveil.give_back($1, $2, $3, $4)";

/// What one lease brought.
struct More {
    rows: u64,
    minute: i64,
    short: Option<Span>,
}

/// The connection, and what this proxy has seen.
pub struct Ledger {
    client: tokio::sync::Mutex<Option<Arc<Client>>>,
    /// Held while a lease is made.
    floor: tokio::sync::Mutex<Floor>,
    started: Instant,
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

    /// A code is tried, of this step of time; `None` for a wrong one. What is judged here holds before the ledger is asked: who could
    /// change its answers, or have it answer none, would otherwise have as many tries as it likes.
    fn attempt(&mut self, step: Option<u64>) -> Attempt {
        if let Some(seconds) = self.locked() {
            return Attempt::Locked(seconds);
        }
        match step.filter(|step| *step > self.last) {
            Some(step) => Attempt::New(std::mem::replace(&mut self.last, step)),
            None => {
                self.failed();
                Attempt::Wrong
            }
        }
    }

    /// A right code was not looked at: it is still good, unless a later one was tried meanwhile.
    fn not_looked_at(&mut self, step: u64, before: u64) {
        if self.last == step {
            self.last = before;
        }
    }

    fn failed(&mut self) {
        self.wrong += 1;
        if self.wrong >= TRIES {
            self.wrong = 0;
            self.locked_until = Some(Instant::now() + Duration::from_secs(LOCK_SECONDS));
        }
    }
}

/// What this proxy alone says of a code.
#[derive(Debug, PartialEq, Eq)]
enum Attempt {
    Locked(u64),
    /// Of a step that none was of; with the newest one before it.
    New(u64),
    /// Wrong, or seen before.
    Wrong,
}

/// Answers a question, unless nobody waits for it any more.
pub async fn answer(shared: &Shared, question: Question, to: oneshot::Sender<Answer>) {
    let prepared = shared.worlds.prepared();
    let settings = &prepared.settings.database;
    match question {
        Question::Code { user, code } => {
            let tried = shared.ledger.try_code(settings, &prepared.factors, &user, &code).await;
            // The connection may be gone; the code is used all the same.
            let _ = to.send(Answer::Code(tried));
        }
        Question::Lease { user, rules, wanted } => {
            let leased = shared.ledger.lease(settings, &shared.budgets, &user, &rules, wanted).await;
            if let Err(error) = &leased {
                tracing::error!(%error, "rows cannot be counted: the ledger does not answer");
            }
            let leased = leased.ok();
            // The connection may be gone: then nobody uses what was taken for it.
            if let Err(Answer::Lease(Some(Leased { rows, .. }))) = to.send(Answer::Lease(leased)) {
                rules.iter().for_each(|(rule, _)| shared.budgets.give_back(&user, rule, rows));
            }
        }
    }
}

/// Returns what is held and not used, each second and for as long as the proxy runs.
pub async fn sweep(shared: Arc<Shared>) {
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let rests = shared.budgets.sweep();
        if !rests.is_empty() {
            return_all(&shared, rests).await;
        }
    }
}

/// Returns everything that is held: the proxy stops.
pub async fn close(shared: &Shared) {
    let rests = shared.budgets.drain();
    return_all(shared, rests).await;
}

async fn return_all(shared: &Shared, rests: Vec<Rest>) {
    let prepared = shared.worlds.prepared();
    for rest in rests {
        if let Err(error) = shared.ledger.give_back(&prepared.settings.database, &rest).await {
            // They count as used until their window has passed.
            tracing::warn!(%error, rule = &*rest.rule, rows = rest.rows, "rows that were not used could not be returned");
        }
    }
}

/// What is answered where the ledger itself did not.
pub fn unavailable(asker: Asker) -> Answer {
    match asker {
        Asker::Client => Answer::Code(Tried::Unavailable),
        Asker::Server => Answer::Lease(None),
    }
}

impl Default for Ledger {
    fn default() -> Ledger {
        Ledger {
            client: tokio::sync::Mutex::default(),
            floor: tokio::sync::Mutex::default(),
            started: Instant::now(),
            seen: Mutex::default(),
        }
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
        let before = match self.with(user, |seen| seen.attempt(step)) {
            Attempt::Locked(seconds) => return Tried::Locked(seconds),
            Attempt::New(before) => Some(before),
            // The database is told that it is wrong.
            Attempt::Wrong => None,
        };
        let tried = match self.judge(settings, user, step.filter(|_| before.is_some())).await {
            Ok(tried) => tried,
            Err(error) => {
                tracing::error!(%error, "a one-time code cannot be checked: the ledger does not answer");
                Tried::Unavailable
            }
        };
        match (tried, step, before) {
            (Tried::Given, _, Some(_)) => self.with(user, |seen| seen.wrong = 0),
            (Tried::Unavailable | Tried::Locked(_), Some(step), Some(before)) => {
                self.with(user, |seen| seen.not_looked_at(step, before));
            }
            (_, _, Some(_)) => self.with(user, Seen::failed),
            (_, _, None) => {}
        }
        if tried == Tried::Wrong && step.is_some() { Tried::Used } else { tried }
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
        let step = step.map(|step| i64::try_from(step).unwrap_or(i64::MAX));
        let row = self.ask(settings, SECOND_FACTOR, &[&user, &step]).await?;
        let (verdict, seconds): (String, i64) = (row.try_get(0)?, row.try_get(1)?);
        match verdict.as_str() {
            "given" if step.is_some() => Ok(Tried::Given),
            "used" => Ok(Tried::Used),
            "wrong" => Ok(Tried::Wrong),
            "locked" => Ok(Tried::Locked(u64::try_from(seconds).unwrap_or(LOCK_SECONDS))),
            _ => Err(ServiceError { sqlstate: None, message: "the ledger gave no verdict".to_owned() }),
        }
    }

    /// Leases rows of every rule, up to `wanted` of each, and gives how many all of them gave. What a lease brings beyond that
    /// is held for others. One lease at a time: who waits finds what the one before it brought.
    async fn lease(
        &self,
        settings: &DatabaseSettings,
        budgets: &Budgets,
        user: &str,
        rules: &[(Arc<str>, RowLimits)],
        wanted: u64,
    ) -> Result<Leased, ServiceError> {
        let mut floor = self.floor.lock().await;
        let mut leased = Leased { rows: wanted, short: None };
        for (index, (rule, limits)) in rules.iter().enumerate() {
            let back = |unused: u64| {
                rules[..index].iter().for_each(|(before, _)| budgets.give_back(user, before, unused));
            };
            let mut taken = budgets.take_up_to(user, rule, leased.rows);
            let lacking = leased.rows - taken;
            if lacking > 0 {
                let more = match self.lease_of(settings, user, rule, limits, lacking).await {
                    Ok(more) => more,
                    Err(error) => {
                        budgets.give_back(user, rule, taken);
                        back(leased.rows);
                        return Err(error);
                    }
                };
                let minute = self.started.elapsed().as_secs() / 60;
                let (rows, short) = floor.take(user, rule, limits, more.rows, minute);
                let mine = rows.min(lacking);
                budgets.lease(user, rule, more.minute, rows - mine);
                taken += mine;
                if taken < leased.rows {
                    leased.short = Some((rule.clone(), more.short.or(short).unwrap_or(Span::Hour)));
                }
            }
            back(leased.rows - taken);
            leased.rows = taken;
        }
        Ok(leased)
    }

    async fn lease_of(
        &self,
        settings: &DatabaseSettings,
        user: &str,
        rule: &Arc<str>,
        limits: &RowLimits,
        wanted: u64,
    ) -> Result<More, ServiceError> {
        let number = |rows: u64| i64::try_from(rows).unwrap_or(i64::MAX);
        let (hour, day) = (limits.rows_per_hour.map(number), limits.rows_per_day.map(number));
        let (rule, wanted, block) = (&**rule, number(wanted), number(LEASE_ROWS));
        let row = self.ask(settings, LEASE, &[&user, &rule, &hour, &day, &wanted, &block]).await?;
        let rows: i64 = row.try_get(0)?;
        let short = match row.try_get::<_, Option<&str>>(2)? {
            None => None,
            Some("day") => Some(Span::Day),
            Some(_) => Some(Span::Hour),
        };
        Ok(More { rows: u64::try_from(rows).unwrap_or(0), minute: row.try_get(1)?, short })
    }

    /// Returns rows that were leased and not used.
    async fn give_back(&self, settings: &DatabaseSettings, rest: &Rest) -> Result<(), ServiceError> {
        let rows = i64::try_from(rest.rows).unwrap_or(i64::MAX);
        self.ask(settings, GIVE_BACK, &[&rest.user, &&*rest.rule, &rest.minute, &rows]).await?;
        self.floor.lock().await.give_back(&rest.user, &rest.rule, rest.rows);
        Ok(())
    }

    /// One row of the database's. A connection that did not answer is not kept.
    async fn ask(
        &self,
        settings: &DatabaseSettings,
        question: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Row, ServiceError> {
        let client = self.client(settings).await?;
        let answer = async { Ok(client.query_one(question, parameters).await?) };
        let answer = service::in_time(ANSWER_TIMEOUT, answer).await;
        if answer.as_ref().is_err_and(|error| error.sqlstate.is_none()) {
            *self.client.lock().await = None;
        }
        answer
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

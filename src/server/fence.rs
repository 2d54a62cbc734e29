//! The fence of a database: no statement that uses tagged columns is under way while a conversion changes their types.
//!
//! The server reads a statement's names when it gets round to it, not when we sent it: one that was planned by the types
//! before a swap and read after it would mean something else, often without an error (`length(email)` of ciphertext).
//! So every proxy holds an advisory lock, shared, in each database that it serves; a conversion takes it for itself
//! before it locks its tables. Seeing that someone waits for the lock, a proxy raises its fence: statements that
//! use tagged columns wait in their connections, those under way come to their end, the lock is given up and asked for
//! again, and with it the catalog is read anew before the fence is lowered.
//!
//! Guarantees: the fence is down only while the lock is held, by a connection that is not known to have ended. A
//! transaction that already used tagged columns goes on: its own locks keep the swap away. Deliberately absent: which
//! statements those are (`relay`), taking the lock for oneself (`reseal`).

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// The advisory lock, in each database.
pub const LOCK: i64 = 123_589_670_300_014;
/// How often it is looked whether statements under way have come to their end.
const DRAIN_STEP: Duration = Duration::from_millis(2);

/// What holds the lock: no connection (the fence is up), this one, or nobody needs to.
const NOBODY: u64 = 0;
const NOT_NEEDED: u64 = u64::MAX;

/// One database's.
pub struct Fence {
    holder: AtomicU64,
    /// Numbers of connections so far.
    numbers: AtomicU64,
    sessions: Mutex<Vec<Weak<AtomicBool>>>,
    up: watch::Sender<bool>,
}

impl Default for Fence {
    /// Up, until something is known.
    fn default() -> Fence {
        Fence {
            holder: AtomicU64::new(NOBODY),
            numbers: AtomicU64::new(NOBODY),
            sessions: Mutex::default(),
            up: watch::Sender::new(true),
        }
    }
}

impl Fence {
    pub fn is_up(&self) -> bool {
        self.holder.load(Ordering::SeqCst) == NOBODY
    }

    /// Statements that use tagged columns wait from now on.
    pub fn raise(&self) {
        self.holder.store(NOBODY, Ordering::SeqCst);
        self.up.send_replace(true);
    }

    /// A number for a connection that is to hold the lock.
    pub fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// The connection ended: if it held the lock, nobody does.
    pub fn ended(&self, number: u64) {
        if self.holder.compare_exchange(number, NOBODY, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
            self.up.send_replace(true);
        }
    }

    /// The connection of this number holds the lock, and what statements are planned by was read since it does. The caller
    /// looks afterwards whether the connection still lives.
    pub fn lower(&self, number: u64) {
        self.holder.store(number, Ordering::SeqCst);
        self.up.send_replace(false);
    }

    /// Nothing can be tagged in this database.
    pub fn not_needed(&self) {
        self.lower(NOT_NEEDED);
    }

    /// Waits until the fence is down, for so long at most.
    pub async fn lowered(&self, limit: Duration) {
        let mut up = self.up.subscribe();
        // An end of the wait and an end of the sender are one to who looks at the fence next.
        let _ = tokio::time::timeout(limit, up.wait_for(|up| !up)).await;
    }

    /// Waits until no statement that uses tagged columns is under way; whether that came to be in time.
    pub async fn drained(&self, limit: Duration) -> bool {
        let end = Instant::now() + limit;
        while self.is_in_use() {
            if Instant::now() >= end {
                return false;
            }
            tokio::time::sleep(DRAIN_STEP).await;
        }
        true
    }

    fn is_in_use(&self) -> bool {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.retain(|session| session.strong_count() > 0);
        sessions.iter().any(|session| session.upgrade().is_some_and(|busy| busy.load(Ordering::SeqCst)))
    }

    /// A connection's way through.
    pub fn passage(self: &Arc<Fence>) -> Passage {
        let busy = Arc::new(AtomicBool::new(false));
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        // Those that have ended go when there are as many as live ones, so that a log-in costs the same however many came before.
        if sessions.len() == sessions.capacity() {
            sessions.retain(|session| session.strong_count() > 0);
        }
        sessions.push(Arc::downgrade(&busy));
        Passage { busy, fence: self.clone() }
    }
}

/// One connection's way through the fence.
pub struct Passage {
    /// A statement that uses tagged columns may be under way.
    busy: Arc<AtomicBool>,
    fence: Arc<Fence>,
}

impl Passage {
    /// Before anything may be sent: whether the fence is up. Whoever raises it later waits for [`leave`](Self::leave).
    pub fn enter(&self) -> bool {
        self.busy.store(true, Ordering::SeqCst);
        self.fence.is_up()
    }

    /// Everything is sent that is to be. `under_way`: of that, a statement that uses tagged columns has not ended.
    pub fn leave(&self, under_way: bool) {
        self.busy.store(under_way, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn waits_for_what_went_before_and_holds_what_comes_after() {
        let fence = Arc::new(Fence::default());
        let (one, other) = (fence.passage(), fence.passage());
        let number = fence.number();
        assert!(one.enter(), "it is up before anything is known");
        one.leave(false);
        fence.lower(number);
        assert!(!one.enter());
        fence.raise();
        assert!(!fence.drained(Duration::from_millis(20)).await, "what passed is waited for");
        assert!(other.enter(), "what comes after it waits");
        one.leave(false);
        other.leave(false);
        assert!(fence.drained(Duration::from_millis(20)).await);
        assert!(!one.enter() || fence.is_up());
        drop(one);
        assert!(
            fence.drained(Duration::from_millis(20)).await,
            "a connection that is gone has nothing under way"
        );
    }

    #[tokio::test]
    async fn only_the_holder_s_end_raises_it() {
        let fence = Fence::default();
        let (first, second) = (fence.number(), fence.number());
        fence.lower(second);
        fence.ended(first);
        assert!(!fence.is_up());
        fence.ended(second);
        assert!(fence.is_up());
        fence.lowered(Duration::from_millis(10)).await;
        assert!(fence.is_up());
        fence.not_needed();
        fence.lowered(Duration::from_secs(60)).await;
        assert!(!fence.is_up());
    }
}

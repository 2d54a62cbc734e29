//! Log-ins that fail too often: by the user from one address, and by anyone from it.
//!
//! Guarantees: who is held off is told what a wrong password is told, and nothing is looked up for it; no one is held off by what
//! happens at other addresses, so that nobody can lock another out; memory is bounded. Deliberately absent: anything across restarts or
//! proxies: the verifiers' PBKDF2 is what makes guessing dear.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Failures count for so long.
const WINDOW: Duration = Duration::from_secs(60);
/// An address may fail so many times as often as one of its users.
const USERS: u32 = 10;
/// Addresses and users that are remembered. Beyond it, everything is forgotten: guessing gets a window, memory stays.
const MOST: usize = 65_536;

/// `None` for a Unix socket.
type From = Option<IpAddr>;

/// Failures of the last while.
#[derive(Default)]
pub struct Throttle(Mutex<Failures>);

#[derive(Default)]
struct Failures {
    by_user: HashMap<(From, String), Count>,
    by_address: HashMap<From, Count>,
}

struct Count {
    since: Instant,
    failures: u32,
}

impl Count {
    fn is_over(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.since) >= WINDOW
    }
}

impl Throttle {
    /// Whether a log-in is held off, when `most` failures a minute are allowed for a user from an address.
    pub fn holds_off(&self, from: From, user: &str, most: u32, now: Instant) -> bool {
        let failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let reached = |count: Option<&Count>, most: u32| {
            count.is_some_and(|count| !count.is_over(now) && count.failures >= most)
        };
        reached(failures.by_user.get(&(from, user.to_owned())), most)
            || reached(failures.by_address.get(&from), most.saturating_mul(USERS))
    }

    /// A log-in failed.
    pub fn failed(&self, from: From, user: &str, now: Instant) {
        let mut failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        failures.make_room(now);
        count(
            failures.by_user.entry((from, user.to_owned())).or_insert(Count { since: now, failures: 0 }),
            now,
        );
        count(failures.by_address.entry(from).or_insert(Count { since: now, failures: 0 }), now);
    }

    /// One succeeded: that user's failures from there are forgotten.
    pub fn succeeded(&self, from: From, user: &str) {
        let mut failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        failures.by_user.remove(&(from, user.to_owned()));
    }
}

fn count(count: &mut Count, now: Instant) {
    if count.is_over(now) {
        *count = Count { since: now, failures: 0 };
    }
    count.failures = count.failures.saturating_add(1);
}

impl Failures {
    fn make_room(&mut self, now: Instant) {
        if self.by_user.len() < MOST && self.by_address.len() < MOST {
            return;
        }
        self.by_user.retain(|_, count| !count.is_over(now));
        self.by_address.retain(|_, count| !count.is_over(now));
        if self.by_user.len() >= MOST || self.by_address.len() >= MOST {
            *self = Failures::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> From {
        Some(IpAddr::from([10, 0, 0, last]))
    }

    #[test]
    fn one_user_at_one_address_is_held_off_and_nobody_else() {
        let (throttle, now) = (Throttle::default(), Instant::now());
        for _ in 0..3 {
            assert!(!throttle.holds_off(address(1), "ana", 3, now));
            throttle.failed(address(1), "ana", now);
        }
        assert!(throttle.holds_off(address(1), "ana", 3, now));
        assert!(!throttle.holds_off(address(2), "ana", 3, now));
        assert!(!throttle.holds_off(address(1), "bob", 3, now));
        assert!(!throttle.holds_off(address(1), "ana", 3, now + WINDOW));
        throttle.succeeded(address(1), "ana");
        assert!(!throttle.holds_off(address(1), "ana", 3, now));
    }

    #[test]
    fn guessing_names_is_held_off_by_the_address() {
        let (throttle, now) = (Throttle::default(), Instant::now());
        for number in 0..30 {
            throttle.failed(address(1), &format!("user{number}"), now);
        }
        assert!(throttle.holds_off(address(1), "another", 3, now));
        assert!(!throttle.holds_off(address(2), "another", 3, now));
    }

    #[test]
    fn memory_is_bounded() {
        let (throttle, now) = (Throttle::default(), Instant::now());
        for number in 0..MOST + 10 {
            throttle.failed(address(1), &number.to_string(), now);
        }
        assert!(throttle.0.lock().unwrap().by_user.len() <= MOST);
    }
}

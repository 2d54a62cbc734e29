//! Log-ins that fail too often: by the user from one address, and by anyone from it.
//!
//! A guess is counted when it is made, before it is judged, so that many at once are no more than one after the other; a right one is given
//! back. What is no guess (a client that goes away before its proof) is not counted.
//! Guarantees: who is held off is told what a wrong password is told; no one is held off by what happens at other addresses, so that nobody
//! can lock another out; memory is bounded. Deliberately absent: anything across restarts or
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

/// `None` for a Unix socket. Of IPv6 the network that one customer gets.
type From = Option<IpAddr>;

fn network(from: From) -> From {
    from.map(|address| match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() & !u128::from(u64::MAX)).into()),
        own => own,
    })
}

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
    /// A guess is about to be judged, when `most` wrong ones a minute are allowed for a user from an address; whether it may be.
    pub fn guess(&self, from: From, user: &str, most: u32, now: Instant) -> bool {
        let from = network(from);
        let mut failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let reached = |count: Option<&Count>, most: u32| {
            count.is_some_and(|count| !count.is_over(now) && count.failures >= most)
        };
        if reached(failures.by_user.get(&(from, user.to_owned())), most)
            || reached(failures.by_address.get(&from), most.saturating_mul(USERS))
        {
            return false;
        }
        failures.make_room(now);
        count(
            failures.by_user.entry((from, user.to_owned())).or_insert(Count { since: now, failures: 0 }),
            now,
        );
        count(failures.by_address.entry(from).or_insert(Count { since: now, failures: 0 }), now);
        true
    }

    /// It was right: that user's failures from there are forgotten, and the address has one less.
    pub fn succeeded(&self, from: From, user: &str) {
        let from = network(from);
        let mut failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        failures.by_user.remove(&(from, user.to_owned()));
        if let Some(count) = failures.by_address.get_mut(&from) {
            count.failures = count.failures.saturating_sub(1);
        }
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
            assert!(throttle.guess(address(1), "ana", 3, now));
        }
        assert!(!throttle.guess(address(1), "ana", 3, now));
        assert!(throttle.guess(address(2), "ana", 3, now));
        assert!(throttle.guess(address(1), "bob", 3, now));
        throttle.succeeded(address(1), "ana");
        assert!(throttle.guess(address(1), "ana", 3, now));
        for _ in 0..5 {
            throttle.guess(address(1), "ana", 3, now);
        }
        assert!(throttle.guess(address(1), "ana", 3, now + WINDOW));
    }

    #[test]
    fn guessing_names_is_held_off_by_the_address_and_its_successes_are_not() {
        let (throttle, now) = (Throttle::default(), Instant::now());
        for _ in 0..100 {
            assert!(throttle.guess(address(1), "shop", 3, now));
            throttle.succeeded(address(1), "shop");
        }
        for number in 0..30 {
            assert!(throttle.guess(address(1), &format!("user{number}"), 3, now));
        }
        assert!(!throttle.guess(address(1), "another", 3, now));
        assert!(throttle.guess(address(2), "another", 3, now));
    }

    #[test]
    fn a_network_of_ipv6_is_one_address() {
        let (throttle, now) = (Throttle::default(), Instant::now());
        for last in 0..3u128 {
            assert!(throttle.guess(Some(IpAddr::V6((0x2001_0db8 << 96 | last).into())), "ana", 3, now));
        }
        assert!(!throttle.guess(Some(IpAddr::V6((0x2001_0db8 << 96 | 9).into())), "ana", 3, now));
        assert!(throttle.guess(Some(IpAddr::V6((0x2001_0db9 << 96).into())), "ana", 3, now));
    }

    #[test]
    fn memory_is_bounded() {
        let (throttle, now) = (Throttle::default(), Instant::now());
        for number in 0..MOST + 10 {
            throttle.guess(address(1), &number.to_string(), u32::MAX, now);
        }
        assert!(throttle.0.lock().unwrap().by_user.len() <= MOST);
    }
}

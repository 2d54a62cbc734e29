//! Rows that a rule gives a user in an hour: taken before they are released, what was not used given back.
//!
//! Guarantees: all connections of one proxy share one budget, exact to the row, over a sliding hour of minutes; a clock
//! that is set back gives nothing anew. Deliberately absent: other proxies' share, and what was spent before a restart.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

const HOUR_MINUTES: i64 = 60;

/// What was spent, by user and rule.
#[derive(Default)]
pub struct Budgets(Mutex<HashMap<(String, Arc<str>), Spent>>);

#[derive(Default)]
struct Spent {
    /// (minute since 1970, rows), oldest first.
    minutes: VecDeque<(i64, u64)>,
    total: u64,
}

impl Spent {
    fn forget_before(&mut self, minute: i64) {
        while let Some((oldest, rows)) = self.minutes.front().copied()
            && oldest < minute
        {
            self.total -= rows;
            self.minutes.pop_front();
        }
    }
}

impl Budgets {
    /// Takes up to `wanted` rows of `limit` an hour; gives how many it took. `now` is Unix seconds.
    pub fn take(&self, user: &str, rule: &Arc<str>, limit: u64, wanted: u64, now: i64) -> u64 {
        let mut budgets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let spent = budgets.entry((user.to_owned(), rule.clone())).or_default();
        let minute = now.div_euclid(60);
        spent.forget_before(minute - HOUR_MINUTES + 1);
        let taken = wanted.min(limit.saturating_sub(spent.total));
        if taken > 0 {
            spent.total += taken;
            // After a clock was set back the newest minute is the one that counts.
            match spent.minutes.back_mut() {
                Some((newest, rows)) if *newest >= minute => *rows += taken,
                _ => spent.minutes.push_back((minute, taken)),
            }
        }
        taken
    }

    /// Gives rows back that were taken a moment ago and not released.
    pub fn give_back(&self, user: &str, rule: &Arc<str>, rows: u64) {
        let mut budgets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(spent) = budgets.get_mut(&(user.to_owned(), rule.clone())) else { return };
        let mut left = rows.min(spent.total);
        spent.total -= left;
        for (_, taken) in spent.minutes.iter_mut().rev() {
            let back = left.min(*taken);
            *taken -= back;
            left -= back;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_hour_slides_and_gives_exactly_its_rows() {
        let budgets = Budgets::default();
        let rule: Arc<str> = "support".into();
        let take = |wanted, minute: i64| budgets.take("alice", &rule, 100, wanted, minute * 60 + 30);
        assert_eq!(take(60, 0), 60);
        assert_eq!(take(60, 10), 40);
        assert_eq!(take(1, 59), 0);
        assert_eq!(take(100, 60), 60, "the first minute is an hour ago");
        assert_eq!(take(100, 0), 0, "a clock set back gives nothing");
        budgets.give_back("alice", &rule, 5);
        assert_eq!(take(100, 60), 5);
        assert_eq!(budgets.take("bob", &rule, 100, 100, 0), 100, "each user has a budget");
    }
}

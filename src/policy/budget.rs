//! Rows that a rule gives a user in an hour or a day: what this proxy holds of them, leased from the ledger that all proxies share.
//!
//! Taking and giving back cost a look-up, whatever the ledger is; what is not held must be leased first (`server::ledger`).
//! Guarantees: what is taken here was counted in the ledger before; what is swept out can no longer be taken here. Each
//! proxy also counts for itself what it was given ([`Floor`]), so that an administrator of the database who clears the
//! ledger gives nobody more than one more budget at each proxy. Deliberately absent: clocks, the ledger itself.

use super::RowLimits;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

/// A limit that is counted over time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Span {
    Hour,
    Day,
}

impl Span {
    pub fn minutes(self) -> u64 {
        match self {
            Span::Hour => 60,
            Span::Day => 24 * 60,
        }
    }
}

/// Sweeps after which rows that nobody took or gave back are returned.
const IDLE_SWEEPS: u32 = 2;
/// Sweeps after which rows are returned even so: a window counts them from when they were leased.
const OLD_SWEEPS: u32 = 20;

/// Rows that are held, by user and rule.
#[derive(Default)]
pub struct Budgets(Mutex<HashMap<(String, Arc<str>), Held>>);

/// Rows of one lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Lease {
    /// The ledger's minute that they are counted in.
    minute: i64,
    rows: u64,
    sweeps: u32,
}

#[derive(Default)]
struct Held {
    /// Oldest first.
    leases: VecDeque<Lease>,
    /// Since rows were last taken or given back.
    idle_sweeps: u32,
}

/// Rows to be returned to the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rest {
    pub user: String,
    pub rule: Arc<str>,
    pub minute: i64,
    pub rows: u64,
}

impl Held {
    fn rows(&self) -> u64 {
        self.leases.iter().map(|lease| lease.rows).sum()
    }

    fn take(&mut self, rows: u64) {
        self.idle_sweeps = 0;
        let mut left = rows;
        for lease in &mut self.leases {
            let taken = left.min(lease.rows);
            lease.rows -= taken;
            left -= taken;
        }
        // The last stays, though it be empty: what is given back belongs to its minute.
        while self.leases.len() > 1 && self.leases.front().is_some_and(|lease| lease.rows == 0) {
            self.leases.pop_front();
        }
    }
}

impl Budgets {
    fn with<R>(&self, work: impl FnOnce(&mut HashMap<(String, Arc<str>), Held>) -> R) -> R {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes `wanted` rows of every rule, if so many are held of each.
    pub fn take(&self, user: &str, rules: &[Arc<str>], wanted: u64) -> bool {
        self.with(|held| {
            let keys: Vec<(String, Arc<str>)> =
                rules.iter().map(|rule| (user.to_owned(), rule.clone())).collect();
            let enough = keys.iter().all(|key| held.get(key).is_some_and(|held| held.rows() >= wanted));
            if enough {
                keys.iter().filter_map(|key| held.get_mut(key).map(|held| held.take(wanted))).count();
            }
            enough
        })
    }

    /// Takes up to `wanted` rows of one rule.
    pub fn take_up_to(&self, user: &str, rule: &Arc<str>, wanted: u64) -> u64 {
        self.with(|held| {
            let Some(held) = held.get_mut(&(user.to_owned(), rule.clone())) else { return 0 };
            let taken = wanted.min(held.rows());
            held.take(taken);
            taken
        })
    }

    /// Gives rows back that were taken and did not leave. Where what they were taken from was swept out meanwhile, they are lost:
    /// the ledger counts them, nobody had them.
    pub fn give_back(&self, user: &str, rule: &Arc<str>, rows: u64) {
        self.with(|held| {
            if let Some(held) = held.get_mut(&(user.to_owned(), rule.clone()))
                && let Some(lease) = held.leases.back_mut()
            {
                lease.rows += rows;
                held.idle_sweeps = 0;
            }
        });
    }

    /// Rows that the ledger leased, counted in its minute.
    pub fn lease(&self, user: &str, rule: &Arc<str>, minute: i64, rows: u64) {
        self.with(|held| {
            let held = held.entry((user.to_owned(), rule.clone())).or_default();
            held.leases.push_back(Lease { minute, rows, sweeps: 0 });
            held.idle_sweeps = 0;
        });
    }

    /// Takes out what is idle or old. To be called once a second.
    pub fn sweep(&self) -> Vec<Rest> {
        self.out(|held| {
            held.idle_sweeps += 1;
            held.leases.iter_mut().for_each(|lease| lease.sweeps += 1);
            let idle = held.idle_sweeps > IDLE_SWEEPS;
            let leases = held.leases.iter();
            leases.take_while(|lease| idle || lease.sweeps > OLD_SWEEPS).count()
        })
    }

    /// Takes out all.
    pub fn drain(&self) -> Vec<Rest> {
        self.out(|held| held.leases.len())
    }

    /// Takes out as many leases of each as `how_many` says.
    fn out(&self, how_many: impl Fn(&mut Held) -> usize) -> Vec<Rest> {
        self.with(|all| {
            let mut rests = Vec::new();
            for ((user, rule), held) in all.iter_mut() {
                let count = how_many(held);
                for Lease { minute, rows, .. } in held.leases.drain(..count).filter(|lease| lease.rows > 0) {
                    rests.push(Rest { user: user.clone(), rule: rule.clone(), minute, rows });
                }
            }
            all.retain(|_, held| !held.leases.is_empty());
            rests
        })
    }
}

/// What this proxy was given, counted by its own monotonic minutes.
#[derive(Default)]
pub struct Floor(HashMap<(String, Arc<str>), Given>);

/// (minute, rows), oldest first.
type Given = VecDeque<(u64, u64)>;

impl Floor {
    /// How many of `wanted` rows the limits still give, and which of them gave too few; these count from now on.
    pub fn take(
        &mut self,
        user: &str,
        rule: &Arc<str>,
        limits: &RowLimits,
        wanted: u64,
        minute: u64,
    ) -> (u64, Option<Span>) {
        let given = self.0.entry((user.to_owned(), rule.clone())).or_default();
        let since = |span: Span| minute.saturating_sub(span.minutes());
        while given.front().is_some_and(|(oldest, _)| *oldest < since(Span::Day)) {
            given.pop_front();
        }
        let (mut taken, mut short) = (wanted, None);
        for (span, limit) in limits.shared() {
            let spent: u64 = given.iter().filter(|(at, _)| *at >= since(span)).map(|(_, rows)| rows).sum();
            let left = limit.saturating_sub(spent);
            if left < taken {
                (taken, short) = (left, Some(span));
            }
        }
        if taken > 0 {
            given.push_back((minute, taken));
        }
        (taken, short)
    }

    /// Rows that were returned to the ledger.
    pub fn give_back(&mut self, user: &str, rule: &Arc<str>, rows: u64) {
        let Some(given) = self.0.get_mut(&(user.to_owned(), rule.clone())) else { return };
        let mut left = rows;
        for (_, taken) in given.iter_mut().rev() {
            let back = left.min(*taken);
            *taken -= back;
            left -= back;
        }
        given.retain(|(_, rows)| *rows > 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_is_taken_whole_or_not_at_all() {
        let budgets = Budgets::default();
        let [one, two]: [Arc<str>; 2] = ["one".into(), "two".into()];
        assert!(!budgets.take("alice", std::slice::from_ref(&one), 1), "nothing was leased");
        budgets.lease("alice", &one, 7, 10);
        budgets.lease("alice", &two, 7, 5);
        assert!(!budgets.take("alice", &[one.clone(), two.clone()], 6));
        assert!(budgets.take("alice", &[one.clone(), two.clone()], 5));
        assert_eq!((budgets.take_up_to("alice", &one, 9), budgets.take_up_to("alice", &two, 9)), (5, 0));
        assert_eq!(budgets.take_up_to("bob", &one, 9), 0, "each user has a budget");
        budgets.give_back("alice", &one, 3);
        assert_eq!(budgets.drain(), [Rest { user: "alice".into(), rule: one.clone(), minute: 7, rows: 3 }]);
        budgets.give_back("alice", &one, 1);
        assert!(!budgets.take("alice", &[one], 1), "it was swept out");
    }

    #[test]
    fn idle_and_old_leases_are_swept_out() {
        let budgets = Budgets::default();
        let rule: Arc<str> = "one".into();
        budgets.lease("alice", &rule, 7, 10);
        assert_eq!((budgets.sweep().len(), budgets.sweep().len()), (0, 0));
        assert_eq!(budgets.sweep()[0].rows, 10);
        budgets.lease("alice", &rule, 8, 30);
        for _ in 0..OLD_SWEEPS {
            assert!(budgets.take("alice", std::slice::from_ref(&rule), 1) && budgets.sweep().is_empty());
        }
        budgets.lease("alice", &rule, 9, 5);
        assert!(budgets.take("alice", std::slice::from_ref(&rule), 1));
        assert_eq!(budgets.sweep(), [Rest { user: "alice".into(), rule: rule.clone(), minute: 8, rows: 9 }]);
        assert_eq!(budgets.take_up_to("alice", &rule, 10), 5);
    }

    #[test]
    fn a_floor_slides_over_hour_and_day() {
        let mut floor = Floor::default();
        let rule: Arc<str> = "one".into();
        let limits = RowLimits { rows_per_hour: Some(100), rows_per_day: Some(150), ..RowLimits::default() };
        let mut take = |wanted, minute| floor.take("alice", &rule, &limits, wanted, minute).0;
        assert_eq!((take(60, 0), take(60, 10), take(1, 60)), (60, 40, 0));
        assert_eq!((take(100, 61), take(100, 500)), (50, 0), "the day's rows are spent");
        assert_eq!((take(40, 1440), take(500, 1441)), (0, 60));
        floor.give_back("alice", &rule, 10);
        assert_eq!(floor.take("alice", &rule, &limits, 100, 1441), (10, Some(Span::Day)));
    }
}

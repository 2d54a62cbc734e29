//! What the runs of a plan leave for later ones: how a statement is best sent hangs on what it gives, which nobody knows
//! before it was run. It is no part of what was decided: plans are alike whatever it says.

use std::sync::atomic::{AtomicBool, Ordering};

/// So many rows are worth a message more in each direction.
const MANY_ROWS: u64 = 1000;

/// Whether the last run of a plan gave many rows with cells.
#[derive(Debug, Default)]
pub struct Habit(AtomicBool);

impl Habit {
    pub fn gave_many(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
    /// A run gave so many rows.
    pub fn gave(&self, rows: u64) {
        let many = rows >= MANY_ROWS;
        // Written where it changes only: connections on all cores read it.
        if self.gave_many() != many {
            self.0.store(many, Ordering::Relaxed);
        }
    }
}

impl Clone for Habit {
    fn clone(&self) -> Habit {
        Habit(AtomicBool::new(self.gave_many()))
    }
}

impl PartialEq for Habit {
    fn eq(&self, _: &Habit) -> bool {
        true
    }
}

impl Eq for Habit {}

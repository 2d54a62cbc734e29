//! What the runs of a plan leave for later ones: how a statement is best sent hangs on what it gives, which nobody knows
//! before it was run. It is no part of what was decided: plans are alike whatever it says.

use std::sync::atomic::{AtomicBool, Ordering};

/// So many rows are worth a message more in each direction.
const MANY_ROWS: u64 = 1000;

/// What earlier runs of a plan were like.
#[derive(Debug, Default)]
pub struct Habit {
    /// The last one gave many rows with cells.
    many: AtomicBool,
    /// One that copied in had a value that may be for the server to read.
    unread: AtomicBool,
}

impl Habit {
    pub fn gave_many(&self) -> bool {
        self.many.load(Ordering::Relaxed)
    }
    /// Whether the rows that it copies in go to the server as the client spells them.
    pub fn copies_as_spelled(&self) -> bool {
        self.unread.load(Ordering::Relaxed)
    }
    /// A run copied a value in that was not read here; or one that the server did not read either.
    pub fn left_unread(&self, to_server: bool) {
        self.unread.store(to_server, Ordering::Relaxed);
    }
    /// A run gave so many rows.
    pub fn gave(&self, rows: u64) {
        let many = rows >= MANY_ROWS;
        // Written where it changes only: connections on all cores read it.
        if self.gave_many() != many {
            self.many.store(many, Ordering::Relaxed);
        }
    }
}

impl Clone for Habit {
    fn clone(&self) -> Habit {
        Habit { many: self.gave_many().into(), unread: self.copies_as_spelled().into() }
    }
}

impl PartialEq for Habit {
    fn eq(&self, _: &Habit) -> bool {
        true
    }
}

impl Eq for Habit {}

//! Mistakes of ours that show as a panic while a connection's messages are worked on.
//!
//! Guarantees: the connection ends and no other does; what the client is told and the line of our log carry one id, by
//! which the two find each other; neither holds the panic's own words, which can quote what was being worked on (those of
//! a string sliced wrongly do). Deliberately absent: going on with what was being worked on, whose state nobody knows.

use crate::wire::backend::ErrorFields;
use std::cell::{Cell, RefCell};
use std::panic::{self, AssertUnwindSafe};

thread_local! {
    /// Whether this thread is inside of [`caught`], which tells the log itself.
    static CATCHES: Cell<bool> = const { Cell::new(false) };
    /// Where the last panic that is to be caught came from.
    static PLACE: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// From now on the log gets a panic's place only, in one line. For the whole process.
pub fn hush_panics() {
    panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string);
        if CATCHES.get() {
            PLACE.set(place);
        } else {
            tracing::error!(place, "pgveil panicked, which is a mistake in it; other connections go on");
        }
    }));
}

/// Does the work of a connection.
///
/// # Errors
/// It panicked, and the log was told: the FATAL error for the client.
pub fn caught<R>(connection: u64, work: impl FnOnce() -> R) -> Result<R, Box<ErrorFields>> {
    CATCHES.set(true);
    // Whoever calls this gives up what `work` held.
    let result = panic::catch_unwind(AssertUnwindSafe(work));
    CATCHES.set(false);
    result.map_err(|_| {
        let mut id = [0; 8];
        // Without randomness the connection's number alone leads to the line.
        let _ = getrandom::fill(&mut id);
        let fault = format!("{connection}-{}", faster_hex::hex_string(&id));
        let place = PLACE.take();
        tracing::error!(
            fault,
            connection,
            place,
            "pgveil panicked, which is a mistake in it; the connection ends"
        );
        let detail = format!("The log of pgveil tells more of it under fault {fault}.");
        let hint = "Please report it, with that line of the log.";
        Box::new(ErrorFields::new(
            "FATAL",
            "XX000",
            "internal error of pgveil",
            Some(&detail),
            Some(hint),
            None,
        ))
    })
}

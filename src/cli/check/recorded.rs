//! What the audit log tells of the statements that were carried out: by which columns they looked rows up.
//!
//! Guarantees: only shapes and names are looked at, which is all that a record has. A log that cannot be read, or not to its end,
//! tells what it tells until there: this is advice, and `audit verify` judges logs. Deliberately absent: what has left the folder.

use crate::audit::segments::{self, Segments};
use crate::audit::{Event, verify};
use crate::config::doctor::Recorded;
use std::path::{Path, PathBuf};

/// The newest segments are read, up to so many bytes: what is done now is done again and again.
const BYTES_MAX: u64 = 256 << 20;

/// How many statements looked up by each column.
pub(super) fn looked_up(folder: &Path) -> Recorded {
    let mut found = Recorded::new();
    let newest = newest(segments::list(folder).unwrap_or_default());
    // A writer may be in the middle of the last line.
    let _ = verify::records(Segments::new(newest), |_, record| {
        if let Event::Intent { intent, .. } = &record.event
            && looks_up(&intent.shape)
        {
            for used in intent.uses.iter().filter(|used| used.action == "compare") {
                *found.entry((record.connection.database.clone(), used.column.clone())).or_default() += 1;
            }
        }
        true
    });
    found
}

fn newest(all: Vec<PathBuf>) -> Vec<PathBuf> {
    let mut bytes = 0;
    let within = |path: &&PathBuf| {
        bytes += path.metadata().map_or(0, |metadata| metadata.len());
        bytes <= BYTES_MAX
    };
    let mut newest: Vec<PathBuf> = all.iter().rev().take_while(within).cloned().collect();
    newest.reverse();
    newest
}

/// Whether an index could serve: GROUP BY and DISTINCT compare, too, and read all rows anyway.
fn looks_up(shape: &str) -> bool {
    let mut words = shape.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.any(|word| ["where", "join"].iter().any(|clause| word.eq_ignore_ascii_case(clause)))
}

//! What can be asked of a record: its event's name, the columns and labels it speaks of, and a bound on its size.
//!
//! Guarantees: [`bound`](AuditRecord::bound) cuts only the statement's shape. Deliberately absent: the form on disk
//! ([`super::canonical`]).

use super::persons::Persons;
use super::{AuditRecord, Connection, Event, Said, UsedColumn};

/// Bytes of a statement's shape that a record keeps.
pub const SHAPE_BYTES_MAX: usize = 64 * 1024;

impl Event {
    /// As the log spells it.
    pub fn name(&self) -> &'static str {
        match self {
            Event::Started { .. } => "started",
            Event::Stopped => "stopped",
            Event::Reloaded { .. } => "reloaded",
            Event::ColumnChanged { .. } => "column_changed",
            Event::LoggedIn { .. } => "logged_in",
            Event::LogInFailed { .. } => "log_in_failed",
            Event::SecondFactor { .. } => "second_factor",
            Event::BreakGlass { .. } => "break_glass",
            Event::Intent { .. } => "intent",
            Event::Outcome { .. } => "outcome",
            Event::Refused { .. } => "refused",
            Event::Recovered { .. } => "recovered",
            Event::Removed { .. } => "removed",
            Event::PersonForgotten { .. } => "person_forgotten",
            Event::KeysExported { .. } => "keys_exported",
            Event::DataKeyChanged { .. } => "data_key_changed",
            Event::KeyChanged { .. } => "key_changed",
        }
    }
    /// The uses of columns that it speaks of.
    pub fn uses(&self) -> &[UsedColumn] {
        match self {
            Event::Intent { intent, .. } => &intent.uses,
            Event::Refused { uses, .. } => uses,
            _ => &[],
        }
    }
    /// The labels that it speaks of, in order, without repetition.
    pub fn labels(&self) -> Vec<&str> {
        let mut labels: Vec<&str> = match self {
            Event::Outcome { cells, .. } => cells.iter().map(|(label, _, _)| &**label).collect(),
            event => event.uses().iter().map(|used| used.label.as_str()).collect(),
        };
        labels.sort_unstable();
        labels.dedup();
        labels
    }
    /// What a statement was for.
    pub fn purpose(&self) -> Option<&str> {
        match self {
            Event::Intent { intent, .. } => intent.purpose.as_deref(),
            _ => None,
        }
    }
    /// How a statement ended, or was refused.
    pub fn sqlstate(&self) -> Option<&str> {
        match self {
            Event::Outcome { sqlstate, .. } => Some(sqlstate),
            Event::Refused { sqlstate, .. } => Some(sqlstate),
            _ => None,
        }
    }
    /// Whose cells a statement disclosed.
    pub fn persons(&self) -> Option<&Persons> {
        match self {
            Event::Outcome { persons, .. } => persons.as_ref(),
            _ => None,
        }
    }
    /// The statement's number in its connection.
    pub fn statement(&self) -> Option<u64> {
        match self {
            Event::Intent { statement, .. } | Event::Outcome { statement, .. } => Some(*statement),
            _ => None,
        }
    }
}

impl AuditRecord {
    /// A record of the proxy itself, not of a connection; `time` in Unix microseconds.
    pub fn of_the_proxy(time: i64, event: Event) -> AuditRecord {
        AuditRecord { time, connection: Said::from(Connection::default()), event }
    }
    /// Leaves at most [`SHAPE_BYTES_MAX`] bytes of a shape; one that is cut ends with `…`.
    pub fn bound(&mut self) {
        match &mut self.event {
            Event::Intent { intent, .. } if intent.shape.len() > SHAPE_BYTES_MAX => {
                *intent = intent.changed(|intent| cut(&mut intent.shape));
            }
            Event::Refused { shape, .. } if shape.len() > SHAPE_BYTES_MAX => cut(shape),
            _ => {}
        }
    }
}

fn cut(shape: &mut String) {
    shape.truncate(shape.floor_char_boundary(SHAPE_BYTES_MAX - '…'.len_utf8()));
    shape.push('…');
}

#[cfg(test)]
mod tests {
    use super::super::canonical::tests::samples;
    use super::*;

    #[test]
    fn a_long_shape_is_cut_between_characters() {
        let mut record = samples().swap_remove(4);
        let Event::Intent { intent, .. } = &mut record.event else { panic!("{record:?}") };
        *intent = intent.changed(|intent| intent.shape = "ä".repeat(SHAPE_BYTES_MAX));
        record.bound();
        let Event::Intent { intent, .. } = record.event else { panic!() };
        let shape = &intent.shape;
        assert!(shape.len() <= SHAPE_BYTES_MAX && shape.len() > SHAPE_BYTES_MAX - 8 && shape.ends_with("ä…"));
    }
}

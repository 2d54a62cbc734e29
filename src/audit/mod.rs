//! Evidence: records, their canonical form (FORMAT.md), the tree over them, checkpoints, the writer and the verifier.
//!
//! Guarantees: a record is on disk before [`writer::Log`] gives a [`Ticket`] for it, and under a signed checkpoint a moment later; the
//! log verifies with the public key alone. Deliberately absent: values, literals, SQL other than shapes. Only [`writer`]
//! (which owns the newest segment), [`resume`] (which reads it at the start), [`segments`], [`follow`], [`witness`], [`keys`], [`pending`] and [`persons`] touch the
//! disk; the rest is pure.

pub mod canonical;
pub mod chain;
pub mod checkpoint;
mod files;
pub mod follow;
pub mod keys;
mod lines;
pub mod note;
pub mod pending;
pub mod persons;
pub mod proof;
pub mod record;
pub mod report;
pub mod resume;
mod said;
pub mod segments;
pub mod show;
pub mod sink;
pub mod tree;
pub mod verify;
pub mod who_saw;
pub mod witness;
pub mod writer;

pub use said::Said;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// One entry. Never a value: nothing here may come from a parameter or a cell, nor from a literal but the reason of `BreakGlass`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditRecord {
    /// Unix microseconds.
    pub time: i64,
    pub connection: Said<Connection>,
    pub event: Event,
}

/// Whose event it is: the same in all records of a connection, until it changes its application's name. All of it is empty where it is
/// nobody's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Connection {
    /// Unique within this proxy's run.
    pub number: u64,
    pub user: String,
    pub database: String,
    pub application: String,
    /// `10.0.0.7:5123` or `unix`.
    pub address: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The proxy runs and accepts connections.
    Started {
        version: String,
        configuration: String,
        /// (name, SHA-256 in hexadecimal) of each file that it was read from.
        files: Vec<(String, String)>,
    },
    Stopped,
    Reloaded {
        configuration: String,
        /// As in `Started`.
        files: Vec<(String, String)>,
    },
    /// The database stores a tagged column otherwise than before: it was converted, made, dropped, or something that its tag
    /// does not say was done to it.
    ColumnChanged {
        /// `schema.table.column`.
        column: String,
        /// `absent`, `clear`, `sealed`, `sealed with version 1` or `unreadable`.
        from: String,
        to: String,
    },
    LoggedIn {
        /// `None`: by the password that the database knows, as the user itself.
        instead: Option<InsteadOfPassword>,
    },
    LogInFailed {
        reason: String,
    },
    /// A one-time code was tried: `given` when it stepped the session up, else why not.
    SecondFactor {
        outcome: String,
    },
    /// Rules for emergencies hold now. The reason is the user's own text: the one place where such stands in a record, for
    /// it is written to be read by the privacy officer.
    BreakGlass {
        reason: String,
    },
    /// A statement with sensitive uses went to the server.
    Intent {
        statement: u64,
        intent: Said<Intent>,
    },
    /// How it ended.
    Outcome {
        statement: u64,
        /// Rows that reached the client and disclosed a cell (or a mask of one).
        rows: u64,
        cells: Vec<ShownCells>,
        /// Values compared under an oracle ruling.
        comparisons: u64,
        /// `00000` when it succeeded.
        sqlstate: Cow<'static, str>,
        duration: Duration,
        /// Of a statement that reads a table with a record key.
        persons: Option<persons::Persons>,
    },
    /// A statement that was not sent.
    Refused {
        kind: String,
        shape: String,
        sqlstate: String,
        reason: String,
        uses: Vec<UsedColumn>,
    },
    /// Written by the log itself after an unclean end: nobody had been told that what is named here was recorded.
    Recovered {
        /// Whole records that had no checkpoint yet; they stand before this one.
        unsigned: u64,
        /// Bytes of a torn end that were cut off.
        cut: u64,
    },
    /// Written by the log itself before it removes segments that are older than their retention.
    Removed {
        /// The lines before this number are removed.
        before: u64,
    },
    /// Nobody can tell any more which records speak of a person of this table. Who it was is not said.
    PersonForgotten {
        table: String,
    },
    /// Keys were given out by a command, which left word of it before it did.
    KeysExported {
        /// When, RFC 3339 in UTC.
        at: String,
        /// To whom or how: `age1…`, or which shares.
        to: String,
    },
    /// A data key or the master key was changed by a command, which left word of it before it did.
    DataKeyChanged {
        /// When, RFC 3339 in UTC.
        at: String,
        /// The data key's name; empty for the master key.
        key: String,
        /// `version 2 made`, `version 1 forgotten`, `master key replaced`.
        change: String,
    },
    /// The last word of a signing key: what it hands over to.
    KeyChanged {
        /// The public key that signs from the next segment on, 64 hex digits.
        key: String,
    },
}

/// (label, disclosure, cells).
pub type ShownCells = (Arc<str>, Cow<'static, str>, u64);

/// What a statement is about to do: the same each time that it is carried out under the same rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Intent {
    pub kind: String,
    pub shape: String,
    pub purpose: Option<String>,
    pub uses: Vec<UsedColumn>,
}

/// How somebody logged in who proved no password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InsteadOfPassword {
    /// `certificate` or `token`.
    pub method: String,
    /// The role that the database sees.
    pub upstream: String,
}

/// One use of one tagged column, and what policy said of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsedColumn {
    /// `schema.table.column`.
    pub column: String,
    pub label: String,
    /// `read`, `compare` or `write`.
    pub action: String,
    /// The rule's name, or empty for none.
    pub rule: String,
    /// `clear`, `null`, `mask:…`; empty for a refusal.
    pub disclosure: String,
}

/// The SQLSTATE of a statement that did what it should (PostgreSQL documentation, Appendix A).
pub const SUCCEEDED: &str = "00000";

/// Position of a record in the log (how many lines stand before it), and proof that it is on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// The log cannot be written; says why for our own log (never for clients).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unrecorded(pub String);

impl fmt::Display for Unrecorded {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl std::error::Error for Unrecorded {}

/// The log or a key cannot be used; for the operator, with what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Fault {
    pub message: String,
    pub hint: Option<String>,
}

impl Fault {
    pub fn new(message: impl Into<String>) -> Fault {
        Fault { message: message.into(), hint: None }
    }
    pub fn hint(mut self, hint: impl Into<String>) -> Fault {
        self.hint = Some(hint.into());
        self
    }
}

//! Evidence: records, their canonical form (FORMAT.md), the hash chain, checkpoints, the writer and the verifier.
//!
//! Guarantees: a record is on disk before [`Log::submit`]'s ticket counts as recorded; the file verifies with the
//! public key alone. Deliberately absent: values, literals, SQL other than shapes.

use std::time::Duration;

/// One entry. Never a value: nothing here may come from a literal, a parameter or a cell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditRecord {
    /// Unix microseconds.
    pub time: i64,
    /// A number for the connection, unique within this proxy's run.
    pub connection: u64,
    pub user: String,
    pub database: String,
    pub application: String,
    /// `10.0.0.7:5123` or `unix`.
    pub address: String,
    pub event: Event,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The proxy or a configuration began to hold.
    Started { version: String, configuration: String },
    Stopped,
    Reloaded { configuration: String },
    LoggedIn,
    LogInFailed { reason: String },
    /// A statement with sensitive uses went to the server.
    Intent { statement: u64, kind: String, shape: String, purpose: Option<String>, uses: Vec<UsedColumn> },
    /// How it ended.
    Outcome {
        statement: u64,
        /// Rows that reached the client and disclosed a cell (or a mask of one).
        rows: u64,
        /// (label, disclosure, cells).
        cells: Vec<(String, String, u64)>,
        /// Values compared under an oracle ruling.
        comparisons: u64,
        /// `00000` when it succeeded.
        sqlstate: String,
        duration: Duration,
    },
    Refused { kind: String, shape: String, sqlstate: String, reason: String, uses: Vec<UsedColumn> },
}

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

/// Position of a record in the log, and proof that it was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// The log cannot be written; says why for our own log (never for clients).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unrecorded(pub String);

//! What a PostgreSQL value is: its type, its text and binary wire forms, and the canonical bytes that are sealed.
//!
//! Guarantees: reading is total (bad input is a [`ValueError`], never a panic) and never quotes the input; two wire
//! forms of one value give the same canonical bytes; for a type that [`DataType::deterministic`] accepts, canonical
//! bytes are equal exactly when PostgreSQL calls the values equal.
//! Deliberately absent: keys, columns, policy. A value does not know where it is stored.

mod types;

// What stands between the wire and a type.
mod array;
mod cast;
mod convert;

// A file or folder for each type or family of types.
mod boolean;
mod bytea;
mod datetime;
mod embed;
mod float;
mod inet;
mod integer;
mod interval;
mod json;
mod numeric;
mod text;
mod token;
mod uuid;

pub use array::array_elements;
pub(crate) use datetime::{Period, date_start, start_of};
pub use embed::write_array;

/// The two wire formats of the extended protocol (PostgreSQL documentation, "Formats and Format Codes").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    Text,
    Binary,
}

/// A logical type that a tagged column may have: what applications see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DataType {
    Text,
    /// `varchar(n)`: at most this many characters; `None` is `varchar` without a length.
    Varchar(Option<u32>),
    Smallint,
    Integer,
    Bigint,
    /// `numeric(precision, scale)`; `None` is unconstrained `numeric`.
    Numeric(Option<(u16, i16)>),
    Real,
    DoublePrecision,
    Boolean,
    Date,
    Time,
    Timestamp,
    Timestamptz,
    Interval,
    Uuid,
    Bytea,
    Json,
    Jsonb,
    Inet,
}

/// The session settings that the text forms of values depend on. Kept current from ParameterStatus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Style {
    /// As PostgreSQL reports it, for example `ISO, MDY`.
    pub date_style: String,
    /// `postgres`, `postgres_verbose`, `sql_standard` or `iso_8601`.
    pub interval_style: String,
    /// An IANA name or a POSIX specification, as PostgreSQL reports it.
    pub time_zone: String,
}

impl Default for Style {
    fn default() -> Self {
        Style { date_style: "ISO, MDY".into(), interval_style: "postgres".into(), time_zone: "GMT".into() }
    }
}

/// A value that does not fit its logical type: SQLSTATE and primary message as PostgreSQL words it, without the value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValueError {
    /// Five characters, for example `22P02`.
    pub sqlstate: &'static str,
    pub message: String,
}

/// Canonical bytes that no value of the type has: the cell was sealed as another type or the format is newer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// The longest canonical plaintext that may be sealed deterministically, in bytes: a btree entry holds 2,704
/// (`nbtree.h`, a third of a page), and the envelope takes its share.
pub const DETERMINISTIC_BYTES_MAX: usize = 2600;

impl ValueError {
    pub(crate) fn new(sqlstate: &'static str, message: impl Into<String>) -> ValueError {
        ValueError { sqlstate, message: message.into() }
    }
    pub(crate) fn syntax(data_type: DataType) -> ValueError {
        ValueError::new("22P02", format!("invalid input syntax for type {}", data_type.family_name()))
    }
    pub(crate) fn binary() -> ValueError {
        ValueError::new("22P03", "incorrect binary data format")
    }
}

#[cfg(test)]
mod tests;

//! What a PostgreSQL value is: its type, its text and binary wire forms, and the canonical bytes that are sealed.
//!
//! Guarantees: reading is total (bad input is a [`ValueError`], never a panic) and never quotes the input; two wire
//! forms of one value give the same canonical bytes; for a type that [`DataType::deterministic`] accepts, canonical
//! bytes are equal exactly when PostgreSQL calls the values equal.
//! Deliberately absent: keys, columns, policy. A value does not know where it is stored.

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

impl DataType {
    /// Reads a type as SQL spells it: `varchar(320)`, `numeric(12,2)`, `timestamp with time zone`, `int`, …
    pub fn parse(_sql: &str) -> Option<DataType> {
        todo!()
    }
    /// PostgreSQL's own spelling (`format_type`): `character varying(320)`.
    pub fn sql(&self) -> String {
        todo!()
    }
    /// The type's OID in `pg_type`.
    pub fn oid(&self) -> u32 {
        todo!()
    }
    /// The OID of its array type.
    pub fn array_oid(&self) -> u32 {
        todo!()
    }
    /// `pg_attribute.atttypmod`: -1 when the type carries none.
    pub fn typmod(&self) -> i32 {
        todo!()
    }
    /// `pg_type.typlen`: bytes of a fixed-length type, -1 for a variable one.
    pub fn typlen(&self) -> i16 {
        todo!()
    }
    /// The type that a client's declared parameter OID stands for; `None` for one that we do not convert from.
    /// `name`, `bpchar`, `varchar` and `unknown` (705, and 0) read as text.
    pub fn from_oid(_oid: u32) -> Option<DataType> {
        todo!()
    }
    /// Whether a column of `self` may belong to a domain of type `of` (same family, narrower or equal).
    pub fn narrows(&self, _of: &DataType) -> bool {
        todo!()
    }
    /// Why the type may not be sealed deterministically, or `Ok` when its canonical bytes agree with PostgreSQL's equality.
    pub fn deterministic(&self) -> Result<(), &'static str> {
        todo!()
    }
    /// Reads a wire value that the client sent as type `sent` (from its declared OID; text of unknown type is
    /// `sent == self` in text format) and appends the canonical bytes of this type, with PostgreSQL's assignment
    /// cast between them, range, length and precision enforced.
    ///
    /// # Errors
    /// PostgreSQL's SQLSTATE for what does not fit: 22001, 22003, 22007, 22008, 22P02, 22P03, 42804, 22021.
    pub fn read(
        &self,
        _sent: &DataType,
        _format: Format,
        _wire: &[u8],
        _style: &Style,
        _canonical: &mut Vec<u8>,
    ) -> Result<(), ValueError> {
        todo!()
    }
    /// Appends the wire form of canonical bytes, exactly as PostgreSQL would print or send the value.
    pub fn write(
        &self,
        _canonical: &[u8],
        _format: Format,
        _style: &Style,
        _wire: &mut Vec<u8>,
    ) -> Result<(), Malformed> {
        todo!()
    }
}

/// Splits a one-dimensional array in wire form into its elements (`None` is NULL), for `= ANY($1)`.
/// `element` is the type the client declared the elements to have.
pub fn array_elements(_format: Format, _wire: &[u8]) -> Result<Vec<Option<Vec<u8>>>, ValueError> {
    todo!()
}

//! Wire forms → canonical bytes and back: the table that leads each type to its own file.

use super::{
    DataType, Format, Malformed, Style, ValueError, boolean, bytea, cast, datetime, float, inet, integer,
    interval, json, numeric, text, uuid,
};
use zeroize::Zeroizing;

impl DataType {
    /// Reads a wire value that the client sent as type `sent` (from its declared OID; text of unknown type is
    /// `sent == self` in text format) and appends the canonical bytes of this type, with PostgreSQL's assignment
    /// cast between them, range, length and precision enforced.
    ///
    /// # Errors
    /// PostgreSQL's SQLSTATE for what does not fit: 22001, 22003, 22007, 22008, 22P02, 22P03, 42804, 22021 and the
    /// others that an input function gives. `canonical` is then as it was.
    pub fn read(
        &self,
        sent: &DataType,
        format: Format,
        wire: &[u8],
        style: &Style,
        canonical: &mut Vec<u8>,
    ) -> Result<(), ValueError> {
        let start = canonical.len();
        let done = if cast::same_input(self, sent) {
            self.read_own(format, wire, style, canonical)
        } else {
            cast::read(self, sent, format, wire, style, canonical)
        };
        if done.is_err() {
            canonical.truncate(start);
        }
        done
    }

    /// Reads a value of this very type (or its family: integers of any width, any text).
    pub(super) fn read_own(
        &self,
        format: Format,
        wire: &[u8],
        style: &Style,
        canonical: &mut Vec<u8>,
    ) -> Result<(), ValueError> {
        let text = || text::input(wire);
        match (self, format) {
            (DataType::Text, _) => canonical.extend_from_slice(text()?.as_bytes()),
            (DataType::Varchar(length), _) => {
                canonical.extend_from_slice(text::fit(text()?, *length)?.as_bytes());
            }
            (DataType::Smallint | DataType::Integer | DataType::Bigint, Format::Text) => {
                canonical.extend_from_slice(&integer::read_text(*self, text()?)?.to_be_bytes());
            }
            (DataType::Smallint | DataType::Integer | DataType::Bigint, Format::Binary) => {
                canonical.extend_from_slice(&integer::read_binary(*self, wire)?.to_be_bytes());
            }
            (DataType::Numeric(typmod), Format::Text) => {
                canonical.extend_from_slice(numeric::read_text(text()?, *typmod)?.as_bytes());
            }
            (DataType::Numeric(typmod), Format::Binary) => {
                let decimal = numeric::binary_to_text(wire)?;
                canonical.extend_from_slice(numeric::read_text(&decimal, *typmod)?.as_bytes());
            }
            (DataType::Real, Format::Text) => {
                canonical.extend_from_slice(&(float::read_text(*self, text()?)? as f32).to_be_bytes());
            }
            (DataType::DoublePrecision, Format::Text) => {
                canonical.extend_from_slice(&float::read_text(*self, text()?)?.to_be_bytes());
            }
            (DataType::Real, Format::Binary) => sized(wire, 4, canonical)?,
            (DataType::DoublePrecision, Format::Binary) => sized(wire, 8, canonical)?,
            (DataType::Boolean, Format::Text) => canonical.push(u8::from(boolean::read_text(text()?)?)),
            (DataType::Boolean, Format::Binary) => canonical.push(u8::from(boolean::read_binary(wire)?)),
            (DataType::Uuid, Format::Text) => canonical.extend_from_slice(&uuid::read_text(text()?)?),
            (DataType::Uuid | DataType::Interval, Format::Binary) => sized(wire, 16, canonical)?,
            (DataType::Bytea, Format::Text) => canonical.extend_from_slice(&bytea::read_text(text()?)?),
            (DataType::Bytea, Format::Binary) => canonical.extend_from_slice(wire),
            (DataType::Json, _) => {
                json::validate(text()?)?;
                canonical.extend_from_slice(wire);
            }
            (DataType::Jsonb, Format::Text) => {
                canonical.extend_from_slice(json::normalise(text()?)?.as_bytes());
            }
            (DataType::Jsonb, Format::Binary) => match wire.split_first() {
                Some((1, rest)) => {
                    canonical.extend_from_slice(json::normalise(text::input(rest)?)?.as_bytes());
                }
                _ => return Err(ValueError::new("22P03", "unsupported jsonb version number")),
            },
            (DataType::Inet, Format::Text) => inet::read_text(text()?, canonical)?,
            (DataType::Inet, Format::Binary) => inet::read_binary(wire, canonical)?,
            (DataType::Interval, Format::Text) => interval::read_text(text()?, style, canonical)?,
            (DataType::Date | DataType::Time | DataType::Timestamp | DataType::Timestamptz, Format::Text) => {
                datetime::read_text(*self, text()?, style, canonical)?;
            }
            (
                DataType::Date | DataType::Time | DataType::Timestamp | DataType::Timestamptz,
                Format::Binary,
            ) => {
                canonical.extend_from_slice(&datetime::read_binary(*self, wire)?);
            }
        }
        Ok(())
    }

    /// Appends the binary form of a value in text, for a column that is not sealed: what is read here is what the server
    /// would read, whatever time zones it knows.
    ///
    /// # Errors
    /// As [`read`](Self::read), also for spellings that PostgreSQL knows and this does not: relative dates, Julian days, numbers in
    /// other bases. 0A000 for a `timestamptz` whose instant is the time zone database's to say, see
    /// [`is_certain`](Self::is_certain). Part of the value may stand in `binary` then.
    pub fn text_to_binary(&self, wire: &[u8], style: &Style, binary: &mut Vec<u8>) -> Result<(), ValueError> {
        if *self == DataType::Timestamptz && datetime::names_zone(wire) {
            return Err(ValueError::new("0A000", "time zone by name is not supported in a copy in binary"));
        }
        if self.is_verbatim(Format::Binary) {
            return self.read_own(Format::Text, wire, style, binary);
        }
        let mut canonical = Zeroizing::new(Vec::with_capacity(wire.len() + 8));
        self.read_own(Format::Text, wire, style, &mut canonical)?;
        self.write(&canonical, Format::Binary, style, binary).map_err(|Malformed| ValueError::binary())
    }

    /// Whether no value in text that names no time zone depends on the time zone database.
    pub fn is_certain(&self, style: &Style) -> bool {
        *self != DataType::Timestamptz
            || matches!(style.time_zone.as_str(), "UTC" | "GMT" | "Etc/UTC" | "Etc/GMT")
    }

    /// Appends the wire form of canonical bytes, exactly as PostgreSQL would print or send the value.
    ///
    /// # Errors
    /// [`Malformed`] for bytes that no value of the type has; what was appended until then stays in `wire`.
    pub fn write(
        &self,
        canonical: &[u8],
        format: Format,
        style: &Style,
        wire: &mut Vec<u8>,
    ) -> Result<(), Malformed> {
        match format {
            Format::Text => self.write_text(canonical, style, wire),
            Format::Binary => self.write_binary(canonical, wire),
        }
    }

    fn write_text(&self, canonical: &[u8], style: &Style, wire: &mut Vec<u8>) -> Result<(), Malformed> {
        match self {
            DataType::Bytea => bytea::write_text(canonical, wire),
            DataType::Text
            | DataType::Varchar(_)
            | DataType::Json
            | DataType::Jsonb
            | DataType::Numeric(_) => wire.extend_from_slice(text::output(canonical)?.as_bytes()),
            DataType::Smallint | DataType::Integer | DataType::Bigint => {
                return integer::write(*self, canonical, Format::Text, wire);
            }
            DataType::Real | DataType::DoublePrecision => {
                wire.extend_from_slice(float::write_text(*self, float::of(*self, canonical)?).as_bytes());
            }
            DataType::Boolean => wire.push(if boolean::of(canonical)? { b't' } else { b'f' }),
            DataType::Uuid => wire.extend_from_slice(uuid::write_text(canonical)?.as_bytes()),
            DataType::Inet => wire.extend_from_slice(inet::write_text(canonical, false)?.as_bytes()),
            DataType::Interval => {
                wire.extend_from_slice(interval::write_text(canonical, &style.interval_style)?.as_bytes());
            }
            DataType::Date | DataType::Time | DataType::Timestamp | DataType::Timestamptz => {
                datetime::append_text(*self, canonical, style, wire)?;
            }
        }
        Ok(())
    }

    /// Whether the wire form is the canonical bytes themselves.
    pub fn is_verbatim(&self, format: Format) -> bool {
        match self {
            DataType::Text | DataType::Varchar(_) | DataType::Json => true,
            DataType::Jsonb | DataType::Numeric(_) => format == Format::Text,
            DataType::Smallint | DataType::Integer => false,
            DataType::Bigint
            | DataType::Real
            | DataType::DoublePrecision
            | DataType::Boolean
            | DataType::Date
            | DataType::Time
            | DataType::Timestamp
            | DataType::Timestamptz
            | DataType::Interval
            | DataType::Uuid
            | DataType::Bytea
            | DataType::Inet => format == Format::Binary,
        }
    }

    /// Holds canonical bytes, which are mostly what PostgreSQL sends, to their type all the same.
    fn check(&self, canonical: &[u8]) -> Result<(), Malformed> {
        match self {
            DataType::Text
            | DataType::Varchar(_)
            | DataType::Json
            | DataType::Jsonb
            | DataType::Numeric(_) => text::output(canonical).map(drop),
            DataType::Smallint | DataType::Integer | DataType::Bigint => integer::of(canonical).map(drop),
            DataType::Real | DataType::DoublePrecision => float::of(*self, canonical).map(drop),
            DataType::Boolean => boolean::of(canonical).map(drop),
            DataType::Date => datetime::days_of(canonical).map(drop),
            DataType::Time => datetime::time_of(canonical).map(drop),
            DataType::Timestamp | DataType::Timestamptz => datetime::micros_of(canonical).map(drop),
            DataType::Interval => interval::Parts::of(canonical).map(drop),
            DataType::Uuid if canonical.len() != 16 => Err(Malformed),
            DataType::Uuid | DataType::Bytea => Ok(()),
            DataType::Inet => inet::write_text(canonical, false).map(drop),
        }
    }

    /// Holds the canonical bytes of many values to their type: they follow each other in `bytes` without a gap, which
    /// `values` (start and end of each) covers.
    ///
    /// # Errors
    /// [`Malformed`] when one of them is.
    pub fn check_all(
        &self,
        bytes: &[u8],
        values: impl Iterator<Item = (usize, usize)>,
    ) -> Result<(), Malformed> {
        let at = |start: usize, end: usize| bytes.get(start..end).ok_or(Malformed);
        match self {
            DataType::Text
            | DataType::Varchar(_)
            | DataType::Json
            | DataType::Jsonb
            | DataType::Numeric(_) => {
                // Together they are text, and each begins where a character does.
                let (mut first, mut last, mut whole) = (None, 0, true);
                for (start, end) in values {
                    let continues = bytes.get(start).is_some_and(|byte| byte & 0xc0 == 0x80);
                    whole &= !continues || start == end;
                    first.get_or_insert(start);
                    last = end;
                }
                let text = std::str::from_utf8(at(first.unwrap_or(0), last)?);
                if whole && text.is_ok() { Ok(()) } else { Err(Malformed) }
            }
            _ => {
                for (start, end) in values {
                    self.check(at(start, end)?)?;
                }
                Ok(())
            }
        }
    }

    fn write_binary(&self, canonical: &[u8], wire: &mut Vec<u8>) -> Result<(), Malformed> {
        match self {
            DataType::Smallint | DataType::Integer | DataType::Bigint => {
                return integer::write(*self, canonical, Format::Binary, wire);
            }
            DataType::Numeric(_) => return numeric::text_to_binary(text::output(canonical)?, wire),
            _ => self.check(canonical)?,
        }
        if *self == DataType::Jsonb {
            wire.push(1);
        }
        wire.extend_from_slice(canonical);
        Ok(())
    }
}

fn sized(wire: &[u8], length: usize, canonical: &mut Vec<u8>) -> Result<(), ValueError> {
    if wire.len() != length {
        return Err(ValueError::binary());
    }
    canonical.extend_from_slice(wire);
    Ok(())
}

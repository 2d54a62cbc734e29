//! Wire forms → canonical bytes and back, for every type, with PostgreSQL's assignment casts between types.

use super::families::{
    boolean_text, bytea_text, fit, float_output, float_text, integer_binary, integer_text, out_of_range,
    ranged, text_input, uuid_output, uuid_text, write_integer,
};
use super::{DataType, Format, Malformed, Style, ValueError, datetime, inet, interval, json, numeric};

impl DataType {
    /// Reads a wire value that the client sent as type `sent` (from its declared OID; text of unknown type is
    /// `sent == self` in text format) and appends the canonical bytes of this type, with PostgreSQL's assignment
    /// cast between them, range, length and precision enforced.
    ///
    /// # Errors
    /// PostgreSQL's SQLSTATE for what does not fit: 22001, 22003, 22007, 22008, 22P02, 22P03, 42804, 22021.
    pub fn read(
        &self,
        sent: &DataType,
        format: Format,
        wire: &[u8],
        style: &Style,
        canonical: &mut Vec<u8>,
    ) -> Result<(), ValueError> {
        if same_family(self, sent) {
            return self.read_own(format, wire, style, canonical);
        }
        // Through the sent type's canonical form to its text, as an assignment through I/O or a numeric cast would be.
        let mut own = zeroize::Zeroizing::new(vec![]);
        sent.read_own(format, wire, style, &mut own)?;
        let allowed = match (sent, self) {
            (a, DataType::Smallint | DataType::Integer | DataType::Bigint | DataType::Numeric(_)) => {
                is_number(a)
            }
            (a, DataType::Real | DataType::DoublePrecision) => is_number(a),
            (DataType::Date, DataType::Timestamp | DataType::Timestamptz) => true,
            (
                DataType::Timestamp | DataType::Timestamptz,
                DataType::Date | DataType::Timestamp | DataType::Timestamptz,
            ) => true,
            (DataType::Json, DataType::Jsonb) | (DataType::Jsonb, DataType::Json) => true,
            (_, DataType::Text | DataType::Varchar(_)) => true,
            _ => false,
        };
        if !allowed {
            return Err(ValueError::new(
                "42804",
                format!("column is of type {} but expression is of type {}", self.sql(), sent.sql()),
            ));
        }
        if is_integer(self) && !is_integer(sent) {
            return self.read_rounded(sent, &own, style, canonical);
        }
        let iso = Style { date_style: "ISO, MDY".into(), ..style.clone() };
        let text_style = if matches!(self, DataType::Text | DataType::Varchar(_)) { style } else { &iso };
        let mut text = zeroize::Zeroizing::new(vec![]);
        sent.write(&own, Format::Text, text_style, &mut text).map_err(|Malformed| ValueError::binary())?;
        spell_as_cast(sent, &mut text);
        self.read_own(Format::Text, &text, text_style, canonical)
    }

    fn read_rounded(
        &self,
        sent: &DataType,
        own: &[u8],
        style: &Style,
        canonical: &mut Vec<u8>,
    ) -> Result<(), ValueError> {
        let mut text = zeroize::Zeroizing::new(vec![]);
        sent.write(own, Format::Text, style, &mut text).map_err(|Malformed| ValueError::binary())?;
        let text = text_input(&text)?;
        let rounded = match sent {
            // Floats round half to even (`rint`), numeric half away from zero.
            DataType::Real | DataType::DoublePrecision => {
                let value = float_text(*sent, text)?;
                if !value.is_finite() {
                    return Err(out_of_range(*self));
                }
                format!("{:.0}", value.round_ties_even())
            }
            _ => numeric::read_text(text, Some((1000, 0)))?,
        };
        let value = ranged(*self, integer_text(*self, &rounded).map_err(|_| out_of_range(*self))?)?;
        canonical.extend_from_slice(&value.to_be_bytes());
        Ok(())
    }

    /// Reads a value of this very type (or its family: integers of any width, any text).
    fn read_own(
        &self,
        format: Format,
        wire: &[u8],
        style: &Style,
        canonical: &mut Vec<u8>,
    ) -> Result<(), ValueError> {
        let text = || text_input(wire);
        match (self, format) {
            (DataType::Text, _) => canonical.extend_from_slice(text()?.as_bytes()),
            (DataType::Varchar(length), _) => canonical.extend_from_slice(fit(text()?, *length)?.as_bytes()),
            (DataType::Smallint | DataType::Integer | DataType::Bigint, _) => {
                let value = match format {
                    Format::Text => integer_text(*self, text()?)?,
                    Format::Binary => integer_binary(wire)?,
                };
                canonical.extend_from_slice(&ranged(*self, value)?.to_be_bytes());
            }
            (DataType::Numeric(typmod), Format::Text) => {
                canonical.extend_from_slice(numeric::read_text(text()?, *typmod)?.as_bytes());
            }
            (DataType::Numeric(typmod), Format::Binary) => {
                let decimal = numeric::binary_to_text(wire)?;
                canonical.extend_from_slice(numeric::read_text(&decimal, *typmod)?.as_bytes());
            }
            (DataType::Real, Format::Text) => {
                canonical.extend_from_slice(&(float_text(*self, text()?)? as f32).to_be_bytes());
            }
            (DataType::DoublePrecision, Format::Text) => {
                canonical.extend_from_slice(&float_text(*self, text()?)?.to_be_bytes());
            }
            (DataType::Real, Format::Binary) => sized(wire, 4, canonical)?,
            (DataType::DoublePrecision, Format::Binary) => match *wire {
                [a, b, c, d] => {
                    canonical.extend_from_slice(&f64::from(f32::from_be_bytes([a, b, c, d])).to_be_bytes());
                }
                _ => sized(wire, 8, canonical)?,
            },
            (DataType::Boolean, Format::Text) => canonical.push(u8::from(boolean_text(text()?)?)),
            (DataType::Boolean, Format::Binary) => match wire {
                [byte] => canonical.push(u8::from(*byte != 0)),
                _ => return Err(ValueError::binary()),
            },
            (DataType::Uuid, Format::Text) => canonical.extend_from_slice(&uuid_text(text()?)?),
            (DataType::Uuid, Format::Binary) => sized(wire, 16, canonical)?,
            (DataType::Bytea, Format::Text) => canonical.extend_from_slice(&bytea_text(wire)?),
            (DataType::Bytea, Format::Binary) => canonical.extend_from_slice(wire),
            (DataType::Json, _) => {
                json::validate(text()?)?;
                canonical.extend_from_slice(wire);
            }
            (DataType::Jsonb, Format::Text) => {
                canonical.extend_from_slice(json::normalise(text()?)?.as_bytes())
            }
            (DataType::Jsonb, Format::Binary) => match wire.split_first() {
                Some((1, rest)) => {
                    canonical.extend_from_slice(json::normalise(text_input(rest)?)?.as_bytes())
                }
                _ => return Err(ValueError::new("22P03", "unsupported jsonb version number")),
            },
            (DataType::Inet, Format::Text) => inet::read_text(text()?, canonical)?,
            (DataType::Inet, Format::Binary) => inet::read_binary(wire, canonical)?,
            (DataType::Interval, Format::Text) => interval::read_text(text()?, canonical)?,
            (DataType::Interval, Format::Binary) => sized(wire, 16, canonical)?,
            (DataType::Date | DataType::Time | DataType::Timestamp | DataType::Timestamptz, Format::Text) => {
                datetime::read_text(*self, text()?, style, canonical)?
            }
            (DataType::Date, Format::Binary) => sized(wire, 4, canonical)?,
            (DataType::Time | DataType::Timestamp | DataType::Timestamptz, Format::Binary) => {
                sized(wire, 8, canonical)?
            }
        }
        Ok(())
    }

    /// Appends the wire form of canonical bytes, exactly as PostgreSQL would print or send the value.
    pub fn write(
        &self,
        canonical: &[u8],
        format: Format,
        style: &Style,
        wire: &mut Vec<u8>,
    ) -> Result<(), Malformed> {
        let text = || std::str::from_utf8(canonical).map_err(|_| Malformed);
        match (self, format) {
            (DataType::Text | DataType::Varchar(_) | DataType::Json, _) => {
                text()?;
                wire.extend_from_slice(canonical);
            }
            (DataType::Smallint | DataType::Integer | DataType::Bigint, _) => {
                write_integer(*self, canonical, format, wire)?;
            }
            (DataType::Numeric(_), Format::Text) => wire.extend_from_slice(text()?.as_bytes()),
            (DataType::Numeric(_), Format::Binary) => numeric::text_to_binary(text()?, wire)?,
            (DataType::Real, Format::Text) => {
                let value = f32::from_be_bytes(canonical.try_into().map_err(|_| Malformed)?);
                wire.extend_from_slice(float_output(*self, f64::from(value)).as_bytes());
            }
            (DataType::DoublePrecision, Format::Text) => {
                let value = f64::from_be_bytes(canonical.try_into().map_err(|_| Malformed)?);
                wire.extend_from_slice(float_output(*self, value).as_bytes());
            }
            (DataType::Boolean, Format::Text) => match canonical {
                [0] => wire.push(b'f'),
                [1] => wire.push(b't'),
                _ => return Err(Malformed),
            },
            (DataType::Uuid, Format::Text) => wire.extend_from_slice(uuid_output(canonical)?.as_bytes()),
            (DataType::Bytea, Format::Text) => {
                wire.extend_from_slice(b"\\x");
                wire.extend_from_slice(faster_hex::hex_string(canonical).as_bytes());
            }
            (DataType::Bytea, Format::Binary) => wire.extend_from_slice(canonical),
            (DataType::Jsonb, Format::Text) => wire.extend_from_slice(text()?.as_bytes()),
            (DataType::Jsonb, Format::Binary) => {
                wire.push(1);
                wire.extend_from_slice(text()?.as_bytes());
            }
            (DataType::Inet, Format::Text) => wire.extend_from_slice(inet::write_text(canonical)?.as_bytes()),
            (DataType::Interval, Format::Text) => {
                wire.extend_from_slice(interval::write_text(canonical, &style.interval_style)?.as_bytes());
            }
            (DataType::Date | DataType::Time | DataType::Timestamp | DataType::Timestamptz, Format::Text) => {
                wire.extend_from_slice(datetime::write_text(*self, canonical, style)?.as_bytes())
            }
            (DataType::Real | DataType::Date, Format::Binary) => fixed(canonical, 4, wire)?,
            (
                DataType::DoublePrecision | DataType::Time | DataType::Timestamp | DataType::Timestamptz,
                Format::Binary,
            ) => fixed(canonical, 8, wire)?,
            (DataType::Uuid | DataType::Interval, Format::Binary) => fixed(canonical, 16, wire)?,
            (DataType::Boolean, Format::Binary) => fixed(canonical, 1, wire)?,
            (DataType::Inet, Format::Binary) => {
                inet::write_text(canonical)?;
                wire.extend_from_slice(canonical);
            }
        }
        Ok(())
    }
}

/// The two types whose cast to text says more than their output does: `booltext` (`bool.c`), `network_show` (`network.c`).
fn spell_as_cast(sent: &DataType, text: &mut Vec<u8>) {
    let more: &[u8] = match (sent, text.as_slice()) {
        (DataType::Boolean, b"t") => b"rue",
        (DataType::Boolean, b"f") => b"alse",
        (DataType::Inet, address) if address.contains(&b'/') => b"",
        (DataType::Inet, address) if address.contains(&b':') => b"/128",
        (DataType::Inet, _) => b"/32",
        _ => b"",
    };
    text.extend_from_slice(more);
}

fn sized(wire: &[u8], length: usize, canonical: &mut Vec<u8>) -> Result<(), ValueError> {
    if wire.len() != length {
        return Err(ValueError::binary());
    }
    canonical.extend_from_slice(wire);
    Ok(())
}

fn fixed(canonical: &[u8], length: usize, wire: &mut Vec<u8>) -> Result<(), Malformed> {
    if canonical.len() != length {
        return Err(Malformed);
    }
    wire.extend_from_slice(canonical);
    Ok(())
}

fn is_integer(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Smallint | DataType::Integer | DataType::Bigint)
}

fn is_number(data_type: &DataType) -> bool {
    is_integer(data_type)
        || matches!(data_type, DataType::Numeric(_) | DataType::Real | DataType::DoublePrecision)
}

fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Text | DataType::Varchar(_))
}

/// Types that one input routine serves.
fn same_family(a: &DataType, b: &DataType) -> bool {
    std::mem::discriminant(a) == std::mem::discriminant(b)
        || (is_integer(a) && is_integer(b))
        || (is_text(a) && is_text(b))
}

/// Splits a one-dimensional array in wire form into its elements (`None` is NULL), for `= ANY($1)`.
pub fn array_elements(format: Format, wire: &[u8]) -> Result<Vec<Option<Vec<u8>>>, ValueError> {
    match format {
        Format::Text => text_array(text_input(wire)?),
        Format::Binary => binary_array(wire).ok_or_else(ValueError::binary)?,
    }
}

fn multidimensional() -> ValueError {
    ValueError::new("0A000", "only one-dimensional arrays can be compared with a sealed column")
}

/// `array_recv`: dimensions, flags, element type, (length, lower bound), then each element with its length.
fn binary_array(wire: &[u8]) -> Option<Result<Vec<Option<Vec<u8>>>, ValueError>> {
    let mut rest = wire;
    let mut word = || -> Option<i32> {
        let (head, tail) = rest.split_first_chunk::<4>()?;
        rest = tail;
        Some(i32::from_be_bytes(*head))
    };
    let (dimensions, _flags, _element) = (word()?, word()?, word()?);
    if dimensions == 0 {
        return rest.is_empty().then(|| Ok(vec![]));
    }
    if dimensions != 1 {
        return Some(Err(multidimensional()));
    }
    let (count, _lower) = (word()?, word()?);
    let mut elements = vec![];
    for _ in 0..count {
        let (head, tail) = rest.split_first_chunk::<4>()?;
        rest = tail;
        match i32::from_be_bytes(*head) {
            -1 => elements.push(None),
            length => {
                let (element, tail) = rest.split_at_checked(usize::try_from(length).ok()?)?;
                elements.push(Some(element.to_vec()));
                rest = tail;
            }
        }
    }
    rest.is_empty().then_some(Ok(elements))
}

/// `array_in`: `{a,"b\"c",NULL}`.
fn text_array(text: &str) -> Result<Vec<Option<Vec<u8>>>, ValueError> {
    let malformed = || ValueError::new("22P02", "malformed array literal");
    let inner =
        text.trim().strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).ok_or_else(malformed)?;
    let mut elements = vec![];
    let mut rest = inner.trim_start();
    if rest.is_empty() {
        return Ok(elements);
    }
    loop {
        rest = rest.trim_start();
        let (element, after) = match rest.as_bytes().first() {
            Some(b'"') => quoted_element(&rest[1..]).ok_or_else(malformed)?,
            Some(b'{') => return Err(multidimensional()),
            _ => bare_element(rest).ok_or_else(malformed)?,
        };
        elements.push(element);
        rest = after.trim_start();
        match rest.as_bytes().first() {
            None => return Ok(elements),
            Some(b',') => rest = &rest[1..],
            Some(_) => return Err(malformed()),
        }
    }
}

type Element<'a> = (Option<Vec<u8>>, &'a str);

fn quoted_element(rest: &str) -> Option<Element<'_>> {
    let mut value = String::new();
    let mut chars = rest.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((Some(value.into_bytes()), &rest[at + 1..])),
            '\\' => value.push(chars.next()?.1),
            other => value.push(other),
        }
    }
    None
}

fn bare_element(rest: &str) -> Option<Element<'_>> {
    let mut value = String::new();
    let mut escaped = false;
    let mut end = rest.len();
    let mut chars = rest.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            ',' => {
                end = at;
                break;
            }
            '"' | '{' | '}' => return None,
            '\\' => {
                escaped = true;
                value.push(chars.next()?.1);
            }
            other => value.push(other),
        }
    }
    let trimmed = value.trim_end();
    if trimmed.is_empty() {
        return None;
    }
    let null = !escaped && trimmed.eq_ignore_ascii_case("null");
    Some(((!null).then(|| trimmed.as_bytes().to_vec()), &rest[end..]))
}

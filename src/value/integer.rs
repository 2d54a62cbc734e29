//! `smallint`, `integer` and `bigint`: canonical bytes are eight, big-endian, one form for all widths.
//!
//! So columns of different widths in one domain have equal bytes for equal numbers.

use super::{DataType, Format, Malformed, ValueError, text};
use std::io::Write as _;

/// `int2in`, `int4in`, `int8in` (`numutils.c`): a sign, decimal digits, spaces around.
pub(super) fn read_text(data_type: DataType, input: &str) -> Result<i64, ValueError> {
    let trimmed = text::trim(input);
    let (negative, digits) = match trimmed.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, trimmed.strip_prefix('+').unwrap_or(trimmed)),
    };
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(ValueError::syntax(data_type));
    }
    let beyond =
        || ValueError::new("22003", format!("value out of range for type {}", data_type.family_name()));
    let magnitude: i128 = digits.parse().map_err(|_| beyond())?;
    let value = i64::try_from(if negative { -magnitude } else { magnitude }).map_err(|_| beyond())?;
    if in_range(data_type, value) { Ok(value) } else { Err(beyond()) }
}

/// Two, four or eight bytes: a client that was told `integer` may fill a slot that compares as `bigint`.
pub(super) fn read_binary(data_type: DataType, wire: &[u8]) -> Result<i64, ValueError> {
    let value = match *wire {
        [a, b] => i64::from(i16::from_be_bytes([a, b])),
        [a, b, c, d] => i64::from(i32::from_be_bytes([a, b, c, d])),
        _ => i64::from_be_bytes(wire.try_into().map_err(|_| ValueError::binary())?),
    };
    cast(data_type, value)
}

/// Holds an integer to its type's range, as a cast from a wider integer does.
pub(super) fn cast(data_type: DataType, value: i64) -> Result<i64, ValueError> {
    if in_range(data_type, value) { Ok(value) } else { Err(out_of_range(data_type)) }
}

/// What a cast says (`int4.c` `int42`).
pub(super) fn out_of_range(data_type: DataType) -> ValueError {
    ValueError::new("22003", format!("{} out of range", data_type.family_name()))
}

fn in_range(data_type: DataType, value: i64) -> bool {
    match data_type {
        DataType::Smallint => i16::try_from(value).is_ok(),
        DataType::Integer => i32::try_from(value).is_ok(),
        _ => true,
    }
}

/// The number in canonical bytes.
pub(super) fn of(canonical: &[u8]) -> Result<i64, Malformed> {
    canonical.try_into().map(i64::from_be_bytes).map_err(|_| Malformed)
}

pub(super) fn write(
    data_type: DataType,
    canonical: &[u8],
    format: Format,
    wire: &mut Vec<u8>,
) -> Result<(), Malformed> {
    let value = of(canonical)?;
    if !in_range(data_type, value) {
        return Err(Malformed);
    }
    match (format, data_type) {
        (Format::Text, _) => write!(wire, "{value}").expect("a vector takes what it is given"),
        (Format::Binary, DataType::Smallint) => {
            wire.extend_from_slice(&i16::try_from(value).map_err(|_| Malformed)?.to_be_bytes());
        }
        (Format::Binary, DataType::Integer) => {
            wire.extend_from_slice(&i32::try_from(value).map_err(|_| Malformed)?.to_be_bytes());
        }
        (Format::Binary, _) => wire.extend_from_slice(&value.to_be_bytes()),
    }
    Ok(())
}

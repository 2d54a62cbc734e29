//! Text and binary forms of the simple families: text, integers, floats, boolean, uuid, bytea, json.

use super::{DataType, Format, Malformed, ValueError};

/// Reads a value of exactly `data_type` and appends its canonical bytes.
pub(super) fn text_input(bytes: &[u8]) -> Result<&str, ValueError> {
    let text = std::str::from_utf8(bytes)
        .map_err(|_| ValueError::new("22021", "invalid byte sequence for encoding \"UTF8\""))?;
    if text.contains('\0') {
        return Err(ValueError::new("22021", "invalid byte sequence for encoding \"UTF8\": 0x00"));
    }
    Ok(text)
}

/// Assignment to `varchar(n)`: longer values are an error unless what is beyond is spaces (`varchar.c` `varchar_input`).
pub(super) fn fit(text: &str, length: Option<u32>) -> Result<&str, ValueError> {
    let Some(length) = length else { return Ok(text) };
    let limit = usize::try_from(length).unwrap_or(usize::MAX);
    match text.char_indices().nth(limit) {
        None => Ok(text),
        Some((end, _)) if text[end..].bytes().all(|byte| byte == b' ') => Ok(&text[..end]),
        Some(_) => {
            Err(ValueError::new("22001", format!("value too long for type character varying({length})")))
        }
    }
}

/// Decimal, hexadecimal, octal and binary integers as PostgreSQL 16 reads them (`numutils.c`).
pub(super) fn integer_text(data_type: DataType, text: &str) -> Result<i64, ValueError> {
    let trimmed = text.trim_matches(|c: char| matches!(c, ' ' | '\t' | '\n' | '\r' | '\x0b' | '\x0c'));
    let (negative, digits) = match trimmed.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, trimmed.strip_prefix('+').unwrap_or(trimmed)),
    };
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(ValueError::syntax(data_type));
    }
    let magnitude: i128 = digits.parse().map_err(|_| out_of_range(data_type))?;
    let value = if negative { -magnitude } else { magnitude };
    i64::try_from(value).map_err(|_| out_of_range(data_type))
}

pub(super) fn out_of_range(data_type: DataType) -> ValueError {
    ValueError::new("22003", format!("value is out of range for type {}", data_type.family_name()))
}

/// Holds an integer to its type's range.
pub(super) fn ranged(data_type: DataType, value: i64) -> Result<i64, ValueError> {
    let fits = match data_type {
        DataType::Smallint => i16::try_from(value).is_ok(),
        DataType::Integer => i32::try_from(value).is_ok(),
        _ => true,
    };
    if fits {
        Ok(value)
    } else {
        Err(ValueError::new("22003", format!("{} out of range", data_type.family_name())))
    }
}

pub(super) fn integer_binary(bytes: &[u8]) -> Result<i64, ValueError> {
    match bytes.len() {
        2 => bytes.try_into().map(|b| i64::from(i16::from_be_bytes(b))).map_err(|_| ValueError::binary()),
        4 => bytes.try_into().map(|b| i64::from(i32::from_be_bytes(b))).map_err(|_| ValueError::binary()),
        8 => bytes.try_into().map(i64::from_be_bytes).map_err(|_| ValueError::binary()),
        _ => Err(ValueError::binary()),
    }
}

/// Canonical integers are eight bytes, big-endian: one form for all widths.
pub(super) fn integer_of(canonical: &[u8]) -> Result<i64, Malformed> {
    canonical.try_into().map(i64::from_be_bytes).map_err(|_| Malformed)
}

pub(super) fn write_integer(
    data_type: DataType,
    canonical: &[u8],
    format: Format,
    wire: &mut Vec<u8>,
) -> Result<(), Malformed> {
    let value = integer_of(canonical)?;
    match (format, data_type) {
        (Format::Text, _) => wire.extend_from_slice(value.to_string().as_bytes()),
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

/// `boolin`: unique prefixes of true, false, yes, no, on, off, and 1 and 0.
pub(super) fn boolean_text(text: &str) -> Result<bool, ValueError> {
    let lower = text.trim().to_ascii_lowercase();
    match lower.as_str() {
        "t" | "tr" | "tru" | "true" | "y" | "ye" | "yes" | "on" | "1" => Ok(true),
        "f" | "fa" | "fal" | "fals" | "false" | "n" | "no" | "of" | "off" | "0" => Ok(false),
        _ => Err(ValueError::syntax(DataType::Boolean)),
    }
}

/// Floats: `float8in` accepts what Rust's parser does, with its own spellings of infinity and NaN.
pub(super) fn float_text(data_type: DataType, text: &str) -> Result<f64, ValueError> {
    let trimmed = text.trim();
    let value = match trimmed.to_ascii_lowercase().as_str() {
        "nan" => f64::NAN,
        "infinity" | "+infinity" | "inf" | "+inf" => f64::INFINITY,
        "-infinity" | "-inf" => f64::NEG_INFINITY,
        lower if lower.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'+' | b'-')) => {
            let value: f64 = match data_type {
                DataType::Real => lower.parse::<f32>().map(f64::from),
                _ => lower.parse::<f64>(),
            }
            .map_err(|_| ValueError::syntax(data_type))?;
            let zero = lower
                .split('e')
                .next()
                .is_some_and(|digits| !digits.bytes().any(|b| (b'1'..=b'9').contains(&b)));
            if value.is_infinite() || (value == 0.0 && !zero) {
                return Err(out_of_range(data_type));
            }
            value
        }
        _ => return Err(ValueError::syntax(data_type)),
    };
    Ok(value)
}

/// Shortest digits that read back the same, in PostgreSQL's layout: exponent from 1e15 (1e6 for real) and below 1e-4.
pub(super) fn float_output(data_type: DataType, value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "Infinity" } else { "-Infinity" }.to_owned();
    }
    let (scientific, limit) = match data_type {
        DataType::Real => (format!("{:e}", value as f32), 6),
        _ => (format!("{value:e}"), 15),
    };
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..limit).contains(&exponent) || value == 0.0 {
        return match data_type {
            DataType::Real => format!("{}", value as f32),
            _ => format!("{value}"),
        };
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", exponent.abs())
}

/// `uuid_in`: 32 hex digits, a hyphen allowed after each group of four, braces round all.
pub(super) fn uuid_text(text: &str) -> Result<[u8; 16], ValueError> {
    let wrong = || ValueError::syntax(DataType::Uuid);
    let inner = match text.strip_prefix('{') {
        Some(rest) => rest.strip_suffix('}').ok_or_else(wrong)?,
        None => text,
    };
    let mut digits = Vec::with_capacity(32);
    for c in inner.bytes() {
        match c {
            b'-' if !digits.is_empty() && digits.len() % 4 == 0 && digits.len() < 32 => {}
            digit if digit.is_ascii_hexdigit() => digits.push(digit),
            _ => return Err(wrong()),
        }
    }
    let mut uuid = [0; 16];
    if digits.len() != 32 {
        return Err(wrong());
    }
    faster_hex::hex_decode(&digits, &mut uuid).map_err(|_| wrong())?;
    Ok(uuid)
}

pub(super) fn uuid_output(canonical: &[u8]) -> Result<String, Malformed> {
    let uuid: &[u8; 16] = canonical.try_into().map_err(|_| Malformed)?;
    let hex = faster_hex::hex_string(uuid);
    Ok(format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]))
}

/// `byteain`: `\x` and hex digits, or the escape format.
pub(super) fn bytea_text(text: &[u8]) -> Result<Vec<u8>, ValueError> {
    let wrong = || ValueError::syntax(DataType::Bytea);
    if let Some(digits) = text.strip_prefix(b"\\x") {
        let digits: Vec<u8> = digits.iter().copied().filter(|b| !b.is_ascii_whitespace()).collect();
        let mut bytes = vec![0; digits.len() / 2];
        if !digits.len().is_multiple_of(2) {
            return Err(ValueError::new("22023", "invalid hexadecimal data: odd number of digits"));
        }
        faster_hex::hex_decode(&digits, &mut bytes)
            .map_err(|_| ValueError::new("22023", "invalid hexadecimal digit"))?;
        return Ok(bytes);
    }
    let mut bytes = vec![];
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        match (first, after) {
            (b'\\', [b'\\', after @ ..]) => {
                bytes.push(b'\\');
                rest = after;
            }
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', after @ ..]) => {
                bytes.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                rest = after;
            }
            (b'\\', _) => return Err(wrong()),
            (byte, after) => {
                bytes.push(*byte);
                rest = after;
            }
        }
    }
    Ok(bytes)
}

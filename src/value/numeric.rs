//! `numeric`: exact decimals in text, in PostgreSQL's binary form (`numeric.c` `numeric_send`), and canonical.
//!
//! Canonical bytes are the decimal's text in one normal form: sign, digits without leading zeros, and the display scale
//! kept. Under a fixed scale equal values have one text; without one the type is not deterministic.

use super::{DataType, Malformed, ValueError};

/// A decimal as digits: `digits` without a point, the last `scale` of them after it.
struct Decimal {
    negative: bool,
    digits: Vec<u8>,
    scale: usize,
}

/// Longest expansion of an exponent that is read, in digits (`NUMERIC_MAX_PRECISION` and display scale limits).
const DIGITS_MAX: i64 = 131_072 + 16_383;

pub(super) fn read_text(text: &str, typmod: Option<(u16, i16)>) -> Result<String, ValueError> {
    let trimmed = text.trim();
    match trimmed.to_ascii_lowercase().as_str() {
        "nan" => return Ok("NaN".to_owned()),
        "infinity" | "+infinity" | "inf" | "+inf" => return infinite("Infinity", typmod),
        "-infinity" | "-inf" => return infinite("-Infinity", typmod),
        _ => {}
    }
    fit(parse(trimmed)?, typmod)
}

fn infinite(text: &str, typmod: Option<(u16, i16)>) -> Result<String, ValueError> {
    match typmod {
        None => Ok(text.to_owned()),
        Some(_) => Err(ValueError::new("22003", "numeric field overflow")),
    }
}

fn parse(text: &str) -> Result<Decimal, ValueError> {
    let wrong = || ValueError::syntax(DataType::Numeric(None));
    let (negative, rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    let (mantissa, exponent) = match rest.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i64>().map_err(|_| wrong())?),
        None => (rest, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits: Vec<u8> = whole.bytes().chain(fraction.bytes()).collect();
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(wrong());
    }
    let mut decimal = Decimal { negative, digits, scale: fraction.len() };
    if exponent.abs() > DIGITS_MAX {
        return Err(ValueError::new("22003", "value overflows numeric format"));
    }
    let scale = i64::try_from(decimal.scale).unwrap_or(i64::MAX) - exponent;
    match usize::try_from(scale) {
        Ok(scale) => {
            while decimal.digits.len() < scale + 1 {
                decimal.digits.insert(0, b'0');
            }
            decimal.scale = scale;
        }
        Err(_) => {
            let zeros = usize::try_from(-scale).unwrap_or(0);
            decimal.digits.extend(std::iter::repeat_n(b'0', zeros));
            decimal.scale = 0;
        }
    }
    Ok(decimal)
}

/// Rounds half away from zero to the scale, and holds the value to its precision.
fn fit(mut decimal: Decimal, typmod: Option<(u16, i16)>) -> Result<String, ValueError> {
    if let Some((precision, scale)) = typmod {
        round(&mut decimal, i64::from(scale));
        let whole_max = i64::from(precision) - i64::from(scale);
        let whole = decimal.digits.len() - decimal.scale;
        let leading = decimal.digits.iter().take(whole).take_while(|digit| **digit == b'0').count();
        let nonzero = decimal.digits.iter().any(|digit| *digit != b'0');
        let whole_digits = i64::try_from(whole - leading).unwrap_or(i64::MAX);
        if nonzero && whole_digits > whole_max.max(0) {
            return Err(ValueError::new("22003", "numeric field overflow"));
        }
    }
    Ok(print(&decimal))
}

fn round(decimal: &mut Decimal, scale: i64) {
    let own = i64::try_from(decimal.scale).unwrap_or(i64::MAX);
    if own <= scale {
        let zeros = usize::try_from(scale - own).unwrap_or(0);
        decimal.digits.extend(std::iter::repeat_n(b'0', zeros));
        decimal.scale += zeros;
        return;
    }
    let cut = usize::try_from(own - scale).unwrap_or(usize::MAX);
    while decimal.digits.len() <= cut {
        decimal.digits.insert(0, b'0');
    }
    let keep = decimal.digits.len() - cut;
    let up = decimal.digits[keep] >= b'5';
    decimal.digits.truncate(keep);
    if up {
        increment(&mut decimal.digits);
    }
    match usize::try_from(scale) {
        Ok(scale) => decimal.scale = scale,
        Err(_) => {
            let zeros = usize::try_from(-scale).unwrap_or(0);
            decimal.digits.extend(std::iter::repeat_n(b'0', zeros));
            decimal.scale = 0;
        }
    }
}

fn increment(digits: &mut Vec<u8>) {
    for digit in digits.iter_mut().rev() {
        if *digit < b'9' {
            *digit += 1;
            return;
        }
        *digit = b'0';
    }
    digits.insert(0, b'1');
}

fn print(decimal: &Decimal) -> String {
    let whole_end = decimal.digits.len() - decimal.scale;
    let (whole, fraction) = decimal.digits.split_at(whole_end);
    let first = whole.iter().position(|digit| *digit != b'0').unwrap_or(whole.len());
    let mut out = String::with_capacity(decimal.digits.len() + 3);
    if decimal.negative && decimal.digits.iter().any(|digit| *digit != b'0') {
        out.push('-');
    }
    match &whole[first..] {
        [] => out.push('0'),
        digits => out.extend(digits.iter().map(|digit| char::from(*digit))),
    }
    if !fraction.is_empty() {
        out.push('.');
        out.extend(fraction.iter().map(|digit| char::from(*digit)));
    }
    out
}

const SIGN_NEGATIVE: u16 = 0x4000;
const SIGN_NAN: u16 = 0xC000;
const SIGN_POSITIVE_INFINITY: u16 = 0xD000;
const SIGN_NEGATIVE_INFINITY: u16 = 0xF000;

/// Binary form → text.
pub(super) fn binary_to_text(bytes: &[u8]) -> Result<String, ValueError> {
    let mut words = bytes.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
    let mut next = || words.next().ok_or_else(ValueError::binary);
    let (count, weight, sign, scale) = (next()?, next()?, next()?, next()?);
    match sign {
        SIGN_NAN => return Ok("NaN".to_owned()),
        SIGN_POSITIVE_INFINITY => return Ok("Infinity".to_owned()),
        SIGN_NEGATIVE_INFINITY => return Ok("-Infinity".to_owned()),
        0 | SIGN_NEGATIVE => {}
        _ => return Err(ValueError::new("22P03", "invalid sign in external \"numeric\" value")),
    }
    if bytes.len() != 8 + 2 * usize::from(count) || scale > 16_383 {
        return Err(ValueError::binary());
    }
    let weight = i64::from(weight as i16);
    let mut digits = String::new();
    let whole_groups = usize::try_from(weight + 1).unwrap_or(0);
    let mut fraction = String::new();
    for _ in weight + 1..0 {
        fraction.push_str("0000");
    }
    for index in 0..usize::from(count) {
        let group = next()?;
        if group > 9999 {
            return Err(ValueError::new("22P03", "invalid digit in external \"numeric\" value"));
        }
        if index < whole_groups { &mut digits } else { &mut fraction }.push_str(&format!("{group:04}"));
    }
    for _ in usize::from(count)..whole_groups {
        digits.push_str("0000");
    }
    let scale = usize::from(scale);
    fraction.truncate(scale);
    while fraction.len() < scale {
        fraction.push('0');
    }
    let sign = if sign == SIGN_NEGATIVE { "-" } else { "" };
    let point = if scale > 0 { "." } else { "" };
    let whole = if digits.is_empty() { "0" } else { &digits };
    Ok(format!("{sign}{whole}{point}{fraction}"))
}

/// Canonical text → binary form.
pub(super) fn text_to_binary(text: &str, wire: &mut Vec<u8>) -> Result<(), Malformed> {
    let special = match text {
        "NaN" => Some(SIGN_NAN),
        "Infinity" => Some(SIGN_POSITIVE_INFINITY),
        "-Infinity" => Some(SIGN_NEGATIVE_INFINITY),
        _ => None,
    };
    if let Some(sign) = special {
        for word in [0, 0, sign, 0] {
            wire.extend_from_slice(&u16::to_be_bytes(word));
        }
        return Ok(());
    }
    let decimal = parse(text).map_err(|_| Malformed)?;
    let whole_end = decimal.digits.len() - decimal.scale;
    let (whole, fraction) = decimal.digits.split_at(whole_end);
    let mut padded = vec![b'0'; (4 - whole.len() % 4) % 4];
    padded.extend_from_slice(whole);
    let whole_groups = padded.len() / 4;
    padded.extend_from_slice(fraction);
    while !padded.len().is_multiple_of(4) {
        padded.push(b'0');
    }
    let group = |chunk: &[u8]| chunk.iter().fold(0u16, |sum, digit| sum * 10 + u16::from(digit - b'0'));
    let groups: Vec<u16> = padded.chunks_exact(4).map(group).collect();
    let first = groups.iter().position(|value| *value != 0).unwrap_or(groups.len());
    let last = groups.iter().rposition(|value| *value != 0).map_or(first, |last| last + 1);
    let kept = &groups[first..last];
    let weight = if kept.is_empty() {
        0
    } else {
        i64::try_from(whole_groups).map_err(|_| Malformed)? - i64::try_from(first).map_err(|_| Malformed)? - 1
    };
    let sign = if decimal.negative && !kept.is_empty() { SIGN_NEGATIVE } else { 0 };
    let count = u16::try_from(kept.len()).map_err(|_| Malformed)?;
    let scale = u16::try_from(decimal.scale).map_err(|_| Malformed)?;
    let weight = i16::try_from(weight).map_err(|_| Malformed)?;
    for word in [count, weight as u16, sign, scale].into_iter().chain(kept.iter().copied()) {
        wire.extend_from_slice(&word.to_be_bytes());
    }
    Ok(())
}

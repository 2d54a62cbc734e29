//! `numeric`: exact decimals in text, in PostgreSQL's binary form (`numeric.c` `numeric_send`), and canonical.
//!
//! Canonical bytes are the decimal's text in one normal form: sign, digits without leading zeros, and the display scale
//! kept. Under a fixed scale equal values have one text, whatever the precision; without one the type is not
//! deterministic. Absent: arithmetic.

use super::{DataType, Malformed, ValueError, text};

/// `numeric.c` `NUMERIC_WEIGHT_MAX`: the highest group of four digits before the point.
const WEIGHT_MAX: usize = 32_767;
/// `numeric.c` `NUMERIC_DSCALE_MAX`: digits after the point.
const SCALE_MAX: usize = 16_383;

/// A decimal as digits: `digits` without a point, ASCII, the last `scale` of them after it; at least `scale` digits.
pub(super) struct Decimal {
    negative: bool,
    digits: Vec<u8>,
    scale: usize,
}

fn overflow() -> ValueError {
    ValueError::new("22003", "value overflows numeric format")
}

fn field_overflow() -> ValueError {
    ValueError::new("22003", "numeric field overflow")
}

/// `numeric_in` under a precision and scale, or without.
pub(super) fn read_text(input: &str, typmod: Option<(u16, i16)>) -> Result<String, ValueError> {
    let trimmed = text::trim(input);
    match trimmed.to_ascii_lowercase().as_str() {
        "nan" => return Ok("NaN".to_owned()),
        "infinity" | "+infinity" | "inf" | "+inf" => return infinite("Infinity", typmod),
        "-infinity" | "-inf" => return infinite("-Infinity", typmod),
        _ => {}
    }
    let mut decimal = parse(trimmed)?;
    fit(&mut decimal, typmod)?;
    Ok(print(&decimal))
}

fn infinite(text: &str, typmod: Option<(u16, i16)>) -> Result<String, ValueError> {
    if typmod.is_some() { Err(field_overflow()) } else { Ok(text.to_owned()) }
}

/// Sign, digits with a point, exponent (`set_var_from_str`), held to the limits of `make_result`.
fn parse(text: &str) -> Result<Decimal, ValueError> {
    let wrong = || ValueError::syntax(DataType::Numeric(None));
    let (negative, rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (mantissa, exponent) = match rest.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, parse_exponent(exponent)?),
        None => (rest, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let mut digits: Vec<u8> = whole.bytes().chain(fraction.bytes()).collect();
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(wrong());
    }
    let scale = i64::try_from(fraction.len()).unwrap_or(i64::MAX).saturating_sub(exponent);
    let scale = match usize::try_from(scale) {
        Ok(scale) if scale > SCALE_MAX => return Err(overflow()),
        Ok(scale) => {
            pad_left(&mut digits, scale);
            scale
        }
        Err(_) if digits.iter().all(|digit| *digit == b'0') => 0,
        Err(_) => {
            let zeros = usize::try_from(scale.unsigned_abs()).unwrap_or(usize::MAX);
            if zeros > 4 * (WEIGHT_MAX + 1) {
                return Err(overflow());
            }
            digits.resize(digits.len() + zeros, b'0');
            0
        }
    };
    let decimal = Decimal { negative, digits, scale };
    if whole_digits(&decimal) > i64::try_from(4 * (WEIGHT_MAX + 1)).unwrap_or(i64::MAX) {
        return Err(overflow());
    }
    Ok(decimal)
}

fn parse_exponent(text: &str) -> Result<i64, ValueError> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(ValueError::syntax(DataType::Numeric(None)));
    }
    // PostgreSQL: beyond half an int is an overflow whatever the digits.
    let exponent: i64 = text.parse().map_err(|_| overflow())?;
    if exponent.abs() >= i64::from(i32::MAX / 2) { Err(overflow()) } else { Ok(exponent) }
}

/// Zeros in front, up to `length` digits.
fn pad_left(digits: &mut Vec<u8>, length: usize) {
    if let Some(missing) = length.checked_sub(digits.len()) {
        digits.splice(..0, std::iter::repeat_n(b'0', missing));
    }
}

/// Digits before the point from the first that is not zero; negative for zeros after the point; `i64::MIN` for zero.
fn whole_digits(decimal: &Decimal) -> i64 {
    let Some(first) = decimal.digits.iter().position(|digit| *digit != b'0') else { return i64::MIN };
    let before_point = decimal.digits.len() - decimal.scale;
    i64::try_from(before_point).unwrap_or(i64::MAX) - i64::try_from(first).unwrap_or(i64::MAX)
}

/// Rounds half away from zero to the scale, and holds the value to its precision (`apply_typmod`).
fn fit(decimal: &mut Decimal, typmod: Option<(u16, i16)>) -> Result<(), ValueError> {
    let Some((precision, scale)) = typmod else { return Ok(()) };
    round(decimal, scale.into());
    if whole_digits(decimal) > i64::from(precision) - i64::from(scale) {
        return Err(field_overflow());
    }
    Ok(())
}

fn round(decimal: &mut Decimal, scale: i64) {
    let own = i64::try_from(decimal.scale).unwrap_or(i64::MAX);
    if own <= scale {
        let zeros = usize::try_from(scale - own).unwrap_or(0);
        decimal.digits.resize(decimal.digits.len() + zeros, b'0');
        decimal.scale += zeros;
        return;
    }
    let cut = usize::try_from(own - scale).unwrap_or(usize::MAX);
    pad_left(&mut decimal.digits, cut + 1);
    let keep = decimal.digits.len() - cut;
    let up = decimal.digits[keep] >= b'5';
    decimal.digits.truncate(keep);
    if up {
        increment(&mut decimal.digits);
    }
    match usize::try_from(scale) {
        Ok(scale) => {
            decimal.scale = scale;
            pad_left(&mut decimal.digits, scale);
        }
        Err(_) => {
            let zeros = usize::try_from(scale.unsigned_abs()).unwrap_or(0);
            decimal.digits.resize(decimal.digits.len() + zeros, b'0');
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
    let (whole, fraction) = decimal.digits.split_at(decimal.digits.len() - decimal.scale);
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

/// `numeric` → an integer type: rounded half away from zero.
pub(super) fn to_integer(canonical: &str, data_type: DataType) -> Result<i64, ValueError> {
    let name = data_type.family_name();
    match canonical {
        "NaN" => return Err(ValueError::new("0A000", format!("cannot convert NaN to {name}"))),
        "Infinity" | "-Infinity" => {
            return Err(ValueError::new("0A000", format!("cannot convert infinity to {name}")));
        }
        _ => {}
    }
    let mut decimal = parse(canonical)?;
    round(&mut decimal, 0);
    let value = print(&decimal).parse().map_err(|_| super::integer::out_of_range(data_type))?;
    super::integer::cast(data_type, value)
}

const SIGN_NEGATIVE: u16 = 0x4000;
const SIGN_NAN: u16 = 0xC000;
const SIGN_POSITIVE_INFINITY: u16 = 0xD000;
const SIGN_NEGATIVE_INFINITY: u16 = 0xF000;
/// The display scale that `numeric_send` gives an infinity, read out of its short header's sign bits.
const SCALE_INFINITE: u16 = 0x20;

fn malformed(part: &str) -> ValueError {
    ValueError::new("22P03", format!("invalid {part} in external \"numeric\" value"))
}

/// Binary form → text (`numeric_recv`).
pub(super) fn binary_to_text(bytes: &[u8]) -> Result<String, ValueError> {
    let mut words = bytes.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
    let mut next = || words.next().ok_or_else(ValueError::binary);
    let (count, weight, sign, scale) = (next()?, next()?, next()?, next()?);
    if bytes.len() != 8 + 2 * usize::from(count) {
        return Err(ValueError::binary());
    }
    match sign {
        SIGN_NAN => return Ok("NaN".to_owned()),
        SIGN_POSITIVE_INFINITY => return Ok("Infinity".to_owned()),
        SIGN_NEGATIVE_INFINITY => return Ok("-Infinity".to_owned()),
        0 | SIGN_NEGATIVE => {}
        _ => return Err(malformed("sign")),
    }
    let scale = usize::from(scale);
    if scale > SCALE_MAX {
        return Err(malformed("scale"));
    }
    let weight = i64::from(weight.cast_signed());
    // A value below one has no group before the point.
    let mut digits = vec![b'0'; usize::try_from(-(weight + 1)).unwrap_or(0) * 4];
    for _ in 0..count {
        let group = next()?;
        if group > 9999 {
            return Err(malformed("digit"));
        }
        digits.extend_from_slice(format!("{group:04}").as_bytes());
    }
    // Digits beyond the display scale are cut off, as `numeric_recv` does.
    let whole = usize::try_from(weight + 1).unwrap_or(0) * 4;
    digits.resize(whole + scale, b'0');
    Ok(print(&Decimal { negative: sign == SIGN_NEGATIVE, digits, scale }))
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
        let scale = if sign == SIGN_NAN { 0 } else { SCALE_INFINITE };
        for word in [0, 0, sign, scale] {
            wire.extend_from_slice(&u16::to_be_bytes(word));
        }
        return Ok(());
    }
    let decimal = parse(text).map_err(|_| Malformed)?;
    let (whole, fraction) = decimal.digits.split_at(decimal.digits.len() - decimal.scale);
    let mut padded = vec![b'0'; (4 - whole.len() % 4) % 4];
    padded.extend_from_slice(whole);
    let whole_groups = padded.len() / 4;
    padded.extend_from_slice(fraction);
    padded.resize(padded.len().div_ceil(4) * 4, b'0');
    let group = |chunk: &[u8]| chunk.iter().fold(0u16, |sum, digit| sum * 10 + u16::from(digit - b'0'));
    let groups: Vec<u16> = padded.chunks_exact(4).map(group).collect();
    let first = groups.iter().position(|value| *value != 0).unwrap_or(groups.len());
    let end = groups.iter().rposition(|value| *value != 0).map_or(first, |last| last + 1);
    let kept = &groups[first..end];
    let index = |number: usize| i64::try_from(number).map_err(|_| Malformed);
    let weight = if kept.is_empty() { 0 } else { index(whole_groups)? - index(first)? - 1 };
    let weight = i16::try_from(weight).map_err(|_| Malformed)?.cast_unsigned();
    let sign = if decimal.negative && !kept.is_empty() { SIGN_NEGATIVE } else { 0 };
    let count = u16::try_from(kept.len()).map_err(|_| Malformed)?;
    let scale = u16::try_from(decimal.scale).map_err(|_| Malformed)?;
    for word in [count, weight, sign, scale].into_iter().chain(kept.iter().copied()) {
        wire.extend_from_slice(&word.to_be_bytes());
    }
    Ok(())
}

//! `real` and `double precision`: canonical is the IEEE 754 form, big-endian, as `float8send` sends it.
//!
//! Output is the shortest decimal that reads back the same, in PostgreSQL's layout. Absent: a form that agrees with
//! `=` (0 and -0 are equal, all NaNs are), so these types are never deterministic.

use super::{DataType, Malformed, ValueError, text};

/// `float4in` and `float8in`, without C's hexadecimal floats.
pub(super) fn read_text(data_type: DataType, input: &str) -> Result<f64, ValueError> {
    let lower = text::trim(input).to_ascii_lowercase();
    match lower.as_str() {
        "nan" | "+nan" => return Ok(f64::NAN),
        "-nan" => return Ok(-f64::NAN),
        "infinity" | "+infinity" | "inf" | "+inf" => return Ok(f64::INFINITY),
        "-infinity" | "-inf" => return Ok(f64::NEG_INFINITY),
        _ => {}
    }
    // Rust's parser also knows words.
    if !lower.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'e' | b'+' | b'-')) {
        return Err(ValueError::syntax(data_type));
    }
    let value = match data_type {
        DataType::Real => lower.parse::<f32>().map(f64::from),
        _ => lower.parse::<f64>(),
    }
    .map_err(|_| ValueError::syntax(data_type))?;
    let mantissa = lower.split('e').next().unwrap_or_default();
    let zero = !mantissa.bytes().any(|byte| matches!(byte, b'1'..=b'9'));
    if value.is_infinite() || (value == 0.0 && !zero) {
        return Err(ValueError::new(
            "22003",
            format!("value out of range for type {}", data_type.family_name()),
        ));
    }
    Ok(value)
}

/// The number in canonical bytes: four for `real`, eight for `double precision`.
pub(super) fn of(data_type: DataType, canonical: &[u8]) -> Result<f64, Malformed> {
    match data_type {
        DataType::Real => canonical.try_into().map(|bytes| f32::from_be_bytes(bytes).into()),
        _ => canonical.try_into().map(f64::from_be_bytes),
    }
    .map_err(|_| Malformed)
}

/// `double precision` → `real` (`float.c` `dtof`).
pub(super) fn narrow(value: f64) -> Result<f32, ValueError> {
    let narrow = value as f32;
    if narrow.is_infinite() && value.is_finite() {
        return Err(ValueError::new("22003", "value out of range: overflow"));
    }
    if narrow == 0.0 && value != 0.0 {
        return Err(ValueError::new("22003", "value out of range: underflow"));
    }
    Ok(narrow)
}

/// `float4out` and `float8out`: exponents from 1e15 (1e6 for `real`) and below 1e-4.
pub(super) fn write_text(data_type: DataType, value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "Infinity" } else { "-Infinity" }.to_owned();
    }
    let (scientific, limit) = match data_type {
        DataType::Real => (shortest_real(value as f32), 6),
        _ => (shortest_double(value), 15),
    };
    layout(&scientific, limit)
}

/// Six or fifteen significant digits (`FLT_DIG`, `DBL_DIG`), zeros at the end left out, as C's `%g` prints them: what
/// the casts to `numeric` keep.
pub(super) fn significant(data_type: DataType, value: f64) -> String {
    let printed = match data_type {
        DataType::Real => format!("{value:.5e}"),
        _ => format!("{value:.14e}"),
    };
    match printed.split_once('e') {
        Some((mantissa, exponent)) => {
            format!("{}e{exponent}", mantissa.trim_end_matches('0').trim_end_matches('.'))
        }
        None => printed,
    }
}

/// `d.ddde±x` → PostgreSQL's layout: plain from 1e-4 to 1e`limit`.
fn layout(scientific: &str, limit: i32) -> String {
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let (sign, mantissa) = match mantissa.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", mantissa),
    };
    if !(-4..limit).contains(&exponent) {
        let direction = if exponent < 0 { '-' } else { '+' };
        return format!("{sign}{mantissa}e{direction}{:02}", exponent.abs());
    }
    let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    let Ok(whole) = usize::try_from(exponent + 1) else {
        let zeros = usize::try_from(-exponent - 1).unwrap_or(0);
        return format!("{sign}0.{}{digits}", "0".repeat(zeros));
    };
    match digits.len().checked_sub(whole) {
        None | Some(0) => format!("{sign}{digits:0<whole$}"),
        Some(_) if whole == 0 => format!("{sign}0.{digits}"),
        Some(_) => format!("{sign}{}.{}", &digits[..whole], &digits[whole..]),
    }
}

fn shortest_real(value: f32) -> String {
    let print = |places: usize| format!("{value:.places$e}");
    let same = |text: &str| text.parse() == Ok(value);
    strictly_inside(&format!("{value:e}"), decode(value.to_bits().into(), 23, 8), 9, print, same)
}

fn shortest_double(value: f64) -> String {
    let print = |places: usize| format!("{value:.places$e}");
    let same = |text: &str| text.parse() == Ok(value);
    strictly_inside(&format!("{value:e}"), decode(value.to_bits(), 52, 11), 17, print, same)
}

/// (mantissa, exponent of two, whether a smaller exponent exists) of an IEEE number of these field widths.
fn decode(bits: u64, mantissa_bits: u32, exponent_bits: u32) -> (u64, i32, bool) {
    let fraction = bits & ((1 << mantissa_bits) - 1);
    let biased = (bits >> mantissa_bits) & ((1 << exponent_bits) - 1);
    let bias = (1 << (exponent_bits - 1)) - 1 + mantissa_bits as i32;
    match i32::try_from(biased).unwrap_or(0) {
        0 => (fraction, 1 - bias, false),
        biased => (fraction | 1 << mantissa_bits, biased - bias, biased > 1),
    }
}

/// The shortest decimal strictly between the midpoints to the neighbours, of those the nearest, of two such the even
/// one (`d2s.c` without `STRICTLY_SHORTEST`). Rust's shortest may be a midpoint itself (read back by ties-to-even),
/// and of two equally near it takes the greater. `print` rounds to so many places after the first digit.
fn strictly_inside(
    shortest: &str,
    (mantissa, exponent, halves): (u64, i32, bool),
    digits_max: usize,
    print: impl Fn(usize) -> String,
    same: impl Fn(&str) -> bool,
) -> String {
    let wide = u128::from(mantissa);
    let above = (2 * wide + 1, exponent - 1);
    // Below a power of two the neighbours are half as far apart.
    let below = if mantissa.is_power_of_two() && halves {
        (4 * wide - 1, exponent - 2)
    } else {
        (2 * wide.max(1) - 1, exponent - 1)
    };
    let on_midpoint = |text: &str| equals(text, above) || equals(text, below);
    let digits = shortest.bytes().take_while(|byte| *byte != b'e').filter(u8::is_ascii_digit).count();
    let nearest = print(digits.saturating_sub(1));
    if same(&nearest) && !on_midpoint(&nearest) {
        return nearest;
    }
    if !on_midpoint(shortest) {
        return shortest.to_owned();
    }
    (digits..digits_max)
        .map(print)
        .find(|text| same(text) && !on_midpoint(text))
        .unwrap_or_else(|| shortest.to_owned())
}

/// Whether a decimal in scientific notation is exactly `odd × 2^exponent`, `odd` being odd and below 2^60.
fn equals(scientific: &str, (odd, exponent): (u128, i32)) -> bool {
    let Some((mantissa, tens)) = scientific.split_once('e') else { return false };
    let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    let fraction = i32::try_from(digits.len()).unwrap_or(i32::MAX) - 1;
    let (Ok(number), Ok(tens)) = (digits.parse::<u128>(), tens.parse::<i32>()) else { return false };
    // number × 10^tens = odd × 2^exponent, factor by factor: the powers of two must agree, and so must the rest.
    let tens = tens - fraction;
    let twos = number.trailing_zeros();
    let same_twos = i32::try_from(twos).unwrap_or(0) + tens == exponent;
    let rest = number.checked_shr(twos).unwrap_or(0);
    let fives = |power: i32| 5u128.checked_pow(power.unsigned_abs());
    same_twos
        && match tens {
            0.. => fives(tens).and_then(|fives| rest.checked_mul(fives)) == Some(odd),
            _ => fives(tens).and_then(|fives| odd.checked_mul(fives)) == Some(rest),
        }
}

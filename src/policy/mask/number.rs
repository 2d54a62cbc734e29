//! Masks of numbers that show a coarser one.

use crate::value::DataType;

/// The multiple of `width` that is next to the value on the side of 0: so it is never out of the type's range.
pub(super) fn bucket(width: u32, data_type: &DataType, canonical: &[u8], out: &mut Vec<u8>) -> Option<()> {
    match data_type {
        DataType::Smallint | DataType::Integer | DataType::Bigint => {
            let (value, width) = (integer(canonical)?, i64::from(width));
            out.extend_from_slice(&(value / width * width).to_be_bytes());
        }
        DataType::Numeric(typmod) => {
            let text = std::str::from_utf8(canonical).ok()?;
            let scale = typmod.map_or(0, |(_, scale)| scale);
            decimal(width.into(), text, usize::try_from(scale).ok()?, out)?;
        }
        _ => return None,
    }
    Some(())
}

/// Canonical integers are eight bytes, whatever their width.
pub(super) fn integer(canonical: &[u8]) -> Option<i64> {
    canonical.try_into().map(i64::from_be_bytes).ok()
}

/// Canonical numerics are their text. An infinity is in no bucket.
fn decimal(width: u64, text: &str, scale: usize, out: &mut Vec<u8>) -> Option<()> {
    if matches!(text, "NaN" | "Infinity" | "-Infinity") {
        out.extend_from_slice(b"NaN");
        return Some(());
    }
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", text),
    };
    let whole = digits.split('.').next()?.as_bytes();
    let mut over = whole.iter().try_fold(0, |over, digit| {
        let digit = digit.is_ascii_digit().then_some(u64::from(digit - b'0'))?;
        Some((over * 10 + digit) % width)
    })?;
    let start = out.len();
    out.extend_from_slice(sign.as_bytes());
    let first = out.len();
    out.extend_from_slice(whole);
    for digit in out.get_mut(first..)?.iter_mut().rev() {
        let (own, take) = (u64::from(*digit - b'0'), over % 10);
        over /= 10;
        *digit = b'0' + u8::try_from((10 + own - take) % 10).ok()?;
        over += u64::from(own < take);
    }
    let zeros = out.get(first..)?.iter().take_while(|digit| **digit == b'0').count();
    out.drain(first..first + zeros);
    if out.len() == first {
        out.truncate(start);
        out.push(b'0');
    }
    if scale > 0 {
        out.push(b'.');
        out.resize(out.len() + scale, b'0');
    }
    Some(())
}

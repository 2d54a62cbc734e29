//! `uuid`: canonical is its sixteen bytes.

use super::{DataType, Malformed, ValueError};

/// `uuid_in`: 32 hex digits, a hyphen allowed after each group of four, braces round all; no spaces.
pub(super) fn read_text(input: &str) -> Result<[u8; 16], ValueError> {
    let wrong = || ValueError::syntax(DataType::Uuid);
    let inner = match input.strip_prefix('{') {
        Some(rest) => rest.strip_suffix('}').ok_or_else(wrong)?,
        None => input,
    };
    let mut digits = Vec::with_capacity(32);
    let mut after_hyphen = false;
    for byte in inner.bytes() {
        let hyphen = byte == b'-';
        match byte {
            b'-' if !after_hyphen && !digits.is_empty() && digits.len() % 4 == 0 && digits.len() < 32 => {}
            digit if digit.is_ascii_hexdigit() && digits.len() < 32 => digits.push(digit),
            _ => return Err(wrong()),
        }
        after_hyphen = hyphen;
    }
    let mut uuid = [0; 16];
    if digits.len() != 32 {
        return Err(wrong());
    }
    faster_hex::hex_decode(&digits, &mut uuid).map_err(|_| wrong())?;
    Ok(uuid)
}

/// `uuid_out`: lower case, 8-4-4-4-12.
pub(super) fn write_text(canonical: &[u8]) -> Result<String, Malformed> {
    let uuid: &[u8; 16] = canonical.try_into().map_err(|_| Malformed)?;
    let hex = faster_hex::hex_string(uuid);
    Ok(format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]))
}

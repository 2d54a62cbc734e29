//! `text` and `varchar(n)`: canonical bytes are the UTF-8 itself.
//!
//! Guarantees: what is read is valid UTF-8 without NUL, as PostgreSQL demands of every text it takes. Absent: collation
//! and normalisation; PostgreSQL's `=` on text is equality of bytes under every deterministic collation.

use super::{Malformed, ValueError};

/// Client text of any type.
///
/// # Errors
/// 22021 for what is not UTF-8 or holds a NUL (`mbutils.c` `pg_verify_mbstr`).
pub(super) fn input(bytes: &[u8]) -> Result<&str, ValueError> {
    let invalid = "invalid byte sequence for encoding \"UTF8\"";
    let text = std::str::from_utf8(bytes).map_err(|_| ValueError::new("22021", invalid))?;
    if bytes.contains(&0) {
        return Err(ValueError::new("22021", format!("{invalid}: 0x00")));
    }
    Ok(text)
}

/// Text that was canonical.
pub(super) fn output(canonical: &[u8]) -> Result<&str, Malformed> {
    std::str::from_utf8(canonical).map_err(|_| Malformed)
}

/// Assignment to `varchar(n)`, counted in characters: longer is an error unless what is beyond is spaces, which are
/// cut off (`varchar.c` `varchar_input`).
pub(super) fn fit(text: &str, length: Option<u32>) -> Result<&str, ValueError> {
    let Some(length) = length else { return Ok(text) };
    let limit = usize::try_from(length).unwrap_or(usize::MAX);
    let Some((end, _)) = text.char_indices().nth(limit) else { return Ok(text) };
    let (kept, beyond) = text.split_at(end);
    if beyond.bytes().all(|byte| byte == b' ') {
        return Ok(kept);
    }
    Err(ValueError::new("22001", format!("value too long for type character varying({length})")))
}

/// What C's `isspace` calls a space in the C locale; PostgreSQL's input routines skip exactly these.
pub(super) fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\x0b' | b'\x0c' | b'\r')
}

/// Without leading and trailing [`is_space`].
pub(super) fn trim(text: &str) -> &str {
    text.trim_matches(|c: char| u8::try_from(c).is_ok_and(is_space))
}

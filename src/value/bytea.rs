//! `bytea`: canonical is the bytes; input in hex and escape format, output in hex (`bytea_output` is pinned to it).

use super::{DataType, ValueError};

/// `byteain`: `\x` and hex digits, or the escape format.
pub(super) fn read_text(input: &str) -> Result<Vec<u8>, ValueError> {
    match input.as_bytes().strip_prefix(b"\\x") {
        Some(digits) => hex(digits),
        None => escaped(input.as_bytes()),
    }
}

/// `hex_decode`: spaces are allowed between bytes, not within one.
fn hex(text: &[u8]) -> Result<Vec<u8>, ValueError> {
    let digit = |byte: u8| {
        let value = char::from(byte).to_digit(16).and_then(|value| u8::try_from(value).ok());
        value.ok_or_else(|| ValueError::new("22023", "invalid hexadecimal digit"))
    };
    let mut bytes = Vec::with_capacity(text.len() / 2);
    let mut rest = text.iter().copied();
    while let Some(high) = rest.next() {
        if matches!(high, b' ' | b'\n' | b'\t' | b'\r') {
            continue;
        }
        let high = digit(high)?;
        let low = rest
            .next()
            .ok_or_else(|| ValueError::new("22023", "invalid hexadecimal data: odd number of digits"))?;
        bytes.push(high << 4 | digit(low)?);
    }
    Ok(bytes)
}

fn escaped(text: &[u8]) -> Result<Vec<u8>, ValueError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        let (byte, after) = match (first, after) {
            (b'\\', [b'\\', after @ ..]) => (b'\\', after),
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', after @ ..]) => {
                ((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'), after)
            }
            (b'\\', _) => return Err(ValueError::syntax(DataType::Bytea)),
            (byte, after) => (*byte, after),
        };
        bytes.push(byte);
        rest = after;
    }
    Ok(bytes)
}

/// `byteaout` with `bytea_output = hex`.
pub(super) fn write_text(canonical: &[u8], wire: &mut Vec<u8>) {
    wire.extend_from_slice(b"\\x");
    let start = wire.len();
    wire.resize(start + 2 * canonical.len(), 0);
    let room = wire.get_mut(start..).unwrap_or_default();
    faster_hex::hex_encode(canonical, room).expect("two digits a byte fit");
}

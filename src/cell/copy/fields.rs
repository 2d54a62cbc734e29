//! The fields of one row: where each stands, what it says, and how a value is spelled in its place.
//!
//! Source: `CopyReadAttributesText`, `CopyReadAttributesCSV` (`copyfromparse.c`), `CopyAttributeOutText` and
//! `CopyAttributeOutCSV` (`copyto.c`).

use super::BadCopy;
use crate::plan::{CopyFormat, CopyOptions};
use bytes::BufMut;
use std::ops::Range;

/// One field of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its bytes as spelled (binary: its value), within the row.
    pub raw: Range<usize>,
    /// Spelled as NULL; before FORCE_NULL and FORCE_NOT_NULL are asked.
    pub null: bool,
    /// Spelled as the column's default, and not as NULL.
    pub default: bool,
}

/// Finds the fields of a row without its line's end.
///
/// # Errors
/// A CSV quote that never ends.
pub fn split(options: &CopyOptions, row: &[u8], fields: &mut Vec<Field>) -> Result<(), BadCopy> {
    match options.format() {
        CopyFormat::Text => split_text(options, row, fields),
        CopyFormat::Csv => split_csv(options, row, fields)?,
        CopyFormat::Binary => split_binary(row, fields),
    }
    Ok(())
}

fn split_text(options: &CopyOptions, row: &[u8], fields: &mut Vec<Field>) {
    let (delimiter, null) = (options.delimiter(), options.null());
    let (mut start, mut at) = (0, 0);
    loop {
        // A backslash that ends the line is no part of what may be NULL.
        let counted = at;
        let ended = match (row.get(at), row.get(at + 1)) {
            (None, _) => true,
            (Some(byte), _) if *byte == delimiter => true,
            (Some(b'\\'), None) => {
                at += 1;
                true
            }
            (Some(b'\\'), Some(escaped)) => {
                at += 2;
                // The delimiter may be a capital letter, and a digit here.
                let digits =
                    if *escaped == b'x' { hexadecimal(row.get(at..).unwrap_or_default()) } else { 0 };
                at += digits;
                false
            }
            (Some(_), _) => {
                at += 1;
                false
            }
        };
        if !ended {
            continue;
        }
        let spelled = row.get(start..counted);
        let null = spelled == Some(null);
        fields.push(Field { raw: start..at, null, default: !null && is_default(options, spelled) });
        if at >= row.len() {
            return;
        }
        at += 1;
        start = at;
    }
}

fn is_default(options: &CopyOptions, spelled: Option<&[u8]>) -> bool {
    options.default_marker().is_some_and(|default| spelled == Some(default))
}

/// How many digits of `\x…` there are.
fn hexadecimal(text: &[u8]) -> usize {
    text.iter().take(2).take_while(|byte| byte.is_ascii_hexdigit()).count()
}

fn split_csv(options: &CopyOptions, row: &[u8], fields: &mut Vec<Field>) -> Result<(), BadCopy> {
    let (delimiter, quote, escape) = (options.delimiter(), options.quote(), options.escape());
    let (mut start, mut at) = (0, 0);
    loop {
        let (mut inside, mut quoted) = (false, false);
        let end = loop {
            let Some(&byte) = row.get(at) else {
                if inside {
                    return Err(BadCopy::format("unterminated CSV quoted field"));
                }
                break at;
            };
            if !inside && byte == delimiter {
                break at;
            }
            let next = row.get(at + 1);
            if inside && byte == escape && next.is_some_and(|next| *next == escape || *next == quote) {
                at += 2;
                continue;
            }
            if byte == quote {
                inside = !inside;
                quoted = true;
            }
            at += 1;
        };
        let null = !quoted && row.get(start..end) == Some(options.null());
        // A quote would stand in what is spelled.
        let default = !null && is_default(options, row.get(start..end));
        fields.push(Field { raw: start..end, null, default });
        if at >= row.len() {
            return Ok(());
        }
        at += 1;
        start = at;
    }
}

/// A tuple that `stream` has found whole.
fn split_binary(row: &[u8], fields: &mut Vec<Field>) {
    let mut at = 2;
    while let Some(length) = row.get(at..).and_then(|rest| rest.first_chunk::<4>()) {
        at += 4;
        let length = usize::try_from(i32::from_be_bytes(*length)).ok();
        let end = at + length.unwrap_or(0);
        fields.push(Field { raw: at..end, null: length.is_none(), default: false });
        at = end;
    }
}

/// Whether what a field says is how it is spelled.
pub fn is_plain(options: &CopyOptions, raw: &[u8]) -> bool {
    match options.format() {
        CopyFormat::Text => !raw.contains(&b'\\'),
        // An escape means something within quotes only.
        CopyFormat::Csv => !raw.contains(&options.quote()),
        CopyFormat::Binary => true,
    }
}

/// Appends what a spelled field says.
pub fn decode(options: &CopyOptions, raw: &[u8], value: &mut Vec<u8>) {
    match options.format() {
        CopyFormat::Text => decode_text(raw, value),
        CopyFormat::Csv => decode_csv(options, raw, value),
        CopyFormat::Binary => value.extend_from_slice(raw),
    }
}

fn decode_text(raw: &[u8], value: &mut Vec<u8>) {
    let mut rest = raw;
    while let Some(at) = rest.iter().position(|byte| *byte == b'\\') {
        let (plain, after) = rest.split_at(at);
        value.extend_from_slice(plain);
        rest = after.get(1..).unwrap_or_default();
        // A backslash at the line's end says nothing.
        let Some((&escaped, after)) = rest.split_first() else { return };
        rest = after;
        // The server's octal 777 keeps its low byte, too.
        let number =
            |sum: u32, byte: &u8, radix| sum * radix + char::from(*byte).to_digit(radix).unwrap_or(0);
        let said = match escaped {
            b'0'..=b'7' => {
                let more = rest.iter().take(2).take_while(|byte| matches!(byte, b'0'..=b'7')).count();
                let (digits, after) = rest.split_at(more);
                rest = after;
                let first = u32::from(escaped - b'0');
                digits.iter().fold(first, |sum, byte| number(sum, byte, 8)).to_le_bytes()[0]
            }
            b'x' if hexadecimal(rest) > 0 => {
                let (digits, after) = rest.split_at(hexadecimal(rest));
                rest = after;
                digits.iter().fold(0, |sum, byte| number(sum, byte, 16)).to_le_bytes()[0]
            }
            b'b' => 0x08,
            b'f' => 0x0c,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'v' => 0x0b,
            other => other,
        };
        value.push(said);
    }
    value.extend_from_slice(rest);
}

fn decode_csv(options: &CopyOptions, raw: &[u8], value: &mut Vec<u8>) {
    let (quote, escape) = (options.quote(), options.escape());
    let (mut inside, mut at) = (false, 0);
    while let Some(&byte) = raw.get(at) {
        let next = raw.get(at + 1).copied().filter(|next| *next == escape || *next == quote);
        at += 1;
        match next {
            Some(next) if inside && byte == escape => {
                value.push(next);
                at += 1;
            }
            _ if byte == quote => inside = !inside,
            _ => value.push(byte),
        }
    }
}

/// How a value is spelled: `single` when its row has no other field, `forced` by FORCE_QUOTE. Binary has its length before.
pub fn encode(options: &CopyOptions, value: &[u8], single: bool, forced: bool, out: &mut impl BufMut) {
    match options.format() {
        CopyFormat::Text => encode_text(options.delimiter(), value, out),
        CopyFormat::Csv => encode_csv(options, value, single, forced, out),
        CopyFormat::Binary => {
            // A row above i32::MAX does not fit its message, which is refused there.
            out.put_i32(i32::try_from(value.len()).unwrap_or(i32::MAX));
            out.put_slice(value);
        }
    }
}

/// NULL as it is spelled.
pub fn encode_null(options: &CopyOptions, out: &mut impl BufMut) {
    match options.format() {
        CopyFormat::Text | CopyFormat::Csv => out.put_slice(options.null()),
        CopyFormat::Binary => out.put_i32(-1),
    }
}

fn encode_text(delimiter: u8, value: &[u8], out: &mut impl BufMut) {
    let mut rest = value;
    let special = |byte: &u8| matches!(byte, 0x08..=b'\r' | b'\\') || *byte == delimiter;
    while let Some(at) = rest.iter().position(special) {
        let (plain, after) = rest.split_at(at);
        out.put_slice(plain);
        let Some((byte, after)) = after.split_first() else { return };
        out.put_slice(&[
            b'\\',
            match byte {
                0x08 => b'b',
                0x0c => b'f',
                b'\n' => b'n',
                b'\r' => b'r',
                b'\t' => b't',
                0x0b => b'v',
                byte => *byte,
            },
        ]);
        rest = after;
    }
    out.put_slice(rest);
}

fn encode_csv(options: &CopyOptions, value: &[u8], single: bool, forced: bool, out: &mut impl BufMut) {
    let (delimiter, quote, escape) = (options.delimiter(), options.quote(), options.escape());
    let special = |byte: &u8| *byte == delimiter || *byte == quote || matches!(byte, b'\n' | b'\r');
    let quoted = forced || value == options.null() || single && value == b"\\." || value.iter().any(special);
    if !quoted {
        out.put_slice(value);
        return;
    }
    out.put_u8(quote);
    for piece in value.split_inclusive(|byte| *byte == quote || *byte == escape) {
        match piece.split_last() {
            Some((last, plain)) if *last == quote || *last == escape => {
                out.put_slice(plain);
                out.put_slice(&[escape, *last]);
            }
            _ => out.put_slice(piece),
        }
    }
    out.put_u8(quote);
}

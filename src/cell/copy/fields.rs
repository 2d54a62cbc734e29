//! The fields of one row: where each stands, what it says, and how a value is spelled in its place.
//!
//! Source: `CopyReadAttributesText`, `CopyReadAttributesCSV` (`copyfromparse.c`), `CopyAttributeOutText` and
//! `CopyAttributeOutCSV` (`copyto.c`).

use super::BadCopy;
use crate::cell::rows::Splice;
use crate::plan::{CopyFormat, CopyOptions};
use bytes::BufMut;
use memchr::{memchr, memchr2};
use std::ops::Range;
use zeroize::{Zeroize, Zeroizing};

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
        let rest = row.get(at..).unwrap_or_default();
        let here = memchr2(delimiter, b'\\', rest).map_or(row.len(), |found| at + found);
        // A backslash that ends the line is no part of what may be NULL.
        let end = match (row.get(here), row.get(here + 1)) {
            (Some(b'\\'), Some(escaped)) => {
                at = here + 2;
                if *escaped == b'x' {
                    // The delimiter may be a capital letter, and a digit here.
                    at += hexadecimal(row.get(at..).unwrap_or_default());
                }
                continue;
            }
            (Some(b'\\'), None) => row.len(),
            _ => here,
        };
        let spelled = row.get(start..here);
        let null = spelled == Some(null);
        fields.push(Field { raw: start..end, null, default: !null && is_default(options, spelled) });
        if end >= row.len() {
            return;
        }
        at = end + 1;
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
            let rest = row.get(at..).unwrap_or_default();
            let other = if inside { escape } else { delimiter };
            let Some(found) = memchr2(quote, other, rest) else {
                if inside {
                    return Err(BadCopy::format("unterminated CSV quoted field"));
                }
                break row.len();
            };
            let here = at + found;
            let byte = rest.get(found).copied();
            if !inside && byte == Some(delimiter) {
                break here;
            }
            at = here + 1;
            let next = row.get(at);
            if inside && byte == Some(escape) && next.is_some_and(|next| *next == escape || *next == quote) {
                at += 1;
                continue;
            }
            if byte == Some(quote) {
                inside = !inside;
                quoted = true;
            }
        };
        let null = !quoted && row.get(start..end) == Some(options.null());
        // A quote would stand in what is spelled.
        let default = !null && is_default(options, row.get(start..end));
        fields.push(Field { raw: start..end, null, default });
        if end >= row.len() {
            return Ok(());
        }
        at = end + 1;
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

/// Appends what a spelled field says.
pub fn decode(options: &CopyOptions, raw: &[u8], value: &mut Vec<u8>) {
    let start = value.len();
    value.extend_from_slice(raw);
    let said = decode_in_place(options, value, start..start + raw.len());
    value.truncate(said.end);
    value.drain(start..said.start);
}

/// Has a spelled field, the `raw` of `bytes`, say what it says where it stands: that is never longer. Gives where.
pub fn decode_in_place(options: &CopyOptions, bytes: &mut [u8], raw: Range<usize>) -> Range<usize> {
    let Range { start, end } = raw;
    let Some(spelled) = bytes.get_mut(raw) else { return start..start };
    match options.format() {
        CopyFormat::Text => match (memchr(b'\\', spelled), &*spelled) {
            (None, _) => start..end,
            // As every cell is spelled.
            (Some(0), [_, b'\\', rest @ ..]) if memchr(b'\\', rest).is_none() => start + 1..end,
            (Some(first), _) => start..start + decode_text(spelled, first),
        },
        // An escape means something within quotes only.
        CopyFormat::Csv if memchr(options.quote(), spelled).is_none() => start..end,
        CopyFormat::Csv => start..start + decode_csv(options, spelled),
        CopyFormat::Binary => start..end,
    }
}

/// Decodes from the backslash at `first` on; gives how long it is then.
fn decode_text(bytes: &mut [u8], first: usize) -> usize {
    let (mut to, mut from) = (first, first);
    loop {
        // A backslash at the line's end says nothing.
        let Some(&escaped) = bytes.get(from + 1) else { return to };
        from += 2;
        let rest = bytes.get(from..).unwrap_or_default();
        let (said, digits) = unescaped(escaped, rest);
        from += digits;
        if let Some(byte) = bytes.get_mut(to) {
            *byte = said;
        }
        to += 1;
        let rest = bytes.get(from..).unwrap_or_default();
        let next = memchr(b'\\', rest);
        let plain = next.unwrap_or(rest.len());
        bytes.copy_within(from..from + plain, to);
        (to, from) = (to + plain, from + plain);
        if next.is_none() {
            return to;
        }
    }
}

/// What a backslash and this character say, and how many digits after it belong to them.
fn unescaped(escaped: u8, rest: &[u8]) -> (u8, usize) {
    // The server's octal 777 keeps its low byte, too.
    let number = |sum: u32, byte: &u8, radix| sum * radix + char::from(*byte).to_digit(radix).unwrap_or(0);
    let said = match escaped {
        b'0'..=b'7' => {
            let more = rest.iter().take(2).take_while(|byte| matches!(byte, b'0'..=b'7')).count();
            let digits = rest.iter().take(more);
            let octal = digits.fold(u32::from(escaped - b'0'), |sum, byte| number(sum, byte, 8));
            return (octal.to_le_bytes()[0], more);
        }
        b'x' if hexadecimal(rest) > 0 => {
            let more = hexadecimal(rest);
            let hex = rest.iter().take(more).fold(0, |sum, byte| number(sum, byte, 16));
            return (hex.to_le_bytes()[0], more);
        }
        b'b' => 0x08,
        b'f' => 0x0c,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'v' => 0x0b,
        other => other,
    };
    (said, 0)
}

/// Decodes all; gives how long it is then.
fn decode_csv(options: &CopyOptions, bytes: &mut [u8]) -> usize {
    let (quote, escape) = (options.quote(), options.escape());
    let (mut inside, mut from, mut to) = (false, 0, 0);
    while let Some(&byte) = bytes.get(from) {
        let next = bytes.get(from + 1).copied().filter(|next| *next == escape || *next == quote);
        from += 1;
        let said = match next {
            Some(next) if inside && byte == escape => {
                from += 1;
                next
            }
            _ if byte == quote => {
                inside = !inside;
                continue;
            }
            _ => byte,
        };
        if let Some(into) = bytes.get_mut(to) {
            *into = said;
        }
        to += 1;
    }
    to
}

/// Whether values that together have these bytes hold nothing that must be escaped or quoted.
pub fn is_plain(options: &CopyOptions, bytes: &[u8]) -> bool {
    let (delimiter, quote) = (options.delimiter(), options.quote());
    match options.format() {
        CopyFormat::Text => none(bytes, |byte| is_escaped(byte, delimiter)),
        CopyFormat::Csv => none(bytes, |byte| is_quoted(byte, delimiter, quote)),
        CopyFormat::Binary => true,
    }
}

/// Looks at all, many at once, rather than stop at the first.
fn none(bytes: &[u8], special: impl Fn(u8) -> bool) -> bool {
    !bytes.iter().fold(false, |found, byte| found | special(*byte))
}

/// Whether text escapes this byte.
fn is_escaped(byte: u8, delimiter: u8) -> bool {
    matches!(byte, 0x08..=b'\r' | b'\\') || byte == delimiter
}

/// Whether a value of CSV that holds this byte is quoted.
fn is_quoted(byte: u8, delimiter: u8, quote: u8) -> bool {
    byte == delimiter || byte == quote || matches!(byte, b'\n' | b'\r')
}

/// Whether a value of CSV is quoted, whatever bytes it holds.
pub fn is_quoted_whole(options: &CopyOptions, value: &[u8], single: bool, forced: bool) -> bool {
    forced || value == options.null() || single && value == b"\\."
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

/// As [`encode`], into a row that is being written, by way of `room`, where nothing is left of the value.
pub(in crate::cell) fn splice(
    options: &CopyOptions,
    value: &[u8],
    (single, forced): (bool, bool),
    room: &mut Zeroizing<Vec<u8>>,
    into: &mut Splice<'_>,
) {
    // A buffer that grows leaves its bytes behind.
    room.reserve(2 * value.len() + 2);
    encode(options, value, single, forced, &mut **room);
    into.value(room);
    room.as_mut_slice().zeroize();
    room.clear();
}

fn encode_text(delimiter: u8, value: &[u8], out: &mut impl BufMut) {
    let mut rest = value;
    while let Some(at) = rest.iter().position(|byte| is_escaped(*byte, delimiter)) {
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
    let (quote, escape) = (options.quote(), options.escape());
    if is_plain(options, value) && !is_quoted_whole(options, value, single, forced) {
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

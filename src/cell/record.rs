//! Where cells stand in a row value (`record_out`, `record_send` of `rowtypes.c`), by the positions that lineage knows.
//!
//! Guarantees: total on any bytes; a row with another number of fields than the plan's is none. Deliberately absent: rows
//! inside of rows (`tree.rs`).

use super::places::Spot;
use crate::plan::Node;
use crate::value::Format;

/// Every cell's place in a row, in its order: in text the field as written, in binary the field with its type and length.
/// `None`: this is no row of so many fields.
pub(super) fn fields(format: Format, row: &[u8], node: &Node) -> Option<Vec<Spot>> {
    let Node::Tuple(nodes) = node else { return None };
    let ranges = split(format, row)?;
    if ranges.len() != nodes.len() {
        return None;
    }
    let spot = |(node, token): (&Node, std::ops::Range<usize>)| match node {
        Node::Leaf(leaf) => Some(Spot { leaf: *leaf, token }),
        _ => None,
    };
    Some(nodes.iter().zip(ranges).filter_map(spot).collect())
}

/// Every field's place in a row, as [`fields`] has them.
pub(super) fn split(format: Format, row: &[u8]) -> Option<Vec<std::ops::Range<usize>>> {
    match format {
        Format::Text => text(row),
        Format::Binary => binary(row),
    }
}

/// The type (in binary) and the value of a field as it stands in its row. `None` inside: it is NULL.
pub(super) fn value(format: Format, field: &[u8]) -> Option<(u32, Option<Vec<u8>>)> {
    match format {
        Format::Text => Some((0, if field.is_empty() { None } else { Some(unquoted(field)) })),
        Format::Binary => {
            let (oid, rest) = field.split_first_chunk::<4>()?;
            let (length, value) = rest.split_first_chunk::<4>()?;
            let value = (i32::from_be_bytes(*length) >= 0).then(|| value.to_vec());
            Some((u32::from_be_bytes(*oid), value))
        }
    }
}

/// What a field of a row in text says (`record_in`).
fn unquoted(field: &[u8]) -> Vec<u8> {
    let (mut value, mut rest, mut quoted) = (Vec::with_capacity(field.len()), field, false);
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        match (byte, after.split_first()) {
            (b'\\', Some((escaped, after))) => {
                value.push(*escaped);
                rest = after;
            }
            (b'"', Some((b'"', after))) if quoted => {
                value.push(b'"');
                rest = after;
            }
            (b'"', _) => quoted = !quoted,
            (other, _) => value.push(*other),
        }
    }
    value
}

fn text(row: &[u8]) -> Option<Vec<std::ops::Range<usize>>> {
    let inside = row.strip_prefix(b"(")?.strip_suffix(b")")?;
    let mut fields = vec![];
    let (mut start, mut at, mut quoted) = (0, 0, false);
    while let Some(byte) = inside.get(at) {
        match byte {
            b'\\' => at += 1,
            // A doubled quote ends and begins again.
            b'"' => quoted = !quoted,
            b',' if !quoted => {
                fields.push(start + 1..at + 1);
                start = at + 1;
            }
            _ => {}
        }
        at += 1;
    }
    if quoted || at != inside.len() {
        return None;
    }
    fields.push(start + 1..at + 1);
    Some(fields)
}

fn binary(row: &[u8]) -> Option<Vec<std::ops::Range<usize>>> {
    let word = |at: usize| -> Option<i32> { Some(i32::from_be_bytes(*row.get(at..)?.first_chunk::<4>()?)) };
    let mut fields = vec![];
    let mut at = 4;
    for _ in 0..u32::try_from(word(0)?).ok()? {
        let length = usize::try_from(word(at + 4)?.max(0)).ok()?;
        let end = at.checked_add(8)?.checked_add(length)?;
        row.get(at..end)?;
        fields.push(at..end);
        at = end;
    }
    (at == row.len()).then_some(fields)
}

/// The bytes of a field in binary, without its type and length. `None`: it is NULL.
pub(super) fn binary_value<'r>(row: &'r [u8], spot: &Spot) -> Option<&'r [u8]> {
    let field = row.get(spot.token.clone())?;
    let (length, value) = field.get(4..)?.split_first_chunk::<4>()?;
    (i32::from_be_bytes(*length) >= 0).then_some(value)
}

/// Appends a field in text, quoted as `record_out` does.
pub(super) fn write_text(value: &[u8], out: &mut Vec<u8>) {
    let special = |byte: &u8| matches!(byte, b'"' | b'\\' | b'(' | b')' | b',' | b' ' | b'\t'..=b'\r');
    if !value.is_empty() && !value.iter().any(special) {
        return out.extend_from_slice(value);
    }
    out.push(b'"');
    for byte in value {
        if matches!(byte, b'"' | b'\\') {
            out.push(*byte);
        }
        out.push(*byte);
    }
    out.push(b'"');
}

/// Appends a field in binary with its type. `None` is NULL.
pub(super) fn write_binary(oid: u32, value: Option<&[u8]>, out: &mut Vec<u8>) {
    out.extend_from_slice(&oid.to_be_bytes());
    let length = value.map_or(-1, |value| i32::try_from(value.len()).unwrap_or(i32::MAX));
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(value.unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(row: &str, nodes: &[Node]) -> Option<Vec<String>> {
        let spots = fields(Format::Text, row.as_bytes(), &Node::Tuple(nodes.to_vec()))?;
        Some(spots.into_iter().map(|spot| row[spot.token].to_owned()).collect())
    }

    #[test]
    fn fields_are_found_by_their_positions() {
        let nodes = [Node::Plain, Node::Leaf(0), Node::Leaf(1)];
        let row = r#"("a, ""b"" \\(",,"\\x0102")"#;
        assert_eq!(found(row, &nodes), Some(vec![String::new(), r#""\\x0102""#.to_owned()]));
        assert_eq!(found("(1,2)", &nodes), None);
        assert_eq!(found("()", &[Node::Leaf(0)]), Some(vec![String::new()]));
        assert_eq!(found(r#"(1,"2,3)"#, &nodes), None);
        let mut text = vec![];
        for value in ["", "plain", "a\"b\\c", "(", "x y"] {
            write_text(value.as_bytes(), &mut text);
            text.push(b' ');
        }
        assert_eq!(String::from_utf8(text).unwrap(), r#""" plain "a""b\\c" "(" "x y" "#);
    }

    #[test]
    fn no_bytes_make_it_panic() {
        let node = Node::Tuple(vec![Node::Leaf(0), Node::Plain]);
        let mut row = 2_u32.to_be_bytes().to_vec();
        write_binary(17, Some(b"cell"), &mut row);
        write_binary(23, None, &mut row);
        let spots = fields(Format::Binary, &row, &node).unwrap();
        assert_eq!(binary_value(&row, &spots[0]), Some(&b"cell"[..]));
        for end in 0..row.len() {
            assert_eq!(fields(Format::Binary, &row[..end], &node), None, "{end}");
            let _ = fields(Format::Text, &row[..end], &node);
        }
    }
}

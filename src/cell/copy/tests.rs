//! Rows and fields of COPY by themselves: cut anywhere, spelled and read back; the odd lines that PostgreSQL knows.

use super::fields::{self, Field};
use super::stream::{Kind, Stream};
use crate::plan::{CopyFormat, CopyOptions};
use crate::sql;
use proptest::prelude::*;

/// The options of a COPY as it would be typed.
fn options(text: &str) -> CopyOptions {
    sql::copy_options(&format!("copy t from stdin {text}")).expect("options of these tests")
}

const OPTIONS: [&str; 6] = [
    "",
    "(delimiter '|', null 'n')",
    "(format csv)",
    "(format csv, quote '''', escape '\\', header)",
    "(format csv, delimiter '1', quote 'x', escape 'a')",
    "(format binary)",
];

/// What comes of a stream that is cut into `pieces`: every piece's kind and bytes, how it ended.
fn pieces(options: &CopyOptions, cuts: &[&[u8]]) -> (Vec<(Kind, Vec<u8>)>, Option<&'static str>) {
    let mut stream = Stream::new(options, true, 1 << 20);
    let mut found = vec![];
    let last = [&b""[..]];
    let count = cuts.len();
    for (index, cut) in cuts.iter().chain(&last).enumerate() {
        stream.push(cut);
        loop {
            match stream.next(index == count) {
                Ok(Some(piece)) => found.push((piece.kind, stream.bytes()[piece.whole.clone()].to_vec())),
                Ok(None) => break,
                Err(bad) => return (found, Some(bad.message)),
            }
        }
        stream.forget();
    }
    (found, None)
}

fn split(options: &CopyOptions, row: &[u8]) -> Vec<Option<Vec<u8>>> {
    let mut found: Vec<Field> = vec![];
    fields::split(options, row, &mut found).expect("a row that was spelled here");
    let say = |field: &Field| {
        let mut value = vec![];
        fields::decode(options, &row[field.raw.clone()], &mut value);
        (!field.null).then_some(value)
    };
    found.iter().map(say).collect()
}

#[test]
fn rows_end_where_postgresql_ends_them() {
    let row = |text: &str| (Kind::Row, text.as_bytes().to_vec());
    let marker = |text: &str| (Kind::Verbatim, text.as_bytes().to_vec());
    let none = CopyOptions::default();
    assert_eq!(pieces(&none, &[b"a\\\nb\nc"]), (vec![row("a\\\nb\n"), row("c")], None));
    assert_eq!(pieces(&none, &[b"a\r\n\\.\r\nb"]), (vec![row("a\r\n"), marker("\\.\r\n")], None));
    assert_eq!(pieces(&none, &[b"a\n\\.x\n"]).1, Some("end-of-copy marker corrupt"));
    assert_eq!(pieces(&none, &[b"a\\.\n"]).1, Some("end-of-copy marker is not alone on its line"));
    assert_eq!(pieces(&none, &[b"a\nb\r\n"]).1, Some("literal carriage return found in data"));
    let csv = options("csv");
    assert_eq!(pieces(&csv, &[b"\"a\r\nb\"\nc\\.\n\\.\nrest"]).0.len(), 3);
    assert_eq!(pieces(&csv, &[b"a\r\nb\n"]).1, Some("unquoted newline found in data"));
    let binary = [&b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0"[..], b"\0\x01\0\0\0\x01a", b"\xff\xff"].concat();
    assert_eq!(pieces(&options("binary"), &[&binary]).0.len(), 3);
    assert_eq!(pieces(&options("binary"), &[&binary[..25]]).1, Some("unexpected EOF in COPY data"));
    let long = Stream::new(&none, true, 10);
    let mut long = long;
    long.push(&[b'a'; 11]);
    assert_eq!(long.next(false).map_err(|bad| bad.sqlstate), Err("54000"));
}

/// Fields as `CopyReadAttributesText` and `CopyReadAttributesCSV` find and read them, a byte at a time: what each says, and
/// whether it is spelled as NULL; `None`: a quote never ends.
fn read_slowly(options: &CopyOptions, row: &[u8]) -> Option<Vec<(Vec<u8>, bool)>> {
    let csv = options.format() == CopyFormat::Csv;
    let (mut found, mut value, mut spelled) = (vec![], vec![], vec![]);
    let (mut inside, mut quoted, mut at) = (false, false, 0);
    while let Some(&byte) = row.get(at) {
        let next = row.get(at + 1).copied();
        at += 1;
        if byte == options.delimiter() && !inside {
            let null = !quoted && spelled == options.null();
            found.push((std::mem::take(&mut value), null));
            (spelled, quoted) = (vec![], false);
            continue;
        }
        if csv
            && inside
            && byte == options.escape()
            && [Some(options.escape()), Some(options.quote())].contains(&next)
        {
            value.extend(next);
            at += 1;
        } else if csv && byte == options.quote() {
            (inside, quoted) = (!inside, true);
        } else if csv || byte != b'\\' {
            value.push(byte);
        } else if let Some(escaped) = next {
            at += 1;
            let digits = |radix: u32, most: usize, from: usize| {
                let digit = |byte: &u8| char::from(*byte).to_digit(radix);
                row[from..].iter().take(most).map_while(digit).collect::<Vec<_>>()
            };
            let number =
                |radix: u32, digits: &[u32]| digits.iter().fold(0, |sum, digit| sum * radix + digit) as u8;
            let (octal, hex) = (digits(8, 3, at - 1), digits(16, 2, at));
            value.push(match escaped {
                b'0'..=b'7' => number(8, &octal),
                b'x' if !hex.is_empty() => number(16, &hex),
                b'b' => 8,
                b't' => 9,
                b'n' => 10,
                b'v' => 11,
                b'f' => 12,
                b'r' => 13,
                other => other,
            });
            let more = match escaped {
                b'0'..=b'7' => octal.len() - 1,
                b'x' => hex.len(),
                _ => 0,
            };
            spelled.extend_from_slice(&row[at - 2..at + more]);
            at += more;
            continue;
        } else {
            continue;
        }
        spelled.push(byte);
    }
    found.push((value, !quoted && spelled == options.null()));
    (!inside).then_some(found)
}

proptest! {
    /// Finding many bytes at once, and decoding in place, give what looking at each byte gives.
    #[test]
    fn fields_are_read_as_byte_by_byte(
        which in 0..5_usize,
        row in prop::collection::vec(prop::sample::select(&b"ab1xA4N\\\\\\\"\"'',|\tnull"[..]), 0..60),
    ) {
        let options = options(&OPTIONS[which].replace(", header", ""));
        let mut found: Vec<Field> = vec![];
        let read = fields::split(&options, &row, &mut found).is_ok().then(|| {
            let said = |field: &Field| {
                let mut whole = row.clone();
                let said = fields::decode_in_place(&options, &mut whole, field.raw.clone());
                assert!(field.raw.start <= said.start && said.end <= field.raw.end);
                assert_eq!(whole[..field.raw.start], row[..field.raw.start]);
                assert_eq!(whole[field.raw.end..], row[field.raw.end..]);
                (whole[said].to_vec(), field.null)
            };
            found.iter().map(said).collect::<Vec<_>>()
        });
        prop_assert_eq!(read, read_slowly(&options, &row));
    }

    /// Wherever a stream is cut, the rows are the same.
    #[test]
    fn cuts_do_not_matter(
        which in 0..OPTIONS.len(),
        data in prop::collection::vec(prop::sample::select(&b"ab1x\\.\n\r\n\"',|\tN"[..]), 0..60),
    ) {
        let options = options(OPTIONS[which]);
        let whole = pieces(&options, &[&data]);
        let bytes: Vec<&[u8]> = data.chunks(1).collect();
        prop_assert_eq!(&whole, &pieces(&options, &bytes));
        for at in 0..=data.len() {
            let (before, after) = data.split_at(at);
            prop_assert_eq!(&whole, &pieces(&options, &[before, after]));
        }
    }

    #[test]
    fn tuples_may_be_cut(
        values in prop::collection::vec(prop::option::of(prop::collection::vec(any::<u8>(), 0..5)), 1..6),
        extension in prop::collection::vec(any::<u8>(), 0..3),
    ) {
        let options = options("binary");
        let mut data = b"PGCOPY\n\xff\r\n\0\0\0\0\0".to_vec();
        data.extend((extension.len() as u32).to_be_bytes());
        data.extend(&extension);
        let mut tuple = (values.len() as u16).to_be_bytes().to_vec();
        for value in &values {
            match value {
                Some(value) => fields::encode(&options, value, false, false, &mut tuple),
                None => fields::encode_null(&options, &mut tuple),
            }
        }
        data.extend(tuple.iter().chain(&tuple).chain(b"\xff\xff"));
        let whole = pieces(&options, &[&data]);
        prop_assert_eq!(whole.0.len(), 4);
        prop_assert_eq!(split(&options, &whole.0[1].1), values);
        for at in 0..=data.len() {
            let (before, after) = data.split_at(at);
            prop_assert_eq!(&whole, &pieces(&options, &[before, after]));
        }
    }

    /// What is spelled is read back, as one row.
    #[test]
    fn spelled_fields_read_back(
        which in 0..5_usize,
        values in prop::collection::vec(
            prop::option::of(prop::collection::vec(prop::sample::select(&b"ab1xN\\.\n\r\"',|\t"[..]), 1..8)), 1..5),
        forced in any::<bool>(),
    ) {
        let options = options(&OPTIONS[which].replace(", header", ""));
        // Text spells the string that means NULL like a value, as PostgreSQL does.
        let ambiguous = |value: &Vec<u8>| options.format() == CopyFormat::Text && value == options.null();
        prop_assume!(!values.iter().flatten().any(ambiguous));
        let mut row = vec![];
        for (index, value) in values.iter().enumerate() {
            if index > 0 {
                row.push(options.delimiter());
            }
            match value {
                Some(value) => fields::encode(&options, value, values.len() == 1, forced, &mut row),
                None => fields::encode_null(&options, &mut row),
            }
        }
        prop_assert_eq!(split(&options, &row), values);
        row.push(b'\n');
        prop_assert_eq!(pieces(&options, &[&row]), (vec![(Kind::Row, row.clone())], None));
    }
}

//! Values inside others: as JSON (`to_json`), and as elements of arrays (`array_out`, `array_send`).
//!
//! Sources: `jsonfuncs.c`/`json.c` (`datum_to_json`, `JsonEncodeDateTime`, `escape_json`), `arrayfuncs.c` (`array_out`).
//! Deliberately absent: `json`, `real` and their like as parts of `jsonb`, which would have to be read anew.

use super::{DataType, Format, Malformed, Style};
use zeroize::Zeroizing;

impl DataType {
    /// Appends the JSON that `to_json` makes of canonical bytes.
    ///
    /// # Errors
    /// [`Malformed`] for bytes that no value of the type has; what was appended until then stays in `json`.
    pub fn write_json(&self, canonical: &[u8], style: &Style, json: &mut Vec<u8>) -> Result<(), Malformed> {
        let iso;
        let style = match self {
            DataType::Date | DataType::Timestamp | DataType::Timestamptz => {
                iso = Style { date_style: "ISO, YMD".to_owned(), ..style.clone() };
                &iso
            }
            _ => style,
        };
        // The text may move as it grows: it is wiped wherever it was last.
        let mut text = Zeroizing::new(Vec::with_capacity(2 * canonical.len() + 64));
        self.write(canonical, Format::Text, style, &mut text)?;
        match self {
            DataType::Smallint | DataType::Integer | DataType::Bigint | DataType::Json | DataType::Jsonb => {
                json.extend_from_slice(&text);
            }
            DataType::Numeric(_) | DataType::Real | DataType::DoublePrecision => {
                let number = text.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'.' | b'-' | b'+' | b'e'));
                if number { json.extend_from_slice(&text) } else { quote(&text, json) }
            }
            DataType::Boolean => json.extend_from_slice(if text[..] == *b"t" { b"true" } else { b"false" }),
            DataType::Timestamp | DataType::Timestamptz => quote(&xsd(&text), json),
            _ => quote(&text, json),
        }
        Ok(())
    }
}

/// `2000-01-01 10:00:00+01` as XML Schema spells it: `2000-01-01T10:00:00+01:00`. `infinity` stays.
fn xsd(text: &[u8]) -> Vec<u8> {
    let mut out = text.to_vec();
    let Some(space) = out.iter().position(|byte| *byte == b' ') else { return out };
    out[space] = b'T';
    let sign = out[space..].iter().position(|byte| matches!(byte, b'+' | b'-')).map(|at| space + at);
    if let Some(sign) = sign {
        let end = out[sign..].iter().position(|byte| *byte == b' ').map_or(out.len(), |at| sign + at);
        if !out[sign..end].contains(&b':') {
            out.splice(end..end, *b":00");
        }
    }
    out
}

/// A JSON string, escaped as `escape_json` does.
fn quote(text: &[u8], json: &mut Vec<u8>) {
    json.push(b'"');
    for byte in text {
        match byte {
            b'"' => json.extend_from_slice(b"\\\""),
            b'\\' => json.extend_from_slice(b"\\\\"),
            0x08 => json.extend_from_slice(b"\\b"),
            0x0c => json.extend_from_slice(b"\\f"),
            b'\n' => json.extend_from_slice(b"\\n"),
            b'\r' => json.extend_from_slice(b"\\r"),
            b'\t' => json.extend_from_slice(b"\\t"),
            0..=0x1f => json.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
            other => json.push(*other),
        }
    }
    json.push(b'"');
}

/// Appends a one-dimensional array in wire form. `elements` are in the same form, `None` is NULL.
pub fn write_array<'e>(
    format: Format,
    element_oid: u32,
    elements: impl ExactSizeIterator<Item = Option<&'e [u8]>>,
    wire: &mut Vec<u8>,
) {
    match format {
        Format::Text => {
            wire.push(b'{');
            for (index, element) in elements.enumerate() {
                if index > 0 {
                    wire.push(b',');
                }
                match element {
                    None => wire.extend_from_slice(b"NULL"),
                    Some(text) => write_element(text, wire),
                }
            }
            wire.push(b'}');
        }
        Format::Binary => {
            let start = wire.len();
            let count = u32::try_from(elements.len()).unwrap_or(u32::MAX);
            wire.extend_from_slice(&u32::from(count > 0).to_be_bytes());
            wire.extend_from_slice(&0_u32.to_be_bytes());
            wire.extend_from_slice(&element_oid.to_be_bytes());
            if count > 0 {
                wire.extend_from_slice(&count.to_be_bytes());
                wire.extend_from_slice(&1_u32.to_be_bytes());
            }
            for element in elements {
                match element {
                    None => {
                        wire[start + 7] = 1;
                        wire.extend_from_slice(&(-1_i32).to_be_bytes());
                    }
                    Some(bytes) => {
                        let length = i32::try_from(bytes.len()).unwrap_or(i32::MAX);
                        wire.extend_from_slice(&length.to_be_bytes());
                        wire.extend_from_slice(bytes);
                    }
                }
            }
        }
    }
}

fn write_element(text: &[u8], wire: &mut Vec<u8>) {
    let special = |byte: &u8| matches!(byte, b'"' | b'\\' | b'{' | b'}' | b',' | b' ' | 0x09..=0x0d);
    if text.is_empty() || text.eq_ignore_ascii_case(b"null") || text.iter().any(special) {
        wire.push(b'"');
        for byte in text {
            if matches!(byte, b'"' | b'\\') {
                wire.push(b'\\');
            }
            wire.push(*byte);
        }
        wire.push(b'"');
    } else {
        wire.extend_from_slice(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::array_elements;

    #[test]
    fn timestamps_are_spelt_as_xml_does() {
        for (text, expected) in [
            ("2000-01-01 10:00:00", "2000-01-01T10:00:00"),
            ("2000-01-01 10:00:00.5+01", "2000-01-01T10:00:00.5+01:00"),
            ("2000-01-01 10:00:00-03:30", "2000-01-01T10:00:00-03:30"),
            ("0044-03-15 10:00:00+00 BC", "0044-03-15T10:00:00+00:00 BC"),
            ("infinity", "infinity"),
        ] {
            assert_eq!(String::from_utf8(xsd(text.as_bytes())).unwrap(), expected);
        }
    }

    #[test]
    fn arrays_are_read_back() {
        let elements: [Option<&[u8]>; 7] = [
            Some(b"a"),
            None,
            Some(b""),
            Some(b"NULL"),
            Some(b"x,\"y\\ "),
            Some("ä{".as_bytes()),
            Some(b"\t"),
        ];
        for format in [Format::Text, Format::Binary] {
            for count in [0, 1, 7] {
                let mut wire = vec![];
                write_array(format, 25, elements[..count].iter().copied(), &mut wire);
                let read = array_elements(format, &wire).unwrap();
                assert!(read.iter().map(|element| element.as_deref()).eq(elements[..count].iter().copied()));
            }
        }
    }

    #[test]
    fn json_is_escaped() {
        let mut json = vec![];
        quote("a\"\\\n\u{1}ä/".as_bytes(), &mut json);
        assert_eq!(String::from_utf8(json).unwrap(), "\"a\\\"\\\\\\n\\u0001ä/\"");
    }
}

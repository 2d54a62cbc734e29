//! A constant as PostgreSQL prints it in an expression (`ruleutils.c`, `get_const_expr`).

use crate::value::DataType;

/// Writes a value, given as its text, with the label of its type where PostgreSQL gives one.
pub(super) fn write(data_type: &DataType, text: &[u8], out: &mut Vec<u8>) {
    let number = match data_type {
        DataType::Smallint | DataType::Integer | DataType::Bigint => Some("integer"),
        DataType::Numeric(_) | DataType::Real | DataType::DoublePrecision => Some("numeric"),
        _ => None,
    };
    let is_bare =
        |text: &[u8]| !text.is_empty() && text.iter().all(|byte| byte.is_ascii_digit() || *byte == b'.');
    match (data_type, number) {
        (DataType::Boolean, _) => out.extend_from_slice(if text == b"t" { b"true" } else { b"false" }),
        // A constant that fits is an integer, whatever the column is.
        (_, Some(_)) if is_bare(text) => out.extend_from_slice(text),
        (_, Some(label)) => quoted(text, label, out),
        (_, None) => quoted(text, data_type.family_name(), out),
    }
}

fn quoted(text: &[u8], label: &str, out: &mut Vec<u8>) {
    if text.contains(&b'\\') {
        out.push(b'E');
    }
    out.push(b'\'');
    for byte in text {
        if matches!(byte, b'\'' | b'\\') {
            out.push(*byte);
        }
        out.push(*byte);
    }
    out.extend_from_slice(b"'::");
    out.extend_from_slice(label.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constants_are_printed_as_postgresql_does() {
        let printed = |data_type: DataType, text: &str| {
            let mut out = vec![];
            write(&data_type, text.as_bytes(), &mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(printed(DataType::Text, "it's"), "'it''s'::text");
        assert_eq!(printed(DataType::Text, "a\\b"), "E'a\\\\b'::text");
        assert_eq!(printed(DataType::Varchar(Some(3)), ""), "''::character varying");
        assert_eq!(printed(DataType::Integer, "5"), "5");
        assert_eq!(printed(DataType::Bigint, "-5"), "'-5'::integer");
        assert_eq!(printed(DataType::Numeric(None), "1.50"), "1.50");
        assert_eq!(printed(DataType::Boolean, "t"), "true");
        assert_eq!(printed(DataType::Date, "2024-02-29"), "'2024-02-29'::date");
    }
}

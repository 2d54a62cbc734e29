//! What each type reads and prints, in text and binary, and what it refuses; the expected values are PostgreSQL's own.
//! `tests/it/value.rs` asks the server itself, for many more.

use super::*;

fn style(date: &str, zone: &str) -> Style {
    Style { date_style: date.into(), time_zone: zone.into(), ..Style::default() }
}

fn through(data_type: &str, text: &str, style: &Style) -> String {
    let data_type = DataType::parse(data_type).expect("a type");
    let mut canonical = vec![];
    if let Err(error) = data_type.read(&data_type, Format::Text, text.as_bytes(), style, &mut canonical) {
        return format!("{} {}", error.sqlstate, error.message);
    }
    let mut binary = vec![];
    data_type.write(&canonical, Format::Binary, style, &mut binary).expect("canonical");
    let mut again = vec![];
    data_type.read(&data_type, Format::Binary, &binary, style, &mut again).expect("binary reads back");
    assert!(again == canonical, "{data_type:?}: both forms have one canonical form");
    let mut out = vec![];
    data_type.write(&canonical, Format::Text, style, &mut out).expect("canonical");
    String::from_utf8(out).expect("text")
}

#[test]
fn text_forms_come_out_as_postgresql_prints_them() {
    let iso = style("ISO, MDY", "Europe/Berlin");
    let cases = [
        ("text", "  x ", "  x "),
        ("varchar(3)", "abc  ", "abc"),
        ("varchar(3)", "abcd", "22001 value too long for type character varying(3)"),
        ("smallint", " -32768 ", "-32768"),
        ("smallint", "32768", "22003 value out of range for type smallint"),
        ("integer", "1x", "22P02 invalid input syntax for type integer"),
        ("bigint", "9223372036854775807", "9223372036854775807"),
        ("numeric(6,2)", "-1234.565", "-1234.57"),
        ("numeric(6,2)", "12345.6", "22003 numeric field overflow"),
        ("numeric", "1e3", "1000"),
        ("numeric", "1.50", "1.50"),
        ("numeric", "-0.00012", "-0.00012"),
        ("numeric", "123456789012.000", "123456789012.000"),
        ("numeric", "NaN", "NaN"),
        ("numeric(2,4)", "0.01", "22003 numeric field overflow"),
        ("numeric(5,-2)", "1250", "1300"),
        ("real", "1.1", "1.1"),
        ("real", "1000000", "1e+06"),
        ("real", "2.4414062500000005e-4", "0.00024414062"),
        // The shortest decimals, 8.41e21 and 1e23, lie midway between two numbers.
        ("double precision", "8.41e21", "8.409999999999999e+21"),
        ("double precision", "1e23", "9.999999999999999e+22"),
        ("double precision", "1e400", "22003 value out of range for type double precision"),
        ("double precision", "-0", "-0"),
        ("double precision", "1e20", "1e+20"),
        ("double precision", "0.0001", "0.0001"),
        ("double precision", "1e-7", "1e-07"),
        ("boolean", "yes", "t"),
        ("date", "1999-01-08", "1999-01-08"),
        ("date", "January 8, 1999", "1999-01-08"),
        ("date", "8-Jan-1999", "1999-01-08"),
        ("date", "1/8/1999", "1999-01-08"),
        ("date", "19990108", "1999-01-08"),
        ("date", "0044-03-15 BC", "0044-03-15 BC"),
        ("date", "2023-02-29", "22008 date/time field value out of range"),
        ("date", "today", "22007 relative date/time input is not supported"),
        ("time", "04:05:06.789", "04:05:06.789"),
        ("time", "4:05 PM", "16:05:00"),
        ("timestamp", "2004-10-19T10:23:54.5", "2004-10-19 10:23:54.5"),
        ("timestamptz", "2004-10-19 10:23:54+00", "2004-10-19 12:23:54+02"),
        ("timestamptz", "2004-12-19 10:23:54", "2004-12-19 10:23:54+01"),
        ("timestamptz", "2004-12-19 10:23:54 America/New_York", "2004-12-19 16:23:54+01"),
        ("timestamptz", "infinity", "infinity"),
        ("interval", "1 year 2 mons 3 days 04:05:06.7", "1 year 2 mons 3 days 04:05:06.7"),
        ("interval", "P1DT2H", "1 day 02:00:00"),
        ("interval", "-1 day", "-1 days"),
        ("uuid", "{A0EEBC99-9C0B4EF8-BB6D6BB9BD380A11}", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
        ("bytea", r"\xDEad", r"\xdead"),
        ("bytea", r"a\000\\", r"\x61005c"),
        ("json", "{ \"b\":1}", "{ \"b\":1}"),
        ("jsonb", "{\"bb\": 1.50, \"a\":[1,2],\"a\":null}", "{\"a\": null, \"bb\": 1.50}"),
        ("inet", "192.168.0.1/24", "192.168.0.1/24"),
        ("inet", "::1", "::1"),
        ("inet", "300.1.1.1", "22P02 invalid input syntax for type inet"),
    ];
    for (data_type, text, expected) in cases {
        assert_eq!(through(data_type, text, &iso), expected, "{data_type} {text}");
    }
}

#[test]
fn binary_forms_are_what_postgresql_sends() {
    let cases = [
        ("text", "ä€", "c3a4e282ac"),
        ("smallint", "-2", "fffe"),
        ("integer", "70000", "00011170"),
        ("bigint", "-1", "ffffffffffffffff"),
        ("numeric", "-1234.5670", "000200004000000404d21626"),
        ("numeric", "0.00", "0000000000000002"),
        ("numeric", "NaN", "00000000c0000000"),
        ("numeric", "100000000", "00010002000000000001"),
        ("real", "1.1", "3f8ccccd"),
        ("double precision", "-0.5", "bfe0000000000000"),
        ("boolean", "true", "01"),
        ("date", "1999-01-08", "fffffe9a"),
        ("date", "-infinity", "80000000"),
        ("time", "24:00", "000000141dd76000"),
        ("timestamp", "1999-01-08 04:05:06.789", "ffffe3e1b1678a88"),
        ("timestamptz", "1999-01-08 04:05:06+00", "ffffe3e1b15b8080"),
        ("interval", "1 year 2 mons -3 days 04:05:06.7", "000000036c966ee0fffffffd0000000e"),
        ("uuid", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "a0eebc999c0b4ef8bb6d6bb9bd380a11"),
        ("bytea", r"\x00ff", "00ff"),
        ("json", "{ }", "7b207d"),
        ("jsonb", "[1,2]", "015b312c20325d"),
        ("inet", "10.1.2.3/8", "020800040a010203"),
        ("inet", "::1", "0380001000000000000000000000000000000001"),
    ];
    for (data_type, text, expected) in cases {
        let data_type = DataType::parse(data_type).expect("a type");
        let (mut canonical, mut binary) = (vec![], vec![]);
        data_type
            .read(&data_type, Format::Text, text.as_bytes(), &Style::default(), &mut canonical)
            .expect("a value");
        data_type.write(&canonical, Format::Binary, &Style::default(), &mut binary).expect("canonical");
        assert_eq!(faster_hex::hex_string(&binary), expected, "{data_type:?} {text}");
    }
}

#[test]
fn integers_of_every_width_have_one_canonical_form() {
    let mut forms = vec![];
    for (data_type, wire) in [
        (DataType::Smallint, [0, 7].as_slice()),
        (DataType::Integer, &[0, 0, 0, 7]),
        (DataType::Bigint, &[0, 0, 0, 0, 0, 0, 0, 7]),
    ] {
        let mut canonical = vec![];
        data_type.read(&data_type, Format::Binary, wire, &Style::default(), &mut canonical).expect("a value");
        forms.push(canonical);
    }
    forms.dedup();
    assert_eq!(forms.len(), 1);
    let mut left = vec![];
    let beyond = DataType::Smallint.read(
        &DataType::Integer,
        Format::Binary,
        &[0, 1, 0, 0],
        &Style::default(),
        &mut left,
    );
    assert_eq!(beyond, Err(ValueError::new("22003", "smallint out of range")));
}

#[test]
fn foreign_canonical_bytes_are_malformed_never_a_panic() {
    for data_type in [
        "smallint",
        "numeric",
        "real",
        "double precision",
        "boolean",
        "date",
        "time",
        "timestamp",
        "timestamptz",
        "interval",
        "uuid",
        "inet",
        "text",
    ] {
        let data_type = DataType::parse(data_type).expect("a type");
        for bytes in [b"\xff".as_slice(), b"\xff\xfe\xfd", &[0x80; 8], &[0x81; 15], &[0xff; 20]] {
            for format in [Format::Text, Format::Binary] {
                let written = data_type.write(bytes, format, &Style::default(), &mut vec![]);
                // Eight bytes of 0x80 are a number to a double, and to nothing else here.
                let double = data_type == DataType::DoublePrecision && bytes.len() == 8;
                assert_eq!(written.is_ok(), double, "{data_type:?} {bytes:?}");
            }
        }
    }
}

#[test]
fn types_know_their_catalog_numbers() {
    let parse = |sql: &str| DataType::parse(sql).expect("a type");
    assert_eq!(parse("varchar(320)").typmod(), 324);
    assert_eq!(parse("numeric(12,2)").typmod(), 786_438);
    assert_eq!(parse("numeric(4,-2)").typmod(), 264_194);
    assert_eq!(parse("decimal (12, 2)"), DataType::Numeric(Some((12, 2))));
    assert_eq!(parse("TIMESTAMP WITH TIME ZONE").oid(), 1184);
    assert_eq!(DataType::parse("varchar(0)"), None);
    assert_eq!(DataType::parse("money"), None);
    assert!(parse("varchar(10)").narrows(&parse("varchar(20)")));
    assert!(!parse("varchar(20)").narrows(&parse("varchar(10)")));
    assert!(parse("smallint").narrows(&parse("bigint")));
    assert!(!parse("numeric(8,2)").narrows(&parse("numeric(12,3)")));
    assert_eq!(DataType::from_oid(650), None, "cidr is not inet");
}

#[test]
fn date_style_orders_input_and_output() {
    assert_eq!(through("date", "08/01/1999", &style("SQL, DMY", "UTC")), "08/01/1999");
    assert_eq!(through("date", "08/01/1999", &style("ISO, DMY", "UTC")), "1999-01-08");
    assert_eq!(through("date", "1999-01-08", &style("German, DMY", "UTC")), "08.01.1999");
    assert_eq!(
        through("timestamp", "1997-12-17 07:37:16", &style("Postgres, MDY", "UTC")),
        "Wed Dec 17 07:37:16 1997"
    );
}

#[test]
fn errors_never_quote_the_value() {
    for data_type in [
        "integer",
        "numeric",
        "date",
        "timestamptz",
        "uuid",
        "json",
        "jsonb",
        "inet",
        "boolean",
        "interval",
        "real",
    ] {
        let shown = through(data_type, "canary4111", &Style::default());
        assert!(!shown.contains("canary"), "{data_type}: {shown}");
        assert_eq!(shown.as_bytes()[0], b'2', "{data_type}: {shown}");
    }
}

#[test]
fn arrays_split_into_elements() {
    let text = |wire: &str| array_elements(Format::Text, wire.as_bytes());
    let some = |value: &str| Some(value.as_bytes().to_vec());
    assert_eq!(text("{}"), Ok(vec![]));
    assert_eq!(
        text(r#"{a,"b\"c",NULL,"NULL", d e }"#),
        Ok(vec![some("a"), some("b\"c"), None, some("NULL"), some("d e")])
    );
    assert!(text("{{a}}").is_err());
    assert!(text("{a").is_err());
    let binary =
        [0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 25, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 1, b'a', 255, 255, 255, 255];
    assert_eq!(array_elements(Format::Binary, &binary), Ok(vec![some("a"), None]));
    for cut in 0..binary.len() {
        assert!(array_elements(Format::Binary, &binary[..cut]).is_err(), "cut at {cut}");
    }
}

#[test]
fn what_is_assigned_to_text_reads_as_its_cast() {
    let cast = |from: DataType, text: &str| {
        let mut canonical = vec![];
        let read =
            DataType::Text.read(&from, Format::Text, text.as_bytes(), &Style::default(), &mut canonical);
        read.expect("an assignment cast");
        String::from_utf8(canonical).expect("text")
    };
    let cases = [
        (DataType::Boolean, "yes", "true"),
        (DataType::Boolean, "0", "false"),
        (DataType::Inet, "10.1.2.3", "10.1.2.3/32"),
        (DataType::Inet, "::1", "::1/128"),
        (DataType::Inet, "10.0.0.0/8", "10.0.0.0/8"),
        (DataType::Bigint, "007", "7"),
        (DataType::Numeric(None), "+1.50", "1.50"),
    ];
    for (from, text, expected) in cases {
        assert_eq!(cast(from, text), expected, "{from:?}");
    }
}

/// What is shown as it was sealed is checked as what is written is.
#[test]
fn many_values_are_checked_as_one_by_one() {
    let style = Style::default();
    let cases: [(DataType, &[&[u8]]); 6] = [
        (DataType::Text, &[b"a", b"", "é".as_bytes(), b"b"]),
        // A character that is cut in two, between values and at the end.
        (DataType::Text, &[b"a\xc3", b"\xa9b"]),
        (DataType::Text, &[b"a", b"b\xc3"]),
        (DataType::Json, &[b"\x80", b""]),
        (DataType::Date, &[&[0, 0, 0, 1], &[0, 0, 0, 2]]),
        (DataType::Date, &[&[0, 0, 0], &[1, 0, 0, 0, 2]]),
    ];
    for (data_type, values) in cases {
        let format = if data_type == DataType::Date { Format::Binary } else { Format::Text };
        assert!(data_type.is_verbatim(format));
        let mut end = 0;
        let spans: Vec<_> = values
            .iter()
            .map(|value| {
                end += value.len();
                (end - value.len(), end)
            })
            .collect();
        let each: Result<(), Malformed> =
            values.iter().try_for_each(|value| data_type.write(value, format, &style, &mut vec![]));
        assert_eq!(
            data_type.check_all(&values.concat(), spans.into_iter()),
            each,
            "{data_type:?} {values:?}"
        );
    }
}

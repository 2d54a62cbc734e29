//! What each type reads and prints, in text and binary, and what it refuses.

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
        ("smallint", "32768", "22003 smallint out of range"),
        ("integer", "1x", "22P02 invalid input syntax for type integer"),
        ("bigint", "9223372036854775807", "9223372036854775807"),
        ("numeric(6,2)", "-1234.565", "-1234.57"),
        ("numeric(6,2)", "12345.6", "22003 numeric field overflow"),
        ("numeric", "1e3", "1000"),
        ("numeric", "1.50", "1.50"),
        ("numeric", "-0.00012", "-0.00012"),
        ("numeric", "123456789012.000", "123456789012.000"),
        ("numeric", "NaN", "NaN"),
        ("real", "1.1", "1.1"),
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
        ("date", "today", "22007 relative date/time input is not supported for sealed columns"),
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

//! One line has one spelling: what is written parses back, and nothing else parses.

use super::*;
use proptest::prelude::*;

/// One record of each event, with awkward text in each place where a peer's text may stand.
pub(in crate::audit) fn samples() -> Vec<AuditRecord> {
    let used = |column: &str, disclosure: &str| UsedColumn {
        column: column.to_owned(),
        label: "pii.email".to_owned(),
        action: "read".to_owned(),
        rule: "support-desk".to_owned(),
        disclosure: disclosure.to_owned(),
    };
    let uses = vec![used("public.customers.email", "mask:partial"), used("public.\"we\\ird\".e", "clear")];
    let events = vec![
        Event::Started {
            version: "0.1.0".to_owned(),
            configuration: "9f86d081".to_owned(),
            files: vec![("policy.toml".to_owned(), "9f86".to_owned())],
        },
        Event::Reloaded {
            configuration: "60303ae2".to_owned(),
            files: vec![
                ("policy.toml".to_owned(), "6030".to_owned()),
                ("tags.toml".to_owned(), "11aa".to_owned()),
            ],
        },
        Event::LoggedIn { instead: None },
        Event::LogInFailed { reason: "password".to_owned() },
        Event::Intent {
            statement: 1,
            intent: Said::from(Intent {
                kind: "select".to_owned(),
                shape: "select email from customers\n\twhere id = $1 -- \u{7f} ünïcode 😀".to_owned(),
                purpose: Some("support".to_owned()),
                uses: uses.clone(),
            }),
        },
        Event::Outcome {
            statement: 1,
            rows: 2,
            cells: vec![("pii.email".into(), "mask:partial".into(), 2)],
            comparisons: 0,
            sqlstate: "00000".into(),
            duration: Duration::from_nanos(1_234_567),
            persons: None,
        },
        Event::Refused {
            kind: "select".to_owned(),
            shape: "select card_number from customers".to_owned(),
            sqlstate: "42501".to_owned(),
            reason: "denied".to_owned(),
            uses,
        },
        Event::SecondFactor { outcome: "given".to_owned() },
        Event::BreakGlass { reason: "the \"system\"\nis down \u{202e}".to_owned() },
        Event::Recovered { unsigned: 1, cut: 77 },
        Event::Stopped,
        Event::Removed { before: 12 },
        Event::KeyChanged { key: "ab".repeat(32) },
        Event::PersonForgotten { table: "public.customers".to_owned() },
        Event::ColumnChanged {
            column: "public.customers.email".to_owned(),
            from: "clear".to_owned(),
            to: "sealed with version 1".to_owned(),
        },
        Event::KeysExported { at: "2026-11-26T11:00:00Z".to_owned(), to: "age1…".to_owned() },
        Event::DataKeyChanged {
            at: "2026-11-26T11:00:00Z".to_owned(),
            key: "pay\"ment".to_owned(),
            change: "version 2 made".to_owned(),
        },
        Event::LoggedIn {
            instead: Some(InsteadOfPassword {
                method: "certificate".to_owned(),
                upstream: "de\"sk".to_owned(),
            }),
        },
    ];
    let connection = Said::from(Connection {
        number: 7,
        user: "alice".to_owned(),
        database: "shop \"ö\"".to_owned(),
        application: "psql\u{1b}[31m\\".to_owned(),
        address: "10.0.0.7:5123".to_owned(),
    });
    let numbered = events.into_iter().zip(0..);
    numbered
        .map(|(event, number)| AuditRecord {
            time: 1_764_000_000_000_000 + number,
            connection: connection.clone(),
            event,
        })
        .collect()
}

fn spelled(line: &Line) -> Vec<u8> {
    let mut out = Vec::new();
    line.write(&mut out);
    out
}

const CHAIN: Chain = Chain { size: 5, head: Hash([0xab; 32]) };

#[test]
fn every_event_parses_back() {
    for record in samples() {
        let line = Line::Record(CHAIN, Box::new(record));
        assert_eq!(Line::parse(&spelled(&line)), Ok(line));
    }
}

#[test]
fn what_records_share_is_spelled_as_what_they_do_not() {
    let shared = samples().swap_remove(4);
    let mut alone = shared.clone();
    alone.connection = shared.connection.changed(|_| ());
    let Event::Intent { intent, .. } = &mut alone.event else { panic!("{alone:?}") };
    *intent = intent.changed(|_| ());
    let other = shared.clone();
    // The second time its bytes are known.
    for record in [&shared, &shared, &alone] {
        let mut line = Vec::new();
        write_record(CHAIN, record, &mut line);
        assert_eq!(Line::parse(&line), Ok(Line::Record(CHAIN, Box::new(other.clone()))));
    }
}

#[test]
fn persons_are_spelled_where_there_are_any() {
    let mut record = samples().swap_remove(5);
    let without = String::from_utf8(spelled(&Line::Record(CHAIN, Box::new(record.clone())))).unwrap();
    let Event::Outcome { persons, .. } = &mut record.event else { panic!("{record:?}") };
    let seen = vec![Pseudonym([0x0a; 16]), Pseudonym([0xb0; 16])];
    // Handles are for the writer, and are never written.
    *persons = Some(Persons { handles: vec![], seen, more: 3, unknown: 1 });
    let line = Line::Record(CHAIN, Box::new(record.clone()));
    let expected = format!(
        "{},\"persons\":{{\"seen\":[\"{}\",\"{}\"],\"more\":3,\"unknown\":1}}}}",
        &without[..without.len() - 1],
        "0a".repeat(16),
        "b0".repeat(16)
    );
    let bytes = spelled(&line);
    assert_eq!(String::from_utf8(bytes.clone()).unwrap(), expected);
    assert_eq!(Line::parse(&bytes), Ok(line));
    let Event::Outcome { persons: Some(persons), .. } = &mut record.event else { panic!("{record:?}") };
    persons.handles.push(crate::crypto::PersonHandle([0xee; 16]));
    assert_eq!(spelled(&Line::Record(CHAIN, Box::new(record))), bytes);
    for (from, to) in
        [("\"more\":3", "\"more\":3.0"), ("0a0a", "0A0a"), ("\"persons\":{", "\"persons\":null,\"x\":{")]
    {
        let changed = expected.replacen(from, to, 1);
        assert_eq!(Line::parse(changed.as_bytes()), Err(Malformed::Bytes), "{changed}");
    }
}

#[test]
fn the_spelling_is_the_one_of_the_format() {
    let record = AuditRecord { event: Event::LoggedIn { instead: None }, ..samples().swap_remove(0) };
    let head = "ab".repeat(32);
    let expected = format!(
        "{{\"sequence\":5,\"previous\":\"{head}\",\"time\":1764000000000000,\"connection\":7,\"user\":\"alice\",\
         \"database\":\"shop \\\"ö\\\"\",\"application\":\"psql\\u001b[31m\\\\\",\"address\":\"10.0.0.7:5123\",\
         \"event\":\"logged_in\"}}"
    );
    assert_eq!(String::from_utf8(spelled(&Line::Record(CHAIN, Box::new(record)))).unwrap(), expected);
}

#[test]
fn another_spelling_of_the_same_is_no_line() {
    let header = Header {
        log: LogId([1; 16]),
        key: KeyId([2; 8]),
        chain: Chain { size: 2, head: Hash([0xab; 32]) },
        tree: Tree::from_subtrees(2, vec![Hash([0xcd; 32])]).unwrap(),
        time: -5,
    };
    let line = String::from_utf8(spelled(&Line::Header(header.clone()))).unwrap();
    assert_eq!(Line::parse(line.as_bytes()), Ok(Line::Header(header)));
    for (from, to) in [
        ("{", "{ "),
        ("\"time\":-5", "\"time\":-5.0"),
        ("\"time\":-5", "\"time\":-5,\"time\":-5"),
        ("\"time\":-5", "\"time\":-5,\"more\":1"),
        ("\"time\"", "\"tim\\u0065\""),
        ("02", "0Z"),
        ("}", "}}"),
        ("}", "} "),
    ] {
        let changed = line.replacen(from, to, 1);
        assert_ne!(changed, line);
        assert_eq!(Line::parse(changed.as_bytes()), Err(Malformed::Bytes), "{changed}");
    }
    let newer = line.replacen("\"pgveil_audit\":2", "\"pgveil_audit\":3", 1);
    assert_eq!(Line::parse(newer.as_bytes()), Err(Malformed::Version(3)));
}

proptest! {
    #[test]
    fn any_text_parses_back(user in "\\PC*", shape in any::<String>(), time: i64, rows: u64) {
        let mut record = samples().swap_remove(6);
        record.time = time;
        let Event::Refused { reason, .. } = &mut record.event else { unreachable!() };
        *reason = shape;
        record.connection = record.connection.changed(|connection| (connection.user, connection.number) = (user, rows));
        let line = Line::Record(CHAIN, Box::new(record));
        let bytes = spelled(&line);
        prop_assert!(!bytes.iter().any(|byte| *byte < 0x20 || *byte == 0x7f));
        prop_assert_eq!(Line::parse(&bytes), Ok(line));
    }

    #[test]
    fn any_bytes_are_parsed_without_a_panic(bytes: Vec<u8>) {
        let _ = Line::parse(&bytes);
    }
}

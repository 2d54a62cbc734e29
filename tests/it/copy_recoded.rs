//! COPY … FROM that the server reads in binary while the client sends text or CSV: every type and spelling gives what a plain
//! table takes, what the server alone can read goes to it in the end, and a type that changed behind our back changes nothing.

use crate::copy::copy_in;
use crate::postgres;
use crate::proxy::Proxy;
use crate::raw::Raw;

const POLICY: &str = r#"
default = "refuse"
[domain.email]
label = "pii.email"
type = "text"
seal = "deterministic"
[roles]
app = ["shop"]
[[rule]]
name = "application"
roles = ["app"]
labels = ["*"]
allow = ["read", "compare", "write"]
show = "clear"
"#;

const TAGS: &str = "[columns]\n\"public.odd.email\" = \"email\"\n";

const COLUMNS: &str = "email text, small smallint, int integer, big bigint, num numeric, price numeric(6,2), yes boolean, \
    day date, clock time, at timestamp, atz timestamptz, short timestamp(1), uid uuid, doc json, docb jsonb, raw bytea, word varchar(5), \
    code character(4), note text, size real, span interval";

/// By column, what may stand in a line of text. `?` before it: the server reads it and we do not, which costs one failed copy.
/// `-` before the column: its type keeps the copy as the client sends it.
const VALUES: &[(&str, &[&str])] = &[
    ("small", &["1", " 2 ", "-32768", "32768", "+5", "", "1.5", "\\N", "?0x1f"]),
    ("int", &["2147483647", "-2147483648", "2147483648", "x", "00012", "?1_000"]),
    ("big", &["9223372036854775807", "-9223372036854775808", "9223372036854775808"]),
    (
        "num",
        &[
            "0",
            "0.00",
            "-1.50",
            "1e10",
            "1.5e-3",
            "NaN",
            "-Infinity",
            " 7 ",
            "1e",
            "123456789012345678901234567890.123456789",
        ],
    ),
    ("price", &["1.005", "-1.005", "9999.99", "9999.995", "12345", "NaN", "Infinity", "1e3"]),
    ("yes", &["t", "f", "TRUE", "of", "on", "1", "0", "yes", "o", " no ", "2", ""]),
    (
        "day",
        &[
            "2024-02-29",
            "2023-02-29",
            "1/2/2024",
            "Jan 5 2020",
            "44-03-15 BC",
            "infinity",
            "-infinity",
            "epoch",
            "20240131",
            "2024-13-01",
            "?J2451187",
        ],
    ),
    ("clock", &["12:34:56.789", "24:00:00", "04:05 PM", "25:00", "040506"]),
    (
        "at",
        &[
            "2024-05-06 07:08:09.123456789",
            "2024-05-06T07:08:09",
            "2024-05-06 24:00",
            "infinity",
            "1999-01-08 04:05:06 PST",
            "2024-05-06 07:08:60",
            "2024-05-06",
        ],
    ),
    (
        "atz",
        &[
            "2024-05-06 07:08:09+02",
            "2024-05-06T07:08:09Z",
            "2024-05-06 07:08:09-08:30:15",
            "2024-05-06 07:08",
            "-infinity",
            "?2024-05-06 07:08 UTCx",
            "?2024-05-06 07:08:09 America/New_York",
            "?2024-05-06 07:08:09 PST",
        ],
    ),
    ("short", &["2024-05-06 07:08:09.96", "2024-05-06 07:08:09.04"]),
    (
        "uid",
        &[
            "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
            "{A0EEBC99-9C0B4EF8-BB6D6BB9-BD380A11}",
            "a0eebc999c0b4ef8bb6d6bb9bd380a1",
            "a0eebc999c0b4ef8bb6d6bb9bd380a11",
        ],
    ),
    ("doc", &["{\"a\": [1, 2 ,  3]}", "{a}", "\"\\\\u00e4\"", " null "]),
    ("docb", &["{\"b\": 1, \"a\": 2, \"a\": 3}", "[1e400]", "{", "\"\\\\u0000\""]),
    ("raw", &["\\\\x00ff", "\\\\xzz", "abc\\\\001\\\\\\\\", "\\\\", ""]),
    ("word", &["12345", "123456", "1234   ", "12345   ", "é́é", "\\101"]),
    ("code", &["ab", "ab  ", "abcd  ", "abcde", ""]),
    ("note", &["", "tab\\there", "\\x41\\N", "a\\\\b", "\u{1f980}"]),
    ("-size", &["1.5", "1e400"]),
    ("-span", &["1 day"]),
];

fn odd() -> (Proxy, Raw, Raw) {
    let proxy = Proxy::start_with(POLICY, TAGS, "");
    let mut shop = Raw::log_in(&proxy.url("shop"));
    let mut plain = Raw::log_in(&proxy.url_past("shop"));
    for (raw, table) in [(&mut shop, "odd"), (&mut plain, "plain_odd")] {
        assert_eq!(raw.query(&format!("create table {table} ({COLUMNS})")).errors, [""; 0]);
        assert_eq!(raw.query("set timezone to 'UTC'; set datestyle to 'ISO, DMY'").errors, [""; 0]);
    }
    (proxy, shop, plain)
}

/// Whether the copy that the user's session ran last was sent in binary.
fn went_in_binary(proxy: &Proxy) -> bool {
    let sent = "select query like '%FORMAT binary%' from pg_stat_activity where query like 'COPY \"public\".\"odd\"%'";
    postgres::query(proxy.direct(), sent) == [[Some("t".to_owned())]]
}

type Row = Vec<Option<Vec<u8>>>;

/// The outcome without the words, and the rows.
fn copied(
    raw: &mut Raw,
    sql: &str,
    data: &str,
    table: &str,
    column: &str,
) -> (Result<String, String>, Vec<Row>) {
    let outcome = copy_in(raw, sql, &[data.as_bytes()]).map_err(|error| error[..5].to_owned());
    let rows = raw.query(&format!("select email, {column}, {column}::text from {table}")).rows;
    assert_eq!(raw.query(&format!("delete from {table}")).errors, [""; 0]);
    (outcome, rows)
}

#[test]
fn every_spelling_of_every_type_is_read_as_the_server_reads_it() {
    let (proxy, mut shop, mut plain) = odd();
    let mut number = 0;
    for (named, values) in VALUES {
        let column = named.trim_start_matches('-');
        for marked in *values {
            let value = marked.trim_start_matches('?');
            let server_only = value != *marked;
            if matches!(value, "0x1f" | "1_000") && postgres::major() < 16 {
                continue;
            }
            let ways = [("", format!("a@b.c\t{value}\n")), ("csv header", csv(value))];
            // What a value says does not hang on how the copy spells it: one of each type shows that it is found.
            let ways = ways.into_iter().take(if marked == &values[0] { 2 } else { 1 });
            for (options, line) in ways {
                let what = format!("{column} {value:?} {options}");
                let from = |table| format!("copy {table} (email, {column}) from stdin {options} -- {number}");
                let theirs = copied(&mut plain, &from("plain_odd"), &line, "plain_odd", column);
                let ours = copy_in(&mut shop, &from("odd"), &[line.as_bytes()]);
                if !server_only {
                    assert_eq!(went_in_binary(&proxy), column == *named, "{what}");
                }
                let failed = ours.is_err();
                if server_only {
                    let hinted = ours.expect_err(&what);
                    assert!(!hinted.contains(value), "{what}: {hinted}");
                } else {
                    assert_eq!(ours.map_err(|error| error[..5].to_owned()), theirs.0, "{what}");
                }
                assert_eq!(shop.query("delete from odd").errors, [""; 0]);
                // Once more: what was not read is the server's to read now. Where other tests change what plans are made of, the
                // plan that knew so is gone.
                let mut again = copied(&mut shop, &from("odd"), &line, "odd", column);
                for _ in 0..2 {
                    if server_only && again != theirs {
                        again = copied(&mut shop, &from("odd"), &line, "odd", column);
                    }
                }
                assert_eq!(again, theirs, "{what}");
                // A copy that failed may go as it is spelled from then on: the next is another.
                number += i32::from(failed);
            }
        }
    }
}

fn csv(value: &str) -> String {
    let value = if value == "\\N" { String::new() } else { format!("\"{}\"", value.replace('"', "\"\"")) };
    format!("email,\"a\nvalue\"\na@b.c,{value}\n")
}

#[test]
fn rows_that_are_not_whole_fail_as_in_a_plain_table() {
    let (proxy, mut shop, mut plain) = odd();
    for data in [
        "",
        "\\.\n",
        "a@b.c\n",
        "a@b.c\t1\n\\.\n",
        "a@b.c\t1\nb@b.c\n",
        "a@b.c\tx\n",
        "a@b.c\t1\t2\n",
        "a@b.c\tx\t2\n",
        "\\N\t\\N\n",
        "a\0b\t1\n",
        "\\xff\t1\n",
    ] {
        for column in ["int", "note"] {
            let from = |table| format!("copy {table} (email, {column}) from stdin");
            let ours = copied(&mut shop, &from("odd"), data, "odd", column);
            assert_eq!(
                ours,
                copied(&mut plain, &from("plain_odd"), data, "plain_odd", column),
                "{column} {data:?}"
            );
        }
    }
    // What the server checks of each row it still checks; a right to read is not needed.
    for table in ["odd", "plain_odd"] {
        postgres::execute(
            proxy.direct(),
            &format!("alter table {table} alter int set not null, add check (int > 0)"),
        );
        postgres::execute(
            proxy.direct(),
            &format!(
                "revoke all on {table} from shop; alter table {table} owner to postgres; grant insert on {table} to shop"
            ),
        );
    }
    for (data, expected) in [("a\t1\n", "COPY 1"), ("a\t\\N\n", "23502"), ("a\t-1\n", "23514")] {
        let of = |raw: &mut Raw, table| {
            let outcome = copy_in(raw, &format!("copy {table} (email, int) from stdin"), &[data.as_bytes()]);
            outcome.unwrap_or_else(|error| error[..5].to_owned())
        };
        assert_eq!(
            (of(&mut shop, "odd").as_str(), of(&mut plain, "plain_odd").as_str()),
            (expected, expected)
        );
    }
    assert!(went_in_binary(&proxy));
}

#[test]
fn a_type_that_changed_behind_our_back_is_not_given_another_types_bytes() {
    let (proxy, mut shop, mut plain) = odd();
    let retype = |column: &str, to: &str| {
        for table in ["odd", "plain_odd"] {
            let retype = format!("alter table {table} alter {column} type {to} using null::{to}");
            postgres::execute(proxy.direct(), &retype);
        }
    };
    for (column, to, value) in [
        ("atz", "timestamp", "2024-05-06 07:08:09+02"),
        ("at", "timestamptz", "2024-05-06 07:08:09+02"),
        ("num", "bigint", "0.00"),
        ("big", "numeric", "12"),
        ("big", "double precision", "12"),
        ("int", "oid", "12"),
        ("int", "date", "2024-05-06"),
        ("day", "integer", "12"),
        ("note", "regclass", "odd"),
        ("small", "text", "12"),
        ("uid", "bytea", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
        ("yes", "\"char\"", "t"),
        ("doc", "jsonb", "[1]"),
    ] {
        let (line, from) =
            (format!("a@b.c\t{value}\n"), |table| format!("copy {table} (email, {column}) from stdin"));
        // The plan is made before the type changes.
        let _ = copy_in(&mut shop, &from("odd"), &[b""]);
        assert!(went_in_binary(&proxy), "{column}");
        retype(column, to);
        let ours = copied(&mut shop, &from("odd"), &line, "odd", column);
        let theirs = copied(&mut plain, &from("plain_odd"), &line, "plain_odd", column);
        assert_eq!(ours, theirs, "{column} as {to}");
        let types = COLUMNS.split(", ").find_map(|known| known.strip_prefix(&format!("{column} ")));
        retype(column, types.expect("a column of the table"));
        // The catalog is read again.
        assert_eq!(shop.query("alter table odd set (fillfactor = 100)").errors, [""; 0]);
    }
}

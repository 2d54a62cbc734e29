//! A plain twin: what is written into sealed columns of every type and read back is, byte for byte and in every format, what
//! PostgreSQL gives for the same statements on plain columns; and what it refuses is refused with the same SQLSTATE.

use std::fmt::Write as _;

use crate::postgres;
use crate::proxy::Proxy;
use crate::raw::{Raw, Reply};

const TEXT: u32 = 25;
const VARCHAR: u32 = 1043;

struct Case {
    /// A name for columns and domains.
    name: &'static str,
    sql: &'static str,
    deterministic: bool,
    good: &'static [&'static str],
    bad: &'static [&'static str],
}

const fn case(
    name: &'static str,
    sql: &'static str,
    deterministic: bool,
    good: &'static [&'static str],
    bad: &'static [&'static str],
) -> Case {
    Case { name, sql, deterministic, good, bad }
}

const CASES: &[Case] = &[
    case("text", "text", true, &["", " ", "O'Reilly \\ \"x\"", "ä€😀", "line\nline\ttab", "\\x41"], &[]),
    case("varchar", "varchar(5)", true, &["", "abcde", "äöüßé", "abc       "], &["abcdef", "äöüßéa"]),
    case("smallint", "smallint", true, &["0", "-32768", "32767", " 7 ", "+5"], &["32768", "x", "", "1.5"]),
    case("integer", "integer", true, &["0", "-2147483648", "2147483647"], &["2147483648", "1e3", "- 1"]),
    case(
        "bigint",
        "bigint",
        true,
        &["0", "-9223372036854775808", "9223372036854775807"],
        &["9223372036854775808"],
    ),
    case(
        "num",
        "numeric",
        false,
        &["0", "1.10", "-0.00", "NaN", "1e-20", "123456789012345678901234567890.5"],
        &["x", "1..2"],
    ),
    case(
        "money",
        "numeric(12,2)",
        true,
        &["0", "1.1", "1.10", "-9999999999.99", "0.005", "1e3", "NaN"],
        &["99999999999", "Infinity"],
    ),
    case(
        "real",
        "real",
        false,
        &["0", "-0", "1.5", "1e-40", "3.4028235e38", "NaN", "-Infinity", "0.1"],
        &["1e39", "x"],
    ),
    case(
        "double",
        "double precision",
        false,
        &["0", "-0", "0.1", "1e-320", "1.7976931348623157e308", "NaN"],
        &["1e309"],
    ),
    case("bool", "boolean", false, &["true", "f", "YES", "off", "1", " t "], &["2", "maybe", "o"]),
    case(
        "date",
        "date",
        true,
        &["2024-02-29", "0001-01-01", "4713-01-01 BC", "5874897-12-31", "infinity", "1999-1-8", "19990108"],
        &["2023-02-29", "2024-13-01", "x", "5874898-01-01"],
    ),
    case("time", "time", true, &["00:00", "24:00:00", "23:59:59.999999", "04:05 PM"], &["25:00", "12:60"]),
    case(
        "stamp",
        "timestamp",
        true,
        &[
            "2024-02-29 12:00:00",
            "2024-02-29T23:59:59.999999",
            "4713-01-01 00:00:00 BC",
            "-infinity",
            "2024-01-01 24:00",
        ],
        &["2024-02-30 00:00", "294277-01-01 00:00:00", "x"],
    ),
    case(
        "stamptz",
        "timestamptz",
        true,
        &[
            "2024-02-29 12:00:00+00",
            "2024-07-01 12:00:00.5",
            "2024-07-01 12:00:00 Europe/Berlin",
            "infinity",
            "1970-01-01 00:00:00-15:59",
        ],
        &["2024-02-30 00:00+00"],
    ),
    case(
        "interval",
        "interval",
        false,
        &[
            "1 day",
            "24 hours",
            "-1 mon 2 days 03:04:05.678",
            "1-2",
            "-3-11",
            "-1 day",
            "-00:00:01",
            "1 day -2 sec",
            "-1 day +00:00:00.5",
            "3 hours 1 sec",
            "P1Y2M3DT4H5M6S",
            "@ 1 year ago",
            "00:00:00",
        ],
        &["x", "1 parsec"],
    ),
    case(
        "uuid",
        "uuid",
        true,
        &[
            "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
            "A0EEBC999C0B4EF8BB6D6BB9BD380A11",
            "{a0eebc99-9c0b4ef8-bb6d6bb9-bd380a11}",
        ],
        &["a0eebc99", "g0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"],
    ),
    case(
        "bytes",
        "bytea",
        true,
        &["\\x", "\\xDEADbeef", "abc\\000\\\\", "\\x01 02"],
        &["\\x1", "\\xzz", "a\\"],
    ),
    case(
        "json",
        "json",
        false,
        &["{}", " {\"b\": 1, \"a\": [1.0, null] } ", "\"\\u00e4\"", "1.00"],
        &["{", "{'a': 1}", ""],
    ),
    case(
        "jsonb",
        "jsonb",
        false,
        &["{}", " {\"b\": 1, \"a\": [1.0, null], \"b\": 2 } ", "\"\\u00e4\"", "1.00"],
        &["{", "{'a': 1}", "\"\\u0000\""],
    ),
    case(
        "inet",
        "inet",
        true,
        &["10.0.0.1", "10.0.0.0/8", "10.1.2.3/8", "::1", "fe80::1/64", "::ffff:1.2.3.4"],
        &["10.0.0", "300.1.1.1", "10.0.0.1/33"],
    ),
];

/// The columns of a case: randomized, and deterministic where that may be.
fn columns(case: &Case) -> Vec<String> {
    let mut columns = vec![format!("{}_r", case.name)];
    if case.deterministic {
        columns.push(format!("{}_d", case.name));
    }
    columns
}

fn twins() -> Proxy {
    let mut policy = "default = \"refuse\"\n[roles]\napp = [\"shop\"]\n[[rule]]\nname = \"application\"\nroles = [\"app\"]\nlabels = [\"*\"]\nallow = [\"read\", \"compare\", \"write\"]\nshow = \"clear\"\n".to_owned();
    let (mut tags, mut table) = ("[columns]\n".to_owned(), "id int primary key".to_owned());
    for case in CASES {
        for column in columns(case) {
            let seal = if column.ends_with("_d") { "deterministic" } else { "randomized" };
            let (sql, label) = (case.sql, column.replace('_', "."));
            writeln!(policy, "[domain.{column}]\nlabel = \"{label}\"\ntype = \"{sql}\"\nseal = \"{seal}\"")
                .unwrap();
            writeln!(tags, "\"public.twin.{column}\" = \"{column}\"").unwrap();
            write!(table, ", {column} {sql}").unwrap();
        }
    }
    let proxy = Proxy::start(&policy, &tags);
    assert_eq!(
        Raw::log_in(&proxy.url("shop")).query(&format!("create table twin ({table})")).errors,
        [""; 0]
    );
    // Past the proxy, so under another name: the plain twin.
    postgres::execute(proxy.direct(), &format!("create table plain_twin ({table})"));
    postgres::execute(proxy.direct(), "grant all on plain_twin to public");
    proxy
}

/// The same statements to both; `TWIN` in them is the table's name.
struct Both {
    sealed: Raw,
    plain: Raw,
    differences: Vec<String>,
}

impl Both {
    fn log_in(proxy: &Proxy) -> Both {
        // As the same user, so that errors about rights are the same too.
        Both {
            sealed: Raw::log_in(&proxy.url("shop")),
            plain: Raw::log_in(&proxy.url_past("shop")),
            differences: Vec::new(),
        }
    }

    fn query(&mut self, sql: &str) -> (Reply, Reply) {
        let sealed = self.sealed.query(&sql.replace("TWIN", "twin"));
        (sealed, self.plain.query(&sql.replace("TWIN", "plain_twin")))
    }

    fn extended(&mut self, sql: &str, values: &[Option<&[u8]>], formats: [i16; 2]) -> (Reply, Reply) {
        let sealed = self.sealed.extended(&sql.replace("TWIN", "twin"), values, formats);
        (sealed, self.plain.extended(&sql.replace("TWIN", "plain_twin"), values, formats))
    }

    /// A simple query: the same. Gives the plain twin's reply.
    fn same(&mut self, what: &str, sql: &str) -> Reply {
        let both = self.query(sql);
        self.compare(what, both)
    }

    /// By the extended protocol: the same.
    fn same_with(&mut self, what: &str, sql: &str, values: &[Option<&[u8]>], formats: [i16; 2]) -> Reply {
        let both = self.extended(sql, values, formats);
        self.compare(what, both)
    }

    /// With a parameter of a declared type (0: of none): the same.
    fn declared(&mut self, what: &str, sql: &str, declared: u32, value: &str, format: i16) {
        let both = self.both_declared(sql, declared, value, format);
        self.found(what, both);
    }

    fn both_declared(&mut self, sql: &str, declared: u32, value: &str, format: i16) -> (Reply, Reply) {
        for (raw, table) in [(&mut self.sealed, "twin"), (&mut self.plain, "plain_twin")] {
            raw.parse("", &sql.replace("TWIN", table), &[declared]);
            raw.bind("", "", &[Some(value.as_bytes())], [format, 0]);
            raw.describe(b'S', "");
            raw.execute("", 0);
            raw.sync();
        }
        (self.sealed.reply(), self.plain.reply())
    }

    /// A comparison with a value that no cell of the column could hold is refused where PostgreSQL finds nothing.
    fn found(&mut self, what: &str, both: (Reply, Reply)) -> Reply {
        let refused = both.0.errors.first().is_some_and(|error| error.starts_with("0A000 "));
        if refused && both.1.errors.is_empty() && both.1.rows.is_empty() {
            return both.1;
        }
        self.compare(what, both)
    }

    /// Writes a value as literal, text and binary; finds it again where that can be.
    fn writes_and_finds(&mut self, column: &str, id: i32, value: &str) {
        let what = format!("{column} {value:?}");
        let insert = |id: i32, value: &str| format!("insert into TWIN (id, {column}) values ({id}, {value})");
        self.same(&what, &insert(id, &quoted(value)));
        self.same_with(&what, &insert(id + 1, "$1"), &[Some(value.as_bytes())], [0, 0]);
        // The binary form is what the plain twin says it is.
        let select = format!("select {column} from plain_twin where id = {id}");
        let binary = self.plain.extended(&select, &[], [0, 1]).rows[0][0].clone().unwrap();
        self.same_with(&what, &insert(id + 2, "$1"), &[Some(&binary)], [1, 1]);
        if column.ends_with("_d") {
            let find = |value: &str| format!("select id from TWIN where {column} = {value} order by id");
            let literal = self.query(&find(&quoted(value)));
            self.found(&what, literal);
            let text = self.extended(&find("$1"), &[Some(value.as_bytes())], [0, 1]);
            self.found(&what, text);
            let found = self.same_with(&what, &find("$1"), &[Some(&binary)], [1, 0]);
            assert!(found.rows.len() >= 3, "{what} finds itself");
        }
    }

    /// What a driver asks before it binds.
    fn describes(&mut self, column: &str) {
        let described = format!("insert into TWIN (id, {column}) values (1, $1) returning {column}");
        for (raw, table) in [(&mut self.sealed, "twin"), (&mut self.plain, "plain_twin")] {
            raw.parse("", &described.replace("TWIN", table), &[]);
            raw.describe(b'S', "");
            raw.sync();
        }
        let described = (self.sealed.reply(), self.plain.reply());
        assert_eq!(self.compare(column, described).parameters.len(), 1);
    }

    /// Only the states of errors are compared: ours never quote a value.
    fn compare(&mut self, what: &str, (mut sealed, mut plain): (Reply, Reply)) -> Reply {
        for reply in [&mut sealed, &mut plain] {
            reply.errors.iter_mut().for_each(|error| error.truncate(5));
        }
        let cells = |reply: &Reply| reply.rows.iter().flatten().cloned().collect::<Vec<_>>();
        for (ours, theirs) in
            cells(&sealed).iter().zip(&cells(&plain)).filter(|(ours, theirs)| ours != theirs)
        {
            self.differences.push(format!("{what}: {} instead of {}", cell_text(ours), cell_text(theirs)));
        }
        if sealed.rows.len() == plain.rows.len() {
            sealed.rows.clone_from(&plain.rows);
        }
        if sealed != plain {
            self.differences.push(format!("{what}: {sealed:?} instead of {plain:?}"));
        }
        plain
    }
}

fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\'', "''"))
}

fn cell_text(cell: &Option<Vec<u8>>) -> String {
    cell.as_ref().map_or_else(|| "null".to_owned(), |cell| cell.escape_ascii().to_string())
}

#[test]
fn every_type_reads_back_as_from_a_plain_table() {
    let proxy = twins();
    let mut both = Both::log_in(&proxy);
    let mut id = 0;
    for case in CASES {
        for column in columns(case) {
            for good in case.good {
                id += 3;
                both.writes_and_finds(&column, id, good);
            }
            for bad in case.bad {
                let what = format!("{column} {bad:?}");
                let insert = |value: &str| format!("insert into TWIN (id, {column}) values (0, {value})");
                let refused = both.same(&what, &insert(&quoted(bad)));
                assert_eq!(refused.errors.len(), 1, "{what} is refused");
                both.same_with(&what, &insert("$1"), &[Some(bad.as_bytes())], [0, 0]);
            }
            both.same(&column, &format!("insert into TWIN (id, {column}) values (0, null)"));
            both.same(&column, "delete from TWIN where id = 0");
            both.describes(&column);
        }
    }
    for (style, zone, interval) in [
        ("ISO, MDY", "UTC", "postgres"),
        ("German", "Asia/Tokyo", "iso_8601"),
        ("SQL, DMY", "America/New_York", "sql_standard"),
        ("Postgres", "Europe/Berlin", "postgres_verbose"),
    ] {
        both.same(style, &format!("set datestyle = '{style}'; set timezone = '{zone}'"));
        both.same(style, &format!("set intervalstyle = '{interval}'"));
        let all = "select * from TWIN order by id";
        assert_eq!(both.same(style, all).errors, [""; 0]);
        both.same_with(style, all, &[], [0, 0]);
        both.same_with(style, all, &[], [0, 1]);
    }
    assert!(both.differences.is_empty(), "the sealed twin differs:\n{}", both.differences.join("\n"));
    // Nothing of it is stored in clear. Only words that ciphertext in hexadecimal cannot spell by chance.
    let clear = "select count(*) from twin t where t::text ~ 'Reilly'";
    assert_eq!(postgres::query(proxy.direct(), clear), [[Some("0".to_owned())]]);
}

/// As drivers do that declare every string to be one (pgjdbc): the statement casts it.
#[test]
fn a_declared_text_is_what_the_statement_casts_it_to() {
    let proxy = twins();
    let mut both = Both::log_in(&proxy);
    let mut id = 0;
    for case in CASES {
        for column in columns(case) {
            for (value, declared) in case.good.iter().zip([TEXT, VARCHAR].into_iter().cycle()) {
                for format in [0, 1] {
                    id += 1;
                    let what = format!("{column} {value:?} as {declared} in format {format}");
                    let insert = format!(
                        "insert into TWIN (id, {column}) values ({id}, $1::{}) returning {column}",
                        case.sql
                    );
                    both.declared(&what, &insert, declared, value, format);
                    let by_text = format!(
                        "update TWIN set {column} = $1::text::{} where id = {id} returning {column}",
                        case.sql
                    );
                    both.declared(&what, &by_text, 0, value, format);
                    if column.ends_with("_d") {
                        let find =
                            format!("select id from TWIN where {column} = $1::{} order by id", case.sql);
                        both.declared(&what, &find, declared, value, format);
                    }
                }
            }
            for bad in case.bad {
                let insert = format!("insert into TWIN (id, {column}) values (0, $1::{})", case.sql);
                let (sealed, plain) = both.both_declared(&insert, TEXT, bad, 0);
                let state = |reply: &Reply| reply.errors.first().map(|error| error[..5].to_owned());
                assert_eq!(state(&sealed), state(&plain), "{column} {bad:?}");
            }
            // PostgreSQL says so when it is prepared, pgveil when it is bound.
            if !matches!(case.name, "text" | "varchar") {
                let insert = format!("insert into TWIN (id, {column}) values (0, $1)");
                let (sealed, plain) = both.both_declared(&insert, TEXT, case.good[0], 0);
                assert_eq!([&sealed.errors[0][..5], &plain.errors[0][..5]], ["42804"; 2], "{column}");
            }
        }
    }
    assert!(both.differences.is_empty(), "the sealed twin differs:\n{}", both.differences.join("\n"));
}

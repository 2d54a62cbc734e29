//! Canaries: values that occur nowhere else are written through the proxy in every way, failing ones too; then dump, data
//! directory, WAL, PostgreSQL's log, the proxy's log, the audit folder, metrics and every error text are searched for them.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use crate::postgres::{self, Postgres};
use crate::proxy::Proxy;
use crate::raw::Raw;

const POLICY: &str = r#"
default = "refuse"
[domain.email]
label = "pii.email"
type = "varchar(60)"
seal = "deterministic"
[domain.card]
label = "payment.card"
type = "text"
seal = "randomized"
[domain.born]
label = "profile.born"
type = "date"
seal = "randomized"
[domain.salary]
label = "pay.salary"
type = "numeric(14,2)"
seal = "deterministic"
[domain.notes]
label = "behaviour.notes"
type = "jsonb"
seal = "randomized"
[roles]
app = ["shop"]
support = ["alice"]
matching = ["ada"]
[[rule]]
name = "application"
roles = ["app"]
labels = ["*"]
allow = ["read", "compare", "write"]
show = "clear"
[[rule]]
name = "support-desk"
roles = ["support"]
labels = ["pii.*", "payment.*"]
allow = ["read"]
show = "mask:partial"
rows_per_statement = 2
[[rule]]
name = "matching"
roles = ["matching"]
labels = ["pii.email"]
allow = ["compare"]
show = "null"
"#;

const TAGS: &str = r#"
[columns]
"public.people.email" = "email"
"public.people.card" = "card"
"public.people.born" = "born"
"public.people.salary" = "salary"
"public.people.notes" = "notes"
"#;

/// What every canary of its kind begins with: one search finds any of them.
const WORD: &str = "kanarie";
const NUMBER: &str = "7351986420";
const DAY: &str = "1907-03-";
/// What is meant to be found, so that the search itself is tested.
const CONTROL: &str = "kontrolle";

/// Gives out values that occur nowhere else.
#[derive(Default)]
struct Canaries(usize);

impl Canaries {
    /// The text with each `@WORD`, `@NUMBER` and `@DAY` replaced by a canary of its own.
    fn put(&mut self, text: &str) -> String {
        let mut out = text.to_owned();
        for kind in ["@WORD", "@NUMBER", "@DAY"] {
            while out.contains(kind) {
                self.0 += 1;
                let canary = match kind {
                    "@WORD" => format!("{WORD}{:04}zqx", self.0),
                    "@NUMBER" => format!("{NUMBER}{:02}.25", self.0 % 100),
                    _ => format!("{DAY}{:02}", self.0 % 28 + 1),
                };
                out = out.replacen(kind, &canary, 1);
            }
        }
        out
    }
}

/// A text in the encodings in which it could be stored or shown.
fn encodings(text: &str) -> Vec<Vec<u8>> {
    let mut forms = vec![String::new(), String::new(), String::new()];
    for byte in text.bytes() {
        write!(forms[0], "{byte:02x}").unwrap();
        write!(forms[1], "{byte:02X}").unwrap();
        write!(forms[2], "\\{byte:03o}").unwrap();
    }
    let wide = text.bytes().flat_map(|byte| [byte, 0]).collect();
    let mut all: Vec<Vec<u8>> = forms.into_iter().map(String::into_bytes).collect();
    all.extend([text.into(), wide]);
    all
}

/// Which of `texts` stand in `bytes`, with what is around them.
fn found(place: &str, bytes: &[u8], texts: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for needle in texts.iter().flat_map(|text| encodings(text)) {
        if let Some(at) = memchr::memmem::find(bytes, &needle) {
            let around = &bytes[at.saturating_sub(120)..bytes.len().min(at + 60)];
            found.push(format!("{place}: …{}…", around.escape_ascii()));
        }
    }
    found
}

/// Every file of a folder, however deep.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_dir() => all.extend(files(&path)),
            Ok(metadata) if metadata.is_file() => all.push(path),
            _ => {}
        }
    }
    all
}

/// A database that logs all it can, with every check that quotes a row.
fn talkative() -> Proxy {
    let postgres = Postgres::private_with(&[
        ("log_statement", "all"),
        ("log_error_verbosity", "verbose"),
        ("log_min_duration_statement", "0"),
        ("log_parameter_max_length", "-1"),
        ("log_parameter_max_length_on_error", "-1"),
        ("log_min_messages", "info"),
    ]);
    let proxy = Proxy::start_before(postgres, POLICY, TAGS, "");
    proxy.add_user("ada");
    let mut shop = Raw::log_in(&proxy.url("shop"));
    for sql in [
        "create table people (id int primary key, email varchar(60) unique, card text, born date, salary numeric(14,2),
            notes jsonb, name text not null default 'n', age int check (age > 0), boss int references people)",
        "create table plain (id int, page text)",
    ] {
        assert_eq!(shop.query(sql).errors, [""; 0], "{sql}");
    }
    let control = format!("insert into plain values (1, '{CONTROL}0001zqx')");
    assert_eq!(shop.query(&control).errors, [""; 0]);
    proxy
}

/// What the application may do.
const GOOD: &[&str] = &[
    r#"insert into people (id, email, card, born, salary, notes) values (1, '@WORD', '@WORD', '@DAY', '@NUMBER', '{"a": "@WORD"}')"#,
    "insert into people (id, email, salary) values (2, '@WORD', @NUMBER), (3, '@WORD', -@NUMBER)",
    r"insert into people (id, email, card) values (4, '@WORD', e'@WORD\n') returning *",
    "insert into people values (5, $$@WORD$$, $x$@WORD$x$, '@DAY')",
    "update people set email = '@WORD', card = '@WORD' where id = 2",
    "update people set card = '@WORD' where email = '@WORD' or email in ('@WORD', '@WORD')",
    "insert into people (id, email) values (2, '@WORD') on conflict (id) do update set email = excluded.email, card = '@WORD'",
    "select id from people where email = '@WORD' or email <> '@WORD' and salary = @NUMBER",
    "select * from people p join people q using (email) where q.email in ('@WORD', '@WORD')",
    "select * from people",
    "delete from people where email = '@WORD'",
    "begin; insert into people (id, email) values (90, '@WORD'); rollback",
    "select coalesce(email, '@WORD') from people; select id from plain",
];

/// What fails, by whoever's judgement.
const BAD: &[&str] = &[
    "insert into people (id, email) values (6, '@WORD'), (6, '@WORD')",
    "insert into people (id, born) values (6, '@WORD')",
    "insert into people (id, born) values (6, '@DAY-99')",
    "insert into people (id, salary) values (6, '@WORD')",
    "insert into people (id, salary) values (6, 999@NUMBER)",
    "insert into people (id, notes) values (6, '{@WORD}')",
    "insert into people (id, email) values (6, '@WORD01234567890123456789012345678901234567890123456789')",
    "insert into people (id, email, age) values (6, '@WORD', -1)",
    "insert into people (id, email, name) values (6, '@WORD', null)",
    "insert into people (id, email, boss) values (6, '@WORD', 4711)",
    "insert into people (id, email, age) values (6, '@WORD', 1 / 0)",
    "insert into people (id, email, nothing) values (6, '@WORD', 1)",
    "insert into people (id, email) values (6, '@WORD'",
    "insert into people (id, email) values (6, '@WORD)",
    "insert into people (id, email) valuse (6, '@WORD')",
    "insert into people (id, email) values (6, U&'@WORD')",
    "insert into people (id, email) values (6, '@WORD' || 'x')",
    "insert into people (id, email) values (6, lower('@WORD'))",
    "insert into people (id, card) select 6, '@WORD' from nowhere",
    "select id from people where email like '@WORD%'",
    "select id from people where lower(email) = '@WORD'",
    "select id from people where email > '@WORD'",
    "select id from people where card = '@WORD'",
    "select id from people where born = '@DAY'",
    "select id from people where salary > @NUMBER",
    "select id from people where salary = '@WORD'::int",
    "select id, email = '@WORD'::bytea from people",
    r#"update people set notes = jsonb_set(notes, '{a}', '"@WORD"')"#,
    "update people set email = '@WORD', age = 0",
    "update people set email = '@WORD'",
    "copy people (id, email) from stdin",
    "select 1; insert into people (id, email) values (7, '@WORD'); select 1 / 0",
    "explain select id from people where email = '@WORD'",
    "prepare later as update people set email = '@WORD'",
];

/// What goes with parameters: the statement, and its values.
const BOUND: &[(&str, &[&str])] = &[
    ("insert into people (id, email, card) values (21, $1, $2)", &["@WORD", "@WORD"]),
    (
        "insert into people (id, born, salary, notes) values (22, $1, $2, $3)",
        &["@DAY", "@NUMBER", r#"{"a": "@WORD"}"#],
    ),
    ("select id from people where email = $1 or email = any($2)", &["@WORD", "{@WORD,@WORD}"]),
    ("update people set email = $1, card = $2 where email = $3", &["@WORD", "@WORD", "@WORD"]),
    ("insert into people (id, email) values (21, $1)", &["@WORD"]),
    ("insert into people (id, email, age) values (23, $1, -1)", &["@WORD"]),
    ("insert into people (id, email, age) values (23, $1, $2)", &["@WORD", "nothing"]),
    ("insert into people (id, born) values (24, $1)", &["@WORD"]),
    ("insert into people (id, salary) values (24, $1)", &["999@NUMBER"]),
    (
        "insert into people (id, email) values (25, $1)",
        &["@WORD01234567890123456789012345678901234567890123456789"],
    ),
    ("select id from people where card = $1", &["@WORD"]),
    ("select id from people where email like $1", &["@WORD%"]),
    ("insert into people (id, email) values (26, lower($1))", &["@WORD"]),
];

/// Says everything as a user; gives whatever errors and notices told.
fn say_all(proxy: &Proxy, user: &str, canaries: &mut Canaries) -> Vec<u8> {
    let mut raw = Raw::log_in(&proxy.url(user));
    for sql in GOOD.iter().chain(BAD) {
        let simple = raw.query(&canaries.put(sql));
        let extended = raw.extended(&canaries.put(sql), &[], [0, 1]);
        if user == "shop" && GOOD.contains(sql) {
            // The second time a key may be taken, and only one statement goes by the extended protocol.
            assert_eq!(simple.errors, [""; 0], "{sql}");
            let known = |error: &String| error.starts_with("23505") || error.starts_with("42601");
            assert!(extended.errors.iter().all(known), "{sql}: {:?}", extended.errors);
        }
    }
    for (sql, values) in BOUND {
        for format in [0, 1] {
            let values: Vec<String> = values.iter().map(|value| canaries.put(value)).collect();
            let values: Vec<_> = values.iter().map(|value| Some(value.as_bytes())).collect();
            // Only texts look the same in binary; the others fail, which is as good.
            raw.extended(sql, &values, [format, 0]);
        }
    }
    // Prepared and never executed; in a transaction that never ends; and gone in the middle.
    raw.parse("kept", &canaries.put("update people set card = '@WORD' where email = '@WORD'"), &[]);
    raw.sync();
    raw.reply();
    raw.query("begin");
    raw.query(&canaries.put("insert into people (id, email) values (95, '@WORD')"));
    raw.say_query(&canaries.put("insert into people (id, email) values (96, '@WORD')"));
    raw.told
}

/// What was told, without the keys that unique violations quote, of which there must be some.
fn without_taken_keys(told: &[u8]) -> Vec<u8> {
    const BEGIN: &[u8] = b"DKey (email)=(";
    const END: &[u8] = b") already exists.\0";
    let find = |text: &[u8], what: &[u8]| text.windows(what.len()).position(|window| window == what);
    let (mut out, mut rest) = (vec![], told);
    while let Some(at) = find(rest, BEGIN) {
        let end = find(&rest[at..], END).expect("a whole DETAIL");
        out.extend_from_slice(&rest[..at]);
        rest = &rest[at + end..];
    }
    assert!(out.len() < told.len() && !out.is_empty(), "no taken key was told");
    out.extend_from_slice(rest);
    out
}

#[test]
fn no_value_is_found_where_it_should_not_be() {
    let proxy = talkative();
    let mut canaries = Canaries::default();
    let forbidden = [WORD, NUMBER, DAY, "likes-horses"];
    let mut leaks = Vec::new();
    for user in ["shop", "alice", "ada", "intern"] {
        let told = say_all(&proxy, user, &mut canaries);
        assert!(told.len() > 1000, "errors were told");
        // Who reads in clear and without limits is told which key is taken.
        let told = if user == "shop" { without_taken_keys(&told) } else { told };
        leaks.extend(found(&format!("errors told to {user}"), &told, &forbidden));
    }
    postgres::execute(proxy.direct(), "checkpoint");
    let active = postgres::query(proxy.direct(), "select string_agg(query, ';') from pg_stat_activity");
    leaks.extend(found("pg_stat_activity", active[0][0].clone().unwrap().as_bytes(), &forbidden));
    let dump = postgres::pg_dump().arg(proxy.direct()).output().unwrap();
    assert!(dump.status.success());
    leaks.extend(found("the dump", &dump.stdout, &forbidden));
    assert!(!found("the dump", &dump.stdout, &[CONTROL]).is_empty());
    let (mut logged, mut in_wal) = (false, false);
    for file in files(proxy.postgres.dir()).into_iter().chain(files(proxy.dir())) {
        // Files come and go while the server runs.
        let Ok(bytes) = fs::read(&file) else { continue };
        leaks.extend(found(&file.display().to_string(), &bytes, &forbidden));
        let control = !found("", &bytes, &[CONTROL]).is_empty();
        logged |= control && file.ends_with("server.log");
        in_wal |= control && file.to_string_lossy().contains("pg_wal");
    }
    assert!(logged && in_wal, "the search finds what is there");
    let (_, metrics) = proxy.get("/metrics").unwrap();
    leaks.extend(found("/metrics", metrics.as_bytes(), &forbidden));
    let shown = proxy.must(&["audit", "show", &proxy.dir().join("audit").display().to_string(), "--json"]);
    assert!(shown.lines().count() > 100, "{shown}");
    leaks.extend(found("audit show", shown.as_bytes(), &forbidden));
    assert!(leaks.is_empty(), "{} leaks:\n{}", leaks.len(), leaks.join("\n"));
}

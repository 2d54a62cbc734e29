//! COPY both ways through the proxy, against real PostgreSQL: a plain twin that is copied directly says what is right, byte
//! for byte; and what a client sees of limits, masks, refusals and copies that break off.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

use crate::postgres;
use crate::proxy::Proxy;
use crate::raw::{Message, Raw, error};

const POLICY: &str = r#"
default = "refuse"
[domain.email]
label = "pii.email"
type = "text"
seal = "deterministic"
[domain.name]
label = "pii.name"
type = "text"
seal = "randomized"
[domain.born]
label = "birth"
type = "date"
seal = "randomized"
[domain.badge]
label = "staff.badge"
type = "integer"
seal = "deterministic"
[domain.phone]
label = "contact.phone"
type = "text"
seal = "none"
[roles]
app = ["shop"]
support = ["alice"]
[[rule]]
name = "application"
roles = ["app"]
labels = ["*"]
allow = ["read", "compare", "write"]
show = "clear"
[[rule]]
name = "support-desk"
roles = ["support"]
labels = ["pii.*", "contact.*"]
allow = ["read"]
show = "mask:partial"
rows_per_statement = 3
"#;

const TAGS: &str = r#"
[columns]
"public.twin.email" = "email"
"public.twin.name" = "name"
"public.twin.born" = "born"
"public.twin.badge" = "badge"
"public.twin.phone" = "phone"
"#;

const TABLE: &str = "(id int, email text, name text, note text, born date, badge int, phone text)";

pub fn twins() -> Proxy {
    twins_with("")
}

fn twins_with(listen: &str) -> Proxy {
    let proxy = Proxy::start_with(POLICY, TAGS, listen);
    let mut shop = Raw::log_in(&proxy.url("shop"));
    assert_eq!(shop.query(&format!("create table twin {TABLE}")).errors, [""; 0]);
    assert_eq!(shop.query("grant all on twin to public").errors, [""; 0]);
    postgres::execute(proxy.direct(), &format!("create table plain_twin {TABLE}"));
    postgres::execute(proxy.direct(), "grant all on plain_twin to public");
    proxy
}

/// One CopyData, or the end of a copy.
pub fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
    [&[tag][..], &length, body].concat()
}

/// Everything up to ReadyForQuery.
pub fn transcript(raw: &mut Raw) -> Vec<Message> {
    let mut messages = vec![];
    while let Some(message) = raw.read() {
        let last = message.0 == 'Z';
        messages.push(message);
        if last {
            break;
        }
    }
    messages
}

/// Copies `pieces` in; the command tag, or the error.
pub fn copy_in(raw: &mut Raw, sql: &str, pieces: &[&[u8]]) -> Result<String, String> {
    raw.say_query(sql);
    loop {
        match raw.read().expect("a reply") {
            ('G', _) => break,
            ('E', body) => {
                transcript(raw);
                return Err(error(&body));
            }
            _ => {}
        }
    }
    for piece in pieces {
        raw.send(&message(b'd', piece));
    }
    raw.send(&message(b'c', b""));
    outcome(&transcript(raw))
}

pub fn outcome(messages: &[Message]) -> Result<String, String> {
    assert_eq!(messages.last().map(|(tag, _)| *tag), Some('Z'), "{messages:?}");
    match messages.iter().rfind(|(tag, _)| matches!(tag, 'C' | 'E')) {
        Some(('C', body)) => Ok(String::from_utf8_lossy(&body[..body.len() - 1]).into_owned()),
        Some((_, body)) => Err(error(body)),
        None => panic!("no outcome in {messages:?}"),
    }
}

/// The messages of data of a COPY … TO, and its outcome.
fn copy_out(raw: &mut Raw, sql: &str) -> (Vec<Vec<u8>>, Result<String, String>) {
    raw.say_query(sql);
    let messages = transcript(raw);
    let data = messages.iter().filter(|(tag, _)| *tag == 'd').map(|(_, body)| body.clone());
    (data.collect(), outcome(&messages))
}

/// Data cut at random places.
fn cut<'a>(random: &mut StdRng, data: &'a [u8]) -> Vec<&'a [u8]> {
    let mut pieces = vec![];
    let mut rest = data;
    let most = *[1_usize, 7, 100, 5000].choose(random).unwrap();
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(random.random_range(1..=most).min(rest.len()));
        pieces.push(piece);
        rest = after;
    }
    pieces
}

const WORDS: &[&str] = &[
    "",
    "a",
    "\\",
    "\\.",
    "\\N",
    "N",
    "\"",
    "'",
    ",",
    ";",
    "|",
    "\t",
    "\n",
    "\r",
    "\r\n",
    "ä€",
    "😀",
    "x'y",
    " ",
    "\u{8}\u{b}\u{c}",
    "null",
    "\\x41",
    "\\101",
    "a\\",
    "\u{1}",
];

fn text(random: &mut StdRng) -> Option<String> {
    let words = random.random_range(0..5);
    (random.random_range(0..6) > 0).then(|| (0..words).map(|_| *WORDS.choose(random).unwrap()).collect())
}

/// Fills the plain twin with odd values.
fn fill(proxy: &Proxy, random: &mut StdRng, rows: i32) {
    let mut plain = Raw::log_in(&proxy.url_past("shop"));
    assert_eq!(plain.query("truncate plain_twin").errors, [""; 0]);
    for id in 0..rows {
        let (email, name, note, phone) = (text(random), text(random), text(random), text(random));
        let born = (id % 3 > 0).then(|| format!("{:04}-0{}-1{}", 1900 + id, 1 + id % 9, id % 10));
        let badge = (id % 4 > 0).then(|| (id * 7919 - 40_000).to_string());
        let id = Some(id.to_string());
        let values = [&id, &email, &name, &note, &born, &badge, &phone]
            .map(|value| value.as_deref().map(str::as_bytes));
        let sql = "insert into plain_twin values ($1, $2, $3, $4, $5, $6, $7)";
        assert_eq!(plain.extended(sql, &values, [0, 0]).errors, [""; 0]);
    }
}

/// Rows through the proxy and of the plain twin are the same.
fn same_rows(sealed: &mut Raw, plain: &mut Raw, what: &str) {
    let ours = sealed.query("select * from twin order by id, note");
    let theirs = plain.query("select * from plain_twin order by id, note");
    assert_eq!(ours.errors, [""; 0], "{what}");
    assert_eq!(ours.rows, theirs.rows, "{what}");
}

#[test]
fn every_format_copies_as_a_plain_table() {
    let proxy = twins();
    let mut random = StdRng::seed_from_u64(4);
    let mut sealed = Raw::log_in(&proxy.url("shop"));
    let mut plain = Raw::log_in(&proxy.url_past("shop"));
    for options in [
        "",
        "(format text, delimiter '|', null 'x''y')",
        "(delimiter 'A', null '')",
        "with null as 'null' delimiter as ','",
        "(header)",
        "(format csv)",
        "csv header",
        "(format csv, delimiter ';', header)",
        "(delimiter '|')",
        "(format csv, header match, delimiter ';', null 'null')",
        "(format csv, quote '''', escape '\\', delimiter '|')",
        "(format csv, delimiter '1', quote 'x', escape 'a')",
        "(format binary)",
        "(format csv, null 'a')",
    ] {
        // PostgreSQL 15 brought a header in text, and `match`.
        let newer = options.contains("header") && (!options.contains("csv") || options.contains("match"));
        if newer && postgres::major() < 15 {
            continue;
        }
        fill(&proxy, &mut random, 60);
        let (expected, _) = copy_out(
            &mut plain,
            &format!("copy plain_twin to stdout {}", options.replace("header match", "header")),
        );
        let data = expected.concat();
        let pieces = cut(&mut random, &data);
        let from = format!("copy twin from stdin {options}");
        assert_eq!(copy_in(&mut sealed, &from, &pieces), Ok("COPY 60".into()), "{options}");
        // What PostgreSQL makes of its own data, for values that read back as others (`null ''`).
        assert_eq!(plain.query("truncate plain_twin").errors, [""; 0]);
        let from = format!("copy plain_twin from stdin {options}");
        assert_eq!(copy_in(&mut plain, &from, &[&data]), Ok("COPY 60".into()), "{options}");
        same_rows(&mut sealed, &mut plain, options);
        let to = |table| format!("copy {table} to stdout {}", options.replace("header match", "header"));
        let (copied, outcome) = copy_out(&mut sealed, &to("twin"));
        assert_eq!(outcome, Ok("COPY 60".into()), "{options}");
        let (direct, _) = copy_out(&mut plain, &to("plain_twin"));
        assert!(
            copied == direct,
            "{options}: {:?}",
            copied.iter().zip(&direct).find(|(ours, theirs)| ours != theirs)
        );
        let some = |table| {
            format!(
                "copy (select badge, id, name from {table} where id > 7 order by id) to stdout {}",
                options.replace("header match", "header")
            )
        };
        assert!(
            copy_out(&mut sealed, &some("twin")) == copy_out(&mut plain, &some("plain_twin")),
            "{options}"
        );
        let one = |table| {
            format!(
                "copy (select email from {table} order by id) to stdout {}",
                options.replace("header match", "header")
            )
        };
        assert!(copy_out(&mut sealed, &one("twin")) == copy_out(&mut plain, &one("plain_twin")), "{options}");
        assert_eq!(sealed.query("truncate twin").errors, [""; 0]);
    }
    for options in ["force_quote *", "force_quote (email, note)", "force_quote (badge), header"] {
        fill(&proxy, &mut random, 20);
        let data = copy_out(&mut plain, "copy plain_twin to stdout (format binary)").0.concat();
        assert_eq!(copy_in(&mut sealed, "copy twin from stdin binary", &[&data]), Ok("COPY 20".into()));
        let to = |table| format!("copy {table} to stdout (format csv, {options})");
        assert_eq!(copy_out(&mut sealed, &to("twin")), copy_out(&mut plain, &to("plain_twin")), "{options}");
        assert_eq!(sealed.query("truncate twin").errors, [""; 0]);
    }
    assert_eq!(
        sealed.query("insert into twin (id, email, name) values (1, 'Reilly@x', 'Reilly')").errors,
        [""; 0]
    );
    let clear = "select count(*) from twin t where t::text ~ 'Reilly'";
    assert_eq!(postgres::query(proxy.direct(), clear), [[Some("0".to_owned())]]);
}

#[test]
fn odd_data_reads_as_in_a_plain_table() {
    let proxy = twins();
    let mut sealed = Raw::log_in(&proxy.url("shop"));
    let mut plain = Raw::log_in(&proxy.url_past("shop"));
    let mut random = StdRng::seed_from_u64(11);
    let csv = "(format csv)";
    let columns = "(id, email, badge, note)";
    for (options, data) in [
        ("", "1\ta\t1\tb\n2\t\\N\t\\N\t\\N\n"),
        ("", "1\ta\t1\tb"),
        ("", "1\t\\x41\\x4\\101\\1\\x\\q\\b\\v\t1\t\\x41\n"),
        ("", "1\ta\\\nb\t1\tc\\\nd\n"),
        ("", "1\ta\\\tb\t1\tc\n"),
        ("", "1\ta\t1\tb\\"),
        ("", "1\ta\t1\t\\N\\"),
        ("", "1\t\\N\\N\t1\tb\n"),
        ("", "1\ta\t1\tb\r\n2\tc\t2\td\r\n"),
        ("", "1\ta\t1\tb\r2\tc\t2\td\r"),
        ("", "1\ta\t1\tb\n2\tc\t2\td\r\n"),
        ("", "1\ta\t1\tb\r\n2\tc\t2\td\n"),
        ("", "1\ta\t1\tb\n\\.\n2\tc\t2\td\n"),
        ("", "1\ta\t1\tb\r\n\\.\r\nrest"),
        ("", "1\ta\t1\tb\r\n\\.\nrest"),
        ("", "\\.\n"),
        ("", ""),
        ("", "\n"),
        ("", "1\ta\t1\n"),
        ("", "1\ta\t1\tb\tc\n"),
        ("", "1\ta\tx\tb\n"),
        ("", "1\ta\t99999999999\tb\n"),
        ("", "1\ta\tx\n"),
        ("", "x\ta\t1\tb\n"),
        ("(null 'a')", "1\ta\t1\ta\n2\t\\a\t1\t\\a\n"),
        ("(header)", "id\temail\n1\ta\t1\tb\n"),
        ("(header match)", "id\temail\tbadge\tnote\n1\ta\t1\tb\n"),
        ("(header match)", "id\temail\tbadge\tother\n1\ta\t1\tb\n"),
        (csv, "1,a,1,b\n2,,,\n3,\"\",\"3\",\"\"\n"),
        (csv, "1,\"a\nb\",1,\"c\r\nd\"\n"),
        (csv, "1,a\"b,c\"d,1,x\"\"y\n"),
        (csv, "1,\"a\"\"b\",1,\"c\"\"\"\n"),
        (csv, "1,\"a,1,b\n"),
        (csv, "1,a,1,b\n\\.\n2,c,2,d\n"),
        (csv, "1,\\.,1,\\.\n"),
        (csv, "\\.x,a,1,b\n"),
        (csv, "1,a,1,b\r\n2,c,2,d\r\n"),
        (csv, "1,a,1,b\r\n2,c,2,d\n"),
        (csv, "1,a,1,b\n2,c,2,d\r\n"),
        (csv, "1,a,1\n"),
        (csv, "1,a,1,b,c\n"),
        (csv, "1,a,1,b\n\n"),
        ("(format csv, quote '''', escape '\\')", "1,'a\\'b\\\\c\\d',1,'x''y'\n"),
        ("(format csv, quote '''', escape '\\')", "1,'a\\'b\\\\c\\d',1,'x\\'y'\n2,\\N,2,\\'\n"),
        ("(format csv, null 'n', force_null (email, note))", "1,\"n\",\"1\",\"n\"\n2,n,n,n\n"),
        ("(format csv, null 'n', force_not_null (email, note))", "1,\"n\",\"1\",\"n\"\n2,n,n,n\n"),
        ("(format csv, null '1', force_not_null (email, badge))", "2,1,1,1\n"),
        ("(format csv, header)", "\"id\nid\",x\n1,a,1,b\n"),
    ] {
        let what = format!("{options} {data:?}");
        for pieces in
            [cut(&mut random, data.as_bytes()), data.as_bytes().chunks(1).collect(), vec![data.as_bytes()]]
        {
            let code = |result: Result<String, String>| result.map_err(|error| error[..5].to_owned());
            let ours =
                code(copy_in(&mut sealed, &format!("copy twin {columns} from stdin {options}"), &pieces));
            let theirs = code(copy_in(
                &mut plain,
                &format!("copy plain_twin {columns} from stdin {options}"),
                &pieces,
            ));
            assert_eq!(ours, theirs, "{what}");
            same_rows(&mut sealed, &mut plain, &what);
        }
        assert_eq!(sealed.query("truncate twin").errors, [""; 0]);
        assert_eq!(plain.query("truncate plain_twin").errors, [""; 0]);
    }
    assert!(!sealed.told.windows(6).any(|window| window == b"999999"), "an error quotes a value");
}

/// Five rows in the sealed twin.
fn five() -> Proxy {
    let proxy = twins();
    let mut shop = Raw::log_in(&proxy.url("shop"));
    let data: String = (1..=5)
        .map(|id| format!("{id}\tperson{id}@x.org\tName {id}\tnote\t1980-01-0{id}\t{id}\t55501{id}\n"))
        .collect();
    assert_eq!(copy_in(&mut shop, "copy twin from stdin", &[data.as_bytes()]), Ok("COPY 5".into()));
    proxy
}

fn count(proxy: &Proxy) -> String {
    postgres::query(proxy.direct(), "select count(*) from twin")[0][0].clone().unwrap()
}

/// Parse, Bind, Execute and Sync in one write, as libpq sends a COPY with parameters.
fn say_extended(raw: &mut Raw, sql: &str) {
    raw.parse("", sql, &[]);
    raw.bind("", "", &[], [0, 0]);
    raw.describe(b'P', "");
    raw.execute("", 0);
    raw.sync();
}

fn order(messages: &[Message]) -> String {
    messages.iter().map(|(tag, _)| tag).collect()
}

#[test]
fn copies_go_by_the_extended_protocol() {
    let proxy = five();
    let mut shop = Raw::log_in(&proxy.url("shop"));
    let mut plain = Raw::log_in(&proxy.url_past("shop"));
    for (raw, table) in [(&mut shop, "twin"), (&mut plain, "plain_twin")] {
        for begin in ["", "begin"] {
            assert_eq!(raw.query(begin).errors, [""; 0]);
            // The Sync comes while the server reads, before and after it said so: it ignores both.
            say_extended(raw, &format!("copy {table} (id, email) from stdin"));
            let mut seen = String::new();
            while !seen.ends_with('G') {
                seen.push(raw.read().unwrap().0);
            }
            assert_eq!(seen, "12nG");
            raw.sync();
            raw.send(&message(b'd', b"7\tx@y\n8\t"));
            raw.send(&message(b'H', b""));
            raw.send(&message(b'd', b"\\N\n"));
            raw.send(&message(b'c', b""));
            raw.sync();
            let messages = transcript(raw);
            assert_eq!((order(&messages).as_str(), outcome(&messages)), ("CZ", Ok("COPY 2".into())));
            // A wrong value: what is still sent of the copy goes nowhere, and the conversation goes on.
            say_extended(raw, &format!("copy {table} (id, badge) from stdin"));
            raw.send(&message(b'd', b"7\t1\n8\tsecret\n"));
            raw.send(&message(b'd', b"9\t1\n"));
            raw.send(&message(b'c', b""));
            raw.sync();
            let messages = transcript(raw);
            assert_eq!(order(&messages), "12nGEZ", "{table}");
            assert_eq!(outcome(&messages).map_err(|error| error[..5].to_owned()), Err("22P02".into()));
            assert_eq!(raw.query("rollback").errors, [""; 0]);
            say_extended(
                raw,
                &format!("copy (select id, email from {table} where id > 6 order by 1) to stdout"),
            );
            let messages = transcript(raw);
            assert_eq!(order(&messages), "12nHddcCZ", "{table}");
            assert_eq!(raw.query(&format!("select count(email) from {table} where id = 7")).rows.len(), 1);
        }
    }
}

#[test]
fn a_copy_that_fails_changes_nothing_and_quotes_nothing() {
    let proxy = five();
    let mut shop = Raw::log_in(&proxy.url("shop"));
    let values: String = (10..2000).map(|id| format!("{id}\t{id}\n")).collect();
    for (sql, data, sqlstate) in [
        ("copy twin (id, badge) from stdin", format!("{values}2000\tcanary-value\n"), "22P02"),
        ("copy twin (id, badge) from stdin", format!("{values}2000\t4444444444444\n"), "22003"),
        ("copy twin (id, born) from stdin", "1\t2024-02-30\n".into(), "22008"),
        ("copy twin (id, badge) from stdin", format!("canary-value\t1\n{values}2000\tx\n"), "22P02"),
        ("copy twin (id, badge) from stdin (format binary)", "canary-value".into(), "22P04"),
        ("copy twin (id, email) from stdin", format!("1\t{}\n", "x".repeat(3000)), "54000"),
        ("copy twin (id, email) from stdin", "1\tcanary-value\tx\n".into(), "22P04"),
        ("copy twin (id, badge) from stdin csv", "1,\"canary-value\n".into(), "22P04"),
        ("select 1; copy twin (id, badge) from stdin", "1\tcanary-value\n".into(), "22P02"),
        ("copy twin (id, badge) from stdin; select 1", "1\tcanary-value\n".into(), "22P02"),
    ] {
        shop.say_query(sql);
        let mut seen = String::new();
        while !seen.ends_with(['G', 'Z']) {
            seen.push(shop.read().unwrap().0);
        }
        for piece in data.as_bytes().chunks(1000) {
            shop.send(&message(b'd', piece));
        }
        shop.send(&message(b'c', b""));
        let messages = transcript(&mut shop);
        assert_eq!(outcome(&messages).map_err(|error| error[..5].to_owned()), Err(sqlstate.into()), "{sql}");
        let told: Vec<u8> = messages.iter().flat_map(|(_, body)| body.clone()).collect();
        assert!(!String::from_utf8_lossy(&told).contains("canary"), "{sql}");
        assert_eq!((count(&proxy).as_str(), shop.query("select 1").rows.len()), ("5", 1), "{sql}");
    }
    // The client itself gives up, or is gone.
    shop.say_query("copy twin (id, badge) from stdin");
    assert_eq!(shop.read().unwrap().0, 'G');
    shop.send(&message(b'd', b"1\t1\n"));
    shop.send(&message(b'f', b"changed my mind\0"));
    assert_eq!(
        outcome(&transcript(&mut shop)),
        Err("57014 COPY from stdin failed: changed my mind".to_owned())
    );
    shop.say_query("copy twin (id, badge) from stdin");
    assert_eq!(shop.read().unwrap().0, 'G');
    shop.send(&message(b'd', b"1\t1\n"));
    shop.send(&message(b'X', b""));
    drop(shop);
    let mut shop = Raw::log_in(&proxy.url("shop"));
    assert_eq!(count(&proxy), "5");
    // In a transaction the error takes all back.
    assert_eq!(shop.query("begin; insert into twin (id) values (6)").errors, [""; 0]);
    let failed = copy_in(&mut shop, "copy twin (id, badge) from stdin", &[b"1\tx\n"]);
    assert_eq!(failed.map_err(|error| error[..5].to_owned()), Err("22P02".into()));
    assert_eq!(
        shop.query("select 1").errors,
        ["25P02 current transaction is aborted, commands ignored until end of transaction block"]
    );
    assert_eq!(shop.query("commit").errors, [""; 0]);
    assert_eq!(count(&proxy), "5");
    // A statement in a copy is a violation, and the end.
    shop.say_query("copy twin (id, badge) from stdin");
    assert_eq!(shop.read().unwrap().0, 'G');
    shop.say_query("select 1");
    let last = shop.rest();
    assert_eq!(
        last.iter().filter(|(tag, _)| *tag == 'E').map(|(_, body)| error(body)).next().unwrap(),
        "08P01 unexpected message type 0x51 during COPY from stdin"
    );
    let log = proxy.log();
    assert!(!log.contains("canary"), "{log}");
}

#[test]
fn copies_are_masked_limited_and_refused_like_queries() {
    let proxy = five();
    let mut alice = Raw::log_in(&proxy.url("alice"));
    let text = |data: Vec<Vec<u8>>| String::from_utf8(data.concat()).unwrap();
    let (data, outcome) =
        copy_out(&mut alice, "copy (select id, email, phone from twin order by id limit 3) to stdout");
    assert_eq!(outcome, Ok("COPY 3".into()));
    let masked: String = (1..=3).map(|id| format!("{id}\tp***g\t5***{id}\n")).collect();
    assert_eq!(text(data), masked);
    // Three rows a statement, sealed or masked by the server, text or binary.
    for sql in [
        "copy twin (id, email) to stdout",
        "copy twin (id, phone) to stdout",
        "copy twin (email, phone) to stdout csv header",
        "copy (select name from twin) to stdout binary",
        "begin; copy twin (phone) to stdout",
    ] {
        let (data, outcome) = copy_out(&mut alice, sql);
        let rows = if sql.ends_with("header") { 4 } else { 3 };
        assert_eq!(
            (data.len(), outcome),
            (rows, Err("53400 row limit of rule \"support-desk\" is spent".into())),
            "{sql}"
        );
        alice.query("rollback");
    }
    // Rows that disclose nothing do not count.
    let all = copy_out(&mut alice, "copy (select id, note from twin) to stdout");
    assert_eq!((all.0.len(), all.1), (5, Ok("COPY 5".into())));
    for (sql, error) in [
        ("copy twin (badge) to stdout", "42501 permission denied for column badge of table twin"),
        ("copy twin to stdout", "42501 permission denied for column born of table twin"),
        ("copy twin (email) from stdin", "42501 permission denied for column email of table twin"),
        ("copy twin (phone) from stdin", "42501 permission denied for column phone of table twin"),
    ] {
        assert_eq!(copy_in(&mut alice, sql, &[]), Err(error.into()), "{sql}");
    }
    // An altered cell ends the copy, though rows before it have left.
    let alter = "update twin set name = pgveil_set_last_bit(name) where id = 4";
    let function = "create function pgveil_set_last_bit(c bytea) returns bytea language sql as \
        'select set_byte(c, length(c) - 1, get_byte(c, length(c) - 1) # 1)'";
    postgres::execute(proxy.direct(), function);
    postgres::execute(proxy.direct(), alter);
    let mut shop = Raw::log_in(&proxy.url("shop"));
    let (_, outcome) = copy_out(&mut shop, "copy twin to stdout");
    assert_eq!(outcome, Err("XX001 sealed cell of column public.twin.name does not open".into()));
    // What left is in the log: an intent before it, and how many rows and cells.
    let path = proxy.dir().join("audit");
    let (shown, _, code) = proxy.run(&["audit", "show", "--json", path.to_str().unwrap()]);
    assert_eq!(code, 0);
    let disclosed = |line: &&str| line.contains("\"mask:partial\"") && line.contains("copy");
    assert!(shown.lines().filter(disclosed).count() >= 6, "{shown}");
    assert!(!shown.contains("person"), "a record holds a value");
}

#[test]
fn the_usual_tools_copy() {
    let proxy = twins();
    let url = proxy.url("shop");
    let run = |url: &str, sql: &str| {
        let (stdout, stderr, code) = postgres::psql(url, sql);
        assert_eq!((stderr.as_str(), code), ("", 0), "{sql}");
        stdout
    };
    let file = proxy.dir().join("rows.csv");
    std::fs::write(&file, "id,email,born\n1,\"a,\"\"b\",1999-12-31\n2,,\n").unwrap();
    let name = file.to_str().unwrap();
    let script = format!(
        "\\copy twin (id, email, born) from '{name}' csv header\ncopy twin (id, email) from stdin;\n3\tinline\n\\.\n\
         copy twin (id, email) from stdin;\n4\tin\\nline\n\\.\n\\copy (select id, email, born from twin order by id) to stdout csv\n"
    );
    let (stdout, stderr, code) = postgres::psql_with(&url, &["-qAt"], &script);
    assert_eq!((stderr.as_str(), code), ("", 0));
    assert_eq!(stdout, "1,\"a,\"\"b\",1999-12-31\n2,,\n3,inline,\n4,\"in\nline\",\n");
    let python = r#"
import sys, psycopg, datetime
with psycopg.connect(sys.argv[1]) as connection:
    with connection.cursor() as cursor:
        rows = [(n, f"p{n}@x", "näme\n" + str(n), datetime.date(2000, 1, 1), n) for n in range(100, 1100)]
        for form in ("text", "binary"):
            with cursor.copy(f"copy twin (id, email, name, born, badge) from stdin (format {form})") as copy:
                copy.set_types(["int4", "text", "text", "date", "int4"])
                for row in rows:
                    copy.write_row(row)
            assert cursor.rowcount == 1000, cursor.rowcount
            with cursor.copy(f"copy (select id, email, name, born, badge from twin where id >= 100 order by id) to stdout (format {form})") as copy:
                copy.set_types(["int4", "text", "text", "date", "int4"])
                assert list(copy.rows()) == rows
            cursor.execute("delete from twin where id >= 100")
        try:
            with connection.transaction():
                with cursor.copy("copy twin (id, badge) from stdin") as copy:
                    copy.write("1\tx\n" * 100000)
        except psycopg.errors.InvalidTextRepresentation as error:
            assert "x" not in str(error).split(), error
        else:
            raise AssertionError("a wrong value was copied")
        cursor.execute("select count(*) from twin")
        assert cursor.fetchone() == (4,)
print("done")
"#;
    assert_eq!(crate::python::run(&["-c", python, &url], &[]), "done\n");
    // A whole dump, in the form that pg_restore reads; its schema has the logical types.
    let whole = postgres::pg_dump().args(["-Fc", &url]).output().unwrap();
    assert!(whole.status.success(), "{}", String::from_utf8_lossy(&whole.stderr));
    let schema = postgres::pg_dump().args(["-st", "twin", &url]).output().unwrap();
    assert!(String::from_utf8_lossy(&schema.stdout).contains("email text,\n    name text,"));
    // What pg_dump writes of the data, and a restore of it.
    let dump = postgres::pg_dump().args(["--data-only", "--table=twin", &url]).output().unwrap();
    let text = String::from_utf8_lossy(&dump.stdout).into_owned();
    assert!(dump.status.success(), "{}", String::from_utf8_lossy(&dump.stderr));
    assert!(
        text.contains("COPY public.twin (id, email, name, note, born, badge, phone) FROM stdin;\n1\ta,\"b\t"),
        "{text}"
    );
    run(&url, "truncate twin");
    let (_, stderr, code) = postgres::psql_with(&url, &["-q"], &text);
    assert_eq!((stderr.as_str(), code), ("", 0));
    assert_eq!(
        run(&url, "select count(email) from twin where email = 'inline'").lines().next().map(str::trim),
        Some("1")
    );
}

/// Kilobytes that the proxy holds now.
fn resident(proxy: &Proxy) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", proxy.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn a_copy_takes_no_more_memory_than_a_row() {
    let proxy = twins_with("message_bytes_max = 1048576");
    let mut shop = Raw::log_in(&proxy.url("shop"));
    let before = resident(&proxy);
    shop.say_query("copy twin (id, email, note) from stdin");
    assert_eq!(shop.read().unwrap().0, 'G');
    // 24 MB, in messages that end within rows.
    let row = |id: u32| format!("{id}\tp{id}@x.org\t{}\n", "n".repeat(20_000));
    let mut highest = 0;
    for batch in 0..24 {
        let data: String = (0..50).map(|id| row(batch * 50 + id)).collect();
        data.as_bytes().chunks(65_521).for_each(|piece| shop.send(&message(b'd', piece)));
        highest = highest.max(resident(&proxy));
    }
    shop.send(&message(b'c', b""));
    assert_eq!(outcome(&transcript(&mut shop)), Ok("COPY 1200".into()));
    // A client that does not read holds the server back.
    shop.say_query("copy twin (id, email, note) to stdout");
    std::thread::sleep(std::time::Duration::from_millis(500));
    highest = highest.max(resident(&proxy));
    let messages = transcript(&mut shop);
    let bytes: usize = messages.iter().map(|(_, body)| body.len()).sum();
    assert!(bytes > 24_000_000 && order(&messages).ends_with("dcCZ"));
    assert!(highest < before + 12_000, "{before} kB became {highest} kB");
    // A row that never ends.
    shop.say_query("copy twin (id, email) from stdin");
    assert_eq!(shop.read().unwrap().0, 'G');
    let endless = message(b'd', &[b'1'; 65_536]);
    (0..40).for_each(|_| shop.send(&endless));
    shop.send(&message(b'c', b""));
    let failed = outcome(&transcript(&mut shop));
    assert_eq!(failed, Err("54000 row of copied data is longer than allowed".into()));
}

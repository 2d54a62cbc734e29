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

fn twins() -> Proxy {
    let proxy = Proxy::start(POLICY, TAGS);
    let mut shop = Raw::log_in(&proxy.url("shop"));
    assert_eq!(shop.query(&format!("create table twin {TABLE}")).errors, [""; 0]);
    assert_eq!(shop.query("grant all on twin to public").errors, [""; 0]);
    postgres::execute(proxy.direct(), &format!("create table plain_twin {TABLE}"));
    postgres::execute(proxy.direct(), "grant all on plain_twin to public");
    proxy
}

/// One CopyData, or the end of a copy.
fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
    [&[tag][..], &length, body].concat()
}

/// Everything up to ReadyForQuery.
fn transcript(raw: &mut Raw) -> Vec<Message> {
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
fn copy_in(raw: &mut Raw, sql: &str, pieces: &[&[u8]]) -> Result<String, String> {
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

fn outcome(messages: &[Message]) -> Result<String, String> {
    assert_eq!(messages.last().map(|(tag, _)| *tag), Some('Z'), "{messages:?}");
    match messages.iter().find(|(tag, _)| matches!(tag, 'C' | 'E')) {
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
        "(format csv, header match, delimiter ';', null 'null')",
        "(format csv, quote '''', escape '\\', delimiter '|')",
        "(format csv, delimiter '1', quote 'x', escape 'a')",
        "(format binary)",
        "(format csv, null 'a')",
    ] {
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

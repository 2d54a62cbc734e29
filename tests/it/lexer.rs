//! Our scanner against the server's: what random spellings of names and literals stand for, and what tools really send.
//!
//! The server does not show its tokens, but it shows names (as column headings), values, and which texts it rejects.

use pgveil::sql::agree::agree;
use pgveil::sql::lex::{Kind, lex, string_value};
use pgveil::sql::spelling::fold_identifier;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, TestRng, TestRunner};

use crate::postgres::{self, Postgres};

/// Random texts of these pieces, the same ones in every run.
fn spellings(open: &str, pieces: &[&'static str], close: &str, count: usize) -> Vec<String> {
    let config = Config { source_file: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(
        config,
        TestRng::deterministic_rng(proptest::test_runner::RngAlgorithm::ChaCha),
    );
    let bodies = vec(select(pieces.to_vec()), 0..6).prop_map(|pieces| pieces.concat());
    (0..count)
        .map(|_| format!("{open}{}{close}", bodies.new_tree(&mut runner).expect("no filter").current()))
        .collect()
}

/// One client for many small questions.
struct Client {
    runtime: tokio::runtime::Runtime,
    client: tokio_postgres::Client,
}

impl Client {
    fn new(url: &str) -> Client {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (client, connection) =
            runtime.block_on(tokio_postgres::connect(url, tokio_postgres::NoTls)).unwrap();
        runtime.spawn(connection);
        Client { runtime, client }
    }

    /// Name and value of a query's only column, or `None` when the server rejects it.
    fn column(&self, sql: &str) -> Option<(String, Option<String>)> {
        let messages = self.runtime.block_on(self.client.simple_query(sql)).ok()?;
        messages.into_iter().find_map(|message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) if row.len() == 1 => {
                Some((row.columns()[0].name().to_owned(), row.get(0).map(str::to_owned)))
            }
            _ => None,
        })
    }
}

#[test]
fn literals_have_the_servers_values() {
    let client = Client::new(&postgres::database("lexer"));
    let escapes = [
        "a",
        "''",
        "\\'",
        "\\\\",
        "\\n",
        "\\b",
        "\\x41",
        "\\x4",
        "\\xc3\\xa4",
        "\\xff",
        "\\101",
        "\\0",
        "\\7",
        "\\u0041",
        "\\u00e4",
        "\\U0001F600",
        "\\ud83d",
        "\\ude00",
        "\\u12",
        "\\q",
        "é",
        "'\n'",
        "'\n -- c'\n'",
        " ",
        "$$",
    ];
    let unicode =
        ["a", "''", "\\\\", "\\0041", "\\+01F600", "\\d83d", "\\de00", "\\00", "\\0000", "é", "'\n'"];
    let plain = ["a", "''", "\\", "\\'", "'\n'", "' \r '", "'\n--x\n'", "' '", "é", "\"", "$$"];
    let dollar = ["a", "$", "$b$", "$$", "'", "\\", "é", "\n"];
    let mut accepted = 0;
    for (open, pieces, close) in [
        ("E'", &escapes[..], "'"),
        ("e'", &escapes[..], "'"),
        ("U&'", &unicode[..], "'"),
        ("'", &plain[..], "'"),
        ("$$", &dollar[..], "$$"),
        ("$b$", &dollar[..], "$b$"),
    ] {
        for text in spellings(open, pieces, close, 250) {
            let tokens = lex(&text);
            let ours = match tokens.as_deref() {
                Ok([token]) => string_value(token.kind, &text),
                // Two literals, or a rest: not what is asked about here.
                Ok(_) => continue,
                Err(_) => None,
            };
            // In parentheses, so that nothing can hide behind it, with a newline against comments.
            let theirs =
                client.column(&format!("select ({text}\n)::text as value")).and_then(|(_, value)| value);
            assert_eq!(ours, theirs, "{text}");
            accepted += usize::from(ours.is_some());
        }
    }
    assert!(accepted > 500, "{accepted}");
}

#[test]
fn identifiers_have_the_servers_names() {
    let client = Client::new(&postgres::database("lexer"));
    let words = [
        "a",
        "B",
        "_",
        "$",
        "1",
        "é",
        "É",
        "\u{a0}",
        "\u{200b}",
        "ab0123456789012345678901234567890123456789",
        "ß",
    ];
    let quoted =
        ["a", "B", "\"\"", " ", "'", "\\0041", "é", "$", "ab0123456789012345678901234567890123456789", "--"];
    let mut accepted = 0;
    for (open, pieces, close) in
        [("x", &words[..], ""), ("\"", &quoted[..], "\""), ("U&\"", &quoted[..], "\"")]
    {
        for text in spellings(open, pieces, close, 250) {
            let tokens = lex(&text);
            let Ok([token]) = tokens.as_deref() else {
                assert!(tokens.is_ok() || client.column(&format!("select 1 as {text}")).is_none(), "{text}");
                continue;
            };
            assert!(matches!(token.kind, Kind::Word | Kind::QuotedIdent | Kind::UnicodeIdent), "{text}");
            let theirs = client.column(&format!("select 1 as {text}\n")).map(|(name, _)| name);
            assert_eq!(Some(fold_identifier(&text)), theirs, "{text}");
            accepted += 1;
        }
    }
    assert!(accepted > 400, "{accepted}");
}

/// Every statement that a server logged, by the marker that its log lines begin with.
fn logged(log: &str) -> Vec<String> {
    let entries = log.split('\u{2}').filter_map(|entry| {
        let entry = entry.strip_prefix("LOG:  ")?;
        let sql = entry
            .strip_prefix("statement: ")
            .or_else(|| entry.strip_prefix("execute ")?.split_once(": ").map(|(_, sql)| sql))?;
        Some(sql.trim_end().replace("\n\t", "\n"))
    });
    let mut statements: Vec<String> = entries.collect();
    statements.sort();
    statements.dedup();
    statements
}

#[test]
fn both_readers_agree_on_what_postgresqls_tools_send() {
    let server = Postgres::private_with(&[("log_statement", "all"), ("log_line_prefix", "\u{2}")]);
    let url = server.database("tools");
    postgres::execute(
        &url,
        "create table customers (id serial primary key, email text not null unique, card numeric(12,2) default 0);
         create view v as select * from customers where email <> 'x';
         create table p (a int) partition by range (a); create table p1 partition of p for values from (1) to (10);
         create function f(int) returns int language sql as 'select $1'; create publication pub for table customers;",
    );
    let commands = [
        "\\d",
        "\\d customers",
        "\\d+ customers",
        "\\d+ p",
        "\\d v",
        "\\d+ v",
        "\\df+",
        "\\du+",
        "\\dn+",
        "\\l+",
        "\\dp",
        "\\dx+",
        "\\dRp+",
        "\\dt+ pg_*",
        "\\di+",
        "\\ds",
        "\\dT+",
        "\\dD+",
        "\\do",
        "\\da",
        "\\dC+",
        "\\db+",
        "\\drds",
        "\\sf f",
        "\\sv v",
        "\\dy",
        "\\dX",
        "\\dAo",
    ];
    for command in commands {
        let (_, stderr, code) = postgres::psql(&url, command);
        assert_eq!(code, 0, "{command}: {stderr}");
    }
    for arguments in [&["--dbname"][..], &["--inserts", "--dbname"]] {
        let dump = postgres::pg_dump().args(arguments).arg(&url).output().unwrap();
        assert!(dump.status.success(), "{}", String::from_utf8_lossy(&dump.stderr));
    }
    let statements = logged(&server.log());
    assert!(statements.len() > 80, "{}", statements.len());
    for sql in statements {
        assert!(agree(&sql).is_ok(), "{:?}: {sql}", agree(&sql));
    }
}

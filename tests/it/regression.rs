//! PostgreSQL's own regression tests as a corpus: `PGVEIL_REGRESSION_SQL=…/src/test/regress/sql cargo test --test it
//! regression -- --ignored --nocapture` reads every statement of the files there, prints the share by outcome, and asks a
//! server whether what would be sent for it is as right or wrong to its grammar as the original.
//!
//! The files are PostgreSQL's and are not kept here. Deliberately absent: psql's variables; a statement with one is left out.

use crate::postgres;
use crate::raw::Raw;
use pgveil::sql::{self, Reading};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The statements of a psql script: without psql's own commands and the data of COPY.
fn statements(script: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut pending = String::new();
    let mut copying = false;
    for line in script.lines() {
        if copying {
            copying = line != "\\.";
            continue;
        }
        if line.trim_start().starts_with('\\') {
            // `\gset` and its like send what is pending.
            pending.clear();
            continue;
        }
        pending.push_str(line);
        pending.push('\n');
        if !line.contains(';') {
            continue;
        }
        let Ok(script) = sql::split(&pending) else { continue };
        // A statement that does not end here goes on with the next line.
        let rest = pending.trim_end();
        let Some(last) = script.statements.last() else { continue };
        let open = !rest.get(last.span.end..).is_some_and(|rest| rest.trim_start().starts_with(';'));
        let whole = script.statements.len() - usize::from(open);
        for statement in &script.statements[..whole] {
            let text = pending[statement.span.clone()].to_owned();
            let lower = text.to_ascii_lowercase();
            copying = lower.starts_with("copy") && lower.contains("from stdin");
            found.push(text);
        }
        pending = if open { pending[last.span.start..].to_owned() } else { String::new() };
    }
    found
}

/// Whether psql would put a variable in: `:name`, `:'name'`, `:"name"`.
fn has_variable(text: &str) -> bool {
    let bytes = text.as_bytes();
    (1..bytes.len().saturating_sub(1)).any(|at| {
        let named = bytes[at + 1].is_ascii_alphabetic() || matches!(bytes[at + 1], b'\'' | b'"');
        bytes[at] == b':' && bytes[at - 1] != b':' && named && !bytes[at - 1].is_ascii_alphanumeric()
    })
}

/// What the server's grammar says: only 42601 is its own.
fn verdict(server: &mut Raw, sql: &str) -> bool {
    server.parse("", sql, &[]);
    server.sync();
    !server.reply().errors.iter().any(|error| error.starts_with("42601"))
}

#[test]
#[ignore = "needs PostgreSQL's sources: PGVEIL_REGRESSION_SQL"]
fn regression_corpus() {
    let folder = PathBuf::from(std::env::var("PGVEIL_REGRESSION_SQL").expect("the folder of the .sql files"));
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let mut server = Raw::log_in(&postgres::database("regression"));
    let mut outcomes: BTreeMap<&str, u64> = BTreeMap::new();
    let mut unread: BTreeMap<String, u64> = BTreeMap::new();
    let mut wrong = Vec::new();
    for file in files.iter().filter(|file| file.extension().is_some_and(|extension| extension == "sql")) {
        let script = String::from_utf8_lossy(&std::fs::read(file).unwrap()).into_owned();
        for text in statements(&script).into_iter().filter(|text| !has_variable(text)) {
            let outcome = match sql::read(&text) {
                Err(problem) if problem.sqlstate == "42601" => "rejected by the scanner",
                Err(_) => "refused for the session's sake",
                Ok(Reading::Tokens) => "read by its tokens",
                Ok(Reading::Parsed(printed)) => {
                    if sql::read(&printed) != Ok(Reading::Parsed(printed.clone())) {
                        wrong.push(format!("{}: not the same again: {text}\n  {printed}", file.display()));
                    }
                    if verdict(&mut server, &text) != verdict(&mut server, &printed) {
                        wrong.push(format!("{}: the server disagrees: {text}\n  {printed}", file.display()));
                    }
                    "parsed and echoed"
                }
                Ok(Reading::Lexical) if verdict(&mut server, &text) => {
                    let words: Vec<&str> = text.split_whitespace().take(2).collect();
                    *unread.entry(words.join(" ").to_ascii_lowercase()).or_default() += 1;
                    if std::env::var("PGVEIL_REGRESSION_SHOW").is_ok() {
                        println!("UNREAD {}", text.replace('\n', " "));
                    }
                    "by its words only"
                }
                Ok(Reading::Lexical) => "wrong to the server, too",
            };
            *outcomes.entry(outcome).or_default() += 1;
        }
    }
    let all: u64 = outcomes.values().sum();
    for (outcome, count) in &outcomes {
        println!("{count:7} {:5.1} %  {outcome}", 100.0 * *count as f64 / all as f64);
    }
    let mut unread: Vec<_> = unread.into_iter().collect();
    unread.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    for (words, count) in unread.iter().take(60) {
        println!("{count:7}  {words}");
    }
    assert!(all > 1000, "{all} statements");
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

//! The corpus of statements as real tools send them (`tests/corpus/tools/*.md`), and what becomes of each at the proxy.
//!
//! The tests that run a tool write its file from a plain server's log when `UPDATE=1` is set; each statement stands once,
//! with the values it first had. What Metabase and Active Record send is written by hand, after their sources. The test here
//! replays every file, in order, through the proxy and on a plain database, compares the answers and then the verdicts.

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use crate::foreign::{POLICY, TAGS, plain_twin};
use crate::postgres;
use crate::proxy::Proxy;
use crate::raw::{Raw, cells, described, error};

/// `log_line_prefix` of a server whose log is to be read.
pub const PREFIX: &str = "<%u@%d> %p ";

/// How to read a file of the corpus, in each.
const READ_ME: &str = "
Each statement as the tool sent it, with its parameters, and what pgveil makes of it: for one who may read, compare and write
all (**clear**; executed in this order), for one who sees masks of the texts and for one without rights (**masks**, **none**; prepared
at the end). `answered` as a plain database answers (`otherwise`: not quite); `refused` by the proxy; `error`: PostgreSQL's own. Which columns are sealed:
tests/it/foreign.rs. `@regclass person@` stands for that object's OID. A session that ended within
its transaction ends with ROLLBACK here.
";

/// How an object is named that a statement has by its OID: the type that spells it, and the catalog that lists it.
const OBJECTS: [(&str, &str); 5] = [
    ("regclass", "pg_class"),
    ("regprocedure", "pg_proc"),
    ("regtype", "pg_type"),
    ("regoperator", "pg_operator"),
    ("regcollation", "pg_collation"),
];

/// A statement, and its values in text form when it went by the extended protocol.
pub struct Statement {
    sql: String,
    values: Option<Vec<Option<String>>>,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/tools")
}

/// What a server's log says that `who` (`user@database`) executed, each text once. Transaction control stays wherever it stood.
pub fn statements(log: &str, who: &str) -> Vec<Statement> {
    let prefix = format!("<{who}> ");
    let mut entries: Vec<String> = vec![];
    let mut ours = false;
    for line in log.lines() {
        if let Some(rest) = line.strip_prefix('\t') {
            if let (true, Some(last)) = (ours, entries.last_mut()) {
                last.push('\n');
                last.push_str(rest);
            }
            continue;
        }
        ours = line.starts_with(&prefix);
        if let Some(rest) = line.strip_prefix(&prefix) {
            entries.push(rest.to_owned());
        }
    }
    once(ended(entries))
}

/// The log's entries as statements; all sessions are one here, so what one left open is ended.
fn ended(entries: Vec<String>) -> Vec<Statement> {
    let entries: Vec<(&str, &str)> = entries.iter().filter_map(|entry| entry.split_once(' ')).collect();
    let mut found: Vec<Statement> = vec![];
    let mut open = HashSet::new();
    for (index, (session, entry)) in entries.iter().enumerate() {
        if let Some(sql) = entry.strip_prefix("LOG:  statement: ") {
            found.push(Statement { sql: sql.to_owned(), values: None });
        } else if let Some((_, sql)) =
            entry.strip_prefix("LOG:  execute ").and_then(|rest| rest.split_once(": "))
        {
            found.push(Statement { sql: sql.to_owned(), values: Some(vec![]) });
        } else if let (Some(list), Some(last)) =
            (entry.strip_prefix("DETAIL:  parameters: "), found.last_mut())
        {
            last.values = Some(values(list));
        }
        match found.last().and_then(|last| control(&last.sql)) {
            Some(Control::Begin) => open.insert(*session),
            Some(Control::End) => open.remove(session),
            Some(Control::Inside) | None => false,
        };
        let more = entries.iter().skip(index + 1).any(|(other, _)| other == session);
        if !more && open.remove(session) {
            found.push(Statement { sql: "ROLLBACK".to_owned(), values: None });
        }
    }
    found
}

/// `$1 = 'one', $2 = NULL`, taken apart.
fn values(list: &str) -> Vec<Option<String>> {
    let mut found = vec![];
    let mut rest = list;
    while let Some((_, value)) = rest.split_once(" = ") {
        if let Some(after) = value.strip_prefix("NULL") {
            found.push(None);
            rest = after;
            continue;
        }
        let mut text = String::new();
        let mut characters = value.char_indices().skip(1).peekable();
        let mut end = value.len();
        while let Some((at, character)) = characters.next() {
            if character == '\'' && characters.next_if(|(_, next)| *next == '\'').is_none() {
                end = at + 1;
                break;
            }
            text.push(character);
        }
        found.push(Some(text));
        rest = &value[end..];
    }
    found
}

/// Each text once, but for transaction control; transactions that are empty now are left out.
fn once(statements: Vec<Statement>) -> Vec<Statement> {
    let mut seen = HashSet::new();
    let mut kept: Vec<Statement> = vec![];
    for statement in statements {
        let control = control(&statement.sql);
        if control.is_none() && !seen.insert(statement.sql.clone()) {
            continue;
        }
        if control == Some(Control::End)
            && kept.last().is_some_and(|last| self::control(&last.sql) == Some(Control::Begin))
        {
            kept.pop();
            continue;
        }
        kept.push(statement);
    }
    kept
}

#[derive(PartialEq, Eq)]
enum Control {
    Begin,
    Inside,
    End,
}

fn control(sql: &str) -> Option<Control> {
    let lower = sql.trim().to_lowercase();
    let mut words = lower.split([' ', ';']);
    match (words.next()?, words.next()) {
        ("begin" | "start", _) => Some(Control::Begin),
        ("rollback", Some("to")) | ("savepoint" | "release" | "close", _) => Some(Control::Inside),
        ("commit" | "rollback" | "end" | "abort", _) => Some(Control::End),
        _ => None,
    }
}

/// Puts names for the OIDs in statements, which another database does not have.
pub fn name_objects(statements: &mut [Statement], url: &str) {
    let union = OBJECTS.map(|(kind, catalog)| {
        format!("select oid::text, '{kind} ' || oid::{kind} from {catalog} where oid >= 16384")
    });
    let rows = postgres::query(url, &union.join(" union all "));
    let names: HashMap<String, String> =
        rows.into_iter().filter_map(|row| Some((row[0].clone()?, row[1].clone()?))).collect();
    for Statement { sql, .. } in statements {
        let mut named = String::new();
        let mut rest = sql.as_str();
        while let Some(start) = rest.find(|c: char| c.is_ascii_digit()) {
            let end = rest[start..].find(|c: char| !c.is_ascii_digit()).map_or(rest.len(), |end| start + end);
            named.push_str(&rest[..start]);
            match names.get(&rest[start..end]) {
                Some(name) => write!(named, "@{name}@").unwrap(),
                None => named.push_str(&rest[start..end]),
            }
            rest = &rest[end..];
        }
        named.push_str(rest);
        *sql = named;
    }
}

/// A statement's text with the OIDs of this database. An object that is not there has none.
fn with_oids(sql: &str, url: &str) -> String {
    let mut found = sql.to_owned();
    for (kind, _) in OBJECTS {
        while let Some((before, rest)) = found.split_once(&format!("@{kind} ")) {
            let (name, after) = rest.split_once('@').expect("a name ends");
            let oid = postgres::query(url, &format!("select coalesce(to_{kind}($_${name}$_$)::oid, 0)"));
            found = format!("{before}{}{after}", oid[0][0].as_deref().unwrap_or_default());
        }
    }
    found
}

/// Writes a tool's file, without verdicts yet.
pub fn write(tool: &str, about: &str, statements: &[Statement]) {
    let mut text = format!("# {tool}\n\n{about}\n{READ_ME}");
    for Statement { sql, values } in statements {
        let values = values.as_ref().map_or(String::new(), |values| {
            format!(" {}", serde_json::to_string(values).expect("texts are JSON"))
        });
        write!(text, "\n```sql{values}\n{}\n```\n\n?\n", sql.trim_end()).unwrap();
    }
    fs::create_dir_all(folder()).unwrap();
    fs::write(folder().join(format!("{tool}.md")), text).unwrap();
}

/// A file's statements, each with the number of the line that says its verdict.
fn read(lines: &[String]) -> Vec<(Statement, usize)> {
    let mut found = vec![];
    let mut at = 0;
    while at < lines.len() {
        let Some(info) = lines[at].strip_prefix("```sql") else {
            at += 1;
            continue;
        };
        let end = at + lines[at..].iter().position(|line| line == "```").expect("a block ends");
        let values = (!info.is_empty()).then(|| serde_json::from_str(info).expect("values are JSON"));
        found.push((Statement { sql: lines[at + 1..end].join("\n"), values }, end + 2));
        at = end + 1;
    }
    found
}

/// What became of a statement.
#[derive(PartialEq)]
struct Answer {
    /// `SQLSTATE message`.
    failed: Option<String>,
    /// Everything that was said of rows, and the rows in any order; what differs between two databases left out.
    told: Vec<String>,
    rows: Vec<Vec<String>>,
}

/// Reads up to ReadyForQuery, and ends a COPY that asks for rows.
fn answer(raw: &mut Raw, database: &str) -> Answer {
    let mut answer = Answer { failed: None, told: vec![], rows: vec![] };
    while let Some((tag, body)) = raw.read() {
        match tag {
            'E' => answer.failed = answer.failed.take().or(Some(error(&body))),
            'G' => raw.send(b"c\0\0\0\x04"),
            'T' => {
                let (names, mut types, modifiers) = described(&body);
                types.iter_mut().for_each(|oid| *oid = (*oid).min(16384));
                answer.told.push(format!("{names:?} {types:?} {modifiers:?}"));
            }
            'C' => answer.told.push(String::from_utf8_lossy(&body).into_owned()),
            'D' => answer.rows.push(cells(&body).into_iter().map(|cell| anywhere(cell, database)).collect()),
            'd' => answer.rows.push(vec![String::from_utf8_lossy(&body).into_owned()]),
            'Z' => break,
            _ => {}
        }
    }
    answer.rows.sort();
    answer
}

/// A cell as it is in every database: the OIDs of what users made and the database's name differ.
fn anywhere(cell: Option<Vec<u8>>, database: &str) -> String {
    let Some(cell) = cell else { return "NULL".to_owned() };
    let text = String::from_utf8_lossy(&cell).replace(database, "DATABASE");
    if text.parse::<u32>().is_ok_and(|number| number >= 16384) { "OID".to_owned() } else { text }
}

fn verdict(Answer { failed, .. }: &Answer, with_message: bool) -> String {
    let Some(failed) = failed else { return "answered".to_owned() };
    let (state, message) = failed.split_once(' ').unwrap_or((failed, ""));
    let what = if matches!(state, "42501" | "0A000" | "53400") { "refused" } else { "error" };
    if with_message { format!("{what} {state} ({message})") } else { format!("{what} {state}") }
}

/// The verdict beside what a plain database answers: `answered` is said of the same answer only.
fn compared(sealed: &Answer, plain: &Answer) -> String {
    let state = |answer: &Answer| answer.failed.as_ref().map(|failed| failed[..5].to_owned());
    let verdict = verdict(sealed, true);
    if sealed.failed.is_some() {
        return if state(sealed) == state(plain) || verdict.starts_with("refused") {
            verdict
        } else {
            format!("{verdict} otherwise")
        };
    }
    if sealed == plain { verdict } else { format!("{verdict} otherwise") }
}

/// A parameter's value; an OID of the database that was recorded is nobody's in another, where chance might give it to a table.
fn elsewhere(sql: &str, value: &str) -> String {
    match value.parse::<u32>() {
        Ok(oid) if (16_384..100_000).contains(&oid) && sql.contains("pg_") => (oid + 1_000_000).to_string(),
        _ => value.to_owned(),
    }
}

fn send(raw: &mut Raw, Statement { sql, values }: &Statement, url: &str) {
    let sql = &with_oids(sql, url);
    let Some(values) = values else { return raw.say_query(sql) };
    let values: Vec<Option<String>> =
        values.iter().map(|value| value.as_ref().map(|value| elsewhere(sql, value))).collect();
    let values: Vec<Option<&[u8]>> = values.iter().map(|value| value.as_deref().map(str::as_bytes)).collect();
    raw.parse("", sql, &[]);
    raw.bind("", "", &values, [0, 0]);
    raw.describe(b'P', "");
    raw.execute("", 0);
    raw.sync();
}

fn shown(Answer { failed, told, rows }: &Answer) -> String {
    format!(
        "{failed:?} {told:?}\n  {}",
        rows.iter().map(|row| row.join("|")).collect::<Vec<_>>().join("\n  ")
    )
}

/// The verdicts of a file: for one who may do all by executing the statements in order; for one who sees masks and one who
/// has no right by preparing each, in the state that this left.
fn verdicts(statements: &[(Statement, usize)]) -> Vec<String> {
    let proxy = Proxy::start(POLICY, TAGS);
    let twin = plain_twin(&proxy);
    let (mut shop, mut plain) = (Raw::log_in(&proxy.url("shop")), Raw::log_in(&twin));
    let twin_direct = proxy.postgres.url(postgres::database_name(&twin));
    let [name, twin] = [proxy.direct(), &twin].map(|url| postgres::database_name(url).to_owned());
    let mut all: Vec<String> = statements
        .iter()
        .map(|(statement, _)| {
            send(&mut shop, statement, proxy.direct());
            send(&mut plain, statement, &twin_direct);
            let (sealed, plain) = (answer(&mut shop, &name), answer(&mut plain, &twin));
            let verdict = compared(&sealed, &plain);
            if verdict.ends_with("otherwise") {
                eprintln!("{}\nPostgreSQL: {}\nproxy: {}", statement.sql, shown(&plain), shown(&sealed));
            }
            format!("clear {verdict}")
        })
        .collect();
    shop.query("rollback");
    for (name, user) in [("masks", "alice"), ("none", "intern")] {
        let mut raw = Raw::log_in(&proxy.url(user));
        for ((statement, _), all) in statements.iter().zip(&mut all) {
            raw.parse("", &with_oids(&statement.sql, proxy.direct()), &[]);
            raw.describe(b'S', "");
            raw.sync();
            write!(all, ", {name} {}", verdict(&answer(&mut raw, ""), false)).unwrap();
        }
    }
    all
}

#[test]
fn what_tools_send_has_its_verdict() {
    let mut files: Vec<PathBuf> =
        fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty());
    let mut wrong = vec![];
    std::thread::scope(|scope| {
        let runs: Vec<_> = files
            .iter()
            .map(|path| {
                scope.spawn(move || {
                    let lines =
                        fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect::<Vec<_>>();
                    let statements = read(&lines);
                    assert!(!statements.is_empty(), "{}", path.display());
                    let verdicts = verdicts(&statements);
                    (lines, statements, verdicts)
                })
            })
            .collect();
        for (path, run) in files.iter().zip(runs) {
            let (mut lines, statements, verdicts) = run.join().unwrap();
            for ((statement, line), is) in statements.iter().zip(verdicts) {
                if lines[*line] != is {
                    let must_be = &lines[*line];
                    wrong.push(format!(
                        "{}: {}\n  is      {is}\n  must be {must_be}",
                        path.display(),
                        statement.sql
                    ));
                    lines[*line] = is;
                }
            }
            if std::env::var_os("UPDATE").is_some() {
                fs::write(path, lines.join("\n") + "\n").unwrap();
                wrong.clear();
            }
        }
    });
    assert!(
        wrong.is_empty(),
        "{} verdicts changed; look, and run with UPDATE=1:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

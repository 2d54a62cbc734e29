//! Choosing records and laying them out for people.
//!
//! Guarantees: no control character of a peer's text reaches a terminal. Deliberately absent: verification
//! ([`super::verify`]), files, tables' borders.

use super::persons::{Persons, Pseudonym};
use super::verify::{self, Failure};
use super::{AuditRecord, Event, InsteadOfPassword};
use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use std::collections::BTreeSet;
use std::io::BufRead;

/// Which records to show: those that fit everything that is set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    pub user: Option<String>,
    /// Any of these.
    pub users: Option<BTreeSet<String>>,
    /// A table with or without its schema.
    pub table: Option<String>,
    pub purpose: Option<String>,
    pub rule: Option<String>,
    /// An event's name ([`Event::name`]).
    pub event: Option<String>,
    /// The SQLSTATE of an outcome or a refusal.
    pub outcome: Option<String>,
    /// A label, or `pii.*` for all that begin so.
    pub label: Option<String>,
    /// Unix microseconds, included.
    pub since: Option<i64>,
    /// Unix microseconds, excluded.
    pub until: Option<i64>,
    /// Only outcomes that showed cells of this person.
    pub person: Option<Person>,
    pub connection: Option<u64>,
    /// A statement's number in its connection.
    pub statement: Option<u64>,
}

/// Whose records are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person(pub BTreeSet<Pseudonym>);

impl Person {
    /// Whether a record says that cells of the person were shown.
    pub fn is_in(&self, record: &AuditRecord) -> bool {
        record.event.persons().is_some_and(|persons| persons.seen.iter().any(|seen| self.0.contains(seen)))
    }
}

impl Filter {
    pub fn fits(&self, record: &AuditRecord) -> bool {
        let uses = record.event.uses();
        self.user.as_ref().is_none_or(|user| *user == record.connection.user)
            && self.users.as_ref().is_none_or(|users| users.contains(&record.connection.user))
            && self.table.as_ref().is_none_or(|table| uses.iter().any(|used| is_of(table, &used.column)))
            && self.rule.as_ref().is_none_or(|rule| uses.iter().any(|used| used.rule == *rule))
            && self.purpose.as_deref().is_none_or(|purpose| record.event.purpose() == Some(purpose))
            && self.event.as_ref().is_none_or(|event| *event == record.event.name())
            && self.person.as_ref().is_none_or(|person| person.is_in(record))
            && self.outcome.as_deref().is_none_or(|state| record.event.sqlstate() == Some(state))
            && self.since.is_none_or(|since| record.time >= since)
            && self.until.is_none_or(|until| record.time < until)
            && self.connection.is_none_or(|connection| record.connection.number == connection)
            && self.statement.is_none_or(|statement| record.event.statement() == Some(statement))
            && self.label.as_ref().is_none_or(|wanted| {
                record.event.labels().into_iter().any(|label| match wanted.strip_suffix('*') {
                    Some(start) => label.starts_with(start),
                    None => label == wanted,
                })
            })
    }
}

/// Whether `schema.table.column` is a column of `table`, which may have its schema.
fn is_of(table: &str, column: &str) -> bool {
    let Some((relation, _)) = column.rsplit_once('.') else { return false };
    relation == table || relation.rsplit_once('.').is_some_and(|(_, name)| name == table)
}

/// Cells as a line of CSV (RFC 4180). One that a spreadsheet would take for a formula gets an apostrophe.
pub fn csv_line(cells: &[String]) -> String {
    let cell = |text: &String| {
        let formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
        let text = if formula { format!("'{text}") } else { text.clone() };
        match text.contains([',', '"', '\n', '\r']) {
            true => format!("\"{}\"", text.replace('"', "\"\"")),
            false => text,
        }
    };
    cells.iter().map(cell).collect::<Vec<_>>().join(",") + "\r\n"
}

/// Calls `each` with every record that fits, in the log's order, and its line as it stands in the log.
pub fn select(
    log: impl BufRead,
    filter: &Filter,
    mut each: impl FnMut(&[u8], &AuditRecord),
) -> Result<(), Failure> {
    verify::records(log, |line, record| {
        if filter.fits(record) {
            each(line, record);
        }
        true
    })
}

/// Headings of [`row`]'s cells.
pub const HEADINGS: [&str; 8] =
    ["time (UTC)", "connection", "user", "database", "event", "statement", "columns", "result"];

/// Characters of a statement's shape that a row shows.
const SHAPE_CHARACTERS: usize = 60;

/// One record as a table's row; a cell has a line for each column or label.
pub fn row(record: &AuditRecord) -> [String; 8] {
    let (statement, result) = statement_and_result(&record.event);
    let connection = match record.connection.number {
        0 => String::new(),
        number => number.to_string(),
    };
    [
        time_text(record.time),
        connection,
        printable(&record.connection.user),
        printable(&record.connection.database),
        record.event.name().replace('_', " "),
        statement,
        columns(&record.event),
        result,
    ]
}

fn statement_and_result(event: &Event) -> (String, String) {
    let quoted = |statement: &str, shape: &str| {
        let text = printable(shape);
        let mut start: String = text.chars().take(SHAPE_CHARACTERS).collect();
        if start.len() < text.len() {
            start.push('…');
        }
        format!("{statement}{start}")
    };
    match event {
        Event::Started { version, configuration, files: _ } => {
            (String::new(), format!("version {}, configuration {}", printable(version), short(configuration)))
        }
        Event::Stopped | Event::LoggedIn { instead: None } => (String::new(), String::new()),
        Event::LoggedIn { instead: Some(InsteadOfPassword { method, upstream }) } => {
            (String::new(), format!("by {}, as {}", printable(method), printable(upstream)))
        }
        Event::Reloaded { configuration, files: _ } => {
            (String::new(), format!("configuration {}", short(configuration)))
        }
        Event::ColumnChanged { column, from, to } => {
            (printable(column), format!("{} → {}", printable(from), printable(to)))
        }
        Event::LogInFailed { reason } => (String::new(), printable(reason)),
        Event::SecondFactor { outcome } => (String::new(), printable(outcome)),
        Event::BreakGlass { reason } => (String::new(), printable(reason)),
        Event::Intent { statement, intent } => {
            let purpose = intent.purpose.as_ref().map(|purpose| format!("purpose {}", printable(purpose)));
            (quoted(&format!("{statement}: "), &intent.shape), purpose.unwrap_or_default())
        }
        Event::Outcome { statement, rows, comparisons, sqlstate, duration, persons, .. } => {
            let mut result = format!("{}, {rows} rows in {duration:.1?}", printable(sqlstate));
            if *comparisons > 0 {
                result.push_str(&format!(", {comparisons} comparisons"));
            }
            if let Some(persons) = persons {
                result.push_str(&format!("; {}", persons_text(persons)));
            }
            (statement.to_string(), result)
        }
        Event::Refused { shape, sqlstate, reason, .. } => {
            (quoted("", shape), format!("{} {}", printable(sqlstate), printable(reason)))
        }
        Event::Removed { before } => (String::new(), format!("the lines before line {}", before + 1)),
        Event::PersonForgotten { table } => {
            (String::new(), format!("a person of {} can be told no more", printable(table)))
        }
        Event::KeysExported { at, to } => {
            (String::new(), format!("to {} at {}", printable(to), printable(at)))
        }
        Event::DataKeyChanged { at, key, change } => {
            (printable(key), format!("{} at {}", printable(change), printable(at)))
        }
        Event::KeyChanged { key } => (String::new(), format!("to {}", short(key))),
        Event::Recovered { unsigned, cut } => {
            (String::new(), format!("{unsigned} records had no checkpoint, {cut} bytes cut"))
        }
    }
}

/// How many persons were seen, and of how many rows that is not known.
fn persons_text(persons: &Persons) -> String {
    let mut text = match persons.seen.as_slice() {
        [one] => format!("person {}", one.hex()),
        several => format!("{} persons", several.len()),
    };
    if persons.more > 0 {
        text.push_str(&format!(", {} rows of more", persons.more));
    }
    if persons.unknown > 0 {
        text.push_str(&format!(", {} rows of persons not known", persons.unknown));
    }
    text
}

fn columns(event: &Event) -> String {
    let texts: Vec<String> = match event {
        Event::Outcome { cells, .. } => cells
            .iter()
            .map(|(label, disclosure, cells)| format!("{label} {disclosure}: {cells} cells"))
            .collect(),
        event => event
            .uses()
            .iter()
            .map(|used| {
                let rule = if used.rule.is_empty() { "no rule" } else { &used.rule };
                let disclosure =
                    if used.disclosure.is_empty() { String::new() } else { format!(" {}", used.disclosure) };
                format!("{} {}{disclosure} ({rule})", used.action, used.column)
            })
            .collect(),
    };
    let texts: Vec<String> = texts.iter().map(|text| printable(text)).collect();
    texts.join("\n")
}

/// A configuration's hash is 64 digits; twelve tell it from another.
fn short(configuration: &str) -> String {
    printable(configuration).chars().take(12).collect()
}

/// Spells control characters out, so that a record cannot move the reader's cursor or colour its neighbours.
pub(super) fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\n' | '\r' | '\t' => out.push(' '),
            // Bidirectional overrides make text read as what it is not.
            _ if character.is_control()
                || ('\u{202a}'..='\u{202e}').contains(&character)
                || ('\u{2066}'..='\u{2069}').contains(&character) =>
            {
                out.extend(character.escape_default());
            }
            _ => out.push(character),
        }
    }
    out
}

/// `2026-11-24 08:00:00.000000`, in UTC; the number itself when it is no time.
pub fn time_text(unix_micros: i64) -> String {
    match Timestamp::from_microsecond(unix_micros) {
        Ok(time) => time.strftime("%Y-%m-%d %H:%M:%S%.6f").to_string(),
        Err(_) => unix_micros.to_string(),
    }
}

/// Reads `2026-11-24`, `2026-11-24 08:00`, or RFC 3339 with an offset; without an offset it is UTC. Unix microseconds.
pub fn parse_time(text: &str) -> Result<i64, String> {
    let civil = |moment: DateTime| TimeZone::UTC.to_timestamp(moment).ok();
    let time = text.parse::<Timestamp>().ok();
    let time = time.or_else(|| text.parse::<DateTime>().ok().and_then(civil));
    let time = time.or_else(|| civil(text.parse::<Date>().ok()?.at(0, 0, 0, 0)));
    time.map(|time| time.as_microsecond()).ok_or_else(|| {
        "not a time: write 2026-11-24, 2026-11-24T08:00 (UTC) or 2026-11-24T08:00:00+01:00".to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::super::canonical::tests::samples;
    use super::*;

    #[test]
    fn filters_hold_together() {
        let count = |filter: &Filter| samples().iter().filter(|record| filter.fits(record)).count();
        assert_eq!(count(&Filter::default()), samples().len());
        let label = |label: &str| Filter { label: Some(label.to_owned()), ..Filter::default() };
        assert_eq!(count(&label("pii.email")), 3);
        assert_eq!(count(&label("pii.*")), 3);
        assert_eq!(count(&label("pii")), 0);
        assert_eq!(count(&Filter { user: Some("bob".to_owned()), ..label("*") }), 0);
        assert_eq!(count(&Filter { statement: Some(1), ..Filter::default() }), 2);
        let at = samples()[2].time;
        assert_eq!(count(&Filter { since: Some(at), until: Some(at + 2), ..Filter::default() }), 2);
        assert_eq!(count(&Filter { connection: Some(8), ..Filter::default() }), 0);
    }

    #[test]
    fn rows_say_who_did_what_by_which_rule() {
        let rows: Vec<_> = samples().iter().map(row).collect();
        assert_eq!(rows[4][0], "2025-11-24 16:00:00.000004");
        assert_eq!(rows[4][5], "1: select email from customers  where id = $1 -- \\u{7f} ünïcode…");
        assert!(rows[4][6].starts_with("read public.customers.email mask:partial (support-desk)\nread "));
        assert_eq!(rows[5][6], "pii.email mask:partial: 2 cells");
        assert_eq!(rows[5][7], "00000, 2 rows in 1.2ms");
        assert_eq!(rows[6][7], "42501 denied");
    }

    #[test]
    fn nothing_moves_the_readers_cursor() {
        let mut record = samples().swap_remove(4);
        record.connection =
            record.connection.changed(|connection| connection.user = "\u{1b}[2J\u{202e}eve\u{9b}".to_owned());
        assert_eq!(row(&record)[2], "\\u{1b}[2J\\u{202e}eve\\u{9b}");
    }

    #[test]
    fn times_are_utc_unless_they_say_otherwise() {
        let noon = 1_764_072_000_000_000;
        for text in
            ["2025-11-25T12:00", "2025-11-25 12:00:00", "2025-11-25T13:00:00+01:00", "2025-11-25T12:00:00Z"]
        {
            assert_eq!(parse_time(text), Ok(noon), "{text}");
        }
        assert_eq!(parse_time("2025-11-25"), Ok(noon - 12 * 3_600_000_000));
        assert!(parse_time("yesterday").is_err());
    }
}

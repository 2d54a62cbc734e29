//! What an auditor is handed over: who accessed which labels how often, what was refused, what changed, and whether the log holds.
//!
//! Guarantees: counts of records in a span of time, in an order that does not depend on chance; texts of peers are made harmless
//! where they are printed. Deliberately absent: verification itself (its result is handed in), values (the log has none), files.

mod html;
mod markdown;

use super::{AuditRecord, Event, ShownCells};
use crate::policy::Hours;
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use std::collections::{BTreeMap, BTreeSet};

/// What a report covers.
#[derive(Clone, Debug)]
pub struct Span {
    /// Unix microseconds, included.
    pub from: i64,
    /// Excluded.
    pub to: i64,
    /// What counts as ordinary hours.
    pub hours: Hours,
}

/// What became of one label in one form.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    pub cells: u64,
    /// Rows that disclosed anything, of statements that read it.
    pub rows: u64,
    pub statements: u64,
    pub users: BTreeSet<String>,
}

/// What one user did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Taker {
    pub statements: u64,
    pub rows: u64,
    pub clear: u64,
    pub masked: u64,
    pub refused: u64,
    pub out_of_hours: u64,
    pub comparisons: u64,
}

/// Something that deserves a line of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incident {
    /// Unix microseconds.
    pub time: i64,
    pub who: String,
    pub what: String,
}

/// A report, to be printed.
#[derive(Clone, Debug)]
pub struct Report {
    span: Span,
    /// What verification said, in words, and whether it is good.
    pub verification: (bool, String),
    records: u64,
    /// By label and disclosure.
    access: BTreeMap<(String, String), Access>,
    takers: BTreeMap<String, Taker>,
    /// By user, SQLSTATE and reason.
    refused: BTreeMap<(String, String, String), u64>,
    /// By user and address without its port.
    failed_log_ins: BTreeMap<(String, String), u64>,
    /// Cells shown in clear and otherwise, by day (UTC).
    days: BTreeMap<Date, (u64, u64)>,
    /// Statements by hour of the day (UTC).
    hours: [u64; 24],
    /// Break-glass, step-ups, unclean ends.
    incidents: Vec<Incident>,
    /// Configurations, keys, removed segments.
    changes: Vec<Incident>,
    /// (name, digest), as of the last start or reload.
    last_files: BTreeMap<String, String>,
    /// Statements of this run of the proxy that have begun and not ended, by connection and number: the labels that they read, and
    /// how these are shown.
    open: BTreeMap<(u64, u64), BTreeSet<(String, String)>>,
}

/// Lines of one list that a report prints; what is left out is said.
const LINES_MAX: usize = 200;

impl Report {
    pub fn new(span: Span) -> Report {
        Report {
            span,
            verification: (false, "The log was not verified.".to_owned()),
            records: 0,
            access: BTreeMap::new(),
            takers: BTreeMap::new(),
            refused: BTreeMap::new(),
            failed_log_ins: BTreeMap::new(),
            days: BTreeMap::new(),
            hours: [0; 24],
            incidents: vec![],
            changes: vec![],
            last_files: BTreeMap::new(),
            open: BTreeMap::new(),
        }
    }

    /// The times that the title names: those of the records, where none were asked for.
    pub fn shown_as(&mut self, from: i64, to: i64) {
        (self.span.from, self.span.to) = (from, to);
    }

    /// Counts a record, if it is of the span.
    pub fn take(&mut self, record: &AuditRecord) {
        if !(self.span.from..self.span.to).contains(&record.time) {
            return;
        }
        self.records += 1;
        let who = &record.connection;
        match &record.event {
            Event::Intent { statement, intent } => {
                let reads = intent.uses.iter().filter(|used| used.action == "read");
                let reads = reads.map(|used| (used.label.clone(), used.disclosure.clone())).collect();
                self.open.insert((who.number, *statement), reads);
                self.intent(record);
            }
            Event::Outcome { statement, rows, cells, comparisons, .. } => {
                let reads = self.open.remove(&(who.number, *statement)).unwrap_or_default();
                let taker = self.takers.entry(who.user.clone()).or_default();
                taker.rows += rows;
                taker.comparisons += comparisons;
                self.reads(record, reads, *rows, cells);
                self.cells(record, cells);
            }
            Event::Refused { sqlstate, reason, .. } => {
                self.takers.entry(who.user.clone()).or_default().refused += 1;
                let key = (who.user.clone(), sqlstate.clone(), reason.clone());
                *self.refused.entry(key).or_default() += 1;
            }
            Event::LogInFailed { .. } => {
                let host = who.address.rsplit_once(':').map_or(who.address.as_str(), |(host, _)| host);
                *self.failed_log_ins.entry((who.user.clone(), host.to_owned())).or_default() += 1;
            }
            Event::Started { version, configuration, files } => {
                self.ended_at_once(record.time);
                self.change(record, format!("started, version {version}, configuration {configuration}"));
                self.files(record, files);
            }
            Event::Stopped => self.change(record, "stopped".to_owned()),
            Event::Reloaded { configuration, files } => {
                self.change(record, format!("configuration {configuration} holds"));
                self.files(record, files);
            }
            Event::ColumnChanged { column, from, to } => {
                let database = &who.database;
                self.change(record, format!("column {column} of database {database}: {from} → {to}"));
            }
            Event::Removed { before } => {
                self.change(record, format!("the first {before} lines of the log were removed: retention"));
            }
            Event::PersonForgotten { table } => {
                self.change(
                    record,
                    format!("a person of table {table} was forgotten: which records speak of them"),
                );
            }
            Event::KeysExported { at, to } => {
                self.change(record, format!("all keys were given out at {at}, to {to}"));
            }
            Event::DataKeyChanged { at, key, change } => {
                let of = if key.is_empty() { String::new() } else { format!("data key {key}: ") };
                self.change(record, format!("{of}{change} at {at}"));
            }
            Event::KeyChanged { key } => self.change(record, format!("the log's signing key became {key}")),
            Event::Recovered { unsigned, cut } => {
                let what = format!("unclean end: {unsigned} records had no checkpoint, {cut} bytes were cut");
                self.incidents.push(Incident { time: record.time, who: String::new(), what });
            }
            Event::SecondFactor { outcome } => self.incident(record, format!("second factor: {outcome}")),
            Event::BreakGlass { reason } => self.incident(record, format!("broke the glass: {reason}")),
            Event::LoggedIn { .. } => {}
        }
    }

    /// Which files are not what they were at the last start or reload.
    fn files(&mut self, record: &AuditRecord, files: &[(String, String)]) {
        let before = std::mem::replace(&mut self.last_files, files.iter().cloned().collect());
        if before.is_empty() {
            return;
        }
        for (file, digest) in files {
            if before.get(file) != Some(digest) {
                self.change(record, format!("{file} became {digest}"));
            }
        }
        for file in before.keys().filter(|file| files.iter().all(|(name, _)| name != *file)) {
            self.change(record, format!("{file} is read no more"));
        }
    }

    /// Statements without an outcome at a start of the proxy: it had ended without warning, or could not write.
    fn ended_at_once(&mut self, time: i64) {
        let statements = std::mem::take(&mut self.open).len();
        if statements > 0 {
            let what =
                format!("{statements} statements before this start have no outcome: the proxy was killed");
            self.incidents.push(Incident { time, who: String::new(), what });
        }
    }

    fn intent(&mut self, record: &AuditRecord) {
        let taker = self.takers.entry(record.connection.user.clone()).or_default();
        taker.statements += 1;
        if !self.span.hours.contains(record.time.div_euclid(1_000_000)) {
            taker.out_of_hours += 1;
        }
        if let Ok(time) = Timestamp::from_microsecond(record.time) {
            let hour = time.to_zoned_datetime(TimeZone::UTC).hour();
            if let Some(count) = usize::try_from(hour).ok().and_then(|hour| self.hours.get_mut(hour)) {
                *count += 1;
            }
        }
    }

    /// A statement that read these labels: what it said of itself, and whatever else it showed.
    fn reads(
        &mut self,
        record: &AuditRecord,
        mut reads: BTreeSet<(String, String)>,
        rows: u64,
        cells: &[ShownCells],
    ) {
        reads.extend(cells.iter().map(|(label, disclosure, _)| (label.to_string(), disclosure.to_string())));
        for read in reads {
            let access = self.access.entry(read).or_default();
            access.statements += 1;
            access.rows += rows;
            if !access.users.contains(&record.connection.user) {
                access.users.insert(record.connection.user.clone());
            }
        }
    }

    fn cells(&mut self, record: &AuditRecord, cells: &[ShownCells]) {
        for (label, disclosure, count) in cells {
            self.access.entry((label.to_string(), disclosure.to_string())).or_default().cells += count;
            let clear = disclosure == "clear";
            let taker = self.takers.entry(record.connection.user.clone()).or_default();
            *(if clear { &mut taker.clear } else { &mut taker.masked }) += count;
            if let Ok(time) = Timestamp::from_microsecond(record.time) {
                let day = self.days.entry(time.to_zoned_datetime(TimeZone::UTC).date()).or_default();
                *(if clear { &mut day.0 } else { &mut day.1 }) += count;
            }
        }
    }

    fn incident(&mut self, record: &AuditRecord, what: String) {
        self.incidents.push(Incident { time: record.time, who: record.connection.user.clone(), what });
    }

    fn change(&mut self, record: &AuditRecord, what: String) {
        self.changes.push(Incident { time: record.time, who: record.connection.user.clone(), what });
    }

    /// The users by what they took in clear, the biggest first.
    fn biggest(&self) -> Vec<(&String, &Taker)> {
        let mut takers: Vec<_> = self.takers.iter().collect();
        takers.sort_by_key(|(user, taker)| {
            (std::cmp::Reverse((taker.clear, taker.masked, taker.statements)), user.as_str())
        });
        takers
    }

    /// The tables of the report, each with its heading, what it says, its columns and its rows.
    fn tables(&self) -> Vec<ReportTable> {
        let access = self.access.iter().map(|((label, disclosure), access)| {
            let users: Vec<&str> = access.users.iter().map(String::as_str).collect();
            let numbers = [access.cells, access.rows, access.statements].map(|number| number.to_string());
            [vec![label.clone(), disclosure.clone()], numbers.to_vec(), vec![users.join(", ")]].concat()
        });
        let takers = self.biggest().into_iter().map(|(user, taker)| {
            let numbers = [
                taker.clear,
                taker.masked,
                taker.rows,
                taker.statements,
                taker.comparisons,
                taker.out_of_hours,
            ]
            .map(|number| number.to_string());
            [vec![user.clone()], numbers.to_vec()].concat()
        });
        let refused = self.refused.iter().map(|((user, state, reason), count)| {
            vec![user.clone(), state.clone(), reason.clone(), count.to_string()]
        });
        let failed = self
            .failed_log_ins
            .iter()
            .map(|((user, host), count)| vec![user.clone(), host.clone(), count.to_string()]);
        let lines = |incidents: &[Incident]| -> Vec<Vec<String>> {
            let line = |incident: &Incident| {
                vec![super::show::time_text(incident.time), incident.who.clone(), incident.what.clone()]
            };
            incidents.iter().map(line).collect()
        };
        vec![
            ReportTable::new(
                "Who accessed what",
                "Cells are those of sealed columns; of columns that are stored in clear rows are counted.",
                &["label", "shown as", "cells", "rows", "statements", "by"],
                access,
            ),
            ReportTable::new(
                "Who took most",
                &format!("Out of hours means outside of {}.", self.span.hours.text),
                &[
                    "user",
                    "cells in clear",
                    "cells otherwise",
                    "rows",
                    "statements",
                    "values compared",
                    "out of hours",
                ],
                takers,
            ),
            ReportTable::new("What was refused", "", &["user", "SQLSTATE", "reason", "times"], refused),
            ReportTable::new("Log-ins that failed", "", &["user", "address", "times"], failed),
            ReportTable::new(
                "Incidents",
                "Break-glass, second factors, ends that were not clean.",
                &["time (UTC)", "user", "what"],
                lines(&self.incidents).into_iter(),
            ),
            ReportTable::new(
                "Changes",
                "A configuration is named by the digest of policy, tags and settings.",
                &["time (UTC)", "user", "what"],
                lines(&self.changes).into_iter(),
            ),
        ]
    }

    /// Totals, in words.
    fn summary(&self) -> String {
        let sum = |of: fn(&Taker) -> u64| self.takers.values().map(of).sum::<u64>();
        format!(
            "{} records: {} statements by {} users; {} cells shown in clear, {} otherwise; {} statements refused.",
            self.records,
            sum(|taker| taker.statements),
            self.takers.values().filter(|taker| taker.statements > 0).count(),
            sum(|taker| taker.clear),
            sum(|taker| taker.masked),
            sum(|taker| taker.refused),
        )
    }

    fn title(&self) -> String {
        let time = |micros| super::show::time_text(micros).chars().take(16).collect::<String>();
        format!("Access to sensitive data, {} to {} UTC", time(self.span.from), time(self.span.to))
    }
}

/// One table of a report.
struct ReportTable {
    heading: String,
    note: String,
    columns: Vec<String>,
    rows: Vec<Vec<String>>,
    /// Rows that are not among `rows`.
    more: usize,
}

impl ReportTable {
    fn new(
        heading: &str,
        note: &str,
        columns: &[&str],
        rows: impl Iterator<Item = Vec<String>>,
    ) -> ReportTable {
        let mut rows: Vec<Vec<String>> = rows.collect();
        let more = rows.len().saturating_sub(LINES_MAX);
        rows.truncate(LINES_MAX);
        let columns = columns.iter().map(|&column| column.to_owned()).collect();
        ReportTable { heading: heading.to_owned(), note: note.to_owned(), columns, rows, more }
    }
}

#[cfg(test)]
mod tests;

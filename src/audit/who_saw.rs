//! Who saw one person: the statements whose outcome names them, each with what its intent said.
//!
//! Guarantees: nothing is said of a statement that the log does not say; statements that may have shown the person, but do not name whom they showed,
//! are told apart and counted. Deliberately absent: which pseudonyms the person has ([`super::persons`]), tables' borders.

use super::persons::Persons;
use super::show::{self, Person};
use super::{AuditRecord, Connection, Event, ShownCells, UsedColumn};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// One statement that showed the person, or may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// The outcome's record; the intent's where there is none.
    pub record: AuditRecord,
    /// What of the table the statement used.
    pub uses: Vec<UsedColumn>,
    pub purpose: Option<String>,
    /// The record names the person.
    pub certain: bool,
}

/// Goes through a log for one person of one table.
pub struct WhoSaw {
    person: Person,
    /// `schema.table`.
    table: String,
    database: Option<String>,
    /// Statements that have begun and not ended in this run of the proxy, and what they use of the table.
    open: BTreeMap<(u64, u64), Sighting>,
}

impl WhoSaw {
    pub fn new(person: Person, table: String, database: Option<String>) -> WhoSaw {
        WhoSaw { person, table, database, open: BTreeMap::new() }
    }

    /// Takes the log's next record; gives what it says of the person.
    pub fn take(&mut self, record: &AuditRecord) -> Vec<Sighting> {
        match &record.event {
            // Its connections have other statements; those that were under way have no outcome.
            Event::Started { .. } => self.finish(),
            Event::Intent { statement, intent } => {
                let of_table = |used: &&UsedColumn| {
                    let table = used.column.rsplit_once('.').map(|(table, _)| table);
                    used.action == "read" && table == Some(&self.table)
                };
                let uses: Vec<UsedColumn> = intent.uses.iter().filter(of_table).cloned().collect();
                if !uses.is_empty() {
                    let purpose = intent.purpose.clone();
                    let sighting = Sighting { record: record.clone(), uses, purpose, certain: false };
                    self.open.insert((record.connection.number, *statement), sighting);
                }
                vec![]
            }
            Event::Outcome { statement, rows, persons, .. } => {
                let begun = self.open.remove(&(record.connection.number, *statement));
                let certain = self.person.is_in(record);
                // One without persons is of a time when the table had no record key.
                let all_named = persons.as_ref().is_some_and(|persons| persons.more + persons.unknown == 0);
                let possible = begun.is_some() && *rows > 0 && !all_named && self.is_here(record);
                let (uses, purpose) = begun.map(|begun| (begun.uses, begun.purpose)).unwrap_or_default();
                let sighting = || Sighting { record: record.clone(), uses, purpose, certain };
                (certain || possible).then(sighting).into_iter().collect()
            }
            _ => vec![],
        }
    }

    /// What the log does not say the outcome of.
    pub fn finish(&mut self) -> Vec<Sighting> {
        let open = std::mem::take(&mut self.open).into_values();
        open.filter(|sighting| self.is_here(&sighting.record)).collect()
    }

    fn is_here(&self, record: &AuditRecord) -> bool {
        self.database.as_ref().is_none_or(|database| *database == record.connection.database)
    }
}

/// Headings of [`Sighting::row`]'s cells.
pub const HEADINGS: [&str; 8] =
    ["time (UTC)", "user", "from", "rule", "columns", "cells of all persons", "purpose", "result"];

impl Sighting {
    fn rules(&self) -> BTreeSet<&str> {
        self.uses.iter().map(|used| used.rule.as_str()).filter(|rule| !rule.is_empty()).collect()
    }

    /// How it ended, and how many persons its record names.
    fn ended(&self) -> Ended<'_> {
        match &self.record.event {
            Event::Outcome { rows, cells, sqlstate, persons, .. } => {
                Ended { rows: Some(*rows), cells, sqlstate: Some(sqlstate), persons: persons.as_ref() }
            }
            _ => Ended { rows: None, cells: &[], sqlstate: None, persons: None },
        }
    }

    /// As a table's row.
    pub fn row(&self) -> [String; 8] {
        let AuditRecord { time, connection, .. } = &self.record;
        let Connection { user, address, application, .. } = &**connection;
        let Ended { rows, cells, sqlstate, persons } = self.ended();
        let lines = |lines: Vec<String>| {
            lines.iter().map(|line| show::printable(line)).collect::<Vec<_>>().join("\n")
        };
        let columns = self.uses.iter().map(|used| format!("{} {}", used.column, used.disclosure));
        let cells = cells.iter().map(|(label, shown, cells)| format!("{label} {shown}: {cells}"));
        let whom = match (self.certain, persons) {
            (true, Some(persons)) => format!("{} persons", persons.seen.len()),
            _ => "perhaps: not known whom".to_owned(),
        };
        [
            show::time_text(*time),
            show::printable(user),
            show::printable(&format!("{application} {address}")),
            lines(self.rules().into_iter().map(str::to_owned).collect()),
            lines(columns.collect()),
            lines(cells.collect()),
            self.purpose.as_deref().map(show::printable).unwrap_or_default(),
            match (sqlstate, rows) {
                (Some(sqlstate), Some(rows)) => format!("{}, {rows} rows, {whom}", show::printable(sqlstate)),
                _ => format!("no outcome, {whom}"),
            },
        ]
    }

    /// As a program reads it.
    pub fn json(&self) -> Value {
        let AuditRecord { time, connection, event } = &self.record;
        let Connection { number, user, database, application, address } = &**connection;
        let Ended { rows, cells, sqlstate, persons } = self.ended();
        let used = |used: &UsedColumn| {
            let UsedColumn { column, label, action, rule, disclosure } = used;
            json!({ "column": column, "label": label, "action": action, "rule": rule, "disclosure": disclosure })
        };
        let cells = cells.iter().map(
            |(label, disclosure, cells)| json!({ "label": &**label, "disclosure": disclosure, "cells": cells }),
        );
        let count = |count: fn(&Persons) -> u64| persons.map(count);
        json!({
            "time": time,
            "connection": number,
            "statement": event.statement(),
            "user": user,
            "database": database,
            "application": application,
            "address": address,
            "rules": self.rules(),
            "uses": self.uses.iter().map(used).collect::<Vec<_>>(),
            "cells": cells.collect::<Vec<_>>(),
            "purpose": self.purpose,
            "rows": rows,
            "sqlstate": sqlstate,
            "certain": self.certain,
            "persons": count(|persons| persons.seen.len() as u64),
            "rows_more": count(|persons| persons.more),
            "rows_unknown": count(|persons| persons.unknown),
        })
    }
}

/// What an outcome says; nothing where there is none.
struct Ended<'s> {
    rows: Option<u64>,
    cells: &'s [ShownCells],
    sqlstate: Option<&'s str>,
    persons: Option<&'s Persons>,
}

#[cfg(test)]
mod tests {
    use super::super::canonical::tests::samples;
    use super::super::persons::Pseudonym;
    use super::*;

    fn intent() -> AuditRecord {
        samples().swap_remove(4)
    }

    fn outcome(persons: Option<Persons>) -> AuditRecord {
        let mut record = samples().swap_remove(5);
        if let Event::Outcome { persons: own, .. } = &mut record.event {
            *own = persons;
        }
        record
    }

    #[test]
    fn who_is_not_named_may_have_been_shown() {
        let ann = Pseudonym([1; 16]);
        let table = "public.customers".to_owned();
        let mut search = WhoSaw::new(Person(BTreeSet::from([ann])), table.clone(), None);
        let mut said = |persons: Option<Persons>| {
            assert_eq!(search.take(&intent()), []);
            search.take(&outcome(persons)).iter().map(|sighting| sighting.certain).collect::<Vec<_>>()
        };
        let named = |seen: [u8; 16]| Persons { seen: vec![Pseudonym(seen)], ..Persons::default() };
        assert_eq!(said(Some(named([1; 16]))), [true]);
        assert_eq!(said(Some(named([2; 16]))), [true; 0]);
        assert_eq!(said(Some(Persons { more: 1, ..named([2; 16]) })), [false]);
        assert_eq!(said(Some(Persons { unknown: 1, ..Persons::default() })), [false]);
        assert_eq!(said(None), [false], "of a time without record keys");
        // An end without warning.
        assert_eq!(search.take(&intent()), []);
        let open = search.take(&samples()[0]);
        assert_eq!(open.len(), 1);
        assert!(open[0].row()[7].starts_with("no outcome") && open[0].json()["rows"].is_null());
        let mut elsewhere = WhoSaw::new(Person(BTreeSet::from([ann])), table, Some("crm".to_owned()));
        elsewhere.take(&intent());
        assert_eq!(elsewhere.take(&outcome(None)), []);
    }
}

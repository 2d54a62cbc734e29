//! Who saw one person: the statements whose outcome names them, each with what its intent said.
//!
//! Guarantees: nothing is said of a statement that the log does not say; statements that may have shown the person, but do not name whom they showed,
//! are told apart and counted. Deliberately absent: which pseudonyms the person has ([`super::persons`]), tables' borders.

use super::show::{self, Person};
use super::{AuditRecord, Event, UsedColumn};
use serde_json::{Value, json};
use std::collections::{BTreeSet, HashMap};

/// One statement that showed the person, or may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// The outcome's record.
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
    open: HashMap<(u64, u64), (Vec<UsedColumn>, Option<String>)>,
}

impl WhoSaw {
    pub fn new(person: Person, table: String, database: Option<String>) -> WhoSaw {
        WhoSaw { person, table, database, open: HashMap::new() }
    }

    /// Takes the log's next record; gives what it says of the person.
    pub fn take(&mut self, record: &AuditRecord) -> Option<Sighting> {
        match &record.event {
            // Its connections have other numbers' statements.
            Event::Started { .. } => {
                self.open.clear();
                None
            }
            Event::Intent { statement, uses, purpose, .. } => {
                let own = uses.iter().filter(|used| {
                    used.action == "read"
                        && used.column.rsplit_once('.').is_some_and(|(table, _)| table == self.table)
                });
                let own: Vec<UsedColumn> = own.cloned().collect();
                if !own.is_empty() {
                    self.open.insert((record.connection, *statement), (own, purpose.clone()));
                }
                None
            }
            Event::Outcome { statement, persons, .. } => {
                let begun = self.open.remove(&(record.connection, *statement));
                let persons = persons.as_ref()?;
                let certain = self.person.is_in(record);
                let here = self.database.as_ref().is_none_or(|database| *database == record.database);
                let possible = begun.is_some() && here && persons.more + persons.unknown > 0;
                let (uses, purpose) = begun.unwrap_or_default();
                (certain || possible).then(|| Sighting { record: record.clone(), uses, purpose, certain })
            }
            _ => None,
        }
    }
}

/// Headings of [`Sighting::row`]'s cells.
pub const HEADINGS: [&str; 8] =
    ["time (UTC)", "user", "from", "rule", "columns", "cells of all persons", "purpose", "result"];

impl Sighting {
    fn rules(&self) -> BTreeSet<&str> {
        self.uses.iter().map(|used| used.rule.as_str()).filter(|rule| !rule.is_empty()).collect()
    }

    /// As a table's row.
    pub fn row(&self) -> [String; 8] {
        let AuditRecord { time, user, address, application, event, .. } = &self.record;
        let Event::Outcome { rows, cells, sqlstate, persons, .. } = event else { return Default::default() };
        let lines = |lines: Vec<String>| {
            lines.iter().map(|line| show::printable(line)).collect::<Vec<_>>().join("\n")
        };
        let columns = self.uses.iter().map(|used| format!("{} {}", used.column, used.disclosure));
        let cells = cells.iter().map(|(label, shown, cells)| format!("{label} {shown}: {cells}"));
        let seen = persons.as_ref().map_or(0, |persons| persons.seen.len());
        let certain = if self.certain { format!("{seen} persons") } else { "perhaps: not known".to_owned() };
        [
            show::time_text(*time),
            show::printable(user),
            show::printable(&format!("{application} {address}")),
            lines(self.rules().into_iter().map(str::to_owned).collect()),
            lines(columns.collect()),
            lines(cells.collect()),
            self.purpose.as_deref().map(show::printable).unwrap_or_default(),
            format!("{}, {rows} rows, {certain}", show::printable(sqlstate)),
        ]
    }

    /// As a program reads it.
    pub fn json(&self) -> Value {
        let AuditRecord { time, connection, user, database, address, application, event } = &self.record;
        let Event::Outcome { statement, rows, cells, sqlstate, persons, .. } = event else {
            return Value::Null;
        };
        let used = |used: &UsedColumn| {
            let UsedColumn { column, label, action, rule, disclosure } = used;
            json!({ "column": column, "label": label, "action": action, "rule": rule, "disclosure": disclosure })
        };
        let cells = cells.iter().map(
            |(label, disclosure, cells)| json!({ "label": label, "disclosure": disclosure, "cells": cells }),
        );
        let count = |count: fn(&super::persons::Persons) -> u64| persons.as_ref().map_or(0, count);
        json!({
            "time": time,
            "connection": connection,
            "statement": statement,
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

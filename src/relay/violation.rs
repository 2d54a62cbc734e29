//! Errors about a key that is violated: who reads in clear whatever they could quote reads them as PostgreSQL says them, with
//! the cells opened and recorded; nobody else reads more than that it was violated.

use super::Relay;
use super::queue::Owed;
use super::run::Gate;
use crate::catalog::{Action, Relation, State};
use crate::cell::detail::{KeyColumn, opened};
use crate::policy::Circumstances;
use crate::wire::backend::ErrorFields;

/// SQLSTATEs whose DETAIL quotes a key: unique and foreign key violations.
const QUOTES_A_KEY: [&str; 2] = ["23505", "23503"];

/// Whether such an error tells of values beside the statement's own: that one is there, or is not.
pub(super) fn tells_of_a_key(sqlstate: &str) -> bool {
    QUOTES_A_KEY.contains(&sqlstate)
}

impl Relay {
    /// Whether nothing that stands in clear is hidden from the user: what a function says in a statement's course may quote it.
    pub(super) fn reads_all_in_clear(&self) -> bool {
        let circumstances = self.session.circumstances(self.now);
        let catalog = &self.world.catalog;
        !catalog.has_clear_tags()
            || catalog.relations.values().all(|relation| self.reads_all_of(relation, &circumstances))
    }

    /// The DETAIL of an error of the head, where the user may read all that could stand in it. What is opened counts among
    /// the cells of the head's run, so one whose record waits, or that has none, opens nothing.
    pub(super) fn violated_key(&mut self, fields: &ErrorFields) -> Option<String> {
        if !tells_of_a_key(fields.sqlstate()) || !self.reaches_client() {
            return None;
        }
        if let Some(detail) = fields.get(b'D').filter(|detail| self.quotes_no_tagged_column(detail)) {
            return Some(detail.to_owned());
        }
        let run = self.queue.head().and_then(Owed::part).and_then(|part| part.run)?;
        self.runs.get(&run).filter(|run| run.gate == Gate::Open)?;
        let (schema, table) = (fields.get(b's')?, fields.get(b't')?);
        let relation = self.world.catalog.find_in(schema, table)?.clone();
        let circumstances = self.session.circumstances(self.now);
        if !self.reads_all_of(&relation, &circumstances) {
            return None;
        }
        let ciphers = &self.world.ciphers.by_domain;
        let columns: Option<Vec<KeyColumn<'_>>> = relation
            .columns
            .iter()
            .filter_map(|column| column.tag.as_ref())
            .filter(|tag| matches!(tag.state, State::Sealed { .. }))
            .map(|tag| {
                let cipher = ciphers.get(&tag.domain.name)?;
                Some(KeyColumn { cipher, data_type: tag.data_type, label: &tag.domain.label })
            })
            .collect();
        let (detail, counts) = opened(fields.get(b'D')?, &columns?, &self.session.style)?;
        let run = self.runs.get_mut(&run)?;
        for (label, cells) in counts {
            run.disclosed(label, CLEAR, cells);
        }
        Some(detail)
    }

    /// Whether the key that a DETAIL quotes is of columns whose names no tagged column has anywhere: which of two tables a foreign key's
    /// columns are of, it does not say (`ri_triggers.c` `ri_ReportViolation`).
    fn quotes_no_tagged_column(&self, detail: &str) -> bool {
        let names =
            detail.strip_prefix("Key (").and_then(|rest| rest.split_once(")=(")).map(|(names, _)| names);
        let plain = |name: &str| {
            let letters = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
            !name.is_empty() && name.chars().all(letters) && !self.world.catalog.is_tagged_name(name)
        };
        names.is_some_and(|names| names.split(", ").all(plain))
    }

    /// In clear, and as often as it likes: what an error quotes is counted by no limit.
    fn reads_all_of(&self, relation: &Relation, circumstances: &Circumstances) -> bool {
        let principal = &self.session.principal;
        relation.unreadable.is_none()
            && relation.columns.iter().filter_map(|column| column.tag.as_ref()).all(|tag| {
                let policy = &self.world.policy;
                policy.decide(principal, &tag.domain, Action::Read, circumstances).is_clear_without_limits()
            })
    }
}

/// As a disclosure in clear is called.
const CLEAR: &str = "clear";

//! The names that SQL gives in this session: PREPARE's statements and DECLARE's cursors.
//!
//! A name is kept when the server has taken it, and is good for the world it was planned in: in another world its text is
//! planned again, and where that comes to something else its use is refused until the name is given anew.

use super::{Relay, session};
use crate::plan::{Known, NameKind, Pass, Planned, StatementPlan};
use std::collections::HashMap;
use std::sync::Arc;

/// What a statement gives a name to, until the server has taken it.
#[derive(Clone)]
pub(super) struct Naming {
    pub(super) kind: NameKind,
    pub(super) name: String,
    pub(super) known: Known,
    /// As the client sent it. Holds literals: no `Debug`.
    pub(super) text: Arc<str>,
    pub(super) generation: u64,
}

/// What is kept of every name beside what planning needs.
pub(super) type Namings = HashMap<(NameKind, String), Naming>;

impl Relay {
    /// What a planned statement gives a name to. `text` is its own.
    pub(super) fn naming(&self, planned: &Planned, text: &str) -> Option<Box<Naming>> {
        match planned {
            Planned::Pass(pass) => self.naming_of_pass(pass, text),
            Planned::Plan(plan) => self.naming_of_plan(plan, text),
            Planned::Refuse(_) | Planned::Local(_) | Planned::Unresolved(_) => None,
        }
    }

    pub(super) fn naming_of_pass(&self, pass: &Pass, text: &str) -> Option<Box<Naming>> {
        let (kind, name) = pass.names.clone()?;
        let (text, generation) = (text.into(), self.world.generation);
        Some(Box::new(Naming { kind, name, known: Known::Untouched, text, generation }))
    }

    pub(super) fn naming_of_plan(&self, plan: &StatementPlan, text: &str) -> Option<Box<Naming>> {
        let defines = plan.defines.as_ref()?;
        let (kind, name, known) = (defines.kind, defines.name.clone(), Known::Definition(defines.clone()));
        Some(Box::new(Naming { kind, name, known, text: text.into(), generation: self.world.generation }))
    }

    /// The server has taken the name.
    pub(super) fn named(&mut self, naming: Naming) {
        self.session.know(naming.kind, &naming.name, Some(naming.known.clone()));
        self.namings.insert((naming.kind, naming.name.clone()), naming);
    }

    pub(super) fn unname(&mut self, kind: NameKind, name: &str) {
        self.session.know(kind, name, None);
        self.namings.remove(&(kind, name.to_owned()));
    }

    /// `DEALLOCATE ALL`, and `DISCARD ALL`, which closes cursors, too.
    pub(super) fn unname_all(&mut self, cursors: bool) {
        let gone = |kind: NameKind| cursors || kind == NameKind::Statement;
        let names: Vec<_> = self.namings.keys().filter(|(kind, _)| gone(*kind)).cloned().collect();
        for (kind, name) in names {
            self.unname(kind, &name);
        }
    }

    /// Plans names anew that were given in another world, before a text that may use them is planned.
    pub(super) fn renew_names(&mut self) {
        let generation = self.world.generation;
        let old = self.namings.values().filter(|naming| naming.generation != generation);
        let old: Vec<Naming> = old.cloned().collect();
        for mut naming in old {
            let circumstances = self.session.circumstances(self.now);
            let planning = session::planning(&self.session, &circumstances);
            let (script, _) = self.planner.plan(&naming.text, &[], &self.world, &planning);
            let same = match (script.statements.as_slice(), &naming.known) {
                ([Planned::Pass(_)], Known::Untouched) => true,
                ([Planned::Plan(plan)], Known::Definition(before)) => plan.defines.as_ref() == Some(before),
                _ => false,
            };
            if !same {
                naming.known = Known::Outdated;
            }
            naming.generation = generation;
            self.named(naming);
        }
    }
}

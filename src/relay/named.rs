//! The names that SQL gives in this session: PREPARE's statements and DECLARE's cursors; and those of the protocol's
//! statements, where EXECUTE uses them.
//!
//! A name is kept when the server has taken it, and is good for the world it was planned in: in another world its text is
//! planned again, and where that comes to something else its use is refused until the name is given anew.

use super::queue::Class;
use super::statement::{Decided, Prepared};
use super::{Relay, kinds, session};
use crate::plan::{self, Effects, Known, NameKind, Named, Ours, Pass, Planned, StatementPlan};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// What a statement gives a name to, until the server has taken it.
#[derive(Clone)]
pub(super) struct Naming {
    pub(super) kind: NameKind,
    pub(super) name: String,
    pub(super) known: Known,
    /// As the client sent it. Holds literals: no `Debug`.
    pub(super) text: Arc<str>,
    pub(super) generation: u64,
    /// Rows that a cursor disclosed so far.
    pub(super) rows: Arc<AtomicU64>,
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
        Some(Box::new(Naming { kind, name, known: Known::Untouched, text, generation, rows: Arc::default() }))
    }

    pub(super) fn naming_of_plan(&self, plan: &StatementPlan, text: &str) -> Option<Box<Naming>> {
        let defines = plan.defines.as_ref()?;
        let (kind, name, known) = (defines.kind, defines.name.clone(), Known::Definition(defines.clone()));
        let (text, generation) = (text.into(), self.world.generation);
        Some(Box::new(Naming { kind, name, known, text, generation, rows: Arc::default() }))
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

    /// What the names in `text` stand for: the session's, and those of the protocol's statements that it executes.
    pub(super) fn names_in(&mut self, text: &str) -> Arc<Named> {
        let mut named = self.session.named.clone();
        if !self.statements.any_named() || !may_execute(text) {
            return named;
        }
        for name in plan::executed(text) {
            let Some(prepared) = self.statements.get(&name).cloned() else { continue };
            if named.statements.contains_key(&name) {
                continue;
            }
            if let Some(known) = self.known(&name, &prepared) {
                let writes = prepared.class != Class::Reads;
                let effects = Effects { writes, ..Effects::default() };
                let ours = Ours { name: prepared.server_name.clone(), effects };
                let named = Arc::make_mut(&mut named);
                named.statements.insert(name.clone(), known);
                named.ours.insert(name, ours);
            }
        }
        named
    }

    /// What EXECUTE of a statement does that the protocol prepared. `None`: it is none that reads or writes rows.
    fn known(&mut self, name: &str, prepared: &Prepared) -> Option<Known> {
        // No text of these executes a name itself: what is asked here comes to an end.
        if !kinds::is_of_rows(&prepared.text) || name.is_empty() {
            return None;
        }
        if !self.still_holds(prepared) {
            return Some(Known::Outdated);
        }
        match &prepared.decided {
            Decided::Plan(plan) => Some(Known::Definition(Arc::new(plan.as_named(name, &prepared.compared)))),
            Decided::Pass(_) => Some(Known::Untouched),
            Decided::Local(_) => None,
        }
    }

    /// Plans names anew that were given in another world, before a text that may use them is planned.
    pub(super) fn renew_names(&mut self) {
        let generation = self.world.generation;
        let old = self.namings.values().filter(|naming| naming.generation != generation);
        let old: Vec<Naming> = old.cloned().collect();
        for mut naming in old {
            let circumstances = self.session.circumstances(self.now);
            let planning = session::planning(&self.session, &circumstances, &self.session.named);
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

/// Whether a statement of `text` may be EXECUTE.
fn may_execute(text: &str) -> bool {
    text.as_bytes().windows(7).any(|part| part.eq_ignore_ascii_case(b"execute"))
}

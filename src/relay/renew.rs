//! A prepared statement whose plan is out of date is prepared anew, under the same name for the client.
//!
//! PostgreSQL plans a prepared statement again when the database changes, and objects only when its result would have
//! other types. So does this: at the first Bind or Describe in another world the new plan's text is prepared beside the
//! old one's and described; where that is what the client was told of it, it takes the old one's place. The
//! client's message waits for it.

use super::errors::Positions;
use super::extended::{Rendered, verdict};
use super::queue::{Expect, Owed, Role};
use super::statement::{Decided, Prepared, Undo};
use super::{Held, Relay, cells, extended};
use crate::plan::{Refusal, StatementPlan};
use crate::wire::backend::{self, CLOSE_COMPLETE, Field, PARSE_COMPLETE};
use crate::wire::frontend::{self, Bind, Parse, Target};
use crate::wire::{Frame, Violation};
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};

/// What the client was told of a planned statement's types: it need not ask again.
#[derive(Clone, Default)]
pub(super) struct Told {
    parameters: OnceLock<Vec<u32>>,
    columns: OnceLock<Vec<Column>>,
}

/// What PostgreSQL compares of a result's column: its name, type and type modifier.
type Column = (String, u32, i32);

fn columns(fields: Vec<Field>) -> Vec<Column> {
    fields.into_iter().map(|field| (field.name, field.type_oid, field.type_modifier)).collect()
}

impl Told {
    pub(super) fn parameters(
        &self,
        types: impl FnOnce() -> Result<Vec<u32>, Violation>,
    ) -> Result<(), Violation> {
        if self.parameters.get().is_none() {
            let _ = self.parameters.set(types()?);
        }
        Ok(())
    }
    pub(super) fn columns(
        &self,
        fields: impl FnOnce() -> Result<Vec<Field>, Violation>,
    ) -> Result<(), Violation> {
        if self.columns.get().is_none() {
            let _ = self.columns.set(columns(fields()?));
        }
        Ok(())
    }
}

/// The description of a statement that was prepared anew.
pub(super) struct Renewed {
    pub(super) name: String,
    old: Arc<Prepared>,
    new: Arc<Prepared>,
    /// So far it is what the client was told.
    fits: bool,
}

impl Relay {
    /// Sees to it that the statement of a Bind or Describe was decided for this world. Gives the message back when it can
    /// be taken now. `outdated` when it is known to hold no longer.
    pub(super) fn in_this_world(&mut self, held: Held, name: &str, outdated: bool) -> Option<Held> {
        let Some(prepared) = self.statements.get(name).cloned() else { return Some(held) };
        let held = match self.past_fence(held, prepared.plan().is_some_and(|plan| !plan.uses.is_empty())) {
            Ok(held) => held?,
            Err(refusal) => {
                self.refuse_extended(&refusal, &prepared.text);
                return None;
            }
        };
        let refusal = match self.decided_now(&prepared, outdated) {
            Ok(None) => return Some(held),
            Ok(Some(decided)) if !held.renewed && !takes_types_for_granted(&held.frame, &prepared) => {
                match self.renew(name, &prepared, decided) {
                    Ok(()) => {
                        self.held = Some(Held { renewed: true, ..held });
                        return None;
                    }
                    Err(refusal) => refusal,
                }
            }
            Ok(Some(_)) => Refusal::changed(),
            Err(refusal) => refusal,
        };
        self.refuse_extended(&refusal, &prepared.text);
        None
    }

    /// Whether a prepared statement means in this world what it meant in the world of its Parse.
    pub(super) fn still_holds(&mut self, prepared: &Prepared) -> bool {
        matches!(self.decided_now(prepared, false), Ok(None))
    }

    /// What a prepared statement means now, where that is something else than it was prepared for.
    fn decided_now(&mut self, prepared: &Prepared, outdated: bool) -> Result<Option<Decided>, Refusal> {
        let on_its_path = prepared.path.as_ref().is_none_or(|path| *path == self.session.path);
        let of_its_world = prepared.generation.load(Ordering::Relaxed) == self.world.generation;
        if on_its_path && of_its_world && !outdated {
            return Ok(None);
        }
        let script = self.plan(&prepared.text, &prepared.declared);
        match (verdict(&script), &prepared.decided) {
            (extended::Verdict::Refuse(refusal), _) => return Err(refusal),
            // What it names is gone: the server says so.
            (extended::Verdict::Unresolved(_), _) => {}
            (extended::Verdict::Prepare(Decided::Pass(_)), Decided::Pass(_))
            | (extended::Verdict::Prepare(Decided::Local(_)), Decided::Local(_)) => {}
            (extended::Verdict::Prepare(Decided::Plan(now)), Decided::Plan(then))
                if same_plan(&now, then) => {}
            (extended::Verdict::Prepare(now @ (Decided::Plan(_) | Decided::Pass(_))), Decided::Plan(_)) => {
                return Ok(Some(now));
            }
            // Nobody knows what the client was told of a statement that passed.
            (extended::Verdict::Prepare(_), _) => return Err(Refusal::changed()),
        }
        if on_its_path {
            prepared.generation.store(self.world.generation, Ordering::Relaxed);
        }
        Ok(None)
    }

    /// Prepares the statement anew, beside the old one.
    fn renew(&mut self, name: &str, old: &Arc<Prepared>, decided: Decided) -> Result<(), Refusal> {
        let parse = Parse { name, sql: &old.text, types: old.declared.clone() };
        let Rendered { sent, types, compared } = self.rendered(&decided, &parse)?;
        let server_name = self.statements.further_name(name);
        let (sql, types) = match &sent {
            Some(sent) => (&**sent, types),
            None => (parse.sql, parse.types.clone()),
        };
        self.send(Parse { name: &server_name, sql, types }.encode());
        let positions =
            sent.as_deref().map_or_else(Positions::same, |sent| Positions::rewritten(sent, parse.sql, 0));
        let mut new = self.prepared(decided, &parse, server_name, positions, compared);
        new.told = old.told.clone();
        let new = Arc::new(new);
        // Where it fails, the server's unnamed statement is not the client's any more.
        let undo = || if name.is_empty() { Undo::Unnamed } else { Undo::Nothing };
        let step = |expect| {
            Owed::new(expect, Role::Step).undo(undo()).over(Some(new.positions.clone()), new.plan().is_some())
        };
        let parsed = step(Expect::One(PARSE_COMPLETE));
        let (name, old) = (name.to_owned(), old.clone());
        let described = step(Expect::Renewed(Box::new(Renewed { name, old, new: new.clone(), fits: true })));
        self.queue.push(parsed);
        self.send(frontend::encode_describe(Target::Statement, &new.server_name));
        self.queue.push(described);
        self.flush();
        Ok(())
    }

    fn renewed(&mut self) -> Option<&mut Renewed> {
        match self.queue.head_mut().map(|head| &mut head.expect) {
            Some(Expect::Renewed(renewed)) => Some(renewed),
            _ => None,
        }
    }

    /// ParameterDescription of a statement that was prepared anew.
    pub(super) fn renewed_parameters(&mut self, frame: &Frame) -> Result<(), Violation> {
        let Some(renewed) = self.renewed() else { return Ok(()) };
        let declared = &renewed.new.declared;
        let described = cells::described(renewed.new.plan(), frame, |frame, plan: &StatementPlan| {
            cells::parameters_described(frame, plan, declared)
        })?;
        if let Some(told) = renewed.old.told.parameters.get() {
            let types = described.as_ref().map(backend::parameter_description).transpose()?;
            renewed.fits &= types.as_ref() == Some(told);
        }
        renewed.fits &= described.is_some();
        Ok(())
    }

    /// Its RowDescription, or that it has no rows: it takes the old one's place, or the client reads that it changed.
    pub(super) fn renewed_columns(&mut self, frame: &Frame) -> Result<(), Violation> {
        let catalog = self.world.catalog.clone();
        let Some(renewed) = self.renewed() else { return Ok(()) };
        let described = match frame.tag() {
            backend::NO_DATA => Some(Vec::new()),
            _ => cells::described(renewed.new.plan(), frame, |frame, plan: &StatementPlan| {
                cells::rows_described(frame, plan, None, &catalog)
            })?
            .map(|frame| backend::row_description(&frame))
            .transpose()?,
        };
        let told = renewed.old.told.columns.get();
        renewed.fits &= match (described, told) {
            (Some(fields), Some(told)) => columns(fields) == *told,
            (described, None) => described.is_some(),
            (None, Some(_)) => false,
        };
        let Some(Owed { expect: Expect::Renewed(renewed), role: Role::Step, .. }) = self.queue.pop() else {
            return Ok(());
        };
        self.replace(*renewed);
        Ok(())
    }

    fn replace(&mut self, renewed: Renewed) {
        let Renewed { name, old, new, fits } = renewed;
        let gone = if fits { &old } else { &new };
        if !gone.server_name.is_empty() {
            self.send(frontend::encode_close(Target::Statement, &gone.server_name));
            self.queue.push(Owed::new(Expect::One(CLOSE_COMPLETE), Role::Step));
        }
        if fits {
            self.statements.renewed(&name, &old, new);
            return;
        }
        self.statements.failed(if name.is_empty() { Undo::Unnamed } else { Undo::Nothing });
        let refusal = Refusal::changed();
        self.refuse_extended(&refusal, &old.text);
        // The message that waits is not to be sent: the server would skip it.
        self.skipping = true;
        self.flush();
    }
}

/// Whether a Bind gives a value in binary whose type the client neither declared nor was told: nobody knows whether it
/// would still be read as it was written.
fn takes_types_for_granted(frame: &Frame, prepared: &Prepared) -> bool {
    if frame.tag() != frontend::BIND || prepared.told.parameters.get().is_some() {
        return false;
    }
    let Ok(bind) = Bind::view(frame) else { return true };
    (0..bind.parameters.len()).any(|at| {
        let format = match bind.parameter_formats.as_slice() {
            [all] => Some(all),
            each => each.get(at),
        };
        format == Some(&1) && prepared.declared.get(at).is_none_or(|declared| *declared == 0)
    })
}

/// Whether two plans send and show the same, rulings aside.
fn same_plan(one: &StatementPlan, other: &StatementPlan) -> bool {
    one.template == other.template
        && one.literals == other.literals
        && one.parameters == other.parameters
        && one.columns == other.columns
        && one.uses == other.uses
        && one.copy == other.copy
}

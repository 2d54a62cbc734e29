//! The extended protocol, client side: Parse, Bind, Describe, Execute, Close.
//!
//! What is planned is judged again at Bind and at each Execute; parameters are sealed at Bind. What is refused there
//! is replaced by the failing constant, and the server itself skips to the Sync.

use super::cells::{self, Compared};
use super::errors::Positions;
use super::queue::{Class, Expect, Owed, Part, Role};
use super::renew::Told;
use super::run::{Run, check_comparisons};
use super::statement::{self, Bound, Decided, Portal, Prepared, Undo};
use super::{Held, Relay, fence, kinds};
use crate::audit::SUCCEEDED;
use crate::cell::Formats;
use crate::cell::describe::declared_upstream;
use crate::cell::person;
use crate::plan::{Effects, Local, Pass, Planned, Reason, Refusal, Script, StatementPlan};
use crate::wire::backend::{BIND_COMPLETE, CLOSE_COMPLETE, TransactionStatus};
use crate::wire::frontend::{self, Bind, Parse, Target};
use crate::wire::{Frame, Violation};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// What a Parse becomes.
pub(super) enum Verdict {
    Prepare(Decided),
    Refuse(Refusal),
    Unresolved(Refusal),
}

/// What goes to the server of a statement that is prepared.
pub(super) struct Rendered {
    /// The text in place of the client's, where it is another one, and its parameter types.
    pub(super) sent: Option<String>,
    pub(super) types: Vec<u32>,
    /// What its literals compare.
    pub(super) compared: Compared,
}

pub(super) fn verdict(script: &Script) -> Verdict {
    match script.statements.as_slice() {
        [] => Verdict::Prepare(Decided::Pass(Pass::default())),
        [Planned::Pass(pass)] => Verdict::Prepare(Decided::Pass(pass.clone())),
        [Planned::Plan(plan)] => Verdict::Prepare(Decided::Plan(plan.clone())),
        [Planned::Refuse(refusal)] => Verdict::Refuse(refusal.clone()),
        [Planned::Local(local)] => Verdict::Prepare(Decided::Local(local.clone())),
        [Planned::Unresolved(refusal)] => Verdict::Unresolved(refusal.clone()),
        several if several.iter().all(|one| matches!(one, Planned::Pass(_))) => {
            Verdict::Prepare(Decided::Pass(Pass::default()))
        }
        _ => Verdict::Refuse(Refusal::new(
            Reason::NotUnderstood,
            "42601",
            "cannot insert multiple commands into a prepared statement",
        )),
    }
}

impl Relay {
    pub(super) fn parse(&mut self, held: Held) -> Result<(), Violation> {
        let frame = held.frame.clone();
        let parse = Parse::view(&frame)?;
        let script = self.plan(parse.sql, &parse.types);
        let Some(held) = self.looked_up(held, &script) else { return Ok(()) };
        let held = match self.past_fence(held, fence::uses(&script)) {
            Ok(Some(held)) => held,
            Ok(None) => return Ok(()),
            Err(refusal) => {
                self.refuse_extended(&refusal, parse.sql);
                return Ok(());
            }
        };
        let decided = match verdict(&script) {
            Verdict::Prepare(decided) => decided,
            Verdict::Refuse(refusal) => {
                self.refuse_extended(&refusal, parse.sql);
                return Ok(());
            }
            Verdict::Unresolved(refusal) if held.resolved => {
                self.refuse_extended(&refusal, parse.sql);
                return Ok(());
            }
            Verdict::Unresolved(_) => {
                self.refresh();
                self.held = Some(Held { resolved: true, ..held });
                return Ok(());
            }
        };
        let Rendered { sent, types, compared } = match self.rendered(&decided, &parse) {
            Ok(rendered) => rendered,
            Err(refusal) => {
                self.refuse_extended(&refusal, parse.sql);
                return Ok(());
            }
        };
        let server_name = self.statements.name_for_parse(parse.name);
        let positions = match &sent {
            None => Positions::same(),
            Some(sent) => Positions::rewritten(sent, parse.sql, 0),
        };
        match &sent {
            None if server_name.is_empty() => self.send(frame.clone()),
            None => {
                let rest = statement::after_strings(frame.body(), 1);
                let renamed = statement::message(frontend::PARSE, &[&server_name], rest);
                self.send(Frame::from_bytes(renamed));
            }
            Some(sent) => self.send(Parse { name: &server_name, sql: sent, types }.encode()),
        }
        let prepared = Arc::new(self.prepared(decided, &parse, server_name, positions, compared));
        let undo = self.statements.parsed(parse.name, &prepared);
        let (positions, planned) = (Some(prepared.positions.clone()), prepared.plan().is_some());
        let expect = Expect::Parse { name: parse.name.to_owned(), prepared };
        self.queue.push(Owed::new(expect, held.role()).undo(undo).over(positions, planned));
        self.keep(&held, planned);
        Ok(())
    }

    /// What is kept of a statement that the client prepares.
    pub(super) fn prepared(
        &self,
        decided: Decided,
        parse: &Parse<'_>,
        server_name: String,
        positions: Positions,
        compared: Compared,
    ) -> Prepared {
        let (class, kind) = match &decided {
            Decided::Pass(pass) => (kinds::class(parse.sql, pass.effects), kinds::kind(parse.sql)),
            Decided::Plan(plan) if plan.effects.writes => (Class::Writes, plan.kind),
            Decided::Plan(plan) => (Class::Reads, plan.kind),
            Decided::Local(_) => (Class::Reads, "set"),
        };
        Prepared {
            server_name,
            path: decided.bound_to(&self.session.path),
            decided,
            kind,
            class,
            text: parse.sql.into(),
            declared: parse.types.clone(),
            compared,
            positions,
            segment: self.queue.segment(),
            generation: AtomicU64::new(self.world.generation),
            told: Told::default(),
        }
    }

    pub(super) fn rendered(&mut self, decided: &Decided, parse: &Parse<'_>) -> Result<Rendered, Refusal> {
        let (sent, types, compared) = match decided {
            Decided::Pass(_) => (None, Vec::new(), Vec::new()),
            Decided::Local(local) => {
                self.check_local(local)?;
                (Some(self.local_text(local, parse.sql)), Vec::new(), Vec::new())
            }
            Decided::Plan(plan) => {
                self.judge(plan)?;
                let (sent, compared) = self.seal_literals(plan, parse.sql)?;
                (Some(sent), declared_upstream(plan, &parse.types), compared)
            }
        };
        Ok(Rendered { sent, types, compared })
    }

    pub(super) fn bind(&mut self, held: Held) -> Result<(), Violation> {
        let frame = held.frame.clone();
        let (portal, statement) = frontend::bind_names(&frame)?;
        if self.statements.lost(statement) {
            self.refuse_extended(&lost(), "");
            return Ok(());
        }
        let Some(held) = self.in_this_world(held, statement, false) else { return Ok(()) };
        let known = self.statements.get(statement).cloned();
        let mut bound = None;
        let plan = known.as_ref().and_then(|prepared| prepared.plan());
        let sent = match (&known, plan) {
            (Some(prepared), Some(plan)) => match self.sealed_bind(plan, prepared, &Bind::view(&frame)?) {
                Ok((sealed, decided)) => {
                    bound = Some(decided);
                    sealed
                }
                Err(refusal) => {
                    let masks_changed = refusal.is_changed();
                    if !masks_changed || self.in_this_world(held, statement, true).is_some() {
                        self.refuse_extended(&Refusal { position: None, ..refusal }, &prepared.text);
                    }
                    return Ok(());
                }
            },
            _ => match self.statements.server_name(statement) {
                server_name if server_name == statement => frame.clone(),
                server_name => {
                    let rest = statement::after_strings(frame.body(), 2);
                    Frame::from_bytes(statement::message(frontend::BIND, &[portal, &server_name], rest))
                }
            },
        };
        self.send(sent);
        let segment = self.queue.segment();
        let planned = bound.is_some();
        let positions = known.as_ref().map(|prepared| prepared.positions.clone());
        let bound = known.map(|statement| Portal { statement, bound, segment, run: None });
        let before = self.statements.bind(portal, bound).map(Box::new);
        let undo = Undo::Portal { name: portal.to_owned(), before };
        let owed = Owed::new(Expect::One(BIND_COMPLETE), held.role()).undo(undo);
        self.queue.push(owed.over(positions, planned));
        self.keep(&held, planned);
        Ok(())
    }

    fn sealed_bind(
        &mut self,
        plan: &Arc<StatementPlan>,
        prepared: &Prepared,
        bind: &Bind<'_>,
    ) -> Result<(Frame, Bound), Refusal> {
        let judged = self.judge(plan)?;
        let asked = &bind.result_formats;
        let formats = self.formats(plan, asked).ok_or_else(|| too_many_formats(plan, asked.len()))?;
        let mut sealed = self.seal_parameters(plan, &prepared.declared, bind)?;
        let mut compared = std::mem::take(&mut sealed.compared);
        compared.extend(prepared.compared.iter().cloned());
        let compared = cells::under_oracle(compared, plan, &judged.judgement);
        check_comparisons(plan, &judged.judgement, &compared)?;
        let frame = Bind {
            portal: bind.portal,
            statement: &prepared.server_name,
            parameter_formats: std::mem::take(&mut sealed.formats),
            parameters: sealed.values().collect(),
            result_formats: formats.server().to_vec(),
        };
        let asked = (prepared.declared.as_slice(), Some(bind));
        let pinned = person::pinned(plan, &prepared.text, asked, &self.session.style, &self.world.ciphers);
        Ok((frame.encode(), Bound { formats, compared, pinned, judged }))
    }

    /// What the server is asked for, where the client asks for this: as for the last Bind, where that was of the same. `None`: the
    /// client's codes are not as many as there are columns.
    fn formats(&mut self, plan: &Arc<StatementPlan>, asked: &[i16]) -> Option<Arc<Formats>> {
        let same = |(of, formats): &&(Arc<StatementPlan>, Arc<Formats>)| {
            Arc::ptr_eq(of, plan) && formats.asked() == asked
        };
        if let Some((_, formats)) = self.formats.as_ref().filter(same) {
            return Some(formats.clone());
        }
        // A COPY spells its rows itself.
        let columns = plan.columns.as_deref().filter(|_| plan.copy.is_none());
        let formats = Arc::new(Formats::cells_in_binary(columns, asked)?);
        self.formats = Some((plan.clone(), formats.clone()));
        Some(formats)
    }

    pub(super) fn describe(&mut self, held: Held) -> Result<(), Violation> {
        let frame = held.frame.clone();
        let (target, name) = frontend::target(&frame)?;
        if target == Target::Statement && self.statements.lost(name) {
            self.refuse_extended(&lost(), "");
            return Ok(());
        }
        let held = match target {
            Target::Portal => held,
            Target::Statement => {
                let Some(held) = self.in_this_world(held, name, false) else { return Ok(()) };
                held
            }
        };
        let expect = match target {
            Target::Statement => Expect::DescribeStatement(self.statements.get(name).cloned()),
            Target::Portal => match self.statements.portal(name) {
                Some(portal) => Expect::DescribePortal {
                    plan: portal.statement.plan().cloned(),
                    of: Some(portal.statement.clone()),
                    formats: portal.bound.as_ref().map(|bound| bound.formats.clone()),
                },
                None => Expect::DescribePortal { plan: self.declared_cursor(name), of: None, formats: None },
            },
        };
        let server_name = self.statements.server_name(name);
        let renamed = target == Target::Statement && server_name != name;
        let sent = if renamed { frontend::encode_describe(target, &server_name) } else { frame };
        self.send(sent);
        self.queue.push(Owed::new(expect, Role::Client));
        self.keep(&held, true);
        Ok(())
    }

    /// A cursor that SQL declared is a portal, too: it shows what FETCH from it shows.
    fn declared_cursor(&mut self, name: &str) -> Option<Arc<StatementPlan>> {
        match self.plan(&fetch(name), &[]).statements.as_slice() {
            [Planned::Plan(plan)] => Some(plan.clone()),
            _ => None,
        }
    }

    pub(super) fn close(&mut self, held: Held) -> Result<(), Violation> {
        let frame = held.frame.clone();
        let (target, name) = frontend::target(&frame)?;
        let mut owed = Owed::new(Expect::One(CLOSE_COMPLETE), held.role());
        match target {
            Target::Portal => {
                let before = self.statements.bind(name, None).map(Box::new);
                owed.undo = Undo::Portal { name: name.to_owned(), before };
                self.send(frame.clone());
            }
            Target::Statement => {
                let server_name = self.statements.server_name(name);
                let renamed = server_name != name;
                let sent = if renamed { frontend::encode_close(target, &server_name) } else { frame.clone() };
                owed.undo = self.statements.forget(name);
                self.send(sent);
            }
        }
        self.queue.push(owed);
        self.keep(&held, target == Target::Portal);
        Ok(())
    }

    /// A portal is gone: a run that waits in it for a further Execute has ended.
    pub(super) fn drop_portal(&mut self, portal: Option<Portal>) {
        let Some(run) = portal.and_then(|portal| portal.run) else { return };
        if !self.queue.uses_run(run) {
            self.end_run(run, SUCCEEDED);
        }
    }

    pub(super) fn execute(&mut self, held: Held) -> Result<(), Violation> {
        let frame = held.frame.clone();
        let (name, _) = frontend::execute(&frame)?;
        let name = name.to_owned();
        let Some(portal) = self.statements.portal(&name) else { return self.execute_cursor(held, &name) };
        let prepared = portal.statement.clone();
        let tried = match &prepared.decided {
            Decided::Local(Local::SetOtp(code)) if !held.stepped_up => self.stepped_up(held, code),
            _ => Ok(Some(held)),
        };
        let run = match tried {
            Ok(Some(held)) => self.run_of(held, &name),
            Ok(None) => return Ok(()),
            Err(refusal) => Err(refusal),
        };
        let (held, run) = match run {
            Ok(Some(begun)) => begun,
            Ok(None) => return Ok(()),
            Err(refusal) => {
                self.refuse_extended(&Refusal { position: None, ..refusal }, &prepared.text);
                return Ok(());
            }
        };
        let mut part = match &prepared.decided {
            Decided::Pass(pass) => {
                Part::passing(prepared.kind, prepared.class, pass.effects).of(&prepared.text)
            }
            Decided::Local(local) => {
                let part = Part::passing(prepared.kind, Class::Reads, Effects::default());
                Part { local: Some(local.clone()), ..part }
            }
            Decided::Plan(plan) => {
                let part = Part::passing(prepared.kind, prepared.class, plan.effects);
                Part { plan: Some(plan.clone()), ..part }
            }
        };
        part.run = run;
        part.positions = prepared.positions.clone();
        part.naming = match &prepared.decided {
            Decided::Pass(pass) => self.naming_of_pass(pass, &prepared.text),
            Decided::Plan(plan) => self.naming_of_plan(plan, &prepared.text),
            Decided::Local(_) => None,
        };
        if let Some(portal) = self.statements.portal_mut(&name) {
            portal.run = part.run;
        }
        self.executed(held, part, Some(name))
    }

    /// The run of a portal's plan, begun now unless it goes on, where it has one. `None`: the message waits.
    ///
    /// # Errors
    /// What policy says now, or a limit.
    fn run_of(&mut self, mut held: Held, name: &str) -> Result<Option<(Held, Option<u64>)>, Refusal> {
        let Some(portal) = self.statements.portal(name) else { return Ok(Some((held, None))) };
        let (Some(plan), Some(bound)) = (portal.statement.plan().cloned(), &portal.bound) else {
            return Ok(Some((held, None)));
        };
        let (formats, compared) = (bound.formats.clone(), bound.compared.clone());
        let pinned = bound.pinned.clone();
        let continued = portal.run;
        let at_bind = bound.judged.clone();
        let judged = self.judge_again(&at_bind)?;
        let judgement = &judged.judgement;
        if plan.uses.is_empty() {
            return Ok(Some((held, None)));
        }
        if let Some(run) = continued {
            let changes = |run: &Run| run.judgement != *judgement;
            if self.runs.get(&run).is_some_and(changes) {
                return Err(Refusal::changed());
            }
            return Ok(Some((held, continued)));
        }
        let toll = self.toll([(&*plan, judgement, &compared)]);
        if !self.paid(toll.as_ref(), held.answer.take())? {
            self.held = Some(held);
            return Ok(None);
        }
        Ok(Some((held, Some(self.begin_run(&plan, &judged, (compared, &pinned), &formats)))))
    }

    /// A cursor that SQL declared, as FETCH reads it; or nothing: the server knows.
    fn execute_cursor(&mut self, mut held: Held, name: &str) -> Result<(), Violation> {
        let mut part = Part::passing("fetch", Class::Writes, Effects::default());
        if name.is_empty() {
            return self.executed(held, part, None);
        }
        let fetch = fetch(name);
        let answer = held.answer.take();
        let sent = match self.plan(&fetch, &[]).statements.as_slice() {
            [Planned::Plan(plan)] => self.judge(plan).and_then(|judged| {
                let judgement = &judged.judgement;
                let compared = cells::under_oracle(plan.compared.clone(), plan, judgement);
                check_comparisons(plan, judgement, &compared)?;
                let toll = self.toll([(&**plan, judgement, &compared)]);
                let paid = self.paid(toll.as_ref(), answer)?;
                part.plan = Some(plan.clone());
                if paid && part.fallible() {
                    let formats = Arc::default();
                    part.run = Some(self.begin_run(plan, &judged, (compared, &vec![]), &formats));
                }
                Ok(paid)
            }),
            [Planned::Refuse(refusal)] => Err(refusal.clone()),
            _ => Ok(true),
        };
        match sent {
            Ok(true) => self.executed(held, part, None),
            Ok(false) => {
                self.held = Some(held);
                Ok(())
            }
            Err(refusal) => {
                self.refuse_extended(&Refusal { position: None, ..refusal }, &fetch);
                Ok(())
            }
        }
    }

    fn executed(&mut self, held: Held, part: Part, portal: Option<String>) -> Result<(), Violation> {
        let in_transaction = self.session.status != TransactionStatus::Idle || self.queue.unsettled();
        self.segment_hard |= part.class != Class::Reads || (part.fallible() && in_transaction);
        self.segment_other |= part.class == Class::Other;
        self.keep(&held, part.plan.is_some());
        self.send(held.frame);
        self.queue.push(Owed::new(Expect::Execute { part: Box::new(part), portal }, Role::Client));
        Ok(())
    }
}

fn fetch(cursor: &str) -> String {
    format!("FETCH \"{}\"", cursor.replace('"', "\"\""))
}

/// What PostgreSQL says of a Bind with another number of formats than the result has columns.
fn too_many_formats(plan: &StatementPlan, formats: usize) -> Refusal {
    let columns = plan.columns.as_ref().map_or(0, Vec::len);
    let message = format!("bind message has {formats} result formats but query has {columns} columns");
    Refusal::new(Reason::Value, "08P01", message)
}

/// What PostgreSQL says where there is no unnamed statement.
fn lost() -> Refusal {
    Refusal::new(Reason::Value, "26000", "unnamed prepared statement does not exist")
}

//! The simple protocol, client side: a text of statements becomes one Query, or goes statement by statement.
//!
//! Text that touches nothing tagged goes as the frame it came in. One refused statement refuses the whole text before
//! anything of it is sent. A text whose reply could fail after it has changed something goes by the extended
//! protocol (`convert`), where its Sync can wait; and so does one that gives many cells, which come in binary there.

use super::cells::{self, Compared};
use super::convert::{Conversion, Rest};
use super::errors::{Piece, Positions};
use super::judge::Judged;
use super::ledger::Answer;
use super::queue::{Class, Expect, Owed, Part, QueryReply, Role};
use super::run::check_comparisons;
use super::{Held, Relay, fence, kinds};
use crate::cell::Formats;
use crate::cell::person::{self, Pinned};
use crate::plan::{ColumnSlot, Effects, Local, Planned, Reason, Refusal, Script};
use crate::value::Style;
use crate::wire::backend::TransactionStatus;
use crate::wire::{Violation, frontend};
use std::ops::Range;
use std::sync::Arc;

/// Of a plan: what judging it said, what it compares under an oracle, and whom it names.
type Judging = (Arc<Judged>, Compared, Pinned);

/// One statement as it will be sent.
pub(super) struct Sent {
    pub(super) sql: String,
    pub(super) part: Part,
    pub(super) judged: Option<Judging>,
    /// It is the query of a COPY, whose rows are spelled here.
    pub(super) for_copy: bool,
    /// It is a COPY whose rows the client spells otherwise than the server reads them.
    pub(super) recoded: bool,
}

impl Sent {
    /// Has the query of a COPY stand for it, where one can. `text` is the client's, `span` the statement's place in it.
    fn as_query(&mut self, text: &str, span: &Range<usize>) {
        let plan = self.part.plan.clone();
        let copy = plan.as_ref().and_then(|plan| plan.copy.as_ref());
        let Some(query) = copy.and_then(|copy| copy.query(&self.sql)).map(str::to_owned) else { return };
        self.say(query, text, span);
        self.for_copy = true;
    }

    /// Has the server read the rows of a COPY … FROM in binary, where that is the same.
    fn as_recoded(&mut self, text: &str, span: &Range<usize>, style: &Style) {
        let Some(plan) = self.part.plan.as_ref().filter(|plan| !plan.habit.copies_as_spelled()) else {
            return;
        };
        let Some(copy) = plan.copy.as_ref().filter(|copy| copy.is_certain(style)) else { return };
        let Some(recoded) = copy.recoded.clone() else { return };
        self.say(recoded, text, span);
        self.recoded = true;
    }

    /// Goes as this text. `text` is the client's, `span` the statement's place in it.
    fn say(&mut self, sql: String, text: &str, span: &Range<usize>) {
        let (own, offset) = own(text, span);
        self.part.positions = Positions::rewritten(&sql, own, offset);
        self.sql = sql;
    }
}

/// A statement's own text, and how many characters stand before it.
fn own<'t>(text: &'t str, span: &Range<usize>) -> (&'t str, usize) {
    let before = text.get(..span.start).map_or(0, |before| before.chars().count());
    (text.get(span.clone()).unwrap_or(text), before)
}

enum Verdict {
    Verbatim,
    Rewrite,
    Refuse(Refusal),
    Unresolved(Refusal),
}

fn verdict(script: &Script) -> Verdict {
    let mut verdict = Verdict::Verbatim;
    for planned in &script.statements {
        match planned {
            Planned::Pass(_) => {}
            Planned::Refuse(refusal) => return Verdict::Refuse(refusal.clone()),
            Planned::Unresolved(refusal) => verdict = Verdict::Unresolved(refusal.clone()),
            Planned::Plan(_) | Planned::Local(_) => {
                if matches!(verdict, Verdict::Verbatim) {
                    verdict = Verdict::Rewrite;
                }
            }
        }
    }
    verdict
}

/// Why a statement was not sent.
pub(super) struct Unsent {
    pub(super) refusal: Refusal,
    /// A name was not found: reading the catalog again may help.
    pub(super) unresolved: bool,
}

/// The first statement after `from` that must be planned anew when an earlier one from there is through: that one changes
/// what plans are made of, and this or a later one has a plan, or passes only because of what its names mean now.
pub(super) fn dependent(script: &Script, from: usize) -> Option<usize> {
    let changes = |planned: &Planned| {
        let effects = match planned {
            Planned::Pass(pass) => pass.effects,
            Planned::Plan(plan) => plan.effects,
            Planned::Local(_) => return true,
            Planned::Refuse(_) | Planned::Unresolved(_) => return false,
        };
        effects.changes_plans()
    };
    let statements = script.statements.get(from..)?;
    let after = statements.iter().position(changes)? + 1;
    let rest = statements.get(after..)?;
    let bound = |planned: &Planned| !matches!(planned, Planned::Pass(pass) if !pass.by_meaning);
    rest.iter().any(bound).then_some(from + after)
}

/// Whether a refusal would stand whatever an earlier statement of the text does.
fn stands(planned: &Planned) -> bool {
    match planned {
        Planned::Refuse(refusal) => refusal.reason != Reason::Condition,
        Planned::Pass(_) | Planned::Plan(_) | Planned::Local(_) | Planned::Unresolved(_) => false,
    }
}

impl Relay {
    pub(super) fn query(&mut self, held: Held) -> Result<(), Violation> {
        let frame = held.frame.clone();
        let text = frontend::query_text(&frame)?;
        let script = self.plan(text, &[]);
        let Some(held) = self.looked_up(held, &script) else { return Ok(()) };
        let passed = self.past_fence(held, fence::uses(&script));
        let tried = match passed {
            Ok(Some(held)) => self.try_code(held, &script),
            waits_or_fails => waits_or_fails,
        };
        let held = match tried {
            Ok(Some(held)) => held,
            Ok(None) => return Ok(()),
            Err(refusal) => {
                self.refuse_query(&refusal, text);
                return Ok(());
            }
        };
        if let Some(at) = dependent(&script, 0)
            && !script.statements.iter().any(stands)
        {
            self.query_in_turn(held, &script, at, text);
            return Ok(());
        }
        match verdict(&script) {
            Verdict::Verbatim => {
                let parts = script.statements.iter().zip(&script.spans).map(|(planned, span)| {
                    let effects = match planned {
                        Planned::Pass(pass) => pass.effects,
                        _ => Effects::default(),
                    };
                    let own = text.get(span.clone()).unwrap_or(text);
                    let part = Part::passing(kinds::kind(own), kinds::class(own, effects), effects).of(own);
                    Part { naming: self.naming(planned, own), ..part }
                });
                let reply = QueryReply::new(parts.collect(), true);
                let undo = self.statements.forget("");
                self.send_query(frame.clone());
                self.queue.push(Owed::new(Expect::Query(Box::new(reply)), Role::Client).undo(undo));
            }
            Verdict::Refuse(refusal) => self.refuse_query(&refusal, text),
            Verdict::Unresolved(refusal) if held.resolved => self.refuse_query(&refusal, text),
            Verdict::Unresolved(_) => {
                self.refresh();
                self.held = Some(Held { resolved: true, ..held });
            }
            Verdict::Rewrite => self.rewrite(held, &script, text),
        }
        Ok(())
    }

    fn rewrite(&mut self, held: Held, script: &Script, text: &str) {
        let plans = || {
            script.statements.iter().filter_map(|planned| match planned {
                Planned::Plan(plan) => Some(plan),
                _ => None,
            })
        };
        let fallible = plans().any(|plan| !plan.uses.is_empty());
        let idle = self.session.status == TransactionStatus::Idle && !self.segment_open;
        let commits = script.statements.len() > 1
            || self.segment_open
            || (idle && plans().any(|plan| plan.effects.writes));
        if fallible && (self.queue.unsettled() || (commits && !self.queue.is_empty())) {
            // Whether a transaction is open decides how the text goes: what is owed will tell.
            self.flush();
            self.held = Some(held);
            return;
        }
        let in_binary = fallible && self.cells_want_binary(script);
        let mut sent = match self.all_sent(script, 0..script.statements.len(), text) {
            Ok(sent) => sent,
            Err(unsent) => {
                self.refuse_query(&unsent.refusal, text);
                return;
            }
        };
        let Some(held) = self.once_paid(&sent, held, text) else { return };
        let style = &self.session.style;
        sent.iter_mut().zip(&script.spans).for_each(|(sent, span)| sent.as_recoded(text, span, style));
        if in_binary {
            sent.iter_mut().zip(&script.spans).for_each(|(sent, span)| sent.as_query(text, span));
        }
        if in_binary || fallible && commits {
            self.statements.forget("");
            let again = (idle && !held.retried && !held.stepped_up).then_some(held.frame);
            self.conversion = Some(Conversion::new(sent, None, again));
            return;
        }
        self.send_joined(sent, held, fallible && !idle, idle);
    }

    /// Whether so many cells are to be expected that having them in binary is worth it: only the extended protocol can ask for that.
    fn cells_want_binary(&self, script: &Script) -> bool {
        let [Planned::Plan(plan)] = script.statements.as_slice() else { return false };
        // A COPY is there for many.
        let many = plan.copy.as_ref().map_or(plan.habit.gave_many(), |copy| copy.query.is_some());
        many && self.queue.is_empty()
            && plan.columns.as_ref().is_some_and(|columns| columns.iter().any(ColumnSlot::is_cell))
    }

    /// A text whose statements from `at` on depend on earlier ones: these go first.
    fn query_in_turn(&mut self, held: Held, script: &Script, at: usize, text: &str) {
        if !self.queue.is_empty() {
            self.flush();
            self.held = Some(held);
            return;
        }
        match self.all_sent(script, 0..at, text) {
            Ok(sent) => {
                let Some(held) = self.once_paid(&sent, held, text) else { return };
                self.statements.forget("");
                let rest = Rest { frame: held.frame, at, resolved: false, answer: None };
                self.conversion = Some(Conversion::new(sent, Some(rest), None));
            }
            Err(unsent) if unsent.unresolved && !held.resolved => {
                self.refresh();
                self.held = Some(Held { resolved: true, ..held });
            }
            Err(unsent) => self.refuse_query(&unsent.refusal, text),
        }
    }

    /// The text when what its statements compare is counted; else it waits, or was refused.
    fn once_paid(&mut self, sent: &[Sent], mut held: Held, text: &str) -> Option<Held> {
        match self.paid_for(sent, held.answer.take()) {
            Ok(true) => return Some(held),
            Ok(false) => self.held = Some(held),
            Err(refusal) => self.refuse_query(&refusal, text),
        }
        None
    }

    /// Counts what statements compare before they are sent; as `paid`.
    pub(super) fn paid_for(&mut self, sent: &[Sent], answer: Option<Answer>) -> Result<bool, Refusal> {
        let judged = sent.iter().filter_map(|sent| {
            let (judged, compared, _) = sent.judged.as_ref()?;
            Some((&**sent.part.plan.as_ref()?, &judged.judgement, compared))
        });
        let toll = self.toll(judged);
        self.paid(toll.as_ref(), answer)
    }

    /// Some statements of a text, with their literals sealed.
    ///
    /// # Errors
    /// The first that cannot be sent.
    pub(super) fn all_sent(
        &mut self,
        script: &Script,
        which: Range<usize>,
        text: &str,
    ) -> Result<Vec<Sent>, Unsent> {
        let statements = script.statements.iter().zip(&script.spans);
        statements
            .skip(which.start)
            .take(which.len())
            .map(|(planned, span)| {
                self.sent(planned, span, text).map_err(|refusal| Unsent {
                    refusal,
                    unresolved: matches!(planned, Planned::Unresolved(_)),
                })
            })
            .collect()
    }

    /// One statement's text to send, with its literals sealed.
    fn sent(&mut self, planned: &Planned, span: &Range<usize>, text: &str) -> Result<Sent, Refusal> {
        let own = text.get(span.clone()).unwrap_or(text);
        let naming = self.naming(planned, own);
        let sent = self.sent_unnamed(planned, span, text, own)?;
        Ok(Sent { part: Part { naming, ..sent.part }, ..sent })
    }

    fn sent_unnamed(
        &mut self,
        planned: &Planned,
        span: &Range<usize>,
        text: &str,
        own: &str,
    ) -> Result<Sent, Refusal> {
        let (_, offset) = self::own(text, span);
        match planned {
            Planned::Plan(plan) => {
                let judged = self.judge(plan)?;
                let (sql, compared) = self.seal_literals(plan, text)?;
                let compared = cells::under_oracle(compared, plan, &judged.judgement);
                check_comparisons(plan, &judged.judgement, &compared)?;
                let class = if plan.effects.writes { Class::Writes } else { Class::Reads };
                let mut part = Part::passing(plan.kind, class, plan.effects);
                part.plan = Some(plan.clone());
                part.positions = Positions::rewritten(&sql, own, offset);
                let style = &self.session.style;
                let pinned = person::pinned(plan, text, (&[], None), style, &self.world.ciphers);
                Ok(Sent {
                    sql,
                    part,
                    judged: Some((judged, compared, pinned)),
                    for_copy: false,
                    recoded: false,
                })
            }
            Planned::Local(local) => {
                self.check_local(local)?;
                let mut part = Part::passing("set", Class::Reads, Effects::default());
                part.local = Some(local.clone());
                part.positions = Positions::pieces(Vec::new());
                Ok(Sent {
                    sql: self.local_text(local, own),
                    part,
                    judged: None,
                    for_copy: false,
                    recoded: false,
                })
            }
            Planned::Pass(pass) => {
                let (kind, class) = (kinds::kind(own), kinds::class(own, pass.effects));
                let mut part = Part::passing(kind, class, pass.effects).of(own);
                part.positions = Positions::pieces(vec![Piece::Same(0, offset, own.chars().count())]);
                Ok(Sent { sql: own.to_owned(), part, judged: None, for_copy: false, recoded: false })
            }
            Planned::Refuse(refusal) => Err(refusal.clone()),
            Planned::Unresolved(refusal) => Err(refusal.clone()),
        }
    }

    /// Sends all statements as one Query.
    fn send_joined(&mut self, sent: Vec<Sent>, held: Held, hard: bool, idle: bool) {
        let mut text = String::new();
        let mut characters = 0;
        let mut pieces = Vec::new();
        let mut parts = Vec::with_capacity(sent.len());
        for Sent { sql, mut part, judged, recoded, .. } in sent {
            if !text.is_empty() {
                text.push_str("; ");
                characters += 2;
            }
            pieces.extend(part.positions.shifted(characters));
            characters += sql.chars().count();
            text.push_str(&sql);
            let asked = part.plan.as_ref().map_or(&[][..], |plan| plan.simple_formats());
            let formats = Arc::new(Formats::same(asked));
            self.begin_sent(&mut part, judged, recoded, &formats);
            parts.push(part);
        }
        let positions = Positions::pieces(pieces);
        for part in &mut parts {
            part.positions = positions.clone();
        }
        let single = parts.len() == 1;
        let mut reply = QueryReply::new(parts, false);
        reply.hard = hard;
        reply.again = (idle && single && !held.retried && !held.stepped_up).then_some(held.frame);
        let undo = self.statements.forget("");
        self.send_query(frontend::encode_query(&text));
        self.queue.push(Owed::new(Expect::Query(Box::new(reply)), Role::Client).undo(undo));
    }

    /// Begins the run of a statement that is sent, where it has one.
    pub(super) fn begin_sent(
        &mut self,
        part: &mut Part,
        judged: Option<Judging>,
        recoded: bool,
        formats: &Arc<Formats>,
    ) {
        let Some((judged, compared, pinned)) = judged.filter(|_| part.fallible()) else { return };
        let Some(plan) = &part.plan else { return };
        let run = self.begin_run(plan, &judged, (compared, &pinned), formats);
        if recoded {
            self.recode_copy(run);
        }
        part.run = Some(run);
    }

    /// A harmless statement that stands for a command of ours.
    pub(super) fn local_text(&self, local: &Local, own: &str) -> String {
        match local {
            // The server says where SET LOCAL has no effect.
            Local::SetPurpose { local: true, .. } => "SET LOCAL pgveil_session.state = ''".to_owned(),
            Local::SetPurpose { local: false, .. }
            | Local::SetOtp(_)
            | Local::ResetOtp
            | Local::SetBreakGlass(_) => "SET pgveil_session.state = ''".to_owned(),
            Local::ShowStatus => {
                let status = self.session.status_text(&self.world, self.now).replace('\'', "''");
                format!("SELECT '{status}' AS \"pgveil.status\"")
            }
            Local::Deallocate(name) => match self.statements.get(name) {
                Some(prepared) => format!("DEALLOCATE \"{}\"", prepared.server_name),
                None => own.to_owned(),
            },
        }
    }
}

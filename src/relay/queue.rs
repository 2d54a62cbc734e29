//! The FIFO of owed replies: one entry for each message that the server answers, in the order sent.
//!
//! Invariant: every server message but the asynchronous ones belongs to the head; an entry leaves when its reply is
//! whole, or when an error makes the server skip it. Deliberately absent: what is done with a message (`reply`).

use super::errors::Positions;
use super::named::Naming;
use super::purpose::{Savepoint, savepoint};
use super::renew::Renewed;
use super::statement::{Prepared, Undo};
use crate::cell::Formats;
use crate::plan::{Effects, Local, StatementPlan};
use crate::wire::Frame;
use crate::wire::backend::ErrorFields;
use std::collections::VecDeque;
use std::sync::Arc;

/// Entries that may be owed before no more is read from the client.
pub(super) const ENTRIES_MAX: usize = 1024;

/// Whose question it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// The client's: replies reach it.
    Client,
    /// A step of a reshaped reply: swallowed when it succeeds, its error is the client's.
    Step,
    /// It belongs to a reply that failed, of which the client was or will be told: swallowed.
    Hidden,
    /// The question for the search path: its rows are for us.
    Ask,
}

/// What a statement can do to the transaction it stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    Reads,
    /// Changes something, but neither begins nor ends a transaction.
    Writes,
    /// May begin or end a transaction, or is unknown.
    Other,
}

/// One statement on its way: of a simple query's text, or of an Execute.
pub(super) struct Part {
    pub(super) kind: &'static str,
    pub(super) class: Class,
    pub(super) plan: Option<Arc<StatementPlan>>,
    /// The disclosing run (`run.rs`) that covers its reply.
    pub(super) run: Option<u64>,
    pub(super) effects: Effects,
    pub(super) local: Option<Local>,
    pub(super) positions: Positions,
    /// What it gives a name to.
    pub(super) naming: Option<Box<Naming>>,
    pub(super) savepoint: Option<Box<Savepoint>>,
}

impl Part {
    /// A statement that goes as it is.
    pub(super) fn passing(kind: &'static str, class: Class, effects: Effects) -> Part {
        Part {
            kind,
            class,
            plan: None,
            run: None,
            effects,
            local: None,
            positions: Positions::same(),
            naming: None,
            savepoint: None,
        }
    }
    /// The statement's own text, as the client sent it.
    pub(super) fn of(self, text: &str) -> Part {
        let savepoint = match self.kind {
            "savepoint" | "release" | "rollback" => savepoint(text).map(Box::new),
            _ => None,
        };
        Part { savepoint, ..self }
    }
    /// Whether its reply may still fail after the server has succeeded.
    pub(super) fn fallible(&self) -> bool {
        self.plan.as_ref().is_some_and(|plan| !plan.uses.is_empty())
    }
}

/// The reply to a simple query.
pub(super) struct QueryReply {
    pub(super) parts: Vec<Part>,
    /// The statement whose reply is coming.
    pub(super) at: usize,
    /// After an error only ReadyForQuery is left.
    pub(super) ended: bool,
    /// Everything until ReadyForQuery is swallowed: the client was told an error of ours.
    pub(super) muted: bool,
    /// The client's frame, where it may be planned again unseen.
    pub(super) again: Option<Frame>,
    /// It stands in a transaction and may fail: what follows waits, so that the transaction can be made to fail.
    pub(super) hard: bool,
    /// Set once an error said that the plan is stale: at ReadyForQuery the frame is planned again.
    pub(super) stale: bool,
    /// Every statement passed as it was: our splitting of the text is only for effects.
    pub(super) verbatim: bool,
}

impl QueryReply {
    pub(super) fn new(parts: Vec<Part>, verbatim: bool) -> QueryReply {
        QueryReply {
            parts,
            at: 0,
            ended: false,
            muted: false,
            again: None,
            hard: false,
            stale: false,
            verbatim,
        }
    }
}

/// The failing constant as a simple query.
pub(super) struct RefusedQuery {
    /// What the client reads.
    pub(super) ours: ErrorFields,
    /// It follows a reply that failed: if the server failed by itself as well, the client still reads ours.
    pub(super) after: bool,
    /// The error went by.
    pub(super) told: bool,
}

pub(super) enum Expect {
    Parse {
        name: String,
        prepared: Arc<Prepared>,
    },
    /// A Parse of ours, or a Bind, or a Close: one message, no content.
    One(u8),
    DescribeStatement(Option<Arc<Prepared>>),
    DescribePortal {
        plan: Option<Arc<StatementPlan>>,
        of: Option<Arc<Prepared>>,
        /// `None`: as the client asked.
        formats: Option<Arc<Formats>>,
    },
    /// A Describe of ours of a statement that was prepared anew.
    Renewed(Box<Renewed>),
    Execute {
        part: Box<Part>,
        portal: Option<String>,
    },
    Query(Box<QueryReply>),
    Sync,
    /// A message of the extended protocol was replaced by the failing constant; this is what the client reads.
    Refused(Box<ErrorFields>),
    /// A simple query was; ReadyForQuery follows.
    RefusedQuery(Box<RefusedQuery>),
    /// CopyDone or CopyFail of the client: no reply of its own, marks where COPY IN ended.
    CopyEnd,
}

pub(super) struct Owed {
    pub(super) expect: Expect,
    pub(super) role: Role,
    /// What of our tables to put back when the server skips it.
    pub(super) undo: Undo,
    /// How positions map back in an error of this message, where it has no part of its own.
    pub(super) positions: Option<Positions>,
    /// It belongs to a planned statement: its errors could quote a value.
    pub(super) planned: bool,
    /// Something of the reply has left.
    pub(super) left: bool,
    /// For a Sync: a statement before it may have begun or ended a transaction.
    pub(super) unsettled: bool,
    /// Number of Syncs and simple queries sent before it, set by [`Queue::push`].
    pub(super) segment: u64,
    /// Counted among those whose reply may still fail, set by [`Queue::push`].
    awaited: bool,
}

impl Owed {
    pub(super) fn new(expect: Expect, role: Role) -> Owed {
        Owed {
            expect,
            role,
            undo: Undo::Nothing,
            positions: None,
            planned: false,
            left: false,
            unsettled: false,
            segment: 0,
            awaited: false,
        }
    }
    pub(super) fn undo(mut self, undo: Undo) -> Owed {
        self.undo = undo;
        self
    }
    pub(super) fn part(&self) -> Option<&Part> {
        match &self.expect {
            Expect::Execute { part, .. } => Some(part),
            Expect::Query(query) => query.parts.get(query.at),
            _ => None,
        }
    }
    /// Says how its errors read: where positions map to, and whether they could quote a value.
    pub(super) fn over(mut self, positions: Option<Positions>, planned: bool) -> Owed {
        self.positions = positions;
        self.planned = planned;
        self
    }
    fn parts(&self) -> &[Part] {
        match &self.expect {
            Expect::Execute { part, .. } => std::slice::from_ref(part),
            Expect::Query(query) => &query.parts,
            _ => &[],
        }
    }
    /// Whether a later plan must wait for it: it may change the path, the catalog, the pins or a name.
    pub(super) fn changes_plans(&self) -> bool {
        self.parts().iter().any(|part| part.effects.changes_plans() || part.local.is_some())
    }
    /// Whether even what is prepared must wait for it.
    pub(super) fn resets(&self) -> bool {
        let ends = |part: &Part| {
            let sets = matches!(
                part.local,
                Some(Local::SetPurpose { .. } | Local::SetOtp(_) | Local::ResetOtp | Local::SetBreakGlass(_))
            );
            part.effects.resets_session || part.effects.discards_statements || sets
        };
        self.parts().iter().any(ends)
    }
    fn fallible(&self) -> bool {
        self.parts().iter().any(Part::fallible)
    }
    /// A simple query in a transaction: all that follows waits for its reply.
    fn holds_all(&self) -> bool {
        matches!(&self.expect, Expect::Query(query) if query.hard)
    }
}

/// The queue, and counts over it so that no client message has to walk it.
#[derive(Default)]
pub(super) struct Queue {
    entries: VecDeque<Owed>,
    changes_plans: usize,
    resets: usize,
    unsettled: usize,
    syncs: usize,
    /// Number of Syncs and simple queries sent.
    segment: u64,
    /// Entries since the last Sync whose reply may still fail.
    awaited: usize,
    /// Simple queries that everything waits for.
    holding: usize,
    /// Statements that are being prepared anew.
    renewing: usize,
}

impl Queue {
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
    pub(super) fn head(&self) -> Option<&Owed> {
        self.entries.front()
    }
    /// The statement whose reply comes next, where all that is owed before it only prepares.
    pub(super) fn next_part(&self) -> Option<&Part> {
        let prepares = |owed: &&Owed| {
            matches!(
                owed.expect,
                Expect::Parse { .. }
                    | Expect::One(_)
                    | Expect::DescribeStatement(_)
                    | Expect::DescribePortal { .. }
            )
        };
        self.entries.iter().find(|owed| !prepares(owed)).and_then(Owed::part)
    }
    pub(super) fn head_mut(&mut self) -> Option<&mut Owed> {
        self.entries.front_mut()
    }
    pub(super) fn push(&mut self, mut owed: Owed) {
        owed.segment = self.segment;
        owed.awaited = owed.fallible() && owed.role == Role::Client;
        self.count(&owed, true);
        if matches!(owed.expect, Expect::Sync | Expect::Query(_) | Expect::RefusedQuery(..)) {
            self.segment += 1;
            self.awaited = 0;
        }
        self.entries.push_back(owed);
    }
    pub(super) fn pop(&mut self) -> Option<Owed> {
        let owed = self.entries.pop_front()?;
        self.count(&owed, false);
        Some(owed)
    }
    /// Takes everything up to the next Sync: what the server skips after an error.
    pub(super) fn skipped(&mut self) -> Vec<Owed> {
        let mut skipped = Vec::new();
        while self.head().is_some_and(|owed| !matches!(owed.expect, Expect::Sync)) {
            skipped.extend(self.pop());
        }
        skipped
    }
    /// Entries that must settle before a text can be planned.
    pub(super) fn changing_plans(&self) -> bool {
        self.changes_plans > 0
    }
    pub(super) fn resetting(&self) -> bool {
        self.resets > 0
    }
    /// Whether the transaction's state after all that is owed is not known.
    pub(super) fn unsettled(&self) -> bool {
        self.unsettled > 0
    }
    /// Whether a transaction that is open may end before all is answered.
    pub(super) fn may_end_transaction(&self) -> bool {
        self.unsettled > 0 || self.head().is_some_and(|head| head.segment < self.segment)
    }
    pub(super) fn has_sync(&self) -> bool {
        self.syncs > 0
    }
    pub(super) fn segment(&self) -> u64 {
        self.segment
    }
    /// Whether a pipeline before this one changes what a statement's name stands for, and is not answered.
    pub(super) fn renames_before(&self, name: &str) -> bool {
        self.entries.iter().any(|owed| owed.segment < self.segment && owed.undo.concerns(name))
    }
    /// Whether what is owed still has use for a run.
    pub(super) fn uses_run(&self, run: u64) -> bool {
        self.entries.iter().any(|owed| owed.parts().iter().any(|part| part.run == Some(run)))
    }
    /// Whether a planned copy to the server is owed its reply.
    pub(super) fn has_copy_in(&self) -> bool {
        let copies = |part: &Part| {
            part.plan.as_ref().and_then(|plan| plan.copy.as_ref()).is_some_and(|copy| copy.from)
        };
        self.entries.iter().any(|owed| owed.parts().iter().any(copies))
    }
    /// Whether a reply since the last Sync may still fail.
    pub(super) fn awaits(&self) -> bool {
        self.awaited > 0
    }
    /// Whether a simple query in a transaction may still fail.
    pub(super) fn holds(&self) -> bool {
        self.holding > 0
    }
    /// Whether a statement is being prepared anew.
    pub(super) fn renewing(&self) -> bool {
        self.renewing > 0
    }
    /// How many messages of the client's pipeline `segment` have no reply yet, where all that is owed is of that pipeline
    /// or its Sync.
    pub(super) fn owed_of(&self, segment: u64) -> Option<usize> {
        let mut owed = 0;
        for entry in &self.entries {
            if entry.segment != segment || entry.role == Role::Ask {
                return None;
            }
            owed += usize::from(entry.role == Role::Client && !matches!(entry.expect, Expect::Sync));
        }
        Some(owed)
    }
    /// The replies from the head to before the next Sync no longer reach the client, and nothing waits for them.
    pub(super) fn mute_segment(&mut self) {
        let mut released = 0;
        for owed in &mut self.entries {
            if matches!(owed.expect, Expect::Sync) {
                break;
            }
            if owed.role != Role::Ask {
                owed.role = Role::Hidden;
            }
            if std::mem::take(&mut owed.awaited) && owed.segment == self.segment {
                released += 1;
            }
        }
        self.awaited = self.awaited.saturating_sub(released);
    }
    /// The runs of what is owed before the next Sync.
    pub(super) fn runs_before_sync(&self) -> Vec<u64> {
        let before_sync = self.entries.iter().take_while(|owed| !matches!(owed.expect, Expect::Sync));
        before_sync.flat_map(|owed| owed.parts().iter().filter_map(|part| part.run)).collect()
    }
    /// Puts back what the muted entries changed in our tables: for the client they never happened.
    pub(super) fn take_undo(&mut self) -> Vec<Undo> {
        let before_sync = self.entries.iter_mut().take_while(|owed| !matches!(owed.expect, Expect::Sync));
        before_sync.map(|owed| std::mem::take(&mut owed.undo)).collect()
    }
    /// COPY IN began at the head: the server ignores every Sync that it reads before the copy's end.
    pub(super) fn forget_syncs_in_copy(&mut self) {
        let mut index = 1;
        while let Some(owed) = self.entries.get(index) {
            match owed.expect {
                Expect::CopyEnd => break,
                Expect::Sync => {
                    if let Some(owed) = self.entries.remove(index) {
                        self.count(&owed, false);
                    }
                }
                _ => index += 1,
            }
        }
    }

    fn count(&mut self, owed: &Owed, add: bool) {
        let change = |count: &mut usize, counts: bool| {
            if counts {
                *count = if add { *count + 1 } else { count.saturating_sub(1) };
            }
        };
        change(&mut self.changes_plans, owed.changes_plans());
        change(&mut self.resets, owed.resets());
        let unsettled = owed.unsettled || owed.parts().iter().any(|part| part.class == Class::Other);
        change(&mut self.unsettled, unsettled);
        change(&mut self.syncs, matches!(owed.expect, Expect::Sync));
        change(&mut self.holding, owed.holds_all());
        change(&mut self.renewing, matches!(owed.expect, Expect::Renewed(_)));
        change(&mut self.awaited, owed.awaited && owed.segment == self.segment);
    }
}

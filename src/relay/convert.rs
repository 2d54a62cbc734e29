//! A simple query by the extended protocol, where its reply may still fail after the server has succeeded.
//!
//! Each statement is sent as Parse, Bind, Describe, Execute and Flush once the one before it is through; only then Sync
//! lets the server commit. The client sees what a simple query would give it. The unnamed statement and portal are
//! used: a simple query destroys them anyway. What depends on an earlier statement of the text (a table it makes, a path
//! it sets) is planned when that is through; if it is refused then, the server rolls all back.

use super::Relay;
use super::ledger::Answer;
use super::queue::{Expect, Owed, Role};
use super::simple::{Sent, Unsent, dependent};
use crate::cell::Formats;
use crate::plan::StatementPlan;
use crate::wire::backend::{BIND_COMPLETE, PARSE_COMPLETE};
use crate::wire::frontend::{self, Bind, Parse, Target};
use crate::wire::{Frame, Violation};
use std::collections::VecDeque;
use std::sync::Arc;

/// What of a text is planned only once what stands before it is through.
pub(super) struct Rest {
    pub(super) frame: Frame,
    /// The first statement that is left.
    pub(super) at: usize,
    /// The catalog was read again for it.
    pub(super) resolved: bool,
    /// What the ledger said to what was asked for it.
    pub(super) answer: Option<Answer>,
}

pub(super) struct Conversion {
    left: VecDeque<Sent>,
    rest: Option<Rest>,
    /// A statement is on its way.
    running: bool,
    /// The Sync was sent.
    ending: bool,
    /// Something of the reply has left.
    pub(super) told: bool,
    /// The client's frame, where it may be planned again unseen.
    pub(super) again: Option<Frame>,
    pub(super) stale: bool,
}

impl Conversion {
    pub(super) fn new(sent: Vec<Sent>, rest: Option<Rest>, again: Option<Frame>) -> Conversion {
        Conversion {
            left: sent.into(),
            rest,
            running: false,
            ending: false,
            told: false,
            again,
            stale: false,
        }
    }
    /// More of the text was planned.
    pub(super) fn goes_on(&mut self, sent: Vec<Sent>, rest: Option<Rest>) {
        self.left = sent.into();
        self.rest = rest;
    }
    /// The ledger's answer, for what is left.
    pub(super) fn answered(&mut self, answer: Answer) {
        if let Some(rest) = &mut self.rest {
            rest.answer = Some(answer);
        }
    }
    /// The statement on its way is through.
    pub(super) fn through(&mut self) {
        self.running = false;
    }
    /// Nothing more of the text is sent: it failed.
    pub(super) fn abandon(&mut self) {
        self.left.clear();
        self.rest = None;
        self.running = false;
    }
    /// The failing constant is on its way.
    pub(super) fn failing(&mut self) {
        self.left.clear();
        self.rest = None;
        self.running = true;
    }
    pub(super) fn is_ending(&self) -> bool {
        self.ending
    }
}

impl Relay {
    /// Sends what comes next of a converted query, if it is time.
    pub(super) fn drive_conversion(&mut self) -> Result<(), Violation> {
        let Some(conversion) = &mut self.conversion else { return Ok(()) };
        if conversion.running || conversion.ending {
            return Ok(());
        }
        if conversion.left.is_empty()
            && let Some(rest) = conversion.rest.take()
        {
            return self.plan_rest(rest);
        }
        match conversion.left.pop_front() {
            Some(sent) => {
                conversion.running = true;
                self.send_step(sent);
            }
            None => {
                conversion.ending = true;
                self.send(frontend::encode_sync());
                self.queue.push(Owed::new(Expect::Sync, Role::Client));
                self.synced();
            }
        }
        Ok(())
    }

    /// Plans what is left of the text up to the next statement that later ones depend on, once that can be done.
    fn plan_rest(&mut self, mut rest: Rest) -> Result<(), Violation> {
        let busy = self.settle.refreshing || self.settle.asking || self.asking.client;
        let waits = busy || self.unsettled(frontend::QUERY)?;
        if waits {
            self.keep_rest(rest);
            return Ok(());
        }
        let frame = rest.frame.clone();
        let text = frontend::query_text(&frame)?;
        let script = self.plan(text, &[]);
        let end = dependent(&script, rest.at).unwrap_or(script.statements.len());
        let sent = match self.all_sent(&script, rest.at..end, text) {
            Ok(sent) => match self.paid_for(&sent, rest.answer.take()) {
                Ok(true) => Ok(sent),
                Ok(false) => {
                    self.keep_rest(rest);
                    return Ok(());
                }
                Err(refusal) => Err(Unsent { refusal, unresolved: false }),
            },
            Err(unsent) => Err(unsent),
        };
        match sent {
            Ok(sent) => {
                let next =
                    (end < script.statements.len()).then_some(Rest { at: end, resolved: false, ..rest });
                if let Some(conversion) = &mut self.conversion {
                    conversion.goes_on(sent, next);
                }
                self.drive_conversion()
            }
            Err(unsent) if unsent.unresolved && !rest.resolved => {
                rest.resolved = true;
                self.refresh();
                self.keep_rest(rest);
                Ok(())
            }
            Err(unsent) => {
                if let Some(conversion) = &mut self.conversion {
                    conversion.failing();
                }
                self.refuse_extended(&unsent.refusal, text);
                self.flush();
                Ok(())
            }
        }
    }

    fn keep_rest(&mut self, rest: Rest) {
        if let Some(conversion) = &mut self.conversion {
            conversion.rest = Some(rest);
        }
    }

    fn send_step(&mut self, sent: Sent) {
        let Sent { sql, mut part, judged, for_copy, recoded } = sent;
        let of_rows = |plan: &&Arc<StatementPlan>| for_copy || plan.copy.is_none();
        let columns = part.plan.as_ref().filter(of_rows).and_then(|plan| plan.columns.as_deref());
        let asked = part.plan.as_ref().map_or(&[][..], |plan| plan.simple_formats());
        let formats = Formats::cells_in_binary(columns, asked).map(Arc::new).unwrap_or_default();
        self.begin_sent(&mut part, judged, recoded, &formats);
        self.segment_hard = true;
        self.send(Parse { name: "", sql: &sql, types: Vec::new() }.encode());
        let hidden = |code| Owed::new(Expect::One(code), Role::Step);
        let parsed = hidden(PARSE_COMPLETE).over(Some(part.positions.clone()), part.plan.is_some());
        self.queue.push(parsed);
        let bind = Bind {
            portal: "",
            statement: "",
            parameter_formats: Vec::new(),
            parameters: Vec::new(),
            result_formats: formats.server().to_vec(),
        };
        self.send(bind.encode());
        self.queue.push(hidden(BIND_COMPLETE));
        self.send(frontend::encode_describe(Target::Portal, ""));
        let described = Expect::DescribePortal { plan: part.plan.clone(), of: None, formats: Some(formats) };
        self.queue.push(Owed::new(described, Role::Client));
        self.send(frontend::encode_execute("", 0));
        self.queue.push(Owed::new(Expect::Execute { part: Box::new(part), portal: None }, Role::Client));
        self.flush();
    }
}

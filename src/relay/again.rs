//! A pipeline whose plan proved stale is sent again, unseen.
//!
//! The client's messages of the newest pipeline are kept while it holds planned statements alone and is short. Where one
//! of them fails because the database changed under its plan, and the client has read nothing but completions that it
//! would read again, the server's Sync is awaited, the catalog read, and all is taken as if it had just come. Once.
//! Not possible in a transaction, nor when the Sync has not come or something after it was sent: then the client reads
//! that the plan changed, as PostgreSQL would say it.

use super::queue::{Expect, Owed, Role};
use super::{Held, Relay};
use crate::wire::backend::TransactionStatus;
use crate::wire::frontend::{self, Bind, Parse, Target};
use crate::wire::{Frame, Violation};
use std::collections::VecDeque;

/// Bytes of a pipeline that are kept.
const KEPT_MAX: usize = 64 * 1024;

/// The pipeline that may have to be sent again.
#[derive(Default)]
pub(super) struct Again {
    /// Its messages: shares of what was read, no copies.
    frames: Vec<Frame>,
    bytes: usize,
    /// Which pipeline it is, as the queue counts them.
    segment: u64,
    /// All its messages so far are kept.
    kept: bool,
    /// With its Sync.
    whole: bool,
    /// How many of its messages were answered when it proved stale.
    stale: Option<usize>,
    /// It is on its way again: what is still to be taken.
    left: VecDeque<Held>,
    sending: bool,
}

impl Again {
    fn keep(&mut self, segment: u64, frame: &Frame, planned: bool) {
        if self.segment != segment {
            self.forget();
            self.segment = segment;
            self.kept = true;
        }
        self.bytes += frame.bytes().len();
        if self.kept && planned && self.bytes <= KEPT_MAX {
            self.frames.push(frame.clone());
        } else {
            self.kept = false;
            self.frames.clear();
        }
    }
    pub(super) fn forget(&mut self) {
        self.frames.clear();
        self.bytes = 0;
        self.kept = false;
        self.whole = false;
    }
    /// The pipeline is not to be sent again: something in it was refused.
    pub(super) fn give_up(&mut self, segment: u64) {
        self.forget();
        self.segment = segment;
    }
    /// Its Sync was sent.
    pub(super) fn synced(&mut self, segment: u64) {
        self.whole = self.kept && self.segment == segment;
    }
    /// A pipeline was answered.
    pub(super) fn answered(&mut self, segment: u64) {
        if self.segment == segment {
            self.forget();
        }
    }
    /// Nothing else of the client's is taken before it is through.
    pub(super) fn is_busy(&self) -> bool {
        self.sending || self.stale.is_some()
    }
}

impl Held {
    /// Whose question a message's completion answers: the client's, unless it was told already.
    pub(super) fn role(&self) -> Role {
        if self.silent { Role::Step } else { Role::Client }
    }
}

impl Relay {
    /// Keeps a message that was sent, for where its pipeline must be sent again.
    pub(super) fn keep(&mut self, held: &Held, planned: bool) {
        if !self.again.sending {
            self.again.keep(self.queue.segment(), &held.frame, planned);
        }
    }

    /// Whether the head's pipeline may be sent again unseen; marks it so.
    pub(super) fn pipeline_again(&mut self) -> bool {
        let Some(head) = self.queue.head() else { return false };
        let again = &self.again;
        let sync_waits = self.held.as_ref().is_some_and(|held| held.frame.tag() == frontend::SYNC);
        let whole = if again.whole { self.held.is_none() } else { again.kept && sync_waits };
        if !whole
            || again.is_busy()
            || again.segment != head.segment
            || head.left
            || head.role != Role::Client
            || self.session.status != TransactionStatus::Idle
            || self.conversion.is_some()
        {
            return false;
        }
        let owed = self.queue.owed_of(head.segment);
        let Some(answered) = owed.and_then(|owed| again.frames.len().checked_sub(owed)) else { return false };
        if !repeatable(&again.frames, answered) {
            return false;
        }
        self.again.stale = Some(answered);
        true
    }

    /// The same where the server has not failed, and what it still says of the pipeline is to go nowhere.
    pub(super) fn pipeline_again_after(&mut self) -> bool {
        let before = self.again.stale;
        if !self.pipeline_again() {
            return false;
        }
        let rest = self.again.stale.and_then(|answered| self.again.frames.get(answered..));
        if rest.is_none_or(|rest| rest.iter().any(|frame| frame.tag() == frontend::PARSE)) {
            // The server will take it, or has.
            self.again.stale = before;
            return false;
        }
        self.mute_unseen();
        true
    }

    /// Its replies go nowhere. Where something could be committed with them, the server is made to fail.
    fn mute_unseen(&mut self) {
        let synced = self.queue.has_sync();
        for run in self.queue.runs_before_sync() {
            self.end_run(run, "0A000");
        }
        self.queue.mute_segment();
        for undo in self.queue.take_undo().into_iter().rev() {
            let gone = self.statements.disown(undo);
            self.drop_portal(gone);
        }
        if !synced && self.segment_hard {
            self.send_hidden_constant();
            self.flush();
        }
        self.skipping |= !synced;
    }

    /// The pipeline's Sync was answered: if it proved stale, it is taken again in the world as it is now.
    pub(super) fn take_pipeline_again(&mut self, owed: &Owed) -> bool {
        if !matches!(owed.expect, Expect::Sync) || owed.role != Role::Client {
            return false;
        }
        let Some(answered) = self.again.stale.take().filter(|_| owed.segment == self.again.segment) else {
            self.again.answered(owed.segment);
            return false;
        };
        let frames = std::mem::take(&mut self.again.frames);
        let taken = |(at, frame): (usize, Frame)| {
            let silent = at < answered;
            // A named statement lives on in the server.
            let lives = silent && frame.tag() == frontend::PARSE && !is_of_unnamed(&frame);
            (!lives).then(|| Held { silent, resolved: true, ..Held::new(frame) })
        };
        self.again.left = frames.into_iter().enumerate().filter_map(taken).collect();
        self.again.left.push_back(Held::new(frontend::encode_sync()));
        self.again.sending = true;
        self.settle.catalog_stale = false;
        self.refresh();
        true
    }

    /// The next message of a pipeline that is sent again.
    pub(super) fn next_again(&mut self) -> Option<Held> {
        let next = self.again.left.pop_front();
        self.again.sending = next.is_some();
        next
    }
}

/// Whether the messages can be taken again when the first `answered` of them were answered.
fn repeatable(frames: &[Frame], answered: usize) -> bool {
    let completes = |frame: &Frame| matches!(frame.tag(), frontend::PARSE | frontend::BIND | frontend::CLOSE);
    let parses = frames.iter().position(|frame| frame.tag() == frontend::PARSE && is_of_unnamed(frame));
    let uses = frames.iter().position(|frame| frame.tag() != frontend::PARSE && is_of_unnamed(frame));
    // What a later Parse of the unnamed statement replaced cannot be had again.
    let replaced = uses.zip(parses).is_some_and(|(used, parsed)| used < parsed);
    frames.iter().take(answered).all(completes) && !replaced
}

/// Whether a message is about the unnamed statement.
fn is_of_unnamed(frame: &Frame) -> bool {
    let name = match frame.tag() {
        frontend::PARSE => Parse::view(frame).map(|parse| parse.name),
        frontend::BIND => Bind::view(frame).map(|bind| bind.statement),
        frontend::DESCRIBE => match frontend::target(frame) {
            Ok((Target::Portal, _)) => return false,
            target => target.map(|(_, name)| name),
        },
        _ => return false,
    };
    name == Ok::<_, Violation>("")
}

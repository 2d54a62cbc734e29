//! The client's messages: which must wait, and who takes each.
//!
//! A message waits when it would be planned by something not yet known, or when it could commit what may still fail
//! (a barrier). What waits is one message: the pump reads no more until it is gone. While waiting the server is
//! asked to flush, so that what is waited for comes.

use super::queue::{Class, ENTRIES_MAX, Expect, Owed, Role};
use super::{Held, Relay, statement};
use crate::plan::{Reason, Refusal};
use crate::wire::frontend::{self, Target};
use crate::wire::{Frame, Violation};

impl Relay {
    /// Takes a message, or holds it.
    pub(super) fn admit(&mut self, held: Held) -> Result<(), Violation> {
        let Some(held) = self.copy_message(held)? else { return Ok(()) };
        if self.must_wait(&held.frame)? {
            self.held = Some(held);
            return Ok(());
        }
        self.take(held)
    }

    /// Goes on with what was held, as far as it goes.
    pub(super) fn resume(&mut self) -> Result<(), Violation> {
        if self.closed {
            return Ok(());
        }
        self.drive_conversion()?;
        while let Some(held) = self.held.take().or_else(|| self.next_again()) {
            self.admit(held)?;
            self.drive_conversion()?;
            if self.held.is_some() {
                break;
            }
        }
        Ok(())
    }

    fn must_wait(&mut self, frame: &Frame) -> Result<bool, Violation> {
        let tag = frame.tag();
        let skipped = self.skipping && tag != frontend::SYNC;
        let flows = matches!(tag, frontend::FLUSH | frontend::TERMINATE);
        if self.closed || skipped || flows {
            return Ok(false);
        }
        let busy = self.settle.refreshing || self.settle.asking || self.asking.client;
        if self.conversion.is_some() || busy || self.queue.holds() {
            self.flush();
            return Ok(true);
        }
        if self.queue.renewing() || self.barrier(tag, frame)? || self.unsure_of_name(tag, frame)? {
            self.flush();
            return Ok(true);
        }
        self.unsettled(tag)
    }

    /// Whether what the message's statement name stands for hangs on how an earlier pipeline ends.
    fn unsure_of_name(&self, tag: u8, frame: &Frame) -> Result<bool, Violation> {
        let name = match tag {
            frontend::PARSE => statement::first_string(frame.body(), 0),
            frontend::BIND => statement::first_string(frame.body(), 1),
            frontend::DESCRIBE | frontend::CLOSE => match frontend::target(frame)? {
                (Target::Statement, name) => name,
                (Target::Portal, _) => return Ok(false),
            },
            _ => return Ok(false),
        };
        let of_this_pipeline =
            || self.statements.get(name).is_some_and(|known| known.segment == self.queue.segment());
        let replaces = name.is_empty() && tag == frontend::PARSE;
        Ok(!replaces && self.queue.renames_before(name) && !of_this_pipeline())
    }

    /// Whether the message could commit, or end the transaction of, something whose reply may still fail.
    fn barrier(&self, tag: u8, frame: &Frame) -> Result<bool, Violation> {
        if !self.queue.awaits() {
            return Ok(false);
        }
        Ok(match tag {
            frontend::SYNC => self.segment_hard,
            frontend::QUERY | frontend::FUNCTION_CALL => true,
            frontend::EXECUTE => {
                let (portal, _) = frontend::execute(frame)?;
                self.statements.portal(portal).is_some_and(|portal| portal.statement.class == Class::Other)
            }
            // If the reply fails the client must find the statement that it would have closed.
            frontend::CLOSE => frontend::target(frame)?.0 == Target::Statement,
            _ => false,
        })
    }

    fn take(&mut self, held: Held) -> Result<(), Violation> {
        let tag = held.frame.tag();
        let known = matches!(
            tag,
            frontend::QUERY
                | frontend::PARSE
                | frontend::BIND
                | frontend::DESCRIBE
                | frontend::EXECUTE
                | frontend::CLOSE
                | frontend::FLUSH
                | frontend::FUNCTION_CALL
        );
        match tag {
            frontend::SYNC => self.sync(held.frame),
            frontend::TERMINATE => self.forward(held.frame.into_bytes()),
            _ if known && self.skipping => {}
            frontend::QUERY if frontend::is_garbled(&held.frame) => self.refuse_query(&garbled(), ""),
            frontend::PARSE if frontend::is_garbled(&held.frame) => self.refuse_extended(&garbled(), ""),
            frontend::QUERY => self.query(held)?,
            frontend::PARSE => self.parse(held)?,
            frontend::BIND => self.bind(held)?,
            frontend::DESCRIBE => self.describe(held)?,
            frontend::EXECUTE => self.execute(held)?,
            frontend::CLOSE => self.close(held)?,
            frontend::FLUSH => self.flush(),
            frontend::FUNCTION_CALL => self.refuse_query(&function_call(), "function call"),
            _ => return Err(Violation(format!("invalid frontend message type {tag}"))),
        }
        if self.queue.len() >= ENTRIES_MAX {
            self.flush();
        }
        Ok(())
    }

    pub(super) fn sync(&mut self, frame: Frame) {
        self.forward(frame.into_bytes());
        self.again.synced(self.queue.segment());
        let mut owed = Owed::new(Expect::Sync, Role::Client);
        owed.unsettled = self.segment_other;
        self.queue.push(owed);
        self.synced();
    }

    /// A Sync of whoever was sent: a new pipeline begins.
    pub(super) fn synced(&mut self) {
        self.skipping = false;
        self.unflushed = false;
        self.segment_open = false;
        self.segment_hard = false;
        self.segment_other = false;
    }

    /// Sends a message of the extended protocol.
    pub(super) fn send(&mut self, frame: Frame) {
        self.unflushed = true;
        self.segment_open = true;
        self.forward(frame.into_bytes());
    }

    /// Sends a simple query: its reply comes by itself, and what was open before it is closed.
    pub(super) fn send_query(&mut self, frame: Frame) {
        self.unflushed = false;
        self.segment_open = false;
        self.segment_hard = false;
        self.forward(frame.into_bytes());
    }

    pub(super) fn forward(&mut self, bytes: bytes::Bytes) {
        self.out.server(bytes);
    }

    /// Has the server send what it owes, when it might be keeping it back.
    pub(super) fn flush(&mut self) {
        if std::mem::take(&mut self.unflushed) {
            self.forward(frontend::encode_flush().into_bytes());
        }
    }
}

/// `mbutils.c` `report_invalid_encoding`, which quotes the bytes, too.
fn garbled() -> Refusal {
    Refusal::new(Reason::Value, "22021", "invalid byte sequence for encoding \"UTF8\"")
}

fn function_call() -> Refusal {
    Refusal::new(Reason::NotUnderstood, "0A000", "function call messages are not supported through pgveil")
        .hint("Call the function in a SELECT.")
}

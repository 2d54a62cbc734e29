//! What waits for the writer: one queue, in the order of submission.
//!
//! A record that somebody waits for wakes the writer; one that nobody waits for does not while the writer is busy or was a
//! moment ago: it goes with the next group, or alone after [`LINGER`]. So a statement's outcome costs no group of its own.
//! Guarantees: bounded; nothing that was accepted is lost while the thread lives. Deliberately absent: what a record means.

use super::{Message, Unrecorded, writer_ended};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// What the writer is to do.
pub(super) enum Awaited {
    Messages,
    /// Nothing has come for [`LINGER`].
    Quiet,
    /// Nothing is left, and no more will come.
    End,
}

/// How long a record that nobody waits for may wait for company. After a crash its statement shows as one without outcome.
const LINGER: Duration = Duration::from_millis(50);

/// How long the writer sleeps when nothing comes, before it looks after old segments.
const NAP: Duration = Duration::from_secs(30);

pub(super) struct Queue {
    state: Mutex<State>,
    filled: Condvar,
    emptied: Notify,
    most: usize,
}

#[derive(Default)]
struct State {
    messages: Vec<Message>,
    /// Somebody waits for one of them.
    urgent: bool,
    /// The writer was not woken for it: whoever left it sees to that.
    unwoken: bool,
    /// Somebody has written since the last quiet moment, maybe not the thread, which then does not know what.
    grabbed: bool,
    /// The writer sleeps until it is woken.
    asleep: bool,
    /// No more will come, or the writer has ended.
    closed: bool,
}

impl Queue {
    /// `most` messages may wait.
    pub(super) fn new(most: usize) -> Queue {
        Queue { state: Mutex::default(), filled: Condvar::new(), emptied: Notify::new(), most: most.max(1) }
    }

    /// Every state of the queue is whole, whoever panicked.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes the writer where it should go to work now.
    ///
    /// # Errors
    /// There is no room, or no writer; the message comes back.
    pub(super) fn push(&self, message: Message) -> Result<(), (Message, Unrecorded)> {
        self.leave(message, true)
    }

    /// As [`push`](Self::push), for one who sees to it that the message is written: by [`grab`](Self::grab), or by
    /// [`wake`](Self::wake). Should it not come to that, the writer finds it after [`LINGER`].
    pub(super) fn push_unseen(&self, message: Message) -> Result<(), (Message, Unrecorded)> {
        self.leave(message, false)
    }

    /// Wakes the writer for what was [left unseen](Self::push_unseen), unless it was written meanwhile, or another did.
    pub(super) fn wake(&self) {
        let unwoken = std::mem::take(&mut self.state().unwoken);
        if unwoken {
            self.filled.notify_one();
        }
    }

    fn leave(&self, message: Message, seen: bool) -> Result<(), (Message, Unrecorded)> {
        let mut state = self.state();
        if state.closed {
            return Err((message, writer_ended()));
        }
        if state.messages.len() >= self.most {
            return Err((message, Unrecorded("too many records wait for the audit log".to_owned())));
        }
        let urgent = message.is_awaited();
        state.messages.push(message);
        let due = urgent && !state.urgent;
        let wake = seen && due || state.asleep;
        state.unwoken |= due && !wake;
        state.urgent |= urgent;
        state.asleep = false;
        drop(state);
        if wake {
            self.filled.notify_one();
        }
        Ok(())
    }

    /// Waits for room.
    pub(super) async fn push_when_room(&self, mut message: Message) -> Result<(), Unrecorded> {
        loop {
            // Before looking, so that no room is missed.
            let emptied = self.emptied.notified();
            match self.push(message) {
                Ok(()) => return Ok(()),
                Err((_, why)) if self.is_closed() => return Err(why),
                Err((returned, _)) => message = returned,
            }
            emptied.await;
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.state().closed
    }

    /// No more will be pushed.
    pub(super) fn close(&self) {
        self.state().closed = true;
        self.filled.notify_one();
        self.emptied.notify_waiters();
    }

    /// Waits until somebody waits for a message, or one has waited long enough. `told_quiet`: the writer has nothing to do in a
    /// quiet moment, and sleeps until something comes.
    pub(super) fn wait(&self, told_quiet: bool) -> Awaited {
        let mut state = self.state();
        while !state.urgent && !state.closed {
            let (after, waited) =
                self.filled.wait_timeout(state, LINGER).unwrap_or_else(PoisonError::into_inner);
            state = after;
            if !waited.timed_out() || state.urgent || state.closed {
                continue;
            }
            if !state.messages.is_empty() {
                break;
            }
            if std::mem::take(&mut state.grabbed) || !told_quiet {
                return Awaited::Quiet;
            }
            state.asleep = true;
            while state.asleep && !state.closed {
                let (after, waited) =
                    self.filled.wait_timeout(state, NAP).unwrap_or_else(PoisonError::into_inner);
                state = after;
                if waited.timed_out() && state.asleep {
                    state.asleep = false;
                    return Awaited::Quiet;
                }
            }
        }
        if state.closed && state.messages.is_empty() { Awaited::End } else { Awaited::Messages }
    }

    /// Moves what waits into `group`, which is empty. Only for who may write: else groups could overtake each other.
    pub(super) fn grab(&self, group: &mut Vec<Message>) {
        let mut state = self.state();
        std::mem::swap(group, &mut state.messages);
        (state.urgent, state.unwoken) = (false, false);
        state.grabbed |= !group.is_empty();
        drop(state);
        self.emptied.notify_waiters();
    }
}

/// Ends with the writer's thread, however it ends.
pub(super) struct Closing<'q>(pub(super) &'q Queue);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.0.close();
        // Who waits for an answer learns from its absence that there is none.
        self.0.state().messages.clear();
    }
}

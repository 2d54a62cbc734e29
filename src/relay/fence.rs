//! Statements that use tagged columns wait while a conversion may be changing their types.
//!
//! The pump says before each piece of work whether the database's fence is up, and asks after it whether a statement that
//! uses tagged columns is under way. Guarantees: while the fence is up no such statement is sent, but in a transaction that
//! has used tagged columns before: its locks keep the conversion away. Deliberately absent: why the fence is up.

use super::{Held, Relay};
use crate::plan::{Planned, Reason, Refusal, Script};
use crate::wire::backend::TransactionStatus;

#[derive(Default)]
pub(super) struct Fence {
    up: bool,
    /// The newest segment of what was sent that uses tagged columns, until the server is through with it and no transaction is
    /// open.
    used: Option<u64>,
    /// Locks may have been given up since: a savepoint was rolled back to.
    unlocked: bool,
}

impl Relay {
    /// Whether statements that use tagged columns must wait now.
    pub fn fence(&mut self, up: bool) {
        self.fence.up = up;
    }

    /// Whether a statement that uses tagged columns may not yet have been read by the server.
    pub fn uses_under_way(&self) -> bool {
        self.fence.used.is_some()
            && !(self.queue.is_empty() && self.conversion.is_none() && self.copy_in.is_none())
    }

    /// Gives the message back when what it sends may be sent now; else it is held. `uses`: tagged columns.
    ///
    /// # Errors
    /// It was held for long, and still may not.
    pub(super) fn past_fence(&mut self, held: Held, uses: bool) -> Result<Option<Held>, Refusal> {
        if !uses {
            return Ok(Some(held));
        }
        let locked = self.fence.used.is_some() && !self.fence.unlocked && self.in_transaction();
        if !self.fence.up || locked {
            self.fence.used = Some(self.queue.segment());
            return Ok(Some(held));
        }
        if held.fenced {
            return Err(unseen());
        }
        self.flush();
        self.refresh();
        self.held = Some(Held { fenced: true, ..held });
        Ok(None)
    }

    /// A statement succeeded that gives locks up, if any does within a transaction.
    pub(super) fn gave_locks_up(&mut self) {
        self.fence.unlocked = true;
    }

    /// The server is through with a segment, and in this state.
    pub(super) fn at_rest(&mut self, segment: u64, status: TransactionStatus) {
        if status == TransactionStatus::InTransaction {
            return;
        }
        self.fence.used = self.fence.used.filter(|used| *used > segment);
        self.fence.unlocked &= self.fence.used.is_some();
    }
}

pub(super) fn uses(script: &Script) -> bool {
    script.statements.iter().any(|planned| matches!(planned, Planned::Plan(plan) if !plan.uses.is_empty()))
}

fn unseen() -> Refusal {
    let message =
        "tagged columns of this database may be changing their types, and their state cannot be seen";
    Refusal::new(Reason::Condition, "55P03", message).hint(
        "Try again. If it lasts, look whether the service user can connect, and at pgveil reseal status.",
    )
}

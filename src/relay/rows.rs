//! Rows: passed as they are, or opened in a batch; counted to the row; and replies that fail on the way.
//!
//! When a reply fails after the server has succeeded, the client reads the error in its place. Where something could
//! be committed with it, the failing constant goes to the server first, so that the server itself rolls back.

use super::Relay;
use super::cells::Fault;
use super::queue::{Expect, Owed, Role};
use super::refuse::told;
use super::reply::unexplained;
use super::spending::Released;
use crate::plan::Refusal;
use crate::wire::backend::{self, ErrorFields};
use crate::wire::{Messages, Violation};

/// What came of letting rows go.
pub(super) type Mishap = Result<Released, Fault>;

impl Relay {
    /// Takes all rows at the front of the backlog; they belong to the head.
    pub(super) fn rows(&mut self) -> Result<(), Violation> {
        let rows = self.backlog.take_run(backend::DATA_ROW);
        let Some(head) = self.queue.head() else { return Err(unexplained(backend::DATA_ROW)) };
        match (&head.expect, head.role) {
            (Expect::Execute { .. }, Role::Ask) => {
                for frame in rows {
                    self.answered_row(&frame)?;
                }
                return Ok(());
            }
            (Expect::Execute { .. } | Expect::Query(_), _) => {}
            _ => return Err(unexplained(backend::DATA_ROW)),
        }
        if !self.reaches_client() {
            return Ok(());
        }
        self.mark_left();
        let run = self.queue.head().and_then(Owed::part).and_then(|part| part.run);
        match run {
            None => {
                self.out.client(rows.into_bytes());
                Ok(())
            }
            Some(run) => self.disclosing_rows(run, &rows),
        }
    }

    fn disclosing_rows(&mut self, run: u64, rows: &Messages) -> Result<(), Violation> {
        let Some(running) = self.runs.get_mut(&run) else { return Err(unexplained(backend::DATA_ROW)) };
        let released = running.release(rows, &self.session.style, &mut self.out, &self.metrics);
        self.mishap(run, released)
    }

    /// What came of letting rows of a run go: they have left, or wait, or the reply fails.
    pub(super) fn mishap(&mut self, run: u64, released: Mishap) -> Result<(), Violation> {
        match released {
            Ok(Released::All) => Ok(()),
            Ok(Released::Waits(wanted)) => {
                self.lease_rows(run, wanted);
                Ok(())
            }
            Ok(Released::Spent(spent)) => self.fail(&spent),
            Err(Fault::Refused(refusal)) => self.fail(&refusal),
            Err(Fault::Stale) => {
                self.settle.catalog_stale = true;
                self.fail(&Refusal::changed())
            }
            Err(Fault::Violation(violation)) => Err(violation),
        }
    }

    /// The head's reply fails, though the server has succeeded or will.
    pub(super) fn fail(&mut self, refusal: &Refusal) -> Result<(), Violation> {
        self.session.purpose.failed();
        self.metrics.refused(refusal.reason.name());
        let ended = self.queue.head().and_then(Owed::part).map(|part| (part.kind, part.run));
        if let Some((kind, run)) = ended {
            self.count_statement(kind, refusal.sqlstate);
            if let Some(run) = run {
                self.end_run(run, refusal.sqlstate);
            }
        }
        let fields = told(refusal, "");
        match self.queue.head_mut() {
            Some(Owed { expect: Expect::Query(query), role, .. }) => {
                if query.hard {
                    *role = Role::Hidden;
                    self.send_constant_query(fields, true, super::statement::Undo::Nothing);
                } else {
                    query.muted = true;
                    self.tell(&fields);
                }
            }
            Some(_) => self.fail_extended(fields),
            None => {}
        }
        Ok(())
    }

    fn fail_extended(&mut self, fields: ErrorFields) {
        let synced = self.queue.has_sync();
        self.queue.mute_segment();
        for undo in self.queue.take_undo().into_iter().rev() {
            let gone = self.statements.disown(undo);
            self.drop_portal(gone);
        }
        if !synced && (self.segment_hard || self.conversion.is_some()) {
            if let Some(conversion) = &mut self.conversion {
                conversion.failing();
            }
            self.send_constant_parse(fields);
            self.flush();
            return;
        }
        self.tell(&fields);
        // Nothing was changed: the server need not know, the client reads nothing more until its Sync.
        self.skipping |= !synced;
    }

    fn tell(&mut self, fields: &ErrorFields) {
        self.out.client(fields.encode(backend::ERROR_RESPONSE).into_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::super::refuse;
    use crate::wire::backend::ErrorFields;

    #[test]
    fn only_the_constant_s_own_failure_is_swapped() {
        let error = |severity, sqlstate| ErrorFields::new(severity, sqlstate, "m", None, None, None);
        assert!(refuse::is_constant(&error("ERROR", "42883")));
        assert!(!refuse::is_constant(&error("FATAL", "42883")));
        assert!(!refuse::is_constant(&error("ERROR", "25P02")));
    }
}

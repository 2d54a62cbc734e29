//! What a statement may have changed under later plans: search path, catalog, pinned settings.
//!
//! Nothing is asked until a message needs it. The question goes to the server in order, as a named statement of ours,
//! so that the client's unnamed statement survives; in a failed transaction nothing is asked, since nothing but its
//! end is understood there.

use super::queue::{Class, Expect, Owed, Part, Role};
use super::{Relay, Step};
use crate::plan::{Effects, Local};
use crate::wire::backend::{self, DataRow, TransactionStatus};
use crate::wire::frontend::{self, Bind, Parse, Target};
use crate::wire::{Frame, Violation};

/// Pins `bytea_output`, and gives the path one schema a row.
const QUESTION: &str = "SELECT 0, pg_catalog.set_config('bytea_output', 'hex', false) \
    UNION ALL SELECT 1, schema::pg_catalog.text FROM pg_catalog.unnest(pg_catalog.current_schemas(true)) AS schema";
const QUESTION_NAME: &str = "pgveil_path";

/// What is known to be out of date, and what is being asked.
#[derive(Default)]
pub(super) struct Settle {
    pub(super) path_stale: bool,
    /// `RESET ALL` and `DISCARD ALL` reset what was pinned.
    pub(super) pins_stale: bool,
    pub(super) catalog_stale: bool,
    /// Changed in a transaction that has not ended: stale again when it has.
    path_in_transaction: bool,
    catalog_in_transaction: bool,
    pub(super) asking: bool,
    pub(super) refreshing: bool,
    answer: Vec<String>,
    failures: u32,
}

impl Relay {
    /// Whether a message must wait because what it is planned by is not known; sets going what makes it known.
    pub(super) fn unsettled(&mut self, tag: u8) -> Result<bool, Violation> {
        let plans = matches!(tag, frontend::QUERY | frontend::PARSE);
        let uses = matches!(tag, frontend::BIND | frontend::EXECUTE);
        if (plans && self.queue.changing_plans()) || ((plans || uses) && self.queue.resetting()) {
            self.flush();
            return Ok(true);
        }
        let failed = self.session.status == TransactionStatus::Failed && !self.queue.unsettled();
        let stale = (plans && self.settle.path_stale) || ((plans || uses) && self.settle.pins_stale);
        if stale && !failed {
            if self.settle.failures > 1 {
                return Err(Violation("the server does not say its search path".into()));
            }
            self.ask();
            return Ok(true);
        }
        if plans && self.settle.catalog_stale {
            self.refresh();
            return Ok(true);
        }
        Ok(false)
    }

    pub(super) fn refresh(&mut self) {
        if !self.settle.refreshing {
            self.settle.refreshing = true;
            self.out.step(Step::RefreshCatalog);
        }
    }

    /// Asks for the path, in the open pipeline or with a Sync of its own.
    pub(super) fn ask(&mut self) {
        self.settle.asking = true;
        self.settle.answer.clear();
        let close = |relay: &mut Relay| {
            for target in [Target::Portal, Target::Statement] {
                relay.send(frontend::encode_close(target, QUESTION_NAME));
                relay.queue.push(Owed::new(Expect::One(backend::CLOSE_COMPLETE), Role::Ask));
            }
        };
        let open = self.segment_open;
        close(self);
        self.send(Parse { name: QUESTION_NAME, sql: QUESTION, types: Vec::new() }.encode());
        self.queue.push(Owed::new(Expect::One(backend::PARSE_COMPLETE), Role::Ask));
        let bind = Bind {
            portal: QUESTION_NAME,
            statement: QUESTION_NAME,
            parameter_formats: Vec::new(),
            parameters: Vec::new(),
            result_formats: Vec::new(),
        };
        self.send(bind.encode());
        self.queue.push(Owed::new(Expect::One(backend::BIND_COMPLETE), Role::Ask));
        self.send(frontend::encode_execute(QUESTION_NAME, 0));
        let part = Part::passing("select", Class::Reads, Effects::default());
        self.queue.push(Owed::new(Expect::Execute { part: Box::new(part), portal: None }, Role::Ask));
        close(self);
        if open {
            self.flush();
        } else {
            self.send(frontend::encode_sync());
            self.queue.push(Owed::new(Expect::Sync, Role::Ask));
            self.synced();
        }
    }

    /// One row of the answer.
    pub(super) fn answered_row(&mut self, frame: &Frame) -> Result<(), Violation> {
        let mut row = DataRow::view(frame)?;
        let (kind, value) = (row.next()?, row.next()?);
        if kind == Some(b"1")
            && let Some(schema) = value
        {
            self.settle.answer.push(String::from_utf8_lossy(schema).into_owned());
        }
        Ok(())
    }

    /// The answer is whole.
    pub(super) fn answered(&mut self) {
        self.session.path = std::mem::take(&mut self.settle.answer);
        self.settle.path_stale = false;
        self.settle.pins_stale = false;
        self.settle.asking = false;
        self.settle.failures = 0;
    }

    /// The question failed with `sqlstate`; the path stays stale.
    pub(super) fn unanswered(&mut self, sqlstate: &str) {
        self.settle.asking = false;
        if sqlstate != "25P02" {
            self.settle.failures += 1;
        }
    }

    /// A statement with these effects succeeded.
    pub(super) fn apply(&mut self, effects: Effects) {
        if effects.path {
            self.settle.path_stale = true;
            self.settle.path_in_transaction = true;
        }
        if effects.catalog {
            self.settle.catalog_in_transaction = true;
        }
        if effects.discards_statements {
            self.statements.discard();
        }
        if effects.resets_session {
            self.session.reset();
            self.settle.path_stale = true;
            self.settle.pins_stale = true;
        }
    }

    /// A command of ours succeeded in its turn.
    pub(super) fn apply_local(&mut self, local: &Local) {
        match local {
            Local::SetPurpose(purpose) => self.session.purpose = purpose.clone(),
            Local::Deallocate(name) => {
                self.statements.forget(name);
            }
            // A code never gets this far: it is refused (there is no second factor yet).
            Local::SetOtp(_) | Local::ShowStatus => {}
        }
    }

    /// No transaction is open any more.
    pub(super) fn transaction_ended(&mut self) {
        self.settle.path_stale |= std::mem::take(&mut self.settle.path_in_transaction);
        self.settle.catalog_stale |= std::mem::take(&mut self.settle.catalog_in_transaction);
    }
}

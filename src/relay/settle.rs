//! What a statement may have changed under later plans: search path, catalog, pinned settings.
//!
//! Nothing is asked until a message needs it. The question goes to the server in order, as a named statement of ours,
//! so that the client's unnamed statement survives; in a failed transaction nothing is asked, since nothing but its
//! end is understood there.

use super::queue::{Class, Expect, Owed, Part, Role};
use super::{Held, Relay, Step, World};
use crate::audit::Event;
use crate::catalog::build::amended;
use crate::catalog::queries::{RawCatalog, RawColumn, RawFunction, RawRelation};
use crate::plan::{Effects, Local, NameKind, Script};
use crate::wire::backend::{self, DataRow, TransactionStatus};
use crate::wire::frontend::{self, Bind, Parse, Target};
use crate::wire::{Frame, Violation};
use bytes::Bytes;
use serde_json::Value;
use std::sync::Arc;

/// Pins `bytea_output`, says which process answers, and gives the path one schema a row.
const QUESTION: &str = "SELECT 0, pg_catalog.concat_ws(' ', pg_catalog.set_config('bytea_output', 'hex', false), pg_catalog.pg_backend_pid()) \
    UNION ALL SELECT 1, schema::pg_catalog.text FROM pg_catalog.unnest(pg_catalog.current_schemas(true)) AS schema";
const QUESTION_NAME: &str = "pgveil_path";
/// Adds what this transaction changed of the catalog, which no other connection sees before it commits: relations,
/// columns, inheritance, views and functions, each as a JSON array. A row is of this transaction (or younger) when its age is not
/// positive.
const CHANGES: &str = " UNION ALL \
    SELECT changed.kind, changed.value FROM ( \
      WITH mine AS (SELECT c.oid, n.nspname, c.relname, c.relkind FROM pg_catalog.pg_class c \
          JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace \
          WHERE n.nspname OPERATOR(pg_catalog.<>) ALL (ARRAY['pg_catalog', 'information_schema', 'pg_toast']::pg_catalog.name[]) \
            AND (pg_catalog.age(c.xmin) OPERATOR(pg_catalog.<=) 0 OR EXISTS (SELECT FROM pg_catalog.pg_attribute a \
              WHERE a.attrelid OPERATOR(pg_catalog.=) c.oid AND pg_catalog.age(a.xmin) OPERATOR(pg_catalog.<=) 0))) \
      SELECT 2 AS kind, pg_catalog.json_build_array(mine.oid::pg_catalog.int8, mine.nspname, mine.relname, mine.relkind)::pg_catalog.text AS value FROM mine \
      UNION ALL SELECT 3, pg_catalog.json_build_array(a.attrelid::pg_catalog.int8, a.attnum, a.attname, a.atttypid::pg_catalog.int8, \
          pg_catalog.format_type(a.atttypid, a.atttypmod), a.attnotnull, \
          a.attgenerated OPERATOR(pg_catalog.<>) '')::pg_catalog.text \
        FROM pg_catalog.pg_attribute a JOIN mine ON mine.oid OPERATOR(pg_catalog.=) a.attrelid \
        WHERE a.attnum OPERATOR(pg_catalog.>) 0 AND NOT a.attisdropped \
      UNION ALL SELECT 4, pg_catalog.json_build_array(i.inhrelid::pg_catalog.int8, i.inhparent::pg_catalog.int8)::pg_catalog.text \
        FROM pg_catalog.pg_inherits i JOIN mine ON mine.oid OPERATOR(pg_catalog.=) i.inhrelid \
      UNION ALL SELECT 5, pg_catalog.json_build_array(mine.oid::pg_catalog.int8, pg_catalog.pg_get_viewdef(mine.oid))::pg_catalog.text \
        FROM mine WHERE mine.relkind OPERATOR(pg_catalog.=) ANY (ARRAY['v', 'm']::\"char\"[]) \
      UNION ALL SELECT 6, pg_catalog.json_build_array(n.nspname, p.proname, l.lanname)::pg_catalog.text \
        FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) p.pronamespace \
          JOIN pg_catalog.pg_language l ON l.oid OPERATOR(pg_catalog.=) p.prolang \
        WHERE p.oid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid AND pg_catalog.age(p.xmin) OPERATOR(pg_catalog.<=) 0) AS changed";

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
    /// This transaction changed the catalog since its changes were last asked for.
    amend_stale: bool,
    /// The question that is under way asks for them.
    amending: bool,
    changes: RawCatalog,
    /// Worlds that were amended so far: each needs a generation of its own.
    amended: u64,
    pub(super) asking: bool,
    pub(super) refreshing: bool,
    /// The ReadyForQuery of a transaction that changed the catalog, until the catalog was read: whoever reads it may go on
    /// over any connection, and be planned by what is there now.
    pub(super) ready: Option<Bytes>,
    answer: Vec<String>,
    failures: u32,
}

impl Relay {
    /// Whether a message must wait because what it is planned by is not known; sets going what makes it known.
    pub(super) fn unsettled(&mut self, tag: u8) -> Result<bool, Violation> {
        let plans = matches!(tag, frontend::QUERY | frontend::PARSE);
        let uses = matches!(tag, frontend::BIND | frontend::EXECUTE);
        // How what is owed ends decides what the purpose is.
        let undecided = self.session.purpose.is_pending() && self.queue.may_end_transaction();
        if (plans && self.queue.changing_plans())
            || ((plans || uses) && (self.queue.resetting() || undecided))
        {
            self.flush();
            return Ok(true);
        }
        let failed = self.session.status == TransactionStatus::Failed && !self.queue.unsettled();
        let amend = self.settle.amend_stale && self.in_transaction();
        let stale =
            (plans && amend) || ((plans || uses) && (self.settle.path_stale || self.settle.pins_stale));
        if stale && !failed {
            if self.settle.failures > 1 {
                return Err(Violation("the server does not say its search path".into()));
            }
            self.ask();
            return Ok(true);
        }
        if (plans || tag == frontend::BIND) && self.settle.catalog_stale {
            self.refresh();
            return Ok(true);
        }
        Ok(false)
    }

    /// Whether what is sent now stands in a transaction: one that was begun, or that of a pipeline before its Sync.
    pub(super) fn in_transaction(&self) -> bool {
        self.session.status == TransactionStatus::InTransaction || self.segment_open
    }

    /// Gives the message back, or holds it until the catalog was read again for a relation that passes and is not in it.
    pub(super) fn looked_up(&mut self, held: Held, script: &Script) -> Option<Held> {
        if held.resolved || !script.passes_unresolved() {
            return Some(held);
        }
        self.refresh();
        self.held = Some(Held { resolved: true, ..held });
        None
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
        self.settle.changes = RawCatalog::default();
        self.settle.amending = self.settle.catalog_in_transaction && self.in_transaction();
        let close = |relay: &mut Relay| {
            for target in [Target::Portal, Target::Statement] {
                relay.send(frontend::encode_close(target, QUESTION_NAME));
                relay.queue.push(Owed::new(Expect::One(backend::CLOSE_COMPLETE), Role::Ask));
            }
        };
        let open = self.segment_open;
        close(self);
        let changes = if self.settle.amending { CHANGES } else { "" };
        let question = format!("{QUESTION}{changes}");
        self.send(Parse { name: QUESTION_NAME, sql: &question, types: Vec::new() }.encode());
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
        match (kind, value) {
            (Some(b"0"), Some(answer)) => return self.answered_by(answer),
            (Some(b"1"), Some(schema)) => {
                self.settle.answer.push(String::from_utf8_lossy(schema).into_owned())
            }
            (Some([kind @ b'2'..=b'6']), Some(change)) => {
                let change: Option<Vec<Value>> = serde_json::from_slice(change).ok();
                change
                    .and_then(|change| self.settle.changed(*kind, &change))
                    .ok_or_else(|| Violation("the server does not say what changed of its catalog".into()))?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Which process answered. Behind a pooler that gives each transaction another one, what we pinned and asked holds for a
    /// process that the next statement need not meet.
    fn answered_by(&mut self, answer: &[u8]) -> Result<(), Violation> {
        let process = std::str::from_utf8(answer).ok().and_then(|answer| answer.strip_prefix("hex "));
        let Some(process) = process.and_then(|process| process.parse().ok()) else { return Ok(()) };
        let known = *self.session.server_process.get_or_insert(process);
        if known != process && self.world.catalog.has_tags() {
            return Err(Violation(
                "a pooler between pgveil and the server gives out other server processes: connect to the server itself, or announce a pooler in session mode by [database] pooler".into(),
            ));
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
        if std::mem::take(&mut self.settle.amending) {
            self.settle.amend_stale = false;
            self.amend();
        }
    }

    /// The world of this connection alone, until its transaction ends: with what the transaction changed.
    fn amend(&mut self) {
        self.settle.amended += 1;
        // Above every generation of the server's own, and of no other connection.
        let generation = 1 << 63 | self.session.number() << 24 | self.settle.amended & 0xff_ffff;
        let changes = std::mem::take(&mut self.settle.changes);
        let catalog = amended(&self.world.catalog, changes, generation);
        self.world = Arc::new(World {
            generation,
            catalog: Arc::new(catalog),
            policy: self.world.policy.clone(),
            ciphers: self.world.ciphers.clone(),
            memberships: self.world.memberships.clone(),
        });
    }

    /// A new world came: what this transaction changed must be added to it again.
    pub(super) fn amend_again(&mut self) {
        self.settle.amend_stale = self.settle.catalog_in_transaction;
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
            // ROLLBACK TO is among these.
            self.gave_locks_up();
            self.settle.amend_stale = self.settle.catalog_in_transaction;
        }
        if effects.catalog {
            self.settle.catalog_in_transaction = true;
            self.settle.amend_stale = true;
        }
        if effects.discards_statements {
            self.statements.discard();
            self.unname_all(effects.resets_session);
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
            Local::SetPurpose { purpose, local } => {
                self.session.purpose.set(purpose.clone(), *local, self.session.status);
            }
            Local::Deallocate(name) => {
                self.statements.forget(name);
                self.unname(NameKind::Statement, name);
            }
            // It was tried before it was sent.
            Local::SetOtp(_) => self.session.second_factor_at = Some(self.now.unix_seconds()),
            Local::ResetOtp => self.session.second_factor_at = None,
            Local::SetBreakGlass(None) => self.session.glass_broken_at = None,
            Local::SetBreakGlass(Some(reason)) => {
                self.session.glass_broken_at = Some(self.now.unix_seconds());
                self.metrics.glass_broken();
                self.record(Event::BreakGlass { reason: reason.clone() }, false);
            }
            Local::ShowStatus => {}
        }
    }

    /// No transaction is open any more.
    pub(super) fn transaction_ended(&mut self) {
        self.settle.path_stale |= std::mem::take(&mut self.settle.path_in_transaction);
        self.settle.amend_stale = false;
        if std::mem::take(&mut self.settle.catalog_in_transaction) {
            self.settle.catalog_stale = true;
            self.refresh();
        }
    }
}

impl Settle {
    /// One row of what the transaction changed; `None` when it is not what was asked for.
    fn changed(&mut self, kind: u8, row: &[Value]) -> Option<()> {
        let oid = |value: &Value| value.as_u64().and_then(|oid| u32::try_from(oid).ok());
        let text = |value: &Value| value.as_str().map(str::to_owned);
        match (kind, row) {
            (b'2', [relation, schema, name, relkind]) => self.changes.relations.push(RawRelation {
                oid: oid(relation)?,
                schema: text(schema)?,
                name: text(name)?,
                kind: relkind.as_str()?.chars().next()?,
            }),
            (b'3', [relation, number, name, data_type, type_name, not_null, generated]) => {
                self.changes.columns.push(RawColumn {
                    relation: oid(relation)?,
                    number: number.as_i64().and_then(|number| i16::try_from(number).ok())?,
                    name: text(name)?,
                    type_oid: oid(data_type)?,
                    type_name: text(type_name)?,
                    not_null: not_null.as_bool()?,
                    generated: generated.as_bool()?,
                    altered: false,
                });
            }
            (b'4', [child, parent]) => self.changes.parents.push((oid(child)?, oid(parent)?)),
            (b'5', [view, definition]) => self.changes.definitions.push((oid(view)?, text(definition))),
            (b'6', [schema, name, language]) => self.changes.functions.push(RawFunction {
                schema: text(schema)?,
                name: text(name)?,
                language: text(language)?,
                // Of which kind its arguments are is not asked.
                takes_row: true,
            }),
            _ => return None,
        }
        Some(())
    }
}

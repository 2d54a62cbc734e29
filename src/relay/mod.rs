//! One client's conversation with its server as a state machine, without I/O, clock or lock.
//!
//! One owner sees both directions. A FIFO of owed replies explains every server message; a refused message is replaced
//! by a constant that fails in analysis, so that order, skip-until-Sync and the aborted transaction are the server's own
//! behaviour. Guarantees: every request gets one reply, in order; no byte that a ruling covers leaves before its record
//! was accepted; an untouched frame leaves as the same bytes. Deliberately absent: sockets, tasks, tracing, keys' files.
//!
//! Reading order: `queue` (what is owed), `client` (what must wait), `judge`, `simple`, `convert`, `extended` (what is sent),
//! `reply`, `rows`, `failed` (what comes back), `copy` (both ways), `ledger` (what all proxies share), `fence` (conversions), `refuse`, `run` (records, gates), `spending` (limits over time), `settle` (what later plans
//! depend on), `purpose`, `renew`, `again` (plans out of date), `statement` (names), `cells` (the seam to `cell`).

mod again;
mod align;
mod by_name;
mod cells;
mod client;
mod convert;
mod copy;
mod errors;
mod extended;
mod failed;
mod fence;
mod judge;
mod kinds;
pub mod ledger;
mod named;
mod out;
mod planner;
mod purpose;
mod queue;
mod refuse;
mod renew;
mod reply;
mod rows;
mod run;
mod runs;
mod session;
mod settle;
mod simple;
mod spending;
mod statement;
mod violation;

pub use planner::Planner;

use crate::audit::{AuditRecord, Unrecorded};
use crate::catalog::Catalog;
use crate::cell::Formats;
use crate::crypto::{Ciphers, Random};
use crate::metrics::Metrics;
use crate::plan::{Script, StatementPlan};
use crate::policy::budget::Budgets;
use crate::policy::{Memberships, Policy, Principal};
use crate::wire::backend::{self, ErrorFields, TransactionStatus};
use crate::wire::{Frame, Messages, Violation, frontend};
use bytes::Bytes;
use queue::{ENTRIES_MAX, Queue};
use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;

/// One generation of everything that a statement sees. Immutable; replaced whole.
pub struct World {
    pub generation: u64,
    pub catalog: Arc<Catalog>,
    pub policy: Arc<Policy>,
    pub ciphers: Arc<Ciphers>,
    /// Whose roles the database vouches for, where that counts and was asked since the proxy's start.
    pub memberships: Option<Arc<Memberships>>,
}

/// What is known of the connection when the conversation begins (after both log-ins).
pub struct Opening {
    pub principal: Principal,
    /// Unique within this proxy's run.
    pub connection: u64,
    pub database: String,
    pub application: String,
    /// The role that the database sees, where that is not the principal.
    pub upstream: Option<String>,
    /// `None` over a Unix socket.
    pub address: Option<IpAddr>,
    /// For records: `10.0.0.7:5123` or `unix`.
    pub address_text: String,
    /// Shared by all connections of this proxy.
    pub budgets: Arc<Budgets>,
    /// The longest row of a COPY that is held until it is whole, in bytes.
    pub row_bytes_max: usize,
    /// The server's process, where nothing may stand between it and us.
    pub server_process: Option<i32>,
    /// ParameterStatus values the server reported during start-up.
    pub parameters: Vec<(String, String)>,
}

/// The moment of an event, handed in by the pump.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// Unix microseconds, for records and conditions.
    pub unix_micros: i64,
    /// A monotonic reading in nanoseconds, for durations.
    pub monotonic_nanos: u64,
}

impl Now {
    fn unix_seconds(&self) -> i64 {
        self.unix_micros.div_euclid(1_000_000)
    }
}

/// What the pump must do, in this order.
pub enum Step {
    ToServer(Bytes),
    ToClient(Bytes),
    /// Submit to the log. When `gate`, the relay holds everything that the record covers until
    /// [`Relay::recorded`] answers; gated records are answered in order.
    Record {
        record: Box<AuditRecord>,
        gate: bool,
    },
    /// Ask the ledger that all proxies share, then call [`Relay::ledger_answered`].
    Ask {
        asker: ledger::Asker,
        question: ledger::Question,
    },
    /// Read the catalog again, then call [`Relay::refreshed`].
    RefreshCatalog,
    /// Write what is owed, then close both sides.
    Close,
}

/// Which side the pump may read from now: backpressure and the gates are nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wants {
    pub client: bool,
    pub server: bool,
}

/// A message of the client that waits, or is looked at again.
struct Held {
    frame: Frame,
    /// The catalog was read again for it.
    resolved: bool,
    /// It was sent before with a plan that proved stale.
    retried: bool,
    /// The statement that it names was prepared anew for it.
    renewed: bool,
    /// The client has read its completion.
    silent: bool,
    /// The one-time code that it gives was tried, and counts.
    stepped_up: bool,
    /// It waited for a conversion's end already.
    fenced: bool,
    /// What the ledger said to what was asked for it.
    answer: Option<ledger::Answer>,
}

impl Held {
    fn new(frame: Frame) -> Held {
        Held {
            frame,
            resolved: false,
            retried: false,
            renewed: false,
            silent: false,
            stepped_up: false,
            fenced: false,
            answer: None,
        }
    }
}

/// The conversation.
///
/// On an `Err` of any method the steps already hold the FATAL error for the client and [`Step::Close`]: the pump
/// performs them, and the violation is for its log.
pub struct Relay {
    session: session::Session,
    world: Arc<World>,
    planner: Arc<dyn Planner>,
    metrics: Metrics,
    random: Box<dyn Random + Send>,
    queue: Queue,
    statements: statement::Statements,
    namings: named::Namings,
    runs: runs::Runs,
    spare: Option<run::Spare>,
    /// What was judged last.
    judged: Option<Arc<judge::Judged>>,
    /// What the last Bind of a plan asks the server for.
    formats: Option<(Arc<StatementPlan>, Arc<Formats>)>,
    described: Option<cells::Described>,
    /// The runs of gated records whose answers did not come here yet, oldest first.
    gates: VecDeque<u64>,
    /// Statements with uses so far, for records.
    statement: u64,
    settle: settle::Settle,
    conversion: Option<convert::Conversion>,
    /// The copy that the server reads.
    copy_in: Option<copy::CopyIn>,
    /// A copy that was sealed has failed: what the client still sends of it goes nowhere.
    copy_rest: bool,
    /// Server messages that a gate holds back.
    backlog: Messages,
    /// The client's message that waits; no other is read meanwhile.
    held: Option<Held>,
    asking: ledger::Asking,
    fence: fence::Fence,
    /// The newest pipeline, for where it must be sent again.
    again: again::Again,
    /// A simple query will be planned again: nothing else may come before it.
    replanning: bool,
    /// After an error the client's messages are skipped up to its Sync, as the server does.
    skipping: bool,
    /// Messages were sent since the last Sync or Query.
    segment_open: bool,
    /// Something sent since the last Sync could be committed with a reply that may fail.
    segment_hard: bool,
    /// Something sent since the last Sync may begin or end a transaction.
    segment_other: bool,
    /// The server may be keeping replies back until Flush or Sync.
    unflushed: bool,
    closed: bool,
    /// Statements that ended since the pump last asked.
    ended: u32,
    now: Now,
    out: out::Out,
}

impl Relay {
    pub fn new(
        opening: Opening,
        world: Arc<World>,
        planner: Arc<dyn Planner>,
        metrics: Metrics,
        random: Box<dyn Random + Send>,
    ) -> Relay {
        Relay {
            session: session::Session::new(opening),
            world,
            planner,
            metrics,
            random,
            queue: Queue::default(),
            statements: statement::Statements::default(),
            namings: named::Namings::new(),
            runs: runs::Runs::default(),
            spare: None,
            judged: None,
            formats: None,
            described: None,
            gates: VecDeque::new(),
            statement: 0,
            settle: settle::Settle::default(),
            conversion: None,
            copy_in: None,
            copy_rest: false,
            backlog: Messages::default(),
            held: None,
            asking: ledger::Asking::default(),
            fence: fence::Fence::default(),
            again: again::Again::default(),
            replanning: false,
            skipping: false,
            segment_open: false,
            segment_hard: false,
            segment_other: false,
            unflushed: false,
            closed: false,
            ended: 0,
            now: Now { unix_micros: 0, monotonic_nanos: 0 },
            out: out::Out::default(),
        }
    }

    /// How many statements ended, well or not, since this was last asked.
    pub fn take_ended(&mut self) -> u32 {
        std::mem::take(&mut self.ended)
    }

    /// First steps: pins `bytea_output` and asks for the search path. Ends with FATAL where the server's settings would
    /// make us misread what concerns tagged columns.
    pub fn open(&mut self, now: Now, steps: &mut Vec<Step>) {
        self.now = now;
        let result = match self.session.unsafe_at_start.filter(|_| self.world.catalog.has_tags()) {
            Some(why) => Err(Violation(why.to_owned())),
            None => {
                self.ask();
                Ok(())
            }
        };
        let _ = self.finish(result, steps);
    }

    /// Takes of the client's messages as many as it wants, up to a Terminate, which is the pump's.
    pub fn client(
        &mut self,
        messages: &mut Messages,
        now: Now,
        steps: &mut Vec<Step>,
    ) -> Result<(), Violation> {
        self.now = now;
        self.out.within(messages);
        let mut result = Ok(());
        while result.is_ok() && self.wants().client && messages.tag() != Some(frontend::TERMINATE) {
            if !self.copied_data(messages) {
                let Some(frame) = messages.next() else { break };
                result = self.admit(Held::new(frame));
            }
            result = result.and_then(|()| self.drive_conversion());
        }
        self.finish(result, steps)
    }

    /// All whole messages that one read of the server brought. Call only while `wants().server`; what a gate holds back
    /// stays inside.
    pub fn server(&mut self, messages: Messages, now: Now, steps: &mut Vec<Step>) -> Result<(), Violation> {
        self.now = now;
        self.out.within(&messages);
        self.backlog.append(messages);
        let result = self.advance();
        self.finish(result, steps)
    }

    /// The answer to the oldest unanswered gated record.
    pub fn recorded(
        &mut self,
        answer: Result<(), Unrecorded>,
        now: Now,
        steps: &mut Vec<Step>,
    ) -> Result<(), Violation> {
        self.now = now;
        self.out.within(&self.backlog);
        self.answer_gate(&answer);
        let result = self.advance();
        self.finish(result, steps)
    }

    /// Whether the server's messages stand here, and a record is not answered: that may be what they wait for.
    pub fn waits_for_record(&self) -> bool {
        !self.gates.is_empty() && !self.backlog.is_empty()
    }

    /// The answer to [`Step::RefreshCatalog`]: the world now (the old one when the refresh failed).
    pub fn refreshed(&mut self, world: Arc<World>, now: Now, steps: &mut Vec<Step>) -> Result<(), Violation> {
        self.now = now;
        self.see(world);
        self.settle.refreshing = false;
        self.settle.catalog_stale = false;
        if let Some(ready) = self.settle.ready.take() {
            self.out.client(ready);
        }
        let result = self.advance();
        self.finish(result, steps)
    }

    /// A reload or poll changed the world: statements from now on see it.
    pub fn world(&mut self, world: Arc<World>) {
        self.see(world);
    }

    fn see(&mut self, world: Arc<World>) {
        if let Some(memberships) = &world.memberships {
            self.session.principal.follow(memberships);
        }
        self.world = world;
        self.amend_again();
    }

    /// The connection is gone: what had not ended is recorded as broken off.
    pub fn closed(&mut self, now: Now, steps: &mut Vec<Step>) {
        self.now = now;
        self.closed = true;
        for run in self.runs.numbers() {
            self.end_run(run, "08006");
        }
        self.out.drain_into(steps);
    }

    pub fn wants(&self) -> Wants {
        Wants {
            client: !self.closed
                && self.held.is_none()
                && !self.replanning
                && !self.again.is_busy()
                && self.queue.len() < ENTRIES_MAX,
            server: !self.closed && self.backlog.is_empty(),
        }
    }

    /// Nothing owed, no transaction open: a draining server may close now.
    pub fn is_idle(&self) -> bool {
        self.queue.is_empty()
            && self.held.is_none()
            && self.backlog.is_empty()
            && self.conversion.is_none()
            && self.asking.run.is_none()
            && !self.again.is_busy()
            && !self.settle.refreshing
            && !self.segment_open
            && self.session.status == TransactionStatus::Idle
    }

    /// Decides a text for this session, in this world, now.
    fn plan(&mut self, text: &str, declared: &[u32]) -> Arc<Script> {
        self.renew_names();
        let circumstances = self.session.circumstances(self.now);
        let named = self.names_in(text);
        let planning = session::planning(&self.session, &circumstances, &named);
        let (script, found) = self.planner.plan(text, declared, &self.world, &planning);
        if let Some(found) = found {
            self.metrics.plan_looked_up(found);
            if !found {
                self.metrics.plan_cache_entries(self.planner.entries());
            }
        }
        script
    }

    /// Hands the steps over; a violation ends the conversation with FATAL.
    fn finish(&mut self, result: Result<(), Violation>, steps: &mut Vec<Step>) -> Result<(), Violation> {
        if let Err(violation) = &result
            && !self.closed
        {
            let fatal = ErrorFields::new("FATAL", "08P01", &violation.0, None, None, None);
            self.out.client(fatal.encode(backend::ERROR_RESPONSE).into_bytes());
            self.out.step(Step::Close);
            self.closed = true;
        }
        self.out.drain_into(steps);
        result
    }
}

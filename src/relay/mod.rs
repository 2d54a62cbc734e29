//! One client's conversation with its server as a state machine, without I/O, clock or lock.
//!
//! One owner sees both directions. A FIFO of owed replies explains every server message; a refused message is replaced
//! by a constant that fails in analysis, so that order, skip-until-Sync and the aborted transaction are the server's own
//! behaviour. Guarantees: every request gets one reply, in order; no byte that a ruling covers leaves before its record
//! was accepted; an untouched frame leaves as the same bytes. Deliberately absent: sockets, tasks, tracing, keys' files.

use crate::audit::{AuditRecord, Unrecorded};
use crate::catalog::Catalog;
use crate::crypto::{Ciphers, Random};
use crate::plan::cache::PlanCache;
use crate::policy::{Policy, Principal};
use crate::wire::{Frame, Violation};
use bytes::Bytes;
use std::net::IpAddr;
use std::sync::Arc;

/// One generation of everything that a statement sees. Immutable; replaced whole.
pub struct World {
    pub generation: u64,
    pub catalog: Arc<Catalog>,
    pub policy: Arc<Policy>,
    pub ciphers: Arc<Ciphers>,
}

/// What is known of the connection when the conversation begins (after both log-ins).
pub struct Opening {
    pub principal: Principal,
    /// Unique within this proxy's run.
    pub connection: u64,
    pub database: String,
    pub application: String,
    /// `None` over a Unix socket.
    pub address: Option<IpAddr>,
    /// For records: `10.0.0.7:5123` or `unix`.
    pub address_text: String,
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

/// What the pump must do, in this order.
pub enum Step {
    ToServer(Bytes),
    ToClient(Bytes),
    /// Submit to the log. When `gate`, the relay holds everything that the record covers until
    /// [`Relay::recorded`] answers; gated records are answered in order.
    Record { record: Box<AuditRecord>, gate: bool },
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

/// The conversation.
pub struct Relay {
    _private: (),
}

impl Relay {
    pub fn new(
        _opening: Opening,
        _world: Arc<World>,
        _plans: Arc<PlanCache>,
        _random: Box<dyn Random + Send>,
    ) -> Relay {
        todo!()
    }
    /// First steps: pins `bytea_output` and asks for the search path.
    pub fn open(&mut self, _now: Now, _steps: &mut Vec<Step>) {
        todo!()
    }
    /// One message from the client. Call only while `wants().client`.
    pub fn client(&mut self, _frame: Frame, _now: Now, _steps: &mut Vec<Step>) -> Result<(), Violation> {
        todo!()
    }
    /// All whole messages that one read of the server brought. Call only while `wants().server`; frames that a gate
    /// holds back stay inside.
    pub fn server(&mut self, _frames: &mut Vec<Frame>, _now: Now, _steps: &mut Vec<Step>) -> Result<(), Violation> {
        todo!()
    }
    /// The answer to the oldest unanswered gated record.
    pub fn recorded(&mut self, _answer: Result<(), Unrecorded>, _now: Now, _steps: &mut Vec<Step>) -> Result<(), Violation> {
        todo!()
    }
    /// The answer to [`Step::RefreshCatalog`]: the world now (the old one when the refresh failed).
    pub fn refreshed(&mut self, _world: Arc<World>, _now: Now, _steps: &mut Vec<Step>) -> Result<(), Violation> {
        todo!()
    }
    /// A reload or poll changed the world: statements from now on see it.
    pub fn world(&mut self, _world: Arc<World>) {
        todo!()
    }
    pub fn wants(&self) -> Wants {
        todo!()
    }
    /// Nothing owed, no transaction open: a draining server may close now.
    pub fn is_idle(&self) -> bool {
        todo!()
    }
}

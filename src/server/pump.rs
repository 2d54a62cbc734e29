//! One task owns both directions of one connection: it reads, hands frames to the relay, and performs the relay's steps.
//!
//! Guarantees: buffers are bounded, so a slow side stalls the reading of the other; one write carries what one read
//! brought; bytes leave in the relay's order; a relay that panicked is asked nothing more. Deliberately absent: any
//! knowledge of what the bytes mean.

use super::fault;
use super::listener::Shared;
use super::shutdown::Phase;
use super::stream::{Peer, PeerError};
use super::world::Database;
use crate::audit::writer::Receipt;
use crate::metrics::{Connection, ConnectionState, Direction};
use crate::relay::{Now, Relay, Step, World};
use crate::wire::backend::ErrorFields;
use crate::wire::{self, Limits, backend, frontend};
use bytes::{Buf, BytesMut};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;

/// Output that waits for a slow peer before the other side is read no further, in bytes.
const HIGH_WATER: usize = 256 * 1024;
/// Room for one read, in bytes, and how little of it may be left before there is more.
const READ_BYTES: usize = 16 * 1024;
const READ_BYTES_LEAST: usize = 2 * 1024;
/// How long a peer may take to accept the last bytes.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// One side: its stream, its input, and what it is still to be sent.
struct Side {
    peer: Peer,
    output: BytesMut,
    /// Written, but perhaps not yet out of a TLS session's buffer.
    unflushed: bool,
    gone: bool,
}

impl Side {
    fn new(peer: Peer) -> Side {
        Side { peer, output: BytesMut::new(), unflushed: false, gone: false }
    }

    /// Writes what it can. Ready with the number of bytes; pending when there is nothing to write or no room.
    fn poll_write(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if !self.output.is_empty() {
            let wrote = Pin::new(&mut *self.peer.stream).poll_write(context, &self.output);
            if let Poll::Ready(Ok(count)) = wrote {
                self.output.advance(count);
                self.unflushed = true;
            }
            return wrote;
        }
        if self.unflushed {
            match Pin::new(&mut *self.peer.stream).poll_flush(context) {
                Poll::Ready(Ok(())) => self.unflushed = false,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {}
            }
        }
        Poll::Pending
    }

    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let input = &mut self.peer.input;
        if input.capacity() - input.len() < READ_BYTES_LEAST {
            input.reserve(READ_BYTES);
        }
        // Reading into the buffer is cancel safe: the future holds nothing between polls.
        pin!(self.peer.stream.read_buf(input)).poll(context)
    }
}

/// What happened on the sockets.
enum Io {
    Read(Who, io::Result<usize>),
    Wrote(Who, io::Result<usize>),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Who {
    Client,
    Server,
}

/// Everything that one connection's task owns.
pub struct Pump {
    /// The connection's.
    number: u64,
    client: Side,
    server: Side,
    relay: Relay,
    shared: Arc<Shared>,
    database: Arc<Database>,
    worlds: watch::Receiver<Arc<World>>,
    /// Whether anything was tagged in the world of the session's start.
    tagged: Option<bool>,
    /// Gated records that the log has not answered, oldest first.
    gates: VecDeque<Receipt>,
    refreshing: Option<Pin<Box<dyn Future<Output = Arc<World>> + Send>>>,
    closing: bool,
    /// The relay panicked: what it would say now, nobody knows.
    broken: bool,
    steps: Vec<Step>,
    started: Instant,
    /// Since a statement last ended.
    worked: Duration,
    state: Connection,
    limits: Limits,
}

impl Pump {
    /// `number` is the connection's.
    pub fn new(
        number: u64,
        client: Peer,
        server: Peer,
        relay: Relay,
        shared: Arc<Shared>,
        database: Arc<Database>,
        state: Connection,
    ) -> Pump {
        let limits = Limits { message_bytes_max: shared.rim.load().settings.listen.message_bytes_max };
        Pump {
            number,
            client: Side::new(client),
            server: Side::new(server),
            relay,
            worlds: database.watch(),
            tagged: None,
            database,
            gates: VecDeque::new(),
            refreshing: None,
            closing: false,
            broken: false,
            steps: Vec::new(),
            started: Instant::now(),
            worked: Duration::ZERO,
            state,
            limits,
            shared,
        }
    }

    fn now(&self) -> Now {
        Now {
            unix_micros: unix_micros(),
            monotonic_nanos: u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX),
        }
    }

    /// Has the relay work, and takes the time: statements that ended by it share what was worked since the last ended.
    /// `None`: it panicked, the client is told, and the connection ends.
    fn work<R>(&mut self, work: impl FnOnce(&mut Relay, Now, &mut Vec<Step>) -> R) -> Option<R> {
        let now = self.now();
        let began = Instant::now();
        let (relay, steps) = (&mut self.relay, &mut self.steps);
        let result = match fault::caught(self.number, || work(relay, now, steps)) {
            Ok(result) => result,
            Err(fields) => {
                // Steps that lack the one after them.
                self.steps.clear();
                self.broken = true;
                self.tell_last(&fields);
                return None;
            }
        };
        self.worked += began.elapsed();
        let ended = self.relay.take_ended();
        for _ in 0..ended {
            self.shared.metrics.statement_overhead(self.worked / ended);
        }
        if ended > 0 {
            self.worked = Duration::ZERO;
        }
        Some(result)
    }

    /// Runs the conversation to its end.
    pub async fn run(mut self, mut phase: watch::Receiver<Phase>) {
        // It may be a newer one than the relay was made with.
        self.change_world();
        self.work(|relay, now, steps| relay.open(now, steps));
        self.perform();
        self.consume();
        while !self.closing {
            self.turn(&mut phase).await;
            self.consume();
            self.mark();
            let phase = *phase.borrow();
            self.end_if_due(phase);
        }
        self.end().await;
    }

    /// Ends the conversation where it should not go on: now, or between transactions.
    fn end_if_due(&mut self, phase: Phase) {
        let idle = self.relay.is_idle();
        // What this session set while nothing was tagged, nobody has judged.
        let outdated = self.tagged == Some(false) && self.worlds.borrow().catalog.has_tags();
        if phase == Phase::Stopping || phase == Phase::Draining && idle {
            self.last_words("57P01", "terminating connection due to administrator command");
        } else if outdated && idle {
            self.last_words(
                "57P01",
                "terminating connection because columns of this database are tagged now",
            );
        }
    }

    /// Waits for one thing to happen, and handles it.
    async fn turn(&mut self, phase: &mut watch::Receiver<Phase>) {
        let wants = self.relay.wants();
        let read_client =
            wants.client && self.server.output.len() < HIGH_WATER && self.client.output.len() < HIGH_WATER;
        let read_server = wants.server && self.client.output.len() < HIGH_WATER;
        let (client, server) = (&mut self.client, &mut self.server);
        let io = poll_fn(|context| {
            for (who, side) in [(Who::Client, &mut *client), (Who::Server, &mut *server)] {
                if let Poll::Ready(result) = side.poll_write(context) {
                    return Poll::Ready(Io::Wrote(who, result));
                }
            }
            if read_server && let Poll::Ready(result) = server.poll_read(context) {
                return Poll::Ready(Io::Read(Who::Server, result));
            }
            if read_client && let Poll::Ready(result) = client.poll_read(context) {
                return Poll::Ready(Io::Read(Who::Client, result));
            }
            Poll::Pending
        });
        let (gates, refreshing, worlds) = (&mut self.gates, &mut self.refreshing, &mut self.worlds);
        tokio::select! {
            biased;
            answer = async { gates.front_mut().expect("guarded by the condition").await }, if !gates.is_empty() => {
                self.gates.pop_front();
                let result = self.work(|relay, now, steps| relay.recorded(answer.map(|_| ()), now, steps));
                self.settle(result);
            }
            world = async { refreshing.as_mut().expect("guarded by the condition").await }, if refreshing.is_some() => {
                self.refreshing = None;
                let result = self.work(|relay, now, steps| relay.refreshed(world, now, steps));
                self.settle(result);
            }
            // Before any message: what arrives after another connection's DDL is planned by what that left, and bytes that
            // never cease do not keep it waiting.
            Ok(()) = worlds.changed() => self.change_world(),
            happened = io => self.happened(happened),
            // Only woken up: the loop looks at it.
            _ = phase.changed() => {}
        }
    }

    fn change_world(&mut self) {
        let world = self.worlds.borrow_and_update().clone();
        self.tagged = self.tagged.or(Some(world.catalog.has_tags()));
        self.relay.world(world);
    }

    fn happened(&mut self, happened: Io) {
        let metrics = &self.shared.metrics;
        match happened {
            Io::Wrote(Who::Client, Ok(count)) => metrics.bytes(Direction::ToClient, count as u64),
            Io::Wrote(Who::Server, Ok(count)) => metrics.bytes(Direction::ToServer, count as u64),
            Io::Read(Who::Client, Ok(count)) if count > 0 => {
                metrics.bytes(Direction::FromClient, count as u64)
            }
            Io::Read(Who::Server, Ok(count)) if count > 0 => {
                metrics.bytes(Direction::FromServer, count as u64)
            }
            Io::Read(Who::Client, _) | Io::Wrote(Who::Client, Err(_)) => {
                self.client.gone = true;
                self.closing = true;
            }
            Io::Read(Who::Server, _) | Io::Wrote(Who::Server, Err(_)) => {
                self.server.gone = true;
                // Whatever came before the end has been handled; a FATAL of the server's own among it closed already.
                self.last_words("08006", "the database closed the connection");
            }
        }
    }

    /// Hands the relay every whole message that it wants.
    fn consume(&mut self) {
        loop {
            let wants = self.relay.wants();
            let mut progressed = false;
            if wants.server && !self.closing {
                progressed |= self.consume_server();
            }
            if self.relay.wants().client && !self.closing {
                progressed |= self.consume_client();
            }
            if !progressed || self.closing {
                return;
            }
        }
    }

    fn consume_server(&mut self) -> bool {
        let mut frames = Vec::new();
        loop {
            match wire::split(&mut self.server.peer.input, &SERVER_LIMITS) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(_) => {
                    self.last_words("08P01", "the database sent a message that cannot be read");
                    return false;
                }
            }
        }
        if frames.is_empty() {
            return false;
        }
        let result = self.work(|relay, now, steps| relay.server(&mut frames, now, steps));
        self.settle(result);
        true
    }

    fn consume_client(&mut self) -> bool {
        match wire::split(&mut self.client.peer.input, &self.limits) {
            Ok(Some(frame)) if frame.tag() == frontend::TERMINATE => {
                self.closing = true;
                false
            }
            Ok(Some(frame)) => {
                let result = self.work(|relay, now, steps| relay.client(frame, now, steps));
                self.settle(result);
                true
            }
            Ok(None) => false,
            Err(violation) => {
                self.last_words("08P01", &violation.0);
                false
            }
        }
    }

    fn settle(&mut self, result: Option<Result<(), wire::Violation>>) {
        if let Some(Err(violation)) = result {
            tracing::warn!(reason = violation.0, "a connection ended by a protocol violation");
            self.closing = true;
        }
        self.perform();
    }

    /// Performs the relay's steps in their order.
    fn perform(&mut self) {
        let steps = std::mem::take(&mut self.steps);
        for step in steps {
            match step {
                Step::ToServer(bytes) => self.server.output.extend_from_slice(&bytes),
                Step::ToClient(bytes) => self.client.output.extend_from_slice(&bytes),
                Step::Record { record, gate } => {
                    let receipt = self.shared.log.submit(*record);
                    if gate {
                        self.gates.push_back(receipt);
                    }
                }
                Step::RefreshCatalog => {
                    let database = self.database.clone();
                    self.refreshing = Some(Box::pin(async move { database.refresh().await }));
                }
                Step::Close => self.closing = true,
            }
        }
    }

    fn mark(&mut self) {
        self.state.enter(if self.relay.is_idle() { ConnectionState::Idle } else { ConnectionState::Active });
    }

    /// A FATAL error of ours for the client, and the end.
    fn last_words(&mut self, sqlstate: &str, message: &str) {
        self.tell_last(&ErrorFields::new("FATAL", sqlstate, message, None, None, None));
    }

    fn tell_last(&mut self, fields: &ErrorFields) {
        if !self.closing {
            self.client.output.extend_from_slice(fields.encode(backend::ERROR_RESPONSE).bytes());
            self.closing = true;
        }
    }

    /// Sends what is owed to both sides, for a while, and has the relay record what was broken off.
    async fn end(mut self) {
        let now = self.now();
        let (relay, steps) = (&mut self.relay, &mut self.steps);
        let closed = fault::caught(self.number, || relay.closed(now, steps));
        // Of one that panicked only its records are believed: what was disclosed before is not to be missing.
        if self.broken || closed.is_err() {
            self.steps.retain(|step| matches!(step, Step::Record { .. }));
        }
        self.perform();
        if !self.server.gone {
            self.server.output.extend_from_slice(frontend::encode_terminate().bytes());
        }
        for side in [&mut self.client, &mut self.server] {
            if !side.gone {
                let output = std::mem::take(&mut side.output);
                let last = async {
                    side.peer.send(&output).await?;
                    // TLS has a word for the end, without which clients suspect that something was cut off.
                    Ok::<_, PeerError>(side.peer.stream.shutdown().await?)
                };
                // A peer that does not take its last bytes in time is not waited for.
                let _ = tokio::time::timeout(LAST_WORDS, last).await;
            }
        }
    }
}

/// The server is the database that the operator chose: PostgreSQL's own limit of a message.
const SERVER_LIMITS: Limits = Limits { message_bytes_max: 0x4000_0000 };

/// Unix microseconds now.
pub fn unix_micros() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;

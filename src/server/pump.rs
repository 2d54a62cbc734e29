//! One task owns both directions of one connection: it reads, hands frames to the relay, and performs the relay's steps.
//!
//! Guarantees: buffers are bounded, so a slow side stalls the reading of the other; one write carries what one read
//! brought; bytes leave in the relay's order; a relay that panicked is asked nothing more. Deliberately absent: any
//! knowledge of what the bytes mean.

use super::fault;
use super::fence::Passage;
use super::ledger;
use super::listener::Shared;
use super::notice::Notice;
use super::shutdown::Phase;
use super::side::Side;
use super::stream::Peer;
use super::world::Database;
use crate::audit::Event;
use crate::audit::writer::Receipt;
use crate::metrics::{Connection, ConnectionState, Direction};
use crate::relay::ledger::{Answer, Asker};
use crate::relay::{Now, Relay, Step, World};
use crate::wire::backend::ErrorFields;
use crate::wire::{self, Limits, Messages, backend, frontend};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::{oneshot, watch};

/// Output that waits for a slow peer before the other side is read no further, in bytes.
const HIGH_WATER: usize = 128 * 1024;
/// How long a peer may take to accept the last bytes.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// How long a client that was told the end may take to end its side.
const LINGER: Duration = Duration::from_millis(200);

/// Records whose answers may be left for a later statement to ask for.
const UNASKED_AT_MOST: usize = 16;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Who {
    Client,
    Server,
}

/// Sides that had nothing to read since the task was woken, and will wake it: to ask again is in vain.
#[derive(Default)]
struct Dry {
    client: bool,
    server: bool,
}

/// Everything that one connection's task owns.
pub struct Pump {
    /// The connection's.
    number: u64,
    client: Side,
    server: Side,
    /// What the client sent and the relay did not yet want.
    asked: Messages,
    relay: Relay,
    shared: Arc<Shared>,
    database: Arc<Database>,
    passage: Passage,
    worlds: watch::Receiver<Arc<World>>,
    phase: watch::Receiver<Phase>,
    /// Wakes this task when one of them changes.
    notice: Notice,
    phase_now: Phase,
    /// Whether anything was tagged in the world of the session's start.
    tagged: Option<bool>,
    /// Nothing was, and now something is: what this session set meanwhile, nobody has judged.
    outdated: bool,
    /// Gated records whose answers nobody has taken yet, oldest first.
    gates: VecDeque<Receipt>,
    /// One of them was not yet seen to.
    submitted: bool,
    /// What the ledger was asked, and for whom.
    asked_ledger: Vec<(Asker, oneshot::Receiver<Answer>)>,
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
            asked: Messages::default(),
            relay,
            passage: database.passage(),
            worlds: database.watch(),
            phase: shared.shutdown.subscribe(),
            notice: Notice::default(),
            phase_now: Phase::Serving,
            tagged: None,
            outdated: false,
            database,
            gates: VecDeque::new(),
            submitted: false,
            asked_ledger: Vec::new(),
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
        let fenced = self.passage.enter();
        // Whoever lowered the fence left a new world before.
        if !fenced && self.worlds.has_changed().unwrap_or(false) {
            self.change_world();
        }
        let (relay, steps) = (&mut self.relay, &mut self.steps);
        relay.fence(fenced);
        let result = match fault::caught(self.number, || work(relay, now, steps)) {
            Ok(result) => {
                self.passage.leave(self.relay.uses_under_way());
                result
            }
            Err(fields) => {
                // Steps that lack the one after them.
                self.steps.clear();
                self.broken = true;
                self.tell_last(&fields);
                return None;
            }
        };
        self.worked += self.started.elapsed().saturating_sub(Duration::from_nanos(now.monotonic_nanos));
        let ended = self.relay.take_ended();
        for _ in 0..ended {
            self.shared.metrics.statement_overhead(self.worked / ended);
        }
        if ended > 0 {
            self.worked = Duration::ZERO;
        }
        Some(result)
    }

    /// Runs the conversation to its end. Boxed, like its end: a future holds what it was given by value more than once.
    pub async fn run(mut self: Box<Self>) {
        // The world may be a newer one than the relay was made with.
        self.change_world();
        self.work(|relay, now, steps| relay.open(now, steps));
        self.perform();
        self.consume();
        poll_fn(|context| self.poll(context)).await;
        Box::pin(self.end()).await;
    }

    /// Does all that can be done now. Ready when the conversation is to end. What never ceases is broken off by the
    /// runtime, whose streams say from time to time that they have nothing.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let mut dry = Dry::default();
        loop {
            self.mark();
            self.end_if_due();
            if self.closing {
                return Poll::Ready(());
            }
            let wrote = self.poll_writes(context);
            let mut heard = self.poll_answers(context);
            // Before any message: what arrives after another connection's DDL is planned by what that left.
            heard |= self.poll_notice(context);
            heard |= self.poll_reads(context, &mut dry);
            if heard {
                self.consume();
            } else if !wrote && !self.write_records() {
                return Poll::Pending;
            }
        }
    }

    /// Has the log write what was submitted since this was asked last; whether something was. All that can be sent was, so the
    /// database works meanwhile.
    fn write_records(&mut self) -> bool {
        let submitted = std::mem::take(&mut self.submitted);
        if submitted {
            self.shared.log.write_here(self.shared.metrics.active_connections() <= 1);
        }
        submitted
    }

    /// Ends the conversation where it should not go on: now, or between transactions.
    fn end_if_due(&mut self) {
        let due = match self.phase_now {
            Phase::Serving => self.outdated,
            Phase::Draining => true,
            Phase::Stopping => return self.last_words("57P01", ADMINISTRATOR),
        };
        if due && self.relay.is_idle() {
            let outdated = "terminating connection because columns of this database are tagged now";
            let why = if self.phase_now == Phase::Draining { ADMINISTRATOR } else { outdated };
            self.last_words("57P01", why);
        }
    }

    /// Writes to both sides; whether anything was, or an end was met.
    fn poll_writes(&mut self, context: &mut Context<'_>) -> bool {
        let mut moved = false;
        for (who, direction) in [(Who::Client, Direction::ToClient), (Who::Server, Direction::ToServer)] {
            match self.side(who).poll_write(context) {
                Poll::Ready(Ok(count)) => self.shared.metrics.bytes(direction, count as u64),
                Poll::Ready(Err(_)) => self.gone(who),
                Poll::Pending => continue,
            }
            moved = true;
        }
        moved
    }

    /// Reads what may be read now: a side's input waits while the other side's output does.
    fn poll_reads(&mut self, context: &mut Context<'_>, dry: &mut Dry) -> bool {
        let wants = self.relay.wants();
        let replies = self.client.waiting() < HIGH_WATER;
        let asks = self.asked.is_empty() && self.server.waiting() < HIGH_WATER;
        let mut moved = false;
        if wants.server && replies && !dry.server {
            match self.server.poll_read(context) {
                Poll::Ready(Ok(0) | Err(_)) => self.gone(Who::Server),
                Poll::Ready(Ok(count)) => self.shared.metrics.bytes(Direction::FromServer, count as u64),
                Poll::Pending => dry.server = true,
            }
            moved |= !dry.server;
        }
        if wants.client && replies && asks && !dry.client && !self.closing {
            match self.client.poll_read(context) {
                Poll::Ready(Ok(0) | Err(_)) => self.gone(Who::Client),
                Poll::Ready(Ok(count)) => self.shared.metrics.bytes(Direction::FromClient, count as u64),
                Poll::Pending => dry.client = true,
            }
            moved |= !dry.client;
        }
        moved
    }

    /// What the log and the catalog answer.
    fn poll_answers(&mut self, context: &mut Context<'_>) -> bool {
        let mut moved = false;
        // Before anything waits for it, an answer would only wake this task. Those of statements that failed before their reply wait for
        // the next one's.
        while (self.relay.waits_for_record() || self.gates.len() > UNASKED_AT_MOST)
            && let Some(receipt) = self.gates.front_mut()
            && let Poll::Ready(answer) = Pin::new(receipt).poll(context)
        {
            self.gates.pop_front();
            let result = self.work(|relay, now, steps| relay.recorded(answer.map(|_| ()), now, steps));
            self.settle(result);
            moved = true;
        }
        moved |= self.poll_ledger(context);
        if let Some(refreshing) = &mut self.refreshing
            && let Poll::Ready(_) = refreshing.as_mut().poll(context)
        {
            self.refreshing = None;
            // The newest there is: another may have come since that one was read.
            let worlds = self.worlds.clone();
            let result = self.work(|relay, now, steps| {
                let world = worlds.borrow().clone();
                relay.refreshed(world, now, steps)
            });
            self.settle(result);
            moved = true;
        }
        moved
    }

    /// What the ledger answers. One that is gone without an answer is as good as none: it says that it cannot.
    fn poll_ledger(&mut self, context: &mut Context<'_>) -> bool {
        let mut moved = false;
        let mut at = 0;
        while let Some((asker, receiver)) = self.asked_ledger.get_mut(at) {
            let asker = *asker;
            let Poll::Ready(answer) = Pin::new(receiver).poll(context) else {
                at += 1;
                continue;
            };
            self.asked_ledger.swap_remove(at);
            let answer = answer.unwrap_or(ledger::unavailable(asker));
            let result = self.work(|relay, now, steps| relay.ledger_answered(asker, answer, now, steps));
            self.settle(result);
            moved = true;
        }
        moved
    }

    fn poll_notice(&mut self, context: &mut Context<'_>) -> bool {
        if !self.notice.poll(context, &mut self.worlds, &mut self.phase) {
            return false;
        }
        self.change_world();
        true
    }

    fn side(&mut self, who: Who) -> &mut Side {
        match who {
            Who::Client => &mut self.client,
            Who::Server => &mut self.server,
        }
    }

    /// A side has ended.
    fn gone(&mut self, who: Who) {
        self.side(who).gone = true;
        match who {
            Who::Client => self.closing = true,
            Who::Server => {
                // Whatever came before the end is handled; a FATAL of the server's own among it closes.
                self.consume();
                self.last_words("08006", "the database closed the connection");
            }
        }
    }

    /// Takes up the world and the phase of now.
    fn change_world(&mut self) {
        let world = self.worlds.borrow_and_update().clone();
        let tagged = world.catalog.has_tags();
        let at_start = *self.tagged.get_or_insert(tagged);
        self.outdated = tagged && !at_start;
        self.phase_now = *self.phase.borrow_and_update();
        self.notice.seen();
        self.relay.world(world);
    }

    /// Hands the relay every whole message that it wants.
    fn consume(&mut self) {
        while !self.closing && (self.consume_server() || self.consume_client()) {}
        self.server.give_back_room();
        self.client.give_back_room();
    }

    fn consume_server(&mut self) -> bool {
        if self.server.input.is_empty() || !self.relay.wants().server {
            return false;
        }
        match wire::whole(&mut self.server.input, &SERVER_LIMITS) {
            Ok(messages) if messages.is_empty() => false,
            Ok(messages) => {
                let result = self.work(|relay, now, steps| relay.server(messages, now, steps));
                self.settle(result);
                true
            }
            Err(_) => {
                self.last_words("08P01", "the database sent a message that cannot be read");
                false
            }
        }
    }

    fn consume_client(&mut self) -> bool {
        if self.client.input.is_empty() && self.asked.is_empty() || !self.relay.wants().client {
            return false;
        }
        if self.asked.is_empty() {
            match wire::whole(&mut self.client.input, &self.limits) {
                Ok(messages) => self.asked = messages,
                Err(violation) => {
                    self.last_words("08P01", &violation.0);
                    return false;
                }
            }
        }
        match self.asked.tag() {
            None => false,
            Some(frontend::TERMINATE) => {
                self.closing = true;
                false
            }
            Some(_) => {
                let mut asked = std::mem::take(&mut self.asked);
                let result = self.work(|relay, now, steps| relay.client(&mut asked, now, steps));
                self.asked = asked;
                self.settle(result);
                true
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
        let mut steps = std::mem::take(&mut self.steps);
        for step in steps.drain(..) {
            match step {
                Step::ToServer(bytes) => self.server.push(bytes),
                Step::ToClient(bytes) => self.client.push(bytes),
                Step::Record { record, gate } => {
                    if let Event::BreakGlass { .. } = &record.event {
                        tracing::warn!(
                            connection = self.number,
                            user = record.connection.user,
                            "the glass was broken"
                        );
                    }
                    if gate {
                        self.gates.push_back(self.shared.log.submit_here(record));
                        self.submitted = true;
                    } else {
                        self.shared.log.note(record);
                    }
                }
                Step::Ask { asker, question } => {
                    let (answer, receiver) = oneshot::channel();
                    let shared = self.shared.clone();
                    // A task of its own: what the ledger gives must not be lost with this connection.
                    tokio::spawn(async move { ledger::answer(&shared, question, answer).await });
                    self.asked_ledger.push((asker, receiver));
                }
                Step::RefreshCatalog => {
                    let database = self.database.clone();
                    self.refreshing = Some(Box::pin(async move { database.refresh().await }));
                }
                Step::Close => self.closing = true,
            }
        }
        self.steps = steps;
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
            self.client.push(fields.encode(backend::ERROR_RESPONSE).into_bytes());
            self.closing = true;
        }
    }

    /// Sends what is owed to both sides, for a while, and has the relay record what was broken off.
    async fn end(mut self: Box<Self>) {
        let now = self.now();
        let (relay, steps) = (&mut self.relay, &mut self.steps);
        let closed = fault::caught(self.number, || relay.closed(now, steps));
        // Of one that panicked only its records are believed: what was disclosed before is not to be missing.
        if self.broken || closed.is_err() {
            self.steps.retain(|step| matches!(step, Step::Record { .. }));
        }
        self.perform();
        if !self.server.gone {
            self.server.push(frontend::encode_terminate().into_bytes());
        }
        let Pump { mut client, mut server, .. } = *self;
        for side in [&mut client, &mut server] {
            if !side.gone {
                // A peer that does not take its last bytes in time is not waited for.
                let _ = tokio::time::timeout(LAST_WORDS, side.finish()).await;
            }
        }
        drop(server);
        if !client.gone {
            let _ = tokio::time::timeout(LINGER, client.linger()).await;
        }
    }
}

/// What PostgreSQL says when it is told to stop.
const ADMINISTRATOR: &str = "terminating connection due to administrator command";

/// The server is the database that the operator chose: PostgreSQL's own limit of a message.
const SERVER_LIMITS: Limits = Limits { message_bytes_max: 0x4000_0000 };

/// Unix microseconds now.
pub fn unix_micros() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;

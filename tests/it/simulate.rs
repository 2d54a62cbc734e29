//! Seeded simulation of the relay against a fake server: random statements, pipelines, splits of both streams, slow
//! logs, errors, limits, altered cells. One seed reproduces a failure.
//!
//! The oracle is the same fake server asked directly, as an ideal one that would itself know the policy: what the client
//! reads and what is committed must be the same. Besides: every value is a canary, which reaches neither a client
//! without a disclosure, nor the server, nor a record; and a record is accepted before the rows that it covers leave.

use crate::conversation::{Pump, Seen, record_text, to_client_text, to_server_text, world};
use crate::fake::{Fake, Kind, Rights, kind};
use pgveil::audit::Event;
use pgveil::relay::World;
use pgveil::wire::Frame;
use pgveil::wire::backend::{self, ErrorFields};
use pgveil::wire::frontend::{self, Bind, Parse, Target};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

/// Random statements and messages of a client.
struct Author {
    random: StdRng,
    next: usize,
    /// In pipelines, plans may be stale.
    stale: bool,
    sent: Vec<Frame>,
}

impl Author {
    fn statement(&mut self) -> String {
        self.next += 1;
        let id = self.next;
        let alias = match self.random.random_range(0..10) {
            2..6 if self.stale => "stale",
            0 => "altered",
            1 => "unlogged",
            _ => "c",
        };
        let rows = if alias == "altered" { 1 } else { self.random.random_range(1..5) };
        match self.random.random_range(0..16) {
            0 | 1 => "select 1".into(),
            2 => "select bogus".into(),
            3 => "insert into plain (id) values (1)".into(),
            4 => "begin".into(),
            5 => "commit".into(),
            6 => "rollback".into(),
            7 => "set search_path = public".into(),
            8 => format!("insert into customers (id, email) values (1, 'lit-{id}')"),
            9 | 10 => format!(
                "insert into customers (id, email) values (1, 'lit-{id}') returning email as {alias}{id}"
            ),
            11 | 12 => {
                format!("select email as {alias}{id} from customers where email = 'lit-{id}' limit {rows}")
            }
            _ => format!("select email as {alias}{id} from customers limit {rows}"),
        }
    }
    fn text(&mut self) -> String {
        let control = |sql: &str| matches!(sql, "begin" | "commit" | "rollback");
        let mut text = self.statement();
        while self.random.random_bool(0.25) && !control(text.rsplit("; ").next().unwrap()) && !control(&text)
        {
            let next = self.statement();
            if !control(&next) {
                text = format!("{text}; {next}");
            }
        }
        text
    }
    fn pipeline(&mut self) {
        let names = ["", "", "n1", "n2"];
        for _ in 0..self.random.random_range(1..4) {
            let name = *names.choose(&mut self.random).unwrap();
            let portal = *["", "p"].choose(&mut self.random).unwrap();
            if name.is_empty() || self.random.random_bool(0.7) {
                let sql = self.statement();
                self.sent.push(Parse { name, sql: &sql, types: vec![] }.encode());
            }
            if self.random.random_bool(0.2) {
                self.sent.push(frontend::encode_describe(Target::Statement, name));
            }
            let bind = Bind {
                portal,
                statement: name,
                parameter_formats: vec![],
                parameters: vec![],
                result_formats: vec![],
            };
            self.sent.push(bind.encode());
            if self.random.random_bool(0.4) {
                self.sent.push(frontend::encode_describe(Target::Portal, portal));
            }
            if self.random.random_bool(0.2) {
                self.sent.push(frontend::encode_execute(portal, 1));
            }
            self.sent.push(frontend::encode_execute(portal, 0));
            if self.random.random_bool(0.1) {
                self.sent.push(frontend::encode_flush());
            }
            if self.random.random_bool(0.1) {
                let target = *[Target::Statement, Target::Portal].choose(&mut self.random).unwrap();
                self.sent.push(frontend::encode_close(target, name));
            }
        }
        self.sent.push(frontend::encode_sync());
    }
    fn conversation(mut self) -> Vec<Frame> {
        for _ in 0..self.random.random_range(3..12) {
            let stale = std::mem::take(&mut self.stale);
            if self.random.random_bool(if stale { 0.2 } else { 0.5 }) {
                let text = self.text();
                self.sent.push(frontend::encode_query(&text));
                self.stale = stale;
            } else {
                self.stale = stale;
                self.pipeline();
            }
        }
        self.sent
    }
}

/// What a client reads, errors by their SQLSTATE only.
fn transcript_line(world: &World, frame: &Frame) -> String {
    match frame.tag() {
        b'E' => format!("ErrorResponse {}", ErrorFields::view(frame).unwrap().sqlstate()),
        b'T' => {
            let fields = backend::row_description(frame).unwrap();
            format!("RowDescription {}", fields[0].type_oid)
        }
        b'D' => {
            let line = to_client_text(world, frame);
            if line.contains("canary") || line.contains("(1)") { line } else { "DataRow (masked)".into() }
        }
        _ => to_client_text(world, frame),
    }
}

/// What the relay did, checked as it happens.
struct Watch {
    transcript: Vec<String>,
    /// Shapes of intents that the log accepted.
    accepted: Vec<String>,
    /// Shapes of intents that it has not answered.
    asked: VecDeque<String>,
    ended: BTreeSet<u64>,
    masked: bool,
    traced: bool,
}

impl Watch {
    fn new(rights: Rights) -> Watch {
        Watch {
            transcript: vec![],
            accepted: vec![],
            asked: VecDeque::new(),
            ended: BTreeSet::new(),
            masked: rights.masked,
            traced: std::env::var_os("SEED").is_some(),
        }
    }
    /// Answers the oldest gated record.
    fn answer_log(&mut self, pump: &mut Pump) {
        let shape = self.asked.pop_front().unwrap();
        let ok = !shape.contains("unlogged");
        self.accepted.extend(ok.then_some(shape));
        pump.log(ok);
    }
    /// With `SEED` set, tells the whole conversation.
    fn trace(&self, line: impl Fn() -> String) {
        if self.traced {
            println!("{}", line());
        }
    }
    fn see(&mut self, pump: &mut Pump, fake: &mut Fake) {
        let world = pump.world.clone();
        for seen in pump.seen() {
            match seen {
                Seen::ToServer(frame) => {
                    self.trace(|| format!("    >S {}", to_server_text(&world, &frame)));
                    let text = String::from_utf8_lossy(frame.bytes()).into_owned();
                    assert!(!text.contains("lit-") && !text.contains("canary"), "plaintext upstream: {text}");
                    fake.hear(&frame);
                }
                Seen::ToClient(frame) => {
                    self.trace(|| format!("    >C {}", to_client_text(&world, &frame)));
                    let line = transcript_line(&world, &frame);
                    if let Some(at) = line.find("canary-") {
                        assert!(!self.masked, "a canary without a disclosure: {line}");
                        let id = line[at + 7..].split('-').next().unwrap();
                        let covered = self.accepted.iter().any(|shape| {
                            shape
                                .split([' ', ','])
                                .any(|word| word.trim_start_matches(char::is_alphabetic) == id)
                        });
                        assert!(covered, "no accepted record covers {line}");
                    }
                    self.transcript.push(line);
                }
                Seen::Record(record, gate) => {
                    let text = record_text(&record);
                    self.trace(|| format!("    audit {text}"));
                    assert!(
                        !text.contains("lit-") && !text.contains("canary"),
                        "plaintext in a record: {text}"
                    );
                    match &record.event {
                        Event::Intent { intent, .. } => {
                            assert!(gate);
                            self.asked.push_back(intent.shape.clone());
                        }
                        Event::Outcome { statement, .. } => {
                            assert!(self.ended.insert(*statement), "two outcomes of one statement");
                        }
                        _ => {}
                    }
                }
                Seen::Ask => panic!("nothing here asks the ledger"),
                Seen::Refresh => {}
                Seen::Close => panic!("closed after {:#?}", self.transcript),
            }
        }
    }
}

/// Whether all of a pipeline may be sent again where a plan of it is stale: nothing but planned statements in it, which
/// live on when they were answered.
fn repeatable(pipeline: &[Frame], ideal: &Fake, rights: Rights) -> bool {
    let mut known = ideal.statements.clone();
    let allowed = |kind: Option<&Kind>| matches!(kind, Some(Kind::Tagged { writes, .. }) if rights.reads && (rights.writes || !writes));
    let (mut used_before, mut parsed, mut replaced) = (false, false, false);
    let fits = pipeline.iter().all(|frame| match frame.tag() {
        b'P' => {
            let parse = Parse::view(frame).unwrap();
            let kind = kind(parse.sql);
            parsed |= parse.name.is_empty();
            replaced |= parse.name.is_empty() && used_before;
            let fits = allowed(Some(&kind));
            if parse.name.is_empty() || !known.contains_key(parse.name) {
                known.insert(parse.name.to_owned(), kind);
            }
            fits
        }
        b'B' => {
            let name = Bind::view(frame).unwrap().statement;
            used_before |= name.is_empty() && !parsed;
            allowed(known.get(name))
        }
        b'D' | b'C' => match frontend::target(frame).unwrap() {
            (Target::Statement, name) if frame.tag() == b'D' => {
                used_before |= name.is_empty() && !parsed;
                allowed(known.get(name))
            }
            (target, _) => target == Target::Portal,
        },
        tag => tag != b'Q',
    });
    fits && !replaced
}

/// Each pipeline waits for the answer to the one before, and comes whole before the server answers.
fn simulate_stale(seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let (user, rights) = *USERS.choose(&mut random).unwrap();
    let world = WORLD.with(Clone::clone);
    let author = Author { random: StdRng::seed_from_u64(seed ^ 0x5eed), next: 0, stale: true, sent: vec![] };
    let mut ideal = Fake::new(world.clone(), Some(rights));
    let mut fake = Fake::new(world.clone(), None);
    let mut pump = Pump::unheard(world.clone(), user);
    let mut watch = Watch::new(rights);
    for pipeline in author.conversation().split_inclusive(|frame| matches!(frame.tag(), b'S' | b'Q')) {
        ideal.repeatable = repeatable(pipeline, &ideal, rights);
        pipeline.iter().for_each(|frame| ideal.hear(frame));
        pipeline.iter().for_each(|frame| watch.trace(|| format!("C> {}", to_server_text(&world, frame))));
        pump.client.extend(pipeline.iter().cloned());
        loop {
            while pump.step() {
                watch.see(&mut pump, &mut fake);
            }
            watch.see(&mut pump, &mut fake);
            if pump.refreshing {
                pump.refreshed(world.clone());
            } else if pump.gates > 0 && random.random_bool(0.5) {
                watch.answer_log(&mut pump);
            } else if !fake.sent.is_empty() {
                let count = random.random_range(1..=fake.sent.len());
                pump.server.extend(fake.sent.drain(..count).inspect(|frame| {
                    watch.trace(|| format!("S> {}", to_client_text(&world, frame)));
                }));
            } else if pump.gates > 0 {
                watch.answer_log(&mut pump);
            } else {
                break;
            }
        }
    }
    same(user, &world, &ideal, &fake, &pump, &watch);
}

/// What the client read and what is committed is the same.
fn same(user: &str, world: &World, ideal: &Fake, fake: &Fake, pump: &Pump, watch: &Watch) {
    let expected: Vec<String> = ideal.sent.iter().map(|frame| transcript_line(world, frame)).collect();
    assert!(
        pump.client.is_empty(),
        "stuck: {} messages wait after {:#?}",
        pump.client.len(),
        watch.transcript
    );
    let differs = expected.iter().zip(&watch.transcript).position(|(ideal, real)| ideal != real);
    let at = differs.unwrap_or(expected.len().min(watch.transcript.len()));
    assert_eq!(
        watch.transcript,
        expected,
        "{user}: the conversation differs at {at}: {:?}, not {:?}",
        watch.transcript.get(at),
        expected.get(at)
    );
    assert_eq!(fake.committed, ideal.committed, "{user}: what is committed differs");
}

fn simulate(seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let (user, rights) = *USERS.choose(&mut random).unwrap();
    let world = WORLD.with(Clone::clone);
    let author = Author { random: StdRng::seed_from_u64(seed ^ 0x5eed), next: 0, stale: false, sent: vec![] };
    let messages = author.conversation();

    let mut ideal = Fake::new(world.clone(), Some(rights));
    messages.iter().for_each(|frame| ideal.hear(frame));

    let mut fake = Fake::new(world.clone(), None);
    let mut pump = Pump::unheard(world.clone(), user);
    let mut watch = Watch::new(rights);
    watch.see(&mut pump, &mut fake);
    let mut waiting: VecDeque<Frame> = messages.into();
    loop {
        let mut moved = false;
        for _ in 0..random.random_range(0..4) {
            moved |= waiting.front().is_some();
            let next = waiting.pop_front();
            next.iter().for_each(|frame| watch.trace(|| format!("C> {}", to_server_text(&world, frame))));
            pump.client.extend(next);
        }
        for _ in 0..random.random_range(0..6) {
            moved |= fake.sent.front().is_some();
            let next = fake.sent.pop_front();
            next.iter().for_each(|frame| watch.trace(|| format!("S> {}", to_client_text(&world, frame))));
            pump.server.extend(next);
        }
        if random.random_bool(0.5) {
            moved |= pump.step();
            watch.see(&mut pump, &mut fake);
        }
        if pump.gates > 0 && random.random_bool(0.3) {
            moved = true;
            watch.answer_log(&mut pump);
            watch.see(&mut pump, &mut fake);
        }
        if pump.refreshing {
            moved = true;
            pump.refreshed(world.clone());
            watch.see(&mut pump, &mut fake);
        }
        let idle = waiting.is_empty() && fake.sent.is_empty() && pump.gates == 0;
        if !moved && idle && !pump.step() {
            watch.see(&mut pump, &mut fake);
            if fake.sent.is_empty() && pump.gates == 0 && !pump.refreshing {
                break;
            }
        }
        watch.see(&mut pump, &mut fake);
    }
    same(user, &world, &ideal, &fake, &pump, &watch);
}

const USERS: [(&str, Rights); 3] = [
    ("shop", Rights { reads: true, writes: true, masked: false, rows_max: 100 }),
    ("alice", Rights { reads: true, writes: false, masked: true, rows_max: 2 }),
    ("ivan", Rights { reads: false, writes: false, masked: true, rows_max: 0 }),
];

thread_local! {
    static WORLD: Arc<World> = world(|_| {});
}

fn seeds(simulate: fn(u64), count: u64) {
    let seeds = match std::env::var("SEED") {
        Ok(seed) => vec![seed.parse().unwrap()],
        Err(_) => (0..count).collect(),
    };
    for seed in seeds {
        let outcome = std::panic::catch_unwind(|| simulate(seed));
        assert!(outcome.is_ok(), "SEED={seed} reproduces it");
    }
}

#[test]
fn the_relay_behaves_as_a_server_that_knows_the_policy() {
    seeds(simulate, 400);
}

#[test]
fn a_stale_plan_is_seen_only_where_it_must_be() {
    seeds(simulate_stale, 400);
}

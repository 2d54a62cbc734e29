//! Seeded simulation of the relay against a fake server: random statements, pipelines, splits of both streams, slow
//! logs, errors, limits, altered cells. One seed reproduces a failure.
//!
//! The oracle is the same fake server asked directly, as an ideal one that would itself know the policy: what the client
//! reads and what is committed must be the same. Besides: every value is a canary, which reaches neither a client
//! without a disclosure, nor the server, nor a record; and a record is accepted before the rows that it covers leave.

use crate::conversation::{Pump, Seen, data_row, record_text, sealed, to_client_text, to_server_text, world};
use pgveil::audit::Event;
use pgveil::relay::World;
use pgveil::wire::Frame;
use pgveil::wire::backend::{self, ErrorFields, Field};
use pgveil::wire::frontend::{self, Bind, Parse, Target};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// What a statement of the simulated language is.
#[derive(Clone, Debug, PartialEq)]
enum Kind {
    Begin,
    Commit,
    Rollback,
    Set,
    Select,
    /// Writes an untagged row.
    Write,
    /// Over `customers`: the number in its alias, rows of its result, whether it writes.
    Tagged {
        id: String,
        rows: usize,
        writes: bool,
        fate: Fate,
    },
    Question,
    Refused,
    /// Parses, and fails in analysis.
    Broken,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    Good,
    Altered,
    Unlogged,
}

fn kind(sql: &str) -> Kind {
    let text = sql.to_lowercase().replace('"', "");
    let words: Vec<&str> = text.split([' ', ',', '(', ')']).collect();
    if text.contains("pgveil_refused") {
        return Kind::Refused;
    }
    if text.contains("set_config") {
        return Kind::Question;
    }
    if text.contains("bogus") {
        return Kind::Broken;
    }
    if text.contains("customers") {
        let alias = words.iter().position(|word| *word == "as").map(|at| words[at + 1]);
        let alias = alias.unwrap_or("none0");
        let limit = words.iter().position(|word| *word == "limit").map(|at| words[at + 1]);
        let digits = alias.find(|c: char| c.is_ascii_digit()).unwrap();
        return Kind::Tagged {
            id: alias[digits..].to_owned(),
            rows: match (limit, alias.starts_with("none")) {
                (Some(limit), _) => limit.parse().unwrap(),
                (None, true) => 0,
                (None, false) => 1,
            },
            writes: text.starts_with("insert"),
            fate: match &alias[..digits] {
                "altered" => Fate::Altered,
                "unlogged" => Fate::Unlogged,
                _ => Fate::Good,
            },
        };
    }
    match words[0] {
        "begin" => Kind::Begin,
        "commit" => Kind::Commit,
        "rollback" => Kind::Rollback,
        "set" => Kind::Set,
        "insert" => Kind::Write,
        _ => Kind::Select,
    }
}

/// How the ideal server sees its user.
#[derive(Clone, Copy, PartialEq)]
struct Rights {
    reads: bool,
    writes: bool,
    masked: bool,
    rows_max: usize,
}

struct Portal {
    kind: Kind,
    at: usize,
    done: bool,
}

/// A server that speaks the protocol strictly: what is not flushed is not sent.
struct Fake {
    world: Arc<World>,
    /// Present in the ideal server: it answers as the proxy should.
    rights: Option<Rights>,
    statements: BTreeMap<String, Kind>,
    portals: BTreeMap<String, Portal>,
    explicit: bool,
    failed: bool,
    skipping: bool,
    pending: usize,
    committed: usize,
    kept: Vec<Frame>,
    sent: VecDeque<Frame>,
}

impl Fake {
    fn new(world: Arc<World>, rights: Option<Rights>) -> Fake {
        Fake {
            world,
            rights,
            statements: BTreeMap::new(),
            portals: BTreeMap::new(),
            explicit: false,
            failed: false,
            skipping: false,
            pending: 0,
            committed: 0,
            kept: vec![],
            sent: VecDeque::new(),
        }
    }

    fn say(&mut self, tag: u8, body: &[u8]) {
        let mut bytes = vec![tag];
        bytes.extend((body.len() as u32 + 4).to_be_bytes());
        bytes.extend(body);
        self.kept.push(Frame::from_bytes(bytes.into()));
    }
    fn flush(&mut self) {
        self.sent.extend(self.kept.drain(..));
    }
    fn error(&mut self, sqlstate: &str) -> Result<(), ()> {
        self.kept.push(ErrorFields::new("ERROR", sqlstate, "m", None, None, None).encode(b'E'));
        self.flush();
        self.failed = true;
        Err(())
    }
    fn ready(&mut self) {
        if !self.explicit {
            if !self.failed {
                self.committed += self.pending;
            }
            self.pending = 0;
            self.failed = false;
            self.portals.clear();
        }
        let status = if self.failed {
            b'E'
        } else if self.explicit {
            b'T'
        } else {
            b'I'
        };
        self.say(b'Z', &[status]);
        self.flush();
    }

    fn hear(&mut self, frame: &Frame) {
        match frame.tag() {
            b'S' => {
                self.skipping = false;
                self.ready();
            }
            b'H' if !self.skipping => self.flush(),
            b'X' => {}
            _ if self.skipping => {}
            b'Q' => {
                self.statements.remove("");
                let text = frontend::query_text(frame).unwrap().to_owned();
                let _ = self.query(&text);
                self.ready();
            }
            _ => {
                if self.extended(frame).is_err() {
                    self.skipping = true;
                }
            }
        }
    }

    fn query(&mut self, text: &str) -> Result<(), ()> {
        let kinds: Vec<Kind> = text.split(';').map(|sql| kind(sql.trim())).collect();
        for kind in kinds.iter().filter(|kind| **kind != Kind::Broken) {
            self.parse(kind)?;
        }
        for kind in kinds {
            self.not_failed(&kind)?;
            if kind == Kind::Broken {
                return self.error("42703");
            }
            let mut portal = Portal { kind, at: 0, done: false };
            self.describe(&portal.kind, false);
            self.run(&mut portal, 0)?;
        }
        Ok(())
    }

    fn not_failed(&mut self, kind: &Kind) -> Result<(), ()> {
        if self.failed && !matches!(kind, Kind::Commit | Kind::Rollback) {
            return self.error("25P02");
        }
        Ok(())
    }

    fn parse(&mut self, kind: &Kind) -> Result<(), ()> {
        if *kind == Kind::Broken {
            self.not_failed(kind)?;
            return self.error("42703");
        }
        let refused = match (kind, self.rights) {
            (Kind::Tagged { writes, .. }, Some(rights)) => !rights.reads || (*writes && !rights.writes),
            _ => false,
        };
        if (refused || *kind == Kind::Refused) && self.failed {
            return self.error("25P02");
        }
        if refused {
            return self.error("42501");
        }
        if *kind == Kind::Refused {
            return self.error("42883");
        }
        Ok(())
    }

    fn extended(&mut self, frame: &Frame) -> Result<(), ()> {
        match frame.tag() {
            b'P' => {
                let parse = Parse::view(frame).unwrap();
                let kind = kind(parse.sql);
                if parse.name.is_empty() && kind == Kind::Broken {
                    self.statements.remove("");
                }
                self.parse(&kind)?;
                if parse.name.is_empty() {
                    self.statements.remove("");
                }
                self.not_failed(&kind)?;
                if self.statements.contains_key(parse.name) {
                    return self.error("42P05");
                }
                self.statements.insert(parse.name.to_owned(), kind);
                self.say(b'1', b"");
            }
            b'B' => {
                let bind = Bind::view(frame).unwrap();
                let Some(kind) = self.statements.get(bind.statement).cloned() else {
                    return self.error("26000");
                };
                self.not_failed(&kind)?;
                self.portals.insert(bind.portal.to_owned(), Portal { kind, at: 0, done: false });
                self.say(b'2', b"");
            }
            b'D' => {
                let (target, name) = frontend::target(frame).unwrap();
                let found = match target {
                    Target::Statement => self.statements.get(name).cloned(),
                    Target::Portal => self.portals.get(name).map(|portal| portal.kind.clone()),
                };
                let Some(kind) = found else {
                    return self.error(if target == Target::Statement { "26000" } else { "34000" });
                };
                self.not_failed(&kind)?;
                if target == Target::Statement {
                    self.say(b't', &[0, 0]);
                }
                self.describe(&kind, true);
            }
            b'E' => {
                let (name, rows_max) = frontend::execute(frame).unwrap();
                let name = name.to_owned();
                let Some(mut portal) = self.portals.remove(&name) else { return self.error("34000") };
                self.not_failed(&portal.kind)?;
                let ran = self.run(&mut portal, rows_max as usize);
                self.portals.insert(name, portal);
                ran?;
            }
            b'C' => {
                let (target, name) = frontend::target(frame).unwrap();
                match target {
                    Target::Statement => drop(self.statements.remove(name)),
                    Target::Portal => drop(self.portals.remove(name)),
                }
                self.say(b'3', b"");
            }
            tag => panic!("the server was sent {}", char::from(tag)),
        }
        Ok(())
    }

    fn describe(&mut self, kind: &Kind, no_data: bool) {
        let (name, type_oid) = match kind {
            Kind::Select => ("a".to_owned(), 23),
            Kind::Tagged { id, rows, .. } if *rows > 0 => {
                (format!("c{id}"), if self.rights.is_some() { 25 } else { 17 })
            }
            Kind::Question => ("q".to_owned(), 25),
            _ => {
                if no_data {
                    self.say(b'n', b"");
                }
                return;
            }
        };
        let field = Field {
            name,
            table_oid: 0,
            column_number: 0,
            type_oid,
            type_length: -1,
            type_modifier: -1,
            format: 0,
        };
        self.kept.push(backend::encode_row_description(&[field]));
    }

    fn run(&mut self, portal: &mut Portal, rows_max: usize) -> Result<(), ()> {
        if portal.done && !matches!(portal.kind, Kind::Select | Kind::Tagged { writes: false, .. }) {
            return self.error("55000");
        }
        let (rows, tag) = match portal.kind.clone() {
            Kind::Begin => {
                self.explicit = true;
                (0, "BEGIN".to_owned())
            }
            Kind::Commit | Kind::Rollback => {
                let commits = portal.kind == Kind::Commit && !self.failed;
                self.committed += if commits { self.pending } else { 0 };
                self.pending = 0;
                self.failed = false;
                self.explicit = false;
                (0, if commits { "COMMIT" } else { "ROLLBACK" }.to_owned())
            }
            Kind::Set => (0, "SET".to_owned()),
            Kind::Write => {
                self.pending += 1;
                (0, "INSERT 0 1".to_owned())
            }
            Kind::Select => (1, "SELECT".to_owned()),
            Kind::Question => (3, "SELECT".to_owned()),
            Kind::Tagged { rows, writes, .. } => {
                if writes && portal.at == 0 {
                    self.pending += 1;
                }
                (rows, if writes { "INSERT 0 1" } else { "SELECT" }.to_owned())
            }
            Kind::Refused | Kind::Broken => unreachable!(),
        };
        if let (Kind::Tagged { fate: Fate::Unlogged, .. }, Some(_)) = (&portal.kind, self.rights)
            && portal.at == 0
        {
            return self.error("58030");
        }
        let mut given = 0;
        while portal.at < rows && (rows_max == 0 || given < rows_max) {
            self.row(&portal.kind.clone(), portal.at)?;
            portal.at += 1;
            given += 1;
        }
        if rows_max > 0 && given == rows_max {
            self.say(b's', b"");
        } else {
            portal.done = true;
            let tag = if rows > 0 && tag == "SELECT" { format!("SELECT {given}") } else { tag };
            self.kept.push(backend::encode_command_complete(&tag));
        }
        Ok(())
    }

    fn row(&mut self, kind: &Kind, at: usize) -> Result<(), ()> {
        let row = match (kind, self.rights) {
            (Kind::Question, _) => {
                let rows = [("0", "hex"), ("1", "pg_catalog"), ("1", "public")];
                data_row(&[Some(rows[at].0.into()), Some(rows[at].1.into())])
            }
            (Kind::Tagged { fate: Fate::Altered, .. }, Some(_)) => return self.error("XX001"),
            (Kind::Tagged { .. }, Some(rights)) if at >= rights.rows_max => return self.error("53400"),
            (Kind::Tagged { .. }, Some(rights)) if rights.masked => data_row(&[Some(b"masked".to_vec())]),
            (Kind::Tagged { id, .. }, Some(_)) => data_row(&[Some(format!("canary-{id}-{at}").into_bytes())]),
            (Kind::Tagged { id, fate, .. }, None) => {
                let mut cell = sealed(&self.world, "email", format!("canary-{id}-{at}").as_bytes());
                if *fate == Fate::Altered {
                    *cell.last_mut().unwrap() ^= 1;
                }
                let hex: String = cell.iter().map(|byte| format!("{byte:02x}")).collect();
                data_row(&[Some(format!("\\x{hex}").into_bytes())])
            }
            _ => data_row(&[Some(b"1".to_vec())]),
        };
        self.kept.push(row);
        Ok(())
    }
}

/// Random statements and messages of a client.
struct Author {
    random: StdRng,
    next: usize,
    sent: Vec<Frame>,
}

impl Author {
    fn statement(&mut self) -> String {
        self.next += 1;
        let id = self.next;
        let alias = match self.random.random_range(0..10) {
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
            if self.random.random_bool(0.5) {
                let text = self.text();
                self.sent.push(frontend::encode_query(&text));
            } else {
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
                        Event::Intent { shape, .. } => {
                            assert!(gate);
                            self.asked.push_back(shape.clone());
                        }
                        Event::Outcome { statement, .. } => {
                            assert!(self.ended.insert(*statement), "two outcomes of one statement");
                        }
                        _ => {}
                    }
                }
                Seen::Refresh => {}
                Seen::Close => panic!("closed after {:#?}", self.transcript),
            }
        }
    }
}

fn simulate(seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let (user, rights) = *[
        ("shop", Rights { reads: true, writes: true, masked: false, rows_max: 100 }),
        ("alice", Rights { reads: true, writes: false, masked: true, rows_max: 2 }),
        ("ivan", Rights { reads: false, writes: false, masked: true, rows_max: 0 }),
    ]
    .choose(&mut random)
    .unwrap();
    let world = WORLD.with(Clone::clone);
    let author = Author { random: StdRng::seed_from_u64(seed ^ 0x5eed), next: 0, sent: vec![] };
    let messages = author.conversation();

    let mut ideal = Fake::new(world.clone(), Some(rights));
    messages.iter().for_each(|frame| ideal.hear(frame));
    let expected: Vec<String> = ideal.sent.iter().map(|frame| transcript_line(&world, frame)).collect();

    let mut fake = Fake::new(world.clone(), None);
    let mut pump = Pump::unheard(world.clone(), user);
    let mut watch = Watch {
        transcript: vec![],
        accepted: vec![],
        asked: VecDeque::new(),
        ended: BTreeSet::new(),
        masked: rights.masked,
        traced: std::env::var_os("SEED").is_some(),
    };
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
            let shape = watch.asked.pop_front().unwrap();
            let ok = !shape.contains("unlogged");
            watch.accepted.extend(ok.then_some(shape));
            pump.log(ok);
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

thread_local! {
    static WORLD: Arc<World> = world(|_| {});
}

#[test]
fn the_relay_behaves_as_a_server_that_knows_the_policy() {
    let seeds = match std::env::var("SEED") {
        Ok(seed) => vec![seed.parse().unwrap()],
        Err(_) => (0..400).collect(),
    };
    for seed in seeds {
        let outcome = std::panic::catch_unwind(|| simulate(seed));
        assert!(outcome.is_ok(), "SEED={seed} reproduces it");
    }
}

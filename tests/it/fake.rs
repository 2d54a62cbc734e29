//! A fake server that speaks the protocol strictly, for `simulate`; and an ideal one, which would itself know the policy.

use crate::conversation::{data_row, sealed};
use pgveil::relay::World;
use pgveil::wire::Frame;
use pgveil::wire::backend::{self, ErrorFields, Field};
use pgveil::wire::frontend::{self, Bind, Parse, Target};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// What a statement of the simulated language is.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
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
pub enum Fate {
    Good,
    Altered,
    Unlogged,
    /// The database changed under it: the first time it fails, at Parse, Bind or Execute by its number.
    Stale,
}

pub fn kind(sql: &str) -> Kind {
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
                "stale" => Fate::Stale,
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
pub struct Rights {
    pub reads: bool,
    pub writes: bool,
    pub masked: bool,
    pub rows_max: usize,
}

pub struct Portal {
    kind: Kind,
    at: usize,
    done: bool,
    /// Its one column is asked for in binary.
    binary: bool,
}

/// A server that speaks the protocol strictly: what is not flushed is not sent.
pub struct Fake {
    world: Arc<World>,
    /// Present in the ideal server: it answers as the proxy should.
    rights: Option<Rights>,
    pub statements: BTreeMap<String, Kind>,
    portals: BTreeMap<String, Portal>,
    explicit: bool,
    failed: bool,
    skipping: bool,
    pending: usize,
    pub committed: usize,
    /// What was stale once.
    raised: BTreeSet<String>,
    /// For the ideal server: the pipeline may be sent again while nothing of its replies was told.
    pub repeatable: bool,
    kept: Vec<Frame>,
    pub sent: VecDeque<Frame>,
}

impl Fake {
    pub fn new(world: Arc<World>, rights: Option<Rights>) -> Fake {
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
            raised: BTreeSet::new(),
            repeatable: false,
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
        self.error_saying(sqlstate, "m")
    }
    fn error_saying(&mut self, sqlstate: &str, message: &str) -> Result<(), ()> {
        self.kept.push(ErrorFields::new("ERROR", sqlstate, message, None, None, None).encode(b'E'));
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

    pub fn hear(&mut self, frame: &Frame) {
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
            let mut portal = Portal { kind, at: 0, done: false, binary: false };
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

    /// Fails where a plan is stale; the ideal server only where the client must learn of it.
    fn stale(&mut self, kind: &Kind, at: usize) -> Result<(), ()> {
        let Kind::Tagged { id, fate: Fate::Stale, .. } = kind else { return Ok(()) };
        if id.parse::<usize>().unwrap() % 3 != at || !self.raised.insert(id.clone()) {
            return Ok(());
        }
        if self.rights.is_none() {
            return self.error_saying("42704", "type \"pgveil.email_1\" does not exist");
        }
        if self.unseen() { Ok(()) } else { self.error("0A000") }
    }

    /// Whether a pipeline can be sent again without the client seeing it.
    fn unseen(&self) -> bool {
        let since = self.sent.iter().rev().take_while(|frame| frame.tag() != b'Z').chain(&self.kept);
        self.repeatable && !self.explicit && since.into_iter().all(|frame| b"123".contains(&frame.tag()))
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
                self.stale(&kind, 0)?;
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
                self.stale(&kind, 1)?;
                let binary = bind.result_formats.last() == Some(&1);
                let portal = Portal { kind, at: 0, done: false, binary };
                self.portals.insert(bind.portal.to_owned(), portal);
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
                self.stale(&portal.kind, 2)?;
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
            self.row(&portal.kind.clone(), portal.at, portal.binary)?;
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

    fn row(&mut self, kind: &Kind, at: usize, binary: bool) -> Result<(), ()> {
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
                data_row(&[Some(if binary { cell } else { format!("\\x{hex}").into_bytes() })])
            }
            _ => data_row(&[Some(b"1".to_vec())]),
        };
        self.kept.push(row);
        Ok(())
    }
}

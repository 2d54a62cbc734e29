//! Conversations as text: one message a line, both ways. What a script and the simulation share: the small world of
//! `tests/golden/shop` with keys, frames read from and written as text, and a pump that honours what the relay wants.
//!
//! `-` is the unnamed statement or portal; `(x)` a value, `(NULL)` no value, `{email a@x}` a cell sealed for that domain,
//! `{!email a@x}` the same with one bit turned; within a value `<` and `>` are braces.

use crate::golden::{shop, shop_where};
use bytes::{Bytes, BytesMut};
use pgveil::audit::{AuditRecord, Event, Unrecorded};
use pgveil::catalog::Seal;
use pgveil::crypto::keyring::Keyring;
use pgveil::crypto::{Cells, Mode, Random};
use pgveil::metrics::Metrics;
use pgveil::plan::cache::PlanCache;
use pgveil::policy::{Policy, Principal};
use pgveil::relay::ledger::{Answer, Asker, Tried};
use pgveil::relay::{Now, Opening, Relay, Step, World};
use pgveil::wire::backend::{self, DataRow, DataRowBuilder, ErrorFields, Field};
use pgveil::wire::frontend::{self, Bind, Parse, Target};
use pgveil::wire::{Frame, Limits, Messages, split, whole};
use std::collections::VecDeque;
use std::sync::Arc;

/// Bytes that count up: nonces differ, and every run is the same.
pub struct Counting(pub u64);

impl Random for Counting {
    fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            self.0 += 1;
            chunk.copy_from_slice(&self.0.to_be_bytes()[..chunk.len()]);
        }
    }
}

/// The shop's world, with limits small enough to meet.
pub fn world(change: impl FnOnce(&mut Policy)) -> Arc<World> {
    let mut shop = shop();
    for rule in &mut shop.policy.rules {
        if &*rule.name == "support-desk" {
            rule.limits.rows_per_statement = Some(2);
        }
    }
    change(&mut shop.policy);
    let mut keyring = Keyring::create();
    let mut random = Counting(0);
    let mut wanted = vec![];
    for domain in &shop.policy.domains {
        keyring.ensure_domain(&domain.name).unwrap();
        keyring.ensure_key(&domain.key, 0, &mut random);
        let mode = match domain.seal {
            Seal::Deterministic => Mode::Deterministic,
            Seal::Randomized => Mode::Randomized,
            Seal::None => continue,
        };
        wanted.push((domain.name.as_str(), mode, domain.key.as_str()));
    }
    let ciphers = keyring.ciphers(wanted).unwrap();
    Arc::new(World {
        generation: 1,
        catalog: Arc::new(shop.catalog),
        policy: Arc::new(shop.policy.clone()),
        ciphers: Arc::new(ciphers),
        memberships: None,
    })
}

/// The world after `email` of `customers` was given a type directly in the database.
pub fn retyped(world: &World, type_name: &str) -> Arc<World> {
    let generation = world.generation + 1;
    let retype = |text: String| text.replacen("email pgveil.email_1", &format!("email {type_name}"), 1);
    Arc::new(World {
        generation,
        catalog: Arc::new(shop_where(retype, generation).catalog),
        policy: world.policy.clone(),
        ciphers: world.ciphers.clone(),
        memberships: None,
    })
}

/// Seals one cell as a client's parameter would be.
pub fn sealed(world: &World, domain: &str, plain: &[u8]) -> Vec<u8> {
    let cipher = &world.ciphers.by_domain[domain];
    let (mut cells, mut out) = (Cells::new(), Cells::new());
    cells.push(plain);
    cipher.seal(cipher.current(), &cells, &mut Counting(9_000), &mut out).unwrap();
    out.get(0).to_vec()
}

/// `{email a@x}` for an envelope of any domain.
fn opened(world: &World, cell: &[u8]) -> Option<String> {
    let mut domains: Vec<_> = world.ciphers.by_domain.iter().collect();
    domains.sort_by_key(|(name, _)| name.as_str());
    domains.into_iter().find_map(|(name, cipher)| {
        let (mut cells, mut out) = (Cells::new(), Cells::new());
        cells.push(cell);
        cipher.open(&cells, &mut out).ok()?;
        let plain = out.get(0);
        let plain = match std::str::from_utf8(plain) {
            Ok(text) if !text.contains(char::is_control) => text.to_owned(),
            _ => format!("{plain:?}"),
        };
        Some(format!("{{{name} {plain}}}"))
    })
}

fn unhex(digits: &str) -> Vec<u8> {
    let pairs = digits.as_bytes().chunks_exact(2);
    pairs.filter_map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).ok()).collect()
}

/// Text with every `\x…` that opens shown as what it seals.
fn shown_text(world: &World, text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("\\x") {
        out.push_str(&rest[..at]);
        let digits = &rest[at + 2..];
        let end = digits.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(digits.len());
        match opened(world, &unhex(&digits[..end])) {
            Some(cell) => out.push_str(&cell),
            None => out.push_str(&rest[at..at + 2 + end]),
        }
        rest = &digits[end..];
    }
    out + rest
}

fn shown_value(world: &World, value: Option<&[u8]>) -> String {
    match value {
        None => "(NULL)".into(),
        Some(bytes) => match opened(world, bytes) {
            Some(cell) => cell,
            None => match shown_text(world, &String::from_utf8_lossy(bytes)) {
                cell if cell.starts_with('{') && cell.ends_with('}') && !cell.contains("},") => cell,
                text => format!("({text})"),
            },
        },
    }
}

/// Values as `(a) (NULL) {email a@x}`.
fn values(world: &World, text: &str, binary: bool) -> Vec<Option<Vec<u8>>> {
    let mut found = vec![];
    let mut rest = text.trim();
    while !rest.is_empty() {
        let (open, close) = if rest.starts_with('(') { ('(', ')') } else { ('{', '}') };
        let end = rest.find(close).unwrap_or_else(|| panic!("no {close} in {text}"));
        let inside = rest[..end].strip_prefix(open).unwrap();
        found.push(if open == '(' {
            (inside != "NULL").then(|| inside.replace('<', "{").replace('>', "}").into_bytes())
        } else {
            let (altered, inside) = match inside.strip_prefix('!') {
                Some(inside) => (true, inside),
                None => (false, inside),
            };
            let (domain, plain) = inside.split_once(' ').unwrap();
            let mut cell = sealed(world, domain, plain.as_bytes());
            if altered {
                *cell.last_mut().unwrap() ^= 1;
            }
            let hex: String = cell.iter().map(|byte| format!("{byte:02x}")).collect();
            Some(if binary { cell } else { format!("\\x{hex}").into_bytes() })
        });
        rest = rest[end + 1..].trim_start();
    }
    found
}

fn name(word: &str) -> &str {
    if word == "-" { "" } else { word }
}

fn unname(name: &str) -> &str {
    if name.is_empty() { "-" } else { name }
}

fn message(tag: u8, body: &[u8]) -> Frame {
    let mut bytes = vec![tag];
    bytes.extend((body.len() as u32 + 4).to_be_bytes());
    bytes.extend(body);
    Frame::from_bytes(Bytes::from(bytes))
}

/// Data of a copy: `⏎` ends a line, and `{email a@x}` is a cell as `bytea` spells it.
fn copied(world: &World, text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        let (cell, after) = after.split_once('}').unwrap();
        out.push_str(before);
        let cell = values(world, &format!("{{{cell}}}"), false).pop().flatten().unwrap();
        out.push_str(&String::from_utf8(cell).unwrap());
        rest = after;
    }
    (out + rest).replace('⏎', "\n")
}

fn shown_copied(world: &World, data: &[u8]) -> String {
    if let Some(rows) = shown_binary(world, data) {
        return rows;
    }
    shown_text(world, &String::from_utf8_lossy(data)).replace('\n', "⏎")
}

/// Data of a copy in binary, by the tuple: `binary | (1) {email a@x} | end`. Numbers are shown as numbers.
fn shown_binary(world: &World, data: &[u8]) -> Option<String> {
    let mut out = String::from("binary");
    let mut rest = match data.strip_prefix(b"PGCOPY\n\xff\r\n\0") {
        Some(rest) => rest.split_at_checked(8)?.1,
        None => data,
    };
    while let Some((count, after)) = rest.split_first_chunk() {
        rest = after;
        let count = i16::from_be_bytes(*count);
        out.push_str(if count < 0 { " | end" } else { " |" });
        for _ in 0..count {
            let (length, after) = rest.split_first_chunk()?;
            let length = usize::try_from(i32::from_be_bytes(*length)).ok();
            let (value, after) = after.split_at_checked(length.unwrap_or(0))?;
            rest = after;
            let number = value.try_into().map(i64::from_be_bytes).map(|number| number.to_string());
            let value = number.as_ref().map_or(value, |number| number.as_bytes());
            let value = shown_value(world, length.map(|_| value));
            out = format!("{out} {value}");
        }
    }
    rest.is_empty().then_some(out)
}

/// The body of a CopyInResponse or CopyOutResponse: text, and so many columns.
fn copy_columns(count: &str) -> Vec<u8> {
    let count: u16 = count.parse().unwrap_or(0);
    let mut body = vec![0];
    body.extend(count.to_be_bytes());
    body.resize(3 + 2 * usize::from(count), 0);
    body
}

/// A client's message from its text.
pub fn client_frame(world: &World, text: &str) -> Frame {
    let (kind, rest) = text.split_once(' ').unwrap_or((text, ""));
    let (first, second) = rest.split_once(' ').unwrap_or((rest, ""));
    let target = || if first == "S" { Target::Statement } else { Target::Portal };
    match kind {
        "Query" => frontend::encode_query(rest),
        "Parse" => Parse { name: name(first), sql: second, types: vec![] }.encode(),
        "Bind" => {
            let (statement, parameters) = second.split_once(' ').unwrap_or((second, ""));
            let (binary, parameters) = match parameters.strip_prefix("binary") {
                Some(parameters) => (true, parameters),
                None => (false, parameters),
            };
            let parameters = values(world, parameters, false);
            Bind {
                portal: name(first),
                statement: name(statement),
                parameter_formats: vec![],
                parameters: parameters.iter().map(Option::as_deref).collect(),
                result_formats: if binary { vec![1] } else { vec![] },
            }
            .encode()
        }
        "Describe" => frontend::encode_describe(target(), name(second)),
        "Close" => frontend::encode_close(target(), name(second)),
        "Execute" => frontend::encode_execute(name(first), second.parse().unwrap_or(0)),
        "Sync" => frontend::encode_sync(),
        "Flush" => frontend::encode_flush(),
        "Terminate" => frontend::encode_terminate(),
        "CopyData" => message(b'd', copied(world, rest).as_bytes()),
        "CopyDone" => message(b'c', b""),
        "CopyFail" => frontend::encode_copy_fail(rest),
        "FunctionCall" => message(b'F', &[0; 10]),
        "Unknown" => message(b'?', b""),
        _ => panic!("client message {text}"),
    }
}

/// Server messages from their text; `Path` stands for the whole answer to the question for the search path.
pub fn server_frames(world: &World, text: &str) -> Vec<Frame> {
    let (kind, rest) = text.split_once(' ').unwrap_or((text, ""));
    if kind == "Path" {
        let (schemas, ready) = rest.split_once(' ').unwrap_or((rest, ""));
        let mut lines = vec!["CloseComplete".to_owned(), "CloseComplete".to_owned()];
        lines.extend(["ParseComplete".to_owned(), "BindComplete".to_owned(), "DataRow (0) (hex)".to_owned()]);
        lines.extend(schemas.split(',').map(|schema| format!("DataRow (1) ({schema})")));
        lines.extend(["CommandComplete SELECT 2", "CloseComplete", "CloseComplete"].map(str::to_owned));
        lines.extend((!ready.is_empty()).then(|| format!("ReadyForQuery {ready}")));
        return lines.iter().flat_map(|line| server_frames(world, line)).collect();
    }
    vec![match kind {
        "ParseComplete" => message(b'1', b""),
        "BindComplete" => message(b'2', b""),
        "CloseComplete" => message(b'3', b""),
        "NoData" => message(b'n', b""),
        "EmptyQueryResponse" => message(b'I', b""),
        "PortalSuspended" => message(b's', b""),
        "CopyInResponse" => message(b'G', &copy_columns(rest)),
        "CopyOutResponse" => message(b'H', &copy_columns(rest)),
        "CopyData" => message(b'd', copied(world, rest).as_bytes()),
        "CopyDone" => message(b'c', b""),
        "NotificationResponse" => message(b'A', &[0, 0, 0, 1, b'c', 0, 0]),
        "CommandComplete" => backend::encode_command_complete(rest),
        "ReadyForQuery" => message(b'Z', rest.as_bytes()),
        "ParameterStatus" => {
            let (name, value) = rest.split_once(' ').unwrap();
            backend::encode_parameter_status(name, value)
        }
        "ErrorResponse" | "NoticeResponse" => {
            let mut words = rest.splitn(3, ' ');
            let (severity, sqlstate) = (words.next().unwrap(), words.next().unwrap());
            let mut parts = words.next().unwrap_or("").split(" | ");
            let mut fields = ErrorFields::new(severity, sqlstate, parts.next().unwrap(), None, None, None);
            for part in parts {
                let (field, value) = part.split_once('=').unwrap();
                fields.fields.push((field.as_bytes()[0], value.to_owned()));
            }
            fields.encode(if kind == "ErrorResponse" { b'E' } else { b'N' })
        }
        "RowDescription" => {
            let fields = rest.split(' ').map(|field| {
                let (name, oid) = field.split_once(':').unwrap();
                Field {
                    name: name.to_owned(),
                    table_oid: 0,
                    column_number: 0,
                    type_oid: oid.parse().unwrap(),
                    type_length: -1,
                    type_modifier: -1,
                    format: 0,
                }
            });
            backend::encode_row_description(&fields.collect::<Vec<_>>())
        }
        "ParameterDescription" => {
            let types: Vec<u32> = rest.split_whitespace().map(|oid| oid.parse().unwrap()).collect();
            backend::encode_parameter_description(&types)
        }
        "DataRow" | "BinaryRow" => data_row(&values(world, rest, kind == "BinaryRow")),
        _ => panic!("server message {text}"),
    }]
}

pub fn data_row(values: &[Option<Vec<u8>>]) -> Frame {
    let mut out = BytesMut::new();
    let mut row = DataRowBuilder::begin(&mut out);
    for value in values {
        row.column(value.as_deref());
    }
    row.end().unwrap();
    Frame::from_bytes(out.freeze())
}

/// All frames of what was sent.
pub fn frames(bytes: &Bytes) -> Vec<Frame> {
    let mut buffer = BytesMut::from(&bytes[..]);
    let limits = Limits { message_bytes_max: 1 << 30 };
    let mut found = vec![];
    while let Some(frame) = split(&mut buffer, &limits).unwrap() {
        found.push(frame);
    }
    assert!(buffer.is_empty(), "half a message was sent");
    found
}

/// What the server was sent, as text.
pub fn to_server_text(world: &World, frame: &Frame) -> String {
    let kind = |target| if target == Target::Statement { "S" } else { "P" };
    match frame.tag() {
        b'Q' => format!("Query {}", shown_text(world, frontend::query_text(frame).unwrap())),
        b'P' => {
            let parse = Parse::view(frame).unwrap();
            format!("Parse {} {}", unname(parse.name), shown_text(world, parse.sql))
        }
        b'B' => {
            let bind = Bind::view(frame).unwrap();
            let values: Vec<_> = bind.parameters.iter().map(|value| shown_value(world, *value)).collect();
            let mut text =
                format!("Bind {} {} {}", unname(bind.portal), unname(bind.statement), values.join(" "));
            if bind.result_formats.contains(&1) {
                let formats: Vec<_> = bind.result_formats.iter().map(i16::to_string).collect();
                text = format!("{} in formats {}", text.trim_end(), formats.join(","));
            }
            text.trim_end().to_owned()
        }
        b'D' | b'C' => {
            let (target, name) = frontend::target(frame).unwrap();
            let verb = if frame.tag() == b'D' { "Describe" } else { "Close" };
            format!("{verb} {} {}", kind(target), unname(name))
        }
        b'E' => {
            let (portal, rows) = frontend::execute(frame).unwrap();
            format!("Execute {} {rows}", unname(portal))
        }
        b'S' => "Sync".into(),
        b'H' => "Flush".into(),
        b'X' => "Terminate".into(),
        b'd' => format!("CopyData {}", shown_copied(world, frame.body())),
        b'c' => "CopyDone".into(),
        b'f' => "CopyFail".into(),
        tag => panic!("the server was sent {}", char::from(tag)),
    }
}

/// What the client was sent, as text.
pub fn to_client_text(world: &World, frame: &Frame) -> String {
    match frame.tag() {
        b'1' => "ParseComplete".into(),
        b'2' => "BindComplete".into(),
        b'3' => "CloseComplete".into(),
        b'n' => "NoData".into(),
        b'I' => "EmptyQueryResponse".into(),
        b's' => "PortalSuspended".into(),
        b'G' => "CopyInResponse".into(),
        b'H' => "CopyOutResponse".into(),
        b'd' => format!("CopyData {}", shown_copied(world, frame.body())),
        b'c' => "CopyDone".into(),
        b'A' => "NotificationResponse".into(),
        b'C' => format!("CommandComplete {}", backend::command_tag(frame).unwrap()),
        b'Z' => format!("ReadyForQuery {}", String::from_utf8_lossy(frame.body())),
        b'S' => {
            let (name, value) = backend::parameter_status(frame).unwrap();
            format!("ParameterStatus {name} {value}")
        }
        b'E' | b'N' => {
            let fields = ErrorFields::view(frame).unwrap();
            let kind = if frame.tag() == b'E' { "ErrorResponse" } else { "NoticeResponse" };
            let mut text =
                format!("{kind} {} {} {}", fields.severity(), fields.sqlstate(), fields.get(b'M').unwrap());
            for (field, value) in &fields.fields {
                if !matches!(field, b'S' | b'V' | b'C' | b'M') {
                    text.push_str(&format!(" | {}={value}", char::from(*field)));
                }
            }
            text
        }
        b'T' => {
            let fields = backend::row_description(frame).unwrap();
            let fields: Vec<_> =
                fields.iter().map(|field| format!("{}:{}", field.name, field.type_oid)).collect();
            format!("RowDescription {}", fields.join(" "))
        }
        b't' => {
            let types = backend::parameter_description(frame).unwrap();
            let types: Vec<_> = types.iter().map(u32::to_string).collect();
            format!("ParameterDescription {}", types.join(" "))
        }
        b'D' => {
            let mut row = DataRow::view(frame).unwrap();
            let columns = row.columns();
            let values: Vec<_> = (0..columns).map(|_| shown_value(world, row.next().unwrap())).collect();
            format!("DataRow {}", values.join(" "))
        }
        tag => panic!("the client was sent {}", char::from(tag)),
    }
}

/// What a record says, without its times.
pub fn record_text(record: &AuditRecord) -> String {
    let uses = |uses: &[pgveil::audit::UsedColumn]| {
        let uses: Vec<_> = uses
            .iter()
            .map(|used| {
                let text = format!("{} {} {} {}", used.action, used.column, used.rule, used.disclosure);
                text.trim_end().to_owned()
            })
            .collect();
        uses.join(", ")
    };
    match &record.event {
        Event::Intent { statement, intent } => {
            let pgveil::audit::Intent { shape, purpose, uses: used, .. } = &**intent;
            let purpose = purpose.as_deref().map(|purpose| format!(" for {purpose}")).unwrap_or_default();
            format!("intent {statement}{purpose}: {shape} [{}]", uses(used))
        }
        Event::Outcome { statement, rows, cells, comparisons, sqlstate, .. } => {
            let cells: Vec<_> =
                cells.iter().map(|(label, shown, count)| format!("{count} {label} {shown}")).collect();
            format!(
                "outcome {statement}: {sqlstate}, {rows} rows, {comparisons} comparisons, cells [{}]",
                cells.join(", ")
            )
        }
        Event::Refused { shape, sqlstate, reason, uses: used, .. } => {
            format!("refused {sqlstate} {reason}: {shape} [{}]", uses(used))
        }
        Event::SecondFactor { outcome } => format!("second factor {outcome}"),
        Event::BreakGlass { reason } => format!("break glass: {reason}"),
        event => panic!("{event:?}"),
    }
}

/// One thing that the relay did.
pub enum Seen {
    ToServer(Frame),
    ToClient(Frame),
    Record(Box<AuditRecord>, bool),
    Ask,
    Refresh,
    Close,
}

/// A pump in memory: it feeds the relay only what the relay wants, and keeps the rest.
pub struct Pump {
    pub relay: Relay,
    pub world: Arc<World>,
    pub client: VecDeque<Frame>,
    pub server: VecDeque<Frame>,
    pub gates: usize,
    pub refreshing: bool,
    pub closed: bool,
    nanos: u64,
    steps: Vec<Step>,
}

impl Pump {
    /// A conversation that has just begun; the question for the path is still to be answered.
    pub fn unheard(world: Arc<World>, user: &str) -> Pump {
        let opening = Opening {
            principal: Principal::assumed(user.to_owned()),
            connection: 7,
            database: "shop".into(),
            application: "script".into(),
            address: None,
            upstream: None,
            address_text: "unix".into(),
            budgets: Arc::default(),
            row_bytes_max: 1 << 16,
            server_process: None,
            parameters: vec![("client_encoding".into(), "UTF8".into())],
        };
        let planner = Arc::new(PlanCache::new(100, [0; 16]));
        let mut pump = Pump {
            relay: Relay::new(opening, world.clone(), planner, Metrics::new(), Box::new(Counting(0))),
            world,
            client: VecDeque::new(),
            server: VecDeque::new(),
            gates: 0,
            refreshing: false,
            closed: false,
            nanos: 0,
            steps: vec![],
        };
        let now = pump.now();
        pump.relay.open(now, &mut pump.steps);
        pump
    }

    fn now(&mut self) -> Now {
        self.nanos += 1_000;
        Now { unix_micros: 1_795_000_000_000_000, monotonic_nanos: self.nanos }
    }

    /// Gives the relay one thing that it wants, if there is one.
    pub fn step(&mut self) -> bool {
        let wants = self.relay.wants();
        let now = self.now();
        if wants.server && !self.server.is_empty() {
            let batch = self.server.drain(..).map(Frame::into_bytes).collect::<Vec<_>>().concat();
            let batch = whole(&mut batch[..].into(), &Limits { message_bytes_max: u64::MAX }).unwrap();
            let _ = self.relay.server(batch, now, &mut self.steps);
            return true;
        }
        if wants.client
            && let Some(frame) = self.client.pop_front()
        {
            let mut messages = Messages::from(frame);
            let _ = self.relay.client(&mut messages, now, &mut self.steps);
            return true;
        }
        false
    }

    pub fn log(&mut self, ok: bool) {
        assert!(self.gates > 0, "no record waits");
        self.gates -= 1;
        let answer = if ok { Ok(()) } else { Err(Unrecorded("disk full".into())) };
        let (now, waits, steps) = (self.now(), self.relay.waits_for_record(), self.steps.len());
        let _ = self.relay.recorded(answer, now, &mut self.steps);
        assert!(waits || self.steps.len() == steps, "something waited for a record, and it was not said");
    }

    pub fn ledger(&mut self, tried: Tried) {
        let now = self.now();
        let answer = Answer::Code(tried);
        let _ = self.relay.ledger_answered(Asker::Client, answer, now, &mut self.steps);
    }

    pub fn refreshed(&mut self, world: Arc<World>) {
        assert!(self.refreshing, "no refresh was asked for");
        self.refreshing = false;
        self.world = world.clone();
        let now = self.now();
        let _ = self.relay.refreshed(world, now, &mut self.steps);
    }

    pub fn polled(&mut self, world: Arc<World>) {
        self.world = world.clone();
        self.relay.world(world);
    }

    /// What the relay did since.
    pub fn seen(&mut self) -> Vec<Seen> {
        let mut seen = vec![];
        for step in self.steps.drain(..) {
            match step {
                Step::ToServer(bytes) => seen.extend(frames(&bytes).into_iter().map(Seen::ToServer)),
                Step::ToClient(bytes) => seen.extend(frames(&bytes).into_iter().map(Seen::ToClient)),
                Step::Record { record, gate } => {
                    self.gates += usize::from(gate);
                    seen.push(Seen::Record(record, gate));
                }
                Step::Ask { .. } => seen.push(Seen::Ask),
                Step::RefreshCatalog => {
                    self.refreshing = true;
                    seen.push(Seen::Refresh);
                }
                Step::Close => {
                    self.closed = true;
                    seen.push(Seen::Close);
                }
            }
        }
        seen
    }
}

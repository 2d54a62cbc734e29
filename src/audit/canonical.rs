#![doc = include_str!("FORMAT.md")]
//!
//! # This module
//!
//! Guarantees: [`Line::parse`] is total and accepts exactly the bytes that writing the same line gives, so that one
//! line has one spelling. Deliberately absent: hashing, signing, files.

use super::chain::{Chain, Hash, bytes_from_hex};
use super::checkpoint::{Checkpoint, KeyId, LogId};
use super::persons::{Persons, Pseudonym};
use super::tree::Tree;
use super::{AuditRecord, Connection, Event, InsteadOfPassword, Intent, Said, UsedColumn};
use serde_json::{Map, Value};
use std::time::Duration;

/// The version of the format that this program writes and reads.
pub const FORMAT_VERSION: u64 = 2;

/// The longest line, without its line feed, in bytes.
pub const LINE_BYTES_MAX: usize = 1 << 20;

/// The first line of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    pub log: LogId,
    /// The key that signs this segment's checkpoints.
    pub key: KeyId,
    /// The log before this segment.
    pub chain: Chain,
    /// The tree over it, so that a segment can be checked and continued without those before it.
    pub tree: Tree,
    /// When the segment was begun, Unix microseconds.
    pub time: i64,
}

/// One line of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    Header(Header),
    Record(Chain, Box<AuditRecord>),
    Checkpoint(Checkpoint),
}

/// Why bytes are not a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// A header of another version of the format.
    Version(u64),
    Bytes,
}

impl Line {
    /// What the line says of the lines before it.
    pub fn chain(&self) -> Chain {
        match self {
            Line::Header(header) => header.chain,
            Line::Record(chain, _) => *chain,
            Line::Checkpoint(checkpoint) => checkpoint.chain,
        }
    }
    /// Appends the line without a line feed.
    pub fn write(&self, out: &mut Vec<u8>) {
        match self {
            Line::Header(header) => write_header(header, out),
            Line::Record(chain, record) => write_record(*chain, record, out),
            Line::Checkpoint(checkpoint) => write_checkpoint(checkpoint, out),
        }
    }
    /// Reads one line, without its line feed.
    pub fn parse(line: &[u8]) -> Result<Line, Malformed> {
        let Ok(Value::Object(map)) = serde_json::from_slice(line) else { return Err(Malformed::Bytes) };
        if let Some(version) = map.get("pgveil_audit").and_then(Value::as_u64)
            && version != FORMAT_VERSION
        {
            return Err(Malformed::Version(version));
        }
        let parsed = read_line(map).ok_or(Malformed::Bytes)?;
        let mut spelled = Vec::with_capacity(line.len());
        parsed.write(&mut spelled);
        if spelled == line { Ok(parsed) } else { Err(Malformed::Bytes) }
    }
}

pub fn write_header(header: &Header, out: &mut Vec<u8>) {
    let mut object = Object::open(out);
    object.unsigned("pgveil_audit", FORMAT_VERSION);
    object.text("log", &faster_hex::hex_string(&header.log.0));
    object.text("key", &faster_hex::hex_string(&header.key.0));
    object.unsigned("sequence", header.chain.size);
    object.text("previous", &header.chain.head.hex());
    object.texts("tree", header.tree.subtrees().iter().map(Hash::hex));
    object.signed("time", header.time);
    object.close();
}

pub fn write_checkpoint(checkpoint: &Checkpoint, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"checkpoint\":");
    let mut object = Object::open(out);
    object.unsigned("size", checkpoint.chain.size);
    object.text("previous", &checkpoint.chain.head.hex());
    object.text("note", &checkpoint.note().write());
    object.close();
    out.push(b'}');
}

/// Appends `record` as the line that follows `chain`.
pub fn write_record(chain: Chain, record: &AuditRecord, out: &mut Vec<u8>) {
    let mut object = Object::open(out);
    object.unsigned("sequence", chain.size);
    object.hex("previous", &chain.head.0);
    object.signed("time", record.time);
    object.said(&record.connection, write_connection);
    object.text("event", record.event.name());
    write_event(&record.event, &mut object);
    object.close();
}

fn write_connection(connection: &Connection, object: &mut Object<'_>) {
    object.unsigned("connection", connection.number);
    object.text("user", &connection.user);
    object.text("database", &connection.database);
    object.text("application", &connection.application);
    object.text("address", &connection.address);
}

fn write_intent(intent: &Intent, object: &mut Object<'_>) {
    object.text("kind", &intent.kind);
    object.text("shape", &intent.shape);
    match &intent.purpose {
        Some(purpose) => object.text("purpose", purpose),
        None => object.null("purpose"),
    }
    object.list("uses", &intent.uses, write_use);
}

fn write_event(event: &Event, object: &mut Object<'_>) {
    match event {
        Event::Started { version, configuration, files } => {
            object.text("version", version);
            object.text("configuration", configuration);
            object.list("files", files, write_file);
        }
        Event::Stopped => {}
        Event::LoggedIn { instead } => write_instead(instead.as_ref(), object),
        Event::Reloaded { configuration, files } => {
            object.text("configuration", configuration);
            object.list("files", files, write_file);
        }
        Event::ColumnChanged { column, from, to } => {
            object.text("column", column);
            object.text("from", from);
            object.text("to", to);
        }
        Event::LogInFailed { reason } => object.text("reason", reason),
        Event::SecondFactor { outcome } => object.text("outcome", outcome),
        Event::BreakGlass { reason } => object.text("reason", reason),
        Event::Intent { statement, intent } => {
            object.unsigned("statement", *statement);
            object.said(intent, write_intent);
        }
        Event::Outcome { statement, rows, cells, comparisons, sqlstate, duration, persons } => {
            object.unsigned("statement", *statement);
            object.unsigned("rows", *rows);
            object.list("cells", cells, |(label, disclosure, cells), object| {
                object.text("label", label);
                object.text("disclosure", disclosure);
                object.unsigned("cells", *cells);
            });
            object.unsigned("comparisons", *comparisons);
            object.text("sqlstate", sqlstate);
            object.unsigned("nanoseconds", u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX));
            if let Some(persons) = persons {
                object.object("persons", |object| {
                    object.texts("seen", persons.seen.iter().map(Pseudonym::hex));
                    object.unsigned("more", persons.more);
                    object.unsigned("unknown", persons.unknown);
                });
            }
        }
        Event::Refused { kind, shape, sqlstate, reason, uses } => {
            object.text("kind", kind);
            object.text("shape", shape);
            object.text("sqlstate", sqlstate);
            object.text("reason", reason);
            object.list("uses", uses, write_use);
        }
        Event::Recovered { unsigned, cut } => {
            object.unsigned("unsigned", *unsigned);
            object.unsigned("cut", *cut);
        }
        Event::Removed { before } => object.unsigned("before", *before),
        Event::PersonForgotten { table } => object.text("table", table),
        Event::KeysExported { at, to } => write_texts([("at", at), ("to", to)], object),
        Event::DataKeyChanged { at, key, change } => {
            write_texts([("at", at), ("key", key), ("change", change)], object);
        }
        Event::KeyChanged { key } => object.text("key", key),
    }
}

fn write_texts<const N: usize>(texts: [(&str, &String); N], object: &mut Object<'_>) {
    for (name, text) in texts {
        object.text(name, text);
    }
}

fn write_instead(instead: Option<&InsteadOfPassword>, object: &mut Object<'_>) {
    if let Some(InsteadOfPassword { method, upstream }) = instead {
        object.text("method", method);
        object.text("upstream", upstream);
    }
}

fn write_file((file, digest): &(String, String), object: &mut Object<'_>) {
    object.text("file", file);
    object.text("digest", digest);
}

fn write_use(used: &UsedColumn, object: &mut Object<'_>) {
    object.text("column", &used.column);
    object.text("label", &used.label);
    object.text("action", &used.action);
    object.text("rule", &used.rule);
    object.text("disclosure", &used.disclosure);
}

/// Writes one JSON object: no white space, fields in the order of the calls.
struct Object<'a> {
    out: &'a mut Vec<u8>,
    empty: bool,
}

impl<'a> Object<'a> {
    fn open(out: &'a mut Vec<u8>) -> Object<'a> {
        out.push(b'{');
        Object { out, empty: true }
    }
    fn name(&mut self, name: &str) {
        if !std::mem::replace(&mut self.empty, false) {
            self.out.push(b',');
        }
        // Nothing in our own names is escaped.
        self.out.push(b'"');
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
    }
    fn unsigned(&mut self, name: &str, number: u64) {
        self.name(name);
        self.digits(number);
    }
    fn signed(&mut self, name: &str, number: i64) {
        self.name(name);
        if number < 0 {
            self.out.push(b'-');
        }
        self.digits(number.unsigned_abs());
    }
    fn digits(&mut self, mut number: u64) {
        // As many as the largest has.
        let mut digits = [0; 20];
        let mut start = digits.len();
        loop {
            start -= 1;
            digits[start] = b'0' + (number % 10) as u8;
            number /= 10;
            if number == 0 {
                break;
            }
        }
        self.out.extend_from_slice(&digits[start..]);
    }
    /// Bytes as hex digits.
    fn hex(&mut self, name: &str, bytes: &[u8]) {
        self.name(name);
        self.out.push(b'"');
        let start = self.out.len();
        self.out.resize(start + 2 * bytes.len(), 0);
        faster_hex::hex_encode(bytes, &mut self.out[start..]).expect("two digits a byte fit");
        self.out.push(b'"');
    }
    fn text(&mut self, name: &str, text: &str) {
        self.name(name);
        write_text(text, self.out);
    }
    fn null(&mut self, name: &str) {
        self.name(name);
        self.out.extend_from_slice(b"null");
    }
    fn texts(&mut self, name: &str, texts: impl Iterator<Item = String>) {
        self.name(name);
        self.out.push(b'[');
        for (index, text) in texts.enumerate() {
            if index > 0 {
                self.out.push(b',');
            }
            write_text(&text, self.out);
        }
        self.out.push(b']');
    }
    /// A list of objects, one for each item.
    fn list<T>(&mut self, name: &str, items: &[T], write: impl Fn(&T, &mut Object<'_>)) {
        self.name(name);
        self.out.push(b'[');
        for (index, item) in items.iter().enumerate() {
            if index > 0 {
                self.out.push(b',');
            }
            let mut object = Object::open(self.out);
            write(item, &mut object);
            object.close();
        }
        self.out.push(b']');
    }
    /// The fields of what many records say alike.
    fn said<T>(&mut self, said: &Said<T>, write: impl Fn(&T, &mut Object<'_>)) {
        let spelled = said.spelled(|value| {
            let mut out = Vec::new();
            write(value, &mut Object { out: &mut out, empty: true });
            out
        });
        let Some(spelled) = spelled else { return write(said, self) };
        if !std::mem::replace(&mut self.empty, false) {
            self.out.push(b',');
        }
        self.out.extend_from_slice(spelled);
    }
    fn object(&mut self, name: &str, write: impl FnOnce(&mut Object<'_>)) {
        self.name(name);
        let mut object = Object::open(self.out);
        write(&mut object);
        object.close();
    }
    fn close(self) {
        self.out.push(b'}');
    }
}

/// A JSON string; FORMAT.md, "Strings", says which characters are escaped and how.
fn write_text(text: &str, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let is_escaped = |byte: &u8| matches!(byte, b'"' | b'\\' | 0..0x20 | 0x7f);
    out.push(b'"');
    let mut rest = text.as_bytes();
    // Most texts have nothing to escape: many bytes are looked at together.
    let escapes = rest.iter().fold(false, |found, byte| found | is_escaped(byte));
    while escapes && let Some(at) = rest.iter().position(is_escaped) {
        let (plain, from) = rest.split_at(at);
        out.extend_from_slice(plain);
        match from[0] {
            byte @ (b'"' | b'\\') => out.extend_from_slice(&[b'\\', byte]),
            byte => {
                let (high, low) = (HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]);
                out.extend_from_slice(&[b'\\', b'u', b'0', b'0', high, low]);
            }
        }
        rest = &from[1..];
    }
    out.extend_from_slice(rest);
    out.push(b'"');
}

fn read_line(map: Map<String, Value>) -> Option<Line> {
    let mut fields = Fields(map);
    if fields.0.contains_key("pgveil_audit") {
        let log = LogId(bytes_from_hex(&fields.text("log")?)?);
        let key = KeyId(bytes_from_hex(&fields.text("key")?)?);
        let chain = fields.chain("sequence")?;
        let subtrees =
            fields.texts("tree")?.iter().map(|hex| Hash::from_hex(hex)).collect::<Option<Vec<_>>>();
        let tree = Tree::from_subtrees(chain.size, subtrees?)?;
        return Some(Line::Header(Header { log, key, chain, tree, time: fields.signed("time")? }));
    }
    if let Some(checkpoint) = fields.0.remove("checkpoint") {
        let Value::Object(map) = checkpoint else { return None };
        let mut fields = Fields(map);
        let chain = fields.chain("size")?;
        let checkpoint = Checkpoint::from_note(&fields.text("note")?, chain.head)?;
        return (checkpoint.chain == chain).then_some(Line::Checkpoint(checkpoint));
    }
    let chain = fields.chain("sequence")?;
    let record = AuditRecord {
        time: fields.signed("time")?,
        connection: Said::from(Connection {
            number: fields.unsigned("connection")?,
            user: fields.text("user")?,
            database: fields.text("database")?,
            application: fields.text("application")?,
            address: fields.text("address")?,
        }),
        event: read_event(&mut fields)?,
    };
    Some(Line::Record(chain, Box::new(record)))
}

fn read_event(fields: &mut Fields) -> Option<Event> {
    Some(match fields.text("event")?.as_str() {
        "started" => Event::Started {
            version: fields.text("version")?,
            configuration: fields.text("configuration")?,
            files: fields.list("files", read_file)?,
        },
        "stopped" => Event::Stopped,
        "reloaded" => Event::Reloaded {
            configuration: fields.text("configuration")?,
            files: fields.list("files", read_file)?,
        },
        "column_changed" => Event::ColumnChanged {
            column: fields.text("column")?,
            from: fields.text("from")?,
            to: fields.text("to")?,
        },
        "logged_in" => Event::LoggedIn { instead: read_instead(fields)? },
        "log_in_failed" => Event::LogInFailed { reason: fields.text("reason")? },
        "second_factor" => Event::SecondFactor { outcome: fields.text("outcome")? },
        "break_glass" => Event::BreakGlass { reason: fields.text("reason")? },
        "intent" => Event::Intent {
            statement: fields.unsigned("statement")?,
            intent: Said::from(Intent {
                kind: fields.text("kind")?,
                shape: fields.text("shape")?,
                purpose: fields.text_or_null("purpose")?,
                uses: fields.list("uses", read_use)?,
            }),
        },
        "outcome" => Event::Outcome {
            statement: fields.unsigned("statement")?,
            rows: fields.unsigned("rows")?,
            cells: fields.list("cells", |fields| {
                let (label, disclosure) = (fields.text("label")?, fields.text("disclosure")?);
                Some((label.into(), disclosure.into(), fields.unsigned("cells")?))
            })?,
            comparisons: fields.unsigned("comparisons")?,
            sqlstate: fields.text("sqlstate")?.into(),
            duration: Duration::from_nanos(fields.unsigned("nanoseconds")?),
            persons: read_persons(fields)?,
        },
        "refused" => Event::Refused {
            kind: fields.text("kind")?,
            shape: fields.text("shape")?,
            sqlstate: fields.text("sqlstate")?,
            reason: fields.text("reason")?,
            uses: fields.list("uses", read_use)?,
        },
        "recovered" => {
            Event::Recovered { unsigned: fields.unsigned("unsigned")?, cut: fields.unsigned("cut")? }
        }
        "removed" => Event::Removed { before: fields.unsigned("before")? },
        "person_forgotten" => Event::PersonForgotten { table: fields.text("table")? },
        "keys_exported" => Event::KeysExported { at: fields.text("at")?, to: fields.text("to")? },
        "data_key_changed" => Event::DataKeyChanged {
            at: fields.text("at")?,
            key: fields.text("key")?,
            change: fields.text("change")?,
        },
        "key_changed" => Event::KeyChanged { key: fields.text("key")? },
        _ => return None,
    })
}

fn read_file(fields: &mut Fields) -> Option<(String, String)> {
    Some((fields.text("file")?, fields.text("digest")?))
}

/// The only field that may be absent.
fn read_instead(fields: &mut Fields) -> Option<Option<InsteadOfPassword>> {
    if !fields.0.contains_key("method") && !fields.0.contains_key("upstream") {
        return Some(None);
    }
    Some(Some(InsteadOfPassword { method: fields.text("method")?, upstream: fields.text("upstream")? }))
}

fn read_persons(fields: &mut Fields) -> Option<Option<Persons>> {
    let Some(Value::Object(map)) = fields.0.get_mut("persons").map(Value::take) else {
        return (!fields.0.contains_key("persons")).then_some(None);
    };
    let mut own = Fields(map);
    let seen = own.texts("seen")?.iter().map(|hex| Pseudonym::from_hex(hex)).collect::<Option<Vec<_>>>()?;
    let (more, unknown) = (own.unsigned("more")?, own.unsigned("unknown")?);
    Some(Some(Persons { handles: vec![], seen, more, unknown }))
}

fn read_use(fields: &mut Fields) -> Option<UsedColumn> {
    Some(UsedColumn {
        column: fields.text("column")?,
        label: fields.text("label")?,
        action: fields.text("action")?,
        rule: fields.text("rule")?,
        disclosure: fields.text("disclosure")?,
    })
}

/// Takes fields out of a JSON object. What is left over, repeated or out of order shows when the line is written again.
struct Fields(Map<String, Value>);

impl Fields {
    fn text(&mut self, name: &str) -> Option<String> {
        match self.0.get_mut(name)?.take() {
            Value::String(text) => Some(text),
            _ => None,
        }
    }
    fn text_or_null(&mut self, name: &str) -> Option<Option<String>> {
        match self.0.get_mut(name)?.take() {
            Value::String(text) => Some(Some(text)),
            Value::Null => Some(None),
            _ => None,
        }
    }
    fn texts(&mut self, name: &str) -> Option<Vec<String>> {
        let Value::Array(items) = self.0.get_mut(name)?.take() else { return None };
        let texts = items.into_iter().map(|item| match item {
            Value::String(text) => Some(text),
            _ => None,
        });
        texts.collect()
    }
    /// A line's number, under `name`, and the hash of the line before it.
    fn chain(&mut self, name: &str) -> Option<Chain> {
        Some(Chain { size: self.unsigned(name)?, head: Hash::from_hex(&self.text("previous")?)? })
    }
    fn unsigned(&mut self, name: &str) -> Option<u64> {
        self.0.get(name)?.as_u64()
    }
    fn signed(&mut self, name: &str) -> Option<i64> {
        self.0.get(name)?.as_i64()
    }
    fn list<T>(&mut self, name: &str, read: impl Fn(&mut Fields) -> Option<T>) -> Option<Vec<T>> {
        let Value::Array(items) = self.0.get_mut(name)?.take() else { return None };
        let objects = items.into_iter().map(|item| match item {
            Value::Object(map) => read(&mut Fields(map)),
            _ => None,
        });
        objects.collect()
    }
}

#[cfg(test)]
pub(super) mod tests;

//! A client that says exactly what a test wants on the wire, and shows exactly what comes back: for what no driver does.
//!
//! It logs in by itself; after that every message is the test's own. Reads wait ten seconds at most.

// A harness offers more than each moment's tests use.
#![allow(dead_code)]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use bytes::BytesMut;
use postgres_protocol::IsNull;
use postgres_protocol::authentication::sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256};
use postgres_protocol::message::frontend;
use tokio_postgres::Config;

/// One message of the server: its type and its body.
pub type Message = (char, Vec<u8>);

/// A connection, and what was read of it so far.
pub struct Raw {
    stream: TcpStream,
    input: Vec<u8>,
    output: BytesMut,
    /// Every ErrorResponse and NoticeResponse that [`Raw::reply`] read, whole.
    pub told: Vec<u8>,
}

/// What came before ReadyForQuery, taken apart.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Reply {
    /// Type OIDs of the last RowDescription.
    pub types: Vec<u32>,
    /// Names of the last RowDescription.
    pub names: Vec<String>,
    /// Type modifiers of the last RowDescription.
    pub modifiers: Vec<i32>,
    /// Format codes of the last RowDescription.
    pub formats: Vec<i16>,
    /// Type OIDs of the last ParameterDescription.
    pub parameters: Vec<u32>,
    pub rows: Vec<Vec<Option<Vec<u8>>>>,
    /// `SQLSTATE message`.
    pub errors: Vec<String>,
    /// What each CommandComplete said.
    pub tags: Vec<String>,
    /// The types of all messages, in order.
    pub order: String,
    /// `I`, `T` or `E`.
    pub status: char,
}

impl Raw {
    /// A connection on which nothing was said.
    pub fn connect(port: u16) -> Raw {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("somebody listens");
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        // As drivers do: else each message that follows another waits for an acknowledgement.
        stream.set_nodelay(true).unwrap();
        Raw { stream, input: Vec::new(), output: BytesMut::new(), told: Vec::new() }
    }

    /// As it is, but waits for what a busy machine takes long to do: a reply that is given up puts all later ones out of step.
    pub fn patient(self) -> Raw {
        self.stream.set_read_timeout(Some(Duration::from_secs(300))).unwrap();
        self
    }

    /// Logs in as the URL says; everything up to ReadyForQuery, or up to the error.
    pub fn start(url: &str) -> (Raw, Vec<Message>) {
        Raw::start_with(url, &[])
    }

    /// As [`Raw::start`], with more start-up parameters.
    pub fn start_with(url: &str, more: &[(&str, &str)]) -> (Raw, Vec<Message>) {
        Raw::start_behind(url, &[], more)
    }

    /// As [`Raw::log_in`], with bytes that a load balancer sends first.
    pub fn log_in_behind(url: &str, header: &[u8]) -> Raw {
        let (raw, transcript) = Raw::start_behind(url, header, &[]);
        assert!(transcript.last().is_some_and(|(tag, _)| *tag == 'Z'), "{:?}", errors(&transcript));
        raw
    }

    fn start_behind(url: &str, header: &[u8], more: &[(&str, &str)]) -> (Raw, Vec<Message>) {
        let config: Config = url.parse().expect("a URL of this harness");
        let (user, password) = (config.get_user().unwrap(), config.get_password().unwrap());
        let mut raw = Raw::connect(config.get_ports()[0]);
        raw.output.extend_from_slice(header);
        let own = [("user", user), ("database", config.get_dbname().unwrap())];
        frontend::startup_message(own.into_iter().chain(more.iter().copied()), &mut raw.output).unwrap();
        raw.flush();
        let transcript = raw.authenticate(password);
        (raw, transcript)
    }

    /// Logs in; panics when that fails.
    pub fn log_in(url: &str) -> Raw {
        let (raw, transcript) = Raw::start(url);
        assert!(transcript.last().is_some_and(|(tag, _)| *tag == 'Z'), "{:?}", errors(&transcript));
        raw
    }

    fn authenticate(&mut self, password: &[u8]) -> Vec<Message> {
        let mut scram = ScramSha256::new(password, ChannelBinding::unsupported());
        let mut transcript = Vec::new();
        while let Some((tag, body)) = self.read() {
            let kind = (tag == 'R').then(|| u32::from_be_bytes(body[..4].try_into().unwrap()));
            transcript.push((tag, body.clone()));
            match (tag, kind) {
                (_, Some(10)) => {
                    frontend::sasl_initial_response(SCRAM_SHA_256, scram.message(), &mut self.output)
                        .unwrap();
                    self.flush();
                }
                (_, Some(11)) => {
                    scram.update(&body[4..]).unwrap();
                    frontend::sasl_response(scram.message(), &mut self.output).unwrap();
                    self.flush();
                }
                (_, Some(12)) => scram.finish(&body[4..]).unwrap(),
                ('E' | 'Z', _) => break,
                _ => {}
            }
        }
        transcript
    }

    /// Sends bytes as they are. The other side may be gone already; then reading will tell.
    pub fn send(&mut self, bytes: &[u8]) {
        let _ = self.try_send(bytes);
    }

    /// As [`Raw::send`]; fails where the other side takes nothing any more.
    pub fn try_send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes)
    }

    fn flush(&mut self) {
        let output = self.output.split();
        self.send(&output);
    }

    /// The next message; `None` at the end of the connection, and when nothing came in time.
    pub fn read(&mut self) -> Option<Message> {
        loop {
            if let Some(length) = self.input.get(1..5) {
                let end = 1 + u32::from_be_bytes(length.try_into().unwrap()) as usize;
                if self.input.len() >= end {
                    let rest = self.input.split_off(end);
                    let message = std::mem::replace(&mut self.input, rest);
                    return Some((char::from(message[0]), message[5..].to_vec()));
                }
            }
            let mut chunk = [0; 8192];
            match self.stream.read(&mut chunk) {
                Ok(count) if count > 0 => self.input.extend_from_slice(&chunk[..count]),
                _ => return None,
            }
        }
    }

    /// One byte: the answer to a request for encryption.
    pub fn byte(&mut self) -> Option<u8> {
        let mut byte = [0];
        self.stream.read_exact(&mut byte).ok().map(|()| byte[0])
    }

    /// Everything until the connection ends.
    pub fn rest(&mut self) -> Vec<Message> {
        std::iter::from_fn(|| self.read()).collect()
    }

    /// Everything up to the next ReadyForQuery (or the end), taken apart.
    pub fn reply(&mut self) -> Reply {
        let mut reply = Reply::default();
        while let Some((tag, body)) = self.read() {
            reply.order.push(tag);
            if matches!(tag, 'E' | 'N') {
                self.told.extend_from_slice(&body);
            }
            match tag {
                'T' => {
                    (reply.names, reply.types, reply.modifiers) = described(&body);
                    reply.formats = formats(&body);
                }
                'C' => reply.tags.push(String::from_utf8_lossy(&body[..body.len() - 1]).into_owned()),
                't' => reply.parameters = body[2..].chunks(4).map(number).collect(),
                'D' => reply.rows.push(cells(&body)),
                // A line of COPY.
                'd' => reply.rows.push(vec![Some(body.to_vec())]),
                'E' => reply.errors.push(error(&body)),
                'Z' => {
                    reply.status = char::from(body[0]);
                    return reply;
                }
                _ => {}
            }
        }
        reply
    }

    /// A simple query and its reply.
    pub fn query(&mut self, sql: &str) -> Reply {
        self.say_query(sql);
        self.reply()
    }

    /// Sends a simple query.
    pub fn say_query(&mut self, sql: &str) {
        frontend::query(sql, &mut self.output).unwrap();
        self.flush();
    }

    /// Parse, Bind, Describe, Execute and Sync in one write, unnamed; and the reply. `formats`: of parameters and results,
    /// 0 text and 1 binary.
    pub fn extended(&mut self, sql: &str, values: &[Option<&[u8]>], formats: [i16; 2]) -> Reply {
        self.parse("", sql, &[]);
        self.bind("", "", values, formats);
        self.describe(b'P', "");
        self.execute("", 0);
        self.sync();
        self.reply()
    }

    pub fn parse(&mut self, name: &str, sql: &str, types: &[u32]) {
        frontend::parse(name, sql, types.iter().copied(), &mut self.output).unwrap();
    }

    pub fn bind(&mut self, portal: &str, statement: &str, values: &[Option<&[u8]>], formats: [i16; 2]) {
        let [parameters, results] = formats;
        self.bind_in(portal, statement, values, parameters, &[results]);
    }

    /// As [`Raw::bind`], with result formats as they are given.
    pub fn bind_in(
        &mut self,
        portal: &str,
        statement: &str,
        values: &[Option<&[u8]>],
        parameters: i16,
        results: &[i16],
    ) {
        let write = |value: &Option<&[u8]>, out: &mut BytesMut| match value {
            Some(value) => {
                out.extend_from_slice(value);
                Ok(IsNull::No)
            }
            None => Ok(IsNull::Yes),
        };
        let results = results.iter().copied();
        let bound = frontend::bind(portal, statement, [parameters], values, write, results, &mut self.output);
        assert!(bound.is_ok(), "a Bind that this test can write");
    }

    pub fn describe(&mut self, target: u8, name: &str) {
        frontend::describe(target, name, &mut self.output).unwrap();
    }

    pub fn execute(&mut self, portal: &str, rows: i32) {
        frontend::execute(portal, rows, &mut self.output).unwrap();
    }

    pub fn close(&mut self, target: u8, name: &str) {
        frontend::close(target, name, &mut self.output).unwrap();
    }

    /// Asks for what is owed so far, and sends everything said.
    pub fn flushed(&mut self) {
        frontend::flush(&mut self.output);
        self.flush();
    }

    /// Ends the pipeline, and sends everything said.
    pub fn sync(&mut self) {
        frontend::sync(&mut self.output);
        self.flush();
    }
}

fn number(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0, |number, byte| number << 8 | u32::from(*byte))
}

/// Names, types and type modifiers.
pub fn described(body: &[u8]) -> (Vec<String>, Vec<u32>, Vec<i32>) {
    let mut rest = &body[2..];
    let (mut names, mut types, mut modifiers) = (Vec::new(), Vec::new(), Vec::new());
    while let Some(end) = rest.iter().position(|byte| *byte == 0) {
        names.push(String::from_utf8_lossy(&rest[..end]).into_owned());
        types.push(number(&rest[end + 7..end + 11]));
        modifiers.push(number(&rest[end + 13..end + 17]).cast_signed());
        rest = &rest[end + 19..];
    }
    (names, types, modifiers)
}

fn formats(body: &[u8]) -> Vec<i16> {
    let mut rest = &body[2..];
    let mut formats = Vec::new();
    while let Some(end) = rest.iter().position(|byte| *byte == 0) {
        formats.push(i16::from_be_bytes([rest[end + 17], rest[end + 18]]));
        rest = &rest[end + 19..];
    }
    formats
}

/// The columns of a DataRow.
pub fn cells(body: &[u8]) -> Vec<Option<Vec<u8>>> {
    let mut rest = &body[2..];
    let mut cells = Vec::new();
    while rest.len() >= 4 {
        let length = number(&rest[..4]);
        rest = &rest[4..];
        if length == u32::MAX {
            cells.push(None);
            continue;
        }
        let (cell, after) = rest.split_at(length as usize);
        cells.push(Some(cell.to_vec()));
        rest = after;
    }
    cells
}

/// `SQLSTATE message` of an ErrorResponse.
pub fn error(body: &[u8]) -> String {
    let field = |kind: u8| {
        let mut fields = body.split(|byte| *byte == 0);
        let found = fields.rfind(|field| field.first() == Some(&kind));
        String::from_utf8_lossy(found.map_or(&[], |field| &field[1..])).into_owned()
    };
    format!("{} {}", field(b'C'), field(b'M'))
}

/// The errors among messages, as [`error`] reads them.
pub fn errors(messages: &[Message]) -> Vec<String> {
    messages.iter().filter(|(tag, _)| *tag == 'E').map(|(_, body)| error(body)).collect()
}

//! Verifying a log with nothing but its bytes and the public key.
//!
//! Guarantees: a log that verifies has the bytes that the key's holder signed, from the first to the last; for any other
//! the first bad line is named, with its byte offset. Reads the log once, in memory for one line. Deliberately absent:
//! noticing that whole groups at the end are missing (FORMAT.md says what to keep for that), and files.

use super::canonical::{Header, LINE_BYTES_MAX, Line, Malformed};
use super::chain::{Chain, Hash};
use super::checkpoint::{Checkpoint, KeyId};
use super::{AuditRecord, Event};
use ed25519_dalek::VerifyingKey;
use std::fmt;
use std::io::{self, BufRead, Read};

/// A log that is as it was signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verified {
    pub header: Header,
    pub records: u64,
    /// All lines, and the hash of the last: what to keep and compare.
    pub chain: Chain,
    /// The last line.
    pub checkpoint: Checkpoint,
    /// How often the log was continued after an unclean end.
    pub recoveries: u64,
}

/// What is wrong with the first bad line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The first line is not a header.
    NotALog,
    /// The header names a format version that this program does not know.
    Version(u64),
    /// The header names another key than the one given.
    OtherKey,
    /// The line is not as it was written.
    Altered,
    /// The lines before this one, down to this number, are nowhere.
    Missing { first: u64 },
    /// A line that belongs here stands further down.
    Reordered,
    /// The line stands here a second time, or one was inserted before it.
    Repeated,
    /// The last line has no end.
    Torn,
    /// So many last lines have no checkpoint after them.
    Unsigned { lines: u64 },
}

/// The first bad line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flaw {
    pub kind: Kind,
    /// Lines before it.
    pub line: u64,
    /// Bytes before it.
    pub offset: u64,
    /// The last good checkpoint before it: everything up to there is as it was signed.
    pub trusted: Option<Checkpoint>,
}

impl fmt::Display for Flaw {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = format!("line {} (byte {})", self.line + 1, self.offset);
        match self.kind {
            Kind::NotALog => write!(out, "{place} is not the header of an audit log"),
            Kind::Version(version) => {
                write!(out, "{place} names format version {version}, which is not known here")
            }
            Kind::OtherKey => write!(out, "{place} says that the log was signed by another key"),
            Kind::Altered => write!(out, "{place} was altered"),
            Kind::Missing { first } if first + 1 == self.line => {
                write!(out, "line {} is missing before byte {}", first + 1, self.offset)
            }
            Kind::Missing { first } => {
                write!(out, "lines {} to {} are missing before byte {}", first + 1, self.line, self.offset)
            }
            Kind::Reordered => write!(out, "{place} is out of order"),
            Kind::Repeated => write!(out, "{place} is repeated, or a line was inserted before it"),
            Kind::Torn => write!(out, "{place} is torn: the log was truncated"),
            Kind::Unsigned { lines: 1 } => write!(out, "{place}, the last one, is under no checkpoint"),
            Kind::Unsigned { lines } => {
                write!(out, "{place} and all after it, {lines} lines, are under no checkpoint")
            }
        }
    }
}

/// Why a log does not verify.
#[derive(Debug)]
pub enum Failure {
    Flawed(Flaw),
    Read(io::Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        Failure::Read(error)
    }
}

/// Checks every byte of a log.
pub fn verify(log: impl BufRead, key: &VerifyingKey) -> Result<Verified, Failure> {
    let mut lines = Lines::new(log);
    let mut walk = Walk::begin(&mut lines, key)?;
    while let Some(line) = lines.next()? {
        if let Err(kind) = walk.take(&line, key) {
            return Err(walk.flaw(kind, &line, &mut lines, key)?);
        }
    }
    let start = walk.unsigned_from;
    match walk.trusted {
        Some(checkpoint) if walk.unsigned == 0 => Ok(Verified {
            header: walk.header,
            records: walk.records,
            chain: walk.chain,
            checkpoint,
            recoveries: walk.recoveries,
        }),
        trusted => {
            let line = walk.chain.size - walk.unsigned;
            let kind = Kind::Unsigned { lines: walk.unsigned };
            Err(Failure::Flawed(Flaw { kind, line, offset: start, trusted }))
        }
    }
}

/// Calls `each` for every record of a log, in order, with its line; stops when it says `false`. Does not check
/// anything but that lines are lines: the first that is not, or a torn last one, is the flaw in the result.
pub fn records(log: impl BufRead, mut each: impl FnMut(&[u8], &AuditRecord) -> bool) -> Result<(), Failure> {
    let mut lines = Lines::new(log);
    let mut number = 0;
    while let Some(line) = lines.next()? {
        let flaw = |kind| Failure::Flawed(Flaw { kind, line: number, offset: line.offset, trusted: None });
        match Line::parse(&line.bytes) {
            _ if !line.whole => return Err(flaw(Kind::Torn)),
            Ok(Line::Record(_, _) | Line::Checkpoint(_)) if number == 0 => return Err(flaw(Kind::NotALog)),
            Ok(Line::Record(_, record)) if !each(&line.bytes, &record) => return Ok(()),
            Ok(_) => {}
            Err(Malformed::Version(version)) => return Err(flaw(Kind::Version(version))),
            Err(Malformed::Bytes) if number == 0 => return Err(flaw(Kind::NotALog)),
            Err(Malformed::Bytes) => return Err(flaw(Kind::Altered)),
        }
        number += 1;
    }
    Ok(())
}

/// The bytes of one line, without its line feed.
struct RawLine {
    offset: u64,
    bytes: Vec<u8>,
    /// It ended with a line feed.
    whole: bool,
}

/// Cuts a stream into lines, none of them longer than memory allows.
struct Lines<R> {
    log: R,
    offset: u64,
}

impl<R: BufRead> Lines<R> {
    fn new(log: R) -> Lines<R> {
        Lines { log, offset: 0 }
    }
    /// A line that is too long comes in pieces; no piece parses.
    fn next(&mut self) -> io::Result<Option<RawLine>> {
        let mut bytes = Vec::new();
        self.log.by_ref().take(LINE_BYTES_MAX as u64 + 2).read_until(b'\n', &mut bytes)?;
        let offset = self.offset;
        self.offset += bytes.len() as u64;
        if bytes.is_empty() {
            return Ok(None);
        }
        let ended = bytes.pop_if(|last| *last == b'\n').is_some();
        let whole = ended || bytes.len() > LINE_BYTES_MAX;
        Ok(Some(RawLine { offset, bytes, whole }))
    }
}

/// What is known after the lines so far, all of which were good.
struct Walk {
    header: Header,
    chain: Chain,
    records: u64,
    recoveries: u64,
    trusted: Option<Checkpoint>,
    /// Lines after the last checkpoint, and the offset of the first of them.
    unsigned: u64,
    unsigned_from: u64,
    /// Offset of the last line, and whether it carries a signature of its own.
    last_offset: u64,
    last_signed: bool,
}

impl Walk {
    fn begin<R: BufRead>(lines: &mut Lines<R>, key: &VerifyingKey) -> Result<Walk, Failure> {
        let flaw = |kind| Failure::Flawed(Flaw { kind, line: 0, offset: 0, trusted: None });
        let first = lines.next()?.ok_or(flaw(Kind::NotALog))?;
        let header = match Line::parse(&first.bytes) {
            _ if !first.whole => return Err(flaw(Kind::Torn)),
            Ok(Line::Header(header)) if header.key != KeyId::of(key) => return Err(flaw(Kind::OtherKey)),
            Ok(Line::Header(header)) => header,
            Err(Malformed::Version(version)) => return Err(flaw(Kind::Version(version))),
            _ => return Err(flaw(Kind::NotALog)),
        };
        Ok(Walk {
            header,
            chain: Chain::begin(&first.bytes),
            records: 0,
            recoveries: 0,
            trusted: None,
            unsigned: 1,
            unsigned_from: 0,
            last_offset: 0,
            last_signed: false,
        })
    }

    /// Accepts the next line, or says what is wrong with it at first sight.
    fn take(&mut self, line: &RawLine, key: &VerifyingKey) -> Result<(), Kind> {
        let parsed = match Line::parse(&line.bytes) {
            _ if !line.whole => return Err(Kind::Torn),
            Ok(parsed) => parsed,
            Err(_) => return Err(Kind::Altered),
        };
        let said = parsed.chain().ok_or(Kind::Repeated)?;
        if said.size > self.chain.size && said.head != self.chain.head {
            return Err(Kind::Missing { first: self.chain.size });
        }
        if said.size < self.chain.size && said.head != self.chain.head {
            return Err(Kind::Repeated);
        }
        if said != self.chain {
            return Err(Kind::Altered);
        }
        match parsed {
            Line::Checkpoint(checkpoint) => {
                if !checkpoint.is_signed_by(self.header.log, key) {
                    return Err(Kind::Altered);
                }
                (self.trusted, self.unsigned, self.last_signed) = (Some(checkpoint), 0, true);
            }
            Line::Record(_, record) => {
                self.records += 1;
                self.recoveries += u64::from(matches!(record.event, Event::Recovered { .. }));
                if self.unsigned == 0 {
                    self.unsigned_from = line.offset;
                }
                (self.unsigned, self.last_signed) = (self.unsigned + 1, false);
            }
            Line::Header(_) => return Err(Kind::Repeated),
        }
        self.chain = self.chain.then(&line.bytes);
        self.last_offset = line.offset;
        Ok(())
    }

    /// Looks at what follows the bad line, to say which line is to blame and how.
    fn flaw<R: BufRead>(
        &self,
        kind: Kind,
        line: &RawLine,
        rest: &mut Lines<R>,
        key: &VerifyingKey,
    ) -> io::Result<Failure> {
        let parsed = Line::parse(&line.bytes).ok();
        let said = parsed.as_ref().and_then(Line::chain);
        let here = Flaw { kind, line: self.chain.size, offset: line.offset, trusted: self.trusted };
        let flaw = match (kind, said) {
            (Kind::Altered, Some(said)) if said.size == self.chain.size && said.head != self.chain.head => {
                let signed = match parsed {
                    Some(Line::Checkpoint(checkpoint)) => checkpoint.is_signed_by(self.header.log, key),
                    _ => false,
                };
                let intact = signed || rest.next()?.is_some_and(|next| follows(&next, &line.bytes));
                // This line is what was written, so the one that it should follow is not.
                if intact && !self.last_signed {
                    Flaw { line: self.chain.size - 1, offset: self.last_offset, ..here }
                } else {
                    here
                }
            }
            (Kind::Missing { first }, Some(said)) => {
                let mut moved = false;
                while let Some(later) = rest.next()?
                    && !moved
                {
                    moved = Line::parse(&later.bytes).is_ok_and(|later| later.chain() == Some(self.chain));
                }
                let kind = if moved { Kind::Reordered } else { Kind::Missing { first } };
                Flaw { kind, line: if moved { self.chain.size } else { said.size }, ..here }
            }
            _ => here,
        };
        Ok(Failure::Flawed(flaw))
    }
}

/// Whether `next` names the hash of `line`.
fn follows(next: &RawLine, line: &[u8]) -> bool {
    let said = Line::parse(&next.bytes).ok().and_then(|next| next.chain());
    said.is_some_and(|said| said.head == Hash::of(line))
}

#[cfg(test)]
mod tests;

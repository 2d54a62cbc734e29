//! Verifying a log with nothing but its bytes and the public key.
//!
//! Guarantees: a log that verifies has the bytes that the key's holder signed, from the first to the last, and is what the known
//! checkpoints say; for any other the first bad line is named, with its byte offset. Reads the log once, in memory for some lines.
//! Deliberately absent: noticing, without a known checkpoint, that whole groups at the end are missing (FORMAT.md says what to keep
//! for that), and files.

mod ahead;

use super::canonical::{Header, Line, Malformed};
use super::chain::{Chain, bytes_from_hex};
use super::checkpoint::{Checkpoint, KeyId};
use super::lines::Lines;
use super::tree::{Head, Tree};
use super::{AuditRecord, Event};
use ahead::{Ahead, Seen};
use ed25519_dalek::VerifyingKey;
use std::fmt;
use std::io::{self, BufRead};

/// A log that is as it was signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Of the first segment.
    pub header: Header,
    pub segments: u64,
    pub records: u64,
    /// All lines, and the hash of the last.
    pub chain: Chain,
    /// The last line. Its note is what to keep and compare.
    pub checkpoint: Checkpoint,
    /// How often the log was continued after an unclean end.
    pub recoveries: u64,
    /// The key under the last checkpoint.
    pub key: VerifyingKey,
}

/// What a log is verified with.
#[derive(Clone, Debug)]
pub struct Against {
    /// The key of the first segment; the log says which follow.
    pub key: VerifyingKey,
    /// What the log is known to have been.
    pub known: Vec<Head>,
    /// It may begin anywhere: these are some of a log's segments.
    pub part: bool,
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
    /// The log has another history than a known checkpoint, which covers the lines before this one.
    Forked,
    /// The log ends here, and a known checkpoint covers this many lines.
    Truncated { known: u64 },
    /// The log begins here, and so cannot be compared with a known checkpoint of fewer lines.
    Unknown { known: u64 },
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
            Kind::Forked => {
                write!(
                    out,
                    "forked: the log before {place} is another one than the known checkpoint of that size"
                )
            }
            Kind::Truncated { known } => {
                write!(
                    out,
                    "truncated: the log ends before {place}, and a known checkpoint covers {known} lines"
                )
            }
            Kind::Unknown { known } => {
                write!(
                    out,
                    "not compared: the log begins at {place}, and a known checkpoint covers {known} lines"
                )
            }
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

/// Checks every byte of a log, from its first line.
pub fn verify(log: impl BufRead, key: &VerifyingKey) -> Result<Verified, Failure> {
    verify_against(log, &Against { key: *key, known: vec![], part: false })
}

/// Checks every byte of a log, or of some of its segments.
pub fn verify_against(log: impl BufRead, against: &Against) -> Result<Verified, Failure> {
    let mut lines = Ahead::new(log);
    let mut walk = Walk::begin(&mut lines, against)?;
    while let Some(line) = lines.next()? {
        if let Err(kind) = walk.take(&line) {
            return Err(walk.flaw(kind, &line, &mut lines)?);
        }
    }
    walk.end(against, lines.offset()).map_err(Failure::Flawed)
}

/// The header that a log begins with.
pub fn header(log: impl BufRead) -> Result<Header, Failure> {
    let flaw = Failure::Flawed(Flaw { kind: Kind::NotALog, line: 0, offset: 0, trusted: None });
    match Lines::new(log).next()?.map(|line| Line::parse(&line.bytes)) {
        Some(Ok(Line::Header(header))) => Ok(header),
        _ => Err(flaw),
    }
}

/// Calls `each` for every record of a log, in order, with its line; stops when it says `false`. Does not check
/// anything but that lines are lines: the first that is not, or a torn last one, is the flaw in the result.
pub fn records(log: impl BufRead, mut each: impl FnMut(&[u8], &AuditRecord) -> bool) -> Result<(), Failure> {
    let mut lines = Ahead::new(log);
    let mut number = 0;
    while let Some(Seen { raw, parsed, .. }) = lines.next()? {
        let flaw = |kind| Failure::Flawed(Flaw { kind, line: number, offset: raw.offset, trusted: None });
        match parsed {
            _ if !raw.whole => return Err(flaw(Kind::Torn)),
            Ok(Line::Record(_, _) | Line::Checkpoint(_)) if number == 0 => return Err(flaw(Kind::NotALog)),
            Ok(Line::Record(_, record)) if !each(&raw.bytes, &record) => return Ok(()),
            Ok(_) => {}
            Err(Malformed::Version(version)) => return Err(flaw(Kind::Version(version))),
            Err(Malformed::Bytes) if number == 0 => return Err(flaw(Kind::NotALog)),
            Err(Malformed::Bytes) => return Err(flaw(Kind::Altered)),
        }
        number += 1;
    }
    Ok(())
}

/// What is known after the lines so far, all of which were good.
struct Walk {
    first: Header,
    segments: u64,
    chain: Chain,
    tree: Tree,
    /// Signs the current segment.
    key: VerifyingKey,
    /// What the current key has handed over to.
    next_key: Option<VerifyingKey>,
    /// What the log is known to have been and is not yet, the smallest last.
    known: Vec<Head>,
    records: u64,
    recoveries: u64,
    /// The lines before this number were removed, says the log.
    removed: u64,
    trusted: Option<Checkpoint>,
    /// Lines after the last checkpoint, and the offset of the first of them.
    unsigned: u64,
    unsigned_from: u64,
    /// Offset of the last line, and whether it carries a signature of its own.
    last_offset: u64,
    last_signed: bool,
}

impl Walk {
    fn begin<R: BufRead>(lines: &mut Ahead<R>, against: &Against) -> Result<Walk, Failure> {
        let flaw = |kind| Failure::Flawed(Flaw { kind, line: 0, offset: 0, trusted: None });
        let first = lines.next()?.ok_or(flaw(Kind::NotALog))?;
        let header = match &first.parsed {
            _ if !first.raw.whole => return Err(flaw(Kind::Torn)),
            Ok(Line::Header(header)) if header.key != KeyId::of(&against.key) => {
                return Err(flaw(Kind::OtherKey));
            }
            Ok(Line::Header(header)) => header.clone(),
            Err(Malformed::Version(version)) => return Err(flaw(Kind::Version(*version))),
            _ => return Err(flaw(Kind::NotALog)),
        };
        let early = against.known.iter().find(|known| known.size < header.chain.size);
        if let Some(early) = early {
            let (line, kind) = (header.chain.size, Kind::Unknown { known: early.size });
            return Err(Failure::Flawed(Flaw { kind, line, offset: 0, trusted: None }));
        }
        let mut known = against.known.clone();
        known.sort_by_key(|known| std::cmp::Reverse(known.size));
        let mut walk = Walk {
            segments: 0,
            chain: header.chain,
            tree: header.tree.clone(),
            first: header,
            key: against.key,
            next_key: None,
            known,
            records: 0,
            recoveries: 0,
            removed: 0,
            trusted: None,
            unsigned: 0,
            unsigned_from: 0,
            last_offset: 0,
            last_signed: false,
        };
        walk.take(&first).map_err(flaw)?;
        Ok(walk)
    }

    /// Accepts the next line, or says what is wrong with it at first sight.
    fn take(&mut self, line: &Seen) -> Result<(), Kind> {
        let parsed = match &line.parsed {
            _ if !line.raw.whole => return Err(Kind::Torn),
            Ok(parsed) => parsed,
            Err(_) => return Err(Kind::Altered),
        };
        let said = parsed.chain();
        if said.size > self.chain.size && said.head != self.chain.head {
            return Err(Kind::Missing { first: self.chain.size });
        }
        if said.size < self.chain.size && said.head != self.chain.head {
            return Err(Kind::Repeated);
        }
        if said != self.chain {
            return Err(Kind::Altered);
        }
        self.known()?;
        if let Line::Checkpoint(checkpoint) = parsed {
            if checkpoint.root != self.tree.root() || !checkpoint.is_signed_by(self.first.log, &self.key) {
                return Err(Kind::Altered);
            }
            (self.trusted, self.unsigned, self.last_signed) = (Some(*checkpoint), 0, true);
        } else {
            match parsed {
                Line::Header(header) => self.segment(header)?,
                Line::Record(_, record) => self.record(&record.event)?,
                Line::Checkpoint(_) => {}
            }
            if self.unsigned == 0 {
                self.unsigned_from = line.raw.offset;
            }
            (self.unsigned, self.last_signed) = (self.unsigned + 1, false);
        }
        self.chain = Chain { size: self.chain.size + 1, head: line.hash };
        self.tree.push(self.chain.head);
        self.last_offset = line.raw.offset;
        Ok(())
    }

    /// Compares with what the log is known to have been at this size.
    fn known(&mut self) -> Result<(), Kind> {
        while let Some(known) = self.known.pop_if(|known| known.size == self.chain.size) {
            if known.root != self.tree.root() {
                return Err(Kind::Forked);
            }
        }
        Ok(())
    }

    /// A segment begins: with what stands before it, under a key that the one before it has named.
    fn segment(&mut self, header: &Header) -> Result<(), Kind> {
        if header.log != self.first.log || header.tree != self.tree || self.unsigned > 0 {
            return Err(Kind::Altered);
        }
        if header.key != KeyId::of(&self.key) {
            let next = self.next_key.filter(|next| KeyId::of(next) == header.key);
            self.key = next.ok_or(Kind::OtherKey)?;
        }
        (self.next_key, self.segments) = (None, self.segments + 1);
        Ok(())
    }

    fn record(&mut self, event: &Event) -> Result<(), Kind> {
        self.records += 1;
        match event {
            Event::Recovered { .. } => self.recoveries += 1,
            Event::Removed { before } => self.removed = self.removed.max(*before),
            Event::KeyChanged { key } => {
                let key = bytes_from_hex(key).and_then(|key| VerifyingKey::from_bytes(&key).ok());
                self.next_key = Some(key.ok_or(Kind::Altered)?);
            }
            _ => {}
        }
        Ok(())
    }

    fn end(mut self, against: &Against, length: u64) -> Result<Verified, Flaw> {
        let trusted = self.trusted;
        let flaw = |kind, line, offset| Err(Flaw { kind, line, offset, trusted });
        if self.known().is_err() {
            return flaw(Kind::Forked, self.chain.size, length);
        }
        if let Some(known) = self.known.first() {
            return flaw(Kind::Truncated { known: known.size }, self.chain.size, length);
        }
        let before = self.first.chain.size;
        if before > self.removed && !against.part {
            return flaw(Kind::Missing { first: 0 }, before, 0);
        }
        match trusted {
            Some(checkpoint) if self.unsigned == 0 => Ok(Verified {
                header: self.first,
                segments: self.segments,
                records: self.records,
                chain: self.chain,
                checkpoint,
                recoveries: self.recoveries,
                key: self.key,
            }),
            _ => {
                let kind = Kind::Unsigned { lines: self.unsigned };
                flaw(kind, self.chain.size - self.unsigned, self.unsigned_from)
            }
        }
    }

    /// Looks at what follows the bad line, to say which line is to blame and how.
    fn flaw<R: BufRead>(&self, kind: Kind, line: &Seen, rest: &mut Ahead<R>) -> io::Result<Failure> {
        let parsed = line.parsed.as_ref().ok();
        let said = parsed.map(Line::chain);
        let here = Flaw { kind, line: self.chain.size, offset: line.raw.offset, trusted: self.trusted };
        let flaw = match (kind, said) {
            (Kind::Altered, Some(said)) if said.size == self.chain.size && said.head != self.chain.head => {
                // What is signed is another tree than that of the lines before: they are not what they were.
                let signed = match parsed {
                    Some(Line::Checkpoint(checkpoint)) => {
                        checkpoint.root != self.tree.root()
                            && checkpoint.is_signed_by(self.first.log, &self.key)
                    }
                    _ => false,
                };
                let intact = signed || rest.next()?.is_some_and(|next| follows(&next, line));
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
                    moved = later.parsed.is_ok_and(|later| later.chain() == self.chain);
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
fn follows(next: &Seen, line: &Seen) -> bool {
    next.parsed.as_ref().is_ok_and(|next| next.chain().head == line.hash)
}

#[cfg(test)]
pub(super) mod tests;

//! Appends groups of records to a disk, and knows what to do when that fails.
//!
//! Invariant: what [`End`] says is on disk, in whole lines; `torn` says that more bytes may stand behind them. Deliberately absent:
//! threads and queues, and when a segment is full.

use super::super::canonical::{self, Header, LINE_BYTES_MAX};
use super::super::chain::Chain;
use super::super::checkpoint::{Checkpoint, KeyId, LogId};
use super::super::tree::Tree;
use super::super::{AuditRecord, Ticket, Unrecorded};
use super::{Answer, Clock, Disk};
use ed25519_dalek::SigningKey;
use std::borrow::Borrow;
use std::io;

/// The end of a log: what its next line continues.
#[derive(Clone)]
pub(super) struct End {
    pub(super) log: LogId,
    pub(super) chain: Chain,
    pub(super) tree: Tree,
    /// Bytes of the newest segment.
    pub(super) length: u64,
    /// The last line is a checkpoint.
    pub(super) signed: bool,
    /// Number of the newest segment's first line.
    pub(super) first: u64,
    /// When that was written, Unix microseconds.
    pub(super) begun: i64,
}

pub(super) struct Appender {
    disk: Box<dyn Disk>,
    end: End,
    /// Bytes may stand after the end.
    torn: bool,
    key: SigningKey,
    clock: Clock,
    /// Kept between groups for its memory.
    buffer: Vec<u8>,
}

/// Memory that the buffer may keep between groups, in bytes.
const BUFFER_BYTES_KEPT: usize = 1 << 20;

impl Appender {
    pub(super) fn new(disk: Box<dyn Disk>, end: End, key: SigningKey, clock: Clock) -> Appender {
        Appender { disk, end, torn: true, key, clock, buffer: Vec::new() }
    }

    /// The time now, Unix microseconds.
    pub(super) fn now(&self) -> i64 {
        (self.clock)()
    }

    pub(super) fn end(&self) -> &End {
        &self.end
    }

    /// Whether a checkpoint stands under all that was written.
    pub(super) fn is_signed(&self) -> bool {
        self.end.signed
    }

    /// Removes what a failed write may have left after the last good line.
    pub(super) fn cut_back(&mut self) -> Result<(), Unrecorded> {
        if self.torn {
            self.disk.cut(self.end.length).map_err(unrecorded)?;
            self.torn = false;
        }
        Ok(())
    }

    /// Writes the records, and a checkpoint over all that stands there when `sign`, and waits for the disk: all of them,
    /// or none. The answer of a record that is too long for any log is its own; it is left out.
    pub(super) fn append<R: Borrow<AuditRecord>>(
        &mut self,
        records: &[R],
        sign: bool,
    ) -> Result<Vec<Answer>, Unrecorded> {
        self.cut_back()?;
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        let (mut chain, mut leaves) = (self.end.chain, Vec::with_capacity(records.len()));
        let mut answers = Vec::with_capacity(records.len());
        for record in records {
            let start = buffer.len();
            canonical::write_record(chain, record.borrow(), &mut buffer);
            if buffer.len() - start > LINE_BYTES_MAX {
                buffer.truncate(start);
                answers.push(Err(Unrecorded("a record is too long for the audit log".to_owned())));
                continue;
            }
            answers.push(Ok(Ticket(chain.size)));
            chain = chain.then(&buffer[start..]);
            leaves.push(chain.head);
            buffer.push(b'\n');
        }
        if buffer.is_empty() && (!sign || !records.is_empty()) {
            return Ok(answers);
        }
        // Only what reached the disk is in the tree, so it is copied when something may fail: a few hashes.
        let mut tree = self.end.tree.clone();
        leaves.into_iter().for_each(|leaf| tree.push(leaf));
        if sign {
            write_checkpoint(self.end.log, &mut chain, &mut tree, (self.clock)(), &self.key, &mut buffer);
        }
        let written = self.write(&buffer);
        if written.is_ok() {
            (self.end.chain, self.end.tree, self.end.signed) = (chain, tree, sign);
            self.end.length += buffer.len() as u64;
        }
        if buffer.capacity() <= BUFFER_BYTES_KEPT {
            self.buffer = buffer;
        }
        written.map(|()| answers)
    }

    /// Seals the segment, which ends in a checkpoint, and begins the next, under `key` if there is a new one.
    pub(super) fn rotate(&mut self, key: Option<SigningKey>) -> Result<(), Unrecorded> {
        self.cut_back()?;
        let signing = key.as_ref().unwrap_or(&self.key);
        let End { log, chain, tree, .. } = &self.end;
        let (content, end) = begin(*log, *chain, tree.clone(), (self.clock)(), signing);
        self.disk.next(self.end.first, &content).map_err(unrecorded)?;
        self.end = end;
        if let Some(key) = key {
            self.key = key;
        }
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Unrecorded> {
        self.torn = true;
        let result = self.disk.append(self.end.length, bytes).and_then(|()| self.disk.sync());
        match result {
            Ok(()) => self.torn = false,
            // Now if it can be done, so that a reader finds no half line; else before the next group. What a failed
            // sync may have left in memory as if written is thus always written anew.
            Err(_) => drop(self.cut_back()),
        }
        result.map_err(unrecorded)
    }
}

fn unrecorded(error: io::Error) -> Unrecorded {
    Unrecorded(error.to_string())
}

fn write_checkpoint(
    log: LogId,
    chain: &mut Chain,
    tree: &mut Tree,
    time: i64,
    key: &SigningKey,
    out: &mut Vec<u8>,
) {
    let start = out.len();
    canonical::write_checkpoint(&Checkpoint::sign(log, *chain, tree, time, key), out);
    *chain = chain.then(&out[start..]);
    tree.push(chain.head);
    out.push(b'\n');
}

/// A segment that continues `chain`: its header, and a checkpoint over it.
pub(super) fn begin(log: LogId, chain: Chain, tree: Tree, time: i64, key: &SigningKey) -> (Vec<u8>, End) {
    let first = chain.size;
    let header = Header { log, key: KeyId::of(&key.verifying_key()), chain, tree, time };
    let mut content = Vec::new();
    canonical::write_header(&header, &mut content);
    let (mut chain, mut tree) = (chain.then(&content), header.tree);
    tree.push(chain.head);
    content.push(b'\n');
    write_checkpoint(log, &mut chain, &mut tree, time, key, &mut content);
    let length = content.len() as u64;
    (content, End { log, chain, tree, length, signed: true, first, begun: time })
}

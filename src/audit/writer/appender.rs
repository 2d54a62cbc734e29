//! Appends groups of records to a disk, and knows what to do when that fails.
//!
//! Invariant: the first `length` bytes are whole lines on disk, and `chain` is their state; `signed` says that the last of
//! them is a checkpoint, `torn` that more bytes may stand behind them. Deliberately absent: threads and queues.

use super::super::canonical::{self, LINE_BYTES_MAX};
use super::super::chain::Chain;
use super::super::checkpoint::{Checkpoint, LogId};
use super::super::{AuditRecord, Ticket, Unrecorded};
use super::{Answer, Clock, Disk};
use ed25519_dalek::SigningKey;
use std::io;

pub(super) struct Appender {
    disk: Box<dyn Disk>,
    log: LogId,
    chain: Chain,
    length: u64,
    /// Bytes may stand after `length`.
    torn: bool,
    /// The last line is a checkpoint.
    signed: bool,
    key: SigningKey,
    clock: Clock,
    /// Kept between groups for its memory.
    buffer: Vec<u8>,
}

/// Memory that the buffer may keep between groups, in bytes.
const BUFFER_BYTES_KEPT: usize = 1 << 20;

impl Appender {
    pub(super) fn new(
        disk: Box<dyn Disk>,
        log: LogId,
        chain: Chain,
        length: u64,
        signed: bool,
        key: SigningKey,
        clock: Clock,
    ) -> Appender {
        Appender { disk, log, chain, length, torn: true, signed, key, clock, buffer: Vec::new() }
    }

    /// Whether a checkpoint stands under all that was written.
    pub(super) fn is_signed(&self) -> bool {
        self.signed
    }

    /// Removes what a failed write may have left after the last good line.
    pub(super) fn cut_back(&mut self) -> Result<(), Unrecorded> {
        if self.torn {
            self.disk.cut(self.length).map_err(unrecorded)?;
            self.torn = false;
        }
        Ok(())
    }

    /// Writes the records, and a checkpoint over all that stands there when `sign`, and waits for the disk: all of them,
    /// or none. The answer of a record that is too long for any log is its own; it is left out.
    pub(super) fn append(&mut self, records: &[&AuditRecord], sign: bool) -> Result<Vec<Answer>, Unrecorded> {
        self.cut_back()?;
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        let mut chain = self.chain;
        let mut answers = Vec::with_capacity(records.len());
        for record in records {
            let start = buffer.len();
            canonical::write_record(chain, record, &mut buffer);
            if buffer.len() - start > LINE_BYTES_MAX {
                buffer.truncate(start);
                answers.push(Err(Unrecorded("a record is too long for the audit log".to_owned())));
                continue;
            }
            answers.push(Ok(Ticket(chain.size)));
            chain = chain.then(&buffer[start..]);
            buffer.push(b'\n');
        }
        if buffer.is_empty() && (!sign || !records.is_empty()) {
            return Ok(answers);
        }
        if sign {
            let start = buffer.len();
            let checkpoint = Checkpoint::sign(self.log, chain, (self.clock)(), &self.key);
            canonical::write_checkpoint(&checkpoint, &mut buffer);
            chain = chain.then(&buffer[start..]);
            buffer.push(b'\n');
        }
        let written = self.write(&buffer);
        if written.is_ok() {
            (self.chain, self.signed) = (chain, sign);
            self.length += buffer.len() as u64;
        }
        if buffer.capacity() <= BUFFER_BYTES_KEPT {
            self.buffer = buffer;
        }
        written.map(|()| answers)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Unrecorded> {
        self.torn = true;
        let result = self.disk.append(self.length, bytes).and_then(|()| self.disk.sync());
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

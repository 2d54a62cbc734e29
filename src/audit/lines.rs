//! Cuts a stream into the log's lines.
//!
//! Guarantees: no line takes more memory than the longest that a log may have. Deliberately absent: what a line means.

use super::canonical::LINE_BYTES_MAX;
use std::io::{self, BufRead, Read};

/// The bytes of one line, without its line feed.
pub(super) struct RawLine {
    pub(super) offset: u64,
    pub(super) bytes: Vec<u8>,
    /// It ended with a line feed.
    pub(super) whole: bool,
}

impl RawLine {
    /// Offset of what follows.
    pub(super) fn end(&self) -> u64 {
        self.offset + self.bytes.len() as u64 + u64::from(self.whole)
    }
}

/// Lines of a stream, in order.
pub(super) struct Lines<R> {
    log: R,
    offset: u64,
}

impl<R: BufRead> Lines<R> {
    pub(super) fn new(log: R) -> Lines<R> {
        Lines { log, offset: 0 }
    }

    /// Bytes so far.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// A line that is too long comes in pieces; no piece parses.
    pub(super) fn next(&mut self) -> io::Result<Option<RawLine>> {
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

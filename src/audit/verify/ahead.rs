//! A log's lines, parsed ahead of who takes them, on all cores: to parse a line is most of what it takes to verify one.
//!
//! Guarantees: lines come in their order, each once; those before one that cannot be read come before that error; a bounded
//! number of bytes is read ahead. Deliberately absent: whether a line may stand where it does.

use super::super::canonical::{Line, Malformed};
use super::super::chain::Hash;
use super::super::lines::{Lines, RawLine};
use std::collections::VecDeque;
use std::io::{self, BufRead};
use std::thread;

/// What is read ahead, in lines and bytes. Both are exceeded by one line at most, which has a bound of its own.
const LINES: usize = 4096;
const BYTES: usize = 8 << 20;
/// So many lines are worth a thread.
const THREAD_LINES: usize = 256;

/// A line, and what can be said of it by itself.
pub(super) struct Seen {
    pub(super) raw: RawLine,
    pub(super) parsed: Result<Line, Malformed>,
    pub(super) hash: Hash,
}

impl Seen {
    fn of(raw: RawLine) -> Seen {
        let (parsed, hash) = (Line::parse(&raw.bytes), Hash::of(&raw.bytes));
        Seen { raw, parsed, hash }
    }
}

pub(super) struct Ahead<R> {
    lines: Lines<R>,
    seen: VecDeque<Seen>,
    /// Comes after what was seen.
    failed: Option<io::Error>,
    /// Lines that are read next. It doubles: who wants few does not wait for many.
    next: usize,
}

impl<R: BufRead> Ahead<R> {
    pub(super) fn new(log: R) -> Ahead<R> {
        Ahead { lines: Lines::new(log), seen: VecDeque::new(), failed: None, next: 1 }
    }

    /// Bytes so far, with those that were read ahead.
    pub(super) fn offset(&self) -> u64 {
        self.lines.offset()
    }

    /// The next line; `None` at the log's end.
    pub(super) fn next(&mut self) -> io::Result<Option<Seen>> {
        if self.seen.is_empty() && self.failed.is_none() {
            let lines = self.read();
            self.seen = parse(lines);
        }
        match self.seen.pop_front() {
            None => self.failed.take().map_or(Ok(None), Err),
            seen => Ok(seen),
        }
    }

    fn read(&mut self) -> Vec<RawLine> {
        let (mut lines, mut bytes) = (Vec::with_capacity(self.next), 0);
        while lines.len() < self.next && bytes < BYTES {
            match self.lines.next() {
                Ok(Some(line)) => {
                    bytes += line.bytes.len();
                    lines.push(line);
                }
                Ok(None) => break,
                Err(error) => {
                    self.failed = Some(error);
                    break;
                }
            }
        }
        self.next = (2 * self.next).min(LINES);
        lines
    }
}

fn parse(mut lines: Vec<RawLine>) -> VecDeque<Seen> {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let share = lines.len().div_ceil(cores).max(THREAD_LINES);
    let mut parts = Vec::new();
    while lines.len() > share {
        let rest = lines.split_off(share);
        parts.push(std::mem::replace(&mut lines, rest));
    }
    if parts.is_empty() {
        return lines.into_iter().map(Seen::of).collect();
    }
    thread::scope(|scope| {
        let others: Vec<_> = parts
            .into_iter()
            .map(|part| scope.spawn(|| part.into_iter().map(Seen::of).collect::<Vec<_>>()))
            .collect();
        let last: Vec<Seen> = lines.into_iter().map(Seen::of).collect();
        let mut seen = VecDeque::new();
        for other in others {
            match other.join() {
                Ok(part) => seen.extend(part),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        seen.extend(last);
        seen
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufReader, Read};

    fn numbered(count: usize) -> Vec<u8> {
        (0..count).flat_map(|number| format!("{number}\n").into_bytes()).collect()
    }

    #[test]
    fn lines_come_in_their_order_each_once() {
        for count in [0, 1, 7, 300, 10_000] {
            let bytes = numbered(count);
            let mut ahead = Ahead::new(bytes.as_slice());
            let mut offset = 0;
            for number in 0..count {
                let seen = ahead.next().unwrap().expect("there are more");
                assert_eq!(seen.raw.bytes, number.to_string().as_bytes());
                assert_eq!((seen.raw.offset, seen.hash), (offset, Hash::of(&seen.raw.bytes)));
                offset = seen.raw.end();
            }
            assert!(ahead.next().unwrap().is_none());
            assert_eq!(ahead.offset(), bytes.len() as u64);
        }
    }

    #[test]
    fn what_was_read_before_an_error_comes_first() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("the disk is gone"))
            }
        }
        let bytes = numbered(1000);
        let mut ahead = Ahead::new(BufReader::new(bytes.as_slice().chain(Broken)));
        for _ in 0..1000 {
            assert!(ahead.next().unwrap().is_some());
        }
        assert!(ahead.next().is_err());
    }
}

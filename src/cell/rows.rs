//! DataRow messages as they lie in memory, one after the other: where their cells stand, and the same messages with
//! other values in place of some.
//!
//! Guarantees: total on any bytes; a message that is not a row of so many columns is a violation. Between the cells that
//! are replaced, bytes are copied as they came, across columns and rows. Deliberately absent: what a cell means.

use crate::crypto::Span;
use crate::wire::Violation;
use crate::wire::backend::DATA_ROW;

/// Bytes of a message's tag and length, and of a row's number of columns.
const HEAD: usize = 5;
const COUNT: usize = 2;

fn word(bytes: &[u8], at: usize) -> Option<i32> {
    bytes.get(at..)?.first_chunk::<4>().map(|word| i32::from_be_bytes(*word))
}

/// The message that begins at `at`.
///
/// # Errors
/// It is no row, or not whole.
pub(super) fn message(bytes: &[u8], at: usize) -> Result<Span, Violation> {
    let length = word(bytes, at + 1).and_then(|length| usize::try_from(length).ok());
    let end = length.and_then(|length| at.checked_add(1)?.checked_add(length));
    match end {
        Some(end) if bytes.get(at) == Some(&DATA_ROW) && end >= at + HEAD && end <= bytes.len() => {
            Ok(Span { start: at, end })
        }
        _ => Err(Violation::new("invalid message format")),
    }
}

/// Walks over the columns of one row.
pub(super) struct Walk<'b> {
    bytes: &'b [u8],
    at: usize,
    end: usize,
}

impl<'b> Walk<'b> {
    /// # Errors
    /// The row has another number of columns.
    pub(super) fn new(bytes: &'b [u8], row: Span, width: usize) -> Result<Walk<'b>, Violation> {
        let at = row.start + HEAD;
        let count = bytes.get(at..row.end).and_then(|rest| rest.first_chunk::<COUNT>());
        let count = count.ok_or_else(|| Violation::new("insufficient data left in message"))?;
        if usize::from(u16::from_be_bytes(*count)) != width {
            return Err(Violation::new("the row has another number of columns than its description"));
        }
        Ok(Walk { bytes, at: at + COUNT, end: row.end })
    }

    /// Where the next column's value stands; `None`: it is NULL.
    #[inline]
    pub(super) fn next(&mut self) -> Result<Option<Span>, Violation> {
        let length = word(self.bytes, self.at).filter(|_| self.at + 4 <= self.end);
        let length = length.ok_or_else(|| Violation::new("insufficient data left in message"))?;
        self.at += 4;
        if length == -1 {
            return Ok(None);
        }
        let start = self.at;
        let length = usize::try_from(length).map_err(|_| Violation::new("invalid value length"))?;
        if length > self.end - start {
            return Err(Violation::new("insufficient data left in message"));
        }
        self.at += length;
        Ok(Some(Span { start, end: self.at }))
    }

    /// Passes over columns, and at last over the end.
    #[inline]
    pub(super) fn skip(&mut self, columns: usize) -> Result<(), Violation> {
        for _ in 0..columns {
            self.next()?;
        }
        Ok(())
    }

    /// # Errors
    /// Bytes are left after the last column.
    pub(super) fn end(self) -> Result<(), Violation> {
        if self.at == self.end { Ok(()) } else { Err(Violation::new("invalid message format")) }
    }
}

/// What is being written: a buffer that is long enough, and how far it is.
pub(super) struct Splice<'o> {
    pub(super) out: &'o mut [u8],
    pub(super) at: usize,
}

/// Bytes that are copied at once, and that the buffer must have after its end: short copies of a length that the
/// compiler does not know cost more than these.
pub(super) const STRIDE: usize = 32;

impl Splice<'_> {
    /// Copies what stands at `span`, and perhaps bytes after it, which the next copy overwrites.
    #[inline]
    pub(super) fn copy(&mut self, bytes: &[u8], span: Span) {
        let length = span.len();
        let strides = length.next_multiple_of(STRIDE);
        let into = self.out.get_mut(self.at..self.at + strides);
        match (into, bytes.get(span.start..span.start + strides)) {
            (Some(into), Some(from)) if length <= 8 * STRIDE => {
                let strides = into.as_chunks_mut::<STRIDE>().0.iter_mut().zip(from.as_chunks::<STRIDE>().0);
                strides.for_each(|(into, from)| *into = *from);
            }
            (_, _) => self.out[self.at..self.at + length].copy_from_slice(&bytes[span.start..span.end]),
        }
        self.at += length;
    }

    #[inline]
    pub(super) fn word(&mut self, word: i32) {
        self.patch(self.at, word);
        self.at += 4;
    }

    /// Writes a word where one was written before.
    #[inline]
    pub(super) fn patch(&mut self, at: usize, word: i32) {
        if let Some(into) = self.out.get_mut(at..).and_then(|rest| rest.first_chunk_mut()) {
            *into = word.to_be_bytes();
        }
    }

    /// Copies a value that stands by itself.
    #[inline]
    pub(super) fn value(&mut self, value: &[u8]) {
        self.copy(value, Span { start: 0, end: value.len() });
    }

    /// Room for so many bytes, for the caller to fill.
    #[inline]
    pub(super) fn take(&mut self, length: usize) -> &mut [u8] {
        let start = self.at;
        self.at += length;
        self.out.get_mut(start..self.at).unwrap_or_default()
    }

    /// Begins a message; gives what [`end_message`](Self::end_message) wants.
    #[inline]
    pub(super) fn begin_message(&mut self, tag: u8) -> usize {
        if let Some(into) = self.out.get_mut(self.at) {
            *into = tag;
        }
        self.at += HEAD;
        self.at
    }

    /// Ends the message that began so; one without content is none.
    ///
    /// # Errors
    /// It is longer than a message can be.
    #[inline]
    pub(super) fn end_message(&mut self, began: usize) -> Result<(), Violation> {
        if self.at == began {
            self.at -= HEAD;
            return Ok(());
        }
        let length = i32::try_from(self.at - began + 4);
        self.patch(began - 4, length.map_err(|_| Violation::new("row is longer than a message can be"))?);
        Ok(())
    }
}

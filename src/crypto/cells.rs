//! Many cells in one buffer: the unit in which cells are sealed and opened.

use zeroize::Zeroize;

/// Where a cell stands in a buffer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    pub start: usize,
    pub end: usize,
}

impl Span {
    pub fn len(&self) -> usize {
        self.end - self.start
    }
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }
}

/// Cells that stand anywhere in a buffer. Every span lies within it.
#[derive(Clone, Copy)]
pub struct Batch<'b> {
    pub bytes: &'b [u8],
    pub spans: &'b [Span],
}

impl<'b> Batch<'b> {
    /// Panics when there is no such cell, as a slice does.
    pub fn get(&self, index: usize) -> &'b [u8] {
        let Span { start, end } = self.spans[index];
        &self.bytes[start..end]
    }
}

/// Many cells, one after the other in one buffer.
/// Holds plaintext or sealed bytes; zeroised on clear and drop, and deliberately without `Debug` and `Clone`.
#[derive(Default)]
pub struct Cells {
    /// Bytes after `end` are zeros: they were, when they were added, or are again.
    bytes: Vec<u8>,
    end: usize,
    spans: Vec<Span>,
}

impl Cells {
    pub fn new() -> Self {
        Cells::default()
    }
    pub fn len(&self) -> usize {
        self.spans.len()
    }
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }
    pub fn push(&mut self, cell: &[u8]) {
        self.reserve(cell.len());
        self.push_with(|bytes| bytes.extend_from_slice(cell));
    }
    /// Pushes a cell that `write` appends to the buffer, also when it fails half-way. What was there before must be left
    /// alone, and room for long cells be [`reserve`](Self::reserve)d.
    pub fn push_with<T>(&mut self, write: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        self.reserve(CELL_BYTES_USUAL);
        self.bytes.truncate(self.end);
        let start = self.end;
        let written = write(&mut self.bytes);
        self.end = self.bytes.len();
        self.spans.push(Span { start, end: self.end });
        written
    }
    /// Pushes a cell that `write` puts at the start of these zeros, whose length it gives; or none, where it gives none and has
    /// written nothing.
    #[inline]
    pub fn push_short<const N: usize>(
        &mut self,
        write: impl FnOnce(&mut [u8; N]) -> Option<usize>,
    ) -> Option<()> {
        if self.bytes.len() < self.end + N {
            self.lengthen(N);
        }
        let length = write(self.bytes.get_mut(self.end..)?.first_chunk_mut()?)?.min(N);
        self.spans.push(Span { start: self.end, end: self.end + length });
        self.end += length;
        Some(())
    }
    /// Has zeros stand behind the end: these, and for those who come next.
    #[cold]
    fn lengthen(&mut self, zeros: usize) {
        self.reserve(zeros);
        let length = self.bytes.capacity().min(self.end + 16 * zeros);
        self.bytes.resize(length, 0);
    }
    /// Pushes cells of these lengths, and has `write` fill them: it gets all bytes, with `slack` more after the last cell to
    /// use as it likes, and the spans of the new cells.
    pub fn push_all<T>(
        &mut self,
        lengths: impl Iterator<Item = usize>,
        slack: usize,
        write: impl FnOnce(&mut [u8], &[Span]) -> T,
    ) -> T {
        let (before, mut end) = (self.spans.len(), self.end);
        self.spans.extend(lengths.map(|length| {
            let start = end;
            end += length;
            Span { start, end }
        }));
        self.reserve(end + slack - self.end);
        if self.bytes.len() < end + slack {
            self.bytes.resize(end + slack, 0);
        }
        self.end = end + slack;
        let written = write(&mut self.bytes, self.spans.get(before..).unwrap_or_default());
        self.cut(end);
        written
    }
    /// Makes room for `more` bytes by moving into a larger buffer, so that the outgrown one can be zeroised: a vector
    /// that grows by itself leaves its bytes behind.
    #[inline]
    pub fn reserve(&mut self, more: usize) {
        if self.bytes.capacity() - self.end < more {
            self.grow(more);
        }
    }
    #[cold]
    fn grow(&mut self, more: usize) {
        let needed = self.end.saturating_add(more);
        let usual = CELL_BYTES_USUAL.max(self.bytes.capacity().saturating_mul(2));
        let mut larger = Vec::with_capacity(needed.max(usual));
        let used = self.bytes.get_mut(..self.end).unwrap_or_default();
        larger.extend_from_slice(used);
        used.zeroize();
        self.bytes = larger;
    }
    /// What it could hold without taking more memory, in bytes, with what that costs beside.
    pub fn room(&self) -> usize {
        self.bytes.capacity() + self.spans.capacity() * size_of::<Span>()
    }
    /// The bytes of all cells together.
    pub fn bytes_total(&self) -> usize {
        self.end
    }
    /// All cells, one after the other.
    pub fn all_bytes(&self) -> &[u8] {
        self.bytes.get(..self.end).unwrap_or_default()
    }
    /// Panics when there is no such cell, as a slice does.
    pub fn get(&self, index: usize) -> &[u8] {
        self.batch().get(index)
    }
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let batch = self.batch();
        (0..self.len()).map(move |index| batch.get(index))
    }
    /// All of them.
    pub fn batch(&self) -> Batch<'_> {
        Batch { bytes: &self.bytes, spans: &self.spans }
    }
    /// Forgets all cells, and their bytes.
    pub fn clear(&mut self) {
        self.cut(0);
        self.spans.clear();
    }
    /// Forgets the cells from `length` on, and their bytes.
    pub fn truncate(&mut self, length: usize) {
        if let Some(first) = self.spans.get(length) {
            self.cut(first.start);
        }
        self.spans.truncate(length);
    }
    fn cut(&mut self, end: usize) {
        let forgotten = self.bytes.get_mut(end..self.end).unwrap_or_default();
        match forgotten.try_into() {
            // What was lent as slack: no call for so few.
            Ok(slack) => <[u8; 16]>::zeroize(slack),
            Err(_) => forgotten.zeroize(),
        }
        self.end = end;
    }
}

/// Room that every pushed cell finds.
const CELL_BYTES_USUAL: usize = 256;

impl Drop for Cells {
    fn drop(&mut self) {
        self.cut(0);
    }
}

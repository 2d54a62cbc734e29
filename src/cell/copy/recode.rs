//! COPY … FROM in binary: rows that came as text or CSV, spelled as `CopyReadBinaryAttribute` (`copyfromparse.c`) reads them.
//!
//! Guarantees: a row has every column; nothing follows the trailer. Deliberately absent: reading values, which `seal` does.

use super::seal::Place;
use super::stream::SIGNATURE;
use crate::cell::rows::{STRIDE, Splice};
use crate::crypto::Cells;
use crate::plan::{CopyColumn, Recode};
use crate::wire::Violation;
use crate::wire::frontend::COPY_DATA;
use bytes::BytesMut;

/// How far a copy is: whether its header was written.
#[derive(Clone, Copy, Default)]
pub(super) struct Begun(bool);

/// Whole rows of one copy.
pub(super) struct Rows<'s> {
    pub(super) columns: &'s [CopyColumn],
    pub(super) bytes: &'s [u8],
    /// Of each row, where each column's value stands in `bytes`; `None`: it is NULL.
    pub(super) places: &'s [Option<Place>],
    /// Of each column that does not go as it is spelled, the values of all rows that have one.
    pub(super) cells: &'s [Cells],
}

/// Tag and length of a message; the signature with flags and the length of no extension; the trailer.
const AROUND: usize = 5 + SIGNATURE.len() + 8 + 2;
/// The number of columns, and before each value its length and perhaps a byte.
const COUNT: usize = 2;
const BEFORE: usize = 5;

impl Rows<'_> {
    /// Appends them as one message. `ends`: they are the last.
    ///
    /// # Errors
    /// They are longer than a message can be; nothing was appended.
    pub(super) fn write(&self, begun: Begun, ends: bool, out: &mut BytesMut) -> Result<Begun, Violation> {
        let width = self.columns.len().max(1);
        let rows = self.places.len() / width;
        if rows == 0 && !ends {
            return Ok(begun);
        }
        let longest = AROUND
            + rows * (COUNT + BEFORE * width)
            + self.bytes.len()
            + self.cells.iter().map(Cells::bytes_total).sum::<usize>();
        let start = out.len();
        out.resize(start + longest + STRIDE, 0);
        let mut splice = Splice { out: out.get_mut(start..).unwrap_or_default(), at: 0 };
        let message = splice.begin_message(COPY_DATA);
        if !begun.0 {
            splice.value(SIGNATURE);
            splice.word(0);
            splice.word(0);
        }
        // A table has at most 1,600 columns.
        let count = i16::try_from(self.columns.len()).unwrap_or(i16::MAX).to_be_bytes();
        let mut next = vec![0; self.cells.len()];
        for row in self.places.chunks_exact(width) {
            splice.value(&count);
            for (((column, place), cells), next) in
                self.columns.iter().zip(row).zip(self.cells).zip(&mut next)
            {
                self.field(column, place.as_ref(), cells, next, &mut splice);
            }
        }
        if ends {
            splice.value(&(-1_i16).to_be_bytes());
        }
        let ended = splice.end_message(message);
        let end = start + splice.at;
        out.truncate(if ended.is_ok() { end } else { start });
        ended.map(|()| Begun(true))
    }

    fn field(
        &self,
        column: &CopyColumn,
        place: Option<&Place>,
        cells: &Cells,
        next: &mut usize,
        splice: &mut Splice<'_>,
    ) {
        let Some(Place { said, .. }) = place else { return splice.word(-1) };
        let length = |bytes: usize| i32::try_from(bytes).unwrap_or(i32::MAX);
        match column.recode {
            Some(Recode::Same) => {
                splice.word(length(said.len()));
                splice.copy(self.bytes, *said);
            }
            Some(Recode::Behind(byte)) => {
                splice.word(length(said.len() + 1));
                splice.value(&[byte]);
                splice.copy(self.bytes, *said);
            }
            Some(Recode::Value(_)) | None => {
                let value = cells.get(*next);
                *next += 1;
                splice.word(length(value.len()));
                splice.value(value);
            }
        }
    }
}

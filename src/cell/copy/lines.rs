//! COPY … TO of rows that come as a query's: cells in binary, all else in text, spelled here as COPY spells them.
//!
//! PostgreSQL spells a cell of a COPY as two hex digits a byte, behind a backslash that is escaped; from a query it comes as it
//! lies. So an ordinary COPY TO is asked for as the query that it copies. Each row becomes one message, as PostgreSQL
//! sends it. Source: `CopyOneRowTo`, `SendCopyBegin` and `DoCopyTo` (`copyto.c`). Deliberately absent: binary, and options
//! whose combinations the server judges.

use super::fields;
use crate::cell::open::{CellFault, Released, RowOpener};
use crate::cell::rows::{self, STRIDE, Splice, Walk};
use crate::crypto::{Cells, Span};
use crate::plan::{CopyOptions, CopyRows};
use crate::value::Style;
use crate::wire::backend::{self, COPY_DATA};
use crate::wire::{Messages, Violation};
use bytes::BytesMut;
use zeroize::Zeroizing;

/// Spells rows as the lines of one COPY.
pub struct CopyLines {
    options: CopyOptions,
    columns: usize,
    /// Where a value is escaped.
    spelled: Zeroizing<Vec<u8>>,
}

impl CopyLines {
    pub fn new(rows: &CopyRows) -> CopyLines {
        let CopyRows { options, columns, .. } = rows;
        CopyLines { options: options.clone(), columns: columns.len(), spelled: Zeroizing::default() }
    }

    /// What comes before the rows: CopyOutResponse, and the line with the columns' names where one was asked for.
    pub fn begin<'n>(&self, names: impl Iterator<Item = &'n str>, out: &mut BytesMut) {
        out.extend_from_slice(backend::encode_copy_out(self.columns).bytes());
        if !self.options.header() {
            return;
        }
        let mut line = Vec::new();
        for (name, index) in names.zip(0..) {
            if index > 0 {
                line.push(self.options.delimiter());
            }
            fields::encode(&self.options, name.as_bytes(), self.columns == 1, false, &mut line);
        }
        line.push(b'\n');
        out.extend_from_slice(backend::encode_copy_data(&line).bytes());
    }

    /// As [`RowOpener::rows_in`], each row as a line in a message of its own.
    ///
    /// # Errors
    /// The first cell that does not open; nothing of this batch is in `out`.
    pub fn rows_in(
        &mut self,
        opener: &mut RowOpener,
        rows: &Messages,
        style: &Style,
        disclosing_max: Option<u64>,
        out: &mut BytesMut,
    ) -> Result<Released, CellFault> {
        opener.rows_as(rows.bytes(), style, disclosing_max, |opener, taken, next, shown| {
            let start = out.len();
            let longer: usize = shown.iter().map(Cells::bytes_total).sum();
            // A row has seven bytes and four for each column beside its values: more than a line's message, delimiters,
            // quotes and NULLs take, when all is doubled. Each byte of a value may be escaped.
            out.resize(start + 2 * (taken.len() + longer) + STRIDE, 0);
            let splice = Splice { out: out.get_mut(start..).unwrap_or_default(), at: 0 };
            let CopyLines { options, columns, spelled } = self;
            let mut lines = Lines { options, columns: *columns, opener, next, shown, spelled, splice };
            let result = lines.write(taken);
            let end = if result.is_ok() { start + lines.splice.at } else { start };
            out.truncate(end);
            result
        })
    }
}

/// Lines as they are written.
struct Lines<'s> {
    options: &'s CopyOptions,
    columns: usize,
    opener: &'s RowOpener,
    next: &'s mut [usize],
    shown: &'s [Cells],
    spelled: &'s mut Zeroizing<Vec<u8>>,
    splice: Splice<'s>,
}

impl Lines<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), Violation> {
        let opened: Vec<Option<usize>> = (0..self.columns).map(|index| self.opener.opens(index)).collect();
        let mut at = 0;
        while at < bytes.len() {
            let row = rows::message(bytes, at)?;
            at = row.end;
            let mut walk = Walk::new(bytes, row, self.columns)?;
            let message = self.splice.begin_message(COPY_DATA);
            for (index, opened) in opened.iter().enumerate() {
                if index > 0 {
                    self.splice.value(&[self.options.delimiter()]);
                }
                let span = walk.next()?;
                let shown = match opened {
                    Some(column) if span.is_some() => self.opener.take(*column, self.next, self.shown),
                    Some(_) => None,
                    None => {
                        self.value(span.map(|span| (bytes, span)));
                        continue;
                    }
                };
                self.value(shown.map(|value| (value, Span { start: 0, end: value.len() })));
            }
            self.splice.value(b"\n");
            self.splice.end_message(message)?;
        }
        Ok(())
    }

    fn value(&mut self, value: Option<(&[u8], Span)>) {
        let Some((bytes, span)) = value else {
            self.splice.value(self.options.null());
            return;
        };
        let value = bytes.get(span.start..span.end).unwrap_or_default();
        let single = self.columns == 1;
        let quoted = fields::is_quoted_whole(self.options, value, single, false);
        if !quoted && fields::is_plain(self.options, value) {
            self.splice.copy(bytes, span);
            return;
        }
        fields::splice(self.options, value, (single, false), self.spelled, &mut self.splice);
    }
}

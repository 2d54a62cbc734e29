//! COPY … TO: sealed cells are opened and shown in their place in the row, and rows are counted to the row.
//!
//! Each message of the server becomes one message to the client, so that what PostgreSQL keeps together (a row to a
//! message; a header with the first row of binary) stays together.

use super::stream::{Kind, Piece, Stream};
use super::{BadCopy, fields};
use crate::cell::open::{CellFault, FaultCause, RowOpener, Shown, Tally};
use crate::crypto::Ciphers;
use crate::plan::{ColumnSlot, CopyFormat, CopyRows, Judgement};
use crate::value::Style;
use crate::wire::backend::COPY_DATA;
use crate::wire::{Frame, Violation};
use bytes::{BufMut, BytesMut};
use std::ops::Range;

/// The longest row that the server can send: one message.
const ROW_BYTES_MAX: usize = 0x4000_0000;

/// Fields, where the arena has what each says, and the arena.
type Split = (Vec<fields::Field>, Vec<Range<usize>>, Vec<u8>);

/// How far a batch went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CopyReleased {
    /// Rows that were written; fewer than were read when the limit was reached.
    pub rows: usize,
    pub tally: Tally,
}

/// Opens the rows of one COPY.
pub struct CopyOpener {
    rows: CopyRows,
    opener: RowOpener,
    stream: Stream,
    /// What the last read brought: pieces, and after how many of them each message ends.
    pieces: Vec<Piece>,
    messages: Vec<usize>,
    /// Every row shows something, cells or not: columns stored in clear are among it.
    every_row: bool,
}

impl CopyOpener {
    /// `columns` are the plan's, `None` when none is opened; `every_row` counts rows that show no opened cell.
    pub fn new(
        rows: &CopyRows,
        columns: Option<&[ColumnSlot]>,
        judgement: &Judgement,
        ciphers: &Ciphers,
        every_row: bool,
    ) -> CopyOpener {
        let none = vec![ColumnSlot::Pass; rows.columns.len()];
        let formats: &[i16] = if rows.options.format() == CopyFormat::Binary { &[1] } else { &[0] };
        let opener = RowOpener::new(columns.unwrap_or(&none), judgement, formats, ciphers);
        // A row `\.` of CSV is quoted by every server.
        let stream = Stream::new(&rows.options, false, ROW_BYTES_MAX);
        CopyOpener { rows: rows.clone(), opener, stream, pieces: vec![], messages: vec![], every_row }
    }

    /// Takes the data of messages; gives how many rows are whole now.
    ///
    /// # Errors
    /// The data is not what the statement asked for.
    pub fn read(&mut self, frames: &[Frame]) -> Result<usize, CellFault> {
        self.stream.forget();
        self.pieces.clear();
        self.messages.clear();
        for frame in frames {
            self.stream.push(frame.body());
            while let Some(piece) = self.stream.next(false).map_err(unreadable)? {
                self.pieces.push(piece);
            }
            self.messages.push(self.pieces.len());
        }
        Ok(self.pieces.iter().filter(|piece| piece.kind == Kind::Row).count())
    }

    /// As many rows as these messages could disclose, of which [`CopyOpener::read`] counts `rows`.
    pub fn rows_at_most(&self, rows: usize, frames: &[Frame]) -> u64 {
        self.opener.rows_at_most(frames).max(u64::try_from(rows).unwrap_or(u64::MAX))
    }

    /// Whether the server ended the copy within a row.
    pub fn is_waiting(&self) -> bool {
        self.stream.is_waiting()
    }

    /// The fields of all rows, and for each where the arena says what it says: of sealed cells only.
    fn fields(&self) -> Result<Split, CellFault> {
        let (bytes, options) = (self.stream.bytes(), &self.rows.options);
        let mut all = vec![];
        let mut arena: Vec<u8> = vec![];
        let mut said = vec![];
        for piece in self.pieces.iter().filter(|piece| piece.kind == Kind::Row) {
            let body = bytes.get(piece.body.clone()).unwrap_or_default();
            let before = all.len();
            fields::split(options, body, &mut all).map_err(unreadable)?;
            if all.len() - before != self.opener.width() {
                return Err(row_fault("the row has another number of columns than its description"));
            }
            for (index, field) in all.iter().skip(before).enumerate() {
                let from = arena.len();
                if self.opener.opens(index) && !field.null {
                    fields::decode(options, body.get(field.raw.clone()).unwrap_or_default(), &mut arena);
                }
                said.push(from..arena.len());
            }
        }
        Ok((all, said, arena))
    }

    /// Writes what was read to `out`, as messages, with at most `disclosing_max` rows that disclose something.
    ///
    /// # Errors
    /// The first cell that does not open; nothing of this batch is in `out`.
    pub fn release(
        &mut self,
        style: &Style,
        disclosing_max: Option<u64>,
        out: &mut BytesMut,
    ) -> Result<CopyReleased, CellFault> {
        let start = out.len();
        let (bytes, options) = (self.stream.bytes(), &self.rows.options);
        let (all, said, arena) = self.fields()?;
        let rows = self.pieces.iter().filter(|piece| piece.kind == Kind::Row);
        let width = self.opener.width();
        let mut counts = vec![];
        let mut released = CopyReleased { rows: 0, tally: self.opener.tally() };
        let mut cells: Vec<Option<&[u8]>> = Vec::with_capacity(all.len());
        let fields = all.chunks(width.max(1)).zip(said.chunks(width.max(1)));
        for (piece, (fields, said)) in rows.zip(fields) {
            let body = bytes.get(piece.body.clone()).unwrap_or_default();
            let before = cells.len();
            for (index, (field, said)) in fields.iter().zip(said).enumerate() {
                let raw = body.get(field.raw.clone()).unwrap_or_default();
                let decoded = arena.get(said.clone()).unwrap_or_default();
                let text = options.format() != CopyFormat::Binary;
                cells.push(match self.opener.opens(index) {
                    true => (!field.null).then_some(decoded),
                    // As it is spelled: NULL, too.
                    false if text => Some(raw),
                    false => (!field.null).then_some(raw),
                });
            }
            let spent = self.every_row && disclosing_max.is_some_and(|max| released.tally.rows >= max);
            let row = cells.get(before..).unwrap_or_default();
            if spent || !self.opener.admit(row, disclosing_max, &mut counts, &mut released.tally)? {
                cells.truncate(before);
                break;
            }
            released.tally.rows += u64::from(self.every_row);
            released.rows += 1;
        }
        let mut tally = std::mem::take(&mut released.tally);
        let (rows, pieces, messages) = (&self.rows, &self.pieces, &self.messages);
        let written = self.opener.opened(&cells, style, &mut tally, |opener, shown| {
            let mut bodies: Vec<Vec<u8>> = Vec::with_capacity(released.rows);
            opener.each(&cells, shown, |row| {
                bodies.push(spelled(rows, row));
                Ok::<_, Violation>(())
            })?;
            write(bytes, pieces, messages, &bodies, out)
        });
        if let Err(fault) = written {
            out.truncate(start);
            return Err(fault);
        }
        released.tally = tally;
        Ok(released)
    }
}

/// One row without its line's end.
fn spelled(rows: &CopyRows, row: &mut dyn Iterator<Item = Shown<'_>>) -> Vec<u8> {
    let options = &rows.options;
    let binary = options.format() == CopyFormat::Binary;
    let single = rows.columns.len() == 1;
    let mut body = vec![];
    if binary {
        let count = i16::try_from(rows.columns.len()).unwrap_or(i16::MAX);
        body.extend_from_slice(&count.to_be_bytes());
    }
    for (index, (cell, column)) in row.zip(&rows.columns).enumerate() {
        if index > 0 && !binary {
            body.push(options.delimiter());
        }
        match cell {
            Shown::AsItIs(Some(raw)) if !binary => body.extend_from_slice(raw),
            Shown::AsItIs(Some(raw)) => fields::encode(options, raw, single, false, &mut body),
            Shown::Opened(value) => fields::encode(options, value, single, column.force_quote, &mut body),
            Shown::AsItIs(None) | Shown::Null => fields::encode_null(options, &mut body),
        }
    }
    body
}

/// The messages, each with the pieces that it had, up to the last row there is a body for.
fn write(
    bytes: &[u8],
    pieces: &[Piece],
    messages: &[usize],
    bodies: &[Vec<u8>],
    out: &mut BytesMut,
) -> Result<(), Violation> {
    let mut bodies = bodies.iter();
    let mut from = 0;
    for end in messages {
        let start = out.len();
        out.put_u8(COPY_DATA);
        out.put_u32(0);
        let mut ended = false;
        for piece in pieces.get(from..*end).unwrap_or_default() {
            let whole = bytes.get(piece.whole.clone()).unwrap_or_default();
            match piece.kind {
                Kind::Verbatim => out.put_slice(whole),
                Kind::Row => match bodies.next() {
                    Some(body) => {
                        out.put_slice(body);
                        out.put_slice(whole.get(piece.body.len()..).unwrap_or_default());
                    }
                    None => {
                        ended = true;
                        break;
                    }
                },
            }
        }
        from = *end;
        let length = i32::try_from(out.len() - start - 1)
            .map_err(|_| Violation::new("row is longer than a message can be"))?;
        if length == 4 {
            out.truncate(start);
        } else if let Some(field) = out.get_mut(start + 1..start + 5) {
            field.copy_from_slice(&length.to_be_bytes());
        }
        if ended {
            return Ok(());
        }
    }
    Ok(())
}

fn row_fault(why: &str) -> CellFault {
    CellFault { column: String::new(), cause: FaultCause::Row(Violation::new(why)) }
}

fn unreadable(bad: BadCopy) -> CellFault {
    row_fault(bad.message)
}

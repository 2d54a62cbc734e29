//! COPY … TO: sealed cells are opened and shown in their place in the row, and rows are counted to the row.
//!
//! Each message of the server becomes one message to the client, so that what PostgreSQL keeps together (a row to a
//! message; a header with the first row of binary) stays together.

use super::stream::{Kind, Piece, Stream};
use super::{BadCopy, fields};
use crate::cell::open::{CellFault, FaultCause, RowOpener, Tally};
use crate::crypto::{Cells, Ciphers, Span};
use crate::plan::{ColumnSlot, CopyFormat, CopyRows, Judgement};
use crate::value::Style;
use crate::wire::backend::COPY_DATA;
use crate::wire::{Messages, Violation};
use bytes::{BufMut, BytesMut};

/// The longest row that the server can send: one message.
const ROW_BYTES_MAX: usize = 0x4000_0000;

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
    room: Room,
}

/// What one batch fills and the next one finds empty.
#[derive(Default)]
struct Room {
    /// The fields of all rows.
    fields: Vec<fields::Field>,
    /// What the fields of opened columns say, one after the other.
    said: Vec<u8>,
    /// The opened columns: place in the row, number.
    opened: Vec<(usize, usize)>,
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
        let opened =
            (0..rows.columns.len()).filter_map(|index| Some((index, opener.opens(index)?))).collect();
        let room = Room { opened, ..Room::default() };
        CopyOpener { rows: rows.clone(), opener, stream, pieces: vec![], messages: vec![], every_row, room }
    }

    /// Takes the data of messages; gives how many rows are whole now.
    ///
    /// # Errors
    /// The data is not what the statement asked for.
    pub fn read(&mut self, messages: &Messages) -> Result<usize, CellFault> {
        self.stream.forget();
        self.pieces.clear();
        self.messages.clear();
        for body in messages.bodies() {
            self.stream.push(body);
            while let Some(piece) = self.stream.next(false).map_err(unreadable)? {
                self.pieces.push(piece);
            }
            self.messages.push(self.pieces.len());
        }
        Ok(self.pieces.iter().filter(|piece| piece.kind == Kind::Row).count())
    }

    /// As many rows as messages of together `bytes` could disclose, of which [`CopyOpener::read`] counts `rows`.
    pub fn rows_at_most(&self, rows: usize, bytes: usize) -> u64 {
        self.opener.rows_at_most_of(rows, bytes)
    }

    /// Whether the server ended the copy within a row.
    pub fn is_waiting(&self) -> bool {
        self.stream.is_waiting()
    }

    /// Reads a row's fields, and what those of opened columns say.
    fn split(&mut self, piece: &Piece) -> Result<(), CellFault> {
        let (options, Room { fields: all, said, opened }) = (&self.rows.options, &mut self.room);
        let body = self.stream.bytes().get(piece.body.clone()).unwrap_or_default();
        let before = all.len();
        fields::split(options, body, all).map_err(unreadable)?;
        if all.len() - before != self.opener.width() {
            return Err(row_fault("the row has another number of columns than its description"));
        }
        for (index, column) in opened {
            let Some(field) = all.get(before + *index).filter(|field| !field.null) else { continue };
            let start = said.len();
            fields::decode(options, body.get(field.raw.clone()).unwrap_or_default(), said);
            self.opener.cell(*column, Span { start, end: said.len() });
        }
        Ok(())
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
        self.opener.begin();
        self.room.fields.clear();
        self.room.said.clear();
        let mut released = CopyReleased { rows: 0, tally: self.opener.tally() };
        let pieces = std::mem::take(&mut self.pieces);
        let result = self.admitted(&pieces, disclosing_max, &mut released).and_then(|()| {
            let start = out.len();
            let CopyOpener { rows, opener, stream, messages, room, .. } = self;
            let CopyReleased { rows: count, tally } = &mut released;
            let written = opener.opened(&room.said, style, tally, |opener, next, shown| {
                let fields = room.fields.chunks(opener.width().max(1)).take(*count);
                let mut spelling = Spelling { rows, opener, opened: &room.opened, fields, next, shown };
                spelling.write(stream.bytes(), &pieces, messages, out)
            });
            if written.is_err() {
                out.truncate(start);
            }
            written
        });
        self.pieces = pieces;
        result.map(|()| released)
    }

    /// Splits rows and counts them, as many as may leave.
    fn admitted(
        &mut self,
        pieces: &[Piece],
        disclosing_max: Option<u64>,
        released: &mut CopyReleased,
    ) -> Result<(), CellFault> {
        for piece in pieces.iter().filter(|piece| piece.kind == Kind::Row) {
            let spent = self.every_row && disclosing_max.is_some_and(|max| released.tally.rows >= max);
            if spent {
                break;
            }
            self.split(piece)?;
            if !self.opener.admit(&self.room.said, disclosing_max, &mut released.tally)? {
                break;
            }
            released.tally.rows += u64::from(self.every_row);
            released.rows += 1;
        }
        Ok(())
    }
}

/// Rows as they are written: with what is shown in place of the cells, and all else as it was spelled.
struct Spelling<'s, F> {
    rows: &'s CopyRows,
    opener: &'s RowOpener,
    opened: &'s [(usize, usize)],
    /// The fields of each row that may leave.
    fields: F,
    next: &'s mut [usize],
    shown: &'s [Cells],
}

impl<'s, F: Iterator<Item = &'s [fields::Field]>> Spelling<'s, F> {
    /// The messages, each with the pieces that it had, up to the last row that may leave.
    fn write(
        &mut self,
        bytes: &[u8],
        pieces: &[Piece],
        messages: &[usize],
        out: &mut BytesMut,
    ) -> Result<(), Violation> {
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
                    Kind::Row => match self.fields.next() {
                        Some(fields) => self.row(whole, fields, out),
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
                break;
            }
        }
        Ok(())
    }

    /// One row, and what ends it.
    fn row(&mut self, whole: &[u8], fields: &[fields::Field], out: &mut BytesMut) {
        let options = &self.rows.options;
        let single = self.rows.columns.len() == 1;
        // Of binary, the length before a value goes with it.
        let before = if options.format() == CopyFormat::Binary { 4 } else { 0 };
        let mut from = 0;
        for (index, column) in self.opened {
            let Some(field) = fields.get(*index).filter(|field| !field.null) else { continue };
            out.put_slice(whole.get(from..field.raw.start - before).unwrap_or_default());
            from = field.raw.end;
            match self.opener.take(*column, self.next, self.shown) {
                None => fields::encode_null(options, out),
                Some(value) => {
                    let forced = self.rows.columns.get(*index).is_some_and(|column| column.force_quote);
                    fields::encode(options, value, single, forced, out);
                }
            }
        }
        out.put_slice(whole.get(from..).unwrap_or_default());
    }
}

fn row_fault(why: &str) -> CellFault {
    CellFault { column: String::new(), cause: FaultCause::Row(Violation::new(why)) }
}

fn unreadable(bad: BadCopy) -> CellFault {
    row_fault(bad.message)
}

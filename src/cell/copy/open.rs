//! COPY … TO: sealed cells are opened and shown in their place in the row, and rows are counted to the row.
//!
//! Each message of the server becomes one message to the client, so that what PostgreSQL keeps together (a row to a
//! message; a header with the first row of binary) stays together.

use super::stream::{Kind, Piece, Stream};
use super::{BadCopy, fields};
use crate::cell::formats::Formats;
use crate::cell::open::{CellFault, FaultCause, RowOpener, Tally};
use crate::cell::person::PersonFinder;
use crate::cell::rows::{STRIDE, Splice};
use crate::crypto::{Cells, Ciphers, Span};
use crate::plan::{ColumnSlot, CopyFormat, CopyRows, Judgement};
use crate::value::Style;
use crate::wire::backend::COPY_DATA;
use crate::wire::{Messages, Violation};
use bytes::BytesMut;
use std::ops::Range;
use zeroize::{Zeroize, Zeroizing};

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
    opened: Vec<Opened>,
    room: Room,
}

/// The format of every value of the rows.
pub fn formats(rows: &CopyRows) -> Formats {
    Formats::same(if rows.options.format() == CopyFormat::Binary { &[1] } else { &[0] })
}

/// An opened column.
struct Opened {
    /// Its place in the row.
    index: usize,
    /// Its number among the opener's.
    column: usize,
    force_quote: bool,
    /// No value of this batch holds a byte that must be escaped or quoted.
    plain: bool,
    /// Where its cell stands in the row that is being read.
    said: Option<Span>,
}

/// What one batch fills and the next one finds empty.
#[derive(Default)]
struct Room {
    /// The fields of all rows.
    fields: Vec<fields::Field>,
    /// A value with its escapes.
    spelled: Zeroizing<Vec<u8>>,
    /// What the finder of persons looks at: values of a row, and where each stands.
    values: Zeroizing<Vec<u8>>,
    spans: Vec<Option<Span>>,
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
        let mut opener = RowOpener::new(columns.unwrap_or(&none), judgement, &formats(rows), ciphers);
        opener.count_every_row(every_row);
        // A row `\.` of CSV is quoted by every server.
        let stream = Stream::new(&rows.options, false, ROW_BYTES_MAX);
        let opened = rows.columns.iter().enumerate().filter_map(|(index, column)| {
            let (number, force_quote) = (opener.opens(index)?, column.force_quote);
            Some(Opened { index, column: number, force_quote, plain: false, said: None })
        });
        CopyOpener {
            opened: opened.collect(),
            rows: rows.clone(),
            opener,
            stream,
            pieces: vec![],
            messages: vec![],
            room: Room::default(),
        }
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

    /// Finds a row's fields, and has those of opened columns say what they say.
    fn split(&mut self, piece: &Piece) -> Result<(), CellFault> {
        let (options, all, start) = (&self.rows.options, &mut self.room.fields, piece.body.start);
        let body = self.stream.bytes_mut().get_mut(piece.body.clone()).unwrap_or_default();
        let before = all.len();
        fields::split(options, body, all).map_err(unreadable)?;
        if all.len() - before != self.opener.width() {
            return Err(row_fault("the row has another number of columns than its description"));
        }
        for opened in &mut self.opened {
            opened.said = None;
            let Some(field) = all.get(before + opened.index).filter(|field| !field.null) else { continue };
            let said = fields::decode_in_place(options, body, field.raw.clone());
            let said = Span { start: start + said.start, end: start + said.end };
            self.opener.cell(opened.column, said);
            opened.said = Some(said);
        }
        Ok(())
    }

    /// Has `finder` look at the row that was split last.
    fn find(&mut self, piece: &Piece, finder: &mut PersonFinder, style: &Style) {
        let Room { fields, values, spans, .. } = &mut self.room;
        let row = fields.get(fields.len().saturating_sub(self.opener.width())..).unwrap_or_default();
        let bytes = self.stream.bytes();
        values.as_mut_slice().zeroize();
        values.clear();
        spans.clear();
        for output in finder.needed() {
            let field = row.get(*output).filter(|field| !field.null);
            let span = field.map(|field| {
                let start = values.len();
                match self.opened.iter().find(|opened| opened.index == *output).and_then(|opened| opened.said)
                {
                    Some(said) => {
                        values.extend_from_slice(bytes.get(said.start..said.end).unwrap_or_default())
                    }
                    None => {
                        let raw = piece.body.start + field.raw.start..piece.body.start + field.raw.end;
                        fields::decode(&self.rows.options, bytes.get(raw).unwrap_or_default(), values);
                    }
                }
                Span { start, end: values.len() }
            });
            spans.push(span);
        }
        finder.row(values, spans, style);
    }

    /// Writes what was read to `out`, as messages, with at most `disclosing_max` rows that disclose something. `finder` looks
    /// at these.
    ///
    /// # Errors
    /// The first cell that does not open; nothing of this batch is in `out`.
    pub fn release(
        &mut self,
        style: &Style,
        disclosing_max: Option<u64>,
        finder: Option<&mut PersonFinder>,
        out: &mut BytesMut,
    ) -> Result<CopyReleased, CellFault> {
        self.opener.begin();
        self.room.fields.clear();
        let mut released = CopyReleased { rows: 0, tally: self.opener.tally() };
        let pieces = std::mem::take(&mut self.pieces);
        let result = self.admitted(&pieces, disclosing_max, (finder, style), &mut released).and_then(|()| {
            let start = out.len();
            let CopyOpener { rows, opener, opened, stream, messages, room, .. } = self;
            let CopyReleased { rows: count, tally } = &mut released;
            let bytes = stream.bytes();
            let written = opener.opened(bytes, style, tally, |opener, next, shown| {
                for opened in &mut *opened {
                    opened.plain = fields::is_plain(&rows.options, shown[opened.column].all_bytes());
                }
                let longest = longest(rows, opened, shown, *count);
                out.resize(start + bytes.len() + MESSAGE_HEAD * messages.len() + longest + STRIDE, 0);
                let splice = Splice { out: out.get_mut(start..).unwrap_or_default(), at: 0 };
                let fields = room.fields.chunks(opener.width().max(1)).take(*count);
                let spelled = &mut room.spelled;
                let mut spelling = Spelling { rows, opener, opened, fields, next, shown, spelled, splice };
                spelling.write(bytes, &pieces, messages)?;
                let end = start + spelling.splice.at;
                out.truncate(end);
                Ok(())
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
        (mut finder, style): (Option<&mut PersonFinder>, &Style),
        released: &mut CopyReleased,
    ) -> Result<(), CellFault> {
        for piece in pieces.iter().filter(|piece| piece.kind == Kind::Row) {
            self.split(piece)?;
            if !self.opener.admit(self.stream.bytes(), disclosing_max, &mut released.tally)? {
                break;
            }
            if let Some(finder) = &mut finder {
                self.find(piece, finder, style);
            }
            released.rows += 1;
        }
        Ok(())
    }
}

/// Tag and length of a message.
const MESSAGE_HEAD: usize = 5;

/// Bytes that the values of so many rows take at most, as they are spelled.
fn longest(rows: &CopyRows, opened: &[Opened], shown: &[Cells], count: usize) -> usize {
    let null = rows.options.null().len().max(4);
    let column = |opened: &Opened| {
        let bytes = shown[opened.column].bytes_total();
        // An escape before each byte, quotes around or a length before, or NULL.
        let escaped = if opened.plain && !opened.force_quote { bytes } else { 2 * bytes };
        escaped + count * (4 + null)
    };
    opened.iter().map(column).sum()
}

/// Rows as they are written: with what is shown in place of the cells, and all else as it was spelled.
struct Spelling<'s, F> {
    rows: &'s CopyRows,
    opener: &'s RowOpener,
    opened: &'s [Opened],
    /// The fields of each row that may leave.
    fields: F,
    next: &'s mut [usize],
    shown: &'s [Cells],
    /// Where values are escaped.
    spelled: &'s mut Zeroizing<Vec<u8>>,
    splice: Splice<'s>,
}

impl<'s, F: Iterator<Item = &'s [fields::Field]>> Spelling<'s, F> {
    /// The messages, each with the pieces that it had, up to the last row that may leave.
    fn write(&mut self, bytes: &[u8], pieces: &[Piece], messages: &[usize]) -> Result<(), Violation> {
        let mut from = 0;
        for end in messages {
            let message = self.splice.begin_message(COPY_DATA);
            let mut ended = false;
            for piece in pieces.get(from..*end).unwrap_or_default() {
                match piece.kind {
                    Kind::Verbatim => self.splice.copy(bytes, span(&piece.whole)),
                    Kind::Row => match self.fields.next() {
                        Some(fields) => self.row(bytes, piece, fields),
                        None => {
                            ended = true;
                            break;
                        }
                    },
                }
            }
            from = *end;
            self.splice.end_message(message)?;
            if ended {
                break;
            }
        }
        Ok(())
    }

    /// One row, and what ends it.
    fn row(&mut self, bytes: &[u8], piece: &Piece, fields: &[fields::Field]) {
        // Of binary, the length before a value goes with it.
        let before = if self.rows.options.format() == CopyFormat::Binary { 4 } else { 0 };
        let mut from = piece.whole.start;
        for opened in self.opened {
            let Some(field) = fields.get(opened.index).filter(|field| !field.null) else { continue };
            let end = piece.body.start + field.raw.start - before;
            self.splice.copy(bytes, Span { start: from, end });
            from = piece.body.start + field.raw.end;
            self.value(opened);
        }
        self.splice.copy(bytes, Span { start: from, end: piece.whole.end });
    }

    /// The next value of an opened column.
    fn value(&mut self, opened: &Opened) {
        let options = &self.rows.options;
        let single = self.rows.columns.len() == 1;
        let Some(value) = self.opener.take(opened.column, self.next, self.shown) else {
            match options.format() {
                CopyFormat::Binary => self.splice.word(-1),
                CopyFormat::Text | CopyFormat::Csv => self.splice.value(options.null()),
            }
            return;
        };
        let as_it_is = match options.format() {
            CopyFormat::Binary => {
                // A row above i32::MAX does not fit its message, which is refused there.
                self.splice.word(i32::try_from(value.len()).unwrap_or(i32::MAX));
                true
            }
            CopyFormat::Text => opened.plain,
            CopyFormat::Csv => {
                opened.plain && !fields::is_quoted_whole(options, value, single, opened.force_quote)
            }
        };
        if as_it_is {
            self.splice.value(value);
            return;
        }
        fields::splice(options, value, (single, opened.force_quote), self.spelled, &mut self.splice);
    }
}

fn span(range: &Range<usize>) -> Span {
    Span { start: range.start, end: range.end }
}

fn row_fault(why: &str) -> CellFault {
    CellFault { column: String::new(), cause: FaultCause::Row(Violation::new(why)) }
}

fn unreadable(bad: BadCopy) -> CellFault {
    row_fault(bad.message)
}

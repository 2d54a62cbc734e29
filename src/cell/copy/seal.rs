//! COPY … FROM: the values of sealed columns are read, sealed, and take their own place in the row.
//!
//! What stands between them is copied as it came, across columns and rows.

use super::stream::{Kind, Stream};
use super::{BadCopy, fields};
use crate::cell::rows::{STRIDE, Splice};
use crate::cell::seal::Sealer;
use crate::crypto::{Cells, Ciphers, Random, Span};
use crate::plan::{CopyColumn, CopyFormat, CopyOptions, CopyRows, Reason, Refusal};
use crate::value::{Format, Style};
use crate::wire::frontend::COPY_DATA;
use bytes::BytesMut;
use std::ops::Range;
use std::sync::Arc;
use zeroize::Zeroizing;

/// Seals the rows of one COPY.
pub struct CopySealer {
    rows: CopyRows,
    /// The columns that are sealed: places in the row.
    sealed: Vec<usize>,
    spelling: Spelling,
    ciphers: Arc<Ciphers>,
    stream: Stream,
    room: Room,
}

/// What one batch fills and the next one finds empty.
#[derive(Default)]
struct Room {
    rows: Vec<Row>,
    /// Of each row, for each sealed column, what is sealed.
    places: Vec<Option<Place>>,
    /// The fields of one row.
    fields: Vec<fields::Field>,
    plain: Cells,
    /// Of each sealed column, the cells of all rows that have one.
    cells: Vec<Cells>,
}

struct Row {
    whole: Range<usize>,
    line: u64,
}

/// A field that is sealed: where it is spelled, and where its value stands.
#[derive(Clone, Copy)]
struct Place {
    spelled: Span,
    said: Span,
}

/// Why the batch ends early: the first row that is wrong, and what the client reads.
struct Wrong {
    row: usize,
    refusal: Refusal,
}

impl CopySealer {
    /// As [`Stream::new`]; `ciphers` are those of the statement's world.
    pub fn new(rows: &CopyRows, ciphers: Arc<Ciphers>, csv_marker: bool, row_bytes_max: usize) -> CopySealer {
        let columns = rows.columns.iter().enumerate();
        let sealed: Vec<_> = columns.filter(|(_, column)| column.seal.is_some()).map(|(at, _)| at).collect();
        let cells = sealed.iter().map(|_| Cells::new()).collect();
        CopySealer {
            rows: rows.clone(),
            sealed,
            spelling: Spelling::of(&rows.options),
            ciphers,
            stream: Stream::new(&rows.options, csv_marker, row_bytes_max),
            room: Room { cells, ..Room::default() },
        }
    }

    /// Takes what a message of the client brought.
    pub fn read(&mut self, bytes: &[u8]) {
        self.stream.push(bytes);
    }

    /// Appends the rows that are whole now to `out`, sealed, as one message. `last`: the client has ended the copy. Gives
    /// (label, cells) that were sealed.
    ///
    /// # Errors
    /// The first row that cannot be sealed, with PostgreSQL's SQLSTATE; those before it are in `out`.
    pub fn seal(
        &mut self,
        last: bool,
        style: &Style,
        random: &mut dyn Random,
        out: &mut BytesMut,
    ) -> (Vec<(String, u64)>, Result<(), Refusal>) {
        let mut wrong = self.find_rows(last);
        let ciphers = self.ciphers.clone();
        let mut sealer = Sealer::new(&ciphers, style, random);
        sealer.plain = std::mem::take(&mut self.room.plain);
        self.seal_columns(&mut sealer, &mut wrong);
        let sealed = std::mem::take(&mut sealer.sealed);
        self.room.plain = std::mem::take(&mut sealer.plain);
        self.room.plain.clear();
        let good = wrong.as_ref().map_or(self.room.rows.len(), |wrong| wrong.row);
        let written = self.write(good, out);
        self.room.cells.iter_mut().for_each(Cells::clear);
        self.stream.forget();
        (sealed, written.and(wrong.map_or(Ok(()), |wrong| Err(wrong.refusal))))
    }

    /// Finds the rows that are whole, and what is sealed of them, up to the first that cannot be a row of this copy.
    fn find_rows(&mut self, last: bool) -> Option<Wrong> {
        self.room.rows.clear();
        self.room.places.clear();
        loop {
            let row = self.room.rows.len();
            let piece = match self.stream.next(last) {
                Ok(Some(piece)) => piece,
                Ok(None) => return None,
                Err(bad) => return Some(Wrong { row, refusal: bad_copy(bad, 0) }),
            };
            let found = match piece.kind {
                Kind::Row => self.find_places(piece.body, piece.line),
                Kind::Verbatim => Ok(()),
            };
            if let Err(refusal) = found {
                return Some(Wrong { row, refusal });
            }
            self.room.rows.push(Row { whole: piece.whole, line: piece.line });
            self.room.places.resize(self.room.rows.len() * self.sealed.len(), None);
        }
    }

    /// What is sealed of one row. What has fewer fields than the statement has columns goes to the server, which finds
    /// what is wrong with the others first.
    fn find_places(&mut self, body: Range<usize>, line: u64) -> Result<(), Refusal> {
        let (options, width) = (&self.rows.options, self.rows.columns.len());
        let Room { places, fields, .. } = &mut self.room;
        let start = body.start;
        let row = self.stream.bytes_mut().get_mut(body).unwrap_or_default();
        fields.clear();
        fields::split(options, row, fields).map_err(|bad| bad_copy(bad, line))?;
        let count = fields.len();
        let message = match options.format() {
            CopyFormat::Binary if count != width => {
                Some(format!("row field count is {count}, expected {width}"))
            }
            CopyFormat::Text | CopyFormat::Csv if count > width => {
                Some("extra data after last expected column".to_owned())
            }
            _ => None,
        };
        if let Some(message) = message {
            let refusal = Refusal::new(Reason::Value, "22P04", message);
            return Err(refusal.detail(format!("Line {line}.")));
        }
        let span = |range: &Range<usize>| Span { start: start + range.start, end: start + range.end };
        for index in &self.sealed {
            let (Some(field), Some(column)) = (fields.get(*index), self.rows.columns.get(*index)) else {
                break;
            };
            let raw = row.get(field.raw.clone()).unwrap_or_default();
            if is_kept(options, column, field, raw) {
                places.push(None);
                continue;
            }
            let said = fields::decode_in_place(options, row, field.raw.clone());
            places.push(Some(Place { spelled: span(&field.raw), said: span(&said) }));
        }
        Ok(())
    }

    /// Column by column: the cells of every row that has one. A wrong value ends the batch before its row; of one row the
    /// leftmost counts.
    fn seal_columns(&mut self, sealer: &mut Sealer<'_>, wrong: &mut Option<Wrong>) {
        let binary = self.rows.options.format() == CopyFormat::Binary;
        let format = if binary { Format::Binary } else { Format::Text };
        let Room { rows, places, cells, .. } = &mut self.room;
        for (nth, (index, cells)) in self.sealed.iter().zip(cells).enumerate() {
            let column = self.rows.columns.get(*index);
            let Some(recipe) = column.and_then(|column| column.seal.as_ref()) else { continue };
            let end = wrong.as_ref().map_or(rows.len(), |wrong| wrong.row);
            let places = places.iter().skip(nth).step_by(self.sealed.len());
            for (at, (row, place)) in rows.iter().zip(places).take(end).enumerate() {
                let Some(Place { said, .. }) = place else { continue };
                let value = self.stream.bytes().get(said.start..said.end).unwrap_or_default();
                if let Err(refusal) = sealer.read(recipe, Some(&recipe.data_type), format, value) {
                    let whole = sealer.plain.len().saturating_sub(1);
                    sealer.plain.truncate(whole);
                    let detail = format!("Line {}, column {}.", row.line, recipe.column_name);
                    *wrong = Some(Wrong { row: at, refusal: refusal.detail(detail) });
                    break;
                }
            }
            if let Err(refusal) = sealer.seal(recipe) {
                *wrong = Some(Wrong { row: 0, refusal });
                return;
            }
            std::mem::swap(&mut sealer.cells, cells);
        }
    }

    /// The first `good` rows as they go to the server.
    fn write(&self, good: usize, out: &mut BytesMut) -> Result<(), Refusal> {
        let Room { rows, places, cells, .. } = &self.room;
        let rows = rows.get(..good).unwrap_or_default();
        let (Some(first), Some(last)) = (rows.first(), rows.last()) else { return Ok(()) };
        let (mut from, end) = (first.whole.start, last.whole.end);
        let (bytes, start) = (self.stream.bytes(), out.len());
        let longer: usize = cells.iter().map(|cells| self.spelling.longest(cells)).sum();
        out.resize(start + MESSAGE_HEAD + (end - from) + longer + STRIDE, 0);
        let mut splice = Splice { out: out.get_mut(start..).unwrap_or_default(), at: 0 };
        let message = splice.begin_message(COPY_DATA);
        let (mut next, mut room) = (vec![0; cells.len()], vec![]);
        for places in places.chunks_exact(self.sealed.len().max(1)).take(good) {
            for ((place, cells), next) in places.iter().zip(cells).zip(&mut next) {
                let Some(Place { spelled, .. }) = place else { continue };
                splice.copy(bytes, Span { start: from, end: spelled.start - self.spelling.before() });
                from = spelled.end;
                self.spelling.write(&self.rows, cells.get(*next), &mut room, &mut splice);
                *next += 1;
            }
        }
        splice.copy(bytes, Span { start: from, end });
        let ended = splice.end_message(message);
        let end = start + splice.at;
        out.truncate(if ended.is_ok() { end } else { start });
        ended.map_err(|_| Refusal::new(Reason::Value, "54000", "row of copied data is longer than allowed"))
    }
}

/// Tag and length of a message.
const MESSAGE_HEAD: usize = 5;

/// Whether a field goes as it is: NULL (`NextCopyFrom`), or the column's default.
fn is_kept(options: &CopyOptions, column: &CopyColumn, field: &fields::Field, raw: &[u8]) -> bool {
    if field.default {
        return true;
    }
    if field.null || !column.force_null {
        return field.null && !column.force_not_null;
    }
    let mut value = Zeroizing::new(Vec::with_capacity(raw.len()));
    fields::decode(options, raw, &mut value);
    value.as_slice() == options.null()
}

/// How a cell is spelled, which the server reads as `bytea`.
#[derive(Clone, Copy)]
enum Spelling {
    Binary,
    /// This, and hex digits.
    Hex(&'static [u8]),
    /// The options give some of `\x` and hex digits a meaning of their own.
    Special,
}

impl Spelling {
    fn of(options: &CopyOptions) -> Spelling {
        let plain = fields::is_plain(options, b"x0123456789abcdef") && !options.null().starts_with(b"\\x");
        match options.format() {
            CopyFormat::Binary => Spelling::Binary,
            CopyFormat::Text if plain => Spelling::Hex(b"\\\\x"),
            CopyFormat::Csv if plain && fields::is_plain(options, b"\\") => Spelling::Hex(b"\\x"),
            CopyFormat::Text | CopyFormat::Csv => Spelling::Special,
        }
    }

    /// Bytes before a value that go with it: its length in binary.
    fn before(self) -> usize {
        if matches!(self, Spelling::Binary) { 4 } else { 0 }
    }

    /// Bytes that these cells take at most.
    fn longest(self, cells: &Cells) -> usize {
        let (bytes, count) = (cells.bytes_total(), cells.len());
        match self {
            Spelling::Binary => bytes + 4 * count,
            Spelling::Hex(before) => 2 * bytes + before.len() * count,
            // A quote around, and an escape before each.
            Spelling::Special => 4 * bytes + 6 * count,
        }
    }

    /// Writes one cell; `room` is used again.
    fn write(self, rows: &CopyRows, cell: &[u8], room: &mut Vec<u8>, splice: &mut Splice<'_>) {
        match self {
            Spelling::Binary => {
                splice.word(i32::try_from(cell.len()).unwrap_or(i32::MAX));
                splice.value(cell);
            }
            Spelling::Hex(before) => {
                splice.value(before);
                let digits = splice.take(2 * cell.len());
                faster_hex::hex_encode(cell, digits).expect("two digits a byte fit");
            }
            Spelling::Special => {
                let digits = format!("\\x{}", faster_hex::hex_string(cell));
                room.clear();
                fields::encode(&rows.options, digits.as_bytes(), rows.columns.len() == 1, false, room);
                splice.value(room);
            }
        }
    }
}

fn bad_copy(bad: BadCopy, line: u64) -> Refusal {
    let refusal = Refusal::new(Reason::Value, bad.sqlstate, bad.message);
    if line > 0 { refusal.detail(format!("Line {line}.")) } else { refusal }
}

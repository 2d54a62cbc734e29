//! COPY … FROM: the values of sealed columns are read, sealed, and take their own place in the row.
//!
//! What stands between them is copied as it came, across columns and rows; or all goes in binary (`recode`).

use super::stream::{Kind, Stream};
use super::{BadCopy, fields, recode};
use crate::catalog::ByLabel;
use crate::cell::rows::{STRIDE, Splice};
use crate::cell::seal::Sealer;
use crate::crypto::{Cells, Ciphers, Random, Span};
use crate::plan::{CopyColumn, CopyFormat, CopyOptions, CopyRows, Reason, Recipe, Recode, Refusal};
use crate::value::{DataType, Format, Style};
use crate::wire::frontend::COPY_DATA;
use bytes::BytesMut;
use std::ops::Range;
use std::sync::Arc;
use zeroize::Zeroizing;

/// Seals the rows of one COPY.
pub struct CopySealer {
    rows: CopyRows,
    /// The columns whose values are looked at: those that are sealed, or all when rows go in binary.
    read: Vec<usize>,
    spelling: Spelling,
    /// Rows go in binary.
    recoding: Option<recode::Begun>,
    /// A value was not read that is for the server to judge.
    unread: bool,
    ciphers: Arc<Ciphers>,
    stream: Stream,
    room: Room,
}

/// What one batch fills and the next one finds empty.
#[derive(Default)]
struct Room {
    rows: Vec<Row>,
    /// Of each row, for each column that is read, what is sealed or goes in binary; `None`: it goes as it is, or is NULL.
    places: Vec<Option<Place>>,
    /// The fields of one row.
    fields: Vec<fields::Field>,
    plain: Cells,
    /// Of each column that is read, the cells of all rows that have one.
    cells: Vec<Cells>,
}

struct Row {
    whole: Range<usize>,
    line: u64,
    /// How many fields it has.
    fields: usize,
}

/// A field that is read: where it is spelled, and where its value stands.
#[derive(Clone, Copy)]
pub(super) struct Place {
    spelled: Span,
    pub(super) said: Span,
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
        let read: Vec<_> = columns.filter(|(_, column)| column.seal.is_some()).map(|(at, _)| at).collect();
        let cells = read.iter().map(|_| Cells::new()).collect();
        CopySealer {
            rows: rows.clone(),
            read,
            spelling: Spelling::of(&rows.options),
            recoding: None,
            unread: false,
            ciphers,
            stream: Stream::new(&rows.options, csv_marker, row_bytes_max),
            room: Room { cells, ..Room::default() },
        }
    }

    /// Has rows go in binary, as the server was told.
    pub fn recode(&mut self) {
        self.read = (0..self.rows.columns.len()).collect();
        self.room.cells = self.read.iter().map(|_| Cells::new()).collect();
        self.recoding = Some(recode::Begun::default());
    }

    /// How many columns the client shall send in its own format, while the server reads binary.
    pub fn recoded_columns(&self) -> Option<usize> {
        self.recoding.as_ref().map(|_| self.rows.columns.len())
    }

    /// Whether it ended at a value that the server may read where this does not.
    pub fn left_unread(&self) -> bool {
        self.unread
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
    ) -> (ByLabel, Result<(), Refusal>) {
        let mut wrong = self.find_rows(last);
        let ciphers = self.ciphers.clone();
        let mut sealer = Sealer::new(&ciphers, style, random);
        sealer.plain = std::mem::take(&mut self.room.plain);
        self.seal_columns(&mut sealer, style, &mut wrong);
        let sealed = std::mem::take(&mut sealer.sealed);
        self.room.plain = std::mem::take(&mut sealer.plain);
        self.room.plain.clear();
        let good = wrong.as_ref().map_or(self.room.rows.len(), |wrong| wrong.row);
        let ends = last && wrong.is_none();
        let written = match self.recoding {
            Some(begun) => self.write_recoded(begun, good, ends, out),
            None => self.write(good, out),
        };
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
                // It has no counterpart in binary.
                Kind::Verbatim if self.recoding.is_some() => continue,
                Kind::Verbatim => Ok(0),
            };
            let fields = match found {
                Ok(fields) => fields,
                Err(refusal) => return Some(Wrong { row, refusal }),
            };
            self.room.rows.push(Row { whole: piece.whole, line: piece.line, fields });
            self.room.places.resize(self.room.rows.len() * self.read.len(), None);
        }
    }

    /// What is read of one row, and how many fields it has. What has fewer than the statement has columns goes to the server,
    /// which finds what is wrong with the others first.
    fn find_places(&mut self, body: Range<usize>, line: u64) -> Result<usize, Refusal> {
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
        for index in &self.read {
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
        Ok(count)
    }

    /// Column by column: the cells of every row that has one. A wrong value ends the batch before its row; of one row the
    /// leftmost counts.
    fn seal_columns(&mut self, sealer: &mut Sealer<'_>, style: &Style, wrong: &mut Option<Wrong>) {
        let mut unread = false;
        for (nth, index) in self.read.iter().enumerate() {
            let Some(column) = self.rows.columns.get(*index) else { continue };
            let end = wrong.as_ref().map_or(self.room.rows.len(), |wrong| wrong.row);
            let values = self.values(nth, *index, end);
            let found = match (&column.seal, column.recode) {
                (Some(recipe), _) => values.seal(recipe, column, sealer),
                (None, Some(Recode::Value(data_type))) => {
                    values.recode(column, data_type, style, &mut sealer.plain, &mut unread)
                }
                (None, _) => values.each(column, |_| Ok(())),
            };
            if let Err(found) = found {
                *wrong = Some(found);
            }
            let Some(cells) = self.room.cells.get_mut(nth) else { continue };
            let Some(recipe) = &column.seal else {
                std::mem::swap(&mut sealer.plain, cells);
                sealer.plain.clear();
                continue;
            };
            if let Err(refusal) = sealer.seal(recipe) {
                *wrong = Some(Wrong { row: 0, refusal });
                return;
            }
            std::mem::swap(&mut sealer.cells, cells);
        }
        self.unread |= unread;
    }

    /// The values of one column in the first rows.
    fn values(&self, nth: usize, index: usize, rows: usize) -> Values<'_> {
        Values {
            rows: self.room.rows.get(..rows).unwrap_or_default(),
            places: self.room.places.get(nth..).unwrap_or_default(),
            stride: self.read.len(),
            bytes: self.stream.bytes(),
            format: match self.rows.options.format() {
                CopyFormat::Binary => Format::Binary,
                CopyFormat::Text | CopyFormat::Csv => Format::Text,
            },
            column: self.recoding.map(|_| index),
        }
    }

    /// The first `good` rows as they go to the server in binary; `ends`: they are the last.
    fn write_recoded(
        &mut self,
        begun: recode::Begun,
        good: usize,
        ends: bool,
        out: &mut BytesMut,
    ) -> Result<(), Refusal> {
        let Room { places, cells, .. } = &self.room;
        let rows = recode::Rows {
            columns: &self.rows.columns,
            bytes: self.stream.bytes(),
            places: places.get(..good * self.read.len()).unwrap_or_default(),
            cells,
        };
        self.recoding = Some(rows.write(begun, ends, out).map_err(|_| too_long())?);
        Ok(())
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
        for places in places.chunks_exact(self.read.len().max(1)).take(good) {
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
        ended.map_err(|_| too_long())
    }
}

/// The values of one column in many rows.
struct Values<'s> {
    rows: &'s [Row],
    /// Of every `stride`, the first is this column's.
    places: &'s [Option<Place>],
    stride: usize,
    bytes: &'s [u8],
    format: Format,
    /// Its number, when a row without it is not for the server to find.
    column: Option<usize>,
}

impl Values<'_> {
    /// # Errors
    /// The first row whose value `read` refuses, or which has none.
    fn each(
        &self,
        column: &CopyColumn,
        mut read: impl FnMut(&[u8]) -> Result<(), Refusal>,
    ) -> Result<(), Wrong> {
        let name = column.name.as_deref().unwrap_or_default();
        let places = self.places.iter().step_by(self.stride);
        for (at, (row, place)) in self.rows.iter().zip(places).enumerate() {
            let wrong = |refusal: Refusal, detail| Wrong { row: at, refusal: refusal.detail(detail) };
            if self.column.is_some_and(|column| column >= row.fields) {
                let missing = format!("missing data for column \"{name}\"");
                let refusal = Refusal::new(Reason::Value, "22P04", missing);
                return Err(wrong(refusal, format!("Line {}.", row.line)));
            }
            let Some(Place { said, .. }) = place else { continue };
            let value = self.bytes.get(said.start..said.end).unwrap_or_default();
            read(value).map_err(|refusal| {
                let name = column.seal.as_ref().map_or(name, |recipe| &recipe.column_name);
                wrong(refusal, format!("Line {}, column {name}.", row.line))
            })?;
        }
        Ok(())
    }

    /// Reads values that are sealed.
    fn seal(&self, recipe: &Recipe, column: &CopyColumn, sealer: &mut Sealer<'_>) -> Result<(), Wrong> {
        self.each(column, |value| {
            let read = sealer.read(recipe, Some(&recipe.data_type), self.format, value);
            if read.is_err() {
                sealer.plain.truncate(sealer.plain.len().saturating_sub(1));
            }
            read
        })
    }

    /// Makes values binary. `unread`: the server may read what this does not.
    fn recode(
        &self,
        column: &CopyColumn,
        data_type: DataType,
        style: &Style,
        binary: &mut Cells,
        unread: &mut bool,
    ) -> Result<(), Wrong> {
        self.each(column, |value| {
            let read = binary.push_with(|binary| data_type.text_to_binary(value, style, binary));
            read.map_err(|error| {
                binary.truncate(binary.len().saturating_sub(1));
                *unread = true;
                Refusal::new(Reason::Value, error.sqlstate, error.message)
                    .hint("Copy once more: its values are left to the server to read then.")
            })
        })
    }
}

fn too_long() -> Refusal {
    Refusal::new(Reason::Value, "54000", "row of copied data is longer than allowed")
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

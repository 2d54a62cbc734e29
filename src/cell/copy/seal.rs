//! COPY … FROM: the values of sealed columns are read, sealed, and take their own place in the row.

use super::stream::{Kind, Piece, Stream};
use super::{BadCopy, fields};
use crate::cell::seal::Sealer;
use crate::crypto::{Cells, Ciphers, Random};
use crate::plan::{CopyFormat, CopyRows, Reason, Recipe, Refusal};
use crate::value::{Format, Style};
use std::sync::Arc;
use zeroize::Zeroizing;

/// Seals the rows of one COPY.
pub struct CopySealer {
    rows: CopyRows,
    ciphers: Arc<Ciphers>,
    stream: Stream,
}

/// A row of the batch: its piece, and where its fields begin in the list of all.
struct Row {
    piece: Piece,
    fields: usize,
}

/// Why the batch ends early: the first row that is wrong, and what the client reads.
struct Wrong {
    row: usize,
    refusal: Refusal,
}

impl CopySealer {
    /// As [`Stream::new`]; `ciphers` are those of the statement's world.
    pub fn new(rows: &CopyRows, ciphers: Arc<Ciphers>, csv_marker: bool, row_bytes_max: usize) -> CopySealer {
        let stream = Stream::new(&rows.options, csv_marker, row_bytes_max);
        CopySealer { rows: rows.clone(), ciphers, stream }
    }

    /// Takes what the client sent, and appends the rows that are whole now to `out`, sealed. `last`: the client has ended
    /// the copy. Gives (label, cells) that were sealed.
    ///
    /// # Errors
    /// The first row that cannot be sealed, with PostgreSQL's SQLSTATE; those before it are in `out`.
    pub fn data(
        &mut self,
        bytes: &[u8],
        last: bool,
        style: &Style,
        random: &mut dyn Random,
        out: &mut Vec<u8>,
    ) -> (Vec<(String, u64)>, Result<(), Refusal>) {
        self.stream.push(bytes);
        let (mut rows, mut all, mut wrong) = (vec![], vec![], None);
        loop {
            match self.stream.next(last) {
                Ok(Some(piece)) => {
                    let fields = all.len();
                    if piece.kind == Kind::Row
                        && let Err(bad) = self.split(&piece, &mut all)
                    {
                        wrong = Some(Wrong { row: rows.len(), refusal: bad_copy(bad, piece.line) });
                        break;
                    }
                    rows.push(Row { piece, fields });
                }
                Ok(None) => break,
                Err(bad) => {
                    wrong = Some(Wrong { row: rows.len(), refusal: bad_copy(bad, 0) });
                    break;
                }
            }
        }
        let mut sealer = Sealer::new(&self.ciphers, style, random);
        let cells = self.seal(&rows, &all, &mut sealer, &mut wrong);
        let sealed = std::mem::take(&mut sealer.sealed);
        let good = wrong.as_ref().map_or(rows.len(), |wrong| wrong.row);
        self.write(rows.get(..good).unwrap_or_default(), &all, &cells, out);
        self.stream.forget();
        (sealed, wrong.map_or(Ok(()), |wrong| Err(wrong.refusal)))
    }

    fn split(&self, piece: &Piece, all: &mut Vec<fields::Field>) -> Result<(), BadCopy> {
        let row = self.stream.bytes().get(piece.body.clone()).unwrap_or_default();
        fields::split(&self.rows.options, row, all)
    }

    fn row<'r>(&self, row: &Row, rows: &[Row], at: usize, all: &'r [fields::Field]) -> &'r [fields::Field] {
        let end = rows.get(at + 1).map_or(all.len(), |next| next.fields);
        all.get(row.fields..end).unwrap_or_default()
    }

    /// Column by column: the cells of every row in which it is not NULL. A wrong value ends the batch before its row;
    /// of one row the leftmost counts.
    fn seal(
        &self,
        rows: &[Row],
        all: &[fields::Field],
        sealer: &mut Sealer<'_>,
        wrong: &mut Option<Wrong>,
    ) -> Vec<Cells> {
        self.check_widths(rows, all, wrong);
        let mut sealed = vec![];
        for (index, column) in self.rows.columns.iter().enumerate() {
            let Some(recipe) = &column.seal else { continue };
            let end = wrong.as_ref().map_or(rows.len(), |wrong| wrong.row);
            for at in 0..end {
                let Some(row) = rows.get(at).filter(|row| row.piece.kind == Kind::Row) else { continue };
                let Some(field) = self.row(row, rows, at, all).get(index) else { continue };
                if let Err(refusal) = self.read(row, index, field, recipe, sealer) {
                    let line = row.piece.line;
                    let refusal = refusal.detail(format!("Line {line}, column {}.", recipe.column_name));
                    *wrong = Some(Wrong { row: at, refusal });
                    break;
                }
            }
            if let Err(refusal) = sealer.seal(recipe) {
                *wrong = Some(Wrong { row: 0, refusal });
                return vec![];
            }
            sealed.push(std::mem::take(&mut sealer.cells));
        }
        sealed
    }

    /// The first row with more fields than the statement has columns. What has fewer goes to the server, which finds what is
    /// wrong with the others first.
    fn check_widths(&self, rows: &[Row], all: &[fields::Field], wrong: &mut Option<Wrong>) {
        let width = self.rows.columns.len();
        for (at, row) in rows.iter().enumerate().filter(|(_, row)| row.piece.kind == Kind::Row) {
            let fields = self.row(row, rows, at, all).len();
            let message = match self.rows.options.format() {
                CopyFormat::Binary if fields != width => {
                    format!("row field count is {fields}, expected {width}")
                }
                CopyFormat::Text | CopyFormat::Csv if fields > width => {
                    "extra data after last expected column".to_owned()
                }
                _ => continue,
            };
            let refusal = Refusal::new(Reason::Value, "22P04", message);
            *wrong = Some(Wrong { row: at, refusal: refusal.detail(format!("Line {}.", row.piece.line)) });
            return;
        }
    }

    /// Reads one field into the sealer's batch, unless it goes as it is.
    fn read(
        &self,
        row: &Row,
        index: usize,
        field: &fields::Field,
        recipe: &Recipe,
        sealer: &mut Sealer<'_>,
    ) -> Result<(), Refusal> {
        let options = &self.rows.options;
        if self.is_kept(row, index, field) {
            return Ok(());
        }
        let format = if options.format() == CopyFormat::Binary { Format::Binary } else { Format::Text };
        let raw = self.raw(row, field);
        let read = if fields::is_plain(options, raw) {
            sealer.read(recipe, Some(&recipe.data_type), format, raw)
        } else {
            let mut value = Zeroizing::new(vec![]);
            self.decode(raw, &mut value);
            sealer.read(recipe, Some(&recipe.data_type), format, &value)
        };
        if read.is_err() {
            let whole = sealer.plain.len().saturating_sub(1);
            sealer.plain.truncate(whole);
        }
        read
    }

    /// Whether a field goes as it is: NULL (`NextCopyFrom`), or the column's default.
    fn is_kept(&self, row: &Row, index: usize, field: &fields::Field) -> bool {
        let Some(column) = self.rows.columns.get(index) else { return true };
        if field.default {
            return true;
        }
        if field.null || !column.force_null {
            return field.null && !column.force_not_null;
        }
        let mut value = Zeroizing::new(vec![]);
        self.decode(self.raw(row, field), &mut value);
        value.as_slice() == self.rows.options.null()
    }

    fn raw(&self, row: &Row, field: &fields::Field) -> &[u8] {
        let body = self.stream.bytes().get(row.piece.body.clone()).unwrap_or_default();
        body.get(field.raw.clone()).unwrap_or_default()
    }

    fn decode(&self, raw: &[u8], value: &mut Vec<u8>) {
        // What is said is never longer than how it is spelled.
        value.reserve(raw.len());
        fields::decode(&self.rows.options, raw, value);
    }

    /// The rows as they go to the server.
    fn write(&self, rows: &[Row], all: &[fields::Field], cells: &[Cells], out: &mut Vec<u8>) {
        let options = &self.rows.options;
        let binary = options.format() == CopyFormat::Binary;
        let single = self.rows.columns.len() == 1;
        let mut cells: Vec<_> = cells.iter().map(Cells::iter).collect();
        let mut spelled = vec![];
        for (at, row) in rows.iter().enumerate() {
            let whole = self.stream.bytes().get(row.piece.whole.clone()).unwrap_or_default();
            let body = self.stream.bytes().get(row.piece.body.clone()).unwrap_or_default();
            if row.piece.kind == Kind::Verbatim {
                out.extend_from_slice(whole);
                continue;
            }
            if binary {
                out.extend_from_slice(body.get(..2).unwrap_or_default());
            }
            let fields = self.row(row, rows, at, all);
            let mut sealed = cells.iter_mut();
            for (index, (field, column)) in fields.iter().zip(&self.rows.columns).enumerate() {
                if index > 0 && !binary {
                    out.push(options.delimiter());
                }
                let batch = column.seal.as_ref().and_then(|_| sealed.next());
                if let Some(batch) = batch.filter(|_| !self.is_kept(row, index, field)) {
                    spell_cell(batch.next().unwrap_or_default(), binary, &mut spelled);
                    fields::encode(options, &spelled, single, false, out);
                    continue;
                }
                let raw = body.get(field.raw.clone()).unwrap_or_default();
                match binary {
                    true if field.null => fields::encode_null(options, out),
                    true => fields::encode(options, raw, single, false, out),
                    false => out.extend_from_slice(raw),
                }
            }
            out.extend_from_slice(whole.get(body.len()..).unwrap_or_default());
        }
    }
}

/// A cell as the server reads `bytea`.
fn spell_cell(cell: &[u8], binary: bool, spelled: &mut Vec<u8>) {
    spelled.clear();
    if binary {
        spelled.extend_from_slice(cell);
    } else {
        spelled.resize(2 + 2 * cell.len(), 0);
        spelled[..2].copy_from_slice(b"\\x");
        faster_hex::hex_encode(cell, &mut spelled[2..]).expect("two digits a byte fit");
    }
}

fn bad_copy(bad: BadCopy, line: u64) -> Refusal {
    let refusal = Refusal::new(Reason::Value, bad.sqlstate, bad.message);
    if line > 0 { refusal.detail(format!("Line {line}.")) } else { refusal }
}

//! Opening rows: all sealed cells of one column that one read brought are opened as one batch, shown as the judgement
//! says, and the rows rebuilt into one buffer. Other columns are copied as they are.

use super::nested::{self, Inside};
use crate::crypto::{CellCipher, Cells, Ciphers, OpenCause};
use crate::plan::{ColumnSlot, Judgement, OpenSlot};
use crate::policy::{Disclosure, Form};
use crate::value::{DataType, Format, Malformed, Style};
use crate::wire::backend::{DataRow, DataRowBuilder};
use crate::wire::{Frame, Violation};
use bytes::BytesMut;
use std::sync::Arc;
use zeroize::{Zeroize, Zeroizing};

/// The header and the SIV of a deterministic cell.
const CELL_BYTES_LEAST: usize = 21;

/// A cell that did not open, or what it held is not of its type: XX001.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CellFault {
    /// `schema.table.column`.
    pub column: String,
    pub cause: FaultCause,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FaultCause {
    NotOpened(OpenCause),
    /// Opened, but not a value of the logical type.
    Malformed,
    /// The row is not what was described.
    Row(Violation),
    /// The keyring has no key for the domain.
    NoKey,
}

/// What a batch disclosed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Rows that showed a cell in clear or masked.
    pub rows: u64,
    /// (label, rows that showed a cell of it).
    pub rows_by_label: Vec<(String, u64)>,
    /// (label, disclosure, cells); NULL cells are not counted.
    pub cells: Vec<(String, &'static str, u64)>,
}

impl Tally {
    pub fn cells_opened(&self) -> u64 {
        self.cells.iter().map(|(_, _, cells)| cells).sum()
    }
}

/// How far a batch went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Released {
    /// Frames that were written; fewer than given when the limit was reached.
    pub frames: usize,
    pub tally: Tally,
}

pub(super) struct OpenColumn {
    index: usize,
    pub(super) cipher: Option<Arc<CellCipher>>,
    pub(super) data_type: DataType,
    pub(super) disclosure: Disclosure,
    pub(super) label: String,
    name: String,
    pub(super) format: Format,
    /// Its cells stand inside of its values; then the fields above, but for the index and the format, mean nothing.
    inside: Option<Inside>,
    pub(super) leaves: Vec<OpenColumn>,
}

impl OpenColumn {
    fn new(
        slot: &OpenSlot,
        index: usize,
        format: Format,
        judgement: &Judgement,
        ciphers: &Ciphers,
    ) -> OpenColumn {
        let OpenSlot { domain, data_type, ruling, column_names } = slot;
        let ruling = judgement.rulings.get(*ruling);
        OpenColumn {
            index,
            cipher: ciphers.by_domain.get(&domain.name).cloned(),
            data_type: *data_type,
            // A slot whose ruling is missing shows nothing.
            disclosure: ruling.map_or(Disclosure::withheld(), |ruling| ruling.disclosure),
            label: domain.label.clone(),
            name: column_names.join(", "),
            format,
            inside: None,
            leaves: vec![],
        }
    }

    pub(super) fn discloses(&self) -> bool {
        self.disclosure.form() != Form::Withheld
    }
    /// Whether its values are written anew where they are not NULL.
    fn shows(&self) -> bool {
        self.inside.is_some() || self.discloses()
    }
    pub(super) fn fault(&self, cause: FaultCause) -> CellFault {
        CellFault { column: self.name.clone(), cause }
    }

    /// Opens a batch and shows each cell as the ruling says: `write` gives it the form of its place, which is at most
    /// `longest` of the canonical bytes.
    pub(super) fn show(
        &self,
        sealed: &Cells,
        fingerprint_key: &[u8],
        room: Room<'_>,
        longest: impl Fn(usize) -> usize,
        write: impl Fn(&[u8], &mut Vec<u8>) -> Result<(), Malformed>,
    ) -> Result<(), CellFault> {
        let Room { plain, masked, shown } = room;
        let cipher = self.cipher.as_ref().ok_or_else(|| self.fault(FaultCause::NoKey))?;
        plain.clear();
        cipher.open(sealed, plain).map_err(|error| self.fault(FaultCause::NotOpened(error.cause)))?;
        let malformed = || self.fault(FaultCause::Malformed);
        for canonical in plain.iter() {
            let canonical: &[u8] = match self.disclosure.form() {
                Form::Clear => canonical,
                Form::Masked(mask) => {
                    masked.clear();
                    let fits = mask.apply(&self.data_type, canonical, fingerprint_key, masked);
                    fits.ok_or_else(malformed)?;
                    masked.as_slice()
                }
                // Never asked: what does not disclose is not collected.
                Form::Withheld => return Ok(()),
            };
            shown.reserve(longest(canonical.len()));
            shown.push_with(|out| write(canonical, out)).map_err(|_| malformed())?;
        }
        Ok(())
    }
}

/// What a batch is opened into, and shown in.
pub(super) struct Room<'r> {
    pub(super) plain: &'r mut Cells,
    pub(super) masked: &'r mut Zeroizing<Vec<u8>>,
    pub(super) shown: &'r mut Cells,
}

/// Where a label is disclosed.
struct Label {
    name: String,
    /// Columns of the row.
    columns: Vec<usize>,
    /// (opened column, leaf) of those that stand inside of values.
    leaves: Vec<(usize, usize)>,
}

/// Opens the rows of one portal.
pub struct RowOpener {
    columns: Vec<OpenColumn>,
    /// Each label that is disclosed.
    labels: Vec<Label>,
    width: usize,
    fingerprint_key: Zeroizing<Vec<u8>>,
    scratch: Scratch,
}

/// Buffers that one batch fills and the next one finds empty, with their room.
#[derive(Default)]
struct Scratch {
    sealed: Cells,
    plain: Cells,
    masked: Zeroizing<Vec<u8>>,
    /// For each opened column, the shown form of every row that is not NULL in it.
    shown: Vec<Cells>,
}

impl Scratch {
    fn clear(&mut self) {
        self.sealed.clear();
        self.plain.clear();
        self.masked.as_mut_slice().zeroize();
        self.masked.clear();
        self.shown.iter_mut().for_each(Cells::clear);
    }
}

impl RowOpener {
    /// `formats` are the client's result formats as sent (none, one for all, or one each).
    pub fn new(
        columns: &[ColumnSlot],
        judgement: &Judgement,
        formats: &[i16],
        ciphers: &Ciphers,
    ) -> RowOpener {
        let format_of = |index: usize| match formats {
            [] => 0,
            [all] => *all,
            each => each.get(index).copied().unwrap_or(0),
        };
        let mut open: Vec<OpenColumn> = vec![];
        for (index, slot) in columns.iter().enumerate() {
            let format = if format_of(index) == 1 { Format::Binary } else { Format::Text };
            let leaf = |slot: &OpenSlot| OpenColumn::new(slot, index, format, judgement, ciphers);
            let nested = |inside: Inside, slots: &[OpenSlot]| {
                let first = slots.first()?;
                let leaves = slots.iter().map(leaf).collect();
                Some(OpenColumn { inside: Some(inside), leaves, ..leaf(first) })
            };
            open.extend(match slot {
                ColumnSlot::Pass => None,
                ColumnSlot::Open(slot) => Some(leaf(slot)),
                ColumnSlot::Array(slot) => nested(Inside::Array, std::slice::from_ref(slot)),
                ColumnSlot::Document { node, leaves } => nested(Inside::Document(node.clone()), leaves),
                ColumnSlot::Record { node, leaves } => nested(Inside::Record(node.clone()), leaves),
            });
        }
        let shown = open.iter().map(|_| Cells::new()).collect();
        let mut labels: Vec<Label> = Vec::new();
        for (at, column) in open.iter().enumerate() {
            let own: Vec<(usize, &OpenColumn)> = match column.inside {
                Some(_) => column.leaves.iter().enumerate().collect(),
                None => vec![(0, column)],
            };
            for (leaf, cells) in own.into_iter().filter(|(_, cells)| cells.discloses()) {
                let known = labels.iter().position(|label| label.name == cells.label);
                let known = known.unwrap_or_else(|| {
                    labels.push(Label { name: cells.label.clone(), columns: vec![], leaves: vec![] });
                    labels.len() - 1
                });
                match column.inside {
                    Some(_) => labels[known].leaves.push((at, leaf)),
                    None => labels[known].columns.push(column.index),
                }
            }
        }
        RowOpener {
            columns: open,
            labels,
            width: columns.len(),
            fingerprint_key: ciphers.fingerprint_key.clone(),
            scratch: Scratch { shown, ..Scratch::default() },
        }
    }

    /// Opens `frames` (all DataRow) into `out`, at most `disclosing_max` rows that disclose something. Stops before the
    /// row that would be one too many.
    ///
    /// # Errors
    /// The first cell that does not open; nothing of this batch is in `out`.
    pub fn rows(
        &mut self,
        frames: &[Frame],
        style: &Style,
        disclosing_max: Option<u64>,
        out: &mut BytesMut,
    ) -> Result<Released, CellFault> {
        let mut cells: Vec<Option<&[u8]>> = Vec::with_capacity(frames.len() * self.width);
        let mut released = Released { frames: 0, tally: self.tally() };
        let mut counts = vec![];
        for frame in frames {
            let row_start = cells.len();
            self.split(frame, &mut cells)?;
            if !self.admit(&cells[row_start..], disclosing_max, &mut counts, &mut released.tally)? {
                cells.truncate(row_start);
                break;
            }
            released.frames += 1;
        }
        self.opened(&cells, style, &mut released.tally, |opener, shown| opener.rebuild(&cells, shown, out))?;
        Ok(released)
    }

    /// How many cells a row has.
    pub(super) fn width(&self) -> usize {
        self.width
    }

    /// Whether a column's cells are opened.
    pub(super) fn opens(&self, index: usize) -> bool {
        self.columns.iter().any(|column| column.index == index)
    }

    /// A tally of nothing yet.
    pub(super) fn tally(&self) -> Tally {
        let rows_by_label = self.labels.iter().map(|label| (label.name.clone(), 0)).collect();
        Tally { rows_by_label, ..Tally::default() }
    }

    /// Counts a row; false when it is one too many. `counts` is room that is used again.
    pub(super) fn admit(
        &self,
        row: &[Option<&[u8]>],
        disclosing_max: Option<u64>,
        counts: &mut Vec<u64>,
        tally: &mut Tally,
    ) -> Result<bool, CellFault> {
        counts.resize(self.labels.len(), 0);
        let most = self.disclosed(row, counts)?;
        if most > 0 && disclosing_max.is_some_and(|max| tally.rows.saturating_add(most) > max) {
            return Ok(false);
        }
        tally.rows += most;
        for ((_, rows), count) in tally.rows_by_label.iter_mut().zip(counts.iter()) {
            *rows += count;
        }
        Ok(true)
    }

    /// Opens column by column, and hands what is shown to `write`.
    pub(super) fn opened(
        &mut self,
        cells: &[Option<&[u8]>],
        style: &Style,
        tally: &mut Tally,
        write: impl FnOnce(&RowOpener, &[Cells]) -> Result<(), Violation>,
    ) -> Result<(), CellFault> {
        let mut scratch = std::mem::take(&mut self.scratch);
        let result = self.show(cells, style, &mut scratch, tally, write);
        scratch.clear();
        self.scratch = scratch;
        result
    }

    /// Fills `counts` with the rows that this row discloses of each label, and gives the most of them: a document that
    /// was made of a hundred rows counts as a hundred.
    fn disclosed(&self, row: &[Option<&[u8]>], counts: &mut [u64]) -> Result<u64, CellFault> {
        for (label, count) in self.labels.iter().zip(counts.iter_mut()) {
            *count = u64::from(label.columns.iter().any(|column| row[*column].is_some()));
        }
        for (at, column) in self.columns.iter().enumerate() {
            let (Some(inside), Some(wire)) = (&column.inside, row[column.index]) else { continue };
            let mut cells = vec![0; column.leaves.len()];
            inside.count(column, wire, &mut cells)?;
            for (label, count) in self.labels.iter().zip(counts.iter_mut()) {
                for (_, leaf) in label.leaves.iter().filter(|(own, _)| *own == at) {
                    *count = (*count).max(cells[*leaf]);
                }
            }
        }
        Ok(counts.iter().copied().max().unwrap_or(0))
    }

    /// As many rows as these frames could disclose.
    pub fn rows_at_most(&self, frames: &[Frame]) -> u64 {
        let nested = self.columns.iter().any(|column| column.inside.is_some());
        // No cell is shorter than the least envelope.
        let inside = |frame: &Frame| if nested { frame.bytes().len() / CELL_BYTES_LEAST } else { 0 };
        frames.iter().map(|frame| (1 + inside(frame)) as u64).sum()
    }

    fn show(
        &self,
        cells: &[Option<&[u8]>],
        style: &Style,
        scratch: &mut Scratch,
        tally: &mut Tally,
        write: impl FnOnce(&RowOpener, &[Cells]) -> Result<(), Violation>,
    ) -> Result<(), CellFault> {
        for (column, at) in self.columns.iter().zip(0..) {
            if let Some(inside) = &column.inside {
                let values = cells.iter().skip(column.index).step_by(self.width).flatten().copied();
                let Some(shown) = scratch.shown.get_mut(at) else { continue };
                nested::show(column, inside, values, style, &self.fingerprint_key, shown, tally)?;
                continue;
            }
            let opened = self.open_column(column, at, cells, style, scratch)?;
            if opened > 0 {
                tally.cells.push((column.label.clone(), column.disclosure.name(), opened));
            }
        }
        write(self, &scratch.shown)
            .map_err(|violation| CellFault { column: String::new(), cause: FaultCause::Row(violation) })
    }

    fn split<'f>(&self, frame: &'f Frame, cells: &mut Vec<Option<&'f [u8]>>) -> Result<(), CellFault> {
        let fault = |violation| CellFault { column: String::new(), cause: FaultCause::Row(violation) };
        let mut row = DataRow::view(frame).map_err(fault)?;
        if row.columns() != self.width {
            return Err(fault(Violation::new("the row has another number of columns than its description")));
        }
        for _ in 0..self.width {
            cells.push(row.next().map_err(fault)?);
        }
        Ok(())
    }

    /// Fills `scratch.shown[at]` with one column's cells of every row that is not NULL in it, and counts them.
    fn open_column(
        &self,
        column: &OpenColumn,
        at: usize,
        cells: &[Option<&[u8]>],
        style: &Style,
        scratch: &mut Scratch,
    ) -> Result<u64, CellFault> {
        let Scratch { sealed, plain, masked, shown } = scratch;
        let Some(shown) = shown.get_mut(at).filter(|_| column.discloses()) else { return Ok(0) };
        sealed.clear();
        for wire in cells.iter().skip(column.index).step_by(self.width).flatten() {
            match column.format {
                Format::Binary => sealed.push(wire),
                Format::Text => {
                    sealed.reserve(wire.len() / 2);
                    sealed
                        .push_with(|bytes| unhex_cell(wire, bytes))
                        .ok_or_else(|| column.fault(FaultCause::NotOpened(OpenCause::NotAnEnvelope)))?;
                }
            }
        }
        if sealed.is_empty() {
            return Ok(0);
        }
        let room = Room { plain, masked, shown };
        // No type's text is longer than two digits a byte, and what `push_with` has room for.
        let longest = |bytes: usize| 2 * bytes + 2;
        column.show(sealed, &self.fingerprint_key, room, longest, |canonical, wire| {
            column.data_type.write(canonical, column.format, style, wire)
        })?;
        Ok(u64::try_from(shown.len()).unwrap_or(u64::MAX))
    }

    /// Walks all rows and gives each cell as it is shown.
    pub(super) fn each<E>(
        &self,
        cells: &[Option<&[u8]>],
        shown: &[Cells],
        mut row_of: impl FnMut(&mut dyn Iterator<Item = Shown<'_>>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut next = vec![0; shown.len()];
        for row in cells.chunks_exact(self.width.max(1)) {
            let mut open = 0;
            let mut row = row.iter().enumerate().map(|(index, cell)| {
                let Some(column) = self.columns.get(open).filter(|column| column.index == index) else {
                    return Shown::AsItIs(*cell);
                };
                let at = open;
                open += 1;
                if cell.is_none() || !column.shows() {
                    return Shown::Null;
                }
                next[at] += 1;
                Shown::Opened(shown[at].get(next[at] - 1))
            });
            row_of(&mut row)?;
        }
        Ok(())
    }

    fn rebuild(&self, cells: &[Option<&[u8]>], shown: &[Cells], out: &mut BytesMut) -> Result<(), Violation> {
        let start = out.len();
        let result = self.each(cells, shown, |row| {
            let mut builder = DataRowBuilder::begin(out);
            for cell in row {
                builder.column(match cell {
                    Shown::AsItIs(cell) => cell,
                    Shown::Opened(value) => Some(value),
                    Shown::Null => None,
                });
            }
            builder.end()
        });
        if result.is_err() {
            out.truncate(start);
        }
        result
    }
}

/// One cell as the client gets it.
pub(super) enum Shown<'c> {
    AsItIs(Option<&'c [u8]>),
    Opened(&'c [u8]),
    Null,
}

/// `\x` and hex digits, as `bytea_output = hex` sends a cell in text format.
fn unhex_cell(wire: &[u8], bytes: &mut Vec<u8>) -> Option<()> {
    unhex(wire.strip_prefix(b"\\x")?, bytes)
}

pub(super) fn unhex(digits: &[u8], bytes: &mut Vec<u8>) -> Option<()> {
    let start = bytes.len();
    bytes.resize(start + digits.len() / 2, 0);
    faster_hex::hex_decode(digits, bytes.get_mut(start..)?).ok().map(|_| ())
}

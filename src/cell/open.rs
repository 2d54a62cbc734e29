//! Opening rows: all sealed cells of one column that one read brought are opened as one batch, shown as the judgement
//! says, and the rows rebuilt into one buffer. What stands between them is copied as it is.

use super::formats::Formats;
use super::nested::{self, Inside};
use super::rows::{self, STRIDE, Splice, Walk};
use super::weight::Label;
use crate::catalog::ByLabel;
use crate::crypto::{Batch, CellCipher, Cells, Ciphers, MaskKey, OpenCause, Span};
use crate::plan::{ColumnSlot, Judgement, OpenSlot};
use crate::policy::{Disclosure, Form, Mask, QUICK_BYTES};
use crate::value::{DataType, Format, Malformed, Style};
use crate::wire::{Frame, Violation};
use bytes::BytesMut;
use std::sync::Arc;
use zeroize::{Zeroize, Zeroizing};

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
    pub rows_by_label: ByLabel,
    /// (label, disclosure, cells); NULL cells are not counted.
    pub cells: Vec<(Arc<str>, &'static str, u64)>,
}

impl Tally {
    pub fn cells_opened(&self) -> u64 {
        self.cells.iter().map(|(_, _, cells)| cells).sum()
    }
}

/// How far a batch went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Released {
    /// Rows that were written; fewer than given when the limit was reached.
    pub frames: usize,
    /// Bytes of these rows as they came.
    pub bytes: usize,
    pub tally: Tally,
}

pub(super) struct OpenColumn {
    pub(super) index: usize,
    pub(super) cipher: Option<Arc<CellCipher>>,
    pub(super) data_type: DataType,
    pub(super) disclosure: Disclosure,
    mask_key: Option<Arc<MaskKey>>,
    pub(super) label: Arc<str>,
    pub(super) name: String,
    /// Nobody tagged it, or one of the columns that it is made of.
    pub(super) by_type: bool,
    pub(super) format: Format,
    /// In which the server sends it.
    pub(super) comes: Format,
    /// Its cells stand inside of its values; then the fields above, but for the index and the format, mean nothing.
    pub(super) inside: Option<Inside>,
    pub(super) leaves: Vec<OpenColumn>,
}

impl OpenColumn {
    fn new(
        slot: &OpenSlot,
        index: usize,
        formats: &Formats,
        judgement: &Judgement,
        ciphers: &Ciphers,
    ) -> OpenColumn {
        let OpenSlot { domain, data_type, ruling, column_names, by_type } = slot;
        let ruling = judgement.rulings.get(*ruling);
        OpenColumn {
            index,
            cipher: ciphers.by_domain.get(&domain.name).cloned(),
            data_type: *data_type,
            // A slot whose ruling is missing shows nothing.
            disclosure: ruling.map_or(Disclosure::withheld(), |ruling| ruling.disclosure),
            mask_key: ciphers.mask_keys.get(&domain.name).cloned(),
            label: domain.label.clone(),
            name: column_names.join(", "),
            by_type: *by_type,
            format: formats.leaves(index),
            comes: formats.comes(index),
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
        sealed: Batch<'_>,
        room: Room<'_>,
        longest: impl Fn(usize) -> usize,
        write: impl Fn(&[u8], &mut Vec<u8>) -> Result<(), Malformed>,
    ) -> Result<(), CellFault> {
        let Room { plain, masked, shown } = room;
        self.open(sealed, plain)?;
        let malformed = || self.fault(FaultCause::Malformed);
        for canonical in plain.iter() {
            let canonical: &[u8] = match self.disclosure.form() {
                Form::Clear => canonical,
                Form::Masked(mask) => {
                    masked.clear();
                    self.mask(mask, canonical, masked)?.ok_or_else(malformed)?;
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

    fn open(&self, sealed: Batch<'_>, plain: &mut Cells) -> Result<(), CellFault> {
        let cipher = self.cipher.as_ref().ok_or_else(|| self.fault(FaultCause::NoKey))?;
        plain.clear();
        cipher.open_batch(sealed, plain).map_err(|error| self.fault(FaultCause::NotOpened(error.cause)))
    }

    /// `None`: the value is not of its type, or the mask not for it.
    fn mask(&self, mask: Mask, canonical: &[u8], out: &mut Vec<u8>) -> Result<Option<()>, CellFault> {
        let key = self.mask_key.as_ref().ok_or_else(|| self.fault(FaultCause::NoKey))?;
        Ok(mask.apply(&self.data_type, canonical, key, out))
    }

    /// As [`show`](Self::show) in the column's own format. Where that is the canonical bytes themselves, what was opened is
    /// what is shown, and a mask writes where it is shown.
    fn show_whole(&self, sealed: Batch<'_>, style: &Style, room: Room<'_>) -> Result<(), CellFault> {
        if !self.data_type.is_verbatim(self.format) {
            // No type's text is longer than two digits a byte, and what `push_with` has room for.
            let longest = |bytes: usize| 2 * bytes + 2;
            return self.show(sealed, room, longest, |canonical, wire| {
                self.data_type.write(canonical, self.format, style, wire)
            });
        }
        match self.disclosure.form() {
            Form::Clear => {
                self.open(sealed, room.shown)?;
                self.check(room.shown)
            }
            Form::Masked(mask) => {
                self.open(sealed, room.plain)?;
                self.check(room.plain)?;
                for canonical in room.plain.iter() {
                    let quick = |room: &mut _| mask.quickly(&self.data_type, canonical, room);
                    if room.shown.push_short::<QUICK_BYTES>(quick).is_some() {
                        continue;
                    }
                    room.shown.reserve(2 * canonical.len() + 2);
                    let write = |out: &mut Vec<u8>| self.mask(mask, canonical, out);
                    room.shown.push_with(write)?.ok_or_else(|| self.fault(FaultCause::Malformed))?;
                }
                Ok(())
            }
            Form::Withheld => Ok(()),
        }
    }

    /// Holds canonical bytes to the column's type.
    fn check(&self, cells: &Cells) -> Result<(), CellFault> {
        let spans = cells.batch().spans.iter().map(|span| (span.start, span.end));
        let checked = self.data_type.check_all(cells.all_bytes(), spans);
        checked.map_err(|_| self.fault(FaultCause::Malformed))
    }
}

/// What a batch is opened into, and shown in.
pub(super) struct Room<'r> {
    pub(super) plain: &'r mut Cells,
    pub(super) masked: &'r mut Zeroizing<Vec<u8>>,
    pub(super) shown: &'r mut Cells,
}

/// Opens the rows of one portal.
pub struct RowOpener {
    pub(super) columns: Vec<OpenColumn>,
    /// Each label that is disclosed.
    pub(super) labels: Vec<Label>,
    /// Some stand inside of values.
    pub(super) nested: bool,
    /// What it shows beside its cells counts, too: each row is one at least.
    pub(super) every_row: bool,
    width: usize,
    pub(super) found: Found,
    scratch: Scratch,
}

/// Where the cells of a batch stand, by opened column: those that are not NULL. Room that is used again.
#[derive(Default)]
pub(super) struct Found {
    pub(super) spans: Vec<Vec<Span>>,
    /// The opened columns that are not NULL in the row that is being read.
    pub(super) present: Vec<usize>,
    /// Rows that it discloses, by label.
    pub(super) counts: Vec<u64>,
    /// The column that is being rebuilt at its next cell.
    next: Vec<usize>,
    /// Frames one after the other.
    joined: Vec<u8>,
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
    pub fn new(
        columns: &[ColumnSlot],
        judgement: &Judgement,
        formats: &Formats,
        ciphers: &Ciphers,
    ) -> RowOpener {
        let mut open: Vec<OpenColumn> = vec![];
        for (index, slot) in columns.iter().enumerate() {
            let leaf = |slot: &OpenSlot| OpenColumn::new(slot, index, formats, judgement, ciphers);
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
                ColumnSlot::Record { node, leaves } => nested(Inside::of_rows(node), leaves),
                ColumnSlot::Default(defaults) => {
                    let leaves: Vec<OpenSlot> = defaults.iter().map(|default| default.slot.clone()).collect();
                    nested(Inside::Default(defaults.clone()), &leaves)
                }
            });
        }
        let shown = open.iter().map(|_| Cells::new()).collect();
        let found = Found { spans: open.iter().map(|_| vec![]).collect(), ..Found::default() };
        let labels = Label::all_of(&open);
        RowOpener {
            nested: open.iter().any(|column| column.inside.is_some()),
            columns: open,
            labels,
            every_row: false,
            width: columns.len(),
            found,
            scratch: Scratch { shown, ..Scratch::default() },
        }
    }

    /// As [`rows_in`](Self::rows_in), of frames.
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
        if let [frame] = frames {
            return self.rows_in(frame.bytes(), style, disclosing_max, out);
        }
        let mut joined = std::mem::take(&mut self.found.joined);
        joined.clear();
        frames.iter().for_each(|frame| joined.extend_from_slice(frame.bytes()));
        let released = self.rows_in(&joined, style, disclosing_max, out);
        self.found.joined = joined;
        released
    }

    /// Opens the rows that `bytes` holds, whole DataRow messages one after the other, into `out`, at most `disclosing_max`
    /// rows that disclose something. Stops before the row that would be one too many.
    ///
    /// # Errors
    /// The first cell that does not open; nothing of this batch is in `out`.
    pub fn rows_in(
        &mut self,
        bytes: &[u8],
        style: &Style,
        disclosing_max: Option<u64>,
        out: &mut BytesMut,
    ) -> Result<Released, CellFault> {
        self.rows_as(bytes, style, disclosing_max, |opener, taken, next, shown| {
            opener.rebuild(taken, next, shown, out)
        })
    }

    /// As [`rows_in`](Self::rows_in); `write` is given the rows that leave, room for a number for each opened column, and what
    /// is shown of these.
    pub(super) fn rows_as(
        &mut self,
        bytes: &[u8],
        style: &Style,
        disclosing_max: Option<u64>,
        write: impl FnOnce(&RowOpener, &[u8], &mut Vec<usize>, &[Cells]) -> Result<(), Violation>,
    ) -> Result<Released, CellFault> {
        let mut released = Released { tally: self.tally(), ..Released::default() };
        self.begin();
        while released.bytes < bytes.len() {
            let row = rows::message(bytes, released.bytes).map_err(row_fault)?;
            self.walk(bytes, row).map_err(row_fault)?;
            if !self.admit(bytes, disclosing_max, &mut released.tally)? {
                break;
            }
            released.frames += 1;
            released.bytes = row.end;
        }
        let taken = bytes.get(..released.bytes).unwrap_or_default();
        self.opened(bytes, style, &mut released.tally, |opener, next, shown| {
            write(opener, taken, next, shown)
        })?;
        Ok(released)
    }

    /// The room that it keeps for the next batch, in bytes.
    pub fn room(&self) -> usize {
        let Scratch { sealed, plain, masked, shown } = &self.scratch;
        let cells = [sealed, plain].into_iter().chain(shown).map(Cells::room).sum::<usize>();
        let spans = self.found.spans.iter().map(|spans| spans.capacity() * size_of::<Span>()).sum::<usize>();
        cells + spans + masked.capacity() + self.found.joined.capacity()
    }

    /// How many cells a row has.
    pub(super) fn width(&self) -> usize {
        self.width
    }

    /// The opened column at this place of a row.
    pub(super) fn opens(&self, index: usize) -> Option<usize> {
        self.columns.iter().position(|column| column.index == index)
    }

    /// A tally of nothing yet.
    pub(super) fn tally(&self) -> Tally {
        let rows_by_label = self.labels.iter().map(|label| (label.name.clone(), 0)).collect();
        Tally { rows_by_label, ..Tally::default() }
    }

    /// Forgets the batch before.
    pub(super) fn begin(&mut self) {
        self.found.spans.iter_mut().for_each(Vec::clear);
        self.found.present.clear();
    }

    /// A cell of an opened column, in the row that is being read.
    #[inline]
    pub(super) fn cell(&mut self, column: usize, span: Span) {
        if let Some(spans) = self.found.spans.get_mut(column) {
            spans.push(span);
            self.found.present.push(column);
        }
    }

    fn walk(&mut self, bytes: &[u8], row: Span) -> Result<(), Violation> {
        let mut walk = Walk::new(bytes, row, self.width)?;
        let (mut index, Found { spans, present, .. }) = (0, &mut self.found);
        for (at, (column, spans)) in self.columns.iter().zip(spans).enumerate() {
            walk.skip(column.index - index)?;
            index = column.index + 1;
            if let Some(span) = walk.next()? {
                spans.push(span);
                present.push(at);
            }
        }
        walk.skip(self.width - index)?;
        walk.end()
    }

    /// Counts the row that was read, whose cells stand in `source`; when it is one too many, forgets it and is false.
    pub(super) fn admit(
        &mut self,
        source: &[u8],
        disclosing_max: Option<u64>,
        tally: &mut Tally,
    ) -> Result<bool, CellFault> {
        let most = self.disclosed(source)?;
        let Found { spans, present, counts, .. } = &mut self.found;
        if most > 0 && disclosing_max.is_some_and(|max| tally.rows.saturating_add(most) > max) {
            for column in present.drain(..) {
                spans[column].pop();
            }
            return Ok(false);
        }
        present.clear();
        tally.rows += most;
        for ((_, rows), count) in tally.rows_by_label.iter_mut().zip(counts) {
            *rows += *count;
        }
        Ok(true)
    }

    /// Opens column by column, and hands what is shown to `write`, and room for a number for each column.
    pub(super) fn opened(
        &mut self,
        source: &[u8],
        style: &Style,
        tally: &mut Tally,
        write: impl FnOnce(&RowOpener, &mut Vec<usize>, &[Cells]) -> Result<(), Violation>,
    ) -> Result<(), CellFault> {
        let mut scratch = std::mem::take(&mut self.scratch);
        let mut next = std::mem::take(&mut self.found.next);
        next.clear();
        next.resize(self.columns.len(), 0);
        let result = self.show(source, style, &mut scratch, tally);
        let result = result.and_then(|()| write(self, &mut next, &scratch.shown).map_err(row_fault));
        scratch.clear();
        (self.scratch, self.found.next) = (scratch, next);
        result
    }

    /// Fills `scratch.shown`: for each opened column its cells that are not NULL, as they are shown.
    fn show(
        &self,
        source: &[u8],
        style: &Style,
        scratch: &mut Scratch,
        tally: &mut Tally,
    ) -> Result<(), CellFault> {
        let Scratch { sealed, plain, masked, shown } = scratch;
        for ((column, spans), shown) in self.columns.iter().zip(&self.found.spans).zip(shown) {
            if let Some(inside) = &column.inside {
                let values = spans.iter().filter_map(|span| source.get(span.start..span.end));
                nested::show(column, inside, values, style, shown, tally)?;
                continue;
            }
            if spans.is_empty() || !column.discloses() {
                continue;
            }
            let batch = match column.comes {
                Format::Binary => Batch { bytes: source, spans },
                Format::Text => {
                    sealed.clear();
                    let decoded = unhex_cells(source, spans, sealed);
                    decoded.ok_or_else(|| column.fault(FaultCause::NotOpened(OpenCause::NotAnEnvelope)))?;
                    sealed.batch()
                }
            };
            let room = Room { plain: &mut *plain, masked: &mut *masked, shown };
            column.show_whole(batch, style, room)?;
            let cells = u64::try_from(spans.len()).unwrap_or(u64::MAX);
            tally.cells.push((column.label.clone(), column.disclosure.kind(), cells));
        }
        Ok(())
    }

    /// The next cell of an opened column as it is shown; `None`: not at all.
    #[inline]
    pub(super) fn take<'s>(&self, column: usize, next: &mut [usize], shown: &'s [Cells]) -> Option<&'s [u8]> {
        self.place(column, next, shown).map(|(bytes, span)| &bytes[span.start..span.end])
    }

    /// As [`take`](Self::take), and where among the others it stands.
    #[inline]
    fn place<'s>(&self, column: usize, next: &mut [usize], shown: &'s [Cells]) -> Option<(&'s [u8], Span)> {
        let at = next[column];
        next[column] += 1;
        let Batch { bytes, spans } = shown[column].batch();
        self.columns[column].shows().then(|| (bytes, spans[at]))
    }

    /// Writes the rows with what is shown in place of the cells.
    fn rebuild(
        &self,
        bytes: &[u8],
        next: &mut [usize],
        shown: &[Cells],
        out: &mut BytesMut,
    ) -> Result<(), Violation> {
        let start = out.len();
        let longer: usize = shown.iter().map(Cells::bytes_total).sum();
        out.resize(start + bytes.len() + longer + STRIDE, 0);
        let mut splice = Splice { out: out.get_mut(start..).unwrap_or_default(), at: 0 };
        let (mut from, mut at) = (0, 0);
        let mut result = Ok(());
        while at < bytes.len() {
            let row = rows::message(bytes, at)?;
            at = row.end;
            let mut length_at = None;
            for (column, spans) in self.found.spans.iter().enumerate() {
                let Some(cell) = spans.get(next[column]).filter(|cell| cell.start < row.end) else {
                    continue;
                };
                if length_at.is_none() {
                    splice.copy(bytes, Span { start: from, end: row.start + 1 });
                    length_at = Some(splice.at);
                    from = row.start + 1;
                }
                splice.copy(bytes, Span { start: from, end: cell.start - 4 });
                from = cell.end;
                match self.place(column, next, shown) {
                    None => splice.word(-1),
                    Some((bytes, span)) => {
                        splice.word(i32::try_from(span.len()).unwrap_or(i32::MAX));
                        splice.copy(bytes, span);
                    }
                }
            }
            if let Some(length_at) = length_at {
                // What of the row is still to be copied counts, too.
                let length = i32::try_from(splice.at - length_at + row.end - from);
                match (length, splice.out.get_mut(length_at..).and_then(|rest| rest.first_chunk_mut())) {
                    (Ok(length), Some(field)) => *field = length.to_be_bytes(),
                    _ => result = Err(Violation::new("row is longer than a message can be")),
                }
            }
        }
        splice.copy(bytes, Span { start: from, end: bytes.len() });
        let end = start + splice.at;
        out.truncate(if result.is_ok() { end } else { start });
        result
    }
}

fn row_fault(violation: Violation) -> CellFault {
    CellFault { column: String::new(), cause: FaultCause::Row(violation) }
}

/// Cells as `bytea_output = hex` sends them in text format: `\x` and hex digits.
fn unhex_cells(source: &[u8], spans: &[Span], cells: &mut Cells) -> Option<()> {
    let lengths = spans.iter().map(|span| span.len().saturating_sub(2) / 2);
    cells.push_all(lengths, 0, |bytes, to| {
        for (span, to) in spans.iter().zip(to) {
            let digits = source.get(span.start..span.end)?.strip_prefix(b"\\x")?;
            faster_hex::hex_decode(digits, bytes.get_mut(to.start..to.end)?).ok()?;
        }
        Some(())
    })
}

pub(super) fn unhex(digits: &[u8], bytes: &mut Vec<u8>) -> Option<()> {
    let start = bytes.len();
    bytes.resize(start + digits.len() / 2, 0);
    faster_hex::hex_decode(digits, bytes.get_mut(start..)?).ok().map(|_| ())
}

//! How much a row counts against a limit: what it shows, not how it is laid out.
//!
//! One row of a result may hold what many rows of a table hold: a table joined with itself, a document made of a hundred rows, a
//! hundred columns side by side. Guarantees: a row counts as often as it shows different cells of one column of a table in different
//! places, at least as often as it shows cells in any one of them, and once where it shows any; the same cell beside itself
//! counts once. Columns that nobody tagged count as one column where they are of one domain: whoever makes a table can lay rows out
//! side by side in it. Tagged ones do not, since a first name and a last name are one person's. Deliberately absent: what limits there are (the relay knows), and which person a cell is of (`person`).

use super::nested::Found;
use super::open::{self, CellFault, OpenColumn, RowOpener};
use crate::crypto::{DomainId, Span};
use crate::value::Format;
use std::borrow::Cow;
use std::sync::Arc;

/// The header and the SIV of a deterministic cell.
const CELL_BYTES_LEAST: usize = 21;

/// Where a label is disclosed.
pub(super) struct Label {
    pub(super) name: Arc<str>,
    kinds: Vec<Kind>,
}

/// Where cells that are different are of different rows.
struct Kind {
    domain: Option<DomainId>,
    /// The tagged column of a table that they are of; `None`: any that nobody tagged.
    column: Option<String>,
    /// Opened columns.
    columns: Vec<usize>,
    /// (opened column, leaf) of those that stand inside of values.
    leaves: Vec<(usize, usize)>,
}

impl Kind {
    fn places(&self) -> usize {
        self.columns.len() + self.leaves.len()
    }
}

impl Label {
    /// Every label that these columns disclose.
    pub(super) fn all_of(columns: &[OpenColumn]) -> Vec<Label> {
        let mut labels: Vec<Label> = Vec::new();
        for (at, column) in columns.iter().enumerate() {
            match column.inside {
                None => Label::enter(&mut labels, column, |kind| kind.columns.push(at)),
                Some(_) => {
                    for (leaf, cells) in column.leaves.iter().enumerate() {
                        Label::enter(&mut labels, cells, |kind| kind.leaves.push((at, leaf)));
                    }
                }
            }
        }
        labels
    }

    fn enter(labels: &mut Vec<Label>, cells: &OpenColumn, place: impl FnOnce(&mut Kind)) {
        if !cells.discloses() {
            return;
        }
        let known = labels.iter().position(|label| label.name == cells.label).unwrap_or_else(|| {
            labels.push(Label { name: cells.label.clone(), kinds: vec![] });
            labels.len() - 1
        });
        let kinds = &mut labels[known].kinds;
        // Without a key nothing opens.
        let domain = cells.cipher.as_ref().map(|cipher| cipher.domain());
        let column = Some(&cells.name).filter(|_| !cells.by_type);
        let same = |kind: &Kind| kind.domain == domain && kind.column.as_ref() == column;
        let kind = kinds.iter().position(same).unwrap_or_else(|| {
            kinds.push(Kind { domain, column: column.cloned(), columns: vec![], leaves: vec![] });
            kinds.len() - 1
        });
        place(&mut kinds[kind]);
    }
}

/// A cell inside of a value of the row that is being read.
struct Inner {
    /// (opened column, leaf)
    place: (usize, usize),
    cell: Vec<u8>,
}

impl RowOpener {
    /// From now on each row counts, whatever cells it shows: it has what its labels do not tell.
    pub fn count_every_row(&mut self, every_row: bool) {
        self.every_row = every_row;
    }

    /// Counts the rows that this row discloses of each label, and gives the most of them.
    pub(super) fn disclosed(&mut self, source: &[u8]) -> Result<u64, CellFault> {
        let inner = if self.nested { self.inner(source)? } else { vec![] };
        let RowOpener { columns, labels, found: open::Found { spans, present, counts, .. }, .. } = self;
        counts.clear();
        counts.extend(labels.iter().map(|label| {
            let of_kind = |kind: &Kind| weight(kind, source, columns, spans, present, &inner);
            label.kinds.iter().map(of_kind).max().unwrap_or(0)
        }));
        Ok(counts.iter().copied().max().unwrap_or(0).max(u64::from(self.every_row)))
    }

    fn inner(&self, source: &[u8]) -> Result<Vec<Inner>, CellFault> {
        let mut cells = vec![];
        for at in &self.found.present {
            let column = &self.columns[*at];
            let (Some(inside), Some(span)) = (&column.inside, self.found.spans[*at].last()) else { continue };
            let wire = source.get(span.start..span.end).unwrap_or_default();
            inside.each_cell(column, wire, |leaf, cell| {
                cells.push(Inner { place: (*at, leaf), cell: cell.cell().into_owned() });
            })?;
        }
        Ok(cells)
    }

    /// As many rows as `rows` rows of together `bytes` could disclose.
    pub fn rows_at_most_of(&self, rows: usize, bytes: usize) -> u64 {
        let widest = self.labels.iter().flat_map(|label| &label.kinds).map(Kind::places).max().unwrap_or(0);
        // No cell is shorter than the least envelope.
        let inside = if self.nested { bytes / CELL_BYTES_LEAST } else { rows * widest.saturating_sub(1) };
        u64::try_from(rows + inside).unwrap_or(u64::MAX)
    }
}

fn weight(
    kind: &Kind,
    source: &[u8],
    columns: &[OpenColumn],
    spans: &[Vec<Span>],
    present: &[usize],
    inner: &[Inner],
) -> u64 {
    let shown = kind.columns.iter().filter(|column| present.contains(column));
    if kind.places() == 1 {
        let within = |inner: &&Inner| kind.leaves.contains(&inner.place);
        return count(shown.count() + inner.iter().filter(within).count());
    }
    let cell = |at: &usize| {
        let span = spans[*at].last()?;
        let cell = source.get(span.start..span.end)?;
        Some(match columns[*at].comes {
            Format::Text => Found::in_text(cell).cell(),
            Format::Binary => Cow::Borrowed(cell),
        })
    };
    let mut cells: Vec<Cow<'_, [u8]>> = shown.filter_map(cell).collect();
    let mut most = usize::from(!cells.is_empty());
    for leaf in &kind.leaves {
        let before = cells.len();
        let own = inner.iter().filter(|inner| inner.place == *leaf);
        cells.extend(own.map(|inner| Cow::Borrowed(inner.cell.as_slice())));
        most = most.max(cells.len() - before);
    }
    cells.sort_unstable();
    cells.dedup();
    count(cells.len().max(most))
}

fn count(cells: usize) -> u64 {
    u64::try_from(cells).unwrap_or(u64::MAX)
}

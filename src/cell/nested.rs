//! Cells inside other values: arrays of them (`array_agg`), and JSON documents (`json_agg(row_to_json(c))`).
//!
//! Guarantees: as for cells by themselves: nothing is opened without a disclosure, what is withheld is NULL (`null`), and a
//! cell that does not open is a fault. All cells of one place that one read brought are opened as one batch. What stands
//! between the cells keeps its bytes. Deliberately absent: arrays of several dimensions, which lineage refuses.

use super::open::{CellFault, FaultCause, OpenColumn, Room, Tally, unhex};
use super::places::{Spot, spots};
use crate::crypto::{Cells, OpenCause};
use crate::plan::Node;
use crate::value::{Format, Style, array_elements, write_array};
use zeroize::Zeroizing;

/// What is known of a column whose values hold cells.
pub(super) enum Inside {
    /// One leaf.
    Array,
    Document(Node),
}

/// One value of such a column, taken apart.
enum Taken {
    Array(Vec<Option<Vec<u8>>>),
    Document(Vec<Spot>),
}

impl Taken {
    /// The leaf of every cell, in order.
    fn leaves<'t>(&'t self, wire: &'t [u8]) -> Box<dyn Iterator<Item = usize> + 't> {
        match self {
            Taken::Array(elements) => Box::new(elements.iter().flatten().map(|_| 0)),
            Taken::Document(found) => {
                Box::new(found.iter().filter(|spot| spot.digits(wire).is_some()).map(|spot| spot.leaf))
            }
        }
    }
}

impl Inside {
    fn take(&self, column: &OpenColumn, wire: &[u8]) -> Result<Taken, CellFault> {
        let malformed = || column.fault(FaultCause::Malformed);
        match self {
            Inside::Array => array_elements(column.format, wire).map(Taken::Array).map_err(|_| malformed()),
            Inside::Document(node) => spots(wire, node).map(Taken::Document).ok_or_else(malformed),
        }
    }

    /// How many cells of each leaf stand in a value.
    ///
    /// # Errors
    /// It is not of its type.
    pub(super) fn count(
        &self,
        column: &OpenColumn,
        wire: &[u8],
        counts: &mut [u64],
    ) -> Result<(), CellFault> {
        for leaf in self.take(column, wire)?.leaves(wire) {
            if let Some(count) = counts.get_mut(leaf) {
                *count += 1;
            }
        }
        Ok(())
    }
}

/// Rebuilds the values of one column, those that are not NULL, into `shown`.
pub(super) fn show<'w>(
    column: &OpenColumn,
    inside: &Inside,
    values: impl Iterator<Item = &'w [u8]>,
    style: &Style,
    fingerprint_key: &[u8],
    shown: &mut Cells,
    tally: &mut Tally,
) -> Result<(), CellFault> {
    let leaves = &column.leaves;
    let mut sealed: Vec<Cells> = leaves.iter().map(|_| Cells::new()).collect();
    let mut taken = vec![];
    for wire in values {
        let value = inside.take(column, wire)?;
        collect(column, &value, wire, &mut sealed)?;
        taken.push((value, wire));
    }
    let mut opened = vec![];
    for (leaf, sealed) in leaves.iter().zip(&sealed) {
        let cells = open(leaf, inside, sealed, style, fingerprint_key)?;
        if !cells.is_empty() {
            tally.cells.push((leaf.label.clone(), leaf.disclosure.name(), cells.len() as u64));
        }
        opened.push(cells);
    }
    let mut next = vec![0_usize; leaves.len()];
    for (value, wire) in taken {
        // Nothing gets longer than an array makes an element: two bytes for one, and quotes.
        let (mut coming, mut growth) = (next.clone(), 0);
        for leaf in value.leaves(wire) {
            growth += 8;
            if leaves[leaf].discloses() {
                growth += 2 * opened[leaf].get(coming[leaf]).len();
                coming[leaf] += 1;
            }
        }
        shown.reserve(wire.len() + growth);
        match value {
            Taken::Array(elements) => {
                let shows = leaves[0].discloses();
                let mut whole = vec![];
                for element in &elements {
                    whole.push(element.as_ref().filter(|_| shows).map(|_| {
                        next[0] += 1;
                        opened[0].get(next[0] - 1)
                    }));
                }
                let oid = leaves[0].data_type.oid();
                shown.push_with(|out| write_array(column.format, oid, whole.into_iter(), out));
            }
            Taken::Document(found) => shown.push_with(|out| {
                let mut from = 0;
                for spot in found {
                    let leaf = &leaves[spot.leaf];
                    let replaced = spot.digits(wire).is_some();
                    out.extend_from_slice(wire.get(from..spot.token.start).unwrap_or_default());
                    from = if replaced { spot.token.end } else { spot.token.start };
                    if replaced && leaf.discloses() {
                        next[spot.leaf] += 1;
                        out.extend_from_slice(opened[spot.leaf].get(next[spot.leaf] - 1));
                    } else if replaced {
                        out.extend_from_slice(b"null");
                    }
                }
                out.extend_from_slice(wire.get(from..).unwrap_or_default());
            }),
        }
    }
    Ok(())
}

/// The cells of one value, to those of their leaves that show something.
fn collect(column: &OpenColumn, value: &Taken, wire: &[u8], sealed: &mut [Cells]) -> Result<(), CellFault> {
    let leaves = &column.leaves;
    let mut push = |leaf: usize, digits: Option<&[u8]>, bytes: &[u8]| -> Result<(), CellFault> {
        let fault = || leaves[leaf].fault(FaultCause::NotOpened(OpenCause::NotAnEnvelope));
        match digits {
            Some(digits) => {
                sealed[leaf].reserve(digits.len() / 2);
                sealed[leaf].push_with(|out| unhex(digits, out)).ok_or_else(fault)
            }
            None => {
                sealed[leaf].push(bytes);
                Ok(())
            }
        }
    };
    match value {
        Taken::Array(elements) => {
            for element in elements.iter().flatten().filter(|_| leaves[0].discloses()) {
                match column.format {
                    Format::Binary => push(0, None, element)?,
                    // Without its `\x` it is nothing that opens.
                    Format::Text => push(0, Some(element.strip_prefix(b"\\x").unwrap_or(b"x")), element)?,
                }
            }
        }
        Taken::Document(found) => {
            for spot in found.iter().filter(|spot| leaves[spot.leaf].discloses()) {
                if let Some(digits) = spot.digits(wire) {
                    push(spot.leaf, Some(digits), digits)?;
                }
            }
        }
    }
    Ok(())
}

/// Opens one leaf's cells and gives them the form of their place.
fn open(
    leaf: &OpenColumn,
    inside: &Inside,
    sealed: &Cells,
    style: &Style,
    fingerprint_key: &[u8],
) -> Result<Cells, CellFault> {
    let mut shown = Cells::new();
    if sealed.is_empty() {
        return Ok(shown);
    }
    let (mut plain, mut masked) = (Cells::new(), Zeroizing::new(Vec::new()));
    let room = Room { plain: &mut plain, masked: &mut masked, shown: &mut shown };
    // Six bytes of JSON at most for one of text, and room for numbers and dates.
    let longest = |bytes: usize| 6 * bytes + 64;
    leaf.show(sealed, fingerprint_key, room, longest, |canonical, out| match inside {
        Inside::Array => leaf.data_type.write(canonical, leaf.format, style, out),
        Inside::Document(_) => leaf.data_type.write_json(canonical, style, out),
    })?;
    Ok(shown)
}

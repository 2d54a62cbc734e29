//! Cells inside other values: arrays of them (`array_agg`), row values, JSON documents (`json_agg(row_to_json(c))`), and
//! defaults of sealed columns, as the catalogs print them.
//!
//! Guarantees: as for cells by themselves: nothing is opened without a disclosure, what is withheld is NULL (`null`), and a
//! cell that does not open is a fault. All cells of one place that one read brought are opened as one batch. What stands
//! between the cells keeps its bytes. Deliberately absent: arrays of several dimensions, which lineage refuses.

use super::open::{CellFault, FaultCause, OpenColumn, Room, Tally, unhex};
use super::places::{Spot, spots};
use super::tree::{self, Item, Printer};
use super::{literal, record};
use crate::crypto::{Cells, OpenCause};
use crate::plan::{DefaultSlot, Node};
use crate::value::{Format, Style, array_elements, write_array};
use std::borrow::Cow;
use zeroize::Zeroizing;

/// What is known of a column whose values hold cells.
pub(super) enum Inside {
    /// One leaf.
    Array,
    Document(Node),
    /// A row value: the node is a `Tuple`.
    Record(Node),
    /// A text that is one of these, or another. One leaf for each.
    Default(Vec<DefaultSlot>),
    /// Rows inside of rows or arrays.
    Tree(Node),
}

impl Inside {
    /// A row, or an array of rows.
    pub(super) fn of_rows(node: &Node) -> Inside {
        match node {
            Node::Tuple(fields)
                if fields.iter().all(|field| matches!(field, Node::Plain | Node::Leaf(_))) =>
            {
                Inside::Record(node.clone())
            }
            other => Inside::Tree(other.clone()),
        }
    }
}

/// One value of such a column, taken apart.
enum Taken {
    Array(Vec<Option<Vec<u8>>>),
    Document(Vec<Spot>),
    Record(Format, Vec<Spot>),
    /// Which one it is, and its cell.
    Default(Option<(usize, Vec<u8>)>),
    Tree(Item),
}

/// The bytes of a cell as they stand in a value.
pub(super) enum Found<'w> {
    Hex(&'w [u8]),
    Raw(&'w [u8]),
}

impl<'w> Found<'w> {
    /// As the server spells a cell in a text; without its `\x` it is nothing that opens.
    pub(super) fn in_text(text: &'w [u8]) -> Found<'w> {
        Found::Hex(text.strip_prefix(b"\\x").unwrap_or(b"x"))
    }

    /// The cell itself; what is none is kept as it is.
    pub(super) fn cell(&self) -> Cow<'w, [u8]> {
        match self {
            Found::Raw(cell) => Cow::Borrowed(cell),
            Found::Hex(digits) => {
                let mut cell = Vec::new();
                match unhex(digits, &mut cell) {
                    Some(()) => Cow::Owned(cell),
                    None => Cow::Borrowed(digits),
                }
            }
        }
    }
}

/// The cell at a spot of a row; `None` where no cell stands.
fn in_record<'w>(format: Format, spot: &Spot, wire: &'w [u8]) -> Option<Found<'w>> {
    match format {
        Format::Text => spot.digits(wire).map(Found::Hex),
        Format::Binary => record::binary_value(wire, spot).map(Found::Raw),
    }
}

impl Taken {
    /// Every cell in order, with its leaf. `format` is that of the whole value.
    fn cells<'t>(
        &'t self,
        format: Format,
        wire: &'t [u8],
    ) -> Box<dyn Iterator<Item = (usize, Found<'t>)> + 't> {
        match self {
            Taken::Array(elements) => {
                let elements = elements.iter().flatten().map(Vec::as_slice);
                Box::new(elements.map(move |element| match format {
                    Format::Binary => (0, Found::Raw(element)),
                    Format::Text => (0, Found::in_text(element)),
                }))
            }
            Taken::Document(found) => {
                Box::new(found.iter().filter_map(|spot| Some((spot.leaf, Found::Hex(spot.digits(wire)?)))))
            }
            Taken::Record(format, found) => {
                Box::new(found.iter().filter_map(|spot| Some((spot.leaf, in_record(*format, spot, wire)?))))
            }
            Taken::Default(found) => Box::new(found.iter().map(|(leaf, cell)| (*leaf, Found::Raw(cell)))),
            Taken::Tree(item) => Box::new(item.cells().into_iter().map(move |(leaf, cell)| match format {
                Format::Binary => (leaf, Found::Raw(cell)),
                Format::Text => (leaf, Found::Hex(cell)),
            })),
        }
    }

    /// The leaf of every cell, in order.
    fn leaves<'t>(&'t self, format: Format, wire: &'t [u8]) -> impl Iterator<Item = usize> + 't {
        self.cells(format, wire).map(|(leaf, _)| leaf)
    }
}

impl Inside {
    fn take(&self, column: &OpenColumn, wire: &[u8]) -> Result<Taken, CellFault> {
        let malformed = || column.fault(FaultCause::Malformed);
        match self {
            Inside::Array => array_elements(column.format, wire).map(Taken::Array).map_err(|_| malformed()),
            Inside::Document(node) => spots(wire, node).map(Taken::Document).ok_or_else(malformed),
            Inside::Record(node) => {
                let found = record::fields(column.format, wire, node).ok_or_else(malformed)?;
                Ok(Taken::Record(column.format, found))
            }
            Inside::Default(defaults) => {
                let is_text =
                    |default: &DefaultSlot| default.texts.iter().any(|text| text.as_bytes() == wire);
                let found = defaults.iter().position(is_text);
                Ok(Taken::Default(found.map(|leaf| (leaf, defaults[leaf].cell.clone()))))
            }
            Inside::Tree(node) => {
                tree::read(column.format, wire, node).map(Taken::Tree).ok_or_else(malformed)
            }
        }
    }

    /// Hands every cell of a value to `each`, with its leaf.
    ///
    /// # Errors
    /// It is not of its type.
    pub(super) fn each_cell(
        &self,
        column: &OpenColumn,
        wire: &[u8],
        mut each: impl FnMut(usize, Found<'_>),
    ) -> Result<(), CellFault> {
        let taken = self.take(column, wire)?;
        taken.cells(column.format, wire).for_each(|(leaf, cell)| each(leaf, cell));
        Ok(())
    }
}

/// Rebuilds the values of one column, those that are not NULL, into `shown`.
pub(super) fn show<'w>(
    column: &OpenColumn,
    inside: &Inside,
    values: impl Iterator<Item = &'w [u8]>,
    style: &Style,
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
        let cells = open(leaf, inside, sealed, style)?;
        if !cells.is_empty() {
            tally.cells.push((leaf.label.clone(), leaf.disclosure.kind(), cells.len() as u64));
        }
        opened.push(cells);
    }
    let mut next = vec![0_usize; leaves.len()];
    for (value, wire) in taken {
        // Nothing gets longer than an array makes an element: two bytes for one, and quotes.
        let (mut coming, mut growth) = (next.clone(), 0);
        if let Taken::Tree(_) = value {
            // It is printed in pieces of its own.
            growth += wire.len();
        }
        for leaf in value.leaves(column.format, wire) {
            growth += 8;
            if leaves[leaf].discloses() {
                growth += 2 * opened[leaf].get(coming[leaf]).len();
                coming[leaf] += 1;
            }
        }
        shown.reserve(wire.len() + growth);
        let mut opened = Opened { leaves, cells: &opened, next: &mut next };
        shown.push_with(|out| match value {
            Taken::Array(elements) => opened.array(column.format, &elements, wire, out),
            Taken::Document(found) => opened.document(&found, wire, out),
            Taken::Record(format, found) => opened.record(format, &found, wire, out),
            // What is withheld is shown as it is stored.
            Taken::Default(found) => {
                out.extend_from_slice(found.and_then(|(leaf, _)| opened.take(leaf)).unwrap_or(wire))
            }
            Taken::Tree(item) => opened.tree(column.format, inside, &item, out),
        });
    }
    Ok(())
}

/// The opened cells of each leaf, taken one after the other.
struct Opened<'o> {
    leaves: &'o [OpenColumn],
    cells: &'o [Cells],
    next: &'o mut [usize],
}

impl Opened<'_> {
    /// The value of the leaf's next cell; `None` when it is withheld.
    fn take(&mut self, leaf: usize) -> Option<&[u8]> {
        self.leaves[leaf].discloses().then(|| {
            self.next[leaf] += 1;
            self.cells[leaf].get(self.next[leaf] - 1)
        })
    }

    fn array(&mut self, format: Format, elements: &[Option<Vec<u8>>], wire: &[u8], out: &mut Vec<u8>) {
        let (leaf, cells, start) = (&self.leaves[0], &self.cells[0], out.len());
        let shows = leaf.discloses();
        let whole: Vec<_> = elements
            .iter()
            .map(|element| {
                element.as_ref().filter(|_| shows).map(|_| {
                    self.next[0] += 1;
                    cells.get(self.next[0] - 1)
                })
            })
            .collect();
        write_array(format, leaf.data_type.oid(), whole.into_iter(), out);
        // A slice keeps its flag for NULLs without having any.
        if format == Format::Binary
            && let (Some(flag), Some(1)) = (out.get_mut(start + 7), wire.get(7))
        {
            *flag = 1;
        }
    }

    fn document(&mut self, found: &[Spot], wire: &[u8], out: &mut Vec<u8>) {
        let mut from = 0;
        for spot in found.iter().filter(|spot| spot.digits(wire).is_some()) {
            out.extend_from_slice(wire.get(from..spot.token.start).unwrap_or_default());
            from = spot.token.end;
            out.extend_from_slice(self.take(spot.leaf).unwrap_or(b"null"));
        }
        out.extend_from_slice(wire.get(from..).unwrap_or_default());
    }

    fn tree(&mut self, format: Format, inside: &Inside, item: &Item, out: &mut Vec<u8>) {
        let Inside::Tree(node) = inside else { return };
        let leaves = self.leaves;
        let types = |leaf: usize| (leaves[leaf].data_type.oid(), leaves[leaf].data_type.array_oid());
        let mut take = |leaf: usize| self.take(leaf).map(|shown| Zeroizing::new(shown.to_vec()));
        Printer { format, take: &mut take, types: &types }.print(item, node, out);
    }

    fn record(&mut self, format: Format, found: &[Spot], wire: &[u8], out: &mut Vec<u8>) {
        let mut from = 0;
        for spot in found {
            out.extend_from_slice(wire.get(from..spot.token.start).unwrap_or_default());
            from = spot.token.end;
            let is_cell = in_record(format, spot, wire).is_some();
            let oid = self.leaves[spot.leaf].data_type.oid();
            let value = if is_cell { self.take(spot.leaf) } else { None };
            match (format, value) {
                (Format::Binary, value) => record::write_binary(oid, value, out),
                (Format::Text, Some(value)) => record::write_text(value, out),
                (Format::Text, None) if is_cell => {}
                // What is no cell stays.
                (Format::Text, None) => {
                    out.extend_from_slice(wire.get(spot.token.clone()).unwrap_or_default());
                }
            }
        }
        out.extend_from_slice(wire.get(from..).unwrap_or_default());
    }
}

/// The cells of one value, to those of their leaves that show something.
fn collect(column: &OpenColumn, value: &Taken, wire: &[u8], sealed: &mut [Cells]) -> Result<(), CellFault> {
    let leaves = &column.leaves;
    for (leaf, cell) in value.cells(column.format, wire).filter(|(leaf, _)| leaves[*leaf].discloses()) {
        let fault = || leaves[leaf].fault(FaultCause::NotOpened(OpenCause::NotAnEnvelope));
        match cell {
            Found::Hex(digits) => {
                sealed[leaf].reserve(digits.len() / 2);
                sealed[leaf].push_with(|out| unhex(digits, out)).ok_or_else(fault)?;
            }
            Found::Raw(cell) => sealed[leaf].push(cell),
        }
    }
    Ok(())
}

/// Opens one leaf's cells and gives them the form of their place.
fn open(leaf: &OpenColumn, inside: &Inside, sealed: &Cells, style: &Style) -> Result<Cells, CellFault> {
    let mut shown = Cells::new();
    if sealed.is_empty() {
        return Ok(shown);
    }
    let (mut plain, mut masked) = (Cells::new(), Zeroizing::new(Vec::new()));
    let room = Room { plain: &mut plain, masked: &mut masked, shown: &mut shown };
    // Six bytes of JSON at most for one of text, and room for numbers and dates.
    let longest = |bytes: usize| 6 * bytes + 64;
    leaf.show(sealed.batch(), room, longest, |canonical, out| match inside {
        Inside::Array | Inside::Record(_) | Inside::Tree(_) => {
            leaf.data_type.write(canonical, leaf.format, style, out)
        }
        Inside::Document(_) => leaf.data_type.write_json(canonical, style, out),
        Inside::Default(_) => {
            let mut text = Zeroizing::new(Vec::new());
            leaf.data_type.write(canonical, Format::Text, style, &mut text)?;
            literal::write(&leaf.data_type, &text, out);
            Ok(())
        }
    })?;
    Ok(shown)
}

//! Cells in rows inside of rows, and in arrays of rows: such a value is taken apart, and printed again with what is shown.
//!
//! Guarantees: total on any bytes; what is not of the shape that lineage knows is no such value. What holds no cell keeps its
//! bytes, but for the quotes that stand around it. Deliberately absent: arrays of several dimensions or with bounds.

use super::record;
use crate::plan::Node;
use crate::value::{Format, array_elements, write_array};
use zeroize::Zeroizing;

/// A value, as far as cells stand in it.
pub(super) enum Item {
    Null,
    /// A plain value; in text, inside of a row, as it was spelled there.
    Kept(Vec<u8>),
    /// A cell of this leaf: its hex digits in text, itself in binary.
    Cell(usize, Vec<u8>),
    /// Fields, each with its type in binary.
    Row(Vec<(u32, Item)>),
    /// Elements, with their type in binary.
    Array(u32, Vec<Item>),
}

/// How deep rows may stand in each other: what is sent is printed by the server, which was asked for it by name.
const DEPTH_MAX: u32 = 64;

/// Reads a value. `None`: it is none of this shape.
pub(super) fn read(format: Format, wire: &[u8], node: &Node) -> Option<Item> {
    read_at(format, wire, node, 0)
}

fn read_at(format: Format, wire: &[u8], node: &Node, depth: u32) -> Option<Item> {
    if depth > DEPTH_MAX {
        return None;
    }
    match node {
        Node::Plain => Some(Item::Kept(wire.to_vec())),
        Node::Leaf(leaf) => Some(match format {
            Format::Binary => Item::Cell(*leaf, wire.to_vec()),
            Format::Text => match wire.strip_prefix(b"\\x") {
                Some(digits) => Item::Cell(*leaf, digits.to_vec()),
                None => Item::Kept(wire.to_vec()),
            },
        }),
        Node::Tuple(nodes) => {
            let fields = record::split(format, wire)?;
            if fields.len() != nodes.len() {
                return None;
            }
            let field = |(node, field): (&Node, std::ops::Range<usize>)| {
                let spelled = wire.get(field)?;
                let (oid, value) = record::value(format, spelled)?;
                let item = match (value, node, format) {
                    (None, _, _) => Item::Null,
                    // With its quotes.
                    (Some(_), Node::Plain, Format::Text) => Item::Kept(spelled.to_vec()),
                    (Some(value), node, _) => read_at(format, &value, node, depth + 1)?,
                };
                Some((oid, item))
            };
            nodes.iter().zip(fields).map(field).collect::<Option<_>>().map(Item::Row)
        }
        Node::Each(each) => {
            let oid = match format {
                Format::Binary => u32::from_be_bytes(*wire.get(8..)?.first_chunk::<4>()?),
                Format::Text => 0,
            };
            let element = |element: Option<Vec<u8>>| match element {
                None => Some(Item::Null),
                Some(value) => read_at(format, &value, each, depth + 1),
            };
            let elements = array_elements(format, wire).ok()?;
            elements.into_iter().map(element).collect::<Option<_>>().map(|items| Item::Array(oid, items))
        }
        // No document stands in a row.
        Node::Object(_) | Node::Map(_) => None,
    }
}

impl Item {
    /// Every cell, in order.
    pub(super) fn cells(&self) -> Vec<(usize, &[u8])> {
        let mut cells = vec![];
        self.collect(&mut cells);
        cells
    }

    fn collect<'i>(&'i self, cells: &mut Vec<(usize, &'i [u8])>) {
        match self {
            Item::Null | Item::Kept(_) => {}
            Item::Cell(leaf, bytes) => cells.push((*leaf, bytes)),
            Item::Row(fields) => fields.iter().for_each(|(_, item)| item.collect(cells)),
            Item::Array(_, items) => items.iter().for_each(|item| item.collect(cells)),
        }
    }
}

/// Prints a value again.
pub(super) struct Printer<'p> {
    pub(super) format: Format,
    /// What is shown of the leaf's next cell; `None`: it is withheld.
    pub(super) take: &'p mut dyn FnMut(usize) -> Option<Zeroizing<Vec<u8>>>,
    /// The logical type of a leaf, and that of arrays of it.
    pub(super) types: &'p dyn Fn(usize) -> (u32, u32),
}

impl Printer<'_> {
    /// Appends the value; false when it is NULL.
    pub(super) fn print(&mut self, item: &Item, node: &Node, out: &mut Vec<u8>) -> bool {
        match (item, node) {
            (Item::Null, _) => false,
            (Item::Kept(bytes), _) => {
                out.extend_from_slice(bytes);
                true
            }
            (Item::Cell(leaf, _), _) => match (self.take)(*leaf) {
                Some(shown) => {
                    out.extend_from_slice(&shown);
                    true
                }
                None => false,
            },
            (Item::Row(fields), Node::Tuple(nodes)) => {
                self.row(fields, nodes, out);
                true
            }
            (Item::Array(oid, items), Node::Each(each)) => {
                self.array(*oid, items, each, out);
                true
            }
            // What was read by a node is printed by it.
            (Item::Row(_) | Item::Array(..), _) => false,
        }
    }

    fn row(&mut self, fields: &[(u32, Item)], nodes: &[Node], out: &mut Vec<u8>) {
        match self.format {
            Format::Text => out.push(b'('),
            Format::Binary => {
                out.extend_from_slice(&u32::try_from(fields.len()).unwrap_or(u32::MAX).to_be_bytes())
            }
        }
        for (index, ((oid, item), node)) in fields.iter().zip(nodes).enumerate() {
            let mut value = Zeroizing::new(vec![]);
            let value = self.print(item, node, &mut value).then_some(value);
            match self.format {
                Format::Text => {
                    if index > 0 {
                        out.push(b',');
                    }
                    match (node, value) {
                        (_, None) => {}
                        (Node::Plain, Some(spelled)) => out.extend_from_slice(&spelled),
                        (_, Some(value)) => record::write_text(&value, out),
                    }
                }
                Format::Binary => {
                    record::write_binary(
                        self.oid(*oid, node),
                        value.as_ref().map(|value| value.as_slice()),
                        out,
                    );
                }
            }
        }
        if self.format == Format::Text {
            out.push(b')');
        }
    }

    fn array(&mut self, oid: u32, items: &[Item], each: &Node, out: &mut Vec<u8>) {
        let values: Vec<Option<Zeroizing<Vec<u8>>>> = items
            .iter()
            .map(|item| {
                let mut value = Zeroizing::new(vec![]);
                self.print(item, each, &mut value).then_some(value)
            })
            .collect();
        let whole = values.iter().map(|value| value.as_ref().map(|value| value.as_slice()));
        write_array(self.format, self.oid(oid, each), whole, out);
    }

    /// The type that a value is sent with in binary, as it is logically.
    fn oid(&self, own: u32, node: &Node) -> u32 {
        match node {
            Node::Leaf(leaf) => (self.types)(*leaf).0,
            Node::Each(each) => match &**each {
                Node::Leaf(leaf) => (self.types)(*leaf).1,
                _ => own,
            },
            Node::Plain | Node::Tuple(_) | Node::Object(_) | Node::Map(_) => own,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn again(text: &str, node: &Node) -> Option<String> {
        let item = read(Format::Text, text.as_bytes(), node)?;
        let mut shown = item
            .cells()
            .into_iter()
            .map(|(_, digits)| [b"<", digits, b" \">"].concat())
            .rev()
            .collect::<Vec<_>>();
        let mut take = |_: usize| shown.pop().map(Zeroizing::new);
        let mut out = vec![];
        let mut printer = Printer { format: Format::Text, take: &mut take, types: &|_| (25, 1009) };
        printer.print(&item, node, &mut out);
        Some(String::from_utf8(out).unwrap())
    }

    #[test]
    fn cells_are_found_at_any_depth_of_quotes() {
        let inner = Node::Tuple(vec![Node::Plain, Node::Leaf(0)]);
        let outer = Node::Tuple(vec![Node::Plain, inner.clone(), Node::Each(Box::new(Node::Leaf(1)))]);
        let text = r#"("a ""b",""(""x y"""",""\\\\x0102"")"",)"#;
        assert_eq!(again(text, &outer), None, "a quote too many");
        let text = r#"("a ""b","(""x """"y"",""\\\\x0102"")","{""\\\\x03"",NULL}")"#;
        let shown = r#"("a ""b","(""x """"y"",""<0102 """">"")","{""<03 \\"">"",NULL}")"#;
        assert_eq!(again(text, &outer).as_deref(), Some(shown));
        let rows = Node::Each(Box::new(inner));
        assert_eq!(
            again(r#"{"(1,\"\\\\x01\")",NULL,"(,)"}"#, &rows).as_deref(),
            Some(r#"{"(1,\"<01 \"\">\")",NULL,"(,)"}"#)
        );
        assert_eq!(again("{}", &rows).as_deref(), Some("{}"));
    }

    #[test]
    fn no_bytes_make_it_panic() {
        let inner = Node::Tuple(vec![Node::Plain, Node::Leaf(0)]);
        let node = Node::Each(Box::new(Node::Tuple(vec![inner, Node::Each(Box::new(Node::Leaf(1)))])));
        let text = r#"{"(\"(1,\"\"\\\\\\\\x01\"\")\",\"{\"\"\\\\\\\\x02\"\"}\")"}"#;
        assert!(read(Format::Text, text.as_bytes(), &node).is_some());
        for end in 0..text.len() {
            for byte in [b'"', b'\\', b'(', b'}', 0xff] {
                let mut changed = text.as_bytes().to_vec();
                changed[end] = byte;
                let _ = read(Format::Text, &changed, &node);
                let _ = read(Format::Binary, &changed[..end], &node);
            }
            assert!(read(Format::Text, &text.as_bytes()[..end], &node).is_none(), "{end}");
        }
    }
}

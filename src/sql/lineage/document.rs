//! JSON made of sealed values (`row_to_json`, `json_build_object`, `json_agg` …) and arrays of them: where in the
//! document the cells are.
//!
//! Guarantees: a place is known because lineage put it there, never because its text looks like a cell; what would lose
//! the place (another operator, cast or function) is refused; a whole row with a masked clear column is refused, for the
//! server would put the clear value in.

use super::scope::{Out, WholeRow};
use super::{Analyst, Node, OpenedDocument, SealedShape, Shape};
use crate::sql::problem::Problem;
use crate::value::DataType;
use sqlparser::ast::{BinaryOperator, Expr, Value};
use std::rc::Rc;

/// A document, as a value of one of these types.
#[derive(Debug)]
pub(in crate::sql) struct Document {
    form: Form,
    value: Part,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Json,
    Jsonb,
    /// The document spelled out.
    Text,
}

/// As [`Node`], with the cells' shapes in their places.
#[derive(Clone, Debug)]
enum Part {
    Plain,
    Leaf(SealedShape),
    Object(Vec<(String, Part)>),
    Tuple(Vec<Part>),
    Each(Box<Part>),
    Map(Box<Part>),
}

/// The functions that make documents, without their `json` or `jsonb`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Maker {
    /// `to_json(x)`, `row_to_json(x)`, `array_to_json(x)`.
    Of,
    /// `json_build_object('a', x, …)`.
    Object,
    /// `json_build_array(x, …)`.
    Array,
    /// `json_agg(x)`.
    Each,
    /// `json_object_agg(k, x)`.
    Map,
    /// `json_strip_nulls(x)`: what is left is where it was.
    Stripped,
    /// `jsonb_pretty(x)`: the same with white space.
    Spelled,
}

/// To add a maker: one line here, and a golden case.
const MAKERS: &[(&str, Maker, Form)] = &[
    ("array_to_json", Maker::Of, Form::Json),
    ("json_agg", Maker::Each, Form::Json),
    ("json_build_array", Maker::Array, Form::Json),
    ("json_build_object", Maker::Object, Form::Json),
    ("json_object_agg", Maker::Map, Form::Json),
    ("json_strip_nulls", Maker::Stripped, Form::Json),
    ("jsonb_agg", Maker::Each, Form::Jsonb),
    ("jsonb_build_array", Maker::Array, Form::Jsonb),
    ("jsonb_build_object", Maker::Object, Form::Jsonb),
    ("jsonb_object_agg", Maker::Map, Form::Jsonb),
    ("jsonb_pretty", Maker::Spelled, Form::Text),
    ("jsonb_strip_nulls", Maker::Stripped, Form::Jsonb),
    ("row_to_json", Maker::Of, Form::Json),
    ("to_json", Maker::Of, Form::Json),
    ("to_jsonb", Maker::Of, Form::Jsonb),
];

pub(super) fn maker(function: &str) -> Option<(Maker, Form)> {
    MAKERS.iter().find(|(name, _, _)| *name == function).map(|(_, maker, form)| (*maker, *form))
}

impl Document {
    /// The first cell in it, for messages.
    pub(super) fn first_leaf(&self) -> Option<&SealedShape> {
        self.value.first_leaf()
    }

    /// An array of cells.
    pub(super) fn each_cell(form: Form, sealed: SealedShape) -> Result<Document, Problem> {
        let value = Part::Each(Box::new(Part::Leaf(sealed)));
        value.check(form == Form::Jsonb)?;
        Ok(Document { form, value })
    }

    /// Not spelled out in a text.
    pub(super) fn is_json(&self) -> bool {
        self.form != Form::Text
    }

    /// Whether its members are places of their own, whatever is before them.
    pub(super) fn is_jsonb_object(&self) -> bool {
        self.form == Form::Jsonb && matches!(self.value, Part::Object(_))
    }

    /// As a value of another type; `None`: not of this one.
    pub(super) fn cast(&self, to: Option<DataType>) -> Result<Option<Document>, Problem> {
        let form = match to {
            Some(DataType::Json) => Form::Json,
            Some(DataType::Jsonb) => Form::Jsonb,
            Some(DataType::Text | DataType::Varchar(None)) => Form::Text,
            _ => return Ok(None),
        };
        if form == Form::Jsonb && self.form != Form::Jsonb {
            // Members of one name are one in jsonb.
            self.value.check(true)?;
        }
        Ok(Some(Document { form, value: self.value.clone() }))
    }

    /// `document -> name`, `document -> 0`: a part of it. `None`: which one is not certain.
    fn part(&self, key: &Expr) -> Option<Part> {
        match &self.value {
            Part::Plain => Some(Part::Plain),
            Part::Leaf(_) => None,
            Part::Object(members) => {
                let name = constant_text(key)?;
                // Of two members of one name, the last one counts: what is made of them was refused.
                Some(
                    members
                        .iter()
                        .rev()
                        .find(|(own, _)| *own == name)
                        .map_or(Part::Plain, |(_, part)| part.clone()),
                )
            }
            Part::Tuple(parts) => {
                let index: usize = constant_number(key)?.parse().ok()?;
                Some(parts.get(index).cloned().unwrap_or(Part::Plain))
            }
            Part::Each(part) | Part::Map(part) => Some((**part).clone()),
        }
    }
}

impl Part {
    fn first_leaf(&self) -> Option<&SealedShape> {
        match self {
            Part::Plain => None,
            Part::Leaf(sealed) => Some(sealed),
            Part::Object(members) => members.iter().find_map(|(_, part)| part.first_leaf()),
            Part::Tuple(parts) => parts.iter().find_map(Part::first_leaf),
            Part::Each(part) | Part::Map(part) => part.first_leaf(),
        }
    }

    /// Whether every cell's place is certain, and its value has a form there.
    fn check(&self, jsonb: bool) -> Result<(), Problem> {
        match self {
            Part::Plain => Ok(()),
            Part::Leaf(sealed) => {
                // As jsonb keeps them they would have to be read and printed anew.
                let rewritten = matches!(
                    sealed.shown(),
                    DataType::Json | DataType::Jsonb | DataType::Real | DataType::DoublePrecision
                );
                if jsonb && rewritten {
                    let what = format!("jsonb made of type {}", sealed.shown().sql());
                    return Err(Problem::sealed_use(sealed.column(), &what).hint("Make json of it."));
                }
                Ok(())
            }
            Part::Object(members) => {
                for (index, (name, part)) in members.iter().enumerate() {
                    let twice = members[..index].iter().find(|(other, _)| other == name);
                    let sealed = part.first_leaf().or(twice.and_then(|(_, other)| other.first_leaf()));
                    if let (Some(_), Some(sealed)) = (twice, sealed) {
                        return Err(Problem::sealed_use(
                            sealed.column(),
                            "JSON with two members of one name",
                        ));
                    }
                    part.check(jsonb)?;
                }
                Ok(())
            }
            Part::Tuple(parts) => parts.iter().try_for_each(|part| part.check(jsonb)),
            Part::Each(part) | Part::Map(part) => part.check(jsonb),
        }
    }

    fn node(&self, leaves: &mut Vec<SealedShape>) -> Node {
        match self {
            Part::Plain => Node::Plain,
            Part::Leaf(sealed) => {
                leaves.push(sealed.clone());
                Node::Leaf(leaves.len() - 1)
            }
            Part::Object(members) => Node::Object(
                members
                    .iter()
                    .filter(|(_, part)| part.first_leaf().is_some())
                    .map(|(name, part)| (name.clone(), part.node(leaves)))
                    .collect(),
            ),
            Part::Tuple(parts) => Node::Tuple(parts.iter().map(|part| part.node(leaves)).collect()),
            Part::Each(part) => Node::Each(Box::new(part.node(leaves))),
            Part::Map(part) => Node::Map(Box::new(part.node(leaves))),
        }
    }
}

impl Analyst<'_> {
    pub(super) fn opened_document(&mut self, document: &Document) -> OpenedDocument {
        let mut shapes = vec![];
        let node = document.value.node(&mut shapes);
        OpenedDocument { node, leaves: shapes.iter().map(|shape| self.opened(shape)).collect() }
    }

    /// What a maker makes of its operands, whose shapes are given.
    pub(super) fn made_document(
        &mut self,
        function: &str,
        (maker, form): (Maker, Form),
        operands: &[(&Expr, Shape)],
        distinct: bool,
    ) -> Result<Shape, Problem> {
        let mut parts = vec![];
        for (_, shape) in operands {
            parts.push(self.part(shape, function)?);
        }
        let first = || parts.first().cloned().unwrap_or(Part::Plain);
        let value = match maker {
            // A second operand says how to print.
            Maker::Of | Maker::Stripped | Maker::Spelled => first(),
            Maker::Array => Part::Tuple(parts),
            Maker::Each => Part::Each(Box::new(first())),
            Maker::Object => Part::Object(members(operands, parts, function)?),
            Maker::Map => {
                if let Some(sealed) = parts.first().and_then(Part::first_leaf) {
                    return Err(Problem::sealed_use(sealed.column(), &format!("a key of {function}")));
                }
                Part::Map(Box::new(parts.pop().unwrap_or(Part::Plain)))
            }
        };
        let Some(sealed) = value.first_leaf() else { return Ok(Shape::Plain) };
        if distinct {
            return Err(Problem::sealed_use(sealed.column(), &format!("{function}(DISTINCT …)")));
        }
        if self.in_view > 0 && maker == Maker::Of && matches!(value, Part::Leaf(_)) {
            return Err(Problem::sealed_use(sealed.column(), &format!("{function} in a view")));
        }
        value.check(form == Form::Jsonb)?;
        Ok(Shape::Document(Rc::new(Document { form, value })))
    }

    /// An operator with a document on its left: what is left of its places. `None`: it has none such.
    pub(super) fn document_operator(
        &mut self,
        document: &Document,
        op: &BinaryOperator,
        right: &Expr,
        shape: &Shape,
    ) -> Result<Option<Shape>, Problem> {
        let constant = matches!(shape, Shape::Adaptable | Shape::Plain | Shape::Default);
        let (form, value) = match op {
            BinaryOperator::Arrow if constant && document.form != Form::Text => {
                let Some(part) = document.part(right) else { return Ok(None) };
                (document.form, part)
            }
            BinaryOperator::LongArrow if constant && document.form != Form::Text => {
                // A cell as text is no JSON any more.
                match document.part(right) {
                    None | Some(Part::Leaf(_)) => return Ok(None),
                    Some(part) => (Form::Text, part),
                }
            }
            BinaryOperator::Minus if constant && document.form == Form::Jsonb => match &document.value {
                // Of an array what follows would move up.
                Part::Object(_) | Part::Map(_) | Part::Each(_) => (Form::Jsonb, document.value.clone()),
                Part::Plain | Part::Leaf(_) | Part::Tuple(_) => return Ok(None),
            },
            BinaryOperator::StringConcat if document.form == Form::Jsonb => {
                let Part::Object(members) = &document.value else { return Ok(None) };
                let more = match shape {
                    Shape::Document(other) if other.form == Form::Jsonb => match &other.value {
                        Part::Object(more) => more.clone(),
                        _ => return Ok(None),
                    },
                    // It may put something else in a cell's place: no cell stands there then.
                    Shape::Adaptable | Shape::Plain | Shape::Default => vec![],
                    _ => return Ok(None),
                };
                let kept = members.iter().filter(|(name, _)| !more.iter().any(|(other, _)| other == name));
                (Form::Jsonb, Part::Object(kept.cloned().chain(more.iter().cloned()).collect()))
            }
            _ => return Ok(None),
        };
        Ok(Some(match value.first_leaf() {
            Some(_) => Shape::Document(Rc::new(Document { form, value })),
            None => Shape::Plain,
        }))
    }

    fn part(&mut self, shape: &Shape, function: &str) -> Result<Part, Problem> {
        match shape {
            Shape::Plain | Shape::Adaptable | Shape::Clear(_) | Shape::Default => Ok(Part::Plain),
            Shape::Deferred(slots) => match self.settled(slots) {
                Some(sealed) => Ok(Part::Leaf(sealed)),
                None => self.used_plain(slots, function).map(|()| Part::Plain),
            },
            Shape::Sealed(sealed) => Ok(Part::Leaf(sealed.clone())),
            Shape::Array(sealed) => Ok(Part::Each(Box::new(Part::Leaf(sealed.clone())))),
            Shape::Rows(row) => Ok(Part::Each(Box::new(self.part(row, function)?))),
            // JSON of a text is a string.
            Shape::Document(document) if document.form == Form::Text => {
                self.refuse_sealed(shape, &format!("function {function} of text"), None)?;
                Ok(Part::Plain)
            }
            Shape::Document(document) => Ok(document.value.clone()),
            // The members of ROW(…) are called f1, f2, …
            Shape::Row(shapes) => {
                let named = shapes
                    .iter()
                    .zip(1..)
                    .map(|(shape, n)| Ok((format!("f{n}"), self.part(shape, function)?)));
                Ok(Part::Object(named.collect::<Result<_, Problem>>()?))
            }
            Shape::WholeRow(row) => self.row_part(row, function),
        }
    }

    fn row_part(&mut self, row: &WholeRow, function: &str) -> Result<Part, Problem> {
        let mut members = vec![];
        for Out { name, shape, origin: _ } in &row.columns {
            if let Shape::Clear(column) = shape {
                self.note(column, crate::catalog::Action::Read, self.in_view > 0);
                if (self.context.guard)(column.id, column.name()).is_some() {
                    return Err(Problem::whole_row(&row.name));
                }
            }
            let part = self.part(shape, function)?;
            match name {
                Some(name) => members.push((name.clone(), part)),
                None if part.first_leaf().is_some() => {
                    return Err(Problem::not_understood("a column without a certain name in a row")
                        .hint("Give the subquery's columns names with AS."));
                }
                None => {}
            }
        }
        Ok(Part::Object(members))
    }
}

/// The members of `json_build_object`: where a value is sealed, every name must be certain.
fn members(
    operands: &[(&Expr, Shape)],
    parts: Vec<Part>,
    function: &str,
) -> Result<Vec<(String, Part)>, Problem> {
    let mut members = vec![];
    let mut uncertain = false;
    let mut parts = parts.into_iter();
    let mut names = operands.iter().map(|(expr, _)| constant_text(expr)).step_by(2);
    while let (Some(key), Some(name)) = (parts.next(), names.next()) {
        if let Some(sealed) = key.first_leaf() {
            return Err(Problem::sealed_use(sealed.column(), &format!("a key of {function}")));
        }
        match (name, parts.next()) {
            (Some(name), Some(part)) => members.push((name, part)),
            (None, Some(part)) => {
                uncertain = true;
                members.push((String::new(), part));
            }
            (_, None) => {}
        }
    }
    match members.iter().find_map(|(_, part)| part.first_leaf()) {
        Some(sealed) if uncertain => {
            Err(Problem::sealed_use(sealed.column(), &format!("{function} with computed names"))
                .hint("Write the names as constants."))
        }
        _ => Ok(members),
    }
}

/// The digits of a constant position, from 0 on.
fn constant_number(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Nested(inner) => constant_number(inner),
        Expr::Value(value) => match &value.value {
            Value::Number(digits, _) => Some(digits),
            _ => None,
        },
        _ => None,
    }
}

fn constant_text(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Nested(inner) => constant_text(inner),
        Expr::Cast { expr, .. } => constant_text(expr),
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(text) => Some(text.clone()),
            _ => None,
        },
        _ => None,
    }
}

//! Whose cells a statement's rows show: rows of tables with a record key, told by the key where it comes with them.
//!
//! Each time that such a table is named it gets a number, and what is a column of it, as it stands, carries that number outwards
//! ([`Origin`]): through subqueries, views, joins and set operations. Where an output is a cell of one number and another its key, the
//! key says whose cell it is; so does a condition by which the key is one constant. Guarantees: a person that is named is the one; where that is not certain, the statement says
//! that it does not know. Deliberately absent: values; conditions on keys that are texts, whose equality may be looser than that of
//! their bytes, or sealed.

use super::scope::{Out, Scope, fold};
use super::{Analyst, Output, logical};
use crate::catalog::{Action, Column, ColumnId, RecordKey, Relation};
use crate::sql::problem::Problem;
use crate::value::DataType;
use sqlparser::ast::{BinaryOperator, Expr, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

/// A column of a row of one reference to a relation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sql) struct Origin {
    reference: usize,
    column: ColumnId,
}

/// Whose cells the rows of a result show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Persons {
    pub slots: Vec<PersonSlot>,
    /// Outputs of the result.
    pub width: usize,
    /// Rows may show something of other persons, too, whose keys do not come with them.
    pub others: bool,
}

/// One row of a table with a record key in each row of the result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PersonSlot {
    pub table: Arc<RecordKey>,
    pub key: PersonKey,
    /// The outputs that are cells of it: where all are NULL, nothing of the person is shown.
    pub cells: Vec<usize>,
    /// Cells of it were read in a condition: that the row is there tells of them.
    pub every_row: bool,
}

/// Where the value of a record key is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PersonKey {
    /// An output.
    Output(usize),
    /// A parameter of the client's that it was found equal to, zero-based.
    Parameter(usize),
    /// A constant that it was found equal to: where it stands in the client's text.
    Literal(Range<usize>),
}

impl Persons {
    /// As a name for the statement stands for it, whose text and parameters are not at hand when the name is used.
    pub fn without_pins(mut self) -> Persons {
        let before = self.slots.len();
        self.slots.retain(|slot| matches!(slot.key, PersonKey::Output(_)));
        self.others |= self.slots.len() < before;
        self
    }
}

impl Origin {
    pub(super) fn of(reference: usize, relation: &Relation, column: &Column) -> Origin {
        Origin { reference, column: ColumnId { relation: relation.oid, number: column.number } }
    }
}

/// Where a result's columns come from.
pub(super) fn origins(outputs: Option<&[Out]>) -> Vec<Option<Origin>> {
    outputs.unwrap_or_default().iter().map(|out| out.origin).collect()
}

/// The same columns, of which nothing is said.
pub(super) fn without_origins(columns: &[Out]) -> Vec<Out> {
    columns.iter().map(|out| Out { origin: None, ..out.clone() }).collect()
}

/// References of the two sides of a set operation that stand beside each other, and what they are together.
#[derive(Default)]
pub(super) struct Pairs(BTreeMap<(usize, usize), usize>);

impl Scope<'_> {
    /// What a bare column of this scope's relations is.
    pub(super) fn origin(&self, expr: &Expr) -> Option<Origin> {
        match expr {
            Expr::Nested(inner) => self.origin(inner),
            Expr::Identifier(ident) => {
                let name = fold(ident);
                if let Some(out) = self.merged(&name) {
                    return out.origin;
                }
                if self.entries.iter().any(|entry| !entry.complete) {
                    return None;
                }
                let mut found =
                    self.entries.iter().flat_map(|entry| &entry.columns).filter(|out| out.is(&name));
                found.next().filter(|_| found.next().is_none())?.origin
            }
            Expr::CompoundIdentifier(path) => {
                let (column, qualifier) = path.split_last()?;
                let qualifier: Vec<String> = qualifier.iter().map(fold).collect();
                let name = fold(column);
                let mut found = self.entry(&qualifier)?.columns.iter().filter(|out| out.is(&name));
                found.next().filter(|_| found.next().is_none())?.origin
            }
            _ => None,
        }
    }
}

impl Out {
    fn is(&self, name: &str) -> bool {
        self.name.as_deref() == Some(name)
    }
}

impl Analyst<'_> {
    /// A relation is named: its number, if it has a record key.
    pub(super) fn refer(&mut self, relation: &Relation) -> Option<usize> {
        self.context.catalog.record_keys.contains_key(&relation.oid).then(|| self.number(relation.oid))
    }

    fn number(&mut self, relation: u32) -> usize {
        self.references.push(relation);
        self.references.len() - 1
    }

    /// Rows that may be named several times, each time for itself.
    pub(super) fn referred_anew(&mut self, outputs: &[Out]) -> Vec<Out> {
        let mut numbers = BTreeMap::new();
        let anew = |out: &Out| {
            let origin = out.origin.map(|origin| {
                let number = numbers.entry(origin.reference).or_insert_with(|| {
                    let pin = self.pins.get(&origin.reference).cloned();
                    let number = self.number(origin.column.relation);
                    self.pins.extend(pin.map(|pin| (number, pin)));
                    number
                });
                Origin { reference: *number, ..origin }
            });
            Out { origin, ..out.clone() }
        };
        outputs.iter().map(anew).collect()
    }

    /// A condition by which rows are chosen, and what it says of record keys.
    pub(super) fn filter(&mut self, condition: &mut Expr, scope: &Scope<'_>) -> Result<(), Problem> {
        if !self.references.is_empty() && self.in_view == 0 {
            self.pin(condition, scope);
        }
        self.condition(condition, scope, "WHERE")
    }

    fn pin(&mut self, condition: &Expr, scope: &Scope<'_>) {
        match condition {
            Expr::Nested(inner) => self.pin(inner, scope),
            Expr::BinaryOp { left, op: BinaryOperator::And, right } => {
                self.pin(left, scope);
                self.pin(right, scope);
            }
            Expr::BinaryOp { left, op: BinaryOperator::Eq, right } => {
                for (column, constant) in [(left, right), (right, left)] {
                    let Some(origin) = scope.origin(column) else { continue };
                    let key = self.context.catalog.record_keys.get(&origin.column.relation);
                    let key = key.and_then(|key| key.column.as_ref());
                    let key = key.filter(|key| key.number == origin.column.number && key.domain.is_none());
                    let pin = key.and_then(|key| self.constant(constant, &key.data_type));
                    self.pins.extend(pin.map(|pin| (origin.reference, pin)));
                }
            }
            _ => {}
        }
    }

    /// A constant that is equal to a key of this type when its value is.
    fn constant(&self, constant: &Expr, of: &DataType) -> Option<PersonKey> {
        if !matches!(of.family(), "bigint" | "uuid") {
            return None;
        }
        match constant {
            Expr::Nested(inner) => self.constant(inner, of),
            Expr::Cast { expr, data_type, .. } => {
                let same = logical(data_type).is_some_and(|to| to.family() == of.family());
                self.constant(expr, of).filter(|_| same)
            }
            Expr::Value(value) if matches!(value.value, Value::Placeholder(_)) => {
                let Value::Placeholder(name) = &value.value else { return None };
                let number = name.strip_prefix('$')?.parse::<usize>().ok()?;
                Some(PersonKey::Parameter(number.checked_sub(1)?))
            }
            _ => self.constant_span(constant).map(PersonKey::Literal),
        }
    }

    /// Whether a parameter is used once only: then its type is that of what it meets.
    fn is_met_once(&self, key: &PersonKey) -> bool {
        match key {
            PersonKey::Parameter(client) => {
                self.parameters.iter().filter(|(own, _)| own == client).count() == 1
            }
            PersonKey::Output(_) | PersonKey::Literal(_) => true,
        }
    }

    /// A column of a set operation: of each row it is of one side, and so is all else that has the same two numbers.
    pub(super) fn paired(
        &mut self,
        pairs: &mut Pairs,
        left: Option<Origin>,
        right: Option<Origin>,
    ) -> Option<Origin> {
        let (left, right) = (left?, right?);
        if left.column != right.column {
            return None;
        }
        let number = match pairs.0.get(&(left.reference, right.reference)) {
            Some(number) => *number,
            None => self.number(left.column.relation),
        };
        pairs.0.insert((left.reference, right.reference), number);
        Some(Origin { reference: number, ..left })
    }

    /// Whose cells the outputs show. `columns` are what is opened of them.
    pub(super) fn persons(&self, origins: &[Option<Origin>], columns: Option<&[Output]>) -> Option<Persons> {
        let keys = &self.context.catalog.record_keys;
        let reads = || {
            self.uses
                .iter()
                .filter(|used| used.action == Action::Read && keys.contains_key(&used.column.relation))
        };
        reads().next()?;
        let mut slots: BTreeMap<usize, PersonSlot> = BTreeMap::new();
        for (index, origin) in origins.iter().enumerate() {
            let Some(origin) = origin else { continue };
            let Some(table) = keys.get(&origin.column.relation) else { continue };
            if table.column.as_ref().is_some_and(|key| key.number == origin.column.number) {
                let (table, key) = (table.clone(), PersonKey::Output(index));
                let slot = PersonSlot { table, key, cells: vec![], every_row: false };
                slots.entry(origin.reference).or_insert(slot);
            }
        }
        for (reference, key) in self.pins.iter().filter(|(_, key)| self.is_met_once(key)) {
            let relation = self.references.get(*reference);
            let Some(table) = relation.and_then(|relation| keys.get(relation)).cloned() else { continue };
            let slot = PersonSlot { table, key: key.clone(), cells: vec![], every_row: false };
            slots.entry(*reference).or_insert(slot);
        }
        // What of the reads the slots explain; sealed cells only where they stand by themselves.
        let mut explained: BTreeSet<ColumnId> = BTreeSet::new();
        let mut others = false;
        for (index, origin) in origins.iter().enumerate() {
            let column = columns.and_then(|columns| columns.get(index));
            let slot = origin.and_then(|origin| Some((origin, slots.get_mut(&origin.reference)?)));
            match slot {
                Some((origin, slot)) if self.is_tagged(origin.column) => {
                    slot.cells.push(index);
                    explained.insert(origin.column);
                }
                Some(_) => {}
                None => {
                    let tagged = origin.is_some_and(|origin| self.is_tagged(origin.column));
                    others |= tagged || column.is_some_and(|column| self.shows_keyed(column));
                }
            }
        }
        for column in reads().filter(|used| !used.sealed).map(|used| used.column) {
            if self.computed.contains(&column) {
                others = true;
            } else if !explained.contains(&column) {
                others |= !self.in_condition(column, &mut slots);
            }
        }
        let slots = slots.into_values().filter(|slot| slot.every_row || !slot.cells.is_empty()).collect();
        Some(Persons { slots, width: origins.len(), others })
    }

    /// A column stored in clear that was read in a condition only: of whom, where the relation is named once.
    fn in_condition(&self, column: ColumnId, slots: &mut BTreeMap<usize, PersonSlot>) -> bool {
        let mut named = self.references.iter().zip(0..).filter(|(relation, _)| **relation == column.relation);
        let once = named.next().filter(|_| named.next().is_none());
        let slot = once.and_then(|(_, reference)| slots.get_mut(&reference));
        slot.map(|slot| slot.every_row = true).is_some()
    }

    fn is_tagged(&self, column: ColumnId) -> bool {
        let relation = self.context.catalog.relation(column.relation);
        let column =
            relation.and_then(|relation| relation.columns.iter().find(|own| own.number == column.number));
        column.is_some_and(|column| column.tag.is_some())
    }

    /// Whether an opened output holds cells of a table with a record key.
    fn shows_keyed(&self, output: &Output) -> bool {
        let keys = &self.context.catalog.record_keys;
        let reads: Vec<&usize> = match output {
            Output::Verbatim => vec![],
            Output::Sealed(opened) | Output::Array(opened) => opened.reads.iter().collect(),
            Output::Document(document) | Output::Record(document) => {
                document.leaves.iter().flat_map(|leaf| &leaf.reads).collect()
            }
            Output::Default(_) => vec![],
        };
        reads
            .into_iter()
            .any(|read| self.uses.get(*read).is_some_and(|used| keys.contains_key(&used.column.relation)))
    }
}

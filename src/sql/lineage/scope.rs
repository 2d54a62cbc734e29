//! Names in reach: the relations of a FROM clause, common table expressions, and how a column name resolves.

use super::introspect::NAMES;
use super::join::Merge;
use super::merging::Merging;
use super::person::Origin;
use super::{Analyst, SealedShape, Shape, Tagged};
use crate::catalog::{Column, ColumnTag, Relation, RelationKind, State};
use crate::sql::problem::{Problem, Trouble};
use sqlparser::ast::{Ident, ObjectName, ObjectNamePart};
use std::rc::Rc;
use std::sync::Arc;

/// An identifier as PostgreSQL reads it: unquoted ones are folded to lower case (ASCII only, `scansup.c`).
pub(in crate::sql) fn fold(ident: &Ident) -> String {
    match ident.quote_style {
        None => ident.value.to_ascii_lowercase(),
        Some(_) => ident.value.clone(),
    }
}

/// The parts of an object name, folded. A part that is a function call is not a name of anything stored.
pub(super) fn parts(name: &ObjectName) -> Result<Vec<String>, Problem> {
    let ObjectName(parts) = name;
    parts
        .iter()
        .map(|part| match part {
            ObjectNamePart::Identifier(ident) => Ok(fold(ident)),
            ObjectNamePart::Function(_) => Err(Problem::not_understood("a function call in a name")),
        })
        .collect()
}

pub(super) fn span_of(name: &ObjectName) -> sqlparser::tokenizer::Span {
    match name.0.first() {
        Some(ObjectNamePart::Identifier(ident)) => ident.span,
        Some(ObjectNamePart::Function(_)) | None => sqlparser::tokenizer::Span::empty(),
    }
}

/// One output column of a query or a relation.
#[derive(Clone, Debug)]
pub(in crate::sql) struct Out {
    /// `None` when PostgreSQL's choice of name is not certain here.
    pub(super) name: Option<String>,
    pub(super) shape: Shape,
    /// What it is a column of, as it stands there: of relations with a record key only.
    pub(super) origin: Option<Origin>,
}

impl Out {
    pub(super) fn named(name: &str, shape: Shape) -> Out {
        Out { name: Some(name.to_owned()), shape, origin: None }
    }
    /// As it is outside of the reading that made it.
    pub(super) fn without_slots(mut self) -> Out {
        if let Shape::Deferred(_) = self.shape {
            self.shape = Shape::Plain;
        }
        self
    }
}

/// Common table expressions in reach, the innermost last.
#[derive(Clone, Default)]
pub(super) struct Ctes(Rc<Vec<(String, Rc<Vec<Out>>)>>);

impl Ctes {
    pub(super) fn find(&self, name: &str) -> Option<Rc<Vec<Out>>> {
        self.0.iter().rev().find(|(known, _)| known == name).map(|(_, outputs)| outputs.clone())
    }
    pub(super) fn push(&mut self, name: String, outputs: Vec<Out>) {
        Rc::make_mut(&mut self.0).push((name, Rc::new(outputs)));
    }
    pub(super) fn last(&self) -> Option<(String, Vec<Out>)> {
        self.0.last().map(|(name, outputs)| (name.clone(), (**outputs).clone()))
    }
    pub(super) fn pop(&mut self) {
        Rc::make_mut(&mut self.0).pop();
    }
}

/// What every table has (`heap.c` `SysAtt`).
const SYSTEM_COLUMNS: [&str; 6] = ["ctid", "xmin", "cmin", "xmax", "cmax", "tableoid"];

/// One relation of a FROM clause.
#[derive(Clone)]
pub(super) struct Entry {
    /// The name that qualifies its columns.
    pub(super) alias: String,
    /// Set for a base relation without an alias: `schema.table.column` works too.
    pub(super) schema: Option<String>,
    pub(super) columns: Vec<Out>,
    /// Whether `columns` is all there is (a function's result may have more).
    pub(super) complete: bool,
    /// The columns as a value of the relation's row type has them, where an alias gives them other names.
    pub(super) row: Option<Vec<Out>>,
    /// A stored table: its rows have system columns.
    pub(super) table: bool,
}

impl Entry {
    fn find(&self, column: &str) -> Option<&Out> {
        self.columns.iter().find(|out| out.name.as_deref() == Some(column))
    }
    /// What has no columns of its own, but another name for some.
    pub(super) fn of_names_only(alias: String, columns: Vec<Out>) -> Entry {
        Entry { alias, schema: None, columns, complete: true, row: None, table: false }
    }
    /// Whether its columns may be called by its schema, too: not where a subquery may stand for it (`introspect.rs`).
    pub(super) fn keeps_schema(&self) -> bool {
        let replaced = matches!(self.schema.as_deref(), Some("pg_catalog" | "information_schema"));
        !(replaced && NAMES.contains(&self.alias.as_str()))
    }
    /// A row of it as one value.
    pub(super) fn whole_row(&self) -> WholeRow {
        let columns = self.row.as_ref().unwrap_or(&self.columns).clone();
        let renamed = self.row.is_some();
        WholeRow { name: self.alias.clone(), columns, table: self.table, renamed }
    }
    /// A column whose name is not certain and that holds something tagged: a name that does not resolve may mean it.
    fn uncertain(&self) -> bool {
        self.columns.iter().any(|out| {
            out.name.is_none()
                && !matches!(out.shape, Shape::Plain | Shape::Adaptable | Shape::Deferred(_) | Shape::Default)
        })
    }
    pub(super) fn is_tagged(&self) -> bool {
        self.columns.iter().any(|out| {
            !matches!(out.shape, Shape::Plain | Shape::Adaptable | Shape::Deferred(_) | Shape::Default)
        })
    }
}

/// What an expression may refer to.
#[derive(Clone, Default)]
pub(super) struct Scope<'s> {
    pub(super) outer: Option<&'s Scope<'s>>,
    pub(super) ctes: Ctes,
    pub(super) entries: Vec<Entry>,
    /// Their columns are found under these names only: `old` and `new` of RETURNING (PostgreSQL 18), the alias of a USING.
    pub(super) versions: Vec<Entry>,
    /// Joins that merged columns by USING and NATURAL, in the order of FROM: an unqualified name means what they merged.
    pub(super) merges: Vec<Merge>,
    /// What the joins merge that the next items of FROM stand in.
    pub(super) merging: Merging,
    /// Output names that a bare identifier of ORDER BY means first, of GROUP BY last.
    pub(super) outputs: Vec<Out>,
}

/// A row of a relation as one value.
#[derive(Clone, Debug)]
pub(in crate::sql) struct WholeRow {
    /// The name it was referred to by.
    pub(super) name: String,
    pub(super) columns: Vec<Out>,
    /// Of a stored table.
    pub(super) table: bool,
    /// The relation's columns go by other names than these.
    pub(super) renamed: bool,
}

impl WholeRow {
    pub(super) fn is_tagged(&self) -> bool {
        self.columns.iter().any(|out| {
            !matches!(out.shape, Shape::Plain | Shape::Adaptable | Shape::Deferred(_) | Shape::Default)
        })
    }
}

/// What a name turned out to be.
pub(super) enum Resolved {
    Column(Shape),
    /// A relation's alias used as a value.
    WholeRow(Rc<WholeRow>),
    /// Nothing here has that name: the server will say so (or it is a system column).
    Nothing,
}

impl Scope<'_> {
    /// An unqualified name. One that no relation has, where a tagged one is in reach, may be a column that was renamed.
    pub(super) fn column(&self, name: &str) -> Result<Resolved, Problem> {
        let found = self.known_column(name)?;
        let reaches = std::iter::successors(Some(self), |scope| scope.outer)
            .any(|scope| scope.entries.iter().any(Entry::is_tagged));
        if matches!(found, Resolved::Nothing) && reaches && !SYSTEM_COLUMNS.contains(&name) {
            let message = format!("column \"{name}\" does not exist");
            return Err(Problem::new(Trouble::Unresolved, "42703", message));
        }
        Ok(found)
    }

    fn known_column(&self, name: &str) -> Result<Resolved, Problem> {
        if let Some(out) = self.merged(name) {
            return Ok(Resolved::Column(out.shape.clone()));
        }
        let mut found = self.entries.iter().filter_map(|entry| entry.find(name));
        if let Some(out) = found.next() {
            let ambiguous = found.next().is_some();
            if ambiguous {
                return Err(Problem::new(
                    Trouble::Mismatch,
                    "42702",
                    format!("column reference \"{name}\" is ambiguous"),
                ));
            }
            return Ok(Resolved::Column(out.shape.clone()));
        }
        if self.entries.iter().any(Entry::uncertain) {
            return Err(Problem::not_understood("a column without a certain name in a subquery")
                .hint("Give the subquery's columns names with AS."));
        }
        if let Some(entry) = self.entry(std::slice::from_ref(&name.to_owned())) {
            return Ok(Resolved::WholeRow(Rc::new(entry.whole_row())));
        }
        self.outer.map_or(Ok(Resolved::Nothing), |outer| outer.known_column(name))
    }

    /// `alias.column` or `schema.table.column`.
    pub(super) fn qualified(&self, qualifier: &[String], name: &str) -> Result<Resolved, Problem> {
        let Some(entry) = self.entry(qualifier) else {
            return self.outer.map_or(Ok(Resolved::Nothing), |outer| outer.qualified(qualifier, name));
        };
        match entry.find(name) {
            Some(out) => Ok(Resolved::Column(out.shape.clone())),
            None if entry.uncertain() => {
                Err(Problem::not_understood("a column without a certain name in a subquery")
                    .hint("Give the subquery's columns names with AS."))
            }
            // `alias.row_to_json` calls the function with the whole row.
            None if entry.is_tagged() && !SYSTEM_COLUMNS.contains(&name) => {
                let column = format!("column {}.{name} does not exist", entry.alias);
                Err(Problem::new(Trouble::Unresolved, "42703", column))
            }
            None => Ok(Resolved::Nothing),
        }
    }

    /// The relation that a qualifier means in this scope (not in outer ones).
    pub(super) fn entry(&self, qualifier: &[String]) -> Option<&Entry> {
        match qualifier {
            [alias] => self.entries.iter().chain(&self.versions).find(|entry| entry.alias == *alias),
            [schema, table] | [_, schema, table] => self
                .entries
                .iter()
                .find(|entry| entry.alias == *table && entry.schema.as_deref() == Some(schema.as_str())),
            _ => None,
        }
    }

    /// The relation that a qualifier means, outwards.
    pub(super) fn entry_outwards(&self, qualifier: &[String]) -> Option<&Entry> {
        self.entry(qualifier).or_else(|| self.outer.and_then(|outer| outer.entry_outwards(qualifier)))
    }
}

/// How a relation name resolved.
pub(super) enum Found {
    Cte(Rc<Vec<Out>>),
    Relation(Arc<Relation>),
    /// In no schema of the path that the catalog knows.
    Unknown,
}

impl Analyst<'_> {
    pub(super) fn find_relation(&self, name: &ObjectName, ctes: &Ctes) -> Result<Found, Problem> {
        let catalog = self.context.catalog;
        let parts = parts(name)?;
        let found = match parts.as_slice() {
            [table] => match ctes.find(table) {
                Some(outputs) => return Ok(Found::Cte(outputs)),
                None => self.find_on_path(table),
            },
            [schema, table] => catalog.find_in(schema, table),
            [database, schema, table] if *database == catalog.database => catalog.find_in(schema, table),
            _ => None,
        };
        Ok(found.map_or(Found::Unknown, |relation| Found::Relation(relation.clone())))
    }

    /// `pg_catalog` is searched first unless the path names it.
    fn find_on_path(&self, table: &str) -> Option<&Arc<Relation>> {
        let catalog = self.context.catalog;
        let implicit = !self.context.path.iter().any(|schema| schema == "pg_catalog");
        let first = if implicit { catalog.find_in("pg_catalog", table) } else { None };
        first.or_else(|| catalog.find(self.context.path, table))
    }

    /// The shape of one column of a base relation (never of a view: `view.rs` has those).
    pub(super) fn column_shape(&mut self, relation: &Relation, column: &Column) -> Result<Shape, Problem> {
        let Some(ColumnTag { domain, data_type, by_type, state }) = &column.tag else {
            return Ok(Shape::Plain);
        };
        self.touched = true;
        let tagged = Arc::new(Tagged {
            id: crate::catalog::ColumnId { relation: relation.oid, number: column.number },
            schema: relation.schema.clone(),
            table: relation.name.clone(),
            name: column.name.clone(),
            domain: domain.clone(),
            data_type: *data_type,
            by_type: *by_type,
            state: state.clone(),
        });
        match state {
            State::Sealed { version } => Ok(Shape::Sealed(SealedShape {
                domain: domain.clone(),
                data_type: *data_type,
                shown: None,
                version: *version,
                columns: vec![tagged],
                proposed: false,
            })),
            State::Clear => Ok(Shape::Clear(tagged)),
            State::Broken(why) => Err(Problem::new(
                Trouble::Broken,
                "55000",
                format!("column {} of table {} cannot be used with its tag", column.name, relation.name),
            )
            .detail(format!("{}{}.", why[..1].to_ascii_uppercase(), &why[1..]))
            .hint("Put tags.toml and the column's type in agreement; \"pgveil check\" says how.")),
        }
    }

    /// All columns of a relation, views expanded.
    pub(super) fn relation_columns(&mut self, relation: &Arc<Relation>) -> Result<Vec<Out>, Problem> {
        if let Some(why) = &relation.unreadable {
            self.touched = true;
            return Err(Problem::new(
                Trouble::Broken,
                "55000",
                format!("table {} cannot be read until its tags are put right", relation.name),
            )
            .detail(why.clone())
            .hint("Correct tags.toml; \"pgveil check\" says how."));
        }
        let view = matches!(relation.kind, RelationKind::View | RelationKind::MaterializedView);
        if view && self.context.catalog.sensitive_names().contains(&relation.name) {
            return self.view_columns(relation);
        }
        let reference = self.refer(relation);
        relation
            .columns
            .iter()
            .map(|column| {
                let origin = reference.map(|reference| Origin::of(reference, relation, column));
                Ok(Out { origin, ..Out::named(&column.name, self.column_shape(relation, column)?) })
            })
            .collect()
    }
}

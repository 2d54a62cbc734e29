//! Views: what their columns carry, from the definition that the catalog holds.
//!
//! A view is printed as it was named; its definition is only read. So a definition that would have to be changed
//! (a plain literal that meets a sealed column, a guarded clear column that it does more with than move it) is refused here. Constants that were sealed when it
//! was defined through pgveil stand in it as cells, which the server prints with the base type that it compares them by.

use super::print::sealed_type_name;
use super::scope::{Ctes, Out, Scope, parts};
use super::{Analyst, Recipe, Shape};
use crate::catalog::{Action, Relation, RelationKind};
use crate::sql::depth;
use crate::sql::parse;
use crate::sql::problem::Problem;
use sqlparser::ast::{ArrayElemTypeDef, DataType, Expr, Statement, Value};
use std::sync::Arc;

/// Views within views, as deep as this: PostgreSQL has no limit, a definition that refers to itself cannot exist.
const DEPTH_MAX: u32 = 32;

impl Analyst<'_> {
    pub(super) fn view_columns(&mut self, relation: &Arc<Relation>) -> Result<Vec<Out>, Problem> {
        let refuse = |why: &str| {
            Problem::not_understood(&format!("view {} ({why})", relation.name))
                .hint("Select from the view's tables, or define the view through pgveil.")
        };
        let Some(definition) = relation.definition.as_deref() else {
            return Err(refuse("its definition is not known"));
        };
        let nests = depth::of_text(definition);
        if self.in_view >= DEPTH_MAX || nests > depth::DEPTH_MAX {
            return Err(refuse("nested too deep"));
        }
        depth::with_room(nests, || self.view_defined(relation, definition, &refuse))
    }

    fn view_defined(
        &mut self,
        relation: &Arc<Relation>,
        definition: &str,
        refuse: &dyn Fn(&str) -> Problem,
    ) -> Result<Vec<Out>, Problem> {
        let definition = definition.trim_end().trim_end_matches(';');
        let mut parsed = parse::one(definition, false).map_err(|_| refuse("its definition"))?;
        let Statement::Query(query) = &mut parsed.statement else {
            return Err(refuse("its definition is not a query"));
        };
        let slots_before = self.literals.len() + self.parameters.len();
        self.in_view += 1;
        self.moves = true;
        let outer = std::mem::replace(&mut self.stand_ins, parsed.stand_ins);
        let outputs =
            self.query(query, None, &Ctes::default(), None).and_then(|outputs| self.decided(outputs));
        self.stand_ins = outer;
        self.in_view -= 1;
        let outputs = outputs?;
        if self.literals.len() + self.parameters.len() != slots_before {
            return Err(refuse("it compares a tagged column with a constant"));
        }
        if outputs.len() != relation.columns.len() {
            return Err(refuse("its columns changed"));
        }
        let materialized = relation.kind == RelationKind::MaterializedView;
        let mut named = Vec::with_capacity(outputs.len());
        for (out, column) in outputs.into_iter().zip(&relation.columns) {
            let origin = out.origin;
            let shape = match (out.shape, &column.tag) {
                // Its rows are copies, which their own tags guard.
                (Shape::Plain, Some(_)) if materialized => self.column_shape(relation, column)?,
                (Shape::Clear(tagged), Some(tag))
                    if materialized && tagged.domain.name == tag.domain.name =>
                {
                    self.column_shape(relation, column)?
                }
                (Shape::Clear(_), _) if materialized => {
                    return Err(refuse("a materialized copy of a column stored in clear")
                        .hint("Tag the materialized view's column with the same domain."));
                }
                (shape, _) => shape,
            };
            named.push(Out { origin, ..Out::named(&column.name, shape) });
        }
        Ok(named)
    }

    /// An item of a select list. Where that only `moves`, a column by its name is not read there.
    pub(super) fn listed(
        &mut self,
        expr: &mut Expr,
        scope: &Scope<'_>,
        moves: bool,
    ) -> Result<Shape, Problem> {
        self.moves = moves && matches!(expr, Expr::Identifier(_) | Expr::CompoundIdentifier(_));
        let shape = self.expr(expr, scope);
        self.moves = false;
        shape
    }

    /// Columns of constants only: what they are by now, for what stands in a definition cannot be sealed further out.
    fn decided(&self, outputs: Vec<Out>) -> Result<Vec<Out>, Problem> {
        let shape = |shape: Shape| match shape {
            Shape::Deferred(slots) => match self.settled(&slots) {
                Some(sealed) => Ok(Shape::Sealed(sealed)),
                None => self.used_plain(&slots, "a view").map(|()| Shape::Plain),
            },
            shape => Ok(shape),
        };
        outputs.into_iter().map(|out| Ok(Out { shape: shape(out.shape)?, ..out })).collect()
    }

    /// A cast in a definition: as the server prints it where an expression has the base type, or what brought the sealed type
    /// back. The cells stay cells.
    ///
    /// # Errors
    /// A cast of cells to anything else, which would make text of ciphertext.
    pub(super) fn cast_in_view(&self, shape: Shape, to: &DataType) -> Result<Shape, Problem> {
        let (sealed, elements) = match &shape {
            Shape::Sealed(sealed) => (sealed, false),
            Shape::Array(sealed) => (sealed, true),
            Shape::Deferred(slots) => {
                if is_base(to, false) || is_base(to, true) || is_ours(to) {
                    return Ok(shape);
                }
                self.used_plain(slots, "a cast")?;
                return Ok(Shape::Plain);
            }
            _ => return Ok(shape),
        };
        let own = sealed_type_name(&sealed.domain.name, sealed.version);
        if is_base(to, elements) || is_sealed(to, &own, elements) {
            return Ok(shape);
        }
        let construct = format!("a cast to {}", to.to_string().to_ascii_lowercase());
        Err(Problem::sealed_use(sealed.column(), &construct))
    }

    /// A constant that meets a sealed column in a view: a cell of its domain, or nothing.
    pub(super) fn sealed_in_view(
        &mut self,
        constant: &Expr,
        recipe: &Recipe,
        elements: bool,
    ) -> Result<(), Problem> {
        let sealed = sealed_type_name(&recipe.domain.name, recipe.version);
        let Some(cell) = cell_of(constant, &sealed, elements) else {
            return Err(Problem::not_understood(
                "a view that compares a sealed column with a plain constant",
            )
            .hint("Define the view anew, through pgveil."));
        };
        if recipe.action == Action::Compare && cell {
            self.compared_in_views.push((recipe.domain.label.clone(), 1));
        }
        Ok(())
    }
}

/// Whether a constant that has the type `sealed` holds a cell, and not NULL. `None`: it has another type.
fn cell_of(constant: &Expr, sealed: &str, elements: bool) -> Option<bool> {
    match constant {
        Expr::Nested(inner) => cell_of(inner, sealed, elements),
        Expr::Cast { kind: _, expr: inner, data_type, format: None } if is_base(data_type, elements) => {
            cell_of(inner, sealed, elements)
        }
        Expr::Cast { kind: _, expr: inner, data_type, format: None }
            if is_sealed(data_type, sealed, elements) =>
        {
            let mut inner = &**inner;
            while let Expr::Nested(next) | Expr::Cast { expr: next, .. } = inner {
                inner = next;
            }
            match inner {
                Expr::Value(value) => match &value.value {
                    Value::Null => Some(false),
                    Value::SingleQuotedString(_) | Value::EscapedStringLiteral(_) => Some(true),
                    _ => None,
                },
                _ => None,
            }
        }
        // NULL beside a column that was cast to the base type.
        Expr::Value(value) if value.value == Value::Null => Some(false),
        _ => None,
    }
}

/// `bytea`, or an array of it: what a sealed type is compared as.
pub(super) fn is_base(data_type: &DataType, elements: bool) -> bool {
    match data_type {
        DataType::Bytea => !elements,
        DataType::Array(ArrayElemTypeDef::SquareBracket(of, None)) => elements && **of == DataType::Bytea,
        _ => false,
    }
}

/// A type of the schema that holds the sealed ones.
fn is_ours(data_type: &DataType) -> bool {
    match data_type {
        DataType::Custom(name, _) => {
            parts(name).is_ok_and(|parts| parts.first().is_some_and(|schema| schema == "pgveil"))
        }
        DataType::Array(ArrayElemTypeDef::SquareBracket(of, None)) => is_ours(of),
        _ => false,
    }
}

fn is_sealed(data_type: &DataType, sealed: &str, elements: bool) -> bool {
    match data_type {
        DataType::Custom(name, modifiers) if !elements && modifiers.is_empty() => parts(name).is_ok_and(
            |parts| matches!(parts.as_slice(), [schema, own] if schema == "pgveil" && own == sealed),
        ),
        DataType::Array(ArrayElemTypeDef::SquareBracket(of, None)) if elements => {
            is_sealed(of, sealed, false)
        }
        _ => false,
    }
}

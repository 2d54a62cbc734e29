//! Assignments: what may be written into a tagged column, and where a tagged value may go.

use super::deferred::Meets;
use super::query::expression_at;
use super::scope::{Out, Scope};
use super::{Analyst, Recipe, SealedShape, Shape, Tagged};
use crate::catalog::{Action, ColumnId};
use crate::sql::problem::{Problem, Trouble};
use sqlparser::ast::Expr;
use std::sync::Arc;

/// A column that is written.
#[derive(Clone)]
pub(super) enum Target {
    Plain,
    Sealed(SealedShape),
    Clear(Arc<Tagged>),
    /// A column that the statement makes of what is assigned, so that cells bring their type along.
    New {
        schema: String,
        table: String,
        name: String,
    },
}

impl Target {
    pub(super) fn of(out: &Out) -> Target {
        match &out.shape {
            Shape::Sealed(sealed) => Target::Sealed(sealed.clone()),
            Shape::Clear(column) => Target::Clear(column.clone()),
            Shape::Plain
            | Shape::Adaptable
            | Shape::Deferred(_)
            | Shape::Row(_)
            | Shape::WholeRow(_)
            | Shape::Array(_)
            | Shape::Rows(_)
            | Shape::Document(_)
            | Shape::Default => Target::Plain,
        }
    }
}

impl Analyst<'_> {
    /// Assigns `expr` to `target`; the shape is what was assigned.
    pub(super) fn assign(
        &mut self,
        expr: &mut Expr,
        target: &Target,
        scope: &Scope<'_>,
    ) -> Result<Shape, Problem> {
        self.note_write(target);
        if is_default(expr) {
            return Ok(Shape::Plain);
        }
        let at = expression_at(self, expr);
        let mut shape = self.expr(expr, scope)?;
        if matches!(target, Target::New { .. }) {
            // Beside it, in a UNION, there may be cells.
            shape = self.defer(expr, shape, false);
        }
        self.assign_shape(Some(expr), shape, target).map_err(|problem| problem.at(at))
    }

    pub(super) fn note_write(&mut self, target: &Target) {
        match target {
            Target::Plain | Target::New { .. } => {}
            Target::Sealed(sealed) => self.note_all(&sealed.columns.clone(), Action::Write, false),
            Target::Clear(column) => {
                self.note(column, Action::Write, false);
            }
        }
    }

    /// `expr` is the constant's place when there is one that can be changed.
    pub(super) fn assign_shape(
        &mut self,
        expr: Option<&mut Expr>,
        shape: Shape,
        target: &Target,
    ) -> Result<Shape, Problem> {
        match (target, shape) {
            (Target::Sealed(target), Shape::Adaptable) => {
                let Some(expr) = expr else {
                    return Err(Problem::not_understood("this form of constant"));
                };
                let recipe = assigned(target);
                self.seal(expr, recipe, target, false)?;
                Ok(Shape::Sealed(target.clone()))
            }
            (Target::Sealed(target), Shape::Deferred(slots)) => {
                self.decide(&slots, &Meets::Assigned(target))?;
                Ok(Shape::Sealed(target.clone()))
            }
            (Target::Sealed(target), Shape::Sealed(source)) => self.move_sealed(target, source),
            (Target::Sealed(target), _) => Err(Problem::sealed_use(target.column(), "assignment of a computed value")
                .hint("Assign a literal, a parameter, NULL, DEFAULT or a column of the same domain.")),
            (Target::New { schema, table, name }, Shape::Sealed(source)) => {
                let id = ColumnId { relation: 0, number: 0 };
                let (schema, table, name) = (schema.clone(), table.clone(), name.clone());
                let state = source.column().state.clone();
                let (domain, data_type) = (source.domain.clone(), source.data_type);
                self.note_all(&source.columns.clone(), Action::Read, true);
                let new = Tagged { id, schema, table, name, domain, data_type, by_type: true, state };
                self.note(&new, Action::Write, false);
                Ok(Shape::Sealed(source))
            }
            (Target::New { .. }, Shape::Deferred(slots)) => Ok(Shape::Deferred(slots)),
            (Target::Plain | Target::Clear(_), Shape::Sealed(source)) => Err(out_of_domain(target, &source)),
            (Target::Clear(target), Shape::Adaptable) => {
                if let Some(expr) = expr {
                    self.cast_constant(expr, &target.data_type);
                }
                Ok(Shape::Plain)
            }
            (Target::Clear(target), Shape::Clear(source)) if target.domain.name == source.domain.name => {
                self.note(&source, Action::Read, true);
                Ok(Shape::Plain)
            }
            (Target::Plain | Target::New { .. } | Target::Clear(_), Shape::Clear(source)) => Err(Problem::new(
                Trouble::SealedUse,
                "0A000",
                format!(
                    "assignment of tagged column {} of table {} to a column outside its domain is not supported",
                    source.name, source.table
                ),
            )
            .hint("Tag the target column with the same domain.")),
            (Target::Plain | Target::New { .. } | Target::Clear(_), shape) => {
                self.refuse_sealed(&shape, "assignment", None)?;
                Ok(Shape::Plain)
            }
        }
    }

    /// A sealed cell goes into another column of its domain as it is.
    fn move_sealed(&mut self, target: &SealedShape, source: SealedShape) -> Result<Shape, Problem> {
        if source.domain.name != target.domain.name
            || (target.deterministic() && source.version != target.version)
        {
            return Err(Problem::sealed_use(source.column(), "assignment to a column of another domain")
                .detail(format!(
                    "Column {} is in domain \"{}\", column {} in domain \"{}\".",
                    source.column().column_name(),
                    source.domain.name,
                    target.column().column_name(),
                    target.domain.name
                )));
        }
        if source.data_type != target.data_type && !source.data_type.narrows(&target.data_type) {
            return Err(Problem::sealed_use(source.column(), "assignment to a column of a narrower type"));
        }
        if !source.proposed {
            self.note_all(&source.columns.clone(), Action::Read, true);
        }
        Ok(Shape::Sealed(source))
    }
}

/// Sealed cells for a column that could not hold them as such.
fn out_of_domain(target: &Target, source: &SealedShape) -> Problem {
    match target {
        Target::Clear(target) => {
            Problem::sealed_use(source.column(), "assignment to a column that is not sealed")
                .detail(format!("Column {} is tagged, but stored in clear.", target.column_name()))
        }
        _ => Problem::sealed_use(source.column(), "assignment to a column outside its domain")
            .hint("Tag the target column with the same domain."),
    }
}

/// How a value that is assigned to `target` is sealed.
pub(super) fn assigned(target: &SealedShape) -> Recipe {
    let column = target.column();
    Recipe {
        domain: target.domain.clone(),
        data_type: column.data_type,
        untyped: column.data_type,
        cast: None,
        as_text: None,
        version: target.version,
        action: Action::Write,
        column: column.id,
        column_name: column.column_name(),
    }
}

/// The keyword DEFAULT, which the parser reads as a name.
pub(super) fn is_default(expr: &Expr) -> bool {
    matches!(expr, Expr::Identifier(ident) if ident.quote_style.is_none() && ident.value.eq_ignore_ascii_case("default"))
}

//! Constants of a select list of their own (`FROM (VALUES (1, 'a')) AS v`, `WITH v AS (SELECT $1 AS x)`, `unnest($1)`):
//! what their column meets further out decides what they are sealed as.
//!
//! Guarantees: all constants of a column are sealed alike or none is; one that is used as it is anywhere is never
//! sealed, and one that is sealed is used as nothing else: the second use of another kind is refused.

use super::assign::assigned;
use super::compare::{compared_with, is_array_of, is_null, moved};
use super::print::{Mark, cast, sealed_type, verbatim};
use super::scope::WholeRow;
use super::{Analyst, ParameterUse, Recipe, SealedShape, Shape};
use crate::catalog::Action;
use crate::sql::problem::Problem;
use crate::value::DataType;
use sqlparser::ast::{self, Expr, Value};
use std::cell::Cell;
use std::rc::Rc;

/// A constant whose use is not known yet. The tree has a mark in its place.
#[derive(Clone)]
pub(super) struct Deferred {
    /// As it will be printed.
    pub(super) expr: Expr,
    /// An array, of which the column has the elements.
    elements: bool,
    /// It has a type of its own.
    typed: bool,
    sealed: Option<SealedShape>,
    /// Used where only the value itself will do.
    plain: Cell<bool>,
    /// Compared with its like (`DISTINCT`): what it is sealed for must compare, too.
    compared: Cell<bool>,
    /// How often its column was referred to.
    referred: u32,
    /// It was cast where it stands because its column is, further out: nothing else may use it.
    cast: bool,
}

/// What a deferred constant is sealed for.
pub(super) enum Meets<'a> {
    Compared(&'a SealedShape, &'a str),
    Assigned(&'a SealedShape),
    Moved(&'a SealedShape),
}

impl Meets<'_> {
    fn sealed(&self) -> &SealedShape {
        let (Meets::Compared(sealed, _) | Meets::Assigned(sealed) | Meets::Moved(sealed)) = self;
        sealed
    }

    fn recipe(&self) -> Recipe {
        match self {
            Meets::Compared(sealed, _) => compared_with(sealed),
            Meets::Assigned(sealed) => assigned(sealed),
            Meets::Moved(sealed) => moved(sealed),
        }
    }
}

impl Analyst<'_> {
    /// Puts a mark in the place of a constant. A view's definition that is read is printed nowhere.
    pub(super) fn defer(&mut self, expr: &mut Expr, shape: Shape, elements: bool) -> Shape {
        if !matches!(shape, Shape::Adaptable) {
            return shape;
        }
        let slot = self.deferred.len();
        let expr = std::mem::replace(expr, verbatim(self.markers.deferred(slot)));
        self.deferred.push(Deferred {
            typed: matches!(expr, Expr::Cast { .. }),
            expr,
            elements,
            sealed: None,
            plain: Cell::new(false),
            compared: Cell::new(false),
            referred: 0,
            cast: false,
        });
        Shape::Deferred(Rc::new(vec![slot]))
    }

    /// A reference to a column of constants.
    ///
    /// # Errors
    /// They were cast for another one.
    pub(super) fn referred(&mut self, slots: &[usize]) -> Result<(), Problem> {
        for slot in slots {
            let Some(deferred) = self.deferred.get_mut(*slot) else { continue };
            if deferred.cast {
                let problem =
                    Problem::not_understood("a constant that a subquery gives to a cast and to other uses");
                return Err(problem.hint("Give each use a column or a parameter of its own."));
            }
            deferred.referred += 1;
        }
        Ok(())
    }

    /// A reference to a whole row: to each column of constants in it, as what the column is by now.
    pub(super) fn row_referred(&mut self, row: Rc<WholeRow>) -> Result<Shape, Problem> {
        let mut row = row;
        for at in 0..row.columns.len() {
            let Shape::Deferred(slots) = &row.columns[at].shape else { continue };
            let slots = slots.clone();
            self.referred(&slots)?;
            match self.settled(&slots) {
                Some(sealed) => Rc::make_mut(&mut row).columns[at].shape = Shape::Sealed(sealed),
                None => self.used_plain(&slots, "a whole row")?,
            }
        }
        Ok(if row.is_tagged() { Shape::WholeRow(row) } else { Shape::Plain })
    }

    /// Casts the constants of a column where they stand, in place of the column further out
    /// (`SELECT p0::varchar FROM (VALUES ($1), ($2)) AS v (p0)`); whether that is the same.
    pub(super) fn cast_column(&mut self, slots: &[usize], to: &ast::DataType) -> bool {
        if self.in_view > 0 {
            return false;
        }
        let own = |deferred: &Deferred| match &deferred.expr {
            Expr::Cast { data_type, .. } => data_type == to,
            _ => false,
        };
        let alone = |deferred: &Deferred| {
            deferred.referred == 1 && !deferred.elements && deferred.sealed.is_none() && !deferred.plain.get()
        };
        let mut known = slots.iter().filter_map(|slot| self.deferred.get(*slot));
        if known.clone().all(own) {
            return true;
        }
        if !known.all(|deferred| alone(deferred) && !matches!(deferred.expr, Expr::Cast { .. })) {
            return false;
        }
        for slot in slots {
            self.cast_deferred(*slot, to);
            self.deferred[*slot].cast = true;
        }
        true
    }

    /// Casts a constant where it stands.
    pub(super) fn cast_deferred(&mut self, slot: usize, to: &ast::DataType) {
        if let Some(deferred) = self.deferred.get_mut(slot) {
            let constant = std::mem::replace(&mut deferred.expr, Expr::Value(Value::Null.into()));
            deferred.expr = cast(constant, to.clone());
        }
    }

    /// Seals every constant of a column for what the column meets.
    pub(super) fn decide(&mut self, slots: &[usize], meets: &Meets<'_>) -> Result<(), Problem> {
        let sealed = meets.sealed();
        self.one_kind(slots, sealed)?;
        for slot in slots {
            let known = self.deferred[*slot].clone();
            let mut expr = known.expr;
            match &known.sealed {
                Some(before) => {
                    self.again(&expr, before, meets)?;
                    continue;
                }
                None if known.plain.get() => return Err(otherwise(sealed)),
                None => {}
            }
            if known.compared.get() {
                self.comparable(sealed, "DISTINCT")?;
            }
            if known.elements
                && let Expr::Cast { expr: inner, data_type, .. } = &mut expr
                && is_array_of(data_type, &sealed.data_type)
            {
                expr = std::mem::replace(&mut **inner, Expr::Value(Value::Null.into()));
            }
            match meets {
                Meets::Compared(sealed, operator) => {
                    self.seal_compared(&mut expr, sealed, operator, known.elements)?;
                }
                Meets::Assigned(_) | Meets::Moved(_) => {
                    self.seal(&mut expr, meets.recipe(), sealed, known.elements)?;
                }
            }
            if is_null(&expr) && !known.elements {
                // Alone in its column it would be text.
                expr = cast(expr, sealed_type(&compared_with(sealed)));
            }
            let deferred = &mut self.deferred[*slot];
            deferred.expr = expr;
            deferred.sealed = Some(sealed.clone());
        }
        Ok(())
    }

    /// Beside a whole number, the server reads an untyped constant as an integer: not where the column's is another type.
    fn one_kind(&self, slots: &[usize], sealed: &SealedShape) -> Result<(), Problem> {
        let integer = matches!(sealed.data_type, DataType::Smallint | DataType::Integer | DataType::Bigint);
        let constants = || slots.iter().filter_map(|slot| self.deferred.get(*slot)).map(|known| &known.expr);
        if !integer && constants().any(is_whole_number) && constants().any(is_untyped) {
            return Err(Problem::sealed_use(sealed.column(), "constants of several types in one column")
                .hint("Cast each of them to the column's type."));
        }
        Ok(())
    }

    /// A sealed constant meets another column: only one that it would be sealed alike for.
    fn again(&mut self, expr: &Expr, before: &SealedShape, meets: &Meets<'_>) -> Result<(), Problem> {
        let (sealed, recipe) = (meets.sealed(), meets.recipe());
        if let Meets::Compared(_, operator) = meets {
            self.comparable(sealed, &format!("operator {operator}"))?;
            self.note_all(&sealed.columns.clone(), Action::Compare, false);
        }
        if sealed.domain.name != before.domain.name || sealed.version != before.version {
            return Err(otherwise(sealed));
        }
        // A NULL has no recipe.
        let Some(used) = self.recipe_in(expr) else { return Ok(()) };
        if used.data_type != recipe.data_type {
            return Err(otherwise(sealed));
        }
        if recipe.action == Action::Compare {
            used.action = Action::Compare;
        }
        Ok(())
    }

    /// The recipe of the slot that a sealed constant was replaced by.
    fn recipe_in(&mut self, expr: &Expr) -> Option<&mut Recipe> {
        let Expr::Cast { expr: inner, .. } = expr else { return None };
        let Expr::Value(value) = &**inner else { return None };
        let Value::Placeholder(text) = &value.value else { return None };
        match self.markers.read(text)? {
            Mark::Literal(slot) => self.literals.get_mut(slot).map(|literal| &mut literal.recipe),
            Mark::Parameter(slot) => match &mut self.parameters.get_mut(slot)?.1 {
                ParameterUse::Seal(recipe) | ParameterUse::SealElements(recipe) => Some(recipe),
                ParameterUse::Pass => None,
            },
            Mark::Deferred(_) => None,
        }
    }

    /// Used where only the value itself will do.
    pub(super) fn used_plain(&self, slots: &[usize], construct: &str) -> Result<(), Problem> {
        for slot in slots {
            let deferred = &self.deferred[*slot];
            if let Some(sealed) = &deferred.sealed {
                return Err(Problem::sealed_use(sealed.column(), construct)
                    .detail("A constant that is compared with it or assigned to it is used here, too."));
            }
            deferred.plain.set(true);
        }
        Ok(())
    }

    /// Compared with its like, by equality.
    pub(super) fn compared_alike(&self, slots: &[usize], construct: &str) -> Result<(), Problem> {
        for slot in slots {
            let deferred = &self.deferred[*slot];
            match &deferred.sealed {
                Some(sealed) => self.comparable(sealed, construct)?,
                None => deferred.compared.set(true),
            }
        }
        Ok(())
    }

    /// What a deferred column has become by now: the client's own values, so that to move them needs no right to read. Those
    /// of a view are another's.
    pub(super) fn settled(&self, slots: &[usize]) -> Option<SealedShape> {
        let sealed = slots.iter().find_map(|slot| self.deferred.get(*slot)?.sealed.clone())?;
        let typed = |slot: &usize| self.deferred.get(*slot).is_none_or(|deferred| deferred.typed);
        let shown = match sealed.shown() {
            _ if slots.iter().all(typed) => sealed.shown,
            // What a bare constant is.
            DataType::Varchar(_) => Some(DataType::Text),
            DataType::Numeric(_) => Some(DataType::Numeric(None)),
            _ => sealed.shown,
        };
        Some(SealedShape { proposed: self.in_view == 0, shown, ..sealed })
    }
}

fn is_whole_number(expr: &Expr) -> bool {
    match expr {
        Expr::Value(value) => {
            matches!(&value.value, Value::Number(digits, _) if digits.bytes().all(|byte| byte.is_ascii_digit()))
        }
        Expr::UnaryOp { op: _, expr } | Expr::Nested(expr) => is_whole_number(expr),
        _ => false,
    }
}

fn is_untyped(expr: &Expr) -> bool {
    let Expr::Value(value) = expr else { return false };
    matches!(&value.value, Value::Placeholder(_) | Value::SingleQuotedString(_))
}

fn otherwise(sealed: &SealedShape) -> Problem {
    Problem::sealed_use(sealed.column(), "a constant that a subquery gives to other uses, too")
        .hint("Give each use a column or a parameter of its own.")
}

//! Parameters of the client: each use of `$1` is a slot of its own until it is known how its value is to be sealed.
//!
//! Guarantees: a value that is sealed anywhere is not told in clear where only NULL counts. Deliberately absent: how a slot is
//! sealed (`compare`, `assign`), and which parameter of the server it becomes (`print`).

use super::print::{Mark, verbatim};
use super::{Analyst, ParameterUse, Shape};
use crate::sql::problem::Problem;
use sqlparser::ast::{Expr, Value};
use std::rc::Rc;

impl Analyst<'_> {
    /// Registers a parameter where it stands; what it meets decides later what is done with it.
    pub(super) fn placeholder(&mut self, expr: &mut Expr) -> Result<Shape, Problem> {
        let Expr::Value(value) = &*expr else { return Ok(Shape::Plain) };
        let Value::Placeholder(text) = &value.value else { return Ok(Shape::Plain) };
        match self.markers.read(text) {
            Some(Mark::Deferred(slot)) => return Ok(Shape::Deferred(Rc::new(vec![slot]))),
            Some(Mark::Literal(_) | Mark::Parameter(_)) => return Ok(Shape::Adaptable),
            None => {}
        }
        let number = text.strip_prefix('$').and_then(|digits| digits.parse::<usize>().ok());
        let Some(client) = number.and_then(|number| number.checked_sub(1)).filter(|client| *client < 65_535)
        else {
            return Err(Problem::not_understood("this placeholder"));
        };
        let slot = self.parameters.len();
        self.parameters.push((client, ParameterUse::Pass));
        *expr = verbatim(self.markers.parameter(slot));
        Ok(Shape::Adaptable)
    }

    /// A parameter whose value no one asks for need not be told to the server in clear, where it is sealed elsewhere.
    pub(super) fn only_null_counts(&mut self, operand: &Expr) {
        match operand {
            Expr::Nested(inner) => self.only_null_counts(inner),
            Expr::Value(value) => {
                if let Value::Placeholder(text) = &value.value
                    && let Some(Mark::Parameter(slot)) = self.markers.read(text)
                {
                    self.null_tests.insert(slot);
                }
            }
            _ => {}
        }
    }
}

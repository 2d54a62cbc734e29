//! Functions: a table of what is understood over sealed operands; every other function takes none.

use super::compare::{compared_with, is_null};
use super::constructor::constructor;
use super::document::{Form, Maker, maker};
use super::print::{cast, sealed_type};
use super::query::expression_at;
use super::scope::{Out, Scope, parts};
use super::{Analyst, Shape};
use crate::sql::problem::Problem;
use crate::sql::stand_in::Meaning;
use crate::value::DataType;
use sqlparser::ast::{
    DuplicateTreatment, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgOperator,
    FunctionArgumentClause, FunctionArgumentList, FunctionArguments, Query, Value, WindowType,
};
use std::rc::Rc;

/// What a function does with sealed operands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Power {
    /// `count(x)`: only whether it is NULL (and with DISTINCT, equality).
    Test,
    /// `coalesce(a, b, …)`: one of its operands.
    Alternatives,
    /// `nullif(a, b)`: compares, and yields the first.
    NullIf,
    /// Row-moving window functions: the value of another row of the window.
    FirstMoved,
    /// `array_agg(x)`: all of them.
    Elements,
    /// `unnest(x)`: each of them.
    Each,
    /// `array_remove(x, NULL)`: those of them that are not the constant.
    Without,
    /// JSON with them in it.
    Document(Maker, Form),
}

/// To add a function: one line here, and a golden case.
const OVER_SEALED: &[(&str, Power)] = &[
    ("any_value", Power::FirstMoved),
    ("array_agg", Power::Elements),
    ("array_length", Power::Test),
    ("array_remove", Power::Without),
    ("cardinality", Power::Test),
    ("coalesce", Power::Alternatives),
    ("count", Power::Test),
    ("first_value", Power::FirstMoved),
    ("lag", Power::FirstMoved),
    ("last_value", Power::FirstMoved),
    ("lead", Power::FirstMoved),
    ("nth_value", Power::FirstMoved),
    ("nullif", Power::NullIf),
    ("num_nonnulls", Power::Test),
    ("num_nulls", Power::Test),
    ("unnest", Power::Each),
];

impl Analyst<'_> {
    pub(super) fn function(&mut self, function: &mut Function, scope: &Scope<'_>) -> Result<Shape, Problem> {
        let Function {
            name,
            uses_odbc_syntax,
            parameters,
            args,
            within_group,
            filter,
            null_treatment: _,
            over,
        } = function;
        if *uses_odbc_syntax || !matches!(parameters, FunctionArguments::None) {
            return Err(Problem::not_understood("this form of function call"));
        }
        let name_parts = parts(name)?;
        let built_in = match name_parts.as_slice() {
            [own] => Some(own.clone()),
            [schema, own] if schema == "pg_catalog" => Some(own.clone()),
            _ => None,
        };
        let display = match name_parts.as_slice() {
            [own] => match (self.stand_ins.meaning(own), self.stand_ins.part(own)) {
                (Some(Meaning::Text), Some(part)) => part.to_ascii_uppercase(),
                (Some(_), _) => return Err(Problem::not_understood("this function call")),
                (None, _) => own.clone(),
            },
            several => several.join("."),
        };
        let constructor = match (&built_in, &*args) {
            (Some(own), FunctionArguments::List(list)) => constructor(own, list),
            _ => None,
        };
        let power = built_in.and_then(|own| {
            let listed = OVER_SEALED.iter().find(|(known, _)| *known == own).map(|(_, power)| *power);
            listed.or_else(|| maker(&own).map(|(maker, form)| Power::Document(maker, form)))
        });
        if let Some(filter) = filter {
            self.condition(filter, scope, "FILTER")?;
        }
        for key in within_group {
            self.order_key(key, scope)?;
        }
        match over {
            Some(WindowType::WindowSpec(spec)) => self.window(spec, scope)?,
            Some(WindowType::NamedWindow(_)) | None => {}
        }
        match args {
            FunctionArguments::None => Ok(Shape::Plain),
            FunctionArguments::Subquery(query) => self.of_query(&display, query, scope),
            FunctionArguments::List(list) => match constructor {
                Some(constructor) => self.constructed(&display, constructor, list, scope),
                None => self.arguments(&display, power, list, scope),
            },
        }
    }

    /// `ARRAY(SELECT …)`, `JSON_ARRAY(SELECT …)`.
    fn of_query(&mut self, name: &str, query: &mut Query, scope: &Scope<'_>) -> Result<Shape, Problem> {
        let marked = query.with.as_ref().and_then(|with| with.cte_tables.first());
        let marked = marked.and_then(|cte| self.stand_ins.meaning(&cte.alias.name.value));
        let json = marked == Some(&Meaning::JsonArray);
        let outputs = self.query(query, Some(scope), &scope.ctes, None)?;
        if json {
            return self.array_of_query(&outputs);
        }
        if let ("array", [Out { name: _, shape: Shape::Sealed(sealed), origin: _ }]) =
            (name, outputs.as_slice())
        {
            return Ok(Shape::Array(sealed.clone().unmodified()));
        }
        if let ("array", [Out { name: _, shape: row @ (Shape::WholeRow(_) | Shape::Row(_)), origin: _ }]) =
            (name, outputs.as_slice())
        {
            return Ok(Shape::Rows(Rc::new(row.clone())));
        }
        for out in outputs {
            self.refuse_sealed(&out.shape, &format!("function {name}"), None)?;
        }
        Ok(Shape::Plain)
    }

    fn arguments(
        &mut self,
        name: &str,
        power: Option<Power>,
        list: &mut FunctionArgumentList,
        scope: &Scope<'_>,
    ) -> Result<Shape, Problem> {
        let FunctionArgumentList { duplicate_treatment, args, clauses } = list;
        for clause in clauses {
            match clause {
                FunctionArgumentClause::OrderBy(keys) => {
                    keys.iter_mut().try_for_each(|key| self.order_key(key, scope))?;
                }
                FunctionArgumentClause::Limit(Expr::Identifier(marker))
                    if self.stand_ins.meaning(&marker.value).is_some() => {}
                FunctionArgumentClause::IgnoreOrRespectNulls(_)
                | FunctionArgumentClause::JsonNullClause(_)
                | FunctionArgumentClause::JsonReturningClause(_) => {}
                _ => return Err(Problem::not_understood(&format!("a clause in the call of {name}"))),
            }
        }
        let distinct = matches!(duplicate_treatment, Some(DuplicateTreatment::Distinct));
        let Some(power) = power else {
            let of_default = self.plain_arguments(name, args, scope)?;
            let prints = of_default && matches!(name, "pg_get_expr" | "pg_catalog.pg_get_expr");
            return Ok(if prints { Shape::Default } else { Shape::Plain });
        };
        let mut operands: Vec<&mut Expr> = vec![];
        for arg in args.iter_mut() {
            match arg {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => operands.push(expr),
                FunctionArg::Unnamed(FunctionArgExpr::Wildcard) if power == Power::Test => {}
                _ => return Err(Problem::not_understood(&format!("this argument of {name}"))),
            }
        }
        match power {
            Power::Test => {
                for operand in operands {
                    let at = expression_at(self, operand);
                    let shape = self.expr(operand, scope)?;
                    match shape {
                        Shape::WholeRow(_) if !distinct => {}
                        shape if distinct => self.compared(&shape, &format!("{name}(DISTINCT …)"), at)?,
                        _ => {}
                    }
                }
                Ok(Shape::Plain)
            }
            Power::Alternatives => self.unify(operands, scope, "COALESCE"),
            Power::NullIf => self.null_if(operands, scope),
            Power::FirstMoved => self.moved_from_row(name, operands, scope),
            Power::Elements => self.collected(name, operands, distinct, scope),
            Power::Each => match operands.as_mut_slice() {
                [array] => self.array_elements(array, scope),
                _ => Err(Problem::not_understood("unnest of several arrays in a select list")),
            },
            Power::Without => self.array_without(name, operands, scope),
            Power::Document(maker, form) => {
                let mut shaped = vec![];
                for operand in operands {
                    let shape = match self.expr(operand, scope)? {
                        Shape::WholeRow(row) => self.whole_row(operand, row)?,
                        shape => shape,
                    };
                    shaped.push((&*operand, shape));
                }
                self.made_document(name, (maker, form), &shaped, distinct)
            }
        }
    }

    fn null_if(&mut self, mut operands: Vec<&mut Expr>, scope: &Scope<'_>) -> Result<Shape, Problem> {
        let [first, second] = operands.as_mut_slice() else {
            return Err(Problem::not_understood("NULLIF without two arguments"));
        };
        let first_shape = self.expr(first, scope)?;
        let second_shape = self.expr(second, scope)?;
        self.pair(first, first_shape.clone(), second, second_shape.clone(), "NULLIF")?;
        // A constant that was sealed to be compared comes out sealed, too.
        Ok(match (first_shape, second_shape) {
            (Shape::Sealed(mut sealed), _) | (Shape::Adaptable, Shape::Sealed(mut sealed)) => {
                // The result has the type of the operator's operand: text's for varchar.
                if matches!(sealed.shown(), DataType::Varchar(_)) {
                    sealed.shown = Some(DataType::Text);
                }
                Shape::Sealed(sealed)
            }
            _ => Shape::Plain,
        })
    }

    /// `array_agg(x)`: an array of cells, where `x` is one.
    fn collected(
        &mut self,
        name: &str,
        operands: Vec<&mut Expr>,
        distinct: bool,
        scope: &Scope<'_>,
    ) -> Result<Shape, Problem> {
        let mut result = Shape::Plain;
        for operand in operands {
            let at = expression_at(self, operand);
            match self.expr(operand, scope)? {
                Shape::Sealed(sealed) => {
                    if distinct {
                        self.compared(&Shape::Sealed(sealed.clone()), &format!("{name}(DISTINCT …)"), at)?;
                    }
                    result = Shape::Array(sealed);
                }
                shape @ (Shape::WholeRow(_) | Shape::Row(_)) => {
                    let row = match shape {
                        Shape::WholeRow(row) => self.whole_row(operand, row)?,
                        other => other,
                    };
                    if distinct {
                        self.compared(&row, &format!("{name}(DISTINCT …)"), at)?;
                    }
                    result = Shape::Rows(Rc::new(row));
                }
                other => self.refuse_sealed(&other, &format!("function {name}"), at)?,
            }
        }
        Ok(result)
    }

    /// `array_remove(x, constant)`.
    fn array_without(
        &mut self,
        name: &str,
        mut operands: Vec<&mut Expr>,
        scope: &Scope<'_>,
    ) -> Result<Shape, Problem> {
        let [array, removed] = operands.as_mut_slice() else {
            return Err(Problem::not_understood(&format!("this form of {name}")));
        };
        let construct = format!("function {name}");
        let (array, shape) = (self.expr(array, scope)?, self.expr(removed, scope)?);
        let Shape::Array(sealed) = array else {
            self.refuse_sealed(&array, &construct, None)?;
            self.refuse_sealed(&shape, &construct, None)?;
            return Ok(Shape::Plain);
        };
        match shape {
            Shape::Adaptable if is_null(removed) => {
                let null = Expr::Value(Value::Null.into());
                **removed = cast(null, sealed_type(&compared_with(&sealed)));
            }
            Shape::Adaptable => self.seal_compared(removed, &sealed, name, false)?,
            _ => return Err(Problem::sealed_use(sealed.column(), &construct)),
        }
        Ok(Shape::Array(sealed))
    }

    /// `lag(x, 1, default)`: the first operand's shape; the offset is plain, the default one of the alternatives.
    fn moved_from_row(
        &mut self,
        name: &str,
        operands: Vec<&mut Expr>,
        scope: &Scope<'_>,
    ) -> Result<Shape, Problem> {
        let mut alternatives = vec![];
        for (index, operand) in operands.into_iter().enumerate() {
            if index == 1 {
                self.unsealed(operand, scope, name)?;
            } else {
                alternatives.push(operand);
            }
        }
        Ok(match self.unify(alternatives, scope, name)? {
            Shape::Sealed(sealed) => Shape::Sealed(sealed.unmodified()),
            shape => shape,
        })
    }

    /// Arguments of a function that knows nothing of sealed values.
    pub(super) fn plain_arguments(
        &mut self,
        name: &str,
        args: &mut [FunctionArg],
        scope: &Scope<'_>,
    ) -> Result<bool, Problem> {
        let construct = format!("function {name}");
        let mut of_default = false;
        for arg in args {
            let arg = match arg {
                FunctionArg::Unnamed(arg) | FunctionArg::Named { arg, .. } => arg,
                // The name of a parameter, not of a column.
                FunctionArg::ExprNamed {
                    name: _,
                    arg,
                    operator: FunctionArgOperator::RightArrow | FunctionArgOperator::Assignment,
                } => arg,
                FunctionArg::ExprNamed { name, arg, operator: _ } => {
                    self.unsealed(name, scope, &construct)?;
                    arg
                }
            };
            match arg {
                FunctionArgExpr::Expr(expr) => {
                    let at = expression_at(self, expr);
                    let shape = self.expr(expr, scope)?;
                    self.refuse_sealed(&shape, &construct, at)?;
                    of_default |= matches!(shape, Shape::Default);
                }
                FunctionArgExpr::Wildcard => {}
                FunctionArgExpr::QualifiedWildcard(_) | FunctionArgExpr::WildcardWithOptions(_) => {
                    return Err(Problem::not_understood(&format!("a row as argument of {name}")));
                }
            }
        }
        Ok(of_default)
    }
}

//! Comparisons: what a sealed column may be compared with, and the constants that are sealed for it.

use super::deferred::Meets;
use super::print::{Mark, cast, mismatch, sealed_type, type_by_text, verbatim};
use super::query::expression_at;
use super::row::row_items;
use super::scope::Scope;
use super::view::is_base;
use super::{Analyst, LiteralSlot, ParameterUse, Recipe, SealedShape, Shape, logical};
use crate::catalog::Action;
use crate::sql::problem::Problem;
use crate::value::DataType;
use sqlparser::ast::{self, ArrayElemTypeDef, BinaryOperator, Expr, InTarget, UnaryOperator, Value};

impl Analyst<'_> {
    /// `left op right` for equality operators.
    pub(super) fn comparison(
        &mut self,
        left: &mut Expr,
        right: &mut Expr,
        scope: &Scope<'_>,
        operator: &str,
    ) -> Result<Shape, Problem> {
        let at = expression_at(self, left).or_else(|| expression_at(self, right));
        let left_shape = self.expr(left, scope)?;
        let right_shape = self.expr(right, scope)?;
        self.pair(left, left_shape, right, right_shape, operator).map_err(|problem| problem.at(at))?;
        Ok(Shape::Plain)
    }

    /// As [`Analyst::comparison`], of operands that have been read.
    pub(super) fn pair(
        &mut self,
        left: &mut Expr,
        left_shape: Shape,
        right: &mut Expr,
        right_shape: Shape,
        operator: &str,
    ) -> Result<(), Problem> {
        match (left_shape, right_shape) {
            (Shape::Sealed(sealed), Shape::Adaptable) => self.seal_compared(right, &sealed, operator, false),
            (Shape::Adaptable, Shape::Sealed(sealed)) => self.seal_compared(left, &sealed, operator, false),
            (Shape::Sealed(sealed), Shape::Deferred(slots))
            | (Shape::Deferred(slots), Shape::Sealed(sealed)) => {
                self.decide(&slots, &Meets::Compared(&sealed, operator))
            }
            (Shape::Clear(column), Shape::Adaptable) => {
                self.cast_constant(right, &column.data_type);
                Ok(())
            }
            (Shape::Adaptable, Shape::Clear(column)) => {
                self.cast_constant(left, &column.data_type);
                Ok(())
            }
            (Shape::Row(left_shapes), Shape::Row(right_shapes)) => {
                let (Some(lefts), Some(rights)) = (row_items(left), row_items(right)) else {
                    return Err(Problem::not_understood("this row comparison"));
                };
                let lefts = lefts.into_iter().zip(left_shapes);
                let rights = rights.into_iter().zip(right_shapes);
                for ((left, left_shape), (right, right_shape)) in lefts.zip(rights) {
                    self.pair(left, left_shape, right, right_shape, operator)?;
                }
                Ok(())
            }
            (left_shape, right_shape) => self.compare_shapes(&left_shape, &right_shape, operator, None),
        }
    }

    /// Two values that already exist in the database: both sealed in one deterministic domain, or neither sealed.
    pub(super) fn compare_shapes(
        &mut self,
        left: &Shape,
        right: &Shape,
        operator: &str,
        at: Option<usize>,
    ) -> Result<(), Problem> {
        match (left, right) {
            (Shape::Sealed(a), Shape::Sealed(b)) => {
                self.comparable(a, operator)?;
                self.comparable(b, operator)?;
                if a.domain.name != b.domain.name || a.version != b.version {
                    return Err(Problem::sealed_use(a.column(), &format!("{operator} with another domain"))
                        .detail(format!(
                            "Column {} is in domain \"{}\", column {} in domain \"{}\".",
                            a.column().column_name(),
                            a.domain.name,
                            b.column().column_name(),
                            b.domain.name
                        )));
                }
                self.note_all(&a.columns, Action::Compare, false);
                self.note_all(&b.columns, Action::Compare, false);
                Ok(())
            }
            (Shape::Sealed(sealed), Shape::Deferred(slots))
            | (Shape::Deferred(slots), Shape::Sealed(sealed)) => {
                self.decide(slots, &Meets::Compared(sealed, operator)).map_err(|problem| problem.at(at))
            }
            (Shape::Sealed(sealed), _) | (_, Shape::Sealed(sealed)) => Err(Problem::sealed_use(
                sealed.column(),
                &format!("operator {operator} with a value of another kind"),
            )
            .at(at)),
            (Shape::WholeRow(a), Shape::WholeRow(b)) => {
                self.compared(left, operator, at)?;
                self.compared(right, operator, at)?;
                for (own, other) in a.columns.iter().zip(&b.columns) {
                    self.compare_shapes(&own.shape, &other.shape, operator, at)?;
                }
                Ok(())
            }
            (left, right) => {
                self.refuse_sealed(left, operator, at)?;
                self.refuse_sealed(right, operator, at)
            }
        }
    }

    /// A value that is grouped, made distinct or partitioned by.
    pub(super) fn compared(
        &mut self,
        shape: &Shape,
        construct: &str,
        at: Option<usize>,
    ) -> Result<(), Problem> {
        match shape {
            Shape::Sealed(sealed) => {
                self.comparable(sealed, construct).map_err(|problem| problem.at(at))?;
                self.note_all(&sealed.columns.clone(), Action::Compare, false);
                Ok(())
            }
            Shape::Row(shapes) => shapes.iter().try_for_each(|inner| self.compared(inner, construct, at)),
            Shape::WholeRow(row) => {
                let mut columns = row.columns.iter();
                columns.try_for_each(|out| match &out.shape {
                    // Rows that are equal or not tell of it.
                    Shape::Clear(column) => {
                        self.note(column, Action::Read, self.in_view > 0);
                        match (self.context.guard)(column.id, column.name()) {
                            Some(_) => Err(Problem::whole_row(&row.name)),
                            None => Ok(()),
                        }
                    }
                    shape => self.compared(shape, construct, at),
                })
            }
            Shape::Deferred(slots) => self.compared_alike(slots, construct),
            Shape::Array(_) | Shape::Rows(_) | Shape::Document(_) => self.refuse_sealed(shape, construct, at),
            Shape::Plain | Shape::Adaptable | Shape::Clear(_) | Shape::Default => Ok(()),
        }
    }

    pub(super) fn comparable(&self, sealed: &SealedShape, construct: &str) -> Result<(), Problem> {
        if sealed.deterministic() {
            return Ok(());
        }
        let problem = Problem::sealed_use(sealed.column(), construct);
        Err(match construct {
            "DISTINCT" | "GROUP BY" => problem.hint(format!(
                "A randomized column can stand there with the whole primary key of table {} beside it; \
                 a deterministic domain could be compared by itself.",
                sealed.column().table()
            )),
            _ => problem,
        })
    }

    pub(super) fn in_target(
        &mut self,
        operand: &mut Expr,
        target: &mut InTarget,
        scope: &Scope<'_>,
    ) -> Result<Shape, Problem> {
        let at = expression_at(self, operand);
        let shape = self.expr(operand, scope)?;
        match target {
            InTarget::List(items) => {
                for item in items {
                    let item_shape = self.expr(item, scope)?;
                    self.pair(operand, shape.clone(), item, item_shape, "IN")
                        .map_err(|problem| problem.at(at))?;
                }
            }
            InTarget::Subquery(query) => {
                let outputs = self.query(query, Some(scope), &scope.ctes, None)?;
                self.against_subquery(operand, &shape, &outputs, "IN").map_err(|problem| problem.at(at))?;
            }
            InTarget::Unnest(_) => return Err(Problem::not_understood("IN UNNEST")),
            InTarget::Table { .. } => return Err(Problem::not_understood("IN with a table name")),
        }
        Ok(Shape::Plain)
    }

    /// `operand IN (SELECT …)`: a constant takes the form of the subquery's column.
    fn against_subquery(
        &mut self,
        operand: &mut Expr,
        shape: &Shape,
        outputs: &[super::scope::Out],
        operator: &str,
    ) -> Result<(), Problem> {
        if let Shape::Row(shapes) = shape {
            let Some(items) = row_items(operand) else {
                return Err(Problem::not_understood("this row comparison"));
            };
            for ((item, own), out) in items.into_iter().zip(shapes).zip(outputs) {
                self.against_subquery(item, own, std::slice::from_ref(out), operator)?;
            }
            return Ok(());
        }
        for out in outputs {
            match (shape, &out.shape) {
                (Shape::Adaptable, Shape::Sealed(sealed)) => {
                    self.seal_compared(operand, sealed, operator, false)?
                }
                (own, other) => self.compare_shapes(own, other, operator, None)?,
            }
        }
        Ok(())
    }

    /// `left op ANY (right)`, `left op ALL (right)`.
    pub(super) fn quantified(
        &mut self,
        left: &mut Expr,
        op: &BinaryOperator,
        right: &mut Expr,
        scope: &Scope<'_>,
        quantifier: &str,
    ) -> Result<Shape, Problem> {
        let at = expression_at(self, left);
        let operator = format!("{op} {quantifier}");
        let shape = self.expr(left, scope)?;
        let equality = matches!(op, BinaryOperator::Eq | BinaryOperator::NotEq);
        if let Expr::Subquery(query) = unparenthesised(right) {
            let outputs = self.query(query, Some(scope), &scope.ctes, None)?;
            if !equality {
                self.refuse_sealed(&shape, &operator, at)?;
                for out in &outputs {
                    self.refuse_sealed(&out.shape, &operator, at)?;
                }
                return Ok(Shape::Plain);
            }
            self.against_subquery(left, &shape, &outputs, &operator).map_err(|problem| problem.at(at))?;
            return Ok(Shape::Plain);
        }
        let Shape::Sealed(sealed) = shape else {
            self.refuse_sealed(&shape, &operator, at)?;
            let elements = self.expr(right, scope)?;
            self.refuse_sealed(&elements, &operator, at)?;
            return Ok(Shape::Plain);
        };
        if !equality {
            return Err(Problem::sealed_use(sealed.column(), &format!("operator {operator}")).at(at));
        }
        self.elements(right, &sealed, scope, &operator).map_err(|problem| problem.at(at))?;
        Ok(Shape::Plain)
    }

    /// The array of `= ANY (array)`: a parameter, or `ARRAY[…]` of constants and columns.
    pub(super) fn elements(
        &mut self,
        array: &mut Expr,
        sealed: &SealedShape,
        scope: &Scope<'_>,
        operator: &str,
    ) -> Result<(), Problem> {
        match array {
            Expr::Nested(inner) => self.elements(inner, sealed, scope, operator),
            Expr::Cast { expr: inner, data_type, .. } if self.reads_view() && is_base(data_type, true) => {
                self.elements(inner, sealed, scope, operator)
            }
            Expr::Array(list) => {
                // Without a type anywhere the server makes it an array of text.
                if !is_text(&sealed.data_type) && list.elem.iter().all(is_untyped) {
                    let plain = operator.split(' ').next().unwrap_or(operator);
                    return Err(mismatch(&sealed.data_type.sql(), plain, "text"));
                }
                let quoted = list.elem.iter().any(|item| is_untyped(item) && !is_null(item));
                let digits = |item: &Expr| is_number(item) && !item.to_string().contains('.');
                if quoted && matches!(sealed.data_type, DataType::Numeric(_)) && list.elem.iter().any(digits)
                {
                    // What the quoted ones are read as would depend on the others.
                    return Err(Problem::sealed_use(sealed.column(), "an array of quoted and other numbers"));
                }
                for item in &mut list.elem {
                    let shape = self.expr(item, scope)?;
                    match shape {
                        // An array of nothing else would be text's.
                        Shape::Adaptable if is_null(item) => {
                            *item =
                                cast(Expr::Value(Value::Null.into()), sealed_type(&compared_with(sealed)));
                        }
                        Shape::Adaptable => self.seal_compared(item, sealed, operator, false)?,
                        other => {
                            self.compare_shapes(&Shape::Sealed(sealed.clone()), &other, operator, None)?
                        }
                    }
                }
                Ok(())
            }
            Expr::Cast { expr: inner, data_type, .. } if is_array_of(data_type, &sealed.data_type) => {
                let element = data_type.clone();
                let mut inner = std::mem::replace(&mut **inner, Expr::Value(Value::Null.into()));
                if let (Expr::Array(list), ast::DataType::Array(ArrayElemTypeDef::SquareBracket(of, _))) =
                    (&mut inner, element)
                {
                    for item in list.elem.iter_mut().filter(|item| is_untyped(item)) {
                        let constant = std::mem::replace(item, Expr::Value(Value::Null.into()));
                        *item = cast(constant, (*of).clone());
                    }
                }
                *array = inner;
                self.elements(array, sealed, scope, operator)
            }
            other => match self.expr(other, scope)? {
                Shape::Adaptable => self.seal_compared(other, sealed, operator, true),
                _ => Err(Problem::sealed_use(
                    sealed.column(),
                    &format!("operator {operator} with a computed array"),
                )
                .hint("Pass the array as a parameter, or write ARRAY[…] of constants.")),
            },
        }
    }

    /// Seals a constant that is compared with a deterministic column.
    pub(super) fn seal_compared(
        &mut self,
        constant: &mut Expr,
        sealed: &SealedShape,
        operator: &str,
        elements: bool,
    ) -> Result<(), Problem> {
        self.comparable(sealed, &format!("operator {operator}"))?;
        self.note_all(&sealed.columns.clone(), Action::Compare, false);
        let recipe = compared_with(sealed);
        if is_number(constant) && is_text(&sealed.data_type) {
            return Err(mismatch(&sealed.data_type.sql(), operator, "integer"));
        }
        self.seal(constant, recipe, sealed, elements)
    }

    /// Replaces a constant by its slot and the cast to the sealed type.
    pub(super) fn seal(
        &mut self,
        constant: &mut Expr,
        recipe: Recipe,
        sealed: &SealedShape,
        elements: bool,
    ) -> Result<(), Problem> {
        if self.reads_view() {
            return self.sealed_in_view(constant, &recipe, elements);
        }
        let sealed_type = sealed_type(&recipe);
        let target = if elements {
            ast::DataType::Array(ArrayElemTypeDef::SquareBracket(Box::new(sealed_type), None))
        } else {
            sealed_type
        };
        if let Expr::Nested(inner) = constant {
            return self.seal(inner, recipe, sealed, elements);
        }
        if let Expr::Cast { expr: inner, data_type, .. } = constant {
            let to = logical(data_type);
            let own = |to: &DataType| *to == recipe.data_type || *to == sealed.data_type;
            // A length or scale that is not the column's would cut the value first.
            let cut = |to: &DataType| matches!(to, DataType::Varchar(Some(_)) | DataType::Numeric(Some(_)));
            let as_text = to.filter(is_text);
            let through_text = recipe.cast.is_some() && as_text.is_some();
            let fits = to.is_some_and(|to| {
                own(&to) || (same_family(&to, &recipe.data_type) || through_text) && !cut(&to)
            });
            if !fits {
                let construct = format!("a constant cast to {}", data_type.to_string().to_ascii_lowercase());
                return Err(Problem::sealed_use(sealed.column(), &construct));
            }
            let mut recipe = recipe;
            recipe.cast = recipe.cast.or(to);
            recipe.as_text = as_text;
            if let Some(to @ (DataType::Smallint | DataType::Integer | DataType::Bigint)) = to
                && recipe.action == Action::Compare
            {
                recipe.untyped = to;
            }
            let mut inner = std::mem::replace(&mut **inner, Expr::Value(Value::Null.into()));
            self.seal(&mut inner, recipe, sealed, elements)?;
            *constant = inner;
            return Ok(());
        }
        if let Expr::Value(value) = &*constant
            && let Value::Placeholder(text) = &value.value
            && let Some(Mark::Parameter(slot)) = self.markers.read(text)
        {
            self.parameters[slot].1 =
                if elements { ParameterUse::SealElements(recipe) } else { ParameterUse::Seal(recipe) };
            *constant = cast(verbatim(text.clone()), target);
            return Ok(());
        }
        if elements && is_number(constant) {
            return Err(mismatch(&sealed.data_type.sql(), "= ANY", "integer"));
        }
        if matches!(&*constant, Expr::Value(value) if matches!(value.value, Value::Null)) {
            return Ok(());
        }
        let Some(span) = self.constant_span(constant) else {
            return Err(Problem::not_understood("this form of constant"));
        };
        let slot = self.literals.len();
        self.literals.push(LiteralSlot { span, elements, recipe });
        *constant = cast(verbatim(self.markers.literal(slot)), target);
        Ok(())
    }

    /// Where the token (with its sign) of a constant stands in the client's text.
    pub(super) fn constant_span(&self, constant: &Expr) -> Option<std::ops::Range<usize>> {
        match constant {
            Expr::Value(value) => {
                let start = self.at(value.span)?;
                let end = self.lines.offset(value.span.end)?;
                (start < end).then_some(start..end)
            }
            Expr::UnaryOp { op: op @ (UnaryOperator::Minus | UnaryOperator::Plus), expr } => {
                let number = self.constant_span(expr)?;
                let sign = if matches!(op, UnaryOperator::Minus) { '-' } else { '+' };
                let start = self.lines.text().get(..number.start)?.rfind(sign)?;
                Some(start..number.end)
            }
            _ => None,
        }
    }

    /// Prints a constant next to a clear tagged column with the column's type, so that a stale plan fails: the type that
    /// the server would take it for, without length or scale, which would cut it.
    pub(super) fn cast_constant(&mut self, constant: &mut Expr, data_type: &DataType) {
        if self.in_view > 0 || matches!(constant, Expr::Cast { .. }) {
            return;
        }
        if let Expr::Nested(inner) = constant {
            return self.cast_constant(inner, data_type);
        }
        let bare = matches!(
            &*constant,
            Expr::Value(value) if matches!(value.value, Value::SingleQuotedString(_) | Value::EscapedStringLiteral(_)
                | Value::DollarQuotedString(_) | Value::Placeholder(_))
        );
        if bare {
            let inner = std::mem::replace(constant, Expr::Value(Value::Null.into()));
            *constant = cast(inner, type_by_text(&uncut(*data_type).sql()));
        }
    }
}

/// How a value that is compared with `sealed` is sealed.
pub(super) fn compared_with(sealed: &SealedShape) -> Recipe {
    recipe(sealed, widest(sealed.domain.data_type), Action::Compare)
}

/// How a constant is sealed that becomes one of the alternatives of a sealed value (`COALESCE(email, 'none')`).
pub(super) fn moved(sealed: &SealedShape) -> Recipe {
    let data_type = match sealed.data_type {
        // Digits as in every cell of the domain: two that are equal have the same bytes.
        DataType::Numeric(None) => sealed.domain.data_type,
        other => other,
    };
    recipe(sealed, data_type, Action::Read)
}

fn recipe(sealed: &SealedShape, data_type: DataType, action: Action) -> Recipe {
    let column = sealed.column();
    // Operators of varchar are text's.
    let untyped = if is_text(&data_type) { data_type } else { sealed.data_type };
    Recipe {
        domain: sealed.domain.clone(),
        data_type,
        untyped,
        cast: None,
        as_text: None,
        version: sealed.version,
        action,
        column: column.id,
        column_name: column.column_name(),
    }
}

/// The type without length or range: a value too long for a column is unequal to all of it, not an error.
pub(super) fn widest(data_type: DataType) -> DataType {
    match data_type {
        DataType::Varchar(_) => DataType::Text,
        DataType::Smallint | DataType::Integer => DataType::Bigint,
        other => other,
    }
}

/// The type of an operator's operand.
fn uncut(data_type: DataType) -> DataType {
    match data_type {
        DataType::Varchar(_) => DataType::Text,
        DataType::Numeric(_) => DataType::Numeric(None),
        other => other,
    }
}

fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Text | DataType::Varchar(_))
}

fn same_family(a: &DataType, b: &DataType) -> bool {
    uncut(widest(*a)) == uncut(widest(*b))
}

/// A quoted literal or NULL.
fn is_untyped(expr: &Expr) -> bool {
    let quoted = |value: &Value| {
        matches!(
            value,
            Value::SingleQuotedString(_) | Value::EscapedStringLiteral(_) | Value::DollarQuotedString(_)
        )
    };
    matches!(expr, Expr::Value(value) if quoted(&value.value) || value.value == Value::Null)
}

pub(super) fn is_null(expr: &Expr) -> bool {
    match expr {
        Expr::Value(value) => matches!(value.value, Value::Null),
        Expr::Cast { expr, .. } | Expr::Nested(expr) => is_null(expr),
        _ => false,
    }
}

fn is_number(expr: &Expr) -> bool {
    match expr {
        Expr::Value(value) => matches!(value.value, Value::Number(_, _)),
        Expr::UnaryOp { expr, .. } | Expr::Nested(expr) => is_number(expr),
        _ => false,
    }
}

fn unparenthesised(expr: &mut Expr) -> &mut Expr {
    let mut inner = expr;
    while let Expr::Nested(next) = inner {
        inner = next;
    }
    inner
}

pub(super) fn is_array_of(data_type: &ast::DataType, element: &DataType) -> bool {
    match data_type {
        ast::DataType::Array(ArrayElemTypeDef::SquareBracket(inner, _)) => {
            logical(inner).is_some_and(|inner| same_family(&inner, element))
        }
        _ => false,
    }
}

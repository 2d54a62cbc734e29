//! Expressions: one arm for each node that is understood, and what it needs of a sealed operand.

use super::compare::moved;
use super::deferred::Meets;
use super::print::{cast, type_by_text};
use super::query::{expression_at, missing_entry};
use super::row::is_row;
use super::scope::{Resolved, Scope, fold, parts};
use super::{Analyst, SealedShape, Shape, Tagged, logical};
use crate::catalog::Action;
use crate::sql::kinds;
use crate::sql::problem::Problem;
use crate::sql::stand_in::Meaning;
use crate::value::DataType;
use sqlparser::ast::{
    AccessExpr, BinaryOperator, CaseWhen, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments,
    Ident, Interval, Subscript, UnaryOperator, Value,
};
use std::rc::Rc;
use std::sync::Arc;

impl Analyst<'_> {
    /// The shape of `expr` in `scope`; the tree is changed where a tagged column asks for it.
    pub(super) fn expr(&mut self, expr: &mut Expr, scope: &Scope<'_>) -> Result<Shape, Problem> {
        match expr {
            Expr::Identifier(ident) if self.stand_ins.meaning(&ident.value).is_some() => {
                self.stood_in(&ident.value)
            }
            Expr::Identifier(ident) => {
                let resolved =
                    scope.column(&fold(ident)).map_err(|problem| problem.at(self.at(ident.span)))?;
                self.reference(expr, resolved)
            }
            Expr::CompoundIdentifier(path) => {
                let names: Vec<String> = path.iter().map(fold).collect();
                let at = path.first().and_then(|ident| self.at(ident.span));
                let resolved = match names.split_last() {
                    Some((column, qualifier)) => {
                        scope.qualified(qualifier, column).map_err(|problem| problem.at(at))?
                    }
                    None => Resolved::Nothing,
                };
                if matches!(resolved, Resolved::Nothing)
                    && let Some((_, qualifier)) = names.split_last()
                    && scope.entry_outwards(qualifier).is_none()
                {
                    // What the server would say; if it knows the name after all, it must not be read unseen.
                    return Err(missing_entry(qualifier).at(at));
                }
                if let Some((_, qualifier)) = names.split_last()
                    && scope.entry_outwards(qualifier).is_some_and(|entry| !entry.keeps_schema())
                {
                    path.drain(..path.len().saturating_sub(2));
                }
                self.reference(expr, resolved)
            }
            Expr::Value(value) => match &value.value {
                Value::Placeholder(_) => self.placeholder(expr),
                _ => Ok(Shape::Adaptable),
            },
            // What PostgreSQL reads it as (`gram.y`, `AexprConst`).
            Expr::TypedString(sqlparser::ast::TypedString { data_type, value, uses_odbc_syntax: false }) => {
                *expr = cast(Expr::Value(value.clone()), data_type.clone());
                self.expr(expr, scope)
            }
            Expr::TypedString(_) => Err(Problem::not_understood("a constant in braces")),
            Expr::Nested(inner) => self.expr(inner, scope),
            Expr::Interval(interval) => self.interval(interval, scope),
            Expr::BinaryOp { left, op, right } => self.binary(left, op, right, scope),
            Expr::UnaryOp { op, expr } => self.unary(*op, expr, scope),
            Expr::Cast { kind: _, expr: inner, data_type, format } => {
                if format.is_some() {
                    return Err(Problem::not_understood("CAST … FORMAT"));
                }
                let to = logical(data_type);
                let name = data_type.to_string();
                match self.expr(inner, scope)? {
                    shape @ (Shape::Sealed(_) | Shape::Array(_) | Shape::Deferred(_))
                        if self.reads_view() =>
                    {
                        self.cast_in_view(shape, data_type)
                    }
                    Shape::Sealed(sealed) => self.cast_sealed(expr, sealed, to, &name),
                    Shape::Adaptable => Ok(Shape::Adaptable),
                    Shape::Clear(_) | Shape::Plain => Ok(Shape::Plain),
                    Shape::Default if matches!(to, Some(DataType::Text | DataType::Varchar(None))) => {
                        Ok(Shape::Default)
                    }
                    Shape::Deferred(slots) if is_alternatives(inner) => {
                        // The same of each, so that none is cut short that is sealed later.
                        for slot in &*slots {
                            self.cast_deferred(*slot, data_type);
                        }
                        let inner = std::mem::replace(&mut **inner, Expr::Identifier(Ident::new("")));
                        *expr = inner;
                        Ok(Shape::Deferred(slots))
                    }
                    Shape::Deferred(slots) if to.is_some() && self.cast_column(&slots, data_type) => {
                        let inner = std::mem::replace(&mut **inner, Expr::Identifier(Ident::new("")));
                        *expr = inner;
                        Ok(Shape::Deferred(slots))
                    }
                    Shape::Document(document) => match document.cast(to)? {
                        Some(cast) => Ok(Shape::Document(Rc::new(cast))),
                        None => {
                            self.refuse_sealed(&Shape::Document(document), "a cast", None)?;
                            Ok(Shape::Plain)
                        }
                    },
                    other => {
                        self.refuse_sealed(&other, "a cast", None)?;
                        Ok(Shape::Plain)
                    }
                }
            }
            Expr::IsNull(operand) | Expr::IsNotNull(operand) => match self.expr(operand, scope)? {
                Shape::Adaptable => {
                    self.only_null_counts(operand);
                    Ok(Shape::Plain)
                }
                Shape::WholeRow(row) => self.whole_row(operand, row).map(|_| Shape::Plain),
                _ => Ok(Shape::Plain),
            },
            Expr::IsTrue(operand)
            | Expr::IsNotTrue(operand)
            | Expr::IsFalse(operand)
            | Expr::IsNotFalse(operand)
            | Expr::IsUnknown(operand)
            | Expr::IsNotUnknown(operand) => self.unsealed(operand, scope, "IS TRUE"),
            Expr::IsDistinctFrom(left, right) => self.comparison(left, right, scope, "IS DISTINCT FROM"),
            Expr::IsNotDistinctFrom(left, right) => {
                self.comparison(left, right, scope, "IS NOT DISTINCT FROM")
            }
            Expr::In { expr: operand, target, negated: _, global } => {
                if *global {
                    return Err(Problem::not_understood("GLOBAL IN"));
                }
                self.in_target(operand, target, scope)
            }
            Expr::AnyOp { left, compare_op, right, is_some: _ } => {
                self.quantified(left, compare_op, right, scope, "ANY")
            }
            Expr::AllOp { left, compare_op, right } => self.quantified(left, compare_op, right, scope, "ALL"),
            Expr::Case { case_token: _, end_token: _, operand, conditions, else_result } => {
                self.case(operand.as_deref_mut(), conditions, else_result.as_deref_mut(), scope)
            }
            Expr::Function(function) if is_row(function) => self.row(function, scope),
            Expr::Function(function) if is_pg_typeof(function) => self.type_of(expr, scope),
            Expr::Function(function) => self.function(function, scope),
            Expr::Exists { subquery, negated: _ } => {
                self.query(subquery, Some(scope), &scope.ctes, None)?;
                Ok(Shape::Plain)
            }
            Expr::Subquery(query) => {
                let outputs = self.query(query, Some(scope), &scope.ctes, None)?;
                Ok(match outputs.into_iter().next() {
                    // Its value stands in a select list of its own: nothing here can be written into it.
                    Some(out) if !matches!(out.shape, Shape::Adaptable) => out.shape,
                    _ => Shape::Plain,
                })
            }
            Expr::Tuple(items) => {
                let shapes = items.iter_mut().map(|item| self.row_field(item, scope));
                Ok(Shape::Row(shapes.collect::<Result<_, _>>()?))
            }
            // A row where a value may stand: `OLD.* IS DISTINCT FROM NEW.*`.
            Expr::QualifiedWildcard(name, _) => match scope.entry_outwards(&parts(name)?) {
                Some(entry) if entry.complete => Ok(Shape::WholeRow(Rc::new(entry.whole_row()))),
                Some(_) | None => Err(Problem::not_understood("this row")),
            },
            Expr::CompoundFieldAccess { .. } => match self.field(expr, scope)? {
                Some(shape) => Ok(shape),
                None => self.ciphertext_blind(expr, scope),
            },
            other => self.ciphertext_blind(other, scope),
        }
    }

    /// Nodes whose operands may not be sealed, all alike.
    fn ciphertext_blind(&mut self, expr: &mut Expr, scope: &Scope<'_>) -> Result<Shape, Problem> {
        let mut all = |construct: &str, operands: Vec<Option<&mut Box<Expr>>>| -> Result<Shape, Problem> {
            self.blind(
                construct,
                operands.into_iter().flatten().map(|operand| &mut **operand).collect(),
                scope,
            )
        };
        match expr {
            Expr::Like { negated: _, any: false, expr, pattern, escape_char } => {
                all("LIKE", vec![Some(expr), Some(pattern), escape_char.as_mut()])
            }
            Expr::ILike { negated: _, any: false, expr, pattern, escape_char } => {
                all("ILIKE", vec![Some(expr), Some(pattern), escape_char.as_mut()])
            }
            Expr::SimilarTo { negated: _, expr, pattern, escape_char } => {
                all("SIMILAR TO", vec![Some(expr), Some(pattern), escape_char.as_mut()])
            }
            Expr::Between { expr, negated: _, low, high } => {
                all("BETWEEN", vec![Some(expr), Some(low), Some(high)])
            }
            // The zone is no time.
            Expr::AtTimeZone { timestamp, time_zone } => {
                all("AT TIME ZONE", vec![Some(time_zone)])?;
                all("AT TIME ZONE", vec![Some(timestamp)])
            }
            Expr::Extract { field: _, syntax: _, expr } => all("extract", vec![Some(expr)]),
            Expr::Ceil { expr, field: _ } => all("ceil", vec![Some(expr)]),
            Expr::Floor { expr, field: _ } => all("floor", vec![Some(expr)]),
            Expr::Position { expr, r#in } => all("position", vec![Some(expr), Some(r#in)]),
            Expr::Substring { expr, substring_from, substring_for, special: _, shorthand: _ } => {
                all("substring", vec![Some(expr), substring_from.as_mut(), substring_for.as_mut()])
            }
            Expr::Trim { trim_where: _, trim_what, expr, trim_characters: None } => {
                all("trim", vec![Some(expr), trim_what.as_mut()])
            }
            Expr::Overlay { expr, overlay_what, overlay_from, overlay_for } => {
                // Numbers.
                all("overlay", vec![Some(overlay_from), overlay_for.as_mut()])?;
                all("overlay", vec![Some(expr), Some(overlay_what)])
            }
            Expr::Collate { expr, collation: _ } => all("COLLATE", vec![Some(expr)]),
            Expr::IsJson { expr, kind: _, unique_keys: _, negated: _ } => all("IS JSON", vec![Some(expr)]),
            Expr::IsNormalized { expr, form: _, negated: _ } => all("IS NORMALIZED", vec![Some(expr)]),
            Expr::Array(array) => {
                let shaped = self.shapes(array.elem.iter_mut().collect(), scope)?;
                self.array(shaped)
            }
            Expr::CompoundFieldAccess { root, access_chain } => self.access(root, access_chain, scope),
            other => {
                let name = super::variant_name(other);
                Err(kinds::expression(other).refusal(&format!("expression {name}")))
            }
        }
    }

    /// Operands that may be anything but sealed; constants next to a clear tagged column get its type.
    fn blind(
        &mut self,
        construct: &str,
        operands: Vec<&mut Expr>,
        scope: &Scope<'_>,
    ) -> Result<Shape, Problem> {
        let shaped = self.shapes(operands, scope)?;
        self.blind_shapes(construct, shaped)
    }

    fn blind_shapes(&mut self, construct: &str, operands: Vec<(&mut Expr, Shape)>) -> Result<Shape, Problem> {
        let mut clear: Option<Arc<Tagged>> = None;
        let mut constants: Vec<&mut Expr> = vec![];
        for (operand, shape) in operands {
            let at = expression_at(self, operand);
            self.refuse_sealed(&shape, construct, at)?;
            match shape {
                Shape::Clear(column) => clear = Some(column),
                Shape::Adaptable => constants.push(operand),
                _ => {}
            }
        }
        if let Some(column) = clear {
            for constant in constants {
                self.cast_constant(constant, &column.data_type);
            }
        }
        Ok(Shape::Plain)
    }

    /// `ARRAY[…]` of these elements.
    pub(super) fn array(&mut self, elements: Vec<(&mut Expr, Shape)>) -> Result<Shape, Problem> {
        if !elements.iter().any(|(_, shape)| matches!(shape, Shape::Sealed(_))) {
            return self.blind_shapes("ARRAY", elements);
        }
        match self.unify_shapes(elements, "ARRAY")? {
            Shape::Sealed(sealed) => Ok(Shape::Array(sealed.unmodified())),
            _ => Err(Problem::not_understood("this ARRAY")),
        }
    }

    fn access(
        &mut self,
        root: &mut Expr,
        chain: &mut [AccessExpr],
        scope: &Scope<'_>,
    ) -> Result<Shape, Problem> {
        let shape = self.expr(root, scope)?;
        let taken = match (&shape, &*chain) {
            (Shape::Rows(row), [AccessExpr::Subscript(Subscript::Index { .. })]) => Some((**row).clone()),
            (
                Shape::Rows(row),
                [AccessExpr::Subscript(Subscript::Index { .. }), AccessExpr::Dot(Expr::Identifier(field))],
            ) => self.field_of(row, &fold(field))?,
            (Shape::Rows(_), [AccessExpr::Subscript(Subscript::Slice { .. })]) => Some(shape.clone()),
            (Shape::Array(sealed), [AccessExpr::Subscript(Subscript::Index { .. })]) => {
                Some(Shape::Sealed(sealed.clone()))
            }
            (Shape::Array(_), [AccessExpr::Subscript(Subscript::Slice { .. })]) => Some(shape.clone()),
            _ => None,
        };
        if taken.is_none() {
            self.refuse_sealed(&shape, "a subscript or field selection", None)?;
        }
        for access in chain {
            match access {
                // A field name after a value; a whole tagged row was refused above.
                AccessExpr::Dot(_) => {}
                AccessExpr::Subscript(Subscript::Index { index }) => {
                    self.unsealed(index, scope, "a subscript")?;
                }
                AccessExpr::Subscript(Subscript::Slice { lower_bound, upper_bound, stride }) => {
                    for bound in [lower_bound, upper_bound, stride].into_iter().flatten() {
                        self.unsealed(bound, scope, "a subscript")?;
                    }
                }
            }
        }
        Ok(taken.unwrap_or(Shape::Plain))
    }

    /// An expression that may not be sealed; its shape is plain.
    pub(super) fn unsealed(
        &mut self,
        expr: &mut Expr,
        scope: &Scope<'_>,
        construct: &str,
    ) -> Result<Shape, Problem> {
        self.blind(construct, vec![expr], scope)
    }

    /// A condition: boolean, so a sealed value cannot stand there by itself.
    pub(super) fn condition(
        &mut self,
        expr: &mut Expr,
        scope: &Scope<'_>,
        clause: &str,
    ) -> Result<(), Problem> {
        let at = expression_at(self, expr);
        let shape = self.expr(expr, scope)?;
        self.refuse_sealed(&shape, &format!("{clause} on the bare column"), at)
    }

    /// A part that stands in the tree by its name only.
    fn stood_in(&self, marker: &str) -> Result<Shape, Problem> {
        match self.stand_ins.meaning(marker) {
            Some(Meaning::Text) => Ok(Shape::Plain),
            // Its column was not read here.
            _ => Err(Problem::not_understood("this construct")),
        }
    }

    /// What a name became: a guarded clear column turns into its mask here.
    fn reference(&mut self, expr: &mut Expr, resolved: Resolved) -> Result<Shape, Problem> {
        match resolved {
            Resolved::Nothing => Ok(Shape::Plain),
            Resolved::WholeRow(row) => self.row_referred(row),
            Resolved::Column(Shape::Clear(column)) if std::mem::take(&mut self.moves) => {
                Ok(Shape::Clear(column))
            }
            Resolved::Column(Shape::Clear(column)) => {
                self.note(&column, Action::Read, self.in_view > 0 || self.kept > 0);
                match (self.context.guard)(column.id, &expr.to_string()) {
                    Some(mask) if self.in_view == 0 => {
                        // An identifier that prints as the mask: read again, it resolves to nothing tagged.
                        *expr = Expr::Identifier(Ident::new(mask));
                        self.substitutions += 1;
                        Ok(Shape::Plain)
                    }
                    Some(_) | None => Ok(Shape::Clear(column)),
                }
            }
            Resolved::Column(Shape::Adaptable) => Ok(Shape::Plain),
            Resolved::Column(Shape::Deferred(slots)) => {
                self.referred(&slots)?;
                Ok(self.settled(&slots).map_or(Shape::Deferred(slots), Shape::Sealed))
            }
            Resolved::Column(shape) => Ok(shape),
        }
    }

    /// `pg_typeof(x)`: of a sealed value, its logical type.
    fn type_of(&mut self, expr: &mut Expr, scope: &Scope<'_>) -> Result<Shape, Problem> {
        let Expr::Function(function) = expr else { return Ok(Shape::Plain) };
        let FunctionArguments::List(list) = &mut function.args else {
            return self.function(function, scope);
        };
        let [FunctionArg::Unnamed(FunctionArgExpr::Expr(operand))] = list.args.as_mut_slice() else {
            return self.function(function, scope);
        };
        // A constant in place of an aggregate would change what the query is.
        let bare = matches!(operand, Expr::Identifier(_) | Expr::CompoundIdentifier(_));
        let shown = match self.expr(operand, scope)? {
            Shape::Sealed(sealed) if bare => sealed.shown().sql(),
            other => {
                self.refuse_sealed(&other, "function pg_typeof", None)?;
                return Ok(Shape::Plain);
            }
        };
        *expr =
            cast(Expr::Value(Value::SingleQuotedString(shown).into()), type_by_text("pg_catalog.regtype"));
        // Another column name otherwise.
        self.substitutions += 1;
        Ok(Shape::Plain)
    }

    fn interval(&mut self, interval: &mut Interval, scope: &Scope<'_>) -> Result<Shape, Problem> {
        let Interval {
            value,
            leading_field: _,
            leading_precision: _,
            last_field: _,
            fractional_seconds_precision: _,
        } = interval;
        self.unsealed(value, scope, "INTERVAL")
    }

    fn unary(&mut self, op: UnaryOperator, operand: &mut Expr, scope: &Scope<'_>) -> Result<Shape, Problem> {
        let number = matches!(&*operand, Expr::Value(value) if matches!(value.value, Value::Number(_, _)));
        if matches!(op, UnaryOperator::Minus | UnaryOperator::Plus) && number {
            return Ok(Shape::Adaptable);
        }
        self.unsealed(operand, scope, &format!("operator {op}"))
    }

    fn binary(
        &mut self,
        left: &mut Expr,
        op: &BinaryOperator,
        right: &mut Expr,
        scope: &Scope<'_>,
    ) -> Result<Shape, Problem> {
        match op {
            BinaryOperator::And | BinaryOperator::Or => {
                self.unsealed(left, scope, &op.to_string())?;
                self.unsealed(right, scope, &op.to_string())
            }
            BinaryOperator::Eq | BinaryOperator::NotEq => {
                self.comparison(left, right, scope, &op.to_string())
            }
            BinaryOperator::PGCustomBinaryOperator(path) if is_equality(path) => {
                self.comparison(left, right, scope, path.last().map_or("=", String::as_str))
            }
            BinaryOperator::Arrow
            | BinaryOperator::LongArrow
            | BinaryOperator::Minus
            | BinaryOperator::StringConcat => {
                let (own, other) = (self.expr(left, scope)?, self.expr(right, scope)?);
                if let Shape::Document(document) = &own
                    && let Some(shape) = self.document_operator(document, op, right, &other)?
                {
                    return Ok(shape);
                }
                // Only `jsonb || jsonb`: what the left one has, the right one's members replace.
                if let (Shape::Plain, BinaryOperator::StringConcat, Shape::Document(document)) =
                    (&own, op, &other)
                    && document.is_jsonb_object()
                {
                    return Ok(other);
                }
                let construct = format!("operator {op}");
                if *op == BinaryOperator::Minus {
                    // As for plus, below.
                    self.refuse_sealed(&own, &construct, expression_at(self, left))?;
                    self.refuse_sealed(&other, &construct, expression_at(self, right))?;
                    return Ok(Shape::Plain);
                }
                self.blind_shapes(&construct, vec![(left, own), (right, other)])
            }
            // The server finds what a constant is by the operator: of a time it takes an interval.
            BinaryOperator::Plus => {
                let construct = format!("operator {op}");
                self.unsealed(left, scope, &construct)?;
                self.unsealed(right, scope, &construct)
            }
            BinaryOperator::PGCustomBinaryOperator(path) => {
                let stood_in = path.first().and_then(|name| self.stand_ins.part(name));
                let construct = match stood_in {
                    Some(part) => part.to_ascii_uppercase(),
                    None => format!("operator {op}"),
                };
                self.blind(&construct, vec![left, right], scope)
            }
            other => self.blind(&format!("operator {other}"), vec![left, right], scope),
        }
    }

    fn case(
        &mut self,
        operand: Option<&mut Expr>,
        conditions: &mut [CaseWhen],
        else_result: Option<&mut Expr>,
        scope: &Scope<'_>,
    ) -> Result<Shape, Problem> {
        let mut results: Vec<&mut Expr> = vec![];
        match operand {
            Some(operand) => {
                let at = expression_at(self, operand);
                let shape = self.expr(operand, scope)?;
                for CaseWhen { condition, result } in conditions {
                    let other = self.expr(condition, scope)?;
                    self.pair(operand, shape.clone(), condition, other, "CASE")
                        .map_err(|problem| problem.at(at))?;
                    results.push(result);
                }
            }
            None => {
                for CaseWhen { condition, result } in conditions {
                    self.condition(condition, scope, "CASE WHEN")?;
                    results.push(result);
                }
            }
        }
        // `transformCaseExpr`: ELSE speaks first, and a missing one is NULL.
        let open_ended = else_result.is_none();
        results.splice(0..0, else_result);
        Ok(match self.unify(results, scope, "CASE")? {
            Shape::Sealed(sealed) if open_ended => Shape::Sealed(sealed.unmodified()),
            shape => shape,
        })
    }

    /// Alternatives of which one becomes the value (`CASE`, `COALESCE`): all of one sealed domain, or none sealed.
    pub(super) fn unify(
        &mut self,
        alternatives: Vec<&mut Expr>,
        scope: &Scope<'_>,
        construct: &str,
    ) -> Result<Shape, Problem> {
        let shaped = self.shapes(alternatives, scope)?;
        self.unify_shapes(shaped, construct)
    }

    /// Each operand with its shape. Read once: what is read twice at each depth takes for ever.
    pub(super) fn shapes<'e>(
        &mut self,
        operands: Vec<&'e mut Expr>,
        scope: &Scope<'_>,
    ) -> Result<Vec<(&'e mut Expr, Shape)>, Problem> {
        let mut shaped = vec![];
        for operand in operands {
            let shape = self.expr(operand, scope)?;
            shaped.push((operand, shape));
        }
        Ok(shaped)
    }

    fn unify_shapes(
        &mut self,
        alternatives: Vec<(&mut Expr, Shape)>,
        construct: &str,
    ) -> Result<Shape, Problem> {
        let mut united: Option<SealedShape> = None;
        let mut constants: Vec<&mut Expr> = vec![];
        let mut deferred: Vec<usize> = vec![];
        let mut whole: Option<Shape> = None;
        let (mut plain, mut default) = (false, false);
        for (alternative, shape) in alternatives {
            match shape {
                Shape::Sealed(sealed) => {
                    united = Some(match united {
                        None => sealed,
                        Some(before) => self.unite_sealed(before, sealed, construct)?,
                    });
                }
                Shape::Adaptable => constants.push(alternative),
                Shape::Deferred(slots) => deferred.extend(&*slots),
                Shape::Plain | Shape::Clear(_) => plain = true,
                Shape::Default => (plain, default) = (true, true),
                Shape::Row(shapes) => {
                    self.refuse_sealed(&Shape::Row(shapes), construct, None)?;
                    plain = true;
                }
                Shape::WholeRow(row) => return Err(Problem::whole_row(&row.name)),
                // Its places hold for it alone: only a constant may come instead (`COALESCE(json_agg(x), '[]')`).
                shape @ (Shape::Array(_) | Shape::Rows(_) | Shape::Document(_)) => match &whole {
                    Some(other) => self.refuse_sealed(other, construct, None)?,
                    None => whole = Some(shape),
                },
            }
        }
        if let Some(whole) = whole {
            if united.is_some() || plain || !deferred.is_empty() {
                self.refuse_sealed(&whole, construct, None)?;
            }
            return Ok(whole);
        }
        let Some(sealed) = united else {
            if plain {
                self.used_plain(&deferred, construct)?;
                return Ok(if default { Shape::Default } else { Shape::Plain });
            }
            // Constants only: what the whole meets is what each of them meets.
            for constant in constants {
                match self.defer(constant, Shape::Adaptable, false) {
                    Shape::Deferred(slots) => deferred.extend(&*slots),
                    _ => return Ok(Shape::Plain),
                }
            }
            return Ok(Shape::Deferred(Rc::new(deferred)));
        };
        if plain {
            return Err(Problem::sealed_use(
                sealed.column(),
                &format!("{construct} with a value of another kind"),
            ));
        }
        let mixed = !constants.iter().all(|constant| sealed.is_typed(constant))
            || !deferred.iter().all(|slot| sealed.is_typed(&self.deferred[*slot].expr));
        for constant in constants {
            self.seal(constant, moved(&sealed), &sealed, false)?;
        }
        self.decide(&deferred, &Meets::Moved(&sealed))?;
        Ok(Shape::Sealed(if mixed { sealed.unmodified() } else { sealed }))
    }

    /// Two sealed values of which either may come: one domain, one key version.
    pub(super) fn unite_sealed(
        &mut self,
        mut a: SealedShape,
        b: SealedShape,
        construct: &str,
    ) -> Result<SealedShape, Problem> {
        if a.domain.name != b.domain.name || a.version != b.version {
            return Err(Problem::sealed_use(a.column(), &format!("{construct} with another domain"))
                .detail(format!("Column {} is in domain \"{}\".", b.column().column_name(), b.domain.name)));
        }
        // `select_common_type`, `select_common_typmod`: the first one's, but the wider of two integers.
        let shown = match (a.shown(), b.shown()) {
            (own, other) if own == other => own,
            (DataType::Smallint | DataType::Integer, other) if a.shown().narrows(&other) => other,
            (_, _) => a.clone().unmodified().shown(),
        };
        if a.data_type != b.data_type {
            a.data_type = a.domain.data_type;
        }
        a.shown = Some(shown);
        a.proposed &= b.proposed;
        a.columns.extend(b.columns);
        Ok(a)
    }

    /// A cast of a sealed value says which logical type it has: only one that every value of it fits.
    fn cast_sealed(
        &mut self,
        expr: &mut Expr,
        mut sealed: SealedShape,
        to: Option<DataType>,
        name: &str,
    ) -> Result<Shape, Problem> {
        let Some(to) = to.filter(|to| *to == sealed.data_type || sealed.data_type.narrows(to)) else {
            return Err(Problem::sealed_use(
                sealed.column(),
                &format!("a cast to {}", name.to_ascii_lowercase()),
            ));
        };
        let Expr::Cast { expr: inner, .. } = expr else { return Err(Problem::not_understood("this cast")) };
        // The server must not see the cast: it would turn ciphertext into text.
        let inner = std::mem::replace(&mut **inner, Expr::Identifier(Ident::new("")));
        *expr = inner;
        sealed.data_type = to;
        sealed.shown = None;
        Ok(Shape::Sealed(sealed))
    }
}

/// `=` and `<>` by their names in full.
fn is_equality(path: &[String]) -> bool {
    match path {
        [schema, operator] => {
            schema.eq_ignore_ascii_case("pg_catalog") && matches!(operator.as_str(), "=" | "<>")
        }
        _ => false,
    }
}

/// Whether the value is one of several that stand in the expression itself.
fn is_alternatives(expr: &Expr) -> bool {
    match expr {
        Expr::Nested(inner) => is_alternatives(inner),
        Expr::Case { .. } | Expr::Function(_) => true,
        _ => false,
    }
}

fn is_pg_typeof(function: &Function) -> bool {
    let own = |parts: Vec<String>| matches!(parts.as_slice(), [name] | [_, name] if name == "pg_typeof");
    parts(&function.name).is_ok_and(own)
}

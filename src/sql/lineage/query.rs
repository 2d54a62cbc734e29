//! Queries: WITH, SELECT, set operations, VALUES, and what their columns carry.

use super::assign::{Target, assigned};
use super::compare::is_null;
use super::deferred::Meets;
use super::join::items;
use super::naming::output_name;
use super::person::Pairs;
use super::print::{cast, sealed_type};
use super::relation::quoted_ident;
use super::scope::{Ctes, Out, Scope, fold, parts};
use super::{Analyst, Shape};
use crate::catalog::Action;
use crate::sql::problem::{Problem, Trouble};
use crate::sql::stand_in::Meaning;
use sqlparser::ast::{
    Cte, Distinct, Expr, GroupByExpr, GroupByWithModifier, LimitClause, NamedWindowDefinition,
    NamedWindowExpr, Offset, OrderBy, OrderByExpr, OrderByKind, Query, Select, SelectFlavor, SelectItem,
    SelectItemQualifiedWildcardKind, SetExpr, SetOperator, SetQuantifier, Statement, Value, Values, With,
};
use std::rc::Rc;

/// Each one inside of another doubles the work.
const DRY_RUNS_MAX: u32 = 4;

/// Whether a query writes somewhere (data-modifying CTEs).
pub(super) fn writes(query: &Query) -> bool {
    let body = matches!(
        &*query.body,
        SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_) | SetExpr::Merge(_)
    );
    body || query.with.as_ref().is_some_and(|with| with.cte_tables.iter().any(|cte| writes(&cte.query)))
}

impl Analyst<'_> {
    /// A query within `outer`, whose result is assigned to `targets` when it feeds an INSERT or a row assignment.
    pub(super) fn query(
        &mut self,
        query: &mut Query,
        outer: Option<&Scope<'_>>,
        ctes: &Ctes,
        targets: Option<&[Target]>,
    ) -> Result<Vec<Out>, Problem> {
        let Query {
            with,
            body,
            order_by,
            limit_clause,
            fetch,
            locks: _,
            for_clause,
            settings,
            format_clause,
            pipe_operators,
        } = query;
        if for_clause.is_some() || settings.is_some() || format_clause.is_some() || !pipe_operators.is_empty()
        {
            return Err(Problem::not_understood("this clause of a query"));
        }
        let moves = std::mem::take(&mut self.moves);
        let mut ctes = ctes.clone();
        if let Some(with) = with {
            self.with(with, outer, &mut ctes)?;
        }
        self.moves = moves && matches!(**body, SetExpr::Select(_));
        let (outputs, inner) = self.set_expr(body, outer, &ctes, targets)?;
        let mut scope = inner;
        scope.outputs = outputs;
        if let Some(order_by) = order_by {
            self.order_by(order_by, &scope)?;
        }
        let bounds = Scope { outer, ctes: ctes.clone(), ..Scope::default() };
        if let Some(limit) = limit_clause {
            self.limit(limit, &bounds)?;
        }
        if let Some(quantity) = fetch.as_mut().and_then(|fetch| fetch.quantity.as_mut()) {
            self.unsealed(quantity, &bounds, "FETCH")?;
        }
        Ok(scope.outputs)
    }

    fn with(&mut self, with: &mut With, outer: Option<&Scope<'_>>, ctes: &mut Ctes) -> Result<(), Problem> {
        let With { with_token: _, recursive, cte_tables } = with;
        for cte in cte_tables {
            let Cte { alias, query, from, materialized: _, closing_paren_token: _ } = cte;
            if from.is_some() || alias.at.is_some() {
                return Err(Problem::not_understood("this form of WITH"));
            }
            let name = fold(&alias.name);
            match self.stand_ins.meaning(&alias.name.value).cloned() {
                Some(Meaning::Recursion { reads, makes }) => {
                    self.searched(ctes, &reads, &makes)?;
                    continue;
                }
                Some(_) => continue,
                None => {}
            }
            if *recursive {
                // The first term says what the columns carry; the whole is then read with that known.
                let mut first = query.clone();
                let term = first_term(&mut first);
                let (outputs, _) = self.dry(|analyst| analyst.set_expr(term, outer, ctes, None))?;
                // Of what else the rows are is known when the other terms are read.
                let outputs =
                    outputs.into_iter().map(|out| Out { origin: None, ..out.without_slots() }).collect();
                ctes.push(name.clone(), renamed(outputs, &alias.columns));
            }
            self.moves = self.in_view > 0 && !*recursive;
            let outputs = self.query(query, outer, ctes, None)?;
            let outputs = renamed(outputs, &alias.columns);
            if *recursive {
                ctes.pop();
            }
            ctes.push(name, outputs);
        }
        Ok(())
    }

    /// `SEARCH` and `CYCLE` of the item before: rows of what they read come out in the columns that they make.
    fn searched(&mut self, ctes: &mut Ctes, reads: &[String], makes: &[String]) -> Result<(), Problem> {
        let Some((name, mut outputs)) = ctes.last() else {
            return Err(Problem::not_understood("this form of WITH"));
        };
        ctes.pop();
        for read in reads {
            let out = outputs.iter().find(|out| out.name.as_deref() == Some(read));
            match out.map(|out| &out.shape) {
                Some(shape) => self.refuse_sealed(shape, "SEARCH or CYCLE", None)?,
                None if outputs.iter().all(|out| out.name.is_some()) => {}
                None => {
                    return Err(Problem::not_understood(
                        "SEARCH or CYCLE by a column without a certain name",
                    ));
                }
            }
        }
        outputs.extend(makes.iter().map(|name| Out::named(name, Shape::Plain)));
        ctes.push(name, outputs);
        Ok(())
    }

    /// Runs an analysis for its shapes only: the slots and uses that it met do not count.
    pub(super) fn dry<T>(&mut self, run: impl FnOnce(&mut Self) -> Result<T, Problem>) -> Result<T, Problem> {
        if self.dry_runs >= DRY_RUNS_MAX {
            return Err(Problem::not_understood("WITH RECURSIVE inside of so many others"));
        }
        self.dry_runs += 1;
        let (literals, uses) = (self.literals.len(), self.uses.len());
        let (parameters, deferred) = (self.parameters.clone(), self.deferred.clone());
        let result = run(self);
        self.dry_runs -= 1;
        self.literals.truncate(literals);
        (self.parameters, self.deferred) = (parameters, deferred);
        self.null_tests.retain(|slot| *slot < self.parameters.len());
        self.uses.truncate(uses);
        self.use_index.retain(|_, index| *index < uses);
        result
    }

    /// The outputs of a set expression, and the scope that its ORDER BY sees.
    fn set_expr<'s>(
        &mut self,
        body: &mut SetExpr,
        outer: Option<&'s Scope<'s>>,
        ctes: &Ctes,
        targets: Option<&[Target]>,
    ) -> Result<(Vec<Out>, Scope<'s>), Problem> {
        let plain = |outputs| (outputs, Scope { outer, ctes: ctes.clone(), ..Scope::default() });
        match body {
            SetExpr::Select(select) => self.select(select, outer, ctes, targets),
            SetExpr::Query(query) => self.query(query, outer, ctes, targets).map(plain),
            SetExpr::SetOperation { left, op, set_quantifier, right } => {
                let compares = match (&*op, &*set_quantifier) {
                    (SetOperator::Union, SetQuantifier::All) => false,
                    (
                        SetOperator::Union | SetOperator::Except | SetOperator::Intersect,
                        SetQuantifier::None,
                    )
                    | (
                        SetOperator::Union | SetOperator::Except | SetOperator::Intersect,
                        SetQuantifier::Distinct,
                    )
                    | (SetOperator::Except | SetOperator::Intersect, SetQuantifier::All) => true,
                    (SetOperator::Minus, _)
                    | (_, SetQuantifier::ByName | SetQuantifier::AllByName | SetQuantifier::DistinctByName) =>
                    {
                        return Err(Problem::not_understood("this set operation"));
                    }
                };
                let name = op.to_string();
                let (left_outputs, _) = self.set_expr(left, outer, ctes, targets)?;
                let (right_outputs, _) = self.set_expr(right, outer, ctes, targets)?;
                let mut outputs = vec![];
                let mut pairs = Pairs::default();
                for (left_out, right_out) in left_outputs.into_iter().zip(right_outputs) {
                    let origin = self.paired(&mut pairs, left_out.origin, right_out.origin);
                    let shape = self.unite(left_out.shape, right_out.shape, &name)?;
                    if compares {
                        self.compared(&shape, &name, None)?;
                    }
                    outputs.push(Out { name: left_out.name, shape, origin });
                }
                Ok(plain(outputs))
            }
            SetExpr::Values(values) => self.values(values, outer, ctes, targets).map(plain),
            SetExpr::Insert(Statement::Insert(insert)) => {
                self.insert(insert, outer, ctes).map(|outputs| plain(outputs.unwrap_or_default()))
            }
            SetExpr::Update(Statement::Update(update)) => {
                self.update(update, outer, ctes).map(|outputs| plain(outputs.unwrap_or_default()))
            }
            SetExpr::Delete(Statement::Delete(delete)) => {
                self.delete(delete, outer, ctes).map(|outputs| plain(outputs.unwrap_or_default()))
            }
            SetExpr::Merge(Statement::Merge(merge)) => {
                self.merge_into(merge, outer, ctes).map(|()| plain(vec![]))
            }
            SetExpr::Table(_) => Err(Problem::not_understood("TABLE").hint("Write SELECT * FROM it.")),
            SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_) | SetExpr::Merge(_) => {
                Err(Problem::not_understood("this statement inside a query"))
            }
        }
    }

    /// One column of a set operation: both sides sealed in one domain, or neither; a constant takes the other's form.
    fn unite(&mut self, left: Shape, right: Shape, operation: &str) -> Result<Shape, Problem> {
        match (left, right) {
            (Shape::Sealed(a), Shape::Sealed(b)) => self.unite_sealed(a, b, operation).map(Shape::Sealed),
            (Shape::Sealed(sealed), Shape::Deferred(slots))
            | (Shape::Deferred(slots), Shape::Sealed(sealed)) => {
                let alike = slots.iter().all(|slot| sealed.is_typed(&self.deferred[*slot].expr));
                self.decide(&slots, &Meets::Moved(&sealed))?;
                Ok(Shape::Sealed(if alike { sealed } else { sealed.unmodified() }))
            }
            (Shape::Deferred(a), Shape::Deferred(b)) => {
                Ok(Shape::Deferred(Rc::new(a.iter().chain(b.iter()).copied().collect())))
            }
            (Shape::Sealed(sealed), _) | (_, Shape::Sealed(sealed)) => Err(Problem::sealed_use(
                sealed.column(),
                &format!("{operation} with a column of another kind"),
            )),
            (Shape::WholeRow(row), _) | (_, Shape::WholeRow(row)) => Err(Problem::whole_row(&row.name)),
            (a, b) => {
                self.refuse_sealed(&a, operation, None)?;
                self.refuse_sealed(&b, operation, None)?;
                let default = matches!(a, Shape::Default) || matches!(b, Shape::Default);
                Ok(if default { Shape::Default } else { Shape::Plain })
            }
        }
    }

    fn values(
        &mut self,
        values: &mut Values,
        outer: Option<&Scope<'_>>,
        ctes: &Ctes,
        targets: Option<&[Target]>,
    ) -> Result<Vec<Out>, Problem> {
        let Values { explicit_row, value_keyword, rows } = values;
        if *explicit_row || *value_keyword {
            return Err(Problem::not_understood("VALUES ROW"));
        }
        let scope = Scope { outer, ctes: ctes.clone(), ..Scope::default() };
        let width = rows.iter().map(|row| row.content.len()).max().unwrap_or(0);
        let mut shapes: Vec<Option<Shape>> = vec![None; width];
        for row in rows.iter_mut() {
            for (index, expr) in row.content.iter_mut().enumerate() {
                let own = match targets.and_then(|targets| targets.get(index)) {
                    // The new column is what it is assigned.
                    Some(target @ Target::New { .. }) => self.assign(expr, target, &scope)?,
                    Some(target) => {
                        self.assign(expr, target, &scope)?;
                        Shape::Plain
                    }
                    None => {
                        let shape = self.expr(expr, &scope)?;
                        self.defer(expr, shape, false)
                    }
                };
                shapes[index] = Some(match shapes[index].take() {
                    Some(before) => self.unite(before, own, "VALUES")?,
                    None => own,
                });
            }
        }
        let named = shapes
            .into_iter()
            .zip(1..)
            .map(|(shape, n)| Out::named(&format!("column{n}"), shape.unwrap_or(Shape::Plain)));
        Ok(named.collect())
    }

    fn select<'s>(
        &mut self,
        select: &mut Select,
        outer: Option<&'s Scope<'s>>,
        ctes: &Ctes,
        targets: Option<&[Target]>,
    ) -> Result<(Vec<Out>, Scope<'s>), Problem> {
        only_postgres(select)?;
        let Select { distinct, projection, from, selection, group_by, having, named_window, .. } = select;
        let moves = std::mem::take(&mut self.moves);
        let mut scope = Scope { outer, ctes: ctes.clone(), ..Scope::default() };
        self.from(from, &mut scope)?;
        if let Some(condition) = selection {
            self.filter(condition, &scope)?;
        }
        self.moves = moves && distinct.is_none() && having.is_none() && ungrouped(group_by);
        let outputs = self.projection(projection, &scope, targets)?;
        scope.outputs = outputs.clone();
        self.group_by(group_by, &scope)?;
        if let Some(condition) = having {
            self.condition(condition, &scope, "HAVING")?;
        }
        for NamedWindowDefinition(_, window) in named_window {
            match window {
                NamedWindowExpr::NamedWindow(_) => {}
                NamedWindowExpr::WindowSpec(spec) => self.window(spec, &scope)?,
            }
        }
        match distinct {
            None | Some(Distinct::All) => {}
            Some(Distinct::Distinct) => {
                let keyed = self.keyed_outputs(projection, &scope);
                for (index, out) in outputs.iter().enumerate() {
                    if keyed.get(index) != Some(&true) {
                        self.compared(&out.shape, "DISTINCT", None)?;
                    }
                }
            }
            Some(Distinct::On(exprs)) => {
                for expr in exprs {
                    let shape = self.sort_key(expr, &scope, true)?;
                    self.compared(&shape, "DISTINCT ON", None)?;
                }
            }
        }
        Ok((outputs, scope))
    }

    /// A select or RETURNING list: its outputs, with `*` written out.
    pub(super) fn projection(
        &mut self,
        items: &mut Vec<SelectItem>,
        scope: &Scope<'_>,
        targets: Option<&[Target]>,
    ) -> Result<Vec<Out>, Problem> {
        let moves = std::mem::take(&mut self.moves);
        self.expand_wildcards(items, scope)?;
        let mut outputs = Vec::with_capacity(items.len());
        for item in items.iter_mut() {
            let index = outputs.len();
            let (expr, alias) = match item {
                SelectItem::UnnamedExpr(expr) => (expr, None),
                SelectItem::ExprWithAlias { expr, alias } => (expr, Some(fold(alias))),
                SelectItem::ExprWithAliases { .. } => return Err(Problem::not_understood("several aliases")),
                // What it means has no names of its own, or one for several.
                SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(_, _)
                    if kept_star(item, scope).is_some() =>
                {
                    for out in kept_star(item, scope).into_iter().flatten() {
                        let target = targets.and_then(|targets| targets.get(outputs.len()));
                        let shape = match target {
                            Some(target) => {
                                self.note_write(target);
                                self.assign_shape(None, out.shape.clone(), target)?
                            }
                            None => out.shape.clone(),
                        };
                        outputs.push(Out { shape, ..out.clone() });
                    }
                    continue;
                }
                SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(_, _) => {
                    return Err(Problem::not_understood("* over a function whose columns are not named")
                        .hint("Name the function's columns in its alias, or name the columns to select."));
                }
            };
            let aliased = alias.is_some();
            let name = alias.or_else(|| output_name(expr));
            let substitutions = self.substitutions;
            let origin = scope.origin(expr);
            let computes = self.computes;
            self.computes |= origin.is_none();
            let shape = match targets.and_then(|targets| targets.get(index)) {
                Some(target) => {
                    let shape = self.assign(expr, target, scope)?;
                    if let Target::Sealed(sealed) = target
                        && is_null(expr)
                    {
                        // A query of its own makes a bare NULL text.
                        *expr = cast(Expr::Value(Value::Null.into()), sealed_type(&assigned(sealed)));
                    }
                    shape
                }
                None => match self.listed(expr, scope, moves)? {
                    Shape::WholeRow(row) => self.whole_row(expr, row)?,
                    shape => self.defer(expr, shape, false),
                },
            };
            if self.substitutions != substitutions && !aliased {
                // A mask in place of the column would change the column's name.
                let alias = quoted_ident(name.as_deref().unwrap_or("?column?"));
                *item = SelectItem::ExprWithAlias { expr: expr.clone(), alias };
            }
            self.computes = computes;
            outputs.push(Out { name, shape, origin });
        }
        Ok(outputs)
    }

    /// Writes `*` and `t.*` out where a tagged relation is among what they mean, so that a column that comes or goes
    /// later cannot shift what is opened.
    pub(super) fn expand_wildcards(
        &mut self,
        items: &mut Vec<SelectItem>,
        scope: &Scope<'_>,
    ) -> Result<(), Problem> {
        let mut expanded = Vec::with_capacity(items.len());
        for item in items.drain(..) {
            if matches!(&item, SelectItem::Wildcard(_)) && items_of_function(scope).is_some() {
                expanded.push(item);
                continue;
            }
            let (qualifier, options) = match &item {
                SelectItem::Wildcard(options) => (None, options),
                SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), options) => {
                    (Some(parts(name)?), options)
                }
                SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::Expr(_), _) => {
                    return Err(Problem::not_understood("(expression).*"));
                }
                _ => {
                    expanded.push(item);
                    continue;
                }
            };
            if options.opt_ilike.is_some()
                || options.opt_exclude.is_some()
                || options.opt_except.is_some()
                || options.opt_replace.is_some()
                || options.opt_rename.is_some()
                || options.opt_alias.is_some()
            {
                return Err(Problem::not_understood("an option of *"));
            }
            expanded.extend(star(qualifier.as_deref(), scope)?);
        }
        *items = expanded;
        Ok(())
    }

    fn group_by(&mut self, group_by: &mut GroupByExpr, scope: &Scope<'_>) -> Result<(), Problem> {
        let (exprs, modifiers) = match group_by {
            GroupByExpr::All(_) => return Err(Problem::not_understood("GROUP BY ALL")),
            GroupByExpr::Expressions(exprs, modifiers) => (exprs, modifiers),
        };
        let keyed = self.keyed(&exprs.iter().collect::<Vec<_>>(), scope);
        for (expr, keyed) in exprs.iter_mut().zip(keyed) {
            if keyed {
                self.sort_key(expr, scope, false)?;
            } else {
                self.group_key(expr, scope)?;
            }
        }
        for modifier in modifiers {
            match modifier {
                GroupByWithModifier::GroupingSets(expr) => self.group_key(expr, scope)?,
                GroupByWithModifier::Rollup | GroupByWithModifier::Cube | GroupByWithModifier::Totals => {
                    return Err(Problem::not_understood("GROUP BY … WITH"));
                }
            }
        }
        Ok(())
    }

    fn group_key(&mut self, expr: &mut Expr, scope: &Scope<'_>) -> Result<(), Problem> {
        if let Expr::GroupingSets(sets) | Expr::Cube(sets) | Expr::Rollup(sets) = expr {
            return sets.iter_mut().flatten().try_for_each(|key| self.group_key(key, scope));
        }
        let shape = self.sort_key(expr, scope, false)?;
        self.compared(&shape, "GROUP BY", None)
    }

    /// An expression of GROUP BY, ORDER BY or DISTINCT ON, which may mean an output by number or name
    /// (SQL92 rules, `parse_clause.c` `findTargetlistEntrySQL92`).
    fn sort_key(&mut self, expr: &mut Expr, scope: &Scope<'_>, output_first: bool) -> Result<Shape, Problem> {
        if let Expr::Value(value) = &*expr
            && let Value::Number(number, _) = &value.value
            && let Ok(position) = number.parse::<usize>()
        {
            let out = position.checked_sub(1).and_then(|index| scope.outputs.get(index));
            return Ok(out.map_or(Shape::Plain, |out| self.output_key(out)));
        }
        if let Expr::Identifier(ident) = &*expr {
            let name = fold(ident);
            let own = scope.outputs.iter().find(|out| out.name.as_deref() == Some(name.as_str()));
            let input = scope
                .entries
                .iter()
                .any(|entry| entry.columns.iter().any(|out| out.name.as_deref() == Some(name.as_str())));
            if let Some(out) = own
                && (output_first || !input)
            {
                return Ok(self.output_key(out));
            }
        }
        self.expr(expr, scope)
    }

    /// An output as a key: what a view only moves is read here.
    fn output_key(&mut self, out: &Out) -> Shape {
        if let Shape::Clear(column) = &out.shape {
            self.note(column, Action::Read, self.in_view > 0);
        }
        out.shape.clone()
    }

    pub(super) fn order_by(&mut self, order_by: &mut OrderBy, scope: &Scope<'_>) -> Result<(), Problem> {
        let OrderBy { kind, interpolate } = order_by;
        if interpolate.is_some() {
            return Err(Problem::not_understood("INTERPOLATE"));
        }
        match kind {
            OrderByKind::All(_) => Err(Problem::not_understood("ORDER BY ALL")),
            OrderByKind::Expressions(exprs) => {
                exprs.iter_mut().try_for_each(|key| self.order_key(key, scope))
            }
        }
    }

    pub(super) fn order_key(&mut self, key: &mut OrderByExpr, scope: &Scope<'_>) -> Result<(), Problem> {
        let OrderByExpr { expr, options: _, with_fill } = key;
        if with_fill.is_some() {
            return Err(Problem::not_understood("WITH FILL"));
        }
        let at = expression_at(self, expr);
        let shape = self.sort_key(expr, scope, true)?;
        self.refuse_sealed(&shape, "ORDER BY", at)
    }

    fn limit(&mut self, limit: &mut LimitClause, scope: &Scope<'_>) -> Result<(), Problem> {
        match limit {
            LimitClause::LimitOffset { limit, offset, limit_by } => {
                if !limit_by.is_empty() {
                    return Err(Problem::not_understood("LIMIT BY"));
                }
                if let Some(limit) = limit {
                    self.unsealed(limit, scope, "LIMIT")?;
                }
                if let Some(Offset { value, rows: _ }) = offset {
                    self.unsealed(value, scope, "OFFSET")?;
                }
                Ok(())
            }
            LimitClause::OffsetCommaLimit { .. } => Err(Problem::not_understood("LIMIT with a comma")),
        }
    }
}

fn ungrouped(group_by: &GroupByExpr) -> bool {
    matches!(group_by, GroupByExpr::Expressions(exprs, modifiers) if exprs.is_empty() && modifiers.is_empty())
}

/// The columns that `*` or `qualifier.*` means, each by name.
fn star(qualifier: Option<&[String]>, scope: &Scope<'_>) -> Result<Vec<SelectItem>, Problem> {
    let columns = match qualifier {
        None => scope.visible(0),
        Some(qualifier) => {
            let entry = scope.entry_outwards(qualifier).ok_or_else(|| missing_entry(qualifier))?;
            entry.visible()
        }
    };
    items(&columns, scope)
}

/// The columns of a function that is all there is in FROM, when not each of them has a name: `*` stays as it is.
fn items_of_function<'s>(scope: &'s Scope<'_>) -> Option<&'s [Out]> {
    let [entry] = scope.entries.as_slice() else { return None };
    let unnamed = entry.columns.iter().any(|out| out.name.is_none());
    (entry.complete && unnamed && !entry.is_tagged()).then_some(entry.columns.as_slice())
}

/// The columns of a `*` that is not written out.
fn kept_star<'s>(item: &SelectItem, scope: &'s Scope<'_>) -> Option<&'s [Out]> {
    match item {
        SelectItem::Wildcard(_) => items_of_function(scope),
        SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), _) => {
            scope.entry_outwards(&parts(name).ok()?)?.kept()
        }
        _ => None,
    }
}

/// A qualifier that nothing in reach has.
pub(super) fn missing_entry(qualifier: &[String]) -> Problem {
    let name = qualifier.last().map(String::as_str).unwrap_or_default();
    Problem::new(Trouble::Mismatch, "42P01", format!("missing FROM-clause entry for table \"{name}\""))
}

/// The left-most term of a recursive CTE's query.
fn first_term(query: &mut Query) -> &mut SetExpr {
    let mut term = &mut *query.body;
    while let SetExpr::SetOperation { left, .. } = term {
        term = left;
    }
    term
}

fn renamed(mut outputs: Vec<Out>, columns: &[sqlparser::ast::TableAliasColumnDef]) -> Vec<Out> {
    for (out, column) in outputs.iter_mut().zip(columns) {
        out.name = Some(fold(&column.name));
    }
    outputs
}

/// Where an expression begins, when it is a name.
pub(super) fn expression_at(analyst: &Analyst<'_>, expr: &Expr) -> Option<usize> {
    match expr {
        Expr::Identifier(ident) => analyst.at(ident.span),
        Expr::CompoundIdentifier(path) => path.first().and_then(|ident| analyst.at(ident.span)),
        Expr::Nested(inner) => expression_at(analyst, inner),
        Expr::Cast { expr, .. } => expression_at(analyst, expr),
        _ => None,
    }
}

/// Refuses the clauses of other dialects. Every field is named, so that a new one breaks the build.
fn only_postgres(select: &Select) -> Result<(), Problem> {
    let Select {
        select_token: _,
        optimizer_hints: _,
        distinct: _,
        select_modifiers,
        top,
        top_before_distinct: _,
        projection: _,
        exclude,
        into,
        from: _,
        lateral_views,
        prewhere,
        selection: _,
        connect_by,
        group_by: _,
        cluster_by,
        distribute_by,
        sort_by,
        having: _,
        named_window: _,
        qualify,
        window_before_qualify: _,
        value_table_mode,
        flavor,
    } = select;
    if into.is_some() {
        return Err(Problem::not_understood("SELECT INTO"));
    }
    let foreign = select_modifiers.is_some()
        || top.is_some()
        || exclude.is_some()
        || !lateral_views.is_empty()
        || prewhere.is_some()
        || !connect_by.is_empty()
        || !cluster_by.is_empty()
        || !distribute_by.is_empty()
        || !sort_by.is_empty()
        || qualify.is_some()
        || value_table_mode.is_some()
        || *flavor != SelectFlavor::Standard;
    if foreign {
        return Err(Problem::not_understood("this clause of SELECT"));
    }
    Ok(())
}

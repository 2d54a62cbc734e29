//! FROM: relations become entries of the scope, printed schema-qualified; joins compare what they join by.

use super::join::{Sides, Start, Takes};
use super::merging::derived;
use super::print::{cast, quoted};
use super::scope::{Entry, Found, Out, Scope, fold, parts, span_of};
use super::{Analyst, Shape};
use crate::catalog::{Relation, RelationKind};
use crate::sql::kinds;
use crate::sql::problem::Problem;
use crate::sql::stand_in::Meaning;
use sqlparser::ast::{
    ArrayElemTypeDef, DataType, Expr, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, Join,
    JoinConstraint, JoinOperator, ObjectName, Query, TableAlias, TableAliasColumnDef, TableFactor,
    TableSample, TableSampleKind, TableSampleModifier, TableSampleQuantity, TableWithJoins, Value,
};
use std::rc::Rc;
use std::sync::Arc;

/// Functions whose result in FROM is one column for certain, named like the alias.
const ONE_COLUMN: &[&str] = &[
    "generate_series",
    "generate_subscripts",
    "json_array_elements",
    "json_array_elements_text",
    "json_object_keys",
    "jsonb_array_elements",
    "jsonb_array_elements_text",
    "jsonb_object_keys",
    "jsonb_path_query",
    "regexp_matches",
    "regexp_split_to_table",
    "string_to_table",
    "unnest",
];

/// What has to stand in FROM for a relation that was named there.
enum InPlace {
    Itself,
    Other(TableFactor),
    /// The masking subquery over it, which has this name.
    Masked(Query, Arc<Relation>, String),
}

impl Analyst<'_> {
    /// A whole FROM list, joins and all, into `scope`.
    pub(super) fn from(
        &mut self,
        tables: &mut [TableWithJoins],
        scope: &mut Scope<'_>,
    ) -> Result<(), Problem> {
        for table in tables {
            self.table_with_joins(table, scope)?;
        }
        Ok(())
    }

    fn table_with_joins(
        &mut self,
        tables: &mut TableWithJoins,
        scope: &mut Scope<'_>,
    ) -> Result<(), Problem> {
        let merging = self.merging(tables, scope)?;
        let TableWithJoins { relation, joins } = tables;
        let start = Start::of(scope);
        let outer = scope.merging.clone();
        scope.merging.extend(merging);
        self.factor(relation, scope)?;
        for join in joins {
            self.join(join, scope, start)?;
        }
        scope.merging = outer;
        Ok(())
    }

    pub(super) fn join(
        &mut self,
        join: &mut Join,
        scope: &mut Scope<'_>,
        start: Start,
    ) -> Result<(), Problem> {
        let Join { relation, global, join_operator } = join;
        if *global {
            return Err(Problem::not_understood("GLOBAL JOIN"));
        }
        let right_start = scope.entries.len();
        self.factor(relation, scope)?;
        let sides = Sides { right: right_start, takes: Takes::of(join_operator) };
        let constraint = match join_operator {
            JoinOperator::Join(constraint)
            | JoinOperator::Inner(constraint)
            | JoinOperator::Left(constraint)
            | JoinOperator::LeftOuter(constraint)
            | JoinOperator::Right(constraint)
            | JoinOperator::RightOuter(constraint)
            | JoinOperator::FullOuter(constraint)
            | JoinOperator::CrossJoin(constraint) => constraint,
            other => {
                return Err(Problem::not_understood(&format!("JOIN of kind {}", super::variant_name(other))));
            }
        };
        match constraint {
            JoinConstraint::On(condition) => {
                let own = start.joined(scope);
                self.condition(condition, own.as_ref().unwrap_or(scope), "JOIN")
            }
            JoinConstraint::Using(names) => {
                let names = names.iter().map(simple_name).collect::<Result<Vec<_>, _>>()?;
                self.merge(&names, scope, start, sides).map(|_| ())
            }
            JoinConstraint::UsingAlias(names, alias) => {
                let names = names.iter().map(simple_name).collect::<Result<Vec<_>, _>>()?;
                let columns = self.merge(&names, scope, start, sides)?;
                scope.versions.push(Entry::of_names_only(fold(alias), columns));
                Ok(())
            }
            JoinConstraint::Natural => {
                if scope.entries[start.entry()..].iter().any(|entry| !entry.complete) {
                    return Err(Problem::not_understood("NATURAL JOIN with a function"));
                }
                let common = scope.common(start, sides.right);
                self.merge(&common, scope, start, sides).map(|_| ())
            }
            JoinConstraint::None => Ok(()),
        }
    }

    pub(super) fn factor(&mut self, factor: &mut TableFactor, scope: &mut Scope<'_>) -> Result<(), Problem> {
        match factor {
            TableFactor::Table {
                name,
                alias,
                args,
                with_hints,
                version,
                with_ordinality,
                partitions,
                json_path,
                sample,
                index_directives,
                inheritance: _,
            } => {
                if !with_hints.is_empty()
                    || version.is_some()
                    || !partitions.is_empty()
                    || json_path.is_some()
                    || !index_directives.is_empty()
                {
                    return Err(Problem::not_understood("this form of table reference"));
                }
                if let Some(sample) = sample {
                    self.sample(sample, scope)?;
                }
                match args {
                    None if !*with_ordinality => {
                        match self.table(name, alias.as_ref(), scope)? {
                            InPlace::Itself => {}
                            InPlace::Other(other) => *factor = other,
                            InPlace::Masked(query, relation, own) => {
                                let table = factor.clone();
                                *factor = derived(query, &relation, &own, table);
                            }
                        }
                        Ok(())
                    }
                    None => Err(Problem::not_understood("WITH ORDINALITY on a table")),
                    Some(args) => {
                        if args.settings.is_some() {
                            return Err(Problem::not_understood("SETTINGS"));
                        }
                        self.table_function(name, &mut args.args, *with_ordinality, alias.as_ref(), scope)
                    }
                }
            }
            TableFactor::Derived { lateral, subquery, alias, sample } => {
                if sample.is_some() {
                    return Err(Problem::not_understood("TABLESAMPLE of a subquery"));
                }
                let ctes = scope.ctes.clone();
                self.moves = self.in_view > 0;
                let outputs = if *lateral {
                    self.query(subquery, Some(&*scope), &ctes, None)?
                } else {
                    self.query(subquery, scope.outer, &ctes, None)?
                };
                let (name, columns) = aliased(alias.as_ref(), "", outputs)?;
                scope.entries.push(Entry {
                    alias: name,
                    schema: None,
                    columns,
                    complete: true,
                    row: None,
                    table: false,
                });
                Ok(())
            }
            TableFactor::Function { lateral: _, name, args, with_ordinality, alias } => {
                self.table_function(name, args, *with_ordinality, alias.as_ref(), scope)
            }
            TableFactor::UNNEST { alias, array_exprs, with_offset, with_offset_alias, with_ordinality } => {
                if *with_offset || with_offset_alias.is_some() {
                    return Err(Problem::not_understood("UNNEST WITH OFFSET"));
                }
                let mut shapes = vec![];
                for array in array_exprs.iter_mut() {
                    shapes.push(self.array_elements(array, scope)?);
                }
                let mut columns = called("unnest", shapes);
                columns.extend(with_ordinality.then(|| Out::named("ordinality", Shape::Plain)));
                self.push_function("unnest", true, Some(columns), alias.as_ref(), scope)
            }
            TableFactor::NestedJoin { table_with_joins, alias } => {
                let Some(alias) = alias else { return self.table_with_joins(table_with_joins, scope) };
                self.joined(table_with_joins, alias, scope)
            }
            other => {
                let name = super::variant_name(other);
                Err(kinds::from_item(other).refusal(&format!("FROM item of kind {name}")))
            }
        }
    }

    /// `(a JOIN b ON …) AS j`: all their columns under one name, those of USING once.
    fn joined(
        &mut self,
        tables: &mut TableWithJoins,
        alias: &TableAlias,
        scope: &mut Scope<'_>,
    ) -> Result<(), Problem> {
        // What is LATERAL in it sees what stands before.
        let (ctes, merging) = (scope.ctes.clone(), scope.merging.clone());
        let mut inner = Scope { outer: Some(&*scope), ctes, merging, ..Scope::default() };
        self.table_with_joins(tables, &mut inner)?;
        let complete = inner.entries.iter().all(|entry| entry.complete);
        let columns = inner.visible(0).into_iter().map(|column| column.out).collect();
        let (name, columns) = aliased(Some(alias), "", columns)?;
        scope.entries.push(Entry { alias: name, schema: None, columns, complete, row: None, table: false });
        Ok(())
    }

    /// `TABLESAMPLE method (share) REPEATABLE (seed)`: which rows come, whatever is in them.
    fn sample(&mut self, sample: &mut TableSampleKind, scope: &Scope<'_>) -> Result<(), Problem> {
        let (TableSampleKind::BeforeTableAlias(sample) | TableSampleKind::AfterTableAlias(sample)) = sample;
        let TableSample {
            modifier,
            name: Some(_),
            quantity: Some(quantity),
            seed: _,
            bucket: None,
            offset: None,
        } = &mut **sample
        else {
            return Err(Problem::not_understood("this form of TABLESAMPLE"));
        };
        let TableSampleQuantity { parenthesized: true, value, unit: None } = quantity else {
            return Err(Problem::not_understood("this form of TABLESAMPLE"));
        };
        if *modifier != TableSampleModifier::TableSample {
            return Err(Problem::not_understood("this form of TABLESAMPLE"));
        }
        self.unsealed(value, scope, "TABLESAMPLE").map(|_| ())
    }

    /// A relation by name; the result is what has to stand in its place.
    fn table(
        &mut self,
        name: &mut ObjectName,
        alias: Option<&TableAlias>,
        scope: &mut Scope<'_>,
    ) -> Result<InPlace, Problem> {
        let at = self.at(span_of(name));
        match self.find_relation(name, &scope.ctes)? {
            Found::Cte(outputs) => {
                let own = parts(name)?.pop().unwrap_or_default();
                let (alias, columns) = aliased(alias, &own, self.referred_anew(&outputs))?;
                scope.entries.push(Entry {
                    alias,
                    schema: None,
                    columns,
                    complete: true,
                    row: None,
                    table: false,
                });
                Ok(InPlace::Itself)
            }
            Found::Relation(relation) => {
                if let Some((entry, factor)) = self.introspected(&relation, alias) {
                    scope.entries.push(entry);
                    return Ok(InPlace::Other(factor));
                }
                let mut columns = self.relation_columns(&relation).map_err(|problem| problem.at(at))?;
                self.mark_defaults(&relation, &mut columns);
                let schema = alias.is_none().then(|| relation.schema.clone());
                let row = alias.filter(|alias| !alias.columns.is_empty()).map(|_| columns.clone());
                let (alias, mut columns) = aliased(alias, &relation.name, columns)?;
                if let Some(query) = self.masked_relation(&relation, &mut columns, &alias, &scope.merging) {
                    let entry = Entry::of_names_only(alias.clone(), columns);
                    scope.entries.push(entry);
                    return Ok(InPlace::Masked(query, relation, alias));
                }
                if self.in_view == 0 {
                    *name = ObjectName(vec![quoted(&relation.schema), quoted(&relation.name)]);
                }
                let table = matches!(relation.kind, RelationKind::Table | RelationKind::Partitioned);
                scope.entries.push(Entry { alias, schema, columns, complete: true, row, table });
                Ok(InPlace::Itself)
            }
            Found::Unknown => Err(Problem::unresolved(&parts(name)?.join(".")).at(at)),
        }
    }

    fn table_function(
        &mut self,
        name: &ObjectName,
        args: &mut [FunctionArg],
        with_ordinality: bool,
        alias: Option<&TableAlias>,
        scope: &mut Scope<'_>,
    ) -> Result<(), Problem> {
        let function = parts(name)?.pop().unwrap_or_default();
        match self.stand_ins.meaning(&function).cloned() {
            Some(Meaning::RowsFrom) => return self.rows_from(args, with_ordinality, alias, scope),
            Some(Meaning::JsonTable(names)) => {
                self.plain_arguments("json_table", args, scope)?;
                let columns = names.iter().map(|name| Out::named(name, Shape::Plain)).collect();
                let (name, columns) = aliased(alias, "json_table", columns)?;
                scope.entries.push(Entry {
                    alias: name,
                    schema: None,
                    columns,
                    complete: true,
                    row: None,
                    table: false,
                });
                return Ok(());
            }
            Some(_) => return Err(Problem::not_understood("this function in FROM")),
            None => {}
        }
        let (known, shapes) = self.function_columns(&function, args, scope)?;
        let mut columns = called(&function, shapes);
        columns.extend(with_ordinality.then(|| Out::named("ordinality", Shape::Plain)));
        self.push_function(&function, true, known.then_some(columns), alias, scope)
    }

    /// `ROWS FROM (f(…), g(…))`: the columns of all of them, beside each other.
    fn rows_from(
        &mut self,
        functions: &mut [FunctionArg],
        with_ordinality: bool,
        alias: Option<&TableAlias>,
        scope: &mut Scope<'_>,
    ) -> Result<(), Problem> {
        let single = functions.len() == 1;
        let (mut all, mut columns, mut own) = (true, vec![], None);
        for function in functions {
            let FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Function(function))) = function else {
                return Err(Problem::not_understood("this form of ROWS FROM"));
            };
            let name = parts(&function.name)?.pop().unwrap_or_default();
            let simple =
                function.over.is_none() && function.filter.is_none() && function.within_group.is_empty();
            let FunctionArguments::List(list) = &mut function.args else {
                return Err(Problem::not_understood("this form of ROWS FROM"));
            };
            if !simple || !list.clauses.is_empty() || list.duplicate_treatment.is_some() {
                return Err(Problem::not_understood("this form of ROWS FROM"));
            }
            let (known, shapes) = self.function_columns(&name, &mut list.args, scope)?;
            all &= known;
            columns.extend(called(&name, shapes));
            own.get_or_insert(name);
        }
        columns.extend(with_ordinality.then(|| Out::named("ordinality", Shape::Plain)));
        let own = own.unwrap_or_default();
        self.push_function(&own, single, all.then_some(columns), alias, scope)
    }

    /// The columns of a function in FROM, and whether these are all for certain.
    fn function_columns(
        &mut self,
        function: &str,
        args: &mut [FunctionArg],
        scope: &mut Scope<'_>,
    ) -> Result<(bool, Vec<Shape>), Problem> {
        let known = ONE_COLUMN.contains(&function);
        let mut shapes = vec![];
        if function == "unnest" {
            for arg in args {
                match arg {
                    FunctionArg::Unnamed(FunctionArgExpr::Expr(array)) => {
                        shapes.push(self.array_elements(array, scope)?);
                    }
                    _ => return Err(Problem::not_understood("this argument of unnest")),
                }
            }
        } else {
            self.plain_arguments(function, args, scope)?;
            shapes.push(Shape::Plain);
        }
        Ok((known, shapes))
    }

    /// The column that `unnest` makes of an array: a parameter's elements take the form of what they meet.
    pub(super) fn array_elements(&mut self, array: &mut Expr, scope: &Scope<'_>) -> Result<Shape, Problem> {
        if let Some(shape) = self.listed_elements(array, scope)? {
            return Ok(shape);
        }
        match self.expr(array, scope)? {
            Shape::Adaptable => Ok(self.defer(array, Shape::Adaptable, true)),
            Shape::Array(sealed) => Ok(Shape::Sealed(sealed.unmodified())),
            shape => {
                self.refuse_sealed(&shape, "unnest", None)?;
                Ok(Shape::Plain)
            }
        }
    }

    /// `ARRAY['a', 'b']` of constants only: each takes the form of what the column meets.
    fn listed_elements(&mut self, array: &mut Expr, scope: &Scope<'_>) -> Result<Option<Shape>, Problem> {
        if let Expr::Cast { expr: inner, data_type: DataType::Array(of), .. } = array
            && let (Expr::Array(list), ArrayElemTypeDef::SquareBracket(of, None)) = (&mut **inner, of)
        {
            for element in &mut list.elem {
                let constant = std::mem::replace(element, Expr::Value(Value::Null.into()));
                *element = cast(constant, (**of).clone());
            }
            let inner = std::mem::replace(&mut **inner, Expr::Value(Value::Null.into()));
            *array = inner;
        }
        let Expr::Array(list) = array else { return Ok(None) };
        let shaped = self.shapes(list.elem.iter_mut().collect(), scope)?;
        if shaped.iter().any(|(_, shape)| !matches!(shape, Shape::Adaptable)) {
            return match self.array(shaped)? {
                Shape::Array(sealed) => Ok(Some(Shape::Sealed(sealed))),
                shape => Ok(Some(shape)),
            };
        }
        let mut slots = vec![];
        for (constant, shape) in shaped {
            if let Shape::Deferred(own) = self.defer(constant, shape, false) {
                slots.extend(&*own);
            }
        }
        Ok(Some(Shape::Deferred(Rc::new(slots))))
    }

    /// `known` are the columns if these are all; one that is called as the function takes the alias, where it is the only
    /// function (`chooseScalarFunctionAlias`).
    fn push_function(
        &mut self,
        function: &str,
        single: bool,
        known: Option<Vec<Out>>,
        alias: Option<&TableAlias>,
        scope: &mut Scope<'_>,
    ) -> Result<(), Problem> {
        let named =
            alias.filter(|alias| self.stand_ins.meaning(&alias.name.value) != Some(&Meaning::Unnamed));
        let name = named.map_or_else(|| function.to_owned(), |alias| fold(&alias.name));
        let listed: Vec<String> = alias
            .map(|alias| alias.columns.iter().map(|column| fold(&column.name)).collect())
            .unwrap_or_default();
        let typed = alias.is_some_and(|alias| alias.columns.iter().any(|column| column.data_type.is_some()));
        let complete = typed || known.as_ref().is_some_and(|known| listed.len() <= known.len());
        let mut columns = known.unwrap_or_default();
        for out in &mut columns {
            if out.name.as_deref() == Some(function) && single {
                out.name = Some(name.clone());
            }
        }
        for (at, listed) in listed.iter().enumerate() {
            match columns.get_mut(at) {
                Some(out) => out.name = Some(listed.clone()),
                None => columns.push(Out::named(listed, Shape::Plain)),
            }
        }
        scope.entries.push(Entry { alias: name, schema: None, columns, complete, row: None, table: false });
        Ok(())
    }
}

/// The columns of a function: one is called as it is, or as its parameter; several have no certain names.
fn called(function: &str, shapes: Vec<Shape>) -> Vec<Out> {
    let value = function.ends_with("array_elements") || function.ends_with("array_elements_text");
    let name = if value { "value" } else { function };
    let name = (shapes.len() == 1).then(|| name.to_owned());
    shapes.into_iter().map(|shape| Out { name: name.clone(), shape, origin: None }).collect()
}

fn simple_name(name: &ObjectName) -> Result<String, Problem> {
    match parts(name)?.as_slice() {
        [single] => Ok(single.clone()),
        _ => Err(Problem::not_understood("a qualified name in USING")),
    }
}

/// Applies an alias (and its column list) to a relation's outputs.
fn aliased(
    alias: Option<&TableAlias>,
    own: &str,
    mut columns: Vec<Out>,
) -> Result<(String, Vec<Out>), Problem> {
    let Some(TableAlias { explicit: _, name, columns: renamed, at }) = alias else {
        return Ok((own.to_owned(), columns));
    };
    if at.is_some() {
        return Err(Problem::not_understood("AT in an alias"));
    }
    for (out, TableAliasColumnDef { name, data_type }) in columns.iter_mut().zip(renamed) {
        if data_type.is_some() {
            return Err(Problem::not_understood("a column definition list on a table"));
        }
        out.name = Some(fold(name));
    }
    Ok((fold(name), columns))
}

/// A quoted identifier.
pub(super) fn quoted_ident(name: &str) -> Ident {
    Ident::with_quote('"', name)
}

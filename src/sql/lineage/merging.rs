//! The masking subquery: a table whose columns stored in clear are merged by USING or NATURAL stands in FROM as a query of its
//! columns, in which those that this session sees masked are their masks already, so that the join compares what the session may see.
//!
//! Guarantees: a column that a join merges is never compared by what is stored, where a mask is shown in its place.
//! Deliberately absent: views' definitions (nothing in them can be changed: `view.rs`), and the columns that no join merges: they are masked
//! where they are referred to, as everywhere.

use super::naming::output_name;
use super::print::{quoted, verbatim_name};
use super::relation::quoted_ident;
use super::scope::{Found, Out, Scope, fold, parts};
use super::{Analyst, Shape};
use crate::catalog::{Action, Relation};
use crate::sql::parse;
use crate::sql::problem::Problem;
use sqlparser::ast::{
    Expr, JoinConstraint, JoinOperator, ObjectName, Query, SelectItem, SetExpr, Statement, TableAlias,
    TableFactor, TableWithJoins,
};
use std::collections::BTreeSet;
use std::sync::Arc;

/// The names of the columns that joins of one item of FROM merge.
pub(super) type Merging = BTreeSet<String>;

impl Analyst<'_> {
    /// What the joins of an item merge: the names that USING lists, and for NATURAL those that two of its relations have.
    pub(super) fn merging(&self, tables: &TableWithJoins, scope: &Scope<'_>) -> Result<Merging, Problem> {
        let mut merging = Merging::new();
        if self.in_view > 0 {
            return Ok(merging);
        }
        let mut natural = false;
        for join in &tables.joins {
            match constraint(&join.join_operator) {
                Some(JoinConstraint::Using(names) | JoinConstraint::UsingAlias(names, _)) => {
                    for name in names {
                        merging.extend(parts(name)?.pop());
                    }
                }
                Some(JoinConstraint::Natural) => natural = true,
                Some(JoinConstraint::On(_) | JoinConstraint::None) | None => {}
            }
        }
        if natural {
            let mut seen = BTreeSet::new();
            let factors = tables.joins.iter().map(|join| &join.relation);
            for factor in std::iter::once(&tables.relation).chain(factors) {
                for name in self.names_of(factor, scope)? {
                    if !seen.insert(name.clone()) {
                        merging.insert(name);
                    }
                }
            }
        }
        Ok(merging)
    }

    /// The names of an item's columns, as far as its text tells. A name that is missed is met by the join, which refuses it.
    fn names_of(&self, factor: &TableFactor, scope: &Scope<'_>) -> Result<BTreeSet<String>, Problem> {
        let mut names = BTreeSet::new();
        match factor {
            TableFactor::Table { name, alias, args: None, .. } => {
                let mut own: Vec<String> = match self.find_relation(name, &scope.ctes)? {
                    Found::Cte(outs) => outs.iter().map(|out| out.name.clone().unwrap_or_default()).collect(),
                    Found::Relation(relation) => {
                        relation.columns.iter().map(|column| column.name.clone()).collect()
                    }
                    Found::Unknown => vec![],
                };
                for (own, renamed) in own.iter_mut().zip(alias.iter().flat_map(|alias| &alias.columns)) {
                    *own = fold(&renamed.name);
                }
                names.extend(own);
            }
            TableFactor::NestedJoin { table_with_joins: inner, alias: None } => {
                let joined = inner.joins.iter().map(|join| &join.relation);
                for factor in std::iter::once(&inner.relation).chain(joined) {
                    names.extend(self.names_of(factor, scope)?);
                }
            }
            TableFactor::Derived { subquery, alias, .. } => {
                let mut own: Vec<String> = match &*subquery.body {
                    SetExpr::Select(select) => select.projection.iter().map(listed_name).collect(),
                    _ => vec![],
                };
                let renamed = alias.iter().flat_map(|alias| &alias.columns).map(|column| fold(&column.name));
                let renamed: Vec<String> = renamed.collect();
                own.drain(..renamed.len().min(own.len()));
                names.extend(own.into_iter().chain(renamed));
            }
            // One column of a function takes the name of the whole.
            TableFactor::Function { alias: Some(alias), .. }
            | TableFactor::UNNEST { alias: Some(alias), .. } => {
                names.insert(fold(&alias.name));
                names.extend(alias.columns.iter().map(|column| fold(&column.name)));
            }
            _ => {}
        }
        Ok(names)
    }

    /// The query that stands for a relation of which a column that is merged is masked; and its columns, as they are now.
    pub(super) fn masked_relation(
        &mut self,
        relation: &Arc<Relation>,
        columns: &mut [Out],
        alias: &str,
        merging: &Merging,
    ) -> Option<Query> {
        let mut masked = false;
        let mut items = Vec::with_capacity(columns.len());
        for (own, out) in relation.columns.iter().zip(columns) {
            let item = Expr::CompoundIdentifier(vec![quoted_ident(alias), quoted_ident(&own.name)]);
            let mask = match &out.shape {
                Shape::Clear(tagged) if out.name.as_ref().is_some_and(|name| merging.contains(name)) => {
                    (self.context.guard)(tagged.id, &item.to_string()).map(|mask| (tagged.clone(), mask))
                }
                _ => None,
            };
            items.push(match mask {
                None => SelectItem::UnnamedExpr(item),
                Some((tagged, mask)) => {
                    self.note(&tagged, Action::Read, false);
                    (out.shape, masked) = (Shape::Plain, true);
                    SelectItem::ExprWithAlias { expr: verbatim_name(mask), alias: quoted_ident(&own.name) }
                }
            });
        }
        if !masked {
            return None;
        }
        self.substitutions += 1;
        let Statement::Query(mut query) = parse::one("SELECT 1 FROM t", false).ok()?.statement else {
            return None;
        };
        if let SetExpr::Select(select) = &mut *query.body {
            select.projection = items;
        }
        Some(*query)
    }
}

/// `table` as the one item of a query's FROM; the query has its name then, and what names the client gave its columns.
pub(super) fn derived(mut query: Query, relation: &Relation, own: &str, table: TableFactor) -> TableFactor {
    let mut table = table;
    let mut outer = TableAlias { explicit: true, name: quoted_ident(own), columns: vec![], at: None };
    if let TableFactor::Table { name, alias, .. } = &mut table {
        *name = ObjectName(vec![quoted(&relation.schema), quoted(&relation.name)]);
        let inner = TableAlias { columns: vec![], ..outer.clone() };
        if let Some(given) = alias.replace(inner) {
            outer.columns = given.columns;
        }
    }
    if let SetExpr::Select(select) = &mut *query.body {
        select.from = vec![TableWithJoins { relation: table, joins: vec![] }];
    }
    TableFactor::Derived { lateral: false, subquery: Box::new(query), alias: Some(outer), sample: None }
}

/// What an item of a select list is called.
fn listed_name(item: &SelectItem) -> String {
    match item {
        SelectItem::ExprWithAlias { expr: _, alias } => fold(alias),
        SelectItem::UnnamedExpr(expr) => output_name(expr).unwrap_or_default(),
        _ => String::new(),
    }
}

fn constraint(join: &JoinOperator) -> Option<&JoinConstraint> {
    match join {
        JoinOperator::Join(constraint)
        | JoinOperator::Inner(constraint)
        | JoinOperator::Left(constraint)
        | JoinOperator::LeftOuter(constraint)
        | JoinOperator::Right(constraint)
        | JoinOperator::RightOuter(constraint)
        | JoinOperator::FullOuter(constraint)
        | JoinOperator::CrossJoin(constraint) => Some(constraint),
        _ => None,
    }
}

//! MERGE: its join compares, its actions assign, each in the scope that PostgreSQL gives it (`parse_merge.c`).

use super::Analyst;
use super::relation::quoted_ident;
use super::scope::{Ctes, Out, Scope};
use crate::sql::problem::Problem;
use sqlparser::ast::{
    Merge, MergeAction, MergeClause, MergeClauseKind, MergeInsertExpr, MergeInsertKind, MergeUpdateExpr,
    MergeUpdateKind, ObjectName, ObjectNamePart,
};

impl Analyst<'_> {
    pub(super) fn merge_into(
        &mut self,
        merge: &mut Merge,
        outer: Option<&Scope<'_>>,
        ctes: &Ctes,
    ) -> Result<(), Problem> {
        let Merge { merge_token: _, optimizer_hints: _, into: _, table, source, on, clauses, output } = merge;
        if output.is_some() {
            return Err(Problem::not_understood("MERGE … RETURNING"));
        }
        let own = || Scope { outer, ctes: ctes.clone(), ..Scope::default() };
        let (mut target, mut proposed) = (own(), own());
        self.write_target(table, &mut [], &mut target)?;
        self.factor(source, &mut proposed)?;
        let columns = target.entries.first().map(|entry| entry.columns.clone()).unwrap_or_default();
        let mut both = own();
        both.entries = target.entries.iter().chain(&proposed.entries).cloned().collect();
        self.condition(on, &both, "MERGE … ON")?;
        for clause in clauses {
            let MergeClause { when_token: _, clause_kind, predicate, action } = clause;
            let scope = match clause_kind {
                MergeClauseKind::Matched => &both,
                MergeClauseKind::NotMatched | MergeClauseKind::NotMatchedByTarget => &proposed,
                MergeClauseKind::NotMatchedBySource => &target,
            };
            if let Some(predicate) = predicate {
                self.condition(predicate, scope, "WHEN")?;
            }
            self.merge_action(action, &columns, scope)?;
        }
        Ok(())
    }

    fn merge_action(
        &mut self,
        action: &mut MergeAction,
        columns: &[Out],
        scope: &Scope<'_>,
    ) -> Result<(), Problem> {
        match action {
            MergeAction::Delete { delete_token: _ }
            | MergeAction::DoNothing { do_token: _, nothing_token: _ } => Ok(()),
            MergeAction::Update(MergeUpdateExpr {
                update_token: _,
                kind: MergeUpdateKind::Set(assignments),
                update_predicate: None,
                delete_predicate: None,
            }) => self.assignments(assignments, columns, scope),
            MergeAction::Update(_) => Err(Problem::not_understood("this form of UPDATE in MERGE")),
            MergeAction::Insert(insert) => self.merge_insert(insert, columns, scope),
        }
    }

    fn merge_insert(
        &mut self,
        insert: &mut MergeInsertExpr,
        outs: &[Out],
        scope: &Scope<'_>,
    ) -> Result<(), Problem> {
        let other = || Problem::not_understood("this form of INSERT in MERGE");
        let MergeInsertExpr {
            insert_token: _,
            columns,
            kind_token: _,
            kind: MergeInsertKind::Values(values),
            insert_predicate: None,
        } = insert
        else {
            return Err(other());
        };
        let [row] = values.rows.as_mut_slice() else { return Err(other()) };
        if columns.is_empty() {
            let named = outs.iter().take(row.content.len()).filter_map(|out| out.name.as_deref());
            *columns =
                named.map(|name| ObjectName(vec![ObjectNamePart::Identifier(quoted_ident(name))])).collect();
        }
        for (column, value) in columns.iter().zip(row.content.iter_mut()) {
            let target = self.target_column(column, outs, "the target")?;
            self.assign(value, &target, scope)?;
        }
        // More values than columns: the server says so.
        for value in row.content.iter_mut().skip(columns.len()) {
            let shape = self.expr(value, scope)?;
            self.refuse_sealed(&shape, "VALUES", None)?;
        }
        Ok(())
    }
}

//! INSERT, UPDATE and DELETE: targets, ON CONFLICT, RETURNING.

use super::assign::Target;
use super::join::Start;
use super::person::without_origins;
use super::print::quoted;
use super::relation::quoted_ident;
use super::row::row_items;
use super::scope::{Ctes, Entry, Found, Out, Scope, fold, parts, span_of};
use super::{Analyst, Shape};
use crate::catalog::{Action, Relation};
use crate::sql::problem::{Problem, Trouble};
use crate::sql::stand_in::Meaning;
use sqlparser::ast::{
    Assignment, AssignmentTarget, ConflictTarget, Delete, DoUpdate, Expr, FromTable, Insert, Join,
    ObjectName, ObjectNamePart, OnConflict, OnConflictAction, OnInsert, SelectItem, SetExpr,
    TableAliasWithoutColumns, TableFactor, TableObject, Update, UpdateTableFromKind,
};
use std::sync::Arc;

impl Analyst<'_> {
    pub(super) fn insert(
        &mut self,
        insert: &mut Insert,
        outer: Option<&Scope<'_>>,
        ctes: &Ctes,
    ) -> Result<Option<Vec<Out>>, Problem> {
        only_postgres_insert(insert)?;
        let Insert { table, table_alias, columns, source, on, returning, .. } = insert;
        let TableObject::TableName(name) = table else {
            return Err(Problem::not_understood("INSERT into this target"));
        };
        let (relation, outs) = self.target(name)?;
        let listed = self.insert_columns(columns, &relation, source.as_deref())?;
        let targets: Vec<Target> = match columns.is_empty() {
            false => {
                let targets = columns.iter().map(|column| self.target_column(column, &outs, &relation.name));
                targets.collect::<Result<_, _>>()?
            }
            true => {
                let out =
                    |column: &String| outs.iter().find(|out| out.name.as_deref() == Some(column.as_str()));
                let target =
                    |column| out(column).map(Target::of).ok_or_else(|| no_column(column, &relation.name));
                listed.iter().map(target).collect::<Result<_, _>>()?
            }
        };
        if let Some(source) = source {
            self.query(source, outer, ctes, Some(&targets))?;
        }
        let alias = match table_alias {
            Some(TableAliasWithoutColumns { explicit: _, alias }) => fold(alias),
            None => relation.name.clone(),
        };
        let own = Entry {
            alias,
            schema: Some(relation.schema.clone()),
            columns: outs,
            complete: true,
            row: None,
            table: relation.kind == crate::catalog::RelationKind::Table,
        };
        let mut scope = Scope { outer, ctes: ctes.clone(), entries: vec![own.clone()], ..Scope::default() };
        match on {
            None => {}
            Some(OnInsert::OnConflict(conflict)) => self.on_conflict(conflict, &own, &scope)?,
            Some(_) => return Err(Problem::not_understood("ON DUPLICATE KEY UPDATE")),
        }
        self.returning(returning, &mut scope)
    }

    /// The column list of an INSERT, written out when it was left out.
    fn insert_columns(
        &self,
        columns: &mut Vec<ObjectName>,
        relation: &Relation,
        source: Option<&sqlparser::ast::Query>,
    ) -> Result<Vec<String>, Problem> {
        if !columns.is_empty() {
            return columns.iter().map(|column| self.target_name(column).map(|(column, _)| column)).collect();
        }
        let all: Vec<String> = relation.columns.iter().map(|column| column.name.clone()).collect();
        if let Some(SetExpr::Values(values)) = source.map(|query| &*query.body) {
            let width = values.rows.iter().map(|row| row.content.len()).max().unwrap_or(0);
            let listed: Vec<String> = all.iter().take(width).cloned().collect();
            *columns = listed
                .iter()
                .map(|name| ObjectName(vec![ObjectNamePart::Identifier(quoted_ident(name))]))
                .collect();
            return Ok(listed);
        }
        Ok(all)
    }

    /// The relation that a statement writes to, printed qualified, and its columns.
    fn target(&mut self, name: &mut ObjectName) -> Result<(Arc<Relation>, Vec<Out>), Problem> {
        let at = self.at(span_of(name));
        match self.find_relation(name, &Ctes::default())? {
            Found::Relation(relation) => {
                let outs = self.relation_columns(&relation).map_err(|problem| problem.at(at))?;
                *name = ObjectName(vec![quoted(&relation.schema), quoted(&relation.name)]);
                Ok((relation, outs))
            }
            Found::Cte(_) | Found::Unknown => Err(Problem::unresolved(&parts(name)?.join(".")).at(at)),
        }
    }

    fn on_conflict(
        &mut self,
        conflict: &mut OnConflict,
        own: &Entry,
        scope: &Scope<'_>,
    ) -> Result<(), Problem> {
        let OnConflict { conflict_target, action } = conflict;
        match conflict_target {
            Some(ConflictTarget::Columns { columns, predicate }) => {
                for column in columns.iter() {
                    let name = fold(column);
                    let out = own.columns.iter().find(|out| out.name.as_deref() == Some(name.as_str()));
                    if let Some(out) = out {
                        self.compared(&out.shape, "ON CONFLICT", self.at(column.span))?;
                    }
                }
                if let Some(predicate) = predicate {
                    self.condition(predicate, scope, "ON CONFLICT")?;
                }
            }
            // The constraint's columns are not known here: it may be any that can be unique.
            Some(ConflictTarget::OnConstraint(_)) | None => {
                for out in &own.columns {
                    if let Shape::Sealed(sealed) = &out.shape
                        && sealed.deterministic()
                    {
                        self.note_all(&sealed.columns.clone(), Action::Compare, false);
                    }
                }
            }
        }
        match action {
            OnConflictAction::DoNothing => Ok(()),
            OnConflictAction::DoUpdate(DoUpdate { assignments, selection }) => {
                let mut scope = scope.clone();
                scope.entries.push(excluded(own));
                self.assignments(assignments, &own.columns, &scope)?;
                match selection {
                    Some(condition) => self.condition(condition, &scope, "WHERE"),
                    None => Ok(()),
                }
            }
        }
    }

    pub(super) fn assignments(
        &mut self,
        assignments: &mut [Assignment],
        columns: &[Out],
        scope: &Scope<'_>,
    ) -> Result<(), Problem> {
        for Assignment { target: assigned, value } in assignments {
            match assigned {
                AssignmentTarget::ColumnName(name) => {
                    let target = self.target_column(name, columns, "the target")?;
                    self.assign(value, &target, scope)?;
                }
                AssignmentTarget::Tuple(names) => {
                    let targets = names.iter().map(|name| self.target_column(name, columns, "the target"));
                    let targets = targets.collect::<Result<Vec<_>, _>>()?;
                    self.assign_row(value, &targets, scope)?;
                }
            }
        }
        Ok(())
    }

    /// The column that a target of an assignment names, and whether it is only an element or field of it.
    fn target_name(&self, name: &ObjectName) -> Result<(String, bool), Problem> {
        let parts = parts(name)?;
        let Some(first) = parts.first() else { return Err(Problem::not_understood("this target")) };
        match self.stand_ins.meaning(first) {
            Some(Meaning::Element(column)) => Ok((column.clone(), true)),
            Some(_) => Err(Problem::not_understood("this target")),
            None => Ok((first.clone(), parts.len() > 1)),
        }
    }

    /// The column that an assignment names, among those of the statement's table.
    pub(super) fn target_column(
        &self,
        name: &ObjectName,
        columns: &[Out],
        table: &str,
    ) -> Result<Target, Problem> {
        let (column, part) = self.target_name(name)?;
        let found = columns.iter().find(|out| out.name.as_deref() == Some(column.as_str()));
        let target = found.map(Target::of).ok_or_else(|| no_column(&column, table))?;
        match (part, &target) {
            (false, _) | (true, Target::Plain) => Ok(target),
            (true, Target::Sealed(sealed)) => {
                Err(Problem::sealed_use(sealed.column(), "assignment to an element or field"))
            }
            (true, Target::Clear(_) | Target::New { .. }) => {
                Err(Problem::not_understood("assignment to an element or field of a tagged column"))
            }
        }
    }

    /// `(a, b) = (1, 2)`, `(a, b) = (SELECT …)`, `(a, b) = ROW(…)`.
    fn assign_row(&mut self, value: &mut Expr, targets: &[Target], scope: &Scope<'_>) -> Result<(), Problem> {
        if let Some(items) = row_items(value)
            && items.len() == targets.len()
        {
            for (item, target) in items.into_iter().zip(targets) {
                self.assign(item, target, scope)?;
            }
            return Ok(());
        }
        match value {
            Expr::Nested(inner) if targets.len() == 1 => self.assign(inner, &targets[0], scope).map(|_| ()),
            Expr::Subquery(query) => self.query(query, Some(scope), &scope.ctes, Some(targets)).map(|_| ()),
            _ => Err(Problem::not_understood("this row assignment")),
        }
    }

    fn returning(
        &mut self,
        returning: &mut Option<Vec<SelectItem>>,
        scope: &mut Scope<'_>,
    ) -> Result<Option<Vec<Out>>, Problem> {
        match returning {
            Some(items) => {
                let versions = scope.entries.first().map(|target| {
                    ["old", "new"].map(|alias| Entry {
                        alias: alias.to_owned(),
                        schema: None,
                        row: None,
                        table: false,
                        // Of one row, but not of one time.
                        columns: without_origins(&target.columns),
                        ..target.clone()
                    })
                });
                scope.versions = versions.into_iter().flatten().collect();
                self.projection(items, scope, None).map(Some)
            }
            None => Ok(None),
        }
    }

    pub(super) fn update(
        &mut self,
        update: &mut Update,
        outer: Option<&Scope<'_>>,
        ctes: &Ctes,
    ) -> Result<Option<Vec<Out>>, Problem> {
        let Update {
            update_token: _,
            optimizer_hints: _,
            table,
            on_cluster,
            assignments,
            from,
            selection,
            returning,
            output,
            or,
            order_by,
            limit,
            settings,
        } = update;
        if on_cluster.is_some()
            || output.is_some()
            || or.is_some()
            || !order_by.is_empty()
            || limit.is_some()
            || settings.is_some()
            || !table.joins.is_empty()
        {
            return Err(Problem::not_understood("this form of UPDATE"));
        }
        let mut scope = Scope { outer, ctes: ctes.clone(), ..Scope::default() };
        self.write_target(&mut table.relation, &mut table.joins, &mut scope)?;
        let columns = scope.entries.first().map(|entry| entry.columns.clone()).unwrap_or_default();
        match from {
            Some(UpdateTableFromKind::AfterSet(tables)) => self.from(tables, &mut scope)?,
            Some(UpdateTableFromKind::BeforeSet(_)) => {
                return Err(Problem::not_understood("UPDATE FROM … SET"));
            }
            None => {}
        }
        self.assignments(assignments, &columns, &scope)?;
        if let Some(condition) = selection {
            self.filter(condition, &scope)?;
        }
        self.returning(returning, &mut scope)
    }

    /// The table of an UPDATE, DELETE or MERGE: a relation by name, never a CTE of the same name.
    pub(super) fn write_target(
        &mut self,
        table: &mut TableFactor,
        joins: &mut [Join],
        scope: &mut Scope<'_>,
    ) -> Result<(), Problem> {
        let TableFactor::Table { .. } = table else {
            return Err(Problem::not_understood("a target that is not a table"));
        };
        let ctes = std::mem::take(&mut scope.ctes);
        let start = Start::of(scope);
        let result = self
            .factor(table, scope)
            .and_then(|()| joins.iter_mut().try_for_each(|join| self.join(join, scope, start)));
        scope.ctes = ctes;
        result
    }

    pub(super) fn delete(
        &mut self,
        delete: &mut Delete,
        outer: Option<&Scope<'_>>,
        ctes: &Ctes,
    ) -> Result<Option<Vec<Out>>, Problem> {
        let Delete {
            delete_token: _,
            optimizer_hints: _,
            tables,
            from,
            on_cluster,
            using,
            selection,
            returning,
            output,
            order_by,
            limit,
            settings,
        } = delete;
        let FromTable::WithFromKeyword(from) = from else {
            return Err(Problem::not_understood("DELETE without FROM"));
        };
        if !tables.is_empty()
            || on_cluster.is_some()
            || output.is_some()
            || !order_by.is_empty()
            || limit.is_some()
            || settings.is_some()
        {
            return Err(Problem::not_understood("this form of DELETE"));
        }
        let [table] = from.as_mut_slice() else {
            return Err(Problem::not_understood("DELETE from several tables"));
        };
        let mut scope = Scope { outer, ctes: ctes.clone(), ..Scope::default() };
        self.write_target(&mut table.relation, &mut table.joins, &mut scope)?;
        if let Some(tables) = using {
            self.from(tables, &mut scope)?;
        }
        if let Some(condition) = selection {
            self.filter(condition, &scope)?;
        }
        self.returning(returning, &mut scope)
    }
}

/// The row that was proposed for insertion.
fn excluded(own: &Entry) -> Entry {
    let columns = own.columns.iter().cloned().map(|mut out| {
        if let Shape::Sealed(sealed) = &mut out.shape {
            sealed.proposed = true;
        }
        if let Shape::Clear(_) = &out.shape {
            out.shape = Shape::Plain;
        }
        out
    });
    Entry {
        alias: "excluded".to_owned(),
        schema: None,
        columns: columns.collect(),
        complete: true,
        row: None,
        table: false,
    }
}

fn no_column(column: &str, relation: &str) -> Problem {
    Problem::new(
        Trouble::Mismatch,
        "42703",
        format!("column \"{column}\" of relation \"{relation}\" does not exist"),
    )
}

/// Refuses the clauses of other dialects. Every field is named, so that a new one breaks the build.
fn only_postgres_insert(insert: &Insert) -> Result<(), Problem> {
    let Insert {
        insert_token: _,
        optimizer_hints: _,
        or,
        ignore,
        into: _,
        table: _,
        table_alias: _,
        columns: _,
        by_name,
        overwrite,
        source: _,
        assignments,
        partitioned,
        after_columns,
        overriding: _,
        has_table_keyword,
        on: _,
        returning: _,
        output,
        replace_into,
        priority,
        insert_alias,
        settings,
        format_clause,
        multi_table_insert_type,
        multi_table_into_clauses,
        multi_table_when_clauses,
        multi_table_else_clause,
    } = insert;
    let foreign = or.is_some()
        || *ignore
        || *by_name
        || *overwrite
        || !assignments.is_empty()
        || partitioned.is_some()
        || !after_columns.is_empty()
        || *has_table_keyword
        || output.is_some()
        || *replace_into
        || priority.is_some()
        || insert_alias.is_some()
        || settings.is_some()
        || format_clause.is_some()
        || multi_table_insert_type.is_some()
        || !multi_table_into_clauses.is_empty()
        || !multi_table_when_clauses.is_empty()
        || multi_table_else_clause.is_some();
    if foreign { Err(Problem::not_understood("this form of INSERT")) } else { Ok(()) }
}

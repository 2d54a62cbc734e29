//! ALTER TABLE: new columns get the sealed type; what would take a tagged object from under its tag is refused.

use super::assign::Target;
use super::compare::is_null;
use super::scope::{Entry, Scope, fold, parts};
use super::{Analyst, Shape};
use crate::sql::problem::{Problem, Trouble};
use sqlparser::ast::{AlterColumnOperation, AlterTable, AlterTableOperation, Ident, RenameTableNameKind};

impl Analyst<'_> {
    pub(super) fn alter_table(&mut self, alter: &mut AlterTable) -> Result<(), Problem> {
        let AlterTable {
            name,
            if_exists: _,
            only: _,
            operations,
            location,
            on_cluster,
            table_type,
            end_token: _,
        } = alter;
        if location.is_some() || on_cluster.is_some() || table_type.is_some() {
            return Err(Problem::not_understood("this form of ALTER TABLE"));
        }
        let scope = self.table_scope(name)?;
        operations.iter_mut().try_for_each(|operation| self.alter_operation(operation, &scope))
    }

    fn alter_operation(
        &mut self,
        operation: &mut AlterTableOperation,
        scope: &Scope<'_>,
    ) -> Result<(), Problem> {
        let entry = &scope.entries[0];
        let (schema, table) = (entry.schema.clone().unwrap_or_default(), entry.alias.clone());
        match operation {
            AlterTableOperation::AddColumn {
                column_keyword: _,
                if_not_exists: _,
                column_def,
                column_position: _,
            } => {
                let tags = self
                    .context
                    .catalog
                    .tags
                    .get(&(schema.clone(), table.clone()))
                    .cloned()
                    .unwrap_or_default();
                let out = self.defined_column(column_def, &tags, &schema, &table)?;
                if !matches!(out.shape, Shape::Plain) {
                    self.touched = true;
                }
                let mut scope = scope.clone();
                let shape = out.shape.clone();
                if let Some(entry) = scope.entries.first_mut() {
                    entry.columns.push(out);
                }
                self.column_definition(column_def, &shape, &scope)
            }
            AlterTableOperation::AddConstraint { constraint, not_valid: _ } => {
                self.table_constraint(constraint, scope)
            }
            AlterTableOperation::AlterColumn { column_name, op } => self.alter_column(column_name, op, scope),
            AlterTableOperation::RenameColumn { old_column_name, new_column_name } => {
                let tagged = |ident: &Ident| {
                    let name = fold(ident);
                    let known = entry.columns.iter().any(|out| {
                        out.name.as_deref() == Some(name.as_str()) && !matches!(out.shape, Shape::Plain)
                    });
                    let tags = self.context.catalog.tags.get(&(schema.clone(), table.clone()));
                    known || tags.is_some_and(|tags| tags.iter().any(|tag| tag.column == name))
                };
                if tagged(old_column_name) || tagged(new_column_name) {
                    return Err(moved(
                        "renaming",
                        &format!("column {} of table {table}", fold(old_column_name)),
                    ));
                }
                Ok(())
            }
            AlterTableOperation::RenameTable { table_name } => {
                let (RenameTableNameKind::As(new) | RenameTableNameKind::To(new)) = table_name;
                let takes =
                    parts(new)?.last().is_some_and(|name| self.context.catalog.names_tagged_relation(name));
                if entry.is_tagged() || takes {
                    return Err(moved("renaming", &format!("table {table}")));
                }
                Ok(())
            }
            AlterTableOperation::Inherit { parent } => parts(parent).map(|_| ()),
            AlterTableOperation::NoInherit { parent } => {
                parts(parent)?;
                self.keeps_its_tags(entry)
            }
            AlterTableOperation::DetachPartitionOf { partition, mode: _ } => {
                let scope = self.table_scope(partition)?;
                self.keeps_its_tags(&scope.entries[0])
            }
            AlterTableOperation::DropColumn { .. }
            | AlterTableOperation::DropConstraint { .. }
            | AlterTableOperation::RenameConstraint { .. }
            | AlterTableOperation::ValidateConstraint { .. }
            | AlterTableOperation::DisableRowLevelSecurity
            | AlterTableOperation::EnableRowLevelSecurity
            | AlterTableOperation::ForceRowLevelSecurity
            | AlterTableOperation::NoForceRowLevelSecurity
            | AlterTableOperation::DisableRule { .. }
            | AlterTableOperation::DisableTrigger { .. }
            | AlterTableOperation::EnableAlwaysRule { .. }
            | AlterTableOperation::EnableAlwaysTrigger { .. }
            | AlterTableOperation::EnableReplicaRule { .. }
            | AlterTableOperation::EnableReplicaTrigger { .. }
            | AlterTableOperation::EnableRule { .. }
            | AlterTableOperation::EnableTrigger { .. }
            | AlterTableOperation::ReplicaIdentity { .. }
            | AlterTableOperation::SetLogged
            | AlterTableOperation::SetUnlogged
            | AlterTableOperation::SetOptionsParens { .. }
            | AlterTableOperation::ResetOptions { .. }
            | AlterTableOperation::OwnerTo { .. }
            | AlterTableOperation::AttachPartitionOf { .. } => Ok(()),
            other => Err(Problem::not_understood(&format!("ALTER TABLE … {}", super::variant_name(other)))),
        }
    }

    /// A child that leaves its parent has the tags of its own name alone.
    fn keeps_its_tags(&self, child: &Entry) -> Result<(), Problem> {
        let table = (child.schema.clone().unwrap_or_default(), child.alias.clone());
        let own = self.context.catalog.tags.get(&table);
        let inherited = child.columns.iter().any(|column| {
            let named =
                own.is_some_and(|tags| tags.iter().any(|tag| column.name.as_ref() == Some(&tag.column)));
            !matches!(column.shape, Shape::Plain) && !named
        });
        if inherited { Err(moved("detaching", &format!("table {}", table.1))) } else { Ok(()) }
    }

    fn alter_column(
        &mut self,
        name: &Ident,
        op: &mut AlterColumnOperation,
        scope: &Scope<'_>,
    ) -> Result<(), Problem> {
        let folded = fold(name);
        let column = scope.entries[0].columns.iter().find(|out| out.name.as_deref() == Some(folded.as_str()));
        let shape = column.map_or(Shape::Plain, |out| out.shape.clone());
        match op {
            AlterColumnOperation::SetNotNull
            | AlterColumnOperation::DropNotNull
            | AlterColumnOperation::DropDefault => Ok(()),
            AlterColumnOperation::SetDefault { value } => match &shape {
                Shape::Sealed(_) if is_null(value) => {
                    *op = AlterColumnOperation::DropDefault;
                    Ok(())
                }
                Shape::Sealed(sealed) => self.default(value, sealed, scope),
                _ => self.unsealed(value, scope, "DEFAULT").map(|_| ()),
            },
            AlterColumnOperation::SetDataType { data_type: _, using, had_set: _ } => {
                if !matches!(shape, Shape::Plain) {
                    return Err(moved(
                        "retyping",
                        &format!("column {folded} of table {}", scope.entries[0].alias),
                    ));
                }
                match using {
                    Some(using) => self.assign(using, &Target::Plain, scope).map(|_| ()),
                    None => Ok(()),
                }
            }
            AlterColumnOperation::AddGenerated { .. } if matches!(shape, Shape::Plain) => Ok(()),
            other => Err(Problem::not_understood(&format!("ALTER COLUMN … {}", super::variant_name(other)))),
        }
    }
}

/// Taking a tagged object from under its tag.
fn moved(what: &str, object: &str) -> Problem {
    Problem::new(Trouble::SealedUse, "0A000", format!("{what} tagged {object} is not supported"))
        .hint("Change tags.toml first, reload, and then change the table.")
}

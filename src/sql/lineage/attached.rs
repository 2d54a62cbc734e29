//! What is attached to a table and holds a condition over its rows: triggers and row-security policies.
//!
//! Guarantees: the condition is held to what ciphertext can serve, and its constants are sealed. Deliberately absent: the
//! trigger's function, which runs in the database and sees ciphertext in sealed columns.

use super::Analyst;
use super::scope::{Entry, Scope};
use crate::sql::problem::Problem;
use sqlparser::ast::{AlterPolicy, AlterPolicyOperation, CreatePolicy, CreateTrigger};

impl Analyst<'_> {
    pub(super) fn create_policy(&mut self, create: &mut CreatePolicy) -> Result<(), Problem> {
        let CreatePolicy { name: _, table_name, policy_type: _, command: _, to: _, using, with_check } =
            create;
        let scope = self.table_scope(table_name)?;
        for condition in [using, with_check].into_iter().flatten() {
            self.condition(condition, &scope, "a policy")?;
        }
        self.unmasked("a policy")
    }

    pub(super) fn alter_policy(&mut self, alter: &mut AlterPolicy) -> Result<(), Problem> {
        let AlterPolicy { name: _, table_name, operation } = alter;
        let scope = self.table_scope(table_name)?;
        match operation {
            AlterPolicyOperation::Rename { new_name: _ } => Ok(()),
            AlterPolicyOperation::Apply { to: _, using, with_check } => {
                for condition in [using, with_check].into_iter().flatten() {
                    self.condition(condition, &scope, "a policy")?;
                }
                self.unmasked("a policy")
            }
        }
    }

    /// `CREATE TRIGGER … WHEN (OLD.email IS DISTINCT FROM NEW.email)`.
    pub(super) fn create_trigger(&mut self, create: &mut CreateTrigger) -> Result<(), Problem> {
        let CreateTrigger {
            or_alter: false,
            temporary: false,
            or_replace: _,
            is_constraint: _,
            name: _,
            period: _,
            period_before_table: _,
            events: _,
            table_name,
            referenced_table_name,
            referencing: _,
            trigger_object: _,
            condition,
            exec_body: Some(_),
            statements_as: false,
            statements: None,
            characteristics: _,
        } = create
        else {
            return Err(Problem::not_understood("this form of CREATE TRIGGER"));
        };
        let table = self.table_scope(table_name)?;
        if let Some(referenced) = referenced_table_name {
            self.table_scope(referenced)?;
        }
        let Some(condition) = condition else { return Ok(()) };
        let row = |alias: &str| {
            let columns = table.entries.iter().flat_map(|entry| entry.columns.clone()).collect();
            Entry { alias: alias.to_owned(), schema: None, columns, complete: true, row: None, table: false }
        };
        let scope = Scope { entries: vec![row("old"), row("new")], ..Scope::default() };
        self.condition(condition, &scope, "WHEN")?;
        self.unmasked("a trigger")
    }
}

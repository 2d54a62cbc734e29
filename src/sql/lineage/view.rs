//! Views: what their columns carry, from the definition that the catalog holds.
//!
//! A view is printed as it was named; its definition is only read. So a definition that would have to be changed
//! (a literal that meets a tagged column, a guarded clear column) is refused here.

use super::scope::{Ctes, Out};
use super::{Analyst, Shape};
use crate::catalog::{Relation, RelationKind};
use crate::sql::parse;
use crate::sql::problem::Problem;
use sqlparser::ast::Statement;
use std::sync::Arc;

/// Views within views, as deep as this: PostgreSQL has no limit, a definition that refers to itself cannot exist.
const DEPTH_MAX: u32 = 32;

impl Analyst<'_> {
    pub(super) fn view_columns(&mut self, relation: &Arc<Relation>) -> Result<Vec<Out>, Problem> {
        let refuse = |why: &str| {
            Problem::not_understood(&format!("view {} ({why})", relation.name))
                .hint("Select from the view's tables, or define the view through pgveil.")
        };
        let Some(definition) = relation.definition.as_deref() else {
            return Err(refuse("its definition is not known"));
        };
        if self.in_view >= DEPTH_MAX {
            return Err(refuse("nested too deep"));
        }
        let definition = definition.trim_end().trim_end_matches(';');
        let mut parsed = parse::one(definition, false).map_err(|_| refuse("its definition"))?;
        let Statement::Query(query) = &mut parsed.statement else {
            return Err(refuse("its definition is not a query"));
        };
        let slots_before = self.literals.len() + self.parameters.len();
        self.in_view += 1;
        let outer = std::mem::replace(&mut self.stand_ins, parsed.stand_ins);
        let outputs = self.query(query, None, &Ctes::default(), None);
        self.stand_ins = outer;
        self.in_view -= 1;
        let outputs = outputs?;
        if self.literals.len() + self.parameters.len() != slots_before {
            return Err(refuse("it compares a tagged column with a constant"));
        }
        if outputs.len() != relation.columns.len() {
            return Err(refuse("its columns changed"));
        }
        if relation.kind == RelationKind::MaterializedView
            && outputs.iter().any(|out| matches!(out.shape, Shape::Clear(_)))
        {
            return Err(refuse("a materialized copy of a column stored in clear"));
        }
        let named = outputs.into_iter().zip(&relation.columns);
        Ok(named.map(|(out, column)| Out::named(&column.name, out.shape)).collect())
    }
}

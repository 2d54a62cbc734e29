//! What a primary key tells apart: DISTINCT and GROUP BY over columns that need not be compared.
//!
//! Where the key of a table is among the values that are compared, two rows of it that agree are one row, and all its other
//! columns agree by themselves: cells that cannot be compared may stand there, too. Only for columns as they stand in the
//! table, since a value made of them may agree where they do not. Absent: other unique indexes, views and subqueries.

use super::scope::{Scope, fold};
use super::{Analyst, Shape};
use crate::value::DataType;
use sqlparser::ast::{Expr, SelectItem};

/// A column of a relation in FROM: which relation, which of its columns.
type Place = (usize, usize);

impl Analyst<'_> {
    /// For each of these values, whether it is a column of a table whose whole key is among them.
    pub(super) fn keyed(&self, values: &[&Expr], scope: &Scope<'_>) -> Vec<bool> {
        let places: Vec<Option<Place>> = values.iter().map(|value| place(value, scope)).collect();
        let keyed = |entry: usize| {
            self.key(entry, scope).is_some_and(|key| {
                !key.is_empty() && key.iter().all(|column| places.contains(&Some((entry, *column))))
            })
        };
        let keyed: Vec<bool> = (0..scope.entries.len()).map(keyed).collect();
        let of = |place: &Option<Place>| {
            place.is_some_and(|(entry, column)| {
                // PostgreSQL has no equality for json, key or not.
                let json = matches!(&scope.entries[entry].columns[column].shape,
                    Shape::Sealed(sealed) if sealed.shown() == DataType::Json);
                keyed[entry] && !json
            })
        };
        places.iter().map(of).collect()
    }

    /// As [`Analyst::keyed`], of a select list; nothing is said of one that is not written out.
    pub(super) fn keyed_outputs<'s>(&self, items: &'s [SelectItem], scope: &Scope<'_>) -> Vec<bool> {
        let value = |item: &'s SelectItem| match item {
            SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, alias: _ } => Some(expr),
            _ => None,
        };
        let values: Option<Vec<&Expr>> = items.iter().map(value).collect();
        values.map(|values| self.keyed(&values, scope)).unwrap_or_default()
    }

    /// Where the primary key's columns stand in a stored table that has sealed columns.
    fn key(&self, entry: usize, scope: &Scope<'_>) -> Option<Vec<usize>> {
        let entry = scope.entries.get(entry).filter(|entry| entry.table)?;
        let relation = entry.columns.iter().find_map(|out| match &out.shape {
            Shape::Sealed(sealed) => Some(sealed.column().id.relation),
            _ => None,
        })?;
        let columns = &self.context.catalog.relation(relation)?.columns;
        if columns.len() != entry.columns.len() {
            return None;
        }
        let key = self.context.catalog.keys.get(&relation)?;
        key.iter().map(|number| columns.iter().position(|column| column.number == *number)).collect()
    }
}

/// The column that a name means, when it is certain; a name of an outer query's is not.
fn place(value: &Expr, scope: &Scope<'_>) -> Option<Place> {
    let names = match value {
        Expr::Identifier(ident) => std::slice::from_ref(ident),
        Expr::CompoundIdentifier(idents) => idents,
        Expr::Nested(inner) => return place(inner, scope),
        _ => return None,
    };
    let (column, qualifier) = names.split_last()?;
    let column = fold(column);
    let named = |out: &super::scope::Out| out.name.as_deref() == Some(column.as_str());
    if qualifier.is_empty()
        && (scope.merged(&column).is_some() || scope.entries.iter().any(|entry| !entry.complete))
    {
        return None;
    }
    let meant = |entry: &super::scope::Entry| match qualifier {
        [] => true,
        [alias] => entry.alias == fold(alias),
        [schema, alias] => entry.alias == fold(alias) && entry.schema == Some(fold(schema)),
        _ => false,
    };
    let mut found =
        scope.entries.iter().enumerate().filter(|(_, entry)| meant(entry)).flat_map(|(index, entry)| {
            entry
                .columns
                .iter()
                .enumerate()
                .filter(|(_, out)| named(out))
                .map(move |(column, _)| (index, column))
        });
    let first = found.next()?;
    found.next().is_none().then_some(first)
}

//! What PostgreSQL calls an output that has no alias.

use super::scope::{fold, parts};
use sqlparser::ast::{AccessExpr, Expr, SelectItem, SetExpr, TrimWhereField};

/// The name that PostgreSQL gives an output (`parse_target.c` `FigureColname`), where that is certain.
pub(super) fn output_name(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Identifier(ident) => Some(fold(ident)),
        Expr::CompoundIdentifier(path) => path.last().map(fold),
        Expr::Nested(inner) => output_name(inner),
        Expr::Collate { expr, collation: _ } => output_name(expr),
        Expr::Cast { expr, .. } => output_name(expr),
        Expr::Function(function) => parts(&function.name).ok()?.pop(),
        Expr::Case { else_result, .. } => {
            else_result.as_deref().and_then(named_only).or(Some("case".to_owned()))
        }
        // What the grammar makes functions of (`gram.y`).
        Expr::Trim { trim_where, .. } => Some(
            match trim_where {
                Some(TrimWhereField::Leading) => "ltrim",
                Some(TrimWhereField::Trailing) => "rtrim",
                Some(TrimWhereField::Both) | None => "btrim",
            }
            .to_owned(),
        ),
        Expr::Substring { .. } => Some("substring".to_owned()),
        Expr::Position { .. } => Some("position".to_owned()),
        Expr::Overlay { .. } => Some("overlay".to_owned()),
        Expr::Extract { .. } => Some("extract".to_owned()),
        Expr::Ceil { .. } => Some("ceil".to_owned()),
        Expr::Floor { .. } => Some("floor".to_owned()),
        Expr::AtTimeZone { .. } => Some("timezone".to_owned()),
        Expr::Exists { .. } => Some("exists".to_owned()),
        Expr::Subquery(query) => first_name(&query.body),
        Expr::Array(_) => Some("array".to_owned()),
        Expr::Tuple(_) => Some("row".to_owned()),
        Expr::CompoundFieldAccess { root, access_chain } => {
            let field = access_chain.iter().rev().find_map(|access| match access {
                AccessExpr::Dot(Expr::Identifier(field)) => Some(fold(field)),
                _ => None,
            });
            field.or_else(|| output_name(root))
        }
        _ => None,
    }
}

/// A name that comes from a column, not from a construct.
fn named_only(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Identifier(_) | Expr::CompoundIdentifier(_) | Expr::Function(_) | Expr::Subquery(_) => {
            output_name(expr)
        }
        Expr::Nested(inner) => named_only(inner),
        Expr::Cast { expr, .. } => named_only(expr),
        _ => None,
    }
}

/// The name of a query's first column, where it stands in the text.
fn first_name(body: &SetExpr) -> Option<String> {
    match body {
        SetExpr::Select(select) => match select.projection.first()? {
            SelectItem::ExprWithAlias { expr: _, alias } => Some(fold(alias)),
            SelectItem::UnnamedExpr(expr) => output_name(expr),
            _ => None,
        },
        SetExpr::Query(query) => first_name(&query.body),
        SetExpr::SetOperation { left, .. } => first_name(left),
        SetExpr::Values(_) => Some("column1".to_owned()),
        _ => None,
    }
}

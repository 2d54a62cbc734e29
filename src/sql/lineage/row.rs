//! Row values: `ROW(a, b)`, a table's name for its whole row, `(c).email`, and the records that a client gets of them.
//!
//! Guarantees: a whole row of which a column that is stored in clear is masked is written out with its masks before anyone
//! sees it. Deliberately absent: comparing rows
//! (`compare.rs`) and JSON made of them (`document.rs`).

use super::print::verbatim_name;
use super::relation::quoted_ident;
use super::scope::{Out, Resolved, Scope, WholeRow, fold, parts};
use super::{Analyst, Node, Opened, OpenedDocument, Output, SealedShape, Shape};
use crate::catalog::Action;
use crate::sql::problem::Problem;
use sqlparser::ast::{
    AccessExpr, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, SelectItem,
    SelectItemQualifiedWildcardKind,
};
use std::rc::Rc;

/// Whether it is `ROW(…)`, which the parser takes for a function.
pub(super) fn is_row(function: &Function) -> bool {
    parts(&function.name).is_ok_and(|parts| matches!(parts.as_slice(), [name] if name == "row"))
        && function.over.is_none()
        && function.filter.is_none()
}

/// The fields of a row constructor.
pub(super) fn row_items<'e>(expr: &'e mut Expr) -> Option<Vec<&'e mut Expr>> {
    match expr {
        Expr::Tuple(items) => Some(items.iter_mut().collect()),
        Expr::Nested(inner) => row_items(inner),
        Expr::Function(function) if is_row(function) => {
            let FunctionArguments::List(list) = &mut function.args else { return None };
            let item = |arg: &'e mut FunctionArg| match arg {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr),
                _ => None,
            };
            list.args.iter_mut().map(item).collect()
        }
        _ => None,
    }
}

impl Analyst<'_> {
    /// `ROW(a, c.*)`, with `c.*` written out.
    pub(super) fn row(&mut self, function: &mut Function, scope: &Scope<'_>) -> Result<Shape, Problem> {
        let FunctionArguments::List(list) = &mut function.args else { return Ok(Shape::Row(vec![])) };
        let mut items = vec![];
        for arg in list.args.drain(..) {
            match arg {
                FunctionArg::Unnamed(FunctionArgExpr::QualifiedWildcard(name)) => {
                    let kind = SelectItemQualifiedWildcardKind::ObjectName(name);
                    let mut star = vec![SelectItem::QualifiedWildcard(kind, Default::default())];
                    self.expand_wildcards(&mut star, scope)?;
                    for item in star {
                        let SelectItem::UnnamedExpr(expr) = item else {
                            return Err(Problem::not_understood("this row"));
                        };
                        items.push(FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)));
                    }
                }
                other => items.push(other),
            }
        }
        list.args = items;
        let mut shapes = vec![];
        for arg in &mut list.args {
            let FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) = arg else {
                return Err(Problem::not_understood("this field of a row"));
            };
            shapes.push(self.row_field(expr, scope)?);
        }
        Ok(Shape::Row(shapes))
    }

    /// A field of a row constructor, which may be a row itself.
    pub(super) fn row_field(&mut self, expr: &mut Expr, scope: &Scope<'_>) -> Result<Shape, Problem> {
        match self.expr(expr, scope)? {
            Shape::WholeRow(row) => self.whole_row(expr, row),
            shape => Ok(shape),
        }
    }

    /// A column of a row that is an element of an array. `None`: the row has no such column for certain.
    pub(super) fn field_of(&mut self, row: &Shape, name: &str) -> Result<Option<Shape>, Problem> {
        let Shape::WholeRow(row) = row else { return Ok(None) };
        let found = row.columns.iter().find(|out| out.name.as_deref() == Some(name));
        if let Some(Out { name: _, shape: Shape::Clear(column), origin: _ }) = found {
            self.note(column, Action::Read, self.in_view > 0);
            if (self.context.guard)(column.id, column.name()).is_some() {
                return Err(Problem::whole_row(&row.name));
            }
        }
        Ok(found.map(|out| out.shape.clone()))
    }

    /// Reads a whole row for its values: where a column of it is masked, the row is written out in its place
    /// (`parse_expr.c` makes a row of the alias of a subquery, too). A row that an outer join did not find stays NULL.
    pub(super) fn whole_row(&mut self, expr: &mut Expr, row: Rc<WholeRow>) -> Result<Shape, Problem> {
        let hidden = |out: &Out| match &out.shape {
            Shape::Clear(column) => (self.context.guard)(column.id, column.name()).is_some(),
            _ => false,
        };
        if !row.columns.iter().any(hidden) {
            return Ok(Shape::WholeRow(row));
        }
        if row.renamed || self.in_view > 0 || !is_name(expr) {
            return Err(Problem::whole_row(&row.name));
        }
        let alias = quoted_ident(&row.name);
        let (mut items, mut columns) = (vec![], vec![]);
        for out in &row.columns {
            let Some(name) = &out.name else { return Err(Problem::whole_row(&row.name)) };
            let printed = format!("{alias}.{}", quoted_ident(name));
            let (item, shape) = match &out.shape {
                Shape::Clear(column) => {
                    self.note(column, Action::Read, false);
                    match (self.context.guard)(column.id, &printed) {
                        Some(mask) => (mask, Shape::Plain),
                        None => (printed, out.shape.clone()),
                    }
                }
                _ => (printed, out.shape.clone()),
            };
            items.push(format!("{item} AS {}", quoted_ident(name)));
            columns.push(Out::named(name, shape));
        }
        let items = items.join(", ");
        // Of a view's row, which has no such column, this is not asked of its fields (`make_nulltest_from_distinct`).
        let there = if row.table { "tableoid IS NOT NULL" } else { "* IS DISTINCT FROM NULL" };
        *expr =
            verbatim_name(format!("(SELECT {alias} FROM (SELECT {items} WHERE {alias}.{there}) AS {alias})"));
        self.substitutions += 1;
        let (name, table, renamed) = (row.name.clone(), false, false);
        Ok(Shape::WholeRow(Rc::new(WholeRow { name, columns, table, renamed })))
    }

    /// `(c).email` of a table's name is `c.email`, where that is more than a plain value (a function's alias is no row to the
    /// server); of another row, what the row has there.
    pub(super) fn field(&mut self, expr: &mut Expr, scope: &Scope<'_>) -> Result<Option<Shape>, Problem> {
        let Expr::CompoundFieldAccess { root, access_chain } = expr else { return Ok(None) };
        let [AccessExpr::Dot(Expr::Identifier(field))] = access_chain.as_slice() else { return Ok(None) };
        let mut inner = &**root;
        while let Expr::Nested(next) = inner {
            inner = next;
        }
        if let Expr::Identifier(alias) = inner
            && let Resolved::WholeRow(row) = scope.column(&fold(alias))?
            && row.columns.iter().any(|out| !matches!(out.shape, Shape::Plain))
        {
            *expr = Expr::CompoundIdentifier(vec![alias.clone(), field.clone()]);
            return self.expr(expr, scope).map(Some);
        }
        let name = fold(field);
        let shape = match self.expr(root, scope)? {
            Shape::WholeRow(row) => self.whole_row(root, row)?,
            other => other,
        };
        let Shape::WholeRow(row) = shape else {
            self.refuse_sealed(&shape, "field selection", None)?;
            return Ok(Some(Shape::Plain));
        };
        let found = row.columns.iter().find(|out| out.name.as_deref() == Some(name.as_str()));
        match found.map(|out| out.shape.clone()) {
            Some(Shape::Clear(column)) => {
                self.note(&column, Action::Read, self.in_view > 0);
                Ok(Some(Shape::Clear(column)))
            }
            Some(shape) => Ok(Some(shape)),
            None => Err(Problem::not_understood("a field without a certain name")),
        }
    }

    /// A row among the results, or an array of rows: its cells are opened in their places.
    pub(super) fn record(&mut self, shape: &Shape) -> Result<Output, Problem> {
        let mut leaves = vec![];
        let node = self.row_node(shape, "row", &mut leaves)?;
        if leaves.is_empty() {
            return Ok(Output::Verbatim);
        }
        Ok(Output::Record(OpenedDocument { node, leaves }))
    }

    /// What is known of one field, or of the whole. `name` is the row's.
    fn row_node(&mut self, shape: &Shape, name: &str, leaves: &mut Vec<Opened>) -> Result<Node, Problem> {
        let mut leaf = |analyst: &mut Self, sealed: &SealedShape| {
            leaves.push(analyst.opened(sealed));
            Node::Leaf(leaves.len() - 1)
        };
        let fields = match shape {
            Shape::Plain | Shape::Adaptable | Shape::Default => return Ok(Node::Plain),
            Shape::Sealed(sealed) => return Ok(leaf(self, sealed)),
            Shape::Array(sealed) => return Ok(Node::Each(Box::new(leaf(self, sealed)))),
            Shape::Deferred(slots) => {
                return Ok(self.settled(slots).map_or(Node::Plain, |sealed| leaf(self, &sealed)));
            }
            Shape::Clear(column) => {
                self.note(column, Action::Read, self.in_view > 0);
                if (self.context.guard)(column.id, column.name()).is_some() {
                    return Err(Problem::whole_row(name));
                }
                return Ok(Node::Plain);
            }
            Shape::Document(_) => {
                self.refuse_sealed(shape, "JSON inside of a row", None)?;
                return Ok(Node::Plain);
            }
            Shape::Rows(row) => {
                let each = self.row_node(row, name, leaves)?;
                return Ok(if each == Node::Plain { each } else { Node::Each(Box::new(each)) });
            }
            Shape::Row(shapes) => {
                let fields = shapes.iter().map(|shape| self.row_node(shape, name, leaves));
                fields.collect::<Result<Vec<_>, _>>()?
            }
            Shape::WholeRow(row) => {
                let fields = row.columns.iter().map(|out| self.row_node(&out.shape, &row.name, leaves));
                fields.collect::<Result<Vec<_>, _>>()?
            }
        };
        // Nothing in it is looked for.
        let plain = fields.iter().all(|field| *field == Node::Plain);
        Ok(if plain { Node::Plain } else { Node::Tuple(fields) })
    }
}

fn is_name(expr: &Expr) -> bool {
    match expr {
        Expr::Identifier(_) => true,
        Expr::Nested(inner) => is_name(inner),
        _ => false,
    }
}

//! Joins that merge columns (USING, NATURAL), and what `*` and an unqualified name mean after them
//! (`parse_clause.c` `transformFromClauseItem`, `parse_relation.c` `expandNSItemAttrs`): a join stands for its two sides; first come
//! what it merged, then the rest of the left side, then of the right. Other joins leave the order of their sides as it is.
//!
//! A merged column is written by its bare name, and where that would be ambiguous (another item of FROM has it, too) as the
//! `COALESCE` of both sides, the side first that the join keeps whole: that is its value and its type.

use super::print::coalesce;
use super::relation::quoted_ident;
use super::scope::{Entry, Out, Scope};
use super::{Analyst, SealedShape, Shape};
use crate::catalog::Action;
use crate::sql::problem::{Problem, Trouble};
use sqlparser::ast::{
    Expr, Ident, JoinOperator, ObjectName, ObjectNamePart, SelectItem, SelectItemQualifiedWildcardKind,
    WildcardAdditionalOptions,
};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// Where an item of the FROM list begins in its scope.
#[derive(Clone, Copy)]
pub(super) struct Start {
    entry: usize,
    merge: usize,
}

impl Start {
    pub(super) fn of(scope: &Scope<'_>) -> Start {
        Start { entry: scope.entries.len(), merge: scope.merges.len() }
    }

    pub(super) fn entry(self) -> usize {
        self.entry
    }

    /// What ON sees, where that is less than the scope: its own item of the list (`transformJoinOnClause`).
    pub(super) fn joined<'s>(self, scope: &Scope<'s>) -> Option<Scope<'s>> {
        (self.entry > 0).then(|| Scope {
            outer: scope.outer,
            ctes: scope.ctes.clone(),
            entries: scope.entries[self.entry..].to_vec(),
            merges: scope.merges[self.merge..].iter().map(|merge| merge.from(self.entry)).collect(),
            ..Scope::default()
        })
    }
}

/// The two sides of a join in its scope.
#[derive(Clone, Copy)]
pub(super) struct Sides {
    /// The entry with which the right one begins.
    pub(super) right: usize,
    pub(super) takes: Takes,
}

/// Where a join's merged columns come from (`buildMergedJoinVar`).
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Takes {
    Left,
    Right,
    Either,
}

impl Takes {
    pub(super) fn of(join: &JoinOperator) -> Takes {
        match join {
            JoinOperator::Right(_) | JoinOperator::RightOuter(_) => Takes::Right,
            JoinOperator::FullOuter(_) => Takes::Either,
            _ => Takes::Left,
        }
    }
}

/// A join that merged columns.
#[derive(Clone)]
pub(super) struct Merge {
    /// The entries that it stands for.
    entries: Range<usize>,
    columns: Vec<Visible>,
}

impl Merge {
    fn from(&self, entry: usize) -> Merge {
        let entries = self.entries.start - entry..self.entries.end - entry;
        Merge { entries, columns: self.columns.clone() }
    }
}

/// A column that `*` means.
#[derive(Clone)]
pub(super) struct Visible {
    pub(super) out: Out,
    /// How it is written wherever it stands; a function's columns may not be known.
    written: Option<Expr>,
    merged: bool,
    /// Of a relation whose columns cannot be told apart by name: its alias, and how many they are.
    among: Option<(String, usize)>,
}

/// `*` or `alias.*` as a select list.
pub(super) fn items(columns: &[Visible], scope: &Scope<'_>) -> Result<Vec<SelectItem>, Problem> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for name in columns.iter().filter_map(|column| column.out.name.as_deref()) {
        *counts.entry(name).or_default() += 1;
    }
    let mut items = vec![];
    let mut at = 0;
    while let Some(column) = columns.get(at) {
        match &column.among {
            None => {
                items.push(column.item(|name| counts.get(name) == Some(&1))?);
                at += 1;
            }
            Some((alias, count)) => {
                let all = columns.get(at..at + count).unwrap_or_default();
                let entry = scope.entry_outwards(std::slice::from_ref(alias));
                let whole = !all.is_empty() && all.iter().all(|other| other.among == column.among);
                if !whole || entry.is_none_or(|entry| entry.kept().is_none()) {
                    return Err(Problem::not_understood("* over several columns of one name")
                        .hint("Give the subquery's columns different names with AS."));
                }
                let name = ObjectName(vec![ObjectNamePart::Identifier(quoted_ident(alias))]);
                let kind = SelectItemQualifiedWildcardKind::ObjectName(name);
                items.push(SelectItem::QualifiedWildcard(kind, WildcardAdditionalOptions::default()));
                at += count;
            }
        }
    }
    Ok(items)
}

impl Visible {
    fn named(&self, name: &str) -> bool {
        self.out.name.as_deref() == Some(name)
    }

    fn merged_with(self, right: Visible, shape: Shape, takes: Takes) -> Visible {
        let both = match takes {
            Takes::Left | Takes::Either => [self.written, right.written],
            Takes::Right => [right.written, self.written],
        };
        let written = both.into_iter().collect::<Option<Vec<_>>>().map(coalesce);
        // In a row that has the left side, the left value is taken, and else the right one.
        let origin = if takes == Takes::Right { right.out.origin } else { self.out.origin };
        Visible { out: Out { shape, origin, ..self.out }, written, merged: true, among: None }
    }

    /// It as an item of a select list. `alone`: no other column that `*` means has that name.
    fn item(&self, alone: impl Fn(&str) -> bool) -> Result<SelectItem, Problem> {
        let Some(written) = &self.written else {
            return Err(Problem::not_understood("* over a function whose columns are not named")
                .hint("Name the function's columns in its alias, or name the columns to select."));
        };
        let Some(name) = self.out.name.as_deref() else {
            return Err(Problem::not_understood("* over a column without a certain name")
                .hint("Give the subquery's columns names with AS."));
        };
        if !self.merged {
            return Ok(SelectItem::UnnamedExpr(written.clone()));
        }
        let bare = quoted_ident(name);
        Ok(if alone(name) {
            SelectItem::UnnamedExpr(Expr::Identifier(bare))
        } else {
            SelectItem::ExprWithAlias { expr: written.clone(), alias: bare }
        })
    }
}

impl Entry {
    /// Whether two of its columns have one name, so that only `*` can name them all.
    fn repeats(&self) -> bool {
        let mut seen = BTreeSet::new();
        let mut names = self.columns.iter().filter_map(|out| out.name.as_deref());
        !self.table && self.complete && names.any(|name| !seen.insert(name))
    }

    /// The columns of `alias.*` where it is not written out. How many they are is fixed by the relation's own text, or the
    /// server's description of the result tells; one that is stored in clear could not be masked in it.
    pub(super) fn kept(&self) -> Option<&[Out]> {
        let kept = |out: &Out| matches!(out.shape, Shape::Plain | Shape::Adaptable | Shape::Sealed(_));
        (self.repeats() && self.columns.iter().all(kept)).then_some(self.columns.as_slice())
    }

    /// Its columns as `*` means them.
    pub(super) fn visible(&self) -> Vec<Visible> {
        let among = self.repeats().then(|| (self.alias.clone(), self.columns.len()));
        let column = |out: &Out| {
            let mut path: Vec<Ident> = vec![];
            let schema = self.schema.iter().filter(|_| self.keeps_schema());
            path.extend(schema.map(|schema| quoted_ident(schema)));
            path.push(quoted_ident(&self.alias));
            path.push(quoted_ident(out.name.as_deref().unwrap_or_default()));
            let written = Some(Expr::CompoundIdentifier(path));
            Visible { out: out.clone(), written, merged: false, among: among.clone() }
        };
        let unknown = Out { name: None, shape: Shape::Plain, origin: None };
        let rest = Visible { out: unknown, written: None, merged: false, among: None };
        let rest = (!self.complete).then_some(rest);
        self.columns.iter().map(column).chain(rest).collect()
    }
}

impl Scope<'_> {
    /// What an unqualified name means that a join merged.
    pub(super) fn merged(&self, name: &str) -> Option<&Out> {
        let columns = self.merges.iter().flat_map(|merge| &merge.columns);
        columns
            .filter(|column| column.merged)
            .map(|column| &column.out)
            .find(|out| out.name.as_deref() == Some(name))
    }

    /// What `*` means over the entries from `first` on.
    pub(super) fn visible(&self, first: usize) -> Vec<Visible> {
        self.visible_in(first..self.entries.len())
    }

    fn visible_in(&self, entries: Range<usize>) -> Vec<Visible> {
        let mut columns = vec![];
        let mut at = entries.start;
        while at < entries.end {
            match self.merges.iter().find(|merge| merge.entries.start == at) {
                Some(merge) => {
                    columns.extend(merge.columns.iter().cloned());
                    at = merge.entries.end;
                }
                None => {
                    columns.extend(self.entries[at].visible());
                    at += 1;
                }
            }
        }
        columns
    }

    /// The names that both sides of a join have, in the order of the left one (`transformFromClauseItem`, NATURAL).
    pub(super) fn common(&self, start: Start, right: usize) -> Vec<String> {
        let others = self.visible(right);
        let left = self.visible_in(start.entry..right);
        let names = left.into_iter().filter_map(|column| column.out.name);
        names.filter(|name| others.iter().any(|other| other.named(name))).collect()
    }
}

impl Analyst<'_> {
    /// Joins by equally named columns: both sides must be comparable, and the name means the merged column from now on.
    pub(super) fn merge(
        &mut self,
        names: &[String],
        scope: &mut Scope<'_>,
        start: Start,
        sides: Sides,
    ) -> Result<Vec<Out>, Problem> {
        let (mut left, mut right) = (scope.visible_in(start.entry..sides.right), scope.visible(sides.right));
        let mut columns = vec![];
        for name in names {
            let take = |side: &mut Vec<Visible>| {
                side.iter().position(|column| column.named(name)).map(|at| side.remove(at))
            };
            let (Some(left), Some(right)) = (take(&mut left), take(&mut right)) else {
                return Err(Problem::new(
                    Trouble::Mismatch,
                    "42703",
                    format!("column \"{name}\" specified in USING clause does not exist"),
                ));
            };
            self.compare_shapes(&left.out.shape, &right.out.shape, "JOIN USING", None)?;
            for shape in [&left.out.shape, &right.out.shape] {
                if let Shape::Clear(column) = shape {
                    self.note(column, Action::Read, true);
                }
            }
            let shape = self.merged_shape(&left.out.shape, &right.out.shape, sides.takes)?;
            columns.push(left.merged_with(right, shape, sides.takes));
        }
        let merged = columns.iter().map(|column| column.out.clone()).collect();
        columns.extend(left);
        columns.extend(right);
        scope.merges.truncate(start.merge);
        scope.merges.push(Merge { entries: start.entry..scope.entries.len(), columns });
        Ok(merged)
    }

    /// What a merged column is: of the side that it comes from, in the type that both have in common. A constant of the client's on one
    /// side does not make the other side's cells its own.
    fn merged_shape(&mut self, left: &Shape, right: &Shape, takes: Takes) -> Result<Shape, Problem> {
        let both = match (left, right) {
            (Shape::Sealed(left), Shape::Sealed(right)) => {
                Some(self.unite_sealed(left.clone(), right.clone(), "JOIN USING")?)
            }
            _ => None,
        };
        let as_both = |shape: &Shape| match (shape, &both) {
            (Shape::Sealed(own), Some(both)) => {
                Shape::Sealed(SealedShape { shown: both.shown, ..own.clone() })
            }
            (shape, _) => shape.clone(),
        };
        Ok(match (takes, left, right) {
            (Takes::Left, left, _) => as_both(left),
            (Takes::Right, _, right) => as_both(right),
            (Takes::Either, _, _) if both.is_some() => both.map_or(Shape::Plain, Shape::Sealed),
            (Takes::Either, Shape::Deferred(_), Shape::Sealed(_)) => right.clone(),
            (Takes::Either, left, _) => left.clone(),
        })
    }
}

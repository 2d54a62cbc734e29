//! Conditions: every comparison that sealed columns serve, tests for NULL, and subqueries.

use super::{Generator, Scope, Source, Type};
use crate::shop::{Column, Kind};

impl Generator {
    /// A condition, maybe of several.
    pub(super) fn condition(&mut self, scope: &Scope) -> String {
        let mut condition = self.simple_condition(scope);
        while self.chance(25) {
            let (word, other) = (if self.chance(60) { "and" } else { "or" }, self.simple_condition(scope));
            condition = format!("({condition} {word} {other})");
        }
        if self.chance(8) {
            self.uses("NOT");
            condition = format!("not ({condition})");
        }
        condition
    }

    fn simple_condition(&mut self, scope: &Scope) -> String {
        let comparable = |column: &Column| Type::of(column).comparable();
        let Some((column, of)) = self.column(scope, comparable) else { return "true".to_owned() };
        match self.below(100) {
            0..30 => {
                let operator = *self.pick(&["=", "=", "=", "<>", "!=", "operator(pg_catalog.=)"]);
                self.uses("equality");
                let other = self.alike(scope, of);
                if self.chance(15) {
                    format!("{other} {operator} {column}")
                } else {
                    format!("{column} {operator} {other}")
                }
            }
            30..38 => self.in_list(scope, &column, of),
            38..44 => self.any_of(&column, of),
            44..51 => self.in_subquery(scope, &column, of),
            51..58 => {
                self.uses("IS DISTINCT FROM");
                let not = if self.chance(50) { "not " } else { "" };
                format!("{column} is {not}distinct from {}", self.alike(scope, of))
            }
            58..66 => {
                self.uses("IS NULL");
                let (any, _) = self.column(scope, |_| true).expect("there was one");
                format!("{any} is {}null", if self.chance(50) { "not " } else { "" })
            }
            66..71 => self.row_comparison(scope, &column, of),
            71..79 => self.exists(scope),
            79..95 => self.over_readable(scope),
            95..97 if of.sealed() => {
                self.forbids("order or LIKE over sealed");
                match self.below(4) {
                    0 => format!("{column} < {}", self.constant(of)),
                    1 if of.kind == Kind::Text => format!("{column} like 'a%'"),
                    2 => format!("{column} between {} and {}", self.constant(of), self.constant(of)),
                    _ => format!("{column} >= {}", self.constant(of)),
                }
            }
            _ => format!("coalesce({column}, {}) = {}", self.constant(of), self.constant(of)),
        }
    }

    fn in_list(&mut self, scope: &Scope, column: &str, of: Type) -> String {
        self.uses("IN list");
        let count = self.below(3) + 1;
        let items: Vec<String> = (0..count).map(|_| self.alike(scope, of)).collect();
        format!("{column} {}in ({})", if self.chance(20) { "not " } else { "" }, items.join(", "))
    }

    fn any_of(&mut self, column: &str, of: Type) -> String {
        if self.parameters && self.chance(60) {
            self.uses("= ANY(parameter)");
            let texts: Vec<String> = (0..self.below(4))
                .map(|_| {
                    let text = *self.pick(crate::shop::pool(of.domain, of.kind));
                    format!("\"{}\"", text.replace('"', "\\\""))
                })
                .collect();
            let null = if self.chance(10) { ",NULL" } else { "" };
            let text =
                if texts.is_empty() { "{}".to_owned() } else { format!("{{{}{null}}}", texts.join(",")) };
            // No kind has an array's OID: left to the server, or said by a cast.
            let parameter = super::Parameter { declared: 0, kind: Kind::Json, value: Some(text) };
            self.statement.parameters.push(parameter);
            let name = format!("${}", self.statement.parameters.len());
            let cast = if self.chance(30) { format!("::{}[]", of.kind.sql()) } else { String::new() };
            return format!("{column} = any({name}{cast})");
        }
        if self.chance(25) {
            self.uses("= ANY(array constant)");
            let texts: Vec<String> = (0..self.below(3))
                .map(|_| {
                    format!("\"{}\"", self.pick(crate::shop::pool(of.domain, of.kind)).replace('"', "\\\""))
                })
                .collect();
            let cast = if self.chance(30) { format!("::{}[]", of.kind.sql()) } else { String::new() };
            return format!("{column} = any('{{{}}}'{cast})", texts.join(",").replace('\'', "''"));
        }
        self.uses("= ANY(array)");
        // A parameter without a type in ARRAY is text's.
        self.declared = of.kind != Kind::Text;
        let items: Vec<String> = (0..self.below(3) + 1).map(|_| self.constant(of)).collect();
        self.declared = false;
        let cast = if items.iter().all(|item| item == "null") || self.chance(15) {
            format!("::{}[]", of.kind.sql())
        } else {
            String::new()
        };
        if self.chance(15) {
            return format!("{column} <> all(array[{}]{cast})", items.join(", "));
        }
        format!("{column} = any(array[{}]{cast})", items.join(", "))
    }

    fn in_subquery(&mut self, scope: &Scope, column: &str, of: Type) -> String {
        if self.depth > 2 {
            return format!("{column} is not null");
        }
        self.depth += 1;
        self.uses("IN subquery");
        let (query, _) = self.select(&scope.inside(), Some(&[of]));
        self.depth -= 1;
        match self.below(6) {
            0 => format!("{column} not in ({query})"),
            1 => format!("{column} = any ({query})"),
            2 => format!("{column} <> all ({query})"),
            _ => format!("{column} in ({query})"),
        }
    }

    fn row_comparison(&mut self, scope: &Scope, column: &str, of: Type) -> String {
        self.uses("row comparison");
        let first = self.alike(scope, of);
        let Some((other, other_of)) = self.column(scope, |column| Type::of(column).comparable()) else {
            return format!("{column} = {first}");
        };
        let second = self.alike(scope, other_of);
        match self.below(4) {
            0 => format!("({column}, {other}) in (({first}, {second}))"),
            1 => format!("({column}, {other}) <> ({first}, {second})"),
            2 => format!("row({column}, {other}) = row({first}, {second})"),
            _ => format!("({column}, {other}) = ({first}, {second})"),
        }
    }

    fn exists(&mut self, scope: &Scope) -> String {
        if self.depth > 2 {
            return "true".to_owned();
        }
        self.depth += 1;
        self.uses("EXISTS");
        let relation = self.relation();
        let alias = self.alias(&[]);
        let source = Source { alias: alias.clone(), columns: relation.columns, keyed: relation.keyed };
        let inner = Scope { sources: vec![source], ..scope.inside() };
        let condition = self.condition(&inner);
        self.depth -= 1;
        let what = *self.pick(&["1", "*", "null"]);
        let not = if self.chance(25) { "not " } else { "" };
        format!("{not}exists (select {what} from {} {alias} where {condition})", relation.name)
    }

    /// Orders and patterns over untagged and clear columns.
    pub(super) fn over_readable(&mut self, scope: &Scope) -> String {
        let Some((column, of)) =
            self.column(scope, |column| !Type::of(column).sealed() && column.kind != Kind::Json)
        else {
            return "1 = 1".to_owned();
        };
        self.uses("order over readable");
        match of.kind {
            Kind::Bool => column,
            Kind::Text => match self.below(5) {
                0 => format!("{column} like '%a%'"),
                1 => format!("{column} ilike 'A%'"),
                2 => format!("{column} > {}", self.constant(of)),
                3 => format!("length({column}) > 2"),
                _ => format!("{column} ~ '^[a-z]'"),
            },
            Kind::Int => match self.below(5) {
                0 => format!("{column} between 1 and {}", self.below(30)),
                1 => format!("{column} > 2.5"),
                2 => format!("{column} * 2 <= {}", self.constant(of)),
                3 => format!("{column} = 7.5"),
                _ => format!("{column} < {}", self.constant(of)),
            },
            _ => format!("{column} >= {}", self.constant(of)),
        }
    }
}

//! Expressions: columns, constants, parameters, and what is made of them.

use super::{Generator, Parameter, Scope, Source, Type};
use crate::shop::{Column, Kind, Power, pool};

impl Generator {
    /// A reference to a column that fits, with its type.
    pub(super) fn column(&mut self, scope: &Scope, fits: impl Fn(&Column) -> bool) -> Option<(String, Type)> {
        let among = |sources: &[Source]| -> Vec<(String, Column)> {
            let all = sources.iter().flat_map(|source| {
                source.columns.iter().map(|column| (source.alias.clone(), column.clone()))
            });
            all.filter(|(_, column)| fits(column)).collect()
        };
        let visible = |source: &&Source| scope.sources.iter().all(|own| own.alias != source.alias);
        let outer: Vec<Source> = scope.outer.iter().filter(visible).cloned().collect();
        let mut found = among(&scope.sources);
        if found.is_empty() || (!outer.is_empty() && self.chance(20)) {
            let correlated = among(&outer);
            if !correlated.is_empty() {
                self.uses("correlated reference");
                found = correlated;
            }
        }
        if found.is_empty() {
            return None;
        }
        let (alias, column) = self.pick(&found).clone();
        let own = |source: &&Source| source.columns.iter().any(|other| other.name == column.name);
        let unique = scope.sources.iter().filter(own).count() == 1;
        let inner = scope.sources.iter().any(|source| source.alias == alias);
        let reference =
            if unique && inner && self.chance(40) && !scope.sources.iter().any(|s| s.alias == column.name) {
                column.name.clone()
            } else {
                format!("{alias}.{}", column.name)
            };
        Some((reference, Type::of(&column)))
    }

    /// A constant that a value of this type may meet: a literal in one of its spellings, or a parameter.
    pub(super) fn constant(&mut self, of: Type) -> String {
        if self.chance(6) {
            return match self.below(3) {
                0 if self.parameters => self.parameter(of, None),
                1 => format!("null::{}", of.kind.sql()),
                _ => "null".to_owned(),
            };
        }
        let text = (*self.pick(pool(of.domain, of.kind))).to_owned();
        if self.parameters && self.chance(60) {
            return self.parameter(of, Some(text));
        }
        self.uses("literal");
        let quoted = format!("'{}'", text.replace('\'', "''"));
        match of.kind {
            Kind::Int | Kind::Numeric if self.chance(70) => text,
            Kind::Bool if self.chance(70) => text,
            Kind::Text if self.chance(10) => {
                self.uses("E string");
                format!("E'{}'", text.replace('\'', "\\'"))
            }
            Kind::Text if self.chance(5) => {
                self.uses("dollar quoted");
                format!("$q${text}$q$")
            }
            Kind::Date if self.chance(30) => format!("date {quoted}"),
            _ if self.chance(20) => {
                self.uses("cast constant");
                format!("{quoted}::{}", of.kind.sql())
            }
            _ if self.chance(8) => {
                self.uses("cast constant");
                format!("cast({quoted} as {})", of.kind.sql())
            }
            _ => quoted,
        }
    }

    fn parameter(&mut self, of: Type, value: Option<String>) -> String {
        let reuse: Vec<usize> = (0..self.statement.parameters.len())
            .filter(|index| self.statement.parameters[*index].kind == of.kind)
            .collect();
        if !reuse.is_empty() && self.chance(25) {
            self.uses("one parameter twice");
            return format!("${}", self.pick(&reuse) + 1);
        }
        self.uses("parameter");
        let declared = if self.chance(40) || self.declared { of.kind.oid() } else { 0 };
        if declared != 0 {
            self.uses("typed parameter");
        }
        self.statement.parameters.push(Parameter { declared, kind: of.kind, value });
        let name = format!("${}", self.statement.parameters.len());
        if self.chance(15) {
            self.uses("cast parameter");
            return format!("{name}::{}", of.kind.sql());
        }
        name
    }

    /// An expression for a select list.
    pub(super) fn item(&mut self, scope: &Scope) -> (String, Type) {
        let Some((column, of)) = self.column(scope, |_| true) else {
            return ("1".to_owned(), Type::plain(Kind::Int));
        };
        if self.depth > 3 {
            return (column, of);
        }
        match self.below(100) {
            0..52 => (column, of),
            52..57 => self.coalesce(scope, column, of),
            57..62 => self.case(scope, column, of),
            62..65 if of.comparable() => {
                self.uses("NULLIF");
                let other = self.alike(scope, of);
                (format!("nullif({column}, {other})"), of)
            }
            65..69 => self.scalar_subquery(scope),
            69..72 => {
                self.uses("IS NULL in a list");
                (
                    format!("{column} is {}null", if self.chance(50) { "not " } else { "" }),
                    Type::plain(Kind::Bool),
                )
            }
            72..75 if of.comparable() => {
                self.uses("comparison in a list");
                let other = self.alike(scope, of);
                (format!("({column} = {other})"), Type::plain(Kind::Bool))
            }
            75..79 => {
                self.uses("cast of a column");
                (format!("{column}::{}", of.kind.sql()), of)
            }
            79..81 => {
                let text = Type { kind: Kind::Text, power: of.power, domain: "note" };
                if of.sealed() && of.kind != Kind::Text {
                    self.forbids("cast to another type");
                }
                (format!("{column}::text"), text)
            }
            81..84 => (format!("({column})"), of),
            84..90 => self.computed(scope),
            90..92 => {
                let constant = self.constant(Type::plain(Kind::Int));
                (format!("{constant}::integer"), Type::plain(Kind::Int))
            }
            92..93 if of.sealed() => self.sealed_misuse(column, of),
            93..96 => self.structured(scope, column, of),
            96..98 => self.taken_out(scope, column, of),
            _ => (column, of),
        }
    }

    /// A constant, or a column of the same domain.
    pub(super) fn alike(&mut self, scope: &Scope, of: Type) -> String {
        if self.chance(25)
            && let Some((other, _)) = self.column(scope, |column| Type::of(column) == of)
        {
            return other;
        }
        self.constant(of)
    }

    fn coalesce(&mut self, scope: &Scope, column: String, of: Type) -> (String, Type) {
        self.uses("COALESCE");
        let other = self.alike(scope, of);
        if self.chance(20) {
            let more = self.alike(scope, of);
            return (format!("coalesce({column}, {other}, {more})"), of);
        }
        (format!("coalesce({column}, {other})"), of)
    }

    fn case(&mut self, scope: &Scope, column: String, of: Type) -> (String, Type) {
        self.uses("CASE");
        self.depth += 1;
        let condition = self.condition(scope);
        let other = if self.chance(30) { "null".to_owned() } else { self.alike(scope, of) };
        self.depth -= 1;
        let case = match self.below(3) {
            0 if of.comparable() => {
                self.uses("CASE with an operand");
                let (when, then) = (self.alike(scope, of), self.alike(scope, of));
                format!("case {column} when {when} then {then} else {column} end")
            }
            1 => format!("case when {condition} then {column} end"),
            _ => format!("case when {condition} then {column} else {other} end"),
        };
        (case, of)
    }

    /// A query that gives one row at most.
    fn scalar_subquery(&mut self, scope: &Scope) -> (String, Type) {
        self.uses("scalar subquery");
        let relation = loop {
            let relation = self.relation();
            if relation.keyed {
                break relation;
            }
        };
        let alias = self.alias(&scope.sources);
        let source = Source { alias: alias.clone(), columns: relation.columns.clone(), keyed: true };
        let inner = Scope { sources: vec![source], ..scope.inside() };
        let own = Scope { sources: inner.sources.clone(), outer: Vec::new() };
        if self.chance(30) {
            let condition = self.condition(&inner);
            return (
                format!("(select count(*) from {} {alias} where {condition})", relation.name),
                Type::plain(Kind::Int),
            );
        }
        let (column, of) = self.column(&own, |_| true).expect("a relation has columns");
        let outer = Scope { sources: Vec::new(), outer: inner.outer };
        let key = match self.column(&outer, |column| column.domain == "id") {
            Some((key, _)) if self.chance(60) && !key.starts_with(&format!("{alias}.")) => key,
            _ => self.constant(Type::plain(Kind::Int)),
        };
        (format!("(select {column} from {} {alias} where {alias}.id = {key})", relation.name), of)
    }

    /// Something computed from untagged or clear columns.
    fn computed(&mut self, scope: &Scope) -> (String, Type) {
        let readable = |kind: Kind| move |column: &Column| column.kind == kind && !Type::of(column).sealed();
        let int = Type::plain(Kind::Int);
        let text = Type::plain(Kind::Text);
        match self.below(8) {
            0 => match self.column(scope, readable(Kind::Int)) {
                Some((column, _)) => {
                    self.uses("arithmetic");
                    let by = *self.pick(&["+ 1", "- 2", "* 3", "% 7", "+ 1.5", "* 0.5", "/ 2", "+ '2'"]);
                    let numeric = by.contains('.');
                    let of = if numeric { Type { domain: "note", kind: Kind::Numeric, ..int } } else { int };
                    (format!("{column} {by}"), of)
                }
                None => ("2 + 2".to_owned(), int),
            },
            1 | 2 => match self.column(scope, readable(Kind::Text)) {
                Some((column, _)) => {
                    self.uses("text function");
                    match self.below(5) {
                        0 => (format!("upper({column})"), text),
                        1 => (format!("length({column})"), int),
                        2 => (format!("{column} || '!'"), text),
                        3 => (format!("substring({column} from 1 for 2)"), text),
                        _ => (format!("concat({column}, 5, null)"), text),
                    }
                }
                None => ("lower('ABC')".to_owned(), text),
            },
            3 => match self.column(scope, readable(Kind::Stamp)) {
                Some((column, of)) => {
                    self.uses("time arithmetic");
                    match self.below(4) {
                        0 => (format!("{column} - interval '1 day'"), of),
                        1 => (format!("{column} + '1 hour'"), of),
                        2 => (format!("extract(year from {column})::int"), int),
                        _ => (format!("date_trunc('month', {column})"), of),
                    }
                }
                None => ("1".to_owned(), int),
            },
            4 => ("current_user".to_owned(), Type { kind: Kind::Text, ..text }),
            5 => {
                self.uses("row");
                ("row(1, 'x')::text".to_owned(), text)
            }
            _ => match self.column(scope, |column| column.domain == "id") {
                Some((column, _)) => (format!("abs(-{column})"), int),
                None => ("0".to_owned(), int),
            },
        }
    }

    /// What ciphertext cannot serve.
    pub(super) fn sealed_misuse(&mut self, column: String, of: Type) -> (String, Type) {
        self.forbids("function over sealed");
        let text = Type::plain(Kind::Text);
        match (self.below(3), of.kind) {
            (0, Kind::Text) => (format!("lower({column})"), text),
            (1, Kind::Text) => (format!("{column} || 'x'"), text),
            (0, Kind::Int | Kind::Numeric) => (format!("{column} + 1"), of),
            (1, Kind::Date) => (format!("extract(year from {column})"), Type::plain(Kind::Int)),
            (2, Kind::Json) => (format!("{column} ->> 'a'"), text),
            _ => (format!("md5({column}::text)"), text),
        }
    }

    /// An expression of just this type: a column of it, or a constant.
    pub(super) fn exactly(&mut self, scope: &Scope, of: Type) -> String {
        let found = self.column(scope, |column| Type::of(column) == of);
        match found {
            Some((column, _)) if self.chance(85) => match self.below(10) {
                0 => self.coalesce(scope, column, of).0,
                1 => self.case(scope, column, of).0,
                _ => column,
            },
            _ => self.constant(of),
        }
    }

    /// Whether a type may be grouped by, made distinct or united.
    pub(super) fn groupable(column: &Column) -> bool {
        Type::of(column).comparable() && column.power != Power::Move
    }
}

//! Queries inside other statements, and what is asked of these afterwards: cursors, prepared statements, COPY, new tables
//! and views, MERGE.

use super::write::own;
use super::{Generator, Scope, Type};
use crate::postgres;
use crate::shop::{Column, Kind};

impl Generator {
    /// A query inside another statement.
    pub(super) fn wrapped(&mut self) -> String {
        self.statement.writes = true;
        match self.below(16) {
            0..3 => self.cursor(),
            3..6 => self.prepared(),
            6..9 => self.copied(),
            9..12 => self.made(),
            12 => {
                self.uses("TABLE");
                format!("table {}", self.relation().name)
            }
            // PostgreSQL 15 brought it.
            _ if postgres::major() >= 15 => self.merge(),
            _ => self.made(),
        }
    }

    /// Without parameters: what it is wrapped in has none.
    fn plain_query(&mut self) -> String {
        self.parameters = false;
        self.any_query(&Scope::default(), None).0
    }

    fn cursor(&mut self) -> String {
        self.uses("DECLARE CURSOR");
        self.parameters = false;
        let query = if self.chance(70) {
            let query = self.ordered();
            for _ in 0..self.below(3) {
                let step = *self.pick(&[
                    "fetch 2 from k",
                    "fetch next in k",
                    "move 1 in k",
                    "fetch backward 1 from k",
                    "fetch forward 3 from k",
                    "fetch absolute 2 from k",
                ]);
                self.statement.then.push(step.to_owned());
            }
            query
        } else {
            self.plain_query()
        };
        self.uses("FETCH");
        self.statement.then.extend(["fetch all from k", "close k"].map(str::to_owned));
        let scroll = *self.pick(&["", "", "scroll ", "no scroll "]);
        format!("declare k {scroll}cursor for {query}")
    }

    /// PREPARE, and EXECUTE with what would have been parameters.
    fn prepared(&mut self) -> String {
        self.uses("PREPARE");
        self.parameters = self.chance(60);
        let statement = match self.below(4) {
            0 => self.write(),
            _ => self.any_query(&Scope::default(), None).0,
        };
        let parameters = std::mem::take(&mut self.statement.parameters);
        let value = |text: &String| format!("'{}'", text.replace('\'', "''"));
        let values: Vec<String> =
            parameters.iter().map(|p| p.value.as_ref().map_or("null".to_owned(), value)).collect();
        let list = if values.is_empty() { String::new() } else { format!("({})", values.join(", ")) };
        self.uses("EXECUTE");
        self.statement.then.push(format!("execute later{list}"));
        format!("prepare later as {statement}")
    }

    /// COPY TO, in an order that a key gives.
    fn copied(&mut self) -> String {
        self.statement.ordered = true;
        let form = *self.pick(&[
            "",
            " with (format csv, header)",
            " (format csv, force_quote *)",
            " (format text, null 'none')",
        ]);
        let relation = loop {
            let relation = self.relation();
            if relation.keyed {
                break relation;
            }
        };
        let names: Vec<String> = relation.columns.iter().map(|column| column.name.clone()).collect();
        let kept: Vec<&str> = names.iter().map(String::as_str).filter(|_| self.chance(60)).collect();
        if relation.table && self.chance(30) {
            self.uses("COPY TO");
            self.statement.ordered = false;
            let list = if kept.is_empty() { String::new() } else { format!(" ({})", kept.join(", ")) };
            return format!("copy {}{list} to stdout{form}", relation.name);
        }
        self.uses("COPY (query)");
        self.parameters = false;
        let scope = own(&relation, "a");
        let condition = self.condition(&scope);
        let list = if kept.is_empty() { "*".to_owned() } else { kept.join(", ") };
        format!(
            "copy (select {list} from {} a where {condition} order by a.id) to stdout{form}",
            relation.name
        )
    }

    /// A new table or view, and what is in it.
    fn made(&mut self) -> String {
        let query = self.plain_query();
        let (construct, text) = match self.below(5) {
            0 => ("CREATE TABLE AS", format!("create table made as {query}")),
            1 => ("CREATE TEMP TABLE AS", format!("create temp table made as {query}")),
            2 | 3 => ("CREATE VIEW", format!("create view made as {query}")),
            _ => {
                let relation = self.relation();
                ("SELECT INTO", format!("select * into made from {}", relation.name))
            }
        };
        self.uses(construct);
        self.statement.then.push("select * from made".to_owned());
        text
    }

    fn merge(&mut self) -> String {
        self.uses("MERGE");
        self.parameters = self.chance(30);
        let (table, source) = (self.target(), self.source());
        let source = self.relation_named(source);
        let target_scope = own(&table, "m");
        let mut both = target_scope.clone();
        both.sources.extend(own(&source, "s").sources);
        let mut on = "s.id = m.id".to_owned();
        if self.chance(25) {
            on = format!("{on} and {}", self.condition(&both));
        }
        let mut actions = Vec::new();
        let count = self.below(2) + 1;
        for index in 1..=count {
            // After one without a condition no other can be reached.
            let more = if index < count || self.chance(40) {
                format!(" and {}", self.condition(&both))
            } else {
                String::new()
            };
            let action = match self.below(5) {
                0 => "delete".to_owned(),
                1 => "do nothing".to_owned(),
                _ => format!("update set {}", self.assignments(&table, &both)),
            };
            actions.push(format!("when matched{more} then {action}"));
        }
        if self.chance(60) {
            let scope = own(&source, "s");
            let needed = |column: &Column| column.name == "billing_email";
            let columns: Vec<Column> = table.columns[1..]
                .iter()
                .filter(|column| column.name != "customer_id" && (needed(column) || self.chance(50)))
                .cloned()
                .collect();
            let names: String = columns.iter().map(|column| format!(", {}", column.name)).collect();
            let values: String = columns
                .iter()
                .map(|column| match self.chance(10) {
                    true => ", default".to_owned(),
                    false => format!(", {}", self.exactly(&scope, Type::of(column))),
                })
                .collect();
            let more =
                if self.chance(30) { format!(" and {}", self.condition(&scope)) } else { String::new() };
            actions
                .push(format!("when not matched{more} then insert (id{names}) values (s.id + 3000{values})"));
        }
        format!("merge into {} m using {} s on {on} {}", table.name, source.name, actions.join(" "))
    }

    /// DISTINCT ON: of each group the first row by the key, or nothing but what the group has in common.
    pub(super) fn distinct_on(&mut self) -> String {
        self.uses("DISTINCT ON");
        let (from, scope, key) = self.keyed();
        let own = Scope { sources: scope.sources.clone(), outer: Vec::new() };
        let (column, of) = self.column(&own, Generator::groupable).expect("a key at least");
        let condition =
            if self.chance(50) { format!(" where {}", self.condition(&scope)) } else { String::new() };
        if of.sealed() {
            self.uses("DISTINCT ON sealed");
            return format!("select distinct on ({column}) {column} from {from}{condition}");
        }
        let (items, _) = self.list(&scope, None);
        if matches!(of.kind, Kind::Json) || self.chance(20) {
            return format!("select distinct on ({key}) {items} from {from}{condition} order by {key}");
        }
        self.statement.ordered = true;
        format!("select distinct on ({column}) {items} from {from}{condition} order by {column}, {key}")
    }
}

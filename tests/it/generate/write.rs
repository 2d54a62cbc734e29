//! Statements that write, statements around statements, and mistakes that PostgreSQL itself refuses.

use super::{Generator, Scope, Source, Type};
use crate::shop::{Column, Kind, Relation};

impl Generator {
    pub(super) fn write(&mut self) -> String {
        self.statement.writes = true;
        match self.below(10) {
            0..3 => self.insert(),
            3 | 4 => self.insert_select(),
            5..8 => self.update(),
            _ => self.delete(),
        }
    }

    /// A table to write to.
    pub(super) fn target(&mut self) -> Relation {
        let name = *self.pick(&[
            "customers",
            "customers",
            "orders",
            "orders",
            "payments",
            "addresses",
            "notes",
            "payments_low",
        ]);
        self.relation_named(name)
    }

    fn returning(&mut self, scope: &Scope) -> String {
        if self.chance(45) {
            return String::new();
        }
        self.uses("RETURNING");
        if self.chance(20) {
            return " returning *".to_owned();
        }
        let own = Scope { sources: scope.sources.clone(), outer: Vec::new() };
        let items: Vec<String> =
            (0..self.below(3) + 1).map(|_| self.column(&own, |_| true).expect("columns").0).collect();
        format!(" returning {}", items.join(", "))
    }

    pub(super) fn value(&mut self, column: &Column) -> String {
        if column.name == "id" {
            return (100 + self.below(1000)).to_string();
        }
        if column.name == "customer_id" {
            return (*self.pick(&["1", "2", "null", "3"])).to_owned();
        }
        if self.chance(5) {
            self.uses("DEFAULT");
            return "default".to_owned();
        }
        self.constant(Type::of(column))
    }

    fn insert(&mut self) -> String {
        self.uses("INSERT");
        let table = self.target();
        let mut columns = table.columns.clone();
        let mut list = String::new();
        if self.chance(70) {
            let required = |column: &Column| matches!(column.name.as_str(), "id" | "billing_email");
            let keep: Vec<bool> = columns.iter().map(|column| required(column) || self.chance(60)).collect();
            let mut kept = keep.into_iter();
            columns.retain(|_| kept.next().unwrap_or(true));
            if self.chance(20) {
                columns.reverse();
            }
            let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
            list = format!(" ({})", names.join(", "));
        }
        let rows: Vec<String> = (0..self.below(2) + 1)
            .map(|_| {
                let values: Vec<String> = columns.iter().map(|column| self.value(column)).collect();
                format!("({})", values.join(", "))
            })
            .collect();
        let scope = own(&table, table.name);
        let conflict = self.on_conflict(&table, &scope);
        let returning = self.returning(&scope);
        format!("insert into {}{list} values {}{conflict}{returning}", table.name, rows.join(", "))
    }

    fn on_conflict(&mut self, table: &Relation, scope: &Scope) -> String {
        if self.chance(70) {
            return String::new();
        }
        self.uses("ON CONFLICT");
        let key = if table.name == "customers" && self.chance(50) { "email" } else { "id" };
        match self.below(4) {
            0 => " on conflict do nothing".to_owned(),
            1 => format!(" on conflict ({key}) do nothing"),
            _ => {
                let column = self.pick(&table.columns[1..]).clone();
                let value = match self.below(3) {
                    0 => format!("excluded.{}", column.name),
                    1 => format!("coalesce(excluded.{0}, {1}.{0})", column.name, table.name),
                    _ => self.constant(Type::of(&column)),
                };
                let condition = if self.chance(20) {
                    let (test, _) = self.column(scope, |_| true).expect("columns");
                    format!(" where {}.{} is not null", table.name, test.rsplit('.').next().unwrap_or(&test))
                } else {
                    String::new()
                };
                format!(" on conflict ({key}) do update set {} = {value}{condition}", column.name)
            }
        }
    }

    fn insert_select(&mut self) -> String {
        self.uses("INSERT SELECT");
        let table = self.target();
        let mut columns: Vec<Column> = table.columns[1..].to_vec();
        columns.retain(|column| column.name != "customer_id" && column.name != "active");
        let required = |column: &Column| column.name == "billing_email";
        let keep: Vec<bool> = columns.iter().map(|column| required(column) || self.chance(40)).collect();
        let mut kept = keep.into_iter();
        columns.retain(|_| kept.next().unwrap_or(true));
        let name = self.source();
        let source = self.relation_named(name);
        let alias = self.alias(&[]);
        let scope = own(&source, &alias);
        let names: String = columns.iter().map(|column| format!(", {}", column.name)).collect();
        let values: String =
            columns.iter().map(|column| format!(", {}", self.exactly(&scope, Type::of(column)))).collect();
        let condition = self.condition(&scope);
        let returning = self.returning(&own(&table, table.name));
        format!(
            "insert into {} (id{names}) select {alias}.id + 2000{values} from {} {alias} where {condition}{returning}",
            table.name, source.name
        )
    }

    pub(super) fn source(&mut self) -> &'static str {
        let tables = ["customers", "orders", "payments", "addresses", "cards", "order_lines", "notes"];
        self.pick::<&str>(&tables)
    }

    pub(super) fn assignments(&mut self, table: &Relation, scope: &Scope) -> String {
        let mut list = Vec::new();
        let mut columns: Vec<Column> = table
            .columns
            .iter()
            .filter(|column| !matches!(column.name.as_str(), "id" | "customer_id"))
            .cloned()
            .collect();
        for _ in 0..self.below(3) + 1 {
            if columns.is_empty() {
                break;
            }
            let column = columns.remove(self.below(columns.len() as u32) as usize);
            let value =
                if self.chance(40) { self.exactly(scope, Type::of(&column)) } else { self.value(&column) };
            list.push((column.name, value));
        }
        if list.len() > 1 && self.chance(25) && list.iter().all(|(_, value)| value != "default") {
            self.uses("row assignment");
            let names: Vec<&str> = list.iter().map(|(name, _)| name.as_str()).collect();
            let values: Vec<&str> = list.iter().map(|(_, value)| value.as_str()).collect();
            let values = values.join(", ");
            let row = match self.below(3) {
                0 => format!("row({values})"),
                1 => format!("(select {values})"),
                _ => format!("({values})"),
            };
            return format!("({}) = {row}", names.join(", "));
        }
        let list: Vec<String> = list.into_iter().map(|(name, value)| format!("{name} = {value}")).collect();
        list.join(", ")
    }

    fn update(&mut self) -> String {
        self.uses("UPDATE");
        let table = self.target();
        let alias = if self.chance(50) { self.alias(&[]) } else { table.name.to_owned() };
        let named = if alias == table.name { alias.clone() } else { format!("{} as {alias}", table.name) };
        let mut scope = own(&table, &alias);
        let mut from = String::new();
        let mut joined = String::new();
        if self.chance(25) {
            self.uses("UPDATE FROM");
            let name = self.source();
            let other = self.relation_named(name);
            let other_alias = self.alias(&scope.sources);
            scope.sources.extend(own(&other, &other_alias).sources);
            from = format!(" from {} {other_alias}", other.name);
            // One row of the other table for each: else which one is taken would be chance.
            joined = format!("{other_alias}.id = {alias}.id and ");
        }
        let set = self.assignments(&table, &scope);
        let condition = self.condition(&scope);
        let returning = self.returning(&own(&table, &alias));
        format!("update {named} set {set}{from} where {joined}{condition}{returning}")
    }

    fn delete(&mut self) -> String {
        self.uses("DELETE");
        let table = self.target();
        let alias = if self.chance(50) { self.alias(&[]) } else { table.name.to_owned() };
        let named = if alias == table.name { alias.clone() } else { format!("{} {alias}", table.name) };
        let mut scope = own(&table, &alias);
        let mut using = String::new();
        if self.chance(30) {
            self.uses("DELETE USING");
            let name = self.source();
            let other = self.relation_named(name);
            let other_alias = self.alias(&scope.sources);
            scope.sources.extend(own(&other, &other_alias).sources);
            using = format!(" using {} {other_alias}", other.name);
        }
        let condition = self.condition(&scope);
        let mut returning = self.returning(&own(&table, &alias));
        if !using.is_empty() && returning.ends_with('*') {
            // Which of several rows beside it is shown is chance.
            returning = format!(" returning {alias}.*");
        }
        format!("delete from {named}{using} where {condition}{returning}")
    }

    /// A write in WITH, and a query over what it returned.
    pub(super) fn modifying_with(&mut self) -> String {
        self.uses("data-modifying WITH");
        self.statement.writes = true;
        let table = self.target();
        let scope = own(&table, table.name);
        let condition = self.condition(&scope);
        let write = match self.below(3) {
            0 => format!("delete from {} where {condition} returning *", table.name),
            1 => format!(
                "update {} set {} where {condition} returning *",
                table.name,
                self.assignments(&table, &scope)
            ),
            _ => {
                let values: Vec<String> = table.columns.iter().map(|column| self.value(column)).collect();
                format!("insert into {} values ({}) returning *", table.name, values.join(", "))
            }
        };
        let moved = own(&table, "w");
        let (item, _) = self.item(&moved);
        let condition = self.condition(&moved);
        format!("with w as ({write}) select w.id, {item} from w where {condition}")
    }

    /// What PostgreSQL refuses, and with which SQLSTATE, must stay the same.
    pub(super) fn mistake(&mut self) -> String {
        self.uses("mistake");
        self.statement.writes = true;
        let (query, _) = self.select(&Scope::default(), None);
        let table = self.target();
        let name = table.name;
        let column = self.pick(&table.columns).name.clone();
        match self.below(22) {
            0 => format!("select nothing from {name}"),
            1 => format!("select z.{column} from {name} a"),
            2 => "select id from customers a join orders b on a.id = b.customer_id".to_owned(),
            3 => format!("select {column} from nowhere"),
            4 => format!("{query} where"),
            5 => "insert into customers (id, email) values (1, 'other@x.org')".to_owned(),
            6 => "insert into customers (id, email) values (300, 'ana@x.org')".to_owned(),
            7 => "insert into orders (id, billing_email) values (300, null)".to_owned(),
            8 => "insert into orders (id, customer_id, billing_email) values (300, 77, 'x')".to_owned(),
            9 => "insert into customers (id, badge) values (300, '99999999999')".to_owned(),
            10 => "insert into customers (id, badge) values (300, 'seven')".to_owned(),
            11 => "insert into customers (id, joined) values (300, '2023-02-29')".to_owned(),
            12 => "insert into orders (id, billing_email, total) values (300, 'x', 99999999999)".to_owned(),
            13 => "insert into payments (id, token) values (5, 'zz')".to_owned(),
            14 => "insert into payments (id, payer) values (99999, 'zz')".to_owned(),
            15 => "insert into customers (id, score) values (300, -1)".to_owned(),
            16 => {
                "insert into addresses (id, city) values (300, 'a city with a name beyond twenty')".to_owned()
            }
            17 => format!("insert into {name} (id, {column}) values (300)"),
            18 => format!("insert into {name} (id, nothing) values (300, 1)"),
            19 => format!("select {column}, count(*) from {name} group by id + 1"),
            20 => "select id from customers where id = 1 / 0".to_owned(),
            _ => format!("update {name} set id = id, id = 2"),
        }
    }
}

pub(super) fn own(relation: &Relation, alias: &str) -> Scope {
    let source = Source { alias: alias.to_owned(), columns: relation.columns.clone(), keyed: relation.keyed };
    Scope { sources: vec![source], outer: Vec::new() }
}

/// Whether a kind's binary form is one that a client here can write.
pub fn binary(kind: Kind, text: &str) -> Option<Vec<u8>> {
    match kind {
        Kind::Int => text.parse::<i32>().ok().map(|number| number.to_be_bytes().to_vec()),
        Kind::Text => Some(text.as_bytes().to_vec()),
        Kind::Bool => Some(vec![u8::from(text == "true")]),
        Kind::Uuid => {
            let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b'-').collect();
            let pair = |pair: &[u8]| u8::from_str_radix(&String::from_utf8_lossy(pair), 16).ok();
            digits.chunks(2).map(pair).collect()
        }
        Kind::Date => None,
        Kind::Numeric | Kind::Json | Kind::Stamp => None,
    }
}

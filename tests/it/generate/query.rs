//! Queries: FROM and its joins, select lists, groups, windows, set operations, WITH.

use super::{Generator, Scope, Source, Type};
use crate::shop::{Column, Kind, Power, Relation};

impl Generator {
    pub(super) fn top_query(&mut self) -> String {
        match self.below(100) {
            0..12 => self.ordered(),
            12..20 => self.with(),
            20..24 => self.recursive(),
            24..28 => self.locking(),
            28..33 => self.window(),
            33..36 => self.star(),
            36..38 => self.values_list(),
            38..42 => self.modifying_with(),
            42..51 => self.grouped(&Scope::default(), None).0,
            51..54 => self.distinct_on(),
            _ => {
                let (query, columns) = self.any_query(&Scope::default(), None);
                let readable = columns
                    .iter()
                    .position(|column| !Type::of(column).sealed() && !matches!(column.kind, Kind::Json));
                match readable {
                    Some(at) if self.chance(12) => {
                        self.uses("ORDER BY a number");
                        format!("{query} order by {}", at + 1)
                    }
                    None if self.chance(4) => {
                        self.forbids("ORDER BY sealed");
                        format!("{query} order by 1")
                    }
                    _ => query,
                }
            }
        }
    }

    /// A query of any form, with these columns when they are asked for.
    pub(super) fn any_query(&mut self, around: &Scope, want: Option<&[Type]>) -> (String, Vec<Column>) {
        if self.depth < 3 && self.chance(14) {
            return self.set_operation(around, want);
        }
        if self.chance(10) {
            return self.grouped(around, want);
        }
        self.select(around, want)
    }

    /// `SELECT … FROM … WHERE …`.
    pub(super) fn select(&mut self, around: &Scope, want: Option<&[Type]>) -> (String, Vec<Column>) {
        let (from, scope) = self.from(around);
        let (items, mut columns) = self.list(&scope, want);
        let condition =
            if self.chance(70) { format!(" where {}", self.condition(&scope)) } else { String::new() };
        let mut distinct = "";
        if columns.iter().all(Generator::groupable) && self.chance(10) {
            self.uses("DISTINCT");
            distinct = "distinct ";
        }
        if self.depth > 0 {
            for (index, column) in columns.iter_mut().enumerate() {
                column.name = format!("k{index}");
            }
        }
        (format!("select {distinct}{items} from {from}{condition}"), columns)
    }

    pub(super) fn list(&mut self, scope: &Scope, want: Option<&[Type]>) -> (String, Vec<Column>) {
        let count = self.below(4) + 1;
        let items: Vec<(String, Type)> = match want {
            Some(types) => types.iter().map(|of| (self.exactly(scope, *of), *of)).collect(),
            None => (0..count).map(|_| self.item(scope)).collect(),
        };
        let columns = items.iter().map(|(_, of)| self.output(*of)).collect();
        let texts: Vec<String> = items
            .into_iter()
            .enumerate()
            .map(|(index, (text, _))| {
                if self.depth > 0 {
                    format!("{text} as k{index}")
                } else if self.chance(25) {
                    let alias = *self.pick(&["x", "email", "\"Mixed\"", "name"]);
                    self.uses("alias");
                    format!("{text} as {alias}")
                } else {
                    text
                }
            })
            .collect();
        (texts.join(", "), columns)
    }

    fn output(&self, of: Type) -> Column {
        Column { name: String::new(), kind: of.kind, power: of.power, domain: of.domain }
    }

    /// FROM with one to three items; the scope has them.
    pub(super) fn from(&mut self, around: &Scope) -> (String, Scope) {
        let mut scope = Scope { sources: Vec::new(), outer: around.outer.clone() };
        let mut from = self.factor(&mut scope, false);
        let mut more = if self.depth > 1 { 15 } else { 45 };
        while self.chance(more) {
            more /= 3;
            from = self.joined(from, &mut scope);
        }
        (from, scope)
    }

    fn joined(&mut self, left: String, scope: &mut Scope) -> String {
        match self.below(10) {
            0 => {
                self.uses("comma join");
                if self.chance(70) {
                    return format!("{left}, {}", self.factor(scope, true));
                }
                let first = self.factor(scope, true);
                format!("{left}, {}", self.using(first, scope))
            }
            1 => {
                self.uses("CROSS JOIN");
                if self.chance(70) {
                    return format!("{left} cross join {}", self.factor(scope, true));
                }
                let first = self.factor(scope, false);
                format!("{left} cross join ({})", self.using(first, scope))
            }
            2 if scope.sources.len() == 1 => self.using(left, scope),
            _ => {
                let kind = *self.pick(&["join", "join", "left join", "left join", "right join", "full join"]);
                self.uses(match kind {
                    "join" => "JOIN",
                    "left join" => "LEFT JOIN",
                    "right join" => "RIGHT JOIN",
                    _ => "FULL JOIN",
                });
                let before = scope.clone();
                let right = self.factor(scope, false);
                let own = scope.sources.last().cloned().into_iter().collect();
                let own = Scope { sources: own, outer: Vec::new() };
                let left_only = Scope { sources: before.sources, outer: Vec::new() };
                let condition = self.join_condition(&left_only, &own);
                let full = kind == "full join";
                let more = if !full && self.chance(15) {
                    format!(" and {}", self.condition(&own))
                } else {
                    String::new()
                };
                format!("{left} {kind} {right} on {condition}{more}")
            }
        }
    }

    /// An equality between the sides: of keys, or within a domain.
    fn join_condition(&mut self, left: &Scope, right: &Scope) -> String {
        for _ in 0..4 {
            let fits = |column: &Column| Generator::groupable(column) && column.kind != Kind::Bool;
            let Some((a, of)) = self.column(left, fits) else { break };
            if let Some((b, _)) = self.column(right, |column| Type::of(column) == of) {
                if of.sealed() {
                    self.uses("equality join over sealed");
                }
                // Both may be the same short name; then they must be told apart.
                let (a, b) = (qualified(&a, left), qualified(&b, right));
                return format!("{a} = {b}");
            }
        }
        "1 = 1".to_owned()
    }

    /// `USING` and `NATURAL` with the scope's last source; afterwards only what is not merged is referred to.
    fn using(&mut self, left: String, scope: &mut Scope) -> String {
        let right = self.factor(scope, false);
        let [.., one, other] = scope.sources.as_slice() else { return left };
        let names =
            |source: &Source| -> Vec<String> { source.columns.iter().map(|c| c.name.clone()).collect() };
        let ours = names(one);
        let common: Vec<String> = names(other).into_iter().filter(|n| ours.contains(n)).collect();
        if common.is_empty() {
            self.uses("CROSS JOIN");
            return format!("{left} cross join {right}");
        }
        let kind = *self.pick(&["", "left ", "right ", "full "]);
        if self.chance(30) {
            self.uses("NATURAL JOIN");
            // What is merged compares all: randomized ones among them are refused.
            let moved = |source: &Source| {
                source.columns.iter().any(|c| c.power == Power::Move && common.contains(&c.name))
            };
            if moved(one) || moved(other) {
                self.forbids("NATURAL over randomized");
            }
            return format!("{left} natural {kind}join {right}");
        }
        self.uses("JOIN USING");
        let name = self.pick(&common).clone();
        let of = |source: &Source| source.columns.iter().find(|c| c.name == name).map(Type::of);
        if of(one) != of(other) || of(one).is_some_and(|t| !t.comparable()) {
            self.forbids("USING over other kinds");
        }
        format!("{left} {kind}join {right} using ({name})")
    }

    /// One item of FROM, added to the scope. `beside`: it may be LATERAL.
    fn factor(&mut self, scope: &mut Scope, beside: bool) -> String {
        let alias = self.alias(&scope.sources);
        if self.depth < 3 {
            let around = if beside {
                scope.inside()
            } else {
                Scope { sources: Vec::new(), outer: scope.outer.clone() }
            };
            match self.below(100) {
                0..10 => {
                    self.uses("subquery in FROM");
                    return self.derived(
                        scope,
                        alias,
                        &Scope { sources: Vec::new(), outer: scope.outer.clone() },
                        "",
                    );
                }
                10..18 if beside => {
                    self.uses("LATERAL");
                    return self.derived(scope, alias, &around, "lateral ");
                }
                18..21 => return self.values_factor(scope, alias),
                21..23 => {
                    self.uses("function in FROM");
                    let column =
                        Column { name: "n".into(), kind: Kind::Int, power: Power::Untagged, domain: "id" };
                    scope.sources.push(Source { alias: alias.clone(), columns: vec![column], keyed: false });
                    return format!("generate_series(1, 3) as {alias}(n)");
                }
                _ => {}
            }
        }
        let relation = self.relation();
        self.table(scope, relation, alias)
    }

    fn table(&mut self, scope: &mut Scope, relation: Relation, alias: String) -> String {
        if !relation.table {
            self.uses("view");
        }
        let (name, own) = (relation.name, relation.keyed);
        let taken = scope.sources.iter().any(|source| source.alias == name);
        if !taken && self.chance(20) {
            self.uses("no alias");
            scope.sources.push(Source { alias: name.to_owned(), columns: relation.columns, keyed: own });
            return match self.below(6) {
                0 => format!("public.{name}"),
                1 => format!("\"{name}\""),
                2 => name.to_uppercase(),
                _ => name.to_owned(),
            };
        }
        let mut columns = relation.columns;
        let mut list = String::new();
        if self.chance(8) {
            self.uses("column aliases");
            for (column, name) in columns.iter_mut().zip(["id", "p", "q"]) {
                name.clone_into(&mut column.name);
            }
            list = format!("({})", ["id", "p", "q"][..columns.len().min(3)].join(", "));
        }
        scope.sources.push(Source { alias: alias.clone(), columns, keyed: own });
        let only = if relation.table && self.chance(4) {
            self.uses("ONLY");
            "only "
        } else {
            ""
        };
        format!("{only}{name} {}{alias}{list}", if self.chance(50) { "as " } else { "" })
    }

    fn derived(&mut self, scope: &mut Scope, alias: String, around: &Scope, lateral: &str) -> String {
        self.depth += 1;
        let (query, columns) = self.any_query(around, None);
        self.depth -= 1;
        scope.sources.push(Source { alias: alias.clone(), columns, keyed: false });
        format!("{lateral}({query}) as {alias}")
    }

    fn values_factor(&mut self, scope: &mut Scope, alias: String) -> String {
        self.uses("VALUES in FROM");
        let rows: Vec<String> =
            (0..self.below(3) + 1).map(|index| format!("({}, 'v{index}')", index + 1)).collect();
        let columns = [("id", Kind::Int, "id"), ("v", Kind::Text, "note")].map(|(name, kind, domain)| {
            Column { name: name.to_owned(), kind, power: Power::Untagged, domain }
        });
        scope.sources.push(Source { alias: alias.clone(), columns: columns.to_vec(), keyed: false });
        format!("(values {}) as {alias}(id, v)", rows.join(", "))
    }

    /// GROUP BY, its sets, HAVING and aggregates.
    pub(super) fn grouped(&mut self, around: &Scope, want: Option<&[Type]>) -> (String, Vec<Column>) {
        let (from, scope) = self.from(around);
        let mut keys: Vec<(String, Type)> = Vec::new();
        let count = self.below(3);
        for _ in 0..want.map_or(count as usize, <[Type]>::len) {
            let wanted = want.map(|types| types[keys.len()]);
            let fits = |column: &Column| {
                Generator::groupable(column) && wanted.is_none_or(|of| Type::of(column) == of)
            };
            match self.column(&Scope { sources: scope.sources.clone(), outer: Vec::new() }, fits) {
                Some(key) => keys.push(key),
                None if want.is_some() => return self.select(around, want),
                None => {}
            }
        }
        let mut items: Vec<(String, Type)> = keys.clone();
        if want.is_none() {
            for _ in 0..self.below(3) + 1 {
                items.push(self.aggregate(&scope));
            }
        }
        let columns = items
            .iter()
            .enumerate()
            .map(|(index, (_, of))| Column { name: format!("k{index}"), ..self.output(*of) })
            .collect();
        let named: Vec<String> = items
            .iter()
            .enumerate()
            .map(
                |(index, (text, _))| {
                    if self.depth > 0 { format!("{text} as k{index}") } else { text.clone() }
                },
            )
            .collect();
        let condition =
            if self.chance(40) { format!(" where {}", self.condition(&scope)) } else { String::new() };
        let group = self.group_by(&keys);
        let having = self.having(&scope, &keys, want.is_some());
        (format!("select {} from {from}{condition}{group}{having}", named.join(", ")), columns)
    }

    fn group_by(&mut self, keys: &[(String, Type)]) -> String {
        if keys.is_empty() {
            return String::new();
        }
        self.uses("GROUP BY");
        if keys.iter().any(|(_, of)| of.sealed()) {
            self.uses("GROUP BY sealed");
        }
        let names: Vec<&str> = keys.iter().map(|(key, _)| key.as_str()).collect();
        match self.below(12) {
            0 => {
                self.uses("GROUPING SETS");
                format!(" group by grouping sets (({}), ({}), ())", names.join(", "), names[0])
            }
            1 => {
                self.uses("ROLLUP");
                format!(" group by rollup ({})", names.join(", "))
            }
            2 => {
                self.uses("CUBE");
                format!(" group by cube ({})", names.join(", "))
            }
            3 | 4 => {
                self.uses("GROUP BY a number");
                let numbers: Vec<String> = (1..=keys.len()).map(|number| number.to_string()).collect();
                format!(" group by {}", numbers.join(", "))
            }
            _ => format!(" group by {}", names.join(", ")),
        }
    }

    fn having(&mut self, scope: &Scope, keys: &[(String, Type)], grouped_only: bool) -> String {
        if grouped_only && keys.is_empty() || !self.chance(25) {
            return String::new();
        }
        self.uses("HAVING");
        let (aggregate, of) = self.aggregate(scope);
        match keys.first() {
            Some((key, of)) if self.chance(40) => format!(" having {key} = {}", self.constant(*of)),
            Some((key, _)) if self.chance(30) => format!(" having {key} is not null"),
            _ if of.kind == Kind::Int => format!(" having {aggregate} > {}", self.below(3)),
            _ => format!(" having count(*) >= {}", self.below(3)),
        }
    }

    fn aggregate(&mut self, scope: &Scope) -> (String, Type) {
        self.uses("aggregate");
        let scope = &Scope { sources: scope.sources.clone(), outer: Vec::new() };
        let int = Type::plain(Kind::Int);
        let readable = |column: &Column| {
            !Type::of(column).sealed() && matches!(column.kind, Kind::Int | Kind::Text | Kind::Stamp)
        };
        match self.below(12) {
            0..3 => ("count(*)".to_owned(), int),
            3 | 4 => {
                let (column, _) = self.column(scope, |_| true).expect("a source has columns");
                (format!("count({column})"), int)
            }
            5 | 6 => match self.column(scope, Generator::groupable) {
                Some((column, _)) => {
                    self.uses("count(DISTINCT)");
                    (format!("count(distinct {column})"), int)
                }
                None => ("count(*)".to_owned(), int),
            },
            7 | 8 => match self.column(scope, readable) {
                Some((column, of)) => {
                    let name = if self.chance(50) { "min" } else { "max" };
                    (format!("{name}({column})"), of)
                }
                None => ("count(*)".to_owned(), int),
            },
            9 => {
                self.uses("FILTER");
                let condition = self.over_readable(scope);
                (format!("count(*) filter (where {condition})"), int)
            }
            10 => match (scope.sources.as_slice(), self.column(scope, |_| true)) {
                ([only], Some((column, _))) if only.keyed && self.depth == 0 => {
                    self.uses("array_agg");
                    let name = *self.pick(&["array_agg", "json_agg", "array_agg"]);
                    (format!("{name}({column} order by {}.id)", only.alias), Type::plain(Kind::Json))
                }
                _ => ("count(*)".to_owned(), int),
            },
            _ => match self.column(scope, |column| column.kind == Kind::Int && !Type::of(column).sealed()) {
                Some((column, _)) => (format!("sum({column})"), int),
                None => ("count(*)".to_owned(), int),
            },
        }
    }

    fn set_operation(&mut self, around: &Scope, want: Option<&[Type]>) -> (String, Vec<Column>) {
        let around = Scope { sources: Vec::new(), outer: around.outer.clone() };
        self.depth += 1;
        let types: Vec<Type> = match want {
            Some(types) => types.to_vec(),
            None => {
                let relation = self.relation();
                let source = Source { alias: "a".to_owned(), columns: relation.columns, keyed: false };
                let scope = Scope { sources: vec![source], outer: Vec::new() };
                (0..self.below(2) + 1)
                    .map(|_| self.column(&scope, |_| true).expect("a relation has columns").1)
                    .collect()
            }
        };
        let comparable = types.iter().all(|of| of.comparable());
        let operator = if comparable {
            *self.pick(&["union", "union all", "intersect", "except", "except all", "union distinct"])
        } else {
            "union all"
        };
        self.uses(match operator {
            "union" | "union distinct" => "UNION",
            "union all" => "UNION ALL",
            "intersect" => "INTERSECT",
            _ => "EXCEPT",
        });
        let (left, mut columns) = self.select(&around, Some(&types));
        let (right, _) = self.select(&around, Some(&types));
        self.depth -= 1;
        let third = if self.chance(15) {
            self.depth += 1;
            let (third, _) = self.select(&around, Some(&types));
            self.depth -= 1;
            format!(" union all ({third})")
        } else {
            String::new()
        };
        for (index, column) in columns.iter_mut().enumerate() {
            column.name = format!("k{index}");
        }
        if self.chance(30) {
            return (format!("({left}) {operator} ({right}){third}"), columns);
        }
        (format!("{left} {operator} {right}{third}"), columns)
    }

    /// ORDER BY a key of one table, and LIMIT.
    pub(super) fn ordered(&mut self) -> String {
        self.uses("ORDER BY");
        self.statement.ordered = true;
        let (from, scope, key) = self.keyed();
        let (items, _) = self.list(&scope, None);
        let condition =
            if self.chance(50) { format!(" where {}", self.condition(&scope)) } else { String::new() };
        let direction = *self.pick(&["", " desc", " asc nulls first"]);
        let limit = match self.below(4) {
            0 => format!(" limit {}", self.below(5)),
            1 => format!(" limit {} offset {}", self.below(5), self.below(3)),
            2 => format!(" offset {} rows fetch first {} rows only", self.below(3), self.below(5)),
            _ => String::new(),
        };
        if !limit.is_empty() {
            self.uses("LIMIT");
        }
        format!("select {items} from {from}{condition} order by {key}{direction}{limit}")
    }

    /// One keyed relation, and its key.
    pub(super) fn keyed(&mut self) -> (String, Scope, String) {
        loop {
            let relation = self.relation();
            if relation.keyed {
                let mut scope = Scope::default();
                let alias = self.alias(&[]);
                let from = self.table(&mut scope, relation, alias);
                let key = format!("{}.id", scope.sources[0].alias);
                return (from, scope, key);
            }
        }
    }

    fn window(&mut self) -> String {
        self.uses("window");
        let (from, scope, key) = self.keyed();
        let (column, of) = self.column(&scope, |_| true).expect("a relation has columns");
        let (part, part_of) = self.column(&scope, Generator::groupable).expect("a key at least");
        if part_of.sealed() {
            self.uses("PARTITION BY sealed");
        }
        let over = format!("over (partition by {part} order by {key})");
        let item = match self.below(7) {
            0 => format!("row_number() {over}"),
            1 => format!("lag({column}) {over}"),
            2 => format!("lead({column}, 1, {}) over (order by {key})", self.constant(of)),
            3 => format!("first_value({column}) {over}"),
            4 => format!("count({column}) {over}"),
            5 => format!("count(*) over w, last_value({column}) over w"),
            _ => format!("sum({key}) over (order by {key} rows between 1 preceding and current row)"),
        };
        let window = if item.contains("over w") {
            format!(" window w as (partition by {part} order by {key})")
        } else {
            String::new()
        };
        format!("select {key}, {part}, {item} from {from}{window}")
    }

    fn star(&mut self) -> String {
        self.uses("*");
        let (from, scope) = self.from(&Scope::default());
        let alias = scope.sources[0].alias.clone();
        let condition = self.condition(&scope);
        let items = match self.below(3) {
            0 => format!("{alias}.*"),
            1 => format!("1 as one, {alias}.*"),
            _ => "*".to_owned(),
        };
        format!("select {items} from {from} where {condition}")
    }

    fn values_list(&mut self) -> String {
        self.uses("VALUES");
        format!("values (1, 'x'), ({}, 'y')", self.constant(Type::plain(Kind::Int)))
    }

    fn locking(&mut self) -> String {
        let (from, scope, _) = self.keyed();
        self.uses("FOR UPDATE");
        let (items, _) = self.list(&scope, None);
        let condition = self.condition(&scope);
        let lock =
            *self.pick(&["update", "share", "no key update", "key share skip locked", "update nowait"]);
        let mut of = if self.chance(30) { format!(" of {}", scope.sources[0].alias) } else { String::new() };
        if let (false, Some(other)) = (of.is_empty(), scope.sources.get(1).filter(|_| self.chance(50))) {
            self.uses("FOR UPDATE OF several");
            of = format!("{of}, {}", other.alias);
        }
        let (lock, wait) =
            lock.split_once(" skip").or(lock.split_once(" now")).map_or((lock, ""), |(lock, rest)| {
                (lock, if rest == "wait" { " nowait" } else { " skip locked" })
            });
        format!("select {items} from {from} where {condition} for {lock}{of}{wait}")
    }

    fn with(&mut self) -> String {
        self.uses("WITH");
        self.depth += 1;
        let (query, columns) = self.any_query(&Scope::default(), None);
        self.depth -= 1;
        let materialized = *self.pick(&["", "", "materialized ", "not materialized "]);
        // A name that a table has hides the table.
        let name = *self.pick(&["w", "recent", "orders"]);
        let mut columns = columns;
        let list = if self.chance(40) {
            for (index, column) in columns.iter_mut().enumerate() {
                column.name = format!("w{index}");
            }
            let names: Vec<String> = columns.iter().map(|column| column.name.clone()).collect();
            format!("({})", names.join(", "))
        } else {
            String::new()
        };
        let source = Source { alias: name.to_owned(), columns, keyed: false };
        let mut scope = Scope { sources: vec![source], outer: Vec::new() };
        let from = if name != "orders" && self.chance(40) {
            self.joined(name.to_owned(), &mut scope)
        } else {
            name.to_owned()
        };
        let (items, _) = self.list(&scope, None);
        let condition =
            if self.chance(50) { format!(" where {}", self.condition(&scope)) } else { String::new() };
        format!("with {name}{list} as {materialized}({query}) select {items} from {from}{condition}")
    }

    fn recursive(&mut self) -> String {
        self.uses("WITH RECURSIVE");
        let relation = loop {
            let relation = self.relation();
            if relation.keyed {
                break relation;
            }
        };
        let column = self.pick(&relation.columns).clone();
        let (name, column_name) = (relation.name, &column.name);
        let all = if Generator::groupable(&column) && self.chance(40) { "" } else { " all" };
        let mut scope = Scope::default();
        scope.sources.push(Source {
            alias: "r".to_owned(),
            columns: vec![
                Column { name: "n".into(), ..self.output(Type::plain(Kind::Int)) },
                Column { name: "v".into(), ..column.clone() },
            ],
            keyed: false,
        });
        let condition = self.condition(&scope);
        format!(
            "with recursive r(n, v) as (select id, {column_name} from {name} where id = 1 union{all} \
             select z.id, z.{column_name} from {name} z join r on z.id = r.n + 1 where z.id < 9) \
             select n, v from r where {condition}"
        )
    }
}

/// `alias.name` of a reference that may be short.
fn qualified(reference: &str, scope: &Scope) -> String {
    if reference.contains('.') {
        return reference.to_owned();
    }
    let has = |source: &&Source| source.columns.iter().any(|column| column.name == reference);
    scope
        .sources
        .iter()
        .find(has)
        .map_or(reference.to_owned(), |source| format!("{}.{reference}", source.alias))
}

//! A shop's schema, its tags, its policy and its rows: what the generated statements of `differential.rs` and
//! `two_worlds.rs` run over.
//!
//! Sealed (deterministic and randomized) and clear tagged columns of several types, a narrower type of a domain, keys,
//! a partitioned table, a child, views over views, and an untagged table whose columns have tagged names.

/// What the values of a column are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Int,
    Text,
    Date,
    Numeric,
    Uuid,
    Json,
    Bool,
    Stamp,
}

impl Kind {
    /// PostgreSQL's OID of the type.
    pub fn oid(self) -> u32 {
        match self {
            Kind::Int => 23,
            Kind::Text => 25,
            Kind::Date => 1082,
            Kind::Numeric => 1700,
            Kind::Uuid => 2950,
            Kind::Json => 3802,
            Kind::Bool => 16,
            Kind::Stamp => 1184,
        }
    }

    pub fn sql(self) -> &'static str {
        match self {
            Kind::Int => "integer",
            Kind::Text => "text",
            Kind::Date => "date",
            Kind::Numeric => "numeric(12,2)",
            Kind::Uuid => "uuid",
            Kind::Json => "jsonb",
            Kind::Bool => "boolean",
            Kind::Stamp => "timestamptz",
        }
    }
}

/// What may be done with a column's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Power {
    Untagged,
    /// Tagged, stored in clear.
    Clear,
    /// Deterministic.
    Compare,
    /// Randomized.
    Move,
}

#[derive(Clone, Debug)]
pub struct Column {
    pub name: String,
    pub kind: Kind,
    pub power: Power,
    /// Of tagged columns; else what the values look like.
    pub domain: &'static str,
}

/// A table or view to select from.
#[derive(Clone, Debug)]
pub struct Relation {
    pub name: &'static str,
    pub columns: Vec<Column>,
    /// Rows can be written and locked.
    pub table: bool,
    /// `id` is unique.
    pub keyed: bool,
}

/// The domains: name, label, type, seal.
const DOMAINS: [(&str, &str, Kind, &str); 12] = [
    ("email", "pii.email", Kind::Text, "deterministic"),
    ("name", "pii.name", Kind::Text, "randomized"),
    ("badge", "work.badge", Kind::Int, "deterministic"),
    ("joined", "work.joined", Kind::Date, "deterministic"),
    ("money", "pay.money", Kind::Numeric, "deterministic"),
    ("token", "pay.token", Kind::Uuid, "deterministic"),
    ("doc", "pay.doc", Kind::Json, "randomized"),
    ("born", "pii.born", Kind::Date, "randomized"),
    ("phone", "pii.phone", Kind::Text, "none"),
    ("score", "work.score", Kind::Int, "none"),
    ("city", "pii.city", Kind::Text, "none"),
    ("seen", "work.seen", Kind::Stamp, "none"),
];

/// The domains' part of a policy.
pub fn domains() -> String {
    let domain = |(name, label, kind, seal): &(&str, &str, Kind, &str)| {
        let sql = if *name == "city" { "varchar(20)" } else { kind.sql() };
        format!("[domain.{name}]\nlabel = \"{label}\"\ntype = \"{sql}\"\nseal = \"{seal}\"\n")
    };
    DOMAINS.iter().map(domain).collect()
}

pub const TAGS: &str = r#"
[columns]
"public.customers.email" = "email"
"public.customers.name" = "name"
"public.customers.badge" = "badge"
"public.customers.joined" = "joined"
"public.customers.born" = "born"
"public.customers.phone" = "phone"
"public.customers.score" = "score"
"public.orders.billing_email" = { domain = "email", type = "varchar(320)" }
"public.orders.total" = "money"
"public.orders.placed" = "joined"
"public.orders.seen" = "seen"
"public.payments.payer" = "email"
"public.payments.amount" = "money"
"public.payments.token" = "token"
"public.payments.doc" = "doc"
"public.addresses.city" = "city"
"public.addresses.badge" = "badge"
"public.addresses.line" = "name"
"#;

/// One statement each, as the application creates them.
pub const SCHEMA: &[&str] = &[
    "create table customers (id int primary key, email text unique, name text, badge int, joined date, born date,
     phone text, score int check (score >= 0), note text, active bool not null default true)",
    "create table orders (id int primary key, customer_id int references customers, billing_email varchar(320) not null,
     total numeric(12,2), placed date, seen timestamptz, status text default 'new')",
    "create table payments (id int primary key, order_id int, payer text, amount numeric(12,2), token uuid, doc jsonb,
     kind text) partition by range (id)",
    "create table payments_low partition of payments for values from (0) to (10)",
    "create table payments_high partition of payments for values from (10) to (10000)",
    "create table addresses (id int primary key, customer_id int, city varchar(20), badge int, line text)",
    "create table old_addresses () inherits (addresses)",
    "create table notes (id int primary key, email text, badge int, name text, note text)",
    "create view cards as select id, email, phone, score, note from customers where active",
    "create view vip as select * from cards where id < 8",
    "create view order_lines as select o.id, o.customer_id, o.billing_email, o.total, c.email, c.name, c.score
     from orders o join customers c on c.id = o.customer_id",
    "create view contacts as select id, email from customers union all select id, billing_email from orders",
    "create view spread as select email, count(*) as n from customers group by email",
];

/// The rows, one statement a table; run again after [`EMPTY`].
pub const ROWS: &[&str] = &[
    "insert into customers values
     (1, 'ana@x.org', 'Ana', 7, '2020-02-29', '1990-01-01', '+49 30 1', 10, 'first', true),
     (2, 'bob@x.org', 'Bob', 7, '2021-06-01', null, '+49 30 22', 20, null, true),
     (3, 'o''neil@x.org', '', -5, null, '1985-12-31', null, 30, 'x', false),
     (4, null, null, null, '2020-02-29', '2001-07-15', '+1 555', null, 'first', true),
     (5, 'ÄNA@x.org', 'Ana', 0, '1999-12-31', '1990-01-01', '', 10, '', true),
     (6, '', 'Zoë', 42, '2024-01-01', null, '+49 30 1', 0, 'zz', false),
     (7, 'eve@x.org', 'Eve', 2147483647, '2024-01-01', '1970-01-01', '55', 99, 'ana@x.org', true),
     (8, 'null', 'true', 1, 'infinity', '1990-01-01', 'null', 5, 'bob@x.org', true)",
    "insert into orders values
     (1, 1, 'ana@x.org', 10.50, '2020-02-29', '2024-01-01 10:00+00', 'new'),
     (2, 1, 'bob@x.org', 0.00, '2021-06-01', null, 'paid'),
     (3, 2, 'bob@x.org', -1.10, null, '2024-02-01 10:00+00', 'paid'),
     (4, 3, '', null, '2024-01-01', '2024-01-01 10:00+00', null),
     (5, null, 'nobody@x.org', 9999999999.99, '2020-02-29', '2023-01-01 10:00+00', 'new'),
     (6, 7, 'eve@x.org', 10.50, 'infinity', null, 'void'),
     (7, 7, 'eve@x.org', 99.90, '1999-12-31', '2024-01-01 10:00+00', 'new')",
    "insert into payments values
     (1, 1, 'ana@x.org', 10.50, 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '{\"a\": 1, \"b\": [1, null]}', 'card'),
     (2, 1, 'bob@x.org', 0, 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a12', '{}', 'cash'),
     (3, 2, null, -1.10, null, null, 'card'),
     (11, 3, 'eve@x.org', 99.90, 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '\"x\"', 'card'),
     (12, 9, 'o''neil@x.org', null, 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a13', '[1, 2]', null),
     (13, 5, 'ana@x.org', 10.50, null, 'null', 'cash')",
    "insert into addresses values (1, 1, 'Berlin', 7, 'Main St 1'), (2, 2, 'Bern', -5, ''), (3, null, null, 42, null)",
    "insert into old_addresses values (11, 1, 'Basel', 7, 'Old St'), (12, 3, 'Berlin', null, 'Zoë')",
    "insert into notes values (1, 'ana@x.org', 7, 'Ana', 'first'), (2, 'else@x.org', 8, null, null),
     (3, null, 0, 'Bob', 'x'), (4, '', 42, '', 'ana@x.org')",
];

pub const EMPTY: &str = "truncate customers, orders, payments, addresses, old_addresses, notes";

fn column(name: &str, kind: Kind, power: Power, domain: &'static str) -> Column {
    Column { name: name.to_owned(), kind, power, domain }
}

/// A column by a word: its domain's name is its own unless told otherwise.
fn columns(words: &str) -> Vec<Column> {
    words
        .split_whitespace()
        .map(|word| {
            let (name, of) = word.split_once(':').unwrap_or((word, word));
            let tagged = DOMAINS.iter().find(|(domain, ..)| *domain == of);
            match (tagged, of) {
                (Some((domain, _, kind, "deterministic")), _) => column(name, *kind, Power::Compare, domain),
                (Some((domain, _, kind, "randomized")), _) => column(name, *kind, Power::Move, domain),
                (Some((domain, _, kind, _)), _) => column(name, *kind, Power::Clear, domain),
                (None, "int") => column(name, Kind::Int, Power::Untagged, "id"),
                (None, "bool") => column(name, Kind::Bool, Power::Untagged, "bool"),
                (None, _) => column(name, Kind::Text, Power::Untagged, "note"),
            }
        })
        .collect()
}

/// Everything that can stand in FROM.
pub fn relations() -> Vec<Relation> {
    let relation = |name, table, keyed, words| Relation { name, columns: columns(words), table, keyed };
    let payments = "id:int order_id:int payer:email amount:money token doc kind:text";
    let addresses = "id:int customer_id:int city badge line:name";
    vec![
        relation(
            "customers",
            true,
            true,
            "id:int email name badge joined born phone score note:text active:bool",
        ),
        relation(
            "orders",
            true,
            true,
            "id:int customer_id:int billing_email:email total:money placed:joined seen status:text",
        ),
        relation("payments", true, true, payments),
        relation("payments_low", true, true, payments),
        relation("payments_high", true, true, payments),
        relation("addresses", true, true, addresses),
        relation("old_addresses", true, true, addresses),
        relation("notes", true, true, "id:int email:text badge:int name:text note:text"),
        relation("cards", false, true, "id:int email phone score note:text"),
        relation("vip", false, true, "id:int email phone score note:text"),
        relation(
            "order_lines",
            false,
            true,
            "id:int customer_id:int billing_email:email total:money email name score",
        ),
        relation("contacts", false, false, "id:int email"),
        relation("spread", false, false, "email n:int"),
    ]
}

/// Values of a domain (or of what an untagged column holds), as text; the last two occur in no row.
pub fn pool(domain: &str, kind: Kind) -> &'static [&'static str] {
    match (domain, kind) {
        ("email", _) => {
            &["ana@x.org", "bob@x.org", "o'neil@x.org", "", "eve@x.org", "null", "no@x.org", "ana@x.org "]
        }
        ("name", _) => &["Ana", "", "Zoë", "Eve", "true", "new name"],
        ("phone", _) => &["+49 30 1", "", "55", "null", "+0", "5"],
        ("city", _) => &["Berlin", "Bern", "Basel", "Rome", "Paris"],
        ("badge", _) => &["7", "-5", "0", "42", "2147483647", "8", "-8"],
        ("score", _) => &["10", "20", "0", "99", "11", "3"],
        (_, Kind::Int) => &["1", "2", "3", "5", "7", "11", "4711", "-1"],
        (_, Kind::Date) => &["2020-02-29", "2024-01-01", "1999-12-31", "infinity", "2000-01-01", "1990-1-1"],
        (_, Kind::Numeric) => &["10.50", "0", "-1.1", "99.90", "10.5", "9999999999.99", "7.77", "1"],
        (_, Kind::Uuid) => &[
            "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
            "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A12",
            "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380aff",
        ],
        (_, Kind::Json) => &["{\"a\": 1}", "{}", "[1, 2]", "null"],
        (_, Kind::Bool) => &["true", "false"],
        (_, Kind::Stamp) => &["2024-01-01 10:00:00+00", "2023-01-01 10:00+00", "2024-02-01", "2030-01-01"],
        (_, Kind::Text) => &["first", "x", "", "ana@x.org", "paid", "new", "card", "nothing", "zz"],
    }
}

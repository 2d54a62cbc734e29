//! `pgveil reseal` over what PostgreSQL 14 does not have: each newer server's own inventions survive a conversion by either way, or are
//! named as what stands in its way.

use crate::postgres;
use crate::proxy::{self, Proxy};
use crate::reseal::{TAGS, must, one, reseal};
use crate::reseal_online::schema;

/// (from which server, SQL).
const TABLES: [(u32, &str); 5] = [
    (
        14,
        "create table regions (code text primary key, span daterange); insert into regions values ('n', '[2020-01-01,2030-01-01)'); \
         create table customers (id int generated always as identity primary key, email varchar(100) collate \"C\" not null, card text, \
           note text, region text references regions, twin text, born int4range, spell daterange); \
         grant all on customers to shop; create table orders (id int primary key, email varchar(100) collate \"C\"); grant all on orders to shop; \
         insert into customers (email, card, note, born, spell) select 'ann' || n || '@example.com', case when n % 3 > 0 then '4111 ' || n end, 'N' || n, \
           int4range(n, n + 1), daterange('2021-01-01', '2022-01-01') from generate_series(1, 500) n",
    ),
    (
        15,
        "alter table customers add constraint twins unique nulls not distinct (twin, id), \
           add constraint mails unique nulls not distinct (email); \
         create unique index cards on customers (twin, email) nulls not distinct; \
         create view seen with (security_invoker = true) as select id, email from customers; grant select on seen to shop; \
         create table visits (id int, customer int, constraint who foreign key (customer) references customers on delete set null (customer)); \
         create publication others for table customers (id, note) where (id > 7)",
    ),
    (17, "grant maintain on customers to intern"),
    (
        18,
        "alter table customers alter column email drop not null; \
         alter table customers add column low text generated always as (lower(note)) virtual, \
           add constraint mailed not null email, add constraint noted not null note no inherit, \
           add constraint later not null card not valid, \
           add constraint loose check (id < 0) not enforced, \
           add constraint dreamt foreign key (twin) references regions not enforced, \
           add constraint spelt unique (born, spell without overlaps); \
         comment on constraint mailed on customers is 'to be written to'; \
         create table stays (born int4range, spell daterange, constraint stay foreign key (born, period spell) \
           references customers (born, period spell)); \
         insert into stays values (int4range(3, 4), daterange('2021-02-01', '2021-03-01')); \
         create table wishes (customer int constraint wish references customers not enforced)",
    ),
    (
        18,
        "create publication computed for table customers (id, low_stored) with (publish_generated_columns = stored)",
    ),
];

fn tables(proxy: &Proxy) {
    for (since, sql) in TABLES {
        if since <= postgres::major() {
            let stored =
                "alter table customers add column low_stored text generated always as (lower(note)) stored";
            if sql.contains("low_stored") {
                postgres::execute(proxy.direct(), stored);
            }
            postgres::execute(proxy.direct(), sql);
        }
    }
}

/// The definitions differ in the types alone, and come back.
#[test]
fn what_newer_servers_have_is_kept() {
    for way in [&["--max-lock", "120"][..], &["--online"]] {
        let proxy = Proxy::start(proxy::POLICY, TAGS);
        tables(&proxy);
        let shop = proxy.url("shop");
        let rows = "select * from customers order by id";
        let before = (schema(&proxy), postgres::query(&shop, rows));
        let with = |all: &[&str]| must(&proxy, &[all, way].concat());
        with(&["start", "public.customers.email", "public.customers.card"]);
        let lacks = |these: &[String], those: &[String]| -> Vec<String> {
            these.iter().filter(|line| !those.contains(line)).cloned().collect()
        };
        let sealed = schema(&proxy);
        let (gone, came) = (lacks(&before.0, &sealed), lacks(&sealed, &before.0));
        let types =
            |all: &[String], email, card| all.len() == 2 && all[0].contains(email) && all[1].contains(card);
        assert!(types(&gone, "email character varying", "card text"), "{way:?} {gone:#?} {came:#?}");
        assert!(types(&came, "email pgveil.email_1", "card pgveil.card"), "{way:?} {gone:#?} {came:#?}");
        assert_eq!(sealed.len(), before.0.len());
        assert_eq!(postgres::query(&shop, rows), before.1);
        with(&["undo", "public.customers.email"]);
        let now = schema(&proxy);
        assert_eq!(now, before.0, "{way:?}");
        assert_eq!(postgres::query(&shop, rows), before.1);
    }
}

/// Partitions with what they inherit, rewritten where they stand.
#[test]
fn what_newer_servers_have_is_kept_in_partitions() {
    let proxy = Proxy::start(proxy::POLICY, proxy::TAGS);
    let identity = if postgres::major() >= 17 { "generated always as identity" } else { "" };
    let mut tables = format!(
        "create table customers (id int {identity}, email text not null, card text, note text, joined date, \
           primary key (id)) partition by range (id); \
         create table low partition of customers for values from (0) to (300); create table high partition of customers default; \
         grant all on customers to shop; "
    );
    let id = if identity.is_empty() { "n" } else { "0" };
    tables.push_str(&format!(
        "insert into customers (id, email, note) overriding user value select {id}, 'ann' || n, 'x' from generate_series(1, 500) n; "
    ));
    if postgres::major() >= 18 {
        tables.push_str(
            "alter table customers alter email drop not null, add constraint mailed not null email, \
               add constraint carded not null card not valid, add constraint loose check (id < 0) not enforced, \
               add column loud text generated always as (upper(note)) virtual; \
             alter table low add constraint noted not null note no inherit; ",
        );
    }
    postgres::execute(proxy.direct(), &tables);
    let shop = proxy.url("shop");
    let rows = "select * from customers order by id";
    let before = (schema(&proxy), postgres::query(&shop, rows));
    must(&proxy, &["start", "public.customers.email", "public.customers.card"]);
    assert_eq!(one(proxy.direct(), "select count(distinct pg_typeof(email)) from customers"), "1");
    assert_eq!(postgres::query(&shop, rows), before.1);
    let insert = "insert into customers (email, card) values ('new', '4111') returning id";
    if !identity.is_empty() {
        assert_eq!(one(&shop, insert), "501");
        postgres::execute(&shop, "delete from customers where id = 501");
    }
    must(&proxy, &["undo", "public.customers.email"]);
    assert_eq!(schema(&proxy), before.0);
    assert_eq!(postgres::query(&shop, rows), before.1);
}

/// What computes with the column, or compares it by more than equality, is named with a remedy, also where it is new.
#[test]
fn what_newer_servers_have_is_named() {
    let proxy = Proxy::start(proxy::POLICY, proxy::TAGS);
    let mut tables =
        "create table customers (id int primary key, email text, card text, joined date, spell daterange); "
            .to_owned();
    let mut expected = Vec::new();
    if postgres::major() >= 15 {
        tables.push_str(
            "create publication chosen for table customers (id, email) where (email > 'b'); \
             alter table customers add constraint cards unique nulls not distinct (card); ",
        );
        expected.extend(["row filter of publication chosen", "index cards of public.customers enforces"]);
    }
    if postgres::major() >= 18 {
        tables.push_str(
            "alter table customers add column low text generated always as (lower(email)) virtual, \
               add constraint loose check (email like '%@%') not enforced; \
             alter table customers add constraint wish foreign key (card) references customers (card) not enforced; ",
        );
        expected.extend(["generated column low", "constraint loose of public.customers", "foreign key wish"]);
    }
    postgres::execute(proxy.direct(), &tables);
    for way in [&["--max-lock", "120"][..], &["--online"]] {
        let all = [&["plan", "public.customers.email", "public.customers.card", "--json"], way].concat();
        let (plan, error, code) = reseal(&proxy, &all);
        let plan: serde_json::Value = serde_json::from_str(&plan).unwrap_or_else(|_| panic!("{plan}{error}"));
        let obstacles = plan["obstacles"].as_array().unwrap();
        assert_eq!(code, i32::from(!expected.is_empty()), "{plan:#}");
        let text: Vec<_> = obstacles.iter().map(|one| one["what"].as_str().unwrap()).collect();
        for expected in &expected {
            assert!(text.iter().any(|what| what.contains(expected)), "{expected} {text:#?}");
        }
        assert!(obstacles.iter().all(|one| !one["remedy"].as_str().unwrap().is_empty()));
    }
}

/// A key that holds for a time tells rows apart as any other.
#[test]
fn rows_with_a_key_for_a_time_are_converted() {
    if postgres::major() < 18 {
        return;
    }
    let proxy = Proxy::start(proxy::POLICY, proxy::TAGS);
    postgres::execute(
        proxy.direct(),
        "create table customers (born int4range, spell daterange, email text, card text, joined date, \
           primary key (born, spell without overlaps)); grant all on customers to shop; \
         insert into customers select int4range(n / 2, n / 2 + 1), \
           case when n % 2 = 0 then daterange(null, '2020-01-01') else daterange('2020-01-01', null) end, 'ann' || n \
           from generate_series(1, 500) n",
    );
    let shop = proxy.url("shop");
    let before = schema(&proxy);
    for way in [&["--max-lock", "120"][..], &["--online"]] {
        let with = |all: &[&str]| must(&proxy, &[all, way].concat());
        with(&["start", "public.customers.email", "--prepare"]);
        postgres::execute(proxy.direct(), "update customers set email = 'bob' where upper_inf(spell)");
        postgres::execute(proxy.direct(), "delete from customers where born @> 7");
        must(&proxy, &["start"]);
        let counts = "select count(*), count(distinct email), count(nullif(email, 'bob')) from customers";
        let expected = [[Some("498".to_owned()), Some("250".to_owned()), Some("249".to_owned())]];
        assert_eq!(postgres::query(&shop, counts), expected);
        let taken = "insert into customers values ('[1,2)', '[2000-01-01,2001-01-01)')";
        assert!(postgres::try_query(&shop, taken).unwrap_err().starts_with("23P01"));
        with(&["undo", "public.customers.email"]);
        assert_eq!(schema(&proxy), before);
    }
}

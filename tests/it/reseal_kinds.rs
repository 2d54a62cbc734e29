//! `pgveil reseal` of columns of every kind: types, keys, partitions, recipes, key versions.

use crate::postgres;
use crate::proxy::{self, Proxy};
use crate::reseal::{must, one, reseal};
use std::fmt::Write as _;
use std::fs;

/// (column, logical type, a value of row n).
const TYPES: [(&str, &str, &str); 15] = [
    ("t_text", "text", "'é' || n || repeat('x', n % 50)"),
    ("t_varchar", "varchar(20)", "'v' || n"),
    ("t_smallint", "smallint", "n - 150"),
    ("t_integer", "integer", "n * -7"),
    ("t_bigint", "bigint", "n * 10000000000"),
    ("t_numeric", "numeric(12,2)", "n / 7.0"),
    ("t_double", "double precision", "n / 3.0"),
    ("t_boolean", "boolean", "n % 2 = 0"),
    ("t_date", "date", "date '1999-12-31' + n"),
    ("t_timestamp", "timestamp", "timestamp '2000-01-01 00:00' + n * interval '1.5 hours'"),
    ("t_timestamptz", "timestamptz", "timestamptz '2000-01-01 00:00+00' + n * interval '37 days'"),
    ("t_interval", "interval", "n * interval '1 day 1 hour'"),
    ("t_uuid", "uuid", "md5(n::text)::uuid"),
    ("t_bytea", "bytea", "decode(md5(n::text), 'hex')"),
    ("t_jsonb", "jsonb", "jsonb_build_object('n', n, 'a', array[1.50, n])"),
];

/// A domain for each type, sealed at random, and a tag for each column.
fn all_types() -> (String, String) {
    let mut policy = "default = \"refuse\"\n".to_owned();
    let mut tags = "[columns]\n".to_owned();
    for (name, data_type, _) in TYPES {
        writeln!(
            policy,
            "[domain.{name}]\nlabel = \"kind.{name}\"\ntype = \"{data_type}\"\nseal = \"randomized\""
        )
        .unwrap();
        writeln!(tags, "\"public.kinds.{name}\" = \"{name}\"").unwrap();
    }
    let rule = "[roles]\napp = [\"shop\"]\n[[rule]]\nname = \"application\"\nroles = [\"app\"]\nlabels = [\"*\"]\n\
                allow = [\"read\", \"compare\", \"write\"]\nshow = \"clear\"\n";
    (policy + rule, tags)
}

/// Every type, in one pass over a table whose key has two columns, one of them with values that need care in texts.
#[test]
fn values_of_every_type_come_back_as_they_were() {
    let (policy, tags) = all_types();
    let proxy = Proxy::start(&policy, &tags);
    let columns: Vec<String> =
        TYPES.iter().map(|(name, data_type, _)| format!("{name} {data_type}")).collect();
    let values: Vec<String> =
        TYPES.iter().map(|(_, _, value)| format!("case when n % 11 <> 0 then {value} end")).collect();
    postgres::execute(
        proxy.direct(),
        &format!(
            "create table kinds (k text, n int, {}, primary key (k, n)); insert into kinds select 'a''\\b' || n % 5, n, {} \
             from generate_series(1, 1500) n; grant all on kinds to shop",
            columns.join(", "),
            values.join(", ")
        ),
    );
    let rows = "select * from kinds order by n";
    let before = postgres::query(proxy.direct(), rows);
    let names: Vec<String> = TYPES.iter().map(|(name, ..)| format!("public.kinds.{name}")).collect();
    let mut start = vec!["start", "--max-lock", "60"];
    start.extend(names.iter().map(String::as_str));
    must(&proxy, &start);
    let plain = "select count(*) from pg_attribute where attrelid = 'kinds'::regclass and attnum > 2 and atttypid < 16384";
    assert_eq!(one(proxy.direct(), plain), "0");
    assert_eq!(postgres::query(&proxy.url("shop"), rows), before);
    must(&proxy, &["undo", "public.kinds.t_text", "--max-lock", "60"]);
    assert_eq!(postgres::query(proxy.direct(), rows), before);
    assert_eq!(one(proxy.direct(), plain), TYPES.len().to_string());
}

/// The column is the key itself, of a partitioned table beside it the other end of a foreign key.
#[test]
fn keys_and_partitions_are_converted_whole() {
    let tags = "[columns]\n\"public.people.email\" = \"email\"\n\"public.visits.email\" = \"email\"\n";
    let proxy = Proxy::start(proxy::POLICY, tags);
    postgres::execute(
        proxy.direct(),
        "create table people (email text primary key, born date); \
         create table visits (id int, day date, email text references people, primary key (id, day)) partition by range (day); \
         create table visits_1 partition of visits for values from ('2020-01-01') to ('2021-01-01'); \
         create table visits_2 partition of visits for values from ('2021-01-01') to ('2022-01-01') partition by list (id); \
         create table visits_2a partition of visits_2 default; \
         insert into people select 'ann' || n || '@example.com', '2000-01-01' from generate_series(1, 900) n; \
         insert into visits select n, date '2020-01-01' + n % 700, 'ann' || n % 900 + 1 || '@example.com' \
           from generate_series(1, 2000) n; \
         grant all on people, visits to shop",
    );
    let shop = proxy.url("shop");
    let rows =
        "select v.id, v.day, p.email from visits v join people p on p.email = v.email order by v.id, v.day";
    let before = postgres::query(&shop, rows);
    assert_eq!(before.len(), 2000);
    let error = reseal(&proxy, &["start", "public.visits_1.email"]).1;
    assert!(error.contains("public.visits_1 is a part of public.visits"), "{error}");
    postgres::execute(proxy.direct(), "create publication leaf for table visits_1");
    let error = reseal(&proxy, &["start", "public.visits.email"]).1;
    assert!(error.contains("publication leaf sends table public.visits_1"), "{error}");
    must(&proxy, &["start", "public.visits.email", "--prepare", "--unpublish"]);
    // Rows move between partitions, and come, meanwhile.
    postgres::execute(
        &shop,
        "update visits set day = day + 366 where id between 1 and 300 and day < '2020-12-01'; \
         insert into people (email) values ('new@example.com'); \
         insert into visits values (5000, '2021-05-05', 'new@example.com'); delete from visits where id = 400",
    );
    let before = postgres::query(&shop, rows);
    let said = must(&proxy, &["start", "--max-lock", "60"]);
    assert!(said.contains("ALTER PUBLICATION leaf ADD TABLE ONLY public.visits_1;"), "{said}");
    assert_eq!(one(proxy.direct(), "select count(*) from pg_publication_tables"), "0");
    let types = "select string_agg(distinct atttypid::regtype::text, ' ') from pg_attribute a join pg_class c on c.oid = attrelid \
                 where attname = 'email' and relname in ('people', 'visits', 'visits_1', 'visits_2', 'visits_2a')";
    assert_eq!(one(proxy.direct(), types), "pgveil.email_1");
    assert_eq!(postgres::query(&shop, rows), before);
    let orphan =
        postgres::try_query(&shop, "insert into visits values (1, '2020-01-01', 'nobody@example.com')");
    assert!(orphan.unwrap_err().starts_with("23503"));
    must(&proxy, &["undo", "public.people.email", "--max-lock", "60"]);
    assert_eq!(one(proxy.direct(), types), "text");
    assert_eq!(postgres::query(proxy.direct(), rows), before);
}

/// A policy that seals another way, and a key that was rotated: the same mechanism.
#[test]
fn recipes_and_key_versions_change() {
    let tags = "[columns]\n\"public.customers.email\" = \"email\"\n\"public.customers.card\" = \"card\"\n\
                \"public.orders.email\" = \"email\"\n";
    let policy = proxy::POLICY.replace(
        "label = \"payment.card\"\ntype = \"text\"\nseal = \"randomized\"",
        "label = \"payment.card\"\ntype = \"text\"\nseal = \"randomized\"\nkey = \"payment\"",
    );
    let proxy = Proxy::start(&policy, tags);
    let shop = proxy.url("shop");
    postgres::execute(
        &shop,
        "create table customers (id int primary key, email text unique, card text); \
         create table orders (id int primary key, email text references customers (email)); \
         insert into customers select n, 'x', 'y' from generate_series(1, 0) n",
    );
    for id in 1..=60 {
        postgres::execute(
            &shop,
            &format!(
                "insert into customers values ({id}, 'ann{id}@example.com', '4111 {id}'); insert into orders values ({id}, 'ann{id}@example.com')"
            ),
        );
    }
    let rows =
        "select c.id, c.email, c.card from customers c join orders o on o.email = c.email order by c.id";
    let before = postgres::query(&shop, rows);
    assert_eq!(before.len(), 60);
    // A new version of each key; new cells at random have theirs at once.
    assert!(proxy.must(&["keys", "rotate", "payment"]).contains("domain card: new cells have it"));
    let said = proxy.must(&["keys", "rotate", "default"]);
    assert!(
        said.contains("domain email: stays at its version") && said.contains("reseal start public."),
        "{said}"
    );
    proxy.reload("the new configuration holds");
    postgres::execute(
        &shop,
        "insert into customers values (61, 'ann61@example.com', '4111 61'); insert into orders values (61, 'ann61@example.com')",
    );
    let before = {
        let mut rows_now = before;
        rows_now.push(vec![Some("61".into()), Some("ann61@example.com".into()), Some("4111 61".into())]);
        rows_now
    };
    assert_eq!(postgres::query(&shop, rows), before);
    let list = proxy.must(&["keys", "list", "--json", "--database", proxy.direct()]);
    let list: serde_json::Value = serde_json::from_str(&list).unwrap();
    let payment = list.as_array().unwrap().iter().find(|key| key["name"] == "payment").unwrap();
    assert_eq!(
        payment["versions"][0]["columns"],
        serde_json::json!([{ "column": "public.customers.card", "cells": 60 }])
    );
    assert_eq!(
        payment["versions"][1]["columns"],
        serde_json::json!([{ "column": "public.customers.card", "cells": 1 }])
    );
    let retire = ["keys", "retire", "payment", "1", "--database", proxy.direct()];
    let (_, error, code) = proxy.run(&retire);
    assert!(code == 1 && error.contains("still carried by") && error.contains("(60 cells)"), "{error}");
    must(&proxy, &["start", "public.customers.card"]);
    proxy.must(&retire);
    let (_, error, _) = proxy.run(&["keys", "retire", "default", "1", "--database", proxy.direct()]);
    assert!(error.contains("fingerprints"), "{error}");
    must(&proxy, &["start", "public.orders.email"]);
    let types = "select string_agg(distinct atttypid::regtype::text, ' ') from pg_attribute where attname = 'email' \
                 and attrelid in ('customers'::regclass, 'orders'::regclass)";
    assert_eq!(one(proxy.direct(), types), "pgveil.email_2");
    assert_eq!(one(proxy.direct(), "select to_regtype('pgveil.email_1') is null"), "t");
    assert_eq!(postgres::query(&shop, rows), before);
    // Another mode: without the constraints, which cells at random cannot serve.
    fs::write(
        proxy.dir().join("policy.toml"),
        policy.replace("seal = \"deterministic\"", "seal = \"randomized\""),
    )
    .unwrap();
    let error = reseal(&proxy, &["start", "public.customers.email"]).1;
    assert!(error.contains("enforces something") || error.contains("compares the column"), "{error}");
    postgres::execute(
        proxy.direct(),
        "alter table orders drop constraint orders_email_fkey; alter table customers drop constraint customers_email_key",
    );
    must(&proxy, &["start", "public.customers.email"]);
    proxy.reload("the new configuration holds");
    assert_eq!(one(proxy.direct(), types), "pgveil.email");
    let alone = "select id, email, card from customers order by id";
    // Until the catalog was read again, the column has a type that the new tag does not know: refused, never wrong.
    proxy::eventually("the new recipe to hold", || match postgres::try_query(&shop, alone) {
        Ok(rows) => {
            assert_eq!(rows, before);
            true
        }
        Err(error) => {
            assert!(error.contains("cannot be used with its tag"), "{error}");
            false
        }
    });
}

/// The master key changes, and nothing that is sealed does.
#[test]
fn a_keyring_is_wrapped_with_another_master_key() {
    let mut proxy = Proxy::start(proxy::POLICY, proxy::TAGS);
    let shop = proxy.url("shop");
    postgres::execute(
        &shop,
        "create table customers (id int, email text); insert into customers values (1, 'ann@example.com')",
    );
    let (_, error, _) = proxy.run(&["keys", "rewrap"]);
    assert!(error.contains("no new master key is given"), "{error}");
    let new = proxy.dir().join("new.key");
    fs::write(&new, "ab".repeat(32)).unwrap();
    let arguments = ["keys", "rewrap", "--new-master-key-file", &new.display().to_string()];
    assert!(proxy.run(&arguments).1.contains("group or world access"));
    fs::set_permissions(&new, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let said = proxy.must(&arguments);
    assert!(said.contains("wrapped") && !said.contains("abab"), "{said}");
    assert!(proxy.run(&["keys", "list"]).1.contains("wrapped by another master key"));
    assert_eq!(one(&shop, "select email from customers"), "ann@example.com", "what runs goes on");
    let settings = fs::read_to_string(proxy.dir().join("proxy.toml")).unwrap();
    fs::write(proxy.dir().join("proxy.toml"), format!("{settings}[keys]\nmaster_key_file = \"new.key\"\n"))
        .unwrap();
    proxy.must(&["keys", "list"]);
    proxy.signal("TERM");
    proxy.wait();
    proxy.serve();
    assert_eq!(one(&proxy.url("shop"), "select email from customers"), "ann@example.com");
}

/// The metric follows a conversion.
#[test]
fn the_ratio_of_sealed_rows_shows_how_far_a_conversion_is() {
    let proxy = Proxy::start(proxy::POLICY, proxy::TAGS);
    postgres::execute(
        proxy.direct(),
        "create table customers (id int primary key, email text, card text, joined date); \
         insert into customers select n, 'ann' || n from generate_series(1, 3000) n; grant all on customers to shop",
    );
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (client, connection) =
        runtime.block_on(tokio_postgres::connect(&proxy.url("shop"), tokio_postgres::NoTls)).unwrap();
    runtime.spawn(connection);
    runtime.block_on(client.simple_query("select 1 from customers limit 1")).unwrap();
    let ratio = || -> Option<f64> {
        let text = proxy.get("/metrics")?.1;
        let line = text
            .lines()
            .find(|line| line.starts_with("pgveil_sealed_ratio{column=\"public.customers.email\"}"))?;
        line.rsplit(' ').next()?.parse().ok()
    };
    proxy::eventually("0", || ratio() == Some(0.0));
    must(&proxy, &["start", "public.customers.email", "--prepare"]);
    postgres::execute(proxy.direct(), "update pgveil.reseal_table set rows_done = 1500");
    proxy::eventually("a half", || ratio() == Some(0.5));
    must(&proxy, &["start"]);
    proxy::eventually("1", || ratio() == Some(1.0));
    drop(client);
}

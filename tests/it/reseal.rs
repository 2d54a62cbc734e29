//! `pgveil reseal`: columns with data in them change what they are stored as, and nothing else changes.

use crate::postgres;
use crate::proxy::{self, Proxy};
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

/// Orders have their customers' addresses, under a foreign key.
pub(crate) const TAGS: &str = r#"
[columns]
"public.customers.email" = { domain = "email", type = "varchar(100)" }
"public.customers.card" = "card"
"public.orders.email" = { domain = "email", type = "varchar(100)" }
"#;

const TABLES: &str = "\
    create table customers (id int primary key, email varchar(100) collate \"C\" not null default 'nobody@example.com', \
      card text, note text, unique (email)); \
    create table orders (id int primary key, email varchar(100) collate \"C\" references customers (email) on update cascade, amount int); \
    create index orders_email on orders (email varchar_pattern_ops) where amount > 0; \
    create index customers_lower on customers (lower(email)); \
    create view people as select id, email from customers where email is not null; \
    create view names as select email from people; \
    grant select on people to shop; comment on view people is 'who they are'; \
    alter table customers replica identity full; \
    create function touched() returns trigger language plpgsql as 'begin return new; end'; \
    create trigger touch before update of email on customers for each row execute function touched(); \
    insert into customers select n, 'ann' || n || '@example.com', case when n % 3 = 0 then null else '4111 ' || n end, 'x' \
      from generate_series(1, 3000) n; \
    insert into orders select n, case when n % 5 = 0 then null else 'ann' || n || '@example.com' end, n \
      from generate_series(1, 2000) n";

pub(crate) fn reseal(proxy: &Proxy, arguments: &[&str]) -> (String, String, i32) {
    let mut all = vec!["reseal"];
    all.extend(arguments);
    if matches!(arguments.first(), Some(&("start" | "undo"))) && !arguments.contains(&"--max-lock") {
        // A busy machine's estimate is no matter here.
        all.extend(["--max-lock", "120"]);
    }
    all.extend(["--database", proxy.direct()]);
    proxy.run(&all)
}

pub(crate) fn must(proxy: &Proxy, arguments: &[&str]) -> String {
    let (out, error, code) = reseal(proxy, arguments);
    assert_eq!(code, 0, "reseal {arguments:?}:\n{out}\n{error}");
    out
}

fn fails(proxy: &Proxy, arguments: &[&str]) -> String {
    let (out, error, code) = reseal(proxy, arguments);
    assert_eq!(code, 1, "reseal {arguments:?}:\n{out}\n{error}");
    format!("{out}{error}")
}

fn direct(proxy: &Proxy, sql: &str) -> Vec<Vec<Option<String>>> {
    postgres::query(proxy.direct(), sql)
}

/// The one value that a query gives.
pub(crate) fn one(url: &str, sql: &str) -> String {
    postgres::query(url, sql).remove(0).remove(0).unwrap_or_else(|| "null".to_owned())
}

fn column_type(proxy: &Proxy, column: &str) -> String {
    let (table, column) = column.split_once('.').unwrap();
    let sql = format!(
        "select format_type(atttypid, atttypmod) from pg_attribute where attrelid = '{table}'::regclass and attname = '{column}'"
    );
    one(proxy.direct(), &sql)
}

/// What pg_dump says of the tables' definitions and rows.
fn dump(proxy: &Proxy) -> String {
    let output = postgres::pg_dump()
        .args(["--schema=public", "--no-comments", "--dbname", proxy.direct()])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // Later versions write a key of their own into each dump.
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut lines: Vec<&str> = text
        .lines()
        .filter(|line| !line.starts_with("\\restrict") && !line.starts_with("\\unrestrict"))
        .collect();
    lines.sort_unstable();
    lines.join("\n")
}

/// What a backup is worth: its cells are opened by the keyring that they were sealed with, wherever they are put.
#[test]
fn a_dump_of_a_converted_database_is_opened_by_its_keyring() {
    let proxy = Proxy::start(proxy::POLICY, TAGS);
    direct(&proxy, TABLES);
    must(&proxy, &["start", "public.customers.email", "public.customers.card"]);
    let restored = proxy.postgres.database("restored");
    let script = postgres::pg_dump().args(["--dbname", proxy.direct()]).output().unwrap();
    let script = String::from_utf8(script.stdout).unwrap();
    assert!(!script.contains("@example.com") && script.contains("COPY public.customers"), "it holds cells");
    let mut psql = Command::new(postgres::tool("psql"))
        .args(["-qX", "-v", "ON_ERROR_STOP=1", "-o", "/dev/null", "-d", &restored])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    psql.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    assert!(psql.wait().unwrap().success());
    let [here, there] = [proxy.direct(), &restored].map(|url| format!("/{}?", postgres::database_name(url)));
    let (shop, url) = (proxy.url("shop"), proxy.url("shop").replace(&here, &there));
    assert_ne!(shop, url);
    for question in [
        "select id, email, card from customers order by id",
        "select id from people where email = 'ann77@example.com'",
    ] {
        assert_eq!(postgres::query(&url, question), postgres::query(&shop, question), "{question}");
    }
}

/// Columns are sealed with all that hangs on them, read as before through the proxy, and go back to what they were.
#[test]
fn columns_with_data_are_sealed_and_go_back() {
    let proxy = Proxy::start(proxy::POLICY, TAGS);
    direct(&proxy, TABLES);
    let shop = proxy.url("shop");
    let questions = [
        "select md5(string_agg(email || coalesce(card, '-'), ',' order by id)) from customers",
        "select count(*) from customers c join orders o on o.email = c.email",
        "select id from customers where email = 'ann77@example.com'",
        "select count(*) from names where email = 'ann77@example.com'",
        "select count(*) from customers where card is null",
    ];
    // Text functions over the columns are refused once they are sealed: the rows themselves are compared.
    let rows = "select id, email, card from customers order by id";
    let before = (dump(&proxy), postgres::query(&shop, rows));
    let plan = must(&proxy, &["plan", "public.customers.email"]);
    for expected in [
        "public.orders.email",
        "pgveil.email_1 (deterministic, key default version 1)",
        "view public.people is dropped and made again",
        "index customers_lower is dropped",
        "index orders_email is made again",
        "foreign key orders_email_fkey",
        "trigger touch of public.customers is dropped and made again",
    ] {
        assert!(plan.contains(expected), "{expected}\n{plan}");
    }
    assert_eq!(dump(&proxy), before.0, "a plan changes nothing");
    let said = must(&proxy, &["start", "public.customers.email", "public.customers.card"]);
    assert!(said.contains("the tables were locked for") && said.contains("may linger"), "{said}");
    assert_eq!(column_type(&proxy, "customers.email"), "pgveil.email_1");
    assert_eq!(column_type(&proxy, "orders.email"), "pgveil.email_1");
    assert_eq!(column_type(&proxy, "customers.card"), "pgveil.card");
    let sealed = dump(&proxy);
    assert!(!sealed.contains("@example.com") && !sealed.contains("4111 "), "plaintext is left");
    for (at, question) in questions.iter().enumerate().skip(1) {
        let answer = postgres::query(&shop, question);
        assert_eq!(answer.len(), 1, "{question}");
        let expected = ["", "1600", "77", "1", "1000"][at];
        assert_eq!(answer[0][0].as_deref(), Some(expected), "{question}");
    }
    assert_eq!(postgres::query(&shop, rows), before.1);
    let taken =
        postgres::try_query(&shop, "insert into customers (id, email) values (9000, 'ann5@example.com')");
    assert!(taken.unwrap_err().starts_with("23505"));
    postgres::execute(&shop, "insert into customers (id) values (9000)");
    assert_eq!(one(&shop, "select email from customers where id = 9000"), "nobody@example.com");
    postgres::execute(&shop, "delete from customers where id = 9000");
    assert!(fails(&proxy, &["start", "public.customers.email"]).contains("already"));
    // Nothing of it is left beside the tables but its history.
    let left = "select string_agg(relname, ' ' order by relname) from pg_class c join pg_namespace n on n.oid = relnamespace \
                where nspname = 'pgveil' and relkind in ('r', 'v')";
    assert_eq!(one(proxy.direct(), left), "reseal reseal_table");
    assert!(must(&proxy, &["status"]).contains("done"));
    must(&proxy, &["undo", "public.customers.email"]);
    assert_eq!(dump(&proxy), before.0);
    assert_eq!(postgres::query(&shop, rows), before.1);
}

/// What does not fit is found before anything is converted, and named by its key; corrected, the conversion goes on.
#[test]
fn values_that_do_not_fit_are_named_and_nothing_is_converted() {
    let proxy = Proxy::start(proxy::POLICY, proxy::TAGS);
    direct(
        &proxy,
        "create table customers (id int primary key, email text, card text); \
         insert into customers select n, 'ann' || n from generate_series(1, 12000) n; \
         insert into customers values (70001, repeat('x', 2601), null), (70002, repeat('y', 3000), null)",
    );
    let error = fails(&proxy, &["start", "public.customers.email"]);
    assert!(error.contains("2 values do not fit"), "{error}");
    assert!(error.contains("public.customers.email of row (70001): it is longer"), "{error}");
    assert!(!error.contains("xxx"), "{error}");
    assert_eq!(column_type(&proxy, "customers.email"), "text");
    direct(&proxy, "update customers set email = 'short' where id > 70000");
    // A row that is written while it goes on does not escape either.
    must(&proxy, &["start", "--prepare"]);
    direct(&proxy, "update customers set email = repeat('z', 2700) where id = 5");
    let error = fails(&proxy, &["start"]);
    assert!(error.contains("of row (5)"), "{error}");
    direct(&proxy, "update customers set email = 'ann5' where id = 5");
    must(&proxy, &["start"]);
    let shop = proxy.url("shop");
    direct(&proxy, "grant all on customers to shop");
    assert_eq!(one(&shop, "select count(*) from customers where email = 'short'"), "2");
}

#[test]
fn a_cancelled_conversion_leaves_no_trace() {
    let proxy = Proxy::start(proxy::POLICY, TAGS);
    direct(&proxy, TABLES);
    let all = "select string_agg(format('%s %s', classid::regclass, pg_describe_object(classid, objid, objsubid)), e'\\n' order by 1) \
               from (select 'pg_class'::regclass::oid classid, oid objid, 0 objsubid from pg_class where oid >= 16384 and relkind <> 't' \
                 and relname !~ 'pg_toast' \
                 union all select 'pg_proc'::regclass, oid, 0 from pg_proc where oid >= 16384 \
                 union all select 'pg_trigger'::regclass, oid, 0 from pg_trigger where not tgisinternal) objects";
    let before = (dump(&proxy), one(proxy.direct(), all));
    must(&proxy, &["start", "public.customers.email", "--prepare"]);
    assert_ne!(one(proxy.direct(), all), before.1);
    assert!(must(&proxy, &["verify", "--all"]).starts_with("4600 rows"));
    direct(
        &proxy,
        "update customers set email = 'new@example.com' where id = 2999; update pgveil.shadow_1_0 set cell_1 = '\\x00' where key_1 = 7",
    );
    let error = fails(&proxy, &["verify", "--all"]);
    assert!(error.contains("1 of 4599 rows"), "{error}");
    direct(&proxy, "update customers set email = 'ann2999@example.com' where id = 2999");
    must(&proxy, &["cancel"]);
    assert_eq!((dump(&proxy), one(proxy.direct(), all)), before);
    assert!(fails(&proxy, &["cancel"]).contains("no conversion is under way"));
}

/// What stands in the way is said by plan and by start, each with a remedy, and nothing is begun.
#[test]
fn what_stands_in_the_way_is_named() {
    let proxy = Proxy::start(proxy::POLICY, proxy::TAGS);
    direct(
        &proxy,
        "create table customers (id int primary key, email text check (email like '%@%'), card text unique, \
           host text generated always as (split_part(email, '@', 2)) stored); \
         create view hosts as select lower(email) as low from customers; \
         alter table customers alter column email set default 'a' || current_user; \
         create table nokey (email text); create unique index lowered on customers (lower(email)); \
         create policy own on customers using (email = current_user); create publication p for table customers",
    );
    let (plan, error, code) =
        reseal(&proxy, &["plan", "public.customers.email", "public.customers.card", "--json"]);
    assert_eq!(code, 1, "{error}");
    let plan: serde_json::Value = serde_json::from_str(&plan).unwrap_or_else(|_| panic!("{plan}{error}"));
    let obstacles = plan["obstacles"].as_array().unwrap();
    let text = obstacles.iter().map(|one| one["what"].as_str().unwrap()).collect::<Vec<_>>().join("\n");
    for expected in [
        "constraint customers_email_check",
        "index customers_card_key",
        "generated column host",
        "view public.hosts",
        "the default of column email is computed",
        "index lowered",
        "row security policy own",
        "publication p",
    ] {
        assert!(text.contains(expected), "{expected}\n{text}");
    }
    assert!(obstacles.iter().all(|one| !one["remedy"].as_str().unwrap().is_empty()));
    assert!(fails(&proxy, &["start", "public.customers.email"]).contains("more: pgveil reseal plan"));
    assert!(fails(&proxy, &["start", "public.customers.id"]).contains("is not tagged"));
    assert!(fails(&proxy, &["start", "public.nobody.id"]).contains("there is no table public.nobody"));
    assert!(fails(&proxy, &["plan", "email"]).contains("is not schema.table.column"));
    assert_eq!(column_type(&proxy, "customers.email"), "text");
    let state = "select to_regclass('pgveil.reseal') is null";
    assert_eq!(one(proxy.direct(), state), "t");
}

/// Killed at any moment, by the signal that cannot be handled, and started again until it is done.
#[test]
fn a_conversion_survives_kill_9_at_any_moment() {
    let proxy = Proxy::start(proxy::POLICY, TAGS);
    direct(&proxy, TABLES);
    direct(
        &proxy,
        "insert into customers select n, 'ann' || n || '@example.com', 'c' || n, 'y' from generate_series(3001, 20000) n",
    );
    let shop = proxy.url("shop");
    let rows = "select id, email, card from customers order by id";
    let mut expected = postgres::query(&shop, rows);
    let mut random = 7_u64;
    for direction in ["sealed", "plain"] {
        let mut kills = 0;
        loop {
            let mut child = Command::new(env!("CARGO_BIN_EXE_pgveil"))
                .args([
                    "reseal",
                    "start",
                    "public.customers.email",
                    "public.customers.card",
                    "--to",
                    direction,
                    "--batch",
                    "300",
                ])
                .args(["--max-lock", "60", "--database", proxy.direct(), "--config"])
                .arg(proxy.dir())
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            std::thread::sleep(Duration::from_millis(300 + (random >> 33) % 1500));
            let ended = child.try_wait().unwrap();
            if ended.is_none() {
                child.kill().unwrap();
                kills += 1;
            }
            child.wait().unwrap();
            // Life goes on between.
            let id = 1 + random % 20_000;
            let email = format!("moved{random}@example.com");
            if id > 3000 {
                postgres::execute(&shop, &format!("update customers set email = '{email}' where id = {id}"));
                expected[usize::try_from(id).unwrap() - 1][1] = Some(email);
            }
            if column_type(&proxy, "customers.email")
                == if direction == "sealed" { "pgveil.email_1" } else { "character varying(100)" }
            {
                break;
            }
            assert!(kills < 60, "it does not get on");
            if kills == 6 {
                must(
                    &proxy,
                    &[
                        "start",
                        "public.customers.email",
                        "public.customers.card",
                        "--to",
                        direction,
                        "--max-lock",
                        "60",
                    ],
                );
            }
        }
        // The swap is done; what may be done later may still be.
        let (_, error, code) = reseal(&proxy, &["start"]);
        assert!(code == 0 || error.contains("no conversion is under way"), "{error}");
        assert_eq!(postgres::query(&shop, rows), expected, "{direction}");
        let counted = "select count(*) from pg_constraint where contype = 'f' and convalidated and conrelid = 'orders'::regclass";
        assert_eq!(one(proxy.direct(), counted), "1");
    }
}

//! Transactions that define what they then use, as migrations and drivers do: seen in the transaction, gone with it.

use crate::postgres;
use crate::proxy::{self, Proxy};
use crate::raw::Raw;

const CREATE: &str = "create table customers (id int primary key, email text unique, card text, joined date)";
const INSERT: &str = "insert into customers (id, email) values (1, 'ann@example.com')";

fn done(raw: &mut Raw, sql: &str) {
    assert_eq!(raw.query(sql).errors, [""; 0], "{sql}");
}

fn emails(raw: &mut Raw) -> Vec<String> {
    let reply = raw.query("select email from customers order by id");
    assert_eq!(reply.errors, [""; 0]);
    reply.rows.into_iter().map(|row| String::from_utf8(row[0].clone().unwrap()).unwrap()).collect()
}

fn stored_type(proxy: &Proxy, column: &str) -> Option<String> {
    let sql = format!(
        "select format_type(atttypid, atttypmod) from pg_attribute where attrelid = to_regclass('customers') and attname = '{column}'"
    );
    postgres::query(proxy.direct(), &sql).first().and_then(|row| row[0].clone())
}

#[test]
fn a_table_made_in_a_transaction_is_sealed_in_it() {
    let proxy = Proxy::start(proxy::POLICY, proxy::TAGS);
    let mut shop = Raw::log_in(&proxy.url("shop"));
    for end in ["rollback", "commit"] {
        done(&mut shop, "begin");
        done(&mut shop, CREATE);
        done(&mut shop, INSERT);
        let extended = shop.extended(
            "insert into customers (id, email) values (2, $1) returning email",
            &[Some(b"bob@example.com")],
            [0, 0],
        );
        assert_eq!(extended.rows, [[Some(b"bob@example.com".to_vec())]], "{:?}", extended.errors);
        assert_eq!(emails(&mut shop), ["ann@example.com", "bob@example.com"]);
        let found = shop.query("select id from customers where email = 'bob@example.com'");
        assert_eq!(found.rows, [[Some(b"2".to_vec())]]);
        done(&mut shop, end);
    }
    assert_eq!(stored_type(&proxy, "email").as_deref(), Some("pgveil.email_1"));
    assert_eq!(stored_type(&proxy, "card").as_deref(), Some("pgveil.card"));
    assert_eq!(emails(&mut shop), ["ann@example.com", "bob@example.com"]);
    // Another connection, which saw nothing of it, finds it too.
    assert_eq!(emails(&mut Raw::log_in(&proxy.url("shop"))), ["ann@example.com", "bob@example.com"]);
}

#[test]
fn one_query_may_make_and_use_a_table() {
    let proxy = Proxy::start(proxy::POLICY, proxy::TAGS);
    let (stdout, stderr, code) =
        postgres::psql(&proxy.url("shop"), &format!("{CREATE}; {INSERT}; select email from customers"));
    assert_eq!(
        (stdout.as_str(), stderr.as_str(), code),
        ("CREATE TABLE\nINSERT 0 1\nann@example.com\n", "", 0)
    );
    assert_eq!(stored_type(&proxy, "email").as_deref(), Some("pgveil.email_1"));
    // All of it or nothing.
    let again = "drop table customers; select 1 / 0";
    assert!(Raw::log_in(&proxy.url("shop")).query(again).errors[0].starts_with("22012 "));
    assert_eq!(emails(&mut Raw::log_in(&proxy.url("shop"))), ["ann@example.com"]);
}

#[test]
fn columns_and_savepoints_come_and_go() {
    let proxy = Proxy::start(proxy::POLICY, proxy::TAGS);
    let mut shop = Raw::log_in(&proxy.url("shop"));
    let mut other = Raw::log_in(&proxy.url("shop"));
    done(&mut shop, "create table customers (id int primary key, email text unique)");
    done(&mut shop, INSERT);
    assert_eq!(emails(&mut other), ["ann@example.com"]);
    done(&mut shop, "begin; savepoint before");
    done(&mut shop, "alter table customers add column card text");
    done(&mut shop, "update customers set card = '4111' where id = 1");
    assert_eq!(shop.query("select card from customers").rows, [[Some(b"4111".to_vec())]]);
    done(&mut shop, "rollback to before");
    let gone = shop.query("select card from customers");
    assert!(gone.errors[0].starts_with("42703 "), "{:?}", gone.errors);
    done(&mut shop, "rollback to before; alter table customers add column card text; commit");
    assert_eq!(stored_type(&proxy, "card").as_deref(), Some("pgveil.card"));
    // The other connection's statement was prepared before the column was there.
    other.parse("all", "select * from customers", &[]);
    other.describe(b'S', "all");
    other.sync();
    assert_eq!(other.reply().types.len(), 3);
    done(&mut shop, "alter table customers drop column card");
    done(&mut shop, "alter table customers add column joined date");
    other.bind("", "all", &[], [0, 0]);
    other.execute("", 0);
    other.sync();
    assert_eq!(other.reply().errors, ["0A000 cached plan must not change result type"]);
    done(&mut other, "insert into customers (id, email, joined) values (2, 'bob@example.com', '2024-02-29')");
    assert_eq!(stored_type(&proxy, "joined").as_deref(), Some("pgveil.joined"));
    done(&mut shop, "drop table customers");
    let gone = other.query("select email from customers");
    assert!(gone.errors[0].starts_with("42P01 "), "{:?}", gone.errors);
}

/// Each of two transactions waits for what the other did, as in PostgreSQL.
#[test]
fn locks_and_isolation_are_postgresqls() {
    let proxy = Proxy::start(proxy::POLICY, proxy::TAGS);
    let mut one = Raw::log_in(&proxy.url("shop"));
    let mut two = Raw::log_in(&proxy.url("shop"));
    done(&mut one, CREATE);
    done(&mut one, INSERT);
    done(&mut one, "begin isolation level repeatable read");
    assert_eq!(emails(&mut one), ["ann@example.com"]);
    done(&mut two, "update customers set email = 'new@example.com'");
    assert_eq!(emails(&mut one), ["ann@example.com"]);
    let conflict = one.query("update customers set email = 'third@example.com'");
    assert!(conflict.errors[0].starts_with("40001 "), "{:?}", conflict.errors);
    done(&mut one, "rollback");
    // The same key in two transactions: the second waits, and then is a duplicate.
    done(&mut one, "begin");
    done(&mut one, "insert into customers (id, email) values (2, 'bob@example.com')");
    two.say_query("insert into customers (id, email) values (3, 'bob@example.com')");
    std::thread::sleep(std::time::Duration::from_millis(200));
    done(&mut one, "commit");
    assert!(two.reply().errors[0].starts_with("23505 "));
}

#[test]
fn a_text_that_changes_its_path_is_planned_by_the_new_one() {
    let proxy = Proxy::start(proxy::POLICY, proxy::TAGS);
    let direct = postgres::try_query(
        proxy.direct(),
        "create schema old; create table old.customers (id int, email text); grant all on schema old to shop; \
         grant all on old.customers to shop",
    );
    direct.unwrap();
    let (_, error, _) = postgres::psql(
        &proxy.url("shop"),
        "create table public.customers (id int, email text); insert into public.customers values (1, 'ana@example.org')",
    );
    assert_eq!(error, "");
    // On the path that holds when the text arrives, the name means a table without tags.
    let (out, error, _) = postgres::psql_with(
        &proxy.url("shop"),
        &["--tuples-only", "--no-align", "--quiet"],
        "set search_path = old;\n\
         set search_path = public\\; select email from customers where email = 'ana@example.org';\n",
    );
    assert_eq!((out.as_str(), error.as_str()), ("ana@example.org\n", ""));
}

#[test]
fn a_prepared_statement_is_judged_by_the_path_it_runs_on() {
    let proxy = Proxy::start(proxy::POLICY, proxy::TAGS);
    postgres::try_query(
        proxy.direct(),
        "create schema old; create table old.customers (id int, email text); grant all on schema old to shop; \
         grant all on old.customers to shop",
    )
    .unwrap();
    let mut shop = Raw::log_in(&proxy.url("shop"));
    done(&mut shop, "create table public.customers (id int, email text)");
    done(&mut shop, "insert into public.customers values (1, 'ana@example.org')");
    done(&mut shop, "set search_path = old");
    let sql = "select id from customers where email = $1";
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (client, connection) =
            tokio_postgres::connect(&proxy.url("shop"), tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        client.batch_execute("set search_path = old").await.unwrap();
        let prepared = client.prepare(sql).await.unwrap();
        assert_eq!(client.query(&prepared, &[&"ana@example.org"]).await.unwrap().len(), 0);
        client.batch_execute("set search_path = public").await.unwrap();
        let constant =
            client.prepare("select id from customers where email = 'ana@example.org'").await.unwrap();
        assert_eq!(client.query(&constant, &[]).await.unwrap().len(), 1, "planned on the new path");
        client.batch_execute("set search_path = old").await.unwrap();
        let constant =
            client.prepare("select id from customers where email = 'ana@example.org'").await.unwrap();
        client.batch_execute("set search_path = public").await.unwrap();
        let error = client.query(&constant, &[]).await.expect_err("no row and no error would be silent");
        assert_eq!(error.as_db_error().unwrap().code().code(), "0A000");
        // PostgreSQL would plan it anew for the other table: never an answer without a plan of ours.
        let error = client.query(&prepared, &[&"ana@example.org"]).await.unwrap_err();
        let told = error.as_db_error().unwrap();
        assert_eq!(
            (told.code().code(), told.message()),
            ("0A000", "cached plan must not change result type")
        );
    });
}

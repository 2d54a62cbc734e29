//! Columns that an administrator converts directly in the database, between two executions of a prepared statement: the
//! second one works, and means what it says.

use crate::postgres;
use crate::proxy::{self, Proxy};
use crate::raw::{Raw, Reply};
use std::time::Duration;

const INSERT: &str = "insert into customers (id, email) values ($1, $2)";
const SELECT: &str = "select id, email from customers where email = $1";

fn directly(proxy: &Proxy, sql: &str) {
    postgres::try_query(proxy.direct(), sql).unwrap();
}

/// The type and the bytes of what is stored in a row.
fn stored(proxy: &Proxy, id: i32) -> (String, String) {
    let sql = format!(
        "select pg_typeof(email)::text, substr(case when pg_typeof(email) = 'text'::regtype then email::text \
         else encode(email::text::bytea, 'hex') end, 1, 4) from customers where id = {id}"
    );
    let row = postgres::query(proxy.direct(), &sql).remove(0);
    (row[0].clone().unwrap(), row[1].clone().unwrap())
}

/// A conversion drops the type that the column had: what was planned for it cannot go on.
const TO_TEXT: &str = "begin; alter table customers alter column email type text using null; drop domain pgveil.email_1; commit";

/// And makes it again, as `pgveil init` did.
fn to_sealed(proxy: &Proxy) -> String {
    let sql =
        "select pg_get_constraintdef(oid) from pg_constraint where contypid = 'pgveil.email_1'::regtype";
    let check = postgres::query(proxy.direct(), sql).remove(0).remove(0).unwrap();
    format!(
        "begin; create domain pgveil.email_1 as bytea {check}; grant usage on type pgveil.email_1 to public; \
         alter table customers alter column email type pgveil.email_1 using null; commit"
    )
}

#[test]
fn a_driver_s_prepared_statements_live_through_conversions() {
    let proxy = Proxy::start(proxy::POLICY, proxy::TAGS);
    let mut shop = Raw::log_in(&proxy.url("shop"));
    assert_eq!(shop.query("create table customers (id int, email text)").errors, [""; 0]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (client, connection) =
            tokio_postgres::connect(&proxy.url("shop"), tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        let insert = client.prepare(INSERT).await.unwrap();
        let select = client.prepare(SELECT).await.unwrap();
        // The server says it first, or the poll has seen it.
        let waits = [None, Some(Duration::from_millis(1500))];
        let to_sealed = to_sealed(&proxy);
        for (index, wait) in waits.into_iter().chain(waits).enumerate() {
            for (at, (convert, type_name)) in
                [(TO_TEXT, "text"), (to_sealed.as_str(), "pgveil.email_1")].into_iter().enumerate()
            {
                let id = i32::try_from(2 * index + at).unwrap();
                let email = format!("ann{id}@example.com");
                directly(&proxy, convert);
                if let Some(wait) = wait {
                    tokio::time::sleep(wait).await;
                }
                client.execute(&insert, &[&id, &email]).await.unwrap();
                let rows = client.query(&select, &[&email]).await.unwrap();
                let found: Vec<(i32, String)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
                assert_eq!(found, [(id, email)], "{convert}");
                let (stored_type, begins) = stored(&proxy, id);
                assert_eq!(stored_type, type_name);
                assert_eq!(begins, if type_name == "text" { &found[0].1[..4] } else { "1100" });
            }
        }
    });
}

/// As libpq does: described with each execution, in text.
#[test]
fn statements_that_are_described_each_time_do_so_too() {
    let proxy = Proxy::start(proxy::POLICY, proxy::TAGS);
    let mut shop = Raw::log_in(&proxy.url("shop"));
    assert_eq!(shop.query("create table customers (id int, email text)").errors, [""; 0]);
    let run = |raw: &mut Raw, name: &str, values: &[Option<&[u8]>]| -> Reply {
        raw.bind("", name, values, [0, 0]);
        raw.describe(b'P', "");
        raw.execute("", 0);
        raw.sync();
        raw.reply()
    };
    for (name, sql) in [("i", INSERT), ("s", SELECT), ("all", "select email from customers")] {
        shop.parse(name, sql, &[]);
        shop.sync();
        assert_eq!(shop.reply().errors, [""; 0]);
    }
    let to_sealed = to_sealed(&proxy);
    for (id, convert) in [("1", TO_TEXT), ("2", &to_sealed), ("3", TO_TEXT)] {
        directly(&proxy, convert);
        let email = format!("ann{id}@example.com");
        assert_eq!(run(&mut shop, "i", &[Some(id.as_bytes()), Some(email.as_bytes())]).errors, [""; 0]);
        let found = run(&mut shop, "s", &[Some(email.as_bytes())]);
        assert_eq!((found.errors, found.types), (vec![], vec![23, 25]));
        assert_eq!(found.rows, [[Some(id.as_bytes().to_vec()), Some(email.as_bytes().to_vec())]]);
        // Nothing in it is cast: its description tells.
        let all = run(&mut shop, "all", &[]);
        assert_eq!((all.errors, all.types), (vec![], vec![25]), "{convert}");
        assert_eq!(all.rows.last().unwrap()[0].as_deref(), Some(email.as_bytes()));
    }
    // In a transaction the database cannot take it back; the client may prepare it again when that has ended.
    assert_eq!(shop.query("begin").errors, [""; 0]);
    directly(&proxy, &to_sealed);
    let told = run(&mut shop, "s", &[Some(b"ann3@example.com")]);
    assert_eq!(told.errors, ["0A000 cached plan must not change result type"]);
    assert_eq!(shop.query("rollback").errors, [""; 0]);
    assert_eq!(run(&mut shop, "s", &[Some(b"ann3@example.com")]).errors, [""; 0]);
    // A column of another type is PostgreSQL's error, too.
    directly(&proxy, "alter table customers alter column id type bigint");
    let told = run(&mut shop, "s", &[Some(b"ann3@example.com")]);
    assert_eq!(told.errors, ["0A000 cached plan must not change result type"]);
}

/// A rule that masks a column stored in clear no longer holds: the prepared statement is prepared anew.
#[test]
fn a_purpose_changes_what_a_prepared_statement_shows() {
    let policy = r#"
default = "refuse"
[domain.phone]
label = "pii.phone"
type = "text"
seal = "none"
[roles]
app = ["shop"]
desk = ["alice"]
[[rule]]
name = "application"
roles = ["app"]
labels = ["*"]
allow = ["read", "compare", "write"]
show = "clear"
[[rule]]
name = "call"
roles = ["desk"]
labels = ["pii.phone"]
allow = ["read"]
show = "clear"
purposes = ["call"]
[[rule]]
name = "desk"
roles = ["desk"]
labels = ["pii.phone"]
allow = ["read"]
show = "mask:partial"
"#;
    let proxy = Proxy::start(policy, "[columns]\n\"public.people.phone\" = \"phone\"\n");
    let mut shop = Raw::log_in(&proxy.url("shop"));
    for sql in [
        "create table people (id int, phone text)",
        "grant select on people to alice",
        "insert into people values (1, '+49 30 12')",
    ] {
        assert_eq!(shop.query(sql).errors, [""; 0]);
    }
    let mut alice = Raw::log_in(&proxy.url("alice"));
    alice.parse("p", "select phone from people", &[]);
    alice.sync();
    assert_eq!(alice.reply().errors, [""; 0]);
    for (set, shown) in [
        ("reset all", "+***2"),
        ("set pgveil.purpose = 'call'", "+49 30 12"),
        ("reset pgveil.purpose", "+***2"),
    ] {
        assert_eq!(alice.query(set).errors, [""; 0]);
        alice.bind("", "p", &[], [0, 0]);
        alice.execute("", 0);
        alice.sync();
        let reply = alice.reply();
        assert_eq!(reply.errors, [""; 0], "{set}");
        assert_eq!(reply.rows, [[Some(shown.as_bytes().to_vec())]], "{set}");
    }
}

/// A policy with a column that is stored in clear, beside the usual ones.
const SEEN: &str = r#"
default = "refuse"
[domain.email]
label = "pii.email"
type = "text"
seal = "deterministic"
[domain.phone]
label = "pii.phone"
type = "text"
seal = "none"
[roles]
app = ["shop"]
support = ["alice"]
[[rule]]
name = "application"
roles = ["app"]
labels = ["*"]
allow = ["read", "compare", "write"]
show = "clear"
[[rule]]
name = "support"
roles = ["support"]
labels = ["*"]
allow = ["read"]
show = "mask:redact"
"#;

#[test]
fn relations_made_behind_our_back_are_known_when_they_are_named() {
    let tags = "[columns]\n\"public.people.email\" = \"email\"\n\"public.people.phone\" = \"phone\"\n";
    let proxy = Proxy::start(SEEN, tags);
    let (mut shop, mut alice) = (Raw::log_in(&proxy.url("shop")), Raw::log_in(&proxy.url("alice")));
    for sql in [
        "create table people (id int, email text, phone text)",
        "insert into people values (1, 'ann@example.com', '+49-151-7712')",
    ] {
        assert_eq!(shop.query(sql).errors, [""; 0], "{sql}");
    }
    let text = |reply: &Reply| -> Vec<Option<String>> {
        let cell =
            |cell: &Option<Vec<u8>>| cell.as_ref().map(|cell| String::from_utf8_lossy(cell).into_owned());
        reply.rows.iter().flatten().map(cell).collect()
    };
    let clear = ["ann@example.com", "+49-151-7712"].map(|cell| Some(cell.to_owned()));
    for round in 0..4 {
        let view = format!("book{round}");
        let sql = format!("select email, phone from {view}");
        // A text that failed before must not be remembered as harmless.
        assert_eq!(alice.query(&sql).errors.len(), 1);
        directly(
            &proxy,
            &format!("create view {view} as select * from people; grant select on {view} to public"),
        );
        let reply = if round % 2 == 0 { alice.query(&sql) } else { alice.extended(&sql, &[], [0, 0]) };
        assert_eq!(reply.errors, [""; 0], "{sql}");
        assert!(text(&reply).iter().all(|cell| !clear.contains(cell)), "{sql}: a value is shown");
        let reply = if round % 2 == 0 { shop.query(&sql) } else { shop.extended(&sql, &[], [0, 0]) };
        assert_eq!(text(&reply), clear, "{sql}");
    }
    // A table that was renamed: its columns have no tags under that name, and nothing is guessed of them.
    let sql = "select phone from clients";
    assert_eq!(alice.query(sql).errors.len(), 1);
    directly(
        &proxy,
        "drop view book0, book1, book2, book3; alter table people rename to clients; grant select on clients to public",
    );
    let reply = alice.query(sql);
    assert!(text(&reply).iter().all(|cell| !clear.contains(cell)), "a value is shown: {:?}", reply.errors);
}

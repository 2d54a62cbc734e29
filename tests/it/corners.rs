//! The protocol's corners, and what else PostgreSQL users have in a session: each as PostgreSQL has it, or refused by name.

use crate::copy::copy_in;
use crate::postgres;
use crate::proxy::{self, Proxy, eventually};
use crate::raw::Raw;
use std::time::Duration;

fn customers() -> (Proxy, Raw) {
    let proxy = Proxy::start(proxy::POLICY, proxy::TAGS);
    let mut shop = Raw::log_in(&proxy.url("shop"));
    done(&mut shop, "create table customers (id int primary key, email text, card text)");
    done(
        &mut shop,
        "insert into customers values (1, 'ann@example.com', '4111'), (2, 'bob@example.com', '4222'), \
         (3, 'cat@example.com', '4333')",
    );
    (proxy, shop)
}

fn done(raw: &mut Raw, sql: &str) {
    assert_eq!(raw.query(sql).errors, [""; 0], "{sql}");
}

/// The first column of what a query gives.
fn column(raw: &mut Raw, sql: &str) -> Vec<String> {
    let reply = raw.query(sql);
    assert_eq!(reply.errors, [""; 0], "{sql}");
    reply.rows.iter().map(|row| text(&row[0])).collect()
}

fn text(cell: &Option<Vec<u8>>) -> String {
    cell.as_ref().map_or("NULL".into(), |bytes| String::from_utf8(bytes.clone()).unwrap())
}

fn error(raw: &mut Raw, sql: &str) -> String {
    raw.query(sql).errors.pop().unwrap_or_default()
}

fn refused(raw: &mut Raw, sql: &str) {
    let told = error(raw, sql);
    assert!(told.starts_with("0A000 "), "{sql}: {told}");
}

#[test]
fn function_calls_are_refused_and_the_conversation_goes_on() {
    let (_proxy, mut shop) = customers();
    // `pg_backend_pid()` by its OID.
    let mut call = b"F\0\0\0\x0e".to_vec();
    call.extend(2026_u32.to_be_bytes());
    call.extend([0, 0, 0, 0, 0, 0]);
    shop.send(&call);
    let reply = shop.reply();
    assert_eq!(reply.errors, ["0A000 function call messages are not supported through pgveil"]);
    assert_eq!(reply.status, 'I');
    done(&mut shop, "begin");
    shop.send(&call);
    assert_eq!(shop.reply().status, 'E');
    done(&mut shop, "rollback");
    assert_eq!(column(&mut shop, "select email from customers where id = 1"), ["ann@example.com"]);
}

#[test]
fn a_text_that_is_not_utf8_is_an_error_as_postgresql_s() {
    let (_proxy, mut shop) = customers();
    let said = ["22021 invalid byte sequence for encoding \"UTF8\""];
    let query = |text: &[u8]| {
        let length = u32::try_from(text.len() + 5).unwrap().to_be_bytes();
        [&b"Q"[..], &length, text, b"\0"].concat()
    };
    shop.send(&query(b"select 'caf\xe9' from customers"));
    assert_eq!(shop.reply().errors, said);
    let text = b"select email from customers where email = 'caf\xe9'";
    let parse = [&b"\0"[..], text, b"\0\0\0"].concat();
    let length = u32::try_from(parse.len() + 4).unwrap().to_be_bytes();
    shop.send(&[&b"P"[..], &length, &parse, b"S\0\0\0\x04"].concat());
    let reply = shop.reply();
    assert_eq!((reply.errors.as_slice(), reply.status), (said.map(str::to_owned).as_slice(), 'I'));
    done(&mut shop, "begin");
    shop.send(&query(b"\xff"));
    assert_eq!(shop.reply().status, 'E');
    done(&mut shop, "rollback");
    assert_eq!(column(&mut shop, "select email from customers where id = 1"), ["ann@example.com"]);
}

#[test]
fn large_objects_are_none_of_our_business() {
    let (_proxy, mut shop) = customers();
    done(&mut shop, "begin");
    let object = column(&mut shop, "select lo_from_bytea(0, '\\x616263')").remove(0);
    assert_eq!(column(&mut shop, &format!("select lo_get({object})")), ["\\x616263"]);
    done(&mut shop, &format!("select lo_put({object}, 1, '\\x58')"));
    done(&mut shop, "commit");
    assert_eq!(column(&mut shop, &format!("select convert_from(lo_get({object}), 'UTF8')")), ["aXc"]);
    done(&mut shop, &format!("select lo_unlink({object})"));
    // What is sealed is no `bytea` for whoever reads it here.
    assert_ne!(error(&mut shop, "select lo_from_bytea(0, email) from customers"), "");
}

#[test]
fn notifications_reach_who_listens() {
    let (proxy, mut shop) = customers();
    let mut other = Raw::log_in(&proxy.url("shop"));
    done(&mut other, "listen news");
    done(&mut shop, "begin; notify news, 'first'; select pg_notify('news', 'second'); commit");
    for payload in ["first", "second"] {
        let (tag, body) = other.read().unwrap();
        assert_eq!(tag, 'A');
        assert!(body.ends_with(format!("news\0{payload}\0").as_bytes()), "{body:?}");
    }
    // One that comes in the middle of an opened reply.
    done(&mut other, "begin");
    done(&mut shop, "notify news");
    assert_eq!(column(&mut other, "select email from customers where id = 1"), ["ann@example.com"]);
    let order = other.query("commit").order;
    assert!(order == "CZ" || order == "CAZ", "{order}");
    if order == "CZ" {
        assert_eq!(other.read().unwrap().0, 'A');
    }
    done(&mut other, "unlisten *");
    done(&mut shop, "notify news");
    assert_eq!(other.query("select 1").order, "TDCZ");
    refused(&mut shop, "select pg_notify('news', email) from customers");
}

#[test]
fn advisory_locks_hold_between_connections() {
    let (proxy, mut shop) = customers();
    let mut other = Raw::log_in(&proxy.url("shop"));
    assert_eq!(column(&mut shop, "select pg_try_advisory_lock(42)"), ["t"]);
    assert_eq!(column(&mut other, "select pg_try_advisory_lock(42)"), ["f"]);
    other.say_query("select pg_advisory_lock(42)");
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(column(&mut shop, "select pg_advisory_unlock(42)"), ["t"]);
    assert_eq!(other.reply().errors, [""; 0]);
    done(&mut shop, "begin");
    done(&mut shop, "select pg_advisory_xact_lock(43)");
    assert_eq!(column(&mut other, "select pg_try_advisory_lock(43)"), ["f"]);
    done(&mut shop, "rollback");
    assert_eq!(column(&mut other, "select pg_try_advisory_lock(43)"), ["t"]);
}

#[test]
fn settings_that_change_what_is_read_stay_as_they_are() {
    let (_proxy, mut shop) = customers();
    for sql in [
        "set client_encoding = 'LATIN1'",
        "set names 'LATIN1'",
        "set local client_encoding to latin1",
        "set standard_conforming_strings = off",
        "begin; set local standard_conforming_strings to off; commit",
        "select set_config('standard_conforming_strings', 'off', false)",
        "select set_config('client_encoding', 'LATIN1', true)",
        "set bytea_output = 'escape'",
        "reset client_encoding",
        "set session authorization alice",
        "set local session authorization alice",
        "set session_authorization = 'alice'",
        "select set_config('session_authorization', 'alice', false)",
    ] {
        refused(&mut shop, sql);
        done(&mut shop, "rollback");
    }
    for sql in [
        "set client_encoding = 'UTF8'",
        "set names 'utf-8'",
        "set standard_conforming_strings = on",
        "set bytea_output = hex",
        "reset session authorization",
        "begin; set local client_encoding to unicode; rollback",
    ] {
        done(&mut shop, sql);
    }
    assert_eq!(column(&mut shop, "select email from customers where email = 'ann@example.com'").len(), 1);
    // A function that changes them behind our back ends the session rather than have its texts misread.
    done(
        &mut shop,
        "create function sly() returns void language sql as $$ select set_config('standard_conforming_strings', 'off', false) $$",
    );
    let told = error(&mut shop, "select sly()");
    assert_eq!(told, "08P01 standard_conforming_strings must stay on");
    assert_eq!(shop.read(), None);
}

#[test]
fn a_role_that_is_set_changes_names_but_no_rights() {
    let (proxy, mut shop) = customers();
    postgres::try_query(
        proxy.direct(),
        "grant alice to shop; create schema alice; create table alice.customers (id int, email text); \
         insert into alice.customers values (7, 'plain'); grant usage on schema alice to alice; \
         grant select on alice.customers to alice; grant select on customers to alice",
    )
    .unwrap();
    let email = "select email from customers order by id limit 1";
    // Until the catalog was polled, the name is the one that is known.
    eventually("a poll of the catalog", || {
        done(&mut shop, "begin; set local role alice");
        let found = column(&mut shop, email);
        done(&mut shop, "rollback");
        found == ["plain"]
    });
    for (set, end) in [("set role alice", "rollback"), ("set local role alice", "commit")] {
        done(&mut shop, "begin");
        done(&mut shop, set);
        assert_eq!(column(&mut shop, "select current_user"), ["alice"]);
        // `"$user"` of the path is another one now.
        assert_eq!(column(&mut shop, email), ["plain"]);
        // Alice would see a mask: it is still the shop that asks.
        assert_eq!(column(&mut shop, &email.replace("customers", "public.customers")), ["ann@example.com"]);
        done(&mut shop, end);
        assert_eq!(column(&mut shop, "select current_user"), ["shop"]);
        assert_eq!(column(&mut shop, email), ["ann@example.com"], "{set}, {end}");
    }
    done(&mut shop, "set role alice");
    done(&mut shop, "begin; savepoint s; reset role");
    assert_eq!(column(&mut shop, email), ["ann@example.com"]);
    done(&mut shop, "rollback to s");
    assert_eq!(column(&mut shop, email), ["plain"]);
    done(&mut shop, "commit; set role none");
    assert_eq!(column(&mut shop, email), ["ann@example.com"]);
}

#[test]
fn a_temporary_table_never_comes_between_a_tag_and_its_table() {
    let (proxy, mut shop) = customers();
    done(&mut shop, "create temp table other (id int, email text)");
    for sql in [
        "create temp table customers (id int, email text)",
        "create temporary view customers as select 1 as id, 'x' as email",
        "select 1 as id, 'x' as email into temp customers",
        "alter table other rename to customers",
    ] {
        let told = error(&mut shop, sql);
        assert!(told.starts_with("0A000 "), "{sql}: {told}");
    }
    // Made by what is not read here: what is written still goes to the tagged table, sealed.
    done(
        &mut shop,
        "do $$ begin execute 'create temp table cus' || 'tomers (id int primary key, email text, card text)'; end $$",
    );
    done(&mut shop, "insert into customers values (4, 'dan@example.com', '4444')");
    assert_eq!(column(&mut shop, "select email from customers where id = 4"), ["dan@example.com"]);
    let size =
        "select pg_relation_size(oid) from pg_class where relname = 'customers' and relpersistence = 't'";
    assert_eq!(postgres::query(proxy.direct(), size), [[Some("0".to_owned())]]);
    let stored = postgres::query(proxy.direct(), "select email::text from customers where id = 4");
    assert!(stored[0][0].as_ref().unwrap().starts_with("\\x1100"), "{stored:?}");
}

#[test]
fn a_name_that_is_given_twice_keeps_its_first_statement() {
    let (_proxy, mut shop) = customers();
    shop.parse("p", "select email from customers where id = $1", &[]);
    shop.sync();
    assert_eq!(shop.reply().errors, [""; 0]);
    for other in ["select 1", "select card from customers where id = $1"] {
        shop.parse("p", other, &[]);
        shop.sync();
        assert_eq!(shop.reply().errors, ["42P05 prepared statement \"p\" already exists"]);
        shop.bind("", "p", &[Some(b"2")], [0, 0]);
        shop.execute("", 0);
        shop.sync();
        assert_eq!(shop.reply().rows, [[Some(b"bob@example.com".to_vec())]]);
    }
    // In one pipeline the rest of it is skipped.
    shop.parse("p", "select 1", &[]);
    shop.bind("", "p", &[Some(b"2")], [0, 0]);
    shop.execute("", 0);
    shop.sync();
    assert_eq!(shop.reply().order, "EZ");
    shop.close(b'S', "p");
    shop.parse("p", "select card from customers where id = $1", &[]);
    shop.bind("", "p", &[Some(b"2")], [0, 0]);
    shop.execute("", 0);
    shop.sync();
    assert_eq!(shop.reply().rows, [[Some(b"4222".to_vec())]]);
}

/// What the server did not do has not happened here either: a portal that a savepoint brings back is still what it was.
#[test]
fn a_portal_outlives_what_failed_to_replace_or_close_it() {
    let (proxy, mut shop) = customers();
    shop.parse("emails", "select email from customers order by id", &[]);
    shop.parse("cards", "select card from customers order by id", &[]);
    shop.parse("plain", "select 1", &[]);
    shop.sync();
    assert_eq!(shop.reply().errors, [""; 0]);
    let next = |shop: &mut Raw| {
        shop.execute("c", 1);
        shop.sync();
        let reply = shop.reply();
        assert_eq!(reply.errors, [""; 0]);
        reply.rows.iter().map(|row| text(&row[0])).collect::<Vec<_>>()
    };
    done(&mut shop, "begin");
    shop.bind("c", "emails", &[], [0, 0]);
    assert_eq!(next(&mut shop), ["ann@example.com"]);
    done(&mut shop, "savepoint s");
    for other in ["cards", "plain"] {
        shop.bind("c", other, &[], [0, 0]);
        shop.execute("c", 1);
        shop.sync();
        assert_eq!(shop.reply().errors, ["42P03 cursor \"c\" already exists"]);
        done(&mut shop, "rollback to s");
    }
    assert_eq!(next(&mut shop), ["bob@example.com"]);
    shop.parse("", "select bogus", &[]);
    shop.close(b'P', "c");
    shop.sync();
    assert_eq!(shop.reply().order, "EZ");
    done(&mut shop, "rollback to s");
    assert_eq!(next(&mut shop), ["cat@example.com"]);
    shop.close(b'P', "c");
    shop.execute("c", 1);
    shop.sync();
    assert_eq!(shop.reply().errors, ["34000 portal \"c\" does not exist"]);
    done(&mut shop, "rollback");
    drop(shop);
    // One run, with one end, of all that it gave.
    let outcomes = || {
        let path = proxy.dir().join("audit").display().to_string();
        let shown = proxy.must(&["audit", "show", &path, "--json"]);
        shown.lines().filter(|line| line.contains("\"outcome\"") && line.contains("\"rows\":3")).count()
    };
    eventually("its outcome", || outcomes() > 0);
    assert_eq!(outcomes(), 1);
}

/// A cursor that SQL declared is a portal for the protocol, too, and read as FETCH reads it.
#[test]
fn a_declared_cursor_is_executed_as_it_is_fetched() {
    let (proxy, mut shop) = customers();
    done(&mut shop, "grant select on customers to alice");
    let mut alice = Raw::log_in(&proxy.url("alice"));
    for (raw, first) in [(&mut shop, "ann@example.com"), (&mut alice, "a***m")] {
        done(raw, "begin; declare c cursor for select email from customers order by id");
        raw.describe(b'P', "c");
        raw.execute("c", 1);
        raw.sync();
        let reply = raw.reply();
        assert_eq!((reply.errors, reply.types), (vec![], vec![25]));
        assert_eq!(text(&reply.rows[0][0]), first);
        done(raw, "rollback");
    }
}

#[test]
fn a_bind_has_its_results_in_the_formats_that_it_asks_for() {
    let (proxy, mut shop) = customers();
    done(&mut shop, "create table plain as select 0 as id, 'x'::text as email, 'y'::text as card limit 0");
    done(&mut shop, "insert into customers values (4, null, '4444')");
    postgres::execute(
        proxy.direct(),
        "insert into plain values (1, 'ann@example.com', '4111'), (2, 'bob@example.com', '4222'),
         (3, 'cat@example.com', '4333'), (4, null, '4444')",
    );
    let mut asked = |table: &str, formats: &[i16], rows: i32| {
        shop.parse("", &format!("select id, email, card, length('x') from {table} order by id"), &[]);
        shop.bind_in("", "", &[], 0, formats);
        shop.describe(b'P', "");
        shop.execute("", rows);
        shop.execute("", 0);
        shop.sync();
        shop.reply()
    };
    for formats in [
        &[][..],
        &[0],
        &[1],
        &[0, 0, 0, 0],
        &[1, 0, 0, 0],
        &[0, 1, 0, 1],
        &[0, 0, 1, 0],
        &[1, 1, 1, 1],
        // Refused by whoever reads them first.
        &[0, 1],
        &[0, 0, 0, 0, 0],
    ] {
        for rows in [0, 3] {
            let (sealed, plain) = (asked("customers", formats, rows), asked("plain", formats, rows));
            assert_eq!(sealed, plain, "{formats:?}, {rows} rows at first");
        }
    }
}

#[test]
fn a_simple_query_that_gives_many_cells_is_the_same_by_the_extended_protocol() {
    let (proxy, mut shop) = customers();
    done(
        &mut shop,
        "create table plain as select n, 'p' || n || '@example.com' as email from generate_series(1, 5000) n",
    );
    let rows: String = (4..=5000).map(|n| format!("{n}\tp{n}@example.com\n")).collect();
    copy_in(&mut shop, "copy customers (id, email) from stdin", &[rows.as_bytes()]).unwrap();
    done(
        &mut shop,
        "update plain set email = 'x' where n = 77; update customers set email = 'x' where id = 77",
    );
    // Only a portal of the extended protocol is listed.
    let sql = |table: &str, key: &str| {
        format!(
            "select {key} as id, email, (select count(*) from pg_cursors) as portals from {table} where {key} > 3 order by 1"
        )
    };
    let plain = shop.query(&sql("plain", "n"));
    assert_eq!((plain.rows.len(), plain.errors.len()), (4997, 0));
    let asked = sql("customers", "id");
    let portals = |reply: &crate::raw::Reply| text(&reply.rows[0][2]);
    let first = shop.query(&asked);
    assert_eq!(first, plain);
    for status in ['I', 'T'] {
        if status == 'T' {
            done(&mut shop, "begin");
        }
        let mut again = shop.query(&asked);
        assert_eq!((portals(&again).as_str(), again.status), ("1", status));
        for row in &mut again.rows {
            row[2] = first.rows[0][2].clone();
        }
        again.status = 'I';
        assert_eq!(again, first);
    }
    // What fails on the way fails as it does otherwise, and the transaction with it.
    postgres::execute(
        proxy.direct(),
        "update customers set email = set_byte(email, 9, 255 - get_byte(email, 9)) where id = 4000",
    );
    let failed = shop.query(&asked);
    assert_eq!((failed.errors.len(), failed.status), (1, 'E'));
    assert!(failed.errors[0].starts_with("XX001 "), "{:?}", failed.errors);
    assert!(failed.rows.len() < 3997);
    done(&mut shop, "rollback");
    let failed = shop.query(&asked);
    assert_eq!((failed.errors.len(), failed.status), (1, 'I'));
    // Few rows, and it goes as it came again.
    done(&mut shop, "delete from customers where id > 100");
    assert_eq!(shop.query(&asked).rows.len(), 97);
    let last = shop.query(&asked);
    assert_eq!((portals(&last).as_str(), last.rows.len()), ("0", 97));
}

#[test]
fn a_client_that_speaks_on_still_reads_why_its_connection_ended() {
    let (_proxy, mut shop) = customers();
    // No message has this type; a driver may be writing its next ones meanwhile.
    shop.send(b"?\0\0\0\x04");
    for _ in 0..3 {
        std::thread::sleep(Duration::from_millis(30));
        shop.try_send(b"Q\0\0\0\x0dselect 1\0").expect("what comes too late is still taken");
    }
    let messages = shop.rest();
    assert!(matches!(messages.as_slice(), [('E', body)] if crate::raw::error(body).starts_with("08P01 ")));
}

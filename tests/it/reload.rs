//! SIGHUP and SIGTERM as operators use them: policy changes reach open connections, mistakes do not, and stopping waits
//! for transactions.

use std::fs;
use std::net::TcpStream;

use crate::proxy::{self, Proxy, eventually};
use crate::raw::{Raw, errors};

fn customers(listen: &str) -> Proxy {
    let proxy = Proxy::start_with(proxy::POLICY, proxy::TAGS, listen);
    let mut shop = Raw::log_in(&proxy.url("shop"));
    for sql in [
        "create table customers (id int primary key, email text unique, card text, joined date)",
        "insert into customers (id, email) values (1, 'ann@example.com')",
    ] {
        assert_eq!(shop.query(sql).errors, [""; 0], "{sql}");
    }
    proxy
}

fn first(raw: &mut Raw, sql: &str) -> Result<String, String> {
    let reply = raw.query(sql);
    match reply.errors.first() {
        Some(error) => Err(error.clone()),
        None => Ok(String::from_utf8(reply.rows[0][0].clone().unwrap_or_default()).unwrap()),
    }
}

#[test]
fn a_new_policy_holds_for_the_next_statement_and_a_wrong_one_never() {
    let proxy = customers("");
    let policy = proxy.dir().join("policy.toml");
    let mut alice = Raw::log_in(&proxy.url("alice"));
    let read = "select email from customers";
    let masked = first(&mut alice, read).unwrap();
    assert_ne!(masked, "ann@example.com");
    alice.parse("again", read, &[]);
    alice.sync();
    alice.reply();
    let executed = |alice: &mut Raw| {
        alice.bind("", "again", &[], [0, 0]);
        alice.execute("", 0);
        alice.sync();
        alice.reply()
    };
    let shown = |reply: &crate::raw::Reply| String::from_utf8(reply.rows[0][0].clone().unwrap()).unwrap();
    assert_eq!(shown(&executed(&mut alice)), masked);

    fs::write(&policy, "default = \"refuse\"\n[[rule]\n").unwrap();
    proxy.reload("the old one holds on");
    assert!(proxy.log().contains("policy.toml:2"), "{}", proxy.log());
    assert_eq!(first(&mut alice, read).unwrap(), masked);
    let (_, metrics) = proxy.get("/metrics").unwrap();
    assert!(metrics.contains("pgveil_config_generation 1"), "{metrics}");
    assert!(metrics.contains("pgveil_config_last_reload_successful 0"), "{metrics}");

    let support =
        proxy::POLICY.split("name = \"support-desk\"").next().unwrap().rsplit_once("[[rule]]").unwrap().0;
    fs::write(&policy, support).unwrap();
    proxy.reload("the new configuration holds");
    let refused = "42501 permission denied for column email of table customers";
    assert_eq!(first(&mut alice, read).unwrap_err(), refused);
    // What was prepared under the old policy is judged by the new one.
    assert_eq!(executed(&mut alice).errors, [refused]);
    let (_, metrics) = proxy.get("/metrics").unwrap();
    assert!(metrics.contains("pgveil_config_generation 2"), "{metrics}");
    assert!(metrics.contains("pgveil_config_last_reload_successful 1"), "{metrics}");

    fs::write(&policy, proxy::POLICY.replace("mask:partial", "clear")).unwrap();
    proxy.reload("the new configuration holds");
    assert_eq!(first(&mut alice, read).unwrap(), "ann@example.com");
    assert_eq!(shown(&executed(&mut alice)), "ann@example.com");
    let shown = proxy.must(&["audit", "show", &proxy.dir().join("audit").display().to_string(), "--json"]);
    assert_eq!(shown.matches("reloaded").count(), 2, "{shown}");
}

#[test]
fn users_come_and_go_with_a_reload() {
    let proxy = customers("");
    proxy.add_user("newcomer");
    let told = first(&mut Raw::log_in(&proxy.url("newcomer")), "select email from customers").unwrap_err();
    assert!(told.starts_with("42501 "), "{told}");
    proxy.must(&["users", "remove", "newcomer"]);
    proxy.reload("the new configuration holds");
    let (_, messages) = Raw::start(&proxy.url("newcomer"));
    assert!(errors(&messages)[0].starts_with("28P01 "), "{messages:?}");
}

#[test]
fn a_new_tag_holds_only_for_what_can_be_kept() {
    let proxy = customers("");
    let mut shop = Raw::log_in(&proxy.url("shop"));
    // A table made before its tag stays clear and is guarded; one made after it is sealed.
    shop.query("create table leads (id int, email text)");
    shop.query("insert into leads values (1, 'lead@example.com')");
    let tags =
        format!("{}\"public.leads.email\" = \"email\"\n\"public.later.email\" = \"email\"\n", proxy::TAGS);
    fs::write(proxy.dir().join("tags.toml"), tags).unwrap();
    proxy.reload("the new configuration holds");
    assert_eq!(first(&mut shop, "select email from leads").unwrap(), "lead@example.com");
    let masked = first(&mut Raw::log_in(&proxy.url("alice")), "select email from leads").unwrap();
    assert!(masked != "lead@example.com" && masked.starts_with('l'), "{masked}");
    let refused = first(&mut Raw::log_in(&proxy.url("intern")), "select email from leads");
    assert_eq!(refused.unwrap_err(), "42501 permission denied for column email of table leads");
    assert_eq!(shop.query("create table later (email text)").errors, [""; 0]);
    shop.query("insert into later values ('later@example.com')");
    assert_eq!(first(&mut shop, "select email from later").unwrap(), "later@example.com");
    let stored = crate::postgres::query(proxy.direct(), "select pg_typeof(email)::text from later");
    assert_eq!(stored, [[Some("pgveil.email_1".to_owned())]]);
}

#[test]
fn stopping_waits_for_transactions_and_for_nothing_else() {
    let mut proxy = customers("");
    let mut idle = Raw::log_in(&proxy.url("shop"));
    let mut busy = Raw::log_in(&proxy.url("shop"));
    busy.query("begin");
    busy.query("insert into customers (id, email) values (2, 'bob@example.com')");
    proxy.signal("TERM");
    assert_eq!(errors(&idle.rest()), ["57P01 terminating connection due to administrator command"]);
    eventually("the listener to close", || TcpStream::connect(("127.0.0.1", proxy.port())).is_err());
    assert_eq!(proxy.get("/readyz").unwrap().0, 503);
    // The transaction goes on, and its end is the end.
    assert_eq!(first(&mut busy, "select email from customers where id = 2").unwrap(), "bob@example.com");
    assert_eq!(busy.query("commit").order, "CZ");
    assert_eq!(errors(&busy.rest()), ["57P01 terminating connection due to administrator command"]);
    assert_eq!(proxy.wait(), Some(0));
    proxy.serve();
    let mut shop = Raw::log_in(&proxy.url("shop"));
    assert_eq!(first(&mut shop, "select count(*) from customers").unwrap(), "2");
    assert!(!proxy.log().contains("put right"), "the log was closed cleanly");

    // A second signal does not wait; what was not committed is rolled back.
    shop.query("begin");
    shop.query("insert into customers (id) values (3)");
    proxy.signal("TERM");
    eventually("the drain", || proxy.log().matches("draining").count() == 2);
    proxy.signal("TERM");
    assert_eq!(errors(&shop.rest()), ["57P01 terminating connection due to administrator command"]);
    assert_eq!(proxy.wait(), Some(0));
    let count = crate::postgres::query(proxy.direct(), "select count(*) from customers");
    assert_eq!(count, [[Some("2".to_owned())]]);
}

#[test]
fn patience_with_transactions_has_an_end() {
    let mut proxy = customers("drain_seconds = 1\n");
    let mut shop = Raw::log_in(&proxy.url("shop"));
    shop.query("begin");
    proxy.signal("TERM");
    assert_eq!(errors(&shop.rest()), ["57P01 terminating connection due to administrator command"]);
    assert_eq!(proxy.wait(), Some(0));
}

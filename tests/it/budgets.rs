//! Rows of an hour and a day, counted by all proxies together: under load, through kills and restarts, in every way that rows leave.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::postgres;
use crate::proxy::Proxy;
use crate::raw::Raw;
use crate::several::Sibling;

/// alice sees masks, and only so many; ada may only compare.
const POLICY: &str = r#"
default = "refuse"
[domain.email]
label = "pii.email"
type = "text"
seal = "deterministic"
[roles]
app = ["shop"]
support = ["alice"]
matching = ["ada"]
[[rule]]
name = "application"
roles = ["app"]
labels = ["*"]
allow = ["read", "compare", "write"]
show = "clear"
[[rule]]
name = "support-desk"
roles = ["support"]
labels = ["pii.*"]
allow = ["read"]
show = "mask:partial"
LIMITS
[[rule]]
name = "matching"
roles = ["matching"]
labels = ["pii.*"]
allow = ["compare", "write"]
show = "null"
write_blind = true
rows_per_hour = 12
"#;

const TAGS: &str = "[columns]\n\"public.customers.email\" = \"email\"\n";

/// Fifty customers, each with an address.
fn fifty(limits: &str) -> Proxy {
    let proxy = Proxy::start(&POLICY.replace("LIMITS", limits), TAGS);
    let mut shop = Raw::log_in(&proxy.url("shop"));
    let rows: Vec<String> = (0..50).map(|id| format!("({id}, 'person{id}@example.com')")).collect();
    let insert = format!("insert into customers values {}", rows.join(", "));
    for sql in ["create table customers (id int primary key, email text unique)", &insert] {
        assert_eq!(shop.query(sql).errors, [""; 0], "{sql}");
    }
    proxy
}

/// What the ledger counts of alice's rows.
fn counted(proxy: &Proxy) -> i64 {
    let sum = "select coalesce(sum(rows), 0) from pgveil.leases where person = 'alice'";
    postgres::query(proxy.direct(), sum)[0][0].as_ref().unwrap().parse().unwrap()
}

const HOURLY: &str = "53400 hourly row limit of rule \"support-desk\" is spent";
const DAILY: &str = "53400 daily row limit of rule \"support-desk\" is spent";

/// One read of `n` rows in one of the ways that rows leave: how many came, and the error.
fn read(raw: &mut Raw, way: u64, n: u64) -> (u64, Option<String>) {
    let select = format!("select email from customers order by id limit {n}");
    let reply = match way % 5 {
        0 => raw.query(&select),
        1 => raw.extended(&select, &[], [1, 1]),
        2 => raw.query(&format!("copy ({select}) to stdout")),
        3 => {
            let array = format!("select json_agg(email) from ({select}) t");
            let reply = raw.query(&array);
            let rows = reply.rows.first().map_or(0, |row| {
                serde_json::from_slice::<Vec<String>>(row[0].as_deref().unwrap_or(b"[]"))
                    .map_or(0, |all| all.len())
            });
            return (rows as u64, reply.errors.into_iter().next());
        }
        _ => {
            raw.query("begin");
            raw.query(&format!("declare pages cursor for {select}"));
            let reply = raw.query("fetch all from pages");
            raw.query("rollback");
            reply
        }
    };
    (reply.rows.len() as u64, reply.errors.into_iter().next())
}

#[test]
fn every_way_out_is_counted_to_the_row() {
    let proxy = fifty("rows_per_hour = 43\nrows_per_day = 1000");
    let mut alice = Raw::log_in(&proxy.url("alice"));
    for way in 0..5 {
        assert_eq!(read(&mut alice, way, 8), (8, None), "{way}");
    }
    // Three are left: a fourth does not leave, in none of them; a document leaves whole or not at all.
    let mut other = Raw::log_in(&proxy.url("alice"));
    assert_eq!(read(&mut other, 3, 4), (0, Some(HOURLY.to_owned())));
    other.query("begin");
    other.parse("", "select email from customers order by id", &[]);
    other.bind("pieces", "", &[], [0, 0]);
    other.execute("pieces", 2);
    other.execute("pieces", 2);
    other.sync();
    let reply = other.reply();
    assert_eq!((reply.rows.len(), reply.errors.as_slice()), (3, &[HOURLY.to_owned()][..]));
    other.query("rollback");
    for way in [0, 1, 2, 3, 4] {
        assert_eq!(read(&mut alice, way, 5), (0, Some(HOURLY.to_owned())), "{way}");
    }
    assert_eq!(Raw::log_in(&proxy.url("shop")).query("select email from customers").rows.len(), 50);
    assert_eq!(counted(&proxy), 43);
    let (_, metrics) = proxy.get("/metrics").unwrap();
    assert!(metrics.contains("pgveil_rows_released_total{label=\"pii.email\"} 93\n"), "{metrics}");
}

/// What is left of a lease goes back: when nobody uses it, and when the proxy stops. What was used is remembered.
#[test]
fn a_restart_or_a_clock_gives_nothing_anew() {
    let mut proxy = fifty("rows_per_day = 400");
    let mut alice = Raw::log_in(&proxy.url("alice"));
    assert_eq!(read(&mut alice, 0, 30), (30, None));
    assert!(counted(&proxy) > 30, "a lease is a block");
    crate::proxy::eventually("the rest to be returned", || counted(&proxy) == 30);
    assert_eq!(read(&mut alice, 0, 20), (20, None));
    drop(alice);
    proxy.signal("TERM");
    assert_eq!(proxy.wait(), Some(0));
    assert_eq!(counted(&proxy), 50, "returned at the end");
    proxy.serve();
    let mut alice = Raw::log_in(&proxy.url("alice"));
    for _ in 0..7 {
        assert_eq!(read(&mut alice, 1, 50), (50, None));
    }
    assert_eq!(read(&mut alice, 0, 1), (0, Some(DAILY.to_owned())));
    // A clock that was in the future once: what it saw then counts on.
    let sql =
        "update pgveil.budgets set minute = minute - 3000; update pgveil.leases set minute = minute - 700";
    postgres::execute(proxy.direct(), sql);
    assert_eq!(read(&mut alice, 0, 1), (0, Some(DAILY.to_owned())));
    // Half a day and more later it is free again. Who clears the ledger by hand gains nothing of what this proxy gave since
    // its start: 350 rows.
    postgres::execute(proxy.direct(), "update pgveil.leases set minute = minute - 742");
    assert_eq!(read(&mut alice, 0, 50), (50, None));
    assert_eq!(read(&mut alice, 0, 1), (0, Some(DAILY.to_owned())));
    proxy.signal("KILL");
    proxy.wait();
    proxy.serve();
    let mut alice = Raw::log_in(&proxy.url("alice"));
    assert_eq!(read(&mut alice, 0, 1), (1, None));
}

#[test]
fn what_cannot_be_counted_is_not_disclosed() {
    let proxy = fifty("rows_per_hour = 100");
    let away = "alter function pgveil.lease(text, text, bigint, bigint, bigint, bigint) rename to away";
    postgres::execute(proxy.direct(), away);
    let mut alice = Raw::log_in(&proxy.url("alice"));
    for way in 0..5 {
        let uncounted = "58030 rows of an hour or a day cannot be counted now".to_owned();
        assert_eq!(read(&mut alice, way, 3), (0, Some(uncounted)), "{way}");
    }
    assert_eq!(
        alice.query("select id from customers").rows.len(),
        50,
        "what discloses nothing needs no count"
    );
    // In a transaction, what was written before goes with it.
    alice.query("begin");
    alice.query("create table mine (id int)");
    assert_eq!(alice.query("select email from customers").status, 'E');
    alice.query("commit");
    assert!(alice.query("select * from mine").errors[0].starts_with("42P01"));
    assert!(proxy.log().contains("rows cannot be counted"), "{}", proxy.log());
}

/// Values compared count as rows do: literals, parameters, elements of arrays, upserts, and unique violations.
#[test]
fn guesses_are_counted_over_the_hour() {
    let proxy = fifty("rows_per_hour = 100");
    proxy.add_user("ada");
    let mut ada = Raw::log_in(&proxy.url("ada"));
    let spent = "53400 hourly comparison limit of rule \"matching\" is spent";
    assert_eq!(ada.query("select id from customers where email in ('a@x.org', 'b@x.org')").errors, [""; 0]);
    let reply = ada.extended(
        "select id from customers where email = $1",
        &[Some(&b"person7@example.com"[..])],
        [0, 0],
    );
    assert_eq!((reply.rows.len(), reply.errors.len()), (1, 0));
    let array = Some(&b"{person1@example.com,person2@example.com,c@x.org}"[..]);
    let reply = ada.extended("select id from customers where email = any($1)", &[array], [0, 0]);
    assert_eq!((reply.rows.len(), reply.errors.len()), (2, 0), "{reply:?}");
    // Six so far. A unique violation tells that the value is there; what goes in tells nothing.
    let violated = ada.query("insert into customers values (100, 'person3@example.com')");
    assert!(violated.errors[0].starts_with("23505 "), "{violated:?}");
    let told = String::from_utf8_lossy(&ada.told).into_owned();
    assert!(!told.contains("Key (") && !told.contains("person3") && !told.contains("\\x"), "{told}");
    assert_eq!(ada.query("insert into customers values (101, 'new@example.com')").errors, [""; 0]);
    // Seven. In one text with others, and in one that is planned in turns.
    let text = "begin; select id from customers where email = 'd@x.org'; select id from customers where email = 'e@x.org'; commit";
    assert_eq!(ada.query(text).errors, [""; 0]);
    let mut other = Raw::log_in(&proxy.url("ada"));
    let text = "set search_path = public; select id from customers where email in ('f@x.org', 'g@x.org')";
    assert_eq!(other.query(text).errors, [""; 0]);
    // Eleven: one is left, and two are too many.
    let two = "select id from customers where email in ('h@x.org', 'i@x.org')";
    assert_eq!(other.query(two).errors, [spent]);
    assert_eq!(ada.extended(two, &[], [0, 0]).errors, [spent]);
    assert_eq!(ada.query("select id from customers where email = 'h@x.org'").errors, [""; 0]);
    for sql in [
        "select id from customers where email = 'i@x.org'",
        "insert into customers values (102, 'j@example.com')",
        "insert into customers values (102, 'j@example.com') on conflict do nothing",
    ] {
        assert_eq!(ada.query(sql).errors, [spent], "{sql}");
    }
    assert_eq!(ada.query("select count(*) from customers").errors, [""; 0]);
    let (_, metrics) = proxy.get("/metrics").unwrap();
    assert!(metrics.contains("pgveil_comparisons_total{label=\"pii.email\"} 12\n"), "{metrics}");
}

/// Rows of one lease at most: an eighth of the limit below.
const LIMIT: u64 = 4000;
const LEASE: u64 = LIMIT / 8;
/// Rows that were on their way to clients of a proxy that was killed.
const ON_THEIR_WAY: u64 = 3 * 50;

#[test]
fn three_proxies_share_one_budget_through_kills_and_restarts() {
    let proxy = fifty(&format!("rows_per_hour = {LIMIT}"));
    let (released, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    // Clients that page, reconnect, and read in every way, until nothing comes any more.
    let load = |url: String, from: u64| {
        for round in from.. {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            let Some(mut alice) = connected(&url) else { return };
            for way in round..round + 3 {
                let (rows, error) = read(&mut alice, way, 1 + (way * 7) % 50);
                released.fetch_add(rows, Ordering::Relaxed);
                match error {
                    Some(error) if error == HOURLY => {
                        // Others may hold rows that they return.
                        std::thread::sleep(Duration::from_millis(300));
                        break;
                    }
                    // Its proxy stops.
                    Some(error) if error.starts_with("57P01") => return,
                    Some(error) => panic!("{error}"),
                    None if rows == 0 => return,
                    None => {}
                }
            }
        }
    };
    let kills = std::thread::scope(|scope| {
        let load = &load;
        let spawn = |sibling: &Sibling, from: u64| {
            for client in 0..3 {
                let url = sibling.url("alice");
                scope.spawn(move || load(url, from + client));
            }
        };
        for client in 0..2 {
            let url = proxy.url("alice");
            scope.spawn(move || load(url, client));
        }
        let mut siblings = vec![Sibling::of(&proxy), Sibling::of(&proxy)];
        siblings.iter().zip([10, 20]).for_each(|(sibling, from)| spawn(sibling, from));
        let mut kills = 0;
        for by in ["KILL", "TERM", "KILL"] {
            let goal = released.load(Ordering::Relaxed) + LIMIT / 8;
            crate::proxy::eventually("some rows", || {
                released.load(Ordering::Relaxed) >= goal.min(LIMIT * 3 / 4)
            });
            siblings.remove(0).end(by);
            kills += u64::from(by == "KILL");
            let new = Sibling::of(&proxy);
            spawn(&new, 30);
            siblings.push(new);
        }
        // Until nothing came for longer than what is held stays held.
        let mut before = u64::MAX;
        while before != released.load(Ordering::Relaxed) {
            before = released.load(Ordering::Relaxed);
            std::thread::sleep(Duration::from_secs(6));
        }
        stop.store(true, Ordering::Relaxed);
        kills
    });
    let released = released.load(Ordering::Relaxed);
    let least = LIMIT - kills * (LEASE + ON_THEIR_WAY);
    assert!((least..=LIMIT).contains(&released), "{released} of {LIMIT} rows left");
    eprintln!("{released} of {LIMIT} rows left through {kills} kills");
}

/// `None`: nobody listens any more.
fn connected(url: &str) -> Option<Raw> {
    let port = url.split(':').nth(3)?.split('/').next()?.parse().ok()?;
    std::net::TcpStream::connect(("127.0.0.1", port)).ok()?;
    let (raw, transcript) = Raw::start(url);
    transcript.last().is_some_and(|(tag, _)| *tag == 'Z').then_some(raw)
}

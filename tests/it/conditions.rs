//! The second factor and breaking the glass, as people meet them: psql, psycopg, and messages of our own.

use std::time::{SystemTime, UNIX_EPOCH};

use totp_rs::{Builder, Secret};

use crate::proxy::{Proxy, eventually, password};
use crate::raw::Raw;
use crate::several::Sibling;
use crate::{postgres, python, tools_java};

/// alice sees masks, and what she has a second factor for in clear; only bob has glass to break.
const POLICY: &str = r#"
default = "refuse"
otp_minutes = 10
break_glass_minutes = 20
[domain.email]
label = "pii.email"
type = "text"
seal = "deterministic"
[domain.card]
label = "payment.card"
type = "text"
seal = "randomized"
[roles]
app = ["shop"]
support = ["alice", "bob"]
duty = ["bob"]
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
[[rule]]
name = "support-clear"
roles = ["support"]
labels = ["pii.*", "payment.*"]
allow = ["read"]
show = "clear"
second_factor = true
[[rule]]
name = "emergency"
roles = ["duty"]
labels = ["payment.*"]
allow = ["read"]
show = "clear"
break_glass = true
"#;

const TAGS: &str =
    "[columns]\n\"public.customers.email\" = \"email\"\n\"public.customers.card\" = \"card\"\n";
const CARD: &str = "4111111111111111";

fn shop() -> Proxy {
    let proxy = Proxy::start(POLICY, TAGS);
    let (_, stderr, code) = postgres::psql(
        &proxy.url("shop"),
        &format!(
            "create table customers (id int primary key, email text, card text);
             insert into customers values (1, 'ann@example.com', '{CARD}')"
        ),
    );
    assert_eq!((stderr.as_str(), code), ("", 0));
    proxy
}

/// An authenticator app.
pub struct App(totp_rs::Totp);

impl App {
    /// Enrolls a user, and scans what the command shows.
    pub fn enrolled(proxy: &Proxy, arguments: &[&str]) -> App {
        let shown = proxy.must(&[&["otp", "enroll", "--json"], arguments].concat());
        proxy.reload("the new configuration holds");
        let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
        App::scan(shown["address"].as_str().unwrap())
    }

    fn scan(address: &str) -> App {
        let (_, rest) = address.split_once("?secret=").unwrap();
        let secret = Secret::try_from_base32(rest.split('&').next().unwrap()).unwrap();
        App(Builder::new().with_secret(secret).build().unwrap())
    }

    /// The code of now, or of so many steps off it.
    pub fn code(&self, off: i64) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        self.0.generate(now.checked_add_signed(off * 30).unwrap()).to_string()
    }
}

/// Waits for the beginning of a step, so that codes made now are about now when they are tried.
pub fn at_a_steps_beginning() {
    eventually("a step with time left", || {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() % 30 < 20
    });
}

/// What a user reads of the card: the cell, or the error.
fn card(raw: &mut Raw) -> String {
    let reply = raw.query("select card from customers");
    match reply.errors.first() {
        Some(error) => error.clone(),
        None => String::from_utf8(reply.rows[0][0].clone().unwrap()).unwrap(),
    }
}

fn set(raw: &mut Raw, code: &str) -> String {
    raw.query(&format!("set pgveil.otp = '{code}'")).errors.into_iter().next().unwrap_or_default()
}

fn status(raw: &mut Raw) -> String {
    String::from_utf8(raw.query("show pgveil.status").rows[0][0].clone().unwrap()).unwrap()
}

const DENIED: &str = "42501 permission denied for column card of table customers";
const WRONG: &str = "28P01 one-time code is wrong";
const USED: &str = "28P01 one-time code was used before";

#[test]
fn a_code_steps_the_session_up_once() {
    let proxy = shop();
    let mut alice = Raw::log_in(&proxy.url("alice"));
    assert_eq!(card(&mut alice), DENIED);
    assert!(String::from_utf8_lossy(&alice.told).contains("SET pgveil.otp = '"), "the hint says how");
    assert_eq!(set(&mut alice, "123456"), "28000 second factor is not set up for this user");

    let app = App::enrolled(&proxy, &["alice"]);
    at_a_steps_beginning();
    let code = app.code(-1);
    assert_eq!(set(&mut alice, &code), "");
    assert_eq!(card(&mut alice), CARD);
    assert!(status(&mut alice).contains("second factor given for 10 min"), "{}", status(&mut alice));
    // For this connection alone, and not again.
    let mut other = Raw::log_in(&proxy.url("alice"));
    assert_eq!(card(&mut other), DENIED);
    assert_eq!(set(&mut other, &code), USED);
    // Nor by another proxy, nor by this one after a restart.
    let sibling = Sibling::of(&proxy);
    let mut there = Raw::log_in(&sibling.url("alice"));
    assert_eq!(set(&mut there, &code), USED);
    assert_eq!(set(&mut there, &app.code(0)), "");
    assert_eq!(card(&mut there), CARD);
    assert_eq!(set(&mut other, &app.code(0)), USED);
    assert_eq!(set(&mut other, &app.code(1)), "");
    assert_eq!(card(&mut other), CARD);

    // It ends with RESET, DISCARD and the connection.
    for (raw, end) in [(&mut other, "reset pgveil.otp"), (&mut there, "reset all")] {
        assert_eq!(raw.query(end).errors, [""; 0]);
        assert_eq!(card(raw), DENIED, "{end}");
        assert!(status(raw).contains("second factor not given"));
    }
    // What is not bound to this user's own line does not open.
    let users = std::fs::read_to_string(proxy.dir().join("users.toml")).unwrap();
    assert!(!users.contains(&app.0.secret().to_base32()), "the secret is sealed");
    std::fs::write(proxy.dir().join("users.toml"), users.replace("\n\"alice\" = \"", "\n\"bob\" = \""))
        .unwrap();
    let (_, stderr, exit) = proxy.run(&["check", "--offline"]);
    assert!(exit == 1 && stderr.contains("the second factor of bob does not open"), "{stderr}");
    std::fs::write(proxy.dir().join("users.toml"), &users).unwrap();

    let shown = proxy.must(&["audit", "show", &proxy.dir().join("audit").display().to_string(), "--json"]);
    for outcome in ["unknown", "given", "used"] {
        assert!(shown.contains(&format!("\"event\":\"second_factor\",\"outcome\":\"{outcome}\"")), "{shown}");
    }
    let (_, metrics) = proxy.get("/metrics").unwrap();
    assert!(metrics.contains("pgveil_second_factors_total{outcome=\"given\"} 2"), "{metrics}");
    // The code went nowhere.
    for place in [proxy.log(), proxy.postgres.log(), shown] {
        assert!(!place.contains(&code), "{code}: {place}");
    }
    assert_eq!(proxy.must(&["otp", "disable", "alice", "--json"]), "{\"user\":\"alice\"}\n");
    proxy.reload("the new configuration holds");
    assert_eq!(set(&mut alice, &app.code(0)), "28000 second factor is not set up for this user");
}

/// An unmodified driver of another language: the hint says the command, and it is a statement like any other.
#[test]
fn pgjdbc_steps_up() {
    let proxy = shop();
    let app = App::enrolled(&proxy, &["alice"]);
    let url =
        format!("jdbc:postgresql://localhost:{}/{}", proxy.port(), postgres::database_name(proxy.direct()));
    let own =
        ["user=alice".to_owned(), format!("password={}", password("alice")), "sslmode=disable".to_owned()];
    let asks = |sql: &str| tools_java::log_in(&url, sql, &own);
    let refused = asks("select card from customers");
    assert!(refused.starts_with("42501: ERROR: permission denied for column card"), "{refused}");
    assert!(refused.contains("Hint: Give the second factor first: SET pgveil.otp = '…'"), "{refused}");
    at_a_steps_beginning();
    let step_up = format!("set pgveil.otp = '{}'\nselect card, email from customers", app.code(0));
    assert_eq!(asks(&step_up), format!("{CARD}|ann@example.com"));
    assert!(asks(&step_up).starts_with("28P01: ERROR: one-time code was used before"));
}

#[test]
fn tries_are_few_and_counted_across_proxies() {
    let proxy = shop();
    let app = App::enrolled(&proxy, &["alice"]);
    let sibling = Sibling::of(&proxy);
    let (mut here, mut there) = (Raw::log_in(&proxy.url("alice")), Raw::log_in(&sibling.url("alice")));
    at_a_steps_beginning();
    let wrong: Vec<String> = (0..1_000_000)
        .map(|code| format!("{code:06}"))
        .filter(|code| (-2..3).all(|off| app.code(off) != *code))
        .take(5)
        .collect();
    for (number, code) in wrong.iter().enumerate() {
        let raw = if number % 2 == 0 { &mut here } else { &mut there };
        assert_eq!(set(raw, code), WRONG, "{number}");
    }
    for raw in [&mut here, &mut there, &mut Raw::log_in(&proxy.url("alice"))] {
        assert_eq!(set(raw, &app.code(0)), "28000 too many wrong one-time codes");
        assert_eq!(card(raw), DENIED);
    }
    // When the time is over (the database's clock says) it counts again, and the next lock is longer.
    let ago = "update pgveil.second_factors set locked_until = clock_timestamp()";
    postgres::execute(proxy.direct(), ago);
    assert_eq!(set(&mut here, &app.code(0)), "");
    assert_eq!(card(&mut here), CARD);
}

#[test]
fn without_the_ledger_no_code_counts() {
    let proxy = shop();
    let app = App::enrolled(&proxy, &["alice"]);
    postgres::execute(proxy.direct(), "alter function pgveil.second_factor(text, bigint) rename to away");
    let mut alice = Raw::log_in(&proxy.url("alice"));
    assert_eq!(set(&mut alice, &app.code(0)), "58030 one-time codes cannot be checked now");
    assert_eq!(card(&mut alice), DENIED);
    let (_, stderr, code) = proxy.run(&["check"]);
    assert!(code == 1 && stderr.contains("rule \"support-clear\" needs the ledger in database"), "{stderr}");
    proxy.must(&["init", "--database", proxy.direct()]);
    assert_eq!(set(&mut alice, &app.code(0)), "");
    assert_eq!(card(&mut alice), CARD);
}

/// In each protocol, in pipelines and texts, in front of what needs it and behind what does not.
#[test]
fn a_code_counts_in_its_turn() {
    let proxy = shop();
    let app = App::enrolled(&proxy, &["alice"]);
    at_a_steps_beginning();
    let mut alice = Raw::log_in(&proxy.url("alice"));
    let text = format!("begin; set pgveil.otp to '{}'; select card from customers; commit", app.code(-1));
    let reply = alice.query(&text);
    assert_eq!(reply.errors, [""; 0]);
    assert_eq!(reply.rows[0][0].as_deref(), Some(CARD.as_bytes()));
    assert_eq!(reply.tags, ["BEGIN", "SET", "SELECT 1", "COMMIT"]);

    let mut alice = Raw::log_in(&proxy.url("alice"));
    for sql in ["select 1", &format!("set pgveil.otp = {}", app.code(0)), "select card from customers"] {
        alice.parse("", sql, &[]);
        alice.bind("", "", &[], [0, 0]);
        alice.execute("", 0);
    }
    alice.sync();
    let reply = alice.reply();
    // The statement is prepared before the code is: as everything that depends on the session, it is planned in its turn.
    assert_eq!(reply.errors, [""; 0]);
    assert_eq!(reply.rows.last().unwrap()[0].as_deref(), Some(CARD.as_bytes()));
    // A wrong one skips to the Sync, as any failed statement.
    alice.parse("", "set pgveil.otp = 'abcdef'", &[]);
    alice.bind("", "", &[], [0, 0]);
    alice.execute("", 0);
    alice.parse("", "select 1", &[]);
    alice.sync();
    let reply = alice.reply();
    assert_eq!((reply.errors.as_slice(), reply.order.as_str()), (&[WRONG.to_owned()][..], "12EZ"));
    for (sql, error) in [
        (
            "set pgveil.otp = '1'; set pgveil.otp = '2'",
            "0A000 several one-time codes in one text are not supported",
        ),
        ("set local pgveil.otp = '123456'", "0A000 SET LOCAL pgveil.otp is not supported through pgveil"),
        (
            "select set_config('pgveil.otp', '123456', false)",
            "0A000 set_config of a pgveil setting is not supported through pgveil",
        ),
    ] {
        assert_eq!(alice.query(sql).errors, [error], "{sql}");
    }
}

#[test]
fn psql_and_psycopg_can_do_it() {
    let proxy = shop();
    // The QR code is for people; the address below it says the same.
    let shown = proxy.must(&["otp", "enroll", "alice"]);
    proxy.reload("the new configuration holds");
    assert!(shown.contains('█') && shown.contains('▀'), "{shown}");
    let app = App::scan(shown.lines().last().unwrap());
    let (_, stderr, _) = proxy.run(&["otp", "enroll", "alice"]);
    assert!(stderr.contains("alice has a second factor"), "{stderr}");
    at_a_steps_beginning();
    let url = proxy.url("alice");
    let (_, stderr, code) = postgres::psql(&url, "select card from customers");
    assert!(
        code == 1 && stderr.contains("HINT:  Give the second factor first: SET pgveil.otp = '"),
        "{stderr}"
    );
    let script = format!("SET pgveil.otp = '{}';\nSELECT card FROM customers;\n", app.code(-1));
    let (stdout, stderr, _) = postgres::psql_with(&url, &["-qAt"], &script);
    assert_eq!((stdout.trim(), stderr.as_str()), (CARD, ""));
    let script = "
import psycopg, sys
with psycopg.connect(sys.argv[1]) as conn:
    try:
        conn.execute('select card from customers')
        sys.exit('it was given')
    except psycopg.errors.InsufficientPrivilege as error:
        assert 'SET pgveil.otp' in error.diag.message_hint
    conn.rollback()
    conn.execute(f\"SET pgveil.otp = '{sys.argv[2]}'\")
    print(conn.execute('select card from customers where id = %s', (1,)).fetchone()[0])
";
    let printed = python::run(&["-c", script, &url, &app.code(0)], &[]);
    assert_eq!(printed.trim(), CARD);
}

#[test]
fn broken_glass_is_for_emergencies_and_seen_by_all() {
    let proxy = shop();
    proxy.add_user("bob");
    let mut bob = Raw::log_in(&proxy.url("bob"));
    assert_eq!(card(&mut bob), DENIED);
    let told = String::from_utf8_lossy(&bob.told).into_owned();
    assert!(told.contains("SET pgveil.otp"), "what needs no emergency is told first: {told}");
    let reason = "payment gateway down, ticket 4711";
    assert_eq!(bob.query(&format!("set pgveil.break_glass = '{reason}'")).errors, [""; 0]);
    assert_eq!(card(&mut bob), CARD);
    assert!(status(&mut bob).contains("glass broken for 20 min"), "{}", status(&mut bob));
    assert_eq!(bob.query("set pgveil.break_glass = ''").errors, [""; 0]);
    assert_eq!(card(&mut bob), DENIED);
    assert_eq!(bob.query("set pgveil.break_glass to 'again'; select card from customers").rows.len(), 1);
    assert_eq!(bob.query("discard all").errors, [""; 0]);
    assert_eq!(card(&mut bob), DENIED);
    let long = "x".repeat(501);
    assert_eq!(
        bob.query(&format!("set pgveil.break_glass = '{long}'")).errors,
        ["22023 the reason for breaking the glass is longer than 500 characters"]
    );
    // Who has no rule for it raises no alarm.
    let mut alice = Raw::log_in(&proxy.url("alice"));
    let denied = "42501 permission denied to break the glass";
    assert_eq!(alice.query("set pgveil.break_glass = 'let me'").errors, [denied]);
    assert_eq!(alice.extended("set pgveil.break_glass = 'let me'", &[], [0, 0]).errors, [denied]);
    let log = proxy.dir().join("audit").display().to_string();
    let shown = proxy.must(&["audit", "show", &log, "--json"]);
    assert!(shown.contains(&format!("\"event\":\"break_glass\",\"reason\":\"{reason}\"")), "{shown}");
    assert!(shown.contains("\"rule\":\"emergency\""), "{shown}");
    let (_, metrics) = proxy.get("/metrics").unwrap();
    assert!(metrics.contains("pgveil_break_glass_total 2\n"), "{metrics}");
    assert!(
        !metrics.contains("4711") && !proxy.log().contains("4711") && !proxy.postgres.log().contains("4711")
    );
    assert!(proxy.log().contains("the glass was broken"), "{}", proxy.log());
}

//! What breaks around the proxy: keys, cells, the database, the disk under the log. Each gives the error that it should;
//! the proxy lives on, and nothing is disclosed that should not be.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::postgres;
use crate::proxy::{self, Proxy, eventually};
use crate::raw::{Raw, errors};

const READ: &str = "select id, email, card from customers order by id";

/// Three customers with cards, and an untagged table.
fn three() -> Proxy {
    let proxy = Proxy::start(proxy::POLICY, proxy::TAGS);
    let mut shop = Raw::log_in(&proxy.url("shop"));
    for sql in [
        "create table customers (id int primary key, email text unique, card text, joined date)",
        "create table visits (id int)",
        "insert into customers values (1, 'ann@example.com', '4111111111111111', '2024-02-29'),
            (2, 'bob@example.com', '5555555555554444', null), (3, 'cyd@example.com', null, null)",
    ] {
        assert_eq!(shop.query(sql).errors, [""; 0], "{sql}");
    }
    proxy
}

fn cell(reply: &crate::raw::Reply, row: usize, column: usize) -> &str {
    std::str::from_utf8(reply.rows[row][column].as_deref().unwrap()).unwrap()
}

#[test]
fn a_wrong_master_key_starts_nothing_and_another_keyring_opens_nothing() {
    let mut proxy = three();
    proxy.signal("TERM");
    assert_eq!(proxy.wait(), Some(0));
    let (master, keyring) = (proxy.dir().join("master.key"), proxy.dir().join("keyring.json"));
    let kept = fs::read(&master).unwrap();
    fs::write(&master, format!("{}\n", "5a".repeat(32))).unwrap();
    let (stdout, stderr, code) = proxy.run(&["serve"]);
    assert_eq!((stdout.as_str(), code), ("", 1));
    assert!(stderr.starts_with("error: ") && stderr.contains("\nhint: "), "{stderr}");
    assert!(stderr.contains("master key") && !stderr.contains("5a5a"), "{stderr}");
    fs::write(&master, "not a key\n").unwrap();
    let (_, stderr, code) = proxy.run(&["serve"]);
    assert!(code == 1 && stderr.contains("\nhint: ") && !stderr.contains("not a key"), "{stderr}");
    // A keyring of the same shape with other keys: as after a restore of the wrong backup.
    fs::write(&master, &kept).unwrap();
    let kept = fs::read(&keyring).unwrap();
    fs::remove_file(&keyring).unwrap();
    proxy.must(&["init", "--database", proxy.direct()]);
    proxy.serve();
    let mut shop = Raw::log_in(&proxy.url("shop"));
    for reply in [shop.query(READ), shop.extended(READ, &[], [1, 1])] {
        assert!(reply.errors[0].starts_with("XX001 sealed cell of column "), "{:?}", reply.errors);
        assert_eq!((reply.rows.len(), reply.status), (0, 'I'));
    }
    assert_eq!(shop.query("select id from customers").rows.len(), 3);
    // A mask is no way round it.
    let masked = Raw::log_in(&proxy.url("alice")).query(READ);
    assert!(masked.errors[0].starts_with("XX001 "), "{:?}", masked.errors);
    fs::write(&keyring, kept).unwrap();
    proxy.reload("the new configuration holds");
    assert_eq!(cell(&shop.query(READ), 0, 1), "ann@example.com");
}

#[test]
fn an_altered_cell_is_an_error_and_no_more() {
    let proxy = three();
    let past = |sql: &str| postgres::try_query(proxy.direct(), sql);
    past("update customers set card = set_byte(card::bytea, 30, get_byte(card::bytea, 30) # 1)::pgveil.card where id = 2")
        .unwrap();
    let mut shop = Raw::log_in(&proxy.url("shop"));
    let reply = shop.query(READ);
    assert!(reply.rows.len() < 2, "{}", reply.order);
    assert_eq!(reply.errors, ["XX001 sealed cell of column public.customers.card does not open"]);
    // In a transaction what was written before is not kept.
    shop.query("begin");
    shop.query("insert into visits values (1)");
    let reply = shop.extended("select card from customers where id = 2", &[], [0, 0]);
    assert_eq!((reply.errors.len(), reply.status), (1, 'E'));
    shop.query("commit");
    let reply = shop.query("update customers set email = null where id = 2 returning card");
    assert_eq!((reply.errors.len(), reply.status), (1, 'I'));
    assert_eq!(past("select count(*) from visits").unwrap(), [[Some("0".to_owned())]]);
    assert_eq!(shop.query("select email from customers").rows.len(), 3);
    // A cell moved in from another domain.
    past("update customers set card = overlay(email::bytea placing substring((select card::bytea from customers where id = 1) from 1 for 5) from 1)::pgveil.card where id = 3").unwrap();
    let reply = shop.query("select card from customers where id = 3");
    assert!(reply.errors[0].starts_with("XX001 "), "{:?}", reply.errors);
    let shown = proxy.must(&["audit", "show", &proxy.dir().join("audit").display().to_string(), "--json"]);
    assert!(shown.contains("XX001"), "{shown}");
}

#[test]
fn plaintext_written_past_the_proxy_is_turned_down_by_the_database() {
    let proxy = three();
    for (sql, state) in [
        ("insert into customers (id, email) values (7, 'eve@example.com')", "23514: "),
        ("update customers set card = '\\x34313131'", "23514: "),
        ("update customers set card = email::bytea", "23514: "),
        ("update customers set joined = '2024-01-01'", "23514: "),
    ] {
        let told = postgres::try_query(proxy.direct(), sql).unwrap_err();
        assert!(told.starts_with(state), "{sql}: {told}");
    }
}

#[test]
fn the_proxy_outlives_the_database() {
    let mut proxy = three();
    let mut shop = Raw::log_in(&proxy.url("shop"));
    shop.query("begin");
    proxy.postgres.stop();
    let told = errors(&shop.rest());
    assert!(told.len() == 1 && (told[0].starts_with("57P0") || told[0].starts_with("08006 ")), "{told:?}");
    let (_, messages) = Raw::start(&proxy.url("shop"));
    let told = errors(&messages);
    assert!(told.len() == 1 && told[0].starts_with("08"), "{told:?}");
    eventually("readiness to end", || proxy.get("/readyz").is_some_and(|(status, _)| status == 503));
    assert!(proxy.get("/readyz").unwrap().1.contains("database: "));
    assert_eq!(proxy.get("/healthz").unwrap().0, 200);
    proxy.postgres.start();
    eventually("readiness to return", || proxy.get("/readyz").is_some_and(|(status, _)| status == 200));
    let mut shop = Raw::log_in(&proxy.url("shop"));
    assert_eq!(cell(&shop.query(READ), 0, 1), "ann@example.com");
    // The administrator ends one session; the client reads the server's own words.
    let pid = shop.query("select pg_backend_pid()");
    postgres::execute(proxy.direct(), &format!("select pg_terminate_backend({})", cell(&pid, 0, 0)));
    assert_eq!(errors(&shop.rest()), ["57P01 terminating connection due to administrator command"]);
}

/// What a client meets while the log cannot be written, and after.
fn without_a_log(proxy: &Proxy, breaks: &dyn Fn(), mends: &dyn Fn()) {
    let mut shop = Raw::log_in(&proxy.url("shop"));
    let mut writer = Raw::log_in(&proxy.url("shop"));
    writer.query("begin");
    writer.query("insert into visits values (1)");
    breaks();
    for reply in [shop.query(READ), shop.extended(READ, &[], [0, 1])] {
        assert_eq!(reply.errors, ["58030 audit log cannot be written"]);
        assert_eq!((reply.rows.len(), reply.status), (0, 'I'));
    }
    // Masks are disclosures too.
    assert_eq!(Raw::log_in(&proxy.url("alice")).query(READ).errors, ["58030 audit log cannot be written"]);
    // What cannot be recorded is not written either, and a transaction around it is rolled back.
    let unrecorded = [
        "insert into customers (id, email) values (9, 'zoe@example.com')",
        "insert into customers (id, email) values (9, 'zoe@example.com') returning id, email",
        "update customers set email = 'x@example.com' where id = 1",
    ];
    for sql in unrecorded {
        assert_eq!(shop.query(sql).errors, ["58030 audit log cannot be written"], "{sql}");
        assert_eq!(shop.extended(sql, &[], [0, 0]).errors, ["58030 audit log cannot be written"], "{sql}");
    }
    let reply = writer.query("select email from customers where id = 1");
    assert_eq!(
        (reply.errors.as_slice(), reply.status),
        (&["58030 audit log cannot be written".to_owned()][..], 'E')
    );
    writer.query("commit");
    // Everything else goes on.
    for sql in ["insert into visits values (2)", "select id from visits", "select count(*) from customers"] {
        let reply = shop.query(sql);
        assert_eq!((reply.errors.as_slice(), reply.status), (&[][..], 'I'), "{sql}");
    }
    let (status, why) = proxy.get("/readyz").unwrap();
    assert!(status == 503 && why.contains("log: the audit log cannot be written"), "{why}");
    mends();
    // Without traffic: whoever sends none because of /readyz would never send any again.
    eventually("readiness to return", || proxy.get("/readyz").is_some_and(|(status, _)| status == 200));
    assert_eq!(cell(&shop.query(READ), 0, 1), "ann@example.com");
    let visits = postgres::query(proxy.direct(), "select id from visits");
    assert_eq!(visits, [[Some("2".to_owned())]]);
    let people = postgres::query(proxy.direct(), "select count(*) from customers");
    assert_eq!(people, [[Some("3".to_owned())]]);
    verified(proxy);
}

fn audit_log(proxy: &Proxy) -> PathBuf {
    proxy.dir().join("audit/log.jsonl")
}

/// The log verifies with the public key alone.
fn verified(proxy: &Proxy) {
    let folder = proxy.dir().join("audit");
    let key = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension().is_some_and(|extension| extension == "pub"))
        .expect("a public key beside the log");
    proxy.must(&[
        "audit",
        "verify",
        "--public-key",
        &key.display().to_string(),
        &folder.display().to_string(),
    ]);
}

#[test]
fn a_log_that_was_removed_discloses_nothing() {
    let proxy = three();
    let mut shop = Raw::log_in(&proxy.url("shop"));
    fs::remove_file(audit_log(&proxy)).unwrap();
    for _ in 0..2 {
        assert_eq!(shop.query(READ).errors, ["58030 audit log cannot be written"]);
    }
    assert_eq!(shop.query("select id from visits").errors, [""; 0]);
}

/// Records in a file that nobody verifies are none: a rotation by renaming stops disclosure until the file is back.
#[test]
fn a_log_that_was_renamed_discloses_nothing() {
    let proxy = three();
    let (log, aside) = (audit_log(&proxy), proxy.dir().join("audit/log.jsonl.1"));
    without_a_log(&proxy, &|| fs::rename(&log, &aside).unwrap(), &|| fs::rename(&aside, &log).unwrap());
}

/// A full disk, played by the limit of a file's size: writing fails in the middle of a line, as it does there.
#[test]
fn a_full_disk_under_the_log_discloses_nothing() {
    let mut proxy = three();
    proxy.signal("TERM");
    proxy.wait();
    proxy.serve_with(|serve| {
        // Past its limit a process is sent SIGXFSZ first.
        let mut shell = Command::new("sh");
        shell.args(["-c", "trap '' XFSZ; exec \"$@\"", "sh"]).arg(serve.get_program()).args(serve.get_args());
        shell
    });
    let limit = |size: &str| {
        let status = Command::new("prlimit").args(["--pid", &proxy.pid().to_string(), size]).status();
        assert!(status.unwrap().success(), "prlimit of util-linux");
    };
    let size = || fs::metadata(audit_log(&proxy)).unwrap().len();
    without_a_log(&proxy, &|| limit(&format!("--fsize={}:unlimited", size() + 20)), &|| {
        limit("--fsize=unlimited")
    });
}

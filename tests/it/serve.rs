//! The rim of a running proxy: sockets, doors, certificates, what a reload may change, and a database that hangs or changes
//! while nobody looks.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use crate::handshake::{Certificates, certificates};
use crate::postgres::{self, psql};
use crate::proxy::{self, POLICY, Proxy, TAGS, eventually, password};
use crate::raw::{Raw, error, errors};

/// Changes one text of `proxy.toml` for another.
fn edit(proxy: &Proxy, from: &str, to: &str) {
    let path = proxy.dir().join("proxy.toml");
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{text}");
    fs::write(&path, text.replacen(from, to, 1)).unwrap();
}

#[test]
fn a_reload_changes_what_it_can_and_names_what_it_cannot() {
    let proxy = Proxy::start_with(POLICY, TAGS, "message_bytes_max = 100000\n");
    let long = format!("select length('{}')", "x".repeat(30_000));
    let mut before = Raw::log_in(&proxy.url("shop"));
    assert_eq!(before.query(&long).errors, [""; 0]);
    let elsewhere = postgres::free_port();
    edit(&proxy, &format!(":{}\"", proxy.port()), &format!(":{elsewhere}\""));
    edit(&proxy, &format!("\"{}\"", proxy.postgres.address()), "\"127.0.0.1:1\"");
    edit(&proxy, "message_bytes_max = 100000", "message_bytes_max = 20000");
    proxy.reload("the new configuration holds");
    let log = proxy.log();
    let named = |setting: &str| log.contains(&format!("\"setting\":\"{setting}\""));
    assert!(named("listen.address") && named("database.address") && !named("audit.path"), "{log}");
    // Whoever is in stays as it was; whoever comes gets what is new, at the old address, of the old database.
    assert_eq!(before.query(&long).errors, [""; 0]);
    let mut after = Raw::log_in(&proxy.url("shop"));
    after.say_query(&long);
    assert_eq!(errors(&after.rest()), ["08P01 message is longer than allowed"]);
    assert_eq!(proxy.get("/readyz").unwrap().0, 200);
}

fn trusts(proxy: &Proxy, files: &Certificates) -> bool {
    let url = format!(
        "host=localhost port={} user=shop password={} dbname={} sslmode=verify-full sslrootcert={}",
        proxy.port(),
        password("shop"),
        postgres::database_name(proxy.direct()),
        files.ca.display()
    );
    psql(&url, "select 1").2 == 0
}

#[test]
fn certificates_are_renewed_by_a_reload() {
    let (old, new) = (certificates("localhost", false), certificates("localhost", false));
    let line = |files: &Certificates| {
        format!("certificate = \"{}\", key = \"{}\"", files.certificate.display(), files.key.display())
    };
    let proxy = Proxy::start_with(POLICY, TAGS, &format!("tls = {{ mode = \"require\", {} }}\n", line(&old)));
    assert!(trusts(&proxy, &old) && !trusts(&proxy, &new));
    edit(&proxy, &line(&old), &line(&new));
    proxy.reload("the new configuration holds");
    assert!(trusts(&proxy, &new) && !trusts(&proxy, &old));
    // A key that belongs to another certificate: the old configuration holds on, whole.
    edit(&proxy, &new.key.display().to_string(), &old.key.display().to_string());
    fs::write(proxy.dir().join("policy.toml"), POLICY.replace("mask:partial", "null")).unwrap();
    proxy.reload("the old one holds on");
    assert!(trusts(&proxy, &new));
    assert!(proxy.get("/metrics").unwrap().1.contains("pgveil_config_generation 2\n"));
}

#[test]
fn strangers_hold_a_bounded_number_of_sockets() {
    let proxy = Proxy::start_with(POLICY, TAGS, "connections_max = 1\nlog_in_seconds = 30\n");
    let mut inside = Raw::log_in(&proxy.url("shop"));
    let silent: Vec<Raw> = (0..101).map(|_| Raw::connect(proxy.port())).collect();
    eventually("all of them to be accepted", || {
        proxy.get("/metrics").unwrap().1.contains("pgveil_connections{state=\"logging_in\"} 101")
    });
    let began = Instant::now();
    let told = errors(&Raw::connect(proxy.port()).rest());
    assert_eq!(told, ["53300 sorry, too many clients already"]);
    // Well before the others' time is up; a machine with much else to do is slow.
    assert!(began.elapsed() < Duration::from_secs(20), "it was not told at once: {:?}", began.elapsed());
    assert_eq!(inside.query("select 1").rows.len(), 1);
    drop(silent);
    eventually("the door to be free", || {
        let mut raw = Raw::connect(proxy.port());
        raw.send(&[0, 0, 0, 9, 0, 3, 0, 0, 0]);
        raw.read().is_some_and(|(tag, body)| tag == 'E' && error(&body).starts_with("28000 "))
    });
}

#[test]
fn a_unix_socket_serves_as_postgresqls_does() {
    let folder = tempfile::tempdir().unwrap();
    let line = format!("unix_socket = \"{}\"\n", folder.path().display());
    let mut proxy = Proxy::start_with(POLICY, TAGS, &line);
    let socket = folder.path().join(format!(".s.PGSQL.{}", proxy.port()));
    assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o777);
    let url = format!(
        "host={} port={} user=shop password={} dbname={}",
        folder.path().display(),
        proxy.port(),
        password("shop"),
        postgres::database_name(proxy.direct())
    );
    assert_eq!(psql(&url, "select current_user").0, "shop\n");
    // What a killed proxy left is taken over; a stopped one leaves nothing.
    proxy.signal("KILL");
    proxy.wait();
    assert!(socket.exists());
    proxy.serve();
    assert_eq!(psql(&url, "select current_user").0, "shop\n");
    let log = proxy.dir().join("audit").display().to_string();
    eventually("the log-in to be recorded", || {
        proxy.must(&["audit", "show", &log, "--json"]).contains("\"address\":\"unix\"")
    });
    proxy.signal("TERM");
    assert_eq!(proxy.wait(), Some(0));
    assert!(!socket.exists());
}

#[test]
fn a_catalog_that_changed_while_nobody_was_in_is_read_before_anybody_is() {
    let tags = format!("{TAGS}\"public.leads.email\" = \"email\"\n");
    let proxy = Proxy::start(POLICY, &tags);
    // Made past the proxy, so that it is stored in clear and guarded by its name only.
    postgres::execute(
        proxy.direct(),
        "create table leads (note text, email text);
         insert into leads values ('green', 'lead@example.com');
         grant select on leads to alice",
    );
    let reply = Raw::log_in(&proxy.url("alice")).query("select note from leads");
    assert_eq!(reply.rows, [[Some(b"green".to_vec())]]);
    std::thread::sleep(Duration::from_millis(2500));
    postgres::execute(proxy.direct(), "alter table leads rename column email to mail");
    // A tag whose column is gone: nobody knows which column is meant now.
    let reply = Raw::log_in(&proxy.url("alice")).query("select note from leads");
    assert!(reply.rows.is_empty() && reply.errors.len() == 1, "{reply:?}");
}

#[test]
fn the_first_tags_end_sessions_that_nobody_judged() {
    let proxy = Proxy::start(POLICY, "");
    let mut session = Raw::log_in(&proxy.url("shop"));
    session.query("set standard_conforming_strings = off");
    let mut busy = Raw::log_in(&proxy.url("shop"));
    busy.query("begin");
    fs::write(proxy.dir().join("tags.toml"), TAGS).unwrap();
    proxy.must(&["init", "--database", proxy.direct()]);
    proxy.reload("the new configuration holds");
    let ended = "57P01 terminating connection because columns of this database are tagged now";
    assert_eq!(errors(&session.rest()), [ended]);
    assert_eq!(busy.query("commit").errors, [""; 0]);
    assert_eq!(errors(&busy.rest()), [ended]);
    let reply = Raw::log_in(&proxy.url("shop")).query("set standard_conforming_strings = off");
    assert!(reply.errors[0].starts_with("0A000 "), "{reply:?}");
}

#[test]
fn strangers_share_one_look_up() {
    let proxy = Proxy::start_with(POLICY, TAGS, "[auth]\nsource = \"database\"\n");
    let connections = || {
        let sql = "select count(*) from pg_stat_activity where usename = 'pgveil'";
        postgres::query(proxy.direct(), sql)[0][0].clone().unwrap().parse::<u32>().unwrap()
    };
    assert_eq!(Raw::log_in(&proxy.url("shop")).query("select 1").rows.len(), 1);
    let before = connections();
    let guesses: Vec<Raw> = (0..10)
        .map(|_| Raw::start(&proxy.url("alice").replace("alice-likes", "alice-loves")))
        .map(|(raw, messages)| {
            assert!(errors(&messages)[0].starts_with("28P01 "), "{messages:?}");
            raw
        })
        .collect();
    assert!(connections() <= before.max(2), "{} connections, then {}", before, connections());
    drop(guesses);
}

/// The process that takes connections, and those that serve the proxy itself.
fn processes(proxy: &Proxy) -> Vec<String> {
    let file = fs::read_to_string(proxy.postgres.data().join("postmaster.pid")).unwrap();
    let own = "select pid from pg_stat_activity where usename = 'pgveil'";
    let backends = postgres::query(proxy.direct(), own).into_iter().map(|row| row[0].clone().unwrap());
    backends.chain(file.lines().next().map(str::to_owned)).collect()
}

#[test]
fn who_connects_for_each_query_finds_the_catalog_read() {
    let proxy = Proxy::start(POLICY, TAGS);
    let connect = || assert_eq!(Raw::log_in(&proxy.url("shop")).query("select 1").rows.len(), 1);
    connect();
    let before = processes(&proxy);
    // Longer than two polls, each of which most likely finds nobody.
    let until = Instant::now() + Duration::from_millis(2500);
    while Instant::now() < until {
        connect();
        std::thread::sleep(Duration::from_millis(200));
    }
    let after = processes(&proxy);
    assert!(before.iter().all(|pid| after.contains(pid)), "{before:?}, then {after:?}");
}

#[test]
fn a_database_that_hangs_is_not_called_ready() {
    let proxy = Proxy::start(POLICY, TAGS);
    let processes = processes(&proxy);
    processes.iter().for_each(|pid| proxy::signal(pid, "STOP"));
    eventually("readiness to end", || proxy.get("/readyz").is_some_and(|(status, _)| status == 503));
    let why = proxy.get("/readyz").unwrap().1;
    assert!(why.contains("did not answer within 5 seconds"), "{why}");
    processes.iter().for_each(|pid| proxy::signal(pid, "CONT"));
    eventually("readiness to return", || proxy.get("/readyz").is_some_and(|(status, _)| status == 200));
}

/// An alert on a column that is never to be sealed would never end.
#[test]
fn only_columns_that_are_to_be_sealed_have_a_ratio() {
    let note = "[domain.note]\nlabel = \"pii.note\"\ntype = \"text\"\nseal = \"none\"\n";
    let policy = POLICY.replace("[roles]", &format!("{note}[roles]"));
    let proxy = Proxy::start(&policy, &format!("{TAGS}\"public.customers.note\" = \"note\"\n"));
    let mut shop = Raw::log_in(&proxy.url("shop"));
    let made = shop.query("create table customers (id int, email text, card text, joined date, note text)");
    assert_eq!(made.errors, [""; 0]);
    let ratio = |column: &str| format!("pgveil_sealed_ratio{{column=\"public.customers.{column}\"}} 1");
    eventually("the ratios", || proxy.get("/metrics").unwrap().1.contains(&ratio("email")));
    let (_, metrics) = proxy.get("/metrics").unwrap();
    assert!(metrics.contains(&ratio("card")) && !metrics.contains("customers.note"), "{metrics}");
}

/// A proxy that was just started, and that nobody needs yet, must not say that nothing is sealed, or say nothing.
#[test]
fn ratios_are_known_before_anybody_connects() {
    let mut proxy = Proxy::start(POLICY, TAGS);
    postgres::execute(proxy.direct(), "create table customers (id int, email \"pgveil\".email_1, card text)");
    proxy.signal("TERM");
    proxy.wait();
    proxy.serve();
    let ratio = |column: &str| {
        let (_, metrics) = proxy.get("/metrics")?;
        let name = format!("pgveil_sealed_ratio{{column=\"public.customers.{column}\"}} ");
        metrics.lines().find_map(|line| line.strip_prefix(&name).map(str::to_owned))
    };
    eventually("the ratios", || ratio("email").is_some());
    assert_eq!((ratio("email").as_deref(), ratio("card").as_deref()), (Some("1"), Some("0")));
}

/// A core file would hold every key.
#[test]
fn no_core_is_dumped() {
    use std::os::unix::process::ExitStatusExt;
    let mut proxy = Proxy::start(POLICY, TAGS);
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", proxy.pid())).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().collect::<Vec<_>>()[4..6], ["0", "0"], "{core}");
    assert!(proxy.log().contains("memory is"), "it says whether memory is locked: {}", proxy.log());
    proxy.signal("ABRT");
    let status = proxy.wait_status();
    assert_eq!(status.signal(), Some(6));
    assert!(!status.core_dumped());
}

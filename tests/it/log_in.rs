//! Logging in through the running proxy with libpq: TLS, and what people see when they are not let in.

use crate::handshake::certificates;
use crate::postgres;
use crate::proxy::{POLICY, Proxy, TAGS, eventually, password};
use crate::raw::Raw;

/// psql through the proxy: standard output without its last newline, or the last line of standard error.
fn log_in(proxy: &Proxy, user: &str, password: &str, more: &str) -> Result<String, String> {
    let database = postgres::database_name(proxy.direct());
    let url = format!(
        "host=localhost port={} user={user} password={password} dbname={database} {more}",
        proxy.port()
    );
    match postgres::psql(&url, "select session_user") {
        (stdout, _, 0) => Ok(stdout.trim_end().to_owned()),
        (_, stderr, _) => Err(stderr.trim_end().rsplit("FATAL:  ").next().unwrap_or_default().to_owned()),
    }
}

#[test]
fn people_log_in_by_tls_and_are_told_why_when_they_are_not_let_in() {
    let files = certificates("localhost", false);
    let listen = format!(
        "tls = {{ mode = \"require\", certificate = \"{}\", key = \"{}\" }}",
        files.certificate.display(),
        files.key.display()
    );
    let proxy = Proxy::start_with(POLICY, TAGS, &listen);
    let shop = password("shop");
    let verified = format!("sslmode=verify-full sslrootcert={}", files.ca.display());
    for more in [&*verified, "sslmode=require", "sslmode=prefer"] {
        assert_eq!(log_in(&proxy, "shop", &shop, more).as_deref(), Ok("shop"), "{more}");
    }
    let refused = |user: &str, password: &str, more: &str| {
        log_in(&proxy, user, password, more).expect_err("it is not let in")
    };
    let clear = refused("shop", &shop, "sslmode=disable");
    assert!(clear.starts_with("this server requires an encrypted connection"), "{clear}");

    let wrong = |user: &str| format!("password authentication failed for user \"{user}\"");
    assert_eq!(refused("shop", "guess", "sslmode=require"), wrong("shop"));
    assert_eq!(refused("nobody", "guess", "sslmode=require"), wrong("nobody"));
    let nowhere = refused("shop", &shop, "sslmode=require dbname=nowhere");
    assert_eq!(nowhere, "database \"nowhere\" does not exist");
    let purpose = refused("shop", &shop, "sslmode=require options='-c pgveil.purpose=x'");
    assert!(purpose.starts_with("start-up option pgveil.purpose is not supported"), "{purpose}");
    let replication = refused("shop", &shop, "sslmode=require replication=database");
    assert!(replication.starts_with("a replication connection is not supported"), "{replication}");

    // Whoever administers PostgreSQL can change a password there; it opens nothing here, neither the new nor the old.
    postgres::execute(proxy.direct(), "alter role shop password 'mine now'");
    assert_eq!(refused("shop", "'mine now'", "sslmode=require"), wrong("shop"));
    assert_eq!(refused("shop", &shop, "sslmode=require"), wrong("shop"));
    // No verifier of ours: PostgreSQL's own superuser is nobody to the proxy.
    assert_eq!(
        refused(postgres::SUPERUSER, postgres::PASSWORD, "sslmode=require"),
        wrong(postgres::SUPERUSER)
    );
}

/// PostgreSQL says nothing and closes; the attempt is told of as one with a wrong password is.
#[test]
fn who_stalls_in_log_in_is_let_go_and_recorded() {
    let proxy = Proxy::start_with(POLICY, TAGS, "log_in_seconds = 2\n");
    let mut silent = Raw::connect(proxy.port());
    let mut stalled = Raw::connect(proxy.port());
    let packet = b"\0\x03\0\0user\0mallory\0\0";
    stalled.send(&u32::try_from(packet.len() + 4).unwrap().to_be_bytes());
    stalled.send(packet);
    let told: Vec<char> = stalled.rest().into_iter().map(|(tag, _)| tag).collect();
    assert_eq!(told, ['R'], "the request for a password and no more");
    assert_eq!(silent.rest(), []);
    // The sockets close before it is written down.
    let told = || proxy.log().matches("log-in took too long").count();
    eventually("both to be told of", || told() >= 2);
    assert_eq!(told(), 2, "{}", proxy.log());
    let audit = proxy.dir().join("audit").display().to_string();
    let show = || proxy.must(&["audit", "show", &audit, "--json"]);
    eventually("the record", || show().contains("log_in_failed"));
    let records = show();
    let failed: Vec<&str> = records.lines().filter(|line| line.contains("log_in_failed")).collect();
    assert!(
        failed.len() == 1 && failed[0].contains("\"mallory\"") && failed[0].contains("log-in took too long"),
        "who said no name has no record: {records}"
    );
}

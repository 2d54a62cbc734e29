//! The database's side of a new connection, against real PostgreSQL: the log-in with keys that a client's proof revealed,
//! what the database refuses, how it may ask for the password, and how much its certificate has to prove.

use crate::handshake::{Certificates, certificates, prove};
use crate::postgres::{self, Postgres};
use pgveil::auth::scram::{Credential, Secret};
use pgveil::auth::{LoggedIn, Verifier};
use pgveil::server::settings::{DatabaseAddress, DatabaseSettings, DatabaseTls};
use pgveil::server::startup::Rejection;
use pgveil::server::tls::DatabaseConnector;
use pgveil::server::upstream::{self, Upstream};
use pgveil::wire::backend::{self, DataRow};
use pgveil::wire::{Limits, frontend};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use zeroize::Zeroizing;

const LIMITS: Limits = Limits { message_bytes_max: 1 << 20 };

fn settings(address: DatabaseAddress, tls: DatabaseTls, ca: Option<PathBuf>) -> DatabaseSettings {
    DatabaseSettings {
        address,
        tls,
        ca,
        service_user: "pgveil".to_owned(),
        service_password: None,
        service_password_file: None,
        service_database: "postgres".to_owned(),
        session_pooler: false,
    }
}

fn tcp(server: &Postgres) -> DatabaseAddress {
    DatabaseAddress::Tcp("127.0.0.1".to_owned(), server.port())
}

/// SQLSTATE, message and detail as the client would be told.
fn told(rejection: &Rejection) -> String {
    match rejection {
        Rejection::Tell(fields) | Rejection::Undisclosed(fields, _) => {
            assert_eq!(fields.severity(), "FATAL");
            let texts = [b'C', b'M', b'D'].map(|kind| fields.get(kind).unwrap_or_default());
            texts.join(" ").trim_end().to_owned()
        }
        Rejection::Silent(why) => format!("silent: {why}"),
    }
}

/// The verifier that PostgreSQL has of a role.
fn stored(server: &Postgres, user: &str) -> Verifier {
    let sql = format!("select rolpassword from pg_authid where rolname = '{user}'");
    let rows = postgres::query(&server.url("postgres"), &sql);
    Verifier::parse(rows[0][0].as_deref().unwrap()).unwrap()
}

/// Proves the password to us by the verifier, then logs in there with no more than what that left.
async fn log_in(
    settings: &DatabaseSettings,
    user: &str,
    verifier: Verifier,
    password: &str,
    more: &[(&str, &str)],
) -> Result<Upstream, String> {
    let proved = prove(password, verifier).await.expect("the password is the verifier's");
    let secret = LoggedIn::by_password(user, BTreeSet::new(), proved).secret;
    let parameters: Vec<(String, String)> = [("user", user)]
        .iter()
        .chain(more)
        .map(|(name, value)| (name.to_string(), value.to_string()))
        .collect();
    let connector = DatabaseConnector::new(settings).map_err(|error| error.0)?;
    let socket =
        upstream::socket(&settings.address, &connector).await.map_err(|rejection| told(&rejection))?;
    Upstream::log_in(socket, &parameters, user, user, secret).await.map_err(|rejection| told(&rejection))
}

/// The first column of the first row.
async fn ask(upstream: &mut Upstream, sql: &str) -> String {
    upstream.server.send(frontend::encode_query(sql).bytes()).await.unwrap();
    let mut answer = String::new();
    loop {
        let frame = upstream.server.frame(&LIMITS).await.unwrap();
        match frame.tag() {
            backend::DATA_ROW => {
                let value = DataRow::view(&frame).unwrap().next().unwrap().unwrap_or_default();
                answer = String::from_utf8(value.to_vec()).unwrap();
            }
            backend::READY_FOR_QUERY => return answer,
            backend::ERROR_RESPONSE => panic!("{:?}", backend::ErrorFields::view(&frame).unwrap().get(b'M')),
            _ => {}
        }
    }
}

#[tokio::test]
async fn what_a_proof_reveals_logs_in_over_tcp_and_socket() {
    let server = postgres::shared();
    postgres::execute(&server.url("postgres"), "create role up_ada login password 'analytical engine'");
    let verifier = stored(server, "up_ada");
    let socket = DatabaseAddress::Unix(server.dir().to_owned(), server.port());
    for address in [tcp(server), socket] {
        let settings = settings(address, DatabaseTls::Prefer, None);
        let more = [
            ("database", "postgres"),
            ("application_name", "notes"),
            ("client_encoding", "'utf-8'"),
            ("options", "-c geqo=off"),
            ("search_path", "pg_catalog"),
        ];
        let found = log_in(&settings, "up_ada", verifier.clone(), "analytical engine", &more).await;
        let mut upstream = found.unwrap_or_else(|error| panic!("{error}"));
        let reported = |name: &str| {
            upstream.parameters.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
        };
        assert_eq!(reported("application_name"), Some("notes"));
        assert_eq!(reported("client_encoding"), Some("UTF8"));
        assert_eq!(reported("session_authorization"), Some("up_ada"));
        assert!(upstream.process_id > 0 && upstream.secret.len() == 4);
        assert_eq!(&upstream.ready[..], b"Z\0\0\0\x05I");
        let greeting = String::from_utf8_lossy(&upstream.greeting).into_owned();
        assert!(greeting.contains("server_version") && greeting.starts_with('S'), "{greeting}");
        let sql =
            "select concat_ws(' ', session_user, current_setting('geqo'), current_setting('search_path'))";
        assert_eq!(ask(&mut upstream, sql).await, "up_ada off pg_catalog");
    }
}

#[tokio::test]
async fn the_databases_refusal_is_the_clients() {
    let server = postgres::shared();
    postgres::execute(
        &server.url("postgres"),
        "create role up_bob login password 'first';
         create role up_out nologin password 'first'; create role up_full login password 'first' connection limit 0",
    );
    let settings = settings(tcp(server), DatabaseTls::Off, None);
    let attempt = async |user: &str, database: &str| {
        let found = log_in(&settings, user, stored(server, user), "first", &[("database", database)]).await;
        found.err().unwrap_or_default()
    };
    assert_eq!(attempt("up_bob", "nowhere").await, "3D000 database \"nowhere\" does not exist");
    assert_eq!(attempt("up_out", "postgres").await, "28000 role \"up_out\" is not permitted to log in");
    assert_eq!(attempt("up_full", "postgres").await, "53300 too many connections for role \"up_full\"");

    // Someone changes the password behind our back: our verifier proves nothing any more.
    let ours = stored(server, "up_bob");
    postgres::execute(&server.url("postgres"), "alter role up_bob password 'second'");
    let found = log_in(&settings, "up_bob", ours, "first", &[]).await.err().unwrap();
    assert_eq!(found, "28P01 password authentication failed for user \"up_bob\"");

    // With the same salt the proof is sent; the server itself finds it wrong.
    let same_salt = Verifier::from_password("first", &stored(server, "up_bob").salt, 4096);
    let found = log_in(&settings, "up_bob", same_salt, "first", &[]).await.err().unwrap();
    assert_eq!(found, "28P01 password authentication failed for user \"up_bob\"");
}

/// For one who proved no password: another role than the client's, whose name still says which database is meant.
#[tokio::test]
async fn a_kept_password_logs_in_as_its_role() {
    let server = postgres::shared();
    postgres::execute(&server.url("postgres"), "create role up_desk login password 'unknown to carol'");
    let settings = settings(tcp(server), DatabaseTls::Off, None);
    let attempt = async |password: &str, more: &[(&str, &str)]| {
        let own = [("user", "postgres"), ("user", "carol")];
        let parameters = own.iter().chain(more).map(|(name, value)| (name.to_string(), value.to_string()));
        let parameters: Vec<(String, String)> = parameters.collect();
        let connector = DatabaseConnector::new(&settings).unwrap();
        let socket =
            upstream::socket(&settings.address, &connector).await.unwrap_or_else(|_| panic!("no socket"));
        let secret = Secret::Kept(Arc::new(Credential::new(Zeroizing::new(password.to_owned()))));
        Upstream::log_in(socket, &parameters, "carol", "up_desk", secret).await.map_err(|error| told(&error))
    };
    let mut upstream =
        attempt("unknown to carol", &[("database", "postgres")]).await.unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(ask(&mut upstream, "select session_user").await, "up_desk");
    for named in [&[][..], &[("database", "")]] {
        let own = attempt("unknown to carol", named).await.err().unwrap_or_default();
        assert_eq!(own, "3D000 database \"carol\" does not exist");
    }
    let wrong = attempt("wrong", &[("database", "postgres")]).await.err().unwrap_or_default();
    assert!(wrong.starts_with("28000 pgveil cannot log in to the database as role \"up_desk\""), "{wrong}");
}

#[tokio::test]
async fn a_database_that_is_not_there_is_said_to_be() {
    let port = postgres::free_port();
    for (address, cause) in [
        (DatabaseAddress::Tcp("127.0.0.1".to_owned(), port), "Connection refused"),
        (DatabaseAddress::Unix(PathBuf::from("/nowhere"), port), "No such file"),
    ] {
        let settings = settings(address, DatabaseTls::Off, None);
        let verifier = Verifier::from_password("x", &[0; 16], 4096);
        let error = log_in(&settings, "ada", verifier, "x", &[]).await.err().unwrap();
        assert!(error.starts_with("08001 could not connect to the database server"), "{error}");
        assert!(error.contains(cause), "{error}");
    }
}

/// Replaces the rules by which a private server lets users in.
fn set_hba(server: &Postgres, rules: &str) {
    let always = format!("host all {} 127.0.0.1/32 scram-sha-256\n", postgres::SUPERUSER);
    std::fs::write(server.data().join("pg_hba.conf"), format!("{always}{rules}")).unwrap();
    postgres::execute(&server.url("postgres"), "select pg_reload_conf(); select pg_sleep(0.3)");
}

#[tokio::test]
async fn a_database_that_asks_otherwise_is_named() {
    let server = Postgres::private();
    postgres::execute(
        &server.url("postgres"),
        "create role ada login password 'x'; set password_encryption = 'md5'; create role old login password 'x'",
    );
    let verifier = stored(&server, "ada");
    let settings = settings(tcp(&server), DatabaseTls::Prefer, None);
    let database = [("database", "postgres")];
    for (method, user, expected) in [
        ("trust", "ada", ""),
        ("password", "ada", "28000 the database asks for a password in clear, which pgveil cannot answer"),
        ("md5", "old", "28000 the database asks for an md5 password, which pgveil cannot answer"),
        ("md5", "ada", ""),
        (
            "reject",
            "ada",
            "28000 pg_hba.conf rejects connection for host \"127.0.0.1\", user \"ada\", database \"postgres\", no encryption",
        ),
    ] {
        set_hba(&server, &format!("host all all 127.0.0.1/32 {method}\n"));
        let found = log_in(&settings, user, verifier.clone(), "x", &database).await;
        assert_eq!(found.err().unwrap_or_default(), expected, "{method}");
    }
}

/// Gives a private server this certificate.
fn turn_tls_on(server: &Postgres, files: &Certificates) {
    for (from, to, setting) in
        [(&files.certificate, "tls.crt", "ssl_cert_file"), (&files.key, "tls.key", "ssl_key_file")]
    {
        let path = server.dir().join(to);
        std::fs::copy(from, &path).unwrap();
        server.own(&path);
        postgres::execute(
            &server.url("postgres"),
            &format!("alter system set {setting} = '{}'", path.display()),
        );
    }
    postgres::execute(&server.url("postgres"), "alter system set ssl = on");
    postgres::execute(&server.url("postgres"), "select pg_reload_conf(); select pg_sleep(0.3)");
}

#[tokio::test]
async fn the_databases_certificate_proves_as_much_as_is_asked() {
    let server = Postgres::private();
    postgres::execute(&server.url("postgres"), "create role ada login password 'x'");
    let verifier = stored(&server, "ada");
    let attempt = async |tls: DatabaseTls, ca: Option<&PathBuf>| {
        let settings = settings(tcp(&server), tls, ca.cloned());
        match log_in(&settings, "ada", verifier.clone(), "x", &[("database", "postgres")]).await {
            Ok(mut upstream) => {
                ask(&mut upstream, "select ssl::text from pg_stat_ssl where pid = pg_backend_pid()").await
            }
            Err(error) => error,
        }
    };
    let (off, full, chain) = (DatabaseTls::Off, DatabaseTls::VerifyFull, DatabaseTls::VerifyCa);
    let stranger = certificates("127.0.0.1", false);
    assert_eq!(attempt(DatabaseTls::Prefer, None).await, "false");
    let plain = attempt(DatabaseTls::Require, None).await;
    assert!(plain.ends_with("It does not speak TLS, which database.tls requires."), "{plain}");
    assert!(attempt(full, None).await.starts_with("database.tls needs ca"));

    let ours = certificates("127.0.0.1", false);
    turn_tls_on(&server, &ours);
    assert_eq!(attempt(off, None).await, "false");
    for (tls, ca) in [
        (DatabaseTls::Prefer, None),
        (DatabaseTls::Require, None),
        (chain, Some(&ours.ca)),
        (full, Some(&ours.ca)),
    ] {
        assert_eq!(attempt(tls, ca).await, "true", "{tls:?}");
    }
    for tls in [chain, full] {
        let error = attempt(tls, Some(&stranger.ca)).await;
        assert!(error.contains("invalid peer certificate"), "{error}");
    }

    // Another name: the chain holds, the name does not.
    let other = certificates("db.example.com", false);
    turn_tls_on(&server, &other);
    assert_eq!(attempt(chain, Some(&other.ca)).await, "true");
    assert!(attempt(full, Some(&other.ca)).await.contains("not valid for name"));

    // One certificate that is its own authority, as `openssl req -x509` makes it.
    let single = certificates("127.0.0.1", true);
    turn_tls_on(&server, &single);
    assert_eq!(attempt(full, Some(&single.ca)).await, "true");
    assert!(attempt(full, Some(&stranger.ca)).await.contains("invalid peer certificate"));
    let misnamed = certificates("db.example.com", true);
    turn_tls_on(&server, &misnamed);
    assert_eq!(attempt(chain, Some(&misnamed.ca)).await, "true");
    assert!(attempt(full, Some(&misnamed.ca)).await.contains("not valid for name"));
}

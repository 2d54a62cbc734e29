//! Who a client is: proofs bound to the TLS channel, certificates in a user's name, addresses that a load balancer tells, and
//! guesses that are held off; with real psql.

use crate::postgres::{self, psql_with};
use crate::proxy::{Proxy, eventually, password};
use crate::raw::Raw;
use crate::tools_java;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

const POLICY: &str = "default = \"refuse\"\n";

pub type Issuer = CertifiedIssuer<'static, KeyPair>;

pub fn authority() -> Issuer {
    let mut parameters = CertificateParams::new(Vec::new()).unwrap();
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    parameters.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign, rcgen::KeyUsagePurpose::CrlSign];
    CertifiedIssuer::self_signed(parameters, KeyPair::generate().unwrap()).unwrap()
}

/// A certificate for a name, and its key, in files.
pub fn issue(
    authority: &Issuer,
    folder: &Path,
    file: &str,
    names: &[&str],
    common: &str,
    serial: u64,
) -> [PathBuf; 2] {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut parameters = CertificateParams::new(names).unwrap();
    parameters.distinguished_name.push(DnType::CommonName, common);
    parameters.serial_number = Some(serial.into());
    let key = KeyPair::generate().unwrap();
    let certificate = parameters.signed_by(&key, authority).unwrap();
    [("crt", certificate.pem()), ("key", key.serialize_pem())].map(|(extension, pem)| {
        let path = folder.join(format!("{file}.{extension}"));
        fs::write(&path, pem).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    })
}

/// A list of one revoked certificate, as `clients.crl`.
pub fn revoke(authority: &Issuer, folder: &Path, serial: u64) {
    let revoked = rcgen::RevokedCertParams {
        serial_number: serial.into(),
        revocation_time: rcgen::date_time_ymd(2026, 1, 1),
        reason_code: None,
        invalidity_date: None,
    };
    let list = rcgen::CertificateRevocationListParams {
        this_update: rcgen::date_time_ymd(2026, 1, 1),
        next_update: rcgen::date_time_ymd(2100, 1, 1),
        crl_number: 1u64.into(),
        issuing_distribution_point: None,
        revoked_certs: vec![revoked],
        key_identifier_method: rcgen::KeyIdMethod::Sha256,
    };
    fs::write(folder.join("clients.crl"), list.signed_by(authority).unwrap().pem().unwrap()).unwrap();
}

/// A proxy that speaks TLS as `tls` says, with its certificate and an authority for clients in its folder.
fn proxy(tls: &str, files: impl FnOnce(&Path, &Issuer)) -> Proxy {
    let mut proxy = Proxy::start(POLICY, "[columns]\n");
    let authority = authority();
    let folder = proxy.dir().to_owned();
    fs::write(folder.join("ca.crt"), authority.pem()).unwrap();
    issue(&authority, &folder, "server", &["localhost"], "localhost", 1);
    files(&folder, &authority);
    let file = folder.join("proxy.toml");
    let text = fs::read_to_string(&file).unwrap();
    let own =
        format!("tls = {{ mode = \"prefer\", certificate = \"server.crt\", key = \"server.key\"{tls} }}");
    fs::write(&file, text.replacen("[database]", &format!("{own}\n[database]"), 1)).unwrap();
    proxy.signal("TERM");
    assert_eq!(proxy.wait(), Some(0));
    proxy.serve();
    proxy
}

/// What psql says as `user` with these connection parameters: its output or its error.
fn asks(proxy: &Proxy, user: &str, more: &str) -> Result<String, String> {
    let database = postgres::database_name(proxy.direct());
    let url = format!(
        "host=localhost port={} dbname={database} user={user} password={} sslrootcert={} {more}",
        proxy.port(),
        password(user),
        proxy.dir().join("ca.crt").display()
    );
    let (out, err, code) = psql_with(&url, &["-At", "-c", "select current_user"], "");
    if code == 0 { Ok(out.trim().to_owned()) } else { Err(err) }
}

#[test]
fn psql_binds_its_proof_to_the_channel() {
    let proxy = proxy("", |_, _| {});
    let required = "sslmode=verify-full channel_binding=require";
    assert_eq!(asks(&proxy, "shop", required), Ok("shop".to_owned()));
    for more in [
        "sslmode=verify-full channel_binding=disable",
        "sslmode=require",
        "sslmode=disable channel_binding=prefer",
    ] {
        assert_eq!(asks(&proxy, "shop", more), Ok("shop".to_owned()), "{more}");
    }
    let refused = asks(&proxy, "shop", "sslmode=disable channel_binding=require").unwrap_err();
    assert!(refused.contains("channel binding"), "{refused}");
}

#[test]
fn the_drivers_bind_their_proof_to_the_channel() {
    let proxy = proxy("", |_, _| {});
    let script = format!(
        "import psycopg\nc = psycopg.connect(\"host=localhost port={} dbname={} user=shop password={} sslmode=verify-full \
         sslrootcert={} channel_binding=require\")\nprint(c.execute('select current_user').fetchone()[0])",
        proxy.port(),
        postgres::database_name(proxy.direct()),
        password("shop"),
        proxy.dir().join("ca.crt").display()
    );
    let output =
        std::process::Command::new(crate::python::interpreter()).args(["-c", &script]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "shop", "{output:?}");
}

#[test]
fn pgjdbc_binds_its_proof_to_the_channel() {
    let proxy = proxy("", |_, _| {});
    let url =
        format!("jdbc:postgresql://localhost:{}/{}", proxy.port(), postgres::database_name(proxy.direct()));
    let ca = format!("sslrootcert={}", proxy.dir().join("ca.crt").display());
    let log_in = |more: &[&str]| {
        let own = ["user=shop", &ca, &format!("password={}", password("shop"))].map(str::to_owned);
        let properties: Vec<String> = own.into_iter().chain(more.iter().map(|&one| one.to_owned())).collect();
        tools_java::log_in(&url, "select current_user", &properties)
    };
    assert_eq!(log_in(&["sslmode=verify-full", "channelBinding=require"]), "shop");
    // Where it is not to be had, whoever requires it does not log in.
    let refused = log_in(&["sslmode=disable", "channelBinding=require"]);
    assert!(refused.contains("Channel Binding is required"), "{refused}");
}

#[test]
fn a_certificate_is_in_a_users_name_and_can_be_revoked() {
    let tls = ", client_ca = \"ca.crt\", client_crl = \"clients.crl\", client_certificate = \"verify-full\"";
    let proxy = proxy(tls, |folder, authority| {
        issue(authority, folder, "shop", &[], "shop", 2);
        issue(authority, folder, "gone", &[], "shop", 3);
        issue(authority, folder, "lee", &[], "Ann Lee", 4);
        revoke(authority, folder, 3);
    });
    let with = |name: &str| {
        let file = |extension| proxy.dir().join(format!("{name}.{extension}"));
        format!("sslmode=verify-full sslcert={} sslkey={}", file("crt").display(), file("key").display())
    };
    assert_eq!(asks(&proxy, "shop", &with("shop")), Ok("shop".to_owned()));
    let other = asks(&proxy, "alice", &with("shop")).unwrap_err();
    assert!(other.contains("certificate authentication failed for user \"alice\""), "{other}");
    assert!(asks(&proxy, "shop", &with("gone")).is_err(), "a revoked certificate");
    assert!(asks(&proxy, "shop", "sslmode=verify-full sslcert=/nowhere sslkey=/nowhere").is_err(), "none");
    // As the map says, which is read again, and no name stands for itself beside it.
    let file = proxy.dir().join("proxy.toml");
    let text = fs::read_to_string(&file).unwrap();
    let map = "[auth.certificate]\nmap = { \"Ann Lee\" = [\"alice\", \"intern\"] }\n";
    fs::write(&file, text + map).unwrap();
    proxy.reload("the new configuration holds");
    for user in ["alice", "intern"] {
        assert_eq!(asks(&proxy, user, &with("lee")), Ok(user.to_owned()));
    }
    assert!(asks(&proxy, "shop", &with("lee")).is_err() && asks(&proxy, "shop", &with("shop")).is_err());
    // Without TLS there is no certificate.
    let clear = asks(&proxy, "shop", "sslmode=disable").unwrap_err();
    assert!(clear.contains("certificate authentication failed"), "{clear}");
}

/// A PROXY header, version 2, for a client at 203.0.113.9:5000.
fn header() -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c".to_vec();
    header.extend([203, 0, 113, 9, 127, 0, 0, 1]);
    header.extend(5000u16.to_be_bytes());
    header.extend(5432u16.to_be_bytes());
    header
}

/// Sends bytes, then a request for encryption; what is answered.
fn answer(port: u16, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.write_all(bytes).unwrap();
    let _ = stream.write_all(&[0, 0, 0, 8, 4, 210, 22, 47]);
    let mut answer = [0; 1];
    let read = stream.read(&mut answer).unwrap_or(0);
    answer[..read].to_vec()
}

#[test]
fn a_load_balancer_says_where_a_client_comes_from() {
    let with =
        |listed: &str| Proxy::start_with(POLICY, "[columns]\n", &format!("proxy_protocol_from = [{listed}]"));
    let proxy = with("\"127.0.0.0/8\"");
    assert_eq!(answer(proxy.port(), &header()), b"N");
    // It must say it, and in one piece or many.
    assert_eq!(answer(proxy.port(), b""), b"");
    assert_eq!(answer(proxy.port(), b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n"), b"");
    let mut long = header();
    (long[14], long[15]) = (0xff, 0xff);
    assert_eq!(answer(proxy.port(), &long), b"");
    let mut garbled = header();
    garbled[12] = 0x31;
    assert_eq!(answer(proxy.port(), &garbled), b"");
    let mut shop = Raw::log_in_behind(&proxy.url("shop"), &header());
    assert_eq!(shop.query("select 1").errors, [""; 0]);
    eventually("the record of the log-in", || {
        let log = fs::read_to_string(proxy.dir().join("audit/log.jsonl")).unwrap();
        log.contains("\"address\":\"203.0.113.9:5000\",\"event\":\"logged_in\"")
    });
    // Who is not listed must not.
    let proxy = with("\"10.0.0.1\"");
    assert_eq!(answer(proxy.port(), b""), b"N");
    assert_ne!(answer(proxy.port(), &header()), b"N");
}

#[test]
fn guesses_are_held_off_and_others_are_not() {
    let proxy = Proxy::start_with(POLICY, "[columns]\n", "failures_per_minute = 3");
    let database = postgres::database_name(proxy.direct());
    let asks = |user: &str, password: &str| {
        let url =
            format!("host=127.0.0.1 port={} dbname={database} user={user} password={password}", proxy.port());
        let (_, err, code) = psql_with(&url, &["-c", "select 1"], "");
        (code == 0, err)
    };
    let wrong = asks("shop", "guess").1;
    assert!(wrong.contains("password authentication failed for user \"shop\""), "{wrong}");
    for _ in 0..2 {
        assert_eq!(asks("shop", "guess").1, wrong);
    }
    // Now not even the right one is heard, and is told what a wrong one is told.
    assert_eq!(asks("shop", &password("shop")), (false, wrong));
    assert!(asks("alice", &password("alice")).0);
    assert!(proxy.log().contains("held off: too many failed log-ins"));
    // A success forgets what was mistyped before.
    for _ in 0..2 {
        assert!(!asks("alice", "guess").0);
    }
    assert!(asks("alice", &password("alice")).0);
    assert!(!asks("alice", "guess").0);
    assert!(asks("alice", &password("alice")).0);
}

#[test]
fn roles_that_the_database_gives_and_takes_are_followed() {
    let policy = "default = \"refuse\"\ntrust_database_roles = true\n\
         [domain.email]\nlabel = \"pii.email\"\ntype = \"text\"\nseal = \"deterministic\"\n\
         [roles]\napp = [\"shop\"]\n\
         [[rule]]\nname = \"application\"\nroles = [\"app\"]\nlabels = [\"*\"]\nallow = [\"read\", \"write\"]\nshow = \"clear\"\n\
         [[rule]]\nname = \"desk\"\nroles = [\"desk_leads\"]\nlabels = [\"*\"]\nallow = [\"read\"]\nshow = \"clear\"\n";
    let proxy = Proxy::start(policy, "[columns]\n\"public.customers.email\" = \"email\"\n");
    let mut shop = Raw::log_in(&proxy.url("shop"));
    for sql in [
        "create table customers (id int, email text)",
        "insert into customers values (1, 'ann@example.com')",
        "grant select on customers to alice",
    ] {
        assert_eq!(shop.query(sql).errors, [""; 0], "{sql}");
    }
    for sql in ["create role desk_leads", "create role night_desk", "grant desk_leads to night_desk"] {
        postgres::execute(proxy.direct(), sql);
    }
    let mut alice = Raw::log_in(&proxy.url("alice"));
    let sql = "select email from customers";
    let refused = |alice: &mut Raw| {
        let reply = alice.query(sql);
        reply.rows.is_empty() && reply.errors.iter().all(|error| error.starts_with("42501"))
    };
    let shown = |alice: &mut Raw| alice.query(sql).rows == [[Some(b"ann@example.com".to_vec())]];
    assert!(refused(&mut alice));
    // Through another role, and while she is connected.
    postgres::execute(proxy.direct(), "grant night_desk to alice");
    eventually("the role that was given", || shown(&mut alice));
    alice.parse("kept", sql, &[]);
    alice.sync();
    assert_eq!(alice.reply().errors, [""; 0]);
    let execute = |alice: &mut Raw| {
        alice.bind("", "kept", &[], [0, 0]);
        alice.execute("", 0);
        alice.sync();
        alice.reply()
    };
    assert_eq!(execute(&mut alice).rows.len(), 1);
    postgres::execute(proxy.direct(), "revoke desk_leads from night_desk");
    eventually("the role that was taken", || refused(&mut alice));
    let reply = execute(&mut alice);
    assert!(reply.rows.is_empty() && reply.errors[0].starts_with("42501"), "{:?}", reply.errors);
    for sql in ["drop role night_desk", "drop role desk_leads"] {
        postgres::execute(proxy.direct(), sql);
    }
}

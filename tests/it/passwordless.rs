//! Log-in without a password: by a certificate alone, and by a token of an OpenID provider; with real psql and psycopg, keys and
//! signatures made by another program, and a role of the database that only pgveil knows the password of.

use crate::conditions::App;
use crate::identity::{authority, issue, revoke};
use crate::postgres::{self, psql_with};
use crate::proxy::{Proxy, TAGS, eventually, grants, password};
use crate::python;
use crate::raw::Raw;
use crate::tools_java;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

/// The desk sees masks. Who is the role of the database that its members become would see more: nobody is.
const POLICY: &str = r#"
default = "refuse"
[domain.email]
label = "pii.email"
type = "text"
seal = "deterministic"
[domain.card]
label = "payment.card"
type = "text"
seal = "randomized"
[domain.joined]
label = "profile.joined"
type = "date"
seal = "randomized"
[roles]
app = ["shop"]
batch = ["alice"]
support = ["carol", "dora"]
role_of_the_database = ["desk"]
[[rule]]
name = "application"
roles = ["app"]
labels = ["*"]
allow = ["read", "compare", "write"]
show = "clear"
[[rule]]
name = "batch"
roles = ["batch"]
labels = ["*"]
allow = ["read"]
show = "clear"
[[rule]]
name = "support"
roles = ["support"]
labels = ["pii.*"]
allow = ["read"]
show = "mask:email"
[[rule]]
name = "one-an-hour"
roles = ["support"]
labels = ["profile.*"]
allow = ["read"]
show = "mask:year"
rows_per_hour = 1
[[rule]]
name = "stepped-up"
roles = ["support"]
labels = ["payment.*"]
allow = ["read"]
show = "clear"
second_factor = true
[[rule]]
name = "never"
roles = ["role_of_the_database"]
labels = ["*"]
allow = ["read"]
show = "clear"
"#;

/// A proxy over TLS with these methods, a table with one customer, and role desk in the database.
fn proxy(listen: &str, tls: &str, auth: &str, files: impl FnOnce(&Path)) -> Proxy {
    proxy_of(POLICY, listen, tls, auth, files)
}

/// As [`proxy`], of this policy.
fn proxy_of(policy: &str, listen: &str, tls: &str, auth: &str, files: impl FnOnce(&Path)) -> Proxy {
    let proxy = Proxy::start_with(policy, TAGS, listen);
    let mut shop = Raw::log_in(&proxy.url("shop"));
    for sql in [
        "create table customers (id int, email text, card text, joined date)",
        "insert into customers values (1, 'ann@example.com', '4111111111111111', '2024-02-29')",
    ] {
        assert_eq!(shop.query(sql).errors, [""; 0], "{sql}");
    }
    postgres::execute(proxy.direct(), &format!("create role desk; {}", grants("desk")));
    let folder = proxy.dir();
    let authority = authority();
    fs::write(folder.join("ca.crt"), authority.pem()).unwrap();
    issue(&authority, folder, "server", &["localhost"], "localhost", 1);
    for (name, serial) in [("alice", 2), ("carol", 3), ("shop", 4), ("dora", 5)] {
        issue(&authority, folder, name, &[], name, serial);
    }
    issue(&authority, folder, "revoked", &[], "alice", 9);
    revoke(&authority, folder, 9);
    files(folder);
    let file = folder.join("proxy.toml");
    let text = fs::read_to_string(&file).unwrap();
    let own =
        format!("tls = {{ mode = \"require\", certificate = \"server.crt\", key = \"server.key\"{tls} }}");
    let text = text.replacen("[database]", &format!("{own}\n[database]"), 1);
    fs::write(&file, format!("{text}{auth}")).unwrap();
    proxy
}

/// Connection parameters of a user who has no password to show.
fn parameters(proxy: &Proxy, user: &str, more: &str) -> String {
    let database = postgres::database_name(proxy.direct());
    let ca = proxy.dir().join("ca.crt");
    format!(
        "host=localhost port={} dbname={database} user={user} sslmode=verify-full sslrootcert={} {more}",
        proxy.port(),
        ca.display()
    )
}

/// What psql shows or says; it never asks for a password.
fn psql(url: &str, sql: &str) -> Result<String, String> {
    let (out, err, code) = psql_with(url, &["-w", "-At", "-c", sql], "");
    if code == 0 { Ok(out.trim().to_owned()) } else { Err(err) }
}

/// What the audit log says of log-ins: user, and the reason or how.
fn log_ins(proxy: &Proxy) -> Vec<String> {
    let text = fs::read_to_string(proxy.dir().join("audit/log.jsonl")).unwrap();
    let records = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let said = |record: &Value, name: &str| record[name].as_str().unwrap_or("-").to_owned();
    records
        .filter_map(|record| match record["event"].as_str()? {
            "logged_in" => Some(format!(
                "{} by {} as {}",
                said(&record, "user"),
                said(&record, "method"),
                said(&record, "upstream")
            )),
            "log_in_failed" => Some(format!("{}: {}", said(&record, "user"), said(&record, "reason"))),
            _ => None,
        })
        .collect()
}

fn recorded(proxy: &Proxy, expected: &str) {
    eventually(expected, || log_ins(proxy).iter().any(|line| line == expected));
}

const MASKED: &str = "a***@e***.com";

const CERTIFICATES: &str = "[auth]\n[[auth.method]]\nby = \"certificate\"\nusers = [\"alice\"]\n\
    [[auth.method]]\nby = \"certificate\"\nroles = [\"support\"]\nupstream = \"desk\"\n";

#[test]
fn a_certificate_alone_logs_in() {
    let tls = ", client_ca = \"ca.crt\", client_crl = \"clients.crl\", client_certificate = \"optional\"";
    let mut proxy = proxy("", tls, CERTIFICATES, |_| {});
    // Nobody could get into the database yet, and check says so.
    let (_, found, code) = proxy.run(&["check", "--offline"]);
    for (role, users) in [("alice", "alice"), ("desk", "carol, dora")] {
        let missing = format!("there is no credential of role {role}, as which {users} would log in");
        assert!(code == 1 && found.contains(&missing), "{found}");
    }
    let direct = proxy.direct().to_owned();
    let made = proxy.must(&["upstream", "set", "desk", "--generate", "--database", &direct]);
    assert!(made.starts_with("gave a new password to role desk"), "{made}");
    let file = proxy.dir().join("alice.password");
    fs::write(&file, password("alice")).unwrap();
    proxy.must(&["upstream", "set", "alice", "--password-file", file.to_str().unwrap()]);
    let listed: Value = serde_json::from_str(&proxy.must(&["upstream", "list", "--json"])).unwrap();
    assert_eq!(
        listed,
        json!([{ "role": "alice", "kept": true, "users": ["alice"] }, { "role": "desk", "kept": true, "users": ["carol", "dora"] }])
    );
    let users = proxy.must(&["users", "list", "--json"]);
    let carol = r#"{"name":"carol","roles":["support"],"method":"certificate","upstream":"desk"}"#;
    assert!(users.contains(carol) && users.contains(r#"{"name":"shop","roles":["app"]}"#), "{users}");
    let kept = fs::read_to_string(proxy.dir().join("users.toml")).unwrap();
    assert!(kept.contains("[upstream]") && !kept.contains(&password("alice")), "{kept}");
    let (_, found, _) = proxy.run(&["check"]);
    assert!(!found.contains("credential of role"), "{found}");
    assert!(
        found.contains("the password of alice opens nothing: alice logs in by certificate alone"),
        "{found}"
    );
    proxy.signal("TERM");
    assert_eq!(proxy.wait(), Some(0));
    proxy.serve();

    let folder = proxy.dir().to_owned();
    let with = |name: &str| {
        let file = |extension| folder.join(format!("{name}.{extension}")).display().to_string();
        format!("sslcert={} sslkey={}", file("crt"), file("key"))
    };
    let none = "sslcert=/nowhere sslkey=/nowhere";
    let email = "select email from customers";
    // Rights are the client's, whatever role it becomes.
    let alice = parameters(&proxy, "alice", &with("alice"));
    let carol = parameters(&proxy, "carol", &with("carol"));
    assert_eq!(psql(&alice, email), Ok("ann@example.com".to_owned()));
    assert_eq!(psql(&carol, email), Ok(MASKED.to_owned()));
    assert!(
        psql(&carol, "select card from customers").unwrap_err().contains("permission denied for column card")
    );
    assert_eq!(psql(&carol, "select session_user, current_user"), Ok("desk|desk".to_owned()));
    assert!(psql(&carol, "show pgveil.status").unwrap().starts_with("user carol as desk, "));
    let role = psql(&carol, "set session authorization shop").unwrap_err();
    assert!(role.contains("SET SESSION AUTHORIZATION"), "{role}");
    recorded(&proxy, "alice by certificate as alice");
    recorded(&proxy, "carol by certificate as desk");
    // What is counted is counted by the client, whatever role it shares.
    let dora = parameters(&proxy, "dora", &with("dora"));
    let joined = "select joined from customers";
    assert_eq!(psql(&carol, joined), Ok("2024-01-01".to_owned()));
    assert!(psql(&carol, joined).unwrap_err().contains("limit"));
    assert_eq!(psql(&dora, joined), Ok("2024-01-01".to_owned()));
    psycopg(&carol, "desk", MASKED);
    assert_eq!(pgjdbc(&proxy, "carol"), format!("desk|{MASKED}"));

    let refused = |user: &str| format!("certificate authentication failed for user \"{user}\"");
    let said = |url: String| psql(&url, "select 1").unwrap_err();
    // In another's name, in none, and with a password, which opens nothing any more.
    assert!(said(parameters(&proxy, "dora", &with("carol"))).contains(&refused("dora")));
    recorded(&proxy, "dora: 28000: the certificate is in another name");
    let own = format!("{none} password={}", password("alice"));
    assert!(said(parameters(&proxy, "alice", &own)).contains(&refused("alice")));
    recorded(&proxy, "alice: 28000: no certificate with a name was shown");
    assert!(psql(&parameters(&proxy, "alice", &with("revoked")), "select 1").is_err());
    // The certificate of a user who logs in by a password is not enough, and needless.
    assert!(said(parameters(&proxy, "shop", &with("shop"))).contains("no password supplied"));
    let shop = format!("{none} channel_binding=require password={}", password("shop"));
    assert_eq!(psql(&parameters(&proxy, "shop", &shop), email), Ok("ann@example.com".to_owned()));
    // A role's own password opens nothing here: desk is a role of the database, no user.
    assert!(said(parameters(&proxy, "desk", &with("carol"))).contains("no password supplied"));

    // Someone changed the role's password: those who become it are told, and check says whose it was.
    postgres::execute(&direct, "alter role desk password 'mine now'");
    let changed = said(carol);
    assert!(changed.contains("pgveil cannot log in to the database as role \"desk\""), "{changed}");
    assert!(proxy.log().contains("the database does not take the credential that is kept for this role"));
    let (_, found, code) = proxy.run(&["check"]);
    assert!(code == 1 && found.contains("the database does not take the credential of role desk"), "{found}");
    // And forgotten, it is as if it had never been there.
    proxy.must(&["upstream", "remove", "alice"]);
    proxy.reload("the new configuration holds");
    assert!(said(alice).contains("pgveil cannot log in to the database as role \"alice\""));
    let (_, again, code) = proxy.run(&["upstream", "remove", "alice"]);
    assert!(code == 1 && again.contains("hint: pgveil upstream list"), "{again}");
    let (_, unasked, code) = proxy.run(&["upstream", "set", "alice"]);
    assert!(code == 1 && unasked.contains("--password-file"), "no terminal to ask at: {unasked}");
}

/// As `pg_ident.conf` maps: one certificate's name is two users', and nobody's own name is enough.
#[test]
fn a_map_says_whose_a_certificate_is() {
    let tls = ", client_ca = \"ca.crt\", client_certificate = \"optional\"";
    let map = "[auth.certificate]\nmap = { carol = [\"dora\", \"carol\"] }\n";
    let mut proxy = proxy("", tls, &format!("{CERTIFICATES}{map}"), |_| {});
    let direct = proxy.direct().to_owned();
    proxy.must(&["upstream", "set", "desk", "--generate", "--database", &direct]);
    let (_, found, code) = proxy.run(&["check", "--offline"]);
    let without = "user \"alice\" can never log in: no certificate's name in auth.certificate.map is alice's";
    assert!(code == 1 && found.contains(without), "{found}");
    proxy.signal("TERM");
    assert_eq!(proxy.wait(), Some(0));
    proxy.serve();
    let as_user = |user: &str, certificate: &str| {
        let file =
            |extension: &str| proxy.dir().join(format!("{certificate}.{extension}")).display().to_string();
        let own = format!("sslcert={} sslkey={}", file("crt"), file("key"));
        psql(&parameters(&proxy, user, &own), "select email from customers")
    };
    for user in ["carol", "dora"] {
        assert_eq!(as_user(user, "carol"), Ok(MASKED.to_owned()));
        recorded(&proxy, &format!("{user} by certificate as desk"));
    }
    for (user, certificate, why) in [
        ("dora", "dora", "the certificate is in nobody's name"),
        ("alice", "alice", "the certificate is in nobody's name"),
        ("alice", "carol", "the certificate is in another name"),
    ] {
        assert!(as_user(user, certificate).unwrap_err().contains("certificate authentication failed"));
        recorded(&proxy, &format!("{user}: 28000: {why}"));
    }
}

/// Where PostgreSQL says who has which role, it is asked of the client's name, though nobody of that name may log in there.
#[test]
fn database_roles_are_those_of_the_clients_name() {
    let policy = format!(
        "trust_database_roles = true\n{POLICY}[[rule]]\nname = \"leads\"\nroles = [\"desk_leads\"]\n\
         labels = [\"pii.*\"]\nallow = [\"read\"]\nshow = \"clear\"\n"
    );
    let tls = ", client_ca = \"ca.crt\", client_certificate = \"verify-full\"";
    let mut proxy = proxy_of(&policy, "", tls, CERTIFICATES, |_| {});
    let direct = proxy.direct().to_owned();
    proxy.must(&["upstream", "set", "desk", "--generate", "--database", &direct]);
    proxy.signal("TERM");
    assert_eq!(proxy.wait(), Some(0));
    proxy.serve();
    postgres::execute(&direct, "create role desk_leads; grant desk_leads to desk; create role carol nologin");
    let file = |name: &str| proxy.dir().join(name).display().to_string();
    let own = format!("sslcert={} sslkey={}", file("carol.crt"), file("carol.key"));
    // Twice in one session, with two polls of the database's roles in between.
    let script = "import psycopg, sys, time\n\
        c = psycopg.connect(sys.argv[1], autocommit=True)\n\
        for pause in (2.5, 0):\n  print(*c.execute('select email from customers').fetchone())\n  time.sleep(pause)\n";
    let seen = || python::run(&["-c", script, &parameters(&proxy, "carol", &own)], &[]);
    assert_eq!(seen(), format!("{MASKED}\n{MASKED}\n"), "desk's role is not carol's");
    postgres::execute(&direct, "grant desk_leads to carol");
    // What is granted holds from the next poll on.
    assert!(seen().ends_with("\nann@example.com\n"));
    for sql in ["drop role desk_leads", "drop role carol"] {
        postgres::execute(&direct, sql);
    }
}

/// What psycopg is shown; and it can cancel what it began.
fn psycopg(url: &str, role: &str, shown: &str) {
    let script = "import psycopg, sys, threading\n\
        c = psycopg.connect(sys.argv[1], autocommit=True)\n\
        print(*c.execute('select session_user::text, email from customers').fetchone())\n\
        threading.Timer(0.2, c.cancel).start()\n\
        try: c.execute('select pg_sleep(20)')\n\
        except psycopg.errors.QueryCanceled: print('cancelled')\n";
    assert_eq!(python::run(&["-c", script, url], &[]), format!("{role} {shown}\ncancelled\n"));
}

/// What pgjdbc is shown by the certificate alone.
fn pgjdbc(proxy: &Proxy, user: &str) -> String {
    let file = |name: String| proxy.dir().join(name).display().to_string();
    // It reads keys in PKCS #8, DER.
    let pem = fs::read_to_string(file(format!("{user}.key"))).unwrap();
    let key = rcgen::KeyPair::from_pem(&pem).unwrap();
    fs::write(file(format!("{user}.pk8")), key.serialize_der()).unwrap();
    let url =
        format!("jdbc:postgresql://localhost:{}/{}", proxy.port(), postgres::database_name(proxy.direct()));
    let properties = [
        format!("user={user}"),
        "sslmode=verify-full".to_owned(),
        format!("sslrootcert={}", file("ca.crt".to_owned())),
        format!("sslcert={}", file(format!("{user}.crt"))),
        format!("sslkey={}", file(format!("{user}.pk8"))),
    ];
    tools_java::log_in(&url, "select session_user, email from customers", &properties)
}

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tools/token_provider.py")
}

/// Publishes keys in `folder` and makes these tokens, by name.
fn make(folder: &Path, publish: &[(&str, &str)], tokens: &[(&str, Value)]) -> BTreeMap<String, String> {
    let wanted = json!({ "publish": publish, "tokens": BTreeMap::from_iter(tokens.iter().cloned()) });
    let mut child = Command::new(python::interpreter())
        .arg(script())
        .arg("make")
        .arg(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(wanted.to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A token of carol's, signed by a key of this kind and name, with these claims changed.
fn token(kid: &str, alg: &str, changes: Value) -> Value {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let mut claims = json!({ "iss": "https://id.example.org", "aud": ["pgveil"], "email": "carol@example.org", "exp": now + 600 });
    for (name, value) in changes.as_object().unwrap() {
        let value = value.as_i64().map_or_else(|| value.clone(), |later| json!(now as i64 + later));
        claims[name] = value;
    }
    json!({ "header": { "alg": alg, "kid": kid, "typ": "JWT" }, "claims": claims, "signer": [kid, alg] })
}

const TOKENS: &str = "[[auth.method]]\nby = \"token\"\nroles = [\"support\"]\nupstream = \"desk\"\n\
    [auth.token]\nissuer = \"https://id.example.org\"\naudience = [\"pgveil\"]\nclaim = \"email\"\nsuffix = \"@example.org\"\n";

/// What psql is told with a token for a password.
fn with_token(proxy: &Proxy, user: &str, token: &str, sql: &str) -> Result<String, String> {
    psql(&parameters(proxy, user, &format!("password={token}")), sql)
}

/// The tokens that must not hold, and what the audit log says of each.
fn unfit() -> Vec<(&'static str, Value, &'static str)> {
    let changed = |part: &str, value: Value| {
        let mut token = token("e1", "ES256", json!({}));
        token[part] = value;
        token
    };
    let header = |alg: &str, kid: &str| changed("header", json!({ "alg": alg, "kid": kid }));
    let mut unsigned = header("none", "e1");
    unsigned["signer"] = json!("none");
    let mut confused = header("HS256", "r1");
    confused["signer"] = json!(["r1", "RS256", "its public key is no secret"]);
    vec![
        (
            "issuer",
            token("e1", "ES256", json!({ "iss": "https://id.example.com" })),
            "the token is of another issuer",
        ),
        ("audience", token("e1", "ES256", json!({ "aud": "shop" })), "the token is for another audience"),
        ("expired", token("e1", "ES256", json!({ "exp": -61 })), "the token has expired"),
        ("early", token("e1", "ES256", json!({ "nbf": 120 })), "the token does not hold yet"),
        (
            "other",
            token("e1", "ES256", json!({ "email": "dora@example.org" })),
            "the token names another user",
        ),
        ("domain", token("e1", "ES256", json!({ "email": "carol@example.com" })), "the token names nobody"),
        ("none", unsigned, "it is no token, or is signed by nothing that is understood"),
        ("confused", confused, "the token is signed by an algorithm that is not allowed"),
        ("kid", token("e9", "ES256", json!({})), "no key of the provider is the token's"),
        ("key", changed("signer", json!(["e9", "ES256"])), "the token's signature is wrong"),
    ]
}

#[test]
fn a_token_logs_in_and_nothing_like_it() {
    let auth = format!("[auth]\n{TOKENS}keys_file = \"jwks.json\"\n");
    let keys = [("r1", "RS256"), ("e1", "ES256"), ("d1", "EdDSA")];
    let mut tokens = vec![
        ("RS256", token("r1", "RS256", json!({}))),
        ("ES256", token("e1", "ES256", json!({ "exp": -30 }))),
        ("EdDSA", token("d1", "EdDSA", json!({}))),
        ("dora", token("d1", "EdDSA", json!({ "email": "dora@example.org" }))),
        ("new", token("d2", "EdDSA", json!({}))),
    ];
    let unfit = unfit();
    tokens.extend(unfit.iter().map(|(name, token, _)| (*name, token.clone())));
    let mut made = BTreeMap::new();
    let socket = tempfile::tempdir().unwrap();
    let listen = format!("failures_per_minute = 3\nunix_socket = \"{}\"", socket.path().display());
    let mut proxy = proxy(&listen, "", &auth, |folder| made = make(folder, &keys, &tokens));
    proxy.signal("TERM");
    assert_eq!(proxy.wait(), Some(0));
    let direct = proxy.direct().to_owned();
    proxy.must(&["upstream", "set", "desk", "--generate", "--database", &direct]);
    let (_, found, _) = proxy.run(&["check"]);
    assert!(!found.contains("token") && !found.contains("credential"), "{found}");
    proxy.serve();

    let email = "select session_user, email from customers";
    let shown = Ok(format!("desk|{MASKED}"));
    for name in ["RS256", "ES256", "EdDSA"] {
        assert_eq!(with_token(&proxy, "carol", &made[name], email), shown, "{name}");
    }
    recorded(&proxy, "carol by token as desk");
    psycopg(&parameters(&proxy, "carol", &format!("password={}", made["RS256"])), "desk", MASKED);

    let wrong = |user: &str| format!("FATAL:  password authentication failed for user \"{user}\"\n");
    for (name, _, why) in &unfit {
        let said = with_token(&proxy, "carol", &made[*name], email).unwrap_err();
        assert!(said.ends_with(&wrong("carol")), "{name}: {said}");
        recorded(&proxy, &format!("carol: 28P01: {why}"));
        // Success in between, or carol would be held off.
        assert_eq!(with_token(&proxy, "carol", &made["EdDSA"], email), shown, "after {name}");
    }
    // Another's token, whoever is asked for: one who logs in by a password is asked for that, and an unknown one cannot be told from it.
    for user in ["shop", "nobody"] {
        let said = with_token(&proxy, user, &made["RS256"], email).unwrap_err();
        assert!(said.ends_with(&wrong(user)), "{said}");
    }
    let said = with_token(&proxy, "carol", &password("carol"), email).unwrap_err();
    assert!(said.ends_with(&wrong("carol")), "{said}");
    // Without TLS a token is not even asked for.
    let clear = format!(
        "host={} port={} dbname={} user=carol password={}",
        socket.path().display(),
        proxy.port(),
        postgres::database_name(&direct),
        made["RS256"]
    );
    let said = psql(&clear, email).unwrap_err();
    assert!(said.contains("logs in by a token, which needs an encrypted connection"), "{said}");

    rotates_without_a_restart(&proxy, &made);
    // Guesses are held off: then not even the right one is heard.
    for _ in 0..3 {
        assert!(with_token(&proxy, "dora", "guess", email).is_err());
    }
    let said = with_token(&proxy, "dora", &made["dora"], email).unwrap_err();
    assert!(said.ends_with(&wrong("dora")), "{said}");
    recorded(&proxy, "dora: 28P01: too many failed log-ins");
    // No log has a token, nor a part of one.
    let logs = proxy.log() + &fs::read_to_string(proxy.dir().join("audit/log.jsonl")).unwrap();
    for token in made.values() {
        for part in token.split('.').filter(|part| !part.is_empty()) {
            assert!(!logs.contains(part), "{token}");
        }
    }
    // The second factor is the person's, who has no password here.
    let app = App::enrolled(&proxy, &["carol"]);
    let url = parameters(&proxy, "carol", &format!("password={}", made["new"]));
    let card = format!("SET pgveil.otp = '{}';\nSELECT card FROM customers;\n", app.code(0));
    let (out, err, code) = psql_with(&url, &["-w", "-Atq"], &card);
    assert_eq!((out.trim(), code), ("4111111111111111", 0), "{err}");
}

/// The provider's keys become others: new ones hold at once, old ones no more.
fn rotates_without_a_restart(proxy: &Proxy, made: &BTreeMap<String, String>) {
    make(proxy.dir(), &[("d2", "EdDSA"), ("d1", "EdDSA")], &[]);
    eventually("the old key's end", || with_token(proxy, "carol", &made["ES256"], "select 1").is_err());
    assert!(with_token(proxy, "carol", &made["new"], "select 1").is_ok());
    assert!(with_token(proxy, "carol", &made["RS256"], "select 1").is_err());
    assert!(with_token(proxy, "carol", &made["new"], "select 1").is_ok());
    // A file that is damaged changes nothing.
    fs::write(proxy.dir().join("jwks.json"), "{").unwrap();
    eventually("the warning", || proxy.log().contains("those that are known hold on"));
    assert!(with_token(proxy, "carol", &made["new"], "select 1").is_ok());
    make(proxy.dir(), &[("d2", "EdDSA"), ("d1", "EdDSA")], &[]);
}

/// A server of another program; killed when it goes.
struct Provider(Child);

impl Provider {
    fn serve(folder: &Path, port: u16, certificate: &str) -> Provider {
        let mut command = Command::new(python::interpreter());
        command.arg(script()).arg("serve").arg(folder).arg(port.to_string());
        command.args([format!("{certificate}.crt"), format!("{certificate}.key")]);
        let provider = Provider(command.current_dir(folder).spawn().unwrap());
        eventually("the provider", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
        provider
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn keys_come_from_an_address_and_outlive_its_outage() {
    let port = postgres::free_port();
    let auth = format!("[auth]\n{TOKENS}keys_url = \"https://localhost:{port}/jwks\"\nca = \"ca.crt\"\n");
    let tokens = [("old", token("d1", "EdDSA", json!({}))), ("new", token("r2", "RS256", json!({})))];
    let mut made = BTreeMap::new();
    let mut proxy = proxy("failures_per_minute = 100", "", &auth, |folder| {
        made = make(folder, &[("d1", "EdDSA")], &tokens)
    });
    let direct = proxy.direct().to_owned();
    proxy.must(&["upstream", "set", "desk", "--generate", "--database", &direct]);
    proxy.signal("TERM");
    assert_eq!(proxy.wait(), Some(0));
    // The provider is away: check names it, the proxy starts all the same, and whom its keys would vouch for is refused.
    let (_, found, code) = proxy.run(&["check"]);
    let unreadable = format!("the token provider's keys: https://localhost:{port}/jwks cannot be read");
    assert!(code == 1 && found.contains(&unreadable), "{found}");
    proxy.serve();
    let ask = |token: &str| with_token(&proxy, "carol", &made[token], "select email from customers");
    assert!(ask("old").unwrap_err().contains("password authentication failed"));
    let metric = |up: &str| {
        let (_, metrics) = proxy.get("/metrics").unwrap();
        metrics.lines().any(|line| line == format!("pgveil_token_keys_up {up}"))
    };
    eventually("the metric", || metric("0"));
    // Somebody else answers in its name.
    issue(&authority(), proxy.dir(), "impostor", &["localhost"], "localhost", 1);
    let impostor = Provider::serve(proxy.dir(), port, "impostor");
    let (_, found, _) = proxy.run(&["check"]);
    assert!(found.contains(&unreadable) && found.contains("invalid peer certificate"), "{found}");
    drop(impostor);
    let provider = Provider::serve(proxy.dir(), port, "server");
    eventually("the keys", || metric("1"));
    assert_eq!(ask("old"), Ok(MASKED.to_owned()));
    assert!(proxy.log().contains("the token provider's keys can be read again"));
    // A new key, whose token is the first to tell of it.
    make(proxy.dir(), &[("d1", "EdDSA"), ("r2", "RS256")], &[]);
    eventually("the new key", || ask("new").is_ok());
    drop(provider);
    assert!(ask("old").is_ok() && ask("new").is_ok(), "those that are known hold on");
}

//! A pooler behind the proxy: what a session sets holds for one server process, so the proxy must meet no other.

use crate::postgres;
use crate::proxy::{self, Proxy, eventually};
use crate::raw::Raw;
use std::fs;
use std::process::{Child, Stdio};
use tempfile::TempDir;

/// PgBouncer before a proxy's server.
struct Pooler {
    _dir: TempDir,
    port: u16,
    child: Child,
}

impl Pooler {
    fn before(proxy: &Proxy, mode: &str) -> Pooler {
        let dir = tempfile::Builder::new().prefix("pgveil-pooler-").tempdir().unwrap();
        let port = postgres::free_port();
        let users = postgres::query(
            proxy.direct(),
            "select rolname, rolpassword from pg_authid where rolpassword is not null",
        );
        let users: Vec<String> = users
            .iter()
            .map(|row| format!("\"{}\" \"{}\"\n", row[0].as_deref().unwrap(), row[1].as_deref().unwrap()))
            .collect();
        fs::write(dir.path().join("users"), users.concat()).unwrap();
        let ini = format!(
            "[databases]\n* = host=127.0.0.1 port={}\n[pgbouncer]\nlisten_addr=127.0.0.1\nlisten_port={port}\n\
             auth_type=scram-sha-256\nauth_file={dir}/users\npool_mode={mode}\nunix_socket_dir=\n\
             ignore_startup_parameters=extra_float_digits,options\n",
            proxy.postgres.port(),
            dir = dir.path().display(),
        );
        fs::write(dir.path().join("ini"), ini).unwrap();
        for path in [dir.path().to_owned(), dir.path().join("users"), dir.path().join("ini")] {
            proxy.postgres.own(&path);
        }
        let child = postgres::as_server_user(&postgres::tool_or_daemon("pgbouncer"))
            .arg("-q")
            .arg(dir.path().join("ini"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("pgbouncer starts");
        let pooler = Pooler { _dir: dir, port, child };
        eventually("the pooler", || std::net::TcpStream::connect(("127.0.0.1", pooler.port)).is_ok());
        pooler
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The proxy, started anew behind this pooler.
fn behind(proxy: &mut Proxy, pooler: &Pooler, announced: &str) {
    if proxy.is_serving() {
        proxy.signal("TERM");
        proxy.wait();
    }
    let file = proxy.dir().join("proxy.toml");
    let text = fs::read_to_string(&file).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with("pooler"));
    let mut section = "";
    let mut out = String::new();
    for line in lines {
        if line.starts_with('[') {
            section = line;
        }
        if section == "[database]" && line.starts_with("address") {
            out += &format!("address = \"127.0.0.1:{}\"\n{announced}\n", pooler.port);
        } else {
            out = out + line + "\n";
        }
    }
    fs::write(&file, out).unwrap();
    proxy.serve();
}

#[test]
fn a_pooler_that_gives_out_other_processes_is_noticed() {
    let mut proxy = Proxy::start(proxy::POLICY, proxy::TAGS);
    let made = postgres::try_query(
        &proxy.url("shop"),
        "create table customers (id int primary key, email text, card text, joined date)",
    );
    made.unwrap();
    let session = Pooler::before(&proxy, "session");
    let transaction = Pooler::before(&proxy, "transaction");
    let told = "a pooler between pgveil and the server gives out other server processes";
    for pooler in [&session, &transaction] {
        behind(&mut proxy, pooler, "");
        let error = postgres::try_query(&proxy.url("shop"), "select 1").unwrap_err();
        assert!(error.contains(told), "{error}");
    }
    behind(&mut proxy, &session, "pooler = \"session\"");
    let shop = proxy.url("shop");
    postgres::execute(&shop, "insert into customers values (1, 'ann@example.com', 'c', '2020-01-01')");
    let rows = postgres::query(&shop, "select email from customers where email = 'ann@example.com'");
    assert_eq!(rows, [[Some("ann@example.com".to_owned())]]);

    // Announced as what it is not: noticed as soon as another process answers.
    behind(&mut proxy, &transaction, "pooler = \"session\"");
    let (mut one, mut other) = (Raw::log_in(&shop), Raw::log_in(&shop));
    one.query("select 1");
    other.query("begin");
    other.query("select 1");
    let errors = one.query("set search_path = public; select email from customers").errors;
    assert!(errors.iter().any(|error| error.contains(told)), "{errors:?}");
}

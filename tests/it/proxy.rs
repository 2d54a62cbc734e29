//! The proxy as people run it: the binary, its commands and its files, in front of a PostgreSQL of the tests' own.
//!
//! [`Proxy::start`] does what an administrator does: writes the four files, runs `init`, `users add` and `serve`, and waits for
//! `/readyz`. Everything goes through the command line, so that these tests hold for any inside. Stopped and removed on drop.

// A harness offers more than each moment's tests use.
#![allow(dead_code)]

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::postgres::{self, Postgres};

/// Two kinds of data and three people: the shop reads and writes all, support sees masks, the intern has no rule.
pub const POLICY: &str = r#"
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
support = ["alice"]
[[rule]]
name = "application"
roles = ["app"]
labels = ["*"]
allow = ["read", "compare", "write"]
show = "clear"
[[rule]]
name = "support-desk"
roles = ["support"]
labels = ["pii.*", "payment.*"]
allow = ["read"]
show = "mask:partial"
"#;

/// What `tests/drivers/psycopg_test.py` expects, and more than one test needs.
pub const TAGS: &str = r#"
[columns]
"public.customers.email" = "email"
"public.customers.card" = "card"
"public.customers.joined" = "joined"
"#;

/// Who may log in from the start.
pub const USERS: [&str; 3] = ["shop", "alice", "intern"];

/// What PostgreSQL gives to a user here, as its administrator says it.
pub fn grants(user: &str) -> String {
    format!(
        "grant all on schema public to {user}; grant all on all tables in schema public to {user};
         alter default privileges in schema public grant all on tables to {user};
         alter default privileges for role {user} in schema public grant all on tables to public"
    )
}

/// A running proxy, its own PostgreSQL behind it and its configuration folder.
pub struct Proxy {
    pub postgres: Postgres,
    direct: String,
    dir: TempDir,
    port: u16,
    admin: u16,
    serve: Option<Child>,
}

impl Proxy {
    /// A proxy with these files; `shop`, `alice` and `intern` may log in and create tables in `public`.
    pub fn start(policy: &str, tags: &str) -> Proxy {
        Proxy::start_with(policy, tags, "")
    }

    /// As [`Proxy::start`], with more of `proxy.toml`: lines that go below `[listen]`.
    pub fn start_with(policy: &str, tags: &str, listen: &str) -> Proxy {
        Proxy::start_before(Postgres::private(), policy, tags, listen)
    }

    /// As [`Proxy::start_with`], in front of this server.
    pub fn start_before(postgres: Postgres, policy: &str, tags: &str, listen: &str) -> Proxy {
        let direct = postgres.database("shop");
        let dir = tempfile::Builder::new().prefix("pgveil-proxy-").tempdir().expect("a temporary directory");
        let (port, admin) = (postgres::free_port(), postgres::free_port());
        let proxy_toml = format!(
            "[listen]\naddress = \"127.0.0.1:{port}\"\n{listen}\n\
             [database]\naddress = \"{}\"\ntls = {{ mode = \"off\" }}\nservice_user = \"pgveil\"\n\
             service_password_file = \"service.password\"\nservice_database = \"{}\"\n\
             [audit]\npath = \"audit\"\n[admin]\naddress = \"127.0.0.1:{admin}\"\n",
            postgres.address(),
            postgres::database_name(&direct),
        );
        for (name, text) in
            [("proxy.toml", proxy_toml.as_str()), ("policy.toml", policy), ("tags.toml", tags)]
        {
            fs::write(dir.path().join(name), text).expect("a file in our directory");
        }
        let mut proxy = Proxy { postgres, direct, dir, port, admin, serve: None };
        let direct = proxy.direct.clone();
        proxy.must(&["init", "--database", &direct]);
        for user in USERS {
            proxy.add_user(user);
        }
        proxy.serve();
        proxy
    }

    /// Adds a person with the password `password(user)`, who may use and create tables in `public`; a running proxy is
    /// told to read its files again.
    pub fn add_user(&self, user: &str) {
        let file = self.dir.path().join("new.password");
        fs::write(&file, format!("{}\n", password(user))).expect("a file in our directory");
        self.must(&[
            "users",
            "add",
            user,
            "--password-file",
            &file.display().to_string(),
            "--database",
            &self.direct,
        ]);
        fs::remove_file(&file).expect("the file was just written");
        postgres::execute(&self.direct, &grants(user));
        if self.serve.is_some() {
            self.reload("the new configuration holds");
        }
    }

    /// Has `serve` read its files again, and waits until it says so.
    pub fn reload(&self, expected: &str) {
        let before = self.log().matches(expected).count();
        self.signal("HUP");
        eventually("the reload", || self.log().matches(expected).count() > before);
    }

    /// Starts `serve` (again) and waits until it is ready.
    pub fn serve(&mut self) {
        self.serve_with(|serve| serve);
    }

    /// As [`Proxy::serve`], by a command that `wrap` makes of the plain one.
    pub fn serve_with(&mut self, wrap: impl FnOnce(Command) -> Command) {
        assert!(self.serve.is_none(), "it is running");
        let log =
            File::options().create(true).append(true).open(self.dir.path().join("serve.log")).expect("a log");
        let mut plain = Command::new(env!("CARGO_BIN_EXE_pgveil"));
        plain.args(["serve", "--config"]).arg(self.dir.path());
        let child = wrap(plain)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a descriptor"))
            .stderr(log)
            .spawn()
            .expect("pgveil starts");
        self.serve = Some(child);
        let deadline = Instant::now() + Duration::from_secs(30);
        while self.get("/readyz").is_none_or(|(status, _)| status != 200) {
            let gone = self
                .serve
                .as_mut()
                .is_some_and(|child| child.try_wait().is_ok_and(|status| status.is_some()));
            assert!(!gone && Instant::now() < deadline, "pgveil serve is not ready:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(25));
        }
    }

    pub fn is_serving(&self) -> bool {
        self.serve.is_some()
    }

    /// The process of `serve`.
    pub fn pid(&self) -> u32 {
        self.serve.as_ref().expect("it is running").id()
    }

    /// Sends a signal (`HUP`, `TERM`, `KILL`) to `serve`.
    pub fn signal(&self, signal: &str) {
        self::signal(&self.pid().to_string(), signal);
    }

    /// Waits until `serve` has ended; its exit code.
    pub fn wait(&mut self) -> Option<i32> {
        self.serve.take().and_then(|mut child| child.wait().expect("our child").code())
    }

    /// As [`Proxy::wait`], with what else is known of its end.
    pub fn wait_status(&mut self) -> std::process::ExitStatus {
        self.serve.take().expect("it is running").wait().expect("our child")
    }

    /// A URL through the proxy.
    pub fn url(&self, user: &str) -> String {
        let database = postgres::database_name(&self.direct);
        format!("postgresql://{user}:{}@127.0.0.1:{}/{database}?sslmode=disable", password(user), self.port)
    }

    /// The URL past the proxy, as a user that [`Proxy`] added.
    pub fn url_past(&self, user: &str) -> String {
        self.postgres.url_as(user, &password(user), postgres::database_name(&self.direct))
    }

    /// The URL past the proxy, as PostgreSQL's superuser.
    pub fn direct(&self) -> &str {
        &self.direct
    }

    /// The proxy's TCP port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The admin endpoint's port.
    pub fn admin_port(&self) -> u16 {
        self.admin
    }

    /// The configuration folder.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// What `serve` printed so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("serve.log")).unwrap_or_default()
    }

    /// GET of the admin endpoint: status and body, or `None` when nothing answers.
    pub fn get(&self, path: &str) -> Option<(u16, String)> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.admin)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
    }

    /// Runs a command of pgveil on this configuration: standard output, standard error, exit code.
    pub fn run(&self, arguments: &[&str]) -> (String, String, i32) {
        let output = Command::new(env!("CARGO_BIN_EXE_pgveil"))
            .args(arguments)
            .arg("--config")
            .arg(self.dir.path())
            .stdin(Stdio::null())
            .output()
            .expect("pgveil starts");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (text(&output.stdout), text(&output.stderr), output.status.code().unwrap_or(-1))
    }

    /// As [`Proxy::run`]; panics unless it exits with 0. Returns standard output.
    pub fn must(&self, arguments: &[&str]) -> String {
        let (stdout, stderr, code) = self.run(arguments);
        assert_eq!(code, 0, "pgveil {}:\n{stdout}\n{stderr}", arguments.join(" "));
        stdout
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some(mut child) = self.serve.take() {
            // It may have ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            eprintln!("pgveil serve said:\n{}", self.log());
        }
    }
}

/// Sends a signal to a process of ours. By the shell, which has `kill` where nothing else has.
pub fn signal(pid: &str, signal: &str) {
    let status =
        Command::new("sh").args(["-c", "kill -s \"$0\" \"$1\"", signal, pid]).status().expect("sh runs");
    assert!(status.success(), "kill -s {signal} {pid}");
}

/// Waits until something is so; panics with `what` when it is not within 20 seconds.
pub fn eventually(what: &str, mut so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !so() {
        assert!(Instant::now() < deadline, "{what} did not happen");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The password of a user that [`Proxy`] added.
pub fn password(user: &str) -> String {
    format!("{user}-likes-horses")
}

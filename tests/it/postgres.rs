//! A PostgreSQL of the tests' own: found, initialised, started on a free port, and stopped when the test process ends
//! however it ends.
//!
//! [`shared`] is one server for the whole test binary; each test takes a fresh database of it. [`Postgres::private`] is
//! for tests that stop, reconfigure or break a server. Nothing is skipped: without PostgreSQL's binaries these functions
//! panic with a remedy. Durability is off (`fsync`), authentication is not (`scram-sha-256` on TCP and socket alike).

// A harness offers more than each moment's tests use.
#![allow(dead_code)]

use std::ffi::OsString;
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// The administrator of every server started here.
pub const SUPERUSER: &str = "postgres";
/// [`SUPERUSER`]'s password.
pub const PASSWORD: &str = "correct-horse";

/// How long a server may take until it answers; generous, because the machine may be busy compiling.
const START_SECONDS: u64 = 60;

/// Runs the server as a child, waits on its own standard input (a pipe from the test process) and then stops it: at a
/// line `keep` leaving the directory, at anything else, the end of the pipe included, removing it. A pipe closes however
/// its writer dies, so no server outlives its tests, killed or not.
const WATCHDOG: &str = r#"
dir=$1; shift
"$@" </dev/null >>"$dir/server.log" 2>&1 &
server=$!
read -r order
kill -QUIT "$server" 2>/dev/null
wait "$server"
[ "$order" = keep ] || rm -rf "$dir"
"#;

/// One running PostgreSQL server; stopped, and its files removed, on drop.
pub struct Postgres {
    bin: PathBuf,
    dir: PathBuf,
    port: u16,
    settings: Vec<(String, String)>,
    watchdog: Option<Child>,
}

/// The server that all tests of this binary share; started at the first call.
pub fn shared() -> &'static Postgres {
    static SHARED: OnceLock<Postgres> = OnceLock::new();
    SHARED.get_or_init(Postgres::private)
}

/// A fresh, empty database of the shared server: its URL as [`SUPERUSER`].
pub fn database(name: &str) -> String {
    shared().database(name)
}

impl Postgres {
    /// A server that no other test sees.
    pub fn private() -> Postgres {
        Postgres::private_with(&[])
    }

    /// A server that no other test sees, with these settings (`name`, `value`) on its command line. A setting may name
    /// files in [`Postgres::dir`] only after a `stop`, since the directory is made here.
    pub fn private_with(settings: &[(&str, &str)]) -> Postgres {
        let bin = binaries();
        let dir = tempfile::Builder::new().prefix("pgveil-").tempdir().expect("a temporary directory").keep();
        std::fs::set_permissions(&dir, PermissionsExt::from_mode(0o755)).unwrap();
        own(&dir);
        let settings = settings.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        let mut server = Postgres { bin, dir, port: 0, settings, watchdog: None };
        server.initialise();
        server.start();
        server
    }

    /// Fills the data directory: by `initdb` once, then by copying what that made.
    fn initialise(&self) {
        let template = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("initdb-{}", version(&self.bin)));
        if !template.exists() {
            self.initdb();
            static NEXT: AtomicU32 = AtomicU32::new(0);
            let unique = format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
            let making = template.with_extension(unique);
            copy(&self.data(), &making);
            // Another test may have been faster; then theirs is as good.
            if std::fs::rename(&making, &template).is_err() {
                let _ = std::fs::remove_dir_all(&making);
            }
        } else {
            copy(&template, &self.data());
        }
    }

    fn initdb(&self) {
        let password = self.dir.join("password");
        std::fs::write(&password, PASSWORD).unwrap();
        own(&password);
        let output = as_server_user(&self.bin.join("initdb"))
            .args(["--auth=scram-sha-256", "--encoding=UTF8", "--no-locale", "--no-sync"])
            .arg(format!("--username={SUPERUSER}"))
            .arg(format!("--pwfile={}", password.display()))
            .arg("--pgdata")
            .arg(self.data())
            .current_dir(&self.dir)
            .output()
            .expect("initdb starts");
        assert!(output.status.success(), "initdb failed: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// Starts a stopped server again, on the port that it had (a new one at the first start).
    pub fn start(&mut self) {
        assert!(self.watchdog.is_none(), "the server is running");
        for _ in 0..5 {
            if self.port == 0 {
                self.port = free_port();
            }
            self.watchdog = Some(self.spawn());
            if self.wait_until_ready() {
                return;
            }
            self.stop();
            self.port = 0;
        }
        panic!("PostgreSQL in {} did not start:\n{}", self.bin.display(), self.log());
    }

    fn spawn(&self) -> Child {
        let mut server = vec![self.bin.join("postgres").into_os_string(), "-D".into(), self.data().into()];
        let mut set = |name: &str, value: &str| {
            server.push("-c".into());
            server.push(OsString::from(format!("{name}={value}")));
        };
        set("port", &self.port.to_string());
        set("listen_addresses", "127.0.0.1");
        set("unix_socket_directories", &self.dir.display().to_string());
        for (name, value) in [
            ("fsync", "off"),
            ("shared_buffers", "32MB"),
            ("max_connections", "200"),
            ("wal_level", "logical"),
            ("log_min_messages", "warning"),
            ("log_line_prefix", "%m [%p] %u@%d "),
        ] {
            set(name, value);
        }
        for (name, value) in &self.settings {
            set(name, value);
        }
        as_server_user(Path::new("/bin/sh"))
            .args(["-c", WATCHDOG, "pgveil-watchdog"])
            .arg(&self.dir)
            .args(server)
            .current_dir(&self.dir)
            // An interrupt at the terminal must reach the tests only: the watchdog still has to clean up.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("sh starts")
    }

    /// Whether the server answered in time; false at once when it has ended (a taken port).
    fn wait_until_ready(&self) -> bool {
        let url = self.url("postgres");
        let deadline = Instant::now() + Duration::from_secs(START_SECONDS);
        while Instant::now() < deadline {
            if try_query(&url, "select 1").is_ok() {
                return true;
            }
            if self.log().contains("could not create any TCP/IP sockets") {
                return false;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        false
    }

    /// Stops the server at once, as a crash would, and keeps its files; [`Postgres::start`] brings it back.
    pub fn stop(&mut self) {
        self.end("keep\n");
    }

    fn end(&mut self, order: &str) {
        if let Some(mut watchdog) = self.watchdog.take() {
            if let Some(mut stdin) = watchdog.stdin.take() {
                // The watchdog may be gone already; then there is nobody to tell.
                let _ = stdin.write_all(order.as_bytes());
            }
            let _ = watchdog.wait();
        }
    }

    /// Creates an empty database whose name starts with `name`, and returns its URL as [`SUPERUSER`].
    pub fn database(&self, name: &str) -> String {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let name = format!("{name}_{}", NEXT.fetch_add(1, Ordering::Relaxed));
        execute(&self.url("postgres"), &format!("create database {name} template template0"));
        self.url(&name)
    }

    /// The URL of a database as [`SUPERUSER`], over TCP.
    pub fn url(&self, database: &str) -> String {
        self.url_as(SUPERUSER, PASSWORD, database)
    }

    /// The URL of a database as any user, over TCP. The parts must need no percent-encoding.
    pub fn url_as(&self, user: &str, password: &str, database: &str) -> String {
        format!("postgresql://{user}:{password}@127.0.0.1:{}/{database}", self.port)
    }

    /// The TCP port on 127.0.0.1; it also names the socket.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `127.0.0.1:port`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The server's own directory: socket, `data/` and `server.log`.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The data directory.
    pub fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// The directory of PostgreSQL's binaries.
    pub fn bin(&self) -> &Path {
        &self.bin
    }

    /// The server's log so far.
    pub fn log(&self) -> String {
        let bytes = std::fs::read(self.dir.join("server.log")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Gives a file to the user that the server runs as (a TLS key, say, which it insists on owning).
    pub fn own(&self, path: &Path) {
        own(path);
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.end("remove\n");
        // After a `stop` there was no watchdog left to do it.
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// The database's name in a URL made by this harness.
pub fn database_name(url: &str) -> &str {
    url.rsplit('/').next().expect("split yields at least one part")
}

/// Runs SQL with psql as a script would (`--no-psqlrc`, unaligned, tuples only): standard output, standard error and exit code.
pub fn psql(url: &str, sql: &str) -> (String, String, i32) {
    psql_with(url, &["--tuples-only", "--no-align", "--command", sql], "")
}

/// Runs psql with these arguments and this standard input.
pub fn psql_with(url: &str, arguments: &[&str], input: &str) -> (String, String, i32) {
    let program = tool("psql");
    let mut child = Command::new(&program)
        .args(["--no-psqlrc", "--dbname", url])
        .args(arguments)
        .env("PGCONNECT_TIMEOUT", "20")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{}: {error}", program.display()));
    let mut stdin = child.stdin.take().expect("standard input is piped");
    let input = input.as_bytes().to_vec();
    // psql may leave before it has read everything.
    let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().expect("psql runs");
    writer.join().expect("writing does not panic");
    (
        String::from_utf8_lossy(&output.stdout).into_owned(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
        output.status.code().unwrap_or(-1),
    )
}

/// A client program of PostgreSQL (`psql`, `pgbench`, `pg_dump`): beside the server's, else by `PATH`.
pub fn tool(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::iter::once(binaries())
        .chain(std::env::split_paths(&path))
        .map(|dir| dir.join(name))
        .find(|program| program.is_file())
        .unwrap_or_else(|| {
            panic!("{name} not found beside the server or in PATH: install PostgreSQL's clients (apt install postgresql-client)")
        })
}

/// `pg_dump`, which dumps no server that is newer than itself: `PGVEIL_PG_DUMP`, else as [`tool`].
pub fn pg_dump() -> Command {
    Command::new(std::env::var_os("PGVEIL_PG_DUMP").map_or_else(|| tool("pg_dump"), PathBuf::from))
}

/// As [`tool`], of a program that may be where only administrators look.
pub fn tool_or_daemon(name: &str) -> PathBuf {
    let daemon = Path::new("/usr/sbin").join(name);
    if daemon.is_file() { daemon } else { tool(name) }
}

/// Runs a batch of SQL by the simple protocol; panics with the server's message when it fails.
pub fn execute(url: &str, sql: &str) {
    query(url, sql);
}

/// Runs a batch of SQL by the simple protocol and returns all rows as text.
pub fn query(url: &str, sql: &str) -> Vec<Vec<Option<String>>> {
    try_query(url, sql).unwrap_or_else(|error| panic!("{sql}: {error}"))
}

/// As [`query`]; the error is `SQLSTATE: message`, or a sentence when there is no answer at all.
pub fn try_query(url: &str, sql: &str) -> Result<Vec<Vec<Option<String>>>, String> {
    // A thread of its own, because the caller may be inside a runtime already.
    std::thread::scope(|scope| {
        scope
            .spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(simple_query(url, sql)).map_err(|error| match error.as_db_error() {
                    Some(db) => format!("{}: {}", db.code().code(), db.message()),
                    None => error.to_string(),
                })
            })
            .join()
            .expect("the client does not panic")
    })
}

async fn simple_query(url: &str, sql: &str) -> Result<Vec<Vec<Option<String>>>, tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await?;
    let connection = tokio::spawn(connection);
    let messages = client.simple_query(sql).await;
    drop(client);
    let _ = connection.await;
    let mut rows = Vec::new();
    for message in messages? {
        if let tokio_postgres::SimpleQueryMessage::Row(row) = message {
            rows.push((0..row.len()).map(|column| row.get(column).map(str::to_owned)).collect());
        }
    }
    Ok(rows)
}

/// The server's major version, as its binary says.
pub fn major() -> u32 {
    static MAJOR: OnceLock<u32> = OnceLock::new();
    *MAJOR.get_or_init(|| {
        let output =
            Command::new(binaries().join("postgres")).arg("--version").output().expect("postgres runs");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let number = said.split_whitespace().find_map(|word| word.split('.').next()?.parse().ok());
        number.unwrap_or_else(|| panic!("a version in {said:?}"))
    })
}

/// The directory with `initdb` and `postgres`: `PGVEIL_PG_BIN`, `pg_config --bindir`, the packagers' directories (newest
/// first), `PATH`. Panics with a remedy.
pub fn binaries() -> PathBuf {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    FOUND
        .get_or_init(|| {
            candidates().into_iter().find(|dir| is_server(dir)).unwrap_or_else(|| panic!("{NO_POSTGRES}"))
        })
        .clone()
}

const NO_POSTGRES: &str = "no PostgreSQL server binaries (initdb, postgres) found, and these tests do not skip.\n\
     hint: run scripts/test, which installs them; or `apt install postgresql`; or point PGVEIL_PG_BIN at the directory that holds them";

fn is_server(dir: &Path) -> bool {
    dir.join("initdb").is_file() && dir.join("postgres").is_file()
}

fn candidates() -> Vec<PathBuf> {
    if let Some(dir) = std::env::var_os("PGVEIL_PG_BIN") {
        return vec![dir.into()];
    }
    let mut found = Vec::new();
    if let Ok(output) = Command::new("pg_config").arg("--bindir").output() {
        found.push(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()));
    }
    let mut versions = Vec::new();
    for (parent, prefix) in [
        ("/usr/lib/postgresql", ""),
        ("/usr", "pgsql-"),
        ("/opt/homebrew/opt", "postgresql"),
        ("/usr/local/opt", "postgresql"),
    ] {
        for entry in std::fs::read_dir(parent).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if let Some(rest) = name.strip_prefix(prefix) {
                versions.push((
                    rest.trim_start_matches('@').parse::<u32>().unwrap_or(0),
                    entry.path().join("bin"),
                ));
            }
        }
    }
    versions.sort();
    found.extend(versions.into_iter().rev().map(|(_, dir)| dir));
    found.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
    found
}

/// PostgreSQL refuses to run as root; then it runs as `postgres`, else `nobody`. `None`: as whoever we are.
fn server_user() -> Option<(u32, u32)> {
    static USER: OnceLock<Option<(u32, u32)>> = OnceLock::new();
    *USER.get_or_init(|| {
        let id = |arguments: &[&str]| -> Option<u32> {
            let output = Command::new("id").args(arguments).output().ok()?;
            String::from_utf8_lossy(&output.stdout).trim().parse().ok()
        };
        if id(&["-u"]) != Some(0) {
            return None;
        }
        let user = ["postgres", "nobody"]
            .into_iter()
            .find_map(|user| Some((id(&["-u", user])?, id(&["-g", user])?)));
        Some(user.expect("a root that runs these tests has a user postgres or nobody"))
    })
}

pub fn as_server_user(program: &Path) -> Command {
    let mut command = Command::new(program);
    if let Some((uid, gid)) = server_user() {
        command.uid(uid).gid(gid);
    }
    // A developer's own PGPORT or PGDATA must not leak into the server.
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PG")) {
        command.env_remove(name);
    }
    command.env("LC_ALL", "C").env("TZ", "UTC");
    command
}

/// A directory with all in it, owners and modes kept.
fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").args([from, to]).status().expect("cp runs");
    assert!(status.success(), "cp -a {} {}", from.display(), to.display());
}

/// `postgres --version` as a part of a file's name.
fn version(bin: &Path) -> String {
    let output = Command::new(bin.join("postgres")).arg("--version").output().expect("postgres runs");
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    text.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect()
}

fn own(path: &Path) {
    if let Some((uid, gid)) = server_user() {
        chown(path, Some(uid), Some(gid)).expect("root may give files away");
    }
}

/// A TCP port on 127.0.0.1 that was free a moment ago, and that no client's socket is given: below the ephemeral ones.
pub fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    for _ in 0..10_000 {
        // Two runs of the tests at one time begin at different places.
        let offset = std::process::id().wrapping_mul(97).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = 12_000 + u16::try_from(offset % 18_000).expect("less than 18,000");
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no free port")
}

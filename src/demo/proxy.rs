//! pgveil's own commands, run as a person would run them: `init`, `users add`, `serve`, `audit`.

use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// How long it may take to stop before it is told so more firmly.
const STOP_TIMEOUT: Duration = Duration::from_secs(3);

/// A running `pgveil serve`.
pub struct Proxy {
    child: Child,
    pub address: String,
    pub admin: String,
}

fn pgveil() -> Result<Command, String> {
    let program = std::env::current_exe().map_err(|error| format!("cannot find pgveil itself: {error}"))?;
    let mut command = Command::new(program);
    command.env_remove("PGVEIL_CONFIG").env_remove("PGVEIL_DATABASE_URL").stdin(Stdio::null());
    // An interrupt at the terminal is for the demo: it stops what it started.
    command.process_group(0);
    Ok(command)
}

/// Runs one of pgveil's commands to its end.
///
/// # Errors
/// Its own words, when it fails.
pub fn run(arguments: &[&str], environment: &[(&str, &str)]) -> Result<String, String> {
    let output = pgveil()?
        .args(arguments)
        .envs(environment.iter().copied())
        .output()
        .map_err(|error| format!("cannot run pgveil {}: {error}", arguments[0]))?;
    let Output { status, stdout, stderr } = output;
    if !status.success() {
        return Err(format!("pgveil {} failed: {}", arguments[0], String::from_utf8_lossy(&stderr).trim()));
    }
    Ok(String::from_utf8_lossy(&stdout).into_owned())
}

impl Proxy {
    /// Starts it and reads from its log where it listens; the log goes on into `log`.
    ///
    /// # Errors
    /// It ended before it was ready.
    pub fn start(config: &Path, log: &Path) -> Result<Proxy, String> {
        let mut child = pgveil()?
            .arg("serve")
            .arg("--config")
            .arg(config)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("cannot start pgveil serve: {error}"))?;
        let Some(stderr) = child.stderr.take() else { return Err("pgveil serve has no log".to_owned()) };
        let mut lines = BufReader::new(stderr).lines();
        let mut seen = String::new();
        for line in lines.by_ref().map_while(Result::ok) {
            seen.push_str(&line);
            seen.push('\n');
            let parsed: Value = serde_json::from_str(&line).unwrap_or_default();
            let fields = &parsed["fields"];
            if fields["message"] == "pgveil is ready" {
                let text = |name: &str| fields[name].as_str().unwrap_or_default().to_owned();
                let proxy = Proxy { child, address: text("address"), admin: text("admin") };
                keep(lines, log.to_owned(), seen);
                return Ok(proxy);
            }
        }
        // It has ended: its log is what there is to say.
        let _ = child.wait();
        Err(format!("pgveil serve did not start: {}", seen.trim()))
    }
}

/// Writes the rest of the log to a file until the proxy ends.
fn keep(
    lines: impl Iterator<Item = std::io::Result<String>> + Send + 'static,
    log: std::path::PathBuf,
    seen: String,
) {
    std::thread::spawn(move || {
        use std::io::Write as _;
        let Ok(mut file) = std::fs::File::create(log) else { return };
        // A log that cannot be written does not stop the demo.
        let _ = file.write_all(seen.as_bytes());
        for line in lines.map_while(Result::ok) {
            let _ = writeln!(file, "{line}");
        }
    });
}

impl Proxy {
    fn ended(&mut self, within: Duration) -> bool {
        let began = Instant::now();
        while began.elapsed() < within {
            if self.child.try_wait().is_ok_and(|status| status.is_some()) {
                return true;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        false
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let pid = self.child.id().to_string();
        // The first asks it to finish transactions, the second not to wait for them.
        for _ in 0..2 {
            // The shell has `kill` where nothing else has.
            let told = Command::new("sh").args(["-c", "kill -s TERM \"$0\"", &pid]).status();
            if told.is_ok_and(|status| status.success()) && self.ended(STOP_TIMEOUT) {
                return;
            }
        }
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

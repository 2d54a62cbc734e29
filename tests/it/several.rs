//! Several proxies in front of one database: the same folder, other ports and a log of their own.

use std::fs::{self, File};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

use crate::postgres;
use crate::proxy::{Proxy, signal};

/// A further proxy, running.
pub struct Sibling {
    dir: TempDir,
    url: String,
    serve: Child,
}

impl Sibling {
    /// As `proxy` is now, beside it.
    pub fn of(proxy: &Proxy) -> Sibling {
        let dir =
            tempfile::Builder::new().prefix("pgveil-sibling-").tempdir().expect("a temporary directory");
        let port = postgres::free_port();
        for name in [
            "proxy.toml",
            "policy.toml",
            "tags.toml",
            "users.toml",
            "keyring.json",
            "master.key",
            "service.password",
        ] {
            fs::copy(proxy.dir().join(name), dir.path().join(name)).expect(name);
        }
        let settings = fs::read_to_string(dir.path().join("proxy.toml")).expect("it was copied");
        let settings = settings
            .replace(&format!("127.0.0.1:{}\"", proxy.port()), &format!("127.0.0.1:{port}\""))
            .lines()
            .filter(|line| {
                !line.starts_with("[admin]") && !line.contains(&format!(":{}\"", proxy.admin_port()))
            })
            .collect::<Vec<_>>()
            .join("\n");
        fs::write(dir.path().join("proxy.toml"), settings).expect("a file in our directory");
        fs::create_dir(dir.path().join("audit")).expect("a folder in our directory");
        for name in ["audit.key", "audit.pub"] {
            let from = proxy.dir().join("audit").join(name);
            fs::copy(from, dir.path().join("audit").join(name)).expect(name);
        }
        let url = proxy.url("USER").replace(&format!(":{}/", proxy.port()), &format!(":{port}/"));
        let serve = start(&dir);
        let sibling = Sibling { dir, url, serve };
        sibling.wait_until_ready(port);
        sibling
    }

    fn wait_until_ready(&self, port: u16) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < deadline, "it is not ready:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(25));
        }
    }

    /// A URL through it.
    pub fn url(&self, user: &str) -> String {
        self.url.replace("USER", user)
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("serve.log")).unwrap_or_default()
    }

    /// Ends it as a machine that fails does, or (`TERM`) as its operator does; and waits for that.
    pub fn end(mut self, by: &str) {
        signal(&self.serve.id().to_string(), by);
        let _ = self.serve.wait();
    }
}

fn start(dir: &TempDir) -> Child {
    let log = File::options().create(true).append(true).open(dir.path().join("serve.log")).expect("a log");
    Command::new(env!("CARGO_BIN_EXE_pgveil"))
        .args(["serve", "--config"])
        .arg(dir.path())
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a descriptor"))
        .stderr(log)
        .spawn()
        .expect("pgveil starts")
}

impl Drop for Sibling {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.serve.kill();
        let _ = self.serve.wait();
    }
}

//! Programs in other languages, run over PostgreSQL itself and through the proxy: they print what they are answered, and
//! both times they must print the same.
//!
//! A program gets a URL as its last argument and finds an empty database, in which it makes its tables (`person` and
//! `visit`, or pgbench's, [`TAGS`]) itself. What it sent is known from the plain server's log, and kept in `tests/corpus/tools`
//! (`recorded.rs`). Nothing is skipped: what a program needs is installed, or the test fails with a remedy.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use crate::postgres::{self, Postgres};
use crate::proxy::{self, Proxy};
use crate::recorded;

/// Sealed columns of five types, deterministic and randomized, and one that is stored in clear.
pub const POLICY: &str = r#"
default = "refuse"
[domain.email]
label = "pii.text.email"
type = "varchar(120)"
seal = "deterministic"
[domain.name]
label = "pii.text.name"
type = "text"
seal = "randomized"
[domain.born]
label = "pii.born"
type = "date"
seal = "randomized"
[domain.salary]
label = "pay.salary"
type = "numeric(12,2)"
seal = "deterministic"
[domain.profile]
label = "pii.profile"
type = "jsonb"
seal = "randomized"
[domain.phone]
label = "pii.text.phone"
type = "varchar(40)"
seal = "none"
[domain.account]
label = "pay.account"
type = "integer"
seal = "deterministic"
[domain.delta]
label = "pay.delta"
type = "integer"
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
labels = ["pii.text.*"]
allow = ["read"]
show = "mask:partial"
"#;

/// What the programs' tables hold.
pub const TAGS: &str = r#"
[columns]
"public.person.email" = "email"
"public.person.name" = "name"
"public.person.born" = "born"
"public.person.salary" = "salary"
"public.person.profile" = "profile"
"public.person.phone" = "phone"
"public.visit.email" = "email"
"public.pgbench_accounts.aid" = "account"
"public.pgbench_accounts.bid" = "account"
"public.pgbench_branches.bid" = "account"
"public.pgbench_tellers.bid" = "account"
"public.pgbench_history.aid" = "account"
"public.pgbench_history.bid" = "account"
"public.pgbench_history.delta" = "delta"
"#;

/// Both runs of a program: `command` makes it, without the URL. `tool` names it and its corpus.
pub fn same(tool: &str, about: &str, command: impl Fn() -> Command) {
    Twins::start().same(tool, about, command);
}

/// The proxy and a plain database beside it.
pub struct Twins {
    pub proxy: Proxy,
    /// The plain database's URL, as `shop`.
    pub plain: String,
}

impl Twins {
    pub fn start() -> Twins {
        let settings = [("log_statement", "all"), ("log_line_prefix", recorded::PREFIX)];
        let proxy = Proxy::start_before(Postgres::private_with(&settings), POLICY, TAGS, "");
        let plain = plain_twin(&proxy);
        Twins { proxy, plain }
    }

    /// As [`same`]; gives what was printed.
    pub fn same(&self, tool: &str, about: &str, command: impl Fn() -> Command) -> String {
        let name = postgres::database_name(self.proxy.direct());
        let twin = postgres::database_name(&self.plain);
        let expected =
            run(tool, command().arg(format!("{}?sslmode=disable", self.plain))).replace(twin, name);
        assert!(expected.lines().count() > 10, "{tool} did something:\n{expected}");
        let seen = run(tool, command().arg(self.proxy.url("shop")));
        let from = expected.lines().zip(seen.lines()).take_while(|(expected, seen)| expected == seen).count();
        let rest = |text: &str| text.lines().skip(from).take(20).collect::<Vec<_>>().join("\n");
        assert!(
            expected == seen,
            "{tool}: from line {} on:\nPostgreSQL:\n{}\nproxy:\n{}",
            from + 1,
            rest(&expected),
            rest(&seen)
        );
        let sealed = "select count(*) from pg_attribute a join pg_class c on c.oid = attrelid \
                      where c.relkind = 'r' and atttypid::regtype::text like 'pgveil.%'";
        let sealed = postgres::query(self.proxy.direct(), sealed)[0][0].clone().unwrap();
        assert!(sealed.parse::<u32>().unwrap() >= 5, "{tool}: its columns are sealed, not {sealed} of them");
        if std::env::var_os("UPDATE").is_some() {
            let log = self.proxy.postgres.log();
            let mut statements = recorded::statements(&log, &format!("shop@{twin}"));
            recorded::name_objects(&mut statements, &self.proxy.postgres.url(twin));
            recorded::write(tool, about, &statements);
        }
        expected
    }
}

/// A database without pgveil on the same server: its URL as `shop`, who may do there what he may behind the proxy.
pub fn plain_twin(proxy: &Proxy) -> String {
    let twin = proxy.postgres.database("twin");
    for user in proxy::USERS {
        postgres::execute(&twin, &proxy::grants(user));
    }
    proxy.postgres.url_as("shop", &proxy::password("shop"), postgres::database_name(&twin))
}

fn run(tool: &str, command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{tool}: {command:?}: {error}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "{tool} failed: {command:?}\n{}\n{}",
        text(&output.stdout),
        text(&output.stderr)
    );
    text(&output.stdout)
}

/// `tests/tools/NAME`, copied to `target/tools/NAME` and made ready there by `prepare` unless it is already, from the very
/// same files.
pub fn prepared(name: &str, prepare: impl Fn(&Path)) -> PathBuf {
    static LOCKS: Mutex<BTreeMap<String, Arc<Mutex<()>>>> = Mutex::new(BTreeMap::new());
    // Tests of one folder wait for each other; a failed preparation is tried again by the next.
    let own = LOCKS.lock().unwrap().entry(name.to_owned()).or_default().clone();
    let guard = own.lock().unwrap_or_else(|poison| poison.into_inner());
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (from, to) = (root.join("tests/tools").join(name), root.join("target/tools").join(name));
    fs::create_dir_all(&to).unwrap();
    let mut changed = false;
    for file in fs::read_dir(&from).unwrap().map(|entry| entry.unwrap()) {
        // A program that was installed in place by hand has more than files there.
        if file.file_type().unwrap().is_file() {
            let (text, copy) = (fs::read(file.path()).unwrap(), to.join(file.file_name()));
            if fs::read(&copy).ok().as_ref() != Some(&text) {
                fs::write(copy, text).unwrap();
                changed = true;
            }
        }
    }
    let ready = to.join(".ready");
    if changed || !ready.exists() {
        let _ = fs::remove_file(&ready);
        prepare(&to);
        fs::write(ready, "").unwrap();
    }
    drop(guard);
    to
}

/// Runs a step of a preparation; panics with its output and `hint` when it fails.
pub fn must<S: AsRef<OsStr>>(dir: &Path, program: &str, arguments: &[S], hint: &str) {
    let output = Command::new(program).args(arguments).current_dir(dir).output();
    let succeeded = output.as_ref().is_ok_and(|output| output.status.success());
    assert!(succeeded, "{program} in {}: {output:?}\nhint: {hint}", dir.display());
}

/// What a function of `scripts/common.sh` finds or fetches, and names in this variable.
pub fn needed(function: &str, variable: &str) -> String {
    let script = format!(". scripts/common.sh; {function} >&2; printf %s \"${variable}\"");
    let output = Command::new("bash")
        .args(["-c", &script])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("PGVEIL_PYTHON", crate::python::interpreter())
        .output()
        .expect("bash runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("a path in UTF-8")
}

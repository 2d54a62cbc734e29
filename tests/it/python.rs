//! A Python of the tests' own, for what only Python has: the psycopg driver, and a YAML parser.
//!
//! `PGVEIL_PYTHON` names one (scripts/test sets it), else `target/venv` is used and filled on demand. Without Python the
//! tests fail with a remedy; they do not skip.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// What the tests import, as pip names it.
const PACKAGES: [&str; 3] = ["psycopg[binary]>=3.1", "pyyaml", "cryptography"];

/// The interpreter, with [`PACKAGES`] installed.
pub fn interpreter() -> &'static Path {
    static PYTHON: OnceLock<PathBuf> = OnceLock::new();
    PYTHON.get_or_init(|| {
        let venv = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/venv");
        let python = std::env::var_os("PGVEIL_PYTHON").map_or_else(|| venv.join("bin/python"), PathBuf::from);
        if ready(&python) {
            return python;
        }
        if !venv.join("bin/pip").exists() {
            remedy(Command::new("python3").args(["-m", "venv"]).arg(&venv));
        }
        remedy(
            Command::new(venv.join("bin/pip"))
                .args(["install", "--quiet", "--disable-pip-version-check"])
                .args(PACKAGES),
        );
        venv.join("bin/python")
    })
}

fn ready(python: &Path) -> bool {
    let imports = Command::new(python).args(["-c", "import psycopg, yaml, cryptography"]).output();
    imports.is_ok_and(|output| output.status.success())
}

fn remedy(command: &mut Command) {
    let output = command.output();
    let succeeded = output.as_ref().is_ok_and(|output| output.status.success());
    assert!(
        succeeded,
        "{command:?}: {output:?}\nhint: scripts/test installs what is missing; or apt install python3-venv"
    );
}

/// Runs Python with these arguments and extra environment; panics with its output when it fails. Returns what it printed.
pub fn run(arguments: &[&str], environment: &[(&str, &str)]) -> String {
    let output = Command::new(interpreter())
        .args(arguments)
        .envs(environment.iter().copied())
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .expect("the interpreter was just tried");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "python failed:\n{}\n{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

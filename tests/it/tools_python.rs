//! Python: SQLAlchemy, Django and asyncpg do what their users do, through the proxy as over PostgreSQL itself.
//!
//! Their packages are installed into `target/tools/python` from PyPI, at the versions of `requirements.txt`.

use std::path::Path;
use std::process::Command;

use crate::foreign;

fn program(file: &str) -> Command {
    let dir = foreign::prepared("python", |dir: &Path| {
        let hint = "scripts/test installs what is missing; or apt install python3-venv";
        foreign::must(dir, "python3", &["-m", "venv", "venv"], hint);
        let install = ["install", "--quiet", "--disable-pip-version-check", "-r", "requirements.txt"];
        foreign::must(dir, "venv/bin/pip", &install, hint);
    });
    let mut python = Command::new(dir.join("venv/bin/python"));
    python.env("PYTHONDONTWRITEBYTECODE", "1").arg(dir.join(file));
    python
}

#[test]
fn sqlalchemy_notices_no_proxy() {
    let about = "Schema, reflection, unit of work, insertmanyvalues, upserts and locks (tests/tools/python/alchemy.py).";
    foreign::same("sqlalchemy", about, || program("alchemy.py"));
}

#[test]
fn django_notices_no_proxy() {
    let about = "Migrations, the ORM, the admin and inspectdb (tests/tools/python/django_app.py).";
    foreign::same("django", about, || program("django_app.py"));
}

#[test]
fn asyncpg_notices_no_proxy() {
    let about =
        "Prepared statements in binary, executemany, COPY, cursors, a pool (tests/tools/python/async_pg.py).";
    foreign::same("asyncpg", about, || program("async_pg.py"));
}

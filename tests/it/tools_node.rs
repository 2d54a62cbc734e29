//! Node.js: node-postgres, TypeORM and Prisma do what their users do, through the proxy as over PostgreSQL itself.
//!
//! Their packages are installed from `tests/tools/node/package-lock.json` into `target/tools/node`. Node.js and npm must be
//! there (scripts/test installs them).

use std::path::Path;
use std::process::Command;

use crate::foreign;

fn node(program: &str) -> Command {
    let dir = foreign::prepared("node", |dir: &Path| {
        let install = ["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"];
        foreign::must(
            dir,
            "npm",
            &install,
            "scripts/test installs what is missing; or apt install nodejs npm",
        );
    });
    let mut command = Command::new("node");
    command.arg("--no-deprecation").arg(dir.join(program)).env("TZ", "UTC");
    command
}

#[test]
fn node_postgres_notices_no_proxy() {
    foreign::same(
        "node-postgres",
        "pg with pg-cursor, pg-query-stream and pg-copy-streams (tests/tools/node/pg.js).",
        || node("pg.js"),
    );
}

#[test]
fn typeorm_notices_no_proxy() {
    let about = "Synchronize, migrations, repositories and query builders (tests/tools/node/typeorm.js).";
    foreign::same("typeorm", about, || node("typeorm.js"));
}

#[test]
fn prisma_notices_no_proxy() {
    let about = "Schema push, migrations, introspection and the client, by the driver adapter (tests/tools/node/prisma.js).";
    foreign::same("prisma", about, || node("prisma.js"));
}

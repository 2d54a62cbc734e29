//! Rust: sqlx does what its users do, through the proxy as over PostgreSQL itself.
//!
//! A crate of its own with its own lock file (`tests/tools/sqlx`), built into `target/tools/sqlx-target`. tokio-postgres, which
//! pgveil itself uses, is driven in `drivers.rs`. `describe` among it, on which the compile-time macros rest: it explains a
//! statement by EXECUTE.

use std::path::Path;
use std::process::Command;

use crate::foreign;

fn sqlx() -> Command {
    let dir = foreign::prepared("sqlx", |dir: &Path| {
        let arguments = ["build", "--locked", "--quiet", "--target-dir", "../sqlx-target"];
        foreign::must(
            dir,
            env!("CARGO"),
            &arguments,
            "the crates in tests/tools/sqlx/Cargo.lock must be reachable",
        );
    });
    Command::new(dir.join("../sqlx-target/debug/pgveil-tools-sqlx"))
}

#[test]
fn sqlx_notices_no_proxy() {
    let about =
        "Migrations, bound and built queries, streams, COPY, what the macros ask (tests/tools/sqlx/main.rs).";
    foreign::same("sqlx", about, sqlx);
}

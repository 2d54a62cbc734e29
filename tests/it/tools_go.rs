//! Go: pgx does what its users do, through the proxy as over PostgreSQL itself, in each of its ways to prepare statements.
//!
//! pgx is Debian's package (scripts/test installs it); `PGVEIL_GOPATH` names another GOPATH that has it. Built into
//! `target/tools/go`.

use std::path::Path;
use std::process::Command;

use crate::foreign;

fn pgx() -> Command {
    let dir = foreign::prepared("go", |dir: &Path| {
        let hint =
            "scripts/test installs what is missing; or apt install golang-go golang-github-jackc-pgx-v4-dev";
        let gopath = std::env::var("PGVEIL_GOPATH").unwrap_or_else(|_| "/usr/share/gocode".to_owned());
        let build = format!("GOPATH={gopath}");
        let cache = format!("GOCACHE={}", dir.join("cache").display());
        // Without modules, which would be asked of the network.
        let arguments =
            ["GO111MODULE=off", "CGO_ENABLED=0", &build, &cache, "go", "build", "-o", "pgx", "main.go"];
        foreign::must(dir, "env", &arguments, hint);
    });
    Command::new(dir.join("pgx"))
}

#[test]
fn pgx_notices_no_proxy() {
    let about = "Prepared and described statements, the simple protocol, batches, CopyFrom in binary (tests/tools/go/main.go).";
    foreign::same("pgx", about, pgx);
}

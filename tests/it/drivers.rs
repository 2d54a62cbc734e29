//! Unmodified clients: psycopg 3, psql, pgbench and tokio-postgres do what their users do, against PostgreSQL itself (so that
//! each script is known to ask for nothing but PostgreSQL) and through the proxy.

use crate::{postgres, python};

fn psycopg(url: &str) {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/drivers/psycopg_test.py");
    let printed = python::run(&[script, url], &[]);
    assert!(printed.ends_with("steps passed\n"), "{printed}");
}

#[test]
fn psycopg_expects_what_postgresql_gives() {
    psycopg(&postgres::database("psycopg"));
}

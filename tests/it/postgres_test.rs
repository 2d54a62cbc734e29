//! The harness itself: it starts, keeps passwords, hands out separate databases, survives a stop and leaves nothing.

use crate::postgres::{self, Postgres};

#[test]
fn databases_of_the_shared_server_are_separate() {
    let (one, other) = (postgres::database("harness"), postgres::database("harness"));
    postgres::execute(&one, "create table t (a int); insert into t values (1), (null)");
    assert_eq!(postgres::query(&one, "select a from t order by a"), [vec![Some("1".to_owned())], vec![None]]);
    assert!(postgres::try_query(&other, "select a from t").unwrap_err().starts_with("42P01: "));
}

#[test]
fn passwords_are_checked() {
    let server = postgres::shared();
    let url = server.url_as(postgres::SUPERUSER, "wrong", "postgres");
    assert!(postgres::try_query(&url, "select 1").unwrap_err().starts_with("28P01: "));
}

#[test]
fn psql_runs() {
    let (stdout, stderr, code) = postgres::psql(&postgres::database("harness"), "select 1 + 1");
    assert_eq!((stdout.as_str(), stderr.as_str(), code), ("2\n", "", 0));
}

#[test]
fn a_private_server_stops_starts_and_leaves_nothing() {
    let mut server = Postgres::private();
    let url = server.database("harness");
    postgres::execute(&url, "create table t (a int)");
    server.stop();
    assert!(postgres::try_query(&url, "select 1").is_err());
    server.start();
    postgres::execute(&url, "select * from t");
    let dir = server.dir().to_owned();
    drop(server);
    assert!(!dir.exists());
}

//! Unmodified clients: psycopg 3, psql, pgbench and tokio-postgres do what their users do, against PostgreSQL itself (so that
//! each script is known to ask for nothing but PostgreSQL) and through the proxy.

use std::pin::pin;
use std::process::Command;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, TryStreamExt};
use tokio_postgres::NoTls;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;

use crate::proxy::{self, Proxy};
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

#[test]
fn psycopg_notices_no_proxy() {
    let proxy = Proxy::start(proxy::POLICY, proxy::TAGS);
    psycopg(&proxy.url("shop"));
    let types = "select pg_typeof(email)::text, pg_typeof(card)::text from customers limit 1";
    let sealed = [Some("pgveil.email_1".to_owned()), Some("pgveil.card".to_owned())];
    assert_eq!(postgres::query(proxy.direct(), types), [sealed]);
}

/// A proxy with three customers behind it, inserted through it.
fn shop() -> Proxy {
    let proxy = Proxy::start(proxy::POLICY, proxy::TAGS);
    let create =
        "create table customers (id int primary key, email text unique, card text, joined date, note text)";
    let insert = "insert into customers values (1, 'ann@example.com', '4111111111111111', '2024-02-29', 'a'),
            (2, 'bob@example.com', null, null, null), (3, 'cyd@example.com', '5555555555554444', '2025-01-01', 'c')";
    for statement in [create, insert] {
        let (_, stderr, code) = postgres::psql(&proxy.url("shop"), statement);
        assert_eq!((stderr.as_str(), code), ("", 0));
    }
    proxy
}

#[test]
fn psql_works_as_ever() {
    let proxy = shop();
    let url = proxy.url("shop");
    let ok = |sql: &str| {
        let (stdout, stderr, code) = postgres::psql(&url, sql);
        assert_eq!((stderr.as_str(), code), ("", 0), "{sql}");
        stdout
    };
    assert_eq!(
        ok("select id, email, joined from customers order by id limit 1"),
        "1|ann@example.com|2024-02-29\n"
    );
    assert_eq!(ok("select id from customers where email = 'bob@example.com'"), "2\n");
    assert_eq!(ok("select count(*) from customers c join customers d using (email)"), "3\n");
    for command in
        ["\\dt", "\\d customers", "\\d+ customers", "\\du", "\\l", "\\dn+", "\\df", "\\dp", "\\conninfo"]
    {
        ok(command);
    }
    let (stdout, stderr, code) = postgres::psql_with(
        &url,
        &["--quiet"],
        "begin;\nselect 1/0;\nselect 2;\nrollback;\nselect 3 as three;\n",
    );
    assert!(
        stderr.contains("division by zero") && stderr.contains("current transaction is aborted"),
        "{stderr}"
    );
    assert!(stdout.contains("three") && code == 0, "{stdout}");
    // The input is read up to its own end, in line with the commands around it.
    let copy = "create table untagged (a int, b text);\n\\copy untagged from stdin\n1\tone\n2\ttwo\n\\.\nselect sum(a) from untagged;\n";
    let (stdout, stderr, _) = postgres::psql_with(&url, &["--tuples-only", "--no-align"], copy);
    assert!(stdout.ends_with("3\n"), "{stdout}{stderr}");
}

#[test]
fn others_see_masks_or_nothing() {
    let proxy = shop();
    let (stdout, stderr, code) =
        postgres::psql(&proxy.url("alice"), "select id, email, card, note from customers order by id");
    assert_eq!((stderr.as_str(), code), ("", 0));
    assert_eq!(stdout.lines().count(), 3);
    assert!(
        !stdout.contains("ann@example.com")
            && !stdout.contains("4111111111111111")
            && stdout.starts_with("1|"),
        "{stdout}"
    );
    let refused = [
        ("alice", "update customers set email = 'x' where id = 1"),
        ("alice", "select id from customers where email = 'ann@example.com'"),
        ("intern", "select email from customers"),
        ("intern", "select * from customers"),
    ];
    for (user, sql) in refused {
        let (stdout, stderr, code) =
            postgres::psql_with(&proxy.url(user), &["--set", "VERBOSITY=verbose", "--command", sql], "");
        assert!(
            stderr.contains("ERROR:  42501: permission denied for column email of table customers"),
            "{user}: {sql}: {stdout}{stderr}"
        );
        assert_eq!(code, 1);
    }
    let (stdout, _, code) =
        postgres::psql(&proxy.url("intern"), "select id, note from customers order by id");
    assert_eq!((stdout.as_str(), code), ("1|a\n2|\n3|c\n", 0));
}

/// pgbench's own tables are untagged; a script of ours uses tagged columns.
#[test]
fn pgbench_runs_in_every_query_mode() {
    let proxy = shop();
    let url = proxy.url("shop");
    let script = proxy.dir().join("customers.sql");
    std::fs::write(
        &script,
        "\\set id random(10, 100000)\ninsert into customers (id, email, card) values (:id, null, '4242')\n\
         on conflict (id) do update set card = '4343';\nselect email, card from customers where id = :id;\n\
         select id from customers where email = 'ann@example.com';\n",
    )
    .unwrap();
    let pgbench = |arguments: &[&str]| {
        let output = Command::new(postgres::tool("pgbench")).args(arguments).arg(&url).output().unwrap();
        let text =
            [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
        assert!(output.status.success(), "pgbench {arguments:?}: {text}");
        text
    };
    pgbench(&["--initialize", "--quiet"]);
    for mode in ["simple", "extended", "prepared"] {
        let run = ["--no-vacuum", "--client=4", "--transactions=25", "--protocol", mode];
        let report = pgbench(&run);
        assert!(report.contains("100/100") && !report.contains("failed transactions: 1"), "{report}");
        let file = format!("--file={}", script.display());
        let report = pgbench(&[&run[..], &[&file]].concat());
        assert!(report.contains("100/100"), "{report}");
    }
}

#[test]
fn tokio_postgres_works_as_ever() {
    let proxy = shop();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        let (mut client, connection) = tokio_postgres::connect(&proxy.url("shop"), NoTls).await.unwrap();
        tokio::spawn(connection);
        binary_and_portals(&mut client).await;
        pipelined(&client).await;
        copies(&client).await;
        let cancel = client.cancel_token();
        let (slept, cancelled) = tokio::join!(client.simple_query("select pg_sleep(20)"), async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            cancel.cancel_query(NoTls).await
        });
        assert_eq!(slept.unwrap_err().code(), Some(&SqlState::QUERY_CANCELED));
        cancelled.unwrap();
    });
}

async fn binary_and_portals(client: &mut tokio_postgres::Client) {
    let insert = client
        .prepare("insert into customers (id, email, card) values ($1, $2, $3) returning email")
        .await
        .unwrap();
    assert_eq!(insert.params(), [Type::INT4, Type::TEXT, Type::TEXT]);
    assert_eq!(insert.columns()[0].type_(), &Type::TEXT);
    for id in 100..150 {
        let row =
            client.query_one(&insert, &[&id, &format!("{id}@example.com"), &None::<&str>]).await.unwrap();
        assert_eq!(row.get::<_, &str>(0), format!("{id}@example.com"));
    }
    let by_email =
        client.prepare("select id, joined is null from customers where email = any($1)").await.unwrap();
    assert_eq!(by_email.params(), [Type::TEXT_ARRAY]);
    let rows =
        client.query(&by_email, &[&vec!["101@example.com", "nobody", "140@example.com"]]).await.unwrap();
    let mut ids: Vec<i32> = rows.iter().map(|row| row.get(0)).collect();
    ids.sort_unstable();
    assert_eq!(ids, [101, 140]);
    let transaction = client.transaction().await.unwrap();
    let portal =
        transaction.bind("select email from customers where id >= 100 order by id", &[]).await.unwrap();
    let mut seen = 0;
    for expected in [20, 20, 10] {
        let rows = transaction.query_portal(&portal, 20).await.unwrap();
        assert_eq!(rows.len(), expected);
        assert_eq!(rows[0].get::<_, &str>(0), format!("{}@example.com", 100 + seen));
        seen += expected;
    }
    transaction.rollback().await.unwrap();
}

/// Requests sent before any answer is read, one of them wrong: each gets its own reply.
async fn pipelined(client: &tokio_postgres::Client) {
    let good = client.prepare("select email from customers where id = $1").await.unwrap();
    let bad = client.prepare("select 1 / $1::int").await.unwrap();
    let (first, wrong, last, duplicate) = tokio::join!(
        client.query_one(&good, &[&1]),
        client.query_one(&bad, &[&0]),
        client.query_one(&good, &[&3]),
        client.execute("insert into customers (id, email) values (9, 'ann@example.com')", &[]),
    );
    assert_eq!(first.unwrap().get::<_, &str>(0), "ann@example.com");
    assert_eq!(wrong.unwrap_err().code(), Some(&SqlState::DIVISION_BY_ZERO));
    assert_eq!(last.unwrap().get::<_, &str>(0), "cyd@example.com");
    assert_eq!(duplicate.unwrap_err().code(), Some(&SqlState::UNIQUE_VIOLATION));
}

async fn copies(client: &tokio_postgres::Client) {
    client.batch_execute("create table copied (a int, b text)").await.unwrap();
    let sink = client.copy_in::<_, Bytes>("copy copied from stdin").await.unwrap();
    let mut sink = pin!(sink);
    sink.send(Bytes::from_static(b"1\tone\n2\t")).await.unwrap();
    sink.send(Bytes::from_static(b"two\n")).await.unwrap();
    assert_eq!(sink.finish().await.unwrap(), 2);
    let mut stream = pin!(client.copy_out("copy copied to stdout (format csv)").await.unwrap());
    let mut text = Vec::new();
    while let Some(part) = stream.try_next().await.unwrap() {
        text.extend_from_slice(&part);
    }
    assert_eq!(text, b"1,one\n2,two\n");
}

//! What the service user reads of a real database, and the picture that comes of it.

use crate::postgres::{self, Postgres};
use pgveil::catalog::build::build;
use pgveil::catalog::{Catalog, Domain, RelationKind, Seal, State, Tag, Tags};
use pgveil::server::service;
use pgveil::server::settings::{DatabaseAddress, DatabaseSettings, DatabaseTls};
use pgveil::value::DataType;
use std::sync::Arc;
use tokio_postgres::Client;

/// `[database]` for this server and user.
pub fn settings(server: &Postgres, user: &str, password: &str) -> DatabaseSettings {
    DatabaseSettings {
        address: DatabaseAddress::Tcp("127.0.0.1".into(), server.port()),
        tls: DatabaseTls::Prefer,
        ca: None,
        service_user: user.into(),
        service_password: Some(zeroize::Zeroizing::new(password.into())),
        service_password_file: None,
        service_database: "postgres".into(),
        session_pooler: false,
    }
}

/// A fresh database, and a connection of a user without any right beyond PUBLIC's.
async fn fixture(sql: &str) -> (String, Client) {
    let url = postgres::database("catalog");
    let name = postgres::database_name(&url).to_owned();
    postgres::execute(&url, &format!("create role service_{name} login password 'x'; {sql}"));
    let settings = settings(postgres::shared(), &format!("service_{name}"), "x");
    (url, service::service(&settings, &name).await.unwrap())
}

fn domain(name: &str, data_type: DataType, seal: Seal) -> Arc<Domain> {
    let (name, label) = (name.to_owned(), format!("pii.{name}"));
    Arc::new(Domain { name, label: label.into(), data_type, seal, key: "default".into() })
}

fn tags() -> Tags {
    let domains = vec![
        domain("email", DataType::Text, Seal::Deterministic),
        domain("card", DataType::Text, Seal::Randomized),
        domain("note", DataType::Text, Seal::None),
    ];
    let tag = |table: &str, column: &str, domain: usize| Tag {
        schema: "public".into(),
        table: table.into(),
        column: column.into(),
        domain: domains[domain].clone(),
        data_type: DataType::Text,
        database: None,
    };
    let elsewhere = Tag { database: Some("elsewhere".into()), ..tag("customers", "name", 0) };
    let tags = vec![
        tag("customers", "email", 0),
        tag("customers", "card", 1),
        tag("customers", "note", 2),
        elsewhere,
    ];
    Tags { tags, domains, ..Tags::default() }
}

async fn picture(client: &mut Client) -> Catalog {
    next(client, None).await
}

async fn next(client: &mut Client, before: Option<&Catalog>) -> Catalog {
    build(service::read_catalog(client).await.unwrap(), &tags(), "here", 7, before)
}

fn state(catalog: &Catalog, relation: &str, column: &str) -> Option<State> {
    let relation = catalog.find_in("public", relation).unwrap();
    relation.column(column).unwrap().tag.as_ref().map(|tag| tag.state.clone())
}

const TYPES: &str = "create schema pgveil; create domain pgveil.email_1 as bytea; create domain pgveil.email_2 as bytea; \
     create domain pgveil.card as bytea; create domain pgveil.other as bytea; \
     grant usage on schema pgveil to public;";

#[tokio::test]
async fn states_come_from_types() {
    let sql = "create table customers (id int primary key, email pgveil.email_1, card pgveil.email_2, note varchar(9), name text)";
    let (_, mut client) = fixture(&format!("{TYPES} {sql}")).await;
    let catalog = picture(&mut client).await;
    assert_eq!(state(&catalog, "customers", "email"), Some(State::Sealed { version: Some(1) }));
    assert_eq!(
        state(&catalog, "customers", "card"),
        Some(State::Broken("its type is pgveil.email_2, which is not of domain card".into()))
    );
    assert_eq!(state(&catalog, "customers", "note"), Some(State::Clear));
    let customers = catalog.find_in("public", "customers").unwrap();
    assert_eq!(customers.column("note").unwrap().tag.as_ref().unwrap().data_type, DataType::Varchar(Some(9)));
    assert_eq!(state(&catalog, "customers", "name"), None, "tagged in another database");
    assert!(customers.column("id").unwrap().not_null && customers.unreadable.is_none());
    assert_eq!(catalog.sealed_type("email").unwrap().name, "email_2");
    assert_eq!(catalog.sealed_types.len(), 3, "pgveil.other is no domain's");
    assert!(catalog.sealed_types.values().all(|sealed| sealed.array_oid != 0));
    assert_eq!((catalog.generation, catalog.has_clear_tags()), (7, true));
}

#[tokio::test]
async fn a_column_of_another_type_is_broken() {
    let (_, mut client) = fixture("create table customers (email int, card bytea, note char(3))").await;
    let catalog = picture(&mut client).await;
    for column in ["email", "card", "note"] {
        assert!(matches!(state(&catalog, "customers", column), Some(State::Broken(_))), "{column}");
    }
}

#[tokio::test]
async fn partitions_and_children_have_their_parents_tags() {
    let (_, mut client) = fixture(
        "create table customers (id int, email text, card text, note text) partition by range (id); \
         create table early partition of customers for values from (0) to (9) partition by list (id); \
         create table earliest partition of early for values in (1);",
    )
    .await;
    let catalog = picture(&mut client).await;
    assert_eq!(state(&catalog, "earliest", "email"), Some(State::Clear));
    assert_eq!(catalog.find_in("public", "early").unwrap().kind, RelationKind::Partitioned);
}

#[tokio::test]
async fn a_renamed_clear_column_closes_its_relation_and_a_missing_one_does_not() {
    let (url, mut client) = fixture("create table customers (id int, email text, name text)").await;
    let unreadable = async |client: &mut Client| {
        picture(client).await.find_in("public", "customers").unwrap().unreadable.clone()
    };
    assert_eq!(unreadable(&mut client).await, None, "card and note are not there yet");
    postgres::execute(&url, "alter table customers rename email to mail");
    let why = unreadable(&mut client).await.unwrap();
    assert_eq!(why, "its tagged column \"email\" is gone and column \"mail\" may be it, renamed");
    postgres::execute(&url, "alter table customers drop mail");
    assert_eq!(unreadable(&mut client).await, None, "dropping is allowed");
}

/// Names change hands between two readings: the values that a tag meant are where they were, under another name.
#[tokio::test]
async fn what_held_clear_values_stays_closed_when_another_takes_its_name() {
    let table = "create table customers (id int, email text, note text, plain text)";
    let parts = "create table customers (id int, email text) partition by list (id); \
                 create table early partition of customers for values in (1)";
    let cases = [
        (
            table,
            "alter table customers rename email to old; alter table customers rename plain to email",
            "customers",
        ),
        (
            table,
            "alter table customers rename email to old; alter table customers add email text",
            "customers",
        ),
        (
            table,
            "alter table customers rename email to x; alter table customers rename note to email; \
                 alter table customers rename x to note",
            "customers",
        ),
        (table, "alter table customers rename to old; create table customers (email text)", "old"),
        (table, "create schema s; alter table customers set schema s", "customers"),
        (parts, "alter table customers detach partition early", "early"),
    ];
    for (before, ddl, closed) in cases {
        let (url, mut client) = fixture(before).await;
        let first = picture(&mut client).await;
        assert!(first.relations.values().all(|relation| relation.unreadable.is_none()));
        postgres::execute(&url, ddl);
        let mut last = next(&mut client, Some(&first)).await;
        for _ in 0..2 {
            let unreadable: Vec<&str> = last
                .relations
                .values()
                .filter(|relation| relation.unreadable.is_some())
                .map(|relation| relation.name.as_str())
                .collect();
            assert_eq!(unreadable, [closed], "{ddl}");
            last = next(&mut client, Some(&last)).await;
        }
        postgres::execute(&url, &format!("set search_path = public, s; drop table {closed} cascade"));
        last = next(&mut client, Some(&last)).await;
        assert!(last.relations.values().all(|relation| relation.unreadable.is_none()), "{ddl}");
    }
}

#[tokio::test]
async fn a_tag_that_is_put_right_opens_its_relation() {
    let (url, mut client) = fixture("create table customers (email text, plain text)").await;
    let first = picture(&mut client).await;
    postgres::execute(
        &url,
        "alter table customers rename email to mail; alter table customers rename plain to email",
    );
    let closed = next(&mut client, Some(&first)).await;
    assert!(closed.find_in("public", "customers").unwrap().unreadable.is_some());
    let mut tags = tags();
    tags.tags.truncate(1);
    tags.tags[0].column = "mail".into();
    let rows = service::read_catalog(&mut client).await.unwrap();
    let open = build(rows, &tags, "here", 8, Some(&closed));
    let customers = open.find_in("public", "customers").unwrap();
    assert!(customers.unreadable.is_none());
    assert!(
        customers.column("mail").unwrap().tag.is_some() && customers.column("email").unwrap().tag.is_none()
    );
}

#[tokio::test]
async fn views_functions_and_system_names_are_known() {
    let (_, mut client) = fixture(
        "create table customers (id int generated always as identity, email text, twice int generated always as (1) stored); \
         create view contacts as select email as mail from customers; \
         create function shout(text) returns text language sql as 'select upper($1)'; \
         create schema \"Odd\"; create table \"Odd\".\"T t\" (a int);",
    )
    .await;
    let catalog = picture(&mut client).await;
    let view = catalog.find(&["pg_catalog".into(), "public".into()], "contacts").unwrap();
    let definition = view.definition.as_deref().unwrap();
    assert!(definition.contains("FROM public.customers"), "{definition}");
    assert!(catalog.sensitive_names().contains("contacts"));
    assert_eq!(catalog.functions["shout"][0].language, "sql");
    assert!(catalog.find_in("pg_catalog", "pg_class").unwrap().column("relname").is_some());
    assert!(catalog.find_in("information_schema", "columns").unwrap().definition.is_none());
    assert!(catalog.find_in("Odd", "T t").is_some() && catalog.schemas.contains(&"Odd".to_owned()));
    let customers = catalog.find_in("public", "customers").unwrap();
    assert!(!customers.column("id").unwrap().generated && customers.column("twice").unwrap().generated);
    assert!(!customers.column("email").unwrap().generated);
}

#[tokio::test]
async fn the_signature_follows_ddl_and_ignores_data() {
    let (url, client) = fixture("create table t (a int); create view v as select a from t").await;
    let mut last = service::signature(&client).await.unwrap();
    assert_eq!(service::signature(&client).await.unwrap(), last);
    for quiet in ["insert into t values (1)", "analyze t", "truncate t", "create temp table x (a int)"] {
        postgres::execute(&url, quiet);
        assert_eq!(service::signature(&client).await.unwrap(), last, "{quiet}");
    }
    for ddl in [
        "create table u (a int)",
        "alter table u add b text",
        "alter table u rename b to c",
        "alter table u alter c type varchar(9)",
        "alter table u rename to w",
        "create or replace view v as select a from t where a > 0",
        "create schema s",
        "alter table w set schema s",
        "create schema pgveil; create domain pgveil.card as bytea",
        "create function f() returns int language sql as 'select 1'",
        "create table p (a int) partition by list (a)",
        "create table p1 partition of p for values in (1)",
        "alter table p detach partition p1",
        "drop table s.w",
    ] {
        postgres::execute(&url, ddl);
        let now = service::signature(&client).await.unwrap();
        assert_ne!(now, last, "{ddl}");
        last = now;
    }
}

#[tokio::test]
async fn a_locked_view_is_unreadable_and_the_rest_is_read() {
    let (url, mut client) = fixture(
        "create schema pgveil; create domain pgveil.card_1 as bytea; \
                 create table customers (email text, card pgveil.card_1 default '\\x1100', day date default now()); create table t (a int); \
                 create view contacts as select email from customers; create view v as select a from t",
    )
    .await;
    let (locker, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    locker.batch_execute("begin; lock table customers in access exclusive mode").await.unwrap();
    client.batch_execute("set lock_timeout = '100ms'").await.unwrap();
    let catalog = picture(&mut client).await;
    assert_eq!(catalog.defaults.len(), 1, "what a locked table's sealed column has when nothing is said");
    assert!(catalog.find_in("public", "contacts").unwrap().unreadable.is_some());
    assert!(catalog.find_in("public", "v").unwrap().definition.is_some());
}

#[tokio::test]
async fn roles_are_found_through_others() {
    let (url, client) = fixture("").await;
    let name = postgres::database_name(&url);
    postgres::execute(
        &url,
        &format!(
            "create role a_{name}; create role b_{name} in role a_{name}; grant b_{name} to service_{name}"
        ),
    );
    let roles = service::roles_of(&client, &format!("service_{name}")).await.unwrap();
    assert_eq!(Vec::from_iter(roles), [format!("a_{name}"), format!("b_{name}")]);
}

#[tokio::test]
async fn errors_name_the_server_and_no_password() {
    let server = postgres::shared();
    let error =
        service::service(&settings(server, "nobody_here", "opensesame"), "postgres").await.unwrap_err();
    assert_eq!(error.sqlstate.as_deref(), Some("28P01"));
    assert_eq!(
        error.message,
        format!(
            "could not connect to 127.0.0.1:{} as nobody_here: password authentication failed for user \"nobody_here\"",
            server.port()
        )
    );
    let settings = settings(server, "x", "x");
    let error = service::connect_url(&settings, "postgres//a:opensesame@x", None).await.unwrap_err();
    assert!(!error.message.contains("opensesame"));
}

/// Turns TLS on in a private server, with a certificate for `name` of an authority whose certificate is returned.
fn turn_tls_on(server: &Postgres, name: &str) -> std::path::PathBuf {
    let mut parameters = rcgen::CertificateParams::new(Vec::new()).unwrap();
    parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let key = rcgen::KeyPair::generate().unwrap();
    let authority = rcgen::CertifiedIssuer::self_signed(parameters, key).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate =
        rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &authority).unwrap();
    for (file, pem) in
        [("tls.key", key.serialize_pem()), ("tls.crt", certificate.pem()), ("tls.ca", authority.pem())]
    {
        let path = server.dir().join(file);
        std::fs::write(&path, pem).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        server.own(&path);
    }
    for setting in ["ssl_key_file = '%/tls.key'", "ssl_cert_file = '%/tls.crt'", "ssl = on"] {
        let setting = setting.replace('%', &server.dir().display().to_string());
        postgres::execute(&server.url("postgres"), &format!("alter system set {setting}"));
    }
    postgres::execute(&server.url("postgres"), "select pg_reload_conf(); select pg_sleep(0.3)");
    server.dir().join("tls.ca")
}

#[tokio::test]
async fn the_service_user_speaks_tls_as_configured() {
    let server = Postgres::private();
    let encrypted = async |settings: &DatabaseSettings| -> Result<bool, String> {
        let client = service::service(settings, "postgres").await.map_err(|error| error.message)?;
        let query = "select ssl from pg_stat_ssl where pid = pg_backend_pid()";
        Ok(client.query_one(query, &[]).await.unwrap().get(0))
    };
    let with = |tls, ca: Option<std::path::PathBuf>| DatabaseSettings {
        tls,
        ca,
        ..settings(&server, postgres::SUPERUSER, postgres::PASSWORD)
    };
    assert_eq!(encrypted(&with(DatabaseTls::Prefer, None)).await, Ok(false), "the server has none yet");
    assert!(encrypted(&with(DatabaseTls::Require, None)).await.unwrap_err().contains("does not support TLS"));
    let ca = Some(turn_tls_on(&server, "db.example.com"));
    assert_eq!(encrypted(&with(DatabaseTls::Off, None)).await, Ok(false));
    for tls in [DatabaseTls::Prefer, DatabaseTls::Require] {
        assert_eq!(encrypted(&with(tls, None)).await, Ok(true));
    }
    assert_eq!(encrypted(&with(DatabaseTls::VerifyCa, ca.clone())).await, Ok(true));
    let error = encrypted(&with(DatabaseTls::VerifyFull, ca.clone())).await.unwrap_err();
    assert!(error.contains("certificate"), "another name: {error}");
    turn_tls_on(&server, "127.0.0.1");
    let ca = Some(server.dir().join("tls.ca"));
    assert_eq!(encrypted(&with(DatabaseTls::VerifyFull, ca)).await, Ok(true));
}

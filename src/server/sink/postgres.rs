//! A table in a PostgreSQL database, made when it is missing; a record that is there already is not written again.

use crate::audit::follow::Followed;
use crate::audit::sink::Form;
use crate::server::service;
use crate::server::settings::{DatabaseSettings, DatabaseTls};
use std::io;
use std::path::Path;

const TABLE: &str = "create schema if not exists pgveil;
    create table if not exists pgveil.audit_record (
        log text not null, line bigint not null, received timestamptz not null default now(), record jsonb not null,
        primary key (log, line))";

const INSERT: &str = "insert into pgveil.audit_record (log, line, record)
    select $1, line, record::jsonb from unnest($2::bigint[], $3::text[]) as r (line, record)
    on conflict do nothing";

/// How the sink's server is spoken to: verified by `ca`, or without TLS (only to near ones, or where the URL says so).
pub(super) fn database(own: &DatabaseSettings, ca: Option<&Path>) -> DatabaseSettings {
    let tls = if ca.is_some() { DatabaseTls::VerifyFull } else { DatabaseTls::Off };
    DatabaseSettings { tls, ca: ca.map(Path::to_owned), ..own.clone() }
}

/// `log` names the log, `database` says how far a server's certificate is checked.
pub(super) async fn insert(
    url: &str,
    database: &DatabaseSettings,
    log: &str,
    records: &[Followed],
    form: Form,
) -> io::Result<()> {
    let told = |error: tokio_postgres::Error| {
        // The database's own words, which hold no value of a record's.
        let code = error.code().map(|code| code.code().to_owned());
        io::Error::other(code.map_or_else(|| error.to_string(), |code| format!("SQLSTATE {code}")))
    };
    let client =
        service::connect_url(database, url, None).await.map_err(|error| io::Error::other(error.message))?;
    let texts: Vec<String> = records.iter().map(|followed| form.write(followed)).collect();
    let numbers = records.iter().map(|followed| i64::try_from(followed.number));
    let numbers = numbers.collect::<Result<Vec<_>, _>>().map_err(io::Error::other)?;
    client.batch_execute(TABLE).await.map_err(told)?;
    client.execute(INSERT, &[&log, &numbers, &texts]).await.map_err(told)?;
    Ok(())
}

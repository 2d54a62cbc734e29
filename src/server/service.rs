//! The service user's connections, and administrators': what the proxy itself asks of the database.
//!
//! Guarantees: errors name the server and the user, never a password; the catalog's rows come from one snapshot.
//! Deliberately absent: clients' traffic (that is upstream's), and any decision about what was read.

use super::fence::LOCK;
use super::service_tls::ServiceTls;
use super::settings::{DatabaseAddress, DatabaseSettings, DatabaseTls};
use super::tls::{DatabaseConnector, TlsError};
use crate::auth::Verifier;
use crate::catalog::queries::{self, RawCatalog, RawColumn, RawFunction, RawRelation, RawType};
use crate::policy::Memberships;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::{Client, Config, IsolationLevel, Transaction};

/// Longest wait for a connection to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Name of the look-up function of `auth.source = "database"`, in schema `pgveil`.
pub const VERIFIER_FUNCTION: &str = "verifier";

/// The database did not do what the proxy itself asked of it. Holds no secret and no value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceError {
    /// `None` when there was no answer at all.
    pub sqlstate: Option<String>,
    pub message: String,
}

impl fmt::Display for ServiceError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.message)
    }
}

impl std::error::Error for ServiceError {}

impl From<tokio_postgres::Error> for ServiceError {
    fn from(error: tokio_postgres::Error) -> ServiceError {
        match error.as_db_error() {
            Some(answer) => ServiceError {
                sqlstate: Some(answer.code().code().to_owned()),
                message: answer.message().to_owned(),
            },
            None => {
                let cause =
                    std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
                ServiceError { sqlstate: None, message: format!("{error}{cause}") }
            }
        }
    }
}

/// Longest wait for the answer to a short question.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// One connection of the service user to its own database, made at the first question and kept: strangers who try to log
/// in must not be able to make us open one each.
#[derive(Default)]
pub struct Kept(Mutex<Option<Arc<Client>>>);

impl Kept {
    async fn client(&self, settings: &DatabaseSettings) -> Result<Arc<Client>, ServiceError> {
        let mut kept = self.0.lock().await;
        if let Some(client) = kept.as_ref().filter(|client| !client.is_closed()) {
            return Ok(client.clone());
        }
        let client = Arc::new(service(settings, &settings.service_database).await?);
        *kept = Some(client.clone());
        Ok(client)
    }

    /// The next question is asked over a new connection.
    pub async fn forget(&self) {
        *self.0.lock().await = None;
    }

    async fn answer<T>(
        &self,
        answer: impl Future<Output = Result<T, ServiceError>>,
    ) -> Result<T, ServiceError> {
        let answer = in_time(ANSWER_TIMEOUT, answer).await;
        if answer.as_ref().is_err_and(|error| error.sqlstate.is_none()) {
            self.forget().await;
        }
        answer
    }

    /// Whether the database answers at all.
    ///
    /// # Errors
    /// As [`service`], and no answer in time.
    pub async fn ping(&self, settings: &DatabaseSettings) -> Result<(), ServiceError> {
        let client = self.client(settings).await?;
        self.answer(async { Ok(client.batch_execute("").await?) }).await
    }

    /// As [`verifier`].
    ///
    /// # Errors
    /// As [`verifier`] and [`service`], and no answer in time.
    pub async fn verifier(
        &self,
        settings: &DatabaseSettings,
        user: &str,
    ) -> Result<Option<Verifier>, ServiceError> {
        let client = self.client(settings).await?;
        self.answer(verifier(&client, user)).await
    }

    /// As [`roles_of`].
    ///
    /// # Errors
    /// As [`roles_of`] and [`service`], and no answer in time.
    pub async fn roles_of(
        &self,
        settings: &DatabaseSettings,
        user: &str,
    ) -> Result<BTreeSet<String>, ServiceError> {
        let client = self.client(settings).await?;
        self.answer(roles_of(&client, user)).await
    }

    /// As [`memberships`].
    ///
    /// # Errors
    /// As [`memberships`] and [`service`], and no answer in time.
    pub async fn memberships(&self, settings: &DatabaseSettings) -> Result<Memberships, ServiceError> {
        let client = self.client(settings).await?;
        self.answer(memberships(&client)).await
    }
}

/// The answer, or that it did not come in time.
///
/// # Errors
/// The answer's own.
pub async fn in_time<T>(
    limit: Duration,
    answer: impl Future<Output = Result<T, ServiceError>>,
) -> Result<T, ServiceError> {
    tokio::time::timeout(limit, answer).await.unwrap_or_else(|_| {
        let message = format!("the database did not answer within {} seconds", limit.as_secs());
        Err(ServiceError { sqlstate: None, message })
    })
}

/// A connection of the service user for reading the catalog: read-only, with an empty search path.
///
/// # Errors
/// The server is not there, or does not let the service user in.
pub async fn service(settings: &DatabaseSettings, database: &str) -> Result<Client, ServiceError> {
    watched(settings, database, || ()).await
}

/// As [`service`]; `ended` is called when the connection is no more.
///
/// # Errors
/// As [`service`].
pub async fn watched(
    settings: &DatabaseSettings,
    database: &str,
    ended: impl FnOnce() + Send + 'static,
) -> Result<Client, ServiceError> {
    let password = settings.service_password.as_ref().map(|password| password.as_str());
    in_time(CONNECT_TIMEOUT, async {
        let config = config(settings, database, &settings.service_user, password);
        let client = open(config, settings, ended).await?;
        client.batch_execute(queries::SESSION).await?;
        Ok(client)
    })
    .await
}

/// A connection of the service user for the ledger: the one that writes.
///
/// # Errors
/// As [`service`].
pub async fn ledger(settings: &DatabaseSettings) -> Result<Client, ServiceError> {
    let password = settings.service_password.as_ref().map(|password| password.as_str());
    in_time(CONNECT_TIMEOUT, async {
        let client = connect(settings, &settings.service_database, &settings.service_user, password).await?;
        client.batch_execute(LEDGER_SESSION).await?;
        Ok(client)
    })
    .await
}

/// A lease or a code counts from its commit on, also after the server's own crash; and each statement sees what others
/// committed before.
const LEDGER_SESSION: &str = "SET search_path = ''; SET lock_timeout = '2s'; SET statement_timeout = '4s'; \
    SET default_transaction_read_only = off; SET default_transaction_isolation = 'read committed'; \
    SET synchronous_commit = on";

/// A connection as any user to the server that `[database]` names. It lives until the client is dropped.
///
/// # Errors
/// As [`service`].
pub async fn connect(
    settings: &DatabaseSettings,
    database: &str,
    user: &str,
    password: Option<&str>,
) -> Result<Client, ServiceError> {
    open(config(settings, database, user, password), settings, || ()).await
}

fn config(settings: &DatabaseSettings, database: &str, user: &str, password: Option<&str>) -> Config {
    let mut config = Config::new();
    match &settings.address {
        DatabaseAddress::Tcp(host, port) => config.host(host).port(*port),
        DatabaseAddress::Unix(directory, port) => config.host_path(directory).port(*port),
    };
    config.user(user).dbname(database);
    if let Some(password) = password {
        config.password(password);
    }
    config
}

/// An administrator's connection. `[database] tls` says how far the server is checked, unless the URL turns TLS off;
/// `database` replaces the URL's, and the environment's PGPASSWORD stands in for a password that the URL leaves out.
///
/// # Errors
/// As [`service`], and a URL that cannot be read (which is not quoted: it may hold a password).
pub async fn connect_url(
    settings: &DatabaseSettings,
    url: &str,
    database: Option<&str>,
) -> Result<Client, ServiceError> {
    // libpq's two strictest modes are what `[database] tls` is for; the parser does not know them.
    let url =
        url.replace("sslmode=verify-full", "sslmode=require").replace("sslmode=verify-ca", "sslmode=require");
    let unreadable = |_| ServiceError {
        sqlstate: None,
        message: "the database URL cannot be read (postgresql://user:password@host:port/database)".to_owned(),
    };
    let mut config: Config = url.parse().map_err(unreadable)?;
    if let Some(database) = database {
        config.dbname(database);
    }
    if let (None, Ok(password)) = (config.get_password(), std::env::var("PGPASSWORD")) {
        config.password(password);
    }
    open(config, settings, || ()).await
}

/// `host:port` of a database URL, as `[database] address` spells it; `None` when the URL has none or cannot be read.
pub fn address_of(url: &str) -> Option<String> {
    let config: Config = url.parse().ok()?;
    let port = config.get_ports().first().copied().unwrap_or(5432);
    match config.get_hosts().first()? {
        Host::Tcp(host) if host.contains(':') => Some(format!("[{host}]:{port}")),
        Host::Tcp(host) => Some(format!("{host}:{port}")),
        Host::Unix(directory) => Some(format!("{}:{port}", directory.display())),
    }
}

async fn open(
    mut config: Config,
    settings: &DatabaseSettings,
    ended: impl FnOnce() + Send + 'static,
) -> Result<Client, ServiceError> {
    config.connect_timeout(CONNECT_TIMEOUT).application_name("pgveil");
    let address = address(&config);
    let user = config.get_user().unwrap_or("the operating system's user").to_owned();
    let fault = |sqlstate, why: String| ServiceError {
        sqlstate,
        message: format!("could not connect to {address} as {user}: {why}"),
    };
    let connector = connector(&config, settings).map_err(|error| fault(None, error.to_string()))?;
    config.ssl_mode(match connector.mode {
        _ if config.get_ssl_mode() == SslMode::Disable => SslMode::Disable,
        DatabaseTls::Off => SslMode::Disable,
        DatabaseTls::Prefer => config.get_ssl_mode(),
        DatabaseTls::Require | DatabaseTls::VerifyCa | DatabaseTls::VerifyFull => SslMode::Require,
    });
    let (client, connection) = config
        .connect(ServiceTls(connector))
        .await
        .map_err(ServiceError::from)
        .map_err(|error| fault(error.sqlstate, error.message))?;
    // Ends when the client is dropped; what goes wrong, the client's next call says.
    tokio::spawn(async {
        let _ = connection.await;
        ended();
    });
    Ok(client)
}

/// As `[database] tls` says, for the host that this connection goes to.
fn connector(config: &Config, settings: &DatabaseSettings) -> Result<DatabaseConnector, TlsError> {
    let address = match config.get_hosts().first() {
        Some(Host::Tcp(host)) => DatabaseAddress::Tcp(host.clone(), 0),
        Some(Host::Unix(directory)) => DatabaseAddress::Unix(directory.clone(), 0),
        None => settings.address.clone(),
    };
    DatabaseConnector::new(&DatabaseSettings { address, ..settings.clone() })
}

fn address(config: &Config) -> String {
    let port = config.get_ports().first().copied().unwrap_or(5432);
    match config.get_hosts().first() {
        Some(Host::Tcp(host)) => format!("{host}:{port}"),
        Some(Host::Unix(directory)) => {
            format!("{}/.s.PGSQL.{port}", directory.display())
        }
        None => format!("localhost:{port}"),
    }
}

/// The rows of this connection's database, from one snapshot. The connection must be [`service`]'s.
///
/// # Errors
/// The connection is gone or the database refuses; never because a view is locked (see [`RawCatalog::definitions`]).
pub async fn read_catalog(client: &mut Client) -> Result<RawCatalog, ServiceError> {
    let snapshot = client
        .build_transaction()
        .isolation_level(IsolationLevel::RepeatableRead)
        .read_only(true)
        .start()
        .await?;
    let mut raw = read_rows(&snapshot).await?;
    snapshot.commit().await?;
    raw.definitions = definitions(client).await?;
    Ok(raw)
}

async fn read_rows(client: &Transaction<'_>) -> Result<RawCatalog, ServiceError> {
    let mut raw = RawCatalog::default();
    for row in client.query(queries::SCHEMAS, &[]).await? {
        raw.schemas.push(row.try_get(0)?);
    }
    for row in client.query(queries::RELATIONS, &[]).await? {
        let kind: &str = row.try_get(3)?;
        raw.relations.push(RawRelation {
            oid: row.try_get(0)?,
            schema: row.try_get(1)?,
            name: row.try_get(2)?,
            kind: kind.chars().next().unwrap_or(' '),
        });
    }
    for row in client.query(queries::COLUMNS, &[]).await? {
        raw.columns.push(RawColumn {
            relation: row.try_get(0)?,
            number: row.try_get(1)?,
            name: row.try_get(2)?,
            type_oid: row.try_get(3)?,
            type_name: row.try_get(4)?,
            not_null: row.try_get(5)?,
            generated: row.try_get(6)?,
            altered: row.try_get(7)?,
        });
    }
    for row in client.query(queries::DEFAULTS, &[]).await? {
        let texts: [Option<String>; 2] = [row.try_get(2)?, row.try_get(3)?];
        let texts = texts.map(Option::unwrap_or_default);
        raw.defaults.push(queries::RawDefault { relation: row.try_get(0)?, number: row.try_get(1)?, texts });
    }
    for row in client.query(queries::KEYS, &[]).await? {
        raw.keys.push((row.try_get(0)?, row.try_get(1)?));
    }
    for row in client.query(queries::PARENTS, &[]).await? {
        raw.parents.push((row.try_get(0)?, row.try_get(1)?));
    }
    for row in client.query(queries::SEALED_TYPES, &[]).await? {
        raw.sealed_types.push(RawType {
            oid: row.try_get(0)?,
            array_oid: row.try_get(1)?,
            name: row.try_get(2)?,
        });
    }
    for row in client.query(queries::FUNCTIONS, &[]).await? {
        raw.functions.push(RawFunction {
            schema: row.try_get(0)?,
            name: row.try_get(1)?,
            language: row.try_get(2)?,
            takes_row: row.try_get(3)?,
        });
    }
    for row in client.query(queries::OPERATORS, &[]).await? {
        raw.operators.push(row.try_get(0)?);
    }
    for row in client.query(queries::CASTS, &[]).await? {
        let types = [(row.try_get(0)?, row.try_get(1)?), (row.try_get(2)?, row.try_get(3)?)];
        raw.casts.push(queries::RawCast { types, function: row.try_get(4)? });
    }
    Ok(raw)
}

/// All definitions at once; one at a time when some view's tables are locked, so that only that view is missing.
async fn definitions(client: &Client) -> Result<Vec<(u32, Option<String>)>, ServiceError> {
    let mut views: Vec<u32> = Vec::new();
    for row in client.query(queries::VIEWS, &[]).await? {
        views.push(row.try_get(0)?);
    }
    match definitions_of(client, &views).await {
        Err(error) if error.sqlstate.is_some() => {}
        answer => return answer,
    }
    let mut found = Vec::new();
    for view in views {
        match definitions_of(client, &[view]).await {
            Ok(definition) => found.extend(definition),
            Err(error) if error.sqlstate.is_some() => found.push((view, None)),
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

async fn definitions_of(client: &Client, views: &[u32]) -> Result<Vec<(u32, Option<String>)>, ServiceError> {
    if views.is_empty() {
        return Ok(Vec::new());
    }
    let rows = client.query(queries::DEFINITIONS, &[&views]).await?;
    rows.into_iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
}

/// How many different values a column has, and how many rows, as the planner's statistics estimate it. `None`: nobody counted,
/// or this connection's user may not read the column (which its statistics would tell of).
///
/// # Errors
/// The connection is gone or the database refuses.
pub async fn distinct(
    client: &Client,
    schema: &str,
    table: &str,
    column: &str,
) -> Result<Option<(f64, f64)>, ServiceError> {
    let query = "SELECT CASE WHEN s.n_distinct < 0 THEN -s.n_distinct * greatest(c.reltuples, 0) ELSE s.n_distinct END::float8, \
                 greatest(c.reltuples, 0)::float8 \
                 FROM pg_catalog.pg_stats s JOIN pg_catalog.pg_namespace n ON n.nspname = s.schemaname \
                 JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = s.tablename \
                 WHERE s.schemaname::text = $1 AND s.tablename::text = $2 AND s.attname::text = $3 \
                 ORDER BY s.inherited DESC LIMIT 1";
    let row = client.query_opt(query, &[&schema, &table, &column]).await?;
    row.map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).transpose()
}

/// A short text that changes whenever [`read_catalog`] may answer differently: for polling.
///
/// # Errors
/// The connection is gone or the database refuses.
pub async fn signature(client: &Client) -> Result<String, ServiceError> {
    Ok(client.query_one(queries::SIGNATURE, &[]).await?.try_get(0)?)
}

/// Takes the fence's lock, shared: waits while a conversion has it.
///
/// # Errors
/// The connection is gone.
pub async fn lock_fence(client: &Client) -> Result<(), ServiceError> {
    client.query(&format!("SELECT pg_catalog.pg_advisory_lock_shared({LOCK})"), &[]).await?;
    Ok(())
}

/// Gives the fence's lock up.
///
/// # Errors
/// The connection is gone.
pub async fn unlock_fence(client: &Client) -> Result<(), ServiceError> {
    client.query(&format!("SELECT pg_catalog.pg_advisory_unlock_shared({LOCK})"), &[]).await?;
    Ok(())
}

/// Whether a conversion waits for the fence's lock.
///
/// # Errors
/// The connection is gone.
pub async fn is_fence_awaited(client: &Client) -> Result<bool, ServiceError> {
    // A lock's number is shown in halves: `pg_locks` in the documentation.
    let (high, low) = (LOCK >> 32, LOCK & 0xffff_ffff);
    let query = format!(
        "SELECT EXISTS (SELECT FROM pg_catalog.pg_locks l WHERE l.locktype = 'advisory' AND NOT l.granted \
           AND l.mode = 'ExclusiveLock' AND l.classid = {high}::pg_catalog.oid AND l.objid = {low}::pg_catalog.oid AND l.objsubid = 1 \
           AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()))"
    );
    Ok(client.query_one(&query, &[]).await?.try_get(0)?)
}

/// The table of conversions in schema `pgveil`.
pub const CONVERSIONS: &str = "reseal";

/// (`schema.table.column`, share of its rows that have new cells) of what `pgveil reseal` is converting.
///
/// # Errors
/// The connection is gone, or the table is, or may not be read.
pub async fn progress(client: &Client) -> Result<Vec<(String, f64)>, ServiceError> {
    let rows = client.query(queries::PROGRESS, &[]).await?;
    rows.into_iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
}

/// The databases that take connections, templates left out.
///
/// # Errors
/// The connection is gone or the database refuses.
pub async fn databases(client: &Client) -> Result<Vec<String>, ServiceError> {
    let query = "SELECT d.datname::text FROM pg_catalog.pg_database d \
                 WHERE d.datallowconn AND NOT d.datistemplate ORDER BY 1";
    let rows = client.query(query, &[]).await?;
    rows.into_iter().map(|row| Ok(row.try_get(0)?)).collect()
}

/// The roles that `user` is a member of, directly or not.
///
/// # Errors
/// The connection is gone or the database refuses.
pub async fn roles_of(client: &Client, user: &str) -> Result<BTreeSet<String>, ServiceError> {
    let rows = client.query(queries::ROLES_OF, &[&user]).await?;
    rows.into_iter().map(|row| Ok(row.try_get(0)?)).collect()
}

/// The roles of every user, as [`roles_of`].
///
/// # Errors
/// The connection is gone or the database refuses.
pub async fn memberships(client: &Client) -> Result<Memberships, ServiceError> {
    let mut found = Memberships::new();
    for row in client.query(queries::MEMBERSHIPS, &[]).await? {
        found.entry(row.try_get(0)?).or_default().insert(row.try_get(1)?);
    }
    Ok(found)
}

/// PostgreSQL's own verifier of `user`, through the look-up function that `init` makes in the service database
/// for `auth.source = "database"`. `None`: no such user, or one without a SCRAM password that still holds.
///
/// # Errors
/// The connection is gone, or there is no such function (42883), or it may not be called (42501).
pub async fn verifier(client: &Client, user: &str) -> Result<Option<Verifier>, ServiceError> {
    let call = format!("SELECT {}.{VERIFIER_FUNCTION}($1)", crate::catalog::build::SCHEMA);
    let text: Option<String> = client.query_one(&call, &[&user]).await?.try_get(0)?;
    Ok(text.and_then(|text| Verifier::parse(&text)))
}

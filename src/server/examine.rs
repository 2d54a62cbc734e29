//! What `check` asks of a database beyond its catalog: settings, grants, pg_hba.conf, samples and counts.
//!
//! Guarantees: nothing is written, no question runs for longer than [`SESSION`] says, and an error names the server and
//! the user, never a value. Values leave this module in one way only, [`sample`]'s, and are wiped when they are dropped.
//! Deliberately absent: any judgement of what was found (`config::doctor`).

use super::prepare::quoted;
use super::service::{self, ServiceError};
use super::settings::DatabaseSettings;
use tokio_postgres::Client;
use zeroize::Zeroizing;

/// An administrator's session for looking only.
const SESSION: &str = "SET search_path = ''; SET lock_timeout = '2s'; SET statement_timeout = '60s'; \
     SET default_transaction_read_only = on";

/// One setting of the server, or of a role or a database in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    pub name: String,
    /// Times in milliseconds, as `pg_settings` has them; as they were written where a role or database sets them.
    pub value: String,
    /// Whose it is: `role app`, `database shop`. `None`: everybody's.
    pub scope: Option<String>,
}

/// What a role may do with a column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// `None`: PUBLIC, everybody.
    pub role: Option<String>,
    pub relation: u32,
    pub number: i16,
    pub reads: bool,
    pub writes: bool,
}

/// One rule of pg_hba.conf.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HbaRule {
    pub line: i32,
    /// `local`, `host`, `hostssl`, …
    pub kind: String,
    pub databases: Vec<String>,
    pub users: Vec<String>,
    /// An address, a host's name, `all`, `samehost`, `samenet`.
    pub address: Option<String>,
    pub netmask: Option<String>,
    pub method: String,
}

/// A column of a table, tagged or not.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredColumn {
    pub schema: String,
    pub table: String,
    pub column: String,
    /// `pg_type.typcategory`: `S` text, `N` numbers, `D` dates and times, …
    pub category: char,
    /// `pg_class.reltuples`.
    pub rows: f64,
    /// Not a foreign table's.
    pub is_local: bool,
}

/// How many values occur how often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frequency {
    /// Rows that have one such value.
    pub rows: u64,
    /// Different values that so many rows have.
    pub values: u64,
}

/// A connection that looks only: the administrator's when there is a URL, else the service user's.
///
/// # Errors
/// As [`service::service`].
pub async fn connect(
    settings: &DatabaseSettings,
    url: Option<&str>,
    database: &str,
) -> Result<Client, ServiceError> {
    let Some(url) = url else { return service::service(settings, database).await };
    let client = service::connect_url(settings, url, Some(database)).await?;
    client.batch_execute(SESSION).await?;
    Ok(client)
}

/// The settings that say what of statements is kept, the server's and those that roles and databases have of their own.
///
/// # Errors
/// The connection is gone or the database refuses.
pub async fn settings(client: &Client) -> Result<Vec<Setting>, ServiceError> {
    let query = "SELECT s.name, s.setting, NULL::text FROM pg_catalog.pg_settings s WHERE s.name ~ $1 \
         UNION ALL \
         SELECT pg_catalog.split_part(c.item, '=', 1), pg_catalog.substr(c.item, pg_catalog.strpos(c.item, '=') + 1), \
           pg_catalog.concat_ws(' in ', 'role ' || r.rolname::text, 'database ' || d.datname::text) \
         FROM pg_catalog.pg_db_role_setting o CROSS JOIN pg_catalog.unnest(o.setconfig) AS c(item) \
         LEFT JOIN pg_catalog.pg_roles r ON r.oid = o.setrole LEFT JOIN pg_catalog.pg_database d ON d.oid = o.setdatabase \
         WHERE pg_catalog.split_part(c.item, '=', 1) ~ $1 \
         ORDER BY 1, 3 NULLS FIRST";
    let names = "^(log_.*|listen_addresses|pg_stat_statements\\.track(_utility)?|auto_explain\\.log_.*)$";
    let rows = client.query(query, &[&names]).await?;
    let setting = |row: tokio_postgres::Row| {
        Ok(Setting { name: row.try_get(0)?, value: row.try_get(1)?, scope: row.try_get(2)? })
    };
    rows.into_iter().map(setting).collect()
}

/// Who of those that can log in, the service user and superusers left out, may do what with these columns (relation, number):
/// by grants to themselves, to PUBLIC, or to a role that they are in. What PUBLIC may, a role has no line of its own for.
///
/// # Errors
/// The connection is gone or the database refuses.
pub async fn grants(
    client: &Client,
    service_user: &str,
    columns: &[(u32, i16)],
) -> Result<Vec<Grant>, ServiceError> {
    // Of a role that does not inherit, `SET ROLE` gives it what the other role has.
    let query = "\
        WITH place AS ( \
          SELECT c.oid AS rel, w.num, c.relnamespace AS nsp \
          FROM ROWS FROM (pg_catalog.unnest($1::oid[]), pg_catalog.unnest($2::int2[])) AS w(rel, num) JOIN pg_catalog.pg_class c ON c.oid = w.rel), \
        everybody AS ( \
          SELECT p.rel, p.num, p.nsp, u.usable AND pg_catalog.has_column_privilege('public', p.rel, p.num, 'SELECT') AS reads, \
            u.usable AND pg_catalog.has_column_privilege('public', p.rel, p.num, 'INSERT, UPDATE') AS writes \
          FROM place p CROSS JOIN LATERAL (SELECT pg_catalog.has_schema_privilege('public', p.nsp, 'USAGE') AS usable) u), \
        able AS MATERIALIZED ( \
          SELECT e.rel, e.num, g.oid AS role, h.reads, h.writes FROM everybody e CROSS JOIN pg_catalog.pg_roles g \
          CROSS JOIN LATERAL ( \
            SELECT NOT e.reads AND pg_catalog.has_column_privilege(g.oid, e.rel, e.num, 'SELECT') AS reads, \
              NOT e.writes AND pg_catalog.has_column_privilege(g.oid, e.rel, e.num, 'INSERT, UPDATE') AS writes) h \
          WHERE (h.reads OR h.writes) AND pg_catalog.has_schema_privilege(g.oid, e.nsp, 'USAGE')) \
        SELECT NULL::text, e.rel, e.num, e.reads, e.writes FROM everybody e WHERE e.reads OR e.writes \
        UNION ALL \
        SELECT r.rolname::text, a.rel, a.num, pg_catalog.bool_or(a.reads), pg_catalog.bool_or(a.writes) \
        FROM pg_catalog.pg_roles r JOIN able a ON pg_catalog.pg_has_role(r.oid, a.role, 'MEMBER') \
        WHERE r.rolcanlogin AND NOT r.rolsuper AND r.rolname::text <> $3 \
        GROUP BY r.rolname, a.rel, a.num ORDER BY 1 NULLS FIRST, 2, 3";
    let (relations, numbers): (Vec<u32>, Vec<i16>) = columns.iter().copied().unzip();
    let rows = client.query(query, &[&relations, &numbers, &service_user]).await?;
    let grant = |row: tokio_postgres::Row| {
        Ok(Grant {
            role: row.try_get(0)?,
            relation: row.try_get(1)?,
            number: row.try_get(2)?,
            reads: row.try_get(3)?,
            writes: row.try_get(4)?,
        })
    };
    rows.into_iter().map(grant).collect()
}

/// Superusers that can log in.
///
/// # Errors
/// The connection is gone or the database refuses.
pub async fn superusers(client: &Client) -> Result<Vec<String>, ServiceError> {
    let query =
        "SELECT r.rolname::text FROM pg_catalog.pg_roles r WHERE r.rolsuper AND r.rolcanlogin ORDER BY 1";
    let rows = client.query(query, &[]).await?;
    rows.into_iter().map(|row| Ok(row.try_get(0)?)).collect()
}

/// The rules of pg_hba.conf, in their order.
///
/// # Errors
/// The connection is gone, or its user may not read them (42501).
pub async fn hba(client: &Client) -> Result<Vec<HbaRule>, ServiceError> {
    let query = "SELECT h.line_number, h.type, coalesce(h.database, '{}'), coalesce(h.user_name, '{}'), h.address, h.netmask, \
                 h.auth_method FROM pg_catalog.pg_hba_file_rules h WHERE h.error IS NULL";
    let rows = client.query(query, &[]).await?;
    let rule = |row: tokio_postgres::Row| {
        Ok(HbaRule {
            line: row.try_get(0)?,
            kind: row.try_get(1)?,
            databases: row.try_get(2)?,
            users: row.try_get(3)?,
            address: row.try_get(4)?,
            netmask: row.try_get(5)?,
            method: row.try_get(6)?,
        })
    };
    rows.into_iter().map(rule).collect()
}

/// The columns of this database's own tables; a partition's are its parent's.
///
/// # Errors
/// The connection is gone or the database refuses.
pub async fn columns(client: &Client) -> Result<Vec<StoredColumn>, ServiceError> {
    let query = "SELECT n.nspname::text, c.relname::text, a.attname::text, t.typcategory::text, \
           greatest(c.reltuples, 0)::float8, c.relkind <> 'f' \
         FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid \
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace JOIN pg_catalog.pg_type t ON t.oid = a.atttypid \
         WHERE a.attnum > 0 AND NOT a.attisdropped AND c.relkind IN ('r', 'p', 'f') AND NOT c.relispartition \
           AND c.relpersistence <> 't' AND n.nspname <> ALL (ARRAY['pg_catalog', 'information_schema', 'pg_toast', 'pgveil']) \
         ORDER BY 1, 2, a.attnum";
    let rows = client.query(query, &[]).await?;
    let column = |row: tokio_postgres::Row| {
        let category: &str = row.try_get(3)?;
        Ok(StoredColumn {
            schema: row.try_get(0)?,
            table: row.try_get(1)?,
            column: row.try_get(2)?,
            category: category.chars().next().unwrap_or(' '),
            rows: row.try_get(4)?,
            is_local: row.try_get(5)?,
        })
    };
    rows.into_iter().map(column).collect()
}

/// Longest text of a value that is looked at: nothing that is looked for is longer.
const LONGEST: usize = 256;

/// Values of a column, `rows` at most, from places all over its table; empty when its user may read none.
///
/// # Errors
/// The connection is gone or the database refuses.
pub async fn sample(
    client: &Client,
    column: &StoredColumn,
    rows: u32,
) -> Result<Vec<Zeroizing<String>>, ServiceError> {
    let name = quoted(&column.column);
    let wanted = f64::from(rows);
    // Whole pages are taken: of a small table too few, so that is read from its beginning.
    let part = if column.rows > 10.0 * wanted {
        format!(" TABLESAMPLE SYSTEM ({})", (500.0 * wanted / column.rows).min(100.0))
    } else {
        String::new()
    };
    let query = format!(
        "SELECT pg_catalog.left({name}::pg_catalog.text, {LONGEST}) FROM {}.{}{part} WHERE {name} IS NOT NULL LIMIT {rows}",
        quoted(&column.schema),
        quoted(&column.table)
    );
    let rows = client.query(&query, &[]).await?;
    rows.into_iter().map(|row| Ok(Zeroizing::new(row.try_get(0)?))).collect()
}

/// How often the values of a column occur, over the whole table, the rarest first. The values themselves stay in the database.
///
/// # Errors
/// The connection is gone or the database refuses, or the table is too large to be counted in time (57014).
pub async fn frequencies(
    client: &Client,
    schema: &str,
    table: &str,
    column: &str,
) -> Result<Vec<Frequency>, ServiceError> {
    let name = quoted(column);
    let query = format!(
        "SELECT g.n, pg_catalog.count(*) FROM (SELECT pg_catalog.count(*) AS n FROM {}.{} WHERE {name} IS NOT NULL GROUP BY {name}) g \
         GROUP BY g.n ORDER BY g.n",
        quoted(schema),
        quoted(table)
    );
    let count = |number: i64| u64::try_from(number).unwrap_or_default();
    let rows = client.query(&query, &[]).await?;
    rows.into_iter()
        .map(|row| Ok(Frequency { rows: count(row.try_get(0)?), values: count(row.try_get(1)?) }))
        .collect()
}

/// Of these columns (relation, number) those that no index has, with the rows of their tables, as the server estimates them. A
/// table that it knows to be small is left out, and one of which it knows nothing.
///
/// # Errors
/// The connection is gone or the database refuses.
pub async fn unindexed(
    client: &Client,
    columns: &[(u32, i16)],
) -> Result<Vec<((u32, i16), f64)>, ServiceError> {
    let query = "SELECT w.rel, w.num, c.reltuples::float8 \
         FROM ROWS FROM (pg_catalog.unnest($1::oid[]), pg_catalog.unnest($2::int2[])) AS w(rel, num) \
         JOIN pg_catalog.pg_class c ON c.oid = w.rel \
         WHERE c.reltuples >= 1000 AND NOT EXISTS (SELECT FROM pg_catalog.pg_index i \
           WHERE i.indrelid = w.rel AND i.indisvalid AND w.num = ANY (i.indkey::int2[])) ORDER BY 1, 2";
    let (relations, numbers): (Vec<u32>, Vec<i16>) = columns.iter().copied().unzip();
    let rows = client.query(query, &[&relations, &numbers]).await?;
    rows.into_iter().map(|row| Ok(((row.try_get(0)?, row.try_get(1)?), row.try_get(2)?))).collect()
}

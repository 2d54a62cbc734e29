//! What the database knows of conversions: two tables in schema `pgveil`.
//!
//! `pgveil.reseal` has a row for each conversion, with its recipe and phase; `pgveil.reseal_table` how far its tables are.
//! Guarantees: rows change in the transactions that do what they say; a recipe is carried out only where this keyring vouches for
//! it, for whoever administers the database can write here that a column be stored in clear. Deliberately absent: doing it.

use super::Failure;
use super::spec::Spec;
use crate::crypto::SecretBox;
use crate::crypto::provider::SystemRandom;
use crate::server::prepare::quoted;
use tokio_postgres::{Client, GenericClient};

/// What is done of a conversion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The shadow is being filled, or catches up; the columns are as they were.
    Filling,
    /// The columns are converted. What may be done under load is left: foreign keys to validate, VACUUM.
    Swapped,
    Done,
}

impl Phase {
    pub fn name(&self) -> &'static str {
        match self {
            Phase::Filling => "filling",
            Phase::Swapped => "swapped",
            Phase::Done => "done",
        }
    }
    fn parse(name: &str) -> Option<Phase> {
        [Phase::Filling, Phase::Swapped, Phase::Done].into_iter().find(|phase| phase.name() == name)
    }
}

/// One conversion, as the database has it.
#[derive(Clone, Debug, PartialEq)]
pub struct Conversion {
    pub id: i64,
    pub phase: Phase,
    pub spec: Spec,
    /// RFC 3339, as the database prints them in UTC.
    pub started: String,
    pub changed: String,
    /// About, when it began.
    pub rows_total: u64,
    pub rows_done: u64,
    /// Definitions of what the swap could not keep.
    pub dropped: Vec<String>,
    /// Statements by which the conversion back makes indexes again as they were.
    pub restore: Vec<String>,
    /// Foreign keys that are still to be validated.
    pub validate: Vec<String>,
    /// Statements that put the tables back into publications that they were taken out of.
    pub republish: Vec<String>,
    /// What a subscriber does before that.
    pub resubscribe: Vec<String>,
    /// How long the swap held its lock.
    pub lock_ms: Option<i64>,
    /// The recipe as it stands there, and the same as the keyring sealed it.
    text: String,
    proof: Option<String>,
}

/// Who vouches for the recipes of a database.
pub struct Vouching {
    pub secrets: SecretBox,
    pub database: String,
}

impl Vouching {
    fn place(&self, id: i64) -> String {
        format!("{id} {}", self.database)
    }

    /// # Errors
    /// The conversion was not begun with this keyring, in this database, as it stands there.
    pub(super) fn check(&self, conversion: &Conversion) -> Result<(), Failure> {
        let place = self.place(conversion.id);
        let proof = conversion.proof.as_deref();
        match proof.and_then(|proof| self.secrets.open([PROOF, &place], proof)) {
            Some(text) if text.as_slice() == conversion.text.as_bytes() => Ok(()),
            _ => Err(Failure::new(format!(
                "what pgveil.reseal holds of conversion {} was not written with this keyring, or was changed since",
                conversion.id
            ))
            .hint("Look who can write to schema pgveil; then take it back with pgveil reseal cancel, and start anew.")),
        }
    }
}

/// What the sealed recipes are, for those who open them.
const PROOF: &str = "conversion";

/// How far one table is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filled {
    /// The key of the last row that was filled, in PostgreSQL's binary forms.
    pub cursor: Option<Vec<Vec<u8>>>,
    /// The end was reached: what is new since then was noted.
    pub filled: bool,
}

const CREATE: &str = "\
    CREATE TABLE IF NOT EXISTS pgveil.reseal ( \
      id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, phase text NOT NULL, spec text NOT NULL, \
      started timestamptz NOT NULL DEFAULT pg_catalog.now(), changed timestamptz NOT NULL DEFAULT pg_catalog.now(), \
      rows_total bigint NOT NULL, dropped text[] NOT NULL DEFAULT '{}', restore text[] NOT NULL DEFAULT '{}', validate text[] NOT NULL DEFAULT '{}', \
      lock_ms bigint, columns text[] NOT NULL, proof text); \
    ALTER TABLE pgveil.reseal ADD COLUMN IF NOT EXISTS republish text[] NOT NULL DEFAULT '{}'; \
    ALTER TABLE pgveil.reseal ADD COLUMN IF NOT EXISTS resubscribe text[] NOT NULL DEFAULT '{}'; \
    ALTER TABLE pgveil.reseal ADD COLUMN IF NOT EXISTS proof text; \
    CREATE TABLE IF NOT EXISTS pgveil.reseal_table ( \
      conversion bigint NOT NULL REFERENCES pgveil.reseal ON DELETE CASCADE, number int NOT NULL, \
      cursor bytea[], filled boolean NOT NULL DEFAULT false, rows_done bigint NOT NULL DEFAULT 0, \
      PRIMARY KEY (conversion, number))";

/// Makes the tables where they are missing, readable by the service user for its metrics.
///
/// # Errors
/// The user of the connection may not.
pub async fn ensure(client: &impl GenericClient, service_user: &str) -> Result<(), Failure> {
    client.batch_execute(CREATE).await?;
    let there: bool = client
        .query_one(
            "SELECT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname::text = $1)",
            &[&service_user],
        )
        .await?
        .try_get(0)?;
    if there {
        let grant = format!("GRANT SELECT ON pgveil.reseal, pgveil.reseal_table TO {}", quoted(service_user));
        client.batch_execute(&grant).await?;
    }
    Ok(())
}

/// Every conversion that the database knows of, oldest first. None where `reseal` never ran.
///
/// # Errors
/// The connection is gone, or its user may not read them.
pub async fn all(client: &impl GenericClient) -> Result<Vec<Conversion>, Failure> {
    let there = "SELECT pg_catalog.to_regclass('pgveil.reseal') IS NOT NULL";
    if !client.query_one(there, &[]).await?.try_get::<_, bool>(0)? {
        return Ok(Vec::new());
    }
    let moment = |column: &str| {
        format!("pg_catalog.to_char({column} AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')")
    };
    let query = format!(
        "SELECT r.id, r.phase, r.spec, {}, {}, r.rows_total, r.dropped, r.restore, r.validate, r.lock_ms, \
           coalesce((SELECT pg_catalog.sum(t.rows_done)::bigint FROM pgveil.reseal_table t WHERE t.conversion = r.id), 0), \
           ARRAY(SELECT e FROM pg_catalog.jsonb_array_elements_text(coalesce(pg_catalog.to_jsonb(r) -> 'republish', '[]')) AS e), \
           pg_catalog.to_jsonb(r) ->> 'proof', \
           ARRAY(SELECT e FROM pg_catalog.jsonb_array_elements_text(coalesce(pg_catalog.to_jsonb(r) -> 'resubscribe', '[]')) AS e) \
         FROM pgveil.reseal r ORDER BY r.id",
        moment("r.started"),
        moment("r.changed"),
    );
    let mut found = Vec::new();
    for row in client.query(&query, &[]).await? {
        let (phase, spec): (String, String) = (row.try_get(1)?, row.try_get(2)?);
        let unknown = || Failure::new("pgveil.reseal holds a conversion of another version of pgveil");
        let count = |number: i64| u64::try_from(number).unwrap_or(0);
        found.push(Conversion {
            id: row.try_get(0)?,
            phase: Phase::parse(&phase).ok_or_else(unknown)?,
            spec: serde_json::from_str(&spec).map_err(|_| unknown())?,
            started: row.try_get(3)?,
            changed: row.try_get(4)?,
            rows_total: count(row.try_get(5)?),
            dropped: row.try_get(6)?,
            restore: row.try_get(7)?,
            validate: row.try_get(8)?,
            lock_ms: row.try_get(9)?,
            rows_done: count(row.try_get(10)?),
            republish: row.try_get(11)?,
            proof: row.try_get(12)?,
            resubscribe: row.try_get(13)?,
            text: spec,
        });
    }
    Ok(found)
}

/// The one that is under way, if one is: there is at most one in a database.
///
/// # Errors
/// As [`all`].
pub async fn under_way(client: &impl GenericClient) -> Result<Option<Conversion>, Failure> {
    Ok(all(client).await?.into_iter().find(|conversion| conversion.phase != Phase::Done))
}

/// Enters a new conversion; its number.
pub(super) async fn enter(
    client: &impl GenericClient,
    spec: &Spec,
    rows: u64,
    vouching: &Vouching,
) -> Result<i64, Failure> {
    let text = serde_json::to_string(spec).map_err(|error| Failure::new(error.to_string()))?;
    let rows = i64::try_from(rows).unwrap_or(i64::MAX);
    let columns = spec.column_names();
    let id: i64 = client
        .query_one(
            "INSERT INTO pgveil.reseal (phase, spec, rows_total, columns) VALUES ('filling', $1, $2, $3) RETURNING id",
            &[&text, &rows, &columns],
        )
        .await?
        .try_get(0)?;
    let proof = vouching.secrets.seal([PROOF, &vouching.place(id)], text.as_bytes(), &mut SystemRandom);
    client.execute("UPDATE pgveil.reseal SET proof = $2 WHERE id = $1", &[&id, &proof]).await?;
    for number in 0..spec.tables.len() {
        let number = i32::try_from(number).unwrap_or(i32::MAX);
        client
            .execute("INSERT INTO pgveil.reseal_table (conversion, number) VALUES ($1, $2)", &[&id, &number])
            .await?;
    }
    Ok(id)
}

pub(super) async fn filled(client: &impl GenericClient, id: i64, table: usize) -> Result<Filled, Failure> {
    let number = i32::try_from(table).unwrap_or(i32::MAX);
    let query = "SELECT cursor, filled FROM pgveil.reseal_table WHERE conversion = $1 AND number = $2";
    let row = client.query_one(query, &[&id, &number]).await?;
    Ok(Filled { cursor: row.try_get(0)?, filled: row.try_get(1)? })
}

/// Notes that so many more rows were filled, up to `cursor` (`None`: the end).
pub(super) async fn advance(
    client: &impl GenericClient,
    id: i64,
    table: usize,
    cursor: Option<Vec<Vec<u8>>>,
    rows: usize,
) -> Result<(), Failure> {
    let number = i32::try_from(table).unwrap_or(i32::MAX);
    let rows = i64::try_from(rows).unwrap_or(i64::MAX);
    let update = "UPDATE pgveil.reseal_table SET cursor = coalesce($3, cursor), filled = $3 IS NULL, \
                  rows_done = rows_done + $4 WHERE conversion = $1 AND number = $2";
    client.execute(update, &[&id, &number, &cursor, &rows]).await?;
    Ok(())
}

/// Moves on to `phase`.
pub(super) async fn enter_phase(client: &impl GenericClient, id: i64, phase: Phase) -> Result<(), Failure> {
    let update = "UPDATE pgveil.reseal SET phase = $2, changed = pg_catalog.now() WHERE id = $1";
    client.execute(update, &[&id, &phase.name()]).await?;
    Ok(())
}

/// Forgets a conversion, and the tables of this module with the last one.
pub(super) async fn forget(client: &impl GenericClient, id: i64) -> Result<(), Failure> {
    client.execute("DELETE FROM pgveil.reseal WHERE id = $1", &[&id]).await?;
    let left: bool = client.query_one("SELECT EXISTS (SELECT FROM pgveil.reseal)", &[]).await?.try_get(0)?;
    if !left {
        client.batch_execute("DROP TABLE pgveil.reseal_table, pgveil.reseal").await?;
    }
    Ok(())
}

/// Holds the right to work on this database's conversion until the connection ends, killed or not.
///
/// # Errors
/// Another process has it.
pub async fn claim(client: &Client) -> Result<(), Failure> {
    // "pgreseal", as `init` has its own number.
    let attempt = "SELECT pg_catalog.pg_try_advisory_lock(123589675270252)";
    for _ in 0..40 {
        if client.query_one(attempt, &[]).await?.try_get(0)? {
            return Ok(());
        }
        // What was killed a moment ago lets go when its last statement ends.
        tokio::time::sleep(std::time::Duration::from_millis(250)).await;
    }
    Err(Failure::new("another pgveil reseal works on this database")
        .hint("Watch it with: pgveil reseal status; or end it, and start again."))
}

//! The swap of copies: one transaction in which they get their tables' names and all that hangs on them.
//!
//! Guarantees: as those of the swap of columns; under the lock there is no work that grows with the table. What was written
//! while the proxies were asked to stand aside is made up for before it. Deliberately absent: trying again (`run`).

use super::super::Failure;
use super::super::dependents::Dependents;
use super::super::indexes::Fate;
use super::super::spec::Table;
use super::super::swap::{FENCE_TIMEOUT, Outcome, Swap};
use super::build::{Planned, is_built, planned};
use super::definition::{self, Definition};
use super::tree::nodes;
use crate::catalog::build::SCHEMA;
use crate::server::fence::LOCK;
use crate::server::prepare::quoted;
use std::time::{Duration, Instant};
use tokio_postgres::{Client, IsolationLevel, Transaction};

/// Rows made up for under the lock, about: what comes between the last look and the lock is more.
const NEAR: u64 = 100;
const CATCH_UP_ROWS: usize = 1_000;
/// How often it is tried to come near.
const ROUNDS_MAX: u32 = 20;

/// The tables with their partitions, and those that foreign keys join them with.
const LOCKED: &str = "\
    SELECT DISTINCT pg_catalog.format('%I.%I', n.nspname, c.relname) FROM pg_catalog.pg_class c \
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
    WHERE c.oid = ANY ($1) OR EXISTS (SELECT FROM pg_catalog.pg_constraint k WHERE k.contype = 'f' AND k.conparentid = 0 \
      AND ((k.conrelid = c.oid AND k.confrelid = ANY ($1)) OR (k.confrelid = c.oid AND k.conrelid = ANY ($1)))) \
    ORDER BY 1";

/// Longest wait for the lock that holds definitions still: long enough for an autovacuum to give way.
const STILL_TIMEOUT: &str = "3s";

/// Whoever waits for that lock and keeps us from the next one is told of a deadlock when they have waited for `deadlock_timeout`, a
/// second: we give way before. And how long we wait at least, where all that was to be read has taken longer.
const GIVE_WAY_AFTER: Duration = Duration::from_millis(900);
const WAIT_LEAST: Duration = Duration::from_millis(100);

/// What grants change, of which no lock keeps anybody: the rows that hold them.
async fn rights(
    transaction: &Transaction<'_>,
    tables: &[u32],
    views: &[String],
) -> Result<Option<String>, Failure> {
    let query = "\
        WITH relation AS (SELECT r.oid FROM pg_catalog.unnest($1::oid[]) AS r(oid) \
          UNION ALL SELECT v.name::regclass::oid FROM pg_catalog.unnest($2::text[]) AS v(name)) \
        SELECT pg_catalog.string_agg(s.version, ' ' ORDER BY s.version) FROM ( \
          SELECT pg_catalog.concat(c.oid, ':', c.xmin) FROM pg_catalog.pg_class c JOIN relation r ON r.oid = c.oid \
          UNION ALL SELECT pg_catalog.concat(a.attrelid, '.', a.attnum, ':', a.xmin) FROM pg_catalog.pg_attribute a \
          JOIN relation r ON r.oid = a.attrelid WHERE a.attnum > 0) s(version)";
    Ok(transaction.query_one(query, &[&tables, &views]).await?.try_get(0)?)
}

/// A table or partition, and what its copy gets.
struct Place {
    table: Table,
    /// Its name until then.
    copy: String,
    indexes: Vec<Planned>,
    definition: Definition,
}

impl Swap<'_> {
    pub(in super::super) async fn attempt_copies(&self, client: &mut Client) -> Result<Outcome, Failure> {
        // The session's, for what is made up for before the lock takes transactions of its own.
        let fence = format!(
            "SET lock_timeout = '{FENCE_TIMEOUT}'; SELECT pg_catalog.pg_advisory_lock({LOCK}); RESET lock_timeout"
        );
        if let Err(error) = client.batch_execute(&fence).await {
            let failure = Failure::from(error);
            return if failure.is(&["55P03", "40P01"]) { Ok(Outcome::Busy) } else { Err(failure) };
        }
        let result = self.behind_fence(client).await;
        let unlocked = client.batch_execute(&format!("SELECT pg_catalog.pg_advisory_unlock({LOCK})")).await;
        let outcome = result?;
        unlocked?;
        Ok(outcome)
    }

    async fn behind_fence(&self, client: &mut Client) -> Result<Outcome, Failure> {
        for filler in self.fillers {
            for _ in 0..ROUNDS_MAX {
                if filler.left(client).await? <= NEAR {
                    break;
                }
                let transaction = filler.transaction(client).await?;
                let (_, misfits) = filler.catch_up(&transaction, CATCH_UP_ROWS).await?;
                if misfits.count > 0 {
                    transaction.rollback().await?;
                    return Ok(Outcome::Misfit);
                }
                transaction.commit().await?;
            }
        }
        let transaction =
            client.build_transaction().isolation_level(IsolationLevel::ReadCommitted).start().await?;
        let result = self.exchange(&transaction).await;
        self.end(transaction, result).await
    }

    async fn exchange(&self, transaction: &Transaction<'_>) -> Result<Outcome, Failure> {
        // All that takes time is read under a lock that readers and writers do not notice, and definitions wait for.
        let own: Vec<String> = self.spec.tables.iter().map(Table::sql).collect();
        let still = format!(
            "SET LOCAL lock_timeout = '{STILL_TIMEOUT}'; LOCK TABLE {} IN SHARE UPDATE EXCLUSIVE MODE",
            own.join(", ")
        );
        transaction.batch_execute(&still).await?;
        let still = Instant::now();
        let found = self.dependents_now(transaction).await?;
        let lost = found.indexes.iter().filter(|index| index.fate == Fate::Lost).map(|index| index.oid);
        let lost: Vec<u32> = lost.collect();
        let mut places = Vec::new();
        for filler in self.fillers {
            if filler.is_tree() && !filler.is_followed(transaction, true).await? {
                return Ok(Outcome::Behind);
            }
            for table in nodes(transaction, filler.table).await? {
                let indexes =
                    planned(transaction, self.spec, &table, &filler.names, filler.table, &found.indexes)
                        .await?;
                let copy = filler.names.copy_of(filler.table.oid, table.oid);
                let name = format!("{SCHEMA}.{copy}");
                if !is_built(transaction, &name, &indexes).await? {
                    return Ok(Outcome::Behind);
                }
                let definition =
                    definition::read(transaction, &table, &name, &lost, filler.is_tree()).await?;
                places.push(Place { table, copy, indexes, definition });
            }
        }
        let tables: Vec<u32> = places.iter().map(|place| place.table.oid).collect();
        let names = super::texts(transaction, &[LOCKED], &[&tables]).await?;
        let views: Vec<String> = found.views.iter().map(|view| view.sql()).collect();
        let rights = rights(transaction, &tables, &views).await?;
        self.hurry(transaction).await?;
        let wait = GIVE_WAY_AFTER.saturating_sub(still.elapsed()).max(WAIT_LEAST).as_millis();
        let lock = format!(
            "SET LOCAL lock_timeout = {wait}; LOCK TABLE {} IN ACCESS EXCLUSIVE MODE",
            names.join(", ")
        );
        transaction.batch_execute(&lock).await?;
        let locked = Instant::now();
        self.is_as_copied(transaction).await?;
        if rights != self::rights(transaction, &tables, &views).await? {
            return Ok(Outcome::Behind);
        }
        if let Some(outcome) = self.make_up(transaction).await? {
            return Ok(outcome);
        }
        for place in &mut places {
            let copy = format!("{SCHEMA}.{}", place.copy);
            place.definition.stop_sequences(transaction, &place.table, &copy).await?;
        }
        self.replace(transaction, &found, &places).await?;
        self.drop_types(transaction).await?;
        let rest: Vec<String> = self.fillers.iter().map(|filler| super::remove(&filler.names)).collect();
        transaction.batch_execute(&rest.concat()).await?;
        self.record(transaction, &found, locked).await?;
        Ok(Outcome::Swapped)
    }

    async fn is_as_copied(&self, transaction: &Transaction<'_>) -> Result<(), Failure> {
        self.is_as_planned(transaction).await?;
        for table in &self.spec.tables {
            if Some(&super::read(transaction, table).await?) != table.copy.as_ref() {
                return Err(super::changed(table));
            }
        }
        Ok(())
    }

    /// Drops the tables, and puts the copies in their places.
    async fn replace(
        &self,
        transaction: &Transaction<'_>,
        found: &Dependents,
        places: &[Place],
    ) -> Result<(), Failure> {
        let mut all: Vec<String> =
            places.iter().flat_map(|place| place.definition.before.iter().cloned()).collect();
        all.extend(found.views.iter().rev().map(|view| view.drop.clone()));
        all.extend(found.foreign.iter().map(|part| part.drop.clone()));
        let old: Vec<String> = self.spec.tables.iter().map(Table::sql).collect();
        all.push(format!("DROP TABLE {}", old.join(", ")));
        for Place { table, copy, indexes, definition } in places {
            let schema = quoted(&table.schema);
            all.push(format!("ALTER TABLE {SCHEMA}.{copy} SET SCHEMA {schema}"));
            all.push(format!("ALTER TABLE {schema}.{copy} RENAME TO {}", quoted(&table.name)));
            // A constraint's name goes with its index's.
            let renamed =
                |index: &Planned| format!("ALTER INDEX {schema}.{} RENAME TO {}", index.built, index.name);
            all.extend(indexes.iter().map(renamed));
            all.extend(definition.after.iter().cloned());
        }
        all.extend(self.defaults(transaction, found).await?);
        all.extend(found.foreign.iter().map(|part| part.create.clone()));
        all.extend(found.publications.iter().filter(|own| !own.sends).map(|own| own.add.clone()));
        for view in &found.views {
            all.push(view.create.clone());
            all.extend(view.after.iter().cloned());
        }
        all.extend(places.iter().flat_map(|place| place.definition.last.iter().cloned()));
        all.extend(found.triggers.iter().map(|part| part.create.clone()));
        all.extend(places.iter().flat_map(|place| place.definition.firing.iter().cloned()));
        transaction.batch_execute(&all.join("; ")).await?;
        Ok(())
    }
}

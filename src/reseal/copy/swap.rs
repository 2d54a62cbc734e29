//! The swap of copies: one transaction in which they get their tables' names and all that hangs on them.
//!
//! Guarantees: as those of the swap of columns; under the lock there is no work that grows with the table. What was written
//! while the proxies were asked to stand aside is made up for before it. Deliberately absent: trying again (`run`).

use super::super::Failure;
use super::super::dependents::Dependents;
use super::super::indexes::Fate;
use super::super::spec::Table;
use super::super::swap::{FENCE_TIMEOUT, Outcome, Swap, default};
use super::build::{is_built, planned};
use super::definition::{self, Definition};
use crate::catalog::build::SCHEMA;
use crate::server::fence::LOCK;
use crate::server::prepare::quoted;
use std::time::Instant;
use tokio_postgres::{Client, IsolationLevel, Transaction};

/// Rows made up for under the lock, about: what comes between the last look and the lock is more.
const NEAR: u64 = 100;
const CATCH_UP_ROWS: usize = 1_000;
/// How often it is tried to come near.
const ROUNDS_MAX: u32 = 20;

/// The tables, and those that foreign keys join them with.
const LOCKED: &str = "\
    SELECT DISTINCT pg_catalog.format('%I.%I', n.nspname, c.relname) FROM pg_catalog.pg_class c \
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
    WHERE c.oid = ANY ($1) OR EXISTS (SELECT FROM pg_catalog.pg_constraint k WHERE k.contype = 'f' AND k.conparentid = 0 \
      AND ((k.conrelid = c.oid AND k.confrelid = ANY ($1)) OR (k.confrelid = c.oid AND k.conrelid = ANY ($1)))) \
    ORDER BY 1";

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
        self.hurry(transaction).await?;
        let tables: Vec<u32> = self.spec.tables.iter().map(|table| table.oid).collect();
        let mut names: Vec<String> = Vec::new();
        for row in transaction.query(LOCKED, &[&tables]).await? {
            names.push(row.try_get(0)?);
        }
        transaction
            .batch_execute(&format!("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE", names.join(", ")))
            .await?;
        let locked = Instant::now();
        self.is_as_planned(transaction).await?;
        for table in &self.spec.tables {
            if Some(&super::read(transaction, table).await?) != table.copy.as_ref() {
                return Err(Failure::new(format!(
                    "table {} was changed since its copy was made",
                    table.text()
                ))
                .hint("Run: pgveil reseal cancel; then start anew."));
            }
        }
        if let Some(outcome) = self.make_up(transaction).await? {
            return Ok(outcome);
        }
        let found = self.dependents_now(transaction).await?;
        let mut definitions = Vec::new();
        for filler in self.fillers {
            let copy = filler.names.copy_sql();
            if !is_built(transaction, &copy, &planned(transaction, self.spec, filler, &found.indexes).await?)
                .await?
            {
                return Ok(Outcome::Behind);
            }
            let lost = found.indexes.iter().filter(|index| index.fate == Fate::Lost).map(|index| index.oid);
            let lost: Vec<u32> = lost.collect();
            definitions.push(definition::read(transaction, filler.table, &copy, &lost).await?);
        }
        self.replace(transaction, &found, &definitions).await?;
        self.drop_types(transaction).await?;
        let rest: Vec<String> = self.fillers.iter().map(|filler| super::remove(&filler.names)).collect();
        transaction.batch_execute(&rest.concat()).await?;
        self.record(transaction, &found, locked).await?;
        Ok(Outcome::Swapped)
    }

    /// Drops the tables, and puts the copies in their places.
    async fn replace(
        &self,
        transaction: &Transaction<'_>,
        found: &Dependents,
        definitions: &[Definition],
    ) -> Result<(), Failure> {
        let mut all: Vec<String> = definitions.iter().flat_map(|own| own.before.iter().cloned()).collect();
        all.extend(found.views.iter().rev().map(|view| view.drop.clone()));
        all.extend(found.foreign.iter().map(|part| part.drop.clone()));
        let old: Vec<String> = self.spec.tables.iter().map(Table::sql).collect();
        all.push(format!("DROP TABLE {}", old.join(", ")));
        for (filler, definition) in self.fillers.iter().zip(definitions) {
            let (table, copy) = (filler.table, &filler.names.copy);
            let schema = quoted(&table.schema);
            all.push(format!("ALTER TABLE {SCHEMA}.{copy} SET SCHEMA {schema}"));
            all.push(format!("ALTER TABLE {schema}.{copy} RENAME TO {}", quoted(&table.name)));
            for index in planned(transaction, self.spec, filler, &found.indexes).await? {
                let (built, name) = (&index.built, &index.name);
                all.push(if index.is_constraint {
                    format!("ALTER TABLE {} RENAME CONSTRAINT {built} TO {name}", table.sql())
                } else {
                    format!("ALTER INDEX {schema}.{built} RENAME TO {name}")
                });
            }
            all.extend(definition.after.iter().cloned());
        }
        for (table, column, expression) in &found.defaults {
            let (filler, table) = (&self.fillers[*table], &self.spec.tables[*table]);
            let (carrier, column) = (&filler.carriers()[*column], &table.columns[*column]);
            if let Some(value) = default(transaction, column, carrier, expression).await? {
                let name = quoted(&column.name);
                all.push(format!("ALTER TABLE {} ALTER COLUMN {name} SET DEFAULT {value}", table.sql()));
            }
        }
        all.extend(found.foreign.iter().map(|part| part.create.clone()));
        for view in &found.views {
            all.push(view.create.clone());
            all.extend(view.after.iter().cloned());
        }
        all.extend(definitions.iter().flat_map(|own| own.last.iter().cloned()));
        all.extend(found.triggers.iter().map(|part| part.create.clone()));
        transaction.batch_execute(&all.join("; ")).await?;
        Ok(())
    }
}

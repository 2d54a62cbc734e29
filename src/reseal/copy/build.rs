//! The indexes of a copy, built when it has its rows and before it takes its table's place.
//!
//! Guarantees: one that is there is whole, for it is built in one transaction, so that any start goes on; what is built is
//! what the table has now. Deliberately absent: constraints over them, which the swap adds.

use super::super::fill::Filler;
use super::super::indexes::{Fate, Index};
use super::super::spec::Spec;
use super::super::{Failure, Progress};
use crate::catalog::build::SCHEMA;
use crate::server::prepare::quoted;
use tokio_postgres::{Client, GenericClient};

/// An index of the copy.
pub(super) struct Planned {
    /// Its name in schema `pgveil`.
    pub(super) built: String,
    /// Its name afterwards, in SQL.
    pub(super) name: String,
    /// It is a constraint by itself, not an index that one may be added over.
    pub(super) is_constraint: bool,
    pub(super) create: String,
    is_key: bool,
}

/// Constraints that cannot be added over an index.
const BY_THEMSELVES: &str = "\
    SELECT c.conindid, pg_catalog.quote_ident(c.conname), pg_catalog.pg_get_constraintdef(c.oid) FROM pg_catalog.pg_constraint c \
    WHERE c.conrelid = $1 AND (c.contype = 'x' OR pg_catalog.to_jsonb(c) ->> 'conperiod' = 'true')";

/// The index that tells rows apart.
const KEY: &str = "\
    SELECT i.indexrelid FROM pg_catalog.pg_index i \
    WHERE i.indrelid = $1 AND i.indisunique AND i.indimmediate AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL \
      AND (SELECT pg_catalog.array_agg(a.attname::text ORDER BY k.place) \
           FROM pg_catalog.unnest(i.indkey::int2[]) WITH ORDINALITY AS k(number, place) \
           JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number \
           WHERE k.place <= i.indnkeyatts) = $2::text[] \
    ORDER BY i.indisprimary DESC, i.indexrelid LIMIT 1";

/// The indexes that the copy is to have, the key's first.
pub(super) async fn planned(
    client: &impl GenericClient,
    spec: &Spec,
    filler: &Filler<'_>,
    indexes: &[Index],
) -> Result<Vec<Planned>, Failure> {
    let (table, names) = (filler.table, &filler.names);
    let copy = names.copy_sql();
    let key: Vec<&str> = table.key.iter().map(|key| key.name.as_str()).collect();
    let key = client.query_opt(KEY, &[&table.oid, &key]).await?.ok_or_else(|| {
        Failure::new(format!("the index that told the rows of table {} apart is gone", table.text()))
            .hint("Run: pgveil reseal cancel; then start anew.")
    })?;
    let key: u32 = key.try_get(0)?;
    let mut by_themselves = Vec::new();
    for row in client.query(BY_THEMSELVES, &[&table.oid]).await? {
        by_themselves.push((
            row.try_get::<_, u32>(0)?,
            row.try_get::<_, String>(1)?,
            row.try_get::<_, String>(2)?,
        ));
    }
    let mut found = Vec::new();
    let stays = |index: &&Index| {
        let goes = format!("DROP INDEX IF EXISTS {}", index.sql);
        index.table == table.oid && index.fate != Fate::Lost && !spec.restore.contains(&goes)
    };
    for index in indexes.iter().filter(stays) {
        let built = format!("{}_{}", names.copy, index.oid);
        let constraint = by_themselves.iter().find(|(oid, ..)| *oid == index.oid);
        let (name, create) = match constraint {
            Some((_, name, definition)) => {
                (name.clone(), format!("ALTER TABLE {copy} ADD CONSTRAINT {built} {definition}"))
            }
            None => (quoted(&index.name), index.create_as(&built, &copy)),
        };
        let (is_constraint, is_key) = (constraint.is_some(), index.oid == key);
        found.push(Planned { built, name, is_constraint, create, is_key });
    }
    let on: String = client
        .query_one(
            "SELECT pg_catalog.format(' ON %I.%I USING ', n.nspname, c.relname) FROM pg_catalog.pg_class c \
             JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = $1",
            &[&table.oid],
        )
        .await?
        .try_get(0)?;
    for (at, statement) in spec.restore.iter().enumerate() {
        let Some((before, after)) = statement.split_once(&on) else { continue };
        let Some((kind, name)) = before.split_once("INDEX ") else { continue };
        let built = format!("{}_restored_{at}", names.copy);
        let create = format!("{kind}INDEX {built} ON {copy} USING {after}");
        found.push(Planned { built, name: name.to_owned(), is_constraint: false, create, is_key: false });
    }
    found.sort_by_key(|index| !index.is_key);
    Ok(found)
}

/// Names of the indexes that the copy has.
async fn there(client: &impl GenericClient, copy: &str) -> Result<Vec<String>, Failure> {
    let query = "SELECT x.relname::text FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid \
                 WHERE i.indrelid = $1::text::regclass";
    super::texts(client, &[query], &[&copy]).await
}

/// Whether the copy has these indexes and no other.
pub(super) async fn is_built(
    client: &impl GenericClient,
    copy: &str,
    planned: &[Planned],
) -> Result<bool, Failure> {
    let there = there(client, copy).await?;
    Ok(there.len() == planned.len() && planned.iter().all(|index| there.contains(&index.built)))
}

impl Filler<'_> {
    /// Builds what is missing of the copy's indexes, and drops what is too many.
    pub(in super::super) async fn build(
        &self,
        client: &mut Client,
        spec: &Spec,
        indexes: &[Index],
        report: &mut dyn FnMut(Progress),
    ) -> Result<(), Failure> {
        if self.table.copy.is_none() {
            return Ok(());
        }
        // Where the server can tell: an index that a killed process began does not keep the next one waiting.
        let _ = client.batch_execute("SET client_connection_check_interval = '1s'").await;
        let planned = planned(client, spec, self, indexes).await?;
        let copy = self.names.copy_sql();
        let mut there = there(client, &copy).await?;
        let missing: Vec<&Planned> = planned.iter().filter(|index| !there.contains(&index.built)).collect();
        for (at, index) in missing.iter().enumerate() {
            report(Progress::Building { done: at, total: missing.len() });
            if !index.is_key {
                self.take_out_all(client).await?;
            }
            client.batch_execute(&index.create).await?;
        }
        there.retain(|name| !planned.iter().any(|index| index.built == *name));
        for name in &there {
            let constraint = "SELECT EXISTS (SELECT FROM pg_catalog.pg_constraint c \
                              WHERE c.conrelid = $1::text::regclass AND c.conname::text = $2)";
            let drop = if client.query_one(constraint, &[&copy, name]).await?.try_get(0)? {
                format!("ALTER TABLE {copy} DROP CONSTRAINT {}", quoted(name))
            } else {
                format!("DROP INDEX {SCHEMA}.{}", quoted(name))
            };
            client.batch_execute(&drop).await?;
        }
        if !missing.is_empty() {
            client.batch_execute(&format!("ANALYZE {copy}")).await?;
        }
        Ok(())
    }
}

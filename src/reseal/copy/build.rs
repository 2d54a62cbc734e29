//! The indexes of a copy, built when it has its rows and before it takes its table's place.
//!
//! Guarantees: one that is there is whole, for it is built in one transaction, so that any start goes on; what is built is
//! what the table has now. Of a partitioned table each partition's are built by themselves and then put together, with the
//! constraints over them, which cannot be added to a tree in the swap. Deliberately absent: constraints over other tables'
//! indexes, which the swap adds.

use super::super::fill::Filler;
use super::super::indexes::{Fate, Index};
use super::super::spec::{Names, Spec, Table};
use super::super::{Failure, Progress};
use super::tree::nodes;
use crate::catalog::build::SCHEMA;
use crate::server::prepare::quoted;
use tokio_postgres::{Client, GenericClient};

/// An index of the copy.
pub(super) struct Planned {
    /// Its name in schema `pgveil`.
    pub(super) built: String,
    /// Its name afterwards, in SQL.
    pub(super) name: String,
    /// The name in schema `pgveil` of the partitioned index that it is to be a part of.
    pub(super) parent: Option<String>,
    pub(super) create: String,
    /// Tells rows apart.
    pub(super) is_key: bool,
}

/// Constraints with their indexes: whether they cannot be added over an index; their definition, with what the index is
/// made with; what is said where they are added over an index.
const CONSTRAINTS: &str = "\
    SELECT c.conindid, c.contype = 'x' OR coalesce(pg_catalog.to_jsonb(c) ->> 'conperiod', 'false') = 'true', \
      CASE WHEN c.contype = 'x' THEN pg_catalog.pg_get_constraintdef(c.oid) ELSE pg_catalog.concat( \
        pg_catalog.regexp_replace(pg_catalog.pg_get_constraintdef(c.oid), '( DEFERRABLE( INITIALLY DEFERRED)?)?$', ''), \
        ' WITH (' || pg_catalog.array_to_string(x.reloptions, ', ') || ')', \
        ' USING INDEX TABLESPACE ' || pg_catalog.quote_ident(s.spcname), d.text) END, \
      pg_catalog.concat(CASE c.contype WHEN 'p' THEN 'PRIMARY KEY' ELSE 'UNIQUE' END, ' USING INDEX @', d.text) \
    FROM pg_catalog.pg_constraint c JOIN pg_catalog.pg_class x ON x.oid = c.conindid \
    LEFT JOIN pg_catalog.pg_tablespace s ON s.oid = x.reltablespace \
    CROSS JOIN LATERAL (SELECT CASE WHEN c.condeferred THEN ' DEFERRABLE INITIALLY DEFERRED' \
      WHEN c.condeferrable THEN ' DEFERRABLE' ELSE '' END) AS d(text) \
    WHERE c.conrelid = $1 AND c.contype IN ('p', 'u', 'x')";

/// The index that tells rows apart.
const KEY: &str = "\
    SELECT i.indexrelid FROM pg_catalog.pg_index i \
    WHERE i.indrelid = $1 AND i.indisunique AND i.indimmediate AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL \
      AND (SELECT pg_catalog.array_agg(a.attname::text ORDER BY k.place) \
           FROM pg_catalog.unnest(i.indkey::int2[]) WITH ORDINALITY AS k(number, place) \
           JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number \
           WHERE k.place <= i.indnkeyatts) = $2::text[] \
    ORDER BY i.indisprimary DESC, i.indexrelid LIMIT 1";

/// Of these parts and wholes, pair by pair, those that are not put together yet.
const APART: &str = "\
    SELECT pg_catalog.format('ALTER INDEX %I.%I ATTACH PARTITION %I.%I', $3::text, p.whole, $3::text, p.part) \
    FROM ROWS FROM (pg_catalog.unnest($1::text[]), pg_catalog.unnest($2::text[])) AS p(part, whole) \
    WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_inherits h \
      WHERE h.inhrelid = pg_catalog.to_regclass(pg_catalog.format('%I.%I', $3::text, p.part)) \
        AND h.inhparent = pg_catalog.to_regclass(pg_catalog.format('%I.%I', $3::text, p.whole)))";

/// How a constraint is made of or over its index.
struct Constraint {
    index: u32,
    by_itself: bool,
    definition: String,
    over: String,
}

async fn constraints(client: &impl GenericClient, table: &Table) -> Result<Vec<Constraint>, Failure> {
    let mut found = Vec::new();
    for row in client.query(CONSTRAINTS, &[&table.oid]).await? {
        found.push(Constraint {
            index: row.try_get(0)?,
            by_itself: row.try_get(1)?,
            definition: row.try_get(2)?,
            over: row.try_get(3)?,
        });
    }
    Ok(found)
}

/// Whether the conversion back makes an index another way, or one that it is a part of.
fn goes(index: &Index, spec: &Spec, indexes: &[Index]) -> bool {
    let whole = indexes.iter().find(|whole| Some(whole.oid) == index.parent);
    spec.restore.contains(&format!("DROP INDEX IF EXISTS {}", index.sql))
        || whole.is_some_and(|whole| goes(whole, spec, indexes))
}

/// The indexes that the copy of a table, or of a partition of `whole`, is to have, the key's first.
pub(super) async fn planned(
    client: &impl GenericClient,
    spec: &Spec,
    table: &Table,
    names: &Names,
    whole: &Table,
    indexes: &[Index],
) -> Result<Vec<Planned>, Failure> {
    let (own, in_tree) = (names.copy_of(whole.oid, table.oid), whole.partitioned);
    let copy = format!("{SCHEMA}.{own}");
    let key: Vec<&str> = table.key.iter().map(|key| key.name.as_str()).collect();
    let Some(key) = client.query_opt(KEY, &[&table.oid, &key]).await? else {
        super::read(client, table).await?;
        let message = format!("the index that told the rows of table {} apart is gone", table.text());
        return Err(Failure::new(message).hint("Run: pgveil reseal cancel; then start anew."));
    };
    let key: u32 = key.try_get(0)?;
    let constraints = constraints(client, table).await?;
    let on = if table.partitioned { format!("ONLY {copy}") } else { copy.clone() };
    let mut found = Vec::new();
    let stays =
        |index: &&Index| index.table == table.oid && index.fate != Fate::Lost && !goes(index, spec, indexes);
    for index in indexes.iter().filter(stays) {
        let built = format!("{own}_{}", index.oid);
        let constraint = constraints.iter().find(|constraint| constraint.index == index.oid);
        let add = |definition: &str| format!("ALTER TABLE {on} ADD CONSTRAINT {built} {definition}");
        let create = match constraint {
            Some(constraint) if constraint.by_itself || table.partitioned => add(&constraint.definition),
            Some(constraint) if in_tree => format!(
                "{}; {}",
                index.create_as(&built, &on),
                add(&constraint.over.replacen('@', &built, 1))
            ),
            _ => index.create_as(&built, &on),
        };
        let above = indexes.iter().find(|above| Some(above.oid) == index.parent);
        let parent = above.map(|above| format!("{}_{}", names.copy_of(whole.oid, above.table), above.oid));
        found.push(Planned { name: quoted(&index.name), parent, create, is_key: index.oid == key, built });
    }
    restored(client, spec, table, names, whole, &mut found).await?;
    found.sort_by_key(|index| !index.is_key);
    Ok(found)
}

/// A table and those that it is a partition of, from the nearest to the uppermost.
const LINE: &str = "\
    SELECT c.oid, pg_catalog.format(' ON %I.%I USING ', n.nspname, c.relname) \
    FROM (SELECT $1::oid AS oid, 0::bigint AS place UNION SELECT a.relid::oid, a.place - 1 \
      FROM pg_catalog.pg_partition_ancestors($1::oid::regclass) WITH ORDINALITY AS a(relid, place)) a \
    JOIN pg_catalog.pg_class c ON c.oid = a.oid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace ORDER BY a.place";

/// The name that PostgreSQL gives to a partition's part of an index, by the columns' names that it gave.
const PART_NAME: &str = "\
    SELECT pg_catalog.quote_ident(pg_catalog.concat(pg_catalog.left($2::text, 58 - pg_catalog.length(a.names)), '_', a.names, '_idx')) \
    FROM (SELECT pg_catalog.left(pg_catalog.string_agg(a.attname, '_' ORDER BY a.attnum), 28) AS names FROM pg_catalog.pg_attribute a \
      JOIN pg_catalog.pg_index i ON i.indexrelid = a.attrelid AND a.attnum <= i.indnkeyatts \
      WHERE a.attrelid = pg_catalog.to_regclass($1)) a";

/// Indexes that the conversion back makes again (`CREATE [UNIQUE] INDEX name ON schema.table USING …`), on all partitions.
async fn restored(
    client: &impl GenericClient,
    spec: &Spec,
    table: &Table,
    names: &Names,
    whole: &Table,
    found: &mut Vec<Planned>,
) -> Result<(), Failure> {
    if spec.restore.is_empty() {
        return Ok(());
    }
    let mut line: Vec<(String, String)> = Vec::new();
    for row in client.query(LINE, &[&table.oid]).await? {
        line.push((names.copy_of(whole.oid, row.try_get(0)?), row.try_get(1)?));
    }
    let Some((own, _)) = line.first().cloned() else { return Ok(()) };
    let only = if table.partitioned { "ONLY " } else { "" };
    for (at, statement) in spec.restore.iter().enumerate() {
        let split = line
            .iter()
            .enumerate()
            .find_map(|(far, (_, on))| Some((far, statement.split_once(on.as_str())?)));
        let Some((far, (before, after))) = split else { continue };
        let Some((kind, name)) = before.split_once("INDEX ") else { continue };
        let built = format!("{own}_restored_{at}");
        let mut name = name.to_owned();
        if far > 0 {
            let there = client.query_opt(PART_NAME, &[&format!("{SCHEMA}.{built}"), &table.name]).await?;
            let given = there.map(|row| row.try_get::<_, Option<String>>(0)).transpose()?.flatten();
            name = given.unwrap_or_else(|| built.clone());
            let taken = |name: &str| found.iter().any(|other| other.name == name);
            if taken(&name) {
                name = built.clone();
            }
        }
        found.push(Planned {
            name,
            parent: if far > 0 {
                line.get(1).map(|(parent, _)| format!("{parent}_restored_{at}"))
            } else {
                None
            },
            create: format!("{kind}INDEX {built} ON {only}{SCHEMA}.{own} USING {after}"),
            is_key: false,
            built,
        });
    }
    Ok(())
}

/// The indexes that a copy has, by their names.
pub(super) async fn named(client: &impl GenericClient, copy: &str) -> Result<Vec<String>, Failure> {
    let query = "SELECT x.relname::text FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid \
                 WHERE i.indrelid = pg_catalog.to_regclass($1)";
    super::texts(client, &[query], &[&copy]).await
}

/// Statements that put together what of these is not yet.
async fn apart(client: &impl GenericClient, planned: &[Planned]) -> Result<Vec<String>, Failure> {
    let pairs = planned.iter().filter_map(|index| Some((index.built.as_str(), index.parent.as_deref()?)));
    let (parts, wholes): (Vec<&str>, Vec<&str>) = pairs.unzip();
    if parts.is_empty() {
        return Ok(Vec::new());
    }
    super::texts(client, &[APART], &[&parts, &wholes, &SCHEMA]).await
}

/// Whether the copy has these indexes, put together, and no other.
pub(super) async fn is_built(
    client: &impl GenericClient,
    copy: &str,
    planned: &[Planned],
) -> Result<bool, Failure> {
    let there = named(client, copy).await?;
    let same = there.len() == planned.len() && planned.iter().all(|index| there.contains(&index.built));
    Ok(same && apart(client, planned).await?.is_empty())
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
        let mut all = Vec::new();
        for node in nodes(client, self.table).await? {
            let planned = planned(client, spec, &node, &self.names, self.table, indexes).await?;
            all.push((format!("{SCHEMA}.{}", self.names.copy_of(self.table.oid, node.oid)), planned));
        }
        for (copy, planned) in &all {
            drop_others(client, copy, planned).await?;
        }
        let mut missing = Vec::new();
        // Parts before what they are put together to.
        for (copy, planned) in all.iter().rev() {
            let there = named(client, copy).await?;
            missing.extend(planned.iter().filter(|index| !there.contains(&index.built)));
        }
        for (at, index) in missing.iter().enumerate() {
            report(Progress::Building { done: at, total: missing.len() });
            if !index.is_key {
                self.take_out_all(client).await?;
            }
            client.batch_execute(&index.create).await?;
        }
        for (_, planned) in all.iter().rev() {
            client.batch_execute(&apart(client, planned).await?.join("; ")).await?;
        }
        if !missing.is_empty() {
            client.batch_execute(&format!("ANALYZE {}", self.names.copy_sql())).await?;
        }
        Ok(())
    }
}

/// Drops the indexes of a copy that its table has no more; the parts go with what they were put together to.
async fn drop_others(client: &Client, copy: &str, planned: &[Planned]) -> Result<(), Failure> {
    let mut there = named(client, copy).await?;
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
    Ok(())
}

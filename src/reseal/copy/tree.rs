//! The partitions of a table that is copied: the copy is a tree of the same form.
//!
//! Every table of the tree has a copy of its own, made as it is (column order, CHECKs, storage, schema of its own), attached
//! under the same bounds while it is empty. So rows are put in, taken out and compared through the uppermost table, as they are
//! without partitions; no bound is to be proven under the lock; and in the swap each copy gets its table's name, nothing else.
//! `parts` holds what was copied: each partition with its parent, the transaction that attached it, and its definition. Every
//! transaction that moves rows first holds the tree still, against definitions alone, and compares it with that. What differs is
//! followed ([`Filler::follow`]): copies of partitions that are gone go, new ones are made, and all rows of these are noted.
//!
//! Guarantees: a partition that was attached, detached, made or changed meanwhile, or all of it, is seen before another row is
//! moved and before the swap; what was written while a table was no partition is read anew. Deliberately absent: foreign keys
//! of the tree (`obstacles`), and foreign tables, beside which PostgreSQL lets no key be.

use super::super::fill::Filler;
use super::super::indexes::{Index, indexes};
use super::super::spec::{COPY_TRIGGERS, Names, Spec, Table};
use super::super::{ATTEMPTS_MAX, Failure, MOVED};
use super::build::{named, planned};
use super::{DEFINITION, keys_as, make_one};
use crate::catalog::build::SCHEMA;
use crate::server::prepare::quoted;
use std::collections::{HashMap, HashSet};
use std::time::Duration;
use tokio_postgres::{Client, GenericClient, IsolationLevel, Row, Transaction};

/// Rows that were noted and are taken out at once.
const TAKE_OUT_ROWS: usize = 5_000;

/// The table and its partitions, parents first, without those that are being detached.
const NODES: &str = "\
    WITH RECURSIVE tree(part, depth) AS (SELECT $1::oid, 0 UNION ALL \
      SELECT i.inhrelid, t.depth + 1 FROM tree t JOIN pg_catalog.pg_inherits i ON i.inhparent = t.part WHERE NOT i.inhdetachpending) \
    SELECT c.oid, n.nspname::text, c.relname::text, c.relkind = 'p', \
      ARRAY(SELECT a.attnum FROM pg_catalog.unnest($2::text[]) WITH ORDINALITY AS w(name, place) \
        JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attname::text = w.name AND NOT a.attisdropped ORDER BY w.place) \
    FROM tree t JOIN pg_catalog.pg_class c ON c.oid = t.part JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
    WHERE c.relkind IN ('r', 'p') ORDER BY t.depth, c.oid";

/// The partitions alone, parents first; what they are where `@definition` says how it is read. `$1` is the table.
const PARTS: &str = "\
    WITH RECURSIVE tree(part, parent, attached, depth) AS ( \
      SELECT i.inhrelid, i.inhparent, i.xmin::text, 1 FROM pg_catalog.pg_inherits i WHERE i.inhparent = $1 AND NOT i.inhdetachpending \
      UNION ALL SELECT i.inhrelid, i.inhparent, i.xmin::text, t.depth + 1 FROM tree t JOIN pg_catalog.pg_inherits i \
        ON i.inhparent = t.part WHERE NOT i.inhdetachpending) \
    SELECT c.oid, t.parent, t.attached, @definition FROM tree t JOIN pg_catalog.pg_class c ON c.oid = t.part \
    WHERE c.relkind IN ('r', 'p') ORDER BY t.depth, c.oid";

/// A partition that has a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Part {
    oid: u32,
    parent: u32,
    /// The transaction that made it one: who was detached and comes back is another.
    attached: String,
    definition: Option<String>,
}

impl Part {
    /// Of its four columns, in this order.
    fn read(row: &Row) -> Result<Part, Failure> {
        Ok(Part {
            oid: row.try_get(0)?,
            parent: row.try_get(1)?,
            attached: row.try_get(2)?,
            definition: row.try_get(3)?,
        })
    }
}

/// The table and, where it is partitioned, each of its partitions as a table by itself, parents first.
pub(in super::super) async fn nodes(
    client: &impl GenericClient,
    table: &Table,
) -> Result<Vec<Table>, Failure> {
    if !table.partitioned {
        return Ok(vec![table.clone()]);
    }
    let names: Vec<&str> = table.columns.iter().map(|column| column.name.as_str()).collect();
    let mut found = Vec::new();
    for row in client.query(NODES, &[&table.oid, &names]).await? {
        let mut node = Table {
            oid: row.try_get(0)?,
            schema: row.try_get(1)?,
            name: row.try_get(2)?,
            partitioned: row.try_get(3)?,
            ..table.clone()
        };
        let numbers: Vec<i16> = row.try_get(4)?;
        for (column, number) in node.columns.iter_mut().zip(numbers) {
            column.number = number;
        }
        found.push(node);
    }
    Ok(found)
}

/// The recipe with each partition of a table that is copied as a table by itself, and which table each is of.
pub(in super::super) async fn spread(
    client: &impl GenericClient,
    spec: &Spec,
) -> Result<(Spec, HashMap<u32, u32>), Failure> {
    let (mut tables, mut wholes) = (Vec::new(), HashMap::new());
    for table in &spec.tables {
        let nodes = match table.copy {
            Some(_) => nodes(client, table).await?,
            None => vec![table.clone()],
        };
        wholes.extend(nodes.iter().map(|node| (node.oid, table.oid)));
        tables.extend(nodes);
    }
    Ok((Spec { tables, ..spec.clone() }, wholes))
}

/// The partitions as the catalogs have them; `thorough`: with what they are.
async fn parts(client: &impl GenericClient, table: u32, thorough: bool) -> Result<Vec<Part>, Failure> {
    let definition = if thorough {
        // That of any table, with what a partition has beside.
        let own = DEFINITION.replace("c.oid = $1", "c.oid = t.part");
        format!(
            "pg_catalog.concat_ws(E'\\n', pg_catalog.pg_get_expr(c.relpartbound, c.oid), pg_catalog.pg_get_partkeydef(c.oid), \
             (SELECT d.text FROM ({own}) AS d(text, columns)))"
        )
    } else {
        "NULL::text".to_owned()
    };
    let query = PARTS.replace("@definition", &definition);
    client.query(&query, &[&table]).await?.iter().map(Part::read).collect()
}

/// The partitions that have copies.
async fn copied(client: &impl GenericClient, names: &Names) -> Result<HashMap<u32, Part>, Failure> {
    let query = format!("SELECT part, parent, attached, definition FROM {}", names.parts);
    let parts = client.query(&query, &[]).await?;
    parts.iter().map(Part::read).map(|part| part.map(|part| (part.oid, part))).collect()
}

/// The partitions whose copies are right, of those that there are now.
fn right(now: &[Part], copied: &HashMap<u32, Part>) -> HashSet<u32> {
    let (mut right, mut wrong) = (HashSet::new(), HashSet::new());
    for part in now {
        let same = copied.get(&part.oid).is_some_and(|own| {
            let thorough = part.definition.is_none() || part.definition == own.definition;
            own.parent == part.parent && own.attached == part.attached && thorough
        });
        // With its parent's copy a part's goes.
        if same && !wrong.contains(&part.parent) {
            right.insert(part.oid);
        } else {
            wrong.insert(part.oid);
        }
    }
    right
}

/// The names of the partitioned tables of the tree: where partitions come and go.
async fn partitioned(client: &impl GenericClient, table: u32, names: &Names) -> Result<Vec<String>, Failure> {
    let query = format!(
        "SELECT pg_catalog.format('ONLY %I.%I', n.nspname, c.relname) FROM pg_catalog.pg_class c \
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         WHERE c.relkind = 'p' AND (c.oid = $1 OR c.oid IN (SELECT p.part FROM {} p)) ORDER BY c.oid",
        names.parts
    );
    super::texts(client, &[&query], &[&table]).await
}

/// Makes the copies of all partitions, under the uppermost table's, which is there.
pub(super) async fn make(client: &impl GenericClient, table: &Table, names: &Names) -> Result<(), Failure> {
    client
        .batch_execute(&format!(
            "CREATE TABLE {} (part oid PRIMARY KEY, parent oid NOT NULL, attached text NOT NULL, definition text NOT NULL)",
            names.parts
        ))
        .await?;
    let spec = alone(nodes(client, table).await?, &[]);
    let own = indexes(client, &spec, &mut Vec::new()).await?;
    for part in parts(client, table.oid, true).await? {
        grow(client, table, &part, names, (&spec, &own)).await?;
    }
    Ok(())
}

fn alone(tables: Vec<Table>, restore: &[String]) -> Spec {
    Spec { tables, restore: restore.to_vec(), made: Vec::new(), unpublish: false }
}

/// Makes the copy of one partition, with the indexes that its parent's copy has and the one that tells rows apart.
async fn grow(
    client: &impl GenericClient,
    table: &Table,
    part: &Part,
    names: &Names,
    (spec, indexes): (&Spec, &[Index]),
) -> Result<(), Failure> {
    let node = spec.tables.iter().find(|node| node.oid == part.oid).ok_or_else(|| moved(table))?;
    let (parent, copy) = (names.copy_of(table.oid, part.parent), names.copy_of(table.oid, part.oid));
    make_one(client, node, &copy).await?;
    let above = named(client, &format!("{SCHEMA}.{parent}")).await?;
    for index in planned(client, spec, node, names, table, indexes).await? {
        let comes = index.parent.as_ref().is_some_and(|parent| above.contains(parent));
        if comes || (index.is_key && !node.partitioned) {
            // Over no parts yet it is valid only where it is said to be over all of them.
            client.batch_execute(&index.create.replacen(" ONLY ", " ", 1)).await?;
        }
    }
    let bound: String = client
        .query_one(
            "SELECT pg_catalog.pg_get_expr(c.relpartbound, c.oid) FROM pg_catalog.pg_class c WHERE c.oid = $1",
            &[&part.oid],
        )
        .await?
        .try_get(0)?;
    client
        .batch_execute(&format!("ALTER TABLE {SCHEMA}.{parent} ATTACH PARTITION {SCHEMA}.{copy} {bound}"))
        .await?;
    let enter = format!("INSERT INTO {} VALUES ($1, $2, $3, $4)", names.parts);
    let definition = part.definition.as_deref().unwrap_or_default();
    client.execute(&enter, &[&part.oid, &part.parent, &part.attached, &definition]).await?;
    Ok(())
}

/// The partitions of the tree are others than those of the copy.
pub(in super::super) fn moved(table: &Table) -> Failure {
    Failure {
        sqlstate: Some(MOVED.to_owned()),
        ..Failure::new(format!("the partitions of table {} changed", table.text()))
            .hint("Run: pgveil reseal start; it follows them, and goes on from here.")
    }
}

/// Drops the triggers that call a conversion's function, on partitions and on what was one, but on those that stay.
pub(in super::super) async fn unwatch(
    client: &impl GenericClient,
    names: &Names,
    staying: &[u32],
) -> Result<(), Failure> {
    let query = "\
        SELECT pg_catalog.format('DROP TRIGGER %I ON %I.%I', g.tgname, n.nspname, c.relname) FROM pg_catalog.pg_trigger g \
        JOIN pg_catalog.pg_class c ON c.oid = g.tgrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
        WHERE g.tgfoid = pg_catalog.to_regproc($1)::oid AND g.tgparentid = 0 AND g.tgrelid <> ALL ($2::oid[]) ORDER BY g.oid";
    let drops = super::texts(client, &[query], &[&names.note, &staying]).await?;
    Ok(client.batch_execute(&drops.join("; ")).await?)
}

impl Filler<'_> {
    pub(in super::super) fn is_tree(&self) -> bool {
        self.table.copy.is_some() && self.table.partitioned
    }

    /// Lets no partition come or go until the transaction ends. It has read nothing yet: what it reads is what is then.
    async fn hold_still(&self, transaction: &Transaction<'_>, partitioned: &[String]) -> Result<(), Failure> {
        let lock = format!("LOCK TABLE {} IN SHARE UPDATE EXCLUSIVE MODE", partitioned.join(", "));
        match transaction.batch_execute(&lock).await.map_err(Failure::from) {
            // One is gone, or has another name.
            Err(failure) if failure.is(&["42P01", "42809"]) => Err(moved(self.table)),
            result => result,
        }
    }

    /// A transaction that sees the partitions that have copies, and no others.
    pub(in super::super) async fn tree_transaction<'c>(
        &self,
        client: &'c mut Client,
    ) -> Result<Transaction<'c>, Failure> {
        let partitioned = partitioned(client, self.table.oid, &self.names).await?;
        let start = client.build_transaction().isolation_level(IsolationLevel::RepeatableRead).start();
        let transaction = start.await?;
        self.hold_still(&transaction, &partitioned).await?;
        if self.is_followed(&transaction, false).await? { Ok(transaction) } else { Err(moved(self.table)) }
    }

    /// Whether the partitions are those that have copies; `thorough`: and are as they were when these were made.
    pub(super) async fn is_followed(
        &self,
        transaction: &Transaction<'_>,
        thorough: bool,
    ) -> Result<bool, Failure> {
        let (now, copied) =
            (parts(transaction, self.table.oid, thorough).await?, copied(transaction, &self.names).await?);
        Ok(now.len() == copied.len() && right(&now, &copied).len() == now.len())
    }

    /// Makes the copy's tree the table's again.
    pub(in super::super) async fn follow(&self, client: &mut Client, spec: &Spec) -> Result<(), Failure> {
        if !self.is_tree() {
            return Ok(());
        }
        for _ in 0..ATTEMPTS_MAX {
            let partitioned = partitioned(client, self.table.oid, &self.names).await?;
            let start = client.build_transaction().isolation_level(IsolationLevel::RepeatableRead).start();
            let transaction = start.await?;
            let followed = async {
                transaction.batch_execute("SET LOCAL lock_timeout = '700ms'").await?;
                self.hold_still(&transaction, &partitioned).await?;
                self.follow_in(&transaction, spec).await
            };
            match followed.await {
                Ok(true) => return Ok(transaction.rollback().await?),
                // Once more: what became partitioned is held still by now.
                Ok(false) => transaction.commit().await?,
                Err(failure) if failure.is(&["55P03", "40P01", "40001", MOVED]) => {
                    transaction.rollback().await?;
                    tokio::time::sleep(Duration::from_millis(300)).await;
                }
                Err(failure) => return Err(failure),
            }
        }
        Err(moved(self.table).hint(
            "They could not be locked to follow them: end long transactions (pg_stat_activity), then run pgveil reseal start again.",
        ))
    }

    /// Whether there was nothing to follow.
    async fn follow_in(&self, transaction: &Transaction<'_>, spec: &Spec) -> Result<bool, Failure> {
        let (table, names) = (self.table, &self.names);
        if Some(&super::read(transaction, table).await?) != table.copy.as_ref() {
            return Err(super::changed(table));
        }
        let (now, copied) = (parts(transaction, table.oid, true).await?, copied(transaction, names).await?);
        let right = right(&now, &copied);
        if right.len() == now.len() && now.len() == copied.len() {
            return Ok(true);
        }
        for part in copied.keys().filter(|part| !right.contains(part)) {
            let drop = format!(
                "DROP TABLE IF EXISTS {SCHEMA}.{}; DELETE FROM {} WHERE part = {part}",
                names.copy_of(table.oid, *part),
                names.parts
            );
            transaction.batch_execute(&drop).await?;
        }
        let mut staying: Vec<u32> = now.iter().map(|part| part.oid).collect();
        staying.push(table.oid);
        unwatch(transaction, names, &staying).await?;
        // The others' rows make room: what is left is in no range that is new.
        while self.take_out(transaction, TAKE_OUT_ROWS).await? >= TAKE_OUT_ROWS {}
        let spec = alone(nodes(transaction, table).await?, &spec.restore);
        let own = indexes(transaction, &spec, &mut Vec::new()).await?;
        for part in now.iter().filter(|part| !right.contains(&part.oid)) {
            grow(transaction, table, part, names, (&spec, &own)).await?;
            let node = spec.tables.iter().find(|node| node.oid == part.oid).ok_or_else(|| moved(table))?;
            self.watch(transaction, node).await?;
            if !node.partitioned {
                let keys = keys_as(table);
                let note = format!("INSERT INTO {} SELECT {keys} FROM ONLY {}", names.written, node.sql());
                transaction.batch_execute(&note).await?;
            }
        }
        Ok(false)
    }

    /// Notes truncations of a new partition, too, and its rows in every session.
    async fn watch(&self, transaction: &Transaction<'_>, node: &Table) -> Result<(), Failure> {
        let there = "SELECT EXISTS (SELECT FROM pg_catalog.pg_trigger g WHERE g.tgrelid = $1 AND g.tgname::text = $2)";
        let [row, truncate] = COPY_TRIGGERS;
        if !transaction.query_one(there, &[&node.oid, &truncate]).await?.try_get::<_, bool>(0)? {
            transaction.batch_execute(&super::note_truncation(node, &self.names)).await?;
        }
        let on = node.sql();
        transaction
            .batch_execute(&format!(
                "ALTER TABLE ONLY {on} ENABLE ALWAYS TRIGGER {row}; ALTER TABLE ONLY {on} ENABLE ALWAYS TRIGGER {}",
                quoted(truncate)
            ))
            .await?;
        Ok(())
    }
}

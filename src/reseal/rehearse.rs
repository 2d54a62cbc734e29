//! The swap, tried on empty copies and on a sample, in a transaction that is taken back: what would fail, and how long the
//! lock would be held.
//!
//! Guarantees: the tables themselves are only read; what fails is named one by one. Deliberately absent: foreign keys, which
//! `survey` judges, and the time that filling materialized views takes.

use super::Failure;
use super::copy::{UNHELD, texts};
use super::dependents::{Dependents, Obstacle, View};
use super::fill::{Filler, Misfits, fillers};
use super::indexes::{self, Fate, Index};
use super::spec::{Spec, Table};
use super::{copy, setup, swap};
use crate::crypto::keyring::Keyring;
use crate::server::prepare::{literal, quoted};
use std::time::{Duration, Instant};
use tokio_postgres::{Client, Transaction};

/// Rows of each table that are tried.
pub(super) const SAMPLE_ROWS: u64 = 10_000;

/// What was learnt.
#[derive(Clone, Debug, Default)]
pub struct Rehearsal {
    /// How long the lock would be held, about.
    pub lock: Duration,
    /// How long filling would take at most speed, about.
    pub fill: Duration,
    /// Rows of each table, about.
    pub rows: Vec<u64>,
    /// Bytes of the converted cells of all rows, about.
    pub cell_bytes: u64,
    /// Bytes of the tables as they are, with their indexes.
    pub table_bytes: u64,
    /// Values of the sample that do not fit.
    pub misfits: Misfits,
}

/// The schema of the copies; it is never committed.
const SCHEMA: &str = "pgveil_rehearsal";

/// Rows of a table: counted where that is quick.
async fn rows_of(client: &Client, table: &Table) -> Result<u64, Failure> {
    let query = "SELECT coalesce(pg_catalog.sum(CASE WHEN c.reltuples < 0 THEN -1 ELSE c.reltuples END), -1)::bigint \
                 FROM pg_catalog.pg_class c WHERE c.relkind = 'r' AND (c.oid = $1 OR c.oid IN \
                   (SELECT t.relid::oid FROM pg_catalog.pg_partition_tree($1::oid::regclass) t))";
    let guess: i64 = client.query_one(query, &[&table.oid]).await?.try_get(0)?;
    if guess > 200_000 {
        return Ok(u64::try_from(guess).unwrap_or(0));
    }
    let count = format!("SELECT pg_catalog.count(*) FROM {}", table.sql());
    let count: i64 = client.query_one(&count, &[]).await?.try_get(0)?;
    Ok(u64::try_from(count).unwrap_or(0))
}

/// The tables' copies, under their names, by which views find them; one that has another's name gets its own.
fn copies(spec: &Spec) -> Vec<Table> {
    let mut copies: Vec<Table> = Vec::new();
    for (at, table) in spec.tables.iter().enumerate() {
        let taken = copies.iter().any(|copy| copy.name == table.name);
        let name = if taken { format!("pgveil_{at}") } else { table.name.clone() };
        copies.push(Table {
            schema: SCHEMA.to_owned(),
            name,
            partitioned: false,
            copy: None,
            ..table.clone()
        });
    }
    copies
}

/// Tries it; `found` learns what stands in the way, and which indexes serve nothing.
pub(super) async fn rehearse(
    client: &mut Client,
    spec: &Spec,
    found: &mut Dependents,
    keyring: &Keyring,
) -> Result<Rehearsal, Failure> {
    let mut learnt = Rehearsal::default();
    for table in &spec.tables {
        learnt.rows.push(rows_of(client, table).await?);
        let bytes = "SELECT pg_catalog.pg_total_relation_size($1::oid::regclass)";
        let bytes: i64 = client.query_one(bytes, &[&table.oid]).await?.try_get(0)?;
        learnt.table_bytes += u64::try_from(bytes).unwrap_or(0);
    }
    let copies = Spec { tables: copies(spec), restore: Vec::new(), made: Vec::new(), unpublish: false };
    let fillers = fillers(&copies, 0, keyring)?;
    let mut transaction = client.transaction().await?;
    // "pgveil" and one more than `init` has: names that are not committed yet make others wait, too.
    let alone = "SELECT pg_catalog.pg_advisory_xact_lock(123589670300013)";
    transaction
        .batch_execute(&format!("{alone}; SET LOCAL lock_timeout = '2s'; CREATE SCHEMA {SCHEMA}"))
        .await?;
    for wanted in swap::wanted_types(spec, keyring)? {
        let there = "SELECT pg_catalog.to_regtype($1) IS NOT NULL";
        let name = format!("pgveil.{}", quoted(&wanted.name));
        if !transaction.query_one(there, &[&name]).await?.try_get::<_, bool>(0)? {
            transaction.batch_execute(&wanted.statements().join("; ")).await?;
        }
    }
    for (at, (table, filler)) in spec.tables.iter().zip(&fillers).enumerate() {
        let rows = learnt.rows.get(at).copied().unwrap_or(0);
        try_table(&mut transaction, spec, (table, filler, rows), found, &mut learnt).await?;
    }
    for own in &found.defaults {
        let carrier = &fillers[own.table].carriers()[own.column];
        let column = &spec.tables[own.table].columns[own.column];
        let tried = transaction.transaction().await?;
        if let Err(failure) = swap::default(&tried, column, carrier, &own.expression).await {
            found.obstacles.push(Obstacle {
                what: failure.message,
                remedy: failure
                    .hint
                    .unwrap_or_else(|| "Drop it: ALTER TABLE … ALTER COLUMN … DROP DEFAULT.".to_owned()),
            });
        }
        tried.rollback().await?;
    }
    stand_ins(&transaction, spec, found).await?;
    try_views(&mut transaction, spec, found).await?;
    transaction.rollback().await?;
    Ok(learnt)
}

async fn try_table(
    transaction: &mut Transaction<'_>,
    spec: &Spec,
    (table, filler, rows): (&Table, &Filler<'_>, u64),
    found: &mut Dependents,
    learnt: &mut Rehearsal,
) -> Result<(), Failure> {
    let copy = filler.table.sql();
    let original = table.sql();
    transaction.batch_execute(&format!("CREATE TABLE {copy} (LIKE {original})")).await?;
    let unheld = texts(transaction, &[UNHELD], &[&table.oid, &copy]).await?;
    let sample = format!("INSERT INTO {copy} SELECT * FROM {original} LIMIT {SAMPLE_ROWS}");
    transaction.batch_execute(&[unheld, vec![sample]].concat().join("; ")).await?;
    let started = Instant::now();
    transaction.batch_execute(&setup::create(filler.table, &filler.names)).await?;
    let batch = filler.sample(transaction, usize::try_from(SAMPLE_ROWS).unwrap_or(usize::MAX)).await?;
    let filling = started.elapsed();
    let sample = batch.rows as u64;
    let scale = if sample == 0 { 0.0 } else { rows as f64 / sample as f64 };
    let mut misfits = batch.misfits;
    for example in &mut misfits.examples {
        *example = example.replacen(&filler.table.text(), &table.text(), 1);
    }
    learnt.misfits.add(misfits);
    learnt.fill += filling.mul_f64(scale.max(1.0));
    let bytes = format!("SELECT pg_catalog.pg_total_relation_size('{}')", filler.names.shadow);
    let bytes: i64 = transaction.query_one(&bytes, &[]).await?.try_get(0)?;
    learnt.cell_bytes += (bytes as f64 * scale) as u64;
    let started = Instant::now();
    transaction.batch_execute(&setup::unwatch(filler.table)).await?;
    // Rows of the sample that do not fit have no cells.
    if learnt.misfits.count > 0 {
        transaction.batch_execute(&format!("TRUNCATE {copy}")).await?;
    }
    transaction.batch_execute(&swap::alter(filler.table, &filler.names)).await?;
    try_indexes(transaction, spec, table, &copy, found).await?;
    indexes::with_their_wholes(&mut found.indexes);
    learnt.lock += started.elapsed().mul_f64(scale.max(1.0));
    try_checks(transaction, spec, table, &copy, found).await
}

async fn try_indexes(
    transaction: &mut Transaction<'_>,
    spec: &Spec,
    table: &Table,
    copy: &str,
    found: &mut Dependents,
) -> Result<(), Failure> {
    let Dependents { indexes, obstacles, .. } = found;
    let own = |index: &&mut Index| index.whole == table.oid && index.parent.is_none();
    for index in indexes.iter_mut().filter(own).filter(|index| index.fate != Fate::Lost) {
        // Those of partitions may have one name.
        let (name, create) = if index.table == table.oid {
            (index.name.clone(), index.create_on(copy))
        } else {
            let name = format!("pgveil_{}", index.oid);
            (name.clone(), index.create_as(&name, copy))
        };
        let tree = format!(
            "SELECT coalesce(i.indexprs::text, '') || coalesce(i.indpred::text, '') FROM pg_catalog.pg_index i \
             WHERE i.indexrelid = {}::regclass",
            literal(&format!("{SCHEMA}.{}", quoted(&name)))
        );
        match tried(transaction, &create, &tree, spec).await? {
            None => {}
            Some(why) => {
                if index.touched && index.enforces {
                    obstacles.push(Obstacle {
                        what: format!(
                            "index {} of {} cannot stand over the new column: {why}",
                            index.name,
                            table.text()
                        ),
                        remedy: format!("Drop it: {}", index.drop()),
                    });
                } else if index.touched {
                    index.fate = Fate::Lost;
                }
            }
        }
    }
    Ok(())
}

async fn try_checks(
    transaction: &mut Transaction<'_>,
    spec: &Spec,
    table: &Table,
    copy: &str,
    found: &mut Dependents,
) -> Result<(), Failure> {
    for check in found.checks.iter().filter(|check| check.table == table.oid) {
        let tree = format!(
            "SELECT pg_catalog.string_agg(c.conbin::text, ' ') FROM pg_catalog.pg_constraint c \
             WHERE c.conrelid = {}::regclass AND c.contype = 'c'",
            literal(copy)
        );
        let create = format!("ALTER TABLE {copy} {}", check.create);
        found.obstacles.extend(tried(transaction, &create, &tree, spec).await?.map(|why| Obstacle {
            what: format!("{} cannot be checked over the new column: {why}", check.text),
            remedy: format!("Drop it ({}): sealed values are held to their type by pgveil.", check.drop),
        }));
    }
    Ok(())
}

/// Partitions under their names, empty, for views over them.
async fn stand_ins(transaction: &Transaction<'_>, spec: &Spec, found: &Dependents) -> Result<(), Failure> {
    if found.views.is_empty() {
        return Ok(());
    }
    for (table, whole) in spec.tables.iter().zip(copies(spec)) {
        for node in copy::tree::nodes(transaction, table).await?.iter().skip(1) {
            let create =
                format!("CREATE TABLE IF NOT EXISTS {SCHEMA}.{} (LIKE {})", quoted(&node.name), whole.sql());
            transaction.batch_execute(&create).await?;
        }
    }
    Ok(())
}

/// Views and triggers, printed with names that lead to the copies.
async fn try_views(
    transaction: &mut Transaction<'_>,
    spec: &Spec,
    found: &mut Dependents,
) -> Result<(), Failure> {
    let mut schemas: Vec<String> = spec.tables.iter().map(|table| quoted(&table.schema)).collect();
    schemas.extend(found.views.iter().map(|view| quoted(&view.schema)));
    schemas.sort();
    schemas.dedup();
    let own = format!("SET LOCAL search_path = {}", schemas.join(", "));
    let copies = format!("SET LOCAL search_path = {SCHEMA}, {}", schemas.join(", "));
    for view in &found.views {
        transaction.batch_execute(&own).await?;
        let shown = "SELECT pg_catalog.pg_get_viewdef($1::text::regclass::oid)";
        let name = format!("{}.{}", quoted(&view.schema), quoted(&view.name));
        let definition: String = transaction.query_one(shown, &[&name]).await?.try_get(0)?;
        transaction.batch_execute(&copies).await?;
        let create = format!("CREATE VIEW {SCHEMA}.{} AS {definition}", quoted(&view.name));
        let tree = format!(
            "SELECT w.ev_action::text FROM pg_catalog.pg_rewrite w WHERE w.ev_class = {}::regclass",
            literal(&format!("{SCHEMA}.{}", quoted(&view.name)))
        );
        let why = tried(transaction, &create, &tree, spec).await?;
        found.obstacles.extend(why.map(|why| cannot_stand(view, &why)));
    }
    transaction.batch_execute("SET LOCAL search_path = ''").await?;
    for trigger in &found.triggers {
        let Some(table) = spec.tables.iter().find(|table| table.oid == trigger.table) else { continue };
        let copy = format!(" ON {SCHEMA}.{} ", quoted(&table.name));
        let create = trigger.create.replacen(&format!(" ON {} ", trigger.on), &copy, 1);
        let create = create.split("; ALTER TABLE").next().unwrap_or_default();
        let tree = format!(
            "SELECT pg_catalog.string_agg(g.tgqual::text, ' ') FROM pg_catalog.pg_trigger g WHERE g.tgrelid = {}::regclass",
            literal(copy.trim().trim_start_matches("ON "))
        );
        match tried(transaction, create, &tree, spec).await? {
            // Those of partitions may have one name.
            None => {
                let drop = trigger.drop.replacen(&format!(" ON {}", trigger.on), copy.trim_end(), 1);
                transaction.batch_execute(&drop).await?;
            }
            Some(why) => found.obstacles.push(Obstacle {
                what: format!("{} cannot stand over the new column: {why}", trigger.text),
                remedy: format!("Drop it ({}), or write it without computing with the column.", trigger.drop),
            }),
        }
    }
    Ok(())
}

fn cannot_stand(view: &View, why: &str) -> Obstacle {
    Obstacle {
        what: format!("view {}.{} cannot stand over the new column: {why}", view.schema, view.name),
        remedy: format!("Drop it ({}), or write it without computing with the column.", view.drop),
    }
}

/// Why a statement fails, or what it defines (of which `tree` asks) computes with a sealed column, where the database has
/// something of the same name for bytes; it is kept when neither is so.
async fn tried(
    transaction: &mut Transaction<'_>,
    statement: &str,
    tree: &str,
    spec: &Spec,
) -> Result<Option<String>, Failure> {
    let tried = transaction.transaction().await?;
    if let Err(error) = tried.batch_execute(statement).await {
        tried.rollback().await?;
        return Ok(Some(Failure::from(error).message));
    }
    let sealed = spec.columns().filter(|(_, column)| column.to.is_sealed());
    let types: Vec<String> = sealed.map(|(_, column)| column.to.sql_type()).collect();
    let computes = format!(
        "SELECT coalesce(pg_catalog.bool_or(({tree}) ~ pg_catalog.format($2, t.name::regtype::oid)), false) \
         FROM pg_catalog.unnest($1::text[]) AS t(name)"
    );
    let computes: bool = tried.query_one(&computes, &[&types, &COMPUTES]).await?.try_get(0)?;
    if computes {
        tried.rollback().await?;
        return Ok(Some("it computes with the column, whose cells the database cannot read".to_owned()));
    }
    tried.commit().await?;
    Ok(None)
}

/// In a tree as the catalogs store it: a column of this type cast to text, in a function, or under an operator other than
/// equality of bytes (1955, 1956 in `pg_operator.dat`).
const COMPUTES: &str = "\\{COERCEVIAIO :arg \\{VAR [^{}]*:vartype %1$s \
    |\\{FUNCEXPR [^{}]*:args \\((\\{[^{}]*\\} ?)*\\{RELABELTYPE :arg \\{VAR [^{}]*:vartype %1$s \
    |\\{OPEXPR :opno (?!1955 |1956 )[0-9]+ [^{}]*:args \\((\\{[^{}]*\\} ?)*\\{RELABELTYPE :arg \\{VAR [^{}]*:vartype %1$s ";

//! A table that the swap would lock for too long: its rows go online into a copy, which then takes its place.
//!
//! The copy stands in schema `pgveil`: the table's columns with their new types ([`make`]), its rows ([`rows`]), then its
//! indexes ([`build`]); what else a table has ([`definition`]) it gets in the swap ([`swap`]), when it also gets its name and
//! the table is dropped. Triggers note the keys of all rows that come, change or go meanwhile, and that the table was truncated.
//!
//! Guarantees: until the swap commits the table is as it was; what of it the copy would not have is found before
//! ([`obstacles`]) or fails the swap, for nothing is dropped with CASCADE. What is partitioned is copied as a [`tree`].
//! Deliberately absent: inheritance other than that of partitions.

mod build;
mod definition;
pub(super) mod obstacles;
mod rows;
mod swap;
pub(super) mod tree;

use super::Failure;
use super::spec::{COPY_TRIGGERS, CopyOf, Names, Spec, Table, key_column};
use super::swap::wanted_types;
use crate::catalog::build::SCHEMA;
use crate::crypto::keyring::Keyring;
use crate::server::prepare::quoted;
use tokio_postgres::GenericClient;
use tokio_postgres::types::ToSql;

/// Columns, CHECKs and NOT NULLs as they are: text by which a change is seen.
const DEFINITION: &str = "\
    SELECT pg_catalog.concat_ws(E'\\n', c.relpersistence, \
      (SELECT pg_catalog.string_agg(pg_catalog.concat_ws(' ', pg_catalog.quote_ident(a.attname), \
         pg_catalog.format_type(a.atttypid, a.atttypmod), a.attcollation, a.attnotnull, a.attidentity, a.attgenerated, \
         CASE WHEN a.attgenerated <> '' THEN pg_catalog.pg_get_expr(d.adbin, d.adrelid) END), E'\\n' ORDER BY a.attnum) \
       FROM pg_catalog.pg_attribute a \
       LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum \
       WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped), \
      (SELECT pg_catalog.string_agg(k.conname || ' ' || pg_catalog.pg_get_constraintdef(k.oid), E'\\n' ORDER BY k.conname) \
       FROM pg_catalog.pg_constraint k WHERE k.conrelid = c.oid AND k.contype IN ('c', 'n'))), \
      (SELECT pg_catalog.array_agg(a.attname::text ORDER BY a.attnum) FROM pg_catalog.pg_attribute a \
       WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '') \
    FROM pg_catalog.pg_class c WHERE c.oid = $1";

/// How a table is created: persistence; partition key, access method, options, tablespace; and whether with identity columns,
/// which are not made for a partition that has them of its parent.
const KIND: &str = "\
    SELECT CASE c.relpersistence WHEN 'u' THEN 'UNLOGGED ' ELSE '' END, \
      coalesce(' PARTITION BY ' || pg_catalog.pg_get_partkeydef(c.oid), '') \
      || coalesce(' USING ' || pg_catalog.quote_ident(m.amname), '') \
      || coalesce(' WITH (' || pg_catalog.array_to_string(c.reloptions || (SELECT pg_catalog.array_agg('toast.' || o) \
           FROM pg_catalog.pg_class t, pg_catalog.unnest(t.reloptions) AS o WHERE t.oid = c.reltoastrelid), ', ') || ')', '') \
      || coalesce(' TABLESPACE ' || pg_catalog.quote_ident(s.spcname), ''), \
      CASE WHEN EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_class'::regclass \
        AND d.refclassid = 'pg_catalog.pg_class'::regclass AND d.refobjid = c.oid AND d.refobjsubid > 0 AND d.deptype = 'i' \
        AND d.objsubid = 0) THEN ' INCLUDING IDENTITY' ELSE '' END \
    FROM pg_catalog.pg_class c LEFT JOIN pg_catalog.pg_am m ON m.oid = c.relam \
    LEFT JOIN pg_catalog.pg_tablespace s ON s.oid = c.reltablespace WHERE c.oid = $1";

/// LIKE holds a copy to what rows of the table do not keep: NOT NULL … NOT VALID (PostgreSQL 18). `$1` the table, `$2` the copy.
pub(super) const UNHELD: &str = "\
    SELECT pg_catalog.format('ALTER TABLE %s ALTER COLUMN %I DROP NOT NULL', $2::text, a.attname) FROM pg_catalog.pg_constraint k \
    JOIN pg_catalog.pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = ANY (k.conkey) \
    WHERE k.conrelid = $1 AND k.contype = 'n' AND NOT k.convalidated";

/// What the copy needs before it has rows, as statements; `$1` the table, `$2` the copy.
const BEFORE_ROWS: [&str; 4] = [
    UNHELD,
    "SELECT pg_catalog.format('ALTER TABLE %s ALTER COLUMN %I SET STORAGE %s', $2::text, b.attname, \
       CASE a.attstorage WHEN 'p' THEN 'PLAIN' WHEN 'e' THEN 'EXTERNAL' WHEN 'm' THEN 'MAIN' ELSE 'EXTENDED' END) \
     FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type y ON y.oid = a.atttypid \
     JOIN pg_catalog.pg_attribute b ON b.attrelid = $2::text::regclass AND b.attname = a.attname \
     JOIN pg_catalog.pg_type z ON z.oid = b.atttypid \
     WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped AND z.typlen = -1 \
       AND a.attstorage <> y.typstorage AND a.attstorage <> b.attstorage",
    "SELECT pg_catalog.format('ALTER TABLE %s ALTER COLUMN %I SET COMPRESSION %s', $2::text, b.attname, \
       CASE a.attcompression WHEN 'l' THEN 'lz4' WHEN 'p' THEN 'pglz' ELSE 'DEFAULT' END) \
     FROM pg_catalog.pg_attribute a \
     JOIN pg_catalog.pg_attribute b ON b.attrelid = $2::text::regclass AND b.attname = a.attname \
     JOIN pg_catalog.pg_type z ON z.oid = b.atttypid \
     WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped AND z.typlen = -1 \
       AND z.typstorage <> 'p' AND a.attcompression <> b.attcompression",
    "SELECT pg_catalog.format('ALTER TABLE %s ADD CONSTRAINT %I %s', $2::text, k.conname, pg_catalog.pg_get_constraintdef(k.oid)) \
     FROM pg_catalog.pg_constraint k WHERE k.conrelid = $1 AND k.contype = 'c' AND k.convalidated ORDER BY k.conname",
];

/// What queries of one column of text give, one after the other.
pub(super) async fn texts(
    client: &impl GenericClient,
    queries: &[&str],
    parameters: &[&(dyn ToSql + Sync)],
) -> Result<Vec<String>, Failure> {
    let mut found = Vec::new();
    for query in queries {
        for row in client.query(*query, parameters).await? {
            found.push(row.try_get(0)?);
        }
    }
    Ok(found)
}

/// What a table is now.
async fn read(client: &impl GenericClient, table: &Table) -> Result<CopyOf, Failure> {
    let row = client.query_opt(DEFINITION, &[&table.oid]).await?;
    let row = row.ok_or_else(|| Failure::gone(format!("table {} is gone", table.text())))?;
    Ok(CopyOf { definition: row.try_get(0)?, columns: row.try_get(1)? })
}

/// Locks the tables against writes until the transaction ends, and makes the types and the recipe of their copies.
pub(super) async fn prepare(
    client: &impl GenericClient,
    spec: &mut Spec,
    keyring: &Keyring,
) -> Result<(), Failure> {
    for wanted in wanted_types(spec, keyring)? {
        let there = "SELECT pg_catalog.to_regtype($1) IS NOT NULL";
        let name = format!("{SCHEMA}.{}", quoted(&wanted.name));
        if !client.query_one(there, &[&name]).await?.try_get::<_, bool>(0)? {
            client.batch_execute(&wanted.statements().join("; ")).await?;
            spec.made.push(wanted.name);
        }
    }
    for table in &mut spec.tables {
        client.batch_execute(&format!("LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE", table.sql())).await?;
        table.copy = Some(read(client, table).await?);
    }
    Ok(())
}

/// Makes the copy without rows, and what notes the table's writes.
pub(super) async fn make(client: &impl GenericClient, table: &Table, names: &Names) -> Result<(), Failure> {
    make_one(client, table, &names.copy).await?;
    if table.partitioned {
        tree::make(client, table, names).await?;
    }
    client.batch_execute(&notes(table, names)).await?;
    for node in tree::nodes(client, table).await? {
        client.batch_execute(&note_truncation(&node, names)).await?;
    }
    Ok(())
}

/// Makes the copy of one table or partition, by itself.
async fn make_one(client: &impl GenericClient, table: &Table, copy: &str) -> Result<(), Failure> {
    let (on, copy) = (table.sql(), format!("{SCHEMA}.{copy}"));
    let kind = client.query_one(KIND, &[&table.oid]).await?;
    let (persistence, rest, identity): (String, String, String) =
        (kind.try_get(0)?, kind.try_get(1)?, kind.try_get(2)?);
    let types: Vec<String> = table
        .columns
        .iter()
        .map(|column| {
            format!("ALTER COLUMN {} TYPE {} USING NULL", quoted(&column.name), column.to.column_type())
        })
        .collect();
    client
        .batch_execute(&format!(
            "CREATE {persistence}TABLE {copy} (LIKE {on} INCLUDING GENERATED INCLUDING STORAGE INCLUDING COMPRESSION{identity}){rest}; \
             ALTER TABLE {copy} {}",
            types.join(", ")
        ))
        .await?;
    let before_rows = texts(client, &BEFORE_ROWS, &[&table.oid, &copy]).await?;
    Ok(client.batch_execute(&before_rows.join("; ")).await?)
}

fn changed(table: &Table) -> Failure {
    Failure::new(format!("table {} was changed since its copy was made", table.text()))
        .hint("Run: pgveil reseal cancel; then start anew.")
}

/// The key's columns under the names that they have beside the table.
fn keys_as(table: &Table) -> String {
    let one = |(at, key): (usize, &super::spec::KeyColumn)| {
        format!("{}::{} AS {}", quoted(&key.name), key.type_name, key_column(at))
    };
    table.key.iter().enumerate().map(one).collect::<Vec<_>>().join(", ")
}

/// Tables of keys, and the triggers. Nobody but them may note: that a table was truncated is believed.
fn notes(table: &Table, names: &Names) -> String {
    let (on, redo, written, note) = (table.sql(), &names.redo, &names.written, &names.note);
    let listed: Vec<String> = (0..table.key.len()).map(key_column).collect();
    let of = |row: &str| {
        let columns: Vec<String> =
            table.key.iter().map(|key| format!("{row}.{}", quoted(&key.name))).collect();
        columns.join(", ")
    };
    let (old, new) = (of("OLD"), of("NEW"));
    let mut nothing = vec!["NULL"; table.key.len()].join(", ");
    let mut emptied = String::new();
    if table.partitioned {
        nothing.push_str(", TG_RELID");
        emptied = format!(" ALTER TABLE {written} ADD COLUMN emptied oid;");
    }
    let [row, _] = COPY_TRIGGERS;
    format!(
        "CREATE TABLE {redo} AS SELECT {keys} FROM {on} WITH NO DATA; ALTER TABLE {redo} ADD PRIMARY KEY ({listed}); \
         CREATE TABLE {written} AS SELECT {keys} FROM {on} WITH NO DATA;{emptied} \
         ALTER TABLE {written} SET (autovacuum_vacuum_scale_factor = 0.5); \
         CREATE FUNCTION {note}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $note$ BEGIN \
           IF TG_OP OPERATOR(pg_catalog.=) 'TRUNCATE' THEN \
             INSERT INTO {written} VALUES ({nothing}); RETURN NULL; \
           END IF; \
           IF TG_OP OPERATOR(pg_catalog.<>) 'INSERT' THEN INSERT INTO {written} VALUES ({old}); END IF; \
           IF TG_OP OPERATOR(pg_catalog.=) 'INSERT' THEN INSERT INTO {written} VALUES ({new}); \
           ELSIF TG_OP OPERATOR(pg_catalog.=) 'UPDATE' THEN \
             IF ROW({old})::pg_catalog.record OPERATOR(pg_catalog.*<>) ROW({new})::pg_catalog.record THEN \
               INSERT INTO {written} VALUES ({new}); \
             END IF; \
           END IF; \
           RETURN NULL; END $note$; \
         REVOKE ALL ON FUNCTION {note}() FROM PUBLIC; \
         CREATE TRIGGER {row} AFTER INSERT OR UPDATE OR DELETE ON {on} FOR EACH ROW EXECUTE FUNCTION {note}(); ",
        keys = keys_as(table),
        listed = listed.join(", "),
    )
}

/// Each partition is truncated by itself, too.
fn note_truncation(node: &Table, names: &Names) -> String {
    let [_, truncate] = COPY_TRIGGERS;
    format!(
        "CREATE TRIGGER {truncate} AFTER TRUNCATE ON {} FOR EACH STATEMENT EXECUTE FUNCTION {}(); ",
        node.sql(),
        names.note
    )
}

/// Takes away all that stands beside the table; of the copy what is still there.
pub(super) fn remove(names: &Names) -> String {
    format!(
        "DROP FUNCTION IF EXISTS {}(); DROP TABLE IF EXISTS {}, {}, {}, {}, {}; ",
        names.note,
        names.parts,
        names.copy_sql(),
        names.redo,
        names.written,
        names.staging
    )
}

/// Takes away the types that were made for a conversion, where nothing has them.
pub(super) async fn remove_types(client: &impl GenericClient, spec: &Spec) -> Result<(), Failure> {
    let query = "\
        SELECT t.typname::text FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace \
        WHERE n.nspname::text = $1 AND t.typtype = 'd' AND t.typname::text = ANY ($2) \
          AND NOT EXISTS (SELECT FROM pg_catalog.pg_attribute a WHERE a.atttypid IN (t.oid, t.typarray) AND NOT a.attisdropped)";
    for row in client.query(query, &[&SCHEMA, &spec.made]).await? {
        let name: String = row.try_get(0)?;
        client.batch_execute(&format!("DROP DOMAIN {SCHEMA}.{}", quoted(&name))).await?;
    }
    Ok(())
}

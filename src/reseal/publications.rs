//! Publications that send a table: what becomes of them when its columns change.
//!
//! A publication whose list of columns leaves the converted ones out goes on. Another sends cells to columns of the old type
//! from the swap on: it stands in the way, unless the table is to leave it with the swap. Guarantees: no subscriber is sent a
//! cell that it has no column for. Deliberately absent: subscribers, whose tables are their own to convert.

use super::Failure;
use super::dependents::Obstacle;
use super::spec::{Column, Spec, Table};
use crate::server::prepare::quoted;
use tokio_postgres::GenericClient;

/// A table in a publication that names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    pub publication: String,
    /// `schema.table`, for people.
    pub table: String,
    /// Whether subscribers are sent a column that is converted.
    pub sends: bool,
    /// The table's name in SQL, and what gives the columns that are sent their new types at a subscriber, where it is empty.
    emptied: String,
    changed: String,
    pub remove: String,
    pub add: String,
}

const MEMBERSHIPS: &str = "\
    SELECT p.pubname::text, r.prrelid::regclass::text, \
      CASE WHEN pg_catalog.to_jsonb(r) ->> 'prattrs' IS NULL THEN $2::text[] ELSE ARRAY(SELECT t.attname::text \
        FROM pg_catalog.jsonb_path_query(pg_catalog.to_jsonb(r), '$.prattrs[*]') AS k(number) \
        JOIN pg_catalog.pg_attribute t ON t.attrelid = r.prrelid AND pg_catalog.to_jsonb(t.attnum) = k.number \
        WHERE t.attname::text = ANY ($2::text[])) END, pg_catalog.format('%I.%I', n.nspname, c.relname), \
      pg_catalog.format('ALTER PUBLICATION %I DROP TABLE ONLY %I.%I', p.pubname, n.nspname, c.relname), \
      pg_catalog.format('ALTER PUBLICATION %I ADD TABLE ONLY %I.%I%s%s', p.pubname, n.nspname, c.relname, \
        (SELECT ' (' || pg_catalog.string_agg(pg_catalog.quote_ident(t.attname), ', ' ORDER BY k.place) || ')' \
         FROM pg_catalog.jsonb_path_query(pg_catalog.to_jsonb(r), '$.prattrs[*]') WITH ORDINALITY AS k(number, place) \
         JOIN pg_catalog.pg_attribute t ON t.attrelid = r.prrelid AND pg_catalog.to_jsonb(t.attnum) = k.number), \
        (SELECT ' WHERE (' || (pg_catalog.to_jsonb(v) ->> 'rowfilter') || ')' FROM pg_catalog.pg_publication_tables v \
         WHERE v.pubname = p.pubname AND v.schemaname = n.nspname AND v.tablename = c.relname \
           AND pg_catalog.to_jsonb(v) ->> 'rowfilter' IS NOT NULL)) \
    FROM pg_catalog.pg_publication_rel r JOIN pg_catalog.pg_publication p ON p.oid = r.prpubid \
    JOIN pg_catalog.pg_class c ON c.oid = r.prrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
    WHERE r.prrelid = $1 OR r.prrelid IN (SELECT t.relid FROM pg_catalog.pg_partition_tree($1::oid::regclass) t) \
    ORDER BY p.pubname, r.prrelid";

/// Publications of all tables: they send what stands beside ours, and none leaves them. With the statements that name their tables.
const OF_ALL: &str = "\
    SELECT p.pubname::text, \
      pg_catalog.format('CREATE PUBLICATION %I FOR TABLE %s%s', pg_catalog.left(p.pubname::text, 56) || '_tables', \
        (SELECT pg_catalog.string_agg(pg_catalog.format('ONLY %I.%I', n.nspname, c.relname), ', ' ORDER BY n.nspname, c.relname) \
         FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         WHERE c.relkind IN ('r', 'p') AND c.relpersistence = 'p' AND NOT c.relispartition AND c.oid >= 16384 \
           AND n.nspname <> 'pgveil'), \
        pg_catalog.format(' WITH (publish = %L%s%s)', pg_catalog.concat_ws(', ', CASE WHEN p.pubinsert THEN 'insert' END, \
            CASE WHEN p.pubupdate THEN 'update' END, CASE WHEN p.pubdelete THEN 'delete' END, CASE WHEN p.pubtruncate THEN 'truncate' END), \
          CASE WHEN p.pubviaroot THEN ', publish_via_partition_root = true' END, \
          CASE WHEN pg_catalog.to_jsonb(p) ->> 'pubgencols' = 's' THEN ', publish_generated_columns = stored' END)), \
      pg_catalog.format('ALTER SUBSCRIPTION … SET PUBLICATION %I WITH (copy_data = false)', \
        pg_catalog.left(p.pubname::text, 56) || '_tables'), \
      pg_catalog.format('DROP PUBLICATION %I', p.pubname) \
    FROM pg_catalog.pg_publication p WHERE p.puballtables ORDER BY p.pubname";

/// Publications that send a table, a partition or what stands beside them for its schema's sake, also where they name it, too; with
/// the statements that name the tables instead. From PostgreSQL 15 on.
const BY_SCHEMA: &str = "\
    WITH matters AS (SELECT s.pnpubid AS publication, n.oid, n.nspname FROM pg_catalog.pg_publication_namespace s \
      JOIN pg_catalog.pg_namespace n ON n.oid = s.pnnspid \
      WHERE n.nspname = 'pgveil' OR EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.relnamespace = n.oid AND c.oid IN ( \
        SELECT u.oid FROM pg_catalog.unnest($1::oid[]) AS u(oid) UNION SELECT t.relid::oid FROM pg_catalog.unnest($1::oid[]) AS u(oid) \
        CROSS JOIN LATERAL pg_catalog.pg_partition_tree(u.oid::regclass) t))) \
    SELECT p.pubname::text, pg_catalog.string_agg(pg_catalog.quote_ident(m.nspname), ', ' ORDER BY m.nspname), pg_catalog.concat( \
      (SELECT pg_catalog.format('ALTER PUBLICATION %I ADD TABLE %s; ', p.pubname, \
         pg_catalog.string_agg(pg_catalog.format('ONLY %I.%I', o.nspname, c.relname), ', ' ORDER BY o.nspname, c.relname)) \
       FROM pg_catalog.pg_class c JOIN matters o ON o.publication = p.oid AND o.oid = c.relnamespace AND o.nspname <> 'pgveil' \
       WHERE c.relkind IN ('r', 'p') AND c.relpersistence = 'p' \
         AND NOT EXISTS (SELECT FROM pg_catalog.pg_publication_rel r WHERE r.prpubid = p.oid AND r.prrelid = c.oid) \
         AND NOT (c.relispartition AND EXISTS (SELECT FROM pg_catalog.pg_partition_ancestors(c.oid::regclass) AS a(relid) \
           JOIN pg_catalog.pg_class x ON x.oid = a.relid AND x.oid <> c.oid \
           JOIN matters y ON y.publication = p.oid AND y.oid = x.relnamespace)) \
       HAVING pg_catalog.count(*) > 0), \
      pg_catalog.format('ALTER PUBLICATION %I DROP TABLES IN SCHEMA %s;', p.pubname, \
        pg_catalog.string_agg(pg_catalog.quote_ident(m.nspname), ', ' ORDER BY m.nspname))) \
    FROM matters m JOIN pg_catalog.pg_publication p ON p.oid = m.publication GROUP BY p.oid, p.pubname ORDER BY p.pubname";

fn converted(table: &Table) -> Vec<&str> {
    table.columns.iter().map(|Column { name, .. }| name.as_str()).collect()
}

fn changed(table: &Table, name: &str, sent: &[String]) -> String {
    let one = |column: &Column| {
        let name = quoted(&column.name);
        let new = column.to.column_type();
        format!("ALTER COLUMN {name} DROP DEFAULT, ALTER COLUMN {name} TYPE {new} USING NULL")
    };
    let columns: Vec<String> =
        table.columns.iter().filter(|column| sent.contains(&column.name)).map(one).collect();
    format!("ALTER TABLE {name} {}", columns.join(", "))
}

/// What a subscriber has to do before the tables that leave their publications can come back.
pub(super) fn resubscribe(memberships: &[Membership]) -> Vec<String> {
    let leaving = || memberships.iter().filter(|own| own.sends);
    let mut emptied: Vec<&str> = leaving().map(|own| own.emptied.as_str()).collect();
    emptied.sort_unstable();
    emptied.dedup();
    if emptied.is_empty() {
        return Vec::new();
    }
    let mut statements: Vec<String> = leaving().map(|own| own.changed.clone()).collect();
    statements.sort_unstable();
    statements.dedup();
    statements.insert(0, format!("TRUNCATE {}", emptied.join(", ")));
    statements
}

/// The publications that name the tables, or partitions of theirs.
pub(super) async fn memberships(
    client: &impl GenericClient,
    spec: &Spec,
) -> Result<Vec<Membership>, Failure> {
    let mut found = Vec::new();
    for table in &spec.tables {
        for row in client.query(MEMBERSHIPS, &[&table.oid, &converted(table)]).await? {
            let (sent, emptied): (Vec<String>, String) = (row.try_get(2)?, row.try_get(3)?);
            found.push(Membership {
                publication: row.try_get(0)?,
                table: row.try_get(1)?,
                sends: !sent.is_empty(),
                changed: changed(table, &emptied, &sent),
                emptied,
                remove: row.try_get(4)?,
                add: row.try_get(5)?,
            });
        }
    }
    Ok(found)
}

pub(super) async fn obstacles(
    client: &impl GenericClient,
    spec: &Spec,
    memberships: &[Membership],
    found: &mut Vec<Obstacle>,
) -> Result<(), Failure> {
    for own in memberships.iter().filter(|own| own.sends && !spec.unpublish) {
        found.push(Obstacle {
            what: format!(
                "publication {} sends table {} to subscribers, whose columns do not change with it",
                own.publication, own.table
            ),
            remedy: "Have the swap take the table out of it, by --unpublish; or leave the column out of its list (PostgreSQL 15 on)."
                .to_owned(),
        });
    }
    let has_schemas = "SELECT pg_catalog.to_regclass('pg_catalog.pg_publication_namespace') IS NOT NULL";
    if client.query_one(has_schemas, &[]).await?.try_get(0)? {
        let tables: Vec<u32> = spec.tables.iter().map(|table| table.oid).collect();
        for row in client.query(BY_SCHEMA, &[&tables]).await? {
            let (name, schemas, statements): (String, String, String) =
                (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
            found.push(Obstacle {
                what: format!(
                    "publication {name} sends all of schema {schemas} to subscribers, whose columns do not change with it"
                ),
                remedy: format!("Name the tables in it instead, which no subscriber notices: {statements}"),
            });
        }
    }
    for row in client.query(OF_ALL, &[]).await? {
        let (name, create): (String, String) = (row.try_get(0)?, row.try_get(1)?);
        let (subscribe, drop): (String, String) = (row.try_get(2)?, row.try_get(3)?);
        found.push(Obstacle {
            what: format!(
                "publication {name} sends all tables, and so what stands beside them while they are converted"
            ),
            remedy: format!(
                "Have one that names its tables take its place: {create}; At each subscriber, when the transactions of now are over and \
                 its slot's confirmed_flush_lsn has passed what pg_current_wal_lsn() is then: {subscribe}; Then here: {drop};"
            ),
        });
    }
    Ok(())
}

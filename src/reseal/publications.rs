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

/// Publications that send a table, or a partition, for its schema's sake.
const BY_SCHEMA: &str = "\
    SELECT DISTINCT v.pubname::text FROM pg_catalog.pg_publication_tables v \
    JOIN pg_catalog.pg_publication p ON p.pubname = v.pubname AND NOT p.puballtables \
    JOIN pg_catalog.pg_namespace n ON n.nspname = v.schemaname \
    JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = v.tablename \
    WHERE (c.oid = $1 OR c.oid IN (SELECT t.relid FROM pg_catalog.pg_partition_tree($1::oid::regclass) t)) \
      AND NOT EXISTS (SELECT FROM pg_catalog.pg_publication_rel r WHERE r.prpubid = p.oid AND (r.prrelid = c.oid \
        OR r.prrelid IN (SELECT a.relid FROM pg_catalog.pg_partition_ancestors(c.oid::regclass) a(relid))))";

/// Publications that send what stands beside the tables.
const BESIDE: &str = "\
    SELECT p.pubname::text FROM pg_catalog.pg_publication p WHERE p.puballtables OR EXISTS ( \
      SELECT FROM pg_catalog.pg_publication_tables v WHERE v.pubname = p.pubname AND v.schemaname = 'pgveil') \
    AND NOT EXISTS (SELECT FROM pg_catalog.pg_publication_rel r WHERE r.prpubid = p.oid)";

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
    let sends = |publication: &str, table: &str| {
        format!(
            "publication {publication} sends table {table} to subscribers, whose columns do not change with it"
        )
    };
    for own in memberships.iter().filter(|own| own.sends && !spec.unpublish) {
        found.push(Obstacle {
            what: sends(&own.publication, &own.table),
            remedy: "Have the swap take the table out of it, by --unpublish; or leave the column out of its list (PostgreSQL 15 on)."
                .to_owned(),
        });
    }
    for table in &spec.tables {
        for row in client.query(BY_SCHEMA, &[&table.oid]).await? {
            let name: String = row.try_get(0)?;
            found.push(Obstacle {
                what: sends(&name, &table.text()),
                remedy:
                    "It sends all of a schema: name its tables in it instead, so that this one can leave it."
                        .to_owned(),
            });
        }
    }
    for row in client.query(BESIDE, &[]).await? {
        let name: String = row.try_get(0)?;
        found.push(Obstacle {
            what: format!(
                "publication {name} sends all tables, and so what stands beside them while they are converted"
            ),
            remedy: "Name the tables or their schemas in it instead: CREATE PUBLICATION … FOR TABLE …."
                .to_owned(),
        });
    }
    Ok(())
}

//! What keeps a table from being copied online, with what to do about it.
//!
//! Guarantees: whatever else refers to the table, and is not known to be made again, is named. Deliberately absent: what
//! stands in the way of the new types (`dependents`).

use super::super::Failure;
use super::super::dependents::{Dependents, Obstacle};
use super::super::spec::{Spec, Table};
use tokio_postgres::GenericClient;

/// (what it is, query of names with the table or partition as `$1` and all of them as `$2`, remedy).
const KINDS: [(&str, &str, &str); 4] = [
    (
        "the foreign key of a partitioned table",
        "SELECT pg_catalog.format('%s of %s', c.conname, c.conrelid::regclass) FROM pg_catalog.pg_constraint c \
         JOIN pg_catalog.pg_class r ON r.oid = c.conrelid \
         WHERE c.contype = 'f' AND c.conparentid = 0 AND r.relkind = 'p' AND $1 IN (c.conrelid, c.confrelid) AND $2::oid[] IS NOT NULL",
        "It would be read whole under the lock: drop it until then",
    ),
    (
        "the half detached partition",
        "SELECT i.inhrelid::regclass::text FROM pg_catalog.pg_inherits i \
         WHERE i.inhparent = $1 AND i.inhdetachpending AND $2::oid[] IS NOT NULL",
        "Finish that: ALTER TABLE … DETACH PARTITION … FINALIZE",
    ),
    (
        "the constraint trigger of another table",
        "SELECT pg_catalog.format('%s of %s', g.tgname, g.tgrelid::regclass) FROM pg_catalog.pg_trigger g \
         WHERE g.tgconstrrelid = $1 AND g.tgrelid <> ALL ($2) AND NOT g.tgisinternal",
        "Drop it until then",
    ),
    (
        "",
        "SELECT pg_catalog.pg_describe_object(d.classid, d.objid, d.objsubid) FROM pg_catalog.pg_depend d \
         WHERE d.deptype = 'n' AND ((d.refclassid = 'pg_catalog.pg_class'::regclass AND d.refobjid IN ( \
             SELECT $1 UNION SELECT s.objid FROM pg_catalog.pg_depend s WHERE s.classid = 'pg_catalog.pg_class'::regclass \
               AND s.refclassid = 'pg_catalog.pg_class'::regclass AND s.refobjid = $1 AND s.deptype = 'i')) \
           OR (d.refclassid = 'pg_catalog.pg_type'::regclass AND d.refobjid IN ( \
             SELECT t.oid FROM pg_catalog.pg_type t WHERE t.typrelid = $1 \
             UNION SELECT t.typarray FROM pg_catalog.pg_type t WHERE t.typrelid = $1))) \
         AND NOT CASE d.classid \
           WHEN 'pg_catalog.pg_class'::regclass THEN d.objid = ANY ($2) \
             OR EXISTS (SELECT FROM pg_catalog.pg_index i WHERE i.indexrelid = d.objid AND i.indrelid = ANY ($2)) \
           WHEN 'pg_catalog.pg_rewrite'::regclass THEN EXISTS (SELECT FROM pg_catalog.pg_rewrite w \
             JOIN pg_catalog.pg_class v ON v.oid = w.ev_class WHERE w.oid = d.objid AND (v.relkind IN ('v', 'm') OR v.oid = ANY ($2))) \
           WHEN 'pg_catalog.pg_constraint'::regclass THEN EXISTS (SELECT FROM pg_catalog.pg_constraint k \
             WHERE k.oid = d.objid AND (k.contype = 'f' OR k.conrelid = ANY ($2))) \
           WHEN 'pg_catalog.pg_trigger'::regclass THEN EXISTS (SELECT FROM pg_catalog.pg_trigger g \
             WHERE g.oid = d.objid AND (g.tgrelid = ANY ($2) OR g.tgisinternal)) \
           WHEN 'pg_catalog.pg_policy'::regclass THEN EXISTS (SELECT FROM pg_catalog.pg_policy p \
             WHERE p.oid = d.objid AND p.polrelid = ANY ($2)) \
           WHEN 'pg_catalog.pg_attrdef'::regclass THEN EXISTS (SELECT FROM pg_catalog.pg_attrdef f \
             WHERE f.oid = d.objid AND f.adrelid = ANY ($2)) \
           WHEN 'pg_catalog.pg_publication_rel'::regclass THEN EXISTS (SELECT FROM pg_catalog.pg_publication_rel r \
             WHERE r.oid = d.objid AND r.prrelid = ANY ($2)) \
           WHEN 'pg_catalog.pg_statistic_ext'::regclass THEN EXISTS (SELECT FROM pg_catalog.pg_statistic_ext e \
             WHERE e.oid = d.objid AND e.stxrelid = ANY ($2)) \
           ELSE false END",
        "Drop it, and make it again afterwards",
    ),
];

/// Looks for what keeps the tables from being copied.
pub(in super::super) async fn obstacles(
    client: &impl GenericClient,
    spec: &Spec,
    found: &Dependents,
) -> Result<Vec<Obstacle>, Failure> {
    let mut all = Vec::new();
    let every: Vec<u32> = spec.tables.iter().map(|table| table.oid).collect();
    for table in spec.tables.iter().filter(|table| table.copy.is_some()) {
        for (kind, query, remedy) in KINDS {
            for row in client.query(query, &[&table.oid, &every]).await? {
                let name: String = row.try_get(0)?;
                let what = format!("{kind} {name} refers to it");
                all.push(obstacle(table, what.trim_start(), remedy));
            }
        }
    }
    for view in found.views.iter().filter(|view| view.drop.starts_with("DROP MATERIALIZED")) {
        if let Some(table) = spec.tables.first().filter(|table| table.copy.is_some()) {
            let what = format!("materialized view {}.{} is made of it", view.schema, view.name);
            all.push(obstacle(table, &what, "Drop it, and make it again afterwards"));
        }
    }
    Ok(all)
}

fn obstacle(table: &Table, what: &str, remedy: &str) -> Obstacle {
    Obstacle {
        what: format!("table {} cannot be copied online: {what}", table.text()),
        remedy: format!("{remedy}; or allow a longer lock with --max-lock, at a quiet hour."),
    }
}

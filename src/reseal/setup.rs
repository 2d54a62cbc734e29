//! What stands beside a table during a conversion: shadow, noted keys, functions, triggers; made and taken away.
//!
//! Guarantees: the triggers note every row that is inserted, or whose key or converted column gets another image, also
//! while replicas apply changes (ENABLE ALWAYS); clients may add to the notes and read nothing. Deliberately absent: rows.

use super::spec::{Names, TRIGGERS, Table, cell_column, key_column};
use super::{Failure, copy};
use crate::server::prepare::quoted;
use std::fmt::Write as _;
use tokio_postgres::GenericClient;

/// Everything for one table, as one batch of SQL.
pub(super) fn create(table: &Table, names: &Names) -> String {
    let (shadow, written, note) = (&names.shadow, &names.written, &names.note);
    let keys = table.key.iter().enumerate();
    let selected: Vec<String> = keys
        .map(|(at, key)| format!("{}::{} AS {}", quoted(&key.name), key.type_name, key_column(at)))
        .collect();
    let selected = selected.join(", ");
    let listed: Vec<String> = (0..table.key.len()).map(key_column).collect();
    let cells: Vec<String> = table
        .columns
        .iter()
        .enumerate()
        .map(|(at, column)| format!(", ADD COLUMN {} {}", cell_column(at), column.to.shadow_type()))
        .collect();
    let new: Vec<String> = table.key.iter().map(|key| format!("NEW.{}", quoted(&key.name))).collect();
    let mut sql = format!(
        "CREATE TABLE {shadow} AS SELECT {selected} FROM {on} WITH NO DATA; \
         ALTER TABLE {shadow} ADD PRIMARY KEY ({listed}){cells}; \
         CREATE TABLE {written} AS SELECT {selected} FROM {on} WITH NO DATA; \
         ALTER TABLE {written} SET (autovacuum_vacuum_scale_factor = 0.5); \
         GRANT INSERT ON {written} TO PUBLIC; \
         CREATE FUNCTION {note}() RETURNS trigger LANGUAGE plpgsql AS $note$ BEGIN \
           INSERT INTO {written} VALUES ({new}); RETURN NULL; END $note$; ",
        on = table.sql(),
        listed = listed.join(", "),
        cells = cells.concat(),
        new = new.join(", "),
    );
    for (at, column) in table.columns.iter().enumerate() {
        take(table, names, at, column.to.shadow_type(), &mut sql);
    }
    triggers(table, names, &mut sql);
    sql
}

/// A row without its cell is an error, never a NULL.
fn take(table: &Table, names: &Names, at: usize, cell_type: &str, sql: &mut String) {
    let arguments: Vec<&str> = table.key.iter().map(|key| key.type_name.as_str()).collect();
    let own: Vec<String> = (0..table.key.len())
        .map(|at| format!("s.{} OPERATOR(pg_catalog.=) ${}", key_column(at), at + 1))
        .collect();
    let _ = write!(
        sql,
        "CREATE FUNCTION {take}({arguments}) RETURNS {cell_type} LANGUAGE plpgsql STABLE AS $take$ \
         DECLARE found_cell {cell_type}; BEGIN \
           SELECT s.{cell} INTO found_cell FROM {shadow} s WHERE {own}; \
           IF found_cell IS NULL THEN RAISE EXCEPTION USING ERRCODE = 'P0004', MESSAGE = 'a row has no converted cell'; END IF; \
           RETURN found_cell; END $take$; \
         REVOKE ALL ON FUNCTION {take}({arguments}) FROM PUBLIC; ",
        take = names.take(at),
        arguments = arguments.join(", "),
        cell = cell_column(at),
        shadow = names.shadow,
        own = own.join(" AND "),
    );
}

fn triggers(table: &Table, names: &Names, sql: &mut String) {
    let watched =
        table.key.iter().map(|key| &key.name).chain(table.columns.iter().map(|column| &column.name));
    let watched: Vec<String> = watched.map(|name| quoted(name)).collect();
    let row = |version: &str| {
        let columns: Vec<String> = watched.iter().map(|name| format!("{version}.{name}")).collect();
        format!("ROW({})::pg_catalog.record", columns.join(", "))
    };
    let (on, note) = (table.sql(), &names.note);
    let [insert, update] = TRIGGERS;
    // Images, not values: 1.0 and 1.00 are equal, and not the same. Without the casts the rows' columns would be compared.
    let _ = write!(
        sql,
        "CREATE TRIGGER {insert} AFTER INSERT ON {on} FOR EACH ROW EXECUTE FUNCTION {note}(); \
         CREATE TRIGGER {update} AFTER UPDATE ON {on} FOR EACH ROW \
           WHEN ({} OPERATOR(pg_catalog.*<>) {}) EXECUTE FUNCTION {note}(); ",
        row("OLD"),
        row("NEW"),
    );
}

/// Lets the triggers fire in every session: a partitioned table's on each partition.
pub(super) async fn enable(client: &impl GenericClient, table: &Table) -> Result<(), Failure> {
    let parts = "SELECT pg_catalog.format('%I.%I', n.nspname, c.relname) \
                 FROM pg_catalog.pg_partition_tree($1::oid::regclass) t \
                 JOIN pg_catalog.pg_class c ON c.oid = t.relid \
                 JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p')";
    let mut relations: Vec<String> = vec![table.sql()];
    if table.partitioned {
        relations.clear();
        for row in client.query(parts, &[&table.oid]).await? {
            relations.push(row.try_get(0)?);
        }
    }
    for relation in relations {
        for trigger in table.triggers() {
            client.batch_execute(&format!("ALTER TABLE {relation} ENABLE ALWAYS TRIGGER {trigger}")).await?;
        }
    }
    Ok(())
}

/// Whether every table and partition has its triggers, firing always.
pub(super) async fn is_watched(client: &impl GenericClient, table: &Table) -> Result<bool, Failure> {
    let query = "\
        WITH part AS (SELECT $1::oid AS oid UNION SELECT t.relid::oid FROM pg_catalog.pg_partition_tree($1::oid::regclass) t) \
        SELECT pg_catalog.count(*) = 0 FROM part p JOIN pg_catalog.pg_class c ON c.oid = p.oid \
        CROSS JOIN pg_catalog.unnest($2::text[]) AS wanted(name) \
        WHERE c.relkind = 'r' AND NOT EXISTS (SELECT FROM pg_catalog.pg_trigger g \
          WHERE g.tgrelid = p.oid AND g.tgname::text = wanted.name AND g.tgenabled = 'A')";
    let wanted = table.triggers().as_slice();
    Ok(client.query_one(query, &[&table.oid, &wanted]).await?.try_get(0)?)
}

/// Takes away the triggers, and with them the lock that they hold their table to.
pub(super) fn unwatch(table: &Table) -> String {
    let drop = |trigger: &&str| format!("DROP TRIGGER IF EXISTS {trigger} ON {}; ", table.sql());
    table.triggers().iter().map(drop).collect()
}

/// Takes away the rest.
pub(super) fn remove(table: &Table, names: &Names) -> String {
    if table.copy.is_some() {
        return copy::remove(names);
    }
    let arguments: Vec<&str> = table.key.iter().map(|key| key.type_name.as_str()).collect();
    let mut sql = format!("DROP FUNCTION IF EXISTS {}(); ", names.note);
    for at in 0..table.columns.len() {
        let _ = write!(sql, "DROP FUNCTION IF EXISTS {}({}); ", names.take(at), arguments.join(", "));
    }
    let _ = write!(sql, "DROP TABLE IF EXISTS {}, {}; ", names.shadow, names.written);
    sql
}

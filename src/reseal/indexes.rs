//! A table's indexes: which ones PostgreSQL makes again by itself, which ones another way, which ones serve nothing
//! any more.
//!
//! Guarantees: an index that enforces something is never lost, but stands in the way; one that goes is named before, and
//! the statement that makes it again is kept. Deliberately absent: trying them (`rehearse`).

use super::Failure;
use super::dependents::{Obstacle, is_randomized};
use super::spec::{Spec, Table};
use crate::server::prepare::quoted;
use tokio_postgres::{GenericClient, Row};

/// What becomes of an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// PostgreSQL makes it again with the column.
    Kept,
    /// Dropped and made again, with the new type's own operators.
    Remade,
    /// Dropped: it serves nothing over sealed cells.
    Lost,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Index {
    pub oid: u32,
    pub table: u32,
    /// The partitioned index that it is a part of.
    pub parent: Option<u32>,
    /// The table that its own is a partition of, or its own.
    pub whole: u32,
    /// `schema.name` in SQL.
    pub sql: String,
    pub name: String,
    /// Holds rows to something: unique, a key, an exclusion.
    pub enforces: bool,
    /// Over one of the columns. The others are built anew with the table, as they are.
    pub touched: bool,
    pub fate: Fate,
    /// As it is now.
    pub definition: String,
    /// As it is to be: what stands before and after the table's name.
    pub create: (String, String),
}

impl Index {
    pub fn create_on(&self, table: &str) -> String {
        format!("{}{table}{}", self.create.0, self.create.1)
    }
    /// The same under another name, which needs no quotes.
    pub fn create_as(&self, name: &str, table: &str) -> String {
        let unique = if self.create.0.starts_with("CREATE UNIQUE ") { "UNIQUE " } else { "" };
        format!("CREATE {unique}INDEX {name} ON {table}{}", self.create.1)
    }
    pub fn drop(&self) -> String {
        format!("DROP INDEX {}", self.sql)
    }
}

const INDEXES: &str = "\
    SELECT i.indexrelid, pg_catalog.format('%I.%I', n.nspname, x.relname), x.relname::text, i.indisunique, \
           m.amname::text, pg_catalog.pg_get_indexdef(i.indexrelid), i.indisexclusion, \
           EXISTS (SELECT FROM pg_catalog.pg_constraint c WHERE c.conindid = i.indexrelid AND c.contype IN ('p', 'u', 'x')), \
           i.indnkeyatts, coalesce(pg_catalog.to_jsonb(i) ->> 'indnullsnotdistinct', 'false') = 'true', \
           pg_catalog.array_to_string(x.reloptions, ', '), s.spcname::text, pg_catalog.pg_get_expr(i.indpred, i.indrelid), \
           i.indkey::int2[], (i.indkey::int2[] && $2::int2[] OR EXISTS ( \
             SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_class'::regclass \
               AND d.objid = i.indexrelid AND d.refobjid = i.indrelid AND d.refobjsubid = ANY ($2::int2[]))), \
           (SELECT h.inhparent FROM pg_catalog.pg_inherits h WHERE h.inhrelid = i.indexrelid) \
    FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid \
    JOIN pg_catalog.pg_namespace n ON n.oid = x.relnamespace JOIN pg_catalog.pg_am m ON m.oid = x.relam \
    LEFT JOIN pg_catalog.pg_tablespace s ON s.oid = x.reltablespace \
    WHERE i.indrelid = $1 ORDER BY i.indexrelid";

/// An index's columns: number, text, collation and operator class where they are not the defaults, and order.
const COLUMNS: &str = "\
    SELECT k.number, pg_catalog.pg_get_indexdef(i.indexrelid, k.place::int4, false), \
           CASE WHEN i.indcollation[k.place - 1] <> coalesce(a.attcollation, i.indcollation[k.place - 1]) \
             THEN (SELECT pg_catalog.format('%I.%I', n.nspname, c.collname) FROM pg_catalog.pg_collation c \
               JOIN pg_catalog.pg_namespace n ON n.oid = c.collnamespace WHERE c.oid = i.indcollation[k.place - 1]) END, \
           CASE WHEN NOT o.opcdefault THEN pg_catalog.format('%I.%I', p.nspname, o.opcname) END, \
           i.indoption[k.place - 1] \
    FROM pg_catalog.pg_index i \
    CROSS JOIN LATERAL pg_catalog.unnest(i.indkey::int2[]) WITH ORDINALITY AS k(number, place) \
    LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number AND k.number <> 0 \
    LEFT JOIN pg_catalog.pg_opclass o ON k.place <= i.indnkeyatts AND o.oid = i.indclass[k.place - 1] \
    LEFT JOIN pg_catalog.pg_namespace p ON p.oid = o.opcnamespace \
    WHERE i.indexrelid = $1 ORDER BY k.place";

pub(super) async fn indexes(
    client: &impl GenericClient,
    spec: &Spec,
    obstacles: &mut Vec<Obstacle>,
) -> Result<Vec<Index>, Failure> {
    let mut found = Vec::new();
    for table in &spec.tables {
        let numbers: Vec<i16> = table.columns.iter().map(|column| column.number).collect();
        for row in client.query(INDEXES, &[&table.oid, &numbers]).await? {
            let oid: u32 = row.try_get(0)?;
            let columns = client.query(COLUMNS, &[&oid]).await?;
            found.push(index(table, &row, &columns, obstacles)?);
        }
    }
    Ok(found)
}

fn index(table: &Table, row: &Row, columns: &[Row], obstacles: &mut Vec<Obstacle>) -> Result<Index, Failure> {
    let (unique, method): (bool, String) = (row.try_get(3)?, row.try_get(4)?);
    let (excludes, constrains): (bool, bool) = (row.try_get(6)?, row.try_get(7)?);
    let name: String = row.try_get(2)?;
    let keys = usize::try_from(row.try_get::<_, i16>(8)?).unwrap_or(0);
    if columns.len() < keys {
        return Err(Failure::gone(format!("index {name} is gone")));
    }
    let numbers: Vec<i16> = row.try_get(13)?;
    // The converted columns that it compares.
    let compared: Vec<_> = table
        .columns
        .iter()
        .filter(|column| numbers.iter().take(keys).any(|number| *number == column.number))
        .collect();
    let sealed = table.columns.iter().any(|column| column.to.is_sealed());
    let randomized = compared.iter().any(|column| is_randomized(&column.to));
    let mut fate = Fate::Kept;
    if sealed {
        for column in columns.iter().take(keys) {
            let (number, collation, class): (i16, Option<String>, Option<String>) =
                (column.try_get(0)?, column.try_get(2)?, column.try_get(3)?);
            let own = table.columns.iter().any(|column| column.number == number);
            if own && (collation.is_some() || class.is_some()) {
                fate = Fate::Remade;
            }
        }
        if randomized || (!compared.is_empty() && !matches!(method.as_str(), "btree" | "hash")) {
            fate = Fate::Lost;
        }
    }
    let enforces = unique || excludes || constrains;
    let parent: Option<u32> = row.try_get(15)?;
    if enforces && parent.is_none() && (fate == Fate::Lost || (excludes && sealed && !compared.is_empty())) {
        let why = if randomized {
            "cells that are sealed at random do not compare"
        } else {
            "sealed cells compare for equality only"
        };
        obstacles.push(Obstacle {
            what: format!("index {name} of {} enforces something, and {why}", table.text()),
            remedy: "Drop it or its constraint, or give the domain seal = \"deterministic\".".to_owned(),
        });
    }
    Ok(Index {
        oid: row.try_get(0)?,
        table: table.oid,
        parent,
        whole: table.oid,
        sql: row.try_get(1)?,
        create: create(table, row, columns, &name, keys)?,
        name,
        enforces,
        touched: row.try_get(14)?,
        fate,
        definition: row.try_get(5)?,
    })
}

/// Parts of an index that goes go with it.
pub(super) fn with_their_wholes(indexes: &mut [Index]) {
    loop {
        let fate = |oid: u32| indexes.iter().find(|index| index.oid == oid).map(|index| index.fate);
        let changed: Vec<(usize, Fate)> = (indexes.iter().enumerate())
            .filter_map(|(at, index)| {
                Some((at, fate(index.parent?)?)).filter(|(_, whole)| *whole != index.fate)
            })
            .collect();
        if changed.is_empty() {
            return;
        }
        for (at, fate) in changed {
            indexes[at].fate = fate;
        }
    }
}

/// `CREATE INDEX name ON ` and ` USING …`: over the converted columns with the new type's own operators.
fn create(
    table: &Table,
    row: &Row,
    columns: &[Row],
    name: &str,
    keys: usize,
) -> Result<(String, String), Failure> {
    let (unique, method): (bool, String) = (row.try_get(3)?, row.try_get(4)?);
    let (nulls, options): (bool, Option<String>) = (row.try_get(9)?, row.try_get(10)?);
    let (space, predicate): (Option<String>, Option<String>) = (row.try_get(11)?, row.try_get(12)?);
    let mut parts = Vec::new();
    for (at, column) in columns.iter().enumerate() {
        let (number, mut text): (i16, String) = (column.try_get(0)?, column.try_get(1)?);
        let (collation, class): (Option<String>, Option<String>) = (column.try_get(2)?, column.try_get(3)?);
        let order: Option<i16> = column.try_get(4)?;
        if number == 0 {
            text = format!("({text})");
        }
        if !table.columns.iter().any(|column| column.number == number) {
            text.extend(collation.map(|collation| format!(" COLLATE {collation}")));
            text.extend(class.map(|class| format!(" {class}")));
        }
        // INDOPTION_DESC and INDOPTION_NULLS_FIRST (pg_index.h).
        if at < keys && method == "btree" {
            text.push_str(match order.unwrap_or(0) & 3 {
                0 => "",
                1 => " DESC NULLS LAST",
                2 => " NULLS FIRST",
                _ => " DESC",
            });
        }
        parts.push(text);
    }
    let included = parts.split_off(keys.min(parts.len()));
    let mut after = format!(" USING {method} ({})", parts.join(", "));
    if !included.is_empty() {
        after.push_str(&format!(" INCLUDE ({})", included.join(", ")));
    }
    if nulls {
        after.push_str(" NULLS NOT DISTINCT");
    }
    after.extend(options.map(|options| format!(" WITH ({options})")));
    after.extend(space.map(|space| format!(" TABLESPACE {}", quoted(&space))));
    after.extend(predicate.map(|predicate| format!(" WHERE {predicate}")));
    let unique = if unique { "UNIQUE " } else { "" };
    Ok((format!("CREATE {unique}INDEX {} ON ", quoted(name)), after))
}

//! Which versions of which keys the cells of a database carry: counted by what their envelopes say.
//!
//! Guarantees: every cell of every column of a sealed type is counted, also in partitions. Deliberately absent: opening them (but one, to know whose key it is).

use super::Failure;
use super::fill::Raw;
use super::survey::{headers, opening_key};
use crate::config::Config;
use crate::crypto::Cells;
use crate::crypto::keyring::Keyring;
use crate::server::prepare::quoted;
use tokio_postgres::Client;

/// Cells of one column under one version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InUse {
    /// `schema.table.column`.
    pub column: String,
    /// The data key under which a cell of them opens.
    pub key: String,
    pub version: u16,
    pub cells: u64,
}

/// Columns of sealed types, with the type's OID.
const COLUMNS: &str = "\
    SELECT n.nspname::text, c.relname::text, a.attname::text, a.atttypid \
    FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid \
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
    WHERE a.atttypid = ANY ($1) AND a.attnum > 0 AND NOT a.attisdropped AND c.relkind IN ('r', 'm') ORDER BY 1, 2, 3";

/// Counts them.
///
/// # Errors
/// The user of the connection may not read a table, or a conversion is under way, whose cells are nobody's yet.
pub async fn in_use(client: &Client, config: &Config, keyring: &Keyring) -> Result<Vec<InUse>, Failure> {
    if let Some(conversion) = super::state::under_way(client).await? {
        return Err(Failure::new(format!(
            "conversion {} is under way, and its cells are not counted",
            conversion.id
        ))
        .hint("Finish it with pgveil reseal start, or take it back with pgveil reseal cancel, first."));
    }
    let headers = headers(client).await?;
    let types: Vec<u32> = headers.keys().copied().collect();
    let mut found = Vec::new();
    for row in client.query(COLUMNS, &[&types]).await? {
        let (schema, table, column): (String, String, String) =
            (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        let Some(header) = headers.get(&row.try_get::<_, u32>(3)?) else { continue };
        let name = format!("{schema}.{table}.{column}");
        let domain = keyring.domains().find(|(_, id)| id.0 == header.domain).map(|(domain, _)| domain);
        let domain = domain.ok_or_else(|| {
            Failure::new(format!(
                "column {name} has type {}, which was made under another keyring",
                header.name
            ))
            .hint("Use the keyring under which it was sealed.")
        })?;
        let policy = config.policy.domains.iter().find(|known| known.name == domain);
        let table = format!("{}.{}", quoted(&schema), quoted(&table));
        let version_of = format!(
            "(pg_catalog.get_byte({column}, 3) * 256 + pg_catalog.get_byte({column}, 4))::int4",
            column = quoted(&column)
        );
        // The version is the envelope's fourth and fifth byte (FORMAT.md).
        let count = format!(
            "SELECT {version_of}, pg_catalog.count(*) FROM {table} WHERE {} IS NOT NULL GROUP BY 1 ORDER BY 1",
            quoted(&column)
        );
        for row in client.query(&count, &[]).await? {
            let (version, cells): (i32, i64) = (row.try_get(0)?, row.try_get(1)?);
            let sample = format!(
                "SELECT {column}::pg_catalog.bytea FROM {table} WHERE {column} IS NOT NULL AND {version_of} = $1 LIMIT 1",
                column = quoted(&column)
            );
            let sample = client.query_one(&sample, &[&version]).await?;
            let mut cell = Cells::new();
            cell.push(sample.try_get::<_, Raw<'_>>(0)?.0);
            let first = policy.map(|known| known.key.as_str());
            let key = opening_key(keyring, domain, header, first, &cell).ok_or_else(|| {
                Failure::new(format!("a cell of column {name} opens under no key of the keyring"))
                    .hint("Use the keyring under which it was sealed.")
            })?;
            found.push(InUse {
                column: name.clone(),
                key,
                version: u16::try_from(version).unwrap_or(0),
                cells: u64::try_from(cells).unwrap_or(0),
            });
        }
    }
    Ok(found)
}

//! Before the swap: whether the shadow's cells are the table's values.
//!
//! Guarantees: both are read in one snapshot and compared as canonical bytes; rows whose keys are noted are left out, since
//! their cells are made anew. A copy is compared row by row, all its columns. Deliberately absent: showing a value.

use super::Failure;
use super::fill::{Filler, Raw};
use super::spec::key_column;
use crate::server::prepare::quoted;
use tokio_postgres::{Client, IsolationLevel, Row};

/// What was compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    pub rows: u64,
    pub different: u64,
}

const BATCH_ROWS: i64 = 5_000;

impl Filler<'_> {
    /// Compares rows that have cells: about `sample` of them, or all.
    pub(super) async fn verify(&self, client: &mut Client, sample: Option<u64>) -> Result<Verified, Failure> {
        if self.table.copy.is_some() {
            return self.verify_copy(client, sample).await;
        }
        let snapshot = client
            .build_transaction()
            .isolation_level(IsolationLevel::RepeatableRead)
            .read_only(true)
            .start()
            .await?;
        let keys: Vec<String> = (0..self.table.key.len()).map(key_column).collect();
        let same: Vec<String> = keys.iter().map(|key| format!("w.{key} = s.{key}")).collect();
        let columns: Vec<String> =
            self.table.columns.iter().map(|column| format!("t.{}", quoted(&column.name))).collect();
        let sampling = match sample {
            None => String::new(),
            Some(rows) => format!(" TABLESAMPLE SYSTEM ({})", self.percent(&snapshot, rows).await?),
        };
        let query = format!(
            "DECLARE compared NO SCROLL CURSOR FOR SELECT {}, {} FROM {} s{sampling} JOIN {} t ON {} \
             WHERE NOT EXISTS (SELECT FROM {} w WHERE {})",
            columns.join(", "),
            self.cells("s."),
            self.names.shadow,
            self.table.sql(),
            self.joined("s", "t"),
            self.names.written,
            same.join(" AND "),
        );
        snapshot.batch_execute(&query).await?;
        let mut verified = Verified::default();
        loop {
            let rows = snapshot.query(&format!("FETCH {BATCH_ROWS} FROM compared"), &[]).await?;
            if rows.is_empty() {
                break;
            }
            verified.rows += rows.len() as u64;
            verified.different += self.same_cells(&rows)?.iter().filter(|same| !**same).count() as u64;
        }
        snapshot.rollback().await?;
        Ok(verified)
    }

    async fn percent(&self, snapshot: &tokio_postgres::Transaction<'_>, rows: u64) -> Result<f64, Failure> {
        let query = format!("SELECT pg_catalog.count(*) FROM {}", self.names.shadow);
        let all: i64 = snapshot.query_one(&query, &[]).await?.try_get(0)?;
        Ok((100.0 * rows as f64 / (all.max(1) as f64)).clamp(0.001, 100.0))
    }

    /// For each row, whether its cells are of the same values: the old ones come first, then the new.
    pub(super) fn same_cells(&self, rows: &[Row]) -> Result<Vec<bool>, Failure> {
        let mut same = vec![true; rows.len()];
        let width = self.carriers().len();
        for (at, carrier) in self.carriers().iter().enumerate() {
            let (mut old, mut new) = (Vec::with_capacity(rows.len()), Vec::with_capacity(rows.len()));
            for row in rows {
                old.push(row.try_get::<_, Option<Raw<'_>>>(at)?.map(|raw| raw.0));
                new.push(row.try_get::<_, Option<Raw<'_>>>(width + at)?.map(|raw| raw.0));
            }
            for (known, now) in same.iter_mut().zip(carrier.same(&old, &new)) {
                *known &= now;
            }
        }
        Ok(same)
    }
}

//! The rows of a copy: filled in batches, brought up to date with what was written meanwhile, compared.
//!
//! A row that was written is first taken out of the copy, and its key kept in `redo`; then it is read and put in again. What
//! was written is always taken out whole before anything is put in, as one snapshot shows it. So whenever a transaction
//! ends, the copy is the table of one moment without the rows of `redo`, and no constraint of the table is ever violated in
//! it. Guarantees: each transaction reads one snapshot; what is noted and done moves in it. Deliberately absent: when.

use super::super::Failure;
use super::super::fill::{Filler, Misfits, Raw};
use super::super::spec::{cell_column, key_column};
use super::super::verify::Verified;
use crate::catalog::build::SCHEMA;
use crate::server::prepare::quoted;
use bytes::{BufMut, BytesMut};
use tokio_postgres::{Client, GenericClient, Row, Transaction};

/// Few keys against a large table: by its index, whatever the planner has heard of either.
const BY_INDEX: &str =
    "SET LOCAL enable_seqscan = off; SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off";
const AS_EVER: &str = "RESET enable_seqscan; RESET enable_hashjoin; RESET enable_mergejoin";
const BATCH_ROWS: usize = 5_000;

impl Filler<'_> {
    /// What holds a batch's cells in this session.
    pub(in super::super) async fn open_staging(&self, client: &Client) -> Result<(), Failure> {
        if self.table.copy.is_none() {
            return Ok(());
        }
        let cells: Vec<String> = (self.table.columns.iter().enumerate())
            .map(|(at, column)| format!("NULL::{} AS {}", column.to.shadow_type(), cell_column(at)))
            .collect();
        let create = format!(
            "CREATE TEMP TABLE IF NOT EXISTS {} ON COMMIT DELETE ROWS AS SELECT {}, {} FROM {} WITH NO DATA",
            self.names.staging,
            super::keys_as(self.table),
            cells.join(", "),
            self.table.sql(),
        );
        Ok(client.batch_execute(&create).await?)
    }

    /// Puts the rows whose cells are staged into the copy.
    pub(in super::super) async fn put_staged(&self, transaction: &Transaction<'_>) -> Result<(), Failure> {
        let Some(copy) = &self.table.copy else { return Ok(()) };
        let listed: Vec<String> = copy.columns.iter().map(|name| quoted(name)).collect();
        let taken = copy.columns.iter().map(|name| match self.cell_of(name) {
            Some(at) => format!("s.{}::{}", cell_column(at), self.table.columns[at].to.sql_type()),
            None => format!("t.{}", quoted(name)),
        });
        let insert = format!(
            "{BY_INDEX}; INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE SELECT {} FROM {} s JOIN {} t ON {}; {AS_EVER}",
            self.names.copy_sql(),
            listed.join(", "),
            taken.collect::<Vec<_>>().join(", "),
            self.names.staging,
            self.table.sql(),
            self.joined("s", "t"),
        );
        Ok(transaction.batch_execute(&insert).await?)
    }

    /// Keeps the keys of rows that could not be put into the copy.
    pub(in super::super) async fn keep_misfits(
        &self,
        transaction: &Transaction<'_>,
        rows: &[Row],
        misfits: &[usize],
    ) -> Result<(), Failure> {
        let places: Vec<String> = (1..=self.table.key.len()).map(|at| format!("${at}")).collect();
        let insert =
            format!("INSERT INTO {} VALUES ({}) ON CONFLICT DO NOTHING", self.names.redo, places.join(", "));
        for at in misfits {
            let key = self.key(&rows[*at], 0)?;
            self.execute(transaction, &insert, &key).await?;
        }
        Ok(())
    }

    /// Takes rows that were written out of the copy, `limit` notes of them, or puts such rows in again once all are out; how
    /// many rows of either kind.
    pub(in super::super) async fn redo(
        &self,
        transaction: &Transaction<'_>,
        limit: usize,
    ) -> Result<(usize, Misfits), Failure> {
        let moved = self.take_out(transaction, limit).await?;
        if moved >= limit {
            return Ok((moved, Misfits::default()));
        }
        let keys = self.shadow_keys("");
        let query = format!(
            "WITH k AS (DELETE FROM {redo} r WHERE r.ctid = ANY (ARRAY(SELECT ctid FROM {redo} LIMIT {limit})) RETURNING {keys}) \
             SELECT {} FROM k LEFT JOIN {} t ON {}",
            self.selected("t."),
            self.table.sql(),
            self.joined("k", "t"),
            redo = self.names.redo,
        );
        transaction.batch_execute(BY_INDEX).await?;
        let rows = transaction.query(&query, &[]).await?;
        transaction.batch_execute(&format!("TRUNCATE {}; {AS_EVER}", self.names.staging)).await?;
        let (taken, mut here) = (rows.len(), Vec::with_capacity(rows.len()));
        for row in rows {
            // A row that is gone has no key.
            if row.try_get::<_, Option<Raw<'_>>>(0)?.is_some() {
                here.push(row);
            }
        }
        if here.is_empty() {
            return Ok((moved + taken, Misfits::default()));
        }
        let batch = self.store(transaction, &here, 0).await?;
        self.put_staged(transaction).await?;
        Ok((moved + taken, batch.misfits))
    }

    /// Takes all noted rows out of the copy: what is left in it holds to every constraint of the table.
    pub(super) async fn take_out_all(&self, client: &mut Client) -> Result<(), Failure> {
        loop {
            let transaction = self.transaction(client).await?;
            let moved = self.take_out(&transaction, BATCH_ROWS).await?;
            transaction.commit().await?;
            if moved < BATCH_ROWS {
                return Ok(());
            }
        }
    }

    /// Takes noted rows out of the copy. Fewer than `limit` notes: none is left that the snapshot shows.
    pub(super) async fn take_out(
        &self,
        transaction: &Transaction<'_>,
        limit: usize,
    ) -> Result<usize, Failure> {
        let (written, keys) = (&self.names.written, self.shadow_keys(""));
        let part = if self.table.partitioned { "w.emptied" } else { "NULL::oid" };
        let query = format!(
            "WITH taken AS (DELETE FROM {written} w WHERE w.ctid = ANY (ARRAY(SELECT ctid FROM {written} LIMIT {limit})) \
               RETURNING {keys}, {part} AS emptied) \
             SELECT {keys}, pg_catalog.count(*), emptied FROM taken GROUP BY {keys}, emptied"
        );
        let (mut moved, mut noted, mut emptied) = (0_i64, Vec::new(), Vec::new());
        for row in transaction.query(&query, &[]).await? {
            moved += row.try_get::<_, i64>(self.table.key.len())?;
            // It was truncated; whatever is in it by now was noted, too.
            if row.try_get::<_, Option<Raw<'_>>>(0)?.is_some() {
                noted.push(row);
            } else {
                let part: Option<u32> = row.try_get(self.table.key.len() + 1)?;
                emptied.push(self.names.copy_of(self.table.oid, part.unwrap_or(self.table.oid)));
            }
        }
        if moved == 0 {
            return Ok(0);
        }
        let (copy, staging, redo) = (self.names.copy_sql(), &self.names.staging, &self.names.redo);
        for part in emptied {
            // That of what is no partition any more went with it.
            let there = "SELECT pg_catalog.to_regclass($1) IS NOT NULL";
            let part = format!("{SCHEMA}.{part}");
            if transaction.query_one(there, &[&part]).await?.try_get::<_, bool>(0)? {
                transaction.batch_execute(&format!("TRUNCATE {part}")).await?;
            }
        }
        transaction.batch_execute(&format!("TRUNCATE {staging}")).await?;
        self.stage_keys(transaction, &noted).await?;
        let out = format!(
            "{BY_INDEX}; INSERT INTO {redo} SELECT {keys} FROM {staging} ON CONFLICT DO NOTHING; \
             DELETE FROM {copy} c USING {staging} s WHERE {}; {AS_EVER}",
            self.matched()
        );
        transaction.batch_execute(&out).await?;
        Ok(usize::try_from(moved).unwrap_or(0))
    }

    /// Stages keys with what they are in the copy. One that does not fit is in no copy.
    async fn stage_keys(&self, transaction: &Transaction<'_>, noted: &[Row]) -> Result<(), Failure> {
        let mut carried = Vec::new();
        for (at, key) in self.table.key.iter().enumerate() {
            let Some(cell) = self.cell_of(&key.name) else { continue };
            let mut wires = Vec::with_capacity(noted.len());
            for row in noted {
                wires.push(Some(row.try_get::<_, Raw<'_>>(at)?.0));
            }
            carried.push((cell, self.carried(cell, &wires)));
        }
        let (mut sent, fields) = (BytesMut::new(), self.table.key.len() + self.table.columns.len());
        sent.put_slice(super::super::fill::COPY_HEAD);
        for (at, row) in noted.iter().enumerate() {
            let cell_at =
                |cell| carried.iter().find(|(own, _)| *own == cell).and_then(|(_, part)| part.get(at));
            let cells = (0..self.table.columns.len()).map(cell_at);
            let key = self.key(row, 0)?;
            super::super::fill::put_fields(&mut sent, fields, key.into_iter().map(Some).chain(cells))?;
        }
        sent.put_i16(-1);
        self.send(transaction, &self.names.staging, sent).await
    }

    /// Compares rows of the table that are to be in the copy: about `sample` of them, or all; and how many there are.
    pub(in super::super) async fn verify_copy(
        &self,
        client: &mut Client,
        sample: Option<u64>,
    ) -> Result<Verified, Failure> {
        let transaction = self.transaction(client).await?;
        while self.take_out(&transaction, BATCH_ROWS).await? == BATCH_ROWS {}
        let (table, copy) = (self.table.sql(), self.names.copy_sql());
        let settled =
            format!("NOT EXISTS (SELECT FROM {} s WHERE {})", self.names.redo, self.joined("s", "t"));
        let counts = format!(
            "SELECT (SELECT pg_catalog.count(*) FROM {table} t WHERE {settled}), (SELECT pg_catalog.count(*) FROM {copy})"
        );
        let counts = transaction.query_one(&counts, &[]).await?;
        let (there, copied): (i64, i64) = (counts.try_get(0)?, counts.try_get(1)?);
        let sampling = match sample {
            None => String::new(),
            Some(rows) => {
                format!(
                    " TABLESAMPLE SYSTEM ({})",
                    (100.0 * rows as f64 / there.max(1) as f64).clamp(0.001, 100.0)
                )
            }
        };
        let declare = format!(
            "DECLARE compared NO SCROLL CURSOR FOR SELECT {} FROM {table} t{sampling} WHERE {settled}",
            self.selected("t.")
        );
        transaction.batch_execute(&declare).await?;
        let mut verified = Verified { rows: 0, different: there.abs_diff(copied) };
        loop {
            let rows = transaction.query(&format!("FETCH {BATCH_ROWS} FROM compared"), &[]).await?;
            if rows.is_empty() {
                break;
            }
            transaction.batch_execute(&format!("TRUNCATE {}", self.names.staging)).await?;
            let batch = self.store(&transaction, &rows, 0).await?;
            verified.rows += rows.len() as u64;
            verified.different += batch.misfits.count + self.staged_unlike(&transaction).await?;
        }
        transaction.commit().await?;
        Ok(verified)
    }

    /// Rows that are staged and not in the copy as they are in the table.
    async fn staged_unlike(&self, transaction: &Transaction<'_>) -> Result<u64, Failure> {
        let of = |before: &str| {
            let columns =
                self.table.columns.iter().map(|column| format!("{before}.{}", quoted(&column.name)));
            columns.collect::<Vec<_>>().join(", ")
        };
        let others = |before: &str| {
            let copied = self.table.copy.iter().flat_map(|copy| &copy.columns);
            let columns = copied
                .filter(|name| self.cell_of(name).is_none())
                .map(|name| format!("{before}.{}", quoted(name)));
            columns.collect::<Vec<_>>().join(", ")
        };
        let query = format!(
            "SELECT {}, {}, ROW({})::pg_catalog.record OPERATOR(pg_catalog.*=) ROW({})::pg_catalog.record AND c.{} IS NOT NULL \
             FROM {} s JOIN {} t ON {} LEFT JOIN {} c ON {}",
            of("t"),
            of("c"),
            others("t"),
            others("c"),
            quoted(&self.table.key[0].name),
            self.names.staging,
            self.table.sql(),
            self.joined("s", "t"),
            self.names.copy_sql(),
            self.matched(),
        );
        transaction.batch_execute(BY_INDEX).await?;
        let rows = transaction.query(&query, &[]).await?;
        transaction.batch_execute(AS_EVER).await?;
        let mut different = 0;
        for (row, same) in rows.iter().zip(self.same_cells(&rows)?) {
            let others: bool = row.try_get(2 * self.table.columns.len())?;
            different += u64::from(!(same && others));
        }
        Ok(different)
    }

    /// What of a conversion's rows is left to do for the copy.
    pub(in super::super) async fn left(&self, client: &impl GenericClient) -> Result<u64, Failure> {
        let query = format!(
            "SELECT (SELECT pg_catalog.count(*) FROM {}) + (SELECT pg_catalog.count(*) FROM {})",
            self.names.written, self.names.redo
        );
        let count: i64 = client.query_one(&query, &[]).await?.try_get(0)?;
        Ok(u64::try_from(count).unwrap_or(0))
    }

    /// The cell that a column's values become, if it is converted.
    fn cell_of(&self, name: &str) -> Option<usize> {
        self.table.columns.iter().position(|column| column.name == name)
    }

    fn shadow_keys(&self, before: &str) -> String {
        let keys = (0..self.table.key.len()).map(|at| format!("{before}{}", key_column(at)));
        keys.collect::<Vec<_>>().join(", ")
    }

    /// The staged row is the copy's, by its key there.
    fn matched(&self) -> String {
        let one = |(at, key): (usize, &super::super::spec::KeyColumn)| {
            let staged = self.cell_of(&key.name).map_or_else(|| key_column(at), cell_column);
            format!("c.{} = s.{staged}", quoted(&key.name))
        };
        self.table.key.iter().enumerate().map(one).collect::<Vec<_>>().join(" AND ")
    }
}

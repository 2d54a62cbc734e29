//! Filling the shadow: rows in batches by key, and again those that were written meanwhile.
//!
//! Guarantees: a batch and the note of how far it went are one transaction; a row's cells are made of what one snapshot
//! shows, and a row that changes after it has its key noted, so that they are made anew; no row of the table is locked.
//! Deliberately absent: when to stop (`run`), the table's own definition (`swap`).

use super::Failure;
use super::carry::{Carried, Carrier};
use super::spec::{Names, Spec, Table, cell_column, key_column};
use super::state;
use crate::crypto::keyring::Keyring;
use crate::server::prepare::quoted;
use bytes::{BufMut, Bytes, BytesMut};
use futures_util::SinkExt;
use std::error::Error;
use std::fmt;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};
use tokio_postgres::{Client, IsolationLevel, Row, Transaction};

/// A value as the database sends it.
pub(super) struct Raw<'a>(pub(super) &'a [u8]);

impl<'a> FromSql<'a> for Raw<'a> {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Raw(raw))
    }
    fn accepts(_: &Type) -> bool {
        true
    }
}

/// A value as the database sent it, back to it. Its `Debug` shows nothing: it may be a tagged column's.
pub(super) struct Sent<'a>(pub(super) &'a [u8]);

impl fmt::Debug for Sent<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a value")
    }
}

impl ToSql for Sent<'_> {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.put_slice(self.0);
        Ok(IsNull::No)
    }
    fn accepts(_: &Type) -> bool {
        true
    }
    to_sql_checked!();
}

/// Rows that cannot be converted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Misfits {
    pub count: u64,
    /// `public.customers.email of row (7): why`, of the first ones.
    pub examples: Vec<String>,
}

const EXAMPLES_MAX: usize = 10;

/// What a binary COPY begins with.
pub(super) const COPY_HEAD: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";

/// A row of a binary COPY.
pub(super) fn put_fields<'v>(
    out: &mut BytesMut,
    count: usize,
    fields: impl Iterator<Item = Option<&'v [u8]>>,
) -> Result<(), Failure> {
    let too_long = |_| Failure::new("a value is longer than PostgreSQL's own limit");
    out.put_i16(i16::try_from(count).unwrap_or(i16::MAX));
    for field in fields {
        match field {
            None => out.put_i32(-1),
            Some(bytes) => {
                out.put_i32(i32::try_from(bytes.len()).map_err(too_long)?);
                out.put_slice(bytes);
            }
        }
    }
    Ok(())
}

/// Fills the shadow of one table.
pub(super) struct Filler<'a> {
    pub(super) conversion: i64,
    pub(super) number: usize,
    pub(super) table: &'a Table,
    pub(super) names: Names,
    carriers: Vec<Carrier>,
}

/// What a batch did.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) rows: usize,
    /// The last key read; `None` when there was no row.
    cursor: Option<Vec<Vec<u8>>>,
    pub(super) misfits: Misfits,
    /// Places of the rows that do not fit.
    misfit_rows: Vec<usize>,
}

/// All tables' fillers.
pub(super) fn fillers<'a>(
    spec: &'a Spec,
    conversion: i64,
    keyring: &Keyring,
) -> Result<Vec<Filler<'a>>, Failure> {
    let one = |(number, table): (usize, &'a Table)| {
        let carriers = table.columns.iter().map(|column| Carrier::new(column, keyring));
        Ok(Filler {
            conversion,
            number,
            table,
            names: Names::new(conversion, number),
            carriers: carriers.collect::<Result<_, Failure>>()?,
        })
    };
    spec.tables.iter().enumerate().map(one).collect()
}

impl Filler<'_> {
    /// One batch of rows after those that were filled already. No row: the end was reached, and is noted.
    pub(super) async fn fill(&self, client: &mut Client, limit: usize) -> Result<Batch, Failure> {
        let transaction = self.transaction(client).await?;
        let before = state::filled(&transaction, self.conversion, self.number).await?;
        if before.filled {
            return Ok(Batch::default());
        }
        let rows = self.rows_after(&transaction, before.cursor.as_deref(), false, limit).await?;
        let batch = self.store(&transaction, &rows, 0).await?;
        if self.table.copy.is_some() && batch.rows > 0 {
            self.put_staged(&transaction).await?;
            self.keep_misfits(&transaction, &rows, &batch.misfit_rows).await?;
        }
        state::advance(&transaction, self.conversion, self.number, batch.cursor.clone(), rows.len()).await?;
        transaction.commit().await?;
        Ok(batch)
    }

    /// The first rows, whatever was filled: for a rehearsal.
    pub(super) async fn sample(&self, transaction: &Transaction<'_>, limit: usize) -> Result<Batch, Failure> {
        let rows = self.rows_after(transaction, None, false, limit).await?;
        self.store(transaction, &rows, 0).await
    }

    /// A transaction for rows: a row of the copy is read twice, so both times in one snapshot.
    pub(super) async fn transaction<'c>(&self, client: &'c mut Client) -> Result<Transaction<'c>, Failure> {
        if self.is_tree() {
            return self.tree_transaction(client).await;
        }
        let level = match self.table.copy {
            Some(_) => IsolationLevel::RepeatableRead,
            None => IsolationLevel::ReadCommitted,
        };
        Ok(client.build_transaction().isolation_level(level).start().await?)
    }

    /// Looks for rows that have no cells and should, and makes them; of a copy, for those that do not fit into it.
    pub(super) async fn fill_gaps(&self, client: &mut Client, limit: usize) -> Result<Misfits, Failure> {
        let mut misfits = Misfits::default();
        let mut cursor: Option<Vec<Vec<u8>>> = None;
        loop {
            let transaction = self.transaction(client).await?;
            let rows = self.rows_after(&transaction, cursor.as_deref(), true, limit).await?;
            let batch = self.store(&transaction, &rows, 0).await?;
            transaction.commit().await?;
            misfits.add(batch.misfits);
            if batch.cursor.is_none() {
                return Ok(misfits);
            }
            cursor = batch.cursor;
        }
    }

    async fn rows_after(
        &self,
        transaction: &Transaction<'_>,
        cursor: Option<&[Vec<u8>]>,
        gaps: bool,
        limit: usize,
    ) -> Result<Vec<Row>, Failure> {
        let keys = self.table.key_list("t.");
        let mut conditions = Vec::new();
        if cursor.is_some() {
            let places: Vec<String> = (1..=self.table.key.len()).map(|at| format!("${at}")).collect();
            conditions.push(format!("({keys}) > ({})", places.join(", ")));
        }
        let mut from = format!("{} t", self.table.sql());
        if gaps && self.table.copy.is_some() {
            from.push_str(&format!(" JOIN {} s ON {}", self.names.redo, self.joined("s", "t")));
        } else if self.is_tree() {
            // What was taken out for new partitions waits there, also ahead of the cursor.
            let redo = &self.names.redo;
            conditions.push(format!("NOT EXISTS (SELECT FROM {redo} s WHERE {})", self.joined("s", "t")));
        } else if gaps {
            from.push_str(&format!(" LEFT JOIN {} s ON {}", self.names.shadow, self.joined("s", "t")));
            conditions.push("s.key_1 IS NULL".to_owned());
            let some: Vec<String> = self
                .table
                .columns
                .iter()
                .map(|column| format!("t.{} IS NOT NULL", quoted(&column.name)))
                .collect();
            conditions.push(format!("({})", some.join(" OR ")));
        }
        let conditions = if conditions.is_empty() {
            String::new()
        } else {
            format!(" WHERE {}", conditions.join(" AND "))
        };
        let query =
            format!("SELECT {} FROM {from}{conditions} ORDER BY {keys} LIMIT {limit}", self.selected("t."));
        let values: Vec<Sent<'_>> = cursor.unwrap_or_default().iter().map(|value| Sent(value)).collect();
        let values: Vec<&(dyn ToSql + Sync)> = values.iter().map(|value| value as _).collect();
        Ok(transaction.query(&query, &values).await?)
    }

    /// Key and columns, in this order.
    pub(super) fn selected(&self, before: &str) -> String {
        let columns = self.table.columns.iter().map(|column| format!(", {before}{}", quoted(&column.name)));
        self.table.key_list(before) + &columns.collect::<String>()
    }

    /// The shadow's key is the table's.
    pub(super) fn joined(&self, shadow: &str, table: &str) -> String {
        let one = |(at, key): (usize, &super::spec::KeyColumn)| {
            format!("{shadow}.{} = {table}.{}", key_column(at), quoted(&key.name))
        };
        self.table.key.iter().enumerate().map(one).collect::<Vec<_>>().join(" AND ")
    }

    /// Makes anew the cells of rows that were written, `limit` notes of them; how many notes there were.
    pub(super) async fn catch_up(
        &self,
        transaction: &Transaction<'_>,
        limit: usize,
    ) -> Result<(usize, Misfits), Failure> {
        if self.table.copy.is_some() {
            return self.redo(transaction, limit).await;
        }
        // Few keys against a large table: by its index, whatever the planner has heard of either.
        transaction
            .batch_execute("SET LOCAL enable_seqscan = off; SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off")
            .await?;
        let keys: Vec<String> = (0..self.table.key.len()).map(key_column).collect();
        let same: Vec<String> = keys.iter().map(|key| format!("s.{key} = k.{key}")).collect();
        let (written, shadow, keys) = (&self.names.written, &self.names.shadow, keys.join(", "));
        let query = format!(
            "WITH taken AS (DELETE FROM {written} w WHERE w.ctid = ANY (ARRAY(SELECT ctid FROM {written} LIMIT {limit})) \
               RETURNING {keys}), \
             k AS (SELECT DISTINCT {keys} FROM taken), \
             gone AS (DELETE FROM {shadow} s USING k WHERE {same}) \
             SELECT (SELECT pg_catalog.count(*) FROM taken), {selected} \
             FROM k LEFT JOIN {table} t ON {joined}",
            same = same.join(" AND "),
            selected = self.selected("t."),
            table = self.table.sql(),
            joined = self.joined("k", "t"),
        );
        let rows = transaction.query(&query, &[]).await?;
        let taken: i64 = rows.first().map_or(Ok(0), |row| row.try_get(0))?;
        let mut here = Vec::with_capacity(rows.len());
        for row in rows {
            // A row that is gone has no key.
            if row.try_get::<_, Option<Raw<'_>>>(1)?.is_some() {
                here.push(row);
            }
        }
        let batch = self.store(transaction, &here, 1).await?;
        transaction
            .batch_execute("RESET enable_seqscan; RESET enable_hashjoin; RESET enable_mergejoin")
            .await?;
        Ok((usize::try_from(taken).unwrap_or(0), batch.misfits))
    }

    /// Notes that wait.
    pub(super) async fn waiting(&self, client: &Client) -> Result<u64, Failure> {
        if self.table.copy.is_some() {
            return self.left(client).await;
        }
        let query = format!("SELECT pg_catalog.count(*) FROM {}", self.names.written);
        let count: i64 = client.query_one(&query, &[]).await?.try_get(0)?;
        Ok(u64::try_from(count).unwrap_or(0))
    }

    /// Carries rows (key and columns, from the column at `first` on) and copies them into the shadow, or where a copy's cells
    /// are staged.
    pub(super) async fn store(
        &self,
        transaction: &Transaction<'_>,
        rows: &[Row],
        first: usize,
    ) -> Result<Batch, Failure> {
        let width = self.table.key.len();
        let mut carried = Vec::with_capacity(self.carriers.len());
        for at in 0..self.carriers.len() {
            let mut wires = Vec::with_capacity(rows.len());
            for row in rows {
                wires.push(row.try_get::<_, Option<Raw<'_>>>(first + width + at)?.map(|raw| raw.0));
            }
            carried.push(self.carried(at, &wires));
        }
        let misfits = self.misfits(transaction, rows, first, &carried).await?;
        let (mut sent, mut copied, mut misfit_rows) = (BytesMut::new(), 0_usize, Vec::new());
        sent.put_slice(COPY_HEAD);
        for (at, row) in rows.iter().enumerate() {
            if carried.iter().any(|column| column.misfit(at)) {
                misfit_rows.push(at);
            } else if self.table.copy.is_some() || carried.iter().any(|column| column.get(at).is_some()) {
                copied += 1;
                let cells = carried.iter().map(|column| column.get(at));
                let key = self.key(row, first)?.into_iter().map(Some);
                put_fields(&mut sent, width + carried.len(), key.chain(cells))?;
            }
        }
        sent.put_i16(-1);
        if copied > 0 {
            let target = if self.table.copy.is_some() { &self.names.staging } else { &self.names.shadow };
            self.send(transaction, target, sent).await?;
        }
        let cursor = match rows.last() {
            None => None,
            Some(row) => Some(self.key(row, first)?.into_iter().map(<[u8]>::to_vec).collect()),
        };
        Ok(Batch { rows: rows.len(), cursor, misfits, misfit_rows })
    }

    /// A binary COPY.
    pub(super) async fn send(
        &self,
        transaction: &Transaction<'_>,
        target: &str,
        rows: BytesMut,
    ) -> Result<(), Failure> {
        let copy = format!("COPY {target} FROM STDIN (FORMAT binary)");
        let mut sink = Box::pin(transaction.copy_in::<_, Bytes>(&copy).await?);
        sink.send(rows.freeze()).await?;
        sink.as_mut().finish().await?;
        Ok(())
    }

    /// New cells of the column at `at`.
    pub(super) fn carried(&self, at: usize, wires: &[Option<&[u8]>]) -> Column {
        Column::new(self.carriers[at].carry(wires), wires.len())
    }

    pub(super) fn key<'r>(&self, row: &'r Row, first: usize) -> Result<Vec<&'r [u8]>, Failure> {
        (first..first + self.table.key.len()).map(|at| Ok(row.try_get::<_, Raw<'_>>(at)?.0)).collect()
    }

    /// Runs a statement with a key as its parameters.
    pub(super) async fn execute(
        &self,
        transaction: &Transaction<'_>,
        statement: &str,
        key: &[&[u8]],
    ) -> Result<(), Failure> {
        let values: Vec<Sent<'_>> = key.iter().map(|value| Sent(value)).collect();
        let values: Vec<&(dyn ToSql + Sync)> = values.iter().map(|value| value as _).collect();
        transaction.execute(statement, &values).await?;
        Ok(())
    }

    async fn misfits(
        &self,
        transaction: &Transaction<'_>,
        rows: &[Row],
        first: usize,
        carried: &[Column],
    ) -> Result<Misfits, Failure> {
        let mut misfits = Misfits::default();
        for (column, own) in self.table.columns.iter().zip(carried) {
            for (at, why) in own.misfits() {
                misfits.count += 1;
                if misfits.examples.len() < EXAMPLES_MAX {
                    let key = self.key_text(transaction, &self.key(&rows[at], first)?).await?;
                    let name = format!("{}.{}", self.table.text(), column.name);
                    misfits.examples.push(format!("{name} of {key}: {why}"));
                }
            }
        }
        Ok(misfits)
    }

    /// Which row it is, for whoever must correct it.
    async fn key_text(&self, transaction: &Transaction<'_>, key: &[&[u8]]) -> Result<String, Failure> {
        let changes = |name: &str| self.table.columns.iter().any(|column| column.name == name);
        if self.table.key.iter().any(|key| key.tagged || changes(&key.name)) {
            return Ok("a row whose key is tagged itself".to_owned());
        }
        let (texts, conditions): (Vec<String>, Vec<String>) = self
            .table
            .key
            .iter()
            .enumerate()
            .map(|(at, key)| {
                let name = quoted(&key.name);
                (format!("{name}::text"), format!("{name} = ${}", at + 1))
            })
            .unzip();
        let query = format!(
            "SELECT pg_catalog.concat_ws(', ', {}) FROM {} WHERE {}",
            texts.join(", "),
            self.table.sql(),
            conditions.join(" AND ")
        );
        let values: Vec<Sent<'_>> = key.iter().map(|value| Sent(value)).collect();
        let values: Vec<&(dyn ToSql + Sync)> = values.iter().map(|value| value as _).collect();
        let found = transaction.query_opt(&query, &values).await?;
        let text: Option<String> = found.map(|row| row.try_get(0)).transpose()?;
        Ok(text.map_or_else(|| "a row that is gone".to_owned(), |text| format!("row ({text})")))
    }
}

impl Misfits {
    pub(super) fn add(&mut self, more: Misfits) {
        self.count += more.count;
        let room = EXAMPLES_MAX.saturating_sub(self.examples.len());
        self.examples.extend(more.examples.into_iter().take(room));
    }

    /// What stops a conversion.
    ///
    /// # Errors
    /// When there are any.
    pub(super) fn refuse(&self) -> Result<(), Failure> {
        if self.count == 0 {
            return Ok(());
        }
        let rows = if self.count == 1 { "1 value does" } else { &format!("{} values do", self.count) };
        Err(Failure::new(format!("{rows} not fit; nothing was converted\n  {}", self.examples.join("\n  ")))
            .hint("Correct these rows, then run pgveil reseal start again: it goes on from here. Or: pgveil reseal cancel."))
    }
}

/// One column's new cells, as the threads made them.
pub(super) struct Column {
    parts: Vec<Carried>,
    share: usize,
}

impl Column {
    fn new(parts: Vec<Carried>, rows: usize) -> Column {
        let share = rows.div_ceil(parts.len().max(1)).max(1);
        Column { parts, share }
    }
    pub(super) fn get(&self, at: usize) -> Option<&[u8]> {
        self.parts.get(at / self.share)?.get(at % self.share)
    }
    fn misfit(&self, at: usize) -> bool {
        self.parts
            .get(at / self.share)
            .is_some_and(|part| part.misfits.iter().any(|(misfit, _)| *misfit == at % self.share))
    }
    fn misfits(&self) -> impl Iterator<Item = (usize, &str)> {
        self.parts.iter().enumerate().flat_map(|(number, part)| {
            let before = number * self.share;
            part.misfits.iter().map(move |(at, why)| (before + at, why.as_str()))
        })
    }
}

impl Filler<'_> {
    pub(super) fn carriers(&self) -> &[Carrier] {
        &self.carriers
    }
    /// The shadow's cells in SQL.
    pub(super) fn cells(&self, before: &str) -> String {
        let cells = (0..self.carriers.len()).map(|at| format!("{before}{}", cell_column(at)));
        cells.collect::<Vec<_>>().join(", ")
    }
}

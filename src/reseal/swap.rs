//! The swap: one transaction in which the columns get their new type and the shadow's cells.
//!
//! Guarantees: all or nothing, and the state says which; what was written until the lock was held is made up for; the old
//! type goes with it, so that plans made for it fail; the lock is asked for briefly, so that nobody waits long behind it;
//! no statement that a proxy planned by the old types is read by the server after it (`server::fence`).
//! Deliberately absent: trying again (`run`).

use super::Failure;
use super::carry::Carrier;
use super::dependents::{Dependents, dependents};
use super::fill::{Filler, Raw, Sent};
use super::indexes::Fate;
use super::publications;
use super::setup;
use super::spec::{Column, Form, Names, Spec, Table};
use crate::catalog::build::SCHEMA;
use crate::crypto::keyring::Keyring;
use crate::crypto::{KeyVersion, Mode, envelope};
use crate::server::fence::LOCK;
use crate::server::prepare::{WantedType, literal, quoted};
use std::time::{Duration, Instant};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, GenericClient, IsolationLevel, Transaction};

/// How a try ended.
#[derive(Debug)]
pub(super) enum Outcome {
    Swapped,
    /// Others held their locks too long.
    Busy,
    /// Too much was written meanwhile to be made up for under the lock.
    Behind,
    /// A row that was written meanwhile does not fit.
    Misfit,
}

pub(super) struct Swap<'a> {
    pub(super) conversion: i64,
    pub(super) spec: &'a Spec,
    pub(super) fillers: &'a [Filler<'a>],
    pub(super) keyring: &'a Keyring,
    /// Indexes that were found to serve nothing.
    pub(super) lost: &'a [String],
    pub(super) lock_max: Duration,
}

/// Longest wait for the locks, shorter than `deadlock_timeout`: of two that wait for each other it is we who give way.
const LOCK_TIMEOUT: &str = "700ms";
/// Longest wait for every proxy to stand aside: they look each second, and give what is under way two.
pub(super) const FENCE_TIMEOUT: &str = "6s";
/// Notes made up for under the lock.
const BEHIND_MAX: usize = 20_000;
const CATCH_UP_ROWS: usize = 5_000;

impl Swap<'_> {
    pub(super) async fn attempt(&self, client: &mut Client) -> Result<Outcome, Failure> {
        if self.spec.is_copied() {
            return self.attempt_copies(client).await;
        }
        let transaction =
            client.build_transaction().isolation_level(IsolationLevel::ReadCommitted).start().await?;
        let result = self.run(&transaction).await;
        self.end(transaction, result).await
    }

    /// Commits what was swapped, and takes back all else.
    pub(super) async fn end(
        &self,
        transaction: Transaction<'_>,
        result: Result<Outcome, Failure>,
    ) -> Result<Outcome, Failure> {
        match result {
            Ok(Outcome::Swapped) => {
                transaction.commit().await?;
                Ok(Outcome::Swapped)
            }
            Ok(outcome) => {
                transaction.rollback().await?;
                Ok(outcome)
            }
            Err(failure) => {
                // The connection may be gone; then so is the transaction.
                let _ = transaction.rollback().await;
                // lock_not_available, deadlock_detected.
                if failure.is(&["55P03", "40P01"]) { Ok(Outcome::Busy) } else { Err(self.explained(failure)) }
            }
        }
    }

    fn explained(&self, failure: Failure) -> Failure {
        if failure.is(&["57014"]) {
            return Failure::new(format!(
                "the swap took longer than twice --max-lock ({} seconds) and was taken back",
                self.lock_max.as_secs()
            ))
            .hint("Try when there is less load, or allow more by --max-lock.");
        }
        if failure.is(&["2BP01"]) {
            return failure.hint(
                "Something was made of it a moment ago: run pgveil reseal start again, which goes on from here and sees it.",
            );
        }
        failure
    }

    async fn run(&self, transaction: &Transaction<'_>) -> Result<Outcome, Failure> {
        // Proxies see it when they next look, and first let what is under way come to its end.
        let fence = format!(
            "SET LOCAL lock_timeout = '{FENCE_TIMEOUT}'; SELECT pg_catalog.pg_advisory_xact_lock({LOCK})"
        );
        transaction.batch_execute(&fence).await?;
        self.hurry(transaction).await?;
        let found = dependents(transaction, self.spec).await?;
        self.lock(transaction, &found).await?;
        let locked = Instant::now();
        self.is_as_planned(transaction).await?;
        if let Some(outcome) = self.make_up(transaction).await? {
            return Ok(outcome);
        }
        let found = self.dependents_now(transaction).await?;
        self.convert(transaction, &found).await?;
        self.record(transaction, &found, locked).await?;
        Ok(Outcome::Swapped)
    }

    /// Neither waits nor works for long from now on.
    pub(super) async fn hurry(&self, transaction: &Transaction<'_>) -> Result<(), Failure> {
        let limit = (2 * self.lock_max).as_millis().max(2_000);
        let session =
            format!("SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'; SET LOCAL statement_timeout = {limit}");
        Ok(transaction.batch_execute(&session).await?)
    }

    /// Makes the cells of what was written until the lock was held.
    pub(super) async fn make_up(&self, transaction: &Transaction<'_>) -> Result<Option<Outcome>, Failure> {
        let mut behind = 0;
        for filler in self.fillers {
            loop {
                let (notes, misfits) = filler.catch_up(transaction, CATCH_UP_ROWS).await?;
                if misfits.count > 0 {
                    return Ok(Some(Outcome::Misfit));
                }
                behind += notes;
                if behind > BEHIND_MAX {
                    return Ok(Some(Outcome::Behind));
                }
                if notes < CATCH_UP_ROWS {
                    break;
                }
            }
        }
        Ok(None)
    }

    /// What depends on the columns now: it may have changed before the lock was held.
    pub(super) async fn dependents_now(&self, transaction: &Transaction<'_>) -> Result<Dependents, Failure> {
        let mut found = dependents(transaction, self.spec).await?;
        if let Some(obstacle) = found.obstacles.first() {
            return Err(Failure::new(obstacle.what.clone()).hint(obstacle.remedy.clone()));
        }
        for index in &mut found.indexes {
            if self.lost.contains(&index.sql) {
                index.fate = Fate::Lost;
            }
        }
        super::indexes::with_their_wholes(&mut found.indexes);
        Ok(found)
    }

    /// Notes in the state what was done.
    pub(super) async fn record(
        &self,
        transaction: &Transaction<'_>,
        found: &Dependents,
        locked: Instant,
    ) -> Result<(), Failure> {
        let (mut dropped, mut restore) = (Vec::new(), Vec::new());
        // Parts of an index go with it, and come with it.
        for index in found.indexes.iter().filter(|index| index.parent.is_none()) {
            let definition = index.definition.replacen(" ON ONLY ", " ON ", 1);
            match index.fate {
                Fate::Kept => {}
                Fate::Lost => {
                    dropped.push(definition.clone());
                    restore.push(definition);
                }
                Fate::Remade => {
                    restore.extend([format!("DROP INDEX IF EXISTS {}", index.sql), definition]);
                }
            }
        }
        let lock_ms = i64::try_from(locked.elapsed().as_millis()).unwrap_or(i64::MAX);
        let update = "UPDATE pgveil.reseal SET phase = 'swapped', changed = pg_catalog.now(), dropped = $2, restore = $3, \
                      validate = $4, lock_ms = $5 WHERE id = $1";
        let values: [&(dyn ToSql + Sync); 5] =
            [&self.conversion, &dropped, &restore, &found.validate, &lock_ms];
        transaction.execute(update, &values).await?;
        let left = found.publications.iter().filter(|own| own.sends).map(|own| own.add.clone());
        let left: Vec<String> = left.collect();
        // A conversion that an older pgveil began has none, and maybe no such columns.
        if !left.is_empty() {
            let update = "UPDATE pgveil.reseal SET republish = $2, resubscribe = $3 WHERE id = $1";
            let anew = publications::resubscribe(&found.publications);
            transaction.execute(update, &[&self.conversion, &left, &anew]).await?;
        }
        Ok(())
    }

    async fn lock(&self, transaction: &Transaction<'_>, found: &Dependents) -> Result<(), Failure> {
        let mut tables: Vec<String> = self.spec.tables.iter().map(Table::sql).collect();
        for key in &found.foreign {
            let named = "SELECT pg_catalog.format('%I.%I', n.nspname, c.relname) FROM pg_catalog.pg_class c \
                 JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = $1";
            let row = transaction.query_opt(named, &[&key.table]).await?;
            let row = row.ok_or_else(|| Failure::gone("a table with a foreign key is gone"))?;
            let name: String = row.try_get(0)?;
            if !tables.contains(&name) {
                tables.push(name);
            }
        }
        transaction
            .batch_execute(&format!("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE", tables.join(", ")))
            .await?;
        Ok(())
    }

    /// The columns have the types that the recipe is for, and every write was noted.
    pub(super) async fn is_as_planned(&self, transaction: &Transaction<'_>) -> Result<(), Failure> {
        for table in &self.spec.tables {
            for column in &table.columns {
                let query = "SELECT pg_catalog.format_type(a.atttypid, a.atttypmod) FROM pg_catalog.pg_attribute a \
                             WHERE a.attrelid = $1 AND a.attnum = $2 AND a.attname::text = $3";
                let row = transaction.query_opt(query, &[&table.oid, &column.number, &column.name]).await?;
                let is: Option<String> = row.map(|row| row.try_get(0)).transpose()?;
                let expected = match &column.from {
                    Form::Plain { type_name, .. } => type_name.clone(),
                    Form::Sealed { type_name, .. } => format!("{SCHEMA}.{type_name}"),
                };
                if is.as_deref() != Some(expected.as_str()) {
                    return Err(Failure::new(format!(
                        "column {}.{} was changed since the conversion began",
                        table.text(),
                        column.name
                    ))
                    .hint("Run: pgveil reseal cancel; then start anew."));
                }
            }
            if !setup::is_watched(transaction, table).await? {
                return Err(Failure::new(format!(
                    "the triggers of the conversion are not on all of table {}: a write may have been missed",
                    table.text()
                ))
                .hint("Run: pgveil reseal cancel; then start anew."));
            }
        }
        Ok(())
    }

    async fn convert(&self, transaction: &Transaction<'_>, found: &Dependents) -> Result<(), Failure> {
        let mut drops: Vec<String> = self.spec.tables.iter().map(setup::unwatch).collect();
        drops.extend(found.publications.iter().filter(|own| own.sends).map(|own| own.remove.clone()));
        drops.extend(found.triggers.iter().map(|part| part.drop.clone()));
        drops.extend(found.views.iter().rev().map(|view| view.drop.clone()));
        drops.extend(found.foreign.iter().map(|part| part.drop.clone()));
        let gone = found.indexes.iter().filter(|index| index.fate != Fate::Kept);
        drops.extend(gone.map(super::indexes::Index::drop));
        transaction.batch_execute(&drops.join("; ")).await?;
        for wanted in wanted_types(self.spec, self.keyring)? {
            let there = "SELECT pg_catalog.to_regtype($1) IS NOT NULL";
            let name = format!("{SCHEMA}.{}", quoted(&wanted.name));
            if !transaction.query_one(there, &[&name]).await?.try_get::<_, bool>(0)? {
                transaction.batch_execute(&wanted.statements().join("; ")).await?;
            }
        }
        for filler in self.fillers {
            transaction.batch_execute(&alter(filler.table, &filler.names)).await?;
        }
        transaction.batch_execute(&self.defaults(transaction, found).await?.join("; ")).await?;
        self.make_again(transaction, found).await?;
        self.drop_types(transaction).await?;
        let rest: Vec<String> =
            self.fillers.iter().map(|filler| setup::remove(filler.table, &filler.names)).collect();
        transaction.batch_execute(&rest.concat()).await?;
        Ok(())
    }

    /// Statements that give converted columns their defaults, each table and partition its own.
    pub(super) async fn defaults(
        &self,
        transaction: &Transaction<'_>,
        found: &Dependents,
    ) -> Result<Vec<String>, Failure> {
        let mut all = Vec::new();
        for own in &found.defaults {
            let carrier = &self.fillers[own.table].carriers()[own.column];
            let column = &self.spec.tables[own.table].columns[own.column];
            if let Some(value) = default(transaction, column, carrier, &own.expression).await? {
                let name = quoted(&column.name);
                all.push(format!("ALTER TABLE ONLY {} ALTER COLUMN {name} SET DEFAULT {value}", own.on));
            }
        }
        Ok(all)
    }

    async fn make_again(&self, transaction: &Transaction<'_>, found: &Dependents) -> Result<(), Failure> {
        let mut again = Vec::new();
        for index in found.indexes.iter().filter(|index| index.fate == Fate::Remade) {
            let table = self.spec.tables.iter().find(|table| table.oid == index.table);
            again.extend(table.map(|table| index.create_on(&table.sql())));
        }
        for statement in &self.spec.restore {
            // A partition may be gone by now.
            let on = statement.split_once(" USING ").and_then(|(before, _)| before.rsplit_once(" ON "));
            let there = "SELECT pg_catalog.to_regclass($1) IS NOT NULL";
            if let Some((_, on)) = on
                && !transaction.query_one(there, &[&on]).await?.try_get::<_, bool>(0)?
            {
                continue;
            }
            again.push(statement.clone());
        }
        again.extend(found.triggers.iter().map(|part| part.create.clone()));
        again.extend(found.foreign.iter().map(|part| part.create.clone()));
        for view in &found.views {
            again.push(view.create.clone());
            again.extend(view.after.iter().cloned());
        }
        transaction.batch_execute(&again.join("; ")).await?;
        Ok(())
    }

    /// Sealed types of these domains that no column has any more.
    pub(super) async fn drop_types(&self, transaction: &Transaction<'_>) -> Result<(), Failure> {
        let mut domains: Vec<&str> = Vec::new();
        let mut kept: Vec<&str> = Vec::new();
        let mut old: Vec<&str> = Vec::new();
        for (_, column) in self.spec.columns() {
            for (form, names) in [(&column.from, &mut old), (&column.to, &mut kept)] {
                if let Form::Sealed { type_name, domain, .. } = form {
                    domains.push(domain);
                    names.push(type_name);
                }
            }
        }
        let query = "\
            SELECT t.typname::text, EXISTS (SELECT FROM pg_catalog.pg_attribute a \
              WHERE a.atttypid IN (t.oid, t.typarray) AND NOT a.attisdropped) \
            FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace \
            WHERE n.nspname::text = $1 AND t.typtype = 'd' AND t.typname::text <> ALL ($3::text[]) \
              AND pg_catalog.regexp_replace(t.typname::text, '_[0-9]+$', '') = ANY ($2::text[])";
        for row in transaction.query(query, &[&SCHEMA, &domains, &kept]).await? {
            let (name, used): (String, bool) = (row.try_get(0)?, row.try_get(1)?);
            if !used {
                transaction.batch_execute(&format!("DROP DOMAIN {SCHEMA}.{}", quoted(&name))).await?;
            } else if old.contains(&name.as_str()) {
                return Err(Failure::new(format!(
                    "type {SCHEMA}.{name} must go with the conversion, and something else still has it"
                ))
                .hint("Look for it among foreign tables and composite types; a column made since the start is converted after a cancel and a new start."));
            }
        }
        Ok(())
    }
}

/// The types that the new forms need.
pub(super) fn wanted_types(spec: &Spec, keyring: &Keyring) -> Result<Vec<WantedType>, Failure> {
    let mut found: Vec<WantedType> = Vec::new();
    for (_, column) in spec.columns() {
        let Form::Sealed { type_name, domain, deterministic, version, .. } = &column.to else { continue };
        let id = keyring.domain_id(domain);
        let id = id.ok_or_else(|| Failure::new(format!("the keyring has given no id to domain {domain}")))?;
        let mode = if *deterministic { Mode::Deterministic } else { Mode::Randomized };
        let header = envelope::header(mode, id, KeyVersion(*version));
        // Randomized cells carry their version and rotate freely.
        let fixed = if *deterministic { &header[..] } else { &header[..3] };
        let wanted = WantedType {
            name: type_name.clone(),
            header: fixed.to_vec(),
            bytes_min: envelope::overhead(mode),
        };
        if !found.contains(&wanted) {
            found.push(wanted);
        }
    }
    Ok(found)
}

/// The change of type, of all columns of a table in one rewrite.
pub(super) fn alter(table: &Table, names: &Names) -> String {
    let key: Vec<String> =
        table.key.iter().map(|key| format!("{}::{}", quoted(&key.name), key.type_name)).collect();
    let one = |(at, column): (usize, &Column)| {
        let name = quoted(&column.name);
        format!(
            "ALTER COLUMN {name} DROP DEFAULT, ALTER COLUMN {name} TYPE {} \
             USING CASE WHEN {name} IS NULL THEN NULL ELSE {}({}) END",
            column.to.column_type(),
            names.take(at),
            key.join(", "),
        )
    };
    let columns: Vec<String> = table.columns.iter().enumerate().map(one).collect();
    format!("ALTER TABLE {} {}", table.sql(), columns.join(", "))
}

/// Whether an expression is a constant with casts: only such a default can be sealed, since the database cannot seal.
fn is_constant(expression: &str) -> bool {
    let text = expression.trim().trim_start_matches('(');
    let rest = if let Some(quoted) = text.strip_prefix("E'").or_else(|| text.strip_prefix('\'')) {
        let mut rest = quoted;
        loop {
            let Some((_, after)) = rest.split_once('\'') else { return false };
            match after.strip_prefix('\'') {
                Some(more) => rest = more,
                None => break after,
            }
        }
    } else {
        let end =
            text.find(|c: char| !c.is_ascii_alphanumeric() && c != '.' && c != '-').unwrap_or(text.len());
        let (word, rest) = text.split_at(end);
        let known = ["NULL", "true", "false"].contains(&word);
        if !known && word.parse::<f64>().is_err() {
            return false;
        }
        rest
    };
    let casts = rest.trim_start_matches(')');
    casts.is_empty()
        || (casts.starts_with("::")
            && casts.chars().all(|c| c.is_ascii_alphanumeric() || " _.:\"(),".contains(c)))
}

/// A column's default in its new form; `None` for NULL.
///
/// # Errors
/// It is no constant, or its value does not fit.
pub(super) async fn default(
    client: &impl GenericClient,
    column: &Column,
    carrier: &Carrier,
    expression: &str,
) -> Result<Option<String>, Failure> {
    let name = &column.name;
    if !is_constant(expression) {
        return Err(Failure::new(format!(
            "the default of column {name} is computed by the database, which cannot seal"
        ))
        .hint(
            "Drop it (ALTER TABLE … ALTER COLUMN … DROP DEFAULT) and have the application write the value.",
        ));
    }
    let typed = match &column.from {
        Form::Plain { type_name, .. } => format!("SELECT ({expression})::{type_name}"),
        Form::Sealed { .. } => format!("SELECT ({expression})::pg_catalog.bytea"),
    };
    let row = client.query_one(&typed, &[]).await?;
    let Some(Raw(value)) = row.try_get::<_, Option<Raw<'_>>>(0)? else { return Ok(None) };
    let carried = carrier.carry(&[Some(value)]);
    let new = carried.first().and_then(|part| part.get(0));
    let new = new.ok_or_else(|| {
        Failure::new(format!("the default of column {name} does not fit")).hint("Correct it, or drop it.")
    })?;
    let target = column.to.sql_type();
    if column.to.is_sealed() {
        return Ok(Some(format!("'\\x{}'::{target}", faster_hex::hex_string(new))));
    }
    let text = client.query_one(&format!("SELECT ($1::{target})::text"), &[&Sent(new)]).await?;
    Ok(Some(literal(text.try_get(0)?)))
}

#[cfg(test)]
mod tests {
    use super::is_constant;

    #[test]
    fn only_constants_are_constants() {
        for constant in [
            "'a'::text",
            "'it''s'::character varying",
            "NULL::character varying",
            "0",
            "-1.5",
            "'x'",
            "('\\x11'::bytea)::pgveil.email_1",
            "'-1'::integer",
            "12.50::numeric(12,2)",
        ] {
            assert!(is_constant(constant), "{constant}");
        }
        for computed in [
            "now()",
            "nextval('a'::regclass)",
            "('a'::text || 'b'::text)",
            "CURRENT_USER",
            "upper('a'::text)",
            "'a'::text || f()",
            "(1 + 2)",
        ] {
            assert!(!is_constant(computed), "{computed}");
        }
    }
}

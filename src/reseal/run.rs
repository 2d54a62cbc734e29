//! A conversion from its beginning, or from where it was left, to its end; cancelled, undone.
//!
//! Guarantees: one process works on a database's conversion at a time; each step begins by looking at the database's own
//! state, so that it does not matter where the last process died. Deliberately absent: words for people (`cli`).

use super::dependents::{Dependents, dependents};
use super::fill::{Filler, fillers};
use super::indexes::{Fate, Index};
use super::pace::Pace;
use super::rehearse::{Rehearsal, rehearse};
use super::spec::{Names, Spec};
use super::state::{self, Conversion, Phase, Vouching};
use super::survey::{Target, survey};
use super::swap::{Outcome, Swap};
use super::verify::Verified;
use super::{ATTEMPTS_MAX, Failure, GONE, MOVED, Progress, copy, setup};
use crate::config::{Config, column_of};
use crate::crypto::keyring::Keyring;
use std::time::Duration;
use tokio_postgres::Client;

/// How to go about it.
#[derive(Clone, Debug)]
pub struct Options {
    /// Rows a second.
    pub rate: Option<u64>,
    /// Other sessions that may be at work before a batch waits.
    pub active_max: u32,
    pub batch_rows: usize,
    /// Longest time for which the tables may be locked, as estimated.
    pub lock_max: Duration,
    /// Fill the shadow, and stop before the swap.
    pub prepare: bool,
    /// Copy the tables, however short the lock would be.
    pub online: bool,
    /// Take the tables out of publications that send the columns.
    pub unpublish: bool,
}

/// What came of it.
#[derive(Clone, Debug)]
pub enum Done {
    Converted(Box<Conversion>),
    /// Ready for the swap.
    Prepared(i64),
}

/// A database and what belongs to it.
pub struct Work<'a> {
    pub client: Client,
    pub config: &'a Config,
    pub keyring: &'a Keyring,
    vouching: Vouching,
}

/// Notes below which the swap is tried: they are made up for under the lock.
const NEAR: u64 = 1_000;
const CATCH_UP_ROWS: usize = 5_000;
const VERIFY_ROWS: u64 = 2_000;
/// What the server broke off for another's sake.
const BROKEN_OFF: [&str; 2] = ["40P01", "40001"];
/// What was read of in the catalogs is not there any more. XX000 is what PostgreSQL's functions that show definitions say then:
/// "could not open relation with OID", "cache lookup failed for" (ruleutils.c).
const PASSED_AWAY: [&str; 4] = ["42P01", "42704", "XX000", GONE];
/// How often that is passed over where it is the same each time, and so may be something else: much is read anew.
const PASSED_OVER_MAX: u32 = 5;
/// Who was in the way has gone on by then.
const AGAIN_AFTER: Duration = Duration::from_millis(50);

/// Settings of a connection that converts: names are written whole, nothing of the database's or role's defaults counts.
/// Plans with what is switched off look expensive, and would be compiled each time.
const SESSION: &str = "SET search_path = ''; SET default_transaction_isolation = 'read committed'; \
     SET default_transaction_read_only = off; SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0; \
     SET lock_timeout = 0; SET row_security = off; SET jit = off; SET DateStyle = 'ISO, MDY'";

/// What others did while we worked, and the next try does not meet.
#[derive(Default)]
struct Again {
    broken_off: u32,
    passed_over: u32,
    last: Option<Failure>,
}

impl Again {
    /// Whether it is worth another try.
    fn passes(&mut self, failure: &Failure) -> bool {
        if failure.is(&BROKEN_OFF) {
            self.broken_off += 1;
            return self.broken_off <= ATTEMPTS_MAX;
        }
        self.passed_over = if self.last.as_ref() == Some(failure) { self.passed_over + 1 } else { 1 };
        self.last = Some(failure.clone());
        failure.is(&PASSED_AWAY) && self.passed_over <= PASSED_OVER_MAX
    }
}

impl<'a> Work<'a> {
    /// Makes `client`, an administrator's, ready.
    ///
    /// # Errors
    /// The database refuses.
    pub async fn new(client: Client, config: &'a Config, keyring: &'a Keyring) -> Result<Work<'a>, Failure> {
        client.batch_execute(SESSION).await?;
        let database = "SELECT pg_catalog.current_database()::text";
        let database = client.query_one(database, &[]).await?.try_get(0)?;
        let secrets = keyring.secrets().map_err(|error| Failure::new(error.to_string()))?;
        Ok(Work { client, config, keyring, vouching: Vouching { secrets, database } })
    }

    /// What would be converted into what, and what stands in the way.
    ///
    /// # Errors
    /// A column that cannot be converted at all.
    pub async fn plan(
        &mut self,
        names: &[String],
        to: Option<Target>,
        options: &Options,
    ) -> Result<(Spec, Dependents, Rehearsal), Failure> {
        let spec = survey(&mut self.client, self.config, self.keyring, names, to).await?;
        self.way(spec, options).await
    }

    /// Where the lock would be held for too long, or it is wanted, the tables are copied.
    async fn way(
        &mut self,
        mut spec: Spec,
        options: &Options,
    ) -> Result<(Spec, Dependents, Rehearsal), Failure> {
        spec.unpublish = options.unpublish;
        let mut again = Again::default();
        loop {
            match self.way_now(spec.clone(), options).await {
                Err(failure) if again.passes(&failure) => tokio::time::sleep(AGAIN_AFTER).await,
                result => return result,
            }
        }
    }

    async fn way_now(
        &mut self,
        spec: Spec,
        options: &Options,
    ) -> Result<(Spec, Dependents, Rehearsal), Failure> {
        if !options.online {
            let (found, learnt) = self.rehearsed(&spec).await?;
            let blocked = !found.obstacles.is_empty() || learnt.misfits.count > 0;
            if blocked || learnt.lock <= options.lock_max {
                return Ok((spec, found, learnt));
            }
        }
        let spec = spec.by_copies();
        let (found, learnt) = self.rehearsed(&spec).await?;
        Ok((spec, found, learnt))
    }

    async fn rehearsed(&mut self, spec: &Spec) -> Result<(Dependents, Rehearsal), Failure> {
        let mut found = dependents(&self.client, spec).await?;
        let learnt = rehearse(&mut self.client, spec, &mut found, self.keyring).await?;
        Ok((found, learnt))
    }

    /// Converts the named columns, or goes on with the conversion that is under way.
    ///
    /// # Errors
    /// Something stands in the way; what was done until then is kept for the next start.
    pub async fn start(
        &mut self,
        names: &[String],
        to: Option<Target>,
        options: &Options,
        report: &mut dyn FnMut(Progress),
    ) -> Result<Done, Failure> {
        state::claim(&self.client).await?;
        match state::under_way(&self.client).await? {
            Some(conversion) => {
                self.vouching.check(&conversion)?;
                is_the_same(&conversion, &as_stored(names), to)?;
                self.go_on(conversion, options, report).await
            }
            None if names.is_empty() => Err(Failure::new("no conversion is under way")
                .hint("Name the columns to convert: pgveil reseal start public.customers.email.")),
            None => {
                let spec = survey(&mut self.client, self.config, self.keyring, names, to).await?;
                self.begin(spec, options, report).await
            }
        }
    }

    /// The last conversion of these columns, the other way round.
    ///
    /// # Errors
    /// There was none; or as [`start`](Self::start).
    pub async fn undo(
        &mut self,
        names: &[String],
        options: &Options,
        report: &mut dyn FnMut(Progress),
    ) -> Result<Done, Failure> {
        state::claim(&self.client).await?;
        let (known, names) = (state::all(&self.client).await?, as_stored(names));
        match known.iter().find(|conversion| conversion.phase != Phase::Done) {
            None => {}
            Some(conversion) if conversion.phase == Phase::Swapped => drop(self.finish(conversion.id).await?),
            Some(conversion) => {
                return Err(Failure::new(format!("conversion {} is still under way", conversion.id))
                    .hint("Take it back with: pgveil reseal cancel"));
            }
        }
        let of = |conversion: &&Conversion| {
            let columns = conversion.spec.column_names();
            names.iter().all(|name| columns.contains(name))
        };
        let last = known.iter().rev().find(of).ok_or_else(|| {
            Failure::new("no conversion of these columns is known").hint("See: pgveil reseal status")
        })?;
        let mut later = known.iter().filter(|other| other.id > last.id);
        let columns = last.spec.column_names();
        if let Some(other) =
            later.find(|other| other.spec.column_names().iter().any(|name| columns.contains(name)))
        {
            return Err(Failure::new(format!("conversion {} came later and has columns of it", other.id))
                .hint("Undo that one first."));
        }
        self.vouching.check(last)?;
        let mut spec = last.spec.reversed(last.restore.clone());
        renew(&self.client, &mut spec).await?;
        self.begin(spec, options, report).await
    }

    async fn begin(
        &mut self,
        spec: Spec,
        options: &Options,
        report: &mut dyn FnMut(Progress),
    ) -> Result<Done, Failure> {
        let (spec, found, learnt) = self.way(spec, options).await?;
        allowed(&spec, &found, &learnt, options)?;
        let rows = learnt.rows.iter().sum();
        let id = self.set_up(&spec, rows, report).await?;
        let conversion = state::under_way(&self.client).await?.filter(|conversion| conversion.id == id);
        let conversion = conversion.ok_or_else(|| Failure::new("the conversion was cancelled meanwhile"))?;
        self.go_on(conversion, options, report).await
    }

    /// State, shadows and triggers, in one transaction, tried until the locks are to be had.
    async fn set_up(
        &mut self,
        spec: &Spec,
        rows: u64,
        report: &mut dyn FnMut(Progress),
    ) -> Result<i64, Failure> {
        let service_user = self.config.settings.database.service_user.clone();
        for attempt in 1..=ATTEMPTS_MAX {
            let tried = async {
                let transaction = self.client.transaction().await?;
                transaction.batch_execute("SET LOCAL lock_timeout = '700ms'").await?;
                state::ensure(&transaction, &service_user).await?;
                let mut spec = spec.clone();
                if spec.is_copied() {
                    copy::prepare(&transaction, &mut spec, self.keyring).await?;
                }
                let id = state::enter(&transaction, &spec, rows, &self.vouching).await?;
                for (number, table) in spec.tables.iter().enumerate() {
                    let names = Names::new(id, number);
                    if table.copy.is_some() {
                        copy::make(&transaction, table, &names).await?;
                    } else {
                        transaction.batch_execute(&setup::create(table, &names)).await?;
                    }
                    setup::enable(&transaction, table).await?;
                }
                transaction.commit().await?;
                Ok::<i64, Failure>(id)
            };
            match tried.await {
                Err(failure) if failure.is(&["55P03", "40P01"]) && attempt < ATTEMPTS_MAX => {
                    report(Progress::Locking { attempt });
                    tokio::time::sleep(Duration::from_millis(300)).await;
                }
                result => return result,
            }
        }
        Err(no_lock())
    }

    /// To the end; where something came or went on the way, or the server broke a deadlock, once more from where it is by then.
    async fn go_on(
        &mut self,
        conversion: Conversion,
        options: &Options,
        report: &mut dyn FnMut(Progress),
    ) -> Result<Done, Failure> {
        let id = conversion.id;
        let (mut found, mut again) = (Some(conversion), Again::default());
        while let Some(conversion) = found.take() {
            match self.go_through(conversion, options, report).await {
                Err(failure) if failure.is(&[MOVED]) => {}
                Err(failure) if again.passes(&failure) => {}
                result => return result,
            }
            tokio::time::sleep(AGAIN_AFTER).await;
            found = state::under_way(&self.client).await?.filter(|now| now.id == id);
        }
        Err(Failure::new("the conversion was cancelled meanwhile"))
    }

    async fn go_through(
        &mut self,
        conversion: Conversion,
        options: &Options,
        report: &mut dyn FnMut(Progress),
    ) -> Result<Done, Failure> {
        self.vouching.check(&conversion)?;
        if conversion.phase == Phase::Filling {
            let fillers = fillers(&conversion.spec, conversion.id, self.keyring)?;
            for filler in &fillers {
                filler.open_staging(&self.client).await?;
                filler.follow(&mut self.client, &conversion.spec).await?;
            }
            self.fill(&conversion, &fillers, options, report).await?;
            let mut found = None;
            if conversion.spec.is_copied() {
                for filler in &fillers {
                    filler.fill_gaps(&mut self.client, options.batch_rows).await?.refuse()?;
                }
                let rehearsed = self.allowed_now(&conversion.spec, options).await?;
                self.build(&conversion, &fillers, found.insert(rehearsed), report).await?;
            }
            self.ready(&fillers, options, report).await?;
            if options.prepare {
                return Ok(Done::Prepared(conversion.id));
            }
            let found = match found {
                Some(found) => found,
                None => self.allowed_now(&conversion.spec, options).await?,
            };
            self.swap(&conversion, &fillers, &found, options, report).await?;
        }
        report(Progress::Finishing);
        self.finish(conversion.id).await
    }

    /// What depends on the columns, if nothing of it stands in the way.
    async fn allowed_now(&mut self, spec: &Spec, options: &Options) -> Result<Dependents, Failure> {
        let (found, learnt) = self.rehearsed(spec).await?;
        allowed(spec, &found, &learnt, options)?;
        Ok(found)
    }

    async fn fill(
        &mut self,
        conversion: &Conversion,
        fillers: &[Filler<'_>],
        options: &Options,
        report: &mut dyn FnMut(Progress),
    ) -> Result<(), Failure> {
        if !Pace::sees(&self.client).await? {
            report(Progress::Unseen);
        }
        let mut pace = Pace::new(options);
        let (mut done, total) = (conversion.rows_done, conversion.rows_total);
        for filler in fillers {
            loop {
                let batch = filler.fill(&mut self.client, options.batch_rows).await?;
                if batch.rows == 0 {
                    break;
                }
                done += batch.rows as u64;
                report(Progress::Filling { done, total: total.max(done) });
                pace.after(&self.client, batch.rows, report).await?;
            }
            if filler.table.copy.is_none() {
                self.client.batch_execute(&format!("ANALYZE {}", filler.names.shadow)).await?;
            }
        }
        Ok(())
    }

    /// The copies have the indexes that their tables have now.
    async fn build(
        &mut self,
        conversion: &Conversion,
        fillers: &[Filler<'_>],
        found: &Dependents,
        report: &mut dyn FnMut(Progress),
    ) -> Result<(), Failure> {
        // Indexes come and go while it takes its time.
        let mut now = dependents(&self.client, &conversion.spec).await?.indexes;
        for index in &mut now {
            let lost = |other: &Index| other.sql == index.sql && other.fate == Fate::Lost;
            if found.indexes.iter().any(lost) {
                index.fate = Fate::Lost;
            }
        }
        for filler in fillers {
            filler.build(&mut self.client, &conversion.spec, &now, report).await?;
        }
        Ok(())
    }

    /// Little is left, every row has its cells, and a sample of them was compared.
    async fn ready(
        &mut self,
        fillers: &[Filler<'_>],
        options: &Options,
        report: &mut dyn FnMut(Progress),
    ) -> Result<(), Failure> {
        self.catch_up(fillers, options, report).await?;
        report(Progress::Verifying);
        for filler in fillers {
            filler.fill_gaps(&mut self.client, options.batch_rows).await?.refuse()?;
            same(filler.verify(&mut self.client, Some(VERIFY_ROWS)).await?)?;
        }
        Ok(())
    }

    async fn catch_up(
        &mut self,
        fillers: &[Filler<'_>],
        options: &Options,
        report: &mut dyn FnMut(Progress),
    ) -> Result<(), Failure> {
        let mut pace = Pace::new(options);
        for filler in fillers {
            loop {
                let left = filler.waiting(&self.client).await?;
                report(Progress::CatchingUp { left });
                if left < NEAR {
                    break;
                }
                for _ in 0..left.div_ceil(CATCH_UP_ROWS as u64) {
                    let transaction = filler.transaction(&mut self.client).await?;
                    let (notes, misfits) = filler.catch_up(&transaction, CATCH_UP_ROWS).await?;
                    if filler.table.copy.is_some() && misfits.count > 0 {
                        transaction.rollback().await?;
                        filler.fill_gaps(&mut self.client, options.batch_rows).await?.refuse()?;
                        continue;
                    }
                    transaction.commit().await?;
                    pace.after(&self.client, notes, report).await?;
                }
            }
        }
        Ok(())
    }

    async fn swap(
        &mut self,
        conversion: &Conversion,
        fillers: &[Filler<'_>],
        found: &Dependents,
        options: &Options,
        report: &mut dyn FnMut(Progress),
    ) -> Result<(), Failure> {
        let lost = found.indexes.iter().filter(|index| index.fate == Fate::Lost);
        let lost: Vec<String> = lost.map(|index| index.sql.clone()).collect();
        let swap = Swap {
            conversion: conversion.id,
            spec: &conversion.spec,
            fillers,
            keyring: self.keyring,
            lost: &lost,
            lock_max: options.lock_max,
        };
        for attempt in 1..=ATTEMPTS_MAX {
            for filler in fillers {
                filler.follow(&mut self.client, &conversion.spec).await?;
            }
            self.build(conversion, fillers, found, report).await?;
            report(Progress::Locking { attempt });
            match swap.attempt(&mut self.client).await? {
                Outcome::Swapped => return Ok(()),
                Outcome::Busy => {
                    tokio::time::sleep(Duration::from_millis(u64::from(100 * attempt.min(20)))).await;
                    self.catch_up(fillers, options, report).await?;
                }
                Outcome::Behind => self.catch_up(fillers, options, report).await?,
                Outcome::Misfit => {
                    // Caught up outside the swap, it is a gap, and named.
                    for filler in fillers.iter().filter(|filler| filler.table.copy.is_none()) {
                        let transaction = self.client.transaction().await?;
                        filler.catch_up(&transaction, usize::MAX >> 1).await?;
                        transaction.commit().await?;
                    }
                    self.ready(fillers, options, report).await?;
                }
            }
        }
        Err(no_lock())
    }

    /// What may be done while others work: foreign keys, dead rows, statistics.
    async fn finish(&mut self, id: i64) -> Result<Done, Failure> {
        let all = state::all(&self.client).await?;
        let conversion = all.into_iter().find(|conversion| conversion.id == id);
        let conversion = conversion.ok_or_else(|| Failure::new("the conversion is not known any more"))?;
        for statement in &conversion.validate {
            self.client.batch_execute(statement).await?;
        }
        for table in &conversion.spec.tables {
            self.client.batch_execute(&format!("VACUUM (ANALYZE) {}", table.sql())).await?;
        }
        state::enter_phase(&self.client, id, Phase::Done).await?;
        Ok(Done::Converted(Box::new(conversion)))
    }

    /// Takes back what is under way, and leaves no trace of it.
    ///
    /// # Errors
    /// Nothing is under way, or it is past the swap.
    pub async fn cancel(&mut self) -> Result<Conversion, Failure> {
        let conversion = self.filling().await?;
        for attempt in 1..=ATTEMPTS_MAX {
            let tried = async {
                let transaction = self.client.transaction().await?;
                transaction.batch_execute("SET LOCAL lock_timeout = '700ms'").await?;
                for (number, table) in conversion.spec.tables.iter().enumerate() {
                    let names = Names::new(conversion.id, number);
                    let there = "SELECT EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid = $1)";
                    if transaction.query_one(there, &[&table.oid]).await?.try_get::<_, bool>(0)? {
                        transaction.batch_execute(&setup::unwatch(table)).await?;
                    }
                    if table.copy.is_some() {
                        copy::tree::unwatch(&transaction, &names, &[]).await?;
                    }
                    transaction.batch_execute(&setup::remove(table, &names)).await?;
                }
                copy::remove_types(&transaction, &conversion.spec).await?;
                state::forget(&transaction, conversion.id).await?;
                transaction.commit().await?;
                Ok::<(), Failure>(())
            };
            match tried.await {
                Err(failure) if failure.is(&["55P03", "40P01"]) && attempt < ATTEMPTS_MAX => {
                    tokio::time::sleep(Duration::from_millis(300)).await;
                }
                result => return result.map(|()| conversion),
            }
        }
        Err(no_lock())
    }

    /// Compares old and new of what is under way: a sample, or all.
    ///
    /// # Errors
    /// Nothing is under way, or a cell is not what its row has.
    pub async fn verify(&mut self, all: bool) -> Result<Verified, Failure> {
        let conversion = self.filling().await?;
        self.vouching.check(&conversion)?;
        let mut verified = Verified::default();
        for filler in fillers(&conversion.spec, conversion.id, self.keyring)? {
            filler.open_staging(&self.client).await?;
            let own = filler.verify(&mut self.client, (!all).then_some(VERIFY_ROWS)).await?;
            verified.rows += own.rows;
            verified.different += own.different;
        }
        same(verified)
    }

    async fn filling(&mut self) -> Result<Conversion, Failure> {
        state::claim(&self.client).await?;
        match state::under_way(&self.client).await? {
            None => Err(Failure::new("no conversion is under way")),
            Some(conversion) if conversion.phase == Phase::Filling => Ok(conversion),
            Some(conversion) => {
                Err(Failure::new(format!("conversion {} has swapped its columns already", conversion.id))
                    .hint("Finish it with: pgveil reseal start; then, to go back: pgveil reseal undo."))
            }
        }
    }
}

/// Names as a recipe has them; one that cannot be read is nobody's.
fn as_stored(names: &[String]) -> Vec<String> {
    let one = |name: &String| {
        column_of(name)
            .map_or_else(|| name.clone(), |(schema, table, column)| format!("{schema}.{table}.{column}"))
    };
    names.iter().map(one).collect()
}

fn no_lock() -> Failure {
    Failure::new("the tables could not be locked: other sessions hold them all the time").hint(
        "End long transactions (pg_stat_activity), then run pgveil reseal start again: it goes on from here.",
    )
}

fn same(verified: Verified) -> Result<Verified, Failure> {
    if verified.different == 0 {
        return Ok(verified);
    }
    Err(Failure::new(format!(
        "{} of {} rows that were compared have cells that are not theirs; nothing was converted",
        verified.different, verified.rows
    ))
    .hint("Something wrote past the triggers, or into schema pgveil: cancel, find out what, and start anew."))
}

/// Nothing stands in the way, and the lock is short enough.
fn allowed(spec: &Spec, found: &Dependents, learnt: &Rehearsal, options: &Options) -> Result<(), Failure> {
    if let Some(first) = found.obstacles.first() {
        let more = found.obstacles.len() - 1;
        let more = if more == 0 { String::new() } else { format!(" (and {more} more: pgveil reseal plan)") };
        return Err(Failure::new(format!("{}{more}", first.what)).hint(first.remedy.clone()));
    }
    learnt.misfits.refuse()?;
    if learnt.lock > options.lock_max && !options.prepare && !spec.is_copied() {
        return Err(Failure::new(format!(
            "the swap would lock the tables for about {:.1} seconds, more than the {} that are allowed",
            learnt.lock.as_secs_f64(),
            options.lock_max.as_secs_f64()
        ))
        .hint(
            "Allow more with --max-lock SECONDS, at a quiet hour; or run pgveil reseal cancel and start with --online, which \
             copies the table instead.",
        ));
    }
    Ok(())
}

/// Tables and columns that are where they were under other numbers: a copy has taken their place since.
async fn renew(client: &Client, spec: &mut Spec) -> Result<(), Failure> {
    let query = "SELECT a.attrelid, a.attnum FROM pg_catalog.pg_attribute a \
                 WHERE a.attrelid = pg_catalog.to_regclass($1) AND a.attname::text = $2 AND NOT a.attisdropped";
    for table in &mut spec.tables {
        let (name, text) = (table.sql(), table.text());
        for column in &mut table.columns {
            let row = client.query_opt(query, &[&name, &column.name]).await?;
            let row = row
                .ok_or_else(|| Failure::new(format!("there is no column {text}.{} any more", column.name)))?;
            (table.oid, column.number) = (row.try_get(0)?, row.try_get(1)?);
        }
    }
    Ok(())
}

/// Whether the conversion that is under way is the one that was asked for. What is not said is not compared: who names nothing goes on
/// with whatever was begun.
fn is_the_same(conversion: &Conversion, names: &[String], to: Option<Target>) -> Result<(), Failure> {
    let columns = conversion.spec.column_names();
    let under_way = format!("conversion {} of {} is under way", conversion.id, columns.join(", "));
    let finish = "with pgveil reseal start, or take it back with pgveil reseal cancel, first.";
    if let Some(name) = names.iter().find(|name| !columns.contains(name)) {
        let message = format!("{under_way}, and {name} is not in it");
        return Err(Failure::new(message).hint(format!("Finish it {finish}")));
    }
    let plain = conversion.spec.columns().any(|(_, column)| !column.to.is_sealed());
    if plain != (to == Some(Target::Plain)) && !(names.is_empty() && to.is_none()) {
        let what = if plain { "stores it in clear" } else { "seals it" };
        let message = format!("{under_way}, and {what}, which was not asked for");
        return Err(Failure::new(message).hint(format!("If it is meant, go on {finish}")));
    }
    Ok(())
}

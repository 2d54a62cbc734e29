//! `pgveil reseal`: converting columns with data in them, and what people read of it.
//!
//! Guarantees: progress goes to stderr, results to stdout; nothing printed holds a value. Deliberately absent: doing it
//! (`reseal`).

use super::{CliError, ConfigDir, block_on};
use crate::config::Config;
use crate::crypto::keyring::Keyring;
use crate::reseal::dependents::Dependents;
use crate::reseal::indexes::Fate;
use crate::reseal::rehearse::Rehearsal;
use crate::reseal::run::{Done, Options, Work};
use crate::reseal::spec::Spec;
use crate::reseal::state::{self, Conversion, Phase};
use crate::reseal::survey::Target;
use crate::reseal::{Failure, Progress};
use crate::server::service;
use clap::{Args, Subcommand, ValueEnum};
use comfy_table::Table;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

/// Convert columns that have data in them: seal, unseal, seal anew
#[derive(Subcommand)]
pub enum Reseal {
    Plan(Plan),
    Start(Start),
    Status(Status),
    Verify(Verify),
    Cancel(Cancel),
    Undo(Undo),
}

/// Which database, and who may change its tables.
#[derive(Args)]
struct Connection {
    #[command(flatten)]
    config: ConfigDir,
    /// The connection of the tables' owner or an administrator: postgresql://user@host:port/database. The password may
    /// come from PGPASSWORD instead
    #[arg(long, value_name = "URL", env = "PGVEIL_DATABASE_URL", hide_env_values = true)]
    database: Option<String>,
}

#[derive(Clone, Copy, ValueEnum)]
enum To {
    Plain,
    Sealed,
}

impl From<To> for Target {
    fn from(to: To) -> Target {
        match to {
            To::Plain => Target::Plain,
            To::Sealed => Target::Sealed,
        }
    }
}

/// Say what a conversion would do, how long it would take, and what stands in its way; changes nothing
#[derive(Args)]
pub struct Plan {
    #[command(flatten)]
    connection: Connection,
    /// Columns as in tags.toml: public.customers.email
    #[arg(required = true, value_name = "COLUMN")]
    columns: Vec<String>,
    /// Into what; without it, as the columns' domains say
    #[arg(long)]
    to: Option<To>,
    #[command(flatten)]
    way: Way,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Whether the tables are rewritten where they stand, or copied online.
#[derive(Args)]
struct Way {
    /// Longest time for which the tables may be locked at the end, as estimated from a sample. Above it they are copied online
    #[arg(long, value_name = "SECONDS", default_value_t = 5.0)]
    max_lock: f64,
    /// Copy the tables online, however short the lock would be
    #[arg(long)]
    online: bool,
    /// Have the swap take the tables out of publications that send the columns, whose subscribers have them of the old type
    #[arg(long)]
    unpublish: bool,
}

impl Way {
    fn options(&self) -> Result<Options, CliError> {
        let lock_max = Duration::try_from_secs_f64(self.max_lock)
            .map_err(|_| CliError::new("--max-lock is not a number of seconds"))?;
        let (online, unpublish) = (self.online, self.unpublish);
        Ok(Options {
            rate: None,
            active_max: u32::MAX,
            batch_rows: 5000,
            lock_max,
            prepare: false,
            online,
            unpublish,
        })
    }
}

/// How fast, and how far.
#[derive(Args)]
struct Speed {
    /// Rows a second at most
    #[arg(long, value_name = "ROWS")]
    rate: Option<u64>,
    /// Other sessions that may be at work in the server; while there are more, it waits, a minute for each batch at most
    #[arg(long, value_name = "SESSIONS", default_value_t = 25)]
    max_active: u32,
    /// Rows in one transaction
    #[arg(long, value_name = "ROWS", default_value_t = 5000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    batch: u32,
    #[command(flatten)]
    way: Way,
    /// Do all but the swap at the end; another start does it
    #[arg(long)]
    prepare: bool,
}

/// Convert columns in the background of a live database; run it again to go on where it was left
///
/// Fills a shadow of each table in batches, makes up for what is written meanwhile, compares a sample, and swaps in one
/// short transaction. Where that would lock for longer than --max-lock, it copies the tables instead. It can be interrupted or killed at any moment. What must change together does: the other end of
/// foreign keys, and all columns of a type that goes.
#[derive(Args)]
pub struct Start {
    #[command(flatten)]
    connection: Connection,
    /// Columns as in tags.toml: public.customers.email; none to go on with what is under way
    #[arg(value_name = "COLUMN")]
    columns: Vec<String>,
    /// Into what; without it, as the columns' domains say
    #[arg(long)]
    to: Option<To>,
    #[command(flatten)]
    speed: Speed,
}

/// Show the conversions of a database, and how far they are
#[derive(Args)]
pub struct Status {
    #[command(flatten)]
    connection: Connection,
    /// Print a JSON array
    #[arg(long)]
    json: bool,
}

/// Compare old and new cells of the conversion that is under way
#[derive(Args)]
pub struct Verify {
    #[command(flatten)]
    connection: Connection,
    /// All rows, not a sample
    #[arg(long)]
    all: bool,
}

/// Take back the conversion that is under way; leaves no trace of it
#[derive(Args)]
pub struct Cancel {
    #[command(flatten)]
    connection: Connection,
}

/// Convert back what the last conversion of these columns converted
#[derive(Args)]
pub struct Undo {
    #[command(flatten)]
    connection: Connection,
    /// Columns as in tags.toml
    #[arg(required = true, value_name = "COLUMN")]
    columns: Vec<String>,
    #[command(flatten)]
    speed: Speed,
}

impl Reseal {
    pub(super) fn run(self) -> Result<ExitCode, CliError> {
        match self {
            Reseal::Plan(command) => command.run(),
            Reseal::Start(command) => command.run(),
            Reseal::Status(command) => command.run(),
            Reseal::Verify(command) => command.run(),
            Reseal::Cancel(command) => command.run(),
            Reseal::Undo(command) => command.run(),
        }
    }
}

fn told(failure: Failure) -> CliError {
    let hint = failure.hint.or_else(|| match failure.sqlstate.as_deref() {
        Some("42501") => Some(
            "Name the connection of the tables' owner or an administrator: --database postgresql://user@host:port/database"
                .to_owned(),
        ),
        Some(code) if !code.starts_with("PV") => None,
        _ => Some("What was done is kept: pgveil reseal start goes on from here.".to_owned()),
    });
    CliError { message: failure.message, hint }
}

impl Connection {
    fn prepared(&self) -> Result<(Config, Keyring), CliError> {
        let config = self.config.load()?;
        let keyring = config.keys.keyring().map_err(|error| CliError::new(error.message).hint(error.hint))?;
        Ok((config, keyring))
    }

    async fn client(&self, config: &Config) -> Result<tokio_postgres::Client, CliError> {
        let settings = &config.settings.database;
        let connected = match &self.database {
            Some(url) => service::connect_url(settings, url, None).await,
            None => {
                let password = settings.service_password.as_ref().map(|password| password.as_str());
                service::connect(settings, &settings.service_database, &settings.service_user, password).await
            }
        };
        connected.map_err(|error| {
            CliError::new(error.message).hint("Correct the URL of --database, or [database] of proxy.toml.")
        })
    }

    async fn work<'a>(&self, config: &'a Config, keyring: &'a Keyring) -> Result<Work<'a>, CliError> {
        Work::new(self.client(config).await?, config, keyring).await.map_err(told)
    }
}

impl Plan {
    fn run(self) -> Result<ExitCode, CliError> {
        let (config, keyring) = self.connection.prepared()?;
        let options = self.way.options()?;
        let (spec, found, learnt) = block_on(async {
            let mut work = self.connection.work(&config, &keyring).await?;
            let to = self.to.map(Target::from);
            work.plan(&self.columns, to, &options).await.map_err(told)
        })?;
        let possible = found.obstacles.is_empty() && learnt.misfits.count == 0;
        if self.json {
            println!("{:#}", plan_json(&spec, &found, &learnt));
        } else {
            print_plan(&spec, &found, &learnt);
        }
        Ok(if possible { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

/// What else changes, in words.
fn consequences(found: &Dependents) -> Vec<String> {
    let mut lines = Vec::new();
    for view in &found.views {
        lines.push(format!("view {}.{} is dropped and made again", view.schema, view.name));
    }
    for index in &found.indexes {
        match index.fate {
            Fate::Remade => {
                lines.push(format!("index {} is made again with the new type's operators", index.name))
            }
            Fate::Lost => lines.push(format!(
                "index {} is dropped: it serves nothing over sealed cells ({})",
                index.name, index.definition
            )),
            Fate::Kept => {}
        }
    }
    for own in &found.publications {
        lines.push(if own.sends {
            format!("table {} leaves publication {}", own.table, own.publication)
        } else {
            format!("publication {} goes on: it does not send the columns of {}", own.publication, own.table)
        });
    }
    lines.extend(found.triggers.iter().map(|part| format!("{} is dropped and made again", part.text)));
    lines.extend(found.foreign.iter().map(|part| format!("{} is dropped and made again", part.text)));
    lines
}

/// How the tables are converted.
fn way(spec: &Spec) -> &'static str {
    if spec.is_copied() { "online copy" } else { "in place" }
}

/// What the copies take until the swap, about.
fn copy_bytes(spec: &Spec, learnt: &Rehearsal) -> u64 {
    if spec.is_copied() { learnt.table_bytes + learnt.cell_bytes } else { 0 }
}

fn plan_json(spec: &Spec, found: &Dependents, learnt: &Rehearsal) -> serde_json::Value {
    let columns: Vec<_> = spec
        .columns()
        .map(|(table, column)| {
            json!({ "column": format!("{}.{}", table.text(), column.name), "from": column.from.text(), "to": column.to.text() })
        })
        .collect();
    let tables: Vec<_> = spec
        .tables
        .iter()
        .zip(&learnt.rows)
        .map(|(table, rows)| json!({ "table": table.text(), "rows": rows }))
        .collect();
    let obstacles: Vec<_> = found
        .obstacles
        .iter()
        .map(|obstacle| json!({ "what": obstacle.what, "remedy": obstacle.remedy }))
        .collect();
    json!({
        "columns": columns, "tables": tables, "way": way(spec), "copy_bytes": copy_bytes(spec, learnt),
        "fill_seconds": learnt.fill.as_secs_f64(), "lock_seconds": learnt.lock.as_secs_f64(), "shadow_bytes": learnt.cell_bytes,
        "consequences": consequences(found), "obstacles": obstacles,
        "misfits": { "count": learnt.misfits.count, "examples": learnt.misfits.examples },
    })
}

fn print_plan(spec: &Spec, found: &Dependents, learnt: &Rehearsal) {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING).set_header(["column", "from", "to"]);
    for (of, column) in spec.columns() {
        table.add_row([format!("{}.{}", of.text(), column.name), column.from.text(), column.to.text()]);
    }
    println!("{table}\n");
    for (table, rows) in spec.tables.iter().zip(&learnt.rows) {
        println!("{}: about {rows} rows", table.text());
    }
    let (fill, lock) = (learnt.fill.as_secs_f64().max(1.0), learnt.lock.as_secs_f64());
    if spec.is_copied() {
        println!(
            "rewriting where they stand would lock for about {lock:.1} s: the tables are copied online instead\n\
             copying takes more than {fill:.0} s at full speed and about {:.0} MB; the copies take the tables' places under a \
             lock of milliseconds, with all that belongs to them",
            copy_bytes(spec, learnt) as f64 / 1e6,
        );
    } else {
        println!(
            "filling takes about {fill:.0} s at full speed and {:.0} MB; the swap locks for about {lock:.1} s",
            learnt.cell_bytes as f64 / 1e6
        );
    }
    for line in consequences(found) {
        println!("{line}");
    }
    for obstacle in &found.obstacles {
        println!("in the way: {}\n  remedy: {}", obstacle.what, obstacle.remedy);
    }
    if learnt.misfits.count > 0 {
        println!("in the way: {} values of a sample do not fit", learnt.misfits.count);
        for example in &learnt.misfits.examples {
            println!("  {example}");
        }
    }
}

impl Speed {
    fn options(&self) -> Result<Options, CliError> {
        let batch_rows = usize::try_from(self.batch).unwrap_or(5000);
        let Speed { rate, max_active: active_max, prepare, .. } = *self;
        Ok(Options { rate, active_max, batch_rows, prepare, ..self.way.options()? })
    }
}

impl Start {
    fn run(self) -> Result<ExitCode, CliError> {
        let options = self.speed.options()?;
        let (config, keyring) = self.connection.prepared()?;
        let done = block_on(async {
            let mut work = self.connection.work(&config, &keyring).await?;
            let mut shown = Shown::new();
            let done = work
                .start(&self.columns, self.to.map(Target::from), &options, &mut |now| shown.show(now))
                .await;
            shown.end();
            done.map_err(told)
        })?;
        say(&done);
        Ok(ExitCode::SUCCESS)
    }
}

impl Undo {
    fn run(self) -> Result<ExitCode, CliError> {
        let options = self.speed.options()?;
        let (config, keyring) = self.connection.prepared()?;
        let done = block_on(async {
            let mut work = self.connection.work(&config, &keyring).await?;
            let mut shown = Shown::new();
            let done = work.undo(&self.columns, &options, &mut |now| shown.show(now)).await;
            shown.end();
            done.map_err(told)
        })?;
        say(&done);
        Ok(ExitCode::SUCCESS)
    }
}

fn say(done: &Done) {
    let conversion = match done {
        Done::Prepared(id) => {
            println!("conversion {id} is ready for the swap: pgveil reseal start does it");
            return;
        }
        Done::Converted(conversion) => conversion,
    };
    for (table, column) in conversion.spec.columns() {
        println!("{}.{}: {}", table.text(), column.name, column.to.text());
    }
    if let Some(lock) = conversion.lock_ms {
        println!("the tables were locked for {lock} ms");
    }
    if !conversion.republish.is_empty() {
        println!("{}", subscribers(conversion));
    }
    for statement in &conversion.dropped {
        println!("dropped, since it serves nothing over sealed cells: {statement}");
    }
    if conversion.spec.columns().any(|(_, column)| column.to.is_sealed() && !column.from.is_sealed()) {
        println!("{LINGER}");
    }
}

/// What there is to do where a table left its publications. A subscriber that did not forget the table would not copy its rows again.
fn subscribers(conversion: &Conversion) -> String {
    let init = if conversion.spec.columns().any(|(_, column)| column.to.is_sealed()) {
        " pgveil init --database makes the types there."
    } else {
        ""
    };
    format!(
        "The tables left publications with the swap; subscribers have what was written until then, and are set up anew in three steps.\n\
         1. At each subscriber, which forgets the tables. Its own views and foreign keys over the columns are its to drop and make again.{init}\n\
         ALTER SUBSCRIPTION … REFRESH PUBLICATION;\n{};\n\
         2. Here:\n{};\n\
         3. At each subscriber, which copies the tables again:\nALTER SUBSCRIPTION … REFRESH PUBLICATION;",
        conversion.resubscribe.join(";\n"),
        conversion.republish.join(";\n"),
    )
}

/// What a conversion cannot reach.
const LINGER: &str = "\
What was written in clear before may linger: in WAL and its archive, in backups and snapshots, on replicas until they have
replayed this, in the blocks of the file system that the old table had, in materialized views and copies of your own, in
statement logs and pg_stat_statements. Statistics of the column and its dead rows are gone (VACUUM, ANALYZE were run).
Let old backups and archived WAL expire; run CHECKPOINT and trim free blocks where disks are handed on.";

impl Status {
    fn run(self) -> Result<ExitCode, CliError> {
        let config = self.connection.config.load()?;
        let all = block_on(async {
            let client = self.connection.client(&config).await?;
            state::all(&client).await.map_err(told)
        })?;
        if self.json {
            println!("{:#}", serde_json::Value::Array(all.iter().map(conversion_json).collect()));
            return Ok(ExitCode::SUCCESS);
        }
        if all.is_empty() {
            println!("no conversion is known");
            return Ok(ExitCode::SUCCESS);
        }
        let mut table = Table::new();
        table.load_style(comfy_table::presets::NOTHING);
        table.set_header(["id", "phase", "rows", "of about", "started", "way", "columns"]);
        for conversion in &all {
            table.add_row([
                conversion.id.to_string(),
                conversion.phase.name().to_owned(),
                conversion.rows_done.to_string(),
                conversion.rows_total.to_string(),
                conversion.started.clone(),
                way(&conversion.spec).to_owned(),
                conversion.spec.column_names().join("\n"),
            ]);
        }
        println!("{table}");
        Ok(ExitCode::SUCCESS)
    }
}

fn conversion_json(conversion: &Conversion) -> serde_json::Value {
    let columns = conversion.spec.columns().map(|(table, column)| {
        json!({ "column": format!("{}.{}", table.text(), column.name), "from": column.from.text(), "to": column.to.text() })
    });
    json!({
        "id": conversion.id, "phase": conversion.phase.name(), "way": way(&conversion.spec), "columns": columns.collect::<Vec<_>>(),
        "rows_done": conversion.rows_done, "rows_total": conversion.rows_total, "ratio": ratio(conversion),
        "started": conversion.started, "changed": conversion.changed, "lock_ms": conversion.lock_ms,
        "dropped": conversion.dropped, "republish": conversion.republish, "resubscribe": conversion.resubscribe,
    })
}

fn ratio(conversion: &Conversion) -> f64 {
    match conversion.phase {
        Phase::Filling if conversion.rows_total == 0 => 0.0,
        Phase::Filling => (conversion.rows_done as f64 / conversion.rows_total as f64).min(1.0),
        Phase::Swapped | Phase::Done => 1.0,
    }
}

impl Verify {
    fn run(self) -> Result<ExitCode, CliError> {
        let (config, keyring) = self.connection.prepared()?;
        let verified = block_on(async {
            let mut work = self.connection.work(&config, &keyring).await?;
            work.verify(self.all).await.map_err(told)
        })?;
        println!("{} rows have the cells of their values", verified.rows);
        Ok(ExitCode::SUCCESS)
    }
}

impl Cancel {
    fn run(self) -> Result<ExitCode, CliError> {
        let (config, keyring) = self.connection.prepared()?;
        let cancelled = block_on(async {
            let mut work = self.connection.work(&config, &keyring).await?;
            work.cancel().await.map_err(told)
        })?;
        println!("cancelled conversion {}: {}", cancelled.id, cancelled.spec.column_names().join(", "));
        Ok(ExitCode::SUCCESS)
    }
}

/// Progress on stderr: a bar for people, a line a step for files.
struct Shown {
    bar: Option<ProgressBar>,
    step: String,
    terminal: bool,
}

impl Shown {
    fn new() -> Shown {
        Shown { bar: None, step: String::new(), terminal: std::io::stderr().is_terminal() }
    }

    fn show(&mut self, now: Progress) {
        if let Progress::Filling { done, total } = now {
            self.fill(done, total);
            return;
        }
        let step = match now {
            Progress::Building { done, total } => format!("building index {} of {total}", done + 1),
            Progress::CatchingUp { .. } => "making up for what was written meanwhile".to_owned(),
            Progress::Paused(why) => format!("waiting: {why}"),
            Progress::Unseen => {
                "not watching for load and lagging replicas, which this role is not shown: GRANT pg_monitor TO it, or set --rate".to_owned()
            }
            Progress::Verifying => "comparing old and new".to_owned(),
            Progress::Locking { attempt: 1 } => "asking for the lock".to_owned(),
            Progress::Locking { .. } => {
                "asking for the lock again: other sessions hold the tables".to_owned()
            }
            Progress::Filling { .. } | Progress::Finishing => "finishing: VACUUM, ANALYZE".to_owned(),
        };
        if self.step == step {
            return;
        }
        match &self.bar {
            Some(bar) => bar.println(&step),
            None => eprintln!("{step}"),
        }
        self.step = step;
    }

    fn fill(&mut self, done: u64, total: u64) {
        if !self.terminal {
            if self.step != "filling" {
                eprintln!("filling about {total} rows");
                "filling".clone_into(&mut self.step);
            }
            return;
        }
        let bar = self.bar.get_or_insert_with(|| {
            let style = ProgressStyle::with_template(
                "{wide_bar} {human_pos} of about {human_len} rows, {per_sec}, {eta} left",
            );
            let bar =
                ProgressBar::new(total).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.with_position(done)
        });
        bar.set_length(total);
        bar.set_position(done);
    }

    fn end(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

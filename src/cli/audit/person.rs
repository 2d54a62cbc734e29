//! `pgveil audit who-saw` and `audit forget`: who saw one person, and how that question ceases to have an answer.

use super::{CliError, WhichLog, failed, fault, folder_of, open, write_out};
use crate::audit::persons::{self, FORGET_FILE, Pseudonym, Register};
use crate::audit::show::Person;
use crate::audit::verify;
use crate::audit::who_saw::{HEADINGS, Sighting, WhoSaw};
use crate::audit::writer::{Log, LogSettings, SegmentSettings};
use crate::cli::block_on;
use crate::config::table_of;
use crate::crypto::PersonHandle;
use clap::Args;
use comfy_table::{ContentArrangement, Table, presets};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Say who saw one person: a row of a table that has a record_key (tags.toml)
///
/// Prints each statement whose record names the person: when, who, by which rule, for what, how many cells of which label and how they were
/// shown. Statements of which the log does not know whom they showed are counted, and printed with --possible. Needs the log's folder
/// with its file `persons`; does not verify the log.
#[derive(Args)]
pub struct WhoSawPerson {
    #[command(flatten)]
    person: WhichPerson,
    #[command(flatten)]
    log: WhichLog,
    /// Statements, too, that may have shown the person: whom they showed is not, or not all, known
    #[arg(long)]
    possible: bool,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
}

/// Destroy the link from one person to the log's records
///
/// The records stay, and the log verifies as before; but nobody can tell any more which of them speak of the person, who is a new one
/// when seen again. That it was done is recorded, not of whom. A running proxy does it within a second or two. Old copies
/// of the file `persons` (backups, snapshots) still know: delete them, too.
#[derive(Args)]
pub struct ForgetPerson {
    #[command(flatten)]
    person: WhichPerson,
    #[command(flatten)]
    log: WhichLog,
}

/// Which person.
#[derive(Args)]
struct WhichPerson {
    /// The table, as tags.toml names it, such as public.customers
    #[arg(value_name = "TABLE")]
    table: String,
    /// The value of its record key
    #[arg(value_name = "KEY", allow_hyphen_values = true)]
    key: String,
    /// The table of this database only
    #[arg(long, value_name = "NAME")]
    database: Option<String>,
}

/// Who they are to a log.
struct Known {
    /// `schema.table`.
    table: String,
    /// By database: those of whom records may speak.
    by_database: BTreeMap<String, Vec<(PersonHandle, Pseudonym)>>,
}

impl WhichPerson {
    fn known(&self, path: &Path) -> Result<Known, CliError> {
        known(path, &self.table, &self.key, self.database.as_deref())
    }
}

/// Looks a person up, in the databases that the log speaks of unless one is given.
fn known(path: &Path, table: &str, key: &str, database: Option<&str>) -> Result<Known, CliError> {
    let (schema, name) = table_of(table).ok_or_else(|| {
        CliError::new(format!("{table} is not schema.table"))
            .hint("Write it as tags.toml does: public.customers.")
    })?;
    let register = Register::read(&folder_of(path)).map_err(fault)?;
    let databases = match database {
        Some(name) => BTreeSet::from([name.to_owned()]),
        None => databases(path)?,
    };
    let by_database = databases.into_iter().map(|database| {
        let handles = register.handles(&[database.clone(), schema.clone(), name.clone()], key);
        let known = handles.into_iter().filter_map(|handle| Some((handle, register.pseudonym(handle)?)));
        (database, known.collect::<Vec<_>>())
    });
    let by_database = by_database.filter(|(_, known)| !known.is_empty()).collect();
    Ok(Known { table: format!("{schema}.{name}"), by_database })
}

/// The databases that the log speaks of.
fn databases(path: &Path) -> Result<BTreeSet<String>, CliError> {
    let mut found = BTreeSet::new();
    let mut log = open(path)?;
    let read = verify::records(&mut log, |_, record| {
        if !record.connection.database.is_empty() && !found.contains(&record.connection.database) {
            found.insert(record.connection.database.clone());
        }
        true
    });
    read.map(|()| found).map_err(|failure| failed(failure, path, &log))
}

/// Whom `show --person` means: a pseudonym as records have it, or a table and a key.
pub(super) fn person_of(words: &[String], path: &Path) -> Result<Person, CliError> {
    let nobody = || {
        CliError::new("the log knows no such person")
            .hint("They were not seen since the table has a record_key, or forgotten.")
    };
    match words {
        [pseudonym] => {
            let pseudonym = Pseudonym::from_hex(pseudonym).ok_or_else(|| {
                CliError::new(format!("{pseudonym} is no pseudonym"))
                    .hint("Give the 32 hex digits of a record, or --person TABLE KEY.")
            })?;
            Ok(Person(BTreeSet::from([pseudonym])))
        }
        [table, key] => {
            let known = known(path, table, key, None)?;
            let pseudonyms = known.pseudonyms();
            if pseudonyms.is_empty() { Err(nobody()) } else { Ok(Person(pseudonyms)) }
        }
        _ => Err(nobody()),
    }
}

impl Known {
    fn pseudonyms(&self) -> BTreeSet<Pseudonym> {
        self.by_database.values().flatten().map(|(_, pseudonym)| *pseudonym).collect()
    }
}

impl WhoSawPerson {
    pub(super) fn run(self) -> Result<ExitCode, CliError> {
        let path = self.log.path()?;
        let known = self.person.known(&path)?;
        let mut search = WhoSaw::new(Person(known.pseudonyms()), known.table.clone(), self.person.database);
        let mut all = Vec::new();
        let mut log = open(&path)?;
        let read = verify::records(&mut log, |_, record| {
            all.extend(search.take(record));
            true
        });
        read.map_err(|failure| failed(failure, &path, &log))?;
        all.extend(search.finish());
        let possible = all.iter().filter(|sighting| !sighting.certain).count();
        all.retain(|sighting| sighting.certain || self.possible);
        let sightings = all;
        if self.json {
            write_out(|out| sightings.iter().try_for_each(|sighting| writeln!(out, "{}", sighting.json())))?;
        } else {
            print_table(&sightings)?;
        }
        if possible > 0 && !self.possible {
            let table = &known.table;
            eprintln!(
                "statements that read {table} without naming all whom they showed: {possible} (--possible)"
            );
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn print_table(sightings: &[Sighting]) -> Result<(), CliError> {
    if sightings.is_empty() {
        return write_out(|out| writeln!(out, "No record names this person."));
    }
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED).set_header(HEADINGS);
    if let Some(columns) = crate::cli::terminal_columns() {
        table.set_content_arrangement(ContentArrangement::Dynamic).set_width(columns);
    }
    sightings.iter().for_each(|sighting| {
        table.add_row(sighting.row());
    });
    write_out(|out| writeln!(out, "{table}"))
}

/// So long a running proxy is waited for.
const PATIENCE: Duration = Duration::from_secs(10);
const LOOK_AGAIN: Duration = Duration::from_millis(100);

impl ForgetPerson {
    pub(super) fn run(self) -> Result<ExitCode, CliError> {
        let path = self.log.path()?;
        let folder = folder_of(&path);
        let known = self.person.known(&path)?;
        let mut databases = known.by_database.iter();
        let Some((_, person)) = databases.next() else {
            write_out(|out| writeln!(out, "The log knows no such person: there is nothing to forget."))?;
            return Ok(ExitCode::SUCCESS);
        };
        if databases.next().is_some() {
            let names: Vec<&str> = known.by_database.keys().map(String::as_str).collect();
            let message = format!("there is such a person in each of the databases {}", names.join(", "));
            return Err(CliError::new(message).hint("Say which one is meant: --database NAME."));
        }
        let handles: Vec<PersonHandle> = person.iter().map(|(handle, _)| *handle).collect();
        persons::ask_to_forget(&folder, &known.table, &handles).map_err(fault)?;
        carried_out(&folder)?;
        write_out(|out| writeln!(out, "Forgotten: no record of the log leads to this person any more."))?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Has the request carried out: by the proxy that has the log open, else here.
fn carried_out(folder: &Path) -> Result<(), CliError> {
    let request = folder.join(FORGET_FILE);
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut settings = LogSettings::new(folder);
        // Segments are the proxy's to end.
        let century = Duration::from_secs(100 * 366 * 24 * 3600);
        settings.segments = SegmentSettings { bytes: u64::MAX, age: century, ..SegmentSettings::default() };
        let now = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_micros() as i64);
        let why = match Log::open(settings, Arc::new(now)) {
            Ok(log) => {
                let asked = block_on(async { log.forget().await.map_err(|why| CliError::new(why.0)) });
                asked.err().map_or_else(String::new, |error| error.message)
            }
            Err(fault) => fault.message,
        };
        if !request.exists() {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(CliError::new(format!("the person is not forgotten yet: {why}")).hint(
                "The request stays in the folder: the running proxy, or the next that starts, carries it out, and records it.",
            ));
        }
        std::thread::sleep(LOOK_AGAIN);
    }
}

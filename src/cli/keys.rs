//! `pgveil keys`: makes what is missing of the key files, lists what the keyring holds, and changes it (`rotate`).
//!
//! Guarantees: a key that exists is never replaced, and none is ever printed but in shares (`shares`) or sealed (`escrow`), to who asks for it; a keyring whose master key is missing stops
//! the command instead of getting a new one. Deliberately absent: preparing the database (`init`), converting (`reseal`).

mod escrow;
mod rotate;
pub(super) mod shares;

use super::{CliError, ConfigDir, block_on};
use crate::audit::pending::{self, Deed};
use crate::catalog::Seal;
use crate::config::keys::{KeySettings, KeysUnusable, MasterKeySource};
use crate::config::{Config, PROXY};
use crate::crypto::keyring::{DEFAULT_KEY, KeySummary, Keyring, MasterKey};
use crate::crypto::provider::SystemRandom;
use crate::crypto::provider::file::{self, FileError};
use crate::reseal::in_use::InUse;
use clap::{Args, Subcommand};
use comfy_table::Table;
use std::io::ErrorKind;
use std::process::ExitCode;
use std::sync::Arc;

/// The data keys, and the ids of domains
#[derive(Subcommand)]
pub enum Keys {
    Init(Init),
    List(List),
    Rotate(rotate::Rotate),
    Retire(rotate::Retire),
    Rewrap(rotate::Rewrap),
    Split(shares::Split),
    Recover(shares::Recover),
    Export(escrow::Export),
    Import(escrow::Import),
}

/// Make what is missing: master key, keyring, and in it a key and an id for each domain of policy.toml
///
/// The master key is made only where [keys] names no other (master_key_file, mode 0600). `pgveil init` does this too, and
/// prepares the database; use this one to make keys where no database is at hand.
#[derive(Args)]
pub struct Init {
    #[command(flatten)]
    config: ConfigDir,
}

/// List the data keys: their versions, when each was made, and the domains that use them
///
/// With --database also the columns whose cells carry each version, and how many do: they are counted.
#[derive(Args)]
pub struct List {
    #[command(flatten)]
    config: ConfigDir,
    /// The connection of the tables' owner or an administrator, whose database's cells are counted
    #[arg(long, value_name = "URL")]
    database: Option<String>,
    /// Print a JSON array: name, versions (version, created; with --database also columns), domains (name, id; null
    /// before `init` has given one)
    #[arg(long)]
    json: bool,
}

impl Keys {
    pub(super) fn run(self) -> Result<ExitCode, CliError> {
        match self {
            Keys::Init(command) => command.run(),
            Keys::List(command) => command.run(),
            Keys::Rotate(command) => command.run(),
            Keys::Retire(command) => command.run(),
            Keys::Rewrap(command) => command.run(),
            Keys::Split(command) => command.run(),
            Keys::Recover(command) => command.run(),
            Keys::Export(command) => command.run(),
            Keys::Import(command) => command.run(),
        }?;
        Ok(ExitCode::SUCCESS)
    }
}

impl Init {
    fn run(self) -> Result<(), CliError> {
        let config = self.config.load_unprepared()?;
        let mut made = false;
        ensure(&config, |line| {
            made = true;
            println!("{line}");
        })?;
        if !made {
            println!("nothing to do: everything is there");
        }
        Ok(())
    }
}

impl List {
    fn run(self) -> Result<(), CliError> {
        let config = self.config.load_unprepared()?;
        if !config.keys.path.exists() {
            return Err(CliError::new(format!("there is no keyring {}", config.keys.path.display()))
                .hint(format!("Run: pgveil keys init; or correct [keys] of {PROXY}.")));
        }
        let keyring = config.keys.keyring().map_err(unusable)?;
        let keys = listed(&config, &keyring);
        let counted = match &self.database {
            None => None,
            Some(url) => Some(block_on(rotate::counted(&config, &keyring, url, None))?),
        };
        if self.json {
            let list = keys.iter().map(|key| key.json(counted.as_deref())).collect();
            println!("{}", serde_json::Value::Array(list));
            return Ok(());
        }
        let mut table = Table::new();
        table.load_style(comfy_table::presets::NOTHING);
        let header = ["key", "version", "created", "domains", "columns"];
        table.set_header(&header[..if counted.is_some() { 5 } else { 4 }]);
        for key in &keys {
            for version in &key.versions {
                let row = [&key.name, &version.version.to_string(), &moment(version), &key.domains_text()];
                let mut row: Vec<String> = row.into_iter().cloned().collect();
                row.extend(counted.as_deref().map(|counted| key.columns_text(version.version, counted)));
                table.add_row(row);
            }
        }
        println!("{table}");
        Ok(())
    }
}

/// One data key, and what uses it.
struct Listed<'a> {
    name: String,
    versions: Vec<KeySummary>,
    domains: Vec<(&'a str, Option<u16>)>,
}

impl Listed<'_> {
    fn domains_text(&self) -> String {
        let one = |(name, id): &(&str, Option<u16>)| match id {
            Some(id) => format!("{name} ({id})"),
            None => format!("{name} (no id yet)"),
        };
        self.domains.iter().map(one).collect::<Vec<_>>().join(", ")
    }

    /// The columns whose cells carry a version of this key.
    fn columns<'c>(&self, version: u16, counted: &'c [InUse]) -> impl Iterator<Item = &'c InUse> {
        counted.iter().filter(move |found| found.key == self.name && found.version == version)
    }

    fn columns_text(&self, version: u16, counted: &[InUse]) -> String {
        let columns =
            self.columns(version, counted).map(|found| format!("{} ({})", found.column, found.cells));
        columns.collect::<Vec<_>>().join("\n")
    }

    fn json(&self, counted: Option<&[InUse]>) -> serde_json::Value {
        let version = |key: &KeySummary| {
            let mut one = serde_json::json!({ "version": key.version, "created": moment(key) });
            if let Some(counted) = counted {
                let columns = self.columns(key.version, counted);
                let columns =
                    columns.map(|found| serde_json::json!({ "column": found.column, "cells": found.cells }));
                one["columns"] = columns.collect();
            }
            one
        };
        let domain = |(name, id): &(&str, Option<u16>)| serde_json::json!({ "name": name, "id": id });
        serde_json::json!({
            "name": self.name,
            "versions": self.versions.iter().map(version).collect::<Vec<_>>(),
            "domains": self.domains.iter().map(domain).collect::<Vec<_>>(),
        })
    }
}

/// When a version was made, RFC 3339 in UTC.
fn moment(key: &KeySummary) -> String {
    jiff::Timestamp::from_second(key.created).map_or_else(|_| "unknown".to_owned(), |time| time.to_string())
}

fn listed<'a>(config: &'a Config, keyring: &Keyring) -> Vec<Listed<'a>> {
    let mut keys: Vec<Listed<'a>> = Vec::new();
    for version in keyring.key_versions() {
        match keys.last_mut() {
            Some(key) if key.name == version.name => key.versions.push(version),
            _ => {
                let domains = config.policy.domains.iter();
                let domains =
                    domains.filter(|domain| domain.seal != Seal::None && domain.key == version.name);
                let id = |name: &str| keyring.domain_id(name).map(|id| id.0);
                let domains = domains.map(|domain| (domain.name.as_str(), id(&domain.name))).collect();
                keys.push(Listed { name: version.name.clone(), versions: vec![version], domains });
            }
        }
    }
    keys
}

/// Has the log's writer record what is about to be done with keys; where there is no log, nobody does.
fn leave_word(config: &Config, deed: impl FnOnce(String) -> Deed) -> Result<(), CliError> {
    let deed = deed(jiff::Timestamp::now().to_string());
    let left = pending::leave(&config.settings.audit.folder, &deed);
    left.map(|_| ()).map_err(|fault| CliError { message: fault.message, hint: fault.hint })
}

fn unusable(error: KeysUnusable) -> CliError {
    CliError::new(error.message).hint(error.hint)
}

/// Makes master key and keyring, and in it what the policy names; `say` hears of each thing made. Of several processes
/// that do this at once one makes things, and the others find them.
///
/// # Errors
/// A key file that cannot be read or written, or a keyring without its master key: nothing was replaced.
pub(super) fn ensure(config: &Config, mut say: impl FnMut(String)) -> Result<Keyring, CliError> {
    let path = &config.keys.path;
    if path.exists() {
        ensure_master_key(&config.keys)?;
        let mut keyring = config.keys.keyring().map_err(unusable)?;
        // A folder that holds everything may be one that we cannot write to.
        if complete(config, &mut keyring)?.is_empty() {
            return Ok(keyring);
        }
    }
    let lock = file::lock(path).map_err(cannot_write)?;
    // From here on everything is looked at again: another process may have made it.
    if let Some(line) = ensure_master_key(&config.keys)? {
        say(line);
    }
    let is_new = !path.exists();
    let (mut keyring, master) = if is_new {
        let mut keyring = Keyring::create();
        let master = first_master_key(&config.keys, &mut keyring, &mut say)?;
        (keyring, master)
    } else {
        (config.keys.keyring().map_err(unusable)?, config.keys.master_key().map_err(unusable)?)
    };
    let news = complete(config, &mut keyring)?;
    if is_new {
        file::create(path, &keyring, &master).map_err(cannot_write)?;
        say(format!("made the keyring {}", path.display()));
    } else if !news.is_empty() {
        file::save(&lock, &keyring, &master).map_err(cannot_write)?;
    }
    news.into_iter().for_each(say);
    Ok(keyring)
}

pub(super) fn cannot_write(error: FileError) -> CliError {
    let there =
        matches!(&error, FileError::Write { source, .. } if source.kind() == ErrorKind::AlreadyExists);
    CliError::new(error.to_string()).hint(if there {
        "Another process made it meanwhile; run the command again."
    } else {
        "The user of this command needs to write to its folder."
    })
}

/// Gives the keyring what the policy names and it lacks, and says what that was.
fn complete(config: &Config, keyring: &mut Keyring) -> Result<Vec<String>, CliError> {
    let mut news = Vec::new();
    let now = jiff::Timestamp::now().as_second();
    let sealed = config.policy.domains.iter().filter(|domain| domain.seal != Seal::None);
    let names = std::iter::once(DEFAULT_KEY).chain(sealed.clone().map(|domain| domain.key.as_str()));
    for name in names {
        if keyring.ensure_key(name, now, &mut SystemRandom) {
            news.push(format!("made data key \"{name}\""));
        }
    }
    for domain in sealed {
        if keyring.ensure_domain(&domain.name).map_err(|error| CliError::new(error.to_string()))? {
            news.push(format!("gave domain \"{}\" an id", domain.name));
        }
    }
    Ok(news)
}

/// For a keyring that is to be made: a provider gets a new one to wrap, for there is nowhere else that it could be.
fn first_master_key(
    keys: &KeySettings,
    keyring: &mut Keyring,
    say: &mut impl FnMut(String),
) -> Result<Arc<MasterKey>, CliError> {
    match keys.new_wrapped_key(keyring).map_err(unusable)? {
        Some(master) => {
            say("made a master key, wrapped by the provider's key: back that one up, too".to_owned());
            Ok(master)
        }
        None => keys.master_key().map_err(unusable),
    }
}

/// Only where no keyring could be wrapped by another one.
fn ensure_master_key(keys: &KeySettings) -> Result<Option<String>, CliError> {
    let MasterKeySource::File(path) = &keys.master_key else { return Ok(None) };
    if path.exists() {
        return Ok(None);
    }
    if keys.path.exists() {
        return Err(CliError::new(format!(
            "the keyring {} is there, but not its master key {}",
            keys.path.display(),
            path.display()
        ))
        .hint("Put the master key back, or name it by keys.master_key: without it the keyring cannot be opened."));
    }
    let text = MasterKey::generate(&mut SystemRandom).text();
    file::create_private(path, text.as_bytes()).map_err(cannot_write)?;
    Ok(Some(format!("made the master key {}: keep a copy elsewhere", path.display())))
}

//! `pgveil keys rotate`, `retire`, `rewrap`: new versions of data keys, old ones forgotten, another master key.
//!
//! Guarantees: the keyring is replaced whole, under its lock; a version is forgotten only when every database of the
//! server was counted and no cell carries it; the log is told before the keyring changes; no key is an argument. Deliberately absent: converting cells (`reseal`).

use super::{cannot_write, leave_word, unusable};
use crate::audit::pending::Deed;
use crate::catalog::Seal;
use crate::cli::{CliError, ConfigDir, block_on};
use crate::config::keys::KeySettings;
use crate::config::{Config, PROXY, load_keys};
use crate::crypto::KeyVersion;
use crate::crypto::keyring::{Keyring, MasterKey};
use crate::crypto::provider::{SystemRandom, file};
use crate::reseal::in_use::{InUse, in_use};
use crate::server::service;
use clap::Args;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use zeroize::Zeroizing;

/// Make a new version of a data key
///
/// New cells of randomized domains are sealed with it as soon as proxies have read the keyring again (SIGHUP); cells that
/// are there name their version and are opened as before. Deterministic domains have one version at a time: pgveil reseal
/// start converts their columns.
#[derive(Args)]
pub struct Rotate {
    #[command(flatten)]
    config: ConfigDir,
    /// The key's name, as `keys list` has it
    name: String,
}

/// Forget a version of a data key that no cell carries any more
///
/// All cells of all databases of the server are counted first. What was sealed with the version elsewhere (backups,
/// other servers) cannot be opened afterwards.
#[derive(Args)]
pub struct Retire {
    #[command(flatten)]
    config: ConfigDir,
    /// The key's name
    name: String,
    /// The version
    version: u16,
    /// An administrator's connection, used once: postgresql://user@host:port/database. The password may come from
    /// PGPASSWORD instead
    #[arg(long, value_name = "URL", env = "PGVEIL_DATABASE_URL", hide_env_values = true)]
    database: String,
}

/// Wrap the keyring with another master key
///
/// The new one (32 bytes in hexadecimal or base64) comes from a file of mode 0600 or from PGVEIL_NEW_MASTER_KEY; where neither is
/// given and proxy.toml names a provider that wraps master keys (pkcs11, aws_kms, vault), it is made and given to that. The old one
/// is the one of proxy.toml, unless a file or PGVEIL_OLD_MASTER_KEY has it, or another file like it says who does: so a keyring
/// comes to a provider that proxy.toml names already. No data key changes, so that running proxies go on; proxy.toml must name the
/// new master key before they are started again.
#[derive(Args)]
pub struct Rewrap {
    #[command(flatten)]
    config: ConfigDir,
    /// The file with the new master key
    #[arg(long, value_name = "FILE")]
    new_master_key_file: Option<PathBuf>,
    /// The file with the old master key
    #[arg(long, value_name = "FILE")]
    old_master_key_file: Option<PathBuf>,
    /// A file like proxy.toml (a copy of it as it was) whose [keys] has the provider that keeps the old master key
    #[arg(long, value_name = "FILE", conflicts_with = "old_master_key_file")]
    old_config: Option<PathBuf>,
}

/// The environment variables with a new master key, and an old one.
const NEW_MASTER_KEY: &str = "PGVEIL_NEW_MASTER_KEY";
const OLD_MASTER_KEY: &str = "PGVEIL_OLD_MASTER_KEY";

/// The keyring under its lock, changed and written.
fn change<T>(
    config: &Config,
    change: impl FnOnce(&mut Keyring) -> Result<T, CliError>,
) -> Result<(T, Keyring), CliError> {
    let lock = file::lock(&config.keys.path).map_err(cannot_write)?;
    let master = config.keys.master_key().map_err(unusable)?;
    let mut keyring = config.keys.keyring().map_err(unusable)?;
    let changed = change(&mut keyring)?;
    file::save(&lock, &keyring, &master).map_err(cannot_write)?;
    Ok((changed, keyring))
}

/// What is recorded of a change.
fn changed(key: &str, change: String) -> impl FnOnce(String) -> Deed {
    let key = key.to_owned();
    |at| Deed::Change { at, key, change }
}

fn refused(error: crate::crypto::keyring::KeyringError) -> CliError {
    CliError::new(error.to_string()).hint("See: pgveil keys list")
}

impl Rotate {
    pub(super) fn run(self) -> Result<(), CliError> {
        let config = self.config.load_unprepared()?;
        let now = jiff::Timestamp::now().as_second();
        let (version, _) = change(&config, |keyring| {
            let version = keyring.rotate(&self.name, now, &mut SystemRandom).map_err(refused)?;
            leave_word(&config, changed(&self.name, format!("version {} made", version.0)))?;
            Ok(version)
        })?;
        println!("made version {} of data key \"{}\"", version.0, self.name);
        println!(
            "send every proxy a SIGHUP now: one that has not read the keyring again cannot open what others seal with it"
        );
        let own = config.policy.domains.iter().filter(|domain| domain.key == self.name);
        for domain in own {
            match domain.seal {
                Seal::None => {}
                Seal::Randomized => {
                    println!(
                        "domain {}: new cells have it; pgveil reseal start converts those that are there",
                        domain.name
                    );
                }
                Seal::Deterministic => {
                    let tags = config.tags.tags.iter().filter(|tag| tag.domain.name == domain.name);
                    let column =
                        tags.map(|tag| format!("{}.{}.{}", tag.schema, tag.table, tag.column)).next();
                    let column = column.unwrap_or_else(|| "COLUMN".to_owned());
                    println!(
                        "domain {}: stays at its version until it is converted: pgveil reseal start {column}",
                        domain.name
                    );
                }
            }
        }
        Ok(())
    }
}

impl Retire {
    pub(super) fn run(self) -> Result<(), CliError> {
        let config = self.config.load_unprepared()?;
        let version = KeyVersion(self.version);
        let ((), _) = change(&config, |keyring| {
            keyring.may_retire(&self.name, version).map_err(refused)?;
            let found = block_on(everywhere(&config, keyring, &self.database))?;
            let carried: Vec<String> = found
                .iter()
                .filter(|found| found.key == self.name && found.version == self.version)
                .map(|found| format!("{} ({} cells)", found.column, found.cells))
                .collect();
            if !carried.is_empty() {
                return Err(CliError::new(format!(
                    "version {} of key \"{}\" is still carried by {}",
                    self.version,
                    self.name,
                    carried.join(", ")
                ))
                .hint("Convert them first: pgveil reseal start COLUMN."));
            }
            keyring.retire(&self.name, version).map_err(refused)?;
            leave_word(&config, changed(&self.name, format!("version {} forgotten", self.version)))
        })?;
        println!("forgot version {} of data key \"{}\": no cell carried it", self.version, self.name);
        Ok(())
    }
}

impl Rewrap {
    pub(super) fn run(self) -> Result<(), CliError> {
        let config = self.config.load_unprepared()?;
        let (new, old) = (&self.new_master_key_file, &self.old_master_key_file);
        let new = given(new.as_deref(), NEW_MASTER_KEY, "Make one with: openssl rand -hex 32 (mode 0600).")?;
        let old = given(old.as_deref(), OLD_MASTER_KEY, "It is the one that wrapped the keyring.")?;
        let path = &config.keys.path;
        let lock = file::lock(path).map_err(cannot_write)?;
        let mut keyring = match (&old, &self.old_config) {
            (_, Some(file)) => {
                let old = load_keys(file).map_err(|mistakes| CliError::from_mistakes(&mistakes))?;
                // How it is opened is said there; which one it is, here.
                KeySettings { path: path.clone(), ..old }.keyring().map_err(unusable)?
            }
            (Some(old), None) => file::load(path, old).map_err(|error| {
                CliError::new(error.to_string()).hint("Give the master key that wrapped the keyring.")
            })?,
            (None, None) => config.keys.keyring().map_err(unusable)?,
        };
        // Nothing is asked of a provider before the keyring is open.
        let (new, is_given) = match new {
            Some(new) => (Arc::new(new), true),
            None => {
                let kept = config.keys.new_wrapped_key(&mut keyring).map_err(unusable)?;
                (kept.ok_or_else(none_given)?, false)
            }
        };
        leave_word(&config, changed("", "master key replaced".to_owned()))?;
        file::save(&lock, &keyring, &new).map_err(cannot_write)?;
        println!("wrapped {} with the new master key", path.display());
        if is_given {
            println!(
                "name it in [keys] of {PROXY} now (master_key or master_key_file): the old one does not open the keyring any more"
            );
        } else {
            println!("the provider of [keys] keeps it: the old one does not open the keyring any more");
        }
        Ok(())
    }
}

fn none_given() -> CliError {
    CliError::new("no new master key is given")
        .hint(format!("Name its file by --new-master-key-file, or set {NEW_MASTER_KEY}."))
}

/// A master key from a file, else from an environment variable.
fn given(path: Option<&Path>, variable: &str, hint: &str) -> Result<Option<MasterKey>, CliError> {
    match (path, std::env::var(variable)) {
        (Some(path), _) => {
            let read = file::read_master_key(path);
            read.map(Some).map_err(|error| CliError::new(error.to_string()).hint(hint))
        }
        (None, Ok(text)) => {
            let read = MasterKey::parse(&Zeroizing::new(text));
            read.map(Some).map_err(|error| CliError::new(format!("{variable}: {error}")).hint(hint))
        }
        (None, Err(_)) => Ok(None),
    }
}

/// The cells of one database: the URL's, or `database` on the same server.
pub(super) async fn counted(
    config: &Config,
    keyring: &Keyring,
    url: &str,
    database: Option<&str>,
) -> Result<Vec<InUse>, CliError> {
    let connected = service::connect_url(&config.settings.database, url, database).await;
    let client = connected.map_err(|error| {
        CliError::new(error.message)
            .hint("Correct the URL of --database: cells that cannot be read cannot be counted.")
    })?;
    let count = async {
        client.batch_execute("SET search_path = ''; SET row_security = off").await?;
        in_use(&client, config, keyring).await
    };
    count.await.map_err(|failure| CliError { message: failure.message, hint: failure.hint })
}

/// Those of every database of the server.
async fn everywhere(config: &Config, keyring: &Keyring, url: &str) -> Result<Vec<InUse>, CliError> {
    let client = service::connect_url(&config.settings.database, url, None).await;
    let client =
        client.map_err(|error| CliError::new(error.message).hint("Correct the URL of --database."))?;
    let names = service::databases(&client).await.map_err(|error| CliError::new(error.message))?;
    let mut found = Vec::new();
    for name in names {
        let own = counted(config, keyring, url, Some(&name)).await?;
        found.extend(own.into_iter().map(|one| InUse { column: format!("{name}: {}", one.column), ..one }));
    }
    Ok(found)
}

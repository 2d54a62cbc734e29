//! `pgveil init`: makes what is missing, in the folder and in the database, and says what it made.
//!
//! Guarantees: run again it makes nothing; nothing that exists is overwritten, a master key least of all. Deliberately
//! absent: changing what exists (`keys`, `users` and `reseal` do).

use super::{CliError, ConfigDir, block_on, keys};
use crate::audit::keys::ensure_keys;
use crate::catalog::build::sealed_type_name;
use crate::catalog::{Domain, Seal};
use crate::config::keys::mode;
use crate::config::{self, Config, users};
use crate::crypto::keyring::Keyring;
use crate::crypto::provider::{SystemRandom, file};
use crate::crypto::shares::Quorum;
use crate::crypto::{KeyVersion, Random, envelope};
use crate::server::prepare::{self, WantedRole, WantedType};
use crate::server::prepare_ledger;
use crate::server::service::{self, ServiceError};
use crate::server::settings::{AuthSource, DatabaseSettings};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::Args;
use std::fs::{DirBuilder, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::process::ExitCode;
use tokio_postgres::Client;
use zeroize::Zeroizing;

/// Make what is missing: example files, keys, and the database's schema and types
///
/// Writes the commented example files that are missing, the keyring (and, when no master key is set, master.key), the
/// audit signing key; then prepares a database: schema pgveil, one type for each sealed domain of policy.toml, the
/// service user, with auth.source = "database" the look-up function, and where a rule has a second factor or limits an hour's
/// or a day's rows the ledger that all proxies share. Safe to run again, and to be run again after
/// tags or policy changed, and once for each database with tagged tables.
#[derive(Args)]
pub struct Init {
    #[command(flatten)]
    config: ConfigDir,
    /// An administrator's connection, used once: postgresql://user:password@host:port/database. Without it the service
    /// user's connection to [database] service_database is used. The password may come from PGPASSWORD instead
    #[arg(long, value_name = "URL", env = "PGVEIL_DATABASE_URL", hide_env_values = true)]
    database: Option<String>,
    /// Print the master key in shares, too, any K of N of which make it again (as keys split does)
    #[arg(long, value_name = "K/N", value_parser = keys::shares::quorum)]
    split: Option<Quorum>,
}

/// The example files, and their modes.
const EXAMPLES: [(&str, &str, u32); 4] = [
    (config::PROXY, include_str!("../../config/proxy.toml"), 0o644),
    (config::TAGS, include_str!("../../config/tags.toml"), 0o644),
    (config::POLICY, include_str!("../../config/policy.toml"), 0o644),
    (config::USERS, users::EXAMPLE, 0o600),
];

impl Init {
    pub(super) fn run(self) -> Result<ExitCode, CliError> {
        let dir = &self.config.dir;
        let mut made = write_examples(dir, self.database.as_deref())?;
        let config = self.config.load_unprepared()?;
        let keyring = keys::ensure(&config, |line| say(&mut made, line))?;
        let audit = ensure_keys(&config.settings.audit.folder);
        let audit = audit.map_err(|fault| CliError { message: fault.message, hint: fault.hint })?;
        if audit.created {
            say(&mut made, format!("made the audit signing key {}", audit.signing_key.display()));
        }
        made |= block_on(database(&config, &keyring, self.database.as_deref()))?;
        if !made {
            println!("nothing to do: everything is there");
        }
        if let Some(quorum) = self.split {
            keys::shares::print(&config, quorum)?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn say(made: &mut bool, what: String) {
    *made = true;
    println!("{what}");
}

fn file_error(path: &Path, error: &std::io::Error) -> CliError {
    CliError::new(format!("cannot write {}: {error}", path.display()))
}

/// Writes each example that is missing; a new proxy.toml names the database of `url`.
fn write_examples(dir: &Path, url: Option<&str>) -> Result<bool, CliError> {
    let mut made = false;
    DirBuilder::new().recursive(true).mode(0o755).create(dir).map_err(|error| file_error(dir, &error))?;
    for (name, text, mode) in EXAMPLES {
        let path = dir.join(name);
        let text = match url.and_then(service::address_of) {
            Some(address) if name == config::PROXY => {
                text.replacen("address = \"127.0.0.1:5432\"", &format!("address = \"{address}\""), 1)
            }
            _ => text.to_owned(),
        };
        let opened = OpenOptions::new().write(true).create_new(true).mode(mode).open(&path);
        match opened.and_then(|mut file| file.write_all(text.as_bytes())) {
            Ok(()) => say(&mut made, format!("wrote {}: edit it", path.display())),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(file_error(&path, &error)),
        }
    }
    Ok(made)
}

/// Prepares the database; true when something was made.
async fn database(config: &Config, keyring: &Keyring, url: Option<&str>) -> Result<bool, CliError> {
    let settings = &config.settings.database;
    let mut made = false;
    let connected = match url {
        Some(url) => service::connect_url(settings, url, None).await,
        None => {
            let password = settings.service_password.as_ref().map(|password| password.as_str());
            service::connect(settings, &settings.service_database, &settings.service_user, password).await
        }
    };
    let mut client = connected.map_err(|error| explain(error, url))?;
    let explain = |error| explain(error, url);
    let password = match url {
        Some(_) => service_user(&mut client, settings, &mut made).await?,
        None => settings.service_password.clone(),
    };
    let present = prepare::present_types(&client).await.map_err(explain)?;
    let domains = config.policy.domains.iter();
    let wanted: Vec<WantedType> =
        domains.filter_map(|domain| wanted_type(domain, keyring, &present)).collect();
    for line in prepare::types(&mut client, &wanted).await.map_err(explain)? {
        say(&mut made, line);
    }
    let (looked_up, ledger) = (config.settings.auth == AuthSource::Database, config.policy.needs_ledger());
    if looked_up || ledger {
        // Log-ins are looked up in one database, whichever they are for; and there all proxies count together.
        let mut client = match url {
            Some(url) => service::connect_url(settings, url, Some(&settings.service_database))
                .await
                .map_err(explain)?,
            None => client,
        };
        let mut lines = Vec::new();
        if looked_up {
            lines.extend(prepare::look_up(&mut client, &settings.service_user).await.map_err(explain)?);
        }
        if ledger {
            lines.extend(prepare_ledger::ledger(&mut client, &settings.service_user).await.map_err(explain)?);
        }
        lines.into_iter().for_each(|line| say(&mut made, line));
    }
    if url.is_some() {
        let settings = DatabaseSettings { service_password: password, ..settings.clone() };
        service::service(&settings, &settings.service_database).await.map_err(|error| {
            CliError::new(error.message)
                .hint("The service user is there; correct its password in [database], or pg_hba.conf of the server.")
        })?;
    }
    Ok(made)
}

fn explain(error: ServiceError, url: Option<&str>) -> CliError {
    let hint = match (error.sqlstate.as_deref(), url) {
        // insufficient_privilege; and no connection at all, or one refused.
        (Some("42501") | None, None) | (Some("28P01" | "28000" | "3D000"), None) => {
            "Name an administrator's connection, used once: --database postgresql://user:password@host:port/database"
        }
        (Some("42501"), Some(_)) => {
            "The user of the URL needs CREATE on the database, CREATEROLE to make the service user, \
                                     and superuser for auth.source = \"database\"."
        }
        _ => "Correct the URL, or [database] of proxy.toml.",
    };
    CliError::new(error.message).hint(hint)
}

/// Makes the service user when it is missing, with the configured password or a new one that goes to the configured
/// file first: a role whose password nobody has would be of no use.
async fn service_user(
    client: &mut Client,
    settings: &DatabaseSettings,
    made: &mut bool,
) -> Result<Option<Zeroizing<String>>, CliError> {
    let explain = |error| explain(error, Some(""));
    let there = prepare::has_role(client, &settings.service_user).await.map_err(explain)?;
    let password = match (&settings.service_password, &settings.service_password_file) {
        (Some(password), _) => Some(password.clone()),
        (None, Some(path)) if there => {
            return Err(CliError::new(format!(
                "role {} is there, but {} with its password is not",
                settings.service_user,
                path.display()
            ))
            .hint("Write its password into that file (mode 0600); or name another service_user."));
        }
        (None, Some(path)) => Some(new_password(path, made)?),
        (None, None) => None,
    };
    let verifier = password.as_ref().filter(|_| !there).map(|password| users::make(password).text());
    let role = WantedRole { name: settings.service_user.clone(), verifier };
    for line in prepare::role(client, &role).await.map_err(explain)? {
        say(made, line);
    }
    Ok(password)
}

fn new_password(path: &Path, made: &mut bool) -> Result<Zeroizing<String>, CliError> {
    let mut bytes = Zeroizing::new([0; 24]);
    SystemRandom.fill(bytes.as_mut());
    let password = Zeroizing::new(URL_SAFE_NO_PAD.encode(bytes.as_ref()));
    let line = Zeroizing::new(format!("{}\n", password.as_str()));
    file::create_private(path, line.as_bytes()).map_err(keys::cannot_write)?;
    say(made, format!("made a password for the service user: {}", path.display()));
    Ok(password)
}

/// The type that a domain needs. A deterministic domain has one key version at a time: the one that the database has,
/// else the newest. `None` for a domain stored in clear (and for one that `keys::ensure` did not see, which is none).
fn wanted_type(domain: &Domain, keyring: &Keyring, present: &[String]) -> Option<WantedType> {
    let mode = mode(domain)?;
    let id = keyring.domain_id(&domain.name)?;
    let there = present.iter().filter_map(|name| {
        let version = name.strip_prefix(&domain.name)?.strip_prefix('_')?.parse().ok()?;
        (sealed_type_name(domain, version)? == *name).then_some(KeyVersion(version))
    });
    let version = there.max().or_else(|| keyring.current_version(&domain.key))?;
    let header = envelope::header(mode, id, version);
    // Randomized cells carry their version and rotate freely, so their type asks for format, mode and domain only.
    let fixed = if domain.seal == Seal::Randomized { header.get(..3)? } else { &header[..] };
    Some(WantedType {
        name: sealed_type_name(domain, version.0)?,
        header: fixed.to_vec(),
        bytes_min: envelope::overhead(mode),
    })
}

//! `pgveil upstream`: passwords of roles in the database, by which pgveil logs in for users who prove none.
//!
//! Guarantees: a password is asked for, read from a file, or made here and shown to nobody; it is kept sealed under a key of the
//! keyring, for its own role only, and never printed. Deliberately absent: who logs in as which role (`[[auth.method]]` of proxy.toml).

use super::users::{change, connect, explain, password, read};
use super::{CliError, ConfigDir, block_on};
use crate::config::users::{self, credential_names};
use crate::config::{Config, USERS};
use crate::crypto::Random;
use crate::crypto::provider::SystemRandom;
use crate::server::prepare;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::{Args, Subcommand};
use comfy_table::Table;
use std::path::PathBuf;
use std::process::ExitCode;
use zeroize::Zeroizing;

/// The database's roles for users who log in by certificate or token
#[derive(Subcommand)]
pub enum Upstream {
    Set(Set),
    List(List),
    Remove(Remove),
}

/// Keep the password of a role in the database
///
/// Users who log in by a certificate or a token prove no password, so pgveil logs in to the database for them, as the role that their
/// [[auth.method]] names (their own name unless it does). users.toml keeps the role's password sealed under a key of the keyring. A
/// running proxy learns of it by SIGHUP.
#[derive(Args)]
pub struct Set {
    /// The role's name in PostgreSQL
    role: String,
    #[command(flatten)]
    config: ConfigDir,
    /// The file whose first line is the password; without it the password is asked for
    #[arg(long, value_name = "FILE", conflicts_with = "generate")]
    password_file: Option<PathBuf>,
    /// Make a password that nobody knows; the role is given it in PostgreSQL (needs --database)
    #[arg(long, requires = "database")]
    generate: bool,
    /// An administrator's connection, used once: gives the role this password in PostgreSQL (CREATE ROLE … LOGIN, or ALTER ROLE). Without
    /// it PostgreSQL is left alone, and the password must be the role's
    #[arg(long, value_name = "URL", env = "PGVEIL_DATABASE_URL", hide_env_values = true)]
    database: Option<String>,
}

/// List the roles whose passwords are kept, and the users who log in as each
#[derive(Args)]
pub struct List {
    #[command(flatten)]
    config: ConfigDir,
    /// Print a JSON array: role, kept, users
    #[arg(long)]
    json: bool,
}

/// Forget a role's password: users who log in as it are refused; PostgreSQL's role stays as it is
#[derive(Args)]
pub struct Remove {
    /// The role's name
    role: String,
    #[command(flatten)]
    config: ConfigDir,
}

impl Upstream {
    pub(super) fn run(self) -> Result<ExitCode, CliError> {
        match self {
            Upstream::Set(command) => command.run(),
            Upstream::List(command) => command.run(),
            Upstream::Remove(command) => command.run(),
        }?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Bytes of a password that is made here.
const MADE_BYTES: usize = 32;

impl Set {
    fn run(self) -> Result<(), CliError> {
        super::users::check_name(&self.role)?;
        let config = self.config.load_unprepared()?;
        let keyring = config.keys.keyring().map_err(|error| CliError::new(error.message).hint(error.hint))?;
        let secrets = keyring.secrets().map_err(|error| CliError::new(error.to_string()))?;
        let password = if self.generate {
            let mut bytes = Zeroizing::new([0; MADE_BYTES]);
            SystemRandom.fill(bytes.as_mut());
            Zeroizing::new(URL_SAFE_NO_PAD.encode(bytes.as_ref()))
        } else {
            password(&self.role, self.password_file.as_deref())?
        };
        let sealed = secrets.seal(credential_names(&self.role), password.as_bytes(), &mut SystemRandom);
        if let Some(url) = &self.database {
            let verifier = users::make(&password).text();
            let made = block_on(async {
                let mut client = connect(&config, Some(url)).await?;
                let given = prepare::give_verifier(&mut client, &self.role, &verifier).await;
                given.map_err(|error| explain(error, "CREATEROLE (or superuser)"))
            })?;
            println!("{} {}", if made { "created role" } else { "gave a new password to role" }, self.role);
        }
        change(&config.dir, |known| known.credentials.insert(self.role.clone(), sealed))?;
        println!("wrote {}; a running proxy learns of it by SIGHUP", config.dir.join(USERS).display());
        if config.users.contains_key(&self.role) && self.database.is_some() {
            eprintln!(
                "warning: {0} also logs in by its own password, which PostgreSQL does not take any more\n\
                 hint: Run: pgveil users remove {0}; or give role {0} that password, too: pgveil users add {0}",
                self.role
            );
        }
        Ok(())
    }
}

impl List {
    fn run(self) -> Result<(), CliError> {
        let config = self.config.load_unprepared()?;
        let roles = roles(&config);
        let users_of = |role: &str| -> Vec<&str> {
            let log_ins = config.settings.log_ins.iter();
            log_ins.filter(|(_, log_in)| log_in.upstream == role).map(|(user, _)| user.as_str()).collect()
        };
        let kept = |role: &str| config.credentials.contains_key(role);
        if self.json {
            let list: Vec<serde_json::Value> = roles
                .iter()
                .map(|role| serde_json::json!({ "role": role, "kept": kept(role), "users": users_of(role) }))
                .collect();
            println!("{}", serde_json::Value::Array(list));
            return Ok(());
        }
        let mut table = Table::new();
        table.load_style(comfy_table::presets::NOTHING).set_header(["role", "password", "users"]);
        for role in &roles {
            let password = if kept(role) { "kept" } else { "missing" };
            table.add_row([role, password, &users_of(role).join(", ")]);
        }
        println!("{table}");
        Ok(())
    }
}

/// Roles whose password is kept, and roles whose is needed.
fn roles(config: &Config) -> std::collections::BTreeSet<&str> {
    let needed = config.settings.log_ins.values().map(|log_in| log_in.upstream.as_str());
    config.credentials.keys().map(String::as_str).chain(needed).collect()
}

impl Remove {
    fn run(self) -> Result<(), CliError> {
        let dir = &self.config.dir;
        // Read first, so that nothing is written for a role that is not there.
        if !read(dir)?.credentials.contains_key(&self.role)
            || change(dir, |known| known.credentials.remove(&self.role))?.is_none()
        {
            return Err(CliError::new(format!("no password of role {} is kept", self.role))
                .hint("pgveil upstream list shows whose are."));
        }
        println!("the password of role {} is forgotten; a running proxy learns of it by SIGHUP", self.role);
        Ok(())
    }
}

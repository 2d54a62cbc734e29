//! `pgveil users`: who may log in. One verifier, kept in users.toml and given to PostgreSQL identical.
//!
//! Guarantees: a password is asked for or read from a file, never an argument; users.toml changes only after PostgreSQL
//! has the verifier; what PostgreSQL has of a user who is known is never taken over again. Deliberately absent: roles of policy.toml, and dropping PostgreSQL's roles (they may own tables).

use super::{CliError, ConfigDir, block_on};
use crate::auth::{LogIn, Method, Verifier, Verifiers};
use crate::config::Config;
use crate::config::users::{self, NotChanged};
use crate::server::prepare;
use crate::server::service::{self, ServiceError};
use clap::{Args, Subcommand};
use comfy_table::Table;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use tokio_postgres::Client;
use zeroize::Zeroizing;

/// The people and applications that may log in
#[derive(Subcommand)]
pub enum Users {
    Add(Add),
    Import(Import),
    List(List),
    Remove(Remove),
}

/// Add a user, or give one a new password
///
/// Makes a SCRAM-SHA-256 verifier, gives it to PostgreSQL (CREATE ROLE … LOGIN, or ALTER ROLE) and keeps the identical one
/// in users.toml; PostgreSQL gets none of a user whose [[auth.method]] is by = "password". A running proxy learns of it by SIGHUP.
#[derive(Args)]
pub struct Add {
    /// The user's name, in PostgreSQL and here
    name: String,
    #[command(flatten)]
    config: ConfigDir,
    /// The file whose first line is the password; without it the password is asked for
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// An administrator's connection, used once; without it the service user's, which may lack the right
    #[arg(long, value_name = "URL", env = "PGVEIL_DATABASE_URL", hide_env_values = true)]
    database: Option<String>,
}

/// Take over the verifiers that PostgreSQL has, so that no password changes
///
/// Of users who are not in users.toml yet: whoever can change passwords in PostgreSQL shall not become somebody here. Run it
/// when pgveil is set up, and look at who was taken over.
#[derive(Args)]
pub struct Import {
    #[command(flatten)]
    config: ConfigDir,
    /// A superuser's connection, used once (only superusers may read verifiers)
    #[arg(long, value_name = "URL", env = "PGVEIL_DATABASE_URL", hide_env_values = true)]
    database: Option<String>,
}

/// List the users, the roles of policy.toml that mean them, and how they log in
#[derive(Args)]
pub struct List {
    #[command(flatten)]
    config: ConfigDir,
    /// Print a JSON array: name, roles; and method and upstream of those who log in without a password
    #[arg(long)]
    json: bool,
}

/// Remove a user from users.toml; PostgreSQL's role stays
#[derive(Args)]
pub struct Remove {
    /// The user's name
    name: String,
    #[command(flatten)]
    config: ConfigDir,
}

impl Users {
    pub(super) fn run(self) -> Result<ExitCode, CliError> {
        match self {
            Users::Add(command) => command.run(),
            Users::Import(command) => command.run(),
            Users::List(command) => command.run(),
            Users::Remove(command) => command.run(),
        }?;
        Ok(ExitCode::SUCCESS)
    }
}

impl Add {
    fn run(self) -> Result<(), CliError> {
        check_name(&self.name)?;
        let config = self.config.load_unprepared()?;
        // Before PostgreSQL has the verifier: a file that cannot be read would leave it there alone.
        read(&config.dir)?;
        let password = password(&self.name, self.password_file.as_deref())?;
        let verifier = users::make(&password);
        let log_in = config.settings.log_ins.get(&self.name);
        if log_in.is_some_and(|log_in| log_in.method == Method::Password) {
            change(&config.dir, |known| known.verifiers.insert(self.name.clone(), verifier))?;
            let file = config.dir.join(crate::config::USERS);
            println!("gave {} a password that PostgreSQL does not know; wrote {}", self.name, file.display());
            return Ok(());
        }
        let made = block_on(async {
            let mut client = connect(&config, self.database.as_deref()).await?;
            let given = prepare::give_verifier(&mut client, &self.name, &verifier.text()).await;
            given.map_err(|error| explain(error, "CREATEROLE (or superuser)"))
        })?;
        change(&config.dir, |known| known.verifiers.insert(self.name.clone(), verifier))?;
        let what = if made { "created role" } else { "gave role a new password:" };
        println!("{what} {}; wrote {}", self.name, config.dir.join(crate::config::USERS).display());
        Ok(())
    }
}

/// What PostgreSQL and users.toml can have as a name.
pub(super) fn check_name(name: &str) -> Result<(), CliError> {
    if name.is_empty() || name.chars().any(char::is_control) || name.len() > 63 {
        return Err(
            CliError::new("that cannot be a user's name").hint("1 to 63 bytes, no control characters.")
        );
    }
    Ok(())
}

impl Import {
    fn run(self) -> Result<(), CliError> {
        let config = self.config.load_unprepared()?;
        read(&config.dir)?;
        let found = block_on(async {
            let client = connect(&config, self.database.as_deref()).await?;
            prepare::verifiers(&client).await.map_err(|error| explain(error, "superuser"))
        })?;
        let service_user = &config.settings.database.service_user;
        let log_ins = &config.settings.log_ins;
        // What PostgreSQL is not to know is not what it knows.
        let apart = |name: &str| log_ins.get(name).is_some_and(|log_in| log_in.method == Method::Password);
        let mut imported = Vec::new();
        for (name, text) in found.iter().filter(|(name, _)| name != service_user && !apart(name)) {
            match Verifier::parse(text) {
                Some(verifier) => imported.push((name.clone(), verifier)),
                None => eprintln!("warning: {name} has a verifier that is not understood; left out"),
            }
        }
        let (count, others) = change(&config.dir, |known| take_over(&mut known.verifiers, imported))?;
        for name in others {
            eprintln!("warning: {name} has another password in PostgreSQL than here, which is left as it is");
            eprintln!("hint: if it is {name}'s own doing, give both the new one: pgveil users add {name}");
        }
        println!("imported {count} users; wrote {}", config.dir.join(crate::config::USERS).display());
        Ok(())
    }
}

/// Adds verifiers of users that are new here; how many, and who has another one here. Whoever administers PostgreSQL can change
/// what it has of somebody who is known, and would be let in as that.
fn take_over(known: &mut Verifiers, found: Vec<(String, Verifier)>) -> (usize, Vec<String>) {
    let (mut count, mut others) = (0, Vec::new());
    for (name, verifier) in found {
        match known.get(&name) {
            None => {
                known.insert(name, verifier);
                count += 1;
            }
            Some(same) if *same == verifier => count += 1,
            Some(_) => others.push(name),
        }
    }
    (count, others)
}

impl List {
    fn run(self) -> Result<(), CliError> {
        let config = self.config.load_unprepared()?;
        let roles_of = |user: &str| -> Vec<&str> {
            let roles = config.policy.roles.iter().filter(|(_, members)| members.contains(user));
            roles.map(|(role, _)| role.as_str()).collect()
        };
        let log_ins = &config.settings.log_ins;
        let names: BTreeSet<&String> = config.users.keys().chain(log_ins.keys()).collect();
        if self.json {
            let said = |name: &String| match log_ins.get(name) {
                None => serde_json::json!({ "name": name, "roles": roles_of(name) }),
                Some(LogIn { method, upstream }) => serde_json::json!({
                    "name": name, "roles": roles_of(name), "method": method.name(), "upstream": upstream,
                }),
            };
            let list: Vec<serde_json::Value> = names.into_iter().map(said).collect();
            println!("{}", serde_json::Value::Array(list));
            return Ok(());
        }
        let mut table = Table::new();
        table.load_style(comfy_table::presets::NOTHING).set_header(["user", "roles", "logs in by"]);
        for name in names {
            let by = match log_ins.get(name) {
                None => "password".to_owned(),
                Some(LogIn { method, upstream }) => format!("{}, as {upstream}", method.name()),
            };
            table.add_row([name.as_str(), &roles_of(name).join(", "), &by]);
        }
        println!("{table}");
        Ok(())
    }
}

impl Remove {
    fn run(self) -> Result<(), CliError> {
        let dir = &self.config.dir;
        // Read first, so that nothing is written for a user who is not there.
        let remove = |known: &mut users::Users| {
            known.factors.remove(&self.name);
            known.verifiers.remove(&self.name)
        };
        if !read(dir)?.verifiers.contains_key(&self.name) || change(dir, remove)?.is_none() {
            return Err(CliError::new(format!("there is no user {} in users.toml", self.name))
                .hint("pgveil users list shows who is there."));
        }
        println!("removed {}; its role in PostgreSQL is still there", self.name);
        Ok(())
    }
}

pub(super) fn read(dir: &Path) -> Result<users::Users, CliError> {
    users::read_file(dir).map_err(|mistakes| CliError::from_mistakes(&mistakes))
}

pub(super) fn change<T>(dir: &Path, change: impl FnOnce(&mut users::Users) -> T) -> Result<T, CliError> {
    users::change(dir, change).map_err(|why| match why {
        NotChanged::Mistakes(mistakes) => CliError::from_mistakes(&mistakes),
        NotChanged::File(error) => CliError::new(error.to_string()),
    })
}

pub(super) async fn connect(config: &Config, url: Option<&str>) -> Result<Client, CliError> {
    let settings = &config.settings.database;
    let connected = match url {
        Some(url) => service::connect_url(settings, url, None).await,
        None => {
            let password = settings.service_password.as_ref().map(|password| password.as_str());
            service::connect(settings, &settings.service_database, &settings.service_user, password).await
        }
    };
    connected.map_err(|error| explain(error, "the right to log in"))
}

pub(super) fn explain(error: ServiceError, needed: &str) -> CliError {
    CliError::new(error.message).hint(format!(
        "Name a connection with {needed}: --database postgresql://user:password@host:port/database"
    ))
}

/// The first line of `file`, or what is typed twice at the terminal.
pub(super) fn password(name: &str, file: Option<&Path>) -> Result<Zeroizing<String>, CliError> {
    let password = match file {
        Some(file) => {
            let text = std::fs::read_to_string(file).map(Zeroizing::new);
            let text =
                text.map_err(|error| CliError::new(format!("cannot read {}: {error}", file.display())))?;
            Zeroizing::new(text.lines().next().unwrap_or_default().to_owned())
        }
        None => {
            let ask = |prompt: String| {
                let typed = rpassword::prompt_password(prompt).map(Zeroizing::new);
                typed.map_err(|error| {
                    CliError::new(format!("no password could be asked for: {error}"))
                        .hint("Put it into a file and name that: --password-file FILE")
                })
            };
            let first = ask(format!("Password for {name}: "))?;
            if ask("Again: ".to_owned())? != first {
                return Err(
                    CliError::new("the passwords differ").hint("Nothing was changed; run the command again.")
                );
            }
            first
        }
    };
    if password.is_empty() {
        return Err(
            CliError::new("the password is empty").hint("PostgreSQL lets nobody in with an empty password.")
        );
    }
    Ok(password)
}

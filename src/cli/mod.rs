//! The command line: one file per command, no logic of its own.
//!
//! Guarantees: an error goes to stderr as `error: …`, with a `hint: …` line where something can be done, and exit code
//! 1; output meant for programs has `--json`; no secret is taken from an argument. Deliberately absent: decisions.

pub mod audit;
pub mod check;
pub mod demo;
pub mod explain;
pub mod init;
pub mod keys;
mod memory;
pub mod otp;
pub mod policy;
pub mod reseal;
pub mod serve;
pub mod upstream;
pub mod users;

use crate::config::{self, Config, Mistake, Weight};
use clap::{Args, Parser, Subcommand};
use std::fmt;
use std::path::PathBuf;
use std::process::ExitCode;

/// Makes customer data in PostgreSQL private without changing the application.
#[derive(Parser)]
#[command(name = "pgveil", version, max_term_width = 100, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    #[command(subcommand)]
    Audit(audit::Audit),
    Demo(demo::Demo),
    Serve(serve::Serve),
    Init(init::Init),
    Check(check::Check),
    Explain(explain::Explain),
    #[command(subcommand)]
    Policy(policy::Policy),
    #[command(subcommand)]
    Keys(keys::Keys),
    #[command(subcommand)]
    Otp(otp::Otp),
    #[command(subcommand)]
    Reseal(reseal::Reseal),
    #[command(subcommand)]
    Upstream(upstream::Upstream),
    #[command(subcommand)]
    Users(users::Users),
}

impl Command {
    fn run(self) -> Result<ExitCode, CliError> {
        match self {
            Command::Audit(command) => command.run(),
            Command::Demo(command) => command.run(),
            Command::Serve(command) => command.run(),
            Command::Init(command) => command.run(),
            Command::Check(command) => command.run(),
            Command::Explain(command) => command.run(),
            Command::Policy(command) => command.run(),
            Command::Keys(command) => command.run(),
            Command::Otp(command) => command.run(),
            Command::Reseal(command) => command.run(),
            Command::Upstream(command) => command.run(),
            Command::Users(command) => command.run(),
        }
    }
}

/// Where the configuration is: every command takes it.
#[derive(Args)]
pub struct ConfigDir {
    /// Folder with proxy.toml, tags.toml, policy.toml and users.toml
    #[arg(long = "config", value_name = "DIR", env = "PGVEIL_CONFIG")]
    pub dir: PathBuf,
}

impl ConfigDir {
    /// Loads and validates the folder; remarks go to stderr as `warning: …`.
    ///
    /// # Errors
    /// All mistakes, in one error.
    pub fn load(&self) -> Result<Config, CliError> {
        let config = config::load(&self.dir).map_err(|mistakes| CliError::from_mistakes(&mistakes))?;
        for remark in &config.remarks {
            eprintln!("warning: {remark}\nhint: {}", remark.hint);
        }
        Ok(config)
    }

    /// As [`load`](Self::load), for commands that work before `init` has made what it makes.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn load_unprepared(&self) -> Result<Config, CliError> {
        config::load_unprepared(&self.dir).map_err(|mistakes| CliError::from_mistakes(&mistakes))
    }
}

/// Why a command failed, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CliError {
    pub message: String,
    pub hint: Option<String>,
}

impl CliError {
    pub fn new(message: impl Into<String>) -> CliError {
        CliError { message: message.into(), hint: None }
    }
    pub fn hint(mut self, hint: impl Into<String>) -> CliError {
        self.hint = Some(hint.into());
        self
    }
    /// One error for a configuration that does not hold: each mistake with its own hint.
    pub fn from_mistakes(mistakes: &[Mistake]) -> CliError {
        let mistakes = mistakes.iter().filter(|mistake| mistake.weight == Weight::Mistake);
        let lines: Vec<String> =
            mistakes.map(|mistake| format!("{mistake}\nhint: {}", mistake.hint)).collect();
        CliError::new(lines.join("\nerror: "))
    }
}

impl fmt::Display for CliError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "error: {}", self.message)?;
        match &self.hint {
            Some(hint) => write!(out, "\nhint: {hint}"),
            None => Ok(()),
        }
    }
}

/// How wide a table may be: as COLUMNS says, else as the terminal is. `None` where a program reads.
pub fn terminal_columns() -> Option<u16> {
    let said = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    said.or_else(|| terminal_size::terminal_size_of(std::io::stdout()).map(|(width, _)| width.0))
        .filter(|columns| *columns > 0)
}

/// Runs a command's asynchronous part.
///
/// # Errors
/// The command's own, or that no thread can be had.
pub fn block_on<T>(work: impl Future<Output = Result<T, CliError>>) -> Result<T, CliError> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| CliError::new(format!("no runtime: {error}")))?
        .block_on(work)
}

/// Parses the command line, runs the command, and reports its error as `error: …` with a `hint:` line.
pub fn run() -> ExitCode {
    let command = Cli::parse().command;
    match memory::protect().and_then(|()| command.run()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

//! `pgveil users`: who may log in.

use super::{CliError, ConfigDir};
use clap::{Args, Subcommand};
use std::process::ExitCode;

/// Who may log in
#[derive(Subcommand)]
pub enum Users {
    List(List),
}

/// Lists the users
#[derive(Args)]
pub struct List {
    #[command(flatten)]
    config: ConfigDir,
}

impl Users {
    pub(super) fn run(self) -> Result<ExitCode, CliError> {
        match self {
            Users::List(list) => list.config.load().map(|_| ExitCode::SUCCESS),
        }
    }
}

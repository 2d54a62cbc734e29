//! `pgveil demo`: the guided tour over a private PostgreSQL.

use super::{CliError, block_on};
use crate::demo;
use std::process::ExitCode;

/// Start a private PostgreSQL with sample customers behind pgveil, and show who sees what
///
/// Shows one customer as the application, the support desk, the DBA and the disk see it, a refused statement and the audit
/// log, prints connection strings, and stays up until interrupted. Nothing is left behind.
#[derive(clap::Args)]
pub struct Demo {
    /// Check every claim of the tour without a person, and exit 0 or 1
    #[arg(long)]
    check: bool,
}

impl Demo {
    pub(super) fn run(self) -> Result<ExitCode, CliError> {
        let held = block_on(async {
            demo::run(self.check, super::terminal_columns()).await.map_err(|message| {
                CliError::new(message).hint("It needs PostgreSQL's server programs, and /tmp to be writable.")
            })
        })?;
        Ok(if held { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

//! `pgveil check`.

use super::{CliError, ConfigDir};
use clap::Args;
use std::process::ExitCode;

/// (being written)
#[derive(Args)]
pub struct Check {
    #[command(flatten)]
    config: ConfigDir,
}

impl Check {
    pub(super) fn run(self) -> Result<ExitCode, CliError> {
        self.config.load()?;
        Ok(ExitCode::SUCCESS)
    }
}

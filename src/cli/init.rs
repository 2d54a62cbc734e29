//! `pgveil init`.

use super::{CliError, ConfigDir};
use clap::Args;
use std::process::ExitCode;

/// (being written)
#[derive(Args)]
pub struct Init {
    #[command(flatten)]
    config: ConfigDir,
}

impl Init {
    pub(super) fn run(self) -> Result<ExitCode, CliError> {
        self.config.load()?;
        Ok(ExitCode::SUCCESS)
    }
}

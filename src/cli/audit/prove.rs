//! `pgveil audit checkpoint` and `audit prove`: what to hand to others, who check it without the log.

use super::{CliError, WhichLog, failed, open, write_out};
use crate::audit::proof::Leaves;
use clap::{Args, Subcommand};
use std::io::Write;
use std::process::ExitCode;

/// Print the log's last checkpoint, a signed note (C2SP tlog-checkpoint); does not verify the log
#[derive(Args)]
pub struct LastCheckpoint {
    #[command(flatten)]
    log: WhichLog,
}

/// Prove that a line is in the log, or that the log continues what it was
#[derive(Args)]
pub struct Prove {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// That the line with this number (as `verify` counts, from 1) is in the log: a C2SP tlog-proof under the last checkpoint
    Inclusion {
        #[arg(value_name = "LINE")]
        line: u64,
        #[command(flatten)]
        log: WhichLog,
    },
    /// That the log continues its first SIZE lines: what a witness is asked with (C2SP tlog-witness, add-checkpoint)
    Consistency {
        #[arg(value_name = "SIZE")]
        size: u64,
        #[command(flatten)]
        log: WhichLog,
    },
}

impl LastCheckpoint {
    pub(super) fn run(self) -> Result<ExitCode, CliError> {
        let path = self.log.path()?;
        let mut segments = open(&path)?;
        let last = Leaves::last_checkpoint(&mut segments);
        let last = last.map_err(|failure| failed(failure, &path, &segments))?;
        let last = last.ok_or_else(|| CliError::new(format!("{} has no checkpoint", path.display())))?;
        write_out(|out| write!(out, "{}", last.note().write()))?;
        Ok(ExitCode::SUCCESS)
    }
}

impl Prove {
    pub(super) fn run(self) -> Result<ExitCode, CliError> {
        let (leaves, proof, absent) = match &self.what {
            What::Inclusion { line, log } => {
                let leaves = leaves(log)?;
                let index = line.checked_sub(1);
                let proof = index.and_then(|index| leaves.inclusion(index));
                (leaves, proof, format!("line {line} is not among them"))
            }
            What::Consistency { size, log } => {
                let leaves = leaves(log)?;
                let proof = leaves.consistency(*size);
                (leaves, proof, format!("they never were {size} lines"))
            }
        };
        let Some(proof) = proof else {
            let size = leaves.checkpoint().chain.size;
            return Err(CliError::new(format!("the last checkpoint covers {size} lines, and {absent}")));
        };
        write_out(|out| write!(out, "{proof}"))?;
        Ok(ExitCode::SUCCESS)
    }
}

fn leaves(log: &WhichLog) -> Result<Leaves, CliError> {
    let path = log.path()?;
    let mut segments = open(&path)?;
    let leaves = Leaves::read(&mut segments).map_err(|failure| failed(failure, &path, &segments))?;
    leaves.ok_or_else(|| {
        CliError::new("the first segments of the log are not here, and a proof needs all of its lines")
            .hint("Put the shipped segments beside the others.")
    })
}

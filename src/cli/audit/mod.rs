//! `pgveil audit …`: reading the log, here or far from the proxy, and what goes with it.

mod key;
mod person;
mod prove;
mod report;
mod show;
mod verify;
mod witness;

use super::CliError;
use crate::audit::verify::{Failure, Kind};
use crate::audit::{Fault, segments, show as shown};
use clap::{Args, Subcommand};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Verify the audit log, print records from it, prove what is in it
#[derive(Subcommand)]
pub enum Audit {
    Verify(verify::VerifyLog),
    Show(show::Show),
    Report(report::WriteReport),
    WhoSaw(person::WhoSawPerson),
    Forget(person::ForgetPerson),
    Checkpoint(prove::LastCheckpoint),
    Prove(prove::Prove),
    Witness(witness::Witness),
    Key(key::ShowKey),
    RotateKey(key::RotateKey),
}

/// Which log.
#[derive(Args)]
struct WhichLog {
    /// The log's folder, or one segment of it; with --config, that configuration's log unless given
    #[arg(value_name = "PATH", required_unless_present = "config")]
    path: Option<PathBuf>,
    /// Folder with proxy.toml, to find the log by
    #[arg(long, value_name = "DIR", env = "PGVEIL_CONFIG")]
    config: Option<PathBuf>,
}

impl Audit {
    pub(super) fn run(self) -> Result<ExitCode, CliError> {
        match self {
            Audit::Verify(command) => command.run(),
            Audit::Show(command) => command.run(),
            Audit::Report(command) => command.run(),
            Audit::WhoSaw(command) => command.run(),
            Audit::Forget(command) => command.run(),
            Audit::Checkpoint(command) => command.run(),
            Audit::Prove(command) => command.run(),
            Audit::Witness(command) => command.run(),
            Audit::Key(command) => command.run(),
            Audit::RotateKey(command) => command.run(),
        }
    }
}

impl WhichLog {
    /// The log's folder or one of its files.
    fn path(&self) -> Result<PathBuf, CliError> {
        match (&self.path, &self.config) {
            (Some(path), _) => Ok(path.clone()),
            (None, Some(dir)) => {
                let loaded =
                    crate::config::load(dir).map_err(|mistakes| CliError::from_mistakes(&mistakes))?;
                Ok(loaded.settings.audit.folder)
            }
            (None, None) => Err(CliError::new("no log was named").hint("Give its PATH, or --config DIR.")),
        }
    }
}

/// The folder that a log's file stands in, or that it is.
fn folder_of(path: &Path) -> PathBuf {
    if path.is_dir() { path.to_owned() } else { path.parent().unwrap_or(Path::new(".")).to_owned() }
}

/// The log's segments as one stream.
fn open(path: &Path) -> Result<segments::Segments, CliError> {
    segments::Segments::of(path).map_err(|error| unread(path, &error))
}

fn unread(path: &Path, error: &io::Error) -> CliError {
    CliError::new(format!("could not read the audit log {}: {error}", path.display()))
}

/// Writes to standard output. A reader that went away (`| head`) is no error.
fn write_out(
    write: impl FnOnce(&mut BufWriter<io::StdoutLock<'_>>) -> io::Result<()>,
) -> Result<(), CliError> {
    let mut out = BufWriter::new(io::stdout().lock());
    match write(&mut out).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(CliError::new(format!("could not write to standard output: {error}")))
        }
        _ => Ok(()),
    }
}

fn fault(fault: Fault) -> CliError {
    CliError { message: fault.message, hint: fault.hint }
}

/// `place` knows which file a byte of the stream stands in.
fn failed(failure: Failure, path: &Path, place: &segments::Segments) -> CliError {
    let flaw = match failure {
        Failure::Read(error) => return unread(path, &error),
        Failure::Flawed(flaw) => flaw,
    };
    let hint = match (flaw.kind, flaw.trusted) {
        (Kind::NotALog, _) => Some("PATH is an audit folder or a segment in it.".to_owned()),
        (Kind::OtherKey, _) => Some(
            "Use the audit.pub that was made with this log; after a change of keys, the first segment's is called audit-….pub."
                .to_owned(),
        ),
        (_, Some(checkpoint)) => Some(format!(
            "The first {} lines are as they were signed at {} UTC.",
            checkpoint.chain.size,
            shown::time_text(checkpoint.time)
        )),
        (_, None) => None,
    };
    // Where the log has several files, say which.
    let message = match place.place(flaw.offset) {
        Some((file, offset)) if flaw.offset != offset => {
            format!("{}: {flaw}; that is byte {offset} of {}", path.display(), file.display())
        }
        Some((file, _)) if path.is_dir() && file.file_name() != Some(segments::LOG_FILE.as_ref()) => {
            format!("{}: {flaw}; that is in {}", path.display(), file.display())
        }
        _ => format!("{}: {flaw}", path.display()),
    };
    CliError { message, hint }
}

//! `pgveil audit verify` and `pgveil audit show`: reading the log, here or far from the proxy.

use super::CliError;
use crate::audit::show::{self, Filter, HEADINGS};
use crate::audit::verify::{self, Failure, Flaw, Kind, Verified};
use crate::audit::{Fault, keys, writer};
use clap::{Args, Subcommand};
use comfy_table::{ContentArrangement, Table, presets};
use ed25519_dalek::VerifyingKey;
use serde_json::{Value, json};
use std::fs::File;
use std::io::{self, BufReader, BufWriter, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Verify the audit log, or print records from it
#[derive(Subcommand)]
pub enum Audit {
    Verify(VerifyLog),
    Show(Show),
}

/// Which log.
#[derive(Args)]
struct WhichLog {
    /// The log's folder or file; with --config, that configuration's log unless given
    #[arg(value_name = "PATH", required_unless_present = "config")]
    path: Option<PathBuf>,
    /// Folder with proxy.toml, to find the log by
    #[arg(long, value_name = "DIR", env = "PGVEIL_CONFIG")]
    config: Option<PathBuf>,
}

/// Check every byte of a log against its signatures; exit code 0 when it is as it was signed, else 1
///
/// Needs the log and the public key, nothing else. Prints the log's size and head: keep them away from the proxy's host and
/// compare, because a log that lost whole groups at its end looks like one that ended there.
#[derive(Args)]
pub struct VerifyLog {
    /// The public key, audit.pub; with --config, the one in the log's folder unless given
    #[arg(long, value_name = "FILE", required_unless_present = "config")]
    public_key: Option<PathBuf>,
    #[command(flatten)]
    log: WhichLog,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Print records as a table or as JSON lines; does not verify them
#[derive(Args)]
pub struct Show {
    #[command(flatten)]
    log: WhichLog,
    /// Only records of this user
    #[arg(long)]
    user: Option<String>,
    /// Only records that speak of this label, such as pii.email or pii.*
    #[arg(long)]
    label: Option<String>,
    /// Only records from this time on, such as 2026-11-24, 2026-11-24T08:00 (UTC) or 2026-11-24T08:00:00+01:00
    #[arg(long, value_name = "TIME", value_parser = show::parse_time)]
    since: Option<i64>,
    /// Only records before this time
    #[arg(long, value_name = "TIME", value_parser = show::parse_time)]
    until: Option<i64>,
    /// Only records of this connection
    #[arg(long, value_name = "NUMBER")]
    connection: Option<u64>,
    /// Only records of the statement with this number in its connection
    #[arg(long, value_name = "NUMBER")]
    statement: Option<u64>,
    /// Print each record as the line that stands in the log
    #[arg(long)]
    json: bool,
}

impl Audit {
    pub(super) fn run(self) -> Result<ExitCode, CliError> {
        match self {
            Audit::Verify(command) => command.run(),
            Audit::Show(command) => command.run(),
        }
    }
}

impl WhichLog {
    fn file(&self) -> Result<PathBuf, CliError> {
        let path = match (&self.path, &self.config) {
            (Some(path), _) => path.clone(),
            (None, Some(dir)) => {
                crate::config::load(dir)
                    .map_err(|mistakes| CliError::from_mistakes(&mistakes))?
                    .settings
                    .audit
            }
            (None, None) => {
                return Err(CliError::new("no log was named").hint("Give its PATH, or --config DIR."));
            }
        };
        Ok(writer::log_file(&path))
    }
}

impl VerifyLog {
    fn run(self) -> Result<ExitCode, CliError> {
        let path = self.log.file()?;
        let key = self.public_key.unwrap_or_else(|| path.with_file_name(keys::PUBLIC_KEY_FILE));
        let key = keys::public_key(&key).map_err(fault)?;
        match verified(&path, &key)? {
            Ok(verified) => {
                let text = if self.json { json_of(&verified).to_string() } else { text_of(&verified) };
                write_out(|out| writeln!(out, "{text}"))?;
                Ok(ExitCode::SUCCESS)
            }
            Err(Failure::Flawed(flaw)) if self.json => {
                write_out(|out| writeln!(out, "{}", json_of_flaw(&flaw)))?;
                Ok(ExitCode::FAILURE)
            }
            Err(failure) => Err(failed(failure, &path)),
        }
    }
}

/// How long a verifier waits for the checkpoint under a log's last lines: longer than a writer takes, by far.
const SIGNED_WITHIN: Duration = Duration::from_secs(1);

/// Verifies a log. One that is being written ends in lines that will be under a checkpoint in a moment: all that stood there at
/// first must be.
fn verified(path: &Path, key: &VerifyingKey) -> Result<Result<Verified, Failure>, CliError> {
    let deadline = Instant::now() + SIGNED_WITHIN;
    let mut stood = None;
    loop {
        let result = verify::verify(open(path)?, key);
        let Err(Failure::Flawed(Flaw { kind: Kind::Unsigned { lines }, line, offset, .. })) = result else {
            return Ok(result);
        };
        if line >= *stood.get_or_insert(line + lines) {
            return Ok(verify::verify(open(path)?.take(offset), key));
        }
        if Instant::now() >= deadline {
            return Ok(result);
        }
        std::thread::sleep(SIGNED_WITHIN / 20);
    }
}

impl Show {
    fn run(self) -> Result<ExitCode, CliError> {
        let path = self.log.file()?;
        let filter = Filter {
            user: self.user,
            label: self.label,
            since: self.since,
            until: self.until,
            connection: self.connection,
            statement: self.statement,
        };
        let log = open(&path)?;
        let result = if self.json { print_json(log, &filter)? } else { print_table(log, &filter)? };
        match result {
            Ok(()) => Ok(ExitCode::SUCCESS),
            Err(failure) => Err(failed(failure, &path)),
        }
    }
}

type Shown = Result<(), Failure>;

fn print_json(log: BufReader<File>, filter: &Filter) -> Result<Shown, CliError> {
    let mut written = Ok(());
    let mut shown = Ok(());
    write_out(|out| {
        shown = show::select(log, filter, |line, _| {
            if written.is_ok() {
                written = out.write_all(line).and_then(|()| out.write_all(b"\n"));
            }
        });
        written
    })?;
    Ok(shown)
}

fn print_table(log: BufReader<File>, filter: &Filter) -> Result<Shown, CliError> {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED).set_header(HEADINGS);
    if let Some(columns) = super::terminal_columns() {
        table.set_content_arrangement(ContentArrangement::Dynamic).set_width(columns);
    }
    let shown = show::select(log, filter, |_, record| {
        table.add_row(show::row(record));
    });
    write_out(|out| writeln!(out, "{table}"))?;
    Ok(shown)
}

fn open(path: &Path) -> Result<BufReader<File>, CliError> {
    let file = File::open(path).map_err(|error| {
        CliError::new(format!("could not read the audit log {}: {error}", path.display()))
    })?;
    Ok(BufReader::with_capacity(1 << 20, file))
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

fn failed(failure: Failure, path: &Path) -> CliError {
    let flaw = match failure {
        Failure::Read(error) => {
            return CliError::new(format!("could not read the audit log {}: {error}", path.display()));
        }
        Failure::Flawed(flaw) => flaw,
    };
    let hint = match (flaw.kind, flaw.trusted) {
        (Kind::NotALog, _) => Some("PATH is an audit folder or the log.jsonl in it.".to_owned()),
        (Kind::OtherKey, _) => Some("Use the audit.pub that was made with this log.".to_owned()),
        (_, Some(checkpoint)) => Some(format!(
            "The first {} lines are as they were signed at {} UTC.",
            checkpoint.chain.size,
            show::time_text(checkpoint.time)
        )),
        (_, None) => None,
    };
    CliError { message: format!("{}: {flaw}", path.display()), hint }
}

fn text_of(verified: &Verified) -> String {
    let recoveries = match verified.recoveries {
        0 => String::new(),
        times => {
            format!("\nrecoveries       {times} (ends that were not clean; see the records `recovered`)")
        }
    };
    format!(
        "The log is as it was signed.\n\
         records          {}\n\
         size             {} lines\n\
         head             {}\n\
         last checkpoint  {} UTC{recoveries}",
        verified.records,
        verified.chain.size,
        verified.chain.head.hex(),
        show::time_text(verified.checkpoint.time),
    )
}

fn json_of(verified: &Verified) -> Value {
    json!({
        "verified": true,
        "log": faster_hex::hex_string(&verified.header.log.0),
        "records": verified.records,
        "size": verified.chain.size,
        "head": verified.chain.head.hex(),
        "last_checkpoint": verified.checkpoint.time,
        "recoveries": verified.recoveries,
    })
}

fn json_of_flaw(flaw: &Flaw) -> Value {
    let kind = match flaw.kind {
        Kind::NotALog => "not_a_log",
        Kind::Version(_) => "unknown_version",
        Kind::OtherKey => "other_key",
        Kind::Altered => "altered",
        Kind::Missing { .. } => "missing",
        Kind::Reordered => "reordered",
        Kind::Repeated => "repeated",
        Kind::Torn => "torn",
        Kind::Unsigned { .. } => "unsigned",
    };
    json!({
        "verified": false,
        "flaw": kind,
        "line": flaw.line + 1,
        "offset": flaw.offset,
        "message": flaw.to_string(),
        "trusted_size": flaw.trusted.map(|checkpoint| checkpoint.chain.size),
    })
}

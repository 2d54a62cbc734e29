//! `pgveil audit verify`: every byte of the log against its signatures, and against what it is known to have been.

use super::{CliError, WhichLog, failed, fault, folder_of, open, write_out};
use crate::audit::checkpoint::LogId;
use crate::audit::note::{Note, Tip, Verifier, base64_of};
use crate::audit::tree::Head;
use crate::audit::verify::{self, Against, Failure, Flaw, Kind, Verified};
use crate::audit::{keys, segments, show};
use clap::Args;
use ed25519_dalek::VerifyingKey;
use serde_json::{Value, json};
use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Check every byte of a log against its signatures; exit code 0 when it is as it was signed, else 1
///
/// Needs the log and the public key, nothing else. Prints the log's size and root: keep them (`audit checkpoint`) away from the proxy's
/// host and compare (--known), because a log that lost whole groups at its end looks like one that ended there.
#[derive(Args)]
pub struct VerifyLog {
    /// The public key, audit.pub; with --config, the one in the log's folder unless given
    #[arg(long, value_name = "FILE", required_unless_present = "config")]
    public_key: Option<PathBuf>,
    /// A checkpoint that was kept, as `audit checkpoint` prints it: the log must continue what it says. May be repeated
    #[arg(long, value_name = "FILE")]
    known: Vec<PathBuf>,
    /// A witness's key (name+id+key): each known checkpoint must carry its cosignature. May be repeated
    #[arg(long, value_name = "KEY", value_parser = parse_witness, requires = "known")]
    witness: Vec<Verifier>,
    #[command(flatten)]
    log: WhichLog,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// The key that was given; else, of those in the log's folder, the one that the log begins with.
pub(super) fn key_for(given: Option<&Path>, path: &Path) -> Result<VerifyingKey, CliError> {
    if let Some(file) = given {
        return keys::public_key(file).map_err(fault);
    }
    let folder = folder_of(path);
    match verify::header(open(path)?) {
        Ok(header) => keys::public_key_of(&folder, &header.key).map_err(fault),
        // What is wrong with the log, verifying says.
        Err(_) => keys::public_key(&folder.join(keys::PUBLIC_KEY_FILE)).map_err(fault),
    }
}

pub(super) fn parse_witness(text: &str) -> Result<Verifier, String> {
    Verifier::parse(text)
        .ok_or_else(|| "not a key: write name+id+key, as `audit witness` prints it".to_owned())
}

impl VerifyLog {
    pub(super) fn run(self) -> Result<ExitCode, CliError> {
        let path = self.log.path()?;
        let key = key_for(self.public_key.as_deref(), &path)?;
        let known = self.known.iter().map(|file| self.checkpoint(file)).collect::<Result<Vec<_>, _>>()?;
        let heads = known.iter().map(|(_, head)| *head).collect();
        let against = Against { key, known: heads, part: !path.is_dir() };
        let (result, place) = verified(&path, &against)?;
        match result {
            Ok(verified) => {
                if let Some((_, log)) =
                    known.iter().zip(&self.known).find(|((log, _), _)| *log != verified.header.log)
                {
                    return Err(CliError::new(format!("{} is a checkpoint of another log", log.display())));
                }
                let text = if self.json { json_of(&verified).to_string() } else { text_of(&verified) };
                write_out(|out| writeln!(out, "{text}"))?;
                Ok(ExitCode::SUCCESS)
            }
            Err(Failure::Flawed(flaw)) if self.json => {
                write_out(|out| writeln!(out, "{}", json_of_flaw(&flaw, &place)))?;
                Ok(ExitCode::FAILURE)
            }
            Err(failure) => Err(failed(failure, &path, &place)),
        }
    }

    /// A checkpoint that was kept. Its log's signature says nothing that the log does not; a witness's does.
    fn checkpoint(&self, file: &Path) -> Result<(LogId, Head), CliError> {
        let cannot = |why: &str| CliError::new(format!("{} {why}", file.display()));
        let text =
            fs::read_to_string(file).map_err(|error| cannot(&format!("could not be read: {error}")))?;
        let note = Note::parse(&text).ok_or_else(|| cannot("is not a signed checkpoint"))?;
        let tip = Tip::parse(&note.text).ok_or_else(|| cannot("is not a signed checkpoint"))?;
        let log =
            LogId::from_origin(&tip.origin).ok_or_else(|| cannot("is not a checkpoint of an audit log"))?;
        for witness in &self.witness {
            match note.signed_by(witness) {
                Some(signatures) if !signatures.is_empty() => {}
                Some(_) => return Err(cannot(&format!("carries no cosignature of {}", witness.name))),
                None => {
                    return Err(cannot(&format!(
                        "carries a cosignature of {} that does not hold",
                        witness.name
                    )));
                }
            }
        }
        Ok((log, tip.head))
    }
}

/// How long a verifier waits for the checkpoint under a log's last lines: longer than a writer takes, by far.
const SIGNED_WITHIN: Duration = Duration::from_secs(1);

type Checked = Result<Verified, Failure>;

/// Verifies a log. One that is being written ends in lines that will be under a checkpoint in a moment: all that stood there at
/// first must be; and its oldest segments may be removed between two files' being opened.
pub(super) fn verified(path: &Path, against: &Against) -> Result<(Checked, segments::Segments), CliError> {
    let deadline = Instant::now() + SIGNED_WITHIN;
    let mut stood = None;
    let mut files = segments::list(path).ok();
    loop {
        let mut log = open(path)?;
        let result = verify::verify_against(&mut log, against);
        match result {
            Err(Failure::Flawed(Flaw { kind: Kind::Unsigned { lines }, line, offset, .. })) => {
                if line >= *stood.get_or_insert(line + lines) {
                    let mut log = open(path)?;
                    return Ok((verify::verify_against(log.by_ref().take(offset), against), log));
                }
            }
            Err(_) => {
                let now = segments::list(path).ok();
                if now == files {
                    return Ok((result, log));
                }
                files = now;
            }
            Ok(_) => return Ok((result, log)),
        }
        if Instant::now() >= deadline {
            return Ok((result, log));
        }
        std::thread::sleep(SIGNED_WITHIN / 20);
    }
}

fn text_of(verified: &Verified) -> String {
    let recoveries = match verified.recoveries {
        0 => String::new(),
        times => {
            format!("\nrecoveries       {times} (ends that were not clean; see the records `recovered`)")
        }
    };
    let first = match verified.header.chain.size {
        0 => String::new(),
        lines => format!("\nbegins           at line {}: the lines before it are not here", lines + 1),
    };
    format!(
        "The log is as it was signed.\n\
         records          {}\n\
         segments         {}{first}\n\
         size             {} lines\n\
         root             {} (over {} lines)\n\
         last checkpoint  {} UTC{recoveries}",
        verified.records,
        verified.segments,
        verified.chain.size,
        base64_of(&verified.checkpoint.root),
        verified.checkpoint.chain.size,
        show::time_text(verified.checkpoint.time),
    )
}

fn json_of(verified: &Verified) -> Value {
    json!({
        "verified": true,
        "log": faster_hex::hex_string(&verified.header.log.0),
        "records": verified.records,
        "segments": verified.segments,
        "first_line": verified.header.chain.size + 1,
        "size": verified.chain.size,
        "checkpoint": verified.checkpoint.note().write(),
        "root": base64_of(&verified.checkpoint.root),
        "last_checkpoint": verified.checkpoint.time,
        "recoveries": verified.recoveries,
    })
}

fn json_of_flaw(flaw: &Flaw, place: &segments::Segments) -> Value {
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
        Kind::Forked => "forked",
        Kind::Truncated { .. } => "truncated",
        Kind::Unknown { .. } => "not_compared",
    };
    let (file, offset) = place.place(flaw.offset).unzip();
    json!({
        "verified": false,
        "flaw": kind,
        "line": flaw.line + 1,
        "file": file.map(|file| file.display().to_string()),
        "offset": offset.unwrap_or(flaw.offset),
        "message": flaw.to_string(),
        "trusted_size": flaw.trusted.map(|checkpoint| checkpoint.chain.size),
    })
}

//! `pgveil audit witness`: co-signs another instance's checkpoints, so that its key's holder cannot rewrite history unseen.

use super::{CliError, write_out};
use crate::audit::checkpoint::LogId;
use crate::audit::note::{Kind, Verifier, is_name};
use crate::audit::witness::{Answer, Request, Seen};
use crate::audit::{Fault, keys};
use clap::Args;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

/// Co-sign a log's checkpoint, if it continues all that this witness saw of the log before
///
/// Reads a request from standard input, as `audit prove consistency SIZE` prints it for the SIZE that this witness saw last (0
/// at first; --seen prints it), and prints the cosignature line (C2SP tlog-cosignature): append it to the checkpoint. Keep the state
/// folder and its key away from the log's host; that is all that a witness is.
#[derive(Args)]
pub struct Witness {
    /// Folder with this witness's key and what it has seen; made if missing
    #[arg(long, value_name = "DIR")]
    state: PathBuf,
    /// This witness's name, such as example.org/witness
    #[arg(long, value_parser = parse_name)]
    name: String,
    /// The log's key (name+id+key), as `audit key` prints it where the log is. May be repeated: a log changes its key
    #[arg(long, value_name = "KEY", value_parser = super::verify::parse_witness, required_unless_present = "key")]
    log_key: Vec<Verifier>,
    /// Print the size of the log that this witness saw last, and read nothing
    #[arg(long)]
    seen: bool,
    /// Print this witness's own key (name+id+key), for those who verify, and read nothing
    #[arg(long)]
    key: bool,
}

fn parse_name(text: &str) -> Result<String, String> {
    if is_name(text) { Ok(text.to_owned()) } else { Err("a name has no spaces and no +".to_owned()) }
}

impl Witness {
    pub(super) fn run(self) -> Result<ExitCode, CliError> {
        keys::ensure_keys(&self.state).map_err(told)?;
        let key = keys::signing_key(&self.state).map_err(told)?;
        if self.key {
            let own = Verifier { name: self.name, kind: Kind::Cosignature, key: key.verifying_key() };
            write_out(|out| writeln!(out, "{}", own.text()))?;
            return Ok(ExitCode::SUCCESS);
        }
        let Some(log) = self.log_key.first().and_then(|key| LogId::from_origin(&key.name)) else {
            return Err(CliError::new("the log key is not an audit log's"));
        };
        // Held until what was seen is on disk: two requests at once must not both be the next.
        let mut seen = Seen::open(&self.state, log).map_err(told)?;
        if self.seen {
            write_out(|out| writeln!(out, "{}", seen.head().size))?;
            return Ok(ExitCode::SUCCESS);
        }
        let mut request = String::new();
        std::io::stdin()
            .lock()
            .take(1 << 20)
            .read_to_string(&mut request)
            .map_err(|error| CliError::new(format!("could not read the request: {error}")))?;
        let request = Request::parse(&request).ok_or_else(|| {
            CliError::new("this is no request: write what `audit prove consistency SIZE` prints")
        })?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        match seen.answer(&request, &self.log_key, &self.name, &key, now).map_err(told)? {
            Answer::Cosigned(signature) => {
                write_out(|out| write!(out, "{}", signature.line()))?;
                Ok(ExitCode::SUCCESS)
            }
            Answer::Refused(why) => Err(CliError::new(why)),
        }
    }
}

fn told(fault: Fault) -> CliError {
    super::fault(fault)
}

//! `pgveil audit key` and `audit rotate-key`: what others check the log with, and the next key that signs it.

use super::{CliError, WhichLog, fault, folder_of, open, write_out};
use crate::audit::{keys, verify};
use clap::Args;
use serde_json::json;
use std::io::Write;
use std::process::ExitCode;

/// Print the log's public key, as PEM and as tools for signed notes take it
#[derive(Args)]
pub struct ShowKey {
    #[command(flatten)]
    log: WhichLog,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Make the key that is to sign next
///
/// A running proxy goes over to it when it reloads (SIGHUP), else when it starts: the old key's last word in the log names it, a new
/// segment begins, and the old key is destroyed. Whoever verifies from the first segment on needs the old public key
/// (audit-….pub), and is led to the new one by the log.
#[derive(Args)]
pub struct RotateKey {
    #[command(flatten)]
    log: WhichLog,
}

impl ShowKey {
    pub(super) fn run(self) -> Result<ExitCode, CliError> {
        let path = self.log.path()?;
        let file = folder_of(&path).join(keys::PUBLIC_KEY_FILE);
        let key = keys::public_key(&file).map_err(fault)?;
        let header = verify::header(open(&path)?);
        let log = header
            .map(|header| header.log)
            .map_err(|_| CliError::new(format!("{} is not an audit log", path.display())))?;
        let vkey = log.verifier(&key).text();
        let pem = std::fs::read_to_string(&file)
            .map_err(|error| CliError::new(format!("could not read {}: {error}", file.display())))?;
        let text = match self.json {
            true => json!({"origin": log.origin(), "verifier": vkey, "pem": pem}).to_string(),
            false => format!("{vkey}\n{}", pem.trim_end()),
        };
        write_out(|out| writeln!(out, "{text}"))?;
        Ok(ExitCode::SUCCESS)
    }
}

impl RotateKey {
    pub(super) fn run(self) -> Result<ExitCode, CliError> {
        let folder = folder_of(&self.log.path()?);
        let key = keys::prepare_next(&folder).map_err(fault)?;
        let key = faster_hex::hex_string(key.as_bytes());
        write_out(|out| {
            writeln!(out, "The key {key} signs from the next reload (SIGHUP) or start of the proxy on.")
        })?;
        Ok(ExitCode::SUCCESS)
    }
}

//! `pgveil audit report`: what is handed to an auditor.

use super::{CliError, WhichLog, open, unread, write_out};
use crate::audit::report::{Report, Span};
use crate::audit::show;
use crate::audit::verify::{self, Against, Failure};
use crate::policy::Hours;
use clap::Args;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

/// Verify the log and report who accessed what, refusals, incidents and changes; exit code 1 when the log does not verify
///
/// Prints Markdown, unless --markdown or --html say where to write which. The HTML is one file with charts, and opens without a network.
#[derive(Args)]
pub struct WriteReport {
    /// The public key, audit.pub; with --config, the one in the log's folder unless given
    #[arg(long, value_name = "FILE", required_unless_present = "config")]
    public_key: Option<PathBuf>,
    #[command(flatten)]
    log: WhichLog,
    /// From this time on, such as 2026-11-01 (UTC); from the log's beginning unless given
    #[arg(long, value_name = "TIME", value_parser = show::parse_time)]
    from: Option<i64>,
    /// Before this time; until now unless given
    #[arg(long, value_name = "TIME", value_parser = show::parse_time)]
    to: Option<i64>,
    /// Ordinary hours: what is outside of them is counted apart
    #[arg(long, value_name = "HOURS", default_value = "mon-fri 07:00-19:00 UTC", value_parser = Hours::parse)]
    hours: Hours,
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

impl WriteReport {
    pub(super) fn run(self) -> Result<ExitCode, CliError> {
        let path = self.log.path()?;
        let key = super::verify::key_for(self.public_key.as_deref(), &path)?;
        let (result, _) =
            super::verify::verified(&path, &Against { key, known: vec![], part: !path.is_dir() })?;
        let (from, until) = (self.from.unwrap_or(i64::MIN), self.to.unwrap_or(i64::MAX));
        let (mut first, mut last) = (None, None);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_micros() as i64);
        let mut report = Report::new(Span { from, to: until, hours: self.hours });
        let read = verify::records(open(&path)?, |_, record| {
            if (from..until).contains(&record.time) {
                first.get_or_insert(record.time);
                last = Some(record.time);
            }
            report.take(record);
            true
        });
        report.shown_as(self.from.or(first).unwrap_or(now), self.to.unwrap_or(now.max(last.unwrap_or(now))));
        report.verification = match &result {
            Ok(verified) => (true, words(verified)),
            Err(Failure::Flawed(flaw)) => (false, format!("{flaw}. What follows counts what could be read.")),
            Err(Failure::Read(error)) => return Err(unread(&path, error)),
        };
        if let Err(Failure::Read(error)) = read {
            return Err(unread(&path, &error));
        }
        for (file, text) in
            [(&self.markdown, Report::markdown as fn(&Report) -> String), (&self.html, Report::html)]
        {
            if let Some(file) = file {
                write_file(file, &text(&report))?;
            }
        }
        if self.markdown.is_none() && self.html.is_none() {
            write_out(|out| write!(out, "{}", report.markdown()))?;
        }
        Ok(if result.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

fn words(verified: &verify::Verified) -> String {
    let whole = match verified.header.chain.size {
        0 => String::new(),
        lines => {
            format!(" The {lines} lines before it were removed when their retention was over, as it says.")
        }
    };
    format!(
        "The log {} is as it was signed: {} lines under a checkpoint of {} UTC, root {}.{whole}",
        verified.header.log.origin(),
        verified.checkpoint.chain.size,
        show::time_text(verified.checkpoint.time),
        crate::audit::note::base64_of(&verified.checkpoint.root),
    )
}

fn write_file(path: &Path, text: &str) -> Result<(), CliError> {
    fs::write(path, text)
        .map_err(|error| CliError::new(format!("could not write {}: {error}", path.display())))
}

//! `pgveil audit show`: records as a table, as JSON lines or as CSV.

use super::{CliError, WhichLog, failed, open, write_out};
use crate::audit::segments::Segments;
use crate::audit::show::{self, Filter, HEADINGS};
use crate::audit::verify::Failure;
use clap::Args;
use comfy_table::{ContentArrangement, Table, presets};
use std::collections::BTreeSet;
use std::io::Write;
use std::process::ExitCode;

/// Print records as a table, as JSON lines or as CSV; does not verify them
#[derive(Args)]
pub struct Show {
    #[command(flatten)]
    log: WhichLog,
    /// Only records of this user
    #[arg(long)]
    user: Option<String>,
    /// Only records of this role's members, as policy.toml has them now
    #[arg(long, requires = "config")]
    role: Option<String>,
    /// Only records that speak of this label, such as pii.email or pii.*
    #[arg(long)]
    label: Option<String>,
    /// Only records that speak of a column of this table, such as customers or public.customers
    #[arg(long)]
    table: Option<String>,
    /// Only records of statements for this purpose
    #[arg(long)]
    purpose: Option<String>,
    /// Only records that a column was used by this rule
    #[arg(long)]
    rule: Option<String>,
    /// Only these events, such as intent, outcome, refused, log_in_failed
    #[arg(long)]
    event: Option<String>,
    /// Only outcomes and refusals with this SQLSTATE, such as 00000, 42501, 53400
    #[arg(long, value_name = "SQLSTATE")]
    outcome: Option<String>,
    /// Only outcomes that showed cells of this person: a pseudonym of a record, or a table and the value of its record key, such as
    /// public.customers 42
    #[arg(long, num_args = 1..=2, value_names = ["TABLE", "KEY"])]
    person: Option<Vec<String>>,
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
    #[arg(long, conflicts_with = "csv")]
    json: bool,
    /// Print the table as CSV (RFC 4180)
    #[arg(long)]
    csv: bool,
}

type Shown = Result<(), Failure>;

impl Show {
    pub(super) fn run(self) -> Result<ExitCode, CliError> {
        let path = self.log.path()?;
        let users = self.role.as_deref().map(|role| self.members(role)).transpose()?;
        let filter = Filter {
            user: self.user,
            users,
            label: self.label,
            table: self.table,
            purpose: self.purpose,
            rule: self.rule,
            event: self.event,
            outcome: self.outcome,
            person: self.person.map(|words| super::person::person_of(&words, &path)).transpose()?,
            since: self.since,
            until: self.until,
            connection: self.connection,
            statement: self.statement,
        };
        let mut log = open(&path)?;
        let result = match (self.json, self.csv) {
            (true, _) => print_json(&mut log, &filter)?,
            (_, true) => print_csv(&mut log, &filter)?,
            _ => print_table(&mut log, &filter)?,
        };
        match result {
            Ok(()) => Ok(ExitCode::SUCCESS),
            Err(failure) => Err(failed(failure, &path, &log)),
        }
    }

    fn members(&self, role: &str) -> Result<BTreeSet<String>, CliError> {
        let Some(dir) = &self.log.config else { return Ok(BTreeSet::new()) };
        let loaded = crate::config::load(dir).map_err(|mistakes| CliError::from_mistakes(&mistakes))?;
        let members = loaded.policy.roles.get(role);
        let members = members.ok_or_else(|| CliError::new(format!("policy.toml has no role {role}")))?;
        Ok(members.iter().cloned().collect())
    }
}

fn print_json(log: &mut Segments, filter: &Filter) -> Result<Shown, CliError> {
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

fn print_csv(log: &mut Segments, filter: &Filter) -> Result<Shown, CliError> {
    let mut shown = Ok(());
    write_out(|out| {
        let mut written = write!(out, "{}", show::csv_line(&HEADINGS.map(str::to_owned)));
        shown = show::select(log, filter, |_, record| {
            if written.is_ok() {
                written = write!(out, "{}", show::csv_line(&show::row(record)));
            }
        });
        written
    })?;
    Ok(shown)
}

fn print_table(log: &mut Segments, filter: &Filter) -> Result<Shown, CliError> {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED).set_header(HEADINGS);
    if let Some(columns) = crate::cli::terminal_columns() {
        table.set_content_arrangement(ContentArrangement::Dynamic).set_width(columns);
    }
    let shown = show::select(log, filter, |_, record| {
        table.add_row(show::row(record));
    });
    write_out(|out| writeln!(out, "{table}"))?;
    Ok(shown)
}

//! `pgveil policy test` and `pgveil policy show`: what the policy means for people, without a database.

use super::{CliError, terminal_columns};
use crate::config::expect::{self, Outcome};
use crate::config::{self, Mistake, PolicyFiles, account};
use crate::policy::Principal;
use crate::policy::matrix::{self, Line};
use clap::{Args, Subcommand};
use comfy_table::{ContentArrangement, Table, presets};
use serde_json::json;
use std::path::PathBuf;
use std::process::ExitCode;

/// Test what the policy gives, or show it as a table
#[derive(Subcommand)]
pub enum Policy {
    Test(Test),
    Show(Show),
}

/// Where the policy is.
#[derive(Args)]
struct PolicyDir {
    /// Folder with policy.toml and tags.toml; nothing else of it is read
    #[arg(long = "config", value_name = "DIR", env = "PGVEIL_CONFIG")]
    dir: PathBuf,
}

/// Run a file of expectations against the policy; exit code 0 when all of them hold, else 1
///
/// No database is asked: tables are those that tags.toml and the file name, as they are once they are sealed. The commented
/// example is config/policy-test.toml.
#[derive(Args)]
pub struct Test {
    #[command(flatten)]
    config: PolicyDir,
    /// Print a JSON array: name, file, line, holds, expected, got, changes
    #[arg(long)]
    json: bool,
    /// The expectations
    file: PathBuf,
}

/// Print what one person may do: labels, actions, how values are shown, conditions, limits
///
/// Of several lines for one action the first whose conditions hold decides.
#[derive(Args)]
pub struct Show {
    #[command(flatten)]
    config: PolicyDir,
    /// The user whose rights are shown
    #[arg(long = "as", value_name = "USER")]
    user: String,
    /// Print a JSON array
    #[arg(long)]
    json: bool,
}

impl Policy {
    pub(super) fn run(self) -> Result<ExitCode, CliError> {
        match self {
            Policy::Test(command) => command.run(),
            Policy::Show(command) => command.run(),
        }
    }
}

impl PolicyDir {
    fn load(&self) -> Result<PolicyFiles, CliError> {
        let files = config::load_policy(&self.dir).map_err(|mistakes| CliError::from_mistakes(&mistakes))?;
        if files.policy.trust_database_roles {
            eprintln!(
                "warning: trust_database_roles = true: what PostgreSQL's memberships give beside [roles] is left out\n\
                 hint: pgveil explain asks the database."
            );
        }
        Ok(files)
    }
}

impl Test {
    fn run(self) -> Result<ExitCode, CliError> {
        let files = self.config.load()?;
        let expectations = expect::read(&self.file, &files)
            .map_err(|mistakes: Vec<Mistake>| CliError::from_mistakes(&mistakes))?;
        let outcomes = expect::run(&expectations, &files);
        let failed = outcomes.iter().filter(|outcome| outcome.failure.is_some()).count();
        if self.json {
            let list: Vec<serde_json::Value> = outcomes.iter().map(as_json).collect();
            println!("{}", serde_json::Value::Array(list));
        } else {
            outcomes.iter().for_each(print);
            match (failed, outcomes.len()) {
                (0, 1) => println!("1 expectation holds"),
                (0, all) => println!("{all} expectations hold"),
                (failed, all) => println!("{failed} of {all} expectations fail"),
            }
        }
        Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

fn print(outcome: &Outcome<'_>) {
    let Some(failure) = &outcome.failure else { return };
    let place = &outcome.expectation.place;
    println!("{}:{}: {}", place.file.display(), place.line, outcome.expectation.name);
    println!("  expected  {}", failure.expected);
    println!("  got       {}", failure.got);
    failure.changes.iter().for_each(|change| println!("  change    {change}"));
}

fn as_json(outcome: &Outcome<'_>) -> serde_json::Value {
    let (place, failure) = (&outcome.expectation.place, outcome.failure.as_ref());
    json!({
        "name": outcome.expectation.name,
        "file": place.file.display().to_string(),
        "line": place.line,
        "holds": failure.is_none(),
        "expected": failure.map(|failure| &failure.expected),
        "got": failure.map(|failure| &failure.got),
        "changes": failure.map(|failure| &failure.changes),
    })
}

impl Show {
    fn run(self) -> Result<ExitCode, CliError> {
        let files = self.config.load()?;
        let lines = matrix::matrix(&files.policy, &Principal::assumed(self.user));
        if self.json {
            let list: Vec<serde_json::Value> = lines.iter().map(|line| line_as_json(line, &files)).collect();
            println!("{}", serde_json::Value::Array(list));
            return Ok(ExitCode::SUCCESS);
        }
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
        if let Some(width) = terminal_columns() {
            table.set_width(width);
        }
        table.set_header(["label", "action", "outcome", "when", "limits", "rule"]);
        let mut before = None;
        for line in &lines {
            let own = (line.label, line.action);
            let again = before.replace(own) == Some(own);
            let (label, action) = if again { ("", "") } else { (line.label, line.action.name()) };
            let (when, limits, rule) = match line.rule {
                Some((index, rule)) => (
                    conditions(rule),
                    limits(rule),
                    account::named(&rule.name, index, &files.rules).replacen("rule ", "", 1),
                ),
                None if again => ("otherwise".to_owned(), String::new(), String::new()),
                None => (String::new(), String::new(), "default".to_owned()),
            };
            table.add_row([label, action, &line.outcome.name(), &when, &limits, &rule]);
        }
        println!("{table}");
        Ok(ExitCode::SUCCESS)
    }
}

fn conditions(rule: &crate::policy::Rule) -> String {
    match &*matrix::conditions(rule) {
        [] => "always".to_owned(),
        some => some.join("; "),
    }
}

fn limits(rule: &crate::policy::Rule) -> String {
    let each = matrix::limits(&rule.limits).into_iter();
    each.map(|(name, rows)| format!("{name} {rows}")).collect::<Vec<_>>().join(", ")
}

fn line_as_json(line: &Line<'_>, files: &PolicyFiles) -> serde_json::Value {
    let rule = line.rule.map(|(_, rule)| rule);
    let limits = rule.map(|rule| matrix::limits(&rule.limits)).unwrap_or_default();
    json!({
        "label": line.label,
        "action": line.action.name(),
        "outcome": line.outcome.name(),
        "conditions": rule.map(matrix::conditions).unwrap_or_default(),
        "limits": limits.into_iter().collect::<std::collections::BTreeMap<_, _>>(),
        "rule": rule.map(|rule| &*rule.name),
        "line": line.rule.and_then(|(index, _)| files.rules.get(index)).map(|place| place.line),
    })
}

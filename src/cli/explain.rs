//! `pgveil explain`: the plan of a statement as someone, without sending it.

use super::{CliError, ConfigDir};
use crate::catalog::Action;
use crate::catalog::build::build;
use crate::config::{Config, account};
use crate::plan::explain::Explained;
use crate::plan::{NO_NAMES, Planned, Script, Session, plan};
use crate::policy::{Circumstances, Principal, why};
use crate::server::pump::unix_micros;
use crate::server::service;
use std::collections::HashSet;
use std::process::ExitCode;

/// Print the plan of a statement: what would be sent, sealed, opened, recorded, or why it is refused
///
/// And of every label that it uses: which rule decided, and what would change that.
#[derive(clap::Args)]
pub struct Explain {
    #[command(flatten)]
    config: ConfigDir,
    /// The user that the statement comes from
    #[arg(long = "as", value_name = "USER")]
    user: String,
    /// The purpose that the session has set
    #[arg(long, value_name = "PURPOSE")]
    purpose: Option<String>,
    /// The address that the client connects from
    #[arg(long, value_name = "ADDRESS")]
    from: Option<std::net::IpAddr>,
    /// The database whose catalog is read; [database] service_database unless given
    #[arg(long = "dbname", value_name = "NAME")]
    database: Option<String>,
    /// The session's search path
    #[arg(long, value_name = "SCHEMAS", value_delimiter = ',', default_value = "public")]
    search_path: Vec<String>,
    /// Print as JSON
    #[arg(long)]
    json: bool,
    /// The statement, or several
    sql: String,
}

impl Explain {
    pub(super) fn run(self) -> Result<ExitCode, CliError> {
        let config = self.config.load()?;
        let name = self.database.unwrap_or_else(|| config.settings.database.service_database.clone());
        let unreadable = |error: service::ServiceError| {
            CliError::new(format!("cannot read the catalog of database \"{name}\": {error}"))
                .hint("Start the database, or name another with --dbname.")
        };
        let raw = super::block_on(async {
            let mut client = service::service(&config.settings.database, &name).await.map_err(&unreadable)?;
            service::read_catalog(&mut client).await.map_err(&unreadable)
        })?;
        let catalog = build(raw, &config.tags, &name, 1, None);
        let circumstances = Circumstances {
            now: unix_micros() / 1_000_000,
            address: self.from,
            purpose: self.purpose,
            second_factor_at: None,
            glass_broken_at: None,
        };
        let principal = Principal::assumed(self.user.clone());
        let session = Session {
            principal: &principal,
            circumstances: &circumstances,
            search_path: &self.search_path,
            named: &NO_NAMES,
        };
        let script = plan(&self.sql, &[], &catalog, &config.policy, &session);
        let explained = Explained(&script).to_string();
        let reasons = reasons(&script, &config, &session);
        if self.json {
            let refused = script.statements.iter().any(|planned| matches!(planned, Planned::Refuse(_)));
            let lines: Vec<&str> = explained.lines().collect();
            let why: Vec<serde_json::Value> = reasons.iter().map(Reasons::as_json).collect();
            println!("{}", serde_json::json!({ "refused": refused, "plan": lines, "why": why }));
        } else {
            print!("{explained}");
            reasons.iter().for_each(Reasons::print);
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Why one label is used as it is.
struct Reasons {
    action: Action,
    label: String,
    verdict: String,
    changes: Vec<String>,
}

impl Reasons {
    fn print(&self) {
        println!("\nwhy        {} {}: {}", self.action.name(), self.label, self.verdict);
        self.changes.iter().for_each(|change| println!("change     {change}"));
    }

    fn as_json(&self) -> serde_json::Value {
        serde_json::json!({
            "action": self.action.name(),
            "label": self.label,
            "verdict": self.verdict,
            "changes": self.changes,
        })
    }
}

/// Of every label that the statements use, or may not use.
fn reasons(script: &Script, config: &Config, session: &Session<'_>) -> Vec<Reasons> {
    let mut uses: Vec<(&str, Action)> = vec![];
    for planned in &script.statements {
        match planned {
            Planned::Plan(plan) => {
                uses.extend(plan.uses.iter().map(|used| (&*used.domain.0.label, used.action)))
            }
            Planned::Refuse(refusal) | Planned::Unresolved(refusal) => {
                uses.extend(refusal.uses.iter().map(|(_, label, action)| (label.as_str(), *action)))
            }
            Planned::Pass(_) | Planned::Local(_) => {}
        }
    }
    let mut seen = HashSet::new();
    uses.retain(|used| seen.insert(*used));
    let each = uses.into_iter().filter_map(|(label, action)| {
        let domain = config.policy.domains.iter().find(|domain| *domain.label == *label)?;
        let account = why::account(&config.policy, session.principal, domain, action, session.circumstances);
        Some(Reasons {
            action,
            label: label.to_owned(),
            verdict: account::verdict(&account, action, &config.places.rules),
            changes: account::changes(&account, action, session.principal.user(), &config.places.rules),
        })
    });
    each.collect()
}

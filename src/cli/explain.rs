//! `pgveil explain`: the plan of a statement as someone, without sending it.

use super::{CliError, ConfigDir};
use crate::catalog::build::build;
use crate::plan::explain::Explained;
use crate::plan::{NO_NAMES, Planned, Session, plan};
use crate::policy::{Circumstances, Principal};
use crate::server::pump::unix_micros;
use crate::server::service;
use std::process::ExitCode;

/// Print the plan of a statement: what would be sent, sealed, opened, recorded, or why it is refused
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
        let principal = Principal::assumed(self.user);
        let session = Session {
            principal: &principal,
            circumstances: &circumstances,
            search_path: &self.search_path,
            named: &NO_NAMES,
        };
        let script = plan(&self.sql, &[], &catalog, &config.policy, &session);
        let explained = Explained(&script).to_string();
        if self.json {
            let refused = script.statements.iter().any(|planned| matches!(planned, Planned::Refuse(_)));
            let lines: Vec<&str> = explained.lines().collect();
            println!("{}", serde_json::json!({ "refused": refused, "plan": lines }));
        } else {
            print!("{explained}");
        }
        Ok(ExitCode::SUCCESS)
    }
}

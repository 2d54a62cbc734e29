//! `pgveil check`: every mistake of the files, and of files against keys, users and databases, in one run.

mod examination;
mod log_ins;
mod recorded;

use super::{CliError, ConfigDir, block_on};
use crate::audit::keys::signing_key;
use crate::catalog::Seal;
use crate::catalog::build::build;
use crate::config::against::{self, Survey};
use crate::config::{self, Config, Mistake, PROXY, Place, Weight, sarif};
use crate::server::prepare_ledger;
use crate::server::service::{self, ServiceError};
use crate::server::settings::AuthSource;
use clap::Args;
use examination::Examination;
use std::process::ExitCode;
use std::time::Duration;
use tokio_postgres::Client;

/// Validate files, keys and databases against each other
///
/// Prints every mistake, each with file, line and remedy. Exit code 1 when there is an error, 0 when there are warnings
/// at most.
///
/// Warnings say what the database gives away although the files hold: tagged columns that are not sealed yet; settings by
/// which the server keeps statements, and what of them is plaintext; roles, superusers and hosts that get round the proxy; untagged
/// columns that look like personal data; deterministic columns whose cells can be told by how often they occur. The last
/// is a frequency attack, carried out on counts: an attacker who knows how often each value occurs recovers every value whose
/// count no other has, and of values with one count guesses one right.
#[derive(Args)]
pub struct Check {
    #[command(flatten)]
    config: ConfigDir,
    /// Leave the database out: files and keys only
    #[arg(long)]
    offline: bool,
    /// An administrator's connection, to look at the database by: the planner's statistics, pg_hba.conf, how often the
    /// cells of deterministic columns occur (each such table is read once), and --sample. Nothing is written. The
    /// service user sees settings, grants and names
    #[arg(long, value_name = "URL", env = "PGVEIL_DATABASE_URL", hide_env_values = true)]
    database: Option<String>,
    /// Sample so many values of each untagged column, and say which hold cards, IBANs, e-mail addresses, phone or social
    /// security numbers. Values are counted, never shown
    #[arg(long, value_name = "ROWS", default_value_t = 0, requires = "database")]
    sample: u32,
    /// Print the findings as a JSON array: id, severity, file, line, message, hint
    #[arg(long)]
    json: bool,
    /// Print the findings as SARIF 2.1.0, for code hosts and editors
    #[arg(long, conflicts_with = "json")]
    sarif: bool,
}

impl Check {
    pub(super) fn run(self) -> Result<ExitCode, CliError> {
        let findings = match config::load(&self.config.dir) {
            Err(mistakes) => mistakes,
            Ok(config) => self.findings(&config)?,
        };
        let failed = findings.iter().any(|finding| finding.weight != Weight::Advice);
        if self.sarif {
            println!("{}", sarif::log(&findings));
        } else if self.json {
            let list: Vec<serde_json::Value> = findings.iter().map(as_json).collect();
            println!("{}", serde_json::Value::Array(list));
        } else {
            for finding in &findings {
                eprintln!("{}: {finding}\nhint: {}", sarif::level(finding.weight), finding.hint);
            }
            if !failed {
                println!("{} holds", self.config.dir.display());
            }
        }
        Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }

    fn findings(&self, config: &Config) -> Result<Vec<Mistake>, CliError> {
        let mut findings = config.remarks.clone();
        findings.extend(keys(config));
        findings.extend(against::users(config));
        findings.extend(against::log_ins(config));
        if !self.offline {
            findings.extend(block_on(databases(config, self.database.as_deref(), self.sample))?);
        }
        Ok(findings)
    }
}

fn as_json(finding: &Mistake) -> serde_json::Value {
    serde_json::json!({
        "id": finding.id,
        "severity": sarif::level(finding.weight),
        "file": finding.file.display().to_string(),
        "line": finding.line,
        "message": finding.message,
        "hint": finding.hint,
    })
}

fn finding(place: &Place, id: &'static str, message: String, hint: impl Into<String>) -> Mistake {
    Mistake {
        id,
        weight: Weight::Mistake,
        file: place.file.clone(),
        line: place.line,
        message,
        hint: hint.into(),
    }
}

fn keys(config: &Config) -> Vec<Mistake> {
    let mut findings = Vec::new();
    match config.keys.keyring() {
        Err(error) => findings.push(finding(&config.places.keys, "unusable-keys", error.message, error.hint)),
        Ok(keyring) => {
            if let Some(key) = config.keys.outdated_key() {
                let message = format!(
                    "the keyring's master key is wrapped by key \"{key}\", not by the one that is named here"
                );
                let hint = "Run: pgveil keys rewrap (it takes a new master key to the one that is named).";
                let finding = finding(&config.places.keys, "configuration-advice", message, hint);
                findings.push(Mistake { weight: Weight::Advice, ..finding });
            }
            let place = Place { file: config.dir.join(config::USERS), line: 1 };
            let sealed = [config.second_factors().err(), config.upstream_credentials().err()];
            for error in sealed.into_iter().flatten() {
                findings.push(finding(&place, "unusable-keys", error.message, error.hint));
            }
            let domains = config.policy.domains.iter().zip(&config.places.domains);
            for (domain, place) in domains.filter(|(domain, _)| domain.seal != Seal::None) {
                if keyring.domain_id(&domain.name).is_none() {
                    let message = format!("the keyring has given no id to domain {}", domain.name);
                    findings.push(finding(place, "unusable-keys", message, "Run: pgveil init"));
                }
                if keyring.current_version(&domain.key).is_none() {
                    let message = format!(
                        "the keyring has no key \"{}\", which domain {} names",
                        domain.key, domain.name
                    );
                    findings.push(finding(
                        place,
                        "unusable-keys",
                        message,
                        "Correct the name, or run pgveil init, which makes the key.",
                    ));
                }
            }
        }
    }
    if let Err(fault) = signing_key(&config.settings.audit.folder) {
        let place = Place { file: config.dir.join(PROXY), line: 1 };
        findings.push(finding(
            &place,
            "unusable-keys",
            fault.message,
            fault.hint.unwrap_or_else(|| "Run: pgveil init".to_owned()),
        ));
    }
    findings
}

async fn databases(config: &Config, url: Option<&str>, sample: u32) -> Result<Vec<Mistake>, CliError> {
    let settings = &config.settings.database;
    let refused = |error: ServiceError| {
        let hint = "Start the database, correct [database], or run: pgveil init --database URL (it makes the service user).";
        vec![finding(&config.places.database, "unreachable-database", error.message, hint)]
    };
    let client = match service::service(settings, &settings.service_database).await {
        Ok(client) => client,
        Err(error) => return Ok(refused(error)),
    };
    let names = match service::databases(&client).await {
        Ok(names) => names,
        Err(error) => return Ok(refused(error)),
    };
    let mut survey = Survey::new(config);
    let mut examination = Examination::new(config, url, sample);
    for name in names {
        match read(config, &name).await {
            Ok(catalog) => {
                survey.database(&catalog);
                examination.database(&catalog).await?;
            }
            Err(error) => survey.unreadable(&name, &error.message),
        }
    }
    let mut findings = survey.finish();
    findings.extend(examination.finish().await?);
    findings.extend(ledger(config, &client).await);
    findings.extend(log_ins::findings(config).await);
    if config.settings.auth == AuthSource::Database
        && let Err(error) = service::verifier(&client, &settings.service_user).await
    {
        let message = format!("users cannot be looked up in the database: {}", error.message);
        findings.push(finding(
            &config.places.database,
            "unreachable-database",
            message,
            "Run: pgveil init --database URL, as a superuser.",
        ));
    }
    Ok(findings)
}

/// What rules ask for and no proxy could count.
async fn ledger(config: &Config, client: &Client) -> Option<Mistake> {
    let needed = config.policy.rules.iter().position(|rule| rule.second_factor || rule.limits.is_shared())?;
    let place = config.places.rules.get(needed).unwrap_or(&config.places.database);
    let why = match prepare_ledger::missing(client).await {
        Ok(None) => return None,
        Ok(Some(name)) => format!("there is no function {name} that the service user may call"),
        Err(error) => error.message,
    };
    let database = &config.settings.database.service_database;
    let message = format!(
        "rule \"{}\" needs the ledger in database {database}, which cannot be used: {why}",
        config.policy.rules[needed].name
    );
    Some(finding(place, "missing-ledger", message, "Run: pgveil init --database URL"))
}

/// Longest wait for one database's catalog: one that hangs is one that cannot be read.
const CATALOG_TIMEOUT: Duration = Duration::from_secs(20);

async fn read(config: &Config, database: &str) -> Result<crate::catalog::Catalog, ServiceError> {
    let mut client = service::service(&config.settings.database, database).await?;
    let raw = service::in_time(CATALOG_TIMEOUT, service::read_catalog(&mut client)).await?;
    Ok(build(raw, &config.tags, database, 0, None))
}

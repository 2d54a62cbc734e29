//! The questions that `check` asks each database, and whom it hands the answers to. What a database refuses to answer
//! becomes a finding; a connection that fails ends the command.

use super::recorded;
use crate::catalog::{Catalog, Tag};
use crate::cli::CliError;
use crate::config::doctor::{Doctor, Recorded, TaggedColumn};
use crate::config::sensitive::{self, Content};
use crate::config::{Config, Mistake, against};
use crate::server::examine::{self, StoredColumn};
use crate::server::service::{self, ServiceError};
use tokio_postgres::Client;

pub struct Examination<'c> {
    config: &'c Config,
    /// An administrator's, if there is one.
    url: Option<&'c str>,
    /// Values of each untagged column.
    sample: u32,
    doctor: Doctor<'c>,
    guessable: Vec<Mistake>,
    /// What the audit log tells of statements.
    recorded: Recorded,
}

impl<'c> Examination<'c> {
    pub fn new(config: &'c Config, url: Option<&'c str>, sample: u32) -> Examination<'c> {
        let recorded = recorded::looked_up(&config.settings.audit.folder);
        let doctor = Doctor::new(config);
        Examination { config, url, sample, doctor, guessable: Vec::new(), recorded }
    }

    pub async fn database(&mut self, catalog: &Catalog) -> Result<(), CliError> {
        if !self.doctor.is_concerned(catalog) {
            return Ok(());
        }
        let database = catalog.database.as_str();
        let client = self.connect(database).await?;
        self.guesses(&client, database).await?;
        let tagged = self.doctor.tagged(catalog);
        let columns: Vec<(u32, i16)> = tagged.iter().map(|column| (column.relation, column.number)).collect();
        let service_user = &self.config.settings.database.service_user;
        let grants = examine::grants(&client, service_user, &columns).await;
        let grants = self.answer(&format!("the grants of database {database}"), grants)?;
        self.doctor.grants(database, &tagged, &grants);
        self.look_ups(&client, database, &tagged).await?;
        self.untagged(&client, catalog).await?;
        self.distributions(&client, database, &tagged).await
    }

    pub async fn finish(mut self) -> Result<Vec<Mistake>, CliError> {
        let client = self.connect(&self.config.settings.database.service_database).await?;
        let superusers = examine::superusers(&client).await;
        let superusers = self.answer("the superusers", superusers)?;
        self.doctor.superusers(&superusers);
        let settings = examine::settings(&client).await;
        let settings = self.answer("the settings", settings)?;
        if self.url.is_some() {
            let rules = examine::hba(&client).await;
            let rules = self.answer("pg_hba.conf", rules)?;
            self.doctor.hosts(&rules, &settings);
        }
        self.doctor.settings(&settings);
        let mut findings = self.guessable;
        findings.extend(self.doctor.finish());
        Ok(findings)
    }

    async fn connect(&self, database: &str) -> Result<Client, CliError> {
        examine::connect(&self.config.settings.database, self.url, database).await.map_err(failed)
    }

    /// An answer; an empty one, and a finding, when the database would not give it.
    fn answer<T: Default>(&mut self, what: &str, answer: Result<T, ServiceError>) -> Result<T, CliError> {
        match answer {
            Ok(answer) => Ok(answer),
            Err(ServiceError { sqlstate: Some(code), message }) => {
                // No right, a lock, out of time. Any other message may quote a value: a type's own cast can say anything.
                let is_plain = ["42", "55", "57"].iter().any(|class| code.starts_with(class));
                let why = if is_plain { message } else { format!("SQLSTATE {code}") };
                self.doctor.unexamined(what, &why);
                Ok(T::default())
            }
            Err(error) => Err(failed(error)),
        }
    }

    /// Columns whose values can be tried one by one.
    async fn guesses(&mut self, client: &Client, database: &str) -> Result<(), CliError> {
        let here = |tag: &&Tag| tag.database.as_deref().is_none_or(|name| name == database);
        for tag in self.config.tags.tags.iter().filter(here) {
            let estimated = service::distinct(client, &tag.schema, &tag.table, &tag.column).await;
            if let Some((distinct, rows)) = estimated.map_err(failed)? {
                self.guessable.extend(against::guessable(self.config, tag, database, distinct, rows));
            }
        }
        Ok(())
    }

    /// Columns by which rows are looked up, without an index.
    async fn look_ups(
        &mut self,
        client: &Client,
        database: &str,
        tagged: &[TaggedColumn],
    ) -> Result<(), CliError> {
        let looked_up = self.doctor.looked_up(database, tagged, &self.recorded);
        let columns: Vec<(u32, i16)> =
            looked_up.iter().map(|(column, _)| (column.relation, column.number)).collect();
        if columns.is_empty() {
            return Ok(());
        }
        let unindexed = examine::unindexed(client, &columns).await;
        let unindexed = self.answer(&format!("the indexes of database {database}"), unindexed)?;
        for (place, rows) in unindexed {
            let found = looked_up.iter().find(|(column, _)| (column.relation, column.number) == place);
            if let Some((column, statements)) = found {
                self.doctor.unindexed(database, column, *statements, rows);
            }
        }
        Ok(())
    }

    async fn untagged(&mut self, client: &Client, catalog: &Catalog) -> Result<(), CliError> {
        let columns = examine::columns(client).await;
        let columns = self.answer(&format!("the columns of database {}", catalog.database), columns)?;
        for column in self.doctor.untagged(catalog, columns) {
            let content = self.content(client, &column).await?;
            self.doctor.untagged_column(&catalog.database, &column, content);
        }
        Ok(())
    }

    async fn content(&mut self, client: &Client, column: &StoredColumn) -> Result<Option<Content>, CliError> {
        if self.sample == 0 || !column.is_local || !matches!(column.category, 'S' | 'N') {
            return Ok(None);
        }
        let values = examine::sample(client, column, self.sample).await;
        let what = format!("column {}.{}.{}", column.schema, column.table, column.column);
        let values = self.answer(&what, values)?;
        Ok(sensitive::by_content(values.iter().map(|value| value.as_str())))
    }

    async fn distributions(
        &mut self,
        client: &Client,
        database: &str,
        tagged: &[TaggedColumn],
    ) -> Result<(), CliError> {
        if self.url.is_none() {
            return Ok(());
        }
        for column in tagged.iter().filter(|column| column.is_deterministic && column.is_named()) {
            let (schema, table, name) = (&column.schema, &column.table, &column.column);
            let counted = examine::frequencies(client, schema, table, name).await;
            let counted = self.answer(&format!("column {schema}.{table}.{name}"), counted)?;
            self.doctor.distribution(database, column, &counted);
        }
        Ok(())
    }
}

fn failed(error: ServiceError) -> CliError {
    CliError::new(error.message).hint("Correct --database, or leave it out: the service user sees less.")
}

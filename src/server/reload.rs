//! A new configuration: what of it holds at once, what only after a restart.
//!
//! Guarantees: it holds as a whole or not at all; what cannot change while running (addresses, the database, the log,
//! numbers of places) is kept and named in the log, so that no connection sees half of another database's settings.
//! Certificates are read again. Deliberately absent: reading files of policy and tags (`config`, behind [`Reload`]).

use super::listener::Shared;
use super::settings::Settings;
use super::tls::{self, DatabaseConnector, TlsError};
use super::{Prepared, Reload, about_ourselves};
use crate::audit::Event;
use std::sync::Arc;

/// What new connections are made with: replaced whole.
pub struct Rim {
    pub settings: Settings,
    pub acceptor: Option<tls::Acceptor>,
    pub connector: DatabaseConnector,
}

impl Rim {
    /// Reads the certificates and keys that the settings name.
    ///
    /// # Errors
    /// A file that cannot be used, by name.
    pub fn new(settings: Settings) -> Result<Rim, TlsError> {
        Ok(Rim {
            acceptor: tls::acceptor(&settings.listen)?,
            connector: DatabaseConnector::new(&settings.database)?,
            settings,
        })
    }
}

/// Lets a newly read configuration hold, or says why the old one does on. True when the new one holds.
pub async fn reload(shared: &Shared, reload: &Reload, generation: u64) -> bool {
    let reload = reload.clone();
    let read = tokio::task::spawn_blocking(move || reload()).await;
    let mistakes = match read {
        Ok(Ok(prepared)) => match replace(shared, prepared, generation).await {
            Ok(()) => return true,
            Err(error) => vec![error.0],
        },
        Ok(Err(mistakes)) => mistakes,
        Err(_) => vec!["reading it failed".to_owned()],
    };
    shared.metrics.config_read(false);
    for mistake in mistakes {
        tracing::error!(mistake, "a mistake in the new configuration");
    }
    tracing::error!("the new configuration is wrong: the old one holds on");
    false
}

async fn replace(shared: &Shared, mut prepared: Prepared, generation: u64) -> Result<(), TlsError> {
    let kept = shared.rim.load().settings.keep(&mut prepared.settings);
    let rim = Rim::new(prepared.settings.clone())?;
    for setting in kept {
        tracing::warn!(setting, "this setting changed, which takes effect at a restart");
    }
    let (digest, files) = (prepared.digest.clone(), prepared.files.clone());
    shared.rim.store(Arc::new(rim));
    shared.service.forget().await;
    shared.ledger.forget().await;
    shared.worlds.replace(Arc::new(prepared)).await;
    shared.metrics.config_generation(generation);
    shared.metrics.config_read(true);
    match shared.log.change_key().await {
        Ok(true) => tracing::info!("the audit log is signed by another key from now on"),
        Ok(false) => {}
        Err(fault) => tracing::error!(reason = %fault, "the audit log's key could not be changed"),
    }
    shared.log.note(about_ourselves(Event::Reloaded { configuration: digest.clone(), files }));
    tracing::info!(configuration = digest, generation, "the new configuration holds");
    Ok(())
}

//! `pgveil serve`: runs the proxy until it is told to stop.

use super::{CliError, ConfigDir, memory};
use crate::config::keys::{KeySettings, KeysUnusable, Memory};
use crate::config::{self, Config};
use crate::server::key_watch::{KeyWatch, KeysAway};
use crate::server::{Prepared, Reload, Server, StartError, fault};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use tokio::signal::unix::{SignalKind, signal};

/// Run the proxy. SIGHUP reloads the configuration; SIGTERM finishes transactions and stops, a second one stops at once
#[derive(clap::Args)]
pub struct Serve {
    #[command(flatten)]
    config: ConfigDir,
}

impl Serve {
    pub(super) fn run(self) -> Result<ExitCode, CliError> {
        let config = self.config.load()?;
        log_to_stderr()?;
        let locked = memory::lock();
        let (dir, memory) = (config.dir.clone(), config.keys.memory.clone());
        let prepared = prepared(config)?;
        match locked {
            Ok(true) => tracing::info!("memory is locked: keys are not swapped out"),
            Ok(false) => tracing::info!(
                "memory is not locked, since the limit on locked memory is not lifted (ulimit -l unlimited): encrypt the swap, or have none"
            ),
            Err(error) => tracing::warn!(%error, "memory cannot be locked: encrypt the swap, or have none"),
        }
        // Connections run on the server's worker threads; here it accepts, polls and answers the admin endpoint.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| CliError::new(format!("cannot start the runtime: {error}")))?;
        runtime.block_on(serve(prepared, reload_of(dir, memory)))?;
        Ok(ExitCode::SUCCESS)
    }
}

impl From<StartError> for CliError {
    fn from(error: StartError) -> CliError {
        CliError { message: error.message, hint: error.hint }
    }
}

/// Structured logs, one JSON object a line. `PGVEIL_LOG` filters as `tracing` does; `info` unless set.
///
/// # Errors
/// A filter that cannot be read.
fn log_to_stderr() -> Result<(), CliError> {
    let filter = match std::env::var("PGVEIL_LOG") {
        Ok(filter) if !filter.is_empty() => filter,
        _ => "info".to_owned(),
    };
    let filter = tracing_subscriber::EnvFilter::builder().parse(filter).map_err(|error| {
        CliError::new(format!("PGVEIL_LOG cannot be read: {error}"))
            .hint("A level, such as info, or levels of modules, such as info,pgveil::server=debug.")
    })?;
    // Only the first subscriber of a process holds; a second one would be a test's.
    let _ = tracing_subscriber::fmt().json().with_env_filter(filter).with_writer(std::io::stderr).try_init();
    fault::hush_panics();
    Ok(())
}

/// The configuration with its keys unwrapped.
///
/// # Errors
/// Keys that cannot be used.
pub fn prepared(config: Config) -> Result<Prepared, CliError> {
    let ciphers = config.ciphers().map_err(|error| CliError::new(error.message).hint(error.hint))?;
    let factors = config.second_factors().map_err(|error| CliError::new(error.message).hint(error.hint))?;
    let credentials = config.upstream_credentials();
    let credentials = credentials.map_err(|error| CliError::new(error.message).hint(error.hint))?;
    Ok(Prepared {
        settings: config.settings,
        policy: Arc::new(config.policy),
        tags: Arc::new(config.tags),
        ciphers: Arc::new(ciphers),
        users: Arc::new(config.users),
        factors: Arc::new(factors),
        credentials: Arc::new(credentials),
        key_watch: key_watch(config.keys),
        digest: config.digest,
        files: config.files,
    })
}

fn key_watch(keys: KeySettings) -> KeyWatch {
    let every = keys.check_every;
    let away = |error: KeysUnusable| KeysAway { message: error.message, is_final: error.is_final };
    KeyWatch { every, ask: Arc::new(move || keys.try_anew().map_err(away)) }
}

/// Reads the folder again when asked to. A master key in `memory` is not asked for again.
pub fn reload_of(dir: PathBuf, memory: Memory) -> Reload {
    Arc::new(move || read_again(&dir, &memory))
}

fn read_again(dir: &Path, memory: &Memory) -> Result<Prepared, Vec<String>> {
    let mut config =
        config::load(dir).map_err(|mistakes| mistakes.iter().map(ToString::to_string).collect::<Vec<_>>())?;
    config.keys.memory = memory.clone();
    prepared(config).map_err(|error| vec![error.message])
}

async fn serve(prepared: Prepared, reload: Reload) -> Result<(), CliError> {
    let refused = |error: std::io::Error| CliError::new(format!("cannot listen for signals: {error}"));
    let mut hangup = signal(SignalKind::hangup()).map_err(refused)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(refused)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(refused)?;
    let server = Server::start(prepared, reload).await?;
    tracing::info!(
        address = server.address.map(|address| address.to_string()),
        unix_socket = server.unix_socket.as_ref().map(|path| path.display().to_string()),
        admin = server.admin.map(|address| address.to_string()),
        "pgveil is ready"
    );
    let shutdown = server.shutdown();
    let mut generation = 1;
    loop {
        tokio::select! {
            _ = hangup.recv() => {
                if server.reload(generation + 1).await {
                    generation += 1;
                }
            }
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
        }
    }
    tracing::info!("draining");
    shutdown.advance();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        shutdown.advance();
    });
    server.drain().await;
    tracing::info!("stopped");
    Ok(())
}

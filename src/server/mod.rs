//! Sockets, TLS, the pump, upstream, cancel keys, reload, admin endpoint, shutdown.
//!
//! The only part that is asynchronous about clients' traffic: what a conversation means is the relay's. Guarantees: a
//! reload either holds as a whole or not at all, and says which; the proxy outlives any one connection.

pub mod admin;
pub mod cancel;
mod certificate;
pub mod examine;
pub mod fault;
pub mod fence;
mod identify;
pub mod key_watch;
pub mod ledger;
pub mod listener;
mod notice;
mod parameters;
pub mod prepare;
pub mod prepare_ledger;
mod proxied;
pub mod pump;
pub mod reload;
mod remote;
pub mod service;
mod service_tls;
pub mod settings;
pub mod shutdown;
mod side;
mod sink;
pub mod startup;
pub mod stream;
pub mod throttle;
pub mod tls;
pub mod token_keys;
pub mod upstream;
pub mod workers;
pub mod world;

use crate::audit::persons::FORGET_FILE;
use crate::audit::writer::{Log, LogSettings};
use crate::audit::{AuditRecord, Event, pending};
use crate::auth::otp::SecondFactors;
use crate::auth::{Credentials, Verifiers};
use crate::catalog::Tags;
use crate::crypto::Ciphers;
use crate::metrics::Metrics;
use crate::plan::cache::PlanCache;
use crate::policy::Policy;
use admin::{LogWatch, Part, Readiness};
use arc_swap::ArcSwap;
use key_watch::KeyWatch;
use listener::Shared;
use pump::unix_micros;
use reload::Rim;
use settings::Settings;
use shutdown::{Phase, Shutdown};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;
use workers::Workers;

/// How often the database is asked whether it answers, in seconds.
const PING_SECONDS: u64 = 3;
/// How often the catalog of a database is read to which nobody is connected.
const IDLE_SECONDS: u64 = 30;

/// One configuration, ready to hold.
pub struct Prepared {
    pub settings: Settings,
    pub policy: Arc<Policy>,
    pub tags: Arc<Tags>,
    pub ciphers: Arc<Ciphers>,
    pub users: Arc<Verifiers>,
    pub factors: Arc<SecondFactors>,
    /// Of the roles that log in upstream for those who prove no password.
    pub credentials: Arc<Credentials>,
    pub key_watch: KeyWatch,
    /// What the audit log calls this configuration.
    pub digest: String,
    /// (name, digest) of each file that it was read from.
    pub files: Vec<(String, String)>,
}

/// Reads the configuration again; the mistakes, one a line, when it does not hold.
pub type Reload = Arc<dyn Fn() -> Result<Prepared, Vec<String>> + Send + Sync>;

/// Why the server could not start.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct StartError {
    pub message: String,
    pub hint: Option<String>,
}

impl StartError {
    fn new(message: impl Into<String>) -> StartError {
        StartError { message: message.into(), hint: None }
    }
}

/// A running server.
pub struct Server {
    shared: Arc<Shared>,
    reload: Reload,
    /// Where it listens: useful when the port was 0.
    pub address: Option<SocketAddr>,
    pub unix_socket: Option<PathBuf>,
    pub admin: Option<SocketAddr>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Server {
    /// Opens the log and the sockets, and begins to accept.
    ///
    /// # Errors
    /// What could not be opened, and why.
    pub async fn start(prepared: Prepared, reload: Reload) -> Result<Server, StartError> {
        let metrics = Metrics::new();
        let readiness = Readiness::new();
        let rim = Rim::new(prepared.settings.clone()).map_err(|error| StartError::new(error.0))?;
        let listen = &rim.settings.listen;
        let log = Arc::new(open_log(&rim.settings, &metrics, &readiness)?);
        let started = Event::Started {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            configuration: prepared.digest.clone(),
            files: prepared.files.clone(),
        };
        if log.record(about_ourselves(started)).await.is_err() {
            return Err(StartError::new("the audit log cannot be written"));
        }
        readiness.set(Part::Log, Ok(()));
        readiness.set(Part::Keys, Ok(()));
        metrics.key_provider(true);
        metrics.token_keys(true);
        metrics.config_generation(1);
        metrics.config_read(true);
        let mut mock_secret = [0; 32];
        let mut plans_secret = [0; 16];
        for secret in [&mut mock_secret[..], &mut plans_secret] {
            getrandom::fill(secret).map_err(|error| StartError::new(error.to_string()))?;
        }
        let shared = Arc::new(Shared {
            places: Arc::new(Semaphore::new(listen.connections_max)),
            doors: Arc::new(Semaphore::new(listen.connections_max.saturating_add(listener::DOORS_MORE))),
            plans: Arc::new(PlanCache::new(rim.settings.plan_cache_entries, plans_secret)),
            rim: ArcSwap::from_pointee(rim),
            service: service::Kept::default(),
            ledger: ledger::Ledger::default(),
            worlds: {
                let log = log.clone();
                world::Worlds::new(Arc::new(prepared), Arc::new(move |record| log.note(record)))
            },
            cancel_keys: cancel::CancelKeys::default(),
            connections: AtomicU64::new(0),
            workers: Workers::start()
                .map_err(|error| StartError::new(format!("cannot start the worker threads: {error}")))?,
            budgets: Arc::default(),
            shutdown: Shutdown::default(),
            throttle: throttle::Throttle::default(),
            token_keys: token_keys::TokenKeys::default(),
            mock_secret,
            log,
            metrics,
            readiness,
        });
        let mut server =
            Server { shared, reload, address: None, unix_socket: None, admin: None, tasks: Vec::new() };
        server.listen().await?;
        Ok(server)
    }

    async fn listen(&mut self) -> Result<(), StartError> {
        let shared = self.shared.clone();
        let settings = &shared.rim.load().settings;
        let listen = &settings.listen;
        let refused = |what: String| {
            move |error: std::io::Error| StartError::new(format!("cannot listen on {what}: {error}"))
        };
        if let Some(address) = listen.address {
            let listener = TcpListener::bind(address).await.map_err(refused(address.to_string()))?;
            self.address = listener.local_addr().ok();
            self.tasks.push(tokio::spawn(listener::tcp(listener, shared.clone())));
        }
        if let Some(folder) = &listen.unix_socket {
            let port = self.address.map_or(5432, |address| address.port());
            let path = folder.join(format!(".s.PGSQL.{port}"));
            let listener = bind_unix(&path).await.map_err(refused(path.display().to_string()))?;
            self.tasks.push(tokio::spawn(listener::unix(listener, shared.clone())));
            self.unix_socket = Some(path);
        }
        if let Some(address) = settings.admin {
            let listener = TcpListener::bind(address).await.map_err(refused(address.to_string()))?;
            self.admin = listener.local_addr().ok();
            let (metrics, readiness) = (shared.metrics.clone(), shared.readiness.clone());
            self.tasks.push(tokio::spawn(async move {
                admin::serve(listener, metrics, readiness).await;
            }));
        }
        shared.readiness.set(Part::Listener, Ok(()));
        self.tasks.push(tokio::spawn(ledger::sweep(shared.clone())));
        for (index, sink) in settings.audit.sinks.iter().enumerate() {
            let following = sink::run(shared.clone(), settings.audit.clone(), sink.clone(), index);
            self.tasks.push(tokio::spawn(following));
        }
        self.tasks.push(tokio::spawn(key_watch::watch(shared.clone())));
        self.tasks.push(tokio::spawn(token_keys::watch(shared.clone())));
        self.tasks.push(tokio::spawn(watch_log(shared.clone())));
        self.tasks.push(tokio::spawn(watch_database(shared)));
        Ok(())
    }

    /// Reads the configuration again. The old one holds on when the new one is wrong.
    pub async fn reload(&self, generation: u64) -> bool {
        reload::reload(&self.shared, &self.reload, generation).await
    }

    pub fn shutdown(&self) -> Shutdown {
        self.shared.shutdown.clone()
    }

    pub fn metrics(&self) -> Metrics {
        self.shared.metrics.clone()
    }

    /// Waits until every connection has ended, at most the drain time, and closes the log.
    pub async fn drain(self) {
        let shared = self.shared;
        shared.readiness.set(Part::Listener, Err("draining".to_owned()));
        let settings = shared.rim.load().settings.clone();
        let places = u32::try_from(settings.listen.connections_max).unwrap_or(u32::MAX);
        let mut phase = shared.shutdown.subscribe();
        tokio::select! {
            _ = shared.places.acquire_many(places) => {}
            () = tokio::time::sleep(settings.listen.drain) => {}
            _ = phase.wait_for(|phase| *phase == Phase::Stopping) => {}
        }
        shared.shutdown.stop();
        // Connections write their last words; a peer that does not take them is not waited for longer.
        let _ = tokio::time::timeout(Duration::from_secs(6), shared.places.acquire_many(places)).await;
        let _ = tokio::time::timeout(Duration::from_secs(5), ledger::close(&shared)).await;
        // What cannot be recorded now shows as a log without its last record.
        let _ =
            tokio::time::timeout(Duration::from_secs(5), shared.log.record(about_ourselves(Event::Stopped)))
                .await;
        for task in self.tasks {
            task.abort();
        }
        if let Some(path) = self.unix_socket {
            // Another server may have taken the place; then it is not ours to remove.
            let _ = std::fs::remove_file(path);
        }
    }
}

fn open_log(settings: &Settings, metrics: &Metrics, readiness: &Readiness) -> Result<Log, StartError> {
    let mut log = LogSettings::new(&settings.audit.folder);
    log.segments = settings.audit.segments;
    log.watch = Some(Arc::new(LogWatch { metrics: metrics.clone(), readiness: readiness.clone() }));
    let log = Log::open(log, Arc::new(unix_micros))
        .map_err(|fault| StartError { message: fault.message, hint: fault.hint })?;
    if let Some(repair) = log.repair() {
        tracing::warn!(
            unsigned = repair.unsigned,
            cut = repair.cut,
            "the audit log was not closed cleanly and was put right"
        );
    }
    Ok(log)
}

/// A record of the proxy itself, now.
fn about_ourselves(event: Event) -> AuditRecord {
    AuditRecord::of_the_proxy(unix_micros(), event)
}

/// A socket that nobody listens on any more is taken over.
async fn bind_unix(path: &std::path::Path) -> std::io::Result<UnixListener> {
    if tokio::net::UnixStream::connect(path).await.is_err() {
        // It may not be there at all.
        let _ = std::fs::remove_file(path);
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777))?;
    Ok(listener)
}

/// Tries a log that could not be written again each second: whoever sends no traffic because of `/readyz` would otherwise
/// never learn that it can be.
/// And carries out what `pgveil audit forget` asks for.
async fn watch_log(shared: Arc<Shared>) {
    let (mut unrecorded, mut unforgotten) = (false, false);
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        // Readiness is told by the log's own watch.
        if shared.log.usable().await.is_ok() {
            let recorded = record_notes(&shared).await;
            match &recorded {
                Err(error) if !unrecorded => {
                    tracing::error!(%error, "what commands left word of could not be recorded");
                }
                _ => {}
            }
            unrecorded = recorded.is_err();
        }
        forget_asked(&shared, &mut unforgotten).await;
    }
}

async fn forget_asked(shared: &Shared, failing: &mut bool) {
    let request = shared.rim.load().settings.audit.folder.join(FORGET_FILE);
    if !tokio::fs::try_exists(request).await.unwrap_or(false) {
        return;
    }
    match shared.log.forget().await {
        Ok(_) => {
            tracing::info!("a person was forgotten: no record of the audit log leads to them any more");
            *failing = false;
        }
        Err(why) if !*failing => {
            tracing::error!(reason = %why, "a person could not be forgotten; trying on each second");
            *failing = true;
        }
        Err(_) => {}
    }
}

/// Records what commands left word of.
async fn record_notes(shared: &Shared) -> std::io::Result<()> {
    let folder = shared.rim.load().settings.audit.folder.clone();
    let Some(taken) = pending::take(&folder)? else { return Ok(()) };
    for event in &taken.events {
        let recorded = shared.log.record(about_ourselves(event.clone())).await;
        recorded.map_err(std::io::Error::other)?;
    }
    taken.done()
}

/// Polls the catalogs of databases in use each second, and less often those of others, and whether
/// the database answers at all.
async fn watch_database(shared: Arc<Shared>) {
    for second in 0u64.. {
        if second == 0 {
            // What its columns are, the metrics say before anybody has come.
            shared.worlds.know(&shared.worlds.prepared().settings.database.service_database);
        }
        let mut state = shared.worlds.poll(second.is_multiple_of(IDLE_SECONDS)).await;
        if second.is_multiple_of(PING_SECONDS) || state.is_err() {
            let prepared = shared.worlds.prepared();
            state = state.and(shared.service.ping(&prepared.settings.database).await);
            shared.readiness.set(Part::Database, state.map_err(|error| error.message));
        }
        let prepared = shared.worlds.prepared();
        if prepared.policy.trust_database_roles {
            // Where it cannot be asked, nothing is read there either: what it said last holds until then.
            if let Ok(memberships) = shared.service.memberships(&prepared.settings.database).await {
                shared.worlds.follow(memberships).await;
            }
        }
        let ratios = shared.worlds.sealed_ratios();
        shared.metrics.sealed_ratios(ratios.iter().map(|(column, ratio)| (column.as_str(), *ratio)));
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

//! Accepting clients: TCP and Unix socket, the connection limit, the log-in time-out, one task a connection.
//!
//! Guarantees: a task that panics takes nothing with it; a failing `accept` is retried, not spun on; those who have not
//! proved who they are hold a bounded number of sockets, and none for long.
//! Deliberately absent: what a conversation says (the relay), how it is moved (the pump).

use super::admin::Readiness;
use super::cancel::{CancelKeys, SECRET_BYTES};
use super::identify::{Identified, identify};
use super::ledger::Ledger;
use super::proxied;
use super::pump::{Pump, unix_micros};
use super::reload::Rim;
use super::service;
use super::settings::ClientCertificate;
use super::shutdown::{Phase, Shutdown};
use super::startup::{self, Asked, Asking, Rejection, fatal};
use super::stream::{Peer, Stream};
use super::throttle::Throttle;
use super::token_keys::TokenKeys;
use super::upstream::{self, Upstream};
use super::workers::Workers;
use super::world::{Attached, Database, Worlds};
use crate::audit::writer::Log;
use crate::audit::{AuditRecord, Connection, Event, InsteadOfPassword, Said};
use crate::auth::LoggedIn;
use crate::crypto::provider::SystemRandom;
use crate::metrics::{ConnectionState, Metrics};
use crate::plan::cache::PlanCache;
use crate::policy::budget::Budgets;
use crate::relay::{Opening, Relay};
use crate::wire::backend::{self, Authentication};
use crate::wire::startup::encode_cancel;
use arc_swap::ArcSwap;
use bytes::BytesMut;
use socket2::SockRef;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

/// Pause after `accept` failed: it fails again at once while file descriptors are short.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Sockets of clients that are on their way in, beyond the places for those who are in: a full house still tells them
/// so, and takes cancel requests.
pub const DOORS_MORE: usize = 100;
/// How long a client that is turned away may take to be told.
const TURN_AWAY: Duration = Duration::from_secs(1);

/// What all connections share.
pub struct Shared {
    pub rim: ArcSwap<Rim>,
    pub service: service::Kept,
    pub ledger: Ledger,
    pub worlds: Worlds,
    pub plans: Arc<PlanCache>,
    pub log: Arc<Log>,
    pub metrics: Metrics,
    pub readiness: Readiness,
    pub cancel_keys: CancelKeys,
    pub places: Arc<Semaphore>,
    /// Held from accept to the end of log-in.
    pub doors: Arc<Semaphore>,
    /// Of this process: what unknown users' made-up verifiers come from.
    pub mock_secret: [u8; 32],
    pub throttle: Throttle,
    pub token_keys: TokenKeys,
    pub connections: AtomicU64,
    pub workers: Workers,
    pub budgets: Arc<Budgets>,
    pub shutdown: Shutdown,
}

/// Where a client comes from.
#[derive(Clone, Copy)]
pub(super) struct Origin(Option<SocketAddr>);

impl Origin {
    pub(super) fn address(self) -> Option<IpAddr> {
        self.0.map(|address| address.ip())
    }
    pub(super) fn text(self) -> String {
        self.0.map_or_else(|| "unix".to_owned(), |address| address.to_string())
    }
}

/// Accepts TCP clients until the server drains.
pub async fn tcp(listener: TcpListener, shared: Arc<Shared>) {
    let mut phase = shared.shutdown.subscribe();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = phase.wait_for(|phase| *phase != Phase::Serving) => return,
        };
        match accepted {
            Ok((stream, address)) => {
                // Small messages should leave at once; without it they still arrive.
                let _ = stream.set_nodelay(true);
                // As PostgreSQL does: a client that vanished is noticed in the end.
                let _ = SockRef::from(&stream).set_keepalive(true);
                match stream.into_std() {
                    Ok(stream) => {
                        let open = || Ok(Box::new(TcpStream::from_std(stream)?) as Box<dyn Stream>);
                        spawn(open, Origin(Some(address)), shared.clone());
                    }
                    Err(error) => pause(&error).await,
                }
            }
            Err(error) => pause(&error).await,
        }
    }
}

/// Accepts Unix socket clients until the server drains.
pub async fn unix(listener: UnixListener, shared: Arc<Shared>) {
    let mut phase = shared.shutdown.subscribe();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = phase.wait_for(|phase| *phase != Phase::Serving) => return,
        };
        match accepted {
            Ok((stream, _)) => match stream.into_std() {
                Ok(stream) => {
                    let open = || Ok(Box::new(UnixStream::from_std(stream)?) as Box<dyn Stream>);
                    spawn(open, Origin(None), shared.clone());
                }
                Err(error) => pause(&error).await,
            },
            Err(error) => pause(&error).await,
        }
    }
}

async fn pause(error: &std::io::Error) {
    tracing::warn!(%error, "a connection could not be accepted");
    tokio::time::sleep(ACCEPT_PAUSE).await;
}

/// Gives a client to a worker. `open` makes the stream one of the runtime that it is called on.
fn spawn<O>(open: O, origin: Origin, shared: Arc<Shared>)
where
    O: FnOnce() -> std::io::Result<Box<dyn Stream>> + Send + 'static,
{
    let Ok(door) = shared.doors.clone().try_acquire_owned() else {
        if let Ok(stream) = open() {
            tokio::spawn(tokio::time::timeout(TURN_AWAY, turn_away(stream)));
        }
        return;
    };
    let shared_by_it = shared.clone();
    shared.workers.spawn(async move {
        let Ok(stream) = open() else { return };
        // Boxed, so that what the log-in takes is given back after it.
        let connected = Box::pin(connect(stream, origin, door, shared_by_it)).await;
        let Some((pump, number, _stay)) = connected else { return };
        pump.run().await;
        tracing::info!(connection = number, "closed");
    });
}

/// Everything up to the conversation. The door is held until the log-in's end.
async fn connect(
    stream: Box<dyn Stream>,
    origin: Origin,
    door: OwnedSemaphorePermit,
    shared: Arc<Shared>,
) -> Option<(Box<Pump>, u64, Stay)> {
    let number = shared.connections.fetch_add(1, Ordering::Relaxed) + 1;
    let mut state = shared.metrics.connection(ConnectionState::LoggingIn);
    let ready = log_in(stream, origin, number, &shared).await?;
    drop(door);
    state.enter(ConnectionState::Idle);
    tracing::info!(
        connection = number,
        user = ready.user,
        database = ready.database_name,
        address = ready.address,
        "logged in"
    );
    let pump = Pump::new(number, ready.client, ready.server, ready.relay, shared, ready.database, state);
    Some((Box::new(pump), number, ready.stay))
}

/// Says that there is no room, without having listened.
async fn turn_away(stream: Box<dyn Stream>) {
    if let Rejection::Tell(fields) = full() {
        // It may be gone; then there is nobody to tell.
        let _ = Peer::new(stream).send(fields.encode(backend::ERROR_RESPONSE).bytes()).await;
    }
}

fn full() -> Rejection {
    fatal("53300", "sorry, too many clients already", None)
}

/// A connection after both log-ins.
struct Ready {
    client: Peer,
    server: Peer,
    relay: Relay,
    database: Arc<Database>,
    user: String,
    database_name: String,
    /// Where the client comes from, for our log.
    address: String,
    /// How it came in, where that was not by a password.
    instead: Option<InsteadOfPassword>,
    stay: Stay,
}

/// What a connection holds until it ends.
struct Stay {
    _attached: Attached,
    _registration: super::cancel::Registration,
    _place: OwnedSemaphorePermit,
}

/// Both log-ins, within the time-out. Who takes longer is told nothing, as by PostgreSQL.
async fn log_in(stream: Box<dyn Stream>, origin: Origin, number: u64, shared: &Arc<Shared>) -> Option<Ready> {
    let rim = shared.rim.load_full();
    let deadline = Instant::now() + rim.settings.listen.log_in_timeout;
    let announced =
        timeout_at(deadline, proxied::origin(stream, origin.0, &rim.settings.listen.proxies)).await;
    let (stream, origin) = match announced {
        Ok(Ok((stream, address))) => (stream, Origin(address)),
        Ok(Err(reason)) => {
            reject(None, Rejection::Silent(reason), number, origin).await;
            return None;
        }
        Err(_) => {
            reject(None, TOO_LONG, number, origin).await;
            return None;
        }
    };
    let asked = startup::accept(stream, origin.0.is_none(), rim.acceptor.as_ref(), rim.settings.listen.tls);
    let asked = timeout_at(deadline, asked).await.unwrap_or(Err((TOO_LONG, None)));
    let asking = match asked {
        Ok(Asked::LogIn(asking)) => asking,
        Ok(Asked::Cancel { process_id, secret }) => {
            // Whether it was passed on in time, nobody is told.
            let _ = timeout_at(deadline, cancel(process_id, &secret, &rim, shared)).await;
            return None;
        }
        Err((rejection, client)) => {
            reject(client, rejection, number, origin).await;
            return None;
        }
    };
    let succeeded = AuditRecord {
        time: unix_micros(),
        connection: Said::from(Connection {
            number,
            user: asking.user().to_owned(),
            database: asking.database().to_owned(),
            application: asking.parameter("application_name").unwrap_or_default().to_owned(),
            address: origin.text(),
        }),
        event: Event::LoggedIn { instead: None },
    };
    let mut client = None;
    let admitted = timeout_at(deadline, admit(asking, &mut client, origin, number, &rim, shared)).await;
    match admitted.unwrap_or(Err(TOO_LONG)) {
        Ok(ready) => {
            // A log-in discloses nothing: it is not held until its record is on disk.
            let instead = ready.instead.clone();
            shared.log.note(AuditRecord { event: Event::LoggedIn { instead }, ..succeeded });
            Some(ready)
        }
        Err(rejection) => {
            let reason = match &rejection {
                Rejection::Tell(fields) => fields.sqlstate().to_owned(),
                Rejection::Undisclosed(_, why) => why.clone(),
                Rejection::Silent(why) => (*why).to_owned(),
            };
            shared.log.note(AuditRecord { event: Event::LogInFailed { reason }, ..succeeded });
            reject(client, rejection, number, origin).await;
            None
        }
    }
}

const TOO_LONG: Rejection = Rejection::Silent("log-in took too long");

async fn reject(client: Option<Peer>, rejection: Rejection, number: u64, origin: Origin) {
    match rejection {
        Rejection::Tell(fields) | Rejection::Undisclosed(fields, _) => {
            tracing::info!(
                connection = number,
                address = origin.text(),
                sqlstate = fields.sqlstate(),
                "refused a client"
            );
            if let Some(mut client) = client {
                // It may be gone, or not listen; then there is nobody to tell.
                let error = fields.encode(backend::ERROR_RESPONSE);
                let _ = tokio::time::timeout(TURN_AWAY, client.send(error.bytes())).await;
            }
        }
        Rejection::Silent(reason) => {
            tracing::info!(connection = number, address = origin.text(), reason, "dropped a client");
        }
    }
}

/// Everything between the start-up packet and ReadyForQuery. On an error the client is put into `rejected`.
async fn admit(
    asking: Asking,
    rejected: &mut Option<Peer>,
    origin: Origin,
    number: u64,
    rim: &Rim,
    shared: &Arc<Shared>,
) -> Result<Ready, Rejection> {
    let (user, database_name) = (asking.user().to_owned(), asking.database().to_owned());
    let application = asking.parameter("application_name").unwrap_or_default().to_owned();
    let Asking { client, parameters, encrypted } = asking;
    let client = rejected.insert(client);
    let place = room(client, &user, origin, rim, shared)?;
    let identified = identify(client, &user, encrypted, origin, shared).await?;
    let instead = identified.instead();
    let Identified { logged_in: LoggedIn { principal, secret }, upstream: role, method: _ } = identified;
    let server = upstream::socket(&rim.settings.database.address, &rim.connector).await?;
    let Upstream { server, process_id, secret, parameters, greeting, ready } =
        Upstream::log_in(server, &parameters, &user, &role, secret).await?;
    let (database, attached) = shared.worlds.open(&database_name).await.map_err(|error| {
        tracing::error!(database = database_name, %error, "the service user cannot read a catalog that tags could apply to");
        uncatalogued(&database_name)
    })?;
    let mut own_secret = [0; SECRET_BYTES];
    getrandom::fill(&mut own_secret).map_err(|_| Rejection::Silent("no randomness"))?;
    let registration = shared.cancel_keys.register(process_id, own_secret, secret);
    let mut greeted = BytesMut::new();
    greeted.extend_from_slice(Authentication::Ok.encode().bytes());
    greeted.extend_from_slice(&greeting);
    greeted.extend_from_slice(backend::encode_backend_key_data(process_id, &own_secret).bytes());
    greeted.extend_from_slice(&ready);
    client.send(&greeted).await?;
    let pooled = rim.settings.database.session_pooler;
    let opening = Opening {
        principal,
        server_process: (!pooled).then_some(process_id),
        connection: number,
        database: database_name.clone(),
        application,
        upstream: (role != user).then_some(role),
        address: origin.address(),
        address_text: origin.text(),
        budgets: shared.budgets.clone(),
        row_bytes_max: usize::try_from(shared.rim.load().settings.listen.message_bytes_max)
            .unwrap_or(usize::MAX),
        parameters,
    };
    let relay = Relay::new(
        opening,
        database.world(),
        shared.plans.clone(),
        shared.metrics.clone(),
        Box::new(SystemRandom),
    );
    let client = rejected.take().ok_or(Rejection::Silent("the client is gone"))?;
    Ok(Ready {
        client,
        server,
        relay,
        database,
        user,
        database_name,
        address: origin.text(),
        instead,
        stay: Stay { _attached: attached, _registration: registration, _place: place },
    })
}

/// A place for a connection that may log in at all.
fn room(
    client: &Peer,
    user: &str,
    origin: Origin,
    rim: &Rim,
    shared: &Shared,
) -> Result<OwnedSemaphorePermit, Rejection> {
    let names = &rim.settings.certificate_names;
    let certified = client.certified.as_deref().is_some_and(|name| names.names(name, user).is_ok());
    let named = rim.settings.listen.client_certificate == ClientCertificate::VerifyFull;
    if named && origin.0.is_some() && !certified {
        // PostgreSQL's words, which say nothing of the certificate.
        return Err(fatal("28000", &format!("certificate authentication failed for user \"{user}\""), None));
    }
    let place = shared.places.clone().try_acquire_owned().map_err(|_| full())?;
    if shared.shutdown.phase() != Phase::Serving {
        return Err(fatal("57P03", "the database system is shutting down", None));
    }
    Ok(place)
}

fn uncatalogued(database: &str) -> Rejection {
    fatal(
        "57P03",
        &format!("the catalog of database \"{database}\" cannot be read to protect its tagged columns"),
        Some("The service user of pgveil needs CONNECT on it; see the log of pgveil."),
    )
}

/// Passes a cancel request on; unknown ones are dropped in silence.
async fn cancel(process_id: i32, secret: &[u8], rim: &Rim, shared: &Shared) {
    let Some(server_secret) = shared.cancel_keys.find(process_id, secret) else { return };
    if let Ok(mut server) = upstream::socket(&rim.settings.database.address, &rim.connector).await {
        // The server answers nothing, and closes.
        let _ = server.send(&encode_cancel(process_id, &server_secret)).await;
        let _ = server.read_more().await;
    }
}

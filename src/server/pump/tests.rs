//! What a client and the log see of a mistake of ours.

use super::super::key_watch::KeyWatch;
use super::super::reload::Rim;
use super::super::workers::Workers;
use super::super::world::Worlds;
use super::super::{Prepared, admin::Readiness, cancel::CancelKeys, service, shutdown::Shutdown};
use super::*;
use crate::audit::AuditRecord;
use crate::audit::keys::ensure_keys;
use crate::audit::writer::{Log, LogSettings};
use crate::config;
use crate::crypto::Ciphers;
use crate::crypto::provider::SystemRandom;
use crate::metrics::Metrics;
use crate::plan::cache::PlanCache;
use crate::policy::Principal;
use crate::relay::Opening;
use arc_swap::ArcSwap;
use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, PoisonError};
use tokio::io::{AsyncReadExt, DuplexStream};
use tokio::sync::Semaphore;

async fn shared(audit: &Path) -> Arc<Shared> {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    let config = config::load_unprepared(&examples).unwrap_or_else(|mistakes| panic!("{mistakes:?}"));
    ensure_keys(audit).unwrap();
    Arc::new(Shared {
        token_keys: Default::default(),
        throttle: crate::server::throttle::Throttle::default(),
        rim: ArcSwap::from_pointee(
            Rim::new(config.settings.clone()).unwrap_or_else(|error| panic!("{error}")),
        ),
        service: service::Kept::default(),
        ledger: ledger::Ledger::default(),
        worlds: Worlds::new(
            Arc::new(Prepared {
                settings: config.settings,
                policy: Arc::new(config.policy),
                // Without tags no database is asked for its catalog.
                tags: Arc::default(),
                ciphers: Arc::new(Ciphers::default()),
                users: Arc::default(),
                credentials: Arc::default(),
                factors: Arc::default(),
                key_watch: KeyWatch { every: Duration::from_secs(60), ask: Arc::new(|| Ok(())) },
                digest: String::new(),
                files: Vec::new(),
            }),
            Arc::new(|_| ()),
        ),
        plans: Arc::new(PlanCache::new(0, [0; 16])),
        log: Arc::new(Log::open(LogSettings::new(audit), Arc::new(unix_micros)).unwrap()),
        metrics: Metrics::new(),
        readiness: Readiness::new(),
        cancel_keys: CancelKeys::default(),
        places: Arc::new(Semaphore::new(1)),
        doors: Arc::new(Semaphore::new(1)),
        mock_secret: [0; 32],
        connections: AtomicU64::new(0),
        workers: Workers::start().unwrap(),
        budgets: Arc::default(),
        shutdown: Shutdown::default(),
    })
}

/// A pump of connection 7, and the other ends of its two streams.
async fn pump(audit: &Path) -> (Pump, DuplexStream, DuplexStream) {
    let shared = shared(audit).await;
    let Ok((database, _)) = shared.worlds.open("shop").await else { panic!("nothing is asked") };
    let opening = Opening {
        principal: Principal::authenticated("ada".to_owned(), BTreeSet::new()),
        connection: 7,
        database: "shop".to_owned(),
        application: String::new(),
        address: None,
        upstream: None,
        address_text: "unix".to_owned(),
        budgets: shared.budgets.clone(),
        row_bytes_max: usize::MAX,
        server_process: None,
        parameters: Vec::new(),
    };
    let (plans, metrics) = (shared.plans.clone(), shared.metrics.clone());
    let relay = Relay::new(opening, database.world(), plans, metrics, Box::new(SystemRandom));
    let state = shared.metrics.connection(ConnectionState::Idle);
    let (client, ours) = tokio::io::duplex(4096);
    let (server, theirs) = tokio::io::duplex(4096);
    let (ours, theirs) = (Peer::new(Box::new(ours)), Peer::new(Box::new(theirs)));
    (Pump::new(7, ours, theirs, relay, shared, database, state), client, server)
}

/// What is logged, to look at.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_panic_ends_its_connection_with_an_id_that_the_log_knows() {
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt().json().with_writer(move || writer.clone()).finish();
    let _log = tracing::subscriber::set_default(subscriber);
    let audit = tempfile::tempdir().unwrap();
    let (mut pump, mut client, mut server) = pump(audit.path()).await;
    let result = pump.work(|_, _, steps| {
        steps.push(Step::ToClient(b"half of a reply".to_vec().into()));
        if !steps.is_empty() {
            panic!("at 'ann@example.com'");
        }
    });
    assert!(result.is_none() && pump.closing);
    pump.perform();
    Box::new(pump).end().await;

    let mut told = Vec::new();
    client.read_to_end(&mut told).await.unwrap();
    let told = String::from_utf8_lossy(&told).into_owned();
    assert!(told.starts_with('E') && told.contains("SFATAL\0") && told.contains("CXX000\0"), "{told:?}");
    let (_, rest) = told.split_once("under fault 7-").unwrap();
    let (id, _) = rest.split_once(".\0").unwrap();
    assert_eq!(id.len(), 16);
    let mut sent = Vec::new();
    server.read_to_end(&mut sent).await.unwrap();
    assert_eq!(sent, **frontend::encode_terminate().bytes());

    let logged = String::from_utf8(lines.0.lock().unwrap_or_else(PoisonError::into_inner).clone()).unwrap();
    assert!(logged.lines().count() == 1 && logged.contains(&format!("\"fault\":\"7-{id}\"")), "{logged}");
    for text in [told, logged] {
        assert!(!text.contains("ann@") && !text.contains("half"), "{text}");
    }
}

/// A statement that fails before its reply leaves a record whose answer nothing waits for.
#[tokio::test]
async fn records_of_statements_that_failed_do_not_gather() {
    let audit = tempfile::tempdir().unwrap();
    let (mut pump, _client, _server) = pump(audit.path()).await;
    let record = || AuditRecord::of_the_proxy(1, Event::Stopped);
    let mut most = 0;
    for _ in 0..5 * UNASKED_AT_MOST {
        pump.gates.push_back(pump.shared.log.submit(record()));
        let _ = poll_fn(|context| Poll::Ready(pump.poll_answers(context))).await;
        most = most.max(pump.gates.len());
    }
    assert!(most > 1, "those that nothing waits for are left");
    let few = async {
        while pump.gates.len() > UNASKED_AT_MOST {
            let _ = poll_fn(|context| Poll::Ready(pump.poll_answers(context))).await;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), few).await.unwrap();
}

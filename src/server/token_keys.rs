//! The keys of the OpenID provider, by which tokens are judged: read from a file, or asked for by HTTPS, and kept.
//!
//! Guarantees: a provider that is away takes nothing from those whose keys are known; a token of a key that is not known has the keys looked
//! up again, so that a provider may change them at any time, but no more often than each few seconds, whoever makes tokens up; the keys
//! are always those of the address that the configuration names now. Deliberately absent: what a token must say (`auth::token`).

use super::listener::Shared;
use super::pump::unix_micros;
use super::remote;
use super::settings::{KeySource, RemoteAddress, TokenSettings};
use crate::auth::Named;
use crate::auth::token::{KeySet, Unfit};
use arc_swap::ArcSwapOption;
use http_body_util::Empty;
use hyper::Request;
use hyper::body::Bytes;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Bytes of a key set: providers have a handful of keys.
const KEYS_MAX: usize = 1 << 20;
/// How long a provider may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between look-ups for the sake of keys that are not known, and after one that failed.
const AGAIN_URL: Duration = Duration::from_secs(3);
const AGAIN_FILE: Duration = Duration::from_secs(1);
/// Between looks at whether it is time.
const TICK: Duration = Duration::from_secs(1);

/// What is known of the provider's keys.
#[derive(Default)]
pub struct TokenKeys {
    held: ArcSwapOption<Held>,
    looking: tokio::sync::Mutex<Looks>,
}

struct Held {
    source: KeySource,
    keys: KeySet,
}

/// The last look at a source: which, when, and whether it succeeded.
#[derive(Default)]
struct Looks {
    last: Option<(KeySource, Instant, bool)>,
    /// Our log has been told that it does not succeed.
    outage_told: bool,
}

/// Why keys could not be had. Says nothing that is secret: the address stands in the configuration.
pub fn unreadable(source: &KeySource) -> String {
    match source {
        KeySource::File(path) => format!("{} cannot be read", path.display()),
        KeySource::Url { address, path } => {
            format!("https://{}:{}{path} cannot be read", address.host, address.port)
        }
    }
}

/// Reads the provider's keys now.
///
/// # Errors
/// There is no answer, or none that holds keys.
pub async fn read(source: &KeySource) -> io::Result<KeySet> {
    let bytes = match source {
        KeySource::File(path) => Bytes::from(tokio::fs::read(path).await?),
        KeySource::Url { address, path } => get(address, path).await?,
    };
    KeySet::parse(&bytes).map_err(io::Error::other)
}

async fn get(address: &RemoteAddress, path: &str) -> io::Result<Bytes> {
    let request = Request::get(path)
        .header("host", format!("{}:{}", address.host, address.port))
        .header("accept", "application/jwk-set+json, application/json")
        .header("user-agent", concat!("pgveil/", env!("CARGO_PKG_VERSION")))
        .body(Empty::<Bytes>::new())
        .map_err(io::Error::other)?;
    let answer = tokio::time::timeout(PATIENCE, remote::ask(address, request, KEYS_MAX)).await;
    let (status, body) = answer.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    if status.is_success() { body } else { Err(io::Error::other(format!("it answered {status}"))) }
}

impl TokenKeys {
    /// Whether a token is `user`'s, by the keys that are known, else by those that there are now.
    ///
    /// # Errors
    /// Why it is not.
    pub async fn judge(&self, settings: &TokenSettings, user: &str, token: &[u8]) -> Result<Named, Unfit> {
        let judge = |held: Option<Arc<Held>>| {
            let held = held.filter(|held| held.source == settings.keys).ok_or(Unfit::UnknownKey)?;
            let now = u64::try_from(unix_micros() / 1_000_000).unwrap_or(0);
            settings.rules.judge(user, token, &held.keys, now)
        };
        match judge(self.held.load_full()) {
            Err(Unfit::UnknownKey) => {
                self.look(settings, again(&settings.keys)).await;
                judge(self.held.load_full())
            }
            judged => judged,
        }
    }

    /// Looks up keys that are as old as they may be, and sooner what could not be had.
    async fn keep(&self, settings: &TokenSettings) -> bool {
        let known = self.held.load().as_ref().is_some_and(|held| held.source == settings.keys);
        let every = match self.looking.lock().await.last {
            Some((_, _, true)) if known => settings.refresh,
            _ => AGAIN_URL.min(settings.refresh),
        };
        self.look(settings, every).await
    }

    /// Looks the keys up, unless that was done within `every`; whether the last look succeeded. Who comes meanwhile waits for it.
    async fn look(&self, settings: &TokenSettings, every: Duration) -> bool {
        let source = &settings.keys;
        let mut looks = self.looking.lock().await;
        let before = looks.last.as_ref().filter(|(known, _, _)| known == source);
        if let Some((_, _, succeeded)) = before.filter(|(_, at, _)| at.elapsed() < every) {
            return *succeeded;
        }
        looks.outage_told &= before.is_some();
        // A client that goes away meanwhile must not let the next one ask at once, nor count as an answer.
        looks.last = Some((source.clone(), Instant::now(), false));
        let read = read(source).await;
        let is_well = read.is_ok();
        looks.last = Some((source.clone(), Instant::now(), is_well));
        match read {
            Ok(keys) => {
                self.held.store(Some(Arc::new(Held { source: source.clone(), keys })));
                if std::mem::take(&mut looks.outage_told) {
                    tracing::info!("the token provider's keys can be read again");
                }
            }
            Err(error) if !looks.outage_told => {
                looks.outage_told = true;
                let known = self.held.load().as_ref().is_some_and(|held| held.source == *source);
                let without =
                    if known { "those that are known hold on" } else { "no token holds until they can" };
                tracing::warn!(reason = unreadable(source), %error, "the token provider's keys: {without}");
            }
            Err(_) => {}
        }
        is_well
    }
}

fn again(source: &KeySource) -> Duration {
    match source {
        KeySource::File(_) => AGAIN_FILE,
        KeySource::Url { .. } => AGAIN_URL,
    }
}

/// Looks the keys up when it is time, or when the configuration names others.
pub(super) async fn watch(shared: Arc<Shared>) {
    loop {
        let prepared = shared.worlds.prepared();
        let is_well = match &prepared.settings.token {
            None => true,
            Some(settings) if matches!(settings.keys, KeySource::File(_)) => {
                shared.token_keys.look(settings, AGAIN_FILE).await
            }
            Some(settings) => shared.token_keys.keep(settings).await,
        };
        shared.metrics.token_keys(is_well);
        tokio::time::sleep(TICK).await;
    }
}

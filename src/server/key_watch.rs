//! Looks now and then whether the keys could still be had by a proxy that starts: the master key's provider may be away.
//!
//! Guarantees: a proxy that runs goes on whatever comes of it, for its keys are in memory; an outage shows in a metric and, when it
//! begins and ends, in our log; a provider that hangs holds up nothing but the next look, not even the end of the process; one that
//! should not be asked again (a PIN that it does not accept) is not, until the configuration is read again. Deliberately absent: what a
//! provider is (`config` hands in how to ask it).

use super::Prepared;
use super::listener::Shared;
use std::sync::Arc;
use std::time::Duration;

/// How to ask, and how often.
#[derive(Clone)]
pub struct KeyWatch {
    pub every: Duration,
    /// May block.
    pub ask: Arc<dyn Fn() -> Result<(), KeysAway> + Send + Sync>,
}

/// The keys could not be had now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeysAway {
    pub message: String,
    pub is_final: bool,
}

pub(super) async fn watch(shared: Arc<Shared>) {
    let mut was_up = true;
    // The configuration whose provider is not to be asked again.
    let mut barred: Option<Arc<Prepared>> = None;
    loop {
        tokio::time::sleep(shared.worlds.prepared().key_watch.every).await;
        let prepared = shared.worlds.prepared();
        if barred.as_ref().is_some_and(|barred| Arc::ptr_eq(barred, &prepared)) {
            continue;
        }
        let answer = asked(&prepared.key_watch).await;
        shared.metrics.key_provider(answer.is_ok());
        match &answer {
            Ok(()) if !was_up => tracing::info!("the keys can be had again"),
            Err(away) if was_up => tracing::warn!(
                reason = away.message,
                "the keys could not be had by a proxy that starts now; this one has them"
            ),
            _ => {}
        }
        was_up = answer.is_ok();
        barred = answer.is_err_and(|away| away.is_final).then_some(prepared);
    }
}

async fn asked(watch: &KeyWatch) -> Result<(), KeysAway> {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let ask = watch.ask.clone();
    // Not a thread of the runtime, which would wait for it at the end.
    let started = std::thread::Builder::new().name("keys".to_owned()).spawn(move || {
        // Nobody may be waiting any more.
        let _ = sender.send(ask());
    });
    let failed = |message: &str| Err(KeysAway { message: message.to_owned(), is_final: false });
    if started.is_err() {
        return failed("no thread can be had to ask");
    }
    match tokio::time::timeout(watch.every.max(PATIENCE), receiver).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(_)) => failed("asking failed"),
        Err(_) => failed("the provider does not answer"),
    }
}

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

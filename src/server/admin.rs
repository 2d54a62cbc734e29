//! The administrator's endpoint: `GET /metrics`, `/healthz` and `/readyz` over HTTP/1.
//!
//! Guarantees: a slow, silent or greedy client holds one of a few places for a few seconds and nothing else. Deliberately
//! absent: anything that changes the proxy, TLS and authentication; bind it to an address that only operators reach.

use crate::audit::Unrecorded;
use crate::audit::writer::Watch;
use crate::metrics::{CONTENT_TYPE, Metrics};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE as CONTENT_TYPE_HEADER, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

/// Connections served at once; more wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 16;
/// From accept to the end of the request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// From accept to the end of the reply.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(15);
/// Pause after `accept` failed: it fails again at once while file descriptors are short.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What must work before clients should come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// The database answers the service user and its catalog was read.
    Database,
    /// Every data key that policy names can be used.
    Keys,
    /// The audit log can be written.
    Log,
    /// New clients are let in; not so while draining.
    Listener,
}

impl Part {
    const ALL: [Part; 4] = [Part::Database, Part::Keys, Part::Log, Part::Listener];

    fn name(self) -> &'static str {
        match self {
            Part::Database => "database",
            Part::Keys => "keys",
            Part::Log => "log",
            Part::Listener => "listener",
        }
    }
}

/// Whether clients should come, kept up to date by whoever knows. A clone is the same.
#[derive(Clone, Default)]
pub struct Readiness(Arc<Mutex<BTreeMap<Part, Result<(), String>>>>);

impl Readiness {
    /// Every part is `not checked yet` until it is set.
    pub fn new() -> Readiness {
        Readiness::default()
    }
    /// Says how a part is. The reason is shown to whoever can reach the endpoint: no secrets, no values.
    pub fn set(&self, part: Part, state: Result<(), String>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(part, state);
    }
    /// The parts that do not work, each as `part: reason`; empty when clients may come.
    pub fn reasons(&self) -> Vec<String> {
        let parts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let reason = |part: Part| match parts.get(&part) {
            Some(Ok(())) => None,
            Some(Err(reason)) => Some(format!("{}: {}", part.name(), reason.replace(['\r', '\n'], " "))),
            None => Some(format!("{}: not checked yet", part.name())),
        };
        Part::ALL.into_iter().filter_map(reason).collect()
    }
}

/// Counts what the audit log does, and keeps its part of the readiness.
pub struct LogWatch {
    pub metrics: Metrics,
    pub readiness: Readiness,
}

impl Watch for LogWatch {
    fn appended(&self, records: u64, took: Duration) {
        self.metrics.audit_appended(records, took);
    }
    fn behind(&self, records: u64) {
        self.metrics.audit_behind(records);
    }
    fn failed(&self, why: &Unrecorded) {
        self.readiness.set(Part::Log, Err("the audit log cannot be written".to_owned()));
        tracing::error!(reason = %why, "the audit log cannot be written; nothing sensitive is disclosed until it can");
    }
    fn works_again(&self) {
        self.readiness.set(Part::Log, Ok(()));
        tracing::info!("the audit log can be written again");
    }
    fn untidy(&self, why: &str) {
        tracing::error!(
            reason = why,
            "the audit log's segments are not as they should be; records go on being written"
        );
    }
}

/// Serves until the task is dropped.
pub async fn serve(listener: TcpListener, metrics: Metrics, readiness: Readiness) -> Infallible {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let place = places.clone().acquire_owned().await.expect("the semaphore is never closed");
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "the admin endpoint could not accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (metrics, readiness) = (metrics.clone(), readiness.clone());
        tokio::spawn(async move {
            // Ends for whatever reason: there is nobody to tell.
            let _ = tokio::time::timeout(CONNECTION_TIMEOUT, converse(stream, metrics, readiness)).await;
            drop(place);
        });
    }
}

async fn converse(stream: TcpStream, metrics: Metrics, readiness: Readiness) -> hyper::Result<()> {
    let answer = service_fn(move |request: Request<Incoming>| {
        let response = answer(&request, &metrics, &readiness);
        async move { Ok::<_, Infallible>(response) }
    });
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        // One request a connection: an idle one would hold a place.
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), answer)
        .await
}

fn answer<B>(request: &Request<B>, metrics: &Metrics, readiness: &Readiness) -> Response<Full<Bytes>> {
    let path = request.uri().path();
    if !["/metrics", "/healthz", "/readyz"].contains(&path) {
        return text(StatusCode::NOT_FOUND, "not found: try /metrics, /healthz or /readyz\n".to_owned());
    }
    if ![Method::GET, Method::HEAD].contains(request.method()) {
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "only GET\n".to_owned());
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    match path {
        "/metrics" => {
            let mut response = text(StatusCode::OK, metrics.render());
            response.headers_mut().insert(CONTENT_TYPE_HEADER, HeaderValue::from_static(CONTENT_TYPE));
            response
        }
        "/healthz" => text(StatusCode::OK, "ok\n".to_owned()),
        _ => {
            let reasons = readiness.reasons();
            match reasons.is_empty() {
                // A comment of the exposition format: Prometheus can scrape readiness too, as `up` of a job of its own.
                true => text(StatusCode::OK, "# ready\n".to_owned()),
                false => text(StatusCode::SERVICE_UNAVAILABLE, reasons.join("\n") + "\n"),
            }
        }
    }
}

fn text(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE_HEADER, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

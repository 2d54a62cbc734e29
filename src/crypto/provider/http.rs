//! HTTPS to who keeps keys: one request on one connection, and one answer.
//!
//! Guarantees: nothing leaves in clear but to this machine (and, for who asks for it, to the host's own metadata addresses); the other
//! side's certificate and name are verified; every wait has an end, and [`ask`] as a whole has one, however often it tries; what is
//! sent and answered is wiped where it is ours. Callers block, on a thread of their own. Deliberately absent: redirects (they would
//! take a token elsewhere), proxies, connections that are kept, what requests mean.

use super::ProviderError;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::header::{HOST, HeaderValue, USER_AGENT};
use hyper::{HeaderMap, Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_rustls::TlsConnector;
use zeroize::Zeroizing;

/// How long [`ask`] takes at most. Less than the background's look at the keys waits, so that its reason is heard.
const PATIENCE: Duration = Duration::from_secs(9);
const CONNECT: Duration = Duration::from_secs(3);
const ANSWER: Duration = Duration::from_secs(6);
/// The pauses between tries.
const PAUSES: [Duration; 3] =
    [Duration::from_millis(300), Duration::from_millis(600), Duration::from_millis(1200)];
/// Bytes of an answer: a wrapped key, credentials, an error.
const ANSWER_BYTES_MAX: usize = 256 * 1024;

/// To whom we speak without TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum InClear {
    Loopback,
    /// And to the addresses of a cloud's host that lead nowhere else: 169.254.0.0/16, `fd00:ec2::/32`.
    Metadata,
}

/// Whom we trust, and whom we speak to in clear.
#[derive(Clone)]
pub(super) struct Client {
    /// That of the system's authorities is made when it is needed: there are many.
    tls: OnceLock<TlsConnector>,
    in_clear: InClear,
}

/// What came back.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Zeroizing<Vec<u8>>,
}

/// Nothing came back, and why. Never holds what was sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Unreachable(pub(super) String);

/// A base address that a setting may name.
///
/// # Errors
/// What is wrong with it.
pub fn base(text: &str) -> Result<Uri, &'static str> {
    let uri: Uri = text.trim_end_matches('/').parse().map_err(|_| "it is not a URL")?;
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return Err("it has no scheme, or no host");
    };
    if authority.as_str().contains('@') {
        return Err("a URL is no place for credentials");
    }
    if uri.query().is_some() {
        return Err("it has a query");
    }
    match scheme {
        "https" => Ok(uri),
        "http" if is_in_clear(uri.host().unwrap_or_default(), InClear::Loopback) => Ok(uri),
        "http" => Err("only this machine (127.0.0.1, ::1, localhost) is spoken to without TLS"),
        _ => Err("its scheme is not https"),
    }
}

fn is_in_clear(host: &str, allowed: InClear) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let metadata = allowed == InClear::Metadata;
    match host.parse() {
        Ok(IpAddr::V4(address)) => address.is_loopback() || (metadata && is_metadata_v4(address)),
        Ok(IpAddr::V6(address)) => address.is_loopback() || (metadata && is_metadata_v6(address)),
        Err(_) => host.eq_ignore_ascii_case("localhost"),
    }
}

fn is_metadata_v4(address: Ipv4Addr) -> bool {
    address.is_link_local()
}

fn is_metadata_v6(address: Ipv6Addr) -> bool {
    address.segments()[..2] == [0xfd00, 0xec2]
}

fn authorities(path: &Path) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|error| error.to_string())? {
        roots.add(certificate.map_err(|error| error.to_string())?).map_err(|error| error.to_string())?;
    }
    if roots.is_empty() { Err("no certificate in it".to_owned()) } else { Ok(roots) }
}

fn connector(roots: RootCertStore) -> TlsConnector {
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring has what TLS 1.2 and 1.3 need")
        .with_root_certificates(roots)
        .with_no_client_auth();
    TlsConnector::from(Arc::new(config))
}

impl Client {
    /// Trusts the authorities of the file, else those of the system (`SSL_CERT_FILE` and `SSL_CERT_DIR` name others).
    ///
    /// # Errors
    /// The file cannot be used.
    pub(super) fn new(ca: Option<&Path>, in_clear: InClear) -> Result<Client, ProviderError> {
        let tls = match ca {
            Some(path) => OnceLock::from(connector(authorities(path).map_err(|cause| {
                let hint = "Name a PEM file with the authorities to trust (ca), such as /etc/ssl/certs/ca-certificates.crt.";
                ProviderError::new(format!("{}: {cause}", path.display()), hint)
            })?)),
            None => OnceLock::new(),
        };
        Ok(Client { tls, in_clear })
    }

    /// The same, with others to speak to in clear.
    pub(super) fn speaking_in_clear_to(self, in_clear: InClear) -> Client {
        Client { in_clear, ..self }
    }

    /// Sends a request whose URI is absolute.
    ///
    /// # Errors
    /// No answer came, or one that is too long.
    pub(super) async fn send(&self, request: Request<Zeroizing<Vec<u8>>>) -> Result<Answer, Unreachable> {
        let uri = request.uri().clone();
        let failed = |cause: &dyn std::fmt::Display| Unreachable(format!("{} {cause}", shown(&uri)));
        let stream = match timeout(CONNECT, self.connect(&uri)).await {
            Ok(connected) => connected.map_err(|cause| failed(&cause))?,
            Err(_) => return Err(failed(&"does not accept a connection in time")),
        };
        let exchange = exchange(stream, request);
        match timeout(ANSWER, exchange).await {
            Ok(answer) => answer.map_err(|cause| failed(&cause)),
            Err(_) => Err(failed(&"does not answer in time")),
        }
    }

    async fn connect(&self, uri: &Uri) -> Result<Box<dyn Stream>, String> {
        let host = uri.host().unwrap_or_default();
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let with_tls = uri.scheme_str() == Some("https");
        if !with_tls && !is_in_clear(host, self.in_clear) {
            return Err("would be spoken to without TLS, and is not this machine".to_owned());
        }
        let port = uri.port_u16().unwrap_or(if with_tls { 443 } else { 80 });
        let stream = TcpStream::connect((bare, port)).await;
        let stream = stream.map_err(|error| format!("cannot be reached: {error}"))?;
        if !with_tls {
            return Ok(Box::new(stream));
        }
        let name = ServerName::try_from(bare.to_owned());
        let name = name.map_err(|_| "has a name that no certificate can have".to_owned())?;
        let tls = self.tls.get_or_init(|| {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            connector(roots)
        });
        let stream = tls.connect(name, stream).await;
        Ok(Box::new(stream.map_err(|error| format!("does not do TLS that can be trusted: {error}"))?))
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// Without what may be private in a path.
fn shown(uri: &Uri) -> String {
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    format!("{}://{authority}", uri.scheme_str().unwrap_or("https"))
}

async fn exchange(stream: Box<dyn Stream>, request: Request<Zeroizing<Vec<u8>>>) -> Result<Answer, String> {
    let broken = |error: hyper::Error| format!("breaks off: {error}");
    let (mut parts, body) = request.into_parts();
    if let (None, Some(authority)) = (parts.headers.get(HOST), parts.uri.authority()) {
        let host = HeaderValue::from_str(authority.as_str());
        parts.headers.insert(HOST, host.map_err(|_| "has a name that is none".to_owned())?);
    }
    parts.headers.insert(USER_AGENT, HeaderValue::from_static(concat!("pgveil/", env!("CARGO_PKG_VERSION"))));
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    parts.uri = path.parse().map_err(|_| "has a path that is none".to_owned())?;
    let request = Request::from_parts(parts, Full::new(Bytes::from_owner(body)));
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(broken)?;
    let connection = tokio::spawn(connection);
    let answer = sender.send_request(request).await.map_err(broken)?;
    let (parts, incoming) = answer.into_parts();
    let body = Limited::new(incoming, ANSWER_BYTES_MAX).collect().await;
    connection.abort();
    let body = body.map_err(|_| "breaks off, or answers too much".to_owned())?;
    let body = Zeroizing::new(Vec::from(body.to_bytes()));
    Ok(Answer { status: parts.status, headers: parts.headers, body })
}

/// Runs what asks a service, again while that may help, and waits for it. May be called anywhere: the waiting is done on a thread
/// of its own, since a thread that runs tasks may not.
///
/// # Errors
/// Those of the last try.
pub(super) fn ask<T, F>(mut once: impl FnMut() -> F + Send) -> Result<T, ProviderError>
where
    T: Send,
    F: Future<Output = Result<T, ProviderError>> + Send,
{
    let no_thread = |error: std::io::Error| {
        ProviderError::new(format!("no thread can be had to ask: {error}"), "See the limits of this process.")
            .passing()
    };
    let work = move || {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(no_thread)?;
        let answer = runtime.block_on(patiently(&mut once));
        // A look-up of a name that hangs is not waited for.
        runtime.shutdown_background();
        answer
    };
    std::thread::scope(|scope| {
        let started = std::thread::Builder::new().name("ask-keys".to_owned()).spawn_scoped(scope, work);
        match started.map_err(no_thread)?.join() {
            Ok(answer) => answer,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

async fn patiently<T, F>(once: &mut impl FnMut() -> F) -> Result<T, ProviderError>
where
    F: Future<Output = Result<T, ProviderError>>,
{
    let end = Instant::now() + PATIENCE;
    let mut pauses = PAUSES.into_iter();
    let mut last = None;
    loop {
        match timeout_at(end, once()).await {
            Ok(Err(error)) if error.may_pass => {
                let Some(pause) = pauses.next().filter(|pause| Instant::now() + *pause < end) else {
                    return Err(error);
                };
                last = Some(error);
                sleep(pause).await;
            }
            Ok(answer) => return answer,
            Err(_) => {
                let hint = "See whether the service is up and the network lets it be reached.";
                return Err(
                    last.unwrap_or_else(|| ProviderError::new("it did not answer in time", hint).passing())
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_clear_only_to_this_machine() {
        for good in [
            "https://vault.example:8200",
            "https://h/prefix/",
            "http://127.0.0.1:1",
            "http://[::1]:1",
            "http://localhost",
        ] {
            assert!(base(good).is_ok(), "{good}");
        }
        for bad in [
            "vault.example:8200",
            "http://vault.example",
            "http://10.0.0.1",
            "ftp://h",
            "https://u:p@h",
            "https://h/?q",
            "",
            "http://localhost.example",
            "http://127.0.0.1.example",
            "http://169.254.169.254",
        ] {
            assert!(base(bad).is_err(), "{bad}");
        }
        assert!(
            is_in_clear("169.254.169.254", InClear::Metadata)
                && is_in_clear("[fd00:ec2::23]", InClear::Metadata)
        );
        assert!(
            !is_in_clear("10.0.0.1", InClear::Metadata) && !is_in_clear("169.254.169.254", InClear::Loopback)
        );
    }

    #[test]
    fn what_may_pass_is_tried_again_and_the_rest_is_not() {
        let mut tries = 0;
        let answer: Result<(), _> = ask(|| {
            tries += 1;
            async { Err(ProviderError::new("away", "").passing()) }
        });
        assert_eq!((answer.expect_err("away").message.as_str(), tries), ("away", 1 + PAUSES.len()));
        let mut tries = 0;
        let answer = ask(|| {
            tries += 1;
            let tried = tries;
            async move { if tried < 2 { Err(ProviderError::new("away", "").passing()) } else { Ok(tried) } }
        });
        assert_eq!(answer, Ok(2));
        let mut tries = 0;
        let answer: Result<(), _> = ask(|| {
            tries += 1;
            async { Err(ProviderError::new("no", "")) }
        });
        assert!(answer.is_err() && tries == 1);
    }

    #[tokio::test]
    async fn it_is_asked_from_a_task_too() {
        assert_eq!(ask(|| async { Ok(7) }), Ok(7));
    }
}

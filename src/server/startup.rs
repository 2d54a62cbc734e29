//! The client's side of a new connection: TLS, the start-up packet, and the proof of the password.
//!
//! Guarantees: nothing is read before TLS begins that could be taken for later (CVE-2021-23214); what a start-up packet may
//! not change is refused before anyone is asked; until it is known who it is a client can make us hold 10,000 bytes, or a token of 64 KiB.
//! Deliberately absent: time-outs and the connection limit (the listener's), what follows ReadyForQuery (the relay's).

use super::parameters;
use super::settings::TlsMode;
use super::stream::{Peer, PeerError, Prefixed, Stream};
use super::{certificate, tls::Acceptor};
use crate::auth::Verifier;
use crate::auth::scram::{self, Failure, Proved, ServerFirst};
use crate::wire::backend::{self, Authentication, ErrorFields};
use crate::wire::startup::{self, Startup};
use crate::wire::{Limits, frontend};
use base64::Engine as _;
use bytes::Bytes;
use zeroize::Zeroizing;

/// PostgreSQL's `MAX_STARTUP_PACKET_LENGTH`, and its limit for authentication messages is of the same order.
pub const BEFORE_LOG_IN: Limits = Limits { message_bytes_max: 10_000 };

/// Tokens that list a person's groups are longer than any password (PostgreSQL's `PG_MAX_AUTH_TOKEN_LENGTH`).
const OF_TOKENS: Limits = Limits { message_bytes_max: 65_535 };

/// PostgreSQL's `NAMEDATALEN - 1`.
const NAME_BYTES_MAX: usize = 63;

/// The first byte of a TLS handshake record; as a start-up packet's length it would be far above any limit.
const TLS_HANDSHAKE: u8 = 0x16;

/// Why a connection was not let in.
pub enum Rejection {
    /// The client is told this (FATAL) and the connection closed.
    Tell(Box<ErrorFields>),
    /// As [`Tell`](Self::Tell); why, only the audit log is told.
    Undisclosed(Box<ErrorFields>, String),
    /// The client is gone, or speaks something that no answer fits.
    Silent(&'static str),
}

impl From<PeerError> for Rejection {
    fn from(error: PeerError) -> Rejection {
        match error {
            PeerError::Gone(_) => Rejection::Silent("the client went away"),
            PeerError::Violation(violation) => fatal("08P01", &violation.0, None),
        }
    }
}

impl From<crate::wire::Violation> for Rejection {
    fn from(violation: crate::wire::Violation) -> Rejection {
        fatal("08P01", &violation.0, None)
    }
}

/// A FATAL error for the client.
pub fn fatal(sqlstate: &str, message: &str, hint: Option<&str>) -> Rejection {
    Rejection::Tell(Box::new(ErrorFields::new("FATAL", sqlstate, message, None, hint, None)))
}

/// What an unknown user, a wrong password and a token that does not hold are told.
fn wrong_password(user: &str) -> ErrorFields {
    let message = format!("password authentication failed for user \"{user}\"");
    ErrorFields::new("FATAL", "28P01", &message, None, None, None)
}

/// A FATAL error for the client; why, only the audit log is told.
pub fn undisclosed(sqlstate: &str, message: &str, why: &str) -> Rejection {
    let told = ErrorFields::new("FATAL", sqlstate, message, None, None, None);
    Rejection::Undisclosed(Box::new(told), format!("{sqlstate}: {why}"))
}

/// That nothing was proved; why, only the audit log is told.
pub fn unproved(user: &str, why: &dyn std::fmt::Display) -> Rejection {
    Rejection::Undisclosed(Box::new(wrong_password(user)), format!("28P01: {why}"))
}

/// What a client's first packets asked for.
pub enum Asked {
    Cancel { process_id: i32, secret: Bytes },
    LogIn(Asking),
}

/// A client that wants to log in.
pub struct Asking {
    pub client: Peer,
    pub parameters: Vec<(String, String)>,
    /// Whether the connection is encrypted.
    pub encrypted: bool,
}

impl Asking {
    /// Of a name that is given twice the last holds, as in PostgreSQL: what we judge by is what it obeys.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().rfind(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
    /// Checked to be there by [`accept`].
    pub fn user(&self) -> &str {
        self.parameter("user").unwrap_or_default()
    }
    /// The user's name unless given, as PostgreSQL does.
    pub fn database(&self) -> &str {
        self.parameter("database").filter(|name| !name.is_empty()).unwrap_or_else(|| self.user())
    }
}

/// Reads the start of a connection up to the start-up packet, TLS included.
///
/// # Errors
/// [`Rejection`]; the client has not been told yet.
pub async fn accept(
    stream: Box<dyn Stream>,
    local: bool,
    tls: Option<&Acceptor>,
    mode: TlsMode,
) -> Result<Asked, (Rejection, Option<Peer>)> {
    let mut client = Peer::new(stream);
    let mut acceptor = tls.filter(|_| !local);
    let mut encrypted = false;
    if let Some(direct) = acceptor {
        if let Err(error) = client.read_more().await {
            return Err((error.into(), None));
        }
        if client.input.first() == Some(&TLS_HANDSHAKE) {
            client = direct_tls(client, direct).await.map_err(|rejection| (rejection, None))?;
            (encrypted, acceptor) = (true, None);
        }
    }
    // One TLS and one GSS request at most, then the start-up packet.
    for _ in 0..3 {
        let packet = match packet(&mut client).await {
            Ok(packet) => packet,
            Err(rejection) => return Err((rejection, Some(client))),
        };
        match (packet, acceptor) {
            (Startup::Ssl, Some(offered)) => {
                client = negotiated_tls(client, offered).await.map_err(|rejection| (rejection, None))?;
                (encrypted, acceptor) = (true, None);
            }
            (Startup::Ssl | Startup::Gss, _) => {
                if let Err(error) = client.send(b"N").await {
                    return Err((error.into(), None));
                }
            }
            (Startup::Cancel { process_id, secret }, _) => return Ok(Asked::Cancel { process_id, secret }),
            (Startup::Start { version, parameters }, _) => {
                let mut asking = Asking { client, parameters, encrypted };
                let needs_tls = mode == TlsMode::Require && !encrypted && !local;
                return match check(&mut asking, version, needs_tls).await {
                    Ok(()) => Ok(Asked::LogIn(asking)),
                    Err(rejection) => Err((rejection, Some(asking.client))),
                };
            }
        }
    }
    Err((fatal("08P01", "too many encryption requests", None), Some(client)))
}

async fn packet(client: &mut Peer) -> Result<Startup, Rejection> {
    loop {
        if let Some(packet) = startup::split(&mut client.input, &BEFORE_LOG_IN)? {
            return Ok(packet);
        }
        client.read_more().await?;
    }
}

/// TLS after an SSLRequest. What came behind it in clear could be anybody's, so nothing may have.
async fn negotiated_tls(mut client: Peer, acceptor: &Acceptor) -> Result<Peer, Rejection> {
    if !client.input.is_empty() {
        return Err(Rejection::Silent("unencrypted data after the request for encryption"));
    }
    client.send(b"S").await?;
    match acceptor.tls.accept(client.stream).await {
        Ok(stream) => Ok(inside(stream, acceptor)),
        Err(_) => Err(Rejection::Silent("the TLS handshake failed")),
    }
}

/// TLS from the first byte (libpq's `sslnegotiation=direct`). The client must name the protocol, so that bytes made for
/// another service cannot be passed on to this one.
async fn direct_tls(client: Peer, acceptor: &Acceptor) -> Result<Peer, Rejection> {
    let stream = Prefixed::new(client.input.freeze(), client.stream);
    match acceptor.tls.accept(stream).await {
        Ok(stream) if stream.get_ref().1.alpn_protocol() == Some(super::tls::ALPN) => {
            Ok(inside(stream, acceptor))
        }
        Ok(_) => Err(Rejection::Silent("direct TLS without ALPN")),
        Err(_) => Err(Rejection::Silent("the TLS handshake failed")),
    }
}

/// A client inside TLS: with what its proof can be bound to, and whose certificate it has.
fn inside<S: Stream + 'static>(stream: tokio_rustls::server::TlsStream<S>, acceptor: &Acceptor) -> Peer {
    let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    let certified = certificate.and_then(|certificate| certificate::common_name(certificate));
    Peer { binding: acceptor.binding.clone(), certified, ..Peer::new(Box::new(stream)) }
}

/// Holds the start-up packet to what may pass, and answers newer protocol versions.
async fn check(asking: &mut Asking, version: u32, needs_tls: bool) -> Result<(), Rejection> {
    if version >> 16 != 3 {
        return Err(fatal(
            "0A000",
            &format!(
                "unsupported frontend protocol {}.{}: server supports 3.0 to 3.0",
                version >> 16,
                version & 0xffff
            ),
            None,
        ));
    }
    if needs_tls {
        return Err(fatal(
            "28000",
            "this server requires an encrypted connection",
            Some("Connect with sslmode=require."),
        ));
    }
    let extensions: Vec<String> = asking
        .parameters
        .iter()
        .map(|(name, _)| name.clone())
        .filter(|name| name.starts_with("_pq_."))
        .collect();
    asking.parameters.retain(|(name, _)| !name.starts_with("_pq_."));
    if asking.user().is_empty() {
        return Err(fatal("28000", "no PostgreSQL user name specified in startup packet", None));
    }
    // PostgreSQL would cut them and open another database than the one whose tags we look up.
    for (what, name) in [("user", asking.user()), ("database", asking.database())] {
        if name.len() > NAME_BYTES_MAX {
            return Err(fatal("42622", &format!("{what} name is longer than {NAME_BYTES_MAX} bytes"), None));
        }
    }
    parameters::check(&asking.parameters)?;
    if version & 0xffff > 0 || !extensions.is_empty() {
        let answer = backend::encode_negotiate_protocol_version(0, &extensions);
        asking.client.send(answer.bytes()).await?;
    }
    Ok(())
}

/// Has the client prove its password, if a proof is `allowed` when it has come. The reply that completes the exchange has been sent; AuthenticationOk has not.
///
/// # Errors
/// [`Rejection`]: the same for an unknown user and a wrong password.
pub async fn prove(
    client: &mut Peer,
    user: &str,
    verifier: Option<Verifier>,
    mock_secret: &[u8; 32],
    allowed: &(dyn Fn() -> bool + Send + Sync),
) -> Result<Proved, Rejection> {
    let plus = client.binding.as_ref().map(|_| scram::MECHANISM_PLUS);
    let mechanisms = plus.into_iter().chain([scram::MECHANISM]).map(str::to_owned).collect();
    let offer = Authentication::Sasl { mechanisms };
    client.send(offer.encode().bytes()).await?;
    let first = password(client).await?;
    let (mechanism, data) = frontend::sasl_initial(&first)?;
    let bound = plus == Some(mechanism);
    if !bound && mechanism != scram::MECHANISM {
        return Err(fatal("08P01", "client selected an invalid SASL authentication mechanism", None));
    }
    let mut random = [0; 18];
    getrandom::fill(&mut random).map_err(|_| Rejection::Silent("no randomness"))?;
    let nonce = base64::engine::general_purpose::STANDARD.encode(random);
    let failed = |failure| rejected(user, failure);
    let (next, reply) = ServerFirst::new(user, verifier, mock_secret)
        .respond(data, &nonce, client.binding.as_ref(), bound)
        .map_err(failed)?;
    client.send(Authentication::SaslContinue(reply).encode().bytes()).await?;
    let last = password(client).await?;
    if !allowed() {
        return Err(failed(Failure::Proof));
    }
    let (proved, reply) = next.finish(last.body()).map_err(failed)?;
    client.send(Authentication::SaslFinal(reply).encode().bytes()).await?;
    Ok(proved)
}

/// Has the client send its token where it would send a password in clear. To be asked only within TLS.
///
/// # Errors
/// [`Rejection`].
pub async fn token(client: &mut Peer) -> Result<Zeroizing<String>, Rejection> {
    client.send(Authentication::CleartextPassword.encode().bytes()).await?;
    let frame = client.frame(&OF_TOKENS).await?;
    if frame.tag() != frontend::PASSWORD {
        return Err(fatal("08P01", "expected password response", None));
    }
    Ok(Zeroizing::new(frontend::password(&frame)?.to_owned()))
}

async fn password(client: &mut Peer) -> Result<crate::wire::Frame, Rejection> {
    let frame = client.frame(&BEFORE_LOG_IN).await?;
    if frame.tag() != frontend::PASSWORD {
        return Err(fatal("08P01", "expected SASL response", None));
    }
    Ok(frame)
}

/// What the client is told of a failed exchange.
pub fn rejected(user: &str, failure: Failure) -> Rejection {
    match failure {
        Failure::Syntax => fatal("08P01", "malformed SCRAM message", None),
        Failure::ChannelBinding => fatal(
            "08P01",
            "unsupported SCRAM channel-binding type",
            Some("Use tls-server-end-point over TLS, or channel_binding=prefer."),
        ),
        Failure::Downgraded => fatal(
            "28000",
            "SCRAM channel binding negotiation error",
            Some("The client thinks that this server cannot bind to the channel. It can."),
        ),
        Failure::OtherChannel => fatal("28000", "SCRAM channel binding check failed", None),
        Failure::Proof | Failure::OtherVerifier | Failure::ServerSignature | Failure::Iterations => {
            Rejection::Tell(Box::new(wrong_password(user)))
        }
    }
}

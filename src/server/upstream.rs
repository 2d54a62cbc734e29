//! The database's side of a new connection: socket, TLS, start-up with the client's own parameters, and the log-in: as the
//! same user with the keys that the client's proof revealed, or as the role that its certificate or token stands for.
//!
//! Guarantees: the client's start-up parameters arrive unchanged but for the role's name; the server's FATAL reaches the client as it
//! is, unless it is about a credential of ours; what the server says during start-up is passed on. Deliberately absent: which role.

use super::certificate;
use super::settings::{DatabaseAddress, DatabaseTls};
use super::startup::{Rejection, fatal, rejected};
use super::stream::{Peer, PeerError};
use super::tls::DatabaseConnector;
use crate::auth::scram::{self, ClientFirst, Failure, Secret};
use crate::wire::backend::{self, Authentication, ErrorFields};
use crate::wire::{Limits, frontend, startup};
use base64::Engine as _;
use bytes::{Bytes, BytesMut};
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

/// A server's messages before ReadyForQuery are small.
const START_UP: Limits = Limits { message_bytes_max: 1 << 20 };

/// A connection to the database, logged in and ready.
pub struct Upstream {
    pub server: Peer,
    pub process_id: i32,
    pub secret: Bytes,
    /// ParameterStatus values that the server reported.
    pub parameters: Vec<(String, String)>,
    /// What the client is to see of start-up, in order: notices, ParameterStatus.
    pub greeting: BytesMut,
    /// The ReadyForQuery that ended it.
    pub ready: Bytes,
}

fn unreachable_server(detail: &str) -> Rejection {
    Rejection::Tell(Box::new(ErrorFields::new(
        "FATAL",
        "08001",
        "could not connect to the database server",
        Some(detail),
        None,
        None,
    )))
}

/// Opens a socket to the database, TLS included.
///
/// # Errors
/// [`Rejection`] that says what failed, for the client.
pub async fn socket(address: &DatabaseAddress, tls: &DatabaseConnector) -> Result<Peer, Rejection> {
    let refused = |error: std::io::Error| unreachable_server(&format!("{error}."));
    match address {
        DatabaseAddress::Unix(folder, port) => {
            let path = folder.join(format!(".s.PGSQL.{port}"));
            Ok(Peer::new(Box::new(UnixStream::connect(path).await.map_err(refused)?)))
        }
        DatabaseAddress::Tcp(host, port) => {
            let stream = TcpStream::connect((host.as_str(), *port)).await.map_err(refused)?;
            stream.set_nodelay(true).map_err(refused)?;
            SockRef::from(&stream).set_keepalive(true).map_err(refused)?;
            encrypted(stream, tls).await
        }
    }
}

async fn encrypted(mut stream: TcpStream, tls: &DatabaseConnector) -> Result<Peer, Rejection> {
    let Some((connector, name)) = tls.wanted() else { return Ok(Peer::new(Box::new(stream))) };
    let gone = |_| unreachable_server("It closed the connection.");
    stream.write_all(&startup::encode_ssl_request()).await.map_err(gone)?;
    let mut answer = [0; 1];
    stream.read_exact(&mut answer).await.map_err(gone)?;
    match (answer, tls.mode) {
        ([b'S'], _) => {
            let stream = connector.connect(name.clone(), stream).await;
            let stream =
                stream.map_err(|error| unreachable_server(&format!("The TLS handshake failed: {error}.")))?;
            let chain = stream.get_ref().1.peer_certificates();
            let binding = chain.and_then(|chain| certificate::end_point(chain.first()?));
            Ok(Peer { binding, ..Peer::new(Box::new(stream)) })
        }
        ([b'N'], DatabaseTls::Prefer) => Ok(Peer::new(Box::new(stream))),
        ([b'N'], _) => Err(unreachable_server("It does not speak TLS, which database.tls requires.")),
        _ => Err(unreachable_server("It does not speak PostgreSQL's protocol.")),
    }
}

impl Upstream {
    /// Starts a session as `role` with the client's parameters. `user` is the client, whose database is its own unless it names one.
    ///
    /// # Errors
    /// [`Rejection`]: the server's own FATAL, unchanged, where it sent one.
    pub async fn log_in(
        mut server: Peer,
        parameters: &[(String, String)],
        user: &str,
        role: &str,
        secret: Secret,
    ) -> Result<Upstream, Rejection> {
        let as_role = parameters_as(parameters, user, role);
        server.send(&startup::encode_start(&as_role)).await.map_err(lost)?;
        authenticate(&mut server, role, secret).await?;
        let mut upstream = Upstream {
            server,
            process_id: 0,
            secret: Bytes::new(),
            parameters: vec![],
            greeting: BytesMut::new(),
            ready: Bytes::new(),
        };
        loop {
            let frame = upstream.server.frame(&START_UP).await.map_err(lost)?;
            match frame.tag() {
                backend::PARAMETER_STATUS => {
                    let (name, value) = backend::parameter_status(&frame)?;
                    upstream.parameters.push((name.to_owned(), value.to_owned()));
                    upstream.greeting.extend_from_slice(frame.bytes());
                }
                backend::NOTICE_RESPONSE => upstream.greeting.extend_from_slice(frame.bytes()),
                backend::BACKEND_KEY_DATA => {
                    let (process_id, secret) = backend::backend_key_data(&frame)?;
                    upstream.process_id = process_id;
                    upstream.secret = Bytes::copy_from_slice(secret);
                }
                backend::READY_FOR_QUERY => {
                    upstream.ready = frame.into_bytes();
                    return Ok(upstream);
                }
                backend::ERROR_RESPONSE => return Err(Rejection::Tell(Box::new(ErrorFields::view(&frame)?))),
                _ => return Err(unreachable_server("It sent a message that does not belong to start-up.")),
            }
        }
    }
}

/// The client's parameters for a session of `role`: what its own name stands for by default is named.
fn parameters_as(parameters: &[(String, String)], user: &str, role: &str) -> Vec<(String, String)> {
    let mut parameters = parameters.to_vec();
    if role == user {
        return parameters;
    }
    let database = parameters.iter().rfind(|(name, _)| name == "database");
    let is_named = database.is_some_and(|(_, value)| !value.is_empty());
    parameters.retain(|(name, _)| name != "user" && (is_named || name != "database"));
    parameters.push(("user".to_owned(), role.to_owned()));
    if !is_named {
        parameters.push(("database".to_owned(), user.to_owned()));
    }
    parameters
}

fn lost(error: PeerError) -> Rejection {
    match error {
        PeerError::Gone(_) => unreachable_server("It closed the connection during start-up."),
        PeerError::Violation(_) => unreachable_server("It does not speak PostgreSQL's protocol."),
    }
}

async fn authenticate(server: &mut Peer, role: &str, secret: Secret) -> Result<(), Rejection> {
    let kept = matches!(secret, Secret::Kept(_));
    let mut secret = Some(secret);
    let mut proving = None;
    loop {
        let frame = server.frame(&START_UP).await.map_err(lost)?;
        match frame.tag() {
            backend::AUTHENTICATION => {}
            backend::ERROR_RESPONSE => return Err(refused(ErrorFields::view(&frame)?, role, kept)),
            backend::NEGOTIATE_PROTOCOL_VERSION | backend::NOTICE_RESPONSE => continue,
            _ => return Err(unreachable_server("It sent a message that does not belong to authentication.")),
        }
        match (Authentication::view(&frame)?, proving.take()) {
            (Authentication::Ok, None) => return Ok(()),
            (Authentication::Sasl { mechanisms }, None)
                if mechanisms.iter().any(|m| m == scram::MECHANISM) =>
            {
                let secret =
                    secret.take().ok_or_else(|| unreachable_server("It asks for the password twice."))?;
                let mut random = [0; 18];
                getrandom::fill(&mut random).map_err(|_| Rejection::Silent("no randomness"))?;
                let nonce = base64::engine::general_purpose::STANDARD.encode(random);
                let plus = mechanisms.iter().any(|mechanism| mechanism == scram::MECHANISM_PLUS);
                let (first, mechanism, message) =
                    ClientFirst::begin(secret, &nonce, server.binding.as_ref(), plus);
                server
                    .send(frontend::encode_sasl_initial(mechanism, &message).bytes())
                    .await
                    .map_err(lost)?;
                proving = Some(Proving::First(first));
            }
            (Authentication::SaslContinue(data), Some(Proving::First(first))) => {
                let (last, message) =
                    prove(first, data).await?.map_err(|failure| unanswered(role, failure, kept))?;
                server.send(frontend::encode_password(&message).bytes()).await.map_err(lost)?;
                proving = Some(Proving::Last(last));
            }
            (Authentication::SaslFinal(data), Some(Proving::Last(last))) => {
                last.finish(&data).map_err(|failure| unanswered(role, failure, kept))?;
            }
            (_, Some(_)) => {
                return Err(unreachable_server("It broke off the exchange that proves the password."));
            }
            (other, None) => return Err(unanswerable(&other)),
        }
    }
}

/// The proof. Deriving keys from a password takes time that the other connections of this thread have no part in.
async fn prove(
    first: ClientFirst,
    data: Vec<u8>,
) -> Result<Result<(scram::ClientFinal, Vec<u8>), Failure>, Rejection> {
    if !first.takes_time() {
        return Ok(first.prove(&data));
    }
    let proved = tokio::task::spawn_blocking(move || first.prove(&data)).await;
    proved.map_err(|_| Rejection::Silent("deriving keys failed"))
}

/// A credential that is wrong is no fault of the client's, who proved who it is: it is told so, and our log says which it is.
fn unaccepted(role: &str, why: &str) -> Rejection {
    tracing::error!(
        role,
        reason = why,
        "the database does not take the credential that is kept for this role"
    );
    cannot_log_in(role)
}

/// That a role cannot be had, for a client who did nothing wrong.
pub(super) fn cannot_log_in(role: &str) -> Rejection {
    fatal(
        "28000",
        &format!("pgveil cannot log in to the database as role \"{role}\""),
        Some("Whoever runs pgveil gives it the role's password by pgveil upstream set."),
    )
}

/// What the server said instead of letting us in.
fn refused(fields: ErrorFields, role: &str, kept: bool) -> Rejection {
    match fields.sqlstate() {
        "28P01" | "28000" if kept => unaccepted(role, fields.get(b'M').unwrap_or_default()),
        _ => Rejection::Tell(Box::new(fields)),
    }
}

fn unanswered(role: &str, failure: Failure, kept: bool) -> Rejection {
    if kept { unaccepted(role, &format!("{failure:?}")) } else { rejected(role, failure) }
}

/// Only SCRAM can be answered without knowing the password.
fn unanswerable(asked: &Authentication) -> Rejection {
    let what = match asked {
        Authentication::CleartextPassword => "a password in clear".to_owned(),
        Authentication::Md5 { .. } => "an md5 password".to_owned(),
        Authentication::Sasl { mechanisms } => mechanisms.join(", "),
        Authentication::Other(code) => format!("authentication method {code}"),
        Authentication::Ok | Authentication::SaslContinue(_) | Authentication::SaslFinal(_) => {
            return unreachable_server("It continues an exchange that did not begin.");
        }
    };
    fatal(
        "28000",
        &format!("the database asks for {what}, which pgveil cannot answer"),
        Some("Use scram-sha-256 in pg_hba.conf and for the user's password there."),
    )
}

enum Proving {
    First(ClientFirst),
    Last(scram::ClientFinal),
}

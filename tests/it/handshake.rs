//! The client's side of a new connection, over a pipe in memory: what honest, old, new, confused and hostile clients send
//! first, and what each is told. Certificates are made on the spot.

use pgveil::auth::Verifier;
use pgveil::auth::scram::{ClientFirst, Keys, Secret};
use pgveil::server::settings::{ClientCertificate, ListenSettings, TlsMode};
use pgveil::server::startup::{self, Asked, Asking, Rejection};
use pgveil::server::stream::{Peer, Stream};
use pgveil::server::tls;
use pgveil::server::tls::Acceptor;
use pgveil::wire::backend::{self, Authentication, ErrorFields};
use pgveil::wire::startup::{encode_cancel, encode_ssl_request, encode_start};
use pgveil::wire::{Limits, frontend};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

const LIMITS: Limits = Limits { message_bytes_max: 1 << 20 };
const GSS_REQUEST: &[u8] = b"\0\0\0\x08\x04\xd2\x16\x30";

type Accepted = Result<Asked, (Rejection, Option<Peer>)>;

fn parameters(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
}

fn start(pairs: &[(&str, &str)]) -> Vec<u8> {
    encode_start(&parameters(pairs)).to_vec()
}

/// A start-up packet of another protocol version.
fn start_version(version: u32, pairs: &[(&str, &str)]) -> Vec<u8> {
    let mut packet = start(pairs);
    packet[4..8].copy_from_slice(&version.to_be_bytes());
    packet
}

/// Begins to accept a client that `talk` plays; what was decided, and what `talk` returned.
async fn accept<T, F>(
    tls: Option<&Acceptor>,
    mode: TlsMode,
    talk: impl FnOnce(DuplexStream) -> F,
) -> (Accepted, T)
where
    F: Future<Output = T>,
{
    let (ours, theirs) = duplex(64 * 1024);
    let both = async { tokio::join!(startup::accept(Box::new(ours), false, tls, mode), talk(theirs)) };
    tokio::time::timeout(Duration::from_secs(20), both).await.expect("nobody waits for the other")
}

/// A client that sends these bytes and then nothing; it stays until the decision.
async fn said(bytes: &[u8]) -> Accepted {
    let (ours, mut theirs) = duplex(64 * 1024);
    theirs.write_all(bytes).await.unwrap();
    let accepted = startup::accept(Box::new(ours), false, None, TlsMode::Off);
    tokio::time::timeout(Duration::from_secs(20), accepted).await.expect("the decision needs no more bytes")
}

fn asking(accepted: Accepted) -> Asking {
    match accepted {
        Ok(Asked::LogIn(asking)) => asking,
        Ok(Asked::Cancel { .. }) => panic!("taken for a cancel request"),
        Err((rejection, _)) => panic!("{}", told(&rejection)),
    }
}

/// SQLSTATE and message, or why nothing was said.
fn told(rejection: &Rejection) -> String {
    match rejection {
        Rejection::Tell(fields) | Rejection::Undisclosed(fields, _) => {
            assert_eq!(fields.severity(), "FATAL");
            format!("{} {}", fields.sqlstate(), fields.get(b'M').unwrap_or_default())
        }
        Rejection::Silent(why) => format!("silent: {why}"),
    }
}

fn refused(accepted: Accepted) -> String {
    match accepted {
        Ok(_) => "accepted".to_owned(),
        Err((rejection, _)) => told(&rejection),
    }
}

#[tokio::test]
async fn requests_for_encryption_are_answered_no_where_there_is_none() {
    let (accepted, ()) = accept(None, TlsMode::Off, async |mut client| {
        let mut answer = [0; 1];
        for request in [GSS_REQUEST, &encode_ssl_request()] {
            client.write_all(request).await.unwrap();
            client.read_exact(&mut answer).await.unwrap();
            assert_eq!(&answer, b"N");
        }
        client.write_all(&start(&[("user", "ada"), ("search_path", "x")])).await.unwrap();
    })
    .await;
    let asking = asking(accepted);
    assert_eq!((asking.user(), asking.database(), asking.encrypted), ("ada", "ada", false));
    assert_eq!(asking.parameters, parameters(&[("user", "ada"), ("search_path", "x")]));
    let endless = refused(said(&GSS_REQUEST.repeat(5)).await);
    assert_eq!(endless, "08P01 too many encryption requests");
}

#[tokio::test]
async fn a_start_up_packet_may_come_in_any_pieces() {
    let packet = start(&[("user", "ada"), ("database", "crm")]);
    for at in 1..packet.len() {
        let (accepted, ()) = accept(None, TlsMode::Off, async |mut client| {
            client.write_all(&packet[..at]).await.unwrap();
            tokio::task::yield_now().await;
            client.write_all(&packet[at..]).await.unwrap();
        })
        .await;
        assert_eq!(asking(accepted).database(), "crm");
    }
    let (accepted, ()) = accept(None, TlsMode::Off, async |mut client| {
        client.write_all(&packet[..10]).await.unwrap();
    })
    .await;
    assert_eq!(refused(accepted), "silent: the client went away");
}

#[tokio::test]
async fn what_is_no_start_up_packet_is_told_so_without_waiting_for_more() {
    let http = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    assert_eq!(refused(said(http).await), "08P01 message is longer than allowed");
    for (bytes, expected) in [
        (&b"\x7f\xff\xff\xff\0\x03\0\0"[..], "08P01 message is longer than allowed"),
        (b"\0\0\x27\x11\0\x03\0\0", "08P01 message is longer than allowed"),
        (b"\xff\xff\xff\xff\0\x03\0\0", "08P01 invalid message length"),
        (b"\0\0\0\x03", "08P01 invalid message length"),
        (b"\0\0\0\x07\0\x03\0", "08P01 invalid length of startup packet"),
        (b"\0\0\0\x08\x04\xd2\x16\x2d", "08P01 unsupported startup packet"),
        (b"\0\0\0\x08\0\x03\0\0", "08P01 invalid startup packet layout: expected terminator as last byte"),
    ] {
        assert_eq!(refused(said(bytes).await), expected);
    }
}

#[tokio::test]
async fn what_a_start_up_packet_may_not_say() {
    let long = "x".repeat(64);
    for (pairs, expected) in [
        (vec![("database", "crm")], "28000 no PostgreSQL user name specified in startup packet"),
        (vec![("user", "ada"), ("database", &long)], "42622 database name is longer than 63 bytes"),
        (vec![("user", &long)], "42622 user name is longer than 63 bytes"),
        (
            vec![("user", "ada"), ("replication", "true")],
            "0A000 a replication connection is not supported through pgveil",
        ),
        (
            vec![("user", "ada"), ("client_encoding", "LATIN1")],
            "0A000 client_encoding other than UTF8 is not supported through pgveil",
        ),
        (
            vec![("user", "ada"), ("options", "-c pgveil.purpose=x")],
            "0A000 start-up option pgveil.purpose is not supported through pgveil",
        ),
    ] {
        assert_eq!(refused(said(&start(&pairs)).await), expected);
    }
    let old = start_version(2 << 16, &[]);
    let expected = "0A000 unsupported frontend protocol 2.0: server supports 3.0 to 3.0";
    assert_eq!(refused(said(&old).await), expected);
}

/// PostgreSQL takes the last one; to judge by the first would look up another database's tags.
#[tokio::test]
async fn of_a_name_given_twice_the_last_holds() {
    let twice = [("user", "eve"), ("database", "public"), ("database", "crm"), ("user", "ada")];
    let asking = asking(said(&start(&twice)).await);
    assert_eq!((asking.user(), asking.database()), ("ada", "crm"));
}

#[tokio::test]
async fn newer_protocols_are_negotiated_down() {
    let (accepted, answer) = accept(None, TlsMode::Off, async |mut client| {
        let packet = start_version(3 << 16 | 2, &[("user", "ada"), ("_pq_.compression", "zstd")]);
        client.write_all(&packet).await.unwrap();
        let mut answer = vec![0; 29];
        client.read_exact(&mut answer).await.unwrap();
        answer
    })
    .await;
    assert_eq!(answer, b"v\0\0\0\x1d\0\x03\0\0\0\0\0\x01_pq_.compression\0"[..29]);
    assert_eq!(asking(accepted).parameters, parameters(&[("user", "ada")]));
}

#[tokio::test]
async fn a_cancel_request_is_passed_on_without_a_log_in() {
    match said(&encode_cancel(77, &[1, 2, 3, 4])).await {
        Ok(Asked::Cancel { process_id, secret }) => {
            assert_eq!((process_id, &secret[..]), (77, &[1, 2, 3, 4][..]))
        }
        other => panic!("{}", refused(other)),
    }
}

/// Files of a certificate for localhost, of an authority of its own, in a directory.
pub struct Certificates {
    _dir: tempfile::TempDir,
    pub ca: PathBuf,
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// Makes them. `self_signed`: as `openssl req -x509` does, one certificate that is its own authority.
pub fn certificates(name: &str, self_signed: bool) -> Certificates {
    let dir = tempfile::tempdir().unwrap();
    let mut parameters = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
    // OpenSSL takes one for the other where both have rcgen's default name.
    parameters.distinguished_name.push(rcgen::DnType::CommonName, "pgveil test authority");
    parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority =
        rcgen::CertifiedIssuer::self_signed(parameters, rcgen::KeyPair::generate().unwrap()).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let issued =
        rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &authority).unwrap();
    let (certificate, key) = match self_signed {
        true => (authority.pem(), authority.key().serialize_pem()),
        false => (issued.pem(), key.serialize_pem()),
    };
    let write = |name: &str, text: String| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
        path
    };
    let (ca, certificate, key) =
        (write("ca.crt", authority.pem()), write("server.crt", certificate), write("server.key", key));
    Certificates { ca, certificate, key, _dir: dir }
}

fn listen(files: &Certificates, client_ca: Option<&Path>) -> ListenSettings {
    ListenSettings {
        address: None,
        unix_socket: None,
        tls: TlsMode::Require,
        certificate: Some(files.certificate.clone()),
        key: Some(files.key.clone()),
        client_ca: client_ca.map(Path::to_owned),
        client_crl: None,
        client_certificate: ClientCertificate::VerifyCa,
        connections_max: 1,
        log_in_timeout: Duration::from_secs(1),
        drain: Duration::from_secs(1),
        message_bytes_max: 1 << 30,
        proxies: vec![],
        failures_per_minute: 10,
    }
}

fn acceptor(files: &Certificates) -> Acceptor {
    tls::acceptor(&listen(files, None)).unwrap().unwrap()
}

/// A TLS client that trusts `files.ca` and, where asked to, shows the certificate itself.
fn connector(files: &Certificates, alpn: &[&[u8]], shows_certificate: bool) -> TlsConnector {
    connector_of(files, alpn, shows_certificate, rustls::DEFAULT_VERSIONS)
}

/// As [`connector`], of these versions of TLS.
fn connector_of(
    files: &Certificates,
    alpn: &[&[u8]],
    shows_certificate: bool,
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> TlsConnector {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(&files.ca).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match shows_certificate {
        false => builder.with_no_client_auth(),
        true => {
            let chain = vec![CertificateDer::from_pem_file(&files.certificate).unwrap()];
            builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_file(&files.key).unwrap()).unwrap()
        }
    };
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    TlsConnector::from(Arc::new(config))
}

/// Asks for TLS, takes it, and sends a start-up packet inside. The caller keeps the stream, or the server would write
/// into a closed pipe.
async fn log_in_by_tls(
    mut client: DuplexStream,
    connector: TlsConnector,
    direct: bool,
) -> Option<TlsStream<DuplexStream>> {
    if !direct {
        client.write_all(&encode_ssl_request()).await.unwrap();
        let mut answer = [0; 1];
        client.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"S");
    }
    let name = ServerName::try_from("localhost").unwrap();
    let Ok(mut stream) = connector.connect(name, client).await else { return None };
    let _ = stream.write_all(&start(&[("user", "ada")])).await;
    let _ = stream.flush().await;
    Some(stream)
}

#[tokio::test]
async fn tls_is_negotiated_or_begins_at_once() {
    let files = certificates("localhost", false);
    let tls = acceptor(&files);
    for (direct, alpn) in [(false, &[][..]), (false, &[&b"postgresql"[..]]), (true, &[&b"postgresql"[..]])] {
        let client = connector(&files, alpn, false);
        let (accepted, _) =
            accept(Some(&tls), TlsMode::Require, |stream| log_in_by_tls(stream, client, direct)).await;
        assert!(asking(accepted).encrypted);
    }
    let client = connector(&files, &[], false);
    let (accepted, _) =
        accept(Some(&tls), TlsMode::Require, |stream| log_in_by_tls(stream, client, true)).await;
    assert_eq!(refused(accepted), "silent: direct TLS without ALPN");
}

/// As in PostgreSQL: a session that were taken up again would bring its certificate along unseen, though it expired meanwhile.
#[tokio::test]
async fn no_tls_session_is_taken_up_again() {
    let files = certificates("localhost", false);
    let tls = tls::acceptor(&listen(&files, Some(&files.ca))).unwrap().unwrap();
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let client = connector_of(&files, &[], true, &[version]);
        for _ in 0..2 {
            let (accepted, stream) =
                accept(Some(&tls), TlsMode::Require, |stream| log_in_by_tls(stream, client.clone(), false))
                    .await;
            let (mut asking, mut stream) = (asking(accepted), stream.unwrap());
            // Where there are tickets, they come before this.
            asking.client.send(b"x").await.unwrap();
            stream.read_exact(&mut [0; 1]).await.unwrap();
            assert_eq!(stream.get_ref().1.handshake_kind(), Some(rustls::HandshakeKind::Full));
        }
    }
}

/// CVE-2021-23214: bytes behind the request would be taken for the client's own, though anyone on the way can add them.
#[tokio::test]
async fn nothing_in_clear_survives_into_tls() {
    let tls = acceptor(&certificates("localhost", false));
    let (accepted, answered) = accept(Some(&tls), TlsMode::Prefer, async |mut client| {
        let injected = [&encode_ssl_request()[..], &start(&[("user", "eve")])].concat();
        client.write_all(&injected).await.unwrap();
        client.read(&mut [0; 16]).await.unwrap()
    })
    .await;
    assert_eq!(refused(accepted), "silent: unencrypted data after the request for encryption");
    assert_eq!(answered, 0, "not even an answer");
}

#[tokio::test]
async fn where_tls_is_required_nothing_goes_in_clear() {
    let tls = acceptor(&certificates("localhost", false));
    for (mode, local, expected) in [
        (TlsMode::Require, false, "28000 this server requires an encrypted connection"),
        (TlsMode::Require, true, "accepted"),
        (TlsMode::Prefer, false, "accepted"),
    ] {
        let (ours, mut theirs) = duplex(64 * 1024);
        theirs.write_all(&start(&[("user", "ada")])).await.unwrap();
        assert_eq!(refused(startup::accept(Box::new(ours), local, Some(&tls), mode).await), expected);
    }
}

#[tokio::test]
async fn a_client_certificate_is_asked_for_where_configured() {
    let files = certificates("localhost", false);
    let tls = tls::acceptor(&listen(&files, Some(&files.ca))).unwrap().unwrap();
    for (shows, expected) in [(true, "accepted"), (false, "silent: the TLS handshake failed")] {
        let client = connector(&files, &[], shows);
        let (accepted, _) =
            accept(Some(&tls), TlsMode::Require, |stream| log_in_by_tls(stream, client, false)).await;
        assert_eq!(refused(accepted), expected);
    }
}

#[test]
fn unusable_files_are_named() {
    let files = certificates("localhost", false);
    let error =
        |settings: ListenSettings| tls::acceptor(&settings).err().map(|error| error.0).unwrap_or_default();
    std::fs::set_permissions(&files.key, PermissionsExt::from_mode(0o644)).unwrap();
    let open = error(listen(&files, None));
    assert_eq!(open, format!("{}: private key file has group or world access", files.key.display()));
    std::fs::set_permissions(&files.key, PermissionsExt::from_mode(0o600)).unwrap();
    let missing = ListenSettings { certificate: Some("/nowhere/a.crt".into()), ..listen(&files, None) };
    assert!(error(missing).starts_with("/nowhere/a.crt: "));
    let no_certificate = ListenSettings { certificate: Some(files.key.clone()), ..listen(&files, None) };
    assert_eq!(error(no_certificate), format!("{}: no certificate in it", files.key.display()));
    let other = certificates("localhost", false);
    let mixed = ListenSettings { key: Some(other.key.clone()), ..listen(&files, None) };
    assert!(error(mixed).contains("server.crt"), "a key that is another certificate's");
}

/// What a client is sent during its proof: tag and length of each message, and the error's text.
async fn failing_proof(verifier: Option<Verifier>) -> (Vec<(u8, usize)>, String) {
    let (ours, theirs) = duplex(64 * 1024);
    let mut server = Peer::new(Box::new(ours));
    let client = async {
        let mut client = Peer::new(Box::new(theirs) as Box<dyn Stream>);
        let mut seen = vec![];
        let offer = client.frame(&LIMITS).await.unwrap();
        seen.push((offer.tag(), offer.bytes().len()));
        let first = frontend::encode_sasl_initial("SCRAM-SHA-256", b"n,,n=,r=abc");
        client.send(first.bytes()).await.unwrap();
        let challenge = client.frame(&LIMITS).await.unwrap();
        seen.push((challenge.tag(), challenge.bytes().len()));
        let Ok(Authentication::SaslContinue(data)) = Authentication::view(&challenge) else {
            panic!("no challenge")
        };
        let text = String::from_utf8(data).unwrap();
        let nonce = text.split(',').next().unwrap();
        let proof = format!("c=biws,{nonce},p=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=");
        client.send(frontend::encode_password(proof.as_bytes()).bytes()).await.unwrap();
        seen
    };
    let (proved, seen) =
        tokio::join!(startup::prove(&mut server, "ada", verifier, &[5; 32], &|| true), client);
    (seen, proved.err().as_ref().map(told).unwrap_or_default())
}

#[tokio::test]
async fn an_unknown_user_and_a_wrong_password_look_the_same() {
    let known = failing_proof(Some(Verifier::from_password("secret", &[1; 16], 4096))).await;
    assert_eq!(known, failing_proof(None).await);
    assert_eq!(known.1, "28P01 password authentication failed for user \"ada\"");
}

/// Proves `password` over a pipe, as a client that knows the salt.
pub async fn prove(password: &str, verifier: Verifier) -> Result<pgveil::auth::scram::Proved, String> {
    let (ours, theirs) = duplex(64 * 1024);
    let mut server = Peer::new(Box::new(ours));
    let keys = Keys::derive(password, &verifier.salt, verifier.iterations);
    let client = async {
        let mut client = Peer::new(Box::new(theirs) as Box<dyn Stream>);
        client.frame(&LIMITS).await.unwrap();
        let (first, _, message) = ClientFirst::begin(Secret::Proved(keys), "abcdefgh", None, false);
        client.send(frontend::encode_sasl_initial("SCRAM-SHA-256", &message).bytes()).await.unwrap();
        let challenge = Authentication::view(&client.frame(&LIMITS).await.unwrap());
        let Ok(Authentication::SaslContinue(data)) = challenge else { panic!("no challenge") };
        let (last, message) = first.prove(&data).unwrap();
        client.send(frontend::encode_password(&message).bytes()).await.unwrap();
        if let Ok(frame) = client.frame(&LIMITS).await
            && let Ok(Authentication::SaslFinal(data)) = Authentication::view(&frame)
        {
            last.finish(&data).unwrap();
        }
    };
    // The pipe closes with the server's end, so that a client whose proof failed does not wait.
    let server = async move { startup::prove(&mut server, "ada", Some(verifier), &[5; 32], &|| true).await };
    let (proved, ()) = tokio::join!(server, client);
    proved.map_err(|rejection| told(&rejection))
}

#[tokio::test]
async fn what_is_no_proof_is_a_violation() {
    let offered = async |bytes: &[u8]| {
        let (ours, mut theirs) = duplex(64 * 1024);
        theirs.write_all(bytes).await.unwrap();
        let mut server = Peer::new(Box::new(ours));
        startup::prove(&mut server, "ada", None, &[5; 32], &|| true)
            .await
            .err()
            .as_ref()
            .map(told)
            .unwrap_or_default()
    };
    let initial = |mechanism: &str, data: &[u8]| frontend::encode_sasl_initial(mechanism, data).into_bytes();
    for (bytes, expected) in [
        (frontend::encode_query("select 1").into_bytes(), "08P01 expected SASL response"),
        (
            initial("SCRAM-SHA-256-PLUS", b"p=tls-server-end-point,,n=,r=a"),
            "08P01 client selected an invalid SASL authentication mechanism",
        ),
        (
            initial("SCRAM-SHA-256", b"p=tls-server-end-point,,n=,r=a"),
            "08P01 unsupported SCRAM channel-binding type",
        ),
        (initial("SCRAM-SHA-256", b"nonsense"), "08P01 malformed SCRAM message"),
        (frontend::encode_password(b"secret").into_bytes(), "08P01 insufficient data left in message"),
        (bytes::Bytes::from_static(b"p\x7f\xff\xff\xff"), "08P01 message is longer than allowed"),
    ] {
        assert_eq!(offered(&bytes).await, expected);
    }
}

#[tokio::test]
async fn the_right_password_is_proved_and_the_wrong_one_is_not() {
    let verifier = Verifier::from_password("secret", &[1; 16], 4096);
    assert!(prove("secret", verifier.clone()).await.is_ok());
    let error = prove("guess", verifier).await.err().unwrap();
    assert_eq!(error, "28P01 password authentication failed for user \"ada\"");
}

/// Errors for clients are FATAL and carry a severity that is never translated.
#[test]
fn rejections_are_fatal_errors() {
    let Rejection::Tell(fields) = startup::fatal("28000", "no", Some("Do.")) else { panic!("silent") };
    let frame = fields.encode(backend::ERROR_RESPONSE);
    assert_eq!(frame.bytes(), &b"E\0\0\0\x23SFATAL\0VFATAL\0C28000\0Mno\0HDo.\0\0"[..]);
    assert!(ErrorFields::view(&frame).is_ok());
}

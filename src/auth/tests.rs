//! SCRAM against the RFC's vectors, against itself on both sides of the proxy, and against what is no SCRAM at all.

use super::scram::{ClientFirst, Failure, Keys, ServerFirst};
use super::*;

/// RFC 7677 section 3: user "user", password "pencil".
fn rfc_verifier() -> Verifier {
    let salt = STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").expect("base64");
    Verifier::from_password("pencil", &salt, 4096)
}

const CLIENT_FIRST: &[u8] = b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
const SERVER_NONCE: &str = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
const CLIENT_FINAL: &[u8] =
    b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";

#[test]
fn the_rfcs_exchange() {
    let (next, reply) = ServerFirst::new("user", Some(rfc_verifier()), &[0; 32])
        .respond(CLIENT_FIRST, SERVER_NONCE)
        .unwrap_or_else(|failure| panic!("{failure:?}"));
    assert_eq!(
        reply,
        b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
    );
    let (proved, last) = next.finish(CLIENT_FINAL).unwrap_or_else(|failure| panic!("{failure:?}"));
    assert_eq!(last, b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
    let keys = proved.into_keys();
    assert_eq!(
        scram::sha256(keys.client_key.as_ref()),
        rfc_verifier().stored_key,
        "the proof reveals the client key"
    );
}

#[test]
fn recovered_keys_log_in_upstream_where_the_verifier_is_the_same() {
    let keys = Keys::derive("pencil", &[1; 16], 4096);
    let upstream = |salt: &[u8], password: &str| -> Result<(), Failure> {
        let verifier = Verifier::from_password(password, salt, 4096);
        let (client, first) = ClientFirst::begin(keys.clone(), "clientnonce");
        let (server, reply) =
            ServerFirst::new("u", Some(verifier), &[0; 32]).respond(&first, "servernonce")?;
        let (client, last) = client.prove(&reply)?;
        let (_, reply) = server.finish(&last)?;
        client.finish(&reply)
    };
    assert_eq!(upstream(&[1; 16], "pencil"), Ok(()));
    assert_eq!(upstream(&[2; 16], "pencil"), Err(Failure::OtherVerifier));
    assert_eq!(upstream(&[1; 16], "changed"), Err(Failure::Proof));
}

#[test]
fn an_unknown_user_sees_what_a_wrong_password_sees() {
    let attempt = |verifier: Option<Verifier>| {
        let (next, reply) = ServerFirst::new("user", verifier, &[7; 32])
            .respond(CLIENT_FIRST, SERVER_NONCE)
            .unwrap_or_else(|f| panic!("{f:?}"));
        let shape: Vec<usize> = String::from_utf8_lossy(&reply).split(',').map(str::len).collect();
        let last = String::from_utf8_lossy(CLIENT_FINAL).replace("dHzb", "AAAA");
        (shape, next.finish(last.as_bytes()).err())
    };
    assert_eq!(attempt(None), attempt(Some(rfc_verifier())));
    assert_eq!(attempt(None).1, Some(Failure::Proof));
}

#[test]
fn malformed_messages_fail_and_never_panic() {
    let first = |message: &[u8]| ServerFirst::new("u", None, &[0; 32]).respond(message, "n").err();
    for message in [
        &b""[..],
        b"n",
        b"n,,",
        b"n,,n=u",
        b"n,,n=u,r=",
        b"x,,n=u,r=a",
        b"\xff",
        b"n,,r=a,n=u",
        b"n,a=admin,n=u,r=a",
        b"n,\xc3\xa9,n=u,r=a",
        b"n,,n=u,r=a b",
    ] {
        assert_eq!(first(message), Some(Failure::Syntax), "{message:?}");
    }
    assert_eq!(first(b"p=tls-server-end-point,,n=u,r=a"), Some(Failure::ChannelBinding));
    for message in [
        &b""[..],
        b"c=biws",
        b"c=biws,r=x,p=",
        b"c=biws,r=rOprNGfwEbeRWgbNEkqOn,p=!!",
        b"c=eSws,r=rOprNGfwEbeRWgbNEkqOn,p=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
        b",p=AAAA",
    ] {
        let (next, _) = ServerFirst::new("u", None, &[0; 32])
            .respond(CLIENT_FIRST, "n")
            .unwrap_or_else(|f| panic!("{f:?}"));
        assert_eq!(next.finish(message).err(), Some(Failure::Syntax), "{message:?}");
    }
}

#[test]
fn verifiers_read_and_print_as_postgresql_stores_them() {
    let text = rfc_verifier().text();
    assert!(Verifier::parse(&text).is_some_and(|again| again == rfc_verifier()));
    for wrong in ["", "md5abc", "SCRAM-SHA-256$0:AA==$AA==:AA==", "SCRAM-SHA-256$4096:AA==$AA==", "plain"] {
        assert!(Verifier::parse(wrong).is_none(), "{wrong}");
    }
}

//! SCRAM against the RFC's vectors, against itself on both sides of the proxy, and against what is no SCRAM at all.

use super::scram::{self, ClientFirst, Credential, Failure, Keys, Secret, ServerFirst};
use super::*;
use zeroize::Zeroizing;

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
        .respond(CLIENT_FIRST, SERVER_NONCE, None, false)
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
        let (client, _, first) = ClientFirst::begin(Secret::Proved(keys.clone()), "clientnonce", None, false);
        let (server, reply) =
            ServerFirst::new("u", Some(verifier), &[0; 32]).respond(&first, "servernonce", None, false)?;
        let (client, last) = client.prove(&reply)?;
        let (_, reply) = server.finish(&last)?;
        client.finish(&reply)
    };
    assert_eq!(upstream(&[1; 16], "pencil"), Ok(()));
    assert_eq!(upstream(&[2; 16], "pencil"), Err(Failure::OtherVerifier));
    assert_eq!(upstream(&[1; 16], "changed"), Err(Failure::Proof));
}

#[test]
fn a_kept_password_logs_in_whatever_the_salt() {
    let credential = Arc::new(Credential::new(Zeroizing::new("pencil".to_owned())));
    let upstream = |salt: &[u8], iterations: u32, password: &str| -> Result<(), Failure> {
        let verifier = Verifier::from_password(password, salt, iterations);
        let secret = Secret::Kept(credential.clone());
        let (client, _, first) = ClientFirst::begin(secret, "clientnonce", None, false);
        let (server, reply) =
            ServerFirst::new("u", Some(verifier), &[0; 32]).respond(&first, "servernonce", None, false)?;
        let (client, last) = client.prove(&reply)?;
        let (_, reply) = server.finish(&last)?;
        client.finish(&reply)
    };
    for (salt, iterations) in [([1; 16], 10), ([1; 16], 10), ([2; 16], 10), ([2; 16], 11)] {
        assert_eq!(upstream(&salt, iterations, "pencil"), Ok(()));
    }
    assert_eq!(upstream(&[1; 16], 10, "changed"), Err(Failure::Proof));
    // A server that would have us compute for ever, or hand out what is hardly hashed at all.
    for iterations in ["4000000000", "0", "-1", "x"] {
        let (client, _, _) = ClientFirst::begin(Secret::Kept(credential.clone()), "c", None, false);
        let refused = client.prove(format!("r=cs,s=AAAA,i={iterations}").as_bytes()).err();
        assert!(matches!(refused, Some(Failure::Iterations | Failure::Syntax)), "{iterations}");
    }
}

#[test]
fn a_certificate_names_whom_the_map_says() {
    let judge = |naming: &Naming, user: &str, name: &str| Named::certified(user, name, naming).err();
    let own = Naming::default();
    assert_eq!(judge(&own, "ada", "ada"), None);
    for (name, why) in [
        ("", Unnamed::Nobody),
        ("Ada", Unnamed::Another),
        ("ada ", Unnamed::Another),
        ("bob", Unnamed::Another),
    ] {
        assert_eq!(judge(&own, "ada", name), Some(why), "{name:?}");
    }
    let suffix = Naming::Suffix("@x.org".to_owned());
    assert_eq!(judge(&suffix, "ada", "ada@x.org"), None);
    assert_eq!(judge(&suffix, "ada", "ada"), Some(Unnamed::Nobody));
    assert_eq!(judge(&suffix, "ada", "bob@x.org"), Some(Unnamed::Another));
    assert_eq!(judge(&suffix, "", "@x.org"), Some(Unnamed::Nobody));
    // One name may be several users', and its own only where the table says so.
    let users = ["ada", "batch"].map(str::to_owned).into();
    let table = Naming::Table([("Ada Lee".to_owned(), users)].into());
    assert_eq!(judge(&table, "ada", "Ada Lee"), None);
    assert_eq!(judge(&table, "batch", "Ada Lee"), None);
    assert_eq!(judge(&table, "bob", "Ada Lee"), Some(Unnamed::Another));
    assert_eq!(judge(&table, "ada", "ada"), Some(Unnamed::Nobody));
}

#[test]
fn an_unknown_user_sees_what_a_wrong_password_sees() {
    let attempt = |verifier: Option<Verifier>| {
        let (next, reply) = ServerFirst::new("user", verifier, &[7; 32])
            .respond(CLIENT_FIRST, SERVER_NONCE, None, false)
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
    let first =
        |message: &[u8]| ServerFirst::new("u", None, &[0; 32]).respond(message, "n", None, false).err();
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
            .respond(CLIENT_FIRST, "n", None, false)
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

/// Both sides of ours, over a channel or none: what each side can bind to, and what it was offered.
fn exchange(
    client_binding: Option<&[u8]>,
    offered: bool,
    server_binding: Option<&[u8]>,
) -> Result<&'static str, Failure> {
    let (client, server) = (client_binding.map(<[u8]>::to_vec), server_binding.map(<[u8]>::to_vec));
    let keys = Keys::derive("pencil", b"salt", 4096);
    let verifier = Verifier::from_password("pencil", b"salt", 4096);
    let (first, mechanism, message) = ClientFirst::begin(Secret::Proved(keys), "c", client.as_ref(), offered);
    let plus = mechanism == scram::MECHANISM_PLUS;
    let next =
        ServerFirst::new("u", Some(verifier), &[0; 32]).respond(&message, "s", server.as_ref(), plus)?;
    let (last, message) = first.prove(&next.1)?;
    let (_, message) = next.0.finish(&message)?;
    last.finish(&message)?;
    Ok(mechanism)
}

#[test]
fn a_proof_is_bound_to_its_channel() {
    assert_eq!(exchange(Some(b"hash"), true, Some(b"hash")), Ok("SCRAM-SHA-256-PLUS"));
    assert_eq!(exchange(None, false, None), Ok("SCRAM-SHA-256"));
    // A server that offers no binding, over TLS.
    assert_eq!(exchange(Some(b"hash"), false, None), Ok("SCRAM-SHA-256"));
    // A client that cannot.
    assert_eq!(exchange(None, true, Some(b"hash")), Ok("SCRAM-SHA-256"));
    // Someone in between has a channel to each side.
    assert_eq!(exchange(Some(b"theirs"), true, Some(b"hash")), Err(Failure::OtherChannel));
    // Someone in between took the offer out.
    assert_eq!(exchange(Some(b"hash"), false, Some(b"hash")), Err(Failure::Downgraded));
    // Someone in between put an offer in.
    assert_eq!(exchange(Some(b"hash"), true, None), Err(Failure::ChannelBinding));
}

//! What the database's host learns of a log-in, and what it could do with that.
//!
//! Whoever has a user's verifier and sees one log-in has the key by which the user proves itself (RFC 5802, section 9). PostgreSQL
//! has the verifier of everybody whose keys log in there. Here the administrator listens before the server, takes the key, and tries
//! it at the proxy.

use crate::postgres;
use crate::proxy::{POLICY, Proxy, TAGS, grants};
use crate::raw::{self, Raw};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use pgveil::auth::Verifier;
use pgveil::auth::scram::{ClientFirst, Keys, Secret};
use postgres_protocol::message::frontend;
use sha2::{Digest, Sha256};
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// A relay before a server that keeps what passes: what was said to the server, and by it, of each connection.
struct Tap {
    port: u16,
    heard: Arc<Mutex<Vec<[Vec<u8>; 2]>>>,
}

impl Tap {
    fn before(port: u16) -> Tap {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let tap = Tap { port: listener.local_addr().unwrap().port(), heard: Arc::default() };
        let heard = tap.heard.clone();
        std::thread::spawn(move || {
            while let Ok((client, _)) = listener.accept() {
                let Ok(server) = TcpStream::connect(("127.0.0.1", port)) else { return };
                let number = {
                    let mut heard = heard.lock().unwrap();
                    heard.push([vec![], vec![]]);
                    heard.len() - 1
                };
                let ways = [(client.try_clone().unwrap(), server.try_clone().unwrap()), (server, client)];
                for (way, (mut from, mut to)) in ways.into_iter().enumerate() {
                    let heard = heard.clone();
                    std::thread::spawn(move || {
                        let mut bytes = [0; 4096];
                        while let Ok(count @ 1..) = from.read(&mut bytes) {
                            heard.lock().unwrap()[number][way].extend_from_slice(&bytes[..count]);
                            if to.write_all(&bytes[..count]).is_err() {
                                break;
                            }
                        }
                        let _ = to.shutdown(std::net::Shutdown::Both);
                    });
                }
            }
        });
        tap
    }

    /// The key by which a role last proved itself to the server, which has its verifier.
    fn key_of(&self, role: &str, verifier: Verifier) -> Option<Keys> {
        let heard = self.heard.lock().unwrap();
        let named = format!("user\0{role}\0");
        let said = |heard: &&[Vec<u8>; 2]| memchr::memmem::find(&heard[0], named.as_bytes()).is_some();
        let [to, from] = heard.iter().rev().find(said)?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let proved = messages(to, start_up(to), b'p');
        let first = text(&proved[0]);
        let bare = &first[first.find("n=,r=")?..];
        let server_first =
            messages(from, 0, b'R').iter().find_map(|body| Some(text(body.strip_prefix(&[0, 0, 0, 11])?)))?;
        let last = text(&proved[1]);
        let (without, proof) = last.split_once(",p=")?;
        let mut mac = Hmac::<Sha256>::new_from_slice(&verifier.stored_key).unwrap();
        mac.update(format!("{bare},{server_first},{without}").as_bytes());
        let mut key = STANDARD.decode(proof).unwrap();
        key.iter_mut().zip(mac.finalize().into_bytes()).for_each(|(byte, mask)| *byte ^= mask);
        assert_eq!(Sha256::digest(&key).as_slice(), verifier.stored_key, "it is the key");
        Some(Keys {
            client_key: <[u8; 32]>::try_from(key).unwrap().into(),
            server_key: verifier.server_key,
            salt: verifier.salt,
            iterations: verifier.iterations,
        })
    }
}

/// Where the messages after the start-up packet begin.
fn start_up(bytes: &[u8]) -> usize {
    u32::from_be_bytes(bytes[..4].try_into().unwrap()) as usize
}

/// The bodies of the messages of one type.
fn messages(bytes: &[u8], mut at: usize, tag: u8) -> Vec<Vec<u8>> {
    let mut found = vec![];
    while let Some(head) = bytes.get(at..at + 5) {
        let length = u32::from_be_bytes(head[1..5].try_into().unwrap()) as usize;
        if head[0] == tag {
            found.push(bytes[at + 5..at + 1 + length].to_vec());
        }
        at += 1 + length;
    }
    found
}

/// What the proxy answers to who has nothing but this key; and what is read then.
fn with_key(proxy: &Proxy, user: &str, keys: &Keys) -> Result<String, String> {
    let database = postgres::database_name(proxy.direct());
    let mut raw = Raw::connect(proxy.port());
    let mut out = bytes::BytesMut::new();
    frontend::startup_message([("user", user), ("database", database)], &mut out).unwrap();
    let (first, mechanism, message) = ClientFirst::begin(Secret::Proved(keys.clone()), "nonce", None, false);
    frontend::sasl_initial_response(mechanism, &message, &mut out).unwrap();
    raw.send(&out);
    let mut first = Some(first);
    while let Some((tag, body)) = raw.read() {
        match (tag, body.get(3)) {
            ('E', _) => return Err(raw::error(&body)),
            ('R', Some(11)) => {
                let (_, message) =
                    first.take().unwrap().prove(&body[4..]).map_err(|failure| format!("{failure:?}"))?;
                let mut out = bytes::BytesMut::new();
                frontend::sasl_response(&message, &mut out).unwrap();
                raw.send(&out);
            }
            ('Z', _) => break,
            _ => {}
        }
    }
    let reply = raw.query("select card from customers");
    Ok(String::from_utf8(reply.rows[0][0].clone().unwrap()).unwrap())
}

#[test]
fn a_password_apart_leaves_the_database_nothing_to_log_in_with() {
    let mut proxy = Proxy::start(POLICY, TAGS);
    let mut shop = Raw::log_in(&proxy.url("shop"));
    for sql in ["create table customers (id int, card text)", "insert into customers values (1, 'a card')"] {
        assert_eq!(shop.query(sql).errors, [""; 0], "{sql}");
    }
    let tap = Tap::before(proxy.postgres.port());
    let file = proxy.dir().join("proxy.toml");
    let text = fs::read_to_string(&file).unwrap();
    let text = text.replace(&proxy.postgres.address(), &format!("127.0.0.1:{}", tap.port));
    fs::write(&file, &text).unwrap();
    let again = |proxy: &mut Proxy| {
        proxy.signal("TERM");
        assert_eq!(proxy.wait(), Some(0));
        proxy.serve();
    };
    again(&mut proxy);
    let direct = proxy.direct().to_owned();
    let verifier = |role: &str| {
        let sql = format!("select rolpassword from pg_authid where rolname = '{role}'");
        Verifier::parse(postgres::query(&direct, &sql)[0][0].as_ref().unwrap()).unwrap()
    };
    // The ordinary way, and what README.md says of it: one log-in is enough.
    Raw::log_in(&proxy.url("shop"));
    let key = tap.key_of("shop", verifier("shop")).unwrap();
    assert_eq!(with_key(&proxy, "shop", &key), Ok("a card".to_owned()));

    // Apart: the client's password is known here, the role's there.
    postgres::execute(&direct, &format!("create role counter login; {}", grants("counter")));
    let method = "[auth]\n[[auth.method]]\nby = \"password\"\nroles = [\"app\"]\nupstream = \"counter\"\n";
    fs::write(&file, format!("{text}{method}")).unwrap();
    proxy.must(&["upstream", "set", "counter", "--generate", "--database", &direct]);
    let new = proxy.dir().join("shop.password");
    fs::write(&new, "quite another\n").unwrap();
    let said = proxy.must(&["users", "add", "shop", "--password-file", new.to_str().unwrap()]);
    assert!(said.starts_with("gave shop a password that PostgreSQL does not know"), "{said}");
    again(&mut proxy);
    let (_, found, _) = proxy.run(&["check"]);
    assert!(!found.contains("opens nothing") && !found.contains("can never log in"), "{found}");
    assert!(proxy.must(&["users", "list", "--json"]).contains(r#""method":"password","upstream":"counter""#));
    let url = proxy.url("shop").replace(&crate::proxy::password("shop"), "quite%20another");
    let mut shop = Raw::log_in(&url);
    let seen = shop.query("select session_user, card from customers").rows;
    assert_eq!(seen, [[Some(b"counter".to_vec()), Some(b"a card".to_vec())]]);
    let counter = tap.key_of("counter", verifier("counter")).unwrap();
    // Neither the key that was taken before, nor that of the role, is anybody's here; the old password is not, either.
    for (user, key) in [("shop", &key), ("shop", &counter), ("counter", &counter)] {
        let refused = with_key(&proxy, user, key).unwrap_err();
        assert!(refused.starts_with("28P01") || refused == "OtherVerifier", "{user}: {refused}");
    }
    assert!(raw::errors(&Raw::start(&proxy.url("shop")).1)[0].starts_with("28P01"));
    // Nor is it taken over from there by mistake, and who has none here is named.
    let (out, err, _) = proxy.run(&["users", "import", "--database", &direct]);
    assert!(!err.contains("shop"), "{out}{err}");
    Raw::log_in(&url);
    proxy.must(&["users", "remove", "shop"]);
    let (_, found, code) = proxy.run(&["check", "--offline"]);
    assert!(
        code == 1 && found.contains("user shop can never log in: no password of shop's is in users.toml"),
        "{found}"
    );
}

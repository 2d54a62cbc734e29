//! Those who do not get in, or speak no protocol: wrong passwords, garbage, half messages, giant lengths, too many. The
//! proxy lives on, and nobody learns more than PostgreSQL would say.

use std::time::{Duration, Instant};

use crate::postgres;
use crate::proxy::{self, Proxy, eventually};
use crate::raw::{Raw, error, errors};

/// A start-up packet or request: its code and what follows.
fn packet(code: u32, rest: &[u8]) -> Vec<u8> {
    let length = u32::try_from(rest.len() + 8).unwrap();
    [&length.to_be_bytes()[..], &code.to_be_bytes(), rest].concat()
}

fn start_up(version: u32, parameters: &[(&str, &str)]) -> Vec<u8> {
    let texts = parameters.iter().flat_map(|(name, value)| [*name, *value]);
    let mut rest: Vec<u8> = texts.flat_map(|text| [text.as_bytes(), &[0]].concat()).collect();
    rest.push(0);
    packet(version, &rest)
}

#[test]
fn nobody_learns_whether_a_user_exists() {
    let proxy = Proxy::start(proxy::POLICY, proxy::TAGS);
    let transcript = |user: &str, password: &str| {
        let url = proxy.url("alice");
        let url = url.replace(&proxy::password("alice"), password).replace("//alice:", &format!("//{user}:"));
        let (_, messages) = Raw::start(&url);
        let shape: Vec<(char, usize)> = messages.iter().map(|(tag, body)| (*tag, body.len())).collect();
        let told = errors(&messages)[0].replace(user, "USER");
        let (_, last) = messages.last().unwrap();
        (shape, told, String::from_utf8_lossy(last).replace(user, "USER"))
    };
    let wrong = transcript("alice", "not this one");
    assert_eq!(wrong.1, "28P01 password authentication failed for user \"USER\"");
    assert_eq!(wrong, transcript("mabel", "not this one"));
    // A user that PostgreSQL knows and the proxy does not: no rule could be meant for it.
    assert_eq!(wrong.1, transcript(postgres::SUPERUSER, postgres::PASSWORD).1);
    // The made-up salt of an unknown user does not change from try to try.
    let salt = |user: &str| {
        let url = proxy.url("alice").replace("//alice:", &format!("//{user}:"));
        let (_, messages) = Raw::start(&url);
        let first = messages.iter().find(|(_, body)| body.starts_with(&[0, 0, 0, 11])).unwrap();
        let text = String::from_utf8_lossy(&first.1).into_owned();
        text.split_once(",s=").unwrap().1.to_owned()
    };
    assert_eq!(salt("mabel"), salt("mabel"));
    assert_ne!(salt("mabel"), salt("mavis"));
    let (_, messages) = Raw::start(&proxy.url("shop").replace("/shop_", "/no_shop_"));
    assert!(errors(&messages)[0].starts_with("3D000 database \"no_shop_"), "{:?}", errors(&messages));
}

#[test]
fn start_up_is_answered_as_postgresql_does() {
    let proxy = Proxy::start(proxy::POLICY, proxy::TAGS);
    let parameters = [("user", "shop"), ("database", "x")];
    // Requests for encryption, GSS and then TLS, are declined; log-in goes on in clear.
    let mut client = Raw::connect(proxy.port());
    for code in [80_877_104, 80_877_103] {
        client.send(&packet(code, &[]));
        assert_eq!(client.byte(), Some(b'N'));
    }
    client.send(&start_up(196_608, &parameters));
    assert_eq!(client.read().map(|(tag, _)| tag), Some('R'));
    // A newer minor version and unknown extensions are negotiated down.
    let mut client = Raw::connect(proxy.port());
    client.send(&start_up(196_610, &[&parameters[..], &[("_pq_.report", "1")]].concat()));
    let (tag, body) = client.read().unwrap();
    assert_eq!((tag, &body[..8]), ('v', &[0, 3, 0, 0, 0, 0, 0, 1][..]));
    assert!(body.ends_with(b"_pq_.report\0"));
    assert_eq!(client.read().map(|(tag, _)| tag), Some('R'));
    let told = |bytes: &[u8]| {
        let mut client = Raw::connect(proxy.port());
        client.send(bytes);
        let (tag, body) = client.read().unwrap();
        assert_eq!(tag, 'E', "{bytes:?}");
        assert!(client.read().is_none(), "the connection is closed");
        error(&body)
    };
    let refused = |more: (&str, &str)| told(&start_up(196_608, &[&parameters[..], &[more]].concat()));
    assert!(told(&start_up(131_072, &parameters)).starts_with("0A000 unsupported frontend protocol 2.0"));
    assert!(told(&start_up(196_608, &[("database", "x")])).starts_with("28000 "));
    for more in [
        ("replication", "database"),
        ("options", "-c session_authorization=postgres"),
        ("options", "-c pgveil.purpose=support"),
        ("pgveil.purpose", "support"),
        ("client_encoding", "LATIN1"),
        ("options", "--standard_conforming_strings=off"),
    ] {
        assert!(refused(more).starts_with("0A000 "), "{more:?}: {}", refused(more));
    }
    // What may be set is set.
    let (mut client, _) = Raw::start_with(
        &proxy.url("shop"),
        &[("application_name", "till"), ("options", "-c statement_timeout=4321"), ("DateStyle", "German")],
    );
    let shown = client.query("show statement_timeout; show application_name; show datestyle");
    let rows: Vec<_> =
        shown.rows.iter().map(|row| String::from_utf8(row[0].clone().unwrap()).unwrap()).collect();
    assert_eq!(rows, ["4321ms", "till", "German, DMY"]);
}

#[test]
fn garbage_ends_one_connection_and_nothing_else() {
    let proxy = Proxy::start_with(proxy::POLICY, proxy::TAGS, "message_bytes_max = 1000000\n");
    let mut witness = Raw::log_in(&proxy.url("shop"));
    let before: [&[u8]; 9] = [
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        &[0, 0, 0, 0],
        &[0, 0, 0, 7, 0, 3, 0],
        &[0x7f, 0xff, 0xff, 0xff, 0, 3, 0, 0],
        &[0xff; 64],
        &packet(196_608, b"user\0shop"),
        &packet(80_877_102, &[0; 3]),
        &packet(0x1234, b"x"),
    ];
    for bytes in before {
        let mut client = Raw::connect(proxy.port());
        client.send(bytes);
        let answer = client.rest();
        let told = errors(&answer);
        assert!(told.iter().all(|text| text.starts_with("08P01 ") || text.starts_with("0A000 ")), "{told:?}");
        // Half of something, and gone.
        let mut client = Raw::connect(proxy.port());
        client.send(&bytes[..bytes.len() / 2]);
    }
    for _ in 0..50 {
        drop(Raw::connect(proxy.port()));
    }
    let after: [&[u8]; 7] = [
        b"Q\x7f\xff\xff\xff",
        b"Q\x00\x0f\xff\xff",
        b"Q\x00\x00\x00\x03",
        b"Q\x00\x00\x00\x04",
        b"Q\x00\x00\x00\x08sele",
        b"B\x00\x00\x00\x0c\x00\x00\xff\xff\x00\x00\x00\x00",
        b"\x00\x00\x00\x00\x04",
    ];
    for bytes in after {
        let mut client = Raw::log_in(&proxy.url("shop"));
        client.send(bytes);
        let told = errors(&client.rest());
        assert!(told.len() == 1 && told[0].starts_with("08P01 "), "{bytes:?}: {told:?}");
        // Half a message, and gone.
        let mut client = Raw::log_in(&proxy.url("shop"));
        client.send(b"Q\x00\x00\x00\x40select pg_sleep(");
    }
    let reply = witness.query("select 1");
    assert_eq!((reply.rows.len(), reply.status), (1, 'I'));
    eventually("the end of all other connections", || {
        let (_, metrics) = proxy.get("/metrics").unwrap();
        metrics.contains("pgveil_connections{state=\"idle\"} 1")
            && metrics.contains("pgveil_connections{state=\"logging_in\"} 0")
    });
    assert!(!proxy.log().contains("panicked"), "{}", proxy.log());
}

#[test]
fn places_are_limited_and_so_is_patience() {
    let proxy = Proxy::start_with(proxy::POLICY, proxy::TAGS, "connections_max = 2\nlog_in_seconds = 1\n");
    let first = Raw::log_in(&proxy.url("shop"));
    let second = Raw::log_in(&proxy.url("alice"));
    let (_, messages) = Raw::start(&proxy.url("shop"));
    assert_eq!(errors(&messages), ["53300 sorry, too many clients already"]);
    drop(second);
    eventually("a free place", || {
        Raw::start(&proxy.url("shop")).1.last().is_some_and(|(tag, _)| *tag == 'Z')
    });
    // Silence, before and after the start-up packet.
    for bytes in [vec![], start_up(196_608, &[("user", "shop")])] {
        let began = Instant::now();
        let mut client = Raw::connect(proxy.port());
        client.send(&bytes);
        client.rest();
        assert!(began.elapsed() < Duration::from_secs(8), "it waits {:?}", began.elapsed());
    }
    drop(first);
}

#[test]
fn a_cancel_request_needs_the_secret() {
    let proxy = Proxy::start(proxy::POLICY, proxy::TAGS);
    let (mut client, messages) = Raw::start(&proxy.url("shop"));
    let (_, key) = messages.iter().find(|(tag, _)| *tag == 'K').unwrap();
    let pid = client.query("select pg_backend_pid()").rows[0][0].clone().unwrap();
    assert_eq!(String::from_utf8(pid).unwrap(), u32::from_be_bytes(key[..4].try_into().unwrap()).to_string());
    let mut wrong = key.clone();
    *wrong.last_mut().unwrap() ^= 1;
    client.say_query("select pg_sleep(1.5)");
    std::thread::sleep(Duration::from_millis(200));
    Raw::connect(proxy.port()).send(&packet(80_877_102, &wrong));
    assert_eq!(client.reply().order, "TDCZ");
    client.say_query("select pg_sleep(20)");
    std::thread::sleep(Duration::from_millis(300));
    Raw::connect(proxy.port()).send(&packet(80_877_102, key));
    assert_eq!(client.reply().errors, ["57014 canceling statement due to user request"]);
}

//! Tokens that hold, and every way in which one does not: with keys that are made here, and the RFC's.

use super::*;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair};
use serde_json::json;

const NOW: u64 = 1_800_000_000;

fn encoded(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A provider with a key of either curve.
struct Provider {
    edwards: Ed25519KeyPair,
    point: EcdsaKeyPair,
}

impl Provider {
    fn new() -> Provider {
        let random = SystemRandom::new();
        let edwards = Ed25519KeyPair::generate_pkcs8(&random).unwrap();
        let point = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        Provider {
            edwards: Ed25519KeyPair::from_pkcs8(edwards.as_ref()).unwrap(),
            point: EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, point.as_ref(), &random)
                .unwrap(),
        }
    }

    fn jwks(&self) -> Value {
        let point = self.point.public_key().as_ref();
        json!({ "keys": [
            { "kty": "OKP", "crv": "Ed25519", "kid": "ed", "use": "sig", "x": encoded(self.edwards.public_key()) },
            { "kty": "EC", "crv": "P-256", "kid": "ec", "alg": "ES256", "x": encoded(&point[1..33]), "y": encoded(&point[33..]) },
            { "kty": "oct", "kid": "shared", "alg": "HS256", "k": encoded("secret") },
            { "kty": "OKP", "crv": "Ed25519", "kid": "for-sealing", "use": "enc", "x": encoded(self.edwards.public_key()) },
            { "kty": "something new", "kid": "new" },
        ] })
    }

    fn keys(&self) -> KeySet {
        KeySet::parse(self.jwks().to_string().as_bytes()).unwrap_or_else(|error| panic!("{error}"))
    }

    fn sign(&self, header: &Value, claims: &Value) -> String {
        let message = format!("{}.{}", encoded(header.to_string()), encoded(claims.to_string()));
        let signature = match header["alg"].as_str() {
            Some("EdDSA") => self.edwards.sign(message.as_bytes()).as_ref().to_vec(),
            Some("ES256") => {
                self.point.sign(&SystemRandom::new(), message.as_bytes()).unwrap().as_ref().to_vec()
            }
            Some("HS256") => {
                // The confusion: the public key, taken for a shared secret.
                let key = hmac::Key::new(hmac::HMAC_SHA256, self.edwards.public_key().as_ref());
                hmac::sign(&key, message.as_bytes()).as_ref().to_vec()
            }
            _ => vec![],
        };
        format!("{message}.{}", encoded(signature))
    }
}

fn rules() -> Rules {
    Rules {
        issuer: "https://id.example.org".to_owned(),
        audience: vec!["pgveil".to_owned(), "reports".to_owned()],
        algorithms: ALGORITHMS_DEFAULT.to_vec(),
        claim: "email".to_owned(),
        naming: Naming::Suffix("@example.org".to_owned()),
        leeway_seconds: 30,
    }
}

fn claims() -> Value {
    json!({ "iss": "https://id.example.org", "aud": "pgveil", "email": "ada@example.org", "exp": NOW + 60 })
}

/// These claims, some of them changed; `null` leaves one out.
fn with(changes: Value) -> Value {
    let mut claims = claims();
    for (name, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => drop(claims.as_object_mut().unwrap().remove(name)),
            value => claims[name] = value.clone(),
        }
    }
    claims
}

#[test]
fn a_token_holds_for_the_user_that_it_names() {
    let (provider, rules) = (Provider::new(), rules());
    let keys = provider.keys();
    let judge = |header: Value, claims: Value| {
        rules.judge("ada", provider.sign(&header, &claims).as_bytes(), &keys, NOW).map(|named| named.0)
    };
    for header in [
        json!({ "alg": "EdDSA", "kid": "ed" }),
        json!({ "alg": "ES256", "kid": "ec", "typ": "JWT" }),
        // Only one key could be meant.
        json!({ "alg": "ES256" }),
    ] {
        assert_eq!(judge(header.clone(), claims()), Ok("ada".to_owned()), "{header}");
    }
    let header = || json!({ "alg": "EdDSA", "kid": "ed" });
    for changes in [
        json!({ "aud": ["other", "reports"] }),
        json!({ "exp": NOW - 29 }),
        json!({ "exp": NOW as f64 + 0.5 }),
        json!({ "nbf": NOW + 30 }),
        json!({ "iat": NOW, "groups": ["a", "b"] }),
    ] {
        assert_eq!(judge(header(), with(changes.clone())), Ok("ada".to_owned()), "{changes}");
    }
    for (changes, why) in [
        (json!({ "iss": "https://id.example.com" }), Unfit::Issuer),
        (json!({ "iss": null }), Unfit::Issuer),
        (json!({ "aud": "other" }), Unfit::Audience),
        (json!({ "aud": ["other"] }), Unfit::Audience),
        (json!({ "aud": null }), Unfit::Audience),
        (json!({ "exp": NOW - 30 }), Unfit::Expired),
        (json!({ "exp": 0 }), Unfit::Expired),
        (json!({ "exp": null }), Unfit::NoExpiry),
        (json!({ "exp": "never" }), Unfit::Malformed),
        (json!({ "exp": -1 }), Unfit::Malformed),
        (json!({ "nbf": NOW + 31 }), Unfit::Early),
        (json!({ "nbf": "x" }), Unfit::Malformed),
        (json!({ "email": null }), Unfit::Nameless),
        (json!({ "email": 7 }), Unfit::Nameless),
        (json!({ "email": "ada" }), Unfit::Nameless),
        (json!({ "email": "@example.org" }), Unfit::Nameless),
        (json!({ "email": "ada@example.com" }), Unfit::Nameless),
        (json!({ "email": "bob@example.org" }), Unfit::OtherUser),
        (json!({ "email": "Ada@example.org" }), Unfit::OtherUser),
    ] {
        assert_eq!(judge(header(), with(changes.clone())), Err(why), "{changes}");
    }
}

#[test]
fn what_is_not_the_providers_signature_does_not_count() {
    let (provider, rules) = (Provider::new(), rules());
    let keys = provider.keys();
    let judge = |token: &str| rules.judge("ada", token.as_bytes(), &keys, NOW).map(|named| named.0).err();
    for (header, why) in [
        // No signature at all, and a secret that everybody knows.
        (json!({ "alg": "none" }), Unfit::Malformed),
        (json!({ "alg": "HS256", "kid": "ed" }), Unfit::Algorithm),
        (json!({ "alg": "HS256", "kid": "shared" }), Unfit::Algorithm),
        (json!({ "alg": "ES384", "kid": "ec" }), Unfit::Algorithm),
        (json!({ "kid": "ed" }), Unfit::Malformed),
        // Keys that there are not, or that are for something else.
        (json!({ "alg": "EdDSA", "kid": "old" }), Unfit::UnknownKey),
        (json!({ "alg": "EdDSA", "kid": "ec" }), Unfit::UnknownKey),
        (json!({ "alg": "ES256", "kid": "ed" }), Unfit::UnknownKey),
        (json!({ "alg": "EdDSA", "kid": "for-sealing" }), Unfit::UnknownKey),
        (json!({ "alg": "RS256", "kid": "ed" }), Unfit::UnknownKey),
        (json!({ "alg": "EdDSA", "kid": "ed", "crit": ["b64"], "b64": false }), Unfit::Critical),
    ] {
        assert_eq!(judge(&provider.sign(&header, &claims())), Some(why), "{header}");
    }
    // Another provider, who brings its key along.
    let other = Provider::new();
    let own = &other.jwks()["keys"][0];
    let header = json!({ "alg": "EdDSA", "kid": "ed", "jwk": own });
    assert_eq!(judge(&other.sign(&header, &claims())), Some(Unfit::Signature));
    // A signature over other claims.
    let token = provider.sign(&json!({ "alg": "EdDSA", "kid": "ed" }), &with(json!({ "email": "x" })));
    let (head, signature) = (token.split('.').next().unwrap(), token.rsplit('.').next().unwrap());
    assert_eq!(
        judge(&format!("{head}.{}.{signature}", encoded(claims().to_string()))),
        Some(Unfit::Signature)
    );
    for broken in ["", ".", "..", "...", "a.b.c", "ada", &token[..token.len() - 90]] {
        assert!(judge(broken).is_some(), "{broken}");
    }
}

#[test]
fn a_table_names_users() {
    let (provider, mut rules) = (Provider::new(), rules());
    rules.claim = "sub".to_owned();
    rules.naming = Naming::Table([("7c3f".to_owned(), ["ada".to_owned()].into())].into());
    let judge = |user: &str, sub: &str| {
        let token = provider.sign(&json!({ "alg": "EdDSA", "kid": "ed" }), &with(json!({ "sub": sub })));
        rules.judge(user, token.as_bytes(), &provider.keys(), NOW).map(|named| named.0)
    };
    assert_eq!(judge("ada", "7c3f"), Ok("ada".to_owned()));
    assert_eq!(judge("7c3f", "7c3f").err(), Some(Unfit::OtherUser));
    assert_eq!(judge("ada", "ada").err(), Some(Unfit::Nameless));
}

/// Made by Python's `cryptography`, which threw the private key away.
#[test]
fn rsa_is_what_others_sign() {
    let n = "suNTq-gyjFhXkxUMI8VNo6n_J9gHJRTBAUAT9XJtzQqSXQZC9x8uj3fLSwDnrFSVeGBHKBxk57WkIS34vtC3u48792v2YlVaRQ5y\
             FczViKFaFgDiERWSJSrULvlTutjAiLzqftW00eTQKXW3BrOtJEXrKpTSoA_pYs_wsTN7QjpnBruG0E-znT2_9NNmGLlftwj5YWIT\
             lwh-xIwUrynF0H_PUUL_WyLt0w2R_SqPgcpH8bF_K9NXiCHq5sQ5LlITDxY3LVD9k-DNI6P_awHm1Lo7o0ZxFQ_nPfr5M5FnvE3w\
             dT66XNhF4em1H5khExpAAcTDPsOz1rUmXgoJm8_wPQ";
    let claims = "eyJpc3MiOiJodHRwczovL2lkLmV4YW1wbGUub3JnIiwiYXVkIjoicGd2ZWlsIiwiZW1haWwiOiJhZGFAZXhhbXBsZS5vcmciLCJl\
                  eHAiOjE4MDAwMDAwNjB9";
    let signed_by = [
        (
            "RS256",
            "UlV9stw4U3Nf_UnmffxMYlb1yNzc_1Y4FeNjLZsaBu-Od9VnKjfiPYdWBi0iiRrwpzoF0QwMQDPGxCy007K9T4NiXMNWgsr8eqBx\
             386S7xKdTTHIhIrcmtC7SzQWMzIuw005evUqaDZ2I6wCv_glJeAtC8tvWdiDavjGfbud2b3-Vashdhwh0oVOszRUyVrQYXLimn4-\
             K5s4vGHeUYdG2bR2wTAxySFH-AtAyB0fqXjhXoJ2fFxBdqLJ_Tdf-dsVdpanCk8b61smF3aTDvRYTywyArfzu1s-rhFQ0lvQcAp9\
             1Cc67c_q8PrhIOZw4LoYiazl7aB1jOCtQkeUjdeAzQ",
        ),
        (
            "PS256",
            "W13PdICyL3QgDI3-m1vt8Nn9FEZj8PxLamTQBgKXtiBLQnuVCgrqAPrJPxAYN2jj0Yxw6QpLm1HtRVJnMCfL_Dwi28P1OIU9QDxf\
             5eTH9yX8why3PGqY-7NXXBRdp5-l_kFtS2KlwQDMC4HkTlWdUv8B4S91MO7J9Ww0b27n7pSWjgtGywAE0KZeJyL2VbxA-WWacyzt\
             7rS4znNhmUEQP7ivhk1O6AfzhAuejv6RocKl_DkwomxV1kA18NhOUOQMBz9HHMHL1Os21MxhzlPNoBIy3Nqwrguw__WEMU4Jj2hv\
             Crgx7rbFin7LCwNY4ME7t049gzoa9bcQrzUPB2FlIw",
        ),
    ];
    let jwks = json!({ "keys": [{ "kty": "RSA", "kid": "rsa", "n": n, "e": "AQAB" }] });
    let keys = KeySet::parse(jwks.to_string().as_bytes()).unwrap_or_else(|error| panic!("{error}"));
    let mut rules = rules();
    let judge = |rules: &Rules, name: &str, signature: &str| {
        let header = encoded(format!("{{\"alg\":\"{name}\",\"kid\":\"rsa\"}}"));
        let token = format!("{header}.{claims}.{signature}");
        rules.judge("ada", token.as_bytes(), &keys, NOW).map(|named| named.0)
    };
    assert_eq!(
        judge(&rules, "PS256", signed_by[1].1),
        Err(Unfit::Algorithm),
        "not among those that hold by default"
    );
    rules.algorithms = vec![Algorithm::RS256, Algorithm::PS256];
    for (name, signature) in signed_by {
        assert_eq!(judge(&rules, name, signature), Ok("ada".to_owned()), "{name}");
        let first = if signature.starts_with('A') { "B" } else { "A" };
        let altered = format!("{first}{}", &signature[1..]);
        assert_eq!(judge(&rules, name, &altered), Err(Unfit::Signature), "{name}");
    }
    assert_eq!(judge(&rules, "RS256", signed_by[1].1), Err(Unfit::Signature), "one padding for the other");
}

#[test]
fn a_key_set_has_keys() {
    let error = |text: &str| KeySet::parse(text.as_bytes()).err();
    for text in ["", "{}", "[]", "{\"keys\":{}}", "<html>"] {
        assert_eq!(error(text), Some(KeySetError::Syntax), "{text}");
    }
    for keys in
        [json!([]), json!([{ "kty": "oct", "k": "c2VjcmV0" }]), json!([{ "kty": "RSA", "n": "AQAB" }, 7])]
    {
        assert_eq!(error(&json!({ "keys": keys }).to_string()), Some(KeySetError::Empty), "{keys}");
    }
}

//! What keyrings promise, on keys that are no secret.

use super::*;

struct Fixed(u8);
impl Random for Fixed {
    fn fill(&mut self, bytes: &mut [u8]) {
        bytes.fill(self.0);
    }
}

fn sample() -> Keyring {
    let mut keyring = Keyring::create();
    keyring.ensure_key("default", 1_795_000_000, &mut Fixed(7));
    keyring.ensure_domain("email").expect("room");
    keyring.ensure_domain("card").expect("room");
    keyring
}

#[test]
fn a_keyring_comes_back_from_its_json() {
    let master = MasterKey::new([3; 32]);
    let json = sample().wrap_json(&master);
    assert!(!json.contains(&"07".repeat(16)), "keys are wrapped");
    let again = Keyring::unwrap_json(&json, &master).expect("unwraps");
    assert_eq!(again.domain_id("email"), Some(DomainId(1)));
    assert_eq!(again.domain_id("card"), Some(DomainId(2)));
    assert_eq!(again.key_versions(), sample().key_versions());
    assert_eq!(again.wrap_json(&master), json);
}

#[test]
fn keys_rotate_and_old_versions_retire() {
    let mut keyring = sample();
    keyring.ensure_key("cards", 1, &mut Fixed(8));
    assert_eq!(keyring.rotate("cards", 2, &mut Fixed(9)), Ok(KeyVersion(2)));
    assert_eq!(keyring.current_version("cards"), Some(KeyVersion(2)));
    assert_eq!(keyring.rotate("nobody", 2, &mut Fixed(9)), Err(KeyringError::UnknownKey("nobody".into())));
    let retire = |keyring: &mut Keyring, name: &str, version| keyring.retire(name, KeyVersion(version));
    assert_eq!(retire(&mut keyring, "cards", 2), Err(KeyringError::Newest("cards".into(), 2)));
    assert_eq!(retire(&mut keyring, "cards", 3), Err(KeyringError::UnknownVersion("cards".into(), 3)));
    assert_eq!(retire(&mut keyring, "cards", 1), Ok(()));
    // A version is not given out twice.
    assert_eq!(keyring.rotate("cards", 3, &mut Fixed(1)), Ok(KeyVersion(3)));
    assert_eq!(keyring.rotate("default", 3, &mut Fixed(1)), Ok(KeyVersion(2)));
    let fingerprints = retire(&mut keyring, "default", 1);
    assert_eq!(fingerprints, Err(KeyringError::Fingerprints("default".into(), 1)));
    let master = MasterKey::new([3; 32]);
    let again = Keyring::unwrap_json(&keyring.wrap_json(&master), &master).expect("unwraps");
    assert_eq!(again.key_versions(), keyring.key_versions());
}

#[test]
fn a_wrong_master_key_is_told_apart_from_damage() {
    let json = sample().wrap_json(&MasterKey::new([3; 32]));
    let error = |json: &str, master: u8| Keyring::unwrap_json(json, &MasterKey::new([master; 32])).err();
    assert_eq!(error(&json, 4), Some(KeyringError::WrongMasterKey));
    assert!(matches!(error("{}", 3), Some(KeyringError::Damaged(_))));
    let changes = [
        ("\"default\"", "\"other\""),
        ("\"email\": 1", "\"email\": 2"),
        ("\"email\"", "\"phone\""),
        ("\"next_domain\": 3", "\"next_domain\": 4"),
        ("\"version\": 1", "\"version\": 2"),
        ("1795000000", "1795000001"),
    ];
    for (from, to) in changes {
        let changed = json.replacen(from, to, 1);
        assert_ne!(changed, json, "{from}");
        assert!(matches!(error(&changed, 3), Some(KeyringError::Damaged(_))), "{from} became {to}");
    }
}

#[test]
fn a_keyring_carries_its_wrapped_master_key() {
    let mut keyring = sample();
    let wrapped = WrappedKey {
        provider: "p".into(),
        key: "k".into(),
        named: Some("n".into()),
        keyring: keyring.identify(&mut Fixed(10)).to_owned(),
        wrapped: vec![1, 2],
    };
    let json = keyring.wrap_json(&MasterKey::new([3; 32]).wrapped_as(wrapped.clone()));
    assert_eq!(Keyring::wrapped_master(&json), Ok(Some(wrapped)));
    let bare = MasterKey::new([3; 32]);
    Keyring::unwrap_json(&json, &bare).expect("the bare key opens it, too");
    assert_eq!(Keyring::wrapped_master(&sample().wrap_json(&bare)), Ok(None));
}

#[test]
fn a_keyring_keeps_its_identity() {
    let (master, mut keyring) = (MasterKey::new([3; 32]), sample());
    let before = keyring.wrap_json(&master);
    let identity = keyring.identify(&mut Fixed(10)).to_owned();
    assert_eq!(identity, "0a".repeat(16));
    let json = keyring.wrap_json(&master);
    let mut again = Keyring::unwrap_json(&json, &master).expect("unwraps");
    assert_eq!(again.identify(&mut Fixed(11)), identity);
    assert_eq!(
        Keyring::import(&keyring.export(&mut Fixed(9))).expect("whole").identify(&mut Fixed(11)),
        identity
    );
    // Neither another identity nor none passes for it, and none is one nobody can add.
    for changed in [
        json.replacen(&identity, &"0b".repeat(16), 1),
        json.replacen(&format!("  \"identity\": \"{identity}\",\n"), "", 1),
        before.replacen("\"check\"", &format!("\"identity\": \"{identity}\", \"check\""), 1),
    ] {
        assert!(changed != json && changed != before);
        assert!(matches!(Keyring::unwrap_json(&changed, &master).err(), Some(KeyringError::Damaged(_))));
    }
}

#[test]
fn an_export_is_the_whole_keyring() {
    let text = sample().export(&mut Fixed(9));
    let again = Keyring::import(&text).unwrap_or_else(|error| panic!("{error}"));
    let master = MasterKey::new([3; 32]);
    assert_eq!(again.wrap_json(&master), sample().wrap_json(&master));
    for (from, to) in
        [("\"pgveil_keys\":1", "\"pgveil_keys\":2"), ("email", "phone"), ("09", "08"), ("{", "")]
    {
        assert!(Keyring::import(&text.replacen(from, to, 1)).is_err(), "{from}");
    }
}

#[test]
fn fingerprints_outlive_new_keys() {
    let mut keyring = sample();
    let before = keyring.fingerprint_key().expect("a key");
    keyring.ensure_key("a", 0, &mut Fixed(8));
    assert!(keyring.fingerprint_key().expect("a key") == before && before.iter().any(|byte| *byte != 0));
    let none = Keyring::create().ciphers([]).err();
    assert_eq!(none, Some(KeyringError::UnknownKey("default".into())), "no key that anyone could know");
}

#[test]
fn a_domain_id_is_never_given_out_twice() {
    let mut keyring = sample();
    assert!(!keyring.ensure_domain("email").expect("room"));
    keyring.domains.remove("card");
    keyring.ensure_domain("phone").expect("room");
    assert_eq!(keyring.domain_id("phone"), Some(DomainId(3)));
}

#[test]
fn master_keys_read_as_hex_and_base64() {
    for text in ["03".repeat(32), "AwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwM=\n".to_owned()] {
        assert_eq!(*MasterKey::parse(&text).expect("a key").bytes, [3; 32]);
    }
    for text in ["", "03", "not a key", &"03".repeat(33)] {
        assert_eq!(MasterKey::parse(text).err(), Some(KeyringError::MasterKeySyntax));
    }
}

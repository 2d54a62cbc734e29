//! Keys in escrow: sealed to people by `keys export`, opened by the program age, and taken back by `keys import`.

use crate::hsm::SoftHsm;
use crate::key_providers::{Place, with_token};
use crate::proxy::{self, Proxy, eventually};
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

/// An identity in a file, and its recipient.
fn identity(dir: &Path, name: &str) -> String {
    let made = Command::new("age-keygen").arg("-o").arg(dir.join(name)).output();
    let made = made.expect("age: apt install age");
    assert!(made.status.success());
    let output = Command::new("age-keygen").arg("-y").arg(dir.join(name)).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// What age makes of a file, by an identity.
fn opened(identity: &Path, file: &Path) -> Result<Vec<u8>, String> {
    let output = Command::new("age").arg("-d").arg("-i").arg(identity).arg(file).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() { Ok(output.stdout) } else { Err(error) }
}

/// `keys import` with this on standard input: what it said, and its exit code.
fn import(place: &Place, input: &[u8]) -> (String, i32) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pgveil"));
    command.args(["keys", "import", "--config"]).arg(place.path(""));
    command.envs(place.environment().iter().cloned());
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // It may refuse before it has read everything.
    let _ = child.stdin.take().unwrap().write_all(input);
    let output = child.wait_with_output().unwrap();
    (String::from_utf8([output.stdout, output.stderr].concat()).unwrap(), output.status.code().unwrap())
}

#[test]
fn an_export_opens_for_its_recipients_and_comes_back() {
    let place = Place::new("", vec![]);
    let (ann, bob) = (identity(&place.path(""), "ann"), identity(&place.path(""), "bob"));
    identity(&place.path(""), "eve");
    place.must(&["keys", "init"]);
    place.must(&["keys", "rotate", "default"]);
    let keys = place.must(&["keys", "list", "--json"]);
    let out = place.path("keys.age");
    place.must(&["keys", "export", "--to", &ann, "--to", &bob, "--out", &out.display().to_string()]);
    let (_, error, code) = place.run(&["keys", "export", "--to", &ann, "--out", &out.display().to_string()]);
    assert!(code == 1 && error.contains("keys.age is there already"), "nothing is written over: {error}");

    let plain = opened(&place.path("ann"), &out).unwrap();
    assert_eq!(opened(&place.path("bob"), &out).unwrap(), plain);
    assert!(opened(&place.path("eve"), &out).is_err());
    let sealed = fs::read_to_string(&out).unwrap();
    let altered =
        sealed.replacen(&sealed[700..704], if &sealed[700..704] == "AAAA" { "BBBB" } else { "AAAA" }, 1);
    fs::write(place.path("altered.age"), altered).unwrap();
    assert!(opened(&place.path("ann"), &place.path("altered.age")).is_err());
    let master = fs::read_to_string(place.path("master.key")).unwrap();
    assert!(!String::from_utf8_lossy(&plain).contains(master.trim()), "it has a master key of its own");

    // To standard output, and on another machine: to a file, the environment and a token.
    let said = place.must(&["keys", "export", "--to", &ann]);
    fs::write(place.path("printed.age"), said).unwrap();
    let plain = opened(&place.path("ann"), &place.path("printed.age")).unwrap();
    let hsm = SoftHsm::with("pgveil", "master");
    let environment = vec![("PGVEIL_TEST_KEY", "ab".repeat(32).into())];
    let places = [
        Place::new("", vec![]),
        Place::new("[keys]\nmaster_key = \"${PGVEIL_TEST_KEY}\"\n", environment),
        with_token(&hsm),
    ];
    for (index, other) in places.iter().enumerate() {
        let (said, code) = import(other, b"{\"pgveil_keys\":1}");
        assert!(
            code == 1 && said.contains("not what keys export makes") && said.contains("\nhint: "),
            "{said}"
        );
        assert!(!other.path("keyring.json").exists() && !other.path("master.key").exists());
        let (said, code) = import(other, &plain);
        assert_eq!(code, 0, "{said}");
        assert_eq!(other.must(&["keys", "list", "--json"]), keys);
        assert_eq!(other.path("master.key").exists(), index == 0);
        assert_eq!(other.must(&["keys", "init"]), "nothing to do: everything is there\n");
        let (said, code) = import(other, &plain);
        assert!(code == 1 && said.contains("is there already"), "{said}");
    }
}

/// The command leaves word, and the log's owner records it: at once where it runs, else when it starts.
#[test]
fn what_leaves_is_in_the_log() {
    let mut proxy = Proxy::start(proxy::POLICY, proxy::TAGS);
    let ann = identity(proxy.dir(), "ann");
    let found = |proxy: &Proxy, event: &str| -> Vec<String> {
        let audit = proxy.dir().join("audit").display().to_string();
        let shown = proxy.must(&["audit", "show", &audit, "--json"]);
        shown.lines().filter(|line| line.contains(&format!("\"{event}\""))).map(str::to_owned).collect()
    };
    let recorded = |proxy: &Proxy| found(proxy, "keys_exported");
    proxy.must(&["keys", "export", "--to", &ann]);
    eventually("the record", || recorded(&proxy).len() == 1);
    assert!(recorded(&proxy)[0].contains(&format!("\"to\":\"{ann}\"")), "{:?}", recorded(&proxy));
    let changed = |proxy: &Proxy| found(proxy, "data_key_changed");
    proxy.must(&["keys", "rotate", "default"]);
    eventually("the record", || changed(&proxy).len() == 1);
    let change = &changed(&proxy)[0];
    assert!(change.contains("\"key\":\"default\",\"change\":\"version 2 made\""), "{change}");
    proxy.signal("TERM");
    proxy.wait();
    let said = proxy.must(&["init", "--split", "2/3", "--database", proxy.direct()]);
    let shares: Vec<&str> = said.lines().filter(|line| line.starts_with("pgveil-share-")).collect();
    assert_eq!(shares.len(), 3, "{said}");
    assert_eq!(recorded(&proxy).len(), 1);
    proxy.serve();
    eventually("the record", || recorded(&proxy).len() == 2);
    assert!(recorded(&proxy)[1].contains("3 shares, any 2 of them, set"), "{:?}", recorded(&proxy));
    let log = recorded(&proxy).concat();
    assert!(shares.iter().all(|share| !log.contains(share.rsplit('-').nth(1).unwrap())));

    // What cannot be recorded is not done.
    fs::remove_file(proxy.dir().join("audit/notes")).unwrap();
    fs::create_dir(proxy.dir().join("audit/notes")).unwrap();
    for command in
        [&["keys", "export", "--to", &ann][..], &["keys", "split", "2/3"], &["keys", "rotate", "default"]]
    {
        let (said, error, code) = proxy.run(command);
        assert!(
            code == 1 && said.is_empty() && error.contains("cannot be recorded is not done"),
            "{said}{error}"
        );
    }
}

#[test]
fn only_recipients_of_age_are_sealed_to() {
    let place = Place::new("", vec![]);
    place.must(&["keys", "init"]);
    let mistyped = identity(&place.path(""), "ann").replacen("age1", "age1q", 1);
    for to in [mistyped.as_str(), "ssh-ed25519 AAAAC3Nz", "AGE-SECRET-KEY-1", ""] {
        let (said, error, code) = place.run(&["keys", "export", "--to", to]);
        assert!(
            code == 2 && said.is_empty() && error.contains("a recipient of age is age1"),
            "{to}: {error}"
        );
    }
    let (_, error, code) = place.run(&["keys", "export"]);
    assert!(code == 2 && error.contains("--to"), "{error}");
}

/// Longer than one of the format's chunks.
#[test]
fn age_opens_any_length() {
    use pgveil::crypto::age::{Recipient, seal};
    use pgveil::crypto::provider::SystemRandom;
    let dir = tempfile::tempdir().unwrap();
    let recipient = Recipient::parse(&identity(dir.path(), "ann")).unwrap();
    for length in [0, 1, 65_535, 65_536, 65_537, 200_000] {
        let plain: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
        let sealed = seal(&plain, std::slice::from_ref(&recipient), &mut SystemRandom).unwrap();
        fs::write(dir.path().join("sealed"), sealed).unwrap();
        assert!(opened(&dir.path().join("ann"), &dir.path().join("sealed")).unwrap() == plain, "{length}");
    }
}

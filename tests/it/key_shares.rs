//! The master key in shares: printed once, and the way back when it is lost.

use crate::hsm::SoftHsm;
use crate::key_providers::{Place, with_token};
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

/// The shares of the master key, as `keys split` prints them.
fn split(place: &Place, quorum: &str) -> Vec<String> {
    let said = place.must(&["keys", "split", quorum]);
    said.lines().map(str::to_owned).collect()
}

/// `keys recover` with these lines on standard input: what it said and its exit code. No part of a share is ever repeated.
fn recover(place: &Place, lines: &[&str], more: &[&str]) -> (String, i32) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pgveil"));
    command.args(["keys", "recover", "--config"]).arg(place.path("")).args(more);
    command.envs(place.environment().iter().cloned());
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // It may end before it has read everything.
    let _ = child.stdin.take().unwrap().write_all(lines.join("\n").as_bytes());
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    for line in lines {
        for part in line.split('-').filter(|part| part.len() > 8) {
            assert!(!said.contains(part), "it repeats {part}:\n{said}");
        }
    }
    (said, output.status.code().unwrap())
}

#[test]
fn a_lost_master_key_comes_back_from_its_shares() {
    let place = Place::new("", vec![]);
    place.must(&["keys", "init"]);
    let master = fs::read_to_string(place.path("master.key")).unwrap();
    let shares = split(&place, "3/5");
    assert_eq!(shares.len(), 5);
    for share in &shares {
        assert!(share.starts_with("pgveil-share-v1-") && !share.contains(master.trim()), "{share}");
    }
    let given =
        |numbers: &[usize]| -> Vec<&str> { numbers.iter().map(|number| shares[*number].as_str()).collect() };
    let (said, code) = recover(&place, &given(&[0, 1, 2]), &[]);
    assert!(code == 1 && said.contains("is there already"), "{said}");
    fs::rename(place.path("master.key"), place.path("lost")).unwrap();
    let refused = |lines: &[&str], expected: &str| {
        let (said, code) = recover(&place, lines, &[]);
        assert!(code == 1 && said.contains(expected) && said.contains("\nhint: "), "{expected}: {said}");
        assert!(!place.path("master.key").exists());
    };
    refused(&[], "0 of the 2 shares");
    refused(&given(&[0, 4]), "2 of the 3 shares that set");
    refused(&given(&[0, 4, 0]), "number 3 was given before");
    let other = split_again(&place);
    refused(&[&shares[0], &shares[1], &other[2]], "number 3 is of set");
    let mistyped =
        shares[1].replacen(&shares[1][40..42], if &shares[1][40..42] == "00" { "11" } else { "00" }, 1);
    refused(&[&shares[0], &mistyped, &shares[2]], "number 2 is mistyped");
    refused(
        &[&shares[0], &shares[1], "5f0e0d9c8b7a69584736251403f2e1d0c9b8a796857463524130"],
        "number 3 is not a share",
    );

    for numbers in [&[4, 2, 0][..], &[0, 1, 2, 3, 4]] {
        let (said, code) = recover(&place, &given(numbers), &[]);
        assert_eq!(code, 0, "{said}");
        assert_eq!(fs::read_to_string(place.path("master.key")).unwrap(), master);
        assert_eq!(fs::metadata(place.path("master.key")).unwrap().permissions().mode() & 0o777, 0o600);
        fs::remove_file(place.path("master.key")).unwrap();
    }
    // From files, each its owner's.
    fs::write(place.path("one"), format!("\n{}\n", shares[1])).unwrap();
    fs::write(place.path("two"), format!("{}\n{}", shares[3], shares[4])).unwrap();
    let files = ["one", "two"].map(|name| place.path(name).display().to_string());
    place.must(&["keys", "recover", &files[0], &files[1]]);
    place.must(&["keys", "list"]);

    // Shares of a master key that is not the keyring's any more.
    place.write("new.key", &"31".repeat(32));
    place.must(&["keys", "rewrap", "--new-master-key-file", &place.path("new.key").display().to_string()]);
    fs::remove_file(place.path("master.key")).unwrap();
    refused(&given(&[0, 1, 2]), "does not open the keyring");
}

/// Another set of the same key, whose file was moved away.
fn split_again(place: &Place) -> Vec<String> {
    fs::copy(place.path("lost"), place.path("master.key")).unwrap();
    let shares = split(place, "3/5");
    fs::remove_file(place.path("master.key")).unwrap();
    shares
}

#[test]
fn shares_are_the_way_back_from_a_lost_token() {
    let hsm = SoftHsm::with("pgveil", "master");
    let place = with_token(&hsm);
    place.must(&["keys", "init"]);
    let keys = place.must(&["keys", "list", "--json"]);
    let shares = split(&place, "2/2");
    hsm.go_away();
    let (said, code) = recover(&place, &[&shares[0], &shares[1]], &[]);
    assert!(code == 0 && said.contains("keys rewrap --old-master-key-file"), "{said}");
    // Without a token …
    let by_token = fs::read_to_string(place.path("proxy.toml")).unwrap();
    place.write("proxy.toml", "");
    assert_eq!(place.must(&["keys", "list", "--json"]), keys);
    // … or with a new one.
    place.write("proxy.toml", &by_token);
    hsm.make_token("pgveil");
    hsm.make_key("pgveil", "master");
    place.must(&["keys", "rewrap", "--old-master-key-file", &place.path("master.key").display().to_string()]);
    assert_eq!(place.must(&["keys", "list", "--json"]), keys);
}

#[test]
fn only_quorums_are_split_into() {
    let place = Place::new("", vec![]);
    let (_, error, code) = place.run(&["keys", "split", "2/3"]);
    assert!(code == 1 && error.contains("cannot read"), "there is nothing to split: {error}");
    place.must(&["keys", "init"]);
    for quorum in ["1/3", "4/3", "2/256", "3"] {
        let (_, error, code) = place.run(&["keys", "split", quorum]);
        assert!(code == 2 && error.contains("write it like 3/5"), "{error}");
    }
}

//! `pgveil keys` as people run it: nothing but a folder is needed.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

const POLICY: &str = "\
[domain.email]
label = \"pii.email\"
type = \"text\"
seal = \"deterministic\"

[domain.card]
label = \"payment.card\"
type = \"text\"
seal = \"randomized\"
key = \"payment\"

[domain.note]
label = \"pii.note\"
type = \"text\"
seal = \"none\"
";

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("proxy.toml"), "").unwrap();
    fs::write(folder.path().join("tags.toml"), "").unwrap();
    fs::write(folder.path().join("policy.toml"), POLICY).unwrap();
    folder
}

/// Standard output, standard error and exit code.
fn keys(dir: &Path, arguments: &[&str], master: Option<&str>) -> (String, String, i32) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pgveil"));
    command.arg("keys").args(arguments).arg("--config").arg(dir).stdin(Stdio::null());
    command.env_remove("PGVEIL_MASTER_KEY");
    command.envs(master.map(|key| ("PGVEIL_MASTER_KEY", key)));
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr), output.status.code().unwrap_or(-1))
}

#[test]
fn keys_are_made_once_and_listed_without_a_secret() {
    let folder = folder();
    let dir = folder.path();
    let (_, error, code) = keys(dir, &["list"], None);
    assert!(
        code == 1 && error.contains("there is no keyring") && error.contains("hint: Run: pgveil keys init"),
        "{error}"
    );

    let (said, error, code) = keys(dir, &["init"], None);
    assert_eq!(code, 0, "{error}");
    for made in [
        "the master key",
        "the keyring",
        "data key \"default\"",
        "data key \"payment\"",
        "domain \"email\" an id",
    ] {
        assert!(said.contains(made), "{made}\n{said}");
    }
    assert!(!said.contains("\"note\""), "what is stored in clear needs no key: {said}");
    let before = fs::read(dir.join("keyring.json")).unwrap();
    assert_eq!(keys(dir, &["init"], None).0, "nothing to do: everything is there\n");
    assert_eq!(fs::read(dir.join("keyring.json")).unwrap(), before);

    let (json, _, _) = keys(dir, &["list", "--json"], None);
    let list: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(list[0]["name"], "default");
    assert_eq!(list[0]["domains"], serde_json::json!([{ "name": "email", "id": 2 }]));
    assert_eq!(list[1]["name"], "payment");
    assert_eq!(list[1]["versions"][0]["version"], 1);
    assert!(list[1]["versions"][0]["created"].as_str().unwrap().parse::<jiff::Timestamp>().is_ok());
    let (table, _, _) = keys(dir, &["list"], None);
    assert!(table.contains("payment") && table.contains("card (1)"), "{table}");
    let wrapped: serde_json::Value = serde_json::from_slice(&before).unwrap();
    let master = fs::read_to_string(dir.join("master.key")).unwrap();
    for secret in [master.trim(), wrapped["keys"]["payment"][0]["wrapped"].as_str().unwrap()] {
        assert!(!said.contains(secret) && !table.contains(secret) && !json.contains(secret));
    }
}

/// Whoever comes second finds what the first made: a keyring or master key that is replaced takes the data with it.
#[test]
fn several_processes_make_one_keyring_and_lose_nothing_of_it() {
    let more = |domain: &str| {
        format!(
            "\n[domain.{domain}]\nlabel = \"pii.{domain}\"\ntype = \"text\"\nseal = \"randomized\"\nkey = \"{domain}\"\n"
        )
    };
    for _ in 0..3 {
        let shared = folder();
        // Folders of their own, each with a domain and a key that the others do not know, over one pair of key files.
        let folders: Vec<_> = (0..6)
            .map(|number| {
                let own = folder();
                fs::write(
                    own.path().join("policy.toml"),
                    format!("{POLICY}{}", more(&format!("own{number}"))),
                )
                .unwrap();
                let key = |name: &str| shared.path().join(name).display().to_string();
                let proxy = format!(
                    "[keys]\npath = \"{}\"\nmaster_key_file = \"{}\"\n",
                    key("keyring.json"),
                    key("master.key")
                );
                fs::write(own.path().join("proxy.toml"), proxy).unwrap();
                own
            })
            .collect();
        let ran: Vec<_> = std::thread::scope(|scope| {
            let running: Vec<_> =
                folders.iter().map(|own| scope.spawn(|| keys(own.path(), &["init"], None))).collect();
            running.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        for (_, error, code) in &ran {
            assert_eq!(*code, 0, "{error}");
        }
        for once in ["made the master key", "made the keyring", "data key \"default\"", "domain \"email\""] {
            assert_eq!(ran.iter().filter(|(said, ..)| said.contains(once)).count(), 1, "{once}: {ran:?}");
        }
        let list: serde_json::Value =
            serde_json::from_str(&keys(folders[0].path(), &["list", "--json"], None).0).unwrap();
        let names: Vec<&str> =
            list.as_array().unwrap().iter().map(|key| key["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["default", "own0", "own1", "own2", "own3", "own4", "own5", "payment"]);
        for own in &folders {
            assert_eq!(keys(own.path(), &["init"], None).0, "nothing to do: everything is there\n");
        }
    }
}

#[test]
fn key_files_that_cannot_be_trusted_are_named() {
    let folder = folder();
    let dir = folder.path();
    assert_eq!(keys(dir, &["init"], None).2, 0);
    let fails = |expected: &str| {
        for command in ["list", "init"] {
            let (said, error, code) = keys(dir, &[command], None);
            assert_eq!((said.as_str(), code), ("", 1), "{command}: {error}");
            assert!(error.starts_with("error: ") && error.contains("\nhint: "), "{error}");
            assert!(error.contains(expected), "{expected}: {error}");
        }
    };
    for name in ["keyring.json", "master.key"] {
        fs::set_permissions(dir.join(name), fs::Permissions::from_mode(0o640)).unwrap();
        fails("has group or world access (mode 0640)");
        fs::set_permissions(dir.join(name), fs::Permissions::from_mode(0o600)).unwrap();
    }
    let master = fs::read(dir.join("master.key")).unwrap();
    fs::write(dir.join("master.key"), "11".repeat(32)).unwrap();
    fails("wrapped by another master key");
    fs::write(dir.join("master.key"), "too short").unwrap();
    fails("not 32 bytes in hexadecimal or base64");
    fs::remove_file(dir.join("master.key")).unwrap();
    let before = fs::read(dir.join("keyring.json")).unwrap();
    assert!(keys(dir, &["init"], None).1.contains("but not its master key"));
    assert!(!dir.join("master.key").exists(), "no master key replaces a lost one");
    fs::write(dir.join("master.key"), master).unwrap();
    fs::set_permissions(dir.join("master.key"), fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!((keys(dir, &["list"], None).2, fs::read(dir.join("keyring.json")).unwrap()), (0, before));
}

#[test]
fn a_master_key_from_the_environment_leaves_no_file() {
    let folder = folder();
    let dir = folder.path();
    fs::write(dir.join("proxy.toml"), "[keys]\nmaster_key = \"${PGVEIL_MASTER_KEY}\"\n").unwrap();
    let key = "ab".repeat(32);
    assert_eq!(keys(dir, &["init"], Some(&key)).2, 0);
    assert!(!dir.join("master.key").exists());
    assert_eq!(keys(dir, &["list"], Some(&key)).2, 0);
    let (_, error, code) = keys(dir, &["list"], Some(&"cd".repeat(32)));
    assert!(
        code == 1 && error.contains("wrapped by another master key") && !error.contains("cdcd"),
        "{error}"
    );
}

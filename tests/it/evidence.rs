//! The audit log as evidence: another program verifies it from FORMAT.md alone, proofs and witnesses work from the command line.

use crate::audit_log::{Making, pgveil, said};
use pgveil::audit::keys;
use pgveil::audit::segments;
use std::fs;
use std::path::Path;
use std::process::Command;

/// What the script of another language says, and its exit code.
fn script(key: &Path, folder: &Path) -> (String, i32) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tools/verify_audit.py");
    let output =
        Command::new(crate::python::interpreter()).arg(script).arg(key).arg(folder).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(!text.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    (text.trim_end().to_owned(), output.status.code().unwrap())
}

#[test]
fn another_program_verifies_the_log_from_its_format_alone() {
    let making = Making::of_segments();
    let folder = making.path();
    let first_key = making.first_key();
    let verified = making.verified();
    assert!(verified.segments > 3, "{}", verified.segments);
    let (told, code) = script(&first_key, folder);
    assert_eq!(code, 0, "{told}");
    assert!(told.starts_with(&format!("ok {} {} ", verified.records, verified.chain.size)), "{told}");
    // The second key signed only what came later.
    let (told, code) = script(&folder.join(keys::PUBLIC_KEY_FILE), folder);
    assert_eq!((code, told.as_str()), (1, "line 1: another key"));

    let paths = segments::list(folder).unwrap();
    let plain =
        paths.iter().find(|path| path.extension().is_some_and(|extension| extension == "jsonl")).unwrap();
    let good = fs::read(plain).unwrap();
    let mut found = 0;
    // Each of these takes a Python: a byte of each part of a line, spread over the file.
    for at in (0..good.len()).step_by(good.len() / 40 + 1) {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        fs::write(plain, bytes).unwrap();
        let (told, code) = script(&first_key, folder);
        assert_eq!(code, 1, "byte {at}: {told}");
        found += 1;
    }
    assert!(found > 30);
    let lines: Vec<&[u8]> = good.split_inclusive(|byte| *byte == b'\n').collect();
    for removed in 0..lines.len().min(8) {
        let rest: Vec<&[u8]> =
            lines.iter().enumerate().filter(|(index, _)| *index != removed).map(|(_, line)| *line).collect();
        fs::write(plain, rest.concat()).unwrap();
        assert_eq!(script(&first_key, folder).1, 1, "line {removed} removed");
    }
}

#[test]
fn a_witness_cosigns_what_continues_and_nothing_else() {
    let making = Making::of_segments();
    let folder = making.path().to_str().unwrap();
    let place = tempfile::tempdir().unwrap();
    let state = place.path().join("witness");
    let state = state.to_str().unwrap();
    let ran = |arguments: &[&str]| said(&pgveil(arguments));
    let (key, err, code) = ran(&["audit", "key", folder]);
    assert_eq!((code, err.as_str()), (0, ""));
    let log_key = key.lines().next().unwrap().to_owned();
    assert!(log_key.starts_with("pgveil/") && key.contains("BEGIN PUBLIC KEY"), "{key}");
    let witness = |more: &[&str], input: &str| {
        let own = ["audit", "witness", "--state", state, "--name", "w.example/1", "--log-key", &log_key];
        said(&crate::audit_log::pgveil_with(&[own.as_slice(), more].concat(), input))
    };
    let (vkey, _, code) = witness(&["--key"], "");
    assert_eq!(code, 0);
    assert_eq!(witness(&["--seen"], "").0, "0\n");
    let (request, err, code) = ran(&["audit", "prove", "consistency", "0", folder]);
    assert_eq!((code, err.as_str()), (0, ""));
    let (cosignature, err, code) = witness(&[], &request);
    assert_eq!((code, err.as_str()), (0, ""));
    let (checkpoint, _, _) = ran(&["audit", "checkpoint", folder]);
    let kept = place.path().join("kept");
    fs::write(&kept, format!("{checkpoint}{cosignature}")).unwrap();
    let kept = kept.to_str().unwrap();
    let first_key = making.first_key();
    let verify = |known: &str| {
        let key = first_key.to_str().unwrap();
        let vkey = vkey.trim_end();
        ran(&["audit", "verify", "--public-key", key, "--known", known, "--witness", vkey, folder])
    };
    assert_eq!(verify(kept).2, 0, "{:?}", verify(kept));

    // The log goes on, and so does the witness.
    let size = witness(&["--seen"], "").0.trim_end().to_owned();
    making.write(5);
    assert_eq!(verify(kept).2, 0);
    let (request, _, _) = ran(&["audit", "prove", "consistency", &size, folder]);
    let altered = request.replacen(&format!("old {size}"), "old 1", 1);
    assert!(witness(&[], &altered).1.contains(&format!("this witness saw size {size} last")));
    let mut lines: Vec<&str> = request.lines().collect();
    lines.remove(1);
    let (_, err, code) = witness(&[], &(lines.join("\n") + "\n"));
    assert!(code == 1 && err.contains("the log was rewritten"), "{err}");
    assert_eq!(witness(&[], &request).2, 0);

    // The key's holder writes history anew: the log verifies by itself, and not beside what the witness signed.
    let forged = Making::of_segments();
    let other = forged.path().to_str().unwrap();
    let (request, _, _) = ran(&["audit", "prove", "consistency", "0", other]);
    assert!(witness(&[], &request).1.contains("not a checkpoint of the log"));
    let uncosigned = place.path().join("uncosigned");
    fs::write(&uncosigned, checkpoint).unwrap();
    assert!(verify(uncosigned.to_str().unwrap()).1.contains("carries no cosignature of w.example/1"));

    // Cut back to an earlier checkpoint.
    let newest = Path::new(folder).join("log.jsonl");
    let text = fs::read_to_string(&newest).unwrap();
    let keep = text.lines().take(2).map(|line| format!("{line}\n")).collect::<String>();
    let now = ran(&["audit", "checkpoint", folder]).0;
    let now_kept = place.path().join("now");
    fs::write(&now_kept, now).unwrap();
    fs::write(&newest, keep).unwrap();
    let key = first_key.to_str().unwrap();
    assert_eq!(ran(&["audit", "verify", "--public-key", key, folder]).2, 0, "by itself it looks whole");
    let (out, _, code) = ran(&[
        "audit",
        "verify",
        "--json",
        "--public-key",
        key,
        "--known",
        now_kept.to_str().unwrap(),
        folder,
    ]);
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &json["flaw"]), (1, &"truncated".into()), "{out}");
}

#[test]
fn a_line_is_proven_to_be_in_the_log() {
    let making = Making::of_segments();
    let folder = making.path().to_str().unwrap();
    let (proof, err, code) = said(&pgveil(&["audit", "prove", "inclusion", "3", folder]));
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(proof.starts_with("c2sp.org/tlog-proof@v1\nindex 2\n"), "{proof}");
    let (_, err, code) = said(&pgveil(&["audit", "prove", "inclusion", "999999", folder]));
    assert!(code == 1 && err.contains("line 999999 is not among them"), "{err}");
    // Without the first segments there is nothing to make a proof of.
    let (_, first) = segments::sealed_in(making.path()).unwrap().swap_remove(0);
    fs::remove_file(first).unwrap();
    let (_, err, code) = said(&pgveil(&["audit", "prove", "inclusion", "3", folder]));
    assert!(code == 1 && err.contains("the first segments of the log are not here"), "{err}");
}

#[test]
fn a_report_says_who_took_what_and_whether_the_log_holds() {
    let making = Making::of_segments();
    let folder = making.path().to_str().unwrap();
    let key = making.first_key();
    let place = tempfile::tempdir().unwrap();
    let html = place.path().join("report.html");
    let report = |more: &[&str]| {
        let own = ["audit", "report", "--public-key", key.to_str().unwrap(), folder];
        said(&pgveil(&[own.as_slice(), more].concat()))
    };
    let (text, err, code) = report(&["--from", "2025-11-25", "--to", "2025-11-26"]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(
        text.starts_with(
            "# Access to sensitive data, 2025-11-25 00:00 to 2025-11-26 00:00 UTC\n\n**verified**"
        ),
        "{text}"
    );
    assert!(text.contains("| alice | 0 | 0 | 0 | 24 | 0 | 0 |"), "{text}");
    assert!(text.contains("the log's signing key became"), "{text}");
    let (text, _, code) = report(&["--html", html.to_str().unwrap()]);
    assert_eq!((code, text.as_str()), (0, ""));
    let page = fs::read_to_string(&html).unwrap();
    assert!(page.starts_with("<!doctype html>") && page.contains("<svg") && page.contains("Verified."));
    let (_, sealed) = segments::sealed_in(making.path()).unwrap().swap_remove(0);
    fs::remove_file(sealed).unwrap();
    let (text, _, code) = report(&[]);
    assert!(code == 1 && text.contains("**NOT VERIFIED**"), "{text}");
}

/// Files by the digest that anybody can compute of them, columns by how the database stores them, whoever changed it.
#[test]
fn what_changed_is_recorded() {
    use crate::proxy::{self, Proxy};
    let proxy = Proxy::start(proxy::POLICY, proxy::TAGS);
    let audit = proxy.dir().join("audit").display().to_string();
    crate::postgres::execute(
        proxy.direct(),
        "create table customers (id int primary key, email text, card text, joined date); \
         insert into customers values (1, 'ann@example.com', 'c', '2020-01-01'); grant all on customers to shop",
    );
    // A connection keeps the catalog watched.
    let mut shop = crate::raw::Raw::log_in(&proxy.url("shop"));
    shop.query("select 1");
    let shown = |event: &str| {
        let shown = proxy.must(&["audit", "show", &audit, "--json"]);
        shown.lines().filter(|line| line.contains(event)).map(str::to_owned).collect::<Vec<_>>()
    };
    crate::reseal::must(&proxy, &["start", "public.customers.email"]);
    crate::postgres::execute(proxy.direct(), "alter table customers drop column card");
    let expected = [
        "\"column\":\"public.customers.email\",\"from\":\"clear\",\"to\":\"sealed with version 1\"",
        "\"column\":\"public.customers.card\",\"from\":\"clear\",\"to\":\"absent\"",
    ];
    proxy::eventually("both columns' changes are recorded", || {
        let changes = shown("column_changed").join("\n");
        expected.iter().all(|change| changes.contains(change))
    });
    assert!(shown("column_changed").iter().all(|line| line.contains("\"database\":\"shop")));

    let policy = proxy.dir().join("policy.toml");
    let text = fs::read_to_string(&policy).unwrap() + "# a remark\n";
    fs::write(&policy, text).unwrap();
    proxy.reload("the new configuration holds");
    let digest = Command::new("sha256sum").arg(&policy).output().unwrap().stdout;
    let digest = String::from_utf8(digest).unwrap();
    let digest = digest.split(' ').next().unwrap();
    proxy::eventually("the reload is recorded", || !shown("reloaded").is_empty());
    let reloaded = shown("reloaded").pop().unwrap();
    assert!(
        reloaded.contains(&format!("{{\"file\":\"policy.toml\",\"digest\":\"{digest}\"}}")),
        "{reloaded}"
    );
    for file in ["proxy.toml", "tags.toml", "users.toml", "keyring.json"] {
        assert!(reloaded.contains(&format!("\"file\":\"{file}\"")), "{reloaded}");
    }
    let report = proxy.must(&["audit", "report", &audit]);
    assert!(report.contains(&format!("policy.toml became {digest}")), "{report}");
    assert!(!report.contains("tags.toml became"), "{report}");
    assert!(report.contains("public.customers.email"), "{report}");
}

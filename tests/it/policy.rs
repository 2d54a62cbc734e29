//! What the privacy officer reads: expectations that hold or fail with what would change them, the matrix of one person,
//! contradictions, and why a statement is decided as it is.

use crate::config::Folder;
use crate::proxy::{self, Proxy};
use pgveil::config::{self, Weight};
use std::path::Path;
use std::process::Command;

fn examples() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/config"))
}

/// What `pgveil policy …` prints on both its outputs, and its exit code.
fn run(folder: &Path, arguments: &[&str]) -> (String, String, i32) {
    let output = Command::new(env!("CARGO_BIN_EXE_pgveil"))
        .arg("policy")
        .args(arguments)
        .arg("--config")
        .arg(folder)
        .env("COLUMNS", "200")
        .output()
        .expect("the binary");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (text(output.stdout), text(output.stderr), output.status.code().expect("it ended by itself"))
}

fn tested(folder: &Folder, expectations: &str) -> (String, String, i32) {
    folder.write("test.toml", expectations);
    let path = folder.path().join("test.toml");
    let (out, err, code) = run(folder.path(), &["test", path.to_str().unwrap()]);
    let short = |text: String| text.replace(&format!("{}/", folder.path().display()), "");
    (short(out), short(err), code)
}

const POLICY: &str = r#"
[domain.email]
label = "pii.email"
type = "text"
seal = "deterministic"
[domain.card]
label = "payment.card"
type = "text"
seal = "randomized"
[roles]
app = ["shop"]
support = ["alice"]
audit = ["carol"]
[[rule]]
name = "application"
roles = ["app"]
labels = ["*"]
allow = ["read", "compare", "write"]
show = "clear"
[[rule]]
name = "desk"
roles = ["support"]
labels = ["pii.*"]
allow = ["read"]
show = "mask:email"
rows_per_statement = 100
[[rule]]
name = "desk-more"
roles = ["support"]
labels = ["pii.*"]
allow = ["read", "compare"]
show = "clear"
purposes = ["fraud"]
hours = "mon-fri 08:00-18:00 UTC"
"#;

const TAGS: &str =
    "[columns]\n\"public.customers.email\" = \"email\"\n\"public.customers.card\" = \"card\"\n";

fn folder() -> Folder {
    let folder = Folder::new();
    folder.write("policy.toml", POLICY).write("tags.toml", TAGS);
    folder
}

#[test]
fn the_example_of_expectations_holds() {
    let file = examples().join("policy-test.toml");
    let (out, err, code) = run(examples(), &["test", file.to_str().unwrap()]);
    assert_eq!((out.as_str(), err.as_str(), code), ("11 expectations hold\n", "", 0));
}

#[test]
fn what_fails_says_what_would_change_it() {
    let (out, err, code) = tested(
        &folder(),
        r#"
[[expect]]
name = "masked otherwise"
user = "alice"
column = "public.customers.email"
outcome = "mask:partial"
[[expect]]
name = "clear"
user = "alice"
label = "pii.email"
outcome = "clear"
[[expect]]
name = "not the shop"
user = "shop"
sql = "select card from customers"
outcome = "refused"
[[expect]]
user = "carol"
sql = "select card from customers"
outcome = "allowed"
[[expect]]
name = "by the other rule"
user = "alice"
label = "pii.email"
outcome = "mask:email"
rule = "desk-more"
[[expect]]
name = "shown"
user = "alice"
sql = "select email as x from customers"
outcome = "allowed"
shows = { "public.customers.email" = "null" }
[[expect]]
name = "writes"
user = "alice"
label = "pii.email"
action = "write"
outcome = "allowed"
[[expect]]
name = "unknown table"
user = "shop"
sql = "select email from strangers"
outcome = "refused"
[[expect]]
name = "holds"
user = "carol"
label = "pii.email"
outcome = "refused"
"#,
    );
    assert_eq!(err, "");
    assert_eq!(code, 1);
    let expected = "\
test.toml:2: masked otherwise
  expected  read public.customers.email: mask:partial
  got       mask:email by rule desk (policy.toml:20)
  change    rule desk (policy.toml:20) would no longer decide if alice were in none of its roles (support), or its labels, allow or conditions were narrower.
  change    No rule that names the label shows mask:partial: one for a role of alice would.
test.toml:7: clear
  expected  read label pii.email: clear
  got       mask:email by rule desk (policy.toml:20)
  change    rule desk-more (policy.toml:27) would show clear. Set a purpose first: SET pgveil.purpose = 'fraud'.
  change    rule application (policy.toml:14) would show clear if alice were in app.
test.toml:12: not the shop
  expected  refused
  got       allowed
  change    rule application (policy.toml:14) would no longer decide if shop were in none of its roles (app), or its labels, allow or conditions were narrower.
";
    assert!(out.starts_with(expected), "{out}");
    for line in [
        "test.toml:17: carol: select card from customers\n  expected  allowed\n  got       refused with 42501: permission denied for column card of table customers\n",
        "  change    rule application (policy.toml:14) would show clear if carol were in app.\n",
        "test.toml:21: by the other rule\n  expected  read label pii.email: mask:email by rule desk-more\n  got       mask:email by rule desk (policy.toml:20)\n  change    rule desk-more (policy.toml:27) would show clear. Set a purpose first: SET pgveil.purpose = 'fraud'.\n",
        "test.toml:27: shown\n  expected  read public.customers.email: null\n  got       mask:email by rule desk (policy.toml:20)\n",
        "test.toml:33: writes\n  expected  write label pii.email: allowed\n  got       refused: no rule gives it\n",
        "  change    rule desk (policy.toml:20) would allow write if its allow said write.\n",
        "test.toml:39: unknown table\n  expected  refused\n  got       allowed\n  change    Nothing that it names is tagged.\n",
        "8 of 9 expectations fail\n",
    ] {
        assert!(out.contains(line), "{line}\n---\n{out}");
    }
}

#[test]
fn mistakes_of_the_file_are_found_in_one_run() {
    let (out, err, code) = tested(
        &folder(),
        r#"
surprise = 1
[tables]
"customers" = { id = "bigint" }
[[expect]]
column = "public.customers.name"
outcome = "clear"
[[expect]]
user = "alice"
label = "pii.phone"
outcome = "clear"
[[expect]]
user = "alice"
label = "pii.email"
outcome = "visible"
rule = "nobody"
from = "somewhere"
at = "noon"
[[expect]]
user = "alice"
sql = "select 1"
label = "pii.email"
outcome = "allowed"
[[expect]]
user = "alice"
sql = "select 1"
outcome = "mask:email"
"#,
    );
    assert_eq!((out.as_str(), code), ("", 1));
    for message in [
        "test.toml:2: unknown key surprise",
        "test.toml:4: \"customers\" is not schema.table",
        "test.toml:5: expect.user is missing",
        "test.toml:6: column \"public.customers.name\" has no tag in tags.toml",
        "test.toml:10: no domain has the label \"pii.phone\"",
        "test.toml:15: the outcome cannot be \"visible\"",
        "test.toml:16: policy.toml has no rule \"nobody\"",
        "test.toml:17: \"somewhere\" is not an IP address",
        "test.toml:18: \"noon\" is not a time and a zone",
        "test.toml:19: an expectation is of a column, a label or a statement",
        "test.toml:27: the outcome cannot be \"mask:email\"",
    ] {
        assert!(err.contains(&format!("error: {message}\nhint: ")), "{message}\n---\n{err}");
    }
    let (_, err, code) = run(examples(), &["test", "nowhere.toml"]);
    assert!(err.starts_with("error: nowhere.toml:1: cannot be read") && code == 1, "{err}");
    let (_, err, code) = tested(&folder(), "");
    assert!(err.starts_with("error: test.toml:1: nothing is expected") && code == 1, "{err}");
}

#[test]
fn the_matrix_is_what_decides_in_order() {
    let folder = folder();
    let (out, err, code) = run(folder.path(), &["show", "--as", "alice"]);
    assert_eq!((err.as_str(), code), ("", 0));
    let squeezed: Vec<String> =
        out.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(
        squeezed,
        [
            "label action outcome when limits rule",
            "payment.card read refused default",
            "payment.card compare refused default",
            "payment.card write refused default",
            "pii.email read clear purpose fraud; mon-fri 08:00-18:00 UTC desk-more (policy.toml:27)",
            "mask:email always rows_per_statement 100 desk (policy.toml:20)",
            "pii.email compare allowed, counted purpose fraud; mon-fri 08:00-18:00 UTC desk-more (policy.toml:27)",
            "refused otherwise",
            "pii.email write refused default",
        ],
        "{out}"
    );
    let (out, _, code) = run(folder.path(), &["show", "--as", "alice", "--json"]);
    let lines: Vec<serde_json::Value> = serde_json::from_str(&out).unwrap();
    assert_eq!((code, lines.len()), (0, 8));
    assert_eq!(
        lines[4],
        serde_json::json!({
            "label": "pii.email", "action": "read", "outcome": "mask:email", "conditions": [],
            "limits": { "rows_per_statement": 100 }, "rule": "desk", "line": 20,
        })
    );
    let (_, err, code) = run(&folder.path().join("nowhere"), &["show", "--as", "alice"]);
    assert!(err.contains("policy.toml cannot be read") && code == 1, "{err}");
}

/// What `check` says of rules beside what the loader always said.
#[test]
fn contradictions_are_found_with_file_and_line() {
    let rule = |name: &str, role: &str, labels: &str, more: &str| {
        format!(
            "[[rule]]\nname = \"{name}\"\nroles = [\"{role}\"]\nlabels = [{labels}]\nallow = [\"read\"]\n{more}\n"
        )
    };
    let head = "[domain.email]\nlabel = \"pii.email\"\ntype = \"text\"\nseal = \"deterministic\"\n\
                [domain.card]\nlabel = \"pii.card\"\ntype = \"text\"\nseal = \"randomized\"\n\
                [roles]\na = [\"ada\", \"eve\"]\nb = [\"eve\", \"bob\"]\n";
    let remarks = |rules: &[String]| {
        let folder = Folder::new();
        folder.write("tags.toml", TAGS).write("policy.toml", &format!("{head}{}", rules.concat()));
        let remarks = match config::load(folder.path()) {
            Ok(config) => config.remarks,
            Err(mistakes) => mistakes,
        };
        let told = |one: &config::Mistake| (one.weight, one.line, one.message.clone());
        remarks.iter().map(told).collect::<Vec<_>>()
    };
    let (email, card) = ("show = \"mask:email\"", "show = \"mask:partial\"");
    let (both, one) = ("\"pii.*\"", "\"pii.email\"");
    assert_eq!(
        remarks(&[rule("one", "a", both, email), rule("other", "b", both, card)]),
        [(
            Weight::Advice,
            18,
            "rule \"other\" contradicts rule \"one\" (line 12) for eve and pii.card: it reveals as much, and stands later"
                .to_owned()
        )]
    );
    // Limits contradict each other, too.
    let limited = format!("{email}\nrows_per_hour = 5");
    assert_eq!(remarks(&[rule("one", "a", both, email), rule("other", "b", both, &limited)]).len(), 1);
    for holds in [
        // An exception that stands first.
        [rule("one", "a", one, email), rule("other", "a", both, card)],
        // One reveals more: that is what decides.
        [rule("one", "a", both, email), rule("other", "b", both, "show = \"clear\"")],
        [rule("one", "a", both, email), rule("other", "b", both, email)],
        // They never hold together, or the first is for a purpose.
        [rule("one", "a", both, &format!("{email}\npurposes = [\"x\"]")), rule("other", "b", both, card)],
    ] {
        assert_eq!(remarks(&holds), [], "{holds:?}");
    }
    assert_eq!(
        remarks(&[rule("one", "a", both, &format!("{email}\nrows_per_statement = 10\nrows_per_hour = 9"))]),
        [(
            Weight::Idle,
            12,
            "rows_per_statement = 10 of rule \"one\" can never take effect: an hour gives 9".to_owned()
        )]
    );
    // Only what is sealed deterministic can be compared.
    let comparing = |labels: &str| {
        let rule = rule("one", "a", labels, "show = \"null\"");
        remarks(&[rule.replace("allow = [\"read\"]", "allow = [\"compare\"]")])
    };
    assert_eq!(
        comparing("\"pii.card\""),
        [(
            Weight::Idle,
            12,
            "rule \"one\" can never take effect: no domain of its labels can be compared".to_owned()
        )]
    );
    assert_eq!(comparing(both), []);
    // What was known before: the later of two that always fit together never decides.
    let shadowed = remarks(&[rule("one", "a", both, email), rule("other", "a", one, card)]);
    assert_eq!(shadowed.len(), 1);
    assert!(
        shadowed[0].2.contains("\"other\" can never take effect: rule \"one\" always decides"),
        "{shadowed:?}"
    );
}

#[test]
fn masks_are_checked_against_what_they_would_show() {
    for (show, data_type, seal, message, hint) in [
        ("mask:card(7,4)", "text", "randomized", "rule.show cannot be \"mask:card(7,4)\"", "PCI DSS"),
        ("mask:bucket", "integer", "randomized", "rule.show cannot be \"mask:bucket\"", "mask:bucket(1000)"),
        ("mask:blur", "text", "randomized", "rule.show cannot be \"mask:blur\"", "mask:fake:name"),
        (
            "mask:month",
            "text",
            "randomized",
            "mask:month cannot show domain email, whose type is text",
            "fits",
        ),
        (
            "mask:bucket(10)",
            "real",
            "randomized",
            "mask:bucket(10) cannot show domain email, whose type is real",
            "",
        ),
        ("mask:ff1", "date", "randomized", "mask:ff1 cannot show domain email, whose type is date", ""),
        (
            "mask:hash",
            "text",
            "none",
            "mask:hash cannot show domain email, which is stored in clear",
            "a key",
        ),
        (
            "mask:ff1",
            "bigint",
            "none",
            "mask:ff1 cannot show domain email, which is stored in clear",
            "a key",
        ),
        (
            "mask:fake:city",
            "text",
            "none",
            "mask:fake:city cannot show domain email, which is stored",
            "a key",
        ),
        (
            "mask:hash",
            "integer",
            "randomized",
            "mask:hash cannot show domain email, whose type is integer",
            "",
        ),
    ] {
        let folder = Folder::new();
        folder.write(
            "policy.toml",
            &format!(
                "[domain.email]\nlabel = \"pii.email\"\ntype = \"{data_type}\"\nseal = \"{seal}\"\n[roles]\na = [\"ada\"]\n\
                 [[rule]]\nname = \"r\"\nroles = [\"a\"]\nlabels = [\"*\"]\nallow = [\"read\"]\nshow = \"{show}\"\n"
            ),
        );
        let mistakes = config::load(folder.path()).err().expect("a mistake");
        assert_eq!(mistakes.len(), 1, "{mistakes:?}");
        assert!(mistakes[0].message.starts_with(message) && mistakes[0].line == 12, "{mistakes:?}");
        assert!(mistakes[0].hint.contains(hint), "{mistakes:?}");
    }
}

#[test]
fn explain_says_which_rule_decided_and_what_would_change_that() {
    let proxy = Proxy::start(proxy::POLICY, proxy::TAGS);
    let mut shop = crate::raw::Raw::log_in(&proxy.url("shop"));
    assert_eq!(
        shop.query("create table customers (id int, email text, card text, joined date)").errors,
        [""; 0]
    );
    let explain =
        |user: &str, sql: &str| proxy.must(&["explain", "--as", user, "--dbname", database(&proxy), sql]);
    let masked = explain("alice", "select email from customers");
    assert!(masked.starts_with("send       SELECT"), "{masked}");
    let why = masked.split_once("\nwhy        ").unwrap().1;
    assert_eq!(
        why,
        "read pii.email: mask:partial by rule support-desk (policy.toml:24)\n\
         change     rule application (policy.toml:18) would show clear if alice were in app.\n"
    );
    let refused = explain("alice", "select joined from customers");
    assert!(refused.starts_with("refuse     42501"), "{refused}");
    assert!(
        refused.ends_with(
            "\nwhy        read profile.joined: refused: no rule gives it\n\
             change     rule application (policy.toml:18) would show clear if alice were in app.\n"
        ),
        "{refused}"
    );
    // A rule that is for others, or for another action, says all that it wants.
    let written = explain("alice", "update customers set email = 'x'");
    assert!(
        written.contains("rule support-desk (policy.toml:24) would allow write if its allow said write.\n"),
        "{written}"
    );
    let compared = explain("shop", "select 1 from customers where email = 'x' and id = 1");
    assert!(
        compared.contains("why        compare pii.email: allowed by rule application (policy.toml:18)"),
        "{compared}"
    );
}

fn database(proxy: &Proxy) -> &str {
    crate::postgres::database_name(proxy.direct())
}

//! The evasion corpus (`tests/corpus/evasion.md`) against the proxy: each way round the guard has the verdict that the file
//! says, for a user without rights, one who sees masks and one who may see all; and no secret is shown to the first two,
//! whatever the file says. `UPDATE=1` writes the verdicts down as they are.

use std::fs;
use std::path::Path;

use crate::postgres;
use crate::proxy::Proxy;
use crate::raw::{Message, Raw, error};

const POLICY: &str = r#"
default = "refuse"
[domain.email]
label = "pii.email"
type = "text"
seal = "deterministic"
[domain.card]
label = "pay.card"
type = "text"
seal = "randomized"
[domain.phone]
label = "pii.phone"
type = "text"
seal = "none"
[roles]
app = ["shop"]
masked = ["alice"]
[[rule]]
name = "application"
roles = ["app"]
labels = ["*"]
allow = ["read", "compare", "write"]
show = "clear"
[[rule]]
name = "masks"
roles = ["masked"]
labels = ["*"]
allow = ["read"]
show = "null"
"#;

const TAGS: &str = r#"
[columns]
"public.people.email" = "email"
"public.people.card" = "card"
"public.people.phone" = "phone"
"#;

/// A piece of each secret that stands in no statement of the corpus but those that know it already.
const SECRETS: [&str; 9] =
    ["kora.v", "ilja.b", "low.per", "4929-", "5105-", "3400-", "151-77", "151-90", "151-55"];

/// Who runs each case, as the file names them.
const USERS: [(&str, &str); 3] = [("none", "intern"), ("masks", "alice"), ("clear", "shop")];

struct Case {
    messages: Vec<String>,
    values: Vec<String>,
    /// The line that says the verdicts.
    line: usize,
}

fn cases(lines: &[String]) -> Vec<Case> {
    let mut cases = Vec::new();
    let mut at = 0;
    while at < lines.len() {
        let Some(info) = lines[at].strip_prefix("```sql") else {
            at += 1;
            continue;
        };
        let values =
            info.trim().strip_prefix("values=").map(|all| all.split('|').map(str::to_owned).collect());
        let end = at + lines[at + 1..].iter().position(|line| line == "```").unwrap() + 1;
        cases.push(Case {
            messages: messages(&lines[at + 1..end]),
            values: values.unwrap_or_default(),
            line: end + 2,
        });
        at = end + 1;
    }
    cases
}

fn messages(lines: &[String]) -> Vec<String> {
    lines.join("\n").split("\n\n").map(str::to_owned).collect()
}

fn schema(lines: &[String]) -> Vec<String> {
    let start = lines.iter().position(|line| line == "```schema").unwrap() + 1;
    let end = start + lines[start..].iter().position(|line| line == "```").unwrap();
    messages(&lines[start..end])
}

/// The verdict, and everything that was read.
fn run(raw: &mut Raw, case: &Case) -> (String, Vec<u8>) {
    raw.query("begin");
    let mut all: Vec<Message> = Vec::new();
    for message in &case.messages {
        if case.values.is_empty() {
            raw.say_query(message);
        } else {
            let bytes = |value: &String| (value != r"\N").then(|| value.clone().into_bytes());
            let values: Vec<Option<Vec<u8>>> = case.values.iter().map(bytes).collect();
            let values: Vec<Option<&[u8]>> = values.iter().map(Option::as_deref).collect();
            raw.parse("", message, &[]);
            raw.bind("", "", &values, [0, 0]);
            raw.describe(b'P', "");
            raw.execute("", 0);
            raw.sync();
        }
        while let Some((tag, body)) = raw.read() {
            let end = tag == 'Z';
            all.push((tag, body));
            if end {
                break;
            }
        }
        if all.iter().any(|(tag, _)| *tag == 'E') {
            break;
        }
    }
    raw.query("rollback");
    raw.query("discard all");
    let failed = all.iter().find(|(tag, _)| *tag == 'E').map(|(_, body)| error(body)[..5].to_owned());
    let read: Vec<u8> = all.into_iter().flat_map(|(_, body)| body).collect();
    let shown = SECRETS.iter().any(|secret| {
        // What the statement itself said is no news.
        let known = case.messages.iter().chain(&case.values).any(|text| text.contains(secret));
        !known && memchr::memmem::find(&read, secret.as_bytes()).is_some()
    });
    let verdict = match failed.as_deref() {
        _ if shown => "SHOWN".to_owned(),
        Some("42501" | "0A000" | "55000" | "53400") => "refused".to_owned(),
        Some(state) => format!("error {state}"),
        None => "nothing".to_owned(),
    };
    (verdict, read)
}

/// What PostgreSQL 15 brought: an older server's grammar does not know it.
fn too_new(sql: &str) -> bool {
    let newer = sql.starts_with("merge ")
        || sql.starts_with("create publication") && sql.contains("where")
        || sql.contains("security_invoker");
    newer && postgres::major() < 15
}

#[test]
fn every_way_round_has_its_verdict() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/evasion.md");
    let mut lines: Vec<String> = fs::read_to_string(&path).unwrap().lines().map(str::to_owned).collect();
    let proxy = Proxy::start(POLICY, TAGS);
    let mut shop = Raw::log_in(&proxy.url("shop"));
    for sql in schema(&lines) {
        assert_eq!(shop.query(&sql).errors, [""; 0], "{sql}");
    }
    // Whom PostgreSQL lets do anything with the tables has no more rights than without.
    postgres::execute(proxy.direct(), "grant shop to intern");
    let database = postgres::database_name(proxy.direct());
    postgres::execute(proxy.direct(), &format!("grant create on database {database} to shop, alice, intern"));
    let mut users = USERS.map(|(name, user)| (name, Raw::log_in(&proxy.url(user))));
    let mut wrong = Vec::new();
    let mut shown = Vec::new();
    let all = cases(&lines);
    assert!(all.len() > 150, "the corpus was found");
    for case in all.iter().filter(|case| !case.messages.iter().any(|sql| too_new(sql))) {
        let verdicts: Vec<String> = users
            .iter_mut()
            .map(|(name, raw)| {
                let (verdict, read) = run(raw, case);
                if verdict == "SHOWN" && *name != "clear" {
                    shown.push(format!("{name}: {:?}: {}", case.messages, read.escape_ascii()));
                }
                format!("{name} {verdict}")
            })
            .collect();
        let verdict = verdicts.join(", ");
        if lines[case.line] != verdict {
            wrong.push(format!("{:?}\n  is      {verdict}\n  must be {}", case.messages, lines[case.line]));
            lines[case.line] = verdict;
        }
    }
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&path, lines.join("\n") + "\n").unwrap();
        wrong.clear();
    }
    assert!(shown.is_empty(), "{} secrets are shown:\n{}", shown.len(), shown.join("\n"));
    assert!(
        wrong.is_empty(),
        "{} verdicts changed; look, and run with UPDATE=1:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

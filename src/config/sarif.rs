//! Findings as SARIF 2.1.0 (OASIS), the form that code hosts and editors read.
//!
//! Guarantees: one run; every finding's id is one of [`RULES`], which are listed with it; paths are URIs. Deliberately
//! absent: suppressions and fingerprints, which are the reader's.

use super::{Mistake, Weight};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::path::Path;

/// Every kind of finding: its id, which stays, and what it means.
pub const RULES: [(&str, &str); 29] = [
    ("invalid-configuration", "A file of the configuration does not hold; nothing starts with it."),
    ("without-effect", "A rule or tag can never take effect as the files stand."),
    ("configuration-advice", "A file of the configuration holds, but is worth a look."),
    (
        "unusable-keys",
        "The keyring, a key that a domain names, or the audit log's signing key cannot be used.",
    ),
    (
        "missing-credential",
        "Users log in without a password, as a role of the database whose password is not kept.",
    ),
    ("needless-credential", "A password is kept that opens nothing."),
    ("unaccepted-credential", "The database does not take the password that is kept for one of its roles."),
    ("unreadable-token-keys", "The keys of the token provider cannot be read where the configuration says."),
    ("unreachable-database", "The service user cannot connect, or cannot ask what it has to."),
    ("unreadable-database", "A database's catalog cannot be read, so log-ins to it are refused."),
    ("unprepared-database", "No database has been prepared for sealed columns."),
    ("missing-ledger", "A rule counts rows or codes, and the database has no place to count them."),
    ("missing-type", "A database has no sealed type for a domain that a tag could use in it."),
    ("missing-table", "A tagged table is in no database."),
    ("unreadable-column", "A tagged column is neither sealed nor of its logical type, so it is refused."),
    ("unusable-record-key", "Nobody can be known in the audit log by the column that record_key names."),
    ("other-type", "A tagged column has another type than its tag says."),
    (
        "refused-mask",
        "A rule refuses a column until it is sealed, because the database cannot make its mask.",
    ),
    ("guessable-column", "People may compare a column of so few values that they can try them all."),
    ("clear-column", "A tagged column whose domain seals is stored in clear."),
    ("kept-statements", "A setting of the database keeps the text or the parameters of statements."),
    ("way-round-role", "A role that is no user of pgveil has rights to tagged columns."),
    ("way-round-superuser", "Superusers read tagged columns that are stored in clear."),
    ("way-round-host", "The database lets other hosts than the proxy's in."),
    ("sensitive-name", "An untagged column has the name of personal data."),
    ("sensitive-content", "The sampled values of an untagged column are personal data."),
    ("telling-distribution", "How often the values of a deterministic column occur gives rows of it away."),
    ("unindexed-column", "Recorded statements look rows up by a sealed column that no index has."),
    ("not-examined", "Something could not be looked at, so nothing is said of it."),
];

/// The findings as one SARIF log.
pub fn log(findings: &[Mistake]) -> Value {
    let rules: Vec<Value> = RULES
        .iter()
        .map(|(id, meaning)| json!({ "id": id, "shortDescription": { "text": meaning } }))
        .collect();
    let results: Vec<Value> = findings.iter().map(result).collect();
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": { "name": "pgveil", "version": env!("CARGO_PKG_VERSION"), "rules": rules } },
            "columnKind": "unicodeCodePoints",
            "results": results,
        }],
    })
}

fn result(finding: &Mistake) -> Value {
    let index = RULES.iter().position(|(id, _)| *id == finding.id);
    json!({
        "ruleId": finding.id,
        "ruleIndex": index.expect("every id is a rule's; a test reads all that the sources name"),
        "level": level(finding.weight),
        "message": { "text": format!("{}\n{}", finding.message, finding.hint) },
        "locations": [{
            "physicalLocation": {
                "artifactLocation": { "uri": uri(&finding.file) },
                "region": { "startLine": finding.line.max(1) },
            },
        }],
    })
}

/// How much a finding matters, in the word that people and programs read.
pub fn level(weight: Weight) -> &'static str {
    match weight {
        Weight::Mistake | Weight::Idle => "error",
        Weight::Advice => "warning",
    }
}

/// A relative path stays relative; what a URI cannot have is percent-encoded (RFC 3986).
fn uri(path: &Path) -> String {
    let mut uri = String::from(if path.is_absolute() { "file://" } else { "" });
    for byte in path.as_os_str().as_encoded_bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(byte) {
            uri.push(char::from(*byte));
        } else {
            let _ = write!(uri, "%{byte:02X}");
        }
    }
    uri
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    #[test]
    fn findings_become_results_with_their_rule_level_and_place() {
        let finding = Mistake {
            id: "clear-column",
            weight: Weight::Advice,
            file: PathBuf::from("/etc/pg veil/tags.toml"),
            line: 4,
            message: "column public.a.b of database shop is stored in clear".to_owned(),
            hint: "Seal it.".to_owned(),
        };
        let log = log(&[finding]);
        let result = &log["runs"][0]["results"][0];
        let index = usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap();
        assert_eq!(log["version"], "2.1.0");
        assert_eq!(log["runs"][0]["tool"]["driver"]["rules"][index]["id"], "clear-column");
        assert_eq!((&result["ruleId"], &result["level"]), (&json!("clear-column"), &json!("warning")));
        let location = &result["locations"][0]["physicalLocation"];
        assert_eq!(location["artifactLocation"]["uri"], "file:///etc/pg%20veil/tags.toml");
        assert_eq!(location["region"]["startLine"], 4);
        assert_eq!(uri(Path::new("config/tags.toml")), "config/tags.toml");
    }
}

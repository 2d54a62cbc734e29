//! Settings by which PostgreSQL keeps what statements say, and what of it is plaintext.
//!
//! Through pgveil a value of a sealed column is ciphertext before the database sees it, in literals and parameters; of a
//! column stored in clear it is the value. Past pgveil it is what somebody wrote: the CHECK of a sealed type refuses plaintext,
//! and a refused statement is logged, too. Guarantees: pure; each setting is judged with its scope. Deliberately
//! absent: what is kept for other reasons (WAL, statistics, temporary files), and tools outside the server.

use crate::server::examine::Setting;

/// Whose values are at stake.
pub struct Concerned {
    /// Names of columns stored in clear; may be empty.
    pub clear: String,
    pub has_sealed: bool,
    pub is_bypassed: bool,
}

/// (message, hint) for each setting that keeps plaintext.
pub fn kept(settings: &[Setting], concerned: &Concerned) -> Vec<(String, String)> {
    let global = |name: &str| {
        let found = settings.iter().find(|setting| setting.name == name && setting.scope.is_none());
        found.map(|setting| setting.value.as_str())
    };
    let with_parameters = global("log_parameter_max_length") != Some("0");
    let mut found = Vec::new();
    for setting in settings {
        let Some((keeps, remedy)) = keeps(setting, &global) else { continue };
        // By default each server logs what fails; of sealed columns that matters where somebody can go round the proxy.
        let is_default = setting.name == "log_min_error_statement" && setting.value == "error";
        if is_default && concerned.clear.is_empty() && !concerned.is_bypassed {
            continue;
        }
        let statements_log = matches!(
            setting.name.as_str(),
            "log_statement"
                | "log_min_duration_statement"
                | "log_min_duration_sample"
                | "log_transaction_sample_rate"
        );
        let parameters = if statements_log && with_parameters { ", their parameters as well" } else { "" };
        let whose = setting.scope.as_ref().map(|scope| format!(" of {scope}")).unwrap_or_default();
        let message = format!(
            "setting {} = {}{whose} {keeps}{parameters}: {}",
            setting.name,
            setting.value,
            plaintext(concerned)
        );
        found.push((message, remedy.to_owned()));
    }
    found
}

fn plaintext(concerned: &Concerned) -> String {
    let sealed =
        "values of sealed columns are ciphertext there, but plaintext in statements that go round pgveil";
    match (concerned.clear.is_empty(), concerned.has_sealed) {
        (true, _) => sealed.to_owned(),
        (false, false) => format!("values of {}, stored in clear, are among it", concerned.clear),
        (false, true) => format!("values of {}, stored in clear, are among it; {sealed}", concerned.clear),
    }
}

/// What a setting keeps of statements, and what to do about it; `None`: nothing.
fn keeps<'v>(
    setting: &Setting,
    global: &impl Fn(&str) -> Option<&'v str>,
) -> Option<(&'static str, &'static str)> {
    let value = setting.value.as_str();
    let is_on = !["-1", "0", "off", "none"].contains(&value);
    let log = "writes statements to the server's log";
    let found = match setting.name.as_str() {
        "log_statement" => (
            ["mod", "all"].contains(&value),
            log,
            "Set it to ddl or none, for the roles that pgveil uses at least.",
        ),
        // 0 is every statement, -1 none.
        "log_min_duration_statement" => (
            value != "-1",
            "writes slow statements to the server's log",
            "Set it to -1; log_duration tells durations alone.",
        ),
        "log_min_duration_sample" => (
            value != "-1" && global("log_statement_sample_rate") != Some("0"),
            "writes some slow statements to the server's log",
            "Set it to -1.",
        ),
        "log_transaction_sample_rate" => {
            (is_on, "writes some transactions' statements to the server's log", "Set it to 0.")
        }
        "log_min_error_statement" => (
            !["log", "fatal", "panic"].contains(&value),
            "writes statements that fail to the server's log",
            "Set it to panic, or keep the log as closely as the table.",
        ),
        "log_parameter_max_length_on_error" => (
            value != "0",
            "writes the parameters of statements that fail to the server's log",
            "Set it to 0.",
        ),
        // Constants of queries are replaced by $1; a utility statement is kept as it came.
        "pg_stat_statements.track" => (
            is_on && global("pg_stat_statements.track_utility") != Some("off"),
            "keeps the text of statements, with the constants of COPY (…), CREATE TABLE AS, DO and other utility statements",
            "Set pg_stat_statements.track_utility to off.",
        ),
        "auto_explain.log_min_duration" => (
            value != "-1",
            "writes plans with constants and parameters to the server's log",
            "Set it to -1, or leave auto_explain out of shared_preload_libraries.",
        ),
        _ => return None,
    };
    let (keeps, what, remedy) = found;
    keeps.then_some((what, remedy))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(settings: &[(&str, &str)], clear: &str, is_bypassed: bool) -> Vec<String> {
        let list: Vec<Setting> = settings
            .iter()
            .map(|(name, value)| Setting { name: name.to_string(), value: value.to_string(), scope: None })
            .collect();
        let concerned = Concerned { clear: clear.to_owned(), has_sealed: true, is_bypassed };
        kept(&list, &concerned).into_iter().map(|(message, _)| message).collect()
    }

    #[test]
    fn what_is_kept_depends_on_the_setting_and_on_the_columns() {
        let quiet = [
            ("log_statement", "ddl"),
            ("log_min_duration_statement", "-1"),
            ("log_min_duration_sample", "-1"),
            ("log_transaction_sample_rate", "0"),
            ("log_parameter_max_length_on_error", "0"),
            ("log_min_error_statement", "panic"),
            ("auto_explain.log_min_duration", "-1"),
            ("pg_stat_statements.track", "none"),
            ("log_min_messages", "debug5"),
        ];
        assert_eq!(said(&quiet, "a.b.c", true), [""; 0]);
        let default = [("log_min_error_statement", "error")];
        assert_eq!(said(&default, "", false), [""; 0]);
        assert_eq!((said(&default, "", true).len(), said(&default, "a.b.c", false).len()), (1, 1));
        let all = [("log_parameter_max_length", "-1"), ("log_statement", "all")];
        let sealed = &said(&all, "", false)[0];
        assert!(
            sealed.contains("ciphertext")
                && sealed.contains("parameters")
                && !sealed.contains("stored in clear")
        );
        let all = [("log_parameter_max_length", "0"), ("log_statement", "all")];
        let clear = &said(&all, "a.b.c", false)[0];
        assert!(clear.contains("values of a.b.c, stored in clear") && !clear.contains("parameters"));
        let statements = [("pg_stat_statements.track", "top"), ("pg_stat_statements.track_utility", "off")];
        assert_eq!(said(&statements, "a.b.c", true), [""; 0]);
        assert_eq!(said(&[("log_min_duration_statement", "0")], "", false).len(), 1);
    }
}

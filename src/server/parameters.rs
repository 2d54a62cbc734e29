//! What a start-up packet may set: everything but what the proxy relies on and what needs a right of its own.
//!
//! Guarantees: `options` is taken apart as PostgreSQL does it, and where a guarded name stands in it that this reading did
//! not find as a setting, it is refused. Deliberately absent: settings that statements change (`sql`), what a role or a
//! database has as its default (the relay sees the server's report).

use super::startup::{Rejection, fatal};
use crate::plan::check_pinned;

/// Settings that [`setting`] judges: none may hide in `options` from our reading of it.
const GUARDED: [&str; 4] =
    ["standard_conforming_strings", "bytea_output", "client_encoding", "session_authorization"];

/// The switches of a backend that take no value (`getopt` in PostgreSQL's `process_postgres_switches`), so that another
/// may follow in the same word.
const FLAGS: &str = "bEeFijlnOPsT";

/// Judges all parameters of a start-up packet.
///
/// # Errors
/// The first that may not pass: FATAL 0A000.
pub(super) fn check(parameters: &[(String, String)]) -> Result<(), Rejection> {
    parameters.iter().try_for_each(|(name, value)| match name.as_str() {
        "options" => options(value),
        "replication" => replication(value),
        _ => setting(name, value),
    })
}

fn refuse(what: &str, hint: &str) -> Rejection {
    fatal("0A000", &format!("{what} is not supported through pgveil"), Some(hint))
}

fn replication(value: &str) -> Result<(), Rejection> {
    match value.to_ascii_lowercase().as_str() {
        "false" | "off" | "no" | "0" => Ok(()),
        _ => Err(refuse("a replication connection", "Replicate from the database itself.")),
    }
}

fn setting(name: &str, value: &str) -> Result<(), Rejection> {
    let lower = name.to_ascii_lowercase();
    if lower.starts_with("pgveil.") {
        return Err(refuse(&format!("start-up option {lower}"), "Use SET after the connection is made."));
    }
    if lower == "session_authorization" {
        return Err(refuse(
            "start-up option session_authorization",
            "Log in as that user instead: rights are the session user's.",
        ));
    }
    check_pinned(&lower, value.trim_matches('\''))
        .map_err(|problem| fatal(problem.sqlstate, &problem.message, problem.hint.as_deref()))
}

fn options(text: &str) -> Result<(), Rejection> {
    let words = words(text);
    let settings = assignments(&words);
    for (name, value) in &settings {
        setting(name, value)?;
    }
    let plain = words.join(" ").to_ascii_lowercase().replace('-', "_");
    for guarded in GUARDED {
        let found = settings.iter().filter(|(name, _)| name.eq_ignore_ascii_case(guarded)).count();
        if plain.matches(guarded).count() > found {
            return Err(refuse(
                &format!("{guarded} within this start-up option"),
                "Write options as: -c name=value.",
            ));
        }
    }
    Ok(())
}

/// Splits at white space that no backslash escapes (PostgreSQL's `pg_split_opts`).
fn words(text: &str) -> Vec<String> {
    let mut words = vec![];
    let mut word = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => word.extend(chars.next()),
            // As C's isspace: with the vertical tab, which Rust leaves out.
            ' ' | '\t'..='\r' => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
            }
            c => word.push(c),
        }
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

/// `-c name=value`, `-cname=value`, `--name=value`, also behind switches that take no value (`-ec name=value`).
fn assignments(words: &[String]) -> Vec<(String, String)> {
    let mut found = vec![];
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let Some(switches) = word.strip_prefix('-') else { continue };
        let switches = switches.trim_start_matches(|c| FLAGS.contains(c));
        let assignment = match (switches.strip_prefix('-'), switches.strip_prefix('c')) {
            (Some(long), _) => long,
            (None, Some("")) => words.next().map_or("", String::as_str),
            (None, Some(joined)) => joined,
            (None, None) => continue,
        };
        if let Some((name, value)) = assignment.split_once('=') {
            found.push((name.replace('-', "_"), value.to_owned()));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sqlstate(name: &str, value: &str) -> String {
        match check(&[(name.to_owned(), value.to_owned())]) {
            Ok(()) => "ok".to_owned(),
            Err(Rejection::Tell(fields) | Rejection::Undisclosed(fields, _)) => fields.sqlstate().to_owned(),
            Err(Rejection::Silent(why)) => why.to_owned(),
        }
    }

    #[test]
    fn options_are_read_as_the_server_reads_them() {
        let text = r"-c search_path=a,b --statement-timeout=5s -cgeqo=off -c x=a\ b -e -Fc y=1 -e-z=2 -S 4";
        let found = assignments(&words(text));
        let pairs: Vec<(&str, &str)> =
            found.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(
            pairs,
            [
                ("search_path", "a,b"),
                ("statement_timeout", "5s"),
                ("geqo", "off"),
                ("x", "a b"),
                ("y", "1"),
                ("z", "2")
            ]
        );
    }

    #[test]
    fn what_the_proxy_relies_on_cannot_be_changed_at_start_up() {
        for (name, value) in [
            ("options", "-c pgveil.purpose=x"),
            ("pgveil.purpose", "x"),
            ("PgVeil.otp", "1"),
            ("options", "--standard-conforming-strings=off"),
            ("options", "-c bytea_output=escape"),
            ("options", "-c\u{b}bytea_output=escape"),
            ("options", "-ecbytea_output=escape"),
            ("options", "-e-bytea-output=escape"),
            ("options", r"-c by\tea_output=escape"),
            ("options", "-c Client_Encoding=LATIN1"),
            ("options", "-S bytea_output=escape"),
            ("options", "-c session_authorization=postgres"),
            ("client_encoding", "LATIN1"),
            ("Bytea_Output", "escape"),
            ("replication", "database"),
            ("replication", "1"),
        ] {
            assert_eq!(sqlstate(name, value), "0A000", "{name}={value}");
        }
    }

    #[test]
    fn everything_else_passes() {
        for (name, value) in [
            ("client_encoding", "'utf-8'"),
            ("client_encoding", "UNICODE"),
            ("options", ""),
            ("options", "-c geqo=off -c statement_timeout=5s"),
            ("options", "-c bytea_output=hex --client_encoding=utf8"),
            ("options", r"-c search_path=my\ schema,public"),
            ("replication", "false"),
            ("application_name", "bytea_output"),
            ("search_path", "x"),
            ("options", "-"),
            ("options", "\\"),
        ] {
            assert_eq!(sqlstate(name, value), "ok", "{name}={value}");
        }
    }
}

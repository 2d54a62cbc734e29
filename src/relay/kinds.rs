//! A statement by its first words: for metrics, and for what it can do to the transaction it stands in.
//!
//! Only statements that nothing tagged is in reach of are judged by this; unknown means the worst.

use super::queue::Class;
use crate::metrics::KINDS;
use crate::plan::Effects;

/// The first two keywords, lower-case; comments and opening parentheses are skipped.
fn first_words(text: &str) -> [String; 2] {
    let mut rest = text;
    let mut words = [String::new(), String::new()];
    for word in &mut words {
        rest = skip_to_word(rest);
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
        let (found, after) = rest.split_at(end);
        *word = found.to_ascii_lowercase();
        rest = after;
    }
    words
}

fn skip_to_word(text: &str) -> &str {
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches(|c: char| c.is_ascii_whitespace() || c == '(' || c == ';');
        if let Some(comment) = rest.strip_prefix("--") {
            rest = comment.find('\n').map_or("", |end| &comment[end..]);
        } else if rest.starts_with("/*") {
            rest = after_comment(rest);
        } else {
            return rest;
        }
    }
}

/// What follows a block comment; they nest.
fn after_comment(text: &str) -> &str {
    let bytes = text.as_bytes();
    let mut depth = 0_usize;
    let mut at = 0;
    while at < bytes.len() {
        match bytes.get(at..at + 2) {
            Some(b"/*") => {
                depth += 1;
                at += 2;
            }
            Some(b"*/") => {
                depth = depth.saturating_sub(1);
                at += 2;
                if depth == 0 {
                    return text.get(at..).unwrap_or("");
                }
            }
            _ => at += 1,
        }
    }
    ""
}

/// The kind for metrics and records: one of [`KINDS`], or `other`.
pub(super) fn kind(text: &str) -> &'static str {
    let [first, second] = first_words(text);
    let both = format!("{first} {second}");
    let first = match first.as_str() {
        "abort" => "rollback",
        "end" => "commit",
        "start" => "begin",
        other => other,
    };
    KINDS.iter().find(|kind| **kind == both || **kind == first).copied().unwrap_or("other")
}

/// What a statement that passes can do to its transaction.
pub(super) fn class(text: &str, effects: Effects) -> Class {
    let [first, _] = first_words(text);
    match first.as_str() {
        "" | "select" | "values" | "table" | "show" | "explain" | "fetch" | "with" if !effects.writes => {
            Class::Reads
        }
        "select" | "values" | "with" | "explain" | "insert" | "update" | "delete" | "merge" | "declare"
        | "move" | "close" | "lock" | "notify" | "listen" => Class::Writes,
        _ => Class::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_and_classes_follow_the_first_words() {
        assert_eq!(kind("/* a /* b */ */ -- c\n ( SELECT 1)"), "select");
        assert_eq!(kind("create  TABLE t()"), "create table");
        assert_eq!((kind("END"), kind("frobnicate"), kind("")), ("commit", "other", "other"));
        let writes = Effects { writes: true, ..Effects::default() };
        assert_eq!(class("select 1", Effects::default()), Class::Reads);
        assert_eq!(class("with x as (delete from t) select", writes), Class::Writes);
        assert_eq!(class("commit", Effects::default()), Class::Other);
    }
}

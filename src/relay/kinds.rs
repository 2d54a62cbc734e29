//! A statement by its first words: for metrics, and for what it can do to the transaction it stands in.
//!
//! Only statements that nothing tagged is in reach of are judged by this; unknown means the worst.

use super::queue::Class;
use crate::metrics::KINDS;
use crate::plan::Effects;

/// The first two words; comments and opening parentheses are skipped.
fn first_words(text: &str) -> [&str; 2] {
    let mut rest = text;
    [(); 2].map(|()| {
        rest = skip_to_word(rest);
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        rest = after;
        word
    })
}

/// Whether a word is this keyword.
fn is(word: &str, keyword: &str) -> bool {
    word.eq_ignore_ascii_case(keyword)
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
    let names = |kind: &str| match kind.split_at_checked(first.len()) {
        Some((one, "")) => is(first, one),
        Some((one, rest)) => is(first, one) && rest.strip_prefix(' ').is_some_and(|two| is(second, two)),
        None => false,
    };
    let initial = first.bytes().next().map(|byte| byte.to_ascii_lowercase());
    let kind = KINDS.iter().find(|kind| kind.bytes().next() == initial && names(kind)).copied();
    kind.unwrap_or_else(|| match first {
        _ if is(first, "abort") => "rollback",
        _ if is(first, "end") => "commit",
        _ if is(first, "start") => "begin",
        _ => "other",
    })
}

/// Whether it reads or writes rows, and executes no name: what EXECUTE is for.
pub(super) fn is_of_rows(text: &str) -> bool {
    let [first, _] = first_words(text);
    let kinds = ["select", "values", "table", "with", "insert", "update", "delete", "merge"];
    kinds.iter().any(|kind| is(first, kind))
}

/// What a statement that passes can do to its transaction.
pub(super) fn class(text: &str, effects: Effects) -> Class {
    const READS: &[&str] = &["", "select", "values", "table", "show", "explain", "fetch", "with"];
    const WRITES: &[&str] = &[
        "select", "values", "with", "explain", "insert", "update", "delete", "merge", "declare", "move",
        "close", "lock", "notify", "listen",
    ];
    let [first, _] = first_words(text);
    let among = |keywords: &[&str]| keywords.iter().any(|keyword| is(first, keyword));
    if !effects.writes && among(READS) {
        Class::Reads
    } else if among(WRITES) {
        Class::Writes
    } else {
        Class::Other
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

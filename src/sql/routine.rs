//! Bodies of routines (`DO`, `CREATE FUNCTION … AS '…'`): text that the server runs, and that nothing here rewrites.
//!
//! Over ciphertext a body finds other rows than it says (`email = 'a@x.org'` is false for all), or fails, and its constants
//! reach the server's log. So one that names a sealed column of a table or view that it names is refused when it is given.
//! Deliberately absent: understanding a body. What only counts or moves whole rows passes, and so does what names columns
//! that are stored in clear: who may not read these has no routines at all (`reach.rs`).

use super::lex::{Kind, Token, lex, string_value};
use super::problem::Problem;
use super::spelling::fold_identifier;
use super::words::Words;
use crate::catalog::Catalog;
use std::collections::HashSet;

/// Refuses a statement that gives the server a body with a sealed column in it.
///
/// # Errors
/// It names the column.
pub(super) fn check(words: &Words<'_>, catalog: &Catalog) -> Result<(), Problem> {
    let what = match words.keyword(0) {
        "do" => "DO",
        "create" => match words.keyword(if words.keyword(1) == "or" { 3 } else { 1 }) {
            "function" => "CREATE FUNCTION",
            "procedure" => "CREATE PROCEDURE",
            _ => return Ok(()),
        },
        _ => return Ok(()),
    };
    let mut named = HashSet::new();
    for token in words.tokens {
        named.extend(body_words(words.text, token));
    }
    let tables = catalog.relations.values().filter(|relation| named.contains(&relation.name));
    let tagged = tables.flat_map(|table| table.columns.iter().map(move |column| (table, column)));
    let mut sealed = tagged.filter(|(_, column)| catalog.sealed_types.contains_key(&column.type_oid));
    match sealed.find(|(_, column)| named.contains(&column.name)) {
        None => Ok(()),
        Some((table, column)) => Err(Problem::not_understood(&format!(
            "{what} with sealed column {} of table {} in its body",
            column.name, table.name
        ))
        .detail("The body runs in the database, where the column is not what it says.")
        .hint("Send its statements by themselves, or keep the column out of the body.")),
    }
}

/// The words of a string, were it SQL.
fn body_words(text: &str, token: &Token) -> HashSet<String> {
    if !matches!(token.kind, Kind::String | Kind::EscapeString | Kind::UnicodeString | Kind::DollarString) {
        return HashSet::new();
    }
    let Some(body) = string_value(token.kind, token.text(text)) else { return HashSet::new() };
    match lex(&body) {
        Ok(tokens) => tokens
            .iter()
            .filter(|token| token.is_identifier())
            .map(|token| fold_identifier(token.text(&body)))
            .collect(),
        // Another language's: every run of letters.
        Err(_) => {
            let runs = body.split(|c: char| c.is_ascii() && !c.is_ascii_alphanumeric() && c != '_');
            runs.map(str::to_ascii_lowercase).collect()
        }
    }
}

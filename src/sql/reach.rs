//! Ways round the guard of a clear tagged column: functions that run SQL or read storage, and views of statistics.
//!
//! Sealed columns need none of this: in the database they are ciphertext. For a column stored in clear, a name in this
//! table (or any function that is not built in) is refused to those who may not read every clear tagged column.

use super::copy;
use super::lex::{Kind, Token};
use super::spelling::fold_identifier;
use crate::catalog::Catalog;

/// Built-in functions and relations that show stored values without naming their table.
const DYNAMIC: &[&str] = &[
    "cursor_to_xml",
    "cursor_to_xmlschema",
    "database_to_xml",
    "database_to_xml_and_xmlschema",
    "dblink",
    "lo_export",
    "lo_get",
    "lo_import",
    "loread",
    "pg_file_read",
    "pg_logical_slot_get_binary_changes",
    "pg_logical_slot_get_changes",
    "pg_logical_slot_peek_binary_changes",
    "pg_logical_slot_peek_changes",
    "pg_read_binary_file",
    "pg_read_file",
    "pg_stat_activity",
    "pg_stat_get_activity",
    "pg_stat_get_backend_activity",
    "pg_stat_statements",
    "pg_statistic",
    "pg_statistic_ext_data",
    "pg_stats",
    "pg_stats_ext",
    "pg_stats_ext_exprs",
    "query_to_xml",
    "query_to_xml_and_xmlschema",
    "query_to_xmlschema",
    "schema_to_xml",
    "schema_to_xml_and_xmlschema",
    "table_to_xml",
    "table_to_xml_and_xmlschema",
    "ts_rewrite",
    "ts_stat",
];

/// Aggregates that keep the values of all of their rows (`array(…)` beside them is the constructor).
const GATHERING: &[&str] = &[
    "array_agg",
    "json_agg",
    "json_agg_strict",
    "json_arrayagg",
    "json_object_agg",
    "json_object_agg_strict",
    "json_object_agg_unique",
    "json_object_agg_unique_strict",
    "json_objectagg",
    "jsonb_agg",
    "jsonb_agg_strict",
    "jsonb_object_agg",
    "jsonb_object_agg_strict",
    "jsonb_object_agg_unique",
    "jsonb_object_agg_unique_strict",
    "string_agg",
    "xmlagg",
];

/// The first thing in a statement that makes one value of many rows and keeps their values, for a refusal's text.
pub fn gathering(text: &str, tokens: &[Token], catalog: &Catalog) -> Option<String> {
    let views = catalog.gathering_views(GATHERING);
    tokens.iter().enumerate().filter(|(_, token)| token.is_identifier()).find_map(|(index, token)| {
        let word = fold_identifier(token.text(text));
        let called = tokens.get(index + 1).is_some_and(|next| next.is_symbol(text, "("));
        if views.contains(&word) {
            return Some(format!("view {word}"));
        }
        (called && (word == "array" || GATHERING.contains(&word.as_str()))).then_some(word)
    })
}

/// Statements whose text is not the SQL that runs.
const OPAQUE: &[&str] = &["call", "do"];

/// The first thing in a statement that could read a clear tagged column unseen, for a refusal's text.
pub fn unguarded_call(text: &str, tokens: &[Token], catalog: &Catalog) -> Option<String> {
    let words = |token: &Token| fold_identifier(token.text(text));
    // A function gets another name: an operator, a cast, an aggregate, a trigger.
    let defines = tokens.first().is_some_and(|first| matches!(words(first).as_str(), "create" | "alter"));
    if let Some(function) = &catalog.built_in_cast {
        return Some(format!("a cast that function {function} may make"));
    }
    for (index, token) in tokens.iter().enumerate() {
        if token.kind == Kind::Operator && catalog.operators.contains(token.text(text)) {
            return Some(format!("operator {}", token.text(text)));
        }
        if matches!(token.kind, Kind::UnicodeIdent | Kind::UnicodeString) {
            return Some("a U& spelling".to_owned());
        }
        if !token.is_identifier() {
            continue;
        }
        let word = fold_identifier(token.text(text));
        if index == 0 && OPAQUE.contains(&word.as_str()) {
            return Some(word.to_ascii_uppercase());
        }
        if index == 0 && word == "copy" && copies_a_file(text, tokens) {
            return Some("COPY with a file or program of the server".to_owned());
        }
        let called = defines || tokens.get(index + 1).is_some_and(|next| next.is_symbol(text, "("));
        let attribute = index > 0 && tokens[index - 1].is_symbol(text, ".");
        let function = catalog.functions.get(&word).is_some_and(|overloads| {
            called || attribute && overloads.iter().any(|function| function.takes_row)
        });
        if DYNAMIC.contains(&word.as_str()) || function || catalog.calling_views().contains(&word) {
            return Some(word);
        }
    }
    None
}

/// Whether a COPY may read or write where the server is; one that is not understood may.
fn copies_a_file(text: &str, tokens: &[Token]) -> bool {
    copy::read(text, tokens).map_or(true, |copy| copy.peer != copy::Peer::Client)
}

//! SQL/JSON of PostgreSQL 16 and 17: the clauses with which calls end, `JSON_TABLE`, and `JSON_ARRAY` of a query.
//!
//! A clause holds constants, types and names of new columns only; one with an expression (`PASSING x AS y`, `DEFAULT f(x)`)
//! gets no stand-in.

use super::super::lex::Kind;
use super::{Found, Meaning, Text, Theirs, word};

/// What makes JSON, and may end with clauses.
const CONSTRUCTORS: &[&str] = &["json", "json_object", "json_objectagg"];

/// What takes a document, a path and clauses.
const QUERIES: &[&str] = &["json_exists", "json_query", "json_value"];

/// The words of the clauses of a query function, beside types.
const CLAUSES: &[&str] = &[
    "array",
    "conditional",
    "default",
    "empty",
    "error",
    "false",
    "keep",
    "null",
    "object",
    "omit",
    "on",
    "quotes",
    "returning",
    "scalar",
    "string",
    "true",
    "unconditional",
    "unknown",
    "with",
    "without",
    "wrapper",
];

impl Text<'_> {
    pub(super) fn json(&self, at: usize, marker: &str) -> Option<Found> {
        self.unique_keys(at, marker)
            .or_else(|| self.query_clauses(at, marker))
            .or_else(|| self.json_table(at, marker))
            .or_else(|| self.table_clauses(at, marker))
            .or_else(|| self.array_of_query(at, marker))
    }

    /// The call that a token stands in, by its name's token.
    fn call(&self, at: usize, names: &[&str]) -> Option<(usize, usize)> {
        let open = self.opens(at)?;
        let name = open.checked_sub(1).filter(|name| self.is_any(*name, names))?;
        Some((name, self.closes(open)?))
    }

    /// `… [NULL ON NULL] WITH UNIQUE KEYS [RETURNING t]`, at the end of a constructor (`json_key_uniqueness_constraint_opt`).
    fn unique_keys(&self, at: usize, marker: &str) -> Option<Found> {
        let nulls =
            if self.is_any(at, &["null", "absent"]) && self.are(at + 1, &["on", "null"]) { 3 } else { 0 };
        let first = at + nulls;
        let unique = self.is_any(first, &["with", "without"]) && self.is(first + 1, "unique");
        // `x IS JSON WITH UNIQUE KEYS` is a test, and the parser's.
        if !unique || self.before(at, &["json", "object", "array", "scalar", "value"]) {
            return None;
        }
        let (_, close) = self.call(at, CONSTRUCTORS)?;
        let next = first + 2 + usize::from(self.is(first + 2, "keys"));
        let returning = match self.is(next, "returning") {
            true => Some(self.type_until(next + 1, close)?),
            false => None,
        };
        if returning.is_none() && next != close {
            return None;
        }
        let found = Found::new(close - at, vec![word("LIMIT"), word(marker)], format!("LIMIT {marker}"));
        Some(found.meaning(Meaning::JsonClauses { returning }))
    }

    /// A type's name, which is all there is until `end`.
    fn type_until(&self, at: usize, end: usize) -> Option<String> {
        let fits = |at: usize| {
            let token = self.tokens.get(at);
            let number = token.is_some_and(|token| token.kind == Kind::Number);
            self.name(at) > 0
                || number
                || [".", "(", ")", ",", "[", "]"].iter().any(|symbol| self.is(at, symbol))
        };
        if at >= end || !(at..end).all(fits) {
            return None;
        }
        let text = self.sql.get(self.span(at, end - at)?)?;
        Some(text.to_ascii_lowercase())
    }

    /// What ends `JSON_VALUE(x, '$.a' RETURNING int DEFAULT 0 ON EMPTY)`: another argument stands in for it.
    fn query_clauses(&self, at: usize, marker: &str) -> Option<Found> {
        if !self.is_any(at, CLAUSES) || self.is(at, "on") || !self.is_after_path(at) {
            return None;
        }
        let (_, close) = self.call(at, QUERIES)?;
        let fits = (at..close).all(|at| self.is_any(at, CLAUSES) || self.is_constant(at) || self.is(at, "-"));
        let typed = self.is(at, "returning") && self.is_returning(at, close);
        (fits || typed)
            .then(|| Found::new(close - at, vec![Theirs::Comma, word(marker)], format!(", {marker}")))
    }

    /// Behind a constant path, the second argument.
    fn is_after_path(&self, at: usize) -> bool {
        at > 2 && self.is_constant(at - 1) && self.is(at - 2, ",")
    }

    /// `RETURNING type` and the clauses behind it.
    fn is_returning(&self, at: usize, close: usize) -> bool {
        let clause = |at: &usize| self.is_any(*at, CLAUSES);
        let end = (at + 1..close).find(clause).unwrap_or(close);
        let rest = (end..close).all(|at| clause(&at) || self.is_constant(at) || self.is(at, "-"));
        self.type_until(at + 1, end).is_some() && rest
    }

    /// `JSON_TABLE` in FROM: the parser has another database's.
    fn json_table(&self, at: usize, marker: &str) -> Option<Found> {
        if !self.are(at, &["json_table", "("]) {
            return None;
        }
        let close = self.closes(at + 1)?;
        let columns = (at + 2..close)
            .find(|token| self.are(*token, &["columns", "("]) && self.opens(*token) == Some(at + 1))?;
        let mut names = vec![];
        self.table_columns(columns + 1, &mut names)?;
        let found = Found::new(1, vec![word(marker)], marker.to_owned());
        Some(found.meaning(Meaning::JsonTable(names)))
    }

    /// What stands between the path of JSON_TABLE and its end.
    fn table_clauses(&self, at: usize, marker: &str) -> Option<Found> {
        if !self.is_any(at, &["as", "columns"]) || !self.is_after_path(at) {
            return None;
        }
        let (_, close) = self.call(at, &["json_table"])?;
        let columns = if self.is(at, "as") { at + 1 + self.name(at + 1) } else { at };
        if !self.are(columns, &["columns", "("]) {
            return None;
        }
        let end = self.table_columns(columns + 1, &mut vec![])?;
        let rest =
            end + 1 == close || (end + 1..close).all(|at| self.is_any(at, &["error", "empty", "null", "on"]));
        rest.then(|| Found::new(close - at, vec![Theirs::Comma, word(marker)], format!(", {marker}")))
    }

    /// The columns between the parentheses that open at a token; where they close. `None`: an expression is among them.
    fn table_columns(&self, open: usize, names: &mut Vec<String>) -> Option<usize> {
        let close = self.closes(open)?;
        let mut at = open + 1;
        while at < close {
            if self.is(at, "nested") {
                let path = at + 1 + usize::from(self.is(at + 1, "path"));
                let named = if self.is(path + 1, "as") { 1 + self.name(path + 2) } else { 0 };
                let inner = path + 1 + named;
                if !self.is_constant(path) || !self.are(inner, &["columns", "("]) {
                    return None;
                }
                at = self.table_columns(inner + 1, names)? + 1;
            } else {
                names.push(self.folded(at)?);
                let mut depth = 0_usize;
                while at < close && (depth > 0 || !self.is(at, ",")) {
                    let constant = self.is_constant(at) || self.is(at, "-") || self.name(at) > 0;
                    let symbol = ["(", ")", "[", "]", ",", "."].iter().any(|symbol| self.is(at, symbol));
                    // A default that is computed, or of a column's.
                    let default = self.is(at, "default") && !self.is_default(at + 1);
                    if default || !constant && !symbol {
                        return None;
                    }
                    depth += usize::from(self.is(at, "("));
                    depth -= usize::from(self.is(at, ")"));
                    at += 1;
                }
            }
            match at {
                at if at == close => {}
                _ if self.is(at, ",") => at += 1,
                _ => return None,
            }
        }
        Some(close)
    }

    fn is_default(&self, at: usize) -> bool {
        let negative = usize::from(self.is(at, "-"));
        let value = at + negative;
        let constant = self.is_constant(value) || self.is_any(value, &["null", "true", "false"]);
        constant && self.is(value + 1, "on")
    }

    /// `JSON_ARRAY(SELECT …)`: an array of the query, marked in its WITH.
    fn array_of_query(&self, at: usize, marker: &str) -> Option<Found> {
        let fits = self.are(at, &["json_array", "("]) && self.is_any(at + 2, &["select", "values"]);
        let item = [
            word("WITH"),
            word(marker),
            word("AS"),
            Theirs::LParen,
            word("VALUES"),
            Theirs::LParen,
            Theirs::Number("1".to_owned(), false),
            Theirs::RParen,
            Theirs::RParen,
        ];
        let tokens = [word("array"), Theirs::LParen].into_iter().chain(item).collect();
        let phrase = format!("array(WITH {marker} AS (VALUES (1)) ");
        fits.then(|| Found::new(2, tokens, phrase).meaning(Meaning::JsonArray))
    }
}

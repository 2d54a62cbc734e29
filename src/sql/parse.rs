//! `sqlparser` behind one door: text → one statement, or the fact that it was not understood. Never the parser's own
//! message, which quotes the text.

use sqlparser::ast::Statement;
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::Parser;

/// The text is not one statement that `sqlparser` knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NotParsed;

/// Parses exactly one statement.
pub(super) fn one(text: &str) -> Result<Statement, NotParsed> {
    let mut statements = Parser::parse_sql(&PostgreSqlDialect {}, text).map_err(|_| NotParsed)?;
    match (statements.pop(), statements.is_empty()) {
        (Some(statement), true) => Ok(statement),
        _ => Err(NotParsed),
    }
}

//! `sqlparser` behind one door: text → one statement, or the fact that it was not understood. Never the parser's own
//! message, which quotes the text.

use super::agree;
use sqlparser::ast::Statement;
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::Parser;

/// The text is not one statement that `sqlparser` knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NotParsed;

/// Parses exactly one statement, from tokens that PostgreSQL sees too: left to itself, the parser reads `a>-1` as one operator.
pub(super) fn one(text: &str) -> Result<Statement, NotParsed> {
    let (_, tokens) = agree::parser_tokens(text).map_err(|_| NotParsed)?;
    let dialect = PostgreSqlDialect {};
    let mut parser = Parser::new(&dialect).with_tokens_with_locations(tokens);
    let mut statements = parser.parse_statements().map_err(|_| NotParsed)?;
    match (statements.pop(), statements.is_empty()) {
        (Some(statement), true) => Ok(statement),
        _ => Err(NotParsed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operators_are_the_servers() {
        let printed = |text: &str| one(text).map(|statement| statement.to_string());
        // One operator `>-` to the parser's own tokenizer.
        assert_eq!(printed("select a>-1"), Ok("SELECT a > -1".to_owned()));
        assert_eq!(printed("select 'a'\n'b'"), Ok("SELECT 'ab'".to_owned()));
        assert_eq!(printed("select 1; select 2"), Err(NotParsed));
    }
}

//! `sqlparser` behind one door: text → one statement, or where it was not understood. Never the parser's own
//! message, which quotes the text.

use super::agree;
use super::depth::BRACKETS_MAX;
use super::echo::echo;
use super::lex::{Token, lex};
use super::stand_in::{StandIns, stand_in};
use sqlparser::ast::Statement;
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::Parser;
use sqlparser::tokenizer::{Location, TokenWithSpan};

/// One statement, and what in it stands for something else.
#[derive(Clone, Debug)]
pub(super) struct Parsed {
    pub(super) statement: Statement,
    pub(super) stand_ins: StandIns,
}

/// The text is not one statement that `sqlparser` knows, or it would not print all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotParsed {
    /// The readers do not see the same tokens.
    Ambiguous,
    /// It cannot be read from there on, where that is known.
    At(Option<Location>),
    /// The print lacks a part.
    Lost,
}

/// Parses exactly one statement, from tokens that PostgreSQL sees too: left to itself, the parser reads `a>-1` as one operator.
/// Its print has the tokens of the text, where `echoed`.
pub(super) fn one(text: &str, echoed: bool) -> Result<Parsed, NotParsed> {
    let (tokens, theirs) = agree::parser_tokens(text).map_err(|_| NotParsed::Ambiguous)?;
    let Some(replaced) = stand_in(text, &tokens, &theirs) else {
        let statement = statement(theirs)?;
        return Parsed { statement, stand_ins: StandIns::default() }.echoes(text, &tokens, echoed);
    };
    let tokens = lex(&replaced.text).map_err(|_| NotParsed::Ambiguous)?;
    let statement = statement(replaced.tokens)?;
    Parsed { statement, stand_ins: replaced.stand_ins }.echoes(&replaced.text, &tokens, echoed)
}

impl Parsed {
    fn echoes(self, text: &str, tokens: &[Token], wanted: bool) -> Result<Parsed, NotParsed> {
        if wanted {
            echo(text, tokens, &self.statement.to_string()).map_err(|_| NotParsed::Lost)?;
        }
        Ok(self)
    }
}

fn statement(tokens: Vec<TokenWithSpan>) -> Result<Statement, NotParsed> {
    let dialect = PostgreSqlDialect {};
    let mut parser =
        Parser::new(&dialect).with_recursion_limit(BRACKETS_MAX).with_tokens_with_locations(tokens);
    let mut statements =
        parser.parse_statements().map_err(|error| NotParsed::At(location(&error.to_string())))?;
    match (statements.pop(), statements.is_empty()) {
        (Some(statement), true) => Ok(statement),
        _ => Err(NotParsed::At(None)),
    }
}

/// The place that the parser's message ends with: `… at Line: 1, Column: 8`.
fn location(message: &str) -> Option<Location> {
    let (_, place) = message.rsplit_once(" at Line: ")?;
    let (line, column) = place.split_once(", Column: ")?;
    Some(Location { line: line.parse().ok()?, column: column.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operators_are_the_servers() {
        let printed = |text: &str| one(text, true).map(|parsed| parsed.statement.to_string());
        // One operator `>-` to the parser's own tokenizer.
        assert_eq!(printed("select a>-1"), Ok("SELECT a > -1".to_owned()));
        assert_eq!(printed("select 'a'\n'b'"), Ok("SELECT 'ab'".to_owned()));
        assert_eq!(printed("select 1; select 2"), Err(NotParsed::At(None)));
        let at = Some(Location { line: 2, column: 7 });
        assert_eq!(printed("select 1\n  frm x 2"), Err(NotParsed::At(at)));
    }
}

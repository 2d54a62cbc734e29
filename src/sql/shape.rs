//! A statement's text without its literals and comments, for the audit record; and the parser's locations as offsets.

use super::lex::{Kind, Token};
use sqlparser::tokenizer::Location;
use std::ops::Range;

/// The statement with every constant replaced by `?` and white space by single spaces. Identifiers stay: what was
/// touched is the point of a record.
pub fn shape(text: &str, tokens: &[Token]) -> String {
    let mut shape = String::with_capacity(text.len());
    let mut end_of_previous = None;
    for token in tokens {
        let piece = match token.kind {
            Kind::String
            | Kind::EscapeString
            | Kind::UnicodeString
            | Kind::BitString
            | Kind::HexString
            | Kind::NationalString
            | Kind::DollarString
            | Kind::Number => "?",
            Kind::Word
            | Kind::QuotedIdent
            | Kind::UnicodeIdent
            | Kind::Param
            | Kind::Operator
            | Kind::Punct => token.text(text),
            Kind::Comment => continue,
        };
        if end_of_previous.is_some_and(|end| end != token.span.start) {
            shape.push(' ');
        }
        shape.push_str(piece);
        end_of_previous = Some(token.span.end);
    }
    shape
}

/// Maps the parser's (line, column) locations within one statement to byte offsets of the client's whole text.
#[derive(Clone)]
pub struct Lines<'a> {
    text: &'a str,
    /// Where each line of the statement starts, as offsets into `text`.
    starts: Vec<usize>,
    statement: Range<usize>,
}

impl<'a> Lines<'a> {
    pub fn new(text: &'a str, statement: Range<usize>) -> Lines<'a> {
        let breaks = text[statement.clone()].match_indices('\n').map(|(at, _)| statement.start + at + 1);
        let starts = std::iter::once(statement.start).chain(breaks).collect();
        Lines { text, starts, statement }
    }
    /// The client's whole text.
    pub fn text(&self) -> &'a str {
        self.text
    }
    /// Where the statement stands in it.
    pub fn statement(&self) -> Range<usize> {
        self.statement.clone()
    }
    /// `None` for the parser's empty location (line 0).
    pub fn offset(&self, location: Location) -> Option<usize> {
        let line = usize::try_from(location.line.checked_sub(1)?).ok()?;
        let start = *self.starts.get(line)?;
        let column = usize::try_from(location.column.checked_sub(1)?).ok()?;
        let rest = self.text.get(start..self.statement.end)?;
        let within = rest.char_indices().map(|(at, _)| at).nth(column).unwrap_or(rest.len());
        Some(start + within)
    }
}

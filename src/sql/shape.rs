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
    statement: Range<usize>,
    /// Where each line of the statement starts: (byte offset into `text`, index into `chars`).
    starts: Vec<(usize, usize)>,
    /// Byte offset of each character of the statement; empty when it is ASCII, where a column is a byte.
    chars: Vec<usize>,
}

impl<'a> Lines<'a> {
    pub fn new(text: &'a str, statement: Range<usize>) -> Lines<'a> {
        let own = &text[statement.clone()];
        let ascii = own.is_ascii();
        let mut starts = vec![(statement.start, 0)];
        let mut chars = vec![];
        for (index, (at, c)) in own.char_indices().enumerate() {
            if !ascii {
                chars.push(statement.start + at);
            }
            if c == '\n' {
                starts.push((statement.start + at + 1, index + 1));
            }
        }
        Lines { text, statement, starts, chars }
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
        let column = usize::try_from(location.column.checked_sub(1)?).ok()?;
        let (byte, index) = *self.starts.get(line)?;
        let offset = if self.chars.is_empty() {
            byte + column
        } else {
            self.chars.get(index + column).copied().unwrap_or(self.statement.end)
        };
        Some(offset.min(self.statement.end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_become_byte_offsets() {
        for text in ["x; select\n  'a' b", "x; sélect\n  'ä' b"] {
            let lines = Lines::new(text, 3..text.len());
            let at = |line, column| lines.offset(Location { line, column }).map(|at| &text[at..]);
            assert_eq!(at(1, 1), Some(&text[3..]));
            assert_eq!(at(2, 7), Some("b"));
            assert_eq!(at(2, 8), Some(""));
            assert_eq!(at(0, 0), None);
        }
    }
}

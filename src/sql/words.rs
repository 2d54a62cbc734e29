//! One statement's tokens, word by word: what each identifier stands for is worked out once, for all who ask.
//!
//! Most statements pass because none of their words leads to anything tagged, and a simple statement is seldom the same text twice:
//! this is what all of them cost. Deliberately absent: what a word means.

use super::lex::{IDENTIFIER_MAX_BYTES, Kind, Token};
use super::spelling::fold_identifier;

/// The names that the identifiers of some tokens stand for, one after the other in one piece of memory.
#[derive(Default)]
pub struct Folded {
    names: String,
    /// Where the name of each token ends; that of a token which is no identifier is empty.
    ends: Vec<usize>,
}

impl Folded {
    pub(super) fn new(text: &str, tokens: &[Token]) -> Folded {
        let mut names = String::with_capacity(text.len().min(64 * tokens.len()));
        let ends = tokens.iter().map(|token| {
            push_folded(&mut names, text, token);
            names.len()
        });
        let ends = ends.collect();
        Folded { names, ends }
    }

    fn name(&self, index: usize) -> &str {
        let start = index.checked_sub(1).map_or(Some(&0), |before| self.ends.get(before));
        let span = start.zip(self.ends.get(index));
        span.and_then(|(start, end)| self.names.get(*start..*end)).unwrap_or_default()
    }
}

/// As [`fold_identifier`].
fn push_folded(names: &mut String, text: &str, token: &Token) {
    let own = token.text(text);
    match token.kind {
        Kind::Word => {
            let start = names.len();
            names.push_str(own.get(..own.floor_char_boundary(IDENTIFIER_MAX_BYTES)).unwrap_or_default());
            if let Some(name) = names.get_mut(start..) {
                name.make_ascii_lowercase();
            }
        }
        Kind::QuotedIdent | Kind::UnicodeIdent => names.push_str(&fold_identifier(own)),
        _ => {}
    }
}

/// One statement's tokens over the client's text.
#[derive(Clone, Copy)]
pub struct Words<'a> {
    pub(super) text: &'a str,
    pub(super) tokens: &'a [Token],
    pub(super) folded: &'a Folded,
}

impl<'a> Words<'a> {
    /// The token's keyword or identifier, folded; empty for anything else.
    pub(super) fn word(&self, index: usize) -> &'a str {
        self.folded.name(index)
    }
    /// The unquoted keyword at `index`, lower-case; a quoted identifier is none.
    pub(super) fn keyword(&self, index: usize) -> &'a str {
        match self.tokens.get(index) {
            Some(token) if token.kind == Kind::Word => self.word(index),
            _ => "",
        }
    }
    pub(super) fn symbol(&self, index: usize) -> &'a str {
        match self.tokens.get(index) {
            Some(token) if matches!(token.kind, Kind::Punct | Kind::Operator) => token.text(self.text),
            _ => "",
        }
    }
    /// A dotted name that starts at `index`, and the index after it.
    pub(super) fn dotted(&self, mut index: usize) -> (String, usize) {
        let mut name = self.word(index).to_owned();
        index += 1;
        while self.symbol(index) == "." {
            name.push('.');
            name.push_str(self.word(index + 1));
            index += 2;
        }
        (name, index)
    }
    /// A plain constant or word at `index`, without quotes.
    pub(super) fn value(&self, index: usize) -> Option<String> {
        let token = self.tokens.get(index)?;
        let text = token.text(self.text);
        match token.kind {
            Kind::String => Some(text.trim_matches('\'').replace("''", "'")),
            Kind::Word | Kind::Number => Some(text.to_ascii_lowercase()),
            Kind::QuotedIdent => Some(self.word(index).to_owned()),
            _ => None,
        }
    }
    /// All words, with their numbers.
    pub(super) fn all(&self) -> impl DoubleEndedIterator<Item = (usize, &'a str)> + use<'a> {
        let words = *self;
        (0..self.tokens.len())
            .map(move |index| (index, words.word(index)))
            .filter(|(_, word)| !word.is_empty())
    }
    pub(super) fn any_word(&self, mut test: impl FnMut(&str) -> bool) -> bool {
        self.all().any(|(_, word)| test(word))
    }
}

#[cfg(test)]
mod tests {
    use super::super::lex::lex;
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn each_word_is_what_its_token_stands_for(
            texts in prop::collection::vec("[A-Za-zÄß_][A-Za-z0-9Äß$]{0,70}|\"[a-zA-Z \"\"ä]{1,70}\"|[0-9]{1,3}|[,.()]", 0..12)
        ) {
            let text = texts.join(" ");
            let Ok(tokens) = lex(&text) else { return Ok(()) };
            let folded = Folded::new(&text, &tokens);
            let words = Words { text: &text, tokens: &tokens, folded: &folded };
            for (index, token) in tokens.iter().enumerate() {
                let name = if token.is_identifier() { fold_identifier(token.text(&text)) } else { String::new() };
                prop_assert_eq!(words.word(index), name);
            }
            prop_assert_eq!(words.word(tokens.len()), "");
        }
    }
}

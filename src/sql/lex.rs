//! PostgreSQL's tokens, exactly: what the server's own scanner makes of a text (`src/backend/parser/scan.l`, as of
//! PostgreSQL 17, with `standard_conforming_strings` on and UTF-8).
//!
//! Guarantees: it never panics, the spans come in order, lie on character boundaries, and leave nothing between them but
//! whitespace and comments. A text that the server would reject while scanning is an error here too. Two spellings
//! are read as PostgreSQL 16 and later do, `1_000` and `0x1F`; older servers reject them or read a number and an alias.
//!
//! It deliberately does not know keywords or grammar, and where the server's scanner returns several tokens for one
//! literal (`N'…'`) it returns one. The `UESCAPE` of a `U&` literal is left as a word: whoever meets it must refuse.

use std::fmt;
use std::ops::Range;

/// Bytes of an identifier that PostgreSQL keeps (`NAMEDATALEN - 1`); the rest is cut off in silence.
pub const IDENTIFIER_MAX_BYTES: usize = 63;

pub use super::spelling::{fold_identifier, string_value};

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A keyword or an unquoted identifier.
    Word,
    /// `"name"`.
    QuotedIdent,
    /// `U&"name"`.
    UnicodeIdent,
    /// `'text'`, with its continuations on following lines.
    String,
    /// `E'text'`.
    EscapeString,
    /// `U&'text'`.
    UnicodeString,
    /// `B'01'`.
    BitString,
    /// `X'1F'`.
    HexString,
    /// `N'text'`.
    NationalString,
    /// `$tag$text$tag$`.
    DollarString,
    /// An integer, decimal or float, without a sign.
    Number,
    /// `$1`.
    Param,
    /// Of operator characters, single `+ - * / % ^ < > =` among them.
    Operator,
    /// `( ) [ ] , ; . : :: := ..`.
    Punct,
    /// `-- …` without its newline, or `/* … */`; only [`lex_with_comments`] returns them.
    Comment,
}

/// One token: what it is and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// What it is.
    pub kind: Kind,
    /// Its bytes in the text that was scanned.
    pub span: Range<usize>,
}

impl Token {
    /// The token as written, given the text that was scanned; empty when it is another text.
    pub fn text<'a>(&self, sql: &'a str) -> &'a str {
        sql.get(self.span.clone()).unwrap_or_default()
    }

    /// Whether this is the unquoted `word` (in lower case), in any case of letters.
    pub fn is_word(&self, sql: &str, word: &str) -> bool {
        self.kind == Kind::Word && self.text(sql).eq_ignore_ascii_case(word)
    }

    /// Whether this is exactly that punctuation or operator.
    pub fn is_symbol(&self, sql: &str, symbol: &str) -> bool {
        matches!(self.kind, Kind::Punct | Kind::Operator) && self.text(sql) == symbol
    }

    /// Whether it names something or is a keyword.
    pub fn is_identifier(&self) -> bool {
        matches!(self.kind, Kind::Word | Kind::QuotedIdent | Kind::UnicodeIdent)
    }
}

/// Why PostgreSQL would not scan the text. Carries none of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LexError {
    /// The server's primary message, without its `at or near "…"`.
    pub message: &'static str,
    /// The byte at which the offending token begins.
    pub at: usize,
}

impl fmt::Display for LexError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message)
    }
}

impl std::error::Error for LexError {}

/// The tokens of a text, without comments.
pub fn lex(sql: &str) -> Result<Vec<Token>, LexError> {
    scan(sql, false)
}

/// The tokens of a text, comments among them (hints, sqlcommenter).
pub fn lex_with_comments(sql: &str) -> Result<Vec<Token>, LexError> {
    scan(sql, true)
}

fn scan(sql: &str, comments: bool) -> Result<Vec<Token>, LexError> {
    if let Some(at) = sql.bytes().position(|byte| byte == 0) {
        // A text ends at its first NUL for the server, so the rest of it would be ours alone.
        return Err(LexError { message: "invalid byte sequence for encoding \"UTF8\": 0x00", at });
    }
    let mut scanner = Scanner { bytes: sql.as_bytes(), at: 0 };
    let mut tokens = Vec::with_capacity(sql.len() / 5);
    loop {
        scanner.skip(is_space);
        let start = scanner.at;
        let Some(first) = scanner.peek(0) else { return Ok(tokens) };
        let kind = scanner.token(first)?;
        if comments || kind != Kind::Comment {
            tokens.push(Token { kind, span: start..scanner.at });
        }
    }
}

/// `space` of scan.l. A no-break space is not one: it is a letter.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | b'\x0c' | b'\x0b')
}

fn is_newline(byte: u8) -> bool {
    matches!(byte, b'\n' | b'\r')
}

/// `ident_start`: every byte of a character beyond ASCII is a letter.
fn is_ident_start(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || byte >= 0x80
}

fn is_ident_cont(byte: u8) -> bool {
    is_ident_start(byte) || byte.is_ascii_digit() || byte == b'$'
}

/// `op_chars`.
fn is_operator(byte: u8) -> bool {
    b"~!@#^&|`?+-*/%<>=".contains(&byte)
}

#[derive(Clone, Copy)]
struct Scanner<'a> {
    bytes: &'a [u8],
    /// The next byte; always on a character boundary between tokens, because every byte ≥ 0x80 is part of an identifier,
    /// a literal or a comment as a whole run.
    at: usize,
}

impl Scanner<'_> {
    fn peek(&self, ahead: usize) -> Option<u8> {
        self.bytes.get(self.at + ahead).copied()
    }

    fn rest(&self) -> &[u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    fn skip(&mut self, wanted: impl Fn(u8) -> bool) {
        self.at += self.rest().iter().take_while(|byte| wanted(**byte)).count();
    }

    /// Reads one token, of which `first` is the first byte, and leaves `at` behind it.
    fn token(&mut self, first: u8) -> Result<Kind, LexError> {
        let second = self.peek(1);
        match first {
            b'\'' => self.quoted(1, Kind::String),
            b'"' => self.delimited(1, Kind::QuotedIdent),
            b'e' | b'E' if second == Some(b'\'') => self.quoted(2, Kind::EscapeString),
            b'b' | b'B' if second == Some(b'\'') => self.quoted(2, Kind::BitString),
            b'x' | b'X' if second == Some(b'\'') => self.quoted(2, Kind::HexString),
            b'n' | b'N' if second == Some(b'\'') => self.quoted(2, Kind::NationalString),
            b'u' | b'U' if second == Some(b'&') && self.peek(2) == Some(b'\'') => {
                self.quoted(3, Kind::UnicodeString)
            }
            b'u' | b'U' if second == Some(b'&') && self.peek(2) == Some(b'"') => {
                self.delimited(3, Kind::UnicodeIdent)
            }
            _ if is_ident_start(first) => {
                self.skip(is_ident_cont);
                Ok(Kind::Word)
            }
            b'0'..=b'9' => self.number(),
            b'.' if second.is_some_and(|byte| byte.is_ascii_digit()) => self.number(),
            b'$' => self.dollar(),
            b'-' if second == Some(b'-') => {
                self.skip(|byte| !is_newline(byte));
                Ok(Kind::Comment)
            }
            b'/' if second == Some(b'*') => self.block_comment(),
            _ if is_operator(first) => self.operator(),
            b'(' | b')' | b'[' | b']' | b',' | b';' | b'.' | b':' => {
                let double = matches!((first, second), (b':', Some(b':' | b'=')) | (b'.', Some(b'.')));
                self.at += if double { 2 } else { 1 };
                Ok(Kind::Punct)
            }
            _ => Err(self.error("syntax error")),
        }
    }

    fn error(&self, message: &'static str) -> LexError {
        LexError { message, at: self.at }
    }

    /// A single-quoted literal whose opening quote is the last of `prefix` bytes, with its continuations.
    fn quoted(&mut self, prefix: usize, kind: Kind) -> Result<Kind, LexError> {
        let unterminated = self.error(match kind {
            Kind::BitString => "unterminated bit string literal",
            Kind::HexString => "unterminated hexadecimal string literal",
            _ => "unterminated quoted string",
        });
        self.at += prefix;
        loop {
            match self.peek(0).ok_or(unterminated)? {
                b'\\' if kind == Kind::EscapeString => self.at += 2,
                b'\'' if self.peek(1) == Some(b'\'') => self.at += 2,
                b'\'' => {
                    self.at += 1;
                    match self.continuation() {
                        Some(length) => self.at += length,
                        None => return Ok(kind),
                    }
                }
                _ => self.at += 1,
            }
        }
    }

    /// The parts between the quotes of a literal with its continuations; `at` stands behind its first quote.
    fn pieces(&mut self, kind: Kind) -> Vec<Range<usize>> {
        let mut pieces = Vec::new();
        let mut start = self.at;
        while let Some(byte) = self.peek(0) {
            match byte {
                b'\\' if kind == Kind::EscapeString => self.at += 2,
                b'\'' if self.peek(1) == Some(b'\'') => self.at += 2,
                b'\'' => {
                    pieces.push(start..self.at);
                    self.at += 1;
                    match self.continuation() {
                        Some(length) => self.at += length,
                        None => return pieces,
                    }
                    start = self.at;
                }
                _ => self.at += 1,
            }
        }
        pieces
    }

    /// `quotecontinue`: after a closing quote, whitespace and `--` comments with a newline among them, and a quote again.
    /// Returns the bytes up to and with that quote.
    fn continuation(&self) -> Option<usize> {
        let rest = self.rest();
        let (mut length, mut newline) = (0, false);
        loop {
            match rest.get(length)? {
                b'\'' => return newline.then_some(length + 1),
                b'-' if rest.get(length + 1) == Some(&b'-') => {
                    length += rest.get(length..)?.iter().take_while(|byte| !is_newline(**byte)).count();
                }
                byte if is_space(*byte) => {
                    newline |= is_newline(*byte);
                    length += 1;
                }
                _ => return None,
            }
        }
    }

    /// A double-quoted identifier whose opening quote is the last of `prefix` bytes.
    fn delimited(&mut self, prefix: usize, kind: Kind) -> Result<Kind, LexError> {
        let start = *self;
        self.at += prefix;
        loop {
            match self.peek(0).ok_or(start.error("unterminated quoted identifier"))? {
                b'"' if self.peek(1) == Some(b'"') => self.at += 2,
                b'"' => break,
                _ => self.at += 1,
            }
        }
        if self.at == start.at + prefix {
            return Err(start.error("zero-length delimited identifier"));
        }
        self.at += 1;
        Ok(kind)
    }

    /// `$1`, or a dollar-quoted string, which ends at the first repetition of its delimiter.
    fn dollar(&mut self) -> Result<Kind, LexError> {
        let start = *self;
        self.at += 1;
        if self.peek(0).is_some_and(|byte| byte.is_ascii_digit()) {
            self.skip(|byte| byte.is_ascii_digit());
            return match self.peek(0) {
                Some(byte) if is_ident_start(byte) => Err(start.error("trailing junk after parameter")),
                _ => Ok(Kind::Param),
            };
        }
        if self.peek(0).is_some_and(is_ident_start) {
            self.skip(|byte| is_ident_cont(byte) && byte != b'$');
        }
        if self.peek(0) != Some(b'$') {
            return Err(start.error("syntax error"));
        }
        self.at += 1;
        let delimiter = self.bytes.get(start.at..self.at).unwrap_or_default();
        let body = self.rest().windows(delimiter.len()).position(|window| window == delimiter);
        self.at += body.ok_or(start.error("unterminated dollar-quoted string"))? + delimiter.len();
        Ok(Kind::DollarString)
    }

    /// Comments nest, as scan.l's `xc` state counts them.
    fn block_comment(&mut self) -> Result<Kind, LexError> {
        let start = *self;
        let mut depth = 0_usize;
        loop {
            match (self.peek(0), self.peek(1)) {
                (Some(b'/'), Some(b'*')) => {
                    depth += 1;
                    self.at += 2;
                }
                (Some(b'*'), Some(b'/')) => {
                    depth -= 1;
                    self.at += 2;
                    if depth == 0 {
                        return Ok(Kind::Comment);
                    }
                }
                (Some(_), _) => self.at += 1,
                (None, _) => return Err(start.error("unterminated /* comment")),
            }
        }
    }

    /// The longest run of operator characters, cut where a comment starts in it, and without trailing `+` and `-` unless a
    /// character stands in it that no operator of the SQL standard has (so `=-` is two operators and `@-` is one).
    fn operator(&mut self) -> Result<Kind, LexError> {
        let run = self.rest().iter().take_while(|byte| is_operator(**byte)).count();
        let run = self.rest().get(..run).unwrap_or_default();
        let comment = run.windows(2).position(|pair| pair == b"/*" || pair == b"--");
        let mut length = comment.unwrap_or(run.len());
        let signed = |length: usize| length > 1 && matches!(run.get(length - 1), Some(b'+' | b'-'));
        if signed(length) && !run.iter().take(length - 1).any(|byte| b"~!@#^&|`?%".contains(byte)) {
            while signed(length) {
                length -= 1;
            }
        }
        if length > IDENTIFIER_MAX_BYTES {
            return Err(self.error("operator too long"));
        }
        self.at += length;
        Ok(Kind::Operator)
    }

    /// Numbers as PostgreSQL 16 reads them; nothing that looks like a word may follow without a space.
    fn number(&mut self) -> Result<Kind, LexError> {
        let start = *self;
        let radix: Option<fn(u8) -> bool> = match (self.peek(0), self.peek(1)) {
            (Some(b'0'), Some(b'x' | b'X')) => Some(|byte| byte.is_ascii_hexdigit()),
            (Some(b'0'), Some(b'o' | b'O')) => Some(|byte| matches!(byte, b'0'..=b'7')),
            (Some(b'0'), Some(b'b' | b'B')) => Some(|byte| matches!(byte, b'0' | b'1')),
            _ => None,
        };
        if let Some(digit) = radix {
            self.at += 2;
            if self.peek(0) == Some(b'_') && self.peek(1).is_some_and(digit) {
                self.at += 1;
            }
            if !self.digits(digit) {
                return Err(start.error("invalid integer"));
            }
        } else {
            self.decimal();
        }
        match self.peek(0) {
            Some(byte) if is_ident_start(byte) => Err(start.error("trailing junk after numeric literal")),
            // `0b12` is junk as well, not `0b1` and `2`.
            Some(byte) if radix.is_some() && is_ident_cont(byte) => {
                Err(start.error("trailing junk after numeric literal"))
            }
            _ => Ok(Kind::Number),
        }
    }

    fn decimal(&mut self) {
        let digit = |byte: u8| byte.is_ascii_digit();
        self.digits(digit);
        // `1..2` is a range of two integers.
        if self.peek(0) == Some(b'.') && self.peek(1) != Some(b'.') {
            self.at += 1;
            self.digits(digit);
        }
        if matches!(self.peek(0), Some(b'e' | b'E')) {
            let sign = usize::from(matches!(self.peek(1), Some(b'+' | b'-')));
            if self.peek(1 + sign).is_some_and(digit) {
                self.at += 1 + sign;
                self.digits(digit);
            }
        }
    }

    /// Digits with single underscores between them; whether there was any.
    fn digits(&mut self, digit: impl Fn(u8) -> bool) -> bool {
        let start = self.at;
        loop {
            match self.peek(0) {
                Some(byte) if digit(byte) => self.at += 1,
                Some(b'_') if self.at > start && self.peek(1).is_some_and(&digit) => self.at += 1,
                _ => return self.at > start,
            }
        }
    }
}

/// The texts between the quotes of a literal token (as written), whose first quote is the last of `prefix` bytes.
pub(super) fn quoted_pieces(text: &str, kind: Kind, prefix: usize) -> Vec<&str> {
    let mut scanner = Scanner { bytes: text.as_bytes(), at: prefix };
    scanner.pieces(kind).into_iter().filter_map(|piece| text.get(piece)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Tokens as `Kind text`, one a line.
    fn check(sql: &str, expected: &[&str]) {
        let tokens = lex_with_comments(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
        let found: Vec<String> =
            tokens.iter().map(|token| format!("{:?} {}", token.kind, token.text(sql))).collect();
        assert_eq!(found, expected, "{sql}");
    }

    fn refused(sql: &str, message: &str) {
        assert_eq!(lex(sql).expect_err(sql).message, message, "{sql}");
    }

    #[test]
    fn identifiers_and_spaces() {
        check("Select a$1\u{a0}b _x", &["Word Select", "Word a$1\u{a0}b", "Word _x"]);
        check("\"a\"\"b\"U&\"c\"", &["QuotedIdent \"a\"\"b\"", "UnicodeIdent U&\"c\""]);
        check("u& \"d\"", &["Word u", "Operator &", "QuotedIdent \"d\""]);
        check("a\x0b\x0cb", &["Word a", "Word b"]);
        refused("\"\"", "zero-length delimited identifier");
        refused("\"a", "unterminated quoted identifier");
        refused("a\0b", "invalid byte sequence for encoding \"UTF8\": 0x00");
        refused("{", "syntax error");
    }

    #[test]
    fn strings() {
        check(r"'a\' e'a\'' b", &[r"String 'a\'", r"EscapeString e'a\''", "Word b"]);
        check(
            "x'1'B'0'n'n'U&'u'",
            &["HexString x'1'", "BitString B'0'", "NationalString n'n'", "UnicodeString U&'u'"],
        );
        check("'a'\n'b' 'c'", &["String 'a'\n'b'", "String 'c'"]);
        check("e'a' -- '\n '\\''", &["EscapeString e'a' -- '\n '\\''"]);
        check("'a' /*\n*/ 'b'", &["String 'a'", "Comment /*\n*/", "String 'b'"]);
        check("'a'\n--'b'", &["String 'a'", "Comment --'b'"]);
        check("$$a'$$ $x$ $y$ $x $x$", &["DollarString $$a'$$", "DollarString $x$ $y$ $x $x$"]);
        check("a$$b$$", &["Word a$$b$$"]);
        refused("'a", "unterminated quoted string");
        refused("e'a\\", "unterminated quoted string");
        refused("$a$ $A$", "unterminated dollar-quoted string");
        refused("$a b", "syntax error");
    }

    #[test]
    fn numbers_and_parameters() {
        check(
            "1 .5 1. 1e1 1.5E-3 1_000 0xF_f",
            &[
                "Number 1",
                "Number .5",
                "Number 1.",
                "Number 1e1",
                "Number 1.5E-3",
                "Number 1_000",
                "Number 0xF_f",
            ],
        );
        check("1..2", &["Number 1", "Punct ..", "Number 2"]);
        check("a.5-$1", &["Word a", "Number .5", "Operator -", "Param $1"]);
        for junk in ["1x", "1e", "1e+", "1.5_", "1__0", "0b12", "00x1", "0x1g"] {
            refused(junk, "trailing junk after numeric literal");
        }
        refused("0x", "invalid integer");
        refused("$1a", "trailing junk after parameter");
        refused("$1_0", "trailing junk after parameter");
    }

    #[test]
    fn operators_and_comments() {
        check("a>-1", &["Word a", "Operator >", "Operator -", "Number 1"]);
        check("@-1", &["Operator @-", "Number 1"]);
        check("=-+", &["Operator =", "Operator -", "Operator +"]);
        check("*/*c*/<--x", &["Operator *", "Comment /*c*/", "Operator <", "Comment --x"]);
        check("/*/ /* */*/*/", &["Comment /*/ /* */*/", "Operator */"]);
        check(
            "a::b:=c=>[:]",
            &[
                "Word a",
                "Punct ::",
                "Word b",
                "Punct :=",
                "Word c",
                "Operator =>",
                "Punct [",
                "Punct :",
                "Punct ]",
            ],
        );
        refused("/* /* */", "unterminated /* comment");
        refused(&"<".repeat(64), "operator too long");
    }

    /// Made of what scanners trip over.
    fn fragments() -> impl Strategy<Value = String> {
        let pieces = prop::sample::select(vec![
            "'", "\"", "$", "$$", "$a$", "\\", "E'", "U&'", "u&\"", "x'", "--", "/*", "*/", "\n", "\r", " ",
            "\u{a0}", "ä", "a", "1", "_", ".", "..", ":", "::", "+", "-", "<", ">", "=", "@", "?", "(", ")",
            ";", ",", "0x", "e", "$1", "\t", "\x0b",
        ]);
        prop::collection::vec(pieces, 0..24).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn tokens_cover_all_but_space(sql in prop_oneof![fragments(), any::<String>()]) {
            if let Ok(tokens) = lex_with_comments(&sql) {
                let mut at = 0;
                for token in &tokens {
                    let gap = sql.get(at..token.span.start).expect("spans are in order, on character boundaries");
                    prop_assert!(gap.bytes().all(is_space));
                    prop_assert!(!token.span.is_empty());
                    at = token.span.end;
                }
                prop_assert!(sql.get(at..).expect("a boundary").bytes().all(is_space));
                // A newline between tokens changes nothing, except that literals may join.
                let texts: Vec<&str> = tokens.iter().map(|token| token.text(&sql)).collect();
                let again = lex_with_comments(&texts.join("\n")).map(|tokens| tokens.len());
                let may_join = tokens.windows(2).any(|pair| pair[1].kind == Kind::String);
                prop_assert!(may_join || again == Ok(tokens.len()), "{texts:?}");
            }
        }
    }
}

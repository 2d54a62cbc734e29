//! Two readers of one text: PostgreSQL's tokens (`lex`) and `sqlparser`'s must be the same, before and after printing.
//!
//! [`parser_tokens`] gives the parser only tokens that PostgreSQL sees too, values of literals included; [`echo`] proves that
//! printing a tree lost and changed nothing. Together: what was understood is what the server will read. Differences
//! are errors unless they stand here by name. It deliberately does not parse, and it resolves no names.
//!
//! Use it on one statement at a time ([`split_statements`] first): `sqlparser` takes the lines after `COPY … FROM STDIN;`
//! for data, the server does not.

use std::fmt;
use std::ops::Range;

use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::tokenizer::{Token as Theirs, TokenWithSpan, Tokenizer, Whitespace};

use super::lex::{IDENTIFIER_MAX_BYTES, Kind, LexError, Token, lex};
use super::spelling::{fold_identifier, string_value};

/// Where PostgreSQL and `sqlparser` do not read the same. Carries no text of the statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disagreement {
    /// The construct, for a message: "a string with a `UESCAPE` clause".
    pub construct: &'static str,
    /// The byte at which it begins.
    pub at: usize,
    /// Whether the server would not even scan it: then the server's own error is the best answer.
    pub rejected: bool,
}

impl fmt::Display for Disagreement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.construct)
    }
}

impl std::error::Error for Disagreement {}

impl From<LexError> for Disagreement {
    fn from(error: LexError) -> Disagreement {
        Disagreement { construct: error.message, at: error.at, rejected: true }
    }
}

fn disagree<T>(construct: &'static str, at: usize) -> Result<T, Disagreement> {
    Err(Disagreement { construct, at, rejected: false })
}

/// The tokens of a statement when both readers see the same ones.
pub fn agree(sql: &str) -> Result<Vec<Token>, Disagreement> {
    parser_tokens(sql).map(|(tokens, _)| tokens)
}

/// As [`agree`], with the tokens for `sqlparser`'s parser (whitespace and comments among them). Two differences are mended
/// rather than refused: operators are cut as PostgreSQL cuts them (`a>-1` is `>` and `-`), and a literal that continues on
/// another line is one literal.
pub fn parser_tokens(sql: &str) -> Result<(Vec<Token>, Vec<TokenWithSpan>), Disagreement> {
    let tokens = lex(sql)?;
    let theirs = positioned(sql)?;
    let mut merged = Vec::with_capacity(theirs.len());
    let (mut ours, mut index) = (0, 0);
    while let Some((range, token)) = theirs.get(index) {
        if matches!(token.token, Theirs::Whitespace(_)) {
            merged.push(token.clone());
            index += 1;
            continue;
        }
        let Some(mine) = tokens.get(ours) else {
            return disagree("a character that only one reader sees", range.start);
        };
        check_name(sql, mine, tokens.get(ours + 1))?;
        if *range == mine.span {
            if !same_token(sql, mine, &token.token) {
                return disagree(construct(mine.kind), mine.span.start);
            }
            merged.push(token.clone());
            (ours, index) = (ours + 1, index + 1);
            continue;
        }
        let mended = match mine.kind {
            Kind::Operator => recut_operators(sql, &tokens[ours..], &theirs[index..]),
            _ => join_continuation(sql, mine, &theirs[index..]),
        };
        let Some((mut taken, mine_used, theirs_used)) = mended else {
            return disagree(construct(mine.kind), mine.span.start.min(range.start));
        };
        merged.append(&mut taken);
        (ours, index) = (ours + mine_used, index + theirs_used);
    }
    match tokens.get(ours) {
        Some(unseen) => disagree(construct(unseen.kind), unseen.span.start),
        None => Ok((tokens, merged)),
    }
}

/// `sqlparser`'s tokens with the bytes they span; its own spans count lines and characters.
fn positioned(sql: &str) -> Result<Vec<(Range<usize>, TokenWithSpan)>, Disagreement> {
    let Ok(tokens) = Tokenizer::new(&PostgreSqlDialect {}, sql).tokenize_with_location() else {
        return disagree("a token that the parser does not know", 0);
    };
    let mut positioned = Vec::with_capacity(tokens.len());
    let mut chars = sql.char_indices();
    let (mut line, mut column, mut at) = (1, 1, 0);
    for token in tokens {
        let start = at;
        if (token.span.start.line, token.span.start.column) != (line, column) {
            return disagree("text that the parser takes for data", start);
        }
        while (line, column) != (token.span.end.line, token.span.end.column) {
            let Some((_, next)) = chars.next() else {
                return disagree("text that the parser takes for data", start);
            };
            at += next.len_utf8();
            (line, column) = if next == '\n' { (line + 1, 1) } else { (line, column + 1) };
        }
        positioned.push((start..at, token));
    }
    Ok(positioned)
}

const TOO_LONG: &str = "an identifier longer than 63 bytes";

/// Names and literals that are read differently whatever the tokens say.
fn check_name(sql: &str, token: &Token, next: Option<&Token>) -> Result<(), Disagreement> {
    let at = token.span.start;
    match token.kind {
        Kind::UnicodeIdent => disagree(construct(Kind::UnicodeIdent), at),
        // The server cuts it off, so it could name something that the full spelling does not.
        Kind::Word if token.text(sql).len() > IDENTIFIER_MAX_BYTES => disagree(TOO_LONG, at),
        Kind::QuotedIdent if token.text(sql).len() > IDENTIFIER_MAX_BYTES + 2 => disagree(TOO_LONG, at),
        Kind::UnicodeString if next.is_some_and(|next| next.is_word(sql, "uescape")) => {
            disagree("a string with a UESCAPE clause", at)
        }
        _ => Ok(()),
    }
}

fn construct(kind: Kind) -> &'static str {
    match kind {
        Kind::Word => "an unquoted word",
        Kind::QuotedIdent => "a quoted identifier",
        Kind::UnicodeIdent => "an identifier with Unicode escapes",
        Kind::String => "a string literal",
        Kind::EscapeString => "a string literal with backslash escapes",
        Kind::UnicodeString => "a string literal with Unicode escapes",
        Kind::BitString | Kind::HexString => "a bit-string literal",
        Kind::NationalString => "a national string literal",
        Kind::DollarString => "a dollar-quoted string",
        Kind::Number => "a number",
        Kind::Param => "a parameter",
        Kind::Operator => "an operator",
        Kind::Punct => "a punctuation mark",
        Kind::Comment => "a comment",
    }
}

/// Whether both mean the same by the same bytes.
fn same_token(sql: &str, mine: &Token, theirs: &Theirs) -> bool {
    let text = mine.text(sql);
    let value = |theirs: &str| string_value(mine.kind, text).as_deref() == Some(theirs);
    match (mine.kind, theirs) {
        (Kind::Word, Theirs::Word(word)) => word.quote_style.is_none() && word.value == text,
        (Kind::QuotedIdent, Theirs::Word(word)) => {
            word.quote_style == Some('"') && word.value == fold_identifier(text)
        }
        (Kind::String, Theirs::SingleQuotedString(string))
        | (Kind::EscapeString, Theirs::EscapedStringLiteral(string))
        | (Kind::UnicodeString, Theirs::UnicodeStringLiteral(string))
        | (Kind::BitString, Theirs::SingleQuotedByteStringLiteral(string))
        | (Kind::HexString, Theirs::HexStringLiteral(string))
        | (Kind::NationalString, Theirs::NationalStringLiteral(string)) => value(string),
        (Kind::DollarString, Theirs::DollarQuotedString(string)) => value(&string.value),
        (Kind::Number, Theirs::Number(digits, long)) => digits == text && !long,
        (Kind::Param, Theirs::Placeholder(name)) => name == text,
        (Kind::Operator, Theirs::Neq) => matches!(text, "<>" | "!="),
        (Kind::Operator | Kind::Punct, symbol) => is_symbol(symbol) && symbol.to_string() == text,
        _ => false,
    }
}

/// Whether one of their tokens is an operator or a punctuation mark, and not a literal or a name that prints like one.
fn is_symbol(token: &Theirs) -> bool {
    match token {
        Theirs::EOF | Theirs::Word(_) | Theirs::Number(..) | Theirs::Char(_) | Theirs::Whitespace(_) => false,
        Theirs::SingleQuotedString(_) | Theirs::DoubleQuotedString(_) | Theirs::DollarQuotedString(_) => {
            false
        }
        Theirs::Placeholder(_) | Theirs::CopyData { .. } => false,
        // The rest prints itself: symbols as they are, and other literals with quotes that no symbol has.
        _ => true,
    }
}

type Mended = (Vec<TokenWithSpan>, usize, usize);

/// A run of operator characters that the readers cut differently, cut as PostgreSQL does: the tokens for the parser, and how
/// many of ours and of theirs they replace. Both runs must end at the same byte.
fn recut_operators(sql: &str, mine: &[Token], theirs: &[(Range<usize>, TokenWithSpan)]) -> Option<Mended> {
    let (mut used, mut their_used) = (1, 1);
    loop {
        let (my_end, their_end) = (mine.get(used - 1)?.span.end, theirs.get(their_used - 1)?.0.end);
        if my_end == their_end {
            break;
        }
        if my_end < their_end {
            let next = mine.get(used)?;
            if next.kind != Kind::Operator || next.span.start != my_end {
                return None;
            }
            used += 1;
        } else {
            if matches!(theirs.get(their_used)?.1.token, Theirs::Whitespace(_)) {
                return None;
            }
            their_used += 1;
        }
    }
    if theirs.first()?.0.start != mine.first()?.span.start {
        return None;
    }
    let span = theirs.first()?.1.span;
    let cut = mine.iter().take(used).map(|token| TokenWithSpan { token: symbol(token.text(sql)), span });
    Some((cut.collect(), used, their_used))
}

/// One operator as `sqlparser` names it; one that it has no name for is a custom operator.
fn symbol(text: &str) -> Theirs {
    match Tokenizer::new(&PostgreSqlDialect {}, text).tokenize().as_deref() {
        Ok([one]) => one.clone(),
        _ => Theirs::CustomBinaryOperator(text.to_owned()),
    }
}

/// `'a'` and `'b'` on the next line: one literal to PostgreSQL, two to `sqlparser`.
fn join_continuation(sql: &str, mine: &Token, theirs: &[(Range<usize>, TokenWithSpan)]) -> Option<Mended> {
    if mine.kind != Kind::String || theirs.first()?.0.start != mine.span.start {
        return None;
    }
    let used = theirs.iter().take_while(|(range, _)| range.end <= mine.span.end).count();
    let parts = theirs.get(..used)?;
    let mut value = String::new();
    for (_, part) in parts {
        match &part.token {
            Theirs::SingleQuotedString(string) => value.push_str(string),
            Theirs::Whitespace(Whitespace::MultiLineComment(_)) => return None,
            Theirs::Whitespace(_) => {}
            _ => return None,
        }
    }
    let agreed = parts.last()?.0.end == mine.span.end && string_value(mine.kind, mine.text(sql))? == value;
    let span = parts.first()?.1.span.union(&parts.last()?.1.span);
    agreed.then(|| (vec![TokenWithSpan { token: Theirs::SingleQuotedString(value), span }], 1, used))
}

/// Where a text's statements stand: between top-level semicolons, without the whitespace around them, with their comments.
/// Empty ones are left out. A body of `BEGIN ATOMIC` holds semicolons of its own, so from such a statement on the text is one
/// piece: whoever parses it must refuse more than one statement.
pub fn split_statements(sql: &str, tokens: &[Token]) -> Vec<Range<usize>> {
    let mut statements = Vec::new();
    let (mut start, mut depth, mut empty) = (0, 0_usize, true);
    for (index, token) in tokens.iter().enumerate() {
        let atomic = token.is_word(sql, "begin")
            && tokens.get(index + 1).is_some_and(|next| next.is_word(sql, "atomic"));
        if atomic {
            empty = false;
            break;
        }
        match token.text(sql) {
            ";" if depth == 0 => {
                if !empty {
                    statements.push(trimmed(sql, start..token.span.start));
                }
                (start, empty) = (token.span.end, true);
                continue;
            }
            "(" => depth += 1,
            ")" => depth = depth.saturating_sub(1),
            _ => {}
        }
        empty = false;
    }
    if !empty {
        statements.push(trimmed(sql, start..sql.len()));
    }
    statements
}

fn trimmed(sql: &str, range: Range<usize>) -> Range<usize> {
    let space = |c: char| matches!(c, ' ' | '\t' | '\n' | '\r' | '\x0b' | '\x0c');
    let text = sql.get(range.clone()).unwrap_or_default();
    let start = range.start + text.len() - text.trim_start_matches(space).len();
    start..start + text.trim_matches(space).len()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn readers_agree_on_ordinary_sql() {
        for sql in [
            "select a, \"B\"\"c\" from t where x = 'it''s' and y->>'k' = $1 -- end",
            "insert into t values (1, 1.5e3, E'a\\n', X'1F', B'01', N'n', $$x$$, $q$y$q$)",
            "select a::int, b[1:2], f(x => 1), c ~* 'x' /* a /* nested */ comment */",
            "select U&'d\\0061t'",
            "select a\u{a0}customers from t",
        ] {
            assert!(agree(sql).is_ok(), "{sql}: {:?}", agree(sql));
        }
    }

    #[test]
    fn readers_disagree_by_name() {
        let construct = |sql: &str| agree(sql).unwrap_err().construct;
        assert_eq!(construct("select U&\"d\\0061ta\""), "an identifier with Unicode escapes");
        assert_eq!(construct("select U&'d!0061' uescape '!'"), "a string with a UESCAPE clause");
        assert_eq!(construct("select b\"x\""), "an unquoted word");
        assert_eq!(construct("select E'\\v'"), "a string literal with backslash escapes");
        assert_eq!(construct(&format!("select {}", "x".repeat(64))), "an identifier longer than 63 bytes");
        assert_eq!(construct("select 1from t"), "trailing junk after numeric literal");
        assert_eq!(construct("copy t from stdin;\nselect 1\n\\.\n"), "syntax error");
        assert_eq!(construct("select 1 >--1\n+2"), "an operator");
    }

    #[test]
    fn operators_are_cut_as_postgresql_cuts_them() {
        let symbols = |sql: &str| -> Vec<String> {
            let (_, tokens) = parser_tokens(sql).unwrap();
            tokens
                .iter()
                .filter(|token| is_symbol(&token.token))
                .map(|token| token.token.to_string())
                .collect()
        };
        assert_eq!(symbols("a>-1"), [">", "-"]);
        assert_eq!(symbols("a<>-1"), ["<>", "-"]);
        assert_eq!(symbols("a||-1"), ["||-"]);
        assert_eq!(symbols("a*-1"), ["*", "-"]);
        assert_eq!(symbols("a>=+-+1"), [">=", "+", "-", "+"]);
    }

    #[test]
    fn continued_strings_are_one() {
        let (tokens, theirs) = parser_tokens("select 'a' -- and\n  'b'").unwrap();
        assert_eq!(tokens.len(), 2);
        assert!(theirs.iter().any(|token| token.token == Theirs::SingleQuotedString("ab".to_owned())));
        assert!(agree("select 'a' 'b'").is_ok(), "two literals in both: the grammar will judge it");
    }

    #[test]
    fn statements_end_at_top_level_semicolons() {
        let split = |sql: &str| -> Vec<String> {
            split_statements(sql, &lex(sql).unwrap()).into_iter().map(|range| sql[range].to_owned()).collect()
        };
        assert_eq!(
            split("select ';'; ; -- ;\n select 2 /* c */ ;"),
            ["select ';'", "-- ;\n select 2 /* c */"]
        );
        assert_eq!(
            split("create rule r as on insert to t do (a; b); c"),
            ["create rule r as on insert to t do (a; b)", "c"]
        );
        let atomic = "create function f() returns int begin atomic select 1; select 2; end; select 3";
        assert_eq!(split(&format!("select 0; {atomic}")), ["select 0", atomic]);
        assert_eq!(split(" ;; "), Vec::<String>::new());
    }

    proptest! {
        #[test]
        fn no_text_is_too_strange(sql in "[a'\"$\\\\E&U\n\r ;:.<>=+*/0-9xé\u{a0}-]{0,40}") {
            if let Ok((tokens, theirs)) = parser_tokens(&sql) {
                // Nothing that one reader sees is missing from the other's list.
                let seen = theirs.iter().filter(|token| !matches!(token.token, Theirs::Whitespace(_))).count();
                prop_assert_eq!(seen, tokens.len());
                split_statements(&sql, &tokens);
            }
        }
    }
}

//! A literal's token → its value. Only for carrying out a plan: the value is a secret as soon as it is read.

use super::lex::{Kind, lex};
use super::spelling::string_value;
use zeroize::Zeroizing;

/// What a constant says. No `Debug`: it is plaintext.
pub enum Literal {
    /// A string of any spelling: its type is unknown until it meets a column.
    Text(Zeroizing<String>),
    /// Digits as written, with their sign.
    Number(Zeroizing<String>),
    Bool(bool),
}

/// Decodes one constant as PostgreSQL does: `'it''s'`, `E'a\n'`, `$$x$$`, `-1.5`, `TRUE`. `None` for anything else,
/// bit strings and `U&''` among it.
pub fn decode(token: &str) -> Option<Literal> {
    let tokens = lex(token).ok()?;
    let (sign, constant) = match tokens.as_slice() {
        [constant] => ("", constant),
        [sign, number] if number.kind == Kind::Number && matches!(sign.text(token), "-" | "+") => {
            (if sign.text(token) == "-" { "-" } else { "" }, number)
        }
        _ => return None,
    };
    let text = constant.text(token);
    match constant.kind {
        Kind::String | Kind::EscapeString | Kind::DollarString => {
            string_value(constant.kind, text).map(|value| Literal::Text(Zeroizing::new(value)))
        }
        Kind::Number => Some(Literal::Number(Zeroizing::new(format!("{sign}{}", text.replace('_', ""))))),
        Kind::Word if text.eq_ignore_ascii_case("true") => Some(Literal::Bool(true)),
        Kind::Word if text.eq_ignore_ascii_case("false") => Some(Literal::Bool(false)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(token: &str) -> Option<String> {
        match decode(token)? {
            Literal::Text(text) | Literal::Number(text) => Some(text.to_string()),
            Literal::Bool(truth) => Some(truth.to_string()),
        }
    }

    #[test]
    fn every_spelling_reads_as_the_server_reads_it() {
        let cases = [
            ("'it''s'", Some("it's")),
            (r"E'a\n\x41\u0042'", Some("a\nAB")),
            ("$tag$ it's $tag$", Some(" it's ")),
            ("- 5", Some("-5")),
            ("+1.50", Some("1.50")),
            ("TRUE", Some("true")),
            ("X'0f'", None),
            (r"U&'\0041'", None),
            ("a", None),
            ("'a' 'b'", None),
        ];
        for (token, expected) in cases {
            assert_eq!(text(token).as_deref(), expected, "{token}");
        }
    }
}

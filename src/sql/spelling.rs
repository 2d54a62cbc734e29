//! What a token's spelling stands for: the name behind an identifier, the value behind a string literal.
//!
//! Both are what the server makes of them (`scan.l`, `scansup.c` and `parser.c`), or nothing: an escape that servers read
//! differently, or not at all, has no value here. It deliberately does not read `UESCAPE`, numbers or bit patterns.

use super::lex::{IDENTIFIER_MAX_BYTES, Kind, quoted_pieces};

/// The name that an identifier token stands for: unquoted, folded (ASCII letters only, as PostgreSQL does in UTF-8) and cut
/// to [`IDENTIFIER_MAX_BYTES`]. Takes the token as written; `U&"…"` is read with the default escape character, and
/// keeps its spelling where an escape is invalid.
pub fn fold_identifier(text: &str) -> String {
    let between = |prefix: usize| {
        text.get(prefix..text.len().saturating_sub(1)).unwrap_or_default().replace("\"\"", "\"")
    };
    let mut name = match text.as_bytes() {
        [b'"', ..] => between(1),
        [b'u' | b'U', b'&', b'"', ..] => unicode_escapes(&between(3)).unwrap_or_else(|| between(3)),
        _ => text.to_ascii_lowercase(),
    };
    name.truncate(name.floor_char_boundary(IDENTIFIER_MAX_BYTES));
    name
}

/// The value that a string token stands for. `None`: it is another kind of token, or its escapes are ones that the server
/// would refuse or that servers disagree about. For `B''` and `X''` these are the digits as written.
pub fn string_value(kind: Kind, text: &str) -> Option<String> {
    let prefix = match kind {
        Kind::String => 1,
        Kind::EscapeString | Kind::BitString | Kind::HexString | Kind::NationalString => 2,
        Kind::UnicodeString => 3,
        Kind::DollarString => {
            let delimiter = text.get(1..)?.find('$')? + 2;
            return text.get(delimiter..text.len().checked_sub(delimiter)?).map(str::to_owned);
        }
        _ => return None,
    };
    let body = quoted_pieces(text, kind, prefix).concat();
    match kind {
        Kind::EscapeString => backslash_escapes(&body),
        Kind::UnicodeString => unicode_escapes(&body.replace("''", "'")),
        _ => Some(body.replace("''", "'")),
    }
}

/// `\\`, `\XXXX` and `\+XXXXXX` of `U&` literals; surrogates in pairs only.
fn unicode_escapes(text: &str) -> Option<String> {
    let mut value = Utf8::default();
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        let (code, length) = match (next, rest.as_bytes().get(1)) {
            ('\\', Some(b'\\')) => ('\\' as u32, 2),
            ('\\', Some(b'+')) => (hex(rest.get(2..8)?)?, 8),
            ('\\', _) => (hex(rest.get(1..5)?)?, 5),
            _ => (next as u32, next.len_utf8()),
        };
        value.code(code)?;
        rest = rest.get(length..)?;
    }
    value.finish()
}

/// What follows a backslash in `E''`.
enum Escape {
    /// `\n`, `\ooo`, `\xhh`: a byte, which may be a part of a character.
    Byte(u8),
    /// `\uXXXX`, `\UXXXXXXXX`.
    Code(u32),
}

fn backslash_escapes(text: &str) -> Option<String> {
    let mut value = Utf8::default();
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        rest = rest.get(next.len_utf8()..)?;
        match next {
            '\\' => {
                let (escape, length) = escape(rest)?;
                match escape {
                    Escape::Byte(byte) => value.byte(byte)?,
                    Escape::Code(code) => value.code(code)?,
                }
                rest = rest.get(length..)?;
            }
            '\'' => {
                rest = rest.strip_prefix('\'')?;
                value.code('\'' as u32)?;
            }
            _ => value.code(next as u32)?,
        }
    }
    value.finish()
}

/// Reads what follows a backslash, and how many bytes that is.
fn escape(tail: &str) -> Option<(Escape, usize)> {
    let letter = tail.chars().next()?;
    let digits = |text: &str, radix| {
        text.chars().take(if radix == 8 { 3 } else { 2 }).take_while(|c| c.is_digit(radix)).count()
    };
    let byte = |byte| Some((Escape::Byte(byte), 1));
    match letter {
        'b' => byte(b'\x08'),
        'f' => byte(b'\x0c'),
        'n' => byte(b'\n'),
        'r' => byte(b'\r'),
        't' => byte(b'\t'),
        // A vertical tab since PostgreSQL 16, the letter before.
        'v' => None,
        'u' => Some((Escape::Code(hex(tail.get(1..5)?)?), 5)),
        'U' => Some((Escape::Code(hex(tail.get(1..9)?)?), 9)),
        'x' if digits(tail.get(1..)?, 16) > 0 => {
            let length = 1 + digits(tail.get(1..)?, 16);
            Some((Escape::Byte(u8::from_str_radix(tail.get(1..length)?, 16).ok()?), length))
        }
        '0'..='7' => {
            let length = digits(tail, 8);
            // `\777` overflows its byte in the server as well.
            Some((Escape::Byte((u32::from_str_radix(tail.get(..length)?, 8).ok()? & 0xFF) as u8), length))
        }
        _ => Some((Escape::Code(letter as u32), letter.len_utf8())),
    }
}

fn hex(digits: &str) -> Option<u32> {
    let all = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    if all { u32::from_str_radix(digits, 16).ok() } else { None }
}

/// A text being put together from code points and bytes; NUL, lone surrogates and invalid UTF-8 make it nothing.
#[derive(Default)]
struct Utf8 {
    bytes: Vec<u8>,
    /// The first half of a surrogate pair, waiting for its second.
    high: Option<u32>,
}

impl Utf8 {
    fn byte(&mut self, byte: u8) -> Option<()> {
        if self.high.is_some() || byte == 0 {
            return None;
        }
        self.bytes.push(byte);
        Some(())
    }

    fn code(&mut self, code: u32) -> Option<()> {
        let code = match (self.high.take(), code) {
            (None, 0xD800..=0xDBFF) => {
                self.high = Some(code);
                return Some(());
            }
            (Some(high), 0xDC00..=0xDFFF) => 0x10000 + ((high - 0xD800) << 10) + (code - 0xDC00),
            (Some(_), _) | (None, 0) => return None,
            (None, code) => code,
        };
        let text = char::from_u32(code)?;
        self.bytes.extend_from_slice(text.encode_utf8(&mut [0; 4]).as_bytes());
        Some(())
    }

    fn finish(self) -> Option<String> {
        if self.high.is_some() { None } else { String::from_utf8(self.bytes).ok() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fold_as_in_the_server() {
        assert_eq!(fold_identifier("Customers"), "customers");
        assert_eq!(fold_identifier("ÄÖ_Z"), "ÄÖ_z");
        assert_eq!(fold_identifier("\"Say \"\"Hi\"\"\""), "Say \"Hi\"");
        assert_eq!(fold_identifier(r#"U&"d\0061t\+000061""#), "data");
        assert_eq!(fold_identifier(&"x".repeat(100)).len(), 63);
        assert_eq!(fold_identifier(&"ä".repeat(40)).len(), 62);
    }

    #[test]
    fn values_are_what_the_server_reads() {
        let value = |kind, text: &str| string_value(kind, text);
        assert_eq!(value(Kind::String, "'it''s'").as_deref(), Some("it's"));
        assert_eq!(value(Kind::String, "'a' -- c'\n 'b'").as_deref(), Some("ab"));
        assert_eq!(value(Kind::EscapeString, r"E'\x41\101\u0041\'\\''\q'").as_deref(), Some("AAA'\\'q"));
        assert_eq!(value(Kind::EscapeString, r"E'\303\244'").as_deref(), Some("ä"));
        assert_eq!(value(Kind::EscapeString, r"E'\ud83d\ude00'").as_deref(), Some("😀"));
        for refused in [r"E'\ud83d'", r"E'\xff'", r"E'\0'", r"E'\u12'", r"E'\v'"] {
            assert_eq!(value(Kind::EscapeString, refused), None, "{refused}");
        }
        assert_eq!(value(Kind::UnicodeString, r"U&'d\0061''\\'").as_deref(), Some("da'\\"));
        assert_eq!(value(Kind::DollarString, "$a$x$$y$a$").as_deref(), Some("x$$y"));
        assert_eq!(value(Kind::Word, "x"), None);
    }
}

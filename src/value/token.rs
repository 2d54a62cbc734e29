//! The words of date, time and interval input, as PostgreSQL splits them (`datetime.c` `ParseDateTime`).
//!
//! What a token means depends on its neighbours; that is for `datetime` and `interval` to say.

use super::text;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Digits, perhaps with one point.
    Number,
    /// Something with `-`, `/` or `.` in it: a date, or a zone's name.
    Date,
    /// Digits and colons.
    Time,
    /// A sign and digits: a zone's offset, or a signed number.
    Signed,
    /// Letters.
    Word,
    /// A sign and letters.
    Special,
}

/// One token; letters are in lower case.
#[derive(Debug)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) text: String,
}

/// `datetime.h` `MAXDATEFIELDS`.
const TOKENS_MAX: usize = 25;

/// What `datetime.c` `datetktbl` knows, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keyword {
    Ad,
    Am,
    Bc,
    DayOfWeek,
    DaylightTime,
    Epoch,
    Ignored,
    Infinity {
        future: bool,
    },
    IsoTime,
    Month(i64),
    Pm,
    Relative,
    /// Units and labels (`j`, `y`, `doy`): of use to `extract`, not to input.
    Unit,
}

pub(super) fn keyword(word: &str) -> Option<Keyword> {
    let month = |number| Some(Keyword::Month(number));
    match word {
        "ad" => Some(Keyword::Ad),
        "am" => Some(Keyword::Am),
        "at" | "on" => Some(Keyword::Ignored),
        "bc" => Some(Keyword::Bc),
        "pm" => Some(Keyword::Pm),
        "t" => Some(Keyword::IsoTime),
        "dst" => Some(Keyword::DaylightTime),
        "epoch" => Some(Keyword::Epoch),
        "infinity" => Some(Keyword::Infinity { future: true }),
        "-infinity" => Some(Keyword::Infinity { future: false }),
        "now" | "today" | "tomorrow" | "yesterday" | "allballs" => Some(Keyword::Relative),
        "jan" | "january" => month(1),
        "feb" | "february" => month(2),
        "mar" | "march" => month(3),
        "apr" | "april" => month(4),
        "may" => month(5),
        "jun" | "june" => month(6),
        "jul" | "july" => month(7),
        "aug" | "august" => month(8),
        "sep" | "sept" | "september" => month(9),
        "oct" | "october" => month(10),
        "nov" | "november" => month(11),
        "dec" | "december" => month(12),
        "mon" | "monday" | "tue" | "tues" | "tuesday" | "wed" | "weds" | "wednesday" | "thu" | "thur"
        | "thurs" | "thursday" | "fri" | "friday" | "sat" | "saturday" | "sun" | "sunday" => {
            Some(Keyword::DayOfWeek)
        }
        "d" | "dow" | "doy" | "h" | "isodow" | "isoyear" | "j" | "jd" | "julian" | "m" | "mm" | "s" | "y" => {
            Some(Keyword::Unit)
        }
        _ => None,
    }
}

/// Splits an input; `None` for characters that no date has, more than 25 tokens, or more than `room` bytes of them
/// (PostgreSQL's buffer, one byte more a token).
pub(super) fn split(input: &str, room: usize) -> Option<Vec<Token>> {
    let mut rest = Rest { bytes: input.as_bytes() };
    let mut tokens = vec![];
    let mut used = 0;
    while let Some(first) = rest.peek() {
        let token = match first {
            space if text::is_space(space) => {
                rest.next();
                continue;
            }
            b'0'..=b'9' => rest.numeric(),
            b'.' => rest.collect(Kind::Number, String::new(), |byte| byte.is_ascii_digit()),
            b'a'..=b'z' | b'A'..=b'Z' => rest.word(),
            b'+' | b'-' => rest.signed()?,
            mark if mark.is_ascii_punctuation() => {
                rest.next();
                continue;
            }
            _ => return None,
        };
        used += token.text.len() + 1;
        tokens.push(token);
        if tokens.len() > TOKENS_MAX || used > room {
            return None;
        }
    }
    Some(tokens)
}

struct Rest<'a> {
    bytes: &'a [u8],
}

impl Rest<'_> {
    fn peek(&self) -> Option<u8> {
        self.bytes.first().copied()
    }

    fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.bytes.split_first()?;
        self.bytes = rest;
        Some(*first)
    }

    /// The next byte, whatever it is, and those after it that `more` accepts.
    fn collect(&mut self, kind: Kind, mut text: String, more: impl Fn(u8) -> bool) -> Token {
        text.extend(self.next().map(|byte| char::from(byte.to_ascii_lowercase())));
        self.extend(&mut text, more);
        Token { kind, text }
    }

    fn extend(&mut self, text: &mut String, more: impl Fn(u8) -> bool) {
        while let Some(byte) = self.peek().filter(|byte| more(*byte)) {
            text.push(char::from(byte.to_ascii_lowercase()));
            self.next();
        }
    }

    fn numeric(&mut self) -> Token {
        let mut token = self.collect(Kind::Number, String::new(), |byte| byte.is_ascii_digit());
        match self.peek() {
            Some(b':') => {
                token.kind = Kind::Time;
                self.extend(&mut token.text, |byte| byte.is_ascii_digit() || matches!(byte, b':' | b'.'));
            }
            Some(mark @ (b'-' | b'/' | b'.')) => {
                token.text.extend(self.next().map(char::from));
                if !self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
                    // A month's name, perhaps.
                    token.kind = Kind::Date;
                    self.extend(&mut token.text, |byte| byte.is_ascii_alphanumeric() || byte == mark);
                    return token;
                }
                token.kind = if mark == b'.' { Kind::Number } else { Kind::Date };
                self.extend(&mut token.text, |byte| byte.is_ascii_digit());
                if self.peek() == Some(mark) {
                    token.kind = Kind::Date;
                    self.extend(&mut token.text, |byte| byte.is_ascii_digit() || byte == mark);
                }
            }
            _ => {}
        }
        token
    }

    fn word(&mut self) -> Token {
        let mut token = self.collect(Kind::Word, String::new(), |byte| byte.is_ascii_alphabetic());
        let compound = match self.peek() {
            Some(b'-' | b'/' | b'.') => true,
            // A zone's name such as `utc+3`; but `t` before a time, and other keywords, stand alone.
            Some(b'+' | b'0'..=b'9') => keyword(&token.text).is_none(),
            _ => false,
        };
        if compound {
            token.kind = Kind::Date;
            self.extend(&mut token.text, |byte| {
                byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'/' | b'_' | b'.' | b':')
            });
        }
        token
    }

    fn signed(&mut self) -> Option<Token> {
        let sign = self.next().map(char::from)?.to_string();
        while self.peek().is_some_and(text::is_space) {
            self.next();
        }
        match self.peek()? {
            b'0'..=b'9' => Some(self.collect(Kind::Signed, sign, |byte| {
                byte.is_ascii_digit() || matches!(byte, b':' | b'.' | b'-')
            })),
            byte if byte.is_ascii_alphabetic() => {
                Some(self.collect(Kind::Special, sign, |byte| byte.is_ascii_alphabetic()))
            }
            _ => None,
        }
    }
}

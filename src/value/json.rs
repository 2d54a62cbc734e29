//! `json` (validated, kept as written) and `jsonb` (normalised as PostgreSQL prints it).
//!
//! One reader for both, ours, because PostgreSQL's is more lenient than RFC 8259 readers in one place (`json` keeps
//! escapes unread, lone surrogates included) and exact in another (`jsonb` numbers are `numeric`, of any length).

use super::{ValueError, numeric};

/// Nesting that is read. PostgreSQL's own limit is its stack, some thousands.
const DEPTH_MAX: usize = 1000;

enum Json {
    Literal(&'static str),
    Number(String),
    Text(String),
    Array(Vec<Json>),
    Object(Vec<(String, Json)>),
}

/// Whether `text` is JSON as `json_in` accepts it.
pub(super) fn validate(text: &str) -> Result<(), ValueError> {
    Reader { rest: text, strict: false }.document().map(|_| ())
}

/// Keys ordered by length and then bytes, the last of equal keys kept, one space after `:` and `,`
/// (`jsonb_util.c` `lengthCompareJsonbStringValue`, `jsonb.c` `JsonbToCString`).
pub(super) fn normalise(text: &str) -> Result<String, ValueError> {
    let document = Reader { rest: text, strict: true }.document()?;
    let mut out = String::with_capacity(text.len());
    print(&document, &mut out);
    Ok(out)
}

/// PostgreSQL says `json` for both types.
fn wrong() -> ValueError {
    ValueError::new("22P02", "invalid input syntax for type json")
}

struct Reader<'a> {
    rest: &'a str,
    /// Read as `jsonb`: escapes must be characters and numbers must fit `numeric`; else nothing is kept.
    strict: bool,
}

impl Reader<'_> {
    fn document(mut self) -> Result<Json, ValueError> {
        let value = self.value(0)?;
        self.skip();
        if self.rest.is_empty() { Ok(value) } else { Err(wrong()) }
    }

    fn skip(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\n', '\r']);
    }

    fn take(&mut self, token: &str) -> bool {
        self.skip();
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn value(&mut self, depth: usize) -> Result<Json, ValueError> {
        if depth > DEPTH_MAX {
            return Err(ValueError::new("54001", "stack depth limit exceeded"));
        }
        self.skip();
        match self.rest.as_bytes().first() {
            Some(b'{') => self.object(depth),
            Some(b'[') => self.array(depth),
            Some(b'"') => self.string().map(Json::Text),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ => self.literal(),
        }
    }

    fn literal(&mut self) -> Result<Json, ValueError> {
        let word = ["true", "false", "null"].into_iter().find(|word| self.take(word)).ok_or_else(wrong)?;
        // `nullx` is one token.
        if self.rest.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_' || !c.is_ascii()) {
            return Err(wrong());
        }
        Ok(Json::Literal(word))
    }

    fn object(&mut self, depth: usize) -> Result<Json, ValueError> {
        let mut members = vec![];
        self.take("{");
        if self.take("}") {
            return Ok(Json::Object(members));
        }
        loop {
            self.skip();
            let key = self.string()?;
            if !self.take(":") {
                return Err(wrong());
            }
            let value = self.value(depth + 1)?;
            if self.strict {
                members.push((key, value));
            }
            if self.take("}") {
                return Ok(Json::Object(members));
            }
            if !self.take(",") {
                return Err(wrong());
            }
        }
    }

    fn array(&mut self, depth: usize) -> Result<Json, ValueError> {
        let mut items = vec![];
        self.take("[");
        if self.take("]") {
            return Ok(Json::Array(items));
        }
        loop {
            let value = self.value(depth + 1)?;
            if self.strict {
                items.push(value);
            }
            if self.take("]") {
                return Ok(Json::Array(items));
            }
            if !self.take(",") {
                return Err(wrong());
            }
        }
    }

    /// `-? (0 | [1-9][0-9]*) (. [0-9]+)? ([eE] [+-]? [0-9]+)?`
    fn number(&mut self) -> Result<Json, ValueError> {
        let end = self.rest.find(|c: char| !matches!(c, '0'..='9' | '+' | '-' | '.' | 'e' | 'E'));
        let (token, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        let (mantissa, exponent) = token.split_once(['e', 'E']).map_or((token, None), |(m, e)| (m, Some(e)));
        let unsigned = mantissa.strip_prefix('-').unwrap_or(mantissa);
        let (whole, fraction) = unsigned.split_once('.').map_or((unsigned, None), |(w, f)| (w, Some(f)));
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let valid = digits(whole)
            && (whole.len() == 1 || !whole.starts_with('0'))
            && fraction.is_none_or(digits)
            && exponent.is_none_or(|text| digits(text.strip_prefix(['+', '-']).unwrap_or(text)));
        // Letters that follow at once belong to the token.
        if !valid || rest.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_' || !c.is_ascii()) {
            return Err(wrong());
        }
        self.rest = rest;
        let number = if self.strict { numeric::read_text(token, None)? } else { String::new() };
        Ok(Json::Number(number))
    }

    fn string(&mut self) -> Result<String, ValueError> {
        let body = self.rest.strip_prefix('"').ok_or_else(wrong)?;
        let mut text = String::new();
        let mut chars = body.char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    self.rest = body.get(at + 1..).unwrap_or_default();
                    return Ok(text);
                }
                '\0'..='\x1f' => return Err(wrong()),
                '\\' => {
                    let escaped = match chars.next().ok_or_else(wrong)?.1 {
                        plain @ ('"' | '\\' | '/') => plain,
                        'b' => '\x08',
                        'f' => '\x0c',
                        'n' => '\n',
                        'r' => '\r',
                        't' => '\t',
                        'u' => self.escaped(&mut chars)?,
                        _ => return Err(wrong()),
                    };
                    text.push(escaped);
                }
                plain => text.push(plain),
            }
        }
        Err(wrong())
    }

    /// What follows `\u`; surrogates come in pairs. `json` only looks for the digits.
    fn escaped(&self, chars: &mut std::str::CharIndices<'_>) -> Result<char, ValueError> {
        let first = hex4(chars)?;
        if !self.strict {
            return Ok(' ');
        }
        let code = match first {
            0 => return Err(ValueError::new("22P05", "unsupported Unicode escape sequence")),
            0xD800..=0xDBFF => {
                let pair = matches!((chars.next(), chars.next()), (Some((_, '\\')), Some((_, 'u'))));
                let second = if pair { hex4(chars)? } else { 0 };
                if !(0xDC00..=0xDFFF).contains(&second) {
                    return Err(wrong());
                }
                0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00)
            }
            code => code,
        };
        char::from_u32(code).ok_or_else(wrong)
    }
}

fn hex4(chars: &mut std::str::CharIndices<'_>) -> Result<u32, ValueError> {
    (0..4).try_fold(0, |code, _| {
        let digit = chars.next().and_then(|(_, c)| c.to_digit(16)).ok_or_else(wrong)?;
        Ok(code << 4 | digit)
    })
}

fn print(value: &Json, out: &mut String) {
    match value {
        Json::Literal(word) => out.push_str(word),
        Json::Number(number) => out.push_str(number),
        Json::Text(text) => string(text, out),
        Json::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push_str(", ");
                }
                print(item, out);
            }
            out.push(']');
        }
        Json::Object(members) => {
            out.push('{');
            for (index, (key, value)) in unique(members).into_iter().enumerate() {
                if index > 0 {
                    out.push_str(", ");
                }
                string(key, out);
                out.push_str(": ");
                print(value, out);
            }
            out.push('}');
        }
    }
}

/// In jsonb's order, the last of equal keys.
fn unique(members: &[(String, Json)]) -> Vec<&(String, Json)> {
    let mut ordered: Vec<&(String, Json)> = members.iter().rev().collect();
    // Stable, so that the last written comes first among equals.
    ordered.sort_by(|(a, _), (b, _)| a.len().cmp(&b.len()).then_with(|| a.cmp(b)));
    ordered.dedup_by(|(later, _), (kept, _)| later == kept);
    ordered
}

/// `escape_json`.
fn string(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\x08' => out.push_str("\\b"),
            '\x0c' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\0'..='\x1f' => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            plain => out.push(plain),
        }
    }
    out.push('"');
}

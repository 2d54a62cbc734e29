//! COPY read from its tokens: what is copied, which way, and every option that says how rows are spelled.
//!
//! Source: `gram.y` (`CopyStmt`) and `ProcessCopyOptions` of `commands/copy.c`, as of PostgreSQL 18. Both spellings of options are
//! read; what is sent is printed from what was read, so that proxy and server cannot read the data differently. An option
//! that is not here is refused by name. Deliberately absent: the judgement of combinations (`QUOTE` without CSV), which is
//! the server's, and the query of `COPY (query)`, whose tokens are only delimited.

use super::lex::{Kind, Token};
use super::problem::{Problem, Trouble};
use super::spelling::{fold_identifier, string_value};
use std::fmt::Write as _;
use std::ops::Range;

/// How rows are spelled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CopyFormat {
    #[default]
    Text,
    Csv,
    Binary,
}

/// Whether the first line holds names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header {
    Off,
    On,
    Match,
}

/// The columns that a FORCE option names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Force {
    All,
    Columns(Vec<String>),
}

impl Force {
    pub fn holds(&self, column: Option<&str>) -> bool {
        match self {
            Force::All => true,
            Force::Columns(columns) => columns.iter().any(|known| Some(known.as_str()) == column),
        }
    }
}

/// The options as given; [`CopyOptions::delimiter`] and its like know the defaults.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CopyOptions {
    format: Option<CopyFormat>,
    header: Option<Header>,
    delimiter: Option<u8>,
    null: Option<String>,
    quote: Option<u8>,
    escape: Option<u8>,
    default: Option<String>,
    freeze: Option<bool>,
    encoding: bool,
    on_error: Option<&'static str>,
    log_verbosity: Option<&'static str>,
    reject_limit: Option<u64>,
    pub force_quote: Option<Force>,
    pub force_null: Option<Force>,
    pub force_not_null: Option<Force>,
}

impl CopyOptions {
    pub fn format(&self) -> CopyFormat {
        self.format.unwrap_or_default()
    }
    pub fn header(&self) -> bool {
        self.header.is_some_and(|header| header != Header::Off)
    }
    pub fn delimiter(&self) -> u8 {
        self.delimiter.unwrap_or(if self.format() == CopyFormat::Csv { b',' } else { b'\t' })
    }
    pub fn null(&self) -> &[u8] {
        let default = if self.format() == CopyFormat::Csv { "" } else { "\\N" };
        self.null.as_deref().unwrap_or(default).as_bytes()
    }
    /// What stands for a column's default.
    pub fn default_marker(&self) -> Option<&[u8]> {
        self.default.as_deref().map(str::as_bytes)
    }
    /// Whether rows with values that do not fit are left out.
    pub fn skips_rows(&self) -> bool {
        self.on_error == Some("ignore")
    }
    pub fn quote(&self) -> u8 {
        self.quote.unwrap_or(b'"')
    }
    pub fn escape(&self) -> u8 {
        self.escape.unwrap_or(self.quote())
    }

    /// Whether rows are spelled in a way that every server knows and no option of which it has to judge.
    pub fn are_usual(&self) -> bool {
        let usual = match self.format() {
            // Text has a header since PostgreSQL 15.
            CopyFormat::Text => self.header.is_none(),
            CopyFormat::Csv => self.header != Some(Header::Match),
            CopyFormat::Binary => false,
        };
        let CopyOptions { delimiter, null, quote, escape, default, freeze, encoding, .. } = self;
        let CopyOptions {
            on_error,
            log_verbosity,
            reject_limit,
            force_quote,
            force_null,
            force_not_null,
            ..
        } = self;
        let spelled = null.is_some() || quote.is_some() || escape.is_some() || default.is_some() || *encoding;
        let forced = force_quote.is_some() || force_null.is_some() || force_not_null.is_some();
        let other =
            on_error.is_some() || log_verbosity.is_some() || reject_limit.is_some() || freeze.is_some();
        let delimited = matches!(delimiter, None | Some(b',' | b';' | b'|' | b'\t'));
        usual && delimited && !spelled && !forced && !other
    }

    /// ` WITH (…)`, or nothing when no option was given.
    pub fn printed(&self) -> String {
        let mut options: Vec<String> = vec![];
        let character = |byte: u8| string(char::from(byte).encode_utf8(&mut [0; 4]));
        match self.format {
            None => {}
            Some(CopyFormat::Text) => options.push("FORMAT text".into()),
            Some(CopyFormat::Csv) => options.push("FORMAT csv".into()),
            Some(CopyFormat::Binary) => options.push("FORMAT binary".into()),
        }
        match self.header {
            None => {}
            Some(Header::Off) => options.push("HEADER false".into()),
            Some(Header::On) => options.push("HEADER true".into()),
            Some(Header::Match) => options.push("HEADER match".into()),
        }
        options.extend(self.freeze.map(|freeze| format!("FREEZE {freeze}")));
        options.extend(self.delimiter.map(|byte| format!("DELIMITER {}", character(byte))));
        options.extend(self.null.as_ref().map(|null| format!("NULL {}", string(null))));
        options.extend(self.default.as_ref().map(|default| format!("DEFAULT {}", string(default))));
        options.extend(self.quote.map(|byte| format!("QUOTE {}", character(byte))));
        options.extend(self.escape.map(|byte| format!("ESCAPE {}", character(byte))));
        for (name, force) in [
            ("FORCE_QUOTE", &self.force_quote),
            ("FORCE_NOT_NULL", &self.force_not_null),
            ("FORCE_NULL", &self.force_null),
        ] {
            match force {
                None => {}
                Some(Force::All) => options.push(format!("{name} *")),
                Some(Force::Columns(columns)) => options.push(format!("{name} {}", listed(columns))),
            }
        }
        options.extend(self.on_error.map(|what| format!("ON_ERROR {what}")));
        options.extend(self.reject_limit.map(|rows| format!("REJECT_LIMIT {rows}")));
        options.extend(self.log_verbosity.map(|what| format!("LOG_VERBOSITY {what}")));
        if options.is_empty() { String::new() } else { format!(" WITH ({})", options.join(", ")) }
    }
}

fn string(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// `("a", "b")`.
pub(super) fn listed(columns: &[String]) -> String {
    let mut list = String::from("(");
    for (index, column) in columns.iter().enumerate() {
        let comma = if index > 0 { ", " } else { "" };
        // Writing to a string does not fail.
        let _ = write!(list, "{comma}\"{}\"", column.replace('"', "\"\""));
    }
    list + ")"
}

/// What is copied.
pub(super) enum Source {
    Table {
        /// One to three parts, folded.
        name: Vec<String>,
        /// Where the name stands, in bytes of the whole text.
        at: usize,
        columns: Option<Vec<String>>,
    },
    /// The statement between the parentheses: its bytes in the whole text, and its tokens.
    Query(Range<usize>, Range<usize>),
}

/// Where the rows come from or go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Peer {
    Client,
    ServerFile,
    Program,
}

pub(super) struct CopyStatement {
    pub(super) source: Source,
    pub(super) from: bool,
    pub(super) peer: Peer,
    pub(super) options: CopyOptions,
    /// Where the condition of WHERE stands, in bytes of the whole text.
    pub(super) filter: Option<Range<usize>>,
}

/// Reads a statement that begins with COPY.
///
/// # Errors
/// A syntax that is not known, an option by its name, or a character that PostgreSQL would refuse too.
pub(super) fn read(text: &str, tokens: &[Token]) -> Result<CopyStatement, Problem> {
    let mut reader = Reader { text, tokens, at: 1 };
    let mut options = CopyOptions::default();
    if reader.takes("binary") {
        options.format = Some(CopyFormat::Binary);
    }
    let source = if reader.sees("(") { reader.query()? } else { reader.table()? };
    let from = reader.takes("from");
    if !from && !reader.takes("to") || from && matches!(source, Source::Query(..)) {
        return Err(reader.syntax());
    }
    let peer = if reader.takes("stdin") || reader.takes("stdout") {
        Peer::Client
    } else {
        let program = reader.takes("program");
        reader.string()?;
        if program { Peer::Program } else { Peer::ServerFile }
    };
    if reader.word("using") && reader.word_at(1, "delimiters") {
        reader.at += 1;
    }
    if reader.takes("delimiters") {
        options.delimiter = Some(reader.byte("delimiter")?);
    }
    reader.takes("with");
    if reader.symbol("(") {
        reader.options(&mut options)?;
    } else {
        reader.legacy_options(&mut options)?;
    }
    let filter = reader.filter();
    if filter.is_none() && reader.at < tokens.len() && !(reader.sees(";") && reader.at + 1 == tokens.len()) {
        return Err(reader.syntax());
    }
    Ok(CopyStatement { source, from, peer, options, filter })
}

struct Reader<'a> {
    text: &'a str,
    tokens: &'a [Token],
    at: usize,
}

impl Reader<'_> {
    fn syntax(&self) -> Problem {
        Problem::not_understood("this form of COPY")
            .at(self.tokens.get(self.at).map(|token| token.span.start))
    }
    /// What follows WHERE.
    fn filter(&self) -> Option<Range<usize>> {
        let mut last = self.tokens.last()?;
        if last.is_symbol(self.text, ";") {
            last = self.tokens.get(self.tokens.len().checked_sub(2)?)?;
        }
        let first = self.tokens.get(self.at + 1).filter(|_| self.word("where"))?;
        (first.span.start < last.span.end).then_some(first.span.start..last.span.end)
    }
    fn word_at(&self, ahead: usize, word: &str) -> bool {
        self.tokens.get(self.at + ahead).is_some_and(|token| token.is_word(self.text, word))
    }
    fn word(&self, word: &str) -> bool {
        self.word_at(0, word)
    }
    fn takes(&mut self, word: &str) -> bool {
        let found = self.word(word);
        self.at += usize::from(found);
        found
    }
    fn sees(&self, symbol: &str) -> bool {
        self.tokens.get(self.at).is_some_and(|token| token.is_symbol(self.text, symbol))
    }
    fn symbol(&mut self, symbol: &str) -> bool {
        let found = self.sees(symbol);
        self.at += usize::from(found);
        found
    }
    fn name(&mut self) -> Result<String, Problem> {
        let token = self.tokens.get(self.at).filter(|token| token.is_identifier());
        let name = token.map(|token| fold_identifier(token.text(self.text))).ok_or_else(|| self.syntax())?;
        self.at += 1;
        Ok(name)
    }
    fn string(&mut self) -> Result<String, Problem> {
        let token = self.tokens.get(self.at);
        let value = token.and_then(|token| match token.kind {
            Kind::String | Kind::EscapeString | Kind::DollarString => {
                string_value(token.kind, token.text(self.text))
            }
            _ => None,
        });
        let value = value.ok_or_else(|| self.syntax())?;
        self.at += 1;
        Ok(value)
    }
    /// A word, number or string as the value of an option; `None` when there is none.
    fn value(&mut self) -> Result<Option<String>, Problem> {
        let Some(token) = self.tokens.get(self.at) else { return Ok(None) };
        if token.is_identifier() {
            return self.name().map(Some);
        }
        if token.kind == Kind::Number {
            self.at += 1;
            return Ok(Some(token.text(self.text).to_owned()));
        }
        if self.sees(",") || self.sees(")") { Ok(None) } else { self.string().map(Some) }
    }
    fn truth(&mut self, option: &str) -> Result<bool, Problem> {
        let value = self.value()?;
        match value.as_deref().map(str::to_ascii_lowercase).as_deref() {
            None | Some("true" | "on" | "1") => Ok(true),
            Some("false" | "off" | "0") => Ok(false),
            Some(_) => Err(invalid("42601", format!("{option} requires a Boolean value"))),
        }
    }
    /// One of these words.
    fn word_of(&mut self, known: &[&'static str], option: &str) -> Result<&'static str, Problem> {
        let value = self.value()?.unwrap_or_default().to_ascii_lowercase();
        let found = known.iter().find(|known| **known == value);
        found.copied().ok_or_else(|| Problem::not_understood(&format!("this value of COPY option {option}")))
    }
    fn number(&mut self, option: &str) -> Result<u64, Problem> {
        let value = self.value()?.unwrap_or_default();
        value.parse().map_err(|_| Problem::not_understood(&format!("this value of COPY option {option}")))
    }
    fn header(&mut self) -> Result<Header, Problem> {
        let value = self.value()?;
        match value.as_deref().map(str::to_ascii_lowercase).as_deref() {
            None | Some("true" | "on" | "1") => Ok(Header::On),
            Some("false" | "off" | "0") => Ok(Header::Off),
            Some("match") => Ok(Header::Match),
            Some(_) => Err(invalid("42601", "header requires a Boolean value or \"match\"")),
        }
    }
    /// A single one-byte character.
    fn byte(&mut self, option: &str) -> Result<u8, Problem> {
        let value = self.value()?.unwrap_or_default();
        match value.as_bytes() {
            [byte] if byte.is_ascii() => Ok(*byte),
            _ => Err(invalid("0A000", format!("COPY {option} must be a single one-byte character"))),
        }
    }
    /// Names with commas between them.
    fn names(&mut self) -> Result<Vec<String>, Problem> {
        let mut names = vec![self.name()?];
        while self.symbol(",") {
            names.push(self.name()?);
        }
        Ok(names)
    }
    fn force(&mut self, parenthesised: bool) -> Result<Force, Problem> {
        if self.symbol("*") {
            return Ok(Force::All);
        }
        if parenthesised && !self.symbol("(") {
            return Err(self.syntax());
        }
        let names = self.names()?;
        if parenthesised && !self.symbol(")") {
            return Err(self.syntax());
        }
        Ok(Force::Columns(names))
    }
    fn table(&mut self) -> Result<Source, Problem> {
        let at = self.tokens.get(self.at).map_or(0, |token| token.span.start);
        let mut name = vec![self.name()?];
        while self.symbol(".") {
            name.push(self.name()?);
        }
        let columns = if self.symbol("(") {
            let names = self.names()?;
            if !self.symbol(")") {
                return Err(self.syntax());
            }
            Some(names)
        } else {
            None
        };
        Ok(Source::Table { name, at, columns })
    }
    fn query(&mut self) -> Result<Source, Problem> {
        let open = self.at;
        let mut depth = 0_usize;
        while let Some(token) = self.tokens.get(self.at) {
            if token.is_symbol(self.text, "(") {
                depth += 1;
            } else if token.is_symbol(self.text, ")") {
                depth -= 1;
            }
            self.at += 1;
            if depth == 0 {
                let inside = open + 1..self.at - 1;
                let (first, last) = (self.tokens.get(open), self.tokens.get(self.at - 1));
                let bytes = first.zip(last).map(|(first, last)| first.span.end..last.span.start);
                return bytes.map(|bytes| Source::Query(bytes, inside)).ok_or_else(|| self.syntax());
            }
        }
        Err(self.syntax())
    }

    /// `(option [value], …)`, after the parenthesis.
    fn options(&mut self, options: &mut CopyOptions) -> Result<(), Problem> {
        loop {
            let name = self.name()?;
            match name.as_str() {
                "format" => {
                    let value = self.value()?.unwrap_or_default();
                    once(&mut options.format, named_format(&value)?)?;
                }
                "freeze" => once(&mut options.freeze, self.truth("freeze")?)?,
                "header" => once(&mut options.header, self.header()?)?,
                "delimiter" => once(&mut options.delimiter, self.byte("delimiter")?)?,
                "null" => once(&mut options.null, self.value()?.unwrap_or_default())?,
                "default" => once(&mut options.default, self.value()?.unwrap_or_default())?,
                "on_error" => once(&mut options.on_error, self.word_of(&["stop", "ignore"], "ON_ERROR")?)?,
                "log_verbosity" => {
                    let known = ["default", "verbose", "silent"];
                    once(&mut options.log_verbosity, self.word_of(&known, "LOG_VERBOSITY")?)?;
                }
                "reject_limit" => once(&mut options.reject_limit, self.number("REJECT_LIMIT")?)?,
                "quote" => once(&mut options.quote, self.byte("quote")?)?,
                "escape" => once(&mut options.escape, self.byte("escape")?)?,
                "encoding" => {
                    let value = self.value()?.unwrap_or_default();
                    encoding(options, &value)?;
                }
                "force_quote" => once(&mut options.force_quote, self.force(true)?)?,
                "force_null" => once(&mut options.force_null, self.force(true)?)?,
                "force_not_null" => once(&mut options.force_not_null, self.force(true)?)?,
                other => return Err(unknown(other)),
            }
            if self.symbol(")") {
                return Ok(());
            }
            if !self.symbol(",") {
                return Err(self.syntax());
            }
        }
    }

    /// The spelling from before PostgreSQL 9.0.
    fn legacy_options(&mut self, options: &mut CopyOptions) -> Result<(), Problem> {
        while self.at < self.tokens.len() && !self.word("where") && !self.sees(";") {
            let name = self.name()?;
            let valued = matches!(name.as_str(), "delimiter" | "null" | "quote" | "escape");
            if valued {
                self.takes("as");
            }
            match name.as_str() {
                "binary" => once(&mut options.format, CopyFormat::Binary)?,
                "csv" => once(&mut options.format, CopyFormat::Csv)?,
                "freeze" => once(&mut options.freeze, true)?,
                "header" => once(&mut options.header, Header::On)?,
                "delimiter" => once(&mut options.delimiter, self.byte("delimiter")?)?,
                "null" => once(&mut options.null, self.string()?)?,
                "quote" => once(&mut options.quote, self.byte("quote")?)?,
                "escape" => once(&mut options.escape, self.byte("escape")?)?,
                "encoding" => {
                    let value = self.string()?;
                    encoding(options, &value)?;
                }
                "force" if self.takes("quote") => once(&mut options.force_quote, self.force(false)?)?,
                "force" if self.takes("null") => once(&mut options.force_null, self.force(false)?)?,
                "force" if self.takes("not") && self.takes("null") => {
                    once(&mut options.force_not_null, self.force(false)?)?;
                }
                other => return Err(unknown(other)),
            }
        }
        Ok(())
    }
}

fn once<T>(option: &mut Option<T>, value: T) -> Result<(), Problem> {
    match option.replace(value) {
        None => Ok(()),
        Some(_) => Err(invalid("42601", "conflicting or redundant options")),
    }
}

fn named_format(name: &str) -> Result<CopyFormat, Problem> {
    match name {
        "text" => Ok(CopyFormat::Text),
        "csv" => Ok(CopyFormat::Csv),
        "binary" => Ok(CopyFormat::Binary),
        _ => Err(invalid("22023", "COPY format not recognized")),
    }
}

fn encoding(options: &mut CopyOptions, name: &str) -> Result<(), Problem> {
    let squeezed: String = name.chars().filter(char::is_ascii_alphanumeric).collect();
    if !matches!(squeezed.to_ascii_lowercase().as_str(), "utf8" | "unicode") {
        return Err(Problem::not_understood("COPY with an encoding other than UTF8")
            .hint("Convert the data to UTF8."));
    }
    if std::mem::replace(&mut options.encoding, true) {
        return Err(invalid("42601", "conflicting or redundant options"));
    }
    Ok(())
}

fn unknown(option: &str) -> Problem {
    Problem::not_understood(&format!("COPY option {}", option.to_ascii_uppercase()))
}

fn invalid(sqlstate: &'static str, message: impl Into<String>) -> Problem {
    Problem::new(Trouble::Mismatch, sqlstate, message)
}

#[cfg(test)]
mod tests {
    use super::super::lex::lex;
    use super::*;

    fn printed(text: &str) -> Result<String, String> {
        let read = read(text, &lex(text).unwrap()).map_err(|problem| problem.message)?;
        Ok(read.options.printed())
    }

    #[test]
    fn both_spellings_of_options_print_as_one() {
        for (text, options) in [
            ("copy t from stdin", ""),
            ("copy t (a, \"B\") to stdout;", ""),
            ("copy (select (1)) to stdout (format csv, header)", " WITH (FORMAT csv, HEADER true)"),
            ("copy binary t from stdin", " WITH (FORMAT binary)"),
            ("copy t from stdin using delimiters '|' with null as ''", " WITH (DELIMITER '|', NULL '')"),
            (
                "copy t from stdin csv header quote '''' escape as E'\\\\' force not null a, \"B\"",
                " WITH (FORMAT csv, HEADER true, QUOTE '''', ESCAPE '\\', FORCE_NOT_NULL (\"a\", \"B\"))",
            ),
            (
                "copy t to stdout with (format 'csv', header match, delimiter e'\\t', force_quote *, encoding 'utf-8')",
                " WITH (FORMAT csv, HEADER match, DELIMITER '\t', FORCE_QUOTE *)",
            ),
            (
                "copy t from stdin (default '\\D', on_error 'ignore', log_verbosity verbose, reject_limit 5, force_null *)",
                " WITH (DEFAULT '\\D', FORCE_NULL *, ON_ERROR ignore, REJECT_LIMIT 5, LOG_VERBOSITY verbose)",
            ),
        ] {
            assert_eq!(printed(text).as_deref(), Ok(options), "{text}");
        }
    }

    #[test]
    fn what_is_not_known_is_refused_by_name() {
        for (text, message) in [
            (
                "copy t from stdin (force_array)",
                "COPY option FORCE_ARRAY is not supported where a tagged column is in reach",
            ),
            (
                "copy t from stdin (on_error set_null)",
                "this value of COPY option ON_ERROR is not supported where a tagged column is in reach",
            ),
            ("copy t from stdin (format csv, format csv)", "conflicting or redundant options"),
            ("copy t from stdin (delimiter '||')", "COPY delimiter must be a single one-byte character"),
            (
                "copy (select 1) from stdin",
                "this form of COPY is not supported where a tagged column is in reach",
            ),
            (
                "copy t from stdin csv nonsense",
                "COPY option NONSENSE is not supported where a tagged column is in reach",
            ),
        ] {
            assert_eq!(printed(text), Err(message.to_owned()), "{text}");
        }
        let text = "copy t from program 'x' where a > 1";
        let read = read(text, &lex(text).unwrap()).map_err(|problem| problem.message).unwrap();
        let filter = read.filter.clone().map(|filter| &text[filter]);
        assert_eq!((filter, read.from, read.peer), (Some("a > 1"), true, Peer::Program));
    }
}

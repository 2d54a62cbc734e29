//! One TOML file as it is read: sections, typed values, where each stands, and every mistake found on the way.
//!
//! A reader of our own over TOML's tree, because serde stops at the first mistake and quotes what it met, which here may
//! be a secret. Guarantees: reading never stops early; a key that nobody asked for is a mistake; no message quotes a
//! value that came from the environment. Deliberately absent: what the values mean.

use super::{Mistake, Weight};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ops::Range;
use std::path::{Path, PathBuf};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A file's text, and the mistakes in it so far.
pub(super) struct Document {
    pub(super) path: PathBuf,
    pub(super) text: String,
    mistakes: RefCell<Vec<Mistake>>,
}

/// A value and where it stands in the text (bytes).
#[derive(Clone, Debug)]
pub(super) struct At<T> {
    pub(super) value: T,
    pub(super) span: Range<usize>,
}

/// A string value after substitution. No `Debug`: it may hold a secret.
pub(super) struct Text {
    pub(super) value: String,
    /// As the file spells it: the only form that messages quote.
    pub(super) spelling: String,
    pub(super) span: Range<usize>,
}

impl Text {
    /// Whether a part of the value came from the environment.
    pub(super) fn is_from_environment(&self) -> bool {
        self.value != self.spelling
    }
}

impl Document {
    /// Reads `dir/name`. A file that cannot be read is a mistake and an empty document, unless `optional`.
    pub(super) fn read(dir: &Path, name: &str, optional: bool) -> Document {
        let path = dir.join(name);
        match std::fs::read_to_string(&path) {
            Ok(text) => Document { path, text, mistakes: RefCell::default() },
            Err(error) => {
                let missing = error.kind() == std::io::ErrorKind::NotFound;
                let document = Document { path, text: String::new(), mistakes: RefCell::default() };
                if !(missing && optional) {
                    document.mistake(
                        &(0..0),
                        format!("{name} cannot be read: {error}"),
                        "Run `pgveil init` to write a commented example.",
                    );
                }
                document
            }
        }
    }

    /// The tree of the text; every syntax mistake is noted.
    pub(super) fn parse(&self) -> Spanned<DeTable<'_>> {
        let (table, errors) = DeTable::parse_recoverable(&self.text);
        for error in errors {
            let span = error.span().unwrap_or(0..0);
            self.mistake(
                &span,
                error.message().trim_end().replace('\n', "; "),
                "See https://toml.io for the syntax.",
            );
        }
        table
    }

    pub(super) fn top<'d>(&'d self, table: &'d Spanned<DeTable<'d>>) -> Section<'d> {
        Section {
            document: self,
            name: String::new(),
            table: Some(table.get_ref()),
            span: 0..0,
            used: BTreeSet::new(),
        }
    }

    /// The 1-based line of a byte offset.
    pub(super) fn line(&self, offset: usize) -> usize {
        1 + self.text.bytes().take(offset).filter(|byte| *byte == b'\n').count()
    }

    pub(super) fn mistake(&self, span: &Range<usize>, message: impl Into<String>, hint: impl Into<String>) {
        self.note(Weight::Mistake, span, message, hint);
    }

    pub(super) fn note(
        &self,
        weight: Weight,
        span: &Range<usize>,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        let line = self.line(span.start);
        let (message, hint) = (message.into(), hint.into());
        let id = match weight {
            Weight::Mistake => "invalid-configuration",
            Weight::Idle => "without-effect",
            Weight::Advice => "configuration-advice",
        };
        self.mistakes.borrow_mut().push(Mistake { id, weight, file: self.path.clone(), line, message, hint });
    }

    pub(super) fn into_mistakes(self) -> Vec<Mistake> {
        self.mistakes.into_inner()
    }

    /// Replaces each `${NAME}` by the environment's value.
    fn substituted(&self, raw: &str, span: Range<usize>) -> Text {
        let mut value = String::new();
        let mut rest = raw;
        while let Some((before, after)) = rest.split_once("${") {
            value.push_str(before);
            let Some((name, tail)) = after.split_once('}') else {
                self.mistake(&span, "\"${\" without \"}\"", "Write ${NAME} for an environment variable.");
                rest = "";
                break;
            };
            match std::env::var(name) {
                Ok(found) => value.push_str(&found),
                Err(_) => self.mistake(
                    &span,
                    format!("environment variable {name} is not set"),
                    format!("Set {name} in the environment of pgveil, or write the value here."),
                ),
            }
            rest = tail;
        }
        value.push_str(rest);
        Text { value, spelling: raw.to_owned(), span }
    }
}

/// A table of the file, or the absence of one: reading from an absent section finds nothing.
pub(super) struct Section<'d> {
    pub(super) document: &'d Document,
    name: String,
    table: Option<&'d DeTable<'d>>,
    pub(super) span: Range<usize>,
    used: BTreeSet<String>,
}

impl<'d> Section<'d> {
    pub(super) fn is_present(&self) -> bool {
        self.table.is_some()
    }

    pub(super) fn mistake(&self, message: impl Into<String>, hint: impl Into<String>) {
        self.document.mistake(&self.span, message, hint);
    }

    /// The value of `key`, which from now on counts as known.
    fn take(&mut self, key: &str) -> Option<&'d Spanned<DeValue<'d>>> {
        self.used.insert(key.to_owned());
        self.table?.get(key)
    }

    fn wrong(&self, key: &str, value: &Spanned<DeValue<'_>>, expected: &str) {
        self.document.mistake(
            &value.span(),
            format!("{} must be {expected}, not {}", self.full(key), kind_of(value.get_ref())),
            format!("See the commented example of {}.", self.document.file_name()),
        );
    }

    /// `listen.address`.
    pub(super) fn full(&self, key: &str) -> String {
        if self.name.is_empty() { key.to_owned() } else { format!("{}.{key}", self.name) }
    }

    pub(super) fn section(&mut self, key: &str) -> Section<'d> {
        let name = self.full(key);
        let absent = |span| Section {
            document: self.document,
            name: name.clone(),
            table: None,
            span,
            used: BTreeSet::new(),
        };
        let span = self.span.clone();
        let document = self.document;
        match self.used.insert(key.to_owned()).then(|| self.table?.get(key)).flatten() {
            Some(value) => section_of(document, name.clone(), value).unwrap_or_else(|| {
                self.wrong(key, value, "a table");
                absent(value.span())
            }),
            None => absent(span),
        }
    }

    /// `[[key]]`, in the order of the file.
    pub(super) fn sections(&mut self, key: &str) -> Vec<Section<'d>> {
        let Some(value) = self.take(key) else { return Vec::new() };
        let Some(array) = value.get_ref().as_array() else {
            self.wrong(key, value, "an array of tables ([[…]])");
            return Vec::new();
        };
        array
            .iter()
            .filter_map(|item| {
                let section = section_of(self.document, self.full(key), item);
                if section.is_none() {
                    self.wrong(key, item, "a table");
                }
                section
            })
            .collect()
    }

    pub(super) fn text(&mut self, key: &str) -> Option<Text> {
        let value = self.take(key)?;
        let Some(raw) = value.get_ref().as_str() else {
            self.wrong(key, value, "a string");
            return None;
        };
        Some(self.document.substituted(raw, value.span()))
    }

    /// A string that must be there.
    pub(super) fn required(&mut self, key: &str, hint: &str) -> Option<Text> {
        if self.table.is_some_and(|table| table.get(key).is_none()) {
            self.mistake(format!("{} is missing", self.full(key)), hint);
        }
        self.text(key)
    }

    /// Strings of an array; `None` when the key is absent.
    pub(super) fn texts(&mut self, key: &str) -> Option<Vec<Text>> {
        let value = self.take(key)?;
        let Some(array) = value.get_ref().as_array() else {
            self.wrong(key, value, "an array of strings");
            return None;
        };
        let mut found = Vec::new();
        for item in array.iter() {
            match item.get_ref().as_str() {
                Some(raw) => found.push(self.document.substituted(raw, item.span())),
                None => self.wrong(key, item, "an array of strings"),
            }
        }
        Some(found)
    }

    pub(super) fn boolean(&mut self, key: &str) -> Option<bool> {
        let value = self.take(key)?;
        if value.get_ref().as_bool().is_none() {
            self.wrong(key, value, "true or false");
        }
        value.get_ref().as_bool()
    }

    /// A whole number within `range`.
    pub(super) fn number(&mut self, key: &str, range: std::ops::RangeInclusive<u64>) -> Option<u64> {
        let value = self.take(key)?;
        let parsed = value.get_ref().as_integer().map(|digits| {
            u64::from_str_radix(digits.as_str(), digits.radix()).ok().filter(|number| range.contains(number))
        });
        match parsed {
            Some(Some(number)) => return Some(number),
            Some(None) => self.document.mistake(
                &value.span(),
                format!("{} must be from {} to {}", self.full(key), range.start(), range.end()),
                format!("See the commented example of {}.", self.document.file_name()),
            ),
            None => self.wrong(key, value, "a whole number"),
        }
        None
    }

    /// Every key that was not asked for yet, with its value: for tables whose keys are names that people choose.
    pub(super) fn named(&mut self) -> Vec<(At<String>, Named<'d>)> {
        let mut found = Vec::new();
        for (key, value) in self.table.into_iter().flatten() {
            let name = key.get_ref().to_string();
            if self.used.insert(name.clone()) {
                let full = self.full(&name);
                found.push((
                    At { value: name, span: key.span() },
                    Named { document: self.document, name: full, value },
                ));
            }
        }
        // The tree is sorted by name; people read their files from top to bottom.
        found.sort_by_key(|(key, _)| key.span.start);
        found
    }

    /// Every key that nobody asked for is a mistake.
    pub(super) fn finish(self) {
        for (key, _) in self.table.into_iter().flatten() {
            if !self.used.contains(key.get_ref().as_ref()) {
                let known: Vec<&str> = self.used.iter().map(String::as_str).collect();
                self.document.mistake(
                    &key.span(),
                    format!("unknown key {}", self.full(key.get_ref())),
                    format!("Known here: {}.", known.join(", ")),
                );
            }
        }
    }
}

/// The value of a key that people chose.
pub(super) struct Named<'d> {
    document: &'d Document,
    name: String,
    value: &'d Spanned<DeValue<'d>>,
}

impl<'d> Named<'d> {
    pub(super) fn text(&self) -> Option<Text> {
        Some(self.document.substituted(self.value.get_ref().as_str()?, self.value.span()))
    }

    pub(super) fn section(&self) -> Option<Section<'d>> {
        section_of(self.document, self.name.clone(), self.value)
    }

    pub(super) fn texts(&self) -> Option<Vec<Text>> {
        let array = self.value.get_ref().as_array()?;
        array
            .iter()
            .map(|item| Some(self.document.substituted(item.get_ref().as_str()?, item.span())))
            .collect()
    }

    pub(super) fn wrong(&self, expected: &str, hint: &str) {
        let found = kind_of(self.value.get_ref());
        self.document.mistake(
            &self.value.span(),
            format!("{} must be {expected}, not {found}", self.name),
            hint,
        );
    }
}

fn section_of<'d>(
    document: &'d Document,
    name: String,
    value: &'d Spanned<DeValue<'d>>,
) -> Option<Section<'d>> {
    let table = value.get_ref().as_table()?;
    Some(Section { document, name, table: Some(table), span: value.span(), used: BTreeSet::new() })
}

fn kind_of(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}

impl Document {
    pub(super) fn file_name(&self) -> String {
        self.path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    }
}

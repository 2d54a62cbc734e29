//! SQL text → what it means for tagged columns. The only place that names `sqlparser`.
//!
//! Three steps, each of which may end the work: our own lexer (exact for PostgreSQL) sees whether a word in the text can
//! lead to a tagged column at all; statements about the session are read from their tokens; what is left is parsed,
//! checked token by token against the parser's own reading and print, and typed ([`lineage`]).
//!
//! Guarantees: what is sent in place of the text is the print of what was checked; a text passes unread only when no word
//! in it leads to a tagged relation; errors name constructs and columns, never values.
//! Deliberately absent: policy, keys, the wire.

pub mod agree;
mod copy;
mod depth;
pub mod echo;
mod kinds;
pub mod lex;
pub mod lineage;
pub mod literal;
mod names;
mod parse;
pub mod problem;
mod reach;
mod routine;
mod session;
pub mod shape;
pub mod spelling;
mod stand_in;
mod unresolved;
mod words;

pub use copy::{CopyFormat, CopyOptions};
pub use lineage::{Context, Definition, Effects, Known, Lineage, NO_NAMES, NameKind, Named, Ours};
pub use names::{executed, names};
pub use problem::{Problem, Trouble};
pub use reach::{gathering, unguarded_call};
pub use session::{Local, check_pinned};
pub use unresolved::unresolved;

use crate::catalog::Catalog;
use lex::{Kind, Token};
use parse::{NotParsed, Parsed};
use session::Session;
use shape::Lines;
use std::ops::Range;
use words::{Folded, Words};

/// What one statement is to us.
#[derive(Clone, Debug)]
pub enum Understood {
    /// Nothing tagged is in reach: the text goes as it is.
    Pass(Effects),
    /// A word in it could lead to something tagged, but on this path, in this catalog, none does.
    Untouched(Effects),
    Lineage(Box<Lineage>),
    Local(Local),
}

/// The statements of a text, by their tokens (comments left out).
pub struct Script {
    pub statements: Vec<StatementText>,
}

/// One statement of a text.
pub struct StatementText {
    /// Byte range in the client's text.
    pub span: Range<usize>,
    pub tokens: Vec<Token>,
    /// What the words among them stand for.
    folded: Folded,
}

impl StatementText {
    fn new(text: &str, span: Range<usize>, tokens: Vec<Token>) -> StatementText {
        let folded = Folded::new(text, &tokens);
        StatementText { span, tokens, folded }
    }

    /// Its words; `text` is the one that it was split from.
    pub(crate) fn words<'s>(&'s self, text: &'s str) -> Words<'s> {
        Words { text, tokens: &self.tokens, folded: &self.folded }
    }
}

/// Splits a text into statements, as the server's lexer would.
///
/// # Errors
/// It does not lex: what the server would say of it.
pub fn split(text: &str) -> Result<Script, lex::LexError> {
    let tokens = lex::lex(text)?;
    let spans = agree::split_statements(text, &tokens);
    if let [span] = spans.as_slice()
        && tokens.iter().all(|token| token.span.end <= span.end)
    {
        return Ok(Script { statements: vec![StatementText::new(text, span.clone(), tokens)] });
    }
    let mut rest = tokens.as_slice();
    let statements = spans
        .into_iter()
        .map(|span| {
            // Spans follow each other, and so do tokens.
            let before = rest.partition_point(|token| token.span.start < span.start);
            let inside = rest.partition_point(|token| token.span.end <= span.end).max(before);
            let tokens = rest.get(before..inside).unwrap_or_default().to_vec();
            rest = rest.get(inside..).unwrap_or_default();
            StatementText::new(text, span, tokens)
        })
        .filter(|statement| !statement.tokens.is_empty())
        .collect();
    Ok(Script { statements })
}

/// Statements that name a tagged relation without reading or writing its columns' values.
const HARMLESS_WITH_TAGGED_NAME: &[&str] = &[
    "abort",
    "analyze",
    "analyse",
    "begin",
    "checkpoint",
    "close",
    "cluster",
    "comment",
    "commit",
    "deallocate",
    "discard",
    "drop",
    "end",
    "grant",
    "listen",
    "lock",
    "notify",
    "reassign",
    "refresh",
    "reindex",
    "release",
    "reset",
    "revoke",
    "rollback",
    "savepoint",
    "security",
    "set",
    "show",
    "start",
    "truncate",
    "unlisten",
    "vacuum",
];

/// CREATE and ALTER of these kinds name a tagged relation without touching its columns' types or values.
const HARMLESS_KINDS: &[&str] =
    &["sequence", "statistics", "publication", "subscription", "default", "role", "user"];

/// What one statement of `text` means in `context`. `declared` is the number of parameter types the client declared.
///
/// # Errors
/// A [`Problem`] that becomes the client's refusal.
pub fn understand(
    text: &str,
    statement: &StatementText,
    declared: usize,
    context: &Context<'_>,
) -> Result<Understood, Problem> {
    let words = statement.words(text);
    let effects = match session::read(&words, context.catalog)? {
        Session::Local(local) => return Ok(Understood::Local(local)),
        Session::Effects(effects) => effects,
    };
    if let Some(understood) = names::by_name(text, statement, &words, declared, effects, context)? {
        return Ok(understood);
    }
    if !context.catalog.has_tags() {
        return Ok(Understood::Pass(effects));
    }
    routine::check(&words, context.catalog)?;
    schema_stays(&words, context.catalog)?;
    let sensitive = context.catalog.sensitive_names();
    // Behind an escape character of its own choice, a name could be any name.
    let disguised = statement.tokens.iter().any(|token| token.kind == Kind::UnicodeIdent)
        && words.any_word(|word| word == "uescape");
    if !disguised && !words.any_word(|word| sensitive.contains(word)) {
        let reads = matches!(words.keyword(0), "select" | "with");
        if !reads || !words.any_word(|word| lineage::introspect::NAMES.contains(&word)) {
            return Ok(Understood::Pass(effects));
        }
        // What cannot be read of it shows the sealed types, and no value.
        let read = parsed(text, statement, &words, declared, effects, context);
        return Ok(match read {
            Ok(understood @ Understood::Lineage(_)) => understood,
            _ => Understood::Pass(effects),
        });
    }
    let first = words.keyword(0);
    if HARMLESS_WITH_TAGGED_NAME.contains(&first) {
        return Ok(Understood::Pass(effects));
    }
    if is_harmless(&words) {
        return Ok(Understood::Pass(effects));
    }
    if first == "copy" {
        return copied(text, statement, declared, effects, context);
    }
    parsed(text, statement, &words, declared, effects, context)
}

/// Tags name schemas: one that has tagged tables keeps its name.
fn schema_stays(words: &Words<'_>, catalog: &Catalog) -> Result<(), Problem> {
    if words.keyword(0) != "alter" || words.keyword(1) != "schema" || words.keyword(3) != "rename" {
        return Ok(());
    }
    let schema = words.word(2);
    let tagged = catalog.relations.values().any(|relation| relation.schema == schema && relation.is_tagged())
        || catalog.tags.keys().any(|(named, _)| *named == schema);
    if !tagged {
        return Ok(());
    }
    let message = format!("renaming schema {schema} is not supported");
    Err(Problem::new(Trouble::SealedUse, "0A000", message)
        .detail("Columns of its tables are tagged.")
        .hint("Change tags.toml first, reload, and then rename the schema."))
}

/// CREATE and ALTER that name a tagged table without touching its columns' types or values.
fn is_harmless(words: &Words<'_>) -> bool {
    let first = words.keyword(0);
    // The kind's own place, for a table may have any of these names.
    let modified = matches!(words.keyword(1), "temp" | "temporary" | "unlogged");
    let kind = words.keyword(if first == "create" && modified { 2 } else { 1 });
    let harmless = HARMLESS_KINDS.contains(&kind) || first == "alter" && matches!(kind, "index" | "trigger");
    harmless && matches!(first, "alter" | "create")
}

/// COPY: its own syntax is ours to read, the query in it is read as every other.
fn copied(
    text: &str,
    statement: &StatementText,
    declared: usize,
    effects: Effects,
    context: &Context<'_>,
) -> Result<Understood, Problem> {
    with_room(text, statement, || {
        let read = copy::read(text, &statement.tokens)?;
        let (query, lines) = match &read.source {
            copy::Source::Table { .. } => (None, Lines::new(text, statement.span.clone())),
            copy::Source::Query(span, tokens) => {
                let tokens = statement.tokens.get(tokens.clone()).unwrap_or_default().to_vec();
                let inside = StatementText::new(text, span.clone(), tokens);
                (Some(tree(text, &inside, &inside.words(text))?), Lines::new(text, span.clone()))
            }
        };
        Ok(read_as(lineage::copy::analyse(&read, query, lines, declared, context)?, effects))
    })
}

/// Does what makes a tree of the statement, walks over it and drops it.
fn with_room<R>(text: &str, statement: &StatementText, walk: impl FnOnce() -> R) -> R {
    depth::with_room(depth::of(text, &statement.tokens), walk)
}

/// What lineage found, with the effects that the tokens told of.
fn read_as(lineage: Option<Lineage>, effects: Effects) -> Understood {
    let Some(mut lineage) = lineage else { return Understood::Untouched(effects) };
    lineage.effects.path |= effects.path;
    lineage.effects.catalog |= effects.catalog;
    Understood::Lineage(Box::new(lineage))
}

fn parsed(
    text: &str,
    statement: &StatementText,
    words: &Words<'_>,
    declared: usize,
    effects: Effects,
    context: &Context<'_>,
) -> Result<Understood, Problem> {
    with_room(text, statement, || {
        let tree = tree(text, statement, words)?;
        let lines = Lines::new(text, statement.span.clone());
        Ok(read_as(lineage::analyse(tree, lines, declared, context)?, effects))
    })
}

/// The statement's tree, when it holds all that the text does.
fn tree(text: &str, statement: &StatementText, words: &Words<'_>) -> Result<Parsed, Problem> {
    let refuse = || {
        let mut name = words.keyword(0).to_ascii_uppercase();
        if matches!(name.as_str(), "CREATE" | "ALTER") {
            let kind = if words.keyword(1) == "or" { 3 } else { 1 };
            name = format!("{name} {}", words.keyword(kind).to_ascii_uppercase());
        }
        Problem::not_understood(&format!("statement {name}"))
    };
    if statement.tokens.iter().any(|token| matches!(token.kind, Kind::UnicodeIdent | Kind::UnicodeString)) {
        return Err(Problem::not_understood("a U& spelling").hint("Write the name or string without U&."));
    }
    if depth::is_exceeded(text, &statement.tokens) {
        return Err(Problem::new(Trouble::NotUnderstood, "54001", "stack depth limit exceeded")
            .hint("Nest less, and make chains of operators shorter."));
    }
    parse::one(&text[statement.span.clone()], true).map_err(|reason| match reason {
        NotParsed::Ambiguous => refuse().detail("Its tokens can be read in more than one way."),
        NotParsed::Lost => refuse().detail("Part of it would be lost when it is printed again."),
        NotParsed::At(location) => {
            let at = location.and_then(|at| Lines::new(text, statement.span.clone()).offset(at));
            // A word can be a name, never a value.
            let word = statement.tokens.iter().find(|token| Some(token.span.start) == at);
            match word.filter(|token| token.kind == Kind::Word) {
                Some(word) => {
                    refuse().detail(format!("It cannot be read from \"{}\" on.", word.text(text))).at(at)
                }
                None => refuse().at(at),
            }
        }
    })
}

/// How one statement's text is read, were anything tagged in its reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reading {
    /// By its tokens: about the session, COPY, or harmless whatever it names.
    Tokens,
    /// Parsed; this is what would be sent, with nothing in it changed. It has the text's tokens.
    Parsed(String),
    /// Not: it passes where none of its words leads to a tagged relation, and is refused where one does.
    Lexical,
}

/// Reads one statement by itself.
///
/// # Errors
/// The server's scanner would not take it, or the session may not do what it does.
pub fn read(text: &str) -> Result<Reading, Problem> {
    let unreadable = |error: lex::LexError| Problem::new(Trouble::Mismatch, "42601", error.message);
    let tokens = lex::lex(text).map_err(unreadable)?;
    let folded = Folded::new(text, &tokens);
    let words = Words { text, tokens: &tokens, folded: &folded };
    let first = words.keyword(0);
    let by_tokens = matches!(session::read(&words, &Catalog::default())?, Session::Local(_));
    if by_tokens || first == "copy" || HARMLESS_WITH_TAGGED_NAME.contains(&first) || is_harmless(&words) {
        return Ok(Reading::Tokens);
    }
    let nests = depth::of(text, &tokens);
    if nests > depth::DEPTH_MAX {
        return Ok(Reading::Lexical);
    }
    Ok(depth::with_room(nests, || match parse::one(text, true) {
        Ok(parsed) => Reading::Parsed(parsed.stand_ins.restore(parsed.statement.to_string())),
        Err(_) => Reading::Lexical,
    }))
}

/// The options of a COPY statement, by themselves.
///
/// # Errors
/// As [`understand`].
pub fn copy_options(text: &str) -> Result<CopyOptions, Problem> {
    let tokens = lex::lex(text).map_err(|_| Problem::not_understood("this form of COPY"))?;
    copy::read(text, &tokens).map(|copy| copy.options)
}

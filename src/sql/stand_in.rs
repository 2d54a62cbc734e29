//! Parts of PostgreSQL's grammar that the parser lacks: while a statement is parsed, something that it has stands in for
//! them, and in what is printed they stand again.
//!
//! Only parts that hold no expression with a column or parameter in it: row locks (`FOR NO KEY UPDATE OF a, b`), `CURRENT OF`,
//! what ends a definition (`WITH CHECK OPTION`), `TABLE t`, `(c).*`, the `LIKE t INCLUDING …` of a new table, a trigger's
//! constants, actions of ALTER TABLE on storage and the like; clauses of queries and targets (`clauses.rs`), and SQL/JSON
//! (`json.rs`). Guarantees: a stand-in is marked by a character that the text does not have, so nothing of the client's is
//! taken for one; what a part names (the table of LIKE, the columns of CYCLE) is handed to lineage, which resolves it.
//! Deliberately absent: what these mean, which `lineage` says.

mod clauses;
mod json;

use super::lex::{Kind, Token};
use super::spelling::fold_identifier;
use sqlparser::tokenizer::{Token as Theirs, TokenWithSpan};

/// What stood in for what, in one statement.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct StandIns {
    parts: Vec<StandIn>,
    /// What comes after all that is printed.
    last: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct StandIn {
    marker: String,
    /// As the parser prints it.
    phrase: String,
    /// What is sent in its place.
    part: String,
    meaning: Meaning,
}

/// What lineage must know of a part.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Meaning {
    /// Nothing: no value or column is in it.
    #[default]
    Text,
    Like(Like),
    /// An element or field of this column is assigned.
    Element(String),
    /// `ROWS FROM (…)`: a function of functions.
    RowsFrom,
    /// `JSON_TABLE (…)`, by the names of its columns.
    JsonTable(Vec<String>),
    /// `SEARCH … CYCLE …`: the columns that it reads, and those that it makes.
    Recursion {
        reads: Vec<String>,
        makes: Vec<String>,
    },
    /// `JSON_ARRAY(SELECT …)`.
    JsonArray,
    /// How a JSON constructor ends: with this type, if any.
    JsonClauses {
        returning: Option<String>,
    },
    /// The alias of a function that has only a list of columns.
    Unnamed,
}

/// `LIKE t INCLUDING …` among the columns of a new table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Like {
    /// The parts of the table's name, folded.
    pub(super) name: Vec<String>,
    options: String,
}

/// A statement with its stand-ins.
pub(super) struct Replaced {
    pub(super) tokens: Vec<TokenWithSpan>,
    /// The text that the print has to echo.
    pub(super) text: String,
    pub(super) stand_ins: StandIns,
}

impl StandIns {
    /// A printed statement, with the parts in their places.
    pub(super) fn restore(&self, printed: String) -> String {
        let parts = self.parts.iter();
        let mut text = parts.fold(printed, |text, stand_in| text.replace(&stand_in.phrase, &stand_in.part));
        if !self.last.is_empty() {
            text.push(' ');
            text.push_str(&self.last);
        }
        text
    }

    /// What a name stands for.
    pub(super) fn meaning(&self, marker: &str) -> Option<&Meaning> {
        self.parts.iter().find(|stand_in| stand_in.marker == marker).map(|stand_in| &stand_in.meaning)
    }

    /// What a name stands for, as it was written, for messages.
    pub(super) fn part(&self, marker: &str) -> Option<&str> {
        self.parts.iter().find(|stand_in| stand_in.marker == marker).map(|stand_in| stand_in.part.as_str())
    }

    /// What the column of a new table stands for.
    pub(super) fn like(&self, column: &str) -> Option<&Like> {
        match self.meaning(column)? {
            Meaning::Like(like) => Some(like),
            _ => None,
        }
    }

    /// Names the table of a LIKE as the catalog does: `table` is quoted and qualified.
    pub(super) fn qualify_like(&mut self, column: &str, table: &str) {
        for stand_in in self.parts.iter_mut().filter(|stand_in| stand_in.marker == column) {
            if let Meaning::Like(like) = &stand_in.meaning {
                stand_in.part = format!("LIKE {table} {}", like.options).trim_end().to_owned();
            }
        }
    }
}

/// A part that was found: how many tokens it is, what stands in for it, and how that is printed.
struct Found {
    length: usize,
    tokens: Vec<Theirs>,
    /// What the print has for it, to be replaced.
    phrase: Option<String>,
    /// What is printed in its place for good: another spelling of the same.
    same: String,
    meaning: Meaning,
}

impl Found {
    fn new(length: usize, tokens: Vec<Theirs>, phrase: String) -> Found {
        Found { length, tokens, phrase: Some(phrase), same: String::new(), meaning: Meaning::Text }
    }

    fn same(length: usize, tokens: Vec<Theirs>, same: String) -> Found {
        Found { length, tokens, phrase: None, same, meaning: Meaning::Text }
    }

    fn meaning(self, meaning: Meaning) -> Found {
        Found { meaning, ..self }
    }
}

/// Replaces what the parser lacks in `sql`, whose tokens are given as PostgreSQL and as the parser sees them. `None`:
/// there is nothing of it.
pub(super) fn stand_in(sql: &str, tokens: &[Token], theirs: &[TokenWithSpan]) -> Option<Replaced> {
    let fence = ('\u{F0000}'..='\u{FFFFD}').find(|c| !sql.contains(*c))?;
    let text = Text { sql, tokens };
    let mut replaced = Replaced { tokens: vec![], text: String::new(), stand_ins: StandIns::default() };
    let mut theirs = theirs.iter().filter(|token| !matches!(token.token, Theirs::Whitespace(_)));
    let (mut at, mut copied) = (0, 0);
    while at < tokens.len() {
        let marker = format!("{fence}{}{fence}", replaced.stand_ins.parts.len());
        if text.is_last(at) {
            let span = text.span(at, tokens.len() - at)?;
            replaced.text.push_str(sql.get(copied..span.start)?);
            replaced.stand_ins.last = sql.get(span)?.to_owned();
            return Some(replaced);
        }
        let Some(found) = text.found(at, &marker) else {
            replaced.tokens.extend(theirs.next().cloned());
            at += 1;
            continue;
        };
        let span = text.span(at, found.length)?;
        let standing: Vec<&TokenWithSpan> = theirs.by_ref().take(found.length).collect();
        let first = standing.first()?.span;
        for token in found.tokens {
            replaced.tokens.push(TokenWithSpan { token, span: first });
        }
        replaced.text.push_str(sql.get(copied..span.start)?);
        replaced.text.push_str(found.phrase.as_deref().unwrap_or(&found.same));
        copied = span.end;
        if let Some(phrase) = found.phrase {
            // What stood behind something else without a comma.
            let space = if phrase.starts_with(',') { " " } else { "" };
            let part = format!("{space}{}", sql.get(span)?);
            replaced.stand_ins.parts.push(StandIn { marker, phrase, part, meaning: found.meaning });
        }
        at += found.length;
    }
    if copied == 0 {
        return None;
    }
    replaced.text.push_str(sql.get(copied..)?);
    Some(replaced)
}

fn word(text: &str) -> Theirs {
    Theirs::make_word(text, None)
}

/// Actions of ALTER TABLE that touch neither names, types nor values. `_` is any one token; what follows is the action's own.
const ACTIONS: &[&[&str]] = &[
    &["cluster", "on"],
    &["set", "without"],
    &["set", "tablespace"],
    &["set", "access", "method"],
    &["not", "of"],
    &["alter", "constraint"],
    &["alter", "_", "set", "statistics"],
    &["alter", "_", "set", "storage"],
    &["alter", "_", "set", "compression"],
    &["alter", "_", "set", "generated"],
    &["alter", "_", "set", "("],
    &["alter", "_", "reset"],
    &["alter", "_", "restart"],
    &["alter", "_", "drop", "identity"],
    &["alter", "column", "_", "set", "statistics"],
    &["alter", "column", "_", "set", "storage"],
    &["alter", "column", "_", "set", "compression"],
    &["alter", "column", "_", "set", "generated"],
    &["alter", "column", "_", "set", "("],
    &["alter", "column", "_", "reset"],
    &["alter", "column", "_", "restart"],
    &["alter", "column", "_", "drop", "identity"],
    // As pg_dump makes one; of a sealed column, which has no integer's type, the server refuses it.
    &["alter", "column", "_", "add", "generated", "always", "as", "identity", "(", "sequence", "name"],
    &["alter", "column", "_", "add", "generated", "by", "default", "as", "identity", "(", "sequence", "name"],
];

struct Text<'a> {
    sql: &'a str,
    tokens: &'a [Token],
}

impl Text<'_> {
    fn is(&self, at: usize, expected: &str) -> bool {
        self.tokens.get(at).is_some_and(|token| {
            expected == "_" || token.is_word(self.sql, expected) || token.is_symbol(self.sql, expected)
        })
    }

    fn are(&self, at: usize, expected: &[&str]) -> bool {
        expected.iter().zip(at..).all(|(word, at)| self.is(at, word))
    }

    fn before(&self, at: usize, expected: &[&str]) -> bool {
        at > 0 && expected.iter().any(|word| self.is(at - 1, word))
    }

    fn span(&self, at: usize, length: usize) -> Option<std::ops::Range<usize>> {
        let (first, last) = (self.tokens.get(at)?, self.tokens.get(at + length - 1)?);
        Some(first.span.start..last.span.end)
    }

    /// The tokens of `name` or `schema.name` at `at`; 0 where none stands.
    fn name(&self, at: usize) -> usize {
        let identifier = |at: usize| self.tokens.get(at).is_some_and(Token::is_identifier);
        if !identifier(at) {
            return 0;
        }
        let mut length = 1;
        while self.is(at + length, ".") && identifier(at + length + 1) {
            length += 2;
        }
        length
    }

    /// The part at a token that needs a stand-in.
    fn found(&self, at: usize, marker: &str) -> Option<Found> {
        self.action(at, marker)
            .or_else(|| self.lock(at, marker))
            .or_else(|| self.on_only(at, marker))
            .or_else(|| self.current_of(at, marker))
            .or_else(|| self.table(at))
            .or_else(|| self.star(at))
            .or_else(|| self.spelled_out(at))
            .or_else(|| self.variadic(at, marker))
            .or_else(|| self.like(at, marker))
            .or_else(|| self.trigger_arguments(at, marker))
            .or_else(|| self.clause(at, marker))
            .or_else(|| self.json(at, marker))
    }

    /// `FOR NO KEY UPDATE`, `FOR KEY SHARE`, and any lock of several tables (`for_locking_item`).
    fn lock(&self, at: usize, marker: &str) -> Option<Found> {
        if !self.before(at, &["for"]) {
            return None;
        }
        let strengths = [
            (&["update"][..], "UPDATE", false),
            (&["share"][..], "SHARE", false),
            (&["no", "key", "update"][..], "UPDATE", true),
            (&["key", "share"][..], "SHARE", true),
        ];
        let (words, kind, unknown) = strengths.into_iter().find(|(words, _, _)| self.are(at, words))?;
        let (mut length, mut tables) = (words.len(), 0);
        if self.is(at + length, "of") {
            loop {
                let name = self.name(at + length + 1);
                if name == 0 {
                    return None;
                }
                (length, tables) = (length + 1 + name, tables + 1);
                if !self.is(at + length, ",") {
                    break;
                }
            }
        }
        let tokens = vec![word(kind), word("OF"), word(marker)];
        (unknown || tables > 1).then(|| Found::new(length, tokens, format!("{kind} OF {marker}")))
    }

    /// `WHERE CURRENT OF cursor`.
    fn current_of(&self, at: usize, marker: &str) -> Option<Found> {
        let fits = self.before(at, &["where"]) && self.are(at, &["current", "of"]) && self.name(at + 2) == 1;
        fits.then(|| Found::new(3, vec![word(marker)], marker.to_owned()))
    }

    /// `TABLE t` where a query may stand: it is `SELECT * FROM t` (`simple_select`).
    fn table(&self, at: usize) -> Option<Found> {
        let places = ["(", "union", "except", "intersect", "all", "distinct", "for", "explain", "analyze"];
        // After another AS it is a label.
        let defines = self.is(0, "create") || self.is(0, "prepare");
        let place = at == 0 || self.before(at, &places) || defines && self.before(at, &["as"]);
        let labels = ["from", "where", "union", "except", "intersect", "order", "limit", "group"];
        let fits = place && self.is(at, "table") && !labels.iter().any(|word| self.is(at + 1, word));
        let named = self.name(at + 1) > 0 && !self.is(at + 2, "(");
        let query = vec![word("SELECT"), Theirs::Mul, word("FROM")];
        (fits && named && !self.is(at + 1, "function"))
            .then(|| Found::same(1, query, "SELECT * FROM".to_owned()))
    }

    /// `(c).*` in a select list: `c.*`.
    fn star(&self, at: usize) -> Option<Found> {
        let place = self.before(at, &["select", ",", "distinct", "all", "returning"]);
        if !place || !self.is(at, "(") || self.name(at + 1) != 1 || !self.are(at + 2, &[")", ".", "*"]) {
            return None;
        }
        let name = self.tokens.get(at + 1)?;
        let token = match name.kind {
            Kind::QuotedIdent => Theirs::make_word(&fold_identifier(name.text(self.sql)), Some('"')),
            _ => word(name.text(self.sql)),
        };
        let same = format!("{}.*", name.text(self.sql));
        Some(Found::same(5, vec![token, Theirs::Period, Theirs::Mul], same))
    }

    /// What may be left out, or is written in one word: `ALTER a SET NOT NULL`, `RENAME a TO b`, `a ISNULL`.
    fn spelled_out(&self, at: usize) -> Option<Found> {
        let alters = self.are(0, &["alter", "table"]);
        let column = self.name(at + 1) == 1 && !self.is(at + 1, "column") && !self.is(at + 1, "constraint");
        let changed = ["set", "drop", "type", "add"].iter().any(|word| self.is(at + 2, word));
        if alters && at > 2 && self.is(at, "alter") && column && changed {
            return Some(Found::same(1, vec![word("ALTER"), word("COLUMN")], "ALTER COLUMN".to_owned()));
        }
        if alters
            && at > 2
            && self.is(at, "rename")
            && column
            && self.is(at + 2, "to")
            && !self.is(at + 1, "to")
        {
            return Some(Found::same(1, vec![word("RENAME"), word("COLUMN")], "RENAME COLUMN".to_owned()));
        }
        let operand = at > 0
            && self.tokens.get(at - 1).is_some_and(|token| {
                token.is_identifier() || token.is_symbol(self.sql, ")") || token.is_symbol(self.sql, "]")
            })
            && !self.before(at, &["as", "and", "or", "not", "where", "select", "when", "on", "having"]);
        if operand && !self.is(at + 1, "(") && !self.is(at + 1, ".") {
            if self.is(at, "isnull") {
                return Some(Found::same(1, vec![word("IS"), word("NULL")], "IS NULL".to_owned()));
            }
            if self.is(at, "notnull") {
                let tokens = vec![word("IS"), word("NOT"), word("NULL")];
                return Some(Found::same(1, tokens, "IS NOT NULL".to_owned()));
            }
        }
        None
    }

    /// `f(VARIADIC array)`, as if it were an argument with a name.
    fn variadic(&self, at: usize, marker: &str) -> Option<Found> {
        let fits = self.is(at, "variadic") && self.before(at, &["(", ","]) && !self.is(0, "create");
        fits.then(|| Found::new(1, vec![word(marker), Theirs::RArrow], format!("{marker} =>")))
    }

    /// `CREATE INDEX i ON ONLY t`.
    fn on_only(&self, at: usize, marker: &str) -> Option<Found> {
        let named = usize::from(!self.is(at, "on"));
        let place = self.is(0, "create")
            && self.before(at, &["index", "concurrently", "exists"])
            && self.are(at + named, &["on", "only"])
            && self.name(at) == 1;
        place.then(|| Found::new(2 + named, vec![word(marker), word("ON")], format!("{marker} ON")))
    }

    /// What ends a definition: `WITH CHECK OPTION`, `WITH NO DATA`, `TABLESPACE x`.
    fn is_last(&self, at: usize) -> bool {
        let rest = self.tokens.len() - at;
        let ends: [&[&str]; 6] = [
            &["with", "check", "option"],
            &["with", "cascaded", "check", "option"],
            &["with", "local", "check", "option"],
            &["with", "data"],
            &["with", "no", "data"],
            &["tablespace", "_"],
        ];
        self.is(0, "create") && ends.iter().any(|end| end.len() == rest && self.are(at, end))
    }

    /// `LIKE t INCLUDING …` among the columns of CREATE TABLE (`TableLikeClause`).
    fn like(&self, at: usize, marker: &str) -> Option<Found> {
        let creates = self.is(0, "create") && (1..4).any(|at| self.is(at, "table"));
        let name = self.name(at + 1);
        if !creates || !self.is(at, "like") || !self.before(at, &["(", ","]) || name == 0 {
            return None;
        }
        let mut length = 1 + name;
        while self.is(at + length, "including") || self.is(at + length, "excluding") {
            length += 2;
        }
        if !self.is(at + length, ",") && !self.is(at + length, ")") {
            return None;
        }
        let text = |token: &Token| fold_identifier(token.text(self.sql));
        let parts = self.tokens.get(at + 1..at + 1 + name)?;
        let options = match length - 1 - name {
            0 => String::new(),
            options => self.sql.get(self.span(at + 1 + name, options)?)?.to_owned(),
        };
        let like = Like { name: parts.iter().step_by(2).map(text).collect(), options };
        let tokens = vec![word(marker), word("TEXT")];
        Some(Found::new(length, tokens, format!("{marker} TEXT")).meaning(Meaning::Like(like)))
    }

    /// The constants that a trigger hands its function (`TriggerFuncArgs`).
    fn trigger_arguments(&self, at: usize, marker: &str) -> Option<Found> {
        let creates = self.is(0, "create") && (1..4).any(|at| self.is(at, "trigger"));
        if !creates || !self.before(at, &["("]) || self.is(at, ")") {
            return None;
        }
        // `EXECUTE FUNCTION name (`, with the name before the parenthesis.
        let called = (2..8).any(|back| {
            at > back + 1
                && self.is(at - back - 2, "execute")
                && (self.is(at - back - 1, "function") || self.is(at - back - 1, "procedure"))
                && self.name(at - back) == back - 1
        });
        let constants = self.tokens.get(at..)?.iter().position(|token| token.is_symbol(self.sql, ")"))?;
        called.then(|| Found::new(constants, vec![word(marker), word("INT")], format!("{marker} INT")))
    }

    /// An action of ALTER TABLE that is among [`ACTIONS`].
    fn action(&self, at: usize, marker: &str) -> Option<Found> {
        if !self.are(0, &["alter", "table"]) || !ACTIONS.iter().any(|action| self.are(at, action)) {
            return None;
        }
        let mut first = 2;
        if self.are(first, &["if", "exists"]) {
            first += 2;
        }
        first += usize::from(self.is(first, "only"));
        first += self.name(first);
        first += usize::from(self.is(first, "*"));
        let mut depth = 0_usize;
        let mut length = self.tokens.len() - at;
        for (index, token) in self.tokens.iter().enumerate().skip(first) {
            match token.text(self.sql) {
                _ if token.kind != Kind::Punct => {}
                "(" => depth += 1,
                ")" => depth = depth.saturating_sub(1),
                "," | ";" if depth == 0 && index < at => first = index + 1,
                "," | ";" if depth == 0 => {
                    length = index - at;
                    break;
                }
                _ => {}
            }
        }
        let tokens = vec![word("VALIDATE"), word("CONSTRAINT"), word(marker)];
        (first == at).then(|| Found::new(length, tokens, format!("VALIDATE CONSTRAINT {marker}")))
    }
}

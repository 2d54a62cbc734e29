//! Clauses of queries, spellings of functions and targets of assignments that the parser lacks.

use super::super::lex::Kind;
use super::super::spelling::fold_identifier;
use super::{Found, Meaning, Text, Theirs, word};

/// The words of a window's frame.
const FRAME: &[&str] = &[
    "between",
    "and",
    "unbounded",
    "preceding",
    "following",
    "current",
    "row",
    "exclude",
    "group",
    "ties",
    "no",
    "others",
    "interval",
];

/// What may begin the parentheses after `WITH x (a) AS`.
const QUERIES: &[&str] = &["select", "with", "values", "table", "insert", "update", "delete", "merge"];

impl Text<'_> {
    pub(super) fn clause(&self, at: usize, marker: &str) -> Option<Found> {
        self.frame(at, marker)
            .or_else(|| self.recursion(at, marker))
            .or_else(|| self.rows_from(at, marker))
            .or_else(|| self.unnamed(at, marker))
            .or_else(|| self.element(at, marker))
            .or_else(|| self.spelled(at, marker))
    }

    /// Whether what stands there is a number or a string.
    pub(super) fn is_constant(&self, at: usize) -> bool {
        self.tokens.get(at).is_some_and(|token| match token.kind {
            Kind::String | Kind::EscapeString | Kind::DollarString | Kind::Number => true,
            Kind::Word
            | Kind::QuotedIdent
            | Kind::UnicodeIdent
            | Kind::UnicodeString
            | Kind::NationalString
            | Kind::BitString
            | Kind::HexString
            | Kind::Param
            | Kind::Operator
            | Kind::Punct
            | Kind::Comment => false,
        })
    }

    pub(super) fn is_any(&self, at: usize, words: &[&str]) -> bool {
        words.iter().any(|word| self.is(at, word))
    }

    /// The name at a token, folded.
    pub(super) fn folded(&self, at: usize) -> Option<String> {
        let token = self.tokens.get(at).filter(|token| token.is_identifier())?;
        Some(fold_identifier(token.text(self.sql)))
    }

    /// Names with commas between them: what they are, and the token after them.
    pub(super) fn listed(&self, mut at: usize) -> Option<(Vec<String>, usize)> {
        let mut names = vec![self.folded(at)?];
        while self.is(at + 1, ",") {
            names.push(self.folded(at + 2)?);
            at += 2;
        }
        Some((names, at + 1))
    }

    /// Where the parenthesis opens that a token stands in.
    pub(super) fn opens(&self, at: usize) -> Option<usize> {
        let mut depth = 0_usize;
        for before in (0..at).rev() {
            match () {
                () if self.is(before, ")") => depth += 1,
                () if self.is(before, "(") && depth == 0 => return Some(before),
                () if self.is(before, "(") => depth -= 1,
                () => {}
            }
        }
        None
    }

    /// Where the parenthesis closes that opens at a token.
    pub(super) fn closes(&self, open: usize) -> Option<usize> {
        let mut depth = 0_usize;
        for at in open..self.tokens.len() {
            if self.is(at, "(") {
                depth += 1;
            } else if self.is(at, ")") {
                depth -= 1;
            }
            if depth == 0 {
                return Some(at);
            }
        }
        None
    }

    /// `ROWS … EXCLUDE …`: a whole frame of constants (`opt_frame_clause`).
    fn frame(&self, at: usize, marker: &str) -> Option<Found> {
        if !self.is_any(at, &["rows", "range", "groups"]) || self.is(at + 1, "from") {
            return None;
        }
        let end = (at + 1..self.tokens.len()).find(|at| self.is(*at, ")"))?;
        let inside = |at: usize| self.is_any(at, FRAME) || self.is_constant(at) || self.is(at, "::");
        let fits =
            (at + 1..end).all(|token| inside(token) || self.is(token - 1, "::") && self.name(token) == 1);
        let excludes = (at + 1..end).any(|token| self.is(token, "exclude"));
        let tokens = vec![word("ROWS"), word(marker), word("PRECEDING")];
        (fits && excludes).then(|| Found::new(end - at, tokens, format!("ROWS {marker} PRECEDING")))
    }

    /// `SEARCH DEPTH FIRST BY a SET b`, `CYCLE a SET b TO 1 DEFAULT 0 USING c`, after the query of a WITH item
    /// (`opt_search_clause`, `opt_cycle_clause`): another item stands in for both.
    fn recursion(&self, at: usize, marker: &str) -> Option<Found> {
        // The look back over all tokens comes last: a text has many.
        if !self.is_any(at, &["search", "cycle"])
            || !self.before(at, &[")"])
            || !self.is(0, "with") && !(0..at).any(|at| self.is(at, "recursive"))
        {
            return None;
        }
        let (mut next, mut reads, mut makes) = (at, vec![], vec![]);
        let one_of_two = self.is(next + 1, "breadth") || self.is(next + 1, "depth");
        if self.is(next, "search") && one_of_two && self.are(next + 2, &["first", "by"]) {
            let (by, after) = self.listed(next + 4).filter(|(_, after)| self.is(*after, "set"))?;
            reads.extend(by);
            makes.push(self.folded(after + 1)?);
            next = after + 2;
        }
        if self.is(next, "cycle") {
            let (by, after) = self.listed(next + 1).filter(|(_, after)| self.is(*after, "set"))?;
            reads.extend(by);
            makes.push(self.folded(after + 1)?);
            next = after + 2;
            if self.is(next, "to") {
                let marks = self.is_mark(next + 1) && self.is(next + 2, "default") && self.is_mark(next + 3);
                next += marks.then_some(4)?;
            }
            makes.push(self.folded(next + 1).filter(|_| self.is(next, "using"))?);
            next += 2;
        }
        let tokens = vec![
            Theirs::Comma,
            word(marker),
            word("AS"),
            Theirs::LParen,
            word("VALUES"),
            Theirs::LParen,
            Theirs::Number("1".to_owned(), false),
            Theirs::RParen,
            Theirs::RParen,
        ];
        let found = Found::new(next - at, tokens, format!(", {marker} AS (VALUES (1))"));
        (next > at).then(|| found.meaning(Meaning::Recursion { reads, makes }))
    }

    fn is_mark(&self, at: usize) -> bool {
        self.is_constant(at) || self.is_any(at, &["true", "false"])
    }

    /// `ROWS FROM (f(…), g(…))`.
    fn rows_from(&self, at: usize, marker: &str) -> Option<Found> {
        // A column called rows has FROM behind it, too.
        let called = self.name(at + 3) > 0 && self.is(at + 3 + self.name(at + 3), "(");
        let place = self.before(at, &["from", "join", ",", "lateral", "using"]);
        let fits = place && self.are(at, &["rows", "from", "("]) && called;
        fits.then(|| Found::new(2, vec![word(marker)], marker.to_owned()).meaning(Meaning::RowsFrom))
    }

    /// `f(…) AS (a int, b text)`.
    fn unnamed(&self, at: usize, marker: &str) -> Option<Found> {
        let defines = self.is(at, "as") && self.is(at + 1, "(") && self.before(at, &[")", "ordinality"]);
        let column = self.name(at + 2) == 1 && self.name(at + 3) > 0 && !self.is_any(at + 2, QUERIES);
        let tokens = vec![word("AS"), word(marker)];
        (defines && column && !self.is(0, "create"))
            .then(|| Found::new(1, tokens, format!("AS {marker}")).meaning(Meaning::Unnamed))
    }

    /// `a[1]`, `a[1:2].b`: an element as the target of an assignment (`set_target`, `insert_column_item`).
    fn element(&self, at: usize, marker: &str) -> Option<Found> {
        let column = self.folded(at).filter(|_| self.is(at + 1, "["))?;
        let mut next = at + 1;
        while self.is(next, "[") || self.is(next, ".") {
            if self.is(next, ".") {
                next += (self.name(next + 1) > 0).then_some(2)?;
                continue;
            }
            let close = (next..self.tokens.len()).find(|at| self.is(*at, "]"))?;
            let constant = |at: usize| self.is_constant(at) || self.is(at, ":") || self.is(at, "-");
            if !(next + 1..close).all(constant) {
                return None;
            }
            next = close + 1;
        }
        let found = Found::new(next - at, vec![word(marker)], marker.to_owned());
        (self.is_set(at, next) || self.is_inserted(at)).then(|| found.meaning(Meaning::Element(column)))
    }

    /// Whether the target that begins at `at` and ends before `next` is one of SET.
    fn is_set(&self, at: usize, next: usize) -> bool {
        let list = self.opens(at).filter(|open| self.before(*open, &["set", ","]));
        let (start, end) = match list {
            Some(open) if self.closes(open).is_some_and(|close| self.is(close + 1, "=")) => (open, next),
            _ if self.is(next, "=") => (at, next),
            _ => return false,
        };
        let mut depth = 0_usize;
        for before in (0..start).rev().filter(|before| *before < end) {
            if self.is(before, ")") {
                depth += 1;
            } else if self.is(before, "(") {
                let Some(outer) = depth.checked_sub(1) else { return false };
                depth = outer;
            } else if depth == 0
                && self.is_any(before, &["from", "where", "returning", "select", "values", "on"])
            {
                return false;
            } else if depth == 0 && self.is(before, "set") {
                return self.before(start, &["set", ","]);
            }
        }
        false
    }

    /// Whether it stands in the list of columns of an INSERT.
    fn is_inserted(&self, at: usize) -> bool {
        if !self.before(at, &["(", ","]) {
            return false;
        }
        let Some(open) = self.opens(at) else { return false };
        let into = (0..open).rev().find(|at| self.is(*at, "into"));
        into.is_some_and(|into| {
            let name = self.name(into + 1);
            let alias = if self.is(into + 1 + name, "as") { 2 } else { 0 };
            name > 0 && into + 1 + name + alias == open
        })
    }

    /// `SUBSTRING(a SIMILAR b ESCAPE c)` is `SUBSTRING(a FROM b FOR c)` (`substr_list`).
    fn similar(&self, at: usize) -> Option<Found> {
        if !self.is_any(at, &["similar", "escape"]) || self.is(at + 1, "to") {
            return None;
        }
        let open = self.opens(at).filter(|open| self.before(*open, &["substring"]))?;
        if self.is(at, "similar") {
            return Some(Found::same(1, vec![word("FROM")], "FROM".to_owned()));
        }
        let similar = (open..at).any(|before| {
            self.is(before, "similar") && !self.is(before + 1, "to") && self.opens(before) == Some(open)
        });
        similar.then(|| Found::same(1, vec![word("FOR")], "FOR".to_owned()))
    }

    /// Other spellings, and noise.
    fn spelled(&self, at: usize, marker: &str) -> Option<Found> {
        if self.are(at, &["limit", "all"]) {
            return Some(Found::same(2, vec![], String::new()));
        }
        if self.are(at, &["between", "asymmetric"]) {
            return Some(Found::same(2, vec![word("BETWEEN")], "BETWEEN".to_owned()));
        }
        // `FETCH FIRST ROW ONLY`: one. As a statement, FETCH has no ROW.
        let ends = self.is(at + 1, "only") || self.are(at + 1, &["with", "ties"]);
        if self.is_any(at, &["row", "rows"]) && ends && !self.is(0, "fetch") {
            let counted = !self.before(at, &["first", "next"]);
            let one = Theirs::Number("1".to_owned(), false);
            let (tokens, same) =
                if counted { (vec![word("ROWS")], "ROWS") } else { (vec![one, word("ROWS")], "1 ROWS") };
            return Some(Found::same(1, tokens, same.to_owned()));
        }
        if let Some(found) = self.similar(at) {
            return Some(found);
        }
        let negated = usize::from(self.is(at, "not"));
        if self.are(at + negated, &["between", "symmetric"]) {
            // Both bounds are operands: of this operator, and of AND.
            let tokens = vec![word("OPERATOR"), Theirs::LParen, word(marker), Theirs::RParen];
            return Some(Found::new(negated + 2, tokens, format!("OPERATOR({marker})")));
        }
        if self.is(at, "distinct") && self.before(at, &["by"]) && self.is(at.checked_sub(2)?, "group") {
            return Some(Found::new(1, vec![word(marker), Theirs::Comma], format!("{marker},")));
        }
        if self.are(at, &["at", "local"]) {
            let tokens = vec![word("AT"), word("TIME"), word("ZONE"), word(marker)];
            return Some(Found::new(2, tokens, format!("AT TIME ZONE {marker}")));
        }
        if self.are(at, &["collation", "for", "("]) {
            return Some(Found::new(2, vec![word(marker)], marker.to_owned()));
        }
        let sides = ["leading", "trailing", "both"];
        if self.is_any(at, &sides)
            && self.is(at + 1, "from")
            && self.before(at, &["("])
            && self.is(at.checked_sub(2)?, "trim")
        {
            let side = self.tokens.get(at)?.text(self.sql).to_ascii_uppercase();
            let tokens = vec![word(&side), word(marker), word("FROM")];
            return Some(Found::new(2, tokens, format!("{side} {marker} FROM")));
        }
        None
    }
}

//! The echo: what is printed from a tree has the tokens of the text it was parsed from.
//!
//! A parser may drop what it does not model and do so stably (`interval(3) '1.2345 sec'` loses its `(3)`), so that
//! re-parsing the print proves nothing. Here both texts are read with PostgreSQL's scanner and compared token by token. The
//! differences that change nothing stand in one table, by name; every other one is a loss.

use std::fmt;

use super::lex::{Kind, LexError, Token, lex};
use super::spelling::{fold_identifier, string_value};

/// A token that the print lost, changed or invented. Carries no text of the statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lost {
    /// The byte of the original at which both part.
    pub at: usize,
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a part that the parser does not keep")
    }
}

impl std::error::Error for Lost {}

/// Compares a statement's own tokens with those of its printed form. `sql` is the text that `original` was scanned from.
pub fn echo(sql: &str, original: &[Token], printed: &str) -> Result<(), Lost> {
    let lost = |_: LexError| Lost { at: original.first().map_or(0, |token| token.span.start) };
    let echoed = lex(printed).map_err(lost)?;
    let mut pair = Pair { mine: Side::new(sql, original), echo: Side::new(printed, &echoed) };
    while !pair.mine.ended() || !pair.echo.ended() {
        let (mine, echo) = if pair.same() {
            (1, 1)
        } else {
            HARMLESS.iter().find_map(|(_, rule)| rule(&pair)).ok_or_else(|| Lost { at: pair.mine.byte() })?
        };
        pair.mine.at += mine;
        pair.echo.at += echo;
    }
    Ok(())
}

/// How many tokens of the original and of the echo a harmless difference covers.
type Rule = fn(&Pair<'_>) -> Option<(usize, usize)>;

/// What may differ, by name.
const HARMLESS: [(&str, Rule); 12] = [
    ("AS before an alias", |pair| pair.optional("as", |side, at| at > 0 && side.identifier(at + 1))),
    ("OUTER in LEFT OUTER JOIN", |pair| {
        let outer = |side: &Side<'_>, at: usize| {
            let direction =
                ["left", "right", "full"].into_iter().any(|word| at > 0 && side.word(at - 1, word));
            direction && side.word(at + 1, "join")
        };
        pair.optional("outer", outer)
    }),
    ("INNER before JOIN", |pair| pair.optional("inner", |side, at| side.word(at + 1, "join"))),
    ("WITH before the options of COPY", |pair| {
        pair.optional("with", |side, at| side.word(0, "copy") && side.symbol(at + 1, "("))
    }),
    ("TEMP for TEMPORARY", |pair| {
        let word = |side: &Side<'_>, word: &str| {
            let after = |before: &str| side.at > 0 && side.word(side.at - 1, before);
            side.word(side.at, word) && ["create", "replace", "into"].into_iter().any(after)
        };
        let short = word(&pair.mine, "temp") && word(&pair.echo, "temporary");
        let long = word(&pair.mine, "temporary") && word(&pair.echo, "temp");
        (short || long).then_some((1, 1))
    }),
    ("TO or = in SET", |pair| {
        let set = |side: &Side<'_>| side.word(0, "set");
        let to = pair.mine.word(pair.mine.at, "to") && pair.echo.symbol(pair.echo.at, "=");
        let equals = pair.mine.symbol(pair.mine.at, "=") && pair.echo.word(pair.echo.at, "to");
        (set(&pair.mine) && set(&pair.echo) && (to || equals)).then_some((1, 1))
    }),
    ("a value of HEADER in COPY", |pair| {
        pair.optional("true", |side, at| side.word(0, "copy") && at > 0 && side.word(at - 1, "header"))
    }),
    ("FIRST or NEXT in FETCH", |pair| {
        let noise = |side: &Side<'_>| {
            let fetch = side.at > 0 && side.word(side.at - 1, "fetch");
            fetch && (side.word(side.at, "first") || side.word(side.at, "next"))
        };
        // Only in the clause: as a statement, `FETCH FIRST` and `FETCH NEXT` are two things.
        (noise(&pair.mine) && noise(&pair.echo) && !pair.mine.word(0, "fetch")).then_some((1, 1))
    }),
    ("OFFSET before LIMIT", |pair| {
        let clause = |side: &Side<'_>, at: usize, word: &str| side.word(at, word) && side.amount(at + 1);
        let (mine, echo) = (pair.mine.at, pair.echo.at);
        let swapped = clause(&pair.mine, mine, "offset")
            && clause(&pair.mine, mine + 2, "limit")
            && clause(&pair.echo, echo, "limit")
            && clause(&pair.echo, echo + 2, "offset");
        (swapped && pair.same_at(mine + 1, echo + 3) && pair.same_at(mine + 3, echo + 1)).then_some((4, 4))
    }),
    ("ON UPDATE before ON DELETE", |pair| {
        // Both begin with ON.
        let (mine, echo) = (pair.mine.at.checked_sub(1)?, pair.echo.at.checked_sub(1)?);
        let clause = |side: &Side<'_>, at: usize, event: &str| {
            let acts = side.word(at, "on") && side.word(at + 1, event);
            let two = side.word(at + 2, "set") || side.word(at + 2, "no");
            acts.then_some(if two { 4 } else { 3 })
        };
        let update = clause(&pair.mine, mine, "update")?;
        let delete = clause(&pair.mine, mine + update, "delete")?;
        clause(&pair.echo, echo, "delete").filter(|length| *length == delete)?;
        clause(&pair.echo, echo + delete, "update").filter(|length| *length == update)?;
        let same = (2..delete).all(|at| pair.same_at(mine + update + at, echo + at))
            && (2..update).all(|at| pair.same_at(mine + at, echo + delete + at));
        same.then_some((update + delete - 1, update + delete - 1))
    }),
    ("a comma between the modes of a transaction", |pair| {
        let transaction =
            |side: &Side<'_>| ["begin", "start", "set"].into_iter().any(|word| side.word(0, word));
        let extra = pair.echo.symbol(pair.echo.at, ",") && pair.same_at(pair.mine.at, pair.echo.at + 1);
        let mode = ["isolation", "read", "not", "deferrable"]
            .into_iter()
            .any(|word| pair.mine.word(pair.mine.at, word));
        (transaction(&pair.mine) && extra && mode).then_some((0, 1))
    }),
    ("a semicolon at the end", |pair| {
        let last = |side: &Side<'_>| side.symbol(side.at, ";") && side.at + 1 == side.tokens.len();
        match (last(&pair.mine) && pair.echo.ended(), last(&pair.echo) && pair.mine.ended()) {
            (true, _) => Some((1, 0)),
            (_, true) => Some((0, 1)),
            _ => None,
        }
    }),
];

/// One text, its tokens, and how far the comparison has come in it.
struct Side<'a> {
    sql: &'a str,
    tokens: &'a [Token],
    at: usize,
}

impl<'a> Side<'a> {
    fn new(sql: &'a str, tokens: &'a [Token]) -> Side<'a> {
        Side { sql, tokens, at: 0 }
    }

    fn ended(&self) -> bool {
        self.at >= self.tokens.len()
    }

    fn word(&self, at: usize, word: &str) -> bool {
        self.tokens.get(at).is_some_and(|token| token.is_word(self.sql, word))
    }

    fn symbol(&self, at: usize, symbol: &str) -> bool {
        self.tokens.get(at).is_some_and(|token| token.is_symbol(self.sql, symbol))
    }

    fn identifier(&self, at: usize) -> bool {
        self.tokens.get(at).is_some_and(Token::is_identifier)
    }

    /// A number or parameter, the only amounts that may change places.
    fn amount(&self, at: usize) -> bool {
        self.tokens.get(at).is_some_and(|token| matches!(token.kind, Kind::Number | Kind::Param))
    }

    /// Where the comparison stands, in bytes.
    fn byte(&self) -> usize {
        self.tokens.get(self.at).map_or(self.sql.len(), |token| token.span.start)
    }
}

/// The original and its echo.
struct Pair<'a> {
    mine: Side<'a>,
    echo: Side<'a>,
}

impl Pair<'_> {
    fn same(&self) -> bool {
        self.same_at(self.mine.at, self.echo.at)
    }

    fn same_at(&self, mine: usize, echo: usize) -> bool {
        match (self.mine.tokens.get(mine), self.echo.tokens.get(echo)) {
            (Some(mine), Some(echo)) => same(self.mine.sql, mine, self.echo.sql, echo),
            _ => false,
        }
    }

    /// A noise word that one of both sides has where `fits` holds, and after which both go on alike.
    fn optional(&self, word: &str, fits: impl Fn(&Side<'_>, usize) -> bool) -> Option<(usize, usize)> {
        let extra = |side: &Side<'_>, other: &Side<'_>| {
            let (next, same_place) = (side.tokens.get(side.at + 1), other.tokens.get(other.at));
            let goes_on = matches!((next, same_place), (Some(next), Some(there)) if same(side.sql, next, other.sql, there));
            side.word(side.at, word) && fits(side, side.at) && goes_on
        };
        match (extra(&self.mine, &self.echo), extra(&self.echo, &self.mine)) {
            (true, _) => Some((1, 0)),
            (_, true) => Some((0, 1)),
            _ => None,
        }
    }
}

/// Whether two tokens of two texts are the same to the server's grammar.
fn same(sql: &str, token: &Token, printed: &str, echo: &Token) -> bool {
    let (mine, theirs) = (token.text(sql), echo.text(printed));
    match (token.kind, echo.kind) {
        (Kind::Word, Kind::Word) | (Kind::QuotedIdent, Kind::QuotedIdent) => {
            fold_identifier(mine) == fold_identifier(theirs)
        }
        // `E'a'`, `'a'` and `$$a$$` are one token to the grammar.
        (
            Kind::String | Kind::EscapeString | Kind::UnicodeString | Kind::DollarString,
            Kind::String | Kind::EscapeString | Kind::UnicodeString | Kind::DollarString,
        )
        | (Kind::NationalString, Kind::NationalString)
        | (Kind::BitString, Kind::BitString)
        | (Kind::HexString, Kind::HexString) => {
            let value = string_value(token.kind, mine);
            value.is_some() && value == string_value(echo.kind, theirs)
        }
        (Kind::Number, Kind::Number) => mine.eq_ignore_ascii_case(theirs),
        (Kind::Operator, Kind::Operator) => {
            let unequal = |text: &str| matches!(text, "<>" | "!=");
            mine == theirs || (unequal(mine) && unequal(theirs))
        }
        (Kind::Param, Kind::Param) | (Kind::Punct, Kind::Punct) => mine == theirs,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use sqlparser::dialect::PostgreSqlDialect;
    use sqlparser::parser::Parser;

    use super::super::agree::parser_tokens;
    use super::*;

    fn check(sql: &str, printed: &str) -> bool {
        echo(sql, &lex(sql).unwrap(), printed).is_ok()
    }

    #[test]
    fn harmless_differences_pass() {
        for (sql, printed) in [
            ("select a b from t u where x != E'a';", "SELECT a AS b FROM t AS u WHERE x <> 'a'"),
            (
                "select 1 from a left outer join b on true inner join c using (x)",
                "SELECT 1 FROM a LEFT JOIN b ON TRUE JOIN c USING (x)",
            ),
            ("copy t from stdin (format csv)", "COPY t FROM STDIN WITH (FORMAT csv)"),
            // Odd to the eye, but the server cuts the operator in the same place.
            ("select a>-1", "SELECT a >- 1"),
            ("select 1 offset $1 limit 10", "SELECT 1 LIMIT 10 OFFSET $1"),
            (
                "create table t (a int references u on update cascade on delete set null)",
                "CREATE TABLE t (a INT REFERENCES u ON DELETE SET NULL ON UPDATE CASCADE)",
            ),
            ("select 1 fetch next 5 rows only", "SELECT 1 FETCH FIRST 5 ROWS ONLY"),
            ("begin read only", "BEGIN READ ONLY"),
            ("begin isolation level serializable read only", "BEGIN ISOLATION LEVEL SERIALIZABLE, READ ONLY"),
            ("set work_mem to '1MB'", "SET work_mem = '1MB'"),
        ] {
            assert!(check(sql, printed), "{sql} | {printed}");
        }
    }

    #[test]
    fn losses_are_seen() {
        for (sql, printed) in [
            ("select interval(3) '1 sec'", "SELECT INTERVAL '1 sec'"),
            ("select a>-1", "SELECT a > 1"),
            ("fetch first from c", "FETCH NEXT FROM c"),
            ("select 1 offset 5 limit 10", "SELECT 1 LIMIT 5 OFFSET 10"),
            (
                "create table t (a int references u on update cascade on delete set null)",
                "CREATE TABLE t (a INT REFERENCES u ON DELETE CASCADE ON UPDATE SET NULL)",
            ),
            ("select - -1", "SELECT --1"),
            ("select 'a'", "SELECT 'b'"),
            ("select \"A\"", "SELECT A"),
            ("select a", "SELECT a, b"),
            ("select a, b", "SELECT a"),
            ("select a as b", "SELECT a"),
            ("update t set a to b", "UPDATE t SET a = b"),
            ("select N'a'", "SELECT 'a'"),
            ("select a; select b", "SELECT a"),
        ] {
            assert!(!check(sql, printed), "{sql} | {printed}");
        }
    }

    /// What `sqlparser` cannot parse; the rest of the corpus comes back from its print token by token.
    const NOT_PARSED: [&str; 2] = ["TABLE customers", "SELECT ALL a, ROW(1, 2), (t).*"];

    #[test]
    fn applications_statements_are_kept_whole() {
        let corpus = include_str!("../../tests/corpus/applications.sql");
        // The two lines at the top say what the file is; a comment is no token, so they do no harm.
        let statements = corpus.split("\n;\n");
        let mut kept = 0;
        for sql in statements {
            let (tokens, theirs) = parser_tokens(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
            let dialect = PostgreSqlDialect {};
            match Parser::new(&dialect).with_tokens_with_locations(theirs).parse_statement() {
                Ok(statement) => {
                    assert_eq!(echo(sql, &tokens, &statement.to_string()), Ok(()), "{sql} | {statement}");
                    kept += 1;
                }
                Err(error) => {
                    assert!(NOT_PARSED.iter().any(|start| sql.starts_with(start)), "{sql}: {error}")
                }
            }
        }
        assert!(kept > 80, "{kept}");
    }
}

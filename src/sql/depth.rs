//! How deep a statement nests, and room on the stack for whoever walks over its tree.
//!
//! A chain of operators is a tree as deep as it is long: `a OR b OR c …` of some hundred terms is an ordinary statement, and more
//! than a thread's stack holds. So room is made for what its tokens can nest at most, and what nests deeper than anybody
//! writes is refused with 54001, as PostgreSQL refuses it (`check_stack_depth`); never is a stack overrun, which would end the
//! proxy. Deliberately absent: the depth that a tree really has, which is known too late.

use super::lex::{Kind, Token, lex};

/// What nests at most so deep is understood.
pub(super) const DEPTH_MAX: usize = 10_000;

/// How deep brackets and prefixes may stand in each other for the parser, which counts some of its levels twice and more.
pub(super) const BRACKETS_MAX: usize = 1_000;

/// What every thread's stack has room for.
const SHALLOW: usize = 16;

/// The most that one level takes of the stack, in bytes: all walks of the analysis, and the tree's end.
const LEVEL_BYTES: usize = if cfg!(debug_assertions) { 64 * 1024 } else { 24 * 1024 };

/// Words that one expression or statement can hold another by, beside operators and brackets.
const NESTING: &[&str] = &[
    "all", "and", "any", "array", "as", "at", "between", "case", "collate", "declare", "distinct", "escape",
    "explain", "from", "ilike", "in", "interval", "is", "isnull", "join", "like", "not", "notnull",
    "operator", "or", "overlaps", "prepare", "prior", "regexp", "rlike", "select", "similar", "some", "with",
    "xor",
];

/// Words by which a query holds all that stands before them, commas or not.
const JOINING: &[&str] = &["union", "except", "intersect", "minus"];

/// What is open where a token stands.
#[derive(Default)]
struct Open {
    /// CASE, and no bracket.
    case: bool,
    /// What may nest since the last comma.
    chain: usize,
    /// The longest such chain of the queries that were joined so far.
    longest: usize,
    /// What nests whatever commas there are.
    joined: usize,
}

/// How deep a statement of these tokens nests at most.
pub(super) fn of(text: &str, tokens: &[Token]) -> usize {
    let mut open = vec![Open::default()];
    let (mut depth, mut deepest) = (0_usize, 0);
    for token in tokens {
        let word = token.text(text);
        let is = |words: &[&str]| words.iter().any(|known| known.eq_ignore_ascii_case(word));
        let (plain, closes) = (token.kind == Kind::Word, matches!(word, ")" | "]"));
        let nests = match token.kind {
            Kind::Operator => true,
            Kind::Punct => !closes && !matches!(word, "," | ";" | "."),
            Kind::Word => is(NESTING),
            _ => false,
        };
        if let Some(here) = open.last_mut() {
            if word == "," || word == ";" || here.case && plain && is(&["when", "then", "else"]) {
                depth -= std::mem::take(&mut here.chain);
            } else if plain && is(JOINING) {
                // Of the queries that are joined the deepest counts, below all that joins them.
                let more = here.chain.saturating_sub(here.longest);
                here.longest += more;
                depth = depth - std::mem::take(&mut here.chain) + more + 1;
                here.joined += more + 1;
            } else if nests {
                here.chain += 1;
                depth += 1;
            }
            deepest = deepest.max(depth);
        }
        if matches!(word, "(" | "[") || plain && is(&["case"]) {
            open.push(Open { case: plain, ..Open::default() });
        } else if plain && is(&["end"]) && open.last().is_some_and(|here| here.case) {
            depth -= left(&mut open);
        } else if closes {
            while open.last().is_some_and(|here| here.case) {
                depth -= left(&mut open);
            }
            if open.len() > 1 {
                depth -= left(&mut open);
            }
        }
    }
    deepest
}

/// Whether these tokens may nest deeper than is understood.
pub(super) fn is_exceeded(text: &str, tokens: &[Token]) -> bool {
    // No token counts for more than one level: nearly every text is known to be short enough without a look at it.
    tokens.len() > DEPTH_MAX && of(text, tokens) > DEPTH_MAX
}

/// As [`of`], of a text; what does not lex is no tree.
pub(super) fn of_text(text: &str) -> usize {
    lex(text).map_or(0, |tokens| of(text, &tokens))
}

/// Leaves what is open; gives what had nested in it.
fn left(open: &mut Vec<Open>) -> usize {
    open.pop().map_or(0, |here| here.chain + here.joined)
}

/// Does what walks over a tree of at most this depth.
pub(super) fn with_room<R>(depth: usize, walk: impl FnOnce() -> R) -> R {
    if depth <= SHALLOW {
        return walk();
    }
    let bytes = depth.min(DEPTH_MAX) * LEVEL_BYTES;
    stacker::maybe_grow(bytes, bytes, walk)
}

#[cfg(test)]
mod tests {
    use super::of_text as depth;

    #[test]
    fn chains_count_and_lists_do_not() {
        let many = |piece: &str, between: &str| vec![piece; 1000].join(between);
        for chain in [
            many("a", " or "),
            many("a", "+"),
            many("select a, b from t", " union all "),
            format!("a{}", "::int".repeat(1000)),
            format!("select {} 1", "not".to_owned() + &" not".repeat(999)),
            format!("{}a{}", "(".repeat(1000), ")".repeat(1000)),
            format!("{}a{}", "case when ".repeat(1000), " then b end".repeat(1000)),
            // A name like the end of CASE closes nothing.
            format!("{} (select 1 as end) or {}", many("a or", " "), many("a", " or ")),
        ] {
            assert!(depth(&chain) >= 999, "{} {chain:.60}", depth(&chain));
        }
        for list in [
            format!("insert into t values {}", many("(1, 'a' || 'b')", ", ")),
            format!("select {}", many("a as b", ", ")),
            format!("select case {} end", many("when a = 1 then 'b' || c", " ")),
            format!("select a in ({})", many("'x'", ", ")),
        ] {
            assert!(depth(&list) < 20, "{} {list:.60}", depth(&list));
        }
    }
}

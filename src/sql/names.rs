//! Statements that use a name of the session's, by their tokens: EXECUTE, EXPLAIN of it and FETCH; and those that give one.

use super::lineage::{self, Context, Effects, Known, NameKind};
use super::problem::{Problem, Trouble};
use super::shape::Lines;
use super::words::Words;
use super::{StatementText, Understood};

/// The name that `PREPARE` or `DECLARE` gives.
pub fn names(text: &str, statement: &StatementText) -> Option<(NameKind, String)> {
    let words = statement.words(text);
    match words.keyword(0) {
        "prepare" if words.keyword(1) != "transaction" => {
            Some((NameKind::Statement, words.word(1).to_owned()))
        }
        "declare" => Some((NameKind::Cursor, words.word(1).to_owned())),
        _ => None,
    }
}

/// The names of the statements that `text` executes, or explains the execution of.
pub fn executed(text: &str) -> Vec<String> {
    let Ok(script) = super::split(text) else { return vec![] };
    let statements = script.statements.iter();
    let name = |statement: &StatementText| {
        let words = statement.words(text);
        execute_at(&words).map(|at| words.word(at + 1).to_owned())
    };
    statements.filter_map(name).collect()
}

/// Where the EXECUTE of `EXECUTE …` and `EXPLAIN … EXECUTE …` stands.
fn execute_at(words: &Words<'_>) -> Option<usize> {
    let at = match words.keyword(0) {
        "execute" => 0,
        "explain" => explained_at(words),
        _ => return None,
    };
    (words.keyword(at) == "execute").then_some(at)
}

/// Where the statement begins that EXPLAIN explains.
fn explained_at(words: &Words<'_>) -> usize {
    let mut at = 1;
    if words.symbol(at) == "(" {
        let mut depth = 0_usize;
        while at < words.tokens.len() {
            match words.symbol(at) {
                "(" => depth += 1,
                ")" => depth = depth.saturating_sub(1),
                _ => {}
            }
            at += 1;
            if depth == 0 {
                break;
            }
        }
        return at;
    }
    while matches!(words.keyword(at), "analyze" | "analyse" | "verbose") {
        at += 1;
    }
    at
}

/// What a statement is that uses a name of the session's; `None` for every other.
pub(super) fn by_name(
    text: &str,
    statement: &StatementText,
    words: &Words<'_>,
    declared: usize,
    effects: Effects,
    context: &Context<'_>,
) -> Result<Option<Understood>, Problem> {
    let tags = context.catalog.has_tags();
    if let Some(at) = execute_at(words) {
        let name = words.word(at + 1);
        let ours = context.named.ours.get(name);
        // EXPLAIN may run it, and it may do what only the server knows of.
        let effects = Effects { path: true, writes: true, ..effects };
        return match context.named.statements.get(name) {
            _ if !tags && ours.is_none() => Ok(None),
            Some(Known::Definition(definition)) => {
                let lineage = super::with_room(text, statement, || {
                    let tree = super::tree(text, statement, words)?;
                    let lines = Lines::new(text, statement.span.clone());
                    lineage::analyse_execute(tree, lines, declared, context, definition)
                })?;
                Ok(Some(Understood::Lineage(Box::new(lineage))))
            }
            Some(Known::Untouched) => Ok(Some(match (ours, statement.tokens.get(at + 1)) {
                (Some(ours), Some(token)) => {
                    let runs = Effects { writes: ours.effects.writes, ..effects };
                    Understood::Lineage(Box::new(lineage::renamed(text, statement, token, &ours.name, runs)))
                }
                _ => Understood::Untouched(effects),
            })),
            Some(Known::Outdated) => Err(outdated()),
            // Its arguments would reach the server as they are, for what may have been meant to seal them.
            None => Err(Problem::new(
                Trouble::Unresolved,
                "26000",
                format!("prepared statement \"{name}\" does not exist"),
            )),
        };
    }
    if !tags {
        return Ok(None);
    }
    let first = words.keyword(0);
    match first {
        "fetch" => {
            let name = fetched_cursor(words);
            match context.named.cursors.get(name) {
                Some(Known::Definition(definition)) => {
                    let own = &text[statement.span.clone()];
                    Ok(Some(Understood::Lineage(Box::new(lineage::fetched(
                        own,
                        name.to_owned(),
                        definition,
                    )))))
                }
                Some(Known::Outdated) => Err(outdated()),
                Some(Known::Untouched) | None => Ok(Some(Understood::Untouched(effects))),
            }
        }
        "explain" | "create"
            if words.any_word(|word| word == "execute") && !words.any_word(|word| word == "trigger") =>
        {
            Err(Problem::not_understood(&format!("EXECUTE in {}", first.to_ascii_uppercase())))
        }
        _ => Ok(None),
    }
}

fn outdated() -> Problem {
    Problem::new(Trouble::Broken, "0A000", "cached plan must not change result type")
        .hint("Prepare the statement again.")
}

/// `FETCH [direction] [FROM | IN] name`: the name is the last word.
fn fetched_cursor<'w>(words: &Words<'w>) -> &'w str {
    words.all().next_back().map_or("", |(_, word)| word)
}

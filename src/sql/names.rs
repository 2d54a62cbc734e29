//! Statements that use a name of the session's, by their tokens: EXECUTE and FETCH; and those that give one.

use super::lineage::{self, Context, Effects, Known, NameKind};
use super::problem::{Problem, Trouble};
use super::session::Words;
use super::shape::Lines;
use super::{StatementText, Understood};

/// The name that `PREPARE` or `DECLARE` gives.
pub fn names(text: &str, statement: &StatementText) -> Option<(NameKind, String)> {
    let words = Words { text, tokens: &statement.tokens };
    match words.keyword(0).as_str() {
        "prepare" if words.keyword(1) != "transaction" => Some((NameKind::Statement, words.word(1))),
        "declare" => Some((NameKind::Cursor, words.word(1))),
        _ => None,
    }
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
    let outdated = || {
        Problem::new(Trouble::Broken, "0A000", "cached plan must not change result type")
            .hint("Prepare the statement again.")
    };
    let first = words.keyword(0);
    match first.as_str() {
        "execute" => {
            let name = words.word(1);
            match context.named.statements.get(&name) {
                Some(Known::Definition(definition)) => {
                    let tree = super::tree(text, statement, words)?;
                    let lines = Lines::new(text, statement.span.clone());
                    let lineage = lineage::analyse_execute(tree, lines, declared, context, definition)?;
                    Ok(Some(Understood::Lineage(Box::new(lineage))))
                }
                Some(Known::Untouched) => Ok(Some(Understood::Untouched(effects))),
                Some(Known::Outdated) => Err(outdated()),
                // Its arguments would reach the server as they are, for what may have been meant to seal them.
                None => Err(Problem::new(
                    Trouble::Unresolved,
                    "26000",
                    format!("prepared statement \"{name}\" does not exist"),
                )),
            }
        }
        "fetch" => {
            let name = fetched_cursor(words);
            match context.named.cursors.get(&name) {
                Some(Known::Definition(definition)) => {
                    let own = &text[statement.span.clone()];
                    Ok(Some(Understood::Lineage(Box::new(lineage::fetched(own, definition)))))
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

/// `FETCH [direction] [FROM | IN] name`: the name is the last word.
fn fetched_cursor(words: &Words<'_>) -> String {
    let last = (0..words.tokens.len()).rev().find(|index| !words.word(*index).is_empty());
    last.map(|index| words.word(index)).unwrap_or_default()
}

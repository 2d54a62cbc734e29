//! The purpose of a session: what `SET pgveil.purpose` gave it, for as long as PostgreSQL's own settings would last.
//!
//! As in `guc.c`: SET is undone when its transaction, or the savepoint that it stands after, is rolled back; SET LOCAL ends with
//! its transaction; RESET and DISCARD are a SET to nothing. What a transaction changed is told from the server's answers, so
//! while something is changed and not yet committed, what comes after an unanswered end of it waits (`settle`).

use crate::sql::lex::{Kind, lex};
use crate::sql::spelling::fold_identifier;
use crate::wire::backend::TransactionStatus;

type Value = Option<String>;

#[derive(Clone, Default)]
struct Values {
    now: Value,
    /// What holds when the transaction is committed.
    committed: Value,
}

/// Before anything of this transaction changed it; and since.
struct Changed {
    before: Value,
    /// Savepoints that were made since, and the values there. At those made before, it was `before`.
    savepoints: Vec<(String, Values)>,
    /// A statement failed since the last ReadyForQuery.
    failed: bool,
    /// A transaction was begun by a statement.
    block: bool,
}

#[derive(Default)]
pub(super) struct Purpose {
    values: Values,
    changed: Option<Box<Changed>>,
}

/// What a statement does to savepoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Savepoint {
    Made(String),
    Released(String),
    RolledBackTo(String),
}

impl Purpose {
    pub(super) fn now(&self) -> Option<&str> {
        self.values.now.as_deref()
    }
    /// Whether how the transaction ends still decides what it is.
    pub(super) fn is_pending(&self) -> bool {
        self.changed.is_some()
    }
    /// A SET succeeded in a session whose transaction is `status`.
    pub(super) fn set(&mut self, purpose: Value, local: bool, status: TransactionStatus) {
        let before = &self.values.now;
        self.changed.get_or_insert_with(|| {
            let block = status != TransactionStatus::Idle;
            Box::new(Changed { before: before.clone(), savepoints: Vec::new(), failed: false, block })
        });
        self.values.now = purpose;
        if !local {
            self.values.committed.clone_from(&self.values.now);
        }
    }
    /// A statement succeeded with this command tag.
    pub(super) fn completed(&mut self, tag: &str, savepoint: Option<&Savepoint>) {
        let Some(changed) = &mut self.changed else { return };
        match (tag, savepoint) {
            ("SAVEPOINT", Some(Savepoint::Made(name))) => {
                changed.savepoints.push((name.clone(), self.values.clone()));
            }
            ("RELEASE", Some(Savepoint::Released(name))) => {
                if let Some(at) = changed.savepoints.iter().rposition(|(own, _)| own == name) {
                    changed.savepoints.truncate(at);
                }
            }
            ("ROLLBACK", Some(Savepoint::RolledBackTo(name))) => {
                match changed.savepoints.iter().rposition(|(own, _)| own == name) {
                    Some(at) => {
                        self.values = changed.savepoints[at].1.clone();
                        changed.savepoints.truncate(at + 1);
                    }
                    // It was made before: all that was changed is undone.
                    None => self.undo(),
                }
            }
            ("BEGIN" | "START TRANSACTION", _) => changed.block = true,
            ("COMMIT" | "PREPARE TRANSACTION", _) => self.commit(),
            ("ROLLBACK", _) => self.undo(),
            // Outside a block these may end transactions, and do not say how.
            ("CALL" | "DO", _) if !changed.block => self.undo(),
            _ => {}
        }
    }
    pub(super) fn failed(&mut self) {
        if let Some(changed) = &mut self.changed {
            changed.failed = true;
        }
    }
    /// A pipeline or simple query was answered.
    pub(super) fn ready(&mut self, status: TransactionStatus) {
        let Some(changed) = &mut self.changed else { return };
        let failed = std::mem::take(&mut changed.failed);
        changed.block = status != TransactionStatus::Idle;
        match status {
            TransactionStatus::Idle if failed => self.undo(),
            TransactionStatus::Idle => self.commit(),
            TransactionStatus::InTransaction | TransactionStatus::Failed => {}
        }
    }

    fn commit(&mut self) {
        self.values.now.clone_from(&self.values.committed);
        self.changed = None;
    }
    fn undo(&mut self) {
        if let Some(changed) = self.changed.take() {
            self.values = Values { now: changed.before.clone(), committed: changed.before };
        }
    }
}

/// What a statement that begins with one of these words does to savepoints.
pub(super) fn savepoint(text: &str) -> Option<Savepoint> {
    let tokens = lex(text).ok()?;
    let keyword = |at: usize| {
        let word = tokens.get(at).filter(|token| token.kind == Kind::Word);
        word.map(|token| token.text(text).to_ascii_lowercase()).unwrap_or_default()
    };
    let name = |at: usize| {
        let word = tokens.get(at).filter(|token| token.is_identifier());
        word.map(|token| fold_identifier(token.text(text)))
    };
    let is_followed = |at: usize| tokens.get(at).is_some_and(|token| token.is_identifier());
    match keyword(0).as_str() {
        "savepoint" => name(1).map(Savepoint::Made),
        "release" => {
            let at = if keyword(1) == "savepoint" && is_followed(2) { 2 } else { 1 };
            name(at).map(Savepoint::Released)
        }
        "rollback" => {
            let at = if matches!(keyword(1).as_str(), "work" | "transaction") { 2 } else { 1 };
            if keyword(at) != "to" {
                return None;
            }
            let at = if keyword(at + 1) == "savepoint" && is_followed(at + 2) { at + 2 } else { at + 1 };
            name(at).map(Savepoint::RolledBackTo)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use TransactionStatus::{Failed, Idle, InTransaction};

    #[test]
    fn savepoints_are_read_by_their_names() {
        let made = |name: &str| Some(Savepoint::Made(name.into()));
        assert_eq!(savepoint("savepoint S"), made("s"));
        assert_eq!(savepoint("/* x */ SAVEPOINT \"S p\" -- y"), made("S p"));
        assert_eq!(savepoint("release savepoint a"), Some(Savepoint::Released("a".into())));
        assert_eq!(savepoint("release savepoint"), Some(Savepoint::Released("savepoint".into())));
        assert_eq!(savepoint("rollback work to a"), Some(Savepoint::RolledBackTo("a".into())));
        assert_eq!(savepoint("ROLLBACK TO SAVEPOINT a"), Some(Savepoint::RolledBackTo("a".into())));
        assert_eq!((savepoint("rollback"), savepoint("rollback and chain")), (None, None));
    }

    #[test]
    fn a_purpose_lasts_as_long_as_a_setting() {
        let mut purpose = Purpose::default();
        let some = |text: &str| Some(text.to_owned());
        purpose.set(some("a"), false, Idle);
        purpose.ready(Idle);
        assert!(purpose.now() == Some("a") && !purpose.is_pending());
        // SET LOCAL over SET.
        purpose.set(some("b"), false, InTransaction);
        purpose.set(some("c"), true, InTransaction);
        assert_eq!(purpose.now(), Some("c"));
        purpose.completed("COMMIT", None);
        assert_eq!(purpose.now(), Some("b"));
        // Savepoints of one name, made after the change and before it.
        purpose.set(some("c"), false, InTransaction);
        purpose.completed("SAVEPOINT", Some(&Savepoint::Made("s".into())));
        purpose.set(some("d"), false, InTransaction);
        purpose.failed();
        purpose.ready(Failed);
        purpose.completed("ROLLBACK", Some(&Savepoint::RolledBackTo("s".into())));
        purpose.ready(InTransaction);
        assert_eq!(purpose.now(), Some("c"));
        purpose.completed("RELEASE", Some(&Savepoint::Released("s".into())));
        purpose.completed("ROLLBACK", Some(&Savepoint::RolledBackTo("s".into())));
        assert_eq!(purpose.now(), Some("b"));
        // An implicit transaction that fails.
        purpose.set(None, false, Idle);
        purpose.failed();
        purpose.ready(Idle);
        assert_eq!(purpose.now(), Some("b"));
    }
}

//! Refusing in order: a refused message is replaced by a constant that parses and fails in analysis.
//!
//! Order, skipping until Sync and the aborted transaction are then the server's own behaviour. The entry in the FIFO
//! says what the client reads when the expected error comes by; any other error (25P02, 57P01, …) passes as it is.

use super::queue::{Expect, Owed, RefusedQuery, Role};
use super::statement::Undo;
use super::{Relay, errors};
use crate::audit::{Event, UsedColumn};
use crate::metrics::Outcome;
use crate::plan::{Reason, Refusal};
use crate::sql;
use crate::wire::backend::ErrorFields;
use crate::wire::frontend::{self, Parse};

/// Fails for every user: analysis finds no such function.
const CONSTANT: &str = "SELECT pg_catalog.pgveil_refused()";
/// With a name, so that the client's unnamed statement survives; it never comes to exist.
const CONSTANT_NAME: &str = "pgveil_refused";
/// `undefined_function`: what [`CONSTANT`] fails with.
const CONSTANT_SQLSTATE: &str = "42883";

/// Whether `fields` is the failure of our constant, and nothing else.
pub(super) fn is_constant(fields: &ErrorFields) -> bool {
    fields.severity() == "ERROR" && fields.sqlstate() == CONSTANT_SQLSTATE
}

/// What the client reads of a refusal, in PostgreSQL's form. `text` is what `refusal.position` counts bytes of.
pub(super) fn told(refusal: &Refusal, text: &str) -> ErrorFields {
    let position = refusal.position.and_then(|at| text.get(..at)).map(|before| before.chars().count() + 1);
    let mut fields = ErrorFields::new(
        "ERROR",
        refusal.sqlstate,
        &refusal.message,
        refusal.detail.as_deref(),
        refusal.hint.as_deref(),
        position,
    );
    if refusal.is_changed() {
        // By this drivers know that they may prepare it again by themselves (asyncpg, pgjdbc).
        fields.fields.push((b'R', "RevalidateCachedQuery".to_owned()));
    }
    fields
}

impl Relay {
    /// Refuses a simple query.
    pub(super) fn refuse_query(&mut self, refusal: &Refusal, text: &str) {
        self.note_refusal(refusal, text);
        let undo = self.statements.forget("");
        self.send_constant_query(told(refusal, text), false, undo);
    }

    /// Sends the constant as a simple query: for a refused one, and to make a transaction fail afterwards.
    pub(super) fn send_constant_query(&mut self, ours: ErrorFields, after: bool, undo: Undo) {
        self.send_query(frontend::encode_query(CONSTANT));
        let expect = Expect::RefusedQuery(Box::new(RefusedQuery { ours, after, told: false }));
        self.queue.push(Owed::new(expect, Role::Client).undo(undo));
    }

    /// Refuses a message of the extended protocol that concerns the statement `text`.
    pub(super) fn refuse_extended(&mut self, refusal: &Refusal, text: &str) {
        self.note_refusal(refusal, text);
        self.send_constant_parse(told(refusal, text));
    }

    /// Sends the constant as a Parse; the server fails there and skips until Sync.
    pub(super) fn send_constant_parse(&mut self, fields: ErrorFields) {
        self.again.give_up(self.queue.segment());
        self.constant_parse(fields, Role::Client);
    }

    /// The same where nothing of it is for the client.
    pub(super) fn send_hidden_constant(&mut self) {
        self.constant_parse(told(&Refusal::changed(), ""), Role::Hidden);
    }

    fn constant_parse(&mut self, fields: ErrorFields, role: Role) {
        let constant = Parse { name: CONSTANT_NAME, sql: CONSTANT, types: Vec::new() };
        self.send(constant.encode());
        self.queue.push(Owed::new(Expect::Refused(Box::new(fields)), role));
    }

    /// Counts a refusal, and records it where it tells of an attempt.
    pub(super) fn note_refusal(&mut self, refusal: &Refusal, text: &str) {
        let kind = super::kinds::kind(text);
        self.metrics.refused(refusal.reason.name());
        self.metrics.statement(kind, Outcome::Refused);
        self.ended += 1;
        let tells = match refusal.reason {
            Reason::Denied
            | Reason::Condition
            | Reason::NotUnderstood
            | Reason::SealedUse
            | Reason::Limit => true,
            // Has a record of its own.
            Reason::SecondFactor => false,
            Reason::Value | Reason::Setting | Reason::Broken | Reason::Uncounted | Reason::Unrecorded => {
                !refusal.uses.is_empty()
            }
        };
        if !tells {
            return;
        }
        let uses = refusal.uses.iter().map(|(column, label, action)| UsedColumn {
            column: column.clone(),
            label: label.clone(),
            action: action.name().to_owned(),
            rule: String::new(),
            disclosure: String::new(),
        });
        let event = Event::Refused {
            kind: kind.to_owned(),
            shape: shape(text),
            sqlstate: refusal.sqlstate.to_owned(),
            reason: refusal.reason.name().to_owned(),
            uses: uses.collect(),
        };
        self.record(event, false);
    }

    /// Swaps our refusal in for the constant's failure, or leaves the server's own error.
    pub(super) fn swapped(ours: ErrorFields, theirs: ErrorFields) -> ErrorFields {
        if is_constant(&theirs) {
            ours
        } else {
            let mut theirs = theirs;
            // Its position counts characters of our constant.
            errors::place(&mut theirs, &errors::Positions::pieces(Vec::new()));
            theirs
        }
    }
}

/// A text without its literals and comments. What does not lex has no shape.
fn shape(text: &str) -> String {
    let Ok(script) = sql::split(text) else { return String::new() };
    let shapes = script.statements.iter().map(|statement| sql::shape::shape(text, &statement.tokens));
    shapes.collect::<Vec<_>>().join("; ")
}

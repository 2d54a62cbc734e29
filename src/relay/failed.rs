//! ErrorResponse: whose it is, what the client reads of it, and what the server skips because of it.

use super::errors::{self, Positions};
use super::queue::{Expect, Owed, Role};
use super::reply::unexplained;
use super::{Held, Relay, Step};
use crate::wire::backend::{self, ErrorFields};
use crate::wire::{Frame, Violation};

impl Owed {
    /// Whether its errors and notices could quote a value of a tagged column.
    pub(super) fn touches_tagged(&self) -> bool {
        self.planned || self.part().is_some_and(|part| part.plan.is_some())
    }
}

impl Relay {
    pub(super) fn failed(&mut self, frame: Frame) -> Result<(), Violation> {
        let fields = self.copy_error(ErrorFields::view(&frame)?);
        let fatal = matches!(fields.severity(), "FATAL" | "PANIC");
        if fatal {
            // The server closes after it; nothing of the queue will be answered.
            let told = self.cleaned(fields);
            self.out.client(told.encode(backend::ERROR_RESPONSE).into_bytes());
            self.out.step(Step::Close);
            self.closed = true;
            return Ok(());
        }
        self.session.purpose.failed();
        match self.queue.head().map(|head| &head.expect) {
            None => Err(unexplained(backend::ERROR_RESPONSE)),
            Some(Expect::Query(_)) => {
                self.query_failed(fields);
                Ok(())
            }
            Some(Expect::RefusedQuery(_)) => self.refused_query_failed(fields),
            Some(Expect::Sync) => {
                // A deferred constraint, for example. No skipping begins here.
                let told = self.cleaned(fields);
                if self.reaches_client() {
                    self.out.client(told.encode(backend::ERROR_RESPONSE).into_bytes());
                }
                Ok(())
            }
            Some(_) => {
                self.extended_failed(fields);
                Ok(())
            }
        }
    }

    fn refused_query_failed(&mut self, fields: ErrorFields) -> Result<(), Violation> {
        let Some(Owed { expect: Expect::RefusedQuery(refused), .. }) = self.queue.head_mut() else {
            return Err(unexplained(backend::ERROR_RESPONSE));
        };
        if refused.told {
            return Err(unexplained(backend::ERROR_RESPONSE));
        }
        refused.told = true;
        let ours = refused.ours.clone();
        let told = if refused.after { ours } else { Relay::swapped(ours, fields) };
        self.out.client(told.encode(backend::ERROR_RESPONSE).into_bytes());
        Ok(())
    }

    /// What the client reads of an error of the head.
    fn cleaned(&mut self, mut fields: ErrorFields) -> ErrorFields {
        if self.is_copy_error(&fields) {
            return fields;
        }
        let key = self.violated_key(&fields);
        let head = self.queue.head();
        let named = fields.get(b's').zip(fields.get(b't')).is_some_and(|(schema, table)| {
            self.world.catalog.find_in(schema, table).is_some_and(|relation| relation.is_tagged())
        });
        let positions = head.and_then(|head| {
            head.part().map(|part| part.positions.clone()).or_else(|| head.positions.clone())
        });
        errors::place(&mut fields, &positions.unwrap_or_else(Positions::same));
        if named || head.is_some_and(Owed::touches_tagged) {
            errors::scrub(&mut fields);
            fields.fields.extend(key.map(|key| (b'D', key)));
        }
        self.statements.rename(&mut fields);
        fields
    }

    fn query_failed(&mut self, fields: ErrorFields) {
        let sqlstate = fields.sqlstate().to_owned();
        let planned = self.queue.head().is_some_and(Owed::touches_tagged);
        let ended = self.queue.head().and_then(Owed::part).map(|part| (part.kind, part.run));
        let cleaned = self.cleaned(fields.clone());
        if let Some((kind, run)) = ended
            && self.reaches_client()
        {
            self.count_statement(kind, &sqlstate);
            if let Some(run) = run {
                self.end_run(run, &sqlstate);
            }
        }
        let stale = planned && errors::may_be_stale(&fields);
        let unseen = stale && self.reaches_client() && self.plan_again();
        if stale {
            self.settle.catalog_stale = true;
        }
        if !unseen && self.reaches_client() {
            let told = if stale && errors::names_sealed_type(&fields) {
                super::refuse::told(&crate::plan::Refusal::changed(), "")
            } else {
                cleaned
            };
            self.out.client(told.encode(backend::ERROR_RESPONSE).into_bytes());
        }
        if let Some(Owed { expect: Expect::Query(query), .. }) = self.queue.head_mut() {
            query.ended = true;
        }
    }

    /// The head failed in the extended protocol: the server skips what follows it up to the Sync.
    fn extended_failed(&mut self, fields: ErrorFields) {
        let sqlstate = fields.sqlstate().to_owned();
        let planned = self.queue.head().is_some_and(Owed::touches_tagged);
        let stale = planned && errors::may_be_stale(&fields);
        let parsing = matches!(self.queue.head().map(|head| &head.expect), Some(Expect::Parse { .. }));
        self.settle.catalog_stale |= stale;
        // What a function does may fail by names, too: those errors are its own.
        let by_name = parsing || sqlstate.starts_with("42");
        let ours = !by_name || errors::names_sealed_type(&fields);
        let cleaned = if stale && ours && self.conversion.is_none() {
            super::refuse::told(&crate::plan::Refusal::changed(), "")
        } else {
            self.cleaned(fields.clone())
        };
        let unseen = stale && (self.conversion_again() || self.pipeline_again());
        let Some(mut head) = self.queue.pop() else { return };
        let own_undo = std::mem::take(&mut head.undo);
        let skipped = self.queue.skipped();
        let asked_alone =
            head.role == Role::Ask && matches!(self.queue.head(), Some(owed) if owed.role == Role::Ask);

        let told = match (&head.expect, head.role) {
            _ if unseen => None,
            (Expect::Refused(ours), Role::Client) => Some(Relay::swapped((**ours).clone(), fields)),
            (_, Role::Client | Role::Step) => Some(cleaned),
            (_, Role::Ask) if asked_alone => None,
            (_, Role::Ask) => Some(cleaned),
            // The client was told, or its refusal was on its way: the server failed by itself and skips the constant.
            (_, Role::Hidden) => skipped.iter().find_map(|owed| match (&owed.expect, owed.role) {
                (Expect::Refused(ours), Role::Client) => Some((**ours).clone()),
                _ => None,
            }),
        };
        if let Some(told) = told {
            self.mark_left();
            self.out.client(told.encode(backend::ERROR_RESPONSE).into_bytes());
        }
        if head.role == Role::Ask || skipped.iter().any(|owed| owed.role == Role::Ask) {
            self.unanswered(if head.role == Role::Ask { &sqlstate } else { "25P02" });
        }
        self.end_failed(&head, &sqlstate, true);
        for owed in skipped.into_iter().rev() {
            self.end_failed(&owed, &sqlstate, false);
            self.statements.undo(owed.undo);
        }
        self.statements.failed(own_undo);
        match &mut self.conversion {
            Some(conversion) => conversion.abandon(),
            None if !self.queue.has_sync() => self.skipping = true,
            None => {}
        }
    }

    fn end_failed(&mut self, owed: &Owed, sqlstate: &str, ran: bool) {
        let Some(part) = owed.part() else { return };
        if owed.role == Role::Client && ran {
            self.count_statement(part.kind, sqlstate);
        }
        if let Some(run) = part.run {
            self.end_run(run, sqlstate);
        }
    }

    /// Whether a converted query may be planned again unseen; marks it so.
    fn conversion_again(&mut self) -> bool {
        let alone = self.held.is_none();
        let Some(conversion) = &mut self.conversion else { return false };
        if !alone || conversion.told || conversion.again.is_none() || conversion.stale {
            return false;
        }
        conversion.stale = true;
        self.replanning = true;
        true
    }

    /// A frame whose plan was stale: the catalog is read again, then it is planned anew, once.
    pub(super) fn take_again(&mut self, frame: Frame) {
        self.replanning = false;
        self.settle.catalog_stale = false;
        self.refresh();
        let waiting = self.held.replace(Held { resolved: true, retried: true, ..Held::new(frame) });
        debug_assert!(waiting.is_none(), "nothing else is held while a query may be planned again");
    }
}

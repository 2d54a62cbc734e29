//! The server's messages: each is explained by the head of the FIFO, or it ends the connection.
//!
//! What the gate of the head's record holds back stays in the backlog. Rows go by the batch (`rows`), errors in
//! `failed`.

use super::Relay;
use super::cells::{self, Fault};
use super::errors;
use super::named::Naming;
use super::queue::{Expect, Owed, Part, Role};
use super::run::Gate;
use super::session::unsafe_setting;
use super::statement::Undo;
use crate::audit::SUCCEEDED;
use crate::plan::{Local, Reason, Refusal};
use crate::wire::backend::{self, ErrorFields, TransactionStatus};
use crate::wire::{Frame, Violation};

/// A message that the queue does not explain is never forwarded.
pub(super) fn unexplained(tag: u8) -> Violation {
    Violation(format!("the server sent a message that nothing asked for (type {tag})"))
}

impl Relay {
    /// Works the backlog off as far as gates allow, then goes on with what the client waits for.
    pub(super) fn advance(&mut self) -> Result<(), Violation> {
        while !self.closed && self.settle.ready.is_none() && self.asking.run.is_none() {
            while self.queue.head().is_some_and(|owed| matches!(owed.expect, Expect::CopyEnd)) {
                self.queue.pop();
            }
            let Some(tag) = self.backlog.tag() else { break };
            match self.gate() {
                Gate::Waiting => break,
                _ if self.precedes_waiting(tag) => break,
                // Names and types of columns are no one's data.
                _ if tag == backend::ROW_DESCRIPTION => {}
                // A copy that the server reads ends by CopyFail.
                Gate::Failed if !matches!(tag, backend::ERROR_RESPONSE | backend::COPY_IN_RESPONSE) => {
                    self.fail(&unrecorded())?;
                    continue;
                }
                Gate::Failed | Gate::Open => {}
            }
            if tag == backend::DATA_ROW {
                self.rows()?;
            } else if tag == backend::COPY_DATA {
                self.copied_rows()?;
            } else if let Some(frame) = self.backlog.next() {
                self.reply(frame)?;
            }
        }
        self.resume()
    }

    /// Whether the head's record lets its reply pass.
    pub(super) fn gate(&self) -> Gate {
        let Some(head) = self.queue.head() else { return Gate::Open };
        if !self.reaches_client() {
            return Gate::Open;
        }
        self.gate_of(head.part())
    }

    fn gate_of(&self, part: Option<&Part>) -> Gate {
        let run = part.and_then(|part| part.run).and_then(|run| self.runs.get(&run));
        run.map_or(Gate::Open, |run| run.gate)
    }

    /// Whether a message only prepares for a reply that a gate holds back: it leaves together with that, in one write.
    fn precedes_waiting(&self, tag: u8) -> bool {
        let prepares = matches!(
            tag,
            backend::PARSE_COMPLETE
                | backend::BIND_COMPLETE
                | backend::PARAMETER_DESCRIPTION
                | backend::ROW_DESCRIPTION
                | backend::NO_DATA
        );
        prepares && !self.gates.is_empty() && self.gate_of(self.queue.next_part()) == Gate::Waiting
    }

    /// Whether replies of the head reach the client.
    pub(super) fn reaches_client(&self) -> bool {
        self.queue.head().is_some_and(|head| match &head.expect {
            Expect::Query(query) => head.role == Role::Client && !query.muted,
            _ => head.role == Role::Client,
        })
    }

    fn reply(&mut self, frame: Frame) -> Result<(), Violation> {
        let tag = frame.tag();
        let result = self.reply_to(frame);
        if matches!(tag, backend::ERROR_RESPONSE | backend::COMMAND_COMPLETE) {
            self.copy_over(tag == backend::ERROR_RESPONSE);
        }
        result
    }

    fn reply_to(&mut self, frame: Frame) -> Result<(), Violation> {
        match frame.tag() {
            backend::NOTICE_RESPONSE => self.notice(frame),
            backend::NOTIFICATION_RESPONSE => {
                self.out.client(frame.into_bytes());
                Ok(())
            }
            backend::PARAMETER_STATUS => self.parameter_status(frame),
            backend::ERROR_RESPONSE => self.failed(frame),
            backend::READY_FOR_QUERY => self.ready(frame),
            _ => self.answer(frame),
        }
    }

    fn notice(&mut self, frame: Frame) -> Result<(), Violation> {
        let planned = self.queue.head().is_some_and(Owed::touches_tagged);
        if planned {
            let mut fields = ErrorFields::view(&frame)?;
            // The server's own have no context; what a function raises has.
            if fields.get(b'W').is_some() && !self.reads_all_in_clear() {
                errors::scrub(&mut fields);
            }
            fields.fields.retain(|(kind, _)| !matches!(kind, b'D' | b'W' | b'q' | b'p' | b'P'));
            self.out.client(fields.encode(backend::NOTICE_RESPONSE).into_bytes());
        } else {
            self.out.client(frame.into_bytes());
        }
        Ok(())
    }

    fn parameter_status(&mut self, frame: Frame) -> Result<(), Violation> {
        let (name, value) = backend::parameter_status(&frame)?;
        if let Some(why) = unsafe_setting(name, value)
            && self.world.catalog.has_tags()
        {
            return Err(Violation(why.to_owned()));
        }
        self.session.parameter(name, value);
        self.out.client(frame.into_bytes());
        Ok(())
    }

    /// A message that belongs to the head.
    fn answer(&mut self, frame: Frame) -> Result<(), Violation> {
        let tag = frame.tag();
        let Some(head) = self.queue.head() else { return Err(unexplained(tag)) };
        match (&head.expect, tag) {
            (Expect::Parse { .. }, backend::PARSE_COMPLETE) => self.parsed(frame),
            (Expect::One(code), _) if *code == tag => self.whole(frame),
            (Expect::DescribeStatement(_), backend::PARAMETER_DESCRIPTION) => {
                self.parameters_described(frame)?
            }
            (Expect::DescribeStatement(_) | Expect::DescribePortal { .. }, backend::ROW_DESCRIPTION) => {
                self.described(frame)?;
            }
            (Expect::DescribePortal { .. }, backend::NO_DATA) if self.conversion.is_some() => {
                self.queue.pop();
            }
            (Expect::DescribeStatement(_) | Expect::DescribePortal { .. }, backend::NO_DATA) => {
                self.described_nothing(frame);
            }
            (Expect::Renewed(_), backend::PARAMETER_DESCRIPTION) => self.renewed_parameters(&frame)?,
            (Expect::Renewed(_), backend::ROW_DESCRIPTION | backend::NO_DATA) => {
                self.renewed_columns(&frame)?;
            }
            (Expect::Query(_), backend::ROW_DESCRIPTION) => self.query_described(frame)?,
            (
                Expect::Query(_) | Expect::Execute { .. },
                backend::COPY_IN_RESPONSE | backend::COPY_BOTH_RESPONSE,
            ) => self.copy_in_begins(frame)?,
            (Expect::Query(_) | Expect::Execute { .. }, backend::COPY_OUT_RESPONSE) => {
                self.copy_out_begins(frame)?;
            }
            (Expect::Query(_) | Expect::Execute { .. }, backend::COPY_DONE) => self.copy_out_ends(frame)?,
            (Expect::Query(_), backend::COMMAND_COMPLETE | backend::EMPTY_QUERY_RESPONSE) => {
                self.query_complete(frame)?;
            }
            (Expect::Execute { .. }, backend::COMMAND_COMPLETE | backend::EMPTY_QUERY_RESPONSE) => {
                self.execute_complete(frame)?;
            }
            (Expect::Execute { .. }, backend::PORTAL_SUSPENDED) => self.suspended(frame),
            _ => return Err(unexplained(tag)),
        }
        Ok(())
    }

    /// Gives a message of the head to the client, unless the head is hidden.
    pub(super) fn show(&mut self, frame: Frame) {
        if !self.reaches_client() {
            return;
        }
        self.mark_left();
        self.out.client(frame.into_bytes());
    }

    /// Something of the head's reply leaves: it can no longer be planned again unseen.
    pub(super) fn mark_left(&mut self) {
        if let Some(head) = self.queue.head_mut() {
            head.left = true;
        }
        if let Some(conversion) = &mut self.conversion {
            conversion.told = true;
        }
    }

    /// The head's only message.
    fn whole(&mut self, frame: Frame) {
        self.show(frame);
        if let Some(Owed { undo: Undo::Portal { before: Some(before), .. }, .. }) = self.queue.pop() {
            self.drop_portal(Some(*before));
        }
    }

    fn parsed(&mut self, frame: Frame) {
        self.show(frame);
        let Some(owed) = self.queue.pop() else { return };
        if let (Expect::Parse { name, prepared }, Role::Client) = (owed.expect, owed.role)
            && !name.is_empty()
        {
            self.statements.replaced(&name, prepared);
        }
    }

    fn parameters_described(&mut self, frame: Frame) -> Result<(), Violation> {
        let prepared = match self.queue.head().map(|head| &head.expect) {
            Some(Expect::DescribeStatement(Some(prepared))) => prepared.clone(),
            _ => {
                self.show(frame);
                return Ok(());
            }
        };
        let Some(plan) = prepared.plan() else {
            self.show(frame);
            return Ok(());
        };
        match cells::parameters_described(&frame, plan, &prepared.declared) {
            Ok(described) => {
                prepared.told.parameters(|| backend::parameter_description(&described))?;
                self.show(described);
            }
            Err(fault) => self.describe_fault(fault)?,
        }
        Ok(())
    }

    /// RowDescription in answer to a Describe.
    fn described(&mut self, frame: Frame) -> Result<(), Violation> {
        let (planned, prepared, formats) = match self.queue.head().map(|head| &head.expect) {
            Some(Expect::DescribeStatement(Some(of))) => (of.plan().cloned(), Some(of.clone()), None),
            Some(Expect::DescribePortal { plan, of, formats }) => (plan.clone(), of.clone(), formats.clone()),
            _ => (None, None, None),
        };
        let Some(plan) = planned else {
            self.whole(frame);
            return Ok(());
        };
        match self.rows_described(&frame, &plan, formats.as_ref()) {
            Ok(described) if formats.is_some_and(|formats| formats.differ()) && plan.copy.is_some() => {
                self.copied_lines_begin(&described, &plan)?;
            }
            Ok(described) => {
                if let Some(prepared) = prepared {
                    prepared.told.columns(|| backend::row_description(&described))?;
                }
                self.whole(described);
            }
            Err(fault) => {
                self.describe_fault(fault)?;
                self.queue.pop();
            }
        }
        Ok(())
    }

    /// What has no rows was described.
    fn described_nothing(&mut self, frame: Frame) {
        if let Some(Expect::DescribeStatement(of) | Expect::DescribePortal { of, .. }) =
            self.queue.head().map(|head| &head.expect)
            && let Some(prepared) = of
        {
            let _ = prepared.told.columns(|| Ok(Vec::new()));
        }
        self.whole(frame);
    }

    fn describe_fault(&mut self, fault: Fault) -> Result<(), Violation> {
        match fault {
            Fault::Stale => {
                self.settle.catalog_stale = true;
                if self.reaches_client() && !self.pipeline_again_after() {
                    self.fail(&Refusal::changed())?;
                }
                Ok(())
            }
            Fault::Refused(refusal) => self.fail(&refusal),
            Fault::Violation(violation) => Err(violation),
        }
    }

    /// RowDescription of a simple query's statement.
    fn query_described(&mut self, frame: Frame) -> Result<(), Violation> {
        let plan = self.queue.head().and_then(Owed::part).and_then(|part| part.plan.clone());
        let Some(plan) = plan else {
            self.show(frame);
            return Ok(());
        };
        match self.rows_described(&frame, &plan, None) {
            Ok(described) => self.show(described),
            Err(Fault::Stale) if self.plan_again() => {}
            Err(fault) => self.describe_fault(fault)?,
        }
        Ok(())
    }

    /// Marks the head's simple query to be planned again, unseen, once the server is through with it.
    pub(super) fn plan_again(&mut self) -> bool {
        let alone = self.queue.len() == 1 && self.held.is_none();
        let Some(Owed { expect: Expect::Query(query), left, .. }) = self.queue.head_mut() else {
            return false;
        };
        if !alone || *left || query.again.is_none() {
            return false;
        }
        query.stale = true;
        query.muted = true;
        self.replanning = true;
        true
    }

    /// The reply to one statement of a simple query is whole.
    fn query_complete(&mut self, frame: Frame) -> Result<(), Violation> {
        let Some(Owed { expect: Expect::Query(query), .. }) = self.queue.head_mut() else {
            return Err(unexplained(frame.tag()));
        };
        if query.at >= query.parts.len() && !query.verbatim {
            return Err(unexplained(frame.tag()));
        }
        let at = query.at.min(query.parts.len().saturating_sub(1));
        let (muted, hidden) = (query.muted, !self.reaches_client());
        let completed = self.completed_part(at);
        self.transaction_went_on(&frame, at)?;
        let frame = retagged(&completed, frame);
        self.show(frame);
        if let Some(Owed { expect: Expect::Query(query), .. }) = self.queue.head_mut() {
            query.at += 1;
        }
        if !muted && !hidden {
            self.complete(completed);
        } else if let Some(completed) = completed {
            self.apply(completed.effects);
        }
        Ok(())
    }

    /// A statement of the head has succeeded, whoever reads of it.
    fn transaction_went_on(&mut self, frame: &Frame, at: usize) -> Result<(), Violation> {
        if !self.session.purpose.is_pending() || frame.tag() != backend::COMMAND_COMPLETE {
            return Ok(());
        }
        let part = match self.queue.head().map(|head| &head.expect) {
            Some(Expect::Query(query)) => query.parts.get(at),
            Some(Expect::Execute { part, .. }) => Some(&**part),
            _ => None,
        };
        let savepoint = part.and_then(|part| part.savepoint.as_deref());
        self.session.purpose.completed(backend::command_tag(frame)?, savepoint);
        Ok(())
    }

    fn completed_part(&self, at: usize) -> Option<Completed> {
        let part = match self.queue.head().map(|head| &head.expect) {
            Some(Expect::Query(query)) => query.parts.get(at)?,
            Some(Expect::Execute { part, .. }) => part,
            _ => return None,
        };
        Some(Completed {
            kind: part.kind,
            run: part.run,
            effects: part.effects,
            local: part.local.clone(),
            naming: part.naming.clone(),
        })
    }

    fn complete(&mut self, completed: Option<Completed>) {
        let Some(completed) = completed else { return };
        if let Some(run) = completed.run {
            self.end_run(run, SUCCEEDED);
        }
        self.count_statement(completed.kind, SUCCEEDED);
        self.apply(completed.effects);
        if let Some(local) = &completed.local {
            self.apply_local(local);
        }
        if let Some(naming) = completed.naming {
            self.named(*naming);
        }
    }

    fn execute_complete(&mut self, frame: Frame) -> Result<(), Violation> {
        let completed = self.completed_part(0);
        self.transaction_went_on(&frame, 0)?;
        let frame = self.copied_lines_end(retagged(&completed, frame))?;
        self.show(frame);
        let Some(owed) = self.queue.pop() else { return Ok(()) };
        match owed.role {
            Role::Client => {
                if let Expect::Execute { portal: Some(name), part } = &owed.expect
                    && let Some(portal) = self.statements.portal_mut(name)
                    && portal.run == part.run
                {
                    portal.run = None;
                }
                self.complete(completed);
                if let Some(conversion) = &mut self.conversion {
                    conversion.through();
                }
            }
            Role::Ask => self.answered(),
            Role::Step | Role::Hidden => {}
        }
        Ok(())
    }

    fn suspended(&mut self, frame: Frame) {
        self.show(frame);
        let Some(owed) = self.queue.pop() else { return };
        let Expect::Execute { part, .. } = &owed.expect else { return };
        let Some(run) = part.run else { return };
        if !self.statements.holds_run(run) && !self.queue.uses_run(run) {
            self.end_run(run, SUCCEEDED);
        }
    }

    /// ReadyForQuery: the end of a pipeline or of a simple query.
    fn ready(&mut self, frame: Frame) -> Result<(), Violation> {
        let status = backend::ready_for_query(&frame)?;
        let explained = match self.queue.head().map(|head| &head.expect) {
            Some(Expect::Sync) => true,
            Some(Expect::Query(query)) => query.ended || query.verbatim || query.at >= query.parts.len(),
            Some(Expect::RefusedQuery(refused)) => refused.told,
            _ => false,
        };
        if !explained {
            return Err(unexplained(backend::READY_FOR_QUERY));
        }
        self.session.status = status;
        self.session.purpose.ready(status);
        let segment = self.queue.head().map_or(0, |head| head.segment);
        if status == TransactionStatus::Idle {
            for run in self.statements.end_portals(segment) {
                self.end_run(run, SUCCEEDED);
            }
            self.transaction_ended();
        }
        let Some(owed) = self.queue.pop() else { return Ok(()) };
        self.at_rest(segment, status);
        if self.take_pipeline_again(&owed) {
            return Ok(());
        }
        let mut again = None;
        if let Expect::Query(query) = owed.expect
            && query.stale
        {
            again = query.again;
        } else if let Some(conversion) = self.conversion.take_if(|conversion| conversion.is_ending())
            && conversion.stale
        {
            again = conversion.again;
        }
        match again {
            Some(frame) => self.take_again(frame),
            None if owed.role != Role::Client => {}
            None if self.settle.refreshing => self.settle.ready = Some(frame.into_bytes()),
            None => self.out.client(frame.into_bytes()),
        }
        Ok(())
    }
}

/// What is kept of a statement whose reply is whole.
struct Completed {
    kind: &'static str,
    run: Option<u64>,
    effects: crate::plan::Effects,
    local: Option<Local>,
    naming: Option<Box<Naming>>,
}

/// The tag that the client expects where a statement of ours stood for its command.
fn retagged(completed: &Option<Completed>, frame: Frame) -> Frame {
    match completed.as_ref().and_then(|completed| completed.local.as_ref()) {
        Some(Local::ShowStatus) => backend::encode_command_complete("SHOW"),
        _ => frame,
    }
}

pub(super) fn unrecorded() -> Refusal {
    Refusal::new(Reason::Unrecorded, "58030", "audit log cannot be written")
        .detail("What cannot be recorded is not disclosed.")
}

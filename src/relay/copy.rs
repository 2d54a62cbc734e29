//! COPY: what the client sends is sealed on its way to the server, what the server sends is opened on its way back.
//!
//! While the server reads a copy it ignores Sync and Flush, and takes any other message for a violation. So does this: a
//! Sync is kept back, for where the server turns out not to have been reading. Data that cannot be sealed ends the copy
//! with CopyFail, and the client reads our error in place of the server's word for that; what it still sends of the copy
//! goes nowhere. Copies of tables without tagged columns pass as they are.

use super::cells::{count_sealed, released_of};
use super::queue::{Expect, Owed};
use super::refuse::told;
use super::reply::unexplained;
use super::rows::Mishap;
use super::run::{Gate, Run, limits_clear};
use super::spending::{Granted, Parked, Released};
use super::{Held, Relay, reply};
use crate::cell::{CopyLines, CopyOpener, CopySealer, Formats};
use crate::metrics::{CellOperation, Metrics};
use crate::plan::{Judgement, Refusal, StatementPlan};
use crate::policy::Action;
use crate::value::Style;
use crate::wire::backend::{self, ErrorFields};
use crate::wire::{Frame, Messages, Violation, frontend};

/// What stands in a CopyFail of ours: the server quotes it in its error, in whatever language.
const REFUSED: &str = "pgveil_refused";

/// The rows of a COPY that is planned.
pub(super) enum CopyRun {
    In(Box<CopySealer>),
    Out(Box<CopyOpener>),
    /// It comes as a query's rows, which the run's opener opens.
    Lines(Box<CopyLines>),
}

/// A copy that the server reads.
pub(super) struct CopyIn {
    /// The run that seals it; `None` when it passes.
    run: Option<u64>,
    /// Its end was sent.
    ended: bool,
    /// The client has sent its end.
    ended_by_client: bool,
    /// What the client reads, once it was found wrong here.
    ours: Option<ErrorFields>,
    /// The client's Sync that came too early.
    sync: Option<Frame>,
    /// Something of it was sent: the server was reading, and has ignored the Sync.
    moved: bool,
}

impl Relay {
    /// What seals or opens the rows of a plan that is a COPY.
    pub(super) fn copy_run(
        &self,
        plan: &StatementPlan,
        judgement: &Judgement,
        formats: &Formats,
    ) -> Option<CopyRun> {
        let rows = plan.copy.as_ref()?;
        if formats.differ() {
            return Some(CopyRun::Lines(Box::new(CopyLines::new(rows))));
        }
        if rows.from {
            rows.columns.iter().find(|column| column.seal.is_some())?;
            let marker = self.session.csv_has_marker();
            let sealer =
                CopySealer::new(rows, self.world.ciphers.clone(), marker, self.session.row_bytes_max);
            return Some(CopyRun::In(Box::new(sealer)));
        }
        let clear = plan.uses.iter().any(|used| used.action == Action::Read && !used.sealed);
        let (columns, ciphers) = (plan.columns.as_deref(), &self.world.ciphers);
        if columns.is_none() && !clear {
            return None;
        }
        let every_row = columns.is_none() || limits_clear(plan, judgement);
        let opener = CopyOpener::new(rows, columns, judgement, ciphers, every_row);
        Some(CopyRun::Out(Box::new(opener)))
    }

    /// The rows of a copy are sent in binary, as the server was told.
    pub(super) fn recode_copy(&mut self, run: u64) {
        if let Some(Run { copy: Some(CopyRun::In(sealer)), .. }) = self.runs.get_mut(&run) {
            sealer.recode();
        }
    }

    /// The server is ready to read a copy.
    pub(super) fn copy_in_begins(&mut self, mut frame: Frame) -> Result<(), Violation> {
        self.queue.forget_syncs_in_copy();
        let sync = self.held.take_if(|held| held.frame.tag() == frontend::SYNC).map(|held| held.frame);
        let run = self.queue.head().and_then(Owed::part).and_then(|part| part.run);
        let run =
            run.filter(|run| matches!(self.runs.get(run), Some(Run { copy: Some(CopyRun::In(_)), .. })));
        if let Some(Run { copy: Some(CopyRun::In(sealer)), .. }) = run.and_then(|run| self.runs.get(&run))
            && let Some(columns) = sealer.recoded_columns()
        {
            frame = backend::encode_copy_in(columns);
        }
        let waits = self.held.as_ref().filter(|held| !is_copy(held.frame.tag()));
        if let (Some(held), Some(_)) = (waits, run) {
            return Err(unexpected(held.frame.tag()));
        }
        let none = CopyIn { run, ended: false, ended_by_client: false, ours: None, sync, moved: false };
        self.copy_in = Some(none);
        match self.gate() {
            Gate::Failed => self.fail_copy_in(&reply::unrecorded()),
            // Its reply goes nowhere, so nobody will send the data.
            _ if !self.reaches_client() => self.send_copy_fail(),
            Gate::Open | Gate::Waiting => self.show(frame),
        }
        Ok(())
    }

    /// Whether the server is reading a copy that has not been ended.
    fn is_reading_copy(&self) -> bool {
        self.copy_in.as_ref().is_some_and(|copy| !copy.ended)
    }

    /// Takes the client's message where it concerns a copy, or must be seen in its light. `None`: it is not for here.
    ///
    /// # Errors
    /// A message that may not stand in a copy.
    pub(super) fn copy_message(&mut self, held: Held) -> Result<Option<Held>, Violation> {
        let tag = held.frame.tag();
        if is_copy(tag) {
            let planned = self.queue.has_copy_in() || self.conversion.is_some();
            if self.copy_in.is_none() && planned && !self.skipping && !self.copy_rest {
                // Before the server has said that it reads: it may not come to that.
                self.flush();
                self.held = Some(held);
            } else if tag == frontend::COPY_DATA {
                self.copy_data(held.frame);
            } else {
                self.copy_end(held.frame);
            }
            return Ok(None);
        }
        self.copy_rest = false;
        if !self.is_reading_copy() {
            return Ok(Some(held));
        }
        match (tag, &mut self.copy_in) {
            (frontend::SYNC, Some(copy)) => copy.sync = Some(held.frame),
            (frontend::FLUSH, _) => {}
            (_, Some(CopyIn { run: Some(_), .. })) => return Err(unexpected(tag)),
            _ => return Ok(Some(held)),
        }
        Ok(None)
    }

    fn copy_data(&mut self, frame: Frame) {
        match &mut self.copy_in {
            // The server ignores what comes too late; of a copy that was sealed it shall not even see it.
            None if self.copy_rest => {}
            Some(CopyIn { run: Some(_), ended: true, .. }) => {}
            Some(copy) => {
                copy.moved = true;
                match copy.run {
                    Some(run) => self.seal_copy(run, &frame.into(), false),
                    None => self.forward(frame.into_bytes()),
                }
            }
            None => self.forward(frame.into_bytes()),
        }
    }

    /// The client ends its copy.
    fn copy_end(&mut self, frame: Frame) {
        if std::mem::take(&mut self.copy_rest) {
            return;
        }
        if let Some(copy) = &mut self.copy_in {
            copy.ended_by_client = true;
            if let Some(run) = copy.run {
                if copy.ended {
                    return;
                }
                if frame.tag() == frontend::COPY_DONE {
                    self.seal_copy(run, &Messages::default(), true);
                }
            }
        }
        if let Some(copy) = &mut self.copy_in {
            if copy.run.is_some() && copy.ended {
                return;
            }
            copy.ended = true;
            copy.moved = true;
        }
        self.forward(frame.into_bytes());
        if !self.queue.is_empty() {
            self.queue.push(Owed::new(Expect::CopyEnd, super::queue::Role::Hidden));
        }
        self.copy_ended();
    }

    /// The server ignored every Flush while it was reading the copy.
    fn copy_ended(&mut self) {
        self.unflushed = true;
        if self.conversion.is_some() {
            self.flush();
        }
    }

    /// Seals all data of a copy at the front of what the client sent, in one batch; whether there was any.
    pub(super) fn copied_data(&mut self, messages: &mut Messages) -> bool {
        match &mut self.copy_in {
            Some(CopyIn { run: Some(run), ended: false, moved, .. })
                if messages.tag() == Some(frontend::COPY_DATA) =>
            {
                *moved = true;
                let run = *run;
                let data = messages.take_run(frontend::COPY_DATA);
                self.seal_copy(run, &data, false);
                true
            }
            _ => false,
        }
    }

    fn seal_copy(&mut self, run: u64, data: &Messages, last: bool) {
        let Some(Run { copy: Some(CopyRun::In(sealer)), plan, .. }) = self.runs.get_mut(&run) else { return };
        let (style, random, out) = (&self.session.style, &mut *self.random, self.out.server_buffer());
        let (sealed, result) = self.metrics.timed_cells(
            CellOperation::Seal,
            || {
                data.bodies().for_each(|body| sealer.read(body));
                sealer.seal(last, style, random, out)
            },
            |(sealed, _)| sealed.iter().map(|(_, cells)| cells).sum(),
        );
        count_sealed(&self.metrics, &sealed);
        if let Err(refusal) = result {
            if sealer.left_unread() {
                plan.habit.left_unread(true);
            }
            self.fail_copy_in(&refusal);
        }
    }

    fn fail_copy_in(&mut self, refusal: &Refusal) {
        self.metrics.refused(refusal.reason.name());
        if let Some(copy) = &mut self.copy_in {
            copy.ours = Some(told(refusal, ""));
        }
        self.send_copy_fail();
    }

    fn send_copy_fail(&mut self) {
        if let Some(copy) = &mut self.copy_in {
            copy.ended = true;
            copy.moved = true;
        }
        self.forward(frontend::encode_copy_fail(REFUSED).into_bytes());
        self.copy_ended();
    }

    /// Our error in place of the server's, where that speaks of our CopyFail.
    pub(super) fn copy_error(&self, fields: ErrorFields) -> ErrorFields {
        let ours = self.copy_in.as_ref().and_then(|copy| copy.ours.as_ref());
        let failed =
            fields.sqlstate() == "57014" && fields.get(b'M').is_some_and(|text| text.contains(REFUSED));
        ours.filter(|_| failed).cloned().unwrap_or(fields)
    }

    /// Whether an error is ours, of a copy that failed here: nothing in it quotes a value.
    pub(super) fn is_copy_error(&self, fields: &ErrorFields) -> bool {
        self.copy_in.as_ref().is_some_and(|copy| copy.ours.as_ref() == Some(fields))
    }

    /// The reply to the statement that copied is whole, well or not.
    pub(super) fn copy_over(&mut self, failed: bool) {
        let Some(copy) = self.copy_in.take().filter(|_| failed) else { return };
        self.copy_rest = copy.run.is_some() && !copy.ended_by_client;
        // The server has read nothing of the copy, so this is what it reads next.
        if let Some(sync) = copy.sync.filter(|_| !copy.moved && self.conversion.is_none()) {
            self.sync(sync);
        }
    }

    /// Takes all copied rows at the front of the backlog; they belong to the head.
    pub(super) fn copied_rows(&mut self) -> Result<(), Violation> {
        let rows = self.backlog.take_run(backend::COPY_DATA);
        let head =
            self.queue.head().filter(|head| matches!(head.expect, Expect::Execute { .. } | Expect::Query(_)));
        let Some(head) = head else { return Err(unexplained(backend::COPY_DATA)) };
        let run = head.part().and_then(|part| part.run);
        if !self.reaches_client() {
            return Ok(());
        }
        self.mark_left();
        match run.and_then(|run| Some((run, self.runs.get_mut(&run)?))) {
            Some((number, run)) if matches!(run.copy, Some(CopyRun::Out(_))) => {
                let released = run.release_copy(&rows, &self.session.style, &mut self.out, &self.metrics);
                self.mishap(number, released)
            }
            _ => {
                self.out.client(rows.into_bytes());
                Ok(())
            }
        }
    }

    /// The server begins to send a copy, which must have the columns that the plan knows.
    pub(super) fn copy_out_begins(&mut self, frame: Frame) -> Result<(), Violation> {
        let part = self.queue.head().and_then(Owed::part);
        let planned = part.and_then(|part| part.plan.as_ref()).and_then(|plan| plan.copy.as_ref());
        let differs = planned.map_or(Ok(false), |rows| {
            backend::copy_columns(&frame).map(|columns| columns != rows.columns.len())
        })?;
        if differs && self.reaches_client() {
            self.settle.catalog_stale = true;
            return self.fail(&Refusal::changed());
        }
        self.show(frame);
        Ok(())
    }

    /// The rows of a query that stands for a copy are described: what the client reads instead.
    pub(super) fn copied_lines_begin(
        &mut self,
        described: &Frame,
        plan: &StatementPlan,
    ) -> Result<(), Violation> {
        let Some(rows) = &plan.copy else { return Ok(()) };
        let fields = backend::row_description(described)?;
        if self.reaches_client() {
            self.mark_left();
            let names = fields.iter().map(|field| field.name.as_str());
            CopyLines::new(rows).begin(names, self.out.client_buffer());
        }
        self.queue.pop();
        Ok(())
    }

    /// What completes a copy for the client, where a query stood for it.
    pub(super) fn copied_lines_end(&mut self, frame: Frame) -> Result<Frame, Violation> {
        let run = self.queue.head().and_then(Owed::part).and_then(|part| part.run);
        let run = run.and_then(|run| self.runs.get(&run));
        if !matches!(run, Some(Run { copy: Some(CopyRun::Lines(_)), .. })) {
            return Ok(frame);
        }
        let tag = backend::command_tag(&frame)?.replacen("SELECT", "COPY", 1);
        self.show(backend::encode_copy_done());
        Ok(backend::encode_command_complete(&tag))
    }

    /// The server has sent all of a copy.
    pub(super) fn copy_out_ends(&mut self, frame: Frame) -> Result<(), Violation> {
        let run = self.queue.head().and_then(Owed::part).and_then(|part| part.run);
        let broken = run
            .and_then(|run| self.runs.get(&run))
            .is_some_and(|run| matches!(&run.copy, Some(CopyRun::Out(opener)) if opener.is_waiting()));
        if broken && self.reaches_client() {
            return self.fail(&Refusal::changed());
        }
        self.show(frame);
        Ok(())
    }
}

impl Run {
    /// As `release`, for copied rows.
    fn release_copy(
        &mut self,
        messages: &Messages,
        style: &Style,
        out: &mut super::out::Out,
        metrics: &Metrics,
    ) -> Mishap {
        let Some(CopyRun::Out(opener)) = &mut self.copy else { return Ok(Released::All) };
        let rows = opener.read(messages)?;
        let wanted = opener.rows_at_most(rows, messages.bytes().len());
        match self.reserve(wanted) {
            Ok(granted) => self.release_copied(rows, style, out, granted, metrics),
            Err(wanted) => {
                self.parked = Some(Parked::Copied(rows));
                Ok(Released::Waits(wanted))
            }
        }
    }

    /// Lets copied rows go that the opener has read and that were counted.
    pub(super) fn release_copied(
        &mut self,
        rows: usize,
        style: &Style,
        out: &mut super::out::Out,
        granted: Option<Granted>,
        metrics: &Metrics,
    ) -> Mishap {
        self.within_limits(granted, |run, limit| {
            let Run { copy: Some(CopyRun::Out(opener)), finder, .. } = run else { return Ok(Released::All) };
            let max = limit.as_ref().map(|(left, _)| *left);
            let released = metrics.timed_cells(
                CellOperation::Open,
                || opener.release(style, max, finder.as_mut(), out.client_buffer()),
                |released| released.as_ref().map_or(0, |released| released.tally.cells_opened()),
            )?;
            run.count(released.tally);
            Ok(released_of(released.rows >= rows, limit))
        })
    }
}

fn is_copy(tag: u8) -> bool {
    matches!(tag, frontend::COPY_DATA | frontend::COPY_DONE | frontend::COPY_FAIL)
}

fn unexpected(tag: u8) -> Violation {
    Violation(format!("unexpected message type 0x{tag:02X} during COPY from stdin"))
}

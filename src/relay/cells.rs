//! The seam to `cell`: sealing literals and parameters, opening rows, describing results, and what is compared.
//!
//! Only comparisons under an oracle ruling are kept: they count against the rule's limit. Faults of a cell become what
//! the client reads (XX001), without a value.

use super::Relay;
use super::copy::CopyRun;
use super::out::Out;
use super::rows::Mishap;
use super::run::Run;
use super::spending::{Granted, Parked, Released};
use crate::catalog::{Action, ByLabel, Catalog};
use crate::cell::{self, FaultCause, Formats, SealedBind, Tally};
use crate::crypto::OpenCause;
use crate::metrics::{CellOperation, Metrics};
use crate::plan::{Judgement, Reason, Refusal, StatementPlan};
use crate::value::Style;
use crate::wire::backend;
use crate::wire::frontend::Bind;
use crate::wire::{Frame, Messages, Violation};
use std::sync::Arc;

/// (label, values) compared.
pub(super) type Compared = ByLabel;

/// Why bytes could not be carried through.
pub(super) enum Fault {
    /// The server describes something else than the plan was made for.
    Stale,
    Refused(Refusal),
    Violation(Violation),
}

impl From<Violation> for Fault {
    fn from(violation: Violation) -> Fault {
        Fault::Violation(violation)
    }
}

impl From<cell::describe::Stale> for Fault {
    fn from(_: cell::describe::Stale) -> Fault {
        Fault::Stale
    }
}

impl From<cell::CellFault> for Fault {
    fn from(fault: cell::CellFault) -> Fault {
        let why = match &fault.cause {
            FaultCause::Row(_) => return Fault::Stale,
            FaultCause::NoKey => "The keyring has no key for it.",
            FaultCause::Malformed => "It holds another type of value.",
            FaultCause::NotOpened(OpenCause::NotAnEnvelope) => "It does not have the form of a sealed cell.",
            FaultCause::NotOpened(OpenCause::OtherDomain) => "It was sealed for another domain.",
            FaultCause::NotOpened(OpenCause::UnknownVersion(_)) => {
                "The keyring has no such version of the key."
            }
            FaultCause::NotOpened(OpenCause::Altered) => "It was altered, or sealed under another key.",
        };
        let message = format!("sealed cell of column {} does not open", fault.column);
        Fault::Refused(Refusal::new(Reason::Broken, "XX001", message).detail(why))
    }
}

/// Those of `compared` that a ruling of the judgement makes an oracle of.
pub(super) fn under_oracle(compared: Compared, plan: &StatementPlan, judgement: &Judgement) -> Compared {
    let is_oracle = |label: &str| {
        plan.uses.iter().zip(judgement.rulings.iter()).any(|(used, ruling)| {
            ruling.oracle && used.action == Action::Compare && *used.domain.0.label == *label
        })
    };
    compared.into_iter().filter(|(label, _)| is_oracle(label)).collect()
}

/// RowDescription with logical types.
pub(super) fn rows_described(
    frame: &Frame,
    plan: &StatementPlan,
    formats: Option<&Formats>,
    catalog: &Catalog,
) -> Result<Frame, Fault> {
    if plan.columns.is_none() {
        return Ok(frame.clone());
    }
    let mut fields = backend::row_description(frame)?;
    cell::describe::row_description(plan, catalog, formats, &mut fields)?;
    Ok(backend::encode_row_description(&fields))
}

/// The last RowDescription that was changed: a statement that is executed again is described alike.
pub(super) struct Described {
    plan: Arc<StatementPlan>,
    formats: Option<Arc<Formats>>,
    generation: u64,
    /// As the server sent it: a copy, for it may stand among much else that was read.
    server: Box<[u8]>,
    client: Frame,
}

impl Described {
    fn is_of(
        &self,
        frame: &Frame,
        plan: &Arc<StatementPlan>,
        formats: Option<&Arc<Formats>>,
        catalog: &Catalog,
    ) -> bool {
        Arc::ptr_eq(&self.plan, plan)
            && self.formats.as_ref() == formats
            && self.generation == catalog.generation
            && *self.server == **frame.bytes()
    }
}

impl Relay {
    /// RowDescription with logical types.
    pub(super) fn rows_described(
        &mut self,
        frame: &Frame,
        plan: &Arc<StatementPlan>,
        formats: Option<&Arc<Formats>>,
    ) -> Result<Frame, Fault> {
        let catalog = &self.world.catalog;
        let last = self.described.as_ref();
        if let Some(described) = last.filter(|last| last.is_of(frame, plan, formats, catalog)) {
            return Ok(described.client.clone());
        }
        let client = rows_described(frame, plan, formats.map(|formats| &**formats), catalog)?;
        if plan.columns.is_some() {
            let (server, generation) = (frame.bytes()[..].into(), catalog.generation);
            let (plan, formats) = (plan.clone(), formats.cloned());
            self.described = Some(Described { plan, formats, generation, server, client: client.clone() });
        }
        Ok(client)
    }
}

/// ParameterDescription with the client's own parameters and logical types.
pub(super) fn parameters_described(
    frame: &Frame,
    plan: &StatementPlan,
    declared: &[u32],
) -> Result<Frame, Fault> {
    let server = backend::parameter_description(frame)?;
    let types = cell::describe::parameter_description(plan, declared, &server)?;
    Ok(backend::encode_parameter_description(&types))
}

/// A description as the client is told it; `None` where it is not of what the plan was made for.
pub(super) fn described(
    plan: Option<&Arc<StatementPlan>>,
    frame: &Frame,
    tell: impl FnOnce(&Frame, &StatementPlan) -> Result<Frame, Fault>,
) -> Result<Option<Frame>, Violation> {
    let Some(plan) = plan else { return Ok(Some(frame.clone())) };
    match tell(frame, plan) {
        Ok(told) => Ok(Some(told)),
        Err(Fault::Stale | Fault::Refused(_)) => Ok(None),
        Err(Fault::Violation(violation)) => Err(violation),
    }
}

/// What came of a batch of which all have left, or those up to the limit.
pub(super) fn released_of(whole: bool, limit: Option<(u64, Refusal)>) -> Released {
    match limit {
        Some((_, refusal)) if !whole => Released::Spent(refusal),
        _ => Released::All,
    }
}

impl Run {
    /// Lets rows go, opened as the judgement says, up to the rules' limits.
    pub(super) fn release(
        &mut self,
        rows: &Messages,
        style: &Style,
        out: &mut Out,
        metrics: &Metrics,
    ) -> Mishap {
        let count = rows.len();
        let wanted = match &self.opener {
            Some(opener) => opener.rows_at_most_of(count, rows.bytes().len()),
            None if self.reads_clear() => u64::try_from(count).unwrap_or(u64::MAX),
            None => 0,
        };
        match self.reserve(wanted) {
            Ok(granted) => self.release_granted(rows, style, out, granted, metrics),
            Err(wanted) => {
                self.parked = Some(Parked::Rows(rows.clone()));
                Ok(Released::Waits(wanted))
            }
        }
    }

    /// As [`release`](Self::release), of rows that were counted.
    pub(super) fn release_granted(
        &mut self,
        rows: &Messages,
        style: &Style,
        out: &mut Out,
        granted: Option<Granted>,
        metrics: &Metrics,
    ) -> Mishap {
        self.within_limits(granted, |run, limit| run.release_up_to(rows, style, out, limit, metrics))
    }

    /// Whether it reads tagged columns that are stored in clear, masked by the database.
    fn reads_clear(&self) -> bool {
        self.plan.uses.iter().any(|used| used.action == Action::Read && !used.sealed)
    }

    fn release_up_to(
        &mut self,
        rows: &Messages,
        style: &Style,
        out: &mut Out,
        limit: Option<(u64, Refusal)>,
        metrics: &Metrics,
    ) -> Mishap {
        let max = limit.as_ref().map(|(left, _)| *left);
        let Some(opener) = &mut self.opener else {
            // Clear tagged columns, masked by the database: every row counts.
            if !self.reads_clear() {
                out.client(rows.bytes().clone());
                return Ok(Released::All);
            }
            let left = max.map_or(usize::MAX, |left| usize::try_from(left).unwrap_or(usize::MAX));
            let count = rows.len();
            let released = count.min(left);
            if released == count {
                out.client(rows.bytes().clone());
            } else {
                rows.clone().take(released).for_each(|row| out.client(row.into_bytes()));
            }
            self.find_persons(rows, released, style);
            self.count_clear(u64::try_from(released).unwrap_or(u64::MAX));
            return Ok(released_of(released == count, limit));
        };
        let released = metrics.timed_cells(
            CellOperation::Open,
            || match &mut self.copy {
                Some(CopyRun::Lines(lines)) => lines.rows_in(opener, rows, style, max, out.client_buffer()),
                _ => opener.rows_in(rows.bytes(), style, max, out.client_buffer()),
            },
            |result| result.as_ref().map_or(0, |released| released.tally.cells_opened()),
        )?;
        let whole = released.bytes == rows.bytes().len();
        if let Some(finder) = &mut self.finder {
            finder.rows_in(rows.bytes().get(..released.bytes).unwrap_or_default(), style);
        }
        self.count(released.tally);
        Ok(released_of(whole, limit))
    }

    /// Looks whose the first so many rows are.
    fn find_persons(&mut self, rows: &Messages, count: usize, style: &Style) {
        let Some(finder) = &mut self.finder else { return };
        if count == rows.len() {
            finder.rows_in(rows.bytes(), style);
        } else {
            rows.clone().take(count).for_each(|row| finder.rows_in(row.bytes(), style));
        }
    }

    /// Counts rows of tagged columns that are stored in clear.
    fn count_clear(&mut self, rows: u64) {
        self.count_rows(rows);
        let plan = self.plan.clone();
        let mut labels: Vec<&Arc<str>> = plan
            .uses
            .iter()
            .filter(|used| used.action == Action::Read && !used.sealed)
            .map(|used| &used.domain.0.label)
            .collect();
        labels.sort_unstable();
        labels.dedup();
        for label in labels {
            self.count_label(label.clone(), rows);
        }
    }

    fn count_label(&mut self, label: Arc<str>, rows: u64) {
        match self.rows_by_label.iter_mut().find(|(known, _)| *known == label) {
            Some((_, known)) => *known += rows,
            None => self.rows_by_label.push((label, rows)),
        }
    }

    /// Counts what a batch disclosed.
    pub(super) fn count(&mut self, tally: Tally) {
        self.count_rows(tally.rows);
        for (label, rows) in tally.rows_by_label {
            self.count_label(label, rows);
        }
        for (label, disclosure, cells) in tally.cells {
            self.disclosed(label, disclosure, cells);
        }
    }

    /// Cells of a label that left in this form.
    pub(super) fn disclosed(&mut self, label: Arc<str>, disclosure: &'static str, cells: u64) {
        let same = |known: &&mut (Arc<str>, &'static str, u64)| known.0 == label && known.1 == disclosure;
        match self.cells.iter_mut().find(same) {
            Some((_, _, known)) => *known += cells,
            None => self.cells.push((label, disclosure, cells)),
        }
    }
}

impl Relay {
    /// The statement as sent, with its literals sealed; and what they compare. `text` is the client's whole text.
    pub(super) fn seal_literals(
        &mut self,
        plan: &StatementPlan,
        text: &str,
    ) -> Result<(String, Compared), Refusal> {
        let style = &self.session.style;
        let sealed = self.metrics.timed_cells(
            CellOperation::Seal,
            || cell::seal::literals(plan, text, &self.world.ciphers, style, &mut *self.random),
            |result| result.as_ref().map_or(0, |sealed| cells(&sealed.sealed)),
        )?;
        count_sealed(&self.metrics, &sealed.sealed);
        let compared = sealed.compared.into_iter().chain(plan.compared.iter().cloned());
        Ok((sealed.sql, compared.collect()))
    }

    pub(super) fn seal_parameters<'b>(
        &mut self,
        plan: &StatementPlan,
        declared: &[u32],
        bind: &Bind<'b>,
    ) -> Result<SealedBind<'b>, Refusal> {
        let style = &self.session.style;
        let sealed = self.metrics.timed_cells(
            CellOperation::Seal,
            || cell::seal::parameters(plan, declared, bind, &self.world.ciphers, style, &mut *self.random),
            |result| result.as_ref().map_or(0, |sealed| cells(&sealed.sealed)),
        )?;
        count_sealed(&self.metrics, &sealed.sealed);
        Ok(sealed)
    }
}

fn cells(sealed: &[(Arc<str>, u64)]) -> u64 {
    sealed.iter().map(|(_, cells)| cells).sum()
}

pub(super) fn count_sealed(metrics: &Metrics, sealed: &[(Arc<str>, u64)]) {
    for (label, cells) in sealed {
        metrics.cells_sealed(label, *cells);
    }
}

//! One carrying-out of a plan that uses tagged columns: its record, its gate, its limits and its count.
//!
//! The intent goes to the log when the statement goes to the server; until it is accepted the gate holds the reply.
//! The outcome follows when the statement has ended, however it ended.

use super::cells::Compared;
use super::copy::CopyRun;
use super::judge::Judged;
use super::spending::{Parked, Spending};
use super::{Now, Relay, Step, violation};
use crate::audit::persons::{PERSONS_MAX, Persons};
use crate::audit::{Event, SUCCEEDED, Unrecorded};
use crate::catalog::{Action, ByLabel};
use crate::cell::person::{Found, Pinned};
use crate::cell::{self, Formats, PersonFinder, RowOpener};
use crate::crypto::Ciphers;
use crate::metrics::Outcome;
use crate::plan::{Judgement, NameKind, Reason, Refusal, StatementPlan};
use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gate {
    Waiting,
    Open,
    /// The log cannot be written: nothing of the reply may leave.
    Failed,
}

pub(super) struct Run {
    pub(super) plan: Arc<StatementPlan>,
    pub(super) judgement: Judgement,
    formats: Arc<Formats>,
    ciphers: Arc<Ciphers>,
    pub(super) gate: Gate,
    pub(super) opener: Option<RowOpener>,
    /// Whose cells leave, where rows tell.
    pub(super) finder: Option<PersonFinder>,
    /// For a COPY that is sealed or opened.
    pub(super) copy: Option<CopyRun>,
    /// Rows that left.
    pub(super) rows: u64,
    /// Rows that left of the cursor that it fetches from, with those of other fetches.
    cursor: Option<Arc<AtomicU64>>,
    /// (label, disclosure, cells that left), each once.
    pub(super) cells: Vec<(Arc<str>, &'static str, u64)>,
    /// (label, rows that left and disclosed one of its cells), each once.
    pub(super) rows_by_label: ByLabel,
    /// Limits over time that its rows count against.
    pub(super) spending: Option<Spending>,
    /// Rows that wait until they are counted.
    pub(super) parked: Option<Parked>,
    /// Where one comparison was counted for a violated key that it may end with.
    violation: Option<Spending>,
    /// Under an oracle.
    compared: Compared,
    began: Now,
}

impl Run {
    /// How many rows may still leave, and the rule that says so.
    pub(super) fn rows_left(&self) -> Option<(u64, Refusal)> {
        let limit = self.judgement.rows_per_statement()?;
        let rule = self.judgement.rulings.iter().find_map(|ruling| {
            let counts = ruling.action == Action::Read && ruling.limits.rows_per_statement == Some(limit);
            ruling.rule.as_ref().filter(|_| counts).map(|rule| rule.name.to_string())
        });
        let refusal = limit_spent("row", &rule.unwrap_or_default(), limit)
            .hint("Ask for fewer rows, for example with LIMIT.");
        let rows = self.cursor.as_ref().map_or(self.rows, |rows| rows.load(Ordering::Relaxed));
        Some((limit.saturating_sub(rows), refusal))
    }

    /// Whose cells have left; `None` where no table with a record key is read.
    fn persons(&mut self) -> Option<Persons> {
        let plan = self.plan.persons.as_ref()?;
        let found = self.finder.take().map(PersonFinder::finish);
        let all_known = found.is_some() && !plan.others;
        let Found { handles, more, unknown } = found.unwrap_or_default();
        // Of some rows nobody knows whose else they are, so all count.
        let unknown = if all_known { unknown } else { self.rows };
        Some(Persons { handles, seen: vec![], more, unknown })
    }

    /// Rows that disclose something leave.
    pub(super) fn count_rows(&mut self, rows: u64) {
        self.rows += rows;
        if let Some(cursor) = &self.cursor {
            cursor.fetch_add(rows, Ordering::Relaxed);
        }
    }
}

/// What opened the rows of the last run, for another of the same statement under the same judgement: making it costs more than
/// opening a row.
pub(super) struct Spare {
    plan: Arc<StatementPlan>,
    judgement: Judgement,
    formats: Arc<Formats>,
    ciphers: Arc<Ciphers>,
    opener: RowOpener,
}

/// Room that a spare opener may keep, in bytes: what a few rows take.
const SPARE_ROOM: usize = 16 * 1024;

fn limit_spent(what: &str, rule: &str, limit: u64) -> Refusal {
    Refusal::new(Reason::Limit, "53400", format!("{what} limit of rule \"{rule}\" is spent"))
        .detail(format!("The rule gives {limit} a statement."))
}

/// Whether a statement compares more values than an oracle's rule gives.
pub(super) fn check_comparisons(
    plan: &StatementPlan,
    judgement: &Judgement,
    compared: &[(Arc<str>, u64)],
) -> Result<(), Refusal> {
    let Some(limit) = judgement.comparisons_per_statement() else { return Ok(()) };
    if compared.iter().map(|(_, values)| values).sum::<u64>() <= limit {
        return Ok(());
    }
    let rule =
        judgement.rulings.iter().filter(|ruling| ruling.oracle).find_map(|ruling| ruling.rule.as_ref());
    let rule = rule.map(|rule| rule.name.to_string()).unwrap_or_default();
    let mut refusal = limit_spent("comparison", &rule, limit).hint("Compare fewer values in one statement.");
    let uses = plan.uses.iter().filter(|used| used.action == Action::Compare);
    refusal.uses =
        uses.map(|used| (used.column_name(), used.domain.0.label.to_string(), used.action)).collect();
    Err(refusal)
}

impl Run {
    /// Whether rows were copied in as the client spells them, for the server to read.
    fn copies_as_spelled(&self) -> bool {
        matches!(&self.copy, Some(CopyRun::In(sealer)) if sealer.recoded_columns().is_none())
    }
}

/// Whether rows count for what is stored in clear, and so for what the opened cells do not tell.
pub(super) fn limits_clear(plan: &StatementPlan, judgement: &Judgement) -> bool {
    let mut uses = plan.uses.iter().zip(judgement.rulings.iter());
    uses.any(|(used, ruling)| !used.sealed && used.action == Action::Read && ruling.limits.are_set())
}

impl Relay {
    /// A statement with uses goes to the server: its intent goes to the log.
    pub(super) fn begin_run(
        &mut self,
        plan: &Arc<StatementPlan>,
        judged: &Judged,
        (compared, pinned): (Compared, &Pinned),
        formats: &Arc<Formats>,
    ) -> u64 {
        let judgement = &judged.judgement;
        let opener = self.opener(plan, judgement, formats);
        self.statement += 1;
        let statement = self.statement;
        self.record(Event::Intent { statement, intent: judged.intent.clone() }, true);
        self.gates.push_back(statement);
        let user = self.session.principal.user();
        let spending = Spending::of_reads(judgement, &self.session.budgets, user);
        let violation = if plan.effects.writes { self.oracles(judgement) } else { None };
        let copy = self.copy_run(plan, judgement, formats);
        let finder = self.finder(plan, judgement, pinned, formats);
        let cursor =
            plan.cursor.as_ref().and_then(|name| self.namings.get(&(NameKind::Cursor, name.clone())));
        let cursor = cursor.map(|naming| naming.rows.clone());
        let run = Run {
            cursor,
            spending,
            parked: None,
            violation,
            plan: plan.clone(),
            judgement: judgement.clone(),
            formats: formats.clone(),
            ciphers: self.world.ciphers.clone(),
            gate: Gate::Waiting,
            opener,
            finder,
            copy,
            rows: 0,
            cells: vec![],
            rows_by_label: vec![],
            compared,
            began: self.now,
        };
        self.runs.push(statement, run);
        statement
    }

    /// What opens the rows of a plan, when it has columns to open.
    fn opener(
        &mut self,
        plan: &Arc<StatementPlan>,
        judgement: &Judgement,
        formats: &Formats,
    ) -> Option<RowOpener> {
        let columns = plan.columns.as_ref()?;
        let ciphers = &self.world.ciphers;
        let fits = |spare: &mut Spare| {
            Arc::ptr_eq(&spare.plan, plan)
                && Arc::ptr_eq(&spare.ciphers, ciphers)
                && *spare.formats == *formats
                && spare.judgement == *judgement
        };
        let spare = self.spare.take_if(fits).map(|spare| spare.opener);
        Some(spare.unwrap_or_else(|| {
            let mut opener = RowOpener::new(columns, judgement, formats, ciphers);
            opener.count_every_row(limits_clear(plan, judgement));
            opener
        }))
    }

    /// What finds the persons in the rows of a plan, when these tell of any.
    fn finder(
        &self,
        plan: &StatementPlan,
        judgement: &Judgement,
        pinned: &Pinned,
        formats: &Formats,
    ) -> Option<PersonFinder> {
        let persons = plan.persons.as_ref().filter(|persons| !persons.slots.is_empty())?;
        let (columns, ciphers) = (plan.columns.as_deref(), &self.world.ciphers);
        let copied = plan.copy.as_ref().filter(|_| !formats.differ()).map(cell::copy::open::formats);
        let formats = copied.as_ref().unwrap_or(formats);
        PersonFinder::new(persons, columns, formats, judgement, ciphers, pinned, PERSONS_MAX)
    }

    /// The log answered the oldest gated record.
    pub(super) fn answer_gate(&mut self, answer: &Result<(), Unrecorded>) {
        let Some(statement) = self.gates.pop_front() else { return };
        if let Some(run) = self.runs.get_mut(&statement) {
            run.gate = if answer.is_ok() { Gate::Open } else { Gate::Failed };
        }
    }

    /// A statement with uses has ended: its outcome is recorded.
    pub(super) fn end_run(&mut self, statement: u64, sqlstate: &str) {
        let Some(mut run) = self.runs.remove(&statement) else { return };
        let persons = run.persons();
        // A violated key tells that the value is there, or is not: under an oracle it is a comparison.
        let oracle = run.plan.uses.iter().zip(run.judgement.rulings.iter()).find(|(_, ruling)| ruling.oracle);
        if violation::tells_of_a_key(sqlstate)
            && let Some((used, _)) = oracle
        {
            run.compared.push((used.domain.0.label.clone(), 1));
        }
        if let Some(violation) = run.violation.take().filter(|_| !violation::tells_of_a_key(sqlstate)) {
            violation.give_back(1);
        }
        for (label, disclosure, cells) in &run.cells {
            self.metrics.cells_opened(label, disclosure, *cells);
        }
        for (label, rows) in &run.rows_by_label {
            self.metrics.rows_released(label, *rows);
        }
        for (label, values) in &run.compared {
            self.metrics.comparisons(label, *values);
        }
        let nanos = self.now.monotonic_nanos.saturating_sub(run.began.monotonic_nanos);
        run.plan.habit.gave(run.rows);
        if sqlstate.starts_with("22") && run.copies_as_spelled() {
            run.plan.habit.left_unread(false);
        }
        run.cells.sort_unstable();
        let cells = std::mem::take(&mut run.cells).into_iter();
        let cells = cells.map(|(label, shown, cells)| (label, Cow::Borrowed(shown), cells));
        let event = Event::Outcome {
            statement,
            rows: run.rows,
            cells: cells.collect(),
            comparisons: run.compared.iter().map(|(_, values)| values).sum(),
            sqlstate: if sqlstate == SUCCEEDED {
                Cow::Borrowed(SUCCEEDED)
            } else {
                Cow::Owned(sqlstate.to_owned())
            },
            duration: Duration::from_nanos(nanos),
            persons,
        };
        self.record(event, false);
        let Run { plan, judgement, formats, ciphers, opener, .. } = *run;
        if let Some(opener) = opener.filter(|opener| opener.room() <= SPARE_ROOM) {
            self.spare = Some(Spare { plan, judgement, formats, ciphers, opener });
        }
    }

    pub(super) fn record(&mut self, event: Event, gate: bool) {
        let record = self.session.record(event, self.now);
        self.out.step(Step::Record { record, gate });
    }

    /// Counts a statement that has ended.
    pub(super) fn count_statement(&mut self, kind: &str, sqlstate: &str) {
        self.ended += 1;
        let outcome = if sqlstate == SUCCEEDED { Outcome::Succeeded } else { Outcome::Failed };
        self.metrics.statement(kind, outcome);
    }
}

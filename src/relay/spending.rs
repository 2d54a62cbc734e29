//! Limits that are counted over time: rows of an hour and a day, and values compared under them.
//!
//! What this proxy holds of a limit is taken at once; what it does not hold is leased from the ledger first, and until that
//! answers the rows (or the client's message) wait. Guarantees: no row leaves and nothing is compared that was not counted
//! before; what was counted and not used goes back. Deliberately absent: how leases are made (`server::ledger`).

use super::cells::Compared;
use super::ledger::{Answer, Asker, Leased, Question};
use super::run::Run;
use super::{Relay, Step};
use crate::metrics::Metrics;
use crate::plan::{Judgement, Reason, Refusal, StatementPlan};
use crate::policy::budget::{Budgets, Span};
use crate::policy::{Action, RowLimits};
use crate::value::Style;
use crate::wire::{Messages, Violation};
use std::sync::Arc;

/// What is to be counted before statements go to the server.
pub(super) struct Toll {
    spending: Spending,
    wanted: u64,
}

/// The rules with such limits that something counts against.
#[derive(Clone)]
pub(super) struct Spending {
    budgets: Arc<Budgets>,
    user: String,
    rules: Vec<(Arc<str>, RowLimits)>,
    names: Vec<Arc<str>>,
}

/// Rows that may leave, and what is said when these are too few.
pub(super) type Granted = (u64, Option<Refusal>);

/// Rows that came and wait until they are counted.
pub(super) enum Parked {
    Rows(Messages),
    /// So many rows of a COPY, which its opener has read.
    Copied(usize),
}

/// What came of letting rows go.
pub(super) enum Released {
    All,
    /// A limit is spent: those after it must not leave.
    Spent(Refusal),
    /// So many are to be counted first.
    Waits(u64),
}

impl Spending {
    /// Of the rules that rows are read under (`None` when none of them has such a limit).
    pub(super) fn of_reads(judgement: &Judgement, budgets: &Arc<Budgets>, user: &str) -> Option<Spending> {
        Spending::of(judgement, budgets, user, |ruling| ruling.action == Action::Read)
    }

    /// Of the rules that make an oracle.
    pub(super) fn of_oracles(judgement: &Judgement, budgets: &Arc<Budgets>, user: &str) -> Option<Spending> {
        Spending::of(judgement, budgets, user, |ruling| ruling.oracle)
    }

    fn of(
        judgement: &Judgement,
        budgets: &Arc<Budgets>,
        user: &str,
        counts: impl Fn(&crate::plan::Ruling) -> bool,
    ) -> Option<Spending> {
        let mut rules: Vec<(Arc<str>, RowLimits)> = vec![];
        for ruling in judgement.rulings.iter().filter(|ruling| counts(ruling) && ruling.limits.is_shared()) {
            if let Some(rule) = &ruling.rule
                && rules.iter().all(|(known, _)| *known != rule.name)
            {
                rules.push((rule.name.clone(), ruling.limits));
            }
        }
        if rules.is_empty() {
            return None;
        }
        let names = rules.iter().map(|(rule, _)| rule.clone()).collect();
        Some(Spending { budgets: budgets.clone(), user: user.to_owned(), rules, names })
    }

    /// Those of both, each once.
    pub(super) fn and(mut self, other: Spending) -> Spending {
        for (rule, limits) in other.rules {
            if !self.names.contains(&rule) {
                self.names.push(rule.clone());
                self.rules.push((rule, limits));
            }
        }
        self
    }

    /// Takes `wanted` of every rule, if that much is held here.
    pub(super) fn take(&self, wanted: u64) -> bool {
        wanted == 0 || self.budgets.take(&self.user, &self.names, wanted)
    }

    pub(super) fn give_back(&self, unused: u64) {
        for rule in self.names.iter().filter(|_| unused > 0) {
            self.budgets.give_back(&self.user, rule, unused);
        }
    }

    fn question(&self, wanted: u64) -> Question {
        Question::Lease { user: self.user.clone(), rules: self.rules.clone(), wanted }
    }
}

/// `row` or `comparison`: what a limit counts.
fn spent(what: &str, short: &(Arc<str>, Span)) -> Refusal {
    let (rule, span) = short;
    let (name, hint) = match span {
        Span::Hour => ("hourly", "It frees up as the hour passes."),
        Span::Day => ("daily", "It frees up as the day passes."),
    };
    Refusal::new(Reason::Limit, "53400", format!("{name} {what} limit of rule \"{rule}\" is spent"))
        .hint(hint)
}

fn uncounted() -> Refusal {
    Refusal::new(Reason::Uncounted, "58030", "rows of an hour or a day cannot be counted now")
        .detail("What cannot be counted against a limit is not disclosed.")
        .hint("Tell the operator of pgveil; its log says why.")
}

impl Run {
    /// Counts `wanted` rows, or as many as may still leave; `None`: they are to be leased first.
    pub(super) fn reserve(&self, wanted: u64) -> Result<Option<Granted>, u64> {
        let Some(spending) = &self.spending else { return Ok(None) };
        let wanted = self.rows_left().map_or(wanted, |(left, _)| wanted.min(left));
        if spending.take(wanted) { Ok(Some((wanted, None))) } else { Err(wanted) }
    }

    /// Lets rows go by `release`, which is told how many may leave and what is said when they are spent. What was counted for
    /// rows that did not leave goes back.
    pub(super) fn within_limits<T>(
        &mut self,
        granted: Option<Granted>,
        release: impl FnOnce(&mut Run, Option<(u64, Refusal)>) -> T,
    ) -> T {
        let mut limit = self.rows_left();
        let reserved = granted.as_ref().map(|(rows, _)| *rows);
        if let Some((rows, refusal)) = granted
            && limit.as_ref().is_none_or(|(left, _)| rows < *left)
        {
            limit = Some((rows, refusal.unwrap_or_else(uncounted)));
        }
        let before = self.rows;
        let result = release(self, limit);
        if let (Some(spending), Some(reserved)) = (&self.spending, reserved) {
            spending.give_back(reserved.saturating_sub(self.rows - before));
        }
        result
    }
}

impl Relay {
    /// Rows have come of a limit's rules, of which more are to be counted first.
    pub(super) fn lease_rows(&mut self, run: u64, wanted: u64) {
        let Some(spending) = self.runs.get(&run).and_then(|run| run.spending.clone()) else { return };
        self.out.step(Step::Ask { asker: Asker::Server, question: spending.question(wanted) });
        self.asking.run = Some((run, spending));
    }

    /// The ledger's answer for rows that wait.
    pub(super) fn rows_leased(&mut self, answer: Answer) -> Result<(), Violation> {
        let Some((run, spending)) = self.asking.run.take() else { return Ok(()) };
        let leased = match answer {
            Answer::Lease(leased) => leased,
            Answer::Code(_) => None,
        };
        let rows = leased.as_ref().map_or(0, |leased| leased.rows);
        let parked = self.runs.get_mut(&run).and_then(|running| running.parked.take());
        let Some(parked) = parked.filter(|_| self.reaches_client()) else {
            spending.give_back(rows);
            return Ok(());
        };
        let refusal = match leased {
            None => Some(uncounted()),
            Some(leased) => leased.short.as_ref().map(|short| spent("row", short)),
        };
        let Some(running) = self.runs.get_mut(&run) else { return Ok(()) };
        let (style, out, metrics): (&Style, _, &Metrics) =
            (&self.session.style, &mut self.out, &self.metrics);
        let granted = Some((rows, refusal));
        let released = match parked {
            Parked::Rows(messages) => running.release_granted(&messages, style, out, granted, metrics),
            Parked::Copied(rows) => running.release_copied(rows, style, out, granted, metrics),
        };
        self.mishap(run, released)
    }

    /// What statements that are to be sent compare under oracles with such limits, and one more for each that writes: a unique
    /// violation would tell that a value is there.
    pub(super) fn toll<'a>(
        &self,
        judged: impl IntoIterator<Item = (&'a StatementPlan, &'a Judgement, &'a Compared)>,
    ) -> Option<Toll> {
        let mut toll: Option<Toll> = None;
        for (plan, judgement, compared) in judged {
            let Some(spending) = self.oracles(judgement) else { continue };
            let values: u64 = compared.iter().map(|(_, values)| values).sum();
            let wanted = values + u64::from(plan.effects.writes);
            toll = Some(match toll {
                None => Toll { spending, wanted },
                Some(before) => Toll {
                    spending: before.spending.and(spending),
                    wanted: before.wanted.saturating_add(wanted),
                },
            });
        }
        toll.filter(|toll| toll.wanted > 0)
    }

    /// What comparisons of a statement count against.
    pub(super) fn oracles(&self, judgement: &Judgement) -> Option<Spending> {
        Spending::of_oracles(judgement, &self.session.budgets, self.session.principal.user())
    }

    /// Counts what is compared before it goes to the server. `Ok(false)`: the ledger was asked, and what waits comes here
    /// again with its answer.
    ///
    /// # Errors
    /// The limit is spent, or cannot be counted.
    pub(super) fn paid(&mut self, toll: Option<&Toll>, answer: Option<Answer>) -> Result<bool, Refusal> {
        let Some(Toll { spending, wanted }) = toll else { return Ok(true) };
        match answer {
            None if spending.take(*wanted) => return Ok(true),
            None => {}
            Some(Answer::Lease(Some(Leased { rows, short: Some(short) }))) => {
                spending.give_back(rows);
                return Err(spent("comparison", &short));
            }
            Some(Answer::Lease(Some(Leased { rows, short: None }))) if rows >= *wanted => {
                spending.give_back(rows - wanted);
                return Ok(true);
            }
            // What it is for has become more meanwhile.
            Some(Answer::Lease(Some(Leased { rows, .. }))) => spending.give_back(rows),
            Some(Answer::Lease(None) | Answer::Code(_)) => return Err(uncounted()),
        }
        self.asking.client = true;
        let question = spending.question(*wanted);
        self.out.step(Step::Ask { asker: Asker::Client, question });
        Ok(false)
    }
}

//! Uses + policy + the moment → rulings, or the refusal that the client reads. Called when a statement is planned and
//! again at each Execute, since conditions (hours, purpose, second factor, the rule itself) may have changed.

use super::{Judgement, Reason, Refusal, Ruling, StatementPlan, Use};
use crate::catalog::Action;
use crate::policy::{Circumstances, Decision, Disclosure, Policy, Principal};

/// How a decision about `Read` shows a value; `None` when it is denied.
pub(super) fn disclosure(decision: &Decision) -> Option<Disclosure> {
    match decision {
        Decision::Allow { disclosure, .. } => Some(*disclosure),
        Decision::Deny { .. } => None,
    }
}

/// One ruling for each use.
///
/// # Errors
/// The first use that is denied, with every denied use named for the record.
pub(super) fn rulings(
    uses: &[Use],
    policy: &Policy,
    principal: &Principal,
    circumstances: &Circumstances,
) -> Result<Vec<Ruling>, Refusal> {
    let mut rulings = Vec::with_capacity(uses.len());
    let mut refusal: Option<Refusal> = None;
    for used in uses {
        let decision = policy.decide(principal, &used.domain.0, used.action, circumstances);
        match ruling(used, decision) {
            Ok(ruling) => rulings.push(ruling),
            Err(denied) => {
                let uses = (used.column_name(), used.domain.0.label.to_string(), used.action);
                refusal.get_or_insert(denied).uses.push(uses);
            }
        }
    }
    match refusal {
        Some(refusal) => Err(refusal),
        None => Ok(rulings),
    }
}

fn ruling(used: &Use, decision: Decision) -> Result<Ruling, Refusal> {
    match decision {
        Decision::Allow { rule, disclosure, limits, oracle } => {
            if used.must_be_clear && !disclosure.is_clear() {
                return Err(denied(used, None).detail(format!(
                    "The value would be stored elsewhere or computed with, which needs it in clear; it is shown as {}.",
                    disclosure.name()
                )));
            }
            Ok(Ruling { action: used.action, rule, disclosure, limits, oracle })
        }
        Decision::Deny { hint } => Err(denied(used, hint)),
    }
}

fn denied(used: &Use, condition: Option<String>) -> Refusal {
    let message = format!("permission denied for column {} of table {}", used.name, used.table);
    let label = &used.domain.0.label;
    match condition {
        Some(hint) => Refusal::new(Reason::Condition, "42501", message)
            .detail(format!(
                "A rule for label \"{label}\" gives it only under a condition that does not hold now."
            ))
            .hint(hint),
        None => Refusal::new(Reason::Denied, "42501", message)
            .detail(format!("No rule allows this user to {} label \"{label}\".", used.action.name())),
    }
}

impl StatementPlan {
    /// Judges every use again under `circumstances` (at each Bind, Execute and FETCH).
    ///
    /// # Errors
    /// The refusal that the client gets when a ruling no longer allows its use, or when a guarded plan's masks are
    /// no longer the right ones (0A000, to be prepared again).
    pub fn judge(
        &self,
        policy: &Policy,
        principal: &Principal,
        circumstances: &Circumstances,
    ) -> Result<Judgement, Refusal> {
        let rulings = rulings(&self.uses, policy, principal, circumstances)?;
        let clear_columns = self.uses.iter().zip(&self.rulings).zip(&rulings);
        for ((used, before), now) in clear_columns {
            if !used.sealed && before.disclosure != now.disclosure {
                return Err(Refusal::changed()
                    .detail("What the policy shows of a column changed since the statement was prepared."));
            }
        }
        Ok(Judgement { rulings: rulings.into() })
    }
}

impl Judgement {
    /// The fewest rows that any ruling of a disclosing read allows in one statement.
    pub fn rows_per_statement(&self) -> Option<u64> {
        let reads = self.rulings.iter().filter(|ruling| ruling.action == Action::Read);
        reads.filter_map(|ruling| ruling.limits.rows_per_statement).min()
    }

    /// How many values one statement may compare: `None` unless some comparison is an oracle.
    pub fn comparisons_per_statement(&self) -> Option<u64> {
        let oracles = self.rulings.iter().filter(|ruling| ruling.oracle);
        oracles.map(|ruling| ruling.limits.comparisons_per_statement()).min()
    }
}

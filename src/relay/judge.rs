//! Judging plans under what is true now.
//!
//! A session mostly carries out the same plan again within the second: what was said of it last is said again while all that
//! it hangs on is the same. Deliberately absent: the rules, which are `policy`'s.

use super::Relay;
use crate::audit::{Intent, Said, UsedColumn};
use crate::plan::{Judgement, Refusal, StatementPlan};
use crate::policy::Circumstances;
use std::sync::Arc;

/// What judging a plan said, and all that it was said of: while these are the same, so is what would be said.
pub(super) struct Judged {
    plan: Arc<StatementPlan>,
    generation: u64,
    circumstances: Circumstances,
    pub(super) judgement: Judgement,
    /// As its records have it.
    pub(super) intent: Said<Intent>,
}

impl Relay {
    /// Judges a plan.
    ///
    /// # Errors
    /// As [`StatementPlan::judge`].
    pub(super) fn judge(&mut self, plan: &Arc<StatementPlan>) -> Result<Arc<Judged>, Refusal> {
        let circumstances = self.session.circumstances(self.now);
        let generation = self.world.generation;
        let holds = |judged: &&Arc<Judged>| {
            Arc::ptr_eq(&judged.plan, plan)
                && judged.generation == generation
                && judged.circumstances == circumstances
        };
        if let Some(judged) = self.judged.as_ref().filter(holds) {
            return Ok(judged.clone());
        }
        let judgement = plan.judge(&self.world.policy, &self.session.principal, &circumstances)?;
        let intent = Said::from(Intent {
            kind: plan.kind.to_owned(),
            shape: plan.shape.clone(),
            purpose: circumstances.purpose.clone(),
            uses: used_columns(plan, &judgement),
        });
        let judged = Judged { plan: plan.clone(), generation, circumstances, judgement, intent };
        Ok(self.judged.insert(Arc::new(judged)).clone())
    }

    /// Judges a plan at its Execute: as at its Bind while nothing is another that this hangs on.
    ///
    /// # Errors
    /// As [`StatementPlan::judge`].
    pub(super) fn judge_again(&mut self, at_bind: &Arc<Judged>) -> Result<Arc<Judged>, Refusal> {
        let same = at_bind.generation == self.world.generation
            && at_bind.circumstances == self.session.circumstances(self.now);
        if same { Ok(at_bind.clone()) } else { self.judge(&at_bind.plan) }
    }
}

fn used_columns(plan: &StatementPlan, judgement: &Judgement) -> Vec<UsedColumn> {
    let uses = plan.uses.iter().zip(judgement.rulings.iter()).map(|(used, ruling)| UsedColumn {
        column: used.column_name(),
        label: used.domain.0.label.to_string(),
        action: used.action.name().to_owned(),
        rule: ruling.rule.as_ref().map(|rule| rule.name.to_string()).unwrap_or_default(),
        disclosure: ruling.disclosure.name().into_owned(),
    });
    uses.collect()
}

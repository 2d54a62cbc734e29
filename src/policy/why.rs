//! Why a use of a label is decided as it is, and what would change that: how every rule that names the label stands to it.
//! For people (`explain`, `policy test`); what is disclosed is `decide`'s alone.
//!
//! Guarantees: a rule is said to decide exactly when [`Policy::decide`] names it. Deliberately absent: places in files.

use super::decide::{self, reveals};
use super::{Action, Circumstances, Decision, Policy, Principal, Rule};
use crate::catalog::Domain;

/// One use of one label, and how it came out.
pub struct Account<'p> {
    pub decision: Decision,
    /// Of the rules that name the label, in the order of the file.
    pub standings: Vec<Standing<'p>>,
}

/// How one rule stands to a use.
pub struct Standing<'p> {
    /// Its place in the file.
    pub index: usize,
    pub rule: &'p Rule,
    pub stand: Stand,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stand {
    Decides,
    /// It fits, but this rule reveals more, or as much and stands first.
    Behind {
        winner: String,
        reveals_more: bool,
    },
    /// It would fit if this were so: sentences.
    Waits(Vec<String>),
    /// It is for others, or for another action; and what else would have to be so, as for `Waits`.
    Other {
        people: bool,
        action: bool,
        waits: Vec<String>,
        /// Another rule would decide before it all the same.
        idle: bool,
    },
}

/// How `principal` doing `action` with a column of `domain` is decided now, and how each rule stands to it.
pub fn account<'p>(
    policy: &'p Policy,
    principal: &Principal,
    domain: &Domain,
    action: Action,
    circumstances: &Circumstances,
) -> Account<'p> {
    let decision = policy.decide(principal, domain, action, circumstances);
    let winner = match &decision {
        Decision::Allow { rule: Some(rule), .. } => policy.rules.get(rule.index).map(|won| (rule.index, won)),
        Decision::Allow { rule: None, .. } | Decision::Deny { .. } => None,
    };
    let stand = |index: usize, rule: &Rule| {
        let missing = decide::missing(policy, rule, circumstances);
        let waits = || missing.iter().map(|condition| condition.hint(rule)).collect();
        let others = !decide::means(policy, rule, principal);
        let before = |won: &Rule, at: usize| {
            reveals(won.show) > reveals(rule.show) || reveals(won.show) == reveals(rule.show) && at < index
        };
        match winner {
            _ if others || !decide::allows(rule, action) => Stand::Other {
                people: others,
                action: !decide::allows(rule, action),
                waits: waits(),
                idle: winner.is_some_and(|(at, won)| before(won, at)),
            },
            _ if !missing.is_empty() => Stand::Waits(waits()),
            Some((won, _)) if won == index => Stand::Decides,
            Some((_, won)) => Stand::Behind {
                winner: won.name.to_string(),
                reveals_more: reveals(won.show) > reveals(rule.show),
            },
            // Not met: a rule that fits decides, or another does.
            None => Stand::Waits(vec![]),
        }
    };
    let named = policy.rules.iter().enumerate().filter(|(_, rule)| decide::has_label(rule, &domain.label));
    let standings = named.map(|(index, rule)| Standing { index, rule, stand: stand(index, rule) }).collect();
    Account { decision, standings }
}

impl Account<'_> {
    /// What of the standings could change the answer, with what each would give. The nearest first.
    pub fn changes(&self) -> Vec<&Standing<'_>> {
        let mut changes = self.others();
        changes.retain(|standing| !matches!(standing.stand, Stand::Other { idle: true, .. }));
        changes
    }

    /// All that do not decide, those too that could only once the deciding rule does not. The nearest first.
    pub fn others(&self) -> Vec<&Standing<'_>> {
        let mut changes: Vec<&Standing<'_>> =
            self.standings.iter().filter(|standing| standing.stand != Stand::Decides).collect();
        changes.sort_by_key(|standing| match standing.stand {
            Stand::Decides | Stand::Waits(_) => 0,
            Stand::Behind { .. } => 1,
            Stand::Other { people: false, .. } => 2,
            Stand::Other { people: true, .. } => 3,
        });
        changes
    }
}

impl Standing<'_> {
    /// What would have to be so for this rule to decide: a sentence that goes on after the rule's name.
    pub fn change(&self, user: &str, action: Action) -> String {
        let given = match action {
            Action::Read => format!("would show {}", self.rule.show.name()),
            Action::Compare | Action::Write => format!("would allow {}", action.name()),
        };
        match &self.stand {
            Stand::Decides => "decides.".to_owned(),
            Stand::Waits(hints) => format!("{given}. {}", hints.join(" ")),
            Stand::Behind { winner, reveals_more: true } => {
                format!("{given}, were it not for rule {winner}, which reveals more.")
            }
            Stand::Behind { winner, reveals_more: false } => {
                format!("{given}, were it not for rule {winner}, which reveals as much and stands first.")
            }
            Stand::Other { people, action: other, waits, idle: _ } => {
                let mut changes = vec![];
                if *people {
                    changes.push(format!("{user} were in {}", self.rule.roles.join(" or ")));
                }
                if *other {
                    // A masked value must not be written back.
                    changes.push(match self.rule.allow.contains(&action) {
                        true => "its show were clear, or it said write_blind = true".to_owned(),
                        false => format!("its allow said {}", action.name()),
                    });
                }
                let mut sentence = format!("{given} if {}.", changes.join(", and "));
                waits.iter().for_each(|hint| sentence.extend([" ", hint]));
                sentence
            }
        }
    }
}

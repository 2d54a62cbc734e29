//! Rules that can never decide, because another always does. Pure; for validation only.
//!
//! Guarantees: says so only when it is certain, from two rules at a time; a rule that only several others together
//! shadow is not found.

use super::decide::{label_matches, reveals};
use super::{Action, Form, Policy, Rule};

/// The rule that decides whenever the one at `index` fits, if there is one.
pub fn shadows(policy: &Policy, index: usize) -> Option<&Rule> {
    let rule = policy.rules.get(index)?;
    policy.rules.iter().enumerate().find_map(|(place, other)| {
        let first = reveals(other.show) > reveals(rule.show)
            || (reveals(other.show) == reveals(rule.show) && place < index);
        (place != index && first && fits_whenever(policy, other, rule)).then_some(other)
    })
}

/// Whether `wide` fits every use that `narrow` fits.
fn fits_whenever(policy: &Policy, wide: &Rule, narrow: &Rule) -> bool {
    let labels = policy.domains.iter().map(|domain| &domain.label);
    let has = |rule: &Rule, label: &str| rule.labels.iter().any(|pattern| label_matches(pattern, label));
    let actions = [Action::Read, Action::Compare, Action::Write];
    roles_within(policy, narrow, wide)
        && labels.into_iter().all(|label| !has(narrow, label) || has(wide, label))
        && actions.into_iter().all(|action| !gives(narrow, action) || gives(wide, action))
        && conditions_within(narrow, wide)
}

fn gives(rule: &Rule, action: Action) -> bool {
    rule.allow.contains(&action) && (action != Action::Write || rule.show == Form::Clear || rule.write_blind)
}

fn roles_within(policy: &Policy, narrow: &Rule, wide: &Rule) -> bool {
    let wide_has = |user: &String| {
        wide.roles.iter().any(|role| policy.roles.get(role).is_some_and(|users| users.contains(user)))
    };
    narrow.roles.iter().all(|role| {
        wide.roles.contains(role)
            || (!policy.trust_database_roles
                && policy.roles.get(role).is_some_and(|users| users.iter().all(wide_has)))
    })
}

fn conditions_within(narrow: &Rule, wide: &Rule) -> bool {
    let purposes = wide.purposes.is_empty()
        || (!narrow.purposes.is_empty()
            && narrow.purposes.iter().all(|purpose| wide.purposes.contains(purpose)));
    let from = wide.from.is_empty()
        || (!narrow.from.is_empty()
            && narrow.from.iter().all(|network| wide.from.iter().any(|other| other.contains(network))));
    let hours = match (&wide.hours, &narrow.hours) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(wide), Some(narrow)) => wide.text == narrow.text,
    };
    purposes
        && from
        && hours
        && (!wide.second_factor || narrow.second_factor)
        && (!wide.break_glass || narrow.break_glass)
}

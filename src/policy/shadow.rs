//! Rules that can never decide, because another always does, and those that nobody could say so of without looking at their
//! order. Pure; for validation only.
//!
//! Guarantees: says so only when it is certain, from two rules at a time; a rule that only several others together
//! shadow is not found.

use super::decide::{self, reveals};
use super::{Action, Form, Policy, Rule};
use std::collections::BTreeSet;

/// The rule that decides whenever the one at `index` fits, if there is one.
pub fn shadows(policy: &Policy, index: usize) -> Option<&Rule> {
    let rule = policy.rules.get(index)?;
    policy.rules.iter().enumerate().find_map(|(place, other)| {
        let first = reveals(other.show) > reveals(rule.show)
            || (reveals(other.show) == reveals(rule.show) && place < index);
        (place != index && first && fits_whenever(policy, other, rule)).then_some(other)
    })
}

/// Two rules that fit the same use of the same person and say different things: only their order in the file decides.
pub struct Tie<'p> {
    /// The places of both in the file; the first one decides.
    pub first: usize,
    pub second: usize,
    pub user: &'p str,
    pub label: &'p str,
}

/// One tie for each pair of rules that has any. A rule that is narrower than the later one in what it names is an exception
/// from it, and no tie: whoever wrote it first meant it to decide.
pub fn ties(policy: &Policy) -> Vec<Tie<'_>> {
    let pairs = (0..policy.rules.len()).flat_map(|second| (0..second).map(move |first| (first, second)));
    pairs
        .filter(|(_, second)| shadows(policy, *second).is_none())
        .filter_map(|pair| tie(policy, pair))
        .collect()
}

fn tie(policy: &Policy, (first, second): (usize, usize)) -> Option<Tie<'_>> {
    let (one, other) = (policy.rules.get(first)?, policy.rules.get(second)?);
    let both_give = |action| gives(one, action) && gives(other, action);
    let differ = one.show != other.show && both_give(Action::Read)
        || one.limits != other.limits && [Action::Read, Action::Compare].into_iter().any(both_give);
    let exception =
        one.roles.iter().all(|role| other.roles.contains(role)) && labels_within(policy, one, other);
    if !differ || exception || reveals(one.show) != reveals(other.show) || !conditions_within(other, one) {
        return None;
    }
    let members = |rule: &'_ Rule| -> BTreeSet<&str> {
        let roles = rule.roles.iter().filter_map(|role| policy.roles.get(role));
        roles.flatten().map(String::as_str).collect()
    };
    let user = members(one).intersection(&members(other)).next().copied()?;
    let label = policy
        .domains
        .iter()
        .find(|domain| decide::has_label(one, &domain.label) && decide::has_label(other, &domain.label))?;
    Some(Tie { first, second, user, label: &label.label })
}

fn labels_within(policy: &Policy, narrow: &Rule, wide: &Rule) -> bool {
    let labels = policy.domains.iter().map(|domain| &domain.label);
    labels.into_iter().all(|label| !decide::has_label(narrow, label) || decide::has_label(wide, label))
}

/// Whether `wide` fits every use that `narrow` fits.
fn fits_whenever(policy: &Policy, wide: &Rule, narrow: &Rule) -> bool {
    let actions = [Action::Read, Action::Compare, Action::Write];
    roles_within(policy, narrow, wide)
        && labels_within(policy, narrow, wide)
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

pub(super) fn conditions_within(narrow: &Rule, wide: &Rule) -> bool {
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

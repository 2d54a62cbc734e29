//! What one person may do, label by label: the effective rules with their conditions and limits. For people to read.
//!
//! Guarantees: a line's rule can decide in some circumstances, and no rule that can is left out but one that only several
//! others together outdo. Deliberately absent: the decision.

use super::decide::{self, reveals};
use super::shadow::conditions_within;
use super::{Action, Form, Policy, Principal, RowLimits, Rule};
use std::collections::BTreeSet;

/// What decides one action with one label, in the order in which it is tried.
pub struct Line<'p> {
    pub label: &'p str,
    pub action: Action,
    pub outcome: Outcome,
    /// (place in the file, rule); `None` where no rule decides.
    pub rule: Option<(usize, &'p Rule)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// How it is read.
    Shown(Form),
    Allowed,
    /// Comparing what is not read in clear: each value counts, and is recorded.
    Counted,
    Refused,
}

impl Outcome {
    pub fn name(&self) -> String {
        match self {
            Outcome::Shown(form) => form.name().into_owned(),
            Outcome::Allowed => "allowed".to_owned(),
            Outcome::Counted => "allowed, counted".to_owned(),
            Outcome::Refused => "refused".to_owned(),
        }
    }
}

/// The matrix of `principal`: by label, then read, compare, write; of each the rules that could decide, the first that fits
/// wins, and what holds when none does.
pub fn matrix<'p>(policy: &'p Policy, principal: &Principal) -> Vec<Line<'p>> {
    let labels: BTreeSet<&str> = policy.domains.iter().map(|domain| &*domain.label).collect();
    let actions = [Action::Read, Action::Compare, Action::Write];
    let each = labels.into_iter().flat_map(|label| actions.map(|action| (label, action)));
    each.flat_map(|(label, action)| lines(policy, principal, label, action)).collect()
}

fn lines<'p>(policy: &'p Policy, principal: &Principal, label: &'p str, action: Action) -> Vec<Line<'p>> {
    let rules = effective(policy, principal, label, action);
    let reads_clear = || {
        effective(policy, principal, label, Action::Read)
            .iter()
            .any(|(_, rule)| rule.show == Form::Clear && conditions(rule).is_empty())
    };
    let outcome = |rule: &Rule| match action {
        Action::Read => Outcome::Shown(rule.show),
        Action::Compare if !reads_clear() => Outcome::Counted,
        Action::Compare | Action::Write => Outcome::Allowed,
    };
    let always = rules.iter().any(|(_, rule)| conditions(rule).is_empty());
    let otherwise = match action {
        // Who has a rule whose condition is missing is told so, whatever the default.
        Action::Read if policy.default_null && rules.is_empty() => Outcome::Shown(Form::Withheld),
        Action::Read | Action::Compare | Action::Write => Outcome::Refused,
    };
    let mut lines: Vec<Line<'p>> = rules
        .iter()
        .map(|(index, rule)| Line { label, action, outcome: outcome(rule), rule: Some((*index, rule)) })
        .collect();
    if !always {
        lines.push(Line { label, action, outcome: otherwise, rule: None });
    }
    lines
}

/// The rules that could decide, in the order in which they win.
fn effective<'p>(
    policy: &'p Policy,
    principal: &Principal,
    label: &str,
    action: Action,
) -> Vec<(usize, &'p Rule)> {
    let fits = |rule: &&Rule| {
        decide::means(policy, rule, principal)
            && decide::allows(rule, action)
            && decide::has_label(rule, label)
    };
    let mut rules: Vec<(usize, &Rule)> =
        policy.rules.iter().enumerate().filter(|(_, rule)| fits(rule)).collect();
    // Stable: the first in the file among equals.
    rules.sort_by_key(|(_, rule)| u8::MAX - reveals(rule.show));
    let mut effective: Vec<(usize, &Rule)> = vec![];
    for (index, rule) in rules {
        if !effective.iter().any(|(_, before)| conditions_within(rule, before)) {
            effective.push((index, rule));
        }
    }
    effective
}

/// What must be so for the rule to fit, in words.
pub fn conditions(rule: &Rule) -> Vec<String> {
    let Rule {
        name: _,
        roles: _,
        labels: _,
        allow: _,
        show: _,
        write_blind: _,
        limits: _,
        purposes,
        second_factor,
        break_glass,
        from,
        hours,
    } = rule;
    let mut said = vec![];
    if !purposes.is_empty() {
        said.push(format!("purpose {}", purposes.join(" or ")));
    }
    if *second_factor {
        said.push("second factor".to_owned());
    }
    if *break_glass {
        said.push("broken glass".to_owned());
    }
    if !from.is_empty() {
        let networks: Vec<String> = from.iter().map(ToString::to_string).collect();
        said.push(format!("from {}", networks.join(" or ")));
    }
    if let Some(hours) = hours {
        said.push(hours.text.to_string());
    }
    said
}

/// (name as in policy.toml, rows).
pub fn limits(limits: &RowLimits) -> Vec<(&'static str, u64)> {
    let RowLimits { rows_per_statement, rows_per_hour, rows_per_day } = limits;
    let named = [
        ("rows_per_statement", rows_per_statement),
        ("rows_per_hour", rows_per_hour),
        ("rows_per_day", rows_per_day),
    ];
    named.into_iter().filter_map(|(name, rows)| Some((name, (*rows)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::{Domain, Seal};
    use crate::value::DataType;
    use std::collections::BTreeMap;

    fn rule(name: &str, allow: &[Action], show: Form, purposes: &[&str]) -> Rule {
        Rule {
            name: name.into(),
            roles: vec!["r".into()],
            labels: vec!["*".into()],
            allow: allow.to_vec(),
            show,
            write_blind: false,
            limits: RowLimits { rows_per_hour: Some(5), ..RowLimits::default() },
            purposes: purposes.iter().map(|purpose| (*purpose).to_owned()).collect(),
            second_factor: false,
            break_glass: false,
            from: vec![],
            hours: None,
        }
    }

    fn policy(rules: Vec<Rule>) -> Policy {
        let domain = Domain {
            name: "email".into(),
            label: "pii.email".into(),
            data_type: DataType::Text,
            seal: Seal::Deterministic,
            key: "default".into(),
        };
        Policy {
            domains: vec![domain.into()],
            roles: BTreeMap::from([("r".into(), BTreeSet::from(["ada".to_owned()]))]),
            rules,
            ..Policy::default()
        }
    }

    fn told(policy: &Policy, user: &str) -> Vec<(Action, String, String)> {
        let lines = matrix(policy, &Principal::assumed(user.to_owned()));
        let name = |line: &Line<'_>| line.rule.map_or("", |(_, rule)| &rule.name).to_owned();
        lines.iter().map(|line| (line.action, line.outcome.name(), name(line))).collect()
    }

    #[test]
    fn rules_stand_in_the_order_in_which_they_win() {
        use Action::{Compare, Read, Write};
        let masked = Form::parse("mask:email").expect("a form");
        let all = policy(vec![
            rule("null", &[Read], Form::Withheld, &[]),
            rule("masked", &[Read, Compare], masked, &["a", "b"]),
            rule("again", &[Read], masked, &["b"]),
            rule("clear", &[Read], Form::Clear, &["audit"]),
        ]);
        let line = |action, outcome: &str, rule: &str| (action, outcome.to_owned(), rule.to_owned());
        assert_eq!(
            told(&all, "ada"),
            [
                line(Read, "clear", "clear"),
                line(Read, "mask:email", "masked"),
                line(Read, "null", "null"),
                line(Compare, "allowed, counted", "masked"),
                line(Compare, "refused", ""),
                line(Write, "refused", ""),
            ]
        );
        let none = [(Read, "refused"), (Compare, "refused"), (Write, "refused")];
        assert_eq!(told(&all, "eve"), none.map(|(action, outcome)| line(action, outcome, "")));
    }

    #[test]
    fn the_default_is_for_those_whom_no_rule_covers() {
        let mut all = policy(vec![rule("masked", &[Action::Read], Form::Clear, &["a"])]);
        all.default_null = true;
        assert_eq!(told(&all, "eve")[0].1, "null");
        assert_eq!(told(&all, "ada")[1].1, "refused", "ada is told which purpose to set");
    }
}

//! The one-rule decision of design Part 1.
//!
//! For each use of a column exactly one rule decides: of those whose roles, label, action and conditions fit now, the
//! most revealing one, then the first in the file. Guarantees: total and pure; without a rule nothing is shown but
//! NULL, and that only where the default says so. Deliberately absent: limits' counters (the relay spends them).

use super::{Action, Circumstances, Decision, Disclosure, Form, Mask, Policy, Principal, Rule, RuleRef};
use crate::catalog::Domain;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub(super) fn decide(
    policy: &Policy,
    principal: &Principal,
    domain: &Domain,
    action: Action,
    circumstances: &Circumstances,
) -> Decision {
    let (fitting, conditional) = candidates(policy, principal, domain, action, circumstances);
    let Some((index, rule)) = most_revealing(&fitting) else {
        return without_rule(policy, action, &conditional, circumstances);
    };
    Decision::Allow {
        rule: Some(RuleRef { index, name: rule.name.clone() }),
        disclosure: Disclosure(rule.show),
        limits: rule.limits,
        // Writing tells by a unique violation that a value is there.
        oracle: action != Action::Read && !reads_clear(policy, principal, domain, circumstances),
    }
}

/// Rules whose roles, label and action fit: first those whose conditions hold now, then the others.
type Candidates<'p> = (Vec<(usize, &'p Rule)>, Vec<(usize, &'p Rule)>);

fn candidates<'p>(
    policy: &'p Policy,
    principal: &Principal,
    domain: &Domain,
    action: Action,
    circumstances: &Circumstances,
) -> Candidates<'p> {
    policy
        .rules
        .iter()
        .enumerate()
        .filter(|(_, rule)| {
            allows(rule, action) && has_label(rule, &domain.label) && means(policy, rule, principal)
        })
        .partition(|(_, rule)| missing(policy, rule, circumstances).is_empty())
}

/// The most revealing; the first in the file among equals.
fn most_revealing<'p>(rules: &[(usize, &'p Rule)]) -> Option<(usize, &'p Rule)> {
    let mut best: Option<(usize, &Rule)> = None;
    for candidate in rules {
        if best.is_none_or(|best| reveals(best.1.show) < reveals(candidate.1.show)) {
            best = Some(*candidate);
        }
    }
    best
}

/// The order of disclosures, most revealing last: NULL; what is the same for all values; what tells equal values, and no more; parts of
/// the value, which are not compared with each other; all of it.
pub(crate) fn reveals(form: Form) -> u8 {
    match form {
        Form::Withheld => 0,
        Form::Masked(Mask::Redact | Mask::Zero) => 1,
        Form::Masked(Mask::Hash | Mask::Fake(_) | Mask::Ff1) => 2,
        Form::Masked(
            Mask::Partial(_)
            | Mask::Email
            | Mask::Card(_)
            | Mask::Iban
            | Mask::Phone
            | Mask::Year
            | Mask::Month
            | Mask::Bucket(_),
        ) => 3,
        Form::Clear => 4,
    }
}

fn reads_clear(
    policy: &Policy,
    principal: &Principal,
    domain: &Domain,
    circumstances: &Circumstances,
) -> bool {
    let (fitting, _) = candidates(policy, principal, domain, Action::Read, circumstances);
    most_revealing(&fitting).is_some_and(|(_, rule)| rule.show == Form::Clear)
}

/// A rule whose condition is missing covers its people: they are told what to do, and the default does not apply.
fn without_rule(
    policy: &Policy,
    action: Action,
    conditional: &[(usize, &Rule)],
    circumstances: &Circumstances,
) -> Decision {
    let nearest = conditional.iter().min_by_key(|(_, rule)| {
        let missing = missing(policy, rule, circumstances);
        let out_of_reach = missing.iter().filter(|condition| !condition.is_for_the_user()).count();
        // Glass is for when nothing else is within reach.
        (out_of_reach, rule.break_glass, missing.len(), u8::MAX - reveals(rule.show))
    });
    match (nearest, action) {
        (Some((_, rule)), _) => {
            let sentences: Vec<String> =
                missing(policy, rule, circumstances).iter().map(|condition| condition.hint(rule)).collect();
            Decision::Deny { hint: Some(sentences.join(" ")) }
        }
        (None, Action::Read) if policy.default_null => Decision::Allow {
            rule: None,
            disclosure: Disclosure::withheld(),
            limits: super::RowLimits::default(),
            oracle: false,
        },
        (None, Action::Read | Action::Compare | Action::Write) => Decision::Deny { hint: None },
    }
}

/// A masked value must not be written back, so writing asks for `clear` or an explicit `write_blind`.
pub(super) fn allows(rule: &Rule, action: Action) -> bool {
    rule.allow.contains(&action) && (action != Action::Write || rule.show == Form::Clear || rule.write_blind)
}

pub(super) fn means(policy: &Policy, rule: &Rule, principal: &Principal) -> bool {
    rule.roles.iter().any(|role| {
        policy.roles.get(role).is_some_and(|users| users.contains(principal.user()))
            || (policy.trust_database_roles && principal.database_roles().contains(role))
    })
}

pub(super) fn has_label(rule: &Rule, label: &str) -> bool {
    rule.labels.iter().any(|pattern| label_matches(pattern, label))
}

/// Whether `label` is meant by `pattern`: equal, or `*` as the pattern's last segment stands for all segments there.
pub fn label_matches(pattern: &str, label: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some("") => true,
        Some(prefix) if prefix.ends_with('.') => label.len() > prefix.len() && label.starts_with(prefix),
        Some(_) | None => pattern == label,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    Purpose,
    SecondFactor,
    BreakGlass,
    Address,
    Hours,
}

impl Condition {
    /// Whether the user can supply it in this session.
    fn is_for_the_user(self) -> bool {
        matches!(self, Condition::Purpose | Condition::SecondFactor | Condition::BreakGlass)
    }

    pub(super) fn hint(self, rule: &Rule) -> String {
        match self {
            Condition::Purpose => {
                let choices: Vec<String> = rule
                    .purposes
                    .iter()
                    .map(|purpose| format!("SET pgveil.purpose = '{}'", purpose.replace('\'', "''")))
                    .collect();
                format!("Set a purpose first: {}.", choices.join(" or "))
            }
            Condition::SecondFactor => {
                "Give the second factor first: SET pgveil.otp = '…' with a fresh code of your authenticator."
                    .to_owned()
            }
            Condition::BreakGlass => {
                "In an emergency break the glass: SET pgveil.break_glass = '…' with the reason. \
                                      It is recorded, and the privacy officer is alerted."
                    .to_owned()
            }
            Condition::Address => {
                let networks: Vec<String> = rule.from.iter().map(ToString::to_string).collect();
                format!("Connect from {}.", networks.join(" or "))
            }
            Condition::Hours => {
                let hours = rule.hours.as_ref().map_or("", |hours| &hours.text);
                format!("Try again within {hours}.")
            }
        }
    }
}

pub(super) fn missing(policy: &Policy, rule: &Rule, circumstances: &Circumstances) -> Vec<Condition> {
    let mut missing = Vec::new();
    let purpose = circumstances.purpose.as_ref();
    if !rule.purposes.is_empty() && !purpose.is_some_and(|purpose| rule.purposes.contains(purpose)) {
        missing.push(Condition::Purpose);
    }
    if rule.second_factor && !is_within(policy.otp_minutes, circumstances.second_factor_at, circumstances) {
        missing.push(Condition::SecondFactor);
    }
    if rule.break_glass
        && !is_within(policy.break_glass_minutes, circumstances.glass_broken_at, circumstances)
    {
        missing.push(Condition::BreakGlass);
    }
    if !rule.from.is_empty() && !comes_from(rule, circumstances.address) {
        missing.push(Condition::Address);
    }
    if rule.hours.as_ref().is_some_and(|hours| !hours.contains(circumstances.now)) {
        missing.push(Condition::Hours);
    }
    missing
}

/// Whether what was given at a moment still holds. A clock that was set back ends it.
fn is_within(minutes: u32, given: Option<i64>, circumstances: &Circumstances) -> bool {
    given.is_some_and(|given| {
        let age = circumstances.now.saturating_sub(given);
        (0..i64::from(minutes) * 60).contains(&age)
    })
}

/// A Unix socket is as near as loopback, of either family.
fn comes_from(rule: &Rule, address: Option<IpAddr>) -> bool {
    let addresses = match address {
        Some(address) => vec![address.to_canonical()],
        None => vec![IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)],
    };
    rule.from.iter().any(|network| addresses.iter().any(|address| network.contains(address)))
}

#[cfg(test)]
mod tests;

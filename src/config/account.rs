//! Why a use is decided as it is, in sentences that name files and lines. Says what `policy::why` found out.

use super::Place;
use crate::policy::why::{Account, Standing};
use crate::policy::{Action, Decision};

/// How it came out, and by which rule.
pub fn verdict(account: &Account<'_>, action: Action, places: &[Place]) -> String {
    match (&account.decision, action) {
        (Decision::Deny { hint: None }, _) => "refused: no rule gives it".to_owned(),
        (Decision::Deny { hint: Some(hint) }, _) => format!("refused for now: {hint}"),
        (Decision::Allow { rule: None, disclosure, .. }, _) => {
            format!("{} by default, for no rule names it for them", disclosure.name())
        }
        (Decision::Allow { rule: Some(rule), disclosure, .. }, Action::Read) => {
            format!("{} by {}", disclosure.name(), named(&rule.name, rule.index, places))
        }
        (Decision::Allow { rule: Some(rule), oracle, .. }, Action::Compare | Action::Write) => {
            let counted = if *oracle { ", counted" } else { "" };
            format!("allowed{counted} by {}", named(&rule.name, rule.index, places))
        }
    }
}

/// What would change it: a sentence for each rule that names the label and does not decide.
pub fn changes(account: &Account<'_>, action: Action, user: &str, places: &[Place]) -> Vec<String> {
    let standings = account.changes();
    if standings.is_empty() && !matches!(account.decision, Decision::Allow { rule: Some(_), .. }) {
        return vec!["A rule that names the label would change that: there is none.".to_owned()];
    }
    standings.iter().map(|standing| change(standing, action, user, places)).collect()
}

/// One of them.
pub fn change(standing: &Standing<'_>, action: Action, user: &str, places: &[Place]) -> String {
    let rule = named(&standing.rule.name, standing.index, places);
    format!("{rule} {}", standing.change(user, action))
}

/// `rule support-desk (policy.toml:70)`.
pub fn named(rule: &str, index: usize, places: &[Place]) -> String {
    match places.get(index) {
        Some(place) => {
            let file = place.file.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
            format!("rule {rule} ({file}:{})", place.line)
        }
        None => format!("rule {rule}"),
    }
}

//! The decision: examples of each part, and properties over arbitrary policies.

use super::super::form::Ends;
use super::super::why::{self, Stand};
use super::super::{Hours, Mask, RowLimits, matrix};
use super::*;
use crate::catalog::Seal;
use crate::value::DataType;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

fn domain(label: &str) -> Domain {
    Domain {
        name: "email".into(),
        label: label.into(),
        data_type: DataType::Text,
        seal: Seal::Deterministic,
        key: "default".into(),
    }
}

fn rule(name: &str, roles: &[&str], labels: &[&str], allow: &[Action], show: Form) -> Rule {
    Rule {
        name: name.into(),
        roles: roles.iter().map(|role| (*role).to_owned()).collect(),
        labels: labels.iter().map(|label| (*label).to_owned()).collect(),
        allow: allow.to_vec(),
        show,
        write_blind: false,
        limits: RowLimits::default(),
        purposes: vec![],
        second_factor: false,
        break_glass: false,
        from: vec![],
        hours: None,
    }
}

fn policy(rules: Vec<Rule>) -> Policy {
    let members = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
    Policy {
        otp_minutes: 15,
        break_glass_minutes: 30,
        roles: BTreeMap::from([("support".into(), members(&["alice"])), ("app".into(), members(&["shop"]))]),
        rules,
        ..Policy::default()
    }
}

fn user(name: &str) -> Principal {
    Principal::authenticated(name.into(), BTreeSet::new())
}

/// A Monday noon in UTC, over a Unix socket, nothing set.
fn noon() -> Circumstances {
    Circumstances {
        now: 1_783_339_200,
        address: None,
        purpose: None,
        second_factor_at: None,
        glass_broken_at: None,
    }
}

fn hint(decision: Decision) -> String {
    match decision {
        Decision::Deny { hint } => hint.unwrap_or_default(),
        Decision::Allow { .. } => panic!("allowed"),
    }
}

fn allowed(decision: &Decision) -> Option<(Option<&str>, Form)> {
    match decision {
        Decision::Allow { rule, disclosure, .. } => {
            Some((rule.as_ref().map(|rule| &*rule.name), disclosure.form()))
        }
        Decision::Deny { .. } => None,
    }
}

const PARTIAL: Form = Form::Masked(Mask::Partial(Ends::PARTIAL));

#[test]
fn the_most_revealing_rule_decides_then_the_first() {
    let all = policy(vec![
        rule("null", &["support"], &["*"], &[Action::Read], Form::Withheld),
        rule("first mask", &["support"], &["pii.*"], &[Action::Read], PARTIAL),
        rule("second mask", &["support"], &["pii.email"], &[Action::Read], Form::Masked(Mask::Email)),
        rule("others", &["app"], &["*"], &[Action::Read], Form::Clear),
    ]);
    let decide = |name: &str| all.decide(&user(name), &domain("pii.email"), Action::Read, &noon());
    assert_eq!(allowed(&decide("alice")), Some((Some("first mask"), PARTIAL)));
    assert_eq!(allowed(&decide("shop")), Some((Some("others"), Form::Clear)));
    assert_eq!(decide("mallory"), Decision::Deny { hint: None });
}

#[test]
fn masks_that_tell_more_come_before_those_that_tell_less() {
    let forms = [
        Form::Withheld,
        Form::Masked(Mask::Redact),
        Form::Masked(Mask::Hash),
        Form::Masked(Mask::Email),
        Form::Clear,
    ];
    for (less, more) in forms.iter().zip(&forms[1..]) {
        // Whichever comes first in the file.
        for order in [[less, more], [more, less]] {
            let rules = order.map(|form| rule("any", &["support"], &["*"], &[Action::Read], *form));
            let decision =
                policy(rules.to_vec()).decide(&user("alice"), &domain("pii.email"), Action::Read, &noon());
            assert_eq!(allowed(&decision), Some((Some("any"), *more)), "{less:?} {more:?}");
        }
    }
}

#[test]
fn labels_match_whole_segments() {
    for (pattern, label, expected) in [
        ("pii.*", "pii.email", true),
        ("pii.*", "pii.contact.email", true),
        ("pii.*", "pii", false),
        ("pii.*", "piix.email", false),
        ("*", "anything", true),
        ("pii.em*", "pii.email", false),
        ("pii.email", "pii.email", true),
        ("pii.email", "pii.email.work", false),
    ] {
        assert_eq!(label_matches(pattern, label), expected, "{pattern} {label}");
    }
}

#[test]
fn glass_is_broken_for_a_while_and_only_where_nothing_else_is_within_reach() {
    let mut glass = rule("on-duty", &["support"], &["*"], &[Action::Read], Form::Clear);
    glass.break_glass = true;
    let mut day = rule("day", &["support"], &["*"], &[Action::Read], Form::Clear);
    day.second_factor = true;
    let mut policy = policy(vec![glass, day]);
    let decide = |policy: &Policy, now: &Circumstances| {
        policy.decide(&user("alice"), &domain("pii.email"), Action::Read, now)
    };
    let mut now = noon();
    assert!(hint(decide(&policy, &now)).starts_with("Give the second factor"));
    policy.rules[1].hours = Some(Hours::parse("tue 08:00-18:00 UTC").unwrap());
    assert!(
        hint(decide(&policy, &now))
            .starts_with("In an emergency break the glass: SET pgveil.break_glass = '")
    );
    for (age, holds) in [(0, true), (30 * 60 - 1, true), (30 * 60, false), (-1, false)] {
        now.glass_broken_at = Some(now.now - age);
        let shown = holds.then_some((Some("on-duty"), Form::Clear));
        assert_eq!(allowed(&decide(&policy, &now)), shown, "{age}");
    }
    assert!(policy.has_glass_for(&user("alice")) && !policy.has_glass_for(&user("shop")));
}

#[test]
fn database_roles_count_only_when_trusted() {
    let mut policy = policy(vec![rule("r", &["support"], &["*"], &[Action::Read], Form::Clear)]);
    let granted = Principal::authenticated("bob".into(), BTreeSet::from(["support".to_owned()]));
    let decide = |policy: &Policy| policy.decide(&granted, &domain("a"), Action::Read, &noon());
    assert_eq!(allowed(&decide(&policy)), None);
    policy.trust_database_roles = true;
    assert_eq!(allowed(&decide(&policy)), Some((Some("r"), Form::Clear)));
}

#[test]
fn a_missing_condition_is_a_hint() {
    let mut one = rule("desk", &["support"], &["*"], &[Action::Read], PARTIAL);
    one.purposes = vec!["support".into(), "it's audit".into()];
    one.second_factor = true;
    one.from = vec!["10.0.0.0/8".parse().unwrap()];
    one.hours = Some(Hours::parse("tue 08:00-09:00 UTC").unwrap());
    let policy = policy(vec![one]);
    let decide = |circumstances: &Circumstances| {
        policy.decide(&user("alice"), &domain("pii.email"), Action::Read, circumstances)
    };
    let mut now = noon();
    assert_eq!(
        hint(decide(&now)),
        "Set a purpose first: SET pgveil.purpose = 'support' or SET pgveil.purpose = 'it''s audit'. \
         Give the second factor first: SET pgveil.otp = '…' with a fresh code of your authenticator. \
         Connect from 10.0.0.0/8. Try again within tue 08:00-09:00 UTC."
    );
    now.purpose = Some("support".into());
    now.second_factor_at = Some(now.now - 15 * 60);
    now.address = Some("::ffff:10.1.2.3".parse().unwrap());
    assert!(hint(decide(&now)).starts_with("Give the second factor"), "fifteen minutes are over");
    now.now += 20 * 3600 + 30 * 60;
    now.second_factor_at = Some(now.now - 15 * 60 + 1);
    assert_eq!(allowed(&decide(&now)), Some((Some("desk"), PARTIAL)));
}

#[test]
fn the_hint_names_what_the_user_can_do() {
    let mut far = rule("far", &["support"], &["*"], &[Action::Read], Form::Clear);
    far.from = vec!["10.0.0.0/8".parse().unwrap()];
    let mut near = rule("near", &["support"], &["*"], &[Action::Read], PARTIAL);
    near.purposes = vec!["support".into()];
    let policy = policy(vec![far, near]);
    let decision = policy.decide(&user("alice"), &domain("a"), Action::Read, &noon());
    assert_eq!(hint(decision), "Set a purpose first: SET pgveil.purpose = 'support'.");
}

#[test]
fn a_unix_socket_is_loopback() {
    for (network, fits) in [("127.0.0.0/8", true), ("::1/128", true), ("10.0.0.0/8", false)] {
        let mut one = rule("r", &["support"], &["*"], &[Action::Read], Form::Clear);
        one.from = vec![network.parse().unwrap()];
        let decision = policy(vec![one]).decide(&user("alice"), &domain("a"), Action::Read, &noon());
        assert_eq!(allowed(&decision).is_some(), fits, "{network}");
    }
}

#[test]
fn the_default_shows_null_and_nothing_else() {
    let mut policy = policy(vec![]);
    policy.default_null = true;
    let decide = |action| policy.decide(&user("mallory"), &domain("a"), action, &noon());
    assert_eq!(allowed(&decide(Action::Read)), Some((None, Form::Withheld)));
    assert_eq!(decide(Action::Compare), Decision::Deny { hint: None });
    assert_eq!(decide(Action::Write), Decision::Deny { hint: None });
}

#[test]
fn comparing_without_clear_read_is_an_oracle() {
    let masked = rule("masked", &["support"], &["pii.*"], &[Action::Read, Action::Compare], PARTIAL);
    let mut clear = rule("clear", &["support"], &["pii.email"], &[Action::Read], Form::Clear);
    clear.purposes = vec!["audit".into()];
    let policy = policy(vec![masked, clear]);
    let oracle = |circumstances: &Circumstances| match policy.decide(
        &user("alice"),
        &domain("pii.email"),
        Action::Compare,
        circumstances,
    ) {
        Decision::Allow { oracle, limits, .. } => (oracle, limits.comparisons_per_statement()),
        Decision::Deny { .. } => panic!("denied"),
    };
    assert_eq!(oracle(&noon()), (true, 20));
    assert!(!oracle(&Circumstances { purpose: Some("audit".into()), ..noon() }).0);
}

#[test]
fn a_masked_value_is_not_written_back() {
    let mut blind = rule("blind", &["support"], &["*"], &[Action::Write], PARTIAL);
    let decide =
        |rule: &Rule| policy(vec![rule.clone()]).decide(&user("alice"), &domain("a"), Action::Write, &noon());
    assert_eq!(decide(&blind), Decision::Deny { hint: None });
    blind.write_blind = true;
    assert!(allowed(&decide(&blind)).is_some());
}

fn any_form() -> impl Strategy<Value = Form> {
    prop::sample::select(Form::ALL.to_vec())
}

fn any_action() -> impl Strategy<Value = Action> {
    prop::sample::select(vec![Action::Read, Action::Compare, Action::Write])
}

fn any_rule() -> impl Strategy<Value = Rule> {
    let roles = prop::sample::subsequence(vec!["support", "app", "nobody"], 0..=3);
    let labels = prop::sample::subsequence(vec!["*", "pii.*", "pii.email", "payment.card"], 0..=4);
    let allow = prop::sample::subsequence(vec![Action::Read, Action::Compare, Action::Write], 0..=3);
    let conditions = any::<[bool; 6]>();
    (roles, labels, allow, any_form(), conditions).prop_map(|(roles, labels, allow, show, conditions)| {
        let mut rule = rule("any", &roles, &labels, &allow, show);
        let [blind, purpose, factor, glass, from, hours] = conditions;
        rule.write_blind = blind;
        rule.second_factor = factor;
        rule.break_glass = glass;
        if purpose {
            rule.purposes = vec!["support".into()];
        }
        if from {
            rule.from = vec!["10.0.0.0/8".parse().unwrap()];
        }
        if hours {
            rule.hours = Some(Hours::parse("mon 08:00-18:00 UTC").unwrap());
        }
        rule
    })
}

fn any_policy() -> impl Strategy<Value = Policy> {
    (prop::collection::vec(any_rule(), 0..6), any::<bool>(), any::<bool>()).prop_map(
        |(rules, null, trust)| Policy { default_null: null, trust_database_roles: trust, ..policy(rules) },
    )
}

fn any_circumstances() -> impl Strategy<Value = Circumstances> {
    let purpose = prop::option::of(prop::sample::select(vec!["support".to_owned(), "other".to_owned()]));
    let address = prop::option::of(prop::sample::select(vec!["10.1.1.1", "192.0.2.1"]));
    let ages = prop::array::uniform2(prop::option::of(0..2000_i64));
    (any::<i32>(), address, purpose, ages).prop_map(|(now, address, purpose, ages)| {
        let now = i64::from(now);
        let address = address.map(|address| address.parse().unwrap());
        let [second_factor_at, glass_broken_at] = ages.map(|age| age.map(|age| now - age));
        Circumstances { now, address, purpose, second_factor_at, glass_broken_at }
    })
}

/// A way in which a rule is made narrower.
#[derive(Clone, Copy, Debug)]
enum Narrowing {
    Purpose,
    SecondFactor,
    From,
    Hours,
    Role,
    Label,
    Action,
}

fn any_narrowing() -> impl Strategy<Value = Narrowing> {
    use Narrowing::{Action, From, Hours, Label, Purpose, Role, SecondFactor};
    prop::sample::select(vec![Purpose, SecondFactor, From, Hours, Role, Label, Action])
}

impl Narrowing {
    fn apply(self, rule: &mut Rule) {
        match self {
            // A purpose more is no condition where one was asked for.
            Narrowing::Purpose if rule.purposes.is_empty() => rule.purposes = vec!["other".into()],
            Narrowing::Purpose => rule.purposes.truncate(1),
            Narrowing::SecondFactor => rule.second_factor = true,
            Narrowing::From if rule.from.is_empty() => rule.from = vec!["192.0.2.0/24".parse().unwrap()],
            Narrowing::From => rule.from = vec!["10.1.0.0/16".parse().unwrap()],
            Narrowing::Hours if rule.hours.is_none() => {
                rule.hours = Some(Hours::parse("tue 08:00-18:00 UTC").unwrap());
            }
            Narrowing::Hours => rule.hours = Some(Hours::parse("mon 09:00-10:00 UTC").unwrap()),
            Narrowing::Role => drop(rule.roles.pop()),
            Narrowing::Label => drop(rule.labels.pop()),
            Narrowing::Action => drop(rule.allow.pop()),
        }
    }

    fn means_fewer(self) -> bool {
        matches!(self, Narrowing::Role | Narrowing::Label | Narrowing::Action)
    }
}

/// How much a decision gives: nothing, then by what it reveals.
fn given(decision: &Decision) -> u8 {
    allowed(decision).map_or(0, |(_, form)| 1 + reveals(form))
}

proptest! {
    /// Whoever was shown something by a rule is shown no less after another rule was added anywhere.
    #[test]
    fn more_rules_never_take_away(
        policy in any_policy(), more in any_rule(), place in 0..6_usize,
        action in any_action(), now in any_circumstances(),
    ) {
        let before = policy.decide(&user("alice"), &domain("pii.email"), action, &now);
        let mut wider = policy.clone();
        wider.rules.insert(place.min(wider.rules.len()), more);
        let after = wider.decide(&user("alice"), &domain("pii.email"), action, &now);
        // The default's NULL alone gives way to a refusal that says which condition is missing.
        if !matches!(before, Decision::Allow { rule: None, .. }) {
            prop_assert!(given(&after) >= given(&before), "{before:?} {after:?}");
        }
    }

    /// Nothing that narrows a rule gives anyone more: a condition of any kind, or a role, label or action less. Who is no
    /// longer meant by it gets what the default gives, at most.
    #[test]
    fn conditions_only_narrow(
        policy in any_policy(), place in 0..6_usize, how in any_narrowing(),
        action in any_action(), now in any_circumstances(),
    ) {
        let before = policy.decide(&user("alice"), &domain("pii.email"), action, &now);
        let mut narrower = policy.clone();
        if let Some(rule) = narrower.rules.get_mut(place) {
            how.apply(rule);
        }
        let after = narrower.decide(&user("alice"), &domain("pii.email"), action, &now);
        if matches!(after, Decision::Allow { rule: None, .. }) {
            prop_assert!(how.means_fewer() || after == before, "{before:?} {after:?}");
        } else {
            prop_assert!(given(&after) <= given(&before), "{before:?} {after:?}");
        }
    }

    /// Who is meant by no rule gets the default, whatever else the file says; and nobody else does.
    #[test]
    fn the_default_holds(
        policy in any_policy(), name in prop::sample::select(vec!["alice", "shop", "mallory"]),
        action in any_action(), now in any_circumstances(),
    ) {
        let domain = domain("pii.email");
        let meant = policy.rules.iter().any(|rule| {
            means(&policy, rule, &user(name)) && has_label(rule, &domain.label) && allows(rule, action)
        });
        let decision = policy.decide(&user(name), &domain, action, &now);
        let default = match &decision {
            Decision::Allow { rule: None, disclosure, oracle, limits } => {
                prop_assert_eq!((*disclosure, *oracle, *limits), (Disclosure::withheld(), false, RowLimits::default()));
                prop_assert!(policy.default_null && action == Action::Read);
                true
            }
            Decision::Deny { hint } => {
                prop_assert!(hint.is_some() || !(policy.default_null && action == Action::Read));
                hint.is_none()
            }
            Decision::Allow { rule: Some(_), .. } => false,
        };
        prop_assert_eq!(default, !meant, "{:?}", decision);
    }

    /// Of rules that reveal more and less it does not matter which stands first.
    #[test]
    fn order_counts_among_equals_only(
        policy in any_policy(), turn in 0..6_usize, action in any_action(), now in any_circumstances(),
    ) {
        let decide = |policy: &Policy| policy.decide(&user("alice"), &domain("pii.email"), action, &now);
        let mut other = policy.clone();
        let turn = turn.min(other.rules.len());
        other.rules.rotate_left(turn);
        prop_assert_eq!(given(&decide(&policy)), given(&decide(&other)));
        other.rules.reverse();
        prop_assert_eq!(given(&decide(&policy)), given(&decide(&other)));
    }

    /// What people are told is what is decided: one rule is said to decide when one does, the matrix has it, and whoever waits
    /// for a condition has a line there, too.
    #[test]
    fn what_is_told_is_what_is_decided(
        policy in any_policy(), name in prop::sample::select(vec!["alice", "shop", "mallory"]),
        action in any_action(), now in any_circumstances(),
    ) {
        let policy = Policy { domains: vec![domain("pii.email").into()], ..policy };
        let account = why::account(&policy, &user(name), &policy.domains[0], action, &now);
        let deciding: Vec<usize> =
            account.standings.iter().filter(|one| one.stand == Stand::Decides).map(|one| one.index).collect();
        let decided = match &account.decision {
            Decision::Allow { rule, .. } => rule.as_ref().map(|rule| rule.index),
            Decision::Deny { .. } => None,
        };
        prop_assert_eq!(&deciding, &Vec::from_iter(decided));
        let lines = matrix::matrix(&policy, &user(name));
        let lines: Vec<Option<usize>> =
            lines.iter().filter(|line| line.action == action).map(|line| line.rule.map(|(index, _)| index)).collect();
        prop_assert!(decided.is_none() || lines.contains(&decided), "{lines:?} {decided:?}");
        let waits = account.standings.iter().any(|one| matches!(one.stand, Stand::Waits(_)));
        prop_assert!(!waits || lines.iter().any(Option::is_some));
        prop_assert!(decided.is_some() || lines.last() == Some(&None));
    }

    /// Total; the rule that decides is one that allows the action to this user, and without one nothing is shown.
    #[test]
    fn a_rule_or_the_default_decides(
        policy in any_policy(), name in prop::sample::select(vec!["alice", "shop", "mallory"]),
        action in any_action(), now in any_circumstances(),
    ) {
        match policy.decide(&user(name), &domain("pii.email"), action, &now) {
            Decision::Allow { rule: Some(found), disclosure, .. } => {
                let rule = &policy.rules[found.index];
                prop_assert!(rule.allow.contains(&action) && rule.show == disclosure.form());
                prop_assert!(means(&policy, rule, &user(name)));
            }
            Decision::Allow { rule: None, disclosure, .. } => {
                prop_assert!(policy.default_null && action == Action::Read);
                prop_assert_eq!(disclosure, Disclosure::withheld());
            }
            Decision::Deny { .. } => {}
        }
    }
}

//! `policy.toml`, the privacy officer's file: domains, roles and rules → [`Policy`].

use super::Weight;
use super::document::{At, Document, Named, Section, Text};
use super::proxy::choice;
use super::tags::Columns;
use crate::catalog::{Action, Domain, Seal};
use crate::policy::decide::label_matches;
use crate::policy::form::Misspelled;
use crate::policy::shadow::{Tie, shadows, ties};
use crate::policy::{Form, Hours, Mask, Policy, RowLimits, Rule};
use crate::value::DataType;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::ops::Range;
use std::sync::Arc;

/// What the file says, and where.
pub(super) struct Rules {
    pub(super) policy: Policy,
    /// By name.
    pub(super) domains: BTreeMap<String, (Arc<Domain>, Range<usize>)>,
    /// Of each rule.
    pub(super) places: Vec<Range<usize>>,
    /// What is to be sealed is not used in clear.
    pub(super) refuse_unsealed: bool,
}

pub(super) fn read(document: &Document) -> Rules {
    let table = document.parse();
    let mut top = document.top(&table);
    let default = top
        .text("default")
        .and_then(|text| choice(&top, "default", &text, &[("refuse", false), ("null", true)]));
    let unsealed = top
        .text("unsealed")
        .and_then(|text| choice(&top, "unsealed", &text, &[("guard", false), ("refuse", true)]));
    let mut policy = Policy {
        default_null: default.unwrap_or(false),
        trust_database_roles: top.boolean("trust_database_roles").unwrap_or(false),
        otp_minutes: top.number("otp_minutes", 1..=1440).unwrap_or(15) as u32,
        break_glass_minutes: top.number("break_glass_minutes", 1..=1440).unwrap_or(30) as u32,
        ..Policy::default()
    };
    let mut domains = BTreeMap::new();
    for (name, named) in top.section("domain").named() {
        let Some(section) = named.section() else {
            named.wrong("a table", "Write: [domain.email] and its label, type and seal below.");
            continue;
        };
        if let Some(domain) = domain(document, &name, section) {
            domains.insert(name.value, (Arc::new(domain), name.span));
        }
    }
    policy.domains = domains.values().map(|(domain, _)| domain.clone()).collect();
    policy.roles = roles(top.section("roles"));
    let mut places = Vec::new();
    for section in top.sections("rule") {
        let span = section.span.clone();
        if let Some(rule) = rule(section, &policy) {
            check_effect(document, &span, &rule, &policy);
            policy.rules.push(rule);
            places.push(span);
        }
    }
    check_shadows(document, &policy, &places);
    top.finish();
    Rules { policy, domains, places, refuse_unsealed: unsealed.unwrap_or(false) }
}

/// A PostgreSQL type is named after the domain, and a deterministic one's type ends in `_` and a version.
fn is_domain_name(name: &str) -> bool {
    let all_plain =
        name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    let versioned = name
        .rsplit_once('_')
        .is_some_and(|(_, end)| !end.is_empty() && end.bytes().all(|byte| byte.is_ascii_digit()));
    all_plain && name.len() <= 41 && name.starts_with(|first: char| first.is_ascii_lowercase()) && !versioned
}

fn is_label(label: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    label.split('.').all(|segment| !segment.is_empty() && segment.chars().all(plain))
}

fn domain(document: &Document, name: &At<String>, mut section: Section<'_>) -> Option<Domain> {
    if !is_domain_name(&name.value) {
        document.mistake(
            &name.span,
            format!("\"{}\" cannot name a domain", name.value),
            "At most 41 of a-z, 0-9 and _, a letter first, and no _ and digits at the end: a PostgreSQL type is named after it.",
        );
    }
    let label = section.required("label", "Write: label = \"pii.email\".");
    if let Some(label) = label.as_ref().filter(|label| !is_label(&label.value)) {
        let message = format!("label \"{}\" is not a dotted name", label.spelling);
        document.mistake(
            &label.span,
            message,
            "Write it like pii.email: letters, digits, _ and - between dots.",
        );
    }
    let type_text = section.required("type", "Write: type = \"text\".");
    let data_type = type_text.as_ref().and_then(|text| data_type(document, text));
    let seal_text = section.required("seal", "One of: deterministic, randomized, none.");
    let seal = seal_text.as_ref().and_then(|text| {
        choice(
            &section,
            "seal",
            text,
            &[("deterministic", Seal::Deterministic), ("randomized", Seal::Randomized), ("none", Seal::None)],
        )
    });
    if let (Some(Seal::Deterministic), Some(found), Some(text)) = (seal, data_type, &seal_text)
        && let Err(why) = found.deterministic()
    {
        document.mistake(
            &text.span,
            format!("{} cannot be sealed deterministically: {why}", found.sql()),
            "Write: seal = \"randomized\" (then it cannot be compared).",
        );
    }
    let key = section.text("key").map_or_else(|| "default".to_owned(), |text| text.value);
    section.finish();
    Some(Domain {
        name: name.value.clone(),
        label: label?.value.into(),
        data_type: data_type?,
        seal: seal?,
        key,
    })
}

/// A type as SQL spells it; a mistake when it is not one that we know.
pub(super) fn data_type(document: &Document, text: &Text) -> Option<DataType> {
    let found = DataType::parse(&text.value);
    if found.is_none() {
        document.mistake(
            &text.span,
            format!("\"{}\" is not a type that a tagged column can have", text.spelling),
            "One of: text, varchar(n), smallint, integer, bigint, numeric(p,s), real, double precision, boolean, date, \
             time, timestamp, timestamptz, interval, uuid, bytea, json, jsonb, inet.",
        );
    }
    found
}

fn roles(mut section: Section<'_>) -> BTreeMap<String, BTreeSet<String>> {
    let mut found = BTreeMap::new();
    for (name, named) in section.named() {
        match members(&named) {
            Some(users) => {
                found.insert(name.value, users);
            }
            None => named.wrong("an array of users", "Write: support = [\"alice\", \"bob\"]."),
        }
    }
    found
}

fn members(named: &Named<'_>) -> Option<BTreeSet<String>> {
    Some(named.texts()?.into_iter().map(|text| text.value).collect())
}

// Its helpers are never inlined: with all of them in it, it keeps the optimiser busy for a quarter of an hour.
fn rule(mut section: Section<'_>, policy: &Policy) -> Option<Rule> {
    let document = section.document;
    let name = section.required("name", "Give the rule a name: records and plans speak of it.");
    if let Some(name) = &name
        && (name.value.is_empty() || policy.rules.iter().any(|rule| *rule.name == *name.value))
    {
        let message = format!("another rule is called \"{}\", or it has no name", name.spelling);
        document.mistake(&name.span, message, "Give every rule a name of its own: records name the rule.");
    }
    let roles = some_texts(&mut section, "roles", "Write: roles = [\"support\"].");
    for role in
        roles.iter().filter(|role| !policy.roles.contains_key(&role.value) && !policy.trust_database_roles)
    {
        document.mistake(
            &role.span,
            format!("role \"{}\" is not in [roles]", role.spelling),
            format!("Add {} = [\"…\"] to [roles], or correct the name.", role.spelling),
        );
    }
    let labels = some_texts(&mut section, "labels", "Write: labels = [\"pii.*\"].");
    for label in &labels {
        check_label(document, label, policy);
    }
    let allow = actions(&mut section);
    let write_blind = section.boolean("write_blind").unwrap_or(false);
    let show = show(&mut section, &allow, write_blind, policy, &labels);
    let limits = RowLimits {
        rows_per_statement: section.number("rows_per_statement", 1..=u64::MAX),
        rows_per_hour: section.number("rows_per_hour", 1..=u64::MAX),
        rows_per_day: section.number("rows_per_day", 1..=u64::MAX),
    };
    let purposes = conditions(&mut section, "purposes", "Write: purposes = [\"support\"], or leave it out.");
    let second_factor = section.boolean("second_factor").unwrap_or(false);
    let break_glass = section.boolean("break_glass").unwrap_or(false);
    let from = conditions(&mut section, "from", "Write: from = [\"10.0.0.0/8\"], or leave it out.");
    let from = from.iter().filter_map(|text| network(document, text)).collect();
    let hours = section.text("hours").and_then(|text| match Hours::parse(&text.value) {
        Ok(hours) => Some(hours),
        Err(why) => {
            document.mistake(
                &text.span,
                format!("hours: {why}"),
                "Write: hours = \"mon-fri 08:00-18:00 Europe/Berlin\".",
            );
            None
        }
    });
    section.finish();
    let values = |texts: Vec<Text>| texts.into_iter().map(|text| text.value).collect::<Vec<String>>();
    Some(Rule {
        name: name?.value.into(),
        roles: values(roles),
        labels: values(labels),
        allow,
        show: show?,
        write_blind,
        limits,
        purposes: values(purposes),
        second_factor,
        break_glass,
        from,
        hours,
    })
}

/// An array that a rule cannot do without.
#[inline(never)]
fn some_texts(section: &mut Section<'_>, key: &str, hint: &str) -> Vec<Text> {
    let found = section.texts(key);
    if found.as_ref().is_none_or(Vec::is_empty) {
        section.mistake(format!("a rule without {key} can never take effect"), hint);
    }
    found.unwrap_or_default()
}

/// An array that narrows a rule: empty, it would be unclear whether everyone or nobody is meant.
#[inline(never)]
fn conditions(section: &mut Section<'_>, key: &str, hint: &str) -> Vec<Text> {
    let found = section.texts(key);
    if found.as_ref().is_some_and(Vec::is_empty) {
        section.mistake(format!("{} is empty", section.full(key)), hint);
    }
    found.unwrap_or_default()
}

#[inline(never)]
fn check_label(document: &Document, label: &Text, policy: &Policy) {
    let stem = label.value.strip_suffix(".*").unwrap_or(&label.value);
    if label.value != "*" && !is_label(stem) {
        document.mistake(
            &label.span,
            format!("\"{}\" is neither a label nor a pattern", label.spelling),
            "Write a label (pii.email), or * as the last part (pii.*), or * alone.",
        );
    } else if !policy.domains.iter().any(|domain| label_matches(&label.value, &domain.label)) {
        let known: BTreeSet<&str> = policy.domains.iter().map(|domain| &*domain.label).collect();
        document.mistake(
            &label.span,
            format!("no domain has a label like \"{}\"", label.spelling),
            format!("Labels of domains: {}.", Vec::from_iter(known).join(", ")),
        );
    }
}

#[inline(never)]
fn actions(section: &mut Section<'_>) -> Vec<Action> {
    let texts =
        some_texts(section, "allow", "Write: allow = [\"read\"]; read, compare and write may stand there.");
    let words = [("read", Action::Read), ("compare", Action::Compare), ("write", Action::Write)];
    texts.iter().filter_map(|text| choice(section, "allow", text, &words)).collect()
}

/// `None` when it is missing or wrong; then a mistake was noted.
#[inline(never)]
fn show(
    section: &mut Section<'_>,
    allow: &[Action],
    write_blind: bool,
    policy: &Policy,
    labels: &[Text],
) -> Option<Form> {
    let Some(text) = section.text("show") else {
        if allow.contains(&Action::Read) {
            section.mistake(
                "a rule that allows read needs show",
                "Write: show = \"mask:partial\", or clear, or null.",
            );
            return None;
        }
        // Nothing is shown by a rule that does not allow to read.
        return Some(Form::Clear);
    };
    let form = form(section, &text)?;
    if allow.contains(&Action::Write) && form != Form::Clear && !write_blind {
        section.document.mistake(
            &text.span,
            format!("write with show = \"{}\": a masked value would be written back", form.name()),
            "Give writing a rule of its own with show = \"clear\", or say write_blind = true.",
        );
    }
    if let Form::Masked(mask) = form {
        for domain in policy.domains.iter().filter(|domain| meant(labels, domain)) {
            check_mask(section.document, &text, mask, domain);
        }
    }
    Some(form)
}

#[inline(never)]
fn form(section: &Section<'_>, text: &Text) -> Option<Form> {
    let hint = match Form::read(&text.value) {
        Ok(form) => return Some(form),
        Err(Misspelled::Numbers(right)) => format!("Write {right}."),
        Err(Misspelled::Unknown) => {
            let words: Vec<_> = Form::ALL.iter().map(Form::name).collect();
            format!("One of: {}.", words.join(", "))
        }
    };
    let message = format!("{} cannot be \"{}\"", section.full("show"), text.spelling);
    section.document.mistake(&text.span, message, hint);
    None
}

/// A mask that could never be shown of this domain's columns.
fn check_mask(document: &Document, text: &Text, mask: Mask, domain: &Domain) {
    let (shown, name, data_type) = (Form::Masked(mask).name(), &domain.name, &domain.data_type);
    if !mask.fits(data_type) {
        document.mistake(
            &text.span,
            format!("{shown} cannot show domain {name}, whose type is {}", data_type.sql()),
            "Choose a mask that fits every type of the rule's labels, or give that label a rule of its own.",
        );
    } else if domain.seal == Seal::None && mask.is_keyed() {
        document.mistake(
            &text.span,
            format!("{shown} cannot show domain {name}, which is stored in clear"),
            "It is made with a key, which the database does not get. Seal the domain, or choose a mask without a key.",
        );
    }
}

fn meant(labels: &[Text], domain: &Domain) -> bool {
    labels.iter().any(|label| label_matches(&label.value, &domain.label))
}

/// A CIDR network; a bare address is a network of one.
#[inline(never)]
fn network(document: &Document, text: &Text) -> Option<ipnet::IpNet> {
    let bare = || text.value.parse::<IpAddr>().ok().map(ipnet::IpNet::from);
    let found = text.value.parse().ok().or_else(bare);
    if found.is_none() {
        document.mistake(
            &text.span,
            format!("\"{}\" is not a network", text.spelling),
            "Write it like 10.0.0.0/8, 2001:db8::/32 or 192.0.2.7.",
        );
    }
    found
}

fn check_effect(document: &Document, span: &Range<usize>, rule: &Rule, policy: &Policy) {
    let nobody = rule.roles.iter().all(|role| policy.roles.get(role).is_some_and(BTreeSet::is_empty));
    if nobody && !rule.roles.is_empty() && !policy.trust_database_roles {
        document.mistake(
            span,
            format!("rule \"{}\" can never take effect: its roles have no members", rule.name),
            "List users in [roles], or remove the rule.",
        );
    }
}

fn check_shadows(document: &Document, policy: &Policy, places: &[Range<usize>]) {
    for (index, (rule, span)) in policy.rules.iter().zip(places).enumerate() {
        if let Some(winner) = shadows(policy, index) {
            document.mistake(
                span,
                format!("rule \"{}\" can never take effect: rule \"{}\" always decides before it", rule.name, winner.name),
                "Of the rules that fit, the most revealing one decides, then the first. Narrow that rule, or remove this one.",
            );
        }
    }
}

/// Rules between which only their order decides, and limits that another one of the rule always comes before.
pub(super) fn note_contradictions(document: &Document, rules: &Rules) {
    let Rules { policy, places, .. } = rules;
    for Tie { first, second, user, label } in ties(policy) {
        let (one, other) = (&policy.rules[first], &policy.rules[second]);
        document.note(
            Weight::Advice,
            &places[second],
            format!(
                "rule \"{}\" contradicts rule \"{}\" (line {}) for {user} and {label}: it reveals as much, and stands later",
                other.name,
                one.name,
                document.line(places[first].start)
            ),
            format!("Only the first of the two ever decides. Take {user} out of a role, narrow a rule, or swap the two."),
        );
    }
    for (rule, place) in policy.rules.iter().zip(places) {
        let mut compared = policy.domains.iter().filter(|domain| matched(rule, domain)).peekable();
        if rule.allow == [Action::Compare]
            && compared.peek().is_some()
            && compared.all(|domain| domain.seal != Seal::Deterministic)
        {
            document.note(
                Weight::Idle,
                place,
                format!(
                    "rule \"{}\" can never take effect: no domain of its labels can be compared",
                    rule.name
                ),
                "Only what is sealed deterministic is compared sealed. Give it read, or seal a domain so.",
            );
        }
        if let (Some(statement), Some(hour)) = (rule.limits.rows_per_statement, rule.limits.rows_per_hour)
            && statement > hour
            // It also says how many values a statement compares.
            && !rule.allow.contains(&Action::Compare)
        {
            document.note(
                Weight::Idle,
                place,
                format!(
                    "rows_per_statement = {statement} of rule \"{}\" can never take effect: an hour gives {hour}",
                    rule.name
                ),
                "Lower rows_per_statement, raise rows_per_hour, or leave one of the two out.",
            );
        }
    }
}

fn matched(rule: &Rule, domain: &Domain) -> bool {
    rule.labels.iter().any(|pattern| label_matches(pattern, &domain.label))
}

/// Domains that no column is tagged with: idle, not wrong, since tags are another person's file.
pub(super) fn note_idle_domains(document: &Document, rules: &Rules, columns: &Columns) {
    for (name, (_, span)) in &rules.domains {
        if !columns.tags.iter().any(|tag| tag.domain.name == *name) {
            document.note(
                Weight::Idle,
                span,
                format!("no column is tagged with domain \"{name}\""),
                format!("Tag one in tags.toml (\"schema.table.column\" = \"{name}\"), or remove the domain."),
            );
        }
    }
}

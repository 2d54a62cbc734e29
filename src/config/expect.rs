//! A file of expectations of the policy: who, what, and how it is to come out. For `pgveil policy test`.
//!
//! Guarantees: every mistake of the file is found in one run, with line and remedy; what is read names domains that there
//! are. A rule with hours is judged at the time that the expectation gives, never at the time of the run. Deliberately absent:
//! running them (`outcome.rs`).

mod outcome;

use super::document::{At, Document, Section, Text};
use super::{Mistake, Place, PolicyFiles, Weight, place};
use crate::catalog::{Action, Domain};
use crate::policy::{Circumstances, Form};
use std::path::Path;
use std::sync::Arc;

pub use outcome::{Outcome, run};

/// A Monday noon in UTC: what `at` is unless it is given.
const NOON: &str = "2026-01-05 12:00 UTC";

/// What one file says.
pub struct Expectations {
    pub expectations: Vec<Expectation>,
    /// What statements name beside tagged columns.
    tables: Tables,
    /// Of tags that hold in one database only.
    database: String,
    search_path: Vec<String>,
}

/// One `[[expect]]`.
pub struct Expectation {
    pub name: String,
    pub place: Place,
    pub user: String,
    circumstances: Circumstances,
    subject: Subject,
    /// The name of the rule that is to decide.
    rule: Option<String>,
}

/// What is asked for, and how it is to come out.
enum Subject {
    Use { what: String, domain: Arc<Domain>, action: Action, expected: Expected },
    Statement { sql: String, expected: Expected, sqlstate: Option<String>, shows: Vec<(String, Form)> },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    Shown(Form),
    Allowed,
    Refused,
}

impl Expected {
    fn name(&self) -> String {
        match self {
            Expected::Shown(form) => form.name().into_owned(),
            Expected::Allowed => "allowed".to_owned(),
            Expected::Refused => "refused".to_owned(),
        }
    }
}

/// Reads the file at `path`, which speaks of `files`.
///
/// # Errors
/// Every mistake in it.
pub fn read(path: &Path, files: &PolicyFiles) -> Result<Expectations, Vec<Mistake>> {
    if let Err(error) = std::fs::metadata(path) {
        return Err(vec![Mistake {
            id: "invalid-configuration",
            weight: Weight::Mistake,
            file: path.to_owned(),
            line: 1,
            message: format!("cannot be read: {error}"),
            hint: "config/policy-test.toml is a commented example.".to_owned(),
        }]);
    }
    let document = Document::read(Path::new(""), &path.to_string_lossy(), false);
    let table = document.parse();
    let mut top = document.top(&table);
    let database = top.text("database").map(|text| text.value).unwrap_or_default();
    let search_path = top.texts("search_path").map_or_else(
        || vec!["public".to_owned()],
        |texts| texts.into_iter().map(|text| text.value).collect(),
    );
    let tables = tables(&document, top.section("tables"));
    let expectations: Vec<Expectation> =
        top.sections("expect").into_iter().filter_map(|section| expectation(section, files)).collect();
    if expectations.is_empty() {
        top.mistake("nothing is expected", "Write: [[expect]], and user, column and outcome below.");
    }
    top.finish();
    drop(table);
    let mistakes = document.into_mistakes();
    if mistakes.is_empty() {
        Ok(Expectations { expectations, tables, database, search_path })
    } else {
        Err(mistakes)
    }
}

/// Columns without tags: ((schema, table), (column, type)).
type Tables = Vec<(TableName, Vec<(String, String)>)>;
type TableName = (String, String);

fn tables(document: &Document, mut section: Section<'_>) -> Tables {
    let hint = "Write: \"public.customers\" = { id = \"bigint\", note = \"text\" }.";
    let mut found = vec![];
    for (At { value: name, span }, named) in section.named() {
        let Some((schema, table)) = name.split_once('.') else {
            document.mistake(&span, format!("\"{name}\" is not schema.table"), hint);
            continue;
        };
        let Some(mut columns) = named.section() else {
            named.wrong("a table of columns and their types", hint);
            continue;
        };
        let mut own = vec![];
        for (column, kind) in columns.named() {
            match kind.text() {
                Some(kind) => own.push((column.value, kind.value)),
                None => kind.wrong("a type", hint),
            }
        }
        found.push(((schema.to_owned(), table.to_owned()), own));
    }
    found
}

fn expectation(mut section: Section<'_>, files: &PolicyFiles) -> Option<Expectation> {
    let place = place(section.document, section.span.start);
    let user = section.required("user", "Write: user = \"alice\".");
    let subject = subject(&mut section, files);
    let name = section.text("name").map(|text| text.value);
    let rule = section.text("rule");
    if let Some(rule) = &rule
        && !files.policy.rules.iter().any(|known| *known.name == *rule.value)
    {
        section.document.mistake(
            &rule.span,
            format!("policy.toml has no rule \"{}\"", rule.spelling),
            "Correct the name, or leave it out: then any rule may decide.",
        );
    }
    let circumstances = circumstances(&mut section);
    section.finish();
    let (user, subject) = (user?.value, subject?);
    let name = name.unwrap_or_else(|| format!("{user}: {}", subject.text()));
    Some(Expectation {
        name,
        place,
        user,
        circumstances: circumstances?,
        subject,
        rule: rule.map(|text| text.value),
    })
}

impl Subject {
    fn text(&self) -> String {
        match self {
            Subject::Use { what, action, .. } => format!("{} {what}", action.name()),
            Subject::Statement { sql, .. } => sql.split_whitespace().collect::<Vec<_>>().join(" "),
        }
    }
}

fn subject(section: &mut Section<'_>, files: &PolicyFiles) -> Option<Subject> {
    let document = section.document;
    let [column, label, sql] = ["column", "label", "sql"].map(|key| section.text(key));
    let outcome = section
        .required("outcome", "Write how it is to come out: a show of policy.toml, allowed or refused.");
    let (action, sqlstate) = (section.text("action"), section.text("sqlstate"));
    let shows = shows(section);
    let only = |key: &str, text: &Option<Text>, with: &str| {
        if let Some(text) = text {
            document.mistake(&text.span, format!("{key} stands with {with} only"), "Remove one of the two.");
        }
    };
    let (what, domain) = match (column, label, sql) {
        (Some(column), None, None) => (column.value.clone(), of_column(document, &column, files)?),
        (None, Some(label), None) => (format!("label {}", label.value), of_label(document, &label, files)?),
        (None, None, Some(sql)) => {
            only("action", &action, "column or label");
            let expected = expected(document, outcome.as_ref()?, None)?;
            if expected == Expected::Refused && !shows.is_empty() {
                section.mistake(
                    "a refused statement shows nothing",
                    "Remove shows, or expect it to be allowed.",
                );
            }
            let sqlstate = sqlstate.map(|text| text.value);
            return Some(Subject::Statement { sql: sql.value, expected, sqlstate, shows });
        }
        (None, None, None) | (Some(_), Some(_), _) | (Some(_), _, Some(_)) | (_, Some(_), Some(_)) => {
            section.mistake(
                "an expectation is of a column, a label or a statement",
                "Write one of: column = \"public.customers.email\", label = \"pii.email\", sql = \"SELECT …\".",
            );
            return None;
        }
    };
    only("sqlstate", &sqlstate, "sql");
    if !shows.is_empty() {
        section.mistake("shows stands with sql only", "Write the show as outcome.");
    }
    let words = [("read", Action::Read), ("compare", Action::Compare), ("write", Action::Write)];
    let action = match &action {
        Some(text) => super::proxy::choice(section, "action", text, &words)?,
        None => Action::Read,
    };
    let expected = expected(document, outcome.as_ref()?, Some(action))?;
    Some(Subject::Use { what, domain, action, expected })
}

/// `action` is `None` of a statement.
fn expected(document: &Document, text: &Text, action: Option<Action>) -> Option<Expected> {
    let words = match action {
        Some(Action::Read) => "clear, null, mask:… or refused",
        Some(Action::Compare | Action::Write) | None => "allowed or refused",
    };
    let found = match (&*text.value, action) {
        ("refused", _) => Some(Expected::Refused),
        ("allowed", Some(Action::Compare | Action::Write) | None) => Some(Expected::Allowed),
        (form, Some(Action::Read)) => Form::parse(form).map(Expected::Shown),
        (_, Some(Action::Compare | Action::Write) | None) => None,
    };
    if found.is_none() {
        let message = format!("the outcome cannot be \"{}\"", text.spelling);
        document.mistake(&text.span, message, format!("Write {words}."));
    }
    found
}

/// `shows = { "public.customers.email" = "mask:email" }`.
fn shows(section: &mut Section<'_>) -> Vec<(String, Form)> {
    let document = section.document;
    let hint = "Write: shows = { \"public.customers.email\" = \"mask:email\" }.";
    let mut found = vec![];
    for (column, named) in section.section("shows").named() {
        let Some(text) = named.text() else {
            named.wrong("a show of policy.toml", hint);
            continue;
        };
        match Form::parse(&text.value) {
            Some(form) => found.push((column.value, form)),
            None => {
                document.mistake(
                    &text.span,
                    format!("\"{}\" is not a show of policy.toml", text.spelling),
                    hint,
                );
            }
        }
    }
    found
}

fn of_column(document: &Document, column: &Text, files: &PolicyFiles) -> Option<Arc<Domain>> {
    let named =
        |tag: &&crate::catalog::Tag| format!("{}.{}.{}", tag.schema, tag.table, tag.column) == column.value;
    let tag = files.tags.tags.iter().find(named);
    if tag.is_none() {
        document.mistake(
            &column.span,
            format!("column \"{}\" has no tag in tags.toml", column.spelling),
            "Write it as there: schema.table.column. Everyone may read a column without a tag.",
        );
    }
    tag.map(|tag| tag.domain.clone())
}

fn of_label(document: &Document, label: &Text, files: &PolicyFiles) -> Option<Arc<Domain>> {
    let found = files.policy.domains.iter().find(|domain| *domain.label == *label.value);
    if found.is_none() {
        let known: Vec<&str> = files.policy.domains.iter().map(|domain| &*domain.label).collect();
        document.mistake(
            &label.span,
            format!("no domain has the label \"{}\"", label.spelling),
            format!("Labels of domains: {}.", known.join(", ")),
        );
    }
    found.cloned()
}

fn circumstances(section: &mut Section<'_>) -> Option<Circumstances> {
    let document = section.document;
    let purpose = section.text("purpose").map(|text| text.value);
    let second_factor = section.boolean("second_factor").unwrap_or(false);
    let break_glass = section.boolean("break_glass").unwrap_or(false);
    let (from, at) = (section.text("from"), section.text("at"));
    let address = from.as_ref().map(|text| text.value.parse());
    if let (Some(Err(_)), Some(text)) = (&address, &from) {
        let message = format!("\"{}\" is not an IP address", text.spelling);
        document.mistake(&text.span, message, "Write it like 10.1.2.3; without it a Unix socket is meant.");
    }
    let now = instant(at.as_ref().map_or(NOON, |text| &text.value));
    if let (None, Some(at)) = (now, &at) {
        document.mistake(
            &at.span,
            format!("\"{}\" is not a time and a zone", at.spelling),
            format!("Write it like 2026-03-02 09:30 Europe/Berlin; without it {NOON}, a Monday, is meant."),
        );
    }
    let (now, address) = (now?, address.transpose().ok()?);
    Some(Circumstances {
        now,
        address,
        purpose,
        second_factor_at: second_factor.then_some(now),
        glass_broken_at: break_glass.then_some(now),
    })
}

/// `2026-03-02 09:30 Europe/Berlin`, in Unix seconds.
fn instant(text: &str) -> Option<i64> {
    let (time, zone) = text.rsplit_once(' ')?;
    let time: jiff::civil::DateTime = time.trim().replacen(' ', "T", 1).parse().ok()?;
    Some(time.in_tz(zone).ok()?.timestamp().as_second())
}

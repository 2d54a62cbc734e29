//! Running expectations: over the policy alone, and for statements over a catalog of the tables that tags and the file name.

use super::{Expectation, Expectations, Expected, Subject, TableName};
use crate::catalog::build::{build, sealed_type_name};
use crate::catalog::queries::{RawCatalog, RawColumn, RawRelation, RawType};
use crate::catalog::{Action, Catalog, Domain};
use crate::config::{PolicyFiles, account};
use crate::plan::{self, NO_NAMES, Planned, Refusal, StatementPlan};
use crate::policy::decide::reveals;
use crate::policy::why::{self, Account, Stand};
use crate::policy::{Decision, Form, Principal};
use crate::value::DataType;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// How one expectation came out.
pub struct Outcome<'e> {
    pub expectation: &'e Expectation,
    /// `None`: as expected.
    pub failure: Option<Failure>,
}

/// What came out instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub expected: String,
    pub got: String,
    /// What would change it, sentences.
    pub changes: Vec<String>,
}

/// Runs every expectation, in the order of the file.
pub fn run<'e>(expectations: &'e Expectations, files: &PolicyFiles) -> Vec<Outcome<'e>> {
    let catalog = catalog(expectations, files);
    let each = expectations.expectations.iter();
    each.map(|expectation| {
        let run = Run {
            files,
            expectation,
            principal: Principal::assumed(expectation.user.clone()),
            catalog: &catalog,
            search_path: &expectations.search_path,
        };
        Outcome { expectation, failure: run.failure() }
    })
    .collect()
}

struct Run<'r> {
    files: &'r PolicyFiles,
    expectation: &'r Expectation,
    principal: Principal,
    catalog: &'r Catalog,
    search_path: &'r [String],
}

impl Run<'_> {
    fn failure(&self) -> Option<Failure> {
        match &self.expectation.subject {
            Subject::Use { what, domain, action, expected } => self.of_use(what, domain, *action, *expected),
            Subject::Statement { sql, expected, sqlstate, shows } => {
                self.of_statement(sql, *expected, sqlstate.as_deref(), shows)
            }
        }
    }

    fn account(&self, domain: &Domain, action: Action) -> Account<'_> {
        why::account(&self.files.policy, &self.principal, domain, action, &self.expectation.circumstances)
    }

    fn of_use(&self, what: &str, domain: &Domain, action: Action, expected: Expected) -> Option<Failure> {
        let account = self.account(domain, action);
        let rule = match (&account.decision, expected) {
            (Decision::Deny { .. }, Expected::Refused) => None,
            (Decision::Allow { rule, disclosure, .. }, Expected::Shown(form))
                if disclosure.form() == form =>
            {
                Some(rule)
            }
            (Decision::Allow { rule, .. }, Expected::Allowed) => Some(rule),
            (Decision::Deny { .. } | Decision::Allow { .. }, _) => {
                return Some(self.unlike(&account, what, action, expected));
            }
        };
        let decided = rule.and_then(Option::as_ref).map(|rule| &*rule.name);
        let wanted = self.expectation.rule.as_deref().filter(|wanted| decided != Some(*wanted))?;
        let standing = account.standings.iter().find(|standing| *standing.rule.name == *wanted);
        let change = match standing {
            Some(standing) => account::change(standing, action, &self.expectation.user, &self.files.rules),
            None => format!("Rule {wanted} does not name label {}.", domain.label),
        };
        Some(Failure {
            expected: format!("{} {what}: {} by rule {wanted}", action.name(), expected.name()),
            got: account::verdict(&account, action, &self.files.rules),
            changes: vec![change],
        })
    }

    fn unlike(&self, account: &Account<'_>, what: &str, action: Action, expected: Expected) -> Failure {
        Failure {
            expected: format!("{} {what}: {}", action.name(), expected.name()),
            got: account::verdict(account, action, &self.files.rules),
            changes: self.changes(account, action, expected),
        }
    }

    /// What would bring the expected outcome about.
    fn changes(&self, account: &Account<'_>, action: Action, expected: Expected) -> Vec<String> {
        let places = &self.files.rules;
        let user = &self.expectation.user;
        let decides = account.standings.iter().find(|standing| standing.stand == Stand::Decides);
        let mut changes = vec![];
        // What reveals more comes before it anyway.
        let stands_in_the_way = |form: Form| match expected {
            Expected::Shown(wanted) => reveals(form) >= reveals(wanted),
            Expected::Allowed => false,
            Expected::Refused => true,
        };
        match decides {
            Some(decides) if !stands_in_the_way(decides.rule.show) => {}
            Some(decides) => {
                let rule = account::named(&decides.rule.name, decides.index, places);
                changes.push(format!(
                    "{rule} would no longer decide if {user} were in none of its roles ({}), or its labels, allow or \
                     conditions were narrower.",
                    decides.rule.roles.join(", ")
                ));
            }
            None if expected == Expected::Refused => {
                changes.push("default = \"refuse\" would refuse it.".to_owned());
            }
            None => {}
        }
        let gives = |form: Form| match expected {
            Expected::Shown(wanted) => form == wanted,
            Expected::Allowed => true,
            // Whatever would decide then has to go, too.
            Expected::Refused => false,
        };
        let others = account.others();
        let giving = others.iter().filter(|standing| match standing.stand {
            Stand::Behind { .. } if expected == Expected::Refused => true,
            Stand::Decides | Stand::Behind { .. } | Stand::Waits(_) | Stand::Other { .. } => {
                gives(standing.rule.show)
            }
        });
        changes.extend(giving.map(|standing| account::change(standing, action, user, places)));
        if let (true, Expected::Shown(form)) =
            (!account.standings.iter().any(|one| gives(one.rule.show)), expected)
        {
            changes.push(format!(
                "No rule that names the label shows {}: one for a role of {user} would.",
                form.name()
            ));
        }
        if changes.is_empty() {
            changes.push(format!("No rule names the label: one for a role of {user} would give it."));
        }
        changes
    }

    fn of_statement(
        &self,
        sql: &str,
        expected: Expected,
        sqlstate: Option<&str>,
        shows: &[(String, Form)],
    ) -> Option<Failure> {
        let session = plan::Session {
            principal: &self.principal,
            circumstances: &self.expectation.circumstances,
            search_path: self.search_path,
            named: &NO_NAMES,
        };
        let script = plan::plan(sql, &[], self.catalog, &self.files.policy, &session);
        let wanted = match sqlstate {
            Some(sqlstate) => format!("{} with {sqlstate}", expected.name()),
            None => expected.name(),
        };
        let fails = |got: String, changes| Some(Failure { expected: wanted.clone(), got, changes });
        let mut plans: Vec<&StatementPlan> = vec![];
        for planned in &script.statements {
            match planned {
                Planned::Plan(plan) => plans.push(plan),
                Planned::Pass(_) | Planned::Local(_) => {}
                Planned::Unresolved(refusal) => {
                    let hint = "Name the table in [tables], or its tagged columns in tags.toml.".to_owned();
                    return fails(format!("not understood: {}", refusal.message), vec![hint]);
                }
                Planned::Refuse(refusal) => {
                    let as_expected = expected == Expected::Refused
                        && sqlstate.is_none_or(|sqlstate| sqlstate == refusal.sqlstate);
                    return if as_expected {
                        None
                    } else {
                        fails(
                            format!("refused with {}: {}", refusal.sqlstate, refusal.message),
                            self.after(refusal, expected),
                        )
                    };
                }
            }
        }
        if expected == Expected::Refused {
            let uses = plans.iter().flat_map(|plan| &plan.uses);
            let changes = uses.flat_map(|used| {
                let account = self.account(&used.domain.0, used.action);
                self.changes(&account, used.action, Expected::Refused)
            });
            let mut changes = once_each(changes);
            if changes.is_empty() {
                changes.push("Nothing that it names is tagged.".to_owned());
            }
            return fails("allowed".to_owned(), changes);
        }
        shows
            .iter()
            .find_map(|(column, form)| self.shown(&plans, column, *form))
            .or_else(|| self.ruled(&plans))
    }

    /// What would make a refused statement another one.
    fn after(&self, refusal: &Refusal, expected: Expected) -> Vec<String> {
        let hint = refusal.hint.iter().chain(&refusal.detail).cloned();
        let domain = |label: &str| self.files.policy.domains.iter().find(|domain| *domain.label == *label);
        let rules = refusal.uses.iter().filter(|_| expected == Expected::Allowed);
        let rules = rules.filter_map(|(_, label, action)| Some((domain(label)?, *action)));
        let rules = rules.flat_map(|(domain, action)| {
            self.changes(&self.account(domain, action), action, Expected::Allowed)
        });
        once_each(hint.chain(rules))
    }

    fn shown(&self, plans: &[&StatementPlan], column: &str, form: Form) -> Option<Failure> {
        let uses = plans.iter().flat_map(|plan| plan.uses.iter().zip(&plan.rulings));
        let mut reads =
            uses.filter(|(used, _)| used.action == Action::Read && used.column_name() == column).peekable();
        if reads.peek().is_none() {
            return Some(Failure {
                expected: format!("{column} is read, and shown as {}", form.name()),
                got: "the statement does not read it".to_owned(),
                changes: vec!["Write the column as in tags.toml: schema.table.column.".to_owned()],
            });
        }
        let (used, _) = reads.find(|(_, ruling)| ruling.disclosure.form() != form)?;
        let account = self.account(&used.domain.0, Action::Read);
        Some(self.unlike(&account, column, Action::Read, Expected::Shown(form)))
    }

    fn ruled(&self, plans: &[&StatementPlan]) -> Option<Failure> {
        let wanted = self.expectation.rule.as_ref()?;
        let rulings = plans.iter().flat_map(|plan| &plan.rulings);
        let decided: BTreeSet<&str> =
            rulings.filter_map(|ruling| ruling.rule.as_ref()).map(|rule| &*rule.name).collect();
        (!decided.contains(wanted.as_str())).then(|| Failure {
            expected: format!("allowed by rule {wanted}"),
            got: match decided.len() {
                0 => "allowed by no rule".to_owned(),
                _ => format!("allowed by {}", Vec::from_iter(decided).join(", ")),
            },
            changes: vec![],
        })
    }
}

fn once_each(sentences: impl Iterator<Item = String>) -> Vec<String> {
    let mut seen = BTreeSet::new();
    sentences.filter(|sentence| seen.insert(sentence.clone())).collect()
}

/// Tables as they would be once they are all sealed: what tags name, and what the file adds.
fn catalog(expectations: &Expectations, files: &PolicyFiles) -> Catalog {
    let mut raw = RawCatalog::default();
    let oid = |count: usize| 20_000 + u32::try_from(count).unwrap_or_default();
    for (index, domain) in files.policy.domains.iter().enumerate() {
        let name = sealed_type_name(domain, 1);
        raw.sealed_types.extend(name.map(|name| RawType {
            oid: 50_000 + 2 * u32::try_from(index).unwrap_or_default(),
            array_oid: 50_001 + 2 * u32::try_from(index).unwrap_or_default(),
            name,
        }));
    }
    let tables = tables(expectations, files);
    let schemas = tables.keys().map(|(schema, _)| schema).chain(&expectations.search_path);
    raw.schemas = BTreeSet::from_iter(schemas.cloned()).into_iter().collect();
    for (index, ((schema, name), columns)) in tables.into_iter().enumerate() {
        let relation = oid(index);
        raw.relations.push(RawRelation { oid: relation, schema, name, kind: 'r' });
        for (number, (name, kind)) in (1..).zip(columns) {
            let sealed = match &kind {
                Kind::Of(domain, _) => sealed_type_name(domain, 1),
                Kind::Named(_) => None,
            };
            let sealed = raw.sealed_types.iter().find(|known| Some(&known.name) == sealed.as_ref());
            let (type_oid, type_name) = match (sealed, kind) {
                (Some(sealed), _) => (sealed.oid, format!("pgveil.{}", sealed.name)),
                (None, Kind::Of(_, data_type)) => (data_type.oid(), data_type.sql()),
                (None, Kind::Named(name)) => (DataType::parse(&name).map_or(0, |known| known.oid()), name),
            };
            raw.columns.push(RawColumn {
                relation,
                number,
                name,
                type_oid,
                type_name,
                not_null: false,
                generated: false,
                altered: false,
            });
        }
    }
    build(raw, &files.tags, &expectations.database, 1, None)
}

/// What a column is of.
enum Kind {
    Of(Arc<Domain>, DataType),
    Named(String),
}

type Columns = Vec<(String, Kind)>;

fn tables(expectations: &Expectations, files: &PolicyFiles) -> BTreeMap<TableName, Columns> {
    let mut tables: BTreeMap<TableName, Columns> = BTreeMap::new();
    for (name, columns) in &expectations.tables {
        let own = columns.iter().map(|(column, kind)| (column.clone(), Kind::Named(kind.clone())));
        tables.entry(name.clone()).or_default().extend(own);
    }
    let here = files
        .tags
        .tags
        .iter()
        .filter(|tag| tag.database.as_ref().is_none_or(|database| *database == expectations.database));
    for tag in here {
        let columns = tables.entry((tag.schema.clone(), tag.table.clone())).or_default();
        // What the file says of a tagged column is its tag's to say.
        columns.retain(|(column, _)| *column != tag.column);
        columns.push((tag.column.clone(), Kind::Of(tag.domain.clone(), tag.data_type)));
    }
    tables
}

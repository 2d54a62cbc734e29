//! The files against the world: users who can log in, databases that have what the tags say. Pure: `check` asks, this
//! judges.
//!
//! Guarantees: every finding names the line of the file to change, and a remedy. Deliberately absent: connections.

use super::doctor::spelled;
use super::{Config, Mistake, PROXY, Place, USERS, Weight};
use crate::auth::Method;
use crate::catalog::build::{SCHEMA, key_column};
use crate::catalog::{Action, Catalog, ColumnTag, KeyTag, RelationKind, Seal, State, Tag};
use crate::policy::decide::label_matches;
use crate::policy::{Form, Rule};
use crate::server::settings::AuthSource;
use std::collections::{BTreeMap, BTreeSet};

pub(super) fn at(
    place: &Place,
    id: &'static str,
    weight: Weight,
    message: String,
    hint: impl Into<String>,
) -> Mistake {
    Mistake { id, weight, file: place.file.clone(), line: place.line, message, hint: hint.into() }
}

/// Rules that mean only people who cannot log in.
pub fn users(config: &Config) -> Vec<Mistake> {
    if config.settings.auth == AuthSource::Database || config.policy.trust_database_roles {
        return Vec::new();
    }
    // A proxy that nobody was added to is not set up yet, which is no fault of the rules.
    let log_ins = &config.settings.log_ins;
    let nobody = config.users.is_empty() && log_ins.is_empty();
    let weight = if nobody { Weight::Advice } else { Weight::Idle };
    let can = |user: &&String| config.users.contains_key(*user) || log_ins.contains_key(*user);
    let rules = config.policy.rules.iter().zip(&config.places.rules);
    rules
        .filter_map(|(rule, place)| {
            let meant: BTreeSet<&String> =
                rule.roles.iter().filter_map(|role| config.policy.roles.get(role)).flatten().collect();
            let first = meant.first().filter(|_| !meant.iter().any(&can))?;
            let message =
                format!("rule \"{}\" can never take effect: nobody of its roles can log in", rule.name);
            Some(at(
                place,
                "without-effect",
                weight,
                message,
                format!("Run: pgveil users add {first}; or correct [roles]."),
            ))
        })
        .collect()
}

/// Users for whom a credential is kept, and who could not get into the database or log in at all; and passwords that are good for nothing.
pub fn log_ins(config: &Config) -> Vec<Mistake> {
    let file = |name: &str| Place { file: config.dir.join(name), line: 1 };
    let mut by_role: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (user, log_in) in config.settings.log_ins.iter() {
        by_role.entry(&log_in.upstream).or_default().push(user);
    }
    let missing = by_role.iter().filter(|(role, _)| !config.credentials.contains_key(**role));
    let missing = missing.map(|(role, users)| {
        let message = format!(
            "there is no credential of role {role}, as which {} would log in to the database: they are refused",
            users.join(", ")
        );
        let hint = format!("Run: pgveil upstream set {role}");
        at(&file(PROXY), "missing-credential", Weight::Mistake, message, hint)
    });
    let needless = config.credentials.keys().filter(|role| !by_role.contains_key(role.as_str()));
    let needless = needless.map(|role| {
        let message = format!("the credential of role {role} is kept, but nobody logs in as it");
        let hint = format!("Run: pgveil upstream remove {role}");
        at(&file(USERS), "needless-credential", Weight::Advice, message, hint)
    });
    let known = |user: &&String| config.users.contains_key(*user);
    let by_password = config.settings.log_ins.iter().filter(|(_, log_in)| log_in.method == Method::Password);
    let unknown = by_password.map(|(user, _)| user).filter(|user| !known(user)).map(|user| {
        let message = format!("user {user} can never log in: no password of {user}'s is in users.toml");
        at(&file(PROXY), "without-effect", Weight::Idle, message, format!("Run: pgveil users add {user}"))
    });
    let unused = config.users.keys().filter_map(|user| Some((user, config.settings.log_ins.get(user)?)));
    let unused = unused.filter(|(_, log_in)| log_in.method != Method::Password);
    let unused = unused.map(|(user, log_in)| {
        let method = log_in.method.name();
        let message = format!("the password of {user} opens nothing: {user} logs in by {method} alone");
        at(
            &file(USERS),
            "needless-credential",
            Weight::Advice,
            message,
            format!("Run: pgveil users remove {user}"),
        )
    });
    missing.chain(needless).chain(unknown).chain(unused).collect()
}

/// So few different values are soon all tried: twenty comparisons a statement are given where no limit is set.
const FEW_VALUES: f64 = 200.0;

/// Rules that let people compare a column, which they may not read in clear, of so few different values that they can try all of
/// them. `distinct` and `rows` are the database's estimates.
pub fn guessable(config: &Config, tag: &Tag, database: &str, distinct: f64, rows: f64) -> Vec<Mistake> {
    // Of a table that has hardly any rows nothing can be told.
    if distinct > FEW_VALUES || rows < 5.0 * distinct || distinct < 1.0 {
        return Vec::new();
    }
    let rules = config.policy.rules.iter().zip(&config.places.rules);
    let compares = rules.filter(|(rule, _)| {
        let reads = rule.allow.contains(&Action::Read) && rule.show == Form::Clear;
        rule.allow.contains(&Action::Compare)
            && !reads
            && rule.labels.iter().any(|pattern| label_matches(pattern, &tag.domain.label))
    });
    compares
        .map(|(rule, place)| {
            let message = format!(
                "rule \"{}\" lets people compare {}.{}.{} of database {database}, which has about {distinct:.0} different \
                 values: all of them can be tried",
                rule.name, tag.schema, tag.table, tag.column
            );
            let hint = "Leave compare out of the rule, or give it a small rows_per_hour and rows_per_day.";
            at(place, "guessable-column", Weight::Advice, message, hint)
        })
        .collect()
}

/// What was seen of the databases so far.
pub struct Survey<'c> {
    config: &'c Config,
    findings: Vec<Mistake>,
    /// By tag: whether its table, and its column, were seen in any database.
    tables: Vec<bool>,
    columns: Vec<bool>,
    /// By tag: a table whose name differs in case only.
    lookalikes: Vec<Option<String>>,
    databases: BTreeSet<String>,
    prepared: bool,
}

impl<'c> Survey<'c> {
    pub fn new(config: &'c Config) -> Survey<'c> {
        let count = config.tags.tags.len();
        Survey {
            config,
            findings: Vec::new(),
            tables: vec![false; count],
            columns: vec![false; count],
            lookalikes: vec![None; count],
            databases: BTreeSet::new(),
            prepared: false,
        }
    }

    /// A database that exists and could not be read. The proxy refuses log-ins to it.
    pub fn unreadable(&mut self, database: &str, why: &str) {
        self.databases.insert(database.to_owned());
        let named = self.config.tags.tags.iter().any(|tag| tag.database.as_deref() == Some(database));
        let needed = named || database == self.config.settings.database.service_database;
        self.findings.push(at(
            &self.config.places.database,
            "unreadable-database",
            if needed { Weight::Mistake } else { Weight::Advice },
            format!("database {database} cannot be read, so log-ins to it are refused: {why}"),
            format!(
                "Let role {} connect to it: pgveil init --database URL.",
                self.config.settings.database.service_user
            ),
        ));
    }

    /// A database as it is now; `catalog` was built with this configuration's tags.
    pub fn database(&mut self, catalog: &Catalog) {
        self.databases.insert(catalog.database.clone());
        let mut touched = false;
        for index in 0..self.config.tags.tags.len() {
            let tag = &self.config.tags.tags[index];
            if tag.database.as_deref().is_none_or(|name| name == catalog.database) {
                touched |= self.tag(index, tag, catalog);
            }
        }
        let keys = self.config.tags.record_keys.iter().zip(&self.config.places.record_keys);
        self.findings.extend(keys.filter_map(|(key, place)| unknown_persons(key, catalog, place)));
        // Schema pgveil may be there for the ledger alone.
        let prepared = !catalog.sealed_types.is_empty();
        self.prepared |= prepared;
        if prepared || touched {
            self.types(catalog, if prepared { Weight::Mistake } else { Weight::Advice });
        }
    }

    /// Whether the tag's table is in this database.
    fn tag(&mut self, index: usize, tag: &Tag, catalog: &Catalog) -> bool {
        let place = &self.config.places.tags[index];
        let Some(relation) = catalog.find_in(&tag.schema, &tag.table) else {
            let mut names =
                catalog.names.iter().flat_map(|(schema, names)| names.keys().map(move |name| (schema, name)));
            let other = names.find(|(schema, name)| {
                schema.eq_ignore_ascii_case(&tag.schema) && name.eq_ignore_ascii_case(&tag.table)
            });
            self.lookalikes[index] =
                other.map(|(schema, name)| format!("{schema}.{name}")).or(self.lookalikes[index].take());
            return false;
        };
        self.tables[index] = true;
        let name = format!("{}.{}.{}", tag.schema, tag.table, tag.column);
        if relation.kind == RelationKind::View {
            self.columns[index] = true;
            let message = format!("{name} is a column of a view, which holds no values of its own");
            let hint = "Tag the columns of the view's tables: they are guarded through the view, too.";
            self.findings.push(at(place, "without-effect", Weight::Mistake, message, hint));
            return true;
        }
        match relation.column(&tag.column) {
            None => {
                if let Some(why) = &relation.unreadable {
                    self.findings.push(at(
                        place,
                        "unreadable-column",
                        Weight::Mistake,
                        format!(
                            "table {}.{} of database {} is refused: {why}",
                            tag.schema, tag.table, catalog.database
                        ),
                        "Name the column as it is called now, or remove the tag.",
                    ));
                }
            }
            Some(column) => {
                self.columns[index] = true;
                if let Some(found) = &column.tag {
                    self.findings.extend(judge(tag, found, &name, &catalog.database, place));
                    let masks = self.config.policy.rules.iter().zip(&self.config.places.rules);
                    let masks =
                        masks.filter(|_| found.state == State::Clear && tag.domain.seal != Seal::None);
                    let unshown = masks.filter_map(|(rule, place)| unshown(rule, tag, &name, place));
                    self.findings.extend(unshown);
                }
            }
        }
        true
    }

    /// Each sealed domain that a tag could use here has its type.
    fn types(&mut self, catalog: &Catalog, weight: Weight) {
        for (domain, place) in self.config.policy.domains.iter().zip(&self.config.places.domains) {
            let used = self.config.tags.tags.iter().any(|tag| {
                tag.domain.name == domain.name
                    && tag.database.as_deref().is_none_or(|name| name == catalog.database)
            });
            if used && domain.seal != Seal::None && catalog.sealed_type(&domain.name).is_none() {
                self.findings.push(at(
                    place,
                    "missing-type",
                    weight,
                    format!("database {} has no sealed type for domain {}", catalog.database, domain.name),
                    "Run: pgveil init --database URL (of that database).",
                ));
            }
        }
    }

    /// Everything found, and what only all databases together say.
    pub fn finish(mut self) -> Vec<Mistake> {
        let sealed = self.config.policy.domains.iter().any(|domain| domain.seal != Seal::None);
        if sealed && !self.prepared && !self.databases.is_empty() {
            self.findings.push(at(
                &self.config.places.database,
                "unprepared-database",
                Weight::Mistake,
                format!("no database has a sealed type in schema {SCHEMA}: nothing can be sealed"),
                "Run: pgveil init --database URL (of the database with the tagged tables).",
            ));
        }
        for (index, (tag, place)) in self.config.tags.tags.iter().zip(&self.config.places.tags).enumerate() {
            self.findings.extend(self.absence(index, tag, place));
        }
        self.findings
    }

    /// What is said of a tag whose column is in no database.
    fn absence(&self, index: usize, tag: &Tag, place: &Place) -> Option<Mistake> {
        if let Some(database) = tag.database.as_ref().filter(|name| !self.databases.contains(*name)) {
            let message = format!("there is no database {database}: the tag can never take effect");
            return Some(at(
                place,
                "without-effect",
                Weight::Idle,
                message,
                "Correct the name in [database.NAME.columns].",
            ));
        }
        if self.columns[index] {
            return None;
        }
        let table = format!("{}.{}", tag.schema, tag.table);
        if self.tables[index] {
            return Some(at(
                place,
                "without-effect",
                Weight::Idle,
                format!("table {table} has no column {}", tag.column),
                "Correct the name, or add the column first (through pgveil it gets the sealed type).",
            ));
        }
        if let Some(other) = &self.lookalikes[index] {
            let message = format!("there is no table {table}, but there is {other}");
            let hint = "Put names with capital letters into double quotes: \"public.\\\"User\\\".email\".";
            return Some(at(place, "missing-table", Weight::Mistake, message, hint));
        }
        let message = format!("there is no table {table} yet");
        Some(at(
            place,
            "missing-table",
            Weight::Advice,
            message,
            "Nothing to do if it is still to be created, through pgveil.",
        ))
    }
}

/// A record key that nobody can be known by. Of a table that is not there, its tags say so.
fn unknown_persons(key: &KeyTag, catalog: &Catalog, place: &Place) -> Option<Mistake> {
    if key.database.as_deref().is_some_and(|name| name != catalog.database) {
        return None;
    }
    let relation = catalog.find_in(&key.schema, &key.table)?;
    let table = format!("{}.{} of database {}", key.schema, key.table, catalog.database);
    let column = relation.column(&key.column);
    let why = match column.map(key_column) {
        Some(Ok(_)) => return None,
        Some(Err(why)) => why,
        None => "there is no such column".to_owned(),
    };
    // It will be sealed; until then records say that they do not know.
    let clear = column
        .and_then(|column| column.tag.as_ref())
        .is_some_and(|tag| tag.state == State::Clear && tag.domain.seal == Seal::Deterministic);
    let weight = if clear { Weight::Advice } else { Weight::Mistake };
    Some(at(
        place,
        "unusable-record-key",
        weight,
        format!("nobody can be known by record_key {} of table {table}: {why}", key.column),
        "Name an untagged column, or one that is sealed deterministically, of a type such as bigint, uuid or text.",
    ))
}

/// A mask that only the proxy makes, of a column that is not sealed yet: it is refused.
fn unshown(rule: &Rule, tag: &Tag, name: &str, place: &Place) -> Option<Mistake> {
    let meant = rule.labels.iter().any(|pattern| label_matches(pattern, &tag.domain.label));
    let keyed = matches!(rule.show, Form::Masked(mask) if mask.is_keyed());
    (meant && keyed && rule.allow.contains(&Action::Read)).then(|| {
        let shown = rule.show.name();
        let message = format!(
            "rule \"{}\" refuses column {name} until it is sealed: the database cannot make {shown}",
            rule.name
        );
        at(
            place,
            "refused-mask",
            Weight::Advice,
            message,
            "Seal it with pgveil reseal, or choose a mask without a key.",
        )
    })
}

fn judge(tag: &Tag, found: &ColumnTag, name: &str, database: &str, place: &Place) -> Vec<Mistake> {
    match &found.state {
        State::Sealed { .. } => Vec::new(),
        State::Broken(why) => vec![at(
            place,
            "unreadable-column",
            Weight::Mistake,
            format!("column {name} of database {database} cannot be read: {why}"),
            "Correct the tag's domain or type, or give the column its type back (pgveil reseal start seals it).",
        )],
        State::Clear => {
            let other =
                (found.data_type != tag.data_type).then(|| other_type(tag, found, name, database, place));
            let clear = (tag.domain.seal != Seal::None).then(|| {
                at(
                    place,
                    "clear-column",
                    Weight::Advice,
                    format!("column {name} of database {database} is stored in clear"),
                    format!(
                        "It is guarded by the proxy alone until it is sealed: pgveil reseal start --database URL '{}'.",
                        spelled(&tag.schema, &tag.table, &tag.column)
                    ),
                )
            });
            other.into_iter().chain(clear).collect()
        }
    }
}

fn other_type(tag: &Tag, found: &ColumnTag, name: &str, database: &str, place: &Place) -> Mistake {
    at(
        place,
        "other-type",
        Weight::Advice,
        format!(
            "column {name} of database {database} is {}, its tag says {}",
            found.data_type.sql(),
            tag.data_type.sql()
        ),
        format!("Write: {{ domain = \"{}\", type = \"{}\" }}.", tag.domain.name, found.data_type.sql()),
    )
}

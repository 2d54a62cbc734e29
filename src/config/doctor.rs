//! What a database gives away although the files hold: rights past the proxy, untagged columns, distributions. Pure:
//! `check` asks (`server::examine`), this judges.
//!
//! Guarantees: all are advice; no finding holds the value of a cell, only names, counts and shares. Deliberately absent: what
//! views and functions over tagged columns show to whom, and what was kept before a column was sealed.

mod attack;
mod kept;

use super::against::at;
use super::sensitive::{Content, by_name};
use super::{Config, Mistake, Place, TAGS, Weight};
use crate::catalog::build::SCHEMA;
use crate::catalog::{Catalog, RelationKind, Seal, State};
use crate::server::examine::{Frequency, Grant, HbaRule, Setting, StoredColumn};
use crate::server::prepare::quoted;
use crate::server::settings::AuthSource;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// A tagged column that can be read, of a table (a partition, too), as it is in one database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaggedColumn {
    pub relation: u32,
    pub number: i16,
    pub schema: String,
    pub table: String,
    pub column: String,
    pub is_clear: bool,
    pub is_deterministic: bool,
    /// Of `tags.tags`; `None`: it has its parent's.
    tag: Option<usize>,
}

impl TaggedColumn {
    pub fn is_named(&self) -> bool {
        self.tag.is_some()
    }
    fn name(&self) -> String {
        spelled(&self.schema, &self.table, &self.column)
    }
}

/// A column's name as tags.toml and the command line take it.
pub(super) fn spelled(schema: &str, table: &str, column: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_' || byte >= 0x80;
    let parts = [schema, table, column]
        .map(|part| if part.bytes().all(plain) { part.to_owned() } else { quoted(part) });
    parts.join(".")
}

/// The first few of a list of names, and how many more.
fn few(names: &[String]) -> String {
    const SHOWN: usize = 3;
    match names.len().checked_sub(SHOWN) {
        None | Some(0) => names.join(", "),
        Some(more) => format!("{} and {more} more", names[..SHOWN].join(", ")),
    }
}

/// How many recorded statements looked rows up by a column: (database, `schema.table.column`).
pub type Recorded = BTreeMap<(String, String), u64>;

/// What was found so far.
pub struct Doctor<'c> {
    config: &'c Config,
    findings: Vec<Mistake>,
    /// Names of tagged columns that are stored in clear.
    clear: Vec<String>,
    has_sealed: bool,
    /// Whether somebody has a way round the proxy.
    is_bypassed: bool,
}

impl<'c> Doctor<'c> {
    pub fn new(config: &'c Config) -> Doctor<'c> {
        Doctor { config, findings: Vec::new(), clear: Vec::new(), has_sealed: false, is_bypassed: false }
    }

    /// Whether a database is the proxy's matter: prepared, or with tagged columns.
    pub fn is_concerned(&self, catalog: &Catalog) -> bool {
        catalog.schemas.iter().any(|schema| schema == SCHEMA) || !self.tagged(catalog).is_empty()
    }

    /// The tagged columns of a database's tables, by name.
    pub fn tagged(&self, catalog: &Catalog) -> Vec<TaggedColumn> {
        let mut found = Vec::new();
        for relation in catalog.relations.values().filter(|relation| has_rows(relation.kind)) {
            for column in &relation.columns {
                let Some(tag) = &column.tag else { continue };
                if matches!(tag.state, State::Broken(_)) {
                    continue;
                }
                let index = self.config.tags.tags.iter().position(|tag| {
                    tag.column == column.name
                        && tag.table == relation.name
                        && tag.schema == relation.schema
                        && tag.database.as_ref().is_none_or(|name| *name == catalog.database)
                });
                let is_clear = tag.state == State::Clear;
                found.push(TaggedColumn {
                    relation: relation.oid,
                    number: column.number,
                    schema: relation.schema.clone(),
                    table: relation.name.clone(),
                    column: column.name.clone(),
                    is_clear,
                    is_deterministic: !is_clear && tag.domain.seal == Seal::Deterministic,
                    tag: index,
                });
            }
        }
        found.sort_by_key(TaggedColumn::name);
        found
    }

    /// What is tagged in one database, and who may do what with it there.
    pub fn grants(&mut self, database: &str, tagged: &[TaggedColumn], grants: &[Grant]) {
        self.has_sealed |= tagged.iter().any(|column| !column.is_clear);
        let clear = tagged.iter().filter(|column| column.is_clear && column.is_named());
        self.clear.extend(clear.map(TaggedColumn::name));
        // Who logs in to PostgreSQL with the same name as through pgveil needs the rights.
        let everybody = self.config.settings.auth == AuthSource::Database;
        let mut by_role: BTreeMap<Option<&str>, Vec<(&TaggedColumn, &Grant)>> = BTreeMap::new();
        for grant in grants {
            let is_user = grant.role.as_ref().is_some_and(|role| everybody || self.is_ours(role));
            let column = tagged
                .iter()
                .find(|column| column.relation == grant.relation && column.number == grant.number);
            if let (false, Some(column)) = (is_user, column) {
                by_role.entry(grant.role.as_deref()).or_default().push((column, grant));
            }
        }
        for (role, granted) in by_role {
            self.is_bypassed = true;
            let finding = self.way_round(database, role, &granted);
            self.findings.push(finding);
        }
    }

    /// A user, or the role of users who log in without a password, whose own is known to pgveil alone.
    fn is_ours(&self, role: &str) -> bool {
        self.config.users.contains_key(role) || self.config.credentials.contains_key(role)
    }

    fn way_round(&self, database: &str, role: Option<&str>, granted: &[(&TaggedColumn, &Grant)]) -> Mistake {
        let names = |wanted: &dyn Fn(&TaggedColumn, &Grant) -> bool| {
            let wanted = granted.iter().filter(|(column, grant)| wanted(column, grant));
            wanted.map(|(column, _)| column.name()).collect::<Vec<String>>()
        };
        let may: Vec<String> = [
            ("read in clear", names(&|column, grant| grant.reads && column.is_clear)),
            ("read the ciphertext of", names(&|column, grant| grant.reads && !column.is_clear)),
            ("write", names(&|_, grant| grant.writes)),
        ]
        .into_iter()
        .filter(|(_, columns)| !columns.is_empty())
        .map(|(verb, columns)| format!("{verb} {}", few(&columns)))
        .collect();
        let may = may.join(", and ");
        let (column, _) = granted[0];
        let table = format!("{}.{}", quoted(&column.schema), quoted(&column.table));
        let (who, hint) = match role {
            None => ("everybody (PUBLIC)".to_owned(), format!("Run: REVOKE ALL ON {table} FROM PUBLIC.")),
            Some(role) => (
                format!("role {role}, no user of pgveil,"),
                format!(
                    "Run: REVOKE ALL ON {table} FROM {}, or whatever role it has them from; or let it log in through pgveil: pgveil users \
                     add {role}.",
                    quoted(role)
                ),
            ),
        };
        let message = format!("{who} may past the proxy, in database {database}, {may}");
        at(&self.place_of(column), "way-round-role", Weight::Advice, message, hint)
    }

    fn place_of(&self, column: &TaggedColumn) -> Place {
        let place = column.tag.and_then(|index| self.config.places.tags.get(index));
        place.cloned().unwrap_or_else(|| self.tags_file())
    }

    fn tags_file(&self) -> Place {
        Place { file: self.config.dir.join(TAGS), line: 1 }
    }

    /// Those of a database's columns that have no tag.
    pub fn untagged(&self, catalog: &Catalog, columns: Vec<StoredColumn>) -> Vec<StoredColumn> {
        let is_tagged = |column: &StoredColumn| {
            let relation = catalog.find_in(&column.schema, &column.table);
            relation.is_some_and(|relation| {
                relation.unreadable.is_some()
                    || relation.column(&column.column).is_some_and(|column| column.tag.is_some())
            })
        };
        columns.into_iter().filter(|column| !is_tagged(column)).collect()
    }

    /// An untagged column, and what its sampled values look like.
    pub fn untagged_column(&mut self, database: &str, column: &StoredColumn, content: Option<Content>) {
        let name = spelled(&column.schema, &column.table, &column.column);
        let (id, message) = match (content, by_name(&column.column, column.category)) {
            (Some(Content { kind, fitting, sampled }), _) => (
                "sensitive-content",
                format!(
                    "column {name} of database {database} has no tag, and holds {}: {:.0} % of {sampled} sampled values",
                    kind.name(),
                    percent(fitting as f64, sampled as f64)
                ),
            ),
            (None, Some(kind)) => (
                "sensitive-name",
                format!(
                    "column {name} of database {database} has no tag, and by its name holds {}",
                    kind.name()
                ),
            ),
            (None, None) => return,
        };
        let hint = format!("Tag it: \"{}\" = \"DOMAIN\".", name.replace('\\', "\\\\").replace('"', "\\\""));
        self.findings.push(at(&self.tags_file(), id, Weight::Advice, message, hint));
    }

    /// How often the values of a deterministic column occur.
    pub fn distribution(&mut self, database: &str, column: &TaggedColumn, frequencies: &[Frequency]) {
        let Some(told) = attack::attack(frequencies).filter(attack::Attack::is_telling) else { return };
        let message = format!(
            "column {} of database {database} is deterministic and gives rows away: {told}",
            column.name()
        );
        let hint =
            "Seal it in a randomized domain, if nothing has to compare it: equal cells then cannot be told.";
        self.findings.push(at(&self.place_of(column), "telling-distribution", Weight::Advice, message, hint));
    }

    /// The deterministic columns that recorded statements look rows up by, and how many did.
    pub fn looked_up<'t>(
        &self,
        database: &str,
        tagged: &'t [TaggedColumn],
        recorded: &Recorded,
    ) -> Vec<(&'t TaggedColumn, u64)> {
        let count = |column: &TaggedColumn| {
            // As records have it.
            let name = [column.schema.as_str(), &column.table, &column.column].join(".");
            recorded.get(&(database.to_owned(), name)).copied()
        };
        let sealed = tagged.iter().filter(|column| column.is_deterministic);
        sealed.filter_map(|column| Some((column, count(column)?))).collect()
    }

    /// One of them, of a table of about so many rows, that no index has.
    pub fn unindexed(&mut self, database: &str, column: &TaggedColumn, statements: u64, rows: f64) {
        let message = format!(
            "no index has column {} of database {database}, by which {statements} recorded statements look up: each reads its \
             table, of about {rows:.0} rows, whole",
            column.name()
        );
        let hint = format!(
            "Run: CREATE INDEX CONCURRENTLY ON {}.{} ({}); equal values are equal cells, so that an ordinary index serves.",
            quoted(&column.schema),
            quoted(&column.table),
            quoted(&column.column)
        );
        self.findings.push(at(&self.place_of(column), "unindexed-column", Weight::Advice, message, hint));
    }

    /// Superusers, to whom grants do not matter. Ciphertext stays ciphertext to them.
    pub fn superusers(&mut self, names: &[String]) {
        if self.clear.is_empty() || names.is_empty() {
            return;
        }
        let message = format!(
            "superusers ({}) read past the proxy what is stored in clear: {}",
            few(names),
            few(&self.clear)
        );
        let hint = "Seal them: pgveil reseal start, and where the domain has seal = \"none\", another domain. A sealed column is ciphertext to \
                    superusers, too.";
        self.advise("way-round-superuser", message, hint);
    }

    /// Rules of pg_hba.conf, one by one, that let in more than single hosts. Before one that refuses everybody only.
    pub fn hosts(&mut self, rules: &[HbaRule], settings: &[Setting]) {
        let listens = settings.iter().find(|setting| setting.name == "listen_addresses");
        let is_local = |address: &str| {
            let address = address.trim();
            address == "localhost" || address.parse().is_ok_and(|address: IpAddr| address.is_loopback())
        };
        let local = |value: &str| value.trim().is_empty() || value.split(',').all(is_local);
        if !self.is_concerning() || listens.is_some_and(|setting| local(&setting.value)) {
            return;
        }
        let open: Vec<String> = rules
            .iter()
            .take_while(|rule| !refuses_everybody(rule))
            .filter_map(|rule| Some(format!("line {} ({})", rule.line, many_hosts(rule)?)))
            .collect();
        if open.is_empty() {
            return;
        }
        self.is_bypassed = true;
        let message = format!(
            "pg_hba.conf lets in more than single hosts: {}. Users of pgveil have their roles' rights in the database there, past \
             policy and audit log",
            few(&open)
        );
        let hint = "Let in the proxy's addresses only (host DATABASE USER ADDRESS/32 scram-sha-256), then run: SELECT pg_reload_conf().";
        self.advise("way-round-host", message, hint);
    }

    /// Settings by which the server keeps what statements say. To be asked last: it depends on all that was seen.
    pub fn settings(&mut self, settings: &[Setting]) {
        let concerned = kept::Concerned {
            clear: few(&self.clear),
            has_sealed: self.has_sealed,
            is_bypassed: self.is_bypassed,
        };
        if self.is_concerning() {
            for (message, hint) in kept::kept(settings, &concerned) {
                self.advise("kept-statements", message, &hint);
            }
        }
    }

    fn is_concerning(&self) -> bool {
        self.has_sealed || !self.clear.is_empty()
    }

    /// What could not be looked at, and why.
    pub fn unexamined(&mut self, what: &str, why: &str) {
        let hint = "Give --database an administrator's connection; or leave it as it is, and nothing is said of this.";
        self.advise("not-examined", format!("{what} could not be looked at: {why}"), hint);
    }

    fn advise(&mut self, id: &'static str, message: String, hint: &str) {
        self.findings.push(at(&self.config.places.database, id, Weight::Advice, message, hint));
    }

    pub fn finish(self) -> Vec<Mistake> {
        self.findings
    }
}

fn has_rows(kind: RelationKind) -> bool {
    matches!(
        kind,
        RelationKind::Table
            | RelationKind::Partitioned
            | RelationKind::MaterializedView
            | RelationKind::Foreign
    )
}

fn percent(part: f64, whole: f64) -> f64 {
    100.0 * part / whole
}

fn refuses_everybody(rule: &HbaRule) -> bool {
    let all = |names: &[String]| names.iter().any(|name| name == "all");
    rule.kind == "host"
        && rule.method == "reject"
        && all(&rule.databases)
        && all(&rule.users)
        && rule.address.as_deref() == Some("all")
}

/// The hosts of a rule that lets in more than one.
fn many_hosts(rule: &HbaRule) -> Option<String> {
    let address = rule.address.as_deref()?;
    let is_replication = rule.databases.iter().all(|name| name == "replication");
    if !rule.kind.starts_with("host") || rule.method == "reject" || is_replication {
        return None;
    }
    let Ok(network) = address.parse::<IpAddr>() else {
        let many = ["all", "samenet"].contains(&address) || address.starts_with('.');
        return many.then(|| address.to_owned());
    };
    let single = match rule.netmask.as_deref().map(str::parse) {
        None | Some(Err(_)) => true,
        Some(Ok(IpAddr::V4(mask))) => mask.to_bits() == u32::MAX,
        Some(Ok(IpAddr::V6(mask))) => mask.to_bits() == u128::MAX,
    };
    let netmask = rule.netmask.as_deref().unwrap_or_default();
    (!single && !network.is_loopback()).then(|| format!("{address} {netmask}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(address: &str, netmask: Option<&str>, method: &str) -> HbaRule {
        HbaRule {
            line: 1,
            kind: "host".to_owned(),
            databases: vec!["all".to_owned()],
            users: vec!["all".to_owned()],
            address: Some(address.to_owned()),
            netmask: netmask.map(str::to_owned),
            method: method.to_owned(),
        }
    }

    #[test]
    fn single_hosts_and_the_machine_itself_are_no_way_round() {
        for (address, netmask) in [
            ("127.0.0.1", Some("255.255.255.255")),
            ("127.0.0.0", Some("255.0.0.0")),
            ("10.0.0.7", Some("255.255.255.255")),
            ("::1", Some("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff")),
            ("samehost", None),
            ("proxy.example.com", None),
        ] {
            assert_eq!(many_hosts(&rule(address, netmask, "scram-sha-256")), None, "{address}");
        }
        for (address, netmask) in [
            ("0.0.0.0", Some("0.0.0.0")),
            ("10.0.0.0", Some("255.0.0.0")),
            ("::", Some("::")),
            ("all", None),
            ("samenet", None),
            (".example.com", None),
        ] {
            assert!(many_hosts(&rule(address, netmask, "scram-sha-256")).is_some(), "{address}");
            assert_eq!(many_hosts(&rule(address, netmask, "reject")), None, "{address}");
        }
    }

    #[test]
    fn names_are_spelled_as_the_files_take_them() {
        assert_eq!(spelled("public", "customers", "email_2"), "public.customers.email_2");
        assert_eq!(spelled("public", "User", "e.mail"), "public.\"User\".\"e.mail\"");
    }
}

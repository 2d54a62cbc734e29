//! Relations, columns and tags of one database: an immutable picture with a generation, and names → columns.
//!
//! Built from rows that the service user read ([`RawCatalog`], queries in [`queries`]) and from the tags. Guarantees: a
//! column is known by (relation OID, attribute number) once it is resolved; a tagged column's state comes from the
//! database's catalog alone (sealed when its type is its domain's, clear when it is the logical type, else broken).
//! Deliberately absent: I/O, policy, SQL text other than the loader's queries.

pub mod build;
pub mod clear;
pub mod queries;

use crate::value::DataType;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, OnceLock};

/// How the cells of a domain are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Seal {
    Deterministic,
    Randomized,
    /// Guarded but stored in clear.
    None,
}

/// What one may do with a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Action {
    Read,
    Compare,
    Write,
}

impl Action {
    /// As policy.toml and records spell it.
    pub fn name(&self) -> &'static str {
        match self {
            Action::Read => "read",
            Action::Compare => "compare",
            Action::Write => "write",
        }
    }
}

/// How many of each label, each once.
pub type ByLabel = Vec<(Arc<str>, u64)>;

/// A kind of data (`[domain.email]` of policy.toml): columns of one domain may be compared with each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Domain {
    pub name: String,
    /// For example `pii.email`.
    pub label: Arc<str>,
    pub data_type: DataType,
    pub seal: Seal,
    /// The keyring's data key that the domain's key derives from.
    pub key: String,
}

/// What a DBA says of a column.
#[derive(Clone, Debug)]
pub struct Tag {
    pub schema: String,
    pub table: String,
    pub column: String,
    pub domain: Arc<Domain>,
    /// The domain's type, or a narrower one of the same family.
    pub data_type: DataType,
    /// `None`: in every database that has such a column.
    pub database: Option<String>,
}

/// What a DBA says of a table: by which column its rows are known as persons in the audit log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyTag {
    pub schema: String,
    pub table: String,
    pub column: String,
    /// `None`: in every database that has such a table.
    pub database: Option<String>,
}

/// All tags of all databases, and the domains that they use.
#[derive(Clone, Debug, Default)]
pub struct Tags {
    pub tags: Vec<Tag>,
    pub record_keys: Vec<KeyTag>,
    pub domains: Vec<Arc<Domain>>,
    /// A column that its domain seals, and that is stored in clear, is refused instead of guarded.
    pub refuse_unsealed: bool,
}

/// The record key of a relation, as the database has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordKey {
    /// Who is meant: `database`, `schema`, `table` of the tag, so that a partition's rows are those of its table.
    pub table: [String; 3],
    /// `None`: the relation has no such column, or one that no person can be known by. Then nobody is.
    pub column: Option<KeyColumn>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyColumn {
    pub number: i16,
    pub data_type: DataType,
    /// The domain of its cells, when it is sealed.
    pub domain: Option<String>,
}

/// A column after resolving: never a name again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ColumnId {
    pub relation: u32,
    pub number: i16,
}

/// How a tagged column is stored now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Its type is its domain's type; deterministic domains name their key version.
    Sealed {
        version: Option<u16>,
    },
    Clear,
    /// Neither: retyped behind our back, another domain's type, a renamed tagged clear column. Unreadable; says why.
    Broken(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnTag {
    pub domain: Arc<Domain>,
    pub data_type: DataType,
    /// Nobody tagged it: its type is a sealed one.
    pub by_type: bool,
    pub state: State,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    pub number: i16,
    pub name: String,
    pub type_oid: u32,
    /// `format_type(atttypid, atttypmod)`, for messages and casts.
    pub type_name: String,
    pub not_null: bool,
    /// By an expression: COPY leaves it out.
    pub generated: bool,
    pub tag: Option<ColumnTag>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RelationKind {
    Table,
    Partitioned,
    View,
    MaterializedView,
    Foreign,
    Sequence,
    Composite,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relation {
    pub oid: u32,
    pub schema: String,
    pub name: String,
    pub kind: RelationKind,
    /// In attribute order, dropped columns left out.
    pub columns: Vec<Column>,
    /// `pg_get_viewdef` with an empty search path, for views and materialized views.
    pub definition: Option<String>,
    /// `Some(why)` when the tags cannot be applied to it: nothing may read it until they are put right.
    pub unreadable: Option<String>,
}

impl Relation {
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }
    pub fn is_tagged(&self) -> bool {
        self.unreadable.is_some() || self.columns.iter().any(|column| column.tag.is_some())
    }
}

/// A PostgreSQL domain over bytea in schema `pgveil`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedType {
    pub oid: u32,
    pub array_oid: u32,
    /// Without the schema: `card`, `email_1`.
    pub name: String,
    /// The tagged domain it belongs to.
    pub domain: String,
    pub version: Option<u16>,
}

/// A function outside `pg_catalog`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    pub schema: String,
    pub name: String,
    /// `sql`, `plpgsql`, `c`, `internal`, …
    pub language: String,
    /// It can be called as a row's attribute: `r.f` is `f(r)`.
    pub takes_row: bool,
}

/// What each word of each statement is looked up in. Its keys are those of who may define relations, and its seed is another in
/// each process: it needs no hash that withstands who chooses them for it.
pub type Lookup<K, V> = HashMap<K, V, foldhash::fast::RandomState>;
pub type Names = HashSet<String, foldhash::fast::RandomState>;

/// One database, as it was at `generation`.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    pub generation: u64,
    pub database: String,
    pub relations: Lookup<u32, Arc<Relation>>,
    /// Schema → name → OID.
    pub names: Lookup<String, Lookup<String, u32>>,
    /// Every schema that exists.
    pub schemas: Vec<String>,
    /// Sealed types by OID.
    pub sealed_types: HashMap<u32, SealedType>,
    /// Every domain, also those whose type is in no column here.
    pub domains: Vec<Arc<Domain>>,
    /// Primary keys, by relation: attribute numbers. Of tables without children only, whose key holds for all they show.
    pub keys: HashMap<u32, Vec<i16>>,
    /// Defaults of sealed columns that are a cell, by relation and column.
    pub defaults: Vec<SealedDefault>,
    /// User-defined functions by name (any schema).
    pub functions: Lookup<String, Vec<Function>>,
    /// Operators that call a function which may read anything (any schema).
    pub operators: HashSet<String>,
    /// Types of users' that such a function casts from or to, by OID.
    pub cast_types: HashMap<u32, String>,
    /// A function which may read anything, and which casts between two built-in types: any statement may call it.
    pub built_in_cast: Option<String>,
    /// Tags that apply to this database, by (schema, table): also those whose table does not exist yet.
    pub tags: HashMap<(String, String), Vec<Tag>>,
    /// Record keys that apply to this database, by (schema, table).
    pub key_tags: HashMap<(String, String), KeyTag>,
    /// The record keys of relations, those that inherit one included.
    pub record_keys: HashMap<u32, Arc<RecordKey>>,
    /// What was seen to hold a tag's values in clear.
    pub clear: clear::ClearColumns,
    /// As [`Tags`] have it.
    pub refuse_unsealed: bool,
    /// What follows from all of this.
    pub follows: Follows,
}

/// What follows from a catalog, worked out when it is first asked for. Another catalog begins with none.
#[derive(Clone, Debug, Default)]
pub struct Follows {
    /// [`Catalog::has_tags`].
    tagged: OnceLock<bool>,
    /// [`Catalog::has_clear_tags`].
    clear: OnceLock<bool>,
    /// [`Catalog::sensitive_names`].
    sensitive: OnceLock<Names>,
    /// [`Catalog::calling_views`].
    calling: OnceLock<Names>,
    /// [`Catalog::gathering_views`].
    gathering: OnceLock<Names>,
}

/// A default of a sealed column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedDefault {
    pub column: ColumnId,
    /// The ways in which PostgreSQL prints it.
    pub texts: [String; 2],
    pub cell: Vec<u8>,
}

impl Catalog {
    pub fn relation(&self, oid: u32) -> Option<&Arc<Relation>> {
        self.relations.get(&oid)
    }
    /// Looks `name` up in one schema.
    pub fn find_in(&self, schema: &str, name: &str) -> Option<&Arc<Relation>> {
        self.names.get(schema)?.get(name).and_then(|oid| self.relations.get(oid))
    }
    /// Looks an unqualified name up along `path` (as `current_schemas(true)` gives it).
    pub fn find(&self, path: &[String], name: &str) -> Option<&Arc<Relation>> {
        path.iter().find_map(|schema| self.find_in(schema, name))
    }
    /// How each tagged column of a table is stored, in words, by `schema.table.column`.
    pub fn storage(&self) -> BTreeMap<String, String> {
        let mut storage = BTreeMap::new();
        for relation in self.relations.values() {
            for column in &relation.columns {
                let Some(tag) = &column.tag else { continue };
                let stored = match &tag.state {
                    _ if relation.unreadable.is_some() => "unreadable".to_owned(),
                    State::Sealed { version: Some(version) } => format!("sealed with version {version}"),
                    State::Sealed { version: None } => "sealed".to_owned(),
                    State::Clear => "clear".to_owned(),
                    State::Broken(_) => "unreadable".to_owned(),
                };
                storage.insert(format!("{}.{}.{}", relation.schema, relation.name, column.name), stored);
            }
        }
        storage
    }
    /// Whether anything here is tagged, or could be when its table is created.
    pub fn has_tags(&self) -> bool {
        !self.tags.is_empty()
            || *self
                .follows
                .tagged
                .get_or_init(|| self.relations.values().any(|relation| relation.is_tagged()))
    }
    /// Whether any tagged column is stored in clear (or its relation is unreadable). What a conversion keeps beside its
    /// table is for administrators only, by the database's own grants, and takes no function from anybody.
    pub fn has_clear_tags(&self) -> bool {
        *self.follows.clear.get_or_init(|| {
            self.relations.values().filter(|relation| relation.schema != build::SCHEMA).any(|relation| {
                relation.unreadable.is_some()
                    || relation.columns.iter().any(|column| {
                        column.tag.as_ref().is_some_and(|tag| !matches!(tag.state, State::Sealed { .. }))
                    })
            })
        })
    }
    /// The unqualified names through which a statement could reach a tagged column, in any schema: tagged relations,
    /// tags whose table does not exist yet, and views (of views) whose definition mentions one of these.
    ///
    /// A text in which none of these words stands touches nothing tagged, whatever it means.
    pub fn sensitive_names(&self) -> &Names {
        self.follows.sensitive.get_or_init(|| {
            let mut names: Names = self.tags.keys().map(|(_, table)| table.clone()).collect();
            names.extend(
                self.relations.values().filter(|relation| relation.is_tagged()).map(|r| r.name.clone()),
            );
            self.with_views_over(names)
        })
    }
    /// The unqualified names of views (and views of views) whose definition mentions a user-defined function, which may
    /// read anything; of types that such a function casts, and of relations that have columns of these.
    pub fn calling_views(&self) -> &Names {
        self.follows.calling.get_or_init(|| {
            let mut called: Names = self.functions.keys().cloned().collect();
            called.extend(self.cast_types.values().cloned());
            let has_cast = |relation: &&Arc<Relation>| {
                relation.columns.iter().any(|column| self.cast_types.contains_key(&column.type_oid))
            };
            called.extend(self.relations.values().filter(has_cast).map(|relation| relation.name.clone()));
            let mut names = self.with_views_over(called);
            names.retain(|name| !self.functions.contains_key(name));
            names
        })
    }
    /// The unqualified names of views (and views of views) whose definition calls one of `functions`, which keep the values of many
    /// rows in one, or makes an array of a query's rows.
    pub fn gathering_views(&self, functions: &[&str]) -> &Names {
        self.follows.gathering.get_or_init(|| {
            let mut names: Names = functions.iter().map(|name| (*name).to_owned()).collect();
            let gathers = |relation: &&Arc<Relation>| {
                relation.definition.as_deref().is_some_and(|text| text.contains("ARRAY("))
            };
            names.extend(self.relations.values().filter(gathers).map(|relation| relation.name.clone()));
            let mut names = self.with_views_over(names);
            names.retain(|name| !functions.contains(&name.as_str()));
            names
        })
    }
    /// `names`, and the views whose definition mentions one of them or of these views.
    fn with_views_over(&self, mut names: Names) -> Names {
        let mut waiting: Vec<(&str, HashSet<String>)> = self
            .relations
            .values()
            .filter_map(|r| r.definition.as_deref().map(|text| (r.name.as_str(), identifier_words(text))))
            .collect();
        loop {
            let before = names.len();
            waiting.retain(|(name, words)| {
                let reaches = words.iter().any(|word| names.contains(word));
                if reaches {
                    names.insert((*name).to_owned());
                }
                !reaches
            });
            if names.len() == before {
                return names;
            }
        }
    }
    /// Whether some relation, or a tag whose table does not exist yet, has this name in any schema and is tagged.
    pub fn names_tagged_relation(&self, name: &str) -> bool {
        self.tags.keys().any(|(_, table)| table == name)
            || self.relations.values().any(|relation| relation.name == name && relation.is_tagged())
    }
    /// Whether a tagged column of some relation has this name, or one that cannot be told: a relation's tags may not fit its columns.
    pub fn is_tagged_name(&self, name: &str) -> bool {
        self.relations.values().any(|relation| {
            relation.unreadable.is_some()
                || relation.columns.iter().any(|column| column.tag.is_some() && column.name == name)
        })
    }
    /// The newest sealed type of a domain that exists in the database: what `CREATE TABLE` gives a tagged column.
    pub fn sealed_type(&self, domain: &str) -> Option<&SealedType> {
        self.sealed_types
            .values()
            .filter(|sealed| sealed.domain == domain)
            .max_by_key(|sealed| sealed.version)
    }
}

/// Every run of identifier characters, as written and quoted names whole: over-inclusive on purpose.
fn identifier_words(text: &str) -> HashSet<String> {
    let runs = text.split(|c: char| c.is_ascii() && !c.is_ascii_alphanumeric() && c != '_' && c != '$');
    runs.chain(text.split('"')).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

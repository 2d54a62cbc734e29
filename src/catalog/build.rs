//! Rows of the database and tags → [`Catalog`]. Pure.
//!
//! Guarantees: a tagged column's state is what its type in the rows says and nothing else; what cannot be said is
//! broken or unreadable, never untagged. Partitions and children have their parents' tags, columns of a sealed type that
//! domain's.

use super::queries::{RawCast, RawCatalog, RawColumn, RawDefault, RawFunction, RawRelation};
use super::{
    Catalog, Column, ColumnId, ColumnTag, Domain, Follows, Function, KeyColumn, KeyTag, RecordKey, Relation,
    RelationKind, Seal, SealedDefault, SealedType, State, Tag, Tags,
};
use crate::value::DataType;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// The schema of the sealed types.
pub const SCHEMA: &str = "pgveil";

/// The name, without schema, of a domain's sealed type. `None` for a domain that is not sealed.
pub fn sealed_type_name(domain: &Domain, version: u16) -> Option<String> {
    match domain.seal {
        Seal::Randomized => Some(domain.name.clone()),
        Seal::Deterministic => Some(format!("{}_{version}", domain.name)),
        Seal::None => None,
    }
}

/// The picture of `database` that the rows and the tags give. `before` is the last one of it, if this is not the first.
pub fn build(
    mut raw: RawCatalog,
    tags: &Tags,
    database: &str,
    generation: u64,
    before: Option<&Catalog>,
) -> Catalog {
    let mut catalog = Catalog {
        generation,
        database: database.to_owned(),
        schemas: std::mem::take(&mut raw.schemas),
        sealed_types: sealed_types(&raw, tags),
        tags: tags_of(tags, database),
        key_tags: key_tags_of(tags, database),
        domains: tags.domains.clone(),
        refuse_unsealed: tags.refuse_unsealed,
        keys: std::mem::take(&mut raw.keys).into_iter().collect(),
        defaults: std::mem::take(&mut raw.defaults).into_iter().filter_map(sealed_default).collect(),
        clear: before.map(|before| before.clear.clone()).unwrap_or_default(),
        ..Catalog::default()
    };
    enter_functions(&mut catalog, std::mem::take(&mut raw.functions));
    enter_hidden_calls(&mut catalog, std::mem::take(&mut raw.operators), std::mem::take(&mut raw.casts));
    enter(&mut catalog, raw);
    let Catalog { clear, relations, .. } = &mut catalog;
    clear.retain(|relation| relations.contains_key(&relation));
    catalog
}

/// `base` with what one transaction changed and no other sees yet: relations that it made or altered, whole.
///
/// A relation that it dropped stays known: the server says that it is gone. No key is known in it: it may have dropped one.
pub fn amended(base: &Catalog, changes: RawCatalog, generation: u64) -> Catalog {
    let mut catalog =
        Catalog { generation, follows: Follows::default(), keys: HashMap::new(), ..base.clone() };
    let mut changes = changes;
    enter_functions(&mut catalog, std::mem::take(&mut changes.functions));
    enter(&mut catalog, changes);
    catalog
}

/// `('\x1100…'::bytea)::pgveil.email_1`. What does not look like that is shown as it is.
fn sealed_default(raw: RawDefault) -> Option<SealedDefault> {
    let (_, rest) = raw.texts[0].split_once("'\\x")?;
    let (digits, _) = rest.split_once('\'')?;
    let digit = |at: usize| digits.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok());
    let cell = (0..digits.len()).step_by(2).map(digit).collect::<Option<Vec<u8>>>()?;
    let column = ColumnId { relation: raw.relation, number: raw.number };
    Some(SealedDefault { column, texts: raw.texts, cell })
}

fn enter_functions(catalog: &mut Catalog, functions: Vec<RawFunction>) {
    for RawFunction { schema, name, language, takes_row } in functions {
        let row = Function { schema, name: name.clone(), language, takes_row };
        catalog.functions.entry(name).or_default().push(row);
    }
}

/// OIDs below are those of objects that come with the server (`FirstNormalObjectId`).
const FIRST_OWN_OID: u32 = 16_384;

fn enter_hidden_calls(catalog: &mut Catalog, operators: Vec<String>, casts: Vec<RawCast>) {
    catalog.operators = operators.into_iter().collect();
    for RawCast { types, function } in casts {
        let own: Vec<_> = types.into_iter().filter(|(oid, _)| *oid >= FIRST_OWN_OID).collect();
        if own.is_empty() {
            catalog.built_in_cast = Some(function);
        }
        catalog.cast_types.extend(own);
    }
}

/// Adds the relations of `raw`, or puts them in the place of what was known of them.
fn enter(catalog: &mut Catalog, raw: RawCatalog) {
    let ancestors = ancestors(&raw);
    let mut columns: HashMap<u32, Vec<RawColumn>> = HashMap::new();
    for column in raw.columns {
        columns.entry(column.relation).or_default().push(column);
    }
    let mut definitions: HashMap<u32, Option<String>> = raw.definitions.into_iter().collect();
    let known = catalog.relations.values().map(|known| (known.oid, &known.schema, &known.name));
    let rows = raw.relations.iter().map(|row| (row.oid, &row.schema, &row.name));
    // The later of two wins.
    let names: HashMap<u32, (String, String)> =
        known.chain(rows).map(|(oid, schema, name)| (oid, (schema.clone(), name.clone()))).collect();
    for row in raw.relations {
        let Some(kind) = kind(row.kind) else { continue };
        // Itself first: a tag of its own wins over one that it inherits.
        let own = std::iter::once(row.oid).chain(ancestors.get(&row.oid).into_iter().flatten().copied());
        let own: Vec<&(String, String)> = own.filter_map(|oid| names.get(&oid)).collect();
        let tags: Vec<&Tag> = own.iter().filter_map(|name| catalog.tags.get(*name)).flatten().collect();
        let key_tag = own.iter().find_map(|name| catalog.key_tags.get(*name)).cloned();
        let columns = columns.remove(&row.oid).unwrap_or_default();
        let definition = definitions.remove(&row.oid);
        let mut relation = relation(row, kind, columns, &tags, definition, catalog);
        catalog.clear.look_at(&mut relation, &tags, &catalog.tags);
        if catalog.relations.contains_key(&relation.oid) {
            catalog.names.values_mut().for_each(|names| names.retain(|_, oid| *oid != relation.oid));
        }
        catalog.names.entry(relation.schema.clone()).or_default().insert(relation.name.clone(), relation.oid);
        match key_tag.map(|tag| record_key(&tag, &relation, &catalog.database)) {
            Some(key) => catalog.record_keys.insert(relation.oid, Arc::new(key)),
            None => catalog.record_keys.remove(&relation.oid),
        };
        catalog.relations.insert(relation.oid, Arc::new(relation));
    }
    // The same child is named whenever the same rows are read.
    let mut children: Vec<_> = ancestors.iter().collect();
    children.sort();
    for (child, ancestors) in children {
        ancestors.iter().for_each(|ancestor| close_ancestor(catalog, *child, *ancestor));
    }
}

/// Whoever reads a table reads its children: one without the tag of a child's clear column is closed.
fn close_ancestor(catalog: &mut Catalog, child: u32, ancestor: u32) {
    let (Some(child), Some(parent)) = (catalog.relations.get(&child), catalog.relations.get(&ancestor))
    else {
        return;
    };
    let clear = child
        .columns
        .iter()
        .filter(|column| column.tag.as_ref().is_some_and(|tag| !matches!(tag.state, State::Sealed { .. })));
    let bare = |name: &str| parent.column(name).is_some_and(|column| column.tag.is_none());
    let Some(column) = clear.map(|column| &column.name).find(|name| bare(name)) else { return };
    let why = format!(
        "column \"{column}\" of its child {}.{} is tagged and stored in clear, and its own is not tagged",
        child.schema, child.name
    );
    let mut parent = Relation::clone(parent);
    parent.unreadable.get_or_insert(why);
    catalog.relations.insert(ancestor, Arc::new(parent));
}

fn kind(relkind: char) -> Option<RelationKind> {
    Some(match relkind {
        'r' => RelationKind::Table,
        'p' => RelationKind::Partitioned,
        'v' => RelationKind::View,
        'm' => RelationKind::MaterializedView,
        'f' => RelationKind::Foreign,
        'S' => RelationKind::Sequence,
        'c' => RelationKind::Composite,
        _ => return None,
    })
}

/// Tags of this database by (schema, table); one for this database alone wins over one for every database.
fn tags_of(tags: &Tags, database: &str) -> HashMap<(String, String), Vec<Tag>> {
    let mut found: HashMap<(String, String), Vec<Tag>> = HashMap::new();
    let here = tags.tags.iter().filter(|tag| tag.database.as_deref().is_none_or(|name| name == database));
    for tag in here {
        let columns = found.entry((tag.schema.clone(), tag.table.clone())).or_default();
        match columns.iter_mut().find(|other| other.column == tag.column) {
            Some(other) if tag.database.is_some() => *other = tag.clone(),
            Some(_) => {}
            None => columns.push(tag.clone()),
        }
    }
    found
}

/// Record keys of this database by (schema, table); one for this database alone wins over one for every database.
fn key_tags_of(tags: &Tags, database: &str) -> HashMap<(String, String), KeyTag> {
    let mut here: Vec<&KeyTag> = tags
        .record_keys
        .iter()
        .filter(|tag| tag.database.as_deref().is_none_or(|name| name == database))
        .collect();
    here.sort_by_key(|tag| tag.database.is_some());
    here.into_iter().map(|tag| ((tag.schema.clone(), tag.table.clone()), tag.clone())).collect()
}

fn record_key(tag: &KeyTag, relation: &Relation, database: &str) -> RecordKey {
    let column = relation.column(&tag.column).and_then(|column| key_column(column).ok());
    RecordKey { table: [database, &tag.schema, &tag.table].map(str::to_owned), column }
}

/// What is read of a column that persons are known by.
///
/// # Errors
/// Why nobody can be known by it.
pub fn key_column(column: &Column) -> Result<KeyColumn, String> {
    let (data_type, domain) = match &column.tag {
        None => {
            let data_type = DataType::parse(&column.type_name);
            (data_type.ok_or_else(|| format!("values of type {} cannot be read", column.type_name))?, None)
        }
        Some(ColumnTag { domain, data_type, state, by_type: _ }) => match (state, domain.seal) {
            (State::Sealed { .. }, Seal::Deterministic) => (*data_type, Some(domain.name.clone())),
            (State::Sealed { .. }, _) => return Err("it is sealed, and not deterministically".to_owned()),
            (State::Clear, _) => {
                return Err("it is tagged and stored in clear, so that a mask may stand for it".to_owned());
            }
            (State::Broken(why), _) => return Err(why.clone()),
        },
    };
    data_type.deterministic().map_err(str::to_owned)?;
    Ok(KeyColumn { number: column.number, data_type, domain })
}

fn sealed_types(raw: &RawCatalog, tags: &Tags) -> HashMap<u32, SealedType> {
    let mut found = HashMap::new();
    for row in &raw.sealed_types {
        let owner = tags.domains.iter().find_map(|domain| match domain.seal {
            Seal::Randomized => (domain.name == row.name).then_some((domain, None)),
            Seal::Deterministic => {
                let version = row.name.strip_prefix(&domain.name)?.strip_prefix('_')?.parse::<u16>().ok()?;
                (sealed_type_name(domain, version)? == row.name).then_some((domain, Some(version)))
            }
            Seal::None => None,
        });
        if let Some((domain, version)) = owner {
            let (name, domain) = (row.name.clone(), domain.name.clone());
            found.insert(
                row.oid,
                SealedType { oid: row.oid, array_oid: row.array_oid, name, domain, version },
            );
        }
    }
    found
}

/// Every parent, grandparent … of each child, nearest first.
fn ancestors(raw: &RawCatalog) -> HashMap<u32, Vec<u32>> {
    let mut parents: HashMap<u32, Vec<u32>> = HashMap::new();
    for (child, parent) in &raw.parents {
        parents.entry(*child).or_default().push(*parent);
    }
    let mut found = HashMap::new();
    for child in parents.keys() {
        let mut seen = BTreeSet::new();
        let mut order: Vec<u32> = Vec::new();
        let mut waiting = vec![*child];
        while let Some(oid) = waiting.pop() {
            for parent in parents.get(&oid).into_iter().flatten() {
                // PostgreSQL keeps inheritance free of cycles; rows read one after the other may not be.
                if seen.insert(*parent) {
                    order.push(*parent);
                    waiting.push(*parent);
                }
            }
        }
        found.insert(*child, order);
    }
    found
}

fn relation(
    row: RawRelation,
    kind: RelationKind,
    raw_columns: Vec<RawColumn>,
    tags: &[&Tag],
    definition: Option<Option<String>>,
    catalog: &Catalog,
) -> Relation {
    let mut unreadable = missing_column(&raw_columns, tags, &catalog.sealed_types);
    if kind == RelationKind::View && !tags.is_empty() {
        unreadable.get_or_insert_with(|| {
            "a tag names a column of a view, which holds no values of its own".to_owned()
        });
    }
    if row.schema == SCHEMA && is_shadow(&row.name) {
        unreadable.get_or_insert_with(|| "a conversion keeps cells in it (pgveil reseal)".to_owned());
    }
    if matches!(definition, Some(None)) {
        unreadable.get_or_insert_with(|| {
            "its definition could not be read while its tables were locked".to_owned()
        });
    }
    let columns = raw_columns
        .into_iter()
        .map(|column| Column {
            tag: match tag_of(tags, &column.name) {
                Some(tag) => Some(column_tag(tag, &column, catalog)),
                None => tagged_by_type(kind, &column, catalog),
            },
            number: column.number,
            name: column.name,
            type_oid: column.type_oid,
            type_name: column.type_name,
            not_null: column.not_null,
            generated: column.generated,
        })
        .collect();
    Relation {
        oid: row.oid,
        schema: row.schema,
        name: row.name,
        kind,
        columns,
        definition: definition.flatten(),
        unreadable,
    }
}

/// Cells and keys of a table that is being converted, in whatever form: nobody reads them through the proxy.
fn is_shadow(name: &str) -> bool {
    ["shadow_", "written_", "redo_", "pgveil_copy_"].iter().any(|kind| name.starts_with(kind))
}

/// The tag of a relation's column: the first, which is the nearest.
pub(super) fn tag_of<'t>(tags: &[&'t Tag], column: &str) -> Option<&'t Tag> {
    tags.iter().find(|tag| tag.column == column).copied()
}

/// A tag without its column is normal (not added yet, dropped, another database) unless a column stands there that may
/// be it under a new name: untagged, in clear, of the tagged type, and altered since the table was created.
fn missing_column(
    columns: &[RawColumn],
    tags: &[&Tag],
    sealed_types: &HashMap<u32, SealedType>,
) -> Option<String> {
    let suspects: Vec<&RawColumn> = columns
        .iter()
        .filter(|column| column.altered && !sealed_types.contains_key(&column.type_oid))
        .filter(|column| tags.iter().all(|tag| tag.column != column.name))
        .collect();
    let missing = tags.iter().filter(|tag| columns.iter().all(|column| column.name != tag.column));
    missing.into_iter().find_map(|tag| {
        let suspect = suspects.iter().find(|column| could_hold(&column.type_name, &tag.data_type))?;
        Some(format!(
            "its tagged column \"{}\" is gone and column \"{}\" may be it, renamed",
            tag.column, suspect.name
        ))
    })
}

/// Whether a clear column of this type may hold what was tagged as `tagged`.
fn could_hold(type_name: &str, tagged: &DataType) -> bool {
    match DataType::parse(type_name) {
        Some(found) => found.narrows(tagged) || tagged.narrows(&found),
        // Types that a tag cannot have (`character(n)`, a domain of the user's): text may hide in any of them.
        None => matches!(tagged, DataType::Text | DataType::Varchar(_)),
    }
}

/// A column without a tag, of a sealed type: a copy that a query made (`CREATE TABLE AS`, a temporary table), a child
/// without its parent, a sealed column that was renamed. Its cells are its domain's, and so are the rules for them.
fn tagged_by_type(kind: RelationKind, column: &RawColumn, catalog: &Catalog) -> Option<ColumnTag> {
    // A view's columns are what its definition says.
    if !matches!(kind, RelationKind::Table | RelationKind::Partitioned | RelationKind::Foreign) {
        return None;
    }
    let sealed = catalog.sealed_types.get(&column.type_oid)?;
    let domain = catalog.domains.iter().find(|domain| domain.name == sealed.domain)?;
    let state = State::Sealed { version: sealed.version };
    Some(ColumnTag { domain: domain.clone(), data_type: domain.data_type, by_type: true, state })
}

fn column_tag(tag: &Tag, column: &RawColumn, catalog: &Catalog) -> ColumnTag {
    let with = |data_type, state| ColumnTag { domain: tag.domain.clone(), data_type, by_type: false, state };
    match catalog.sealed_types.get(&column.type_oid) {
        Some(sealed) if sealed.domain == tag.domain.name => {
            with(tag.data_type, State::Sealed { version: sealed.version })
        }
        Some(sealed) => {
            let why =
                format!("its type is {SCHEMA}.{}, which is not of domain {}", sealed.name, tag.domain.name);
            with(tag.data_type, State::Broken(why))
        }
        None => match DataType::parse(&column.type_name) {
            // Whoever may alter the table would be written plaintext to.
            Some(_) if catalog.refuse_unsealed && tag.domain.seal != Seal::None => {
                let why = "it is stored in clear, which the policy refuses (unsealed)".to_owned();
                with(tag.data_type, State::Broken(why))
            }
            // Stored in clear, the column's own type is the truth about its values.
            Some(own) if own.narrows(&tag.data_type) => with(own, State::Clear),
            Some(_) | None => {
                let why = format!(
                    "its type is {}, neither {} nor the sealed type of domain {}",
                    column.type_name,
                    tag.data_type.sql(),
                    tag.domain.name
                );
                with(tag.data_type, State::Broken(why))
            }
        },
    }
}

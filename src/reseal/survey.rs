//! Names of columns → what is converted into what: tags, the database's catalog and the keyring say it together.
//!
//! Guarantees: columns that must change together do (both ends of a foreign key; all columns of a sealed type that goes);
//! what they are now is read from the database's types alone. Deliberately absent: doing it, and what depends on them.

use super::Failure;
use super::fill::Raw;
use super::spec::{Column, Form, KeyColumn, Spec, Table};
use crate::catalog::build::{SCHEMA, build, sealed_type_name};
use crate::catalog::{self, Catalog, ColumnId, ColumnTag, Domain, Relation, RelationKind, Seal, State};
use crate::config::{self, Config, TAGS};
use crate::crypto::keyring::{DEFAULT_KEY, Keyring};
use crate::crypto::{Cells, KeyVersion, Mode, envelope};
use crate::server::prepare::quoted;
use crate::server::service;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use tokio_postgres::Client;

/// Which way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    Plain,
    Sealed,
}

/// A sealed type's CHECK, read.
#[derive(Clone, Debug)]
pub(super) struct Header {
    pub(super) name: String,
    mode: Mode,
    pub(super) domain: u16,
    /// Deterministic ones.
    version: Option<u16>,
}

struct ForeignKey {
    name: String,
    /// (referencing, referenced), pair by pair.
    pairs: Vec<(ColumnId, ColumnId)>,
}

struct Survey<'a> {
    config: &'a Config,
    keyring: &'a Keyring,
    catalog: Catalog,
    /// (child, parent).
    parents: Vec<(u32, u32)>,
    headers: HashMap<u32, Header>,
    foreign: Vec<ForeignKey>,
}

/// What the named columns (`schema.table.column`), and those that change with them, are converted into.
///
/// # Errors
/// A column that is not there, not tagged, or of a kind that is not converted; nothing to do.
pub(super) async fn survey(
    client: &mut Client,
    config: &Config,
    keyring: &Keyring,
    names: &[String],
    to: Option<Target>,
) -> Result<Spec, Failure> {
    let database: String =
        client.query_one("SELECT pg_catalog.current_database()::text", &[]).await?.try_get(0)?;
    let raw = service::read_catalog(client).await?;
    let parents = raw.parents.clone();
    // What is to be sealed is what the policy refuses until then.
    let tags = catalog::Tags { refuse_unsealed: false, ..config.tags.clone() };
    let catalog = build(raw, &tags, &database, 0, None);
    let (headers, foreign) = (headers(client).await?, foreign_keys(client).await?);
    let survey = Survey { config, keyring, catalog, parents, headers, foreign };
    let named = names.iter().map(|name| survey.named(name)).collect::<Result<Vec<_>, _>>()?;
    let sealed = survey.direction(&named, to)?;
    let chosen = survey.together(named, sealed)?;
    let mut tables: BTreeMap<u32, Table> = BTreeMap::new();
    for id in &chosen {
        let (relation, column, tag) = survey.tagged(*id)?;
        let from = survey.from(client, relation, column, tag, sealed).await?;
        let to = survey.to(column, tag, sealed, &chosen)?;
        let name = format!("{}.{}.{}", relation.schema, relation.name, column.name);
        if from == to && !survey.has_older_cells(client, relation, column, &to).await? {
            return Err(Failure::new(format!("column {name} is {} already", to.text()))
                .hint("There is nothing to convert."));
        }
        same_header(&name, &from, &to)?;
        if let std::collections::btree_map::Entry::Vacant(place) = tables.entry(id.relation) {
            place.insert(survey.table(client, relation).await?);
        }
        let column = Column { name: column.name.clone(), number: column.number, from, to };
        tables.entry(id.relation).and_modify(|table| table.columns.push(column));
    }
    Ok(Spec {
        tables: tables.into_values().collect(),
        restore: Vec::new(),
        made: Vec::new(),
        unpublish: false,
    })
}

/// A cell names its key's version only: of two keys' same versions one could not tell whose it is.
fn same_header(name: &str, from: &Form, to: &Form) -> Result<(), Failure> {
    let (
        Form::Sealed { type_name: old, version: before, key: old_key, .. },
        Form::Sealed { type_name: new, version: after, key, .. },
    ) = (from, to)
    else {
        return Ok(());
    };
    if old == new && before == after && old_key != key {
        return Err(Failure::new(format!(
            "column {name} is sealed under version {before} of key {old_key}, and the new key {key} is at version {after}, too: \
             its cells could not be told apart"
        ))
        .hint(format!("Run: pgveil keys rotate {key}")));
    }
    Ok(())
}

impl Survey<'_> {
    fn named(&self, name: &str) -> Result<ColumnId, Failure> {
        let parts = config::column_of(name).ok_or_else(|| {
            Failure::new(format!("\"{name}\" is not schema.table.column"))
                .hint("Write it as in tags.toml: public.customers.email.")
        })?;
        let (schema, table, column) = &parts;
        let relation = self.catalog.find_in(schema, table).ok_or_else(|| {
            Failure::new(format!("there is no table {schema}.{table} in database {}", self.catalog.database))
                .hint("Name the database by --database, and the column as in tags.toml.")
        })?;
        let found = relation
            .column(column)
            .ok_or_else(|| Failure::new(format!("table {schema}.{table} has no column {column}")))?;
        Ok(ColumnId { relation: relation.oid, number: found.number })
    }

    fn column(&self, id: ColumnId) -> Option<(&Relation, &catalog::Column)> {
        let relation = self.catalog.relation(id.relation)?;
        Some((relation, relation.columns.iter().find(|column| column.number == id.number)?))
    }

    /// A column that may be converted, and its tag.
    fn tagged(&self, id: ColumnId) -> Result<(&Relation, &catalog::Column, &ColumnTag), Failure> {
        let (relation, column) = self.column(id).ok_or_else(|| Failure::new("a column is gone"))?;
        let table = format!("{}.{}", relation.schema, relation.name);
        if !matches!(relation.kind, RelationKind::Table | RelationKind::Partitioned) {
            return Err(Failure::new(format!(
                "{table} is not a table: its columns follow those it is made of"
            )));
        }
        let parent =
            |child: u32| self.parents.iter().find(|(own, _)| *own == child).map(|(_, parent)| *parent);
        if let Some(parent) = parent(relation.oid) {
            let mut top = parent;
            while let Some(next) = self.parents.iter().find(|(own, _)| *own == top) {
                top = next.1;
            }
            let top = self
                .catalog
                .relation(top)
                .map_or_else(String::new, |top| format!("{}.{}", top.schema, top.name));
            return Err(Failure::new(format!("{table} is a part of {top}"))
                .hint(format!("Convert the whole: {top}.{}", column.name)));
        }
        let has_children = self.parents.iter().any(|(_, parent)| *parent == relation.oid);
        if has_children && relation.kind == RelationKind::Table {
            return Err(Failure::new(format!(
                "{table} has tables that inherit from it, which are not converted"
            ))
            .hint("Detach them (ALTER TABLE … NO INHERIT), or make it a partitioned table."));
        }
        let tag = column.tag.as_ref().ok_or_else(|| {
            Failure::new(format!("column {table}.{} is not tagged", column.name))
                .hint(format!("Tag it in {TAGS} first: \"{table}.{}\" = \"domain\".", column.name))
        })?;
        if column.generated {
            return Err(Failure::new(format!(
                "column {table}.{} is generated by an expression",
                column.name
            ))
            .hint("Drop the expression: ALTER TABLE … ALTER COLUMN … DROP EXPRESSION."));
        }
        Ok((relation, column, tag))
    }

    /// Whether the columns are to be sealed.
    fn direction(&self, named: &[ColumnId], to: Option<Target>) -> Result<bool, Failure> {
        let mut found = None;
        for id in named {
            let (relation, column, tag) = self.tagged(*id)?;
            let sealed = to.map_or(tag.domain.seal != Seal::None, |to| to == Target::Sealed);
            if sealed && tag.domain.seal == Seal::None {
                return Err(Failure::new(format!(
                    "domain {} of column {}.{}.{} is not sealed",
                    tag.domain.name, relation.schema, relation.name, column.name
                ))
                .hint("Give it another seal in policy.toml first: deterministic or randomized."));
            }
            if found.is_some_and(|found| found != sealed) {
                return Err(Failure::new("some of these columns are to be sealed, others not")
                    .hint("Convert them one after the other, or say --to plain or --to sealed."));
            }
            found = Some(sealed);
        }
        found.ok_or_else(|| Failure::new("no column is named"))
    }

    /// The named columns and all that must change with them.
    fn together(&self, named: Vec<ColumnId>, sealed: bool) -> Result<BTreeSet<ColumnId>, Failure> {
        let mut chosen: BTreeSet<ColumnId> = BTreeSet::new();
        let mut waiting = named;
        while let Some(id) = waiting.pop() {
            if !chosen.insert(id) {
                continue;
            }
            let (_, column, tag) = self.tagged(id)?;
            for key in &self.foreign {
                for (one, other) in &key.pairs {
                    let other = match id {
                        id if id == *one => *other,
                        id if id == *other => *one,
                        _ => continue,
                    };
                    let (relation, joined) =
                        self.column(other).ok_or_else(|| Failure::new("a column is gone"))?;
                    let domain = joined.tag.as_ref().map(|tag| &tag.domain.name);
                    if domain != Some(&tag.domain.name) {
                        let name = format!("{}.{}.{}", relation.schema, relation.name, joined.name);
                        return Err(Failure::new(format!(
                            "foreign key {} joins {} with {name}, which is not of domain {}",
                            key.name, column.name, tag.domain.name
                        ))
                        .hint(format!("Tag {name} with the same domain, or drop the foreign key.")));
                    }
                    waiting.push(other);
                }
            }
            // A sealed type that goes takes all its columns with it; one whose name stays can be left piece by piece.
            if self.headers.contains_key(&column.type_oid) && (!sealed || self.is_replaced(column, tag)) {
                waiting.extend(self.columns_of_type(column.type_oid));
            }
        }
        Ok(chosen)
    }

    fn is_replaced(&self, column: &catalog::Column, tag: &ColumnTag) -> bool {
        let name = self.headers.get(&column.type_oid).map(|header| &header.name);
        tag.domain.seal != Seal::Randomized || name != Some(&tag.domain.name)
    }

    fn columns_of_type(&self, type_oid: u32) -> Vec<ColumnId> {
        let tables = self.catalog.relations.values().filter(|relation| {
            matches!(relation.kind, RelationKind::Table | RelationKind::Partitioned)
                && relation.schema != SCHEMA
                && !self.parents.iter().any(|(child, _)| *child == relation.oid)
        });
        let columns = tables.flat_map(|relation| {
            let own = relation.columns.iter().filter(|column| column.type_oid == type_oid);
            own.map(|column| ColumnId { relation: relation.oid, number: column.number })
        });
        columns.collect()
    }

    async fn from(
        &self,
        client: &Client,
        relation: &Relation,
        column: &catalog::Column,
        tag: &ColumnTag,
        sealed: bool,
    ) -> Result<Form, Failure> {
        let Some(header) = self.headers.get(&column.type_oid) else {
            if let (State::Broken(why), true) = (&tag.state, sealed) {
                return Err(Failure::new(format!(
                    "column {}.{}.{} cannot be converted: {why}",
                    relation.schema, relation.name, column.name
                ))
                .hint(format!("Correct the tag, or make the column {} first.", tag.data_type.sql())));
            }
            let collation = collation(client, relation.oid, column.number).await?;
            return Ok(Form::Plain { type_name: column.type_name.clone(), collation });
        };
        let unknown = || {
            Failure::new(format!("type {SCHEMA}.{} was made under another keyring", header.name))
                .hint("Use the keyring under which the column was sealed.")
        };
        let domain = self.keyring.domains().find(|(_, id)| id.0 == header.domain).ok_or_else(unknown)?.0;
        let policy = self.config.policy.domains.iter().find(|known| known.name == domain);
        let key = self
            .key_of(client, relation, column, header, domain, policy.map(|known| known.key.as_str()))
            .await?;
        let version = header.version.or(self.keyring.current_version(&key).map(|version| version.0));
        let data_type = policy.map_or(tag.data_type, |known| known.data_type);
        Ok(Form::Sealed {
            type_name: header.name.clone(),
            domain: domain.to_owned(),
            deterministic: header.mode == Mode::Deterministic,
            version: version.ok_or_else(unknown)?,
            key,
            data_type: data_type.sql(),
        })
    }

    /// The data key under which a column's cells are sealed: the policy's, unless it names another by now.
    async fn key_of(
        &self,
        client: &Client,
        relation: &Relation,
        column: &catalog::Column,
        header: &Header,
        domain: &str,
        first: Option<&str>,
    ) -> Result<String, Failure> {
        let sample = format!(
            "SELECT {column}::pg_catalog.bytea FROM {}.{} WHERE {column} IS NOT NULL LIMIT 1",
            quoted(&relation.schema),
            quoted(&relation.name),
            column = quoted(&column.name)
        );
        let Some(row) = client.query_opt(&sample, &[]).await? else {
            return Ok(first.unwrap_or(DEFAULT_KEY).to_owned());
        };
        let mut cell = Cells::new();
        cell.push(row.try_get::<_, Raw<'_>>(0)?.0);
        if let Some(name) = opening_key(self.keyring, domain, header, first, &cell) {
            return Ok(name);
        }
        Err(Failure::new(format!(
            "a cell of column {}.{}.{} opens under no key of the keyring",
            relation.schema, relation.name, column.name
        ))
        .hint("Use the keyring under which it was sealed."))
    }

    /// Whether cells of a randomized column name another version than new ones would.
    async fn has_older_cells(
        &self,
        client: &Client,
        relation: &Relation,
        column: &catalog::Column,
        form: &Form,
    ) -> Result<bool, Failure> {
        let Form::Sealed { version, deterministic: false, .. } = form else { return Ok(false) };
        // The version is the envelope's fourth and fifth byte (FORMAT.md).
        let query = format!(
            "SELECT EXISTS (SELECT FROM {}.{} \
             WHERE pg_catalog.get_byte({column}, 3) * 256 + pg_catalog.get_byte({column}, 4) <> $1::int4)",
            quoted(&relation.schema),
            quoted(&relation.name),
            column = quoted(&column.name)
        );
        Ok(client.query_one(&query, &[&i32::from(*version)]).await?.try_get(0)?)
    }

    fn to(
        &self,
        column: &catalog::Column,
        tag: &ColumnTag,
        sealed: bool,
        chosen: &BTreeSet<ColumnId>,
    ) -> Result<Form, Failure> {
        if !sealed {
            return Ok(Form::Plain { type_name: tag.data_type.sql(), collation: None });
        }
        let domain = &tag.domain;
        let version = self.version(column, domain, chosen).ok_or_else(|| {
            Failure::new(format!("the keyring has no key {} for domain {}", domain.key, domain.name))
                .hint("Run: pgveil init")
        })?;
        if self.keyring.domain_id(&domain.name).is_none() {
            return Err(Failure::new(format!("the keyring has given no id to domain {}", domain.name))
                .hint("Run: pgveil init"));
        }
        let type_name = sealed_type_name(domain, version.0)
            .ok_or_else(|| Failure::new(format!("domain {} is not sealed", domain.name)))?;
        Ok(Form::Sealed {
            type_name,
            domain: domain.name.clone(),
            deterministic: domain.seal == Seal::Deterministic,
            version: version.0,
            key: domain.key.clone(),
            data_type: domain.data_type.sql(),
        })
    }

    /// A deterministic domain has one version at a time: a column that joins others takes theirs.
    fn version(
        &self,
        column: &catalog::Column,
        domain: &Domain,
        chosen: &BTreeSet<ColumnId>,
    ) -> Option<KeyVersion> {
        let current = self.keyring.current_version(&domain.key)?;
        if domain.seal != Seal::Deterministic || self.headers.contains_key(&column.type_oid) {
            return Some(current);
        }
        let staying = self.headers.iter().filter(|(oid, header)| {
            let own = sealed_type_name(domain, header.version.unwrap_or(0)).as_ref() == Some(&header.name);
            own && self.columns_of_type(**oid).iter().any(|id| !chosen.contains(id))
        });
        staying
            .filter_map(|(_, header)| header.version)
            .max()
            .map_or(Some(current), |own| Some(KeyVersion(own)))
    }

    async fn table(&self, client: &Client, relation: &Relation) -> Result<Table, Failure> {
        let table = format!("{}.{}", relation.schema, relation.name);
        let row = client.query_opt(KEY, &[&relation.oid]).await?.ok_or_else(|| {
            Failure::new(format!("table {table} has no key: its rows cannot be told apart"))
                .hint("Give it a primary key, or a unique index over columns that are NOT NULL.")
        })?;
        let (names, types, known): (Vec<String>, Vec<String>, bool) =
            (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        if !known {
            return Err(Failure::new(format!(
                "the key of table {table} has a type that is not PostgreSQL's own: {}",
                types.join(", ")
            ))
            .hint("Give it a unique index over columns of built-in types that are NOT NULL."));
        }
        let key = names.into_iter().zip(types).map(|(name, type_name)| {
            let tagged = relation.column(&name).is_some_and(|column| column.tag.is_some());
            KeyColumn { name, type_name, tagged }
        });
        Ok(Table {
            oid: relation.oid,
            schema: relation.schema.clone(),
            name: relation.name.clone(),
            partitioned: relation.kind == RelationKind::Partitioned,
            key: key.collect(),
            columns: Vec::new(),
            copy: None,
        })
    }
}

/// The columns of the best key: the primary key, else the shortest unique index.
const KEY: &str = "\
    SELECT pg_catalog.array_agg(a.attname::text ORDER BY k.place), \
           pg_catalog.array_agg(CASE WHEN t.typtype = 'd' THEN pg_catalog.format_type(t.typbasetype, t.typtypmod) \
                                     ELSE pg_catalog.format_type(a.atttypid, a.atttypmod) END ORDER BY k.place), \
           pg_catalog.bool_and(t.typtype = 'e' OR b.typnamespace = 'pg_catalog'::regnamespace) \
    FROM pg_catalog.pg_index i \
    CROSS JOIN LATERAL pg_catalog.unnest(i.indkey::int2[]) WITH ORDINALITY AS k(number, place) \
    JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number \
    JOIN pg_catalog.pg_type t ON t.oid = a.atttypid \
    JOIN pg_catalog.pg_type b ON b.oid = CASE WHEN t.typtype = 'd' THEN t.typbasetype ELSE t.oid END \
    WHERE i.indrelid = $1 AND i.indisunique AND i.indimmediate AND i.indisvalid AND i.indpred IS NULL \
      AND i.indexprs IS NULL AND k.place <= i.indnkeyatts \
    GROUP BY i.indexrelid, i.indisprimary HAVING pg_catalog.bool_and(a.attnotnull) \
    ORDER BY i.indisprimary DESC, pg_catalog.count(*), i.indexrelid LIMIT 1";

/// The name of the data key under which a cell opens, `first` before the others.
pub(super) fn opening_key(
    keyring: &Keyring,
    domain: &str,
    header: &Header,
    first: Option<&str>,
    cell: &Cells,
) -> Option<String> {
    let names = keyring.key_versions().into_iter().map(|key| key.name);
    first.map(str::to_owned).into_iter().chain(names).find(|name| {
        let ciphers = keyring.ciphers([(domain, header.mode, name.as_str())]);
        let cipher = ciphers.ok().and_then(|ciphers| ciphers.by_domain.get(domain).cloned());
        cipher.is_some_and(|cipher| cipher.open(cell, &mut Cells::new()).is_ok())
    })
}

async fn collation(client: &Client, relation: u32, number: i16) -> Result<Option<String>, Failure> {
    let query = "\
        SELECT pg_catalog.format('%I.%I', n.nspname, c.collname), c.collisdeterministic \
        FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid \
        JOIN pg_catalog.pg_collation c ON c.oid = a.attcollation \
        JOIN pg_catalog.pg_namespace n ON n.oid = c.collnamespace \
        WHERE a.attrelid = $1 AND a.attnum = $2 AND a.attcollation <> t.typcollation";
    let Some(row) = client.query_opt(query, &[&relation, &number]).await? else { return Ok(None) };
    let (name, deterministic): (String, bool) = (row.try_get(0)?, row.try_get(1)?);
    if !deterministic {
        return Err(Failure::new(format!(
            "a column has the collation {name}, under which unequal texts are equal"
        ))
        .hint("Give it a deterministic collation first: sealed cells are equal when their bytes are."));
    }
    Ok(Some(name))
}

pub(super) async fn headers(client: &Client) -> Result<HashMap<u32, Header>, Failure> {
    let query = "\
        SELECT t.oid, t.typname::text, pg_catalog.pg_get_constraintdef(c.oid) \
        FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace \
        JOIN pg_catalog.pg_constraint c ON c.contypid = t.oid WHERE n.nspname::text = $1 AND t.typtype = 'd'";
    let mut found = HashMap::new();
    for row in client.query(query, &[&SCHEMA]).await? {
        let (oid, name, check): (u32, String, String) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        found.extend(header(name, &check).map(|header| (oid, header)));
    }
    Ok(found)
}

/// `CHECK (… = '\x11000a0001'::bytea)`: three bytes for a randomized domain, five for a deterministic one.
fn header(name: String, check: &str) -> Option<Header> {
    let digits = check.split_once("'\\x")?.1.split_once('\'')?.0;
    let mut bytes = vec![0; digits.len() / 2];
    faster_hex::hex_decode(digits.as_bytes(), &mut bytes).ok()?;
    let (mode, domain, version) = match *bytes.as_slice() {
        [first, d0, d1] => (first, [d0, d1], None),
        [first, d0, d1, v0, v1] => (first, [d0, d1], Some(u16::from_be_bytes([v0, v1]))),
        _ => return None,
    };
    let mode = [Mode::Deterministic, Mode::Randomized]
        .into_iter()
        .find(|known| envelope::mode_byte(*known) == mode)?;
    Some(Header { name, mode, domain: u16::from_be_bytes(domain), version })
}

async fn foreign_keys(client: &Client) -> Result<Vec<ForeignKey>, Failure> {
    let query = "SELECT c.conname::text, c.conrelid, c.conkey, c.confrelid, c.confkey \
                 FROM pg_catalog.pg_constraint c WHERE c.contype = 'f' AND c.conparentid = 0";
    let mut found = Vec::new();
    for row in client.query(query, &[]).await? {
        let (relation, numbers): (u32, Vec<i16>) = (row.try_get(1)?, row.try_get(2)?);
        let (other, others): (u32, Vec<i16>) = (row.try_get(3)?, row.try_get(4)?);
        let pairs = numbers.into_iter().zip(others).map(|(one, two)| {
            (ColumnId { relation, number: one }, ColumnId { relation: other, number: two })
        });
        found.push(ForeignKey { name: row.try_get(0)?, pairs: pairs.collect() });
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_names_the_recipe_of_its_cells() {
        let check =
            "CHECK (((octet_length(VALUE) >= 21) AND (\"substring\"(VALUE, 1, 5) = '\\x11000a0002'::bytea)))";
        let read = header("email_2".into(), check).unwrap();
        assert_eq!((read.mode, read.domain, read.version), (Mode::Deterministic, 10, Some(2)));
        let read = header("card".into(), "CHECK (… = '\\x120001'::bytea)").unwrap();
        assert_eq!((read.mode, read.domain, read.version), (Mode::Randomized, 1, None));
        assert!(header("other".into(), "CHECK (VALUE <> '')").is_none());
    }
}

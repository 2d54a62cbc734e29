//! `tags.toml`, the DBA's file: which column is in which domain → [`Tag`]s; and by which column a table's rows are known as
//! persons → [`KeyTag`]s.

use super::document::{At, Document, Named, Section};
use super::policy::data_type;
use crate::catalog::{Domain, KeyTag, Seal, Tag};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

/// What the file says, and where.
#[derive(Default)]
pub(super) struct Columns {
    pub(super) tags: Vec<Tag>,
    /// Of each tag.
    pub(super) places: Vec<Range<usize>>,
    pub(super) record_keys: Vec<KeyTag>,
    /// Of each record key.
    pub(super) key_places: Vec<Range<usize>>,
}

type Domains = BTreeMap<String, (Arc<Domain>, Range<usize>)>;

pub(super) fn read(document: &Document, domains: &Domains) -> Columns {
    let table = document.parse();
    let mut top = document.top(&table);
    let mut columns = Columns::default();
    let everywhere = top.section("columns");
    read_columns(document, everywhere, None, domains, &mut columns);
    read_tables(document, top.section("table"), None, &mut columns);
    for (database, named) in top.section("database").named() {
        let Some(mut section) = named.section() else {
            named.wrong("a table", "Write: [database.NAME.columns].");
            continue;
        };
        let here = section.section("columns");
        read_columns(document, here, Some(database.value.clone()), domains, &mut columns);
        read_tables(document, section.section("table"), Some(database.value), &mut columns);
        section.finish();
    }
    top.finish();
    check_keys(document, &columns);
    columns
}

fn read_columns(
    document: &Document,
    mut section: Section<'_>,
    database: Option<String>,
    domains: &Domains,
    columns: &mut Columns,
) {
    for (key, named) in section.named() {
        let Some(names) = column_name(document, &key) else { continue };
        let Some(tag) = tag(document, names, database.clone(), &named, domains) else { continue };
        check_twice(document, &key, &tag, columns);
        columns.tags.push(tag);
        columns.places.push(key.span);
    }
}

/// `[table."schema.table"]`: what is said of a table as a whole.
fn read_tables(
    document: &Document,
    mut section: Section<'_>,
    database: Option<String>,
    columns: &mut Columns,
) {
    for (key, named) in section.named() {
        let Some(mut own) = named.section() else {
            named.wrong("a table", "Write: [table.\"schema.table\"].");
            continue;
        };
        let column = own.required("record_key", "Write: record_key = \"id\".");
        own.finish();
        let parts = names(&key.value);
        let Some([schema, table]) = parts.as_deref() else {
            let message = format!("\"{}\" is not schema.table", key.value);
            document.mistake(
                &key.span,
                message,
                "Write both names in one pair of quotes: [table.\"public.customers\"].",
            );
            continue;
        };
        let Some(column) = column else { continue };
        let Some([name]) = names(&column.value).and_then(|parts| <[String; 1]>::try_from(parts).ok()) else {
            let message = format!("\"{}\" is not a column's name", column.spelling);
            document.mistake(&column.span, message, "Write its bare name: record_key = \"id\".");
            continue;
        };
        let same = |(own, _): &(&KeyTag, &Range<usize>)| {
            (&own.schema, &own.table, &own.database) == (schema, table, &database)
        };
        if let Some((_, place)) = columns.record_keys.iter().zip(&columns.key_places).find(same) {
            let message = format!(
                "table \"{}\" has a record_key already (line {})",
                key.value,
                document.line(place.start)
            );
            document.mistake(&column.span, message, "Keep one of the two.");
        }
        columns.record_keys.push(KeyTag {
            schema: schema.clone(),
            table: table.clone(),
            column: name,
            database: database.clone(),
        });
        columns.key_places.push(column.span);
    }
}

/// A record key of a table without tagged columns says who is seen where nothing is shown.
fn check_keys(document: &Document, columns: &Columns) {
    for (key, place) in columns.record_keys.iter().zip(&columns.key_places) {
        let tagged = columns.tags.iter().any(|tag| {
            (&tag.schema, &tag.table) == (&key.schema, &key.table)
                && (tag.database.is_none() || key.database.is_none() || tag.database == key.database)
        });
        if !tagged {
            let message = format!(
                "table {}.{} has no tagged column: its record_key can never take effect",
                key.schema, key.table
            );
            document.mistake(place, message, "Tag a column of it, or leave its record_key out.");
        }
    }
}

/// Two tags of one column must agree, wherever both hold.
fn check_twice(document: &Document, key: &At<String>, tag: &Tag, columns: &Columns) {
    let same = |(other, _): &(&Tag, &Range<usize>)| {
        (&other.schema, &other.table, &other.column) == (&tag.schema, &tag.table, &tag.column)
            && (other.database == tag.database || other.database.is_none() || tag.database.is_none())
    };
    if let Some((other, place)) = columns.tags.iter().zip(&columns.places).find(same) {
        document.mistake(
            &key.span,
            format!("column \"{}\" is tagged twice (line {})", key.value, document.line(place.start)),
            if other.database == tag.database {
                "Keep one of the two tags."
            } else {
                "[columns] holds in every database: keep that tag, or one for each [database.NAME.columns]."
            },
        );
    }
}

fn tag(
    document: &Document,
    (schema, table, column): (String, String, String),
    database: Option<String>,
    named: &Named<'_>,
    domains: &Domains,
) -> Option<Tag> {
    let (domain, narrower) = match (named.text(), named.section()) {
        (Some(domain), _) => (domain, None),
        (None, Some(mut section)) => {
            let domain =
                section.required("domain", "Write: { domain = \"email\", type = \"varchar(320)\" }.");
            let narrower = section.text("type");
            section.finish();
            (domain?, narrower)
        }
        (None, None) => {
            named.wrong("a domain's name", "Write: \"schema.table.column\" = \"email\".");
            return None;
        }
    };
    let Some((found, _)) = domains.get(&domain.value) else {
        let known: Vec<&str> = domains.keys().map(String::as_str).collect();
        document.mistake(
            &domain.span,
            format!("there is no domain \"{}\"", domain.spelling),
            format!("Domains of policy.toml: {}.", known.join(", ")),
        );
        return None;
    };
    let data_type = match &narrower {
        None => found.data_type,
        Some(text) => {
            let narrow = data_type(document, text)?;
            if !narrow.narrows(&found.data_type) {
                document.mistake(
                    &text.span,
                    format!(
                        "{} is not a narrower type of domain {}'s {}",
                        narrow.sql(),
                        found.name,
                        found.data_type.sql()
                    ),
                    "A column's type is its domain's, or one of the same family that holds less.",
                );
            } else if let (Seal::Deterministic, Err(why)) = (found.seal, narrow.deterministic()) {
                let message = format!("{} cannot be sealed deterministically: {why}", narrow.sql());
                document.mistake(&text.span, message, "Leave the type out, or use a randomized domain.");
            }
            narrow
        }
    };
    Some(Tag { schema, table, column, domain: found.clone(), data_type, database })
}

/// `schema.table.column` as PostgreSQL reads names: folded to lower case, unless in double quotes.
fn column_name(document: &Document, key: &At<String>) -> Option<(String, String, String)> {
    let parts = names(&key.value);
    match parts.as_deref() {
        Some([schema, table, column]) => Some((schema.clone(), table.clone(), column.clone())),
        _ => {
            document.mistake(
                &key.span,
                format!("\"{}\" is not schema.table.column", key.value),
                "Write all three names in one pair of quotes: \"public.customers.email\" (\"public.\\\"User\\\".email\" for \
                 names that need quotes in SQL).",
            );
            None
        }
    }
}

/// A column's name as the file spells it: (schema, table, column).
pub fn column_of(text: &str) -> Option<(String, String, String)> {
    let parts: [String; 3] = names(text)?.try_into().ok()?;
    let [schema, table, column] = parts;
    Some((schema, table, column))
}

/// A table's name as the file spells it: (schema, table).
pub fn table_of(text: &str) -> Option<(String, String)> {
    let parts: [String; 2] = names(text)?.try_into().ok()?;
    let [schema, table] = parts;
    Some((schema, table))
}

/// The parts of a dotted name; `None` when a part is empty or a quote stays open.
fn names(text: &str) -> Option<Vec<String>> {
    let mut parts = vec![String::new()];
    let mut characters = text.chars().peekable();
    let mut quoted = false;
    while let Some(character) = characters.next() {
        let part = parts.last_mut()?;
        match character {
            '"' if quoted && characters.peek() == Some(&'"') => {
                characters.next();
                part.push('"');
            }
            '"' => quoted = !quoted,
            '.' if !quoted => parts.push(String::new()),
            // PostgreSQL folds ASCII only in a UTF-8 database (downcase_identifier in scansup.c).
            plain if !quoted => part.push(plain.to_ascii_lowercase()),
            inside => part.push(inside),
        }
    }
    (!quoted && parts.iter().all(|part| !part.is_empty())).then_some(parts)
}

#[cfg(test)]
mod tests {
    use super::names;

    #[test]
    fn names_read_as_postgresql_reads_them() {
        let read = |text| names(text).map(|parts| parts.join("|"));
        assert_eq!(read("public.customers.email").as_deref(), Some("public|customers|email"));
        assert_eq!(read("Public.\"User\".eMail").as_deref(), Some("public|User|email"));
        assert_eq!(read("a.\"b.\"\"c\".d").as_deref(), Some("a|b.\"c|d"));
        assert_eq!(read("a..b"), None);
        assert_eq!(read("a.\"b"), None);
    }
}

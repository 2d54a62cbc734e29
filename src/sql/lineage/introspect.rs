//! Introspection: `pg_attribute` and `information_schema.columns` show the logical types of sealed columns.
//!
//! Tools ask the system catalogs what a column is; what they are told decides how they speak of it. Both relations are
//! replaced by a subquery of the same columns in the same order, in which a sealed type is what its values are. This is
//! honesty, not protection: a statement that reads them and that we cannot read otherwise goes as it is.
//! A default of a sealed column keeps its place in the statement, and is opened where it is a result as PostgreSQL prints it
//! (`pg_get_expr`, `column_default`), for who reads the column in clear without limits.
//! Deliberately absent: the sealed types themselves (`pg_type`, `\dD pgveil.*`), and defaults within other texts.

use super::relation::quoted_ident;
use super::scope::{Entry, Out, fold};
use super::{Analyst, OpenedDefault, Output, Shape};
use crate::catalog::build::SCHEMA;
use crate::catalog::{Catalog, Column, ColumnId, Relation};
use crate::sql::parse;
use crate::value::DataType;
use sqlparser::ast::{Statement, TableAlias, TableFactor};
use std::fmt::Write;
use std::sync::Arc;

/// The unqualified names of the replaced relations.
pub(in crate::sql) const NAMES: [&str; 3] = ["pg_attribute", "columns", "pg_attrdef"];

impl Analyst<'_> {
    /// The entry and the FROM item that stand for `relation`, when it is one of ours and something here is sealed.
    pub(super) fn introspected(
        &mut self,
        relation: &Arc<Relation>,
        alias: Option<&TableAlias>,
    ) -> Option<(Entry, TableFactor)> {
        if self.in_view > 0 {
            return None;
        }
        let catalog = self.context.catalog;
        let text = match (relation.schema.as_str(), relation.name.as_str()) {
            ("pg_catalog", "pg_attribute") => attributes(relation, catalog, &self.narrower())?,
            ("information_schema", "columns") => columns(relation, catalog, &self.narrower())?,
            _ => return None,
        };
        let Statement::Query(subquery) = parse::one(&text, false).ok()?.statement else { return None };
        let schema = alias.is_none().then(|| relation.schema.clone());
        let alias = alias.cloned().unwrap_or_else(|| TableAlias {
            explicit: true,
            name: quoted_ident(&relation.name),
            columns: vec![],
            at: None,
        });
        let shape = |name: &str| if name == "column_default" { self.default_shape() } else { Shape::Plain };
        let mut outs: Vec<Out> =
            relation.columns.iter().map(|column| Out::named(&column.name, shape(&column.name))).collect();
        for (out, renamed) in outs.iter_mut().zip(&alias.columns) {
            out.name = Some(fold(&renamed.name));
        }
        self.touched = true;
        let entry = Entry {
            alias: fold(&alias.name),
            schema,
            columns: outs,
            complete: true,
            row: None,
            table: false,
        };
        Some((entry, TableFactor::Derived { lateral: false, subquery, alias: Some(alias), sample: None }))
    }
}

impl Analyst<'_> {
    /// The columns of `pg_attrdef`: what `pg_get_expr` prints of its node trees are defaults.
    pub(super) fn mark_defaults(&self, relation: &Relation, columns: &mut [Out]) {
        let own = (relation.schema.as_str(), relation.name.as_str());
        if own != ("pg_catalog", "pg_attrdef") || self.in_view > 0 {
            return;
        }
        for (column, out) in relation.columns.iter().zip(columns) {
            if column.name == "adbin" {
                out.shape = self.default_shape();
            }
        }
    }

    fn default_shape(&self) -> Shape {
        if self.context.defaults.is_empty() { Shape::Plain } else { Shape::Default }
    }

    /// What of the defaults is shown in a result that may be one.
    pub(super) fn defaults(&mut self) -> Output {
        let catalog = self.context.catalog;
        let mut found = vec![];
        for default in self.context.defaults {
            let ColumnId { relation, number } = default.column;
            let Some(relation) = catalog.relation(relation) else { continue };
            let column = relation.columns.iter().find(|column| column.number == number);
            if let Some(column) = column
                && let Ok(Shape::Sealed(sealed)) = self.column_shape(relation, column)
            {
                let opened = self.opened(&sealed);
                found.push(OpenedDefault {
                    texts: default.texts.clone(),
                    cell: default.cell.clone(),
                    opened,
                });
            }
        }
        if found.is_empty() { Output::Verbatim } else { Output::Default(found) }
    }
}

impl<'a> Analyst<'a> {
    fn narrower(&mut self) -> Vec<Narrower<'a>> {
        let catalog = self.context.catalog;
        let mut found = vec![];
        for relation in catalog.relations.values() {
            if !relation.columns.iter().any(|column| catalog.sealed_types.contains_key(&column.type_oid)) {
                continue;
            }
            // A relation that cannot be read shows its domains' types.
            let outs = self.dry(|analyst| analyst.relation_columns(relation)).unwrap_or_default();
            for (column, out) in relation.columns.iter().zip(outs) {
                if let Shape::Sealed(sealed) = out.shape
                    && sealed.shown() != sealed.domain.data_type
                {
                    found.push(Narrower { relation, column, data_type: sealed.shown() });
                }
            }
        }
        found.sort_unstable_by_key(|one| (one.relation.oid, one.column.number));
        found
    }
}

/// (sealed type's OID, its name, logical type) of every sealed type; `None` when there is none.
fn by_type(catalog: &Catalog) -> Option<Vec<(u32, String, DataType)>> {
    let mut found: Vec<(u32, String, DataType)> = catalog
        .sealed_types
        .values()
        .filter_map(|sealed| {
            let domain = catalog.domains.iter().find(|domain| domain.name == sealed.domain)?;
            Some((sealed.oid, sealed.name.clone(), domain.data_type))
        })
        .collect();
    found.sort_unstable_by_key(|(oid, _, _)| *oid);
    (!found.is_empty()).then_some(found)
}

/// A sealed column of a table or view whose values have a narrower type than their domain.
struct Narrower<'c> {
    relation: &'c Relation,
    column: &'c Column,
    data_type: DataType,
}

fn attributes(relation: &Relation, catalog: &Catalog, narrower: &[Narrower<'_>]) -> Option<String> {
    let mut types = String::new();
    for (oid, _, logical) in by_type(catalog)? {
        let _ = write!(types, ", ({oid}::oid, {}::oid, {})", logical.oid(), logical.typmod());
    }
    // The first row fits nothing: a list may not be empty.
    let mut own = String::from("(0::oid, 0::int2, 0::oid, 0)");
    for Narrower { relation, column, data_type: logical } in narrower {
        let _ = write!(
            own,
            ", ({}::oid, {}::int2, {}::oid, {})",
            relation.oid,
            column.number,
            logical.oid(),
            logical.typmod()
        );
    }
    let list: Vec<String> = relation
        .columns
        .iter()
        .map(|column| {
            let name = &column.name;
            match name.as_str() {
                "atttypid" => format!("coalesce(t.oid, a.{name}) AS {name}"),
                "atttypmod" => format!("coalesce(o.typmod, s.typmod, a.{name}) AS {name}"),
                "attlen" => format!("coalesce(t.typlen, a.{name}) AS {name}"),
                "attbyval" => format!("coalesce(t.typbyval, a.{name}) AS {name}"),
                "attalign" => format!("coalesce(t.typalign, a.{name}) AS {name}"),
                "attstorage" => format!("coalesce(t.typstorage, a.{name}) AS {name}"),
                "attcollation" => format!("coalesce(t.typcollation, a.{name}) AS {name}"),
                _ => format!("a.\"{name}\""),
            }
        })
        .collect();
    Some(format!(
        "SELECT {}, a.tableoid FROM pg_catalog.pg_attribute AS a \
         LEFT JOIN (VALUES (0::oid, 0::oid, 0){types}) AS s (sealed, typid, typmod) \
         ON s.sealed OPERATOR(pg_catalog.=) a.atttypid \
         LEFT JOIN pg_catalog.pg_index AS i ON i.indexrelid OPERATOR(pg_catalog.=) a.attrelid \
         LEFT JOIN (VALUES {own}) AS o (relation, number, typid, typmod) \
         ON o.relation OPERATOR(pg_catalog.=) coalesce(i.indrelid, a.attrelid) \
         AND o.number OPERATOR(pg_catalog.=) coalesce(i.indkey[a.attnum - 1], a.attnum) \
         LEFT JOIN pg_catalog.pg_type AS t ON t.oid OPERATOR(pg_catalog.=) coalesce(o.typid, s.typid)",
        list.join(", ")
    ))
}

fn columns(relation: &Relation, catalog: &Catalog, narrower: &[Narrower<'_>]) -> Option<String> {
    let mut types = String::new();
    for (_, name, logical) in by_type(catalog)? {
        let _ = write!(types, ", ({}, {}::oid, {})", quoted(&name), logical.oid(), logical.typmod());
    }
    let mut own = String::from("('', '', '', 0::oid, 0)");
    for Narrower { relation, column, data_type: logical } in narrower {
        let _ = write!(
            own,
            ", ({}, {}, {}, {}::oid, {})",
            quoted(&relation.schema),
            quoted(&relation.name),
            quoted(&column.name),
            logical.oid(),
            logical.typmod()
        );
    }
    let of_type = |function: &str, name: &str| {
        let computed = format!("information_schema.{function}(t.oid, coalesce(o.typmod, s.typmod))");
        format!("CASE WHEN t.oid IS NULL THEN c.{name} ELSE {computed} END")
    };
    let list: Vec<String> = relation
        .columns
        .iter()
        .map(|column| {
            let name = column.name.as_str();
            let expression = match name {
                "data_type" => format!("coalesce(pg_catalog.format_type(t.oid, NULL), c.{name})"),
                "character_maximum_length" => of_type("_pg_char_max_length", name),
                "character_octet_length" => of_type("_pg_char_octet_length", name),
                "numeric_precision" => of_type("_pg_numeric_precision", name),
                "numeric_precision_radix" => of_type("_pg_numeric_precision_radix", name),
                "numeric_scale" => of_type("_pg_numeric_scale", name),
                "datetime_precision" => of_type("_pg_datetime_precision", name),
                "interval_type" => of_type("_pg_interval_type", name),
                "domain_catalog" | "domain_schema" | "domain_name" => {
                    format!("CASE WHEN t.oid IS NULL THEN c.{name} END")
                }
                "udt_name" => format!("coalesce(t.typname, c.{name})"),
                _ => return format!("c.\"{name}\""),
            };
            // The view's own types are domains, and the standard's.
            format!("CAST({expression} AS {}) AS {name}", column.type_name)
        })
        .collect();
    Some(format!(
        "SELECT {} FROM information_schema.columns AS c \
         LEFT JOIN (VALUES ('', 0::oid, 0){types}) AS s (name, typid, typmod) \
         ON c.domain_schema = '{SCHEMA}' AND c.domain_name = s.name \
         LEFT JOIN (VALUES {own}) AS o (relschema, relation, attribute, typid, typmod) \
         ON c.table_schema = o.relschema AND c.table_name = o.relation AND c.column_name = o.attribute \
         AND c.domain_schema = '{SCHEMA}' \
         LEFT JOIN pg_catalog.pg_type AS t ON t.oid OPERATOR(pg_catalog.=) coalesce(o.typid, s.typid)",
        list.join(", ")
    ))
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

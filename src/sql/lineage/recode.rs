//! A COPY … FROM that the server reads in binary, whatever the client sends: sealed cells go as bytes then, and not as two
//! hex digits a byte, which costs the server more than all else of a row.
//!
//! Only for columns whose text form is understood here as a whole, by PostgreSQL's own types: a domain, an enum or a type of
//! an extension keeps the copy in the client's format. In binary the server takes what it gets for the column's type, so a
//! type that was changed behind our back could be given another type's bytes: the condition names every column in an
//! expression that is a type error then, and that is a constant which the server folds away otherwise. Like the sealed types
//! in the condition of every other copy, it fails such a plan before a row is read.

use super::copy::qualified;
use super::{CopyColumn, Recode};
use crate::catalog::{Column, Relation};
use crate::value::DataType;

/// By type (OIDs of `pg_type.dat`): how its values become binary (its receive function), and an expression that only it
/// can stand in. `$` is the value. Where a cast from another type is implicit, its binary form has another length.
const FORMS: &[(u32, Recode, &str)] = &[
    // `text`, `varchar`, `character`: all that has a collation is received as text.
    (25, Recode::Same, "$ COLLATE pg_catalog.\"C\""),
    (1043, Recode::Same, "$ COLLATE pg_catalog.\"C\""),
    (1042, Recode::Same, "$ COLLATE pg_catalog.\"C\""),
    (114, Recode::Same, "pg_catalog.json_send($)"),
    // `jsonb_recv`: the version of the format, and text.
    (3802, Recode::Behind(1), "pg_catalog.jsonb_send($)"),
    (16, Recode::Value(DataType::Boolean), "NOT $"),
    (17, Recode::Value(DataType::Bytea), "pg_catalog.byteasend($)"),
    (21, Recode::Value(DataType::Smallint), "pg_catalog.int2send($)"),
    (23, Recode::Value(DataType::Integer), "pg_catalog.int4send($)"),
    (20, Recode::Value(DataType::Bigint), "pg_catalog.int8send($)"),
    (1700, Recode::Value(DataType::Numeric(None)), "$ OPERATOR(pg_catalog.<@) NULL::pg_catalog.numrange"),
    (1082, Recode::Value(DataType::Date), "$ OPERATOR(pg_catalog.<@) NULL::pg_catalog.daterange"),
    (1083, Recode::Value(DataType::Time), "pg_catalog.time_send($)"),
    (1114, Recode::Value(DataType::Timestamp), "$ OPERATOR(pg_catalog.<@) NULL::pg_catalog.tsrange"),
    (1184, Recode::Value(DataType::Timestamptz), "$ OPERATOR(pg_catalog.<@) NULL::pg_catalog.tstzrange"),
    (2950, Recode::Value(DataType::Uuid), "pg_catalog.uuid_send($)"),
];

/// How values of a column become binary, when that is known.
pub(super) fn form(column: &Column) -> Option<Recode> {
    FORMS.iter().find(|(oid, ..)| *oid == column.type_oid).map(|(_, recode, _)| *recode)
}

/// The copy in binary; `copied` are its words up to the columns, `conditions` what else must hold of the sealed types. `None`
/// when a column keeps it from that, or when nothing is sealed.
pub(super) fn statement(
    relation: &Relation,
    columns: &[CopyColumn],
    copied: &str,
    mut conditions: Vec<String>,
) -> Option<String> {
    columns.iter().find(|column| column.seal.is_some())?;
    // A value of the row's type: a column by itself would need the right to read it.
    let row = format!("(NULL::{})", qualified(relation));
    for column in columns.iter().filter(|column| column.seal.is_none()) {
        let column = relation.column(column.name.as_deref()?)?;
        let (.., only) = FORMS.iter().find(|(oid, ..)| *oid == column.type_oid)?;
        let value = format!("{row}.\"{}\"", column.name.replace('"', "\"\""));
        conditions.push(format!("({}) IS NULL", only.replace('$', &value)));
    }
    Some(format!("{copied} FROM STDIN WITH (FORMAT binary) WHERE ({} OR true)", conditions.join(" OR ")))
}

//! What the client is told of types: the logical ones, and its own declared ones.

use super::formats::Formats;
use crate::catalog::{Catalog, SealedType};
use crate::plan::{ColumnSlot, OpenSlot, ParameterUse, StatementPlan};
use crate::value::Format;
use crate::wire::backend::Field;

/// The server describes something else than the plan was made for: the plan is out of date.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stale;

/// OID of `bytea`, as which PostgreSQL describes a column of a domain over it.
const BYTEA: u32 = 17;
const BYTEA_ARRAY: u32 = 1001;
const JSON: u32 = 114;
const JSONB: u32 = 3802;
const TEXT: u32 = 25;
const VARCHAR: u32 = 1043;

/// Rewrites the fields of opened columns to their logical types, in the formats in which they leave, `None` where the server's are
/// the client's. Names, table and column numbers stay.
///
/// # Errors
/// [`Stale`] when the number of columns differs, or an opened column is neither `bytea` nor its sealed type.
pub fn row_description(
    plan: &StatementPlan,
    catalog: &Catalog,
    formats: Option<&Formats>,
    fields: &mut [Field],
) -> Result<(), Stale> {
    let Some(columns) = &plan.columns else { return Ok(()) };
    if columns.len() != fields.len() {
        return Err(Stale);
    }
    for ((slot, index), field) in columns.iter().zip(0..).zip(fields) {
        match slot {
            ColumnSlot::Pass | ColumnSlot::Default(_) => {}
            ColumnSlot::Open(OpenSlot { domain, data_type, .. }) => {
                let sealed = catalog.sealed_types.get(&field.type_oid);
                if field.type_oid != BYTEA && sealed.is_none_or(|sealed| sealed.domain != domain.name) {
                    return Err(Stale);
                }
                field.type_oid = data_type.oid();
                field.type_length = data_type.typlen();
                field.type_modifier = data_type.typmod();
                if let Some(formats) = formats {
                    field.format = i16::from(formats.leaves(index) == Format::Binary);
                }
            }
            ColumnSlot::Array(OpenSlot { domain, data_type, .. }) => {
                let own =
                    |sealed: &SealedType| sealed.array_oid == field.type_oid && sealed.domain == domain.name;
                if field.type_oid != BYTEA_ARRAY && !catalog.sealed_types.values().any(own) {
                    return Err(Stale);
                }
                field.type_oid = data_type.array_oid();
            }
            ColumnSlot::Document { .. } if matches!(field.type_oid, JSON | JSONB | TEXT | VARCHAR) => {}
            ColumnSlot::Document { .. } => return Err(Stale),
            // The row's own type, whose attributes are shown as they are logically.
            ColumnSlot::Record { .. } if !catalog.sealed_types.contains_key(&field.type_oid) => {}
            ColumnSlot::Record { .. } => return Err(Stale),
        }
    }
    Ok(())
}

/// The client's parameter types from the server's: sealed ones become logical, declared ones stay as declared.
///
/// # Errors
/// [`Stale`] when the server describes another number of parameters.
pub fn parameter_description(
    plan: &StatementPlan,
    declared: &[u32],
    server: &[u32],
) -> Result<Vec<u32>, Stale> {
    if server.len() != plan.parameters.len() {
        return Err(Stale);
    }
    let mut types = vec![0; plan.client_parameters];
    // Later slots of a client parameter are further uses of it: the first says what it is.
    for (slot, server) in plan.parameters.iter().zip(server).rev() {
        let logical = match &slot.what {
            ParameterUse::Pass => *server,
            ParameterUse::Seal(recipe) => recipe.as_text.unwrap_or(recipe.untyped).oid(),
            ParameterUse::SealElements(recipe) => recipe.untyped.array_oid(),
        };
        if let Some(known) = types.get_mut(slot.client) {
            *known = match declared.get(slot.client).copied().unwrap_or(0) {
                0 => logical,
                declared => declared,
            };
        }
    }
    Ok(types)
}

/// The parameter types to declare upstream: the client's where a parameter passes, none where it is sealed. One whose first use is
/// sealed has that use's type for the others, as it would for the server.
pub fn declared_upstream(plan: &StatementPlan, declared: &[u32]) -> Vec<u32> {
    let mut first_uses = vec![None; plan.client_parameters];
    for slot in &plan.parameters {
        if let Some(first @ None) = first_uses.get_mut(slot.client) {
            *first = Some(&slot.what);
        }
    }
    plan.parameters
        .iter()
        .map(|slot| match &slot.what {
            ParameterUse::Pass => match declared.get(slot.client).copied().unwrap_or(0) {
                0 => match first_uses.get(slot.client).copied().flatten() {
                    Some(ParameterUse::Seal(recipe)) => recipe.as_text.unwrap_or(recipe.untyped).oid(),
                    Some(ParameterUse::SealElements(recipe)) => recipe.untyped.array_oid(),
                    Some(ParameterUse::Pass) | None => 0,
                },
                declared => declared,
            },
            ParameterUse::Seal(_) | ParameterUse::SealElements(_) => 0,
        })
        .collect()
}

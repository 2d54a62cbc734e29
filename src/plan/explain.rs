//! The text form of a plan: what `pgveil explain` prints and golden files hold. One line a fact, in the plan's order;
//! `‹n›` stands for the n-th sealed literal. Never a value: a plan holds none.

use super::{
    ColumnSlot, Definition, NameKind, OpenSlot, ParameterUse, PersonKey, PersonSlot, Persons, Planned,
    Recipe, Refusal, Ruling, Script, StatementPlan,
};
use crate::catalog::Seal;
use crate::sql::Local;
use std::fmt::{self, Display, Formatter};

/// Prints every statement of a script, with a blank line between them.
pub struct Explained<'a>(pub &'a Script);

impl Display for Explained<'_> {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        for (index, planned) in self.0.statements.iter().enumerate() {
            if index > 0 {
                writeln!(out)?;
            }
            match planned {
                Planned::Pass(_) => writeln!(out, "pass       as it is: nothing tagged is in reach")?,
                Planned::Plan(plan) => statement(plan, out)?,
                Planned::Refuse(refusal) => refused(refusal, out)?,
                Planned::Local(local) => writeln!(out, "local      {}", local_text(local))?,
                Planned::Unresolved(refusal) => refused(refusal, out)?,
            }
        }
        Ok(())
    }
}

fn local_text(local: &Local) -> &'static str {
    match local {
        Local::SetPurpose { .. } => "sets the purpose of this connection",
        Local::SetOtp(_) => "gives the second factor",
        Local::ResetOtp => "gives the second factor up",
        Local::SetBreakGlass(_) => "breaks the glass",
        Local::ShowStatus => "shows what holds for this connection",
        Local::Deallocate(_) => "deallocates a prepared statement",
    }
}

fn statement(plan: &StatementPlan, out: &mut Formatter<'_>) -> fmt::Result {
    let Ok(sent) = plan.render(|index, text| -> Result<(), fmt::Error> {
        text.push_str(&format!("‹{}›", index + 1));
        Ok(())
    }) else {
        return Err(fmt::Error);
    };
    writeln!(out, "send       {sent}")?;
    for (index, slot) in plan.literals.iter().enumerate() {
        let rule = rule_of(plan, &slot.recipe);
        writeln!(out, "literal {:<2} seal {}{rule}", index + 1, recipe(&slot.recipe))?;
    }
    for (index, slot) in plan.parameters.iter().enumerate() {
        let (what, recipe_used) = match &slot.what {
            ParameterUse::Pass => continue,
            ParameterUse::Seal(recipe) => ("seal", recipe),
            ParameterUse::SealElements(recipe) => ("seal each element", recipe),
        };
        let from = if slot.client == index {
            String::new()
        } else {
            format!(" (the client's ${})", slot.client + 1)
        };
        let rule = rule_of(plan, recipe_used);
        writeln!(out, "param ${:<3} {what} {}{from}{rule}", index + 1, recipe(recipe_used))?;
    }
    for (index, column) in plan.copy.iter().flat_map(|copy| &copy.columns).enumerate() {
        if let Some(used) = &column.seal {
            writeln!(out, "field {:<4} seal {}{}", index + 1, recipe(used), rule_of(plan, used))?;
        }
    }
    columns(plan, out)?;
    if let Some(definition) = &plan.defines {
        defined(definition, out)?;
    }
    if let Some(known) = &plan.persons {
        persons(known, out)?;
    }
    for (used, ruling) in plan.uses.iter().zip(&plan.rulings) {
        let oracle = if ruling.oracle { ", counted" } else { "" };
        let clear = if used.sealed { "" } else { ", stored in clear" };
        let shown = match used.action {
            crate::catalog::Action::Read => format!(" as {}", ruling.disclosure.name()),
            crate::catalog::Action::Compare | crate::catalog::Action::Write => String::new(),
        };
        writeln!(
            out,
            "record     {} {}{shown}{clear}{oracle}{}",
            used.action.name(),
            used.column_name(),
            rule_text(ruling)
        )?;
    }
    Ok(())
}

/// What is opened of the result.
fn columns(plan: &StatementPlan, out: &mut Formatter<'_>) -> fmt::Result {
    for (index, slot) in plan.columns.iter().flatten().enumerate() {
        let (what, leaves) = match slot {
            ColumnSlot::Pass => continue,
            ColumnSlot::Open(leaf) => ("open", vec![leaf]),
            ColumnSlot::Array(leaf) => ("open each element", vec![leaf]),
            ColumnSlot::Document { node: _, leaves } => ("open in JSON", leaves.iter().collect()),
            ColumnSlot::Record { node: _, leaves } => ("open in a row", leaves.iter().collect()),
            ColumnSlot::Default(defaults) => {
                let own: Vec<&OpenSlot> = defaults.iter().map(|default| &default.slot).collect();
                ("open the default of", own)
            }
        };
        for OpenSlot { domain, data_type, ruling, column_names, by_type: _ } in leaves {
            let ruling = plan.rulings.get(*ruling);
            let shown = ruling.map_or("nothing".into(), |ruling| ruling.disclosure.name());
            let names = column_names.join(", ");
            let rule = ruling.map(rule_text).unwrap_or_default();
            writeln!(
                out,
                "column {:<3} {what} {names} ({}, {}) as {shown}{rule}",
                index + 1,
                domain.label,
                data_type.sql()
            )?;
        }
    }
    Ok(())
}

/// Whom the record will name.
fn persons(known: &Persons, out: &mut Formatter<'_>) -> fmt::Result {
    for PersonSlot { table, key, cells, every_row } in &known.slots {
        let [_, schema, name] = &table.table;
        let by = match key {
            PersonKey::Output(index) => format!("column {}", index + 1),
            PersonKey::Parameter(client) => format!("the client's ${}", client + 1),
            PersonKey::Literal(_) => "a literal".to_owned(),
        };
        let cells: Vec<String> = cells.iter().map(|cell| (cell + 1).to_string()).collect();
        let shown = if *every_row { "every row".to_owned() } else { format!("column {}", cells.join(", ")) };
        writeln!(out, "person     of {schema}.{name} by {by}, shown by {shown}")?;
    }
    if known.others || known.slots.is_empty() {
        writeln!(out, "person     not known of all rows: no key comes with them")?;
    }
    Ok(())
}

/// A name, and what it will stand for when it is used.
fn defined(definition: &Definition, out: &mut Formatter<'_>) -> fmt::Result {
    let what = match definition.kind {
        NameKind::Statement => "statement",
        NameKind::Cursor => "cursor",
    };
    writeln!(out, "defines    {what} {}", definition.name)?;
    for (index, slot) in definition.parameters.iter().enumerate() {
        if let ParameterUse::Seal(used) | ParameterUse::SealElements(used) = &slot.what {
            writeln!(out, "  ${:<8} seal argument {} {}", index + 1, slot.client + 1, recipe(used))?;
        }
    }
    for used in &definition.uses {
        writeln!(out, "  {:<9} {}", used.action.name(), used.column_name())?;
    }
    Ok(())
}

fn recipe(recipe: &Recipe) -> String {
    let mode = match recipe.domain.seal {
        Seal::Deterministic => "deterministic",
        Seal::Randomized => "randomized",
        Seal::None => "clear",
    };
    format!("as {} ({mode}) for {}", recipe.domain.name, recipe.column_name)
}

fn rule_of(plan: &StatementPlan, recipe: &Recipe) -> String {
    let found = plan
        .uses
        .iter()
        .zip(&plan.rulings)
        .find(|(used, _)| used.domain.0.name == recipe.domain.name && used.action == recipe.action);
    found.map(|(_, ruling)| rule_text(ruling)).unwrap_or_default()
}

fn rule_text(ruling: &Ruling) -> String {
    match &ruling.rule {
        Some(rule) => format!("  rule {}", rule.name),
        None => "  default".to_owned(),
    }
}

fn refused(refusal: &Refusal, out: &mut Formatter<'_>) -> fmt::Result {
    writeln!(out, "refuse     {}  {}", refusal.sqlstate, refusal.message)?;
    if let Some(detail) = &refusal.detail {
        writeln!(out, "detail     {detail}")?;
    }
    if let Some(hint) = &refusal.hint {
        writeln!(out, "hint       {hint}")?;
    }
    for (column, label, action) in &refusal.uses {
        writeln!(out, "record     refused {} {column} ({label})", action.name())?;
    }
    Ok(())
}

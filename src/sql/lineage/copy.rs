//! COPY: the columns that are copied, what is sealed on the way in, and the statement to send.
//!
//! Columns are always printed: rows are read by their number. A table with columns stored in clear that must be masked is
//! copied as the query that shows it. A COPY … FROM names the sealed types in a condition that is always true, so that a
//! plan that is out of date fails in the server, as casts make every other plan fail.

use super::assign::assigned;
use super::named::passed;
use super::print::sealed_type_name;
use super::recode;
use super::scope::{Ctes, Entry, Found, Out, Scope};
use super::{
    Analyst, Context, CopyColumn, CopyQuery, CopyRows, Effects, Lineage, LiteralSlot, Piece, Shape, Use,
};
use crate::catalog::{Action, ByLabel, Relation, RelationKind};
use crate::sql::copy::{CopyOptions, CopyStatement, Force, Peer, Source, listed};
use crate::sql::parse::{self, Parsed};
use crate::sql::problem::{Problem, Trouble};
use crate::sql::shape::Lines;
use crate::value::DataType;
use sqlparser::ast::{Expr, Ident, ObjectName, ObjectNamePart, SetExpr, Statement};
use std::ops::Range;
use std::sync::Arc;

/// Analyses a COPY. `query` is the parsed statement of `COPY (query)`, and `lines` are its own.
///
/// `Ok(None)`: it turned out to touch nothing tagged.
///
/// # Errors
/// A [`Problem`] that names the construct, the column and what would work.
pub(in crate::sql) fn analyse(
    copy: &CopyStatement,
    query: Option<Parsed>,
    lines: Lines<'_>,
    declared: usize,
    context: &Context<'_>,
) -> Result<Option<Lineage>, Problem> {
    let lineage = match (&copy.source, query) {
        (Source::Query(..), Some(query)) => copied_query(copy, query, lines, declared, context)?,
        (Source::Table { name, at, columns }, None) => {
            copied_table(copy, name, columns.as_deref(), lines, context).map_err(|problem| {
                // What we wrote in place of the name has no place in the client's text.
                let own = problem.position.filter(|_| copy.from);
                Problem { position: own.or(Some(*at)), ..problem }
            })?
        }
        _ => return Err(Problem::not_understood("this form of COPY")),
    };
    let Some(lineage) = lineage else { return Ok(None) };
    match copy.peer {
        Peer::Client => {}
        Peer::ServerFile => {
            return Err(Problem::not_understood("COPY with a file of the server")
                .hint("Use COPY FROM STDIN or TO STDOUT; psql's \\copy does."));
        }
        Peer::Program => {
            return Err(Problem::not_understood("COPY with a program of the server")
                .hint("Use COPY FROM STDIN or TO STDOUT; psql's \\copy does."));
        }
    }
    if copy.filter.is_some() && !copy.from {
        return Err(Problem::new(Trouble::Mismatch, "42601", "WHERE clause not allowed with COPY TO"));
    }
    Ok(Some(lineage))
}

fn copied_query(
    copy: &CopyStatement,
    query: Parsed,
    lines: Lines<'_>,
    declared: usize,
    context: &Context<'_>,
) -> Result<Option<Lineage>, Problem> {
    let (mut analyst, mut query) = Analyst::of(query, lines, context);
    let (kind, outputs, effects) = analyst.statement(&mut query)?;
    if !analyst.touched {
        return Ok(None);
    }
    if !matches!(kind, "select" | "insert" | "update" | "delete" | "merge") {
        return Err(Problem::not_understood(&format!("COPY of a {} statement", kind.to_uppercase())));
    }
    let columns = copied_columns(outputs.as_deref().unwrap_or_default(), &copy.options)?;
    let mut lineage = analyst.finish(query, "copy", outputs, effects, declared)?;
    let around = wrap(&mut lineage, &copy.options);
    let query = (kind == "select" && !lineage.effects.writes && copy.options.are_usual()).then_some(around);
    lineage.copy =
        Some(CopyRows { from: false, options: copy.options.clone(), columns, query, recoded: None });
    Ok(Some(lineage))
}

fn copied_table(
    copy: &CopyStatement,
    name: &[String],
    columns: Option<&[String]>,
    lines: Lines<'_>,
    context: &Context<'_>,
) -> Result<Option<Lineage>, Problem> {
    let mut analyst = Analyst::new(lines, context);
    let object = |name: &String| ObjectNamePart::Identifier(Ident::with_quote('"', name));
    let object = ObjectName(name.iter().map(object).collect());
    let Found::Relation(relation) = analyst.find_relation(&object, &Ctes::default())? else {
        return Err(Problem::unresolved(&name.join(".")));
    };
    let outs = analyst.relation_columns(&relation)?;
    let names = match columns {
        Some(names) => names.to_vec(),
        None => {
            let own = relation.columns.iter().filter(|column| !column.generated);
            own.map(|column| column.name.clone()).collect()
        }
    };
    if !analyst.touched {
        return Ok(None);
    }
    if copy.from {
        copied_into(analyst, copy, &relation, &outs, &names, context).map(Some)
    } else {
        copied_out(copy, &relation, &names, context).map(Some)
    }
}

fn copied_out(
    copy: &CopyStatement,
    relation: &Arc<Relation>,
    names: &[String],
    context: &Context<'_>,
) -> Result<Lineage, Problem> {
    let (list, table) = (listed(names), qualified(relation));
    let text = format!("SELECT {} FROM ONLY {table}", list.trim_start_matches('(').trim_end_matches(')'));
    let query = parse::one(&text, false).map_err(|_| Problem::not_understood("COPY of these columns"))?;
    let (mut analyst, mut query) = Analyst::of(query, Lines::new(&text, 0..text.len()), context);
    // Of all columns, those that are not copied among them: what is touched was found out before.
    let (_, outputs, effects) = analyst.statement(&mut query)?;
    analyst.touched = true;
    let columns = copied_columns(outputs.as_deref().unwrap_or_default(), &copy.options)?;
    let masked = analyst.substitutions > 0;
    let mut lineage = analyst.finish(query, "copy", outputs, effects, 0)?;
    if masked && relation.kind != RelationKind::Table {
        // As the server refuses to copy it; a query in its place would be copied.
        return Err(Problem::new(
            Trouble::Mismatch,
            "42809",
            format!("cannot copy from \"{}\", which is not a plain table", relation.name),
        )
        .hint("Try the COPY (SELECT ...) TO variant."));
    }
    let query = if masked {
        wrap(&mut lineage, &copy.options)
    } else {
        let printed = copy.options.printed();
        lineage.pieces = vec![Piece::Text(format!("COPY {table} {list} TO STDOUT{printed}"))];
        CopyQuery::Own(text)
    };
    // What is no plain table the server refuses to copy.
    let query = Some(query).filter(|_| relation.kind == RelationKind::Table && copy.options.are_usual());
    lineage.copy =
        Some(CopyRows { from: false, options: copy.options.clone(), columns, query, recoded: None });
    Ok(lineage)
}

fn copied_into(
    mut analyst: Analyst<'_>,
    copy: &CopyStatement,
    relation: &Arc<Relation>,
    outs: &[Out],
    names: &[String],
    context: &Context<'_>,
) -> Result<Lineage, Problem> {
    if !matches!(relation.kind, RelationKind::Table | RelationKind::Partitioned | RelationKind::Foreign) {
        return Err(Problem::not_understood("COPY into a view").hint("Copy into the view's table."));
    }
    let options = &copy.options;
    let (columns, types) = copied_fields(&mut analyst, relation, outs, names, options)?;
    if options.skips_rows()
        && let Some(recipe) = columns
            .iter()
            .filter_map(|column| column.seal.as_ref())
            .find(|recipe| recipe.data_type != DataType::Text)
    {
        // Which values fit is known here, and not to the server.
        return Err(Problem::not_understood(&format!(
            "COPY option ON_ERROR over sealed column {} of type {}",
            recipe.column_name,
            recipe.data_type.sql()
        ))
        .hint("Copy without ON_ERROR, or copy into columns of type text."));
    }
    let exist: Vec<String> = types
        .iter()
        .map(|name| format!("NULL::\"pgveil\".\"{}\" IS NULL", name.replace('"', "\"\"")))
        .collect();
    let mut conditions: Vec<String> = vec![];
    if !exist.is_empty() {
        conditions.push(format!("({} OR true)", exist.join(" OR ")));
    }
    let mut filter = Filter { pieces: vec![], literals: vec![], uses: vec![], compared: vec![] };
    if let Some(condition) = &copy.filter {
        let entry = Entry {
            alias: relation.name.clone(),
            schema: Some(relation.schema.clone()),
            columns: outs.to_vec(),
            complete: true,
            row: None,
            table: relation.kind == RelationKind::Table,
        };
        let scope = Scope { entries: vec![entry], ..Scope::default() };
        filter = filtered(analyst.lines.text(), condition.clone(), &scope, context)?;
        // Its pieces follow.
        conditions.push(String::new());
    }
    let condition =
        if conditions.is_empty() { String::new() } else { format!(" WHERE {}", conditions.join(" AND ")) };
    let (table, list, printed) = (qualified(relation), listed(names), options.printed());
    let recoded = if copy.filter.is_none() && options.are_usual() {
        recode::statement(relation, &columns, &format!("COPY {table} {list}"), exist)
    } else {
        None
    };
    let copied = Piece::Text(format!("COPY {table} {list} FROM STDIN{printed}{condition}"));
    Ok(Lineage {
        pieces: std::iter::once(copied).chain(filter.pieces).collect(),
        literals: filter.literals,
        uses: analyst.uses.into_iter().chain(filter.uses).collect(),
        copy: Some(CopyRows { from: true, options: options.clone(), columns, query: None, recoded }),
        compared: filter.compared,
        ..passed("copy", String::new(), Effects { writes: true, ..Effects::default() })
    })
}

/// The fields of the rows that are copied in, and the sealed types among them.
fn copied_fields(
    analyst: &mut Analyst<'_>,
    relation: &Relation,
    outs: &[Out],
    names: &[String],
    options: &CopyOptions,
) -> Result<(Vec<CopyColumn>, Vec<String>), Problem> {
    let (mut columns, mut types) = (vec![], vec![]);
    for name in names {
        let Some(out) = outs.iter().find(|out| out.name.as_deref() == Some(name)) else {
            return Err(Problem::new(
                Trouble::Mismatch,
                "42703",
                format!("column \"{name}\" of relation \"{}\" does not exist", relation.name),
            ));
        };
        let seal = match &out.shape {
            Shape::Sealed(sealed) => {
                let recipe = assigned(sealed);
                analyst.note_all(&sealed.columns.clone(), Action::Write, false);
                let name = sealed_type_name(&recipe.domain.name, recipe.version);
                if !types.contains(&name) {
                    types.push(name);
                }
                Some(recipe)
            }
            Shape::Clear(column) => {
                analyst.note(column, Action::Write, false);
                None
            }
            Shape::Plain | Shape::Adaptable | Shape::Default => None,
            Shape::Array(_)
            | Shape::Rows(_)
            | Shape::Document(_)
            | Shape::Deferred(_)
            | Shape::Row(_)
            | Shape::WholeRow(_) => {
                return Err(Problem::not_understood(&format!("COPY into column {name} of sealed values")));
            }
        };
        let recode = relation.column(name).and_then(recode::form).filter(|_| seal.is_none());
        columns.push(CopyColumn { seal, recode, ..column(Some(name), options) });
    }
    Ok((columns, types))
}

/// What the condition of a COPY adds to it.
struct Filter {
    pieces: Vec<Piece>,
    literals: Vec<LiteralSlot>,
    uses: Vec<Use>,
    compared: ByLabel,
}

/// The condition of `COPY … WHERE`: read as that of a query, whose text has it at another place.
fn filtered(
    text: &str,
    filter: Range<usize>,
    scope: &Scope<'_>,
    context: &Context<'_>,
) -> Result<Filter, Problem> {
    const QUERY: &str = "SELECT WHERE ";
    let not_read = || Problem::not_understood("the condition of COPY");
    let condition = text.get(filter.clone()).ok_or_else(not_read)?;
    let text = format!("{QUERY}({condition})");
    let shift = |at: usize| (at + filter.start).saturating_sub(QUERY.len() + 1);
    let parsed = parse::one(&text, true).map_err(|_| not_read())?;
    let (mut analyst, mut statement) = Analyst::of(parsed, Lines::new(&text, 0..text.len()), context);
    let printed = statement.to_string();
    let Statement::Query(query) = &mut statement else { return Err(not_read()) };
    let SetExpr::Select(select) = &mut *query.body else { return Err(not_read()) };
    // Nothing may stand behind the condition.
    let whole =
        |selection: &Expr| matches!(selection, Expr::Nested(_)) && printed == format!("{QUERY}{selection}");
    let Some(selection) = select.selection.as_mut().filter(|selection| whole(selection)) else {
        return Err(not_read());
    };
    analyst
        .condition(selection, scope, "WHERE")
        .map_err(|problem| Problem { position: problem.position.map(shift), ..problem })?;
    if !analyst.parameters.is_empty() {
        return Err(Problem::not_understood("a parameter in COPY"));
    }
    let (mut pieces, _, _) = analyst.print(&statement, 0)?;
    match pieces.first_mut() {
        Some(Piece::Text(first)) if first.starts_with(QUERY) => first.drain(..QUERY.len()),
        _ => return Err(not_read()),
    };
    let mut literals = analyst.literals;
    for literal in &mut literals {
        literal.span = shift(literal.span.start)..shift(literal.span.end);
    }
    Ok(Filter { pieces, literals, uses: analyst.uses, compared: analyst.compared_in_views })
}

/// The columns of the rows that are copied out.
fn copied_columns(outputs: &[Out], options: &CopyOptions) -> Result<Vec<CopyColumn>, Problem> {
    let named = matches!(options.force_quote, Some(Force::Columns(_)));
    outputs
        .iter()
        .map(|out| {
            let plain =
                matches!(out.shape, Shape::Plain | Shape::Adaptable | Shape::Clear(_) | Shape::Default);
            if named && out.name.is_none() && !plain {
                return Err(Problem::not_understood("FORCE_QUOTE with a column without a certain name")
                    .hint("Give the query's columns names with AS."));
            }
            Ok(column(out.name.as_deref(), options))
        })
        .collect()
}

fn column(name: Option<&str>, options: &CopyOptions) -> CopyColumn {
    let forced = |force: &Option<Force>| force.as_ref().is_some_and(|force| force.holds(name));
    CopyColumn {
        name: name.map(str::to_owned),
        seal: None,
        recode: None,
        force_quote: forced(&options.force_quote),
        force_null: forced(&options.force_null),
        force_not_null: forced(&options.force_not_null),
    }
}

pub(super) fn qualified(relation: &Relation) -> String {
    let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    format!("{}.{}", quoted(&relation.schema), quoted(&relation.name))
}

/// Makes `COPY (…) TO STDOUT` of a query; says where in it the query stands.
fn wrap(lineage: &mut Lineage, options: &CopyOptions) -> CopyQuery {
    let (before, after) = ("COPY (", format!(") TO STDOUT{}", options.printed()));
    let around = CopyQuery::Within(before.len(), after.len());
    lineage.pieces.insert(0, Piece::Text(before.to_owned()));
    lineage.pieces.push(Piece::Text(after));
    around
}

//! Statements that a session names and uses later: PREPARE and EXECUTE, DECLARE and FETCH.
//!
//! What is named is understood once, with its parameters; EXECUTE seals its arguments as the named statement's parameters
//! ask for, and what EXECUTE and FETCH show is opened as the named statement's columns. The session keeps the names
//! ([`Named`]); nothing here knows whether the server has them, too. Rights are asked for when a name is used.

use super::person::origins;
use super::print::{quoted, sealed_type};
use super::scope::{Ctes, Scope};
use super::{
    Analyst, Context, Effects, Lineage, Output, ParameterSlot, ParameterUse, Persons, Piece, Recipe,
    SealedShape, Shape, Tagged, Use,
};
use crate::catalog::{Action, ByLabel, State};
use crate::sql::StatementText;
use crate::sql::lex::Token;
use crate::sql::parse::Parsed;
use crate::sql::problem::{Problem, Trouble};
use crate::sql::shape::Lines;
use sqlparser::ast::{ArrayElemTypeDef, DataType, Declare, DeclareType, Expr, Ident, ObjectName, Statement};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What the names of a session stand for. Statements and cursors have names of their own kinds.
#[derive(Clone, Debug, Default)]
pub struct Named {
    pub statements: BTreeMap<String, Known>,
    pub cursors: BTreeMap<String, Known>,
    /// Those of the statements that the server knows by a name of ours: the protocol prepared them, not SQL.
    pub ours: BTreeMap<String, Ours>,
}

/// A statement that the server knows by another name than the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ours {
    pub name: String,
    pub effects: Effects,
}

/// A session without names.
pub static NO_NAMES: Named =
    Named { statements: BTreeMap::new(), cursors: BTreeMap::new(), ours: BTreeMap::new() };

impl Named {
    pub fn is_empty(&self) -> bool {
        self.statements.is_empty() && self.cursors.is_empty()
    }
}

#[derive(Clone, Debug)]
pub enum Known {
    /// Nothing tagged is in its reach.
    Untouched,
    Definition(Arc<Definition>),
    /// The catalog changed, and it would mean something else now.
    Outdated,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NameKind {
    Statement,
    Cursor,
}

/// A statement that was given a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Definition {
    pub kind: NameKind,
    pub name: String,
    pub parameters: Vec<ParameterSlot>,
    pub client_parameters: usize,
    pub columns: Option<Vec<Output>>,
    /// What using it uses.
    pub uses: Vec<Use>,
    pub effects: Effects,
    /// (label, values) that its own literals compare at each use.
    pub compared: ByLabel,
    /// How each of `uses` was disclosed when the name was given: masks of columns stored in clear are part of its text.
    /// Filled by the plan.
    pub shown: Vec<Cow<'static, str>>,
    /// A cursor whose rows come in binary.
    pub binary: bool,
    /// Whose cells its rows show.
    pub persons: Option<Persons>,
}

/// Analyses `EXECUTE` of a known name, or EXPLAIN of it.
///
/// # Errors
/// As [`super::analyse`].
pub(in crate::sql) fn analyse_execute(
    parsed: Parsed,
    lines: Lines<'_>,
    declared: usize,
    context: &Context<'_>,
    definition: &Definition,
) -> Result<Lineage, Problem> {
    let (mut analyst, mut statement) = Analyst::of(parsed, lines, context);
    let ours = context.named.ours.get(&definition.name);
    let runs = match &mut statement {
        Statement::Explain {
            describe_alias: _,
            analyze,
            verbose: _,
            query_plan: _,
            estimate: _,
            statement,
            format: _,
            options,
        } => {
            analyst.execute(definition, statement, ours)?;
            Some(super::runs(*analyze, options.as_deref()))
        }
        execute => {
            analyst.execute(definition, execute, ours)?;
            None
        }
    };
    let effects = match runs {
        Some(false) => Effects::default(),
        Some(true) | None => Effects { path: true, ..definition.effects },
    };
    let kind = if runs.is_some() { "explain" } else { "execute" };
    let lineage = analyst.finish(statement, kind, None, effects, declared)?;
    // As EXPLAIN of the statement itself: what it shows is the rewritten statement, and no row.
    let reads = |used: &Use| used.sealed && used.action == Action::Read && !used.must_be_clear;
    let uses = definition.uses.iter().zip(&definition.shown);
    let (uses, shown) = uses
        .filter(|(used, _)| runs.is_none() || !reads(used))
        .map(|(used, shown)| (used.clone(), shown.clone()))
        .unzip();
    Ok(Lineage {
        columns: definition.columns.clone().filter(|_| runs.is_none()),
        persons: definition.persons.clone().filter(|_| runs.is_none()),
        uses,
        named: Some(shown),
        compared: definition.compared.iter().cloned().chain(lineage.compared).collect(),
        ..lineage
    })
}

/// `FETCH` from a known cursor: `text` as it is.
pub(in crate::sql) fn fetched(text: &str, cursor: String, definition: &Definition) -> Lineage {
    Lineage {
        columns: definition.columns.clone(),
        persons: definition.persons.clone(),
        uses: definition.uses.clone(),
        named: Some(definition.shown.clone()),
        binary: definition.binary,
        cursor: Some(cursor),
        ..passed("fetch", text.to_owned(), Effects::default())
    }
}

/// A statement that executes what nothing tagged is in reach of, by its name in the server. `token` is the name.
pub(in crate::sql) fn renamed(
    text: &str,
    statement: &StatementText,
    token: &Token,
    name: &str,
    effects: Effects,
) -> Lineage {
    let (before, after) = (statement.span.start..token.span.start, token.span.end..statement.span.end);
    let sent = format!("{}{}{}", &text[before], Ident::with_quote('"', name), &text[after]);
    passed("execute", sent, effects)
}

pub(super) fn passed(kind: &'static str, text: String, effects: Effects) -> Lineage {
    Lineage {
        kind,
        pieces: vec![Piece::Text(text)],
        literals: vec![],
        parameters: vec![],
        client_parameters: 0,
        columns: None,
        uses: vec![],
        effects,
        copy: None,
        defines: None,
        named: None,
        compared: vec![],
        binary: false,
        cursor: None,
        persons: None,
    }
}

impl Analyst<'_> {
    /// `PREPARE name (types) AS statement`.
    pub(super) fn prepare(
        &mut self,
        name: &Ident,
        types: &mut Vec<DataType>,
        statement: &mut Statement,
    ) -> Result<Effects, Problem> {
        if matches!(
            statement,
            Statement::CreateTable(_) | Statement::Prepare { .. } | Statement::Declare { .. }
        ) {
            return Err(Problem::not_understood("this statement in PREPARE"));
        }
        let (_, outputs, effects) = self.statement(statement)?;
        let origins = origins(outputs.as_deref());
        let columns = self.columns(outputs)?;
        let persons = self.persons(&origins, columns.as_deref()).map(Persons::without_pins);
        let (parameters, _, client_parameters) = self.number_parameters(types.len());
        let declared = std::mem::take(types);
        let sealed = parameters.iter().any(|slot| slot.what != ParameterUse::Pass);
        if sealed || !declared.is_empty() {
            let own = |slot: &ParameterSlot| declared.get(slot.client).cloned().unwrap_or_else(unknown);
            *types = parameters
                .iter()
                .map(|slot| match &slot.what {
                    ParameterUse::Pass => own(slot),
                    ParameterUse::Seal(recipe) => sealed_type(recipe),
                    ParameterUse::SealElements(recipe) => {
                        DataType::Array(ArrayElemTypeDef::SquareBracket(Box::new(sealed_type(recipe)), None))
                    }
                })
                .collect();
        }
        self.defines = Some(Definition {
            kind: NameKind::Statement,
            name: super::scope::fold(name),
            parameters,
            client_parameters,
            columns,
            uses: self.uses.clone(),
            effects,
            compared: self.compared_literals(),
            shown: vec![],
            binary: false,
            persons,
        });
        Ok(Effects { names: true, ..Effects::default() })
    }

    /// `DECLARE name CURSOR FOR query`. What it compares is compared for it now; what it shows, FETCH shows.
    pub(super) fn declare(&mut self, cursors: &mut [Declare]) -> Result<Effects, Problem> {
        let [cursor] = cursors else { return Err(Problem::not_understood("this form of DECLARE")) };
        let Declare {
            names,
            data_type: None,
            assignment: None,
            declare_type: Some(DeclareType::Cursor),
            binary,
            sensitive: _,
            scroll: _,
            hold: _,
            for_query: Some(query),
        } = cursor
        else {
            return Err(Problem::not_understood("this form of DECLARE"));
        };
        let binary = *binary == Some(true);
        let [name] = names.as_slice() else { return Err(Problem::not_understood("this form of DECLARE")) };
        let outputs = self.query(query, None, &Ctes::default(), None)?;
        let origins = origins(Some(&outputs));
        let columns = self.columns(Some(outputs))?;
        let persons = self.persons(&origins, columns.as_deref()).map(Persons::without_pins);
        self.defines = Some(Definition {
            kind: NameKind::Cursor,
            name: super::scope::fold(name),
            parameters: vec![],
            client_parameters: 0,
            columns,
            uses: self.uses.clone(),
            effects: Effects::default(),
            compared: vec![],
            shown: vec![],
            binary,
            persons,
        });
        Ok(Effects { names: true, ..Effects::default() })
    }

    /// `EXECUTE name (arguments)`: sealed as the parameters ask for; one that is sealed in two ways is written twice.
    fn execute(
        &mut self,
        definition: &Definition,
        statement: &mut Statement,
        ours: Option<&Ours>,
    ) -> Result<(), Problem> {
        let Statement::Execute {
            name,
            parameters: arguments,
            has_parentheses: parentheses,
            immediate: false,
            into,
            using,
            output: false,
            default: false,
        } = statement
        else {
            return Err(Problem::not_understood("this form of EXECUTE"));
        };
        if !into.is_empty() || !using.is_empty() {
            return Err(Problem::not_understood("this form of EXECUTE"));
        }
        if let Some(ours) = ours {
            *name = Some(ObjectName(vec![quoted(&ours.name)]));
        }
        let scope = Scope::default();
        if definition.client_parameters == 0 {
            // The server looks at none then (`ExecuteQuery`), and they may be values that nothing says how to seal.
            arguments.clear();
        }
        if arguments.len() != definition.client_parameters {
            return Err(Problem::new(
                Trouble::Mismatch,
                "42601",
                format!("wrong number of parameters for prepared statement \"{}\"", definition.name),
            )
            .detail(format!(
                "Expected {} parameters but got {}.",
                definition.client_parameters,
                arguments.len()
            )));
        }
        let mut sent = vec![];
        for slot in &definition.parameters {
            let mut argument = arguments[slot.client].clone();
            match &slot.what {
                ParameterUse::Pass => {
                    self.unsealed(&mut argument, &scope, "EXECUTE")?;
                }
                ParameterUse::Seal(recipe) => self.argument(&mut argument, recipe, false, &scope)?,
                ParameterUse::SealElements(recipe) => self.argument(&mut argument, recipe, true, &scope)?,
            }
            sent.push(argument);
        }
        *parentheses = !sent.is_empty();
        *arguments = sent;
        Ok(())
    }

    fn argument(
        &mut self,
        argument: &mut Expr,
        recipe: &Recipe,
        elements: bool,
        scope: &Scope<'_>,
    ) -> Result<(), Problem> {
        let sealed = shape_of(recipe);
        if elements {
            return self.elements(argument, &sealed, scope, "EXECUTE");
        }
        match self.expr(argument, scope)? {
            Shape::Adaptable => self.seal(argument, recipe.clone(), &sealed, false),
            _ => Err(Problem::sealed_use(sealed.column(), "a computed argument of EXECUTE")
                .hint("Give a literal, a parameter or NULL.")),
        }
    }

    fn compared_literals(&self) -> ByLabel {
        let compared = self.literals.iter().filter(|literal| literal.recipe.action == Action::Compare);
        let own = compared.map(|literal| (literal.recipe.domain.label.clone(), 1));
        own.chain(self.compared_in_views.iter().cloned()).collect()
    }

    /// A mask that is part of the text would outlive the ruling that it came of.
    pub(super) fn unmasked(&self, construct: &str) -> Result<(), Problem> {
        if self.substitutions == 0 {
            return Ok(());
        }
        Err(Problem::not_understood(&format!("{construct} over a masked column that is stored in clear")))
    }
}

fn unknown() -> DataType {
    DataType::Custom(ObjectName::from(vec![Ident::new("unknown")]), vec![])
}

/// The column that a recipe is for, as lineage knew it.
fn shape_of(recipe: &Recipe) -> SealedShape {
    let mut parts = recipe.column_name.splitn(3, '.').map(str::to_owned);
    let mut next = || parts.next().unwrap_or_default();
    let column = Tagged {
        id: recipe.column,
        schema: next(),
        table: next(),
        name: next(),
        domain: recipe.domain.clone(),
        data_type: recipe.data_type,
        by_type: false,
        state: State::Sealed { version: recipe.version },
    };
    SealedShape {
        domain: recipe.domain.clone(),
        data_type: recipe.data_type,
        version: recipe.version,
        columns: vec![Arc::new(column)],
        proposed: false,
        shown: None,
    }
}

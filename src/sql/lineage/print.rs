//! The changed tree → the pieces to send: markers in the printed text become literal slots and parameter numbers.

use super::{Analyst, ParameterSlot, ParameterUse, Piece, Recipe};
use crate::sql::problem::{Problem, Trouble};
use sqlparser::ast::{
    self, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList, FunctionArguments, Ident,
    ObjectName, ObjectNamePart, Statement, Value,
};

/// A character that the client's text does not contain: it fences our marks in the printed statement.
#[derive(Clone, Copy)]
pub(super) struct Markers {
    fence: char,
}

/// What a mark stands for.
pub(super) enum Mark {
    Literal(usize),
    Parameter(usize),
    Deferred(usize),
}

impl Markers {
    pub(super) fn absent_from(text: &str) -> Markers {
        let fence = ('\u{E000}'..='\u{F8FF}').find(|c| !text.contains(*c));
        // A text with all 6,400 private-use characters in it would be longer than any that means something; a mark
        // that is not ours fails to parse as one, which refuses the statement.
        Markers { fence: fence.unwrap_or('\u{E000}') }
    }
    pub(super) fn literal(&self, slot: usize) -> String {
        format!("{0}L{slot}{0}", self.fence)
    }
    pub(super) fn parameter(&self, slot: usize) -> String {
        format!("{0}P{slot}{0}", self.fence)
    }
    pub(super) fn deferred(&self, slot: usize) -> String {
        format!("{0}D{slot}{0}", self.fence)
    }
    pub(super) fn read(&self, text: &str) -> Option<Mark> {
        let inner = text.strip_prefix(self.fence)?.strip_suffix(self.fence)?;
        Markers::read_inner(inner)
    }
    fn read_inner(inner: &str) -> Option<Mark> {
        let (kind, number) = inner.split_at_checked(1)?;
        let slot = number.parse().ok()?;
        match kind {
            "L" => Some(Mark::Literal(slot)),
            "P" => Some(Mark::Parameter(slot)),
            "D" => Some(Mark::Deferred(slot)),
            _ => None,
        }
    }
}

/// The sealed type of a recipe as an AST type: `pgveil.card`, `pgveil.email_1`.
pub(super) fn sealed_type(recipe: &Recipe) -> ast::DataType {
    let name = sealed_type_name(&recipe.domain.name, recipe.version);
    ast::DataType::Custom(ObjectName(vec![quoted("pgveil"), quoted(&name)]), vec![])
}

/// The type's name in schema `pgveil`: a deterministic domain's carries its key version.
pub(super) fn sealed_type_name(domain: &str, version: Option<u16>) -> String {
    match version {
        Some(version) => format!("{domain}_{version}"),
        None => domain.to_owned(),
    }
}

pub(super) fn quoted(name: &str) -> ObjectNamePart {
    ObjectNamePart::Identifier(Ident::with_quote('"', name))
}

/// `expr::data_type`.
pub(super) fn cast(expr: Expr, data_type: ast::DataType) -> Expr {
    Expr::Cast { kind: ast::CastKind::DoubleColon, expr: Box::new(expr), data_type, format: None }
}

/// `COALESCE (values)`.
pub(super) fn coalesce(values: Vec<Expr>) -> Expr {
    let args = values.into_iter().map(|value| FunctionArg::Unnamed(FunctionArgExpr::Expr(value))).collect();
    Expr::Function(Function {
        name: ObjectName(vec![ObjectNamePart::Identifier(Ident::new("COALESCE"))]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList {
            duplicate_treatment: None,
            args,
            clauses: vec![],
        }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: vec![],
    })
}

/// An SQL type by its text, as PostgreSQL spells it.
pub(super) fn type_by_text(text: &str) -> ast::DataType {
    ast::DataType::Custom(ObjectName(vec![ObjectNamePart::Identifier(Ident::new(text))]), vec![])
}

/// A name that prints as `text`: read again, it resolves to nothing tagged.
pub(super) fn verbatim_name(text: String) -> Expr {
    Expr::Identifier(Ident::new(text))
}

/// An expression that prints as `text`.
pub(super) fn verbatim(text: String) -> Expr {
    Expr::Value(Value::Placeholder(text).into())
}

impl Analyst<'_> {
    /// Prints `statement` and resolves the marks in it.
    pub(super) fn print(
        &self,
        statement: &Statement,
        declared: usize,
    ) -> Result<(Vec<Piece>, Vec<ParameterSlot>, usize), Problem> {
        let (parameters, numbers, client_parameters) = self.number_parameters(declared);
        let mut pieces = vec![];
        let mut text = String::new();
        self.resolve(&self.stand_ins.restore(statement.to_string()), &numbers, &mut pieces, &mut text)?;
        pieces.push(Piece::Text(text));
        Ok((pieces, parameters, client_parameters))
    }

    /// Appends `printed` to the pieces, and to the text that the next piece begins with.
    fn resolve(
        &self,
        printed: &str,
        numbers: &[usize],
        pieces: &mut Vec<Piece>,
        text: &mut String,
    ) -> Result<(), Problem> {
        for (index, part) in printed.split(self.markers.fence).enumerate() {
            if index % 2 == 0 {
                text.push_str(part);
                continue;
            }
            match Markers::read_inner(part) {
                Some(Mark::Literal(slot)) if slot < self.literals.len() => {
                    pieces.push(Piece::Text(std::mem::take(text)));
                    pieces.push(Piece::Literal(slot));
                }
                Some(Mark::Parameter(slot)) if slot < numbers.len() => {
                    text.push_str(&format!("${}", numbers[slot] + 1));
                }
                // What stands in it was there before it was deferred: no mark leads back to itself.
                Some(Mark::Deferred(slot)) if slot < self.deferred.len() => {
                    self.resolve(&self.deferred[slot].expr.to_string(), numbers, pieces, text)?;
                }
                _ => return Err(Problem::not_understood("this character sequence")),
            }
        }
        Ok(())
    }

    /// Gives every parameter use its server parameter: the first use of `$n` keeps `n`, another recipe for the same
    /// `$n` becomes a further parameter. The second result maps uses to zero-based server parameters.
    pub(super) fn number_parameters(&self, declared: usize) -> (Vec<ParameterSlot>, Vec<usize>, usize) {
        let used = self.parameters.iter().map(|(client, _)| client + 1).max().unwrap_or(0);
        let count = used.max(declared);
        let mut slots: Vec<ParameterSlot> =
            (0..count).map(|client| ParameterSlot { client, what: ParameterUse::Pass }).collect();
        let mut taken = vec![false; count];
        let mut numbers = vec![0; self.parameters.len()];
        let (tests, others): (Vec<usize>, Vec<usize>) =
            (0..self.parameters.len()).partition(|slot| self.null_tests.contains(slot));
        for index in others {
            let (client, what) = &self.parameters[index];
            let same = |slot: &ParameterSlot| slot.client == *client && slot.what == *what;
            let number = if !taken[*client] {
                taken[*client] = true;
                slots[*client].what = what.clone();
                *client
            } else if let Some(found) = slots.iter().position(same) {
                found
            } else {
                slots.push(ParameterSlot { client: *client, what: what.clone() });
                slots.len() - 1
            };
            numbers[index] = number;
        }
        // Sealed, wherever it is: a test for NULL tells the server nothing more.
        for index in tests {
            let (client, _) = self.parameters[index];
            let sealed = |slot: &ParameterSlot| slot.client == client && slot.what != ParameterUse::Pass;
            numbers[index] = slots.iter().position(sealed).unwrap_or(client);
        }
        (slots, numbers, count)
    }
}

/// A statement that PostgreSQL itself would refuse: the operand's type does not fit the column's.
pub(super) fn mismatch(left: &str, operator: &str, right: &str) -> Problem {
    Problem::new(Trouble::Mismatch, "42883", format!("operator does not exist: {left} {operator} {right}"))
        .hint("No operator matches the given name and argument types. You might need to add explicit type casts.")
}

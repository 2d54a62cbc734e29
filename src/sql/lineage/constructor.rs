//! The SQL/JSON constructors of PostgreSQL 16 and 17 (`JSON_OBJECT('a': x)`, `JSON_ARRAYAGG(x)`): documents, as those of
//! `json_build_object` and its like (`document.rs`), of the type that RETURNING says.
//!
//! `JSON_ARRAY` leaves NULLs out unless it is told otherwise (`ABSENT ON NULL`), which moves what follows: then it is only
//! understood where every element is a cell of one kind.

use super::document::{Document, Form, Maker};
use super::scope::{Out, Scope};
use super::{Analyst, Shape};
use crate::sql::problem::Problem;
use crate::sql::stand_in::Meaning;
use sqlparser::ast::{
    DuplicateTreatment, Expr, FunctionArg, FunctionArgExpr, FunctionArgOperator, FunctionArgumentClause,
    FunctionArgumentList, JsonNullClause, JsonReturningClause,
};
use std::rc::Rc;

/// A constructor, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Constructor {
    Object,
    ObjectOfRows,
    Array,
    ArrayOfRows,
    Scalar,
    Serialized,
}

/// To add a constructor: one line here, and a golden case.
const CONSTRUCTORS: &[(&str, Constructor)] = &[
    ("json_array", Constructor::Array),
    ("json_arrayagg", Constructor::ArrayOfRows),
    ("json_object", Constructor::Object),
    ("json_objectagg", Constructor::ObjectOfRows),
    ("json_scalar", Constructor::Scalar),
    ("json_serialize", Constructor::Serialized),
];

pub(super) fn constructor(function: &str, list: &FunctionArgumentList) -> Option<Constructor> {
    let found = CONSTRUCTORS.iter().find(|(name, _)| *name == function)?.1;
    // `json_object('{a, 1}')` is a function of arrays.
    let of_arrays = list.args.iter().any(|arg| matches!(arg, FunctionArg::Unnamed(_)));
    (found != Constructor::Object || !of_arrays).then_some(found)
}

/// How a constructor's call ends.
struct Clauses {
    absent: Option<bool>,
    /// `None`: a type that holds no document.
    form: Option<Form>,
}

impl Analyst<'_> {
    pub(super) fn constructed(
        &mut self,
        name: &str,
        constructor: Constructor,
        list: &mut FunctionArgumentList,
        scope: &Scope<'_>,
    ) -> Result<Shape, Problem> {
        let FunctionArgumentList { duplicate_treatment, args, clauses } = list;
        let own = if constructor == Constructor::Serialized { Form::Text } else { Form::Json };
        let clauses = self.clauses(name, clauses, own, scope)?;
        let mut operands: Vec<&mut Expr> = vec![];
        for arg in args.iter_mut() {
            match arg {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => operands.push(expr),
                FunctionArg::ExprNamed {
                    name,
                    arg: FunctionArgExpr::Expr(expr),
                    operator: FunctionArgOperator::Colon | FunctionArgOperator::Value,
                } => operands.extend([name, expr]),
                _ => return Err(Problem::not_understood(&format!("this argument of {name}"))),
            }
        }
        let mut shaped: Vec<(&Expr, Shape)> = vec![];
        for operand in operands {
            let shape = match self.expr(operand, scope)? {
                Shape::WholeRow(row) => self.whole_row(operand, row)?,
                shape => shape,
            };
            shaped.push((&*operand, shape));
        }
        let Some(form) = clauses.form else {
            let construct = format!("{name} of this type");
            shaped.iter().try_for_each(|(_, shape)| self.refuse_sealed(shape, &construct, None))?;
            return Ok(Shape::Plain);
        };
        let distinct = matches!(duplicate_treatment, Some(DuplicateTreatment::Distinct));
        let maker = match constructor {
            Constructor::Object => Maker::Object,
            Constructor::ObjectOfRows => Maker::Map,
            Constructor::ArrayOfRows => Maker::Each,
            Constructor::Array if clauses.absent == Some(false) => Maker::Array,
            Constructor::Array => return self.packed(name, form, &shaped),
            Constructor::Scalar => match shaped.as_slice() {
                [(_, Shape::Sealed(_))] => Maker::Of,
                _ => {
                    shaped.iter().try_for_each(|(_, shape)| {
                        self.refuse_sealed(shape, &format!("function {name}"), None)
                    })?;
                    return Ok(Shape::Plain);
                }
            },
            Constructor::Serialized => return self.serialized(name, form, &shaped),
        };
        self.made_document(name, (maker, form), &shaped, distinct)
    }

    fn clauses(
        &mut self,
        name: &str,
        clauses: &mut [FunctionArgumentClause],
        own: Form,
        scope: &Scope<'_>,
    ) -> Result<Clauses, Problem> {
        let mut found = Clauses { absent: None, form: Some(own) };
        for clause in clauses {
            match clause {
                FunctionArgumentClause::OrderBy(keys) => {
                    keys.iter_mut().try_for_each(|key| self.order_key(key, scope))?;
                }
                FunctionArgumentClause::JsonNullClause(JsonNullClause::NullOnNull) => {
                    found.absent = Some(false)
                }
                FunctionArgumentClause::JsonNullClause(JsonNullClause::AbsentOnNull) => {
                    found.absent = Some(true)
                }
                FunctionArgumentClause::JsonReturningClause(JsonReturningClause { data_type }) => {
                    found.form = form(&data_type.to_string());
                }
                FunctionArgumentClause::Limit(Expr::Identifier(marker)) => match self
                    .stand_ins
                    .meaning(&marker.value)
                {
                    Some(Meaning::JsonClauses { returning: None }) => {}
                    Some(Meaning::JsonClauses { returning: Some(data_type) }) => found.form = form(data_type),
                    _ => return Err(Problem::not_understood(&format!("a clause in the call of {name}"))),
                },
                _ => return Err(Problem::not_understood(&format!("a clause in the call of {name}"))),
            }
        }
        Ok(found)
    }

    /// `JSON_ARRAY(a, b)`, from which NULLs are missing.
    fn packed(&mut self, name: &str, form: Form, operands: &[(&Expr, Shape)]) -> Result<Shape, Problem> {
        let mut united = None;
        for (_, shape) in operands {
            united = match (united, shape) {
                (None, Shape::Sealed(sealed)) => Some(sealed.clone()),
                (Some(before), Shape::Sealed(sealed)) if before.shown() == sealed.shown() => {
                    Some(self.unite_sealed(before, sealed.clone(), name)?)
                }
                _ => {
                    let construct = format!("{name} without NULL ON NULL");
                    operands.iter().try_for_each(|(_, shape)| self.refuse_sealed(shape, &construct, None))?;
                    return Ok(Shape::Plain);
                }
            };
        }
        let Some(sealed) = united else { return Ok(Shape::Plain) };
        Ok(Shape::Document(Rc::new(Document::each_cell(form, sealed)?)))
    }

    /// `JSON_SERIALIZE(document)`.
    fn serialized(&mut self, name: &str, form: Form, operands: &[(&Expr, Shape)]) -> Result<Shape, Problem> {
        if let ([(_, Shape::Document(document))], Form::Text) = (operands, form)
            && let Some(text) = document.cast(Some(crate::value::DataType::Text))?
            && document.is_json()
        {
            return Ok(Shape::Document(Rc::new(text)));
        }
        operands
            .iter()
            .try_for_each(|(_, shape)| self.refuse_sealed(shape, &format!("function {name}"), None))?;
        Ok(Shape::Plain)
    }

    /// `JSON_ARRAY(SELECT x …)` is `JSON_ARRAYAGG(x)` of the query.
    pub(super) fn array_of_query(&mut self, outputs: &[Out]) -> Result<Shape, Problem> {
        let placeholder = Expr::Identifier(sqlparser::ast::Ident::new(""));
        let shaped: Vec<(&Expr, Shape)> =
            outputs.iter().map(|out| (&placeholder, out.shape.clone())).collect();
        self.made_document("json_array", (Maker::Each, Form::Json), &shaped, false)
    }
}

/// The document that a value of this type is.
fn form(data_type: &str) -> Option<Form> {
    match data_type.to_ascii_lowercase().as_str() {
        "json" => Some(Form::Json),
        "jsonb" => Some(Form::Jsonb),
        "text" | "varchar" | "character varying" => Some(Form::Text),
        _ => None,
    }
}

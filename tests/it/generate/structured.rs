//! Whole rows, arrays and documents, and what is taken out of them again.

use super::{Generator, Scope, Type};
use crate::shop::Kind;

impl Generator {
    /// Of types that are no columns' any more: nothing is built on them.
    pub(super) fn structured(&mut self, scope: &Scope, column: String, of: Type) -> (String, Type) {
        let json = Type::plain(Kind::Json);
        let whole = scope.sources.iter().map(|source| source.alias.clone()).collect::<Vec<_>>();
        if self.depth > 0 || whole.is_empty() {
            return (column, of);
        }
        let whole = self.pick(&whole).clone();
        let (construct, text) = match self.below(26) {
            0 => ("json_build_object", format!("json_build_object('k', {column}, 'n', 1)")),
            1 => ("to_jsonb of a row", format!("to_jsonb({whole})")),
            2 => ("row_to_json", format!("row_to_json({whole})")),
            3 => ("ARRAY of columns", format!("array[{column}]")),
            4 | 24 => ("whole row", whole),
            5 => ("row of columns", format!("row({column}, 1)")),
            6 => ("to_json of a column", format!("to_json({column})")),
            7 => ("jsonb_build_array", format!("jsonb_build_array({column}, null)")),
            8 => ("row of a whole row", format!("row({whole}.*)")),
            9 => {
                ("whole row IS NULL", format!("{whole} is {}null", if self.chance(50) { "not " } else { "" }))
            }
            10 => ("member of a document", format!("json_build_object('k', {column}, 'n', 1) -> 'k'")),
            11 => ("document without a member", format!("to_jsonb({whole}) - 'id'")),
            12 => (
                "documents joined",
                format!("jsonb_build_object('k', 1) || jsonb_build_object('l', {column})"),
            ),
            13 => ("document as text", format!("row_to_json({whole})::text")),
            14 => (
                "jsonb_build_object of rows",
                format!("jsonb_build_object('row', {whole}, 'also', {column})"),
            ),
            15 => ("json_build_array of a row", format!("json_build_array({whole}, {column})")),
            16 => ("to_jsonb of an array", format!("to_jsonb(array[{column}, {column}])")),
            17 => ("array_remove", format!("array_remove(array[{column}, null], null)")),
            18 => ("row in a row", format!("row(1, row({column}, 'x y'), array[{column}])")),
            19 => ("array of rows", format!("array(select row({column}, 1))")),
            20 => (
                "array of rows of rows",
                format!("array(select row(row({column}), null) union all select null)"),
            ),
            21 => (
                "whole row in a row",
                format!("row({column}, (select x from (select {column} as a, 1 as b) x))"),
            ),
            22 => ("element of rows", format!("(array(select row({column}, 'z')))[1]")),
            23 => ("JSON of rows", format!("to_json(array(select row({column}, 1)))")),
            _ => ("pg_typeof", format!("pg_typeof({column})")),
        };
        self.uses(construct);
        (text, json)
    }

    /// A value by way of a row or an array: it has the type that it had.
    pub(super) fn taken_out(&mut self, scope: &Scope, column: String, of: Type) -> (String, Type) {
        match self.below(4) {
            0 => {
                self.uses("subscript");
                let other = self.alike(scope, of);
                (format!("(array[{column}, {other}])[{}]", self.below(3)), of)
            }
            1 => {
                self.uses("slice");
                (format!("((array[{column}, {column}])[2:])[1]"), of)
            }
            _ => {
                let columns = scope.sources.iter().flat_map(|source| {
                    source.columns.iter().map(|column| (source.alias.clone(), column.clone()))
                });
                let columns: Vec<_> = columns.filter(|(_, column)| !column.name.is_empty()).collect();
                if columns.is_empty() {
                    return (column, of);
                }
                self.uses("field of a row");
                let (alias, field) = self.pick(&columns).clone();
                (format!("({alias}).{}", field.name), Type::of(&field))
            }
        }
    }
}

//! Tables made from queries or after other tables: CREATE TABLE AS, SELECT INTO, CREATE TABLE (LIKE …).
//!
//! The new table's columns are targets like those of an INSERT: a tagged one takes what its tag says. One without a tag
//! takes sealed cells, too, for their type comes with them, and the catalog goes by it; values in clear it does not.

use super::assign::{Target, assigned};
use super::print::{cast, quoted, sealed_type};
use super::relation::quoted_ident;
use super::scope::{Ctes, Found, Out, fold, parts};
use super::{Analyst, SealedShape, Shape};
use crate::catalog::{Relation, Tag};
use crate::sql::problem::Problem;
use sqlparser::ast::helpers::stmt_create_table::CreateTableBuilder;
use sqlparser::ast::{
    CreateTable, Expr, ObjectName, ObjectNamePart, Query, SelectInto, SelectItem, SetExpr, Statement, Values,
};
use std::sync::Arc;

/// Where a new table will be, and the tags that wait for it there.
pub(super) struct NewTable {
    pub(super) schema: String,
    pub(super) table: String,
    pub(super) tags: Vec<Tag>,
}

impl Analyst<'_> {
    /// Nothing waits for a temporary table: tags name schemas, and it is in one of its session's own.
    pub(super) fn new_table(&self, names: &[String], temporary: bool) -> Result<NewTable, Problem> {
        let table = names.last().cloned().unwrap_or_default();
        if temporary {
            if self.context.catalog.names_tagged_relation(&table) {
                return Err(Problem::not_understood("a temporary table with the name of a tagged table"));
            }
            return Ok(NewTable { schema: "pg_temp".to_owned(), table, tags: vec![] });
        }
        let schema = match names {
            [_, schema, _] | [schema, _] => schema.clone(),
            // Nowhere to create it: the server will say so.
            _ => self.creation_schema().unwrap_or_default(),
        };
        let tags =
            self.context.catalog.tags.get(&(schema.clone(), table.clone())).cloned().unwrap_or_default();
        Ok(NewTable { schema, table, tags })
    }

    pub(super) fn create_table_as(&mut self, create: &mut CreateTable) -> Result<(), Problem> {
        let new = self.new_table(&parts(&create.name)?, create.temporary)?;
        let listed: Vec<String> = create.columns.iter().map(|column| fold(&column.name)).collect();
        let Some(query) = create.query.as_mut() else {
            return Err(Problem::not_understood("CREATE TABLE AS without a query"));
        };
        // Read once for the names of its columns, then with what they are assigned to.
        let outputs = self.dry(|analyst| analyst.query(&mut query.clone(), None, &Ctes::default(), None))?;
        let targets = self.targets_of(&new, &outputs, &listed)?;
        let outputs = self.query(query, None, &Ctes::default(), Some(&targets))?;
        bring_types(&mut query.body, &outputs);
        if !new.tags.is_empty() {
            self.touched = true;
            create.name = ObjectName(vec![quoted(&new.schema), quoted(&new.table)]);
        }
        Ok(())
    }

    fn targets_of(
        &mut self,
        new: &NewTable,
        outputs: &[Out],
        listed: &[String],
    ) -> Result<Vec<Target>, Problem> {
        let mut targets = vec![];
        for (index, out) in outputs.iter().enumerate() {
            let name = listed.get(index).or(out.name.as_ref());
            let Some(name) = name else {
                if !new.tags.is_empty() {
                    return Err(Problem::not_understood("a column without a certain name in a new table")
                        .hint("Give it a name with AS."));
                }
                targets.push(Self::made(new, "?column?"));
                continue;
            };
            targets.push(match new.tags.iter().find(|tag| tag.column == *name) {
                Some(tag) => {
                    let shape = self.tagged_column(tag, &new.schema, &new.table)?;
                    Target::of(&Out::named(name, shape))
                }
                None => Self::made(new, name),
            });
        }
        Ok(targets)
    }

    fn made(new: &NewTable, name: &str) -> Target {
        Target::New { schema: new.schema.clone(), table: new.table.clone(), name: name.to_owned() }
    }

    /// The columns that `LIKE name` gives to `new`, whose tags must be those of the old columns.
    pub(super) fn like(
        &mut self,
        name: &ObjectName,
        new: &NewTable,
    ) -> Result<(Arc<Relation>, Vec<Out>), Problem> {
        let Found::Relation(old) = self.find_relation(name, &Ctes::default())? else {
            return Err(Problem::unresolved(&parts(name)?.join(".")));
        };
        let columns = self.relation_columns(&old)?;
        for out in &columns {
            let column = out.name.as_deref().unwrap_or_default();
            let tag = new.tags.iter().find(|tag| tag.column == column);
            let agree = match (&out.shape, tag) {
                (Shape::Sealed(sealed), Some(tag)) => sealed.domain.name == tag.domain.name,
                (Shape::Clear(tagged), Some(tag)) => tagged.domain.name == tag.domain.name,
                (Shape::Clear(_), None) => false,
                (_, tag) => tag.is_none(),
            };
            if !agree {
                return Err(Problem::not_understood(&format!(
                    "CREATE TABLE … LIKE a table whose column {column} has another tag"
                ))
                .hint("Tag the new table's columns with the same domains first, or write the columns out."));
            }
        }
        Ok((old, columns))
    }
}

/// Casts what is sealed to its type: of an expression (`CASE WHEN b THEN email END`) the server keeps only that it is bytea, and
/// nothing would tell that the new column (of a table or a view) holds cells.
pub(super) fn bring_types(body: &mut SetExpr, outputs: &[Out]) {
    match body {
        SetExpr::Select(select) => {
            for (item, out) in select.projection.iter_mut().zip(outputs) {
                let Shape::Sealed(sealed) = &out.shape else { continue };
                let typed = |expr: &Expr| typed(expr, sealed);
                *item = match item {
                    // A column keeps its name through a cast.
                    SelectItem::UnnamedExpr(expr @ (Expr::Identifier(_) | Expr::CompoundIdentifier(_))) => {
                        SelectItem::UnnamedExpr(typed(expr))
                    }
                    SelectItem::UnnamedExpr(expr) => {
                        let alias = quoted_ident(out.name.as_deref().unwrap_or("?column?"));
                        SelectItem::ExprWithAlias { expr: typed(expr), alias }
                    }
                    SelectItem::ExprWithAlias { expr, alias } => {
                        SelectItem::ExprWithAlias { expr: typed(expr), alias: alias.clone() }
                    }
                    // Of functions, which return no cells.
                    SelectItem::ExprWithAliases { .. }
                    | SelectItem::Wildcard(_)
                    | SelectItem::QualifiedWildcard(..) => continue,
                };
            }
        }
        SetExpr::SetOperation { op: _, set_quantifier: _, left, right } => {
            bring_types(left, outputs);
            bring_types(right, outputs);
        }
        SetExpr::Query(query) => bring_types(&mut query.body, outputs),
        SetExpr::Values(Values { explicit_row: _, value_keyword: _, rows }) => {
            for row in rows {
                for (expr, out) in row.content.iter_mut().zip(outputs) {
                    if let Shape::Sealed(sealed) = &out.shape {
                        *expr = typed(expr, sealed);
                    }
                }
            }
        }
        SetExpr::Insert(_)
        | SetExpr::Update(_)
        | SetExpr::Delete(_)
        | SetExpr::Merge(_)
        | SetExpr::Table(_) => {}
    }
}

fn typed(expr: &Expr, sealed: &SealedShape) -> Expr {
    let own = sealed_type(&assigned(sealed));
    match expr {
        // A constant has it already.
        Expr::Cast { data_type, .. } if *data_type == own => expr.clone(),
        _ => cast(expr.clone(), own),
    }
}

/// `SELECT … INTO t …` as the CREATE TABLE AS that it is (`parse_analyze` does the same, `transformSelectStmt`).
///
/// # Errors
/// Another form of INTO than a table's name.
pub(super) fn without_into(statement: &mut Statement) -> Result<(), Problem> {
    let Statement::Query(query) = statement else { return Ok(()) };
    let Some(into) = take_into(query) else { return Ok(()) };
    let SelectInto { temporary, unlogged, table: _, targets } = into;
    let name = match targets.as_slice() {
        [Expr::Identifier(ident)] => ObjectName(vec![ObjectNamePart::Identifier(ident.clone())]),
        [Expr::CompoundIdentifier(path)] => {
            ObjectName(path.iter().cloned().map(ObjectNamePart::Identifier).collect())
        }
        _ => return Err(Problem::not_understood("this form of SELECT INTO")),
    };
    let create = CreateTableBuilder::new(name)
        .temporary(temporary)
        .unlogged(unlogged)
        .query(Some(query.clone()))
        .build();
    *statement = Statement::CreateTable(create);
    Ok(())
}

fn take_into(query: &mut Query) -> Option<SelectInto> {
    let mut body = &mut *query.body;
    loop {
        match body {
            SetExpr::Select(select) => return select.into.take(),
            SetExpr::SetOperation { left, .. } => body = left,
            _ => return None,
        }
    }
}

//! CREATE TABLE, CREATE INDEX and CREATE VIEW: tagged columns get the sealed type, and only what ciphertext can serve.

use super::assign::{Target, assigned};
use super::compare::is_null;
use super::naming::output_name;
use super::print::{quoted, sealed_type};
use super::scope::{Ctes, Entry, Found, Out, Scope, fold, parts, span_of};
use super::table_as::{NewTable, bring_types};
use super::{Analyst, SealedShape, Shape, Tagged, logical};
use crate::catalog::{ColumnId, Seal, State, Tag};
use crate::sql::problem::{Problem, Trouble};
use sqlparser::ast::{
    CheckConstraint, ColumnDef, ColumnOption, CreateIndex, CreateTable, CreateView, Expr,
    ForeignKeyConstraint, IndexColumn, IndexType, ObjectName, OrderByExpr, TableConstraint,
};
use std::sync::Arc;

/// Operator classes of text that order it by bytes, or as it is ordered without one (`indxpath.c`, "Operator Classes").
const TEXT_CLASSES: [&str; 6] = [
    "bpchar_pattern_ops",
    "text_ops",
    "text_pattern_ops",
    "varchar_ops",
    "varchar_pattern_ops",
    "bpchar_ops",
];

impl Analyst<'_> {
    pub(super) fn create_table(&mut self, create: &mut CreateTable) -> Result<(), Problem> {
        let names = parts(&create.name)?;
        if names.is_empty() || create.clone.is_some() || create.like.is_some() {
            return Err(Problem::not_understood("this form of CREATE TABLE"));
        }
        if create.query.is_some() {
            return self.create_table_as(create);
        }
        let new = self.new_table(&names, create.temporary)?;
        for parent in create.inherits.iter_mut().flatten().chain(create.partition_of.as_mut()) {
            self.parent(parent)?;
        }
        let mut columns = vec![];
        let mut defined = vec![];
        for (index, column) in create.columns.iter().enumerate() {
            match self.liked(column, &new)? {
                Some(old) => columns.extend(old),
                None => {
                    columns.push(self.defined_column(column, &new.tags, &new.schema, &new.table)?);
                    defined.push((index, columns.len() - 1));
                }
            }
        }
        let NewTable { schema, table, tags } = new;
        if tags.is_empty() {
            return Ok(());
        }
        self.touched = true;
        create.name = ObjectName(vec![quoted(&schema), quoted(&table)]);
        let entry =
            Entry { alias: table, schema: Some(schema), columns, complete: true, row: None, table: false };
        let scope = Scope { entries: vec![entry], ..Scope::default() };
        for (column, at) in defined {
            let shape = scope.entries[0].columns[at].shape.clone();
            self.column_definition(&mut create.columns[column], &shape, &scope)?;
        }
        create.constraints.iter_mut().try_for_each(|constraint| self.table_constraint(constraint, &scope))
    }

    /// The columns that a `LIKE t INCLUDING …` among the others stands for; `None` when it is a column.
    fn liked(&mut self, column: &ColumnDef, new: &NewTable) -> Result<Option<Vec<Out>>, Problem> {
        let marker = &column.name.value;
        let Some(like) = self.stand_ins.like(marker) else { return Ok(None) };
        let name = ObjectName(like.name.iter().map(|part| quoted(part)).collect());
        let (old, columns) = self.like(&name, new)?;
        let table = ObjectName(vec![quoted(&old.schema), quoted(&old.name)]);
        self.stand_ins.qualify_like(marker, &table.to_string());
        Ok(Some(columns))
    }

    /// Where an unqualified CREATE puts its object: the first schema of the path that is neither implicit.
    pub(super) fn creation_schema(&self) -> Option<String> {
        let implicit = |schema: &&String| schema.as_str() == "pg_catalog" || schema.starts_with("pg_temp");
        self.context.path.iter().find(|schema| !implicit(schema)).cloned()
    }

    /// A tagged parent or partitioned table: its children have its types, and inherit its tags.
    fn parent(&mut self, name: &mut ObjectName) -> Result<(), Problem> {
        if let Found::Relation(relation) = self.find_relation(name, &Ctes::default())?
            && relation.is_tagged()
        {
            self.touched = true;
            *name = ObjectName(vec![quoted(&relation.schema), quoted(&relation.name)]);
        }
        Ok(())
    }

    /// The shape that a column of a new table will have.
    pub(super) fn defined_column(
        &mut self,
        column: &ColumnDef,
        tags: &[Tag],
        schema: &str,
        table: &str,
    ) -> Result<Out, Problem> {
        let name = fold(&column.name);
        let Some(tag) = tags.iter().find(|tag| tag.column == name) else {
            return Ok(Out::named(&name, Shape::Plain));
        };
        let declared = logical(&column.data_type);
        if declared != Some(tag.data_type) {
            return Err(Problem::new(
                Trouble::SealedUse,
                "0A000",
                format!(
                    "column {name} of table {table} is tagged as {}, but defined otherwise",
                    tag.data_type.sql()
                ),
            )
            .hint("Define it with the tag's type, or give it a type of its own in tags.toml.")
            .at(self.at(column.name.span)));
        }
        Ok(Out::named(&name, self.tagged_column(tag, schema, table)?))
    }

    /// The shape of a tagged column that does not exist yet.
    pub(super) fn tagged_column(&self, tag: &Tag, schema: &str, table: &str) -> Result<Shape, Problem> {
        let tagged = |state| {
            Arc::new(Tagged {
                id: ColumnId { relation: 0, number: 0 },
                schema: schema.to_owned(),
                table: table.to_owned(),
                name: tag.column.clone(),
                domain: tag.domain.clone(),
                data_type: tag.data_type,
                by_type: false,
                state,
            })
        };
        if tag.domain.seal == Seal::None {
            return Ok(Shape::Clear(tagged(State::Clear)));
        }
        let Some(sealed) = self.context.catalog.sealed_type(&tag.domain.name) else {
            return Err(Problem::new(
                Trouble::Broken,
                "55000",
                format!("the database has no sealed type for domain \"{}\"", tag.domain.name),
            )
            .hint("Run \"pgveil init\" against this database."));
        };
        let shape = SealedShape {
            domain: tag.domain.clone(),
            data_type: tag.data_type,
            shown: None,
            version: sealed.version,
            columns: vec![tagged(State::Sealed { version: sealed.version })],
            proposed: false,
        };
        Ok(Shape::Sealed(shape))
    }

    /// Gives a column its sealed type, and holds its options to what ciphertext can serve.
    pub(super) fn column_definition(
        &mut self,
        column: &mut ColumnDef,
        shape: &Shape,
        scope: &Scope<'_>,
    ) -> Result<(), Problem> {
        let ColumnDef { name, data_type, options } = column;
        let at = self.at(name.span);
        if let Shape::Sealed(sealed) = shape {
            *data_type = sealed_type(&assigned(sealed));
            // Of a domain PostgreSQL would keep it, and show it, though it says nothing.
            options.retain(
                |option| !matches!(&option.option, ColumnOption::Default(default) if is_null(default)),
            );
        }
        for option in options {
            self.column_option(&mut option.option, shape, scope).map_err(|problem| problem.at(at))?;
        }
        Ok(())
    }

    fn column_option(
        &mut self,
        option: &mut ColumnOption,
        shape: &Shape,
        scope: &Scope<'_>,
    ) -> Result<(), Problem> {
        let Shape::Sealed(sealed) = shape else {
            return match option {
                ColumnOption::Check(CheckConstraint { expr, .. }) => self.condition(expr, scope, "CHECK"),
                ColumnOption::Generated { generation_expr: Some(expr), .. } => {
                    self.assign(expr, &Target::Plain, scope).map(|_| ())
                }
                _ => Ok(()),
            };
        };
        match option {
            ColumnOption::Null | ColumnOption::NotNull => Ok(()),
            ColumnOption::Default(expr) => self.default(expr, sealed, scope),
            ColumnOption::PrimaryKey(_) => self.compared_column(shape, "PRIMARY KEY"),
            ColumnOption::Unique(_) => self.compared_column(shape, "UNIQUE"),
            ColumnOption::ForeignKey(ForeignKeyConstraint { foreign_table, .. }) => {
                self.parent(foreign_table)?;
                self.compared_column(shape, "REFERENCES")
            }
            ColumnOption::Check(CheckConstraint { expr, .. }) => self.condition(expr, scope, "CHECK"),
            other => Err(Problem::sealed_use(
                sealed.column(),
                &format!("column option {}", super::variant_name(other)),
            )),
        }
    }

    /// A default of a sealed column: a constant, sealed now.
    pub(super) fn default(
        &mut self,
        expr: &mut Expr,
        sealed: &SealedShape,
        scope: &Scope<'_>,
    ) -> Result<(), Problem> {
        match self.expr(expr, scope)? {
            Shape::Adaptable => self.seal(expr, assigned(sealed), sealed, false),
            _ => Err(Problem::sealed_use(sealed.column(), "a computed DEFAULT").hint("Use a constant.")),
        }
    }

    /// A constraint or index compares: only a deterministic domain can serve it. Definitions are not uses of a value.
    fn compared_column(&mut self, shape: &Shape, construct: &str) -> Result<(), Problem> {
        match shape {
            Shape::Sealed(sealed) if !sealed.deterministic() => {
                Err(Problem::sealed_use(sealed.column(), construct))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn table_constraint(
        &mut self,
        constraint: &mut TableConstraint,
        scope: &Scope<'_>,
    ) -> Result<(), Problem> {
        match constraint {
            TableConstraint::Unique(unique) => self.index_columns(&mut unique.columns, scope, "UNIQUE"),
            TableConstraint::PrimaryKey(primary) => {
                self.index_columns(&mut primary.columns, scope, "PRIMARY KEY")
            }
            TableConstraint::ForeignKey(foreign) => {
                self.parent(&mut foreign.foreign_table)?;
                for column in &foreign.columns {
                    let shape = self.expr(&mut Expr::Identifier(column.clone()), scope)?;
                    self.compared_column(&shape, "FOREIGN KEY")?;
                }
                Ok(())
            }
            TableConstraint::Check(CheckConstraint { expr, .. }) => self.condition(expr, scope, "CHECK"),
            TableConstraint::PrimaryKeyUsingIndex(_) | TableConstraint::UniqueUsingIndex(_) => Ok(()),
            other => Err(Problem::not_understood(&format!("constraint {}", super::variant_name(other)))),
        }
    }

    fn index_columns(
        &mut self,
        columns: &mut [IndexColumn],
        scope: &Scope<'_>,
        construct: &str,
    ) -> Result<(), Problem> {
        for IndexColumn { column: OrderByExpr { expr, options: _, with_fill: _ }, operator_class } in columns
        {
            let name = output_name(expr).unwrap_or_default();
            let bare = matches!(expr, Expr::Identifier(_));
            let shape = self.expr(expr, scope)?;
            if bare {
                self.compared_column(&shape, construct)?;
            } else {
                self.refuse_sealed(&shape, &format!("{construct} on an expression"), None)?;
            }
            if let (Shape::Sealed(_), Some(class)) = (&shape, &*operator_class)
                && parts(class)?.last().is_some_and(|class| TEXT_CLASSES.contains(&class.as_str()))
            {
                // Made for LIKE, which ciphertext cannot serve; equality it serves like any other index.
                *operator_class = None;
            }
            if let (Shape::Sealed(sealed), Some(_)) = (&shape, operator_class) {
                return Err(Problem::sealed_use(
                    sealed.column(),
                    &format!("an operator class for {name} in {construct}"),
                ));
            }
        }
        Ok(())
    }

    pub(super) fn create_index(&mut self, create: &mut CreateIndex) -> Result<(), Problem> {
        let CreateIndex {
            name: _,
            table_name,
            using,
            columns,
            unique: _,
            concurrently: _,
            r#async: _,
            if_not_exists: _,
            include: _,
            nulls_distinct: _,
            with: _,
            predicate,
            index_options: _,
            alter_options: _,
        } = create;
        let scope = self.table_scope(table_name)?;
        let sealed_key = columns.iter().any(|column| {
            matches!(&column.column.expr, Expr::Identifier(ident) if scope.entries[0].columns.iter().any(|out| {
                out.name.as_deref() == Some(fold(ident).as_str()) && matches!(out.shape, Shape::Sealed(_))
            }))
        });
        if sealed_key && !matches!(using, None | Some(IndexType::BTree | IndexType::Hash)) {
            return Err(Problem::not_understood("an index of this kind on a sealed column")
                .hint("Use btree or hash."));
        }
        self.kept += 1;
        let made = self.index_columns(columns, &scope, "an index").and_then(|()| match predicate {
            Some(predicate) => self.condition(predicate, &scope, "WHERE"),
            None => Ok(()),
        });
        self.kept -= 1;
        made
    }

    /// The columns of an existing table, printed qualified.
    pub(super) fn table_scope(&mut self, name: &mut ObjectName) -> Result<Scope<'static>, Problem> {
        let at = self.at(span_of(name));
        match self.find_relation(name, &Ctes::default())? {
            Found::Relation(relation) => {
                let columns = self.relation_columns(&relation)?;
                *name = ObjectName(vec![quoted(&relation.schema), quoted(&relation.name)]);
                let alias = relation.name.clone();
                let entry = Entry {
                    alias,
                    schema: Some(relation.schema.clone()),
                    columns,
                    complete: true,
                    row: None,
                    table: false,
                };
                Ok(Scope { entries: vec![entry], ..Scope::default() })
            }
            Found::Cte(_) | Found::Unknown => Err(Problem::unresolved(&parts(name)?.join(".")).at(at)),
        }
    }

    /// A view moves what its query moves. Its constants are sealed now, and whoever reads it compares with them.
    pub(super) fn create_view(&mut self, create: &mut CreateView) -> Result<(), Problem> {
        let names = parts(&create.name)?;
        if names.last().is_some_and(|name| self.context.catalog.names_tagged_relation(name)) {
            return Err(Problem::not_understood("a view with the name of a tagged table"));
        }
        self.in_view += 1;
        self.defines_view = true;
        let outputs = self.query(&mut create.query, None, &Ctes::default(), None);
        self.in_view -= 1;
        let outputs = outputs?;
        for out in &outputs {
            if create.materialized && matches!(out.shape, Shape::Clear(_)) {
                return Err(Problem::not_understood("a materialized copy of a column stored in clear"));
            }
            if let Shape::WholeRow(row) = &out.shape {
                return Err(Problem::whole_row(&row.name));
            }
        }
        // So that the catalog can say what the view's columns are to its readers.
        bring_types(&mut create.query.body, &outputs);
        Ok(())
    }
}

//! What a statement means for tagged columns: which are used and how, which literals and parameters meet them, what
//! the result shows of them, and the statement to send instead.
//!
//! A statement is typed by the three powers of sealing (move, compare, test), as an SQL type checker would: every
//! expression has a [`Shape`], and an arm that does not know what an expression does with a shape refuses it. The tree
//! is changed on the way (relations qualified, literals and parameters that meet a tagged column marked and cast) and
//! printed once at the end, so that what was checked is what is sent.
//!
//! Invariant: a wildcard arm in this module may only refuse; AST structs are destructured without `..`.
//! Deliberately absent: policy (guards arrive as text), keys, values, the wire.

mod alter;
mod assign;
mod attached;
mod compare;
mod constructor;
pub(super) mod copy;
mod create;
mod deferred;
mod dml;
mod document;
mod expression;
mod function;
pub(super) mod introspect;
mod join;
mod keyed;
mod merge;
mod merging;
mod named;
mod naming;
mod parameter;
pub(super) mod person;
mod print;
mod query;
mod recode;
mod relation;
mod result;
mod row;
mod scope;
mod table_as;
mod view;
mod window;

use super::copy::CopyOptions;
use super::kinds;
use super::parse::Parsed;
use super::problem::Problem;
use super::shape::Lines;
use super::stand_in::StandIns;
use crate::catalog::{Action, ByLabel, Catalog, ColumnId, Domain, Seal, SealedDefault, State};
use crate::value::DataType;
use person::origins;
use print::Markers;
use sqlparser::ast::{self, Statement};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;
use std::sync::Arc;

pub use named::{Definition, Known, NO_NAMES, NameKind, Named, Ours};
pub(super) use named::{analyse_execute, fetched, renamed};
pub use person::{PersonKey, PersonSlot, Persons};
pub use result::{
    CopyColumn, CopyQuery, CopyRows, Effects, Lineage, LiteralSlot, Node, Opened, OpenedDefault,
    OpenedDocument, Output, ParameterSlot, ParameterUse, Piece, Recipe, Recode, Use, UseDomain,
};

/// Gives the expression that stands for a clear tagged column (printed as the second argument), `None` when it is
/// shown in clear. An error names why the mask cannot be expressed.
pub type Guard<'a> = dyn Fn(ColumnId, &str) -> Option<String> + 'a;

/// What the analysis may see.
pub struct Context<'a> {
    pub catalog: &'a Catalog,
    /// `current_schemas(true)`.
    pub path: &'a [String],
    pub guard: &'a Guard<'a>,
    pub named: &'a Named,
    /// Defaults of sealed columns that are to be shown as what they mean.
    pub defaults: &'a [&'a SealedDefault],
}

/// A tagged column where it is referred to.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Tagged {
    id: ColumnId,
    schema: String,
    table: String,
    name: String,
    domain: Arc<Domain>,
    data_type: DataType,
    /// Nobody tagged it: its type is a sealed one.
    by_type: bool,
    state: State,
}

impl Tagged {
    fn column_name(&self) -> String {
        format!("{}.{}.{}", self.schema, self.table, self.name)
    }
    pub(super) fn name(&self) -> &str {
        &self.name
    }
    pub(super) fn table(&self) -> &str {
        &self.table
    }
    pub(super) fn domain(&self) -> &Domain {
        &self.domain
    }
}

/// What an expression yields, as far as tagged columns go.
#[derive(Clone, Debug)]
pub(super) enum Shape {
    /// Nothing tagged (or computed from clear tagged columns, whose reads are recorded).
    Plain,
    /// A literal, NULL or a parameter: takes the form of what it meets.
    Adaptable,
    /// Constants of another select list: they take the form of what their column meets.
    Deferred(Rc<Vec<usize>>),
    /// Cells of one sealed domain.
    Sealed(SealedShape),
    /// The value of one clear tagged column, as it is.
    Clear(Arc<Tagged>),
    /// A row value.
    Row(Vec<Shape>),
    /// A whole row that has tagged columns.
    WholeRow(Rc<scope::WholeRow>),
    /// An array of cells of one sealed domain.
    Array(SealedShape),
    /// An array of rows with tagged columns, each of this shape.
    Rows(Rc<Shape>),
    /// JSON with sealed cells in it.
    Document(Rc<document::Document>),
    /// A column's default as PostgreSQL prints it (or its node tree): a plain text, but for how it is shown.
    Default,
}

#[derive(Clone, Debug)]
pub(super) struct SealedShape {
    domain: Arc<Domain>,
    /// What every value of it fits.
    data_type: DataType,
    /// The type that the expression has, where that is not `data_type`: most have no length or scale of their own.
    shown: Option<DataType>,
    version: Option<u16>,
    /// Where the cells may come from: at least one.
    columns: Vec<Arc<Tagged>>,
    /// `EXCLUDED.col`: what the writer itself proposed; moving it needs no read.
    proposed: bool,
}

impl SealedShape {
    fn deterministic(&self) -> bool {
        self.domain.seal == Seal::Deterministic
    }
    fn column(&self) -> &Tagged {
        &self.columns[0]
    }
    fn shown(&self) -> DataType {
        self.shown.unwrap_or(self.data_type)
    }
    /// Whether a constant says by a cast that it has the very same type.
    fn is_typed(&self, constant: &ast::Expr) -> bool {
        match constant {
            ast::Expr::Cast { data_type, .. } => logical(data_type) == Some(self.shown()),
            _ => false,
        }
    }
    /// As the result of an expression that keeps no length or scale.
    fn unmodified(mut self) -> SealedShape {
        self.shown = Some(match self.shown() {
            DataType::Varchar(_) => DataType::Varchar(None),
            DataType::Numeric(_) => DataType::Numeric(None),
            other => other,
        });
        self
    }
}

/// The analysis of one statement.
pub(super) struct Analyst<'a> {
    context: &'a Context<'a>,
    lines: Lines<'a>,
    markers: Markers,
    stand_ins: StandIns,
    literals: Vec<LiteralSlot>,
    /// In the order met: (client parameter, what).
    parameters: Vec<(usize, ParameterUse)>,
    /// Of these, the uses in which only NULL counts: any other form of the value does as well.
    null_tests: BTreeSet<usize>,
    /// Inside of what the database keeps for everybody (an index): a mask cannot stand there.
    kept: usize,
    deferred: Vec<deferred::Deferred>,
    uses: Vec<Use>,
    use_index: HashMap<Use, usize>,
    touched: bool,
    defines: Option<Definition>,
    /// How many references were replaced by a mask.
    substitutions: usize,
    /// Inside a view's definition: nothing can be rewritten there.
    in_view: u32,
    /// What is read next in a view (a query; then the items of its select list) only moves columns stored in clear: whoever
    /// refers to them further out is shown what they may see.
    moves: bool,
    /// The statement defines a view: its own constants are sealed in the definition.
    defines_view: bool,
    /// (label, values) that constants in views compare.
    compared_in_views: ByLabel,
    /// Inside of terms that are read for their shapes only.
    dry_runs: u32,
    /// References to relations with a record key, by their number: which relation.
    references: Vec<u32>,
    /// By the number of a reference: what its record key is for certain, by a condition.
    pins: BTreeMap<usize, PersonKey>,
    /// Inside of an item of a select list that is no bare column.
    computes: bool,
    /// Columns stored in clear that were read there.
    computed: BTreeSet<ColumnId>,
}

/// Analyses one parsed statement. `lines` maps the parser's locations to byte offsets of the client's whole text.
///
/// `Ok(None)`: it turned out to touch nothing tagged.
///
/// # Errors
/// A [`Problem`] that names the construct, the column and what would work.
pub(super) fn analyse(
    parsed: Parsed,
    lines: Lines<'_>,
    declared: usize,
    context: &Context<'_>,
) -> Result<Option<Lineage>, Problem> {
    let (mut analyst, mut statement) = Analyst::of(parsed, lines, context);
    let (kind, outputs, effects) = analyst.statement(&mut statement)?;
    if !analyst.touched {
        return Ok(None);
    }
    analyst.finish(statement, kind, outputs, effects, declared).map(Some)
}

impl<'a> Analyst<'a> {
    fn of(parsed: Parsed, lines: Lines<'a>, context: &'a Context<'a>) -> (Analyst<'a>, Statement) {
        let Parsed { statement, stand_ins } = parsed;
        (Analyst { stand_ins, ..Analyst::new(lines, context) }, statement)
    }

    fn new(lines: Lines<'a>, context: &'a Context<'a>) -> Analyst<'a> {
        let markers = Markers::absent_from(lines.text());
        Analyst {
            context,
            lines,
            markers,
            stand_ins: StandIns::default(),
            literals: vec![],
            parameters: vec![],
            null_tests: BTreeSet::new(),
            kept: 0,
            deferred: vec![],
            uses: vec![],
            use_index: HashMap::new(),
            touched: false,
            defines: None,
            substitutions: 0,
            in_view: 0,
            moves: false,
            defines_view: false,
            compared_in_views: vec![],
            dry_runs: 0,
            references: vec![],
            pins: BTreeMap::new(),
            computes: false,
            computed: BTreeSet::new(),
        }
    }
}

impl Analyst<'_> {
    /// The statement kinds that are understood; every other one is refused by name.
    fn statement(
        &mut self,
        statement: &mut Statement,
    ) -> Result<(&'static str, Option<Vec<scope::Out>>, Effects), Problem> {
        let none = scope::Ctes::default();
        let writes = Effects { writes: true, ..Effects::default() };
        let schema = Effects { writes: true, catalog: true, ..Effects::default() };
        table_as::without_into(statement)?;
        match statement {
            Statement::Query(query) => {
                let writes = query::writes(query);
                let outputs = self.query(query, None, &none, None)?;
                Ok(("select", Some(outputs), Effects { writes, ..Effects::default() }))
            }
            Statement::Insert(insert) => Ok(("insert", self.insert(insert, None, &none)?, writes)),
            Statement::Update(update) => Ok(("update", self.update(update, None, &none)?, writes)),
            Statement::Delete(delete) => Ok(("delete", self.delete(delete, None, &none)?, writes)),
            Statement::Merge(merge) => self.merge_into(merge, None, &none).map(|()| ("merge", None, writes)),
            Statement::Explain {
                describe_alias: _,
                analyze,
                verbose: _,
                query_plan: _,
                estimate: _,
                statement: explained,
                format: _,
                options,
            } => {
                // What EXPLAIN shows is the rewritten statement: sealed literals and masks, never a value.
                let runs = runs(*analyze, options.as_deref());
                let (_, _, effects) = self.statement(explained)?;
                Ok(("explain", None, Effects { writes: effects.writes && runs, ..Effects::default() }))
            }
            Statement::CreateTable(create) => {
                // The first temporary table gives the session's path a schema of its own.
                let effects = Effects { path: create.temporary, ..schema };
                self.create_table(create).map(|()| ("create table", None, effects))
            }
            Statement::AlterTable(alter) => self.alter_table(alter).map(|()| ("alter table", None, schema)),
            Statement::CreateIndex(create) => {
                self.create_index(create).map(|()| ("create index", None, schema))
            }
            Statement::Prepare { name, data_types, statement } => {
                self.prepare(name, data_types, statement).map(|effects| ("prepare", None, effects))
            }
            Statement::Declare { stmts, separator: _ } => {
                self.declare(stmts).map(|effects| ("declare", None, effects))
            }
            Statement::CreateView(create) => self.create_view(create).map(|()| ("create view", None, schema)),
            Statement::CreatePolicy(create) => {
                self.create_policy(create).map(|()| ("create policy", None, schema))
            }
            Statement::AlterPolicy(alter) => {
                self.alter_policy(alter).map(|()| ("alter policy", None, schema))
            }
            Statement::CreateTrigger(create) => {
                self.create_trigger(create).map(|()| ("create trigger", None, schema))
            }
            other => Err(kinds::statement(other).refusal(&format!("statement {}", variant_name(other)))),
        }
    }

    /// Registers a use once, and gives its index.
    fn note(&mut self, column: &Tagged, action: Action, must_be_clear: bool) -> usize {
        let used = Use {
            column: column.id,
            schema: column.schema.clone(),
            table: column.table.clone(),
            name: column.name.clone(),
            domain: UseDomain(column.domain.clone()),
            action,
            must_be_clear,
            by_type: column.by_type,
            sealed: matches!(column.state, State::Sealed { .. }),
        };
        if self.computes && action == Action::Read && !used.sealed {
            self.computed.insert(column.id);
        }
        if let Some(index) = self.use_index.get(&used) {
            return *index;
        }
        let index = self.uses.len();
        self.use_index.insert(used.clone(), index);
        self.uses.push(used);
        index
    }

    fn note_all(&mut self, columns: &[Arc<Tagged>], action: Action, must_be_clear: bool) {
        for column in columns {
            self.note(column, action, must_be_clear);
        }
    }

    /// Byte offset of a token in the client's text.
    fn at(&self, span: sqlparser::tokenizer::Span) -> Option<usize> {
        self.lines.offset(span.start)
    }

    /// Turns the outputs into result columns and the tree into pieces.
    fn finish(
        mut self,
        statement: Statement,
        kind: &'static str,
        outputs: Option<Vec<scope::Out>>,
        effects: Effects,
        declared: usize,
    ) -> Result<Lineage, Problem> {
        let origins = origins(outputs.as_deref());
        let columns = self.columns(outputs)?;
        let persons = self.persons(&origins, columns.as_deref());
        let named = self.defines.as_ref().map(|defines| defines.kind);
        let own = self.defines.as_ref().map_or(declared, |defines| defines.client_parameters.max(declared));
        let (pieces, mut parameters, mut client_parameters) = self.print(&statement, own)?;
        match named {
            // Its parameters are those of the name.
            Some(NameKind::Statement) => {
                (parameters, client_parameters) = (vec![], 0);
                self.uses.clear();
            }
            Some(NameKind::Cursor) => self.uses.retain(|used| used.action != Action::Read),
            None => {}
        }
        Ok(Lineage {
            kind,
            pieces,
            literals: self.literals,
            parameters,
            client_parameters,
            columns,
            uses: self.uses,
            effects,
            copy: None,
            defines: self.defines,
            named: None,
            compared: if named == Some(NameKind::Statement) { vec![] } else { self.compared_in_views },
            binary: false,
            cursor: None,
            persons: persons.filter(|_| named.is_none()),
        })
    }

    /// Inside of a definition that is only read.
    fn reads_view(&self) -> bool {
        self.in_view > u32::from(self.defines_view)
    }

    /// The result columns of these outputs; `None` when none of them is opened.
    fn columns(&mut self, outputs: Option<Vec<scope::Out>>) -> Result<Option<Vec<Output>>, Problem> {
        let mut columns = vec![];
        for out in outputs.into_iter().flatten() {
            columns.push(self.output(&out.shape)?);
        }
        let opened = columns.iter().any(|column| *column != Output::Verbatim);
        Ok(opened.then_some(columns))
    }

    fn opened(&mut self, sealed: &SealedShape) -> Opened {
        let reads = sealed.columns.iter().map(|column| self.note(column, Action::Read, false)).collect();
        Opened { domain: sealed.domain.clone(), data_type: sealed.shown(), reads }
    }

    fn output(&mut self, shape: &Shape) -> Result<Output, Problem> {
        match shape {
            Shape::Plain | Shape::Adaptable | Shape::Clear(_) => Ok(Output::Verbatim),
            Shape::Sealed(sealed) => Ok(Output::Sealed(self.opened(sealed))),
            Shape::Deferred(slots) => match self.settled(slots) {
                Some(sealed) => self.output(&Shape::Sealed(sealed)),
                None => Ok(Output::Verbatim),
            },
            Shape::Row(_) | Shape::WholeRow(_) | Shape::Rows(_) => self.record(shape),
            Shape::Array(sealed) => Ok(Output::Array(self.opened(sealed))),
            Shape::Document(document) => Ok(Output::Document(self.opened_document(document))),
            Shape::Default => Ok(self.defaults()),
        }
    }

    /// Refuses `shape` when it holds sealed cells or a whole tagged row: `construct` cannot work on ciphertext.
    fn refuse_sealed(&self, shape: &Shape, construct: &str, at: Option<usize>) -> Result<(), Problem> {
        match shape {
            Shape::Plain | Shape::Adaptable | Shape::Clear(_) | Shape::Default => Ok(()),
            Shape::Sealed(sealed) => Err(Problem::sealed_use(sealed.column(), construct).at(at)),
            Shape::Deferred(slots) => self.used_plain(slots, construct).map_err(|problem| problem.at(at)),
            Shape::Row(shapes) => {
                shapes.iter().try_for_each(|inner| self.refuse_sealed(inner, construct, at))
            }
            Shape::WholeRow(row) => Err(Problem::whole_row(&row.name).at(at)),
            Shape::Rows(rows) => self.refuse_sealed(rows, construct, at),
            Shape::Array(sealed) => Err(Problem::sealed_use(sealed.column(), construct).at(at)),
            Shape::Document(document) => match document.first_leaf() {
                Some(sealed) => Err(Problem::sealed_use(sealed.column(), construct).at(at)),
                None => Ok(()),
            },
        }
    }
}

/// Whether EXPLAIN with these options runs what it explains; said no, it may.
fn runs(analyze: bool, options: Option<&[ast::UtilityOption]>) -> bool {
    let named =
        |option: &ast::UtilityOption| ["analyze", "analyse"].contains(&scope::fold(&option.name).as_str());
    analyze || options.into_iter().flatten().any(named)
}

/// The name of an AST node's variant, without what it holds (which may be a literal).
fn variant_name(node: &impl std::fmt::Debug) -> String {
    struct Head(String, bool);
    impl std::fmt::Write for Head {
        fn write_str(&mut self, text: &str) -> std::fmt::Result {
            for c in text.chars() {
                if !c.is_ascii_alphanumeric() {
                    self.1 = true;
                    return Err(std::fmt::Error);
                }
                self.0.push(c);
            }
            Ok(())
        }
    }
    let mut head = Head(String::new(), false);
    // The error is how writing stops after the variant's name.
    let _ = std::fmt::write(&mut head, format_args!("{node:?}"));
    let mut words = String::new();
    let mut before = ' ';
    for c in head.0.chars() {
        if c.is_ascii_uppercase() && before.is_ascii_lowercase() {
            words.push(' ');
        }
        words.push(c.to_ascii_uppercase());
        before = c;
    }
    words
}

/// The logical type that an SQL type in the tree names, when it is one we know.
fn logical(data_type: &ast::DataType) -> Option<DataType> {
    DataType::parse(&data_type.to_string())
}

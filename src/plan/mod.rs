//! What we decided for one statement: a small, printable value that everything after it only carries out.
//!
//! lineage + rulings → [`StatementPlan`] or [`Refusal`]; its text form (`explain`), and the cache. Guarantees: a plan
//! holds no key and no plaintext of sealed slots (literals are named by where they stand in the client's text); every
//! use of a tagged column has a ruling, and what no ruling allows is a refusal.
//! Deliberately absent: sockets, frames, keys, values.

pub mod cache;
pub mod explain;
pub mod habit;
pub mod judge;
pub mod refusal;

pub use crate::sql::lineage::{
    CopyColumn, CopyRows, Effects, LiteralSlot, Node, ParameterSlot, ParameterUse, PersonKey, PersonSlot,
    Persons, Piece, Recipe, Recode, Use, UseDomain,
};
pub use crate::sql::{
    CopyFormat, CopyOptions, Definition, Known, Local, NO_NAMES, NameKind, Named, Ours, check_pinned,
    executed,
};
pub use refusal::{Reason, Refusal};

use crate::catalog::build::SCHEMA;
use crate::catalog::{Action, ByLabel, Catalog, ColumnId, Domain, SealedDefault};
use crate::policy::{Circumstances, Disclosure, Form, Policy, Principal, RowLimits, RuleRef};
use crate::sql::lineage::{Opened, OpenedDefault, OpenedDocument, Output};
use crate::sql::{self, Context, Lineage, StatementText, Understood};
use crate::value::DataType;
use habit::Habit;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

/// What planning needs to know of the session.
pub struct Session<'a> {
    pub principal: &'a Principal,
    pub circumstances: &'a Circumstances,
    /// `current_schemas(true)`.
    pub search_path: &'a [String],
    /// What it prepared and declared by SQL.
    pub named: &'a Named,
}

/// One statement of a client's text, decided.
#[derive(Clone, Debug)]
pub enum Planned {
    /// Touches nothing tagged: the client's bytes go as they are.
    Pass(Pass),
    Plan(Arc<StatementPlan>),
    Refuse(Refusal),
    /// `SET pgveil.…`, `SHOW pgveil.status`: answered in order through a harmless statement of ours.
    Local(Local),
    /// A relation is not in the catalog: refresh it and plan again (once); then this is the refusal.
    Unresolved(Refusal),
}

/// What the relay must know of a statement that passes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pass {
    pub effects: Effects,
    /// It passes because of what its names mean now: on another path, or with another catalog, it may not.
    pub by_meaning: bool,
    /// What it gives a name to.
    pub names: Option<(NameKind, String)>,
    /// A relation that it reads is not in the catalog: it may have been made a moment ago, and hold what is tagged.
    pub unresolved: bool,
}

/// A statement that goes to the server, and everything that carrying it out needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatementPlan {
    /// `select`, `insert`, `update`, `delete`, `create table`, …: lower-case, for records and metrics.
    pub kind: &'static str,
    pub template: Vec<Piece>,
    /// Slots for literals, in the order of [`Piece::Literal`].
    pub literals: Vec<LiteralSlot>,
    /// Server parameters in order: each says which client parameter fills it and how.
    pub parameters: Vec<ParameterSlot>,
    /// How many parameters the client's statement has.
    pub client_parameters: usize,
    /// What of the result is opened. `None`: rows pass as they are.
    pub columns: Option<Vec<ColumnSlot>>,
    /// The uses of tagged columns that need a ruling.
    pub uses: Vec<Use>,
    /// The rulings as of planning, one for each use; judged again at each Execute.
    pub rulings: Vec<Ruling>,
    /// Text without literals, for the audit record.
    pub shape: String,
    pub effects: Effects,
    /// For COPY: how its rows are spelled, and what is sealed in them.
    pub copy: Option<CopyRows>,
    /// The catalog that the plan was made for.
    pub catalog_generation: u64,
    /// What it gives a name to.
    pub defines: Option<Arc<Definition>>,
    /// (label, values) that are compared by what it uses by name, beside its own literals and parameters.
    pub compared: ByLabel,
    /// It fetches from a binary cursor.
    pub binary: bool,
    /// Whose cells its rows show; `None` when it reads of no table with a record key.
    pub persons: Option<Persons>,
    /// The cursor that it fetches from: a limit on the rows of one statement holds for all that it gives.
    pub cursor: Option<String>,
    /// What its runs leave for later ones.
    pub habit: Habit,
}

/// One result column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ColumnSlot {
    Pass,
    Open(OpenSlot),
    /// A one-dimensional array of cells.
    Array(OpenSlot),
    /// JSON with cells in it.
    Document {
        node: Node,
        leaves: Vec<OpenSlot>,
    },
    /// A row value: which of its fields are cells.
    Record {
        node: Node,
        leaves: Vec<OpenSlot>,
    },
    /// A text that may be a default: where it is one of these, it is shown as what it means.
    Default(Vec<DefaultSlot>),
}

impl ColumnSlot {
    /// Whether each of its values is a cell, and nothing else.
    pub fn is_cell(&self) -> bool {
        matches!(self, ColumnSlot::Open(_))
    }
}

/// A default of a sealed column, and how it is opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DefaultSlot {
    pub texts: [String; 2],
    /// Sealed.
    pub cell: Vec<u8>,
    pub slot: OpenSlot,
}

/// Cells that are opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenSlot {
    pub domain: Arc<Domain>,
    pub data_type: DataType,
    /// Index of its `Read` use (and so its ruling).
    pub ruling: usize,
    /// `schema.table.column` for records; several when a set operation merges columns.
    pub column_names: Vec<String>,
    /// One of them nobody tagged.
    pub by_type: bool,
}

/// The policy's allowing answer for one use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ruling {
    pub action: Action,
    pub rule: Option<RuleRef>,
    pub disclosure: Disclosure,
    pub limits: RowLimits,
    pub oracle: bool,
}

/// The outcome of judging a plan now: one ruling for each use, all allowing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    pub rulings: Arc<[Ruling]>,
}

impl StatementPlan {
    /// The statement as sent, with literals filled in by `literal` (which appends to the text).
    pub fn render<E>(
        &self,
        mut literal: impl FnMut(usize, &mut String) -> Result<(), E>,
    ) -> Result<String, E> {
        let mut text = String::new();
        for piece in &self.template {
            match piece {
                Piece::Text(fixed) => text.push_str(fixed),
                Piece::Literal(index) => literal(*index, &mut text)?,
            }
        }
        Ok(text)
    }
}

impl StatementPlan {
    /// What EXECUTE of it does, where the protocol prepared it. `compared` is what its literals compare.
    pub fn as_named(&self, name: &str, compared: &[(Arc<str>, u64)]) -> Definition {
        let default = |slot: &DefaultSlot| OpenedDefault {
            texts: slot.texts.clone(),
            cell: slot.cell.clone(),
            opened: self.opened(&slot.slot),
        };
        let output = |slot: &ColumnSlot| match slot {
            ColumnSlot::Pass => Output::Verbatim,
            ColumnSlot::Open(slot) => Output::Sealed(self.opened(slot)),
            ColumnSlot::Array(slot) => Output::Array(self.opened(slot)),
            ColumnSlot::Document { node, leaves } => Output::Document(self.opened_document(node, leaves)),
            ColumnSlot::Record { node, leaves } => Output::Record(self.opened_document(node, leaves)),
            ColumnSlot::Default(slots) => Output::Default(slots.iter().map(default).collect()),
        };
        Definition {
            kind: NameKind::Statement,
            name: name.to_owned(),
            parameters: self.parameters.clone(),
            client_parameters: self.client_parameters,
            columns: self.columns.as_ref().map(|columns| columns.iter().map(output).collect()),
            uses: self.uses.clone(),
            effects: self.effects,
            compared: self.compared.iter().chain(compared).cloned().collect(),
            shown: self.rulings.iter().map(|ruling| ruling.disclosure.name()).collect(),
            binary: false,
            persons: self.persons.clone().map(Persons::without_pins),
        }
    }

    /// The formats of its rows by the simple protocol, as a Bind says them (`exec_simple_query`).
    pub fn simple_formats(&self) -> &'static [i16] {
        if self.binary { &[1] } else { &[] }
    }

    fn opened_document(&self, node: &Node, leaves: &[OpenSlot]) -> OpenedDocument {
        OpenedDocument { node: node.clone(), leaves: leaves.iter().map(|leaf| self.opened(leaf)).collect() }
    }

    fn opened(&self, slot: &OpenSlot) -> Opened {
        let OpenSlot { domain, data_type, ruling, column_names, by_type: _ } = slot;
        let others = self.uses.iter().zip(0..).filter(|(used, index)| {
            let read = used.action == Action::Read && !used.must_be_clear;
            read && index != ruling && column_names.contains(&used.column_name())
        });
        let reads = std::iter::once(*ruling).chain(others.map(|(_, index)| index));
        Opened { domain: domain.clone(), data_type: *data_type, reads: reads.collect() }
    }
}

/// A client's text, split into statements and decided: `spans[i]` is where statement `i` stands.
#[derive(Clone, Debug)]
pub struct Script {
    pub statements: Vec<Planned>,
    pub spans: Vec<Range<usize>>,
}

impl Script {
    /// Whether a statement that would pass reads a relation that the catalog does not have.
    pub fn passes_unresolved(&self) -> bool {
        self.statements.iter().any(|planned| matches!(planned, Planned::Pass(pass) if pass.unresolved))
    }
}

/// Plans a whole text (several statements in the simple protocol, at most one in the extended one).
///
/// `declared` are the parameter types that the client declared, 0 for none.
pub fn plan(
    text: &str,
    declared: &[u32],
    catalog: &Catalog,
    policy: &Policy,
    session: &Session<'_>,
) -> Script {
    let script = match sql::split(text) {
        Ok(script) => script,
        Err(error) => {
            let whole = 0..text.len();
            return Script { statements: vec![unreadable(&error, catalog)], spans: Vec::from([whole]) };
        }
    };
    let mut planned = Script { statements: vec![], spans: vec![] };
    for statement in &script.statements {
        let one = one(text, statement, declared, catalog, policy, session);
        planned.statements.push(one);
        planned.spans.push(statement.span.clone());
    }
    planned
}

/// A text that does not lex is a syntax error to the server, too; but it would quote the text, in its log as well, and
/// what ought to have been sealed in it cannot be known.
fn unreadable(error: &sql::lex::LexError, catalog: &Catalog) -> Planned {
    if catalog.has_tags() {
        return Planned::Refuse(Refusal::new(Reason::Value, "42601", error.message).at(error.at));
    }
    Planned::Pass(Pass::default())
}

fn one(
    text: &str,
    statement: &StatementText,
    declared: &[u32],
    catalog: &Catalog,
    policy: &Policy,
    session: &Session<'_>,
) -> Planned {
    let guards = match guards(catalog, policy, session) {
        Ok(guards) => guards,
        Err(refusal) => return Planned::Refuse(refusal),
    };
    let shape = || sql::shape::shape(text, &statement.tokens);
    if guards.any_hidden
        && let Some(what) = sql::unguarded_call(text, &statement.tokens, catalog)
    {
        return Planned::Refuse(
            Refusal::new(
                Reason::NotUnderstood,
                "0A000",
                format!("{what} is not supported while tagged columns are stored in clear"),
            )
            .hint("It could read them unseen. A user who may read them all in clear and without limits can use it, or seal the columns."),
        );
    }
    let guard = |column: ColumnId, printed: &str| guards.expression(column, printed);
    let defaults = shown_defaults(catalog, policy, session);
    let (path, named) = (session.search_path, session.named);
    let context = Context { catalog, path, guard: &guard, named, defaults: &defaults };
    match sql::understand(text, statement, declared.len(), &context) {
        // Which functions there are counts, too, where one could read what is hidden.
        Ok(Understood::Pass(effects)) => {
            let unresolved = catalog.has_tags() && sql::unresolved(&statement.words(text), &context);
            let names = sql::names(text, statement);
            Planned::Pass(Pass { effects, by_meaning: guards.any_hidden, names, unresolved })
        }
        Ok(Understood::Untouched(effects)) => {
            let names = sql::names(text, statement);
            Planned::Pass(Pass { effects, by_meaning: true, names, unresolved: false })
        }
        Ok(Understood::Local(local)) => Planned::Local(local),
        Ok(Understood::Lineage(lineage)) => {
            let gathering = || sql::gathering(text, &statement.tokens, catalog);
            match decide(*lineage, shape(), &gathering, &guards, catalog, policy, session) {
                Ok(plan) => Planned::Plan(Arc::new(plan)),
                Err(refusal) => Planned::Refuse(refusal),
            }
        }
        Err(problem) if problem.trouble == sql::Trouble::Unresolved => Planned::Unresolved(problem.into()),
        Err(problem) => Planned::Refuse(problem.into()),
    }
}

/// Defaults of columns that this principal reads in clear now, as often as it likes: a limit that is spent must not hide the
/// catalogs.
fn shown_defaults<'c>(
    catalog: &'c Catalog,
    policy: &Policy,
    session: &Session<'_>,
) -> Vec<&'c SealedDefault> {
    let shown = |default: &&SealedDefault| {
        let ColumnId { relation, number } = default.column;
        let column = catalog.relation(relation).and_then(|relation| {
            relation.columns.iter().find(|column| column.number == number)?.tag.as_ref()
        });
        column.is_some_and(|tag| {
            let decision = policy.decide(session.principal, &tag.domain, Action::Read, session.circumstances);
            decision.is_clear_without_limits()
        })
    };
    catalog.defaults.iter().filter(shown).collect()
}

/// How the clear tagged columns are shown to this principal now.
struct Guards {
    /// Columns that are not shown in clear: how, and of which type. `None`: by no rule, refused when used.
    hidden: HashMap<ColumnId, Option<(Disclosure, DataType)>>,
    /// Or not without limits.
    any_hidden: bool,
}

impl Guards {
    /// What stands for `printed`, a reference to `column`; `None` when it is shown in clear.
    fn expression(&self, column: ColumnId, printed: &str) -> Option<String> {
        let (disclosure, data_type) = self.hidden.get(&column)?.as_ref()?;
        match disclosure.form() {
            Form::Clear => None,
            Form::Withheld => Some(format!("NULL::{}", data_type.sql())),
            Form::Masked(mask) => {
                let masked = mask.sql(data_type, printed);
                Some(masked.unwrap_or_else(|| format!("NULL::{}", data_type.sql())))
            }
        }
    }
}

fn guards(catalog: &Catalog, policy: &Policy, session: &Session<'_>) -> Result<Guards, Refusal> {
    let mut guards = Guards { hidden: HashMap::new(), any_hidden: false };
    if !catalog.has_clear_tags() {
        return Ok(guards);
    }
    for relation in catalog.relations.values().filter(|relation| relation.schema != SCHEMA) {
        guards.any_hidden |= relation.unreadable.is_some();
        for column in &relation.columns {
            let Some(tag) =
                column.tag.as_ref().filter(|tag| matches!(tag.state, crate::catalog::State::Clear))
            else {
                continue;
            };
            let decision = policy.decide(session.principal, &tag.domain, Action::Read, session.circumstances);
            let id = ColumnId { relation: relation.oid, number: column.number };
            let shown = judge::disclosure(&decision);
            // What is called unseen is not counted either.
            guards.any_hidden |= decision.is_limited();
            if shown.is_some_and(|shown| shown.is_clear()) {
                continue;
            }
            guards.any_hidden = true;
            guards.hidden.insert(id, shown.map(|shown| (shown, tag.data_type)));
        }
    }
    Ok(guards)
}

/// Lineage and rulings → the plan.
fn decide(
    lineage: Lineage,
    shape: String,
    gathering: &dyn Fn() -> Option<String>,
    guards: &Guards,
    catalog: &Catalog,
    policy: &Policy,
    session: &Session<'_>,
) -> Result<StatementPlan, Refusal> {
    let rulings = judge::rulings(&lineage.uses, policy, session.principal, session.circumstances)?;
    expressible(&lineage.uses, &rulings, guards)?;
    countable(&lineage.uses, &rulings, gathering)?;
    let mut defines = lineage.defines;
    if let Some(defines) = &mut defines {
        // As Parse does: who may not use it learns so now.
        let rulings = judge::rulings(&defines.uses, policy, session.principal, session.circumstances)?;
        expressible(&defines.uses, &rulings, guards)?;
        countable(&defines.uses, &rulings, gathering)?;
        defines.shown = rulings.iter().map(|ruling| ruling.disclosure.name()).collect();
    }
    if let Some(shown) = &lineage.named {
        let mut uses = lineage.uses.iter().zip(&rulings).zip(shown);
        let same = uses.all(|((used, ruling), shown)| {
            used.sealed || used.action != Action::Read || ruling.disclosure.name() == *shown
        });
        if !same || shown.len() != rulings.len() {
            return Err(Refusal::changed());
        }
    }
    let columns =
        lineage.columns.map(|outputs| outputs.iter().map(|output| column(output, &lineage.uses)).collect());
    Ok(StatementPlan {
        kind: lineage.kind,
        template: lineage.pieces,
        literals: lineage.literals,
        parameters: lineage.parameters,
        client_parameters: lineage.client_parameters,
        columns,
        uses: lineage.uses,
        rulings,
        shape,
        effects: lineage.effects,
        copy: lineage.copy,
        catalog_generation: catalog.generation,
        defines: defines.map(Arc::new),
        compared: lineage.compared,
        binary: lineage.binary,
        persons: lineage.persons,
        cursor: lineage.cursor.clone(),
        habit: Habit::default(),
    })
}

/// Refuses what gathers the values of many rows into one where the rows of a column stored in clear are limited: they could not be
/// counted. (Cells are, wherever they stand.)
fn countable(
    uses: &[Use],
    rulings: &[Ruling],
    gathering: &dyn Fn() -> Option<String>,
) -> Result<(), Refusal> {
    let mut uses = uses.iter().zip(rulings);
    if uses.any(|(used, ruling)| !used.sealed && used.action == Action::Read && ruling.limits.are_set())
        && let Some(what) = gathering()
    {
        let message = format!("{what} is not supported over columns whose rows the policy limits");
        return Err(Refusal::new(Reason::NotUnderstood, "0A000", message)
            .detail("It makes one value of many rows, which could not be counted.")
            .hint("Select the rows themselves."));
    }
    Ok(())
}

/// Whether the masks of columns stored in clear can be written in SQL.
fn expressible(uses: &[Use], rulings: &[Ruling], guards: &Guards) -> Result<(), Refusal> {
    for (used, ruling) in uses.iter().zip(rulings) {
        let masked = !used.sealed && used.action == Action::Read && !ruling.disclosure.is_clear();
        if masked && let Form::Masked(mask) = ruling.disclosure.form() {
            let hidden = guards.hidden.get(&used.column).and_then(|hidden| hidden.as_ref());
            let expressible = hidden.is_some_and(|(_, data_type)| mask.sql(data_type, "x").is_some());
            if !expressible {
                return Err(Refusal::new(
                    Reason::NotUnderstood,
                    "0A000",
                    format!("mask of column {} of table {} needs a sealed column", used.name, used.table),
                )
                .hint("It is made with a key, which the database does not get. Seal the column, or choose another mask."));
            }
        }
    }
    Ok(())
}

fn column(output: &Output, uses: &[Use]) -> ColumnSlot {
    match output {
        Output::Verbatim => ColumnSlot::Pass,
        Output::Sealed(opened) => ColumnSlot::Open(open_slot(opened, uses)),
        Output::Array(opened) => ColumnSlot::Array(open_slot(opened, uses)),
        Output::Document(OpenedDocument { node, leaves }) => ColumnSlot::Document {
            node: node.clone(),
            leaves: leaves.iter().map(|leaf| open_slot(leaf, uses)).collect(),
        },
        Output::Record(OpenedDocument { node, leaves }) => ColumnSlot::Record {
            node: node.clone(),
            leaves: leaves.iter().map(|leaf| open_slot(leaf, uses)).collect(),
        },
        Output::Default(defaults) => {
            let slot = |default: &OpenedDefault| DefaultSlot {
                texts: default.texts.clone(),
                cell: default.cell.clone(),
                slot: open_slot(&default.opened, uses),
            };
            ColumnSlot::Default(defaults.iter().map(slot).collect())
        }
    }
}

fn open_slot(opened: &Opened, uses: &[Use]) -> OpenSlot {
    let Opened { domain, data_type, reads } = opened;
    let columns: Vec<&Use> = reads.iter().filter_map(|read| uses.get(*read)).collect();
    OpenSlot {
        domain: domain.clone(),
        data_type: *data_type,
        // All columns of a domain have its label, and so one ruling.
        ruling: reads.first().copied().unwrap_or(usize::MAX),
        by_type: columns.iter().any(|used| used.by_type),
        column_names: columns.into_iter().map(Use::column_name).collect(),
    }
}

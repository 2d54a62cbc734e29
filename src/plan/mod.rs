//! What we decided for one statement: a small, printable value that everything after it only carries out.
//!
//! lineage + rulings → [`StatementPlan`] or [`Refusal`]; its text form (`explain`), and the cache. Guarantees: a plan
//! holds no key and no plaintext of sealed slots (literals are named by where they stand in the client's text).
//! Deliberately absent: sockets, frames, keys, values.

pub mod cache;
pub mod explain;
pub mod refusal;

pub use refusal::{Reason, Refusal};

use crate::catalog::{Catalog, ColumnId, Domain};
use crate::policy::{Action, Circumstances, Disclosure, Policy, Principal, RowLimits, RuleRef};
use crate::value::DataType;
use std::ops::Range;
use std::sync::Arc;

/// What planning needs to know of the session.
pub struct Session<'a> {
    pub principal: &'a Principal,
    pub circumstances: &'a Circumstances,
    /// `current_schemas(true)`.
    pub search_path: &'a [String],
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
    /// A relation of this name is not in the catalog: refresh it and plan again (once).
    Unresolved,
}

/// What the relay must know of a statement that passes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pass {
    pub effects: Effects,
}

/// What a statement may change that later plans depend on, and how it ends transactions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// The search path must be asked again before the next plan.
    pub path: bool,
    /// The catalog must be read again before the next plan.
    pub catalog: bool,
    /// Writes rows or schema: a failing reply must be rolled back.
    pub writes: bool,
    /// `DISCARD ALL`, `DEALLOCATE ALL`: server statements of the session are gone.
    pub discards_statements: bool,
    /// `DISCARD ALL`, `RESET ALL`: session state of ours (purpose, second factor) ends.
    pub resets_session: bool,
}

/// A command for the proxy itself.
#[derive(Clone, PartialEq, Eq)]
pub enum Local {
    SetPurpose(Option<String>),
    /// The code is a secret of one use: no `Debug`.
    SetOtp(String),
    ShowStatus,
}

impl std::fmt::Debug for Local {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(match self {
            Local::SetPurpose(_) => "SetPurpose",
            Local::SetOtp(_) => "SetOtp",
            Local::ShowStatus => "ShowStatus",
        })
    }
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
    /// Whether guarded clear columns were substituted: such a plan is bound to its rulings' disclosures.
    pub guarded: bool,
    /// Sealed type OIDs and columns (with their type) that the plan relies on.
    pub catalog_generation: u64,
}

/// The statement to send, in pieces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    Text(String),
    /// Index into `literals`. A sealed literal is printed as `'\x…'` followed by its cast in the next piece.
    Literal(usize),
}

/// Bytes of one value and what is done with them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipe {
    pub domain: Arc<Domain>,
    /// The column's logical type (the domain's or narrower).
    pub data_type: DataType,
    /// Key version to seal with; `None`: the keyring's current one (randomized).
    pub version: Option<u16>,
    /// `Compare` slots under an oracle are counted.
    pub action: Action,
    pub column: ColumnId,
    /// `schema.table.column` for messages and records.
    pub column_name: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiteralSlot {
    /// Where the literal's token stands in the client's text (byte offsets into the whole message text).
    pub span: Range<usize>,
    pub recipe: Recipe,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParameterSlot {
    /// Zero-based client parameter.
    pub client: usize,
    pub what: ParameterUse,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ParameterUse {
    /// Bytes pass.
    Pass,
    Seal(Recipe),
    /// Every element of a one-dimensional array is sealed: `= ANY($1)`. Sent in text format.
    SealElements(Recipe),
}

/// One result column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ColumnSlot {
    Pass,
    Open {
        domain: Arc<Domain>,
        data_type: DataType,
        /// Index of its `Read` use (and so its ruling).
        ruling: usize,
        /// `schema.table.column` for records; several when a set operation merges columns.
        column_names: Vec<String>,
    },
}

/// One use of one tagged column that policy must allow.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Use {
    pub column: ColumnId,
    pub schema: String,
    pub table: String,
    pub name: String,
    pub domain: UseDomain,
    pub action: Action,
    /// The value is used as it is (assigned to another column, computed with): only a clear ruling will do.
    pub must_be_clear: bool,
    /// Whether the column is sealed (or clear and guarded).
    pub sealed: bool,
}

/// A domain by identity, for hashing and comparing uses.
#[derive(Clone, Debug)]
pub struct UseDomain(pub Arc<Domain>);

impl PartialEq for UseDomain {
    fn eq(&self, other: &Self) -> bool {
        self.0.name == other.0.name
    }
}
impl Eq for UseDomain {}
impl std::hash::Hash for UseDomain {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.name.hash(state);
    }
}

/// The policy's allowing answer for one use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ruling {
    pub rule: Option<RuleRef>,
    pub disclosure: Disclosure,
    pub limits: RowLimits,
    pub oracle: bool,
}

/// The outcome of judging a plan now: one ruling for each use, all allowing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    pub rulings: Vec<Ruling>,
}

impl Judgement {
    /// The fewest rows that any ruling of a disclosing read allows in one statement.
    pub fn rows_per_statement(&self) -> Option<u64> {
        self.rulings.iter().filter_map(|ruling| ruling.limits.rows_per_statement).min()
    }
}

impl StatementPlan {
    /// Judges every use again under `circumstances` (at each Bind, Execute and FETCH).
    ///
    /// # Errors
    /// The refusal that the client gets when a ruling no longer allows its use.
    pub fn judge(
        &self,
        _policy: &Policy,
        _principal: &Principal,
        _circumstances: &Circumstances,
    ) -> Result<Judgement, Refusal> {
        todo!()
    }
    /// The statement as sent, with literals filled in by `literal` (which appends to the text).
    pub fn render<E>(&self, mut literal: impl FnMut(usize, &mut String) -> Result<(), E>) -> Result<String, E> {
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

/// A client's text, split into statements and decided: `spans[i]` is where statement `i` stands.
#[derive(Clone, Debug)]
pub struct Script {
    pub statements: Vec<Planned>,
    pub spans: Vec<Range<usize>>,
}

/// Plans a whole text (several statements in the simple protocol, at most one in the extended one).
pub fn plan(_text: &str, _declared: &[u32], _catalog: &Catalog, _policy: &Policy, _session: &Session<'_>) -> Script {
    todo!()
}

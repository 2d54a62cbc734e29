//! What the analysis of a statement gives to the plan: what is sent, sealed, opened and used.
//!
//! Values only, without a lifetime or a part of the tree. Deliberately absent: what may be disclosed, which policy says.

use super::{CopyOptions, Definition, Persons};
use crate::catalog::{Action, ByLabel, ColumnId, Domain};
use crate::value::{DataType, Style};
use std::ops::Range;
use std::sync::Arc;

/// Bytes of one value and what is done with them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipe {
    pub domain: Arc<Domain>,
    /// The logical type that the value must fit: the column's for an assignment, the family's widest for a comparison.
    pub data_type: DataType,
    /// What a constant without a type of its own is taken for (a quoted literal, a parameter that the client declares
    /// no type for), as the server would for the column: `data_type` or a narrower one of its family.
    pub untyped: DataType,
    /// What the statement casts the constant to: text becomes that by its input form, and is cut to its length.
    pub cast: Option<DataType>,
    /// The text type that it is cast to first, if so (`$1::text::jsonb`).
    pub as_text: Option<DataType>,
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
    /// It spells an array, of which every element is sealed: `= ANY ('{a,b}')`.
    pub elements: bool,
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

/// The statement to send, in pieces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    Text(String),
    /// Index into the literal slots. A sealed literal is printed as `'\x…'`; its cast follows in the next piece.
    Literal(usize),
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
    /// Nobody tagged the column: its type is a sealed one.
    pub by_type: bool,
    /// Whether the column is sealed (or clear and guarded).
    pub sealed: bool,
}

impl Use {
    /// `schema.table.column`.
    pub fn column_name(&self) -> String {
        format!("{}.{}.{}", self.schema, self.table, self.name)
    }
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

/// One result column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    Verbatim,
    Sealed(Opened),
    /// A one-dimensional array of cells.
    Array(Opened),
    Document(OpenedDocument),
    /// A row value: the node is a `Tuple` of its fields, each a cell or plain.
    Record(OpenedDocument),
    /// A text that may be the default of a sealed column.
    Default(Vec<OpenedDefault>),
}

/// A default that is shown as what it means where a value is one of its texts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenedDefault {
    pub texts: [String; 2],
    pub cell: Vec<u8>,
    pub opened: Opened,
}

/// Sealed cells of `domain`; `reads` are indexes of the `Read` uses of its columns (one for each).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    pub domain: Arc<Domain>,
    pub data_type: DataType,
    pub reads: Vec<usize>,
}

/// A JSON document with cells at known places.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenedDocument {
    pub node: Node,
    pub leaves: Vec<Opened>,
}

/// What is known of one value of a JSON document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    /// Nothing sealed in it.
    Plain,
    /// A cell, by its index among the leaves.
    Leaf(usize),
    /// Members by name; others are plain.
    Object(Vec<(String, Node)>),
    /// Elements by position.
    Tuple(Vec<Node>),
    /// Every element of an array.
    Each(Box<Node>),
    /// Every member of an object.
    Map(Box<Node>),
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
    /// `PREPARE`, `DECLARE`: a name that later statements use.
    pub names: bool,
}

impl Effects {
    /// Whether later plans are made of other things: path, catalog, the session's state or names.
    pub fn changes_plans(&self) -> bool {
        self.path || self.catalog || self.resets_session || self.names
    }
}

/// What was understood of one statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lineage {
    /// `select`, `insert`, …, lower-case.
    pub kind: &'static str,
    pub pieces: Vec<Piece>,
    pub literals: Vec<LiteralSlot>,
    /// Server parameters in order; the first `client_parameters` are the client's own, in its order.
    pub parameters: Vec<ParameterSlot>,
    pub client_parameters: usize,
    /// `None`: no result column is sealed, rows pass.
    pub columns: Option<Vec<Output>>,
    pub uses: Vec<Use>,
    pub effects: Effects,
    /// For COPY: how its rows are spelled, and what they hold.
    pub copy: Option<CopyRows>,
    /// What it gives a name to.
    pub defines: Option<Definition>,
    /// It uses a name, whose text was settled when the name was given: how each use was disclosed then.
    pub named: Option<Vec<std::borrow::Cow<'static, str>>>,
    /// (label, values) that are compared beside its own literals: by what it uses by name, and by constants in views.
    pub compared: ByLabel,
    /// Its rows come in binary by the simple protocol, too.
    pub binary: bool,
    /// The cursor that it fetches from.
    pub cursor: Option<String>,
    /// Whose cells its rows show; `None` when it reads of no table with a record key.
    pub persons: Option<Persons>,
}

/// The rows that a COPY moves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyRows {
    pub from: bool,
    pub options: CopyOptions,
    /// As many as each row has fields.
    pub columns: Vec<CopyColumn>,
    /// For a COPY … TO that a query can stand for.
    pub query: Option<CopyQuery>,
    /// For a COPY … FROM whose rows can go to the server in binary: the statement that says so.
    pub recoded: Option<String>,
}

/// The query that gives the rows of a COPY … TO, which spells them as is usual.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CopyQuery {
    Own(String),
    /// It stands in the statement as sent, but for so many bytes at its begin and its end.
    Within(usize, usize),
}

impl CopyRows {
    /// Whether what its values in text say is the same whatever time zones one knows, see [`DataType::is_certain`].
    pub fn is_certain(&self, style: &Style) -> bool {
        let mut recoded = self.columns.iter().filter_map(|column| column.recode);
        recoded.all(|recode| !matches!(recode, Recode::Value(data_type) if !data_type.is_certain(style)))
    }
    /// The query for the statement as sent.
    pub fn query<'s>(&'s self, sent: &'s str) -> Option<&'s str> {
        match self.query.as_ref()? {
            CopyQuery::Own(query) => Some(query),
            CopyQuery::Within(before, after) => sent.get(*before..sent.len().checked_sub(*after)?),
        }
    }
}

/// How what COPY spells becomes the binary form of a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recode {
    /// Both are the same bytes.
    Same,
    /// The same bytes behind this one.
    Behind(u8),
    /// It is read as a value of this type.
    Value(DataType),
}

/// One field of a copied row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyColumn {
    /// `None` when it is not certain.
    pub name: Option<String>,
    /// How its values are sealed on the way in.
    pub seal: Option<Recipe>,
    /// How its values become binary on the way in, where they are not sealed; `None` where that is not known.
    pub recode: Option<Recode>,
    pub force_quote: bool,
    pub force_null: bool,
    pub force_not_null: bool,
}

//! What is converted into what: the recipe of a conversion, as it is kept in the database.
//!
//! Guarantees: holds names, types and key versions, neither keys nor values; the same recipe read the other way round is
//! the conversion back. Deliberately absent: whether it can be done (`survey`, `rehearse`).

use crate::catalog::build::SCHEMA;
use crate::server::prepare::quoted;
use serde::{Deserialize, Serialize};

/// Columns that change together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    pub tables: Vec<Table>,
    /// Statements that make indexes again as they were before the conversion that this one takes back.
    #[serde(default)]
    pub restore: Vec<String>,
    /// Sealed types that were made for the copies before the swap.
    #[serde(default)]
    pub made: Vec<String>,
    /// The swap takes the tables out of publications that send the columns.
    #[serde(default)]
    pub unpublish: bool,
}

/// A table and those of its columns that change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    pub oid: u32,
    pub schema: String,
    pub name: String,
    pub partitioned: bool,
    /// What tells its rows apart: the columns of a unique index without NULLs.
    pub key: Vec<KeyColumn>,
    pub columns: Vec<Column>,
    /// Its rows go into a copy that takes its place; without, it is rewritten where it stands.
    #[serde(default)]
    pub copy: Option<CopyOf>,
}

/// A table as it was when its copy was made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyOf {
    /// Names of the columns that are copied: all but generated ones.
    pub columns: Vec<String>,
    /// Columns and CHECKs, as text: while they are so the copy is right.
    pub definition: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyColumn {
    pub name: String,
    /// In the shadow: that of the column, or what its domain is over.
    pub type_name: String,
    /// Its values are nobody's to read: messages leave them out.
    pub tagged: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    pub name: String,
    pub number: i16,
    pub from: Form,
    pub to: Form,
}

/// How the cells of a column are stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Form {
    Plain {
        /// As `format_type` prints it.
        type_name: String,
        /// Qualified, where it is not the type's own.
        collation: Option<String>,
    },
    Sealed {
        /// Without the schema.
        type_name: String,
        domain: String,
        deterministic: bool,
        /// The key version of new cells; randomized ones that are there name their own.
        version: u16,
        /// The data key's name.
        key: String,
        /// The type of what is sealed.
        data_type: String,
    },
}

impl Column {
    /// The sealed type that it has and will not have.
    pub fn leaves(&self) -> Option<&str> {
        match (&self.from, &self.to) {
            (Form::Sealed { type_name, .. }, Form::Sealed { type_name: new, .. }) if type_name == new => None,
            (Form::Sealed { type_name, .. }, _) => Some(type_name),
            (Form::Plain { .. }, _) => None,
        }
    }
}

impl Form {
    pub fn is_sealed(&self) -> bool {
        matches!(self, Form::Sealed { .. })
    }

    /// The column's type in SQL.
    pub fn sql_type(&self) -> String {
        match self {
            Form::Plain { type_name, .. } => type_name.clone(),
            Form::Sealed { type_name, .. } => format!("{SCHEMA}.{}", quoted(type_name)),
        }
    }

    /// As a column is declared: with its collation.
    pub(super) fn column_type(&self) -> String {
        match self {
            Form::Plain { type_name, collation: Some(collation) } => {
                format!("{type_name} COLLATE {collation}")
            }
            _ => self.sql_type(),
        }
    }

    /// What its cells are in the shadow, where no CHECK is needed twice.
    pub fn shadow_type(&self) -> &str {
        match self {
            Form::Plain { type_name, .. } => type_name,
            Form::Sealed { .. } => "pg_catalog.bytea",
        }
    }

    /// For people: `text`, `pgveil.email_1 (deterministic, key default 1)`.
    pub fn text(&self) -> String {
        match self {
            Form::Plain { type_name, .. } => type_name.clone(),
            Form::Sealed { type_name, deterministic, version, key, .. } => {
                let mode = if *deterministic { "deterministic" } else { "randomized" };
                format!("{SCHEMA}.{type_name} ({mode}, key {key} version {version})")
            }
        }
    }
}

impl Table {
    /// `schema.table` in SQL.
    pub fn sql(&self) -> String {
        format!("{}.{}", quoted(&self.schema), quoted(&self.name))
    }
    /// For people.
    pub fn text(&self) -> String {
        format!("{}.{}", self.schema, self.name)
    }
    /// The triggers that note its writes.
    pub fn triggers(&self) -> &'static [&'static str; 2] {
        if self.copy.is_some() { &COPY_TRIGGERS } else { &TRIGGERS }
    }
    /// The key's columns in SQL, each with something before it.
    pub fn key_list(&self, before: &str) -> String {
        let columns = self.key.iter().map(|key| format!("{before}{}", quoted(&key.name)));
        columns.collect::<Vec<_>>().join(", ")
    }
}

impl Spec {
    /// `schema.table.column` of every column, sorted.
    pub fn column_names(&self) -> Vec<String> {
        let of = |table: &Table| {
            let text = table.text();
            table.columns.iter().map(move |column| format!("{text}.{}", column.name)).collect::<Vec<_>>()
        };
        let mut names: Vec<String> = self.tables.iter().flat_map(of).collect();
        names.sort();
        names
    }

    /// Whether the tables are copied online.
    pub fn is_copied(&self) -> bool {
        self.tables.iter().any(|table| table.copy.is_some())
    }

    /// The same by copies; what they are made of is known when they are made.
    pub(super) fn by_copies(mut self) -> Spec {
        for table in &mut self.tables {
            table.copy = Some(CopyOf::default());
        }
        self
    }

    /// The conversion back.
    pub fn reversed(&self, restore: Vec<String>) -> Spec {
        let mut spec = Spec { restore, made: Vec::new(), unpublish: false, ..self.clone() };
        for table in &mut spec.tables {
            table.copy = None;
            for column in &mut table.columns {
                std::mem::swap(&mut column.from, &mut column.to);
                // A key that was converted itself has another type by now.
                for key in table.key.iter_mut().filter(|key| key.name == column.name) {
                    column.from.shadow_type().clone_into(&mut key.type_name);
                }
            }
        }
        spec
    }

    pub fn columns(&self) -> impl Iterator<Item = (&Table, &Column)> {
        self.tables.iter().flat_map(|table| table.columns.iter().map(move |column| (table, column)))
    }
}

/// The names of what stands in schema `pgveil` for one table of a conversion.
pub struct Names {
    /// Shadow of the table: its key, and the new cells `cell_1` …
    pub shadow: String,
    /// Keys of rows that were written since the shadow was begun.
    pub written: String,
    /// The triggers' function.
    pub note: String,
    /// Keys of rows that are to be in the copy and are not yet.
    pub redo: String,
    /// The copy without its schema; its indexes have names of their own after it.
    pub copy: String,
    /// The partitions that have copies under the copy.
    pub parts: String,
    /// Holds the converted cells of a batch, in the session that copies.
    pub staging: String,
    take: String,
}

/// Triggers on a table that is rewritten where it stands.
pub const TRIGGERS: [&str; 2] = ["pgveil_reseal_insert", "pgveil_reseal_update"];
/// Triggers on a table that is copied.
pub const COPY_TRIGGERS: [&str; 2] = ["pgveil_reseal_row", "pgveil_reseal_truncate"];

impl Names {
    pub fn new(conversion: i64, table: usize) -> Names {
        let name = |kind: &str| format!("{SCHEMA}.{kind}_{conversion}_{table}");
        Names {
            shadow: name("shadow"),
            written: name("written"),
            note: name("note"),
            redo: name("redo"),
            copy: format!("pgveil_copy_{conversion}_{table}"),
            parts: name("parts"),
            staging: format!("pg_temp.pgveil_staging_{conversion}_{table}"),
            take: name("take"),
        }
    }

    /// The copy while it is filled, in SQL.
    pub fn copy_sql(&self) -> String {
        format!("{SCHEMA}.{}", self.copy)
    }

    /// The copy of the table, whose OID is `whole`, or of a partition, without the schema.
    pub fn copy_of(&self, whole: u32, part: u32) -> String {
        if part == whole { self.copy.clone() } else { format!("{}_{part}", self.copy) }
    }

    /// The function that gives the new cell of a row, by its key.
    pub fn take(&self, column: usize) -> String {
        format!("{}_{column}", self.take)
    }
}

/// The shadow's column for a table's column of this index.
pub fn cell_column(index: usize) -> String {
    format!("cell_{}", index + 1)
}

/// The shadow's column for the key column of this index: names of the table's could meet ours.
pub fn key_column(index: usize) -> String {
    format!("key_{}", index + 1)
}

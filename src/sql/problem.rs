//! Why a statement cannot be sent, in the words the client will read. The plan turns it into its refusal.

use super::lineage::Tagged;
use crate::catalog::Seal;

/// What kind of trouble it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Ciphertext cannot serve this use.
    SealedUse,
    /// Not understood, and it could touch a tagged column.
    NotUnderstood,
    /// A setting that a session may not change.
    Setting,
    /// The tags of a relation cannot be applied.
    Broken,
    /// A relation is not in the catalog.
    Unresolved,
    /// What PostgreSQL itself would refuse in analysis.
    Mismatch,
}

/// Never holds a literal, a parameter or a cell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub trouble: Trouble,
    pub sqlstate: &'static str,
    pub message: String,
    pub detail: Option<String>,
    pub hint: Option<String>,
    /// Byte offset into the client's text.
    pub position: Option<usize>,
}

impl Problem {
    pub fn new(trouble: Trouble, sqlstate: &'static str, message: impl Into<String>) -> Problem {
        Problem { trouble, sqlstate, message: message.into(), detail: None, hint: None, position: None }
    }
    pub fn hint(mut self, hint: impl Into<String>) -> Problem {
        self.hint = Some(hint.into());
        self
    }
    pub fn detail(mut self, detail: impl Into<String>) -> Problem {
        self.detail = Some(detail.into());
        self
    }
    pub fn at(mut self, position: Option<usize>) -> Problem {
        self.position = self.position.or(position);
        self
    }

    /// A construct that there is no line for.
    pub fn not_understood(construct: &str) -> Problem {
        Problem::new(
            Trouble::NotUnderstood,
            "0A000",
            format!("{construct} is not supported where a tagged column is in reach"),
        )
        .hint("Keep this statement to tables without tagged columns, or write it with constructs that pgveil understands.")
    }

    /// A construct that has a line, but not over ciphertext.
    pub(super) fn sealed_use(column: &Tagged, construct: &str) -> Problem {
        let works = match column.domain().seal {
            Seal::Deterministic => {
                "A deterministic column can be selected, assigned, and compared with =, <>, IN and ANY."
            }
            Seal::Randomized | Seal::None => {
                "A randomized column can be selected, assigned and tested with IS NULL; \
                 a deterministic domain could also be compared for equality."
            }
        };
        Problem::new(
            Trouble::SealedUse,
            "0A000",
            format!(
                "{construct} is not supported on sealed column {} of table {}",
                column.name(),
                column.table()
            ),
        )
        .hint(works)
    }

    /// A relation that the catalog does not have: it is read again once, then the server says 42P01.
    pub(super) fn unresolved(name: &str) -> Problem {
        Problem::new(Trouble::Unresolved, "42P01", format!("relation \"{name}\" does not exist"))
    }

    pub(super) fn whole_row(name: &str) -> Problem {
        Problem::new(
            Trouble::SealedUse,
            "0A000",
            format!("whole-row reference to \"{name}\" is not supported because it has tagged columns"),
        )
        .hint("Name the columns instead.")
    }
}

//! Converting columns that have data in them: plain → sealed, sealed → plain, sealed → sealed by another recipe.
//!
//! One mechanism for all. Beside a table stands a *shadow* in schema `pgveil`: for each row, by its key, the converted
//! cells. It is filled in batches while the database works ([`fill`]); triggers note the keys of rows that are written
//! meanwhile, and their cells are made anew. When little is left, one transaction ([`swap`]) locks the tables, makes up
//! for the rest, and gives the columns their new type with the shadow's cells; what depends on them ([`dependents`]) is
//! dropped and made again in it, and so is the old type, so that no plan made before still works.
//!
//! Where the lock would be held for too long, the tables are copied instead ([`copy`]): the same batches, notes and phases, and
//! a swap in which the copies take the tables' places.
//!
//! Guarantees: until the swap commits the table is as it was, and afterwards every row is converted; all state is in the
//! database ([`state`]) and moves with the data in one transaction, so that a conversion may be killed at any moment and
//! started again; nothing is converted when a value does not fit; no message holds a value of a tagged column.
//! Deliberately absent: the proxies. They need not know: a stale plan names a type that is gone.

mod carry;
pub mod copy;
pub mod dependents;
pub mod fill;
pub mod in_use;
pub mod indexes;
mod pace;
pub mod publications;
pub mod rehearse;
pub mod run;
mod setup;
pub mod spec;
pub mod state;
pub mod survey;
pub mod swap;
pub mod verify;

use crate::server::service::ServiceError;
use std::error::Error;
use std::fmt;
use tokio_postgres::types::WasNull;

/// Codes of failures that are not PostgreSQL's: the partitions are others than those that have copies.
const MOVED: &str = "PV001";
/// What was read of in the catalogs is not there any more.
const GONE: &str = "PV002";
/// Tries to get locks.
const ATTEMPTS_MAX: u32 = 200;

/// Why a conversion did not go on, and what to do about it. Holds no value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The database's, if it was the database that refused; or one of our own that begins with PV.
    pub sqlstate: Option<String>,
    pub message: String,
    pub hint: Option<String>,
}

impl Failure {
    pub fn new(message: impl Into<String>) -> Failure {
        Failure { sqlstate: None, message: message.into(), hint: None }
    }
    pub fn hint(mut self, hint: impl Into<String>) -> Failure {
        self.hint = Some(hint.into());
        self
    }
    /// What the catalogs had a moment ago was dropped since.
    fn gone(message: impl Into<String>) -> Failure {
        Failure { sqlstate: Some(GONE.to_owned()), ..Failure::new(message) }
    }
    fn is(&self, sqlstates: &[&str]) -> bool {
        self.sqlstate.as_deref().is_some_and(|found| sqlstates.contains(&found))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.message)
    }
}

impl From<ServiceError> for Failure {
    fn from(error: ServiceError) -> Failure {
        Failure { sqlstate: error.sqlstate, message: error.message, hint: None }
    }
}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Failure {
        // The functions that show definitions (pg_get_viewdef and its like) show NULL for what was dropped since.
        let shows_none = error.source().is_some_and(|cause| cause.is::<WasNull>());
        let failure = Failure::from(ServiceError::from(error));
        if shows_none { Failure::gone(failure.message) } else { failure }
    }
}

/// What a conversion is doing: for whoever watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Rows of all tables that have their new cells, of about so many.
    Filling {
        done: u64,
        total: u64,
    },
    /// Indexes of a copy, of so many.
    Building {
        done: usize,
        total: usize,
    },
    /// Rows that were written meanwhile and wait for their cells.
    CatchingUp {
        left: u64,
    },
    /// The database is behind with its own work.
    Paused(&'static str),
    /// The role is not shown how much the database has to do.
    Unseen,
    Verifying,
    /// The lock on the tables is asked for, for the so-manieth time.
    Locking {
        attempt: u32,
    },
    Finishing,
}

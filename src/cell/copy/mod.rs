//! Rows of COPY: taken off a stream that may be cut anywhere, sealed on the way in, opened and shown on the way out.
//!
//! Guarantees: rows and fields are PostgreSQL's own (`commands/copyfromparse.c`, `copyto.c`), or the copy fails; what is
//! neither sealed nor opened keeps its bytes; nothing of a row leaves before the row is whole; what waits is one row, of
//! bounded length. All cells of one column that one message or read brought are sealed or opened as one batch.
//! Deliberately absent: any encoding but UTF-8, messages, deciding anything.
//!
//! `stream` finds rows, `fields` finds and spells the fields of one, `seal` and `open` are the two ways; `lines` is the way
//! out of what came as a query's rows, `recode` the way in of what the server reads in binary.

pub mod fields;
pub mod lines;
pub mod open;
mod recode;
pub mod seal;
pub mod stream;

pub use lines::CopyLines;
pub use open::CopyOpener;
pub use seal::CopySealer;

/// What is wrong with the data, as PostgreSQL words it, without the data: 22P04, or 54000 for a row that is too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadCopy {
    pub sqlstate: &'static str,
    pub message: &'static str,
}

impl BadCopy {
    const fn format(message: &'static str) -> BadCopy {
        BadCopy { sqlstate: "22P04", message }
    }
}

#[cfg(test)]
mod tests;

//! Carrying out a plan on bytes: sealing parameters and literals, opening and masking rows, describing logical types.
//!
//! Guarantees: nothing is opened without a disclosure of the judgement; a cell that does not open is a fault, never a mask
//! and never NULL; errors name columns and types, never values. All cells of one column that one read brought are opened
//! as one batch. Deliberately absent: deciding anything, sockets, the clock.

pub mod copy;
pub mod describe;
pub mod detail;
pub mod formats;
mod literal;
mod nested;
pub mod open;
pub mod person;
mod places;
mod record;
mod rows;
pub mod seal;
mod tree;
mod weight;

pub use copy::{CopyLines, CopyOpener, CopySealer};
pub use formats::Formats;
pub use open::{CellFault, FaultCause, Released, RowOpener, Tally};
pub use person::PersonFinder;
pub use seal::{SealedBind, SealedText};

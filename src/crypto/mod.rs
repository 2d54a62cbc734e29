//! Sealing and opening cells, many at a time, and the keys that do it.
//!
//! A cell is sealed with AES-256-SIV (RFC 5297) under a key of its domain, in the envelope that FORMAT.md specifies.
//! Guarantees: a cell opens only under the domain and key version its envelope names; an altered cell never opens;
//! secrets are zeroised and have no `Debug`. Deliberately absent: policy, columns, types, I/O (but in `provider`).

#[doc = include_str!("FORMAT.md")]
pub mod format {}

pub mod age;
mod cells;
mod cipher;
pub mod envelope;
pub mod keyring;
mod mask_key;
mod person;
pub mod provider;
mod secrets;
pub mod shares;
mod siv;

pub use cells::{Batch, Cells, Span};
pub use cipher::CellCipher;
pub use mask_key::MaskKey;
pub use person::{PersonHandle, PersonIndex, pseudonym};
pub use secrets::SecretBox;

use std::collections::HashMap;
use std::sync::Arc;

/// Given out by the keyring, bound into every envelope, never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DomainId(pub u16);

/// Which version of a domain's data key sealed a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyVersion(pub u16);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Equal plaintexts of a domain give equal cells, so that the database can compare them.
    Deterministic,
    /// A fresh 96-bit nonce in every cell.
    Randomized,
}

/// Where nonces come from: handed in, so that all below is deterministic under test. Asked once for many cells.
pub trait Random {
    fn fill(&mut self, bytes: &mut [u8]);
}

/// Why a cell did not open, and which of the batch it was. Never carries bytes of the cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenError {
    pub cell: usize,
    pub cause: OpenCause,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenCause {
    /// Not an envelope of ours, or of a newer format.
    NotAnEnvelope,
    /// Sealed for another domain or mode.
    OtherDomain,
    /// The keyring has no such version of the key.
    UnknownVersion(KeyVersion),
    /// The authentication tag does not fit: altered, or another key.
    Altered,
}

/// The ciphers of all domains that the policy names, by domain name. Immutable; part of a generation.
#[derive(Default)]
pub struct Ciphers {
    pub by_domain: HashMap<String, Arc<CellCipher>>,
    /// What keyed masks are made with, by domain name.
    pub mask_keys: HashMap<String, Arc<MaskKey>>,
    /// What the persons are known by that the audit log speaks of; `None` where no table has a record key.
    pub persons: Option<PersonIndex>,
}

#[cfg(test)]
mod tests;

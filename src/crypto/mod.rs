//! Sealing and opening cells, many at a time, and the keys that do it.
//!
//! A cell is sealed with AES-256-SIV (RFC 5297) under a key of its domain, in the envelope that FORMAT.md specifies.
//! Guarantees: a cell opens only under the domain and key version its envelope names; an altered cell never opens;
//! secrets are zeroised and have no `Debug`. Deliberately absent: policy, columns, types, I/O (but in `provider`).

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

/// Many cells, one after the other in one buffer: the unit in which cells are sealed and opened.
/// Holds plaintext or sealed bytes; zeroised on clear and drop, and deliberately without `Debug` and `Clone`.
#[derive(Default)]
pub struct Cells {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Cells {
    pub fn new() -> Self {
        Cells::default()
    }
    pub fn len(&self) -> usize {
        self.ends.len()
    }
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }
    pub fn push(&mut self, cell: &[u8]) {
        self.bytes.extend_from_slice(cell);
        self.ends.push(self.bytes.len());
    }
    pub fn get(&self, index: usize) -> &[u8] {
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        &self.bytes[start..self.ends[index]]
    }
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.len()).map(|index| self.get(index))
    }
}

/// Where nonces come from: handed in, so that all below is deterministic under test.
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

/// Seals and opens the cells of one domain: all versions of its key for opening, one for sealing.
pub struct CellCipher {
    _private: (),
}

impl CellCipher {
    pub fn domain(&self) -> DomainId {
        todo!()
    }
    pub fn mode(&self) -> Mode {
        todo!()
    }
    /// The version that [`seal`](Self::seal) uses for new randomized cells.
    pub fn current(&self) -> KeyVersion {
        todo!()
    }
    pub fn has(&self, _version: KeyVersion) -> bool {
        todo!()
    }
    /// Seals every cell of `plain` under `version` and appends the envelopes to `sealed`, in order.
    pub fn seal(&self, _version: KeyVersion, _plain: &Cells, _random: &mut dyn Random, _sealed: &mut Cells) {
        todo!()
    }
    /// Opens every envelope of `sealed` and appends the plaintexts to `plain`, in order. On the first cell that does
    /// not open, nothing of the batch is left in `plain`.
    pub fn open(&self, _sealed: &Cells, _plain: &mut Cells) -> Result<(), OpenError> {
        todo!()
    }
}

/// The ciphers of all domains that the policy names, by domain name. Immutable; part of a generation.
#[derive(Default)]
pub struct Ciphers {
    pub by_domain: HashMap<String, Arc<CellCipher>>,
    /// For keyed fingerprints (masks of kind `hash`, statement fingerprints): 32 bytes, own derivation.
    pub fingerprint_key: zeroize::Zeroizing<Vec<u8>>,
}

//! Sealing and opening cells, many at a time, and the keys that do it.
//!
//! A cell is sealed with AES-256-SIV (RFC 5297) under a key of its domain, in the envelope that FORMAT.md specifies.
//! Guarantees: a cell opens only under the domain and key version its envelope names; an altered cell never opens;
//! secrets are zeroised and have no `Debug`. Deliberately absent: policy, columns, types, I/O (but in `provider`).

#[doc = include_str!("FORMAT.md")]
pub mod format {}

mod cipher;
pub mod envelope;
pub mod keyring;
pub mod provider;

pub use cipher::CellCipher;

use std::collections::HashMap;
use std::sync::Arc;
use zeroize::{Zeroize, Zeroizing};

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
        self.reserve(cell.len());
        self.push_with(|bytes| bytes.extend_from_slice(cell));
    }
    /// Pushes a cell that `write` appends to the buffer, also when it fails half-way. What was there before must be left
    /// alone, and room for long cells be [`reserve`](Self::reserve)d.
    pub fn push_with<T>(&mut self, write: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        self.reserve(CELL_BYTES_USUAL);
        let written = write(&mut self.bytes);
        self.ends.push(self.bytes.len());
        written
    }
    /// Makes room for `more` bytes by moving into a larger buffer, so that the outgrown one can be zeroised: a vector
    /// that grows by itself leaves its bytes behind.
    pub fn reserve(&mut self, more: usize) {
        if self.bytes.capacity() - self.bytes.len() >= more {
            return;
        }
        let needed = self.bytes.len().saturating_add(more);
        let mut larger = Vec::with_capacity(needed.max(self.bytes.capacity().saturating_mul(2)));
        larger.extend_from_slice(&self.bytes);
        self.bytes.as_mut_slice().zeroize();
        self.bytes = larger;
    }
    /// The bytes of all cells together.
    pub fn bytes_total(&self) -> usize {
        self.bytes.len()
    }
    /// Panics when there is no such cell, as a slice does.
    pub fn get(&self, index: usize) -> &[u8] {
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        &self.bytes[start..self.ends[index]]
    }
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.len()).map(|index| self.get(index))
    }
    /// Forgets all cells, and their bytes.
    pub fn clear(&mut self) {
        self.truncate(0);
    }
    /// Forgets the cells from `length` on, and their bytes.
    pub fn truncate(&mut self, length: usize) {
        let kept =
            if length == 0 { 0 } else { self.ends.get(length - 1).copied().unwrap_or(self.bytes.len()) };
        if let Some(forgotten) = self.bytes.get_mut(kept..) {
            forgotten.zeroize();
        }
        self.bytes.truncate(kept);
        self.ends.truncate(length);
    }
}

/// Room that every pushed cell finds.
const CELL_BYTES_USUAL: usize = 256;

impl Drop for Cells {
    fn drop(&mut self) {
        // Bytes beyond the length were zeroised when they were cut off.
        self.bytes.as_mut_slice().zeroize();
    }
}

/// Where nonces come from: handed in, so that all below is deterministic under test. Asked once for a whole batch.
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
    /// For keyed fingerprints (masks of kind `hash`): 32 bytes, own derivation.
    pub fingerprint_key: Zeroizing<Vec<u8>>,
}

#[cfg(test)]
mod tests;

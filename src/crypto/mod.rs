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
        self.push_with(|bytes| bytes.extend_from_slice(cell));
    }
    /// Pushes a cell that `write` appends to the buffer. What was there before must be left alone.
    pub fn push_with<T>(&mut self, write: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        self.make_room();
        let written = write(&mut self.bytes);
        self.ends.push(self.bytes.len());
        written
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
    /// Grows in large steps into a new buffer, so that an outgrown one can be zeroised instead of left behind.
    fn make_room(&mut self) {
        const STEP: usize = 16 * 1024;
        if self.bytes.capacity() - self.bytes.len() < STEP / 4 {
            let mut larger = Vec::with_capacity((self.bytes.capacity() * 2).max(STEP));
            larger.extend_from_slice(&self.bytes);
            self.bytes.zeroize();
            self.bytes = larger;
        }
    }
}

impl Drop for Cells {
    fn drop(&mut self) {
        self.bytes.zeroize();
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

/// The ciphers of all domains that the policy names, by domain name. Immutable; part of a generation.
#[derive(Default)]
pub struct Ciphers {
    pub by_domain: HashMap<String, Arc<CellCipher>>,
    /// For keyed fingerprints (masks of kind `hash`): 32 bytes, own derivation.
    pub fingerprint_key: Zeroizing<Vec<u8>>,
}

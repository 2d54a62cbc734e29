//! The hash chain: each line of the log names the SHA-256 of the line before it.
//!
//! Guarantees: a [`Chain`] is the whole state that appending and checking need. Deliberately absent: what a line means
//! ([`super::canonical`]), and signatures ([`super::checkpoint`]).

use sha2::{Digest, Sha256};
use std::fmt;

/// SHA-256 of one line, without its line feed.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Hash(pub [u8; 32]);

impl Hash {
    pub fn of(line: &[u8]) -> Hash {
        Hash(Sha256::digest(line).into())
    }
    /// 64 lower-case hex digits.
    pub fn hex(&self) -> String {
        faster_hex::hex_string(&self.0)
    }
    /// Reads [`hex`](Self::hex); `None` for anything that is not 64 hex digits.
    pub fn from_hex(digits: &str) -> Option<Hash> {
        bytes_from_hex(digits).map(Hash)
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.hex())
    }
}

/// Exactly `2 * N` hex digits to `N` bytes.
pub(super) fn bytes_from_hex<const N: usize>(digits: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    (digits.len() == 2 * N).then_some(())?;
    faster_hex::hex_decode(digits.as_bytes(), &mut bytes).ok()?;
    Some(bytes)
}

/// Where a log stands: what the next line must say of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chain {
    /// Lines so far; the next line's sequence number.
    pub size: u64,
    /// Hash of the last line.
    pub head: Hash,
}

impl Chain {
    /// The chain of a log that is only its header.
    pub fn begin(header: &[u8]) -> Chain {
        Chain { size: 1, head: Hash::of(header) }
    }
    /// The chain after one more line.
    #[must_use]
    pub fn then(self, line: &[u8]) -> Chain {
        Chain { size: self.size + 1, head: Hash::of(line) }
    }
}

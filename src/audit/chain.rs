//! The hash chain: each line of the log names the hash of the line before it, which is the line's leaf in the tree, too.
//!
//! Guarantees: a line that is altered, removed or moved is found where it stands, whatever comes after it. Deliberately absent:
//! what a line means ([`super::canonical`]), the tree ([`super::tree`]), and signatures ([`super::checkpoint`]).

use sha2::{Digest, Sha256};
use std::fmt;

/// A SHA-256: of a line, or of a node of the tree over them.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Hash(pub [u8; 32]);

impl Hash {
    /// A line's, without its line feed: that of a leaf in RFC 6962 (section 2.1), where a zero byte stands before it.
    pub fn of(line: &[u8]) -> Hash {
        let mut digest = Sha256::new();
        digest.update([0]);
        digest.update(line);
        Hash(digest.finalize().into())
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
    /// Before the first line.
    pub const EMPTY: Chain = Chain { size: 0, head: Hash([0; 32]) };

    /// The chain after one more line.
    #[must_use]
    pub fn then(self, line: &[u8]) -> Chain {
        Chain { size: self.size + 1, head: Hash::of(line) }
    }
}

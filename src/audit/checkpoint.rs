//! Signed checkpoints: the key holder's word for everything that stands before them.
//!
//! Guarantees: a signature covers the log's id, its size, its head and the time, under a text that no other use of the
//! key produces. Deliberately absent: witnesses, and any protection from one who holds the signing key.

use super::chain::{Chain, Hash};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};

/// Given by chance when a log is made, so that checkpoints of one log say nothing of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogId(pub [u8; 16]);

/// Names a public key: the first eight bytes of its SHA-256.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyId(pub [u8; 8]);

impl KeyId {
    pub fn of(key: &VerifyingKey) -> KeyId {
        let hash = Hash::of(key.as_bytes()).0;
        let mut id = [0; 8];
        id.copy_from_slice(&hash[..8]);
        KeyId(id)
    }
}

/// A signed statement of what the log was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The log before this line.
    pub chain: Chain,
    /// Unix microseconds.
    pub time: i64,
    pub signature: [u8; 64],
}

impl Checkpoint {
    pub fn sign(log: LogId, chain: Chain, time: i64, key: &SigningKey) -> Checkpoint {
        let signature = key.sign(message(log, chain, time).as_bytes()).to_bytes();
        Checkpoint { chain, time, signature }
    }
    /// Whether `key` signed this for `log`. Says nothing of whether the log is what the checkpoint says.
    pub fn is_signed_by(&self, log: LogId, key: &VerifyingKey) -> bool {
        let message = message(log, self.chain, self.time);
        key.verify_strict(message.as_bytes(), &Signature::from_bytes(&self.signature)).is_ok()
    }
}

/// What is signed (FORMAT.md, "Checkpoint").
fn message(log: LogId, chain: Chain, time: i64) -> String {
    let log = faster_hex::hex_string(&log.0);
    let Chain { size, head } = chain;
    format!("pgveil audit checkpoint 1\nlog {log}\nsize {size}\nhead {}\ntime {time}\n", head.hex())
}

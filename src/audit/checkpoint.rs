//! Signed checkpoints: the key holder's word for everything that stands before them, as C2SP's `tlog-checkpoint` has it.
//!
//! Guarantees: a signature covers the log's id, its size, the root of the tree over its lines and the time. Deliberately absent:
//! any protection from one who holds the signing key; witnesses ([`super::note`]) are for that.

use super::chain::{Chain, Hash};
use super::note::{self, Kind, Note, NoteSignature, Tip, Verifier};
use super::tree::Tree;
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use sha2::{Digest, Sha256};

/// Given by chance when a log is made, so that checkpoints of one log say nothing of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogId(pub [u8; 16]);

impl LogId {
    /// The first line of its checkpoints, and the name of its key under them.
    pub fn origin(&self) -> String {
        format!("pgveil/{}", faster_hex::hex_string(&self.0))
    }

    /// Reads [`origin`](Self::origin).
    pub fn from_origin(origin: &str) -> Option<LogId> {
        super::chain::bytes_from_hex(origin.strip_prefix("pgveil/")?)
            .map(LogId)
            .filter(|log| log.origin() == origin)
    }

    /// A key of the log by its name.
    pub fn verifier(&self, key: &VerifyingKey) -> Verifier {
        Verifier { name: self.origin(), kind: Kind::Log, key: *key }
    }
}

/// Names a public key: the first eight bytes of its SHA-256.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyId(pub [u8; 8]);

impl KeyId {
    pub fn of(key: &VerifyingKey) -> KeyId {
        let hash: [u8; 32] = Sha256::digest(key.as_bytes()).into();
        let mut id = [0; 8];
        id.copy_from_slice(&hash[..8]);
        KeyId(id)
    }
}

/// A signed statement of what the log was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    pub log: LogId,
    /// The log before this line.
    pub chain: Chain,
    /// The root of the tree over the lines before this one.
    pub root: Hash,
    /// Unix microseconds.
    pub time: i64,
    /// Names the key under the note ([`Verifier::id`]).
    pub key: [u8; 4],
    pub signature: [u8; 64],
}

impl Checkpoint {
    /// `tree` is that over the lines of `chain`.
    pub fn sign(log: LogId, chain: Chain, tree: &Tree, time: i64, key: &SigningKey) -> Checkpoint {
        let root = tree.root();
        let signature = key.sign(text(log, chain.size, root, time).as_bytes()).to_bytes();
        Checkpoint { log, chain, root, time, key: log.verifier(&key.verifying_key()).id(), signature }
    }

    /// Whether `key` signed this for `log`. Says nothing of whether the log is what the checkpoint says.
    pub fn is_signed_by(&self, log: LogId, key: &VerifyingKey) -> bool {
        self.log == log
            && self.key == log.verifier(key).id()
            && key.verify_strict(self.text().as_bytes(), &Signature::from_bytes(&self.signature)).is_ok()
    }

    fn text(&self) -> String {
        text(self.log, self.chain.size, self.root, self.time)
    }

    /// As other tools read it.
    pub fn note(&self) -> Note {
        let signature =
            NoteSignature { name: self.log.origin(), id: self.key, bytes: self.signature.to_vec() };
        Note { text: self.text(), signatures: vec![signature] }
    }

    /// Reads a checkpoint of a log of ours, under one signature, with the chain's end that stands beside it.
    pub(super) fn from_note(note: &str, previous: Hash) -> Option<Checkpoint> {
        let Note { text, signatures } = Note::parse(note)?;
        let [NoteSignature { name, id, bytes }] = signatures.as_slice() else { return None };
        let Tip { origin, head } = Tip::parse(&text)?;
        let time = text.split('\n').nth(3)?.strip_prefix("time ")?.parse().ok()?;
        let checkpoint = Checkpoint {
            log: LogId::from_origin(&origin)?,
            chain: Chain { size: head.size, head: previous },
            root: head.root,
            time,
            key: *id,
            signature: bytes.as_slice().try_into().ok()?,
        };
        (checkpoint.text() == text && *name == origin).then_some(checkpoint)
    }
}

/// What is signed (FORMAT.md, "Checkpoint").
fn text(log: LogId, size: u64, root: Hash, time: i64) -> String {
    format!("{}\n{size}\n{}\ntime {time}\n", log.origin(), note::base64_of(&root))
}

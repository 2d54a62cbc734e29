//! Signed notes and what is signed in them: checkpoints and their cosignatures, as C2SP specifies them (`signed-note`,
//! `tlog-checkpoint`, `tlog-cosignature`), so that tools which read those read ours.
//!
//! Guarantees: reading is total and accepts one spelling; a signature is only ever checked strictly (no small-order keys,
//! canonical `S`). Deliberately absent: algorithms other than Ed25519, and files.

use super::chain::Hash;
use super::tree::Head;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use sha2::{Digest, Sha256};

/// What kind of signature a key makes; the byte that names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A log's own.
    Log = 1,
    /// A witness's.
    Cosignature = 4,
}

/// A key by its name, as verifiers are told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verifier {
    pub name: String,
    pub kind: Kind,
    pub key: VerifyingKey,
}

impl Verifier {
    /// The key's id: the first four bytes of a hash over name, kind and key.
    pub fn id(&self) -> [u8; 4] {
        let mut digest = Sha256::new();
        digest.update(self.name.as_bytes());
        digest.update([b'\n', self.kind as u8]);
        digest.update(self.key.as_bytes());
        let hash: [u8; 32] = digest.finalize().into();
        [hash[0], hash[1], hash[2], hash[3]]
    }

    /// `name+id+key`, as tools for signed notes take it (a "vkey").
    pub fn text(&self) -> String {
        let key = STANDARD.encode([&[self.kind as u8], self.key.as_bytes().as_slice()].concat());
        format!("{}+{}+{key}", self.name, faster_hex::hex_string(&self.id()))
    }

    /// Reads [`text`](Self::text).
    pub fn parse(text: &str) -> Option<Verifier> {
        let mut parts = text.splitn(3, '+');
        let (name, id, key) = (parts.next()?, parts.next()?, parts.next()?);
        let key = STANDARD.decode(key).ok()?;
        let (kind, key) = key.split_first()?;
        let kind = match kind {
            1 => Kind::Log,
            4 => Kind::Cosignature,
            _ => return None,
        };
        let key = VerifyingKey::from_bytes(key.try_into().ok()?).ok()?;
        let verifier = Verifier { name: name.to_owned(), kind, key };
        let named = is_name(name) && faster_hex::hex_string(&verifier.id()) == id;
        named.then_some(verifier)
    }
}

/// Whether a key may be called so.
pub fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.chars().any(|c| c.is_whitespace() || c.is_control() || c == '+')
}

/// One signature under a note.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoteSignature {
    pub name: String,
    pub id: [u8; 4],
    pub bytes: Vec<u8>,
}

impl NoteSignature {
    /// The line, with its line feed.
    pub fn line(&self) -> String {
        format!("— {} {}\n", self.name, STANDARD.encode([&self.id, self.bytes.as_slice()].concat()))
    }

    fn parse(line: &str) -> Option<NoteSignature> {
        let (name, signature) = line.strip_prefix("— ")?.split_once(' ')?;
        let bytes = STANDARD.decode(signature).ok()?;
        let (id, bytes) = bytes.split_first_chunk::<4>()?;
        is_name(name).then(|| NoteSignature { name: name.to_owned(), id: *id, bytes: bytes.to_vec() })
    }
}

/// Most signatures that a note may have.
const SIGNATURES_MAX: usize = 32;

/// A text and the signatures under it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// With its last line feed.
    pub text: String,
    pub signatures: Vec<NoteSignature>,
}

impl Note {
    pub fn write(&self) -> String {
        let lines: String = self.signatures.iter().map(NoteSignature::line).collect();
        format!("{}\n{lines}", self.text)
    }

    pub fn parse(note: &str) -> Option<Note> {
        let control = |byte: u8| byte < 0x20 && byte != b'\n';
        if note.bytes().any(control) {
            return None;
        }
        let end = note.rfind("\n\n")?;
        let (text, lines) = (note[..=end].to_owned(), note[end + 2..].strip_suffix('\n')?);
        let signatures = lines.split('\n').map(NoteSignature::parse).collect::<Option<Vec<_>>>()?;
        (signatures.len() <= SIGNATURES_MAX).then_some(Note { text, signatures })
    }

    /// The signatures that `verifier` made and that hold; `None` when one of them does not.
    pub fn signed_by(&self, verifier: &Verifier) -> Option<Vec<&NoteSignature>> {
        let id = verifier.id();
        let own = self.signatures.iter().filter(|one| one.name == verifier.name && one.id == id);
        own.map(|one| self.holds(one, verifier).then_some(one)).collect()
    }

    fn holds(&self, signature: &NoteSignature, verifier: &Verifier) -> bool {
        let (message, bytes) = match verifier.kind {
            Kind::Log => (self.text.clone(), signature.bytes.as_slice()),
            Kind::Cosignature => {
                let Some((time, bytes)) = signature.bytes.split_first_chunk::<8>() else { return false };
                (cosigned(&self.text, u64::from_be_bytes(*time)), bytes)
            }
        };
        let Ok(bytes) = <[u8; 64]>::try_from(bytes) else { return false };
        verifier.key.verify_strict(message.as_bytes(), &Signature::from_bytes(&bytes)).is_ok()
    }
}

/// What a witness signs (`tlog-cosignature`); `time` in Unix seconds.
fn cosigned(text: &str, time: u64) -> String {
    format!("cosignature/v1\ntime {time}\n{text}")
}

/// A witness's word that the checkpoint `text` continues all that it saw before; `time` in Unix seconds.
pub fn cosign(text: &str, name: &str, key: &SigningKey, time: u64) -> NoteSignature {
    let verifier = Verifier { name: name.to_owned(), kind: Kind::Cosignature, key: key.verifying_key() };
    let signature = key.sign(cosigned(text, time).as_bytes()).to_bytes();
    let bytes = [time.to_be_bytes().as_slice(), &signature].concat();
    NoteSignature { name: name.to_owned(), id: verifier.id(), bytes }
}

/// The first three lines of a checkpoint's text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tip {
    pub origin: String,
    pub head: Head,
}

impl Tip {
    /// Reads them off a checkpoint's text, whatever lines follow.
    pub fn parse(text: &str) -> Option<Tip> {
        let mut lines = text.split('\n');
        let (origin, size, root) = (lines.next()?, lines.next()?, lines.next()?);
        let size: u64 = size.parse().ok().filter(|number: &u64| number.to_string() == size)?;
        let root = STANDARD.decode(root).ok()?;
        let root = Hash(root.try_into().ok()?);
        (!origin.is_empty()).then(|| Tip { origin: origin.to_owned(), head: Head { size, root } })
    }
}

/// A hash as notes and proofs spell it.
pub fn base64_of(hash: &Hash) -> String {
    STANDARD.encode(hash.0)
}

/// Reads [`base64_of`].
pub fn hash_from_base64(text: &str) -> Option<Hash> {
    STANDARD.decode(text).ok()?.try_into().ok().map(Hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The note of the specification of signed notes in Go's own tests (`golang.org/x/mod/sumdb/note`).
    const PETER: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
    const NOTE: &str = "If you think cryptography is the answer to your problem,\n\
        then you don't know what your problem is.\n\n\
        — PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";

    #[test]
    fn a_note_of_another_program_verifies() {
        let verifier = Verifier::parse(PETER).unwrap();
        assert_eq!(verifier.text(), PETER);
        let note = Note::parse(NOTE).unwrap();
        assert_eq!(note.write(), NOTE);
        assert_eq!(note.signed_by(&verifier).unwrap().len(), 1);
        let changed = Note::parse(&NOTE.replace("answer", "Answer")).unwrap();
        assert_eq!(changed.signed_by(&verifier), None);
        assert_eq!(Verifier::parse(&PETER.replace("c74f", "c74e")), None);
    }

    #[test]
    fn a_cosignature_says_when_and_over_what() {
        let key = SigningKey::from_bytes(&[4; 32]);
        let verifier =
            Verifier { name: "w.example/1".to_owned(), kind: Kind::Cosignature, key: key.verifying_key() };
        let text = "pgveil/x\n3\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n".to_owned();
        let signature = cosign(&text, "w.example/1", &key, 1_679_315_147);
        assert_eq!(signature.bytes.first_chunk(), Some(&1_679_315_147u64.to_be_bytes()));
        let mut note = Note { text, signatures: vec![signature] };
        let read = Note::parse(&note.write()).unwrap();
        assert_eq!(read, note);
        assert_eq!(read.signed_by(&verifier).unwrap().len(), 1);
        note.signatures[0].bytes[7] ^= 1;
        assert_eq!(note.signed_by(&verifier), None, "the time is signed, too");
        let tip = Tip::parse(&note.text).unwrap();
        assert_eq!((tip.origin.as_str(), tip.head.size), ("pgveil/x", 3));
    }

    #[test]
    fn what_is_no_note_is_refused() {
        for text in [
            "",
            "a\n\n",
            "a\n— x AAAA\n",
            "a\n\n— x\n",
            "a\n\n— x AAAA",
            "a\n\n— x !!!!!!!!\n",
            "a\n\n— x+y AAAAAAAAAA==\n",
            "a\u{1}\n\n— x AAAAAAAAAA==\n",
        ] {
            assert_eq!(Note::parse(text), None, "{text:?}");
        }
    }
}

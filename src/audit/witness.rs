//! What a witness does (C2SP `tlog-witness`): it remembers the largest tree that it saw of a log and co-signs only what continues it.
//!
//! Guarantees: what was seen is on disk before a cosignature is given, and requests of one log go one after the other. Deliberately
//! absent: the network; a request may come by any road.

use super::checkpoint::LogId;
use super::note::Note;
use super::note::{NoteSignature, Tip, Verifier, base64_of, cosign, hash_from_base64};
use super::tree::{Head, is_consistent};
use super::{Fault, files};
use crate::audit::chain::Hash;
use ed25519_dalek::SigningKey;
use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// A request to co-sign: the size that was seen, the proof from there, the checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    old: u64,
    proof: Vec<Hash>,
    note: Note,
}

/// Most hashes that a proof may have.
const PROOF_MAX: usize = 63;

impl Request {
    pub fn parse(text: &str) -> Option<Request> {
        let (head, note) = text.split_once("\n\n")?;
        let mut lines = head.split('\n');
        let old = lines.next()?.strip_prefix("old ")?;
        let old = old.parse().ok().filter(|number: &u64| number.to_string() == old)?;
        let proof = lines.map(hash_from_base64).collect::<Option<Vec<_>>>()?;
        let note = Note::parse(note)?;
        (proof.len() <= PROOF_MAX).then_some(Request { old, proof, note })
    }
}

/// What a witness says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Cosigned(NoteSignature),
    Refused(String),
}

/// The largest tree that was seen of a log.
pub struct Seen {
    log: LogId,
    path: PathBuf,
    head: Head,
    /// Held for as long as this lives.
    _lock: File,
}

const NOTHING: Head = Head { size: 0, root: Hash([0; 32]) };

impl Seen {
    /// Reads what was seen of `log`, and keeps others from it meanwhile.
    pub fn open(folder: &Path, log: LogId) -> Result<Seen, Fault> {
        let path = folder.join(format!("seen-{}", faster_hex::hex_string(&log.0)));
        let cannot = |error: std::io::Error| Fault::new(format!("could not use {}: {error}", path.display()));
        let lock = path.with_extension("lock");
        let lock = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(lock);
        let lock = lock.map_err(cannot)?;
        lock.lock().map_err(cannot)?;
        let head = if path.exists() {
            let mut text = String::new();
            File::open(&path).and_then(|mut file| file.read_to_string(&mut text)).map_err(cannot)?;
            let tip = Tip::parse(&text).filter(|tip| tip.origin == log.origin());
            tip.ok_or_else(|| Fault::new(format!("{} is not what a witness has seen", path.display())))?.head
        } else {
            NOTHING
        };
        Ok(Seen { log, path, head, _lock: lock })
    }

    pub fn head(&self) -> Head {
        self.head
    }

    /// Co-signs with `key` as `name` what continues the tree that was seen, if one of the log's keys signed it. `now` in Unix
    /// seconds.
    pub fn answer(
        &mut self,
        request: &Request,
        log_keys: &[Verifier],
        name: &str,
        key: &SigningKey,
        now: u64,
    ) -> Result<Answer, Fault> {
        let refused = |why: String| Ok(Answer::Refused(why));
        let Some(tip) = Tip::parse(&request.note.text).filter(|tip| tip.origin == self.log.origin()) else {
            return refused("this is not a checkpoint of the log whose key was given".to_owned());
        };
        let signed = |key: &Verifier| request.note.signed_by(key).is_some_and(|signed| !signed.is_empty());
        if !log_keys.iter().any(signed) {
            return refused("the checkpoint is not signed by the log's key".to_owned());
        }
        if request.old != self.head.size {
            return refused(format!(
                "the request begins at size {}, and this witness saw size {} last",
                request.old, self.head.size
            ));
        }
        if !is_consistent(self.head, tip.head, &request.proof) {
            return refused(format!(
                "the log was rewritten: its {} lines do not continue the {} that this witness saw",
                tip.head.size, self.head.size
            ));
        }
        self.keep(tip.head)?;
        Ok(Answer::Cosigned(cosign(&request.note.text, name, key, now)))
    }

    fn keep(&mut self, head: Head) -> Result<(), Fault> {
        let cannot =
            |error: std::io::Error| Fault::new(format!("could not write {}: {error}", self.path.display()));
        let text = format!("{}\n{}\n{}\n", self.log.origin(), head.size, base64_of(&head.root));
        files::replace(&self.path, 0o600, text.as_bytes()).map_err(cannot)?;
        files::sync_folder(&self.path).map_err(cannot)?;
        self.head = head;
        Ok(())
    }
}

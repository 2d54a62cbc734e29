//! What commands ask the log's owner to record: the log has one writer, and beside a running proxy a command is not it.
//!
//! A command leaves a note in the log's folder before it does what is to be recorded; the owner takes notes each second, or when it
//! starts. Guarantees: a note that was left is recorded at least once; one that cannot be read is recorded as such. Deliberately
//! absent: protection from who may write in the folder; such a one could do without the command, too.

use super::{Event, Fault};
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
use std::path::Path;

/// The file with notes, one a line.
const NOTES: &str = "notes";
/// More than this of it is not read.
const BYTES_MAX: u64 = 1 << 20;

/// What a command does with keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, untagged)]
pub enum Deed {
    /// It gives them out.
    Export { at: String, to: String },
    /// It changes one: a data key by its name, or, without a name, the master key.
    Change { at: String, key: String, change: String },
}

impl From<Deed> for Event {
    fn from(deed: Deed) -> Event {
        match deed {
            Deed::Export { at, to } => Event::KeysExported { at, to },
            Deed::Change { at, key, change } => Event::DataKeyChanged { at, key, change },
        }
    }
}

/// Leaves a note of what is about to be done with keys, in the folder of a log. False where there is no such folder, so
/// that nobody records.
///
/// # Errors
/// The note cannot be written.
pub fn leave(folder: &Path, deed: &Deed) -> Result<bool, Fault> {
    let refused = |error: io::Error| {
        Fault::new(format!("{} cannot be written: {error}", folder.join(NOTES).display()))
            .hint("What cannot be recorded is not done: let the user of this command write there.")
    };
    let owner = match std::fs::metadata(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        found => found.map_err(refused)?,
    };
    let line = serde_json::to_string(deed).expect("strings are JSON");
    let mut options = OpenOptions::new();
    let opened = options.create(true).append(true).mode(0o600).open(folder.join(NOTES));
    let left = opened.and_then(|mut file| {
        file.lock()?;
        // An administrator's command must not leave what the proxy's user cannot read.
        if file.metadata()?.uid() != owner.uid() {
            fchown(&file, Some(owner.uid()), Some(owner.gid()))?;
        }
        file.write_all(format!("{line}\n").as_bytes())?;
        file.sync_all()
    });
    left.map(|()| true).map_err(refused)
}

/// Notes that were taken. They are there, and nobody adds to them, until they are [`done`](Self::done) or dropped.
pub struct Taken {
    file: File,
    pub events: Vec<Event>,
}

/// The notes that were left; `None` when there are none.
///
/// # Errors
/// They cannot be read now.
pub fn take(folder: &Path) -> io::Result<Option<Taken>> {
    let mut file = match OpenOptions::new().read(true).write(true).open(folder.join(NOTES)) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    if file.metadata()?.len() == 0 {
        return Ok(None);
    }
    file.lock()?;
    let mut bytes = Vec::new();
    (&mut file).take(BYTES_MAX).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let events = text.lines().map(|line| match serde_json::from_str::<Deed>(line) {
        Ok(deed) => deed.into(),
        Err(_) => Event::KeysExported { at: String::new(), to: "a note that cannot be read".to_owned() },
    });
    let events = events.collect();
    Ok(Some(Taken { file, events }))
}

impl Taken {
    /// They are recorded.
    ///
    /// # Errors
    /// They cannot be removed, and will be taken again.
    pub fn done(self) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_are_taken_until_they_are_done() {
        let folder = tempfile::tempdir().expect("a folder");
        let take = || take(folder.path()).expect("readable");
        assert!(take().is_none());
        for to in ["age1ann", "age1\nbob"] {
            assert_eq!(leave(folder.path(), &Deed::Export { at: "now".into(), to: to.into() }), Ok(true));
        }
        let change =
            Deed::Change { at: "then".into(), key: "payment".into(), change: "version 2 made".into() };
        assert_eq!(leave(folder.path(), &change), Ok(true));
        std::fs::OpenOptions::new()
            .append(true)
            .open(folder.path().join(NOTES))
            .and_then(|mut file| file.write_all(b"{}\n"))
            .expect("written");
        let left = [("now", "age1ann"), ("now", "age1\nbob"), ("", "a note that cannot be read")];
        let mut left = left.map(|(at, to)| Event::KeysExported { at: at.into(), to: to.into() }).to_vec();
        left.insert(2, change.clone().into());
        assert_eq!(take().expect("notes").events, left);
        let again = take().expect("not done yet");
        assert_eq!(again.events, left);
        again.done().expect("writable");
        assert!(take().is_none());
        assert_eq!(leave(&folder.path().join("none"), &change), Ok(false));
    }
}

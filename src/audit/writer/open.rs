//! Opening a log, or beginning one; and going over to a new signing key.
//!
//! Guarantees: one process has a log open; what a crash left half done is finished or undone, and the log says so. A file that is
//! not there though older segments are is not taken for a new log. Deliberately absent: the writer's thread.

use super::super::checkpoint::{KeyId, LogId};
use super::super::resume::{Resumed, resume};
use super::super::segments::{self, LOG_FILE};
use super::super::{AuditRecord, Event, Fault, files, keys};
use super::appender::{self, Appender, End};
use super::disk::{FileDisk, coming};
use super::journal::{JOURNAL_FILE, Journal};
use super::{Clock, Repair};
use crate::audit::chain::Chain;
use crate::audit::tree::Tree;
use ed25519_dalek::SigningKey;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

const LOCK_FILE: &str = "lock";

/// How long who has the log is waited for: a proxy that is ending, a command that has a person forgotten; and a process that was
/// forked off where the log was open has it, too, until it executes its program.
const UNLOCKED_WITHIN: Duration = Duration::from_secs(1);

pub(super) struct Opened {
    pub(super) appender: Appender,
    pub(super) repair: Option<Repair>,
    pub(super) lock: File,
}

pub(super) fn open(folder: &Path, clock: Clock) -> Result<Opened, Fault> {
    keys::ensure_folder(folder)?;
    let lock = lock(folder)?;
    let path = folder.join(LOG_FILE);
    let mut key = keys::signing_key(folder)?;
    if !exists(&path)? {
        find_newest(folder, &path, &key, clock())?;
    }
    let _ = fs::remove_file(coming(&path));
    let mut file = OpenOptions::new().read(true).write(true).open(&path).map_err(|error| {
        unusable(&path, error.to_string()).hint("The proxy's user needs to read and write it.")
    })?;
    check_mode(&path, &file)?;
    let journal = Journal::open(folder, &file)
        .map_err(|error| unusable(&folder.join(JOURNAL_FILE), error.to_string()))?;
    let resumed = match resume(&mut file, &key.verifying_key()) {
        // The segment was begun, and then the keys' files were not yet exchanged.
        Err(_) if begun_with_next(folder, &mut file) => {
            keys::adopt_next(folder)?;
            key = keys::signing_key(folder)?;
            resume(&mut file, &key.verifying_key())
        }
        resumed => resumed,
    };
    let resumed = resumed.map_err(|fault| {
        let told = unusable(&path, fault.message);
        Fault { hint: fault.hint, ..told }
    })?;
    let Resumed { header, chain, tree, length, unsigned, cut } = resumed;
    let repair = (unsigned > 0 || cut > 0).then_some(Repair { unsigned, cut });
    let disk = FileDisk::new(file, path.clone(), length + cut, journal)
        .map_err(|error| unusable(&path, error.to_string()))?;
    let end = End {
        log: header.log,
        chain,
        tree,
        length,
        signed: unsigned == 0,
        first: header.chain.size,
        begun: header.time,
    };
    let mut appender = Appender::new(Box::new(disk), end, key, clock.clone());
    if let Some(Repair { unsigned, cut }) = repair {
        let record = AuditRecord::of_the_proxy(clock(), Event::Recovered { unsigned, cut });
        appender.cut_back().map_err(|why| unusable(&path, why.0))?;
        appender.append(&[&record], true).map_err(|why| unusable(&path, why.0))?;
    }
    change_key(&mut appender, folder)?;
    Ok(Opened { appender, repair, lock })
}

/// Hands over to the key that waits in the folder, if one does: the old one's last word names it, a new segment is its
/// first, and the old one is destroyed.
pub(super) fn change_key(appender: &mut Appender, folder: &Path) -> Result<bool, Fault> {
    let Some(next) = keys::next_key(folder)? else { return Ok(false) };
    let told = |why: super::Unrecorded| unusable(&folder.join(LOG_FILE), why.0);
    let key = faster_hex::hex_string(next.verifying_key().as_bytes());
    let record = AuditRecord::of_the_proxy(appender.now(), Event::KeyChanged { key });
    appender.append(&[&record], true).map_err(told)?;
    appender.rotate(Some(next)).map_err(told)?;
    keys::adopt_next(folder)?;
    Ok(true)
}

/// Whether the newest segment was begun with the key that waits in the folder.
fn begun_with_next(folder: &Path, file: &mut File) -> bool {
    let Ok(Some(next)) = keys::next_key(folder) else { return false };
    resume(file, &next.verifying_key())
        .is_ok_and(|resumed| resumed.header.key == KeyId::of(&next.verifying_key()))
}

/// What to do when there is no newest segment: begin a log; or finish a change of segments that broke off.
fn find_newest(folder: &Path, path: &Path, key: &SigningKey, time: i64) -> Result<(), Fault> {
    let cannot = |error: io::Error| unusable(path, error.to_string());
    if segments::sealed_in(folder).map_err(cannot)?.is_empty() {
        return begin(path, key, time);
    }
    if exists(&coming(path))? {
        fs::rename(coming(path), path).map_err(cannot)?;
        return files::sync_folder(path).map_err(cannot);
    }
    Err(unusable(path, "it is missing, though older segments of the log are there".to_owned())
        .hint("Someone removed it. Put it back, or begin a new log in another folder and keep this one as evidence."))
}

fn exists(path: &Path) -> Result<bool, Fault> {
    path.try_exists().map_err(|error| unusable(path, error.to_string()))
}

fn unusable(path: &Path, why: String) -> Fault {
    Fault::new(format!("the audit log {} cannot be used: {why}", path.display()))
}

fn lock(folder: &Path) -> Result<File, Fault> {
    let path = folder.join(LOCK_FILE);
    let lock = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
    let lock = lock.map_err(|error| unusable(&path, error.to_string()))?;
    let deadline = Instant::now() + UNLOCKED_WITHIN;
    loop {
        match lock.try_lock() {
            Ok(()) => return Ok(lock),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => sleep(UNLOCKED_WITHIN / 100),
            Err(TryLockError::WouldBlock) => {
                let fault =
                    Fault::new(format!("another process writes the audit log in {}", folder.display()));
                return Err(fault.hint(
                    "One log has one writer. Stop the other pgveil, or give this one its own `[audit] path`.",
                ));
            }
            Err(TryLockError::Error(error)) => return Err(unusable(&path, error.to_string())),
        }
    }
}

fn check_mode(path: &Path, file: &File) -> Result<(), Fault> {
    let mode = file.metadata().map_err(|error| unusable(path, error.to_string()))?.mode() & 0o777;
    if mode & 0o077 == 0 {
        return Ok(());
    }
    let fault = unusable(path, format!("others may touch it (mode {mode:04o})"));
    Err(fault.hint(format!("Run `chmod 600 {}`.", path.display())))
}

/// Writes a new log: its header and a checkpoint over it, whole or not at all.
pub(super) fn begin(path: &Path, key: &SigningKey, time: i64) -> Result<(), Fault> {
    let mut log = [0; 16];
    getrandom::fill(&mut log).map_err(|error| unusable(path, error.to_string()))?;
    let (content, _) = appender::begin(LogId(log), Chain::EMPTY, Tree::default(), time, key);
    keys::create(path, 0o600, &content)
}

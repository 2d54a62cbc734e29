//! Provider `file`: the keyring is a JSON file, the master key a setting or another file.
//!
//! Guarantees: neither is used while group or others may read it; a file is written whole or not at all; one that exists
//! is replaced only by who holds its [`Lock`], so that of two processes none undoes what the other wrote: a keyring that
//! is lost takes the data with it. Deliberately absent: what belongs into a keyring.

use crate::crypto::keyring::{Keyring, KeyringError, MasterKey};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Why key files cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error("cannot read {path}: {source}", path = path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot write {path}: {source}", path = path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("{path} has group or world access (mode {mode:04o})", path = path.display())]
    Permissions { path: PathBuf, mode: u32 },
    #[error("{path}: {source}", path = path.display())]
    Keyring { path: PathBuf, source: KeyringError },
}

/// Refuses a file that group or others may read or write.
///
/// # Errors
/// [`FileError::Permissions`], [`FileError::Read`].
pub fn check_private(path: &Path) -> Result<(), FileError> {
    open_private(path).map(|_| ())
}

/// Checks the file that is then read, not another one that has taken its name in between.
fn open_private(path: &Path) -> Result<File, FileError> {
    let opened = File::open(path).and_then(|file| file.metadata().map(|metadata| (file, metadata.mode())));
    let (file, mode) = opened.map_err(|source| FileError::Read { path: path.to_owned(), source })?;
    let mode = mode & 0o7777;
    if mode & 0o077 != 0 {
        return Err(FileError::Permissions { path: path.to_owned(), mode });
    }
    Ok(file)
}

/// The text of a file that only its owner may read.
///
/// # Errors
/// [`FileError::Permissions`], [`FileError::Read`].
pub fn read_private(path: &Path) -> Result<Zeroizing<String>, FileError> {
    let mut text = Zeroizing::new(String::new());
    let read = open_private(path)?.read_to_string(&mut text);
    read.map_err(|source| FileError::Read { path: path.to_owned(), source })?;
    Ok(text)
}

/// Reads a master key file: 32 bytes in hexadecimal or base64, mode 0600.
///
/// # Errors
/// Any [`FileError`].
pub fn read_master_key(path: &Path) -> Result<MasterKey, FileError> {
    let text = read_private(path)?;
    MasterKey::parse(&text).map_err(|source| FileError::Keyring { path: path.to_owned(), source })
}

/// Loads the keyring.
///
/// # Errors
/// Any [`FileError`]; a wrong master key says so.
pub fn load(path: &Path, master: &MasterKey) -> Result<Keyring, FileError> {
    open(path, &read_private(path)?, master)
}

/// As [`load`], of a keyring whose text was read already.
///
/// # Errors
/// [`FileError::Keyring`].
pub fn open(path: &Path, json: &str, master: &MasterKey) -> Result<Keyring, FileError> {
    Keyring::unwrap_json(json, master).map_err(|source| FileError::Keyring { path: path.to_owned(), source })
}

/// Writes a keyring where there is none, mode 0600.
///
/// # Errors
/// [`FileError::Write`]; so when one is there by now.
pub fn create(path: &Path, keyring: &Keyring, master: &MasterKey) -> Result<(), FileError> {
    create_private(path, keyring.wrap_json(master).as_bytes())
}

/// Writes the keyring, mode 0600: a reader sees the old file or the new one, whole. `lock` must have been taken before
/// what is written now was read.
///
/// # Errors
/// [`FileError::Write`].
pub fn save(lock: &Lock, keyring: &Keyring, master: &MasterKey) -> Result<(), FileError> {
    replace_private(lock, keyring.wrap_json(master).as_bytes())
}

/// The right to replace one file, held by one process at a time (`flock` on a file beside it, which stays there: a lock
/// on the file itself would go with what a rename replaces).
pub struct Lock {
    path: PathBuf,
    /// Unlocked when it is closed, by the end of a killed process too.
    _held: File,
}

/// Waits for the right to replace the file at `path`, which need not exist.
///
/// # Errors
/// [`FileError::Write`]: the folder cannot be written, or its file system has no locks.
pub fn lock(path: &Path) -> Result<Lock, FileError> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".lock");
    let beside = PathBuf::from(beside);
    let opened = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&beside);
    let held = opened.and_then(|file| file.lock().map(|()| file));
    let held = held.map_err(|source| FileError::Write { path: beside, source })?;
    Ok(Lock { path: path.to_owned(), _held: held })
}

/// Replaces a file by one of mode 0600.
///
/// # Errors
/// [`FileError::Write`].
pub fn replace_private(lock: &Lock, content: &[u8]) -> Result<(), FileError> {
    write_private(&lock.path, content, |temporary, path| fs::rename(temporary, path))
}

/// Writes a file of mode 0600 where there is none.
///
/// # Errors
/// [`FileError::Write`]; so when one is there by now, which is left alone.
pub fn create_private(path: &Path, content: &[u8]) -> Result<(), FileError> {
    // A link, unlike a rename, never replaces what another process made meanwhile.
    write_private(path, content, |temporary, path| {
        fs::hard_link(temporary, path).and_then(|()| fs::remove_file(temporary))
    })
}

/// Writes a temporary file beside `path`, synced before `publish` gives it its name.
fn write_private(
    path: &Path,
    content: &[u8],
    publish: impl FnOnce(&Path, &Path) -> io::Result<()>,
) -> Result<(), FileError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let temporary = folder.join(name);
    let written = || -> io::Result<()> {
        // One left by a killed process of the same id may have another mode.
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(content)?;
        file.sync_all()?;
        publish(&temporary, path)?;
        File::open(folder)?.sync_all()
    };
    written().map_err(|source| {
        // Best effort: what could not be renamed is of no use to anyone.
        let _ = fs::remove_file(&temporary);
        FileError::Write { path: path.to_owned(), source }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn key_files_must_be_private() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("keyring.json");
        let master = MasterKey::new([1; 32]);
        create(&path, &Keyring::create(), &master).expect("writes");
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        load(&path, &master).expect("private");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("chmod");
        assert!(matches!(load(&path, &master), Err(FileError::Permissions { mode: 0o640, .. })));
        save(&lock(&path).expect("alone"), &Keyring::create(), &master).expect("writes");
        load(&path, &master).expect("a written file is private again");
    }

    #[test]
    fn a_keyring_that_is_there_is_not_created_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("keyring.json");
        let master = MasterKey::new([1; 32]);
        create(&path, &Keyring::create(), &master).expect("writes");
        let before = fs::read(&path).expect("there");
        let mut other = Keyring::create();
        other.ensure_domain("email").expect("ids are left");
        let Err(FileError::Write { source, .. }) = create(&path, &other, &master) else {
            panic!("it was created twice")
        };
        assert_eq!(source.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).expect("there"), before);
        assert_eq!(fs::read_dir(folder.path()).expect("readable").count(), 1);
    }

    #[test]
    fn a_lock_is_held_by_one_at_a_time() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("keyring.json");
        let first = lock(&path).expect("alone");
        let (sender, receiver) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            scope.spawn(|| sender.send(lock(&path).is_ok()));
            assert!(receiver.recv_timeout(std::time::Duration::from_millis(100)).is_err());
            drop(first);
            assert!(receiver.recv().expect("sent"));
        });
    }

    #[test]
    fn what_cannot_be_written_leaves_the_old_file_and_nothing_else() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("keyring.json");
        fs::create_dir(&path).expect("in the way");
        let lock = lock(&path).expect("alone");
        assert!(matches!(replace_private(&lock, b"secret"), Err(FileError::Write { .. })));
        assert!(matches!(create_private(&path, b"secret"), Err(FileError::Write { .. })));
        let left = fs::read_dir(folder.path()).expect("readable").count();
        assert_eq!(left, 2, "what was in the way, and the lock");
    }
}

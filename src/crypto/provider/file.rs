//! Provider `file`: the keyring is a JSON file, the master key a setting or another file. Neither may be readable by
//! group or others.

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

fn read_private(path: &Path) -> Result<Zeroizing<String>, FileError> {
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
    let json = read_private(path)?;
    Keyring::unwrap_json(&json, master).map_err(|source| FileError::Keyring { path: path.to_owned(), source })
}

/// Writes the keyring, mode 0600: a reader sees the old file or the new one, whole.
///
/// # Errors
/// [`FileError::Write`].
pub fn save(path: &Path, keyring: &Keyring, master: &MasterKey) -> Result<(), FileError> {
    write_private(path, keyring.wrap_json(master).as_bytes())
}

/// Writes a file of mode 0600 by way of a temporary one beside it, synced before it is renamed.
///
/// # Errors
/// [`FileError::Write`].
pub fn write_private(path: &Path, content: &[u8]) -> Result<(), FileError> {
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
        fs::rename(&temporary, path)?;
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
        save(&path, &Keyring::create(), &master).expect("writes");
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        load(&path, &master).expect("private");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("chmod");
        assert!(matches!(load(&path, &master), Err(FileError::Permissions { mode: 0o640, .. })));
        save(&path, &Keyring::create(), &master).expect("writes");
        load(&path, &master).expect("a written file is private again");
    }

    #[test]
    fn what_cannot_be_written_leaves_the_old_file_and_nothing_else() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("keyring.json");
        fs::create_dir(&path).expect("in the way");
        assert!(matches!(write_private(&path, b"secret"), Err(FileError::Write { .. })));
        assert_eq!(fs::read_dir(folder.path()).expect("readable").count(), 1);
    }
}

//! Provider `file`: the keyring is a JSON file, the master key a setting or another file. Neither may be readable by
//! group or others.

use crate::crypto::keyring::{Keyring, KeyringError, MasterKey};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
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
    let metadata = fs::metadata(path).map_err(|source| FileError::Read { path: path.to_owned(), source })?;
    let mode = metadata.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(FileError::Permissions { path: path.to_owned(), mode });
    }
    Ok(())
}

fn read_private(path: &Path) -> Result<Zeroizing<String>, FileError> {
    check_private(path)?;
    let text =
        fs::read_to_string(path).map_err(|source| FileError::Read { path: path.to_owned(), source })?;
    Ok(Zeroizing::new(text))
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
    let written = || -> io::Result<()> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}.new", std::process::id()));
        let temporary = folder.join(name);
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        File::open(folder)?.sync_all()
    };
    written().map_err(|source| FileError::Write { path: path.to_owned(), source })
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
    }
}

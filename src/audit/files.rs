//! Writing whole files durably: under a passing name first, so that a crash leaves no half of one.
//!
//! Guarantees: after any crash a file has its old content or its new one. Deliberately absent: what is in them.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Device and number, which tell a file from every other that is there.
pub(super) type Identity = (u64, u64);

pub(super) fn identity(metadata: &fs::Metadata) -> Identity {
    (metadata.dev(), metadata.ino())
}

/// The name of a file that belongs to another one.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Writes a file that does not exist yet, its name included.
pub(super) fn create(path: &Path, mode: u32, content: &[u8]) -> io::Result<()> {
    let passing = write_passing(path, mode, content)?;
    // A link, unlike a rename, never replaces what another process made meanwhile.
    fs::hard_link(&passing, path)?;
    fs::remove_file(&passing)?;
    sync_folder(path)
}

/// Writes a file in place of the one that is there. Until its folder is synced, a crash may bring the old one back.
pub(super) fn replace(path: &Path, mode: u32, content: &[u8]) -> io::Result<()> {
    fs::rename(write_passing(path, mode, content)?, path)
}

fn write_passing(path: &Path, mode: u32, content: &[u8]) -> io::Result<PathBuf> {
    let passing = beside(path, ".new");
    match fs::remove_file(&passing) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&passing)?;
    file.write_all(content)?;
    file.sync_all()?;
    Ok(passing)
}

/// Makes the names in a file's folder durable.
pub(super) fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

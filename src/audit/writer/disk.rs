//! What the writer needs of a file, so that tests can stand a failing one in its place.
//!
//! Guarantees: [`FileDisk`] notices that its file was removed, renamed, shortened or lengthened behind its back, or that
//! another stands in its place, and then does not write. Deliberately absent: what the bytes mean.

use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;
use std::{fs, io};

/// A file that grows at its end.
pub(super) trait Disk: Send {
    /// Writes at the end, which is at `length`. After an error any part of `bytes` may be there.
    fn append(&mut self, length: u64, bytes: &[u8]) -> io::Result<()>;
    /// Returns when all that was written is on disk.
    fn sync(&mut self) -> io::Result<()>;
    /// Cuts the file to `length`, durably.
    fn cut(&mut self, length: u64) -> io::Result<()>;
}

/// A real file.
pub(super) struct FileDisk {
    file: File,
    /// Where auditors look for it.
    path: PathBuf,
    /// What the file's length must be; `None` after an error, until it was cut.
    length: Option<u64>,
}

impl FileDisk {
    pub(super) fn new(file: File, path: PathBuf, length: u64) -> FileDisk {
        FileDisk { file, path, length: Some(length) }
    }

    /// Fails when what we write would not be where auditors look for it.
    fn is_ours(&self) -> io::Result<()> {
        let metadata = self.file.metadata()?;
        if metadata.nlink() == 0 {
            return Err(io::Error::other("the log's file was removed; restart to begin a new one"));
        }
        let same = |there: &fs::Metadata| (there.dev(), there.ino()) == (metadata.dev(), metadata.ino());
        match fs::metadata(&self.path) {
            Ok(there) if same(&there) => {}
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {
                let why =
                    "the log's file was renamed or replaced; put it back, or restart to begin a new one";
                return Err(io::Error::other(why));
            }
        }
        if self.length.is_some_and(|length| length != metadata.len()) {
            return Err(io::Error::other("the log's file was changed by someone else"));
        }
        Ok(())
    }
}

impl Disk for FileDisk {
    fn append(&mut self, length: u64, bytes: &[u8]) -> io::Result<()> {
        self.is_ours()?;
        self.length = None;
        self.file.write_all_at(bytes, length)?;
        self.length = Some(length + bytes.len() as u64);
        Ok(())
    }
    fn sync(&mut self) -> io::Result<()> {
        self.file.sync_data()
    }
    fn cut(&mut self, length: u64) -> io::Result<()> {
        self.is_ours()?;
        self.length = None;
        self.file.set_len(length)?;
        self.file.sync_data()?;
        self.length = Some(length);
        Ok(())
    }
}

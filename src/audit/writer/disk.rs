//! What the writer needs of a file, so that tests can stand a failing one in its place.
//!
//! Guarantees: [`FileDisk`] notices that its file was removed, renamed, shortened or lengthened behind its back, or that
//! another stands in its place, and then does not write; what it says is on disk comes back after a power failure, by its journal.
//! Deliberately absent: what the bytes mean.

use super::super::files::{self, Identity, identity};
use super::super::segments;
use super::journal::{Journal, Segment};
use rustix::fs::{AtFlags, CWD, StatxFlags, makedev, statx};
use rustix::io::Errno;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::{fs, io};

/// The name that a new segment has until the one before it is sealed.
pub(super) fn coming(log: &Path) -> PathBuf {
    files::beside(log, ".next")
}

/// A file that grows at its end.
pub(super) trait Disk: Send {
    /// Writes at the end, which is at `length`. After an error any part of `bytes` may be there.
    fn append(&mut self, length: u64, bytes: &[u8]) -> io::Result<()>;
    /// Returns when all that was written is on disk.
    fn sync(&mut self) -> io::Result<()>;
    /// Cuts the file to `length`, durably.
    fn cut(&mut self, length: u64) -> io::Result<()>;
    /// Seals the file as the segment whose first line is number `first`, and goes on in a new one that has `content`, durably. After
    /// an error nothing has changed.
    fn next(&mut self, first: u64, content: &[u8]) -> io::Result<()>;
}

/// Which file is there, and its length in bytes. Times are not asked for: a file system whose times somebody saw (Linux 6.13's
/// multigrain timestamps) gives the next write a finer one, here and to every file written after, and each is one more write of an inode.
fn look(path: &Path) -> io::Result<(Identity, u64)> {
    let mask = StatxFlags::INO | StatxFlags::SIZE;
    match statx(CWD, path, AtFlags::empty(), mask) {
        Ok(there) if there.stx_mask & mask.bits() == mask.bits() => {
            let device = makedev(there.stx_dev_major, there.stx_dev_minor);
            Ok(((device, there.stx_ino), there.stx_size))
        }
        Err(Errno::NOENT) => Err(io::ErrorKind::NotFound.into()),
        // Not every sandbox knows this call.
        _ => fs::metadata(path).map(|there| (identity(&there), there.len())),
    }
}

/// A real file.
pub(super) struct FileDisk {
    file: File,
    identity: Identity,
    /// Where auditors look for it.
    path: PathBuf,
    /// What the file's length must be; `None` after an error, until it was cut.
    length: Option<u64>,
    /// Its name may not be on disk yet.
    unnamed: bool,
    journal: Journal,
    /// It could not be made durable, and may have lost what it was given since it last was.
    lost: bool,
}

impl FileDisk {
    /// # Errors
    /// The file says nothing of itself.
    pub(super) fn new(file: File, path: PathBuf, length: u64, journal: Journal) -> io::Result<FileDisk> {
        let identity = identity(&file.metadata()?);
        Ok(FileDisk { file, identity, path, length: Some(length), unnamed: false, journal, lost: false })
    }

    /// So many bytes of the file itself are durable.
    #[cfg(test)]
    pub(super) fn settled(&self) -> usize {
        let length = self.length.unwrap_or_default();
        usize::try_from(self.journal.first().unwrap_or(length)).unwrap_or(usize::MAX)
    }

    /// Makes the file itself durable, up to `length`; then nothing needs the journal.
    fn settle(&mut self, length: u64) -> io::Result<()> {
        if self.lost {
            self.journal.rewrite(&self.file, length)?;
        }
        let synced = self.file.sync_data();
        self.lost = synced.is_err();
        synced?;
        self.journal.restart();
        Ok(())
    }

    /// Fails when what we write would not be where auditors look for it.
    fn is_ours(&self) -> io::Result<()> {
        let why = match look(&self.path) {
            Ok((there, length)) if there == self.identity => {
                if self.length.is_none_or(|ours| ours == length) {
                    return Ok(());
                }
                "the log's file was changed by someone else"
            }
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ if self.file.metadata()?.nlink() == 0 => {
                "the log's file was removed; restart to begin a new one"
            }
            _ => "the log's file was renamed or replaced; put it back, or restart to begin a new one",
        };
        Err(io::Error::other(why))
    }
}

impl Disk for FileDisk {
    fn append(&mut self, length: u64, bytes: &[u8]) -> io::Result<()> {
        self.is_ours()?;
        if self.unnamed {
            files::sync_folder(&self.path)?;
            self.unnamed = false;
        }
        self.length = None;
        self.file.write_all_at(bytes, length)?;
        self.length = Some(length + bytes.len() as u64);
        self.journal.stage(length, bytes);
        Ok(())
    }
    fn sync(&mut self) -> io::Result<()> {
        match self.journal.commit()? {
            true => Ok(()),
            false => self.settle(self.length.unwrap_or_default()),
        }
    }
    fn cut(&mut self, length: u64) -> io::Result<()> {
        self.is_ours()?;
        self.length = None;
        self.file.set_len(length)?;
        self.settle(length)?;
        // Else what was cut could come back, with other lines in its place.
        self.journal.clear()?;
        self.length = Some(length);
        Ok(())
    }
    fn next(&mut self, first: u64, content: &[u8]) -> io::Result<()> {
        self.is_ours()?;
        self.settle(self.length.unwrap_or_default())?;
        let coming = coming(&self.path);
        let _ = fs::remove_file(&coming);
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&coming)?;
        let identity = identity(&file.metadata()?);
        file.write_all_at(content, 0)?;
        file.sync_all()?;
        let sealed = self.path.with_file_name(segments::sealed_name(first));
        fs::rename(&self.path, &sealed)?;
        // From here on the next start would finish what breaks off.
        if let Err(error) = fs::rename(&coming, &self.path) {
            return fs::rename(&sealed, &self.path).and(Err(error));
        }
        (self.file, self.identity, self.length) = (file, identity, Some(content.len() as u64));
        self.journal.begin(Segment::beginning(content));
        // Nothing is written to a file whose name a crash could take back.
        self.unnamed = files::sync_folder(&self.path).is_err();
        Ok(())
    }
}

impl Drop for FileDisk {
    /// A log that was closed needs no journal. One that cannot be made durable now is put right by the next start.
    fn drop(&mut self) {
        if let Some(length) = self.length {
            let _ = self.settle(length).and_then(|()| self.journal.clear());
        }
    }
}

//! The journal: a file of a fixed size, written over and over, in which each group of lines is made durable before the log's own file is.
//!
//! A file that grows makes each `fdatasync` wait for the file system's metadata, too; one that is overwritten where it stands
//! costs about half of that, in time and in the processor's work; and a quarter less again when whole pages go past the system's
//! cache in one durable write (`O_DIRECT` and `O_DSYNC`, see open(2)). So lines go to the log's file at once, where everybody reads them, and
//! to the journal durably; the log's file is made durable when the journal is full, when a segment ends and when the log is closed.
//!
//! Guarantees: after a power failure [`Journal::recover`] puts every line back whose ticket was given; an entry that was not whole on
//! disk, or that belongs to another segment, is not put back. Nothing is left in it of a segment that has ended, nor of a log that was closed.
//! Deliberately absent: what lines mean, and secrecy beyond the log's own (it has the same mode).

use super::super::files;
use sha2::{Digest, Sha256};
use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

/// Its name in the log's folder.
pub(super) const JOURNAL_FILE: &str = "journal";

/// Its size. A group that is longer goes to the log's file alone.
const JOURNAL_BYTES: usize = 512 << 10;

const MAGIC: &[u8; 8] = b"pgveilj1";
/// Magic, epoch, segment, offset and length, and the digest of these and of the bytes that follow.
const ENTRY_HEAD: usize = 8 + 8 + 16 + 8 + 8 + 16;
const DIGEST_AT: usize = ENTRY_HEAD - 16;

/// Which segment entries belong to: a digest of its first line, which names the log and the lines before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment([u8; 16]);

impl Segment {
    /// Of a segment that begins with these bytes; at least its first line must be among them.
    pub(super) fn beginning(bytes: &[u8]) -> Segment {
        let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
        Segment(digest(&[line]))
    }

    fn of(log: &File) -> io::Result<Segment> {
        let mut start = vec![0; 64 << 10];
        let mut filled = 0;
        while filled < start.len() {
            match log.read_at(&mut start[filled..], filled as u64)? {
                0 => break,
                read => filled += read,
            }
        }
        Ok(Segment::beginning(&start[..filled]))
    }
}

pub(super) struct Journal {
    file: File,
    /// A write to it is durable when it returns, and must be of whole pages.
    direct: bool,
    segment: Segment,
    /// Goes up each time that it is written from its beginning: what stands behind the newest entry is of an older one.
    epoch: u64,
    /// All entries of this epoch, as they are in the file up to `written`.
    entries: Entries,
    written: usize,
    /// A group did not fit: the log's file must become durable in its place.
    full: bool,
}

impl Journal {
    /// Opens the journal in `folder`, or makes it; and puts back into `log` what it has of it.
    pub(super) fn open(folder: &Path, log: &File) -> io::Result<Journal> {
        let path = folder.join(JOURNAL_FILE);
        let file =
            OpenOptions::new().create(true).truncate(false).read(true).write(true).mode(0o600).open(&path)?;
        let mut content = vec![0; JOURNAL_BYTES];
        let length = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX).min(JOURNAL_BYTES);
        file.read_exact_at(&mut content[..length], 0)?;
        let segment = Segment::of(log)?;
        let entries = Entries::new();
        let mut journal =
            Journal { file, direct: false, segment, epoch: 0, entries, written: 0, full: false };
        journal.recover(&content, log)?;
        // Every block of it is written once, so that later writes change no metadata.
        journal.clear()?;
        journal.go_past_the_cache(&path);
        files::sync_folder(&path)?;
        Ok(journal)
    }

    /// Has whole pages written durably at once from now on, where the file system does that. One page is the trial: some want more at a time.
    fn go_past_the_cache(&mut self, path: &Path) {
        let flags = libc::O_DIRECT | libc::O_DSYNC;
        let Ok(file) = OpenOptions::new().write(true).custom_flags(flags).open(path) else { return };
        if file.write_all_at(self.entries.pages(PAGE..2 * PAGE), PAGE as u64).is_ok() {
            (self.file, self.direct) = (file, true);
        }
    }

    /// As on a file system that does not do it.
    #[cfg(test)]
    pub(super) fn stay_in_the_cache(&mut self, folder: &Path) {
        self.file =
            OpenOptions::new().write(true).open(folder.join(JOURNAL_FILE)).expect("it was opened before");
        self.direct = false;
    }

    fn recover(&mut self, content: &[u8], log: &File) -> io::Result<()> {
        let mut rest = content;
        let mut end = log.metadata()?.len();
        let mut found = false;
        while let Some(entry) = Entry::read(rest) {
            if found && entry.epoch != self.epoch {
                break;
            }
            // A gap cannot come of a crash: what stood there was durable before the entry was written.
            if entry.segment != self.segment || entry.at > end {
                break;
            }
            (self.epoch, found) = (entry.epoch, true);
            log.write_all_at(entry.bytes, entry.at)?;
            end = end.max(entry.at + entry.bytes.len() as u64);
            rest = &rest[ENTRY_HEAD + entry.bytes.len()..];
        }
        if found { log.sync_data() } else { Ok(()) }
    }

    /// Takes a group that was written to the log's file at `at`; [`commit`](Self::commit) makes it durable.
    pub(super) fn stage(&mut self, at: u64, bytes: &[u8]) {
        if self.entries.len() + ENTRY_HEAD + bytes.len() > JOURNAL_BYTES {
            self.full = true;
            return;
        }
        let start = self.entries.len();
        self.entries.push(MAGIC);
        self.entries.push(&self.epoch.to_be_bytes());
        self.entries.push(&self.segment.0);
        self.entries.push(&at.to_be_bytes());
        self.entries.push(&(bytes.len() as u64).to_be_bytes());
        let digest = digest(&[&self.entries.all()[start..], bytes]);
        self.entries.push(&digest);
        self.entries.push(bytes);
    }

    /// Makes what was staged durable; `false` when it did not fit.
    pub(super) fn commit(&mut self) -> io::Result<bool> {
        if self.full {
            return Ok(false);
        }
        if self.written < self.entries.len() {
            // The first page is written once more: of what was durable in it the same bytes, whatever comes of the write.
            let start = self.written / PAGE * PAGE;
            self.file.write_all_at(self.entries.pages(start..self.entries.len()), start as u64)?;
            if !self.direct {
                self.file.sync_data()?;
            }
            self.written = self.entries.len();
        }
        Ok(true)
    }

    /// Writes to the log's file once more what it was given, up to `length`: what it may have lost when it could not be made durable.
    pub(super) fn rewrite(&self, log: &File, length: u64) -> io::Result<()> {
        let mut rest = self.entries.all();
        while let Some(entry) = Entry::read(rest) {
            if entry.at + entry.bytes.len() as u64 <= length {
                log.write_all_at(entry.bytes, entry.at)?;
            }
            rest = &rest[ENTRY_HEAD + entry.bytes.len()..];
        }
        Ok(())
    }

    /// Where the oldest entry's lines begin.
    #[cfg(test)]
    pub(super) fn first(&self) -> Option<u64> {
        Entry::read(self.entries.all()).map(|entry| entry.at)
    }

    /// The log's file is durable: what is here is not needed any more, and the next entry comes first.
    pub(super) fn restart(&mut self) {
        self.epoch += 1;
        self.entries.clear();
        (self.written, self.full) = (0, false);
    }

    /// Leaves nothing of it on disk.
    pub(super) fn clear(&mut self) -> io::Result<()> {
        self.restart();
        self.file.write_all_at(self.entries.pages(0..JOURNAL_BYTES), 0)?;
        self.file.sync_all()
    }

    /// Entries are of another segment from now on.
    pub(super) fn begin(&mut self, segment: Segment) {
        self.segment = segment;
        // What is left is of the segment before, and is put back nowhere; the next segment's end tries again.
        let _ = self.clear();
    }
}

/// What storage reads and writes at once, in bytes, where it does not say otherwise; a multiple of what most do.
const PAGE: usize = 4096;

/// Entries one behind the other, in memory that begins where a page does.
struct Entries {
    /// As long as the journal and a page more.
    memory: Box<[u8]>,
    start: usize,
    length: usize,
}

impl Entries {
    fn new() -> Entries {
        let memory = vec![0; JOURNAL_BYTES + PAGE].into_boxed_slice();
        // Memory that has no such place could not be had: then the writes past the cache fail, and are not made.
        let start = memory.as_ptr().align_offset(PAGE).min(PAGE);
        Entries { memory, start, length: 0 }
    }
    fn len(&self) -> usize {
        self.length
    }
    fn all(&self) -> &[u8] {
        &self.memory[self.start..][..self.length]
    }
    /// The caller has seen to it that there is room.
    fn push(&mut self, bytes: &[u8]) {
        self.memory[self.start + self.length..][..bytes.len()].copy_from_slice(bytes);
        self.length += bytes.len();
    }
    fn clear(&mut self) {
        self.length = 0;
    }
    /// The pages that these bytes are in; the first begins where they do. Zeros follow the last entry.
    fn pages(&mut self, bytes: Range<usize>) -> &[u8] {
        let end = bytes.end.next_multiple_of(PAGE);
        let pages = &mut self.memory[self.start..][..end];
        if let Some(unused) = pages.get_mut(self.length.max(bytes.start)..) {
            unused.fill(0);
        }
        &pages[bytes.start..]
    }
}

struct Entry<'a> {
    epoch: u64,
    segment: Segment,
    at: u64,
    bytes: &'a [u8],
}

impl Entry<'_> {
    /// The entry that stands first, if it is whole.
    fn read(content: &[u8]) -> Option<Entry<'_>> {
        let (head, rest) = content.split_at_checked(ENTRY_HEAD)?;
        let (fields, said) = head.split_at_checked(DIGEST_AT)?;
        let number = |at: usize| {
            let bytes = fields.get(at..at + 8)?;
            Some(u64::from_be_bytes(bytes.try_into().ok()?))
        };
        let segment = Segment(fields.get(16..32)?.try_into().ok()?);
        let (epoch, at, length) = (number(8)?, number(32)?, number(40)?);
        let bytes = rest.get(..usize::try_from(length).ok()?)?;
        let whole = fields.starts_with(MAGIC) && digest(&[fields, bytes]) == said;
        whole.then_some(Entry { epoch, segment, at, bytes })
    }
}

fn digest(parts: &[&[u8]]) -> [u8; 16] {
    let mut hash = Sha256::new();
    parts.iter().for_each(|part| hash.update(part));
    let mut short = [0; 16];
    short.copy_from_slice(&hash.finalize()[..16]);
    short
}

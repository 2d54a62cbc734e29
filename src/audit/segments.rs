//! The log's files: the newest segment is `log.jsonl`; a sealed one is called by the number of its first line.
//!
//! Guarantees: [`list`] gives the segments in the log's order, each once; [`Segments`] reads them as one stream, compressed ones
//! too, and knows which file a byte came from. Of a log that grows meanwhile it reads what stood there at first, whatever the files
//! are called by then, and waits for the end of a line that is being written. Deliberately absent: what the bytes mean, and writing
//! (but [`compress`]).

use super::files::{beside, identity, sync_folder};
use flate2::Compression;
use flate2::bufread::MultiGzDecoder;
use flate2::write::GzEncoder;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

/// How long what a writer leaves half done for a moment is waited for, and how often it is looked for: the end of a line, for a
/// `write(2)` of many bytes is seen in parts by whoever reads meanwhile; a newest segment, while another is sealed.
const WHOLE_WITHIN: Duration = Duration::from_secs(1);
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// The newest segment in the log's folder.
pub const LOG_FILE: &str = "log.jsonl";

/// A sealed segment whose first line is number `first`, counted from 0.
pub fn sealed_name(first: u64) -> String {
    format!("log-{first:016}.jsonl")
}

/// The number of a sealed segment's first line, by its name, and whether it is compressed.
fn sealed(name: &str) -> Option<(u64, bool)> {
    let rest = name.strip_prefix("log-")?;
    let (digits, compressed) = match rest.strip_suffix(".jsonl.gz") {
        Some(digits) => (digits, true),
        None => (rest.strip_suffix(".jsonl")?, false),
    };
    let first = digits.parse().ok()?;
    (digits.len() >= 16 && digits.bytes().all(|byte| byte.is_ascii_digit())).then_some((first, compressed))
}

/// The sealed segments of a folder with the numbers of their first lines, in order. One that is there in both forms was being
/// compressed when that broke off: the plain one is whole.
pub fn sealed_in(folder: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut found = vec![];
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if let Some((first, compressed)) = entry.file_name().to_str().and_then(sealed) {
            found.push((first, compressed, entry.path()));
        }
    }
    found.sort();
    found.dedup_by_key(|(first, _, _)| *first);
    Ok(found.into_iter().map(|(first, _, path)| (first, path)).collect())
}

/// The files of a log in its order: of a folder all, of a file that file.
pub fn list(path: &Path) -> io::Result<Vec<PathBuf>> {
    if !fs::metadata(path)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut paths: Vec<PathBuf> = sealed_in(path)?.into_iter().map(|(_, path)| path).collect();
    paths.push(path.join(LOG_FILE));
    Ok(paths)
}

/// The newest segment, given the log's folder or a file of it.
pub fn log_file(path: &Path) -> PathBuf {
    if path.is_dir() { path.join(LOG_FILE) } else { path.to_owned() }
}

/// One segment's bytes, whatever form it has.
pub fn open(path: &Path) -> io::Result<Box<dyn BufRead + Send>> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    reader(File::open(path).map_err(named)?, path)
}

/// Of a file that is or was called so.
fn reader(file: File, path: &Path) -> io::Result<Box<dyn BufRead + Send>> {
    let file = BufReader::with_capacity(1 << 20, file);
    if path.extension().is_some_and(|extension| extension == "gz") {
        return Ok(Box::new(BufReader::with_capacity(1 << 20, MultiGzDecoder::new(file))));
    }
    Ok(Box::new(file))
}

/// Whether the file with that name is this one.
fn is_called(file: &File, path: &Path) -> bool {
    matches!((file.metadata(), fs::metadata(path)), (Ok(own), Ok(other)) if identity(&own) == identity(&other))
}

/// Replaces a sealed segment by its compressed form; after a crash one of them is whole.
pub fn compress(path: &Path) -> io::Result<()> {
    let (passing, compressed) = (beside(path, ".gz.new"), beside(path, ".gz"));
    let file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&passing)?;
    let mut encoder = GzEncoder::new(file, Compression::default());
    io::copy(&mut File::open(path)?, &mut encoder)?;
    let file = encoder.finish()?;
    file.sync_all()?;
    fs::rename(&passing, &compressed)?;
    sync_folder(path)?;
    fs::remove_file(path)
}

/// Segments as one stream.
pub struct Segments {
    paths: Vec<PathBuf>,
    /// The last of them, open: while the others are read, it may be sealed and get another name.
    newest: Option<File>,
    /// Where in the stream each that was opened begins.
    starts: Vec<u64>,
    current: Option<Box<dyn BufRead + Send>>,
    offset: u64,
    /// The last byte ended no line, and the rest of it may be on its way.
    broken_off: bool,
}

impl Segments {
    pub fn new(paths: Vec<PathBuf>) -> Segments {
        Segments { paths, newest: None, starts: vec![], current: None, offset: 0, broken_off: false }
    }

    /// A log as it is now: of a folder all, of a file that file.
    ///
    /// # Errors
    /// The folder cannot be read. A newest segment that is missing is an error where it should be read.
    pub fn of(path: &Path) -> io::Result<Segments> {
        let mut waited = Duration::ZERO;
        loop {
            let newest = File::open(log_file(path)).ok();
            let segments = Segments { newest, ..Segments::new(list(path)?) };
            // What was sealed after it was opened is in the list, perhaps, and so are lines that come after it.
            let settled = match &segments.newest {
                Some(file) => is_called(file, &log_file(path)),
                None => waited >= WHOLE_WITHIN,
            };
            if settled {
                return Ok(segments);
            }
            sleep(LOOK_EVERY);
            waited += LOOK_EVERY;
        }
    }

    /// The next segment in the order.
    fn open_next(&mut self) -> io::Result<Option<Box<dyn BufRead + Send>>> {
        let Some(path) = self.paths.get(self.starts.len()) else { return Ok(None) };
        let last = self.starts.len() + 1 == self.paths.len();
        if last && let Some(file) = self.newest.take() {
            return reader(file, path).map(Some);
        }
        match open(path) {
            // It was compressed meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                open(&beside(path, ".gz")).map_err(|_| error).map(Some)
            }
            opened => opened.map(Some),
        }
    }

    /// The file that a byte of the stream so far stands in, and its place there (uncompressed).
    pub fn place(&self, offset: u64) -> Option<(&Path, u64)> {
        let index = self.starts.partition_point(|start| *start <= offset).checked_sub(1)?;
        Some((self.paths.get(index)?, offset - self.starts.get(index)?))
    }
}

impl BufRead for Segments {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        let mut waited = Duration::ZERO;
        loop {
            let more = match &mut self.current {
                Some(current) => !current.fill_buf()?.is_empty(),
                None => false,
            };
            if more {
                break;
            }
            let Some(next) = self.open_next()? else {
                self.broken_off &= waited < WHOLE_WITHIN;
                if !self.broken_off {
                    return Ok(&[]);
                }
                sleep(LOOK_EVERY);
                waited += LOOK_EVERY;
                continue;
            };
            self.current = Some(next);
            self.starts.push(self.offset);
        }
        self.current.as_mut().map_or(Ok(&[]), |current| current.fill_buf())
    }

    fn consume(&mut self, amount: usize) {
        if let Some(current) = &mut self.current {
            // What is consumed is in its buffer: nothing is read, so nothing fails.
            let last = amount.checked_sub(1).and_then(|last| current.fill_buf().ok()?.get(last).copied());
            self.broken_off = last.map_or(self.broken_off, |last| last != b'\n');
            current.consume(amount);
            self.offset += amount as u64;
        }
    }
}

impl Read for Segments {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let read = self.fill_buf()?.read(out)?;
        self.consume(read);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn segments_are_read_in_order_each_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for (name, text) in [("log.jsonl", "e\nf"), (&sealed_name(7), "c\nd\n"), (&sealed_name(0), "a\nb\n")]
        {
            fs::write(path(name), text).unwrap();
        }
        fs::write(path("log-x.jsonl"), "no segment").unwrap();
        compress(&path(&sealed_name(0))).unwrap();
        assert!(!path(&sealed_name(0)).exists());
        // Compressing broke off after the rename.
        fs::write(path("log-0000000000000007.jsonl.gz"), "half").unwrap();
        let paths = list(folder.path()).unwrap();
        assert_eq!(paths.len(), 3);
        let mut segments = Segments::new(paths);
        let mut text = String::new();
        segments.read_to_string(&mut text).unwrap();
        assert_eq!(text, "a\nb\nc\nd\ne\nf");
        assert_eq!(segments.place(0).unwrap().1, 0);
        assert_eq!(segments.place(6), Some((path(&sealed_name(7)).as_path(), 2)));
        assert_eq!(segments.place(8), Some((path(LOG_FILE).as_path(), 0)));
        assert_eq!(list(&path(LOG_FILE)).unwrap(), [path(LOG_FILE)]);
    }

    #[test]
    fn what_is_sealed_or_compressed_meanwhile_is_read_all_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for (name, text) in
            [(&sealed_name(0), "a\n"), (&sealed_name(1), "b\n"), (&LOG_FILE.to_owned(), "c\n")]
        {
            fs::write(path(name), text).unwrap();
        }
        let mut lines = Segments::of(folder.path()).unwrap().lines();
        assert_eq!(lines.next().unwrap().unwrap(), "a");
        compress(&path(&sealed_name(1))).unwrap();
        fs::rename(path(LOG_FILE), path(&sealed_name(2))).unwrap();
        fs::write(path(LOG_FILE), "d\n").unwrap();
        assert_eq!(lines.map(Result::unwrap).collect::<Vec<_>>(), ["b", "c"]);
        // Between the two names.
        fs::rename(path(LOG_FILE), path("away")).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                sleep(5 * LOOK_EVERY);
                fs::rename(path("away"), path(LOG_FILE)).unwrap();
            });
            let lines = Segments::of(folder.path()).unwrap().lines();
            assert_eq!(lines.map(Result::unwrap).collect::<String>(), "abcd");
        });
        // One that is missing is not passed over.
        fs::remove_file(path(LOG_FILE)).unwrap();
        assert!(Segments::of(folder.path()).unwrap().lines().any(|line| line.is_err()));
    }

    #[test]
    fn the_end_of_a_line_that_is_being_written_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(LOG_FILE);
        let write = |text: &str| {
            let mut file = OpenOptions::new().create(true).append(true).open(&path).unwrap();
            file.write_all(text.as_bytes()).unwrap();
        };
        write("a\nb");
        let mut lines = Segments::new(vec![path.clone()]).lines();
        assert_eq!(lines.next().unwrap().unwrap(), "a");
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for part in ["c", "d\n"] {
                    sleep(10 * LOOK_EVERY);
                    write(part);
                }
            });
            assert_eq!(lines.next().unwrap().unwrap(), "bcd");
        });
        assert!(lines.next().is_none());
        // Not for ever.
        write("e");
        assert_eq!(lines.next().unwrap().unwrap(), "e");
        assert!(lines.next().is_none());
    }
}

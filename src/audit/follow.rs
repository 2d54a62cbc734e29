//! Reading a log that is being written, from a line on: what sinks are fed from.
//!
//! Guarantees: lines come in order, each once, across segments; only lines that a checkpoint stands under, because others may be
//! taken back when the disk fails. A place that was kept ([`Place`]) is where the next run goes on, so that what a sink accepted is
//! sent again at most, and never left out. Deliberately absent: verification, and sending.

use super::canonical::Line;
use super::lines::Lines;
use super::segments::{self, LOG_FILE};
use super::{AuditRecord, Fault, files};
use std::fs::{self, File};
use std::io::{self, BufReader, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// One record of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Followed {
    /// Number of its line in the log, counted from 0.
    pub number: u64,
    /// As it stands in the log.
    pub line: String,
    pub record: Box<AuditRecord>,
}

/// Records, and the line that comes after them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    pub records: Vec<Followed>,
    pub next: u64,
}

/// A log, read from a line on.
pub struct Follower {
    folder: PathBuf,
    /// The next line to give out.
    next: u64,
    reading: Option<Reading>,
    /// Lines that were removed before they were given out: from, to.
    skipped: Option<(u64, u64)>,
}

/// A segment that is open, and where in it the next line begins.
struct Reading {
    source: Source,
    /// Number of the segment's first line.
    first: u64,
    /// The next line's number.
    line: u64,
}

enum Source {
    /// Plain, and where its next line begins: what is not whole yet is read again later.
    File(BufReader<File>, u64),
    /// Compressed, so sealed: read to its end.
    Compressed(Lines<Box<dyn io::BufRead + Send>>),
}

impl Follower {
    /// `next` is the first line to give out; one that was removed is passed over ([`skipped`](Self::skipped)).
    pub fn new(folder: PathBuf, next: u64) -> Follower {
        Follower { folder, next, reading: None, skipped: None }
    }

    /// Which lines were removed before they were given out, once.
    pub fn skipped(&mut self) -> Option<(u64, u64)> {
        self.skipped.take()
    }

    /// Up to some `most` records that are under a checkpoint, of the first `durable` lines; `None` when there are none now.
    ///
    /// # Errors
    /// A file cannot be read, or lines that should be there are not.
    pub fn batch(&mut self, most: usize, durable: u64) -> io::Result<Option<Batch>> {
        loop {
            let mut reading = match self.reading.take() {
                Some(reading) => reading,
                None => match self.open()? {
                    Some(reading) => reading,
                    None => return Ok(None),
                },
            };
            let mut records = vec![];
            let taken = reading.take(&mut records, most, durable)?;
            if taken == Taken::Signed {
                self.next = reading.line;
                self.reading = Some(reading);
                if records.is_empty() {
                    // Nothing but checkpoints: they are passed over.
                    continue;
                }
                return Ok(Some(Batch { records, next: self.next }));
            }
            // The end of what is there. A sealed segment has a next one.
            if taken == Taken::Ended && self.follows(&reading)? {
                continue;
            }
            // What is under no checkpoint yet is read again.
            self.reading = Some(reading);
            return Ok(None);
        }
    }

    /// Whether another segment begins where this one ends.
    fn follows(&mut self, reading: &Reading) -> io::Result<bool> {
        let sealed = segments::sealed_in(&self.folder)?;
        let Some(at) = sealed.iter().position(|(first, _)| *first == reading.first) else { return Ok(false) };
        self.next = reading.line;
        match sealed.get(at + 1) {
            Some((first, _)) if *first != reading.line => Err(missing(reading.line)),
            _ => Ok(true),
        }
    }

    /// The segment that holds the next line, at that line.
    fn open(&mut self) -> io::Result<Option<Reading>> {
        // The newest by its handle: what it says of itself holds, whatever it is called by now.
        let mut newest = match File::open(self.folder.join(LOG_FILE)) {
            Ok(file) => file,
            // Between two files' names: look again later.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let header = super::verify::header(BufReader::new(&mut newest));
        let Ok(header) = header else { return Ok(None) };
        let newest_first = header.chain.size;
        let sealed = segments::sealed_in(&self.folder)?;
        let oldest = sealed.first().map_or(newest_first, |(first, _)| *first);
        if self.next < oldest {
            self.skipped = Some((self.next, oldest));
            self.next = oldest;
        }
        let (first, source) = if self.next >= newest_first {
            (newest_first, Source::plain(newest)?)
        } else {
            let older = sealed.iter().rev().find(|(first, _)| *first <= self.next);
            let Some((first, path)) = older else { return Err(missing(self.next)) };
            match Source::open(path) {
                Ok(source) => (*first, source),
                // It was compressed meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(error),
            }
        };
        let newest = first == newest_first;
        let mut reading = Reading { source, first, line: first };
        while reading.line < self.next {
            match reading.source.line()? {
                Some(_) => reading.line += 1,
                None if newest => {
                    let why =
                        format!("the log ends before line {}, from which on this is read", self.next + 1);
                    return Err(io::Error::other(why));
                }
                None => return Err(missing(reading.line)),
            }
        }
        Ok(Some(reading))
    }
}

fn missing(line: u64) -> io::Error {
    io::Error::other(format!("the segment of the log that begins with line {} is missing", line + 1))
}

#[derive(PartialEq, Eq)]
enum Taken {
    /// There was a checkpoint.
    Signed,
    /// Nothing is left in the segment now.
    Ended,
    /// More is there, and not to be taken yet.
    NotYet,
}

impl Reading {
    /// Moves records into `waiting` up to a checkpoint. Many are taken up to the first checkpoint after `most`; of
    /// lines from `durable` on none.
    fn take(&mut self, waiting: &mut Vec<Followed>, most: usize, durable: u64) -> io::Result<Taken> {
        let (mut signed, mut ended) = (false, false);
        let (mut kept, mut line) = (waiting.len(), self.line);
        let mut mark = self.source.mark();
        while line < durable {
            let Some(bytes) = self.source.line()? else {
                ended = true;
                break;
            };
            let number = line;
            line += 1;
            match Line::parse(&bytes) {
                Ok(Line::Record(_, record)) => {
                    let text = String::from_utf8_lossy(&bytes).into_owned();
                    waiting.push(Followed { number, line: text, record });
                }
                Ok(Line::Checkpoint(_)) => {
                    (signed, kept, self.line, mark) = (true, waiting.len(), line, self.source.mark());
                    if kept >= most {
                        return Ok(Taken::Signed);
                    }
                }
                Ok(Line::Header(_)) => {}
                Err(_) => return Err(io::Error::other(format!("line {} of the log is no line", number + 1))),
            }
        }
        waiting.truncate(kept);
        self.source.rewind(mark)?;
        Ok(match (signed, ended) {
            (true, _) => Taken::Signed,
            (false, true) => Taken::Ended,
            (false, false) => Taken::NotYet,
        })
    }
}

impl Source {
    fn open(path: &Path) -> io::Result<Source> {
        if path.extension().is_some_and(|extension| extension == "gz") {
            return Ok(Source::Compressed(Lines::new(segments::open(path)?)));
        }
        Source::plain(File::open(path)?)
    }

    /// A file from its beginning on.
    fn plain(mut file: File) -> io::Result<Source> {
        file.rewind()?;
        Ok(Source::File(BufReader::with_capacity(64 * 1024, file), 0))
    }

    /// The next whole line.
    fn line(&mut self) -> io::Result<Option<Vec<u8>>> {
        match self {
            Source::File(file, at) => match Lines::new(&mut *file).next()? {
                Some(line) if line.whole => {
                    *at += line.end();
                    Ok(Some(line.bytes))
                }
                Some(_) => {
                    file.seek(SeekFrom::Start(*at))?;
                    Ok(None)
                }
                None => Ok(None),
            },
            Source::Compressed(lines) => Ok(lines.next()?.filter(|line| line.whole).map(|line| line.bytes)),
        }
    }

    fn mark(&self) -> u64 {
        match self {
            Source::File(_, at) => *at,
            Source::Compressed(_) => 0,
        }
    }

    /// Back to a mark. A compressed segment ends in a checkpoint, so there is nothing to go back over.
    fn rewind(&mut self, mark: u64) -> io::Result<()> {
        if let Source::File(file, at) = self
            && *at != mark
        {
            file.seek(SeekFrom::Start(mark))?;
            *at = mark;
        }
        Ok(())
    }
}

/// Where a sink is: the log, and the line after the last one that it accepted, in a file of its own.
pub struct Place {
    path: PathBuf,
    /// The log's name ([`super::checkpoint::LogId::origin`]).
    log: String,
}

impl Place {
    pub fn of(folder: &Path, sink: &str, log: String) -> Place {
        Place { path: folder.join(format!("sink-{sink}.place")), log }
    }

    /// 0 for a sink that is new.
    ///
    /// # Errors
    /// The file cannot be read, or is of another log: then all is to be sent anew.
    pub fn read(&self) -> Result<u64, Fault> {
        let told = |why: String| Fault::new(format!("{}: {why}", self.path.display()));
        let text = match fs::read_to_string(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
            Err(error) => return Err(told(error.to_string())),
        };
        match text.trim_end().split_once(' ') {
            Some((log, _)) if log != self.log => Err(told("it is the place in another log".to_owned())),
            Some((_, line)) => line.parse().map_err(|_| told("it holds no line's number".to_owned())),
            None => Err(told("it holds no line's number".to_owned())),
        }
    }

    pub fn write(&self, next: u64) -> io::Result<()> {
        files::replace(&self.path, 0o600, format!("{} {next}\n", self.log).as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::super::canonical::tests::samples;
    use super::super::keys;
    use super::super::writer::{Log, LogSettings, SegmentSettings};
    use super::*;
    use std::sync::Arc;

    fn write(folder: &Path, records: usize) {
        let small = SegmentSettings { bytes: 2000, ..SegmentSettings::default() };
        let settings = LogSettings { segments: small, ..LogSettings::new(folder) };
        let log = Log::open(settings, Arc::new(|| 42)).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        for number in 0..records {
            let mut record = samples().swap_remove(2);
            record.connection = record.connection.changed(|connection| connection.number = number as u64);
            runtime.block_on(log.record(record)).unwrap();
        }
    }

    #[test]
    fn each_record_comes_once_in_order_across_segments_and_runs() {
        let folder = tempfile::tempdir().unwrap();
        keys::ensure_keys(folder.path()).unwrap();
        assert_eq!(Follower::new(folder.path().to_owned(), 0).batch(10, u64::MAX).unwrap(), None);
        write(folder.path(), 30);
        let (_, sealed) = segments::sealed_in(folder.path()).unwrap().swap_remove(1);
        segments::compress(&sealed).unwrap();
        let place = Place::of(folder.path(), "x", "pgveil/x".to_owned());
        let mut seen = vec![];
        // A new follower for each batch, as after a restart.
        while let Some(batch) =
            Follower::new(folder.path().to_owned(), place.read().unwrap()).batch(4, u64::MAX).unwrap()
        {
            assert!(!batch.records.is_empty());
            seen.extend(batch.records.iter().map(|followed| followed.record.connection.number));
            place.write(batch.next).unwrap();
        }
        assert_eq!(seen, (0..30).collect::<Vec<_>>());
        // One that goes on sees what comes, and the same lines.
        let mut follower = Follower::new(folder.path().to_owned(), 0);
        let mut all = vec![];
        for _ in 0..2 {
            while let Some(batch) = follower.batch(4, u64::MAX).unwrap() {
                all.extend(batch.records);
            }
            write(folder.path(), 5);
        }
        while let Some(batch) = follower.batch(1000, u64::MAX).unwrap() {
            all.extend(batch.records);
        }
        assert_eq!(all.len(), 40);
        assert!(all.windows(2).all(|pair| pair[0].number < pair[1].number));
    }

    #[test]
    fn what_no_checkpoint_covers_waits() {
        let folder = tempfile::tempdir().unwrap();
        keys::ensure_keys(folder.path()).unwrap();
        write(folder.path(), 2);
        let newest = folder.path().join(LOG_FILE);
        let text = fs::read_to_string(&newest).unwrap();
        let unsigned: String = text.lines().map(|line| format!("{line}\n")).collect();
        let cut = unsigned.trim_end().rfind('\n').unwrap() + 1;
        let mut follower = Follower::new(folder.path().to_owned(), 0);
        fs::write(&newest, &unsigned[..cut]).unwrap();
        let before =
            std::iter::from_fn(|| follower.batch(10, u64::MAX).unwrap()).map(|batch| batch.records.len());
        let before: usize = before.sum();
        fs::write(&newest, &unsigned[..cut + 20]).unwrap();
        assert_eq!(follower.batch(10, u64::MAX).unwrap(), None);
        fs::write(&newest, &unsigned).unwrap();
        let after: usize = std::iter::from_fn(|| follower.batch(10, u64::MAX).unwrap())
            .map(|batch| batch.records.len())
            .sum();
        assert!(after > 0);
        assert_eq!(before + after, 2);
    }

    #[test]
    fn what_is_missing_is_told_and_what_was_removed_is_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        keys::ensure_keys(folder.path()).unwrap();
        write(folder.path(), 30);
        let sealed = segments::sealed_in(folder.path()).unwrap();
        let mut follower = Follower::new(folder.path().to_owned(), 0);
        assert!(follower.batch(1, u64::MAX).unwrap().is_some());
        fs::rename(&sealed[1].1, folder.path().join("away")).unwrap();
        let told = loop {
            match follower.batch(1, u64::MAX) {
                Ok(Some(_)) => {}
                Ok(None) => panic!("it ended"),
                Err(error) => break error.to_string(),
            }
        };
        assert!(told.contains(&format!("begins with line {} is missing", sealed[1].0 + 1)), "{told}");
        fs::rename(folder.path().join("away"), &sealed[1].1).unwrap();
        assert!(follower.batch(1, u64::MAX).unwrap().is_some(), "it goes on where it is there again");
        // Removed from the oldest on.
        fs::remove_file(&sealed[0].1).unwrap();
        let mut late = Follower::new(folder.path().to_owned(), 1);
        assert!(late.batch(1, u64::MAX).unwrap().is_some());
        assert_eq!((late.skipped(), late.skipped()), (Some((1, sealed[1].0)), None));
        // Beyond the end, and what may not be on disk yet.
        assert!(Follower::new(folder.path().to_owned(), 9999).batch(1, u64::MAX).is_err());
        let mut careful = Follower::new(folder.path().to_owned(), 0);
        let below = sealed[2].0;
        let mut last = 0;
        while let Some(batch) = careful.batch(1, below).unwrap() {
            last = batch.next;
        }
        assert_eq!(last, below);
    }

    #[test]
    fn a_place_is_in_one_log() {
        let folder = tempfile::tempdir().unwrap();
        let place = |log: &str| Place::of(folder.path(), "x", log.to_owned());
        assert_eq!(place("pgveil/a").read(), Ok(0));
        place("pgveil/a").write(7).unwrap();
        assert_eq!(place("pgveil/a").read(), Ok(7));
        assert!(place("pgveil/b").read().unwrap_err().message.contains("in another log"));
        fs::write(folder.path().join("sink-x.place"), "").unwrap();
        assert!(place("pgveil/a").read().is_err());
    }
}

//! Reading a log that is being written, from a line on: what sinks are fed from.
//!
//! Guarantees: lines come in order, each once, across segments; only lines that a checkpoint stands under, because others may be
//! taken back when the disk fails. A place that was kept ([`Place`]) is where the next run goes on, so that what a sink accepted is
//! sent again at most, and never left out. Deliberately absent: verification, and sending.

use super::canonical::Line;
use super::lines::Lines;
use super::segments::{self, LOG_FILE};
use super::{AuditRecord, Fault};
use std::fs::{self, File};
use std::io::{self, BufReader, Seek, SeekFrom, Write};
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
    /// Plain: what is not whole yet is read again later.
    File(File, u64),
    /// Compressed, so sealed: read to its end.
    Compressed(Lines<Box<dyn io::BufRead + Send>>),
}

impl Follower {
    /// `next` is the first line to give out; one that was removed is passed over.
    pub fn new(folder: PathBuf, next: u64) -> Follower {
        Follower { folder, next, reading: None }
    }

    /// Up to some `most` records that are under a checkpoint; `None` when there are none now.
    pub fn batch(&mut self, most: usize) -> io::Result<Option<Batch>> {
        let mut batch = Batch { records: vec![], next: self.next };
        let mut waiting = vec![];
        loop {
            let mut reading = match self.reading.take() {
                Some(reading) => reading,
                None => match self.open()? {
                    Some(reading) => reading,
                    None => return Ok(None),
                },
            };
            let signed = reading.take(&mut waiting, most)?;
            if signed {
                batch.records.append(&mut waiting);
                batch.next = reading.line;
                self.next = reading.line;
                self.reading = Some(reading);
                if batch.records.is_empty() {
                    // Nothing but checkpoints: they are passed over.
                    continue;
                }
                return Ok(Some(batch));
            }
            // The end of what is there. A sealed segment has a next one.
            if self.is_sealed(reading.first)? && waiting.is_empty() {
                self.next = reading.line;
                continue;
            }
            // What is under no checkpoint yet is read again.
            self.reading = Some(reading);
            return Ok(None);
        }
    }

    /// The segment that holds the next line, at that line.
    fn open(&mut self) -> io::Result<Option<Reading>> {
        let sealed = segments::sealed_in(&self.folder)?;
        let newest = self.folder.join(LOG_FILE);
        let first = match fs::File::open(&newest) {
            Ok(file) => super::verify::header(BufReader::new(file)).ok().map(|header| header.chain.size),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        // Between two files' names a segment is sealed: then look again later.
        let Some(newest_first) = first else { return Ok(None) };
        let mut all = sealed;
        all.push((newest_first, newest));
        if let Some((oldest, _)) = all.first() {
            self.next = self.next.max(*oldest);
        }
        let Some((first, path)) = all.into_iter().rev().find(|(first, _)| *first <= self.next) else {
            return Ok(None);
        };
        let mut reading = Reading { source: Source::open(&path)?, first, line: first };
        while reading.line < self.next {
            if reading.source.line()?.is_none() {
                return Ok(None);
            }
            reading.line += 1;
        }
        Ok(Some(reading))
    }

    fn is_sealed(&self, first: u64) -> io::Result<bool> {
        Ok(segments::sealed_in(&self.folder)?.iter().any(|(sealed, _)| *sealed == first))
    }
}

impl Reading {
    /// Moves records into `waiting` up to a checkpoint; whether one came. Many are taken up to the first checkpoint after `most`.
    fn take(&mut self, waiting: &mut Vec<Followed>, most: usize) -> io::Result<bool> {
        let mut signed = false;
        let (mut kept, mut line) = (waiting.len(), self.line);
        let mut mark = self.source.mark();
        while let Some(bytes) = self.source.line()? {
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
                        return Ok(true);
                    }
                }
                Ok(Line::Header(_)) => {}
                Err(_) => return Err(io::Error::other(format!("line {} of the log is no line", number + 1))),
            }
        }
        waiting.truncate(kept);
        self.source.rewind(mark)?;
        Ok(signed)
    }
}

impl Source {
    fn open(path: &Path) -> io::Result<Source> {
        if path.extension().is_some_and(|extension| extension == "gz") {
            return Ok(Source::Compressed(Lines::new(segments::open(path)?)));
        }
        Ok(Source::File(File::open(path)?, 0))
    }

    /// The next whole line.
    fn line(&mut self) -> io::Result<Option<Vec<u8>>> {
        match self {
            Source::File(file, at) => {
                file.seek(SeekFrom::Start(*at))?;
                let Some(line) = Lines::new(BufReader::with_capacity(8192, &mut *file)).next()? else {
                    return Ok(None);
                };
                if !line.whole {
                    return Ok(None);
                }
                *at += line.end();
                Ok(Some(line.bytes))
            }
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
        if let Source::File(_, at) = self {
            *at = mark;
        }
        Ok(())
    }
}

/// Where a sink is: the line after the last one that it accepted, in a file of its own.
pub struct Place {
    path: PathBuf,
}

impl Place {
    pub fn of(folder: &Path, sink: &str) -> Place {
        Place { path: folder.join(format!("sink-{sink}.line")) }
    }

    /// 0 for a sink that is new.
    pub fn read(&self) -> Result<u64, Fault> {
        let told = |why: String| Fault::new(format!("{}: {why}", self.path.display()));
        match fs::read_to_string(&self.path) {
            Ok(text) => text.trim_end().parse().map_err(|_| told("it holds no line's number".to_owned())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
            Err(error) => Err(told(error.to_string())),
        }
    }

    pub fn write(&self, next: u64) -> io::Result<()> {
        let passing = self.path.with_extension("new");
        let mut file = File::create(&passing)?;
        writeln!(file, "{next}")?;
        fs::rename(passing, &self.path)
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
            record.connection = number as u64;
            runtime.block_on(log.record(record)).unwrap();
        }
    }

    #[test]
    fn each_record_comes_once_in_order_across_segments_and_runs() {
        let folder = tempfile::tempdir().unwrap();
        keys::ensure_keys(folder.path()).unwrap();
        assert_eq!(Follower::new(folder.path().to_owned(), 0).batch(10).unwrap(), None);
        write(folder.path(), 30);
        let (_, sealed) = segments::sealed_in(folder.path()).unwrap().swap_remove(1);
        segments::compress(&sealed).unwrap();
        let place = Place::of(folder.path(), "x");
        let mut seen = vec![];
        // A new follower for each batch, as after a restart.
        while let Some(batch) =
            Follower::new(folder.path().to_owned(), place.read().unwrap()).batch(4).unwrap()
        {
            assert!(!batch.records.is_empty());
            seen.extend(batch.records.iter().map(|followed| followed.record.connection));
            place.write(batch.next).unwrap();
        }
        assert_eq!(seen, (0..30).collect::<Vec<_>>());
        // One that goes on sees what comes, and the same lines.
        let mut follower = Follower::new(folder.path().to_owned(), 0);
        let mut all = vec![];
        for _ in 0..2 {
            while let Some(batch) = follower.batch(4).unwrap() {
                all.extend(batch.records);
            }
            write(folder.path(), 5);
        }
        while let Some(batch) = follower.batch(1000).unwrap() {
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
        let before = std::iter::from_fn(|| follower.batch(10).unwrap()).map(|batch| batch.records.len());
        let before: usize = before.sum();
        fs::write(&newest, &unsigned[..cut + 20]).unwrap();
        assert_eq!(follower.batch(10).unwrap(), None);
        fs::write(&newest, &unsigned).unwrap();
        let after: usize =
            std::iter::from_fn(|| follower.batch(10).unwrap()).map(|batch| batch.records.len()).sum();
        assert!(after > 0);
        assert_eq!(before + after, 2);
    }
}

//! What becomes of segments: sealed when they are full or old, compressed, removed when their retention is over.
//!
//! Guarantees: the log says that segments are removed before they are; none is removed that a younger one stands before.
//! A segment that cannot be sealed goes on, and it is tried again a while later. Deliberately absent: shipping them elsewhere.

use super::super::canonical::Line;
use super::super::lines::Lines;
use super::super::{AuditRecord, Event, segments};
use super::appender::{Appender, End};
use super::{Clock, SegmentSettings};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long to wait after a failure, and between looks at what is old.
const PAUSE: Duration = Duration::from_secs(10);

pub(super) struct Housekeeper {
    folder: PathBuf,
    settings: SegmentSettings,
    clock: Clock,
    /// When it was last looked for what is old.
    looked: Option<Instant>,
    /// When sealing a segment last failed.
    failed: Option<Instant>,
    /// The lines before this number are removed, says the log.
    told: Option<u64>,
    compressing: Option<JoinHandle<io::Result<()>>>,
}

impl Housekeeper {
    pub(super) fn new(folder: PathBuf, settings: SegmentSettings, clock: Clock) -> Housekeeper {
        Housekeeper { folder, settings, clock, looked: None, failed: None, told: None, compressing: None }
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Does what is due. What it says went wrong is for our own log.
    pub(super) fn run(&mut self, appender: &mut Appender) -> Result<(), String> {
        let full = appender.end().length >= self.settings.bytes;
        let after = if full { self.failed } else { self.looked };
        if after.is_some_and(|at| at.elapsed() < PAUSE) {
            return Ok(());
        }
        self.looked = Some(Instant::now());
        if full || self.is_old(appender.end()) {
            self.failed = self.looked;
            self.seal(appender).map_err(|why| format!("could not begin a new segment: {why}"))?;
            self.failed = None;
        }
        self.remove(appender).map_err(|why| format!("could not remove old segments: {why}"))?;
        self.compress().map_err(|why| format!("could not compress a sealed segment: {why}"))
    }

    /// A segment with nothing in it but its header is not sealed, however old it is.
    fn is_old(&self, end: &End) -> bool {
        end.chain.size > end.first + 2 && self.is_over(end.begun, self.settings.age)
    }

    fn is_over(&self, since: i64, span: Duration) -> bool {
        i64::try_from(span.as_micros()).is_ok_and(|span| (self.clock)().saturating_sub(since) >= span)
    }

    fn seal(&self, appender: &mut Appender) -> Result<(), String> {
        if !appender.is_signed() {
            appender.append::<AuditRecord>(&[], true).map_err(|why| why.0)?;
        }
        appender.rotate(None).map_err(|why| why.0)
    }

    fn remove(&mut self, appender: &mut Appender) -> Result<(), String> {
        let Some(retention) = self.settings.retention else { return Ok(()) };
        let sealed = segments::sealed_in(&self.folder).map_err(|error| error.to_string())?;
        let mut old = 0;
        for index in 0..sealed.len() {
            // A segment's last line is as old as the next one's first.
            let ended = match sealed.get(index + 1) {
                Some((_, next)) => begun(next).map_err(|error| error.to_string())?,
                None => appender.end().begun,
            };
            if !self.is_over(ended, retention) {
                break;
            }
            old = index + 1;
        }
        if old == 0 {
            return Ok(());
        }
        let before = sealed.get(old).map_or(appender.end().first, |(first, _)| *first);
        // Once is enough, where a file would not go the first time.
        if self.told != Some(before) {
            let record = AuditRecord::of_the_proxy((self.clock)(), Event::Removed { before });
            appender.append(&[&record], true).map_err(|why| why.0)?;
            self.told = Some(before);
        }
        for (_, path) in &sealed[..old] {
            fs::remove_file(path).map_err(|error| format!("{}: {error}", path.display()))?;
        }
        Ok(())
    }

    /// Compresses what is sealed and plain, on a thread of its own.
    fn compress(&mut self) -> Result<(), String> {
        if let Some(thread) = self.compressing.take_if(|thread| thread.is_finished()) {
            let result = thread.join().map_err(|_| "its thread ended".to_owned())?;
            result.map_err(|error| error.to_string())?;
        }
        if !self.settings.compress || self.compressing.is_some() {
            return Ok(());
        }
        let sealed = segments::sealed_in(&self.folder).map_err(|error| error.to_string())?;
        let plain = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "jsonl");
        let plain: Vec<PathBuf> = sealed.into_iter().map(|(_, path)| path).filter(plain).collect();
        if plain.is_empty() {
            return Ok(());
        }
        let thread = std::thread::Builder::new().name("audit-compress".to_owned());
        let thread = thread.spawn(move || plain.iter().try_for_each(|path| segments::compress(path)));
        self.compressing = Some(thread.map_err(|error| error.to_string())?);
        Ok(())
    }
}

/// When a segment was begun, Unix microseconds.
fn begun(path: &Path) -> io::Result<i64> {
    let first = Lines::new(segments::open(path)?).next()?;
    match first.map(|line| Line::parse(&line.bytes)) {
        Some(Ok(Line::Header(header))) => Ok(header.time),
        _ => Err(io::Error::other(format!("{} does not begin with a header", path.display()))),
    }
}

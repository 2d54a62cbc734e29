//! The log's writer: one thread that owns the file, and the handle that connections submit records through.
//!
//! Guarantees: a [`Ticket`] is given only after the record is on disk (`fdatasync`); all records that wait are written
//! together (group commit); records of one submitter keep their order; a signed checkpoint stands under all of them within a
//! tenth of a second, since a signature costs more than all else of a group does. When writing fails,
//! every waiting record is answered with [`Unrecorded`], the file is cut back to its last good line, and the next
//! submission tries again. Deliberately absent: rotation, other sinks, and what a record means.

mod appender;
mod disk;
mod queue;

use super::canonical::{self, Header};
use super::chain::Chain;
use super::checkpoint::{Checkpoint, KeyId, LogId};
use super::resume::resume;
use super::{AuditRecord, Event, Fault, Ticket, Unrecorded, keys};
use appender::Appender;
use disk::{Disk, FileDisk};
use ed25519_dalek::SigningKey;
use queue::{Closing, Queue, Taken};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// The log's file in its folder.
pub const LOG_FILE: &str = "log.jsonl";
const LOCK_FILE: &str = "lock";

/// The time now in Unix microseconds, for the log's own lines.
pub type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// Told how the log does, on the writer's thread. All methods should return at once.
pub trait Watch: Send + Sync {
    /// `records` reached the disk together, `took` after the writer took them up.
    fn appended(&self, records: u64, took: Duration);
    /// So many records wait now.
    fn behind(&self, records: u64);
    /// Writing began to fail, or failed for another reason than before. For our own log.
    fn failed(&self, why: &Unrecorded);
    /// Writing works again.
    fn works_again(&self);
}

/// What a log is opened with.
#[derive(Clone)]
pub struct LogSettings {
    /// Made if missing, with mode 0700.
    pub folder: PathBuf,
    /// Records that may wait; one more is answered [`Unrecorded`], or waits in [`Log::record`]. Default 16,384.
    pub queue_records: usize,
    pub watch: Option<Arc<dyn Watch>>,
}

impl LogSettings {
    pub fn new(folder: impl Into<PathBuf>) -> LogSettings {
        LogSettings { folder: folder.into(), queue_records: 16_384, watch: None }
    }
}

/// What opening a log that was not closed cleanly put right; the log holds it too ([`Event::Recovered`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repair {
    /// Whole records that had no checkpoint and were kept.
    pub unsigned: u64,
    /// Bytes that were cut off the end.
    pub cut: u64,
}

type Answer = Result<Ticket, Unrecorded>;

enum Message {
    /// Its sender is there when somebody waits for the answer.
    Record(Box<AuditRecord>, Option<oneshot::Sender<Answer>>),
    /// Asks whether the log can be written; when it could not, tries.
    Probe(oneshot::Sender<Result<(), Unrecorded>>),
}

impl Message {
    fn is_awaited(&self) -> bool {
        match self {
            Message::Record(_, sender) => sender.is_some(),
            Message::Probe(_) => true,
        }
    }
}

/// What the handle and the writer's thread share.
struct Shared {
    queue: Queue,
    behind: AtomicU64,
    /// Why writing fails now.
    failing: Mutex<Option<Unrecorded>>,
}

/// An open log. Dropping it writes what waits and ends the thread.
pub struct Log {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    repair: Option<Repair>,
    /// Held for as long as this lives, so that no second process writes.
    _lock: Option<File>,
}

/// Answers when the record is on disk, or never will be. Dropping it does not take the record back.
#[must_use = "a record is not recorded before this answers; drop it to say that nobody waits"]
pub struct Receipt(oneshot::Receiver<Answer>);

impl Future for Receipt {
    type Output = Answer;
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Answer> {
        Pin::new(&mut self.0).poll(context).map(|answer| answer.unwrap_or_else(|_| Err(writer_ended())))
    }
}

fn writer_ended() -> Unrecorded {
    Unrecorded("the audit log's writer has ended".to_owned())
}

impl Log {
    /// Opens the log in the settings' folder, or begins one. The folder must hold the signing key
    /// ([`keys::ensure_keys`]). A log that another process has open, or that our key did not sign, is refused.
    pub fn open(settings: LogSettings, clock: Clock) -> Result<Log, Fault> {
        keys::ensure_folder(&settings.folder)?;
        let lock = lock(&settings.folder)?;
        let key = keys::signing_key(&settings.folder)?;
        let path = settings.folder.join(LOG_FILE);
        if !path.try_exists().map_err(|error| unusable(&path, error.to_string()))? {
            begin(&path, &key, clock())?;
        }
        let mut file = OpenOptions::new().read(true).write(true).open(&path).map_err(|error| {
            unusable(&path, error.to_string()).hint("The proxy's user needs to read and write it.")
        })?;
        check_mode(&path, &file)?;
        let resumed = resume(&mut file, &key.verifying_key()).map_err(|fault| {
            let told = unusable(&path, fault.message);
            Fault { hint: fault.hint, ..told }
        })?;
        let repair = Repair { unsigned: resumed.unsigned, cut: resumed.cut };
        let repair = (repair != Repair { unsigned: 0, cut: 0 }).then_some(repair);
        let disk = Box::new(FileDisk::new(file, path.clone(), resumed.length + resumed.cut));
        let mut appender = Appender::new(
            disk,
            resumed.header.log,
            resumed.chain,
            resumed.length,
            resumed.unsigned == 0,
            key,
            clock.clone(),
        );
        if let Some(Repair { unsigned, cut }) = repair {
            let record = about_ourselves(clock(), Event::Recovered { unsigned, cut });
            appender.cut_back().map_err(|why| unusable(&path, why.0))?;
            appender.append(&[&record], true).map_err(|why| unusable(&path, why.0))?;
        }
        let mut log = Log::start(appender, settings.queue_records, settings.watch)
            .map_err(|error| Fault::new(format!("could not start the audit log's writer: {error}")))?;
        (log.repair, log._lock) = (repair, Some(lock));
        Ok(log)
    }

    fn start(appender: Appender, queue: usize, watch: Option<Arc<dyn Watch>>) -> std::io::Result<Log> {
        let shared =
            Shared { queue: Queue::new(queue), behind: AtomicU64::new(0), failing: Mutex::default() };
        let shared = Arc::new(shared);
        let writer = Writer { appender, shared: shared.clone(), watch, signed_at: Instant::now() };
        let thread = std::thread::Builder::new().name("audit".to_owned()).spawn(|| writer.run())?;
        Ok(Log { shared, thread: Some(thread), repair: None, _lock: None })
    }

    /// What [`open`](Self::open) had to put right.
    pub fn repair(&self) -> Option<Repair> {
        self.repair
    }

    /// Submits a record without waiting, in order with the caller's other records. A full queue answers [`Unrecorded`].
    pub fn submit(&self, record: AuditRecord) -> Receipt {
        let (sender, receipt) = oneshot::channel();
        self.push(Message::Record(Box::new(record), Some(sender)));
        Receipt(receipt)
    }

    /// Submits a record whose answer nobody waits for, in order with the caller's other records: it may reach the disk a
    /// moment later, with the next group.
    pub fn note(&self, record: AuditRecord) {
        self.push(Message::Record(Box::new(record), None));
    }

    /// Submits a record and waits, for room in the queue too, until it is on disk.
    pub async fn record(&self, record: AuditRecord) -> Result<Ticket, Unrecorded> {
        let (sender, receipt) = oneshot::channel();
        self.shared.behind.fetch_add(1, Ordering::Relaxed);
        let pushed = self.shared.queue.push_when_room(Message::Record(Box::new(record), Some(sender))).await;
        if let Err(why) = pushed {
            self.shared.behind.fetch_sub(1, Ordering::Relaxed);
            return Err(why);
        }
        Receipt(receipt).await
    }

    /// Whether the log can be written. When it could not, this tries again, so that a full disk that was emptied is
    /// noticed without traffic.
    pub async fn usable(&self) -> Result<(), Unrecorded> {
        let failing = self.shared.failing.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(why) = failing else {
            return if self.shared.queue.is_closed() { Err(writer_ended()) } else { Ok(()) };
        };
        let (sender, answer) = oneshot::channel();
        match self.shared.queue.push(Message::Probe(sender)) {
            Ok(()) => answer.await.unwrap_or_else(|_| Err(writer_ended())),
            Err(_) => Err(why),
        }
    }

    /// Records that were submitted and not yet answered.
    pub fn behind(&self) -> u64 {
        self.shared.behind.load(Ordering::Relaxed)
    }

    fn push(&self, message: Message) {
        self.shared.behind.fetch_add(1, Ordering::Relaxed);
        let Err((message, why)) = self.shared.queue.push(message) else { return };
        self.shared.behind.fetch_sub(1, Ordering::Relaxed);
        if let Message::Record(_, Some(sender)) = message {
            // Nobody may wait for it; then nobody needs the answer.
            let _ = sender.send(Err(why));
        }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.shared.queue.close();
        if let Some(thread) = self.thread.take() {
            // A panic there has answered every receipt already.
            let _ = thread.join();
        }
    }
}

/// The thread's side.
struct Writer {
    appender: Appender,
    shared: Arc<Shared>,
    watch: Option<Arc<dyn Watch>>,
    signed_at: Instant,
}

/// How old a checkpoint may be under which more is written without a new one.
const SIGN_AFTER: Duration = Duration::from_millis(50);
/// Records written at once.
const GROUP_RECORDS: usize = 1024;

impl Writer {
    fn run(mut self) {
        let shared = self.shared.clone();
        let _closing = Closing(&shared.queue);
        let mut messages = Vec::new();
        loop {
            match shared.queue.take(&mut messages, self.appender.is_signed()) {
                Taken::Messages => {
                    while !messages.is_empty() {
                        let rest = messages.split_off(messages.len().min(GROUP_RECORDS));
                        self.group(&mut messages);
                        messages = rest;
                    }
                }
                Taken::Quiet => self.sign(),
                Taken::Ended => break,
            }
        }
        self.sign();
    }

    /// A checkpoint under what has none.
    fn sign(&mut self) {
        if !self.appender.is_signed() {
            let signed = self.append(&[], true);
            self.note(signed.err());
        }
    }

    fn append(&mut self, records: &[&AuditRecord], sign: bool) -> Result<Vec<Answer>, Unrecorded> {
        let answers = self.appender.append(records, sign)?;
        if sign {
            self.signed_at = Instant::now();
        }
        Ok(answers)
    }

    fn group(&mut self, messages: &mut Vec<Message>) {
        let started = Instant::now();
        self.tell_behind();
        let (mut records, mut senders, mut probes) = (Vec::new(), Vec::new(), Vec::new());
        for message in messages.drain(..) {
            match message {
                Message::Record(record, sender) => {
                    records.push(record.bounded());
                    senders.push(sender);
                }
                Message::Probe(sender) => probes.push(sender),
            }
        }
        if !records.is_empty() {
            self.write(&records, senders, started);
        }
        if !probes.is_empty() {
            let answer = self.probe();
            for sender in probes {
                let _ = sender.send(answer.clone());
            }
        }
        self.tell_behind();
    }

    /// Writes all records as one group and answers each.
    fn write(
        &mut self,
        records: &[AuditRecord],
        senders: Vec<Option<oneshot::Sender<Answer>>>,
        started: Instant,
    ) {
        let references: Vec<&AuditRecord> = records.iter().collect();
        let due = self.signed_at.elapsed() >= SIGN_AFTER;
        let answers = match self.append(&references, due) {
            Ok(answers) => {
                self.note(None);
                let recorded = answers.iter().filter(|answer| answer.is_ok()).count();
                if let Some(watch) = &self.watch {
                    watch.appended(recorded as u64, started.elapsed());
                }
                answers
            }
            Err(why) => {
                self.note(Some(why.clone()));
                vec![Err(why); records.len()]
            }
        };
        self.shared.behind.fetch_sub(senders.len() as u64, Ordering::Relaxed);
        for (sender, answer) in senders.into_iter().zip(answers) {
            // Nobody may wait for it; it is on disk all the same.
            let _ = sender.map(|sender| sender.send(answer));
        }
    }

    /// Tries to write when writing failed before: a checkpoint alone is a good line.
    fn probe(&mut self) -> Result<(), Unrecorded> {
        let failing = self.shared.failing.lock().unwrap_or_else(PoisonError::into_inner).is_some();
        let answer = if failing { self.append(&[], true).map(drop) } else { Ok(()) };
        self.note(answer.clone().err());
        answer
    }

    fn note(&self, now: Option<Unrecorded>) {
        let mut failing = self.shared.failing.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(watch) = &self.watch {
            match &now {
                Some(why) if failing.as_ref() != Some(why) => watch.failed(why),
                None if failing.is_some() => watch.works_again(),
                _ => {}
            }
        }
        *failing = now;
    }

    fn tell_behind(&self) {
        if let Some(watch) = &self.watch {
            watch.behind(self.shared.behind.load(Ordering::Relaxed));
        }
    }
}

fn unusable(path: &Path, why: String) -> Fault {
    Fault::new(format!("the audit log {} cannot be used: {why}", path.display()))
}

/// A record of the log itself, not of a connection.
fn about_ourselves(time: i64, event: Event) -> AuditRecord {
    AuditRecord {
        time,
        connection: 0,
        user: String::new(),
        database: String::new(),
        application: String::new(),
        address: String::new(),
        event,
    }
}

fn lock(folder: &Path) -> Result<File, Fault> {
    let path = folder.join(LOCK_FILE);
    let lock = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
    let lock = lock.map_err(|error| unusable(&path, error.to_string()))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => {
            Err(Fault::new(format!("another process writes the audit log in {}", folder.display())).hint(
                "One log has one writer. Stop the other pgveil, or give this one its own `[audit] path`.",
            ))
        }
        Err(TryLockError::Error(error)) => Err(unusable(&path, error.to_string())),
    }
}

fn check_mode(path: &Path, file: &File) -> Result<(), Fault> {
    let mode = file.metadata().map_err(|error| unusable(path, error.to_string()))?.mode() & 0o777;
    if mode & 0o077 == 0 {
        return Ok(());
    }
    let fault = unusable(path, format!("others may touch it (mode {mode:04o})"));
    Err(fault.hint(format!("Run `chmod 600 {}`.", path.display())))
}

/// Writes a new log: its header and a checkpoint over it, whole or not at all.
fn begin(path: &Path, key: &SigningKey, time: i64) -> Result<(), Fault> {
    let mut log = [0; 16];
    getrandom::fill(&mut log).map_err(|error| unusable(path, error.to_string()))?;
    let header = Header { log: LogId(log), key: KeyId::of(&key.verifying_key()), time };
    let mut content = Vec::new();
    canonical::write_header(&header, &mut content);
    let chain = Chain::begin(&content);
    content.push(b'\n');
    canonical::write_checkpoint(&Checkpoint::sign(header.log, chain, time, key), &mut content);
    content.push(b'\n');
    keys::create(path, 0o600, &content)
}

/// The log's file, given its folder or itself.
pub fn log_file(path: &Path) -> PathBuf {
    if fs::metadata(path).is_ok_and(|metadata| metadata.is_dir()) {
        path.join(LOG_FILE)
    } else {
        path.to_owned()
    }
}

#[cfg(test)]
mod tests;

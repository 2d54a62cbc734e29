//! The log's writer: one thread that sees to the file, and the handle that connections submit records through.
//!
//! A group is written by that thread, or by a connection's own ([`Log::write_here`]): two changes of thread cost about as much as
//! the write itself, and who is alone gains nothing by them. Whoever writes holds the writer, and takes what waits only then.
//!
//! Guarantees: a [`Ticket`] is given only after the record is on disk (`fdatasync`, of the journal or the log itself); all records that wait are written
//! together (group commit); records of one submitter keep their order; a signed checkpoint stands under all of them within a
//! tenth of a second, since a signature costs more than all else of a group does. When writing fails,
//! every waiting record is answered with [`Unrecorded`], the file is cut back to its last good line, and the next
//! submission tries again. Deliberately absent: rotation, other sinks, and what a record means.

mod appender;
mod disk;
mod journal;
mod open;
mod queue;
mod retire;

use super::persons::Namer;
use super::{AuditRecord, Fault, Ticket, Unrecorded};
use appender::Appender;
use disk::Disk;
use queue::{Awaited, Closing, Queue};
use retire::Housekeeper;
use std::borrow::Borrow;
use std::fs::File;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

pub use super::segments::{LOG_FILE, log_file};

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
    /// A segment could not be sealed, compressed or removed; records go on being written. For our own log.
    fn untidy(&self, _why: &str) {}
}

/// What a log is opened with.
#[derive(Clone)]
pub struct LogSettings {
    /// Made if missing, with mode 0700.
    pub folder: PathBuf,
    /// Records that may wait; one more is answered [`Unrecorded`], or waits in [`Log::record`]. Default 16,384.
    pub queue_records: usize,
    pub watch: Option<Arc<dyn Watch>>,
    pub segments: SegmentSettings,
}

impl LogSettings {
    pub fn new(folder: impl Into<PathBuf>) -> LogSettings {
        LogSettings {
            folder: folder.into(),
            queue_records: 16_384,
            watch: None,
            segments: SegmentSettings::default(),
        }
    }
}

/// When segments end, and what becomes of sealed ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentSettings {
    /// A segment that has reached this size is sealed. Bytes; default 64 MiB.
    pub bytes: u64,
    /// One that is this old is sealed. Default 24 hours.
    pub age: Duration,
    /// Sealed ones are compressed.
    pub compress: bool,
    /// Sealed ones whose last line is older are removed; `None` keeps them.
    pub retention: Option<Duration>,
}

impl Default for SegmentSettings {
    fn default() -> SegmentSettings {
        SegmentSettings {
            bytes: 64 << 20,
            age: Duration::from_secs(24 * 3600),
            compress: false,
            retention: None,
        }
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
    /// Asks to forget whom a request in the folder names, if there is one.
    Forget(oneshot::Sender<Result<bool, Unrecorded>>),
    /// Asks to go over to the key that waits in the folder, if one does.
    NewKey(oneshot::Sender<Result<bool, Fault>>),
}

impl Message {
    fn is_awaited(&self) -> bool {
        match self {
            Message::Record(_, sender) => sender.is_some(),
            Message::Probe(_) | Message::NewKey(_) | Message::Forget(_) => true,
        }
    }
}

/// What the handle and the writer share.
struct Shared {
    queue: Queue,
    behind: AtomicU64,
    /// What a group usually takes of late, in nanoseconds; `u64::MAX`: nobody knows yet.
    pace: AtomicU64,
    /// Lines of the log.
    lines: AtomicU64,
    /// Why writing fails now.
    failing: Mutex<Option<Unrecorded>>,
}

/// An open log. Dropping it writes what waits and ends the thread.
pub struct Log {
    shared: Arc<Shared>,
    writer: Arc<Mutex<Writer>>,
    origin: String,
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
        let opened = open::open(&settings.folder, clock.clone())?;
        let housekeeper = Housekeeper::new(settings.folder, settings.segments, clock);
        let mut log = Log::start(opened.appender, housekeeper, settings.queue_records, settings.watch)
            .map_err(|error| Fault::new(format!("could not start the audit log's writer: {error}")))?;
        (log.repair, log._lock) = (opened.repair, Some(opened.lock));
        Ok(log)
    }

    fn start(
        appender: Appender,
        housekeeper: Housekeeper,
        queue: usize,
        watch: Option<Arc<dyn Watch>>,
    ) -> std::io::Result<Log> {
        let shared = Shared {
            queue: Queue::new(queue),
            behind: AtomicU64::new(0),
            pace: AtomicU64::new(u64::MAX),
            lines: AtomicU64::new(appender.end().chain.size),
            failing: Mutex::default(),
        };
        let (shared, origin) = (Arc::new(shared), appender.end().log.origin());
        let namer = Namer::new(housekeeper.folder());
        let signed_at = Instant::now();
        let room = Vec::new();
        let writer = Writer { appender, housekeeper, namer, shared: shared.clone(), watch, signed_at, room };
        let writer = Arc::new(Mutex::new(writer));
        let (theirs, its) = (writer.clone(), shared.clone());
        let thread =
            std::thread::Builder::new().name("audit".to_owned()).spawn(move || run(&theirs, &its))?;
        Ok(Log { shared, writer, origin, thread: Some(thread), repair: None, _lock: None })
    }

    /// What [`open`](Self::open) had to put right.
    pub fn repair(&self) -> Option<Repair> {
        self.repair
    }

    /// Submits a record without waiting, in order with the caller's other records. A full queue answers [`Unrecorded`].
    pub fn submit(&self, record: impl Into<Box<AuditRecord>>) -> Receipt {
        let (sender, receipt) = oneshot::channel();
        self.push(Message::Record(record.into(), Some(sender)));
        Receipt(receipt)
    }

    /// As [`submit`](Self::submit), for one who calls [`write_here`](Self::write_here) before it waits for the answer.
    pub fn submit_here(&self, record: impl Into<Box<AuditRecord>>) -> Receipt {
        let (sender, receipt) = oneshot::channel();
        self.push_with(Message::Record(record.into(), Some(sender)), Queue::push_unseen);
        Receipt(receipt)
    }

    /// Writes what waits, on this thread, where nobody else is writing; else, and where a group usually takes longer than
    /// [`HERE_AT_MOST`], the writer's thread is told. `alone`: nobody else wants this thread meanwhile. Blocks for one group.
    pub fn write_here(&self, alone: bool) {
        let here = alone && self.shared.pace.load(Ordering::Relaxed) <= HERE_AT_MOST;
        // A writer whose holder panicked is the thread's to find out, which ends then.
        match here.then(|| self.writer.try_lock()) {
            Some(Ok(mut writer)) => writer.groups(),
            Some(Err(_)) | None => self.shared.queue.wake(),
        }
    }

    /// Submits a record whose answer nobody waits for, in order with the caller's other records: it may reach the disk a
    /// moment later, with the next group.
    pub fn note(&self, record: impl Into<Box<AuditRecord>>) {
        self.push(Message::Record(record.into(), None));
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

    /// Lines that the log has.
    pub fn lines(&self) -> u64 {
        self.shared.lines.load(Ordering::Relaxed)
    }

    /// The log's name, as its checkpoints have it.
    pub fn origin(&self) -> String {
        self.origin.clone()
    }

    /// Goes over to the signing key that waits in the folder ([`keys::prepare_next`]); whether one did.
    pub async fn change_key(&self) -> Result<bool, Fault> {
        let (sender, answer) = oneshot::channel();
        let pushed = self.shared.queue.push_when_room(Message::NewKey(sender)).await;
        let ended = || Fault::new(writer_ended().0);
        pushed.map_err(|_| ended())?;
        answer.await.unwrap_or_else(|_| Err(ended()))
    }

    /// Forgets the person whom a request in the folder names ([`super::persons::ask_to_forget`]); whether there was one.
    pub async fn forget(&self) -> Result<bool, Unrecorded> {
        let (sender, receipt) = oneshot::channel();
        self.shared.queue.push_when_room(Message::Forget(sender)).await?;
        receipt.await.unwrap_or_else(|_| Err(writer_ended()))
    }

    /// Records that were submitted and not yet answered.
    pub fn behind(&self) -> u64 {
        self.shared.behind.load(Ordering::Relaxed)
    }

    fn push(&self, message: Message) {
        self.push_with(message, Queue::push);
    }

    fn push_with(
        &self,
        message: Message,
        push: impl FnOnce(&Queue, Message) -> Result<(), (Message, Unrecorded)>,
    ) {
        self.shared.behind.fetch_add(1, Ordering::Relaxed);
        let Err((message, why)) = push(&self.shared.queue, message) else { return };
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

/// What writes. Its thread holds it while it does, or another that writes in its place.
struct Writer {
    appender: Appender,
    housekeeper: Housekeeper,
    namer: Namer,
    shared: Arc<Shared>,
    watch: Option<Arc<dyn Watch>>,
    signed_at: Instant,
    /// Room for the next group's messages; the queue gets that of the last.
    room: Vec<Message>,
}

/// How old a checkpoint may be under which more is written without a new one.
const SIGN_AFTER: Duration = Duration::from_millis(50);
/// Records written at once.
const GROUP_RECORDS: usize = 1024;
/// What a group may usually take that is written on a connection's thread, in nanoseconds: so long others wait there.
const HERE_AT_MOST: u64 = 500_000;

/// The thread: writes what waits, signs, and keeps house.
fn run(writer: &Mutex<Writer>, shared: &Shared) {
    let _closing = Closing(&shared.queue);
    // A writer that panicked elsewhere is in no state to go on.
    let held = || writer.lock().ok();
    let Some(mut first) = held() else { return };
    first.keep_house();
    if let (Err(why), Some(watch)) = (first.forget(), &first.watch.clone()) {
        watch.untidy(&why.0);
    }
    let mut signed = first.appender.is_signed();
    drop(first);
    loop {
        let awaited = shared.queue.wait(signed);
        let Some(mut writer) = held() else { return };
        match awaited {
            Awaited::Messages => writer.groups(),
            Awaited::Quiet | Awaited::End => writer.sign(),
        }
        if matches!(awaited, Awaited::End) {
            return;
        }
        writer.keep_house();
        signed = writer.appender.is_signed();
    }
}

impl Writer {
    /// Writes all that waits.
    fn groups(&mut self) {
        let mut messages = std::mem::take(&mut self.room);
        self.shared.queue.grab(&mut messages);
        while messages.len() > GROUP_RECORDS {
            let rest = messages.split_off(GROUP_RECORDS);
            self.group(&mut messages);
            messages = rest;
        }
        if !messages.is_empty() {
            self.group(&mut messages);
        }
        self.room = messages;
    }

    /// A checkpoint under what has none.
    fn sign(&mut self) {
        if !self.appender.is_signed() {
            let signed = self.append::<AuditRecord>(&[], true);
            self.note(signed.err());
        }
    }

    fn append<R: Borrow<AuditRecord>>(
        &mut self,
        records: &[R],
        sign: bool,
    ) -> Result<Vec<Answer>, Unrecorded> {
        let answers = self.appender.append(records, sign)?;
        self.shared.lines.store(self.appender.end().chain.size, Ordering::Relaxed);
        if sign {
            self.signed_at = Instant::now();
        }
        Ok(answers)
    }

    fn group(&mut self, messages: &mut Vec<Message>) {
        let started = Instant::now();
        self.tell_behind();
        let (mut records, mut senders) = (vec![], vec![]);
        let (mut probes, mut keys, mut forgets) = (vec![], vec![], vec![]);
        for message in messages.drain(..) {
            match message {
                Message::Record(mut record, sender) => {
                    record.bound();
                    records.push(record);
                    senders.push(sender);
                }
                Message::Probe(sender) => probes.push(sender),
                Message::NewKey(sender) => keys.push(sender),
                Message::Forget(sender) => forgets.push(sender),
            }
        }
        if !records.is_empty() {
            self.write(&mut records, senders, started);
        }
        if !probes.is_empty() {
            let answer = self.probe();
            for sender in probes {
                let _ = sender.send(answer.clone());
            }
        }
        for sender in keys {
            let _ = sender.send(open::change_key(&mut self.appender, self.housekeeper.folder()));
        }
        for sender in forgets {
            let _ = sender.send(self.forget());
        }
        self.tell_behind();
    }

    /// Forgets a person, if the folder asks for it; then says so.
    fn forget(&mut self) -> Result<bool, Unrecorded> {
        let Some(event) = self.namer.forget()? else { return Ok(false) };
        // Should this fail, the request is carried out again, which changes nothing more.
        let record = AuditRecord::of_the_proxy(self.appender.now(), event);
        self.append(&[&record], true)?;
        self.namer.forgotten().map_err(|error| Unrecorded(error.to_string()))?;
        Ok(true)
    }

    /// Ends a segment that is full or old, and sees to sealed ones.
    fn keep_house(&mut self) {
        if let Err(why) = self.housekeeper.run(&mut self.appender)
            && let Some(watch) = &self.watch
        {
            watch.untidy(&why);
        }
    }

    /// Writes all records as one group and answers each.
    fn write(
        &mut self,
        records: &mut [Box<AuditRecord>],
        senders: Vec<Option<oneshot::Sender<Answer>>>,
        started: Instant,
    ) {
        let named = self.namer.name(records);
        let due = self.signed_at.elapsed() >= SIGN_AFTER;
        let answers = match named.and_then(|()| self.append(records, due)) {
            Ok(answers) => {
                self.note(None);
                let recorded = answers.iter().filter(|answer| answer.is_ok()).count();
                let took = started.elapsed();
                self.pace(took);
                if let Some(watch) = &self.watch {
                    watch.appended(recorded as u64, took);
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

    /// Takes up how long a group took: the pace goes a sixteenth up or down, and so comes to what half of them take, however long
    /// the longest are.
    fn pace(&self, took: Duration) {
        let took = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let usual = self.shared.pace.load(Ordering::Relaxed);
        let now = match usual {
            u64::MAX => took.max(16),
            usual if took > usual => usual + usual / 16,
            usual => usual - usual / 16,
        };
        self.shared.pace.store(now, Ordering::Relaxed);
    }

    /// Tries to write when writing failed before: a checkpoint alone is a good line.
    fn probe(&mut self) -> Result<(), Unrecorded> {
        let failing = self.shared.failing.lock().unwrap_or_else(PoisonError::into_inner).is_some();
        let answer = if failing { self.append::<AuditRecord>(&[], true).map(drop) } else { Ok(()) };
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

#[cfg(test)]
mod tests;

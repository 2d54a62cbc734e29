//! The writer over a disk that fails when told to, and over a real folder.

mod journal;
mod rotation;

use super::super::canonical;
use super::super::canonical::tests::samples;
use super::super::chain::Chain;
use super::super::checkpoint::LogId;
use super::super::keys;
use super::super::tree::Tree;
use super::super::verify::{Failure, Flaw, Kind, verify};
use super::*;
use ed25519_dalek::SigningKey;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::MutexGuard;

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(work)
}

fn clock() -> Clock {
    Arc::new(|| 42)
}

fn record(number: usize) -> AuditRecord {
    samples().swap_remove(number % 7)
}

/// Verifies again while only the last checkpoint is missing, for as long as a writer could take.
fn once_signed(verified: impl Fn() -> Result<u64, Flaw>) -> Result<u64, Flaw> {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        match verified() {
            Err(Flaw { kind: Kind::Unsigned { .. }, .. }) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(5));
            }
            result => return result,
        }
    }
}

/// A disk in memory, and what goes wrong with it.
#[derive(Default)]
struct Platter {
    bytes: Vec<u8>,
    syncs: usize,
    /// Bytes that still fit.
    room: Option<usize>,
    sync_fails: bool,
    cut_fails: bool,
}

#[derive(Clone, Default)]
struct FailingDisk(Arc<Mutex<Platter>>);

impl FailingDisk {
    fn platter(&self) -> MutexGuard<'_, Platter> {
        self.0.lock().unwrap()
    }
    /// How many records verify, once a checkpoint stands under all of them.
    fn verify(&self) -> u64 {
        let verified = || {
            let bytes = self.platter().bytes.clone();
            match verify(bytes.as_slice(), &key().verifying_key()) {
                Ok(verified) => Ok(verified.records),
                Err(Failure::Flawed(flaw)) => Err(flaw),
                Err(Failure::Read(error)) => panic!("{error}"),
            }
        };
        once_signed(verified).unwrap()
    }
    /// Whole records that are there, under a checkpoint or not.
    fn records(&self) -> usize {
        let bytes = self.platter().bytes.clone();
        let is_record = |line: &&[u8]| line.ends_with(b"\n") && line.starts_with(b"{\"sequence\"");
        bytes.split_inclusive(|byte| *byte == b'\n').filter(is_record).count()
    }
}

impl Disk for FailingDisk {
    fn append(&mut self, length: u64, bytes: &[u8]) -> io::Result<()> {
        let mut platter = self.platter();
        assert_eq!(platter.bytes.len() as u64, length, "the end is where the writer thinks it is");
        let fits = platter.room.unwrap_or(usize::MAX).min(bytes.len());
        platter.bytes.extend_from_slice(&bytes[..fits]);
        if fits < bytes.len() { Err(io::Error::from(io::ErrorKind::StorageFull)) } else { Ok(()) }
    }
    fn sync(&mut self) -> io::Result<()> {
        let mut platter = self.platter();
        platter.syncs += 1;
        if platter.sync_fails { Err(io::Error::other("sync failed")) } else { Ok(()) }
    }
    fn next(&mut self, _first: u64, _content: &[u8]) -> io::Result<()> {
        Err(io::Error::from(io::ErrorKind::StorageFull))
    }
    fn cut(&mut self, length: u64) -> io::Result<()> {
        let mut platter = self.platter();
        if platter.cut_fails {
            return Err(io::Error::from(io::ErrorKind::ReadOnlyFilesystem));
        }
        platter.bytes.truncate(length as usize);
        Ok(())
    }
}

fn key() -> SigningKey {
    SigningKey::from_bytes(&[5; 32])
}

fn start(watch: Option<Arc<dyn Watch>>, queue: usize) -> (Log, FailingDisk) {
    let folder = tempfile::tempdir().unwrap();
    let disk = FailingDisk::default();
    let (content, end) = appender::begin(LogId([6; 16]), Chain::EMPTY, Tree::default(), 1, &key());
    disk.platter().bytes = content;
    let appender = Appender::new(Box::new(disk.clone()), end, key(), clock());
    let housekeeper = Housekeeper::new(folder.path().to_owned(), SegmentSettings::default(), clock());
    (Log::start(appender, housekeeper, queue, watch).unwrap(), disk)
}

#[test]
fn records_are_on_disk_before_their_tickets() {
    let (log, disk) = start(None, 16);
    for number in 0..5 {
        let ticket = block_on(log.record(record(number))).unwrap();
        // After the header and its checkpoint, and perhaps more checkpoints.
        assert!(ticket.0 >= 2 + number as u64, "{ticket:?}");
        assert_eq!(disk.records(), number + 1);
        assert!(disk.platter().syncs > number);
    }
    assert_eq!((disk.verify(), log.behind()), (5, 0));
}

#[test]
fn a_checkpoint_serves_all_that_comes_while_it_is_young() {
    let (log, disk) = start(None, 16);
    let began = Instant::now();
    for number in 0..200 {
        block_on(log.record(record(number))).unwrap();
    }
    let most = 2 + began.elapsed().div_duration_f64(SIGN_AFTER) as usize;
    assert_eq!(disk.verify(), 200);
    let bytes = disk.platter().bytes.clone();
    let checkpoints = bytes.split(|byte| *byte == b'\n').filter(|line| line.starts_with(b"{\"checkpoint\""));
    // One more is the log's first, another the one that the quiet brought.
    assert!(checkpoints.count() <= most + 2);
}

#[test]
fn what_nobody_waits_for_goes_with_the_next_group_or_soon() {
    let (log, disk) = start(None, 16);
    block_on(log.record(record(0))).unwrap();
    let syncs = disk.platter().syncs;
    log.note(record(1));
    block_on(log.record(record(2))).unwrap();
    assert_eq!(disk.records(), 3);
    assert!(disk.platter().syncs <= syncs + 2, "at most one of a checkpoint's own");
    log.note(record(3));
    let deadline = Instant::now() + Duration::from_secs(10);
    while disk.records() < 4 {
        assert!(Instant::now() < deadline, "a record that nobody waits for was forgotten");
        std::thread::sleep(Duration::from_millis(5));
    }
    log.note(record(4));
    drop(log);
    assert_eq!(disk.verify(), 5, "the end waits for it");
}

/// Whether an answer is there already.
fn answered(receipt: &mut Receipt) -> bool {
    receipt.0.try_recv().is_ok()
}

#[test]
fn a_record_is_written_on_the_thread_that_asks_where_that_is_quick() {
    let (log, disk) = start(None, 16);
    // The first tells how long it takes; the writer lets go of the disk after it has answered.
    block_on(log.record(record(0))).unwrap();
    let paced = || log.shared.pace.store(1000, Ordering::Relaxed);
    paced();
    drop(log.writer.lock().unwrap());
    let mut receipts = [log.submit_here(record(1)), log.submit_here(record(2))];
    log.write_here(true);
    assert!(receipts.iter_mut().all(answered));
    // Its failure is told as the thread tells it, and does not last.
    disk.platter().sync_fails = true;
    let failed = log.submit_here(record(3));
    log.write_here(true);
    assert_eq!(block_on(failed), Err(Unrecorded("sync failed".to_owned())));
    disk.platter().sync_fails = false;
    // Where others wait, or a group takes long, or somebody else writes, the thread does it.
    for (alone, pace, held) in [(false, 1000, false), (true, HERE_AT_MOST + 1, false), (true, 1000, true)] {
        log.shared.pace.store(pace, Ordering::Relaxed);
        // In the order in which the thread takes them.
        let writer = held.then(|| log.writer.lock().unwrap());
        let platter = disk.platter();
        let mut receipt = log.submit_here(record(4));
        log.write_here(alone);
        assert!(!answered(&mut receipt), "{alone} {pace} {held}");
        drop((writer, platter));
        block_on(receipt).unwrap();
    }
    // Who does not ask is not forgotten.
    paced();
    block_on(log.submit_here(record(5))).unwrap();
    assert_eq!((disk.verify(), log.behind()), (7, 0));
}

#[test]
fn what_another_thread_writes_is_signed_in_the_next_quiet_moment() {
    let (log, disk) = start(None, 16);
    block_on(log.record(record(0))).unwrap();
    for round in 1..4 {
        disk.verify();
        // The writer's thread has signed, and sleeps until it is woken; then it finds nothing to do.
        std::thread::sleep(Duration::from_millis(200));
        // The first is signed, for the last checkpoint is old; not so the second.
        for number in 0..2 {
            log.shared.pace.store(1000, Ordering::Relaxed);
            let receipt = log.submit_here(record(number));
            log.write_here(true);
            block_on(receipt).unwrap();
        }
        assert_eq!(disk.verify(), 1 + 2 * round);
    }
}

#[test]
fn records_keep_their_order_whoever_writes_them() {
    let (log, disk) = start(None, 4096);
    let (log, many) = (&log, 200);
    std::thread::scope(|scope| {
        for submitter in 0..3 {
            scope.spawn(move || {
                let mut last = None;
                for number in 0..many {
                    log.shared.pace.store(1000, Ordering::Relaxed);
                    log.note(record(number));
                    let receipt = log.submit_here(record(number));
                    log.write_here((number + submitter) % 3 > 0);
                    let ticket = block_on(receipt).unwrap();
                    assert!(last < Some(ticket.0), "{last:?} {ticket:?}");
                    last = Some(ticket.0);
                }
            });
        }
    });
    assert_eq!((disk.verify(), log.behind()), (3 * 2 * many as u64, 0));
}

/// What a watch was told.
#[derive(Default)]
struct Told(Mutex<Vec<String>>);

impl Watch for Told {
    fn appended(&self, records: u64, _took: Duration) {
        self.0.lock().unwrap().push(format!("appended {records}"));
    }
    fn behind(&self, _records: u64) {}
    fn failed(&self, why: &Unrecorded) {
        self.0.lock().unwrap().push(format!("failed: {why}"));
    }
    fn works_again(&self) {
        self.0.lock().unwrap().push("works again".to_owned());
    }
}

#[test]
fn a_full_disk_refuses_and_recovers_without_a_restart() {
    let told = Arc::new(Told::default());
    let (log, disk) = start(Some(told.clone()), 16);
    block_on(log.record(record(0))).unwrap();
    assert_eq!(disk.verify(), 1);
    let before = disk.platter().bytes.clone();
    disk.platter().room = Some(100);
    for number in 0..2 {
        let why = block_on(log.record(record(number))).unwrap_err();
        assert_eq!(why, Unrecorded(io::ErrorKind::StorageFull.to_string()));
        assert_eq!(disk.platter().bytes, before, "no half line is left");
    }
    assert!(block_on(log.usable()).is_err());
    disk.platter().room = None;
    assert_eq!(block_on(log.usable()), Ok(()), "noticed without traffic");
    block_on(log.record(record(1))).unwrap();
    assert_eq!(disk.verify(), 2);
    let full = format!("failed: {}", io::ErrorKind::StorageFull);
    assert_eq!(*told.0.lock().unwrap(), ["appended 1", &full, "works again", "appended 1"]);
}

#[test]
fn what_a_failed_sync_left_is_written_anew() {
    let (log, disk) = start(None, 16);
    block_on(log.record(record(0))).unwrap();
    disk.platter().sync_fails = true;
    disk.platter().cut_fails = true;
    assert_eq!(block_on(log.record(record(0))), Err(Unrecorded("sync failed".to_owned())));
    // The file cannot be cut back either: then nothing may be written behind what is there.
    let why = block_on(log.record(record(1))).unwrap_err();
    assert_eq!(why, Unrecorded(io::ErrorKind::ReadOnlyFilesystem.to_string()));
    disk.platter().sync_fails = false;
    disk.platter().cut_fails = false;
    block_on(log.record(record(2))).unwrap();
    assert_eq!(disk.verify(), 2);
}

#[test]
fn records_that_wait_together_share_a_sync() {
    let (log, disk) = start(None, 4096);
    // The writer stops at its first write until the disk is let go.
    let held = disk.platter();
    let mut receipts = vec![log.submit(record(0))];
    receipts.extend((1..1000).map(|number| log.submit(record(number))));
    drop(held);
    let answer = |receipt: Receipt| receipt.0.blocking_recv().unwrap().unwrap();
    let tickets: Vec<Ticket> = receipts.into_iter().map(answer).collect();
    assert!(tickets.is_sorted() && tickets.len() == 1000);
    assert_eq!(disk.verify(), 1000);
    assert!(disk.platter().syncs <= 3, "{} syncs", disk.platter().syncs);
}

#[test]
fn a_full_queue_refuses_at_once_and_a_long_record_is_refused_alone() {
    let (log, disk) = start(None, 2);
    let held = disk.platter();
    let receipts: Vec<Receipt> = (0..8).map(|number| log.submit(record(number))).collect();
    drop(held);
    let answers: Vec<Answer> =
        receipts.into_iter().map(|receipt| receipt.0.blocking_recv().unwrap()).collect();
    let refused = answers.iter().filter(|answer| answer.is_err()).count();
    assert!((3..8).contains(&refused), "{answers:?}");
    assert_eq!(disk.verify() as usize, 8 - refused);

    let mut long = record(0);
    long.connection =
        long.connection.changed(|connection| connection.application = "x".repeat(canonical::LINE_BYTES_MAX));
    let long = log.submit(long);
    let short = log.submit(record(1));
    assert!(long.0.blocking_recv().unwrap().unwrap_err().0.contains("too long"));
    short.0.blocking_recv().unwrap().unwrap();
    assert_eq!(disk.verify() as usize, 9 - refused);
    assert_eq!(log.behind(), 0);
}

fn open(folder: &Path) -> Result<Log, Fault> {
    Log::open(LogSettings::new(folder), clock())
}

fn verify_folder(folder: &Path) -> Result<u64, Flaw> {
    let key = keys::public_key(&folder.join(keys::PUBLIC_KEY_FILE)).unwrap();
    once_signed(|| match verify(fs::read(log_file(folder)).unwrap().as_slice(), &key) {
        Ok(verified) => Ok(verified.records),
        Err(Failure::Flawed(flaw)) => Err(flaw),
        Err(Failure::Read(error)) => panic!("{error}"),
    })
}

#[test]
fn a_log_is_continued() {
    let folder = tempfile::tempdir().unwrap();
    keys::ensure_keys(folder.path()).unwrap();
    for round in 0..3 {
        let log = open(folder.path()).unwrap();
        assert_eq!(log.repair(), None);
        // Dropping the log writes what waits.
        drop((0..4).map(|number| log.submit(record(number))).collect::<Vec<_>>());
        drop(log);
        assert_eq!(verify_folder(folder.path()), Ok(4 * (round + 1)));
    }
    let mode = |file: &str| fs::metadata(folder.path().join(file)).unwrap().mode() & 0o777;
    assert_eq!((mode(LOG_FILE), mode("lock")), (0o600, 0o600));
}

#[test]
fn who_is_about_to_leave_the_log_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    keys::ensure_keys(folder.path()).unwrap();
    let former = open(folder.path()).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            std::thread::sleep(Duration::from_millis(100));
            drop(former);
        });
        open(folder.path()).unwrap();
    });
}

/// A crash can end the file anywhere after the last checkpoint that was answered for.
#[test]
fn every_torn_end_is_repaired_and_told() {
    let folder = tempfile::tempdir().unwrap();
    keys::ensure_keys(folder.path()).unwrap();
    drop(open(folder.path()).unwrap());
    let path = log_file(folder.path());
    let answered = fs::read(&path).unwrap();
    let log = open(folder.path()).unwrap();
    drop(log.submit(record(1)));
    drop(log);
    let whole = fs::read(&path).unwrap();
    let record_ends =
        answered.len() + 1 + whole[answered.len()..].iter().position(|byte| *byte == b'\n').unwrap();
    for length in (answered.len()..whole.len()).step_by(7).chain([record_ends, whole.len() - 1]) {
        fs::write(&path, &whole[..length]).unwrap();
        let log = open(folder.path()).unwrap();
        let unsigned = u64::from(length >= record_ends);
        let kept = if unsigned == 1 { record_ends } else { answered.len() };
        let repair = Repair { unsigned, cut: (length - kept) as u64 };
        assert_eq!(log.repair(), (length != answered.len()).then_some(repair), "cut to {length}");
        block_on(log.record(record(2))).unwrap();
        drop(log);
        let recovered = u64::from(length != answered.len());
        assert_eq!(verify_folder(folder.path()), Ok(unsigned + recovered + 1), "cut to {length}");
    }
    // Blocks that the file system allotted but never filled.
    fs::write(&path, [whole.clone(), vec![0; 5000]].concat()).unwrap();
    assert_eq!(open(folder.path()).unwrap().repair(), Some(Repair { unsigned: 0, cut: 5000 }));
}

#[test]
fn a_log_that_is_not_ours_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let fault = open(folder.path()).map(drop).unwrap_err();
    assert!(fault.hint.unwrap().contains("pgveil init"));
    let files = keys::ensure_keys(folder.path()).unwrap();
    drop(open(folder.path()).unwrap());
    let path = log_file(folder.path());
    let good = fs::read(&path).unwrap();
    let mut altered = good.clone();
    *altered.iter_mut().rev().nth(10).unwrap() ^= 1;
    for (bytes, says) in [
        (altered, "no checkpoint in it is signed"),
        (b"hello\n".to_vec(), "does not begin with the header"),
        (Vec::new(), "does not begin with the header"),
    ] {
        fs::write(&path, &bytes).unwrap();
        let fault = open(folder.path()).map(drop).unwrap_err();
        assert!(fault.message.contains(says), "{fault}");
        assert_eq!(fs::read(&path).unwrap(), bytes);
    }
    fs::write(&path, &good).unwrap();
    fs::remove_file(&files.signing_key).unwrap();
    fs::remove_file(&files.public_key).unwrap();
    keys::ensure_keys(folder.path()).unwrap();
    assert!(open(folder.path()).map(drop).unwrap_err().message.contains("another signing key"));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(open(folder.path()).map(drop).unwrap_err().hint.unwrap().contains("chmod 600"));
}

#[test]
fn a_file_that_is_not_where_auditors_look_takes_no_records() {
    let folder = tempfile::tempdir().unwrap();
    keys::ensure_keys(folder.path()).unwrap();
    let log = open(folder.path()).unwrap();
    block_on(log.record(record(0))).unwrap();
    // Until the writer is quiet.
    verify_folder(folder.path()).unwrap();
    let path = log_file(folder.path());
    let good = fs::read(&path).unwrap();
    fs::write(&path, &good[..good.len() - 1]).unwrap();
    assert!(block_on(log.record(record(0))).unwrap_err().0.contains("changed by someone else"));
    fs::write(&path, &good).unwrap();
    block_on(log.record(record(0))).unwrap();
    verify_folder(folder.path()).unwrap();
    let aside = path.with_extension("1");
    fs::rename(&path, &aside).unwrap();
    assert!(block_on(log.record(record(0))).unwrap_err().0.contains("renamed"));
    assert!(block_on(log.usable()).is_err());
    let before = fs::read(&aside).unwrap();
    fs::copy(&aside, &path).unwrap();
    assert!(block_on(log.record(record(0))).unwrap_err().0.contains("replaced"), "a copy is another file");
    assert_eq!(fs::read(&path).unwrap(), before);
    assert_eq!(fs::read(&aside).unwrap(), before);
    // Put back, it is used again without a restart.
    fs::rename(&aside, &path).unwrap();
    block_on(log.usable()).unwrap();
    block_on(log.record(record(0))).unwrap();
    verify_folder(folder.path()).unwrap();
    fs::remove_file(&path).unwrap();
    assert!(block_on(log.record(record(0))).unwrap_err().0.contains("removed"));
    assert!(block_on(log.usable()).is_err());
}

//! Segments and keys over a real folder: what rotates, what a crash leaves half done, what is removed.

use crate::audit::canonical::tests::samples;
use crate::audit::segments::{self, Segments, sealed_in};
use crate::audit::verify::{Against, Failure, Verified, records, verify_against};
use crate::audit::writer::*;
use crate::audit::{Event, Fault, keys};
use ed25519_dalek::VerifyingKey;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64};

/// A clock that a test moves, in microseconds.
#[derive(Clone, Default)]
struct Hands(Arc<AtomicI64>);

impl Hands {
    fn clock(&self) -> Clock {
        let hands = self.0.clone();
        Arc::new(move || hands.load(Ordering::Relaxed))
    }
    fn forward(&self, span: Duration) {
        self.0.fetch_add(span.as_micros() as i64, Ordering::Relaxed);
    }
}

struct Place {
    folder: tempfile::TempDir,
    hands: Hands,
    first_key: VerifyingKey,
}

impl Place {
    fn new() -> Place {
        let folder = tempfile::tempdir().unwrap();
        let files = keys::ensure_keys(folder.path()).unwrap();
        let first_key = keys::public_key(&files.public_key).unwrap();
        Place { folder, hands: Hands::default(), first_key }
    }
    fn path(&self) -> &Path {
        self.folder.path()
    }
    fn open(&self, segments: SegmentSettings) -> Result<Log, Fault> {
        Log::open(LogSettings { segments, ..LogSettings::new(self.path()) }, self.hands.clock())
    }
    /// Opens the log, writes so many records, each on disk before the next, and closes it.
    fn write(&self, segments: SegmentSettings, records: usize) {
        let log = self.open(segments).unwrap();
        for number in 0..records {
            log.submit(samples().swap_remove(number % 7)).0.blocking_recv().unwrap().unwrap();
        }
    }
    fn verify(&self) -> Result<Verified, Failure> {
        self.verify_with(self.first_key)
    }
    fn verify_with(&self, key: VerifyingKey) -> Result<Verified, Failure> {
        let log = Segments::new(segments::list(self.path()).unwrap());
        verify_against(log, &Against { key, known: vec![], part: false })
    }
    fn sealed(&self) -> usize {
        sealed_in(self.path()).unwrap().len()
    }
}

const SMALL: SegmentSettings =
    SegmentSettings { bytes: 4096, age: Duration::from_secs(3600), compress: false, retention: None };

const TINY: SegmentSettings = SegmentSettings { bytes: 1200, ..SMALL };

#[test]
fn full_segments_are_sealed_and_the_log_goes_on() {
    let place = Place::new();
    place.write(SMALL, 40);
    assert!(place.sealed() > 3, "{}", place.sealed());
    let verified = place.verify().unwrap();
    assert_eq!((verified.records, verified.segments), (40, place.sealed() as u64 + 1));
    for (_, path) in sealed_in(place.path()).unwrap() {
        assert!(fs::metadata(path).unwrap().len() < 4096 + 4096);
    }
    place.write(SMALL, 40);
    assert_eq!(place.verify().unwrap().records, 80);
    // Each segment of a log is evidence by itself.
    for path in segments::list(place.path()).unwrap() {
        let against = Against { key: place.first_key, known: vec![], part: true };
        verify_against(segments::open(&path).unwrap(), &against).unwrap();
    }
}

#[test]
fn an_old_segment_is_sealed_but_an_empty_one_is_not() {
    let place = Place::new();
    let large = SegmentSettings { bytes: 1 << 30, ..SMALL };
    place.write(large, 3);
    place.hands.forward(Duration::from_secs(3600));
    place.write(large, 1);
    assert_eq!(place.sealed(), 1);
    place.hands.forward(Duration::from_secs(7200));
    // What was written above is old, then nothing is written.
    place.write(large, 0);
    assert_eq!(place.sealed(), 2);
    place.hands.forward(Duration::from_secs(7200));
    place.write(large, 0);
    assert_eq!(place.sealed(), 2);
    assert_eq!(place.verify().unwrap().records, 4);
}

#[test]
fn sealed_segments_are_compressed_and_verify_all_the_same() {
    let place = Place::new();
    place.write(SMALL, 30);
    place.write(SegmentSettings { compress: true, bytes: 1 << 30, ..SMALL }, 1);
    let plain = || {
        let paths = sealed_in(place.path()).unwrap().into_iter();
        paths.filter(|(_, path)| path.extension().is_some_and(|extension| extension != "gz")).count()
    };
    let deadline = Instant::now() + Duration::from_secs(10);
    while plain() > 0 && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(plain(), 0);
    assert_eq!(place.verify().unwrap().records, 31);
}

#[test]
fn old_segments_are_removed_and_the_log_says_so_first() {
    let place = Place::new();
    let keeping = SegmentSettings { retention: Some(Duration::from_secs(30 * 86_400)), ..SMALL };
    place.write(keeping, 20);
    let before = place.sealed();
    place.hands.forward(Duration::from_secs(29 * 86_400));
    place.write(keeping, 20);
    assert!(place.sealed() > before);
    place.hands.forward(Duration::from_secs(2 * 86_400));
    place.write(keeping, 1);
    let kept = place.sealed();
    assert!(kept < place.sealed() + before && kept > 0);
    let verified = place.verify().unwrap();
    let (first, _) = sealed_in(place.path()).unwrap().swap_remove(0);
    assert_eq!(verified.header.chain.size, first);
    assert!(first > 0);
    // Whoever removes one more is found out.
    fs::remove_file(sealed_in(place.path()).unwrap().swap_remove(0).1).unwrap();
    assert!(place.verify().is_err());
}

#[test]
fn a_key_hands_over_to_the_next_and_is_gone() {
    let place = Place::new();
    let log = place.open(SMALL).unwrap();
    log.submit(samples().swap_remove(0)).0.blocking_recv().unwrap().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    assert_eq!(runtime.block_on(log.change_key()), Ok(false));
    let old = fs::read(place.path().join(keys::SIGNING_KEY_FILE)).unwrap();
    let second = keys::prepare_next(place.path()).unwrap();
    assert_eq!(keys::prepare_next(place.path()).unwrap(), second, "one that waits stays");
    assert_eq!(runtime.block_on(log.change_key()), Ok(true));
    log.submit(samples().swap_remove(1)).0.blocking_recv().unwrap().unwrap();
    drop(log);
    assert_eq!(keys::public_key(&place.path().join(keys::PUBLIC_KEY_FILE)), Ok(second));
    for entry in fs::read_dir(place.path()).unwrap() {
        assert_ne!(fs::read(entry.unwrap().path()).unwrap(), old, "the old key is still there");
    }
    let verified = place.verify().unwrap();
    assert_eq!((verified.key, verified.records), (second, 3));
    // The next start changes keys, too.
    let third = keys::prepare_next(place.path()).unwrap();
    place.write(SMALL, 1);
    assert_eq!(place.verify().unwrap().key, third);
    assert!(place.verify_with(second).is_err());
}

/// A crash between any two steps of sealing a segment, or of changing the key, is put right at the next start.
#[test]
fn what_a_crash_left_half_done_is_finished() {
    let place = Place::new();
    place.write(SegmentSettings { bytes: 1 << 30, ..SMALL }, 5);
    let log = place.path().join(LOG_FILE);
    // A next segment was written, and nothing renamed.
    fs::write(log.with_extension("jsonl.next"), "half a header").unwrap();
    place.write(TINY, 1);
    assert_eq!(place.verify().unwrap().records, 6);
    // The new one is sealed, too, where its checkpoint came before the end: on a machine that is slow.
    assert!((1..=2).contains(&place.sealed()), "{}", place.sealed());
    // The old one was renamed, the new one not.
    fs::rename(&log, log.with_extension("jsonl.next")).unwrap();
    place.write(TINY, 1);
    assert_eq!(place.verify().unwrap().records, 7);
    // The segment of the new key was begun, and the keys' files not yet exchanged.
    let files = [keys::SIGNING_KEY_FILE, keys::PUBLIC_KEY_FILE].map(|name| place.path().join(name));
    let before = files.each_ref().map(|file| fs::read(file).unwrap());
    let second = keys::prepare_next(place.path()).unwrap();
    let next =
        [keys::SIGNING_KEY_FILE, keys::PUBLIC_KEY_FILE].map(|name| place.path().join(format!("{name}.next")));
    let waiting = next.each_ref().map(|file| fs::read(file).unwrap());
    place.write(TINY, 0);
    for (file, content) in files.iter().chain(&next).zip(before.iter().chain(&waiting)) {
        let _ = fs::remove_file(file);
        fs::write(file, content).unwrap();
        fs::set_permissions(file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    }
    place.write(TINY, 1);
    let verified = place.verify().unwrap();
    assert_eq!((verified.key, verified.records), (second, 9));
}

#[test]
fn a_missing_newest_segment_is_not_taken_for_a_new_log() {
    let place = Place::new();
    place.write(TINY, 20);
    fs::remove_file(place.path().join(LOG_FILE)).unwrap();
    let Err(fault) = place.open(SMALL) else { panic!("it opened") };
    assert!(fault.message.contains("it is missing, though older segments"), "{fault}");
}

#[test]
fn who_reads_while_it_is_written_misses_nothing() {
    let place = Place::new();
    let small = SegmentSettings { bytes: 300_000, compress: true, ..SMALL };
    let log = place.open(small).unwrap();
    let (durable, ended) = (AtomicU64::new(0), AtomicBool::new(false));
    let read = || {
        let before = durable.load(Ordering::Acquire);
        let mut next = 0;
        let whole = records(Segments::of(place.path()).unwrap(), |_, record| {
            if let Event::LogInFailed { .. } = record.event {
                assert_eq!(record.connection.number, next);
                next += 1;
            }
            true
        });
        assert!(whole.is_ok(), "{whole:?}");
        assert!(next >= before, "{next} of {before}");
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0..200 {
                let mut record = samples().swap_remove(3);
                record.connection = record.connection.changed(|connection| connection.number = number);
                // Of more pages than one, so that it is seen in parts.
                record.event = Event::LogInFailed { reason: "x".repeat(60_000) };
                log.submit(record).0.blocking_recv().unwrap().unwrap();
                durable.store(number + 1, Ordering::Release);
            }
            ended.store(true, Ordering::Release);
        });
        while !ended.load(Ordering::Acquire) {
            read();
        }
    });
    read();
    assert_eq!(durable.into_inner(), 200);
    assert!(place.sealed() > 20, "{}", place.sealed());
}

//! The journal against power failures: what the disk keeps of the log's file after one is any part of what was written since it was last
//! made durable; of the journal, what was made durable and any part of what was being written.

use super::super::disk::FileDisk;
use super::super::journal::{JOURNAL_FILE, Journal};
use super::*;
use std::fs::{File, OpenOptions};

/// Numbers that look random and are the same each time (`xorshift64`).
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }
}

const HEADER: &[u8] = b"the first line\n";

fn open(folder: &Path) -> File {
    OpenOptions::new().read(true).write(true).open(folder.join(LOG_FILE)).unwrap()
}

fn disk(folder: &Path, cached: bool) -> FileDisk {
    fs::write(folder.join(LOG_FILE), HEADER).unwrap();
    let file = open(folder);
    file.sync_all().unwrap();
    let mut journal = Journal::open(folder, &file).unwrap();
    if cached {
        journal.stay_in_the_cache(folder);
    }
    FileDisk::new(file, folder.join(LOG_FILE), HEADER.len() as u64, journal).unwrap()
}

/// What a power failure may leave: at least `durable` bytes of the log's file, and of what came after them some, or zeros; the journal
/// as it was, or in part as it `becomes`.
struct Failure {
    log: Vec<u8>,
    journal: Vec<u8>,
}

fn failure(dice: &mut Dice, durable: usize, log: &[u8], journal: &[u8], becomes: &[u8]) -> Failure {
    let kept = durable + dice.below(log.len() - durable + 1);
    let mut left = log[..kept].to_vec();
    if kept > durable && dice.below(3) == 0 {
        let from = durable + dice.below(kept - durable);
        left[from..].fill(0);
    }
    let torn = dice.below(journal.len() + 1);
    let mut mixed = journal.to_vec();
    mixed[..torn].copy_from_slice(&becomes[..torn]);
    Failure { log: left, journal: mixed }
}

#[test]
fn what_was_synced_comes_back_after_a_power_failure() {
    for seed in 1..20u64 {
        let mut dice = Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let (live, after) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut disk = disk(live.path(), seed % 2 == 0);
        let read = |name: &str| fs::read(live.path().join(name)).unwrap();
        let mut written = HEADER.to_vec();
        for group in 0..40u8 {
            let before = read(JOURNAL_FILE);
            let synced = written.len();
            let length = match dice.below(12) {
                0 => 600 << 10,
                1 => 200 << 10,
                _ => 1 + dice.below(3000),
            };
            let mut bytes = vec![b'a' + group % 26; length];
            bytes.push(b'\n');
            let durable = disk.settled();
            disk.append(synced as u64, &bytes).unwrap();
            written.extend_from_slice(&bytes);
            // While it is being made durable.
            let during = read(LOG_FILE);
            disk.sync().unwrap();
            let now = read(JOURNAL_FILE);
            assert_eq!(now.len(), before.len(), "its size is fixed");
            let (told, durable, left) = if dice.below(2) == 0 {
                (synced, durable, failure(&mut dice, durable, &during, &before, &now))
            } else {
                let durable = disk.settled();
                (written.len(), durable, failure(&mut dice, durable, &during, &now, &now))
            };
            fs::write(after.path().join(LOG_FILE), &left.log).unwrap();
            fs::write(after.path().join(JOURNAL_FILE), &left.journal).unwrap();
            drop(Journal::open(after.path(), &open(after.path())).unwrap());
            let recovered = fs::read(after.path().join(LOG_FILE)).unwrap();
            assert!(recovered.len() >= told, "seed {seed}: {} of {told}, {durable}", recovered.len());
            assert!(recovered[..told] == written[..told], "seed {seed}: other bytes");
            // Some groups end otherwise than they began.
            if dice.below(6) == 0 {
                disk.cut(synced as u64).unwrap();
                written.truncate(synced);
                assert!(read(JOURNAL_FILE).iter().all(|byte| *byte == 0), "what was cut could come back");
            }
        }
    }
}

#[test]
fn an_ended_segment_and_a_closed_log_leave_nothing_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut disk = disk(folder.path(), false);
    let journal = || fs::read(folder.path().join(JOURNAL_FILE)).unwrap();
    let empty = || journal().iter().all(|byte| *byte == 0);
    disk.append(HEADER.len() as u64, b"a record\n").unwrap();
    disk.sync().unwrap();
    assert!(!empty());
    // Entries are put back into the segment that they are of, and into no other.
    let kept = journal();
    fs::write(folder.path().join("other"), b"another first line\n").unwrap();
    let other = OpenOptions::new().read(true).write(true).open(folder.path().join("other")).unwrap();
    let away = tempfile::tempdir().unwrap();
    fs::write(away.path().join(JOURNAL_FILE), &kept).unwrap();
    drop(Journal::open(away.path(), &other).unwrap());
    assert_eq!(fs::read(folder.path().join("other")).unwrap(), b"another first line\n");
    disk.next(0, b"the next segment\n").unwrap();
    assert!(empty());
    disk.append(17, b"its record\n").unwrap();
    disk.sync().unwrap();
    assert!(!empty());
    assert_eq!(fs::metadata(folder.path().join(JOURNAL_FILE)).unwrap().mode() & 0o777, 0o600);
    drop(disk);
    assert!(empty());
}

#[test]
fn a_log_that_lost_lines_of_the_journal_is_whole_when_it_is_opened() {
    let (live, after) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    keys::ensure_keys(live.path()).unwrap();
    let log = Log::open(LogSettings::new(live.path()), clock()).unwrap();
    let before = fs::read(live.path().join(LOG_FILE)).unwrap();
    for number in 0..5 {
        block_on(log.record(record(number))).unwrap();
    }
    for file in fs::read_dir(live.path()).unwrap().map(|file| file.unwrap()) {
        fs::copy(file.path(), after.path().join(file.file_name())).unwrap();
    }
    drop(log);
    fs::write(after.path().join(LOG_FILE), &before).unwrap();
    let log = Log::open(LogSettings::new(after.path()), clock()).unwrap();
    assert_eq!(log.repair().map_or(0, |repair| repair.cut), 0);
    drop(log);
    let key = keys::signing_key(after.path()).unwrap().verifying_key();
    let log = fs::read(after.path().join(LOG_FILE)).unwrap();
    let verified = match verify(log.as_slice(), &key) {
        Ok(verified) => verified.records,
        Err(_) => panic!("it does not verify"),
    };
    assert!(verified >= 5, "{verified}");
}

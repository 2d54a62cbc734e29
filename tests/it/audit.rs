//! The audit log from outside: many submitters, one writer, a killed process, and the two commands that auditors use.

use crate::audit_log::{pgveil, record, said};
use pgveil::audit::note::base64_of;
use pgveil::audit::verify::{self, Verified};
use pgveil::audit::writer::{Clock, Log, LogSettings, Watch, log_file};
use pgveil::audit::{Ticket, Unrecorded, keys};
use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

fn clock() -> Clock {
    Arc::new(|| SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros() as i64)
}

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    keys::ensure_keys(folder.path()).unwrap();
    folder
}

fn verified(folder: &Path) -> Verified {
    let key = keys::public_key(&folder.join(keys::PUBLIC_KEY_FILE)).unwrap();
    verify::verify(fs::read(log_file(folder)).unwrap().as_slice(), &key).unwrap()
}

#[derive(Default)]
struct Groups(AtomicU64);

impl Watch for Groups {
    fn appended(&self, _records: u64, _took: Duration) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
    fn behind(&self, _records: u64) {}
    fn failed(&self, why: &Unrecorded) {
        panic!("{why}");
    }
    fn works_again(&self) {}
}

#[test]
fn sixty_four_submitters_share_the_disk() {
    const SUBMITTERS: u64 = 64;
    const EACH: u64 = 20;
    let folder = folder();
    let groups = Arc::new(Groups::default());
    let settings = LogSettings { watch: Some(groups.clone()), ..LogSettings::new(folder.path()) };
    let log = Arc::new(Log::open(settings, clock()).unwrap());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    let tickets: BTreeSet<Ticket> = runtime.block_on(async {
        let tasks: Vec<_> = (0..SUBMITTERS)
            .map(|connection| {
                let log = log.clone();
                tokio::spawn(async move {
                    let mut tickets = Vec::new();
                    for statement in 0..EACH {
                        tickets.push(log.record(record("alice", connection + 1, statement)).await.unwrap());
                    }
                    assert!(tickets.is_sorted(), "the order of one submitter is kept");
                    tickets
                })
            })
            .collect();
        let mut all = BTreeSet::new();
        for task in tasks {
            all.extend(task.await.unwrap());
        }
        all
    });
    assert_eq!(tickets.len() as u64, SUBMITTERS * EACH);
    // Its end puts the last checkpoint under it.
    drop(log);
    assert_eq!(verified(folder.path()).records, SUBMITTERS * EACH);
    let groups = groups.0.load(Ordering::Relaxed);
    assert!(groups * 4 < SUBMITTERS * EACH, "{groups} groups for {} records", SUBMITTERS * EACH);
}

/// Not a test of its own: what [`child`] starts. Writes records until it is killed, and says which were acknowledged.
#[test]
fn child_that_writes() {
    let Some(folder) = std::env::var_os("PGVEIL_TEST_AUDIT_CHILD") else { return };
    let log = Arc::new(Log::open(LogSettings::new(folder), clock()).expect("child: the log opens"));
    println!("child open");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    runtime.block_on(async {
        let tasks: Vec<_> = (1..=8)
            .map(|connection| {
                let log = log.clone();
                tokio::spawn(async move {
                    for statement in 0.. {
                        let Ticket(place) = log.record(record("child", connection, statement)).await.unwrap();
                        // One write for the whole line: the parent must not take half of one for another.
                        let line = format!("child acknowledged {place} {connection} {statement}\n");
                        std::io::stdout().write_all(line.as_bytes()).unwrap();
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
    });
}

fn child(folder: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "audit::child_that_writes", "--nocapture", "--test-threads=1"])
        .env("PGVEIL_TEST_AUDIT_CHILD", folder)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

#[test]
fn a_killed_process_loses_nothing_that_it_acknowledged() {
    let folder = folder();
    let mut acknowledged = BTreeSet::new();
    // Delays in milliseconds from a fixed seed, so that a failure comes again.
    let mut seed: u64 = 0x5eed;
    for _ in 0..8 {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let mut child = child(folder.path());
        let mut said = BufReader::new(child.stdout.take().unwrap()).lines().map(|line| line.unwrap());
        said.by_ref().find(|line| line.ends_with("child open")).expect("the child opens the log");
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| said.collect::<Vec<String>>());
            std::thread::sleep(Duration::from_millis(20 + (seed >> 33) % 130));
            child.kill().unwrap();
            child.wait().unwrap();
            for line in reader.join().unwrap() {
                let numbers: Vec<u64> = line
                    .strip_prefix("child acknowledged ")
                    .into_iter()
                    .flat_map(|numbers| numbers.split(' ').map(|number| number.parse().unwrap()))
                    .collect();
                if let [place, connection, statement] = numbers[..] {
                    acknowledged.insert((place, connection, statement));
                }
            }
        });
    }
    drop(Log::open(LogSettings::new(folder.path()), clock()).unwrap());
    verified(folder.path());
    assert!(acknowledged.len() > 20, "{} acknowledged", acknowledged.len());
    let log = fs::read_to_string(log_file(folder.path())).unwrap();
    let lines: Vec<&str> = log.lines().collect();
    for (place, connection, statement) in acknowledged {
        let line = lines[place as usize];
        assert!(line.contains(&format!("\"connection\":{connection},")), "{place}: {line}");
        assert!(line.contains(&format!("\"statement\":{statement},")), "{place}: {line}");
    }
}

#[test]
fn a_second_process_is_refused_until_the_first_is_gone() {
    let folder = folder();
    let mut child = child(folder.path());
    let mut said = BufReader::new(child.stdout.take().unwrap()).lines().map(|line| line.unwrap());
    said.by_ref().find(|line| line.ends_with("child open")).expect("the child opens the log");
    // Keeps the pipe empty, so that the child writes on.
    let reader = std::thread::spawn(|| said.count());
    let fault = Log::open(LogSettings::new(folder.path()), clock()).map(drop).unwrap_err();
    assert!(fault.message.contains("another process writes the audit log"), "{fault}");
    assert!(fault.hint.is_some());
    child.kill().unwrap();
    child.wait().unwrap();
    reader.join().unwrap();
    Log::open(LogSettings::new(folder.path()), clock()).unwrap();
}

/// A log with two statements of alice and one of bob.
fn small_log() -> tempfile::TempDir {
    let folder = folder();
    let log = Log::open(LogSettings::new(folder.path()), Arc::new(|| 1_764_072_000_000_000)).unwrap();
    for record in [record("alice", 1, 1), record("bob", 2, 1), record("alice", 1, 2)] {
        drop(log.submit(record));
    }
    drop(log);
    folder
}

#[test]
fn verify_says_what_it_verified_or_what_is_wrong_and_where() {
    let folder = small_log();
    let path = folder.path().to_str().unwrap();
    let key = format!("{path}/audit.pub");
    let (out, err, code) = said(&pgveil(&["audit", "verify", "--public-key", &key, path]));
    assert_eq!((code, err.as_str()), (0, ""));
    let checkpoint = verified(folder.path()).checkpoint;
    let size = checkpoint.chain.size;
    let root = format!("root             {} (over {size} lines)", base64_of(&checkpoint.root));
    for line in ["records          3", "segments         1", &root] {
        assert!(out.lines().any(|found| found == line), "{out}");
    }
    assert!(out.contains("last checkpoint  2025-11-25 12:00:00.000000 UTC"), "{out}");

    let file = log_file(folder.path());
    let log = fs::read_to_string(&file).unwrap();
    let altered = log.replacen("\"user\":\"bob\"", "\"user\":\"eve\"", 1);
    let place = log.find("\"user\":\"bob\"").unwrap();
    let (line, start) = (log[..place].lines().count(), log[..place].rfind('\n').unwrap() + 1);
    fs::write(&file, altered).unwrap();
    let file = file.to_str().unwrap();
    let (out, err, code) = said(&pgveil(&["audit", "verify", "--public-key", &key, file]));
    assert_eq!((out.as_str(), code), ("", 1));
    let message = format!("error: {file}: line {line} (byte {start}) was altered\nhint: The first ");
    assert!(err.starts_with(&message), "{err}");
    let (out, _, code) = said(&pgveil(&["audit", "verify", "--json", "--public-key", &key, file]));
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &json["flaw"], &json["offset"]), (1, &"altered".into(), &start.into()));

    let (_, err, code) = said(&pgveil(&["audit", "verify", "--public-key", "/nowhere", path]));
    assert_eq!(code, 1);
    assert!(err.starts_with("error: could not read /nowhere: "), "{err}");
}

#[test]
fn show_chooses_records_and_prints_them_both_ways() {
    let folder = small_log();
    let path = folder.path().to_str().unwrap();
    let (out, err, code) = said(&pgveil(&["audit", "show", path]));
    assert_eq!((code, err.as_str()), (0, ""));
    assert_eq!(out.matches("read public.customers.email mask:partial (support-desk)").count(), 3, "{out}");
    assert!(out.contains("time (UTC)") && out.contains("bob"), "{out}");

    let log = fs::read_to_string(log_file(folder.path())).unwrap();
    let records: Vec<&str> = log.lines().filter(|line| line.starts_with("{\"sequence\"")).collect();
    let chosen = |arguments: &[&str]| {
        let (out, err, code) = said(&pgveil(&[&["audit", "show", "--json", path], arguments].concat()));
        assert_eq!((code, err.as_str()), (0, ""));
        out.lines().map(|line| records.iter().position(|record| *record == line).unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(chosen(&[]), [0, 1, 2]);
    assert_eq!(chosen(&["--user", "alice"]), [0, 2]);
    assert_eq!(chosen(&["--label", "pii.*", "--statement", "1"]), [0, 1]);
    assert_eq!(chosen(&["--label", "payment.card"]), [] as [usize; 0]);
    assert_eq!(chosen(&["--since", "2025-11-25T12:02"]), [2]);
    assert_eq!(chosen(&["--until", "2025-11-25T13:02:00+01:00"]), [0, 1]);
}

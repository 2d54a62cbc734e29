//! What evidence costs.
//!
//! Question: how long does a statement wait for its record, and how many records a second can one proxy keep?
//! Budget: `append/1` is one `fdatasync` of a file that is overwritten (`disk/overwrite`) and little else (our own share, `spell`, stays under
//! 5 µs), which is less than that of one that grows (`disk/grow`: what it took before there was a journal); and a group's time
//! grows far slower than its size: 256 records in less than 8 times the time of one. Verifying takes under 30 µs a record
//! with a checkpoint for each 64, so that a day of 10 million records is checked in minutes.
//!
//! Then, side by side, what a statement waits for with the log off, buffered (in memory: all but the disk) and durable, while the
//! database does its own work: a table of p50, p99 and statements a second of 1, 4 and 8 clients, and a `goal` line for what evidence adds
//! at p50 and takes of the throughput; and how long a million records take to verify. `cargo bench --bench audit -- evidence` does these
//! alone, with `--quick` a moment long.
//!
//! How to read: `append/n` is the time of one group of `n` on the file system under the target directory; divide by `n` for a
//! record's share. A tmpfs would show our share alone. Compare only runs on one machine, side by side.

// A bench may unwrap: a panic is how it fails.
#![allow(clippy::unwrap_used)]

#[path = "goal/mod.rs"]
mod goal;

use criterion::{BatchSize, Criterion, Throughput, criterion_group};
use pgveil::audit::canonical;
use pgveil::audit::chain::{Chain, Hash};
use pgveil::audit::segments::{self, Segments};
use pgveil::audit::writer::{Log, LogSettings, log_file};
use pgveil::audit::{AuditRecord, Connection, Event, Intent, Said, UsedColumn, keys, verify};
use std::hint::black_box;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

fn record() -> AuditRecord {
    let used = |column: &str| UsedColumn {
        column: column.to_owned(),
        label: "pii.email".to_owned(),
        action: "read".to_owned(),
        rule: "support-desk".to_owned(),
        disclosure: "mask:partial".to_owned(),
    };
    AuditRecord {
        time: 1_764_072_000_000_000,
        connection: Said::from(Connection {
            number: 17,
            user: "alice".to_owned(),
            database: "shop".to_owned(),
            application: "support desk".to_owned(),
            address: "10.0.0.7:5123".to_owned(),
        }),
        event: Event::Intent {
            statement: 4,
            intent: Said::from(Intent {
                kind: "select".to_owned(),
                shape: "select id, email, phone from public.customers where id = $1 order by id limit $2"
                    .to_owned(),
                purpose: Some("support".to_owned()),
                uses: vec![used("public.customers.email"), used("public.customers.phone")],
            }),
        },
    }
}

fn open() -> (tempfile::TempDir, Log) {
    open_in(Path::new(env!("CARGO_TARGET_TMPDIR")))
}

fn open_in(place: &Path) -> (tempfile::TempDir, Log) {
    let folder = tempfile::tempdir_in(place).unwrap();
    keys::ensure_keys(folder.path()).unwrap();
    let clock =
        Arc::new(|| SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_micros() as i64));
    let log = Log::open(LogSettings::new(folder.path()), clock).unwrap();
    (folder, log)
}

fn spell(criterion: &mut Criterion) {
    let (record, chain) = (record(), Chain { size: 1000, head: Hash([7; 32]) });
    let mut line = Vec::new();
    criterion.bench_function("audit/spell", |bench| {
        bench.iter(|| {
            line.clear();
            canonical::write_record(chain, black_box(&record), &mut line);
            chain.then(&line)
        });
    });
}

/// What the disk takes for a line's bytes, at the end of a file that grows and within one that is there already.
fn disk(criterion: &mut Criterion) {
    let line = [b'x'; 500];
    let mut group = criterion.benchmark_group("audit/disk");
    group.sample_size(20);
    for (name, there) in [("grow", 0), ("overwrite", 512 << 10)] {
        let mut file = tempfile::tempfile_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        file.write_all(&vec![0; there]).unwrap();
        file.sync_all().unwrap();
        let mut at = 0;
        group.bench_function(name, |bench| {
            bench.iter(|| {
                file.write_all_at(&line, at).unwrap();
                file.sync_data().unwrap();
                at += line.len() as u64;
                if there > 0 && at + 500 > there as u64 {
                    at = 0;
                }
            });
        });
    }
    group.finish();
}

fn append(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (_folder, log) = open();
    let mut group = criterion.benchmark_group("audit/append");
    group.sample_size(20);
    for records in [1, 16, 256] {
        group.throughput(Throughput::Elements(records));
        group.bench_function(records.to_string(), |bench| {
            let receipts = || (0..records).map(|_| record()).collect::<Vec<_>>();
            let submit = |records: Vec<AuditRecord>| {
                let receipts: Vec<_> = records.into_iter().map(|record| log.submit(record)).collect();
                runtime.block_on(async {
                    for receipt in receipts {
                        receipt.await.unwrap();
                    }
                });
            };
            bench.iter_batched(receipts, submit, BatchSize::SmallInput);
        });
    }
    group.finish();
}

fn verification(criterion: &mut Criterion) {
    const GROUPS: u64 = 16;
    const GROUP: u64 = 64;
    let (folder, log) = open();
    for _ in 0..GROUPS {
        let receipts: Vec<_> = (0..GROUP).map(|_| log.submit(record())).collect();
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
            for receipt in receipts {
                receipt.await.unwrap();
            }
        });
    }
    drop(log);
    let bytes = std::fs::read(log_file(folder.path())).unwrap();
    let key = keys::public_key(&folder.path().join(keys::PUBLIC_KEY_FILE)).unwrap();
    let mut group = criterion.benchmark_group("audit/verify");
    group.throughput(Throughput::Elements(GROUPS * GROUP));
    group.bench_function("1024 records", |bench| {
        bench.iter(|| verify::verify(black_box(bytes.as_slice()), &key).unwrap());
    });
    group.finish();
}

/// What follows a statement's reply, which nobody waits for.
fn outcome() -> AuditRecord {
    let event = Event::Outcome {
        statement: 4,
        rows: 1,
        cells: vec![("pii.email".into(), "mask:partial".into(), 1)],
        comparisons: 0,
        sqlstate: "00000".into(),
        duration: Duration::from_micros(700),
        persons: None,
    };
    AuditRecord { event, ..record() }
}

/// What the database does with a statement meanwhile: it waits, as for a disk of its own, and takes no processor from us.
const OWN_WORK: Duration = Duration::from_micros(500);

/// Latencies in microseconds, in order, and statements a second.
struct Seen {
    latencies: Vec<f64>,
    per_second: f64,
}

impl Seen {
    fn percentile(&self, share: usize) -> f64 {
        self.latencies[(self.latencies.len() * share / 100).min(self.latencies.len() - 1)]
    }
}

/// So many clients at once: an intent goes to the log as the statement goes to the database, and the reply waits for both.
fn statements(log: Option<&Log>, clients: usize, length: Duration) -> Seen {
    let stop = AtomicBool::new(false);
    let began = Instant::now();
    let client = || {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut latencies = vec![];
        while !stop.load(Ordering::Relaxed) {
            let sent = Instant::now();
            let receipt = log.map(|log| log.submit(record()));
            std::thread::sleep(OWN_WORK);
            if let Some(receipt) = receipt {
                runtime.block_on(receipt).unwrap();
            }
            latencies.push(sent.elapsed().as_nanos() as f64 / 1e3);
            if let Some(log) = log {
                log.note(outcome());
            }
        }
        latencies
    };
    let mut latencies: Vec<f64> = std::thread::scope(|scope| {
        let all: Vec<_> = (0..clients).map(|_| scope.spawn(client)).collect();
        std::thread::sleep(length);
        stop.store(true, Ordering::Relaxed);
        all.into_iter().flat_map(|one| one.join().unwrap()).collect()
    });
    let per_second = latencies.len() as f64 / began.elapsed().as_secs_f64();
    latencies.sort_by(f64::total_cmp);
    Seen { latencies, per_second }
}

/// What one takes on the durable log's disk, of a file that is there already.
fn fdatasync_us() -> f64 {
    let file = tempfile::tempfile_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    file.write_all_at(&[0; 64 << 10], 0).unwrap();
    file.sync_all().unwrap();
    let one = |at: u64| {
        let began = Instant::now();
        file.write_all_at(&[b'x'; 500], at * 500).unwrap();
        file.sync_data().unwrap();
        began.elapsed().as_nanos() as f64 / 1e3
    };
    median((0..100).map(one).collect())
}

/// The middle one.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Off, buffered and durable in turn, so that a slow minute is everybody's; ratios and differences are taken within a round.
fn evidence(quick: bool) {
    let (rounds, length) = if quick { (1, Duration::from_millis(300)) } else { (7, Duration::from_secs(2)) };
    let memory = Path::new("/dev/shm");
    let memory = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    let ((_kept, buffered), (_also, durable)) = (open_in(&memory), open());
    println!("\none fdatasync, overwriting: p50 {:.0} µs", fdatasync_us());
    println!("\n| clients | log | p50 | p99 | statements/s |\n|---|---|---|---|---|");
    for clients in [1, 4, 8] {
        let ways = [("off", None), ("buffered", Some(&buffered)), ("durable", Some(&durable))];
        let mut seen: [Vec<Seen>; 3] = [vec![], vec![], vec![]];
        for round in 0..rounds {
            for turn in 0..ways.len() {
                let way = (round + turn) % ways.len();
                seen[way].push(statements(ways[way].1, clients, length));
            }
        }
        for ((name, _), seen) in ways.iter().zip(&seen) {
            let of = |figure: &dyn Fn(&Seen) -> f64| median(seen.iter().map(figure).collect());
            println!(
                "| {clients} | {name} | {:.0} µs | {:.0} µs | {:.0} |",
                of(&|seen| seen.percentile(50)),
                of(&|seen| seen.percentile(99)),
                of(&|seen| seen.per_second)
            );
        }
        for (way, (name, _)) in ways.iter().enumerate().skip(1) {
            let pairs = || seen[way].iter().zip(&seen[0]);
            let added = pairs().map(|(one, off)| one.percentile(50) - off.percentile(50)).collect();
            let kept = pairs().map(|(one, off)| one.per_second / off.per_second).collect();
            goal::at_most(&format!("evidence/{clients}/{name}/added-p50-us"), median(added), ADDED_P50_US);
            goal::at_least(&format!("evidence/{clients}/{name}/throughput-vs-off"), median(kept), THROUGHPUT);
        }
    }
}

/// "Near none", beside 500 µs of the database's own.
const ADDED_P50_US: f64 = 25.0;
const THROUGHPUT: f64 = 0.95;
/// For a million records.
const VERIFY_SECONDS: f64 = 10.0;

/// From the folder, as `pgveil audit verify` reads it: a million records, or as long as that many would take.
fn million(quick: bool) {
    const GROUP: u64 = 1_000;
    let records = if quick { 20_000 } else { 1_000_000 };
    let (folder, log) = open();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for _ in 0..records / GROUP {
        let receipts: Vec<_> = (0..GROUP).map(|_| log.submit(record())).collect();
        runtime.block_on(async {
            for receipt in receipts {
                receipt.await.unwrap();
            }
        });
    }
    drop(log);
    let key = keys::public_key(&folder.path().join(keys::PUBLIC_KEY_FILE)).unwrap();
    let paths = segments::list(folder.path()).unwrap();
    let bytes: u64 = paths.iter().map(|path| path.metadata().unwrap().len()).sum();
    let began = Instant::now();
    let verified = verify::verify(Segments::new(paths), &key).unwrap();
    let seconds = began.elapsed().as_secs_f64();
    assert!(verified.records >= records);
    println!(
        "\n{} records, {:.0} MB: {:.0} records a second",
        verified.records,
        bytes as f64 / 1e6,
        verified.records as f64 / seconds
    );
    let whole = seconds * 1e6 / verified.records as f64;
    goal::at_most("verify/1000000-records-seconds", whole, VERIFY_SECONDS);
}

criterion_group!(benches, spell, disk, append, verification);

fn main() {
    let given = |word: &str| std::env::args().any(|argument| argument == word);
    if !given("evidence") {
        benches();
        Criterion::default().configure_from_args().final_summary();
    }
    evidence(given("--quick"));
    million(given("--quick"));
}

//! What evidence costs.
//!
//! Question: how long does a statement wait for its record, and how many records a second can one proxy keep?
//! Budget: `append/1` is one `fdatasync` of a file that is overwritten (`disk/overwrite`) and little else (our own share, `spell`, stays under
//! 5 µs), which is less than that of one that grows (`disk/grow`: what it took before there was a journal); and a group's time
//! grows far slower than its size: 256 records in less than 8 times the time of one. Verifying takes under 30 µs a record
//! with a checkpoint for each 64, so that a day of 10 million records is checked in minutes.
//! How to read: `append/n` is the time of one group of `n` on the file system under the target directory; divide by `n` for a
//! record's share. A tmpfs would show our share alone. Compare only runs on one machine, side by side.

// A bench may unwrap: a panic is how it fails.
#![allow(clippy::unwrap_used)]

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use pgveil::audit::canonical;
use pgveil::audit::chain::{Chain, Hash};
use pgveil::audit::writer::{Log, LogSettings, log_file};
use pgveil::audit::{AuditRecord, Event, UsedColumn, keys, verify};
use std::hint::black_box;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

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
        connection: 17,
        user: "alice".to_owned(),
        database: "shop".to_owned(),
        application: "support desk".to_owned(),
        address: "10.0.0.7:5123".to_owned(),
        event: Event::Intent {
            statement: 4,
            kind: "select".to_owned(),
            shape: "select id, email, phone from public.customers where id = $1 order by id limit $2"
                .to_owned(),
            purpose: Some("support".to_owned()),
            uses: [used("public.customers.email"), used("public.customers.phone")].into(),
        },
    }
}

fn open() -> (tempfile::TempDir, Log) {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
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

criterion_group!(benches, spell, disk, append, verification);
criterion_main!(benches);

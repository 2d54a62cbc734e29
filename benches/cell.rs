//! What does one sealed cell cost, alone and in a batch?
//!
//! Question: how far are our batches from the plain `aes-siv` crate, which sets nothing aside between cells and knows no
//! batches? Both run here, side by side in one process, over the same plaintexts with the same associated data.
//! Budget: `ours` takes no more than 1.15 times the crate's time, at any size and at any batch of 4 or more; a batch of one
//! may take 250 ns more, for the key schedule that the crate is given ready-made. `ours-randomized` computes one more
//! associated datum, the nonce, and may take 100 ns a cell more than `ours`.
//! How to read: `ours` against `crate` of the same group and line; criterion's `thrpt` is cells a second. Sizes are bytes of
//! plaintext in batches of 64, batches are of 32-byte cells. Only ratios within one run mean anything.

// A bench may unwrap: a panic is how it fails.
#![allow(clippy::unwrap_used)]

use aes_siv::KeyInit;
use aes_siv::siv::Aes256Siv;
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use pgveil::crypto::keyring::Keyring;
use pgveil::crypto::{CellCipher, Cells, Ciphers, Mode, Random};
use std::hint::black_box;
use std::time::Duration;

/// Cheap bytes, different each time: what the system's generator costs is not the question.
struct Counter(u64);

impl Random for Counter {
    fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            self.0 = self.0.wrapping_add(1);
            chunk.copy_from_slice(&self.0.to_le_bytes()[..chunk.len()]);
        }
    }
}

fn ciphers() -> Ciphers {
    let mut keyring = Keyring::create();
    keyring.ensure_key("default", 0, &mut Counter(1));
    let domains = [("email", Mode::Deterministic), ("card", Mode::Randomized)];
    for (name, _) in domains {
        keyring.ensure_domain(name).unwrap();
    }
    keyring.ciphers(domains.map(|(name, mode)| (name, mode, "default"))).unwrap()
}

fn plaintexts(size: usize, batch: usize) -> Cells {
    let mut cells = Cells::new();
    for cell in 0..batch {
        cells.push_with(|bytes| bytes.extend((0..size).map(|at| (at * 7 + cell) as u8)));
    }
    cells
}

fn seal(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    parameter: usize,
    cipher: &CellCipher,
    plain: &Cells,
) {
    let (mut out, mut random) = (Cells::new(), Counter(0));
    group.bench_with_input(BenchmarkId::new(name, parameter), plain, |bench, plain| {
        bench.iter(|| {
            out.clear();
            cipher.seal(cipher.current(), black_box(plain), &mut random, &mut out).unwrap();
        });
    });
}

fn seal_by_crate(group: &mut BenchmarkGroup<'_, WallTime>, parameter: usize, plain: &Cells) {
    let (mut siv, header) = (Aes256Siv::new(&[9; 64].into()), [0x11, 0, 1, 0, 1]);
    group.bench_with_input(BenchmarkId::new("crate", parameter), plain, |bench, plain| {
        bench.iter(|| {
            for cell in plain.iter() {
                black_box(siv.encrypt([header], black_box(cell)).unwrap());
            }
        });
    });
}

fn open(group: &mut BenchmarkGroup<'_, WallTime>, parameter: usize, cipher: &CellCipher, plain: &Cells) {
    let (mut sealed, mut out) = (Cells::new(), Cells::new());
    cipher.seal(cipher.current(), plain, &mut Counter(0), &mut sealed).unwrap();
    group.bench_with_input(BenchmarkId::new("ours", parameter), &sealed, |bench, sealed| {
        bench.iter(|| {
            out.clear();
            cipher.open(black_box(sealed), &mut out).unwrap();
        });
    });
}

fn open_by_crate(group: &mut BenchmarkGroup<'_, WallTime>, parameter: usize, plain: &Cells) {
    let (mut siv, header) = (Aes256Siv::new(&[9; 64].into()), [0x11, 0, 1, 0, 1]);
    let sealed: Vec<_> = plain.iter().map(|cell| siv.encrypt([header], cell).unwrap()).collect();
    group.bench_with_input(BenchmarkId::new("crate", parameter), &sealed, |bench, sealed| {
        bench.iter(|| {
            for cell in sealed {
                black_box(siv.decrypt([header], black_box(cell)).unwrap());
            }
        });
    });
}

fn cells(criterion: &mut Criterion) {
    let ciphers = ciphers();
    let (email, card) = (&ciphers.by_domain["email"], &ciphers.by_domain["card"]);
    let sizes = [8, 16, 32, 64, 256, 1024].map(|size| (size, size, 64));
    let batches = [1, 4, 16, 64, 256].map(|batch| (batch, 32, batch));
    for (by, shapes) in [("size", &sizes[..]), ("batch", &batches[..])] {
        let mut group = criterion.benchmark_group(format!("cell/seal/{by}"));
        for &(parameter, size, batch) in shapes {
            let plain = plaintexts(size, batch);
            group.throughput(Throughput::Elements(batch as u64));
            seal(&mut group, "ours", parameter, email, &plain);
            seal(&mut group, "ours-randomized", parameter, card, &plain);
            seal_by_crate(&mut group, parameter, &plain);
        }
        group.finish();
        let mut group = criterion.benchmark_group(format!("cell/open/{by}"));
        for &(parameter, size, batch) in shapes {
            let plain = plaintexts(size, batch);
            group.throughput(Throughput::Elements(batch as u64));
            open(&mut group, parameter, email, &plain);
            open_by_crate(&mut group, parameter, &plain);
        }
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .sample_size(30);
    targets = cells
}
criterion_main!(benches);

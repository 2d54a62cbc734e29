//! What does a row cost that has sealed columns: frames in, frames out?
//!
//! Question: rows of six columns, three of them sealed (two texts and a date), as one read of the socket brings them: how
//! much slower than copying the same frames is opening them, by result format, disclosure and number of rows?
//! Budget: with three cells of about 300 ns a row (`benches/cell.rs`), opening may cost 1.5 µs a row in batches of 100, text
//! format no more than 1.3 times binary, and masks no more than 1.5 times clear. `withheld` opens nothing: what it takes is
//! the rebuilding of the row, and may be no more than 150 ns. When this was written, on a busy machine, binary was at its
//! budget (1.4 to 1.6 µs a row) and text missed both of its own: 1.9 to 2.7 µs, 1.4 to 1.7 times binary.
//! How to read: `thrpt` is rows a second; compare the lines of one group with its `copy`, which is what rows without sealed
//! columns would pay if they were copied at all. Only ratios within one run mean anything.

#![allow(dead_code, unused_imports, clippy::unwrap_used, reason = "shares the tests' shop and its cells")]

#[path = "../tests/it/cell.rs"]
mod cell;
#[path = "../fuzz/src/shop.rs"]
mod golden;

use bytes::BytesMut;
use cell::{ciphers, circumstances, customer, hex, planned, row};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use golden::{Shop, shop};
use pgveil::cell::RowOpener;
use pgveil::crypto::Ciphers;
use pgveil::policy::{Disclosure, Principal};
use pgveil::value::Style;
use pgveil::wire::Frame;
use std::hint::black_box;
use std::time::Duration;

/// Rows as the server sends them, in text (0) or binary (1).
fn frames(shop: &Shop, ciphers: &Ciphers, format: i16, rows: usize) -> Vec<Frame> {
    let one = |number: usize| {
        let email = format!("customer.{number:06}@example.org");
        let sealed = customer(shop, ciphers, [&email, "Maria Schneider", "1974-11-02"]);
        let sealed: Vec<_> = if format == 1 { sealed } else { sealed.iter().map(|cell| hex(cell)).collect() };
        let (id, note) = match format {
            1 => ((number as u64).to_be_bytes().to_vec(), b"prefers to be called in the morning"),
            _ => (number.to_string().into_bytes(), b"prefers to be called in the morning"),
        };
        let cells = [&id, &sealed[0], &note.to_vec(), &sealed[1], &id, &sealed[2]];
        row(&cells.map(|cell| Some(cell.as_slice())))
    };
    (0..rows).map(one).collect()
}

fn opener(shop: &Shop, ciphers: &Ciphers, user: &str, withheld: bool, format: i16) -> RowOpener {
    let plan = planned(shop, user, "SELECT id, email, note, name, id, born FROM customers");
    let mut judgement =
        plan.judge(&shop.policy, &Principal::assumed(user.to_owned()), &circumstances()).unwrap();
    for ruling in judgement.rulings.iter_mut().filter(|_| withheld) {
        ruling.disclosure = Disclosure::withheld();
    }
    RowOpener::new(plan.columns.as_ref().unwrap(), &judgement, &[format], ciphers)
}

fn rows(criterion: &mut Criterion) {
    let shop = shop();
    let (ciphers, style) = (ciphers(&shop), Style::default());
    for (name, format) in [("text", 0), ("binary", 1)] {
        let mut group = criterion.benchmark_group(format!("row/{name}"));
        for count in [1, 100] {
            let frames = frames(&shop, &ciphers, format, count);
            group.throughput(Throughput::Elements(count as u64));
            let mut out = BytesMut::new();
            group.bench_with_input(BenchmarkId::new("copy", count), &frames, |bench, frames| {
                bench.iter(|| {
                    out.clear();
                    frames.iter().for_each(|frame| out.extend_from_slice(black_box(frame.bytes())));
                });
            });
            for (shown, user, withheld) in
                [("clear", "shop", false), ("masked", "alice", false), ("withheld", "shop", true)]
            {
                let mut opener = opener(&shop, &ciphers, user, withheld, format);
                group.bench_with_input(BenchmarkId::new(shown, count), &frames, |bench, frames| {
                    bench.iter(|| {
                        out.clear();
                        opener.rows(black_box(frames), &style, None, &mut out).unwrap()
                    });
                });
            }
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
    targets = rows
}
criterion_main!(benches);

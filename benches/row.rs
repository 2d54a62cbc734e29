//! What does a row cost that has sealed columns: bytes in, bytes out?
//!
//! Question: rows of six columns, three of them sealed (two texts and a date), as one read of the socket brings them: how
//! many a second does one core open, by result format and disclosure, and what would copying the same bytes take?
//! Budget: the goals, whose lines end the run: in batches of 100 rows three million a second in binary and two million in
//! text, and masked rows no slower than 0.95 times clear ones. `withheld` opens nothing: what it takes is the rebuilding.
//! How to read: one line for each format, batch and disclosure: nanoseconds a row, millions of rows a second, and how many
//! times the plain copy of the same bytes (`copy`, what rows without sealed columns would pay if they were copied at all).
//! `cells` is what the cells of such a row take by themselves (`benches/cell.rs`). Only ratios within one run mean anything,
//! and rows a second only on the machine.

#![allow(dead_code, unused_imports, clippy::unwrap_used, reason = "shares the tests' shop and its cells")]

#[path = "../tests/it/cell.rs"]
mod cell;
mod goal;
#[path = "../fuzz/src/shop.rs"]
mod golden;

use bytes::BytesMut;
use cell::{ciphers, circumstances, customer, hex, planned, row};
use golden::{Shop, shop};
use pgveil::cell::{Formats, RowOpener};
use pgveil::crypto::{Cells, Ciphers};
use pgveil::policy::{Disclosure, Principal};
use pgveil::value::Style;
use std::hint::black_box;
use std::sync::Arc;

const COLUMNS: &str = "SELECT id, email, note, name, id, born FROM customers";

/// Rows as the server sends them, in text (0) or binary (1), one after the other.
fn bytes(shop: &Shop, ciphers: &Ciphers, format: i16, rows: usize) -> Vec<u8> {
    let one = |number: usize| {
        let email = format!("customer.{number:06}@example.org");
        let sealed = customer(shop, ciphers, [&email, "Maria Schneider", "1974-11-02"]);
        let sealed: Vec<_> = if format == 1 { sealed } else { sealed.iter().map(|cell| hex(cell)).collect() };
        let (id, note) = match format {
            1 => ((number as u64).to_be_bytes().to_vec(), b"prefers to be called in the morning"),
            _ => (number.to_string().into_bytes(), b"prefers to be called in the morning"),
        };
        let cells = [&id, &sealed[0], &note.to_vec(), &sealed[1], &id, &sealed[2]];
        row(&cells.map(|cell| Some(cell.as_slice()))).bytes().to_vec()
    };
    (0..rows).flat_map(one).collect()
}

fn opener(shop: &Shop, ciphers: &Ciphers, user: &str, withheld: bool, format: i16) -> RowOpener {
    let plan = planned(shop, user, COLUMNS);
    let mut judgement =
        plan.judge(&shop.policy, &Principal::assumed(user.to_owned()), &circumstances()).unwrap();
    for ruling in Arc::make_mut(&mut judgement.rulings).iter_mut().filter(|_| withheld) {
        ruling.disclosure = Disclosure::withheld();
    }
    RowOpener::new(plan.columns.as_ref().unwrap(), &judgement, &Formats::same(&[format]), ciphers)
}

fn opening<'r>(mut opener: RowOpener, rows: &'r [u8], style: &'r Style) -> impl FnMut() + 'r {
    let mut out = BytesMut::new();
    move || {
        out.clear();
        black_box(opener.rows_in(black_box(rows), style, None, &mut out).unwrap());
    }
}

/// The rows' cells by themselves, column by column.
fn cells<'c>(shop: &Shop, ciphers: &'c Ciphers, rows: usize) -> impl FnMut() + 'c {
    let mut columns = [Cells::new(), Cells::new(), Cells::new()];
    for number in 0..rows {
        let email = format!("customer.{number:06}@example.org");
        let sealed = customer(shop, ciphers, [&email, "Maria Schneider", "1974-11-02"]);
        columns.iter_mut().zip(&sealed).for_each(|(column, cell)| column.push(cell));
    }
    // Which domain a column is in is not this bench's to know.
    let cipher = |cells: &Cells| {
        let mut plain = Cells::new();
        ciphers.by_domain.values().find(|cipher| cipher.open(cells, &mut plain).is_ok()).unwrap()
    };
    let ciphers = [cipher(&columns[0]), cipher(&columns[1]), cipher(&columns[2])];
    let mut plain = Cells::new();
    move || {
        for (column, cipher) in columns.iter().zip(ciphers) {
            plain.clear();
            cipher.open(black_box(column), &mut plain).unwrap();
        }
    }
}

fn main() {
    let shop = shop();
    let (ciphers, style) = (ciphers(&shop), Style::default());
    let mut goals = vec![];
    println!("             ns a row |   copy |  cells |  clear   M/s  x copy | masked   M/s | withheld");
    for (name, format, wanted) in [("binary", 1, 3.0), ("text", 0, 2.0)] {
        for count in [1, 10, 100, 400] {
            let rows = bytes(&shop, &ciphers, format, count);
            let mut out = BytesMut::new();
            let costs = goal::side_by_side([
                &mut || {
                    out.clear();
                    out.extend_from_slice(black_box(&rows));
                },
                &mut cells(&shop, &ciphers, count),
                &mut opening(opener(&shop, &ciphers, "shop", false, format), &rows, &style),
                &mut opening(opener(&shop, &ciphers, "alice", false, format), &rows, &style),
                &mut opening(opener(&shop, &ciphers, "shop", true, format), &rows, &style),
            ]);
            let [copy, cells, clear, masked, withheld] = costs.map(|cost| cost / count as f64);
            println!(
                "{name:6} {count:4} by {:4} B | {copy:6.1} | {cells:6.1} | {clear:6.1} {:5.2} {:7.1} | {masked:6.1} {:5.2} | {withheld:6.1}",
                rows.len() / count,
                1000.0 / clear,
                clear / copy,
                1000.0 / masked,
            );
            if count == 100 {
                goals.push((format!("row_{name}_millions_a_second"), 1000.0 / clear, wanted));
                goals.push((format!("row_{name}_masked_of_clear"), clear / masked, 0.95));
            }
        }
    }
    goals.iter().for_each(|(name, measured, wanted)| goal::at_least(name, *measured, *wanted));
}

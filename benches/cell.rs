//! What does one sealed cell cost, alone and in a batch?
//!
//! Question: how far are our batches from the plain `aes-siv` crate, which sets nothing aside between cells and knows no
//! batches? Both run here, side by side in one process, over the same plaintexts with the same associated data, in the
//! default build (so with the zeroising of keys that the product has). And how far are they from what AES itself takes?
//! Budget: the goals, whose lines end the run: against the crate, cells of 32 bytes 12 times as fast in batches of 64 and
//! more, 7 times in batches of 16, 3 times alone; a mix of 8 to 64 bytes 8 times; cells of 1 KB no slower. Seal and open
//! alike, deterministic; randomized cells, which have one more block, are shown beside them.
//! How to read: one line for each shape, nanoseconds a cell. `floor` is what the blocks of such a cell take in the `aes`
//! crate's parallel blocks and nothing else: one CMAC and one CTR block for each 16 bytes. Alone, the floor is three blocks
//! one after the other for 32 bytes (two of CMAC, and CTR after them). Only ratios within one run mean anything.

// A bench may unwrap: a panic is how it fails.
#![allow(clippy::unwrap_used)]

mod goal;

use aes::cipher::{BlockCipherEncrypt, KeyInit};
use aes::{Aes256Enc, Block};
use aes_siv::siv::Aes256Siv;
use pgveil::crypto::keyring::Keyring;
use pgveil::crypto::{CellCipher, Cells, Ciphers, Mode, Random};
use std::hint::black_box;

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

/// So many cells of the lengths that `length` gives.
fn plaintexts(batch: usize, length: impl Fn(usize) -> usize) -> Cells {
    let mut cells = Cells::new();
    for cell in 0..batch {
        cells.reserve(length(cell));
        cells.push_with(|bytes| bytes.extend((0..length(cell)).map(|at| (at * 7 + cell) as u8)));
    }
    cells
}

/// Seal and open by the crate, by us, and by us randomized, and the floor: nanoseconds a cell.
struct Costs {
    by_crate: [f64; 2],
    ours: [f64; 2],
    randomized: [f64; 2],
    floor: f64,
}

fn sealing<'c>(cipher: &'c CellCipher, plain: &'c Cells) -> impl FnMut() + 'c {
    let (mut out, mut random) = (Cells::new(), Counter(0));
    move || {
        out.clear();
        cipher.seal(cipher.current(), black_box(plain), &mut random, &mut out).unwrap();
        black_box(&out);
    }
}

fn opening<'c>(cipher: &'c CellCipher, plain: &Cells) -> impl FnMut() + 'c {
    let (mut sealed, mut out) = (Cells::new(), Cells::new());
    cipher.seal(cipher.current(), plain, &mut Counter(0), &mut sealed).unwrap();
    move || {
        out.clear();
        cipher.open(black_box(&sealed), &mut out).unwrap();
        black_box(&out);
    }
}

fn measure(ciphers: &Ciphers, plain: &Cells) -> Costs {
    let (email, card) = (&ciphers.by_domain["email"], &ciphers.by_domain["card"]);
    let (mut sealer, mut opener) = (Aes256Siv::new(&[9; 64].into()), Aes256Siv::new(&[9; 64].into()));
    let header = [0x11, 0, 1, 0, 1];
    let sealed: Vec<_> = plain.iter().map(|cell| sealer.encrypt([header], cell).unwrap()).collect();
    let aes = Aes256Enc::new(&[9; 32].into());
    let blocks: usize = plain.iter().map(|cell| cell.len().div_ceil(16).max(1)).sum();
    let mut blocks = vec![Block::default(); if plain.len() > 1 { 2 * blocks } else { blocks + 1 }];
    let costs = goal::side_by_side([
        &mut || {
            for cell in plain.iter() {
                black_box(sealer.encrypt([header], black_box(cell)).unwrap());
            }
        },
        &mut || {
            for cell in &sealed {
                black_box(opener.decrypt([header], black_box(cell)).unwrap());
            }
        },
        &mut sealing(email, plain),
        &mut opening(email, plain),
        &mut sealing(card, plain),
        &mut opening(card, plain),
        &mut || {
            if plain.len() > 1 {
                return aes.encrypt_blocks(black_box(&mut blocks));
            }
            for _ in 0..blocks.len() {
                aes.encrypt_block(black_box(&mut blocks[0]));
            }
        },
    ]);
    let [a, b, c, d, e, f, floor] = costs.map(|cost| cost / plain.len() as f64);
    Costs { by_crate: [a, b], ours: [c, d], randomized: [e, f], floor }
}

/// What is asked of a shape: name, cells, their lengths, how many times the crate.
type Shape = (&'static str, usize, fn(usize) -> usize, Option<f64>);

const SHAPES: [Shape; 15] = [
    ("32 bytes alone", 1, |_| 32, Some(3.0)),
    ("32 bytes by 4", 4, |_| 32, None),
    ("32 bytes by 16", 16, |_| 32, Some(7.0)),
    ("32 bytes by 64", 64, |_| 32, Some(12.0)),
    ("32 bytes by 256", 256, |_| 32, Some(12.0)),
    ("8 to 64 bytes by 16", 16, mixed, None),
    ("8 to 64 bytes by 64", 64, mixed, Some(8.0)),
    ("8 to 64 bytes by 256", 256, mixed, Some(8.0)),
    ("8 bytes by 64", 64, |_| 8, None),
    ("16 bytes by 64", 64, |_| 16, None),
    ("64 bytes by 64", 64, |_| 64, None),
    ("256 bytes alone", 1, |_| 256, None),
    ("256 bytes by 64", 64, |_| 256, None),
    ("1 KB alone", 1, |_| 1024, Some(1.0)),
    ("1 KB by 64", 64, |_| 1024, Some(1.0)),
];

fn mixed(cell: usize) -> usize {
    8 + (cell * cell * 31 + cell * 17) % 57
}

fn main() {
    let ciphers = ciphers();
    let mut goals = vec![];
    println!("ns a cell             |   crate | seal   times | open   times | randomized    | AES floor");
    for (name, batch, length, wanted) in SHAPES {
        let Costs { by_crate, ours, randomized, floor } = measure(&ciphers, &plaintexts(batch, length));
        let times = [by_crate[0] / ours[0], by_crate[1] / ours[1]];
        println!(
            "{name:21} | {:7.1} | {:6.1} {:5.1} | {:6.1} {:5.1} | {:6.1} {:6.1} | {floor:6.1}, seal is {:.1} times that",
            by_crate[0],
            ours[0],
            times[0],
            ours[1],
            times[1],
            randomized[0],
            randomized[1],
            ours[0] / floor
        );
        goals.extend(wanted.map(|wanted| (name.replace(' ', "_"), times, wanted)));
    }
    for (name, times, wanted) in goals {
        goal::at_least(&format!("cell_seal_{name}"), times[0], wanted);
        goal::at_least(&format!("cell_open_{name}"), times[1], wanted);
    }
}

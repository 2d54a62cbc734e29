//! `SET pgveil.purpose` lasts exactly as long as a setting of PostgreSQL's own that is set beside it.

use crate::proxy::{self, Proxy};
use crate::raw::Raw;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

/// Statements that change both alike, or the transaction that they stand in.
fn statement(random: &mut StdRng, number: usize) -> Vec<String> {
    let name = *["a", "b"].choose(random).unwrap();
    let both = |begin: &str, end: &str| {
        ["pgveil.purpose", "mirror.purpose"].map(|setting| format!("{begin}{setting}{end}")).to_vec()
    };
    let one = |sql: &str| vec![sql.to_owned()];
    match random.random_range(0..20) {
        0..=3 => both("set ", &format!(" = 'p{number}'")),
        4 | 5 => both("set local ", &format!(" to 'p{number}'")),
        6 => both("reset ", ""),
        7 => both("set ", " = ''"),
        8 | 9 => one("begin"),
        10 => one("commit"),
        11 => one("rollback"),
        12 | 13 => one(&format!("savepoint {name}")),
        14 => one(&format!("release {name}")),
        15 | 16 => one(&format!("rollback to savepoint {name}")),
        17 => one("select 1 / 0"),
        18 => one("commit and chain"),
        _ => one("select 1"),
    }
}

fn compare(raw: &mut Raw, seed: u64, told: &[String]) {
    let mirror = raw.query("select coalesce(current_setting('mirror.purpose', true), '')");
    if mirror.errors.first().is_some_and(|error| error.starts_with("25P02")) {
        return;
    }
    let text = |reply: &crate::raw::Reply| String::from_utf8(reply.rows[0][0].clone().unwrap()).unwrap();
    let mirror = text(&mirror);
    let status = text(&raw.query("show pgveil.status"));
    let purpose = if mirror.is_empty() { "none" } else { &mirror };
    assert!(
        status.contains(&format!("purpose {purpose},")),
        "seed {seed}: {status}, not {purpose}: {told:#?}"
    );
}

#[test]
fn a_purpose_is_undone_as_a_setting_is() {
    let proxy = Proxy::start(proxy::POLICY, proxy::TAGS);
    for seed in 0..150 {
        let mut random = StdRng::seed_from_u64(seed);
        let mut raw = Raw::log_in(&proxy.url("shop"));
        let mut told = vec![];
        for step in 0..12 {
            let mut statements = vec![];
            for part in 0..random.random_range(1..4) {
                statements.extend(statement(&mut random, 10 * step + part));
            }
            if random.random_bool(0.5) {
                told.push(format!("query {}", statements.join("; ")));
                raw.query(&statements.join("; "));
            } else {
                told.push(format!("pipeline {}", statements.join("; ")));
                for sql in &statements {
                    raw.parse("", sql, &[]);
                    raw.bind("", "", &[], [0, 0]);
                    raw.execute("", 0);
                }
                raw.sync();
                raw.reply();
            }
            compare(&mut raw, seed, &told);
        }
    }
}

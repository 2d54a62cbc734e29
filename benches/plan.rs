//! What does deciding a statement cost, the first time and from the cache; and what does the cache hold?
//!
//! Goals: ten times as many rows take about ten times as long; a cold plan stays under 10 × its bare parse (measured beside it); a hit is one hash of the text and one look-up, 300 ns
//! for 200 bytes; however many distinct statements come, the cache holds no more than its bound.
//! Read it as ratios: `cold/…` against `parse/…` of the same statement, and `cached/…` by itself. What `cold` is made of stands
//! beside it (`split`: PostgreSQL's tokens; the rest is agreement, echo, lineage and rulings).

// A bench may unwrap: a panic is how it fails.
#![allow(clippy::unwrap_used)]

#[allow(dead_code)]
#[path = "../fuzz/src/shop.rs"]
mod golden;

use criterion::Criterion;
use pgveil::plan::cache::PlanCache;
use pgveil::plan::{NO_NAMES, Session, plan};
use pgveil::policy::{Circumstances, Principal};
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::Parser;
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use std::alloc::System;
use std::hint::black_box;
use std::time::{Duration, Instant};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const STATEMENTS: [(&str, &str); 6] = [
    ("point_select", "SELECT id, email, name, card FROM customers WHERE email = $1"),
    ("insert", "INSERT INTO customers (id, email, name, card) VALUES ($1, $2, $3, $4)"),
    (
        "join",
        "SELECT c.email, count(*) FROM customers c JOIN orders o ON o.billing_email = c.email \
         WHERE o.total > 100 AND c.email IN ('a@b.c', 'd@e.f') GROUP BY c.email HAVING count(*) > 1 LIMIT 10",
    ),
    (
        "untagged",
        "SELECT a.x, b.y FROM plain a JOIN plain b ON a.id = b.id WHERE a.email = $1 ORDER BY b.y LIMIT 10",
    ),
    (
        "masked",
        "SELECT c.id, c.phone FROM customers c WHERE c.phone LIKE $1 AND c.note IS NOT NULL ORDER BY c.phone LIMIT 10",
    ),
    (
        "bytes_200",
        "SELECT c.id, c.email, c.name, c.born, c.card, o.id, o.billing_email, o.total FROM customers c \
         LEFT JOIN orders o ON o.customer_id = c.id WHERE c.email = $1 AND o.total >= $2 ORDER BY o.id LIMIT 50 OFFSET 0",
    ),
];

/// Who sees masks, which are put in place of the columns: the statement is understood twice.
const MASKED: &str = "masked";

/// What a hit may cost, for 200 bytes.
const HIT_NS: f64 = 300.0;
/// A thousand rows against a hundred: what grows faster than the text is an outage for who inserts many.
const ROWS: f64 = 12.0;
/// Cold against a bare parse.
const COLD: f64 = 10.0;
/// The cache of the memory part, and how much more than full it may be at any time.
const ENTRIES: usize = 10_000;

/// The quickest of 31 batches, in nanoseconds for one: what others do on the machine only adds.
fn nanoseconds(mut work: impl FnMut()) -> f64 {
    let mut batch = 1;
    loop {
        let start = Instant::now();
        (0..batch).for_each(|_| work());
        if start.elapsed() > Duration::from_micros(500) {
            break;
        }
        batch *= 2;
    }
    let batches = (0..31).map(|_| {
        let start = Instant::now();
        (0..batch).for_each(|_| work());
        start.elapsed().as_nanos() as f64 / f64::from(batch)
    });
    batches.fold(f64::INFINITY, f64::min)
}

fn goal(name: &str, measured: f64, wanted: f64, unit: &str) {
    let met = if measured <= wanted { "met" } else { "missed" };
    println!("goal {name} measured {measured:.1}{unit} wanted {wanted:.1}{unit} {met}");
}

fn held() -> usize {
    let stats = ALLOCATOR.stats();
    // What is reallocated counts as allocated when it grows and as freed when it shrinks.
    stats.bytes_allocated - stats.bytes_deallocated
}

/// Distinct statements, as an application that writes its values into them sends them: what the cache holds after so many.
fn memory(shop: &golden::Shop, session: &Session<'_>) {
    let cache = PlanCache::new(ENTRIES, [7; 16]);
    let before = held();
    let mut full = 0;
    let mut longest = Duration::ZERO;
    for number in 1..=100_000 {
        let text = format!(
            "SELECT id, email, name FROM customers WHERE email = 'p{number}@x.org' AND id > {number}"
        );
        let start = Instant::now();
        cache.plan(&text, &[], 1, &shop.catalog, &shop.policy, session);
        longest = longest.max(start.elapsed());
        if matches!(number, 1_000 | 10_000 | 20_000 | 50_000 | 100_000) {
            let bytes = held() - before;
            full = full.max(if number == 10_000 { bytes } else { 0 });
            println!(
                "memory: {number:6} distinct statements, {:5} plans kept, {:5} kB, {:5} bytes a plan; longest wait {longest:?}",
                cache.len(),
                bytes / 1000,
                bytes / cache.len().max(1)
            );
            if number == 100_000 {
                goal("bytes_held_after_100k_statements/after_10k", bytes as f64 / full as f64, 1.1, "");
                goal("plans_kept", cache.len() as f64, ENTRIES as f64, "");
            }
        }
    }
    drop(cache);
    println!("memory: {} kB are left of the cache", held().saturating_sub(before) / 1000);
}

fn main() {
    let shop = golden::shop();
    let [principal, masked] = ["shop", "alice"].map(|user| Principal::assumed(user.into()));
    let circumstances = Circumstances {
        now: 1_795_000_000,
        address: None,
        purpose: None,
        second_factor_at: None,
        glass_broken_at: None,
    };
    let path = ["pg_catalog".to_owned(), "public".to_owned()];
    let session = |principal| Session {
        principal,
        circumstances: &circumstances,
        search_path: &path,
        named: &NO_NAMES,
    };
    let cache = PlanCache::new(1000, [7; 16]);
    let mut criterion = Criterion::default().configure_from_args();
    let mut goals = vec![];
    for (name, sql) in STATEMENTS {
        let session = session(if name == MASKED { &masked } else { &principal });
        let mut parse = || drop(Parser::parse_sql(&PostgreSqlDialect {}, black_box(sql)).unwrap());
        let mut split = || drop(pgveil::sql::split(black_box(sql)));
        let mut cold = || drop(plan(black_box(sql), &[], &shop.catalog, &shop.policy, &session));
        let mut cached = || drop(cache.plan(black_box(sql), &[], 1, &shop.catalog, &shop.policy, &session));
        criterion.bench_function(&format!("parse/{name}"), |bench| bench.iter(&mut parse));
        criterion.bench_function(&format!("split/{name}"), |bench| bench.iter(&mut split));
        criterion.bench_function(&format!("cold/{name}"), |bench| bench.iter(&mut cold));
        criterion.bench_function(&format!("cached/{name}"), |bench| bench.iter(&mut cached));
        goals.push((name, nanoseconds(cold) / nanoseconds(parse), nanoseconds(cached)));
    }
    criterion.final_summary();
    memory(&shop, &session(&principal));
    let many = |rows: usize| {
        let values: Vec<_> = (0..rows).map(|row| format!("({row}, 'p{row}@x.org', 'n')")).collect();
        let sql = format!("INSERT INTO customers (id, email, name) VALUES {}", values.join(", "));
        nanoseconds(|| drop(plan(black_box(&sql), &[], &shop.catalog, &shop.policy, &session(&principal))))
    };
    goal("cold_1000_rows/100_rows", many(1000) / many(100), ROWS, "");
    for (name, ratio, hit) in goals {
        goal(&format!("cold_{name}/parse"), ratio, COLD, "");
        if name == "bytes_200" {
            goal("hit_200_bytes", hit, HIT_NS, " ns");
        }
    }
}

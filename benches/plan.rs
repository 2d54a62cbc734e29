//! What does deciding a statement cost, the first time and from the cache?
//!
//! Budget: a cold plan stays under 10 × its bare parse (measured beside it); a hit is one hash of the text and one
//! look-up, to be held to 300 ns for 200 bytes by "The fast path".
//! Read it as ratios: `cold/…` against `parse/…` of the same statement, and `cached/…` by itself.

// A bench may unwrap: a panic is how it fails.
#![allow(clippy::unwrap_used)]

#[allow(dead_code)]
#[path = "../fuzz/src/shop.rs"]
mod golden;

use criterion::{Criterion, criterion_group, criterion_main};
use pgveil::plan::cache::PlanCache;
use pgveil::plan::{NO_NAMES, Session, plan};
use pgveil::policy::{Circumstances, Principal};
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::Parser;
use std::hint::black_box;

const STATEMENTS: [(&str, &str); 4] = [
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
];

fn plans(criterion: &mut Criterion) {
    let shop = golden::shop();
    let principal = Principal::assumed("shop".into());
    let circumstances =
        Circumstances { now: 1_795_000_000, address: None, purpose: None, second_factor_at: None };
    let path = ["public".to_owned()];
    let session = Session {
        principal: &principal,
        circumstances: &circumstances,
        search_path: &path,
        named: &NO_NAMES,
    };
    let cache = PlanCache::new(1000);
    for (name, sql) in STATEMENTS {
        criterion.bench_function(&format!("parse/{name}"), |bench| {
            bench.iter(|| Parser::parse_sql(&PostgreSqlDialect {}, black_box(sql)).unwrap());
        });
        criterion.bench_function(&format!("cold/{name}"), |bench| {
            bench.iter(|| plan(black_box(sql), &[], &shop.catalog, &shop.policy, &session));
        });
        criterion.bench_function(&format!("cached/{name}"), |bench| {
            bench.iter(|| cache.plan(black_box(sql), &[], 1, &shop.catalog, &shop.policy, &session));
        });
    }
}

criterion_group!(benches, plans);
criterion_main!(benches);

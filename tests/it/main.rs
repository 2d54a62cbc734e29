//! The one integration binary: a `mod` line for each topic. Plain `cargo test` runs it; PostgreSQL is started by the
//! tests themselves (`postgres.rs`), and a test that cannot have it fails, it does not skip.

// Tests may unwrap: a panic is how they fail.
#![allow(clippy::unwrap_used)]

mod admin;
mod audit;
mod breaks;
mod catalog;
mod cell;
mod config;
mod conversation;
mod copy;
mod corners;
mod definitions;
mod demo;
mod describe;
mod differential;
mod docker;
mod drivers;
mod evasion;
mod fake;
mod foreign;
mod fuzz;
mod generate;
mod golden;
mod handshake;
mod indexes;
mod init;
mod introspection;
mod keyed;
mod keys;
mod leak;
mod lexer;
mod limits;
mod log_in;
mod mask;
mod metrics;
mod plan_cache;
mod postgres;
mod postgres_test;
mod proxy;
mod purpose;
mod python;
mod raw;
mod recorded;
mod regression;
mod relay;
mod reload;
mod serve;
mod shop;
mod simulate;
mod stale;
mod statements;
mod strangers;
mod tidy;
mod tools_go;
mod tools_java;
mod tools_node;
mod tools_postgres;
mod tools_python;
mod tools_sqlx;
mod transactions;
mod twin;
mod two_worlds;
mod upstream;
mod value;

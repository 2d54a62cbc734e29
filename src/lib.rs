//! pgveil: a PostgreSQL wire-protocol proxy that makes customer data private without changing the application.
//!
//! DBAs tag columns; pgveil *seals* (encrypts) what is written to them and *opens* it for those who may read it,
//! masks or refuses it for those who may not, limits how much anyone may take, and keeps evidence of every
//! sensitive access. The database, its backups and its DBA see ciphertext only.
//!
//! The modules below stand in reading order, from the floors that know nothing of each other up to the command line.
//! ARCHITECTURE.md is the map; `tests/it/tidy.rs` holds the directions between modules to it.

#![forbid(unsafe_code)]

// Three floors that know nothing of each other.
pub mod crypto;
pub mod value;
pub mod wire;

// What is protected, for whom, and what a statement means.
pub mod catalog;
pub mod plan;
pub mod policy;
pub mod sql;

// Carrying a plan out, and keeping evidence of it.
pub mod audit;
pub mod auth;
pub mod cell;
pub mod relay;

// The rim: sockets, files, processes and people.
pub mod cli;
pub mod config;
pub mod demo;
pub mod metrics;
pub mod reseal;
pub mod server;

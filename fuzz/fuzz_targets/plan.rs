//! SQL as a client sends it. What is done with the bytes is in `pgveil_fuzz::plan`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pgveil_fuzz::plan(data));

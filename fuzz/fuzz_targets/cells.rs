//! Batches of cells against the `aes-siv` crate. What is done with the bytes is in `pgveil_fuzz::cells`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pgveil_fuzz::cells(data));

//! A client's first packets. What is done with the bytes is in `pgveil_fuzz::startup`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pgveil_fuzz::startup(data));

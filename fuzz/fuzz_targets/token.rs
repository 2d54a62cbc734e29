//! Tokens and the keys of their provider. What is done with the bytes is in `pgveil_fuzz::token`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pgveil_fuzz::token(data));

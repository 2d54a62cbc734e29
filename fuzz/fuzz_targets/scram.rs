//! Log-in messages and stored verifiers. What is done with the bytes is in `pgveil_fuzz::scram`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pgveil_fuzz::scram(data));

//! The data of a COPY, cut somewhere. What is done with the bytes is in `pgveil_fuzz::copy`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pgveil_fuzz::copy(data));

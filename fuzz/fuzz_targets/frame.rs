//! Messages after log-in, from either side. What is done with the bytes is in `pgveil_fuzz::frame`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pgveil_fuzz::frame(data));

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::config_documents::check(input));

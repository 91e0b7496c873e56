#![no_main]

// case JSON-002: documents that a fuzzer makes are read or refused, without a crash or a hang.
libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::config_documents::check(input));

#![no_main]
#[path = "../targets/rewards.rs"]
#[allow(dead_code)]
mod targets;

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::choice(data));

//! Runs a fuzz target on seeded random changes of a few given inputs: the short form of fuzzing, in `cargo test`.
//!
//! `FUZZ_INPUTS` is the number of inputs a target (2,000), `FUZZ_SEED` the seed (1); the same seed gives the same inputs. A
//! failure prints the input's number and leaves the bytes in a temporary file. Guided by coverage, from the root of the
//! repository, with cargo-fuzz installed:
//!
//! ```text
//! RUSTC_BOOTSTRAP=1 cargo fuzz run --fuzz-dir tests/fuzz math -- -max_total_time=600
//! RUSTC_BOOTSTRAP=1 cargo fuzz run --fuzz-dir tests/fuzz --features policies gguf -- -max_total_time=600
//! ```

use std::panic::{AssertUnwindSafe, catch_unwind};

#[path = "random.rs"]
mod random;

use random::Random;

/// Values that sizes, counts and offsets are set to.
const EXTREMES: [u64; 8] = [0, 1, 0xff, 0xffff, 0x7fff_ffff, 0xffff_ffff, 1 << 40, u64::MAX];

/// One to eight changes; half of them within the first 512 bytes, where headers are.
fn change(random: &mut Random, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut data = seeds[random.below(seeds.len())].clone();
    for _ in 0..=random.below(8) {
        let reach = if random.below(2) == 0 { data.len().min(512) } else { data.len() };
        let at = random.below(reach + 1).min(data.len());
        let end = (at + 1 + random.below(16)).min(data.len());
        match random.below(8) {
            0 if at < data.len() => data[at] ^= 1 << random.below(8),
            1 if at < data.len() => data[at] = random.next() as u8,
            2 => drop(data.drain(at..end)),
            3 => {
                let copy = data[at..end].to_vec();
                drop(data.splice(at..at, copy.repeat(1 + random.below(64))));
            }
            4 => {
                let bytes = EXTREMES[random.below(EXTREMES.len())].to_le_bytes();
                let width = [1, 2, 4, 8][random.below(4)];
                let end = (at + width).min(data.len());
                drop(data.splice(at..end, bytes[..width].iter().copied()));
            }
            5 => data.truncate(at),
            6 => {
                let other = &seeds[random.below(seeds.len())];
                let from = random.below(other.len() + 1).min(other.len());
                let to = (from + random.below(64)).min(other.len());
                drop(data.splice(at..end, other[from..to].iter().copied()));
            }
            _ => {
                // Digits, for formats of text.
                let number = EXTREMES[random.below(EXTREMES.len())].to_string();
                drop(data.splice(at..end, number.into_bytes()));
            }
        }
    }
    data
}

/// Calls `target` with each of `seeds` and then with changes of them.
pub fn run(name: &str, seeds: &[Vec<u8>], target: fn(&[u8])) {
    let number = |name: &str, default: u64| {
        std::env::var(name).map_or(default, |v| v.parse().expect("FUZZ_… is a number"))
    };
    let (inputs, mut random) = (number("FUZZ_INPUTS", 2000), Random(number("FUZZ_SEED", 1)));
    let changed = (0..inputs).map(|_| change(&mut random, seeds));
    for (i, data) in seeds.iter().cloned().chain(changed).enumerate() {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| target(&data))) {
            let file = std::env::temp_dir().join(format!("rlvr-fuzz-{name}-{i}"));
            let kept = std::fs::write(&file, &data).map(|()| file);
            let said = panic.downcast_ref::<String>().map(String::as_str);
            let said = said.or(panic.downcast_ref::<&str>().copied()).unwrap_or("a panic");
            panic!("{name}: input {i} ({} bytes, in {kept:?}) fails: {said}", data.len());
        }
    }
}

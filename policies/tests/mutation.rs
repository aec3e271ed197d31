//! Damaged model files: whatever stands in `config.json`, an index, a safetensors or a GGUF file, opening is an error or
//! a policy that computes; never a panic, and never more memory than a small multiple of the file.
//!
//! `RLVR_MUTATIONS` is the number of files of each format (a few hundred without it), `RLVR_MUTATION_SEED` the first.
#![allow(clippy::unwrap_used)] // Helpers of tests fail tests.
#![allow(clippy::print_stdout)] // Figures, shown with `-- --nocapture`.
use burn::tensor::Device;
use random::Random;
use rlvr_policies::decoder::Decoder;
use rlvr_policies::packed::{PackedBatch, PromptGroup};
use rlvr_policies::{PolicyError, PolicyFiles, SaveDtype, save_hf};
use serde_json::{Value, json};
use std::alloc::{GlobalAlloc, Layout, System};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Most bytes that opening a damaged file of some hundred kilobytes may take at a time.
const MOST: usize = 48 << 20;

/// The system's allocator, with the most that was in use at a time.
struct Counting;
static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: every call is handed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = NOW.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(now, Ordering::Relaxed);
        // SAFETY: the caller's contract.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's contract.
        unsafe { System.dealloc(at, layout) }
    }
}

/// One test at a time: they share the counters.
static ALONE: Mutex<()> = Mutex::new(());

fn count() -> u64 {
    std::env::var("RLVR_MUTATIONS").map_or(300, |n| n.parse().unwrap())
}

fn golden(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden").join(path)
}

#[path = "../../tests/fuzz/targets/random.rs"]
mod random;

/// Numbers at which arithmetic breaks.
const EXTREME: [u64; 12] = [
    0,
    1,
    0x7f,
    0xff,
    0xffff,
    1 << 24,
    0x7fff_ffff,
    0xffff_ffff,
    1 << 40,
    1 << 62,
    i64::MAX as u64,
    u64::MAX,
];

/// Changes bytes, mostly before `header`: flips, extreme numbers, cuts, copies, truncation.
fn damage(bytes: &mut Vec<u8>, header: usize, random: &mut Random) {
    for _ in 0..=random.below(4) {
        let span = if random.below(8) == 0 { bytes.len() } else { header.min(bytes.len()) };
        let at = random.below(span);
        match random.below(7) {
            0 | 1 => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << random.below(8);
                }
            }
            2 => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = random.next() as u8;
                }
            }
            3 => {
                let number = random.of(&EXTREME).to_le_bytes();
                let width = [4, 8][random.below(2)].min(bytes.len() - at);
                bytes[at..at + width].copy_from_slice(&number[..width]);
            }
            4 => {
                let end = (at + 1 + random.below(40)).min(bytes.len());
                bytes.drain(at..end);
            }
            5 => {
                let end = (at + 1 + random.below(40)).min(bytes.len());
                let copy = bytes[at..end].to_vec();
                bytes.splice(at..at, copy);
            }
            _ => bytes.truncate(at),
        }
        if bytes.is_empty() {
            return;
        }
    }
}

/// A JSON value from nowhere.
fn anything(random: &mut Random, depth: usize) -> Value {
    match random.below(if depth > 2 { 9 } else { 12 }) {
        0 => Value::Null,
        1 => json!(random.below(2) == 0),
        2 | 3 => json!(random.of(&EXTREME)),
        4 => json!(-(*random.of(&EXTREME) as i64 as i128 % 1_000_000_007) as i64),
        5 => json!(*random.of(&[0.0, -0.0, 1e-320, 0.5, 1e18, 1e300, -1.5])),
        6 => json!(*random.of(&["", "yarn", "linear", "llama3", "full_attention", "silu", "F32", "../x"])),
        7 => json!(random.below(100)),
        8 => json!(10_000_000),
        9 => Value::Array((0..random.below(5)).map(|_| anything(random, depth + 1)).collect()),
        _ => {
            let keys =
                ["factor", "rope_type", "rope_theta", "original_max_position_embeddings", "shape", "x"];
            let entry = |random: &mut Random| ((*random.of(&keys)).to_owned(), anything(random, depth + 1));
            Value::Object((0..random.below(5)).map(|_| entry(random)).collect())
        }
    }
}

/// Replaces, removes or adds values somewhere in a JSON value.
fn change(value: &mut Value, extra: &[&str], random: &mut Random) {
    match value {
        Value::Object(map) if !map.is_empty() && random.below(6) > 0 => {
            let keys: Vec<String> = map.keys().cloned().collect();
            let key = random.of(&keys).clone();
            match random.below(6) {
                0 => {
                    map.remove(&key);
                }
                1 if !extra.is_empty() => {
                    map.insert((*random.of(extra)).to_owned(), anything(random, 0));
                }
                _ => change(map.get_mut(&key).unwrap(), extra, random),
            }
        }
        Value::Array(values) if !values.is_empty() && random.below(3) > 0 => {
            let i = random.below(values.len());
            match random.below(4) {
                0 => {
                    values.remove(i);
                }
                1 => values.insert(i, anything(random, 1)),
                _ => change(&mut values[i], extra, random),
            }
        }
        other => *other = anything(random, 0),
    }
}

/// Opens, reads the weights and computes a little.
fn use_it(path: &Path) -> Result<(), PolicyError> {
    let files = PolicyFiles::open(path.to_str().unwrap())?;
    let decoder = Decoder::load(files.config, &*files.weights, &Device::flex())?;
    let c = decoder.config();
    let length = c.max_position_embeddings.min(8);
    let ids: Vec<u32> = (0..length as u32).map(|i| i % c.vocab_size as u32).collect();
    let batch = PackedBatch::new(&[PromptGroup { prompt: &ids[..1], completions: vec![&ids[1..]] }]);
    decoder.logprobs(&batch, 1.0);
    decoder.prefill(&[&ids], length);
    Ok(())
}

/// Damages a file in place many times, and says what became of it.
fn survives(what: &str, path: &Path, file: &Path, damage: impl Fn(&[u8], &mut Random) -> Vec<u8>) {
    let _alone = ALONE.lock().unwrap_or_else(|e| e.into_inner());
    let good = std::fs::read(file).unwrap();
    use_it(path).unwrap();
    let seed: u64 = std::env::var("RLVR_MUTATION_SEED").map_or(1, |n| n.parse().unwrap());
    let (mut opened, mut worst) = (0, 0);
    for i in 0..count() {
        let mut random = Random((seed + i).wrapping_mul(0x2545_f491_4f6c_dd1d));
        let bytes = damage(&good, &mut random);
        std::fs::write(file, &bytes).unwrap();
        let before = NOW.load(Ordering::Relaxed);
        PEAK.store(before, Ordering::Relaxed);
        let result = catch_unwind(AssertUnwindSafe(|| use_it(path)));
        let taken = PEAK.load(Ordering::Relaxed) - before;
        let keep = |why: &str| {
            let kept = std::env::temp_dir().join(format!("rlvr-{what}-{}", seed + i));
            std::fs::write(&kept, &bytes).unwrap();
            panic!("{what}, seed {}: {why}; kept as {}", seed + i, kept.display());
        };
        match result {
            Ok(Ok(())) => opened += 1,
            Ok(Err(e)) => assert!(!e.to_string().is_empty()),
            Err(_) => keep("a panic"),
        }
        if taken > MOST {
            keep(&format!("{taken} bytes"));
        }
        worst = worst.max(taken);
    }
    std::fs::write(file, good).unwrap();
    println!(
        "{what}: {} files, {opened} opened and computed, {} refused, no panic, at most {:.1} MiB at a time",
        count(),
        count() - opened,
        worst as f64 / f64::from(1 << 20)
    );
}

/// A golden model as a folder of its own.
fn folder(model: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(golden("models").join(model)).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), dir.path().join(entry.file_name())).unwrap();
    }
    dir
}

#[test]
fn config_json() {
    for model in ["tiny-llama", "tiny-qwen3"] {
        let dir = folder(model);
        let extra = [
            "rope_scaling",
            "rope_theta",
            "original_max_position_embeddings",
            "layer_types",
            "sliding_window",
            "use_sliding_window",
            "max_window_layers",
            "partial_rotary_factor",
            "head_dim",
            "num_key_value_heads",
            "architectures",
            "no_rope_layers",
            "quantization_config",
        ];
        survives(
            &format!("config.json of {model}"),
            dir.path(),
            &dir.path().join("config.json"),
            |good, random| {
                if random.below(4) == 0 {
                    let mut bytes = good.to_vec();
                    damage(&mut bytes, good.len(), random);
                    return bytes;
                }
                let mut value: Value = serde_json::from_slice(good).unwrap();
                (0..=random.below(3)).for_each(|_| change(&mut value, &extra, random));
                value.to_string().into_bytes()
            },
        );
    }
}

#[test]
fn safetensors_files() {
    let dir = folder("tiny-llama");
    // Small values of every kind of tensor make a short file.
    let policy = PolicyFiles::open(golden("models/tiny-qwen2").to_str().unwrap()).unwrap();
    save_hf(dir.path(), &policy.config, &*policy.weights, SaveDtype::BF16, &policy.assets).unwrap();
    survives("model.safetensors", dir.path(), &dir.path().join("model.safetensors"), |good, random| {
        let header = u64::from_le_bytes(good[..8].try_into().unwrap()) as usize;
        let mut bytes = good.to_vec();
        if random.below(2) == 0 {
            damage(&mut bytes, header + 8, random);
            return bytes;
        }
        let mut value: Value = serde_json::from_slice(&good[8..8 + header]).unwrap();
        (0..=random.below(3)).for_each(|_| change(&mut value, &["__metadata__", "lm_head.weight"], random));
        let text = value.to_string().into_bytes();
        let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
        bytes.extend(text);
        bytes.extend(&good[8 + header..]);
        bytes
    });
}

#[test]
fn the_index_of_shards() {
    let dir = folder("tiny-llama");
    let whole = dir.path().join("model.safetensors");
    std::fs::rename(&whole, dir.path().join("part.safetensors")).unwrap();
    let policy = PolicyFiles::open(golden("models/tiny-llama").to_str().unwrap()).unwrap();
    let map: serde_json::Map<_, _> =
        policy.weights.names().into_iter().map(|name| (name, json!("part.safetensors"))).collect();
    let index = dir.path().join("model.safetensors.index.json");
    std::fs::write(&index, json!({"metadata": {"total_size": 1}, "weight_map": map}).to_string()).unwrap();
    survives("model.safetensors.index.json", dir.path(), &index, |good, random| {
        if random.below(2) == 0 {
            let mut bytes = good.to_vec();
            damage(&mut bytes, good.len(), random);
            return bytes;
        }
        let mut value: Value = serde_json::from_slice(good).unwrap();
        (0..=random.below(3)).for_each(|_| change(&mut value, &["weight_map", "x"], random));
        value.to_string().into_bytes()
    });
}

#[test]
fn gguf_files() {
    for name in ["tiny-llama", "tiny-qwen2"] {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("model.gguf");
        std::fs::copy(golden(&format!("policy/{name}.gguf")), &file).unwrap();
        survives(&format!("{name}.gguf"), &file, &file, |good, random| {
            let mut bytes = good.to_vec();
            // Keys, the vocabulary and the tensor table lie in front.
            let header = *random.of(&[600, 4000, 20_000]);
            damage(&mut bytes, header, random);
            bytes
        });
    }
}

/// A list of bytes or of short strings takes what it takes in the file, not 32 bytes an element.
#[test]
fn gguf_arrays_take_the_memory_that_they_take_in_the_file() {
    let _alone = ALONE.lock().unwrap_or_else(|e| e.into_inner());
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.gguf");
    let numbers = vec![7u8; 1 << 22];
    let strings: Vec<u8> = [&1u64.to_le_bytes()[..], b"a"].concat().repeat(1 << 20);
    for (kind, count, elements) in [(0u32, 1u64 << 22, numbers), (8, 1 << 20, strings)] {
        let mut bytes = b"GGUF".to_vec();
        bytes.extend(3u32.to_le_bytes());
        bytes.extend(0u64.to_le_bytes());
        bytes.extend(1u64.to_le_bytes());
        bytes.extend([&4u64.to_le_bytes()[..], b"list", &9u32.to_le_bytes()].concat());
        bytes.extend([&kind.to_le_bytes()[..], &count.to_le_bytes()].concat());
        bytes.extend(elements);
        std::fs::write(&path, &bytes).unwrap();
        let len = bytes.len();
        drop(bytes);
        let before = NOW.load(Ordering::Relaxed);
        PEAK.store(before, Ordering::Relaxed);
        let file = rlvr_policies::weights::GgufFile::open(&path).unwrap();
        let taken = PEAK.load(Ordering::Relaxed) - before;
        let array = file.metadata()["list"].as_array().unwrap();
        assert_eq!(array.len() as u64, count);
        match kind {
            0 => {
                assert!(array.scalars().unwrap().all(|v| v.as_u64() == Some(7)) && array.strings().is_none())
            }
            _ => assert!(array.strings().unwrap().all(|s| s == "a") && array.scalars().is_none()),
        }
        println!("an array of {len} bytes took {:.1} times as much", taken as f64 / len as f64);
        // A growing vector has twice its length while it is copied, and some more.
        assert!(taken < 4 * len, "{taken} bytes for {len}");
    }
}

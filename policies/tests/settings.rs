//! Tiny models under changed configs against transformers (float64): families, rotary settings, windows, tied heads.
#![allow(clippy::unwrap_used)] // Helpers of tests fail tests.
#![allow(clippy::print_stdout)] // Figures, shown with `-- --nocapture`.
use burn::tensor::Device;
use rlvr_policies::decoder::Decoder;
use rlvr_policies::packed::{PackedBatch, PromptGroup};
use rlvr_policies::targets::TargetGrads;
use rlvr_policies::{ModelConfig, PolicyFiles};
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};

mod reference;

/// Log-probabilities in float32 against float64.
const CLOSE: f64 = 5e-5;

fn golden() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/golden")
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// A tiny model with changes in its config, as a folder.
fn folder(model: &str, changes: &Map<String, Value>, dir: &Path) {
    let from = golden().join("models").join(model);
    for entry in std::fs::read_dir(&from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), dir.join(entry.file_name())).unwrap();
    }
    let mut config = json(&from.join("config.json"));
    config.as_object_mut().unwrap().extend(changes.clone());
    std::fs::write(dir.join("config.json"), config.to_string()).unwrap();
}

fn decoder(dir: &Path) -> Decoder {
    let files = PolicyFiles::open_folder(dir).unwrap();
    Decoder::load(files.config, &*files.weights, &Device::flex()).unwrap()
}

fn ids(value: &Value) -> Vec<u32> {
    serde_json::from_value(value.clone()).unwrap()
}

/// All tokens but the first as a completion of that.
fn batch(ids: &[u32]) -> PackedBatch {
    PackedBatch::new(&[PromptGroup { prompt: &ids[..1], completions: vec![&ids[1..]] }])
}

fn furthest(got: &[f32], expected: &Value) -> f64 {
    let expected = expected.as_array().unwrap();
    assert_eq!(got.len(), expected.len());
    let pairs = got.iter().zip(expected).map(|(a, b)| (f64::from(*a) - b.as_f64().unwrap()).abs());
    pairs.fold(0.0, f64::max)
}

fn worst_of_kernels(decoder: &Decoder, ids: &[u32], expected: &Value) -> f64 {
    furthest(&decoder.logprobs(&batch(ids), 1.0).logprobs, expected)
}

/// Largest difference of kernels and reference to the expected log-probabilities.
fn worst(decoder: &Decoder, ids: &[u32], expected: &Value) -> [f64; 2] {
    let of_reference = furthest(&reference::logprobs(decoder, &batch(ids), 1.0)[0], expected);
    [worst_of_kernels(decoder, ids, expected), of_reference]
}

/// The most probable tokens behind a prompt, one at a time through the cache.
fn greedy(decoder: &Decoder, prompt: &[u32], count: usize) -> Vec<u32> {
    let (mut cache, mut logits) = decoder.prefill(&[prompt], prompt.len() + count);
    let mut tokens = vec![];
    for _ in 0..count {
        let best = (0..logits.len()).max_by(|a, b| logits[*a].total_cmp(&logits[*b])).unwrap() as u32;
        tokens.push(best);
        logits = cache.step(decoder, &[best]);
    }
    tokens
}

#[test]
fn every_family_under_every_setting() {
    let golden = json(&golden().join("policy/settings.json"));
    let all = ids(&golden["ids"]);
    println!("| family | setting | tokens | kernels | reference |\n|---|---|---|---|---|");
    for case in golden["cases"].as_array().unwrap() {
        let dir = tempfile::tempdir().unwrap();
        let name = format!("{} {}", case["family"], case["setting"]);
        folder(case["model"].as_str().unwrap(), case["changes"].as_object().unwrap(), dir.path());
        let decoder = decoder(dir.path());
        let context = decoder.config().max_position_embeddings;
        assert_eq!(context, 256, "{name}");
        let mut off = worst(&decoder, &all, &case["logprobs"]);
        // Windows are none of what the reference knows.
        if case["setting"] == "window" {
            off[1] = 0.0;
        }
        println!(
            "| {} | {} | {} | {:.1e} | {:.1e} |",
            case["family"].as_str().unwrap(),
            case["setting"].as_str().unwrap(),
            all.len().min(context),
            off[0],
            off[1]
        );
        assert!(off.iter().all(|off| *off < CLOSE), "{name}: {off:?}");
        let expected = ids(&case["greedy"]);
        assert_eq!(greedy(&decoder, &all[..40], expected.len()), expected, "{name}");
    }
}

/// The factor of cosines and sines is in the hand-written backward too.
#[test]
fn gradients_under_yarn() {
    for model in ["tiny-llama", "tiny-qwen2", "tiny-qwen3"] {
        let dir = tempfile::tempdir().unwrap();
        let yarn = json!({"rope_parameters": {"rope_type": "yarn", "factor": 4.0,
            "original_max_position_embeddings": 64, "attention_factor": 1.4}});
        folder(model, yarn.as_object().unwrap(), dir.path());
        let tokens: Vec<u32> = (0..90).map(|i| (i * i * 3 + 11) % 380).collect();
        let batch = PackedBatch::new(&[PromptGroup {
            prompt: &tokens[..20],
            completions: vec![&tokens[20..60], &tokens[60..]],
        }]);
        let slopes = |logprobs: &[f32]| {
            let logprobs: Vec<f32> =
                (0..logprobs.len()).map(|i| ((i * 7 % 11) as f32 - 5.0) / 50.0).collect();
            let entropy = Some(logprobs.iter().map(|g| 0.05 - 0.5 * g).collect());
            TargetGrads { logprobs, entropy, balance: None }
        };
        let decoder = decoder(dir.path());
        let mut grads = decoder.zero_gradients();
        let pass = decoder.forward(batch.clone(), 1.0, false);
        let of = slopes(&pass.targets().logprobs);
        pass.backward(&of, &mut grads);
        let (_, wanted) = reference::gradients(&decoder, &batch, 1.0, slopes);
        for (i, b) in wanted.iter().enumerate() {
            let a = grads.values(i);
            let scale = b.iter().fold(1e-2, |m: f32, v| m.max(v.abs()));
            let off = a.iter().zip(b).map(|(x, y)| (x - y).abs()).fold(0.0, f32::max) / scale;
            assert!(off < 5e-5, "{model} parameter {i}: {off}");
        }
    }
}

/// Tiny models of other origin: `RLVR_FAMILIES` is a directory of Hugging Face folders with `families.json`, which has
/// token ids and float64 log-probabilities of each. What is supported is equal; what is not is refused by name.
#[test]
fn families_of_others() {
    let Some(dir) = std::env::var_os("RLVR_FAMILIES").map(PathBuf::from) else { return };
    for (name, case) in json(&dir.join("families.json")).as_object().unwrap() {
        let config = match ModelConfig::from_hf_file(&dir.join(name).join("config.json")) {
            Ok(config) => config,
            Err(e) => {
                println!("{name}: refused: {e}");
                continue;
            }
        };
        let decoder = decoder(&dir.join(name));
        let rows = case["ids"].as_array().unwrap().iter().zip(case["logps"].as_array().unwrap());
        let off = rows.map(|(row, lp)| worst_of_kernels(&decoder, &ids(row), lp)).fold(0.0, f64::max);
        println!("{name}: off by at most {off:.1e} in a context of {}", config.max_position_embeddings);
        assert!(off < CLOSE, "{name}: {off}");
        let rows = case["ids"].as_array().unwrap().iter().zip(case["greedy_from_12"].as_array().unwrap());
        for (row, expected) in rows {
            let expected = ids(expected);
            assert_eq!(greedy(&decoder, &ids(row)[..12], expected.len()), expected, "{name}");
        }
    }
}

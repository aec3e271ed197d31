//! The tiny models of tests/golden/families.json.
#![allow(dead_code)] // Not every test needs all of it.
use burn::tensor::Device;
use rlvr_policies::packed::{PackedBatch, PromptGroup};
use rlvr_policies::{Decoder, HostTensor, MemorySource, ModelConfig};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// By name.
pub fn cases() -> BTreeMap<String, Value> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/families.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// Its config.
pub fn config(case: &Value) -> ModelConfig {
    ModelConfig::from_hf_json(&case["config"], Path::new("config.json")).unwrap()
}

/// The weights that tests/golden/make_families.py has made.
pub fn weights(case: &Value) -> MemorySource {
    let plus_one = case["config"]["model_type"].as_str().unwrap().starts_with("gemma");
    let mut source = MemorySource::new();
    let shapes: BTreeMap<String, Vec<usize>> = serde_json::from_value(case["shapes"].clone()).unwrap();
    for (t, (name, shape)) in shapes.into_iter().enumerate() {
        let (by, around) = match () {
            () if name.ends_with("norm.weight") || name.contains("layernorm") => {
                (0.6, if plus_one { 0.0 } else { 1.0 })
            }
            () if name.ends_with("bias") => (0.5, 0.0),
            () if name.contains("embed") => (1.1, 0.0),
            () => (0.7, 0.0),
        };
        let count: usize = shape.iter().product();
        let value = |i: usize| {
            let share = ((7919 * i + 104_729 * t) % 2003) as f64 / 2003.0;
            (by * (share - 0.5) + around) as f32
        };
        source.insert(name, HostTensor { shape, data: (0..count).map(value).collect() });
    }
    source
}

/// The model on a device.
pub fn decoder(case: &Value, device: &Device) -> Decoder {
    Decoder::load(config(case), &weights(case), device).unwrap()
}

/// Token ids of several sequences.
pub fn rows(value: &Value) -> Vec<Vec<u32>> {
    serde_json::from_value(value.clone()).unwrap()
}

/// Each row as a prompt of one token and a completion of the rest.
pub fn batch(rows: &[Vec<u32>]) -> PackedBatch {
    let groups: Vec<_> =
        rows.iter().map(|r| PromptGroup { prompt: &r[..1], completions: vec![&r[1..]] }).collect();
    PackedBatch::new(&groups)
}

//! The tiny models of every family as GGUF files, under llama.cpp's names and in its order of rows: they open as the same
//! models.
#![allow(clippy::unwrap_used)] // Helpers of tests fail tests.
use burn::tensor::Device;
use rlvr_policies::weights::{GgufFile, GgufSource};
use rlvr_policies::{Decoder, HostTensor, ModelConfig, WeightSource, expected_tensors};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use tiny::{batch, cases, rows, weights};

mod tiny;

/// A value of metadata.
enum Meta {
    Int(usize),
    Float(f64),
    Text(&'static str),
    Flags(Vec<bool>),
}

fn text(out: &mut Vec<u8>, s: &str) {
    out.extend((s.len() as u64).to_le_bytes());
    out.extend(s.as_bytes());
}

/// A GGUF file of f32 tensors.
fn file(metadata: &[(String, Meta)], tensors: &BTreeMap<String, HostTensor>) -> Vec<u8> {
    let mut out = b"GGUF".to_vec();
    out.extend(3u32.to_le_bytes());
    out.extend((tensors.len() as u64).to_le_bytes());
    out.extend((metadata.len() as u64).to_le_bytes());
    for (key, value) in metadata {
        text(&mut out, key);
        match value {
            Meta::Int(n) => out.extend([&4u32.to_le_bytes()[..], &(*n as u32).to_le_bytes()].concat()),
            Meta::Float(f) => out.extend([&6u32.to_le_bytes()[..], &(*f as f32).to_le_bytes()].concat()),
            Meta::Flags(flags) => {
                out.extend([&9u32.to_le_bytes()[..], &7u32.to_le_bytes()].concat());
                out.extend((flags.len() as u64).to_le_bytes());
                out.extend(flags.iter().map(|flag| u8::from(*flag)));
            }
            Meta::Text(s) => {
                out.extend(8u32.to_le_bytes());
                text(&mut out, s);
            }
        }
    }
    let (mut offset, mut data) = (0usize, Vec::new());
    for (name, tensor) in tensors {
        text(&mut out, name);
        out.extend((tensor.shape.len() as u32).to_le_bytes());
        tensor.shape.iter().rev().for_each(|d| out.extend((*d as u64).to_le_bytes()));
        out.extend(0u32.to_le_bytes());
        out.extend((offset as u64).to_le_bytes());
        tensor.data.iter().for_each(|x| data.extend(x.to_le_bytes()));
        data.resize(data.len().next_multiple_of(32), 0);
        offset = data.len();
    }
    out.resize(out.len().next_multiple_of(32), 0);
    out.extend(data);
    out
}

/// llama.cpp's name of a tensor, experts left out.
fn stored(kind: &str, name: &str) -> String {
    let top = [
        ("model.embed_tokens.weight", "token_embd.weight"),
        ("model.norm.weight", "output_norm.weight"),
        ("lm_head.weight", "output.weight"),
    ];
    if let Some((_, gguf)) = top.iter().find(|(hf, _)| *hf == name) {
        return (*gguf).into();
    }
    let (layer, rest) = name.strip_prefix("model.layers.").unwrap().split_once('.').unwrap();
    let (part, suffix) = rest.rsplit_once('.').unwrap();
    let behind = kind.starts_with("gemma") || kind.starts_with("olmo");
    let gguf = match part {
        "input_layernorm" => "attn_norm",
        "post_attention_layernorm" if behind => "post_attention_norm",
        "post_attention_layernorm" | "pre_feedforward_layernorm" => "ffn_norm",
        "post_feedforward_layernorm" => "post_ffw_norm",
        "self_attn.q_proj" => "attn_q",
        "self_attn.k_proj" => "attn_k",
        "self_attn.v_proj" => "attn_v",
        "self_attn.qkv_proj" => "attn_qkv",
        "self_attn.o_proj" => "attn_output",
        "self_attn.q_norm" => "attn_q_norm",
        "self_attn.k_norm" => "attn_k_norm",
        "mlp.gate" => "ffn_gate_inp",
        "mlp.gate_proj" => "ffn_gate",
        "mlp.up_proj" | "mlp.gate_up_proj" => "ffn_up",
        "mlp.down_proj" => "ffn_down",
        other => panic!("{other}"),
    };
    format!("blk.{layer}.{gguf}.{suffix}")
}

/// Rows of heads, the two halves of each interleaved.
fn interleave(tensor: &mut HostTensor, heads: usize) {
    let width = tensor.data.len() / tensor.shape[0];
    let half = tensor.shape[0] / heads / 2;
    let rows: Vec<Vec<f32>> = tensor.data.chunks(width).map(<[f32]>::to_vec).collect();
    let order =
        (0..heads).flat_map(|h| (0..half).flat_map(move |j| [0, 1].map(|s| h * 2 * half + s * half + j)));
    tensor.data = order.flat_map(|row| rows[row].clone()).collect();
}

fn tensors(kind: &str, config: &ModelConfig, source: &dyn WeightSource) -> BTreeMap<String, HostTensor> {
    let mut out: BTreeMap<String, HostTensor> = BTreeMap::new();
    for (name, _) in expected_tensors(config) {
        let mut tensor = source.load(&name).unwrap();
        if let Some((before, rest)) = name.split_once(".mlp.experts.") {
            // Experts come in their order.
            let (_, part) = rest.split_once('.').unwrap();
            let part = part.strip_suffix("_proj.weight").unwrap();
            let layer = before.rsplit_once('.').unwrap().1;
            let all = out
                .entry(format!("blk.{layer}.ffn_{part}_exps.weight"))
                .or_insert_with(|| HostTensor { shape: [&[0][..], &tensor.shape].concat(), data: vec![] });
            all.shape[0] += 1;
            all.data.extend(tensor.data);
            continue;
        }
        if ["granite", "smollm3", "llama"].contains(&kind) {
            match () {
                () if name.contains("q_proj") => interleave(&mut tensor, config.num_heads),
                () if name.contains("k_proj") => interleave(&mut tensor, config.num_kv_heads),
                () => {}
            }
        }
        if kind.starts_with("gemma") && name.ends_with("norm.weight") {
            tensor.data.iter_mut().for_each(|w| *w += 1.0);
        }
        out.insert(stored(kind, &name), tensor);
    }
    out
}

fn metadata(name: &'static str, c: &ModelConfig, more: Vec<(&str, Meta)>) -> Vec<(String, Meta)> {
    let common = vec![
        ("context_length", Meta::Int(c.max_position_embeddings)),
        ("embedding_length", Meta::Int(c.hidden_size)),
        ("block_count", Meta::Int(c.num_layers)),
        ("feed_forward_length", Meta::Int(c.intermediate_size)),
        ("attention.head_count", Meta::Int(c.num_heads)),
        ("attention.head_count_kv", Meta::Int(c.num_kv_heads)),
        ("attention.key_length", Meta::Int(c.head_dim)),
        ("attention.value_length", Meta::Int(c.head_dim)),
        ("attention.layer_norm_rms_epsilon", Meta::Float(c.rms_norm_eps)),
        ("rope.freq_base", Meta::Float(c.rope_theta)),
    ];
    let own = common.into_iter().chain(more).map(|(key, value)| (format!("{name}.{key}"), value));
    let token = |key: &str, id| (format!("tokenizer.ggml.{key}_token_id"), Meta::Int(id));
    std::iter::once(("general.architecture".to_owned(), Meta::Text(name)))
        .chain(own)
        .chain([token("bos", 1), token("eos", 2), token("padding", c.pad_token_id.unwrap() as usize)])
        .collect()
}

/// A model, changes of its config, the architecture that its file names, and what else that says.
type Case = (&'static str, Value, &'static str, Vec<(&'static str, Meta)>);

fn int(key: &'static str, n: usize) -> (&'static str, Meta) {
    (key, Meta::Int(n))
}

fn float(key: &'static str, f: f64) -> (&'static str, Meta) {
    (key, Meta::Float(f))
}

fn given() -> Vec<Case> {
    let long = json!({"rope_parameters": {"rope_type": "longrope", "rope_theta": 10000.0, "short_factor": [1.0, 1.25],
        "long_factor": [2.0, 5.0], "original_max_position_embeddings": 96, "partial_rotary_factor": 0.67,
        "attention_factor": 1.25}, "original_max_position_embeddings": 96});
    vec![
        ("llama biases", json!({"mlp_bias": false}), "llama", vec![]),
        ("qwen3 biases", json!({"attention_bias": false}), "qwen3", vec![]),
        ("smollm3", json!({"no_rope_layer_interval": 4}), "smollm3", vec![]),
        (
            "gemma2",
            json!({"query_pre_attn_scalar": 8}),
            "gemma2",
            vec![
                int("attention.sliding_window", 8),
                float("attn_logit_softcapping", 3.0),
                float("final_logit_softcapping", 2.0),
            ],
        ),
        (
            "gemma3",
            json!({"query_pre_attn_scalar": 8, "layer_types": null}),
            "gemma3",
            vec![int("attention.sliding_window", 8)],
        ),
        ("phi3 window", json!({}), "phi3", vec![int("attention.sliding_window", 10)]),
        (
            "phi3 longrope",
            long,
            "phi3",
            vec![
                int("rope.dimension_count", 4),
                int("rope.scaling.original_context_length", 96),
                float("rope.scaling.attn_factor", 1.25),
            ],
        ),
        ("olmo2", json!({}), "olmo2", vec![]),
        (
            "granite",
            json!({}),
            "granite",
            vec![
                float("attention.scale", 0.2),
                float("embedding_scale", 6.0),
                float("residual_scale", 0.4),
                float("logit_scale", 3.0),
            ],
        ),
        (
            "qwen3 experts",
            json!({}),
            "qwen3moe",
            vec![int("expert_count", 5), int("expert_used_count", 2), int("expert_feed_forward_length", 12)],
        ),
    ]
}

/// Files that say which layers have the window.
fn windowed() -> Vec<Case> {
    vec![
        // Which layers have the window: as a list, and as the number of layers of which the last has none.
        (
            "gemma3",
            json!({"query_pre_attn_scalar": 8}),
            "gemma3",
            vec![
                int("attention.sliding_window", 8),
                ("attention.sliding_window_pattern", Meta::Flags(vec![true, false, true])),
            ],
        ),
        (
            "gemma2",
            json!({"query_pre_attn_scalar": 8, "layer_types": ["sliding_attention", "sliding_attention", "full_attention"]}),
            "gemma2",
            vec![
                int("attention.sliding_window", 8),
                int("attention.sliding_window_pattern", 3),
                float("attn_logit_softcapping", 3.0),
                float("final_logit_softcapping", 2.0),
            ],
        ),
        // OLMo 3 under the name of OLMo 2; layers with the window are not stretched.
        (
            "olmo3",
            json!({}),
            "olmo2",
            vec![
                int("attention.sliding_window", 7),
                ("attention.sliding_window_pattern", Meta::Flags(vec![true, false, true])),
                ("rope.scaling.type", Meta::Text("yarn")),
                float("rope.scaling.factor", 4.0),
                int("rope.scaling.original_context_length", 32),
            ],
        ),
        (
            "olmo3",
            json!({"layer_types": null, "rope_parameters": null, "rope_theta": 5e5}),
            "olmo2",
            vec![int("attention.sliding_window", 7)],
        ),
        ("phi3", json!({}), "phi3", vec![int("attention.sliding_window", 0)]),
    ]
}

#[test]
fn files_open_as_the_same_models() {
    for (case, changes, name, more) in given().into_iter().chain(windowed()) {
        let mut all = cases();
        let golden = all.get_mut(case).unwrap();
        golden["config"].as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        let config = ModelConfig::from_hf_json(&golden["config"], Path::new("config.json")).unwrap();
        let source = weights(golden);
        let mut stored = tensors(golden["config"]["model_type"].as_str().unwrap(), &config, &source);
        if case == "phi3 longrope" {
            for (name, key) in [("short", "short_factor"), ("long", "long_factor")] {
                let factors: Vec<f32> =
                    serde_json::from_value(golden["config"]["rope_parameters"][key].clone()).unwrap();
                let tensor = HostTensor { shape: vec![factors.len()], data: factors };
                stored.insert(format!("rope_factors_{name}.weight"), tensor);
            }
        }
        let mut written = config.clone();
        written.max_position_embeddings = 128;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model.gguf");
        std::fs::write(&path, file(&metadata(name, &written, more), &stored)).unwrap();
        let file = Arc::new(GgufFile::open(&path).unwrap());
        let (gguf, opened) = GgufSource::new(file).unwrap_or_else(|e| panic!("{case}: {e}"));
        assert_eq!(opened, config, "{case}");
        let batch = batch(&rows(&golden["ids"]));
        let [a, b] = [&source as &dyn WeightSource, &gguf].map(|weights| {
            let decoder = Decoder::load(config.clone(), weights, &Device::flex()).unwrap();
            decoder.logprobs(&batch, 1.0).logprobs
        });
        let off = a.iter().zip(&b).map(|(x, y)| (x - y).abs()).fold(0.0, f32::max);
        // Gemma's factors lose a bit where 1 is added and taken away.
        let most = if name.starts_with("gemma") { 2e-5 } else { 0.0 };
        assert!(off <= most, "{case}: {off}");
    }
}

/// What changes the attention of an architecture that has no use for it is refused by name, or ends the context.
#[test]
fn windows_that_are_not_computed_are_not_passed_over() {
    let opened = |case: &str, name, more: Vec<(&str, Meta)>, foreign: &[&str]| {
        let golden = &cases()[case];
        let (config, source) = (tiny::config(golden), weights(golden));
        let mut stored = tensors(name, &config, &source);
        for tensor in foreign {
            stored.insert((*tensor).into(), HostTensor { shape: vec![3], data: vec![1.0; 3] });
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model.gguf");
        std::fs::write(&path, file(&metadata(name, &config, more), &stored)).unwrap();
        GgufSource::new(Arc::new(GgufFile::open(&path).unwrap())).map(|(_, config)| config)
    };
    let window = || ("attention.sliding_window", Meta::Int(5));
    for (case, name) in [("granite", "granite"), ("qwen3 biases", "qwen3"), ("smollm3", "smollm3")] {
        assert_eq!(opened(case, name, vec![window()], &[]).unwrap().max_position_embeddings, 5, "{case}");
    }
    let flags = |n| ("attention.sliding_window_pattern", Meta::Flags(vec![true; n]));
    for (case, name, more, foreign, expected) in [
        ("granite", "granite", vec![window(), flags(3)], &[][..], "granite.attention.sliding_window_pattern"),
        ("gemma3", "gemma3", vec![window(), flags(2)], &[], "does not say of each of 3 layers"),
        (
            "olmo2",
            "olmo2",
            vec![window(), ("attention.sliding_window_pattern", Meta::Float(2.0))],
            &[],
            "pattern",
        ),
        ("llama biases", "llama", vec![("rope.freq_base_swa", Meta::Float(1e4))], &[], "rope.freq_base_swa"),
        ("qwen3 experts", "qwen3moe", vec![("expert_weights_scale", Meta::Float(2.0))], &[], "weights_scale"),
        (
            "olmo2",
            "olmo2",
            vec![],
            &["rope_factors_long.weight"],
            "rope_factors_long.weight is not supported",
        ),
        (
            "phi3",
            "phi3",
            vec![],
            &["rope_factors_short.weight"],
            "rope_factors_short.weight is not supported",
        ),
    ] {
        let message = opened(case, name, more, foreign).unwrap_err().to_string();
        assert!(message.contains(expected), "{case}: {message}");
    }
}

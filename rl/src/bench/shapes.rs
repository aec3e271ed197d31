//! Shapes of models that can be measured without weights.
use burn::tensor::Device;
use rlvr_policies::config::Vision;
use rlvr_policies::vision::{Processor, Sizes};
use rlvr_policies::{Decoder, ModelConfig};
use rlvr_rollout::CounterRng;
use serde_json::{Map, Value, json};
use std::path::Path;

/// Their names.
pub const SHAPES: [&str; 7] =
    ["tiny", "smollm2-135m", "qwen2.5-0.5b", "qwen3-0.6b", "qwen2.5-1.5b", "smolvlm-256m", "qwen2.5-vl-3b"];

/// The model of a name in [`SHAPES`].
pub fn shape(name: &str) -> Option<ModelConfig> {
    let model = |kind: &str, dims: [usize; 7], theta: f64| {
        let [hidden, intermediate, layers, heads, kv_heads, head_dim, vocab] = dims;
        json!({
            "model_type": kind, "hidden_size": hidden, "intermediate_size": intermediate, "num_hidden_layers": layers,
            "num_attention_heads": heads, "num_key_value_heads": kv_heads, "head_dim": head_dim, "vocab_size": vocab,
            "rms_norm_eps": 1e-6, "rope_theta": theta, "max_position_embeddings": 8192,
            "tie_word_embeddings": true, "hidden_act": "silu",
        })
    };
    let value = match name {
        "tiny" => model("llama", [128, 384, 4, 4, 4, 32, 18], 10_000.0),
        "smollm2-135m" => model("llama", [576, 1536, 30, 9, 3, 64, 49_152], 100_000.0),
        "qwen2.5-0.5b" => model("qwen2", [896, 4864, 24, 14, 2, 64, 151_936], 1e6),
        "qwen3-0.6b" => model("qwen3", [1024, 3072, 28, 16, 8, 128, 151_936], 1e6),
        "qwen2.5-1.5b" => model("qwen2", [1536, 8960, 28, 12, 2, 128, 151_936], 1e6),
        "smolvlm-256m" => json!({
            "model_type": "idefics3", "image_token_id": 49_190, "scale_factor": 4, "tie_word_embeddings": false,
            "text_config": model("llama", [576, 1536, 30, 9, 3, 64, 49_280], 100_000.0),
            "vision_config": {
                "model_type": "idefics3_vision", "hidden_size": 768, "intermediate_size": 3072,
                "num_hidden_layers": 12, "num_attention_heads": 12, "image_size": 512, "patch_size": 16,
                "hidden_act": "gelu_pytorch_tanh",
            },
        }),
        "qwen2.5-vl-3b" => {
            let mut value = model("qwen2_5_vl", [2048, 11_008, 36, 16, 2, 128, 151_936], 1e6);
            value["image_token_id"] = json!(151_655);
            value["rope_scaling"] = json!({"type": "mrope", "mrope_section": [16, 24, 24]});
            value["vision_config"] = json!({
                "depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16, "patch_size": 14,
                "spatial_merge_size": 2, "temporal_patch_size": 2, "window_size": 112, "out_hidden_size": 2048,
                "fullatt_block_indexes": [7, 15, 23, 31], "hidden_act": "silu", "in_chans": 3,
            });
            value
        }
        _ => return None,
    };
    ModelConfig::from_hf_json(&value, Path::new(name)).ok()
}

/// A decoder of a shape with random weights, and with its family's processor where it sees.
///
/// # Panics
/// If a tower's sides are no whole numbers of tokens.
pub fn random_decoder(config: ModelConfig, device: &Device) -> Decoder {
    let normal =
        |param: usize, i: usize| CounterRng::new(1, 0, param as u64, u64::MAX).normal(i as u64) as f32;
    let processor = config.vision.as_deref().map(usual);
    let decoder = Decoder::random(config, device, normal);
    match processor {
        Some(processor) => decoder.with_processor(processor),
        None => decoder,
    }
}

/// The processor of a family with the settings that it has without a file.
fn usual(vision: &Vision) -> Processor {
    Processor::read(&Map::<String, Value>::new(), Path::new("(usual processor)"), vision)
        .unwrap_or_else(|e| panic!("{e}"))
}

/// The decoder whose processor takes square pictures of this side as they are: where its family cuts pictures into tiles, it
/// brings them to this side, and to whole tiles, otherwise they have no other bounds.
#[must_use]
pub(super) fn seeing_squares(decoder: Decoder, side: usize) -> Decoder {
    let Some(mut processor) = decoder.processor().cloned() else { return decoder };
    match &mut processor.sizes {
        Sizes::Tiles { longest, .. } => *longest = side,
        Sizes::Smart { min_pixels, max_pixels } => (*min_pixels, *max_pixels) = (1, usize::MAX),
    }
    decoder.with_processor(processor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_of_the_shapes() {
        // As their authors state them, embeddings counted once.
        for (name, millions) in [
            ("smollm2-135m", 134.5),
            ("qwen2.5-0.5b", 494.0),
            ("qwen3-0.6b", 596.0),
            ("qwen2.5-1.5b", 1543.7),
            ("smolvlm-256m", 256.5),
            ("qwen2.5-vl-3b", 3754.6),
        ] {
            let config = shape(name).unwrap();
            let layout = config.layout();
            let count: usize = layout.specs.iter().map(|s| s.shape[0] * s.shape[1]).sum();
            assert!((count as f64 / 1e6 - millions).abs() < 0.5, "{name} {count}");
        }
        assert!(SHAPES.iter().all(|name| shape(name).is_some()) && shape("gpt").is_none());
    }
}

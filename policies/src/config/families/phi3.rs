//! Phi-3 and Phi-4 (arXiv:2404.14219): q, k, v and gate, up in one tensor each, part of a head rotated in some sizes.
use super::{Defaults, Family, LLAMA_DEFAULTS, any_window, no_windows, window};
use crate::config::ModelConfig;
use crate::config::keys::Keys;
use crate::error::PolicyError;
use serde_json::{Map, Value, json};

pub(crate) const FAMILY: Family = Family {
    model_type: "phi3",
    class_name: "Phi3ForCausalLM",
    gguf: Some("phi3"),
    gguf_interleaved: false,
    defaults: Defaults { context: 4096, eps: 1e-5, ..LLAMA_DEFAULTS },
    keys: &["attention_bias", "sliding_window", "partial_rotary_factor"],
    read,
    write,
};

fn read(keys: &Keys<'_>, c: &mut ModelConfig) -> Result<(), PolicyError> {
    c.shape.fused = true;
    if keys.bool("attention_bias")? == Some(true) {
        return Err(keys.unsupported("attention_bias", "supported: false for phi3"));
    }
    no_windows(keys, c)?;
    if let Some(window) = window(keys, None)? {
        c.shape.set_windows(c.num_layers, window, |_| true);
    }
    Ok(())
}

fn write(c: &ModelConfig, value: &mut Map<String, Value>) {
    value.insert("sliding_window".into(), any_window(c).into());
    let partial = c.shape.rotary_dim.map_or(1.0, |dim| dim as f64 / c.head_dim as f64);
    value["rope_parameters"]["partial_rotary_factor"] = json!(partial);
    value.insert("partial_rotary_factor".into(), json!(partial));
}

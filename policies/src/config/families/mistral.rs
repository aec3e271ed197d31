//! Mistral: a window in every layer, or in none; Ministral: in the layers that `layer_types` names.
use super::{Defaults, Family, LLAMA_DEFAULTS, any_window, layer_types, sliding_layers, window};
use crate::config::keys::Keys;
use crate::config::{Architecture, ModelConfig};
use crate::error::PolicyError;
use serde_json::{Map, Value};

pub(crate) const FAMILY: Family = Family {
    model_type: "mistral",
    class_name: "MistralForCausalLM",
    gguf: None,
    gguf_interleaved: true,
    defaults: Defaults { kv_heads: Some(8), context: 131_072, ..LLAMA_DEFAULTS },
    keys: &["attention_bias", "sliding_window"],
    read,
    write,
};

pub(crate) const MINISTRAL: Family =
    Family { model_type: "ministral", class_name: "MinistralForCausalLM", ..FAMILY };

fn read(keys: &Keys<'_>, c: &mut ModelConfig) -> Result<(), PolicyError> {
    if keys.bool("attention_bias")? == Some(true) {
        let supported = format!("supported: false for {}", c.architecture.model_type());
        return Err(keys.unsupported("attention_bias", &supported));
    }
    let types = sliding_layers(keys, c.num_layers)?;
    let window = window(keys, Some(4096))?;
    if let Some(types) = &types {
        let sliding = types.iter().filter(|sliding| **sliding).count();
        if sliding > 0 && window.is_none() {
            return Err(keys.wrong("layer_types", "has sliding windows, sliding_window is null"));
        }
        // As transformers loads such a file.
        if (1..types.len()).contains(&sliding) {
            c.architecture = Architecture::Ministral;
        }
    }
    if let Some(window) = window {
        c.shape.set_windows(c.num_layers, window, |l| types.as_ref().is_none_or(|types| types[l]));
    }
    Ok(())
}

fn write(c: &ModelConfig, value: &mut Map<String, Value>) {
    value.insert("sliding_window".into(), any_window(c).into());
    if c.architecture == Architecture::Ministral {
        value.insert("layer_types".into(), layer_types(c));
    }
}

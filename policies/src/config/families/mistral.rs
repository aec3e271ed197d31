//! Mistral: a window in every layer, or in none.
use super::{Defaults, Family, LLAMA_DEFAULTS, any_window, sliding_layers, window};
use crate::config::ModelConfig;
use crate::config::keys::Keys;
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

fn read(keys: &Keys<'_>, c: &mut ModelConfig) -> Result<(), PolicyError> {
    if keys.bool("attention_bias")? == Some(true) {
        return Err(keys.unsupported("attention_bias", "supported: false for mistral"));
    }
    let types = sliding_layers(keys, c.num_layers)?;
    // The class gives all layers the window, whatever their types, but for a list without any.
    if let Some(window) = window(keys, Some(4096))?
        && types.is_none_or(|types| types.contains(&true))
    {
        c.shape.set_windows(c.num_layers, window, |_| true);
    }
    Ok(())
}

fn write(c: &ModelConfig, value: &mut Map<String, Value>) {
    value.insert("sliding_window".into(), any_window(c).into());
}

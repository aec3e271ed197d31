//! SmolLM3: some layers do not rotate (arXiv:2501.18795).
use super::{
    Defaults, Family, LLAMA_DEFAULTS, any_window, attention_bias, layer_types, mlp_bias, sliding_layers,
    window,
};
use crate::config::keys::Keys;
use crate::config::{LayerKind, ModelConfig};
use crate::error::PolicyError;
use serde_json::{Map, Value, json};

pub(crate) const FAMILY: Family = Family {
    model_type: "smollm3",
    class_name: "SmolLM3ForCausalLM",
    gguf: Some("smollm3"),
    gguf_interleaved: true,
    defaults: Defaults { kv_heads: Some(4), context: 32_768, theta: 2e6, tied: true, ..LLAMA_DEFAULTS },
    keys: &[
        "attention_bias",
        "mlp_bias",
        "no_rope_layers",
        "no_rope_layer_interval",
        "sliding_window",
        "use_sliding_window",
        "max_window_layers",
    ],
    read,
    write,
};

fn read(keys: &Keys<'_>, c: &mut ModelConfig) -> Result<(), PolicyError> {
    attention_bias(keys, c)?;
    mlp_bias(keys, c)?;
    let layers = c.num_layers;
    let rotated: Vec<bool> = match keys.get("no_rope_layers") {
        Some(list) => {
            let list: Vec<u8> = serde_json::from_value(list.clone())
                .map_err(|_| keys.wrong("no_rope_layers", "is not a list of 0 and 1"))?;
            if list.len() != layers {
                let problem = format!("lists {} layers, num_hidden_layers is {layers}", list.len());
                return Err(keys.wrong("no_rope_layers", &problem));
            }
            // The name is the wrong way round: 1 is a layer that rotates.
            list.iter().map(|on| *on != 0).collect()
        }
        None => rotated_by_interval(layers, keys.optional_size("no_rope_layer_interval")?.unwrap_or(4)),
    };
    c.shape.layers = rotated.iter().map(|r| LayerKind { window: None, rotated: *r }).collect();
    let types = sliding_layers(keys, layers)?;
    let window = window(keys, None)?;
    let asked = keys.bool("use_sliding_window")?.unwrap_or(false);
    if let Some(window) = window.filter(|_| asked || types.is_some()) {
        c.shape.set_windows(layers, window, |l| types.as_ref().map_or(!rotated[l], |types| types[l]));
    }
    Ok(())
}

/// Every layer rotates but for each `interval`th.
pub(crate) fn rotated_by_interval(layers: usize, interval: usize) -> Vec<bool> {
    (0..layers).map(|l| !(l + 1).is_multiple_of(interval)).collect()
}

fn write(c: &ModelConfig, value: &mut Map<String, Value>) {
    let window = any_window(c);
    let rotated: Vec<u8> = (0..c.num_layers).map(|l| u8::from(c.shape.layer(l).rotated)).collect();
    value.extend([
        ("attention_bias".into(), c.attention_bias.into()),
        ("mlp_bias".into(), c.shape.mlp_bias.into()),
        ("no_rope_layers".into(), json!(rotated)),
        ("layer_types".into(), layer_types(c)),
        ("use_sliding_window".into(), window.is_some().into()),
        ("sliding_window".into(), window.into()),
    ]);
}

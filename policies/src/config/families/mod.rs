//! Model families: a file each says what is particular about it, [`layout`] makes the decoder of it.
mod gemma;
mod granite;
mod layout;
mod llama;
mod mistral;
mod olmo;
mod phi3;
mod qwen;
mod smollm3;
mod tower;

pub(crate) use layout::{layout, tensors};
pub(crate) use smollm3::rotated_by_interval;

use crate::config::keys::Keys;
use crate::config::{Architecture, ModelConfig};
use crate::error::PolicyError;
use serde_json::{Map, Value, json};

/// What is particular about a family.
pub(crate) struct Family {
    /// `model_type` in `config.json`.
    pub(crate) model_type: &'static str,
    /// The class that transformers loads the folder with.
    pub(crate) class_name: &'static str,
    /// `general.architecture` of GGUF files, where they are read.
    pub(crate) gguf: Option<&'static str>,
    /// Whether GGUF files have the rows of q and k interleaved.
    pub(crate) gguf_interleaved: bool,
    /// Values of absent keys, as transformers has them.
    pub(crate) defaults: Defaults,
    /// Keys of `config.json` beside those that all families have, read by [`Self::read`].
    pub(crate) keys: &'static [&'static str],
    /// Reads these keys into a config that is Llama's otherwise.
    pub(crate) read: fn(&Keys<'_>, &mut ModelConfig) -> Result<(), PolicyError>,
    /// Adds them to a `config.json`.
    pub(crate) write: fn(&ModelConfig, &mut Map<String, Value>),
}

/// Values of absent keys.
pub(crate) struct Defaults {
    /// Key/value heads; none for as many as query heads.
    pub(crate) kv_heads: Option<usize>,
    /// Width of a head; none for the hidden size over the heads.
    pub(crate) head_dim: Option<usize>,
    /// Longest context.
    pub(crate) context: usize,
    /// ε of norms.
    pub(crate) eps: f64,
    /// Base of the rotation.
    pub(crate) theta: f64,
    /// Whether the head is the embedding.
    pub(crate) tied: bool,
    /// Activation, and the key that says it.
    pub(crate) activation: (&'static str, &'static str),
}

const LLAMA_DEFAULTS: Defaults = Defaults {
    kv_heads: None,
    head_dim: None,
    context: 2048,
    eps: 1e-6,
    theta: 1e4,
    tied: false,
    activation: ("hidden_act", "silu"),
};

impl Architecture {
    /// What is particular about it.
    pub(crate) fn family(self) -> &'static Family {
        match self {
            Self::Llama => &llama::FAMILY,
            Self::Mistral => &mistral::FAMILY,
            Self::Ministral => &mistral::MINISTRAL,
            Self::Qwen2 => &qwen::QWEN2,
            Self::Qwen3 => &qwen::QWEN3,
            Self::Qwen3Moe => &qwen::QWEN3_MOE,
            Self::SmolLm3 => &smollm3::FAMILY,
            Self::Gemma2 => &gemma::GEMMA2,
            Self::Gemma3 => &gemma::GEMMA3,
            Self::Phi3 => &phi3::FAMILY,
            Self::Olmo2 => &olmo::OLMO2,
            Self::Olmo3 => &olmo::OLMO3,
            Self::Granite => &granite::FAMILY,
        }
    }
}

/// Reads `attention_bias` for families in which it is for q, k, v and the output alike.
fn attention_bias(keys: &Keys<'_>, c: &mut ModelConfig) -> Result<(), PolicyError> {
    c.attention_bias = keys.bool("attention_bias")?.unwrap_or(false);
    c.attention_output_bias = c.attention_bias;
    Ok(())
}

/// Reads `mlp_bias`.
fn mlp_bias(keys: &Keys<'_>, c: &mut ModelConfig) -> Result<(), PolicyError> {
    c.shape.mlp_bias = keys.bool("mlp_bias")?.unwrap_or(false);
    Ok(())
}

/// `layer_types`: which layers have a window; none where the key is absent.
///
/// # Errors
/// A list of another length, or a type that is not one of the two.
fn sliding_layers(keys: &Keys<'_>, layers: usize) -> Result<Option<Vec<bool>>, PolicyError> {
    let Some(value) = keys.get("layer_types") else { return Ok(None) };
    let types = value.as_array().ok_or_else(|| keys.wrong("layer_types", "is not a list"))?;
    if types.len() != layers {
        let problem = format!("lists {} layers, num_hidden_layers is {layers}", types.len());
        return Err(keys.wrong("layer_types", &problem));
    }
    let sliding = |kind: &Value| match kind.as_str() {
        Some("sliding_attention") => Ok(true),
        Some("full_attention") => Ok(false),
        _ => Err(keys.unsupported("layer_types", "supported: full_attention, sliding_attention")),
    };
    types.iter().map(sliding).collect::<Result<_, _>>().map(Some)
}

/// `layer_types` of families that have full attention in every layer.
fn no_windows(keys: &Keys<'_>, c: &ModelConfig) -> Result<(), PolicyError> {
    if sliding_layers(keys, c.num_layers)?.is_some_and(|types| types.contains(&true)) {
        let model = c.architecture.model_type();
        let supported = format!("supported for {model}: full_attention in every layer");
        return Err(keys.unsupported("layer_types", &supported));
    }
    Ok(())
}

/// `sliding_window`; absent, unlike null, it is `default`.
fn window(keys: &Keys<'_>, default: Option<usize>) -> Result<Option<usize>, PolicyError> {
    match keys.optional_size("sliding_window")? {
        None if !keys.map.contains_key("sliding_window") => Ok(default),
        window => Ok(window),
    }
}

/// `layer_types` of a config.
fn layer_types(c: &ModelConfig) -> Value {
    let kind = |l| if c.shape.layer(l).window.is_some() { "sliding_attention" } else { "full_attention" };
    (0..c.num_layers).map(kind).collect()
}

/// Sections of the rotation for layers with and without a window, where the former have their own θ.
fn write_rope_by_layer(c: &ModelConfig, value: &mut Map<String, Value>) {
    if let Some(theta) = c.shape.local_rope_theta {
        let full = value.remove("rope_parameters").unwrap_or_default();
        let sliding = json!({"rope_type": "default", "rope_theta": theta});
        let both = json!({"full_attention": full, "sliding_attention": sliding});
        value.insert("rope_parameters".into(), both);
    }
}

/// The window that some layers have, for `sliding_window`.
fn any_window(c: &ModelConfig) -> Option<usize> {
    c.shape.layers.iter().find_map(|layer| layer.window)
}

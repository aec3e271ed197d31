//! The shape of a decoder, read from and written as Hugging Face `config.json`.

pub(crate) mod keys;
pub(crate) mod known;
mod rope;

use std::path::Path;

use serde_json::{Value, json};

use crate::error::PolicyError;
use crate::file;
use keys::Keys;
pub(crate) use keys::token_ids;
pub(crate) use known::why_not;
pub use rope::{RopeScaling, Yarn};

/// Family of the decoder. All of them are the same computation; what differs is in the fields of [`ModelConfig`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Architecture {
    /// Llama 1 to 3, SmolLM2, TinyLlama.
    Llama,
    /// Mistral; the context is limited to the sliding window.
    Mistral,
    /// Qwen2 and Qwen2.5: bias on q, k and v.
    Qwen2,
    /// Qwen3: RMS norm on every head of q and k.
    Qwen3,
}

impl Architecture {
    /// `model_type` in `config.json`.
    pub fn model_type(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Mistral => "mistral",
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
        }
    }

    /// The class that transformers loads the folder with.
    pub fn class_name(self) -> &'static str {
        match self {
            Self::Llama => "LlamaForCausalLM",
            Self::Mistral => "MistralForCausalLM",
            Self::Qwen2 => "Qwen2ForCausalLM",
            Self::Qwen3 => "Qwen3ForCausalLM",
        }
    }
}

/// Shape and constants of a decoder-only transformer of the Llama family.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelConfig {
    /// Family.
    pub architecture: Architecture,
    /// Rows of the embedding and of the head; may exceed the tokenizer's vocabulary.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width of the MLP.
    pub intermediate_size: usize,
    /// Decoder blocks.
    pub num_layers: usize,
    /// Query heads.
    pub num_heads: usize,
    /// Key and value heads; divides `num_heads`.
    pub num_kv_heads: usize,
    /// Width of a head, even; `num_heads * head_dim` need not be `hidden_size`.
    pub head_dim: usize,
    /// ε of the RMS norms.
    pub rms_norm_eps: f64,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// Stretch of the rotary frequencies.
    pub rope_scaling: RopeScaling,
    /// Longest context, in tokens.
    pub max_position_embeddings: usize,
    /// Whether q, k and v projections have a bias.
    pub attention_bias: bool,
    /// Whether the output projection of attention has a bias.
    pub attention_output_bias: bool,
    /// Whether each head of q and k is RMS-normalised before the rotation.
    pub qk_norm: bool,
    /// Whether the head is the embedding matrix.
    pub tie_word_embeddings: bool,
    /// Token that begins a sequence.
    pub bos_token_id: Option<u32>,
    /// Tokens that end a sequence; may be empty here and known to the tokenizer only.
    pub eos_token_ids: Vec<u32>,
    /// Token for padding.
    pub pad_token_id: Option<u32>,
}

impl ModelConfig {
    /// Reads `config.json`.
    ///
    /// # Errors
    /// Unreadable or malformed file, and everything that [`ModelConfig::from_hf_json`] reports.
    pub fn from_hf_file(path: &Path) -> Result<Self, PolicyError> {
        let text = file::read(path, MAX_CONFIG)?;
        let value: Value = serde_json::from_slice(&text).map_err(PolicyError::json(path))?;
        Self::from_hf_json(&value, path)
    }

    /// Understands the content of a `config.json`; `path` is for messages.
    ///
    /// An absent key has the default of transformers 5, token ids excepted. Rotary settings are accepted in the old
    /// layout (`rope_theta`, `rope_scaling`) and in that of transformers 5 (`rope_parameters`); where both are given
    /// `rope_scaling` wins. Unlike transformers, a model whose context exceeds its sliding window is limited to the
    /// window, with a warning: within it both compute the same. Keys that the family does not have are warned about.
    ///
    /// # Errors
    /// A key that is missing, has a wrong type or asks for what the decoder does not implement: other model types,
    /// activations but SiLU, other RoPE scalings, and what `config/known.rs` lists.
    pub fn from_hf_json(value: &Value, path: &Path) -> Result<Self, PolicyError> {
        let map = value.as_object().ok_or_else(|| PolicyError::ConfigKey {
            path: path.into(),
            key: "(root)".into(),
            problem: "is not a JSON object".into(),
        })?;
        let keys = Keys { map, prefix: "", path };
        let architecture = match keys.str("model_type")? {
            Some("llama") => Architecture::Llama,
            Some("mistral") => Architecture::Mistral,
            Some("qwen2") => Architecture::Qwen2,
            Some("qwen3") => Architecture::Qwen3,
            Some(other) => {
                let supported = format!("{}supported: llama, mistral, qwen2, qwen3", why_not(other));
                return Err(keys.unsupported("model_type", &supported));
            }
            None => return Err(keys.wrong("model_type", "is missing")),
        };
        known::check(&keys, architecture)?;
        match keys.str("hidden_act")? {
            None | Some("silu" | "swish") => {}
            Some(_) => return Err(keys.unsupported("hidden_act", "supported: silu")),
        }

        let hidden_size = keys.size("hidden_size")?;
        let num_heads = keys.size("num_attention_heads")?;
        let num_kv_heads = match (keys.optional_size("num_key_value_heads")?, architecture) {
            (Some(n), _) => n,
            (None, Architecture::Mistral) if !map.contains_key("num_key_value_heads") => 8,
            (None, Architecture::Qwen2 | Architecture::Qwen3) if !map.contains_key("num_key_value_heads") => {
                32
            }
            (None, _) => num_heads,
        };
        let head_dim = match keys.optional_size("head_dim")? {
            Some(n) => n,
            None if architecture == Architecture::Qwen3 && !map.contains_key("head_dim") => 128,
            None if hidden_size % num_heads != 0 => {
                return Err(
                    keys.wrong("head_dim", "is missing and num_attention_heads does not divide hidden_size")
                );
            }
            None => hidden_size / num_heads,
        };
        let attention_bias = keys.bool("attention_bias")?.unwrap_or(false);
        if architecture == Architecture::Mistral && attention_bias {
            return Err(keys.unsupported("attention_bias", "supported: false for mistral"));
        }
        let mut config = Self {
            architecture,
            vocab_size: keys.size("vocab_size")?,
            hidden_size,
            intermediate_size: keys.size("intermediate_size")?,
            num_layers: keys.size("num_hidden_layers")?,
            num_heads,
            num_kv_heads,
            head_dim,
            rms_norm_eps: keys.positive("rms_norm_eps")?.unwrap_or(1e-6),
            rope_theta: 1e4,
            rope_scaling: RopeScaling::None,
            max_position_embeddings: keys.context("max_position_embeddings")?.unwrap_or(match architecture {
                Architecture::Llama => 2048,
                Architecture::Mistral => 131_072,
                Architecture::Qwen2 | Architecture::Qwen3 => 32_768,
            }),
            attention_bias: match architecture {
                Architecture::Llama | Architecture::Qwen3 => attention_bias,
                Architecture::Qwen2 => true,
                Architecture::Mistral => false,
            },
            attention_output_bias: match architecture {
                Architecture::Llama | Architecture::Qwen3 => attention_bias,
                Architecture::Qwen2 | Architecture::Mistral => false,
            },
            qk_norm: architecture == Architecture::Qwen3,
            tie_word_embeddings: keys.bool("tie_word_embeddings")?.unwrap_or(false),
            bos_token_id: keys.token_ids("bos_token_id")?.first().copied(),
            eos_token_ids: keys.token_ids("eos_token_id")?,
            pad_token_id: keys.token_ids("pad_token_id")?.first().copied(),
        };
        (config.rope_theta, config.rope_scaling) =
            rope::rope_settings(&keys, config.max_position_embeddings)?;
        if let Some(window) = sliding_window(&keys, architecture, config.num_layers)? {
            config.limit_context(window, path);
        }
        config.check(&keys)?;
        config.drop_foreign_tokens(path);
        Ok(config)
    }

    /// Limits the context to the sliding window, where attention to everything and to the window are the same.
    pub(crate) fn limit_context(&mut self, window: usize, path: &Path) {
        if self.max_position_embeddings > window {
            tracing::warn!(
                "{}: context limited to the sliding window of {window} tokens (max_position_embeddings is {})",
                path.display(),
                self.max_position_embeddings
            );
            self.max_position_embeddings = window;
        }
    }

    /// Relations between keys.
    fn check(&self, keys: &Keys<'_>) -> Result<(), PolicyError> {
        if !self.num_heads.is_multiple_of(self.num_kv_heads) {
            let problem =
                format!("= {} does not divide num_attention_heads = {}", self.num_kv_heads, self.num_heads);
            return Err(keys.wrong("num_key_value_heads", &problem));
        }
        if !self.head_dim.is_multiple_of(2) {
            return Err(keys.wrong("head_dim", &format!("= {} is odd", self.head_dim)));
        }
        Ok(())
    }

    /// Drops token ids that the model has no row for: some published configs name a padding token that only their
    /// tokenizer knows.
    pub(crate) fn drop_foreign_tokens(&mut self, path: &Path) {
        let vocab_size = self.vocab_size;
        let known = |id: &u32| {
            let known = (*id as usize) < vocab_size;
            if !known {
                tracing::warn!(
                    "{}: token id {id} is not below vocab_size = {vocab_size}: ignored",
                    path.display()
                );
            }
            known
        };
        self.bos_token_id = self.bos_token_id.filter(known);
        self.pad_token_id = self.pad_token_id.filter(known);
        self.eos_token_ids.retain(known);
    }

    /// Query heads that share one key and value head.
    pub fn num_groups(&self) -> usize {
        self.num_heads / self.num_kv_heads
    }

    /// Rotary frequencies in radians a position, scaling applied.
    ///
    /// # Shapes
    /// `head_dim / 2` values; value `i` turns components `i` and `i + head_dim / 2` of a head (half-split layout).
    pub fn rope_inv_freq(&self) -> Vec<f32> {
        self.rope_scaling.inv_freq(self.rope_theta, self.head_dim)
    }

    /// Factor of the cosines and sines of the rotation; 1 but for [`RopeScaling::Yarn`].
    pub fn rope_attention_factor(&self) -> f32 {
        self.rope_scaling.attention_factor() as f32
    }

    /// The content of a `config.json` that transformers 4 and 5 read as the same model.
    pub fn to_hf_json(&self) -> Value {
        let rope_scaling = self.rope_scaling.to_json();
        let mut rope_parameters = match &rope_scaling {
            Value::Null => json!({"rope_type": "default"}),
            scaling => scaling.clone(),
        };
        rope_parameters["rope_theta"] = json!(self.rope_theta);
        let mut value = json!({
            "architectures": [self.architecture.class_name()],
            "model_type": self.architecture.model_type(),
            "vocab_size": self.vocab_size,
            "hidden_size": self.hidden_size,
            "intermediate_size": self.intermediate_size,
            "num_hidden_layers": self.num_layers,
            "num_attention_heads": self.num_heads,
            "num_key_value_heads": self.num_kv_heads,
            "head_dim": self.head_dim,
            "hidden_act": "silu",
            "rms_norm_eps": self.rms_norm_eps,
            "rope_theta": self.rope_theta,
            "rope_scaling": rope_scaling,
            "rope_parameters": rope_parameters,
            "max_position_embeddings": self.max_position_embeddings,
            "attention_dropout": 0.0,
            "tie_word_embeddings": self.tie_word_embeddings,
            "bos_token_id": self.bos_token_id,
            "eos_token_id": token_ids_json(&self.eos_token_ids),
            "pad_token_id": self.pad_token_id,
            "use_cache": true,
        });
        match self.architecture {
            Architecture::Llama => {
                value["attention_bias"] = json!(self.attention_bias);
                value["mlp_bias"] = json!(false);
            }
            Architecture::Mistral => value["sliding_window"] = Value::Null,
            Architecture::Qwen2 => value["use_sliding_window"] = json!(false),
            Architecture::Qwen3 => {
                value["attention_bias"] = json!(self.attention_bias);
                value["use_sliding_window"] = json!(false);
            }
        }
        value
    }
}

/// The sliding window of the layers that have one; none where every layer attends to everything.
fn sliding_window(
    keys: &Keys<'_>,
    architecture: Architecture,
    num_layers: usize,
) -> Result<Option<usize>, PolicyError> {
    let window = || match keys.optional_size("sliding_window")? {
        None if !keys.map.contains_key("sliding_window") => Ok::<_, PolicyError>(Some(4096)),
        window => Ok(window),
    };
    let mut sliding = false;
    if let Some(value) = keys.get("layer_types") {
        let types = value.as_array().ok_or_else(|| keys.wrong("layer_types", "is not a list"))?;
        if types.len() != num_layers {
            let problem = format!("lists {} layers, num_hidden_layers is {num_layers}", types.len());
            return Err(keys.wrong("layer_types", &problem));
        }
        sliding = types.iter().any(|t| t == "sliding_attention");
        if types.iter().any(|t| t != "full_attention" && t != "sliding_attention") {
            let supported = "supported: full_attention, and sliding_attention up to its window";
            return Err(keys.unsupported("layer_types", supported));
        }
    }
    match architecture {
        Architecture::Llama if sliding => {
            Err(keys.unsupported("layer_types", "supported for llama: full_attention in every layer"))
        }
        Architecture::Llama => Ok(None),
        Architecture::Mistral if keys.get("layer_types").is_some() && !sliding => Ok(None),
        Architecture::Mistral => window(),
        Architecture::Qwen2 | Architecture::Qwen3 => {
            let window = match keys.bool("use_sliding_window")? {
                Some(true) => window()?,
                _ => None,
            };
            if sliding && window.is_none() {
                return Err(keys.wrong("layer_types", "has sliding windows, which the other keys switch off"));
            }
            if keys.get("layer_types").is_none() {
                let first = keys.map.get("max_window_layers").map_or(Some(28), Value::as_u64);
                let first = first.ok_or_else(|| keys.wrong("max_window_layers", "is not a whole number"))?;
                sliding = (num_layers as u64) > first;
            }
            Ok(window.filter(|_| sliding))
        }
    }
}

/// Longest `config.json` that is read, in bytes; real ones have a few thousand.
const MAX_CONFIG: u64 = 1 << 22;

/// `eos_token_id` as transformers writes it: null, a number, or a list.
pub(crate) fn token_ids_json(ids: &[u32]) -> Value {
    match ids {
        [] => Value::Null,
        [id] => json!(id),
        ids => json!(ids),
    }
}

#[cfg(test)]
mod tests;

//! The shape of a decoder, read from and written as Hugging Face `config.json`.

use std::f64::consts::PI;
use std::path::Path;

use serde_json::{Map, Value, json};

use crate::error::PolicyError;

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

/// How rotary frequencies are stretched beyond the context that the model was pre-trained with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum RopeScaling {
    /// Not at all.
    None,
    /// All frequencies divided by `factor` (arXiv:2306.15595).
    Linear {
        /// At least 1.
        factor: f64,
    },
    /// Low frequencies divided by `factor`, high ones kept, those between blended (Llama 3.1).
    Llama3 {
        /// Divisor of the low frequencies.
        factor: f64,
        /// Wavelengths above `original_max_position_embeddings / low_freq_factor` count as low frequency.
        low_freq_factor: f64,
        /// Wavelengths below `original_max_position_embeddings / high_freq_factor` count as high frequency.
        high_freq_factor: f64,
        /// Context before the stretch, in tokens.
        original_max_position_embeddings: usize,
    },
}

impl RopeScaling {
    /// Rotary frequencies in radians a position for heads of width `head_dim`.
    /// In f32, operation by operation as transformers computes them: an angle is a frequency times the position, so a
    /// last digit that differs would grow with the context.
    pub(crate) fn inv_freq(&self, theta: f64, head_dim: usize) -> Vec<f32> {
        let scale = |f: f32| match *self {
            Self::None => f,
            Self::Linear { factor } => f / factor as f32,
            Self::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_position_embeddings } => {
                let context = original_max_position_embeddings as f64;
                // A number divided by a tensor is the tensor's reciprocal times the number there.
                let wavelength = (1.0 / f) * (2.0 * PI) as f32;
                if wavelength > (context / low_freq_factor) as f32 {
                    return f / factor as f32;
                }
                if wavelength < (context / high_freq_factor) as f32 {
                    return f;
                }
                let turns = (1.0 / wavelength) * context as f32;
                let keep = (turns - low_freq_factor as f32) / (high_freq_factor - low_freq_factor) as f32;
                (1.0 - keep) * f / factor as f32 + keep * f
            }
        };
        let power = |i: usize| theta.powf(2.0 * i as f64 / head_dim as f64) as f32;
        (0..head_dim / 2).map(|i| scale(1.0 / power(i))).collect()
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
        let text = std::fs::read(path).map_err(PolicyError::read(path))?;
        let value: Value = serde_json::from_slice(&text).map_err(PolicyError::json(path))?;
        Self::from_hf_json(&value, path)
    }

    /// Understands the content of a `config.json`; `path` is for messages.
    ///
    /// Rotary settings are accepted in the old layout (`rope_theta`, `rope_scaling`) and in that of transformers 5
    /// (`rope_parameters`, which wins). Unlike transformers, a Mistral model whose context exceeds its sliding window
    /// is limited to the window, with a warning: within it both compute the same.
    ///
    /// # Errors
    /// A key that is missing, has a wrong type or asks for what the decoder does not implement: other model types,
    /// `mlp_bias`, activations but SiLU, other RoPE scalings, partial rotation, sliding windows of Qwen, experts,
    /// quantised weights.
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
            Some(_) => return Err(keys.unsupported("model_type", "llama, mistral, qwen2, qwen3")),
            None => return Err(keys.wrong("model_type", "is missing")),
        };
        refuse_unsupported(&keys, architecture)?;

        let hidden_size = keys.size("hidden_size")?;
        let num_heads = keys.size("num_attention_heads")?;
        let num_kv_heads = keys.optional_size("num_key_value_heads")?.unwrap_or(num_heads);
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
            max_position_embeddings: keys.optional_size("max_position_embeddings")?.unwrap_or(
                match architecture {
                    Architecture::Llama => 2048,
                    Architecture::Mistral => 131_072,
                    Architecture::Qwen2 | Architecture::Qwen3 => 32_768,
                },
            ),
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
        (config.rope_theta, config.rope_scaling) = rope_settings(&keys, config.max_position_embeddings)?;
        if let (Architecture::Mistral, Some(window)) = (architecture, keys.optional_size("sliding_window")?) {
            config.limit_context(window, path);
        }
        config.check(&keys)?;
        config.drop_foreign_tokens(path);
        Ok(config)
    }

    /// Limits the context to the sliding window, where attention to everything and to the window are the same.
    fn limit_context(&mut self, window: usize, path: &Path) {
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
    fn drop_foreign_tokens(&mut self, path: &Path) {
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

    /// The content of a `config.json` that transformers 4 and 5 read as the same model.
    pub fn to_hf_json(&self) -> Value {
        let (rope_scaling, mut rope_parameters) = match self.rope_scaling {
            RopeScaling::None => (Value::Null, json!({"rope_type": "default"})),
            RopeScaling::Linear { factor } => {
                let v = json!({"rope_type": "linear", "factor": factor});
                (v.clone(), v)
            }
            RopeScaling::Llama3 {
                factor,
                low_freq_factor,
                high_freq_factor,
                original_max_position_embeddings,
            } => {
                let v = json!({
                    "rope_type": "llama3",
                    "factor": factor,
                    "low_freq_factor": low_freq_factor,
                    "high_freq_factor": high_freq_factor,
                    "original_max_position_embeddings": original_max_position_embeddings,
                });
                (v.clone(), v)
            }
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

/// `eos_token_id` as transformers writes it: null, a number, or a list.
pub(crate) fn token_ids_json(ids: &[u32]) -> Value {
    match ids {
        [] => Value::Null,
        [id] => json!(id),
        ids => json!(ids),
    }
}

/// `eos_token_id` and its like: absent, null, a number, or a list; −1 means none.
pub(crate) fn token_ids(map: &Map<String, Value>, key: &str) -> Option<Vec<u32>> {
    let one = |v: &Value| v.as_u64().and_then(|id| u32::try_from(id).ok());
    match map.get(key) {
        None | Some(Value::Null) => Some(Vec::new()),
        Some(Value::Number(n)) if n.as_i64() == Some(-1) => Some(Vec::new()),
        Some(Value::Array(ids)) => ids.iter().map(one).collect(),
        Some(id) => one(id).map(|id| vec![id]),
    }
}

fn refuse_unsupported(keys: &Keys<'_>, architecture: Architecture) -> Result<(), PolicyError> {
    match keys.str("hidden_act")? {
        None | Some("silu" | "swish") => {}
        Some(_) => return Err(keys.unsupported("hidden_act", "silu")),
    }
    if keys.bool("mlp_bias")?.unwrap_or(false) {
        return Err(keys.unsupported("mlp_bias", "false"));
    }
    if keys.bool("use_sliding_window")?.unwrap_or(false) {
        return Err(keys.unsupported("use_sliding_window", "false"));
    }
    if architecture == Architecture::Mistral && keys.bool("attention_bias")?.unwrap_or(false) {
        return Err(keys.unsupported("attention_bias", "false for mistral"));
    }
    for key in ["num_local_experts", "num_experts", "quantization_config"] {
        if keys.get(key).is_some() {
            return Err(keys.unsupported(key, "dense models without quantisation"));
        }
    }
    if keys.positive("partial_rotary_factor")?.is_some_and(|f| f != 1.0) {
        return Err(keys.unsupported("partial_rotary_factor", "1.0"));
    }
    if let Some(Value::Array(types)) = keys.get("layer_types")
        && architecture != Architecture::Mistral
        && types.iter().any(|t| t != "full_attention")
    {
        return Err(keys.unsupported("layer_types", "full_attention in every layer"));
    }
    Ok(())
}

/// θ and scaling, from whichever layout the config uses.
fn rope_settings(keys: &Keys<'_>, max_positions: usize) -> Result<(f64, RopeScaling), PolicyError> {
    let default_theta = keys.positive("rope_theta")?.unwrap_or(1e4);
    let (section, map) = match (keys.get("rope_parameters"), keys.get("rope_scaling")) {
        (Some(Value::Object(map)), _) => ("rope_parameters", map),
        (None, Some(Value::Object(map))) => ("rope_scaling", map),
        (None, None) => return Ok((default_theta, RopeScaling::None)),
        (Some(_), _) => return Err(keys.wrong("rope_parameters", "is not an object")),
        (None, Some(_)) => return Err(keys.wrong("rope_scaling", "is not an object")),
    };
    let rope = Keys { map, prefix: section, path: keys.path };
    if map.values().any(Value::is_object) {
        return Err(keys.unsupported(section, "one set of parameters for all layers"));
    }
    if rope.positive("partial_rotary_factor")?.is_some_and(|f| f != 1.0) {
        return Err(rope.unsupported("partial_rotary_factor", "1.0"));
    }
    let theta = rope.positive("rope_theta")?.unwrap_or(default_theta);
    let type_key = if map.contains_key("rope_type") { "rope_type" } else { "type" };
    let required = |key: &str| rope.positive(key)?.ok_or_else(|| rope.wrong(key, "is missing"));
    let scaling = match rope.str(type_key)? {
        None | Some("default") => RopeScaling::None,
        Some("linear") => RopeScaling::Linear { factor: required("factor")? },
        Some("llama3") => {
            let (low, high) = (required("low_freq_factor")?, required("high_freq_factor")?);
            if high <= low {
                return Err(rope.wrong("high_freq_factor", "is not above low_freq_factor"));
            }
            RopeScaling::Llama3 {
                factor: required("factor")?,
                low_freq_factor: low,
                high_freq_factor: high,
                original_max_position_embeddings: rope
                    .optional_size("original_max_position_embeddings")?
                    .unwrap_or(max_positions),
            }
        }
        Some(_) => return Err(rope.unsupported(type_key, "default, linear, llama3")),
    };
    Ok((theta, scaling))
}

/// Largest value accepted for a dimension, so that products of a few of them cannot overflow.
const MAX_SIZE: u64 = 1 << 30;

/// Typed access to a JSON object with errors that name the key; null counts as absent.
struct Keys<'a> {
    map: &'a Map<String, Value>,
    prefix: &'a str,
    path: &'a Path,
}

impl<'a> Keys<'a> {
    fn full(&self, key: &str) -> String {
        if self.prefix.is_empty() { key.to_owned() } else { format!("{}.{key}", self.prefix) }
    }

    fn wrong(&self, key: &str, problem: &str) -> PolicyError {
        PolicyError::ConfigKey { path: self.path.into(), key: self.full(key), problem: problem.into() }
    }

    fn unsupported(&self, key: &str, supported: &str) -> PolicyError {
        let mut value = self.get(key).unwrap_or(&Value::Null).to_string();
        if value.chars().count() > 80 {
            value = value.chars().take(80).chain(['…']).collect();
        }
        PolicyError::Unsupported {
            path: self.path.into(),
            key: self.full(key),
            value,
            supported: format!("supported: {supported}"),
        }
    }

    fn get(&self, key: &str) -> Option<&'a Value> {
        self.map.get(key).filter(|v| !v.is_null())
    }

    fn str(&self, key: &str) -> Result<Option<&'a str>, PolicyError> {
        self.get(key).map(|v| v.as_str().ok_or_else(|| self.wrong(key, "is not a string"))).transpose()
    }

    fn bool(&self, key: &str) -> Result<Option<bool>, PolicyError> {
        self.get(key).map(|v| v.as_bool().ok_or_else(|| self.wrong(key, "is not a boolean"))).transpose()
    }

    fn positive(&self, key: &str) -> Result<Option<f64>, PolicyError> {
        let check = |v: &Value| match v.as_f64() {
            Some(f) if f.is_finite() && f > 0.0 => Ok(f),
            _ => Err(self.wrong(key, &format!("= {v} is not a positive number"))),
        };
        self.get(key).map(check).transpose()
    }

    fn optional_size(&self, key: &str) -> Result<Option<usize>, PolicyError> {
        let check = |v: &Value| match v.as_u64() {
            Some(n) if (1..=MAX_SIZE).contains(&n) => Ok(n as usize),
            _ => Err(self.wrong(key, &format!("= {v} is not a whole number from 1 to {MAX_SIZE}"))),
        };
        self.get(key).map(check).transpose()
    }

    fn size(&self, key: &str) -> Result<usize, PolicyError> {
        self.optional_size(key)?.ok_or_else(|| self.wrong(key, "is missing"))
    }

    fn token_ids(&self, key: &str) -> Result<Vec<u32>, PolicyError> {
        token_ids(self.map, key).ok_or_else(|| self.wrong(key, "is not a token id or a list of them"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden_json;

    fn parse(value: &Value) -> Result<ModelConfig, PolicyError> {
        ModelConfig::from_hf_json(value, Path::new("config.json"))
    }

    fn base() -> Value {
        json!({
            "model_type": "llama", "vocab_size": 32, "hidden_size": 64, "intermediate_size": 96,
            "num_hidden_layers": 2, "num_attention_heads": 4,
        })
    }

    fn with(changes: Value) -> Value {
        let mut value = base();
        for (key, v) in changes.as_object().unwrap() {
            value[key] = v.clone();
        }
        value
    }

    #[test]
    fn golden_configs_parse_and_survive_writing() {
        for (name, architecture, bias, qk_norm, tied, head_dim) in [
            ("tiny-llama", Architecture::Llama, false, false, false, 16),
            ("tiny-qwen2", Architecture::Qwen2, true, false, true, 16),
            ("tiny-qwen3", Architecture::Qwen3, false, true, false, 32),
        ] {
            let config = parse(&golden_json(&format!("models/{name}/config.json"))).unwrap();
            assert_eq!(config.architecture, architecture);
            assert_eq!((config.attention_bias, config.qk_norm), (bias, qk_norm), "{name}");
            assert_eq!((config.tie_word_embeddings, config.head_dim), (tied, head_dim), "{name}");
            assert_eq!((config.num_layers, config.num_heads, config.num_groups()), (3, 4, 2));
            assert_eq!(config.eos_token_ids, [2]);
            assert_eq!(parse(&config.to_hf_json()).unwrap(), config);
        }
    }

    #[test]
    fn defaults_are_those_of_transformers() {
        let config = parse(&base()).unwrap();
        assert_eq!((config.num_kv_heads, config.head_dim, config.max_position_embeddings), (4, 16, 2048));
        assert_eq!((config.rms_norm_eps, config.rope_theta), (1e-6, 1e4));
        assert_eq!((config.bos_token_id, config.eos_token_ids.len(), config.pad_token_id), (None, 0, None));
        assert_eq!(parse(&with(json!({"model_type": "qwen3"}))).unwrap().head_dim, 128);
        let ids = parse(&with(json!({"eos_token_id": [3, 4], "head_dim": null}))).unwrap();
        assert_eq!((ids.eos_token_ids.as_slice(), ids.head_dim), (&[3u32, 4][..], 16));
        let ids =
            parse(&with(json!({"eos_token_id": [3, 32], "bos_token_id": 31, "pad_token_id": -1}))).unwrap();
        assert_eq!((ids.bos_token_id, ids.eos_token_ids, ids.pad_token_id), (Some(31), vec![3], None));
    }

    #[test]
    fn both_layouts_of_rope_settings_mean_the_same() {
        let llama3 = json!({
            "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192,
        });
        let mut old = llama3.clone();
        old["type"] = json!("llama3");
        let mut new = llama3;
        new["rope_type"] = json!("llama3");
        new["rope_theta"] = json!(500_000.0);
        let old = parse(&with(json!({"rope_scaling": old, "rope_theta": 500_000.0}))).unwrap();
        let new = parse(&with(json!({"rope_parameters": new, "rope_theta": 1.0}))).unwrap();
        assert_eq!(old, new);
        assert!(matches!(old.rope_scaling, RopeScaling::Llama3 { factor: 8.0, .. }));
        assert_eq!(parse(&old.to_hf_json()).unwrap(), old);
    }

    #[test]
    fn frequencies_equal_those_of_transformers() {
        for case in golden_json("policy/rope.json").as_array().unwrap() {
            let config = parse(&case["config"]).unwrap();
            let expected: Vec<f32> = serde_json::from_value(case["inv_freq"].clone()).unwrap();
            assert_eq!(config.rope_inv_freq(), expected, "{:?}", config.rope_scaling);
        }
    }

    #[test]
    fn mistral_is_limited_to_its_window() {
        let mistral = |window: Value| {
            let changes =
                json!({"model_type": "mistral", "max_position_embeddings": 512, "sliding_window": window});
            parse(&with(changes)).unwrap().max_position_embeddings
        };
        assert_eq!(mistral(json!(null)), 512);
        assert_eq!(mistral(json!(1024)), 512);
        assert_eq!(mistral(json!(128)), 128);
    }

    #[test]
    fn errors_name_the_key() {
        for (changes, expected) in [
            (json!({"model_type": "gpt2"}), "`model_type` = \"gpt2\" is not supported"),
            (json!({"model_type": "mixtral"}), "`model_type`"),
            (json!({"model_type": null}), "`model_type` is missing"),
            (json!({"hidden_size": null}), "`hidden_size` is missing"),
            (json!({"hidden_size": 0}), "`hidden_size` = 0"),
            (json!({"hidden_size": "64"}), "`hidden_size` = \"64\""),
            (json!({"hidden_size": u64::MAX}), "`hidden_size`"),
            (json!({"hidden_size": 66}), "`head_dim`"),
            (json!({"head_dim": 15}), "`head_dim` = 15 is odd"),
            (json!({"num_key_value_heads": 3}), "`num_key_value_heads` = 3"),
            (json!({"mlp_bias": true}), "`mlp_bias`"),
            (json!({"hidden_act": "gelu"}), "`hidden_act` = \"gelu\""),
            (json!({"use_sliding_window": true}), "`use_sliding_window`"),
            (json!({"layer_types": ["full_attention", "sliding_attention"]}), "`layer_types`"),
            (json!({"num_experts": 8}), "`num_experts`"),
            (json!({"quantization_config": {"bits": 4}}), "`quantization_config`"),
            (json!({"rms_norm_eps": -1.0}), "`rms_norm_eps`"),
            (
                json!({"rope_scaling": {"type": "dynamic", "factor": 2.0}}),
                "`rope_scaling.type` = \"dynamic\"",
            ),
            (json!({"rope_parameters": {"rope_type": "yarn", "factor": 2.0}}), "`rope_parameters.rope_type`"),
            (json!({"rope_parameters": {"full_attention": {"rope_type": "default"}}}), "`rope_parameters`"),
            (json!({"rope_scaling": {"type": "linear"}}), "`rope_scaling.factor` is missing"),
            (json!({"partial_rotary_factor": 0.5}), "`partial_rotary_factor`"),
            (json!({"eos_token_id": "</s>"}), "`eos_token_id`"),
        ] {
            let message = parse(&with(changes.clone())).unwrap_err().to_string();
            assert!(
                message.starts_with("config.json: ") && message.contains(expected),
                "{changes}: {message}"
            );
        }
        assert!(parse(&json!([])).is_err());
    }
}

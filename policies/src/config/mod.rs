//! The shape of a decoder, read from and written as Hugging Face `config.json`.

mod families;
pub(crate) mod keys;
pub(crate) mod known;
mod rope;
mod shape;
mod vision;

use std::path::Path;

use serde_json::{Value, json};

use crate::error::PolicyError;
use crate::file;
use crate::spec::ParamLayout;
pub(crate) use families::rotated_by_interval;
pub(crate) use keys::token_ids;
use keys::{Keys, MAX_LAYERS};
pub(crate) use known::why_not;
pub use rope::{LongRope, RopeScaling, Yarn};
pub use shape::{ExpertShape, LayerKind, NormPlaces, QkNorm, Shape};
pub use vision::{TensorNames, Vision, VisionFamily};

/// Family of the decoder; the files of `families` have what is particular about each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Architecture {
    /// Llama 1 to 3, SmolLM2, TinyLlama.
    Llama,
    /// Mistral.
    Mistral,
    /// Ministral: Mistral with windows in some layers.
    Ministral,
    /// Qwen2 and Qwen2.5: bias on q, k and v.
    Qwen2,
    /// Qwen3: RMS norm on every head of q and k.
    Qwen3,
    /// Qwen3 with a mixture of experts.
    Qwen3Moe,
    /// SmolLM3: some layers do not rotate.
    SmolLm3,
    /// Gemma 2.
    Gemma2,
    /// The text models of Gemma 3.
    Gemma3,
    /// Phi-3, Phi-3.5 and Phi-4.
    Phi3,
    /// OLMo 2.
    Olmo2,
    /// OLMo 3: OLMo 2 with windows in most layers.
    Olmo3,
    /// Granite 3, without experts.
    Granite,
}

impl Architecture {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::Llama,
        Self::Mistral,
        Self::Ministral,
        Self::Qwen2,
        Self::Qwen3,
        Self::Qwen3Moe,
        Self::SmolLm3,
        Self::Gemma2,
        Self::Gemma3,
        Self::Phi3,
        Self::Olmo2,
        Self::Olmo3,
        Self::Granite,
    ];

    /// `model_type` in `config.json`.
    pub fn model_type(self) -> &'static str {
        self.family().model_type
    }

    /// The class that transformers loads the folder with.
    pub fn class_name(self) -> &'static str {
        self.family().class_name
    }
}

/// The families, for messages.
fn supported() -> String {
    let all = Architecture::ALL.map(Architecture::model_type);
    all.into_iter().chain(vision::model_types()).collect::<Vec<_>>().join(", ")
}

/// Shape and constants of a decoder-only transformer.
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
    /// Whether the head is the embedding matrix.
    pub tie_word_embeddings: bool,
    /// Token that begins a sequence.
    pub bos_token_id: Option<u32>,
    /// Tokens that end a sequence; may be empty here and known to the tokenizer only.
    pub eos_token_ids: Vec<u32>,
    /// Token for padding.
    pub pad_token_id: Option<u32>,
    /// What is particular about its blocks.
    pub shape: Shape,
    /// Its tower, of a model that sees; the rest is its text then.
    pub vision: Option<Box<Vision>>,
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
    /// `rope_scaling` wins. Keys that the family does not have are warned about.
    ///
    /// # Errors
    /// A key that is missing, has a wrong type or asks for what the decoder does not implement: other model types,
    /// other activations, other RoPE scalings, and what `config/known.rs` lists.
    pub fn from_hf_json(value: &Value, path: &Path) -> Result<Self, PolicyError> {
        let map = value.as_object().ok_or_else(|| PolicyError::ConfigKey {
            path: path.into(),
            key: "(root)".into(),
            problem: "is not a JSON object".into(),
        })?;
        if let Some((vision, text)) = Vision::read(map, path)? {
            let mut config = Self::from_hf_json(&text, path)?;
            let (frequencies, axes) = (config.rotary_dim() / 2, vision.axes.len());
            if axes != 0 && axes != frequencies {
                let problem = format!("names {axes} frequencies, a head has {frequencies}");
                let key = "rope_scaling.mrope_section".into();
                return Err(PolicyError::ConfigKey { path: path.into(), key, problem });
            }
            config.vision = Some(Box::new(vision));
            return Ok(config);
        }
        let keys = Keys { map, prefix: "", path };
        let name = keys.str("model_type")?.ok_or_else(|| keys.wrong("model_type", "is missing"))?;
        let Some(architecture) = Architecture::ALL.into_iter().find(|a| a.model_type() == name) else {
            let supported = format!("{}supported: {}", why_not(name), supported());
            return Err(keys.unsupported("model_type", &supported));
        };
        known::check(&keys, architecture)?;
        let mut config = Self::common(&keys, architecture)?;
        let rope = rope::rope_settings(&keys, architecture, config.max_position_embeddings)?;
        (config.rope_theta, config.rope_scaling) = (rope.theta, rope.scaling);
        config.shape.local_rope_theta = rope.local_theta;
        if rope.partial != 1.0 {
            config.shape.rotary_dim = Some((config.head_dim as f64 * rope.partial) as usize);
        }
        (architecture.family().read)(&keys, &mut config)?;
        config.check(&keys)?;
        config.drop_foreign_tokens(path);
        config.shape.padding = config.pad_token_id;
        config.limit_to_short_factors(path);
        Ok(config)
    }

    /// What all families have, without what is particular.
    fn common(keys: &Keys<'_>, architecture: Architecture) -> Result<Self, PolicyError> {
        let defaults = &architecture.family().defaults;
        let (activation_key, activation) = defaults.activation;
        match keys.str(activation_key)? {
            None => {}
            Some(name) if name == activation || activation == "silu" && name == "swish" => {}
            Some(_) => return Err(keys.unsupported(activation_key, &format!("supported: {activation}"))),
        }
        let hidden_size = keys.size("hidden_size")?;
        let num_heads = keys.size("num_attention_heads")?;
        // Null, unlike an absent key, follows from the others.
        let absent = |key: &str| !keys.map.contains_key(key);
        let num_kv_heads = match (keys.optional_size("num_key_value_heads")?, defaults.kv_heads) {
            (Some(n), _) => n,
            (None, Some(n)) if absent("num_key_value_heads") => n,
            (None, _) => num_heads,
        };
        let head_dim = match (keys.optional_size("head_dim")?, defaults.head_dim) {
            (Some(n), _) => n,
            (None, Some(n)) if absent("head_dim") => n,
            (None, _) if hidden_size % num_heads != 0 => {
                return Err(
                    keys.wrong("head_dim", "is missing and num_attention_heads does not divide hidden_size")
                );
            }
            (None, _) => hidden_size / num_heads,
        };
        Ok(Self {
            architecture,
            vocab_size: keys.size("vocab_size")?,
            hidden_size,
            intermediate_size: keys.size("intermediate_size")?,
            num_layers: (keys.size_up_to("num_hidden_layers", MAX_LAYERS)?)
                .ok_or_else(|| keys.wrong("num_hidden_layers", "is missing"))?,
            num_heads,
            num_kv_heads,
            head_dim,
            rms_norm_eps: keys.positive("rms_norm_eps")?.unwrap_or(defaults.eps),
            rope_theta: defaults.theta,
            rope_scaling: RopeScaling::None,
            max_position_embeddings: keys.context("max_position_embeddings")?.unwrap_or(defaults.context),
            attention_bias: false,
            attention_output_bias: false,
            tie_word_embeddings: keys.bool("tie_word_embeddings")?.unwrap_or(defaults.tied),
            bos_token_id: keys.token_ids("bos_token_id")?.first().copied(),
            eos_token_ids: keys.token_ids("eos_token_id")?,
            pad_token_id: keys.token_ids("pad_token_id")?.first().copied(),
            shape: Shape::default(),
            vision: None,
        })
    }

    /// Ends the context where the short factors of longrope do: beyond it every token of a sequence would be rotated by the
    /// long ones, those that are cached as well.
    pub(crate) fn limit_to_short_factors(&mut self, path: &Path) {
        if let RopeScaling::LongRope(long) = &self.rope_scaling {
            let original = long.original_max_position_embeddings;
            self.limit_context_to(original, "the long factors of longrope are not used", path);
        }
    }

    /// Limits the context, with a warning that says why.
    pub(crate) fn limit_context_to(&mut self, most: usize, why: &str, path: &Path) {
        if self.max_position_embeddings > most {
            tracing::warn!(
                "{}: context limited to {most} tokens (max_position_embeddings is {}): {why}",
                path.display(),
                self.max_position_embeddings
            );
            self.max_position_embeddings = most;
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
        if self.shape.rotary_dim.is_some_and(|dim| dim == 0 || dim % 2 != 0 || dim > self.head_dim) {
            let problem = format!("rotates no even part of a head of {}", self.head_dim);
            return Err(keys.wrong("partial_rotary_factor", &problem));
        }
        if let RopeScaling::LongRope(long) = &self.rope_scaling
            && [&long.short_factor, &long.long_factor].iter().any(|f| f.len() != self.rotary_dim() / 2)
        {
            let problem = format!("does not have {} factors", self.rotary_dim() / 2);
            return Err(keys.wrong("rope_scaling.short_factor", &problem));
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

    /// Columns of a head that positions rotate.
    pub fn rotary_dim(&self) -> usize {
        self.shape.rotary_dim.unwrap_or(self.head_dim)
    }

    /// What names of the text's tensors begin with.
    pub(crate) fn text_prefix(&self) -> &'static str {
        self.vision.as_ref().map_or("model.", |vision| vision.text_prefix())
    }

    /// Rotary frequencies in radians a position, scaling applied.
    ///
    /// # Shapes
    /// `rotary_dim / 2` values; value `i` turns components `i` and `i + rotary_dim / 2` of a head (half-split layout).
    pub fn rope_inv_freq(&self) -> Vec<f32> {
        self.rope_scaling.inv_freq(self.rope_theta, self.rotary_dim())
    }

    /// Factor of the cosines and sines of the rotation; 1 but for [`RopeScaling::Yarn`] and [`RopeScaling::LongRope`].
    pub fn rope_attention_factor(&self) -> f32 {
        self.rope_scaling.attention_factor() as f32
    }

    /// Frequencies and factors of all rotations: that of all layers, and that of layers with a window where those have
    /// their own.
    pub(crate) fn rotations(&self) -> Vec<(Vec<f32>, f32)> {
        let local =
            self.shape.local_rope_theta.map(|theta| RopeScaling::None.inv_freq(theta, self.rotary_dim()));
        let all = (self.rope_inv_freq(), self.rope_attention_factor());
        std::iter::once(all).chain(local.map(|frequencies| (frequencies, 1.0))).collect()
    }

    /// The decoder that it describes, with its parameters.
    pub fn layout(&self) -> ParamLayout {
        families::layout(self)
    }

    /// Hugging Face's names and shapes of all tensors in the order of the forward pass, one block after the other: a config
    /// may claim millions of them.
    pub(crate) fn tensors(&self) -> impl Iterator<Item = (String, Vec<usize>)> + '_ {
        families::tensors(self)
    }

    /// The content of a `config.json` that transformers 4 and 5 read as the same model.
    ///
    /// Of a model that sees it is what was opened, with the end tokens of now.
    pub fn to_hf_json(&self) -> Value {
        if let Some(vision) = &self.vision {
            return vision.to_json(&token_ids_json(&self.eos_token_ids), self.tie_word_embeddings);
        }
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
            "pad_token_id": self.shape.padding,
            "use_cache": true,
        });
        if let Some(map) = value.as_object_mut() {
            if let RopeScaling::LongRope(long) = &self.rope_scaling {
                map.insert("max_position_embeddings".into(), json!(long.max_position_embeddings));
                let original = json!(long.original_max_position_embeddings);
                map.insert("original_max_position_embeddings".into(), original);
            }
            (self.architecture.family().write)(self, map);
        }
        value
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

//! The shape of a decoder out of the metadata of a GGUF file.

use super::{GgufFile, GgufValue, gguf_families, missing};
use crate::config::keys::{MAX_CONTEXT, MAX_LAYERS, MAX_SIZE};
use crate::config::{Architecture, ModelConfig, RopeScaling, Shape, Yarn, why_not};
use crate::error::PolicyError;

/// Tensor that holds the divisors of the rotary frequencies of Llama 3.1 and later.
pub(super) const ROPE_FREQS: &str = "rope_freqs.weight";

/// Keys behind the name of the architecture that are read, or that say nothing about what is computed.
const KNOWN: [&str; 23] = [
    "vocab_size",
    "context_length",
    "embedding_length",
    "block_count",
    "feed_forward_length",
    "tensor_data_layout",
    "attention.head_count",
    "attention.head_count_kv",
    "attention.key_length",
    "attention.value_length",
    "attention.layer_norm_rms_epsilon",
    "attention.sliding_window",
    "rope.dimension_count",
    "rope.freq_base",
    "rope.scale_linear",
    "rope.scaling.type",
    "rope.scaling.factor",
    "rope.scaling.original_context_length",
    "rope.scaling.finetuned",
    "rope.scaling.yarn_attn_factor",
    "rope.scaling.yarn_beta_fast",
    "rope.scaling.yarn_beta_slow",
    "decoder_start_token_id",
];

/// Keys that are refused at another value than this number; a boolean is 0 or 1.
const REFUSED: [(&str, f64, &str); 26] = [
    ("expert_count", 0.0, "dense models"),
    ("expert_used_count", 0.0, "dense models"),
    ("nextn_predict_layers", 0.0, "models without layers that predict further tokens"),
    ("leading_dense_block_count", 0.0, "dense models"),
    ("pooling_type", 0.0, "language models, not embeddings"),
    ("use_parallel_residual", 0.0, "attention and MLP in turn"),
    ("attention.causal", 1.0, "causal attention"),
    ("attention.max_alibi_bias", 0.0, "rotary positions"),
    ("attention.clamp_kqv", 0.0, "queries, keys and values as they are"),
    ("attention.scale", 0.0, "scores divided by the root of the head width"),
    ("attention.temperature_length", 0.0, "scores divided by the root of the head width"),
    ("attention.sliding_window_pattern", 0.0, "one window for all layers"),
    ("attention.chunk_size", 0.0, "attention to the whole context"),
    ("attn_logit_softcapping", 0.0, "scores as they are"),
    ("final_logit_softcapping", 0.0, "logits as they are"),
    ("logit_scale", 1.0, "1"),
    ("residual_scale", 1.0, "1"),
    ("embedding_scale", 1.0, "1"),
    ("expert_shared_count", 0.0, "experts that not all tokens share"),
    ("expert_weights_scale", 1.0, "1"),
    ("expert_gating_func", 1.0, "1, softmax"),
    ("rope.freq_base_swa", f64::NAN, "one base for all layers"),
    ("rope.scaling.yarn_ext_factor", 1.0, "1"),
    ("rope.scaling.attn_factor", 1.0, "1"),
    ("rope.scaling.yarn_log_multiplier", 0.0, "0"),
    ("rope.scaling.alpha", 0.0, "0"),
];

/// Metadata of one architecture, with errors that name the key.
pub(super) struct Metadata<'a> {
    pub(super) file: &'a GgufFile,
    pub(super) name: &'a str,
}

impl<'a> Metadata<'a> {
    fn full(&self, key: &str) -> String {
        format!("{}.{key}", self.name)
    }

    fn get(&self, key: &str) -> Option<&'a GgufValue> {
        self.file.metadata().get(&self.full(key))
    }

    pub(super) fn wrong(&self, key: &str, problem: &str) -> PolicyError {
        wrong(self.file, &self.full(key), problem)
    }

    fn unsupported(&self, key: &str, value: &str, supported: &str) -> PolicyError {
        PolicyError::Unsupported {
            path: self.file.path().into(),
            key: self.full(key),
            value: value.into(),
            supported: format!("supported in GGUF: {supported}"),
        }
    }

    pub(super) fn optional_size(&self, key: &str) -> Result<Option<usize>, PolicyError> {
        self.size_up_to(key, MAX_SIZE)
    }

    fn size_up_to(&self, key: &str, most: u64) -> Result<Option<usize>, PolicyError> {
        let size = |v: &GgufValue| match v.as_u64() {
            Some(n) if (1..=most).contains(&n) => Ok(n as usize),
            _ => Err(self.wrong(key, &format!("is not a whole number from 1 to {most}"))),
        };
        self.get(key).map(size).transpose()
    }

    /// `attention.sliding_window`; 0 is none.
    pub(super) fn window(&self) -> Result<Option<usize>, PolicyError> {
        let key = "attention.sliding_window";
        match self.get(key).and_then(GgufValue::as_u64) {
            Some(0) => Ok(None),
            _ => self.optional_size(key),
        }
    }

    /// `attention.sliding_window_pattern`: which layers have the window, as a list of them or as the number of layers of
    /// which the last has none; `every` where the file says nothing.
    pub(super) fn sliding(&self, layers: usize, every: usize) -> Result<Vec<bool>, PolicyError> {
        let key = "attention.sliding_window_pattern";
        if let Some(list) = self.get(key).and_then(GgufValue::as_array) {
            let sliding = |v: &GgufValue| v.as_bool().or(v.as_u64().map(|n| n != 0));
            let list: Option<Vec<bool>> = list.scalars().and_then(|list| list.map(|v| sliding(&v)).collect());
            let problem = format!("does not say of each of {layers} layers whether it has the window");
            return list.filter(|l| l.len() == layers).ok_or_else(|| self.wrong(key, &problem));
        }
        let every = self.optional_size(key)?.unwrap_or(every);
        Ok((1..=layers).map(|l| !l.is_multiple_of(every)).collect())
    }

    pub(super) fn size(&self, key: &str) -> Result<usize, PolicyError> {
        self.required(key, MAX_SIZE)
    }

    pub(super) fn required(&self, key: &str, most: u64) -> Result<usize, PolicyError> {
        self.size_up_to(key, most)?.ok_or_else(|| self.wrong(key, "is missing"))
    }

    pub(super) fn positive(&self, key: &str) -> Result<Option<f64>, PolicyError> {
        let number = |v: &GgufValue| match v.as_f64() {
            Some(f) if f.is_finite() && f > 0.0 => Ok(shortest(f)),
            _ => Err(self.wrong(key, "is not a positive number")),
        };
        self.get(key).map(number).transpose()
    }

    /// Refuses what the decoder does not compute, and warns of keys that are not known.
    fn check(&self, architecture: Architecture) -> Result<(), PolicyError> {
        let read = gguf_families::keys(architecture);
        for (key, neutral, supported) in REFUSED {
            let Some(value) = self.get(key).filter(|_| !read.contains(&key)) else { continue };
            let number = value.as_bool().map(|b| f64::from(u8::from(b))).or(value.as_f64());
            if number != Some(neutral) {
                let value = number.map_or_else(|| "(no number)".to_owned(), |n| n.to_string());
                return Err(self.unsupported(key, &value, supported));
            }
        }
        let known = |key: &str| {
            KNOWN.contains(&key) || read.contains(&key) || REFUSED.iter().any(|(name, ..)| *name == key)
        };
        let keys = self.file.metadata().keys();
        let ours = keys.filter_map(|key| key.strip_prefix(self.name)?.strip_prefix('.'));
        let unknown: Vec<_> = ours.filter(|key| !known(key)).collect();
        if !unknown.is_empty() {
            tracing::warn!(
                "{}: these keys of {} are not known, they are ignored: {}",
                self.file.path().display(),
                self.name,
                unknown.join(", ")
            );
        }
        Ok(())
    }
}

fn wrong(file: &GgufFile, key: &str, problem: &str) -> PolicyError {
    PolicyError::ConfigKey { path: file.path().into(), key: key.into(), problem: problem.into() }
}

/// f32 metadata as the decimal that was meant: `9.99999974737875e-6` → `1e-5`.
fn shortest(f: f64) -> f64 {
    let narrow = f as f32;
    if f64::from(narrow) == f { narrow.to_string().parse().unwrap_or(f) } else { f }
}

/// Refuses files that are no whole model.
fn whole_model(file: &GgufFile) -> Result<(), PolicyError> {
    let refused = |key: &str, value: String, supported: &str| PolicyError::Unsupported {
        path: file.path().into(),
        key: key.into(),
        value,
        supported: supported.into(),
    };
    let get = |key: &str| file.metadata().get(key);
    if let Some(kind) = get("general.type").and_then(GgufValue::as_str).filter(|kind| *kind != "model") {
        return Err(refused("general.type", kind.into(), "supported: model"));
    }
    if let Some(parts) = get("split.count").and_then(GgufValue::as_u64).filter(|n| *n > 1) {
        let supported = "one file: join the parts with llama-gguf-split --merge";
        return Err(refused("split.count", parts.to_string(), supported));
    }
    Ok(())
}

/// The config that the metadata and the tensor table describe.
///
/// # Errors
/// As [`super::GgufSource::new`], tensors excepted.
pub(super) fn read(file: &GgufFile) -> Result<ModelConfig, PolicyError> {
    whole_model(file)?;
    let metadata = file.metadata();
    let name = metadata.get("general.architecture").and_then(GgufValue::as_str);
    let name = name.ok_or_else(|| wrong(file, "general.architecture", "is missing"))?;
    let Some(architecture) = Architecture::ALL.into_iter().find(|a| a.family().gguf == Some(name)) else {
        let all = Architecture::ALL.iter().filter_map(|a| a.family().gguf).collect::<Vec<_>>().join(", ");
        return Err(PolicyError::Unsupported {
            path: file.path().into(),
            key: "general.architecture".into(),
            value: name.into(),
            supported: format!("{}supported in GGUF: {all}", why_not(name)),
        });
    };
    let keys = Metadata { file, name };
    keys.check(architecture)?;

    let hidden_size = keys.size("embedding_length")?;
    let (num_heads, num_kv_heads, head_dim) = heads(&keys, hidden_size)?;
    let rotated = keys.optional_size("rope.dimension_count")?.filter(|n| *n != head_dim);
    if rotated.is_some() && architecture != Architecture::Phi3 {
        return Err(keys.wrong("rope.dimension_count", "differs from the head width: partial rotation"));
    }
    let vocab_size = match file.tensors().get("token_embd.weight") {
        Some(t) if t.shape.len() == 2 => t.shape[0],
        _ => return Err(missing(file.path(), "token_embd.weight")),
    };
    let tokens = metadata.get("tokenizer.ggml.tokens").and_then(GgufValue::as_array);
    if let Some(tokens) = tokens.filter(|tokens| tokens.len() > vocab_size) {
        let problem = format!("lists {} tokens, the embedding has {vocab_size} rows", tokens.len());
        return Err(wrong(file, "tokenizer.ggml.tokens", &problem));
    }
    let context = keys.size_up_to("context_length", MAX_CONTEXT)?;
    let max_position_embeddings = context.ok_or_else(|| keys.wrong("context_length", "is missing"))?;
    let rope_theta = keys.positive("rope.freq_base")?.unwrap_or(1e4);
    let token = |key: &str| {
        let id = metadata.get(key).and_then(GgufValue::as_u64).filter(|id| *id < vocab_size as u64);
        id.map(|id| id as u32)
    };
    let mut eos_token_ids: Vec<u32> = Vec::new();
    for key in ["tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id"] {
        eos_token_ids.extend(token(key).filter(|id| !eos_token_ids.contains(id)));
    }
    let tensors = file.tensors();
    let mut config = ModelConfig {
        architecture,
        vocab_size,
        hidden_size,
        intermediate_size: keys.size("feed_forward_length")?,
        num_layers: keys.required("block_count", MAX_LAYERS)?,
        num_heads,
        num_kv_heads,
        head_dim,
        rms_norm_eps: keys.positive("attention.layer_norm_rms_epsilon")?.unwrap_or(1e-6),
        rope_theta,
        rope_scaling: rope_scaling(&keys, rope_theta, head_dim, max_position_embeddings)?,
        max_position_embeddings,
        attention_bias: tensors.contains_key("blk.0.attn_q.bias"),
        attention_output_bias: tensors.contains_key("blk.0.attn_output.bias"),
        tie_word_embeddings: !tensors.contains_key("output.weight"),
        bos_token_id: token("tokenizer.ggml.bos_token_id"),
        eos_token_ids,
        pad_token_id: token("tokenizer.ggml.padding_token_id"),
        shape: Shape { rotary_dim: rotated, ..Shape::default() },
        vision: None,
    };
    config.shape.padding = config.pad_token_id;
    gguf_families::read(&keys, &mut config)?;
    Ok(config)
}

/// Query heads, key and value heads, and the width of a head.
fn heads(keys: &Metadata<'_>, hidden_size: usize) -> Result<(usize, usize, usize), PolicyError> {
    let num_heads = keys.size("attention.head_count")?;
    let head_dim = match keys.optional_size("attention.key_length")? {
        Some(n) => n,
        None if hidden_size.is_multiple_of(num_heads) => hidden_size / num_heads,
        None => return Err(keys.wrong("attention.head_count", "does not divide the embedding length")),
    };
    if keys.optional_size("attention.value_length")?.is_some_and(|n| n != head_dim) {
        return Err(keys.wrong("attention.value_length", "differs from the width of keys"));
    }
    let num_kv_heads = keys.optional_size("attention.head_count_kv")?.unwrap_or(num_heads);
    if !num_heads.is_multiple_of(num_kv_heads) || !head_dim.is_multiple_of(2) {
        return Err(
            keys.wrong("attention.head_count_kv", "does not divide the heads, or heads have an odd width")
        );
    }
    Ok((num_heads, num_kv_heads, head_dim))
}

/// How llama.cpp stretches the frequencies; a factor without a type is linear there.
fn rope_scaling(
    keys: &Metadata<'_>,
    rope_theta: f64,
    head_dim: usize,
    context: usize,
) -> Result<RopeScaling, PolicyError> {
    let kind = match keys.get("rope.scaling.type") {
        None => None,
        Some(v) => Some(v.as_str().ok_or_else(|| keys.wrong("rope.scaling.type", "is not a string"))?),
    };
    let factor = match keys.positive("rope.scaling.factor")? {
        Some(factor) => Some(factor),
        None => keys.positive("rope.scale_linear")?,
    };
    let scaling = match kind {
        Some("none") => RopeScaling::None,
        None | Some("linear") => match factor {
            None | Some(1.0) => RopeScaling::None,
            Some(factor) => RopeScaling::Linear { factor },
        },
        Some("yarn") => {
            let factor = factor.ok_or_else(|| keys.wrong("rope.scaling.factor", "is missing"))?;
            if rope_theta <= 1.0 {
                return Err(keys.wrong("rope.freq_base", "is not above 1, which yarn needs"));
            }
            let original = keys.optional_size("rope.scaling.original_context_length")?.unwrap_or(context);
            let plain = Yarn::new(factor, original);
            let yarn = Yarn {
                beta_fast: keys.positive("rope.scaling.yarn_beta_fast")?.unwrap_or(plain.beta_fast),
                beta_slow: keys.positive("rope.scaling.yarn_beta_slow")?.unwrap_or(plain.beta_slow),
                attention_factor: keys.positive("rope.scaling.yarn_attn_factor")?,
                ..plain
            };
            yarn.warn_of_short_context(keys.file.path(), context);
            RopeScaling::Yarn(yarn)
        }
        Some(other) => {
            let supported = "none, linear, yarn, and llama3 as rope_freqs.weight";
            return Err(keys.unsupported("rope.scaling.type", other, supported));
        }
    };
    let Some(divisors) = keys.file.tensors().get(ROPE_FREQS) else { return Ok(scaling) };
    if divisors.shape != [head_dim / 2] {
        return Err(wrong(keys.file, ROPE_FREQS, "does not have one value for each two columns of a head"));
    }
    if scaling != RopeScaling::None {
        return Err(wrong(keys.file, ROPE_FREQS, "stands beside another scaling of the frequencies"));
    }
    let divisors = keys.file.load(ROPE_FREQS)?;
    llama3_scaling(&divisors, rope_theta, head_dim).ok_or_else(|| {
        wrong(keys.file, ROPE_FREQS, "does not follow the llama3 scaling: use the Hugging Face folder")
    })
}

/// The llama3 scaling that these divisors of the frequencies come from. The files do not say its parameters; all Llama
/// 3.1 and 3.2 models use low 1, high 4 and 8192 positions and differ in the factor, which is the largest divisor.
fn llama3_scaling(divisors: &[f32], rope_theta: f64, head_dim: usize) -> Option<RopeScaling> {
    let factor = divisors.iter().copied().fold(0f32, f32::max);
    if divisors.len() != head_dim / 2 || !(1.0..1e6).contains(&factor) {
        return None;
    }
    let scaling = RopeScaling::Llama3 {
        factor: f64::from(factor),
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_max_position_embeddings: 8192,
    };
    let scaled = scaling.inv_freq(rope_theta, head_dim);
    let plain = RopeScaling::None.inv_freq(rope_theta, head_dim);
    let close =
        |((scaled, plain), divisor): ((&f32, &f32), &f32)| (plain / scaled / divisor - 1.0).abs() < 1e-4;
    scaled.iter().zip(&plain).zip(divisors).all(close).then_some(scaling)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden;
    use crate::save::{SaveDtype, save_hf};
    use crate::source::PolicyFiles;
    use std::path::{Path, PathBuf};

    #[test]
    fn rotary_divisors_are_recognised_as_llama3() {
        let scaling = |factor| RopeScaling::Llama3 {
            factor,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_max_position_embeddings: 8192,
        };
        for (factor, head_dim) in [(8.0, 128), (32.0, 64)] {
            let plain = RopeScaling::None.inv_freq(5e5, head_dim);
            let scaled = scaling(factor).inv_freq(5e5, head_dim);
            let mut divisors: Vec<_> = plain.iter().zip(&scaled).map(|(p, s)| p / s).collect();
            assert_eq!(llama3_scaling(&divisors, 5e5, head_dim), Some(scaling(factor)));
            divisors[head_dim / 4] += 0.5;
            assert_eq!(llama3_scaling(&divisors, 5e5, head_dim), None);
        }
        assert_eq!(llama3_scaling(&[], 5e5, 64), None);
    }

    /// A golden file with more metadata.
    fn with(more: &[(&str, GgufValue)], dir: &Path) -> PathBuf {
        let good = std::fs::read(golden("policy/tiny-qwen2.gguf")).unwrap();
        let keys = u64::from_le_bytes(good[16..24].try_into().unwrap());
        let string = |out: &mut Vec<u8>, text: &str| {
            out.extend((text.len() as u64).to_le_bytes());
            out.extend(text.as_bytes());
        };
        let mut added = vec![];
        for (key, value) in more {
            string(&mut added, key);
            match value {
                GgufValue::String(text) => {
                    added.extend(8u32.to_le_bytes());
                    string(&mut added, text);
                }
                GgufValue::Float(f) => {
                    added.extend(6u32.to_le_bytes());
                    added.extend((*f as f32).to_le_bytes());
                }
                GgufValue::Int(n) => {
                    added.extend(4u32.to_le_bytes());
                    added.extend((*n as u32).to_le_bytes());
                }
                GgufValue::Bool(b) => {
                    added.extend(7u32.to_le_bytes());
                    added.push(u8::from(*b));
                }
                GgufValue::Array(_) => unreachable!(),
            }
        }
        // A last key makes the length a multiple of the alignment, so that the data stay where they are.
        string(&mut added, "pad");
        added.extend(8u32.to_le_bytes());
        let length = (added.len() + 8).next_multiple_of(32) - added.len() - 8;
        string(&mut added, &"x".repeat(length));
        let mut bytes = good[..16].to_vec();
        bytes.extend((keys + more.len() as u64 + 1).to_le_bytes());
        bytes.extend(added);
        bytes.extend(&good[24..]);
        let path = dir.join("with.gguf");
        std::fs::write(&path, bytes).unwrap();
        path
    }

    fn text(s: &str) -> GgufValue {
        GgufValue::String(s.into())
    }

    #[test]
    fn scalings_are_read_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let yarn = Yarn::new(4.0, 64);
        let int = GgufValue::Int;
        let float = GgufValue::Float;
        for (more, expected) in [
            (vec![], RopeScaling::None),
            (vec![("scaling.type", text("none")), ("scaling.factor", float(4.0))], RopeScaling::None),
            (
                vec![("scaling.type", text("linear")), ("scaling.factor", float(2.5))],
                RopeScaling::Linear { factor: 2.5 },
            ),
            // Without a type, llama.cpp divides too.
            (vec![("scaling.factor", float(2.5))], RopeScaling::Linear { factor: 2.5 }),
            (vec![("scale_linear", float(2.0))], RopeScaling::Linear { factor: 2.0 }),
            (
                vec![
                    ("scaling.type", text("yarn")),
                    ("scaling.factor", float(4.0)),
                    ("scaling.original_context_length", int(64)),
                ],
                RopeScaling::Yarn(yarn),
            ),
            (
                vec![
                    ("scaling.type", text("yarn")),
                    ("scaling.factor", float(2.0)),
                    ("scaling.yarn_beta_fast", float(16.0)),
                    ("scaling.yarn_beta_slow", float(2.0)),
                    ("scaling.yarn_attn_factor", float(1.25)),
                    ("scaling.yarn_ext_factor", float(1.0)),
                    ("scaling.finetuned", GgufValue::Bool(true)),
                ],
                RopeScaling::Yarn(Yarn {
                    factor: 2.0,
                    original_max_position_embeddings: 256,
                    beta_fast: 16.0,
                    beta_slow: 2.0,
                    attention_factor: Some(1.25),
                    ..yarn
                }),
            ),
        ] {
            let keys: Vec<String> = more.iter().map(|(key, _)| format!("qwen2.rope.{key}")).collect();
            let more: Vec<_> = keys.iter().zip(&more).map(|(k, (_, v))| (k.as_str(), v.clone())).collect();
            let policy = PolicyFiles::open_gguf(&with(&more, dir.path())).unwrap();
            assert_eq!(policy.config.rope_scaling, expected);
            let folder = dir.path().join("saved");
            save_hf(&folder, &policy.config, &*policy.weights, SaveDtype::F32, &policy.assets).unwrap();
            assert_eq!(PolicyFiles::open_folder(&folder).unwrap().config, policy.config);
        }
    }

    #[test]
    fn what_is_not_computed_is_refused_by_its_key() {
        let dir = tempfile::tempdir().unwrap();
        let (int, float) = (GgufValue::Int, GgufValue::Float);
        for (key, value, expected) in [
            (
                "qwen2.rope.scaling.type",
                text("longrope"),
                "`qwen2.rope.scaling.type` = longrope is not supported",
            ),
            ("qwen2.rope.scaling.type", text("yarn"), "`qwen2.rope.scaling.factor` is missing"),
            ("qwen2.rope.scaling.type", int(1), "`qwen2.rope.scaling.type` is not a string"),
            ("qwen2.rope.scaling.attn_factor", float(1.5), "`qwen2.rope.scaling.attn_factor` = 1.5"),
            ("qwen2.rope.scaling.yarn_log_multiplier", float(0.1), "yarn_log_multiplier"),
            (
                "qwen2.expert_count",
                int(8),
                "`qwen2.expert_count` = 8 is not supported (supported in GGUF: dense models)",
            ),
            ("qwen2.logit_scale", float(0.5), "`qwen2.logit_scale` = 0.5"),
            ("qwen2.attention.causal", GgufValue::Bool(false), "`qwen2.attention.causal` = 0"),
            ("qwen2.attention.value_length", int(8), "`qwen2.attention.value_length` differs"),
            ("qwen2.attention.scale", text("x"), "(no number)"),
            ("split.count", int(3), "llama-gguf-split --merge"),
            ("general.type", text("adapter"), "`general.type` = adapter"),
        ] {
            let message = PolicyFiles::open_gguf(&with(&[(key, value)], dir.path())).unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
        }
        let neutral = [
            ("qwen2.expert_count", int(0)),
            ("qwen2.logit_scale", float(1.0)),
            ("qwen2.attention.causal", GgufValue::Bool(true)),
            ("qwen2.never_heard_of", int(1)),
            ("split.count", int(1)),
        ];
        let config = PolicyFiles::open_gguf(&with(&neutral, dir.path())).unwrap().config;
        assert_eq!(config, PolicyFiles::open_gguf(&golden("policy/tiny-qwen2.gguf")).unwrap().config);
        let window = with(&[("qwen2.attention.sliding_window", int(24))], dir.path());
        assert_eq!(PolicyFiles::open_gguf(&window).unwrap().config.max_position_embeddings, 24);
    }

    #[test]
    fn tensors_that_no_layer_has_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let mut bytes = std::fs::read(golden("policy/tiny-qwen2.gguf")).unwrap();
        // Its length makes the new entry two steps of the alignment long; it has no elements.
        let name = "blk.00000000000000.ffn_down.bias";
        let entry =
            [&32u64.to_le_bytes()[..], name.as_bytes(), &1u32.to_le_bytes(), &[0; 8 + 4 + 8]].concat();
        assert_eq!(entry.len(), 64);
        let file = GgufFile::open(&golden("policy/tiny-qwen2.gguf")).unwrap();
        let place = |name: &String| {
            let entry = [&(name.len() as u64).to_le_bytes(), name.as_bytes()].concat();
            bytes.windows(entry.len()).position(|w| w == entry).unwrap()
        };
        let table = file.tensors().keys().map(place).min().unwrap();
        bytes.splice(table..table, entry);
        bytes[8] += 1;
        let path = dir.path().join("x.gguf");
        std::fs::write(&path, bytes).unwrap();
        let message = PolicyFiles::open_gguf(&path).unwrap_err().to_string();
        let expected = "mlp.down_proj.bias is not supported (a qwen2 model has none of this name)";
        assert!(message.contains(expected), "{message}");
    }
}

//! A GGUF file seen as a Hugging Face model: config, tensor names, row order.

use std::path::Path;
use std::sync::Arc;

use super::{GgufFile, GgufValue, HostTensor, WeightSource, missing};
use crate::config::{Architecture, ModelConfig, RopeScaling};
use crate::error::PolicyError;

/// Tensor that holds the divisors of the rotary frequencies of Llama 3.1 and later.
const ROPE_FREQS: &str = "rope_freqs.weight";

/// Tensors of a GGUF file under Hugging Face names and in Hugging Face's row order.
#[derive(Debug)]
pub struct GgufSource {
    file: Arc<GgufFile>,
    /// q and k rows are stored interleaved (architecture `llama`), with the number of heads of each.
    interleaved: Option<(usize, usize)>,
}

impl GgufSource {
    /// Reads the config out of the metadata and prepares the tensors.
    ///
    /// # Errors
    /// An architecture other than llama, qwen2 and qwen3, a missing or senseless key, or rotary divisors that no
    /// [`RopeScaling`] describes.
    pub fn new(file: Arc<GgufFile>) -> Result<(Self, ModelConfig), PolicyError> {
        let config = read_config(&file)?;
        let interleaved =
            (config.architecture == Architecture::Llama).then_some((config.num_heads, config.num_kv_heads));
        Ok((Self { file, interleaved }, config))
    }
}

impl WeightSource for GgufSource {
    fn path(&self) -> &Path {
        self.file.path()
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<_> = self
            .file
            .tensors()
            .keys()
            .filter(|name| *name != ROPE_FREQS)
            .map(|name| to_hf(name).unwrap_or_else(|| name.clone()))
            .collect();
        names.sort();
        names
    }

    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        self.file.tensors().get(&from_hf(name)?).map(|t| t.shape.clone())
    }

    fn load(&self, name: &str) -> Result<HostTensor, PolicyError> {
        let (stored, shape) =
            from_hf(name).zip(self.shape(name)).ok_or_else(|| missing(self.path(), name))?;
        let mut data = self.file.load(&stored)?;
        if let Some((heads, kv_heads)) = self.interleaved {
            let heads = match name {
                _ if name.contains(".self_attn.q_proj.") => Some(heads),
                _ if name.contains(".self_attn.k_proj.") => Some(kv_heads),
                _ => None,
            };
            if let Some(heads) = heads {
                data = half_split_rows(data, &shape, heads).ok_or_else(|| {
                    PolicyError::corrupt(
                        self.path(),
                        format!(
                            "{} rows of tensor `{stored}` do not divide into {heads} even heads",
                            shape[0]
                        ),
                    )
                })?;
            }
        }
        Ok(HostTensor { shape, data })
    }
}

/// Undoes the row order of the `llama` architecture: row `2j + s` of a head holds row `s · head_dim / 2 + j`. Biases are
/// ordered likewise.
fn half_split_rows(data: Vec<f32>, shape: &[usize], heads: usize) -> Option<Vec<f32>> {
    let rows = shape[0];
    if rows == 0 || data.is_empty() || !rows.is_multiple_of(2 * heads) {
        return None;
    }
    let (width, half) = (data.len() / rows, rows / heads / 2);
    let mut out = Vec::with_capacity(data.len());
    for row in 0..rows {
        let (head, s, j) = (row / (2 * half), row / half % 2, row % half);
        let stored = head * 2 * half + 2 * j + s;
        out.extend_from_slice(&data[stored * width..][..width]);
    }
    Some(out)
}

/// Parts of a block: GGUF and Hugging Face.
const PARTS: [(&str, &str); 11] = [
    ("attn_norm", "input_layernorm"),
    ("ffn_norm", "post_attention_layernorm"),
    ("attn_q", "self_attn.q_proj"),
    ("attn_k", "self_attn.k_proj"),
    ("attn_v", "self_attn.v_proj"),
    ("attn_output", "self_attn.o_proj"),
    ("attn_q_norm", "self_attn.q_norm"),
    ("attn_k_norm", "self_attn.k_norm"),
    ("ffn_gate", "mlp.gate_proj"),
    ("ffn_up", "mlp.up_proj"),
    ("ffn_down", "mlp.down_proj"),
];

/// Tensors outside the blocks: GGUF and Hugging Face.
const TOP: [(&str, &str); 3] = [
    ("token_embd.weight", "model.embed_tokens.weight"),
    ("output_norm.weight", "model.norm.weight"),
    ("output.weight", "lm_head.weight"),
];

fn to_hf(name: &str) -> Option<String> {
    if let Some((_, hf)) = TOP.iter().find(|(gguf, _)| *gguf == name) {
        return Some((*hf).into());
    }
    let (layer, rest) = name.strip_prefix("blk.")?.split_once('.')?;
    let (part, suffix) = rest.rsplit_once('.')?;
    let (_, hf) = PARTS.iter().find(|(gguf, _)| *gguf == part)?;
    Some(format!("model.layers.{layer}.{hf}.{suffix}"))
}

fn from_hf(name: &str) -> Option<String> {
    if let Some((gguf, _)) = TOP.iter().find(|(_, hf)| *hf == name) {
        return Some((*gguf).into());
    }
    let (layer, rest) = name.strip_prefix("model.layers.")?.split_once('.')?;
    let (part, suffix) = rest.rsplit_once('.')?;
    let (gguf, _) = PARTS.iter().find(|(_, hf)| *hf == part)?;
    Some(format!("blk.{layer}.{gguf}.{suffix}"))
}

/// f32 metadata as the decimal that was meant: `9.99999974737875e-6` → `1e-5`.
fn shortest(f: f64) -> f64 {
    let narrow = f as f32;
    if f64::from(narrow) == f { narrow.to_string().parse().unwrap_or(f) } else { f }
}

fn read_config(file: &GgufFile) -> Result<ModelConfig, PolicyError> {
    let metadata = file.metadata();
    let wrong = |key: &str, problem: &str| PolicyError::ConfigKey {
        path: file.path().into(),
        key: key.into(),
        problem: problem.into(),
    };
    let name = metadata.get("general.architecture").and_then(GgufValue::as_str);
    let name = name.ok_or_else(|| wrong("general.architecture", "is missing"))?;
    let architecture = match name {
        "llama" => Architecture::Llama,
        "qwen2" => Architecture::Qwen2,
        "qwen3" => Architecture::Qwen3,
        other => {
            return Err(PolicyError::Unsupported {
                path: file.path().into(),
                key: "general.architecture".into(),
                value: other.into(),
                supported: "supported in GGUF: llama, qwen2, qwen3".into(),
            });
        }
    };
    let get = |key: &str| {
        let key = format!("{name}.{key}");
        (metadata.get(&key), key)
    };
    let optional_size = |key: &str| match get(key) {
        (None, _) => Ok(None),
        (Some(v), key) => match v.as_u64() {
            Some(n) if (1..=1 << 30).contains(&n) => Ok(Some(n as usize)),
            _ => Err(wrong(&key, "is not a positive whole number")),
        },
    };
    let size = |key: &str| optional_size(key)?.ok_or_else(|| wrong(&get(key).1, "is missing"));
    let positive = |key: &str| match get(key) {
        (None, _) => Ok(None),
        (Some(v), key) => match v.as_f64() {
            Some(f) if f.is_finite() && f > 0.0 => Ok(Some(shortest(f))),
            _ => Err(wrong(&key, "is not a positive number")),
        },
    };
    if get("expert_count").0.and_then(GgufValue::as_u64).is_some_and(|n| n > 0) {
        return Err(wrong(&get("expert_count").1, "is not 0: mixtures of experts are not supported"));
    }

    let num_heads = size("attention.head_count")?;
    let hidden_size = size("embedding_length")?;
    let head_dim = match optional_size("attention.key_length")? {
        Some(n) => n,
        None if hidden_size % num_heads == 0 => hidden_size / num_heads,
        None => return Err(wrong(&get("attention.head_count").1, "does not divide the embedding length")),
    };
    if optional_size("rope.dimension_count")?.is_some_and(|n| n != head_dim) {
        return Err(wrong(&get("rope.dimension_count").1, "differs from the head width: partial rotation"));
    }
    let num_kv_heads = optional_size("attention.head_count_kv")?.unwrap_or(num_heads);
    if num_heads % num_kv_heads != 0 || head_dim % 2 != 0 {
        return Err(wrong(
            &get("attention.head_count_kv").1,
            "does not divide the heads, or heads have an odd width",
        ));
    }
    let vocab_size = match file.tensors().get("token_embd.weight") {
        Some(t) if t.shape.len() == 2 => t.shape[0],
        _ => return Err(missing(file.path(), "token_embd.weight")),
    };
    let max_position_embeddings = size("context_length")?;
    let rope_theta = positive("rope.freq_base")?.unwrap_or(1e4);
    let factor = positive("rope.scaling.factor")?;
    let rope_scaling = match get("rope.scaling.type").0.and_then(GgufValue::as_str) {
        None | Some("none") if file.tensors().contains_key(ROPE_FREQS) => {
            let divisors = file.load(ROPE_FREQS)?;
            llama3_scaling(&divisors, rope_theta, head_dim).ok_or_else(|| {
                wrong(ROPE_FREQS, "does not follow the llama3 scaling: use the Hugging Face folder")
            })?
        }
        None | Some("none") => RopeScaling::None,
        Some("linear") => factor.map_or(RopeScaling::None, |factor| RopeScaling::Linear { factor }),
        Some(other) => {
            return Err(PolicyError::Unsupported {
                path: file.path().into(),
                key: get("rope.scaling.type").1,
                value: other.into(),
                supported: "supported in GGUF: none, linear, and llama3 as rope_freqs.weight".into(),
            });
        }
    };
    let token = |key: &str| {
        let id = metadata.get(key).and_then(GgufValue::as_u64).filter(|id| *id < vocab_size as u64);
        id.map(|id| id as u32)
    };
    let mut eos_token_ids: Vec<u32> = Vec::new();
    for key in ["tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id"] {
        eos_token_ids.extend(token(key).filter(|id| !eos_token_ids.contains(id)));
    }
    let tensors = file.tensors();
    Ok(ModelConfig {
        architecture,
        vocab_size,
        hidden_size,
        intermediate_size: size("feed_forward_length")?,
        num_layers: size("block_count")?,
        num_heads,
        num_kv_heads,
        head_dim,
        rms_norm_eps: positive("attention.layer_norm_rms_epsilon")?.unwrap_or(1e-6),
        rope_theta,
        rope_scaling,
        max_position_embeddings,
        attention_bias: tensors.contains_key("blk.0.attn_q.bias"),
        attention_output_bias: tensors.contains_key("blk.0.attn_output.bias"),
        qk_norm: architecture == Architecture::Qwen3,
        tie_word_embeddings: !tensors.contains_key("output.weight"),
        bos_token_id: token("tokenizer.ggml.bos_token_id"),
        eos_token_ids,
        pad_token_id: token("tokenizer.ggml.padding_token_id"),
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
    use crate::weights::{SafetensorsSource, check_weights};

    /// Largest error of the coarsest format in the files (Q4_1), as a fraction of the largest weight of the tensor.
    const QUANTISATION: f32 = 0.08;

    #[test]
    fn gguf_files_hold_the_tensors_of_their_hugging_face_folders() {
        for name in ["tiny-llama", "tiny-qwen2"] {
            let file = Arc::new(GgufFile::open(&golden(&format!("policy/{name}.gguf"))).unwrap());
            let (source, config) = GgufSource::new(file).unwrap();
            let folder = golden("models").join(name);
            let mut expected_config = ModelConfig::from_hf_file(&folder.join("config.json")).unwrap();
            expected_config.num_layers = 1;
            assert_eq!(config, expected_config);
            check_weights(&source, &config).unwrap();
            let expected = SafetensorsSource::open_folder(&folder).unwrap();
            for tensor in source.names() {
                let (a, b) = (source.load(&tensor).unwrap(), expected.load(&tensor).unwrap());
                assert_eq!(a.shape, b.shape, "{tensor}");
                let largest = b.data.iter().fold(0f32, |m, v| m.max(v.abs()));
                let exact = b.shape.len() == 1 || tensor.contains("q_proj");
                let tolerance = if exact { 0.0 } else { QUANTISATION * largest };
                for (x, y) in a.data.iter().zip(&b.data) {
                    assert!((x - y).abs() <= tolerance, "{name} {tensor}: {x} {y}");
                }
            }
        }
    }

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

    #[test]
    fn names_map_both_ways() {
        for (gguf, hf) in [
            ("blk.11.attn_q_norm.weight", "model.layers.11.self_attn.q_norm.weight"),
            ("blk.0.attn_v.bias", "model.layers.0.self_attn.v_proj.bias"),
            ("output.weight", "lm_head.weight"),
        ] {
            assert_eq!(to_hf(gguf).as_deref(), Some(hf));
            assert_eq!(from_hf(hf).as_deref(), Some(gguf));
        }
        assert_eq!(to_hf("blk.0.ffn_gate_inp.weight"), None);
    }
}

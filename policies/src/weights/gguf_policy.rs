//! A GGUF file seen as a Hugging Face model: tensor names, row order; its config by [`super::gguf_config`].

use std::path::Path;
use std::sync::Arc;

use super::check::{check_shapes, first_few, unused_tensors};
use super::gguf_config::{self, ROPE_FREQS};
use super::{GgufFile, HostTensor, WeightSource, missing};
use crate::config::{Architecture, ModelConfig};
use crate::error::PolicyError;

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
    /// An architecture other than llama, qwen2 and qwen3, a missing or senseless key, what the decoder does not compute,
    /// rotary divisors that no [`RopeScaling`](crate::RopeScaling) describes, and tensors that are missing, have
    /// another shape, or that no layer has: llama.cpp would compute with them.
    pub fn new(file: Arc<GgufFile>) -> Result<(Self, ModelConfig), PolicyError> {
        let config = gguf_config::read(&file)?;
        let interleaved =
            (config.architecture == Architecture::Llama).then_some((config.num_heads, config.num_kv_heads));
        let source = Self { file, interleaved };
        check_shapes(&source, &config)?;
        let mut foreign = unused_tensors(&source, &config);
        // Frequencies that old converters wrote, and that follow from the metadata.
        foreign.retain(|name| !name.ends_with(".attn_rot_embd.weight"));
        if !foreign.is_empty() {
            return Err(PolicyError::Unsupported {
                path: source.path().into(),
                key: "tensors".into(),
                value: first_few(&foreign),
                supported: format!("a {} model has none of this name", config.architecture.model_type()),
            });
        }
        Ok((source, config))
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

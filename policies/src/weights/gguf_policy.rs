//! A GGUF file seen as a Hugging Face model: tensor names, row order; its config by [`super::gguf_config`].

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use super::check::{check_shapes, first_few, unused_tensors};
use super::gguf_config::{self, ROPE_FREQS};
use super::gguf_families::{self, EXPERTS, LONG_ROPE};
use super::{GgufFile, HostTensor, WeightSource, missing};
use crate::config::ModelConfig;
use crate::config::keys::MAX_EXPERTS;
use crate::error::PolicyError;

/// Tensors of a GGUF file under Hugging Face names and in Hugging Face's row order.
#[derive(Debug)]
pub struct GgufSource {
    file: Arc<GgufFile>,
    /// q and k rows are stored interleaved, with the number of heads of each.
    interleaved: Option<(usize, usize)>,
    /// Factors of norms are stored with 1 added.
    plus_one: bool,
    /// Parts of a block: GGUF and Hugging Face.
    parts: Vec<(&'static str, &'static str)>,
    /// The experts' matrices that were read last, of which each is asked for on its own.
    experts: Mutex<Option<(String, Vec<f32>)>>,
}

impl GgufSource {
    /// Reads the config out of the metadata and prepares the tensors.
    ///
    /// # Errors
    /// An architecture that is not known, a missing or senseless key, what the decoder does not compute, rotary divisors
    /// that no [`RopeScaling`](crate::RopeScaling) describes, and tensors that are missing, have another shape, or that no
    /// layer has: llama.cpp would compute with them.
    pub fn new(file: Arc<GgufFile>) -> Result<(Self, ModelConfig), PolicyError> {
        let config = gguf_config::read(&file)?;
        let interleaved = config.architecture.family().gguf_interleaved;
        let source = Self {
            file,
            interleaved: interleaved.then_some((config.num_heads, config.num_kv_heads)),
            plus_one: config.shape.norm_plus_one,
            parts: gguf_families::parts(&config),
            experts: Mutex::default(),
        };
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

    /// The names of a stored tensor: several for one that holds the matrices of all experts.
    fn hf_names(&self, name: &str) -> Option<Vec<String>> {
        if let Some((_, hf)) = TOP.iter().find(|(gguf, _)| *gguf == name) {
            return Some(vec![(*hf).into()]);
        }
        let (layer, rest) = name.strip_prefix("blk.")?.split_once('.')?;
        let (part, suffix) = rest.rsplit_once('.')?;
        if let Some((_, hf)) = EXPERTS.iter().find(|(gguf, _)| *gguf == part) {
            let count = self.file.tensors().get(name)?.shape.first().copied()?;
            let name = |e| format!("model.layers.{layer}.mlp.experts.{e}.{hf}.{suffix}");
            // More than any model has, so that a file cannot ask for names without end.
            return (count as u64 <= MAX_EXPERTS).then(|| (0..count).map(name).collect());
        }
        let (_, hf) = self.parts.iter().find(|(gguf, _)| *gguf == part)?;
        Some(vec![format!("model.layers.{layer}.{hf}.{suffix}")])
    }

    /// The stored tensor of a name, and which expert's of it.
    fn stored(&self, name: &str) -> Option<(String, Option<usize>)> {
        if let Some((gguf, _)) = TOP.iter().find(|(_, hf)| *hf == name) {
            return Some(((*gguf).into(), None));
        }
        let (layer, rest) = name.strip_prefix("model.layers.")?.split_once('.')?;
        let (part, suffix) = rest.rsplit_once('.')?;
        if let Some(expert) = part.strip_prefix("mlp.experts.") {
            let (e, part) = expert.split_once('.')?;
            let (gguf, _) = EXPERTS.iter().find(|(_, hf)| *hf == part)?;
            return Some((format!("blk.{layer}.{gguf}.{suffix}"), Some(e.parse().ok()?)));
        }
        let (gguf, _) = self.parts.iter().find(|(_, hf)| *hf == part)?;
        Some((format!("blk.{layer}.{gguf}.{suffix}"), None))
    }

    /// One expert's matrix of a tensor that holds all.
    fn expert(&self, stored: &str, e: usize, size: usize) -> Result<Vec<f32>, PolicyError> {
        let mut last = self.experts.lock().unwrap_or_else(PoisonError::into_inner);
        if last.as_ref().is_none_or(|(name, _)| name != stored) {
            *last = Some((stored.to_owned(), self.file.load(stored)?));
        }
        let part = last.as_ref().and_then(|(_, values)| values.get(e * size..(e + 1) * size));
        part.map(<[f32]>::to_vec).ok_or_else(|| missing(self.path(), stored))
    }
}

impl WeightSource for GgufSource {
    fn path(&self) -> &Path {
        self.file.path()
    }

    fn names(&self) -> Vec<String> {
        let of_frequencies = |name: &str| name == ROPE_FREQS || LONG_ROPE.contains(&name);
        let mut names: Vec<_> = (self.file.tensors().keys())
            .filter(|name| !of_frequencies(name))
            .flat_map(|name| self.hf_names(name).unwrap_or_else(|| vec![name.clone()]))
            .collect();
        names.sort();
        names
    }

    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        let (stored, expert) = self.stored(name)?;
        let shape = self.file.tensors().get(&stored)?.shape.clone();
        match expert {
            None => Some(shape),
            Some(e) => (shape.len() == 3 && e < shape[0]).then(|| shape[1..].to_vec()),
        }
    }

    fn load(&self, name: &str) -> Result<HostTensor, PolicyError> {
        let ((stored, expert), shape) =
            self.stored(name).zip(self.shape(name)).ok_or_else(|| missing(self.path(), name))?;
        let mut data = match expert {
            Some(e) => self.expert(&stored, e, shape.iter().product())?,
            None => self.file.load(&stored)?,
        };
        if self.plus_one && name.ends_with("norm.weight") {
            data.iter_mut().for_each(|w| *w -= 1.0);
        }
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

/// Tensors outside the blocks: GGUF and Hugging Face.
const TOP: [(&str, &str); 3] = [
    ("token_embd.weight", "model.embed_tokens.weight"),
    ("output_norm.weight", "model.norm.weight"),
    ("output.weight", "lm_head.weight"),
];

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
        let file = Arc::new(GgufFile::open(&golden("policy/tiny-qwen2.gguf")).unwrap());
        let source = GgufSource::new(file).unwrap().0;
        for (gguf, hf) in [
            ("blk.11.attn_q_norm.weight", "model.layers.11.self_attn.q_norm.weight"),
            ("blk.0.attn_v.bias", "model.layers.0.self_attn.v_proj.bias"),
            ("output.weight", "lm_head.weight"),
        ] {
            assert_eq!(source.hf_names(gguf).unwrap(), [hf]);
            assert_eq!(source.stored(hf), Some((gguf.to_owned(), None)));
        }
        assert_eq!(source.hf_names("blk.0.ffn_gate_inp.weight"), None);
        let expert = source.stored("model.layers.3.mlp.experts.17.up_proj.weight");
        assert_eq!(expert, Some(("blk.3.ffn_up_exps.weight".to_owned(), Some(17))));
    }
}

//! Where a policy's weights come from: named tensors as f32, whatever the file format.
//!
//! Names and orientation are those of Hugging Face: a linear layer's weight is `[out, in]`, row-major.

mod dequant;
mod gguf;
mod gguf_policy;
mod safetensors;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

pub use gguf::{GgufFile, GgufTensor, GgufType, GgufValue};
pub use gguf_policy::GgufSource;
pub use safetensors::SafetensorsSource;
pub(crate) use safetensors::read_index;

use crate::config::ModelConfig;
use crate::error::PolicyError;

/// A tensor in main memory.
#[derive(Debug, Clone, PartialEq)]
pub struct HostTensor {
    /// Sizes, outermost first.
    pub shape: Vec<usize>,
    /// Elements, row-major; as many as the product of `shape`.
    pub data: Vec<f32>,
}

/// Named tensors that are read one at a time.
pub trait WeightSource {
    /// File or folder, for messages.
    fn path(&self) -> &Path;

    /// Hugging Face names of all tensors, sorted.
    fn names(&self) -> Vec<String>;

    /// Whether there is a tensor of this name.
    fn contains(&self, name: &str) -> bool {
        self.shape(name).is_some()
    }

    /// Shape of a tensor without reading its elements.
    fn shape(&self, name: &str) -> Option<Vec<usize>>;

    /// Reads a tensor and converts it to f32.
    ///
    /// # Errors
    /// No such tensor, a number format that cannot be read, or damaged data.
    fn load(&self, name: &str) -> Result<HostTensor, PolicyError>;
}

/// Tensors held in memory: freshly initialised or about to be saved.
#[derive(Debug, Clone, Default)]
pub struct MemorySource {
    tensors: BTreeMap<String, HostTensor>,
}

impl MemorySource {
    /// No tensors.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds or replaces a tensor.
    ///
    /// # Panics
    /// If the number of elements is not the product of the shape.
    pub fn insert(&mut self, name: impl Into<String>, tensor: HostTensor) {
        let name = name.into();
        let elements: usize = tensor.shape.iter().product();
        assert_eq!(elements, tensor.data.len(), "tensor {name} of shape {:?}", tensor.shape);
        self.tensors.insert(name, tensor);
    }
}

impl WeightSource for MemorySource {
    fn path(&self) -> &Path {
        Path::new("(memory)")
    }

    fn names(&self) -> Vec<String> {
        self.tensors.keys().cloned().collect()
    }

    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        self.tensors.get(name).map(|t| t.shape.clone())
    }

    fn load(&self, name: &str) -> Result<HostTensor, PolicyError> {
        self.tensors.get(name).cloned().ok_or_else(|| missing(self.path(), name))
    }
}

fn missing(path: &Path, name: &str) -> PolicyError {
    PolicyError::MissingTensor { path: path.into(), name: name.into() }
}

/// Names and shapes of the tensors that a model of this config has, in the order of the forward pass.
///
/// # Shapes
/// D hidden, F intermediate, V vocabulary, H and K heads of queries and keys, E head width: embedding and head `[V, D]`,
/// `q_proj` `[H·E, D]`, `k_proj` and `v_proj` `[K·E, D]`, `o_proj` `[D, H·E]`, their biases as long as the first
/// size, `q_norm` and `k_norm` `[E]`, `gate_proj` and `up_proj` `[F, D]`, `down_proj` `[D, F]`, norms `[D]`.
/// A tied head is not listed.
pub fn expected_tensors(config: &ModelConfig) -> Vec<(String, Vec<usize>)> {
    let (hidden, mlp) = (config.hidden_size, config.intermediate_size);
    let queries = config.num_heads * config.head_dim;
    let keys = config.num_kv_heads * config.head_dim;
    let mut tensors = vec![("model.embed_tokens.weight".to_owned(), vec![config.vocab_size, hidden])];
    for layer in 0..config.num_layers {
        let mut add = |part: &str, shape: &[usize]| {
            tensors.push((format!("model.layers.{layer}.{part}"), shape.to_vec()));
        };
        add("input_layernorm.weight", &[hidden]);
        for (part, rows) in [("q_proj", queries), ("k_proj", keys), ("v_proj", keys)] {
            add(&format!("self_attn.{part}.weight"), &[rows, hidden]);
            if config.attention_bias {
                add(&format!("self_attn.{part}.bias"), &[rows]);
            }
        }
        if config.qk_norm {
            add("self_attn.q_norm.weight", &[config.head_dim]);
            add("self_attn.k_norm.weight", &[config.head_dim]);
        }
        add("self_attn.o_proj.weight", &[hidden, queries]);
        if config.attention_output_bias {
            add("self_attn.o_proj.bias", &[hidden]);
        }
        add("post_attention_layernorm.weight", &[hidden]);
        add("mlp.gate_proj.weight", &[mlp, hidden]);
        add("mlp.up_proj.weight", &[mlp, hidden]);
        add("mlp.down_proj.weight", &[hidden, mlp]);
    }
    tensors.push(("model.norm.weight".to_owned(), vec![hidden]));
    if !config.tie_word_embeddings {
        tensors.push(("lm_head.weight".to_owned(), vec![config.vocab_size, hidden]));
    }
    tensors
}

/// Compares a source with what the config implies, without reading elements. Tensors that no layer uses are logged
/// as a warning.
///
/// # Errors
/// The first missing tensor, or the first of another shape.
pub fn check_weights(source: &dyn WeightSource, config: &ModelConfig) -> Result<(), PolicyError> {
    let mut unused: BTreeSet<String> = source.names().into_iter().collect();
    for (name, expected) in expected_tensors(config) {
        let found = source.shape(&name).ok_or_else(|| missing(source.path(), &name))?;
        if found != expected {
            return Err(PolicyError::TensorShape { path: source.path().into(), name, expected, found });
        }
        unused.remove(&name);
    }
    // Redundant copies that some exporters write: the tied head, and frequencies that follow from the config.
    unused.retain(|name| {
        !(name.ends_with(".rotary_emb.inv_freq") || config.tie_word_embeddings && name == "lm_head.weight")
    });
    if !unused.is_empty() {
        let shown: Vec<_> = unused.iter().take(5).map(String::as_str).collect();
        tracing::warn!(
            "{}: {} tensors are not part of a {} model and are ignored: {}{}",
            source.path().display(),
            unused.len(),
            config.architecture.model_type(),
            shown.join(", "),
            if unused.len() > shown.len() { ", …" } else { "" }
        );
    }
    Ok(())
}

/// Maps a file into memory.
fn map_file(path: &Path) -> Result<memmap2::Mmap, PolicyError> {
    let file = std::fs::File::open(path).map_err(PolicyError::read(path))?;
    let metadata = file.metadata().map_err(PolicyError::read(path))?;
    if !metadata.is_file() {
        return Err(PolicyError::corrupt(path, "it is not a regular file"));
    }
    if metadata.len() == 0 {
        return Err(PolicyError::corrupt(path, "it is empty"));
    }
    // SAFETY: the map is only read. Weight files are replaced by renaming, never written in place, so the bytes do not
    // change under it unless another program truncates the file, which every reader of mapped weights has to exclude.
    unsafe { memmap2::Mmap::map(&file) }.map_err(PolicyError::read(path))
}

/// Elements of a shape, or `None` if that overflows.
fn element_count(shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d))
}

/// `folder/file` of a name from an index file, refusing names that leave the folder.
fn inside(folder: &Path, file: &str) -> Option<PathBuf> {
    let plain = Path::new(file).components().all(|c| matches!(c, std::path::Component::Normal(_)));
    (plain && !file.is_empty()).then(|| folder.join(file))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden;

    fn tiny(name: &str) -> (ModelConfig, MemorySource) {
        let folder = golden("models").join(name);
        let config = ModelConfig::from_hf_file(&folder.join("config.json")).unwrap();
        let source = SafetensorsSource::open_folder(&folder).unwrap();
        let mut copy = MemorySource::new();
        for name in source.names() {
            copy.insert(name.clone(), source.load(&name).unwrap());
        }
        (config, copy)
    }

    #[test]
    fn golden_models_have_exactly_the_expected_tensors() {
        for name in ["tiny-llama", "tiny-qwen2", "tiny-qwen3"] {
            let (config, source) = tiny(name);
            check_weights(&source, &config).unwrap();
            let mut expected: Vec<_> = expected_tensors(&config).into_iter().map(|(n, _)| n).collect();
            expected.sort();
            assert_eq!(source.names(), expected, "{name}");
        }
    }

    #[test]
    fn a_missing_or_misshapen_tensor_is_named() {
        let (mut config, mut source) = tiny("tiny-llama");
        config.intermediate_size = 100;
        let message = check_weights(&source, &config).unwrap_err().to_string();
        assert!(message.contains("`model.layers.0.mlp.gate_proj.weight` has shape [144, 64]"), "{message}");
        assert!(message.contains("implies [100, 64]"), "{message}");
        config.intermediate_size = 144;
        source.tensors.remove("model.layers.2.self_attn.v_proj.weight");
        let message = check_weights(&source, &config).unwrap_err().to_string();
        assert!(message.contains("no tensor `model.layers.2.self_attn.v_proj.weight`"), "{message}");
        config.num_layers = 2;
        check_weights(&source, &config).expect("tensors that no layer uses are only warned about");
    }
}

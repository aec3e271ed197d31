//! Where a policy's weights come from: named tensors as f32, whatever the file format.
//!
//! Names and orientation are those of Hugging Face: a linear layer's weight is `[out, in]`, row-major.

mod check;
mod dequant;
mod gguf;
mod gguf_config;
mod gguf_families;
mod gguf_policy;
mod safetensors;

use std::collections::BTreeMap;
use std::path::Path;

pub(crate) use check::{check_shapes, untie_if_different};
pub use check::{check_weights, expected_tensors};
pub use gguf::{GgufArray, GgufFile, GgufTensor, GgufType, GgufValue};
pub use gguf_policy::GgufSource;
pub use safetensors::SafetensorsSource;
pub(crate) use safetensors::read_index;

use rayon::prelude::*;

use crate::error::PolicyError;
use crate::file::WeightFile;

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

/// Elements that are read and converted together.
const CHUNK: usize = 1 << 16;

/// Reads blocks of `block` elements in `block_bytes` bytes each and lets `f` expand runs of them, in parallel.
fn expand(
    file: &WeightFile,
    offset: u64,
    block: usize,
    block_bytes: usize,
    out: &mut [f32],
    f: impl Fn(&[u8], &mut [f32]) + Sync,
) -> Result<(), PolicyError> {
    out.par_chunks_mut(CHUNK).enumerate().try_for_each_init(Vec::new, |buffer, (i, out)| {
        buffer.resize(out.len() / block * block_bytes, 0);
        file.read_at(offset + (i * CHUNK / block * block_bytes) as u64, buffer)?;
        f(buffer, out);
        Ok(())
    })
}

/// Index of the first value that is NaN or infinite.
pub(crate) fn first_not_finite(values: &[f32]) -> Option<usize> {
    let broken = |chunk: &[f32]| chunk.iter().any(|v| !v.is_finite());
    let chunk = values.par_chunks(CHUNK).position_first(broken)?;
    let within = values[chunk * CHUNK..].iter().position(|v| !v.is_finite())?;
    Some(chunk * CHUNK + within)
}

/// Elements of a shape, or `None` if that overflows.
fn element_count(shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d))
}

#[cfg(test)]
mod tests {
    use super::check::tests::tiny;
    use super::*;
    use crate::decoder::Decoder;
    use crate::golden;

    #[test]
    fn broken_weights_are_named() {
        let (config, mut source) = tiny("tiny-llama");
        for value in [f32::NAN, f32::INFINITY] {
            let mut tensor = source.load("model.layers.1.mlp.down_proj.weight").unwrap();
            tensor.data[77] = value;
            source.insert("model.layers.1.mlp.down_proj.weight", tensor);
            let load = Decoder::load(config.clone(), &source, &burn::tensor::Device::flex());
            let message = load.unwrap_err().to_string();
            let expected = format!("`model.layers.1.mlp.down_proj.weight` holds {value} at element 77");
            assert!(message.contains(&expected), "{message}");
        }
        let mut long = vec![0f32; 3 * CHUNK + 5];
        assert_eq!(first_not_finite(&long), None);
        (long[2 * CHUNK + 1], long[3 * CHUNK]) = (f32::NAN, f32::NAN);
        assert_eq!(first_not_finite(&long), Some(2 * CHUNK + 1));
    }

    #[test]
    fn an_update_that_breaks_a_parameter_is_found() {
        let (config, source) = tiny("tiny-llama");
        let mut decoder = Decoder::load(config, &source, &burn::tensor::Device::flex()).unwrap();
        assert_eq!(decoder.first_not_finite(), None);
        let mut values = decoder.param_values(4);
        values[3] = f32::NEG_INFINITY;
        decoder.set_param(4, values);
        let name = decoder.layout().specs[4].name.clone();
        assert_eq!(decoder.first_not_finite(), Some(name.as_str()));
    }

    #[test]
    fn a_file_that_shrinks_after_it_was_opened_is_an_error() {
        for gguf in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let (from, name) = match gguf {
                true => ("policy/tiny-llama.gguf", "model.gguf"),
                false => ("models/tiny-llama/model.safetensors", "model.safetensors"),
            };
            let path = dir.path().join(name);
            std::fs::copy(golden(from), &path).unwrap();
            let source: Box<dyn WeightSource> = match gguf {
                true => {
                    let file = GgufFile::open(&path).unwrap();
                    Box::new(GgufSource::new(std::sync::Arc::new(file)).unwrap().0)
                }
                false => Box::new(SafetensorsSource::open_file(&path).unwrap()),
            };
            source.names().iter().for_each(|name| drop(source.load(name).unwrap()));
            let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
            file.set_len(5000).unwrap();
            let failed = source.names().iter().filter_map(|name| source.load(name).err()).last();
            let message = failed.unwrap().to_string();
            assert!(message.contains(name) && message.contains("truncated while it was read"), "{message}");
        }
    }
}

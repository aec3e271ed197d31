//! Named tensors in main memory as f32, whatever they are read from.
//!
//! Names and orientation are those of Hugging Face: a linear layer's weight is `[out, in]`, row-major.
use crate::error::PolicyError;
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::path::Path;

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
    pub(crate) tensors: BTreeMap<String, HostTensor>,
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

pub(crate) fn missing(path: &Path, name: &str) -> PolicyError {
    PolicyError::MissingTensor { path: path.into(), name: name.into() }
}

/// Elements that are looked at together.
const CHUNK: usize = 1 << 16;

/// Index of the first value that is NaN or infinite.
pub(crate) fn first_not_finite(values: &[f32]) -> Option<usize> {
    let broken = |chunk: &[f32]| chunk.iter().any(|v| !v.is_finite());
    let chunk = values.par_chunks(CHUNK).position_first(broken)?;
    let within = values[chunk * CHUNK..].iter().position(|v| !v.is_finite())?;
    Some(chunk * CHUNK + within)
}

/// Elements of a shape, or `None` if that overflows.
pub(crate) fn element_count(shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_broken_value_of_many_is_found() {
        let mut long = vec![0f32; 3 * CHUNK + 5];
        assert_eq!(first_not_finite(&long), None);
        (long[2 * CHUNK + 1], long[3 * CHUNK]) = (f32::NAN, f32::NAN);
        assert_eq!(first_not_finite(&long), Some(2 * CHUNK + 1));
    }
}

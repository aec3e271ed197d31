//! A decoder as named tensors.
use super::Decoder;
use crate::error::PolicyError;
use crate::tensors::{HostTensor, WeightSource};
use burn::backend::Flex;
use std::path::Path;

/// The weights under their Hugging Face names, as they are saved.
impl WeightSource for Decoder {
    fn path(&self) -> &Path {
        Path::new("the policy in memory")
    }

    fn names(&self) -> Vec<String> {
        self.layout.specs.iter().flat_map(|s| s.hf_names().map(str::to_owned)).collect()
    }

    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        self.load(name).ok().map(|t| t.shape)
    }

    fn load(&self, name: &str) -> Result<HostTensor, PolicyError> {
        let missing = || PolicyError::MissingTensor { path: self.path().into(), name: name.into() };
        let spec =
            self.layout.specs.iter().position(|s| s.hf_names().any(|n| n == name)).ok_or_else(missing)?;
        let part = |values: &[f32]| self.layout.specs[spec].hf_tensor(name, values).ok_or_else(missing);
        // Only what is asked for is copied.
        match self.params[spec].clone().try_into_primitive::<Flex>() {
            Ok(tensor) if self.narrow_matrix(spec).is_none() => part(tensor.storage::<f32>()),
            _ => part(&self.param_values(spec)),
        }
    }
}

//! A base in fewer bits below an adapter.
use super::{Compute, Decoder};
use crate::error::PolicyError;
use crate::host::narrow::{BaseDtype, Narrow};
use crate::lora::lora_error;
use burn::tensor::Tensor;
use std::sync::Arc;

impl Decoder {
    /// The decoder with the matrices of its base rounded and kept in a type, where they take less memory. Norms, biases and
    /// adapters stay f32. Products read the matrices back and pack them anew in every pass, because packed ones that were
    /// kept would take the memory that is saved.
    ///
    /// # Errors
    /// A decoder without adapters, which has no base, or off the host.
    pub fn with_base_dtype(mut self, dtype: BaseDtype) -> Result<Self, PolicyError> {
        if dtype == BaseDtype::F32 {
            return Ok(self);
        }
        if self.lora.is_none() {
            return Err(lora_error("a base in fewer bits needs an adapter that is trained".into()));
        }
        if self.compute() != Compute::Host {
            return Err(lora_error("a base in fewer bits is computed on the CPU only so far".into()));
        }
        let model = &self.layout.model;
        let precise = |i: usize, name: &str| {
            i == model.embed.table || i == model.head.weight || name.ends_with(".router")
        };
        let mut narrow = Vec::with_capacity(self.base_params);
        for (i, spec) in self.layout.specs[..self.base_params].iter().enumerate() {
            if spec.is_vector() || spec.is_of_tower() || self.trained.len(i) > 0 {
                narrow.push(None);
                continue;
            }
            let (values, columns) = (self.param_values(i), spec.shape[1]);
            narrow.push(Some(Arc::new(match dtype {
                BaseDtype::Int8 if !precise(i, &spec.name) => Narrow::int8(&values, columns),
                BaseDtype::F32 | BaseDtype::Bf16 | BaseDtype::Int8 => Narrow::bf16(&values, columns),
            })));
            // The f32 values go, one matrix at a time.
            self.params[i] = Tensor::zeros([1, 1], &self.device);
        }
        let kept = |i: usize| self.frozen_panel(i).filter(|_| narrow.get(i).is_none_or(Option::is_none));
        self.frozen = Arc::new((0..self.frozen.len()).map(kept).collect());
        (self.narrow, self.packed) = (Arc::new(narrow), Arc::default());
        Ok(self)
    }

    /// A matrix that lies in fewer bits.
    pub(super) fn narrow_matrix(&self, param: usize) -> Option<&Narrow> {
        self.narrow.get(param)?.as_deref()
    }
}

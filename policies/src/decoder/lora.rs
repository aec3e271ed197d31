//! A decoder with adapters: only they are trained, the base is shared and stays as it is.
use super::Decoder;
use crate::error::PolicyError;
use crate::host::gemm::{Mat, Operands, Write, product};
use crate::host::lora::Dropout;
use crate::lora::{LoraSettings, lora_error};
use crate::spec::ParamSpec;
use crate::trained::Trained;
use burn::tensor::{Tensor, TensorData};
use std::sync::Arc;

impl Decoder {
    /// The decoder with adapters, whose values `values(parameter, spec)` gives, row-major.
    ///
    /// # Errors
    /// Settings that make no sense or name no layer, a decoder that has adapters, errors of `values`.
    pub fn with_lora(
        mut self,
        settings: LoraSettings,
        mut values: impl FnMut(usize, &ParamSpec) -> Result<Vec<f32>, PolicyError>,
    ) -> Result<Self, PolicyError> {
        if self.lora.is_some() {
            return Err(lora_error("the policy has one already: merge that first (rlvr merge)".into()));
        }
        let layout = settings.extend(&self.layout)?;
        for (i, spec) in layout.specs.iter().enumerate().skip(self.params.len()) {
            let data = TensorData::new(values(i, spec)?, spec.shape);
            self.params.push(Tensor::from_data(data, &self.device));
        }
        if let Some(kernels) = &mut self.kernels {
            kernels.extend(&layout, &mut self.params);
        }
        let base = self.layout.specs.len();
        (self.layout, self.lora) = (Arc::new(layout), Some(Arc::new(settings)));
        Ok(self.with_trained(|i, _| i >= base))
    }

    /// The decoder with adapters that change nothing yet, as PEFT begins them: B zero, A uniform in ±1/√in (He's rule with
    /// a = √5). `uniform(parameter, element)` gives numbers in [0, 1).
    ///
    /// # Errors
    /// As [`Self::with_lora`]; a pattern of ranks or alphas that no adapter has, which files of others may have.
    pub fn with_new_lora(
        self,
        settings: LoraSettings,
        uniform: impl Fn(usize, usize) -> f32,
    ) -> Result<Self, PolicyError> {
        settings.patterns_found(&settings.extend(&self.layout)?)?;
        self.with_lora(settings, |i, spec| {
            let [rows, columns] = spec.shape;
            let bound = 1.0 / (columns as f32).sqrt();
            let is_a = spec.name.ends_with(LORA_A);
            let value = |j| if is_a { bound * (2.0 * uniform(i, j) - 1.0) } else { 0.0 };
            Ok((0..rows * columns).map(value).collect())
        })
    }

    /// What its adapters are; none without.
    pub fn lora(&self) -> Option<&LoraSettings> {
        self.lora.as_deref()
    }

    /// Number of parameters that are not of adapters; they come first.
    pub fn base_params(&self) -> usize {
        self.base_params
    }

    /// The base, which shares its weights with this decoder: no copy is made.
    #[must_use]
    pub fn without_lora(&self) -> Self {
        if self.lora.is_none() {
            return self.clone();
        }
        let layout = Arc::new(self.config.layout());
        let params = self.params[..layout.specs.len()].to_vec();
        let trained = Arc::new(Trained::all(&layout));
        Self { layout, params, trained, lora: None, packed: Arc::default(), ..self.clone() }
    }

    /// The decoder without adapters that computes the same: `W + s · B A`, in f32.
    #[must_use]
    pub fn merged(&self) -> Self {
        let mut merged = Self { frozen: Arc::default(), ..self.without_lora() };
        for (weight, adapter) in self.layout.adapters.iter().enumerate() {
            let Some(adapter) = adapter else { continue };
            let (mut values, a) = (self.param_values(weight), self.param_values(adapter.a));
            let inside = self.layout.specs[weight].shape[1];
            for part in &adapter.parts {
                let rank = part.ranks.len();
                let b: Vec<f32> = self.param_values(part.b).iter().map(|b| part.scale * b).collect();
                let a = &a[part.ranks.start * inside..part.ranks.end * inside];
                let rows = &mut values[part.out.start * inside..part.out.end * inside];
                let sizes = [part.out.len(), inside, rank];
                product(Operands::F32, sizes, Mat::rows(&b, rank), Mat::rows(a, inside), rows, Write::Add);
            }
            merged.set_param(weight, values);
        }
        merged
    }

    /// The decoder for a supervised pass: its adapters do not see the share of their inputs that their dropout says, which
    /// `key` chooses. Layers that are one here (queries, keys and values) miss the same inputs. Without dropout the same
    /// decoder.
    #[must_use]
    pub fn dropping(&self, key: u64) -> Self {
        let share = self.lora().map_or(0.0, |lora| lora.dropout as f32);
        Self { dropout: (share > 0.0).then_some(Dropout { share, key }), ..self.clone() }
    }
}

/// End of the names of the parameters A.
const LORA_A: &str = ".lora_a";

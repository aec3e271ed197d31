//! A decoder with new parameters: a tower from random weights in front of a text that is there.
use super::{Compute, Decoder};
use crate::config::ModelConfig;
use crate::spec::ParamSpec;
use rayon::prelude::*;

impl Decoder {
    /// Whether its weights lie in host memory.
    pub(crate) fn is_on_host(&self) -> bool {
        self.compute() == Compute::Host
    }

    /// The decoder of `config`, which has a tower and otherwise the parameters of this one: they stay as they are, those of the
    /// tower are drawn. Rows of embedding and head that are new, and those of the tokens `fresh`, are the mean of the first
    /// `known` ones.
    pub(crate) fn with_tower(
        &self,
        config: ModelConfig,
        (known, fresh): (usize, &[u32]),
        normal: impl Fn(usize, usize) -> f32 + Sync,
    ) -> Self {
        let layout = config.layout();
        let value = |(i, spec): (usize, &ParamSpec)| {
            let old = self.layout.specs.iter().position(|old| old.name == spec.name);
            let Some(values) = old.map(|old| self.param_values(old)) else {
                return drawn(spec, |element| normal(i, element));
            };
            match spec.name.as_str() {
                "embed" | "head" => with_rows(values, spec.shape, (known, fresh)),
                _ => values,
            }
        };
        let values = layout.specs.par_iter().enumerate().map(value).collect();
        let device = self.device.clone();
        Self { recompute: self.recompute, ..Self::from_host(config, layout, values, &device) }
    }
}

/// A matrix with more rows.
fn with_rows(mut values: Vec<f32>, [rows, width]: [usize; 2], (known, fresh): (usize, &[u32])) -> Vec<f32> {
    let mut mean = vec![0f64; width];
    for row in values.chunks_exact(width).take(known) {
        mean.iter_mut().zip(row).for_each(|(sum, v)| *sum += f64::from(*v));
    }
    let mean: Vec<f32> = mean.iter().map(|sum| (sum / known.max(1) as f64) as f32).collect();
    let before = values.len() / width;
    values.resize(rows * width, 0.0);
    for row in fresh.iter().map(|id| *id as usize).chain(before..rows) {
        values[row * width..(row + 1) * width].copy_from_slice(&mean);
    }
    values
}

/// A parameter of a tower.
fn drawn(spec: &ParamSpec, normal: impl Fn(usize) -> f32) -> Vec<f32> {
    let n = spec.shape[0] * spec.shape[1];
    if spec.is_vector() {
        return vec![if spec.name.ends_with("bias") { 0.0 } else { 1.0 }; n];
    }
    let std = match spec.name.ends_with(".positions") {
        true => 0.02,
        false => 1.0 / (3.0 * spec.shape[1] as f32).sqrt(),
    };
    (0..n).map(|element| std * normal(element)).collect()
}

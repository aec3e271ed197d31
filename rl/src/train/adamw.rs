//! AdamW (arXiv:1711.05101, algorithm 2) with f32 state and gradient clipping by the global norm.
//!
//! Same arithmetic as `torch.optim.AdamW`: decoupled decay `p ← p·(1 − lr·wd)`, then
//! `p ← p − lr/(1 − β₁ᵗ) · m / (√v/√(1 − β₂ᵗ) + ε)`. Weight decay, if any, applies to every parameter.
use crate::config::OptimConfig;
use crate::files::tensors::NamedTensor;
use burn::tensor::Tensor;
use rayon::prelude::*;
use rlvr_policies::decoder::{Compute, Decoder};
use rlvr_policies::gradients::Gradients;
use rlvr_policies::model::update::AdamWStep;
use rlvr_policies::spec::ParamSpec;
use std::sync::Arc;

/// Settings of [`AdamW`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamWConfig {
    /// β₁ and β₂, in [0, 1).
    pub betas: [f64; 2],
    /// ε, added to the root of the second moment.
    pub eps: f64,
    /// Decoupled weight decay, a step and unit of learning rate.
    pub weight_decay: f64,
    /// Gradients are scaled so that their global norm is at most this; 0 or less turns clipping off.
    pub max_grad_norm: f64,
}

impl From<&OptimConfig> for AdamWConfig {
    fn from(c: &OptimConfig) -> Self {
        Self { betas: c.betas, eps: c.eps, weight_decay: c.weight_decay, max_grad_norm: c.max_grad_norm }
    }
}

/// First and second moments, in the order of the decoder's parameters; none for those that are not trained. Those on the
/// host are shared with checkpoints that are being written, and copied if they change before that is done.
#[derive(Debug, Clone)]
enum Moments {
    Host(Vec<[Arc<Vec<f32>>; 2]>),
    Device(Vec<Option<[Tensor<2>; 2]>>),
}

/// AdamW and its state.
#[derive(Debug, Clone)]
pub struct AdamW {
    config: AdamWConfig,
    steps: u64,
    moments: Moments,
}

/// Numbers of an update that are NaN or infinite: training cannot go on.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum NotFinite {
    /// Gradients; nothing has changed.
    #[error("the gradient norm is {norm}; nothing was changed: lower the learning rate")]
    Gradients {
        /// Global norm before clipping.
        norm: f64,
    },
    /// Weights after the update.
    #[error(
        "the update made parameter {name} NaN or infinite; nothing of it is saved: lower the learning rate"
    )]
    Weights {
        /// The first such parameter.
        name: String,
    },
}

/// Elements that one task updates.
const BLOCK: usize = 1 << 14;

impl AdamW {
    /// Fresh state for a decoder.
    pub fn new(config: AdamWConfig, decoder: &Decoder) -> Self {
        let specs = &decoder.layout().specs;
        let moments = match decoder.compute() {
            Compute::Host => {
                let size =
                    |(s, trained): (&ParamSpec, &bool)| if *trained { s.shape[0] * s.shape[1] } else { 0 };
                let sizes = specs.iter().zip(decoder.trained()).map(size);
                Moments::Host(sizes.map(|n| [(); 2].map(|()| vec![0.0; n].into())).collect())
            }
            Compute::Device => {
                let zeros = |(s, trained): (&ParamSpec, &bool)| {
                    trained.then(|| [(); 2].map(|()| Tensor::zeros(s.shape, decoder.device())))
                };
                Moments::Device(specs.iter().zip(decoder.trained()).map(zeros).collect())
            }
        };
        Self { config, steps: 0, moments }
    }

    /// Updates done.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// One update at learning rate `lr`. Returns the global gradient norm before clipping.
    ///
    /// # Errors
    /// Gradients that are not finite, or whose squares are not: nothing has changed. Weights that are not finite after
    /// the update: they are lost.
    pub fn step(&mut self, decoder: &mut Decoder, grads: &Gradients, lr: f64) -> Result<f64, NotFinite> {
        let norm = grads.global_norm();
        let c = self.config;
        let clip = if c.max_grad_norm > 0.0 { (c.max_grad_norm / (norm + 1e-6)).min(1.0) } else { 1.0 };
        // The second moment holds squares, and would stay infinite.
        let finite = norm.is_finite() && (norm * clip).powi(2) <= f64::from(f32::MAX);
        if !finite {
            return Err(NotFinite::Gradients { norm });
        }
        self.steps += 1;
        let correction = c.betas.map(|b| 1.0 - b.powf(self.steps as f64));
        match (&mut self.moments, grads) {
            (Moments::Host(moments), Gradients::Host(grads)) => {
                let k = Coefficients::new(&c, lr, clip, correction);
                decoder.update_on_host(|i, _, p| {
                    let [m, v] = moments[i].each_mut().map(Arc::make_mut);
                    (p.par_chunks_mut(BLOCK))
                        .zip(m.par_chunks_mut(BLOCK))
                        .zip(v.par_chunks_mut(BLOCK))
                        .zip(grads[i].par_chunks(BLOCK))
                        .for_each(|(((p, m), v), g)| k.update(p, m, v, g));
                });
            }
            (Moments::Device(moments), Gradients::Device(grads)) => {
                let k = Coefficients::new(&c, lr, clip, correction);
                decoder.adamw_on_device(moments, grads, k.on_device());
            }
            (Moments::Host(_), Gradients::Device(_)) | (Moments::Device(_), Gradients::Host(_)) => {
                unreachable!("gradients and moments come from the same decoder")
            }
        }
        match decoder.first_not_finite() {
            Some(name) => Err(NotFinite::Weights { name: name.to_owned() }),
            None => Ok(norm),
        }
    }

    /// The moments as named tensors, `m.<param>` and `v.<param>`; further steps do not change them. From a device they
    /// are fetched.
    ///
    /// # Panics
    /// If the device fails.
    pub fn state(&self, decoder: &Decoder) -> Vec<NamedTensor> {
        let mut out = Vec::new();
        for (i, spec) in trained(decoder) {
            for (j, kind) in ["m", "v"].into_iter().enumerate() {
                let name = format!("{kind}.{}", spec.name);
                out.push(match &self.moments {
                    Moments::Host(m) => NamedTensor::shared(name, &spec.shape, m[i][j].clone()),
                    Moments::Device(m) => {
                        let values = m[i].as_ref().map_or_else(Vec::new, |m| {
                            let values = m[j].clone().into_data().convert::<f32>().try_to_vec();
                            values.unwrap_or_else(|e| panic!("{name} cannot be read: {e:?}"))
                        });
                        NamedTensor::shared(name, &spec.shape, Arc::new(values))
                    }
                });
            }
        }
        out
    }

    /// Restores state written by [`Self::state`].
    ///
    /// # Errors
    /// The name of a moment that is missing or has another size.
    pub fn restore(
        &mut self,
        decoder: &Decoder,
        steps: u64,
        mut take: impl FnMut(&str) -> Option<Vec<f32>>,
    ) -> Result<(), String> {
        for (i, spec) in trained(decoder) {
            for (j, kind) in ["m", "v"].into_iter().enumerate() {
                let name = format!("{kind}.{}", spec.name);
                let values = take(&name).filter(|v| v.len() == spec.shape[0] * spec.shape[1]).ok_or(name)?;
                match &mut self.moments {
                    Moments::Host(m) => m[i][j] = values.into(),
                    Moments::Device(m) => {
                        let data = burn::tensor::TensorData::new(values, spec.shape);
                        let moments = m[i].iter_mut().flat_map(|m| m.get_mut(j));
                        moments.for_each(|m| *m = Tensor::from_data(data.clone(), decoder.device()));
                    }
                }
            }
        }
        self.steps = steps;
        Ok(())
    }
}

/// The parameters that are trained, with their numbers.
fn trained(decoder: &Decoder) -> impl Iterator<Item = (usize, &ParamSpec)> {
    decoder.layout().specs.iter().enumerate().filter(|(i, _)| decoder.trained()[*i])
}

/// The numbers of one update, in f32 as the parameters are.
#[derive(Clone, Copy)]
struct Coefficients {
    beta1: f32,
    one_minus_beta1: f32,
    beta2: f32,
    one_minus_beta2: f32,
    decay: f32,
    step_size: f32,
    root_scale: f32,
    eps: f32,
    clip: f32,
}

impl Coefficients {
    fn new(c: &AdamWConfig, lr: f64, clip: f64, correction: [f64; 2]) -> Self {
        Self {
            beta1: c.betas[0] as f32,
            one_minus_beta1: (1.0 - c.betas[0]) as f32,
            beta2: c.betas[1] as f32,
            one_minus_beta2: (1.0 - c.betas[1]) as f32,
            decay: (1.0 - lr * c.weight_decay) as f32,
            step_size: (lr / correction[0]) as f32,
            root_scale: (1.0 / correction[1].sqrt()) as f32,
            eps: c.eps as f32,
            clip: clip as f32,
        }
    }

    fn on_device(&self) -> AdamWStep {
        AdamWStep {
            betas: [self.beta1, self.beta2],
            decay: self.decay,
            step_size: self.step_size,
            root_scale: self.root_scale,
            eps: self.eps,
            clip: self.clip,
        }
    }

    fn update(&self, p: &mut [f32], m: &mut [f32], v: &mut [f32], g: &[f32]) {
        for (((p, m), v), g) in p.iter_mut().zip(m).zip(v).zip(g) {
            let g = *g * self.clip;
            *m = self.beta1 * *m + self.one_minus_beta1 * g;
            *v = self.beta2 * *v + self.one_minus_beta2 * g * g;
            *p = *p * self.decay - self.step_size * *m / (v.sqrt() * self.root_scale + self.eps);
        }
    }
}

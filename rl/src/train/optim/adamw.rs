//! AdamW (arXiv:1711.05101, algorithm 2) on the elements of parameters.
//!
//! Same arithmetic as `torch.optim.AdamW`: decoupled decay `p ← p·(1 − lr·wd)`, then
//! `p ← p − lr/(1 − β₁ᵗ) · m / (√v/√(1 − β₂ᵗ) + ε)`.
use rlvr_policies::model::update::AdamWStep;

/// The numbers of one update, in f32 as the parameters are.
#[derive(Clone, Copy)]
pub(super) struct Coefficients {
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
    /// Of update number `step`, counted from 1.
    pub(super) fn new(betas: [f64; 2], eps: f64, (lr, decay): (f64, f64), clip: f64, step: u64) -> Self {
        let correction = betas.map(|b| 1.0 - b.powf(step as f64));
        Self {
            beta1: betas[0] as f32,
            one_minus_beta1: (1.0 - betas[0]) as f32,
            beta2: betas[1] as f32,
            one_minus_beta2: (1.0 - betas[1]) as f32,
            decay: (1.0 - lr * decay) as f32,
            step_size: (lr / correction[0]) as f32,
            root_scale: (1.0 / correction[1].sqrt()) as f32,
            eps: eps as f32,
            clip: clip as f32,
        }
    }

    pub(super) fn on_device(&self) -> AdamWStep {
        AdamWStep {
            betas: [self.beta1, self.beta2],
            decay: self.decay,
            step_size: self.step_size,
            root_scale: self.root_scale,
            eps: self.eps,
            clip: self.clip,
        }
    }

    pub(super) fn update(&self, p: &mut [f32], m: &mut [f32], v: &mut [f32], g: &[f32]) {
        for (((p, m), v), g) in p.iter_mut().zip(m).zip(v).zip(g) {
            let g = *g * self.clip;
            *m = self.beta1 * *m + self.one_minus_beta1 * g;
            *v = self.beta2 * *v + self.one_minus_beta2 * g * g;
            *p = *p * self.decay - self.step_size * *m / (v.sqrt() * self.root_scale + self.eps);
        }
    }
}

//! Random ragged batches for the tests.

use super::{Advantage, Sequence};

/// A small linear congruential generator, so that a failing round is the same on every machine.
pub(crate) struct Lcg(u64);

impl Lcg {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub fn uniform(&mut self, low: f64, high: f64) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        low + (high - low) * ((self.0 >> 11) as f64 / (1u64 << 53) as f64)
    }
}

/// Owned arrays of one sequence.
#[derive(Clone)]
pub(crate) struct Owned {
    pub logprobs: Vec<f64>,
    pub old: Vec<f64>,
    pub reference: Vec<f64>,
    pub sampler: Vec<f64>,
    pub entropy: Vec<f64>,
    pub mask: Vec<bool>,
    pub advantage: f64,
    pub token_advantages: Option<Vec<f64>>,
}

impl Owned {
    pub fn view(&self) -> Sequence<'_> {
        Sequence {
            logprobs: &self.logprobs,
            old_logprobs: &self.old,
            ref_logprobs: Some(&self.reference),
            sampler_logprobs: Some(&self.sampler),
            entropy: Some(&self.entropy),
            loss_mask: &self.mask,
            policy_mask: None,
            advantage: match &self.token_advantages {
                Some(values) => Advantage::Tokens(values),
                None => Advantage::Sequence(self.advantage),
            },
        }
    }
}

/// Sequences of 0 to 9 tokens, log-ratios up to ±0.7; the second has no trained token, the third no token.
pub(crate) fn batch(seed: u64, token_advantages: bool) -> Vec<Owned> {
    let mut random = Lcg::new(seed);
    (0..7)
        .map(|b| {
            let length = if b == 2 { 0 } else { 1 + (random.uniform(0.0, 9.0) as usize) };
            let logprobs: Vec<f64> = (0..length).map(|_| random.uniform(-2.5, -0.05)).collect();
            let mut near = |width: f64| -> Vec<f64> {
                logprobs.iter().map(|lp| lp + random.uniform(-width, width)).collect()
            };
            let (old, reference, sampler) = (near(0.7), near(0.9), near(0.8));
            let mask = (0..length).map(|_| b != 1 && random.uniform(0.0, 1.0) < 0.8).collect();
            let advantage = if b == 3 { 0.0 } else { random.uniform(-2.0, 2.0) };
            let per_token = (0..length).map(|_| random.uniform(-2.0, 2.0)).collect();
            let token_advantages = token_advantages.then_some(per_token);
            let entropy = (0..length).map(|t| 0.3 + 0.2 * t as f64).collect();
            Owned { logprobs, old, reference, sampler, entropy, mask, advantage, token_advantages }
        })
        .collect()
}

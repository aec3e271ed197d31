//! Correction for rollouts whose sampler is not exactly π_old.

use serde::{Deserialize, Serialize};

use super::ratio::mean;
use crate::checks::Checks;

/// Correction for a sampler whose distribution is not exactly π_old: `w = exp(old − sampler)` multiplies
/// the policy term as a constant (no gradient), never the KL term.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum SamplerCorrection {
    /// No correction: the sampler is the trained policy's own engine.
    #[default]
    None,
    /// `min(w, cap)` for each token.
    TokenTruncate(Cap),
    /// `w` where `floor ≤ w ≤ cap`, else 0, for each token.
    TokenMask(Band),
    /// `min(W, cap)`, `W` the product of the sequence's `w`.
    SequenceTruncate(Cap),
    /// `W` where `floor ≤ W ≤ cap`, else 0, `W` the product of the sequence's `w`.
    SequenceMask(Band),
    /// 1 where the geometric mean of the sequence's `w` lies in `[floor, cap]`, else 0.
    GeometricMask(Band),
}

/// Upper bound of a correction that truncates.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Cap {
    /// > 0. Default 2.
    pub cap: f64,
}

impl Default for Cap {
    fn default() -> Self {
        Self { cap: 2.0 }
    }
}

/// Bounds of a correction that masks.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Band {
    /// Lower bound. In [0, cap]. Default 0.5.
    pub floor: f64,
    /// Upper bound. > 0. Default 2.
    pub cap: f64,
}

impl Default for Band {
    fn default() -> Self {
        Self { floor: 0.5, cap: 2.0 }
    }
}

impl SamplerCorrection {
    /// Weights of the policy term for the n trained tokens of a sequence, constants without gradient.
    ///
    /// `log_weights` `[n]` is `old − sampler` in nats.
    pub(super) fn weights(&self, log_weights: &[f64]) -> Vec<f64> {
        let mask = |w: f64, Band { floor, cap }: &Band| if (*floor..=*cap).contains(&w) { w } else { 0.0 };
        let n = log_weights.len();
        let product = || log_weights.iter().sum::<f64>().exp();
        match self {
            Self::None => vec![1.0; n],
            Self::TokenTruncate(Cap { cap }) => log_weights.iter().map(|d| d.exp().min(*cap)).collect(),
            Self::TokenMask(band) => log_weights.iter().map(|d| mask(d.exp(), band)).collect(),
            Self::SequenceTruncate(Cap { cap }) => vec![product().min(*cap); n],
            Self::SequenceMask(band) => vec![mask(product(), band); n],
            Self::GeometricMask(Band { floor, cap }) => {
                let inside = (*floor..=*cap).contains(&mean(log_weights).exp());
                vec![f64::from(u8::from(inside)); n]
            }
        }
    }

    /// Notes what is wrong with the bounds.
    pub(super) fn check(&self, checks: &mut Checks) {
        let (floor, cap) = match self {
            Self::None => return,
            Self::TokenTruncate(Cap { cap }) | Self::SequenceTruncate(Cap { cap }) => (None, *cap),
            Self::TokenMask(band) | Self::SequenceMask(band) | Self::GeometricMask(band) => {
                (Some(band.floor), band.cap)
            }
        };
        checks.require(cap > 0.0, "sampler_correction.cap", "must be above 0");
        checks.require(
            floor.is_none_or(|floor| (0.0..=cap).contains(&floor)),
            "sampler_correction.floor",
            "must lie in [0, cap]",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(correction: SamplerCorrection, expected: [f64; 2]) {
        let weights = correction.weights(&[3f64.ln(), 0.4f64.ln()]);
        for (weight, expected) in weights.iter().zip(expected) {
            assert!((weight - expected).abs() < 1e-12, "{correction:?}: {weights:?}");
        }
    }

    #[test]
    fn every_correction_by_hand() {
        let (cap, band) = (Cap::default(), Band::default());
        check(SamplerCorrection::None, [1.0, 1.0]);
        check(SamplerCorrection::TokenTruncate(cap), [2.0, 0.4]);
        check(SamplerCorrection::TokenMask(band), [0.0, 0.0]);
        check(SamplerCorrection::SequenceTruncate(cap), [1.2, 1.2]);
        check(SamplerCorrection::SequenceMask(band), [1.2, 1.2]);
        check(SamplerCorrection::GeometricMask(band), [1.0, 1.0]);
    }
}

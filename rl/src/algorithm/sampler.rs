//! Correction for rollouts whose sampler is not exactly π_old.

use super::config::{LossConfig, SamplerCorrection};
use super::ratio::mean;

/// Weights of the policy term for the n trained tokens of a sequence, constants without gradient.
///
/// `log_weights` `[n]` is `old − sampler` in nats.
pub(super) fn weights(log_weights: &[f64], config: &LossConfig) -> Vec<f64> {
    let (floor, cap) = (config.sampler_floor, config.sampler_cap);
    let truncate = |w: f64| w.min(cap);
    let mask = |w: f64| if (floor..=cap).contains(&w) { w } else { 0.0 };
    let n = log_weights.len();
    let product = || log_weights.iter().sum::<f64>().exp();
    match config.sampler_correction {
        SamplerCorrection::None => vec![1.0; n],
        SamplerCorrection::TokenTruncate => log_weights.iter().map(|d| truncate(d.exp())).collect(),
        SamplerCorrection::TokenMask => log_weights.iter().map(|d| mask(d.exp())).collect(),
        SamplerCorrection::SequenceTruncate => vec![truncate(product()); n],
        SamplerCorrection::SequenceMask => vec![mask(product()); n],
        SamplerCorrection::GeometricMask => {
            let inside = (floor..=cap).contains(&mean(log_weights).exp());
            vec![f64::from(u8::from(inside)); n]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(correction: SamplerCorrection, expected: [f64; 2]) {
        let config = LossConfig { sampler_correction: correction, ..LossConfig::default() };
        let weights = weights(&[3f64.ln(), 0.4f64.ln()], &config);
        for (weight, expected) in weights.iter().zip(expected) {
            assert!((weight - expected).abs() < 1e-12, "{correction:?}: {weights:?}");
        }
    }

    #[test]
    fn every_correction_by_hand() {
        check(SamplerCorrection::None, [1.0, 1.0]);
        check(SamplerCorrection::TokenTruncate, [2.0, 0.4]);
        check(SamplerCorrection::TokenMask, [0.0, 0.0]);
        check(SamplerCorrection::SequenceTruncate, [1.2, 1.2]);
        check(SamplerCorrection::SequenceMask, [1.2, 1.2]);
        check(SamplerCorrection::GeometricMask, [1.0, 1.0]);
    }
}

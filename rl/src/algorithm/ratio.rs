//! Importance ratios and their Jacobians.

use super::config::Importance;

/// The ratios of the n trained tokens of one sequence.
#[derive(Debug)]
pub(super) enum Ratio {
    /// `r_t = exp(d_t)`.
    Token(Vec<f64>),
    /// One `r = exp(mean_t d_t)` for all tokens; `passes` tells which `d_t` it depends on.
    Sequence { value: f64, passes: Vec<bool> },
}

impl Ratio {
    /// Ratios at `level` from the log-ratios `d` `[n]`, in nats.
    pub fn new(log_ratios: &[f64], level: Importance) -> Self {
        match level {
            Importance::Token => Self::Token(log_ratios.iter().map(|d| d.exp()).collect()),
            Importance::Sequence => {
                Self::Sequence { value: mean(log_ratios).exp(), passes: vec![true; log_ratios.len()] }
            }
        }
    }

    /// VESPO's ratio: the product of the token ratios.
    pub fn product(log_ratios: &[f64]) -> Self {
        Self::Sequence { value: log_ratios.iter().sum::<f64>().exp(), passes: vec![true; log_ratios.len()] }
    }

    /// GMPO's ratio: the geometric mean of the token ratios, each clamped to `exp(±log_clip)` on the side that its
    /// advantage pushes to. `log_ratios`, `advantages`: `[n]`.
    pub fn clamped_geometric_mean(log_ratios: &[f64], advantages: &[f64], log_clip: f64) -> Self {
        let mut passes = Vec::with_capacity(log_ratios.len());
        let mut clamped = Vec::with_capacity(log_ratios.len());
        for (&d, &advantage) in log_ratios.iter().zip(advantages) {
            let bounded = if advantage >= 0.0 { d.min(log_clip) } else { d.max(-log_clip) };
            passes.push(bounded == d);
            clamped.push(bounded);
        }
        Self::Sequence { value: mean(&clamped).exp(), passes }
    }

    /// The ratio that applies to token `t`.
    pub fn get(&self, t: usize) -> f64 {
        match self {
            Self::Token(values) => values[t],
            Self::Sequence { value, .. } => *value,
        }
    }

    /// Adds to `grads` `[n]` what `upstream` `[n]`, the derivative of the loss with respect to each token's ratio, means
    /// for the log-probabilities.
    pub fn backward(&self, upstream: &[f64], grads: &mut [f64]) {
        match self {
            Self::Token(values) => {
                for ((grad, up), value) in grads.iter_mut().zip(upstream).zip(values) {
                    // 0 · ∞ must be 0: a clipped token has no gradient, however large its ratio.
                    if *up != 0.0 {
                        *grad += up * value;
                    }
                }
            }
            Self::Sequence { value, passes } => {
                let sum: f64 = upstream.iter().sum();
                if sum == 0.0 {
                    return;
                }
                let each = sum * value / passes.len() as f64;
                for (grad, _) in grads.iter_mut().zip(passes).filter(|(_, passes)| **passes) {
                    *grad += each;
                }
            }
        }
    }
}

/// Arithmetic mean; 0 of nothing.
pub(super) fn mean(values: &[f64]) -> f64 {
    if values.is_empty() { 0.0 } else { values.iter().sum::<f64>() / values.len() as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequence_ratio_is_the_mean_not_the_sum() {
        let log_ratios = [0.3, -0.1, 0.4];
        let ratio = Ratio::new(&log_ratios, Importance::Sequence);
        assert!((ratio.get(2) - 0.2f64.exp()).abs() < 1e-15);
        let mut grads = [0.0; 3];
        ratio.backward(&[1.0, 2.0, 3.0], &mut grads);
        assert!(grads.iter().all(|g| (g - 6.0 * 0.2f64.exp() / 3.0).abs() < 1e-15), "{grads:?}");
    }

    #[test]
    fn the_geometric_mean_clamps_the_side_that_the_advantage_pushes_to() {
        let log_ratios = [1.0, -1.0, 0.1];
        for (advantage, exponent, expected) in
            [(1.0, 0.4 - 1.0 + 0.1, [0.0, 1.0, 1.0]), (-1.0, 1.0 - 0.4 + 0.1, [1.0, 0.0, 1.0])]
        {
            let ratio = Ratio::clamped_geometric_mean(&log_ratios, &[advantage; 3], 0.4);
            let value = f64::exp(exponent / 3.0);
            assert!((ratio.get(0) - value).abs() < 1e-15);
            let mut grads = [0.0; 3];
            ratio.backward(&[1.0; 3], &mut grads);
            for (grad, passes) in grads.iter().zip(expected) {
                assert!((grad - value * passes).abs() < 1e-15, "{grads:?}");
            }
        }
    }

    #[test]
    fn a_clipped_infinite_ratio_has_no_gradient() {
        let mut grads = [0.0];
        Ratio::new(&[800.0], Importance::Token).backward(&[0.0], &mut grads);
        assert_eq!(grads, [0.0]);
    }
}

//! VESPO (arXiv:2602.10693): every token keeps its gradient, weighted by a smooth function of how likely its whole sequence
//! has become.
//!
//! `φ(W) = W^k · exp(λ(1 − W))`, `W` the product of the ratios of the sequence, not their mean, with k and λ by the sign of
//! the advantage; φ(1) = 1, and φ is highest at W = k/λ.
//!
//! The ratios are to the sampler when it reported its own log-probabilities, to π_old otherwise, and untruncated: φ vanishes
//! for what is far on either side. It is computed from log W, so neither needs a bound.

use serde::{Deserialize, Serialize};

use super::{Bound, Formula, Term, Token};
use crate::algorithm::config::Importance;
use crate::algorithm::ratio::Ratio;
use crate::algorithm::rows::Rows;
use crate::checks::Checks;

/// Settings of VESPO.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Vespo {
    /// Power k of W where A ≥ 0. ≥ 0. Default 2.
    pub k_pos: f64,
    /// Decay λ where A ≥ 0. > 0. Default 3.
    pub lambda_pos: f64,
    /// Power k of W where A < 0. ≥ 0. Default 3.
    pub k_neg: f64,
    /// Decay λ where A < 0. > 0. Default 2.
    pub lambda_neg: f64,
}

impl Default for Vespo {
    fn default() -> Self {
        Self { k_pos: 2.0, lambda_pos: 3.0, k_neg: 3.0, lambda_neg: 2.0 }
    }
}

impl Formula for Vespo {
    fn ratio(&self, rows: &Rows, _level: Importance) -> Option<Ratio> {
        Some(Ratio::product(&rows.log_ratios_to_behaviour()))
    }

    fn term(&self, token: Token) -> Term {
        let (k, lambda) =
            if token.advantage < 0.0 { (self.k_neg, self.lambda_neg) } else { (self.k_pos, self.lambda_pos) };
        let ratio = token.ratio;
        let weight = match ratio.is_finite() {
            // 0 · ln 0 is no number, and W⁰ is 1.
            true if k == 0.0 => (lambda * (1.0 - ratio)).exp(),
            true => (k * ratio.ln() + lambda * (1.0 - ratio)).exp(),
            false => 0.0,
        };
        Term::weighted(weight, token, Bound::Inside)
    }

    fn check(&self, level: Importance, checks: &mut Checks) {
        for (field, k) in [("objective.k_pos", self.k_pos), ("objective.k_neg", self.k_neg)] {
            checks.require(k >= 0.0 && k.is_finite(), field, "must be 0 or more");
        }
        for (field, lambda) in
            [("objective.lambda_pos", self.lambda_pos), ("objective.lambda_neg", self.lambda_neg)]
        {
            checks.require(lambda > 0.0 && lambda.is_finite(), field, "must be above 0");
        }
        checks.require(
            level == Importance::Token,
            "importance",
            "the objective \"vespo\" has a ratio of its own, the product over the sequence; leave the key out",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::super::check_term;
    use super::*;

    #[test]
    fn the_weight_is_one_on_policy_and_vanishes_far_from_it() {
        let vespo = Vespo::default();
        check_term(&vespo, (1.0, 2.0), 2.0, 0.0, Bound::Inside);
        check_term(&vespo, (1.0, -2.0), -2.0, 0.0, Bound::Inside);
        check_term(&vespo, (0.5, 1.0), 0.25 * 1.5f64.exp(), 0.0, Bound::Inside);
        check_term(&vespo, (0.5, -1.0), -0.125 * 1f64.exp(), 0.0, Bound::Inside);
        for far in [0.0, 1e-300, 1e6, 1e300, f64::INFINITY] {
            check_term(&vespo, (far, 1.0), 0.0, 0.0, Bound::Inside);
            check_term(&vespo, (far, -1.0), 0.0, 0.0, Bound::Inside);
        }
        check_term(&Vespo { k_pos: 0.0, ..vespo }, (0.0, 1.0), 3f64.exp(), 0.0, Bound::Inside);
    }
}

//! The clipped surrogate of PPO and GRPO (arXiv:2402.03300, equation 3), with the separate clips of DAPO (arXiv:2503.14476),
//! the dual clip of arXiv:1912.09729 and the upper bound δ of INTELLECT-2 (arXiv:2505.07291).

use serde::{Deserialize, Serialize};

use super::{Bound, Formula, Term, Token};
use crate::algorithm::config::Importance;
use crate::checks::Checks;

/// Settings of the clipped surrogate.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Clip {
    /// Ratios below `1 − low` are clipped. In [0, 1]. Default 0.2. Alias: `clip_low`.
    #[serde(alias = "clip_low")]
    pub low: f64,
    /// Ratios above `1 + high` are clipped. ≥ 0. Default 0.28. Alias: `clip_high`.
    #[serde(alias = "clip_high")]
    pub high: f64,
    /// Upper bound on the ratio before the minimum is taken, so that a negative advantage cannot push without limit
    /// (arXiv:2505.07291 uses 4). ≥ 1. Default none.
    pub delta: Option<f64>,
    /// Dual clip `c` (arXiv:1912.09729 uses 3): for A < 0 the objective is at least `c·A`. > 1. Default none.
    pub dual_clip: Option<f64>,
}

impl Default for Clip {
    fn default() -> Self {
        Self { low: 0.2, high: 0.28, delta: None, dual_clip: None }
    }
}

impl Formula for Clip {
    /// A clamp passes its gradient at its bounds, and a tie of minimum or maximum splits it in halves, as in the usual
    /// automatic differentiation, so that r = 1 with zero clips has the same subgradient.
    fn term(&self, Token { ratio, advantage, .. }: Token) -> Term {
        let (low, high) = (1.0 - self.low, 1.0 + self.high);
        let (capped, capped_slope) = match self.delta {
            Some(delta) if ratio > delta => (delta, 0.0),
            Some(_) | None => (ratio, 1.0),
        };
        let clipped = ratio.clamp(low, high);
        let clipped_slope = if (low..=high).contains(&ratio) { 1.0 } else { 0.0 };
        let (free, bounded) = (capped * advantage, clipped * advantage);
        let share = share_of_first(free < bounded, free > bounded);
        let mut value = free.min(bounded);
        let mut slope = (share * capped_slope + (1.0 - share) * clipped_slope) * advantage;
        if let Some(floor) = self.dual_clip.filter(|_| advantage < 0.0).map(|c| c * advantage) {
            slope *= share_of_first(value > floor, value < floor);
            value = value.max(floor);
        }
        let bound = if slope != 0.0 || advantage == 0.0 {
            Bound::Inside
        } else if ratio < low {
            Bound::Low
        } else {
            Bound::High
        };
        Term { value: -value, by_ratio: -slope, by_logprob: 0.0, bound }
    }

    fn check(&self, _level: Importance, checks: &mut Checks) {
        checks.require((0.0..=1.0).contains(&self.low), "objective.low", "must lie in [0, 1]");
        checks.require(self.high >= 0.0 && self.high.is_finite(), "objective.high", "must be 0 or more");
        checks.require(
            self.delta.is_none_or(|v| v >= 1.0),
            "objective.delta",
            "bounds the ratio from above and must be at least 1",
        );
        checks.require(self.dual_clip.is_none_or(|v| v > 1.0), "objective.dual_clip", "must be above 1");
    }
}

/// Share of the gradient that the first of two candidates gets.
fn share_of_first(first_wins: bool, second_wins: bool) -> f64 {
    match (first_wins, second_wins) {
        (true, _) => 1.0,
        (false, true) => 0.0,
        (false, false) => 0.5,
    }
}

#[cfg(test)]
mod tests {
    use super::super::check_term;
    use super::*;

    #[test]
    fn clip_by_hand() {
        let clip = Clip::default();
        check_term(&clip, (1.0, 2.0), -2.0, -2.0, Bound::Inside);
        check_term(&clip, (1.5, 2.0), -2.56, 0.0, Bound::High);
        check_term(&clip, (0.5, 2.0), -1.0, -2.0, Bound::Inside);
        check_term(&clip, (0.5, -2.0), 1.6, 0.0, Bound::Low);
        check_term(&clip, (1.5, -2.0), 3.0, 2.0, Bound::Inside);
        let dual = Clip { dual_clip: Some(3.0), ..clip };
        check_term(&dual, (5.0, -2.0), 6.0, 0.0, Bound::High);
        check_term(&dual, (2.0, -2.0), 4.0, 2.0, Bound::Inside);
        let delta = Clip { delta: Some(4.0), ..clip };
        check_term(&delta, (5.0, -2.0), 8.0, 0.0, Bound::High);
    }
}

//! DPPO with the total variation of the sampled token (arXiv:2602.04879): a token counts while its probability has
//! not moved too far from the sampler's, whatever the ratio.
//!
//! The probabilities compared, and the ratio, are to the sampler when it reported its own, to π_old otherwise.

use serde::{Deserialize, Serialize};

use super::{Bound, Formula, Term, Token};
use crate::algorithm::config::Importance;
use crate::algorithm::ratio::Ratio;
use crate::algorithm::rows::Rows;
use crate::checks::Checks;

/// Settings of DPPO.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DppoTv {
    /// Bound on the change of a token's probability. In (0, 1]. Default 0.2. Alias: `d`.
    #[serde(alias = "d")]
    pub bound: f64,
}

impl Default for DppoTv {
    fn default() -> Self {
        Self { bound: 0.2 }
    }
}

impl Formula for DppoTv {
    fn ratio(&self, rows: &Rows, level: Importance) -> Option<Ratio> {
        Some(Ratio::new(&rows.log_ratios_to_behaviour(), level))
    }

    fn term(&self, token: Token) -> Term {
        let Token { ratio, logprob, behaviour_logprob, advantage } = token;
        let moved = logprob.exp() - behaviour_logprob.exp();
        if advantage > 0.0 && moved > self.bound {
            Term::of_ratio(0.0, 0.0, Bound::High)
        } else if advantage <= 0.0 && moved < -self.bound {
            Term::of_ratio(0.0, 0.0, Bound::Low)
        } else {
            Term::of_ratio(ratio, advantage, Bound::Inside)
        }
    }

    fn check(&self, _level: Importance, checks: &mut Checks) {
        checks.require(self.bound > 0.0 && self.bound <= 1.0, "objective.bound", "must lie in (0, 1]");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dppo_masks_by_probability_not_by_ratio() {
        let term = |p: f64, mu: f64, advantage: f64| {
            let (logprob, behaviour_logprob) = (p.ln(), mu.ln());
            DppoTv::default().term(Token { ratio: p / mu, logprob, behaviour_logprob, advantage })
        };
        assert_eq!(term(0.02, 0.002, 1.0).bound, Bound::Inside, "a rare token may grow tenfold");
        assert_eq!(term(0.8, 0.5, 1.0).bound, Bound::High);
        assert_eq!(term(0.8, 0.5, -1.0).bound, Bound::Inside);
        let low = term(0.2, 0.5, -1.0);
        assert_eq!((low.bound, low.value, low.by_ratio), (Bound::Low, 0.0, 0.0));
    }
}

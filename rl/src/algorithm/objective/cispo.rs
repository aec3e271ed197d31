//! CISPO of MiniMax-M1 (arXiv:2506.13585): every token keeps its gradient, weighted by the ratio up to a cap.
//!
//! Deviation: the cap is the absolute ratio, not `1 + ε`.

use serde::{Deserialize, Serialize};

use super::{Bound, Formula, Term, Token};
use crate::algorithm::config::Importance;
use crate::checks::Checks;

/// Settings of CISPO.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Cispo {
    /// Cap of the weight, an absolute ratio. ≥ 1. Default 5. Alias: `c`.
    #[serde(alias = "c")]
    pub cap: f64,
}

impl Default for Cispo {
    fn default() -> Self {
        Self { cap: 5.0 }
    }
}

impl Formula for Cispo {
    fn term(&self, token: Token) -> Term {
        let bound = if token.ratio > self.cap { Bound::High } else { Bound::Inside };
        Term::weighted(token.ratio.min(self.cap), token, bound)
    }

    fn check(&self, _level: Importance, checks: &mut Checks) {
        let message = "is the absolute cap of the ratio, not 1 + ε, and must be at least 1";
        checks.require(self.cap >= 1.0, "objective.cap", message);
    }
}

#[cfg(test)]
mod tests {
    use super::super::check_term;
    use super::*;

    #[test]
    fn the_weight_is_capped_and_detached() {
        let cispo = Cispo::default();
        check_term(&cispo, (7.0, 1.0), 5.0, 0.0, Bound::High);
        check_term(&cispo, (2.0, 1.0), 2.0, 0.0, Bound::Inside);
    }
}

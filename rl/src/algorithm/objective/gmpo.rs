//! GMPO (arXiv:2507.20673): the geometric mean of the token ratios, each clamped on the side that its advantage
//! pushes to.
//!
//! Deviation: the objective of a sequence is weighed as the aggregate says; `sequence_mean` is the paper's.

use serde::{Deserialize, Serialize};

use super::{Bound, Formula, Term, Token};
use crate::algorithm::config::Importance;
use crate::algorithm::ratio::Ratio;
use crate::algorithm::rows::Rows;
use crate::checks::Checks;

/// Settings of GMPO.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Gmpo {
    /// Bound on the logarithm of a token's ratio, in nats. > 0. Default 0.4.
    pub log_clip: f64,
}

impl Default for Gmpo {
    fn default() -> Self {
        Self { log_clip: 0.4 }
    }
}

impl Formula for Gmpo {
    fn ratio(&self, rows: &Rows, _level: Importance) -> Option<Ratio> {
        Some(Ratio::clamped_geometric_mean(&rows.log_ratios(), &rows.advantages, self.log_clip))
    }

    fn term(&self, token: Token) -> Term {
        Term::of_ratio(token.ratio, token.advantage, Bound::Inside)
    }

    fn check(&self, _level: Importance, checks: &mut Checks) {
        checks.require(self.log_clip > 0.0, "objective.log_clip", "must be above 0");
    }
}

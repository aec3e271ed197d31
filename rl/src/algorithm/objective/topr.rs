//! Tapered off-policy REINFORCE (arXiv:2503.14286): what went well is imitated at full weight, what went badly is
//! unlearned only as far as the policy still does it.
//!
//! The ratio is one to the sampler when it reported its own log-probabilities, to π_old otherwise. The paper's product of
//! ratios is the geometric mean with `importance = "sequence"`, and one ratio a token by default.

use serde::{Deserialize, Serialize};

use super::{Bound, Formula, Term, Token};
use crate::algorithm::config::Importance;
use crate::algorithm::ratio::Ratio;
use crate::algorithm::rows::Rows;

/// TOPR has no settings: the taper lies in [0, 1].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Topr {}

impl Formula for Topr {
    fn ratio(&self, rows: &Rows, level: Importance) -> Option<Ratio> {
        Some(Ratio::new(&rows.log_ratios_to_behaviour(), level))
    }

    fn term(&self, token: Token) -> Term {
        if token.advantage < 0.0 {
            let bound = if token.ratio > 1.0 { Bound::High } else { Bound::Inside };
            Term::weighted(token.ratio.min(1.0), token, bound)
        } else {
            Term::weighted(1.0, token, Bound::Inside)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::check_term;
    use super::*;

    #[test]
    fn only_negative_advantages_are_tapered() {
        check_term(&Topr {}, (7.0, 1.0), 1.0, 0.0, Bound::Inside);
        check_term(&Topr {}, (7.0, -1.0), -1.0, 0.0, Bound::High);
        check_term(&Topr {}, (0.5, -1.0), -0.5, 0.0, Bound::Inside);
    }
}

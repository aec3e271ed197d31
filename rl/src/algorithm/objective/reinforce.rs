//! REINFORCE (Williams: Simple statistical gradient-following algorithms for connectionist reinforcement learning. Machine
//! Learning 8, 1992): advantage times log-probability, without a ratio; for on-policy updates.

use serde::{Deserialize, Serialize};

use super::{Bound, Formula, Term, Token};

/// REINFORCE has no settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reinforce {}

impl Formula for Reinforce {
    fn term(&self, token: Token) -> Term {
        Term::weighted(1.0, token, Bound::Inside)
    }
}

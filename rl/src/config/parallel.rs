//! `[parallel]`: how an optimizer step is cut up for several ranks.
use crate::checks::Checks;
use serde::{Deserialize, Serialize};

/// Most shards of an optimizer step.
const MOST: usize = 1024;

/// `[parallel]`: the parts of an optimizer step that ranks may compute. How many ranks there are is no setting: whoever starts
/// them says it, and it changes no bit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ParallelConfig {
    /// Parts of an optimizer step whose gradients are summed up alone and then added as a binary tree; a power of two, of which
    /// every rank computes as many as the others. More of them change the order of sums only. Default 1.
    pub shards: usize,
}

impl Default for ParallelConfig {
    fn default() -> Self {
        Self { shards: 1 }
    }
}

impl ParallelConfig {
    pub(super) fn check(&self, checks: &mut Checks) {
        checks.require(
            self.shards.is_power_of_two() && self.shards <= MOST,
            "parallel.shards",
            format!("is {} and must be a power of two, at most {MOST}", self.shards),
        );
    }
}

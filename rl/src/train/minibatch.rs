//! What a minibatch, the trajectories of an optimizer step, is made of.
use crate::algorithm::top_entropy;
use crate::train::trajectory::Trajectory;

/// The lowest entropy with which a token of a minibatch has a policy term, where a share of them has one; none without
/// tokens.
pub(crate) fn lowest_entropy(minibatch: &[Trajectory], frac: f64) -> Option<f64> {
    let all: Vec<f64> = minibatch.iter().flat_map(|t| t.entropy.iter().flatten().copied()).collect();
    top_entropy::threshold(all, frac)
}

impl Trajectory {
    /// Leaves the tokens of lower entropy without a policy term.
    pub(crate) fn choose(&mut self, lowest: f64) {
        let mask = |entropy: &Vec<f64>| entropy.iter().map(|h| *h >= lowest).collect();
        self.policy_mask = self.entropy.as_ref().map(mask);
    }
}

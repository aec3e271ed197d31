//! A micro-batch behind its forward, as the loss reads it.
use crate::algorithm::{Advantage, Sequence};
use crate::train::learner::Pass;
use crate::train::trajectory::Trajectory;

/// What the head says of the trained tokens of a micro-batch, by trajectory.
pub(super) struct Scored<'a> {
    micro: &'a [Trajectory],
    logprobs: Vec<Vec<f64>>,
    entropy: Vec<Vec<f64>>,
    /// Every target is trained: what is not is no target.
    masks: Vec<Vec<bool>>,
}

impl<'a> Scored<'a> {
    pub(super) fn of(pass: &Pass<'a>) -> Self {
        let logprobs = pass.logprobs();
        let masks = logprobs.iter().map(|of| vec![true; of.len()]).collect();
        Self { micro: pass.micro, logprobs, entropy: pass.entropy(), masks }
    }

    /// Its completions with all that the loss compares them with.
    pub(super) fn sequences(&self) -> Vec<Sequence<'_>> {
        (self.micro.iter().zip(&self.logprobs).zip(&self.entropy).zip(&self.masks))
            .map(|(((t, logprobs), entropy), loss_mask)| Sequence {
                logprobs,
                old_logprobs: t.old_logprobs.as_deref().unwrap_or(logprobs),
                ref_logprobs: t.ref_logprobs.as_deref(),
                sampler_logprobs: t.sampler_logprobs.as_deref(),
                entropy: Some(entropy),
                loss_mask,
                policy_mask: t.policy_mask.as_deref(),
                advantage: match &t.token_advantages {
                    Some(advantages) => Advantage::Tokens(advantages),
                    None => Advantage::Sequence(t.advantage),
                },
            })
            .collect()
    }
}

//! The loss of a micro-batch after its forward.
use crate::algorithm::{Advantage, LossConfig, LossError, LossOutput, Sequence, StepTotals, policy_loss};
use crate::train::learner::Pass;

/// Loss and gradient of a micro-batch.
pub(super) fn micro_loss(
    pass: &Pass<'_>,
    config: &LossConfig,
    totals: &StepTotals,
) -> Result<LossOutput, LossError> {
    let (logprobs, entropy) = (pass.logprobs(), pass.entropy());
    let masks: Vec<Vec<bool>> = logprobs.iter().map(|of| vec![true; of.len()]).collect();
    let sequences: Vec<Sequence> = (pass.micro.iter().zip(&logprobs).zip(&entropy).zip(&masks))
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
        .collect();
    policy_loss(&sequences, config, totals)
}

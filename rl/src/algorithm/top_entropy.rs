//! The policy term on the tokens with the highest entropy only (arXiv:2506.01939, section 5).
//!
//! With the entropies `H` of the n trained tokens of an optimizer step, a token has a policy term where
//! `H ≥ τ`, τ the quantile of `H` at `1 − frac`: the ⌊(n − 1)·frac⌋ + 1 tokens of highest entropy, and whatever ties with
//! the last of them.
//!
//! Choices, where the paper and codebases leave them open or differ:
//! - The set is that of the whole optimizer step, like all totals, never a micro-batch: its tokens count whether or not
//!   their advantage is 0.
//! - Deviation: `H` is the entropy of the policy at the time of the rollout, at the training temperature; the paper takes that of
//!   the policy as it is at the update. On policy they are the same.
//! - Nothing else changes: every trained token counts in the denominators, in a ratio of its sequence, in the KL term and
//!   in the entropy bonus.

use super::loss::Sequence;

/// τ, in nats: the lowest entropy that counts among `entropies` in any order. None of nothing.
///
/// `frac` lies in (0, 1].
pub fn threshold(mut entropies: Vec<f64>, frac: f64) -> Option<f64> {
    entropies.sort_by(f64::total_cmp);
    // A quantile between two values, and the upper one of them, have the same values at or above them.
    let last = entropies.len().checked_sub(1)?;
    // Decimal fractions are no binary ones: what should be whole is.
    let rank = ((last as f64) * (1.0 - frac) - 1e-9).ceil().max(0.0) as usize;
    entropies.get(rank.min(last)).copied()
}

/// Which tokens have a policy term, of sequences that are the whole optimizer step: `[b][t]`, false where the loss mask is
/// cleared. None where a sequence has no entropies.
///
/// # Panics
/// When a loss mask is longer than its entropies.
pub fn masks(step: &[Sequence<'_>], frac: f64) -> Option<Vec<Vec<bool>>> {
    let trained = |s: &Sequence<'_>| -> Option<Vec<f64>> {
        let entropy = s.entropy?;
        Some((0..s.loss_mask.len()).filter(|t| s.loss_mask[*t]).map(|t| entropy[t]).collect())
    };
    let all = step.iter().map(trained).collect::<Option<Vec<_>>>()?.concat();
    let lowest = threshold(all, frac).unwrap_or(f64::INFINITY);
    let mask = |s: &Sequence<'_>| -> Option<Vec<bool>> {
        Some(s.entropy?.iter().zip(s.loss_mask).map(|(h, trained)| *trained && *h >= lowest).collect())
    };
    step.iter().map(mask).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::algorithm::fixtures::{Lcg, Owned, batch};
    use crate::algorithm::{LossConfig, LossError, StepTotals, policy_loss};

    #[test]
    fn as_many_as_the_head_says() {
        let mut random = Lcg::new(3);
        for n in 1..60 {
            let entropies: Vec<f64> = (0..n).map(|_| random.uniform(0.0, 3.0)).collect();
            for frac in [0.001, 0.2, 0.5, 0.9, 1.0] {
                let lowest = threshold(entropies.clone(), frac).unwrap();
                let kept = entropies.iter().filter(|h| **h >= lowest).count();
                let expected = ((n - 1) as f64 * frac + 1e-9).floor() as usize + 1;
                assert_eq!(kept, expected, "{n} tokens, {frac}");
            }
        }
        assert_eq!(threshold(vec![0.5, 0.5, 0.5, 0.1], 0.2), Some(0.5));
        assert_eq!(threshold(vec![], 0.2), None);
    }

    #[test]
    fn a_share_of_one_changes_no_bit_and_a_mask_is_needed() {
        let step = batch(3, true);
        let totals = StepTotals::of(step.iter().map(|s| s.mask.as_slice()));
        let mut views: Vec<Sequence<'_>> = step.iter().map(Owned::view).collect();
        let plain = LossConfig { kl_coef: 0.2, entropy_coef: 0.1, ..LossConfig::default() };
        let expected = policy_loss(&views, &plain, &totals).unwrap();
        let config = LossConfig { top_entropy_frac: Some(1.0), ..plain };
        let missing = policy_loss(&views, &config, &totals).unwrap_err();
        assert!(matches!(missing, LossError::Missing { array: "policy_mask", .. }), "{missing}");
        let masks = masks(&views, 1.0).unwrap();
        for (view, mask) in views.iter_mut().zip(&masks) {
            view.policy_mask = Some(mask);
        }
        let found = policy_loss(&views, &config, &totals).unwrap();
        assert_eq!((found.loss, found.grads, found.entropy_grads), {
            (expected.loss, expected.grads, expected.entropy_grads)
        });
        assert_eq!(found.stats, expected.stats);
    }
}

//! KL divergence to the reference policy, estimated from the sampled tokens.
//!
//! With `x = lp − ref`, in nats a token:
//!
//! | estimator | value | gradient in the loss, on policy, in expectation |
//! |---|---|---|
//! | `k1` | `x` | zero: it regularises nothing and is refused in the loss |
//! | `k2` | `x²/2` | that of KL(π ‖ ref) |
//! | `k3` | `exp(−x) − 1 + x` | that of KL(ref ‖ π) |
//! | `k3_unbiased` | `r · k3`, gradient through the ratio r too | that of KL(π ‖ ref); DeepSeek-V3.2, arXiv:2512.02556 |
//!
//! The ratio of `k3_unbiased` is the policy's importance ratio before any clip, at the level of the `importance`
//! key.

use super::config::{KlEstimator, LossConfig};

/// Value of `estimator` and its derivative with respect to `logprob`, for one token.
///
/// The ratio of `k3_unbiased` is left to the caller: here it equals `k3`.
pub fn estimate(estimator: KlEstimator, logprob: f64, ref_logprob: f64) -> (f64, f64) {
    let x = logprob - ref_logprob;
    match estimator {
        KlEstimator::K1 => (x, 1.0),
        KlEstimator::K2 => (0.5 * x * x, x),
        // exp_m1 keeps the digits that exp(−x) − 1 loses for small x.
        KlEstimator::K3 | KlEstimator::K3Unbiased => {
            let minus_one = (-x).exp_m1();
            (minus_one + x, -minus_one)
        }
    }
}

/// Penalty to subtract from the reward of one completion when `kl_place = "reward"`: `kl_coef` times the sum of the
/// estimator over the trained tokens, in units of the reward. 0 when the KL is not in the reward.
///
/// At rollout time the importance ratio is 1, so `k3_unbiased` equals `k3` here.
///
/// # Shapes
/// `old_logprobs`, `ref_logprobs`, `loss_mask`: the T tokens of the completion.
///
/// # Panics
/// When the three lengths differ.
pub fn reward_penalty(
    old_logprobs: &[f64],
    ref_logprobs: &[f64],
    loss_mask: &[bool],
    config: &LossConfig,
) -> f64 {
    if !config.kl_in_reward() {
        return 0.0;
    }
    assert!(
        old_logprobs.len() == ref_logprobs.len() && old_logprobs.len() == loss_mask.len(),
        "old_logprobs [{}], ref_logprobs [{}] and loss_mask [{}] differ in length",
        old_logprobs.len(),
        ref_logprobs.len(),
        loss_mask.len()
    );
    let sum: f64 = (0..loss_mask.len())
        .filter(|&t| loss_mask[t])
        .map(|t| estimate(config.kl_estimator, old_logprobs[t], ref_logprobs[t]).0)
        .sum();
    config.kl_coef * sum
}

/// How far an error of the KL may push the coefficient, as a share of the target.
const ERROR_BOUND: f64 = 0.2;

/// The coefficient of the next step where it follows a target: the controller of arXiv:1909.08593, section 2.2,
/// `β·(1 + clip(KL/target − 1, −0.2, 0.2)·completions/horizon)`.
///
/// `kl` is what the step measured, in nats a token as `target`: the paper's is one of whole sequences. The paper's K_β is
/// `completions/horizon`, 1 at most here, so that the coefficient stays above 0. A `kl` that is no number changes nothing.
pub fn adapted_coef(coef: f64, kl: f64, target: f64, completions: usize, horizon: f64) -> f64 {
    if kl.is_nan() {
        return coef;
    }
    let error = (kl / target - 1.0).clamp(-ERROR_BOUND, ERROR_BOUND);
    coef * (1.0 + error * (completions as f64 / horizon).min(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::algorithm::config::KlPlace;

    /// Expected gradients by enumeration of a three-token policy with softmax logits, on policy.
    #[test]
    fn expected_gradients_are_those_of_the_table() {
        let softmax = |z: &[f64; 3]| {
            let sum: f64 = z.iter().map(|v| v.exp()).sum();
            z.map(|v| v.exp() / sum)
        };
        let logits = [0.3, -0.4, 1.1];
        let (p, q) = (softmax(&logits), softmax(&[-0.2, 0.5, 0.4]));
        let exact = |f: &dyn Fn(&[f64; 3]) -> f64, i: usize| {
            let h = 1e-6;
            let (mut up, mut down) = (logits, logits);
            up[i] += h;
            down[i] -= h;
            (f(&softmax(&up)) - f(&softmax(&down))) / (2.0 * h)
        };
        let reverse = |p: &[f64; 3]| (0..3).map(|a| p[a] * (p[a] / q[a]).ln()).sum::<f64>();
        let forward = |p: &[f64; 3]| (0..3).map(|a| q[a] * (q[a] / p[a]).ln()).sum::<f64>();
        for i in 0..3 {
            // Σ_a p(a) · d(estimator)/dlp · dlp(a)/dz_i, and for k3_unbiased the path through the ratio (r = 1).
            let expected = |estimator: KlEstimator| -> f64 {
                (0..3)
                    .map(|a| {
                        let (value, slope) = estimate(estimator, p[a].ln(), q[a].ln());
                        let through_ratio = if estimator == KlEstimator::K3Unbiased { value } else { 0.0 };
                        let dlp = f64::from(u8::from(a == i)) - p[i];
                        p[a] * (slope + through_ratio) * dlp
                    })
                    .sum()
            };
            assert!(expected(KlEstimator::K1).abs() < 1e-12);
            assert!((expected(KlEstimator::K2) - exact(&reverse, i)).abs() < 1e-8);
            assert!((expected(KlEstimator::K3) - exact(&forward, i)).abs() < 1e-8);
            assert!((expected(KlEstimator::K3Unbiased) - exact(&reverse, i)).abs() < 1e-8);
        }
    }

    #[test]
    fn penalty_counts_trained_tokens_only() {
        let config = LossConfig {
            kl_coef: 0.5,
            kl_estimator: KlEstimator::K1,
            kl_place: KlPlace::Reward,
            ..LossConfig::default()
        };
        let penalty =
            reward_penalty(&[-1.0, -2.0, f64::NAN], &[-1.5, -1.0, 0.0], &[true, true, false], &config);
        assert_eq!(penalty, 0.5 * (0.5 - 1.0));
        let in_loss = LossConfig { kl_place: KlPlace::Loss, ..config };
        assert_eq!(reward_penalty(&[-1.0], &[-1.5], &[true], &in_loss), 0.0);
    }
}

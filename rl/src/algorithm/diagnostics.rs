//! Sums over trained tokens, from which the metrics of a step are made.

/// Sums and extremes over the trained tokens of a micro-batch; [`LossStats::merge`] makes those of the step.
#[derive(Debug, Clone, PartialEq)]
pub struct LossStats {
    /// Sequences.
    pub sequences: f64,
    /// Trained tokens.
    pub tokens: f64,
    /// The policy's part of the loss.
    pub policy_loss: f64,
    /// The KL's part of the loss.
    pub kl_loss: f64,
    /// Σ k3(π_θ, π_ref) in nats, 0 without reference log-probabilities.
    pub ref_kl_sum: f64,
    /// Σ k3(π_θ, π_old) in nats: how far the update has moved from the rollout weights.
    pub old_kl_sum: f64,
    /// Tokens whose policy gradient the lower bound of the ratio stops.
    pub clip_low_tokens: f64,
    /// Tokens whose policy gradient the upper bound of the ratio stops or caps.
    pub clip_high_tokens: f64,
    /// Tokens whose policy term a sampler correction or the off-policy mask removes.
    pub dropped_tokens: f64,
    /// Σ of the importance ratio at the configured level.
    pub ratio_sum: f64,
    /// Smallest importance ratio; +∞ without tokens.
    pub ratio_min: f64,
    /// Largest importance ratio; −∞ without tokens.
    pub ratio_max: f64,
    /// Largest |log π_θ − log π_old| of a token, in nats.
    pub max_abs_log_ratio: f64,
}

impl Default for LossStats {
    fn default() -> Self {
        Self {
            sequences: 0.0,
            tokens: 0.0,
            policy_loss: 0.0,
            kl_loss: 0.0,
            ref_kl_sum: 0.0,
            old_kl_sum: 0.0,
            clip_low_tokens: 0.0,
            clip_high_tokens: 0.0,
            dropped_tokens: 0.0,
            ratio_sum: 0.0,
            ratio_min: f64::INFINITY,
            ratio_max: f64::NEG_INFINITY,
            max_abs_log_ratio: 0.0,
        }
    }
}

impl LossStats {
    /// Counts one trained token, given its own log-ratio and the ratio at the configured level.
    pub(super) fn ratio(&mut self, log_ratio: f64, ratio: f64) {
        self.tokens += 1.0;
        self.old_kl_sum += (-log_ratio).exp_m1() + log_ratio;
        self.ratio_sum += ratio;
        self.ratio_min = self.ratio_min.min(ratio);
        self.ratio_max = self.ratio_max.max(ratio);
        self.max_abs_log_ratio = self.max_abs_log_ratio.max(log_ratio.abs());
    }

    /// Adds the sums of another micro-batch of the same step.
    pub fn merge(&mut self, other: &Self) {
        self.sequences += other.sequences;
        self.tokens += other.tokens;
        self.policy_loss += other.policy_loss;
        self.kl_loss += other.kl_loss;
        self.ref_kl_sum += other.ref_kl_sum;
        self.old_kl_sum += other.old_kl_sum;
        self.clip_low_tokens += other.clip_low_tokens;
        self.clip_high_tokens += other.clip_high_tokens;
        self.dropped_tokens += other.dropped_tokens;
        self.ratio_sum += other.ratio_sum;
        self.ratio_min = self.ratio_min.min(other.ratio_min);
        self.ratio_max = self.ratio_max.max(other.ratio_max);
        self.max_abs_log_ratio = self.max_abs_log_ratio.max(other.max_abs_log_ratio);
    }

    /// A sum divided by the trained tokens; 0 without tokens.
    pub fn per_token(&self, sum: f64) -> f64 {
        if self.tokens > 0.0 { sum / self.tokens } else { 0.0 }
    }
}

//! `[health]`: when a run warns of itself.
use crate::checks::Checks;
use serde::{Deserialize, Serialize};

/// `[health]`: bounds of the warnings that a run gives while it samples and trains, each once. What is compared is the median
/// of the last `window` steps of a stage; nothing is stopped and no weight changes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HealthConfig {
    /// Whether a run warns at all. Default true.
    pub enabled: bool,
    /// Steps whose median is judged, and steps at the beginning of a stage that it is compared with; at least 1. Default 5.
    pub window: usize,
    /// `policy/ref_kl` or `policy/kl` above this is a KL explosion, in nats a token. Default 1.
    pub max_kl: f64,
    /// `policy/entropy` below this share of what it was at the beginning of the stage has collapsed, in [0, 1], unless half of
    /// the groups are solved. Default 0.1.
    pub min_entropy_frac: f64,
    /// `completion/tokens_mean` above so many times its value at the beginning of the stage runs away; at least 1. Default 3.
    pub max_length_growth: f64,
    /// `completion/truncated_frac` from this on, in [0, 1]: nearly all completions are cut off. Default 0.95.
    pub max_truncated_frac: f64,
    /// `group/no_signal_frac` from this on, in [0, 1]: nearly nothing is learned. Default 0.9.
    pub max_no_signal_frac: f64,
    /// The reward has risen and a part of weight 0 has fallen by more than this since the beginning of the stage; above 0.
    /// Default 0.1.
    pub max_divergence: f64,
    /// `policy/mismatch_kl` above this: sampler and trainer have drifted apart, in nats a token. Default 0.01.
    pub max_mismatch_kl: f64,
}

impl Default for HealthConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            window: 5,
            max_kl: 1.0,
            min_entropy_frac: 0.1,
            max_length_growth: 3.0,
            max_truncated_frac: 0.95,
            max_no_signal_frac: 0.9,
            max_divergence: 0.1,
            max_mismatch_kl: 0.01,
        }
    }
}

impl HealthConfig {
    pub(super) fn check(&self, checks: &mut Checks) {
        let mut check =
            |ok: bool, name: &str, message: &str| checks.require(ok, format!("health.{name}"), message);
        check((1..=1000).contains(&self.window), "window", "must lie in 1 to 1000");
        for (name, value) in [
            ("min_entropy_frac", self.min_entropy_frac),
            ("max_truncated_frac", self.max_truncated_frac),
            ("max_no_signal_frac", self.max_no_signal_frac),
        ] {
            check((0.0..=1.0).contains(&value), name, "must lie in [0, 1]");
        }
        for (name, value) in [
            ("max_kl", self.max_kl),
            ("max_divergence", self.max_divergence),
            ("max_mismatch_kl", self.max_mismatch_kl),
        ] {
            check(value > 0.0, name, "must be above 0");
        }
        check(self.max_length_growth >= 1.0, "max_length_growth", "must be at least 1");
    }
}

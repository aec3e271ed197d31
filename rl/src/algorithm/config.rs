//! The keys of `[stage.loss]` and the check that they make sense together.

use serde::{Deserialize, Serialize};

use super::advantage::AdvantageKind;

/// The policy term of the objective, one paper each. The formulas are at the head of `policy.rs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PolicyTerm {
    /// Clipped surrogate of PPO and GRPO, arXiv:2402.03300, with the separate clips of DAPO, arXiv:2503.14476.
    Clip,
    /// [`PolicyTerm::Clip`] with the sequence-level ratio and the narrow clips of GSPO, arXiv:2507.18071.
    Gspo,
    /// Capped, detached importance weight times the log-probability: MiniMax-M1, arXiv:2506.13585.
    Cispo,
    /// Soft sigmoid gate on the ratio, arXiv:2511.20347.
    Sapo,
    /// Geometric mean of clipped token ratios, arXiv:2507.20673.
    Gmpo,
    /// Ratio objective masked by a bound on the change of the token's probability, arXiv:2602.04879.
    DppoTv,
    /// Tapered off-policy REINFORCE, arXiv:2503.14286.
    Topr,
    /// Advantage times log-probability, no ratio; for on-policy updates.
    Reinforce,
}

/// The level at which the importance ratio π_θ/π_old is formed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Importance {
    /// One ratio a token.
    Token,
    /// One ratio a sequence: the geometric mean of its token ratios (arXiv:2507.18071), never their product.
    Sequence,
}

/// How token terms become one number. Totals are those of the whole optimizer step, see
/// [`super::StepTotals`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Aggregate {
    /// Sum over tokens / tokens of the step (DAPO, arXiv:2503.14476).
    TokenMean,
    /// Mean over the tokens of a sequence, then over sequences (GRPO, arXiv:2402.03300).
    SequenceMean,
    /// Sum over the tokens of a sequence, mean over sequences.
    SequenceSum,
    /// Sum over tokens / (sequences · `max_tokens`) (Dr. GRPO, arXiv:2503.20783).
    Constant,
}

/// Estimator of KL(π_θ ‖ π_ref) from one sampled token. The formulas are in [`super::kl`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KlEstimator {
    /// `x = lp − ref`. Only in the reward.
    K1,
    /// `x² / 2`.
    K2,
    /// `exp(−x) − 1 + x`.
    K3,
    /// k3 weighted by the importance ratio, with the gradient through the ratio (arXiv:2512.02556).
    K3Unbiased,
}

/// Where the KL penalty enters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KlPlace {
    /// A term of the loss, differentiated.
    Loss,
    /// Subtracted from the reward before the advantages, not differentiated: [`super::kl::reward_penalty`].
    Reward,
}

/// What becomes of a group whose rewards are all equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GroupsWithoutSignal {
    /// Stays: it counts in the denominators and has its KL gradient.
    Keep,
    /// Leaves the batch before the totals are counted: the denominators shrink and it has no KL gradient.
    Drop,
    /// As `drop`, and further prompts take the places (dynamic sampling, arXiv:2503.14476 section 3.2), at most
    /// `resample_rounds` times a step.
    Resample,
}

/// Correction for a sampler whose distribution is not exactly π_old: `w = exp(old − sampler)` multiplies
/// the policy term as a constant (no gradient), never the KL term.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SamplerCorrection {
    /// No correction: the sampler is the trained policy's own engine.
    None,
    /// `min(w, cap)` for each token.
    TokenTruncate,
    /// `w` where `floor ≤ w ≤ cap`, else 0, for each token.
    TokenMask,
    /// `min(W, cap)`, `W` the product of the sequence's `w`.
    SequenceTruncate,
    /// `W` where `floor ≤ W ≤ cap`, else 0, `W` the product of the sequence's `w`.
    SequenceMask,
    /// 1 where the geometric mean of the sequence's `w` lies in `[floor, cap]`, else 0.
    GeometricMask,
}

/// The keys of `[stage.loss]`.
///
/// `rlvr loss` takes the same keys. Aliases exist for scripts that use the letters of the papers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LossConfig {
    /// Advantage estimator. Default `grpo`.
    pub advantage: AdvantageKind,
    /// Policy term. Default `clip`.
    pub policy: PolicyTerm,
    /// Lower clip: ratios below `1 − clip_low` are clipped. In [0, 1]. Default 0.2, and 3e-4 for `gspo`.
    pub clip_low: Option<f64>,
    /// Upper clip: ratios above `1 + clip_high` are clipped. ≥ 0. Default 0.28, and 4e-4 for `gspo`.
    /// With `cispo` and no `cispo_cap` it is read as the absolute cap and must then be at least 1.
    pub clip_high: Option<f64>,
    /// Upper bound on the ratio before the minimum is taken, so that a negative advantage cannot push without
    /// limit (INTELLECT-2, arXiv:2505.07291, uses 4). ≥ 1; `clip` and `gspo`. Default none.
    pub delta: Option<f64>,
    /// Dual clip `c` (arXiv:1912.09729, uses 3): for A < 0 the objective is at least `c·A`. > 1; `clip` and
    /// `gspo`. Default none.
    pub dual_clip: Option<f64>,
    /// Level of the importance ratio. Default `token`, and `sequence` for `gspo`.
    pub importance: Option<Importance>,
    /// Aggregation over tokens. Default `token_mean`.
    pub aggregate: Aggregate,
    /// Length constant of `aggregate = "constant"`, in tokens. The trainer fills it with
    /// `sampling.max_tokens` when absent. Aliases: `constant_length`,
    /// `max_completion_length`, `l_max`, `L_max`.
    #[serde(alias = "constant_length", alias = "max_completion_length", alias = "l_max", alias = "L_max")]
    pub max_tokens: Option<f64>,
    /// Weight β of the KL penalty to the reference. ≥ 0. Default 0, which means no reference is needed.
    /// Alias: `beta`.
    #[serde(alias = "beta")]
    pub kl_coef: f64,
    /// Estimator of the KL penalty. Default `k3`.
    pub kl_estimator: KlEstimator,
    /// Where the KL penalty enters. Default `loss`.
    pub kl_place: KlPlace,
    /// Weight of the entropy bonus: the entropy of the distribution at each trained token, aggregated as the policy
    /// term is, is subtracted from the loss (arXiv:1602.01783, section 4). ≥ 0. Default 0.
    pub entropy_coef: f64,
    /// Cap of the CISPO weight, an absolute ratio, not `1 + ε`. ≥ 1. Default 5. Aliases: `cap`, `c`.
    #[serde(alias = "cap", alias = "c")]
    pub cispo_cap: Option<f64>,
    /// SAPO temperature for A > 0. Default 1. Single precision, as in the published implementations.
    /// Alias: `tau_pos`.
    #[serde(alias = "tau_pos")]
    pub sapo_temperature_pos: f32,
    /// SAPO temperature for A ≤ 0. Default 1.05. Single precision. Alias: `tau_neg`.
    #[serde(alias = "tau_neg")]
    pub sapo_temperature_neg: f32,
    /// GMPO bound on the logarithm of a token's ratio, in nats. Default 0.4.
    pub gmpo_log_clip: f64,
    /// DPPO bound `d` on the change of a token's probability. In (0, 1]. Default 0.2. Alias: `d`.
    #[serde(alias = "d")]
    pub dppo_bound: f64,
    /// What becomes of groups with equal rewards. Default `keep`.
    pub groups_without_signal: GroupsWithoutSignal,
    /// Correction for rollouts of another engine. Default `none`.
    pub sampler_correction: SamplerCorrection,
    /// Upper bound of the sampler correction. > 0. Default 2.
    pub sampler_cap: f64,
    /// Lower bound of the masking sampler corrections. ≥ 0. Default 0.5.
    pub sampler_floor: f64,
    /// Drops the policy term of tokens with A < 0 in a sequence whose `mean(sampler − lp)` exceeds this, in
    /// nats; `old` stands in for an absent sampler. Default none.
    pub off_policy_mask_threshold: Option<f64>,
}

impl Default for LossConfig {
    fn default() -> Self {
        Self {
            advantage: AdvantageKind::Grpo,
            policy: PolicyTerm::Clip,
            clip_low: None,
            clip_high: None,
            delta: None,
            dual_clip: None,
            importance: None,
            aggregate: Aggregate::TokenMean,
            max_tokens: None,
            kl_coef: 0.0,
            kl_estimator: KlEstimator::K3,
            kl_place: KlPlace::Loss,
            entropy_coef: 0.0,
            cispo_cap: None,
            sapo_temperature_pos: 1.0,
            sapo_temperature_neg: 1.05,
            gmpo_log_clip: 0.4,
            dppo_bound: 0.2,
            groups_without_signal: GroupsWithoutSignal::Keep,
            sampler_correction: SamplerCorrection::None,
            sampler_cap: 2.0,
            sampler_floor: 0.5,
            off_policy_mask_threshold: None,
        }
    }
}

/// Everything wrong with a [`LossConfig`], found in one pass.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", problems.join("; "))]
pub struct LossConfigError {
    /// One message a problem, each beginning with the key.
    pub problems: Vec<String>,
}

impl LossConfig {
    /// Names accepted in place of a key, beside the keys themselves.
    pub const ALIASES: &'static [&'static str] = &[
        "constant_length",
        "max_completion_length",
        "l_max",
        "L_max",
        "beta",
        "cap",
        "c",
        "tau_pos",
        "tau_neg",
        "d",
    ];

    /// The bounds `(1 − clip_low, 1 + clip_high)` of the ratio, with the defaults of the policy term.
    pub fn clip_bounds(&self) -> (f64, f64) {
        let (low, high) = if self.policy == PolicyTerm::Gspo { (3e-4, 4e-4) } else { (0.2, 0.28) };
        (1.0 - self.clip_low.unwrap_or(low), 1.0 + self.clip_high.unwrap_or(high))
    }

    /// The absolute cap of the CISPO weight.
    pub fn cispo_cap(&self) -> f64 {
        self.cispo_cap.or(self.clip_high).unwrap_or(5.0)
    }

    /// The level of the importance ratio, with the default of the policy term.
    pub fn importance_level(&self) -> Importance {
        let default = if self.policy == PolicyTerm::Gspo { Importance::Sequence } else { Importance::Token };
        self.importance.unwrap_or(default)
    }

    /// Whether the loss has a KL term, and so needs reference log-probabilities.
    pub fn kl_in_loss(&self) -> bool {
        self.kl_coef != 0.0 && self.kl_place == KlPlace::Loss
    }

    /// Whether the reward has a KL penalty, and so the rollouts need reference log-probabilities.
    pub fn kl_in_reward(&self) -> bool {
        self.kl_coef != 0.0 && self.kl_place == KlPlace::Reward
    }

    /// Checks ranges and combinations.
    ///
    /// # Errors
    /// [`LossConfigError`] with every problem found, not only the first.
    pub fn validate(&self) -> Result<(), LossConfigError> {
        let mut problems = Vec::new();
        let mut require = |ok: bool, message: &str| {
            if !ok {
                problems.push(message.to_owned());
            }
        };
        let ratio_clips = matches!(self.policy, PolicyTerm::Clip | PolicyTerm::Gspo);
        require(self.clip_low.is_none_or(|v| (0.0..=1.0).contains(&v)), "clip_low: must lie in [0, 1]");
        require(self.clip_high.is_none_or(|v| v >= 0.0 && v.is_finite()), "clip_high: must be 0 or more");
        require(
            self.delta.is_none_or(|v| v >= 1.0),
            "delta: bounds the ratio from above and must be at least 1",
        );
        require(self.delta.is_none() || ratio_clips, "delta: only the policies clip and gspo use it");
        require(self.dual_clip.is_none_or(|v| v > 1.0), "dual_clip: must be above 1");
        require(self.dual_clip.is_none() || ratio_clips, "dual_clip: only the policies clip and gspo use it");
        require(
            self.policy != PolicyTerm::Gspo || self.importance_level() == Importance::Sequence,
            "importance: policy \"gspo\" means importance = \"sequence\"; use policy = \"clip\" for token ratios",
        );
        require(
            self.policy != PolicyTerm::Cispo || self.cispo_cap() >= 1.0,
            "cispo_cap: is the absolute cap of the ratio and must be at least 1 (clip_high stands in for it when \
             it is absent)",
        );
        require(
            self.aggregate != Aggregate::Constant || self.max_tokens.is_some(),
            "max_tokens: aggregate = \"constant\" divides by sequences · max_tokens and needs it",
        );
        require(self.max_tokens.is_none_or(|v| v > 0.0 && v.is_finite()), "max_tokens: must be above 0");
        require(self.kl_coef >= 0.0 && self.kl_coef.is_finite(), "kl_coef: must be 0 or more");
        require(self.entropy_coef >= 0.0 && self.entropy_coef.is_finite(), "entropy_coef: must be 0 or more");
        require(
            !(self.kl_in_loss() && self.kl_estimator == KlEstimator::K1),
            "kl_estimator: \"k1\" in the loss has a gradient whose expectation is zero, so it would regularise \
             nothing and only add noise; set kl_place = \"reward\", or kl_estimator = \"k3\" or \"k3_unbiased\"",
        );
        let positive = |v: f32| v > 0.0 && v.is_finite();
        require(positive(self.sapo_temperature_pos), "sapo_temperature_pos: must be above 0");
        require(positive(self.sapo_temperature_neg), "sapo_temperature_neg: must be above 0");
        require(self.gmpo_log_clip > 0.0, "gmpo_log_clip: must be above 0");
        require(self.dppo_bound > 0.0 && self.dppo_bound <= 1.0, "dppo_bound: must lie in (0, 1]");
        require(self.sampler_cap > 0.0, "sampler_cap: must be above 0");
        require(
            self.sampler_floor >= 0.0 && self.sampler_floor <= self.sampler_cap,
            "sampler_floor: must lie in [0, sampler_cap]",
        );
        require(
            self.sampler_correction == SamplerCorrection::None
                || !matches!(self.policy, PolicyTerm::DppoTv | PolicyTerm::Topr),
            "sampler_correction: the policies dppo_tv and topr divide by the sampler's probability already",
        );
        require(
            self.off_policy_mask_threshold.is_none_or(|v| !v.is_nan()),
            "off_policy_mask_threshold: must be a number",
        );
        if problems.is_empty() { Ok(()) } else { Err(LossConfigError { problems }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid() {
        assert_eq!(LossConfig::default().validate(), Ok(()));
    }

    #[test]
    fn every_problem_is_reported_at_once() {
        let config = LossConfig {
            kl_coef: 0.1,
            kl_estimator: KlEstimator::K1,
            clip_low: Some(1.5),
            dual_clip: Some(0.5),
            aggregate: Aggregate::Constant,
            ..LossConfig::default()
        };
        let problems = config.validate().unwrap_err().problems;
        assert_eq!(problems.len(), 4, "{problems:?}");
        assert!(
            problems.iter().any(|p| p.contains("expectation is zero") && p.contains("kl_place = \"reward\""))
        );
    }

    #[test]
    fn k1_is_allowed_in_the_reward_and_without_a_coefficient() {
        let k1 = LossConfig { kl_estimator: KlEstimator::K1, ..LossConfig::default() };
        assert!(k1.validate().is_ok());
        assert!(LossConfig { kl_coef: 0.1, kl_place: KlPlace::Reward, ..k1 }.validate().is_ok());
    }

    #[test]
    fn a_relative_clip_is_not_taken_for_the_cispo_cap() {
        let config = LossConfig { policy: PolicyTerm::Cispo, clip_high: Some(0.28), ..LossConfig::default() };
        assert!(config.validate().is_err());
        assert!(LossConfig { cispo_cap: Some(5.0), ..config }.validate().is_ok());
    }

    #[test]
    fn aliases_and_unknown_keys() {
        let parse = |text: &str| serde_json::from_str::<LossConfig>(text);
        assert_eq!(parse(r#"{"policy":"cispo","c":4}"#).unwrap().cispo_cap(), 4.0);
        assert_eq!(parse(r#"{"constant_length":12}"#).unwrap().max_tokens, Some(12.0));
        assert!(parse(r#"{"clip_lo":0.2}"#).is_err());
        for alias in LossConfig::ALIASES {
            assert!(parse(&format!("{{\"{alias}\":1.5}}")).is_ok(), "{alias}");
        }
    }
}

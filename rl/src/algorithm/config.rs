//! The keys of `[stage.loss]` and the check that they make sense together.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::advantage::AdvantageKind;
use super::aggregate::Aggregate;
use super::objective::Objective;
use super::old_keys;
use super::presets;
use super::sampler::SamplerCorrection;
use crate::checks::{Checks, Problem};

/// The level at which the importance ratio π_θ/π_old is formed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Importance {
    /// One ratio a token.
    Token,
    /// One ratio a sequence: the geometric mean of its token ratios (arXiv:2507.18071), never their product.
    Sequence,
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

/// The keys of `[stage.loss]`.
///
/// `rlvr loss` takes the same keys. `preset` fills in those that are left out by a published recipe: [`super::presets`]. Keys of earlier versions, flat and with the name of a kind in them, are read for one
/// version more: [`super::OldKeys`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
// What is derived reads the keys of today; `Deserialize` itself rewrites those of earlier versions before.
#[serde(remote = "Self", deny_unknown_fields, default)]
pub struct LossConfig {
    /// Advantage estimator. Default `grpo`.
    pub advantage: AdvantageKind,
    /// Objective of the policy with its settings. Default `clip`.
    #[serde(with = "super::tagged")]
    pub objective: Objective,
    /// Level of the importance ratio. Default `token`, and `sequence` for `gspo`.
    pub importance: Option<Importance>,
    /// Aggregation over tokens. Default `token_mean`.
    #[serde(with = "super::tagged")]
    pub aggregate: Aggregate,
    /// Weight β of the KL penalty to the reference. ≥ 0. Default 0, which means no reference is needed.
    /// Alias: `beta`.
    #[serde(alias = "beta")]
    pub kl_coef: f64,
    /// KL to the reference (`policy/ref_kl`) that the coefficient is steered to, nats a token; `kl_coef` is then what it begins with:
    /// [`super::kl::adapted_coef`]. > 0. Default none: the coefficient stays.
    pub kl_target: Option<f64>,
    /// Completions over which the coefficient may change by a fifth; read with `kl_target`. > 0. Default 10000.
    pub kl_horizon: f64,
    /// Estimator of the KL penalty. Default `k3`.
    pub kl_estimator: KlEstimator,
    /// Where the KL penalty enters. Default `loss`.
    pub kl_place: KlPlace,
    /// Weight of the entropy bonus: the entropy of the distribution at each trained token, aggregated as the policy
    /// term is, is subtracted from the loss (arXiv:1602.01783, section 4). ≥ 0. Default 0.
    pub entropy_coef: f64,
    /// What becomes of groups with equal rewards. Default `keep`.
    pub groups_without_signal: GroupsWithoutSignal,
    /// Correction for rollouts of another engine. Default `none`.
    #[serde(with = "super::tagged")]
    pub sampler_correction: SamplerCorrection,
    /// Share of the trained tokens that have a policy term, those with the highest entropy: [`super::top_entropy`]. In
    /// (0, 1]. Default none: all.
    pub top_entropy_frac: Option<f64>,
    /// Drops the policy term of tokens with A < 0 in a sequence whose `mean(sampler − lp)` exceeds this, in
    /// nats; `old` stands in for an absent sampler. Default none.
    pub off_policy_mask_threshold: Option<f64>,
}

impl Default for LossConfig {
    fn default() -> Self {
        Self {
            advantage: AdvantageKind::Grpo,
            objective: Objective::default(),
            importance: None,
            aggregate: Aggregate::TokenMean,
            kl_coef: 0.0,
            kl_target: None,
            kl_horizon: 10_000.0,
            kl_estimator: KlEstimator::K3,
            kl_place: KlPlace::Loss,
            entropy_coef: 0.0,
            groups_without_signal: GroupsWithoutSignal::Keep,
            sampler_correction: SamplerCorrection::None,
            top_entropy_frac: None,
            off_policy_mask_threshold: None,
        }
    }
}

impl Serialize for LossConfig {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Self::serialize(self, serializer)
    }
}

impl<'de> Deserialize<'de> for LossConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut table = toml::Table::deserialize(deserializer)?;
        old_keys::rewrite(&mut table).map_err(D::Error::custom)?;
        presets::fill_loss(&mut table).map_err(D::Error::custom)?;
        Self::deserialize(table).map_err(|e: toml::de::Error| D::Error::custom(e.message()))
    }
}

/// Everything wrong with a [`LossConfig`], found in one pass.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
pub struct LossConfigError {
    /// The problems, each with its key.
    pub problems: Vec<Problem>,
}

impl LossConfig {
    /// Names accepted in place of a key, beside the keys themselves: those of the papers, and of earlier versions.
    pub fn aliases() -> impl Iterator<Item = &'static str> {
        old_keys::names().chain(["beta"])
    }

    /// The level of the importance ratio, with the default of the objective.
    pub fn importance_level(&self) -> Importance {
        self.importance.unwrap_or_else(|| self.objective.formula().level())
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
        let mut checks = Checks::default();
        self.objective.formula().check(self.importance_level(), &mut checks);
        self.aggregate.check(&mut checks);
        self.sampler_correction.check(&mut checks);
        checks.require(
            self.sampler_correction == SamplerCorrection::None || !self.objective.divides_by_sampler(),
            "sampler_correction",
            "the objectives dppo_tv, topr and vespo divide by the sampler's probability already",
        );
        checks.require(self.kl_coef >= 0.0 && self.kl_coef.is_finite(), "kl_coef", "must be 0 or more");
        let positive = |value: f64| value > 0.0 && value.is_finite();
        checks.require(self.kl_target.is_none_or(positive), "kl_target", "must be above 0, in nats a token");
        checks.require(
            self.kl_target.is_none() || self.kl_coef > 0.0,
            "kl_target",
            "steers kl_coef, which is 0 and would stay so; set kl_coef to where it is to begin, such as 0.01",
        );
        checks.require(positive(self.kl_horizon), "kl_horizon", "must be above 0, in completions");
        checks.require(
            self.entropy_coef >= 0.0 && self.entropy_coef.is_finite(),
            "entropy_coef",
            "must be 0 or more",
        );
        checks.require(
            !(self.kl_in_loss() && self.kl_estimator == KlEstimator::K1),
            "kl_estimator",
            "\"k1\" in the loss has a gradient whose expectation is zero, so it would regularise nothing and only \
             add noise; set kl_place = \"reward\", or kl_estimator = \"k3\" or \"k3_unbiased\"",
        );
        checks.require(
            self.off_policy_mask_threshold.is_none_or(|v| !v.is_nan()),
            "off_policy_mask_threshold",
            "must be a number",
        );
        checks.require(
            self.top_entropy_frac.is_none_or(|frac| frac > 0.0 && frac <= 1.0),
            "top_entropy_frac",
            "is a share of the tokens and must lie in (0, 1]",
        );
        let problems = checks.into_problems();
        if problems.is_empty() { Ok(()) } else { Err(LossConfigError { problems }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::algorithm::{Cispo, Clip};

    #[test]
    fn defaults_are_valid() {
        assert_eq!(LossConfig::default().validate(), Ok(()));
    }

    #[test]
    fn every_problem_is_reported_at_once() {
        let config = LossConfig {
            kl_coef: 0.1,
            kl_estimator: KlEstimator::K1,
            objective: Objective::Clip(Clip { low: 1.5, dual_clip: Some(0.5), ..Clip::default() }),
            aggregate: Aggregate::Constant { max_tokens: None },
            ..LossConfig::default()
        };
        let problems = config.validate().unwrap_err().problems;
        let fields: Vec<&str> = problems.iter().map(|p| p.field.as_str()).collect();
        assert_eq!(fields, ["objective.low", "objective.dual_clip", "aggregate.max_tokens", "kl_estimator"]);
        let k1 = &problems[3].message;
        assert!(k1.contains("expectation is zero") && k1.contains("kl_place = \"reward\""), "{k1}");
    }

    #[test]
    fn k1_is_allowed_in_the_reward_and_without_a_coefficient() {
        let k1 = LossConfig { kl_estimator: KlEstimator::K1, ..LossConfig::default() };
        assert!(k1.validate().is_ok());
        assert!(LossConfig { kl_coef: 0.1, kl_place: KlPlace::Reward, ..k1 }.validate().is_ok());
    }

    #[test]
    fn a_relative_clip_is_not_taken_for_the_cispo_cap() {
        let cispo = |cap| LossConfig { objective: Objective::Cispo(Cispo { cap }), ..LossConfig::default() };
        assert!(cispo(0.28).validate().is_err());
        assert!(cispo(5.0).validate().is_ok());
    }

    #[test]
    fn gspo_has_one_ratio_a_sequence() {
        let config = LossConfig { objective: Objective::Gspo(Default::default()), ..LossConfig::default() };
        assert_eq!((config.importance_level(), config.validate()), (Importance::Sequence, Ok(())));
        let token = LossConfig { importance: Some(Importance::Token), ..config };
        assert!(token.validate().unwrap_err().to_string().starts_with("importance: "));
    }

    #[test]
    fn aliases_and_unknown_keys() {
        let parse = |text: &str| serde_json::from_str::<LossConfig>(text);
        let cispo = parse(r#"{"objective":{"kind":"cispo","c":4}}"#).unwrap();
        assert_eq!(cispo.objective, Objective::Cispo(Cispo { cap: 4.0 }));
        let constant = parse(r#"{"aggregate":{"kind":"constant","l_max":12}}"#).unwrap();
        assert_eq!(constant.aggregate, Aggregate::Constant { max_tokens: Some(12.0) });
        assert!(parse(r#"{"clip_lo":0.2}"#).unwrap_err().to_string().contains("unknown field `clip_lo`"));
        for alias in LossConfig::aliases().filter(|alias| *alias != "policy") {
            assert!(parse(&format!("{{\"{alias}\":1.5}}")).is_ok(), "{alias}");
        }
    }
}

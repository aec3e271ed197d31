//! The objectives: what a trained token adds to the loss, one paper and one file each.
//!
//! `r` is the importance ratio at the level of `importance`, `A` the advantage, `lp` the log-probability, `[·]` stands for
//! a detached value. All are objectives; the loss is their negative.
//!
//! | kind | objective | its settings |
//! |---|---|---|
//! | `clip`, `gspo` | `min(min(r, δ)·A, clamp(r, 1 − low, 1 + high)·A)`, and at least `c·A` for A < 0 | `low`, `high`, `delta` δ, `dual_clip` c |
//! | `cispo` | `[min(r, cap)]·A·lp` | `cap` |
//! | `sapo` | `A·σ(τ(r − 1))·4/τ` | `temperature_pos` and `temperature_neg`, the τ of A > 0 and A ≤ 0 |
//! | `gmpo` | `A·r`, `r` the geometric mean of token ratios clamped on the side that A pushes to | `log_clip` |
//! | `dppo_tv` | `r·A` where A > 0: `π − μ ≤ bound`, A ≤ 0: `π − μ ≥ −bound`; else 0 | `bound` |
//! | `topr` | `A·lp` for A ≥ 0, `[min(r, 1)]·A·lp` for A < 0 | |
//! | `vespo` | `[W^k·exp(λ(1 − W))]·A·lp`, `W` the product of the ratios of the sequence | `k_pos` and `lambda_pos`, `k_neg` and `lambda_neg`: k and λ of A ≥ 0 and A < 0 |
//! | `reinforce` | `A·lp` | |

mod cispo;
mod clip;
mod dppo;
mod gmpo;
mod gspo;
mod reinforce;
mod sapo;
mod topr;
mod vespo;

use serde::{Deserialize, Serialize};

use super::config::Importance;
use super::ratio::Ratio;
use super::rows::Rows;
use crate::checks::Checks;

pub use cispo::Cispo;
pub use clip::Clip;
pub use dppo::DppoTv;
pub use gmpo::Gmpo;
pub use gspo::Gspo;
pub use reinforce::Reinforce;
pub use sapo::Sapo;
pub use topr::Topr;
pub use vespo::Vespo;

/// The objective of the policy with its settings. In a config `{ kind = "cispo", cap = 5.0 }`, or the kind alone, which
/// then has its defaults.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Objective {
    /// Clipped surrogate of PPO and GRPO.
    Clip(Clip),
    /// The clipped surrogate of whole sequences, with narrow clips.
    Gspo(Gspo),
    /// Capped, detached importance weight times the log-probability.
    Cispo(Cispo),
    /// Soft sigmoid gate on the ratio.
    Sapo(Sapo),
    /// Geometric mean of clipped token ratios.
    Gmpo(Gmpo),
    /// Ratio objective masked by a bound on the change of the token's probability.
    DppoTv(DppoTv),
    /// Tapered off-policy REINFORCE.
    Topr(Topr),
    /// REINFORCE with a smooth weight a sequence.
    Vespo(Vespo),
    /// Advantage times log-probability.
    Reinforce(Reinforce),
}

impl Default for Objective {
    fn default() -> Self {
        Self::Clip(Clip::default())
    }
}

impl Objective {
    /// Whether the ratio is one to the sampler where it reported its log-probabilities, so that no further correction for
    /// it has a place.
    pub fn divides_by_sampler(&self) -> bool {
        matches!(self, Self::DppoTv(_) | Self::Topr(_) | Self::Vespo(_))
    }

    pub(super) fn formula(&self) -> &dyn Formula {
        match self {
            Self::Clip(settings) => settings,
            Self::Gspo(settings) => settings,
            Self::Cispo(settings) => settings,
            Self::Sapo(settings) => settings,
            Self::Gmpo(settings) => settings,
            Self::DppoTv(settings) => settings,
            Self::Topr(settings) => settings,
            Self::Vespo(settings) => settings,
            Self::Reinforce(settings) => settings,
        }
    }
}

/// What an objective is made of.
pub(super) trait Formula {
    /// The level of the importance ratio where the config names none.
    fn level(&self) -> Importance {
        Importance::Token
    }

    /// The ratio of the term where that is not the ratio to π_old at `level`.
    fn ratio(&self, _rows: &Rows, _level: Importance) -> Option<Ratio> {
        None
    }

    /// The loss of one token.
    fn term(&self, token: Token) -> Term;

    /// Notes what is wrong with the settings; `level` is that of the importance ratio.
    fn check(&self, _level: Importance, _checks: &mut Checks) {}
}

/// Which bound of the trust region a token is at, counted only where it stops or weakens the update.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bound {
    Inside,
    Low,
    High,
}

/// What one token brings to its term.
#[derive(Debug, Clone, Copy)]
pub(super) struct Token {
    /// Importance ratio, that of [`Formula::ratio`].
    pub ratio: f64,
    pub logprob: f64,
    /// Log-probability under the sampler, under π_old when the sampler reported none.
    pub behaviour_logprob: f64,
    pub advantage: f64,
}

/// Loss of one token (the negative objective) and its derivatives.
#[derive(Debug, Clone, Copy)]
pub(super) struct Term {
    pub value: f64,
    /// Derivative with respect to the ratio.
    pub by_ratio: f64,
    /// Derivative with respect to the token's own log-probability at a constant ratio.
    pub by_logprob: f64,
    pub bound: Bound,
}

impl Term {
    /// Of the objective `ratio·advantage`, differentiated through the ratio.
    fn of_ratio(ratio: f64, advantage: f64, bound: Bound) -> Self {
        Self { value: -ratio * advantage, by_ratio: -advantage, by_logprob: 0.0, bound }
    }

    /// Of the objective `[weight]·A·lp`.
    fn weighted(weight: f64, token: Token, bound: Bound) -> Self {
        Self {
            value: -weight * token.advantage * token.logprob,
            by_ratio: 0.0,
            by_logprob: -weight * token.advantage,
            bound,
        }
    }
}

#[cfg(test)]
fn check_term(formula: &dyn Formula, at: (f64, f64), value: f64, by_ratio: f64, bound: Bound) {
    let (ratio, advantage) = at;
    let term = formula.term(Token { ratio, logprob: -1.0, behaviour_logprob: -1.0, advantage });
    assert!((term.value - value).abs() < 1e-15, "{term:?}");
    assert!((term.by_ratio - by_ratio).abs() < 1e-15, "{term:?}");
    assert_eq!(term.bound, bound, "{term:?}");
}

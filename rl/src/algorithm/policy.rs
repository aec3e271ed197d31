//! The policy term of one token and its derivatives.
//!
//! `r` is the importance ratio at the configured level, `A` the advantage, `lp` the log-probability, `[·]` stands for
//! a detached value. All are objectives; the loss is their negative.
//!
//! | policy | objective |
//! |---|---|
//! | `clip`, `gspo` | `min(min(r, δ)·A, clamp(r, 1 − clip_low, 1 + clip_high)·A)`, and at least `c·A` for A < 0 |
//! | `cispo` | `[min(r, cap)]·A·lp` |
//! | `sapo` | `A·σ(τ(r − 1))·4/τ` |
//! | `gmpo` | `A·r`, `r` the geometric mean of token ratios clamped on the side that A pushes to |
//! | `dppo_tv` | `r·A` where A > 0: `π − μ ≤ d`, A ≤ 0: `π − μ ≥ −d`; else 0 |
//! | `topr` | `A·lp` for A ≥ 0, `[min(r, 1)]·A·lp` for A < 0 |
//! | `reinforce` | `A·lp` |

use super::config::{LossConfig, PolicyTerm};

/// Which bound of the trust region a token is at, counted only where it stops or weakens the update.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bound {
    Inside,
    Low,
    High,
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

/// What one token brings to its term.
#[derive(Debug, Clone, Copy)]
pub(super) struct Token {
    /// Importance ratio: to the sampler for `dppo_tv` and `topr`, to π_old otherwise.
    pub ratio: f64,
    pub logprob: f64,
    /// Log-probability under the sampler, under π_old when the sampler reported none.
    pub behaviour_logprob: f64,
    pub advantage: f64,
}

/// The policy loss of one token.
pub(super) fn term(token: Token, config: &LossConfig) -> Term {
    let Token { ratio, logprob, behaviour_logprob, advantage } = token;
    // Objective w·A·lp with a detached weight.
    let weighted = |weight: f64, bound: Bound| Term {
        value: -weight * advantage * logprob,
        by_ratio: 0.0,
        by_logprob: -weight * advantage,
        bound,
    };
    match config.policy {
        PolicyTerm::Clip | PolicyTerm::Gspo => clip(ratio, advantage, config),
        PolicyTerm::Cispo => {
            let cap = config.cispo_cap();
            weighted(ratio.min(cap), if ratio > cap { Bound::High } else { Bound::Inside })
        }
        PolicyTerm::Sapo => {
            let temperature =
                if advantage > 0.0 { config.sapo_temperature_pos } else { config.sapo_temperature_neg };
            let temperature = f64::from(temperature);
            let gate = 1.0 / (1.0 + (-temperature * (ratio - 1.0)).exp());
            Term {
                value: -advantage * gate * 4.0 / temperature,
                by_ratio: -advantage * 4.0 * gate * (1.0 - gate),
                by_logprob: 0.0,
                bound: Bound::Inside,
            }
        }
        // The clamp is inside the ratio: see `ratio::Ratio::clamped_geometric_mean`.
        PolicyTerm::Gmpo => ratio_objective(ratio, advantage, Bound::Inside),
        PolicyTerm::DppoTv => {
            let moved = logprob.exp() - behaviour_logprob.exp();
            if advantage > 0.0 && moved > config.dppo_bound {
                ratio_objective(0.0, 0.0, Bound::High)
            } else if advantage <= 0.0 && moved < -config.dppo_bound {
                ratio_objective(0.0, 0.0, Bound::Low)
            } else {
                ratio_objective(ratio, advantage, Bound::Inside)
            }
        }
        PolicyTerm::Topr if advantage < 0.0 => {
            weighted(ratio.min(1.0), if ratio > 1.0 { Bound::High } else { Bound::Inside })
        }
        PolicyTerm::Topr | PolicyTerm::Reinforce => weighted(1.0, Bound::Inside),
    }
}

fn ratio_objective(ratio: f64, advantage: f64, bound: Bound) -> Term {
    Term { value: -ratio * advantage, by_ratio: -advantage, by_logprob: 0.0, bound }
}

/// The clipped surrogate with the upper `delta` and the dual clip.
///
/// A clamp passes its gradient at its bounds, and a tie of minimum or maximum splits it in halves, as in the usual
/// automatic differentiation, so that r = 1 with zero clips has the same subgradient.
fn clip(ratio: f64, advantage: f64, config: &LossConfig) -> Term {
    let (low, high) = config.clip_bounds();
    let (capped, capped_slope) = match config.delta {
        Some(delta) if ratio > delta => (delta, 0.0),
        _ => (ratio, 1.0),
    };
    let clipped = ratio.clamp(low, high);
    let clipped_slope = if (low..=high).contains(&ratio) { 1.0 } else { 0.0 };
    let (free, bounded) = (capped * advantage, clipped * advantage);
    let share = share_of_first(free < bounded, free > bounded);
    let mut value = free.min(bounded);
    let mut slope = (share * capped_slope + (1.0 - share) * clipped_slope) * advantage;
    if let Some(floor) = config.dual_clip.filter(|_| advantage < 0.0).map(|c| c * advantage) {
        slope *= share_of_first(value > floor, value < floor);
        value = value.max(floor);
    }
    let bound = if slope != 0.0 || advantage == 0.0 {
        Bound::Inside
    } else if ratio < low {
        Bound::Low
    } else {
        Bound::High
    };
    Term { value: -value, by_ratio: -slope, by_logprob: 0.0, bound }
}

/// Share of the gradient that the first of two candidates gets.
fn share_of_first(first_wins: bool, second_wins: bool) -> f64 {
    match (first_wins, second_wins) {
        (true, _) => 1.0,
        (_, true) => 0.0,
        _ => 0.5,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(config: &LossConfig, ratio: f64, advantage: f64, value: f64, by_ratio: f64, bound: Bound) {
        let token = Token { ratio, logprob: -1.0, behaviour_logprob: -1.0, advantage };
        let term = term(token, config);
        assert!((term.value - value).abs() < 1e-15, "{term:?}");
        assert!((term.by_ratio - by_ratio).abs() < 1e-15, "{term:?}");
        assert_eq!(term.bound, bound, "{term:?}");
    }

    #[test]
    fn clip_by_hand() {
        let config = LossConfig { clip_low: Some(0.2), clip_high: Some(0.28), ..LossConfig::default() };
        check(&config, 1.0, 2.0, -2.0, -2.0, Bound::Inside);
        check(&config, 1.5, 2.0, -2.56, 0.0, Bound::High);
        check(&config, 0.5, 2.0, -1.0, -2.0, Bound::Inside);
        check(&config, 0.5, -2.0, 1.6, 0.0, Bound::Low);
        check(&config, 1.5, -2.0, 3.0, 2.0, Bound::Inside);
        let dual = LossConfig { dual_clip: Some(3.0), ..config.clone() };
        check(&dual, 5.0, -2.0, 6.0, 0.0, Bound::High);
        check(&dual, 2.0, -2.0, 4.0, 2.0, Bound::Inside);
        let delta = LossConfig { delta: Some(4.0), ..config };
        check(&delta, 5.0, -2.0, 8.0, 0.0, Bound::High);
    }

    #[test]
    fn cispo_and_topr_cap_a_detached_weight() {
        let cispo = LossConfig { policy: PolicyTerm::Cispo, ..LossConfig::default() };
        check(&cispo, 7.0, 1.0, 5.0, 0.0, Bound::High);
        check(&cispo, 2.0, 1.0, 2.0, 0.0, Bound::Inside);
        let topr = LossConfig { policy: PolicyTerm::Topr, ..LossConfig::default() };
        check(&topr, 7.0, 1.0, 1.0, 0.0, Bound::Inside);
        check(&topr, 7.0, -1.0, -1.0, 0.0, Bound::High);
        check(&topr, 0.5, -1.0, -0.5, 0.0, Bound::Inside);
    }

    #[test]
    fn dppo_masks_by_probability_not_by_ratio() {
        let config = LossConfig { policy: PolicyTerm::DppoTv, ..LossConfig::default() };
        let token = |p: f64, mu: f64, advantage: f64| Token {
            ratio: p / mu,
            logprob: p.ln(),
            behaviour_logprob: mu.ln(),
            advantage,
        };
        assert_eq!(
            term(token(0.02, 0.002, 1.0), &config).bound,
            Bound::Inside,
            "a rare token may grow tenfold"
        );
        assert_eq!(term(token(0.8, 0.5, 1.0), &config).bound, Bound::High);
        assert_eq!(term(token(0.8, 0.5, -1.0), &config).bound, Bound::Inside);
        let low = term(token(0.2, 0.5, -1.0), &config);
        assert_eq!((low.bound, low.value, low.by_ratio), (Bound::Low, 0.0, 0.0));
    }
}

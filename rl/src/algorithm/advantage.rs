//! Advantages of the completions of a prompt, relative to their group.
//!
//! With the rewards `R` of a group of G judged completions, `mean` and `std` over the group:
//!
//! | kind | advantage | source |
//! |---|---|---|
//! | `grpo` | `(R − mean) / (std + ε)` | arXiv:2402.03300 |
//! | `dr_grpo` | `R − mean` | arXiv:2503.20783 |
//! | `rloo` | `(R − mean)·G/(G − 1)`: R minus the mean of the others | arXiv:2402.14740 |
//! | `batch_std` | `(R − mean) / (std of the batch + ε)` | arXiv:2508.08221 |
//! | `reinforce_pp_baseline` | `R − mean`, then whitened over the tokens of the batch | arXiv:2501.03262 |
//! | `max_rl` | `(R − mean) / mean`, 0 where the mean is not above 0 | arXiv:2602.02710 |
//! | `gdpo` | whitened sum of the components' normalised rewards, [`gdpo_advantages`] | arXiv:2601.05242 |
//!
//! Choices and deviations, where codebases differ:
//! - `std` is the sample deviation (n − 1) and ε is 1e-4; the papers give neither. Whitening over tokens uses the
//!   population deviation and the same ε.
//! - A reward that is absent, NaN or infinite is not in any statistic and its advantage is 0.
//! - A group with fewer than two judged rewards, or with equal ones, has advantages of exactly 0 (before whitening).

use serde::{Deserialize, Serialize};

/// ε of every division by a standard deviation.
pub const STD_EPSILON: f64 = 1e-4;

/// The advantage estimators; the module's head has their formulas.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AdvantageKind {
    /// Group mean and deviation.
    Grpo,
    /// Group mean only.
    DrGrpo,
    /// Mean of the other completions.
    Rloo,
    /// Group mean, deviation of the batch.
    BatchStd,
    /// Group mean, then whitened over the tokens of the batch.
    ReinforcePpBaseline,
    /// Group mean, divided by it.
    MaxRl,
    /// Every part of the reward normalised by itself; a reward without parts is one.
    Gdpo,
}

/// Whether the rewards of a group differ, so that it has a policy gradient.
pub fn has_signal(rewards: &[Option<f64>]) -> bool {
    let mut judged = rewards.iter().filter_map(|r| finite(*r));
    judged.next().is_some_and(|first| judged.any(|r| r != first))
}

/// Advantages of one group, `[G]` → `[G]`. For the kinds with statistics of the batch the group is the batch.
///
/// `None` is a completion that could not be judged: it is in no statistic and gets 0.
pub fn group_advantages(rewards: &[Option<f64>], kind: AdvantageKind) -> Vec<f64> {
    batch_advantages(&[rewards], None, kind).pop().unwrap_or_default()
}

/// Advantages of a batch of groups, `rewards[p][g]` → `[p][g]`.
///
/// `tokens[p][g]` is the number of trained tokens of each completion, the weights of whitening in
/// `reinforce_pp_baseline`; without it every completion weighs the same.
///
/// # Panics
/// When `tokens` has not the shape of `rewards`.
pub fn batch_advantages(
    rewards: &[&[Option<f64>]],
    tokens: Option<&[&[usize]]>,
    kind: AdvantageKind,
) -> Vec<Vec<f64>> {
    let mut advantages: Vec<Vec<f64>> = rewards.iter().map(|group| centred(group)).collect();
    match kind {
        AdvantageKind::DrGrpo => {}
        AdvantageKind::Grpo => {
            for (group, rewards) in advantages.iter_mut().zip(rewards) {
                let std = sample_std(&judged(rewards));
                scale(group, 1.0 / (std + STD_EPSILON));
            }
        }
        AdvantageKind::Rloo => {
            for (group, rewards) in advantages.iter_mut().zip(rewards) {
                let size = judged(rewards).len() as f64;
                scale(group, if size > 1.0 { size / (size - 1.0) } else { 0.0 });
            }
        }
        AdvantageKind::MaxRl => {
            for (group, rewards) in advantages.iter_mut().zip(rewards) {
                let mean = mean(&judged(rewards));
                scale(group, if mean > 0.0 { 1.0 / mean } else { 0.0 });
            }
        }
        AdvantageKind::BatchStd => {
            let all: Vec<f64> = rewards.iter().flat_map(|group| judged(group)).collect();
            let factor = 1.0 / (sample_std(&all) + STD_EPSILON);
            advantages.iter_mut().for_each(|group| scale(group, factor));
        }
        AdvantageKind::ReinforcePpBaseline => whiten_over_tokens(&mut advantages, rewards, tokens),
        AdvantageKind::Gdpo => {
            return gdpo_advantages(&[rewards.iter().map(|group| group.to_vec()).collect()], &[1.0]);
        }
    }
    advantages
}

/// GDPO advantages (arXiv:2601.05242) from the components of the reward: `components[k][p][g]` → `[p][g]`.
///
/// Each component is normalised within its group as in `grpo`, the results are summed with `weights` `[k]`, and the
/// sums are whitened over the completions of the batch that have at least one judged component (sample deviation).
///
/// # Panics
/// When `weights` and `components` differ in length, or the components in shape.
pub fn gdpo_advantages(components: &[Vec<Vec<Option<f64>>>], weights: &[f64]) -> Vec<Vec<f64>> {
    assert_eq!(components.len(), weights.len(), "one weight a reward component");
    let Some(first) = components.first() else { return Vec::new() };
    let mut sums: Vec<Vec<Option<f64>>> = first.iter().map(|group| vec![None; group.len()]).collect();
    for (component, weight) in components.iter().zip(weights) {
        assert_eq!(component.len(), sums.len(), "every reward component has the same groups");
        for (rewards, sum) in component.iter().zip(&mut sums) {
            assert_eq!(rewards.len(), sum.len(), "every reward component has the same group sizes");
            let normalised = group_advantages(rewards, AdvantageKind::Grpo);
            for ((sum, reward), advantage) in sum.iter_mut().zip(rewards).zip(normalised) {
                if finite(*reward).is_some() {
                    *sum = Some(sum.unwrap_or(0.0) + weight * advantage);
                }
            }
        }
    }
    let all: Vec<f64> = sums.iter().flatten().flatten().copied().collect();
    let (mean, divisor) = (mean(&all), sample_std(&all) + STD_EPSILON);
    sums.into_iter()
        .map(|group| group.into_iter().map(|sum| sum.map_or(0.0, |s| (s - mean) / divisor)).collect())
        .collect()
}

/// `R − mean`, 0 where the reward is not judged or the group has no signal.
fn centred(rewards: &[Option<f64>]) -> Vec<f64> {
    if !has_signal(rewards) {
        return vec![0.0; rewards.len()];
    }
    let mean = mean(&judged(rewards));
    rewards.iter().map(|r| finite(*r).map_or(0.0, |r| r - mean)).collect()
}

fn whiten_over_tokens(advantages: &mut [Vec<f64>], rewards: &[&[Option<f64>]], tokens: Option<&[&[usize]]>) {
    if let Some(tokens) = tokens {
        assert!(
            tokens.len() == rewards.len() && tokens.iter().zip(rewards).all(|(t, r)| t.len() == r.len()),
            "token counts have not the shape of the rewards"
        );
    }
    let weight = |p: usize, g: usize| match finite(rewards[p][g]) {
        Some(_) => tokens.map_or(1.0, |tokens| tokens[p][g] as f64),
        None => 0.0,
    };
    let (mut total, mut sum, mut squares) = (0.0, 0.0, 0.0);
    for (p, group) in advantages.iter().enumerate() {
        for (g, advantage) in group.iter().enumerate() {
            total += weight(p, g);
            sum += weight(p, g) * advantage;
        }
    }
    if total == 0.0 {
        return;
    }
    let mean = sum / total;
    for (p, group) in advantages.iter().enumerate() {
        for (g, advantage) in group.iter().enumerate() {
            squares += weight(p, g) * (advantage - mean).powi(2);
        }
    }
    let divisor = (squares / total).sqrt() + STD_EPSILON;
    for (group, rewards) in advantages.iter_mut().zip(rewards) {
        for (advantage, _) in group.iter_mut().zip(*rewards).filter(|(_, r)| finite(**r).is_some()) {
            *advantage = (*advantage - mean) / divisor;
        }
    }
}

fn finite(reward: Option<f64>) -> Option<f64> {
    reward.filter(|r| r.is_finite())
}

fn judged(rewards: &[Option<f64>]) -> Vec<f64> {
    rewards.iter().filter_map(|r| finite(*r)).collect()
}

fn scale(values: &mut [f64], factor: f64) {
    values.iter_mut().for_each(|v| *v *= factor);
}

fn mean(values: &[f64]) -> f64 {
    super::ratio::mean(values)
}

/// Sample standard deviation (n − 1); 0 for fewer than two values.
fn sample_std(values: &[f64]) -> f64 {
    if values.len() < 2 {
        return 0.0;
    }
    let mean = mean(values);
    let squares: f64 = values.iter().map(|v| (v - mean).powi(2)).sum();
    (squares / (values.len() - 1) as f64).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::algorithm::fixtures::Lcg;

    const KINDS: [AdvantageKind; 7] = [
        AdvantageKind::Grpo,
        AdvantageKind::DrGrpo,
        AdvantageKind::Rloo,
        AdvantageKind::BatchStd,
        AdvantageKind::ReinforcePpBaseline,
        AdvantageKind::MaxRl,
        AdvantageKind::Gdpo,
    ];

    fn check(rewards: &[Option<f64>], kind: AdvantageKind, expected: &[f64]) {
        let found = group_advantages(rewards, kind);
        assert_eq!(found.len(), expected.len());
        for (a, b) in found.iter().zip(expected) {
            assert!((a - b).abs() < 1e-12, "{kind:?} of {rewards:?}: {found:?}");
        }
    }

    #[test]
    fn by_hand() {
        let rewards = [Some(1.0), Some(0.0), Some(0.0), Some(0.0)];
        let std = 0.5 + STD_EPSILON;
        check(&rewards, AdvantageKind::Grpo, &[0.75 / std, -0.25 / std, -0.25 / std, -0.25 / std]);
        check(&rewards, AdvantageKind::DrGrpo, &[0.75, -0.25, -0.25, -0.25]);
        check(&rewards, AdvantageKind::Rloo, &[1.0, -1.0 / 3.0, -1.0 / 3.0, -1.0 / 3.0]);
        check(&rewards, AdvantageKind::MaxRl, &[3.0, -1.0, -1.0, -1.0]);
    }

    #[test]
    fn groups_without_signal_are_exactly_zero() {
        for kind in KINDS {
            // 0.1 is not a binary fraction: a plain mean of three differs from it in the last bit.
            for rewards in [vec![Some(0.1); 3], vec![Some(1.0)], vec![], vec![None, Some(1.0)], vec![None; 4]]
            {
                assert!(group_advantages(&rewards, kind).iter().all(|a| *a == 0.0), "{kind:?} {rewards:?}");
                assert!(!has_signal(&rewards));
            }
        }
    }

    #[test]
    fn a_broken_reward_does_not_poison_its_group() {
        for kind in KINDS {
            let clean = group_advantages(&[Some(1.0), Some(0.0), Some(0.5)], kind);
            for broken in [None, Some(f64::NAN), Some(f64::INFINITY)] {
                let found = group_advantages(&[Some(1.0), broken, Some(0.0), Some(0.5)], kind);
                assert_eq!(found, [clean[0], 0.0, clean[1], clean[2]], "{kind:?} with {broken:?}");
            }
        }
    }

    #[test]
    fn sums_to_zero_and_ignores_shifts() {
        let mut random = Lcg::new(7);
        for round in 0..200 {
            let rewards: Vec<_> = (0..2 + round % 7).map(|_| Some(random.uniform(-1.0, 2.0))).collect();
            let shifted: Vec<_> = rewards.iter().map(|r| r.map(|r| r + 5.0)).collect();
            let scaled: Vec<_> = rewards.iter().map(|r| r.map(|r| r * 3.0)).collect();
            for kind in KINDS {
                let advantages = group_advantages(&rewards, kind);
                assert!(advantages.iter().sum::<f64>().abs() < 1e-9, "{kind:?} {advantages:?}");
                if kind != AdvantageKind::MaxRl {
                    for (a, b) in advantages.iter().zip(group_advantages(&shifted, kind)) {
                        assert!((a - b).abs() < 1e-9, "{kind:?} shifted");
                    }
                }
            }
            // Scale changes grpo only through ε, by a share of at most ε/std.
            let std = sample_std(&judged(&rewards));
            let pairs = group_advantages(&rewards, AdvantageKind::Grpo);
            for (a, b) in pairs.iter().zip(group_advantages(&scaled, AdvantageKind::Grpo)) {
                assert!((a - b).abs() <= a.abs() * STD_EPSILON / std + 1e-12, "{a} {b} std {std}");
            }
        }
    }

    #[test]
    fn whitening_weighs_tokens() {
        let rewards: [&[Option<f64>]; 2] = [&[Some(1.0), Some(0.0)], &[Some(0.0), Some(2.0), None]];
        let tokens: [&[usize]; 2] = [&[3, 1], &[2, 2, 9]];
        let found = batch_advantages(&rewards, Some(&tokens), AdvantageKind::ReinforcePpBaseline);
        let flat = [(found[0][0], 3.0), (found[0][1], 1.0), (found[1][0], 2.0), (found[1][1], 2.0)];
        let mean: f64 = flat.iter().map(|(a, w)| a * w).sum::<f64>() / 8.0;
        let square: f64 = flat.iter().map(|(a, w)| a * a * w).sum::<f64>() / 8.0;
        assert!(mean.abs() < 1e-12 && (square - 1.0).abs() < 1e-3, "{found:?}");
        assert_eq!(found[1][2], 0.0);
    }
}

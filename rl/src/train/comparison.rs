//! The completions of a step compared with each other: from rewards to advantages.
use crate::algorithm::kl::reward_penalty;
use crate::algorithm::{AdvantageKind, LossConfig, batch_advantages, gdpo_advantages};
use crate::train::group::Group;
use crate::train::judging::Judgement;
use crate::train::recorded::GivenAdvantage;
use crate::train::trajectory::Trajectory;

/// Scores of one part of the rewards, `[group][completion]`.
type Component = Vec<Vec<Option<f64>>>;

/// The advantages of every completion, `[group][completion]`, from its reward less the KL penalty where that is in the
/// reward; then `trajectories` are all completions, with log-probabilities under π_old and π_ref. Those that were given with
/// the rollouts are taken as they are.
pub(crate) fn advantages(groups: &[Group], trajectories: &[Trajectory], loss: &LossConfig) -> Vec<Vec<f64>> {
    if groups.iter().any(|g| !g.given.is_empty()) {
        return groups.iter().map(|g| g.given.iter().map(GivenAdvantage::mean).collect()).collect();
    }
    if loss.advantage == AdvantageKind::Gdpo {
        let (components, weights) = reward_components(groups);
        return gdpo_advantages(&components, &weights);
    }
    let mut rewards = scores(groups, &|j| j.reward);
    if loss.kl_in_reward() {
        for t in trajectories {
            let (old, reference) = (t.old_logprobs.as_deref(), t.ref_logprobs.as_deref());
            let all = vec![true; t.targets()];
            let penalty = reward_penalty(old.unwrap_or_default(), reference.unwrap_or_default(), &all, loss);
            rewards[t.prompt][t.sample] = rewards[t.prompt][t.sample].map(|r| r - penalty);
        }
    }
    let rewards: Vec<&[Option<f64>]> = rewards.iter().map(Vec::as_slice).collect();
    let lengths: Vec<Vec<usize>> =
        groups.iter().map(|g| g.completions.iter().map(|c| c.token_ids.len()).collect()).collect();
    let lengths: Vec<&[usize]> = lengths.iter().map(Vec::as_slice).collect();
    let by_tokens = loss.advantage == AdvantageKind::ReinforcePpBaseline;
    batch_advantages(&rewards, by_tokens.then_some(&lengths), loss.advantage)
}

fn scores(groups: &[Group], score: &dyn Fn(&Judgement) -> Option<f64>) -> Component {
    groups.iter().map(|g| g.judgements.iter().map(score).collect()).collect()
}

/// The weighted parts of the rewards and their weights; the reward itself is the only component where it has no parts.
fn reward_components(groups: &[Group]) -> (Vec<Component>, Vec<f64>) {
    let mut names: Vec<(&str, f64)> = Vec::new();
    for part in groups.iter().flat_map(|g| &g.judgements).flat_map(|j| &j.outcome.parts) {
        if part.weight != 0.0 && !names.iter().any(|(name, _)| *name == part.name) {
            names.push((&part.name, part.weight));
        }
    }
    if names.is_empty() {
        return (vec![scores(groups, &|j| j.reward)], vec![1.0]);
    }
    let part = |name: &str, j: &Judgement| {
        // A completion whose reward is masked is in no component.
        j.reward.and_then(|_| j.outcome.parts.iter().find(|p| p.name == name)?.score)
    };
    let components = names.iter().map(|(name, _)| scores(groups, &|j| part(name, j))).collect();
    (components, names.iter().map(|(_, weight)| *weight).collect())
}

//! How an optimizer step is cut into shards, and what each of them adds to what the step reports.
use crate::algorithm::LossStats;
use crate::train::outcome::{FirstPass, StepOutcome};
use crate::train::trajectory::Trajectory;
use rlvr_rollout::Prompt;

/// Cuts trajectories, those of a prompt one behind the other, into `count` shards of whole groups: the longest group goes first,
/// each to the shard with the fewest rows so far, of equal ones to the first. Within a shard they keep their order. A shard
/// has the numbers of its trajectories; those of one shard alone are all, in order.
pub(crate) fn split(prompts: &[Prompt], trajectories: &[Trajectory], count: usize) -> Vec<Vec<usize>> {
    let (mut groups, mut first) = (Vec::new(), 0);
    for group in trajectories.chunk_by(|a, b| a.prompt == b.prompt) {
        let completions: usize = group.iter().map(|t| t.tokens.len()).sum();
        groups.push((prompts[group[0].prompt].token_ids.len() + completions, first..first + group.len()));
        first += group.len();
    }
    // Stable: of equal ones the first.
    groups.sort_by_key(|(rows, _)| std::cmp::Reverse(*rows));
    let mut shards = vec![(0, Vec::new()); count.max(1)];
    for (rows, group) in groups {
        if let Some((taken, shard)) = shards.iter_mut().min_by_key(|(taken, _)| *taken) {
            *taken += rows;
            shard.extend(group);
        }
    }
    let sorted = |(_, mut shard): (usize, Vec<usize>)| {
        shard.sort_unstable();
        shard
    };
    shards.into_iter().map(sorted).collect()
}

/// The trajectories of every shard.
pub(crate) fn shards(prompts: &[Prompt], trajectories: &[Trajectory], count: usize) -> Vec<Vec<Trajectory>> {
    let of = |shard: Vec<usize>| shard.into_iter().map(|i| trajectories[i].clone()).collect();
    split(prompts, trajectories, count).into_iter().map(of).collect()
}

/// Neighbouring trajectories of a pass, with the number of the pass among those of the whole update.
pub type Micro<'a> = (usize, &'a [Trajectory]);

/// Numbers the micro-batches of all shards, those of a shard one behind the other.
pub(crate) fn numbered<'a>(shards: impl Iterator<Item = Vec<&'a [Trajectory]>>) -> Vec<Vec<Micro<'a>>> {
    let mut next = 0..;
    shards.map(|micro| micro.into_iter().map(|micro| (next.next().unwrap_or(0), micro)).collect()).collect()
}

/// What the passes of a shard, or of an update, add up beside gradients.
#[derive(Debug, Default)]
pub(crate) struct Sums {
    pub(crate) loss: f64,
    pub(crate) trained_tokens: usize,
    pub(crate) stats: LossStats,
    pub(crate) first: FirstPass,
}

impl Sums {
    /// Takes the sums of a step, to go on with them.
    pub(crate) fn of(out: &mut StepOutcome) -> Self {
        let (stats, first) = (std::mem::take(&mut out.stats), std::mem::take(&mut out.first));
        Self { loss: 0.0, trained_tokens: std::mem::take(&mut out.trained_tokens), stats, first }
    }

    /// Gives them back, and returns the loss.
    pub(crate) fn give(self, out: &mut StepOutcome) -> f64 {
        (out.stats, out.first, out.trained_tokens) = (self.stats, self.first, self.trained_tokens);
        self.loss
    }

    /// Adds those of a further shard.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.loss += other.loss;
        self.trained_tokens += other.trained_tokens;
        self.stats.merge(&other.stats);
        self.first.merge(&other.first);
    }

    /// As numbers, for other ranks.
    pub(crate) fn numbers(&self) -> Vec<f64> {
        let LossStats {
            sequences,
            tokens,
            policy_loss,
            kl_loss,
            ref_kl_sum,
            old_kl_sum,
            clip_low_tokens,
            clip_high_tokens,
            dropped_tokens,
            ratio_sum,
            ratio_min,
            ratio_max,
            max_abs_log_ratio,
        } = self.stats;
        let FirstPass { tokens: seen, entropy_sum, compared, mismatch_sum, mismatch_max } = self.first;
        let own = [self.loss, self.trained_tokens as f64];
        let first = [seen, entropy_sum, compared, mismatch_sum, mismatch_max];
        let sums = [sequences, tokens, policy_loss, kl_loss, ref_kl_sum, old_kl_sum];
        let clipped = [clip_low_tokens, clip_high_tokens, dropped_tokens];
        let ratios = [ratio_sum, ratio_min, ratio_max, max_abs_log_ratio];
        [&own[..], &first, &sums, &clipped, &ratios].concat()
    }

    /// What [`Self::numbers`] gave; none of other numbers.
    pub(crate) fn from_numbers(numbers: &[f64]) -> Option<Self> {
        let [
            own @ ..,
            sequences,
            tokens,
            policy_loss,
            kl_loss,
            ref_kl_sum,
            old_kl_sum,
            low,
            high,
            dropped,
            ratio_sum,
            ratio_min,
            ratio_max,
            max_abs_log_ratio,
        ] = numbers
        else {
            return None;
        };
        let [loss, trained, seen, entropy_sum, compared, mismatch_sum, mismatch_max] = *own else {
            return None;
        };
        let stats = LossStats {
            sequences: *sequences,
            tokens: *tokens,
            policy_loss: *policy_loss,
            kl_loss: *kl_loss,
            ref_kl_sum: *ref_kl_sum,
            old_kl_sum: *old_kl_sum,
            clip_low_tokens: *low,
            clip_high_tokens: *high,
            dropped_tokens: *dropped,
            ratio_sum: *ratio_sum,
            ratio_min: *ratio_min,
            ratio_max: *ratio_max,
            max_abs_log_ratio: *max_abs_log_ratio,
        };
        let first = FirstPass { tokens: seen, entropy_sum, compared, mismatch_sum, mismatch_max };
        Some(Self { loss, trained_tokens: trained as usize, stats, first })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(lengths: &[&[usize]]) -> (Vec<Prompt>, Vec<Trajectory>) {
        let prompts = lengths.iter().map(|_| vec![1, 2, 3].into()).collect();
        let group = |(prompt, lengths): (usize, &&[usize])| -> Vec<Trajectory> {
            let one = |(i, n): (usize, &usize)| Trajectory::completion(prompt, i, vec![5; *n]);
            lengths.iter().enumerate().map(one).collect()
        };
        (prompts, lengths.iter().enumerate().flat_map(group).collect())
    }

    #[test]
    fn shards_are_whole_groups_of_about_as_many_rows() {
        let (prompts, all) = batch(&[&[4, 4], &[9], &[1, 1, 1], &[8, 2], &[3]]);
        assert_eq!(split(&prompts, &all, 1), [vec![0, 1, 2, 3, 4, 5, 6, 7, 8]]);
        // 13, 12, 11, 6 and 6 rows: {13, 6} and {12, 11, 6} by the longest first.
        assert_eq!(split(&prompts, &all, 2), [vec![3, 4, 5, 6, 7, 8], vec![0, 1, 2]].map(|s| s).to_vec());
        let shards = split(&prompts, &all, 4);
        let mut found: Vec<usize> = shards.concat();
        found.sort_unstable();
        assert_eq!(found, (0..all.len()).collect::<Vec<_>>());
        for shard in &shards {
            for group in all.chunk_by(|a, b| a.prompt == b.prompt) {
                let of = |i: &&usize| all[**i].prompt == group[0].prompt;
                let there = shard.iter().filter(of).count();
                assert!(there == 0 || there == group.len());
            }
        }
        // More shards than groups leave some empty.
        assert_eq!(split(&prompts, &all, 8).iter().filter(|shard| shard.is_empty()).count(), 3);
        assert_eq!(split(&prompts, &[], 2), [vec![0; 0], vec![]]);
    }

    #[test]
    fn sums_survive_the_way_to_other_ranks() {
        let mut sums = Sums { loss: 0.1, trained_tokens: 7, ..Sums::default() };
        sums.stats.ratio_max = 1.25;
        sums.stats.dropped_tokens = 3.0;
        sums.first.mismatch_max = 1e-7;
        let numbers = sums.numbers();
        let back = Sums::from_numbers(&numbers).unwrap();
        // Infinite where there are no tokens.
        assert_eq!(back.stats.ratio_min, f64::INFINITY);
        assert_eq!((back.stats.clone(), back.trained_tokens), (sums.stats.clone(), 7));
        assert_eq!(back.numbers(), numbers);
        assert!(Sums::from_numbers(&numbers[1..]).is_none());
    }
}

//! Trajectories and how they are packed into micro-batches.
use rlvr_policies::decoder::Decoder;
use rlvr_policies::packed::{PackedBatch, PromptGroup};
use rlvr_rollout::Prompt;
use std::ops::Range;

/// What follows a prompt, and which of it is trained.
///
/// Arrays of log-probabilities have an entry for each trained token, in nats.
#[derive(Debug, Clone, Default)]
pub struct Trajectory {
    /// Index of its prompt among those of the step.
    pub prompt: usize,
    /// Index among the trajectories of its prompt.
    pub sample: usize,
    /// Token ids behind the prompt.
    pub tokens: Vec<u32>,
    /// Which of them are trained: what the policy wrote, and not what it was told in between.
    pub trained: Vec<bool>,
    /// log μ: what the sampler reported, if it did.
    pub sampler_logprobs: Option<Vec<f64>>,
    /// log π_old; none when the step is on-policy and the current ones serve.
    pub old_logprobs: Option<Vec<f64>>,
    /// log π_ref, with a reference.
    pub ref_logprobs: Option<Vec<f64>>,
    /// Entropy of the policy at the time of the rollout, where the loss chooses tokens by it.
    pub entropy: Option<Vec<f64>>,
    /// Which trained tokens have a policy term; none where all do.
    pub policy_mask: Option<Vec<bool>>,
    /// The advantage; the mean where each token has its own.
    pub advantage: f64,
    /// The advantage of each trained token, where they differ.
    pub token_advantages: Option<Vec<f64>>,
}

impl Trajectory {
    /// A completion: every token is the policy's own.
    pub fn completion(prompt: usize, sample: usize, tokens: Vec<u32>) -> Self {
        Self { prompt, sample, trained: vec![true; tokens.len()], tokens, ..Self::default() }
    }

    /// Whether some token has an advantage other than 0.
    pub fn has_advantage(&self) -> bool {
        match &self.token_advantages {
            Some(advantages) => advantages.iter().any(|a| *a != 0.0),
            None => self.advantage != 0.0,
        }
    }

    /// How many tokens are trained.
    pub fn targets(&self) -> usize {
        self.trained.iter().filter(|trained| **trained).count()
    }
}

/// The prompts of a step and what follows them.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    /// The prompts.
    pub prompts: Vec<Prompt>,
    /// The trajectories, those of a prompt one behind the other.
    pub trajectories: Vec<Trajectory>,
}

/// Packs trajectories, those of a prompt one behind the other, so that it is computed once for its neighbours. The
/// targets are the trained tokens.
pub fn pack(decoder: &Decoder, prompts: &[Prompt], trajectories: &[Trajectory]) -> PackedBatch {
    let mut batch = packed(prompts, trajectories);
    let groups = trajectories.chunk_by(|a, b| a.prompt == b.prompt);
    let images: Vec<_> = groups.map(|run| prompts[run[0].prompt].images.as_slice()).collect();
    decoder.place(&mut batch, &images);
    batch
}

fn packed(prompts: &[Prompt], trajectories: &[Trajectory]) -> PackedBatch {
    let groups: Vec<_> = trajectories
        .chunk_by(|a, b| a.prompt == b.prompt)
        .map(|run| PromptGroup {
            prompt: &prompts[run[0].prompt].token_ids,
            completions: run.iter().map(|t| t.tokens.as_slice()).collect(),
        })
        .collect();
    let mut batch = PackedBatch::new(&groups);
    let trained: Vec<bool> = trajectories.iter().flat_map(|t| t.trained.iter().copied()).collect();
    if trained.contains(&false) {
        keep_targets(&mut batch, &trained);
    }
    batch
}

/// Leaves targets out, one flag each; the rows stay.
fn keep_targets(batch: &mut PackedBatch, kept: &[bool]) {
    let mut left = 0;
    for range in &mut batch.completions {
        let start = left;
        left += kept[range.clone()].iter().filter(|kept| **kept).count();
        *range = start..left;
    }
    let keep = |i: usize| kept[i];
    batch.targets = (0..kept.len()).filter(|i| keep(*i)).map(|i| batch.targets[i]).collect();
    batch.target_rows = (0..kept.len()).filter(|i| keep(*i)).map(|i| batch.target_rows[i]).collect();
}

/// Values of a batch's targets, one a trained token, by trajectory.
pub fn split(batch: &PackedBatch, values: &[f32]) -> Vec<Vec<f64>> {
    let part = |r: &Range<usize>| values[r.clone()].iter().map(|v| f64::from(*v)).collect();
    batch.completions.iter().map(part).collect()
}

/// Log-probabilities of the trained tokens of every trajectory under a decoder, without gradient.
pub fn logprobs(decoder: &Decoder, batch: &Batch, temperature: f64, micro_batch: usize) -> Vec<Vec<f64>> {
    scored(decoder, batch, temperature, micro_batch).into_iter().map(|(logprobs, _)| logprobs).collect()
}

/// Log-probabilities of the trained tokens of a trajectory, and the entropies there, in nats.
pub type Scores = (Vec<f64>, Vec<f64>);

/// The same with the entropies at these tokens, nats.
pub fn scored(decoder: &Decoder, batch: &Batch, temperature: f64, micro_batch: usize) -> Vec<Scores> {
    micro_batches(&batch.trajectories, micro_batch)
        .flat_map(|micro| {
            let packed = pack(decoder, &batch.prompts, micro);
            let found = decoder.logprobs(&packed, temperature);
            split(&packed, &found.logprobs).into_iter().zip(split(&packed, &found.entropy))
        })
        .collect()
}

/// Cuts trajectories into neighbouring runs of at most `most`, between prompts where that is possible: a prompt whose
/// trajectories are parted is computed once more.
pub fn micro_batches(trajectories: &[Trajectory], most: usize) -> impl Iterator<Item = &[Trajectory]> {
    let mut left = trajectories;
    std::iter::from_fn(move || {
        let mut take = 0;
        for run in left.chunk_by(|a, b| a.prompt == b.prompt) {
            if take > 0 && take + run.len() > most {
                break;
            }
            take += run.len();
        }
        let (micro, rest) = left.split_at(take.min(most));
        left = rest;
        (!micro.is_empty()).then_some(micro)
    })
}

/// Cuts `len` items into `parts` neighbouring ranges whose lengths differ by at most one.
pub fn even_parts(len: usize, parts: usize) -> impl Iterator<Item = Range<usize>> {
    (0..parts).map(move |i| i * len / parts..(i + 1) * len / parts).filter(|r| !r.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_everything_once() {
        for (len, parts) in [(10, 3), (4, 4), (3, 5), (0, 2)] {
            let all: Vec<usize> = even_parts(len, parts).flatten().collect();
            assert_eq!(all, (0..len).collect::<Vec<_>>());
        }
    }

    #[test]
    fn micro_batches_end_between_groups_where_they_can() {
        let of = |sizes: &[usize], most: usize| -> Vec<usize> {
            let prompts = sizes.iter().enumerate().flat_map(|(prompt, n)| vec![prompt; *n]);
            let all: Vec<Trajectory> = prompts.map(|p| Trajectory::completion(p, 0, vec![])).collect();
            micro_batches(&all, most).map(<[Trajectory]>::len).collect()
        };
        assert_eq!(of(&[4, 4, 4, 4], 8), [8, 8]);
        // The third group does not fit beside the first two, which filtering made smaller.
        assert_eq!(of(&[3, 4, 4, 1], 8), [7, 5]);
        // Groups larger than a micro-batch have to be cut; what is left of one takes the next along.
        assert_eq!(of(&[10, 2], 4), [4, 4, 4]);
        assert_eq!(of(&[1, 10], 4), [1, 4, 4, 2]);
        assert_eq!(of(&[], 4), [0; 0]);
    }

    #[test]
    fn neighbours_of_a_prompt_share_it() {
        let prompts: Vec<Prompt> = vec![vec![1, 2].into(), vec![3].into()];
        let of = |prompt, tokens: &[u32]| Trajectory::completion(prompt, 0, tokens.to_vec());
        let batch = packed(&prompts, &[of(0, &[4, 5]), of(0, &[6]), of(1, &[7])]);
        assert_eq!(batch.tokens, [1, 2, 4, 3]);
        assert_eq!(batch.targets, [4, 5, 6, 7]);
    }

    #[test]
    fn only_trained_tokens_are_targets_and_all_are_read() {
        let prompts: Vec<Prompt> = vec![vec![1, 2].into()];
        let whole = Trajectory::completion(0, 0, vec![4, 5, 6, 7]);
        let turns = Trajectory { trained: vec![true, false, false, true], ..whole.clone() };
        let rows = [turns, Trajectory::completion(0, 1, vec![8])];
        let (all, some) = (packed(&prompts, &[whole, rows[1].clone()]), packed(&prompts, &rows));
        assert_eq!((&some.tokens, &some.positions, &some.groups), (&all.tokens, &all.positions, &all.groups));
        assert_eq!((some.targets.as_slice(), some.target_rows.as_slice()), (&[4, 7, 8][..], &[1, 4, 1][..]));
        assert_eq!(some.completions, [0..2, 2..3]);
        assert_eq!(split(&some, &[0.5, 1.5, 2.5]), [vec![0.5, 1.5], vec![2.5]]);
        assert_eq!((rows[0].targets(), rows[1].targets()), (2, 1));
    }
}

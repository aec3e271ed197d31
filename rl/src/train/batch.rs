//! Samples and how they are packed into micro-batches.
use rlvr_policies::decoder::Decoder;
use rlvr_policies::packed::{PackedBatch, PromptGroup};

/// One completion ready for training.
#[derive(Debug, Clone, Default)]
pub struct Sample {
    /// Index of its prompt within the step.
    pub group: usize,
    /// Its token ids; not empty.
    pub completion: Vec<u32>,
    /// log μ: what the sampler reported, nats.
    pub sampler_logprobs: Option<Vec<f64>>,
    /// log π_old, nats; empty when the step is on-policy and the current ones serve.
    pub old_logprobs: Vec<f64>,
    /// log π_ref, nats; empty without a reference.
    pub ref_logprobs: Vec<f64>,
    /// Its advantage.
    pub advantage: f64,
}

/// Packs samples, those of a group one behind the other, so that a prompt is computed once for its neighbours.
///
/// The completions of the batch stand in the order of `samples`.
pub fn pack(prompts: &[Vec<u32>], samples: &[Sample]) -> PackedBatch {
    let groups: Vec<_> = samples
        .chunk_by(|a, b| a.group == b.group)
        .map(|run| PromptGroup {
            prompt: &prompts[run[0].group],
            completions: run.iter().map(|s| s.completion.as_slice()).collect(),
        })
        .collect();
    PackedBatch::new(&groups)
}

/// Values of a batch's targets, one a token, by completion.
pub fn split(batch: &PackedBatch, values: &[f32]) -> Vec<Vec<f64>> {
    let part = |r: &std::ops::Range<usize>| values[r.clone()].iter().map(|v| f64::from(*v)).collect();
    batch.completions.iter().map(part).collect()
}

/// Log-probabilities of every sample's tokens under a decoder, without gradient.
pub fn logprobs(
    decoder: &Decoder,
    prompts: &[Vec<u32>],
    samples: &[Sample],
    temperature: f64,
    micro_batch: usize,
) -> Vec<Vec<f64>> {
    micro_batches(samples, micro_batch)
        .flat_map(|micro| {
            let batch = pack(prompts, micro);
            split(&batch, &decoder.logprobs(&batch, temperature).logprobs)
        })
        .collect()
}

/// Cuts samples into neighbouring runs of at most `most`, between groups where that is possible: a group that is cut
/// computes its prompt once more.
pub fn micro_batches(samples: &[Sample], most: usize) -> impl Iterator<Item = &[Sample]> {
    let mut left = samples;
    std::iter::from_fn(move || {
        let mut take = 0;
        for run in left.chunk_by(|a, b| a.group == b.group) {
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
pub fn even_parts(len: usize, parts: usize) -> impl Iterator<Item = std::ops::Range<usize>> {
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
            let groups = sizes.iter().enumerate().flat_map(|(group, n)| vec![group; *n]);
            let samples: Vec<Sample> = groups.map(|group| Sample { group, ..Sample::default() }).collect();
            micro_batches(&samples, most).map(<[Sample]>::len).collect()
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
    fn neighbours_of_a_group_share_its_prompt() {
        let prompts = vec![vec![1, 2], vec![3]];
        let sample = |group, completion: &[u32]| Sample {
            group,
            completion: completion.to_vec(),
            ..Sample::default()
        };
        let batch = pack(&prompts, &[sample(0, &[4, 5]), sample(0, &[6]), sample(1, &[7])]);
        assert_eq!(batch.tokens, [1, 2, 4, 3]);
        assert_eq!(batch.targets, [4, 5, 6, 7]);
    }
}

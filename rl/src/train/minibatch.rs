//! What a minibatch, the trajectories of an optimizer step, is made of.
use crate::algorithm::top_entropy;
use crate::random::hash_bytes;
use crate::train::trajectory::Trajectory;
use rlvr_rollout::CounterRng;

/// The trajectories with their groups in the order of one pass over a rollout, a function of the seed of the run, the step and
/// the pass. Those of a prompt stay one behind the other, so that it is computed once for them.
pub(crate) fn shuffled(
    trajectories: &[Trajectory],
    (seed, step, pass): (u64, u64, usize),
) -> Vec<Trajectory> {
    let mut groups: Vec<&[Trajectory]> = trajectories.chunk_by(|a, b| a.prompt == b.prompt).collect();
    // A seed of its own: rollouts draw from that of the run.
    let seed = hash_bytes(format!("minibatches {seed}").as_bytes());
    CounterRng::new(seed, step, pass as u64, 0).shuffle(&mut groups);
    groups.concat()
}

/// The lowest entropy with which a token of a minibatch has a policy term, where a share of them has one; none without
/// tokens.
pub(crate) fn lowest_entropy(minibatch: &[Trajectory], frac: f64) -> Option<f64> {
    let all: Vec<f64> = minibatch.iter().flat_map(|t| t.entropy.iter().flatten().copied()).collect();
    top_entropy::threshold(all, frac)
}

impl Trajectory {
    /// Leaves the tokens of lower entropy without a policy term.
    pub(crate) fn choose(&mut self, lowest: f64) {
        let mask = |entropy: &Vec<f64>| entropy.iter().map(|h| *h >= lowest).collect();
        self.policy_mask = self.entropy.as_ref().map(mask);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn batch(groups: usize) -> Vec<Trajectory> {
        let of =
            |prompt| (0..3).map(move |sample| Trajectory::completion(prompt, sample, vec![1; prompt % 4]));
        (0..groups).flat_map(of).collect()
    }

    fn order(trajectories: &[Trajectory]) -> Vec<(usize, usize)> {
        trajectories.iter().map(|t| (t.prompt, t.sample)).collect()
    }

    /// By another implementation of Philox and of Fisher and Yates: tests/golden/make_steps.py.
    #[test]
    fn groups_are_shuffled_by_the_counter_alone() {
        let golden: Value = serde_json::from_str(include_str!("../../../tests/golden/steps.json")).unwrap();
        let cases = golden["shuffled"].as_array().unwrap();
        assert_eq!(cases.len(), 12);
        for case in cases {
            let number = |key: &str| case[key].as_u64().unwrap();
            let expected: Vec<usize> = serde_json::from_value(case["order"].clone()).unwrap();
            let batch = batch(expected.len());
            let found = shuffled(&batch, (number("seed"), number("step"), number("pass") as usize));
            let expected: Vec<_> = expected.iter().flat_map(|p| (0..3).map(|s| (*p, s))).collect();
            assert_eq!(order(&found), expected, "{case}");
        }
    }

    #[test]
    fn every_order_is_about_as_likely() {
        let batch = batch(3);
        let mut counts = std::collections::BTreeMap::<_, u32>::new();
        for step in 0..3000 {
            *counts.entry(order(&shuffled(&batch, (1, step, 0)))).or_default() += 1;
        }
        assert_eq!(counts.len(), 6);
        // 500 each, standard deviation 20.
        assert!(counts.values().all(|c| (400..600).contains(c)), "{counts:?}");
    }
}

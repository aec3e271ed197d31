//! `noisy`: a verifier that errs on purpose, for experiments on how much wrong verdicts cost.
//!
//! A share `flip_frac` of the `correct` and `incorrect` verdicts is exchanged for one another; all others pass. Which
//! ones is a function of (seed, reward, task, response), so it depends neither on threads nor on batches nor on a
//! resume, and the same response to a task always gets the same verdict. Flips happen while a policy is trained and
//! nowhere else: [`RewardConfig::build`](crate::RewardConfig::build) makes the verifier without noise, which
//! evaluations and `rlvr score` use; [`RewardConfig::with_noise`](crate::RewardConfig::with_noise) switches it on.

use crate::reward::{Outcome, Part, Reward, RewardError, TaskError, Verdict, score_batch, score_one};
use crate::task::{Response, Task};

/// Name of the part that says whether a verdict was flipped (score 1) or not (0); its verdict is the true one.
pub const FLIPPED: &str = "flipped";

/// A verifier some of whose verdicts are flipped.
pub struct Noisy {
    reward: Box<dyn Reward>,
    flip_frac: f64,
    seed: u64,
}

impl Noisy {
    /// Flips a share `flip_frac`, in [0, 1], of the verdicts of `reward`, chosen by `seed`.
    pub fn new(reward: Box<dyn Reward>, flip_frac: f64, seed: u64) -> Self {
        Self { reward, flip_frac, seed }
    }

    fn flips(&self, task: &Task, response: Response<'_>) -> bool {
        let key = [self.reward.name().as_bytes(), task.id.as_bytes(), response.text.as_bytes()];
        unit(self.seed, &key) < self.flip_frac
    }

    fn disturb(&self, task: &Task, response: Response<'_>, mut outcome: Outcome) -> Outcome {
        let flipped = match outcome.verdict {
            Verdict::Correct => Some((Verdict::Incorrect, 0.0)),
            Verdict::Incorrect => Some((Verdict::Correct, 1.0)),
            _ => None,
        }
        .filter(|_| self.flips(task, response));
        let part = Part {
            name: FLIPPED.into(),
            weight: 0.0,
            score: Some(f64::from(u8::from(flipped.is_some()))),
            verdict: outcome.verdict,
            extracted: None,
            method: "noise".into(),
            reason: outcome.reason.clone(),
            parts: std::mem::take(&mut outcome.parts),
        };
        if let Some((verdict, score)) = flipped {
            outcome.verdict = verdict;
            outcome.score = Some(score);
            outcome.reason = format!("flipped on purpose: {}", outcome.reason);
        }
        outcome.parts = vec![part];
        outcome
    }
}

impl Reward for Noisy {
    fn name(&self) -> &str {
        self.reward.name()
    }

    fn score(&self, task: &Task, response: Response<'_>) -> Result<Outcome, RewardError> {
        Ok(self.disturb(task, response, score_one(&*self.reward, task, response)))
    }

    fn score_batch(&self, items: &[(&Task, Response<'_>)]) -> Vec<Outcome> {
        let outcomes = score_batch(&*self.reward, items).into_iter().zip(items);
        outcomes.map(|(outcome, (task, response))| self.disturb(task, *response, outcome)).collect()
    }

    fn prepare(&self) -> Result<(), RewardError> {
        self.reward.prepare()
    }

    fn gold(&self, task: &Task) -> Option<String> {
        self.reward.gold(task)
    }

    fn check_task(&self, task: &Task) -> Result<(), TaskError> {
        self.reward.check_task(task)
    }
}

/// Whether a verdict was flipped, here or in a part; none where nothing is noisy.
pub fn was_flipped(parts: &[Part]) -> Option<bool> {
    let of = |part: &Part| match part.name == FLIPPED {
        true => Some(part.score == Some(1.0)),
        false => was_flipped(&part.parts),
    };
    parts.iter().filter_map(of).reduce(|a, b| a || b)
}

/// A number in [0, 1) that depends on the seed and the pieces alone: FNV-1a over each piece and its length, then the
/// output function of SplitMix64.
fn unit(seed: u64, pieces: &[&[u8]]) -> f64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut eat = |bytes: &[u8]| {
        for byte in bytes {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    };
    eat(&seed.to_le_bytes());
    for piece in pieces {
        eat(&(piece.len() as u64).to_le_bytes());
        eat(piece);
    }
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((hash ^ (hash >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::RewardConfig;
    use serde_json::json;

    fn config(flip_frac: f64) -> RewardConfig {
        let noisy = json!({ "kind": "noisy", "flip_frac": flip_frac, "reward": { "kind": "exact" } });
        serde_json::from_value(json!({ "kind": "lingshu_rl", "answer": noisy })).unwrap()
    }

    fn tasks() -> Vec<Task> {
        (0..4000).map(|i| Task::new(format!("t{i}"), json!({"answer": "yes"}))).collect()
    }

    const RIGHT: &str = "<think>a</think><answer>yes</answer>";
    const WRONG: &str = "<think>a</think><answer>no</answer>";

    #[test]
    fn a_share_of_right_and_wrong_verdicts_is_exchanged_and_says_so() {
        let reward = config(0.2).with_noise(7).unwrap().build().unwrap();
        for (text, wrong_score) in [(RIGHT, 0.5), (WRONG, 1.5)] {
            let mut flips = 0;
            for task in tasks() {
                let outcome = score_one(&*reward, &task, Response::new(text));
                let flipped = was_flipped(&outcome.parts).unwrap();
                let clean = if text == RIGHT { 1.5 } else { 0.5 };
                assert_eq!(outcome.score, Some(if flipped { wrong_score } else { clean }), "{outcome:?}");
                let accuracy = &outcome.parts[1];
                assert_eq!(accuracy.reason.starts_with("flipped on purpose"), flipped);
                let truth = if text == RIGHT { Verdict::Correct } else { Verdict::Incorrect };
                assert_eq!(accuracy.parts[0].verdict, truth);
                flips += usize::from(flipped);
            }
            // 800 expected, standard deviation 25.
            assert!((700..900).contains(&flips), "{flips}");
        }
    }

    #[test]
    fn flips_depend_on_seed_task_and_response_and_not_on_the_batch() {
        let tasks = tasks();
        let flips = |seed, frac, text, size| -> Vec<bool> {
            let reward = config(frac).with_noise(seed).unwrap().build().unwrap();
            let items: Vec<_> = tasks.iter().map(|t| (t, Response::new(text))).collect();
            let outcomes = items.chunks(size).flat_map(|chunk| score_batch(&*reward, chunk));
            outcomes.map(|o| was_flipped(&o.parts).unwrap()).collect()
        };
        let some = flips(1, 0.3, RIGHT, 4000);
        assert_eq!(some, flips(1, 0.3, RIGHT, 7));
        assert_ne!(some, flips(2, 0.3, RIGHT, 4000));
        assert_ne!(some, flips(1, 0.3, "<think>b</think><answer>yes</answer>", 4000));
        // More noise keeps the flips of less.
        assert!(flips(1, 0.1, RIGHT, 50).iter().zip(&some).all(|(less, more)| *more || !less));
        assert_eq!(config(0.0).with_noise(1), None);
        assert!(flips(1, 1.0, WRONG, 50).iter().all(|f| *f));
    }

    #[test]
    fn without_being_switched_on_nothing_is_flipped() {
        let reward = config(1.0).build().unwrap();
        let clean = RewardConfig::from_kind("exact").unwrap();
        assert_eq!(clean.with_noise(1), None);
        for task in &tasks()[..50] {
            let outcome = score_one(&*reward, task, Response::new(RIGHT));
            assert_eq!((outcome.score, was_flipped(&outcome.parts)), (Some(1.5), None));
        }
    }

    #[test]
    fn what_gives_no_answer_or_cannot_be_judged_stays_so() {
        let reward = config(1.0).with_noise(1).unwrap().build().unwrap();
        let outcome = score_one(&*reward, &Task::new("t", json!({"answer": "yes"})), Response::new(""));
        assert_eq!((outcome.score, outcome.parts[1].verdict), (Some(0.0), Verdict::NoAnswer));
        let outcome = score_one(&*reward, &Task::new("t", json!({})), Response::new(RIGHT));
        assert_eq!(outcome.score, None, "{outcome:?}");
    }

    #[test]
    fn impossible_settings_are_named() {
        let check = |value: serde_json::Value, want: &str| {
            let config: RewardConfig = serde_json::from_value(value).unwrap();
            let error = config.build().err().unwrap().to_string();
            assert!(error.contains(want), "{error}");
        };
        let exact = json!({ "kind": "exact" });
        check(json!({ "kind": "noisy", "flip_frac": 1.5, "reward": exact }), "flip_frac 1.5");
        let sum = json!({ "kind": "sum", "terms": [{ "reward": exact }] });
        check(json!({ "kind": "noisy", "flip_frac": 0.1, "reward": sum }), "inside of it");
    }
}

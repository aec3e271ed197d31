//! The completions of one prompt with what became of them.
use crate::algorithm::has_signal;
use crate::error::Error;
use crate::policy::Policy;
use crate::train::judging::Judgement;
use crate::train::recorded::{GivenAdvantage, RecordedGroup, RecordedRollout};
use crate::train::trajectory::{Batch, Trajectory};
use rlvr_rewards::{Outcome, Verdict};
use rlvr_rollout::{Completion, FinishReason, ImageKey, Prompt};
use serde_json::{Map, Value};

/// One prompt of a step with everything that became of it.
#[derive(Debug, Clone)]
pub struct Group {
    /// Id of the task.
    pub id: String,
    /// What the reward compared with; null for rollouts made elsewhere.
    pub reference: Value,
    /// What the records keep of the data row, see [`super::grpo::Trainer::recorded`].
    pub meta: Map<String, Value>,
    /// The prompt as the policy saw it.
    pub prompt_text: String,
    /// Its token ids, after truncation.
    pub prompt: Vec<u32>,
    /// The pictures in it.
    pub images: Vec<ImageKey>,
    /// What records call them.
    pub image_names: Vec<String>,
    /// The completions.
    pub completions: Vec<Completion>,
    /// Their judgements.
    pub judgements: Vec<Judgement>,
    /// Their advantages; the mean over tokens of those that are given by token.
    pub advantages: Vec<f64>,
    /// Advantages that were given with the rollouts; empty where they are computed.
    pub given: Vec<GivenAdvantage>,
}

impl Group {
    /// Whether its rewards differ, or some advantage that was given is not 0, so that it teaches something.
    pub fn has_signal(&self) -> bool {
        if !self.given.is_empty() {
            return self.given.iter().any(GivenAdvantage::teaches);
        }
        has_signal(&self.judgements.iter().map(|j| j.reward).collect::<Vec<_>>())
    }

    /// A group of rollouts made elsewhere.
    ///
    /// # Errors
    /// Rollouts that do not fit the policy, tokens without a text.
    pub(crate) fn recorded(group: &RecordedGroup, policy: &Policy, version: u64) -> Result<Self, Error> {
        let (config, eos) = (policy.decoder.config(), policy.eos_token_ids());
        let (mut completions, mut judgements) = (vec![], vec![]);
        for r in &group.rollouts {
            if let Err(problem) = r.fits(config.vocab_size, config.max_position_embeddings) {
                let what = format!("rollouts file, line {}: {problem}", r.line);
                return Err(Error::Unusable { what });
            }
            let ended = r.completion_tokens.last().is_some_and(|t| eos.contains(t));
            judgements.push(Judgement {
                text: policy.text(&r.completion_tokens)?,
                truncated: !ended,
                reward: r.reward,
                outcome: outcome_of(r),
            });
            completions.push(Completion {
                token_ids: r.completion_tokens.clone(),
                logprobs: r.logprobs.clone().unwrap_or_default(),
                finish_reason: if ended { FinishReason::Stop } else { FinishReason::Length },
                policy_version: version,
            });
        }
        // All of them have the same one.
        let prompt = group.rollouts.last().map(|r| r.prompt_tokens.clone()).unwrap_or_default();
        Ok(Self {
            id: group.group.clone(),
            reference: Value::Null,
            meta: Map::new(),
            prompt_text: policy.tokenizer().decode(&prompt, false)?,
            prompt,
            images: Vec::new(),
            image_names: Vec::new(),
            completions,
            judgements,
            advantages: vec![],
            given: group.rollouts.iter().filter_map(|r| r.advantage.clone()).collect(),
        })
    }
}

fn outcome_of(rollout: &RecordedRollout) -> Outcome {
    match rollout.reward {
        Some(score) => Outcome::graded(score, "recorded", "reward from the rollouts file"),
        None => Outcome::of(Verdict::Unverifiable, "recorded", "no reward in the rollouts file"),
    }
}

impl Batch {
    /// Every completion of every group, with what the sampler reported.
    pub(crate) fn of(groups: &[Group]) -> Self {
        let trajectory = |prompt: usize, (sample, c): (usize, &Completion)| {
            let reported = !c.logprobs.is_empty();
            Trajectory {
                token_advantages: match groups[prompt].given.get(sample) {
                    Some(GivenAdvantage::Tokens(values)) => Some(values.clone()),
                    Some(GivenAdvantage::Completion(_)) | None => None,
                },
                sampler_logprobs: reported.then(|| c.logprobs.iter().map(|v| f64::from(*v)).collect()),
                ..Trajectory::completion(prompt, sample, c.token_ids.clone())
            }
        };
        let of_group = |(prompt, group): (usize, &Group)| -> Vec<Trajectory> {
            group.completions.iter().enumerate().map(|c| trajectory(prompt, c)).collect()
        };
        Self {
            prompts: groups
                .iter()
                .map(|g| Prompt { token_ids: g.prompt.clone(), images: g.images.clone() })
                .collect(),
            trajectories: groups.iter().enumerate().flat_map(of_group).collect(),
        }
    }

    /// Trains on no token of completions that were cut off.
    pub(crate) fn mask_truncated(&mut self, groups: &[Group]) {
        for t in &mut self.trajectories {
            if groups[t.prompt].completions[t.sample].finish_reason.is_truncated() {
                t.trained.fill(false);
                // What is known of trained tokens goes with them.
                let of_tokens = [
                    &mut t.sampler_logprobs,
                    &mut t.old_logprobs,
                    &mut t.ref_logprobs,
                    &mut t.entropy,
                    &mut t.token_advantages,
                ];
                of_tokens.into_iter().flatten().for_each(Vec::clear);
            }
        }
    }
}

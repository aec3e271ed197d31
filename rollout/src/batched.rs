//! Batched decoding: one prefill a prompt, one cache row a completion.
//!
//! The first prompts that fit are prefilled. Their first tokens are sampled from these logits; then
//! the cache is expanded to the completions still running, which advance together, one token a call. Finished rows are
//! fed on (their logits are ignored) until enough of them have gathered to be worth a copy of the cache without them;
//! then prompts that wait are prefilled and join in their place. When a group finds room for a part of its completions
//! only, its prompt stays in a cache of one row until the rest has begun.

use crate::batch::{Call, OnGroup, PromptJob, Results, Rules, SampleJob};
use crate::completion::{Completion, ImageKey, Prompt};
use crate::engine::{GenerateStats, Progress, RolloutEngine, SampleKey, StopCheck, TruncatedPrompt};
use crate::error::{Problem, RolloutError};
use crate::model::DecodeModel;
use crate::params::SamplingParams;
use crate::plan::{Group, Queue};
use crate::prompt_limit::{Fit, LongPrompt, PromptLimit};
use crate::rng::CounterRng;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::atomic::AtomicBool;

/// How much is decoded at once, and what happens to long prompts. None of it changes a completion.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BatchSettings {
    /// Most completions decoded together. Default 64.
    pub max_batch_rows: usize,
    /// Most cache slots of the completions decoded together: rows × (longest so far + most tokens that one may still
    /// get), in tokens. Bounds the memory of the cache; one row is always allowed. Default 32768.
    pub max_batch_tokens: usize,
    /// Where dropping rows copies the others: finished rows are dropped when the share of unfinished rows is at or below
    /// this, in [0, 1]. 0 never drops any, 1 drops each at once. A copy costs about as much as a few steps of attention and the default of 0.75 copies a
    /// batch of 32 at most twelve times. Default 0.75.
    pub compact_below: f64,
    /// Longest prompt in tokens; see [`PromptLimit::tokens`]. Default: what the context allows.
    pub max_prompt_tokens: Option<usize>,
    /// What happens to longer prompts. Default `error`.
    pub long_prompt: LongPrompt,
}

impl Default for BatchSettings {
    fn default() -> Self {
        Self {
            max_batch_rows: 64,
            max_batch_tokens: 32_768,
            compact_below: 0.75,
            max_prompt_tokens: None,
            long_prompt: LongPrompt::Error,
        }
    }
}

impl BatchSettings {
    /// Checks the ranges.
    ///
    /// # Errors
    /// [`RolloutError::InvalidSettings`] with every problem found.
    pub fn validate(&self) -> Result<(), RolloutError> {
        let mut problems = Vec::new();
        for (key, value) in [
            ("max_batch_rows", Some(self.max_batch_rows)),
            ("max_batch_tokens", Some(self.max_batch_tokens)),
            ("max_prompt_tokens", self.max_prompt_tokens),
        ] {
            if value == Some(0) {
                let message = "is 0, it must be at least 1".to_owned();
                problems.push(Problem { field: key.to_owned(), message });
            }
        }
        if !(0.0..=1.0).contains(&self.compact_below) {
            let message = format!("is {}, it must be between 0 and 1", self.compact_below);
            problems.push(Problem { field: "compact_below".to_owned(), message });
        }
        if problems.is_empty() { Ok(()) } else { Err(RolloutError::InvalidSettings { problems }) }
    }

    /// The limit on prompts.
    pub fn prompt_limit(&self) -> PromptLimit {
        PromptLimit { max_prompt_tokens: self.max_prompt_tokens, long_prompt: self.long_prompt }
    }
}

/// The engine over a [`DecodeModel`].
///
/// It borrows the model, so it is made anew after every update of the weights (that costs nothing) and can never sample
/// from stale ones.
pub struct BatchedEngine<'a, M: DecodeModel> {
    model: &'a M,
    settings: BatchSettings,
    eos_token_ids: Vec<u32>,
    policy_version: u64,
    stop: Option<&'a dyn StopCheck>,
    on_progress: Option<&'a dyn Fn(Progress)>,
    on_group: OnGroup<'a>,
    cancel: Option<&'a AtomicBool>,
    stats: GenerateStats,
}

impl<'a, M: DecodeModel> BatchedEngine<'a, M> {
    /// An engine without EOS ids, for version 0 of the weights.
    pub fn new(model: &'a M, settings: BatchSettings) -> Self {
        Self {
            model,
            settings,
            eos_token_ids: Vec::new(),
            policy_version: 0,
            stop: None,
            on_progress: None,
            on_group: None,
            cancel: None,
            stats: GenerateStats::default(),
        }
    }

    /// Ids that end a completion: all that the model's configuration names.
    pub fn eos_token_ids(mut self, ids: impl Into<Vec<u32>>) -> Self {
        self.eos_token_ids = ids.into();
        self
    }

    /// Written into every completion.
    pub fn policy_version(mut self, version: u64) -> Self {
        self.policy_version = version;
        self
    }

    /// Further ends of completions, such as stop strings.
    pub fn stop(mut self, stop: &'a dyn StopCheck) -> Self {
        self.stop = Some(stop);
        self
    }

    /// Called on the calling thread after every decode step.
    pub fn on_progress(mut self, callback: &'a dyn Fn(Progress)) -> Self {
        self.on_progress = Some(callback);
        self
    }

    /// Called on the calling thread as soon as all completions of a prompt are there, with the prompt's index; the
    /// order is that in which they finish.
    pub fn on_group(mut self, callback: &'a dyn Fn(usize, &[Completion])) -> Self {
        self.on_group = Some(callback);
        self
    }

    /// A flag that ends the call with [`RolloutError::Cancelled`] before its next decode step.
    pub fn cancel(mut self, flag: &'a AtomicBool) -> Self {
        self.cancel = Some(flag);
        self
    }
}

impl<M: DecodeModel> BatchedEngine<'_, M> {
    /// The distinct prompts in the order of their first occurrence, with their samples.
    fn sources<'p>(
        &self,
        prompts: &'p [Prompt],
        group_size: usize,
        sampling: &SamplingParams,
        key: SampleKey,
        stats: &mut GenerateStats,
    ) -> Result<Vec<PromptJob<'p>>, RolloutError> {
        let (vocab_size, context) = (self.model.vocab_size(), self.model.context_len());
        let limit = self.settings.prompt_limit();
        let mut sources: Vec<PromptJob<'p>> = Vec::new();
        // Two pictures of one size under one question have the same ids.
        let mut known: HashMap<(&[u32], &[ImageKey]), usize> = HashMap::new();
        for (p, Prompt { token_ids, images }) in prompts.iter().enumerate() {
            if let Some(&token) = token_ids.iter().find(|&&id| id as usize >= vocab_size) {
                return Err(RolloutError::TokenOutOfRange { prompt: p, token, vocab_size });
            }
            let token_ids = match limit.fit(p, token_ids, context, sampling.max_tokens)? {
                Fit::Whole(token_ids) => token_ids,
                Fit::Truncated { .. } if !images.is_empty() => {
                    let what =
                        format!("prompt {p} has images and is too long: it cannot be truncated on the left");
                    return Err(RolloutError::model(what));
                }
                Fit::Truncated { token_ids, dropped_tokens } => {
                    stats.truncated_prompts.push(TruncatedPrompt { prompt: p, dropped_tokens });
                    token_ids
                }
                Fit::Skipped => {
                    stats.skipped_prompts.push(p);
                    continue;
                }
            };
            let at = *known.entry((token_ids, images)).or_insert_with(|| {
                let budget = sampling.max_tokens.min(context - token_ids.len());
                sources.push(PromptJob { token_ids, images, budget, samples: Vec::new() });
                sources.len() - 1
            });
            let samples = &mut sources[at].samples;
            for g in 0..group_size {
                match samples.first_mut() {
                    Some(only) if sampling.is_greedy() => only.places.push((p, g)),
                    _ => {
                        let (prompt, sample) = (key.first_prompt + p as u64, key.first_sample + g as u64);
                        let rng = CounterRng::new(key.seed, key.step, prompt, sample);
                        samples.push(SampleJob { rng, places: vec![(p, g)] });
                    }
                }
            }
        }
        Ok(sources)
    }
}

impl<M: DecodeModel> RolloutEngine for BatchedEngine<'_, M> {
    fn generate(
        &mut self,
        prompts: &[Prompt],
        group_size: usize,
        sampling: &SamplingParams,
        key: SampleKey,
    ) -> Result<Vec<Vec<Completion>>, RolloutError> {
        self.stats = GenerateStats::default();
        sampling.validate()?;
        self.settings.validate()?;
        if group_size == 0 {
            return Err(RolloutError::EmptyGroup);
        }
        let mut stats = GenerateStats::default();
        let sources = self.sources(prompts, group_size, sampling, key, &mut stats)?;
        let groups: Vec<Group> = sources
            .iter()
            .map(|s| Group { tokens: s.token_ids.len(), rows: s.samples.len(), budget: s.budget })
            .collect();
        let rules = Rules {
            sampling,
            eos_token_ids: &self.eos_token_ids,
            stop: self.stop,
            vocab_size: self.model.vocab_size(),
            context_len: self.model.context_len(),
        };
        let total = groups.iter().map(|g| g.rows).sum();
        let mut call = Call {
            model: self.model,
            rules,
            compact_below: self.settings.compact_below,
            on_progress: self.on_progress,
            cancel: self.cancel,
            progress: Progress { completion_tokens: 0, finished: 0, total },
            stats,
            results: Results::new(prompts.len(), group_size, self.policy_version, self.on_group),
        };
        call.run(
            &sources,
            Queue::new(&groups, self.settings.max_batch_rows, self.settings.max_batch_tokens),
        )?;
        self.stats = call.stats;
        Ok(call.results.into_groups())
    }

    fn stats(&self) -> &GenerateStats {
        &self.stats
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_checked() {
        assert!(BatchSettings::default().validate().is_ok());
        let bad = BatchSettings {
            max_batch_rows: 0,
            max_batch_tokens: 0,
            compact_below: f64::NAN,
            max_prompt_tokens: Some(0),
            long_prompt: LongPrompt::Skip,
        };
        let message = bad.validate().unwrap_err().to_string();
        for key in ["max_batch_rows", "max_batch_tokens", "compact_below", "max_prompt_tokens"] {
            assert!(message.contains(key), "{message}");
        }
        let read = serde_json::from_str::<BatchSettings>;
        assert_eq!(
            read(r#"{"long_prompt": "truncate_left"}"#).unwrap().long_prompt,
            LongPrompt::TruncateLeft
        );
        assert!(read(r#"{"rows": 3}"#).is_err());
    }
}

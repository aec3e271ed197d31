//! Batched decoding of one call: a [`Batch`] that is advanced until it is empty.

use crate::batch::{Batch, Call};
use crate::completion::{Completion, Prompt};
use crate::engine::{GenerateStats, Progress, RolloutEngine, SampleKey, StopCheck};
use crate::error::RolloutError;
use crate::model::DecodeModel;
use crate::params::SamplingParams;
use crate::row::{Place, Sink, Stop};
use crate::settings::BatchSettings;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

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

/// Who wants to know of whole groups, by the index of their prompt.
type OnGroup<'a> = Option<&'a dyn Fn(usize, &[Completion])>;

/// The completions of a call, as they come in.
struct Results<'a> {
    /// `[prompt][sample]`.
    groups: Vec<Vec<Option<Completion>>>,
    /// Completions that a prompt still lacks.
    missing: Vec<usize>,
    on_group: OnGroup<'a>,
    on_progress: Option<&'a dyn Fn(Progress)>,
}

impl Sink for Results<'_> {
    fn finished(&mut self, Place { prompt, sample, .. }: Place, completion: &Completion) {
        self.groups[prompt][sample] = Some(completion.clone());
        self.missing[prompt] -= 1;
        if let (0, Some(report)) = (self.missing[prompt], self.on_group) {
            let group: Vec<Completion> = self.groups[prompt].iter().flatten().cloned().collect();
            report(prompt, &group);
        }
    }

    fn stepped(&mut self, progress: Progress) {
        if let Some(report) = self.on_progress {
            report(progress);
        }
    }
}

impl Results<'_> {
    /// All of them. Only the groups of skipped prompts have gaps, and they are all gap.
    fn into_groups(self) -> Vec<Vec<Completion>> {
        self.groups.into_iter().map(|group| group.into_iter().flatten().collect()).collect()
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
        let mut batch = Batch::new(self.model, self.settings.clone(), self.policy_version)?;
        let stop = self.stop.map(|stop| -> Stop<'_> { Arc::new(move |ids: &[u32]| stop.should_stop(ids)) });
        let (sampling, eos_token_ids) = (sampling.clone(), self.eos_token_ids.clone());
        batch.submit(0, Call { prompts, group_size, sampling, key, eos_token_ids, stop, alternatives: 0 })?;
        let mut results = Results {
            groups: vec![vec![None; group_size]; prompts.len()],
            missing: vec![group_size; prompts.len()],
            on_group: self.on_group,
            on_progress: self.on_progress,
        };
        while batch.has_work() {
            if self.cancel.is_some_and(|flag| flag.load(Ordering::Relaxed)) {
                let completion_tokens = batch.progress().completion_tokens;
                return Err(RolloutError::Cancelled { completion_tokens });
            }
            batch.advance(&mut results)?;
        }
        self.stats = batch.into_stats();
        Ok(results.into_groups())
    }

    fn stats(&self) -> &GenerateStats {
        &self.stats
    }
}

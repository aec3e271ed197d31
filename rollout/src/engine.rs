//! The interface of every engine.

use crate::completion::{Completion, Prompt};
use crate::error::RolloutError;
use crate::params::SamplingParams;
use serde::{Deserialize, Serialize};

/// Source of completions. Implementations: [`crate::BatchedEngine`], [`crate::ScriptedEngine`].
pub trait RolloutEngine {
    /// Samples `group_size` completions a prompt; `result[p][g]` belongs to `prompts[p]`.
    ///
    /// A prompt left out by [`crate::LongPrompt::Skip`] has an empty `result[p]` and is listed in
    /// [`GenerateStats::skipped_prompts`]. No prompts give an empty result.
    ///
    /// # Errors
    /// Invalid settings, a prompt that cannot be used, logits that cannot be sampled, a failing model, cancellation.
    /// There are no partial results.
    fn generate(
        &mut self,
        prompts: &[Prompt],
        group_size: usize,
        sampling: &SamplingParams,
        key: SampleKey,
    ) -> Result<Vec<Vec<Completion>>, RolloutError>;

    /// What the last call of [`generate`](RolloutEngine::generate) did.
    fn stats(&self) -> &GenerateStats;
}

/// Key of the randomness of one call. Sample `g` of prompt `p` draws from
/// `CounterRng::new(seed, step, first_prompt + p, first_sample + g)`, its token `t` with position `t`.
///
/// A call split in two gives the same completions when the second part begins at the right `first_prompt`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SampleKey {
    /// Seed of the run (or of the evaluation: different purposes need different seeds).
    pub seed: u64,
    /// Training step.
    pub step: u64,
    /// Number of the first prompt of this call within the step.
    pub first_prompt: u64,
    /// Number of the first sample of every prompt.
    pub first_sample: u64,
}

impl SampleKey {
    /// The key of a whole step: prompts and samples count from 0.
    pub fn new(seed: u64, step: u64) -> Self {
        Self { seed, step, first_prompt: 0, first_sample: 0 }
    }
}

/// Ends completions on conditions the engine cannot see, such as a stop string in the decoded text.
///
/// Must depend on the ids alone, or completions stop being reproducible. Called from several threads.
pub trait StopCheck: Sync {
    /// Whether the completion ends here. `token_ids` is the completion so far, with its newest token last; called once
    /// a token unless an EOS id or a stop sequence has ended the completion already.
    fn should_stop(&self, token_ids: &[u32]) -> bool;
}

impl<F: Fn(&[u32]) -> bool + Sync> StopCheck for F {
    fn should_stop(&self, token_ids: &[u32]) -> bool {
        self(token_ids)
    }
}

/// State of a running call, reported after every decode step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Completion tokens sampled so far.
    pub completion_tokens: usize,
    /// Completions finished so far.
    pub finished: usize,
    /// Completions to sample in the call; identical greedy ones count once.
    pub total: usize,
}

/// What a call of `generate` did. Counts are in tokens, times in seconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct GenerateStats {
    /// Prompt tokens fed to the model. A prompt is fed once for all its samples, and once when it
    /// occurs several times in a call.
    pub prompt_tokens: usize,
    /// Completion tokens sampled; those of identical greedy completions count once.
    pub completion_tokens: usize,
    /// Prefills: calls of the model with prompts.
    pub batches: usize,
    /// Times waiting completions joined others that ran.
    pub refills: usize,
    /// Calls of the model after the prefills.
    pub decode_steps: usize,
    /// Rows fed in those calls; above the tokens needed by the finished rows that had not left their batch.
    pub decode_rows: usize,
    /// Times finished rows were dropped from a cache.
    pub compactions: usize,
    /// Time in prefills, the expansion to samples included.
    pub prefill_s: f64,
    /// Time in decode calls and compactions.
    pub decode_s: f64,
    /// Time in sampling and stop checks.
    pub sampling_s: f64,
    /// Prompts left out for their length, ascending.
    pub skipped_prompts: Vec<usize>,
    /// Prompts that lost tokens on the left, ascending.
    pub truncated_prompts: Vec<TruncatedPrompt>,
}

impl GenerateStats {
    /// Completion tokens per second of decoding and sampling; 0 when nothing was decoded.
    pub fn decode_tokens_per_s(&self) -> f64 {
        let seconds = self.decode_s + self.sampling_s;
        if seconds > 0.0 { self.completion_tokens as f64 / seconds } else { 0.0 }
    }

    /// Adds what a further call did; its prompts are numbered from `first_prompt`.
    pub fn merge(&mut self, other: Self, first_prompt: usize) {
        self.prompt_tokens += other.prompt_tokens;
        self.completion_tokens += other.completion_tokens;
        self.batches += other.batches;
        self.refills += other.refills;
        self.decode_steps += other.decode_steps;
        self.decode_rows += other.decode_rows;
        self.compactions += other.compactions;
        self.prefill_s += other.prefill_s;
        self.decode_s += other.decode_s;
        self.sampling_s += other.sampling_s;
        self.skipped_prompts.extend(other.skipped_prompts.into_iter().map(|p| p + first_prompt));
        let moved = |t: TruncatedPrompt| TruncatedPrompt { prompt: t.prompt + first_prompt, ..t };
        self.truncated_prompts.extend(other.truncated_prompts.into_iter().map(moved));
    }
}

/// A prompt of which only the end was used. Whoever scores its completions must score them after the same end: see
/// [`crate::PromptLimit::fit`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TruncatedPrompt {
    /// Index of the prompt in the call.
    pub prompt: usize,
    /// Tokens dropped on the left.
    pub dropped_tokens: usize,
}

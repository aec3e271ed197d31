//! The one door to completions: training, evaluation, curation, `rlvr sample` and `rlvr bench` ask for them here, so that
//! a device, a limit or an end token means the same to all of them.
use crate::policy::{Policy, Sampler};
use crate::stop::StopStrings;
use rlvr_policies::Decoder;
use rlvr_rollout::{
    BatchSettings, BatchedEngine, Completion, GenerateStats, Prompt, PromptLimit, RolloutEngine,
    RolloutError, SampleKey, SamplingParams, StopCheck,
};
use std::sync::atomic::AtomicBool;

/// What is to be completed, and how.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// The prompts.
    pub prompts: &'a [Prompt],
    /// Completions a prompt, at least 1.
    pub samples: usize,
    /// How tokens are drawn.
    pub sampling: &'a SamplingParams,
    /// Key of the randomness.
    pub key: SampleKey,
    /// Texts that end a completion and stay part of it.
    pub stop: &'a [String],
    /// What happens to long prompts.
    pub limit: PromptLimit,
    /// Completions decoded together; none for what suits the device. Changes no completion.
    pub max_batch_rows: Option<usize>,
    /// Cache slots of the completions decoded together; none for what suits the device. Changes no completion.
    pub max_batch_tokens: Option<usize>,
    /// Version of the weights, written into every completion.
    pub version: u64,
    /// A flag that ends the call with [`RolloutError::Cancelled`].
    pub cancel: Option<&'a AtomicBool>,
}

impl<'a> Request<'a> {
    /// A request without stop strings or limits.
    pub fn new(prompts: &'a [Prompt], samples: usize, sampling: &'a SamplingParams, key: SampleKey) -> Self {
        Self {
            prompts,
            samples,
            sampling,
            key,
            stop: &[],
            limit: PromptLimit::default(),
            max_batch_rows: None,
            max_batch_tokens: None,
            version: 0,
            cancel: None,
        }
    }
}

/// Who sampled completions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// This engine with the weights at hand: its log-probabilities are those of the policy.
    Own,
    /// Another engine: what its log-probabilities are of is not known, so they are computed again.
    Foreign,
}

/// `result[p][s]` is sample `s` of prompt `p`, and what was done for it.
pub type Generated = (Vec<Vec<Completion>>, GenerateStats);

/// Called with a prompt's index as soon as all its completions are there.
pub type OnGroup<'a> = Option<&'a dyn Fn(usize, &[Completion])>;

/// Completions of a policy.
///
/// # Errors
/// As [`RolloutEngine::generate`].
pub fn generate(
    policy: &Policy,
    request: &Request<'_>,
    on_group: OnGroup<'_>,
) -> Result<Generated, RolloutError> {
    let strings = StopStrings::new(policy.tokenizer(), request.stop);
    let stop = (!request.stop.is_empty()).then_some(&strings as &dyn StopCheck);
    complete(&policy.decoder, policy.eos_token_ids(), stop, request, on_group)
}

/// Completions of a decoder without a tokenizer; `request.stop` says nothing here.
///
/// # Errors
/// As [`RolloutEngine::generate`].
pub fn complete(
    decoder: &Decoder,
    eos_token_ids: &[u32],
    stop: Option<&dyn StopCheck>,
    request: &Request<'_>,
    on_group: OnGroup<'_>,
) -> Result<Generated, RolloutError> {
    let sampler = Sampler(decoder);
    let usual = sampler.batch_settings();
    let settings = BatchSettings {
        max_batch_rows: request.max_batch_rows.unwrap_or(usual.max_batch_rows),
        max_batch_tokens: request.max_batch_tokens.unwrap_or(usual.max_batch_tokens),
        max_prompt_tokens: request.limit.max_prompt_tokens,
        long_prompt: request.limit.long_prompt,
        ..usual
    };
    let mut engine =
        BatchedEngine::new(&sampler, settings).eos_token_ids(eos_token_ids).policy_version(request.version);
    if let Some(flag) = request.cancel {
        engine = engine.cancel(flag);
    }
    if let Some(stop) = stop {
        engine = engine.stop(stop);
    }
    if let Some(on_group) = on_group {
        engine = engine.on_group(on_group);
    }
    let completions = engine.generate(request.prompts, request.samples, request.sampling, request.key)?;
    Ok((completions, engine.stats().clone()))
}

//! One completion in the making, and what rules it.

use crate::completion::{Completion, FinishReason, ImageKey};
use crate::engine::{Progress, StopCheck};
use crate::error::{LogitsProblem, RolloutError};
use crate::params::SamplingParams;
use crate::rng::CounterRng;
use crate::sampling::{Sampled, most_probable, sample_token};
use std::sync::Arc;

/// A stop check that the rows of a call share.
pub type Stop<'a> = Arc<dyn StopCheck + Send + 'a>;

/// Where a completion belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// The call, by the number that [`crate::Batch::submit`] was given.
    pub call: u64,
    /// Index of the prompt in the call.
    pub prompt: usize,
    /// Index of the completion in its group.
    pub sample: usize,
}

/// Newly sampled tokens of a completion.
#[derive(Clone, Copy, Debug)]
pub struct New<'r> {
    /// Their ids.
    pub token_ids: &'r [u32],
    /// Their log-probabilities, in nats.
    pub logprobs: &'r [f32],
    /// The most probable tokens in the place of each, as many as [`crate::Call::alternatives`] says: most probable first.
    /// Empty where none are asked for.
    pub alternatives: &'r [Vec<Sampled>],
}

/// Who hears of what a batch samples, on the thread that advances it.
pub trait Sink {
    /// Tokens that were sampled since the last time.
    fn sampled(&mut self, _place: Place, _new: New<'_>) {}

    /// A completion is whole; its last tokens have been reported.
    fn finished(&mut self, place: Place, completion: &Completion);

    /// Every row has another token.
    fn stepped(&mut self, _progress: Progress) {}
}

/// How the tokens of a call are chosen and what ends its completions.
pub(crate) struct Rules<'a> {
    pub(crate) call: u64,
    pub(crate) sampling: SamplingParams,
    pub(crate) eos_token_ids: Vec<u32>,
    pub(crate) stop: Option<Stop<'a>>,
    pub(crate) alternatives: usize,
}

/// A distinct prompt of a call with the completions to sample for it.
pub(crate) struct PromptJob<'a> {
    pub(crate) token_ids: Vec<u32>,
    /// Pictures in the places of image tokens.
    pub(crate) images: Vec<ImageKey>,
    /// Longest completion that `max_tokens` and the context allow, at least 1.
    pub(crate) budget: usize,
    pub(crate) samples: Vec<SampleJob>,
    pub(crate) rules: Arc<Rules<'a>>,
}

/// A completion to sample.
pub(crate) struct SampleJob {
    pub(crate) rng: CounterRng,
    /// Where in the result it belongs, (prompt, sample): one place, but for greedy decoding.
    pub(crate) places: Vec<(usize, usize)>,
}

/// A completion in the making.
pub(crate) struct BatchRow<'a> {
    pub(crate) rules: Arc<Rules<'a>>,
    pub(crate) sample: SampleJob,
    budget: usize,
    /// Row of the newest logits.
    pub(crate) logits_row: usize,
    /// Tokens in the cache: the prompt, and what was sampled but for the newest.
    pub(crate) len: usize,
    pub(crate) newest: u32,
    /// Moved out when the completion is delivered.
    pub(crate) token_ids: Vec<u32>,
    pub(crate) logprobs: Vec<f32>,
    /// Of the tokens that have not been reported, where any are asked for.
    alternatives: Vec<Vec<Sampled>>,
    pub(crate) finish_reason: Option<FinishReason>,
    /// Tokens that have been reported.
    pub(crate) reported: usize,
    /// Nobody is to hear of it any more.
    pub(crate) delivered: bool,
}

impl<'a> BatchRow<'a> {
    /// The rows of a prompt of `len` tokens, whose logits are row `logits_row`.
    pub(crate) fn of(job: PromptJob<'a>, len: usize, logits_row: usize) -> impl Iterator<Item = Self> {
        let PromptJob { budget, samples, rules, .. } = job;
        samples.into_iter().map(move |sample| Self {
            rules: Arc::clone(&rules),
            sample,
            budget,
            logits_row,
            len,
            newest: 0,
            token_ids: Vec::new(),
            logprobs: Vec::new(),
            alternatives: Vec::new(),
            finish_reason: None,
            reported: 0,
            delivered: false,
        })
    }

    pub(crate) fn is_live(&self) -> bool {
        self.finish_reason.is_none()
    }

    /// Tokens that it may still be fed: the last one sampled never is.
    pub(crate) fn left(&self) -> usize {
        self.budget - self.token_ids.len().min(self.budget)
    }

    /// Samples the next token from the logits [rows, V] of the batch.
    pub(crate) fn advance(&mut self, logits: &[f32], vocab_size: usize) -> Result<(), RolloutError> {
        let position = self.token_ids.len();
        let logits = &logits[self.logits_row * vocab_size..][..vocab_size];
        let uniform = self.sample.rng.uniform(position as u64);
        let sampled = sample_token(logits, &self.rules.sampling, uniform).map_err(|p| self.invalid(p))?;
        if self.rules.alternatives > 0 {
            let most = most_probable(logits, &self.rules.sampling, self.rules.alternatives);
            self.alternatives.push(most.map_err(|p| self.invalid(p))?);
        }
        self.push(sampled);
        Ok(())
    }

    pub(crate) fn invalid(&self, problem: LogitsProblem) -> RolloutError {
        let (prompt, sample) = self.sample.places[0];
        RolloutError::InvalidLogits { prompt, sample, position: self.token_ids.len(), problem }
    }

    pub(crate) fn push(&mut self, sampled: Sampled) {
        self.newest = sampled.token;
        self.token_ids.push(sampled.token);
        self.logprobs.push(sampled.logprob);
        self.finish_reason = self.ended();
    }

    fn ended(&self) -> Option<FinishReason> {
        let (ids, rules) = (&self.token_ids, &self.rules);
        let stops = ids.last().is_some_and(|id| rules.eos_token_ids.contains(id))
            || rules.sampling.stop_sequences.iter().any(|sequence| ids.ends_with(sequence))
            || rules.stop.as_ref().is_some_and(|stop| stop.should_stop(ids));
        if stops {
            Some(FinishReason::Stop)
        } else if ids.len() >= rules.sampling.max_tokens {
            Some(FinishReason::Length)
        } else if ids.len() >= self.budget {
            Some(FinishReason::Context)
        } else {
            None
        }
    }

    /// Ends it without a completion.
    pub(crate) fn give_up(&mut self) {
        self.finish_reason = Some(FinishReason::Length);
        self.delivered = true;
    }

    /// Tells of what is new.
    pub(crate) fn report(&mut self, policy_version: u64, sink: &mut dyn Sink) {
        if self.delivered {
            return;
        }
        let call = self.rules.call;
        let places = || self.sample.places.iter().map(|&(prompt, sample)| Place { call, prompt, sample });
        for place in places() {
            let (token_ids, logprobs) = (&self.token_ids[self.reported..], &self.logprobs[self.reported..]);
            sink.sampled(place, New { token_ids, logprobs, alternatives: &self.alternatives });
        }
        self.alternatives.clear();
        self.reported = self.token_ids.len();
        let Some(finish_reason) = self.finish_reason else { return };
        self.delivered = true;
        let completion = Completion {
            token_ids: std::mem::take(&mut self.token_ids),
            logprobs: std::mem::take(&mut self.logprobs),
            finish_reason,
            policy_version,
        };
        places().for_each(|place| sink.finished(place, &completion));
    }
}

//! What of a server's answers is believed, and where completions end.

use rlvr_rollout::{Completion, FinishReason, SamplingParams, StopCheck};

use crate::servers::{Ask, Choice, Ended};

/// What is wrong with a completion, if anything is.
pub(super) fn checked(
    choice: &Choice,
    ask: &Ask<'_>,
    vocab: usize,
    label: Option<&str>,
) -> Result<(), String> {
    let Choice { index, token_ids, logprobs, ended, versions } = choice;
    if *ended == Ended::Abort {
        return Err(format!("completion {index} was aborted"));
    }
    if token_ids.is_empty() {
        return Err(format!("completion {index} has no token"));
    }
    if token_ids.len() != logprobs.len() {
        return Err(format!(
            "completion {index} has {} tokens and {} log-probabilities",
            token_ids.len(),
            logprobs.len()
        ));
    }
    if let Some(id) = token_ids.iter().find(|id| **id as usize >= vocab) {
        return Err(format!(
            "completion {index} has the token {id}, and the policy's vocabulary ends at {vocab}: another model?"
        ));
    }
    if let Some(logprob) = logprobs.iter().find(|l| !(l.is_finite() && **l <= 1e-3)) {
        return Err(format!("completion {index} has a log-probability of {logprob}"));
    }
    if token_ids.len() > ask.max_tokens {
        return Err(format!(
            "completion {index} has {} tokens, asked were {}",
            token_ids.len(),
            ask.max_tokens
        ));
    }
    if *ended == Ended::Stop && token_ids.last().is_none_or(|last| !ask.ends.contains(last)) {
        return Err(format!(
            "completion {index} ended with the token {:?}, which is none of the policy's ends {:?}",
            token_ids.last(),
            ask.ends
        ));
    }
    let other = |label: &str| versions.iter().flatten().find(|version| *version != label);
    if let Some(version) = label.and_then(other) {
        return Err(format!("completion {index} is of the weights {version:?}, asked were {label:?}"));
    }
    Ok(())
}

/// Where completions end.
pub(super) struct End<'a> {
    pub(super) sampling: &'a SamplingParams,
    pub(super) stop: Option<&'a dyn StopCheck>,
    /// Tokens that were asked for.
    pub(super) max_tokens: usize,
    pub(super) ends: &'a [u32],
}

impl End<'_> {
    /// A completion up to the first thing that ends it: servers do not see all of these.
    pub(super) fn completion(&self, choice: Choice, version: u64) -> Completion {
        let Choice { mut token_ids, logprobs, .. } = choice;
        let sequences = &self.sampling.stop_sequences;
        let stops = |ids: &[u32]| {
            let last = ids.last().is_some_and(|id| self.ends.contains(id));
            last || sequences.iter().any(|s| ids.ends_with(s))
                || self.stop.is_some_and(|stop| stop.should_stop(ids))
        };
        let end = (1..=token_ids.len()).find(|len| stops(&token_ids[..*len]));
        let finish_reason = match end {
            Some(_) => FinishReason::Stop,
            None if self.max_tokens < self.sampling.max_tokens => FinishReason::Context,
            None => FinishReason::Length,
        };
        token_ids.truncate(end.unwrap_or(token_ids.len()));
        let logprobs = logprobs.into_iter().take(token_ids.len()).map(|l| l.min(0.0) as f32).collect();
        Completion { token_ids, logprobs, finish_reason, policy_version: version }
    }
}

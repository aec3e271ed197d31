//! What happens to prompts that are too long.

use crate::error::RolloutError;
use serde::{Deserialize, Serialize};

/// Treatment of prompts above the limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LongPrompt {
    /// The call fails before anything is sampled.
    #[default]
    Error,
    /// The prompt gets no completions and is reported.
    Skip,
    /// The prompt loses its first tokens (often the system message and the start of a chat template) and is reported.
    TruncateLeft,
}

/// Limit on the length of prompts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PromptLimit {
    /// Longest prompt in tokens; see [`PromptLimit::tokens`] for the default.
    pub max_prompt_tokens: Option<usize>,
    /// What happens to longer ones.
    pub long_prompt: LongPrompt,
}

/// The part of a prompt that is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit<'a> {
    /// All of it.
    Whole(&'a [u32]),
    /// Its end.
    Truncated {
        /// The last tokens.
        token_ids: &'a [u32],
        /// How many are missing on the left.
        dropped_tokens: usize,
    },
    /// Nothing: the prompt is left out.
    Skipped,
}

impl<'a> Fit<'a> {
    /// The tokens fed to the model; `None` for a skipped prompt.
    pub fn token_ids(self) -> Option<&'a [u32]> {
        match self {
            Self::Whole(token_ids) | Self::Truncated { token_ids, .. } => Some(token_ids),
            Self::Skipped => None,
        }
    }
}

impl PromptLimit {
    /// Longest prompt accepted, in tokens: `max_prompt_tokens`, and never above `context_len − 1`.
    ///
    /// Without `max_prompt_tokens` it is `context_len − 1` under `error` and `skip` (a completion may then end with
    /// [`crate::FinishReason::Context`]), and under `truncate_left` what leaves room for `max_tokens`, though no less
    /// than half the context.
    pub fn tokens(&self, context_len: usize, max_tokens: usize) -> usize {
        let default = match self.long_prompt {
            LongPrompt::Error | LongPrompt::Skip => context_len,
            LongPrompt::TruncateLeft => context_len - max_tokens.min(context_len / 2),
        };
        self.max_prompt_tokens.unwrap_or(default).min(context_len.saturating_sub(1))
    }

    /// The part of prompt number `prompt` that the engine feeds to a model of this context. Trainers call it too, so
    /// that a truncated prompt is scored as it was sampled.
    ///
    /// # Errors
    /// [`RolloutError::EmptyPrompt`], and [`RolloutError::PromptTooLong`] under [`LongPrompt::Error`] or when the model
    /// has no room for any prompt.
    pub fn fit<'a>(
        &self,
        prompt: usize,
        token_ids: &'a [u32],
        context_len: usize,
        max_tokens: usize,
    ) -> Result<Fit<'a>, RolloutError> {
        let (tokens, limit) = (token_ids.len(), self.tokens(context_len, max_tokens));
        if tokens == 0 {
            return Err(RolloutError::EmptyPrompt { prompt });
        }
        if tokens <= limit {
            return Ok(Fit::Whole(token_ids));
        }
        match self.long_prompt {
            LongPrompt::Skip => Ok(Fit::Skipped),
            LongPrompt::TruncateLeft if limit > 0 => {
                let dropped_tokens = tokens - limit;
                Ok(Fit::Truncated { token_ids: &token_ids[dropped_tokens..], dropped_tokens })
            }
            LongPrompt::TruncateLeft | LongPrompt::Error => {
                Err(RolloutError::PromptTooLong { prompt, tokens, limit, context: context_len })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDS: [u32; 6] = [1, 2, 3, 4, 5, 6];

    fn limit(max_prompt_tokens: Option<usize>, long_prompt: LongPrompt) -> PromptLimit {
        PromptLimit { max_prompt_tokens, long_prompt }
    }

    #[test]
    fn limits() {
        assert_eq!(limit(None, LongPrompt::Error).tokens(10, 4), 9);
        assert_eq!(limit(None, LongPrompt::Skip).tokens(10, 4), 9);
        assert_eq!(limit(None, LongPrompt::TruncateLeft).tokens(10, 4), 6);
        assert_eq!(limit(None, LongPrompt::TruncateLeft).tokens(10, 400), 5);
        assert_eq!(limit(Some(3), LongPrompt::TruncateLeft).tokens(10, 4), 3);
        assert_eq!(limit(Some(30), LongPrompt::Error).tokens(10, 4), 9);
        assert_eq!(limit(None, LongPrompt::TruncateLeft).tokens(1, 4), 0);
        assert_eq!(limit(None, LongPrompt::Error).tokens(0, 4), 0);
    }

    #[test]
    fn fits() {
        let fit = |l: PromptLimit| l.fit(7, &IDS, 10, 4);
        assert_eq!(fit(limit(None, LongPrompt::Error)).unwrap(), Fit::Whole(&IDS));
        assert_eq!(fit(limit(Some(6), LongPrompt::Error)).unwrap(), Fit::Whole(&IDS));
        assert_eq!(fit(limit(Some(5), LongPrompt::Skip)).unwrap(), Fit::Skipped);
        assert_eq!(
            fit(limit(Some(2), LongPrompt::TruncateLeft)).unwrap(),
            Fit::Truncated { token_ids: &[5, 6], dropped_tokens: 4 }
        );
        let error = fit(limit(Some(5), LongPrompt::Error)).unwrap_err();
        assert!(matches!(error, RolloutError::PromptTooLong { prompt: 7, tokens: 6, limit: 5, context: 10 }));
        let error = limit(None, LongPrompt::TruncateLeft).fit(0, &IDS, 1, 4).unwrap_err();
        assert!(matches!(error, RolloutError::PromptTooLong { limit: 0, .. }));
        let error = limit(None, LongPrompt::Skip).fit(3, &[], 10, 4).unwrap_err();
        assert!(matches!(error, RolloutError::EmptyPrompt { prompt: 3 }));
    }
}

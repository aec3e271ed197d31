//! What can go wrong in a rollout.

use thiserror::Error;

/// Failure of a rollout. Indices are those of the call: `prompt` is the index into `prompts`, `sample` the index in its
/// group, `position` the index of the completion token.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RolloutError {
    /// A prompt above the limit under [`crate::LongPrompt::Error`].
    #[error(
        "prompt {prompt} has {tokens} tokens, the limit is {limit} (context of {context} tokens); \
         shorten it or set long_prompt to \"skip\" or \"truncate_left\""
    )]
    PromptTooLong {
        /// Index of the prompt.
        prompt: usize,
        /// Its length in tokens.
        tokens: usize,
        /// Longest prompt accepted, in tokens.
        limit: usize,
        /// Context of the model in tokens.
        context: usize,
    },
    /// A prompt without tokens: there is nothing to condition on.
    #[error("prompt {prompt} is empty; begin it with the model's first token (bos) at least")]
    EmptyPrompt {
        /// Index of the prompt.
        prompt: usize,
    },
    /// A token id that the model does not have.
    #[error("prompt {prompt} holds token id {token}, the vocabulary ends at {vocab_size}")]
    TokenOutOfRange {
        /// Index of the prompt.
        prompt: usize,
        /// The id.
        token: u32,
        /// Size of the vocabulary.
        vocab_size: usize,
    },
    /// A group of no samples.
    #[error("group_size is 0; at least one sample a prompt is needed")]
    EmptyGroup,
    /// Sampling or batch settings out of range; every problem is listed.
    #[error("invalid settings: {}", problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    InvalidSettings {
        /// The problems, each with its key.
        problems: Vec<Problem>,
    },
    /// Logits that no token can be sampled from. Never turned into a token.
    #[error("logits of prompt {prompt}, sample {sample}, completion token {position} cannot be sampled")]
    InvalidLogits {
        /// Index of the prompt.
        prompt: usize,
        /// Index in the group.
        sample: usize,
        /// Index of the completion token.
        position: usize,
        /// What is wrong with them.
        #[source]
        problem: LogitsProblem,
    },
    /// The model returned a buffer of the wrong size.
    #[error("the model returned {found} logits for {rows} rows of a vocabulary of {vocab_size}")]
    LogitsShape {
        /// Length of the buffer.
        found: usize,
        /// Rows asked for.
        rows: usize,
        /// Size of the vocabulary.
        vocab_size: usize,
    },
    /// The model failed.
    #[error("the model failed to decode")]
    Model(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The cancellation flag was raised; the same call later gives the same completions.
    #[error("rollout cancelled after {completion_tokens} completion tokens")]
    Cancelled {
        /// Tokens sampled until then.
        completion_tokens: usize,
    },
    /// A script has no completions for this call.
    #[error("the script ends after {calls} calls of generate")]
    ScriptExhausted {
        /// Calls answered.
        calls: usize,
    },
    /// A script whose next entry has another shape than the call.
    #[error(
        "call {call} asks for {prompts} prompts of {group_size} samples, the script holds groups of {found:?}"
    )]
    ScriptMismatch {
        /// Index of the call.
        call: usize,
        /// Prompts asked for.
        prompts: usize,
        /// Samples a prompt asked for.
        group_size: usize,
        /// Sizes of the groups in the script.
        found: Vec<usize>,
    },
}

impl RolloutError {
    /// Wraps an error of a [`crate::DecodeModel`].
    pub fn model(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Model(source.into())
    }
}

/// Why a row of logits has no distribution.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum LogitsProblem {
    /// A value is not a number.
    #[error("the logit of token {token} is not a number")]
    Nan {
        /// The first such token.
        token: u32,
    },
    /// A value is +∞ (−∞ is allowed and means probability zero).
    #[error("the logit of token {token} is +infinity")]
    PositiveInfinity {
        /// The first such token.
        token: u32,
    },
    /// Every value is −∞, or there is none.
    #[error("no token has a finite logit")]
    NoToken,
    /// One of these, found by a model that draws its tokens itself.
    #[error("the logits have no softmax: not a number, +infinity, or nothing finite")]
    NoSoftmax,
}

/// Something wrong with a setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The field with the tables around it, as in `stage.0.group_size`.
    pub field: String,
    /// What is wrong and what to do.
    pub message: String,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.field, self.message)
    }
}

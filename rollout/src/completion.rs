//! What goes in and what comes out.

use serde::{Deserialize, Serialize};

/// By what a model knows a picture that it was shown.
pub type ImageKey = u128;

/// A prompt, as token ids.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prompt {
    /// At least one id, below the model's vocabulary size.
    pub token_ids: Vec<u32>,
    /// The pictures in the places of its image tokens, in their order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<ImageKey>,
}

impl From<Vec<u32>> for Prompt {
    fn from(token_ids: Vec<u32>) -> Self {
        Self { token_ids, images: Vec::new() }
    }
}

/// A sampled continuation of a prompt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Completion {
    /// At least one id when sampled; what ended the completion (EOS, stop sequence) is included.
    pub token_ids: Vec<u32>,
    /// Behaviour log-probability of each token in nats, of the distribution it was sampled from (temperature and
    /// truncation applied); under greedy decoding that of the untruncated distribution at temperature 1.
    pub logprobs: Vec<f32>,
    /// Why it ended.
    pub finish_reason: FinishReason,
    /// Version of the weights that sampled it, as given by the caller.
    pub policy_version: u64,
}

/// Why a completion ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// An EOS id, a stop sequence, or the stop check.
    Stop,
    /// `max_tokens` reached.
    Length,
    /// The model's context is full, below `max_tokens`.
    Context,
}

impl FinishReason {
    /// The name in files: `stop`, `length`, `context`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::Context => "context",
        }
    }

    /// Whether the completion was cut before the policy ended it.
    pub fn is_truncated(self) -> bool {
        self != Self::Stop
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_files() {
        for reason in [FinishReason::Stop, FinishReason::Length, FinishReason::Context] {
            let json = serde_json::to_string(&reason).unwrap();
            assert_eq!(json, format!("\"{}\"", reason.as_str()));
            assert_eq!(reason.is_truncated(), reason != FinishReason::Stop);
        }
    }

    #[test]
    fn logprobs_survive_json() {
        let completion = Completion {
            token_ids: vec![1, 2],
            logprobs: vec![-0.1, -1.234_567_9e-7],
            finish_reason: FinishReason::Stop,
            policy_version: 3,
        };
        let json = serde_json::to_string(&completion).unwrap();
        assert_eq!(serde_json::from_str::<Completion>(&json).unwrap(), completion);
    }
}

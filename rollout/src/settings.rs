//! How much is decoded at once.

use crate::error::{Problem, RolloutError};
use crate::prompt_limit::{LongPrompt, PromptLimit};
use serde::{Deserialize, Serialize};

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

//! What a user says about sampling.

use crate::error::{Problem, RolloutError};
use serde::{Deserialize, Serialize};

/// How tokens are chosen and when a completion ends.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SamplingParams {
    /// Divides the logits: 0 is greedy, otherwise between 0.001 and 1000. Default 1.
    pub temperature: f64,
    /// Keeps the k most probable tokens. Default: all.
    pub top_k: Option<usize>,
    /// Keeps the smallest set of most probable tokens whose probability (among those of `top_k`) reaches this, in
    /// (0, 1]. Default: all.
    pub top_p: Option<f64>,
    /// Keeps tokens of at least this fraction of the largest probability, in [0, 1). Default: all.
    pub min_p: Option<f64>,
    /// Longest completion in tokens, the one that ends it included. Default 256.
    pub max_tokens: usize,
    /// Token sequences that end a completion (and stay part of it). Default: none.
    pub stop_sequences: Vec<Vec<u32>>,
}

impl Default for SamplingParams {
    fn default() -> Self {
        Self {
            temperature: 1.0,
            top_k: None,
            top_p: None,
            min_p: None,
            max_tokens: 256,
            stop_sequences: Vec::new(),
        }
    }
}

impl SamplingParams {
    /// The most probable token each time.
    pub fn greedy(max_tokens: usize) -> Self {
        Self { temperature: 0.0, max_tokens, ..Self::default() }
    }

    /// Whether the temperature is 0.
    pub fn is_greedy(&self) -> bool {
        self.temperature == 0.0
    }

    /// Whether top-k, top-p or min-p can remove tokens, so that the distribution sampled from is not the plain softmax.
    pub fn truncates(&self) -> bool {
        self.top_k.is_some() || self.top_p.is_some_and(|p| p < 1.0) || self.min_p.is_some_and(|p| p > 0.0)
    }

    /// Checks the ranges.
    ///
    /// # Errors
    /// [`RolloutError::InvalidSettings`] with every problem found.
    pub fn validate(&self) -> Result<(), RolloutError> {
        let mut problems = Vec::new();
        let mut check = |fine: bool, field: &str, message: String| {
            if !fine {
                problems.push(Problem { field: field.to_owned(), message });
            }
        };
        let t = self.temperature;
        check(
            t == 0.0 || (0.001..=1000.0).contains(&t),
            "temperature",
            format!("is {t}, it must be 0 (greedy) or between 0.001 and 1000"),
        );
        if let Some(k) = self.top_k {
            check(k > 0, "top_k", "is 0, it must be at least 1; leave it out to keep all tokens".into());
        }
        if let Some(p) = self.top_p {
            check(p > 0.0 && p <= 1.0, "top_p", format!("is {p}, it must be above 0 and at most 1"));
        }
        if let Some(p) = self.min_p {
            check((0.0..1.0).contains(&p), "min_p", format!("is {p}, it must be at least 0 and below 1"));
        }
        check(self.max_tokens > 0, "max_tokens", "is 0, it must be at least 1".into());
        let whole = self.stop_sequences.iter().all(|s| !s.is_empty());
        check(whole, "stop_sequences", "holds an empty sequence".into());
        if problems.is_empty() { Ok(()) } else { Err(RolloutError::InvalidSettings { problems }) }
    }
}

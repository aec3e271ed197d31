//! Stand-ins with the names and fields of `rlvr_rewards`, `rlvr_rollout` and the loss; replaced by `use` lines.
#![allow(missing_docs, unreachable_pub)]

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

// use rlvr_rewards::{Message, Outcome, RewardConfig, Task, Verdict};
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    pub role: String,
    pub content: String,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Task {
    pub id: String,
    pub prompt: Vec<Message>,
    pub reference: Value,
    pub meta: Map<String, Value>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum RewardConfig {
    Exact {},
    Format {
        #[serde(default)]
        pattern: String,
    },
    Sum {
        terms: Vec<Term>,
    },
}

#[derive(Debug, thiserror::Error)]
#[error("reward: {0}")]
pub struct RewardConfigError(String);

impl RewardConfig {
    pub fn build(self) -> Result<(), RewardConfigError> {
        match self {
            Self::Sum { terms } if terms.is_empty() => Err(RewardConfigError("terms is empty".to_owned())),
            _ => Ok(()),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Term {
    pub weight: f64,
    pub reward: RewardConfig,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Correct,
}

impl Outcome {
    pub fn of(verdict: Verdict, _method: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { score: Some(1.0), verdict, extracted: None, reason: reason.into() }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Outcome {
    pub score: Option<f64>,
    pub verdict: Verdict,
    pub extracted: Option<String>,
    pub reason: String,
}

// use rlvr_rollout::{LongPrompt, RolloutError, SamplingParams};
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LongPrompt {
    #[default]
    Error,
    Skip,
    TruncateLeft,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SamplingParams {
    pub temperature: f64,
    pub top_k: Option<usize>,
    pub top_p: Option<f64>,
    pub min_p: Option<f64>,
    pub max_tokens: usize,
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

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RolloutError {
    #[error("invalid settings: {}", problems.join("; "))]
    InvalidSettings { problems: Vec<String> },
    #[error("group_size is 0; at least one sample a prompt is needed")]
    EmptyGroup,
}

impl SamplingParams {
    pub fn is_greedy(&self) -> bool {
        self.temperature == 0.0
    }

    pub fn truncates(&self) -> bool {
        self.top_k.is_some() || self.top_p.is_some_and(|p| p < 1.0) || self.min_p.is_some_and(|p| p > 0.0)
    }

    pub fn validate(&self) -> Result<(), RolloutError> {
        let mut problems = Vec::new();
        let t = self.temperature;
        if !(t == 0.0 || (0.001..=1000.0).contains(&t)) {
            problems.push(format!("temperature is {t}, it must be 0 (greedy) or between 0.001 and 1000"));
        }
        if self.max_tokens == 0 {
            problems.push("max_tokens is 0, it must be at least 1".to_owned());
        }
        if problems.is_empty() { Ok(()) } else { Err(RolloutError::InvalidSettings { problems }) }
    }
}

// use crate::schedule::{ScheduleConfig, ScheduleKind};
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScheduleKind {
    Constant,
    Linear,
    Cosine,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ScheduleConfig {
    pub kind: ScheduleKind,
    pub warmup_steps: u64,
    pub min_ratio: f64,
}

// use crate::grpo::LossConfig;
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LossConfig {
    pub clip_low: Option<f64>,
    pub clip_high: Option<f64>,
    pub max_tokens: Option<f64>,
    #[serde(alias = "beta")]
    pub kl_coef: f64,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", problems.join("; "))]
pub struct LossConfigError {
    pub problems: Vec<String>,
}

impl LossConfig {
    pub fn validate(&self) -> Result<(), LossConfigError> {
        if self.kl_coef >= 0.0 {
            Ok(())
        } else {
            Err(LossConfigError { problems: vec!["kl_coef: must be 0 or more".to_owned()] })
        }
    }
}

//! Stand-ins with the names and fields of `rlvr_rewards`, `rlvr_rollout` and the loss; replaced by `use` lines.
#![allow(missing_docs, unreachable_pub)]

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

// use rlvr_rewards::{Message, Task, RewardConfig, Outcome};
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
        parts: Vec<RewardPart>,
    },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RewardPart {
    pub weight: f64,
    pub reward: Box<RewardConfig>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Outcome {
    pub score: Option<f64>,
    pub verdict: String,
    pub extracted: Option<String>,
    pub reason: String,
}

// use rlvr_rollout::SamplingParams;
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SamplingParams {
    pub temperature: f64,
    pub top_k: usize,
    pub top_p: f64,
    pub min_p: f64,
    pub max_tokens: usize,
}

impl Default for SamplingParams {
    fn default() -> Self {
        Self { temperature: 1.0, top_k: 0, top_p: 1.0, min_p: 0.0, max_tokens: 256 }
    }
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

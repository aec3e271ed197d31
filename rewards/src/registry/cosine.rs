//! `cosine_length`: a reward of correct and wrong answers that depends on the length, arXiv:2502.03373 section 4.
//!
//! `end + (start - end) · (1 + cos(π · |y| / L_max)) / 2` for `|y| < L_max`, with `start` the score of an empty response
//! and `end` that of one just below the limit, one pair for correct answers and one for all others; `exceed` from the limit
//! on. The defaults have the paper's signs and order, scaled into [-1, 1]: a short correct answer is worth most, a wrong
//! one costs less the longer it thinks, and overrunning costs as much as a wrong guess. A task that the inner reward
//! cannot judge stays unjudged. The units are those of [`crate::length`].

use serde::{Deserialize, Serialize};

use super::RewardConfig;
use crate::error::ConfigError;
use crate::judges::length::LengthUnit;
use crate::judges::math::MathConfig;
use crate::reward::{Outcome, Reward, RewardError, TaskError, Verdict, score_one};
use crate::task::{Response, Task};

/// Settings of the `cosine_length` reward.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CosineConfig {
    /// Judges the answer; `math` when absent.
    #[serde(default = "math")]
    pub answer: Box<RewardConfig>,
    /// Length from which `exceed` is the score, in `unit`. Default 4096.
    #[serde(default = "limit")]
    pub max: usize,
    /// What is counted. Default `chars`.
    #[serde(default = "chars")]
    pub unit: LengthUnit,
    /// Score of a correct answer at length 0 and at the limit. Default [1, 0.5].
    #[serde(default = "right")]
    pub correct: [f64; 2],
    /// Score of any other answer at length 0 and at the limit. Default [-1, 0].
    #[serde(default = "wrong")]
    pub wrong: [f64; 2],
    /// Score at the limit and above. Default -1.
    #[serde(default = "exceed")]
    pub exceed: f64,
}

fn math() -> Box<RewardConfig> {
    Box::new(RewardConfig::Math(MathConfig::default()))
}
fn limit() -> usize {
    4096
}
fn chars() -> LengthUnit {
    LengthUnit::Chars
}
fn right() -> [f64; 2] {
    [1.0, 0.5]
}
fn wrong() -> [f64; 2] {
    [-1.0, 0.0]
}
fn exceed() -> f64 {
    -1.0
}

/// The `cosine_length` reward.
pub struct CosineLength {
    answer: Box<dyn Reward>,
    config: CosineConfig,
}

impl CosineLength {
    /// Checks the settings.
    ///
    /// # Errors
    /// When `max` is 0, a score is not finite, or the inner reward is invalid.
    pub fn new(config: CosineConfig) -> Result<Self, ConfigError> {
        let CosineConfig { correct, wrong, exceed, max, .. } = config;
        if max == 0 || [correct[0], correct[1], wrong[0], wrong[1], exceed].iter().any(|s| !s.is_finite()) {
            let reason = "needs max > 0 and finite scores".into();
            return Err(ConfigError::Invalid { kind: "cosine_length", reason });
        }
        Ok(Self { answer: config.answer.clone().build()?, config })
    }
}

impl Reward for CosineLength {
    fn name(&self) -> &str {
        "cosine_length"
    }

    fn score(&self, task: &Task, response: Response<'_>) -> Result<Outcome, RewardError> {
        let inner = score_one(&*self.answer, task, response);
        if inner.verdict.is_masked() {
            return Ok(inner);
        }
        let length = self.config.unit.count("cosine_length", response)?;
        let [start, end] =
            if inner.verdict == Verdict::Correct { self.config.correct } else { self.config.wrong };
        let score = if length >= self.config.max {
            self.config.exceed
        } else {
            let part = length as f64 / self.config.max as f64;
            end + (start - end) * (1.0 + (std::f64::consts::PI * part).cos()) / 2.0
        };
        let reason = format!("{}; length {length} of {}", inner.reason, self.config.max);
        Ok(Outcome { score: Some(score), reason, ..inner })
    }

    fn gold(&self, task: &Task) -> Option<String> {
        self.answer.gold(task)
    }

    fn prepare(&self) -> Result<(), RewardError> {
        self.answer.prepare()
    }

    fn check_task(&self, task: &Task) -> Result<(), TaskError> {
        self.answer.check_task(task)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_come_with_the_response() {
        let config = serde_json::json!({"kind": "cosine_length", "max": 10, "unit": "tokens"});
        let cosine = serde_json::from_value::<RewardConfig>(config).unwrap().build().unwrap();
        let task = Task::new("t", serde_json::json!({"answer": "4"}));
        let response = |tokens| Response { tokens, ..Response::new("\\boxed{4}") };
        assert_eq!(score_one(&*cosine, &task, response(Some(5))).score, Some(0.75));
        assert_eq!(score_one(&*cosine, &task, response(None)).verdict, Verdict::Error);
    }

    #[test]
    fn cosine() {
        let config = serde_json::json!({"kind": "cosine_length", "max": 100, "answer": {"kind": "exact"}});
        let config: RewardConfig = serde_json::from_value(config).unwrap();
        let reward = config.build().unwrap();
        let task = Task::new("t", serde_json::json!({"answer": "4"}));
        let check = |answer: &str, length: usize, want: f64| {
            let text = format!("{}<answer>{answer}</answer>", " ".repeat(length - 18));
            let score = score_one(&*reward, &task, Response::new(&text)).score.unwrap();
            assert!((score - want).abs() < 1e-9, "{answer} {length} {score}");
        };
        check("4", 50, 0.75);
        check("5", 50, -0.5);
        check("4", 100, -1.0);
        check("5", 200, -1.0);
        let at = |part: f64| (1.0 + (std::f64::consts::PI * part).cos()) / 2.0;
        check("4", 25, 0.5 + 0.5 * at(0.25));
        check("5", 75, -at(0.75));
        let nan = CosineConfig {
            answer: math(),
            max: 1,
            unit: chars(),
            correct: [f64::NAN; 2],
            wrong: wrong(),
            exceed: 0.0,
        };
        assert!(CosineLength::new(nan).is_err());
    }
}

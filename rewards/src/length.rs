//! `length`: soft overlong punishment, arXiv:2503.14476 eq. 13.
//!
//! With length `|y|`, limit `L_max` (`max`) and buffer `L_cache` (`soft`):
//! 0 up to `L_max - L_cache`, then falling linearly to -1 at `L_max`, -1 above.
//!
//! Unlike the paper, the length is counted in characters or words and not in tokens: a reward never sees token ids.

use serde::{Deserialize, Serialize};

use crate::config::ConfigError;
use crate::reward::{Outcome, Reward, RewardError, Verdict};
use crate::task::{Response, Task};

/// Settings of the `length` reward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LengthConfig {
    /// Length from which the penalty is -1, in `unit`. Default 4096.
    pub max: usize,
    /// Width of the zone before `max` in which the penalty grows, in `unit`, at most `max`. Default 1024.
    pub soft: usize,
    /// What is counted. Default `chars`.
    pub unit: LengthUnit,
}

impl Default for LengthConfig {
    fn default() -> Self {
        Self { max: 4096, soft: 1024, unit: LengthUnit::Chars }
    }
}

/// Unit of a length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LengthUnit {
    /// Unicode scalar values.
    Chars,
    /// Runs without white space.
    Words,
}

/// The `length` reward; its score lies in [-1, 0].
pub struct Length {
    config: LengthConfig,
}

impl Length {
    /// Checks the settings.
    ///
    /// # Errors
    /// When `max` is 0 or `soft` is above `max`.
    pub fn new(config: LengthConfig) -> Result<Self, ConfigError> {
        if config.max == 0 || config.soft > config.max {
            let reason =
                format!("needs 0 < max and soft <= max, got max {} soft {}", config.max, config.soft);
            return Err(ConfigError::Invalid { kind: "length", reason });
        }
        Ok(Self { config })
    }
}

impl Reward for Length {
    fn name(&self) -> &str {
        "length"
    }

    fn score(&self, _: &Task, response: Response<'_>) -> Result<Outcome, RewardError> {
        let length = match self.config.unit {
            LengthUnit::Chars => response.text.chars().count(),
            LengthUnit::Words => response.text.split_whitespace().count(),
        };
        let LengthConfig { max, soft, .. } = self.config;
        let score = if length <= max - soft {
            0.0
        } else if length < max {
            ((max - soft) as f64 - length as f64) / soft as f64
        } else {
            -1.0
        };
        let verdict = match score {
            0.0 => Verdict::Correct,
            -1.0 => Verdict::Incorrect,
            _ => Verdict::Partial,
        };
        let unit = if self.config.unit == LengthUnit::Chars { "characters" } else { "words" };
        let reason = format!("{length} {unit}, limit {max}");
        Ok(Outcome { score: Some(score), ..Outcome::of(verdict, "soft_overlong", reason) }
            .with_work(response.text.len() as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reward::score_one;

    #[test]
    fn soft_overlong() {
        let check = |length: usize, want: f64| {
            let reward = Length::new(LengthConfig { max: 100, soft: 20, unit: LengthUnit::Chars }).unwrap();
            let text = "é".repeat(length);
            assert_eq!(
                score_one(&reward, &Task::default(), Response::new(&text)).score,
                Some(want),
                "{length}"
            );
        };
        check(0, 0.0);
        check(80, 0.0);
        check(90, -0.5);
        check(95, -0.75);
        check(100, -1.0);
        check(1000, -1.0);
    }

    #[test]
    fn words_and_bad_settings() {
        let reward = Length::new(LengthConfig { max: 4, soft: 2, unit: LengthUnit::Words }).unwrap();
        assert_eq!(score_one(&reward, &Task::default(), Response::new("a b  c")).score, Some(-0.5));
        assert!(Length::new(LengthConfig { max: 1, soft: 2, unit: LengthUnit::Words }).is_err());
        assert!(Length::new(LengthConfig { max: 0, soft: 0, unit: LengthUnit::Words }).is_err());
    }
}

//! `length`: soft overlong punishment, arXiv:2503.14476 eq. 13.
//!
//! With length `|y|`, limit `L_max` (`max`) and buffer `L_cache` (`soft`):
//! 0 up to `L_max - L_cache`, then falling linearly to -1 at `L_max`, -1 above.
//!
//! The paper counts tokens (`unit = "tokens"`); a response has that number where a policy made it or its row says it, and
//! without it this reward breaks. Characters, the default, and words need nothing but the text.

use serde::{Deserialize, Serialize};

use crate::error::ConfigError;
use crate::judges::token_f1::is_dense;
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
    /// Runs without white space; a character of a script without spaces is one.
    Words,
    /// Tokens of the policy, as [`Response::tokens`] has them.
    Tokens,
}

impl LengthUnit {
    /// The length of a response.
    ///
    /// # Errors
    /// When tokens are asked for and their number is not known.
    pub(crate) fn count(self, reward: &str, response: Response<'_>) -> Result<usize, RewardError> {
        match self {
            Self::Chars => Ok(response.text.chars().count()),
            Self::Words => Ok(words(response.text)),
            Self::Tokens => response.tokens.ok_or_else(|| RewardError::Failed {
                reward: reward.into(),
                reason: "unit \"tokens\" needs the number of tokens of a completion, which this one comes \
                         without: put the field \"tokens\" into its row, or count in chars or words"
                    .into(),
            }),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Chars => "characters",
            Self::Words => "words",
            Self::Tokens => "tokens",
        }
    }
}

/// Runs without white space, and each character of a script without spaces.
fn words(text: &str) -> usize {
    let mut count = 0;
    let mut before = ' ';
    for c in text.chars() {
        // What follows a Chinese character is a run of its own where it is no punctuation.
        let begins = before.is_whitespace() || is_dense(before) && c.is_alphanumeric();
        count += usize::from(is_dense(c) || begins && !c.is_whitespace());
        if !is_dense(before) || is_dense(c) || c.is_alphanumeric() || c.is_whitespace() {
            before = c;
        }
    }
    count
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
        let length = self.config.unit.count("length", response)?;
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
        let unit = self.config.unit.name();
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
        for (text, want) in [
            ("", 0),
            (" a  b ", 2),
            ("我们先算。", 4),
            ("用 Python 写", 3),
            ("用Python写，好", 4),
            ("สวัสดี", 6),
            ("안녕 세계", 2),
        ] {
            assert_eq!(words(text), want, "{text:?}");
        }
        assert!(Length::new(LengthConfig { max: 1, soft: 2, unit: LengthUnit::Words }).is_err());
        assert!(Length::new(LengthConfig { max: 0, soft: 0, unit: LengthUnit::Words }).is_err());
    }

    #[test]
    fn tokens_come_with_the_response() {
        let reward = Length::new(LengthConfig { max: 4, soft: 2, unit: LengthUnit::Tokens }).unwrap();
        let score = |tokens| {
            score_one(&reward, &Task::default(), Response { tokens, ..Response::new("a b c d e f g") })
        };
        assert_eq!(score(Some(3)).score, Some(-0.5));
        assert_eq!(score(Some(2)).score, Some(0.0));
        let missing = score(None);
        assert_eq!((missing.score, missing.verdict), (None, Verdict::Error));
        assert!(missing.reason.contains("\"tokens\""), "{}", missing.reason);
    }
}

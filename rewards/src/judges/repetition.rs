//! `repetition`: a penalty for repeated n-grams, after the one of arXiv:2502.03373 section 4.
//!
//! With `T` n-grams of words in the response of which `D` are distinct, the score is `-(1 - D / T)` where that share is
//! above `allow`, and 0 otherwise: it lies in [-1, 0]. Unlike the paper, which punishes the tokens of a repeated n-gram
//! one by one, this is one number for the response, and n-grams are of words: a reward never sees token ids. A response
//! shorter than `n` words has nothing repeated. Thoughts count.
//!
//! | response (n = 2, allow = 0) | score |
//! |---|---|
//! | `a b c d` | 0 |
//! | `a b a b a b` (5 pairs, 2 distinct) | -0.6 |

use std::collections::{HashMap, HashSet};

use serde::{Deserialize, Serialize};

use crate::answer::text;
use crate::error::ConfigError;
use crate::judges::token_f1::is_dense;
use crate::reward::{Outcome, Reward, RewardError, Verdict};
use crate::task::{Response, Task};

/// Bytes at the end of a response that are looked at.
const BYTES: usize = 256 * 1024;

/// Settings of the `repetition` reward.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RepetitionConfig {
    /// Words of an n-gram, 1 to 64. Default 8.
    pub n: usize,
    /// Share of repeated n-grams that costs nothing, in [0, 1). Default 0.05.
    pub allow: f64,
}

impl Default for RepetitionConfig {
    fn default() -> Self {
        Self { n: 8, allow: 0.05 }
    }
}

/// The `repetition` reward; its score lies in [-1, 0].
pub struct Repetition {
    config: RepetitionConfig,
}

impl Repetition {
    /// Checks the settings.
    ///
    /// # Errors
    /// When `n` is not in 1..=64 or `allow` not in [0, 1).
    pub fn new(config: RepetitionConfig) -> Result<Self, ConfigError> {
        if !(1..=64).contains(&config.n) || !(0.0..1.0).contains(&config.allow) {
            let reason =
                format!("needs n in 1..=64 and allow in [0, 1), got {} and {}", config.n, config.allow);
            return Err(ConfigError::Invalid { kind: "repetition", reason });
        }
        Ok(Self { config })
    }
}

impl Reward for Repetition {
    fn name(&self) -> &str {
        "repetition"
    }

    fn score(&self, _: &Task, response: Response<'_>) -> Result<Outcome, RewardError> {
        let body = text::tail(response.text, BYTES).to_lowercase();
        let mut words: Vec<&str> = Vec::new();
        for word in body.split_whitespace() {
            if word.chars().any(is_dense) || word.len() > 256 {
                words.extend(word.char_indices().map(|(i, c)| &word[i..i + c.len_utf8()]));
            } else {
                words.push(word);
            }
        }
        let total = (words.len() + 1).saturating_sub(self.config.n);
        // Numbers instead of words: each word is in `n` windows.
        let mut numbers: HashMap<&str, u32> = HashMap::new();
        let words: Vec<u32> = (words.iter())
            .map(|word| {
                let next = numbers.len() as u32;
                *numbers.entry(word).or_insert(next)
            })
            .collect();
        let distinct = words.windows(self.config.n).collect::<HashSet<_>>().len();
        let share = if total == 0 { 0.0 } else { 1.0 - distinct as f64 / total as f64 };
        let score = if share > self.config.allow { -share } else { 0.0 };
        let verdict = if score == 0.0 { Verdict::Correct } else { Verdict::Partial };
        let reason = format!("{} of {total} {}-grams repeated", total - distinct, self.config.n);
        Ok(Outcome { score: Some(score), ..Outcome::of(verdict, "ngrams", reason) }
            .with_work(response.text.len() as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reward::score_one;

    #[test]
    fn shares() {
        let check = |n: usize, allow: f64, text: &str, want: f64| {
            let reward = Repetition::new(RepetitionConfig { n, allow }).unwrap();
            let score = score_one(&reward, &Task::default(), Response::new(text)).score.unwrap();
            assert!((score - want).abs() < 1e-12, "{text:?} {score}");
        };
        check(2, 0.0, "a b c d", 0.0);
        check(2, 0.0, "a b a b a b", -0.6);
        check(2, 0.7, "a b a b a b", 0.0);
        check(2, 0.0, "a", 0.0);
        check(2, 0.0, "", 0.0);
        check(2, 0.0, "好好好好", -2.0 / 3.0);
        assert!(Repetition::new(RepetitionConfig { n: 0, allow: 0.0 }).is_err());
        assert!(Repetition::new(RepetitionConfig { n: 1, allow: f64::NAN }).is_err());
    }
}

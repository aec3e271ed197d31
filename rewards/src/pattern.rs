//! `regex`: a pattern matches, and optionally what it captures equals the reference.
//!
//! Linear time by the `regex` crate: no look-around, no back-references, at most 1 MiB compiled. The pattern may match
//! anywhere; write `^` and `$` for the whole. It sees the whole response, thoughts included. With `capture` the last
//! match's group `answer` (or group 1, or the whole match) must equal `reference.answer` after normalisation.
//!
//! | response | `pattern = '^\d+$'` | `pattern = 'x = (\d+)'`, `capture`, reference 7 |
//! |---|---|---|
//! | `7` | correct | no answer |
//! | `x = 7` | incorrect | correct |
//! | `x = 7, no: x = 8` | incorrect | incorrect |
//!
//! A pattern that matches the empty string accepts every response.

use regex::{Regex, RegexBuilder};
use serde::{Deserialize, Serialize};

use crate::config::ConfigError;
use crate::reward::{Outcome, Reward, RewardError, TaskError, Verdict};
use crate::task::{Response, Task};
use crate::text;

/// Settings of the `regex` reward.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PatternConfig {
    /// Regular expression of the `regex` crate: linear time, no look-around, no back-references.
    pub pattern: String,
    /// Compare the last match's group `answer` (or group 1, or the whole match) with `reference.answer`. Default false.
    #[serde(default)]
    pub capture: bool,
}

/// Size limit of a compiled user pattern, in bytes.
const PATTERN_BYTES: usize = 1 << 20;

pub(crate) fn compile(kind: &'static str, pattern: &str) -> Result<Regex, ConfigError> {
    (RegexBuilder::new(pattern).size_limit(PATTERN_BYTES).build())
        .map_err(|e| ConfigError::Invalid { kind, reason: format!("{kind} pattern {pattern:?}: {e}") })
}

/// The `regex` reward.
pub struct Pattern {
    regex: Regex,
    capture: bool,
}

impl Pattern {
    /// Compiles the pattern.
    ///
    /// # Errors
    /// When it is not a regular expression, or compiles to more than 1 MiB.
    pub fn new(config: PatternConfig) -> Result<Self, ConfigError> {
        Ok(Self { regex: compile("regex", &config.pattern)?, capture: config.capture })
    }
}

impl Reward for Pattern {
    fn name(&self) -> &str {
        "regex"
    }

    fn score(&self, task: &Task, response: Response<'_>) -> Result<Outcome, RewardError> {
        let work = response.text.len() as u64;
        if !self.capture {
            let hit = self.regex.is_match(response.text);
            let verdict = if hit { Verdict::Correct } else { Verdict::Incorrect };
            let reason = if hit { "the pattern matches" } else { "the pattern does not match" };
            return Ok(Outcome::of(verdict, "regex", reason).with_work(work));
        }
        let golds = task.answers();
        if golds.is_empty() {
            return Ok(Outcome::of(Verdict::Unverifiable, "regex", "the reference has no answer"));
        }
        let last = self.regex.captures_iter(response.text).last();
        let Some(span) = last.and_then(|c| c.name("answer").or_else(|| c.get(1)).or_else(|| c.get(0))) else {
            return Ok(Outcome::of(Verdict::NoAnswer, "regex", "the pattern does not match").with_work(work));
        };
        let prediction = text::normalise(span.as_str());
        let hit = golds.iter().any(|g| text::normalise(g) == prediction);
        let verdict = if hit { Verdict::Correct } else { Verdict::Incorrect };
        let reason =
            if hit { "the capture equals the reference" } else { "the capture is not the reference" };
        Ok(Outcome::of(verdict, "regex", reason)
            .with_extracted(span.as_str())
            .with_gold(text::normalise(&golds[0]))
            .with_prediction(prediction)
            .with_work(work))
    }

    fn check_task(&self, task: &Task) -> Result<(), TaskError> {
        if self.capture && task.answers().is_empty() {
            return Err(TaskError::MissingField { reward: "regex".into(), field: "answer" });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reward::score_one;

    #[test]
    fn match_and_capture() {
        let check = |pattern: &str, capture, text, want| {
            let reward = Pattern::new(PatternConfig { pattern: pattern.into(), capture }).unwrap();
            let task = Task::new("t", serde_json::json!({"answer": "Paris"}));
            assert_eq!(score_one(&reward, &task, Response::new(text)).verdict, want, "{text}");
        };
        check("^a+$", false, "aaa", Verdict::Correct);
        check("^a+$", false, "aab", Verdict::Incorrect);
        check(r"city: (\w+)", true, "city: Rome, no, city: paris", Verdict::Correct);
        check(r"city: (\w+)", true, "city: Rome", Verdict::Incorrect);
        check(r"city: (?P<answer>\w+)", true, "nothing", Verdict::NoAnswer);
    }

    #[test]
    fn a_huge_pattern_is_refused() {
        assert!(Pattern::new(PatternConfig { pattern: r"(\w{1000}){100}".into(), capture: false }).is_err());
    }
}

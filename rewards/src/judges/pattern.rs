//! `regex`: a pattern matches, and optionally what it captures equals the reference.
//!
//! Linear time by the `regex` crate: no look-around, no back-references, at most 1 MiB compiled. A byte may cost as many steps
//! as the pattern has places, which counted repetitions multiply; a response is `incorrect` when both together pass
//! [`MAX_STEPS`]. The pattern may match anywhere; write `^` and `$` for the whole. It sees the whole response, thoughts
//! included. With `capture` the last
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
use regex_syntax::hir::{Hir, HirKind};
use serde::{Deserialize, Serialize};

use crate::answer::text;
use crate::error::ConfigError;
use crate::reward::{Outcome, Reward, RewardError, TaskError, Verdict};
use crate::task::{Response, Task};

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
/// Places of a pattern times bytes of a text: about a second where nothing can be saved. A pattern of 1,000 places may see
/// 256 KiB.
pub const MAX_STEPS: u64 = 1 << 28;

/// A user's pattern.
pub(crate) struct Matcher {
    regex: Regex,
    positions: u64,
}

impl Matcher {
    pub(crate) fn new(kind: &'static str, pattern: &str) -> Result<Self, ConfigError> {
        let regex = (RegexBuilder::new(pattern).size_limit(PATTERN_BYTES).build())
            .map_err(|e| ConfigError::Invalid { kind, reason: format!("{kind} pattern {pattern:?}: {e}") })?;
        Ok(Self { regex, positions: positions_of(pattern) })
    }

    /// The pattern, for a text that is not too long for it.
    pub(crate) fn for_text(&self, text: &str) -> Result<&Regex, String> {
        match self.positions.saturating_mul(text.len() as u64) <= MAX_STEPS {
            true => Ok(&self.regex),
            false => {
                Err(format!("{} bytes are too long for a pattern of {} places", text.len(), self.positions))
            }
        }
    }
}

/// How many places of `pattern` a text may be at, at the same time, while it is matched: each byte of it costs at most so
/// many steps. Counted repetitions make it large. Very large for what is no pattern of this syntax.
pub(crate) fn positions_of(pattern: &str) -> u64 {
    fn positions(hir: &Hir) -> u64 {
        match hir.kind() {
            HirKind::Empty | HirKind::Look(_) => 0,
            HirKind::Literal(text) => text.0.len() as u64,
            HirKind::Class(_) => 1,
            HirKind::Capture(capture) => positions(&capture.sub),
            HirKind::Concat(parts) | HirKind::Alternation(parts) => {
                parts.iter().map(positions).fold(0, u64::saturating_add)
            }
            HirKind::Repetition(repeated) => {
                let times = repeated.max.unwrap_or(repeated.min.max(1));
                positions(&repeated.sub).saturating_mul(times.into())
            }
        }
    }
    regex_syntax::parse(pattern).map_or(10_000, |hir| positions(&hir))
}

/// The `regex` reward.
pub struct Pattern {
    matcher: Matcher,
    capture: bool,
}

impl Pattern {
    /// Compiles the pattern.
    ///
    /// # Errors
    /// When it is not a regular expression, or compiles to more than 1 MiB.
    pub fn new(config: PatternConfig) -> Result<Self, ConfigError> {
        Ok(Self { matcher: Matcher::new("regex", &config.pattern)?, capture: config.capture })
    }
}

impl Reward for Pattern {
    fn name(&self) -> &str {
        "regex"
    }

    fn score(&self, task: &Task, response: Response<'_>) -> Result<Outcome, RewardError> {
        let work = response.text.len() as u64;
        let regex = match self.matcher.for_text(response.text) {
            Ok(regex) => regex,
            Err(reason) => return Ok(Outcome::of(Verdict::Incorrect, "regex", reason).with_work(work)),
        };
        if !self.capture {
            let hit = regex.is_match(response.text);
            let verdict = if hit { Verdict::Correct } else { Verdict::Incorrect };
            let reason = if hit { "the pattern matches" } else { "the pattern does not match" };
            return Ok(Outcome::of(verdict, "regex", reason).with_work(work));
        }
        let golds = task.answers();
        if golds.is_empty() {
            return Ok(Outcome::of(Verdict::Unverifiable, "regex", "the reference has no answer"));
        }
        let last = regex.captures_iter(response.text).last();
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
    fn a_text_is_not_too_long_for_its_pattern() {
        let score = |pattern: &str, text: &str| {
            let reward = Pattern::new(PatternConfig { pattern: pattern.into(), capture: false }).unwrap();
            score_one(&reward, &Task::default(), Response::new(text))
        };
        assert_eq!([positions_of(r"^\d{4}-(a|bc)*$"), positions_of("(a{100}b){10,20}")], [8, 2020]);
        let text = "ab".repeat(60_000);
        let outcome = score("[ab]*a[ab]{9000}c", &text);
        assert_eq!(outcome.verdict, Verdict::Incorrect);
        assert!(outcome.reason.contains("pattern of 9003 places"), "{}", outcome.reason);
        assert_eq!(score("(?s)^.*a[ab]{501}$", &text).verdict, Verdict::Correct);
    }

    #[test]
    fn a_huge_pattern_is_refused() {
        assert!(Pattern::new(PatternConfig { pattern: r"(\w{1000}){100}".into(), capture: false }).is_err());
    }
}

//! Checkers of generated tasks whose right answer is not unique, and `procedural`, which picks the checker by the
//! shape of the reference.
//!
//! | reference | judged by |
//! |---|---|
//! | `{numbers, target}` | `countdown` |
//! | `{puzzle}` | `sudoku` |
//! | `{formula}` | `logic` |
//! | `{answer: NUMBER}` | `numeric` without tolerance |
//! | `{answer: TEXT}` | `exact` |
//!
//! Where nothing marks an answer, the whole response is one, provided that all of it parses.

mod countdown;
mod logic;
mod sudoku;

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use countdown::{Countdown, CountdownConfig, UseNumbers};
pub use logic::{Logic, LogicConfig};
pub use sudoku::{Sudoku, SudokuConfig};

use crate::answer::extract::{self, ExtractPolicy, Missing, MultiAnswer, Think};
use crate::answer::text;
use crate::error::ConfigError;
use crate::judges::exact::{Exact, ExactConfig};
use crate::judges::numeric::{Numeric, NumericConfig};
use crate::reward::{Outcome, Reward, RewardError, TaskError, Verdict};
use crate::task::{Response, Task};

/// Settings of the `procedural` reward.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProceduralConfig {
    /// Several different explicit answers. Default `last`.
    pub multi_answer: MultiAnswer,
    /// Think tags. Default `strip`.
    pub think: Think,
}

/// The `procedural` reward: the checker that fits each task.
pub struct Procedural {
    countdown: Countdown,
    sudoku: Sudoku,
    logic: Logic,
    numeric: Numeric,
    exact: Exact,
}

impl Procedural {
    /// The reward with these settings, which every checker shares.
    ///
    /// # Errors
    /// Never with settings that parsed.
    pub fn new(config: ProceduralConfig) -> Result<Self, ConfigError> {
        let ProceduralConfig { multi_answer, think } = config;
        Ok(Self {
            countdown: Countdown::new(CountdownConfig { multi_answer, think, ..CountdownConfig::default() }),
            sudoku: Sudoku::new(SudokuConfig { multi_answer, think }),
            logic: Logic::new(LogicConfig { multi_answer, think }),
            numeric: Numeric::new(NumericConfig {
                relative: 0.0,
                multi_answer,
                think,
                ..Default::default()
            })?,
            exact: Exact::new(ExactConfig { multi_answer, think, ..ExactConfig::default() }),
        })
    }

    /// The checker of a task; none where the reference has no known shape.
    fn checker(&self, task: &Task) -> Option<&dyn Reward> {
        let field = |name| task.reference.get(name);
        if field("numbers").is_some() && field("target").is_some() {
            Some(&self.countdown)
        } else if field("puzzle").is_some() {
            Some(&self.sudoku)
        } else if field("formula").is_some() {
            Some(&self.logic)
        } else {
            match field("answer").unwrap_or(&task.reference) {
                Value::Number(_) => Some(&self.numeric),
                Value::String(_) | Value::Array(_) | Value::Bool(_) => Some(&self.exact),
                _ => None,
            }
        }
    }
}

impl Reward for Procedural {
    fn name(&self) -> &str {
        "procedural"
    }

    fn score(&self, task: &Task, response: Response<'_>) -> Result<Outcome, RewardError> {
        match self.checker(task) {
            Some(checker) => checker.score(task, response),
            None => Ok(Outcome::of(Verdict::Unverifiable, "procedural", "the reference has no known shape")),
        }
    }

    fn gold(&self, task: &Task) -> Option<String> {
        self.checker(task)?.gold(task)
    }

    fn check_task(&self, task: &Task) -> Result<(), TaskError> {
        match self.checker(task) {
            Some(checker) => checker.check_task(task),
            None => Err(TaskError::MissingField { reward: "procedural".into(), field: "answer" }),
        }
    }
}

/// What a checker takes as the answer.
struct Span {
    text: String,
    rule: &'static str,
    /// Several different answers stand there.
    clash: bool,
    /// Nothing marks the answer, so text that does not parse is no answer instead of a wrong one.
    unmarked: bool,
}

/// The answer of a response by the extraction chain, or all of it where nothing marks an answer.
fn span(response: &str, multi_answer: MultiAnswer, think: Think) -> Result<Span, Missing> {
    let policy = ExtractPolicy { multi_answer, think, ..ExtractPolicy::default() };
    match extract::answer(response, policy) {
        Ok(answer) => Ok(Span {
            clash: answer.joined
                || answer.conflicting && multi_answer == MultiAnswer::RejectIfConflicting
                || text::is_hedged(&answer.text),
            rule: answer.rule.name(),
            unmarked: answer.rule == extract::Rule::Bare,
            text: answer.text,
        }),
        Err(Missing::NotFound) => {
            let body = extract::strip_think(response, think == Think::RequireClosed)?.trim();
            if body.is_empty() {
                return Err(Missing::NotFound);
            }
            if body.len() > extract::SPAN_BYTES {
                return Err(Missing::TooLong);
            }
            Ok(Span { text: body.into(), rule: "whole", clash: false, unmarked: true })
        }
        Err(other) => Err(other),
    }
}

/// Judges a response with `check`, which gives the canonical prediction with whether it is right and why, or why the
/// span is no answer at all.
fn judge(
    name: &'static str,
    response: Response<'_>,
    multi_answer: MultiAnswer,
    think: Think,
    check: impl FnOnce(&str) -> Result<Checked, Cow<'static, str>>,
) -> Outcome {
    let work = response.text.len() as u64;
    let span = match span(response.text, multi_answer, think) {
        Ok(span) => span,
        Err(missing) => return Outcome::of(Verdict::NoAnswer, name, missing.reason()).with_work(work),
    };
    let method = format!("{}/{name}", span.rule);
    let outcome = if span.clash {
        Outcome::of(Verdict::Ambiguous, method, "several or hedged answers")
    } else {
        match check(&span.text) {
            Ok(Checked { prediction, wrong: None }) => {
                Outcome::of(Verdict::Correct, method, "satisfies every condition").with_prediction(prediction)
            }
            Ok(Checked { prediction, wrong: Some(why) }) => {
                Outcome::of(Verdict::Incorrect, method, why).with_prediction(prediction)
            }
            Err(why) if span.unmarked => Outcome::of(Verdict::NoAnswer, method, why),
            Err(why) => Outcome::of(Verdict::Incorrect, method, why),
        }
    };
    outcome.with_extracted(span.text).with_work(work)
}

/// An answer that was read.
struct Checked {
    prediction: String,
    /// What is wrong with it, none where it is right.
    wrong: Option<Cow<'static, str>>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reward::score_one;
    use serde_json::json;

    #[test]
    fn the_shape_of_the_reference_picks_the_checker() {
        let reward = Procedural::new(ProceduralConfig::default()).unwrap();
        for (reference, good, bad) in [
            (json!({"numbers": [3, 4], "target": 12}), "4*3", "3+4"),
            (json!({"puzzle": "1234341221434321"}), "1234341221434321", "1234341221434312"),
            (json!({"formula": "a and not b"}), "a=true, b=false", "a=true, b=true"),
            (json!({"answer": 12}), "12.0", "13"),
            (json!({"answer": "1e5"}), "1e5", "100000"),
            (json!({"answer": "3 5 9"}), "3, 5, 9", "3 9 5"),
        ] {
            let task = Task::new("t", reference.clone());
            let verdict = |text| score_one(&reward, &task, Response::new(text)).verdict;
            assert_eq!(reward.check_task(&task), Ok(()), "{reference}");
            assert_eq!(verdict(good), Verdict::Correct, "{reference}");
            assert_eq!(verdict(bad), Verdict::Incorrect, "{reference}");
            assert_eq!(verdict(&reward.gold(&task).unwrap()), Verdict::Correct, "{reference}");
        }
        let task = Task::new("t", json!({"question": "?"}));
        assert!(reward.check_task(&task).is_err());
        assert_eq!(score_one(&reward, &task, Response::new("1")).verdict, Verdict::Unverifiable);
    }
}

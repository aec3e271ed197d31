//! `exact`: the normalised answer string equals the reference or one of its aliases.
//!
//! The span comes from the extraction chain, that of a reference with a mark as well; a response without any mark is taken whole when it is one short line.
//! Normalisation: see [`crate::text::normalise`]. References: `reference.answer`, a string or a list, and
//! `reference.aliases`, a list.
//!
//! | response | for the reference `Paris` |
//! |---|---|
//! | `Paris` · `The answer is paris.` · `<answer>The Paris</answer>` · `\boxed{\text{Paris}}` | correct |
//! | `Paris or Rome` · `It is Paris` | incorrect: a list or a sentence is another string |
//! | `<answer>maybe Paris</answer>` · two different tags | ambiguous |
//! | prose that mentions Paris · `The answer is not Paris.` · what is only thought · nothing | no answer |
//!
//! With `literal` bytes are compared, with `whole` the response after think. For synonyms in the same words in another
//! order see `any_of`, for mathematics `math`.

use serde::{Deserialize, Serialize};

use crate::answer::extract::{self, ExtractPolicy, MultiAnswer, Think};
use crate::answer::reference::{self, Unusable};
use crate::answer::text;
use crate::judges::token_f1::{marked_references, references};
use crate::reward::{Outcome, Reward, RewardError, TaskError, Verdict};
use crate::task::{Response, Task};

/// Settings of the `exact` reward.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ExactConfig {
    /// Compare the bytes of the trimmed span and do not normalise. Default false.
    pub literal: bool,
    /// Compare the whole response (after think) instead of an extracted span. Default false.
    pub whole: bool,
    /// Several different explicit answers. Default `last`.
    pub multi_answer: MultiAnswer,
    /// Think tags. Default `strip`.
    pub think: Think,
}

/// The `exact` reward.
pub struct Exact {
    config: ExactConfig,
}

impl Exact {
    /// The reward with these settings.
    pub fn new(config: ExactConfig) -> Self {
        Self { config }
    }

    fn references(&self, task: &Task) -> Vec<String> {
        if self.config.whole { references(task) } else { marked_references(task) }
    }

    fn form(&self, s: &str) -> String {
        if self.config.literal { s.trim().to_string() } else { text::normalise(s) }
    }
}

impl Exact {
    /// Whether the response is a reference and nothing else, but for the tags around it.
    fn is_said(&self, response: &str, golds: &[String]) -> bool {
        let body = extract::strip_think(response, self.config.think == Think::RequireClosed);
        let body = body.unwrap_or_default().trim();
        let inside = body.strip_prefix("<answer>").and_then(|rest| rest.strip_suffix("</answer>"));
        let said = self.form(inside.unwrap_or(body));
        !said.is_empty() && golds.contains(&said)
    }
}

impl Reward for Exact {
    fn name(&self) -> &str {
        "exact"
    }

    fn score(&self, task: &Task, response: Response<'_>) -> Result<Outcome, RewardError> {
        let work = response.text.len() as u64;
        let golds: Vec<String> = self.references(task).iter().map(|g| self.form(g)).collect();
        if golds.iter().all(String::is_empty) || reference::check_digits(task).is_err() {
            return Ok(Outcome::of(Verdict::Unverifiable, "exact", "the reference has no answer"));
        }
        let policy = ExtractPolicy {
            multi_answer: self.config.multi_answer,
            think: self.config.think,
            ..ExtractPolicy::default()
        };
        let found = if self.config.whole {
            extract::strip_think(response.text, self.config.think == Think::RequireClosed)
                .map(|body| (text::tail(body, extract::INPUT_BYTES).trim().to_string(), "whole", false))
        } else {
            extract::answer(response.text, policy).map(|a| {
                let clash =
                    a.joined || a.conflicting && policy.multi_answer == MultiAnswer::RejectIfConflicting;
                (a.text, a.rule.name(), clash)
            })
        };
        let outcome = match found {
            // A reference may itself read as a denial: "not seen here".
            Err(_) if self.is_said(response.text, &golds) => {
                Outcome::of(Verdict::Correct, "said/exact", "equals the reference")
            }
            Err(missing) => Outcome::of(Verdict::NoAnswer, "exact", missing.reason()),
            Ok((span, rule, clash)) => {
                let prediction = self.form(&span);
                let hit = golds.contains(&prediction);
                let verdict = match (hit, clash || !hit && text::is_hedged(&span)) {
                    (_, true) => Verdict::Ambiguous,
                    (true, _) => Verdict::Correct,
                    _ if prediction.is_empty() => Verdict::NoAnswer,
                    _ => Verdict::Incorrect,
                };
                let reason = match verdict {
                    Verdict::Correct => "equals the reference",
                    Verdict::Ambiguous => "several or hedged answers",
                    Verdict::NoAnswer => "the answer is empty",
                    _ => "is not the reference",
                };
                Outcome::of(verdict, format!("{rule}/exact"), reason)
                    .with_extracted(span)
                    .with_prediction(prediction)
            }
        };
        Ok(outcome.with_gold(golds[0].clone()).with_work(work))
    }

    fn gold(&self, task: &Task) -> Option<String> {
        let answer = self.references(task).into_iter().next()?;
        Some(if self.config.whole { answer } else { format!("<answer>{answer}</answer>") })
    }

    fn check_task(&self, task: &Task) -> Result<(), TaskError> {
        if let Err(Unusable { gold, reason }) = reference::check_digits(task) {
            return Err(TaskError::BadGold { reward: "exact".into(), gold, reason });
        }
        if self.references(task).iter().all(|g| self.form(g).is_empty()) {
            return Err(TaskError::MissingField { reward: "exact".into(), field: "answer" });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reward::score_one;
    use serde_json::json;

    #[test]
    fn aliases_and_hedges() {
        let check = |gold: serde_json::Value, text: &str, want| {
            let task = Task::new("t", json!({ "answer": gold }));
            let outcome = score_one(&Exact::new(ExactConfig::default()), &task, Response::new(text));
            assert_eq!(outcome.verdict, want, "{gold} {text:?} {}", outcome.reason);
        };
        check(json!("Paris"), "<answer>paris.</answer>", Verdict::Correct);
        check(json!(["NYC", "New York"]), "The answer is New York.", Verdict::Correct);
        check(json!("Paris"), "<answer>Paris or Rome</answer>", Verdict::Incorrect);
        check(json!("Paris"), "<answer>Paris?</answer>", Verdict::Correct);
        check(json!("Paris"), "<answer>Rome</answer><answer>Paris</answer>", Verdict::Ambiguous);
        check(json!("Paris"), "<answer>maybe Paris</answer>", Verdict::Ambiguous);
        check(json!("Paris"), "The answer is not Paris.", Verdict::NoAnswer);
        check(json!("Paris"), "<think>Paris</think>", Verdict::NoAnswer);
        check(json!("Not seen here"), "<answer>Not seen here</answer>", Verdict::Correct);
        check(json!("Not seen here"), "not seen here.", Verdict::Correct);
        check(json!("Not seen here"), "It is not seen here, or is it?", Verdict::NoAnswer);
        check(json!("seen here"), "Not seen here", Verdict::NoAnswer);
        check(json!("Paris"), "Paris", Verdict::Correct);
        check(json!(12), "#### 12", Verdict::Correct);
        check(json!(""), "#### 12", Verdict::Unverifiable);
        check(json!("He paid 7 and 5.\n#### 12"), "#### 12", Verdict::Correct);
        check(json!("He paid 7 and 5.\n#### 12"), "#### 7", Verdict::Incorrect);
        check(json!(1e20), "#### 100000000000000000000", Verdict::Unverifiable);
        let task = Task::new("t", json!({"answer": "Paris", "aliases": ["Lutetia"]}));
        let outcome = score_one(&Exact::new(ExactConfig::default()), &task, Response::new("Answer: Lutetia"));
        assert_eq!(outcome.verdict, Verdict::Correct, "{}", outcome.reason);
    }
}

//! `token_f1`: overlap of words with the reference, and `any_of`: short open answers with aliases.
//!
//! Both compare words: lower case, no punctuation, no articles (as SQuAD does, arXiv:1606.05250 section 6.1); a character
//! of a script without spaces is a word. With `c` the words that answer and reference share, counted with multiplicity,
//! precision is `c / answer words`, recall `c / reference words`, F1 `2 · p · r / (p + r)`. The best reference counts.
//!
//! | kind | answer `the Eiffel tower` for `Eiffel Tower, Paris` | score |
//! |---|---|---|
//! | `token_f1` | whole response after think | 0.8 |
//! | `any_of` | extracted answer, all words equal | 0 |
//! | `any_of`, `min_f1 = 0.75` | extracted answer, F1 at least 0.75 | 1 |
//!
//! `any_of` refuses hedges ("Paris or Rome", "maybe Paris"), denials and a sentence that only contains the answer.
//! References: `reference.answer`, a string or a list, and `reference.aliases`, a list.

use std::borrow::Cow;
use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use unicode_normalization::UnicodeNormalization;

use crate::answer::extract::{self, ExtractPolicy, MultiAnswer, Think};
use crate::answer::reference::{self, Unusable};
use crate::answer::text;
use crate::error::ConfigError;
use crate::reward::{Outcome, Reward, RewardError, TaskError, Verdict};
use crate::task::{Response, Task};

/// Words of a text that are compared, counted from its beginning.
pub(crate) const MAX_WORDS: usize = 4096;

/// A character of a script that does not separate words by spaces.
pub(crate) fn is_dense(c: char) -> bool {
    matches!(c as u32, 0x0E00..=0x0EFF | 0x3040..=0x30FF | 0x3400..=0x9FFF | 0xF900..=0xFAFF | 0x20000..=0x2FFFF)
}

fn is_punctuation(c: char) -> bool {
    c.is_ascii_punctuation()
        || matches!(c as u32, 0xA1 | 0xA7 | 0xAB | 0xB7 | 0xBB | 0xBF | 0x2010..=0x205E | 0x3001..=0x303F | 0xFF01..=0xFF0F | 0xFF1A..=0xFF20)
}

/// The words of `text` as they are compared: without articles, unless there is nothing else.
fn content_words(text: &str) -> Vec<String> {
    let found = words(text);
    if found.is_empty() { all_words(text, true) } else { found }
}

/// The words of `text` without articles.
pub(crate) fn words(text: &str) -> Vec<String> {
    all_words(text, false)
}

fn all_words(text: &str, articles: bool) -> Vec<String> {
    let folded: String = text.nfkc().flat_map(char::to_lowercase).filter(|c| !is_punctuation(*c)).collect();
    let mut out = Vec::new();
    for word in folded.split_whitespace() {
        if word.chars().any(is_dense) {
            out.extend(word.chars().map(String::from));
        } else if articles || !matches!(word, "a" | "an" | "the") {
            out.push(word.to_string());
        }
        if out.len() >= MAX_WORDS {
            out.truncate(MAX_WORDS);
            break;
        }
    }
    out
}

/// Words shared by both lists, with multiplicity.
pub(crate) fn shared<T: std::hash::Hash + Eq>(a: &[T], b: &[T]) -> usize {
    let mut counts: HashMap<&T, usize> = HashMap::new();
    a.iter().for_each(|w| *counts.entry(w).or_default() += 1);
    let mut hits = 0;
    for word in b {
        if let Some(left) = counts.get_mut(word).filter(|n| **n > 0) {
            *left -= 1;
            hits += 1;
        }
    }
    hits
}

/// Harmonic mean of `hits / predicted` and `hits / wanted`; 0 where either is empty.
pub(crate) fn f1(hits: usize, predicted: usize, wanted: usize) -> f64 {
    if hits == 0 { 0.0 } else { 2.0 * hits as f64 / (predicted + wanted) as f64 }
}

/// `reference.answer` and `reference.aliases`.
pub(crate) fn references(task: &Task) -> Vec<String> {
    let mut all = task.answers();
    if let Some(list) = task.reference.get("aliases").and_then(|v| v.as_array()) {
        all.extend(list.iter().filter_map(|v| v.as_str().map(str::to_string)));
    }
    all
}

/// The same, whole solutions as their marked answers.
pub(crate) fn marked_references(task: &Task) -> Vec<String> {
    let marked = |text: String| reference::marked(&text).map(Cow::into_owned).unwrap_or(text);
    references(task).into_iter().map(marked).collect()
}

/// Why a task with these references cannot be judged, if it cannot.
pub(crate) fn check_references(reward: &str, task: &Task) -> Result<(), TaskError> {
    if let Err(Unusable { gold, reason }) = reference::check_digits(task) {
        return Err(TaskError::BadGold { reward: reward.into(), gold, reason });
    }
    if references(task).iter().any(|r| r.chars().any(char::is_alphanumeric)) {
        Ok(())
    } else {
        Err(TaskError::MissingField { reward: reward.into(), field: "answer" })
    }
}

/// The text after think, or the outcome that says why there is none.
pub(crate) fn body<'a>(text: &'a str, think: Think, reward: &str) -> Result<&'a str, Box<Outcome>> {
    match extract::strip_think(text, think == Think::RequireClosed) {
        Ok(body) if body.chars().any(char::is_alphanumeric) => Ok(text::tail(body, extract::INPUT_BYTES)),
        Ok(_) => Err(Box::new(Outcome::of(Verdict::NoAnswer, reward, "the response is empty"))),
        Err(missing) => Err(Box::new(Outcome::of(Verdict::NoAnswer, reward, missing.reason()))),
    }
}

/// F1 of words of a text against its best reference, in [0, 1].
pub fn token_f1(said: &str, wanted: &[String]) -> f64 {
    let said = words(said);
    (wanted.iter().map(|w| words(w)))
        .map(|wanted| f1(shared(&said, &wanted), said.len(), wanted.len()))
        .fold(0.0, f64::max)
}

/// Mean of [`token_f1`] over texts with the references of each; 0 without texts.
pub fn corpus_token_f1<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a [String])>) -> f64 {
    let each: Vec<f64> = pairs.into_iter().map(|(said, wanted)| token_f1(said, wanted)).collect();
    each.iter().sum::<f64>() / each.len().max(1) as f64
}

/// Settings of the `token_f1` reward.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TokenF1Config {
    /// Compare the extracted answer instead of the whole response after think. Default false.
    pub extract: bool,
    /// Think tags. Default `strip`.
    pub think: Think,
}

/// The `token_f1` reward; its score lies in [0, 1].
pub struct TokenF1 {
    config: TokenF1Config,
}

impl TokenF1 {
    /// The reward with these settings.
    pub fn new(config: TokenF1Config) -> Self {
        Self { config }
    }
}

impl Reward for TokenF1 {
    fn name(&self) -> &str {
        "token_f1"
    }

    fn score(&self, task: &Task, response: Response<'_>) -> Result<Outcome, RewardError> {
        if check_references("token_f1", task).is_err() {
            return Ok(Outcome::of(Verdict::Unverifiable, "token_f1", "the reference has no answer"));
        }
        let body = match body(response.text, self.config.think, "token_f1") {
            Ok(body) => body,
            Err(outcome) => return Ok(*outcome),
        };
        let policy = ExtractPolicy { think: self.config.think, ..ExtractPolicy::default() };
        let span = match self.config.extract.then(|| extract::answer(response.text, policy)) {
            Some(Err(missing)) => return Ok(Outcome::of(Verdict::NoAnswer, "token_f1", missing.reason())),
            Some(Ok(answer)) => answer.text,
            None => body.to_string(),
        };
        let best = token_f1(&span, &references(task));
        let reason = format!("F1 {best:.3} over {} words", words(&span).len());
        let outcome = Outcome::graded(best, "token_f1", reason);
        Ok(outcome.with_work(response.text.len() as u64))
    }

    fn gold(&self, task: &Task) -> Option<String> {
        references(task).into_iter().next()
    }

    fn check_task(&self, task: &Task) -> Result<(), TaskError> {
        check_references("token_f1", task)
    }
}

/// Settings of the `any_of` reward.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AnyOfConfig {
    /// The F1 of words from which an answer is right, in (0, 1]; 1 asks for the same words in the same order. Default 1.
    pub min_f1: f64,
    /// Several different explicit answers. Default `last`.
    pub multi_answer: MultiAnswer,
    /// Think tags. Default `strip`.
    pub think: Think,
}

impl Default for AnyOfConfig {
    fn default() -> Self {
        Self { min_f1: 1.0, multi_answer: MultiAnswer::Last, think: Think::Strip }
    }
}

/// The `any_of` reward.
pub struct AnyOf {
    config: AnyOfConfig,
}

impl AnyOf {
    /// Checks the settings.
    ///
    /// # Errors
    /// When `min_f1` is not in (0, 1].
    pub fn new(config: AnyOfConfig) -> Result<Self, ConfigError> {
        if !(config.min_f1 > 0.0 && config.min_f1 <= 1.0) {
            let reason = format!("min_f1 must be in (0, 1], got {}", config.min_f1);
            return Err(ConfigError::Invalid { kind: "any_of", reason });
        }
        Ok(Self { config })
    }
}

impl Reward for AnyOf {
    fn name(&self) -> &str {
        "any_of"
    }

    fn score(&self, task: &Task, response: Response<'_>) -> Result<Outcome, RewardError> {
        if check_references("any_of", task).is_err() {
            return Ok(Outcome::of(Verdict::Unverifiable, "any_of", "the reference has no answer"));
        }
        let policy = ExtractPolicy {
            multi_answer: self.config.multi_answer,
            think: self.config.think,
            ..ExtractPolicy::default()
        };
        let answer = match extract::answer(response.text, policy) {
            Ok(answer) => answer,
            Err(missing) => return Ok(Outcome::of(Verdict::NoAnswer, "any_of", missing.reason())),
        };
        let said = content_words(&answer.text);
        let clash = answer.joined
            || answer.conflicting && self.config.multi_answer == MultiAnswer::RejectIfConflicting;
        let mut same = false;
        let mut best: f64 = 0.0;
        for reference in marked_references(task) {
            let wanted = content_words(&reference);
            same |= !wanted.is_empty() && wanted == said;
            best = best.max(f1(shared(&said, &wanted), said.len(), wanted.len()));
        }
        let hedged = !same && (text::is_hedged(&answer.text) || said.iter().any(|w| w == "or"));
        let hit = same || self.config.min_f1 < 1.0 && best >= self.config.min_f1;
        let (verdict, reason) = match () {
            () if clash || hedged => (Verdict::Ambiguous, "several or hedged answers"),
            () if said.is_empty() => (Verdict::NoAnswer, "the answer is empty"),
            () if hit => (Verdict::Correct, "one of the references"),
            () => (Verdict::Incorrect, "none of the references"),
        };
        Ok(Outcome::of(verdict, format!("{}/words", answer.rule.name()), reason)
            .with_prediction(said.join(" "))
            .with_extracted(answer.text)
            .with_work(response.text.len() as u64))
    }

    fn gold(&self, task: &Task) -> Option<String> {
        marked_references(task).into_iter().next().map(|answer| format!("<answer>{answer}</answer>"))
    }

    fn check_task(&self, task: &Task) -> Result<(), TaskError> {
        check_references("any_of", task)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reward::score_one;
    use serde_json::json;

    #[test]
    fn aliases_articles_and_thresholds() {
        let check = |min_f1: f64, text: &str, want: Verdict| {
            let reward = AnyOf::new(AnyOfConfig { min_f1, ..AnyOfConfig::default() }).unwrap();
            let task =
                Task::new("t", json!({"answer": "Eiffel Tower, Paris", "aliases": ["La tour Eiffel"]}));
            let outcome = score_one(&reward, &task, Response::new(text));
            assert_eq!(outcome.verdict, want, "{text:?} {}", outcome.reason);
        };
        check(1.0, "<answer>the Eiffel tower (Paris)</answer>", Verdict::Correct);
        check(1.0, "The answer is la Tour Eiffel.", Verdict::Correct);
        check(1.0, "<answer>Eiffel tower</answer>", Verdict::Incorrect);
        check(0.75, "<answer>Eiffel tower</answer>", Verdict::Correct);
        check(0.75, "<answer>Louvre</answer>", Verdict::Incorrect);
        check(0.75, "<answer>Eiffel Tower or Louvre, Paris</answer>", Verdict::Ambiguous);
        check(1.0, "", Verdict::NoAnswer);
        assert!(AnyOf::new(AnyOfConfig { min_f1: 0.0, ..AnyOfConfig::default() }).is_err());
    }

    #[test]
    fn overlap() {
        let reward = TokenF1::new(TokenF1Config::default());
        let check = |answer: &str, text: &str, want: f64| {
            let score =
                score_one(&reward, &Task::new("t", json!({"answer": answer})), Response::new(text)).score;
            assert!((score.unwrap() - want).abs() < 1e-12, "{text:?} {score:?}");
        };
        check("Eiffel Tower, Paris", "the Eiffel tower", 0.8);
        check("a b b", "b b b", 0.8);
        check("北京大学", "北京", 2.0 / 3.0);
        check("x", "y", 0.0);
    }
}

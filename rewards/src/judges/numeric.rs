//! `numeric`: a number within a tolerance of the reference.
//!
//! The span comes from the extraction chain and is read by the parser of `math`, so fractions, thousands separators,
//! powers of ten, currency and a name in front are understood. `|x - gold| <= max(absolute, relative · |gold|)`.
//!
//! | response | for the reference 42 |
//! |---|---|
//! | `\boxed{42}` · `The answer is 42.0.` · `#### 42 dollars` · `<answer>84/2</answer>` · `Answer: 4.2 \times 10^1` · `42` | correct |
//! | `The answer is 4200%` | correct |
//! | `The answer is 41.9` · `The answer is 42 or 43` · `The answer is x` | incorrect |
//! | `\boxed{42} \boxed{43}` | ambiguous |
//! | `So we count 42 of them in all.` | no answer, but with `extract = "lenient"` |
//! | `The answer is not 42.` · what is only thought · nothing | no answer |

use std::borrow::Cow;
use std::sync::LazyLock;

use num_rational::BigRational;
use num_traits::{Signed, ToPrimitive};
use regex::Regex;
use serde::{Deserialize, Serialize};

use crate::answer::extract::{self, Extract, ExtractPolicy, MultiAnswer, Rule, Think};
use crate::answer::reference::{self, Unusable};
use crate::answer::text;
use crate::error::ConfigError;
use crate::judges::math::{DecimalMark, Marks, PercentPolicy, number, with_comma};
use crate::reward::{Outcome, Reward, RewardError, TaskError, Verdict};
use crate::task::{Response, Task};

/// Settings of the `numeric` reward.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NumericConfig {
    /// Absolute tolerance, at least 0. Default 0.
    pub absolute: f64,
    /// Tolerance relative to the size of the reference, at least 0. Default 1e-6.
    pub relative: f64,
    /// How `x%` compares with a plain number. Default `either`.
    pub percent: PercentPolicy,
    /// Unit that must follow the number, compared without case and plural s. None by default: units are ignored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// Several different explicit answers. Default `last`.
    pub multi_answer: MultiAnswer,
    /// Think tags. Default `strip`.
    pub think: Think,
    /// What counts when no answer is marked: nothing (`strict`, the default) or what stands last (`lenient`). `fallback =
    /// "last_number"` is an older name of `lenient`.
    #[serde(alias = "fallback")]
    pub extract: Extract,
    /// What separates decimals. Default `auto`.
    pub decimal_mark: DecimalMark,
}

impl Default for NumericConfig {
    fn default() -> Self {
        Self {
            absolute: 0.0,
            relative: 1e-6,
            percent: PercentPolicy::default(),
            unit: None,
            multi_answer: MultiAnswer::default(),
            think: Think::default(),
            extract: Extract::default(),
            decimal_mark: DecimalMark::default(),
        }
    }
}

/// The `numeric` reward.
pub struct Numeric {
    config: NumericConfig,
    absolute: BigRational,
    relative: BigRational,
}

impl Numeric {
    /// Checks the settings.
    ///
    /// # Errors
    /// When a tolerance is negative or not finite.
    pub fn new(config: NumericConfig) -> Result<Self, ConfigError> {
        let tolerance = |name: &str, value: f64| {
            (BigRational::from_float(value).filter(|v| !v.is_negative())).ok_or_else(|| {
                ConfigError::Invalid {
                    kind: "numeric",
                    reason: format!("{name} is {value}, must be finite and at least 0"),
                }
            })
        };
        let absolute = tolerance("absolute", config.absolute)?;
        let relative = tolerance("relative", config.relative)?;
        Ok(Self { config, absolute, relative })
    }

    fn is_close(&self, gold: &BigRational, value: &BigRational) -> bool {
        let slack = &self.relative * gold.abs();
        (gold - value).abs() <= if slack > self.absolute { slack } else { self.absolute.clone() }
    }

    fn matches(&self, gold: &str, marks: Marks, value: &BigRational, percent: bool) -> Option<bool> {
        let hundred = BigRational::from_integer(100.into());
        let (gold, _, gold_percent) = number(gold, marks)?;
        Some(match (gold_percent, percent) {
            (false, false) | (true, true) => self.is_close(&gold, value),
            (false, true) => {
                let either = self.config.percent == PercentPolicy::Either && self.is_close(&gold, value);
                either || self.is_close(&gold, &(value / hundred))
            }
            (true, false) => {
                let either = self.config.percent == PercentPolicy::Either && self.is_close(&gold, value);
                either || self.is_close(&(gold / hundred), value)
            }
        })
    }

    fn has_unit(&self, tail: Option<&str>, percent: bool) -> bool {
        let Some(unit) = &self.config.unit else { return true };
        let form = |s: &str| text::normalise(s).trim_end_matches('s').to_string();
        percent && unit == "%" || tail.is_some_and(|t| form(t) == form(unit))
    }
}

/// The number in an answer such as `89` or `3 + 86 = 89`; none where arithmetic is still to be done (`3 + 86`,
/// `3 + 86 =`): repeating the question must not earn what answering it does. Fractions and scientific notation count as
/// numbers.
fn result_of(text: &str) -> Option<&str> {
    static SCIENTIFIC: LazyLock<Option<Regex>> =
        LazyLock::new(|| Regex::new(r"(?:[*×·⋅xX]|\\times|\\cdot)\s*10\s*(?:\^|\*\*)").ok());
    static OPERATION: LazyLock<Option<Regex>> = LazyLock::new(|| {
        Regex::new(r"[0-9)\]}]\s*(?:[-−–+*×·⋅÷^]|\\times|\\cdot|\\div)\s*[-−+]?\s*[0-9({\[.\\]").ok()
    });
    let text = text.trim();
    let result = text.rsplit_once('=').map_or(text, |(_, right)| right).trim();
    if result.is_empty() {
        return None;
    }
    let plain = SCIENTIFIC.as_ref().map_or(Cow::Borrowed(result), |r| r.replace_all(result, "e"));
    (!OPERATION.as_ref().is_some_and(|r| r.is_match(&plain))).then_some(result)
}

impl Reward for Numeric {
    fn name(&self) -> &str {
        "numeric"
    }

    fn score(&self, task: &Task, response: Response<'_>) -> Result<Outcome, RewardError> {
        let work = response.text.len() as u64;
        let golds = match golds(task) {
            Ok(golds) if !golds.is_empty() => golds,
            _ => return Ok(Outcome::of(Verdict::Unverifiable, "numeric", "the reference is no number")),
        };
        let NumericConfig { multi_answer, think, extract, .. } = self.config;
        let answer = match extract::answer(response.text, ExtractPolicy { multi_answer, think, extract }) {
            Ok(answer) => answer,
            Err(missing) => {
                return Ok(Outcome::of(Verdict::NoAnswer, "numeric", missing.reason()).with_work(work));
            }
        };
        let clash = answer.joined || answer.conflicting && multi_answer == MultiAnswer::RejectIfConflicting;
        let mark = self.config.decimal_mark;
        let gold_marks = |gold: &str| gold_marks(gold, mark);
        let comma =
            mark.is_comma(&golds[0], &answer.text, response.text) || gold_marks(&golds[0]) == Marks::Comma;
        let marks = if comma { with_comma(&golds[0]) } else { Marks::Grouped };
        // Of a sentence the object that it gives.
        let whole = Some(&*answer.text).filter(|t| result_of(t).and_then(|r| number(r, marks)).is_some());
        let marked = !matches!(answer.rule, Rule::Bare | Rule::Bold | Rule::Lenient);
        let object = || if marked { extract::object(&answer.text) } else { None };
        let given = whole.or_else(object).unwrap_or(&answer.text);
        let result = result_of(given);
        let parsed = result.and_then(|r| number(r, marks));
        let (verdict, reason) = match &parsed {
            _ if clash || text::is_hedged(&answer.text) => (Verdict::Ambiguous, "several or hedged answers"),
            _ if result.is_none() => (Verdict::Incorrect, "a calculation, not its result"),
            None => (Verdict::Incorrect, "the answer is no single number"),
            Some((_, tail, percent)) if !self.has_unit(tail.as_deref(), *percent) => {
                (Verdict::Incorrect, "the unit is missing or another one")
            }
            Some((value, _, percent)) => {
                match golds.iter().any(|g| self.matches(g, gold_marks(g), value, *percent).unwrap_or(false)) {
                    true => (Verdict::Correct, "within the tolerance"),
                    false => (Verdict::Incorrect, "outside of the tolerance"),
                }
            }
        };
        let outcome = Outcome::of(verdict, format!("{}/numeric", answer.rule.name()), reason);
        let show = |v: &BigRational| v.to_f64().map_or_else(|| v.to_string(), |f| f.to_string());
        let outcome = match &parsed {
            Some((value, ..)) => outcome.with_prediction(show(value)),
            None => outcome,
        };
        Ok(outcome.with_gold(golds[0].clone()).with_extracted(given).with_work(work))
    }

    fn gold(&self, task: &Task) -> Option<String> {
        let unit = self.config.unit.as_deref().unwrap_or("");
        golds(task).ok()?.first().map(|g| format!("<answer>{g} {unit}</answer>"))
    }

    fn check_task(&self, task: &Task) -> Result<(), TaskError> {
        match golds(task) {
            Ok(golds) if golds.is_empty() => {
                Err(TaskError::MissingField { reward: "numeric".into(), field: "answer" })
            }
            Ok(_) => Ok(()),
            Err(Unusable { gold, reason }) => {
                Err(TaskError::BadGold { reward: "numeric".into(), gold, reason })
            }
        }
    }
}

/// How a reference is read: by its own convention, which is a comma where it is no number otherwise.
fn gold_marks(gold: &str, mark: DecimalMark) -> Marks {
    match mark == DecimalMark::Comma || number(gold, Marks::Grouped).is_none() {
        true => Marks::Comma,
        false => Marks::Grouped,
    }
}

/// The references of a task, all of them numbers.
fn golds(task: &Task) -> Result<Vec<String>, Unusable> {
    let mut golds = reference::answers(task)?;
    for gold in &mut golds {
        let is_number =
            |gold: &str| [Marks::Grouped, Marks::Comma].iter().any(|m| number(gold, *m).is_some());
        if !is_number(gold)
            && let Ok(Cow::Owned(answer)) = reference::behind_cue(gold)
        {
            *gold = answer;
        }
        if !is_number(gold) {
            return Err(Unusable { gold: gold.clone(), reason: "it is no number".into() });
        }
    }
    Ok(golds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reward::score_one;

    fn check(config: NumericConfig, gold: &str, text: &str, want: Verdict) {
        let reward = Numeric::new(config).unwrap();
        let task = Task::new("t", serde_json::json!({ "answer": gold }));
        let outcome = score_one(&reward, &task, Response::new(text));
        assert_eq!(outcome.verdict, want, "{gold} {text:?} {}", outcome.reason);
    }

    #[test]
    fn tolerance() {
        let c = |gold, text, want| check(NumericConfig::default(), gold, text, want);
        c("3.14", "The answer is 3.14.", Verdict::Correct);
        c("3.14", "The answer is 3.15.", Verdict::Incorrect);
        c("1000", "<answer>1,000</answer>", Verdict::Correct);
        c("1000", "<answer>$1,000.00</answer>", Verdict::Correct);
        c("0.25", "<answer>1/4</answer>", Verdict::Correct);
        c("25%", "<answer>0.25</answer>", Verdict::Correct);
        c("25", "<answer>25%</answer>", Verdict::Correct);
        c("25", "<answer>24 or 25</answer>", Verdict::Incorrect);
        c("25", "<answer>maybe 25</answer>", Verdict::Ambiguous);
        c("25", "<answer>x</answer>", Verdict::Incorrect);
        c("25", "I have no idea what the number of apples in the box may be.", Verdict::NoAnswer);
        c("many", "<answer>25</answer>", Verdict::Unverifiable);
        let wide = NumericConfig { relative: 0.01, ..NumericConfig::default() };
        check(wide.clone(), "100", "<answer>101</answer>", Verdict::Correct);
        check(wide, "100", "<answer>101.5</answer>", Verdict::Incorrect);
        let near = NumericConfig { absolute: 0.5, ..NumericConfig::default() };
        check(near, "0", "<answer>0.5</answer>", Verdict::Correct);
    }

    #[test]
    fn a_repeated_question_is_no_answer() {
        let c = |gold, text, want| check(NumericConfig::default(), gold, text, want);
        for text in
            ["3 + 86", "<answer>3+86</answer>", "<answer>3 + 86 =</answer>", "<answer>89 \\times 1</answer>"]
        {
            c("89", text, Verdict::Incorrect);
        }
        c("89", "<answer>100 - 11</answer>", Verdict::Incorrect);
        c("89", "<answer>3 + 86 = 89</answer>", Verdict::Correct);
        c("-89", "<answer>-89</answer>", Verdict::Correct);
        c("1500", "<answer>1.5 \\times 10^3</answer>", Verdict::Correct);
        c("0.75", "<answer>3/4</answer>", Verdict::Correct);
    }

    #[test]
    fn units_and_percent() {
        let unit = NumericConfig { unit: Some("cm".into()), ..NumericConfig::default() };
        check(unit.clone(), "5", "<answer>5 cm</answer>", Verdict::Correct);
        check(unit, "5", "<answer>5 kg</answer>", Verdict::Incorrect);
        let same = NumericConfig { percent: PercentPolicy::Same, ..NumericConfig::default() };
        check(same.clone(), "25", "<answer>25%</answer>", Verdict::Incorrect);
        check(same, "0.25", "<answer>25%</answer>", Verdict::Correct);
    }

    #[test]
    fn words_that_change_a_number() {
        let c = |gold: &str, text: &str, want| check(NumericConfig::default(), gold, text, want);
        for text in [
            "5 cubed",
            "5 tenths",
            "5 times 3",
            "5 more than 3",
            "5 root 3",
            "5‰",
            "5 thousand",
            "5 feet 3 inches",
        ] {
            c("5", &format!("The answer is {text}."), Verdict::Incorrect);
        }
        c("5", "答案是5以上", Verdict::Incorrect);
        c("5", "Ответ: 5 тысяч", Verdict::Incorrect);
        c("1/2", "The answer is 5 tenths.", Verdict::Correct);
        c("5000000", "La respuesta es 5 millones.", Verdict::Correct);
        c("15000", "答案是一万五千。", Verdict::Correct);
    }

    #[test]
    fn decimal_commas() {
        let c = |gold, text, want| check(NumericConfig::default(), gold, text, want);
        c("3.5", "Die Antwort ist 3,5.", Verdict::Correct);
        c("3,5", "\\boxed{3,5}", Verdict::Correct);
        c("3,5", "\\boxed{3.5}", Verdict::Correct);
        c("3.5", "The answer is 3,5.", Verdict::Incorrect);
        c("1234", "Die Antwort ist 1.234.", Verdict::Correct);
        c("1.234", "Die Antwort ist 1.234.", Verdict::Correct);
        c("3500", "Die Antwort ist 3,500.", Verdict::Incorrect);
        let comma = NumericConfig { decimal_mark: DecimalMark::Comma, ..NumericConfig::default() };
        check(comma, "3.5", "\\boxed{3,5}", Verdict::Correct);
        let point = NumericConfig { decimal_mark: DecimalMark::Point, ..NumericConfig::default() };
        check(point.clone(), "3.5", "Die Antwort ist 3,5.", Verdict::Incorrect);
        check(point, "3500", "Die Antwort ist 3,500.", Verdict::Correct);
    }

    #[test]
    fn solutions_as_references() {
        let c = |gold, text, want| check(NumericConfig::default(), gold, text, want);
        c("4+5=<<4+5=9>>9\n#### 9", "#### 9", Verdict::Correct);
        c("4+5=<<4+5=9>>9\n#### 9", "#### 5", Verdict::Incorrect);
        c("The answer is 9.", "\\boxed{9}", Verdict::Correct);
        let task = Task::new("t", serde_json::json!({ "answer": 1e20 }));
        let reward = Numeric::new(NumericConfig::default()).unwrap();
        assert!(reward.check_task(&task).is_err());
    }

    #[test]
    fn bad_settings() {
        for relative in [-1.0, f64::NAN, f64::INFINITY] {
            assert!(Numeric::new(NumericConfig { relative, ..NumericConfig::default() }).is_err());
        }
    }
}

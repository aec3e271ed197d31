//! `logic`: a truth value, or an assignment that makes a propositional formula true.
//!
//! With `reference.answer` (`yes`, `no`, `true` or `false`) that value is asked for; without it any assignment of all
//! variables of `reference.formula` that makes it true is right. Formulas have variables, `not`, `and`, `xor`, `or`,
//! `implies`, `iff` (also `~ ! & ^ | -> <->`) in this order of precedence, and parentheses.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::LazyLock;

use regex::Regex;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Checked, judge};
use crate::answer::extract::{MultiAnswer, Think};
use crate::answer::text::{self, fixed};
use crate::reward::{Outcome, Reward, RewardError, TaskError, Verdict};
use crate::task::{Response, Task};

/// Tokens of a formula.
const MAX_TOKENS: usize = 512;
/// Open parentheses and negations.
const MAX_DEPTH: usize = 64;
/// Variables of a formula; all assignments are tried when a task is loaded.
const MAX_VARIABLES: usize = 12;

/// Settings of the `logic` reward.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogicConfig {
    /// Several different explicit answers. Default `last`.
    pub multi_answer: MultiAnswer,
    /// Think tags. Default `strip`.
    pub think: Think,
}

/// The `logic` reward.
pub struct Logic {
    config: LogicConfig,
}

impl Logic {
    /// The reward with these settings.
    pub fn new(config: LogicConfig) -> Self {
        Self { config }
    }
}

impl Reward for Logic {
    fn name(&self) -> &str {
        "logic"
    }

    fn score(&self, task: &Task, response: Response<'_>) -> Result<Outcome, RewardError> {
        let question = match Question::of(task) {
            Ok(question) => question,
            Err(error) => return Ok(Outcome::of(Verdict::Unverifiable, "logic", error.to_string())),
        };
        let LogicConfig { multi_answer, think } = self.config;
        let outcome = judge("logic", response, multi_answer, think, |text| question.check(text));
        Ok(match &question {
            Question::Value(value) => outcome.with_gold(if *value { "yes" } else { "no" }),
            Question::Assignment(_) => outcome,
        })
    }

    fn gold(&self, task: &Task) -> Option<String> {
        let gold = match Question::of(task).ok()? {
            Question::Value(value) => if value { "yes" } else { "no" }.to_owned(),
            Question::Assignment(formula) => {
                let bits = formula.satisfying()?;
                let pair = |(i, name): (usize, &String)| format!("{name}={}", bits >> i & 1 == 1);
                formula.variables.iter().enumerate().map(pair).collect::<Vec<_>>().join(", ")
            }
        };
        Some(format!("<answer>{gold}</answer>"))
    }

    fn check_task(&self, task: &Task) -> Result<(), TaskError> {
        match Question::of(task)? {
            Question::Assignment(formula) if formula.satisfying().is_none() => {
                Err(bad(task.reference.get("formula"), "no assignment makes it true"))
            }
            _ => Ok(()),
        }
    }
}

fn bad(gold: Option<&Value>, reason: &str) -> TaskError {
    let gold = gold.map_or_else(String::new, |g| g.as_str().map_or_else(|| g.to_string(), str::to_owned));
    TaskError::BadGold { reward: "logic".into(), gold, reason: reason.into() }
}

enum Question {
    Value(bool),
    Assignment(Formula),
}

impl Question {
    fn of(task: &Task) -> Result<Self, TaskError> {
        match task.reference.get("answer") {
            Some(Value::Bool(value)) => return Ok(Self::Value(*value)),
            Some(Value::String(word)) => {
                let value =
                    truth(word).ok_or_else(|| bad(task.reference.get("answer"), "it is no truth value"))?;
                return Ok(Self::Value(value));
            }
            Some(other) => return Err(bad(Some(other), "it is no truth value")),
            None => {}
        }
        let given = task.reference.get("formula");
        let text = given.and_then(Value::as_str);
        let text =
            text.ok_or_else(|| TaskError::MissingField { reward: "logic".into(), field: "formula" })?;
        Formula::parse(text).map(Self::Assignment).map_err(|why| bad(given, &why))
    }

    fn check(&self, text: &str) -> Result<Checked, Cow<'static, str>> {
        match self {
            Self::Value(gold) => {
                let value = truth(text).ok_or("is neither yes nor no")?;
                let wrong = (value != *gold).then_some(Cow::Borrowed("is the other truth value"));
                Ok(Checked { prediction: if value { "yes" } else { "no" }.into(), wrong })
            }
            Self::Assignment(formula) => formula.check(text),
        }
    }
}

/// `yes`, `no`, `true`, `false`, alone.
fn truth(text: &str) -> Option<bool> {
    match text::normalise(text).as_str() {
        "yes" | "true" => Some(true),
        "no" | "false" => Some(false),
        _ => None,
    }
}

/// A formula in postfix order.
struct Formula {
    variables: Vec<String>,
    code: Vec<Step>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Variable(usize),
    Not,
    And,
    Xor,
    Or,
    Implies,
    Iff,
}

impl Formula {
    fn parse(text: &str) -> Result<Self, String> {
        static TOKEN: LazyLock<Regex> = LazyLock::new(|| fixed(r"(?i)\s+|<->|->|[a-z][a-z0-9_]*|[()~!&^|]"));
        let mut tokens = Vec::new();
        let mut end = 0;
        for found in TOKEN.find_iter(text) {
            if found.start() != end {
                break;
            }
            end = found.end();
            if !found.as_str().trim().is_empty() {
                tokens.push(found.as_str().to_lowercase());
            }
            if tokens.len() > MAX_TOKENS {
                return Err(format!("it has more than {MAX_TOKENS} tokens"));
            }
        }
        if end != text.len() {
            return Err(format!("{:?} is no part of a formula", text::head(&text[end..], 16)));
        }
        let mut parser = Parser { tokens, at: 0, variables: Vec::new(), code: Vec::new() };
        parser.level(0, 0)?;
        if parser.at < parser.tokens.len() {
            return Err(format!("{:?} does not continue the formula", parser.tokens[parser.at]));
        }
        if parser.variables.len() > MAX_VARIABLES {
            return Err(format!("it has more than {MAX_VARIABLES} variables"));
        }
        Ok(Self { variables: parser.variables, code: parser.code })
    }

    /// The truth value where bit i is the value of variable i.
    fn value(&self, bits: u32) -> bool {
        let mut stack: Vec<bool> = Vec::new();
        for step in &self.code {
            let right = match step {
                Step::Variable(i) => {
                    stack.push(bits >> i & 1 == 1);
                    continue;
                }
                _ => stack.pop().unwrap_or_default(),
            };
            if *step == Step::Not {
                stack.push(!right);
                continue;
            }
            let left = stack.pop().unwrap_or_default();
            stack.push(match step {
                Step::And => left && right,
                Step::Xor => left != right,
                Step::Or => left || right,
                Step::Implies => !left || right,
                _ => left == right,
            });
        }
        stack.pop().unwrap_or_default()
    }

    fn satisfying(&self) -> Option<u32> {
        (0..1_u32 << self.variables.len()).find(|bits| self.value(*bits))
    }

    fn check(&self, text: &str) -> Result<Checked, Cow<'static, str>> {
        static PAIR: LazyLock<Regex> = LazyLock::new(|| {
            fixed(
                r#"(?i)["']?\b([a-z][a-z0-9_]*)["']?\s*(?:=|:|\bis\b)\s*["']?(true|false|yes|no|t|f|1|0)\b["']?"#,
            )
        });
        let mut found: BTreeMap<usize, bool> = BTreeMap::new();
        let mut conflict = None;
        let mut end = 0;
        let separates = |gap: &str| {
            let gap = gap.to_lowercase();
            let word = |w: &str| w.is_empty() || w == "and";
            gap.split(|c: char| c.is_whitespace() || ",;{}()[]$`.".contains(c)).all(word)
        };
        for pair in PAIR.captures_iter(text) {
            let (Some(whole), Some(name), Some(value)) = (pair.get(0), pair.get(1), pair.get(2)) else {
                continue;
            };
            if !separates(&text[end..whole.start()]) {
                return Err("is no list of variables with true or false".into());
            }
            end = whole.end();
            let name = name.as_str().to_lowercase();
            let Some(at) = self.variables.iter().position(|v| *v == name) else {
                return Err(format!("{name} is no variable of the formula").into());
            };
            let value = matches!(value.as_str().to_lowercase().as_str(), "true" | "yes" | "t" | "1");
            if found.insert(at, value).is_some_and(|before| before != value) {
                conflict = Some(format!("{name} is both true and false"));
            }
        }
        if found.is_empty() || !separates(&text[end..]) {
            return Err("is no list of variables with true or false".into());
        }
        let pair = |(at, value): (&usize, &bool)| format!("{}={value}", self.variables[*at]);
        let prediction = found.iter().map(pair).collect::<Vec<_>>().join(", ");
        let missing = (0..self.variables.len()).find(|at| !found.contains_key(at));
        let missing = missing.map(|at| format!("{} has no value", self.variables[at]));
        let bits = found.iter().fold(0, |bits, (at, value)| bits | u32::from(*value) << at);
        let unsatisfied = || (!self.value(bits)).then(|| "the formula is false".to_owned());
        Ok(Checked { prediction, wrong: conflict.or(missing).or_else(unsatisfied).map(Cow::Owned) })
    }
}

struct Parser {
    tokens: Vec<String>,
    at: usize,
    variables: Vec<String>,
    code: Vec<Step>,
}

/// Binary operators from the loosest; `implies` is right-associative, the others are associative.
const LEVELS: [(Step, [&str; 2]); 5] = [
    (Step::Iff, ["iff", "<->"]),
    (Step::Implies, ["implies", "->"]),
    (Step::Or, ["or", "|"]),
    (Step::Xor, ["xor", "^"]),
    (Step::And, ["and", "&"]),
];

impl Parser {
    fn level(&mut self, level: usize, depth: usize) -> Result<(), String> {
        if depth > MAX_DEPTH {
            return Err("it is nested too deeply".into());
        }
        let Some((step, words)) = LEVELS.get(level) else { return self.unary(depth) };
        self.level(level + 1, depth)?;
        let mut pending = 0_usize;
        while self.tokens.get(self.at).is_some_and(|t| words.contains(&t.as_str())) {
            self.at += 1;
            self.level(level + 1, depth)?;
            if *step == Step::Implies {
                pending += 1;
            } else {
                self.code.push(*step);
            }
        }
        // Postfix of a right-associative chain: all operands, then all operators.
        self.code.extend(std::iter::repeat_n(*step, pending));
        Ok(())
    }

    fn unary(&mut self, depth: usize) -> Result<(), String> {
        let mut negations = 0_usize;
        while self.tokens.get(self.at).is_some_and(|t| ["not", "~", "!"].contains(&t.as_str())) {
            self.at += 1;
            negations += 1;
        }
        let token = self.tokens.get(self.at).cloned().ok_or("it ends too early")?;
        self.at += 1;
        let reserved = |t: &str| LEVELS.iter().any(|(_, words)| words.contains(&t)) || t == "not";
        if token == "(" {
            self.level(0, depth + 1)?;
            if self.tokens.get(self.at).map(String::as_str) != Some(")") {
                return Err("a parenthesis does not close".into());
            }
            self.at += 1;
        } else if token.starts_with(|c: char| c.is_ascii_lowercase()) && !reserved(&token) {
            let known = self.variables.iter().position(|v| *v == token);
            let at = known.unwrap_or_else(|| {
                self.variables.push(token);
                self.variables.len() - 1
            });
            self.code.push(Step::Variable(at));
        } else {
            return Err(format!("{token:?} stands where a variable is expected"));
        }
        self.code.extend(std::iter::repeat_n(Step::Not, negations % 2));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reward::score_one;
    use serde_json::json;

    #[test]
    fn formulas() {
        // Truth tables as strings, first variable in the lowest bit.
        let check = |text: &str, want: &str| {
            let formula = Formula::parse(text).unwrap();
            let table: String = (0..1 << formula.variables.len())
                .map(|bits| if formula.value(bits) { '1' } else { '0' })
                .collect();
            assert_eq!(table, want, "{text}");
        };
        check("a", "01");
        check("not not not a", "10");
        check("a and b", "0001");
        check("a or b and not a", "0111");
        check("a implies b", "1011");
        check("a -> b -> a", "1111");
        check("(a -> b) -> a", "0101");
        check("a xor b <-> a ^ b", "1111");
        check("a | b & c", "01010111");
        check("~(a | b)", "1000");
        for (text, want) in [
            ("", "ends too early"),
            ("a and", "ends too early"),
            ("a b", "does not continue"),
            ("(a", "does not close"),
            ("a + b", "no part"),
            ("and", "expected"),
        ] {
            let error = Formula::parse(text).map(|_| ()).unwrap_err();
            assert!(error.contains(want), "{text}: {error}");
        }
        assert!(Formula::parse(&"(".repeat(400)).is_err());
        assert!(Formula::parse(&"a and ".repeat(400)).is_err());
    }

    #[test]
    fn assignments() {
        let reward = Logic::new(LogicConfig::default());
        let task = Task::new("t", json!({"formula": "(a or b) and not c"}));
        let check = |text: &str, want| {
            let outcome = score_one(&reward, &task, Response::new(text));
            assert_eq!(outcome.verdict, want, "{text:?}: {}", outcome.reason);
        };
        check(&reward.gold(&task).unwrap(), Verdict::Correct);
        check("a=true, b=false, c=false", Verdict::Correct);
        check("<answer>a: T; b: F; c: F</answer>", Verdict::Correct);
        check("The answer is a = 0, b = 1 and c = 0.", Verdict::Correct);
        check("<answer>{\"a\": true, \"b\": true, \"c\": false}</answer>", Verdict::Correct);
        check("<answer>a=false, b=false, c=false</answer>", Verdict::Incorrect);
        check("<answer>a=true, b=true</answer>", Verdict::Incorrect);
        check("<answer>a=true, a=false, b=true, c=false</answer>", Verdict::Incorrect);
        check("<answer>a=true, b=true, c=false, d=true</answer>", Verdict::Incorrect);
        check("<answer>a=true or a=false, b=true, c=false</answer>", Verdict::Incorrect);
        check("<answer>maybe a=true, b=true, c=false</answer>", Verdict::Ambiguous);
        check("whatever", Verdict::NoAnswer);
        check("", Verdict::NoAnswer);
    }

    #[test]
    fn truth_values_and_references() {
        let reward = Logic::new(LogicConfig::default());
        let task = Task::new("t", json!({"formula": "a", "answer": "no"}));
        let check = |text: &str, want| {
            assert_eq!(score_one(&reward, &task, Response::new(text)).verdict, want, "{text:?}");
        };
        check("no", Verdict::Correct);
        check("<answer>False</answer>", Verdict::Correct);
        check("The answer is no.", Verdict::Correct);
        check("<answer>yes</answer>", Verdict::Incorrect);
        check("<answer>yes or no</answer>", Verdict::Incorrect);
        check("<answer>yes</answer><answer>no</answer>", Verdict::Ambiguous);
        check("who knows", Verdict::NoAnswer);
        let error = |reference| reward.check_task(&Task::new("t", reference)).unwrap_err().to_string();
        assert!(error(json!({})).contains("reference.formula"));
        assert!(error(json!({"formula": "a and not a"})).contains("no assignment"));
        assert!(error(json!({"formula": "a and ("})).contains("ends too early"));
        assert!(error(json!({"answer": "maybe"})).contains("no truth value"));
    }
}

//! Propositional formulas to be evaluated or satisfied.

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Dice, Draw, Generator, check_between, generator};
use crate::checks::Checks;

generator! {
    /// Propositional logic: whether a formula is true under an assignment (yes and no equally often), or an assignment
    /// that makes it true, of which there may be several. The work evaluates it from the inside.
    "logic" => LogicConfig judged by "logic" {
        /// `evaluate` or `satisfy`. Default `evaluate`.
        question: LogicQuestion = LogicQuestion::Evaluate,
        /// Number of variables to draw from, 1 to 6. Default 3.
        variables: u64 = 3,
        /// Nesting of the formula, 1 to 6. Default 2.
        depth: u64 = 2,
    }
    prompt "{% if assignment %}Is this true when {{ assignment }}? {{ formula }}\nAnswer yes or no.{% else %}Give each variable a truth value so that this is true: {{ formula }}{% endif %}"
}

/// What is asked about a formula.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogicQuestion {
    /// Whether it is true under a given assignment.
    Evaluate,
    /// An assignment that makes it true.
    Satisfy,
}

impl Generator for LogicConfig {
    fn check_difficulty(&self, at: &str, checks: &mut Checks) {
        check_between(at, "variables", self.variables, [1, 6], checks);
        check_between(at, "depth", self.depth, [1, 6], checks);
    }

    fn draw(&self, dice: &mut Dice) -> Option<Draw> {
        let formula = Formula::draw(dice, self.variables, self.depth);
        let mut used = Vec::new();
        formula.variables(&mut used);
        used.sort_unstable();
        used.dedup();
        let assignments = 1_u64 << used.len();
        let wanted = self.question == LogicQuestion::Satisfy || dice.coin();
        let start = dice.between(0, assignments - 1);
        // Bit i is the value of the i-th variable that occurs.
        let is_true =
            |bits: u64, name: char| used.iter().position(|u| *u == name).is_some_and(|i| bits >> i & 1 == 1);
        let bits = (0..assignments)
            .map(|i| (start + i) % assignments)
            .find(|bits| formula.value(&|name| is_true(*bits, name), &mut Vec::new()) == wanted)?;
        let mut work = Vec::new();
        formula.value(&|name| is_true(bits, name), &mut work);
        let text = formula.text();
        let text = text.strip_prefix('(').and_then(|t| t.strip_suffix(')')).unwrap_or(&text).to_owned();
        let pairs: Vec<String> = used.iter().map(|u| format!("{u}={}", is_true(bits, *u))).collect();
        let pairs = pairs.join(", ");
        let work = if work.is_empty() { pairs.clone() } else { work.join(",") };
        Some(match self.question {
            LogicQuestion::Evaluate => {
                let answer = if wanted { "yes" } else { "no" };
                let fields = json!({ "formula": text, "assignment": pairs });
                let reference = json!({ "formula": text, "answer": answer });
                Draw::new(format!("{text}: {pairs}"), fields, reference, work, answer.to_owned())
            }
            LogicQuestion::Satisfy => {
                let fields = json!({ "formula": text, "assignment": "" });
                Draw::new(text.clone(), fields, json!({ "formula": text }), work, pairs)
            }
        })
    }
}

enum Formula {
    Variable(char),
    Not(Box<Formula>),
    Both(&'static str, Box<Formula>, Box<Formula>),
}

impl Formula {
    fn draw(dice: &mut Dice, variables: u64, depth: u64) -> Self {
        if depth == 0 {
            return Self::Variable(char::from(b'a' + dice.between(0, variables - 1) as u8));
        }
        // One side has the full depth, the other any.
        let full = Box::new(Self::draw(dice, variables, depth - 1));
        let operator = *dice.pick(&["and", "or", "xor", "implies", "not"]);
        if operator == "not" {
            return Self::Not(full);
        }
        let shallow = dice.between(0, depth - 1);
        let other = Box::new(Self::draw(dice, variables, shallow));
        let (left, right) = if dice.coin() { (full, other) } else { (other, full) };
        Self::Both(operator, left, right)
    }

    /// A pair is always in parentheses.
    fn text(&self) -> String {
        match self {
            Self::Variable(name) => name.to_string(),
            Self::Not(inner) => format!("not {}", inner.text()),
            Self::Both(operator, left, right) => format!("({} {operator} {})", left.text(), right.text()),
        }
    }

    fn variables(&self, found: &mut Vec<char>) {
        match self {
            Self::Variable(name) => found.push(*name),
            Self::Not(inner) => inner.variables(found),
            Self::Both(_, left, right) => {
                left.variables(found);
                right.variables(found);
            }
        }
    }

    /// The truth value; notes that of every part that is no variable.
    fn value(&self, is_true: &dyn Fn(char) -> bool, work: &mut Vec<String>) -> bool {
        let value = match self {
            Self::Variable(name) => return is_true(*name),
            Self::Not(inner) => !inner.value(is_true, work),
            Self::Both(operator, left, right) => {
                let (left, right) = (left.value(is_true, work), right.value(is_true, work));
                match *operator {
                    "and" => left && right,
                    "or" => left || right,
                    "xor" => left != right,
                    _ => !left || right,
                }
            }
        };
        work.push(format!("{}={value}", self.text()));
        value
    }
}

//! `countdown`: an expression over given numbers that equals a target.
//!
//! Grammar: `expr := term (('+' | '-') term)*`, `term := unary (('*' | '/') unary)*`, `unary := '-'? atom`,
//! `atom := whole number | '(' expr ')' | \frac{expr}{expr}`. Arithmetic is exact over the rationals; nothing is
//! evaluated by anything but this parser. Powers, roots, factorials, decimals and digits glued together are refused.

use std::borrow::Cow;

use num_rational::BigRational;
use num_traits::Zero;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Checked, judge};
use crate::answer::extract::{MultiAnswer, Think};
use crate::reward::{Outcome, Reward, RewardError, TaskError, Verdict};
use crate::task::{Response, Task};

/// Tokens of an expression; more is no answer. With [`MAX_DIGITS`] this bounds the size of every value.
const MAX_TOKENS: usize = 256;
/// Open parentheses and signs.
const MAX_DEPTH: usize = 64;
/// Digits of one number.
const MAX_DIGITS: usize = 18;
/// Numbers of a puzzle.
const MAX_NUMBERS: usize = 64;
/// Numbers for which [`Countdown::gold`] looks for a solution.
const GOLD_NUMBERS: usize = 6;
/// Combinations that this search tries.
const GOLD_STEPS: u32 = 2_000_000;

/// Settings of the `countdown` reward.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CountdownConfig {
    /// How often each given number may stand in the expression. Default `exactly_once`.
    pub use_numbers: UseNumbers,
    /// Several different explicit answers. Default `last`.
    pub multi_answer: MultiAnswer,
    /// Think tags. Default `strip`.
    pub think: Think,
}

/// How often each given number may stand in the expression; a number given twice counts twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UseNumbers {
    /// Every number, once.
    #[default]
    ExactlyOnce,
    /// No number more than once.
    AtMostOnce,
}

/// The `countdown` reward: `reference.numbers` are whole numbers, `reference.target` is one; `reference.solution`, an
/// expression, may be given for self-checks.
pub struct Countdown {
    config: CountdownConfig,
}

impl Countdown {
    /// The reward with these settings.
    pub fn new(config: CountdownConfig) -> Self {
        Self { config }
    }

    fn check(&self, puzzle: &Puzzle, text: &str) -> Result<Checked, Cow<'static, str>> {
        let tokens = tokens(text)?;
        let (left, right) = match tokens.iter().position(|t| *t == Token::Equals) {
            Some(at) => (&tokens[..at], Some(&tokens[at + 1..])),
            None => (&tokens[..], None),
        };
        let mut parser = Parser { tokens: left, at: 0, used: Vec::new() };
        let value = parser.whole()?;
        let prediction = value.as_ref().map_or_else(|| "undefined".into(), ToString::to_string);
        let wrong = |why: String| Ok(Checked { prediction: prediction.clone(), wrong: Some(why.into()) });
        let Some(value) = &value else { return wrong("division by zero".into()) };
        // `expression = number` states the result; it must be the expression's.
        if let Some(right) = right {
            let stated = Parser { tokens: right, at: 0, used: Vec::new() }.whole()?;
            if right.len() > 2 || stated.as_ref() != Some(value) {
                return wrong(format!("the expression is {value}, not what stands behind the equals sign"));
            }
        }
        let (mut used, mut given) = (parser.used, puzzle.numbers.clone());
        if self.config.use_numbers == UseNumbers::ExactlyOnce {
            used.sort_unstable();
            given.sort_unstable();
            if used != given {
                return wrong("does not use every given number exactly once".into());
            }
        } else {
            for number in used {
                match given.iter().position(|g| *g == number) {
                    Some(at) => given.swap_remove(at),
                    None => return wrong(format!("{number} is not given, or used more often than given")),
                };
            }
        }
        if *value != BigRational::from_integer(puzzle.target.into()) {
            return wrong(format!("is {value} and not {}", puzzle.target));
        }
        Ok(Checked { prediction, wrong: None })
    }
}

impl Reward for Countdown {
    fn name(&self) -> &str {
        "countdown"
    }

    fn score(&self, task: &Task, response: Response<'_>) -> Result<Outcome, RewardError> {
        let puzzle = match Puzzle::of(task) {
            Ok(puzzle) => puzzle,
            Err(error) => return Ok(Outcome::of(Verdict::Unverifiable, "countdown", error.to_string())),
        };
        let CountdownConfig { multi_answer, think, .. } = self.config;
        let outcome = judge("countdown", response, multi_answer, think, |text| self.check(&puzzle, text));
        Ok(outcome.with_gold(puzzle.target.to_string()))
    }

    /// `reference.solution` where there is one; otherwise a bounded search, for up to six numbers.
    fn gold(&self, task: &Task) -> Option<String> {
        let puzzle = Puzzle::of(task).ok()?;
        if let Some(solution) = task.reference.get("solution").and_then(Value::as_str) {
            return Some(format!("<answer>{solution}</answer>"));
        }
        if puzzle.numbers.len() > GOLD_NUMBERS {
            return None;
        }
        let target = i128::from(puzzle.target);
        let items = |numbers: &[u64]| numbers.iter().map(|n| (i128::from(*n), 1, n.to_string())).collect();
        let mut steps = 0;
        if let Some(found) = solve(items(&puzzle.numbers), target, &mut steps) {
            return Some(format!("<answer>{found}</answer>"));
        }
        if self.config.use_numbers == UseNumbers::ExactlyOnce {
            return None;
        }
        // Fewer numbers: every subset.
        let n = puzzle.numbers.len();
        (1..1_usize << n).find_map(|set| {
            let subset: Vec<u64> = (0..n).filter(|i| set >> i & 1 == 1).map(|i| puzzle.numbers[i]).collect();
            solve(items(&subset), target, &mut steps).map(|found| format!("<answer>{found}</answer>"))
        })
    }

    fn check_task(&self, task: &Task) -> Result<(), TaskError> {
        Puzzle::of(task).map(|_| ())
    }
}

struct Puzzle {
    numbers: Vec<u64>,
    target: i64,
}

impl Puzzle {
    fn of(task: &Task) -> Result<Self, TaskError> {
        let missing = |field| TaskError::MissingField { reward: "countdown".into(), field };
        let bad = |gold: &Value, reason: &str| TaskError::BadGold {
            reward: "countdown".into(),
            gold: gold.to_string(),
            reason: reason.into(),
        };
        let given = task.reference.get("numbers").ok_or_else(|| missing("numbers"))?;
        let target = task.reference.get("target").ok_or_else(|| missing("target"))?;
        let numbers: Option<Vec<u64>> = given.as_array().and_then(|l| l.iter().map(Value::as_u64).collect());
        let numbers = numbers
            .filter(|l| {
                (1..=MAX_NUMBERS).contains(&l.len()) && l.iter().all(|n| *n < 10_u64.pow(MAX_DIGITS as u32))
            })
            .ok_or_else(|| bad(given, "numbers must be a list of 1 to 64 whole numbers below 10^18"))?;
        let target = target.as_i64().ok_or_else(|| bad(target, "target must be a whole number"))?;
        Ok(Self { numbers, target })
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Number(u64),
    Plus,
    Minus,
    Times,
    Over,
    Open,
    Close,
    Frac,
    Equals,
}

fn tokens(text: &str) -> Result<Vec<Token>, Cow<'static, str>> {
    // Full-width signs are the same signs.
    let plain = |c: char| match c {
        '\u{ff01}'..='\u{ff5e}' => char::from_u32(c as u32 - 0xfee0).unwrap_or(c),
        c => c,
    };
    let text: String = text.chars().map(plain).collect();
    let mut found = Vec::new();
    let mut rest = text.trim().trim_end_matches('.');
    while let Some(c) = rest.chars().next() {
        if found.len() == MAX_TOKENS {
            return Err("the expression is too long".into());
        }
        if let Some(command) = rest.strip_prefix('\\') {
            const COMMANDS: [(&str, Option<Token>); 14] = [
                ("times", Some(Token::Times)),
                ("cdot", Some(Token::Times)),
                ("div", Some(Token::Over)),
                ("dfrac", Some(Token::Frac)),
                ("tfrac", Some(Token::Frac)),
                ("frac", Some(Token::Frac)),
                ("left", None),
                ("right", None),
                ("(", None),
                (")", None),
                ("[", None),
                ("]", None),
                (",", None),
                (" ", None),
            ];
            let Some((name, token)) = COMMANDS.iter().find(|(name, _)| command.starts_with(name)) else {
                return Err("a LaTeX command that is no operation".into());
            };
            found.extend(token.clone());
            rest = &command[name.len()..];
            continue;
        }
        if c.is_ascii_digit() {
            let len = rest.bytes().take_while(u8::is_ascii_digit).count();
            let number = rest[..len].parse().ok().filter(|_| len <= MAX_DIGITS);
            found.push(Token::Number(number.ok_or("a number has too many digits")?));
            rest = &rest[len..];
            continue;
        }
        let token = match c {
            '+' => Some(Token::Plus),
            '-' | '−' | '–' => Some(Token::Minus),
            '*' | '×' | '·' | '⋅' | '∗' => Some(Token::Times),
            '/' | '÷' => Some(Token::Over),
            '(' | '[' | '{' => Some(Token::Open),
            ')' | ']' | '}' => Some(Token::Close),
            '=' => Some(Token::Equals),
            '$' | '`' => None,
            c if c.is_whitespace() => None,
            _ => return Err("not an expression of numbers, + - * / and parentheses".into()),
        };
        found.extend(token);
        rest = &rest[c.len_utf8()..];
    }
    Ok(found)
}

/// A value, or none after a division by zero; and the numbers that were read.
struct Parser<'a> {
    tokens: &'a [Token],
    at: usize,
    used: Vec<u64>,
}

type Parsed = Result<Option<BigRational>, Cow<'static, str>>;

impl Parser<'_> {
    fn whole(&mut self) -> Parsed {
        let value = self.sum(0)?;
        if self.at < self.tokens.len() {
            return Err("not one expression".into());
        }
        Ok(value)
    }

    fn take(&mut self, token: &Token) -> bool {
        let hit = self.tokens.get(self.at) == Some(token);
        self.at += usize::from(hit);
        hit
    }

    fn sum(&mut self, depth: usize) -> Parsed {
        let mut value = self.product(depth)?;
        loop {
            let minus = if self.take(&Token::Plus) {
                false
            } else if self.take(&Token::Minus) {
                true
            } else {
                return Ok(value);
            };
            let right = self.product(depth)?;
            value = value.zip(right).map(|(a, b)| if minus { a - b } else { a + b });
        }
    }

    fn product(&mut self, depth: usize) -> Parsed {
        let mut value = self.unary(depth)?;
        loop {
            if self.take(&Token::Times) {
                value = value.zip(self.unary(depth)?).map(|(a, b)| a * b);
            } else if self.take(&Token::Over) {
                value = divide(value, self.unary(depth)?);
            } else {
                return Ok(value);
            }
        }
    }

    fn unary(&mut self, depth: usize) -> Parsed {
        if depth > MAX_DEPTH {
            return Err("too many nested parentheses".into());
        }
        if self.take(&Token::Minus) {
            return Ok(self.atom(depth)?.map(|v| -v));
        }
        self.atom(depth)
    }

    fn atom(&mut self, depth: usize) -> Parsed {
        match self.tokens.get(self.at) {
            Some(Token::Number(number)) => {
                self.at += 1;
                self.used.push(*number);
                Ok(Some(BigRational::from_integer((*number).into())))
            }
            Some(Token::Open) => self.group(depth),
            Some(Token::Frac) => {
                self.at += 1;
                let above = self.group(depth)?;
                Ok(divide(above, self.group(depth)?))
            }
            _ => Err("not an expression of numbers, + - * / and parentheses".into()),
        }
    }

    fn group(&mut self, depth: usize) -> Parsed {
        if !self.take(&Token::Open) {
            return Err("a group is missing".into());
        }
        let value = self.sum(depth + 1)?;
        if !self.take(&Token::Close) {
            return Err("a parenthesis does not close".into());
        }
        Ok(value)
    }
}

fn divide(a: Option<BigRational>, b: Option<BigRational>) -> Option<BigRational> {
    a.zip(b).filter(|(_, b)| !b.is_zero()).map(|(a, b)| a / b)
}

/// A value as a fraction with the expression that made it.
type Item = (i128, i128, String);

/// An expression over all items that equals `target`, by trying all pairs.
fn solve(items: Vec<Item>, target: i128, steps: &mut u32) -> Option<String> {
    if let [(above, below, text)] = &items[..] {
        return (*below != 0 && *above == target.checked_mul(*below)?).then(|| {
            let inner = text.strip_prefix('(').and_then(|t| t.strip_suffix(')'));
            inner.filter(|_| items.len() == 1).map_or_else(|| text.clone(), str::to_owned)
        });
    }
    for i in 0..items.len() {
        for j in 0..items.len() {
            if i == j {
                continue;
            }
            let ((a, b, left), (c, d, right)) = (&items[i], &items[j]);
            for operator in ['+', '-', '*', '/'] {
                *steps += 1;
                if *steps > GOLD_STEPS {
                    return None;
                }
                if matches!(operator, '+' | '*') && i > j || operator == '/' && *c == 0 {
                    continue;
                }
                let value = (|| match operator {
                    '+' => Some((a.checked_mul(*d)?.checked_add(c.checked_mul(*b)?)?, b.checked_mul(*d)?)),
                    '-' => Some((a.checked_mul(*d)?.checked_sub(c.checked_mul(*b)?)?, b.checked_mul(*d)?)),
                    '*' => Some((a.checked_mul(*c)?, b.checked_mul(*d)?)),
                    _ => Some((a.checked_mul(*d)?, b.checked_mul(*c)?)),
                })();
                let Some((above, below)) = value else { continue };
                let mut left_over: Vec<Item> = (items.iter().enumerate())
                    .filter(|(k, _)| *k != i && *k != j)
                    .map(|(_, item)| item.clone())
                    .collect();
                left_over.push((above, below, format!("({left}{operator}{right})")));
                if let Some(found) = solve(left_over, target, steps) {
                    return Some(found);
                }
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reward::score_one;
    use serde_json::json;

    fn check(use_numbers: UseNumbers, text: &str, want: Verdict) {
        let reward = Countdown::new(CountdownConfig { use_numbers, ..CountdownConfig::default() });
        let task = Task::new("t", json!({"numbers": [2, 3, 3, 10], "target": 24}));
        let outcome = score_one(&reward, &task, Response::new(text));
        assert_eq!(outcome.verdict, want, "{text:?}: {}", outcome.reason);
    }

    #[test]
    fn expressions() {
        use Verdict::{Ambiguous, Correct, Incorrect, NoAnswer};
        let once = |text: &str, want| check(UseNumbers::ExactlyOnce, text, want);
        once("10*2+3/3+3", Incorrect);
        once("3*10-3*2", Correct);
        once("<answer>3*10-3*2</answer>", Correct);
        once("<think>10+10</think><answer>(3 × 10) − (3 · 2) = 24</answer>", Correct);
        once("So \\boxed{3\\times 10-\\left(3\\cdot 2\\right)}.", Correct);
        once("\\boxed{3\\times 10-\\frac{3}{3}}", Incorrect);
        once("The answer is 3*10 - 3*2.", Correct);
        once("<answer>3*10-3*2=25</answer>", Incorrect);
        once("<answer>3*10-3*2=3*10-6</answer>", Incorrect);
        once("<answer>24</answer>", Incorrect);
        once("<answer>3*10-6</answer>", Incorrect);
        once("<answer>(3*10-3*2</answer>", Incorrect);
        once("<answer>3*10-3*2 or 24</answer>", Incorrect);
        once("<answer>2^3*3+10-10</answer>", Incorrect);
        once("<answer>3*10-3*2/(3-3)</answer>", Incorrect);
        once("<answer>maybe 3*10-3*2</answer>", Ambiguous);
        once("<answer>__import__('os')</answer>", Incorrect);
        once("<answer>3*10-3*2", NoAnswer);
        once("<think>3*10-3*2</think>", NoAnswer);
        once("I would take 3*10-3*2 here, I think, and be done", NoAnswer);
        once("24!", NoAnswer);
        once("", NoAnswer);
        once(&"(".repeat(4000), NoAnswer);
        once(&format!("<answer>{}3*10-3*2{}</answer>", "(".repeat(50), ")".repeat(50)), Correct);
        once(&format!("<answer>{}1{}</answer>", "-(".repeat(120), ")".repeat(120)), Incorrect);
        let some = |text: &str, want| check(UseNumbers::AtMostOnce, text, want);
        some("3*10-3*2", Correct);
        some("3*(10-2)", Correct);
        some("(10+2)*2", Incorrect);
        some("24", Incorrect);
        once("3*(10-2)", Incorrect);
    }

    #[test]
    fn rationals_are_exact() {
        let reward = Countdown::new(CountdownConfig::default());
        let task = Task::new("t", json!({"numbers": [8, 3, 8, 3], "target": 24}));
        let verdict = |text| score_one(&reward, &task, Response::new(text)).verdict;
        assert_eq!(verdict("8/(3-8/3)"), Verdict::Correct);
        assert_eq!(verdict(&reward.gold(&task).unwrap()), Verdict::Correct);
    }

    #[test]
    fn references() {
        let reward = Countdown::new(CountdownConfig::default());
        let check = |reference: Value, want: &str| {
            let error = reward.check_task(&Task::new("t", reference)).unwrap_err().to_string();
            assert!(error.contains(want), "{error}");
        };
        check(json!({"numbers": [1]}), "reference.target");
        check(json!({"target": 1}), "reference.numbers");
        check(json!({"numbers": [], "target": 1}), "1 to 64");
        check(json!({"numbers": [1.5], "target": 1}), "whole");
        check(json!({"numbers": [1], "target": "1"}), "target must be");
        let given = json!({"numbers": [1, 1, 1, 1, 1, 1, 1], "target": 7, "solution": "1+1+1+1+1+1+1"});
        assert_eq!(reward.gold(&Task::new("t", given)).as_deref(), Some("<answer>1+1+1+1+1+1+1</answer>"));
        let none = Task::new("t", json!({"numbers": [1, 1], "target": 50}));
        assert_eq!(reward.gold(&none), None);
    }
}

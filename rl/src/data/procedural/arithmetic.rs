//! Arithmetic with several operands, precedence and parentheses.

use serde_json::json;

use super::{Dice, Draw, Generator, check_between, check_range, generator};
use crate::checks::Checks;

generator! {
    /// Arithmetic with several operands: precedence, optional parentheses, exact division. The work is one operation a
    /// step, in the order of precedence.
    "arithmetic" => ArithmeticConfig judged by "numeric" {
        /// Fewest operands, at least 2. Default 3.
        min_operands: u32 = 3,
        /// Most operands, at most 12. Default 4.
        max_operands: u32 = 4,
        /// Largest operand, 1 to 1000000. Default 20.
        max_number: u64 = 20,
        /// Operators to draw from, some of `+-*/`. Default `+-*`.
        operators: String = "+-*".to_owned(),
        /// Whether two neighbours stand in parentheses. Default false.
        parentheses: bool = false,
    }
    prompt "{{ expression }}="
}

impl Generator for ArithmeticConfig {
    fn check_difficulty(&self, at: &str, checks: &mut Checks) {
        let operands = [self.min_operands.into(), self.max_operands.into()];
        check_range(at, ["min_operands", "max_operands"], operands, [2, 12], checks);
        check_between(at, "max_number", self.max_number, [1, 1_000_000], checks);
        checks.require(
            !self.operators.is_empty() && self.operators.chars().all(|c| "+-*/".contains(c)),
            format!("{at}.operators"),
            format!("is {:?} and must be some of +-*/", self.operators),
        );
        checks.require(
            !self.parentheses || self.max_operands >= 3,
            format!("{at}.parentheses"),
            "needs max_operands of 3 or more",
        );
    }

    fn draw(&self, dice: &mut Dice) -> Option<Draw> {
        let count = dice.between(self.min_operands.into(), self.max_operands.into()) as usize;
        let operators: Vec<char> = self.operators.chars().collect();
        let mut numbers: Vec<i64> = (0..count).map(|_| dice.between(1, self.max_number) as i64).collect();
        let mut between: Vec<char> = (1..count).map(|_| *dice.pick(&operators)).collect();
        let group = (self.parentheses && count > 2).then(|| dice.index(count - 1));
        let expression = write(&numbers, &between, group);
        let mut work = Vec::new();
        if let Some(at) = group {
            reduce(&mut numbers, &mut between, at, &mut work)?;
        }
        for level in ["*/", "+-"] {
            while let Some(at) = between.iter().position(|o| level.contains(*o)) {
                reduce(&mut numbers, &mut between, at, &mut work)?;
            }
        }
        let value = numbers[0];
        let fields = json!({ "expression": expression });
        Some(Draw::new(expression, fields, json!({ "answer": value }), work.join(","), value.to_string()))
    }
}

fn write(numbers: &[i64], operators: &[char], group: Option<usize>) -> String {
    let mut text = String::new();
    for (i, number) in numbers.iter().enumerate() {
        if i > 0 {
            text.push(operators[i - 1]);
        }
        if group == Some(i) {
            text.push('(');
        }
        text.push_str(&number.to_string());
        if i > 0 && group == Some(i - 1) {
            text.push(')');
        }
    }
    text
}

/// Carries out the operation at `at`; none where it overflows or does not divide.
fn reduce(
    numbers: &mut Vec<i64>,
    operators: &mut Vec<char>,
    at: usize,
    work: &mut Vec<String>,
) -> Option<()> {
    let (x, y) = (numbers[at], numbers.remove(at + 1));
    let operator = operators.remove(at);
    let value = match operator {
        '+' => x.checked_add(y)?,
        '-' => x.checked_sub(y)?,
        '*' => x.checked_mul(y)?,
        _ if y != 0 && x % y == 0 => x / y,
        _ => return None,
    };
    work.push(format!("{x}{operator}{y}={value}"));
    numbers[at] = value;
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn precedence_and_parentheses() {
        let check = |numbers: &[i64], operators: &str, group, text: &str, want: Option<i64>| {
            let (mut numbers, mut operators) = (numbers.to_vec(), operators.chars().collect::<Vec<_>>());
            assert_eq!(write(&numbers, &operators, group), text);
            let mut work = Vec::new();
            let mut steps = || {
                if let Some(at) = group {
                    reduce(&mut numbers, &mut operators, at, &mut work)?;
                }
                for level in ["*/", "+-"] {
                    while let Some(at) = operators.iter().position(|o| level.contains(*o)) {
                        reduce(&mut numbers, &mut operators, at, &mut work)?;
                    }
                }
                Some(numbers[0])
            };
            assert_eq!(steps(), want, "{text}");
        };
        check(&[2, 3, 4], "+*", None, "2+3*4", Some(14));
        check(&[2, 3, 4], "+*", Some(0), "(2+3)*4", Some(20));
        check(&[9, 3, 4], "-+", None, "9-3+4", Some(10));
        check(&[9, 3, 4], "-+", Some(1), "9-(3+4)", Some(2));
        check(&[7, 2], "/", None, "7/2", None);
        check(&[8, 4, 2], "/*", None, "8/4*2", Some(4));
    }
}

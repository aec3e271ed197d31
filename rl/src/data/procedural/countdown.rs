//! Countdown puzzles: reach a target with given numbers and the four operations.

use serde_json::json;

use super::{Dice, Draw, Generator, check_between, generator};
use crate::checks::Checks;

generator! {
    /// Search over arithmetic expressions: reach a target with given numbers and `+ - * /`. Several answers are right,
    /// so the reward checks the expression. Every puzzle has a solution that uses all numbers.
    "countdown" => CountdownConfig judged by "countdown" {
        /// How many numbers a puzzle gives, 2 to 6. Default 3.
        numbers: usize = 3,
        /// Largest given number. Default 20.
        max_number: u64 = 20,
        /// Largest target. Default 100.
        max_target: u64 = 100,
    }
    prompt "{{ numbers | join(' ') }} -> {{ target }}:"
}

impl Generator for CountdownConfig {
    fn check_difficulty(&self, at: &str, checks: &mut Checks) {
        check_between(at, "numbers", self.numbers as u64, [2, 6], checks);
        check_between(at, "max_number", self.max_number, [2, 1_000_000], checks);
        check_between(at, "max_target", self.max_target, [2, 1_000_000_000_000], checks);
    }

    /// Draws numbers and combines two of them at random until one is left; none when that is no good target.
    fn draw(&self, dice: &mut Dice) -> Option<Draw> {
        let numbers: Vec<u64> = (0..self.numbers).map(|_| dice.between(1, self.max_number)).collect();
        let mut items: Vec<(u64, String)> = numbers.iter().map(|n| (*n, n.to_string())).collect();
        let mut work = Vec::new();
        while items.len() > 1 {
            let (x, left) = items.swap_remove(dice.index(items.len()));
            let (y, right) = items.swap_remove(dice.index(items.len()));
            let (operator, value) = match dice.between(0, 3) {
                0 => ('+', x.checked_add(y)?),
                1 if x > y => ('-', x - y),
                2 => ('*', x.checked_mul(y)?),
                3 if y > 1 && x % y == 0 => ('/', x / y),
                _ => return None,
            };
            work.push(format!("{x}{operator}{y}={value}"));
            items.push((value, format!("({left}{operator}{right})")));
        }
        let (target, expression) = items.pop()?;
        let answer = expression.strip_prefix('(')?.strip_suffix(')')?.to_owned();
        if target > self.max_target || numbers.contains(&target) {
            return None;
        }
        let mut sorted = numbers.clone();
        sorted.sort_unstable();
        let names: Vec<String> = sorted.iter().map(u64::to_string).collect();
        let id = format!("{}-{target}", names.join("-"));
        let fields = json!({ "numbers": numbers, "target": target });
        let reference = json!({ "numbers": numbers, "target": target, "solution": answer });
        Some(Draw::new(id, fields, reference, work.join(","), answer))
    }
}

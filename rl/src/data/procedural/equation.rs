//! Linear equations in one variable.

use serde_json::json;

use super::{Dice, Draw, Generator, check_between, generator};
use crate::checks::Checks;

generator! {
    /// Linear equations in x with a whole solution, such as `3x+4=19`; the work collects the terms, then divides.
    "equation" => EquationConfig judged by "numeric" {
        /// Largest coefficient of x, 2 to 1000. Default 9.
        max_coefficient: u64 = 9,
        /// Largest constant on the left, 1 to 1000000. Default 20.
        max_constant: u64 = 20,
        /// Largest solution, 1 to 1000000. Default 20.
        max_solution: u64 = 20,
        /// Whether constants and solutions may be negative. Default false.
        negative: bool = false,
        /// Whether x stands on both sides. Default false.
        both_sides: bool = false,
    }
    prompt "Solve for x: {{ equation }}"
}

impl Generator for EquationConfig {
    fn check_difficulty(&self, at: &str, checks: &mut Checks) {
        check_between(at, "max_coefficient", self.max_coefficient, [2, 1000], checks);
        check_between(at, "max_constant", self.max_constant, [1, 1_000_000], checks);
        check_between(at, "max_solution", self.max_solution, [1, 1_000_000], checks);
    }

    fn draw(&self, dice: &mut Dice) -> Option<Draw> {
        let mut signed = |low: u64, high: u64| {
            let size = dice.between(low, high) as i64;
            if self.negative && dice.coin() { -size } else { size }
        };
        let (x, b) = (signed(1, self.max_solution), signed(1, self.max_constant));
        let a = dice.between(2, self.max_coefficient) as i64;
        let d = if self.both_sides { dice.between(1, self.max_coefficient) as i64 } else { 0 };
        if a == d {
            return None;
        }
        // a x + b = d x + c
        let c = (a - d) * x + b;
        let right = match (d, c) {
            (0, _) => c.to_string(),
            (_, 0) => term(d),
            _ => format!("{}{c:+}", term(d)),
        };
        let equation = format!("{}{b:+}={right}", term(a));
        let mut work = Vec::new();
        if d != 0 {
            work.push(format!("{a}-{d}={}", a - d));
        }
        let minus_b = if b < 0 { format!("+{}", -b) } else { format!("-{b}") };
        work.push(format!("{c}{minus_b}={}", c - b));
        work.push(format!("x={}/{}={x}", c - b, a - d));
        let fields = json!({ "equation": equation });
        Some(Draw::new(equation, fields, json!({ "answer": x }), work.join(","), x.to_string()))
    }
}

fn term(coefficient: i64) -> String {
    if coefficient == 1 { "x".to_owned() } else { format!("{coefficient}x") }
}

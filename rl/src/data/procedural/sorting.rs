//! Lists of numbers to be put in order.

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Dice, Draw, Generator, check_between, check_range, generator};
use crate::checks::Checks;
use crate::random;

generator! {
    /// Lists of numbers to be put in order; the work takes the next number out of the rest, step by step. All orders of
    /// the same numbers fall on the same side of the split.
    "sorting" => SortingConfig judged by "exact" {
        /// Fewest numbers, at least 2. Default 3.
        min_length: usize = 3,
        /// Most numbers, at most 32. Default 6.
        max_length: usize = 6,
        /// Largest number, 1 to 1000000. Default 99.
        max_number: u64 = 99,
        /// `ascending` or `descending`. Default `ascending`.
        order: SortOrder = SortOrder::Ascending,
    }
    prompt "Sort in {{ order }} order: {{ numbers | join(' ') }}"
}

/// Which number comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SortOrder {
    /// The smallest.
    Ascending,
    /// The largest.
    Descending,
}

impl Generator for SortingConfig {
    fn check_difficulty(&self, at: &str, checks: &mut Checks) {
        let lengths = [self.min_length as u64, self.max_length as u64];
        check_range(at, ["min_length", "max_length"], lengths, [2, 32], checks);
        check_between(at, "max_number", self.max_number, [1, 1_000_000], checks);
    }

    fn draw(&self, dice: &mut Dice) -> Option<Draw> {
        let length = dice.between(self.min_length as u64, self.max_length as u64);
        let numbers: Vec<u64> = (0..length).map(|_| dice.between(0, self.max_number)).collect();
        let mut sorted = numbers.clone();
        sorted.sort_unstable();
        let side = random::word(&sorted);
        let (order, next) = match self.order {
            SortOrder::Ascending => ("ascending", "smallest"),
            SortOrder::Descending => ("descending", "largest"),
        };
        if self.order == SortOrder::Descending {
            sorted.reverse();
        }
        let mut rest = numbers.clone();
        let mut work = Vec::new();
        for number in &sorted {
            work.push(format!("{next} of {} is {number}", join(&rest, " ")));
            if let Some(at) = rest.iter().position(|n| n == number) {
                rest.remove(at);
            }
        }
        let answer = join(&sorted, " ");
        let fields = json!({ "numbers": numbers, "order": order });
        let id = format!("{order}-{}", join(&numbers, "-"));
        let draw = Draw::new(id, fields, json!({ "answer": answer }), work.join(","), answer);
        Some(Draw { side, ..draw })
    }
}

fn join(numbers: &[u64], between: &str) -> String {
    numbers.iter().map(u64::to_string).collect::<Vec<_>>().join(between)
}

//! Additions of two numbers, for a policy that starts from nothing.

use serde_json::json;

use super::{Dice, Draw, Generator, check_range, generator};
use crate::checks::Checks;
use crate::random;

generator! {
    /// Exact multi-digit addition; the work is written digit by digit with carries, lowest digit first:
    /// `<think>2+4=6,1+3=4</think><answer>46</answer>`. `a+b` falls on the same side of the split as `b+a`.
    "addition" => AdditionConfig judged by "exact" {
        /// Fewest digits of an operand, at least 1. Default 1.
        min_digits: u32 = 1,
        /// Most digits of an operand, at most 18. Default 2.
        max_digits: u32 = 2,
    }
    prompt "{{ a }}+{{ b }}="
}

impl Generator for AdditionConfig {
    fn check_difficulty(&self, at: &str, checks: &mut Checks) {
        let digits = [self.min_digits.into(), self.max_digits.into()];
        check_range(at, ["min_digits", "max_digits"], digits, [1, 18], checks);
    }

    fn draw(&self, dice: &mut Dice) -> Option<Draw> {
        let [seed, stream, number] = dice.key;
        let operand = |which: u64| {
            let (fewest, most) = (u64::from(self.min_digits), u64::from(self.max_digits));
            let digits = random::between(fewest, most, &[seed, stream, number, which, 0]) as u32;
            let low = if digits == 1 { 0 } else { 10_u64.pow(digits - 1) };
            random::between(low, 10_u64.pow(digits) - 1, &[seed, stream, number, which, 1])
        };
        let (a, b) = (operand(0), operand(1));
        let answer = (a + b).to_string();
        let reference = json!({ "answer": answer });
        let draw = Draw::new(format!("{a}+{b}"), json!({ "a": a, "b": b }), reference, columns(a, b), answer);
        Some(Draw { side: random::word(&[a.min(b), a.max(b)]), ..draw })
    }
}

/// Column addition, lowest digit first: `58+67` is `8+7=15,5+6+1=12`.
fn columns(mut a: u64, mut b: u64) -> String {
    let mut carry = 0;
    let mut work = Vec::new();
    while a > 0 || b > 0 || work.is_empty() {
        let (x, y) = (a % 10, b % 10);
        let sum = x + y + carry;
        work.push(if carry == 0 { format!("{x}+{y}={sum}") } else { format!("{x}+{y}+{carry}={sum}") });
        carry = sum / 10;
        (a, b) = (a / 10, b / 10);
    }
    work.join(",")
}

#[cfg(test)]
mod tests {
    use super::columns;
    use crate::data::tests::addition;
    use std::collections::HashSet;

    #[test]
    fn columns_carry() {
        for (a, b, work) in [
            (12, 34, "2+4=6,1+3=4"),
            (58, 67, "8+7=15,5+6+1=12"),
            (7, 58, "7+8=15,0+5+1=6"),
            (0, 0, "0+0=0"),
            (99, 1, "9+1=10,9+0+1=10"),
        ] {
            assert_eq!(columns(a, b), work);
        }
    }

    #[test]
    fn tasks_are_right_different_and_the_same_for_a_seed() {
        let source = addition("tasks = 300\nmin_digits = 2\nmax_digits = 3\nformat = \"think\"", 5);
        let mut prompts = HashSet::new();
        for i in 0..source.len() {
            let example = source.example(i).unwrap();
            let prompt = &example.prompt[0].content;
            let (a, b) = prompt.strip_suffix('=').unwrap().split_once('+').unwrap();
            assert!((2..=3).contains(&a.len()) && (2..=3).contains(&b.len()), "{prompt}");
            let sum = (a.parse::<u64>().unwrap() + b.parse::<u64>().unwrap()).to_string();
            assert_eq!(source.task(i).reference["answer"], sum);
            assert!(example.completion.ends_with(&format!("</think><answer>{sum}</answer>")));
            assert!(prompts.insert(prompt.clone()));
        }
        let same = addition("tasks = 300\nmin_digits = 2\nmax_digits = 3\nformat = \"think\"", 5);
        assert_eq!(source.task(299), same.task(299));
        assert_ne!(source.task(0), addition("tasks = 300\nmin_digits = 2\nmax_digits = 3", 6).task(0));
    }

    #[test]
    fn held_out_tasks_are_never_trained_on_whatever_seed_and_order_of_operands() {
        let operands = |source: &crate::data::TaskSource| {
            (0..source.len())
                .map(|i| {
                    let text = source.task(i).prompt[0].content.clone();
                    let (a, b) = text.strip_suffix('=').unwrap().split_once('+').unwrap();
                    let (a, b): (u64, u64) = (a.parse().unwrap(), b.parse().unwrap());
                    (a.min(b), a.max(b))
                })
                .collect::<HashSet<_>>()
        };
        let train = operands(&addition("tasks = 10000\nmax_digits = 2", 1));
        let heldout = operands(&addition("tasks = 10000\nmax_digits = 2\nsplit = \"heldout\"", 2));
        assert!(train.is_disjoint(&heldout));
        // Small spaces end with all that there is instead of looping.
        assert_eq!(train.len() + heldout.len(), 100 * 101 / 2);
    }
}

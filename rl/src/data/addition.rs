//! Additions of two numbers, for a policy that starts from nothing.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::template::{Row, Templates};
use super::{
    AnswerFormat, DataError, Entry, GENERATE_STREAM, Split, check_generator, generated, max_draws, messages,
    warn_fewer,
};
use crate::config::validate::Checks;
use crate::random;

/// `kind = "addition"`: trains exact multi-digit addition, digit by digit with carries in the `think` format. Rewarded
/// by `exact` or `numeric` on `reference.answer`.
///
/// All tasks of a source are different, the number of digits of each operand is uniform, and `a+b` falls on the same
/// side of the split as `b+a`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdditionConfig {
    /// Fewest digits of an operand, at least 1. Default 1.
    pub min_digits: u32,
    /// Most digits of an operand, at most 18. Default 2.
    pub max_digits: u32,
    /// Number of tasks. Default 2000.
    pub tasks: usize,
    /// How the completion for supervised training is written: `plain` is `46`, `think` is
    /// `<think>2+4=6,1+3=4</think><answer>46</answer>`, lowest digit first. Default `plain`.
    pub format: AnswerFormat,
    /// Which part of all additions is used; a hash of the operands decides. Default `train`.
    pub split: Split,
    /// Share of all additions that is held out. Default 0.1.
    pub heldout_frac: f64,
    /// minijinja template of the prompt over `a` and `b`. Default `{{ a }}+{{ b }}=`.
    pub prompt: String,
    /// Text of a system message before the prompt. Default none.
    pub system: Option<String>,
}

impl Default for AdditionConfig {
    fn default() -> Self {
        Self {
            min_digits: 1,
            max_digits: 2,
            tasks: 2000,
            format: AnswerFormat::Plain,
            split: Split::Train,
            heldout_frac: 0.1,
            prompt: "{{ a }}+{{ b }}=".to_owned(),
            system: None,
        }
    }
}

impl AdditionConfig {
    pub(super) fn check(&self, at: &str, checks: &mut Checks) {
        check_generator(at, self.tasks, self.split, self.heldout_frac, checks);
        checks.require(self.min_digits >= 1, format!("{at}.min_digits"), "must be at least 1");
        checks.require(
            (self.min_digits..=18).contains(&self.max_digits),
            format!("{at}.max_digits"),
            format!("is {} and must lie in min_digits = {} to 18", self.max_digits, self.min_digits),
        );
    }

    pub(super) fn generate(&self, name: &str, seed: u64) -> Result<Vec<Entry>, DataError> {
        let mut templates = Templates::new(name);
        templates.add("prompt", &self.prompt)?;
        let mut seen = HashSet::new();
        let mut entries = Vec::with_capacity(self.tasks);
        for draw in 0..max_draws(self.tasks) {
            if entries.len() == self.tasks {
                break;
            }
            let operand = |which: u64| {
                let digits = random::between(
                    u64::from(self.min_digits),
                    u64::from(self.max_digits),
                    &[seed, GENERATE_STREAM, draw, which, 0],
                ) as u32;
                let low = if digits == 1 { 0 } else { 10_u64.pow(digits - 1) };
                random::between(low, 10_u64.pow(digits) - 1, &[seed, GENERATE_STREAM, draw, which, 1])
            };
            let (a, b) = (operand(0), operand(1));
            let hash = random::word(&[a.min(b), a.max(b)]);
            if !self.split.contains(hash, self.heldout_frac) || !seen.insert((a, b)) {
                continue;
            }
            entries.push(self.entry(name, &templates, a, b)?);
        }
        warn_fewer(name, self.tasks, entries.len());
        Ok(entries)
    }

    fn entry(&self, name: &str, templates: &Templates, a: u64, b: u64) -> Result<Entry, DataError> {
        let row = Row::new([("a".to_owned(), json!(a)), ("b".to_owned(), json!(b))].into_iter().collect());
        let prompt = templates.text("prompt", &row).map_err(|message| DataError::Template {
            name: name.to_owned(),
            field: "prompt".to_owned(),
            message,
        })?;
        let answer = (a + b).to_string();
        let completion = self.format.write(&columns(a, b), &answer);
        let reference = json!({ "answer": answer });
        Ok(generated(format!("{name}-{a}+{b}"), messages(self.system.clone(), prompt), reference, completion))
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
    use super::super::tests::addition;
    use super::*;

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
        let operands = |source: &super::super::TaskSource| {
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

//! Countdown puzzles: reach a target with given numbers and the four operations.

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

/// `kind = "countdown"`: trains search over arithmetic expressions; several answers are right, so the reward checks
/// the expression against `reference.numbers` and `reference.target`. Every puzzle has a solution.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CountdownConfig {
    /// How many numbers a puzzle gives, 2 to 6. Default 3.
    pub numbers: usize,
    /// Largest given number. Default 20.
    pub max_number: u64,
    /// Largest target. Default 100.
    pub max_target: u64,
    /// Number of tasks. Default 2000.
    pub tasks: usize,
    /// How the completion for supervised training is written. Default `plain`, the expression alone.
    pub format: AnswerFormat,
    /// Which part of all puzzles is used; a hash of numbers and target decides. Default `train`.
    pub split: Split,
    /// Share of all puzzles that is held out. Default 0.1.
    pub heldout_frac: f64,
    /// minijinja template of the prompt over `numbers` and `target`. Default
    /// `{{ numbers | join(' ') }} -> {{ target }}:`.
    pub prompt: String,
    /// Text of a system message before the prompt. Default none.
    pub system: Option<String>,
}

impl Default for CountdownConfig {
    fn default() -> Self {
        Self {
            numbers: 3,
            max_number: 20,
            max_target: 100,
            tasks: 2000,
            format: AnswerFormat::Plain,
            split: Split::Train,
            heldout_frac: 0.1,
            prompt: "{{ numbers | join(' ') }} -> {{ target }}:".to_owned(),
            system: None,
        }
    }
}

/// A puzzle with one of its solutions.
struct Puzzle {
    numbers: Vec<u64>,
    target: u64,
    work: String,
    expression: String,
}

impl CountdownConfig {
    pub(super) fn check(&self, at: &str, checks: &mut Checks) {
        check_generator(at, self.tasks, self.split, self.heldout_frac, checks);
        checks.require((2..=6).contains(&self.numbers), format!("{at}.numbers"), "must lie in 2 to 6");
        checks.require(
            (2..=1_000_000).contains(&self.max_number),
            format!("{at}.max_number"),
            "must lie in 2 to 1000000",
        );
        checks.require(self.max_target >= 2, format!("{at}.max_target"), "must be at least 2");
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
            let Some(puzzle) = self.draw(&[seed, GENERATE_STREAM, draw]) else { continue };
            let mut key = puzzle.numbers.clone();
            key.sort_unstable();
            key.push(puzzle.target);
            if self.split.contains(random::word(&key), self.heldout_frac) && seen.insert(key) {
                entries.push(self.entry(name, &templates, &puzzle)?);
            }
        }
        warn_fewer(name, self.tasks, entries.len());
        Ok(entries)
    }

    /// Draws numbers and combines two of them at random until one is left; none when that is no good target.
    fn draw(&self, key: &[u64]) -> Option<Puzzle> {
        let mut count = 0;
        let mut between = |low: u64, high: u64| {
            count += 1;
            random::between(low, high, &[key, &[count]].concat())
        };
        let numbers: Vec<u64> = (0..self.numbers).map(|_| between(1, self.max_number)).collect();
        let mut items: Vec<(u64, String)> = numbers.iter().map(|n| (*n, n.to_string())).collect();
        let mut work = Vec::new();
        while items.len() > 1 {
            let (x, left) = items.swap_remove(between(0, items.len() as u64 - 1) as usize);
            let (y, right) = items.swap_remove(between(0, items.len() as u64 - 1) as usize);
            let (operator, value) = match between(0, 3) {
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
        let inner = expression.strip_prefix('(')?.strip_suffix(')')?.to_owned();
        let fits = target <= self.max_target && !numbers.contains(&target);
        fits.then(|| Puzzle { numbers, target, work: work.join(","), expression: inner })
    }

    fn entry(&self, name: &str, templates: &Templates, puzzle: &Puzzle) -> Result<Entry, DataError> {
        let reference = json!({ "numbers": puzzle.numbers, "target": puzzle.target });
        let row = Row::new(reference.as_object().cloned().unwrap_or_default());
        let prompt = templates.text("prompt", &row).map_err(|message| DataError::Template {
            name: name.to_owned(),
            field: "prompt".to_owned(),
            message,
        })?;
        let numbers: Vec<String> = puzzle.numbers.iter().map(u64::to_string).collect();
        let id = format!("{name}-{}-{}", numbers.join("-"), puzzle.target);
        let completion = self.format.write(&puzzle.work, &puzzle.expression);
        Ok(generated(id, messages(self.system.clone(), prompt), reference, completion))
    }
}

#[cfg(test)]
mod tests {
    use crate::data::{DataConfig, TaskSource};

    /// The value of a parenthesised expression with exact division.
    fn evaluate(text: &str) -> f64 {
        fn atom(text: &mut &str) -> f64 {
            if let Some(rest) = text.strip_prefix('(') {
                *text = rest;
                let value = binary(text);
                *text = text.strip_prefix(')').unwrap();
                return value;
            }
            let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
            let (number, rest) = text.split_at(digits);
            *text = rest;
            number.parse().unwrap()
        }
        fn binary(text: &mut &str) -> f64 {
            let left = atom(text);
            let operator = text.chars().next().unwrap();
            *text = &text[1..];
            let right = atom(text);
            match operator {
                '+' => left + right,
                '-' => left - right,
                '*' => left * right,
                _ => left / right,
            }
        }
        let mut rest = text;
        let value = binary(&mut rest);
        assert!(rest.is_empty(), "{text}");
        value
    }

    #[test]
    fn every_puzzle_is_solved_by_its_completion() {
        let config: DataConfig = toml::from_str("kind = \"countdown\"\ntasks = 500\nnumbers = 4").unwrap();
        let source = TaskSource::open("c", &config, 1).unwrap();
        assert_eq!(source.len(), 500);
        for i in 0..source.len() {
            let (example, reference) = (source.example(i).unwrap(), &source.task(i).reference);
            assert_eq!(evaluate(&example.completion), reference["target"].as_f64().unwrap());
            let mut used: Vec<u64> = example
                .completion
                .split(|c: char| !c.is_ascii_digit())
                .filter_map(|n| n.parse().ok())
                .collect();
            let mut given: Vec<u64> =
                reference["numbers"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).collect();
            used.sort_unstable();
            given.sort_unstable();
            assert_eq!(used, given);
        }
        assert!(source.task(0).prompt[0].content.contains(" -> "));
    }
}

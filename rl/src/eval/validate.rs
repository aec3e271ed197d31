//! Checks of a benchmark before anything is generated: rows, references, and what answers without knowledge score.

use std::collections::HashMap;

use rlvr_rewards::{Response, Task, Verdict, score_batch};
use serde::Serialize;
use serde_json::Value;

use super::benchmark::{Benchmark, OpenSettings};
use super::item::Item;
use super::solved;
use super::task_file::TaskFile;
use crate::error::Error;
use crate::rows;

/// Answers that say nothing; each must score 0 on every item.
pub const EMPTY_ANSWERS: &[(&str, &str)] = &[
    ("empty", ""),
    ("refusal", "I'm sorry, but I cannot help with that request."),
    ("not sure", "I'm not sure."),
    ("do not know", "I do not know the answer to this question."),
];

/// Problems of a kind that are described before the rest is counted only.
const SHOWN: usize = 20;

/// What came of checking a benchmark.
#[derive(Debug, Clone, Serialize)]
pub struct Validation {
    /// The benchmark.
    pub task: String,
    /// Items.
    pub items: usize,
    /// SHA-256 over definition and data.
    pub hash: String,
    /// The checks.
    pub checks: Vec<Check>,
    /// What answering the same to every item scores.
    pub baselines: Vec<Baseline>,
    /// What one should know about the items.
    pub notes: Vec<String>,
}

/// One check.
#[derive(Debug, Clone, Serialize)]
pub struct Check {
    /// What was checked.
    pub name: &'static str,
    /// How many rows or items failed; 0 is good.
    pub failed: usize,
    /// The first of them, with file and line.
    pub problems: Vec<String>,
}

/// A constant answer and its accuracy.
#[derive(Debug, Clone, Serialize)]
pub struct Baseline {
    /// What is answered to every item.
    pub answer: String,
    /// Items that it is right for.
    pub correct: usize,
    /// Their share.
    pub accuracy: f64,
}

impl Validation {
    /// Whether every check passed.
    pub fn passed(&self) -> bool {
        self.checks.iter().all(|check| check.failed == 0)
    }
}

/// Checks a definition and its data.
///
/// # Errors
/// Data that cannot be opened at all.
pub fn validate(task: &TaskFile, text: &str, settings: &OpenSettings) -> Result<Validation, Error> {
    let (benchmark, rows) = Benchmark::inspect(task, text, settings)?;
    let expected = task.source.as_ref().and_then(|s| s.items).filter(|_| settings.limit.is_none());
    Ok(validate_benchmark(benchmark, rows.iter().map(ToString::to_string), expected))
}

/// Checks a benchmark that is open; `rows` are the problems of rows that did not become items, with file and line, and
/// `expected` is how many items there must be.
pub fn validate_benchmark(
    benchmark: Benchmark,
    rows: impl Iterator<Item = String>,
    expected: Option<usize>,
) -> Validation {
    let mut checks = vec![check("rows fit the schema and the templates", rows)];
    if let Some(wanted) = expected {
        let found = benchmark.items.len();
        let problem = (found != wanted).then(|| format!("{found} items, the definition says {wanted}"));
        checks.push(check("number of items", problem.into_iter()));
    }
    if benchmark.has_images() {
        let broken = benchmark.undecodable().into_iter().map(|problem| problem.to_string());
        checks.push(check("pictures can be decoded", broken));
    }
    checks.extend(item_checks(&benchmark));
    Validation {
        task: benchmark.name.clone(),
        items: benchmark.items.len(),
        hash: benchmark.hash.clone(),
        checks,
        baselines: baselines(&benchmark),
        notes: benchmark.notes,
    }
}

fn check(name: &'static str, problems: impl Iterator<Item = String>) -> Check {
    let mut found = Check { name, failed: 0, problems: Vec::new() };
    for problem in problems {
        found.failed += 1;
        if found.failed <= SHOWN {
            found.problems.push(problem);
        }
    }
    found
}

fn item_checks(benchmark: &Benchmark) -> Vec<Check> {
    let items = &benchmark.items;
    let mut seen: HashMap<&str, &str> = HashMap::new();
    let twice: Vec<String> = (items.iter())
        .filter_map(|item| {
            let first = seen.insert(&item.task.id, &item.place)?;
            Some(format!("{}: the id {:?} is that of {first}", item.place, item.task.id))
        })
        .collect();
    let mut checks = vec![check("ids are unique", twice.into_iter())];

    let blank = |i: &Item| {
        let asked = rows::question(&i.task.meta);
        asked.is_some_and(|q| q.trim().is_empty())
            || i.task.prompt.iter().all(|m| m.content.trim().is_empty())
    };
    let silent = items.iter().filter(|i| blank(i));
    checks
        .push(check("prompts ask something", silent.map(|i| format!("{}: the question is empty", i.place))));
    let unusable = (items.iter())
        .filter_map(|i| benchmark.reward.check_task(&i.task).err().map(|e| format!("{}: {e}", i.place)));
    checks.push(check("references can be judged", unusable));
    let unnamed = items.iter().filter(|i| !i.options.is_empty() && i.gold.is_none());
    let unnamed = unnamed.map(|i| format!("{}: the answer is no option", i.place));
    checks.push(check("the answer is one of the options", unnamed));

    let golds: Vec<Option<String>> = items.iter().map(|i| benchmark.reward.gold(&i.task)).collect();
    let judged: Vec<(usize, &str)> =
        golds.iter().enumerate().filter_map(|(i, gold)| Some((i, gold.as_deref()?))).collect();
    let pairs: Vec<(&Task, Response<'_>)> =
        judged.iter().map(|(i, gold)| (&items[*i].task, Response::new(gold))).collect();
    let outcomes = score_batch(&*benchmark.reward, &pairs);
    let refused = (judged.iter().zip(&outcomes)).filter(|(_, outcome)| !solved(outcome));
    let refused = refused.map(|((i, gold), outcome)| {
        format!(
            "{}: its own answer {gold:?} is judged {:?}: {}",
            items[*i].place, outcome.verdict, outcome.reason
        )
    });
    checks.push(check("the verifier accepts every reference", refused));

    // Overlap with a report counts common words too.
    let graded = ["rouge", "bleu", "token_f1"].map(Value::from).contains(&benchmark.reward_config["kind"]);
    let mut rewarded = Vec::new();
    for (name, answer) in EMPTY_ANSWERS {
        let pairs: Vec<(&Task, Response<'_>)> =
            items.iter().map(|i| (&i.task, Response::new(answer))).collect();
        let outcomes = score_batch(&*benchmark.reward, &pairs);
        for (item, outcome) in items.iter().zip(outcomes) {
            let overlap = graded && !answer.is_empty();
            let nothing =
                (overlap || outcome.score.is_none_or(|s| s <= 0.0)) && outcome.verdict != Verdict::Correct;
            if !nothing {
                rewarded.push(format!("{}: {name} ({answer:?}) scores {:?}", item.place, outcome.score));
            }
        }
    }
    checks.push(check("answers without content score 0", rewarded.into_iter()));
    checks
}

/// What each label scores when it is the answer to every item; for open questions, the most frequent references.
pub fn baselines(benchmark: &Benchmark) -> Vec<Baseline> {
    let items = &benchmark.items;
    let mut answers: Vec<String> = Vec::new();
    for option in items.iter().flat_map(|i| &i.options) {
        if !answers.contains(&option.label) {
            answers.push(option.label.clone());
        }
    }
    if answers.is_empty() {
        let mut counts: HashMap<String, usize> = HashMap::new();
        for answer in items.iter().filter_map(|i| i.task.answers().into_iter().next()) {
            *counts.entry(answer).or_default() += 1;
        }
        let most = counts.into_iter().max_by(|a, b| a.1.cmp(&b.1).then_with(|| b.0.cmp(&a.0)));
        answers.extend(most.map(|(answer, _)| answer));
    }
    (answers.into_iter())
        .map(|answer| {
            let text = if items.iter().any(|i| !i.options.is_empty()) {
                answer.clone()
            } else {
                format!("<answer>{answer}</answer>")
            };
            let pairs: Vec<(&Task, Response<'_>)> =
                items.iter().map(|i| (&i.task, Response::new(&text))).collect();
            let correct = score_batch(&*benchmark.reward, &pairs).iter().filter(|o| solved(o)).count();
            Baseline { answer, correct, accuracy: correct as f64 / items.len().max(1) as f64 }
        })
        .collect()
}

//! Arms of a comparison: the base and others, each of several seeds or of a training run.

use super::recorded::recorded;
use super::{
    Evaluation, LEVEL, Paired, ResultsError, RunResults, TaskItems, check_same, compare, task_names,
};
use crate::stats::{holm, unpaired};
use std::path::Path;

/// A policy, or several of the same training that differ in their seed.
#[derive(Debug)]
pub struct Arm {
    /// What messages and tables call it.
    pub label: String,
    /// What is known of it.
    pub measured: Measured,
}

/// What is known of an arm.
#[derive(Debug)]
pub enum Measured {
    /// Items, of an evaluation a seed.
    Items(Vec<Evaluation>),
    /// What a training run recorded, which keeps no items.
    Run(RunResults),
}

impl Arm {
    /// The directories that it was read from.
    pub fn dirs(&self) -> Vec<&Path> {
        match &self.measured {
            Measured::Items(seeds) => seeds.iter().map(|e| e.dir.as_path()).collect(),
            Measured::Run(run) => vec![&run.dir],
        }
    }
}

/// A task of the base, A, and of another arm, B.
#[derive(Debug)]
pub struct TaskComparison {
    /// Place of B among the arms.
    pub arm: usize,
    /// Name of the task.
    pub task: String,
    /// What was found.
    pub paired: Paired,
    /// The p-value, Holm-corrected over all tasks and arms.
    pub p_holm: f64,
}

impl TaskComparison {
    /// Whether the arms differ at the [level](LEVEL) of every test.
    pub fn is_significant(&self) -> bool {
        self.p_holm < LEVEL
    }
}

/// Compares every arm with the first, task by task: by items where both have them, by the means that runs recorded where
/// both have those. Empty when they share nothing. Other versions of a task or verifier are refused, unless `force`; `note`
/// hears of tasks and items that are left out.
///
/// # Errors
/// [`ResultsError`].
pub fn compare_arms(
    arms: &[Arm],
    force: bool,
    note: &mut dyn FnMut(String),
) -> Result<Vec<TaskComparison>, ResultsError> {
    let mut found = Vec::new();
    let Some((a, others)) = arms.split_first() else { return Ok(found) };
    for (b, place) in others.iter().zip(1..) {
        let pairs = match (&a.measured, &b.measured) {
            (Measured::Items(left), Measured::Items(right)) => {
                compare_items((&a.label, left), (&b.label, right), force, note)?
            }
            (Measured::Run(left), Measured::Run(right)) => {
                compare_runs((&a.label, left), (&b.label, right), force, note)?
            }
            (Measured::Items(_), Measured::Run(_)) | (Measured::Run(_), Measured::Items(_)) => Vec::new(),
        };
        let compared = |(task, paired): (&str, _)| TaskComparison {
            arm: place,
            task: task.to_owned(),
            paired,
            p_holm: 1.0,
        };
        found.extend(pairs.into_iter().map(compared));
    }
    let adjusted = holm(&found.iter().map(|c| c.paired.comparison.p_value).collect::<Vec<_>>());
    found.iter_mut().zip(adjusted).for_each(|(compared, p)| compared.p_holm = p);
    Ok(found)
}

/// The tasks that all seeds of both arms have.
fn compare_items<'a>(
    (a, left): (&str, &'a [Evaluation]),
    (b, right): (&str, &[Evaluation]),
    force: bool,
    note: &mut dyn FnMut(String),
) -> Result<Vec<(&'a str, Paired)>, ResultsError> {
    let mut found = Vec::new();
    let (names, others) = (task_names(left), task_names(right));
    for &name in &names {
        let (Some(of_a), Some(of_b)) = (of_seeds(left, name), of_seeds(right, name)) else {
            let lacking = left.iter().chain(right).filter(|e| e.task(name).is_none());
            let lacking: Vec<&str> = lacking.map(|e| e.label.as_str()).collect();
            note(format!("{name} is not in {}, left out", lacking.join(", ")));
            continue;
        };
        let rest = of_a.iter().skip(1).chain(&of_b).map(|task| &task.identity);
        check_same(name, &of_a[0].identity, rest, force, note)?;
        let Some(paired) = compare(&of_a, &of_b)? else {
            note(format!("{name}: no item is in both {a} and {b}"));
            continue;
        };
        let (only_a, only_b) = paired.only;
        if only_a + only_b > 0 {
            let items = paired.comparison.items;
            note(format!(
                "{name}: {items} items in both; {only_a} only in {a} and {only_b} only in {b} are left out"
            ));
        }
        found.push((name, paired));
    }
    for name in others.iter().filter(|name| !names.contains(name)) {
        note(format!("{name} is in {b} only"));
    }
    Ok(found)
}

/// A task in each seed of an arm.
fn of_seeds<'a>(seeds: &'a [Evaluation], name: &str) -> Option<Vec<&'a TaskItems>> {
    seeds.iter().map(|e| e.task(name)).collect()
}

/// The sets that two runs evaluated last.
fn compare_runs<'a>(
    (a, left): (&str, &'a RunResults),
    (b, right): (&str, &RunResults),
    force: bool,
    note: &mut dyn FnMut(String),
) -> Result<Vec<(&'a str, Paired)>, ResultsError> {
    let mut found = Vec::new();
    for set in &left.sets {
        let name = &set.set;
        let Some(other) = right.sets.iter().find(|other| other.set == *name) else {
            note(format!("{name} is in {a} only"));
            continue;
        };
        check_same(name, &left.identity(name), [&right.identity(name)], force, note)?;
        if set.n != other.n {
            note(format!("{name}: {} items in {a}, {} in {b}", set.n, other.n));
        }
        if let Some(comparison) = unpaired(recorded(set), recorded(other)) {
            found.push((name.as_str(), Paired { comparison, majority: None, only: (0, 0) }));
        }
    }
    for set in right.sets.iter().filter(|set| !left.sets.iter().any(|l| l.set == set.set)) {
        note(format!("{} is in {b} only", set.set));
    }
    Ok(found)
}

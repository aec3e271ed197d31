//! The one rule by which an evaluation has regressed against an earlier one.

use crate::evaluations::{self, Evaluation, LEVEL};
use anyhow::Result;
use rlvr::number::{fixed, signed};
use rlvr::stats::holm;

/// A task that an evaluation does significantly worse than the baseline, or lacks.
pub struct Regression {
    /// Place of the evaluation.
    pub evaluation: usize,
    pub task: String,
    pub reason: String,
}

/// Tasks of the baseline that an evaluation lacks, or does worse by more than `tolerance` and significantly: by the
/// paired test over the items that both have, Holm-corrected over all tasks and evaluations. Other versions of a task or
/// verifier are refused, unless `force`.
pub fn regressions(
    baseline: &Evaluation,
    evaluations: &[Evaluation],
    tolerance: f64,
    force: bool,
) -> Result<Vec<Regression>> {
    let mut found = Vec::new();
    let mut tested = Vec::new();
    for (place, evaluation) in evaluations.iter().enumerate() {
        for old in &baseline.tasks {
            let pair = match evaluation.task(&old.name) {
                Some(new) => {
                    let others = std::iter::once(&new.identity);
                    evaluations::check_same(&old.name, &old.identity, others, force)?;
                    evaluations::compare(&[old], &[new])?
                }
                None => None,
            };
            match pair {
                Some(pair) => tested.push((place, old.name.clone(), pair.comparison)),
                None => found.push(Regression {
                    evaluation: place,
                    task: old.name.clone(),
                    reason: "no item of the baseline was evaluated".to_owned(),
                }),
            }
        }
    }
    let adjusted = holm(&tested.iter().map(|(_, _, c)| c.p_value).collect::<Vec<_>>());
    for ((evaluation, task, c), p) in tested.into_iter().zip(adjusted) {
        if c.difference < -tolerance && p < LEVEL {
            let (low, high) = c.interval;
            let reason = format!(
                "{}, the baseline {}: {} [{}, {}], p (Holm) {p:.4}",
                fixed(c.b, 3),
                fixed(c.a, 3),
                signed(c.difference, 3),
                signed(low, 3),
                signed(high, 3)
            );
            found.push(Regression { evaluation, task, reason });
        }
    }
    Ok(found)
}

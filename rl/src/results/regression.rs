//! The one rule by which an evaluation has regressed against an earlier one.

use super::{Evaluation, LEVEL, ResultsError, check_same, compare};
use crate::eval::ImageArm;
use crate::number::{fixed, signed};
use crate::stats::{Comparison, holm};

/// A task that an evaluation does significantly worse than the baseline, or lacks.
#[derive(Debug)]
pub struct Regression {
    /// Place of the evaluation.
    pub evaluation: usize,
    /// Name of the task.
    pub task: String,
    /// The baseline as A and the evaluation as B; none when it has no item of the baseline.
    pub comparison: Option<Comparison>,
    /// What was found, as people read it.
    pub reason: String,
}

/// Tasks of the baseline that an evaluation lacks, or does worse by more than `tolerance` and significantly: by the
/// paired test over the items that both have, Holm-corrected over all tasks and evaluations; controls without the real pictures are no
/// tasks here. Other versions of a task or
/// verifier are refused, unless `force`; `note` hears of them.
///
/// # Errors
/// [`ResultsError`].
pub fn regressions(
    baseline: &Evaluation,
    evaluations: &[Evaluation],
    tolerance: f64,
    force: bool,
    note: &mut dyn FnMut(String),
) -> Result<Vec<Regression>, ResultsError> {
    let mut found = Vec::new();
    let mut tested = Vec::new();
    for (place, evaluation) in evaluations.iter().enumerate() {
        // That a control gets worse is what is hoped for.
        for old in baseline.tasks.iter().filter(|task| ImageArm::of(&task.name).is_none()) {
            let pair = match evaluation.task(&old.name) {
                Some(new) => {
                    check_same(&old.name, &old.identity, [&new.identity], force, note)?;
                    compare(&[old], &[new])?
                }
                None => None,
            };
            match pair {
                Some(pair) => tested.push((place, old.name.clone(), pair.comparison)),
                None => found.push(Regression {
                    evaluation: place,
                    task: old.name.clone(),
                    comparison: None,
                    reason: "no item of the baseline was evaluated".to_owned(),
                }),
            }
        }
    }
    let adjusted = holm(&tested.iter().map(|(_, _, c)| c.p_value).collect::<Vec<_>>());
    for ((evaluation, task, c), p) in tested.into_iter().zip(adjusted) {
        if c.difference < -tolerance && p < LEVEL {
            found.push(Regression { evaluation, task, comparison: Some(c), reason: reason(&c, p) });
        }
    }
    Ok(found)
}

fn reason(c: &Comparison, p: f64) -> String {
    let (low, high) = c.interval;
    format!(
        "{}, the baseline {}: {} [{}, {}], p (Holm) {p:.4}",
        fixed(c.b, 3),
        fixed(c.a, 3),
        signed(c.difference, 3),
        signed(low, 3),
        signed(high, 3)
    )
}

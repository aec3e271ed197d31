//! A benchmark asked with its own pictures and as a control, in one evaluation: what the pictures are worth.

use super::{Evaluation, ResultsError, TaskItems, compare};
use crate::eval::ImageArm;
use crate::number::interval;
use serde::Serialize;

/// Groups of a task that are compared by themselves, at most.
const GROUPS: usize = 6;

/// Real pictures against a control, item by item.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ImageComparison {
    /// The task as it is called with its own pictures.
    pub task: String,
    /// The group of its items; none of all.
    pub group: Option<String>,
    /// The control.
    pub arm: ImageArm,
    /// Items of both.
    pub items: usize,
    /// Accuracy with their own pictures, in [0, 1].
    pub real: f64,
    /// Accuracy of the control.
    pub control: f64,
    /// `real - control`.
    pub difference: f64,
    /// 95 % interval of the difference, paired by items.
    pub ci95: (f64, f64),
    /// Two-sided p-value of no difference.
    pub p_value: f64,
    /// Share of the completions that say the same in both.
    pub unchanged: f64,
}

impl ImageComparison {
    /// Whether the real pictures are above the control, with the whole interval.
    pub fn is_above(&self) -> bool {
        self.ci95.0 > 0.0
    }

    /// Header of the table.
    pub const HEADER: [&str; 8] =
        ["task", "against", "n", "real", "there", "difference", "95 % interval", "same answers"];

    /// Its row of the table.
    pub fn cells(&self) -> Vec<String> {
        let group = self.group.as_ref().map_or(String::new(), |group| format!(" {group}"));
        vec![
            format!("{}{group}", self.task),
            self.arm.name().to_owned(),
            self.items.to_string(),
            format!("{:.3}", self.real),
            format!("{:.3}", self.control),
            format!("{:+.3}", self.difference),
            interval(self.ci95),
            format!("{:.3}", self.unchanged),
        ]
    }

    /// A sentence where the pictures of a whole task make no difference that can be told.
    pub fn warning(&self) -> Option<String> {
        let warned = self.group.is_none() && !self.is_above();
        warned.then(|| {
            format!(
                "warning: {}: accuracy with real pictures is not above that of the control `{}`: {:+.3}, 95 % interval {}; \
                 {:.0} % of the answers are the same",
                self.task,
                self.arm.name(),
                self.difference,
                interval(self.ci95),
                100.0 * self.unchanged
            )
        })
    }
}

/// The controls of an evaluation that also has the real pictures: every task, and its groups where these are few.
///
/// # Errors
/// [`ResultsError::Comparison`].
pub fn image_arms(evaluation: &Evaluation) -> Result<Vec<ImageComparison>, ResultsError> {
    let mut found = Vec::new();
    for control in &evaluation.tasks {
        let Some((name, arm)) = ImageArm::of(&control.name) else { continue };
        let Some(real) = evaluation.task(&name) else { continue };
        let groups = real.groups();
        let groups = if (2..=GROUPS).contains(&groups.len()) { groups } else { Vec::new() };
        let whole = std::iter::once(None).chain(groups.into_iter().map(Some));
        for group in whole {
            let of = |task: &TaskItems| group.map(|group| task.of_group(group));
            let (own, other) = (of(real), of(control));
            let (own, other) = (own.as_ref().unwrap_or(real), other.as_ref().unwrap_or(control));
            let Some(paired) = compare(&[other], &[own])? else { continue };
            let c = paired.comparison;
            found.push(ImageComparison {
                task: name.clone(),
                group: group.map(str::to_owned),
                arm,
                items: c.items,
                real: c.b,
                control: c.a,
                difference: c.difference,
                ci95: c.interval,
                p_value: c.p_value,
                unchanged: unchanged(own, other),
            });
        }
    }
    Ok(found)
}

/// Share of the completions that give the same answer, or the same text where none was found.
fn unchanged(a: &TaskItems, b: &TaskItems) -> f64 {
    let pairs = a.items.iter().filter_map(|item| Some((item, b.item(&item.id)?)));
    let samples = pairs.flat_map(|(a, b)| a.samples.iter().zip(&b.samples));
    let (mut same, mut all) = (0u32, 0u32);
    for (a, b) in samples {
        all += 1;
        same += u32::from(match (&a.answer, &b.answer) {
            (None, None) => a.said == b.said,
            (a, b) => a == b,
        });
    }
    f64::from(same) / f64::from(all.max(1))
}

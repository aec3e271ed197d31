//! A benchmark asked with its own pictures and as a control, in one evaluation: what the pictures are worth.

use super::{Evaluation, Item, RANKED, ResultsError, TaskItems, compare};
use crate::eval::ImageArm;
use crate::number::interval;
use serde::{Serialize, Serializer};
use std::collections::HashSet;

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
    /// Items of both that have pictures.
    pub items: usize,
    /// Accuracy with their own pictures, in [0, 1].
    pub real: f64,
    /// Accuracy of the control.
    pub control: f64,
    /// `real - control`.
    pub difference: f64,
    /// 95 % interval of the difference, paired by items; NaN with one cluster, null as JSON.
    #[serde(serialize_with = "null_if_none")]
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

    fn has_interval(&self) -> bool {
        !self.ci95.0.is_nan()
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
            if self.has_interval() { interval(self.ci95) } else { "none (one cluster)".to_owned() },
            format!("{:.3}", self.unchanged),
        ]
    }

    /// A sentence where the pictures of a whole task make no difference that can be told.
    pub fn warning(&self) -> Option<String> {
        let warned = self.group.is_none() && self.has_interval() && !self.is_above();
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

fn null_if_none<S: Serializer>(ci95: &(f64, f64), to: S) -> Result<S::Ok, S::Error> {
    Some(ci95).filter(|(low, _)| !low.is_nan()).serialize(to)
}

/// The controls of an evaluation that also has the real pictures: every task, and its groups where these are few. Items
/// without pictures say nothing about them and are left out.
///
/// # Errors
/// [`ResultsError::Comparison`].
pub fn image_arms(evaluation: &Evaluation) -> Result<Vec<ImageComparison>, ResultsError> {
    let mut found = Vec::new();
    for control in &evaluation.tasks {
        let Some((name, arm)) = ImageArm::of(&control.name) else { continue };
        let Some(real) = evaluation.task(&name) else { continue };
        let pictured = pictured(evaluation, &name);
        let groups = real.groups();
        let groups = if (2..=GROUPS).contains(&groups.len()) { groups } else { Vec::new() };
        let whole = std::iter::once(None).chain(groups.into_iter().map(Some));
        for group in whole {
            let is_in = |item: &Item| group.is_none() || item.group.as_deref() == group;
            let own = real.only(&|item| is_in(item) && pictured.contains(item.id.as_str()));
            let other = control.only(&is_in);
            let Some(paired) = compare(&[&other], &[&own])? else { continue };
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
                unchanged: unchanged(&own, &other),
            });
        }
    }
    Ok(found)
}

/// The items of a task that any of its arms names pictures of; all where nothing names any. Of options ranked, one of the
/// two tasks has the names.
fn pictured<'a>(evaluation: &'a Evaluation, task: &'a str) -> HashSet<&'a str> {
    let benchmark = |name: &str| {
        let real = ImageArm::of(name).map_or_else(|| name.to_owned(), |(real, _)| real);
        RANKED.iter().find_map(|ending| real.strip_suffix(ending)).unwrap_or(&real).to_owned()
    };
    let own = benchmark(task);
    let arms = evaluation.tasks.iter().filter(|arm| benchmark(&arm.name) == own);
    let items = arms.flat_map(|arm| &arm.items);
    let found: HashSet<&str> = items.filter(|item| item.pictures).map(|item| item.id.as_str()).collect();
    if found.is_empty() {
        return evaluation
            .task(task)
            .into_iter()
            .flat_map(|t| &t.items)
            .map(|item| item.id.as_str())
            .collect();
    }
    found
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

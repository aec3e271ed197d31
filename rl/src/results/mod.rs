//! What evaluations leave in a directory: written, read back, compared item by item, and searched for regressions.
//!
//! `rlvr eval` writes `samples.jsonl`, one row a judged completion ([`SampleRow`]), and `results.json` with `results.md`,
//! one entry a task ([`Results`]). [`Evaluation::read`] takes such a directory apart again; [`compare`] pairs the items
//! that two of them share, [`compare_arms`] does so for several policies and seeds at once, and [`regressions`] has the
//! one rule by which an evaluation is worse than an earlier one.
//!
//! What deserves a word but is no error, such as items that only one side has, goes to a `note: &mut dyn FnMut(String)`.

mod arms;
mod error;
mod evaluation;
mod identity;
mod image_arms;
mod paired;
mod recorded;
mod regression;
mod sample_row;
mod task_result;
#[cfg(test)]
mod tests;
mod text_metrics;
mod written;

pub use crate::eval::TextMetric;
pub use crate::eval::sample_log::SAMPLES;
pub use arms::{Arm, Measured, TaskComparison, compare_arms};
pub use error::ResultsError;
pub use evaluation::{Evaluation, Item, Sample, TaskItems, Wanted, named, settings, task_names};
pub use identity::{Identity, check_same};
pub use image_arms::{ImageComparison, image_arms};
pub use paired::{Paired, compare};
pub use recorded::RunResults;
pub use regression::{Regression, regressions};
pub use sample_row::SampleRow;
pub use task_result::TaskResult;
pub use text_metrics::{References, text_metrics};
pub use written::{Results, check_foreign, clear, write_samples};

/// File with the results of all tasks and the settings they depend on.
pub const RESULTS: &str = "results.json";
/// File with the table of the results.
pub const MARKDOWN: &str = "results.md";
/// File with the opinions of a judge, unless another one is named for them.
pub const JUDGED: &str = "judge.jsonl";
/// Endings of a task's name for options ranked by likelihood, and by likelihood per character.
pub const RANKED: [&str; 2] = ["/likelihood", "/likelihood_norm"];
/// Level of every test: a Holm-corrected p-value below it is a difference.
pub const LEVEL: f64 = 0.05;

//! Metrics of texts over the completions of an evaluation.

use super::{ResultsError, TaskItems};
use crate::eval::TextMetric;
use crate::files::source::LineSource;
use crate::rows;
use serde_json::Value;
use std::collections::HashMap;
use std::path::Path;

/// References by task and id; without a task for all tasks.
#[derive(Debug)]
pub struct References {
    name: String,
    by_id: HashMap<(Option<String>, String), Vec<String>>,
}

impl References {
    /// Reads rows `{"id", "task"?, "answer": text or list}`.
    ///
    /// # Errors
    /// [`ResultsError::Input`], of a row that has none of these or an id for the second time, with its line.
    pub fn read(path: &Path) -> Result<Self, ResultsError> {
        let mut source = LineSource::open(path)?;
        let mut by_id = HashMap::new();
        while let Some((line, fields)) = source.next_object()? {
            let id = rows::id(&fields);
            let id = id.ok_or_else(|| source.bad_at(line, "the row has no `id`, a string or a number"))?;
            let answers = match fields.get("answer") {
                Some(Value::String(text)) => Some(vec![text.clone()]),
                Some(Value::Array(all)) => all.iter().map(|a| a.as_str().map(str::to_owned)).collect(),
                _ => None,
            };
            let answers = answers.filter(|a| !a.is_empty());
            let answers =
                answers.ok_or_else(|| source.bad_at(line, "`answer` must be a text or a list of texts"))?;
            let task = fields.get("task").and_then(Value::as_str).map(str::to_owned);
            if by_id.insert((task, id.clone()), answers).is_some() {
                return Err(source.bad_at(line, format!("the id {id:?} occurs twice")).into());
            }
        }
        Ok(Self { name: path.display().to_string(), by_id })
    }

    fn of(&self, task: &str, id: &str) -> Option<&Vec<String>> {
        let own = self.by_id.get(&(Some(task.to_owned()), id.to_owned()));
        own.or_else(|| self.by_id.get(&(None, id.to_owned())))
    }
}

/// The metrics of a task over all its completions, in the order of `metrics`: against `references`, else against what the
/// samples say is right. The task must have been read with its texts; `evaluation` names it in errors.
///
/// # Errors
/// [`ResultsError::NoReference`], [`ResultsError::NoGold`].
pub fn text_metrics(
    task: &TaskItems,
    metrics: &[TextMetric],
    references: Option<&References>,
    evaluation: &str,
) -> Result<Vec<f64>, ResultsError> {
    if metrics.is_empty() {
        return Ok(Vec::new());
    }
    let mut pairs: Vec<(&str, &[String])> = Vec::new();
    for item in &task.items {
        for sample in &item.samples {
            let wanted = match references {
                Some(references) => {
                    references.of(&task.name, &item.id).ok_or_else(|| ResultsError::NoReference {
                        file: references.name.clone(),
                        item: item.id.clone(),
                        task: task.name.clone(),
                    })?
                }
                None if sample.references.is_empty() => {
                    return Err(ResultsError::NoGold {
                        evaluation: evaluation.to_owned(),
                        task: task.name.clone(),
                        item: item.id.clone(),
                    });
                }
                None => &sample.references,
            };
            pairs.push((sample.completion.as_str(), wanted));
        }
    }
    Ok(metrics.iter().map(|metric| metric.value(&pairs)).collect())
}

//! Text metrics over the completions of an evaluation.

use crate::args::comparison::TextMetric;
use crate::evaluations::TaskItems;
use crate::input::{self, Source, bad};
use anyhow::Result;
use rlvr::rewards::{bleu, cider, extract, meteor, rouge, token_f1};
use serde_json::Value;
use std::collections::HashMap;
use std::path::Path;

/// References by task and id; without a task for all tasks.
pub struct References {
    name: String,
    by_id: HashMap<(Option<String>, String), Vec<String>>,
}

impl References {
    /// Reads rows `{"id", "task"?, "answer": text or list}`.
    pub fn read(path: &Path) -> Result<Self> {
        let mut source = Source::open(path)?;
        let mut by_id = HashMap::new();
        while let Some((line, fields)) = source.next_object()? {
            let id = fields.get("id").and_then(input::id_text);
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
                return Err(source.bad_at(line, format!("the id {id:?} occurs twice")));
            }
        }
        Ok(Self { name: path.display().to_string(), by_id })
    }

    fn of(&self, task: &str, id: &str) -> Option<&Vec<String>> {
        let own = self.by_id.get(&(Some(task.to_owned()), id.to_owned()));
        own.or_else(|| self.by_id.get(&(None, id.to_owned())))
    }
}

/// The metrics of a task by name, over all completions that have references.
pub fn of(
    task: &TaskItems,
    metrics: &[TextMetric],
    references: Option<&References>,
    evaluation: &str,
) -> Result<Vec<(String, f64)>> {
    if metrics.is_empty() {
        return Ok(Vec::new());
    }
    let mut pairs: Vec<(&str, &[String])> = Vec::new();
    for item in &task.items {
        for sample in &item.samples {
            let wanted = match references {
                Some(references) => references.of(&task.name, &item.id).ok_or_else(|| {
                    bad(format!("{}: no answer for {} of {}", references.name, item.id, task.name))
                })?,
                None if sample.references.is_empty() => {
                    return Err(bad(format!(
                        "{evaluation}: {}, item {}: the sample has no `gold` to compare texts with; give them by \
                         --references FILE",
                        task.name, item.id
                    )));
                }
                None => &sample.references,
            };
            // What is still thinking when the tokens end has said nothing.
            let said = extract::strip_think(&sample.completion, false).unwrap_or_default();
            pairs.push((said, wanted));
        }
    }
    let all = || pairs.iter().copied();
    let value = |metric: &TextMetric| match metric {
        TextMetric::Bleu1 => bleu::corpus_bleu_orders(all())[0],
        TextMetric::Bleu2 => bleu::corpus_bleu_orders(all())[1],
        TextMetric::Bleu3 => bleu::corpus_bleu_orders(all())[2],
        TextMetric::Bleu4 => bleu::corpus_bleu_orders(all())[3],
        TextMetric::Rouge1 => rouge::corpus_rouge(all())[0],
        TextMetric::Rouge2 => rouge::corpus_rouge(all())[1],
        TextMetric::RougeL => rouge::corpus_rouge(all())[2],
        TextMetric::TokenF1 => token_f1::corpus_token_f1(all()),
        TextMetric::Meteor => meteor::corpus_meteor(all()),
        TextMetric::Cider => cider::corpus_cider(all()).mean,
    };
    Ok(metrics.iter().map(|m| (m.name(), value(m))).collect())
}

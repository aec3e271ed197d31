//! JSON rows in, JSON rows out: what `rlvr score` reads and writes.

use rayon::prelude::*;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::conversation::prompt_messages;
use crate::reward::{Outcome, Reward, score_batch, score_one};
use crate::task::{Response, Task};

/// An input row that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RowError {
    /// The row is not a JSON object.
    #[error("row is not an object")]
    NotAnObject,
    /// A field is absent.
    #[error("row lacks the field {0:?}")]
    Missing(&'static str),
    /// A field has the wrong type.
    #[error("row field {field:?} must be {expected}")]
    WrongType {
        /// Which field.
        field: &'static str,
        /// What it must be.
        expected: &'static str,
    },
    /// The prompt is no conversation that can be read.
    #[error("{0}")]
    Prompt(String),
}

/// A row as read: the task, the completion, and the id as it was written.
#[derive(Clone, Debug, PartialEq)]
pub struct CompletionRow {
    /// The id as written, string or number.
    pub id: Value,
    /// The task, with the rest of the row in `meta`.
    pub task: Task,
    /// The completion.
    pub completion: String,
    /// Whether the completion stopped at the token limit (`"truncated": true` or `"finish_reason": "length"`).
    pub truncated: bool,
    /// Tokens of the completion (`"tokens": 12`), where the row says it.
    pub tokens: Option<usize>,
}

impl CompletionRow {
    /// Reads `{"id", "completion", "reference", "prompt"?}`; the id is a string or a number, the prompt a string or a
    /// list of messages, and the reference may be absent.
    ///
    /// # Errors
    /// When the row is not an object, or a field is absent or of the wrong type.
    pub fn parse(row: Value) -> Result<Self, RowError> {
        let Value::Object(mut fields) = row else { return Err(RowError::NotAnObject) };
        let id = fields.shift_remove("id").ok_or(RowError::Missing("id"))?;
        let id_text = match &id {
            Value::String(s) => s.clone(),
            Value::Number(n) => n.to_string(),
            _ => return Err(RowError::WrongType { field: "id", expected: "a string or a number" }),
        };
        let completion = match fields.shift_remove("completion") {
            Some(Value::String(s)) => s,
            Some(_) => return Err(RowError::WrongType { field: "completion", expected: "a string" }),
            None => return Err(RowError::Missing("completion")),
        };
        let reference = fields.shift_remove("reference").unwrap_or(Value::Null);
        let prompt = match fields.shift_remove("prompt") {
            None | Some(Value::Null) => Vec::new(),
            Some(prompt) => prompt_messages(&prompt, "prompt").map_err(RowError::Prompt)?,
        };
        let truncated = fields.get("truncated") == Some(&Value::Bool(true))
            || fields.get("finish_reason").and_then(Value::as_str) == Some("length");
        let tokens = fields.get("tokens").and_then(Value::as_u64).map(|n| n as usize);
        let task = Task { id: id_text, prompt, reference, meta: fields, ..Task::default() };
        Ok(Self { id, task, completion, truncated, tokens })
    }

    /// The completion as a response.
    pub fn response(&self) -> Response<'_> {
        Response { text: &self.completion, truncated: self.truncated, tokens: self.tokens }
    }

    /// The output row: `{"id", "score", "verdict", "extracted", "reason", "method", "gold", "prediction", "parts"?}`.
    pub fn output(&self, outcome: &Outcome) -> Value {
        let mut out = Map::new();
        out.insert("id".into(), self.id.clone());
        out.insert("score".into(), json(&outcome.score));
        out.insert("verdict".into(), json(&outcome.verdict));
        out.insert("extracted".into(), json(&outcome.extracted));
        out.insert("reason".into(), json(&outcome.reason));
        out.insert("method".into(), json(&outcome.method));
        out.insert("gold".into(), json(&outcome.gold));
        out.insert("prediction".into(), json(&outcome.prediction));
        if !outcome.parts.is_empty() {
            out.insert("parts".into(), json(&outcome.parts));
        }
        Value::Object(out)
    }
}

/// Serialisation of plain structs of strings and finite numbers, which cannot fail.
fn json(value: &impl Serialize) -> Value {
    serde_json::to_value(value).unwrap_or(Value::Null)
}

/// Scores one row of `rlvr score`.
///
/// # Errors
/// When the row cannot be read; a bad reference or a broken reward is an outcome and no error.
pub fn score_row(reward: &dyn Reward, row: Value) -> Result<Value, RowError> {
    let row = CompletionRow::parse(row)?;
    let outcome = score_one(reward, &row.task, row.response());
    Ok(row.output(&outcome))
}

/// Scores rows as one batch: one result a row, same order.
pub fn score_rows(reward: &dyn Reward, rows: Vec<Value>) -> Vec<Result<Value, RowError>> {
    let rows: Vec<_> = rows.into_par_iter().map(CompletionRow::parse).collect();
    let items: Vec<_> = rows.iter().flatten().map(|row| (&row.task, row.response())).collect();
    let mut outcomes = score_batch(reward, &items).into_iter();
    let outcomes: Vec<_> = rows.iter().map(|row| row.is_ok().then(|| outcomes.next()).flatten()).collect();
    let output = |(row, outcome): (Result<CompletionRow, RowError>, Option<Outcome>)| {
        let row = row?;
        Ok(outcome.map_or(Value::Null, |outcome| row.output(&outcome)))
    };
    rows.into_par_iter().zip(outcomes).map(output).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::RewardConfig;
    use serde_json::json;

    #[test]
    fn a_row_in_a_row_out() {
        let reward = RewardConfig::from_kind("exact").unwrap().build().unwrap();
        let row = json!({"id": 7, "completion": "<answer>Paris</answer>", "reference": {"answer": "paris"}});
        let out = score_row(&*reward, row).unwrap();
        assert_eq!(out["id"], 7);
        assert_eq!(out["score"], 1.0);
        assert_eq!(out["verdict"], "correct");
        assert_eq!(out["extracted"], "Paris");
        let row = json!({"id": 7, "completion": "a b", "tokens": 12, "finish_reason": "length"});
        let row = CompletionRow::parse(row).unwrap();
        assert_eq!((row.response().tokens, row.response().truncated), (Some(12), true));
        let row = json!({"id": "a", "completion": "", "reference": {}, "prompt": "p"});
        let out = score_row(&*reward, row).unwrap();
        assert_eq!((&out["score"], &out["verdict"]), (&Value::Null, &json!("unverifiable")));
    }

    #[test]
    fn bad_rows_are_named() {
        let check = |row: Value, want: &str| {
            assert!(CompletionRow::parse(row).unwrap_err().to_string().contains(want), "{want}");
        };
        check(json!([]), "object");
        check(json!({"completion": ""}), "id");
        check(json!({"id": 1}), "completion");
        check(json!({"id": 1, "completion": 2}), "a string");
        check(json!({"id": 1, "completion": "", "prompt": 3}), "prompt");
    }
}

//! What a reward sees: a task with its reference, and a response to it.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::conversation::prompt_messages;
use crate::image::TaskImage;

pub use crate::conversation::Message;

/// One task: a prompt, and what a verifier needs to judge a response to it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Task {
    /// Unique within its source; appears in records and error messages.
    pub id: String,
    /// The prompt as messages. Verifiers do not need it; plugins and custom rewards may.
    #[serde(default)]
    pub prompt: Vec<Message>,
    /// The pictures in the places [`IMAGE_PLACE`](crate::IMAGE_PLACE) of the prompt, in their order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<TaskImage>,
    /// The reference: `{"answer": …}`, for a choice also `options` and `letters`.
    #[serde(default)]
    pub reference: Value,
    /// The data row as it stands, but for what the task has of it already; see [`Task::with_row`].
    #[serde(default)]
    pub meta: Map<String, Value>,
}

impl Task {
    /// A task without a prompt.
    pub fn new(id: impl Into<String>, reference: Value) -> Self {
        Self { id: id.into(), reference, ..Self::default() }
    }

    /// The same task with its data row as `meta`: every field but `id`, `prompt` and `reference` where they are the task's
    /// own. A prompt or a reference that was made from a field leaves the field in.
    #[must_use]
    pub fn with_row(mut self, mut row: Map<String, Value>) -> Self {
        let same_id = match row.get("id") {
            Some(Value::String(id)) => *id == self.id,
            Some(Value::Number(id)) => id.to_string() == self.id,
            _ => false,
        };
        // As it is read: text parts and keys that are null make no other prompt.
        let same_prompt = match row.get("prompt") {
            None => false,
            Some(Value::Null) => self.prompt.is_empty(),
            Some(prompt) => prompt_messages(prompt, "prompt").is_ok_and(|read| read == self.prompt),
        };
        let same_reference = row.get("reference") == Some(&self.reference);
        for (name, same) in [("id", same_id), ("prompt", same_prompt), ("reference", same_reference)] {
            if same {
                row.shift_remove(name);
            }
        }
        self.meta = row;
        self
    }

    /// The field `answer` of the reference as alternatives: a string, number or boolean gives one, an array of them
    /// several. A reference that is itself a string, number or array is taken as the answer. Empty when absent.
    pub fn answers(&self) -> Vec<String> {
        let answer = match &self.reference {
            Value::Object(fields) => fields.get("answer").unwrap_or(&Value::Null),
            other => other,
        };
        let plain = |v: &Value| match v {
            Value::String(s) => Some(s.clone()),
            Value::Number(n) => Some(n.to_string()),
            Value::Bool(b) => Some(if *b { "true" } else { "false" }.to_string()),
            _ => None,
        };
        match answer {
            Value::Array(items) => items.iter().filter_map(plain).collect(),
            other => plain(other).into_iter().collect(),
        }
    }
}

/// One completion, as text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Response<'a> {
    /// The completion without the prompt.
    pub text: &'a str,
    /// Whether generation stopped at the token limit and not by itself.
    pub truncated: bool,
    /// Tokens of the completion, where they are known.
    pub tokens: Option<usize>,
}

impl<'a> Response<'a> {
    /// A response that ended by itself.
    pub fn new(text: &'a str) -> Self {
        Self { text, truncated: false, tokens: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn meta_is_the_row_without_what_the_task_has() {
        let fields = |value: Value| value.as_object().cloned().unwrap();
        let row = fields(json!({
            "id": 7, "prompt": "2+2?", "reference": {"answer": "4"}, "answer": "4", "meta": {"subject": "sums"},
        }));
        let message = |content: &str| vec![Message { role: "user".into(), content: content.into() }];
        let task = Task { prompt: message("2+2?"), ..Task::new("7", json!({"answer": "4"})) };
        let meta = task.with_row(row.clone()).meta;
        assert_eq!(Value::Object(meta), json!({"answer": "4", "meta": {"subject": "sums"}}));
        // What was changed on the way is there as it was.
        let task = Task { prompt: message("What is 2+2?"), ..Task::new("sums-7", json!({"answer": 4})) };
        assert_eq!(task.with_row(row.clone()).meta, row);
        let conversation = json!([{"role": "user", "content": "2+2?"}]);
        let row = fields(json!({"prompt": conversation, "x": null}));
        let task = Task { prompt: message("2+2?"), ..Task::default() };
        assert_eq!(Value::Object(task.with_row(row).meta), json!({"x": null}));
        // However it is written, `rlvr score` has the same rest.
        for prompt in [
            json!(null),
            json!("q"),
            json!([{"role": "user", "content": "q", "name": null}]),
            json!([{"role": "user", "content": [{"type": "text", "text": "q"}]}]),
            json!([{"role": "system", "content": "q"}]),
        ] {
            let row = json!({"id": 7, "completion": "", "prompt": prompt, "x": 1});
            let read = crate::rows::CompletionRow::parse(row.clone()).unwrap().task;
            let mut fields = fields(row);
            fields.shift_remove("completion");
            assert_eq!(Task { meta: Map::new(), ..read.clone() }.with_row(fields), read);
        }
        let row = fields(json!({"prompt": "q"}));
        let task =
            Task { prompt: vec![Message { role: "system".into(), content: "q".into() }], ..Task::default() };
        assert_eq!(task.with_row(row.clone()).meta, row);
    }

    #[test]
    fn answers_come_from_every_shape() {
        let check = |reference: Value, want: &[&str]| {
            assert_eq!(Task::new("t", reference.clone()).answers(), want, "{reference}");
        };
        check(json!({"answer": "4"}), &["4"]);
        check(json!({"answer": 4}), &["4"]);
        check(json!({"answer": ["4", 5]}), &["4", "5"]);
        check(json!("4"), &["4"]);
        check(json!({}), &[]);
        check(Value::Null, &[]);
        check(json!({"answer": null}), &[]);
    }
}

//! What a reward sees: a task with its reference, and a response to it.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// One message of a prompt. It is read as [`crate::conversation()`] reads it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Value")]
pub struct Message {
    /// Who speaks: `system`, `user`, `assistant`.
    pub role: String,
    /// What is said.
    pub content: String,
}

impl TryFrom<Value> for Message {
    type Error = String;

    fn try_from(value: Value) -> Result<Self, String> {
        crate::conversation::message(&value, "message")
    }
}

/// One task: a prompt, and what a verifier needs to judge a response to it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Task {
    /// Unique within its source; appears in records and error messages.
    pub id: String,
    /// The prompt as messages. Verifiers do not need it; plugins and custom rewards may.
    #[serde(default)]
    pub prompt: Vec<Message>,
    /// The reference: `{"answer": …}`, for a choice also `options` and `letters`.
    #[serde(default)]
    pub reference: Value,
    /// Whatever else the data row holds.
    #[serde(default)]
    pub meta: Map<String, Value>,
}

impl Task {
    /// A task without a prompt.
    pub fn new(id: impl Into<String>, reference: Value) -> Self {
        Self { id: id.into(), reference, ..Self::default() }
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
}

impl<'a> Response<'a> {
    /// A response that ended by itself.
    pub fn new(text: &'a str) -> Self {
        Self { text, truncated: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

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

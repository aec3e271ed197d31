//! The fields of a request's JSON object, each of which is used, known to change nothing, or refused.

use super::refusal::Refusal;
use serde_json::{Map, Value};

/// Whether a value changes nothing.
type Neutral = fn(&Value) -> bool;

/// Fields that clients send, of which only values that change nothing are taken.
const NEUTRAL: [(&str, Neutral); 24] = [
    ("presence_penalty", |v| v.as_f64() == Some(0.0)),
    ("frequency_penalty", |v| v.as_f64() == Some(0.0)),
    ("repetition_penalty", |v| v.as_f64() == Some(1.0)),
    ("length_penalty", |v| v.as_f64() == Some(1.0)),
    ("logit_bias", |v| v.as_object().is_some_and(Map::is_empty)),
    ("suffix", |v| v.as_str() == Some("")),
    ("best_of", |v| v.as_u64() == Some(1)),
    ("min_tokens", |v| v.as_u64() == Some(0)),
    ("use_beam_search", |v| v.as_bool() == Some(false)),
    ("tools", |v| v.as_array().is_some_and(Vec::is_empty)),
    ("tool_choice", |v| v.as_str().is_some_and(|s| s == "none" || s == "auto")),
    ("parallel_tool_calls", Value::is_boolean),
    ("response_format", |v| v.get("type").and_then(Value::as_str) == Some("text")),
    ("modalities", |v| v.as_array().is_some_and(|m| m.iter().all(|m| m.as_str() == Some("text")))),
    ("detokenize", |v| v.as_bool() == Some(true)),
    ("add_generation_prompt", |v| v.as_bool() == Some(true)),
    ("add_special_tokens", Value::is_boolean),
    ("spaces_between_special_tokens", Value::is_boolean),
    ("service_tier", Value::is_string),
    ("user", Value::is_string),
    ("safety_identifier", Value::is_string),
    ("metadata", Value::is_object),
    ("store", Value::is_boolean),
    ("priority", Value::is_number),
];

/// The fields that have not been read yet; null is as good as absent.
pub(super) struct Fields(Map<String, Value>);

impl Fields {
    /// Of a request's body.
    pub(super) fn parse(body: &[u8]) -> Result<Self, Refusal> {
        let bad =
            |e: serde_json::Error| Refusal::new(400, format!("the body is no JSON that could be read: {e}"));
        match serde_json::from_slice(body).map_err(bad)? {
            Value::Object(map) => Ok(Self(map)),
            _ => Err(Refusal::new(400, "the body must be a JSON object")),
        }
    }

    pub(super) fn take(&mut self, name: &str) -> Option<Value> {
        self.0.remove(name).filter(|value| !value.is_null())
    }

    fn typed<T>(
        &mut self,
        name: &str,
        read: impl Fn(&Value) -> Option<T>,
        what: &str,
    ) -> Result<Option<T>, Refusal> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let wrong = || Refusal::field(name, format!("must be {what}, not {}", shown(&value)));
        read(&value).map(Some).ok_or_else(wrong)
    }

    pub(super) fn number(&mut self, name: &str) -> Result<Option<f64>, Refusal> {
        self.typed(name, Value::as_f64, "a number")
    }

    /// A whole number from 0 on.
    pub(super) fn count(&mut self, name: &str) -> Result<Option<usize>, Refusal> {
        self.typed(name, |v| usize::try_from(v.as_u64()?).ok(), "a whole number from 0 on")
    }

    pub(super) fn whole(&mut self, name: &str) -> Result<Option<i64>, Refusal> {
        self.typed(name, Value::as_i64, "a whole number")
    }

    pub(super) fn flag(&mut self, name: &str) -> Result<bool, Refusal> {
        Ok(self.typed(name, Value::as_bool, "true or false")?.unwrap_or(false))
    }

    pub(super) fn text(&mut self, name: &str) -> Result<Option<String>, Refusal> {
        self.typed(name, |v| v.as_str().map(str::to_owned), "text")
    }

    /// Nothing may be left but what changes nothing.
    pub(super) fn nothing_else(self) -> Result<(), Refusal> {
        for (name, value) in self.0.iter().filter(|(_, value)| !value.is_null()) {
            match NEUTRAL.iter().find(|(known, _)| known == name) {
                Some((_, changes_nothing)) if changes_nothing(value) => {}
                Some(_) => {
                    return Err(Refusal::field(
                        name,
                        format!("{} is not supported: leave it out", shown(value)),
                    ));
                }
                None => {
                    let name: String = name.chars().take(40).collect();
                    return Err(Refusal::field(&name, "is not a field of such a request"));
                }
            }
        }
        Ok(())
    }
}

/// A value in a message, cut where it is long.
pub(super) fn shown(value: &Value) -> String {
    let text = match value {
        Value::Array(_) => return "a list".into(),
        Value::Object(_) => return "an object".into(),
        other => other.to_string(),
    };
    if text.chars().count() <= 60 { text } else { text.chars().take(60).chain(['…']).collect() }
}

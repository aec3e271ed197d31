//! `json_schema`: the last JSON object or array of the response is valid against a JSON Schema.
//!
//! The schema stands in the settings (`schema`) or, before them, in `reference.schema`. The value is the last one that
//! parses among the fenced blocks and bare objects or arrays after think; one within another is part of it. Text around it
//! is allowed unless `strict`. Drafts 4 to 2020-12 by `$schema`, the newest without one. Nothing is ever loaded: a `$ref`
//! outside of the schema is an error of the task. Patterns are matched in linear time, so look-around and
//! back-references are errors, too.
//!
//! Accepts `Here: {"a": 1}` for `{"required": ["a"]}`; refuses `{"a": 1` (no value), `{"b": 1}` (invalid), an empty
//! response (`no_answer`). The schema `{}` accepts every value: write `type`, `required`, `additionalProperties`.

use jsonschema::{PatternOptions, Validator};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::config::ConfigError;
use crate::extract::{self, Think};
use crate::reward::{Outcome, Reward, RewardError, TaskError, Verdict};
use crate::task::{Response, Task};
use crate::token_f1::body;

/// Places where a value is tried and does not parse.
const MAX_FAILURES: usize = 128;

/// Settings of the `json_schema` reward.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct JsonSchemaConfig {
    /// The schema; `reference.schema` goes before it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schema: Option<Value>,
    /// The response is the value and nothing else (a code fence aside). Default false.
    pub strict: bool,
    /// Think tags. Default `strip`.
    pub think: Think,
}

/// The `json_schema` reward.
pub struct JsonSchema {
    config: JsonSchemaConfig,
    own: Option<Validator>,
}

fn compile(schema: &Value) -> Result<Validator, String> {
    jsonschema::options()
        .with_pattern_options(PatternOptions::regex())
        .build(schema)
        .map_err(|e| e.to_string())
}

/// The last JSON object or array in `text`, outermost, with its place.
pub(crate) fn last_value(text: &str) -> Option<(Value, usize, usize)> {
    let mut last = None;
    let mut from = 0;
    let mut failures = 0;
    while let Some(at) = text[from..].find(['{', '[']).map(|i| from + i) {
        let mut values = serde_json::Deserializer::from_str(&text[at..]).into_iter::<Value>();
        if let Some(Ok(value)) = values.next() {
            let end = at + values.byte_offset();
            last = Some((value, at, end));
            from = end;
        } else {
            failures += 1;
            from = at + 1;
            if failures > MAX_FAILURES {
                break;
            }
        }
    }
    last
}

impl JsonSchema {
    /// Checks the settings.
    ///
    /// # Errors
    /// When the schema is none.
    pub fn new(config: JsonSchemaConfig) -> Result<Self, ConfigError> {
        let own = (config.schema.as_ref().map(compile).transpose())
            .map_err(|reason| ConfigError::Invalid { kind: "json_schema", reason })?;
        Ok(Self { config, own })
    }

    fn check(&self, task: &Task, value: Option<&Value>) -> Result<Option<String>, TaskError> {
        let made;
        let validator = match (task.reference.get("schema"), &self.own) {
            (Some(schema), _) => {
                made = compile(schema).map_err(|reason| TaskError::BadGold {
                    reward: "json_schema".into(),
                    gold: schema.to_string().chars().take(200).collect(),
                    reason,
                })?;
                &made
            }
            (None, Some(own)) => own,
            (None, None) => {
                return Err(TaskError::MissingField { reward: "json_schema".into(), field: "schema" });
            }
        };
        let problem = value.and_then(|v| validator.iter_errors(v).next().map(|e| e.to_string()));
        Ok(problem.map(|p| p.chars().take(300).collect()))
    }
}

impl Reward for JsonSchema {
    fn name(&self) -> &str {
        "json_schema"
    }

    fn score(&self, task: &Task, response: Response<'_>) -> Result<Outcome, RewardError> {
        let work = response.text.len() as u64;
        if let Err(error) = self.check(task, None) {
            return Ok(Outcome::of(Verdict::Unverifiable, "json_schema", error.to_string()));
        }
        let text = match body(response.text, self.config.think, "json_schema") {
            Ok(text) => text,
            // "{}" has no letter and is a value all the same.
            Err(outcome) => {
                match extract::strip_think(response.text, self.config.think == Think::RequireClosed) {
                    Ok(text) if text.len() <= 64 => text,
                    _ => return Ok(*outcome),
                }
            }
        };
        let Some((value, start, end)) = last_value(text) else {
            return Ok(
                Outcome::of(Verdict::NoAnswer, "json_schema", "no JSON object or array").with_work(work)
            );
        };
        let around = format!("{}{}", text[..start].trim(), text[end..].trim());
        let bare = matches!(&*around.to_ascii_lowercase(), "" | "``````" | "```json```" | "```json\n```");
        let shown: String = text[start..end].chars().take(1000).collect();
        let outcome = match self.check(task, Some(&value)) {
            Err(error) => Outcome::of(Verdict::Unverifiable, "json_schema", error.to_string()),
            Ok(Some(problem)) => Outcome::of(Verdict::Incorrect, "json_schema", problem),
            Ok(None) if self.config.strict && !bare => {
                Outcome::of(Verdict::Incorrect, "json_schema", "text around the value")
            }
            Ok(None) => Outcome::of(Verdict::Correct, "json_schema", "valid"),
        };
        Ok(outcome.with_extracted(shown).with_work(work))
    }

    fn check_task(&self, task: &Task) -> Result<(), TaskError> {
        self.check(task, None).map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reward::score_one;
    use serde_json::json;

    #[test]
    fn values_and_schemas() {
        let schema = json!({"type": "object", "required": ["a"], "properties": {"a": {"type": "integer"}}});
        let reward =
            JsonSchema::new(JsonSchemaConfig { schema: Some(schema), ..JsonSchemaConfig::default() })
                .unwrap();
        let check = |text: &str, want: Verdict| {
            let outcome = score_one(&reward, &Task::default(), Response::new(text));
            assert_eq!(outcome.verdict, want, "{text:?} {}", outcome.reason);
        };
        check("{\"a\": 1}", Verdict::Correct);
        check("Here it is:\n```json\n{\"a\": 1, \"b\": {\"a\": \"x\"}}\n```\nDone.", Verdict::Correct);
        check("{\"a\": 1} no, {\"a\": \"x\"}", Verdict::Incorrect);
        check("{\"b\": 1}", Verdict::Incorrect);
        check("{}", Verdict::Incorrect);
        check("{\"a\": 1", Verdict::NoAnswer);
        check("", Verdict::NoAnswer);
        check("<think>{\"a\": 1}</think> no", Verdict::NoAnswer);
        check(&"{".repeat(100_000), Verdict::NoAnswer);
        check(&"[".repeat(100_000), Verdict::NoAnswer);
    }

    #[test]
    fn schemas_load_nothing_and_bad_ones_are_errors() {
        let reward = JsonSchema::new(JsonSchemaConfig::default()).unwrap();
        let check = |reference: Value| {
            let task = Task::new("t", reference);
            assert!(reward.check_task(&task).is_err());
            assert_eq!(score_one(&reward, &task, Response::new("{}")).verdict, Verdict::Unverifiable);
        };
        check(json!({}));
        check(json!({"schema": {"type": 3}}));
        check(json!({"schema": {"$ref": "https://example.org/a.json"}}));
        check(json!({"schema": {"$ref": "file:///etc/passwd"}}));
        check(json!({"schema": {"pattern": "(?=a)b"}}));
    }
}

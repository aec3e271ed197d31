//! `json_schema`: the JSON value that the response gives is valid against a JSON Schema.
//!
//! The schema stands in the settings (`schema`) or, before them, in `reference.schema`. The value is the last object or
//! array after think that stands by itself, in a fence or alone on its lines or at the end of one behind a colon; without
//! one the last within a sentence. One within another is part of it, and a citation `[1]` or the `[]` of a remark is none;
//! a value that does not parse, or that is cut off, is no answer. Text around it is allowed unless `strict`. Drafts 4 to
//! 2020-12 by `$schema`, the newest without one. Nothing is ever loaded: a `$ref` outside of the schema is an error of the
//! task. Patterns are matched in linear time, so look-around and back-references are errors, too.
//!
//! Validation is bounded for every schema and value: each look at a part of the value is a step, and a value that takes more
//! than [`MAX_STEPS`] of them is `incorrect` for that reason. With an ordinary schema that is more than a megabyte; with a
//! recursive one whose branches all recurse it can be a few hundred bytes. The reason of an invalid value is the first
//! problem, or just that it is invalid where finding the first takes too long.
//!
//! Accepts `Here: {"a": 1}` for `{"required": ["a"]}`; refuses `{"a": 1` (no value), `{"b": 1}` (invalid), an empty
//! response (`no_answer`). The schema `{}` accepts every value: write `type`, `required`, `additionalProperties`.

mod counted;
mod digits;
mod pick;

use std::sync::LazyLock;

use jsonschema::{PatternOptions, Validator};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::answer::extract::{self, Think};
use crate::error::ConfigError;
use crate::judges::pattern::positions_of;
use crate::judges::token_f1::body;
use crate::reward::{Outcome, Reward, RewardError, TaskError, Verdict};
use crate::task::{Response, Task};

use counted::{Counted, CountedJson, within};

/// Longest response that is read as one value, in bytes.
const WHOLE_BYTES: usize = 1 << 20;
/// Steps that judging one value may take.
pub const MAX_STEPS: u64 = 2_000_000;
/// Steps that finding the first problem may take, beside those: errors need memory.
const REASON_STEPS: u64 = 20_000;
/// Bytes of one compiled pattern, and of all those of a schema.
const PATTERN_BYTES: usize = 10 << 20;
const PATTERNS_BYTES: usize = 64 << 20;
/// Objects of a schema.
const MAX_SIZE: usize = 100_000;
/// Bytes of stack that one validator inside of another takes, generously.
const FRAME_BYTES: usize = 1024;
/// Bytes of stack that are used without asking, and on a thread of its own where that may be too few.
const STACK: usize = 512 << 10;
const LARGE_STACK: usize = 256 << 20;
/// Longest text that may have the format `regex`.
const FORMAT_BYTES: usize = 1024;

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
    own: Option<Schema>,
}

/// A compiled schema.
struct Schema {
    validator: Validator<CountedJson>,
    /// What sixteen bytes of a text cost: they may be matched with the largest pattern.
    weight: u64,
    /// Objects in the schema: so many validators may be inside of each other for one part of a value.
    size: usize,
}

/// What judging a value found.
enum Found {
    Valid,
    Invalid(String),
}

impl Schema {
    fn compile(schema: &Value) -> Result<Self, String> {
        let mut schema = schema.clone();
        digits::restore(&mut schema);
        let schema = &schema;
        let mut patterns = Vec::new();
        let size = collect_patterns(schema, &mut patterns);
        if size > MAX_SIZE {
            return Err(format!("the schema has more than {MAX_SIZE} objects"));
        }
        let bytes = (PATTERNS_BYTES / patterns.len().max(1)).min(PATTERN_BYTES);
        let build = || {
            let options = jsonschema::options_for::<CountedJson>()
                .with_pattern_options(PatternOptions::regex().size_limit(bytes))
                .with_format("regex", is_pattern);
            options.build(schema).map_err(|e| e.to_string())
        };
        let validator = with_stack(size * FRAME_BYTES, |_| build())?;
        let weight = patterns.iter().map(|p| positions_of(p)).max().unwrap_or(1).max(1);
        Ok(Self { validator, weight, size })
    }

    /// Judges `value`; the number is that of the steps.
    fn judge(&self, value: &Value) -> (Found, u64) {
        let wanted = depth_of(value).saturating_mul(self.size).saturating_mul(FRAME_BYTES);
        with_stack(wanted, |stack| self.judge_within(value, stack))
    }

    fn judge_within(&self, value: &Value, stack: usize) -> (Found, u64) {
        let validator = &self.validator;
        match within(MAX_STEPS, self.weight, stack, || validator.is_valid(Counted(value))) {
            Some((true, steps)) => (Found::Valid, steps),
            None => {
                let reason =
                    format!("judging the value takes more than {MAX_STEPS} steps, or nests too deeply");
                (Found::Invalid(reason), MAX_STEPS)
            }
            Some((false, steps)) => {
                let first = within(REASON_STEPS, self.weight, stack, || {
                    validator.validate(Counted(value)).err().map(|e| e.to_string())
                });
                let reason =
                    first.and_then(|(reason, _)| reason).unwrap_or_else(|| "the value is invalid".into());
                (Found::Invalid(reason.chars().take(300).collect()), steps)
            }
        }
    }
}

/// Does `work` with the bytes of stack that it may use: here where little is wanted, otherwise on a thread with much.
fn with_stack<T: Send>(wanted: usize, work: impl Fn(usize) -> T + Sync) -> T {
    if wanted > STACK {
        let joined = std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().stack_size(LARGE_STACK + STACK);
            thread.spawn_scoped(scope, || work(LARGE_STACK)).ok().map(|thread| thread.join())
        });
        match joined {
            Some(Ok(result)) => return result,
            Some(Err(panic)) => std::panic::resume_unwind(panic),
            // Without another thread the work ends where the stack here does.
            None => {}
        }
    }
    work(STACK)
}

/// How deep arrays and objects are inside of each other.
fn depth_of(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth_of).max().unwrap_or(0),
        Value::Object(members) => 1 + members.values().map(depth_of).max().unwrap_or(0),
        _ => 1,
    }
}

/// Everything in `schema` that may be a pattern; gives the number of its objects.
fn collect_patterns<'a>(schema: &'a Value, found: &mut Vec<&'a str>) -> usize {
    match schema {
        Value::Array(items) => items.iter().map(|item| collect_patterns(item, found)).sum(),
        Value::Object(members) => {
            let mut size = 1;
            for (name, member) in members {
                match (&**name, member) {
                    ("pattern", Value::String(pattern)) => found.push(pattern),
                    ("patternProperties", Value::Object(patterns)) => {
                        found.extend(patterns.keys().map(String::as_str));
                    }
                    _ => {}
                }
                size += collect_patterns(member, found);
            }
            size
        }
        _ => 0,
    }
}

/// The format `regex`. The check of the library reads a text again for each escape of some kind, so only short ones count.
fn is_pattern(text: &str) -> bool {
    static CHECK: LazyLock<Option<Validator>> = LazyLock::new(|| {
        jsonschema::options().should_validate_formats(true).build(&json!({"format": "regex"})).ok()
    });
    text.len() <= FORMAT_BYTES
        && CHECK.as_ref().is_some_and(|check| check.is_valid(&Value::String(text.into())))
}

impl JsonSchema {
    /// Checks the settings.
    ///
    /// # Errors
    /// When the schema is none.
    pub fn new(config: JsonSchemaConfig) -> Result<Self, ConfigError> {
        let own = (config.schema.as_ref().map(Schema::compile).transpose())
            .map_err(|reason| ConfigError::Invalid { kind: "json_schema", reason })?;
        Ok(Self { config, own })
    }

    /// Does `work` with the schema of `task`.
    fn with_schema<T>(&self, task: &Task, work: impl FnOnce(&Schema) -> T) -> Result<T, TaskError> {
        match (task.reference.get("schema"), &self.own) {
            (Some(schema), _) => match Schema::compile(schema) {
                Ok(made) => Ok(work(&made)),
                Err(reason) => Err(TaskError::BadGold {
                    reward: "json_schema".into(),
                    gold: schema.to_string().chars().take(200).collect(),
                    reason,
                }),
            },
            (None, Some(own)) => Ok(work(own)),
            (None, None) => Err(TaskError::MissingField { reward: "json_schema".into(), field: "schema" }),
        }
    }

    /// Judges a response with the schema of its task.
    fn judge(&self, schema: &Schema, response: Response<'_>) -> Outcome {
        let work = response.text.len() as u64;
        let text = match body(response.text, self.config.think, "json_schema") {
            Ok(text) => text,
            // "{}" has no letter and is a value all the same.
            Err(outcome) => {
                match extract::strip_think(response.text, self.config.think == Think::RequireClosed) {
                    Ok(text) if text.len() <= 64 => text,
                    _ => return *outcome,
                }
            }
        };
        // Of a long response the end is read, unless it is one value, or its last fenced block is one.
        let whole = extract::strip_think(response.text, false).map_or(text, str::trim);
        let is_long = whole.len() > extract::INPUT_BYTES;
        let parses = |text: &str| {
            text.len() <= WHOLE_BYTES && serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()
        };
        let (whole, is_alone) = match is_long && !parses(whole) {
            true => last_block(whole).filter(|(block, _)| parses(block)).unwrap_or((whole, true)),
            false => (whole, true),
        };
        let is_value = is_long && parses(whole);
        let text = if is_value { whole } else { text };
        let Some(pick::Found { value, start, end }) = pick::given(text, is_long && !is_value) else {
            return Outcome::of(Verdict::NoAnswer, "json_schema", "no JSON object or array").with_work(work);
        };
        let shown: String = text[start..end].chars().take(1000).collect();
        let Some(value) = value else {
            return Outcome::of(Verdict::NoAnswer, "json_schema", "the last value does not parse")
                .with_extracted(shown)
                .with_work(work);
        };
        let around = format!("{}{}", text[..start].trim(), text[end..].trim());
        let bare = is_alone
            && matches!(&*around.to_ascii_lowercase(), "" | "``````" | "```json```" | "```json\n```");
        let (found, steps) = schema.judge(&value);
        let outcome = match found {
            Found::Invalid(problem) => Outcome::of(Verdict::Incorrect, "json_schema", problem),
            Found::Valid if self.config.strict && !bare => {
                Outcome::of(Verdict::Incorrect, "json_schema", "text around the value")
            }
            Found::Valid => Outcome::of(Verdict::Correct, "json_schema", "valid"),
        };
        outcome.with_extracted(shown).with_work(work + steps)
    }
}

/// The content of the last fenced block of a text with no value behind it, and whether the text is nothing else.
fn last_block(text: &str) -> Option<(&str, bool)> {
    let (before, after) = text.rsplit_once("\n```")?;
    if after.contains(['{', '[', '`']) {
        return None;
    }
    let start = before.rfind("\n```").map(|at| at + 1).or_else(|| before.starts_with("```").then_some(0))?;
    let (_, block) = before[start..].split_once('\n')?;
    Some((block.trim(), start == 0 && after.trim().is_empty()))
}

impl Reward for JsonSchema {
    fn name(&self) -> &str {
        "json_schema"
    }

    fn score(&self, task: &Task, response: Response<'_>) -> Result<Outcome, RewardError> {
        Ok((self.with_schema(task, |schema| self.judge(schema, response)))
            .unwrap_or_else(|error| Outcome::of(Verdict::Unverifiable, "json_schema", error.to_string())))
    }

    fn check_task(&self, task: &Task) -> Result<(), TaskError> {
        self.with_schema(task, |_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reward::score_one;

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
        let long = format!("{{\"a\": 1, \"b\": [{}0]}}", "0, ".repeat(60_000));
        check(&format!("```json\n{long}\n```"), Verdict::Correct);
        check(&format!("Here it is:\n```\n{long}\n```\nDone."), Verdict::Correct);
        check(&format!("```json\n{}\n```", long.replace("\"a\"", "\"c\"")), Verdict::Incorrect);
        check(&format!("```json\n{long}"), Verdict::NoAnswer);
        check("{\"a\": 1} no, {\"a\": \"x\"}", Verdict::Incorrect);
        check("{\"b\": 1}", Verdict::Incorrect);
        check("{}", Verdict::Incorrect);
        check("{\"a\": 1", Verdict::NoAnswer);
        check("", Verdict::NoAnswer);
        check("<think>{\"a\": 1}</think> no", Verdict::NoAnswer);
        // What stands by itself is given, and what a sentence only mentions is not.
        check("```json\n{\"a\": 1}\n```\nNote: use [] for empty lists.", Verdict::Correct);
        check("```json\n{\"a\": 1}\n```\nAs said in [1] and [2, 3].\n\n[1] A book, 2020.", Verdict::Correct);
        check(
            "```json\n{\"a\": 1}\n```\nThe field is a number, e.g. {\"a\": \"x\"} is wrong.",
            Verdict::Correct,
        );
        check("{\"a\": 1}\n\nDo not write {\"a\": \"1\"}.", Verdict::Correct);
        check("The object is {\"a\": 1} [1].", Verdict::Correct);
        check("<answer>{\"a\": 1}</answer>", Verdict::Correct);
        check("It is `{\"a\": 1}`.", Verdict::Correct);
        check("```json\n{\"a\": 1}\n```\nCorrected: {\"a\": \"x\"}", Verdict::Incorrect);
        check("```json\n{\"a\": 1}\n```\nSorry, the final object is {\"a\": \"x\"}.", Verdict::Incorrect);
        check("```json\n{\"a\": 1}\n```\nBetter:\n```json\n{\"a\": \"x\"}\n```", Verdict::Incorrect);
        check("Input:\n{\"a\": 1}\nOutput:\n[1, 2]", Verdict::Incorrect);
        check("42", Verdict::Incorrect);
        // A part of a broken value is not the value.
        check("{\"x\": {\"a\": 1}, \"y\": ", Verdict::NoAnswer);
        check("{\"x\": {\"a\": 1},}", Verdict::NoAnswer);
        check("{'x': {\"a\": 1}}", Verdict::NoAnswer);
        check("[{\"a\": 1}, {\"a\": 2}, ...]", Verdict::NoAnswer);
        check("{\"a\": 1}\n```json\n{\"a\": [1, ", Verdict::NoAnswer);
        check("Braces { } are fine: {\"a\": 1}", Verdict::Correct);
        check(&"{".repeat(100_000), Verdict::NoAnswer);
        check(&"[".repeat(100_000), Verdict::NoAnswer);
    }

    #[test]
    fn no_part_of_a_long_value_is_taken_for_the_whole() {
        let judge = |kind: &str, text: &str| {
            let schema = Some(json!({"type": kind}));
            let reward = JsonSchema::new(JsonSchemaConfig { schema, ..JsonSchemaConfig::default() }).unwrap();
            score_one(&reward, &Task::new("t", json!({})), Response::new(text)).verdict
        };
        let items: Vec<Value> = (0..12_000).map(|i| json!({"a": i})).collect();
        let (close, pretty) = (json!(items).to_string(), serde_json::to_string_pretty(&items).unwrap());
        for list in [&close, &pretty] {
            assert!(list.len() > extract::INPUT_BYTES);
            assert_eq!(judge("array", list), Verdict::Correct);
            assert_eq!(judge("object", list), Verdict::Incorrect);
            assert_eq!(judge("object", &format!("Here is it: {list}")), Verdict::NoAnswer);
        }
        let reasoned = format!("{}\n```json\n{{\"a\": 1}}\n```", "We think. ".repeat(10_000));
        assert_eq!(judge("object", &reasoned), Verdict::Correct);
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

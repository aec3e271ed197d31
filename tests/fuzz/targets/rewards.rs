//! Fuzz targets of the verifiers: whatever the bytes, a verdict comes without a panic, in bounded work.

use rlvr_rewards::plugin::protocol;
use rlvr_rewards::{Outcome, Response, RewardConfig, Task, Verdict, score_one};
use serde_json::{Value, json};

/// Work of one score that no input may pass: 64 KiB of text, twice the budget of arithmetic of a comparison and its items.
const MAX_WORK: u64 = 60_000;

/// The first line is one text, the rest another.
fn two_texts(data: &[u8]) -> (String, String) {
    let text = String::from_utf8_lossy(data);
    let (first, rest) = text.split_once('\n').unwrap_or((&text, &text));
    (first.into(), rest.into())
}

fn score(kind: &str, reference: Value, completion: &str) -> Outcome {
    score_with(json!({ "kind": kind }), reference, completion)
}

fn score_with(config: Value, reference: Value, completion: &str) -> Outcome {
    let config: RewardConfig = serde_json::from_value(config).expect("the settings of a reward");
    let kind = format!("{config:?}");
    let reward = config.build().expect("a reward");
    let outcome = score_one(&*reward, &Task::new("t", reference), Response::new(completion));
    assert!(outcome.verdict != Verdict::Error, "{kind}: {}", outcome.reason);
    assert!(outcome.work <= MAX_WORK, "{kind}: work {}", outcome.work);
    outcome
}

/// A reference against a completion, and a reference against itself in a box.
pub fn math(data: &[u8]) {
    let (gold, completion) = two_texts(data);
    score("math", json!({ "answer": gold }), &completion);
    score("math", json!({ "answer": gold }), &format!("\\boxed{{{gold}}}"));
}

/// Every way of finding an answer in a completion.
pub fn extraction(data: &[u8]) {
    let (gold, completion) = two_texts(data);
    for kind in ["numeric", "exact", "any_of"] {
        let gold = if kind == "numeric" { "42" } else { &gold };
        score(kind, json!({ "answer": gold }), &completion);
    }
    score("yes_no", json!({"answer": "yes"}), &completion);
    score("yes_no_maybe", json!({"answer": "maybe"}), &completion);
    let lenient = |kind: &str, reference: Value| {
        score_with(json!({"kind": kind, "extract": "lenient"}), reference, &completion);
    };
    lenient("math", json!({ "answer": gold }));
    lenient("numeric", json!({"answer": "42"}));
    lenient("yes_no", json!({"answer": "yes"}));
    lenient("choice", json!({"answer": "B", "options": ["4", gold, "the answer", "none of these"]}));
    for opened in [false, true] {
        score_with(
            json!({"kind": "format", "style": "think", "think_opened": opened}),
            json!({}),
            &completion,
        );
    }
    score("language", json!({"language": "ru"}), &completion);
    let sentences = json!([{"id": "length_constraints:number_sentences", "kwargs": {"num_sentences": 2}}]);
    score("instructions", json!({ "instructions": sentences }), &completion);
}

/// Four options, one of them from the input.
pub fn choice(data: &[u8]) {
    let (option, completion) = two_texts(data);
    score(
        "choice",
        json!({"answer": "B", "options": ["4", option, "the answer", "none of these"]}),
        &completion,
    );
}

/// A recursive schema with alternatives, and a schema from the input.
pub fn json_schema(data: &[u8]) {
    let (schema, completion) = two_texts(data);
    let node = json!({"anyOf": [
        {"type": "number"},
        {"type": "array", "items": {"$ref": "#/$defs/node"}},
        {"type": "object", "additionalProperties": {"$ref": "#/$defs/node"}},
    ]});
    score("json_schema", json!({"schema": {"$defs": {"node": node}, "$ref": "#/$defs/node"}}), &completion);
    if let Ok(schema @ (Value::Object(_) | Value::Bool(_))) = serde_json::from_str(&schema) {
        let reward = RewardConfig::from_kind("json_schema").expect("a kind").build().expect("a reward");
        score_one(&*reward, &Task::new("t", json!({ "schema": schema })), Response::new(&completion));
    }
}

/// The lines that a plugin may send: a greeting, and the results of a batch of three.
pub fn plugin_protocol(data: &[u8]) {
    let _ = protocol::greeting(data);
    if let Ok(outcomes) = protocol::results(data, 7, 3, Some([0.0, 1.0])) {
        assert_eq!(outcomes.len(), 3);
        assert!(outcomes.iter().all(|o| o.score.is_none_or(f64::is_finite)));
    }
}

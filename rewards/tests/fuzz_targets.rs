//! The fuzz targets on seeded random changes of real inputs; `tests/fuzz/targets/seeded.rs` says how to run more.

#[path = "../../tests/fuzz/targets/seeded.rs"]
mod seeded;
#[path = "../../tests/fuzz/targets/rewards.rs"]
mod targets;

use serde_json::Value;

/// Golds (or first options) and completions of a corpus, a gold in the first line.
fn corpus(rows: &str) -> Vec<Vec<u8>> {
    rows.lines()
        .filter_map(|l| serde_json::from_str::<Value>(l).ok())
        .map(|row| {
            let gold = match (&row["gold"], &row["reference"]["options"][0]) {
                (Value::String(gold), _) | (_, Value::String(gold)) => gold.clone(),
                (gold, _) => gold.to_string(),
            };
            format!("{gold}\n{}", row["completion"].as_str().unwrap_or_default()).into_bytes()
        })
        .collect()
}

fn math_rows() -> Vec<Vec<u8>> {
    corpus(include_str!("corpus/math.jsonl"))
}

#[test]
fn math() {
    seeded::run("math", &math_rows(), targets::math);
}

#[test]
fn extraction() {
    seeded::run("extraction", &math_rows(), targets::extraction);
}

#[test]
fn choice() {
    seeded::run("choice", &corpus(include_str!("corpus/choice.jsonl")), targets::choice);
}

#[test]
fn json_schema() {
    let seeds = [
        "{\"type\": \"object\", \"properties\": {\"a\": {\"type\": \"integer\"}}, \"required\": [\"a\"]}\n{\"a\": 12}",
        "{\"$ref\": \"#/$defs/n\", \"$defs\": {\"n\": {\"anyOf\": [{\"items\": {\"$ref\": \"#/$defs/n\"}}, {}]}}}\n[[[[1]]]]",
        "{\"pattern\": \"^(a+)+$\", \"uniqueItems\": true, \"maxItems\": 3}\n```json\n[[], {\"b\": [1.5e3, null]}, \"aaaa\"]\n```",
        "true\n{\"a\": {\"b\": {\"c\": [1, 2, {\"d\": true}]}}}",
    ];
    seeded::run("json_schema", &seeds.map(|s| s.as_bytes().to_vec()), targets::json_schema);
}

#[test]
fn plugin_protocol() {
    let seeds = [
        r#"{"type":"hello","protocol":1,"name":"n","version":"1","capabilities":["batch","group","deterministic"]}"#,
        r#"{"type":"result","batch":7,"items":[{"i":0,"score":1.0},{"i":2,"score":0.5,"verdict":"partial"},{"i":1,"verdict":"incorrect","reason":"no","extracted":"x"}]}"#,
        r#"{"type":"result","batch":7,"items":[{"i":0,"score":1.0,"parts":{"a":1}},{"i":1,"score":null,"verdict":"unverifiable"},{"i":2,"score":-3e-5}]}"#,
    ];
    seeded::run("plugin_protocol", &seeds.map(|s| s.as_bytes().to_vec()), targets::plugin_protocol);
}

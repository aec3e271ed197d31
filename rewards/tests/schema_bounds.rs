//! `json_schema` takes bounded steps and memory for every schema and every value, and judges ordinary ones all the same.

#![allow(clippy::unwrap_used)]

use rlvr_rewards::json_schema::MAX_STEPS;
use rlvr_rewards::{Outcome, Response, RewardConfig, Task, Verdict, score_one};
use serde_json::{Map, Value, json};

fn judge(schema: Value, text: &str) -> Outcome {
    let reward = RewardConfig::from_kind("json_schema").unwrap().build().unwrap();
    score_one(&*reward, &Task::new("t", json!({ "schema": schema })), Response::new(text))
}

/// `inner` inside of `n` pairs of `open` and `close`.
fn nested(n: usize, open: &str, inner: &str, close: &str) -> String {
    format!("{}{inner}{}", open.repeat(n), close.repeat(n))
}

/// An expression of numbers and operators, as schemas of such things are usually written.
fn expressions() -> Value {
    let binary = |name: &str| {
        let sub = json!({"$ref": "#/$defs/e"});
        json!({"type": "object", "properties": {"op": {"const": name}, "l": sub, "r": sub}, "required": ["op", "l", "r"]})
    };
    json!({"$ref": "#/$defs/e", "$defs": {"e": {"anyOf": [
        {"type": "number"}, binary("add"), binary("sub"), binary("mul"), binary("div"),
    ]}}})
}

/// Schemas that are expensive in different ways, each with a value that makes them so.
fn expensive() -> Vec<(&'static str, Value, String)> {
    let recursive = |body: Value| json!({"$ref": "#/$defs/t", "$defs": {"t": body}});
    let again = json!({"$ref": "#/$defs/t"});
    let mut doubling = Map::new();
    for i in 0..60 {
        let next = json!({"$ref": format!("#/$defs/a{}", i + 1)});
        doubling.insert(format!("a{i}"), json!({"allOf": [next, next]}));
    }
    doubling.insert("a60".into(), json!({"type": "object"}));
    let draft7 = "http://json-schema.org/draft-07/schema#";
    vec![
        ("any of", expressions(), nested(16, "{\"op\":\"x\",\"l\":1,\"r\":", "\"x\"", "}")),
        (
            "one of",
            recursive(json!({"oneOf": [
                {"properties": {"a": again}, "required": ["a"]},
                {"properties": {"a": again, "b": {}}, "required": ["a"]},
                {"additionalProperties": again},
                {"type": "string"},
            ]})),
            nested(100, "{\"a\":", "1", "}"),
        ),
        (
            "all of",
            recursive(
                json!({"allOf": [{"properties": {"a": again}}, {"additionalProperties": again}], "type": "object"}),
            ),
            nested(100, "{\"a\":", "1", "}"),
        ),
        (
            "conditions",
            recursive(json!({
                "if": {"properties": {"a": again}}, "then": {"properties": {"a": again}},
                "else": {"properties": {"a": {"not": again}}}, "type": "object",
            })),
            nested(100, "{\"a\":", "1", "}"),
        ),
        (
            "unevaluated properties",
            recursive(json!({
                "anyOf": [{"properties": {"a": again}}, {"properties": {"b": again}}, {"properties": {"c": again}}],
                "unevaluatedProperties": false, "type": "object",
            })),
            nested(60, "{\"a\":{},\"b\":", "{}", "}"),
        ),
        (
            "dynamic references",
            json!({"$schema": "https://json-schema.org/draft/2020-12/schema", "$dynamicAnchor": "n", "anyOf": [
                {"type": "number"},
                {"properties": {"a": {"$dynamicRef": "#n"}, "b": {"$dynamicRef": "#n"}}, "required": ["a"]},
                {"properties": {"a": {"$dynamicRef": "#n"}}, "required": ["z"]},
            ], "unevaluatedProperties": false}),
            nested(60, "{\"a\":", "\"x\"", "}"),
        ),
        (
            "contains",
            recursive(json!({"contains": again, "items": again, "minItems": 1})),
            nested(100, "[1,[],", "[]", ",2]"),
        ),
        ("a schema of doublings", json!({"$ref": "#/$defs/a0", "$defs": doubling}), "{}".into()),
        (
            "unique items",
            recursive(json!({"uniqueItems": true, "items": again})),
            nested(100, "[", &"[[1],[2]],".repeat(5000), "0]"),
        ),
        (
            "an enum",
            json!({"items": {"enum": (0..3000).map(|i| json!([i % 2, {"b": [i]}])).collect::<Vec<_>>()}}),
            format!("[{}0]", "[1,{\"b\":[2999]}],".repeat(3000)),
        ),
        (
            "a pattern",
            json!({"items": {"pattern": "[ab]*a[ab]{10000}c"}}),
            format!("[\"{}\"]", "ab".repeat(30_000)),
        ),
        ("patterns of names", json!({"patternProperties": {"(a|b)*a(a|b){9000}c": false}}), {
            let names: Vec<String> = (0..60).map(|i| format!("\"{}{i}\":1", "ab".repeat(500))).collect();
            format!("{{{}}}", names.join(","))
        }),
        (
            "the format regex",
            json!({"$schema": draft7, "items": {"format": "regex"}}),
            format!("[\"{}\"]", "\\\\cA".repeat(15_000)),
        ),
        ("property names", recursive(json!({"propertyNames": {"anyOf": [again, {"pattern": "^x*$"}]}})), {
            let names: Vec<String> = (0..4000).map(|i| format!("\"{i}\":1")).collect();
            format!("{{{}}}", names.join(","))
        }),
    ]
}

#[test]
fn work_is_bounded_for_every_schema() {
    for (name, schema, text) in expensive() {
        let outcome = judge(schema.clone(), &text);
        assert!(outcome.work <= MAX_STEPS + text.len() as u64, "{name}: {}", outcome.work);
        assert!(!outcome.verdict.is_masked(), "{name}: {outcome:?}");
        assert_eq!(outcome, judge(schema, &text), "{name}");
    }
}

#[test]
fn a_few_hundred_bytes_that_would_take_seconds_are_incorrect() {
    // Without a bound: 15 s for 16 levels, all memory for 40.
    for levels in [16, 40, 100] {
        let outcome = judge(expressions(), &nested(levels, "{\"op\":\"x\",\"l\":1,\"r\":", "\"x\"", "}"));
        assert_eq!(outcome.verdict, Verdict::Incorrect, "{outcome:?}");
        let outcome = judge(expressions(), &nested(levels, "{\"op\":\"mul\",\"l\":1,\"r\":", "2", "}"));
        assert_eq!(outcome.verdict, Verdict::Correct, "{outcome:?}");
    }
}

#[test]
fn the_bound_has_a_reason_and_large_ordinary_values_are_below_it() {
    let (_, schema, text) = expensive().into_iter().find(|(name, ..)| *name == "a pattern").unwrap();
    let outcome = judge(schema, &text);
    assert_eq!(outcome.verdict, Verdict::Incorrect);
    assert!(outcome.reason.contains("2000000 steps"), "{}", outcome.reason);
    let schema = json!({"type": "array", "uniqueItems": true, "items": {
        "type": "object", "required": ["id", "name"], "additionalProperties": false,
        "properties": {
            "id": {"type": "integer", "minimum": 0},
            "name": {"type": "string", "pattern": "^\\w{1,64}$", "maxLength": 64},
            "kind": {"enum": ["a", "b", "c"]},
            "more": {"oneOf": [{"type": "null"}, {"type": "array", "items": {"type": "number"}}]},
        },
    }});
    let row = |i: usize| json!({"id": i, "name": format!("name_{i}"), "kind": "b", "more": [1, 2.5]});
    let rows = serde_json::to_string(&(0..1000).map(row).collect::<Vec<_>>()).unwrap();
    assert!(rows.len() > 50_000);
    let outcome = judge(schema.clone(), &rows);
    assert_eq!(outcome.verdict, Verdict::Correct, "{outcome:?}");
    assert!(outcome.work < MAX_STEPS / 2, "{}", outcome.work);
    let outcome = judge(schema.clone(), &rows.replace("\"id\":999,", "\"id\":-1,"));
    assert_eq!(outcome.verdict, Verdict::Incorrect, "{outcome:?}");
    // What is wrong is looked for within fewer steps.
    let outcome = judge(schema, r#"[{"id": -1, "name": "a"}]"#);
    assert_eq!((outcome.verdict, &*outcome.reason), (Verdict::Incorrect, "-1 is less than the minimum of 0"));
}

#[test]
fn long_texts_and_a_large_pattern_are_below_the_bound() {
    let schema = json!({"items": {"pattern": r"^[\s\S]{1,2000}$"}});
    let value = |last: usize| {
        let texts = (0..20).map(|i| "a".repeat(if i == 19 { last } else { 2000 }));
        json!(texts.collect::<Vec<_>>()).to_string()
    };
    let outcome = judge(schema.clone(), &value(2000));
    assert_eq!(outcome.verdict, Verdict::Correct, "{}", outcome.reason);
    let outcome = judge(schema, &value(2001));
    assert_eq!(outcome.verdict, Verdict::Incorrect);
    assert!(!outcome.reason.contains("steps"), "{}", outcome.reason);
}

#[test]
fn long_chains_of_schemas_do_not_end_the_process() {
    let chain = |n: usize, link: &dyn Fn(Value) -> Value| {
        let mut defs: Map<String, Value> =
            (0..n).map(|i| (format!("a{i}"), link(json!({"$ref": format!("#/$defs/a{}", i + 1)})))).collect();
        defs.insert(format!("a{n}"), json!({"properties": {"c": {"$ref": "#/$defs/a0"}}, "type": "object"}));
        json!({"$ref": "#/$defs/a0", "$defs": defs})
    };
    for link in
        [&|next| next as Value, &|next| json!({"allOf": [next]}), &|next| json!({"not": {"not": next}})]
            as [&dyn Fn(Value) -> Value; 3]
    {
        let outcome = judge(chain(3000, link), &nested(100, "{\"c\":", "{}", "}"));
        assert!(matches!(outcome.verdict, Verdict::Correct | Verdict::Incorrect), "{outcome:?}");
    }
}

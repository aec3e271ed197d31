//! The labelled corpus: every row gets the verdict that a person gave it.

#![allow(clippy::unwrap_used)]

use rlvr_rewards::{Response, RewardConfig, Task, score_one};
use serde_json::{Value, json};

fn rows(text: &str) -> Vec<Value> {
    text.lines().filter(|l| !l.trim().is_empty()).map(|l| serde_json::from_str(l).unwrap()).collect()
}

/// Runs the rows and fails with every row that got another result.
fn run(kind: &str, text: &str, at_least: usize, result: impl Fn(&Value) -> (Value, Value)) {
    let rows = rows(text);
    assert!(rows.len() >= at_least, "{kind}: {} rows", rows.len());
    let mut wrong = Vec::new();
    for row in &rows {
        assert!(row["origin"].is_string(), "{row}");
        let (got, want) = result(row);
        if got != want {
            wrong.push(format!("{row}\n  got {got}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {} rows:\n{}", wrong.len(), rows.len(), wrong.join("\n"));
}

#[test]
fn math() {
    let reward = RewardConfig::from_kind("math").unwrap().build().unwrap();
    run("math", include_str!("corpus/math.jsonl"), 1000, |row| {
        let task = Task::new("row", json!({"answer": row["gold"]}));
        let outcome = score_one(&*reward, &task, Response::new(row["completion"].as_str().unwrap()));
        let got = serde_json::to_value(outcome.verdict).unwrap();
        // `reject` accepts every verdict with score 0.
        match row["verdict"].as_str() {
            Some("reject") => (json!(outcome.score), json!(0.0)),
            _ => (got, row["verdict"].clone()),
        }
    });
}

#[test]
fn choice() {
    let reward = RewardConfig::from_kind("choice").unwrap().build().unwrap();
    run("choice", include_str!("corpus/choice.jsonl"), 300, |row| {
        let mut reference = row["reference"].clone();
        if reference.is_null() {
            reference = json!({});
        }
        let outcome = score_one(
            &*reward,
            &Task::new("row", reference),
            Response::new(row["completion"].as_str().unwrap()),
        );
        let how = format!("{} {}", outcome.method, outcome.reason);
        if json!(outcome.extracted) != row["letter"] {
            return (json!([outcome.extracted, how]), row["letter"].clone());
        }
        (json!(outcome.extracted), row["letter"].clone())
    });
}

/// Rows of the other kinds, each with its settings: right answers beside wrong ones that look right.
#[test]
fn kinds() {
    let range = |low: f64, high: f64, score: f64| score >= low - 1e-9 && score <= high + 1e-9;
    // Without an interpreter no program can be judged.
    let python = std::process::Command::new("python3").arg("--version").output().is_ok() && cfg!(unix);
    run("kinds", include_str!("corpus/kinds.jsonl"), 100, |row| {
        if row["config"]["kind"] == "code" && !python {
            return (Value::Null, Value::Null);
        }
        let config: RewardConfig = serde_json::from_value(row["config"].clone()).unwrap();
        let task = Task::new("row", row["reference"].clone());
        let response = Response::new(row["completion"].as_str().unwrap());
        let outcome = score_one(&*config.build().unwrap(), &task, response);
        let score = outcome.score.unwrap_or(f64::NAN);
        let as_expected = match &row["expected"] {
            Value::String(word) if word == "accept" => range(1.0, 1.0, score),
            Value::String(word) if word == "unverifiable" => outcome.score.is_none(),
            Value::String(_) => range(0.0, 0.0, score),
            Value::Number(number) => number.as_f64().is_some_and(|n| range(n, n, score)),
            bounds => range(bounds[1].as_f64().unwrap(), bounds[2].as_f64().unwrap(), score),
        };
        let got = json!([outcome.score, outcome.method, outcome.reason, outcome.extracted]);
        (json!(if as_expected { &Value::Null } else { &got }), Value::Null)
    });
}

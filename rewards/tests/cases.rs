//! Labelled completions that lie beside the repository, where they are: each judged as its row expects.
//!
//! A row has `kind`, `config`, `completion`, `reference`, and `expected`: `accept` (score 1), `reject` (score 0 or
//! unverifiable), `masked` (no score) or `["range", low, high]`. `RLVR_CASES=FILE` names other rows.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::path::PathBuf;

use rlvr_rewards::{Outcome, Response, RewardConfig, Task, Verdict, score_one};
use serde_json::Value;

fn is_as_expected(outcome: &Outcome, expected: &Value) -> bool {
    match (expected.as_str(), outcome.score) {
        (Some("accept"), Some(score)) => score >= 0.999,
        (Some("reject"), score) => {
            score.is_some_and(|s| s <= 1e-9) || outcome.verdict == Verdict::Unverifiable
        }
        (Some("masked"), score) => score.is_none(),
        (None, Some(score)) => {
            let bound = |i: usize| expected[i].as_f64().unwrap();
            score >= bound(1) - 1e-6 && score <= bound(2) + 1e-6
        }
        _ => false,
    }
}

#[test]
fn cases_beside_the_repository() {
    let beside = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/cases/verifiers.jsonl"));
    let path = std::env::var_os("RLVR_CASES").map_or(beside, PathBuf::from);
    let Ok(text) = std::fs::read_to_string(&path) else { return };
    let (mut right, mut all) = (0, 0);
    for line in text.lines() {
        let row: Value = serde_json::from_str(line).unwrap();
        let mut config = row["config"].clone();
        config["kind"] = row["kind"].clone();
        let reward = serde_json::from_value::<RewardConfig>(config).unwrap().build().unwrap();
        let task = Task::new("row", row["reference"].clone());
        let outcome = score_one(&*reward, &task, Response::new(row["completion"].as_str().unwrap()));
        all += 1;
        if is_as_expected(&outcome, &row["expected"]) {
            right += 1;
        } else {
            println!(
                "{} {} {} expected {}, got {:?} {:?} ({}; {})\n  extracted {:?}, reference {}\n  {:?}",
                row["id"],
                row["kind"],
                row["config"],
                row["expected"],
                outcome.verdict,
                outcome.score,
                outcome.method,
                outcome.reason,
                outcome.extracted,
                row["reference"],
                row["completion"].as_str().unwrap()
            );
        }
    }
    println!("{right} of {all} as expected");
    // The share that the issue of these rows asks for; what is left has its reason in EXPERIMENTS.md.
    assert!(right * 100 >= all * 98, "{right} of {all}");
}

//! The references of GSM8K and MATH, where the data sets lie beside the repository: every one is parsed, its own boxed form
//! is accepted, and so is the solution it comes with; references of other problems are not.

#![allow(clippy::unwrap_used)]

use std::path::PathBuf;

use rlvr_rewards::{Response, Reward, RewardConfig, Task, Verdict, score_one};
use serde_json::{Value, json};

/// Rows that are no answer: `null` and empty references of MATH's training file (problems 886, 1009, 5328, 5330 lost their
/// answer when it was extracted).
const WITHOUT_ANSWER: usize = 4;

struct Row {
    gold: String,
    solution: Option<String>,
}

fn data() -> Option<PathBuf> {
    // `SHARED_DATA` names another place.
    let beside = || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data"));
    let folder = std::env::var("SHARED_DATA").map_or_else(|_| beside(), PathBuf::from);
    folder.is_dir().then_some(folder)
}

fn rows(folder: &std::path::Path) -> (Vec<Row>, usize) {
    let mut rows = Vec::new();
    let mut without = 0;
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
    for name in ["gsm8k/train.jsonl", "gsm8k/test.jsonl"] {
        for line in read(name).lines() {
            let solution =
                serde_json::from_str::<Value>(line).unwrap()["answer"].as_str().unwrap().to_string();
            let gold = solution.rsplit_once("####").unwrap().1.trim().to_string();
            rows.push(Row { gold, solution: Some(solution) });
        }
    }
    let mut math: Vec<Value> = serde_json::from_str(&read("math/train.json")).unwrap();
    math.extend(read("math/math500.jsonl").lines().map(|l| serde_json::from_str::<Value>(l).unwrap()));
    for row in math {
        match row["answer"].as_str() {
            Some(gold) if !gold.is_empty() => {
                rows.push(Row { gold: gold.into(), solution: row["solution"].as_str().map(str::to_string) })
            }
            _ => without += 1,
        }
    }
    (rows, without)
}

fn verdict(reward: &dyn Reward, gold: &str, text: &str) -> Verdict {
    score_one(reward, &Task::new("t", json!({ "answer": gold })), Response::new(text)).verdict
}

#[test]
fn references_are_accepted_in_a_box_and_in_their_solutions() {
    let Some(folder) = data() else { return };
    let reward = RewardConfig::from_kind("math").unwrap().build().unwrap();
    let (rows, without) = rows(&folder);
    assert_eq!(without, WITHOUT_ANSWER);
    assert_eq!(rows.len(), 16_762);
    let mut wrong = Vec::new();
    for row in &rows {
        if verdict(&*reward, &row.gold, &format!("\\boxed{{{}}}", row.gold)) != Verdict::Correct {
            wrong.push(format!("boxed {:?}", row.gold));
        }
        if let Some(solution) = &row.solution
            && verdict(&*reward, &row.gold, solution) != Verdict::Correct
        {
            wrong.push(format!("solution of {:?}", row.gold));
        }
    }
    assert!(wrong.is_empty(), "{} of {}: {:#?}", wrong.len(), rows.len(), &wrong[..wrong.len().min(20)]);
}

/// A reading of a reference that shares nothing with the verifier: plain decimals and simple fractions.
fn simple(gold: &str) -> Option<f64> {
    let plain = gold.replace([',', '$', '\\', ' ', '!'], "");
    if let Some(inner) = plain.strip_prefix("frac{").or_else(|| plain.strip_prefix("dfrac{")) {
        let (n, d) = inner.strip_suffix('}')?.split_once("}{")?;
        return Some(n.parse::<f64>().ok()? / d.parse::<f64>().ok()?);
    }
    plain.parse().ok()
}

#[test]
fn references_of_other_problems_are_refused() {
    let Some(folder) = data() else { return };
    let reward = RewardConfig::from_kind("math").unwrap().build().unwrap();
    let (rows, _) = rows(&folder);
    let numbers: Vec<(&str, f64)> =
        rows.iter().filter_map(|r| Some((r.gold.as_str(), simple(&r.gold)?))).collect();
    let mut state = 17u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize
    };
    let mut wrong = Vec::new();
    for _ in 0..20_000 {
        let (a, x) = numbers[next() % numbers.len()];
        let (b, y) = numbers[next() % numbers.len()];
        let same = (x - y).abs() <= 1e-9 * x.abs().max(1.0);
        let got = verdict(&*reward, a, &format!("so \\boxed{{{b}}}")) == Verdict::Correct;
        if got != same {
            wrong.push(format!("{a:?} and {b:?}: {got}"));
        }
    }
    assert!(wrong.is_empty(), "{}: {:#?}", wrong.len(), &wrong[..wrong.len().min(20)]);
    // What is no plain number has no second reading here: as good as none of the pairs may be equal.
    let others: Vec<&str> =
        rows.iter().filter(|r| simple(&r.gold).is_none()).map(|r| r.gold.as_str()).collect();
    let mut equal = std::collections::BTreeSet::new();
    for _ in 0..20_000 {
        let (a, b) = (others[next() % others.len()], others[next() % others.len()]);
        if a != b && verdict(&*reward, a, &format!("so \\boxed{{{b}}}")) == Verdict::Correct {
            equal.insert((a, b));
        }
    }
    assert!(equal.len() <= 60, "{}: {equal:#?}", equal.len());
}

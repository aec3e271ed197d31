//! Checks a second of the `math` reward on one core: `cargo bench --bench math`.
//! `rewards/benches/peer_math_verify.py` does the same rows with Math-Verify.
#![allow(missing_docs)]

use divan::counter::ItemsCount;
use rlvr_rewards::{Response, Reward, RewardConfig, Task, score_one};
use serde_json::{Value, json};

fn main() {
    divan::main();
}

/// Rows of the corpus: those a person calls correct, or all others.
fn rows(correct: bool) -> Vec<(Task, String)> {
    (include_str!("../tests/corpus/math.jsonl").lines())
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|row| (row["verdict"] == "correct") == correct)
        .filter_map(|row| {
            let task = Task::new("row", json!({"answer": row["gold"]}));
            Some((task, row["completion"].as_str()?.to_string()))
        })
        .collect()
}

fn check(bencher: divan::Bencher, correct: bool) {
    let reward: Box<dyn Reward> = RewardConfig::from_kind("math").and_then(|c| c.build()).expect("a reward");
    let rows = rows(correct);
    bencher.counter(ItemsCount::new(rows.len())).bench_local(|| {
        rows.iter()
            .filter(|(task, text)| score_one(&*reward, task, Response::new(text)).score == Some(1.0))
            .count()
    });
}

/// Items are checks.
#[divan::bench(sample_count = 20, sample_size = 1)]
fn correct_rows(bencher: divan::Bencher) {
    check(bencher, true);
}

/// Wrong, hedged and hostile answers; items are checks.
#[divan::bench(sample_count = 20, sample_size = 1)]
fn other_rows(bencher: divan::Bencher) {
    check(bencher, false);
}

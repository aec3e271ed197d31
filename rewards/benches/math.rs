//! Checks a second of the `math` reward on one core: `cargo bench --bench math`.
//! `rewards/benches/peer_math_verify.py` does the same rows with Math-Verify.
//! After the table stands the same as JSON, with the ratio to `math_baseline.json`.
#![allow(missing_docs, clippy::print_stdout)]

use std::time::Instant;

use divan::counter::ItemsCount;
use rlvr_rewards::{Response, Reward, RewardConfig, Task, score_one};
use serde_json::{Value, json};

fn main() {
    divan::main();
    if std::env::args().all(|arg| arg == "--bench" || !arg.starts_with("--")) {
        println!("{}", summary());
    }
}

/// Checks a second, median of 20 passes, and the slowest row, for both sets of rows.
fn summary() -> Value {
    let baseline: Value = serde_json::from_str(include_str!("math_baseline.json")).unwrap_or_default();
    let reward: Box<dyn Reward> = RewardConfig::from_kind("math").and_then(|c| c.build()).expect("a reward");
    let measure = |name: &str, correct: bool| {
        let rows = rows(correct);
        let mut passes = Vec::new();
        let mut slowest = vec![f64::INFINITY; rows.len()];
        for _ in 0..20 {
            let pass = Instant::now();
            for ((task, text), slowest) in rows.iter().zip(&mut slowest) {
                let start = Instant::now();
                std::hint::black_box(score_one(&*reward, task, Response::new(text)));
                // The best of several tries: what the row needs, not what else the machine did.
                *slowest = slowest.min(1e3 * start.elapsed().as_secs_f64());
            }
            passes.push(pass.elapsed().as_secs_f64());
        }
        passes.sort_by(f64::total_cmp);
        let rate = (rows.len() as f64 / passes[10]).round();
        let before = baseline[name]["checks_per_s"].as_f64();
        json!({
            "rows": rows.len(),
            "checks_per_s": rate,
            "slowest_ms": slowest.into_iter().fold(0.0, f64::max),
            "ratio_to_baseline": before.map(|before| rate / before),
        })
    };
    json!({"correct_rows": measure("correct_rows", true), "other_rows": measure("other_rows", false)})
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

//! Programs with the verdict that a person would give, in `corpus/code.jsonl`: replies that nobody can read, ways to pass
//! without solving, names and values that are easily misjudged, tests that judge nobody, honest programs that only pass in
//! one process with their tests.

#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::process::Command;

use rayon::prelude::*;
use rlvr_rewards::code::{Code, CodeConfig};
use rlvr_rewards::sandbox::Isolation;
use rlvr_rewards::{Outcome, Response, Task, Verdict, score_one};
use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    name: String,
    reference: Value,
    code: String,
    verdict: Verdict,
    /// Does not end by itself.
    #[serde(default)]
    endless: bool,
}

fn judge(row: &Row, config: &CodeConfig) -> Outcome {
    // What ends by itself has time on a busy machine; what never ends gets little.
    let timeout_s = if row.endless { 1.0 } else { 20.0 };
    let reward = Code::new(CodeConfig { timeout_s, ..config.clone() }).unwrap();
    let text = format!("```python\n{}\n```", row.code);
    score_one(&reward, &Task::new("t", row.reference.clone()), Response::new(&text))
}

#[test]
fn every_program_gets_its_verdict() {
    if Command::new("python3").arg("--version").output().is_err() {
        println!("skipped: there is no python3");
        return;
    }
    let text = include_str!("corpus/code.jsonl");
    let rows: Vec<Row> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(rows.len() > 720, "{} rows", rows.len());
    let config = CodeConfig { min_isolation: Isolation::Process, memory_mib: 512, ..CodeConfig::default() };
    // More threads than cores: most sessions wait.
    let pool = rayon::ThreadPoolBuilder::new().num_threads(4).build().unwrap();
    let outcomes: Vec<Outcome> = pool.install(|| rows.par_iter().map(|row| judge(row, &config)).collect());
    let mut wrong = Vec::new();
    for (row, outcome) in rows.iter().zip(&outcomes) {
        println!("{:?} {}: {}", outcome.verdict, row.name, outcome.reason);
        if outcome.verdict != row.verdict {
            wrong.push(format!("{}: {:?} {}", row.name, outcome.verdict, outcome.reason));
        }
    }
    assert!(wrong.is_empty(), "{} of {} rows:\n{}", wrong.len(), rows.len(), wrong.join("\n"));
}

//! What an evaluation leaves: `results.json`, `samples.jsonl`, and a table.

use crate::eval::{interval, print_table, statistics};
use crate::output::say;
use crate::tasks::Benchmark;
use anyhow::Result;
use rlvr::eval::{EvalResult, Judged, solved};
use rlvr::rewards::Verdict;
use rlvr::run_dir::write_atomic;
use serde_json::{Map, Value, json};
use std::path::Path;

pub const RESULTS: &str = "results.json";
pub const SAMPLES: &str = "samples.jsonl";

/// One benchmark's outcome.
pub struct TaskResult {
    name: String,
    result: EvalResult,
    parse_rate: f64,
    correct: usize,
    completions: usize,
    verdicts: Map<String, Value>,
    /// Whether lengths in tokens are known.
    counted: bool,
    rows: Vec<Value>,
}

impl TaskResult {
    /// `prompts` are those of the benchmark's tasks, in order.
    pub fn new(benchmark: &Benchmark, judged: Vec<Judged>, prompts: Vec<Value>, counted: bool) -> Self {
        let items = benchmark.tasks.len();
        let result = statistics(&benchmark.name, items, &judged);
        let unread = |v: Verdict| matches!(v, Verdict::NoAnswer | Verdict::Ambiguous | Verdict::Error);
        let read = judged.iter().filter(|j| !unread(j.outcome.verdict)).count();
        let mut verdicts = Map::new();
        for j in &judged {
            let key = json!(j.outcome.verdict).as_str().unwrap_or_default().to_owned();
            let n = verdicts.get(&key).and_then(Value::as_u64).unwrap_or(0);
            verdicts.insert(key, json!(n + 1));
        }
        let mut sample = vec![0usize; items];
        let mut row = |j: &Judged| {
            let o = &j.outcome;
            let mut row = json!({
                "task": benchmark.name, "id": benchmark.tasks[j.task].id, "sample": sample[j.task],
                "prompt": prompts[j.task], "completion": j.text, "extracted": o.extracted, "verdict": o.verdict,
                "score": o.score, "reason": o.reason, "method": o.method, "gold": o.gold,
                "prediction": o.prediction, "truncated": j.truncated,
            });
            if counted {
                row["tokens"] = json!(j.tokens);
            }
            sample[j.task] += 1;
            row
        };
        let rows = judged.iter().map(&mut row).collect();
        Self {
            name: benchmark.name.clone(),
            parse_rate: read as f64 / judged.len().max(1) as f64,
            correct: judged.iter().filter(|j| solved(&j.outcome)).count(),
            completions: judged.len(),
            result,
            verdicts,
            counted,
            rows,
        }
    }

    fn json(&self) -> Value {
        let r = &self.result;
        let mut out = json!({
            "n": r.n, "accuracy": r.accuracy, "parse_rate": self.parse_rate, "ci95": [r.ci95.0, r.ci95.1],
            "completions": self.completions, "correct": self.correct, "truncated_frac": r.truncated_frac,
            "reward_mean": r.reward_mean, "verdicts": self.verdicts,
        });
        if self.counted {
            out["tokens_mean"] = json!(r.tokens_mean);
        }
        for (k, value) in &r.pass_at {
            out[format!("pass@{k}")] = json!(value);
        }
        out
    }

    fn cells(&self) -> Vec<String> {
        let r = &self.result;
        let mut pass: Vec<String> = r.pass_at.iter().map(|(k, v)| format!("pass@{k} {v:.3}")).collect();
        if pass.is_empty() {
            pass.push(String::new());
        }
        vec![
            self.name.clone(),
            r.n.to_string(),
            format!("{:.3}", r.accuracy),
            interval(r.ci95),
            format!("{:.3}", self.parse_rate),
            pass.join(", "),
        ]
    }
}

/// All benchmarks of an evaluation.
pub struct Results {
    settings: Value,
    tasks: Vec<TaskResult>,
}

impl Results {
    /// None yet; `settings` says how they come about.
    pub fn new(settings: Value) -> Self {
        Self { settings, tasks: Vec::new() }
    }

    pub fn add(&mut self, task: TaskResult) {
        self.tasks.push(task);
    }

    /// Writes both files and prints the table.
    pub fn write(&self, dir: &Path) -> Result<()> {
        let mut samples = Vec::new();
        for row in self.tasks.iter().flat_map(|t| &t.rows) {
            serde_json::to_writer(&mut samples, row)?;
            samples.push(b'\n');
        }
        write_atomic(&dir.join(SAMPLES), &samples).map_err(rlvr::Error::from)?;
        let tasks: Map<String, Value> = self.tasks.iter().map(|t| (t.name.clone(), t.json())).collect();
        let version = env!("CARGO_PKG_VERSION");
        let results = json!({"tasks": tasks, "settings": self.settings, "version": version});
        let text = format!("{}\n", serde_json::to_string_pretty(&results)?);
        write_atomic(&dir.join(RESULTS), text.as_bytes()).map_err(rlvr::Error::from)?;
        let mut header = vec!["task", "n", "accuracy", "95 % interval", "parse rate", "pass@k"];
        let mut rows: Vec<Vec<String>> = self.tasks.iter().map(TaskResult::cells).collect();
        if self.tasks.iter().all(|t| t.result.pass_at.is_empty()) {
            header.pop();
            rows.iter_mut().for_each(|row| row.truncate(header.len()));
        }
        print_table(&header, &rows)?;
        say!("wrote {} and {} in {}", RESULTS, SAMPLES, dir.display());
        Ok(())
    }
}

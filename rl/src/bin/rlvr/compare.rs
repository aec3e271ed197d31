//! `rlvr compare`: two evaluations, item by item.

use crate::args::CompareArgs;
use crate::eval::print_table;
use crate::input::{self, Source, bad};
use crate::output::say;
use crate::results::{RESULTS, SAMPLES};
use anyhow::Result;
use rlvr::stats::{mcnemar_exact, paired_bootstrap};
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::io::Write;
use std::path::Path;

const RESAMPLES: u32 = 10_000;
const SEED: u64 = 0;
const LEVEL: f64 = 0.05;

/// Correct completions and completions of an item.
type Item = (usize, usize);

/// The items of a task by id, in the order of the file.
#[derive(Default)]
struct Items {
    order: Vec<String>,
    by_id: HashMap<String, Item>,
}

/// The tasks of an evaluation, in the order of the file.
type Evaluation = Vec<(String, Items)>;

/// What the items of both sides say about one task.
struct Comparison {
    task: String,
    n: usize,
    a: f64,
    b: f64,
    interval: (f64, f64),
    p_value: f64,
    test: &'static str,
}

pub fn run(args: &CompareArgs) -> Result<()> {
    let (a, b) = (read(&args.a)?, read(&args.b)?);
    let mut comparisons = Vec::new();
    for (task, items) in &a {
        match b.iter().find(|(name, _)| name == task) {
            Some((_, others)) => comparisons.extend(compare(task, items, others)?),
            None => say!("note: {task} is in {} only", args.a.display()),
        }
    }
    for (task, _) in b.iter().filter(|(task, _)| !a.iter().any(|(name, _)| name == task)) {
        say!("note: {task} is in {} only", args.b.display());
    }
    if comparisons.is_empty() {
        return Err(bad("the two evaluations share no item, so there is nothing to compare"));
    }
    if args.json {
        let tasks: Map<String, Value> = comparisons.iter().map(|c| (c.task.clone(), c.json())).collect();
        let mut out = crate::output::stdout();
        writeln!(out, "{}", json!({ "tasks": tasks }))?;
        return Ok(out.flush()?);
    }
    let header = ["task", "n", "A", "B", "B - A", "95 % interval", "p", "conclusion"];
    print_table(&header, &comparisons.iter().map(Comparison::cells).collect::<Vec<_>>())
}

fn compare(task: &str, a: &Items, b: &Items) -> Result<Option<Comparison>> {
    let pairs: Vec<(Item, Item)> =
        a.order.iter().filter_map(|id| Some((*a.by_id.get(id)?, *b.by_id.get(id)?))).collect();
    let (only_a, only_b) = (a.order.len() - pairs.len(), b.order.len() - pairs.len());
    if only_a + only_b > 0 {
        say!(
            "note: {task}: {} items in both; {only_a} only in A and {only_b} only in B are left out",
            pairs.len()
        );
    }
    let share = |(correct, n): Item| correct as f64 / n as f64;
    let left: Vec<f64> = pairs.iter().map(|p| share(p.0)).collect();
    let right: Vec<f64> = pairs.iter().map(|p| share(p.1)).collect();
    let Some(bootstrap) = paired_bootstrap(&left, &right, RESAMPLES, SEED) else { return Ok(None) };
    let single = pairs.iter().all(|(a, b)| a.1 == 1 && b.1 == 1);
    let (p_value, test) = if single {
        let count = |f: &dyn Fn(Item, Item) -> bool| pairs.iter().filter(|(a, b)| f(*a, *b)).count() as u64;
        (mcnemar_exact(count(&|a, b| a.0 > b.0), count(&|a, b| a.0 < b.0)), "mcnemar")
    } else {
        (bootstrap.p_value, "bootstrap")
    };
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    Ok(Some(Comparison {
        task: task.to_owned(),
        n: pairs.len(),
        a: mean(&left),
        b: mean(&right),
        interval: (bootstrap.low, bootstrap.high),
        p_value,
        test,
    }))
}

impl Comparison {
    fn conclusion(&self) -> &'static str {
        match self.p_value < LEVEL {
            true if self.b > self.a => "B is better",
            true => "A is better",
            false => "no significant difference",
        }
    }

    fn cells(&self) -> Vec<String> {
        let (low, high) = self.interval;
        let p = if self.p_value < 1e-4 { "< 0.0001".to_owned() } else { format!("{:.4}", self.p_value) };
        vec![
            self.task.clone(),
            self.n.to_string(),
            format!("{:.3}", self.a),
            format!("{:.3}", self.b),
            format!("{:+.3}", self.b - self.a),
            format!("[{low:+.3}, {high:+.3}]"),
            p,
            self.conclusion().to_owned(),
        ]
    }

    fn json(&self) -> Value {
        json!({
            "n": self.n, "a": self.a, "b": self.b, "difference": self.b - self.a,
            "ci95": [self.interval.0, self.interval.1], "p_value": self.p_value, "test": self.test,
            "conclusion": self.conclusion(),
        })
    }
}

/// Reads `samples.jsonl` of an evaluation.
fn read(dir: &Path) -> Result<Evaluation> {
    let path = dir.join(SAMPLES);
    if !path.is_file() {
        let shown = dir.display();
        return Err(bad(match () {
            () if !dir.exists() => format!("{shown}: there is no such directory"),
            () if dir.join("metrics.jsonl").is_file() => format!(
                "{shown} is a run: evaluate its policy first, rlvr eval run --policy {shown} --tasks … --out DIR"
            ),
            () => format!("{shown} is no output of rlvr eval: it has no {SAMPLES} beside {RESULTS}"),
        }));
    }
    let mut source = Source::open(&path)?;
    let mut tasks: Evaluation = Vec::new();
    while let Some((line, fields)) = source.next_object()? {
        let text = |key: &str| fields.get(key).and_then(Value::as_str);
        let id = fields.get("id").and_then(input::id_text);
        let (Some(task), Some(id), Some(verdict)) = (text("task"), id, text("verdict")) else {
            return Err(source.bad_at(line, "the row has no `task`, `id` and `verdict`"));
        };
        let at = tasks.iter().position(|(name, _)| name == task).unwrap_or_else(|| {
            tasks.push((task.to_owned(), Items::default()));
            tasks.len() - 1
        });
        let items = &mut tasks[at].1;
        let item = items.by_id.entry(id.clone()).or_insert_with(|| {
            items.order.push(id);
            (0, 0)
        });
        item.0 += usize::from(verdict == "correct");
        item.1 += 1;
    }
    Ok(tasks)
}

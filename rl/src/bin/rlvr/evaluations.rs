//! Evaluations as they lie in a directory, read for comparisons and reports.

use crate::input::{self, Source, bad};
use anyhow::Result;
use rlvr::stats::{Comparison, Pairs, majority_vote};
use serde_json::{Map, Value};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

const RESULTS: &str = "results.json";
const SAMPLES: &str = "samples.jsonl";
/// Resamples of every bootstrap, and their seed.
pub const RESAMPLES: u32 = 10_000;
pub const SEED: u64 = 0;
/// Level of every test.
pub const LEVEL: f64 = 0.05;

/// What is read beside verdicts.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wanted<'a> {
    /// Field whose values group questions.
    pub cluster: Option<&'a str>,
    /// Completions and references.
    pub texts: bool,
}

/// One directory.
pub struct Evaluation {
    pub dir: PathBuf,
    pub label: String,
    /// In the order of the file.
    pub tasks: Vec<TaskItems>,
}

/// The items of a task.
pub struct TaskItems {
    pub name: String,
    /// In the order of the file.
    pub items: Vec<Item>,
    by_id: HashMap<String, usize>,
    /// What results.json says about the task.
    pub result: Map<String, Value>,
}

/// A question with its completions.
pub struct Item {
    pub id: String,
    /// Value of the cluster's field; the id without one.
    pub cluster: String,
    pub samples: Vec<Sample>,
}

/// A judged completion.
pub struct Sample {
    pub correct: bool,
    /// An answer was found, whatever its worth.
    pub parsed: bool,
    pub truncated: bool,
    pub tokens: Option<f64>,
    /// The answer in canonical form.
    pub answer: Option<String>,
    pub completion: String,
    pub references: Vec<String>,
}

/// A directory with an optional name before it, `NAME=DIR`.
pub fn named(text: &str) -> (Option<String>, &str) {
    match text.split_once('=') {
        // A directory may have = in its name.
        Some((name, dir)) if !name.is_empty() && !name.contains('/') && !Path::new(text).exists() => {
            (Some(name.to_owned()), dir)
        }
        _ => (None, text),
    }
}

impl Evaluation {
    /// Reads `samples.jsonl`, and what `results.json` says about its tasks.
    pub fn read(dir: &Path, label: Option<String>, wanted: Wanted<'_>) -> Result<Self> {
        let path = dir.join(SAMPLES);
        let shown = dir.display().to_string();
        if !path.is_file() {
            return Err(bad(match () {
                () if !dir.exists() => format!("{shown}: there is no such directory"),
                () if dir.join("metrics.jsonl").is_file() => format!(
                    "{shown} is a run: evaluate its policy first, rlvr eval run --policy {shown} --tasks … --out DIR"
                ),
                () => format!("{shown} is no output of rlvr eval: it has no {SAMPLES} beside {RESULTS}"),
            }));
        }
        let mut source = Source::open(&path)?;
        let mut tasks: Vec<TaskItems> = Vec::new();
        while let Some((line, fields)) = source.next_object()? {
            let text = |key: &str| fields.get(key).and_then(Value::as_str);
            let id = fields.get("id").and_then(input::id_text);
            let (Some(task), Some(id), Some(verdict)) = (text("task"), id, text("verdict")) else {
                return Err(source.bad_at(line, "the row has no `task`, `id` and `verdict`"));
            };
            let cluster = match wanted.cluster {
                None => id.clone(),
                Some(field) => cluster(&fields, field).ok_or_else(|| {
                    let known: Vec<&str> = fields.keys().map(String::as_str).collect();
                    source.bad_at(
                        line,
                        format!("the row has no field {field:?} for --cluster; it has {}", known.join(", ")),
                    )
                })?,
            };
            let at = tasks.iter().position(|t| t.name == task).unwrap_or_else(|| {
                tasks.push(TaskItems::new(task));
                tasks.len() - 1
            });
            tasks[at].add(id, cluster, Sample::new(&fields, verdict, wanted.texts));
        }
        if tasks.is_empty() {
            return Err(bad(format!("{} has no rows", path.display())));
        }
        add_results(&dir.join(RESULTS), &mut tasks)?;
        Ok(Self { dir: dir.to_owned(), label: label.unwrap_or(shown), tasks })
    }

    pub fn task(&self, name: &str) -> Option<&TaskItems> {
        self.tasks.iter().find(|t| t.name == name)
    }
}

/// The value of a field, also of one inside of `meta`.
fn cluster(fields: &Map<String, Value>, field: &str) -> Option<String> {
    let value = fields.get(field).or_else(|| fields.get("meta").and_then(|meta| meta.get(field)))?;
    input::id_text(value)
}

fn add_results(path: &Path, tasks: &mut [TaskItems]) -> Result<()> {
    if !path.is_file() {
        return Ok(());
    }
    let (name, text) = input::text(path)?;
    let mut results: Value =
        serde_json::from_str(&text).map_err(|e| bad(format!("{name}: not valid JSON: {e}")))?;
    for task in tasks {
        if let Value::Object(result) = results["tasks"][&*task.name].take() {
            task.result = result;
        }
    }
    Ok(())
}

impl Sample {
    fn new(fields: &Map<String, Value>, verdict: &str, texts: bool) -> Self {
        let text = |key: &str| fields.get(key).and_then(Value::as_str).map(str::to_owned);
        let references = match fields.get("gold") {
            Some(Value::String(gold)) => vec![gold.clone()],
            Some(Value::Array(golds)) => golds.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
            _ => Vec::new(),
        };
        Self {
            correct: verdict == "correct",
            parsed: !matches!(verdict, "no_answer" | "ambiguous" | "error"),
            truncated: fields.get("truncated") == Some(&Value::Bool(true)),
            tokens: fields.get("tokens").and_then(Value::as_f64),
            answer: text("prediction").or_else(|| text("extracted")),
            completion: if texts { text("completion").unwrap_or_default() } else { String::new() },
            references: if texts { references } else { Vec::new() },
        }
    }

    fn score(&self) -> f64 {
        f64::from(u8::from(self.correct))
    }
}

impl Item {
    /// Share of its samples that are right: its part of mean@k.
    pub fn mean(&self) -> f64 {
        self.samples.iter().map(Sample::score).sum::<f64>() / self.samples.len() as f64
    }

    /// Score of the answer that most samples gave: its part of maj@k.
    pub fn majority(&self) -> f64 {
        majority_vote(self.samples.iter().map(|s| (s.answer.as_deref(), s.score())))
    }

    /// Samples, and how many of them are right.
    pub fn counts(&self) -> (u64, u64) {
        (self.samples.len() as u64, self.samples.iter().filter(|s| s.correct).count() as u64)
    }
}

impl TaskItems {
    fn new(name: &str) -> Self {
        Self { name: name.to_owned(), items: Vec::new(), by_id: HashMap::new(), result: Map::new() }
    }

    fn add(&mut self, id: String, cluster: String, sample: Sample) {
        let at = *self.by_id.entry(id.clone()).or_insert(self.items.len());
        if at == self.items.len() {
            self.items.push(Item { id, cluster, samples: Vec::new() });
        }
        self.items[at].samples.push(sample);
    }

    pub fn item(&self, id: &str) -> Option<&Item> {
        self.by_id.get(id).map(|at| &self.items[*at])
    }

    /// The samples of each item when all have the same number.
    pub fn samples(&self) -> Option<u64> {
        let first = self.items.first()?.samples.len();
        self.items.iter().all(|i| i.samples.len() == first).then_some(first as u64)
    }
}

/// Why two evaluations of a task are not of the same thing, if they are not; and whether that could not be told.
pub fn differs(a: &TaskItems, b: &TaskItems) -> (Vec<String>, bool) {
    let mut found = Vec::new();
    let mut unknown = false;
    for (field, what) in [("task_hash", "task"), ("verifier", "verifier")] {
        match (a.result.get(field), b.result.get(field)) {
            (Some(x), Some(y)) if x == y => {}
            (Some(x), Some(y)) => found.push(format!("another {what} ({x} and {y})")),
            _ => unknown = true,
        }
    }
    (found, unknown)
}

/// A task of two arms, whose seeds are evaluations.
pub struct Paired {
    pub comparison: Comparison,
    /// maj@k, where every item of every evaluation has k > 1 samples.
    pub majority: Option<(u64, Comparison)>,
    /// Items that some evaluation of either arm lacks, by arm that has them: left out.
    pub only: (usize, usize),
}

/// Compares the items that all evaluations of both arms have. `None` when there is none.
pub fn compare(a: &[&TaskItems], b: &[&TaskItems]) -> Result<Option<Paired>> {
    let everywhere = |id: &str| a.iter().chain(b).all(|task| task.item(id).is_some());
    let ids: Vec<&str> = a[0].items.iter().map(|i| i.id.as_str()).filter(|id| everywhere(id)).collect();
    let most = |arm: &[&TaskItems]| arm.iter().map(|task| task.items.len()).max().unwrap_or(0) - ids.len();
    let only = (most(a), most(b));
    if ids.is_empty() {
        return Ok(None);
    }
    let mut names: HashMap<&str, usize> = HashMap::new();
    let clusters = (ids.iter().filter_map(|id| a[0].item(id)))
        .map(|item| {
            let next = names.len();
            *names.entry(&item.cluster).or_insert(next)
        })
        .collect();
    let scores = |arm: &[&TaskItems], score: &dyn Fn(&Item) -> f64| -> Vec<Vec<f64>> {
        ids.iter().map(|id| arm.iter().filter_map(|task| task.item(id)).map(score).collect()).collect()
    };
    let mut samples = ids.iter().flat_map(|id| a.iter().chain(b).filter_map(move |task| task.item(id)));
    let single = samples.clone().all(|item| item.samples.len() == 1);
    let mut pairs = Pairs { a: scores(a, &Item::mean), b: scores(b, &Item::mean), clusters, single };
    let comparison = pairs.compare(RESAMPLES, SEED)?;
    let k = samples.next().map_or(0, |item| item.samples.len());
    let majority = if k > 1 && samples.all(|item| item.samples.len() == k) {
        pairs.a = scores(a, &Item::majority);
        pairs.b = scores(b, &Item::majority);
        pairs.single = false;
        Some((k as u64, pairs.compare(RESAMPLES, SEED)?))
    } else {
        None
    };
    Ok(Some(Paired { comparison, majority, only }))
}

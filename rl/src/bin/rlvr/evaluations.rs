//! Evaluations as they lie in a directory, read for comparisons and reports.

use crate::input::{self, Source, bad};
use crate::output::say;
use anyhow::Result;
use rlvr::eval::{Benchmark, Question, RESAMPLES, SEED};
use rlvr::stats::{Comparison, Pairs, majority_vote};
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

const RESULTS: &str = "results.json";
const SAMPLES: &str = "samples.jsonl";
/// Ending of a task's name for options ranked by likelihood, and by likelihood per character.
pub const RANKED: [&str; 2] = ["/likelihood", "/likelihood_norm"];
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
    pub identity: Identity,
}

/// What evaluations of a task must share to be compared, as results.json has it; none where it does not say.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Identity {
    /// SHA-256 over definition and data.
    hash: Option<Value>,
    /// The verifier's name, version and configuration; ranked options have none.
    verifier: Option<Value>,
}

impl Identity {
    pub fn new(hash: Option<Value>, verifier: Option<Value>) -> Self {
        Self { hash, verifier }
    }

    /// That of the task `name`, from the settings of an evaluation.
    fn read(settings: &Value, name: &str) -> Self {
        let ranked = RANKED.iter().find_map(|ending| name.strip_suffix(ending));
        let task = &settings["tasks"][ranked.unwrap_or(name)];
        let given = |key: &str| task.get(key).filter(|value| !value.is_null()).cloned();
        let verifier = if ranked.is_some() { Some(Value::Null) } else { given("verifier") };
        Self { hash: given("hash"), verifier }
    }

    /// That of a benchmark's results under a name.
    pub fn of(benchmark: &Benchmark, name: &str) -> Self {
        let task = json!({"hash": benchmark.hash, "verifier": benchmark.verifier()});
        Self::read(&json!({"tasks": {&*benchmark.name: task}}), name)
    }
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
                () if rlvr::run::dir::is_run(dir) => format!(
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
                    let meta = fields.get("meta").and_then(Value::as_object).into_iter().flatten();
                    let known: Vec<&str> = fields.iter().chain(meta).map(|(key, _)| key.as_str()).collect();
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
        let settings = settings(dir)?;
        for task in &mut tasks {
            task.identity = Identity::read(&settings, &task.name);
        }
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

/// The settings in a directory's results.json; null without it.
pub fn settings(dir: &Path) -> Result<Value> {
    let path = dir.join(RESULTS);
    if !path.is_file() {
        return Ok(Value::Null);
    }
    let (name, text) = input::text(&path)?;
    let mut results: Value =
        serde_json::from_str(&text).map_err(|e| bad(format!("{name}: not valid JSON: {e}")))?;
    Ok(results["settings"].take())
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

    /// For its accuracy, as one of a cluster.
    pub fn question(&self, cluster: usize) -> Question<'_> {
        let samples = self.samples.iter().map(|s| (s.answer.as_deref(), s.correct)).collect();
        Question { cluster, samples }
    }
}

impl TaskItems {
    fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            items: Vec::new(),
            by_id: HashMap::new(),
            identity: Identity::default(),
        }
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

    /// Its items, with the numbers of their clusters.
    pub fn questions(&self) -> Vec<Question<'_>> {
        let mut numbers: HashMap<&str, usize> = HashMap::new();
        let mut questions = Vec::with_capacity(self.items.len());
        for item in &self.items {
            let next = numbers.len();
            questions.push(item.question(*numbers.entry(&item.cluster).or_insert(next)));
        }
        questions
    }
}

/// Refuses evaluations of different versions of a task or verifier under one name, unless `force`; says where that could
/// not be told.
pub fn check_same<'a>(
    name: &str,
    first: &Identity,
    others: impl Iterator<Item = &'a Identity>,
    force: bool,
) -> Result<()> {
    let mut unknown = false;
    for other in others {
        let mut found = Vec::new();
        for (what, a, b) in
            [("task", &first.hash, &other.hash), ("verifier", &first.verifier, &other.verifier)]
        {
            match (a, b) {
                (Some(a), Some(b)) if a != b => found.push(format!("another {what} ({a} and {b})")),
                (Some(_), Some(_)) => {}
                _ => unknown = true,
            }
        }
        if !found.is_empty() && !force {
            return Err(bad(format!(
                "{name}: the evaluations are of {}; evaluate again (rlvr eval score judges completions that are there), \
                 or compare all the same with --force of rlvr compare and rlvr eval report",
                found.join(" and ")
            )));
        }
        found.iter().for_each(|d| say!("note: {name}: the evaluations are of {d}"));
    }
    if unknown {
        say!(
            "note: {name}: task hash or verifier is not recorded, so whether both are the same is not known"
        );
    }
    Ok(())
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

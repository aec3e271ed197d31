//! What an evaluation leaves: `results.json`, `results.md`, and a table.

use crate::output::say;
use crate::output::{interval, print_table, with_error};
use anyhow::Result;
use rlvr::eval::contamination::Contamination;
use rlvr::eval::judge::{JudgeVerdict, Opinion, agreement};
use rlvr::eval::{Accuracy, Benchmark, Commonest, Item, Judged, short_fields, solved};
use rlvr::files::destination::Destination;
use rlvr::files::destination::write_atomic;
use rlvr::number::fixed;
use rlvr::rewards::{Outcome, Verdict};
use rlvr::stats::Estimate;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

pub use rlvr::eval::sample_log::SAMPLES;
pub const RESULTS: &str = "results.json";
/// The table as Markdown.
const MARKDOWN: &str = "results.md";

/// Refuses to replace results that no samples belong to: they are somebody else's.
pub fn check_foreign(dir: &Path, force: bool) -> Result<()> {
    if !dir.join(SAMPLES).exists() {
        for file in [RESULTS, MARKDOWN].map(|file| dir.join(file)).iter().filter(|file| file.exists()) {
            Destination::free(file, force).map_err(rlvr::Error::from)?;
        }
    }
    Ok(())
}

/// Removes the results of an evaluation that begins anew.
pub fn clear(dir: &Path) {
    for file in [RESULTS, MARKDOWN] {
        // Mostly there is none.
        let _ = std::fs::remove_file(dir.join(file));
    }
}

/// A judged completion with its item.
pub struct Sample {
    task: String,
    id: String,
    group: Option<String>,
    /// Short fields of the data row.
    meta: Map<String, Value>,
    /// Number among the samples of its item.
    pub number: usize,
    /// The prompt, as text or messages.
    pub prompt: Value,
    /// What was found; `judged.task` is the item's index.
    pub judged: Judged,
    /// What a judge says.
    pub opinion: Option<Opinion>,
}

impl Sample {
    pub fn new(task: &str, item: &Item, number: usize, judged: Judged) -> Self {
        let (id, group, meta) = (item.task.id.clone(), item.group.clone(), short_fields(&item.task.meta));
        Self { task: task.to_owned(), id, group, meta, number, prompt: Value::Null, judged, opinion: None }
    }

    /// The row of `samples.jsonl`; `counted` says whether the length in tokens is known.
    pub fn row(&self, counted: bool) -> Map<String, Value> {
        let (j, o) = (&self.judged, &self.judged.outcome);
        let mut row = Map::new();
        let mut put = |key: &str, value: Value| row.insert(key.to_owned(), value);
        put("task", json!(self.task));
        put("id", json!(self.id));
        put("sample", json!(self.number));
        if let Some(group) = &self.group {
            put("group", json!(group));
        }
        if !self.meta.is_empty() {
            put("meta", json!(self.meta));
        }
        if !self.prompt.is_null() {
            put("prompt", self.prompt.clone());
        }
        put("completion", json!(j.text));
        put("extracted", json!(o.extracted));
        put("verdict", json!(o.verdict));
        put("score", json!(o.score));
        put("reason", json!(o.reason));
        put("method", json!(o.method));
        put("gold", json!(o.gold));
        put("prediction", json!(o.prediction));
        put("truncated", json!(j.truncated));
        if counted {
            put("tokens", json!(j.tokens));
        }
        if let Some(opinion) = &self.opinion {
            put("judge", json!(opinion));
        }
        row
    }

    /// A row read back; none when it is not one of the benchmark's, whose items have these `places` by id.
    pub fn read(
        row: &Map<String, Value>,
        benchmark: &Benchmark,
        places: &HashMap<&str, usize>,
    ) -> Option<Self> {
        let text = |key: &str| row.get(key).and_then(Value::as_str).map(str::to_owned);
        let id = text("id")?;
        let item = *places.get(id.as_str())?;
        let verdict: Verdict = serde_json::from_value(row.get("verdict")?.clone()).ok()?;
        let mut outcome = Outcome::of(verdict, text("method")?, text("reason")?);
        outcome.score = row.get("score").and_then(Value::as_f64);
        outcome.extracted = text("extracted");
        outcome.gold = text("gold");
        outcome.prediction = text("prediction");
        let judged = Judged {
            task: item,
            text: text("completion")?,
            tokens: row.get("tokens").and_then(Value::as_u64).unwrap_or(0) as usize,
            truncated: row.get("truncated").and_then(Value::as_bool)?,
            outcome,
        };
        let number = row.get("sample").and_then(Value::as_u64)? as usize;
        let opinion = row.get("judge").and_then(|o| serde_json::from_value(o.clone()).ok());
        Some(Self { opinion, ..Self::new(&text("task")?, &benchmark.items[item], number, judged) })
    }
}

/// One benchmark's outcome.
pub struct TaskResult {
    name: String,
    items: usize,
    accuracy: Accuracy,
    parse_rate: f64,
    truncated_frac: f64,
    /// Mean score of what could be judged, if anything.
    reward_mean: Option<f64>,
    tokens_mean: f64,
    correct: usize,
    completions: usize,
    verdicts: Map<String, Value>,
    groups: Map<String, Value>,
    commonest: Option<Commonest>,
    judge: Option<Value>,
    contamination: Option<Value>,
}

impl TaskResult {
    pub fn new(
        name: &str,
        benchmark: &Benchmark,
        samples: Vec<Sample>,
        contamination: Option<&Contamination>,
    ) -> Self {
        let items = benchmark.items.len();
        let judge = opinions(&samples);
        let judged: Vec<Judged> = samples.into_iter().map(|s| s.judged).collect();
        let unread = |v: Verdict| matches!(v, Verdict::NoAnswer | Verdict::Ambiguous | Verdict::Error);
        let all = judged.len().max(1) as f64;
        let share = |f: &dyn Fn(&Judged) -> bool| judged.iter().filter(|j| f(j)).count() as f64 / all;
        let scores: Vec<f64> = judged.iter().filter_map(|j| j.outcome.score).collect();
        let mut verdicts = Map::new();
        for j in &judged {
            let key = json!(j.outcome.verdict).as_str().unwrap_or_default().to_owned();
            let n = verdicts.get(&key).and_then(Value::as_u64).unwrap_or(0);
            verdicts.insert(key, json!(n + 1));
        }
        Self {
            name: name.to_owned(),
            items,
            accuracy: Accuracy::of_judged(items, &judged),
            parse_rate: share(&|j| !unread(j.outcome.verdict)),
            truncated_frac: share(&|j| j.truncated),
            reward_mean: (!scores.is_empty()).then(|| scores.iter().sum::<f64>() / scores.len() as f64),
            tokens_mean: judged.iter().map(|j| j.tokens as f64).sum::<f64>() / all,
            correct: judged.iter().filter(|j| solved(&j.outcome)).count(),
            completions: judged.len(),
            verdicts,
            groups: groups(benchmark, &judged),
            commonest: Commonest::of(&judged),
            contamination: contamination.map(|found| contaminated(benchmark, &judged, found)),
            judge,
        }
    }

    fn json(&self) -> Value {
        let a = &self.accuracy;
        let mut out = json!({
            "n": self.items, "accuracy": a.mean, "parse_rate": self.parse_rate, "ci95": [a.interval.0, a.interval.1],
            "interval": a.method.name(), "standard_error": a.standard_error, "samples": a.samples,
            "completions": self.completions, "correct": self.correct, "truncated_frac": self.truncated_frac,
            "reward_mean": self.reward_mean, "verdicts": self.verdicts,
        });
        if self.tokens_mean > 0.0 {
            out["tokens_mean"] = json!(self.tokens_mean);
        }
        for (name, estimate) in self.sampled() {
            out[name.as_str()] = json!(estimate.mean);
            out[format!("{name}_standard_error")] = json!(estimate.standard_error);
        }
        if !self.groups.is_empty() {
            out["groups"] = json!(self.groups);
        }
        if let Some(commonest) = &self.commonest {
            out["commonest_answer"] = json!(commonest);
        }
        if let Some(judge) = &self.judge {
            out["judge"] = judge.clone();
        }
        if let Some(found) = &self.contamination {
            out["contamination"] = found.clone();
        }
        out
    }

    /// pass@k and maj@k by name, of several samples.
    fn sampled(&self) -> impl Iterator<Item = (String, Estimate)> {
        let pass = self.accuracy.pass_at.iter().map(|(k, e)| (format!("pass@{k}"), *e));
        pass.chain(self.accuracy.majority.iter().map(|(k, e)| (format!("maj@{k}"), *e)))
    }

    /// A policy that nearly always says the same.
    fn commonest_line(&self) -> Option<String> {
        let c = self.commonest.as_ref().filter(|c| c.is_suspicious())?;
        let percent = |x: f64| 100.0 * x;
        Some(format!(
            "{}: {:.0} % of the answers are `{}`, which is right for {:.0} % of the tasks",
            self.name,
            percent(c.share),
            c.answer,
            percent(c.reference_share)
        ))
    }

    /// What the judge said, and why it first said nothing.
    fn judge_line(&self) -> Option<String> {
        let judge = self.judge.as_ref()?;
        let percent = |v: &Value| v.as_f64().map_or("-".to_owned(), |x| format!("{:.1} %", 100.0 * x));
        let kappa = judge["with_verifier"]["kappa"].as_f64().map_or("-".to_owned(), |k| fixed(k, 3));
        let failure =
            judge["first_failure"].as_str().map_or(String::new(), |why| format!("; first failure: {why}"));
        Some(format!(
            "{}: the judge judged {} ({} unjudged), accuracy {}, agreement with the verifier {}, kappa {kappa}{failure}",
            self.name,
            judge["judged"],
            judge["unjudged"],
            percent(&judge["accuracy"]),
            percent(&judge["with_verifier"]["agreement"]),
        ))
    }

    fn cells(&self) -> Vec<String> {
        let shown =
            |(name, e): (String, Estimate)| format!("{name} {}", with_error(e.mean, e.standard_error));
        let sampled: Vec<String> = self.sampled().map(shown).collect();
        vec![
            self.name.clone(),
            self.items.to_string(),
            format!("{:.3}", self.accuracy.mean),
            interval(self.accuracy.interval),
            format!("{:.3}", self.parse_rate),
            sampled.join(", "),
        ]
    }
}

/// What a judge says about the samples beside the verifier; none without a judge. Its accuracy is over what it judged.
fn opinions(samples: &[Sample]) -> Option<Value> {
    let given: Vec<(&Sample, &Opinion)> =
        samples.iter().filter_map(|s| Some((s, s.opinion.as_ref()?))).collect();
    if given.is_empty() {
        return None;
    }
    let judged: Vec<_> = given.iter().filter(|(_, o)| o.verdict != JudgeVerdict::Unjudged).collect();
    let correct = judged.iter().filter(|(_, o)| o.verdict == JudgeVerdict::Correct).count();
    let pairs: Vec<(bool, bool)> = (judged.iter())
        .filter(|(s, _)| !s.judged.outcome.verdict.is_masked())
        .map(|(s, o)| (solved(&s.judged.outcome), o.verdict == JudgeVerdict::Correct))
        .collect();
    let failure = given.iter().find(|(_, o)| o.verdict == JudgeVerdict::Unjudged).map(|(_, o)| &o.reason);
    let accuracy = (!judged.is_empty()).then(|| correct as f64 / judged.len() as f64);
    Some(json!({
        "judged": judged.len(), "unjudged": given.len() - judged.len(), "correct": correct, "accuracy": accuracy,
        "with_verifier": agreement(&pairs), "first_failure": failure,
    }))
}

/// The items that occur in training data, and accuracy without them.
fn contaminated(benchmark: &Benchmark, judged: &[Judged], found: &Contamination) -> Value {
    let all = benchmark.items.len();
    let clean: Vec<usize> = (0..all).filter(|i| !found.items.contains(i)).collect();
    let without = of_items(&clean, judged);
    let ids: Vec<&str> = found.items.iter().map(|i| benchmark.items[*i].task.id.as_str()).collect();
    json!({
        "items": ids.len(), "of": all, "too_short": found.too_short, "ids": ids,
        "without": without,
    })
}

/// Accuracy over some of the items.
fn of_items(items: &[usize], judged: &[Judged]) -> Value {
    let place: BTreeMap<usize, usize> = items.iter().enumerate().map(|(place, i)| (*i, place)).collect();
    let mine: Vec<Judged> =
        (judged.iter()).filter_map(|j| Some(Judged { task: *place.get(&j.task)?, ..j.clone() })).collect();
    let found = Accuracy::of_judged(items.len(), &mine);
    json!({"n": items.len(), "accuracy": found.mean, "ci95": [found.interval.0, found.interval.1]})
}

/// Accuracy by group, where a benchmark has several.
fn groups(benchmark: &Benchmark, judged: &[Judged]) -> Map<String, Value> {
    let mut of_group: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (i, item) in benchmark.items.iter().enumerate() {
        if let Some(group) = &item.group {
            of_group.entry(group).or_default().push(i);
        }
    }
    if of_group.len() < 2 {
        return Map::new();
    }
    let mut found = Map::new();
    for (group, items) in of_group {
        found.insert(group.to_owned(), of_items(&items, judged));
    }
    found
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

    /// The accuracy of a task.
    pub fn accuracy(&self, task: &str) -> Option<f64> {
        self.tasks.iter().find(|t| t.name == task).map(|t| t.accuracy.mean)
    }

    /// Writes both files and prints the table.
    pub fn write(&self, dir: &Path) -> Result<()> {
        let tasks: Map<String, Value> = self.tasks.iter().map(|t| (t.name.clone(), t.json())).collect();
        let version = env!("CARGO_PKG_VERSION");
        let results = json!({"tasks": tasks, "settings": self.settings, "version": version});
        let text = format!("{}\n", serde_json::to_string_pretty(&results)?);
        write_atomic(&dir.join(RESULTS), text.as_bytes()).map_err(rlvr::Error::from)?;
        let mut header = vec!["task", "n", "accuracy", "95 % interval", "parse rate", "pass@k, maj@k"];
        let mut rows: Vec<Vec<String>> = self.tasks.iter().map(TaskResult::cells).collect();
        if self.tasks.iter().all(|t| t.accuracy.pass_at.is_empty()) {
            header.pop();
            rows.iter_mut().for_each(|row| row.truncate(header.len()));
        }
        write_atomic(&dir.join(MARKDOWN), self.markdown(&header, &rows).as_bytes())
            .map_err(rlvr::Error::from)?;
        print_table(&header, &rows)?;
        self.lines().for_each(|line| say!("{line}"));
        say!("wrote {RESULTS}, {MARKDOWN} and {SAMPLES} in {}", dir.display());
        Ok(())
    }

    /// Sentences about single tasks.
    fn lines(&self) -> impl Iterator<Item = String> {
        self.tasks.iter().flat_map(|task| [task.commonest_line(), task.judge_line()]).flatten()
    }

    fn markdown(&self, header: &[&str], rows: &[Vec<String>]) -> String {
        let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        let head: Vec<String> = header.iter().map(|h| (*h).to_owned()).collect();
        let mut text = line(&head) + &format!("|{}\n", "---|".repeat(header.len()));
        rows.iter().for_each(|row| text.push_str(&line(row)));
        for task in self.tasks.iter().filter(|t| !t.groups.is_empty()) {
            text.push_str(&format!(
                "\n{} by group:\n\n| group | n | accuracy | 95 % interval |\n|---|---|---|---|\n",
                task.name
            ));
            for (group, r) in &task.groups {
                let number = |v: &Value| v.as_f64().unwrap_or(f64::NAN);
                let ci = (number(&r["ci95"][0]), number(&r["ci95"][1]));
                text.push_str(&format!(
                    "| {group} | {} | {:.3} | {} |\n",
                    r["n"],
                    number(&r["accuracy"]),
                    interval(ci)
                ));
            }
        }
        for line in self.lines() {
            text.push_str(&format!("\n{line}\n"));
        }
        for task in &self.tasks {
            let Some(found) = &task.contamination else { continue };
            text.push_str(&format!(
                "\n{}: {} of {} items occur in the training file ({} too short to tell); accuracy without them {:.3}\n",
                task.name,
                found["items"],
                found["of"],
                found["too_short"],
                found["without"]["accuracy"].as_f64().unwrap_or(f64::NAN),
            ));
        }
        let text_of = |key: &str| self.settings[key].as_str().map(|v| format!("{key} `{v}`"));
        let made: Vec<String> = ["policy", "policy_hash", "template_hash", "completions"]
            .into_iter()
            .filter_map(text_of)
            .collect();
        let seed = self.settings["seed"].as_u64().map_or(String::new(), |seed| format!(", seed {seed}"));
        text + &format!("\n{}{seed}, rlvr {}\n", made.join(", "), env!("CARGO_PKG_VERSION"))
    }
}

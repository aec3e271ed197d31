//! An evaluation as it lies in a directory, read for comparisons and reports.

use super::{Identity, RESULTS, ResultsError, SAMPLES};
use crate::eval::Question;
use crate::files::bounded::LARGE;
use crate::files::source::{self, LineSource};
use crate::random;
use crate::rows;
use crate::run::dir::is_run;
use crate::stats::majority_vote;
use serde_json::{Map, Value};
use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

/// What is read beside verdicts.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wanted<'a> {
    /// Field of the rows, or of their `meta`, whose values group questions that depend on each other.
    pub cluster: Option<&'a str>,
    /// Completions and references.
    pub texts: bool,
}

/// What one directory holds.
#[derive(Debug)]
pub struct Evaluation {
    /// The directory.
    pub dir: PathBuf,
    /// What messages and tables call it: at first the directory.
    pub label: String,
    /// In the order of the file.
    pub tasks: Vec<TaskItems>,
}

/// The items of a task.
#[derive(Debug)]
pub struct TaskItems {
    /// Name of the task.
    pub name: String,
    /// In the order of the file.
    pub items: Vec<Item>,
    by_id: HashMap<String, usize>,
    /// What another evaluation must share to be compared.
    pub identity: Identity,
}

/// A question with its completions.
#[derive(Debug, Clone)]
pub struct Item {
    /// Its id in the data.
    pub id: String,
    /// Value of the cluster's field; the id without one.
    pub cluster: String,
    /// What accuracy is broken down by, where it is.
    pub group: Option<String>,
    /// Whether a sample names pictures that it was asked about.
    pub pictures: bool,
    /// At least one.
    pub samples: Vec<Sample>,
}

/// A judged completion, as far as comparisons and reports need it.
#[derive(Debug, Clone)]
pub struct Sample {
    /// Whether the verdict is `correct`.
    pub correct: bool,
    /// An answer was found, whatever its worth.
    pub parsed: bool,
    /// Whether it was cut off.
    pub truncated: bool,
    /// Length in tokens, where it is recorded.
    pub tokens: Option<f64>,
    /// The answer in canonical form.
    pub answer: Option<String>,
    /// A hash of its text.
    pub said: u64,
    /// Its text; empty unless [`Wanted::texts`].
    pub completion: String,
    /// Texts that would be right; empty unless [`Wanted::texts`].
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

/// The settings in a directory's `results.json`; null without that file.
///
/// # Errors
/// [`ResultsError`], of a file that cannot be read or is no JSON.
pub fn settings(dir: &Path) -> Result<Value, ResultsError> {
    let path = dir.join(RESULTS);
    if !path.is_file() {
        return Ok(Value::Null);
    }
    let (name, text) = source::text_within(&path, LARGE)?;
    let mut results: Value = serde_json::from_str(&text)
        .map_err(|e| ResultsError::File { name, message: format!("not valid JSON: {e}") })?;
    Ok(results["settings"].take())
}

/// The names of all tasks of several evaluations, in the order in which they come.
pub fn task_names(evaluations: &[Evaluation]) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    for task in evaluations.iter().flat_map(|e| &e.tasks) {
        if !names.contains(&task.name.as_str()) {
            names.push(&task.name);
        }
    }
    names
}

impl Evaluation {
    /// Reads `samples.jsonl`, and what `results.json` says about its tasks.
    ///
    /// # Errors
    /// [`ResultsError`], of a directory without an evaluation, or of a row that lacks what is wanted, with its line.
    pub fn read(dir: &Path, wanted: Wanted<'_>) -> Result<Self, ResultsError> {
        let mut found = Self::of_samples(dir, wanted)?;
        let settings = settings(dir)?;
        for task in &mut found.tasks {
            task.identity = Identity::read(&settings, &task.name);
        }
        Ok(found)
    }

    /// [`Self::read`] without `results.json`, which may be still to be written.
    ///
    /// # Errors
    /// As there.
    pub fn of_samples(dir: &Path, wanted: Wanted<'_>) -> Result<Self, ResultsError> {
        let path = dir.join(SAMPLES);
        if !path.is_file() {
            let dir = dir.to_owned();
            return Err(match () {
                () if !dir.exists() => ResultsError::NoDirectory { dir },
                () if is_run(&dir) => ResultsError::IsRun { dir },
                () => ResultsError::NoEvaluation { dir },
            });
        }
        let mut source = LineSource::open(&path)?;
        let mut tasks: Vec<TaskItems> = Vec::new();
        while let Some((line, fields)) = source.next_object()? {
            let text = |key: &str| fields.get(key).and_then(Value::as_str);
            let (Some(task), Some(id), Some(verdict)) = (text("task"), rows::id(&fields), text("verdict"))
            else {
                return Err(source.bad_at(line, "the row has no `task`, `id` and `verdict`").into());
            };
            let cluster = match wanted.cluster {
                None => id.clone(),
                Some(field) => cluster(&fields, field).map_err(|e| source.bad_at(line, e))?,
            };
            let at = tasks.iter().position(|t| t.name == task).unwrap_or_else(|| {
                tasks.push(TaskItems::new(task));
                tasks.len() - 1
            });
            let group = fields.get("group").and_then(Value::as_str);
            let pictures = fields.get("images").and_then(Value::as_array).is_some_and(|i| !i.is_empty());
            let sample = Sample::new(&fields, verdict, wanted.texts);
            tasks[at].add(Item {
                id,
                cluster,
                group: group.map(str::to_owned),
                pictures,
                samples: vec![sample],
            });
        }
        if tasks.is_empty() {
            return Err(ResultsError::Empty { path });
        }
        Ok(Self { dir: dir.to_owned(), label: dir.display().to_string(), tasks })
    }

    /// Its items of a task; none when it was not evaluated.
    pub fn task(&self, name: &str) -> Option<&TaskItems> {
        self.tasks.iter().find(|t| t.name == name)
    }
}

/// The value of a field, also of one inside of `meta`.
fn cluster(fields: &Map<String, Value>, field: &str) -> Result<String, String> {
    let meta = fields.get("meta");
    let value = fields.get(field).or_else(|| meta.and_then(|meta| meta.get(field)));
    value.and_then(rows::id_text).ok_or_else(|| {
        let meta = meta.and_then(Value::as_object).into_iter().flatten();
        let known: Vec<&str> = fields.iter().chain(meta).map(|(key, _)| key.as_str()).collect();
        format!("the row has no field {field:?} for --cluster; it has {}", known.join(", "))
    })
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
            said: random::hash_bytes(text("completion").unwrap_or_default().trim().as_bytes()),
            completion: if texts { text("completion").unwrap_or_default() } else { String::new() },
            references: if texts { references } else { Vec::new() },
        }
    }

    fn score(&self) -> f64 {
        f64::from(u8::from(self.correct))
    }
}

impl Item {
    /// Share of its samples that are right, in [0, 1]: its part of mean@k.
    pub fn mean(&self) -> f64 {
        self.samples.iter().map(Sample::score).sum::<f64>() / self.samples.len() as f64
    }

    /// Score of the answer that most samples gave, in [0, 1]: its part of maj@k.
    pub fn majority(&self) -> f64 {
        majority_vote(self.samples.iter().map(|s| (s.answer.as_deref(), s.score())))
    }

    /// The item as its accuracy is computed from it, as one of a cluster.
    fn question(&self, cluster: usize) -> Question<'_> {
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

    /// Adds an item, or the samples of one that it has.
    fn add(&mut self, item: Item) {
        let at = *self.by_id.entry(item.id.clone()).or_insert(self.items.len());
        match self.items.get_mut(at) {
            None => self.items.push(item),
            Some(known) => {
                known.pictures |= item.pictures;
                known.samples.extend(item.samples);
            }
        }
    }

    /// The groups of its items, in order.
    pub fn groups(&self) -> Vec<&str> {
        let groups: BTreeSet<&str> = self.items.iter().filter_map(|item| item.group.as_deref()).collect();
        groups.into_iter().collect()
    }

    /// Some of its items alone.
    #[must_use]
    pub fn only(&self, keep: &dyn Fn(&Item) -> bool) -> Self {
        let items: Vec<Item> = self.items.iter().filter(|item| keep(item)).cloned().collect();
        let by_id = items.iter().enumerate().map(|(i, item)| (item.id.clone(), i)).collect();
        Self { name: self.name.clone(), items, by_id, identity: self.identity.clone() }
    }

    /// The item with an id.
    pub fn item(&self, id: &str) -> Option<&Item> {
        self.by_id.get(id).map(|at| &self.items[*at])
    }

    /// Its items, with the numbers of their clusters: what [`crate::eval::Accuracy::of`] takes.
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

//! `results.json` and `results.md`.

use super::{ImageComparison, JUDGED, MARKDOWN, RESULTS, SAMPLES, TaskResult};
use crate::error::Error;
use crate::eval::sample_log::SETTINGS;
use crate::files::destination::{Destination, TEMPORARY, replace_atomic};
use crate::files::lock::LOCK_FILE;
use crate::files::{IoError, is_own_file};
use crate::number::interval;
use serde_json::{Map, Value, json};
use std::path::Path;

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What an evaluation writes into its directory and replaces there as a whole.
const FILES: [&str; 4] = [SETTINGS, SAMPLES, RESULTS, MARKDOWN];

/// Refuses a directory whose files an evaluation may not replace: results that no samples belong to, which are somebody
/// else's, and what is no regular file, as in the directory of a run: a link leads to what belongs to others, a pipe is
/// waited for forever. `force` replaces all of them, a link itself and not what it leads to.
///
/// # Errors
/// [`Error::Output`], [`Error::Unusable`].
pub fn check_foreign(dir: &Path, force: bool) -> Result<(), Error> {
    // These are opened and written in place, so that not even `force` replaces what stands there.
    let written = FILES.map(|file| format!("{TEMPORARY}{file}")).into_iter();
    let written = written.chain([LOCK_FILE, JUDGED].map(str::to_owned));
    let replaced = FILES.into_iter().filter(|_| !force).map(str::to_owned);
    for file in written.chain(replaced) {
        is_own_file(&dir.join(&file)).map_err(|e| Error::Unusable { what: format!("{e}: {}", e.source) })?;
    }
    if !dir.join(SAMPLES).exists() {
        for file in [RESULTS, MARKDOWN].map(|file| dir.join(file)).iter().filter(|file| file.exists()) {
            Destination::free(file, force)?;
        }
    }
    Ok(())
}

/// Writes samples that were judged as a whole into a directory. The settings of an evaluation that they replace go: they
/// would let it go on with these samples.
///
/// # Errors
/// [`Error::Io`].
pub fn write_samples(dir: &Path, lines: &[u8]) -> Result<(), Error> {
    // Mostly there are none.
    let _ = std::fs::remove_file(dir.join(SETTINGS));
    Ok(replace_atomic(&dir.join(SAMPLES), lines)?)
}

/// Removes the results of an evaluation that begins anew.
pub fn clear(dir: &Path) {
    for file in [RESULTS, MARKDOWN] {
        // Mostly there is none.
        let _ = std::fs::remove_file(dir.join(file));
    }
}

/// All tasks of an evaluation.
#[derive(Debug)]
pub struct Results {
    settings: Value,
    tasks: Vec<TaskResult>,
    image_arms: Vec<ImageComparison>,
}

impl Results {
    /// None yet; `settings` says what they depend on.
    pub fn new(settings: Value) -> Self {
        Self { settings, tasks: Vec::new(), image_arms: Vec::new() }
    }

    /// Adds a task, which comes after the others.
    pub fn add(&mut self, task: TaskResult) {
        self.tasks.push(task);
    }

    /// Adds what real pictures are above controls.
    pub fn add_image_arms(&mut self, arms: Vec<ImageComparison>) {
        self.image_arms.extend(arms);
    }

    /// What real pictures are above controls; empty without controls.
    pub fn image_arms(&self) -> &[ImageComparison] {
        &self.image_arms
    }

    /// The tasks in order.
    pub fn tasks(&self) -> &[TaskResult] {
        &self.tasks
    }

    /// The accuracy of a task; none when there is no such task.
    pub fn accuracy(&self, task: &str) -> Option<f64> {
        self.tasks.iter().find(|t| t.name == task).map(|t| t.accuracy.mean)
    }

    /// Writes `results.json` and `results.md` into a directory, each as a whole.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn write(&self, dir: &Path) -> Result<(), Error> {
        let (results, markdown) = (dir.join(RESULTS), dir.join(MARKDOWN));
        let text = serde_json::to_string_pretty(&self.json());
        let text = text.map_err(|e| IoError::at("write", &results)(e.into()))?;
        replace_atomic(&results, format!("{text}\n").as_bytes())?;
        Ok(replace_atomic(&markdown, self.markdown().as_bytes())?)
    }

    /// What `results.json` says.
    pub fn json(&self) -> Value {
        let tasks: Map<String, Value> = self.tasks.iter().map(|t| (t.name.clone(), t.json())).collect();
        let mut json = json!({"tasks": tasks, "settings": self.settings, "version": VERSION});
        if !self.image_arms.is_empty() {
            json["image_arms"] = json!(self.image_arms);
        }
        json
    }

    /// The table: its header and a row a task, without columns that would be empty.
    pub fn table(&self) -> (Vec<&'static str>, Vec<Vec<String>>) {
        let header = ["task", "n", "accuracy", "95 % interval", "parse rate", "pass@k, maj@k", "texts"];
        without_empty(&header, self.tasks.iter().map(TaskResult::cells).collect(), 5)
    }

    /// Accuracy by group of the tasks that have at most so many: a row each, with a header; empty without groups.
    pub fn group_table(&self, most: usize) -> (Vec<&'static str>, Vec<Vec<String>>) {
        let number = |v: &Value| v.as_f64().unwrap_or(f64::NAN);
        let row = |task: &TaskResult, (group, r): (&String, &Value)| {
            let ci = interval((number(&r["ci95"][0]), number(&r["ci95"][1])));
            let texts = r["texts"].as_object().into_iter().flatten();
            let texts: Vec<String> = texts.map(|(name, v)| format!("{name} {:.3}", number(v))).collect();
            let (n, accuracy) = (r["n"].to_string(), format!("{:.3}", number(&r["accuracy"])));
            vec![task.name.clone(), group.clone(), n, accuracy, ci, texts.join(", ")]
        };
        let tasks = self.tasks.iter().filter(|task| task.groups.len() <= most);
        let rows = tasks.flat_map(|task| task.groups.iter().map(move |group| row(task, group))).collect();
        without_empty(&["task", "group", "n", "accuracy", "95 % interval", "texts"], rows, 5)
    }

    /// Sentences about single tasks that deserve attention: a policy that nearly always says the same, what a judge said,
    /// and pictures that make no difference.
    pub fn notes(&self) -> impl Iterator<Item = String> {
        let warnings = self.image_arms.iter().filter_map(ImageComparison::warning);
        self.tasks.iter().flat_map(TaskResult::notes).chain(warnings)
    }

    /// What `results.md` says: the table, accuracy by group, the notes, and where it all comes from.
    pub fn markdown(&self) -> String {
        let (header, rows) = self.table();
        let mut text = table(&header, &rows);
        let (header, rows) = self.group_table(usize::MAX);
        if !rows.is_empty() {
            text.push_str(&format!("\nBy group:\n\n{}", table(&header, &rows)));
        }
        if !self.image_arms.is_empty() {
            let rows: Vec<Vec<String>> = self.image_arms.iter().map(ImageComparison::cells).collect();
            text.push_str(&format!(
                "\nReal pictures against controls, item by item:\n\n{}",
                table(&ImageComparison::HEADER, &rows)
            ));
        }
        for note in self.notes() {
            text.push_str(&format!("\n{note}\n"));
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
        text + &format!("\n{}{seed}, rlvr {VERSION}\n", made.join(", "))
    }
}

/// A Markdown table.
fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let mut text = format!("| {} |\n|{}\n", header.join(" | "), "---|".repeat(header.len()));
    rows.iter().for_each(|row| text.push_str(&format!("| {} |\n", row.join(" | "))));
    text
}

/// A table without the columns from `from` on that are empty in every row.
fn without_empty(
    header: &[&'static str],
    rows: Vec<Vec<String>>,
    from: usize,
) -> (Vec<&'static str>, Vec<Vec<String>>) {
    let used = |column: &usize| *column < from || rows.iter().any(|row| !row[*column].is_empty());
    let used: Vec<usize> = (0..header.len()).filter(used).collect();
    let kept = |row: &Vec<String>| used.iter().map(|column| row[*column].clone()).collect();
    (used.iter().map(|column| header[*column]).collect(), rows.iter().map(kept).collect())
}

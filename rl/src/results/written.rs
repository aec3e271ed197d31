//! `results.json` and `results.md`.

use super::{JUDGED, MARKDOWN, RESULTS, SAMPLES, TaskResult};
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
}

impl Results {
    /// None yet; `settings` says what they depend on.
    pub fn new(settings: Value) -> Self {
        Self { settings, tasks: Vec::new() }
    }

    /// Adds a task, which comes after the others.
    pub fn add(&mut self, task: TaskResult) {
        self.tasks.push(task);
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
        json!({"tasks": tasks, "settings": self.settings, "version": VERSION})
    }

    /// The table: its header and a row a task. The last column is there when a task has several samples.
    pub fn table(&self) -> (Vec<&'static str>, Vec<Vec<String>>) {
        let mut header = vec!["task", "n", "accuracy", "95 % interval", "parse rate", "pass@k, maj@k"];
        let mut rows: Vec<Vec<String>> = self.tasks.iter().map(TaskResult::cells).collect();
        if self.tasks.iter().all(|t| t.accuracy.pass_at.is_empty()) {
            header.pop();
            rows.iter_mut().for_each(|row| row.truncate(header.len()));
        }
        (header, rows)
    }

    /// Sentences about single tasks that deserve attention: a policy that nearly always says the same, and what a judge
    /// said.
    pub fn notes(&self) -> impl Iterator<Item = String> {
        self.tasks.iter().flat_map(TaskResult::notes)
    }

    /// What `results.md` says: the table, accuracy by group, the notes, and where it all comes from.
    pub fn markdown(&self) -> String {
        let (header, rows) = self.table();
        let mut text = format!("| {} |\n|{}\n", header.join(" | "), "---|".repeat(header.len()));
        rows.iter().for_each(|row| text.push_str(&format!("| {} |\n", row.join(" | "))));
        for task in self.tasks.iter().filter(|t| !t.groups.is_empty()) {
            text.push_str(&format!(
                "\n{} by group:\n\n| group | n | accuracy | 95 % interval |\n|---|---|---|---|\n",
                task.name
            ));
            for (group, r) in &task.groups {
                let number = |v: &Value| v.as_f64().unwrap_or(f64::NAN);
                let ci = interval((number(&r["ci95"][0]), number(&r["ci95"][1])));
                text.push_str(&format!("| {group} | {} | {:.3} | {ci} |\n", r["n"], number(&r["accuracy"])));
            }
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

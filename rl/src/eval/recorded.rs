//! What a run measures, written into its directory as benchmarks: `rlvr eval run --tasks RUN/eval/NAME.toml` measures the
//! same tasks with the same verifier and bounds.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use rlvr_rewards::{Task, TaskImage};
use serde_json::json;

use super::fingerprint::sha256_hex;
use super::{EvalSettings, Generation, SourceFile, TaskFile};
use crate::config::{ConfigError, RunConfig};
use crate::error::Error;
use crate::files::IoError;
use crate::files::destination::replace_atomic;

/// Writes a definition with its rows for every set into `dir`, and returns the definitions; none without `[eval]`.
///
/// # Errors
/// A directory that cannot be written.
pub(crate) fn write(
    dir: &Path,
    config: &RunConfig,
    sets: &[(String, Vec<&Task>)],
) -> Result<Vec<PathBuf>, Error> {
    let (Some(eval), Some(reward)) = (&config.eval, &config.rewards) else { return Ok(Vec::new()) };
    if sets.is_empty() {
        return Ok(Vec::new());
    }
    fs::create_dir_all(dir).map_err(IoError::at("create the directory", dir))?;
    let settings = EvalSettings::new(config, eval);
    let mut names = Unique::default();
    let mut written = Vec::new();
    for (set, tasks) in sets {
        let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' };
        let name = names.of(set.chars().map(plain).collect(), "_");
        let rows = rows(tasks);
        let file = TaskFile {
            name: name.clone(),
            title: format!("What the run {} measures as {set}", config.name),
            license: "that of the run's data".to_owned(),
            note: None,
            source: Some(SourceFile {
                file: format!("{name}.jsonl"),
                tasks: true,
                images: None,
                sha256: Some(sha256_hex(rows.as_bytes())),
                hub: None,
                hub_file: None,
                url: None,
                origin: None,
                items: Some(tasks.len()),
            }),
            generate: None,
            filter: None,
            schema: Default::default(),
            fields: None,
            prompt: None,
            system: None,
            few_shot: None,
            reward: reward.clone(),
            generation: Generation { max_tokens: settings.sampling.max_tokens, stop: settings.stop.clone() },
            likelihood: None,
            metrics: Vec::new(),
        };
        let text = toml::to_string(&file)
            .map_err(|e| ConfigError::Invalid { lines: vec![format!("[rewards] has no TOML form: {e}")] })?;
        let path = dir.join(format!("{name}.toml"));
        replace_atomic(&dir.join(format!("{name}.jsonl")), rows.as_bytes())?;
        replace_atomic(&path, text.as_bytes())?;
        written.push(path);
    }
    Ok(written)
}

/// The tasks as they are, a line each. A benchmark tells them apart by their ids, which data need not do.
fn rows(tasks: &[&Task]) -> String {
    let mut ids = Unique::default();
    // Pictures are named from where the rows lie, and the rows lie elsewhere than the data.
    let absolute = |image: &TaskImage| match image {
        TaskImage::Path(path) => TaskImage::Path(std::path::absolute(path).unwrap_or_else(|_| path.clone())),
        bytes @ TaskImage::Bytes(_) => bytes.clone(),
    };
    let row = |task: &&Task| {
        let images = task.images.iter().map(absolute).collect();
        format!("{}\n", json!(Task { id: ids.of(task.id.clone(), "#"), images, ..(*task).clone() }))
    };
    tasks.iter().map(row).collect()
}

/// Names that were given out.
#[derive(Default)]
struct Unique(HashMap<String, usize>);

impl Unique {
    /// The name, and where it was given out before, with the least number behind `mark` that makes it another.
    fn of(&mut self, name: String, mark: &str) -> String {
        let mut given = name.clone();
        while self.0.contains_key(&given) {
            let count = self.0.entry(name.clone()).or_default();
            *count += 1;
            given = format!("{name}{mark}{}", *count + 1);
        }
        self.0.insert(given.clone(), 0);
        given
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::{Benchmark, OpenSettings};
    use rlvr_rewards::Message;

    #[test]
    fn a_recorded_set_reads_back_as_it_was() {
        let config = "name = \"r\"\n[policy.tiny]\n[data.Held-out]\nkind = \"addition\"\nsplit = \"heldout\"\n[data.held_out]\n\
                      kind = \"addition\"\n[rewards]\nkind = \"sum\"\n[[rewards.terms]]\nweight = 0.5\n\
                      reward = { kind = \"exact\" }\n[[stage]]\nkind = \"grpo\"\ndata = \"held_out\"\nsteps = 1\nstop = [\"\\n\"]\n\
                      sampling = { max_tokens = 7 }\n[eval]\ndata = [\"Held-out\"]\n";
        let config = RunConfig::parse(config, Path::new("r.toml"), &[]).unwrap();
        let said = |role: &str, content: &str| Message { role: role.into(), content: content.into() };
        let task = |id: &str, answer: &str| Task {
            id: id.into(),
            prompt: vec![
                said("system", "S"),
                said("user", "1+1?\n"),
                said("assistant", "2"),
                said("user", "and?"),
            ],
            images: Vec::new(),
            reference: json!({"answer": answer, "deep": [1, null]}),
            meta: json!({"n": 1}).as_object().cloned().unwrap(),
        };
        let tasks = [task("a", "1"), task("a", "2"), task("a#2", "3"), task("a", "4")];
        let tasks: Vec<&Task> = tasks.iter().collect();
        let dir = tempfile::tempdir().unwrap();
        let sets = [("Held-out".to_owned(), tasks.clone()), ("held_out".to_owned(), tasks.clone())];
        let files = write(&dir.path().join("eval"), &config, &sets).unwrap();
        let names: Vec<_> = files.iter().map(|f| f.file_name().unwrap().to_str().unwrap()).collect();
        assert_eq!(names, ["held_out.toml", "held_out_2.toml"]);
        let read = Benchmark::named(files[0].to_str().unwrap(), &OpenSettings::default()).unwrap();
        let ids: Vec<&str> = read.items.iter().map(|item| item.task.id.as_str()).collect();
        assert_eq!(ids, ["a", "a#2", "a#2#2", "a#3"]);
        for (item, task) in read.items.iter().zip(&tasks) {
            assert_eq!(Task { id: task.id.clone(), ..item.task.clone() }, **task);
        }
        assert_eq!(read.generation, Some(Generation { max_tokens: 7, stop: vec!["\n".into()] }));
        assert_eq!(read.reward_config, serde_json::to_value(config.rewards.as_ref().unwrap()).unwrap());
        // Rows that were changed are another benchmark.
        std::fs::write(dir.path().join("eval/held_out.jsonl"), rows(&tasks[..3])).unwrap();
        let error = Benchmark::named(files[0].to_str().unwrap(), &OpenSettings::default()).err().unwrap();
        assert!(error.to_string().contains("SHA-256"), "{error}");
    }
}

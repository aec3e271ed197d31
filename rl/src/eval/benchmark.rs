//! Opens a benchmark: its rows become items, checked against the definition.

use std::collections::{HashMap, HashSet};
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rlvr_rewards::{Reward, Task};
use serde_json::{Value, json};

use super::builtin;
use super::fingerprint::{file_sha256, sha256_hex};
use super::item::Item;
use super::rows::{Drawn, RowReader, whole_tasks};
use super::task_file::{Continuation, FewShot, Generation, SourceFile, TaskFile};
use super::text_metric::TextMetric;
use crate::data::{DataError, TaskSource};
use crate::error::Error;
use crate::files::bounded::{SMALL, read_named};
use crate::files::encoding::utf8;
use crate::random;

/// Seed of generated tasks: a benchmark has the same items always.
const GENERATE_SEED: u64 = 0;
const FEW_SHOT_STREAM: u64 = 0x7368_6f74;

/// How a benchmark is opened.
#[derive(Debug, Clone, Default)]
pub struct OpenSettings {
    /// Where `source.file` is looked for.
    pub data_dir: PathBuf,
    /// The folder of the definition, where its file is looked for first. None for built-in ones.
    pub beside: Option<PathBuf>,
    /// Only the first so many items.
    pub limit: Option<usize>,
    /// Control arm: options in another order, by this seed.
    pub shuffle_options: Option<u64>,
    /// Control arm: items without their context; without the question where there is no context.
    pub no_context: bool,
    /// Examples before the question, instead of the definition's number.
    pub few_shot: Option<usize>,
    /// System message instead of the definition's.
    pub system: Option<String>,
    /// What is scored by likelihood, instead of the definition's.
    pub likelihood_of: Option<Continuation>,
}

/// A definition with its text and how to open it.
pub struct Definition {
    /// What the text says.
    pub file: TaskFile,
    /// The text, which is part of the benchmark's hash.
    pub text: String,
    /// The settings, with the folder of the definition.
    pub settings: OpenSettings,
}

impl Definition {
    /// The built-in definition of a name, or the one in a file that ends in `.toml`; `None` for anything else.
    ///
    /// # Errors
    /// A file that cannot be read or is no definition.
    pub fn find(name: &str, settings: &OpenSettings) -> Result<Option<Self>, Error> {
        let (path, mut settings) = (Path::new(name), settings.clone());
        let (file, text) = match builtin::definition(name) {
            Some(file) => (file?, builtin::text(name).unwrap_or_default().to_owned()),
            None if path.extension().is_some_and(|e| e == "toml") => {
                let unusable = |e: &dyn Display| Error::Unusable { what: format!("cannot read {name}: {e}") };
                let bytes = read_named(path, SMALL).map_err(|e| unusable(&e))?;
                let text = utf8(&bytes).map_err(|e| unusable(&e))?.to_owned();
                let mut file = TaskFile::parse(&text, path)?;
                let beside = path.parent().map_or_else(PathBuf::new, Path::to_path_buf);
                file.reward.resolve_paths(&beside);
                settings.beside = Some(beside);
                (file, text)
            }
            None => return Ok(None),
        };
        Ok(Some(Self { file, text, settings }))
    }
}

/// A benchmark in memory.
#[derive(Clone)]
pub struct Benchmark {
    /// How results name it.
    pub name: String,
    /// Its items.
    pub items: Vec<Item>,
    /// Its verifier.
    pub reward: Arc<dyn Reward>,
    /// The verifier's configuration, for the record.
    pub reward_config: Value,
    /// Bounds of completions; none where nothing says.
    pub generation: Option<Generation>,
    /// What of an option is scored by likelihood; none where it cannot be.
    pub likelihood: Option<Continuation>,
    /// Metrics of the completions as texts.
    pub metrics: Vec<TextMetric>,
    /// SHA-256 over the definition and the data, in hexadecimal.
    pub hash: String,
    /// SHA-256 over the pictures of its items, in hexadecimal; none without pictures.
    pub images: Option<String>,
    /// What one should know about these items.
    pub notes: Vec<String>,
}

/// Where a file of a definition lies.
///
/// # Errors
/// No such file; the message says where it was looked for and where to get it.
pub fn locate(task: &TaskFile, file: &str, settings: &OpenSettings) -> Result<PathBuf, Error> {
    let beside = settings.beside.as_ref().map(|dir| dir.join(file));
    let below = settings.data_dir.join(file);
    if let Some(found) = beside.iter().chain([&below]).find(|path| path.is_file()) {
        return Ok(found.clone());
    }
    let source = task.source.as_ref();
    let mut what =
        format!("{}: no file {}: say with --data-dir where the data is", task.name, below.display());
    if source.is_some_and(|s| s.file == file && (s.url.is_some() || s.hub_file.is_some())) {
        what.push_str(", or fetch it with --download");
    }
    if let Some(origin) = source.and_then(|s| s.origin.as_ref()) {
        what.push_str(&format!("; it comes from {origin}"));
    }
    Err(Error::Unusable { what })
}

impl Benchmark {
    /// Opens a built-in benchmark by its name, or a definition by its path.
    ///
    /// # Errors
    /// As [`Self::open`]; a name that is not built in; a definition that cannot be read.
    pub fn named(name: &str, settings: &OpenSettings) -> Result<Self, Error> {
        let found = Definition::find(name, settings)?;
        let unknown = || Error::NoBenchmark { name: name.to_owned() };
        let found = found.ok_or_else(unknown)?;
        Self::open(&found.file, &found.text, &found.settings)
    }

    /// Opens a definition whose text is `text`.
    ///
    /// # Errors
    /// A missing file, another checksum, or the first row that cannot be used, with its line.
    pub fn open(task: &TaskFile, text: &str, settings: &OpenSettings) -> Result<Self, Error> {
        let (benchmark, problems) = Self::inspect(task, text, settings)?;
        match problems.into_iter().next() {
            Some(problem) => Err(problem.into()),
            None if benchmark.items.is_empty() => {
                Err(Error::Unusable { what: format!("{}: no items in it", task.name) })
            }
            None => benchmark.with_unique_ids(),
        }
    }

    /// The benchmark, unless two items have the same id: samples are told apart by it.
    fn with_unique_ids(self) -> Result<Self, Error> {
        let mut seen: HashMap<&str, &str> = HashMap::new();
        let twice = self.items.iter().find_map(|item| {
            let first = seen.insert(&item.task.id, &item.place)?;
            Some(format!("{}: the id {:?} is that of {first}", item.place, item.task.id))
        });
        drop(seen);
        twice.map_or(Ok(self), |what| Err(Error::Unusable { what }))
    }

    /// [`Self::open`] that goes on past broken rows and lists them.
    ///
    /// # Errors
    /// A missing file, another checksum, a template that does not parse, a reward that cannot be built.
    pub fn inspect(
        task: &TaskFile,
        text: &str,
        settings: &OpenSettings,
    ) -> Result<(Self, Vec<DataError>), Error> {
        let unusable = |e: rlvr_rewards::ConfigError| Error::Unusable { what: format!("{}: {e}", task.name) };
        let mut digests = vec![sha256_hex(text.as_bytes())];
        let (items, notes, mut problems) = match (&task.generate, &task.source) {
            (Some(data), _) => {
                let changed = settings.shuffle_options.is_some() || settings.no_context;
                let note = "generated tasks have neither options nor a context to change".to_owned();
                let items = generated(&TaskSource::open(&task.name, data, GENERATE_SEED)?);
                (items, Vec::from_iter(changed.then_some(note)), Vec::new())
            }
            (None, Some(source)) => from_file(task, source, settings, &mut digests)?,
            (None, None) => return Err(Error::Unusable { what: format!("{}: no [source]", task.name) }),
        };
        let mut benchmark = Self {
            name: task.name.clone(),
            items,
            reward: task.reward.clone().build().map_err(unusable)?.into(),
            reward_config: serde_json::to_value(&task.reward).unwrap_or(Value::Null),
            generation: Some(task.generation.clone()),
            likelihood: task.likelihood.as_ref().map(|l| settings.likelihood_of.unwrap_or(l.of)),
            metrics: task.metrics.clone(),
            hash: sha256_hex(digests.join("\n").as_bytes()),
            images: None,
            notes,
        };
        benchmark.items.truncate(settings.limit.unwrap_or(usize::MAX));
        problems.extend(benchmark.look());
        benchmark.set_raw(false);
        Ok((benchmark, problems))
    }

    /// Puts the prompts together for a policy with a chat template, or (`raw`) without one.
    pub fn set_raw(&mut self, raw: bool) {
        for item in &mut self.items {
            if let Some(parts) = &item.prompt {
                item.task.prompt = parts.messages(raw);
            }
        }
    }

    /// The tasks with their prompts for a policy with a chat template, or (`raw`) without one.
    pub fn tasks_for(&self, raw: bool) -> Vec<Task> {
        let task = |item: &Item| match &item.prompt {
            Some(parts) => Task { prompt: parts.messages(raw), ..item.task.clone() },
            None => item.task.clone(),
        };
        self.items.iter().map(task).collect()
    }

    /// The tasks, in order.
    pub fn tasks(&self) -> Vec<&Task> {
        self.items.iter().map(|item| &item.task).collect()
    }

    /// The verifier's name, version and configuration.
    pub fn verifier(&self) -> Value {
        json!({"name": self.reward.name(), "version": rlvr_rewards::VERIFIER_VERSION, "config": self.reward_config})
    }
}

fn generated(source: &TaskSource) -> Vec<Item> {
    (0..source.len())
        .map(|i| Item {
            task: source.task(i).clone(),
            place: source.origin(i),
            key: Some(*source.key(i)),
            ..Item::default()
        })
        .collect()
}

type Opened = (Vec<Item>, Vec<String>, Vec<DataError>);

fn from_file(
    task: &TaskFile,
    source: &SourceFile,
    settings: &OpenSettings,
    digests: &mut Vec<String>,
) -> Result<Opened, Error> {
    let path = locate(task, &source.file, settings)?;
    check_sum(&path, source, digests)?;
    if source.tasks {
        let (items, problems) = whole_tasks(task, &path)?;
        let changed = settings.shuffle_options.is_some() || settings.no_context || settings.system.is_some();
        let changed = changed || settings.few_shot.is_some_and(|count| count > 0);
        let note =
            "its prompts are given as they are, without what would be added, left out or shuffled".to_owned();
        return Ok((items, Vec::from_iter(changed.then_some(note)), problems));
    }
    let Some(fields) = &task.fields else {
        return Err(Error::Unusable { what: format!("{}: no [fields]", task.name) });
    };
    let reader = RowReader::new(task, fields, settings)?;
    let (mut drawn, problems) = reader.read(&path, task.filter.as_deref(), false)?;
    let mut shown = None;
    if let Some(few_shot) = &task.few_shot {
        let count = settings.few_shot.unwrap_or(few_shot.count);
        if count > 0 {
            shown = add_examples(task, few_shot, count, &path, &reader, settings, &mut drawn, digests)?;
        }
    } else if settings.few_shot.is_some_and(|count| count > 0) {
        let what = format!("{}: it has no [few_shot], so examples cannot be shown", task.name);
        return Err(Error::Unusable { what });
    }
    let mut notes: Vec<(&str, usize)> = Vec::new();
    for note in drawn.iter().filter_map(|d| d.note) {
        match notes.iter_mut().find(|(known, _)| *known == note) {
            Some((_, n)) => *n += 1,
            None => notes.push((note, 1)),
        }
    }
    let all = drawn.len();
    let notes =
        notes.into_iter().map(|(note, n)| format!("{n} of {all} items: {note}")).chain(shown).collect();
    Ok((drawn.into_iter().map(|d| d.item).collect(), notes, problems))
}

fn check_sum(path: &Path, source: &SourceFile, digests: &mut Vec<String>) -> Result<(), Error> {
    let digest = file_sha256(path)?;
    if let Some(wanted) = &source.sha256
        && !wanted.eq_ignore_ascii_case(&digest)
    {
        let what = format!("{}: its SHA-256 is {digest}, the definition asks for {wanted}", path.display());
        return Err(Error::Unusable { what });
    }
    digests.push(digest);
    Ok(())
}

/// Puts the same examples before every item, except that an item is never its own example. A note where examples are
/// themselves evaluated.
#[allow(clippy::too_many_arguments)] // All of it is the state of one opening.
fn add_examples(
    task: &TaskFile,
    few_shot: &FewShot,
    count: usize,
    path: &Path,
    reader: &RowReader<'_>,
    settings: &OpenSettings,
    drawn: &mut [Drawn],
    digests: &mut Vec<String>,
) -> Result<Option<String>, Error> {
    let other = few_shot.file.as_ref().map(|file| locate(task, file, settings)).transpose()?;
    if let Some(other) = &other {
        digests.push(file_sha256(other)?);
    }
    let own = other.is_none();
    let filter = few_shot.filter.as_ref().or(if own { task.filter.as_ref() } else { None });
    let file = other.as_deref().unwrap_or(path);
    let (pool, problems) = reader.read(file, filter.map(String::as_str), true)?;
    if let Some(problem) = problems.into_iter().next() {
        return Err(problem.into());
    }
    let len = pool.len() as u64;
    let mut order = vec![0; pool.len()];
    for i in 0..len {
        order[random::shuffled(i, len, &[few_shot.seed, FEW_SHOT_STREAM]) as usize] = i as usize;
    }
    let asked: HashSet<Option<String>> = drawn.iter().map(|d| d.item.question.clone()).collect();
    let tested = order.iter().take(count).any(|i| asked.contains(&pool[*i].item.question));
    let note = tested.then(|| {
        format!(
            "the examples before its questions are items of {} that are evaluated too; few_shot.file or few_shot.filter \
             names others",
            path.display()
        )
    });
    for item in drawn {
        let differs = |d: &&Drawn| {
            // An id counts where both come from one file; numbers of rows of two files mean nothing.
            d.item.question != item.item.question && (!own || d.item.task.id != item.item.task.id)
        };
        let shots: Vec<&Drawn> = order.iter().map(|i| &pool[*i]).filter(differs).take(count).collect();
        if shots.len() < count {
            let what = format!(
                "{}: {count} examples are asked for, {} has {}",
                task.name,
                file.display(),
                shots.len()
            );
            return Err(Error::Unusable { what });
        }
        let show = |d: &&Drawn| d.item.prompt.as_ref().map(|p| (p.user.clone(), d.completion.clone()));
        let rank = |d: &&Drawn| d.item.likelihood.as_ref().map(|p| (p.user.clone(), d.continuation.clone()));
        if let Some(prompt) = &mut item.item.prompt {
            prompt.shots = shots.iter().filter_map(show).collect();
        }
        if let Some(prompt) = &mut item.item.likelihood {
            prompt.shots = shots.iter().filter_map(rank).collect();
        }
    }
    Ok(note)
}

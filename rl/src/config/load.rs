//! Reads a run config: file, overrides, errors with their place, paths, and the way back to TOML.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use toml::{Table, Value};

use super::engine;
use super::locate::{self, child_mut, culprit, expected_names, nearest, quoted_after};
use super::{ChatTemplate, DataConfig, RunConfig, StageConfig};
use crate::algorithm::{OldKeys, presets, rewrite_old_keys};
use crate::files::bounded::{SMALL, read_named};
use crate::files::encoding::utf8;
use crate::random;

/// Keys of the tables that may name a preset: those of stages, of a loss, and of a run.
const PRESET_BESIDE: [&str; 4] = ["group_size", "batch_tokens", "groups_without_signal", "preflight"];

/// Why a run config cannot be used. Every message is one block that says where and what.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the run config {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: std::io::Error,
    },
    /// The file is not TOML.
    #[error("{}:{line}: {message}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// What the parser said.
        message: String,
    },
    /// An override has no `=`, or its path leads nowhere.
    #[error("--set {assignment}: {message}")]
    Set {
        /// The override as given.
        assignment: String,
        /// What is wrong with it.
        message: String,
    },
    /// A field is unknown, missing or of the wrong type.
    #[error("{place}: {field}: {message}")]
    Field {
        /// `FILE:LINE`, or the override that set it.
        place: String,
        /// The field with the tables around it, as in `stage.0.loss.clip_low`.
        field: String,
        /// What is wrong, with the nearest valid name.
        message: String,
    },
    /// Fields that do not make sense, alone or together.
    #[error("{}", lines.join("\n"))]
    Invalid {
        /// One line a problem: place, field, message.
        lines: Vec<String>,
    },
}

impl RunConfig {
    /// Reads `path`, applies `sets` (each `KEY=VALUE`, in order), makes paths absolute and checks everything.
    ///
    /// Keys are dotted; an element of `[[stage]]` is named by index, `name` or kind (`stage.grpo.steps=5`). A value is
    /// TOML, or a bare string when it is not.
    ///
    /// # Errors
    /// [`ConfigError`], with the line or the override at fault.
    pub fn load(path: &Path, sets: &[String]) -> Result<Self, ConfigError> {
        Ok(Self::load_noted(path, sets)?.0)
    }

    /// [`RunConfig::load`] with what deserves a warning, a line each: keys that go with the next version, with their place
    /// and what to write instead.
    ///
    /// # Errors
    /// As [`RunConfig::load`].
    pub fn load_noted(path: &Path, sets: &[String]) -> Result<(Self, Vec<String>), ConfigError> {
        let bytes = read_named(path, SMALL)
            .map_err(|source| ConfigError::Read { path: path.to_path_buf(), source })?;
        let text = utf8(&bytes).map_err(|e| ConfigError::Syntax {
            path: path.to_path_buf(),
            line: e.line,
            message: e.to_string(),
        })?;
        let (mut config, notes) = Self::parse_noted(text, path, sets)?;
        config.resolve_paths(path.parent().unwrap_or(Path::new("")));
        Ok((config, notes))
    }

    /// [`RunConfig::load`] from text already read; `path` is for messages only and paths stay as written.
    ///
    /// # Errors
    /// As [`RunConfig::load`].
    pub fn parse(text: &str, path: &Path, sets: &[String]) -> Result<Self, ConfigError> {
        Ok(Self::parse_noted(text, path, sets)?.0)
    }

    /// [`RunConfig::parse`] with what deserves a warning, as [`RunConfig::load_noted`] has it.
    ///
    /// # Errors
    /// As [`RunConfig::load`].
    pub fn parse_noted(text: &str, path: &Path, sets: &[String]) -> Result<(Self, Vec<String>), ConfigError> {
        let mut table = syntax(text, path)?;
        let mut places = Places { path, lines: locate::lines(text), sets: Vec::new() };
        for assignment in sets {
            let at = apply(&mut table, assignment)
                .map_err(|message| ConfigError::Set { assignment: assignment.clone(), message })?;
            places.sets.push((at, assignment.clone()));
        }
        fill_presets(&mut table, &places)?;
        engine::fill_defaults(&mut table);
        let config = Self::deserialize(table.clone()).map_err(|error| {
            let parse = |table: &Table| Self::deserialize(table.clone()).err();
            field_error(&table, &error, &places, &parse)
        })?;
        let problems = config.validate();
        if problems.is_empty() {
            return Ok((config, old_keys(&table, &places)));
        }
        let lines = problems
            .iter()
            .map(|p| {
                let at: Vec<String> = p.field.split('.').map(str::to_owned).collect();
                format!("{}: {}: {}", places.of(&at), p.field, p.message)
            })
            .collect();
        Err(ConfigError::Invalid { lines })
    }

    /// Makes the paths of data, rollouts and rewards absolute from `base`, and the policy's where it exists from `base` or
    /// from the working directory; otherwise it may be a hub id and stays.
    pub fn resolve_paths(&mut self, base: &Path) {
        let absolute = |path: &Path| std::path::absolute(base.join(path)).unwrap_or_else(|_| base.join(path));
        for source in self.data.values_mut() {
            if let DataConfig::Jsonl(jsonl) = source {
                jsonl.path = absolute(&jsonl.path);
            }
        }
        if let Some(rewards) = &mut self.rewards {
            rewards.resolve_paths(base);
        }
        for stage in &mut self.stage {
            if let StageConfig::Grpo(grpo) = stage
                && let Some(rollouts) = &mut grpo.rollouts
            {
                rollouts.path = absolute(&rollouts.path);
            }
        }
        if let Some(folder) = self.engine.as_mut().and_then(|engine| engine.folder.as_mut()) {
            *folder = absolute(folder);
        }
        if let Some(eval) = self.eval.as_mut().filter(|eval| !eval.tasks.is_empty()) {
            eval.data_dir = absolute(&eval.data_dir);
            for task in eval.tasks.iter_mut().filter(|task| task.ends_with(".toml")) {
                *task = absolute(Path::new(task)).display().to_string();
            }
        }
        if let ChatTemplate::File(path) = &mut self.policy.chat_template {
            *path = absolute(path);
        }
        let adapter = self.policy.lora.as_mut().and_then(|lora| lora.adapter.as_mut());
        for policy in self.policy.path.as_mut().into_iter().chain(adapter) {
            let here = absolute(Path::new(policy));
            let path = if here.exists() { here } else { std::path::absolute(&*policy).unwrap_or_default() };
            if let Some(text) = path.to_str().filter(|_| path.exists()) {
                *policy = text.to_owned();
            }
        }
    }

    /// Where a field stands in `path` with `sets` applied: `FILE:LINE`, or the override that set it; the file alone where
    /// that can no longer be told.
    pub fn place(path: &Path, sets: &[String], field: &str) -> String {
        let bytes = read_named(path, SMALL).unwrap_or_default();
        let text = utf8(&bytes).unwrap_or_default();
        let mut places = Places { path, lines: locate::lines(text), sets: Vec::new() };
        let mut table = syntax(text, path).unwrap_or_default();
        for assignment in sets {
            if let Ok(at) = apply(&mut table, assignment) {
                places.sets.push((at, assignment.clone()));
            }
        }
        places.of(&field.split('.').map(str::to_owned).collect::<Vec<_>>())
    }

    /// The config as TOML, with every default written out; reading it back gives the same config.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] when a value has no TOML form, such as a seed above 2^63.
    pub fn to_toml(&self) -> Result<String, ConfigError> {
        toml::to_string(self)
            .map_err(|e| ConfigError::Invalid { lines: vec![format!("the config has no TOML form: {e}")] })
    }

    /// A hash of everything the config says, as 16 hexadecimal digits.
    pub fn hash(&self) -> String {
        format!("{:016x}", random::hash_bytes(self.to_toml().unwrap_or_default().as_bytes()))
    }

    /// What changed from `saved` to `self`, one line a key (`stage.0.optim.lr: 1e-5 → 1e-4`), without what may change
    /// when a run is resumed: `name`, `checkpoint`, `log`, `preflight`, `health`, `engine`, `eval.allow_shared`, the number of steps of the
    /// last stage, and how much is computed at once where that changes no completion and no bit of the weights: `eval.batch`,
    /// `max_batch_rows` and `max_batch_tokens` of a stage, `policy.recompute`. `micro_batch` changes the order of sums.
    pub fn resume_conflicts(&self, saved: &Self) -> Vec<String> {
        let last = format!("stage.{}.steps", self.stage.len().saturating_sub(1));
        // Such a stage ends with the weights of its lowest loss, from which it did not go on.
        let ends_early = self.stage.last().is_some_and(|stage| match stage {
            StageConfig::Sft(sft) => sft.validation.as_ref().is_some_and(|v| v.patience.is_some()),
            StageConfig::Grpo(_) => false,
        });
        let free = |key: &str| {
            let parts: Vec<&str> = key.split('.').collect();
            matches!(
                parts[..],
                ["name" | "checkpoint" | "log" | "preflight" | "health" | "engine", ..]
                    | ["eval", "allow_shared" | "batch"]
                    | ["policy", "recompute"]
                    | ["stage", _, "max_batch_rows" | "max_batch_tokens"]
            ) || key == last && !ends_early
        };
        let (old, new) = (leaves(saved), leaves(self));
        let keys: std::collections::BTreeSet<&String> = old.keys().chain(new.keys()).collect();
        let shown = |map: &BTreeMap<String, String>, key: &str| {
            map.get(key).map_or("absent".to_owned(), Clone::clone)
        };
        keys.into_iter()
            .filter(|key| old.get(*key) != new.get(*key) && !free(key))
            .map(|key| format!("{key}: {} → {}", shown(&old, key), shown(&new, key)))
            .collect()
    }
}

/// Every leaf of the config as `dotted key → value`.
fn leaves(config: &RunConfig) -> BTreeMap<String, String> {
    fn walk(value: &Value, at: &str, found: &mut BTreeMap<String, String>) {
        let join = |key: &str| if at.is_empty() { key.to_owned() } else { format!("{at}.{key}") };
        match value {
            Value::Table(table) => table.iter().for_each(|(k, v)| walk(v, &join(k), found)),
            Value::Array(items) if items.iter().any(Value::is_table) => {
                items.iter().enumerate().for_each(|(i, v)| walk(v, &join(&i.to_string()), found));
            }
            Value::Float(number) if number.abs() < 1e-3 && *number != 0.0 => {
                found.insert(at.to_owned(), format!("{number:e}"));
            }
            _ => {
                found.insert(at.to_owned(), value.to_string());
            }
        }
    }
    let mut found = BTreeMap::new();
    if let Ok(value) = Value::try_from(config) {
        walk(&value, "", &mut found);
    }
    found
}

/// Puts the keys of presets into the stages that name one.
fn fill_presets(table: &mut Table, places: &Places<'_>) -> Result<(), ConfigError> {
    presets::fill_run(table).map_err(|message| {
        let at = [presets::KEY.to_owned()];
        ConfigError::Field { place: places.of(&at), field: at.join("."), message }
    })?;
    let stages = table.get_mut("stage").and_then(Value::as_array_mut).into_iter().flatten();
    for (index, stage) in stages.enumerate() {
        let Some(stage) = stage.as_table_mut() else { continue };
        // In another kind of stage it is a key like any that is unknown there.
        let Some(kind) = stage.get("kind").and_then(Value::as_str).map(str::to_owned) else { continue };
        if !["sft", "grpo"].contains(&kind.as_str()) {
            continue;
        }
        presets::fill_stage(&kind, stage).map_err(|message| {
            let at = ["stage", &index.to_string(), presets::KEY].map(str::to_owned);
            ConfigError::Field { place: places.of(&at), field: at.join("."), message }
        })?;
    }
    Ok(())
}

/// A line for every table of a loss in which old keys stand.
fn old_keys(table: &Table, places: &Places<'_>) -> Vec<String> {
    let stages = table.get("stage").and_then(Value::as_array);
    let losses = stages.into_iter().flatten().enumerate();
    let losses = losses.filter_map(|(stage, value)| Some((stage, value.get("loss")?.as_table()?)));
    let note = |stage: usize, found: OldKeys| {
        let at = ["stage", &stage.to_string(), "loss", &found.old[0]].map(str::to_owned);
        format!("{}: {}: {found}", places.of(&at), at[..3].join("."))
    };
    losses
        .flat_map(|(stage, loss)| {
            // It has been read: what contradicts itself was an error before.
            let found = rewrite_old_keys(&mut loss.clone()).unwrap_or_default();
            found.into_iter().map(move |found| note(stage, found))
        })
        .collect()
}

/// Where each part of the merged document came from.
struct Places<'a> {
    path: &'a Path,
    lines: BTreeMap<locate::Path, usize>,
    sets: Vec<(locate::Path, String)>,
}

impl Places<'_> {
    /// `FILE:LINE` or `--set …` of the node at `at`, or of what it stands in.
    fn of(&self, at: &[String]) -> String {
        if let Some((_, set)) = self.sets.iter().rev().find(|(path, _)| at.starts_with(path)) {
            return format!("--set {set}");
        }
        for len in (1..=at.len()).rev() {
            if let Some(line) = self.lines.get(&at[..len]) {
                return format!("{}:{line}", self.path.display());
            }
            if let Some((_, set)) = self.sets.iter().rev().find(|(path, _)| path.starts_with(&at[..len])) {
                return format!("--set {set}");
            }
        }
        self.path.display().to_string()
    }
}

/// Reads a TOML document of any shape; `path` is for messages.
///
/// # Errors
/// [`ConfigError`] with the line at fault and the nearest valid name.
pub(crate) fn document<T: DeserializeOwned>(text: &str, path: &Path) -> Result<T, ConfigError> {
    let table = syntax(text, path)?;
    T::deserialize(table.clone()).map_err(|error| {
        let places = Places { path, lines: locate::lines(text), sets: Vec::new() };
        let parse = |table: &Table| T::deserialize(table.clone()).err();
        field_error(&table, &error, &places, &parse)
    })
}

/// Reads a TOML document as it is; `path` is for messages.
///
/// # Errors
/// [`ConfigError::Syntax`] with the line at fault.
pub(crate) fn syntax(text: &str, path: &Path) -> Result<Table, ConfigError> {
    text.parse().map_err(|e: toml::de::Error| {
        let before = text.as_bytes().iter().take(e.span().map_or(0, |s| s.start));
        ConfigError::Syntax {
            path: path.to_path_buf(),
            line: before.filter(|b| **b == b'\n').count() + 1,
            message: e.message().trim().to_owned(),
        }
    })
}

/// Reads a data source that is given by its kind and assignments `KEY=VALUE`, as `[data.NAME]` with these keys would be.
///
/// # Errors
/// [`ConfigError`] with the assignment at fault.
pub fn data_config(kind: &str, assignments: &[String]) -> Result<DataConfig, ConfigError> {
    let mut table = Table::new();
    table.insert("kind".to_owned(), Value::String(kind.to_owned()));
    let mut places = Places { path: Path::new(kind), lines: BTreeMap::new(), sets: Vec::new() };
    for assignment in assignments {
        let at = apply(&mut table, assignment)
            .map_err(|message| ConfigError::Set { assignment: assignment.clone(), message })?;
        places.sets.push((at, assignment.clone()));
    }
    let config = DataConfig::deserialize(table.clone()).map_err(|error| {
        let parse = |table: &Table| DataConfig::deserialize(table.clone()).err();
        field_error(&table, &error, &places, &parse)
    })?;
    let problems = config.problems(kind);
    if problems.is_empty() {
        return Ok(config);
    }
    Err(ConfigError::Invalid {
        lines: problems.iter().map(|p| format!("{}: {}", p.field, p.message)).collect(),
    })
}

fn field_error(
    table: &Table,
    error: &toml::de::Error,
    places: &Places<'_>,
    parse: &dyn Fn(&Table) -> Option<toml::de::Error>,
) -> ConfigError {
    let message = error.message().to_owned();
    let parse = |table: &Table| parse(table).map(|e| e.message().to_owned());
    let mut at = culprit(table, &message, &parse).unwrap_or_default();
    let missing = quoted_after(&message, "missing field ");
    let place = places.of(&at);
    let mut names = expected_names(&message);
    // It is gone before the keys of a stage and of its loss are read.
    if names.iter().any(|name| PRESET_BESIDE.contains(&name.as_str())) {
        names.insert(0, presets::KEY.to_owned());
    }
    let wrong =
        quoted_after(&message, "unknown field ").or_else(|| quoted_after(&message, "unknown variant "));
    let message = match (wrong, &missing) {
        (Some(wrong), _) => {
            let what = if message.starts_with("unknown field") { "unknown field" } else { "unknown value" };
            let meant = nearest(&wrong, names.iter().map(String::as_str));
            let meant = meant.map_or(String::new(), |name| format!(", did you mean `{name}`?"));
            let known =
                if names.is_empty() { "nothing is allowed here".to_owned() } else { names.join(", ") };
            format!("{what} `{wrong}`{meant} (known: {known})")
        }
        (None, Some(_)) => "missing; it has no default".to_owned(),
        _ => message,
    };
    at.extend(missing);
    let field = if at.is_empty() { "the document".to_owned() } else { at.join(".") };
    ConfigError::Field { place, field, message }
}

/// Writes `KEY=VALUE` into `table` and returns the path that it stands at.
fn apply(table: &mut Table, assignment: &str) -> Result<locate::Path, String> {
    let (key, value) = assignment.split_once('=').ok_or("it is not KEY=VALUE")?;
    let keys: Vec<&str> = key.trim().split('.').collect();
    if keys.iter().any(|k| k.trim().is_empty()) {
        return Err("the key is empty".to_owned());
    }
    let value = match format!("v = {value}").parse::<Table>().map(|mut t| t.remove("v")) {
        Ok(Some(Value::Datetime(_))) | Err(_) | Ok(None) => Value::String(value.trim().to_owned()),
        Ok(Some(value)) => value,
    };
    let mut root = Value::Table(std::mem::take(table));
    let outcome = insert(&mut root, &keys, value);
    if let Value::Table(changed) = root {
        *table = changed;
    }
    outcome
}

fn insert(root: &mut Value, keys: &[&str], value: Value) -> Result<locate::Path, String> {
    let mut at = root;
    let mut path = locate::Path::new();
    for key in keys {
        let owner = if path.is_empty() { "the config".to_owned() } else { format!("`{}`", path.join(".")) };
        let key = match at {
            Value::Array(items) => element(items, key, &owner)?.to_string(),
            Value::Table(table) => {
                table.entry(*key).or_insert_with(|| Value::Table(Table::new()));
                (*key).to_owned()
            }
            _ => return Err(format!("{owner} is a single value and has no `{key}`")),
        };
        at = child_mut(at, &key).ok_or_else(|| format!("{owner} has no `{key}`"))?;
        path.push(key);
    }
    *at = value;
    Ok(path)
}

/// The index of the array element that `key` names: by number, `name` or `kind`.
fn element(items: &[Value], key: &str, owner: &str) -> Result<usize, String> {
    let len = items.len();
    if let Ok(index) = key.parse::<usize>() {
        return if index < len {
            Ok(index)
        } else {
            Err(format!("{owner} has {len} entries, counted from 0"))
        };
    }
    let label = |item: &Value, field: &str| item.get(field).and_then(Value::as_str).map(str::to_owned);
    let labels: Vec<Option<String>> =
        items.iter().map(|item| label(item, "name").or_else(|| label(item, "kind"))).collect();
    let matching: Vec<usize> = (0..len).filter(|i| labels[*i].as_deref() == Some(key)).collect();
    match matching[..] {
        [index] => Ok(index),
        [] => {
            let known: Vec<&str> = labels.iter().flatten().map(String::as_str).collect();
            let meant = nearest(key, known.iter().copied());
            let meant = meant.map_or(String::new(), |name| format!(", did you mean `{name}`?"));
            Err(format!(
                "{owner} has no `{key}`{meant} (known: 0 to {}, {})",
                len.saturating_sub(1),
                known.join(", ")
            ))
        }
        _ => Err(format!(
            "{owner} has {} entries called `{key}`: use an index or give each a `name`",
            matching.len()
        )),
    }
}

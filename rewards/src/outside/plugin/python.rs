//! A function in TRL's convention as a reward: `kind = "python"`.
//!
//! ```toml
//! [rewards]
//! kind = "python"
//! path = "rewards.py"       # relative to this file
//! function = "accuracy"     # def accuracy(completions, answer, **kwargs): return [1.0, None, …]
//! ```
//!
//! The function is called with lists by name: `prompts`, `completions`, and a column for every field of the reference and
//! of the data row (`id`, `truncated` and `reference` too), None where a row lacks it. It may be `async`, and may leave out
//! `**kwargs`; then it gets what it names. It returns a number or None a completion: any finite number, None where the
//! task cannot be judged. An entry may be a dictionary `{"score": …, "parts": {…}, "metrics": {…}}` as well.
//!
//! One call has all that is judged together, the completions of a task beside each other. Where it raises, the groups are
//! judged one by one, and those that raise are errors. It runs in a process of its own, as a [plugin](super).

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{Plugin, PluginConfig, PluginLimits};
use crate::error::ConfigError;

const DRIVER: &str = include_str!("python_driver.py");

/// Variables that the interpreter gets beside those of every plugin.
const ENVIRONMENT: [&str; 2] = ["PYTHONPATH", "LD_LIBRARY_PATH"];

/// A function of a Python file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PythonConfig {
    /// The file; relative to the config file.
    pub path: PathBuf,
    /// The function in it.
    pub function: String,
    /// Name of the reward, for metrics: lower-case letters, digits, `_`. Default: the function's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The interpreter, 3.8 or newer. Default `python3`, as `PATH` finds it.
    #[serde(default = "interpreter")]
    pub interpreter: String,
    /// Whether prompts and completions are lists of messages, as TRL gives them for conversational data; otherwise they
    /// are texts. Default false.
    #[serde(default)]
    pub conversational: bool,
    /// Further arguments of the function, the same for all rows. Default none.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub arguments: Map<String, Value>,
    /// Least and greatest score; others are errors. Default: any finite number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<[f64; 2]>,
    /// Names of environment variables that it gets beside `PATH`, `HOME`, `LANG`, `PYTHONPATH` and `LD_LIBRARY_PATH`.
    #[serde(default)]
    pub env: Vec<String>,
    /// Processes that share the load, 1 to 256. Default 1.
    #[serde(default = "one")]
    pub workers: usize,
    /// Most completions of a call. Default 65536: all that are judged together.
    #[serde(default = "batch")]
    pub batch: usize,
    /// Seconds that a call may take. Default 60.
    #[serde(default = "minute")]
    pub timeout_s: f64,
    /// Seconds until the file is loaded. Default 60.
    #[serde(default = "minute")]
    pub start_timeout_s: f64,
    /// Bounds of each process.
    #[serde(default)]
    pub limits: PluginLimits,
}

fn interpreter() -> String {
    "python3".into()
}

fn one() -> usize {
    1
}

fn batch() -> usize {
    65_536
}

fn minute() -> f64 {
    60.0
}

impl PythonConfig {
    /// Makes the path absolute, from `base`.
    pub fn resolve_paths(&mut self, base: &Path) {
        let path = base.join(&self.path);
        self.path = std::path::absolute(&path).unwrap_or(path);
    }

    /// The plugin that calls the function.
    ///
    /// # Errors
    /// When a field has a value that makes no sense. Whether the file has such a function is known when it is loaded.
    pub fn build(self) -> Result<Plugin, ConfigError> {
        let invalid = |reason: String| ConfigError::Invalid { kind: "python", reason };
        let word = |c: char| c.is_alphanumeric() || c == '_';
        if self.function.is_empty() || !self.function.chars().all(word) {
            return Err(invalid(format!("function {:?} is no name of a function", self.function)));
        }
        let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' };
        let path = std::path::absolute(&self.path).unwrap_or(self.path);
        let mut plugin = PluginConfig::new([self.interpreter.as_str(), "-c", DRIVER]);
        plugin.name = self.name.unwrap_or_else(|| self.function.chars().map(plain).collect());
        plugin.cwd = path.parent().filter(|folder| folder.is_dir()).map(Path::to_path_buf);
        plugin.env = ENVIRONMENT.into_iter().map(str::to_owned).chain(self.env).collect();
        plugin.config = Map::from_iter([
            ("path".to_owned(), json!(path)),
            ("function".to_owned(), json!(self.function)),
            ("conversational".to_owned(), json!(self.conversational)),
            ("arguments".to_owned(), Value::Object(self.arguments)),
        ]);
        plugin.range = self.range;
        (plugin.workers, plugin.batch) = (self.workers, self.batch);
        (plugin.timeout_s, plugin.start_timeout_s) = (self.timeout_s, self.start_timeout_s);
        plugin.limits = self.limits;
        Plugin::of("python", plugin)
    }
}

//! A reward in another process, in any language: the protocol `rlvr-plugin/1`.
//!
//! ```toml
//! [rewards]
//! kind = "plugin"
//! command = ["python3", "reward.py"]   # runs in the folder of this file
//! ```
//!
//! `rlvr plugin new --lang python DIR` writes such a program with a function `score(item)`, and `rlvr plugin test CMD`
//! checks one. What follows is for those who write the protocol themselves.
//!
//! # Protocol
//!
//! JSON Lines in UTF-8 over stdin and stdout; stderr is a log (shown with `RUST_LOG=info`, the first 64 KiB of a
//! process). The host speaks first, the plugin answers within 10 s (`start_timeout_s`):
//!
//! ```json
//! {"type":"hello","protocol":[1],"config":{},"limits":{"timeout_s":30.0,"batch":64,"line_bytes":16777216}}
//! {"type":"hello","protocol":1,"name":"mine","version":"1","capabilities":["batch","deterministic"]}
//! ```
//!
//! Then batches, each answered by one line, within `timeout_s`:
//!
//! ```json
//! {"type":"score","batch":1,"items":[{"i":0,"group":0,"id":"7","prompt":[{"role":"user","content":"2+2?"}],"completion":"4","truncated":false,"reference":{"answer":"4"},"meta":{"subject":"sums"}}]}
//! {"type":"result","batch":1,"items":[{"i":0,"score":0.5,"verdict":"partial","reason":"no box","extracted":"4"}]}
//! ```
//!
//! and at the end `{"type":"bye"}`. Unknown fields are ignored on both sides.
//!
//! - `meta` is the rest of the data row, in training, in evaluations and in `rlvr score` alike: every field as it stands,
//!   but for `id`, `prompt` and `reference` where they are those of the item (and `completion` in `rlvr score`). Items with pictures
//!   have `images`, a path or a `data:` URI each, in the order of the places `<image>` in the prompt.
//! - Every `i` exactly once, in any order. A score is any finite number, or one in the `range` of the config. `verdict`,
//!   `reason` and `extracted` may be left out: a score of 1 and more is `correct`, one of 0 and less `incorrect`. The verdict says whether the answer is right, which accuracies count, and the score what it is worth, which
//!   trains: a correct answer may be worth 0.5. What contradicts is refused: `correct` has a score above 0, `partial` one
//!   between 0 and 1, `incorrect`, `no_answer` and `ambiguous` have one below 1, `unverifiable` and `error` none.
//! - An item may have `parts`, scores that the score is made of, and `metrics`, further numbers, as objects from names
//!   (letters, digits, `_`, `-`, `.`, `/`) to numbers or null, 64 at most. Both are logged as the parts of a `sum` are; a
//!   metric has the weight 0.
//! - Instead of its hello a plugin may say `{"type":"refused","reason":"…"}` and end; the reason is what the user reads.
//! - Capabilities: `batch`: several items a message, otherwise one; `group`: the completions of a task come in one
//!   message with the same `group` (ranks and comparisons), whatever `batch` says; `deterministic`: the same item gets
//!   the same score.
//! - Lines are at most 16 MiB long.
//!
//! # What can go wrong
//!
//! Whatever a plugin does, an item gets a score that the plugin gave to this item, or the verdict `error` with a
//! reason; a broken line never moves a score to another item. Anything that breaks the protocol (a missing, repeated
//! or unknown `i`, NaN, a score out of range or at odds with its verdict, another batch's number, no JSON, two lines, a line that is too long)
//! makes all items of the batch errors, and a new process takes over. When a process ends or is late, the batch is
//! halved until the item is alone that does it: the others are judged, and this one is an error now and whenever the
//! same bytes come again. If both halves fail, it is not the item: the batch is an error.
//!
//! A process gets `PATH`, `HOME`, `LANG` and the variables that `env` names, no descriptors but its three pipes, a
//! process group of its own that is killed as a whole, and [`PluginLimits`]. That is hygiene and no sandbox: a plugin is
//! trusted code, and one that leaves its process group on purpose is not followed.
//!
//! # Determinism
//!
//! What is in a batch depends on the items, `batch` and the plugin's capabilities, never on `workers`.

mod pool;
#[cfg(unix)]
mod process;
#[cfg(not(unix))]
#[path = "no_process.rs"]
mod process;
pub mod python;
mod worker;

pub mod check;
pub mod protocol;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use protocol::{Capabilities, Greeting, MAX_LINE, PROTOCOL};

use crate::error::ConfigError;
use crate::reward::{Outcome, Reward, RewardError};
use crate::task::{Response, Task};
use pool::Pool;

/// A reward that another program gives.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PluginConfig {
    /// The program and its arguments, without a shell. A program with a slash is a path from `cwd`.
    pub command: Vec<String>,
    /// Name of the reward, for metrics: lower-case letters, digits, `_`. Default `plugin`.
    #[serde(default = "name")]
    pub name: String,
    /// Where it runs; relative to the config file. Default: the folder of the config file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cwd: Option<PathBuf>,
    /// Names of environment variables that it gets beside `PATH`, `HOME` and `LANG`. Default none.
    #[serde(default)]
    pub env: Vec<String>,
    /// Processes that share the load, 1 to 256. Default 1.
    #[serde(default = "one")]
    pub workers: usize,
    /// Most items a message; a group of a plugin with the capability `group` may be larger. Default 64.
    #[serde(default = "batch")]
    pub batch: usize,
    /// Seconds that a batch may take. Default 30.
    #[serde(default = "timeout_s")]
    pub timeout_s: f64,
    /// Seconds that a process may take until its hello. Default 10.
    #[serde(default = "start_timeout_s")]
    pub start_timeout_s: f64,
    /// Least and greatest score; others break the protocol. Default: any finite number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<[f64; 2]>,
    /// Whatever the plugin wants to know; passed in the hello. Default empty.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub config: Map<String, Value>,
    /// Bounds of each process.
    #[serde(default)]
    pub limits: PluginLimits,
}

/// Bounds of a plugin's process, kept by the operating system. No core dumps are written in any case.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PluginLimits {
    /// Address space in MiB; runtimes that reserve much more than they use (Node.js, Go) need a lot. Default none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_mb: Option<u64>,
    /// Processor time of a process in its whole life, in seconds. Default none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_s: Option<u64>,
    /// Largest file that it may write, in MiB. Default 1024.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file_mb: Option<u64>,
    /// Open descriptors. Default 1024.
    pub open_files: u64,
}

impl Default for PluginLimits {
    fn default() -> Self {
        Self { memory_mb: None, cpu_s: None, file_mb: Some(1024), open_files: 1024 }
    }
}

fn name() -> String {
    "plugin".into()
}

fn one() -> usize {
    1
}

fn batch() -> usize {
    64
}

fn timeout_s() -> f64 {
    30.0
}

fn start_timeout_s() -> f64 {
    10.0
}

impl PluginConfig {
    /// The program with its arguments, and the defaults for all else.
    pub fn new(command: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            command: command.into_iter().map(Into::into).collect(),
            name: name(),
            cwd: None,
            env: Vec::new(),
            workers: one(),
            batch: batch(),
            timeout_s: timeout_s(),
            start_timeout_s: start_timeout_s(),
            range: None,
            config: Map::new(),
            limits: PluginLimits::default(),
        }
    }

    /// Makes `cwd` absolute, from `base`; absent, it becomes `base`.
    pub fn resolve_paths(&mut self, base: &Path) {
        let cwd = base.join(self.cwd.take().unwrap_or_default());
        let cwd = if cwd.as_os_str().is_empty() { PathBuf::from(".") } else { cwd };
        self.cwd = Some(std::path::absolute(&cwd).unwrap_or(cwd));
    }

    fn check(&self) -> Result<(), String> {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        let seconds = |s: f64| s.is_finite() && s > 0.0 && s <= 86_400.0;
        let text_ok = |text: &String| !text.contains('\0');
        if self.command.first().is_none_or(String::is_empty) {
            return Err("command is empty; it is the program and its arguments".into());
        }
        if !self.command.iter().all(text_ok) {
            return Err("command contains a NUL character".into());
        }
        if self.name.is_empty() || !self.name.chars().all(plain) {
            return Err(format!("name {:?} must be lower-case letters, digits and _", self.name));
        }
        if let Some(bad) = self.env.iter().find(|e| e.is_empty() || e.contains(['=', '\0'])) {
            return Err(format!("env names variables of the host to pass on; {bad:?} is no name"));
        }
        for (key, value, max) in [("workers", self.workers, 256), ("batch", self.batch, 65_536)] {
            if !(1..=max).contains(&value) {
                return Err(format!("{key} {value} must lie in 1 to {max}"));
            }
        }
        for (key, value) in [("timeout_s", self.timeout_s), ("start_timeout_s", self.start_timeout_s)] {
            if !seconds(value) {
                return Err(format!("{key} {value} must be above 0 and at most 86400"));
            }
        }
        if let Some([low, high]) = self.range
            && !(low < high && low.is_finite() && high.is_finite())
        {
            return Err(format!("range [{low}, {high}] must be two numbers, the lower one first"));
        }
        let limits = [self.limits.memory_mb, self.limits.cpu_s, self.limits.file_mb];
        if limits.into_iter().flatten().chain([self.limits.open_files]).any(|l| l == 0 || l > 1 << 40) {
            return Err("a limit must lie in 1 to 2^40".into());
        }
        if self.limits.open_files < 16 {
            return Err("limits.open_files must be at least 16".into());
        }
        Ok(())
    }
}

/// A reward given by processes that speak `rlvr-plugin/1`; see the [module](self).
pub struct Plugin {
    pool: Pool,
}

impl Plugin {
    /// Checks the configuration. The first process starts with the first score, or with [`Reward::prepare`].
    ///
    /// # Errors
    /// When a field has a value that makes no sense.
    pub fn new(config: PluginConfig) -> Result<Self, ConfigError> {
        Self::of("plugin", config)
    }

    /// The plugin of a reward that is called `kind` in messages.
    fn of(kind: &'static str, config: PluginConfig) -> Result<Self, ConfigError> {
        config.check().map_err(|reason| ConfigError::Invalid { kind, reason })?;
        Ok(Self { pool: Pool::new(config) })
    }

    /// Starts the plugin if it does not run, and says how it introduced itself.
    ///
    /// # Errors
    /// When it does not start or its hello is not understood.
    pub fn greeting(&self) -> Result<Greeting, RewardError> {
        self.pool.greet().map_err(|failure| RewardError::Failed {
            reward: self.pool.config.name.clone(),
            reason: failure.reason().to_owned(),
        })
    }

    /// Tells the processes to end; how many did so within half a second, and of how many. The next score starts them
    /// again.
    pub fn finish(&self) -> (usize, usize) {
        self.pool.finish()
    }
}

impl Reward for Plugin {
    fn name(&self) -> &str {
        &self.pool.config.name
    }

    fn score(&self, task: &Task, response: Response<'_>) -> Result<Outcome, RewardError> {
        let none =
            || RewardError::Failed { reward: self.pool.config.name.clone(), reason: "no outcome".into() };
        self.pool.judge(&[(task, response)]).pop().ok_or_else(none)
    }

    fn score_batch(&self, items: &[(&Task, Response<'_>)]) -> Vec<Outcome> {
        self.pool.judge(items)
    }

    fn prepare(&self) -> Result<(), RewardError> {
        self.greeting().map(|_| ())
    }
}

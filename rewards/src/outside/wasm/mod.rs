//! A reward as a WebAssembly component, run in this process: for code that is not trusted.
//!
//! ```toml
//! [rewards]
//! kind = "wasm"
//! path = "reward.wasm"   # relative to this file
//! ```
//!
//! Needs a build with the cargo feature `wasm`; without it the config is refused.
//!
//! # Contract
//!
//! `rewards/wit/rlvr-reward.wit` is the contract, in WIT, from which most languages generate their side. A component
//! exports the interface `rlvr:reward/judge@0.1.0` with two functions:
//!
//! - `init(config)` gets the `config` of the TOML file as a JSON object, and may refuse it.
//! - `score(item)` gets the completion, the prompt, the reference and the rest of the data row, and gives a judgement:
//!   a score in [0, 1], and if it likes a verdict, a reason and the extracted answer; or an error.
//!
//! It may import the function `log` and nothing else. A component that imports more (WASI: files, clocks, randomness) is
//! refused when it is loaded, with the name of what it imports. What keeps it in is wasmtime. `examples/wasm` has a
//! reward in Rust.
//!
//! # What can go wrong
//!
//! Whatever a component does, an item gets the score that was given to this item, or the verdict `error` with a reason,
//! and no other item is touched. Errors are: a trap, such as a panic; a judgement that breaks the contract (NaN, a score
//! out of range, a score beside `unverifiable` or none beside another verdict); more instructions than `fuel`; more
//! memory than `memory_mb`, over all its memories and tables; a stack deeper than 512 KiB; more than 1 MiB of text in one
//! result. A file that is no component, lacks the exports, refuses its config or fails in `init` is found by
//! [`Reward::prepare`], before a run starts.
//!
//! Fuel counts instructions, and a single instruction may fill all the memory. So there is a clock, too (`timeout_s`), for
//! components that mean harm; one that runs out of fuel in less time never meets it. Nothing bounds the time that it
//! takes to compile a file, but its size is bounded (16 MiB).
//!
//! # Determinism
//!
//! Every item gets a new instance, so that an outcome depends on the item alone: not on the items before it, the batch,
//! or the number of threads. There is no clock, no randomness and no threads in it, NaNs are canonical, and
//! [`Outcome::work`] is the fuel spent, the same on every machine. Only the depth of the stack and the clock are the
//! machine's.

#[cfg(feature = "wasm")]
mod component;
#[cfg(not(feature = "wasm"))]
#[path = "no_component.rs"]
mod component;
#[cfg(feature = "wasm")]
mod contract;
#[cfg(feature = "wasm")]
mod host;
#[cfg(feature = "wasm")]
mod vet;

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::ConfigError;
use crate::reward::{Outcome, Reward, RewardError};
use crate::task::{Response, Task};
use component::Component;

/// A reward that a WebAssembly component gives.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WasmConfig {
    /// The component, a `.wasm` file; relative to the config file.
    pub path: PathBuf,
    /// Name of the reward, for metrics: lower-case letters, digits, `_`. Default `wasm`.
    #[serde(default = "name")]
    pub name: String,
    /// Instructions that an item may take, `init` included. Default 1,000,000,000: less than a second.
    #[serde(default = "fuel")]
    pub fuel: u64,
    /// Memory of an instance in MiB, 1 to 4096. Default 64.
    #[serde(default = "memory_mb")]
    pub memory_mb: u64,
    /// Seconds that an item may take: a backstop, see the [module](self). Default 30.
    #[serde(default = "timeout_s")]
    pub timeout_s: f64,
    /// Whatever the component wants to know; passed to `init`. Default empty.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub config: Map<String, Value>,
}

fn name() -> String {
    "wasm".into()
}

fn fuel() -> u64 {
    1_000_000_000
}

fn memory_mb() -> u64 {
    64
}

fn timeout_s() -> f64 {
    30.0
}

impl WasmConfig {
    /// The component in a file, and the defaults for all else.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            name: name(),
            fuel: fuel(),
            memory_mb: memory_mb(),
            timeout_s: timeout_s(),
            config: Map::new(),
        }
    }

    /// Makes `path` absolute, from `base`.
    pub fn resolve_paths(&mut self, base: &Path) {
        let path = base.join(&self.path);
        self.path = std::path::absolute(&path).unwrap_or(path);
    }

    fn check(&self) -> Result<(), String> {
        component::available()?;
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        if self.path.as_os_str().is_empty() {
            return Err("path is empty; it is the component, a .wasm file".into());
        }
        if self.name.is_empty() || !self.name.chars().all(plain) {
            return Err(format!("name {:?} must be lower-case letters, digits and _", self.name));
        }
        for (key, value, max) in [("fuel", self.fuel, 1 << 50), ("memory_mb", self.memory_mb, 4096)] {
            if !(1..=max).contains(&value) {
                return Err(format!("{key} {value} must lie in 1 to {max}"));
            }
        }
        if !(self.timeout_s > 0.0 && self.timeout_s <= 86_400.0) {
            return Err(format!("timeout_s {} must be above 0 and at most 86400", self.timeout_s));
        }
        Ok(())
    }
}

/// A reward given by a component; see the [module](self).
pub struct Wasm {
    config: WasmConfig,
    component: OnceLock<Result<Component, String>>,
}

impl Wasm {
    /// Checks the configuration. The file is read and compiled with the first score, or with [`Reward::prepare`].
    ///
    /// # Errors
    /// When a field has a value that makes no sense, and always without the feature `wasm`.
    pub fn new(config: WasmConfig) -> Result<Self, ConfigError> {
        config.check().map_err(|reason| ConfigError::Invalid { kind: "wasm", reason })?;
        Ok(Self { config, component: OnceLock::new() })
    }

    fn component(&self) -> Result<&Component, RewardError> {
        let component = self.component.get_or_init(|| Component::load(&self.config));
        component.as_ref().map_err(|reason| RewardError::Failed {
            reward: self.config.name.clone(),
            reason: format!("{}: {reason}", self.config.path.display()),
        })
    }
}

impl Reward for Wasm {
    fn name(&self) -> &str {
        &self.config.name
    }

    fn score(&self, task: &Task, response: Response<'_>) -> Result<Outcome, RewardError> {
        Ok(self.component()?.judge(task, response))
    }

    fn prepare(&self) -> Result<(), RewardError> {
        self.component().map(|_| ())
    }
}

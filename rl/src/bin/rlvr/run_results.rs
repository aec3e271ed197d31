//! The last evaluation that a training run recorded, for `rlvr compare`.

use crate::evaluations::Identity;
use crate::input::{self, bad};
use anyhow::Result;
use rlvr::checkpoint::{CheckpointStore, TrainState};
use rlvr::config::CheckpointConfig;
use rlvr::eval::EvalResult;
use rlvr::run::dir::{self, CONFIG_FILE};
use rlvr::stats::Recorded;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// What a run says about its policy.
pub struct RunResults {
    /// When it was evaluated: "after grpo".
    pub label: String,
    pub sets: Vec<EvalResult>,
    config: toml::Table,
}

/// Whether a directory holds a run and no output of `rlvr eval`.
pub fn is_run(dir: &Path) -> bool {
    dir::is_run(dir) && !dir.join("samples.jsonl").exists()
}

impl RunResults {
    /// Reads the newest checkpoint of a run, which has all evaluations.
    pub fn read(dir: &Path) -> Result<Self> {
        let shown = dir.display();
        dir::check_files(dir)?;
        let newest = states(&dir.join("checkpoints")).into_iter().max_by_key(|state| state.step);
        let evals = newest.and_then(|state| serde_json::from_value(state.extra.get("evals")?.clone()).ok());
        let evals: Vec<(String, Vec<EvalResult>)> = evals.unwrap_or_default();
        let Some((label, sets)) = evals.into_iter().next_back() else {
            return Err(bad(format!(
                "{shown}: the run has recorded no evaluation in a checkpoint; evaluate its policy: rlvr eval run --policy \
                 {shown} --tasks … --out DIR, then compare the directories"
            )));
        };
        let (name, text) = input::text(&dir.join(CONFIG_FILE))?;
        let config = text.parse().map_err(|e| bad(format!("{name}: {e}")))?;
        Ok(Self { label, sets, config })
    }

    /// What a set must share with that of another run: its data and the rewards; unknown of a benchmark.
    pub fn identity(&self, set: &str) -> Identity {
        let json = |value: &toml::Value| serde_json::to_value(value).unwrap_or(Value::Null);
        let data = self.config.get("data").and_then(|data| data.get(set)).map(json);
        let rewards = data.as_ref().and(self.config.get("rewards")).map(json);
        Identity::new(data, rewards)
    }
}

/// A set's result as a comparison takes it.
pub fn recorded(result: &EvalResult) -> Recorded {
    Recorded {
        items: result.n as u64,
        right: result.correct.map(|right| right as u64),
        accuracy: result.accuracy,
        interval: result.ci95,
    }
}

/// The states of a run's checkpoints.
fn states(checkpoints: &Path) -> Vec<TrainState> {
    let found = CheckpointStore::new(checkpoints, &CheckpointConfig::default()).list().unwrap_or_default();
    let state = |(_, path): (u64, PathBuf)| {
        serde_json::from_slice(&std::fs::read(path.join("state.json")).ok()?).ok()
    };
    found.into_iter().filter_map(state).collect()
}

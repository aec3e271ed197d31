//! The last evaluation that a training run recorded.

use super::{Identity, ResultsError, SAMPLES};
use crate::checkpoint::{CheckpointStore, TrainState};
use crate::config::CheckpointConfig;
use crate::eval::EvalResult;
use crate::files::bounded::{LARGE, SMALL, read_own};
use crate::files::source;
use crate::run::dir::{self, CONFIG_FILE};
use crate::run::{self};
use crate::stats::Recorded;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// What a run says about its policy: means, not the answers to single items.
#[derive(Debug)]
pub struct RunResults {
    /// The run directory.
    pub dir: PathBuf,
    /// When the policy was evaluated: "after grpo".
    pub when: String,
    /// One result a data set.
    pub sets: Vec<EvalResult>,
    config: toml::Table,
}

impl RunResults {
    /// Whether a directory holds a run and no output of `rlvr eval`.
    pub fn is_at(dir: &Path) -> bool {
        dir::is_run(dir) && !dir.join(SAMPLES).exists()
    }

    /// Reads the newest checkpoint of a run, which has all evaluations.
    ///
    /// # Errors
    /// [`ResultsError`], of a run that has recorded none, or whose config cannot be read.
    pub fn read(dir: &Path) -> Result<Self, ResultsError> {
        dir::check_files(dir)?;
        let newest = states(&dir.join("checkpoints")).into_iter().max_by_key(|state| state.step);
        let evals = newest.as_ref().and_then(run::state::evals).unwrap_or_default();
        let Some((when, sets)) = evals.into_iter().next_back() else {
            return Err(ResultsError::NothingRecorded { dir: dir.to_owned() });
        };
        let (name, text) = source::text_within(&dir.join(CONFIG_FILE), SMALL)?;
        let config =
            text.parse().map_err(|e: toml::de::Error| ResultsError::File { name, message: e.to_string() })?;
        Ok(Self { dir: dir.to_owned(), when, sets, config })
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
pub(super) fn recorded(result: &EvalResult) -> Recorded {
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
        serde_json::from_slice(&read_own(&path.join("state.json"), LARGE).ok()?).ok()
    };
    found.into_iter().filter_map(state).collect()
}

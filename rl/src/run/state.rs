//! Where a run stands.
use crate::checkpoint::{Checkpoint, TrainState};
use crate::eval::EvalResult;

/// Evaluations in order, with their labels.
pub(crate) type Evals = Vec<(String, Vec<EvalResult>)>;

/// Where evaluations stand in the file of a checkpoint.
const EVALS: &str = "evals";

/// Where a run stands between two steps: all that a checkpoint keeps beside tensors.
pub(crate) struct RunState {
    /// Steps, stage, places in the data, versions.
    pub(crate) at: TrainState,
    /// The evaluations so far, kept so that a resumed run can still show all.
    pub(crate) evals: Evals,
}

impl RunState {
    /// Of a run that goes on from a checkpoint, or starts.
    pub(crate) fn new(seed: u64, checkpoint: Option<&Checkpoint>) -> Self {
        let at = checkpoint.map_or_else(|| TrainState::start(seed), |c| c.state.clone());
        let evals = evals(&at).unwrap_or_default();
        Self { at, evals }
    }

    /// As a checkpoint keeps it.
    pub(crate) fn saved(&mut self) -> TrainState {
        match serde_json::to_value(&self.evals) {
            Ok(value) => drop(self.at.extra.insert(EVALS.to_owned(), value)),
            Err(e) => tracing::warn!("the evaluations so far are not in the checkpoint: {e}"),
        }
        self.at.clone()
    }

    /// Counts a step that took so many tasks and optimizer steps.
    pub(crate) fn advance(&mut self, consumed: u64, updates: u64) {
        self.at.step += 1;
        self.at.step_in_stage += 1;
        self.at.data_position += consumed;
        self.at.optimizer_steps += updates;
    }

    /// Goes to the beginning of the next stage.
    pub(crate) fn next_stage(&mut self) {
        self.at.stage += 1;
        self.at.step_in_stage = 0;
        self.at.optimizer_steps = 0;
        self.at.data_position = 0;
    }
}

/// The evaluations that a checkpoint knows of. Those that cannot be read are named and left out: nothing is computed of
/// them.
pub(crate) fn evals(state: &TrainState) -> Option<Evals> {
    let read = serde_json::from_value(state.extra.get(EVALS)?.clone());
    read.inspect_err(|e| tracing::warn!("the evaluations of the checkpoint of step {}: {e}", state.step)).ok()
}

//! Where a run stands.
use crate::checkpoint::{Checkpoint, TrainState};
use crate::eval::EvalResult;
use crate::run::health::Health;
use serde_json::Value;
use std::collections::BTreeMap;

/// Evaluations in order, with their labels.
pub(crate) type Evals = Vec<(String, Vec<EvalResult>)>;

/// Where evaluations stand in the file of a checkpoint.
const EVALS: &str = "evals";
/// Where the weight of the KL penalty stands, in stages in which it follows a target.
const KL_COEF: &str = "kl_coef";
/// Where what validations of a supervised stage have found stands there.
pub(crate) const VALIDATION: &str = "validation";
/// Where what a stage has drawn stands there.
pub(crate) const DRAWN: &str = "drawn";
/// Where the warnings of a run stand there.
const HEALTH: &str = "health";

/// Where a run stands between two steps: all that a checkpoint keeps beside tensors.
pub(crate) struct RunState {
    /// Steps, stage, places in the data, versions.
    pub(crate) at: TrainState,
    /// The evaluations so far, kept so that a resumed run can still show all.
    pub(crate) evals: Evals,
    /// What the run has seen of itself.
    pub(crate) health: Health,
}

impl RunState {
    /// Of a run that goes on from a checkpoint, or starts.
    pub(crate) fn new(seed: u64, checkpoint: Option<&Checkpoint>) -> Self {
        let at = checkpoint.map_or_else(|| TrainState::start(seed), |c| c.state.clone());
        let evals = evals(&at).unwrap_or_default();
        let health = at.extra.get(HEALTH).and_then(|kept| serde_json::from_value(kept.clone()).ok());
        Self { at, evals, health: health.unwrap_or_default() }
    }

    /// As a checkpoint keeps it.
    pub(crate) fn saved(&mut self) -> TrainState {
        // In one order, whatever came first.
        let mut extra: BTreeMap<String, Value> = std::mem::take(&mut self.at.extra).into_iter().collect();
        match serde_json::to_value(&self.evals) {
            Ok(value) => drop(extra.insert(EVALS.to_owned(), value)),
            Err(e) => tracing::warn!("the evaluations so far are not in the checkpoint: {e}"),
        }
        if let (false, Ok(value)) = (self.health.is_empty(), serde_json::to_value(&self.health)) {
            extra.insert(HEALTH.to_owned(), value);
        }
        self.at.extra = extra.into_iter().collect();
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
        self.at.extra.remove(VALIDATION);
        self.at.extra.remove(DRAWN);
        self.set_kl_coef(None);
    }

    /// Remembers the weight of the KL penalty in the next step of this stage, where no config gives it.
    pub(crate) fn set_kl_coef(&mut self, coef: Option<f64>) {
        match coef {
            Some(coef) => self.at.extra.insert(KL_COEF.to_owned(), coef.into()),
            None => self.at.extra.remove(KL_COEF),
        };
    }

    /// The weight that was remembered.
    pub(crate) fn kl_coef(&self) -> Option<f64> {
        self.at.extra.get(KL_COEF)?.as_f64()
    }
}

/// The evaluations that a checkpoint knows of. Those that cannot be read are named and left out: nothing is computed of
/// them.
pub(crate) fn evals(state: &TrainState) -> Option<Evals> {
    let read = serde_json::from_value(state.extra.get(EVALS)?.clone());
    read.inspect_err(|e| tracing::warn!("the evaluations of the checkpoint of step {}: {e}", state.step)).ok()
}

//! A supervised stage of a run.
use crate::checkpoint::{Checkpoint, TrainState};
use crate::config::{SftConfig, ValidationConfig};
use crate::data::TrainingOrder;
use crate::error::Error;
use crate::metrics::{self, MetricsRow};
use crate::policy::Policy;
use crate::run::events::Event;
use crate::run::record;
use crate::run::stage::{AVERAGE, Files, Stage, moments, read_weights, restore, weights};
use crate::run::state::VALIDATION;
use crate::run::steps::Run;
use crate::train::sft::SftTrainer;
use rlvr_policies::Decoder;
use serde::{Deserialize, Serialize};
use std::time::Instant;

/// The weights of the lowest validation loss in the directory of a checkpoint.
const BEST: &str = "best";

/// What validations of a stage have found, kept in checkpoints.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Validated {
    /// The lowest loss.
    best: Option<f64>,
    /// Steps of the stage that were done then.
    best_step: u64,
    /// Validations since.
    since: u64,
    /// Whether they have ended the stage.
    pub(crate) stopped: bool,
}

/// What validations of the stage have found so far.
pub(crate) fn validation(state: &TrainState) -> Validated {
    let kept = state.extra.get(VALIDATION).cloned();
    kept.and_then(|kept| serde_json::from_value(kept).ok()).unwrap_or_default()
}

/// A supervised stage in progress.
pub(crate) struct SftStage<'a> {
    trainer: SftTrainer<'a>,
    config: &'a SftConfig,
    order: TrainingOrder<'a>,
    /// The weights of the lowest validation loss, with `patience`. They share their memory with the policy until that changes.
    best: Option<Decoder>,
}

impl<'a> Stage<'a> for SftStage<'a> {
    type Config = SftConfig;

    fn begin(
        run: &mut Run<'a>,
        config: &'a SftConfig,
        policy: Policy,
        resumed: Option<&Checkpoint>,
    ) -> Result<Self, Error> {
        let order = run.inputs.order(&config.data, run.config.seed)?;
        let mut trainer = SftTrainer::new(policy, config, (run.config.seed, run.steps));
        let (world, shards) = (run.world.clone(), run.config.parallel.shards);
        trainer.learner.share(world, shards, &trainer.policy.decoder);
        let mut best = None;
        if let Some(checkpoint) = resumed {
            restore(&mut trainer.learner.optim, &trainer.policy.decoder, checkpoint)?;
            if let Some(average) = &mut trainer.average {
                read_weights(average, AVERAGE, checkpoint)?;
            }
            let found = validation(&checkpoint.state);
            // A stage that is over has them as its policy.
            if found.best.is_some() && run.goes_on() {
                let mut decoder = trainer.policy.decoder.clone();
                if found.best_step != checkpoint.state.step_in_stage {
                    read_weights(&mut decoder, BEST, checkpoint)?;
                }
                best = Some(decoder);
            }
        }
        Ok(Self { trainer, config, order, best })
    }

    fn step(&mut self, run: &mut Run<'a>) -> Result<MetricsRow, Error> {
        let clock = Instant::now();
        let step = run.state.at.step + 1;
        let outcome = self.trainer.step(step, &self.order, run.state.at.data_position);
        let outcome = outcome.map_err(|e| e.at_step(step))?;
        run.state.advance(outcome.examples as u64, 1);
        let mut row = MetricsRow::new(run.state.at.step, run.stage_name());
        record::sft(&mut row, &outcome, clock.elapsed().as_secs_f64());
        row.set(metrics::DATA_EPOCH, run.state.at.data_position as f64 / self.order.len() as f64);
        let (done, last) = (run.state.at.step_in_stage, !run.goes_on());
        if let Some(validation) = &self.config.validation
            && (last || validation.every > 0 && done.is_multiple_of(validation.every))
        {
            self.validate(run, validation, &mut row)?;
        }
        Ok(row)
    }

    fn save(&self, run: &Run<'a>) -> Result<Files, Error> {
        let mut tensors = vec![moments(&self.trainer.learner, &self.trainer.policy.decoder)?];
        let found = validation(&run.state.at);
        // What the checkpoint has as its policy is not written twice.
        if found.best_step != run.state.at.step_in_stage
            && let Some(best) = &self.best
        {
            tensors.push((BEST, weights(best)));
        }
        tensors.extend(self.trainer.average.as_ref().map(|average| (AVERAGE, weights(average))));
        Ok(tensors)
    }

    fn average(&self) -> Option<Policy> {
        let average = self.trainer.average.as_ref()?;
        Some(self.trainer.policy.with_decoder(average.clone()))
    }

    fn policy(&self) -> &Policy {
        &self.trainer.policy
    }

    fn end(self: Box<Self>) -> Policy {
        self.trainer.policy
    }
}

impl<'a> SftStage<'a> {
    /// Measures the loss on other rows. With `patience`, ends the stage where it does not fall any more, and leaves the weights
    /// of the lowest one at the end.
    fn validate(
        &mut self,
        run: &mut Run<'a>,
        config: &ValidationConfig,
        row: &mut MetricsRow,
    ) -> Result<(), Error> {
        let clock = Instant::now();
        let source = run.inputs.source(&config.data)?;
        let count = source.len().min(config.limit.unwrap_or(usize::MAX));
        let loss = self.trainer.validate(source, count).map_err(|e| e.at_step(row.step))?;
        row.set(metrics::SFT_VALIDATION_LOSS, loss);
        row.set(metrics::filled(metrics::TIME_PHASE, "validation"), clock.elapsed().as_secs_f64());
        let Some(patience) = config.patience else { return Ok(()) };
        let (mut found, done) = (validation(&run.state.at), run.state.at.step_in_stage);
        if found.best.is_none_or(|best| loss < best) {
            found = Validated { best: Some(loss), best_step: done, ..Validated::default() };
            self.best = Some(self.trainer.policy.decoder.clone());
        } else {
            found.since += 1;
        }
        if found.since >= patience && run.goes_on() {
            found.stopped = true;
            run.steps = done;
        }
        if !run.goes_on()
            && let (Some(best), Some(lowest)) = (self.best.take(), found.best)
        {
            self.trainer.policy.decoder = best;
            let why = if found.stopped { format!(" after {done}, by its patience,") } else { String::new() };
            run.observer.event(Event::Note(&format!(
                "stage {} ends{why} with the weights of its step {}, whose validation loss is the lowest: {lowest:.4}",
                run.config.stage[run.state.at.stage].name(),
                found.best_step
            )));
        }
        if let Ok(value) = serde_json::to_value(&found) {
            run.state.at.extra.insert(VALIDATION.to_owned(), value);
        }
        Ok(())
    }
}

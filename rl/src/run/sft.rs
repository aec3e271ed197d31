//! A supervised stage of a run.
use crate::checkpoint::Checkpoint;
use crate::config::SftConfig;
use crate::data::TaskSource;
use crate::error::Error;
use crate::files::tensors::NamedTensor;
use crate::metrics::{self, MetricsRow};
use crate::policy::Policy;
use crate::run::record;
use crate::run::stage::{Stage, moments, restore};
use crate::run::steps::Run;
use crate::train::sft::SftTrainer;
use std::time::Instant;

/// A supervised stage in progress.
pub(crate) struct SftStage<'a> {
    trainer: SftTrainer<'a>,
    source: &'a TaskSource,
    batch: u64,
}

impl<'a> Stage<'a> for SftStage<'a> {
    type Config = SftConfig;

    fn begin(
        run: &mut Run<'a>,
        config: &'a SftConfig,
        policy: Policy,
        resumed: Option<&Checkpoint>,
    ) -> Result<Self, Error> {
        let source = run.inputs.source(&config.data)?;
        let mut trainer = SftTrainer::new(policy, config, (run.config.seed, run.steps));
        if let Some(checkpoint) = resumed {
            restore(&mut trainer.learner.optim, &trainer.policy.decoder, checkpoint)?;
        }
        Ok(Self { trainer, source, batch: config.batch as u64 })
    }

    fn step(&mut self, run: &mut Run<'a>) -> Result<MetricsRow, Error> {
        let clock = Instant::now();
        let step = run.state.at.step + 1;
        let outcome = self.trainer.step(step, self.source, run.state.at.data_position);
        let outcome = outcome.map_err(|e| e.at_step(step))?;
        run.state.advance(self.batch, 1);
        let mut row = MetricsRow::new(run.state.at.step, run.stage_name());
        record::sft(&mut row, &outcome, clock.elapsed().as_secs_f64());
        row.set(metrics::DATA_EPOCH, run.state.at.data_position as f64 / self.source.len() as f64);
        Ok(row)
    }

    fn save(&self, _run: &Run<'a>) -> Vec<(&'static str, Vec<NamedTensor>)> {
        vec![moments(&self.trainer.learner.optim, &self.trainer.policy.decoder)]
    }

    fn policy(&self) -> &Policy {
        &self.trainer.policy
    }

    fn end(self: Box<Self>) -> Policy {
        self.trainer.policy
    }
}

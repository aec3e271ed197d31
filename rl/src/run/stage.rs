//! What the stages of a run have in common, and which one comes next.
use crate::checkpoint::Checkpoint;
use crate::config::StageConfig;
use crate::error::Error;
use crate::files::tensors::NamedTensor;
use crate::metrics::MetricsRow;
use crate::policy::Policy;
use crate::run::events::Event;
use crate::run::grpo::GrpoStage;
use crate::run::sft::{SftStage, validation};
use crate::run::steps::Run;
use crate::selection;
use crate::train::learner::Learner;
use crate::train::optim::Optimizer;
use crate::train::sft;
use rlvr_policies::Decoder;
use std::sync::Arc;

/// The moments in the directory of a checkpoint.
const OPTIMIZER: &str = "optimizer";
/// The average of the weights there.
pub(crate) const AVERAGE: &str = "average";

/// Tensors of a checkpoint by the name of their file.
pub(crate) type Files = Vec<(&'static str, Vec<NamedTensor>)>;

/// A stage in progress. It has the policy until it is over.
pub(crate) trait Stage<'a> {
    /// Its part of the config.
    type Config
    where
        Self: Sized;

    /// The stage before its first step, or where a checkpoint of it left off.
    ///
    /// # Errors
    /// What the stage needs and does not find; a pre-flight that refuses it.
    fn begin(
        run: &mut Run<'a>,
        config: &'a Self::Config,
        policy: Policy,
        resumed: Option<&Checkpoint>,
    ) -> Result<Self, Error>
    where
        Self: Sized;

    /// One step, counted in the state of the run. Returns its metrics.
    ///
    /// # Errors
    /// What ends the run.
    fn step(&mut self, run: &mut Run<'a>) -> Result<MetricsRow, Error>;

    /// What a checkpoint keeps beside the policy, by name: moments, a reference that no config gives again, averages.
    ///
    /// # Errors
    /// A rank that is gone: of the moments each has its own.
    fn save(&self, run: &Run<'a>) -> Result<Files, Error>;

    /// The policy as it is now.
    fn policy(&self) -> &Policy;

    /// The policy with the average of its weights, where the stage keeps one.
    fn average(&self) -> Option<Policy> {
        None
    }

    /// Ends the stage.
    fn end(self: Box<Self>) -> Policy;
}

/// The stage that the run stands in.
///
/// # Errors
/// As [`Stage::begin`].
pub(crate) fn begin<'a>(
    run: &mut Run<'a>,
    mut policy: Policy,
    resumed: Option<&Checkpoint>,
) -> Result<Box<dyn Stage<'a> + 'a>, Error> {
    run.announce();
    policy.decoder = selection::for_stage(&policy.decoder, run.config, run.state.at.stage)?;
    let parts = run.config.stage[run.state.at.stage].parts();
    if let Some(note) = selection::note(&policy.decoder, parts) {
        run.observer.event(Event::Note(&note));
    }
    Ok(match &run.config.stage[run.state.at.stage] {
        StageConfig::Sft(config) => Box::new(SftStage::begin(run, config, policy, resumed)?),
        StageConfig::Grpo(config) => Box::new(GrpoStage::begin(run, config, policy, resumed)?),
    })
}

/// Steps of the stage that the run stands in.
///
/// # Errors
/// A data source that is not there.
pub(crate) fn steps(run: &Run<'_>) -> Result<u64, Error> {
    let index = run.state.at.stage;
    Ok(match &run.config.stage[index] {
        StageConfig::Sft(_) if validation(&run.state.at).stopped => run.state.at.step_in_stage,
        StageConfig::Sft(config) => {
            let order = run.inputs.order(&config.data, run.config.seed)?;
            sft::steps(config, &order, |source, row| run.texts.lessons(index, source.name())[row])
        }
        StageConfig::Grpo(config) => {
            let recorded = run.inputs.recorded.get(&index).map(|r| r.len() as u64);
            recorded.map_or(config.steps, |r| Some(config.steps.unwrap_or(r).min(r))).unwrap_or(0)
        }
    })
}

/// The state of the optimizer, for a checkpoint: that of all ranks, on rank 0.
///
/// # Errors
/// A rank that is gone.
pub(crate) fn moments(
    learner: &Learner,
    decoder: &Decoder,
) -> Result<(&'static str, Vec<NamedTensor>), Error> {
    Ok((OPTIMIZER, learner.optim.gathered(decoder, learner.world())?))
}

/// Sets the state that a checkpoint has.
///
/// # Errors
/// A checkpoint without them.
pub(crate) fn restore(
    optim: &mut Optimizer,
    decoder: &Decoder,
    checkpoint: &Checkpoint,
) -> Result<(), Error> {
    let mut saved = checkpoint.elements(OPTIMIZER)?;
    let steps = checkpoint.state.optimizer_steps;
    optim.restore(decoder, steps, |name| saved.remove(name)).map_err(|name| Error::Unusable {
        what: format!("{}: the optimizer state has no usable {name}", checkpoint.path.display()),
    })
}

/// The trained parameters of a decoder as a checkpoint keeps them: the base of an adapter is that of the policy.
pub(crate) fn weights(decoder: &Decoder) -> Vec<NamedTensor> {
    let decoder = Arc::new(decoder.on_host_memory());
    let specs = decoder.layout().specs.iter().enumerate();
    let trained = specs.filter(|(i, _)| decoder.trained()[*i]).map(|(i, s)| {
        let decoder = Arc::clone(&decoder);
        NamedTensor::read(s.name.clone(), &s.shape, move || decoder.param_values(i))
    });
    trained.collect()
}

/// Sets the trained parameters of a decoder from what [`weights`] has written.
///
/// # Errors
/// A checkpoint without them.
pub(crate) fn read_weights(decoder: &mut Decoder, name: &str, checkpoint: &Checkpoint) -> Result<(), Error> {
    let mut saved = checkpoint.tensors(name)?;
    let specs: Vec<String> = decoder.layout().specs.iter().map(|s| s.name.clone()).collect();
    for (i, parameter) in specs.iter().enumerate() {
        if decoder.trained()[i] {
            let tensor = saved.remove(parameter).ok_or_else(|| Error::Unusable {
                what: format!("{}: the {name} has no parameter {parameter}", checkpoint.path.display()),
            })?;
            decoder.set_param(i, tensor.data);
        }
    }
    Ok(())
}

//! A run without its steps.
use crate::config::{RunConfig, StageConfig};
use crate::engine;
use crate::error::Error;
use crate::policy::Policy;
use crate::run::dir::RunDir;
use crate::run::events::{Event, Observer, Report};
use crate::run::inputs::Inputs;
use crate::run::opening::check_optimizers;
use crate::run::{RunOptions, preflight};
use crate::train::grpo::Trainer;
use burn::tensor::Device;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Finds everything that would end a run before its first step, and ends as it would.
///
/// # Errors
/// What the run would end with.
pub(crate) fn run(
    config: &RunConfig,
    options: &RunOptions,
    (inputs, device, out): (&Inputs, &Device, &Path),
    observer: &mut dyn Observer,
    clock: Instant,
) -> Result<Report, Error> {
    // Weights are not handed over: the pre-flight is sampled here.
    engine::open(config.engine.as_ref(), out, 1)?;
    let mut policy = Policy::from_config(&config.policy, config.seed, device)?;
    check_optimizers(config, &policy)?;
    let texts = inputs.texts(config, &policy)?;
    texts.notes.iter().for_each(|note| observer.event(Event::Note(note)));
    let count = config.stage.len();
    let mut refused = Ok(());
    for (index, stage) in config.stage.iter().enumerate() {
        let StageConfig::Grpo(grpo) = stage else { continue };
        let steps = grpo.steps.unwrap_or(0);
        observer.event(Event::Stage { index, count, name: stage.name(), done: 0, steps });
        if index > 0 {
            observer.event(Event::Note(
                "the pre-flight looks at the policy as it is before the earlier stages, so problems do not count here",
            ));
        }
        let mut trainer = Trainer::new(policy, None, grpo, inputs.training_reward(), config.seed, 1);
        if let Some(report) = preflight::look(config, inputs, &texts, index, &mut trainer)? {
            observer.event(Event::Preflight(&report));
            // A run that has begun looks no more.
            if index == 0 && config.preflight.refuse && !(options.resume && RunDir::has_checkpoints(out)) {
                refused = report.refuse();
            }
        }
        policy = trainer.policy;
    }
    refused?;
    Ok(Report {
        dir: PathBuf::new(),
        policy: None,
        task_files: vec![],
        evals: vec![],
        steps: 0,
        wall_s: clock.elapsed().as_secs_f64(),
    })
}

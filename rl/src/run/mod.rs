//! A run from start to end: stages, evaluation, records, checkpoints, resuming.
mod ahead;
pub mod dir;
mod draw;
mod dry;
pub mod events;
mod grpo;
pub(crate) mod health;
mod inputs;
pub mod log;
mod opening;
mod overlap;
pub mod preflight;
mod ranks;
pub mod record;
mod sft;
mod stage;
pub(crate) mod state;
mod steps;
mod texts;
mod writer;

use crate::checkpoint::Checkpoint;
use crate::config::RunConfig;
use crate::engine;
use crate::error::Error;
use crate::parallel::World;
use crate::policy::Policy;
use crate::run::dir::{RunDir, RunStatus};
use crate::run::events::{Event, Observer, Report};
use crate::run::inputs::Inputs;
use crate::run::opening::Opened;
use crate::run::state::RunState;
use crate::run::steps::Run;
use rlvr_policies::guard;
use rlvr_rollout::RolloutError;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::Instant;

pub use crate::device::{device, device_name};
pub use crate::run::opening::RunOptions;

/// Where weights are handed over to servers, in the directory of a run.
const HANDED_OVER: &str = "engine";

/// Carries out a run. With several ranks all call it; the first one writes, and tells of it.
///
/// # Errors
/// [`Error::Interrupted`] after a checkpoint when `stop` was set, on any rank; otherwise what went wrong, on all ranks.
pub fn train(
    config: &RunConfig,
    options: &RunOptions,
    stop: &AtomicBool,
    observer: &mut dyn Observer,
) -> Result<Report, Error> {
    let world = &options.world;
    let outcome = match world.leads() {
        true => carry_out(config, options, stop, observer),
        false => carry_out(config, options, stop, &mut |_: Event<'_>| {}),
    };
    outcome.map_err(|error| match error {
        Error::Interrupted => error,
        error => {
            let error = caused(world, error);
            world.abort(error.exit_code(), &error.with_causes());
            error
        }
    })
}

fn carry_out(
    config: &RunConfig,
    options: &RunOptions,
    stop: &AtomicBool,
    observer: &mut dyn Observer,
) -> Result<Report, Error> {
    let clock = Instant::now();
    let device = device(config.device)?;
    let out = options.out.clone().unwrap_or_else(|| config.default_dir());
    ranks::agree_on_config(config, options)?;
    // Before a policy is downloaded and every text looked at.
    if options.world.leads() {
        RunDir::check(&out, options.existing(), config)?;
    }
    let inputs = Inputs::open(config)?;
    if options.dry_run {
        return dry::run(config, options, (&inputs, &device, &out), observer, clock);
    }
    let engine = engine::open(config.engine.as_ref(), &out.join(HANDED_OVER), 1 + config.most_lag())?;
    let opened = opening::open(config, options, (&inputs, &device, &out), observer)?;
    let Opened { dir, mut meta, task_files, writer, texts, policy, checkpoint } = opened;
    ranks::agree_on_files(&options.world, &policy, &inputs)?;
    let (inputs, texts, dir, engine) = (&inputs, &texts, &dir, &*engine);
    let state = RunState::new(config.seed, checkpoint.as_ref());
    let last_step = checkpoint.as_ref().map(|c| c.state.step);
    let (last, outcome) = thread::scope(|threads| {
        let mut run = Run {
            config,
            inputs,
            texts,
            device,
            world: options.world.clone(),
            dir,
            writer,
            engine,
            threads,
            observer,
            stop,
            state,
            steps: 0,
            last_step,
        };
        // A mistake of ours ends the run as an error does: with everything written that was recorded.
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            let (policy, average) = stages(&mut run, policy, checkpoint)?;
            run.finish((&policy, average.as_ref()), task_files, clock)
        }));
        let last = run.last_step.unwrap_or(0);
        let outcome = outcome.unwrap_or_else(|panic| {
            let what = format!("a mistake in rlvr itself: {}", guard::message(&*panic));
            Err(Error::Training { step: last, what })
        });
        // What has been recorded is written whatever happened; an earlier error counts more than one of this.
        let written = run.writer.finish();
        (last, outcome.and_then(|report| written.map(|()| report)))
    });
    if !options.world.leads() {
        return wait_for_first(&options.world, outcome);
    }
    let outcome = outcome.map_err(|error| caused(&options.world, error));
    match &outcome {
        Ok(_) => meta.end(RunStatus::Finished, last, None),
        Err(Error::Interrupted) => meta.end(RunStatus::Interrupted, last, None),
        Err(error) => meta.end(RunStatus::Failed, last, Some(error.to_string())),
    }
    dir.write_meta(&meta)?;
    if matches!(outcome, Ok(_) | Err(Error::Interrupted)) {
        // All is written: who is gone now is not missed.
        let _ = options.world.any(true);
    }
    outcome
}

/// What has ended this rank: where its generation was given up, what ended another one.
fn caused(world: &World, error: Error) -> Error {
    match error {
        Error::Rollout(RolloutError::Cancelled { .. }) => world.failure().map_or(error, Error::from),
        own => own,
    }
}

/// Carries out the stages that are left. Returns the policy, and the average of its weights if the last one kept one.
fn stages(
    run: &mut Run<'_>,
    mut policy: Policy,
    mut checkpoint: Option<Checkpoint>,
) -> Result<(Policy, Option<Policy>), Error> {
    let mut average = None;
    run.start(&policy)?;
    while run.state.at.stage < run.config.stage.len() {
        let resumed = checkpoint.take().filter(|c| c.state.stage == run.state.at.stage);
        run.steps = stage::steps(run)?;
        // What it leaves beside the policy is in its checkpoint.
        let leaves = run.config.stage[run.state.at.stage].averages();
        average = None;
        if resumed.is_none() || run.goes_on() || leaves {
            let mut stage = stage::begin(run, policy, resumed.as_ref())?;
            while run.goes_on() {
                let row = stage.step(run)?;
                run.end_step(&*stage, row)?;
            }
            average = stage.average();
            policy = stage.end();
        }
        run.state.next_stage();
    }
    Ok((policy, average))
}

/// Waits until the first rank has written everything: launchers end all ranks with the first one that ends.
fn wait_for_first(world: &World, outcome: Result<Report, Error>) -> Result<Report, Error> {
    if matches!(outcome, Ok(_) | Err(Error::Interrupted)) {
        world.any(true)?;
    }
    outcome
}

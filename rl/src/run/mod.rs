//! A run from start to end: stages, evaluation, records, checkpoints, resuming.
pub mod dir;
pub mod events;
mod inputs;
pub mod log;
mod overlap;
pub mod preflight;
pub mod record;
mod texts;
mod writer;

use crate::checkpoint::{Checkpoint, CheckpointStore, TrainState};
use crate::config::{
    ChatTemplate, DataConfig, DeviceConfig, GrpoConfig, ReferenceFrom, RunConfig, SftConfig, StageConfig,
};
use crate::error::Error;
use crate::eval::{EvalResult, EvalSettings, evaluate, recorded, tasks_of};
use crate::files::tensors::NamedTensor;
use crate::metrics::{self, MetricsRow};
use crate::policy::Policy;
use crate::run::dir::{Existing, RunDir, RunMeta, RunStatus};
use crate::run::events::{Event, Observer, Report};
use crate::run::inputs::Inputs;
use crate::run::log::RunLog;
use crate::run::texts::Texts;
use crate::run::writer::{Snapshot, Writer};
use crate::train::adamw::AdamW;
use crate::train::grpo::{Source, Trainer};
use crate::train::sft::{self, SftTrainer};
use burn::tensor::Device;
use rlvr_policies::{Decoder, guard};
use rlvr_rewards::Task;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// How a run is carried out; what it computes stands in the config.
#[derive(Debug, Clone, Default)]
pub struct RunOptions {
    /// The run directory; `runs/<name>` if none.
    pub out: Option<PathBuf>,
    /// Continue what the directory holds.
    pub resume: bool,
    /// Replace what the directory holds.
    pub force: bool,
    /// Check everything, sample for the pre-flight, train nothing, write nothing; ends as the run would before its first step.
    pub dry_run: bool,
    /// The command line, for `meta.json`.
    pub command: Vec<String>,
}

impl RunOptions {
    /// What is done to a directory that already holds something.
    fn existing(&self) -> Existing {
        match (self.resume, self.force) {
            (true, _) => Existing::Resume,
            (false, true) => Existing::Replace,
            (false, false) => Existing::Refuse,
        }
    }
}

/// The device of a setting.
///
/// # Errors
/// A device that this build or this machine does not have.
pub fn device(config: DeviceConfig) -> Result<Device, Error> {
    let config = resolved(config);
    match config {
        #[cfg(feature = "cuda")]
        DeviceConfig::Cuda(index) if index < rlvr_policies::device::open::cuda_devices() => {
            Ok(rlvr_policies::device::open::cuda(index))
        }
        #[cfg(feature = "wgpu")]
        DeviceConfig::Wgpu => Ok(rlvr_policies::device::open::wgpu()),
        DeviceConfig::Auto | DeviceConfig::Cpu => Ok(Device::flex()),
        #[allow(unreachable_patterns)] // With the feature `wgpu`, only CUDA devices come here.
        DeviceConfig::Cuda(_) | DeviceConfig::Wgpu => {
            let (build, feature) = match config {
                DeviceConfig::Wgpu => (false, "wgpu"),
                _ => (cfg!(feature = "cuda"), "cuda"),
            };
            let why = match build {
                true => "this machine has no such device, or no NVIDIA driver".to_owned(),
                false => format!("this build has none; build with `--features {feature}`, or use cpu"),
            };
            Err(Error::Unusable { what: format!("device {config}: {why}") })
        }
    }
}

/// `auto` as the device that it stands for here.
fn resolved(config: DeviceConfig) -> DeviceConfig {
    #[cfg(feature = "cuda")]
    if config == DeviceConfig::Auto && rlvr_policies::device::open::cuda_devices() > 0 {
        return DeviceConfig::Cuda(0);
    }
    if config == DeviceConfig::Auto { DeviceConfig::Cpu } else { config }
}

/// The device that a setting means here: `cpu`, `cuda:N` or `wgpu`.
pub fn device_name(config: DeviceConfig) -> String {
    resolved(config).to_string()
}

/// The policy of a checkpoint, under the settings that the run began with.
fn resumed_policy(config: &RunConfig, checkpoint: &Checkpoint, device: &Device) -> Result<Policy, Error> {
    let saved = Policy::open(&checkpoint.path.to_string_lossy(), device)?;
    let template = saved.chat_template().map(str::to_owned);
    let policy = saved.configured(&config.policy)?;
    if let (ChatTemplate::File(path), Some(now)) = (&config.policy.chat_template, policy.chat_template())
        && template.as_deref() != Some(now)
    {
        let what = format!("{}: the template has changed since the run began", path.display());
        return Err(Error::Unusable { what });
    }
    Ok(policy)
}

/// Carries out a run.
///
/// # Errors
/// [`Error::Interrupted`] after a checkpoint when `stop` was set; otherwise what went wrong.
pub fn train(
    config: &RunConfig,
    options: &RunOptions,
    stop: &AtomicBool,
    observer: &mut dyn Observer,
) -> Result<Report, Error> {
    let clock = Instant::now();
    let device = device(config.device)?;
    let out = options.out.clone().unwrap_or_else(|| config.default_dir());
    // Before a policy is downloaded and every text looked at.
    RunDir::check(&out, options.existing(), config)?;
    let inputs = Inputs::open(config)?;
    if options.dry_run {
        return dry_run(config, options, &inputs, &device, &out, observer, clock);
    }
    // A policy or a text that cannot be used is found before anything is written.
    let start = |policy: Policy, observer: &mut dyn Observer| {
        let texts = inputs.texts(config, &policy)?;
        texts.notes.iter().for_each(|note| observer.event(Event::Note(note)));
        Ok::<_, Error>((policy, texts))
    };
    let from_config = || Policy::from_config(&config.policy, config.seed, &device);
    let initial = match options.resume {
        true => None,
        false => Some(start(from_config()?, observer)?),
    };
    let dir = RunDir::open(&out, options.existing())?;
    let store = CheckpointStore::new(&dir.checkpoints(), &config.checkpoint);
    let mut checkpoint = None;
    if options.resume {
        dir.check_resume(config)?;
        let (found, notes) = store.latest()?;
        notes.iter().for_each(|note| observer.event(Event::Note(note)));
        if found.is_none() {
            observer.event(Event::Note("no checkpoint yet: the run starts over"));
        }
        checkpoint = found;
    }
    let (policy, texts) = match (initial, &checkpoint) {
        (Some(initial), _) => initial,
        (None, Some(c)) => start(resumed_policy(config, c, &device)?, observer)?,
        (None, None) => start(from_config()?, observer)?,
    };
    let step = checkpoint.as_ref().map(|c| c.state.step);
    // Before anything else: a directory with a config can be resumed, one without is taken for an empty one.
    dir.write_config(config)?;
    let measured = inputs.measured(config, &texts);
    let task_files = recorded::write(&dir.task_files(), config, &measured)?;
    let log = match options.resume {
        true => RunLog::resume(dir.path(), &config.log, config.seed, step)?,
        false => RunLog::create(dir.path(), &config.log, config.seed)?,
    };
    let mut meta = match (dir.read_meta(), step) {
        (Some(mut meta), Some(step)) => {
            meta.resume(step);
            meta
        }
        _ => RunMeta::start(config, options.command.clone(), device_name(config.device)),
    };
    dir.write_meta(&meta)?;
    let mut run = Run {
        config,
        inputs: &inputs,
        texts: &texts,
        task_files,
        device,
        dir: &dir,
        writer: Writer::start(log, store),
        observer,
        stop,
        clock,
        last_step: step,
    };
    // A mistake of ours ends the run as an error does: with everything written that was recorded.
    let outcome = catch_unwind(AssertUnwindSafe(|| run.stages(checkpoint, policy)));
    let last = run.last_step.unwrap_or(0);
    let outcome = outcome.unwrap_or_else(|panic| {
        let what = format!("a mistake in rlvr itself: {}", guard::message(&*panic));
        Err(Error::Training { step: last, what })
    });
    // What has been recorded is written whatever happened; an earlier error counts more than one of this.
    let written = run.writer.finish();
    let outcome = outcome.and_then(|report| written.map(|()| report));
    match &outcome {
        Ok(_) => meta.end(RunStatus::Finished, last, None),
        Err(Error::Interrupted) => meta.end(RunStatus::Interrupted, last, None),
        Err(error) => meta.end(RunStatus::Failed, last, Some(error.to_string())),
    }
    dir.write_meta(&meta)?;
    outcome
}

/// Finds everything that would end a run before its first step, and ends as it would.
fn dry_run(
    config: &RunConfig,
    options: &RunOptions,
    inputs: &Inputs,
    device: &Device,
    out: &Path,
    observer: &mut dyn Observer,
    clock: Instant,
) -> Result<Report, Error> {
    let mut policy = Policy::from_config(&config.policy, config.seed, device)?;
    let texts = inputs.texts(config, &policy)?;
    texts.notes.iter().for_each(|note| observer.event(Event::Note(note)));
    let stages = config.stage.len();
    let mut refused = Ok(());
    for (i, stage) in config.stage.iter().enumerate() {
        let StageConfig::Grpo(grpo) = stage else { continue };
        observer.event(Event::Stage {
            index: i,
            count: stages,
            name: stage.name(),
            done: 0,
            steps: grpo.steps.unwrap_or(0),
        });
        if i > 0 {
            observer.event(Event::Note(
                "the pre-flight looks at the policy as it is before the earlier stages, so problems do not count here",
            ));
        }
        let mut trainer = Trainer::new(policy, None, grpo, inputs.training_reward(), config.seed, 1);
        if let Some(report) = preflight::look(config, inputs, &texts, i, &mut trainer)? {
            observer.event(Event::Preflight(&report));
            // A run that has begun looks no more.
            if i == 0 && config.preflight.refuse && !(options.resume && RunDir::has_checkpoints(out)) {
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

struct Run<'a> {
    config: &'a RunConfig,
    inputs: &'a Inputs,
    texts: &'a Texts,
    task_files: Vec<PathBuf>,
    device: Device,
    dir: &'a RunDir,
    writer: Writer,
    observer: &'a mut dyn Observer,
    stop: &'a AtomicBool,
    clock: Instant,
    last_step: Option<u64>,
}

/// The evaluations so far, kept in the checkpoints so that a resumed run can still show all.
type Evals = Vec<(String, Vec<EvalResult>)>;

const EVALS: &str = "evals";
const OPTIMIZER: &str = "optimizer";
const REFERENCE: &str = "reference";

impl Run<'_> {
    /// Runs what is left: from a checkpoint, whose policy is given, or from the start.
    fn stages(&mut self, checkpoint: Option<Checkpoint>, mut policy: Policy) -> Result<Report, Error> {
        let config = self.config;
        let mut state =
            checkpoint.as_ref().map_or_else(|| TrainState::start(config.seed), |c| c.state.clone());
        let mut evals: Evals =
            state.extra.get(EVALS).and_then(|v| serde_json::from_value(v.clone()).ok()).unwrap_or_default();
        self.observer.event(Event::Start {
            dir: self.dir.path(),
            params: policy.decoder.num_params(),
            device: &device_name(config.device),
            resumed_after: checkpoint.as_ref().map(|c| c.state.step),
        });
        if checkpoint.is_none() && config.eval.is_some() {
            let mut row = MetricsRow::new(0, "start");
            self.evaluate("before", &policy, &mut row, &mut evals, &mut state)?;
            self.writer.metrics(&row)?;
        }
        let mut checkpoint = checkpoint;
        while state.stage < config.stage.len() {
            let resumed = checkpoint.take().filter(|c| c.state.stage == state.stage);
            let finished = |s: &TrainState, steps: u64| resumed.is_some() && s.step_in_stage >= steps;
            policy = match &config.stage[state.stage] {
                StageConfig::Sft(sft) => {
                    let steps = sft::steps(sft, self.inputs.source(&sft.data)?.len());
                    if finished(&state, steps) {
                        policy
                    } else {
                        self.sft(sft, steps, policy, &mut state, resumed.as_ref(), &mut evals)?
                    }
                }
                StageConfig::Grpo(grpo) => {
                    let recorded = self.inputs.recorded.get(&state.stage).map(|r| r.len() as u64);
                    let steps =
                        recorded.map_or(grpo.steps, |r| Some(grpo.steps.unwrap_or(r).min(r))).unwrap_or(0);
                    if finished(&state, steps) {
                        policy
                    } else {
                        self.grpo(grpo, steps, policy, &mut state, resumed.as_ref(), &mut evals)?
                    }
                }
            };
            state = TrainState {
                stage: state.stage + 1,
                step_in_stage: 0,
                optimizer_steps: 0,
                data_position: 0,
                ..state
            };
        }
        self.settle()?;
        let target = self.dir.final_policy();
        policy.save(&target)?;
        Ok(Report {
            dir: self.dir.path().to_path_buf(),
            policy: Some(target),
            task_files: self.task_files.clone(),
            evals,
            steps: state.step,
            wall_s: self.clock.elapsed().as_secs_f64(),
        })
    }

    fn announce(&mut self, state: &TrainState, steps: u64) {
        let (index, count) = (state.stage, self.config.stage.len());
        let name = self.config.stage[index].name();
        self.observer.event(Event::Stage { index, count, name, done: state.step_in_stage, steps });
    }

    fn sft(
        &mut self,
        config: &SftConfig,
        steps: u64,
        policy: Policy,
        state: &mut TrainState,
        resumed: Option<&Checkpoint>,
        evals: &mut Evals,
    ) -> Result<Policy, Error> {
        self.announce(state, steps);
        let source = self.inputs.source(&config.data)?;
        let mut trainer = SftTrainer::new(policy, config, steps);
        if let Some(checkpoint) = resumed {
            restore(&mut trainer.learner.optim, &trainer.policy.decoder, checkpoint)?;
        }
        let name = self.config.stage[state.stage].name();
        while state.step_in_stage < steps {
            let clock = Instant::now();
            let outcome = trainer.step(state.step + 1, source, state.data_position)?;
            advance(state, config.batch as u64, 1);
            let mut row = MetricsRow::new(state.step, name);
            record::sft(&mut row, &outcome, clock.elapsed().as_secs_f64());
            row.set(metrics::DATA_EPOCH, state.data_position as f64 / source.len() as f64);
            self.end_step(steps, &trainer.policy, &trainer.learner.optim, None, row, state, evals)?;
        }
        Ok(trainer.policy)
    }

    fn grpo(
        &mut self,
        config: &GrpoConfig,
        steps: u64,
        policy: Policy,
        state: &mut TrainState,
        resumed: Option<&Checkpoint>,
        evals: &mut Evals,
    ) -> Result<Policy, Error> {
        self.announce(state, steps);
        let reference = self.reference(config, state.stage, &policy, resumed)?;
        let reward = self.inputs.training_reward();
        let mut trainer = Trainer::new(policy, reference, config, reward, self.config.seed, steps);
        trainer.version = state.policy_version;
        trainer.recorded = data_of(self.config, config).map_or(&[], DataConfig::recorded);
        if let Some(checkpoint) = resumed {
            restore(&mut trainer.learner.optim, &trainer.policy.decoder, checkpoint)?;
        } else if let Some(report) =
            preflight::look(self.config, self.inputs, self.texts, state.stage, &mut trainer)?
        {
            self.observer.event(Event::Preflight(&report));
            if self.config.preflight.refuse {
                report.refuse()?;
            }
        }
        let recorded = self.inputs.recorded.get(&state.stage);
        let source = config.data.as_ref().map(|name| self.inputs.source(name)).transpose()?;
        let name = self.config.stage[state.stage].name();
        while state.step_in_stage < steps {
            let clock = Instant::now();
            let drawn = 0..config.prompts_drawn() as u64;
            let tasks: Vec<&Task> = source
                .iter()
                .flat_map(|s| drawn.clone().map(|i| s.task(s.index_at(state.data_position + i))))
                .collect();
            let from = match recorded {
                Some(steps) => Source::Recorded(&steps[state.step_in_stage as usize]),
                None => Source::Tasks(&tasks),
            };
            let outcome = Arc::new(trainer.step(state.step + 1, &from, None)?);
            advance(state, outcome.prompts as u64, outcome.updates);
            state.policy_version = trainer.version;
            let mut row = MetricsRow::new(state.step, name);
            record::grpo(&mut row, &outcome, clock.elapsed().as_secs_f64());
            if let Some(source) = source {
                row.set(metrics::DATA_EPOCH, state.data_position as f64 / source.len() as f64);
            }
            let broken = row.get(metrics::REWARD_ERROR_FRAC).unwrap_or(0.0);
            self.writer.rollouts(state.step, name, outcome.clone())?;
            self.example(&outcome, state.step);
            if broken > config.max_error_frac {
                let reason = outcome.groups.iter().flat_map(|g| &g.judgements);
                let reason = reason
                    .filter(|j| j.outcome.verdict == rlvr_rewards::Verdict::Error)
                    .map(|j| j.outcome.reason.as_str())
                    .next();
                let what = format!(
                    "the reward broke on {:.0} % of the completions ({}); allowed are {:.0} % (max_error_frac)",
                    100.0 * broken,
                    reason.unwrap_or(""),
                    100.0 * config.max_error_frac
                );
                return Err(Error::Training { step: state.step, what });
            }
            self.end_step(
                steps,
                &trainer.policy,
                &trainer.learner.optim,
                trainer.reference.as_ref().filter(|_| config.reference == ReferenceFrom::StageStart),
                row,
                state,
                evals,
            )?;
        }
        Ok(trainer.policy)
    }

    /// The frozen policy of the KL term, if there is one.
    fn reference(
        &self,
        config: &GrpoConfig,
        stage: usize,
        policy: &Policy,
        resumed: Option<&Checkpoint>,
    ) -> Result<Option<Decoder>, Error> {
        if config.loss.kl_coef == 0.0 {
            return Ok(None);
        }
        let initial =
            || Policy::from_config(&self.config.policy, self.config.seed, &self.device).map(|p| p.decoder);
        match resumed {
            _ if config.reference == ReferenceFrom::RunStart => initial().map(Some),
            None => Ok(Some(policy.decoder.clone())),
            Some(_) if stage == 0 => initial().map(Some),
            Some(checkpoint) => {
                let mut saved = checkpoint.tensors(REFERENCE)?;
                let mut decoder = policy.decoder.clone();
                let specs: Vec<String> = decoder.layout().specs.iter().map(|s| s.name.clone()).collect();
                for (i, name) in specs.iter().enumerate() {
                    let tensor = saved.remove(name).ok_or_else(|| Error::Unusable {
                        what: format!("{}: the reference has no parameter {name}", checkpoint.path.display()),
                    })?;
                    decoder.set_param(i, tensor.data);
                }
                Ok(Some(decoder))
            }
        }
    }

    fn example(&mut self, outcome: &crate::train::grpo::StepOutcome, step: u64) {
        let every = self.config.log.example_every;
        if every == 0 || !step.is_multiple_of(every) || outcome.groups.is_empty() {
            return;
        }
        let group = &outcome.groups[(step / every) as usize % outcome.groups.len()];
        if let Some(j) = group.judgements.get((step / every) as usize % group.judgements.len().max(1)) {
            let (prompt, completion) = (group.prompt_text.as_str(), j.text.as_str());
            self.observer.event(Event::Example { step, prompt, completion, outcome: &j.outcome });
        }
    }

    /// Evaluates if due, records the step, and writes a checkpoint if due.
    #[allow(clippy::too_many_arguments)]
    fn end_step(
        &mut self,
        steps: u64,
        policy: &Policy,
        optim: &AdamW,
        reference: Option<&Decoder>,
        mut row: MetricsRow,
        state: &mut TrainState,
        evals: &mut Evals,
    ) -> Result<(), Error> {
        let done = state.step_in_stage;
        let last = done == steps;
        state.score = None;
        if let Some(eval) = &self.config.eval {
            let name = self.config.stage[state.stage].name();
            if last {
                self.evaluate(&format!("after {name}"), policy, &mut row, evals, state)?;
            } else if eval.every > 0 && done.is_multiple_of(eval.every) {
                self.evaluate(&format!("step {}", state.step), policy, &mut row, evals, state)?;
            }
        }
        row.set(metrics::MEMORY_PEAK_RSS, record::peak_rss_mb());
        self.writer.metrics(&row)?;
        self.last_step = Some(state.step);
        self.observer.event(Event::Step { done, steps, row: &row });
        let stopping = self.stop.load(Ordering::Relaxed);
        let every = self.config.checkpoint.every;
        if last || stopping || (every > 0 && done.is_multiple_of(every)) {
            self.save(policy, optim, reference.filter(|_| state.stage > 0), state, evals)?;
        }
        // An interrupt during the very last step has nothing left to interrupt.
        let over = last && state.stage + 1 == self.config.stage.len();
        if stopping && !over {
            self.settle()?;
            return Err(Error::Interrupted);
        }
        let published = self.writer.published();
        self.tell(published);
        Ok(())
    }

    /// Waits until all is written.
    fn settle(&mut self) -> Result<(), Error> {
        self.writer.settle()?;
        let published = self.writer.published();
        self.tell(published);
        Ok(())
    }

    fn tell(&mut self, checkpoint: Option<PathBuf>) {
        if let Some(path) = checkpoint {
            self.observer.event(Event::Checkpoint { path: &path });
        }
    }

    fn save(
        &mut self,
        policy: &Policy,
        optim: &AdamW,
        reference: Option<&Decoder>,
        state: &mut TrainState,
        evals: &Evals,
    ) -> Result<(), Error> {
        if let Ok(value) = serde_json::to_value(evals) {
            state.extra.insert(EVALS.to_owned(), value);
        }
        state.extra.insert("optimizer_updates".to_owned(), optim.steps().into());
        let mut tensors = vec![(OPTIMIZER, optim.state(&policy.decoder))];
        if let Some(decoder) = reference.map(|r| Arc::new(r.on_host_memory())) {
            let frozen = decoder.layout().specs.iter().enumerate().map(|(i, s)| {
                let decoder = Arc::clone(&decoder);
                NamedTensor::read(s.name.clone(), &s.shape, move || decoder.param_values(i))
            });
            tensors.push((REFERENCE, frozen.collect()));
        }
        let snapshot = Snapshot { state: state.clone(), policy: policy.saved(), tensors };
        let published = self.writer.checkpoint(snapshot)?;
        self.tell(published);
        Ok(())
    }

    fn evaluate(
        &mut self,
        label: &str,
        policy: &Policy,
        row: &mut MetricsRow,
        evals: &mut Evals,
        state: &mut TrainState,
    ) -> Result<(), Error> {
        let Some(config) = &self.config.eval else { return Ok(()) };
        let settings = EvalSettings::new(self.config, config);
        let clock = Instant::now();
        let mut results = Vec::new();
        for name in &config.data {
            let Some(reward) = &self.inputs.reward else { break };
            let source = self.inputs.source(name)?;
            let tasks = self.texts.measured(name, tasks_of(source, config.limit));
            let (result, _) = evaluate(policy, name, &tasks, &**reward, &settings, None)?;
            result.record(row);
            results.push(result);
        }
        for benchmark in &self.inputs.benchmarks {
            let tasks = benchmark.tasks_for(policy.is_raw());
            let tasks = self.texts.measured(&benchmark.name, tasks.iter().collect());
            let (result, _) = evaluate(policy, &benchmark.name, &tasks, &*benchmark.reward, &settings, None)?;
            result.record(row);
            results.push(result);
        }
        row.set(metrics::filled(metrics::TIME_PHASE, "eval"), clock.elapsed().as_secs_f64());
        if let Some(metric) = &self.config.checkpoint.keep_best {
            state.score = row.get(metric);
        }
        self.observer.event(Event::Eval { label, results: &results });
        evals.push((label.to_owned(), results));
        Ok(())
    }
}

/// Where the tasks of a stage come from.
fn data_of<'a>(config: &'a RunConfig, stage: &GrpoConfig) -> Option<&'a DataConfig> {
    config.data.get(stage.data.as_ref()?)
}

fn advance(state: &mut TrainState, consumed: u64, updates: u64) {
    state.step += 1;
    state.step_in_stage += 1;
    state.data_position += consumed;
    state.optimizer_steps += updates;
}

fn restore(optim: &mut AdamW, decoder: &Decoder, checkpoint: &Checkpoint) -> Result<(), Error> {
    let mut moments = checkpoint.tensors(OPTIMIZER)?;
    let steps = checkpoint.state.extra.get("optimizer_updates").and_then(|v| v.as_u64()).unwrap_or(0);
    optim.restore(decoder, steps, |name| moments.remove(name).map(|t| t.data)).map_err(|name| {
        Error::Unusable {
            what: format!("{}: the optimizer state has no usable {name}", checkpoint.path.display()),
        }
    })
}

//! What a run does around its steps: evaluation, records, checkpoints.
use crate::config::{LoraSave, RunConfig};
use crate::device::device_name;
use crate::engine::{Engine, Own};
use crate::error::Error;
use crate::eval::{EvalResult, EvalSettings, evaluate, tasks_of};
use crate::metrics::{self, MetricsRow};
use crate::parallel::World;
use crate::policy::Policy;
use crate::run::dir::RunDir;
use crate::run::events::{Event, Observer, Report};
use crate::run::health;
use crate::run::inputs::Inputs;
use crate::run::record;
use crate::run::stage::Stage;
use crate::run::state::RunState;
use crate::run::texts::Texts;
use crate::run::writer::{Snapshot, Writer};
use crate::train::ahead::Threads;
use burn::tensor::Device;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// What stands behind the name of a set that was measured with the average of the weights.
const AVERAGED: &str = "/ema";

/// A run in progress.
pub(crate) struct Run<'a> {
    pub(crate) config: &'a RunConfig,
    pub(crate) inputs: &'a Inputs,
    pub(crate) texts: &'a Texts,
    pub(crate) device: Device,
    /// The ranks that carry it out.
    pub(crate) world: World,
    pub(crate) dir: &'a RunDir,
    pub(crate) writer: Writer,
    /// Whoever samples for training.
    pub(crate) engine: &'a dyn Engine,
    /// Where rollouts run ahead.
    pub(crate) threads: &'a dyn Threads<'a>,
    pub(crate) observer: &'a mut dyn Observer,
    pub(crate) stop: &'a AtomicBool,
    pub(crate) state: RunState,
    /// Steps of the stage that it stands in.
    pub(crate) steps: u64,
    /// The last step that was recorded, if any.
    pub(crate) last_step: Option<u64>,
}

impl<'a> Run<'a> {
    /// The name of the stage that it stands in.
    pub(crate) fn stage_name(&self) -> &'a str {
        self.config.stage[self.state.at.stage].name()
    }

    /// Whether the stage that it stands in has steps left.
    pub(crate) fn goes_on(&self) -> bool {
        self.state.at.step_in_stage < self.steps
    }

    /// Says what begins, and measures the policy where nothing was done yet.
    pub(crate) fn start(&mut self, policy: &Policy) -> Result<(), Error> {
        self.observer.event(Event::Start {
            dir: self.dir.path(),
            params: policy.decoder.num_params(),
            device: &device_name(self.config.device),
            resumed_after: self.last_step,
        });
        if self.last_step.is_none() && self.config.eval.is_some() && self.world.leads() {
            let mut row = MetricsRow::new(0, "start");
            self.evaluate("before", (policy, None), &mut row)?;
            self.writer.metrics(&row)?;
        }
        Ok(())
    }

    /// Says which stage begins, or goes on.
    pub(crate) fn announce(&mut self) {
        let (index, count) = (self.state.at.stage, self.config.stage.len());
        let (name, done, steps) = (self.stage_name(), self.state.at.step_in_stage, self.steps);
        self.observer.event(Event::Stage { index, count, name, done, steps });
    }

    /// Evaluates if due, records the step, and writes a checkpoint if due.
    ///
    /// # Errors
    /// [`Error::Interrupted`] after a checkpoint when the run is to stop.
    pub(crate) fn end_step(&mut self, stage: &dyn Stage<'a>, mut row: MetricsRow) -> Result<(), Error> {
        let (step, done) = (self.state.at.step, self.state.at.step_in_stage);
        let last = done == self.steps;
        self.state.at.score = None;
        // The first rank measures and records, the others wait for it where they need something of it.
        if let Some(eval) = self.config.eval.as_ref().filter(|_| self.world.leads()) {
            let label = if last {
                Some(format!("after {}", self.stage_name()))
            } else {
                (eval.every > 0 && done.is_multiple_of(eval.every)).then(|| format!("step {step}"))
            };
            if let Some(label) = label {
                self.evaluate(&label, (stage.policy(), stage.average().as_ref()), &mut row)?;
            }
        }
        self.warn(&mut row);
        row.set(metrics::MEMORY_PEAK_RSS, record::peak_rss_mb());
        self.writer.metrics(&row)?;
        self.last_step = Some(step);
        self.observer.event(Event::Step { done, steps: self.steps, row: &row });
        let stopping = self.world.any(self.stop.load(Ordering::Relaxed))?;
        let every = self.config.checkpoint.every;
        if last || stopping || (every > 0 && done.is_multiple_of(every)) {
            self.save(stage)?;
        }
        // An interrupt during the very last step has nothing left to interrupt.
        let over = last && self.state.at.stage + 1 == self.config.stage.len();
        if stopping && !over {
            self.settle()?;
            return Err(Error::Interrupted);
        }
        let published = self.writer.published();
        self.tell(published);
        Ok(())
    }

    /// Warns of what the step shows, once a run.
    fn warn(&mut self, row: &mut MetricsRow) {
        let (stage, step) = (self.state.at.stage, row.step);
        for warning in self.state.health.observe(row, stage, &self.config.health) {
            let metric = warning.metric();
            let text = health::text(&warning.name, warning.value).unwrap_or_default();
            self.observer.event(Event::Warning { step, metric: &metric, text: &text });
            row.set(metric, warning.value);
        }
    }

    /// Saves the policy of the last stage where the run ends, and the average of its weights if the stage kept one.
    pub(crate) fn finish(
        &mut self,
        (policy, average): (&Policy, Option<&Policy>),
        task_files: Vec<PathBuf>,
        clock: Instant,
    ) -> Result<Report, Error> {
        self.settle()?;
        let target = self.dir.final_policy();
        if !self.world.leads() {
            return Ok(Report {
                dir: self.dir.path().to_path_buf(),
                policy: Some(target),
                task_files,
                evals: Vec::new(),
                steps: self.state.at.step,
                wall_s: clock.elapsed().as_secs_f64(),
            });
        }
        let merged = self.config.policy.lora.as_ref().is_some_and(|lora| lora.save == LoraSave::Merged);
        let beside = self.dir.final_average();
        for (policy, target) in [Some((policy, &target)), average.zip(Some(&beside))].into_iter().flatten() {
            let saved = policy.saved();
            if merged { saved.merged() } else { saved }.save(target)?;
        }
        Ok(Report {
            dir: self.dir.path().to_path_buf(),
            policy: Some(target),
            task_files,
            evals: std::mem::take(&mut self.state.evals),
            steps: self.state.at.step,
            wall_s: clock.elapsed().as_secs_f64(),
        })
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

    fn save(&mut self, stage: &dyn Stage<'a>) -> Result<(), Error> {
        let tensors = stage.save(self)?;
        if !self.world.leads() {
            return Ok(());
        }
        let snapshot = Snapshot { state: self.state.saved(), policy: stage.policy().saved(), tensors };
        let published = self.writer.checkpoint(snapshot)?;
        self.tell(published);
        Ok(())
    }

    /// Measures a policy, and the one with the average of its weights, whose sets are called `NAME/ema`.
    fn evaluate(
        &mut self,
        label: &str,
        (policy, average): (&Policy, Option<&Policy>),
        row: &mut MetricsRow,
    ) -> Result<(), Error> {
        if self.config.eval.is_none() {
            return Ok(());
        }
        let clock = Instant::now();
        let mut results = self.measure(policy)?;
        for mut result in average.map(|policy| self.measure(policy)).transpose()?.into_iter().flatten() {
            result.set.push_str(AVERAGED);
            results.push(result);
        }
        results.iter().for_each(|result| result.record(row));
        row.set(metrics::filled(metrics::TIME_PHASE, "eval"), clock.elapsed().as_secs_f64());
        if let Some(metric) = &self.config.checkpoint.keep_best {
            self.state.at.score = row.get(metric);
        }
        self.observer.event(Event::Eval { label, results: &results });
        self.state.evals.push((label.to_owned(), results));
        Ok(())
    }

    /// Every set of `[eval]`.
    fn measure(&self, policy: &Policy) -> Result<Vec<EvalResult>, Error> {
        let Some(config) = &self.config.eval else { return Ok(Vec::new()) };
        let settings = EvalSettings::new(self.config, config);
        let mut results = Vec::new();
        // Numbers that can be had again, whoever samples for training.
        let sampled: (&Policy, &dyn Engine) = (policy, &Own);
        for name in &config.data {
            let Some(reward) = &self.inputs.reward else { break };
            let source = self.inputs.source(name)?;
            let tasks = self.texts.measured(name, tasks_of(source, config.limit));
            results.push(evaluate(sampled, name, &tasks, &**reward, &settings, None)?.0);
        }
        for benchmark in &self.inputs.benchmarks {
            let tasks = benchmark.tasks_for(policy.is_raw());
            let tasks = self.texts.measured(&benchmark.name, tasks.iter().collect());
            results.push(evaluate(sampled, &benchmark.name, &tasks, &*benchmark.reward, &settings, None)?.0);
        }
        Ok(results)
    }
}

//! A GRPO stage of a run.
use crate::checkpoint::Checkpoint;
use crate::config::{GrpoConfig, ReferenceFrom};
use crate::error::Error;
use crate::generate::Origin;
use crate::metrics::{self, MetricsRow};
use crate::policy::Policy;
use crate::run::ahead::Ahead;
use crate::run::draw::{Draw, Row};
use crate::run::events::Event;
use crate::run::stage::{AVERAGE, Files, Stage, moments, read_weights, restore, weights};
use crate::run::steps::Run;
use crate::run::{preflight, record};
use crate::train::grpo::{Rollouts, Source, StepOutcome, Trainer};
use crate::train::recorded::RecordedStep;
use rlvr_policies::Decoder;
use rlvr_rewards::{Task, Verdict};
use std::sync::Arc;
use std::time::Instant;

/// The reference in the directory of a checkpoint.
const REFERENCE: &str = "reference";

/// A GRPO stage in progress.
pub(crate) struct GrpoStage<'a> {
    trainer: Trainer<'a>,
    config: &'a GrpoConfig,
    /// Where prompts come from.
    draw: Option<Draw<'a>>,
    /// Rollouts made elsewhere, by step.
    recorded: Option<&'a [RecordedStep]>,
    /// Rollouts that are begun before their step.
    ahead: Option<Ahead<'a>>,
}

impl<'a> Stage<'a> for GrpoStage<'a> {
    type Config = GrpoConfig;

    fn begin(
        run: &mut Run<'a>,
        config: &'a GrpoConfig,
        policy: Policy,
        resumed: Option<&Checkpoint>,
    ) -> Result<Self, Error> {
        let (inputs, stage) = (run.inputs, run.state.at.stage);
        let reference = reference(run, config, &policy, resumed)?;
        let reward = inputs.training_reward();
        let mut trainer = Trainer::new(policy, reference, config, reward, run.config.seed, run.steps);
        trainer.version = run.state.at.policy_version;
        trainer.steps = run.state.at.step_in_stage;
        run.state.kl_coef().into_iter().for_each(|coef| trainer.set_kl_coef(coef));
        trainer.recorded = inputs.fields.get(&stage).map_or(&[], Vec::as_slice);
        trainer.engine = run.engine;
        let (world, shards) = (run.world.clone(), run.config.parallel.shards);
        trainer.learner.share(world, shards, &trainer.policy.decoder);
        prepare(run, config, &trainer)?;
        if let Some(checkpoint) = resumed {
            if let Some(average) = &mut trainer.average {
                read_weights(average, AVERAGE, checkpoint)?;
            }
            restore(&mut trainer.learner.optim, &trainer.policy.decoder, checkpoint)?;
        } else if let Some(report) = preflight::look(run.config, inputs, run.texts, stage, &mut trainer)? {
            run.observer.event(Event::Preflight(&report));
            if run.config.preflight.refuse {
                report.refuse()?;
            }
        }
        let draw = match &config.data {
            None => None,
            Some(mix) => {
                let source = |(name, weight): (&String, f64)| Ok((inputs.source(name)?, weight));
                let sources = mix.iter().map(source).collect::<Result<Vec<_>, Error>>()?;
                Some(Draw::new(sources, config.curriculum.as_ref(), run.config.seed))
            }
        };
        let recorded = inputs.recorded.get(&stage).map(Vec::as_slice);
        let (steps, prompts) = (run.steps, config.prompts_drawn());
        let ahead = |lag| Ahead::new(run.threads, lag, (steps, prompts), &run.state.at);
        let ahead = (config.max_lag > 0).then(|| ahead(config.max_lag));
        Ok(Self { trainer, config, draw, recorded, ahead })
    }

    fn step(&mut self, run: &mut Run<'a>) -> Result<MetricsRow, Error> {
        let clock = Instant::now();
        let step = run.state.at.step + 1;
        let (rows, outcome) = match (&mut self.ahead, &self.draw) {
            (Some(ahead), Some(draw)) => {
                let rollouts = ahead.next(&self.trainer, draw);
                let (rows, rollouts) = rollouts.map_err(|e| e.at_step(step))?;
                let lag = lag(&rollouts, self.trainer.version);
                // Its own samples, but of other weights.
                let learned = self.trainer.learn(step, rollouts, Origin::Foreign);
                (rows, learned.map(|outcome| StepOutcome { lag, ..outcome }))
            }
            _ => self.due(run),
        };
        let outcome = Arc::new(outcome.map_err(|e| e.at_step(step))?);
        run.state.health.look_at_parts(&outcome.groups);
        let in_target = self
            .draw
            .as_ref()
            .and_then(|draw| draw.keep(&mut run.state.at, &rows, outcome.prompts, &outcome.groups));
        run.state.advance(outcome.prompts as u64, outcome.updates);
        run.state.at.policy_version = self.trainer.version;
        run.state.set_kl_coef(self.trainer.kl_coef());
        let (step, name) = (run.state.at.step, run.stage_name());
        let mut row = MetricsRow::new(step, name);
        record::grpo(&mut row, &outcome, clock.elapsed().as_secs_f64());
        if let Some(draw) = &self.draw {
            row.set(metrics::DATA_EPOCH, run.state.at.data_position as f64 / draw.len() as f64);
            if let Some(share) = in_target {
                row.set(metrics::DATA_IN_TARGET_FRAC, share);
            }
        }
        run.writer.rollouts(step, name, outcome.clone())?;
        example(run, &outcome);
        self.check_reward(step, &row, &outcome)?;
        self.check_mismatch(step, &row)?;
        Ok(row)
    }

    fn save(&self, run: &Run<'a>) -> Result<Files, Error> {
        let mut tensors = vec![moments(&self.trainer.learner, &self.trainer.policy.decoder)?];
        // That of the first stage, and of the start of the run, is the policy that the config names.
        let own = run.state.at.stage > 0 && self.config.reference == ReferenceFrom::StageStart
            || self.config.reference_period().is_some();
        let reference = self.trainer.reference.as_ref().filter(|_| own);
        tensors.extend(reference.map(|decoder| (REFERENCE, weights(decoder))));
        tensors.extend(self.trainer.average.as_ref().map(|decoder| (AVERAGE, weights(decoder))));
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

impl GrpoStage<'_> {
    /// A step whose rollouts are made when it is due, with the rows that they are drawn from.
    fn due(&mut self, run: &Run<'_>) -> (Vec<Row>, Result<StepOutcome, Error>) {
        let at = &run.state.at;
        let drawn = self.draw.as_ref().map(|draw| draw.rows(at, self.config.prompts_drawn()));
        let rows: Vec<Row> = drawn.unwrap_or_default();
        let tasks: Vec<&Task> =
            self.draw.iter().flat_map(|draw| rows.iter().map(|row| draw.task(*row))).collect();
        let from = match self.recorded {
            Some(steps) => Source::Recorded(&steps[at.step_in_stage as usize]),
            None => Source::Tasks(&tasks),
        };
        // Generation ends as soon as another rank has.
        let outcome = self.trainer.step(at.step + 1, &from, run.world.broken());
        (rows, outcome)
    }

    /// Ends the run where the engine samples from something else than the policy.
    fn check_mismatch(&self, step: u64, row: &MetricsRow) -> Result<(), Error> {
        let (Some(most), Some(found)) =
            (self.trainer.engine.most_mismatch(), row.get(metrics::POLICY_MISMATCH_KL))
        else {
            return Ok(());
        };
        // Of weights that have been trained since they sampled it says nothing about servers.
        let moved = row.get(metrics::POLICY_LAG_MAX).is_some_and(|lag| lag > 0.0);
        if moved || found <= most {
            return Ok(());
        }
        let what = format!(
            "{} is {found:.3} nats a token, at most {most} are allowed (engine.max_mismatch_kl): the servers sample from other \
             weights than those that are trained; go on with --resume when they do not",
            metrics::POLICY_MISMATCH_KL
        );
        Err(Error::Training { step, what })
    }

    /// Ends the run where the reward broke on too many completions.
    fn check_reward(&self, step: u64, row: &MetricsRow, outcome: &StepOutcome) -> Result<(), Error> {
        let broken = row.get(metrics::REWARD_ERROR_FRAC).unwrap_or(0.0);
        if broken <= self.config.max_error_frac {
            return Ok(());
        }
        let judgements =
            outcome.groups.iter().flat_map(|g| g.judgements.iter().enumerate().map(move |j| (g, j)));
        let mut broken_ones = judgements.filter(|(_, (_, j))| j.outcome.verdict == Verdict::Error);
        let first = broken_ones.next().map(|(group, (i, j))| {
            format!("prompt {:?}, completion {}: {}", group.id, i + 1, j.outcome.reason)
        });
        let what = format!(
            "the reward broke on {:.0} % of the completions ({}); allowed are {:.0} % (max_error_frac)",
            100.0 * broken,
            first.unwrap_or_default(),
            100.0 * self.config.max_error_frac
        );
        Err(Error::Training { step, what })
    }
}

/// How many optimizer steps completions are behind a version, on average and at most; none where there are none.
fn lag(rollouts: &Rollouts, version: u64) -> Option<(f64, f64)> {
    let completions = rollouts.groups.iter().flat_map(|group| &group.completions);
    let behind: Vec<u64> = completions.map(|c| version - c.policy_version).collect();
    let mean = behind.iter().sum::<u64>() as f64 / behind.len() as f64;
    Some((mean, *behind.iter().max()? as f64))
}

/// Prompts that servers are tested with.
const PROBES: usize = 8;

/// Looks whether the engine samples from the policy, and says so.
fn prepare(run: &mut Run<'_>, config: &GrpoConfig, trainer: &Trainer<'_>) -> Result<(), Error> {
    let Some(mix) = &config.data else { return Ok(()) };
    let tasks = preflight::probes(run.inputs, run.texts, (run.state.at.stage, mix), PROBES)?;
    let prompts =
        tasks.into_iter().map(|task| trainer.policy.prompt_of(task)).collect::<Result<Vec<_>, _>>()?;
    if let Some(note) = run.engine.prepare(&trainer.policy, trainer.version, &prompts)? {
        run.observer.event(Event::Note(&note));
    }
    Ok(())
}

/// The policy that the KL term measures to, if there is one.
fn reference(
    run: &Run<'_>,
    config: &GrpoConfig,
    policy: &Policy,
    resumed: Option<&Checkpoint>,
) -> Result<Option<Decoder>, Error> {
    if config.loss.kl_coef == 0.0 {
        return Ok(None);
    }
    // A new adapter changes nothing: where the stage starts, the base is the policy.
    let fresh = run.config.policy.lora.as_ref().is_some_and(|lora| lora.adapter.is_none());
    let starts = config.reference == ReferenceFrom::RunStart || run.state.at.stage == 0;
    if config.reference == ReferenceFrom::Base && policy.decoder.lora().is_none() {
        let what = "reference = \"base\" is the policy without its adapter, and it has none".to_owned();
        return Err(Error::Unusable { what });
    }
    let moves = config.reference_period().is_some();
    if config.reference_ema.is_some() && policy.decoder.lora().is_some() {
        let what = "reference_ema averages weights, and the average of the factors of two adapters is not that of what they \
                    add; use reference_every alone";
        return Err(Error::Unusable { what: what.to_owned() });
    }
    // One that moves has the parameters of the policy from the start.
    if !moves && (config.reference == ReferenceFrom::Base || fresh && starts) {
        return Ok(Some(policy.decoder.without_lora()));
    }
    let initial = || {
        let initial = Policy::from_config(&run.config.policy, run.config.seed, &run.device)?.decoder;
        if !initial.trained().contains(&false) {
            return Ok(initial);
        }
        // What is frozen is there already: only the rest is another one.
        let mut shared = policy.decoder.clone();
        for i in (0..initial.params().len()).filter(|i| initial.trained()[*i]) {
            shared.set_param(i, initial.param_values(i));
        }
        Ok::<_, Error>(shared)
    };
    match (config.reference, resumed) {
        (_, Some(checkpoint)) if moves => saved(policy, checkpoint).map(Some),
        (ReferenceFrom::RunStart | ReferenceFrom::Base, _) => initial().map(Some),
        (ReferenceFrom::StageStart, None) => Ok(Some(policy.decoder.clone())),
        (ReferenceFrom::StageStart, Some(_)) if run.state.at.stage == 0 => initial().map(Some),
        (ReferenceFrom::StageStart, Some(checkpoint)) => saved(policy, checkpoint).map(Some),
    }
}

/// The reference that a checkpoint keeps.
fn saved(policy: &Policy, checkpoint: &Checkpoint) -> Result<Decoder, Error> {
    let mut decoder = policy.decoder.clone();
    read_weights(&mut decoder, REFERENCE, checkpoint)?;
    Ok(decoder)
}

/// Shows a completion with its verdict, now and then.
fn example(run: &mut Run<'_>, outcome: &StepOutcome) {
    let (every, step) = (run.config.log.example_every, run.state.at.step);
    if every == 0 || !step.is_multiple_of(every) || outcome.groups.is_empty() {
        return;
    }
    let group = &outcome.groups[(step / every) as usize % outcome.groups.len()];
    if let Some(j) = group.judgements.get((step / every) as usize % group.judgements.len().max(1)) {
        let (prompt, completion) = (group.prompt_text.as_str(), j.text.as_str());
        run.observer.event(Event::Example { step, prompt, completion, outcome: &j.outcome });
    }
}

//! From a config to a run that can begin: its directory, its policy, its texts, its records.
use crate::checkpoint::{Checkpoint, CheckpointStore};
use crate::config::{ChatTemplate, RunConfig};
use crate::device::device_name;
use crate::error::Error;
use crate::eval::recorded;
use crate::parallel::World;
use crate::policy::Policy;
use crate::run::dir::{Existing, RunDir, RunMeta};
use crate::run::events::{Event, Observer};
use crate::run::inputs::Inputs;
use crate::run::log::RunLog;
use crate::run::ranks;
use crate::run::texts::Texts;
use crate::run::writer::Writer;
use crate::selection;
use crate::train::optim;
use burn::tensor::Device;
use std::path::{Path, PathBuf};

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
    /// The ranks that carry it out together. Rank 0 writes.
    pub world: World,
    /// The command line, for `meta.json`.
    pub command: Vec<String>,
}

/// What a run begins with.
pub(crate) struct Opened {
    pub(crate) dir: RunDir,
    pub(crate) meta: RunMeta,
    /// The definitions of what it measures.
    pub(crate) task_files: Vec<PathBuf>,
    pub(crate) writer: Writer,
    pub(crate) texts: Texts,
    /// As the config names it, or of the checkpoint.
    pub(crate) policy: Policy,
    /// What it goes on from.
    pub(crate) checkpoint: Option<Checkpoint>,
}

impl RunOptions {
    /// What is done to a directory that already holds something.
    pub(crate) fn existing(&self) -> Existing {
        match (self.resume, self.force) {
            (true, _) => Existing::Resume,
            (false, true) => Existing::Replace,
            (false, false) => Existing::Refuse,
        }
    }
}

/// Opens the directory of a run, and everything that a step needs.
///
/// # Errors
/// A policy or a text that cannot be used, before anything is written; a directory that cannot be used.
pub(crate) fn open(
    config: &RunConfig,
    options: &RunOptions,
    (inputs, device, out): (&Inputs, &Device, &Path),
    observer: &mut dyn Observer,
) -> Result<Opened, Error> {
    if !options.world.leads() {
        return follow(config, options, (inputs, device, out), observer);
    }
    let start = |policy: Policy, observer: &mut dyn Observer| start(config, inputs, policy, observer);
    let from_config = || Policy::from_config(&config.policy, config.seed, device);
    let initial = match options.resume {
        true => None,
        false => Some(start(from_config()?, observer)?),
    };
    let dir = RunDir::open(out, options.existing())?;
    let store = CheckpointStore::new(&dir.checkpoints(), &config.checkpoint);
    let mut checkpoint = None;
    if options.resume {
        dir.check_resume(config)?;
        let (found, notes) = store.latest()?;
        notes.iter().for_each(|note| observer.event(Event::Note(note)));
        if found.is_none() {
            observer.event(Event::Note("no checkpoint yet: the run starts over"));
        }
        options.world.from_first(|| ranks::name_of(found.as_ref()))?;
        checkpoint = found;
    }
    let (mut policy, texts) = match (initial, &checkpoint) {
        (Some(initial), _) => initial,
        (None, Some(c)) => start(resumed_policy(config, c, device)?, observer)?,
        (None, None) => start(from_config()?, observer)?,
    };
    let step = checkpoint.as_ref().map(|c| c.state.step);
    let (before, facts) = (dir.read_meta(), inputs.facts(config)?);
    if let (Some(before), Some(_)) = (&before, step) {
        before.check_data(&facts, out)?;
    }
    policy.keep_base(&config.policy, dir.path())?;
    // Before anything else: a directory with a config can be resumed, one without is taken for an empty one.
    dir.write_config(config)?;
    let task_files = recorded::write(&dir.task_files(), config, &inputs.measured(config, &texts))?;
    let log = match options.resume {
        true => RunLog::resume(dir.path(), &config.log, config.seed, step)?,
        false => RunLog::create(dir.path(), &config.log, config.seed)?,
    };
    let mut meta = match (before, step) {
        (Some(mut meta), Some(step)) => {
            meta.resume(step);
            meta
        }
        (Some(_), None) | (None, _) => {
            RunMeta::start(config, options.command.clone(), device_name(config.device))
        }
    };
    meta.data = facts;
    dir.write_meta(&meta)?;
    Ok(Opened { dir, meta, task_files, writer: Writer::start(log, store), texts, policy, checkpoint })
}

/// The policy with the texts that it reads.
fn start(
    config: &RunConfig,
    inputs: &Inputs,
    policy: Policy,
    observer: &mut dyn Observer,
) -> Result<(Policy, Texts), Error> {
    check_optimizers(config, &policy)?;
    let parts = (config.policy.trainable.as_deref(), config.policy.frozen.as_slice());
    selection::note(&policy.decoder, parts).iter().for_each(|note| observer.event(Event::Note(note)));
    let texts = inputs.texts(config, &policy)?;
    texts.notes.iter().for_each(|note| observer.event(Event::Note(note)));
    Ok((policy, texts))
}

/// The same on the ranks that do not write.
fn follow(
    config: &RunConfig,
    options: &RunOptions,
    (inputs, device, out): (&Inputs, &Device, &Path),
    observer: &mut dyn Observer,
) -> Result<Opened, Error> {
    let checkpoint = if options.resume { ranks::named(&options.world, out)? } else { None };
    let policy = match &checkpoint {
        Some(checkpoint) => resumed_policy(config, checkpoint, device)?,
        None => Policy::from_config(&config.policy, config.seed, device)?,
    };
    let (policy, texts) = start(config, inputs, policy, observer)?;
    let meta = RunMeta::start(config, options.command.clone(), device_name(config.device));
    let (dir, writer) = (RunDir::of_another_rank(out), Writer::nowhere());
    Ok(Opened { dir, meta, task_files: Vec::new(), writer, texts, policy, checkpoint })
}

/// Checks that what every stage trains, and its optimizer, fit the policy.
///
/// # Errors
/// The setting that does not.
pub(crate) fn check_optimizers(config: &RunConfig, policy: &Policy) -> Result<(), Error> {
    for (i, stage) in config.stage.iter().enumerate() {
        let decoder = selection::for_stage(&policy.decoder, config, i)?;
        optim::check(stage.optim(), &decoder).map_err(|p| Error::Setting {
            field: format!("stage.{i}.optim.{}", p.field),
            message: p.message,
        })?;
    }
    Ok(())
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

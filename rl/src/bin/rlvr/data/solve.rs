//! The steps of curation that ask a policy.

use super::steps::{command, create, fault, finish};
use super::watch::Bar;
use crate::args::data::{PassRateArgs, PassRateStep, RejectionArgs, RejectionStep, SolveArgs};
use crate::input::bad;
use crate::{engine, policy, rewards};
use anyhow::Result;
use rlvr::config::Dtype;
use rlvr::curate::manifest::FileRecord;
use rlvr::curate::output::Output;
use rlvr::curate::sampling::{Candidates, Journal, Recorded, Sampled};
use rlvr::curate::solve::{Framing, PassRateSettings, RejectionSettings};
use rlvr::curate::{solve, tables};
use rlvr::engine::Engine;
use rlvr::policy::Policy;
use rlvr::rewards::Reward;
use rlvr::rollout::SamplingParams;
use serde::Serialize;
use serde_json::{Value, json};
use std::path::Path;

/// Refuses options that contradict each other; a file is not checked by the parser of the command line.
pub fn check(args: &SolveArgs) -> Result<()> {
    match (&args.policy, &args.completions, &args.journal) {
        (None, None, _) => Err(bad("give --policy PATH or --completions FILE")),
        (Some(_), Some(_), _) => Err(bad("give --policy or --completions, not both")),
        (_, Some(_), _) if !args.engine.engine_url.is_empty() => {
            Err(bad("--engine-url samples; --completions samples nothing"))
        }
        (_, Some(_), Some(_)) => Err(bad("--journal keeps what is sampled; --completions samples nothing")),
        _ if args.samples == 0 => Err(bad("--samples must be at least 1")),
        _ => Ok(()),
    }
}

/// Who judges the completions.
pub fn reward(args: &SolveArgs) -> Result<Box<dyn Reward>> {
    let reward = match (&args.reward, &args.config) {
        (Some(_), Some(_)) => return Err(bad("give --reward or --config, not both")),
        (Some(kind), None) => rewards::by_kind(kind)?,
        (None, Some(path)) => rewards::from_file(path)?,
        (None, None) => return Err(bad("give --reward KIND or --config FILE")),
    };
    reward.prepare()?;
    Ok(reward)
}

fn framing(args: &SolveArgs) -> Framing {
    Framing { system: args.system.clone(), instruction: args.instruction.clone() }
}

/// What the completions depend on, beside the tasks.
fn sampling_record(args: &SolveArgs) -> Value {
    if args.completions.is_some() {
        return Value::Null;
    }
    let mut record = json!({
        "policy": args.policy, "samples": args.samples, "temperature": args.temperature,
        "max_tokens": args.max_tokens, "stop": args.stop, "raw": args.raw, "seed": args.seed,
    });
    // Journals that were begun before there was a choice go on.
    if args.dtype != Dtype::default() {
        record["dtype"] = json!(args.dtype);
    }
    if let Some(name) = engine::name(&args.engine) {
        record["engine"] = json!(name);
    }
    record
}

/// Opens the policy, if one is asked for.
fn open(args: &SolveArgs) -> Result<Option<Policy>> {
    let Some(path) = &args.policy else { return Ok(None) };
    if args.temperature == 0.0 && args.samples > 1 {
        return Err(bad("--samples above 1 with --temperature 0 gives the same completion each time"));
    }
    policy::check_stop(&args.stop)?;
    let device = rlvr::run::device(args.device)?;
    let policy = Policy::open(path, &device)?.computing_in(args.dtype)?;
    Ok(Some(if args.raw { policy.raw() } else { policy }))
}

/// The completions: recorded, sampled, or sampled with a journal.
fn source<'a>(
    args: &SolveArgs,
    (policy, engine): (Option<&'a Policy>, &'a dyn Engine),
    framing: &Framing,
) -> Result<Box<dyn Candidates + 'a>> {
    if let Some(path) = &args.completions {
        return Ok(Box::new(Recorded::read(path).map_err(fault)?));
    }
    let Some(policy) = policy else { return Err(bad("give --policy PATH or --completions FILE")) };
    let params = SamplingParams {
        temperature: args.temperature,
        max_tokens: args.max_tokens,
        ..SamplingParams::default()
    };
    let sampled = Sampled {
        policy,
        engine,
        samples: args.samples as usize,
        sampling: policy::sampling(params)?,
        stop: args.stop.clone(),
        seed: args.seed,
    };
    Ok(match &args.journal {
        Some(path) => {
            let settings = json!({"sampling": sampling_record(args), "framing": framing});
            Box::new(Journal::open(path, sampled, args.samples as usize, &settings).map_err(fault)?)
        }
        None => Box::new(sampled),
    })
}

fn settings(args: &SolveArgs, own: &impl Serialize) -> Result<Value> {
    let mut settings = serde_json::to_value(own)?;
    settings["sampling"] = sampling_record(args);
    settings["reward"] = match &args.config {
        Some(path) => json!({"config": path, "sha256": tables::whole_hash(path).map_err(fault)?}),
        None => json!(args.reward),
    };
    Ok(settings)
}

fn inputs(args: &SolveArgs, input: &rlvr::curate::scan::Input) -> Result<Vec<FileRecord>> {
    let mut inputs = vec![FileRecord::of(input)];
    if let Some(path) = &args.completions {
        let sha256 = tables::whole_hash(path).map_err(fault)?;
        let file = rlvr::curate::scan::Input { path: path.display().to_string(), sha256, rows: 0 };
        inputs.push(FileRecord { role: Some("completions".into()), ..FileRecord::of(&file) });
    }
    Ok(inputs)
}

pub fn pass_rate(args: &PassRateArgs) -> Result<()> {
    check(&args.step.solve)?;
    pass_rate_step(&args.input, create(&args.out)?, &args.step)
}

pub fn rejection(args: &RejectionArgs) -> Result<()> {
    check(&args.step.solve)?;
    rejection_step(&args.input, create(&args.out)?, &args.step)
}

pub fn pass_rate_step(input: &Path, mut out: Output, step: &PassRateStep) -> Result<()> {
    let (args, framing) = (&step.solve, framing(&step.solve));
    let own = PassRateSettings { low: step.low, high: step.high, framing: framing.clone() };
    let (reward, policy, engine) = (reward(args)?, open(args)?, engine::open(&args.engine)?);
    let mut source = source(args, (policy.as_ref(), &*engine), &framing)?;
    let read = solve::pass_rate(input, &mut out, &mut *source, &*reward, &own, &Bar::new()).map_err(fault)?;
    finish(out, command("pass-rate", &settings(args, &own)?, Some(args.seed))?, inputs(args, &read)?)
}

pub fn rejection_step(input: &Path, mut out: Output, step: &RejectionStep) -> Result<()> {
    let (args, framing) = (&step.solve, framing(&step.solve));
    let (per_task, pick) = (step.per_task as usize, step.pick);
    let own = RejectionSettings { per_task, pick, seed: args.seed, framing: framing.clone() };
    let (reward, policy, engine) = (reward(args)?, open(args)?, engine::open(&args.engine)?);
    let mut source = source(args, (policy.as_ref(), &*engine), &framing)?;
    let read = solve::rejection(input, &mut out, &mut *source, &*reward, &own, &Bar::new()).map_err(fault)?;
    finish(out, command("rejection", &settings(args, &own)?, Some(args.seed))?, inputs(args, &read)?)
}

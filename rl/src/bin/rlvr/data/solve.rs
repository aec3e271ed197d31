//! The steps of curation that ask a policy.

use super::args::{PassRateArgs, RejectionArgs, SolveArgs};
use super::steps::{command, create, fault, finish};
use super::watch::Bar;
use crate::input::bad;
use crate::{policy, score};
use anyhow::Result;
use rlvr::curate::manifest::FileRecord;
use rlvr::curate::sampling::{Candidates, Journal, Recorded, Sampled};
use rlvr::curate::solve::{Framing, PassRateSettings, RejectionSettings};
use rlvr::curate::{solve, tables};
use rlvr::policy::Policy;
use rlvr::rewards::Reward;
use rlvr::rollout::SamplingParams;
use serde::Serialize;
use serde_json::{Value, json};

fn reward(args: &SolveArgs) -> Result<Box<dyn Reward>> {
    let reward = match (&args.reward, &args.config) {
        (Some(kind), _) => score::by_kind(kind)?,
        (None, Some(path)) => score::from_file(path)?,
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
    match &args.completions {
        Some(_) => Value::Null,
        None => json!({
            "policy": args.policy, "samples": args.samples, "temperature": args.temperature,
            "max_tokens": args.max_tokens, "stop": args.stop, "raw": args.raw, "seed": args.seed,
        }),
    }
}

/// Opens the policy, if one is asked for.
fn open(args: &SolveArgs) -> Result<Option<Policy>> {
    let Some(path) = &args.policy else { return Ok(None) };
    if args.temperature == 0.0 && args.samples > 1 {
        return Err(bad("--samples above 1 with --temperature 0 gives the same completion each time"));
    }
    policy::check_stop(&args.stop)?;
    let device = rlvr::run::device(args.device)?;
    let policy = Policy::open(path, &device)?;
    Ok(Some(if args.raw { policy.raw() } else { policy }))
}

/// The completions: recorded, sampled, or sampled with a journal.
fn source<'a>(
    args: &SolveArgs,
    policy: Option<&'a Policy>,
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
    let (reward, framing) = (reward(&args.solve)?, framing(&args.solve));
    let own = PassRateSettings { low: args.low, high: args.high, framing: framing.clone() };
    let mut out = create(&args.out)?;
    let policy = open(&args.solve)?;
    let mut source = source(&args.solve, policy.as_ref(), &framing)?;
    let input =
        solve::pass_rate(&args.input, &mut out, &mut *source, &*reward, &own, &Bar::new()).map_err(fault)?;
    let command = command("pass-rate", &settings(&args.solve, &own)?, Some(args.solve.seed))?;
    finish(out, command, inputs(&args.solve, &input)?)
}

pub fn rejection(args: &RejectionArgs) -> Result<()> {
    let (reward, framing) = (reward(&args.solve)?, framing(&args.solve));
    let own = RejectionSettings {
        per_task: args.per_task as usize,
        pick: args.pick,
        seed: args.solve.seed,
        framing: framing.clone(),
    };
    let mut out = create(&args.out)?;
    let policy = open(&args.solve)?;
    let mut source = source(&args.solve, policy.as_ref(), &framing)?;
    let input =
        solve::rejection(&args.input, &mut out, &mut *source, &*reward, &own, &Bar::new()).map_err(fault)?;
    let command = command("rejection", &settings(&args.solve, &own)?, Some(args.solve.seed))?;
    finish(out, command, inputs(&args.solve, &input)?)
}

//! Opens the policy that a command names.

use crate::args::PolicyArgs;
use crate::input;
use anyhow::Result;
use rlvr::policy::Policy;
use rlvr::rollout::SamplingParams;

pub fn open(args: &PolicyArgs, raw: bool) -> Result<Policy> {
    let device = rlvr::run::device(args.device)?;
    let policy = Policy::open(&args.policy, &device)?.computing_in(args.dtype)?;
    Ok(if raw { policy.raw() } else { policy })
}

/// The settings, if they make sense.
pub fn sampling(params: SamplingParams) -> Result<SamplingParams> {
    params.validate().map_err(|e| input::bad(e.to_string()))?;
    Ok(params)
}

/// Refuses empty stop texts.
pub fn check_stop(stop: &[String]) -> Result<()> {
    match stop.iter().any(String::is_empty) {
        true => Err(input::bad("--stop: the text is empty, which would end every completion at once")),
        false => Ok(()),
    }
}

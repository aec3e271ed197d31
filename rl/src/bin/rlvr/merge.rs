//! `rlvr merge`: an adapter into the weights of its base.

use crate::args::MergeArgs;
use crate::input::bad;
use crate::output;
use anyhow::Result;
use burn::tensor::Device;
use rlvr::policy::Policy;
use std::fs;
use std::io::Write;

pub fn run(args: &MergeArgs) -> Result<()> {
    let policy = Policy::open(&args.policy, &Device::flex())?;
    if policy.decoder.lora().is_none() && !args.untied {
        return Err(bad(format!("{}: the policy has no adapter, there is nothing to merge", args.policy)));
    }
    let holds_something = fs::read_dir(&args.out).is_ok_and(|mut entries| entries.next().is_some());
    if holds_something && !args.force {
        let out = args.out.display();
        return Err(bad(format!("{out}: the directory is not empty; --force writes into it")));
    }
    match args.untied {
        true => policy.saved().save_untied(&args.out, args.dtype.into())?,
        false => policy.saved().merged().save_as(&args.out, args.dtype.into())?,
    }
    let mut out = output::stdout();
    writeln!(out, "{}", args.out.display())?;
    Ok(out.flush()?)
}

//! What ranks must have in common before they carry out a run together.
use crate::checkpoint::Checkpoint;
use crate::config::RunConfig;
use crate::error::Error;
use crate::parallel::{RanksError, World};
use crate::policy::Policy;
use crate::random::hash_bytes;
use crate::run::inputs::Inputs;
use crate::run::opening::RunOptions;
use rayon::prelude::*;
use rlvr_policies::decoder::Compute;
use std::path::Path;

/// Checks that ranks can carry out a config, and that all have the same.
///
/// # Errors
/// A setting that does not go with so many ranks; another config, or another way to begin.
pub(crate) fn agree_on_config(config: &RunConfig, options: &RunOptions) -> Result<(), Error> {
    let world = &options.world;
    let size = world.size();
    if size == 1 {
        return Ok(());
    }
    let text = format!("resume = {}\nforce = {}\n{}", options.resume, options.force, config.to_toml()?);
    let all = world.gather(vec![text.into_bytes()])?;
    let lines = |rank: usize| String::from_utf8_lossy(&all[rank]).into_owned();
    if let Some(other) = (1..size).find(|rank| all[*rank] != all[0]) {
        let (first, other_lines) = (lines(0), lines(other));
        let same = first.lines().zip(other_lines.lines()).take_while(|(a, b)| a == b).count();
        let line = |text: &str| text.lines().nth(same).unwrap_or("nothing more").to_owned();
        let what = format!(
            "ranks 0 and {other} have different configs ({} and {}): start all with the same file and the same options",
            line(&first),
            line(&other_lines)
        );
        return Err(RanksError::Apart { what }.into());
    }
    if config.most_lag() > 0 {
        let message = "is for one rank: rollouts of several are exchanged at the step that they are for";
        return Err(Error::Setting { field: "max_lag".into(), message: message.into() });
    }
    let shards = config.parallel.shards;
    if !shards.is_multiple_of(size) {
        let message = format!(
            "is {shards}, which {size} ranks cannot share evenly: set a power of two that is a multiple of the number of ranks, and \
             start a power of two of them"
        );
        return Err(Error::Setting { field: "parallel.shards".into(), message });
    }
    let refused = |what: &str| {
        let what = format!("{what} with one rank only so far, and {size} have been started");
        Err(Error::Unusable { what })
    };
    if options.dry_run {
        return refused("--dry-run goes");
    }
    if config.engine.is_some() {
        return refused("[engine] goes");
    }
    Ok(())
}

/// Checks that all ranks begin with the same weights and the same tasks.
///
/// # Errors
/// Files that differ from rank to rank; a device that ranks do not compute on.
pub(crate) fn agree_on_files(world: &World, policy: &Policy, inputs: &Inputs) -> Result<(), Error> {
    if world.size() == 1 {
        return Ok(());
    }
    if policy.decoder.compute() != Compute::Host {
        let what = "several ranks compute on the CPU only so far: set device = \"cpu\", or start one rank";
        return Err(Error::Unusable { what: what.into() });
    }
    let decoder = &policy.decoder;
    let of_parameter = |i: usize| hash_bytes(bytemuck::cast_slice(&decoder.param_values(i)));
    let weights: Vec<u64> = (0..decoder.layout().specs.len()).into_par_iter().map(of_parameter).collect();
    let tasks: Vec<u64> = (inputs.sources.values())
        .flat_map(|source| (0..source.len()).map(|i| hash_bytes(format!("{:?}", source.task(i)).as_bytes())))
        .collect();
    let sums = [weights, tasks].map(|of| hash_bytes(bytemuck::cast_slice(&of)).to_le_bytes().to_vec());
    let all = world.gather(sums.into())?;
    for (what, name) in ["weights of the policy", "tasks"].into_iter().enumerate() {
        if let Some(other) = (1..world.size()).find(|rank| all[2 * rank + what] != all[what]) {
            let what = format!(
                "ranks 0 and {other} have different {name}: all ranks must read the same files, on a disk that they share or in \
                 copies"
            );
            return Err(RanksError::Apart { what }.into());
        }
    }
    Ok(())
}

/// What rank 0 tells the others of the checkpoint that it goes on from: its name, or nothing.
pub(crate) fn name_of(checkpoint: Option<&Checkpoint>) -> Vec<u8> {
    let name = checkpoint.and_then(|checkpoint| checkpoint.path.to_str());
    name.unwrap_or_default().as_bytes().to_vec()
}

/// The checkpoint that rank 0 has named.
///
/// # Errors
/// A rank that is gone; one that cannot be read here.
pub(crate) fn named(world: &World, out: &Path) -> Result<Option<Checkpoint>, Error> {
    let path = world.from_first(Vec::new)?;
    if path.is_empty() {
        return Ok(None);
    }
    let path = String::from_utf8_lossy(&path).into_owned();
    let there = Path::new(&path);
    if !there.is_dir() {
        let what = format!(
            "{}: rank 0 goes on from {path}, which this rank does not see: the directory of a run lies on a disk that all ranks \
             share",
            out.display()
        );
        return Err(Error::Unusable { what });
    }
    Ok(Some(Checkpoint::open(there.to_path_buf())?))
}

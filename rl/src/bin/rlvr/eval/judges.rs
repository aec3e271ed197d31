//! The judge of `--judge`.

use crate::args::eval::JudgeArgs;
use anyhow::Result;
use rlvr::eval::judge::{Judge, JudgeConfig};
use rlvr::files::source;
use rlvr::results::JUDGED;
use std::path::Path;

/// What the judge's file says, if there is one.
pub fn config(args: &JudgeArgs) -> Result<Option<JudgeConfig>> {
    let Some(path) = &args.file else { return Ok(None) };
    let (_, text) = source::text(path)?;
    Ok(Some(JudgeConfig::parse(&text, path)?))
}

/// The judge, if there is one; `dir` is where its opinions are kept by default.
pub fn open(args: &JudgeArgs, dir: &Path) -> Result<Option<Judge>> {
    let Some(config) = config(args)? else { return Ok(None) };
    let cache = args.judge_cache.clone().unwrap_or_else(|| dir.join(JUDGED));
    Ok(Some(Judge::open(&config, &cache)?))
}

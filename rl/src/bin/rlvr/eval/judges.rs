//! The judge of `--judge`.

use crate::args::eval::JudgeArgs;
use anyhow::Result;
use rlvr::eval::Item;
use rlvr::eval::judge::{Answer, Judge, JudgeConfig};
use rlvr::files::source;
use rlvr::results::{JUDGED, SampleRow};
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

/// Gives samples the judge's opinions; `judged.task` of a sample is an index of `items`.
pub fn judge(judge: Option<&mut Judge>, items: &[Item], samples: &mut [SampleRow]) -> Result<()> {
    let Some(judge) = judge else { return Ok(()) };
    let answers: Vec<Answer<'_>> =
        (samples.iter()).map(|s| Answer { task: &items[s.judged.task].task, text: &s.judged.text }).collect();
    let opinions = judge.judge(&answers)?;
    for (sample, opinion) in samples.iter_mut().zip(opinions) {
        sample.opinion = Some(opinion);
    }
    Ok(())
}

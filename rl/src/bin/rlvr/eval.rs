//! `rlvr eval`: accuracy on benchmarks.

pub mod args;
pub mod bounds;
pub mod download;
pub mod judges;
pub mod ls;
pub mod run;
pub mod score;
pub mod validate;

use crate::output;
use anyhow::Result;
use rlvr::eval::{EvalResult, EvalSettings, Judged, summarize};
use rlvr::rollout::SamplingParams;

/// Completions decoded together.
const BATCH: usize = 64;

/// The statistics of a benchmark: Wilson's interval for one completion an item, over items and pass@k for several.
pub fn statistics(name: &str, items: usize, judged: &[Judged]) -> EvalResult {
    let mut counts = vec![0usize; items];
    judged.iter().for_each(|j| counts[j.task] += 1);
    let least = counts.iter().copied().min().unwrap_or(0);
    let single = judged.len() == items && least == 1;
    let powers = std::iter::successors(Some(1usize), |k| k.checked_mul(2)).take_while(|k| *k < least);
    let pass_k = if single { Vec::new() } else { powers.chain([least]).filter(|k| *k > 0).collect() };
    let settings = EvalSettings {
        greedy: single,
        samples: least,
        pass_k,
        sampling: SamplingParams::default(),
        stop: Vec::new(),
        batch: BATCH,
        seed: 0,
    };
    summarize(name, items, judged, if single { judged.len() } else { 0 }, &settings)
}

/// An interval for people.
pub fn interval((low, high): (f64, f64)) -> String {
    format!("[{low:.3}, {high:.3}]")
}

/// Prints a table on stdout.
pub fn print_table(header: &[&str], rows: &[Vec<String>]) -> Result<()> {
    use std::io::Write;
    let mut out = output::stdout();
    out.write_all(output::table(header, rows).as_bytes())?;
    Ok(out.flush()?)
}

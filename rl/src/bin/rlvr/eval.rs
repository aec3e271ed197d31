//! `rlvr eval`: accuracy on benchmarks.

pub mod bounds;
pub mod judges;
pub mod ls;
pub mod run;
pub mod score;
pub mod validate;

use crate::input::bad;
use crate::output::{print_table, say};
use anyhow::Result;
use rlvr::results::{MARKDOWN, RESULTS, Results, SAMPLES};
use std::path::Path;

/// Refuses a file where a directory for results is meant.
pub fn check_out(out: &Path) -> Result<()> {
    let shown = out.display();
    match std::fs::symlink_metadata(out).is_ok() && !out.is_dir() || out == Path::new("-") {
        true => Err(bad(format!(
            "--out {shown} is no directory: name a directory for the results, such as evals/new"
        ))),
        false => Ok(()),
    }
}

/// Prints the table of the results that an evaluation has written into its directory, with notes on stderr.
fn print(results: &Results, dir: &Path) -> Result<()> {
    let (header, rows) = results.table();
    print_table(&header, &rows)?;
    results.notes().for_each(|line| say!("{line}"));
    say!("wrote {RESULTS}, {MARKDOWN} and {SAMPLES} in {}", dir.display());
    Ok(())
}

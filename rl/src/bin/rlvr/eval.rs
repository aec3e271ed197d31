//! `rlvr eval`: accuracy on benchmarks.

pub mod bounds;
pub mod judges;
pub mod ls;
pub mod run;
pub mod score;
pub mod validate;

use crate::input::bad;
use crate::output::{print_table, report, say};
use anyhow::Result;
use rlvr::results::{ImageComparison, MARKDOWN, RESULTS, Results, SAMPLES};
use std::io::Write;
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

/// A table behind an empty line.
fn print_table_below(header: &[&str], rows: &[Vec<String>]) -> Result<()> {
    report().write_all(b"\n")?;
    print_table(header, rows)
}

/// Groups of a task that are printed, at most; results.md has all.
const GROUPS: usize = 6;

/// Prints the table of the results that an evaluation has written into its directory, with notes on stderr.
fn print(results: &Results, dir: &Path) -> Result<()> {
    let (header, rows) = results.table();
    print_table(&header, &rows)?;
    let (header, rows) = results.group_table(GROUPS);
    if !rows.is_empty() {
        print_table_below(&header, &rows)?;
    }
    if !results.image_arms().is_empty() {
        let rows: Vec<Vec<String>> = results.image_arms().iter().map(ImageComparison::cells).collect();
        print_table_below(&ImageComparison::HEADER, &rows)?;
    }
    results.notes().for_each(|line| say!("{line}"));
    say!("wrote {RESULTS}, {MARKDOWN} and {SAMPLES} in {}", dir.display());
    Ok(())
}

//! `rlvr eval`: accuracy on benchmarks.

pub mod args;
pub mod bounds;
pub mod download;
pub mod judges;
pub mod ls;
mod rank;
pub mod run;
pub mod score;
pub mod validate;

use crate::input::bad;
use crate::output;
use anyhow::Result;
use rlvr::number::fixed;
use std::path::Path;

/// Completions decoded together.
const BATCH: usize = 64;

/// Refuses a file where a directory for results is meant.
pub fn check_out(out: &Path) -> Result<()> {
    let shown = out.display();
    match out.exists() && !out.is_dir() || out == Path::new("-") {
        true => Err(bad(format!(
            "--out {shown} is no directory: name a directory for the results, such as evals/new"
        ))),
        false => Ok(()),
    }
}

/// An interval for people.
pub fn interval((low, high): (f64, f64)) -> String {
    format!("[{}, {}]", fixed(low, 3), fixed(high, 3))
}

/// A mean with its standard error, where there is one.
pub fn with_error(mean: f64, error: f64) -> String {
    if error.is_nan() { format!("{mean:.3}") } else { format!("{mean:.3} ± {error:.3}") }
}

/// Prints a table on stdout.
pub fn print_table(header: &[&str], rows: &[Vec<String>]) -> Result<()> {
    use std::io::Write;
    let mut out = output::report();
    out.write_all(output::table(header, rows).as_bytes())?;
    Ok(out.flush()?)
}

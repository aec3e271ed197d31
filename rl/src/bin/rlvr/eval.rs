//! `rlvr eval`: accuracy on benchmarks.

pub mod bounds;
pub mod judges;
pub mod ls;
mod rank;
pub mod run;
pub mod score;
pub mod validate;

use crate::input::bad;
use anyhow::Result;
use std::path::Path;

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

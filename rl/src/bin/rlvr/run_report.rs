//! `rlvr report`: one HTML page of a run.

use crate::args::RunReportArgs;
use crate::output::{self, say};
use anyhow::Result;
use rlvr::run_dir::REPORT_FILE;
use rlvr::run_report::{ReportOptions, html};
use std::path::Path;

pub fn run(args: &RunReportArgs) -> Result<()> {
    let page = html(&args.run, &ReportOptions { samples: args.samples, seed: args.seed })?;
    let path = args.out.clone().unwrap_or_else(|| args.run.join(REPORT_FILE));
    if path == Path::new("-") {
        return output::lines(None, page.as_bytes());
    }
    output::lines(Some(&path), page.as_bytes())?;
    say!("report   {}", path.display());
    Ok(())
}

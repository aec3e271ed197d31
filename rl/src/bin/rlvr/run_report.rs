//! `rlvr report`: one HTML page of a run.

use crate::args::RunReportArgs;
use crate::output::{self, say};
use anyhow::Result;
use rlvr::files::destination::Destination;
use rlvr::report::{ReportOptions, html, warnings};
use rlvr::run::dir::REPORT_FILE;

pub fn run(args: &RunReportArgs) -> Result<()> {
    let page = html(&args.run, &ReportOptions { samples: args.samples, seed: args.seed })?;
    let own = args.run.join(REPORT_FILE);
    let path = args.out.as_deref().unwrap_or(&own);
    // The page in the run directory is this command's own, and made anew.
    let to = output::to(Some(path), args.force || args.out.is_none())?;
    output::write(&to, page.as_bytes())?;
    for warning in warnings(&args.run)? {
        say!("warning  {warning}");
    }
    if to != Destination::Stdout {
        say!("report   {}", path.display());
    }
    Ok(())
}

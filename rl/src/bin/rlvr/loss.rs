//! `rlvr loss`: conformance of the training loss.

use crate::args::LossArgs;
use crate::{input, output};
use anyhow::Result;
use rlvr::conformance::{ConformanceError, conformance};
use rlvr::files::source;
use std::io::Write;

pub fn run(args: &LossArgs) -> Result<()> {
    let (name, text) = source::text(&args.vectors)?;
    let results = conformance(&text).map_err(|error| match &error {
        ConformanceError::Json(json) => input::bad(format!("{name}:{}: {error}", json.line())),
        _ => input::bad(format!("{name}: {error}")),
    })?;
    let mut out = output::stdout();
    serde_json::to_writer(&mut out, &results)?;
    writeln!(out)?;
    Ok(out.flush()?)
}

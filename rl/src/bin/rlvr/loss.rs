//! `rlvr loss`: conformance of the training loss.

use crate::args::LossArgs;
use crate::output::say;
use crate::{input, output};
use anyhow::Result;
use rlvr::conformance::{ConformanceError, conformance_noted};
use rlvr::files::source;
use std::io::Write;

pub fn run(args: &LossArgs) -> Result<()> {
    let (name, text) = source::text(&args.vectors)?;
    let mut notes = Vec::new();
    let results = conformance_noted(&text, &mut notes).map_err(|error| match &error {
        ConformanceError::Json(json) => input::bad(format!("{name}:{}: {error}", json.line())),
        _ => input::bad(format!("{name}: {error}")),
    })?;
    notes.iter().for_each(|note| say!("warning: {name}: {note}"));
    let mut out = output::stdout();
    serde_json::to_writer(&mut out, &results)?;
    writeln!(out)?;
    Ok(out.flush()?)
}

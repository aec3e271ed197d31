//! `rlvr eval validate`: checks benchmarks and their data.

use crate::args::eval::EvalValidateArgs;
use crate::input::bad;
use crate::output;
use crate::tasks;
use anyhow::{Result, anyhow};
use rlvr::eval::validate::{Validation, validate, validate_benchmark};
use std::io::Write;
use std::path::Path;

pub fn run(args: &EvalValidateArgs) -> Result<()> {
    let settings = args.tasks.settings(None);
    let mut found = Vec::new();
    tasks::check_reward(&args.tasks, &settings)?;
    for name in &args.tasks.tasks {
        let Some(definition) = tasks::definition(name, &settings)? else {
            let (benchmark, rows) = tasks::inspect_file(Path::new(name), &args.tasks)?;
            if benchmark.items.is_empty() && rows.is_empty() {
                return Err(bad(format!("{name}: no items in it")));
            }
            found.push(validate_benchmark(benchmark, rows.into_iter(), None));
            continue;
        };
        if args.tasks.download {
            crate::download::ensure(&definition.file, &definition.settings)?;
        }
        found.push(validate(&definition.file, &definition.text, &definition.settings)?);
    }
    let mut out = output::report();
    for validation in &found {
        match args.json {
            true => writeln!(out, "{}", serde_json::to_string(validation)?)?,
            false => out.write_all(text(validation).as_bytes())?,
        }
    }
    out.flush()?;
    let failed: Vec<&str> = found.iter().filter(|v| !v.passed()).map(|v| v.task.as_str()).collect();
    if failed.is_empty() { Ok(()) } else { Err(anyhow!("checks failed: {}", failed.join(", "))) }
}

fn text(validation: &Validation) -> String {
    let mut lines =
        vec![format!("{}: {} items, hash {}", validation.task, validation.items, validation.hash)];
    for check in &validation.checks {
        match check.failed {
            0 => lines.push(format!("  ok    {}", check.name)),
            n => lines.push(format!("  FAIL  {} ({n})", check.name)),
        }
        lines.extend(check.problems.iter().map(|problem| format!("        {problem}")));
        if check.failed > check.problems.len() {
            lines.push(format!("        … and {} more", check.failed - check.problems.len()));
        }
    }
    let baselines: Vec<String> = (validation.baselines.iter())
        .map(|b| format!("{} {:.1} % ({})", b.answer, 100.0 * b.accuracy, b.correct))
        .collect();
    if !baselines.is_empty() {
        lines.push(format!("  always: {}", baselines.join(", ")));
    }
    lines.extend(validation.notes.iter().map(|note| format!("  note: {note}")));
    lines.push(String::new());
    lines.join("\n")
}
